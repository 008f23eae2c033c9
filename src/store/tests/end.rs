//! A ledger that has become shorter is not taken for a shorter one, also where no index is left to
//! tell. Bar: D-09.

use super::tier::{summary, wait};
use super::*;
use crate::store::disk::Disk as _;
use crate::store::ledger::format::{FrameHeader, SEGMENT_HEADER_BYTES};

const END: &str = "/store/ledger.end";

/// A store of a few segments.
fn filled(closed: bool) -> SimDisk {
    let disk = SimDisk::new(44);
    for life in 0..2 {
        let (store, _) = open_sim(&disk).unwrap();
        for id in 0..60 {
            let text = "t".repeat(500);
            let _outcome = wait(store.commit(put(&[note(life * 100 + id, 1, &text)]))).unwrap();
        }
        if life == 1 && !closed {
            disk.halt();
        }
        drop(store);
        disk.kill_process();
    }
    disk
}

fn is_refused(disk: &SimDisk) -> bool {
    matches!(open_sim(disk), Err(StoreError::Corrupt { .. }))
}

/// Where frames begin, and where the last ends.
fn borders(content: &[u8]) -> Vec<usize> {
    let mut borders = vec![SEGMENT_HEADER_BYTES];
    let mut at = SEGMENT_HEADER_BYTES;
    while let Some(header) = FrameHeader::decode(&content[at..]) {
        at += header.frame_bytes();
        borders.push(at);
    }
    borders
}

#[test]
fn a_newest_segment_that_is_gone_is_noticed_without_an_index() {
    for closed in [true, false] {
        let disk = filled(closed);
        let files = segments(&disk);
        assert!(files.len() > 4);
        // The last, the last two, and so on, down to all.
        for gone in 1..=files.len() {
            let disk = disk.fork();
            for path in &files[files.len() - gone..] {
                disk.remove(path).unwrap();
            }
            assert!(is_refused(&disk), "closed: {closed}, {gone} segments gone");
        }
        assert!(open_sim(&disk).is_ok());
    }
}

#[test]
fn a_closed_ledger_cut_between_two_frames_is_noticed_without_an_index() {
    let disk = filled(true);
    let path = segments(&disk).pop().unwrap();
    let content = disk.content(&path).unwrap();
    let borders = borders(&content);
    assert!(borders.len() > 3);
    let mut cases = 0;
    for cut in &borders[..borders.len() - 1] {
        for zeros in [true, false] {
            let disk = disk.fork();
            disk.edit(&path, |bytes| bytes.truncate(*cut));
            if zeros {
                disk.edit(&path, |bytes| bytes.resize(content.len(), 0));
            }
            assert!(is_refused(&disk), "cut at {cut}");
            cases += 1;
        }
    }
    summary(
        "D-09 end",
        &format!("{cases} cuts between frames: all noticed"),
    );
}

/// What was acknowledged since the last segment began, before a kill, is behind the note: there only
/// the index tells.
#[test]
fn a_killed_ledger_reaches_to_its_newest_segment_at_least() {
    let disk = filled(false);
    let path = segments(&disk).pop().unwrap();
    let first = borders(&disk.content(&path).unwrap())[0];
    disk.edit(&path, |bytes| bytes.truncate(first));
    let (store, report) = open_sim(&disk).unwrap();
    assert!(!report.clean);
    let _outcome = wait(store.commit(audit("goes on"))).unwrap();
    drop(store);
    let (_, report) = open_sim(&disk).unwrap();
    assert!(report.clean);
}

#[test]
fn a_store_of_before_there_were_notes_opens_and_gets_one() {
    for closed in [true, false] {
        let disk = filled(closed);
        disk.remove(Path::new(END)).unwrap();
        let (store, _) = open_sim(&disk).unwrap();
        assert_eq!(disk.content(Path::new(END)), None, "nothing was written");
        let _outcome = wait(store.commit(audit("goes on"))).unwrap();
        assert!(disk.content(Path::new(END)).is_some());
        drop(store);
        let newest = segments(&disk).pop().unwrap();
        disk.remove(&newest).unwrap();
        assert!(is_refused(&disk));
    }
}

#[test]
fn no_changed_bit_of_the_note_is_accepted() {
    let disk = filled(true);
    let length = disk.content(Path::new(END)).unwrap().len() as u64;
    for place in 0..length {
        for bit in 0..8 {
            let disk = disk.fork();
            assert!(disk.flip(Path::new(END), place, 1 << bit));
            assert!(is_refused(&disk), "byte {place}, bit {bit}");
        }
    }
    for length in 0..length {
        let disk = disk.fork();
        disk.edit(Path::new(END), |bytes| {
            bytes.truncate(usize::try_from(length).unwrap());
        });
        assert!(is_refused(&disk), "{length} bytes of it");
    }
}

#[test]
fn a_note_of_another_store_or_history_is_refused() {
    let disk = filled(true);
    let other = SimDisk::new(45);
    let (store, _) = open_sim(&other).unwrap();
    let _outcome = wait(store.commit(audit("another"))).unwrap();
    drop(store);
    let foreign = other.content(Path::new(END)).unwrap();
    let own = disk.content(Path::new(END)).unwrap();
    disk.edit(Path::new(END), |bytes| *bytes = foreign);
    assert!(is_refused(&disk));
    disk.edit(Path::new(END), |bytes| *bytes = own);

    // Two copies of a folder that went on by themselves: the note of one, the ledger of the other.
    let copy = disk.fork();
    for (disk, text) in [(&disk, "here"), (&copy, "there")] {
        let (store, _) = open_sim(disk).unwrap();
        let _outcome = wait(store.commit(audit(text))).unwrap();
        drop(store);
    }
    let foreign = copy.content(Path::new(END)).unwrap();
    disk.edit(Path::new(END), |bytes| *bytes = foreign);
    assert!(is_refused(&disk));
}

/// All of the ledger is gone, and the keys with it: no new store is made over what is left.
#[test]
fn nothing_new_is_made_where_a_ledger_once_was() {
    let disk = filled(true);
    for path in disk.files() {
        let kept = path.ends_with("root.key") || path == Path::new(END);
        if !kept && !path.ends_with("store.lock") {
            disk.remove(&path).unwrap();
        }
    }
    assert!(matches!(
        open_sim(&disk),
        Err(StoreError::Missing("keys.table"))
    ));
}
