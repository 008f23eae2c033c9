//! Record, withdraw, list; and what is in force for a decision.

use std::sync::Arc;

use crate::access::{Action, Call, Directive, Permit};
use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::store::{
    Expect, Follower, IndexKey, KeyBuilder, Row, Store, TableId, Tag, Versioned, Write,
};
use crate::types::PatientIdentifier;
use crate::wire::pb::common as cpb;
use crate::wire::pb::consent as pb;

use super::changes::{Changes, Waiter};
use super::terms::{acceptable, directive};

/// Consents of one patient, former ones among them, up to which permissions are recorded.
const MAX_PERMITS: usize = 1_000;
/// Consents of one patient read at most; one more is an error, never a silent gap. Between the two
/// there is room for refusals only, so that no number of former permissions bars one.
const MAX_CONSENTS: usize = 2 * MAX_PERMITS;

/// Whether a patient who has so many consents may have one more.
fn has_room(count: usize, effect: pb::ConsentEffect) -> bool {
    match effect {
        pb::ConsentEffect::Deny => count < MAX_CONSENTS,
        pb::ConsentEffect::Permit | pb::ConsentEffect::Unspecified => count < MAX_PERMITS,
    }
}

/// One recorded consent.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ConsentRow {
    /// The consent's id.
    #[prost(string, tag = "1")]
    id: String,
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "2")]
    patient: Vec<u8>,
    /// The consent as recorded.
    #[prost(message, optional, tag = "3")]
    consent: Option<pb::Consent>,
    /// Who withdrew it, and on what evidence.
    #[prost(message, optional, tag = "4")]
    withdrawal: Option<Withdrawal>,
}

/// How a consent was withdrawn.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Withdrawal {
    /// Who recorded the withdrawal.
    #[prost(message, optional, tag = "1")]
    by: Option<cpb::PersonRef>,
    /// Why.
    #[prost(string, tag = "2")]
    reason: String,
    /// What it rests on.
    #[prost(message, optional, tag = "3")]
    evidence: Option<pb::Evidence>,
}

impl ConsentRow {
    const BY_PATIENT: u8 = 1;
}

impl Row for ConsentRow {
    const TABLE: TableId = TableId(64);
    const NAME: &'static str = "consent";

    fn key(&self) -> Vec<u8> {
        self.id.clone().into_bytes()
    }

    fn index(&self) -> Vec<IndexKey> {
        let key = KeyBuilder::new()
            .fixed(&self.patient)
            .text(&self.id)
            .build();
        vec![IndexKey::new(Self::BY_PATIENT, key)]
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// The consents this node knows.
#[derive(Debug)]
pub struct Consents {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    changes: Arc<Changes>,
}

impl Consents {
    /// Consents kept in `store`.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        let changes = Arc::new(Changes::default());
        store.follow(Arc::clone(&changes) as Arc<dyn Follower>);
        Self {
            store,
            clock,
            changes,
        }
    }

    /// Waits for changes of the wishes of these patients, from now on.
    pub(super) fn changes(&self, patients: &[PatientIdentifier]) -> Waiter {
        let tags = patients
            .iter()
            .map(|one| Tag::from_bytes(self.store.keys().patient_tag(one)));
        self.changes.wait(tags.collect())
    }

    /// Records a consent. `attach` gives rows to commit with it.
    ///
    /// # Errors
    /// A malformed consent, or one that says more than this version can honour; the store.
    pub async fn record(
        &self,
        permit: &Permit,
        call: &Call,
        patient: &PatientIdentifier,
        request: &pb::RecordConsentRequest,
        attach: impl Fn(&pb::Consent) -> Vec<Write>,
    ) -> Result<pb::Consent> {
        permit.require(&[Action::RecordConsent])?;
        let now = self.clock.now();
        let mut consent = request
            .consent
            .clone()
            .ok_or_else(|| Error::missing("consent"))?;
        acceptable(&consent)?;
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, request, now)?;
        if let Some(first) = call.repeated(&self.store, idempotency.as_ref(), now)? {
            return Ok(first);
        }
        if !has_room(self.list(patient, true)?.len(), consent.effect()) {
            let message = "the patient has as many consents as can be evaluated; withdraw some";
            return Err(Error::new(Reason::WrongState, message));
        }
        // Who recorded it, when, and its state are this node's to say.
        consent.consent_id = uuid::Uuid::now_v7().to_string();
        consent.status = pb::ConsentStatus::Active.into();
        consent.withdrawn = None;
        consent.recorded = Some(crate::wire::timestamp(now));
        consent.recorded_by = recorded_by(call);
        let expect = Some(Expect::Absent);
        let key = &request.idempotency_key;
        let replaced = self.superseded(patient, &consent.supersedes)?;
        let attach = |consent: &pb::Consent| {
            let mut writes = attach(consent);
            if let Some(Versioned { version, row }) = replaced {
                writes.extend(row.consent.iter().flat_map(&attach));
                writes.push(Write::put(&row).expecting(Expect::Version(version)));
            }
            writes
        };
        self.put(call, patient, consent, key, request, expect, None, attach)
            .await
    }

    /// The consent that a new one replaces, as it is afterwards.
    fn superseded(
        &self,
        patient: &PatientIdentifier,
        id: &str,
    ) -> Result<Option<Versioned<ConsentRow>>> {
        if id.is_empty() {
            return Ok(None);
        }
        let field = "consent.supersedes";
        let known = self.store.get::<ConsentRow>(id.as_bytes())?;
        let tag = self.store.keys().patient_tag(patient).to_vec();
        let mut known = known.filter(|known| known.row.patient == tag);
        let active = known.as_mut().and_then(|known| known.row.consent.as_mut());
        let Some(consent) = active.filter(|consent| is_active(consent)) else {
            let message = "is no consent of the patient's that is in force";
            return Err(Error::field(Reason::NotFound, field, message));
        };
        consent.status = pb::ConsentStatus::Superseded.into();
        Ok(known)
    }

    /// Says whether a consent could be recorded; changes nothing.
    ///
    /// # Errors
    /// As [`Consents::record`].
    pub fn check(
        &self,
        permit: &Permit,
        request: &pb::RecordConsentRequest,
    ) -> Result<pb::Consent> {
        permit.require(&[Action::RecordConsent])?;
        let consent = request.consent.as_ref();
        let consent = consent.ok_or_else(|| Error::missing("consent"))?;
        acceptable(consent)?;
        Ok(consent.clone())
    }

    /// Takes over a consent that another node recorded: with its id, its state, its dates. The same
    /// one may come again, in any of its states; a withdrawal is never undone by an older state.
    ///
    /// # Errors
    /// A malformed consent; [`Reason::ForeignDomain`] if the id is another patient's; the store.
    pub async fn take(
        &self,
        permit: &Permit,
        call: &Call,
        patient: &PatientIdentifier,
        mut consent: pb::Consent,
    ) -> Result<pb::Consent> {
        permit.require(&[Action::Exchange])?;
        if consent.consent_id.is_empty() || consent.consent_id.len() > 64 {
            let message = "must be 1 to 64 bytes";
            return Err(Error::field(
                Reason::InvalidField,
                "consent.consent_id",
                message,
            ));
        }
        directive(&consent)?;
        let known = self
            .store
            .get::<ConsentRow>(consent.consent_id.as_bytes())?;
        let expect = match &known {
            Some(known) if known.row.patient != self.store.keys().patient_tag(patient) => {
                let message = "is the id of another patient's consent";
                return Err(Error::field(
                    Reason::ForeignDomain,
                    "consent.consent_id",
                    message,
                ));
            }
            Some(known) => Expect::Version(known.version),
            None => Expect::Absent,
        };
        if let Some(before) = known.and_then(|known| known.row.consent)
            && !is_active(&before)
        {
            consent.status = before.status;
            consent.withdrawn = before.withdrawn;
        }
        let request = pb::RecordConsentRequest {
            consent: Some(consent.clone()),
            ..Default::default()
        };
        self.put(
            call,
            patient,
            consent,
            "",
            &request,
            Some(expect),
            None,
            |_| Vec::new(),
        )
        .await
    }

    /// Withdraws a consent: in force at once.
    ///
    /// # Errors
    /// [`Reason::NotFound`]; [`Reason::WrongState`] if it is withdrawn already; the store.
    pub async fn withdraw(
        &self,
        permit: &Permit,
        call: &Call,
        patient: &PatientIdentifier,
        request: &pb::WithdrawConsentRequest,
        attach: impl FnOnce(&pb::Consent) -> Vec<Write>,
    ) -> Result<pb::Consent> {
        permit.require(&[Action::RecordConsent])?;
        let known = self.row(&request.consent_id)?;
        let mut consent = known.row.consent.clone().unwrap_or_default();
        let now = self.clock.now();
        let key = &request.idempotency_key;
        let idempotency = call.idempotency(&self.store, key, request, now)?;
        if let Some(first) = call.repeated(&self.store, idempotency.as_ref(), now)? {
            return Ok(first);
        }
        if !is_active(&consent) {
            let message = "the consent is withdrawn already";
            return Err(Error::field(Reason::WrongState, "consent_id", message));
        }
        consent.status = if request.entered_in_error {
            pb::ConsentStatus::EnteredInError.into()
        } else {
            pb::ConsentStatus::Withdrawn.into()
        };
        consent.withdrawn.get_or_insert(crate::wire::timestamp(now));
        let expect = Some(Expect::Version(known.version));
        self.put(
            call,
            patient,
            consent,
            &request.idempotency_key,
            request,
            expect,
            Some(Withdrawal {
                by: recorded_by(call),
                reason: request.reason.clone(),
                evidence: request.evidence.clone(),
            }),
            attach,
        )
        .await
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one private helper of two writers"
    )]
    async fn put(
        &self,
        call: &Call,
        patient: &PatientIdentifier,
        consent: pb::Consent,
        key: &str,
        request: &impl prost::Message,
        expect: Option<Expect>,
        withdrawal: Option<Withdrawal>,
        attach: impl FnOnce(&pb::Consent) -> Vec<Write>,
    ) -> Result<pb::Consent> {
        let now = self.clock.now();
        let idempotency = call.idempotency(&self.store, key, request, now)?;
        let tag = self.store.keys().patient_tag(patient).to_vec();
        call.note(|record| {
            record.patient = Some(tag.clone());
            record.items = 1;
        });
        let row = ConsentRow {
            id: consent.consent_id.clone(),
            patient: tag,
            consent: Some(consent.clone()),
            withdrawal,
        };
        let mut write = Write::put(&row);
        if let Some(expect) = expect {
            write = write.expecting(expect);
        }
        let mut writes = attach(&consent);
        writes.push(write);
        call.commit(&self.store, now, writes, idempotency, consent)
            .await
    }

    fn row(&self, id: &str) -> Result<Versioned<ConsentRow>> {
        self.store
            .get::<ConsentRow>(id.as_bytes())?
            .ok_or_else(|| Error::field(Reason::NotFound, "consent_id", "no such consent"))
    }

    /// One consent.
    ///
    /// # Errors
    /// [`Reason::NotFound`]; the store.
    pub fn get(&self, id: &str) -> Result<pb::Consent> {
        let consent = self.row(id)?.row.consent.unwrap_or_default();
        Ok(self.as_of_now(consent))
    }

    /// The consents of a patient, newest first, as they are told; former ones too if `history`.
    ///
    /// # Errors
    /// The store; more consents than can be read at once.
    pub fn told(&self, patient: &PatientIdentifier, history: bool) -> Result<Vec<pb::Consent>> {
        let all = self.list(patient, history)?.into_iter();
        let told = all.map(|consent| self.as_of_now(consent)).rev();
        Ok(told
            .filter(|consent| history || is_active(consent))
            .collect())
    }

    /// A consent whose time is over, or that a guardian gave for who is of age now, is told as
    /// expired.
    fn as_of_now(&self, mut consent: pb::Consent) -> pb::Consent {
        let until = directive(&consent).ok().and_then(|read| read.until);
        if is_active(&consent) && until.is_some_and(|until| until <= self.clock.now()) {
            consent.status = pb::ConsentStatus::Expired.into();
        }
        consent
    }

    /// The consents of a patient, oldest id first; withdrawn ones too if `history`.
    ///
    /// # Errors
    /// The store; more consents than can be read at once.
    fn list(&self, patient: &PatientIdentifier, history: bool) -> Result<Vec<pb::Consent>> {
        let prefix = self.store.keys().patient_tag(patient);
        let rows = self.store.by_index::<ConsentRow>(
            ConsentRow::BY_PATIENT,
            &prefix,
            None,
            MAX_CONSENTS + 1,
        )?;
        if rows.len() > MAX_CONSENTS {
            return Err(Error::internal(
                "a patient has more consents than can be evaluated",
            ));
        }
        let all = rows.into_iter().filter_map(|(_, row)| row.row.consent);
        Ok(all
            .filter(|consent| history || is_active(consent))
            .collect())
    }

    /// The directives in force for any of these identifiers of one person: most restrictive wins,
    /// so they are simply taken together.
    ///
    /// # Errors
    /// The store. A stored consent that is not understood may be a denial, and is one: refused like
    /// any other, so that the answer does not tell that there is something.
    pub fn directives(&self, patients: &[PatientIdentifier]) -> Result<Vec<Directive>> {
        let mut directives = Vec::new();
        for patient in patients {
            for consent in self.list(patient, false)? {
                directives.push(understood(directive(&consent))?);
            }
        }
        Ok(directives)
    }
}

/// Operators learn from the log that there is something to mend; callers do not.
fn understood(read: Result<Directive>) -> Result<Directive> {
    read.map_err(|error| {
        tracing::error!(
            reason = error.reason().name(),
            "a stored consent is not understood"
        );
        Error::not_permitted().caused_by(error)
    })
}

fn is_active(consent: &pb::Consent) -> bool {
    matches!(
        consent.status(),
        pb::ConsentStatus::Active | pb::ConsentStatus::Unspecified
    )
}

#[expect(clippy::unnecessary_wraps, reason = "the field is optional")]
fn recorded_by(call: &Call) -> Option<cpb::PersonRef> {
    let caller = call.caller();
    Some(cpb::PersonRef {
        subject: caller
            .person
            .as_ref()
            .map(|person| person.subject.clone())
            .unwrap_or_default(),
        role: caller.role().code().to_owned(),
        institution: Some(cpb::InstitutionRef {
            institution_id: caller
                .participant
                .code
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            home_community_id: caller.participant.community.to_string(),
            ..cpb::InstitutionRef::default()
        }),
        ..cpb::PersonRef::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not understood is refused like anything else.
    #[test]
    fn what_is_not_understood_is_refused_as_everything_is() {
        let read = directive(&pb::Consent::default());
        assert!(read.is_err());
        let error = understood(read).unwrap_err();
        assert_eq!(error.to_string(), Error::not_permitted().to_string());
        assert_eq!(error.reason(), Reason::NotPermitted);
    }

    /// Whatever was permitted and withdrawn before, a refusal can be recorded.
    #[test]
    fn a_refusal_has_room_when_permissions_have_none() {
        use pb::ConsentEffect::{Deny, Permit};
        assert!(has_room(MAX_PERMITS - 1, Permit) && has_room(MAX_PERMITS - 1, Deny));
        assert!(!has_room(MAX_PERMITS, Permit) && has_room(MAX_PERMITS, Deny));
        assert!(!has_room(MAX_CONSENTS, Deny));
    }
}
