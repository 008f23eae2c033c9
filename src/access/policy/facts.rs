//! The facts of a question, as the schema's `Facts`.

use std::collections::HashMap;
use std::sync::LazyLock;

use cedar_policy::{Context, EntityId, EntityTypeName, EntityUid, RestrictedExpression};

use crate::access::caller::ParticipantKind;
use crate::access::classes::{Classes, DataClass};
use crate::access::decide::GrantState;
use crate::access::directives::ConsentState;
use crate::types::{Confidentiality, PurposeOfUse, Relation};

/// Everything a policy may ask about, and nothing else: what two questions have in common here, they
/// have in common for every policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "facts are what they are")]
pub(in crate::access) struct Asked {
    pub(in crate::access) purpose: PurposeOfUse,
    pub(in crate::access) kind: ParticipantKind,
    pub(in crate::access) relation: Relation,
    pub(in crate::access) consent: ConsentState,
    pub(in crate::access) grant: GrantState,
    pub(in crate::access) person: bool,
    pub(in crate::access) role_registered: bool,
    pub(in crate::access) purpose_registered: bool,
    pub(in crate::access) emergency_institution: bool,
    pub(in crate::access) own_community: bool,
    pub(in crate::access) hub: bool,
    pub(in crate::access) gateway_itself: bool,
    pub(in crate::access) linked_gateway: bool,
    pub(in crate::access) through_hub: bool,
    pub(in crate::access) relaying: bool,
    pub(in crate::access) enrolment_is_consent: bool,
    pub(in crate::access) disaster: bool,
    pub(in crate::access) patient: bool,
    pub(in crate::access) related: bool,
    pub(in crate::access) document: Option<AskedDocument>,
}

/// What a policy may ask about a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "facts are what they are")]
pub(in crate::access) struct AskedDocument {
    pub(in crate::access) level: Confidentiality,
    pub(in crate::access) classes: Classes,
    pub(in crate::access) named: bool,
    pub(in crate::access) undelivered: bool,
    pub(in crate::access) uninformed: bool,
    pub(in crate::access) own: bool,
}

/// An entity of the schema.
pub(super) fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind: EntityTypeName = kind.parse().map_err(|error| format!("{error}"))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

/// Entities of the enumerated types, made once.
static ENUMERATED: LazyLock<HashMap<(&'static str, &'static str), RestrictedExpression>> =
    LazyLock::new(|| {
        let purposes = PurposeOfUse::ALL.iter().map(|one| ("Purpose", one.code()));
        let kinds = ParticipantKind::ALL.iter().map(|one| ("Kind", one.name()));
        let relations = Relation::ALL.iter().map(|one| ("Relation", one.code()));
        let stances = ConsentState::ALL.iter().map(|one| ("Consent", one.name()));
        let grants = GrantState::ALL.iter().map(|one| ("Grant", one.name()));
        let classes = DataClass::ALL.iter().map(|one| ("DataClass", one.name()));
        let all = purposes.chain(kinds).chain(relations);
        all.chain(stances)
            .chain(grants)
            .chain(classes)
            .filter_map(|(kind, id)| {
                let uid = uid(kind, id).ok()?;
                Some(((kind, id), RestrictedExpression::new_entity_uid(uid)))
            })
            .collect()
    });

fn one_of(kind: &'static str, id: &'static str) -> Result<RestrictedExpression, String> {
    let known = ENUMERATED.get(&(kind, id)).cloned();
    known.ok_or_else(|| format!("{kind} has no {id}"))
}

impl Asked {
    /// As the context of a request.
    ///
    /// # Errors
    /// A fault of this program: the schema and the code do not agree.
    pub(super) fn context(&self) -> Result<Context, String> {
        let flag = RestrictedExpression::new_bool;
        let mut pairs = vec![
            (
                "purpose".to_owned(),
                one_of("Purpose", self.purpose.code())?,
            ),
            ("kind".to_owned(), one_of("Kind", self.kind.name())?),
            (
                "relation".to_owned(),
                one_of("Relation", self.relation.code())?,
            ),
            (
                "consent".to_owned(),
                one_of("Consent", self.consent.name())?,
            ),
            ("grant".to_owned(), one_of("Grant", self.grant.name())?),
            ("person".to_owned(), flag(self.person)),
            ("role_registered".to_owned(), flag(self.role_registered)),
            (
                "purpose_registered".to_owned(),
                flag(self.purpose_registered),
            ),
            (
                "emergency_institution".to_owned(),
                flag(self.emergency_institution),
            ),
            ("own_community".to_owned(), flag(self.own_community)),
            ("hub".to_owned(), flag(self.hub)),
            ("gateway_itself".to_owned(), flag(self.gateway_itself)),
            ("linked_gateway".to_owned(), flag(self.linked_gateway)),
            ("through_hub".to_owned(), flag(self.through_hub)),
            ("relaying".to_owned(), flag(self.relaying)),
            (
                "enrolment_is_consent".to_owned(),
                flag(self.enrolment_is_consent),
            ),
            ("disaster".to_owned(), flag(self.disaster)),
            ("patient".to_owned(), flag(self.patient)),
            ("related".to_owned(), flag(self.related)),
        ];
        if let Some(document) = &self.document {
            pairs.push(("document".to_owned(), document.record()?));
        }
        Context::from_pairs(pairs).map_err(|error| error.to_string())
    }
}

impl AskedDocument {
    fn record(&self) -> Result<RestrictedExpression, String> {
        let flag = RestrictedExpression::new_bool;
        let level = match self.level {
            Confidentiality::Normal => 0,
            Confidentiality::Restricted => 1,
            Confidentiality::VeryRestricted => 2,
        };
        let classes = self
            .classes
            .iter()
            .map(|one| one_of("DataClass", one.name()));
        let classes = classes.collect::<Result<Vec<_>, _>>()?;
        let fields = [
            ("level".to_owned(), RestrictedExpression::new_long(level)),
            ("classes".to_owned(), RestrictedExpression::new_set(classes)),
            ("named".to_owned(), flag(self.named)),
            ("undelivered".to_owned(), flag(self.undelivered)),
            ("uninformed".to_owned(), flag(self.uninformed)),
            ("own".to_owned(), flag(self.own)),
        ];
        RestrictedExpression::new_record(fields).map_err(|error| error.to_string())
    }
}
