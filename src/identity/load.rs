//! Many records at once: frames of some hundred records, each record with its own audit event, and in
//! each frame how far the load has come.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::access::{Action, Call, Permit};
use crate::error::{Error, Reason, Result};
use crate::store::{Commit, Idempotency, Write};
use crate::types::PatientIdentifier;
use crate::wire::pb::identity as pb;

use super::placement::Reservation;
use super::service::{Fed, Identity, changed, checked};
use super::tables::{LoadRow, PatientRow};

/// What is written with a record, given it and the identifiers whose records change.
type Attach<'a> = dyn Fn(&LoadItem, &[PatientIdentifier]) -> Vec<Write> + Sync + 'a;

/// Records in one frame.
pub const BATCH: usize = 256;
/// Attempts at a frame before giving up to others that came first.
const ATTEMPTS: usize = 8;

/// One record of a load.
#[derive(Clone, Debug)]
pub struct LoadItem {
    /// Its place in the load.
    pub position: u64,
    /// Its identifier.
    pub identifier: PatientIdentifier,
    /// The record.
    pub patient: pb::Patient,
}

/// Some records, as they will be committed.
struct Batch {
    frame: Commit,
    held: Vec<Reservation>,
    counts: pb::LoadCounts,
    taken: usize,
}

/// A load under way.
#[derive(Clone, Debug)]
pub struct Load {
    key: Vec<u8>,
    expires_unix_seconds: i64,
    /// How far it has come.
    pub counts: pb::LoadCounts,
}

impl Identity {
    /// Opens a load, or goes on with the one of this key. Without a key it cannot be resumed.
    ///
    /// # Errors
    /// The store.
    pub fn load(&self, permit: &Permit, key: Option<&Idempotency>) -> Result<Load> {
        permit.require(&[Action::AssertIdentity])?;
        let Some(key) = key else {
            return Err(Error::missing("start.idempotency_key"));
        };
        let known = self.store.get::<LoadRow>(key.key.as_bytes())?;
        let now = self.clock.now().as_second();
        let known = known.filter(|known| known.row.expires_unix_seconds > now);
        Ok(Load {
            key: key.key.as_bytes().to_vec(),
            expires_unix_seconds: key.expires_unix_seconds,
            counts: known.and_then(|known| known.row.counts).unwrap_or_default(),
        })
    }

    /// Whether a record of a load would be taken.
    ///
    /// # Errors
    /// Malformed demographics.
    pub fn check(&self, patient: &pb::Patient) -> Result<()> {
        checked(patient)
    }

    /// Feeds records in their order: as many as fit into a frame. Returns how many were taken; the
    /// load says how far it has come.
    ///
    /// # Errors
    /// The store; a concurrent change that keeps coming first. Nothing of the frame was done then.
    pub async fn load_some(
        &self,
        permit: &Permit,
        call: &Call,
        load: &mut Load,
        items: &[LoadItem],
        attach: &Attach<'_>,
    ) -> Result<usize> {
        permit.require(&[Action::AssertIdentity])?;
        let mut alone = false;
        for _ in 0..ATTEMPTS {
            let gate = self.gate(alone).await;
            let Batch {
                mut frame,
                held,
                counts,
                taken,
            } = self.batch(call, load, items, alone, attach)?;
            if taken == 0 && alone {
                return Ok(0);
            }
            if taken == 0 {
                alone = true;
                continue;
            }
            let row = LoadRow {
                key: load.key.clone(),
                counts: Some(counts),
                expires_unix_seconds: load.expires_unix_seconds,
            };
            frame.writes.push(Write::put(&row));
            let store = Arc::clone(&self.store);
            let committed = tokio::spawn(async move {
                let outcome = store.commit(frame).await;
                drop((gate, held));
                outcome
            });
            match committed.await.map_err(Error::internal)? {
                Ok(_) => {
                    load.counts = counts;
                    return Ok(taken);
                }
                Err(error) => {
                    let error = Error::from(error);
                    if error.reason() != Reason::ConcurrentChange {
                        return Err(error);
                    }
                }
            }
        }
        let message = "the records keep changing; go on with the load";
        Err(Error::new(Reason::ConcurrentChange, message))
    }

    /// As many records as fit into a frame: of each identifier one, and, alone, one in all.
    fn batch(
        &self,
        call: &Call,
        load: &Load,
        items: &[LoadItem],
        alone: bool,
        attach: &Attach<'_>,
    ) -> Result<Batch> {
        let now = self.clock.now();
        let mut batch = Batch {
            frame: Commit::default(),
            held: Vec::new(),
            counts: load.counts,
            taken: 0,
        };
        let mut seen = BTreeSet::new();
        for item in items.iter().take(if alone { 1 } else { BATCH }) {
            let tag = self.store.keys().patient_tag(&item.identifier);
            // The second of one identifier sees the first: it needs a frame of its own.
            if !seen.insert(tag) {
                break;
            }
            let known = self.store.get::<PatientRow>(&tag)?;
            let prepared = match self.prepare(tag, &item.patient, known.as_ref(), alone, now) {
                Ok(Fed::Ready(prepared)) => prepared,
                Ok(Fed::NeedsGate) => break,
                // Merged away: refused like what is malformed, told by the caller of this.
                Err(error) if error.reason() == Reason::WrongState => break,
                Err(error) => return Err(error),
            };
            count(&mut batch.counts, prepared.response.outcome());
            batch.counts.durable_position = item.position;
            let attached = attach(item, &changed(&prepared.writes)?);
            batch.frame.writes.extend(prepared.writes);
            batch.frame.writes.extend(attached);
            batch.held.push(prepared.reservation);
            let part = call.for_part();
            part.note(|record| {
                record.patient = Some(tag.to_vec());
                record.items = 1;
            });
            batch.frame.audit.push(part.success_event(now));
            batch.taken += 1;
        }
        Ok(batch)
    }

    /// Keeps what was refused since the last frame.
    ///
    /// # Errors
    /// The store.
    pub async fn keep_load(&self, load: &Load) -> Result<()> {
        let row = LoadRow {
            key: load.key.clone(),
            counts: Some(load.counts),
            expires_unix_seconds: load.expires_unix_seconds,
        };
        let commit = Commit {
            writes: vec![Write::put(&row)],
            ..Commit::default()
        };
        let _committed = self.store.commit(commit).await?;
        Ok(())
    }
}

impl Load {
    /// Notes that a record was refused, so that going on does not meet it again. The records before it
    /// are durable.
    pub fn refuse(&mut self, position: u64) {
        self.counts.rejected += 1;
        self.counts.durable_position = position;
    }
}

fn count(counts: &mut pb::LoadCounts, outcome: pb::FeedOutcome) {
    use pb::FeedOutcome as O;
    match outcome {
        O::Linked => counts.linked += 1,
        O::Review => counts.review += 1,
        O::Unchanged => counts.unchanged += 1,
        O::NewPerson | O::Unspecified | O::PendingParent | O::Withdrawn => counts.new_persons += 1,
    }
}
