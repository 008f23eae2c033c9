use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::store::blobs::Why;
use crate::store::disk::sim::Faults;

const KEPT: Duration = Duration::from_hours(35 * 24);

/// A row that refers to documents.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Paper {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) blobs: Vec<Vec<u8>>,
}

impl Row for Paper {
    const TABLE: TableId = TableId(9);
    const NAME: &'static str = "paper";

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new().u64(self.id).build()
    }

    fn blobs(&self) -> Vec<BlobId> {
        let ids = self.blobs.iter();
        ids.filter_map(|id| BlobId::from_slice(id)).collect()
    }
}

pub(super) fn paper(id: u64, blobs: &[BlobId]) -> Commit {
    let blobs = blobs.iter().map(|id| id.as_bytes().to_vec()).collect();
    Commit {
        writes: vec![Write::put(&Paper { id, blobs })],
        ..Commit::default()
    }
}

pub(super) fn open(disk: &SimDisk) -> Arc<Store> {
    let schema = schema().table::<Paper>();
    Store::open(&dir(), schema, sim_options(disk)).unwrap().0
}

/// The key of the one patient of these tests.
fn subject(store: &Store) -> Result<SubjectKey, StoreError> {
    let ask = || super::tier::wait(store.subject(Tag::from_bytes([1; 16])));
    std::thread::scope(|scope| scope.spawn(ask).join().unwrap())
}

pub(super) fn keep(store: &Store, content: &[u8]) -> Result<KeptBlob, StoreError> {
    let mut writer = store.blobs().writer(&subject(store)?)?;
    writer.write(content)?;
    writer.close()?.keep()
}

fn is_there(store: &Store, id: &BlobId) -> bool {
    store.blobs().contains(id).unwrap()
}

#[tokio::test]
async fn only_what_nothing_refers_to_is_swept() {
    let disk = SimDisk::new(50);
    let store = open(&disk);
    let ids: Vec<BlobId> = (0..6_u8)
        .map(|n| keep(&store, &[n; 100]).unwrap().info().id)
        .collect();
    let _outcome = store.commit(paper(1, &ids[..2])).await.unwrap();
    let _outcome = store.commit(paper(2, &ids[1..4])).await.unwrap();
    let report = store.sweep(KEPT).await.unwrap();
    assert_eq!((report.examined, report.swept, report.deleted), (6, 2, 0));
    for (place, id) in ids.iter().enumerate() {
        assert_eq!(is_there(&store, id), place < 4, "{place}");
    }
    // A row that refers to less frees the rest; a document that two refer to stays.
    let _outcome = store.commit(paper(2, &[])).await.unwrap();
    assert_eq!(store.sweep(KEPT).await.unwrap().swept, 2);
    assert!(is_there(&store, &ids[1]) && !is_there(&store, &ids[2]));
    let delete = Write::delete::<Paper>(key(1));
    let commit = Commit {
        writes: vec![delete],
        ..Commit::default()
    };
    let _outcome = store.commit(commit).await.unwrap();
    assert_eq!(store.sweep(KEPT).await.unwrap().swept, 2);
    assert_eq!(store.blobs().quarantined().unwrap().len(), 6);
    assert!(
        store
            .blobs()
            .quarantined()
            .unwrap()
            .iter()
            .all(|q| q.why == Why::Swept)
    );
}

#[tokio::test]
async fn what_was_swept_is_deleted_in_time() {
    let disk = SimDisk::new(51);
    let clock = clock();
    let options = Options {
        clock: Arc::<ManualClock>::clone(&clock),
        ..sim_options(&disk)
    };
    let (store, _) = Store::open(&dir(), schema().table::<Paper>(), options).unwrap();
    drop(keep(&store, b"early").unwrap());
    assert_eq!(store.sweep(KEPT).await.unwrap().swept, 1);
    clock.advance(Duration::from_hours(20 * 24));
    drop(keep(&store, b"late").unwrap());
    let report = store.sweep(KEPT).await.unwrap();
    assert_eq!((report.swept, report.deleted), (1, 0));
    clock.advance(Duration::from_hours(15 * 24));
    assert_eq!(store.sweep(KEPT).await.unwrap().deleted, 1);
    assert_eq!(store.blobs().quarantined().unwrap().len(), 1);
}

#[tokio::test]
async fn a_frame_never_refers_to_what_is_not_there() {
    let disk = SimDisk::new(52);
    let store = open(&disk);
    let kept = keep(&store, b"document").unwrap();
    let id = kept.info().id;
    // Held by an upload: not swept, and may be referred to.
    assert_eq!(store.sweep(KEPT).await.unwrap().swept, 0);
    drop(kept);
    assert_eq!(store.sweep(KEPT).await.unwrap().swept, 1);
    let last = store.last_sequence();
    let refused = store.commit(paper(1, &[id])).await;
    assert!(matches!(refused, Err(StoreError::BlobNotFound)));
    assert_eq!(store.last_sequence(), last);
    // Kept again, it is there again, and the row may change beside it.
    drop(keep(&store, b"document").unwrap());
    let _outcome = store.commit(paper(1, &[id])).await.unwrap();
    let _outcome = store.commit(paper(1, &[id])).await.unwrap();
    assert_eq!(store.sweep(KEPT).await.unwrap().swept, 0);
    drop(store);
    let store = open(&disk);
    assert_eq!(store.sweep(KEPT).await.unwrap().swept, 0);
    assert_eq!(store.blobs().verify(&id).unwrap(), 8);
}

/// Uploads register while sweeps run: no acknowledged row ever refers to what is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn uploads_and_sweeps_race() {
    const UPLOADS: u64 = 150;
    let disk = SimDisk::new(53);
    let store = open(&disk);
    let done = Arc::new(AtomicBool::new(false));
    let sweeper = {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        tokio::spawn(async move {
            let mut swept = 0;
            while !done.load(Ordering::Acquire) {
                swept += store.sweep(KEPT).await.unwrap().swept;
            }
            swept
        })
    };
    let mut uploads = tokio::task::JoinSet::new();
    for writer in 0..4_u64 {
        let store = Arc::clone(&store);
        uploads.spawn(async move {
            for number in 0..UPLOADS {
                // Few contents, so that the same document is swept and kept at the same moment.
                let content = [u8::try_from(number % 5).unwrap(); 64];
                let kept = keep(&store, &content).unwrap();
                let row = writer * UPLOADS + number;
                if number % 3 == 0 {
                    continue;
                }
                let outcome = store.commit(paper(row, &[kept.info().id])).await;
                assert!(outcome.is_ok(), "{outcome:?}");
                drop(kept);
                if number % 3 == 1 {
                    let delete = Commit {
                        writes: vec![Write::delete::<Paper>(key(row))],
                        ..Commit::default()
                    };
                    let _outcome = store.commit(delete).await.unwrap();
                } else {
                    assert!(is_there(
                        &store,
                        &BlobId::from_slice(&row_blob(&store, row)).unwrap()
                    ));
                }
            }
        });
    }
    while let Some(ended) = uploads.join_next().await {
        ended.unwrap();
    }
    done.store(true, Ordering::Release);
    let swept = sweeper.await.unwrap();
    println!("{swept} swept");
    let mut rows = 0;
    let mut visit = |found: Versioned<Paper>| {
        rows += 1;
        for id in found.row.blobs() {
            store.blobs().verify(&id)?;
        }
        Ok(())
    };
    store.scan::<Paper>(&mut visit).unwrap();
    assert_eq!(rows, 4 * UPLOADS / 3);
    assert!(store.check(&mut |_| ()).unwrap().faults.is_empty());
}

fn row_blob(store: &Store, row: u64) -> Vec<u8> {
    store.get::<Paper>(&key(row)).unwrap().unwrap().row.blobs[0].clone()
}

/// Power cut at every step of uploading, registering and sweeping. Bars: D-03, D-04.
#[tokio::test]
async fn a_power_cut_while_sweeping_leaves_nothing_dangling() {
    let mut cut_at = 1;
    loop {
        let disk = SimDisk::new(60 + cut_at);
        let store = open(&disk);
        let mut ids = Vec::new();
        for n in 0..4_u8 {
            ids.push(keep(&store, &[n; 100]).unwrap().info().id);
        }
        let _outcome = store.commit(paper(1, &ids[..1])).await.unwrap();
        disk.set_faults(Faults {
            power_cut_at: Some(cut_at),
            ..Faults::default()
        });
        let mut acknowledged = vec![(1, ids[0])];
        let work = async {
            store.sweep(KEPT).await?;
            for n in 2..5_u8 {
                let kept = keep(&store, &[n; 100])?;
                let row = u64::from(n);
                let _outcome = store.commit(paper(row, &[kept.info().id])).await?;
                acknowledged.push((row, kept.info().id));
                store.sweep(KEPT).await?;
            }
            Ok::<_, StoreError>(())
        };
        let whole = work.await.is_ok();
        drop(store);
        disk.power_cycle();
        let store = open(&disk);
        for (row, id) in acknowledged {
            assert_eq!(row_blob(&store, row), id.as_bytes(), "cut {cut_at}");
        }
        let mut visit = |found: Versioned<Paper>| {
            for id in found.row.blobs() {
                store.blobs().verify(&id)?;
            }
            Ok(())
        };
        store.scan::<Paper>(&mut visit).unwrap();
        store.sweep(KEPT).await.unwrap();
        assert!(store.check(&mut |_| ()).unwrap().faults.is_empty());
        if whole {
            break;
        }
        cut_at += 1;
    }
    assert!(cut_at > 20, "{cut_at}");
}
