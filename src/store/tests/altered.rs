//! Bytes that change, tear or move on the disk: noticed, or made good, never served.

use super::client::{Receipts, content, keep_blob, read_blob};
use super::power::{die, must_open, reopen};
use super::tier::{Dice, Tally, count, each_seed, summary, wait};
use super::*;

const SECTOR: usize = 512;

fn used(content: &[u8]) -> usize {
    content
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |place| place + 1)
}

/// Bar: D-03. Of the last write any sector is missing, all before one, or all behind one.
#[tokio::test]
async fn a_last_write_torn_at_every_sector_is_cut_and_the_rest_kept() {
    let mut cases = 0;
    for size in [10, 400, 513, 3_000, 9_000] {
        let disk = SimDisk::new(3);
        let (store, _) = open_sim(&disk).unwrap();
        for id in 0..3 {
            let _outcome = store.commit(put(&[note(id, 1, "kept")])).await.unwrap();
        }
        let segment = segments(&disk)[0].clone();
        let start = used(&disk.content(&segment).unwrap());
        let _outcome = store
            .commit(put(&[note(9, 1, &"t".repeat(size))]))
            .await
            .unwrap();
        disk.halt();
        drop(store);
        disk.kill_process();
        let end = used(&disk.content(&segment).unwrap());
        let sectors: Vec<(usize, usize)> = (start / SECTOR..end.div_ceil(SECTOR))
            .map(|n| ((n * SECTOR).max(start), ((n + 1) * SECTOR).min(end)))
            .collect();
        for (torn, (from, to)) in sectors.iter().enumerate() {
            for missing in [(*from, *to), (start, *to), (*from, end)] {
                let disk = disk.fork();
                disk.edit(&segment, |bytes| bytes[missing.0..missing.1].fill(0));
                let (store, report) = open_sim(&disk)
                    .unwrap_or_else(|e| panic!("{size}, sector {torn}, {missing:?}: {e}"));
                assert_eq!(report.last_sequence, Sequence(3), "{size}, sector {torn}");
                let next = store.commit(put(&[note(9, 1, "again")])).await.unwrap();
                assert_eq!(sequence(next), Sequence(4));
                drop(store);
                let (store, report) = open_sim(&disk).unwrap();
                assert_eq!((report.last_sequence, report.clean), (Sequence(5), true));
                assert!(store.check(&mut |_| ()).unwrap().faults.is_empty());
                cases += 1;
            }
        }
    }
    summary(
        "D-03",
        &format!("{cases} torn writes, every sector, 0 lost"),
    );
}

/// Bar: D-09. Damage to the last frame is not taken for a write that was cut off, even though
/// nothing follows it and the store was killed.
#[tokio::test]
async fn a_changed_last_frame_is_corruption_not_a_torn_tail() {
    let disk = SimDisk::new(4);
    let (store, _) = open_sim(&disk).unwrap();
    for id in 0..3 {
        let _outcome = store
            .commit(put(&[note(id, 1, &"l".repeat(700))]))
            .await
            .unwrap();
    }
    let segment = segments(&disk)[0].clone();
    let start = used(&disk.content(&segment).unwrap());
    let _outcome = store
        .commit(put(&[note(3, 1, &"l".repeat(700))]))
        .await
        .unwrap();
    disk.halt();
    drop(store);
    disk.kill_process();
    let end = used(&disk.content(&segment).unwrap());
    // One bit of each byte, or all: which one makes no difference to a hash.
    let step = usize::try_from(count(8, 1, 1)).unwrap();
    for offset in start..end {
        for bit in (offset % step..8).step_by(step) {
            let disk = disk.fork();
            disk.flip(&segment, offset as u64, 1 << bit);
            if offset + 1 == end && disk.content(&segment).unwrap()[offset] == 0 {
                // Not to be told from a write that was cut off one byte before its end.
                continue;
            }
            let opened = open_sim(&disk);
            assert!(
                matches!(opened, Err(StoreError::Corrupt { .. })),
                "byte {offset}, bit {bit}: {opened:?}"
            );
        }
    }
}

/// A store with a bit of everything, closed in order or killed, and what it holds.
fn sample(closed: bool) -> (SimDisk, Receipts, [u8; 32]) {
    let disk = SimDisk::new(9);
    let mut receipts = Receipts::default();
    let (store, _) = reopen(&disk, 0).unwrap();
    receipts.work(&store, &mut Dice::new(1), 40);
    let dump = store.dump().unwrap();
    if closed {
        drop(store);
    } else {
        die(&disk, Some(store), false);
    }
    (disk, receipts, dump)
}

/// After damage: refused with the reason, or everything as it was, or named by the check. `true` if
/// it was noticed. Whatever is served is right.
fn noticed(disk: &SimDisk, dump: [u8; 32], what: &str) -> bool {
    let Ok((store, report)) = reopen(disk, 0) else {
        return true;
    };
    assert_eq!(store.dump().unwrap(), dump, "{what}: wrong rows are served");
    if report.mended_keys {
        return true;
    }
    let faults = store.check(&mut |_| ()).unwrap().faults;
    let mut broken = 0;
    for id in store.blobs().list().unwrap() {
        broken += u64::from(store.blobs().verify(&id).is_err());
    }
    assert_eq!(faults.is_empty(), broken == 0, "{what}: {faults:?}");
    broken > 0
}

/// Bars: D-08, D-09. One bit of any file of the store.
#[test]
fn every_flipped_bit_is_noticed_or_without_effect() {
    for closed in [true, false] {
        let (disk, _, dump) = sample(closed);
        let files: Vec<PathBuf> = disk
            .files()
            .into_iter()
            .filter(|f| !f.ends_with("store.lock"))
            .collect();
        each_seed("D-09 bit flips", (700, 10_000, 100_000), |seed| {
            let mut dice = Dice::new(seed);
            let path = &files[dice.size_below(files.len())];
            let bytes = disk.content(path).unwrap();
            let place = dice.size_below(bytes.len());
            let mask = 1 << dice.below(8);
            let disk = disk.fork();
            disk.flip(path, place as u64, mask);
            let what = format!("{} byte {place} mask {mask:#x}", path.display());
            let noticed = noticed(&disk, dump, &what);
            let is_segment = path.extension().is_some_and(|e| e == "seg");
            // Behind the end of a segment nothing is read.
            assert!(
                noticed || (is_segment && place >= used(&bytes)),
                "{what}: not noticed"
            );
            Tally {
                cases: 1,
                acknowledged: 0,
            }
        });
    }
}

/// Bars: D-08, E-02. One bit of a document: no wrong byte is read, no panic, always an error.
#[test]
fn every_flipped_bit_of_a_document_is_refused() {
    let disk = SimDisk::new(8);
    let (store, _) = open_sim(&disk).unwrap();
    let texts = ["12345", "document", "x"];
    let infos = texts.map(|text| keep_blob(&store, text).unwrap());
    drop(store);
    each_seed("D-08 bit flips", (1_000, 10_000, 100_000), |seed| {
        let mut dice = Dice::new(seed);
        let which = dice.size_below(texts.len());
        let (id, text) = (&infos[which].id, texts[which]);
        let disk = disk.fork();
        let (store, _) = open_sim(&disk).unwrap();
        let path = blob_path(id);
        let place = dice.below(disk.content(&path).unwrap().len() as u64);
        disk.flip(&path, place, 1 << dice.below(8));
        assert!(read_blob(&store, id).is_err(), "byte {place}");
        let mut reader = store.blobs().reader(id);
        let mut read = Vec::new();
        while let Ok(Some(chunk)) = reader
            .as_mut()
            .map_err(|e| e.clone())
            .and_then(BlobReader::next_chunk)
        {
            read.extend_from_slice(&chunk);
        }
        assert!(
            content(text).starts_with(&read),
            "byte {place}: a wrong byte was served"
        );
        Tally {
            cases: 1,
            acknowledged: 0,
        }
    });
}

fn blob_path(id: &BlobId) -> PathBuf {
    let name = id.to_string();
    dir().join("blobs").join(&name[..2]).join(&name[2..])
}

/// Bars: D-09, E-02. Documents cut short, zeroed, exchanged, their segments moved.
#[test]
fn a_document_that_is_cut_or_exchanged_is_refused() {
    let disk = SimDisk::new(7);
    let (store, _) = open_sim(&disk).unwrap();
    let ids = ["00000", "11111"].map(|text| keep_blob(&store, text).unwrap().id);
    let [a, b] = ids.map(|id| (id, blob_path(&id)));
    let (one, two) = (disk.content(&a.1).unwrap(), disk.content(&b.1).unwrap());
    // Header 256, segments of 64 KiB with a tag of 16.
    let second = 256 + 65_536 + 16;
    assert_eq!(one.len(), two.len());
    assert!(one.len() > second + 16);
    let mut forms: Vec<(&str, Vec<u8>)> = vec![
        ("cut at a segment", one[..second].to_vec()),
        ("cut in a segment", one[..second - 1].to_vec()),
        ("the other document", two.clone()),
        ("another's body", [&one[..256], &two[256..]].concat()),
        ("another's header", [&two[..256], &one[256..]].concat()),
        (
            "another's last segment",
            [&one[..second], &two[second..]].concat(),
        ),
        (
            "another's first segment",
            [&one[..256], &two[256..second], &one[second..]].concat(),
        ),
        ("empty", Vec::new()),
        ("longer", [&one[..], &[0]].concat()),
        (
            "segments exchanged",
            [&one[..256], &one[second..], &one[256..second]].concat(),
        ),
        (
            "another's key",
            [&one[..170], &two[170..218], &one[218..]].concat(),
        ),
    ];
    for from in (0..one.len()).step_by(4096) {
        let mut zeroed = one.clone();
        zeroed[from..(from + 4096).min(one.len())].fill(0);
        forms.push(("zeroed", zeroed));
    }
    for (what, bytes) in &forms {
        disk.edit(&a.1, |content| content.clone_from(bytes));
        assert!(read_blob(&store, &a.0).is_err(), "{what}");
        assert!(store.blobs().verify(&a.0).is_err(), "{what}");
        assert!(
            !store.check(&mut |_| ()).unwrap().faults.is_empty(),
            "{what}"
        );
    }
    // A shorter size under a right checksum: only the key knows.
    let mut shorter = one[..second].to_vec();
    shorter[66..74].copy_from_slice(&65_536_u64.to_be_bytes());
    let crc = crc32fast::hash(&shorter[..218]);
    shorter[218..222].copy_from_slice(&crc.to_be_bytes());
    disk.edit(&a.1, |content| *content = shorter);
    assert!(read_blob(&store, &a.0).is_err(), "a forged size");
}

/// Bar: D-09. Segments cut, zeroed, exchanged and deleted, up to the very end.
#[test]
fn a_segment_that_is_cut_exchanged_or_gone_is_noticed() {
    let (disk, _, dump) = sample(true);
    let files = segments(&disk);
    let last = files.len() - 1;
    assert!(last > 5);
    let mut cases = 0;
    let mut try_it = |what: String, change: &dyn Fn(&SimDisk)| {
        let disk = disk.fork();
        change(&disk);
        assert!(noticed(&disk, dump, &what), "{what}: not noticed");
        cases += 1;
    };
    let step = usize::try_from(count(97, 7, 1)).unwrap();
    for (place, path) in files.iter().enumerate() {
        let content = disk.content(path).unwrap();
        let end = used(&content);
        for cut in (0..end).step_by(step) {
            try_it(format!("segment {place} cut at {cut}"), &|disk| {
                disk.edit(path, |bytes| bytes.truncate(cut));
            });
            try_it(format!("segment {place} zeroed from {cut}"), &|disk| {
                disk.zero_from(path, cut as u64);
            });
        }
        try_it(format!("segment {place} deleted"), &|disk| {
            crate::store::disk::Disk::remove(disk, path).unwrap();
        });
        if place == last {
            continue;
        }
        let other = disk.content(&files[place + 1]).unwrap();
        try_it(
            format!("segments {place} and the next exchanged"),
            &|disk| {
                disk.edit(path, |bytes| bytes.clone_from(&other));
                disk.edit(&files[place + 1], |bytes| bytes.clone_from(&content));
            },
        );
    }
    summary(
        "D-09 segments",
        &format!("{cases} cut, zeroed, exchanged or deleted: all noticed"),
    );
}

/// Bar: E-02. A segment of the same store, number and place, but from another history, as a copy of
/// the folder that went on by itself has one: the hash chain tells.
#[test]
fn a_segment_of_another_history_is_refused() {
    let disk = SimDisk::new(6);
    let (store, _) = reopen(&disk, 0).unwrap();
    let _outcome = wait(store.commit(audit("the same"))).unwrap();
    die(&disk, Some(store), false);
    let clone = disk.fork();
    for (disk, text) in [(&disk, "here"), (&clone, "there")] {
        let (store, _) = reopen(disk, 0).unwrap();
        let _outcome = wait(store.commit(audit(text))).unwrap();
        drop(store);
        let (store, _) = reopen(disk, 0).unwrap();
        let _outcome = wait(store.commit(audit("later"))).unwrap();
        drop(store);
    }
    let files = segments(&disk);
    assert_eq!(files, segments(&clone));
    for path in &files[1..] {
        let fork = disk.fork();
        let foreign = clone.content(path).unwrap();
        fork.edit(path, |bytes| *bytes = foreign);
        let opened = reopen(&fork, 0);
        assert!(
            matches!(&opened, Err(StoreError::Corrupt { .. })),
            "{}: {opened:?}",
            path.display()
        );
    }
    drop(must_open(&disk, 0, &mut Receipts::default()));
}
