//! The process under test: this test binary once more, as a store with sixty-four writers that
//! print a receipt for each acknowledgement, until it is killed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use renkei::store::{
    Commit, IndexKey, IndexKind, KeyBuilder, Options, Outcome, Row, Schema, Store, StoreError,
    TableId, Tag, Write,
};
use tokio::task::JoinSet;

use super::variable;

const WRITERS: u64 = 64;
/// The second row of a commit has the id of the first and this bit.
pub(super) const TWIN: u64 = 1 << 60;

/// What the writers write: the text follows from the id.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Entry {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "2")]
    pub(super) text: String,
    /// The document it names, if it does.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) blob: Vec<u8>,
}

impl Row for Entry {
    const TABLE: TableId = TableId(7);
    const NAME: &'static str = "entry";

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new().u64(self.id).build()
    }

    fn index(&self) -> Vec<IndexKey> {
        vec![IndexKey::new(1, KeyBuilder::new().u64(self.id % 7).build())]
    }
}

/// The text of an entry: about 1 KiB.
pub(super) fn text(id: u64) -> String {
    let word = format!("{:016x}-", (id & !TWIN).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    word.repeat(40 + usize::try_from(id % 20).unwrap())
}

/// The document of an entry: one or two segments.
pub(super) fn document(id: u64) -> Vec<u8> {
    text(id)
        .repeat(1 + usize::try_from(id % 90).unwrap())
        .into_bytes()
}

pub(super) fn schema() -> Schema {
    Schema::new().table::<Entry>()
}

/// Small segments, so that they change often.
pub(super) fn options(index: IndexKind) -> Options {
    Options {
        index,
        segment_bytes: 256 << 10,
        preallocate_bytes: 64 << 10,
        index_cache_bytes: 4 << 20,
        ..Options::default()
    }
}

/// What a worker is to do.
pub(super) struct Job<'a> {
    pub(super) dir: &'a Path,
    /// Ids start with it: a job of its own for each process.
    pub(super) number: u64,
    /// `memory` for an index in memory.
    pub(super) index: &'a str,
    /// What it does besides, or how it ends: see [`work`].
    pub(super) mode: &'a str,
    /// Acknowledgements after which it ends by itself; 0 for never.
    pub(super) enough: u64,
}

impl Job<'_> {
    /// Starts the worker, behind `prefix` (a tracer, a limit).
    pub(super) fn start(&self, prefix: &[String]) -> Child {
        let this = std::env::current_exe().unwrap();
        let mut words: Vec<PathBuf> = prefix.iter().map(PathBuf::from).collect();
        words.push(this);
        let (program, arguments) = words.split_first().unwrap();
        Command::new(program)
            .args(arguments)
            .args([
                "storage::worker::works_until_killed",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env("RENKEI_WORKER", self.dir)
            .env("RENKEI_WORKER_NUMBER", self.number.to_string())
            .env("RENKEI_WORKER_INDEX", self.index)
            .env("RENKEI_WORKER_MODE", self.mode)
            .env("RENKEI_WORKER_ENOUGH", self.enough.to_string())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

/// Prints a receipt, whole and at once.
fn receipt(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may listen any more.
    let _written = out
        .write_all(format!("{line}\n").as_bytes())
        .and_then(|()| out.flush())
        .is_ok();
}

#[test]
#[ignore = "the worker of the other tests, not one itself"]
fn works_until_killed() {
    let Some(dir) = variable("RENKEI_WORKER") else {
        return;
    };
    let number = |name| variable(name).unwrap_or_default().parse().unwrap_or(0);
    let (job, enough) = (
        number("RENKEI_WORKER_NUMBER"),
        number("RENKEI_WORKER_ENOUGH"),
    );
    let index = match variable("RENKEI_WORKER_INDEX").as_deref() {
        Some("memory") => IndexKind::Memory,
        _ => IndexKind::default(),
    };
    let mode = variable("RENKEI_WORKER_MODE").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .unwrap();
    let (store, _) = Store::open(Path::new(&dir), schema(), options(index)).unwrap();
    receipt("\nready");
    runtime.block_on(work(store, job, enough, &mode));
}

/// Sixty-four writers; in `memory` mode memory runs out after a while, in `files` mode the file
/// descriptors do, and come back.
async fn work(store: Arc<Store>, job: u64, enough: u64, mode: &str) {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, acknowledged) = (Arc::clone(&store), Arc::clone(&acknowledged));
        writers.spawn(async move {
            for step in 0_u64.. {
                let id = (job << 32) | (writer << 20) | step;
                // Every eighth writer writes documents now and then.
                let with_document = writer % 8 == 0 && step % 4 == 0;
                if write(&store, id, with_document).await.is_ok() {
                    let count = acknowledged.fetch_add(1, Ordering::Relaxed) + 1;
                    if enough > 0 && count >= enough {
                        return;
                    }
                }
                if enough > 0 && acknowledged.load(Ordering::Relaxed) >= enough {
                    return;
                }
            }
        });
    }
    match mode {
        "memory" => exhaust_memory(&acknowledged).await,
        "files" => exhaust_files(&store, &acknowledged).await,
        _ => {}
    }
    writers.join_all().await;
    store.close().await.unwrap();
    receipt("closed");
}

async fn write(store: &Arc<Store>, id: u64, with_document: bool) -> Result<(), StoreError> {
    let blob = if with_document {
        let patient = store
            .subject(Tag::from_bytes([u8::try_from(id % 5).unwrap(); 16]))
            .await?;
        let store = Arc::clone(store);
        let kept = tokio::task::spawn_blocking(move || {
            let mut writer = store.blobs().writer(&patient)?;
            writer.write(&document(id))?;
            writer.finish()
        });
        Some(kept.await.unwrap()?.id)
    } else {
        None
    };
    let entry = |id| Entry {
        id,
        text: text(id),
        blob: blob.map_or_else(Vec::new, |blob| blob.as_bytes().to_vec()),
    };
    let outcome = store
        .commit(Commit {
            writes: vec![Write::put(&entry(id)), Write::put(&entry(id | TWIN))],
            audit: vec![Bytes::from(id.to_be_bytes().to_vec())],
            ..Commit::default()
        })
        .await?;
    let Outcome::Committed { sequence, .. } = outcome else {
        panic!("replayed");
    };
    match blob {
        Some(blob) => receipt(&format!("ack {sequence} {id} {blob}")),
        None => receipt(&format!("ack {sequence} {id}")),
    }
    Ok(())
}

async fn until(acknowledged: &AtomicU64, count: u64) {
    while acknowledged.load(Ordering::Relaxed) < count {
        tokio::task::yield_now().await;
    }
}

/// Takes memory until the limit of the process ends it.
async fn exhaust_memory(acknowledged: &AtomicU64) {
    until(acknowledged, 200).await;
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(vec![1; 8 << 20]);
        tokio::task::yield_now().await;
    }
}

/// Opens files until there are no more, three times; then lets go, and says so when a writer was
/// answered again.
async fn exhaust_files(store: &Store, acknowledged: &AtomicU64) {
    for _ in 0..3 {
        until(acknowledged, acknowledged.load(Ordering::Relaxed) + 100).await;
        let mut open = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            open.push(file);
        }
        // Long enough for segments to change, which needs a descriptor.
        for _ in 0..2_000 {
            tokio::task::yield_now().await;
        }
        let poisoned = store.stats().poisoned;
        drop(open);
        assert!(!poisoned, "the store stopped though no sync failed");
        let before = acknowledged.load(Ordering::Relaxed);
        until(acknowledged, before + WRITERS + 1).await;
        receipt("recovered");
    }
}
