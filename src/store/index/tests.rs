//! All engines answer alike, and the projection leaves no stale keys. Bar: D-12.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::store::Schema;
use crate::store::commit::AppliedWrite;
use std::path::PathBuf;
use std::sync::Arc;

use crate::store::disk::Disk;
use crate::store::disk::sim::SimDisk;
use crate::store::keys::{RootSource, SystemRandom};
use crate::store::overlay::{InFlight, Overlay};
use crate::store::projection::project;
use crate::store::table::Row as _;
use crate::store::tests::{Note, key, note};

fn index(kind: IndexKind, dir: &Path, keys: &Keys) -> Index {
    Index::open(kind, dir, 1 << 20, [1; 32], keys, &SystemRandom::default())
        .unwrap()
        .0
}

fn write(id: u64, group: Option<u32>) -> AppliedWrite {
    use prost::Message as _;
    AppliedWrite {
        table: Note::TABLE,
        key: key(id).into(),
        value: group.map(|group| note(id, group, "text").encode_to_vec().into()),
    }
}

/// The engine of the property that takes its changes as loads.
const LOADED: usize = 3;

type Operations = Vec<Vec<(u64, Option<u32>)>>;

fn operations() -> impl Strategy<Value = Operations> {
    let one = (0..6_u64, proptest::option::weighted(0.7, 0..4_u32));
    proptest::collection::vec(proptest::collection::vec(one, 1..4), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn engines_agree_with_a_plain_map(operations in operations()) {
        let schema = Schema::new().table::<Note>();
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let root = RootSource::File("/root.key".into());
        let keys = Keys::open_or_create(Path::new("/"), &root, &disk, &SystemRandom::default(), 0).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let engines = [
            index(IndexKind::Memory, folder.path(), &keys),
            index(IndexKind::Sled, &folder.path().join("sled"), &keys),
            index(IndexKind::Fjall, &folder.path().join("fjall"), &keys),
            index(IndexKind::Fjall, &folder.path().join("loaded"), &keys),
        ];
        let mut model: BTreeMap<u64, u32> = BTreeMap::new();
        for (sequence, writes) in (1..).map(Sequence).zip(&operations) {
            for (id, group) in writes {
                match group {
                    Some(group) => model.insert(*id, *group),
                    None => model.remove(id),
                };
            }
            let writes: Vec<_> = writes.iter().map(|(id, group)| write(*id, *group)).collect();
            for (place, engine) in engines.iter().enumerate() {
                let in_flight = InFlight::default();
                let mut rows = Overlay::over(engine, &in_flight);
                let made = project(&schema, sequence, 0, &writes, &mut rows).unwrap();
                if place == LOADED {
                    let mut gathered = Gathered::after(sequence);
                    for mutation in made.mutations {
                        engine.gather(mutation, &mut gathered).unwrap();
                    }
                    engine.load(&gathered).unwrap();
                } else {
                    engine.apply(made.mutations, sequence).unwrap();
                }
                prop_assert_eq!(engine.applied(), sequence);
            }
        }
        let expected: BTreeSet<Vec<u8>> = model
            .iter()
            .map(|(id, group)| [&group.to_be_bytes()[..], &id.to_be_bytes()].concat())
            .collect();
        for engine in &engines {
            let rows = engine.rows(Note::TABLE, &[], None, 100).unwrap();
            let ids: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
            prop_assert_eq!(ids, model.keys().map(|id| key(*id)).collect::<Vec<_>>());
            let entries = engine.entries(Note::TABLE, 1, &[], None, 100).unwrap();
            let found: BTreeSet<_> = entries.into_iter().map(|(entry, _)| entry).collect();
            prop_assert_eq!(&found, &expected);
        }
        let dumps: Vec<_> = engines.iter().map(|engine| engine.dump().unwrap()).collect();
        prop_assert!(dumps.iter().all(|dump| *dump == dumps[0]), "{dumps:?}");
    }
}

/// What a process leaves behind that is killed now: the files as the operating system has them at one
/// instant. An engine works in the background, so it is copied again until nothing changed meanwhile.
fn copy_files(from: &Path, to: &Path) {
    loop {
        let mut before = BTreeMap::new();
        let mut after = BTreeMap::new();
        let copied = list(from, &mut before)
            .and_then(|()| copy_all(from, to))
            .and_then(|()| list(from, &mut after));
        if copied.is_ok() && before == after {
            return;
        }
        std::fs::remove_dir_all(to).unwrap();
    }
}

fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_all(&path, &copy)?;
        } else {
            std::fs::copy(&path, &copy)?;
        }
    }
    Ok(())
}

/// Every file, with its size and when it was written.
fn list(
    folder: &Path,
    into: &mut BTreeMap<PathBuf, (u64, std::time::SystemTime)>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), into)?;
        } else {
            let data = entry.metadata()?;
            into.insert(entry.path(), (data.len(), data.modified()?));
        }
    }
    Ok(())
}

/// After loads, batches and a reset, killed after any of them: an index says it has applied what
/// it has applied, no more and no less.
#[test]
fn a_killed_index_has_what_it_says_it_applied() {
    for kind in [IndexKind::Fjall, IndexKind::Sled] {
        let schema = Schema::new().table::<Note>();
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        disk.create_dir_all(Path::new("/k")).unwrap();
        let root = RootSource::File("/k/root.key".into());
        let random = SystemRandom::default();
        let keys = Keys::open_or_create(Path::new("/k"), &root, &disk, &random, 0).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let running = index(kind, &folder.path().join("index"), &keys);
        let mut step = 0;
        for round in 0..2 {
            for sequence in (1..12).map(Sequence) {
                let writes = [write(sequence.0, Some(round)), write(sequence.0 / 2, None)];
                let in_flight = InFlight::default();
                let mut rows = Overlay::over(&running, &in_flight);
                let made = project(&schema, sequence, 0, &writes, &mut rows).unwrap();
                if sequence.0 % 3 == 0 {
                    let mut gathered = Gathered::after(sequence);
                    for mutation in made.mutations {
                        running.gather(mutation, &mut gathered).unwrap();
                    }
                    running.load(&gathered).unwrap();
                } else {
                    running.apply(made.mutations, sequence).unwrap();
                }
                if kind == IndexKind::Sled {
                    // sled writes its buffer out by itself twice a second.
                    running.engine.close().unwrap();
                }
                step += 1;
                let copy = folder.path().join(format!("copy-{step}"));
                copy_files(&folder.path().join("index"), &copy);
                let (left, reason) =
                    Index::open(kind, &copy, 1 << 20, [1; 32], &keys, &random).unwrap();
                assert_eq!(reason, None, "{kind:?} {step}");
                assert_eq!(left.applied(), sequence, "{kind:?} {step}");
                assert_eq!(
                    left.dump().unwrap(),
                    running.dump().unwrap(),
                    "{kind:?} {step}"
                );
            }
            running.reset(&keys, &random).unwrap();
        }
    }
}
