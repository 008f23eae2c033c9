use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::sweep::{Paper, keep, paper};
use super::*;
use crate::store::backup::{
    BackupReport, BackupRequest, Cut, KEYS_KEPT, RestoreReport, RestoreRequest, backup, restore,
};
use crate::store::disk::sim::Faults;
use crate::store::index::Index;
use crate::store::replay::replay;

fn wide() -> Schema {
    schema().table::<Paper>()
}

fn to() -> PathBuf {
    PathBuf::from("/backup")
}

fn open(disk: &SimDisk) -> Result<Arc<Store>, StoreError> {
    Ok(Store::open(&dir(), wide(), sim_options(disk))?.0)
}

fn back_up(disk: &SimDisk) -> Result<BackupReport, StoreError> {
    back_up_with(sim_options(disk))
}

fn back_up_with(options: Options) -> Result<BackupReport, StoreError> {
    let request = BackupRequest {
        from: dir(),
        to: to(),
        options,
        keys_kept: KEYS_KEPT,
    };
    backup(&request, &mut |_| ())
}

/// Restores into a folder of the same disk, with the root key that lies in the first store.
fn bring_back(disk: &SimDisk, into: &str, cut: Cut) -> Result<RestoreReport, StoreError> {
    let request = RestoreRequest {
        from: to(),
        to: PathBuf::from(into),
        cut,
        options: options_of(disk),
        schema: wide(),
    };
    restore(request, &mut |_| ())
}

fn options_of(disk: &SimDisk) -> Options {
    Options {
        root: Some(RootSource::File(dir().join("root.key"))),
        ..sim_options(disk)
    }
}

fn open_restored(disk: &SimDisk, into: &str) -> (Arc<Store>, OpenReport) {
    Store::open(Path::new(into), wide(), options_of(disk)).unwrap()
}

/// The canonical dump of what a store was at a frame, from its ledger alone.
fn dump_at(store: &Store, last: Sequence) -> [u8; 32] {
    let core = &store.core;
    let (index, _) = Index::open(
        IndexKind::Memory,
        Path::new("unused"),
        0,
        core.schema.fingerprint(),
        &core.keys,
        core.random.as_ref(),
    )
    .unwrap();
    let ((), frames) = replay(&index, &core.schema, |visit| {
        for frame in store.read_frames(Sequence(1)) {
            let frame = frame?;
            if frame.sequence > last {
                break;
            }
            visit(frame)?;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(frames, last.0);
    index.dump().unwrap().0
}

/// Keeps a document and registers it as row `id`.
async fn add(store: &Store, id: u64, size: usize) -> Result<BlobId, StoreError> {
    let content = vec![u8::try_from(id % 251).unwrap(); size];
    let kept = keep(store, &content)?;
    let blob = kept.info().id;
    let _outcome = store.commit(paper(id, &[blob])).await?;
    Ok(blob)
}

/// Every document a row of the store refers to verifies.
fn all_documents_verify(store: &Store) -> usize {
    let mut count = 0;
    let mut visit = |found: Versioned<Paper>| {
        for id in found.row.blobs() {
            store.blobs().verify(&id)?;
            count += 1;
        }
        Ok(())
    };
    store.scan::<Paper>(&mut visit).unwrap();
    count
}

/// Bars: O-05, O-06.
#[tokio::test]
async fn a_running_store_is_backed_up_step_by_step_and_comes_back() {
    let disk = SimDisk::new(200);
    let store = open(&disk).unwrap();
    let empty = back_up(&disk).unwrap();
    assert_eq!((empty.manifest.mark.sequence, empty.frames), (0, 0));
    let mut runs = Vec::new();
    for round in 0..4_u64 {
        for id in 0..20 {
            let _blob = add(&store, round * 10 + id, 3_000).await.unwrap();
            let _outcome = store.commit(put(&[note(id, 1, &"n".repeat(300))])).await;
        }
        let run = back_up(&disk).unwrap();
        assert!(run.faults.is_empty() && run.verified);
        assert_eq!(run.manifest.sequence(), store.last_sequence());
        runs.push(run);
    }
    assert_eq!(runs[3].frames, 40, "only what was new");
    assert_eq!(runs[3].manifest.documents.added, 10, "only what was new");
    assert!(back_up(&disk).unwrap().frames == 0);
    assert!(runs[3].manifest.segments.len() > 3);
    let _later = add(&store, 999, 100).await.unwrap();

    let report = bring_back(&disk, "/restored", Cut::End).unwrap();
    assert_eq!(report.mark, runs[3].manifest.mark);
    assert_eq!(report.backup, report.mark);
    assert_eq!((report.frames, report.documents), (161, 50));
    let (restored, opened) = open_restored(&disk, "/restored");
    assert_eq!(
        (opened.torn_bytes, opened.last_sequence),
        (0, Sequence(161))
    );
    assert_eq!(restored.dump().unwrap(), dump_at(&store, Sequence(161)));
    assert_eq!(all_documents_verify(&restored), 50);
    assert!(
        restored.get::<Paper>(&key(999)).unwrap().is_none(),
        "after the mark"
    );
    // It goes on, in a segment of its own.
    let segments = restored.stats().segments;
    let _blob = add(&restored, 5_000, 10).await.unwrap();
    assert_eq!(restored.last_sequence(), Sequence(162));
    assert_eq!(restored.stats().segments, segments + 1);
    assert!(restored.check(&mut |_| ()).unwrap().faults.is_empty());
}

/// Bars: O-05, O-06: a restoration to a frame or a time is what the store was then.
#[tokio::test]
async fn a_store_comes_back_as_it_was_at_a_frame_or_time() {
    let disk = SimDisk::new(201);
    let clock = clock();
    let options = Options {
        clock: Arc::<ManualClock>::clone(&clock),
        ..sim_options(&disk)
    };
    let (store, _) = Store::open(&dir(), wide(), options).unwrap();
    let mut times = vec![crate::clock::Clock::now(clock.as_ref())];
    for id in 0..60 {
        clock.advance(Duration::from_secs(10));
        times.push(crate::clock::Clock::now(clock.as_ref()));
        let _blob = add(&store, id % 17, 700).await.unwrap();
    }
    let blobs_before_sweep = store.blobs().list().unwrap().len();
    back_up(&disk).unwrap();
    for wanted in [0_u64, 1, 16, 17, 31, 32, 33, 59, 60] {
        let into = format!("/frame-{wanted}");
        let report = bring_back(&disk, &into, Cut::Sequence(Sequence(wanted))).unwrap();
        assert_eq!(report.mark.sequence, wanted);
        assert_eq!(report.backup.sequence, 61, "the gap is named");
        let (restored, opened) = open_restored(&disk, &into);
        assert_eq!(opened.last_sequence, Sequence(wanted));
        assert_eq!(restored.dump().unwrap(), dump_at(&store, Sequence(wanted)));
        assert_eq!(
            all_documents_verify(&restored) as u64,
            wanted.saturating_sub(1).min(17)
        );
        // Documents that nothing refers to at that frame did not come.
        assert_eq!(
            restored.blobs().list().unwrap().len() as u64,
            wanted.saturating_sub(1).min(17)
        );
        let next = restored.commit(audit("on")).await.unwrap();
        assert_eq!(sequence(next), Sequence(wanted + 1));
    }
    assert_eq!(blobs_before_sweep, 17);
    for (place, time) in times.iter().enumerate() {
        if place % 20 == 7 {
            let into = format!("/time-{place}");
            let late = time
                .saturating_add(jiff::SignedDuration::from_secs(9))
                .unwrap();
            let report = bring_back(&disk, &into, Cut::Time(late)).unwrap();
            assert_eq!(report.mark.sequence, place as u64 + 1);
            assert_eq!(report.mark.time, time.to_string());
        }
    }
    let far = bring_back(&disk, "/far", Cut::Sequence(Sequence(62)));
    assert!(matches!(
        far,
        Err(StoreError::OutOfRange {
            wanted: 62,
            last: 61
        })
    ));
}

/// A restored store goes on into the same backup; another history does not.
#[tokio::test]
async fn histories_are_not_mixed() {
    let disk = SimDisk::new(202);
    let store = open(&disk).unwrap();
    for id in 0..30 {
        let _blob = add(&store, id, 900).await.unwrap();
    }
    back_up(&disk).unwrap();
    let whole = bring_back(&disk, "/whole", Cut::End).unwrap();
    bring_back(&disk, "/early", Cut::Sequence(Sequence(9))).unwrap();
    let run = |from: &str| {
        let request = BackupRequest {
            from: PathBuf::from(from),
            to: to(),
            options: options_of(&disk),
            keys_kept: KEYS_KEPT,
        };
        backup(&request, &mut |_| ())
    };
    assert!(matches!(run("/early"), Err(StoreError::Corrupt { .. })));
    let (early, _) = open_restored(&disk, "/early");
    let _blob = add(&early, 77, 10).await.unwrap();
    drop(early);
    assert!(matches!(run("/early"), Err(StoreError::Corrupt { .. })));
    let (restored, _) = open_restored(&disk, "/whole");
    let _blob = add(&restored, 78, 10).await.unwrap();
    drop(restored);
    let on = run("/whole").unwrap();
    assert_eq!(on.frames, 2, "a document and the closing mark");
    assert_eq!(on.manifest.mark.sequence, whole.mark.sequence + 2);
    let again = bring_back(&disk, "/again", Cut::End).unwrap();
    assert_eq!(again.documents, 31);
}

/// Bar: O-05: killed or cut off at any step (every seventh in the quick tier), the next run is whole.
#[tokio::test]
async fn a_backup_broken_off_at_any_step_goes_on() {
    let step = super::tier::count(7, 1, 1);
    for power in [false, true] {
        let mut cut_at = 1;
        loop {
            let disk = SimDisk::new(300 + cut_at);
            let store = open(&disk).unwrap();
            for id in 0..6 {
                let _blob = add(&store, id, 2_000).await.unwrap();
            }
            back_up(&disk).unwrap();
            for id in 6..12 {
                let _blob = add(&store, id, 2_000).await.unwrap();
            }
            disk.set_faults(Faults {
                power_cut_at: Some(cut_at),
                ..Faults::default()
            });
            let whole = back_up(&disk).is_ok();
            drop(store);
            match power {
                true => disk.power_cycle(),
                false => disk.kill_process(),
            }
            // What was finished before the cut can be had at any rate.
            let early = bring_back(&disk, "/early", Cut::End).unwrap();
            assert!(
                early.mark.sequence >= 6 && early.faults.is_empty(),
                "cut {cut_at}"
            );
            let store = open(&disk).unwrap();
            let _blob = add(&store, 12, 2_000).await.unwrap();
            let run = back_up(&disk).unwrap();
            assert!(run.faults.is_empty());
            let report = bring_back(&disk, "/restored", Cut::End).unwrap();
            assert!(
                report.faults.is_empty() && report.documents == 13,
                "cut {cut_at}"
            );
            let (restored, _) = open_restored(&disk, "/restored");
            assert_eq!(
                restored.dump().unwrap(),
                store.dump().unwrap(),
                "cut {cut_at}"
            );
            if whole {
                break;
            }
            cut_at += step;
        }
        assert!(cut_at > 25, "{cut_at}");
    }
}

/// Half a restoration is not taken for a store.
#[tokio::test]
async fn a_restoration_broken_off_at_any_step_does_not_open() {
    let step = super::tier::count(5, 1, 1);
    let mut cut_at = 1;
    loop {
        let disk = SimDisk::new(400 + cut_at);
        let store = open(&disk).unwrap();
        for id in 0..4 {
            let _blob = add(&store, id, 500).await.unwrap();
        }
        back_up(&disk).unwrap();
        disk.set_faults(Faults {
            power_cut_at: Some(cut_at),
            ..Faults::default()
        });
        let whole = bring_back(&disk, "/restored", Cut::End).is_ok();
        drop(store);
        disk.power_cycle();
        let opened = Store::open(Path::new("/restored"), wide(), options_of(&disk));
        match opened {
            Ok((restored, report)) if report.last_sequence == Sequence(5) => {
                assert_eq!(all_documents_verify(&restored), 4, "cut {cut_at}");
            }
            // Nothing was there yet: a new store was made.
            Ok((_, report)) => assert!(report.created && !whole, "cut {cut_at}: {report:?}"),
            Err(error) => assert!(!whole, "cut {cut_at}: {error}"),
        }
        if whole {
            break;
        }
        cut_at += step;
    }
    assert!(cut_at > 20, "{cut_at}");
}

#[tokio::test]
async fn what_is_damaged_is_named_and_not_passed_on() {
    let disk = SimDisk::new(203);
    let store = open(&disk).unwrap();
    let mut blobs = BTreeMap::new();
    for id in 0..8 {
        blobs.insert(id, add(&store, id, 70_000).await.unwrap());
    }
    let in_folder = |folder: &str, id: &BlobId| {
        let name = id.to_string();
        PathBuf::from(folder).join(&name[..2]).join(&name[2..])
    };
    // In the store: not copied, and told.
    assert!(disk.flip(&in_folder("/store/blobs", &blobs[&1]), 66_000, 1));
    let run = back_up(&disk).unwrap();
    assert_eq!(run.faults.len(), 1);
    assert!(run.faults[0].place.contains(&blobs[&1].to_string()));
    assert_eq!(run.manifest.documents.count, 7);
    // In the backup: not restored, and told.
    assert!(disk.flip(&in_folder("/backup/blobs", &blobs[&2]), 66_000, 1));
    let report = bring_back(&disk, "/restored", Cut::End).unwrap();
    assert_eq!((report.documents, report.faults.len()), (6, 2));
    let (restored, _) = open_restored(&disk, "/restored");
    assert!(restored.blobs().reader(&blobs[&2]).is_err());
    // A ledger that does not verify: refused with its place, and the part before can be had.
    let segment = PathBuf::from("/backup/ledger/0000000001.seg");
    let length = run.manifest.segments[0].bytes;
    assert!(disk.flip(&segment, length - 40, 1));
    let Err(StoreError::Corrupt { place, offset, .. }) = bring_back(&disk, "/bad", Cut::End) else {
        panic!("a damaged backup was restored");
    };
    assert_eq!(place, "0000000001.seg");
    assert!(offset > 0 && offset < length);
    assert!(Store::open(Path::new("/bad"), wide(), options_of(&disk)).is_err());
    let part = bring_back(&disk, "/part", Cut::Sequence(Sequence(5))).unwrap();
    assert_eq!(part.frames, 5);
    // The next run notices that what it would go on from has rotted.
    let _blob = add(&store, 9, 10).await.unwrap();
    assert!(matches!(back_up(&disk), Err(StoreError::Corrupt { .. })));
}

/// Bars: E-05, O-06. A document that came back after its patient's keys were destroyed is in the next
/// backup as it is now; what a backup cannot open is told, and does not end a restoration.
#[tokio::test]
async fn a_document_that_came_back_after_a_purge_is_copied_again() {
    let disk = SimDisk::new(204);
    let store = open(&disk).unwrap();
    let kept = keep(&store, b"again").unwrap();
    let _outcome = store.commit(paper(1, &[kept.info().id])).await.unwrap();
    drop(kept);
    let first = back_up(&disk).unwrap();
    assert_eq!((first.faults.len(), first.manifest.documents.count), (0, 1));
    store.purge(&[Tag::from_bytes([1; 16])]).unwrap();
    let kept = keep(&store, b"again").unwrap();
    let id = kept.info().id;
    let _outcome = store.commit(paper(2, &[id])).await.unwrap();
    drop(kept);
    // Not verified, not replaced, and told.
    let without = back_up_with(Options {
        root: Some(RootSource::File(PathBuf::from("/nowhere"))),
        ..sim_options(&disk)
    });
    let without = without.unwrap();
    assert!(!without.verified && without.faults.len() == 1);
    let report = bring_back(&disk, "/early", Cut::End).unwrap();
    assert_eq!((report.documents, report.faults.len()), (0, 1));
    let second = back_up(&disk).unwrap();
    assert_eq!(
        (second.faults.len(), second.manifest.documents.count),
        (0, 1)
    );
    let report = bring_back(&disk, "/restored", Cut::End).unwrap();
    assert_eq!((report.documents, report.faults.len()), (1, 0));
    let (restored, _) = open_restored(&disk, "/restored");
    assert_eq!(restored.blobs().verify(&id).unwrap(), 5);
    // A third run finds nothing to copy.
    assert_eq!(back_up(&disk).unwrap().bytes, 0);
}

/// Bars: E-06, O-06.
#[tokio::test]
async fn the_root_key_is_not_in_the_backup_and_must_be_the_right_one() {
    let disk = SimDisk::new(204);
    let store = open(&disk).unwrap();
    let _blob = add(&store, 1, 100).await.unwrap();
    let root = disk.content(&dir().join("root.key")).unwrap();
    back_up(&disk).unwrap();
    for file in disk.files().iter().filter(|file| file.starts_with(to())) {
        let content = disk.content(file).unwrap();
        let found = content.windows(root.len()).any(|part| part == root);
        assert!(!found, "{}", file.display());
    }
    let with_key = |key: PathBuf, into: &str| {
        let request = RestoreRequest {
            from: to(),
            to: PathBuf::from(into),
            cut: Cut::End,
            options: Options {
                root: Some(RootSource::File(key)),
                ..sim_options(&disk)
            },
            schema: wide(),
        };
        restore(request, &mut |_| ())
    };
    let none = with_key(PathBuf::from("/nowhere"), "/a");
    assert!(matches!(none, Err(StoreError::Missing("the root key"))));
    let (_other, _) = Store::open(Path::new("/other"), wide(), sim_options(&disk)).unwrap();
    let wrong = with_key(PathBuf::from("/other/root.key"), "/b");
    assert!(matches!(wrong, Err(StoreError::WrongKey)), "{wrong:?}");
    let full = with_key(dir().join("root.key"), "/other");
    assert!(matches!(full, Err(StoreError::NotEmpty)));
    // Without the root key at hand a run copies all the same, unverified.
    let without = back_up_with(Options {
        root: Some(RootSource::File(PathBuf::from("/nowhere"))),
        ..sim_options(&disk)
    });
    assert!(!without.unwrap().verified);
    assert!(matches!(
        backup(
            &BackupRequest {
                from: PathBuf::from("/nothing"),
                to: to(),
                options: sim_options(&disk),
                keys_kept: KEYS_KEPT,
            },
            &mut |_| ()
        ),
        Err(StoreError::Missing(_))
    ));
}

/// Bar: E-05 for backups: superseded key files go after 35 days, the newest never.
#[tokio::test]
async fn superseded_key_files_are_pruned() {
    let disk = SimDisk::new(205);
    let clock = clock();
    let store = open(&disk).unwrap();
    let options = || Options {
        clock: Arc::<ManualClock>::clone(&clock),
        root: Some(RootSource::File(PathBuf::from("/nowhere"))),
        ..sim_options(&disk)
    };
    let copies = || {
        let files = disk.files();
        files
            .iter()
            .filter(|file| file.starts_with("/backup/keys"))
            .count()
    };
    assert_eq!(back_up_with(options()).unwrap().pruned_keys, 0);
    back_up_with(options()).unwrap();
    assert_eq!(copies(), 1, "the same key file is copied once");
    clock.advance(Duration::from_hours(24));
    store.rotate_keys(&mut |_| ()).unwrap();
    back_up_with(options()).unwrap();
    assert_eq!(copies(), 2);
    clock.advance(Duration::from_hours(35 * 24));
    let run = back_up_with(options()).unwrap();
    assert_eq!((run.pruned_keys, copies()), (1, 1));
    clock.advance(Duration::from_hours(400 * 24));
    assert_eq!(back_up_with(options()).unwrap().pruned_keys, 0);
    assert_eq!(copies(), 1);
}

/// Bars: O-05, O-06, E-01: sixteen writers, a running store on a real disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[expect(clippy::too_many_lines, reason = "the course of one run")]
async fn a_backup_under_load_holds_every_acknowledgement_before_its_mark() {
    const WRITERS: u64 = 16;
    const MARKS: u64 = 2;
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("store"), folder.path().join("backup"));
    let options = || Options {
        segment_bytes: 256 << 10,
        preallocate_bytes: 64 << 10,
        root: Some(RootSource::File(from.join("root.key"))),
        ..Options::default()
    };
    let (store, _) = Store::open(&from, wide(), options()).unwrap();
    let (done, acknowledged) = (
        Arc::new(std::sync::atomic::AtomicBool::new(false)),
        Arc::new(std::sync::Mutex::new(BTreeMap::new())),
    );
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        let acknowledged = Arc::clone(&acknowledged);
        writers.spawn(async move {
            let mut number = writer;
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                let text = format!("canary-patient-{number}");
                let kept = (number % 64 < WRITERS).then(|| keep(&store, text.as_bytes()).unwrap());
                let mut commit = match &kept {
                    Some(kept) => paper(number, &[kept.info().id]),
                    None => Commit::default(),
                };
                commit.writes.push(Write::put(&note(number, 1, &text)));
                let outcome = store.commit(commit).await.unwrap();
                acknowledged
                    .lock()
                    .unwrap()
                    .insert(sequence(outcome), number);
                number += WRITERS;
            }
        });
    }
    let mut marks = Vec::new();
    for mark in 0..MARKS {
        let enough = 100 * (mark + 1);
        let mut durable = store.watch();
        durable.wait_for(|last| last.0 >= enough).await.unwrap();
        let before = store.last_sequence();
        let request = BackupRequest {
            from: from.clone(),
            to: to.clone(),
            options: options(),
            keys_kept: KEYS_KEPT,
        };
        let run = tokio::task::spawn_blocking(move || backup(&request, &mut |_| ())).await;
        let run = run.unwrap().unwrap();
        assert!(run.faults.is_empty(), "{:?}", run.faults);
        assert!(run.manifest.sequence() >= before);
        marks.push(run.manifest.sequence());
    }
    done.store(true, std::sync::atomic::Ordering::Release);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    for (place, mark) in marks.iter().enumerate() {
        let into = folder.path().join(format!("restored-{place}"));
        let request = RestoreRequest {
            from: to.clone(),
            to: into.clone(),
            cut: Cut::Sequence(*mark),
            options: options(),
            schema: wide(),
        };
        let report = restore(request, &mut |_| ()).unwrap();
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        let (restored, opened) = Store::open(&into, wide(), options()).unwrap();
        assert_eq!((opened.last_sequence, opened.rebuilt), (*mark, None));
        for number in acknowledged.lock().unwrap().range(..=*mark).map(|(_, n)| n) {
            let row = restored
                .get::<Note>(&key(*number))
                .unwrap()
                .expect("acknowledged");
            assert_eq!(row.row.text, format!("canary-patient-{number}"));
        }
        assert_eq!(restored.dump().unwrap(), dump_at(&store, *mark));
        assert_eq!(all_documents_verify(&restored) as u64, report.documents);
    }
    let mut files = 0;
    let mut folders = vec![to];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let content = fs::read(&path).unwrap();
            let found = content.windows(6).any(|part| part == b"canary");
            assert!(!found, "{}", path.display());
        }
    }
    assert!(files > 20, "{files}");
}
