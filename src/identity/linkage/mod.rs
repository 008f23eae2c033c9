//! Who is whom: records, persons, and what may happen to them. Pure: no store, no clock, no chance.
//!
//! A *record* is a patient identifier with what its source states. A *person* is the set of records
//! under one linkage id. An [`Operation`] is judged against a [`State`] and gives an [`Event`]; the
//! state is a fold over events ([`State::apply`]), so whatever happened can be told, and taken back.
//!
//! | operation | what it does |
//! |---|---|
//! | [`Operation::Add`] | a new record, alone or joining a person |
//! | [`Operation::Join`] | the matcher finds whose a known record is |
//! | [`Operation::Merge`] | A40: two identifiers of one domain are one patient; the subsumed one ends |
//! | [`Operation::Link`] | A24: the persons of two records are one |
//! | [`Operation::Unlink`] | A37: a record leaves its person |
//! | [`Operation::Split`] | a person becomes several |
//! | [`Operation::Separate`] | two records are not one person, and are never linked again |
//! | [`Operation::Reverse`] | takes an event back: unmerge, undo |
//!
//! What holds in every state: a record is of exactly one person; a subsumed record is of its
//! survivor's person; two records with a not-same mark are never of one person; a retired linkage id
//! has no records. A retired id is never given out again; only taking an event back brings the
//! records of then under it again.
//!
//! Taking back ([`Operation::Reverse`]): every record whose last move was the event goes where it was;
//! what later events moved stays, because somebody decided it later.

mod plan;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use plan::plan;
pub(crate) use state::{Event, Move, Record, State};

use crate::types::LinkageId;

use super::search::PatientTag;

/// The id of an event, and of the merge or decision that it is.
pub(crate) type EventId = [u8; 16];

/// Not-same marks that one split may make at most: every record of a group with every record of the
/// others.
pub(super) const MAX_MARKS: usize = 10_000;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A record nobody knows yet: of a person, or of one of its own.
    Add {
        /// The record.
        tag: PatientTag,
        /// Its domain.
        domain: String,
        /// The person it joins.
        joins: Option<LinkageId>,
    },
    /// The matcher found whose a known record is: its person goes into that one.
    Join {
        /// The record.
        tag: PatientTag,
        /// The person; its records need not be known here.
        to: LinkageId,
    },
    /// Two identifiers of one domain are one patient (ITI-8 A40).
    Merge {
        /// PID-3: the one that stays.
        survivor: PatientTag,
        /// MRG-1: the one that goes.
        subsumed: PatientTag,
    },
    /// Two records are of one person (ITI-30 A24).
    Link {
        /// Its person's linkage id stays.
        first: PatientTag,
        /// Its person's linkage id is retired.
        second: PatientTag,
    },
    /// A record is not of its person (ITI-30 A37).
    Unlink {
        /// A record of the person.
        first: PatientTag,
        /// The one that leaves, under a new linkage id.
        second: PatientTag,
        /// Never link the two again.
        mark: bool,
    },
    /// The person is several.
    Split {
        /// The person.
        linkage: LinkageId,
        /// Every record that is not subsumed, in one group each; the first keeps the linkage id.
        groups: Vec<Vec<PatientTag>>,
    },
    /// Two records are not one person.
    Separate {
        /// One.
        first: PatientTag,
        /// The other.
        second: PatientTag,
    },
    /// An event did not hold.
    Reverse(Event),
}

/// Why an operation is refused; nothing changes then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// A record that is not known.
    #[error("the record is not known")]
    Unknown,
    /// A record twice.
    #[error("the two are one and the same")]
    Same,
    /// Only identifiers of one domain are merged.
    #[error("the identifiers are of different domains")]
    OtherDomain,
    /// The record was merged away.
    #[error("the identifier was merged away already")]
    Subsumed,
    /// The records are of one person already.
    #[error("the two are linked already")]
    Linked,
    /// The records are not of one person.
    #[error("the two are not linked")]
    NotLinked,
    /// A steward said that two of the records are different people.
    #[error("a steward said that they are different people; that must be undone first")]
    Marked,
    /// The two identifiers are one patient at their source.
    #[error("one of the two was merged into the other; take the merge back instead")]
    Merged,
    /// The groups are not a division of the person.
    #[error("every identifier of the person must be in exactly one of two groups or more")]
    Groups,
}
