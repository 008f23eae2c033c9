//! Opening a store: lock, keys, ledger, index, blobs, and the committing thread.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use tokio::sync::Semaphore;

use super::Store;
use super::blobs::{Blobs, Medium};
use super::clock_watch::ClockWatch;
use super::commit::Sequence;
use super::committer::{Committer, GroupLimits};
use super::core::{Core, Counters, Live};
use super::disk::Disk;
use super::error::{IoContext as _, StoreError};
use super::health::Health;
use super::index::Index;
use super::keys::{KeyStateRow, Keys, Pending};
use super::keywork;
use super::ledger::recover::{self, End};
use super::ledger::{Ledger, Shared, Sizes};
use super::options::{OpenReport, Options, RebuildReason};
use super::overlay::InFlight;
use super::replay::Visit;
use super::room::Room;
use super::subjects::Subjects;
use super::table::Schema;
use super::writer::Writer;
use crate::planted::planted;

/// Keeps other processes out while it lives.
type Lock = Box<dyn Any + Send + Sync>;

/// Opens the store in `dir`; see [`Store::open`].
pub(super) fn open(
    dir: &Path,
    schema: Schema,
    options: &Options,
) -> Result<(Arc<Store>, OpenReport), StoreError> {
    if let Some(table) = schema.duplicates().first() {
        return Err(StoreError::InvalidRow {
            table,
            what: "shares its table number",
        });
    }
    let Options {
        disk,
        clock,
        random,
        ..
    } = options;
    let started = Instant::now();
    let lock = lock(dir, disk.as_ref())?;
    let root = options.root_of(dir);
    let now = clock.now().as_second();
    let keys = Keys::open_or_create(dir, &root, disk, random.as_ref(), now)?;
    let keys = Arc::new(keys);
    let shared = Arc::new(recover::open(&dir.join("ledger"), disk, &keys)?);
    let (index, reason) = Index::open(
        options.index,
        &dir.join("index"),
        options.index_cache_bytes,
        schema.fingerprint(),
        &keys,
        random.as_ref(),
    )?;
    let health = Health::default();
    let room = Room::open(dir, disk, clock, &health, options.reserve_bytes)?;
    let room = Arc::new(room);
    let medium = Medium::of(options, Arc::clone(&keys), health.clone()).within(&room);
    let (blobs, removed) = Blobs::open(dir.join("blobs"), options.second_copy.clone(), medium)?;
    let mut report = OpenReport {
        created: keys.created(),
        removed_temporary_files: removed,
        rebuilt: reason,
        ..OpenReport::default()
    };
    let end = catch_up(&shared, &index, &schema, &keys, options, &mut report)?;
    shared.set_durable(end.last);
    let ledger = Ledger::new(
        Arc::clone(&shared),
        Arc::clone(random),
        sizes(options),
        end.last.next(),
        end.chain,
        (health.clone(), Arc::clone(&room)),
    )?;
    let core = Core {
        keys,
        schema,
        index,
        ledger: shared,
        blobs,
        clock: Arc::clone(clock),
        random: Arc::clone(random),
        health,
        room,
        counters: Counters::default(),
        live: Live::default(),
    };
    let state = confirm_keys(&core, dir, disk.as_ref(), &mut report)?;
    let store = start(Arc::new(core), ledger, lock, &state, dir, options)?;
    store.settle_keys(&state)?;
    report.took = started.elapsed();
    Ok((Arc::new(store), report))
}

fn sizes(options: &Options) -> Sizes {
    Sizes {
        segment: options.segment_bytes,
        preallocate: options.preallocate_bytes,
    }
}

/// Makes sure that the key table belongs to the ledger, that it lasts, and that nothing else lies
/// about.
fn confirm_keys(
    core: &Core,
    dir: &Path,
    disk: &dyn Disk,
    report: &mut OpenReport,
) -> Result<KeyStateRow, StoreError> {
    let state = keywork::check_table(core)?;
    report.mended_keys = core.keys.mend(dir, disk)?;
    if state.pending() != Pending::Nothing || Keys::is_moved(dir, disk)? {
        core.keys.harden(dir, disk)?;
    }
    core.keys.tidy(dir, disk)?;
    Ok(state)
}

/// Makes the folder and takes its lock.
fn lock(dir: &Path, disk: &dyn Disk) -> Result<Lock, StoreError> {
    disk.create_dir_all(dir)
        .during("making the store's folder")?;
    disk.lock(&dir.join("store.lock"))
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StoreError::Locked,
            _ => StoreError::Io {
                operation: "locking the store",
                source: Arc::new(error),
            },
        })
}

/// Brings the index to the end of the ledger, from nothing if it cannot be used.
fn catch_up(
    shared: &Shared,
    index: &Index,
    schema: &Schema,
    keys: &Keys,
    options: &Options,
    report: &mut OpenReport,
) -> Result<End, StoreError> {
    let applied = index.applied();
    let mut end = replay(shared, index, schema, report)?;
    if applied > end.last && !planted("index ahead of the ledger kept") {
        // Frames get into the index only after they are durable in the ledger.
        if end.torn_bytes > 0 {
            let what = "a frame that was applied before no longer verifies";
            return Err(StoreError::corrupt("ledger", end.last.0, what));
        }
        tracing::error!(
            applied = applied.0,
            last = end.last.0,
            "the index knows frames that the ledger does not have; it is rebuilt"
        );
        index.reset(keys, options.random.as_ref())?;
        end = replay(shared, index, schema, report)?;
        report.rebuilt = Some(RebuildReason::Ahead);
    }
    if end.last == Sequence(0) && report.rebuilt == Some(RebuildReason::Missing) {
        report.rebuilt = None;
    }
    report.last_sequence = end.last;
    report.torn_bytes = end.torn_bytes;
    report.clean = end.clean;
    Ok(end)
}

fn replay(
    shared: &Shared,
    index: &Index,
    schema: &Schema,
    report: &mut OpenReport,
) -> Result<End, StoreError> {
    let from = index.applied().next();
    let read = |visit: &mut Visit<'_>| recover::replay(shared, from, visit);
    let (end, frames) = super::replay::replay(index, schema, read)?;
    report.applied_frames = frames;
    Ok(end)
}

fn start(
    core: Arc<Core>,
    ledger: Ledger,
    lock: Lock,
    state: &KeyStateRow,
    dir: &Path,
    options: &Options,
) -> Result<Store, StoreError> {
    let (requests, receiver) = mpsc::channel();
    let mut subjects = Subjects::default();
    subjects.set_purging(state.purging());
    let committer = Committer {
        core: Arc::clone(&core),
        in_flight: InFlight::default(),
        next: ledger.next(),
        failures: 0,
        writer: Writer::start(&core, ledger)?,
        limits: GroupLimits {
            commits: options.batch_commits.max(1),
            bytes: options.batch_bytes,
            wait: options.batch_wait,
        },
        requests: receiver,
        subjects,
        dir: dir.to_path_buf(),
        lock: Some(lock),
        last_groups: [1, 1],
        watch: ClockWatch::default(),
    };
    let thread = std::thread::Builder::new()
        .name("store-commit".to_owned())
        .spawn(move || committer.run())
        .during("starting the committing thread")?;
    let queue_units = (options.queue_bytes / Options::MIN_COMMIT_COST).max(1);
    Ok(Store {
        core,
        requests: Some(requests),
        thread: Mutex::new(Some(thread)),
        queue: Arc::new(Semaphore::new(queue_units)),
        queue_units,
        commit_bytes: options.commit_bytes,
        idempotency_kept: options.idempotency_kept,
    })
}
