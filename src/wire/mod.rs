//! The wire contract: generated protobuf messages.
//!
//! Messages are also the form in which records are kept: a service checks a message once, at the
//! door, and keeps it whole, so that nothing a sender said is lost between three models.

use crate::types::PurposeOfUse;

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

/// Metadata: the person's assertion, a signed JWS.
pub const ASSERTION: &str = "renkei-assertion";

/// Metadata: the request id, the same at every node a call goes through.
pub const REQUEST_ID: &str = "renkei-request-id";

/// Metadata of every answer: where its audit record is (`docs/audit-log.md`): the log's name, the
/// leaf's index, and the leaf's hash in base64, with spaces between.
pub const RECEIPT: &str = "renkei-audit-receipt";

/// Metadata of a call of another node, and of the answer to it: the sender's time, in milliseconds of Unix
/// time. A difference is an alarm, and decides nothing.
pub const TIME: &str = "renkei-time";

/// A time as it is told in metadata.
pub fn told_time(time: jiff::Timestamp) -> http::HeaderValue {
    http::HeaderValue::from(time.as_millisecond())
}

/// The time that metadata tell, if it is one.
pub fn time_told(told: &http::HeaderValue) -> Option<jiff::Timestamp> {
    let milliseconds = told.to_str().ok()?.parse().ok()?;
    jiff::Timestamp::from_millisecond(milliseconds).ok()
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

/// A time as a message.
pub fn timestamp(time: jiff::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}

/// A time from a message; `None` if it is out of range.
pub fn from_timestamp(time: &prost_types::Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.seconds, time.nanos).ok()
}

/// A duration as a message.
pub fn duration(time: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or(0),
    }
}

/// A purpose from its message.
pub fn purpose_of_use(purpose: pb::common::PurposeOfUse) -> Option<PurposeOfUse> {
    match purpose {
        pb::common::PurposeOfUse::Unspecified => None,
        pb::common::PurposeOfUse::Treatment => Some(PurposeOfUse::Treatment),
        pb::common::PurposeOfUse::Emergency => Some(PurposeOfUse::Emergency),
        pb::common::PurposeOfUse::CareCoordination => Some(PurposeOfUse::CareCoordination),
        pb::common::PurposeOfUse::PatientRequest => Some(PurposeOfUse::PatientRequest),
        pb::common::PurposeOfUse::Payment => Some(PurposeOfUse::Payment),
        pb::common::PurposeOfUse::Operations => Some(PurposeOfUse::Operations),
        pb::common::PurposeOfUse::Research => Some(PurposeOfUse::Research),
        pb::common::PurposeOfUse::PublicHealth => Some(PurposeOfUse::PublicHealth),
        pb::common::PurposeOfUse::Disaster => Some(PurposeOfUse::Disaster),
    }
}
