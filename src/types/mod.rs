//! The vocabulary: identifiers, codes and dates as types, parsed once at the edge; no I/O.
//!
//! A value of one of these types is syntactically valid by construction. Nothing inside the node
//! carries an identifier as a bare string.

mod code;
mod date;
mod endpoint;
mod holder;
mod id;
mod issuer;
mod linkage;
mod metadata;
mod network;
mod pin;
mod purpose;
mod redacted;

#[cfg(test)]
mod tests;

pub use code::{Code, Confidentiality};
pub use date::{Dtm, InvalidDate, PartialDate};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use holder::Holder;
pub use id::{
    AssigningAuthority, DocumentUniqueId, EntryUuid, HomeCommunityId, InstitutionCode, InvalidId,
    LocalPatientId, Oid, PatientIdentifier, RepositoryUniqueId,
};
pub use issuer::{CertificateNumber, InvalidNumber, IssuerName};
pub use linkage::{InvalidLinkageId, LinkageId};
pub use metadata::{InvalidMetadata, LanguageTag, MimeType, Sha1Hash};
pub use network::{
    HostPattern, HttpsUrl, InvalidHostPattern, InvalidHttpsUrl, InvalidListUrl, InvalidNetwork,
    ListUrl, Network, is_public,
};
pub use pin::{CertificatePin, CertificateThumbprint, InvalidPin};
pub use purpose::{PersonRole, PurposeOfUse, Relation, UnknownCode};
pub use redacted::Redacted;
