//! Reading the audit: by patient or by institution, without going through the ledger.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use prost::Message as _;

use crate::error::{Error, Reason, Result};
use crate::store::{Frame, Lookup, Store};
use crate::types::HomeCommunityId;
use crate::wire::from_timestamp;
use crate::wire::pb::audit as pb;

use super::derived::{Link, damaged};
use super::leaf::{commitment, commitments, index_of, salt};
use super::log::{Log, LogOptions, Proven};
use super::map::{EMPTY, Head, MapProof, PatientTag, chained};

/// Events of one report at most; more is an error, never a silent gap.
const MAX_REPORT: u64 = 100_000;

/// Whether the events of these patients together are few enough to hold.
fn bounded(heads: &[Head]) -> Result<()> {
    let count: u64 = heads.iter().map(|head| head.count).sum();
    if count <= MAX_REPORT {
        return Ok(());
    }
    let message = "more events than one report holds";
    Err(Error::new(Reason::TooManyResults, message))
}

/// The event that a record of leaf `index` says. One that cannot be read is an error for whoever reads:
/// left out, it would be a gap that nobody sees.
///
/// # Errors
/// [`Reason::IntegrityFailure`].
pub fn event_of(record: &Bytes, index: u64, home: &HomeCommunityId) -> Result<pb::AuditEvent> {
    let mut event = pb::AuditEvent::decode(record.clone()).map_err(|error| {
        let message = "an audit record cannot be read";
        Error::new(Reason::IntegrityFailure, message).caused_by(error)
    })?;
    event.sequence = index;
    event.home_community_id = home.to_string();
    Ok(event)
}

/// What events are wanted. Empty conditions hold for all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Keyed hashes of the patient's identifiers; any of them.
    pub patients: Vec<Vec<u8>>,
    /// The acting institution.
    pub institution: String,
    /// From this place in the log on.
    pub from: u64,
    /// Only emergency access.
    pub emergency_only: bool,
    /// The request id.
    pub request_id: String,
    /// Recorded then or later.
    pub since: Option<Timestamp>,
    /// Recorded before then.
    pub until: Option<Timestamp>,
    /// The person.
    pub subject: String,
    /// Full method names; any of them.
    pub methods: Vec<String>,
    /// Outcomes; any of them.
    pub outcomes: Vec<i32>,
    /// Purposes; any of them.
    pub purposes: Vec<i32>,
}

fn any<T: PartialEq>(wanted: &[T], found: &T) -> bool {
    wanted.is_empty() || wanted.contains(found)
}

fn same(wanted: &str, found: Option<&str>) -> bool {
    wanted.is_empty() || found == Some(wanted)
}

impl Filter {
    fn holds(&self, event: &pb::AuditEvent) -> bool {
        let institution = event.institution.as_ref();
        let institution = institution.map(|one| one.institution_id.as_str());
        let subject = event.person.as_ref().map(|one| one.subject.as_str());
        let patients = &self.patients;
        let tag = || HEXLOWER.decode(event.patient_tag.as_bytes());
        event.sequence >= self.from
            && (patients.is_empty() || tag().is_ok_and(|tag| patients.contains(&tag)))
            && same(&self.institution, institution)
            && same(&self.subject, subject)
            && same(&self.request_id, Some(&event.request_id))
            && (!self.emergency_only || event.emergency)
            && any(&self.methods, &event.method)
            && any(&self.outcomes, &event.outcome)
            && any(&self.purposes, &event.purpose)
            && self.is_within(event)
    }

    /// Whether the event was recorded in the time asked for.
    fn is_within(&self, event: &pb::AuditEvent) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let recorded = event.recorded.as_ref().and_then(from_timestamp);
        recorded.is_some_and(|at| {
            self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
        })
    }
}

/// A page of events, newest first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The events.
    pub events: Vec<pb::AuditEvent>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<u64>,
}

/// The audit of one node.
#[derive(Clone, Debug)]
pub struct Audit {
    store: Arc<Store>,
    home: HomeCommunityId,
    log: Arc<Log>,
}

/// An event about a patient, as a report gives it.
#[derive(Clone, Debug)]
pub struct Told {
    /// The event.
    pub event: pb::AuditEvent,
    /// What opens its leaf.
    pub opening: pb::LeafOpening,
}

impl Audit {
    /// The audit kept in `store` by the community `home`.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open(store: Arc<Store>, home: HomeCommunityId, options: &LogOptions) -> Result<Self> {
        let log = Arc::new(Log::open(&store, options)?);
        Ok(Self { store, home, log })
    }

    /// The log.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The events that `filter` describes, oldest first, at most `limit`. Blocks.
    ///
    /// # Errors
    /// As [`Audit::search`].
    pub fn events(&self, filter: &Filter, limit: usize) -> Result<Vec<pb::AuditEvent>> {
        let mut events = self.search(filter, None, usize::MAX, u64::MAX)?.events;
        events.reverse();
        events.truncate(limit);
        Ok(events)
    }

    /// A page of the events that `filter` describes, newest first: at most `limit`, from `before` on
    /// (as the page before said), after looking at `look` events at most. Blocks.
    ///
    /// # Errors
    /// If ledger or index cannot be read; a frame that fails its checks is an error, never skipped.
    pub fn search(
        &self,
        filter: &Filter,
        before: Option<u64>,
        limit: usize,
        look: u64,
    ) -> Result<Page> {
        self.log.take_latest()?;
        self.find(filter, before, limit, look)
            .inspect_err(|error| self.log.mend(error))
    }

    fn find(&self, filter: &Filter, before: Option<u64>, limit: usize, look: u64) -> Result<Page> {
        let mut walk = self.walk(filter, before)?;
        let (mut page, mut looked) = (Page::default(), 0);
        let mut reader = Reader::new(self);
        while let Some(at) = walk.peek() {
            if page.events.len() >= limit || looked >= look {
                page.next = Some(at + 1);
                break;
            }
            looked += 1;
            let link = walk.take(self)?;
            if link.index < filter.from {
                break;
            }
            let event = reader.event(&link)?.event;
            if filter.holds(&event) {
                page.events.push(event);
            }
        }
        Ok(page)
    }

    /// The shortest way through the links for a filter.
    fn walk(&self, filter: &Filter, before: Option<u64>) -> Result<Walk> {
        let before = before.unwrap_or(u64::MAX);
        if !filter.patients.is_empty() {
            let tags = filter
                .patients
                .iter()
                .filter_map(|tag| tag.as_slice().try_into().ok());
            let tags: Vec<PatientTag> = tags.collect();
            let mut all = Vec::new();
            let heads = self.log.heads(&tags)?;
            bounded(&heads)?;
            for head in heads {
                all.extend(self.links_of(&head)?.into_iter().map(|(at, _)| at));
            }
            all.sort_unstable();
            all.dedup();
            all.retain(|at| *at < before);
            return Ok(Walk::Listed(all));
        }
        let (last, all) = self.log.ends(&filter.institution);
        if filter.institution.is_empty() {
            return Ok(Walk::All(all.min(before)));
        }
        // A page token names a link of the chain, or one just behind it.
        let mut at = last.map_or(0, |last| last + 1);
        if before < at {
            at = before;
        }
        Ok(Walk::Chain(at))
    }

    /// The links of a patient, oldest first, with their numbers.
    fn links_of(&self, head: &Head) -> Result<Vec<(u64, Link)>> {
        let mut links = Vec::new();
        let mut next = if head.count == 0 { 0 } else { head.link + 1 };
        while let Some(at) = next.checked_sub(1) {
            let link = self.log.readers().link(at)?;
            let expected = head.count - links.len() as u64;
            if link.number != expected || link.patient_before > at {
                return Err(damaged("a patient's events do not follow one another"));
            }
            next = link.patient_before;
            links.push((at, link));
        }
        links.reverse();
        Ok(links)
    }

    /// Prepares a report about the patients of these tags: what the log has of them, under a
    /// checkpoint of now if it is to be proved. Blocks.
    ///
    /// # Errors
    /// [`Reason::TooManyResults`]; as [`Log::prove`].
    pub fn report(&self, tags: &[PatientTag], prove: bool) -> Result<Report> {
        let proven = match prove {
            true => Some(self.log.prove(tags)?),
            false => None,
        };
        let heads = match &proven {
            Some(proven) => proven.patients.iter().map(|(head, _)| *head).collect(),
            None => self.log.heads(tags)?,
        };
        bounded(&heads)?;
        let mut links = Vec::new();
        for head in &heads {
            let own = self
                .links_of(head)
                .inspect_err(|error| self.log.mend(error))?;
            let own = own.into_iter();
            links.extend(own.map(|(_, link)| (link, head.tag)));
        }
        links.sort_unstable_by_key(|(link, _)| (link.index, link.place));
        Ok(Report {
            audit: self.clone(),
            proven,
            heads,
            links,
        })
    }

    /// What opens the leaf of a frame for one of its records.
    fn opening(&self, frame: &Frame, place: u32) -> Result<pb::LeafOpening> {
        let keys = self.store.keys();
        let record = usize::try_from(place)
            .ok()
            .and_then(|place| frame.audit.get(place));
        let record = record.ok_or_else(|| damaged("a record is missing"))?;
        Ok(pb::LeafOpening {
            record: record.clone(),
            salt: salt(keys, record).to_vec().into(),
            frame_hash: frame.hash.to_vec().into(),
            commitments: commitments(keys, &frame.audit)
                .iter()
                .map(|hash| hash.to_vec().into())
                .collect(),
            place,
        })
    }
}

/// A way through the links, newest first.
enum Walk {
    /// All below this one.
    All(u64),
    /// An institution's, from this one (plus one) on.
    Chain(u64),
    /// These, ascending.
    Listed(Vec<u64>),
}

impl Walk {
    fn peek(&self) -> Option<u64> {
        match self {
            Self::All(end) | Self::Chain(end) => end.checked_sub(1),
            Self::Listed(all) => all.last().copied(),
        }
    }

    fn take(&mut self, audit: &Audit) -> Result<Link> {
        let readers = audit.log.readers();
        match self {
            Self::All(end) => {
                *end = end.saturating_sub(1);
                readers.link(*end)
            }
            Self::Chain(at) => {
                let link = readers.link(at.saturating_sub(1))?;
                if link.institution_before >= *at {
                    return Err(damaged("an institution's events do not follow one another"));
                }
                *at = link.institution_before;
                Ok(link)
            }
            Self::Listed(all) => readers.link(all.pop().unwrap_or_default()),
        }
    }
}

/// Reads the events that links name.
struct Reader<'a> {
    audit: &'a Audit,
    lookup: Lookup,
    last: Option<Frame>,
}

impl<'a> Reader<'a> {
    fn new(audit: &'a Audit) -> Self {
        Self {
            audit,
            lookup: audit.store.lookup(),
            last: None,
        }
    }

    fn event(&mut self, link: &Link) -> Result<Told> {
        let known = self.last.take();
        let frame = match known.filter(|frame| index_of(frame.sequence) == link.index) {
            Some(frame) => frame,
            None => self.audit.log.frame(&mut self.lookup, link.index)?,
        };
        let opening = self.audit.opening(&frame, link.place)?;
        self.last = Some(frame);
        let mut event = event_of(&opening.record, link.index, &self.audit.home)?;
        event.patient_event_number = link.number;
        event.patient_previous_sequence = match link.patient_before.checked_sub(1) {
            Some(before) => Some(self.audit.log.readers().link(before)?.index),
            None => None,
        };
        Ok(Told { event, opening })
    }
}

/// Everything the log has about a patient.
#[derive(Debug)]
pub struct Report {
    audit: Audit,
    proven: Option<Proven>,
    heads: Vec<Head>,
    links: Vec<(Link, PatientTag)>,
}

impl Report {
    /// The number of events.
    pub fn count(&self) -> u64 {
        self.links.len() as u64
    }

    /// What it was prepared under, if it is proved.
    pub fn proven(&self) -> Option<&Proven> {
        self.proven.as_ref()
    }

    /// Gives the events to `visit`, oldest first, and makes sure at the end that they are all and the
    /// ones that were counted. Blocks.
    ///
    /// # Errors
    /// If they are not: then what was given is not the whole. What `visit` returns.
    pub fn tell(&self, visit: &mut dyn FnMut(Told) -> Result<()>) -> Result<()> {
        self.tell_all(visit)
            .inspect_err(|error| self.audit.log.mend(error))
    }

    fn tell_all(&self, visit: &mut dyn FnMut(Told) -> Result<()>) -> Result<()> {
        let mut chains: Vec<_> = self.heads.iter().map(|head| (head.tag, EMPTY)).collect();
        let mut reader = Reader::new(&self.audit);
        for (link, tag) in &self.links {
            let told = reader.event(link)?;
            if let Some((_, chain)) = chains.iter_mut().find(|(known, _)| known == tag) {
                let salt = told.opening.salt.as_ref().try_into().unwrap_or_default();
                let commitment = commitment(&salt, &told.opening.record);
                *chain = chained(chain, link.index, link.place, &commitment);
            }
            visit(told)?;
        }
        let whole = self.heads.iter().zip(&chains);
        if whole.clone().all(|(head, (_, chain))| head.chain == *chain) {
            return Ok(());
        }
        Err(damaged("a report is not what the map says"))
    }

    /// The inclusion proof of an event, under the checkpoint of the report.
    ///
    /// # Errors
    /// As [`Log::inclusion`].
    pub fn inclusion(&self, index: u64) -> Result<Option<pb::InclusionProof>> {
        let Some(proven) = &self.proven else {
            return Ok(None);
        };
        let size = proven.signed.checkpoint.size;
        let (leaf, path) = self.audit.log.inclusion(index, size)?;
        Ok(Some(inclusion_message(index, size, &leaf, &path)))
    }
}

/// An inclusion proof as a message.
pub fn inclusion_message(
    sequence: u64,
    size: u64,
    leaf: &super::merkle::Hash,
    path: &[super::merkle::Hash],
) -> pb::InclusionProof {
    pb::InclusionProof {
        sequence,
        size,
        leaf_hash: leaf.to_vec().into(),
        path: path.iter().map(|hash| hash.to_vec().into()).collect(),
    }
}

/// A map proof as a message.
pub fn map_message(
    head: &Head,
    proof: &MapProof,
    root: &super::merkle::Hash,
) -> pb::PatientMapProof {
    pb::PatientMapProof {
        leaf: proof
            .found
            .map(|found| found.encode())
            .unwrap_or_default()
            .into(),
        path: proof.path.iter().map(|hash| hash.to_vec().into()).collect(),
        root_hash: root.to_vec().into(),
        root_inclusion: None,
        event_number: head.count,
        patient_tag: HEXLOWER.encode(&head.tag),
    }
}
