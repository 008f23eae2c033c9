//! Who calls: established by certificate and assertion, never by a message's fields.

use std::sync::Arc;

use jiff::Timestamp;

use crate::types::{
    CertificatePin, Holder, HomeCommunityId, InstitutionCode, PersonRole, PurposeOfUse, Relation,
};

/// What kind of participant an institution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParticipantKind {
    /// 病院.
    Hospital,
    /// 診療所.
    Clinic,
    /// 薬局.
    Pharmacy,
    /// 介護事業所.
    Care,
    /// 消防(救急隊).
    FireDepartment,
    /// A community's gateway.
    Gateway,
    /// A node's operator.
    Operator,
}

impl ParticipantKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Hospital,
        Self::Clinic,
        Self::Pharmacy,
        Self::Care,
        Self::FireDepartment,
        Self::Gateway,
        Self::Operator,
    ];

    /// Its name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hospital => "hospital",
            Self::Clinic => "clinic",
            Self::Pharmacy => "pharmacy",
            Self::Care => "care",
            Self::FireDepartment => "fire-department",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
        }
    }
}

/// A registered participant: the institution behind a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Its 10-digit code; gateways and operators have none.
    pub code: Option<InstitutionCode>,
    /// What it is.
    pub kind: ParticipantKind,
    /// The community it belongs to.
    pub community: HomeCommunityId,
    /// It receives emergency patients.
    pub emergency: bool,
    /// Roles its people may be asserted in; empty: any.
    pub roles: Vec<PersonRole>,
    /// Purposes it may state; empty: any.
    pub purposes: Vec<PurposeOfUse>,
}

impl Participant {
    /// Who this is as far as quotas go; the certificate is the one that was shown.
    pub fn holder(&self, shown: CertificatePin) -> Holder {
        match (&self.code, self.kind) {
            (_, ParticipantKind::Gateway) => Holder::Gateway(self.community.clone()),
            (Some(code), _) => Holder::Institution(code.clone()),
            (None, _) => Holder::Certificate(shown),
        }
    }
}

/// The person for whom a call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The institution's identifier of the person, such as a staff number.
    pub subject: String,
    /// The role they act in.
    pub role: PersonRole,
    /// How they stand to the patient.
    pub relation: Relation,
}

/// Who calls, and why. Only `api::authn` makes one from a connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The institution judged: of the person if the call is relayed, else of the connection.
    pub participant: Arc<Participant>,
    /// The person, unless a system acts by itself.
    pub person: Option<Person>,
    /// The purpose stated; a system without an assertion acts for operations.
    pub purpose: PurposeOfUse,
    /// The certificate of the connection.
    pub pin: CertificatePin,
    /// Whose certificate that is: its subject, as text.
    pub holder: Arc<str>,
    /// The gateway that passes the call on, if it is not the institution itself.
    pub relay: Option<HomeCommunityId>,
    /// The assertion as received, to be passed on unchanged.
    pub assertion: Option<Arc<str>>,
    /// When the assertion ends; none without one.
    pub until: Option<Timestamp>,
}

impl Caller {
    /// The role judged: the person's, or that of a system acting by itself.
    pub fn role(&self) -> PersonRole {
        match (&self.person, self.participant.kind) {
            (Some(person), _) => person.role,
            (None, ParticipantKind::Operator) => PersonRole::Operator,
            (None, _) => PersonRole::System,
        }
    }

    /// How the person stands to the patient.
    pub fn relation(&self) -> Relation {
        self.person
            .as_ref()
            .map_or(Relation::None, |person| person.relation)
    }

    /// Whether this is a gateway speaking for its own community.
    pub fn is_gateway_itself(&self) -> bool {
        self.participant.kind == ParticipantKind::Gateway && self.relay.is_none()
    }
}
