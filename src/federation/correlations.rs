//! Who of another community is a person here, as that community said when it was asked (ITI-55), for
//! as long as it said; and what this node told its parent so. What has ended is deleted when nobody is
//! told of it any more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::access::Call;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::identity::{Identity, identifier, identifier_message};
use crate::store::{Commit, Expect, Row as _, Store, StoreError, Write};
use crate::types::{HomeCommunityId, LinkageId, PatientIdentifier};
use crate::wire::pb::federation as pb;

use super::tables::{CorrelationRow, HoldingRow, ToldRow};

/// Correlations of one person, or of one identifier of theirs, read at once.
const PAGE: usize = 256;
/// Pages of them that are looked at: more than a person has communities.
const PAGES: usize = 16;

/// How long a correlation is kept at most, whatever is asked and granted.
pub const LONGEST: Duration = Duration::from_hours(7 * 24);

/// How long after a correlation has ended its community is still named as one that may hold something.
const NAMED_AFTER: Duration = Duration::from_hours(30 * 24);

/// How often what has ended is looked for.
const SWEEP: Duration = Duration::from_hours(1);

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Whether a holding is known by a discovery only: regions number their notices from 1.
fn is_by_discovery(row: &HoldingRow) -> bool {
    row.notice
        .as_ref()
        .is_none_or(|notice| notice.sequence == 0)
}

/// Identifiers taken back that are remembered, for answers about them that are still on their way.
const TAKEN_BACK: usize = 1_024;

/// The correlations.
#[derive(Debug)]
pub struct Correlations {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    identity: Arc<Identity>,
    taken_back: Mutex<TakenBack>,
    /// Held while something is kept or taken back, so that neither misses the other.
    turn: tokio::sync::Mutex<()>,
}

/// The last identifiers of others that were taken back, oldest first.
#[derive(Debug, Default)]
struct TakenBack {
    tags: VecDeque<Vec<u8>>,
    /// How many there have been before those.
    before: u64,
}

impl TakenBack {
    fn count(&self) -> TakenBefore {
        TakenBefore(self.before + self.tags.len() as u64)
    }

    fn note(&mut self, tag: Vec<u8>) {
        if self.tags.len() == TAKEN_BACK {
            self.tags.pop_front();
            self.before += 1;
        }
        self.tags.push_back(tag);
    }

    /// Whether any of `tags` may have been taken back since.
    fn has_any(&self, tags: &[Vec<u8>], since: TakenBefore) -> bool {
        let known = usize::try_from(since.0.saturating_sub(self.before)).unwrap_or(usize::MAX);
        let mut since_then = self.tags.iter().skip(known);
        since.0 < self.before || since_then.any(|tag| tags.contains(tag))
    }
}

/// How many identifiers had been taken back at some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenBefore(u64);

/// That a person here is known in another community.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// The identifier here that was asked with.
    pub(super) own: &'a PatientIdentifier,
    /// Who said so.
    pub(super) home: &'a HomeCommunityId,
    /// The identifiers there.
    pub(super) theirs: &'a [PatientIdentifier],
    /// How long it may be kept.
    pub(super) lifetime: Duration,
}

impl Correlations {
    /// Correlations kept in `store`, of persons of `identity`.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, identity: Arc<Identity>) -> Self {
        Self {
            store,
            clock,
            identity,
            taken_back: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// How many identifiers have been taken back by now: to be asked for before a community is asked,
    /// and given to [`Self::keep`] with what it says.
    pub(super) fn taken_before(&self) -> TakenBefore {
        self.taken_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count()
    }

    /// The keyed hash of an identifier.
    pub(super) fn tag(&self, patient: &PatientIdentifier) -> Vec<u8> {
        self.store.keys().patient_tag(patient).to_vec()
    }

    /// Makes rows durable, with the event of `call`.
    ///
    /// # Errors
    /// The store.
    pub async fn commit(&self, call: &Call, rows: Vec<Write>) -> Result<()> {
        call.commit(&self.store, self.clock.now(), rows, None, ())
            .await
    }

    /// Keeps for a time who a person is in another community: from now on that is asked about the person
    /// like one that feeds this node. Tells whether it was kept: not if the community has taken it back
    /// since it was asked, or nobody here has the identifier any more.
    ///
    /// # Errors
    /// The store.
    pub(super) async fn keep(
        &self,
        call: &Call,
        known: &Known<'_>,
        asked: TakenBefore,
    ) -> Result<bool> {
        let _turn = self.turn.lock().await;
        let tags: Vec<_> = known.theirs.iter().map(|one| self.tag(one)).collect();
        let taken_back = self
            .taken_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .has_any(&tags, asked);
        let rows = match taken_back {
            true => Vec::new(),
            false => self.rows_of(known)?,
        };
        if rows.is_empty() {
            return Ok(false);
        }
        self.commit(call, rows).await?;
        Ok(true)
    }

    fn rows_of(&self, known: &Known<'_>) -> Result<Vec<Write>> {
        let Known {
            own,
            home,
            theirs,
            lifetime,
        } = *known;
        let Some(linkage) = self.identity.linkage(own) else {
            return Ok(Vec::new());
        };
        let now = self.clock.now();
        let expires = now.saturating_add(lifetime.min(LONGEST));
        let expires_ms = expires.map_or(0, jiff::Timestamp::as_millisecond);
        let tag = |one: &PatientIdentifier| self.tag(one);
        let row = |theirs: &PatientIdentifier| CorrelationRow {
            linkage: linkage.to_bytes().to_vec(),
            patient: tag(own),
            own: Some(identifier_message(own)),
            home_community_id: home.to_string(),
            theirs: Some(identifier_message(theirs)),
            theirs_tag: tag(theirs),
            expires_ms,
        };
        let holding = |theirs: &PatientIdentifier| HoldingRow {
            patient: tag(theirs),
            home_community_id: home.to_string(),
            notice: Some(pb::HoldingNotice {
                patient_id: Some(identifier_message(theirs)),
                has_documents: true,
                has_summary_items: true,
                changed: Some(crate::wire::timestamp(now)),
                sequence: 0,
                withdrawn: Vec::new(),
            }),
            confirmed_ms: now.as_millisecond(),
        };
        let mut writes = Vec::new();
        let forgotten = now.as_millisecond() - millis(NAMED_AFTER);
        for old in self.rows(linkage)? {
            let anew = theirs.iter().any(|one| tag(one) == old.theirs_tag);
            // What this community said before is answered by what it says now.
            let replaced = old.home_community_id == home.to_string();
            if !anew && (replaced || old.expires_ms < forgotten) {
                writes.push(Write::delete::<CorrelationRow>(old.key()));
            }
        }
        for one in theirs {
            writes.push(Write::put(&row(one)));
            let holding = holding(one);
            // What a region told of its own accord is known better.
            let known = self.store.get::<HoldingRow>(&holding.key())?;
            if known.is_none_or(|known| !known.row.is_told()) {
                writes.push(Write::put(&holding));
            }
        }
        Ok(writes)
    }

    /// The person's identifiers in communities that said so, as long as it holds: not expired, and the
    /// identifier that was asked with still this person's.
    ///
    /// # Errors
    /// The store.
    pub(super) fn of(&self, linkage: LinkageId) -> Result<Vec<PatientIdentifier>> {
        let now = self.clock.now().as_millisecond();
        let mut theirs = Vec::new();
        for row in self.rows(linkage)? {
            if now < row.expires_ms && self.is_of(&row, linkage)? {
                theirs.push(identifier(row.theirs.as_ref(), "theirs")?);
            }
        }
        Ok(theirs)
    }

    /// The communities that knew the person, and whose word has ended: whether they hold anything is
    /// not known until they are asked again.
    ///
    /// # Errors
    /// The store.
    pub(super) fn lapsed(&self, linkage: LinkageId) -> Result<Vec<HomeCommunityId>> {
        let now = self.clock.now().as_millisecond();
        let since = now - millis(NAMED_AFTER);
        let mut homes: Vec<HomeCommunityId> = Vec::new();
        for row in self.rows(linkage)? {
            let ended = (since..=now).contains(&row.expires_ms);
            if ended && self.is_of(&row, linkage)? {
                let home = row.home_community_id.parse().map_err(Error::internal)?;
                if !homes.contains(&home) {
                    homes.push(home);
                }
            }
        }
        Ok(homes)
    }

    /// Whether the identifier that was asked with is still this person's.
    fn is_of(&self, row: &CorrelationRow, linkage: LinkageId) -> Result<bool> {
        let own = identifier(row.own.as_ref(), "own")?;
        Ok(self.identity.linkage(&own) == Some(linkage))
    }

    /// All rows of a person.
    fn rows(&self, linkage: LinkageId) -> Result<Vec<CorrelationRow>> {
        let prefix = linkage.to_bytes();
        let (mut rows, mut after) = (Vec::new(), None);
        for _ in 0..PAGES {
            let store = &self.store;
            let page = store.range::<CorrelationRow>(&prefix, after.as_deref(), PAGE)?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.clone());
            rows.extend(page.into_iter().map(|(_, found)| found.row));
            if !full {
                break;
            }
        }
        Ok(rows)
    }

    /// A community takes back what it said of one of its identifiers.
    ///
    /// # Errors
    /// The store.
    pub async fn take_back(
        &self,
        call: &Call,
        home: &HomeCommunityId,
        theirs: &PatientIdentifier,
    ) -> Result<()> {
        let _turn = self.turn.lock().await;
        let tag = self.store.keys().patient_tag(theirs);
        self.taken_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(tag.to_vec());
        let index = CorrelationRow::BY_THEIRS;
        let rows = self
            .store
            .by_index::<CorrelationRow>(index, &tag, None, PAGE)?;
        let home = home.to_string();
        let rows = rows.into_iter().map(|(_, found)| found.row);
        let mut writes: Vec<Write> = rows
            .filter(|row| row.home_community_id == home)
            .map(|row| Write::delete::<CorrelationRow>(row.key()))
            .collect();
        if !writes.is_empty() {
            let holding = HoldingRow {
                patient: tag.to_vec(),
                home_community_id: home,
                ..HoldingRow::default()
            };
            let known = self.store.get::<HoldingRow>(&holding.key())?;
            if known.is_some_and(|known| is_by_discovery(&known.row)) {
                writes.push(Write::delete::<HoldingRow>(holding.key()));
            }
        }
        self.commit(call, writes).await
    }

    /// Deletes what has ended, again and again, until told to stop.
    pub async fn keep_swept(&self, stop: CancellationToken) {
        loop {
            match self.sweep().await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "correlations that had ended were deleted"),
                Err(error) => {
                    tracing::warn!(reason = error.reason().name(), "correlations not swept");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SWEEP) => {}
            }
        }
    }

    /// Deletes correlations whose communities are not named any more, with what the locator knows by them
    /// alone, and what the parent was told and may not keep any more; how many.
    ///
    /// # Errors
    /// The store.
    pub async fn sweep(&self) -> Result<usize> {
        Ok(self.sweep_correlations().await? + self.sweep_told().await?)
    }

    async fn sweep_correlations(&self) -> Result<usize> {
        let (mut after, mut count) = (None, 0);
        loop {
            // Nothing is kept meanwhile that rests on what is deleted.
            let _turn = self.turn.lock().await;
            let store = &self.store;
            let page = store.range::<CorrelationRow>(&[], after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(count);
            };
            after = Some(last.clone());
            let forgotten = self.clock.now().as_millisecond() - millis(NAMED_AFTER);
            let mut writes = Vec::new();
            // Two that go may rest on one holding: it goes once.
            let mut unheld = BTreeMap::new();
            for (key, found) in page {
                if found.row.expires_ms >= forgotten {
                    continue;
                }
                if let Some(write) = self.unheld(&found.row, forgotten)? {
                    unheld.insert(write.key.clone(), write);
                }
                let gone = Write::delete::<CorrelationRow>(key);
                writes.push(gone.expecting(Expect::Version(found.version)));
                count += 1;
            }
            writes.extend(unheld.into_values());
            self.forget(writes).await?;
        }
    }

    /// The row that takes out of the locator what it knows by a correlation that goes, unless another
    /// that stays rests on it (one that does not ended before `forgotten`, too) or the region told of it
    /// itself.
    fn unheld(&self, gone: &CorrelationRow, forgotten: i64) -> Result<Option<Write>> {
        let index = CorrelationRow::BY_THEIRS;
        let tag = gone.theirs_tag.as_slice();
        let rows = self
            .store
            .by_index::<CorrelationRow>(index, tag, None, PAGE)?;
        let stays = |other: &CorrelationRow| other.expires_ms >= forgotten;
        if rows.iter().any(|(_, other)| stays(&other.row)) {
            return Ok(None);
        }
        let holding = HoldingRow {
            patient: gone.theirs_tag.clone(),
            home_community_id: gone.home_community_id.clone(),
            ..HoldingRow::default()
        };
        let known = self.store.get::<HoldingRow>(&holding.key())?;
        let known = known.filter(|known| is_by_discovery(&known.row));
        Ok(known.map(|known| {
            let gone = Write::delete::<HoldingRow>(holding.key());
            gone.expecting(Expect::Version(known.version))
        }))
    }

    async fn sweep_told(&self) -> Result<usize> {
        let (mut after, mut count) = (None, 0);
        loop {
            let store = &self.store;
            let page = store.range::<ToldRow>(&[], after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(count);
            };
            after = Some(last.clone());
            let now = self.clock.now().as_millisecond();
            let ended = page
                .into_iter()
                .filter(|(_, found)| found.row.expires_ms <= now);
            let writes: Vec<Write> = ended
                .map(|(key, found)| {
                    let gone = Write::delete::<ToldRow>(key);
                    gone.expecting(Expect::Version(found.version))
                })
                .collect();
            count += writes.len();
            self.forget(writes).await?;
        }
    }

    /// Deletes rows that have ended; one that has changed meanwhile is looked at the next time.
    async fn forget(&self, writes: Vec<Write>) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let commit = Commit {
            writes,
            ..Commit::default()
        };
        match self.store.commit(commit).await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict) => {
                tracing::debug!("a correlation changed while it was swept");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The row that remembers that the parent was told of a patient, and for how long it may keep it.
    ///
    /// # Errors
    /// The store.
    pub fn telling(&self, patient: &PatientIdentifier, lifetime: Duration) -> Result<Write> {
        let expires = self.clock.now().saturating_add(lifetime);
        let tag = self.store.keys().patient_tag(patient).to_vec();
        // Told before for longer: it must be taken back as long as that.
        let before = self.store.get::<ToldRow>(&tag)?;
        let before = before.map_or(0, |before| before.row.expires_ms);
        Ok(Write::put(&ToldRow {
            patient: tag,
            expires_ms: expires
                .map_or(0, jiff::Timestamp::as_millisecond)
                .max(before),
        }))
    }

    /// Those of some patients of whom the parent was told, and may still keep it; with the rows that
    /// forget it.
    ///
    /// # Errors
    /// The store.
    pub fn told<'a>(
        &self,
        patients: impl IntoIterator<Item = &'a PatientIdentifier>,
    ) -> Result<Vec<(&'a PatientIdentifier, Write)>> {
        let now = self.clock.now().as_millisecond();
        let mut told = Vec::new();
        for patient in patients {
            let tag = self.store.keys().patient_tag(patient);
            let row = self.store.get::<ToldRow>(&tag)?;
            if row.is_some_and(|found| now < found.row.expires_ms) {
                told.push((patient, Write::delete::<ToldRow>(tag.to_vec())));
            }
        }
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SystemClock};
    use crate::gateway::schema;
    use crate::store::Options;

    const HOUR: Duration = Duration::from_hours(1);
    const HOME: &str = "urn:oid:2.999.1.2";

    struct Kept {
        correlations: Correlations,
        store: Arc<Store>,
        clock: Arc<ManualClock>,
        _folder: tempfile::TempDir,
    }

    fn kept() -> Kept {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let options = Options {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ..Options::default()
        };
        let (store, _) = Store::open(folder.path(), schema(), options).unwrap();
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let identity = Identity::open(Arc::clone(&store), Arc::clone(&time)).unwrap();
        Kept {
            correlations: Correlations::new(Arc::clone(&store), time, Arc::new(identity)),
            store,
            clock,
            _folder: folder,
        }
    }

    impl Kept {
        /// Somebody who is known elsewhere under the identifier `theirs`, for an hour from now.
        fn correlation(&self, who: u8, theirs: u8) -> CorrelationRow {
            CorrelationRow {
                linkage: vec![who; 16],
                patient: vec![who; 16],
                home_community_id: HOME.to_owned(),
                theirs_tag: vec![theirs; 16],
                expires_ms: self.clock.now().as_millisecond() + millis(HOUR),
                ..CorrelationRow::default()
            }
        }

        async fn write(&self, writes: Vec<Write>) {
            let commit = Commit {
                writes,
                ..Commit::default()
            };
            let _committed = self.store.commit(commit).await.unwrap();
        }

        fn count<R: crate::store::Row>(&self) -> usize {
            self.store.range::<R>(&[], None, PAGE).unwrap().len()
        }
    }

    fn holding(theirs: u8, sequence: u64) -> HoldingRow {
        HoldingRow {
            patient: vec![theirs; 16],
            home_community_id: HOME.to_owned(),
            notice: Some(pb::HoldingNotice {
                sequence,
                ..pb::HoldingNotice::default()
            }),
            confirmed_ms: 0,
        }
    }

    #[tokio::test]
    async fn what_has_ended_goes_when_nobody_is_told_of_it_any_more() {
        let kept = kept();
        let tag = kept.correlation(1, 11).theirs_tag.len();
        assert_eq!(tag, kept.store.keys().patient_tag(&somebody()).len());
        kept.write(vec![
            Write::put(&kept.correlation(1, 11)),
            Write::put(&kept.correlation(2, 12)),
            // Of another person with the same identifier, and told by the region itself.
            Write::put(&kept.correlation(3, 13)),
            Write::put(&holding(11, 0)),
            Write::put(&holding(12, 7)),
            Write::put(&holding(13, 0)),
            Write::put(&ToldRow {
                patient: vec![21; 16],
                expires_ms: kept.clock.now().as_millisecond() + millis(HOUR),
            }),
        ])
        .await;
        assert_eq!(kept.correlations.sweep().await.unwrap(), 0, "they hold");
        kept.clock.advance(HOUR);
        assert_eq!(kept.correlations.sweep().await.unwrap(), 1, "what was told");
        assert_eq!(kept.count::<ToldRow>(), 0);
        assert_eq!(kept.count::<CorrelationRow>(), 3, "named as gaps");

        kept.clock.advance(NAMED_AFTER);
        kept.write(vec![Write::put(&kept.correlation(4, 13))]).await;
        assert_eq!(
            kept.correlations.sweep().await.unwrap(),
            0,
            "to the last moment"
        );
        kept.clock.advance(Duration::from_millis(1));
        assert_eq!(kept.correlations.sweep().await.unwrap(), 3);
        assert_eq!(kept.count::<CorrelationRow>(), 1);
        let left = kept.store.range::<HoldingRow>(&[], None, PAGE).unwrap();
        let left: Vec<u8> = left.iter().map(|(_, row)| row.row.patient[0]).collect();
        assert_eq!(left, [12, 13], "only what nothing else rests on goes");
    }

    #[tokio::test]
    async fn a_holding_goes_with_two_correlations_that_end_together() {
        let kept = kept();
        kept.write(vec![
            Write::put(&kept.correlation(1, 11)),
            Write::put(&kept.correlation(2, 11)),
            Write::put(&holding(11, 0)),
        ])
        .await;
        kept.clock.advance(HOUR + NAMED_AFTER);
        assert_eq!(kept.correlations.sweep().await.unwrap(), 0);
        kept.clock.advance(Duration::from_millis(1));
        assert_eq!(kept.correlations.sweep().await.unwrap(), 2);
        assert_eq!(kept.count::<CorrelationRow>(), 0);
        assert_eq!(kept.count::<HoldingRow>(), 0);
    }

    fn somebody() -> PatientIdentifier {
        PatientIdentifier {
            authority: "1.2.3".parse().unwrap(),
            id: "7".parse().unwrap(),
        }
    }
}
