//! A segment read without keys: everything but the content of its frames is verified.

use std::path::Path;

use super::super::commit::Sequence;
use super::super::disk::Disk;
use super::super::error::{IoContext as _, StoreError};
use super::format::{FrameHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::reader::{RawFrame, Step, Window, parse};
use super::segment_name;
use super::tail::look_behind;

/// How far a segment was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The sequence the next frame must have.
    pub(crate) expected: Sequence,
    /// The hash of the frame before.
    pub(crate) chain: [u8; 32],
    /// Where the next frame must start.
    pub(crate) offset: u64,
}

/// Reads the frames of one segment in order, checking CRC, hash and chain.
#[derive(Debug)]
pub(crate) struct RawSegment {
    pub(crate) header: SegmentHeader,
    pub(crate) position: Position,
    header_bytes: Vec<u8>,
    window: Window,
}

impl RawSegment {
    /// Opens the segment numbered `number` in `dir`, at its start.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, number: u64) -> Result<Self, StoreError> {
        let name = segment_name(number);
        let file = disk
            .open_read(&dir.join(&name))
            .during("opening a ledger segment")?;
        let mut window = Window::new(file);
        let header_bytes = window.at(0, SEGMENT_HEADER_BYTES)?.to_vec();
        let header = SegmentHeader::decode(&header_bytes, &name)?;
        if header.number != number {
            let what = "the segment has another number than its name";
            return Err(StoreError::corrupt(name, 0, what));
        }
        Ok(Self {
            position: Position {
                expected: header.first_sequence,
                chain: header.previous_hash,
                offset: SEGMENT_HEADER_BYTES as u64,
            },
            header,
            header_bytes,
            window,
        })
    }

    /// The header as it lies on disk.
    pub(crate) fn header_bytes(&self) -> &[u8] {
        &self.header_bytes
    }

    /// Verifies the frame at the current position and moves behind it.
    pub(crate) fn step(&mut self) -> Result<Step, StoreError> {
        let frame = match parse(&mut self.window, self.position.offset)? {
            Ok(frame) => frame,
            Err(what) => return Ok(Step::End(what)),
        };
        if frame.header.sequence != self.position.expected {
            return Ok(Step::End("the sequence has a gap"));
        }
        if frame.header.previous_hash != self.position.chain {
            return Ok(Step::End("the hash chain is broken"));
        }
        self.position = Position {
            expected: self.position.expected.next(),
            chain: frame.hash,
            offset: self.position.offset + frame.header.frame_bytes() as u64,
        };
        Ok(Step::Frame(frame))
    }

    /// The next frame; `None` where the ledger may end: nothing that follows was written after a
    /// missing frame was acknowledged. Another process may be writing the segment.
    pub(crate) fn next_live(&mut self) -> Result<Option<RawFrame>, StoreError> {
        if let Step::Frame(frame) = self.step()? {
            return Ok(Some(frame));
        }
        self.window.forget();
        if let Step::Frame(frame) = self.step()? {
            return Ok(Some(frame));
        }
        if !self.later_write_follows()? {
            return Ok(None);
        }
        // Or it came between the two looks.
        self.window.forget();
        match self.step()? {
            Step::Frame(frame) => Ok(Some(frame)),
            Step::End(_) => Err(self.broken("a bad frame is followed by a good one")),
        }
    }

    /// The bytes of a frame that was just given.
    pub(crate) fn bytes(&mut self, frame: &RawFrame) -> Result<&[u8], StoreError> {
        self.window.at(frame.offset, frame.header.frame_bytes())
    }

    /// The next frame header that stands anywhere behind `offset`, with a frame whose hash is right.
    pub(crate) fn resync(&mut self, offset: u64) -> Result<Option<RawFrame>, StoreError> {
        Ok(look_behind(&mut self.window, offset, &mut |_| true)?.found)
    }

    /// Bytes that stand behind the current position, up to the last that is not zero.
    pub(crate) fn unused_bytes(&mut self) -> Result<u64, StoreError> {
        Ok(look_behind(&mut self.window, self.position.offset, &mut |_| false)?.used_bytes)
    }

    /// Goes on at a frame found by [`RawSegment::resync`].
    pub(crate) fn jump(&mut self, frame: &RawFrame) {
        let FrameHeader {
            sequence,
            previous_hash,
            ..
        } = frame.header;
        self.position = Position {
            expected: sequence,
            chain: previous_hash,
            offset: frame.offset,
        };
    }

    fn later_write_follows(&mut self) -> Result<bool, StoreError> {
        let expected = self.position.expected;
        let mut follows = |frame: &RawFrame| frame.header.write_first > expected;
        let behind = look_behind(&mut self.window, self.position.offset, &mut follows)?;
        Ok(behind.found.is_some())
    }

    /// The error for a chain that ends where it must not.
    pub(crate) fn broken(&self, what: &'static str) -> StoreError {
        let name = segment_name(self.header.number);
        StoreError::corrupt(name, self.position.offset, what)
    }
}

/// The numbers of the segments in `dir`, in order; none missing in between.
pub(crate) fn segment_numbers(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, StoreError> {
    let names = match disk.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).during("listing the ledger"),
    };
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".seg")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}
