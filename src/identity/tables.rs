//! What identity keeps.
//!
//! | table | key | secondary keys |
//! |---|---|---|
//! | `patient` | tag of the identifier | 1: linkage id, tag; 2: survivor's tag, tag (merged away only) |
//! | `review` | the two patients' tags, smaller first | 1: task id; 2: closed, priority, age; 3: decision ids |
//! | `link-event` | event id | 1: linkage id, event id; 2: tag, event id |
//! | `retired` | linkage id | – |
//! | `load` | tag of caller and idempotency key | – |

use std::collections::BTreeSet;

use crate::error::{Error, Reason, Result};
use crate::store::{IndexKey, KeyBuilder, Row, TableId, Tag};
use crate::types::LinkageId;
use crate::wire::pb::common as cpb;
use crate::wire::pb::identity as pb;

use super::linkage::{Event, EventId, Move, Record};
use super::search::PatientTag;

/// A patient record, as fed, with the person it belongs to.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PatientRow {
    /// Keyed hash of the identifier.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) tag: Vec<u8>,
    /// The record byte for byte as the source sent it.
    #[prost(message, optional, tag = "2")]
    pub(crate) patient: Option<pb::Patient>,
    /// The person's linkage id, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) linkage: Vec<u8>,
    /// Why it belongs to that person; absent for the first record.
    #[prost(message, optional, tag = "4")]
    pub(crate) evidence: Option<pb::MatchEvidence>,
    /// Tags of patients a steward said are other people: never linked again.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub(crate) not_same: Vec<Vec<u8>>,
    /// The record it was merged into; empty if it was not.
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) merged_into: Vec<u8>,
    /// The event that merged it.
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) merged_by: Vec<u8>,
    /// The event that put it under its linkage id.
    #[prost(bytes = "vec", tag = "8")]
    pub(crate) moved_by: Vec<u8>,
}

impl PatientRow {
    /// Secondary key: the patients of one linkage id.
    pub(crate) const BY_LINKAGE: u8 = 1;
    /// Secondary key: the patients merged into one.
    pub(crate) const BY_SURVIVOR: u8 = 2;

    /// The record as linking sees it.
    ///
    /// # Errors
    /// [`Reason::IntegrityFailure`] if the row is not one this program wrote.
    pub(crate) fn record(&self) -> Result<Record> {
        let identifier = self
            .patient
            .as_ref()
            .and_then(|one| one.identifier.as_ref());
        let domain = identifier.map(|one| one.assigning_authority.clone());
        let merged = match self.merged_into.is_empty() {
            true => None,
            false => Some((sixteen(&self.merged_into)?, sixteen(&self.merged_by)?)),
        };
        let not_same = self.not_same.iter().map(|tag| sixteen(tag));
        Ok(Record {
            tag: sixteen(&self.tag)?,
            domain: domain.unwrap_or_default(),
            linkage: LinkageId::from_bytes(sixteen(&self.linkage)?),
            moved_by: sixteen(&self.moved_by).unwrap_or_default(),
            merged,
            not_same: not_same.collect::<Result<BTreeSet<_>>>()?,
        })
    }

    /// Takes over what linking says. A record merged away answers to its survivor, `replaced_by`.
    pub(crate) fn take(&mut self, record: &Record, replaced_by: Option<cpb::Identifier>) {
        self.linkage = record.linkage.to_bytes().to_vec();
        self.moved_by = record.moved_by.to_vec();
        self.not_same = record.not_same.iter().map(|tag| tag.to_vec()).collect();
        let was = !self.merged_into.is_empty();
        let (into, by) = match record.merged {
            Some((into, by)) => (into.to_vec(), by.to_vec()),
            None => (Vec::new(), Vec::new()),
        };
        self.merged_into = into;
        self.merged_by = by;
        if let Some(patient) = &mut self.patient
            && was == record.merged.is_none()
        {
            // Only records that were active are merged, so this restores exactly.
            patient.inactive = record.merged.is_some();
            patient.replaced_by = replaced_by;
        }
    }

    /// The record's identifier.
    pub(crate) fn identifier(&self) -> Option<&cpb::Identifier> {
        self.patient.as_ref()?.identifier.as_ref()
    }
}

impl Row for PatientRow {
    const TABLE: TableId = TableId(16);
    const NAME: &'static str = "patient";
    const INDEX_VERSION: u16 = 2;

    fn key(&self) -> Vec<u8> {
        self.tag.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        let key = KeyBuilder::new()
            .fixed(&self.linkage)
            .fixed(&self.tag)
            .build();
        let mut keys = vec![IndexKey::new(Self::BY_LINKAGE, key)];
        if !self.merged_into.is_empty() {
            let key = KeyBuilder::new()
                .fixed(&self.merged_into)
                .fixed(&self.tag)
                .build();
            keys.push(IndexKey::new(Self::BY_SURVIVOR, key));
        }
        keys
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.tag)
    }
}

/// Something a steward must look at: a pair, a chart, or a split that needs a second person.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReviewRow {
    /// The smaller tag. Of a chart, the tag; of an approval, the task's id.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) first: Vec<u8>,
    /// The larger tag. Of a chart, the tag again; of an approval, the linkage id.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) second: Vec<u8>,
    /// The task's id, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) id: Vec<u8>,
    /// What agrees and what does not.
    #[prost(message, optional, tag = "4")]
    pub(crate) evidence: Option<pb::MatchEvidence>,
    /// `pb::ReviewState`.
    #[prost(enumeration = "pb::ReviewState", tag = "5")]
    pub(crate) state: i32,
    /// When it came up, Unix milliseconds.
    #[prost(int64, tag = "6")]
    pub(crate) created_ms: i64,
    /// What was decided, newest last.
    #[prost(message, repeated, tag = "7")]
    pub(crate) decisions: Vec<pb::ReviewDecisionRecord>,
    /// `pb::ReviewKind`; 0 is a possible duplicate.
    #[prost(enumeration = "pb::ReviewKind", tag = "8")]
    pub(crate) kind: i32,
    /// 0 to 100.
    #[prost(uint32, tag = "9")]
    pub(crate) priority: u32,
    /// The steward who has it; empty if nobody.
    #[prost(string, tag = "10")]
    pub(crate) assignee: String,
    /// The split that waits for a second person.
    #[prost(message, optional, tag = "11")]
    pub(crate) proposal: Option<Proposal>,
}

/// A split somebody proposed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Proposal {
    /// The person, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) linkage: Vec<u8>,
    /// Tags, group by group.
    #[prost(message, repeated, tag = "2")]
    pub(crate) groups: Vec<TagGroup>,
    /// Who proposed it.
    #[prost(message, optional, tag = "3")]
    pub(crate) by: Option<cpb::PersonRef>,
    /// Why.
    #[prost(string, tag = "4")]
    pub(crate) reason: String,
}

/// Records of one group.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TagGroup {
    /// Their tags.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) tags: Vec<Vec<u8>>,
}

impl ReviewRow {
    /// Secondary key: the task's id.
    pub(crate) const BY_ID: u8 = 1;
    /// Secondary key: open before closed, then the highest priority, then the oldest.
    pub(crate) const BY_RANK: u8 = 2;
    /// Secondary key: a decision's id.
    pub(crate) const BY_DECISION: u8 = 3;

    /// The primary key of a pair, whichever way round it is given.
    pub(crate) fn pair(a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<u8>) {
        if a <= b {
            (a.to_vec(), b.to_vec())
        } else {
            (b.to_vec(), a.to_vec())
        }
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(
            self.state(),
            pb::ReviewState::Decided | pb::ReviewState::Obsolete
        )
    }

    /// The kind; rows of the first version have none and are pairs.
    pub(crate) fn what(&self) -> pb::ReviewKind {
        match self.kind() {
            pb::ReviewKind::Unspecified => pb::ReviewKind::PossibleDuplicate,
            kind => kind,
        }
    }
}

impl Row for ReviewRow {
    const TABLE: TableId = TableId(17);
    const NAME: &'static str = "review";
    const INDEX_VERSION: u16 = 2;

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new()
            .fixed(&self.first)
            .fixed(&self.second)
            .build()
    }

    fn index(&self) -> Vec<IndexKey> {
        let rank = KeyBuilder::new()
            .u8(u8::from(self.is_closed()))
            .u8(100 - u8::try_from(self.priority.min(100)).unwrap_or(100))
            .i64(self.created_ms)
            .fixed(&self.id)
            .build();
        let mut keys = vec![
            IndexKey::new(Self::BY_ID, self.id.clone()),
            IndexKey::new(Self::BY_RANK, rank),
        ];
        let decisions = self.decisions.iter();
        keys.extend(
            decisions
                .filter_map(|one| uuid::Uuid::parse_str(&one.decision_id).ok())
                .map(|id| IndexKey::new(Self::BY_DECISION, id.as_bytes().to_vec())),
        );
        keys
    }
}

/// Something that happened to persons. Written once, never changed: a row's version is its place in
/// the order of all.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LinkEventRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    /// What it was.
    #[prost(enumeration = "pb::PersonEventKind", tag = "2")]
    pub(crate) kind: i32,
    /// When, Unix milliseconds.
    #[prost(int64, tag = "3")]
    pub(crate) recorded_ms: i64,
    /// Every record concerned, moved or not.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) tags: Vec<Vec<u8>>,
    /// Every linkage id concerned.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub(crate) linkages: Vec<Vec<u8>>,
    /// Records that came to another person.
    #[prost(message, repeated, tag = "6")]
    pub(crate) moves: Vec<MoveRow>,
    /// Pairs: merged away, survivor.
    #[prost(message, repeated, tag = "7")]
    pub(crate) merged: Vec<PairRow>,
    /// Pairs: no longer merged away, former survivor.
    #[prost(message, repeated, tag = "8")]
    pub(crate) unmerged: Vec<PairRow>,
    /// Pairs marked as not the same.
    #[prost(message, repeated, tag = "9")]
    pub(crate) marked: Vec<PairRow>,
    /// Pairs no longer marked.
    #[prost(message, repeated, tag = "10")]
    pub(crate) unmarked: Vec<PairRow>,
    /// Pairs: retired linkage id, where it went.
    #[prost(message, repeated, tag = "11")]
    pub(crate) retired: Vec<PairRow>,
    /// Linkage ids in use again.
    #[prost(bytes = "vec", repeated, tag = "12")]
    pub(crate) restored: Vec<Vec<u8>>,
    /// Why the matcher did it.
    #[prost(message, optional, tag = "13")]
    pub(crate) evidence: Option<pb::MatchEvidence>,
    /// Who did it; absent when the matcher did.
    #[prost(message, optional, tag = "14")]
    pub(crate) actor: Option<cpb::PersonRef>,
    /// Reason given.
    #[prost(string, tag = "15")]
    pub(crate) reason: String,
    /// The event taken back.
    #[prost(bytes = "vec", tag = "16")]
    pub(crate) undoes: Vec<u8>,
    /// Domain of a new record.
    #[prost(string, tag = "17")]
    pub(crate) domain: String,
}

/// A record that came to another person.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MoveRow {
    /// The record.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) tag: Vec<u8>,
    /// Where it was; empty if it is new.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) from: Vec<u8>,
    /// Where it is.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) to: Vec<u8>,
    /// The event that had put it where it was.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) before: Vec<u8>,
    /// The event that counts as having put it where it is.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) after: Vec<u8>,
}

/// Two of a kind.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PairRow {
    /// One.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) a: Vec<u8>,
    /// The other.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) b: Vec<u8>,
}

impl LinkEventRow {
    /// Secondary key: the events of a linkage id.
    pub(crate) const BY_LINKAGE: u8 = 1;
    /// Secondary key: the events of a record.
    pub(crate) const BY_TAG: u8 = 2;

    /// The row of an event.
    pub(crate) fn new(event: &Event, kind: pb::PersonEventKind, now: jiff::Timestamp) -> Self {
        let pairs = |pairs: &[(PatientTag, PatientTag)]| {
            pairs
                .iter()
                .map(|(a, b)| PairRow::new(a, b))
                .collect::<Vec<_>>()
        };
        let retired = event.retired.iter();
        let mut row = Self {
            id: event.id.to_vec(),
            kind: kind.into(),
            recorded_ms: now.as_millisecond(),
            moves: event.moves.iter().map(MoveRow::new).collect(),
            merged: pairs(&event.merged),
            unmerged: pairs(&event.unmerged),
            marked: pairs(&event.marked),
            unmarked: pairs(&event.unmarked),
            retired: retired
                .map(|(old, into)| PairRow::new(&old.to_bytes(), &into.to_bytes()))
                .collect(),
            restored: event
                .restored
                .iter()
                .map(|one| one.to_bytes().to_vec())
                .collect(),
            domain: event.domain.clone(),
            ..Self::default()
        };
        let linkages = row.moves.iter().flat_map(|step| [&step.from, &step.to]);
        row.linkages = linkages.filter(|one| !one.is_empty()).cloned().collect();
        let pairs = [&row.merged, &row.unmerged, &row.marked, &row.unmarked];
        let pairs = pairs.into_iter().flatten().flat_map(|one| [&one.a, &one.b]);
        row.tags = row
            .moves
            .iter()
            .map(|step| &step.tag)
            .chain(pairs)
            .cloned()
            .collect();
        row.tidied()
    }

    /// The row of an event that moved nobody: a record was revised or withdrawn.
    pub(crate) fn of_record(
        id: EventId,
        row: &PatientRow,
        kind: pb::PersonEventKind,
        now: jiff::Timestamp,
    ) -> Self {
        Self {
            id: id.to_vec(),
            kind: kind.into(),
            recorded_ms: now.as_millisecond(),
            tags: vec![row.tag.clone()],
            linkages: vec![row.linkage.clone()],
            ..Self::default()
        }
    }

    /// With every tag and linkage id once.
    pub(crate) fn tidied(mut self) -> Self {
        for list in [&mut self.tags, &mut self.linkages] {
            list.sort_unstable();
            list.dedup();
        }
        self
    }

    /// The event.
    ///
    /// # Errors
    /// [`Reason::IntegrityFailure`] if the row is not one this program wrote.
    pub(crate) fn event(&self) -> Result<Event> {
        let pairs = |rows: &[PairRow]| -> Result<Vec<(PatientTag, PatientTag)>> {
            rows.iter()
                .map(|row| Ok((sixteen(&row.a)?, sixteen(&row.b)?)))
                .collect()
        };
        let linkages = |(a, b)| (LinkageId::from_bytes(a), LinkageId::from_bytes(b));
        let restored = self.restored.iter();
        Ok(Event {
            id: sixteen(&self.id)?,
            domain: self.domain.clone(),
            moves: self
                .moves
                .iter()
                .map(MoveRow::step)
                .collect::<Result<_>>()?,
            merged: pairs(&self.merged)?,
            unmerged: pairs(&self.unmerged)?,
            marked: pairs(&self.marked)?,
            unmarked: pairs(&self.unmarked)?,
            retired: pairs(&self.retired)?.into_iter().map(linkages).collect(),
            restored: restored
                .map(|one| sixteen(one).map(LinkageId::from_bytes))
                .collect::<Result<_>>()?,
            contradicts: false,
        })
    }
}

impl MoveRow {
    fn new(step: &Move) -> Self {
        Self {
            tag: step.tag.to_vec(),
            from: step
                .from
                .map(|from| from.to_bytes().to_vec())
                .unwrap_or_default(),
            to: step.to.to_bytes().to_vec(),
            before: step.before.to_vec(),
            after: step.after.to_vec(),
        }
    }

    fn step(&self) -> Result<Move> {
        let from = match self.from.is_empty() {
            true => None,
            false => Some(LinkageId::from_bytes(sixteen(&self.from)?)),
        };
        Ok(Move {
            tag: sixteen(&self.tag)?,
            from,
            to: LinkageId::from_bytes(sixteen(&self.to)?),
            before: sixteen(&self.before)?,
            after: sixteen(&self.after)?,
        })
    }
}

impl PairRow {
    fn new(a: &[u8; 16], b: &[u8; 16]) -> Self {
        Self {
            a: a.to_vec(),
            b: b.to_vec(),
        }
    }
}

impl Row for LinkEventRow {
    const TABLE: TableId = TableId(18);
    const NAME: &'static str = "link-event";

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        let key = |of: &Vec<u8>| KeyBuilder::new().fixed(of).fixed(&self.id).build();
        let linkages = self.linkages.iter().map(key);
        let tags = self.tags.iter().map(key);
        let linkages = linkages.map(|key| IndexKey::new(Self::BY_LINKAGE, key));
        linkages
            .chain(tags.map(|key| IndexKey::new(Self::BY_TAG, key)))
            .collect()
    }
}

/// A linkage id that nobody has any more.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RetiredRow {
    /// The id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) linkage: Vec<u8>,
    /// The id that its records went to.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) into: Vec<u8>,
    /// The event that retired it.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) by: Vec<u8>,
}

impl RetiredRow {
    /// Secondary key: the ids that went into one.
    pub(crate) const BY_INTO: u8 = 1;
}

impl Row for RetiredRow {
    const TABLE: TableId = TableId(19);
    const NAME: &'static str = "retired";

    fn key(&self) -> Vec<u8> {
        self.linkage.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        let key = KeyBuilder::new()
            .fixed(&self.into)
            .fixed(&self.linkage)
            .build();
        vec![IndexKey::new(Self::BY_INTO, key)]
    }
}

/// How far a load has come.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LoadRow {
    /// Keyed hash of caller and idempotency key.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    /// Counts so far, with the position that is durable.
    #[prost(message, optional, tag = "2")]
    pub(crate) counts: Option<pb::LoadCounts>,
    /// When the load may be forgotten, Unix seconds.
    #[prost(int64, tag = "3")]
    pub(crate) expires_unix_seconds: i64,
}

impl Row for LoadRow {
    const TABLE: TableId = TableId(20);
    const NAME: &'static str = "load";

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }
}

/// 16 bytes of a row.
///
/// # Errors
/// [`Reason::IntegrityFailure`] if there are not 16.
pub(crate) fn sixteen(bytes: &[u8]) -> Result<EventId> {
    bytes.try_into().map_err(|_| {
        Error::new(
            Reason::IntegrityFailure,
            "a stored record is not one of this program",
        )
    })
}
