//! Stores of every release open, verify and go on (bar O-03). `data/store-v*/README.md` says what
//! each fixture holds and how it was made.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use renkei::clock::SystemClock;
use renkei::gateway;
use renkei::store::{BlobId, Commit, Frame, Options, Outcome, Sequence, Store, Tag};
use serde_json::{Value, json};

use crate::support::{At, Setup};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data")
}

/// Copies a folder with everything in it; ledger segments without most of the zeros at their end.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.file_name().unwrap() != "store.lock" {
            let mut bytes = fs::read(&path).unwrap();
            if path.extension().is_some_and(|ending| ending == "seg") {
                let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
                bytes.truncate(used.next_multiple_of(4096).min(bytes.len()));
            }
            fs::write(&target, bytes).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions();
            fs::set_permissions(&target, mode).unwrap();
        }
    }
}

/// A digest of what a frame says, independent of how it is stored.
fn digest(frame: &Frame) -> Value {
    let mut said = Vec::new();
    let mut add = |bytes: &[u8]| {
        said.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        said.extend_from_slice(bytes);
    };
    for write in &frame.writes {
        add(&write.table.0.to_be_bytes());
        add(&write.key);
        add(write.value.as_deref().unwrap_or(b"deleted"));
    }
    for record in &frame.audit {
        add(record);
    }
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &said);
    json!({
        "sequence": frame.sequence.0,
        "time": frame.time.to_string(),
        "writes": frame.writes.len(),
        "audit": frame.audit.len(),
        "sha256": HEXLOWER.encode(hash.as_ref()),
    })
}

fn frames(store: &Store) -> Vec<Value> {
    let read = store.read_frames(Sequence(1));
    read.map(|frame| digest(&frame.unwrap())).collect()
}

fn read_blob(store: &Store, id: &str) -> Vec<u8> {
    let id = HEXLOWER.decode(id.as_bytes()).unwrap();
    let mut reader = store
        .blobs()
        .reader(&BlobId::from_slice(&id).unwrap())
        .unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

fn blobs(store: &Store) -> Vec<Value> {
    let ids = store.blobs().list().unwrap();
    ids.iter()
        .map(|id| {
            let bytes = read_blob(store, &id.to_string());
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
            json!({"id": id.to_string(), "size": bytes.len(), "sha256": HEXLOWER.encode(hash.as_ref())})
        })
        .collect()
}

/// The content of the `number`th byte of a made document: long runs, and not compressible to zero.
fn content(size: usize) -> Vec<u8> {
    (0..size)
        .map(|n| u8::try_from(n / 7 % 251).unwrap())
        .collect()
}

/// Makes `closed` and `killed` of the format this code writes, in the folder `RENKEI_FIXTURE`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "makes the fixture of a release; run by hand, once a format"]
async fn make_fixture() {
    let named = std::env::vars().find(|(name, _)| name == "RENKEI_FIXTURE");
    let target = PathBuf::from(named.expect("RENKEI_FIXTURE names the folder").1);
    let mut network = Setup::standalone().start().await;
    let person = network.sample.scenario.cross_region;
    let record = network.record(person, 0).clone();
    network.feed(&record).await;
    for document in network.sample.documents_of(person) {
        if document.region == 0 {
            network.provide(document).await;
        }
    }
    let gateway = Arc::clone(network.gateway(At::Region(0)));
    for size in [0, 1, 65_536, 65_537, 150_000] {
        let patient = gateway.store.subject(Tag::from_bytes([1; 16])).await;
        let mut writer = gateway.store.blobs().writer(&patient.unwrap()).unwrap();
        writer.write(&content(size)).unwrap();
        writer.finish().unwrap();
    }
    let data_dir = gateway.config.node.data_dir.clone();
    let (closed, killed) = (target.join("closed"), target.join("killed"));
    copy(&data_dir, &killed);
    let contents = |store: &Store| json!({"frames": frames(store), "blobs": blobs(store)});
    let said = contents(&gateway.store);
    fs::write(
        target.join("killed.json"),
        format!("{:#}\n", contents(&gateway.store)),
    )
    .unwrap();
    // The write that the kill interrupted: its frame is half there.
    let audit = Commit {
        audit: vec![vec![7; 2000].into()],
        ..Commit::default()
    };
    assert!(matches!(
        gateway.store.commit(audit).await.unwrap(),
        Outcome::Committed { .. }
    ));
    drop(gateway);
    let segment = "ledger/0000000001.seg";
    let bytes = fs::read(data_dir.join(segment)).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let torn = &bytes[..used - 1000];
    fs::write(killed.join(segment), torn).unwrap();
    network.stop_node(At::Region(0)).await;
    copy(&data_dir, &closed);
    assert!(!said["frames"].as_array().unwrap().is_empty());
    let (store, _) = Store::open(&data_dir, gateway::schema(), Options::default()).unwrap();
    fs::write(
        target.join("closed.json"),
        format!("{:#}\n", contents(&store)),
    )
    .unwrap();
    network.stop().await;
}

/// A copy of a fixture in a folder of its own, owner only.
fn fixture(version: &str, name: &str) -> (tempfile::TempDir, Value) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    copy(&data().join(version).join(name), folder.path());
    // Git keeps no permissions.
    let owner = fs::Permissions::from_mode(0o600);
    fs::set_permissions(folder.path().join("root.key"), owner).unwrap();
    let said = fs::read(data().join(version).join(format!("{name}.json"))).unwrap();
    (folder, serde_json::from_slice(&said).unwrap())
}

fn options() -> Options {
    Options {
        clock: Arc::new(SystemClock),
        ..Options::default()
    }
}

/// Bars: O-03, D-12.
#[tokio::test]
async fn a_store_of_every_release_opens_verifies_and_goes_on() {
    for version in ["store-v1"] {
        for name in ["closed", "killed"] {
            let (folder, said) = fixture(version, name);
            let (store, report) = Store::open(folder.path(), gateway::schema(), options()).unwrap();
            assert_eq!(report.clean, name == "closed", "{version} {name}");
            assert_eq!(report.torn_bytes > 0, name == "killed", "{version} {name}");
            assert_eq!(json!(frames(&store)), said["frames"], "{version} {name}");
            assert_eq!(json!(blobs(&store)), said["blobs"], "{version} {name}");
            let faults = store.check(&mut |_| ()).unwrap().faults;
            assert!(faults.is_empty(), "{version} {name}: {faults:?}");
            let dump = store.dump().unwrap();
            store.rebuild().await.unwrap();
            assert_eq!(store.dump().unwrap(), dump, "{version} {name}");

            let last = store.last_sequence();
            let audit = Commit {
                audit: vec![vec![1; 10].into()],
                ..Commit::default()
            };
            let next = store.commit(audit).await.unwrap();
            assert!(matches!(
                next,
                Outcome::Committed { sequence, .. } if sequence == last.next()
            ));
            store.close().await.unwrap();
            drop(store);
            let (store, _) = Store::open(folder.path(), gateway::schema(), options()).unwrap();
            assert_eq!(store.dump().unwrap(), dump, "{version} {name}: reopened");
        }
    }
}
