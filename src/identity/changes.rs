//! Changes of who is whom: merge, unmerge, link, unlink, split. Each is one frame: the records, the
//! event, what it retires, what is told on, and the audit event (INV-1, INV-5).

use std::collections::BTreeSet;

use prost::Message;

use crate::access::{Action, Call, Permit};
use crate::error::{Error, Reason, Result};
use crate::store::{Idempotency, Write};
use crate::types::{LinkageId, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::identity as pb;

use super::linkage::{Event, EventId, Operation, plan};
use super::placement::Doubt;
use super::search::PatientTag;
use super::service::{Gate, Identity};
use super::tables::{LinkEventRow, PatientRow, sixteen};
use super::view::View;
use super::{new_event, refused, text};

/// Bytes of a reason.
const MAX_REASON: usize = 1_000;

/// Who wants a change, and how it is to be done.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Leave to do it.
    pub permit: &'a Permit,
    /// The call.
    pub call: &'a Call,
    /// Why; kept in the history.
    pub reason: &'a str,
    /// Only tell what would happen.
    pub preview: bool,
    /// Makes a repeat answer what the first answered.
    pub idempotency: Option<&'a Idempotency>,
    /// Rows to commit with the change.
    pub attach: &'a (dyn Fn(&Changed) -> Vec<Write> + Sync),
    /// What is filed under these identifiers.
    pub reach: &'a (dyn Fn(&[PatientIdentifier]) -> Result<Reach> + Sync),
}

impl std::fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ask")
    }
}

/// What is filed under some identifiers at this node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach {
    /// Documents.
    pub documents: u32,
    /// Consents in force.
    pub consents: u32,
    /// Other communities that hold documents, as the locator knows.
    pub holders: u32,
}

/// What a change was about, for those who must be told.
#[derive(Clone, Debug)]
pub enum Changed {
    /// Survivor, subsumed.
    Merged(PatientIdentifier, PatientIdentifier),
    /// The identifier that is one again.
    Unmerged(PatientIdentifier),
    /// One of each person.
    Linked(PatientIdentifier, PatientIdentifier),
    /// The one that stays, the one that left; whether they are marked.
    Unlinked(PatientIdentifier, PatientIdentifier, bool),
    /// The persons made.
    Split(Vec<Vec<PatientIdentifier>>),
}

/// What a change did: its id, and the linkage ids of the records named, as the caller knows them.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// The event's id; empty in a preview.
    pub id: String,
    /// Linkage ids of the records named, in their order.
    pub linkages: Vec<String>,
    /// What it did or would do.
    pub effects: pb::ChangeEffects,
}

/// A change that was judged, with what it writes.
pub(super) struct Judged {
    pub(super) view: View,
    pub(super) event: Event,
    pub(super) row: LinkEventRow,
    pub(super) writes: Vec<Write>,
    pub(super) effects: pb::ChangeEffects,
}

impl Identity {
    /// Merges two identifiers of one domain (ITI-8 A40): the subsumed one answers to the survivor from
    /// now on, and takes no feeds.
    ///
    /// # Errors
    /// [`Reason::UnknownPatient`] if one is not known and active; [`Reason::InvalidField`] if they are
    /// of different domains; [`Reason::WrongState`] if one was merged away already, or a steward holds
    /// them apart; the store.
    pub async fn merge<R: Message + Default>(
        &self,
        ask: Ask<'_>,
        survivor: &PatientIdentifier,
        subsumed: &PatientIdentifier,
        respond: impl FnOnce(Touched) -> R,
    ) -> Result<R> {
        ask.permit.require(&[Action::AssertIdentity])?;
        let tags = self.begin(&ask, &[survivor, subsumed])?;
        let [stays, goes] = two(&tags)?;
        let (gate, now) = (self.gate(true).await, self.clock.now());
        if let Some(first) = ask.call.repeated(&self.store, ask.idempotency, now)? {
            return Ok(first);
        }
        let view = View::load(&self.store, &[], &tags)?;
        for (tag, field) in [(stays, "survivor"), (goes, "subsumed")] {
            let record = view.state.records.get(&tag);
            let gone = record.is_some_and(|record| record.merged.is_some());
            if !gone && !view.is_active(&tag) {
                return Err(unknown(field));
            }
        }
        let operation = Operation::Merge {
            survivor: stays,
            subsumed: goes,
        };
        let kind = pb::PersonEventKind::Merged;
        let mut judged = self.judge(&ask, view, &operation, kind, now)?;
        if judged.event.contradicts {
            let doubt = left_behind(&judged, stays);
            let (write, _) = self.review(&goes, &doubt, now)?;
            judged.writes.extend(write);
        }
        let changed = Changed::Merged(survivor.clone(), subsumed.clone());
        self.finish(&ask, gate, judged, &tags, &changed, respond)
            .await
    }

    /// The merge that a request names, and the identifier it merged away.
    ///
    /// # Errors
    /// [`Reason::NotFound`] if there is none.
    pub fn merge_named(
        &self,
        merge_id: &str,
        subsumed: Option<&PatientIdentifier>,
    ) -> Result<([u8; 16], PatientIdentifier)> {
        let none = || {
            let field = if merge_id.is_empty() {
                "subsumed"
            } else {
                "merge_id"
            };
            Error::field(Reason::NotFound, field, "no such merge is known here")
        };
        let tag = match (merge_id, subsumed) {
            ("", None) => return Err(Error::missing("subsumed")),
            ("", Some(subsumed)) => self.store.keys().patient_tag(subsumed),
            (id, _) => {
                let id = uuid::Uuid::parse_str(id).map_err(|_| none())?;
                let found = self.store.get::<LinkEventRow>(id.as_bytes())?;
                let event = found.ok_or_else(none)?.row.event()?;
                event.merged.first().ok_or_else(none)?.0
            }
        };
        let found = self.store.get::<PatientRow>(&tag)?.ok_or_else(none)?;
        let named = super::identifier(found.row.identifier(), "subsumed")?;
        match merge_id {
            "" if found.row.merged_by.is_empty() => Err(none()),
            "" => Ok((sixteen(&found.row.merged_by)?, named)),
            id => {
                let id = uuid::Uuid::parse_str(id).map_err(|_| none())?;
                Ok((*id.as_bytes(), named))
            }
        }
    }

    /// Takes a merge back: the identifier is a patient of its own again, under the linkage id it had,
    /// and so are the records that came with it, unless somebody moved them since.
    ///
    /// # Errors
    /// [`Reason::WrongState`] if it was taken back already; the store.
    pub async fn unmerge<R: Message + Default>(
        &self,
        ask: Ask<'_>,
        merge: [u8; 16],
        subsumed: &PatientIdentifier,
        respond: impl FnOnce(Touched) -> R,
    ) -> Result<R> {
        ask.permit
            .require(&[Action::AssertIdentity, Action::Steward])?;
        let tags = self.begin(&ask, &[subsumed])?;
        let (gate, now) = (self.gate(true).await, self.clock.now());
        if let Some(first) = ask.call.repeated(&self.store, ask.idempotency, now)? {
            return Ok(first);
        }
        let (former, view) = self.former(merge)?;
        let Some((goes, stays)) = former.merged.first().copied() else {
            return Err(Error::field(
                Reason::NotFound,
                "merge_id",
                "is not of a merge",
            ));
        };
        let record = view.state.records.get(&goes);
        if record
            .and_then(|record| record.merged)
            .is_none_or(|(_, by)| by != merge)
        {
            let message = "the merge was taken back already";
            return Err(Error::new(Reason::WrongState, message));
        }
        let operation = Operation::Reverse(former);
        let kind = pb::PersonEventKind::Unmerged;
        let judged = self.judge(&ask, view, &operation, kind, now)?;
        let changed = Changed::Unmerged(subsumed.clone());
        let named: Vec<PatientTag> = [stays].into_iter().chain(tags).collect();
        self.finish(&ask, gate, judged, &named, &changed, respond)
            .await
    }

    /// Makes the persons of two records one (ITI-30 A24). The first one's linkage id stays.
    ///
    /// # Errors
    /// [`Reason::UnknownPatient`]; [`Reason::WrongState`] if they are one already, or a steward holds
    /// them apart; the store.
    pub async fn link<R: Message + Default>(
        &self,
        ask: Ask<'_>,
        first: &PatientIdentifier,
        second: &PatientIdentifier,
        respond: impl FnOnce(Touched) -> R,
    ) -> Result<R> {
        ask.permit
            .require(&[Action::Steward, Action::AssertIdentity])?;
        let tags = self.begin(&ask, &[first, second])?;
        let [one, other] = two(&tags)?;
        let (gate, now) = (self.gate(true).await, self.clock.now());
        if let Some(first) = ask.call.repeated(&self.store, ask.idempotency, now)? {
            return Ok(first);
        }
        let view = View::load(&self.store, &[], &tags)?;
        let operation = Operation::Link {
            first: one,
            second: other,
        };
        let kind = pb::PersonEventKind::Linked;
        let judged = self.judge(&ask, view, &operation, kind, now)?;
        let changed = Changed::Linked(first.clone(), second.clone());
        self.finish(&ask, gate, judged, &tags, &changed, respond)
            .await
    }

    /// Takes a record out of its person (ITI-30 A37), under a new linkage id. With `mark` the two are
    /// never linked again, neither by the matcher nor by a steward who does not take that back.
    ///
    /// # Errors
    /// [`Reason::UnknownPatient`]; [`Reason::WrongState`] if they are not one person, or one was merged
    /// into the other; the store.
    pub async fn unlink<R: Message + Default>(
        &self,
        ask: Ask<'_>,
        first: &PatientIdentifier,
        second: &PatientIdentifier,
        mark: bool,
        respond: impl FnOnce(Touched) -> R,
    ) -> Result<R> {
        ask.permit
            .require(&[Action::Steward, Action::AssertIdentity])?;
        let tags = self.begin(&ask, &[first, second])?;
        let [one, other] = two(&tags)?;
        let (gate, now) = (self.gate(true).await, self.clock.now());
        if let Some(first) = ask.call.repeated(&self.store, ask.idempotency, now)? {
            return Ok(first);
        }
        let view = View::load(&self.store, &[], &tags)?;
        let operation = Operation::Unlink {
            first: one,
            second: other,
            mark,
        };
        let kind = pb::PersonEventKind::Unlinked;
        let judged = self.judge(&ask, view, &operation, kind, now)?;
        let changed = Changed::Unlinked(first.clone(), second.clone(), mark);
        self.finish(&ask, gate, judged, &tags, &changed, respond)
            .await
    }

    /// The tags of these identifiers; the first is what the audit says the call is about.
    fn begin(&self, ask: &Ask<'_>, patients: &[&PatientIdentifier]) -> Result<Vec<PatientTag>> {
        if ask.reason.len() > MAX_REASON {
            let message = format!("is longer than {MAX_REASON} bytes");
            return Err(Error::field(Reason::InvalidField, "reason", message));
        }
        let keys = self.store.keys();
        let tags: Vec<PatientTag> = patients.iter().map(|one| keys.patient_tag(one)).collect();
        ask.call
            .note(|record| record.patient = tags.first().map(|tag| tag.to_vec()));
        Ok(tags)
    }

    /// An event that is to be taken back, and the persons that this concerns.
    pub(super) fn former(&self, id: EventId) -> Result<(Event, View)> {
        let found = self.store.get::<LinkEventRow>(&id)?;
        let found =
            found.ok_or_else(|| Error::new(Reason::NotFound, "no such event is known here"))?;
        let former = found.row.event()?;
        let linkages: Vec<LinkageId> = former
            .moves
            .iter()
            .flat_map(|step| [step.from, Some(step.to)])
            .flatten()
            .collect();
        let pairs = former.merged.iter().chain(&former.marked);
        let tags = former.moves.iter().map(|step| step.tag);
        let tags: BTreeSet<PatientTag> = tags.chain(pairs.flat_map(|(a, b)| [*a, *b])).collect();
        let tags: Vec<PatientTag> = tags.into_iter().collect();
        let view = View::load(&self.store, &linkages, &tags)?;
        Ok((former, view))
    }

    /// Judges an operation: its event, its rows, its effects.
    pub(super) fn judge(
        &self,
        ask: &Ask<'_>,
        mut view: View,
        operation: &Operation,
        kind: pb::PersonEventKind,
        now: jiff::Timestamp,
    ) -> Result<Judged> {
        let mut fresh = || LinkageId::random(&mut rand::rng());
        let event = plan(&view.state, operation, new_event(), &mut fresh).map_err(refused)?;
        let mut row = LinkEventRow::new(&event, kind, now);
        row.actor = actor(ask.call);
        ask.reason.clone_into(&mut row.reason);
        if let Operation::Reverse(former) = operation {
            row.undoes = former.id.to_vec();
        }
        // Also where nobody moved, the event is in the history of the persons.
        let records = row.tags.iter().filter_map(|tag| {
            let tag = sixteen(tag).ok()?;
            view.state.records.get(&tag)
        });
        let linkages: Vec<_> = records.map(|one| one.linkage.to_bytes().to_vec()).collect();
        row.linkages.extend(linkages);
        let row = row.tidied();
        let concerned = linkages_of(&row)?;
        let (mut writes, effects) = self.effects(ask, &mut view, &event, &concerned)?;
        writes.push(Write::put(&row));
        Ok(Judged {
            view,
            event,
            row,
            writes,
            effects,
        })
    }

    /// Applies the event to the view; what it writes, and what it means to others.
    fn effects(
        &self,
        ask: &Ask<'_>,
        view: &mut View,
        event: &Event,
        concerned: &[LinkageId],
    ) -> Result<(Vec<Write>, pb::ChangeEffects)> {
        let persons = |view: &View| {
            let alive = concerned
                .iter()
                .filter(|one| view.state.members(**one).next().is_some());
            alive.count()
        };
        let before = persons(view);
        let patients: Vec<PatientIdentifier> = concerned
            .iter()
            .flat_map(|linkage| view.identifiers(*linkage))
            .collect();
        let reach = (ask.reach)(&patients)?;
        let writes = view.apply(event)?;
        let after = persons(view);
        let community = &ask.call.caller().participant.community;
        let shown = |linkages: &mut dyn Iterator<Item = LinkageId>| {
            linkages
                .map(|linkage| self.pseudonym(linkage, community))
                .collect::<Result<Vec<_>>>()
        };
        let living = concerned.iter().copied();
        let mut living = living.filter(|one| view.state.members(*one).next().is_some());
        let mut effects = pb::ChangeEffects {
            linkage_ids: shown(&mut living)?,
            retired_linkage_ids: shown(&mut event.retired.iter().map(|(old, _)| *old))?,
            documents_gained: if after < before { reach.documents } else { 0 },
            documents_lost: if after > before { reach.documents } else { 0 },
            consents_affected: reach.consents,
            communities_affected: view.communities(concerned).into_iter().collect(),
            ..pb::ChangeEffects::default()
        };
        if event.contradicts {
            effects.warnings.push(
                "records that a steward holds apart from the survivor's stay behind; a task asks why"
                    .to_owned(),
            );
        }
        if reach.holders > 0 {
            let holders = reach.holders;
            effects.warnings.push(format!(
                "{holders} communities hold documents under these identifiers; how many is known there"
            ));
        }
        if after < before && reach.consents > 0 {
            let strictest = "of the consents that come together the most restrictive wins";
            effects.warnings.push(strictest.to_owned());
        }
        Ok((writes, effects))
    }

    /// Commits what was judged, or, in a preview, does not.
    pub(super) async fn finish<R: Message + Default>(
        &self,
        ask: &Ask<'_>,
        gate: Gate,
        judged: Judged,
        named: &[PatientTag],
        changed: &Changed,
        respond: impl FnOnce(Touched) -> R,
    ) -> Result<R> {
        let community = &ask.call.caller().participant.community;
        let linkages = named.iter().filter_map(|tag| {
            let record = judged.view.state.records.get(tag)?;
            Some(self.pseudonym(record.linkage, community))
        });
        let response = respond(Touched {
            id: if ask.preview {
                String::new()
            } else {
                text(&judged.event.id)
            },
            linkages: linkages.collect::<Result<_>>()?,
            effects: judged.effects,
        });
        let items = u32::try_from(judged.row.tags.len()).unwrap_or(u32::MAX);
        ask.call.note(|record| record.items = items);
        if ask.preview {
            return Ok(response);
        }
        let mut writes = judged.writes;
        writes.extend((ask.attach)(changed));
        let now = self.clock.now();
        let idempotency = ask.idempotency.cloned();
        ask.call
            .commit_holding(&self.store, now, writes, idempotency, response, gate)
            .await
    }
}

/// Linkage ids that an event row names.
fn linkages_of(row: &LinkEventRow) -> Result<Vec<LinkageId>> {
    row.linkages
        .iter()
        .map(|one| sixteen(one).map(LinkageId::from_bytes))
        .collect()
}

/// Who acts, for the history.
#[expect(clippy::unnecessary_wraps, reason = "fields of messages are optional")]
pub(super) fn actor(call: &Call) -> Option<cpb::PersonRef> {
    let caller = call.caller();
    let subject = caller.person.as_ref().map(|person| person.subject.clone());
    Some(cpb::PersonRef {
        // A system that acts by itself is named by its institution, a gateway by its community.
        subject: subject.unwrap_or_else(|| match &caller.participant.code {
            Some(code) => code.to_string(),
            None => caller.participant.community.to_string(),
        }),
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

/// The records a merge left behind, as a task.
fn left_behind(judged: &Judged, survivor: PatientTag) -> Doubt {
    let state = &judged.view.state;
    let person = state.records.get(&survivor).map(|record| record.linkage);
    let marked = judged.view.state.records.values().find(|record| {
        Some(record.linkage) != person
            && record.not_same.iter().any(|other| {
                let other = state.records.get(other);
                other.is_some_and(|other| Some(other.linkage) == person)
            })
    });
    Doubt {
        other: marked.map(|record| record.tag),
        kind: pb::ReviewKind::Contradiction,
        evidence: pb::MatchEvidence {
            rule: "merged-by-source".to_owned(),
            model_version: super::evidence::model_version(),
            ..pb::MatchEvidence::default()
        },
    }
}

fn two(tags: &[PatientTag]) -> Result<[PatientTag; 2]> {
    tags.try_into()
        .map_err(|_| Error::internal("two records were expected"))
}

fn unknown(field: &'static str) -> Error {
    let message = "the patient is not known here";
    Error::field(Reason::UnknownPatient, field, message)
}
