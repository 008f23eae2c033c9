//! Changes of identifier sets, in the order they were committed (ITI-10, ITI-46, ITI-94). The ledger is
//! the queue: who was away goes on behind the last change they were told of, over any restart.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::error::Result;
use crate::store::{AppliedWrite, Follower, Frame, Row as _, Sequence};
use crate::types::{AssigningAuthority, HomeCommunityId, LinkageId, PatientIdentifier};
use crate::wire::pb::identity as pb;

use super::history::Until;
use super::search::PatientTag;
use super::service::Identity;
use super::tables::{LinkEventRow, sixteen};
use super::traits::{identifier, identifier_message};

/// How far the index has got: a frame can be read from the ledger a moment before.
#[derive(Debug)]
pub(super) struct Applied(watch::Sender<Sequence>);

impl Applied {
    pub(super) fn at(sequence: Sequence) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(sequence)))
    }
}

impl Follower for Applied {
    fn applied(&self, sequence: Sequence, _: &[AppliedWrite]) {
        self.0.send_replace(sequence);
    }
}

/// Whose changes somebody wants to know.
#[derive(Clone, Debug)]
pub struct Interest {
    /// Domains whose identifiers are told; none means those of the community.
    pub domains: Vec<AssigningAuthority>,
    /// Domains of the caller's community: only persons who have an identifier there are told of.
    pub own: BTreeSet<AssigningAuthority>,
    /// The community, whose linkage ids are told.
    pub community: HomeCommunityId,
}

impl Interest {
    fn wants(&self, authority: &AssigningAuthority) -> bool {
        match self.domains.is_empty() {
            true => self.own.contains(authority),
            false => self.domains.contains(authority),
        }
    }
}

/// One set that changed.
#[derive(Clone, Debug)]
pub struct SetChange {
    /// A record concerned, for the audit.
    pub tag: [u8; 16],
    /// The set as it was after the change.
    pub set: pb::IdentifierSet,
}

impl Identity {
    /// The sets that a frame changed, as they were right after it: of a split, two.
    ///
    /// # Errors
    /// The store.
    pub async fn changed_sets(&self, frame: &Frame, interest: &Interest) -> Result<Vec<SetChange>> {
        let mut changes = Vec::new();
        let writes = frame.writes.iter();
        let writes: Vec<_> = writes
            .filter(|one| one.table == LinkEventRow::TABLE)
            .collect();
        if writes.is_empty() {
            return Ok(changes);
        }
        let mut applied = self.applied.0.subscribe();
        // The sender lives as long as this; an error cannot be.
        let seen = applied.wait_for(|last| *last >= frame.sequence).await;
        drop(seen.map_err(crate::error::Error::internal)?);
        for write in writes {
            if let Some(row) = write.row::<LinkEventRow>()? {
                self.sets_of(&row, frame.sequence, interest, &mut changes)?;
            }
        }
        Ok(changes)
    }

    fn sets_of(
        &self,
        row: &LinkEventRow,
        at: Sequence,
        interest: &Interest,
        changes: &mut Vec<SetChange>,
    ) -> Result<()> {
        let kind = row.kind();
        let event = row.event()?;
        let moved = !event.moves.is_empty() || !event.merged.is_empty();
        let set_changed =
            moved || !event.unmerged.is_empty() || kind == pb::PersonEventKind::Withdrawn;
        if !set_changed {
            return Ok(());
        }
        let mut linkages = BTreeSet::new();
        for linkage in &row.linkages {
            linkages.insert(LinkageId::from_bytes(sixteen(linkage)?));
        }
        // What ended is told with the set it went into.
        for (ended, _) in &event.retired {
            linkages.remove(ended);
        }
        let concerned: Vec<PatientTag> = row
            .tags
            .iter()
            .map(|tag| sixteen(tag))
            .collect::<Result<_>>()?;
        for linkage in linkages {
            let members = self.members_at(linkage, Until::Sequence(at))?;
            let known = self.known(&members)?;
            let left: Vec<PatientTag> = event
                .moves
                .iter()
                .filter(|step| step.from == Some(linkage))
                .map(|step| step.tag)
                .chain(event.merged.iter().map(|(subsumed, _)| *subsumed))
                .collect();
            let before = self.known(&left)?;
            let own = |one: &PatientIdentifier| interest.own.contains(&one.authority);
            if !known.iter().any(own) && !before.iter().any(own) {
                continue;
            }
            let shared = known.iter().any(own);
            let told = known
                .iter()
                .filter(|one| shared && interest.wants(&one.authority));
            let identifiers: Vec<_> = told.map(identifier_message).collect();
            let former = event.retired.iter().filter(|(_, into)| *into == linkage);
            let former = former.map(|(old, _)| self.pseudonym(*old, &interest.community));
            changes.push(SetChange {
                tag: members
                    .first()
                    .or(concerned.first())
                    .copied()
                    .unwrap_or_default(),
                set: pb::IdentifierSet {
                    linkage_id: self.pseudonym(linkage, &interest.community)?,
                    identifiers,
                    cause: kind.into(),
                    recorded: jiff::Timestamp::from_millisecond(row.recorded_ms)
                        .ok()
                        .map(crate::wire::timestamp),
                    former_linkage_ids: former.collect::<Result<_>>()?,
                },
            });
        }
        Ok(())
    }

    fn known(&self, tags: &[PatientTag]) -> Result<Vec<PatientIdentifier>> {
        let mut known = Vec::new();
        for tag in tags {
            let found = self.identifier_of(tag)?;
            known.extend(found.and_then(|one| identifier(Some(&one), "identifier").ok()));
        }
        known.sort();
        Ok(known)
    }
}
