use super::sweep::{Paper, keep, paper};
use super::*;
use crate::store::blobs::Why;
use crate::store::disk::sim::Faults;

const NEVER: &dyn Fn() -> bool = &|| false;

fn second() -> PathBuf {
    PathBuf::from("/second")
}

fn options(disk: &SimDisk, with_second: bool) -> Options {
    Options {
        second_copy: with_second.then(second),
        ..sim_options(disk)
    }
}

fn open(disk: &SimDisk, with_second: bool) -> Result<Arc<Store>, StoreError> {
    let schema = schema().table::<Paper>();
    Ok(Store::open(&dir(), schema, options(disk, with_second))?.0)
}

fn path(folder: &Path, id: &BlobId) -> PathBuf {
    let name = id.to_string();
    folder.join(&name[..2]).join(&name[2..])
}

fn first() -> PathBuf {
    dir().join("blobs")
}

fn content(n: u8) -> Vec<u8> {
    (0..150_000_u32)
        .map(|place| place.to_le_bytes()[1] ^ n)
        .collect()
}

/// Keeps and registers documents.
async fn fill(store: &Store, count: u8) -> Vec<BlobId> {
    let mut ids = Vec::new();
    for n in 0..count {
        let kept = keep(store, &content(n)).unwrap();
        ids.push(kept.info().id);
        let _outcome = store
            .commit(paper(u64::from(n), &[kept.info().id]))
            .await
            .unwrap();
    }
    ids
}

fn read(store: &Store, id: &BlobId) -> Result<Vec<u8>, StoreError> {
    let mut reader = store.blobs().reader(id)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn scrub(store: &Store) -> ScrubReport {
    store
        .scrub(ScrubOptions::default(), NEVER, &mut |_| ())
        .unwrap()
}

/// Bar: D-10.
#[tokio::test]
async fn corruption_is_found_in_one_cycle_and_mended_from_the_second_copy() {
    let disk = SimDisk::new(70);
    let store = open(&disk, true).unwrap();
    let ids = fill(&store, 8).await;
    let whole = scrub(&store);
    assert!(whole.is_well() && whole.faults.is_empty(), "{whole:?}");
    assert_eq!(
        (whole.cycle, whole.documents, whole.bytes),
        (1, 8, 8 * 150_000)
    );
    // A byte of the content, a byte of the header, a file that is gone, a second copy's byte.
    assert!(disk.flip(&path(&first(), &ids[1]), 100_000, 4));
    assert!(disk.flip(&path(&first(), &ids[2]), 20, 4));
    crate::store::disk::Disk::remove(&disk, &path(&first(), &ids[3])).unwrap();
    assert!(disk.flip(&path(&second(), &ids[4]), 90_000, 1));
    let report = scrub(&store);
    assert!(report.is_well(), "{report:?}");
    assert_eq!(
        (report.cycle, report.mended, report.copied_again),
        (2, 3, 1)
    );
    assert_eq!(report.faults.len(), 3);
    for (n, id) in ids.iter().enumerate() {
        for folder in [first(), second()] {
            assert!(disk.content(&path(&folder, id)).is_some());
        }
        assert!(read(&store, id).unwrap() == content(u8::try_from(n).unwrap()));
    }
    let aside = store.blobs().quarantined().unwrap();
    assert_eq!(aside.len(), 2, "a file that was gone left nothing");
    assert!(aside.iter().all(|found| found.why == Why::Corrupt));
    let again = scrub(&store);
    assert!(again.faults.is_empty() && again.copied_again == 0);
    assert_eq!(store.scrubbed().unwrap().unwrap(), again);
}

/// Bars: D-08, D-10.
#[tokio::test]
async fn without_a_second_copy_the_damaged_document_is_set_aside_and_never_served() {
    let disk = SimDisk::new(71);
    let store = open(&disk, false).unwrap();
    let ids = fill(&store, 4).await;
    assert!(disk.flip(&path(&first(), &ids[1]), 100_000, 4));
    let report = scrub(&store);
    assert_eq!((report.quarantined, report.documents), (1, 4));
    assert!(!report.is_well());
    assert!(report.faults[0].place.contains(&ids[1].to_string()));
    let error = read(&store, &ids[1]).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(read(&store, &ids[0]).unwrap() == content(0));
    // It stays wrong until the document comes again, and is kept for study for ever.
    let again = scrub(&store);
    assert_eq!((again.gone, again.quarantined), (1, 0));
    assert_eq!(
        store
            .sweep(std::time::Duration::ZERO)
            .await
            .unwrap()
            .deleted,
        0
    );
    drop(keep(&store, &content(1)).unwrap());
    assert!(scrub(&store).is_well());
    assert!(read(&store, &ids[1]).unwrap() == content(1));
}

/// Bar: D-10: a reader does not wait for the scrub.
#[tokio::test]
async fn reading_mends_in_the_middle() {
    let disk = SimDisk::new(72);
    let store = open(&disk, true).unwrap();
    let ids = fill(&store, 3).await;
    // The third segment: two good chunks have gone out when it is found.
    assert!(disk.flip(&path(&first(), &ids[0]), 140_000, 4));
    assert!(read(&store, &ids[0]).unwrap() == content(0));
    assert!(disk.flip(&path(&first(), &ids[1]), 3, 4));
    assert!(read(&store, &ids[1]).unwrap() == content(1));
    assert_eq!(store.blobs().quarantined().unwrap().len(), 2);
    for folder in [first(), second()] {
        assert!(disk.flip(&path(&folder, &ids[2]), 140_000, 4));
    }
    assert!(matches!(
        read(&store, &ids[2]),
        Err(StoreError::Corrupt { .. })
    ));
    assert!(scrub(&store).quarantined == 1);
}

/// Documents of before a second copy was wanted get one.
#[tokio::test]
async fn second_copies_are_caught_up_with() {
    let disk = SimDisk::new(73);
    let store = open(&disk, false).unwrap();
    let ids = fill(&store, 5).await;
    drop(store);
    let store = open(&disk, true).unwrap();
    assert_eq!(scrub(&store).copied_again, 5);
    for id in &ids {
        let copies = [first(), second()].map(|folder| disk.content(&path(&folder, id)).unwrap());
        assert!(copies[0] == copies[1]);
    }
    // What is swept goes from both.
    let delete = Commit {
        writes: vec![Write::delete::<Paper>(key(0))],
        ..Commit::default()
    };
    let _outcome = store.commit(delete).await.unwrap();
    let kept = std::time::Duration::from_hours(1);
    assert_eq!(store.sweep(kept).await.unwrap().swept, 1);
    assert!(disk.content(&path(&second(), &ids[0])).is_none());
    assert!(scrub(&store).is_well());
}

#[tokio::test]
async fn a_cycle_goes_on_where_it_was_broken_off() {
    let disk = SimDisk::new(74);
    let store = open(&disk, false).unwrap();
    let ids = fill(&store, 9).await;
    assert!(disk.flip(&path(&first(), ids.iter().min().unwrap()), 100_000, 4));
    let looked = std::cell::Cell::new(0);
    let after_four = || {
        looked.set(looked.get() + 1);
        looked.get() > 4
    };
    let begun = store
        .scrub(ScrubOptions::default(), &after_four, &mut |_| ())
        .unwrap();
    assert_eq!((begun.documents, begun.finished.as_str()), (4, ""));
    drop(store);
    let store = open(&disk, false).unwrap();
    let mut seen = Vec::new();
    let report = store
        .scrub(ScrubOptions::default(), NEVER, &mut |report| {
            seen.push(report.documents);
        })
        .unwrap();
    assert_eq!(seen, [5, 6, 7, 8, 9]);
    assert_eq!((report.cycle, report.quarantined), (1, 1));
    assert!(!report.finished.is_empty());
    let anew = ScrubOptions {
        anew: true,
        ..ScrubOptions::default()
    };
    assert_eq!(store.scrub(anew, NEVER, &mut |_| ()).unwrap().cycle, 2);
}

/// Power cut at every step of mending: nothing that had a good copy is lost. Bars: D-03, D-10.
#[tokio::test]
async fn a_power_cut_while_mending_loses_nothing() {
    let mut cut_at = 1;
    loop {
        let disk = SimDisk::new(80 + cut_at);
        let store = open(&disk, true).unwrap();
        let ids = fill(&store, 3).await;
        assert!(disk.flip(&path(&first(), &ids[0]), 100_000, 4));
        assert!(disk.flip(&path(&second(), &ids[1]), 100_000, 4));
        disk.set_faults(Faults {
            power_cut_at: Some(cut_at),
            ..Faults::default()
        });
        let whole = store
            .scrub(ScrubOptions::default(), NEVER, &mut |_| ())
            .is_ok();
        drop(store);
        disk.power_cycle();
        let store = open(&disk, true).unwrap();
        let report = scrub(&store);
        assert!(report.is_well(), "cut {cut_at}: {report:?}");
        for (n, id) in ids.iter().enumerate() {
            assert!(read(&store, id).unwrap() == content(u8::try_from(n).unwrap()));
            for folder in [first(), second()] {
                assert!(disk.content(&path(&folder, id)).is_some(), "cut {cut_at}");
            }
        }
        if whole {
            break;
        }
        cut_at += 1;
    }
    assert!(cut_at > 10, "{cut_at}");
}

/// Bar: D-07 for documents: the second copy is durable before the document is kept.
#[tokio::test]
async fn a_document_is_kept_in_both_places_or_not_at_all() {
    let mut cut_at = 1;
    loop {
        let disk = SimDisk::new(90 + cut_at);
        let store = open(&disk, true).unwrap();
        disk.set_faults(Faults {
            power_cut_at: Some(cut_at),
            ..Faults::default()
        });
        let kept = keep(&store, &content(1)).map(|kept| kept.info().id);
        drop(store);
        disk.power_cycle();
        let Ok(id) = kept else {
            cut_at += 1;
            continue;
        };
        for folder in [first(), second()] {
            assert!(disk.content(&path(&folder, &id)).is_some(), "cut {cut_at}");
        }
        break;
    }
    assert!(cut_at > 8, "{cut_at}");
}
