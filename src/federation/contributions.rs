//! What communities answered about their patients for the emergency summary, kept at the hub for when
//! they do not answer.
//!
//! A contribution is about one identifier, in a domain of the community that answered: who is linked to
//! whom is decided when it is read, so an unlink or a split needs nothing here. It is sealed under the
//! patient's key, and never shown as it is: `emergency` judges it again for each reader.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prost::Message as _;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::error::Result;
use crate::store::{Commit, Expect, Row as _, Store, StoreError, Write};
use crate::types::{HomeCommunityId, PatientIdentifier};
use crate::wire::pb::emergency::ItemSource;
use crate::wire::pb::federation as pb;

use super::tables::{ContributionRow, HoldingRow};

#[cfg(test)]
mod tests;

/// Answers on their way into the store; more are not kept.
const UNDER_WAY: usize = 16;
/// Octets of one contribution; a larger one is not kept.
const MAX_BYTES: usize = 1 << 20;
/// Between two looks for what is too old to be shown.
const SWEEP: Duration = Duration::from_hours(1);
/// Rows looked at and deleted together.
const PAGE: usize = 256;

/// What is kept of communities' answers.
#[derive(Debug)]
pub struct Contributions {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// The oldest that is shown; zero: nothing is kept.
    shown_for: Duration,
    /// An unchanged one is written anew after this long.
    renewed_after: Duration,
    /// Keeping an answer, and taking out what its community withdrew, are done in turn: what a
    /// withdrawal took out must not come back with an answer of before it.
    turn: Arc<Mutex<()>>,
    room: Arc<Semaphore>,
}

/// When a community was asked, and what was known then of what it holds.
#[derive(Clone, Debug)]
pub struct Mark {
    asked: Timestamp,
    /// For each identifier, the frame of its newest notice.
    holdings: Vec<u64>,
}

/// What a community answered about one identifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The answer, with what its documents are judged by.
    pub said: pb::GetSummaryItemsResponse,
    /// When it was asked, by this node's clock.
    pub asked: Timestamp,
}

impl Contributions {
    /// Contributions kept in `store`, shown for so long, written anew after so long.
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        shown_for: Duration,
        renewed_after: Duration,
    ) -> Self {
        Self {
            store,
            clock,
            shown_for,
            renewed_after,
            turn: Arc::default(),
            room: Arc::new(Semaphore::new(UNDER_WAY)),
        }
    }

    /// How long an unchanged contribution stands before it is written anew.
    pub fn renewed_after(&self) -> Duration {
        self.renewed_after
    }

    /// To be taken before a community is asked, and given to [`Contributions::keep`] with its answer.
    ///
    /// # Errors
    /// The store.
    pub fn mark(&self, home: &HomeCommunityId, patients: &[PatientIdentifier]) -> Result<Mark> {
        let holdings = patients.iter().map(|patient| self.holding(home, patient));
        Ok(Mark {
            asked: self.clock.now(),
            holdings: holdings.collect::<Result<_>>()?,
        })
    }

    /// The frame of the newest notice about what `home` holds of `patient`; 0 if there is none.
    fn holding(&self, home: &HomeCommunityId, patient: &PatientIdentifier) -> Result<u64> {
        let key = HoldingRow {
            patient: self.store.keys().patient_tag(patient).to_vec(),
            home_community_id: home.to_string(),
            ..HoldingRow::default()
        }
        .key();
        let row = self.store.get::<HoldingRow>(&key)?;
        Ok(row.map_or(0, |row| row.version.0))
    }

    /// Keeps an answer in the background. It is not kept if it does not say what its documents are
    /// judged by, if it is too large, or if too many are on their way.
    pub fn keep(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        home: &HomeCommunityId,
        patients: &[PatientIdentifier],
        (said, mark): (&pb::GetSummaryItemsResponse, &Mark),
    ) {
        if self.shown_for.is_zero() {
            return;
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return;
        };
        let Some(parts) = split(patients.len(), said) else {
            return;
        };
        let whole: Vec<_> = patients
            .iter()
            .zip(&mark.holdings)
            .zip(parts)
            .map(|((patient, holding), said)| ContributionRow {
                patient: self.store.keys().patient_tag(patient).to_vec(),
                home_community_id: home.to_string(),
                said: Some(said),
                asked_ms: mark.asked.as_millisecond(),
                holding: *holding,
            })
            .collect();
        let (this, home, patients) = (Arc::clone(self), home.clone(), patients.to_vec());
        tasks.spawn(async move {
            let _room = room;
            if let Err(error) = this.write(&home, &patients, whole).await {
                tracing::warn!(reason = error.reason().name(), "an answer was not kept");
            }
        });
    }

    async fn write(
        &self,
        home: &HomeCommunityId,
        patients: &[PatientIdentifier],
        rows: Vec<ContributionRow>,
    ) -> Result<()> {
        let rows: Vec<_> = patients.iter().zip(rows).collect();
        let mut worth = false;
        for (_, row) in &rows {
            worth |= self.is_news(row)?;
        }
        if !worth {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let mut writes = Vec::new();
        for (patient, row) in rows {
            // A notice came meanwhile: the answer may be of before it.
            let untouched = self.holding(home, patient)? == row.holding;
            if untouched && row.encoded_len() <= MAX_BYTES && self.is_news(&row)? {
                writes.push(Write::put(&row));
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        let commit = Commit {
            writes,
            ..Commit::default()
        };
        let _committed = self.store.commit(commit).await?;
        Ok(())
    }

    /// Whether a row says something that the one there does not, or says it later by enough.
    fn is_news(&self, row: &ContributionRow) -> Result<bool> {
        let Some(known) = self.store.get::<ContributionRow>(&row.key())? else {
            return Ok(true);
        };
        let known = known.row;
        let withheld = |row: &ContributionRow| {
            let said = row.said.as_ref();
            said.is_none_or(|said| said.partly_withheld)
        };
        let is_young = u128::try_from(row.asked_ms.saturating_sub(known.asked_ms))
            .is_ok_and(|apart| apart < self.renewed_after.as_millis());
        let is_like = known.holding == row.holding && (withheld(row) || !withheld(&known));
        Ok(row.asked_ms >= known.asked_ms && !(is_young && is_like))
    }

    /// What `home` said of each of `patients`, if it was asked no longer ago than `at_most`, and than
    /// contributions are shown at all.
    ///
    /// # Errors
    /// The store.
    pub fn of(
        &self,
        home: &HomeCommunityId,
        patients: &[PatientIdentifier],
        at_most: Duration,
    ) -> Result<Vec<Option<Contribution>>> {
        let oldest = at_most.min(self.shown_for);
        let one = |patient: &PatientIdentifier| {
            let key = ContributionRow {
                patient: self.store.keys().patient_tag(patient).to_vec(),
                home_community_id: home.to_string(),
                ..ContributionRow::default()
            }
            .key();
            let row = self.store.get::<ContributionRow>(&key)?;
            Ok(row.and_then(|row| self.young_enough(row.row, oldest)))
        };
        patients.iter().map(one).collect()
    }

    fn young_enough(&self, row: ContributionRow, oldest: Duration) -> Option<Contribution> {
        let asked = Timestamp::from_millisecond(row.asked_ms).ok()?;
        let age = self.clock.now().duration_since(asked);
        // Asked in the future: the clock was set back, and nobody knows how old it is.
        let age = Duration::try_from(age).ok()?;
        let said = row.said.filter(|_| age <= oldest && !oldest.is_zero())?;
        Some(Contribution { said, asked })
    }

    /// The turn to take out what communities withdrew; to be held until that is committed.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// The rows without what `home` says in `notices` that it changed, deprecated or removed.
    ///
    /// # Errors
    /// The store.
    pub(super) fn without_withdrawn(
        &self,
        home: &HomeCommunityId,
        notices: &[(PatientIdentifier, pb::HoldingNotice)],
    ) -> Result<Vec<Write>> {
        let mut changed: HashMap<Vec<u8>, ContributionRow> = HashMap::new();
        for (patient, notice) in notices {
            if notice.withdrawn.is_empty() {
                continue;
            }
            let key = ContributionRow {
                patient: self.store.keys().patient_tag(patient).to_vec(),
                home_community_id: home.to_string(),
                ..ContributionRow::default()
            }
            .key();
            let known = match changed.remove(&key) {
                Some(row) => Some(row),
                None => self.store.get::<ContributionRow>(&key)?.map(|row| row.row),
            };
            let Some(mut row) = known else { continue };
            if let Some(said) = &mut row.said {
                let is_gone = |id: &str| notice.withdrawn.iter().any(|gone| gone == id);
                *said = without(std::mem::take(said), is_gone);
            }
            changed.insert(key, row);
        }
        Ok(changed.values().map(Write::put).collect())
    }

    /// Deletes what is too old to be shown, again and again, until told to stop.
    pub async fn keep_swept(self: Arc<Self>, stop: CancellationToken) {
        loop {
            match self.sweep().await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "old contributions were deleted"),
                Err(error) => {
                    tracing::warn!(reason = error.reason().name(), "contributions not swept");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SWEEP) => {}
            }
        }
    }

    /// Deletes what is too old to be shown; how much that was.
    ///
    /// # Errors
    /// The store.
    pub async fn sweep(&self) -> Result<usize> {
        let (mut after, mut count) = (None, 0);
        loop {
            let page = self
                .store
                .range::<ContributionRow>(&[], after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(count);
            };
            after = Some(last.clone());
            let old = page
                .into_iter()
                .filter(|(_, row)| self.young_enough(row.row.clone(), self.shown_for).is_none());
            let writes: Vec<_> = old
                .map(|(key, row)| {
                    let gone = Write::delete::<ContributionRow>(key);
                    gone.expecting(Expect::Version(row.version))
                })
                .collect();
            let deleted = writes.len();
            if deleted == 0 {
                continue;
            }
            let commit = Commit {
                writes,
                ..Commit::default()
            };
            match self.store.commit(commit).await {
                Ok(_) => count += deleted,
                // One of them was written anew meanwhile; the next sweep looks again.
                Err(StoreError::Conflict) => tracing::debug!("contributions changed meanwhile"),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The documents that something was taken from.
fn documents(sources: &[ItemSource]) -> impl Iterator<Item = &str> {
    let references = sources.iter().map(|source| source.document.as_ref());
    references.map(|document| document.map_or("", |document| document.document_unique_id.as_str()))
}

/// An answer about so many identifiers as one for each of them. None if it does not say whose its
/// documents are, or has something of none of them, or of several.
fn split(
    identifiers: usize,
    said: &pb::GetSummaryItemsResponse,
) -> Option<Vec<pb::GetSummaryItemsResponse>> {
    if said.judged.len() != said.documents.len() {
        return None;
    }
    let empty = pb::GetSummaryItemsResponse {
        as_of: said.as_of,
        partly_withheld: said.partly_withheld,
        truncated: said.truncated,
        ..pb::GetSummaryItemsResponse::default()
    };
    let mut parts = vec![empty; identifiers];
    let mut owners: HashMap<&str, usize> = HashMap::new();
    for (judged, document) in said.judged.iter().zip(&said.documents) {
        let owner = usize::try_from(judged.patient).ok()?;
        let part = parts.get_mut(owner)?;
        let id = judged.entry.as_ref()?.unique_id.as_str();
        let listed = document.document.as_ref()?;
        if listed.document_unique_id != id || owners.insert(id, owner).is_some_and(|at| at != owner)
        {
            return None;
        }
        part.documents.push(document.clone());
        part.judged.push(pb::JudgedDocument {
            patient: 0,
            ..judged.clone()
        });
    }
    let owner = |sources: &[ItemSource]| {
        let mut of = documents(sources).map(|id| owners.get(id).copied());
        let first = of.next()??;
        of.all(|other| other == Some(first)).then_some(first)
    };
    for item in &said.items {
        parts
            .get_mut(owner(&item.sources)?)?
            .items
            .push(item.clone());
    }
    for absence in &said.absences {
        let part = parts.get_mut(owner(&absence.sources)?)?;
        part.absences.push(absence.clone());
    }
    Some(parts)
}

/// An answer without some documents, and without what was taken from them.
pub fn without(
    said: pb::GetSummaryItemsResponse,
    is_gone: impl Fn(&str) -> bool,
) -> pb::GetSummaryItemsResponse {
    let gone = |sources: &[ItemSource]| documents(sources).any(&is_gone);
    let (judged, documents) = said
        .judged
        .into_iter()
        .zip(said.documents)
        .filter(|(judged, _)| {
            let entry = judged.entry.as_ref();
            entry.is_some_and(|entry| !is_gone(&entry.unique_id))
        })
        .unzip();
    let items = said.items.into_iter().map(|mut item| {
        item.past_values
            .retain(|past| !gone(past.source.as_slice()));
        item
    });
    pb::GetSummaryItemsResponse {
        items: items.filter(|item| !gone(&item.sources)).collect(),
        absences: said
            .absences
            .into_iter()
            .filter(|absence| !gone(&absence.sources))
            .collect(),
        documents,
        judged,
        ..said
    }
}
