//! Comparing what is held here with what the parent's locator says, once in a while, and telling it what
//! differs. A notice tells of one change; what was lost on the way, restored from a copy, or removed
//! without one, only a look at everything finds.
//!
//! The parent tells sums (`spread`), and names its patients where these differ; nobody else is named. What
//! is found is looked at again when nothing of the patient's documents changes, and goes up as a notice like
//! any other, numbered in their order: so it never takes out what a newer one put in (INV-10). Each step is
//! noted when it is done, and a restart goes on there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::documents::Documents;
use crate::edge::{Alarms, Severity, State};
use crate::error::{Error, Reason, Result};
use crate::identity::{identifier, identifier_message};
use crate::store::{Commit, Row as _, Store, Write};
use crate::types::{HomeCommunityId, PatientIdentifier};
use crate::wire::pb::federation as pb;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;

use super::line::Line;
use super::locator::MAX_PLACES;
use super::outbox::Outbox;
use super::peers::{Peers, own};
use super::spread::{MAX_BITS, SALT, Spread, Sums, bits_for};
use super::tables::ReconciliationRow;

/// A parent looks at all that it knows of a region for one answer.
const TIMEOUT: Duration = Duration::from_mins(5);
/// Patients read at once, and the wait before the next: other work goes first.
const PAGE: usize = 512;
const PACE: Duration = Duration::from_millis(20);
/// How long changes are waited for that the parent has yet to be told, and between two looks at them.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(100);
/// One that was begun longer ago, and the interval, is begun anew: what it compared is too old.
const LASTS: Duration = Duration::from_hours(24);
/// After a failure.
const RETRY: Duration = Duration::from_mins(10);
/// Alarm: no comparison with the parent's locator has come to its end for long.
const LATE: &str = "LOCATOR_NOT_RECONCILED";

/// A source of numbers by chance.
pub type Random = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What compares, with the parent of a node that feeds it.
pub struct Reconciler {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    documents: Arc<Documents>,
    outbox: Arc<Outbox>,
    parent: HomeCommunityId,
    every: Duration,
    random: Random,
    started: Timestamp,
    /// One step at a time.
    turn: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reconciler")
    }
}

/// What a step has led to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// There is more to do.
    More,
    /// The comparison is at its end, and this was found.
    Ended(pb::HoldingsReconciled),
}

/// What a reconciler works with.
#[derive(Debug)]
pub struct Parts {
    /// Where it notes how far it has come.
    pub store: Arc<Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is held here.
    pub documents: Arc<Documents>,
    /// What tells the parent.
    pub outbox: Arc<Outbox>,
    /// The parent.
    pub parent: HomeCommunityId,
}

impl Reconciler {
    /// Compares so often; zero: only when asked to ([`Reconciler::reconcile`]).
    pub fn new(parts: Parts, every: Duration, random: Random) -> Self {
        Self {
            started: parts.clock.now(),
            store: parts.store,
            clock: parts.clock,
            documents: parts.documents,
            outbox: parts.outbox,
            parent: parts.parent,
            every,
            random,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Compares again and again, until told to stop.
    pub async fn run(
        self: Arc<Self>,
        peers: Arc<Peers>,
        edge: Arc<State>,
        stop: CancellationToken,
    ) {
        if self.every.is_zero() {
            return;
        }
        let ended = self.ended().unwrap_or_default();
        let mut wait = due_in(self.every, ended, self.clock.now());
        loop {
            // Not all regions at once.
            let later = self.later();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait.saturating_add(later)) => {}
            }
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.reconcile(&peers) => ended,
            };
            match ended {
                Ok(found) => {
                    let (lacking, left_over) = (found.lacking_count, found.left_over_count);
                    tracing::info!(lacking, left_over, "compared with the parent's locator");
                    edge.alarms.keep_only(LATE, &[]);
                    wait = self.every;
                }
                Err(error) => {
                    let reason = error.reason().name();
                    tracing::warn!(reason, "not compared with the parent's locator");
                    self.tell_late(&edge.alarms);
                    wait = RETRY.min(self.every);
                }
            }
        }
    }

    /// Up to a tenth of the interval.
    fn later(&self) -> Duration {
        let thousandths = u32::try_from((self.random)() % 1_000).unwrap_or_default();
        (self.every / 10_000).saturating_mul(thousandths)
    }

    fn tell_late(&self, alarms: &Alarms) {
        let now = self.clock.now();
        let last = self.ended().ok().flatten().unwrap_or(self.started);
        let passed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
        if passed > self.every.saturating_mul(2) {
            let message = format!("not compared with the parent's locator since {last}");
            alarms.raise(LATE, "parent", Severity::Warning, message, now);
        }
    }

    /// When the last comparison ended, if one has.
    ///
    /// # Errors
    /// The store.
    pub fn ended(&self) -> Result<Option<Timestamp>> {
        let ended_ms = self.noted()?.ended_ms;
        let ended = Timestamp::from_millisecond(ended_ms).ok();
        Ok(ended.filter(|_| ended_ms > 0))
    }

    /// Compares to the end, from where the last step has led.
    ///
    /// # Errors
    /// As [`Reconciler::step`].
    pub async fn reconcile(&self, peers: &Peers) -> Result<pb::HoldingsReconciled> {
        loop {
            if let Step::Ended(found) = self.step(peers).await? {
                return Ok(found);
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// One step: asks for the sums, looks at some of the places that differ, or tells that it is over.
    ///
    /// # Errors
    /// What the parent says, or that it cannot be reached or has yet to be told of changes; the store. The
    /// step can be done again.
    pub async fn step(&self, peers: &Peers) -> Result<Step> {
        let _turn = self.turn.lock().await;
        let noted = self.noted()?;
        self.nothing_waits().await?;
        let parent = peers.channel(&*peers.peer(&self.parent)?)?;
        let client = RespondingGatewayServiceClient::new(parent);
        let begun = Timestamp::from_millisecond(noted.begun_ms).ok();
        let old = due_in(self.every.max(LASTS), begun, self.clock.now()).is_zero();
        match (noted.under_way && !old, noted.places.is_empty()) {
            (false, _) => self.begin(client, noted).await,
            (true, false) => self.look(client, noted).await,
            (true, true) => self.end(client, noted).await,
        }
    }

    fn noted(&self) -> Result<ReconciliationRow> {
        let empty = ReconciliationRow {
            parent: self.parent.to_string(),
            ..ReconciliationRow::default()
        };
        let noted = self.store.get::<ReconciliationRow>(&empty.key())?;
        Ok(noted.map_or(empty, |noted| noted.row))
    }

    async fn note(&self, row: &ReconciliationRow) -> Result<()> {
        let commit = Commit {
            writes: vec![Write::put(row)],
            ..Commit::default()
        };
        let _committed = self.store.commit(commit).await?;
        Ok(())
    }

    /// Waits until the parent has been told everything: what is on its way is no difference.
    async fn nothing_waits(&self) -> Result<()> {
        let told = async {
            while !self.outbox.is_empty()? {
                tokio::time::sleep(LOOK).await;
            }
            Ok::<(), Error>(())
        };
        tokio::time::timeout(PATIENCE, told)
            .await
            .unwrap_or_else(|_| {
                let message = "changes wait that the parent has yet to be told";
                Err(Error::new(Reason::CommunityUnavailable, message))
            })
    }

    /// Finds the places that differ.
    async fn begin(&self, client: Client, noted: ReconciliationRow) -> Result<Step> {
        let mut salt = [0; SALT];
        for part in salt.chunks_mut(8) {
            part.copy_from_slice(&(self.random)().to_be_bytes());
        }
        let spread = Spread::new(salt, MAX_BITS).ok_or_else(unreadable)?;
        let mut held = Sums::new(&spread);
        let count = |patient: PatientIdentifier| held.add(spread.place_of(&patient));
        self.each_patient(count).await?;
        let mut bits = bits_for(held.count());
        let mut told = ask(client.clone(), (&salt, bits), &[]).await?;
        if bits_for(told.count) > bits {
            bits = bits_for(told.count);
            told = ask(client, (&salt, bits), &[]).await?;
        }
        let places = held.folded(bits).differing(&told.sums);
        let begun = ReconciliationRow {
            under_way: true,
            begun_ms: self.clock.now().as_millisecond(),
            salt: salt.to_vec(),
            bits,
            places: places.ok_or_else(unreadable)?,
            found: Some(pb::HoldingsReconciled {
                held_count: held.count(),
                ..pb::HoldingsReconciled::default()
            }),
            ..noted
        };
        self.note(&begun).await?;
        Ok(Step::More)
    }

    /// Looks at who is at some of the places that differ, and queues what the parent must be told.
    async fn look(&self, client: Client, noted: ReconciliationRow) -> Result<Step> {
        let salt = <[u8; SALT]>::try_from(noted.salt.as_slice()).map_err(Error::internal)?;
        let spread = Spread::new(salt, noted.bits).ok_or_else(unreadable)?;
        let mut places: Vec<u32> = noted.places.iter().copied().take(MAX_PLACES).collect();
        let told = ask(client, (&salt, noted.bits), &places).await?;
        places.truncate(usize::try_from(told.places_told).unwrap_or(usize::MAX));
        if places.is_empty() {
            return Err(unreadable());
        }
        let looked_at = |patient: &PatientIdentifier| {
            let (place, _) = spread.place_of(patient);
            places.binary_search(&place).is_ok()
        };
        let mut theirs = BTreeSet::new();
        for patient in &told.patients {
            theirs.insert(identifier(Some(patient), "patients")?);
        }
        theirs.retain(&looked_at);
        let mut lacking = Vec::new();
        self.each_patient(|patient| {
            if looked_at(&patient) && !theirs.remove(&patient) {
                lacking.push(patient);
            }
        })
        .await?;
        let mut found = noted.found.unwrap_or_default();
        for patient in &lacking {
            found.lacking_count += u64::from(self.tell(patient, true).await?);
        }
        for patient in &theirs {
            found.left_over_count += u64::from(self.tell(patient, false).await?);
        }
        let looked = ReconciliationRow {
            places: noted.places.iter().copied().skip(places.len()).collect(),
            found: Some(found),
            ..noted
        };
        self.note(&looked).await?;
        Ok(Step::More)
    }

    /// Queues what is so of a patient, if it is still as it was found; what has changed since has been
    /// queued with the change. Gives whether it is.
    async fn tell(&self, patient: &PatientIdentifier, held: bool) -> Result<bool> {
        self.outbox.has_room()?;
        let notice = pb::HoldingNotice {
            patient_id: Some(identifier_message(patient)),
            has_documents: held,
            has_summary_items: held,
            changed: Some(crate::wire::timestamp(self.clock.now())),
            ..pb::HoldingNotice::default()
        };
        let rows = |now: bool| match now == held {
            true => self.outbox.holding(patient, notice),
            false => Vec::new(),
        };
        Ok(self.documents.tell(patient, rows).await? == held)
    }

    /// Tells the parent that it is over, and what was found.
    async fn end(&self, mut client: Client, noted: ReconciliationRow) -> Result<Step> {
        let found = noted.found.unwrap_or_default();
        let request = pb::NotifyHoldingsRequest {
            reconciled: Some(found),
            ..pb::NotifyHoldingsRequest::default()
        };
        // No idempotency key is needed: told twice, it is as if it had ended a little later.
        let told = client.notify_holdings(own(request, TIMEOUT)).await;
        told.map_err(super::peer_error)?;
        let ended = ReconciliationRow {
            under_way: false,
            salt: Vec::new(),
            ended_ms: self.clock.now().as_millisecond(),
            ..noted
        };
        self.note(&ended).await?;
        Ok(Step::Ended(found))
    }

    /// Calls `visit` with every patient of whom documents are here, gently.
    async fn each_patient(&self, mut visit: impl FnMut(PatientIdentifier) + Send) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let documents = Arc::clone(&self.documents);
            let read = move || documents.patients(after.as_deref(), PAGE);
            let read = tokio::task::spawn_blocking(read).await;
            let (patients, next) = read.map_err(Error::internal)??;
            patients.into_iter().for_each(&mut visit);
            if next.is_none() {
                return Ok(());
            }
            after = next;
            tokio::time::sleep(PACE).await;
        }
    }
}

type Client = RespondingGatewayServiceClient<Line>;

async fn ask(
    mut client: Client,
    (salt, bits): (&[u8; SALT], u32),
    places: &[u32],
) -> Result<pb::CompareHoldingsResponse> {
    let request = pb::CompareHoldingsRequest {
        salt: salt.to_vec().into(),
        bits,
        places: places.to_vec(),
    };
    let answer = client.compare_holdings(own(request, TIMEOUT)).await;
    Ok(answer.map_err(super::peer_error)?.into_inner())
}

fn unreadable() -> Error {
    let message = "the parent's answer cannot be read";
    Error::new(Reason::CommunityUnavailable, message)
}

/// Until the next comparison is due, if the last ended then: not longer than the interval, whatever the
/// clock says.
fn due_in(every: Duration, ended: Option<Timestamp>, now: Timestamp) -> Duration {
    let passed = ended.map(|ended| now.duration_since(ended));
    let passed = passed.map(|passed| Duration::try_from(passed).unwrap_or_default());
    passed.map_or(Duration::ZERO, |passed| every.saturating_sub(passed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_is_due_an_interval_after_the_last_and_no_clock_puts_it_off() {
        let every = Duration::from_hours(24);
        let at = |hour: i64| Timestamp::from_second(hour * 3_600).unwrap();
        assert_eq!(due_in(every, None, at(100)), Duration::ZERO);
        assert_eq!(due_in(every, Some(at(100)), at(100)), every);
        assert_eq!(
            due_in(every, Some(at(100)), at(110)),
            Duration::from_hours(14)
        );
        assert_eq!(due_in(every, Some(at(100)), at(200)), Duration::ZERO);
        let ten_years_back = at(100 - 10 * 365 * 24);
        assert_eq!(due_in(every, Some(at(100)), ten_years_back), every);
    }
}
