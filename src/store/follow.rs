//! Following the ledger from outside of the committing thread: subscriptions, replication, audit.
//!
//! A follower keeps the sequence it has got to, wherever it keeps its own state, and asks for the
//! frames after it. Nothing in the ledger is ever deleted, so it may be away for any time. Frames
//! come once each, in order, over segment borders and after the store was opened again; at most one
//! frame and one read window are in memory, however far the follower is behind (INV-7).

use std::sync::Arc;

use tokio::sync::watch;

use super::Store;
use super::commit::{Frame, Sequence};
use super::core::Core;
use super::error::StoreError;
use super::ledger::reader::FrameIterator;
use super::sweep::blocking;

/// The frames of a ledger from some sequence on, without end.
///
/// A frame is given as soon as it is durable: the index may get it a moment later.
#[derive(Debug)]
pub struct Frames {
    core: Arc<Core>,
    durable: watch::Receiver<Sequence>,
    next: Sequence,
    /// Not there while a read is under way, or was broken off.
    reader: Option<FrameIterator>,
}

impl Store {
    /// The frames from `from` on, those to come included.
    pub fn frames(&self, from: Sequence) -> Frames {
        Frames {
            durable: self.core.ledger.watch(),
            core: Arc::clone(&self.core),
            next: from.max(Sequence(1)),
            reader: None,
        }
    }

    /// The last durable frame, and a notice each time there are more. The notices stop when the
    /// store is dropped.
    pub fn watch(&self) -> watch::Receiver<Sequence> {
        self.core.ledger.watch()
    }
}

impl Frames {
    /// The sequence of the frame that comes next: what a follower keeps, to go on from there.
    pub fn position(&self) -> Sequence {
        self.next
    }

    /// The next frame if it is durable already. Blocks for as long as a disk access.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`]; asking again tries again.
    pub fn try_next(&mut self) -> Result<Option<Frame>, StoreError> {
        let (reader, frame) = read(self.reader.take(), &self.core, self.next)?;
        self.reader = Some(reader);
        self.note(frame.as_ref());
        Ok(frame)
    }

    /// The next frame, waiting for it. A future dropped before it is ready has taken nothing.
    ///
    /// # Errors
    /// As [`Frames::try_next`]; [`StoreError::Closed`] once the runtime shuts down.
    pub async fn next(&mut self) -> Result<Frame, StoreError> {
        loop {
            let wanted = self.next;
            self.durable
                .wait_for(|last| *last >= wanted)
                .await
                .map_err(|_| StoreError::Closed)?;
            let (reader, core) = (self.reader.take(), Arc::clone(&self.core));
            let (reader, frame) = blocking(move || read(reader, &core, wanted)).await?;
            self.reader = Some(reader);
            self.note(frame.as_ref());
            if let Some(frame) = frame {
                return Ok(frame);
            }
        }
    }

    fn note(&mut self, frame: Option<&Frame>) {
        if let Some(frame) = frame {
            self.next = frame.sequence.next();
        }
    }
}

fn read(
    reader: Option<FrameIterator>,
    core: &Core,
    from: Sequence,
) -> Result<(FrameIterator, Option<Frame>), StoreError> {
    let mut reader = reader.unwrap_or_else(|| FrameIterator::new(Arc::clone(&core.ledger), from));
    let frame = reader.next().transpose()?;
    Ok((reader, frame))
}
