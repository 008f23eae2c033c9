//! What the disk does without us.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::store::disk::{Disk as _, RealDisk};

/// The file that is written over; larger than what one run writes between two rounds.
const FILE_BYTES: u64 = 64 << 20;
/// How much is read in one call.
const READ_BYTES: usize = 1 << 20;

/// fdatasync of one size.
pub(super) struct Syncs {
    /// In a second.
    pub(super) rate: f64,
    /// Microseconds.
    pub(super) p50: f64,
    /// How many.
    pub(super) n: u64,
}

/// Writes `bytes` and makes them durable, one after another, for `time`: over the zeros of a file
/// that was `preallocated`, or else at the end of one.
pub(super) fn syncs(
    folder: &Path,
    bytes: u64,
    time: Duration,
    preallocated: bool,
) -> Result<Syncs> {
    let path = folder.join("floor");
    let file = RealDisk.create(&path)?;
    if preallocated {
        file.preallocate(0, FILE_BYTES)?;
    }
    file.fdatasync()?;
    let data = vec![0xA5; usize::try_from(bytes.max(1))?];
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    let (started, mut at) = (Instant::now(), 0);
    while started.elapsed() < time {
        if preallocated && at + bytes > FILE_BYTES {
            at = 0;
        }
        let before = Instant::now();
        file.write_at(&data, at)?;
        file.fdatasync()?;
        times.saturating_record(u64::try_from(before.elapsed().as_micros())?);
        at += bytes;
    }
    #[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
    let found = Syncs {
        rate: times.len() as f64 / started.elapsed().as_secs_f64(),
        p50: times.value_at_quantile(0.5) as f64,
        n: times.len(),
    };
    RealDisk.remove(&path)?;
    Ok(found)
}

/// Reads every file of a folder from end to end. Bytes, and bytes in a second.
pub(super) fn sequential_read(folder: &Path) -> Result<(u64, f64)> {
    let (mut bytes, started) = (0, Instant::now());
    let mut buffer = vec![0; READ_BYTES];
    for name in RealDisk.list(folder)? {
        let mut file = File::open(folder.join(name))?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
    let rate = bytes as f64 / started.elapsed().as_secs_f64();
    Ok((bytes, rate))
}
