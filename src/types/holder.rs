//! Whose a certificate is, as far as quotas go.

use super::{CertificatePin, HomeCommunityId, InstitutionCode};

/// Who is given a share of the node: an institution has one, however many certificates it has registered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// An institution, by its 10-digit code.
    Institution(InstitutionCode),
    /// The gateway of a community.
    Gateway(HomeCommunityId),
    /// Whoever else has this certificate: an operator, or somebody who is not registered.
    Certificate(CertificatePin),
}
