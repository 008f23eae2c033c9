//! Reading frames: one segment, and the ledger as a whole.

use std::sync::Arc;

use super::super::commit::{Frame, Place, Sequence};
use super::super::crypto::{SealKey, counter_nonce, sha256};
use super::super::disk::DiskFile;
use super::super::error::{IoContext as _, StoreError};
use super::super::keys::Keys;
use super::format::{
    FRAME_HEADER_BYTES, FrameHeader, HASH_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use super::{Shared, payload, segment_name};
use crate::planted::planted;

/// How much is read at once.
const WINDOW_BYTES: usize = 256 << 10;
/// And where frames here and there are wanted.
const NARROW_BYTES: usize = 4 << 10;

/// A window over a file that grows to what is asked for.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn DiskFile>,
    start: u64,
    bytes: Vec<u8>,
    /// How much is read at once, in bytes.
    least: usize,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self {
            file,
            start: 0,
            bytes: Vec::new(),
            least: WINDOW_BYTES,
        }
    }

    /// Reads little at once from now on: for frames here and there.
    pub(crate) fn narrow(&mut self) {
        self.least = NARROW_BYTES;
    }

    /// Looks at the file again from now on.
    pub(crate) fn forget(&mut self) {
        self.bytes.clear();
    }

    /// The bytes at `offset`: `length` of them, or fewer at the end of the file.
    pub(crate) fn at(&mut self, offset: u64, length: usize) -> Result<&[u8], StoreError> {
        let inside = offset
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| skip.saturating_add(length) <= self.bytes.len());
        let skip = if let Some(skip) = inside {
            skip
        } else {
            let wanted = length.max(self.least);
            if self.bytes.len() != wanted {
                self.bytes = vec![0; wanted];
            }
            let read = self
                .file
                .read_at(&mut self.bytes, offset)
                .during("reading the ledger");
            self.bytes.truncate(*read.as_ref().unwrap_or(&0));
            self.start = offset;
            read?;
            0
        };
        let rest = self.bytes.get(skip..).unwrap_or_default();
        Ok(rest.get(..length).unwrap_or(rest))
    }
}

/// A frame that verified, not yet decrypted.
#[derive(Clone, Debug)]
pub(crate) struct RawFrame {
    pub(crate) header: FrameHeader,
    pub(crate) hash: [u8; 32],
    pub(crate) offset: u64,
}

/// What is at a position of a segment.
#[derive(Debug)]
pub(crate) enum Step {
    /// The next frame of the chain.
    Frame(RawFrame),
    /// No frame that continues the chain.
    End(&'static str),
}

/// Reads the frames of one segment in order, checking CRC, hash and chain.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    pub(crate) header: SegmentHeader,
    /// The sequence the next frame must have.
    pub(crate) expected: Sequence,
    /// The hash of the frame before.
    pub(crate) chain: [u8; 32],
    /// Where the next frame must start.
    pub(crate) offset: u64,
    window: Window,
    key: SealKey,
    keys: Arc<Keys>,
}

impl SegmentReader {
    pub(crate) fn open(shared: &Shared, header: SegmentHeader) -> Result<Self, StoreError> {
        let path = shared.dir.join(segment_name(header.number));
        let file = shared.disk.open(&path).during("opening a ledger segment")?;
        Ok(Self {
            key: shared.keys.segment_key(&header.id)?,
            keys: Arc::clone(&shared.keys),
            expected: header.first_sequence,
            chain: header.previous_hash,
            offset: SEGMENT_HEADER_BYTES as u64,
            window: Window::new(file),
            header,
        })
    }

    /// Verifies the frame at the current position and moves behind it.
    pub(crate) fn step(&mut self) -> Result<Step, StoreError> {
        let frame = match parse(&mut self.window, self.offset)? {
            Ok(frame) => frame,
            Err(what) => return Ok(Step::End(what)),
        };
        if frame.header.sequence != self.expected {
            return Ok(Step::End("the sequence has a gap"));
        }
        if frame.header.previous_hash != self.chain && !planted("hash chain not checked") {
            return Ok(Step::End("the hash chain is broken"));
        }
        self.expected = self.expected.next();
        self.chain = frame.hash;
        self.offset += frame.header.frame_bytes() as u64;
        Ok(Step::Frame(frame))
    }

    /// As [`SegmentReader::step`], looking at the file again.
    fn step_afresh(&mut self) -> Result<Step, StoreError> {
        self.window.bytes.clear();
        self.step()
    }

    /// Decrypts a frame that [`SegmentReader::step`] gave.
    pub(crate) fn decode(&mut self, frame: &RawFrame) -> Result<Frame, StoreError> {
        let bytes = self.window.at(frame.offset, frame.header.frame_bytes())?;
        decode_bytes(frame, self.header.number, bytes, &self.key, &self.keys)
    }

    /// Reads the frame at `offset`, wherever the last one was: its own checks are made, its place in
    /// the chain is not looked at.
    pub(crate) fn frame_at(&mut self, offset: u64) -> Result<Frame, StoreError> {
        self.window.narrow();
        let found = if let Ok(found) = parse(&mut self.window, offset)? {
            found
        } else {
            // The window may have been read before the writer came this far.
            self.window.forget();
            let name = || segment_name(self.header.number);
            parse(&mut self.window, offset)?
                .map_err(|what| StoreError::corrupt(name(), offset, what))?
        };
        self.decode(&found)
    }

    /// The error for a chain that ends where it must not.
    pub(crate) fn broken(&self, what: &'static str) -> StoreError {
        StoreError::corrupt(segment_name(self.header.number), self.offset, what)
    }
}

/// Decrypts a frame of the segment numbered `segment`, given as it lies on disk.
pub(crate) fn decode_bytes(
    frame: &RawFrame,
    segment: u64,
    bytes: &[u8],
    key: &SealKey,
    keys: &Keys,
) -> Result<Frame, StoreError> {
    let header = bytes.get(..FRAME_HEADER_BYTES).unwrap_or_default();
    let end = bytes.len().saturating_sub(HASH_BYTES);
    let mut data = bytes
        .get(FRAME_HEADER_BYTES..end)
        .unwrap_or_default()
        .to_vec();
    let nonce = counter_nonce(frame.header.sequence.0, 0);
    key.open(nonce, header, &mut data).ok_or_else(|| {
        let place = segment_name(segment);
        StoreError::corrupt(place, frame.offset, "the payload does not verify")
    })?;
    let place = Place {
        segment,
        offset: frame.offset,
    };
    payload::decode(&frame.header, place, frame.hash, data, keys)
}

/// The frame at `offset`, verified by its own CRC and hash only.
pub(crate) fn parse(
    window: &mut Window,
    offset: u64,
) -> Result<Result<RawFrame, &'static str>, StoreError> {
    let Some(header) = FrameHeader::decode(window.at(offset, FRAME_HEADER_BYTES)?) else {
        return Ok(Err("no frame header"));
    };
    let size = header.frame_bytes();
    let bytes = window.at(offset, size)?;
    let Some((body, stored)) = bytes.split_at_checked(size - HASH_BYTES) else {
        return Ok(Err("the frame is cut short"));
    };
    let hash = sha256(&[body]);
    if stored != hash {
        return Ok(Err("the frame's hash does not match"));
    }
    Ok(Ok(RawFrame {
        header,
        hash,
        offset,
    }))
}

/// Reads frames from a sequence up to the last durable one. After it has returned `None` it can be
/// asked again, and goes on with frames written since.
#[derive(Debug)]
pub(crate) struct FrameIterator {
    shared: Arc<Shared>,
    from: Sequence,
    reader: Option<SegmentReader>,
    failed: bool,
}

impl FrameIterator {
    pub(crate) fn new(shared: Arc<Shared>, from: Sequence) -> Self {
        Self {
            shared,
            from: from.max(Sequence(1)),
            reader: None,
            failed: false,
        }
    }

    fn advance(&mut self) -> Result<Option<Frame>, StoreError> {
        loop {
            let wanted = self
                .reader
                .as_ref()
                .map_or(self.from, |reader| reader.expected);
            if wanted > self.shared.durable() {
                return Ok(None);
            }
            let stays = match &self.reader {
                Some(reader) => !self.shared.ends_before(reader.header.number, wanted),
                None => false,
            };
            if !stays {
                self.change_segment(wanted)?;
            }
            let Some(reader) = &mut self.reader else {
                return Ok(None);
            };
            match reader.step()? {
                Step::Frame(frame) if frame.header.sequence >= self.from => {
                    return reader.decode(&frame).map(Some);
                }
                Step::Frame(_) => {}
                // The window may have been read before the writer came this far.
                Step::End(_) => match reader.step_afresh()? {
                    Step::Frame(frame) if frame.header.sequence >= self.from => {
                        return reader.decode(&frame).map(Some);
                    }
                    Step::Frame(_) => {}
                    Step::End(what) => return Err(reader.broken(what)),
                },
            }
        }
    }

    fn change_segment(&mut self, wanted: Sequence) -> Result<(), StoreError> {
        let Some(header) = self.shared.segment_of(wanted) else {
            self.reader = None;
            return Ok(());
        };
        let next = SegmentReader::open(&self.shared, header)?;
        if let Some(before) = &self.reader
            && (next.expected != before.expected || next.chain != before.chain)
        {
            return Err(next.broken("the segment does not continue the one before"));
        }
        self.reader = Some(next);
        Ok(())
    }
}

impl Iterator for FrameIterator {
    type Item = Result<Frame, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.advance().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}
