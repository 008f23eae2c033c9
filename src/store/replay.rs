//! Bringing the index up to the ledger, at an opening or a rebuild.
//!
//! Three threads in a row, each as far ahead of the next as a bounded channel lets it (INV-7): one
//! reads, verifies and decrypts frames; this one projects them and seals what comes of it; one
//! gives large sorted batches to the engine.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use bytes::Bytes;

use super::commit::{Frame, Sequence};
use super::error::StoreError;
use super::index::{Gathered, Index, row_key};
use super::projection::{Rows, project};
use super::table::{Schema, TableId};

/// Frames handed from one thread to the next at once.
const CHUNK_FRAMES: usize = 256;
/// And their bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that wait.
const CHUNKS: usize = 2;

/// Takes the next frame; an error says that no more are wanted.
pub(crate) type Visit<'a> = dyn FnMut(Frame) -> Result<(), StoreError> + 'a;

/// Applies the frames that `read` hands out. Returns what `read` returns, and how many they were.
pub(crate) fn replay<T: Send>(
    index: &Index,
    schema: &Schema,
    read: impl FnOnce(&mut Visit<'_>) -> Result<T, StoreError> + Send,
) -> Result<(T, u64), StoreError> {
    thread::scope(|scope| {
        let (frames, chunks) = mpsc::sync_channel(CHUNKS);
        let (batches, loads) = mpsc::sync_channel::<Arc<Gathered>>(0);
        let reader = scope.spawn(move || read_into(&frames, read));
        let loader = scope.spawn(move || loads.iter().try_for_each(|batch| index.load(&batch)));
        let projected = Projector::new(index, schema, batches).run(chunks);
        // What the reader found comes first: it is the cause if the others ended early.
        let stopped = |_| StoreError::Index("a thread of the replay panicked".to_owned());
        let loaded = loader.join().map_err(stopped)?;
        let read = reader.join().map_err(stopped)?;
        match (read, loaded, projected) {
            (_, Err(error), _) | (_, Ok(()), Err(error)) | (Err(error), Ok(()), Ok(_)) => {
                Err(error)
            }
            (Ok(found), Ok(()), Ok(count)) => Ok((found, count)),
        }
    })
}

fn read_into<T>(
    frames: &SyncSender<Vec<Frame>>,
    read: impl FnOnce(&mut Visit<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    let found = read(&mut |frame| {
        bytes += frame.size();
        chunk.push(frame);
        if chunk.len() < CHUNK_FRAMES && bytes < CHUNK_BYTES {
            return Ok(());
        }
        bytes = 0;
        let full = std::mem::take(&mut chunk);
        frames.send(full).map_err(|_| StoreError::Closed)
    })?;
    frames.send(chunk).map_err(|_| StoreError::Closed)?;
    Ok(found)
}

/// Turns frames into batches.
struct Projector<'a> {
    index: &'a Index,
    schema: &'a Schema,
    batches: SyncSender<Arc<Gathered>>,
    rows: Replayed<'a>,
    frames: u64,
}

/// The rows as the frames so far leave them.
struct Replayed<'a> {
    index: &'a Index,
    filling: Gathered,
    /// The batch being written: not yet in the index, perhaps.
    written: Arc<Gathered>,
    /// Which rows there may be at all, if the index was empty at the start.
    known: Option<Known>,
}

impl<'a> Projector<'a> {
    fn new(index: &'a Index, schema: &'a Schema, batches: SyncSender<Arc<Gathered>>) -> Self {
        let last = index.applied();
        Self {
            index,
            schema,
            batches,
            rows: Replayed {
                index,
                filling: Gathered::after(last),
                written: Arc::default(),
                known: (last == Sequence(0)).then(Known::default),
            },
            frames: 0,
        }
    }

    fn run(mut self, chunks: Receiver<Vec<Frame>>) -> Result<u64, StoreError> {
        for frame in chunks.into_iter().flatten() {
            self.add(&frame)?;
        }
        if self.rows.filling.last > self.index.applied().max(self.rows.written.last) {
            self.hand_over()?;
        }
        Ok(self.frames)
    }

    fn add(&mut self, frame: &Frame) -> Result<(), StoreError> {
        let made = project(
            self.schema,
            frame.sequence,
            0,
            &frame.writes,
            &mut self.rows,
        )?;
        for mutation in made.mutations {
            self.index.gather(mutation, &mut self.rows.filling)?;
        }
        self.rows.filling.last = frame.sequence;
        self.frames += 1;
        if self.rows.filling.bytes >= self.index.load_bytes() {
            self.hand_over()?;
        }
        Ok(())
    }

    /// Gives the batch to the loader; waits until the one before is in the index.
    fn hand_over(&mut self) -> Result<(), StoreError> {
        let fresh = Gathered::after(self.rows.filling.last);
        let batch = Arc::new(std::mem::replace(&mut self.rows.filling, fresh));
        self.batches
            .send(Arc::clone(&batch))
            .map_err(|_| StoreError::Closed)?;
        self.rows.written = batch;
        Ok(())
    }
}

impl Rows for Replayed<'_> {
    fn row(&mut self, table: TableId, key: &Bytes) -> Result<Option<Bytes>, StoreError> {
        let full = row_key(table, key);
        if let Some(known) = &mut self.known
            && !known.insert(&full)
        {
            return Ok(None);
        }
        for gathered in [&self.filling, self.written.as_ref()] {
            if gathered.touches(&full) {
                let row = self.index.gathered_row(gathered, &full)?;
                return Ok(row.map(|row| row.value));
            }
        }
        Ok(self.index.row(table, key)?.map(|row| row.value))
    }
}

/// A Bloom filter of fixed size over the keys of rows: says for certain that a row was never
/// written, which is true of most while an index is made, and saves asking the engine.
struct Known {
    words: Vec<u64>,
    hasher: RandomState,
}

impl Known {
    /// 32 MiB: one key in a thousand is looked up in vain with 10 million rows, one in three with
    /// 100 million.
    const WORDS: usize = 1 << 22;
    const PROBES: u32 = 4;

    /// Adds a key; whether it may have been there.
    fn insert(&mut self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        // Two halves give as many independent places as are needed (Kirsch and Mitzenmacher, 2006).
        let (mut place, step) = (hash, hash.rotate_left(32) | 1);
        let mut there = true;
        for _ in 0..Self::PROBES {
            let bit = usize::try_from(place >> 36).unwrap_or(0);
            let mask = 1 << (bit % 64);
            if let Some(word) = self.words.get_mut(bit / 64) {
                there &= *word & mask != 0;
                *word |= mask;
            }
            place = place.wrapping_add(step);
        }
        there
    }
}

impl Default for Known {
    fn default() -> Self {
        Self {
            words: vec![0; Self::WORDS],
            hasher: RandomState::new(),
        }
    }
}
