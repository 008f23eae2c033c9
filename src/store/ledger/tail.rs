//! The end of the ledger after any kind of stop: telling a write that was cut off from damage, and
//! making durable what is kept.
//!
//! A bad frame is corruption, not a torn tail, if a *later write* follows it, because a later write
//! starts only after the earlier one is durable; and if it was once written whole.

use super::super::crypto::{TAG_BYTES, sha256};
use super::super::error::{IoContext as _, StoreError};
use super::format::{FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, HASH_BYTES, SegmentHeader};
use super::reader::{RawFrame, SegmentReader, Window, parse};
use super::recover::remove_if_there;
use super::{Shared, segment_name};
use crate::planted::planted;

/// How much of the tail is looked at in one step.
const TAIL_STEP_BYTES: usize = 128 << 10;
/// A disk writes this much whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Looks at everything behind the last good frame. Returns how many bytes an unfinished write left
/// there; 0 if only preallocated zeros follow.
pub(super) fn judge(shared: &Shared, reader: &SegmentReader) -> Result<u64, StoreError> {
    let path = shared.dir.join(segment_name(reader.header.number));
    let file = shared.disk.open(&path).during("opening a ledger segment")?;
    let mut window = Window::new(file);
    // What was written after the missing frame was acknowledged.
    let mut follows = |frame: &RawFrame| {
        frame.header.write_first > reader.expected
            && !planted("bad frame before good ones cut away")
    };
    let behind = look_behind(&mut window, reader.offset, &mut follows)?;
    if behind.found.is_some() {
        return Err(reader.broken("a bad frame is followed by a good one"));
    }
    if behind.used_bytes > 0 && was_written_whole(&mut window, reader.offset)? {
        return Err(reader.broken("the last frame was written whole and has changed since"));
    }
    Ok(behind.used_bytes)
}

/// What stands behind a place of a segment.
#[derive(Debug)]
pub(crate) struct Behind {
    /// Bytes up to the last one that is not zero.
    pub(crate) used_bytes: u64,
    /// The first whole frame that is wanted; nothing behind it was looked at.
    pub(crate) found: Option<RawFrame>,
}

/// Looks for a frame with a right hash that is `wanted`, anywhere from `start` on.
pub(crate) fn look_behind(
    window: &mut Window,
    start: u64,
    wanted: &mut dyn FnMut(&RawFrame) -> bool,
) -> Result<Behind, StoreError> {
    let (mut at, mut last_used) = (start, start);
    loop {
        let (used, found) = {
            let bytes = window.at(at, TAIL_STEP_BYTES)?;
            if bytes.is_empty() {
                break;
            }
            // The last three bytes of a step are looked at again, for a magic across the border.
            let used = bytes.len().saturating_sub(FRAME_MAGIC.len() - 1).max(1);
            if let Some(place) = bytes.iter().rposition(|byte| *byte != 0) {
                last_used = last_used.max(at + place as u64 + 1);
            }
            (used as u64, candidates(bytes))
        };
        for place in found {
            if let Ok(frame) = parse(window, at + place as u64)?
                && wanted(&frame)
            {
                return Ok(Behind {
                    used_bytes: last_used - start,
                    found: Some(frame),
                });
            }
        }
        at += used;
    }
    Ok(Behind {
        used_bytes: last_used - start,
        found: None,
    })
}

/// Whether the frame at `offset`, which does not verify, was once written to its end. Space is
/// taken with zeros, so a write that was cut off leaves zeros: all that follows, if the process
/// died in it, or whole sectors anywhere, if the power failed.
fn was_written_whole(window: &mut Window, offset: u64) -> Result<bool, StoreError> {
    if planted("damaged last frame taken for torn")
        || planted("bad frame before good ones cut away")
    {
        return Ok(false);
    }
    let start = window.at(offset, FRAME_HEADER_BYTES + TAG_BYTES)?;
    let (header, behind) = start
        .split_at_checked(FRAME_HEADER_BYTES)
        .unwrap_or_default();
    if has_gap(offset, start) || behind.iter().all(|byte| *byte == 0) {
        return Ok(false);
    }
    let Some(header) = FrameHeader::decode(header) else {
        return Ok(true);
    };
    let size = header.frame_bytes();
    let frame = window.at(offset, size)?;
    let Some((body, stored)) = frame.split_at_checked(size - HASH_BYTES) else {
        return Ok(false);
    };
    // Cut off within the hash: its beginning is right, and then there is nothing.
    let written = stored.iter().rposition(|byte| *byte != 0);
    let hash = sha256(&[body]);
    let cut_in_hash = match written {
        None => true,
        Some(last) => last + 1 < HASH_BYTES && stored.get(..=last) == hash.get(..=last),
    };
    Ok(!cut_in_hash && !has_gap(offset, frame))
}

/// Whether a sector, or the part of one that these bytes cover, was never written.
fn has_gap(offset: u64, mut bytes: &[u8]) -> bool {
    let first = SECTOR_BYTES - usize::try_from(offset % SECTOR_BYTES as u64).unwrap_or(0);
    let mut length = first;
    while !bytes.is_empty() {
        let (sector, rest) = bytes.split_at(length.min(bytes.len()));
        if sector.iter().all(|byte| *byte == 0) {
            return true;
        }
        (bytes, length) = (rest, SECTOR_BYTES);
    }
    false
}

/// Where a frame could start.
fn candidates(bytes: &[u8]) -> Vec<usize> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Vec::new();
    }
    let windows = bytes.windows(FRAME_MAGIC.len()).enumerate();
    windows
        .filter(|(_, window)| *window == FRAME_MAGIC)
        .map(|(place, _)| place)
        .collect()
}

/// Makes the last write durable before anything is built on it. The process that wrote it may have
/// been killed before its sync, or its sync may have failed, after which the kernel may call the
/// pages clean that it never wrote: so the same bytes are written again, then synced.
pub(super) fn harden(
    shared: &Shared,
    reader: &SegmentReader,
    last_write: Option<u64>,
) -> Result<(), StoreError> {
    if planted("recovered end not synced") {
        return Ok(());
    }
    let Some(start) = last_write else {
        if planted("empty segment not named again") {
            return Ok(());
        }
        return name_again(shared, &reader.header);
    };
    let path = shared.dir.join(segment_name(reader.header.number));
    let file = shared.disk.open(&path).during("opening a ledger segment")?;
    let size = usize::try_from(reader.offset - start).unwrap_or(usize::MAX);
    let mut bytes = vec![0; size];
    let read = file
        .read_at(&mut bytes, start)
        .during("reading the ledger")?;
    bytes.truncate(read);
    file.write_at(&bytes, start)
        .during("rewriting the ledger's end")?;
    file.fdatasync().map_err(|_| StoreError::Poisoned)?;
    shared
        .disk
        .fsync_dir(&shared.dir)
        .map_err(|_| StoreError::Poisoned)
}

/// Names a segment without frames once more, from a new file. If the sync of the folder failed
/// when it was made, its name may be seen and yet never be written; and it cannot be left out, as
/// the one before may end in frames that were answered with a failure and begin where it does.
fn name_again(shared: &Shared, header: &SegmentHeader) -> Result<(), StoreError> {
    let path = shared.dir.join(segment_name(header.number));
    let temporary = path.with_extension("tmp");
    remove_if_there(shared.disk.as_ref(), &temporary)?;
    let during = "naming the last ledger segment again";
    let file = shared.disk.create(&temporary).during(during)?;
    file.write_at(&header.encode(), 0).during(during)?;
    file.fdatasync().map_err(|_| StoreError::Poisoned)?;
    shared.disk.rename(&temporary, &path).during(during)?;
    shared
        .disk
        .fsync_dir(&shared.dir)
        .map_err(|_| StoreError::Poisoned)
}
