//! Readings: what extraction takes out of a document, made when the document is registered and kept, so
//! that a summary opens and parses nothing.
//!
//! A reading is for nobody in particular; each summary judges what is in it for its reader. It counts
//! only for the version of the entry that it was made of and for the rules of extraction of this build:
//! anything else is read anew. So nothing rests on its being there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::documents::{Documents, Found};
use crate::error::{Error, Result};
use crate::identity::identifier;
use crate::store::{Commit, Store, Write};
use crate::types::EntryUuid;
use crate::wire::pb::emergency as pb;

use super::extract::{Extracted, NotUnderstood, Outcome, Source, extract};
use super::service::MAX_BYTES;
use super::tables::ReadingRow;

/// Documents that wait to be read; more are read when they are asked for.
const QUEUE: usize = 1_024;
/// Between two looks whether reads see a frame that is durable already.
const APPLYING: Duration = Duration::from_millis(1);
/// Readings in one frame.
const A_FRAME: usize = 32;
/// A hash of the sources of extraction: another build's readings may say something else.
const RULES: &str = env!("RENKEI_EXTRACTION");

/// The readings of this node's documents.
#[derive(Debug)]
pub(super) struct Readings {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    documents: Arc<Documents>,
    /// Documents of which a summary found no reading; none if nothing is computed ahead.
    wanted: Option<mpsc::Sender<EntryUuid>>,
    waiting: Mutex<Option<mpsc::Receiver<EntryUuid>>>,
}

impl Readings {
    /// Readings kept in `store`; made only if `ahead`.
    pub(super) fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        documents: Arc<Documents>,
        ahead: bool,
    ) -> Self {
        let (wanted, waiting) = mpsc::channel(QUEUE);
        Self {
            store,
            clock,
            documents,
            wanted: ahead.then_some(wanted),
            waiting: Mutex::new(ahead.then_some(waiting)),
        }
    }

    /// What the document says, as of now; none if there is no reading of it, which is then made.
    pub(super) fn of(&self, uuid: &EntryUuid, found: &Found) -> Result<Option<Extracted>> {
        let Some(wanted) = &self.wanted else {
            return Ok(None);
        };
        let row = self.store.get::<ReadingRow>(uuid.as_bytes())?;
        let row = row.map(|row| row.row);
        let row = row.filter(|row| row.entry_sequence == found.sequence && row.rules == RULES);
        if let Some(row) = row {
            return Ok(Some(extracted(row, self.clock.now())));
        }
        // Full: it is read again the next time.
        if wanted.try_send(*uuid).is_err() {
            tracing::debug!("a document was not put down to be read ahead");
        }
        Ok(None)
    }

    /// Reads documents as they are registered and as they are wanted, until told to stop.
    pub(super) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let waiting = self.waiting.lock();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut waiting) = waiting else { return };
        let mut frames = self.store.frames(self.store.last_sequence().next());
        loop {
            let mut uuids = Vec::new();
            tokio::select! {
                () = stop.cancelled() => return,
                frame = frames.next() => match frame {
                    Ok(frame) => {
                        uuids = Documents::entries_of(&frame);
                        let applied = async {
                            while !uuids.is_empty() && !self.documents.has_applied(&frame) {
                                tokio::time::sleep(APPLYING).await;
                            }
                        };
                        tokio::select! {
                            () = stop.cancelled() => return,
                            () = applied => {}
                        }
                    }
                    Err(error) => {
                        // Documents are read when they are asked for instead.
                        tracing::error!(%error, "documents are not read ahead any more");
                        return;
                    }
                },
                one = waiting.recv() => uuids.extend(one),
            }
            while uuids.len() < A_FRAME
                && let Ok(more) = waiting.try_recv()
            {
                uuids.push(more);
            }
            if let Err(error) = self.make(uuids).await {
                tracing::warn!(
                    reason = error.reason().name(),
                    "documents were not read ahead"
                );
            }
        }
    }

    /// Makes the readings of these entries; deletes those of entries that are gone.
    pub(super) async fn make(self: &Arc<Self>, mut uuids: Vec<EntryUuid>) -> Result<()> {
        uuids.sort_unstable();
        uuids.dedup();
        for some in uuids.chunks(A_FRAME) {
            let (this, work) = (Arc::clone(self), some.to_vec());
            let writes = tokio::task::spawn_blocking(move || this.writes(&work));
            self.commit(writes.await.map_err(Error::internal)?).await?;
            // An entry that went meanwhile took its reading with it, or did so before it was there.
            let (this, work) = (Arc::clone(self), some.to_vec());
            let orphans = tokio::task::spawn_blocking(move || this.orphans(&work));
            self.commit(orphans.await.map_err(Error::internal)??)
                .await?;
        }
        Ok(())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<()> {
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

    fn writes(&self, uuids: &[EntryUuid]) -> Vec<Write> {
        let read = uuids.iter().filter_map(|uuid| match self.read(uuid) {
            Ok(row) => row.map(|row| Write::put(&row)),
            Err(error) => {
                tracing::debug!(
                    reason = error.reason().name(),
                    "a document was not read ahead"
                );
                None
            }
        });
        read.collect()
    }

    /// The readings among these whose entries are not there.
    fn orphans(&self, uuids: &[EntryUuid]) -> Result<Vec<Write>> {
        let mut orphans = Vec::new();
        for uuid in uuids {
            let known = self.store.get::<ReadingRow>(uuid.as_bytes())?.is_some();
            if known && self.documents.by_uuid(uuid)?.is_none() {
                orphans.push(Write::delete::<ReadingRow>(uuid.as_bytes().to_vec()));
            }
        }
        Ok(orphans)
    }

    /// The reading of an entry, if it has a document here that may be read.
    fn read(&self, uuid: &EntryUuid) -> Result<Option<ReadingRow>> {
        let Some(found) = self.documents.by_uuid(uuid)? else {
            return Ok(None);
        };
        let small = found.entry.size.is_some_and(|size| size <= MAX_BYTES);
        if found.is_on_demand() || !found.made_of().is_empty() || !small {
            return Ok(None);
        }
        let patient = identifier(found.entry.patient_id.as_ref(), "patient_id")?;
        let content = self.documents.unjudged(&found, MAX_BYTES)?;
        let source = source(&found, &content, Timestamp::UNIX_EPOCH);
        Ok(Some(row(
            ReadingRow {
                uuid: uuid.as_bytes().to_vec(),
                patient: self.store.keys().patient_tag(&patient).to_vec(),
                entry_sequence: found.sequence,
                rules: RULES.to_owned(),
                ..ReadingRow::default()
            },
            extract(&source),
        )))
    }
}

/// A document of this node, as extraction takes it.
pub(super) fn source<'a>(found: &'a Found, content: &'a [u8], as_of: Timestamp) -> Source<'a> {
    let format = found.entry.format_code.as_ref();
    Source {
        mime_type: &found.entry.mime_type,
        format_code: format.map_or("", |code| code.code.as_str()),
        entry: &found.entry,
        content,
        as_of,
    }
}

fn row(base: ReadingRow, extracted: Extracted) -> ReadingRow {
    ReadingRow {
        items: extracted.items,
        absences: extracted.absences,
        not_taken: extracted.not_taken as u64,
        not_understood: match extracted.outcome {
            Outcome::Readable => String::new(),
            Outcome::NotUnderstood(why) => why.code().to_owned(),
        },
        ..base
    }
}

fn extracted(row: ReadingRow, now: Timestamp) -> Extracted {
    let as_of = Some(crate::wire::timestamp(now));
    let at = |source: &mut pb::ItemSource| source.as_of = as_of;
    let mut extracted = Extracted {
        items: row.items,
        absences: row.absences,
        not_taken: usize::try_from(row.not_taken).unwrap_or(usize::MAX),
        outcome: match row.not_understood.as_str() {
            "" => Outcome::Readable,
            code => Outcome::NotUnderstood(NotUnderstood::of_code(code)),
        },
    };
    for item in &mut extracted.items {
        item.sources.iter_mut().for_each(at);
        let past = item.past_values.iter_mut();
        past.filter_map(|past| past.source.as_mut()).for_each(at);
    }
    for absence in &mut extracted.absences {
        absence.sources.iter_mut().for_each(at);
    }
    extracted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_says_what_the_document_says() {
        let source = pb::ItemSource {
            original_text: "ペニシリン".to_owned(),
            ..pb::ItemSource::default()
        };
        let item = pb::SummaryItem {
            display: "ペニシリン".to_owned(),
            sources: vec![source.clone()],
            past_values: vec![pb::PastValue {
                source: Some(source.clone()),
                ..pb::PastValue::default()
            }],
            ..pb::SummaryItem::default()
        };
        let absence = pb::AbsenceStatement {
            sources: vec![source],
            ..pb::AbsenceStatement::default()
        };
        let now = "2026-04-01T03:00:00Z".parse().unwrap();
        for outcome in [
            Outcome::Readable,
            Outcome::NotUnderstood(NotUnderstood::UnknownFormat),
            Outcome::NotUnderstood(NotUnderstood::NarrativeOnly),
            Outcome::NotUnderstood(NotUnderstood::TooLarge),
            Outcome::NotUnderstood(NotUnderstood::Malformed),
        ] {
            let said = Extracted {
                items: vec![item.clone()],
                absences: vec![absence.clone()],
                not_taken: 3,
                outcome,
            };
            let again = extracted(row(ReadingRow::default(), said.clone()), now);
            assert_eq!(again.outcome, outcome);
            assert_eq!(again.not_taken, 3);
            let of = again.items[0].sources[0].as_of.unwrap();
            assert_eq!(of.seconds, now.as_second(), "as of now, not of then");
            let past = again.items[0].past_values[0].source.as_ref().unwrap();
            assert_eq!(past.as_of, Some(of));
            assert_eq!(again.absences[0].sources[0].as_of, Some(of));
            let mut plain = again.items;
            plain[0].sources[0].as_of = None;
            plain[0].past_values[0].source.as_mut().unwrap().as_of = None;
            assert_eq!(plain, said.items);
        }
    }
}
