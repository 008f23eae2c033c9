//! Backups: a folder that holds the ledger, the documents and the wrapped keys of a store as they
//! were at some frame (the *mark*), all as ciphertext. **The root key is not in it.**
//!
//! ```text
//! generations/0000000001.json   manifest of a backup run, written last
//! ledger/0000000001.seg         the ledger's segments; only ever get longer
//! blobs/ab/cdef…                the documents
//! keys/<time>.<file>            copies of the key files, by the time they were made
//! ```
//!
//! A run needs neither the store's lock nor its keys, so it goes on beside a running node: it copies
//! frames that verify (CRC, hash, chain) up to the end of the ledger, makes sure that the end is on
//! the source's disk, then copies the key files, then every document there is. A frame's documents
//! and keys are durable before the frame, so what the mark needs is there. Later runs add what is
//! new. A run that was broken off left nothing that the next one cannot use.
//!
//! Copies of the key files older than [`KEYS_KEPT`] are removed by each run, but never the newest: a
//! purged key must not outlive its time in a backup.

mod manifest;
mod restore;
mod run;

use std::time::Duration;

pub use manifest::{Manifest, Mark};
pub use restore::{Cut, RestoreReport, RestoreRequest, restore};
pub use run::{BackupReport, BackupRequest, backup, latest};

/// How long superseded copies of the key files are kept (security bars §4).
pub const KEYS_KEPT: Duration = Duration::from_hours(35 * 24);

/// The folders of a backup.
const GENERATIONS: &str = "generations";
const LEDGER: &str = "ledger";
const BLOBS: &str = "blobs";
const KEYS: &str = "keys";

/// How far a backup or restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: &'static str,
    /// Bytes so far, over all phases.
    pub bytes: u64,
    /// Frames so far.
    pub frames: u64,
    /// Documents so far.
    pub documents: u64,
}
