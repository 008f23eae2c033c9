//! What a backup run wrote down about itself: JSON, and a line with its SHA-256.

use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::super::commit::Sequence;
use super::super::crypto::sha256;
use super::super::disk::{Disk, read_small, write_small};
use super::super::error::{IoContext as _, StoreError};
use super::GENERATIONS;

/// The format this program writes and the newest it reads.
const FORMAT: u16 = 1;
/// Largest manifest, bytes.
const MAX_BYTES: usize = 256 << 20;

/// A point of a ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The last frame.
    pub sequence: u64,
    /// Its hash, hex; zeros before the first frame.
    pub hash: String,
    /// When it was written (RFC 3339); empty before the first frame.
    pub time: String,
}

/// A segment of the ledger as far as it is in the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Its random id, hex.
    pub id: String,
    /// Its first frame, or the one it was made for.
    pub first_sequence: u64,
    /// Its last frame; one before the first if it has none.
    pub last_sequence: u64,
    /// The hash of the last frame, hex; of the one before the segment if it has none.
    pub chain: String,
    /// So many bytes of the file count.
    pub bytes: u64,
    /// SHA-256 of them, hex.
    pub sha256: String,
}

/// A copy of a key file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFile {
    /// Its name in a store.
    pub name: String,
    /// Its name in the backup.
    pub copy: String,
    /// SHA-256, hex.
    pub sha256: String,
}

/// The documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents {
    /// How many are in the backup. Each is named by the keyed hash of its content.
    pub count: u64,
    /// How many of them this run added.
    pub added: u64,
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub(super) format: u16,
    /// Counted from 1.
    pub generation: u64,
    /// The store's id, hex.
    pub store: String,
    /// When the run ended (RFC 3339).
    pub created: String,
    /// How far the backup goes.
    pub mark: Mark,
    /// The ledger.
    pub segments: Vec<Segment>,
    /// The key files.
    pub keys: Vec<KeyFile>,
    /// The documents.
    pub documents: Documents,
}

impl Manifest {
    /// An empty manifest to be filled.
    pub(super) fn new(generation: u64) -> Self {
        Self {
            format: FORMAT,
            generation,
            store: String::new(),
            created: String::new(),
            mark: Mark {
                hash: HEXLOWER.encode(&[0; 32]),
                ..Mark::default()
            },
            segments: Vec::new(),
            keys: Vec::new(),
            documents: Documents::default(),
        }
    }

    /// The mark's sequence.
    pub fn sequence(&self) -> Sequence {
        Sequence(self.mark.sequence)
    }

    /// Writes the manifest; with it the run is done.
    pub(super) fn write(&self, disk: &dyn Disk, to: &Path) -> Result<(), StoreError> {
        let mut text =
            serde_json::to_string(self).map_err(|_| StoreError::Crypto("writing the manifest"))?;
        let sum = HEXLOWER.encode(&sha256(&[text.as_bytes()]));
        text.push('\n');
        text.push_str(&sum);
        text.push('\n');
        write_small(disk, &path(to, self.generation), text.as_bytes())
            .during("writing the backup's manifest")
    }

    fn read(disk: &dyn Disk, to: &Path, generation: u64) -> Result<Self, StoreError> {
        let bytes = read_small(disk, &path(to, generation), MAX_BYTES)
            .during("reading the backup's manifest")?;
        let place = format!("{GENERATIONS}/{}", name(generation));
        let wrong = |what| StoreError::corrupt(place.clone(), 0, what);
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is not a manifest"))?;
        let (json, sum) = text
            .trim_end_matches('\n')
            .rsplit_once('\n')
            .ok_or_else(|| wrong("is not a manifest"))?;
        if HEXLOWER.encode(&sha256(&[json.as_bytes()])) != sum {
            return Err(wrong("the manifest's checksum does not match"));
        }
        let format = serde_json::from_str::<Format>(json);
        let format = format.map_err(|_| wrong("is not a manifest"))?.format;
        if format > FORMAT {
            return Err(StoreError::Format {
                what: "backup",
                found: format,
                supported: FORMAT,
            });
        }
        serde_json::from_str(json).map_err(|_| wrong("is not a manifest"))
    }

    /// The newest manifest of a backup; `None` if no run was finished. Also returns what is wrong
    /// with newer ones.
    pub(super) fn newest(
        disk: &dyn Disk,
        to: &Path,
    ) -> Result<(Option<Self>, Vec<StoreError>), StoreError> {
        let names = match disk.list(&to.join(GENERATIONS)) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).during("listing the backup"),
        };
        let numbers = names
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        let mut faults = Vec::new();
        for number in numbers.into_iter().rev() {
            match Self::read(disk, to, number) {
                Ok(manifest) => return Ok((Some(manifest), faults)),
                Err(error @ StoreError::Format { .. }) => return Err(error),
                Err(error) => faults.push(error),
            }
        }
        Ok((None, faults))
    }
}

#[derive(Deserialize)]
struct Format {
    format: u16,
}

fn name(generation: u64) -> String {
    format!("{generation:010}.json")
}

fn path(to: &Path, generation: u64) -> PathBuf {
    to.join(GENERATIONS).join(name(generation))
}
