//! The log follows the ledger, over restarts and lost files, and proves what is in it.

use super::*;
use crate::audit::leaf::{Receipt, of_frame};
use crate::audit::merkle::{Frontier, verify_consistency, verify_inclusion};
use crate::store::Sequence;

/// The root as the definition says, from the frames.
fn root_of(open: &Open) -> (u64, [u8; 32]) {
    let mut tree = Frontier::default();
    for frame in open.store.read_frames(Sequence(1)) {
        tree.push(of_frame(open.store.keys(), &frame.unwrap()).0);
    }
    (tree.size(), tree.root())
}

#[test]
fn checkpoints_are_of_what_is_in_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    for _ in 0..3 {
        open.fill(200);
        let signed = open.audit.log().checkpoint().unwrap();
        let (size, root) = root_of(&open);
        assert_eq!(
            (signed.checkpoint.size, signed.checkpoint.root),
            (size, root)
        );
        assert_eq!(signed.checkpoint.patients.unwrap().0, 4);
        assert!(signed.note.is_signed_by(open.audit.log().verifier()));
        // Nothing new, nothing signed.
        let again = open.audit.log().checkpoint().unwrap();
        assert_eq!(again.note, signed.note);
    }
    open.close();
}

/// INV-9: whatever is lost of what is derived, the same is made again.
#[test]
fn the_same_after_restarts_and_without_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let first = open(dir);
    first.fill(300);
    let about: Vec<_> = first.about(2);
    assert_eq!(about.len(), 60);
    first.close();
    for lost in ["", "heads", "links", "tree-0", "tree-1", "places", "*"] {
        for name in ["heads", "links", "tree-0", "tree-1", "places"] {
            if lost == name || lost == "*" {
                std::fs::remove_file(dir.join("audit").join(name)).unwrap();
            }
        }
        let again = open(dir);
        assert_eq!(again.about(2)[..60], about[..], "{lost} lost");
        let signed = again.audit.log().checkpoint().unwrap();
        let (size, root) = root_of(&again);
        assert_eq!(
            (signed.checkpoint.size, signed.checkpoint.root),
            (size, root),
            "{lost}"
        );
        again.fill(5);
        again.close();
    }
    let found = verified(dir);
    assert!(found.is_fine(), "{found:#?}");
}

/// A node that was killed has kept less than it had; nothing is missing.
#[test]
fn the_same_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    first.fill(40);
    first.close();
    let killed = open(folder.path());
    killed.fill(33);
    let size = killed.size();
    drop(killed);
    let again = open(folder.path());
    assert!(again.size() > size);
    let signed = again.audit.log().checkpoint().unwrap();
    assert_eq!(signed.checkpoint.root, root_of(&again).1);
    again.close();
    assert!(verified(folder.path()).is_fine());
}

/// Damage of the files beside the ledger is noticed, and mended from it.
#[test]
fn damaged_files_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    open.fill(100);
    let log = open.audit.log();
    let signed = log.checkpoint().unwrap();
    let about = open.about(3);
    for name in ["tree-0", "links", "places"] {
        let path = folder.path().join("audit").join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, vec![0x55; bytes.len()]).unwrap();
        let filter = Filter {
            patients: vec![tag(3).to_vec()],
            ..Filter::default()
        };
        let events = || open.audit.events(&filter, usize::MAX);
        match name {
            "tree-0" => drop(log.inclusion(50, signed.checkpoint.size).unwrap_err()),
            _ => drop(events().unwrap_err()),
        }
        log.catch_up().unwrap();
        assert_eq!(open.about(3), about, "{name}");
        log.inclusion(50, signed.checkpoint.size).unwrap();
    }
    open.close();
}

/// every receipt leads to a proof, every pair of checkpoints is consistent, and nothing
/// that was changed verifies.
#[test]
fn receipts_and_checkpoints_are_proved() {
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    let log = open.audit.log();
    let checkpoints: Vec<_> = (0..count(60, 1_000))
        .map(|number| {
            open.fill(1 + number % 7);
            log.checkpoint().unwrap().checkpoint.clone()
        })
        .collect();
    let mut pairs = 0;
    for (at, later) in checkpoints.iter().enumerate() {
        for earlier in &checkpoints[..at] {
            let (from, to) = (earlier.size, later.size);
            let mut path = log.consistency(from, to).unwrap();
            let fits = |path: &[_]| verify_consistency(from, to, &earlier.root, &later.root, path);
            assert!(fits(&path));
            pairs += 1;
            let spoilt = pairs % path.len();
            path[spoilt][pairs % 32] ^= 1;
            assert!(!fits(&path));
        }
    }
    let last = checkpoints.last().unwrap();
    for frame in open.store.read_frames(Sequence(1)) {
        let frame = frame.unwrap();
        let hash = frame.hash;
        let receipt = Receipt::new(open.store.keys(), frame.sequence, &hash, &frame.audit);
        if receipt.index >= last.size {
            continue;
        }
        let (leaf, mut path) = log.inclusion(receipt.index, last.size).unwrap();
        assert_eq!(leaf, receipt.leaf);
        assert!(path.len() * 32 <= 2048);
        let fits = |path: &[_]| verify_inclusion(&leaf, receipt.index, last.size, path, &last.root);
        assert!(fits(&path));
        assert_eq!(log.find(&leaf, 1 << 20).unwrap(), Some(receipt.index));
        let spoilt = usize::try_from(frame.sequence.0).unwrap() % path.len();
        path[spoilt][0] ^= 0x80;
        assert!(!fits(&path));
    }
    println!("{pairs} pairs of checkpoints, {} leaves", last.size);
    open.close();
}

/// An institution's and a patient's events are found by their own links, newest first, by pages.
#[test]
fn pages_of_a_search() {
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    open.fill(100);
    open.commit(
        vec![event(1, "1312345678", "two"), event(2, "1312345678", "two")],
        Vec::new(),
    );
    let filters = [
        Filter::default(),
        Filter {
            institution: "1312345678".into(),
            ..Filter::default()
        },
        Filter {
            patients: vec![tag(1).to_vec(), tag(2).to_vec()],
            ..Filter::default()
        },
        Filter {
            patients: vec![tag(1).to_vec()],
            institution: "1312345678".into(),
            ..Filter::default()
        },
        Filter {
            request_id: "two".into(),
            ..Filter::default()
        },
        Filter {
            institution: "nobody".into(),
            ..Filter::default()
        },
    ];
    for (filter, expected) in filters.iter().zip([102, 52, 42, 11, 2, 0]) {
        let mut whole = open.audit.events(filter, usize::MAX).unwrap();
        assert_eq!(whole.len(), expected, "{filter:?}");
        whole.reverse();
        // The newest of the two events of one frame comes first.
        let order: Vec<_> = whole.iter().map(|event| event.sequence).collect();
        assert!(order.is_sorted_by(|one, next| one >= next), "{filter:?}");
        for (size, look) in [(1, u64::MAX), (7, u64::MAX), (1_000, 10)] {
            let (mut pages, mut before) = (Vec::new(), None);
            loop {
                let page = open.audit.search(filter, before, size, look).unwrap();
                assert!(page.events.len() <= size);
                pages.extend(page.events);
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
            assert_eq!(pages, whole, "{filter:?} by {size}");
        }
    }
    open.close();
}
