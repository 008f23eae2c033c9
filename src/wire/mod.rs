//! The wire contract: generated protobuf, and its conversion to and from [`crate::types`].

/// Everything generated from `proto/`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    missing_docs,
    unreachable_pub,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/pb.rs"));
}

/// The descriptors of everything in `proto/`, with comments; for server reflection and linting.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The generated messages, clients and servers by area: `pb::identity::FeedPatientRequest`.
pub mod pb {
    /// `renkei.common.v1`.
    pub mod common {
        pub use super::super::generated::renkei::common::v1::*;
    }
    /// `renkei.identity.v1`.
    pub mod identity {
        pub use super::super::generated::renkei::identity::v1::*;
    }
    /// `renkei.documents.v1`.
    pub mod documents {
        pub use super::super::generated::renkei::documents::v1::*;
    }
    /// `renkei.federation.v1`.
    pub mod federation {
        pub use super::super::generated::renkei::federation::v1::*;
    }
    /// `renkei.emergency.v1`.
    pub mod emergency {
        pub use super::super::generated::renkei::emergency::v1::*;
    }
    /// `renkei.consent.v1`.
    pub mod consent {
        pub use super::super::generated::renkei::consent::v1::*;
    }
    /// `renkei.audit.v1`.
    pub mod audit {
        pub use super::super::generated::renkei::audit::v1::*;
    }
    /// `renkei.directory.v1`.
    pub mod directory {
        pub use super::super::generated::renkei::directory::v1::*;
    }
    /// `renkei.admin.v1`.
    pub mod admin {
        pub use super::super::generated::renkei::admin::v1::*;
    }
}
