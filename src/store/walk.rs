//! Walking a ledger from its files alone, whether a node runs on it or not: every frame is verified,
//! every fault is named, and the walk goes on behind it. Nothing is written and no lock is taken.

use std::path::Path;
use std::sync::Arc;

use super::commit::{Frame, Place, Sequence};
use super::crypto::SealKey;
use super::disk::Disk;
use super::error::StoreError;
use super::inspect::Found;
use super::keys::Keys;
use super::ledger::end::{END_FILE, Noted};
use super::ledger::format::SegmentHeader;
use super::ledger::raw::{RawSegment, segment_numbers};
use super::ledger::reader::{RawFrame, decode_bytes};
use super::ledger::segment_name;
use super::offline::{is_store, open_keys};
use super::options::Options;

/// What is met on the way.
#[derive(Debug)]
pub enum Walked {
    /// A frame whose CRC, hash and place in the chain are right.
    Frame(Sealed),
    /// Something wrong: where, at or before which frame, and what.
    Fault(Sequence, Found),
}

/// A verified frame that is not decrypted yet, to be opened on any thread.
#[derive(Debug)]
pub struct Sealed {
    /// Its number.
    pub sequence: Sequence,
    /// Where it lies.
    pub place: Place,
    /// Its hash.
    pub hash: [u8; 32],
    frame: RawFrame,
    bytes: Vec<u8>,
    opener: Option<Arc<Opener>>,
}

#[derive(Debug)]
struct Opener {
    key: SealKey,
    keys: Arc<Keys>,
}

impl Sealed {
    /// Decrypts it; `None` if there are no keys.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it does not verify under its key.
    pub fn open(&self) -> Result<Option<Frame>, StoreError> {
        let Some(opener) = &self.opener else {
            return Ok(None);
        };
        let segment = self.place.segment;
        decode_bytes(&self.frame, segment, &self.bytes, &opener.key, &opener.keys).map(Some)
    }
}

/// The keys of the store in `dir`, if its root key is at hand.
///
/// # Errors
/// [`StoreError::Missing`] if there is no store; those of the keys.
pub fn open_keys_of(dir: &Path, options: &Options) -> Result<Option<Arc<Keys>>, StoreError> {
    if !is_store(dir, options)? {
        return Err(StoreError::Missing("the key table"));
    }
    Ok(open_keys(dir, options)?.map(Arc::new))
}

/// Walks the ledger in `dir` from its first frame to its last, which must not be before the one that
/// `ledger.end` notes. Returns how many bytes an unfinished
/// write left at its end, which is no fault.
///
/// # Errors
/// What `visit` returns, which ends the walk; [`StoreError::Io`] if the ledger cannot be listed.
pub fn walk<E: From<StoreError>>(
    dir: &Path,
    options: &Options,
    keys: Option<&Arc<Keys>>,
    visit: &mut dyn FnMut(Walked) -> Result<(), E>,
) -> Result<u64, E> {
    let disk = options.disk.as_ref();
    let dir = dir.join("ledger");
    // Read first: a ledger that is being written only grows.
    let noted = Noted::read(disk, &dir);
    let numbers = segment_numbers(disk, &dir)?;
    let mut walk = Walk {
        keys,
        visit,
        last: Sequence(0),
    };
    let mut chain = Some(([0; 32], Sequence(1)));
    let (mut torn, mut ended, mut headers) = (0, false, Vec::new());
    for (place, number) in numbers.iter().enumerate() {
        let name = segment_name(*number);
        if *number != place as u64 + 1 && chain.is_some() {
            walk.fault(&name, None, "a segment before this one is missing")?;
            chain = None;
        }
        let mut segment = match RawSegment::open(disk, &dir, *number) {
            Ok(segment) => segment,
            Err(error) => {
                walk.error(&name, &error)?;
                chain = None;
                continue;
            }
        };
        let starts = (segment.position.chain, segment.position.expected);
        if chain.is_some_and(|chain| chain != starts) {
            let what = "the segment does not continue the one before";
            walk.fault(&name, Some(0), what)?;
        }
        let limit = next_first(disk, &dir, numbers.get(place + 1));
        let is_last = place + 1 == numbers.len();
        ended = walk.segment(&mut segment, limit, is_last)?;
        if ended {
            torn = segment.unused_bytes()?;
        }
        headers.push(segment.header);
        chain = Some((segment.position.chain, segment.position.expected));
    }
    let end = chain.filter(|_| ended);
    walk.end(noted, &headers, end)?;
    Ok(torn)
}

fn next_first(disk: &dyn Disk, dir: &Path, number: Option<&u64>) -> Option<Sequence> {
    let next = RawSegment::open(disk, dir, *number?).ok()?;
    Some(next.header.first_sequence)
}

struct Walk<'a, E> {
    keys: Option<&'a Arc<Keys>>,
    visit: &'a mut dyn FnMut(Walked) -> Result<(), E>,
    last: Sequence,
}

impl<E: From<StoreError>> Walk<'_, E> {
    fn fault(&mut self, place: &str, offset: Option<u64>, what: &str) -> Result<(), E> {
        let found = Found {
            place: place.to_owned(),
            offset,
            what: what.to_owned(),
        };
        (self.visit)(Walked::Fault(self.last.next(), found))
    }

    fn error(&mut self, place: &str, error: &StoreError) -> Result<(), E> {
        match error {
            StoreError::Corrupt {
                place,
                offset,
                what,
            } => self.fault(place, Some(*offset), what),
            other => self.fault(place, None, &other.to_string()),
        }
    }

    /// Compares where the ledger ended with where it must have.
    fn end(
        &mut self,
        noted: Result<Option<Noted>, StoreError>,
        headers: &[SegmentHeader],
        end: Option<([u8; 32], Sequence)>,
    ) -> Result<(), E> {
        let noted = match noted {
            Ok(Some(noted)) => noted,
            Ok(None) => return Ok(()),
            Err(error) => return self.error(END_FILE, &error),
        };
        if let Err(error) = noted.check_segments(headers) {
            return self.error(END_FILE, &error);
        }
        let Some((hash, next)) = end else {
            return Ok(());
        };
        match noted.contradicts(headers, Sequence(next.0.saturating_sub(1)), hash) {
            Some(what) => self.fault(END_FILE, None, what),
            None => Ok(()),
        }
    }

    /// Walks one segment; whether it came to where the ledger may end.
    fn segment(
        &mut self,
        segment: &mut RawSegment,
        limit: Option<Sequence>,
        is_last: bool,
    ) -> Result<bool, E> {
        let opener = self.opener(segment)?;
        while limit.is_none_or(|limit| segment.position.expected < limit) {
            let frame = match segment.next_live() {
                Ok(Some(frame)) => frame,
                Ok(None) if is_last => return Ok(true),
                Ok(None) => {
                    self.error("ledger", &segment.broken("the segment ends too early"))?;
                    return Ok(false);
                }
                Err(error) => {
                    self.error("ledger", &error)?;
                    match segment.resync(segment.position.offset + 1) {
                        Ok(Some(frame)) => segment.jump(&frame),
                        Ok(None) | Err(_) => return Ok(false),
                    }
                    continue;
                }
            };
            self.last = frame.header.sequence;
            let sealed = Sealed {
                sequence: frame.header.sequence,
                place: Place {
                    segment: segment.header.number,
                    offset: frame.offset,
                },
                hash: frame.hash,
                bytes: segment.bytes(&frame)?.to_vec(),
                frame,
                opener: opener.clone(),
            };
            (self.visit)(Walked::Frame(sealed))?;
        }
        Ok(false)
    }

    fn opener(&mut self, segment: &RawSegment) -> Result<Option<Arc<Opener>>, E> {
        let Some(keys) = self.keys else {
            return Ok(None);
        };
        if segment.header.store_id != keys.store_id() {
            let name = segment_name(segment.header.number);
            self.fault(&name, Some(0), "the segment belongs to another store")?;
            return Ok(None);
        }
        let opener = Opener {
            key: keys.segment_key(&segment.header.id)?,
            keys: Arc::clone(keys),
        };
        Ok(Some(Arc::new(opener)))
    }
}
