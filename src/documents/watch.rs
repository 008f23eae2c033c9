//! Following the registry (DSUB, ITI-52 and ITI-53): what a frame of the ledger changed, for one
//! subscriber. Each object is judged when it is delivered, by the wishes in force then.
//!
//! A place to go on from is the sequence of a frame, sealed: the ledger is never cut, so nothing is
//! lost over a restart or however long the subscriber is away.

use std::collections::{BTreeMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use crate::access::{Action, Call};
use crate::consent::Guard;
use crate::error::{Error, Reason, Result};
use crate::identity::identifier;
use crate::store::{AppliedWrite, Frame, Row, Sequence, Versioned};
use crate::types::{EntryUuid, PatientIdentifier};
use crate::wire::pb::documents as pb;
use crate::wire::pb::federation as fpb;
use pb::{DocumentChange as Change, WatchTopic as Topic};

use super::Documents;
use super::document_ref;
use super::query::{EntryFilter, Found, FoundFolder, FoundSet, Item, Reader};
use super::tables::{EntryRow, FolderRow, RemovedRow, SubmissionRow};

/// Patients one subscription names.
const MAX_PATIENTS: usize = 500;
/// Bytes of the keyed hash in a token.
const SEAL: usize = 16;
/// Entries of what is there already that are read and told at once.
const HELD: usize = 128;

/// What a subscriber wants to know of.
#[derive(Debug)]
pub struct Subscription {
    patients: Vec<PatientIdentifier>,
    /// As they are linked here, too; or those that are named, and no others.
    linked: bool,
    filter: EntryFilter,
    recipients: Vec<String>,
    sources: Vec<String>,
    topics: Vec<Topic>,
    as_refs: bool,
}

/// Something to deliver, and what its audit says.
#[derive(Debug)]
pub struct Notice {
    /// What happened.
    pub event: pb::DocumentEvent,
    /// Keyed hash of the patient identifier.
    pub patient: Vec<u8>,
    /// entryUUIDs of the objects.
    pub objects: Vec<String>,
    /// Of each entry, in their order: the frame of its change, and when that was recorded.
    places: Vec<(u64, Timestamp)>,
}

impl Notice {
    /// What another community is told of it: of entries only, and no more than is needed to ask for them.
    pub fn news(&self) -> Vec<fpb::DocumentNews> {
        let objects = self.event.objects.as_ref();
        let entries = objects.map(|objects| objects.entries.as_slice());
        let entries = entries.unwrap_or_default().iter().zip(&self.places);
        let news = entries.map(|(entry, (sequence, recorded))| fpb::DocumentNews {
            entry_uuid: entry.entry_uuid.clone(),
            sequence: *sequence,
            change: self.event.change,
            document: Some(document_ref(entry)),
            class_code: entry.class_code.clone(),
            type_code: entry.type_code.clone(),
            recorded: Some(crate::wire::timestamp(*recorded)),
        });
        news.collect()
    }
}

impl Subscription {
    /// Checks what is wanted. Without patients it must be about the caller's own institution: what is
    /// meant for it, or what it wrote.
    ///
    /// # Errors
    /// A field without its form; [`Reason::NotPermitted`].
    pub fn new(guard: &Guard, call: &Call, request: &pb::WatchDocumentsRequest) -> Result<Self> {
        if request.patient_ids.len() > MAX_PATIENTS {
            let message = format!("names more than {MAX_PATIENTS} patients");
            return Err(Error::field(Reason::InvalidField, "patient_ids", message));
        }
        let patients = request.patient_ids.iter();
        let patients = patients.map(|id| identifier(Some(id), "patient_ids"));
        let patients: Vec<PatientIdentifier> = patients.collect::<Result<_>>()?;
        let filter = request.filter.clone().unwrap_or_default();
        let subscription = Self {
            filter: EntryFilter::of_changes(&filter)?,
            recipients: request.recipient_institution_ids.clone(),
            sources: request.source_ids.clone(),
            topics: topics(request),
            as_refs: request.object_refs_only,
            linked: true,
            patients,
        };
        // May the caller list documents at all? Each patient's wishes are asked at delivery.
        let _permit = guard.authorize(call, Action::FindDocuments)?;
        if subscription.patients.is_empty() {
            let own = call.caller().participant.code.as_ref();
            let own = own.map(|code| code.as_str().to_owned());
            let only_own =
                |ids: &[String]| !ids.is_empty() && ids.iter().all(|id| Some(id) == own.as_ref());
            if !only_own(&subscription.recipients) && !only_own(&filter.author_institution_ids) {
                return Err(Error::not_permitted());
            }
        }
        Ok(subscription)
    }

    /// The entries of patients, for a subscriber of another community. Whether they may be told of is for
    /// whoever takes the request to ask, and asked again of each entry when it is told.
    ///
    /// # Errors
    /// A field of the filter without its form.
    pub fn of_patients(
        patients: Vec<PatientIdentifier>,
        filter: Option<&pb::DocumentFilter>,
    ) -> Result<Self> {
        let filter = filter.cloned().unwrap_or_default();
        Ok(Self {
            patients,
            // Whoever asks knows whom the person is linked with, and has unlinked what was.
            linked: false,
            filter: EntryFilter::of_changes(&filter)?,
            recipients: Vec::new(),
            sources: Vec::new(),
            topics: vec![Topic::DocumentEntry],
            as_refs: false,
        })
    }

    fn wants(&self, topic: Topic) -> bool {
        self.topics.contains(&topic)
    }
}

fn topics(request: &pb::WatchDocumentsRequest) -> Vec<Topic> {
    let stated: Vec<Topic> = request
        .topics()
        .filter(|topic| *topic != Topic::Unspecified)
        .collect();
    match stated.is_empty() {
        true => vec![Topic::DocumentEntry],
        false => stated,
    }
}

impl Documents {
    /// The token of having seen every frame up to `sequence`.
    pub fn watch_token(&self, sequence: Sequence) -> String {
        let place = sequence.0.to_be_bytes();
        let seal = self.store.keys().tag("watch-token", &place);
        URL_SAFE_NO_PAD.encode([seal.as_bytes().as_slice(), &place].concat())
    }

    /// The frame to go on with after a token; without one, the next to come.
    ///
    /// # Errors
    /// [`Reason::InvalidToken`].
    pub fn watch_from(&self, token: &str) -> Result<Sequence> {
        if token.is_empty() {
            return Ok(self.store.last_sequence().next());
        }
        let wrong = || {
            let message = "is not a token of this node";
            Error::field(Reason::InvalidToken, "resume_token", message)
        };
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
        let place = bytes.get(SEAL..).and_then(|place| place.try_into().ok());
        let sequence = Sequence(u64::from_be_bytes(place.ok_or_else(wrong)?));
        // What is not there yet was not told: a store that was restored has lost what came after.
        if self.watch_token(sequence) != token || sequence > self.store.last_sequence() {
            return Err(wrong());
        }
        Ok(sequence.next())
    }

    /// The frame to go on with after [`Documents::held`], if it is read after this.
    pub fn watch_beginning(&self) -> Sequence {
        self.store.applied().next()
    }

    /// The tags of the subscription's patients, as they are linked now.
    pub fn followed(&self, guard: &Guard, subscription: &Subscription) -> Vec<Vec<u8>> {
        let tags = self.tags(guard, subscription);
        tags.into_iter().flatten().collect()
    }

    /// What there already is of a patient's entries that the subscriber who calls may be told of, behind the
    /// place `after`: some of them, and the place to go on from if there may be more.
    ///
    /// # Errors
    /// The store.
    pub fn held(
        &self,
        guard: &Guard,
        call: &Call,
        subscription: &Subscription,
        (patient, after): (&[u8], Option<&[u8]>),
    ) -> Result<(Vec<Notice>, Option<Vec<u8>>)> {
        let index = EntryRow::BY_PATIENT;
        let page = self
            .store
            .by_index::<EntryRow>(index, patient, after, HELD)?;
        let last = page.last().map(|(place, _)| place.clone());
        let more = last.filter(|_| page.len() == HELD);
        let mut reader = Reader::new(self, guard, call);
        let mut told: BTreeMap<i32, Vec<Item>> = BTreeMap::new();
        for (_, row) in page {
            if !row.row.superseded
                && let Some(found) = Found::of(row)
                && subscription.filter.suits(&found)
                && reader.shows_entry(&found)?
            {
                let status = found.entry.availability_status();
                let change = match status == pb::AvailabilityStatus::Deprecated {
                    true => Change::Deprecated,
                    false => Change::Registered,
                };
                let items = told.entry(change.into()).or_default();
                items.push(Item::Entry(Box::new(found)));
            }
        }
        let told = told.into_iter();
        let notices =
            told.map(|(change, items)| notice(subscription, None, patient.to_vec(), change, items));
        Ok((notices.collect(), more))
    }

    /// Whether a frame changed anything that a subscriber may be told of.
    pub fn is_of_interest(frame: &Frame) -> bool {
        let tables = [
            EntryRow::TABLE,
            SubmissionRow::TABLE,
            FolderRow::TABLE,
            RemovedRow::TABLE,
        ];
        let mut writes = frame.writes.iter();
        writes.any(|write| write.value.is_some() && tables.contains(&write.table))
    }

    /// The entries that a frame changed, added or removed.
    pub fn entries_of(frame: &Frame) -> Vec<EntryUuid> {
        let of_entries = |write: &&AppliedWrite| write.table == EntryRow::TABLE;
        let keys = frame.writes.iter().filter(of_entries);
        keys.filter_map(|write| write.key.as_ref().try_into().ok())
            .map(EntryUuid::from_bytes)
            .collect()
    }

    /// Whether reads see the rows of a frame.
    pub fn has_applied(&self, frame: &Frame) -> bool {
        self.store.applied() >= frame.sequence
    }

    /// What a frame, which reads see already, has to tell the subscriber who calls: one notice for
    /// each patient and kind of change.
    ///
    /// # Errors
    /// The store.
    pub fn notices(
        &self,
        guard: &Guard,
        call: &Call,
        subscription: &Subscription,
        frame: &Frame,
    ) -> Result<Vec<Notice>> {
        let rows = Rows::of(frame)?;
        let mut reader = Reader::new(self, guard, call);
        let patients = self.tags(guard, subscription);
        let about = |patient: &[u8]| patients.as_ref().is_none_or(|all| all.contains(patient));
        let mut told: BTreeMap<(Vec<u8>, i32), Vec<Item>> = BTreeMap::new();
        let mut tell = |patient: &[u8], change: Change, item: Item| {
            let key = (patient.to_vec(), i32::from(change));
            told.entry(key).or_default().push(item);
        };
        for (row, change) in rows.changes().filter(|(row, _)| about(&row.patient)) {
            let found = Found::of(Versioned {
                version: frame.sequence,
                row: row.clone(),
            });
            if let Some(found) = found
                && subscription.wants(Topic::DocumentEntry)
                && subscription.filter.suits(&found)
                && self.addressed(subscription, &rows, row)?
                && reader.shows_entry(&found)?
            {
                tell(&row.patient, change, Item::Entry(Box::new(found)));
            }
        }
        for row in rows.sets.iter().filter(|row| about(&row.patient)) {
            if let Some(set) = FoundSet::of(row.clone())
                && subscription.wants(Topic::SubmissionSet)
                && is_for(subscription, &set.set)
                && reader.shows_set(&set)?
            {
                tell(&row.patient, Change::Registered, Item::Set(Box::new(set)));
            }
        }
        for row in rows.folders.iter().filter(|row| about(&row.patient)) {
            let change = rows.folder_change(row);
            if let Some(folder) = FoundFolder::of(row.clone())
                && subscription.wants(Topic::Folder)
                && reader.shows_folder(&folder)?
            {
                tell(&row.patient, change, Item::Folder(Box::new(folder)));
            }
        }
        Ok(told
            .into_iter()
            .map(|((patient, change), items)| {
                notice(subscription, Some(frame.time), patient, change, items)
            })
            .collect())
    }

    /// The tags of the subscription's patients, as they are linked now; none for every patient.
    fn tags(&self, guard: &Guard, subscription: &Subscription) -> Option<HashSet<Vec<u8>>> {
        let keys = self.store.keys();
        let all = subscription.patients.iter();
        let all = all.flat_map(|patient| match subscription.linked {
            true => guard.identifiers_of(patient),
            false => vec![patient.clone()],
        });
        let all = all.map(|patient| keys.patient_tag(&patient).to_vec());
        (!subscription.patients.is_empty()).then(|| all.collect())
    }

    /// Whether the submission set that brought an entry is from and for whom the subscription says.
    fn addressed(&self, subscription: &Subscription, rows: &Rows, row: &EntryRow) -> Result<bool> {
        if subscription.recipients.is_empty() && subscription.sources.is_empty() {
            return Ok(true);
        }
        let mut sets = rows.sets.iter().chain(&rows.sets_of_removed);
        let here = sets.find(|set| set.uuid == row.submission);
        let set = if let Some(set) = here {
            set.set.clone()
        } else {
            let set = self.store.get::<SubmissionRow>(&row.submission)?;
            set.and_then(|set| set.row.set)
        };
        Ok(set.is_some_and(|set| is_for(subscription, &set)))
    }
}

fn is_for(subscription: &Subscription, set: &pb::SubmissionSet) -> bool {
    let recipient = |id: &String| {
        let recipients = set.intended_recipients.iter();
        let mut organizations = recipients.filter_map(|recipient| recipient.organization.as_ref());
        organizations.any(|organization| organization.id == *id)
    };
    let sources = &subscription.sources;
    (subscription.recipients.is_empty() || subscription.recipients.iter().any(recipient))
        && (sources.is_empty() || sources.contains(&set.source_id))
}

/// The objects that a frame put, and the entries that it removed.
struct Rows {
    entries: Vec<EntryRow>,
    sets: Vec<SubmissionRow>,
    folders: Vec<FolderRow>,
    removed: Vec<EntryRow>,
    sets_of_removed: Vec<SubmissionRow>,
}

impl Rows {
    fn of(frame: &Frame) -> Result<Self> {
        fn rows<R: Row>(writes: &[AppliedWrite]) -> Result<Vec<R>> {
            let rows = writes
                .iter()
                .filter_map(|write| write.row::<R>().transpose());
            Ok(rows.collect::<Result<_, _>>()?)
        }
        let (mut removed, mut sets_of_removed) = (Vec::new(), Vec::new());
        for row in rows::<RemovedRow>(&frame.writes)? {
            removed.extend(row.entries);
            sets_of_removed.extend(row.sets);
        }
        Ok(Self {
            entries: rows(&frame.writes)?,
            sets: rows(&frame.writes)?,
            folders: rows(&frame.writes)?,
            removed,
            sets_of_removed,
        })
    }

    /// What happened to which entry.
    fn changes(&self) -> impl Iterator<Item = (&EntryRow, Change)> {
        let put = self.entries.iter();
        let put = put.filter_map(|row| Some((row, self.change(row)?)));
        put.chain(self.removed.iter().map(|row| (row, Change::Removed)))
    }

    /// Whether the object came with this frame.
    fn came(&self, submission: &[u8]) -> bool {
        self.sets.iter().any(|set| set.uuid == submission)
    }

    /// What happened to an entry; nothing to tell of an old version, whose new one is told of.
    fn change(&self, row: &EntryRow) -> Option<Change> {
        let entry = row.entry.as_ref()?;
        let deprecated = entry.availability_status() == pb::AvailabilityStatus::Deprecated;
        match (row.superseded, deprecated) {
            (true, _) => None,
            (_, true) => Some(Change::Deprecated),
            _ if entry.version <= 1 && self.came(&row.submission) => Some(Change::Registered),
            _ => Some(Change::Updated),
        }
    }

    fn folder_change(&self, row: &FolderRow) -> Change {
        let folder = row.folder.as_ref();
        let deprecated = folder.is_some_and(|folder| {
            folder.availability_status() == pb::AvailabilityStatus::Deprecated
        });
        match deprecated {
            true => Change::Deprecated,
            false if self.came(&row.submission) => Change::Registered,
            false => Change::Updated,
        }
    }
}

/// What is told of one patient; without a time of its own, each entry has that of its registration.
fn notice(
    subscription: &Subscription,
    recorded: Option<Timestamp>,
    patient: Vec<u8>,
    change: i32,
    items: Vec<Item>,
) -> Notice {
    // What was removed is not given out any more.
    let as_refs = subscription.as_refs || change == i32::from(Change::Removed);
    let mut objects = pb::RegistryObjects::default();
    let mut named = Vec::with_capacity(items.len());
    let mut places = Vec::new();
    for item in items {
        named.push(item.entry_uuid().to_owned());
        let registered = Timestamp::from_millisecond(item.registered_ms());
        if let Item::Entry(found) = &item {
            let time = recorded.or(registered.ok()).unwrap_or_default();
            places.push((found.sequence, time));
        }
        item.put(&mut objects, as_refs);
    }
    Notice {
        event: pb::DocumentEvent {
            change,
            objects: Some(objects),
            recorded: recorded.map(crate::wire::timestamp),
        },
        patient,
        objects: named,
        places,
    }
}
