//! Every way of changing what was recorded is found by a verification from files alone, and the entry
//! is named.

use std::path::PathBuf;

use super::*;
use crate::audit::Receipt;
use crate::audit::note::Note;
use crate::error::Reason;
use crate::store::{Sequence, StoreError};

/// A closed log, and where its frames lie in the one segment they are in.
struct Recorded {
    folder: tempfile::TempDir,
    frames: Vec<std::ops::Range<usize>>,
}

const SEGMENT: &str = "ledger/0000000001.seg";

fn record(count: u64) -> Recorded {
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    open.fill(count);
    let places: Vec<usize> = open
        .store
        .read_frames(Sequence(1))
        .map(|frame| usize::try_from(frame.unwrap().place.offset).unwrap())
        .collect();
    // The frame that says the store was closed in order comes after what is signed here.
    open.close();
    let bytes = std::fs::read(folder.path().join(SEGMENT)).unwrap();
    let end = places.last().map_or(0, |last| {
        let length: [u8; 4] = bytes[last + 4..last + 8].try_into().unwrap();
        last + 80 + u32::from_be_bytes(length) as usize + 32
    });
    let ends = places.iter().skip(1).copied().chain([end]);
    let frames = places
        .iter()
        .copied()
        .zip(ends)
        .map(|(start, end)| start..end);
    Recorded {
        frames: frames.collect(),
        folder,
    }
}

impl Recorded {
    fn dir(&self) -> &Path {
        self.folder.path()
    }

    fn segment(&self) -> PathBuf {
        self.dir().join(SEGMENT)
    }

    /// The entries that are named as wrong when the segment is this.
    fn named(&self, segment: &[u8]) -> Vec<u64> {
        std::fs::write(self.segment(), segment).unwrap();
        let found = verified(self.dir());
        assert!(!found.is_fine());
        found
            .faults
            .iter()
            .filter_map(|fault| fault.entry)
            .collect()
    }
}

#[test]
fn what_was_recorded_is_fine() {
    let recorded = record(50);
    let found = verified(recorded.dir());
    assert!(found.is_fine(), "{found:#?}");
    assert_eq!((found.entries, found.records, found.patients), (51, 50, 4));
    assert_eq!((found.checkpoints, found.signed), (1, 50));
    assert!(found.limits.is_empty());
    // Without the root key chain and hashes are verified, and that is said.
    std::fs::rename(recorded.dir().join("root.key"), recorded.dir().join("away")).unwrap();
    let found = verified(recorded.dir());
    assert!(found.is_fine() && found.root.is_empty());
    assert_eq!((found.entries, found.limits.len()), (51, 1));
}

/// each octet of each entry.
#[test]
fn every_flipped_octet_is_found_and_its_entry_named() {
    let entries = count(12, 10_000);
    let recorded = record(entries);
    let good = std::fs::read(recorded.segment()).unwrap();
    let mut tried = 0;
    for (entry, range) in (0..).zip(recorded.frames.clone()) {
        for at in range {
            // A large log is tried everywhere, not each octet of each entry.
            if entries > 100 && !(at as u64 + entry).is_multiple_of(997) {
                continue;
            }
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            let named = recorded.named(&bad);
            assert!(
                named.contains(&entry),
                "octet {at} of entry {entry}: {named:?}"
            );
            tried += 1;
        }
    }
    println!("{tried} octets of {entries} entries");
    // The segment's own header.
    for at in 0..128 {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(recorded.segment(), &bad).unwrap();
        assert!(
            !verified(recorded.dir()).is_fine(),
            "octet {at} of the header"
        );
    }
}

/// entries deleted, doubled, inserted from elsewhere, and changed in order.
#[test]
fn every_missing_doubled_or_moved_entry_is_found_and_named() {
    let recorded = record(count(20, 2_000));
    let good = std::fs::read(recorded.segment()).unwrap();
    let frames = &recorded.frames;
    let parts = |order: &[usize]| {
        let mut bytes = good[..frames[0].start].to_vec();
        for at in order {
            bytes.extend_from_slice(&good[frames[*at].clone()]);
        }
        let end = frames.last().unwrap().end;
        bytes.extend_from_slice(&good[end..]);
        bytes
    };
    let all: Vec<usize> = (0..frames.len()).collect();
    assert_eq!(parts(&all), good);
    let step = (frames.len() / 20).max(1);
    for at in (0..frames.len() - 1).step_by(step) {
        let entry = at as u64;
        let mut deleted = all.clone();
        deleted.remove(at);
        assert!(
            recorded.named(&parts(&deleted)).contains(&entry),
            "{at} deleted"
        );
        let mut doubled = all.clone();
        doubled.insert(at, at);
        assert!(
            recorded.named(&parts(&doubled)).contains(&(entry + 1)),
            "{at} doubled"
        );
        let mut moved = all.clone();
        moved.insert(at, all.len() - 1);
        assert!(
            recorded.named(&parts(&moved)).contains(&entry),
            "inserted at {at}"
        );
        let mut swapped = all.clone();
        swapped.swap(at, at + 1);
        assert!(
            recorded.named(&parts(&swapped)).contains(&entry),
            "{at} swapped"
        );
    }
}

/// the end is cut off, cleanly.
#[test]
fn a_cut_end_is_found() {
    let recorded = record(20);
    let good = std::fs::read(recorded.segment()).unwrap();
    for (at, range) in recorded.frames.iter().enumerate() {
        let mut bad = good.clone();
        bad[range.start..].fill(0);
        let named = recorded.named(&bad);
        assert!(named.contains(&(at as u64)), "cut before {at}: {named:?}");
    }
    // With the node's own memory gone too, what others kept shows it.
    let mut cut = good.clone();
    cut[recorded.frames[15].start..].fill(0);
    std::fs::write(recorded.segment(), &cut).unwrap();
    let file = recorded.dir().join("audit/checkpoint");
    let kept: Note = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    std::fs::remove_file(file).unwrap();
    assert!(!verified(recorded.dir()).is_fine());
    std::fs::remove_file(recorded.dir().join("ledger.end")).unwrap();
    let found = verified(recorded.dir());
    assert!(found.is_fine() && !found.limits.is_empty());
    let by_checkpoint = VerifyRequest {
        checkpoints: vec![kept],
        ..request(recorded.dir())
    };
    let by_receipt = VerifyRequest {
        receipts: vec![Receipt {
            index: 17,
            leaf: [1; 32],
        }],
        ..request(recorded.dir())
    };
    for request in [by_checkpoint, by_receipt] {
        let found = verify(&request, &options(), &mut |_| {}).unwrap();
        assert!(!found.is_fine(), "{found:#?}");
    }
}

/// Puts the note of where another ledger ended in place of this one's.
fn copy_end(from: &Path, to: &Path) {
    std::fs::copy(from.join("ledger.end"), to.join("ledger.end")).unwrap();
}

/// Opens the store only.
fn reopened(dir: &Path) -> Result<(), StoreError> {
    let schema = Schema::new().table::<Record>();
    Store::open(dir, schema, options()).map(|_| ())
}

/// an older copy of the ledger is put back. The signer refuses, and so says a verification.
#[test]
fn an_old_image_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, old) = (folder.path().join("data"), folder.path().join("old"));
    let first = open(&dir);
    first.fill(10);
    first.close();
    copy(&dir, &old);
    let more = open(&dir);
    more.fill(10);
    let receipt = {
        let frame = more
            .store
            .read_frames(Sequence(15))
            .next()
            .unwrap()
            .unwrap();
        Receipt::new(more.store.keys(), frame.sequence, &frame.hash, &frame.audit)
    };
    let newer = more.audit.log().checkpoint().unwrap();
    more.close();

    // Only the ledger: the store remembers where it ended.
    std::fs::remove_dir_all(dir.join("ledger")).unwrap();
    copy(&old.join("ledger"), &dir.join("ledger"));
    assert!(!verified(&dir).is_fine());
    assert!(matches!(reopened(&dir), Err(StoreError::Corrupt { .. })));
    // That too: the signer remembers.
    copy_end(&old, &dir);
    assert!(!verified(&dir).is_fine());
    let back = open(&dir);
    back.fill(3);
    let refused = back.audit.log().checkpoint().unwrap_err();
    assert_eq!(refused.reason(), Reason::AuditLogBroken);
    back.fill(100);
    let refused = back.audit.log().checkpoint().unwrap_err();
    assert_eq!(refused.reason(), Reason::AuditLogBroken);
    drop(back);

    // The whole disk: what was seen outside remembers.
    assert!(verified(&old).is_fine());
    let outside = [
        VerifyRequest {
            checkpoints: vec![newer.note.clone()],
            ..request(&old)
        },
        VerifyRequest {
            receipts: vec![receipt],
            ..request(&old)
        },
    ];
    for request in outside {
        let found = verify(&request, &options(), &mut |_| {}).unwrap();
        assert!(!found.is_fine(), "{found:#?}");
    }
}

/// another history, made with every key of the node. Whoever kept a checkpoint of the
/// one is not shown the other; the first entry that is not the signed one is named.
#[test]
fn another_history_is_found_and_its_first_entry_named() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, other) = (folder.path().join("data"), folder.path().join("other"));
    let first = open(&dir);
    first.fill(10);
    first.close();
    copy(&dir, &other);
    let one = open(&dir);
    one.fill(10);
    let signed = one.audit.log().checkpoint().unwrap();
    one.close();
    let two = open(&other);
    two.commit(vec![event(1, "1312345678", "forged")], Vec::new());
    two.fill(9);
    let forged = two.audit.log().checkpoint().unwrap();
    two.close();
    assert_eq!(signed.checkpoint.size, forged.checkpoint.size);
    assert_ne!(signed.checkpoint.root, forged.checkpoint.root);
    assert!(verified(&other).is_fine());
    let shown = VerifyRequest {
        checkpoints: vec![signed.note.clone()],
        ..request(&other)
    };
    let found = verify(&shown, &options(), &mut |_| {}).unwrap();
    assert!(!found.is_fine(), "{found:#?}");

    // The ledger is put in place of the other, all hashes right.
    std::fs::remove_dir_all(dir.join("ledger")).unwrap();
    copy(&other.join("ledger"), &dir.join("ledger"));
    assert!(matches!(reopened(&dir), Err(StoreError::Corrupt { .. })));
    copy_end(&other, &dir);
    let found = verified(&dir);
    let named: Vec<_> = found
        .faults
        .iter()
        .filter_map(|fault| fault.entry)
        .collect();
    // Ten entries and the frame of closing are common to both.
    assert_eq!(named, [11], "{found:#?}");
    let put_back = open(&dir);
    put_back.audit.log().checkpoint().unwrap_err();
}

/// a patient's key is destroyed. Every proof from before verifies still; what the frames said
/// of the patient is unreadable.
#[test]
fn a_purge_leaves_every_proof() {
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    let row = |id: u64, patient: u8| Record {
        id,
        patient: tag(patient).to_vec(),
    };
    for id in 0..20 {
        let patient = 1 + u8::try_from(id % 2).unwrap();
        let audit = vec![event(patient, "1312345678", &format!("r{id}"))];
        open.commit(audit, vec![Write::put(&row(id, patient))]);
    }
    let log = open.audit.log();
    let before = log.checkpoint().unwrap();
    let proofs: Vec<_> = (0..before.checkpoint.size)
        .map(|index| log.inclusion(index, before.checkpoint.size).unwrap())
        .collect();
    let told = open.about(1);
    open.store.purge(&[Tag::from_bytes(tag(1))]).unwrap();
    assert!(
        open.store
            .get::<Record>(&row(0, 1).key())
            .unwrap()
            .is_none()
    );
    assert!(
        open.store
            .get::<Record>(&row(1, 2).key())
            .unwrap()
            .is_some()
    );
    let after = log.checkpoint().unwrap();
    for (index, proof) in (0..).zip(proofs) {
        assert_eq!(log.inclusion(index, before.checkpoint.size).unwrap(), proof);
        log.inclusion(index, after.checkpoint.size).unwrap();
    }
    log.consistency(before.checkpoint.size, after.checkpoint.size)
        .unwrap();
    // Who saw the record is still told.
    assert_eq!(open.about(1), told);
    open.close();
    let found = verified(folder.path());
    assert!(found.is_fine(), "{found:#?}");
    // And the derived files are made again the same.
    for name in ["heads", "links", "tree-0"] {
        std::fs::remove_file(folder.path().join("audit").join(name)).unwrap();
    }
    let again = super::open(folder.path());
    assert_eq!(again.about(1), told);
    again
        .audit
        .log()
        .consistency(before.checkpoint.size, after.checkpoint.size)
        .unwrap();
    let mut erased = 0;
    for frame in again.store.read_frames(Sequence(1)) {
        for write in frame.unwrap().writes {
            if write.table == Record::TABLE && write.key[7] % 2 == 0 {
                assert_eq!(write.value, None);
                erased += 1;
            }
        }
    }
    assert!(erased >= 10);
    again.close();
}
