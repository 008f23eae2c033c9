//! Opening a ledger after any kind of stop.
//!
//! The last segment may end in a write that was never acknowledged. It is left where it is and
//! ignored: the next segment's header says where this one ended. What is not such a write is
//! corruption, and the ledger does not open ([`tail`]).

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::super::commit::{Frame, Sequence};
use super::super::disk::Disk;
use super::super::error::{IoContext as _, StoreError};
use super::super::keys::Keys;
use super::end::{self, END_FILE, Noted};
use super::format::{FrameKind, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::reader::{SegmentReader, Step};
use super::{Shared, segment_name, tail};
use crate::planted::planted;

/// Removes a file that may not be there.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
    .during("removing a temporary file")
}

/// Lists the segments and reads their headers.
pub(crate) fn open(
    dir: &Path,
    disk: &Arc<dyn Disk>,
    keys: &Arc<Keys>,
) -> Result<Shared, StoreError> {
    disk.create_dir_all(dir)
        .during("making the ledger folder")?;
    let mut segments: Vec<SegmentHeader> = Vec::new();
    for name in disk.list(dir).during("listing the ledger")? {
        if Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "tmp")
        {
            remove_if_there(disk.as_ref(), &dir.join(&name))?;
            continue;
        }
        let file = disk
            .open(&dir.join(&name))
            .during("opening a ledger segment")?;
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        file.read_at(&mut bytes, 0)
            .during("reading a ledger segment")?;
        let header = SegmentHeader::decode(&bytes, &name)?;
        let fault = |what| StoreError::corrupt(&*name, 0, what);
        if name != segment_name(header.number) {
            return Err(fault("the segment has another number than its name"));
        }
        if header.store_id != keys.store_id() {
            return Err(fault("the segment belongs to another store"));
        }
        let (number, first) = segments.last().map_or((1, Sequence(1)), |last| {
            (last.number + 1, last.first_sequence)
        });
        if header.number != number || header.first_sequence < first {
            return Err(fault("a segment before this one is missing"));
        }
        segments.push(header);
    }
    end::tidy(disk.as_ref(), dir)?;
    let noted = Noted::read(disk.as_ref(), dir)?;
    if let Some(noted) = &noted {
        if noted.store_id != keys.store_id() {
            let what = "belongs to another store";
            return Err(StoreError::corrupt(END_FILE, 0, what));
        }
        noted.check_segments(&segments)?;
    }
    let (dir, disk, keys) = (dir.to_path_buf(), Arc::clone(disk), Arc::clone(keys));
    Ok(Shared::new(dir, disk, keys, segments).reaching(noted))
}

/// Where the ledger ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) last: Sequence,
    pub(crate) chain: [u8; 32],
    pub(crate) torn_bytes: u64,
    pub(crate) clean: bool,
}

/// Verifies the ledger from the segment that holds `from` to its end, hands every frame from
/// `from` on to `visit`, and makes the end durable.
pub(crate) fn replay(
    shared: &Shared,
    from: Sequence,
    visit: &mut dyn FnMut(Frame) -> Result<(), StoreError>,
) -> Result<End, StoreError> {
    let segments = shared.segments();
    let start = segments
        .iter()
        .rposition(|header| header.first_sequence <= from)
        .unwrap_or(0);
    let mut end = End::default();
    // Before the first segment there is nothing, and its hash is zeros.
    let mut chain_known = start == 0;
    let todo = segments.get(start..).unwrap_or_default();
    for (place, header) in todo.iter().enumerate() {
        let mut reader = SegmentReader::open(shared, header.clone())?;
        let continues = reader.expected == end.last.next()
            && (reader.chain == end.chain || planted("hash chain not checked"));
        if chain_known && !continues {
            return Err(reader.broken("the segment does not continue the one before"));
        }
        let limit = todo.get(place + 1).map(|next| next.first_sequence);
        let mut last_write = None;
        while limit.is_none_or(|limit| reader.expected < limit) {
            let frame = match (reader.step()?, limit) {
                (Step::Frame(frame), _) => frame,
                (Step::End(what), Some(_)) => return Err(reader.broken(what)),
                (Step::End(_), None) => break,
            };
            end.clean = frame.header.kind == FrameKind::Close;
            if frame.header.write_first == frame.header.sequence {
                last_write = Some(frame.offset);
            }
            if frame.header.sequence >= from {
                let decoded = reader.decode(&frame)?;
                visit(decoded)?;
            }
        }
        end.last = Sequence(reader.expected.0.saturating_sub(1));
        end.chain = reader.chain;
        chain_known = true;
        if limit.is_none() {
            end.torn_bytes = tail::judge(shared, &reader)?;
            if let Some(noted) = &shared.noted
                && let Some(what) = noted.contradicts(&segments, end.last, end.chain)
            {
                return Err(reader.broken(what));
            }
            tail::harden(shared, &reader, last_write)?;
            end.clean &= end.torn_bytes == 0;
        }
    }
    Ok(end)
}
