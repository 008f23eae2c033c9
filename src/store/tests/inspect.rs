//! The check of a store that no node runs on: a sound one has no fault, and each fault is named with
//! its place, whatever else is wrong. Bar: D-09.

use super::sweep::{Paper, keep, paper};
use super::*;
use crate::store::backup::Progress;
use crate::store::disk::Disk as _;
use crate::store::index::Index;

fn schema() -> Schema {
    super::schema().table::<Paper>()
}

fn open(disk: &SimDisk) -> Arc<Store> {
    Store::open(&dir(), schema(), sim_options(disk)).unwrap().0
}

fn look(disk: &SimDisk) -> Inspection {
    inspect(&dir(), &schema(), &sim_options(disk), &mut |_| ()).unwrap()
}

/// Two lives of a store, with rows, documents that are referred to, and one that is not.
async fn sample() -> (SimDisk, Vec<BlobId>) {
    let disk = SimDisk::new(61);
    let mut ids = Vec::new();
    for life in 0..2 {
        let store = open(&disk);
        for n in 0..30 {
            let id = life * 100 + n;
            let rows = put(&[note(id, 1, &"n".repeat(700))]);
            let _outcome = store.commit(rows).await.unwrap();
        }
        for n in 0..3 {
            let content = [u8::try_from(life * 10 + n).unwrap(); 500];
            let id = keep(&store, &content).unwrap().info().id;
            let _outcome = store.commit(paper(life * 10 + n, &[id])).await.unwrap();
            ids.push(id);
        }
        let _unreferred = keep(&store, &[0xEE; 40]).unwrap();
    }
    (disk, ids)
}

fn blob_path(id: &BlobId) -> PathBuf {
    let name = id.to_string();
    dir().join("blobs").join(&name[..2]).join(&name[2..])
}

/// The places named, and what is said of them.
fn named(found: &Inspection) -> Vec<(&str, &str)> {
    let faults = found.faults.iter();
    faults
        .map(|fault| (fault.place.as_str(), fault.what.as_str()))
        .collect()
}

#[tokio::test]
async fn a_sound_store_has_no_fault() {
    let (disk, ids) = sample().await;
    let files = disk.files();
    let mut last = Progress::default();
    let found = inspect(&dir(), &schema(), &sim_options(&disk), &mut |now| {
        assert!(now.frames >= last.frames && now.bytes >= last.bytes);
        last = now;
    });
    let found = found.unwrap();
    assert_eq!(found.faults, []);
    // In each life 33 changes and the mark of the close.
    assert_eq!((found.frames, found.decrypted), (68, 68));
    assert_eq!((found.last_sequence, found.torn_bytes), (68, 0));
    assert_eq!(found.segments, segments(&disk).len() as u64);
    assert_eq!(
        (found.documents, found.unreferred),
        (ids.len() as u64 + 1, 1)
    );
    assert_eq!((found.erased, found.quarantined), (0, 0));
    assert_eq!((last.frames, last.documents), (68, 7));
    assert_eq!(disk.files(), files, "nothing was made or removed");
}

#[tokio::test]
async fn each_fault_is_named_and_ends_nothing() {
    let (disk, ids) = sample().await;
    let files = segments(&disk);
    assert!(files.len() >= 4, "{}", files.len());
    assert!(disk.flip(&files[0], 3_000, 1));
    disk.remove(&files[2]).unwrap();
    assert!(disk.flip(&blob_path(&ids[0]), 300, 1));
    let found = look(&disk);
    let faults = named(&found);
    let has = |place: &str, what: &str| {
        let there = faults
            .iter()
            .any(|fault| fault.0 == place && fault.1.contains(what));
        assert!(there, "{place}: {what} is not among {faults:#?}");
    };
    has("0000000001.seg", "a bad frame is followed by a good one");
    has("0000000004.seg", "a segment before this one is missing");
    has(&format!("blobs/{}", ids[0]), "");
    let flipped = found
        .faults
        .iter()
        .find(|fault| fault.place == "0000000001.seg");
    assert!(flipped.unwrap().offset.unwrap() <= 3_000);
    // All but the frame that is damaged and those in the segment that is gone were read.
    let (store_frames, in_gone) = (68, found.frames);
    assert!(in_gone < store_frames - 1 && found.decrypted == found.frames);
    assert!(found.frames > 40, "{}", found.frames);
    // What rows refer to is not asked of an index that has gaps.
    assert_eq!((found.documents, found.unreferred), (6, 0));
}

#[tokio::test]
async fn a_document_that_is_gone_is_named_where_a_row_refers_to_it() {
    let (disk, ids) = sample().await;
    disk.remove(&blob_path(&ids[4])).unwrap();
    let found = look(&disk);
    let place = format!("blobs/{}", ids[4]);
    assert_eq!(
        named(&found),
        [(place.as_str(), "is referred to and is not there")]
    );
    assert_eq!((found.documents, found.unreferred), (6, 1));
}

#[tokio::test]
async fn erased_and_quarantined_documents_are_no_faults() {
    let (disk, _) = sample().await;
    let store = open(&disk);
    let swept = store
        .sweep(std::time::Duration::from_hours(1))
        .await
        .unwrap();
    assert_eq!(swept.swept, 1);
    store.purge(&[Tag::from_bytes([1; 16])]).unwrap();
    drop(store);
    let found = look(&disk);
    assert_eq!(found.faults, []);
    assert_eq!((found.documents, found.erased), (0, 6));
    assert_eq!(found.quarantined, 1);
}

#[tokio::test]
async fn a_torn_end_is_counted_and_a_shorter_ledger_is_a_fault() {
    let (disk, _) = sample().await;
    let store = open(&disk);
    let _outcome = store.commit(put(&[note(500, 1, "last")])).await.unwrap();
    disk.halt();
    drop(store);
    disk.kill_process();
    let last = segments(&disk).pop().unwrap();
    let content = disk.content(&last).unwrap();
    let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let torn = disk.fork();
    torn.zero_from(&last, used as u64 - 40);
    let found = look(&torn);
    assert_eq!(found.faults, []);
    assert!(found.torn_bytes > 100, "{}", found.torn_bytes);

    disk.remove(&last).unwrap();
    let name = last.file_name().unwrap().to_string_lossy().into_owned();
    let found = look(&disk);
    assert_eq!(
        named(&found),
        [(name.as_str(), "the segment is gone, and those behind it")]
    );
    assert!(disk.flip(&dir().join("ledger.end"), 60, 1));
    assert_eq!(
        named(&look(&disk)),
        [("ledger.end", "checksum does not match")]
    );
}

#[tokio::test]
async fn without_the_root_key_everything_but_content_is_verified() {
    let (disk, _) = sample().await;
    disk.remove(&dir().join("root.key")).unwrap();
    let found = look(&disk);
    assert_eq!(found.faults.len(), 1, "{:?}", found.faults);
    assert_eq!(found.faults[0].place, "keys");
    assert_eq!((found.frames, found.decrypted, found.documents), (68, 0, 0));
    assert!(
        !disk.files().contains(&dir().join("root.key")),
        "none is made"
    );
    assert!(disk.flip(&segments(&disk)[1], 200, 1));
    assert_eq!(look(&disk).faults.len(), 2, "still noticed by its hash");
}

#[tokio::test]
async fn damaged_keys_are_named() {
    let (disk, _) = sample().await;
    let second = dir().join("keys.second/keys.table");
    assert!(disk.flip(&second, 40, 1));
    let found = look(&disk);
    assert_eq!(
        named(&found),
        [("keys.second/keys.table", "is not what the other copy is")]
    );
    assert_eq!(found.decrypted, 68);
    assert!(disk.flip(&dir().join("keys.table"), 40, 1));
    let found = look(&disk);
    assert_eq!(named(&found), [("keys.table", "checksum does not match")]);
    assert_eq!((found.frames, found.decrypted), (68, 0));
}

#[tokio::test]
async fn a_store_that_is_in_use_or_is_none_is_not_walked() {
    let disk = SimDisk::new(62);
    let look = |disk: &SimDisk| inspect(&dir(), &schema(), &sim_options(disk), &mut |_| ());
    assert!(matches!(look(&disk), Err(StoreError::Missing(_))));
    assert!(disk.files().is_empty());
    let store = open(&disk);
    assert!(matches!(look(&disk), Err(StoreError::Locked)));
    drop(store);
    assert_eq!(look(&disk).unwrap().faults, []);
    disk.create(&dir().join("restore.unfinished")).unwrap();
    let found = look(&disk).unwrap();
    assert_eq!(
        named(&found),
        [(
            "restore.unfinished",
            "the store was not restored to its end"
        )]
    );
}

/// Bar: D-12. The index on disk is compared, entry by entry, with one made from the ledger.
#[tokio::test]
async fn an_index_that_says_something_else_is_named_by_table() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options {
        clock: clock(),
        segment_bytes: 64 << 10,
        preallocate_bytes: 16 << 10,
        index_cache_bytes: 1 << 20,
        ..Options::default()
    };
    let look = || inspect(folder.path(), &schema(), &options(), &mut |_| ()).unwrap();
    let (store, _) = Store::open(folder.path(), schema(), options()).unwrap();
    for id in 0..40 {
        let _outcome = store.commit(put(&[note(id, 3, "row")])).await.unwrap();
    }
    drop(store);
    let found = look();
    assert_eq!(
        (found.faults.as_slice(), found.index_note.as_str()),
        (&[][..], "")
    );
    // A row and its secondary key each, and the keys of the patients.
    assert_eq!(found.index_entries, 88);

    // A row changed behind the ledger's back.
    let keys = offline::open_keys(folder.path(), &options())
        .unwrap()
        .unwrap();
    let (index, reason) = Index::open(
        IndexKind::default(),
        &folder.path().join("index"),
        1 << 20,
        schema().fingerprint(),
        &keys,
        &SystemRandom::default(),
    )
    .unwrap();
    assert_eq!(reason, None);
    let applied = index.applied();
    let deleted = projection::Mutation::DeleteRow {
        table: Note::TABLE,
        key: key(7).into(),
    };
    index.apply(vec![deleted], applied).unwrap();
    index.close(applied).unwrap();
    drop(index);
    let found = look();
    assert_eq!(
        named(&found),
        [(
            "index/note",
            "1 entries are missing, compared with the ledger"
        )]
    );

    // None at all is no fault: it is made at the next start.
    std::fs::remove_dir_all(folder.path().join("index")).unwrap();
    let found = look();
    assert_eq!(
        (found.faults.as_slice(), found.index_note.as_str()),
        (&[][..], "missing")
    );
    assert!(!folder.path().join("index.check").exists());
}
