use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::store::ledger::format::SEGMENT_HEADER_BYTES;

async fn fill(store: &Store, from: u64, count: u64) {
    for id in from..from + count {
        let mut commit = put(&[note(
            id,
            u32::try_from(id % 5).unwrap(),
            &"canary".repeat(9),
        )]);
        commit.audit.push(Bytes::from_static(b"canary audit"));
        let _outcome = store.commit(commit).await.unwrap();
    }
}

/// Stops the process without a close.
fn kill(disk: &SimDisk, store: Arc<Store>) {
    disk.halt();
    drop(store);
    disk.kill_process();
}

/// Where the written part of a file ends.
fn used(disk: &SimDisk, path: &Path) -> u64 {
    let content = disk.content(path).unwrap();
    content
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |place| place as u64 + 1)
}

/// Bar: D-03.
#[tokio::test]
async fn a_last_frame_torn_at_any_byte_is_cut_and_the_rest_kept() {
    let disk = SimDisk::new(1);
    let (store, _) = open_sim(&disk).unwrap();
    fill(&store, 0, 5).await;
    let segment = segments(&disk)[0].clone();
    let before = used(&disk, &segment);
    fill(&store, 5, 1).await;
    let end = used(&disk, &segment);
    kill(&disk, store);
    let whole = disk.content(&segment).unwrap();
    for cut in (before..end).rev() {
        disk.zero_from(&segment, cut);
        let (store, report) = open_sim(&disk).unwrap();
        assert_eq!(report.last_sequence, Sequence(5), "cut at {cut}");
        let mut torn =
            whole[usize::try_from(before).unwrap()..usize::try_from(cut).unwrap()].iter();
        let torn = torn
            .rposition(|byte| *byte != 0)
            .map_or(0, |place| place as u64 + 1);
        assert_eq!(report.torn_bytes, torn, "cut at {cut}");
        kill(&disk, store);
    }
    let (store, report) = open_sim(&disk).unwrap();
    assert!(!report.clean);
    fill(&store, 5, 3).await;
    assert_eq!(
        segments(&disk).len(),
        2,
        "goes on in a new segment, under a new key"
    );
    drop(store);
    let (store, report) = open_sim(&disk).unwrap();
    assert_eq!((report.last_sequence, report.clean), (Sequence(9), true));
    assert!(store.check(&mut |_| ()).unwrap().faults.is_empty());
}

/// Bars: D-08, D-09.
#[tokio::test]
async fn a_bad_frame_before_good_ones_is_corruption_not_a_torn_tail() {
    let disk = SimDisk::new(2);
    let (store, _) = open_sim(&disk).unwrap();
    fill(&store, 0, 4).await;
    let segment = segments(&disk)[0].clone();
    let third = used(&disk, &segment);
    fill(&store, 4, 1).await;
    kill(&disk, store);
    for offset in (0..third).step_by(7) {
        assert!(disk.flip(&segment, offset, 0x04));
        match open_sim(&disk) {
            Err(StoreError::Corrupt {
                place,
                offset: found,
                ..
            }) => {
                assert_eq!(place, "0000000001.seg");
                assert!(found <= offset, "{found} {offset}");
            }
            Err(StoreError::Format { .. }) => assert!((8..10).contains(&offset)),
            other => panic!("offset {offset}: {other:?}"),
        }
        assert!(disk.flip(&segment, offset, 0x04));
    }
    assert_eq!(open_sim(&disk).unwrap().1.last_sequence, Sequence(5));
}

/// Bar: D-09. After an orderly close even the last acknowledged frame cannot be taken for torn.
#[tokio::test]
async fn a_closed_ledger_hides_no_damage() {
    let disk = SimDisk::new(3);
    let (store, _) = open_sim(&disk).unwrap();
    fill(&store, 0, 3).await;
    let segment = segments(&disk)[0].clone();
    let end = used(&disk, &segment);
    drop(store);
    for offset in (SEGMENT_HEADER_BYTES as u64..end).step_by(5) {
        assert!(disk.flip(&segment, offset, 0x80));
        assert!(
            matches!(open_sim(&disk), Err(StoreError::Corrupt { .. })),
            "offset {offset}"
        );
        assert!(disk.flip(&segment, offset, 0x80));
    }
}

#[tokio::test]
async fn a_missing_segment_is_noticed() {
    let disk = SimDisk::new(4);
    let (store, _) = open_sim(&disk).unwrap();
    fill(&store, 0, 200).await;
    drop(store);
    let files = segments(&disk);
    assert!(files.len() >= 3);
    crate::store::disk::Disk::remove(&disk, &files[1]).unwrap();
    assert!(matches!(open_sim(&disk), Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn check_names_every_fault() {
    let disk = SimDisk::new(5);
    let (store, _) = open_sim(&disk).unwrap();
    fill(&store, 0, 200).await;
    let files = segments(&disk);
    assert!(disk.flip(&files[0], 1000, 1) && disk.flip(&files[2], 1000, 1));
    let report = store.check(&mut |_| ()).unwrap();
    let places: Vec<_> = report
        .faults
        .iter()
        .map(|fault| fault.place.as_str())
        .collect();
    assert_eq!(places, ["0000000001.seg", "0000000003.seg"]);
}

/// Bar: E-06.
#[tokio::test]
async fn a_wrong_or_missing_key_refuses_and_overwrites_nothing() {
    let disk = SimDisk::new(6);
    let (store, _) = open_sim(&disk).unwrap();
    fill(&store, 0, 3).await;
    drop(store);
    let key = dir().join("root.key");
    let files = |disk: &SimDisk| -> Vec<_> {
        disk.files()
            .into_iter()
            .map(|path| (disk.content(&path), path))
            .collect()
    };
    let before = files(&disk);
    assert!(disk.flip(&key, 5, 1));
    assert!(matches!(open_sim(&disk), Err(StoreError::WrongKey)));
    assert!(disk.flip(&key, 5, 1));
    disk.set_mode(&key, 0o640);
    assert!(matches!(
        open_sim(&disk),
        Err(StoreError::KeyExposed { mode: 0o640 })
    ));
    disk.set_mode(&key, 0o600);
    assert_eq!(files(&disk), before);
    crate::store::disk::Disk::rename(&disk, &key, &dir().join("away")).unwrap();
    assert!(matches!(
        open_sim(&disk),
        Err(StoreError::Missing("root key"))
    ));
    crate::store::disk::Disk::rename(&disk, &dir().join("away"), &key).unwrap();
    let tables = ["keys.table", "keys.second/keys.table"].map(|name| dir().join(name));
    let length = disk.content(&tables[0]).unwrap().len() as u64;
    for offset in (0..100)
        .chain((100..length).step_by(97))
        .chain([length - 1])
    {
        for table in &tables {
            assert!(disk.flip(table, offset, 1));
        }
        assert!(open_sim(&disk).is_err(), "key tables byte {offset}");
        for table in &tables {
            assert!(disk.flip(table, offset, 1));
        }
    }
    assert_eq!(files(&disk), before);
    for table in &tables {
        crate::store::disk::Disk::remove(&disk, table).unwrap();
    }
    assert!(matches!(
        open_sim(&disk),
        Err(StoreError::Missing("keys.table"))
    ));
}

/// Bar: D-12.
#[tokio::test]
async fn a_lost_or_damaged_index_is_rebuilt_identically() {
    for engine in [IndexKind::Fjall, IndexKind::Sled] {
        lose_and_damage(engine).await;
    }
}

async fn lose_and_damage(engine: IndexKind) {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    let (store, _) = open_with(folder.path(), engine).unwrap();
    fill(&store, 0, 150).await;
    fill(&store, 40, 20).await;
    let dump = store.dump().unwrap();
    assert_eq!(store.rebuild().await.unwrap(), 170);
    assert_eq!(store.dump().unwrap(), dump);
    fill(&store, 60, 5).await;
    let dump = store.dump().unwrap();
    drop(store);

    let reopen = |reason: Option<RebuildReason>| {
        let (store, report) = open_with(folder.path(), engine).unwrap();
        assert_eq!(report.rebuilt, reason, "{engine:?}");
        assert_eq!(store.dump().unwrap(), dump, "{engine:?} {reason:?}");
        drop(store);
    };
    reopen(None);
    fs::remove_dir_all(&index).unwrap();
    reopen(Some(RebuildReason::Missing));
    fs::write(index.join("state"), "another boot").unwrap();
    reopen(Some(RebuildReason::PowerCut));
    fs::write(index.join("state"), "damaged").unwrap();
    reopen(Some(RebuildReason::Damaged));
    reopen(None);
    let files = overwrite_files(&index);
    assert!(files >= 2, "{files}");
    let (store, report) = open_with(folder.path(), engine).unwrap();
    assert!(report.rebuilt.is_some(), "{engine:?}");
    assert_eq!(store.dump().unwrap(), dump);
}

/// Fills every file of an engine with one byte. Returns how many there were.
fn overwrite_files(index: &Path) -> usize {
    let (mut folders, mut files) = (vec![index.to_path_buf()], 0);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let length = fs::metadata(&path).unwrap().len();
                fs::write(&path, vec![0xA5; usize::try_from(length).unwrap()]).unwrap();
                files += 1;
            }
        }
    }
    files
}

#[tokio::test]
async fn an_index_of_another_engine_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open_with(folder.path(), IndexKind::Sled).unwrap();
    fill(&store, 0, 60).await;
    let dump = store.dump().unwrap();
    drop(store);
    for engine in [IndexKind::Fjall, IndexKind::Sled] {
        let (store, report) = open_with(folder.path(), engine).unwrap();
        assert_eq!(report.rebuilt, Some(RebuildReason::Engine));
        assert_eq!(store.dump().unwrap(), dump);
        drop(store);
        let (store, report) = open_with(folder.path(), engine).unwrap();
        assert_eq!(report.rebuilt, None);
        drop(store);
    }
}

#[tokio::test]
async fn an_index_that_is_ahead_or_of_another_schema_is_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open_real(folder.path()).unwrap();
    fill(&store, 0, 10).await;
    drop(store);
    let end = folder.path().join("ledger.end");
    let earlier = fs::read(&end).unwrap();
    let (store, _) = open_real(folder.path()).unwrap();
    fill(&store, 10, 10).await;
    drop(store);
    // The ledger as it was, and the index as it is.
    fs::remove_file(folder.path().join("ledger/0000000002.seg")).unwrap();
    fs::write(&end, earlier).unwrap();
    let (store, report) = open_real(folder.path()).unwrap();
    assert_eq!(report.rebuilt, Some(RebuildReason::Ahead));
    assert_eq!(store.range::<Note>(&[], None, 100).unwrap().len(), 10);
    drop(store);
    let options = Options {
        clock: clock(),
        ..Options::default()
    };
    let wider = schema().table::<Extra>();
    let (store, report) = Store::open(folder.path(), wider, options).unwrap();
    assert_eq!(report.rebuilt, Some(RebuildReason::Schema));
    assert_eq!(store.range::<Note>(&[], None, 100).unwrap().len(), 10);
}

#[derive(Clone, PartialEq, prost::Message)]
struct Extra {}

impl Row for Extra {
    const TABLE: TableId = TableId(8);
    const NAME: &'static str = "extra";

    fn key(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// Bar: E-01, and files are for their owner only.
#[tokio::test]
async fn nothing_lies_on_disk_in_clear() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open_real(folder.path()).unwrap();
    fill(&store, 0, 50).await;
    let mut writer = store.blobs().writer(&patient(&store, 1)).unwrap();
    writer.write(&b"canary".repeat(50_000)).unwrap();
    writer.finish().unwrap();
    drop(store);
    let mut folders = vec![folder.path().to_path_buf()];
    let mut files = 0;
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let content = fs::read(&path).unwrap();
            assert!(
                !content.windows(6).any(|window| window == b"canary"),
                "{}",
                path.display()
            );
            if !path.components().any(|part| part.as_os_str() == "index") {
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o077, 0, "{}", path.display());
            }
        }
    }
    assert!(files >= 6, "{files}");
}
