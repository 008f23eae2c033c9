//! Certificates: who may connect, and who a person is.
//!
//! Owns the certificate profiles (data), the judgement of a certificate, revocation lists, the TLS
//! configurations built on it, the person's assertion that travels with a call, and the development
//! PKI. Sole user of rustls's configuration and of x509-parser. It does not know which institution
//! a certificate is registered for, nor what a role may do: that is `directory` and `access`.

mod advice;
pub mod assertion;
mod certificate;
mod certified;
mod crl;
mod der;
mod describe;
pub mod detached;
pub mod dev;
mod explain;
mod extensions;
mod hc_role;
mod identity;
mod judge;
mod names;
mod path;
mod planted;
pub mod profile;
mod refusal;
mod rules;
mod signature;
#[cfg(test)]
mod tests;
pub mod tls;
mod token_key;
mod trust;

pub use advice::{advice, japanese, rules as rule_names};
pub use certified::{Certified, Remark, Subject};
pub use crl::CrlError;
pub use describe::{Description, describe};
pub use explain::{Explanation, Outcome, Step, explain};
pub use identity::{IdentityError, IdentityHandle, NodeIdentity};
pub use judge::judge;
pub use profile::{HcRole, Profile, ProfileError, Profiles, RoleKind};
pub use refusal::{Place, Refusal, Usage};
pub use trust::{
    CrlStatus, ImportedList, TrustError, TrustHandle, TrustOptions, TrustStore, read_certificates,
};
