//! The objects of a registry as queries handle them: the metadata, and what is kept beside it.

use jiff::Timestamp;
use jiff::civil::{Date, Time};

use crate::access::{Classes, DocumentFacts, Permit};
use crate::store::Versioned;
use crate::types::InstitutionCode;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::super::tables::{AssociationRow, EntryRow, FolderRow, Kind, SubmissionRow};
use super::super::validate::confidentiality_of;

/// One entry with what a decision needs to know of it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The metadata.
    pub entry: pb::DocumentEntry,
    /// The blob's name; empty if the document is elsewhere.
    pub(in super::super) blob: Vec<u8>,
    /// Ledger sequence of its last change.
    pub sequence: u64,
    pub(super) uuid: Vec<u8>,
    /// There is a newer version of it.
    pub(super) superseded: bool,
    /// On-demand: each document made is kept.
    pub(in super::super) persist_snapshots: bool,
    /// A snapshot: entryUUIDs of what it was made of.
    made_of: Vec<Vec<u8>>,
    /// Sent by referral to some only: who may read it, and until when.
    directed: Option<Vec<(InstitutionCode, Timestamp)>>,
    registered_ms: i64,
}

impl Found {
    /// The entry of a row; none if the row is empty.
    pub(in super::super) fn of(versioned: Versioned<EntryRow>) -> Option<Self> {
        let sequence = versioned.version.0;
        let row = versioned.row;
        let directed = readers(&row);
        Some(Self {
            entry: row.entry?,
            blob: row.blob,
            sequence,
            uuid: row.uuid,
            superseded: row.superseded,
            persist_snapshots: row.persist_snapshots,
            made_of: row.made_of,
            directed,
            registered_ms: row.registered_ms,
        })
    }

    /// Whether its document is made when it is retrieved (ITI-61).
    pub fn is_on_demand(&self) -> bool {
        self.entry.object_type() == pb::ObjectType::OnDemand
    }

    /// entryUUIDs of its on-demand entry and of those whose documents it was made of, if it is a snapshot
    /// that this node made. Who may not read all of them may not read it.
    pub fn made_of(&self) -> &[Vec<u8>] {
        &self.made_of
    }

    /// Whether it is flagged UNDELIVERED (未提供): never given to another community.
    pub fn is_undelivered(&self) -> bool {
        self.is_flagged(cpb::NationalFlag::Undelivered)
    }

    fn is_flagged(&self, flag: cpb::NationalFlag) -> bool {
        self.entry.national_flags.contains(&i32::from(flag))
    }

    /// Whether `permit` lets it out.
    pub fn is_covered(&self, permit: &Permit) -> bool {
        permit.covers(&self.facts())
    }

    /// What a decision asks of it.
    pub fn facts(&self) -> DocumentFacts {
        DocumentFacts {
            directed: self.directed.clone(),
            ..facts_of(&self.entry)
        }
    }
}

/// Who may read a document that was sent to some only: they, and always who submitted it.
fn readers(row: &EntryRow) -> Option<Vec<(InstitutionCode, Timestamp)>> {
    let directed = row.directed.as_ref()?;
    let readers = directed.readers.iter().filter_map(|reader| {
        let until = Timestamp::from_millisecond(reader.until_ms).ok()?;
        Some((reader.institution.parse::<InstitutionCode>().ok()?, until))
    });
    let submitter = row.submitter.parse::<InstitutionCode>().ok();
    let submitter = submitter.map(|submitter| (submitter, Timestamp::MAX));
    Some(readers.chain(submitter).collect())
}

/// What a decision asks of a document with this metadata.
pub fn facts_of(entry: &pb::DocumentEntry) -> DocumentFacts {
    let class = code(entry.class_code.as_ref());
    let kind = code(entry.type_code.as_ref());
    let labels = entry.confidentiality_codes.iter();
    let authors = entry.authors.iter().flat_map(|author| &author.institutions);
    let flagged = |flag: cpb::NationalFlag| entry.national_flags.contains(&i32::from(flag));
    let day = japanese_day(&entry.service_start_time);
    DocumentFacts {
        codes: [class.to_owned(), kind.to_owned()],
        classes: Classes::of_document(
            [kind, class],
            code(entry.practice_setting_code.as_ref()),
            labels.map(|label| label.code.as_str()),
        ),
        confidentiality: confidentiality_of(entry),
        undelivered: flagged(cpb::NationalFlag::Undelivered),
        uninformed: flagged(cpb::NationalFlag::Uninformed),
        authors: authors
            .filter_map(|institution| institution.id.parse().ok())
            .collect(),
        day: day.or_else(|| japanese_day(&entry.creation_time)),
        directed: None,
    }
}

/// The day in Japan of a time in UTC, or of a day; `None` if it is less precise.
fn japanese_day(dtm: &str) -> Option<Date> {
    let digits = |range: std::ops::Range<usize>| dtm.get(range)?.parse::<i16>().ok();
    let small = |range: std::ops::Range<usize>| i8::try_from(digits(range)?).ok();
    let date = Date::new(digits(0..4)?, small(4..6)?, small(6..8)?).ok()?;
    let Some(hour) = small(8..10) else {
        return Some(date);
    };
    let minute = small(10..12).unwrap_or(0);
    let utc = date.to_datetime(Time::new(hour, minute, 0, 0).ok()?);
    let japan = utc.checked_add(jiff::SignedDuration::from_hours(9)).ok()?;
    Some(japan.date())
}

fn code(code: Option<&cpb::CodedValue>) -> &str {
    code.map_or("", |code| code.code.as_str())
}

/// A submission set.
#[derive(Clone, Debug)]
pub(crate) struct FoundSet {
    pub(crate) set: pb::SubmissionSet,
    pub(super) uuid: Vec<u8>,
    /// entryUUIDs of the entries it brought.
    pub(super) entries: Vec<Vec<u8>>,
    registered_ms: i64,
}

impl FoundSet {
    pub(crate) fn of(row: SubmissionRow) -> Option<Self> {
        Some(Self {
            set: row.set?,
            uuid: row.uuid,
            entries: row.entries,
            registered_ms: row.registered_ms,
        })
    }
}

/// A folder.
#[derive(Clone, Debug)]
pub(crate) struct FoundFolder {
    pub(crate) folder: pb::Folder,
    pub(super) uuid: Vec<u8>,
    pub(super) superseded: bool,
    registered_ms: i64,
}

impl FoundFolder {
    pub(crate) fn of(row: FolderRow) -> Option<Self> {
        Some(Self {
            folder: row.folder?,
            uuid: row.uuid,
            superseded: row.superseded,
            registered_ms: row.registered_ms,
        })
    }
}

/// An association.
#[derive(Clone, Debug)]
pub(crate) struct FoundAssociation {
    pub(crate) association: pb::Association,
    pub(super) uuid: Vec<u8>,
    pub(super) source: Vec<u8>,
    pub(super) target: Vec<u8>,
    registered_ms: i64,
}

impl FoundAssociation {
    pub(super) fn of(row: AssociationRow) -> Option<Self> {
        Some(Self {
            association: row.association?,
            uuid: row.uuid,
            source: row.source,
            target: row.target,
            registered_ms: row.registered_ms,
        })
    }

    /// Whether it says that something is a member of a set or folder.
    pub(super) fn is_membership(&self) -> bool {
        self.association.association_type() == pb::AssociationType::HasMember
    }
}

/// A result of a query.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Entry(Box<Found>),
    Set(Box<FoundSet>),
    Folder(Box<FoundFolder>),
    Association(Box<FoundAssociation>),
}

impl Item {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Entry(_) => Kind::Entry,
            Self::Set(_) => Kind::Set,
            Self::Folder(_) => Kind::Folder,
            Self::Association(_) => Kind::Association,
        }
    }

    /// The entryUUID, 16 bytes.
    pub(crate) fn uuid(&self) -> &[u8] {
        match self {
            Self::Entry(found) => &found.uuid,
            Self::Set(set) => &set.uuid,
            Self::Folder(folder) => &folder.uuid,
            Self::Association(association) => &association.uuid,
        }
    }

    /// The entryUUID as text.
    pub(crate) fn entry_uuid(&self) -> &str {
        match self {
            Self::Entry(found) => &found.entry.entry_uuid,
            Self::Set(set) => &set.set.entry_uuid,
            Self::Folder(folder) => &folder.folder.entry_uuid,
            Self::Association(found) => &found.association.entry_uuid,
        }
    }

    /// When it was registered, Unix milliseconds.
    pub(crate) fn registered_ms(&self) -> i64 {
        match self {
            Self::Entry(found) => found.registered_ms,
            Self::Set(set) => set.registered_ms,
            Self::Folder(folder) => folder.registered_ms,
            Self::Association(association) => association.registered_ms,
        }
    }

    /// The patient it names; an association names none.
    pub(crate) fn patient(&self) -> Option<&cpb::Identifier> {
        match self {
            Self::Entry(found) => found.entry.patient_id.as_ref(),
            Self::Set(set) => set.set.patient_id.as_ref(),
            Self::Folder(folder) => folder.folder.patient_id.as_ref(),
            Self::Association(_) => None,
        }
    }

    /// The counter of its kind.
    pub(crate) fn count<'a>(&self, counts: &'a mut pb::ObjectCounts) -> &'a mut u64 {
        match self {
            Self::Entry(_) => &mut counts.entries,
            Self::Set(_) => &mut counts.submission_sets,
            Self::Folder(_) => &mut counts.folders,
            Self::Association(_) => &mut counts.associations,
        }
    }

    /// Puts it into an answer, with its metadata or as a reference (ITI-18 returnType).
    pub(crate) fn put(self, objects: &mut pb::RegistryObjects, as_ref: bool) {
        if as_ref {
            objects.object_refs.push(self.object_ref());
            return;
        }
        match self {
            Self::Entry(found) => objects.entries.push(found.entry),
            Self::Set(set) => objects.submission_sets.push(set.set),
            Self::Folder(folder) => objects.folders.push(folder.folder),
            Self::Association(found) => objects.associations.push(found.association),
        }
    }

    fn object_ref(self) -> pb::ObjectRef {
        let (entry_uuid, home_community_id) = match self {
            Self::Entry(found) => (found.entry.entry_uuid, found.entry.home_community_id),
            Self::Set(set) => (set.set.entry_uuid, set.set.home_community_id),
            Self::Folder(folder) => (folder.folder.entry_uuid, folder.folder.home_community_id),
            Self::Association(found) => {
                let association = found.association;
                (association.entry_uuid, association.home_community_id)
            }
        };
        pb::ObjectRef {
            entry_uuid,
            home_community_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_one_of_japan() {
        let day = |dtm| japanese_day(dtm).map(|day| day.to_string());
        assert_eq!(day("20250531150000").as_deref(), Some("2025-06-01"));
        assert_eq!(day("202505311459").as_deref(), Some("2025-05-31"));
        assert_eq!(day("20250531").as_deref(), Some("2025-05-31"));
        for vague in ["", "2025", "202505", "20251399"] {
            assert_eq!(day(vague), None, "{vague}");
        }
    }
}
