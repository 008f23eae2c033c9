//! What is kept beside the ledger is believed whole or not at all, and goes with a purged patient.

use super::*;

const WHAT: Derived = Derived {
    name: "sums",
    making: [7; 32],
};

fn pieces() -> Vec<Vec<u8>> {
    vec![b"one".to_vec(), Vec::new(), vec![3; 100_000]]
}

fn keep(store: &Store, sequence: Sequence, pieces: Vec<Vec<u8>>) -> Result<(), StoreError> {
    let mut pieces = pieces.into_iter();
    store.keep_derived(&WHAT, sequence, &mut || pieces.next())
}

/// All of it, or why not.
fn kept(store: &Store) -> Result<Vec<Vec<u8>>, &'static str> {
    let kept = store.derived(&WHAT).map_err(|reason| reason.0)?;
    let mut pieces = Vec::new();
    while let Some(piece) = kept.next().map_err(|reason| reason.0)? {
        pieces.push(piece);
    }
    Ok(pieces)
}

async fn filled(path: &Path, notes: u64) -> Arc<Store> {
    let (store, _) = open_real(path).unwrap();
    for id in 0..notes {
        let _outcome = store.commit(put(&[note(id, 1, "text")])).await.unwrap();
    }
    store
}

#[tokio::test]
async fn what_was_kept_is_there_at_the_next_opening_and_replaced_by_what_is_newer() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 3).await;
    assert_eq!(kept(&store), Err("there is none"));
    keep(&store, store.last_sequence(), pieces()).unwrap();
    assert_eq!(kept(&store), Ok(pieces()));
    store.close().await.unwrap();
    drop(store);
    let store = filled(folder.path(), 1).await;
    assert_eq!(kept(&store), Ok(pieces()));
    keep(&store, Sequence(2), vec![b"newer".to_vec()]).unwrap();
    assert_eq!(kept(&store), Ok(vec![b"newer".to_vec()]));
    assert_eq!(store.derived(&WHAT).unwrap().sequence, Sequence(2));
    // Of no frame that there is, or of a piece too long: what was kept stays.
    let ahead = store.last_sequence().next();
    assert!(keep(&store, ahead, pieces()).is_err());
    let long = vec![vec![0; (16 << 20) + 1]];
    let refused = keep(&store, Sequence(2), long);
    assert!(
        matches!(refused, Err(StoreError::TooLarge { .. })),
        "{refused:?}"
    );
    assert_eq!(kept(&store), Ok(vec![b"newer".to_vec()]));
    store.forget_derived().unwrap();
    assert_eq!(kept(&store), Err("there is none"));
}

#[tokio::test]
async fn an_altered_or_shortened_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 3).await;
    keep(&store, Sequence(2), pieces()).unwrap();
    let path = folder.path().join("derived").join("sums");
    let whole = std::fs::read(&path).unwrap();
    assert!(!whole.windows(3).any(|part| part == b"one"), "it is sealed");
    // Every byte of header and first pieces, and some behind.
    for at in (0..230).chain((230..whole.len()).step_by(9_973)) {
        let mut altered = whole.clone();
        altered[at] ^= 0x10;
        std::fs::write(&path, altered).unwrap();
        assert!(kept(&store).is_err(), "altered at {at}");
    }
    for length in (0..230).chain([whole.len() - 30, whole.len() - 1]) {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(kept(&store).is_err(), "cut at {length}");
    }
    std::fs::write(&path, whole).unwrap();
    assert_eq!(kept(&store), Ok(pieces()));
}

#[tokio::test]
async fn of_another_store_another_making_or_another_past_it_is_refused() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(folder.path(), 3).await;
    keep(&store, Sequence(3), pieces()).unwrap();
    let made_otherwise = Derived {
        making: [8; 32],
        ..WHAT
    };
    let refused = store.derived(&made_otherwise).map_err(|reason| reason.0);
    assert_eq!(refused.err(), Some("it was made in another way"));
    let file = |folder: &Path| folder.join("derived").join("sums");
    let foreign = filled(other.path(), 3).await;
    std::fs::create_dir(other.path().join("derived")).unwrap();
    std::fs::copy(file(folder.path()), file(other.path())).unwrap();
    assert_eq!(kept(&foreign), Err("it is of another store"));
    store.close().await.unwrap();
    drop(store);

    // The same store restored to before, which then went another way.
    let (earlier, later) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = |to: &Path| {
        let from = folder.path().display().to_string();
        let copied = std::process::Command::new("cp")
            .args(["-a", &format!("{from}/."), &to.display().to_string()])
            .status();
        assert!(copied.unwrap().success());
    };
    copy(earlier.path());
    let store = filled(folder.path(), 5).await;
    keep(&store, store.last_sequence(), pieces()).unwrap();
    let last = store.last_sequence();
    store.close().await.unwrap();
    drop(store);
    copy(later.path());
    let (store, _) = open_real(earlier.path()).unwrap();
    std::fs::copy(file(later.path()), file(earlier.path())).unwrap();
    assert_eq!(kept(&store), Err("it is ahead of the ledger"));
    while store.last_sequence() < last.next() {
        let _outcome = store.commit(put(&[note(1, 9, "other")])).await.unwrap();
    }
    assert_eq!(kept(&store), Err("the ledger has another past"));
}

/// Bar E-05: what was derived from a purged patient's rows goes with them, deleted and unreadable.
#[tokio::test]
async fn a_purge_takes_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 20).await;
    keep(&store, store.last_sequence(), pieces()).unwrap();
    let path = folder.path().join("derived").join("sums");
    let copied = std::fs::read(&path).unwrap();
    store.purge(&[Tag::from_bytes([3; 16])]).unwrap();
    assert!(!path.exists());
    std::fs::write(&path, copied).unwrap();
    assert_eq!(kept(&store), Err("its key is gone"));
    // Begun before the keys change, and ended after: not kept.
    let mut purged = false;
    let begun = store.keep_derived(&WHAT, Sequence(2), &mut || {
        if !purged {
            purged = true;
            store.purge(&[Tag::from_bytes([5; 16])]).unwrap();
            return Some(b"of a patient who is gone".to_vec());
        }
        None
    });
    assert!(matches!(begun, Err(StoreError::Conflict)), "{begun:?}");
    assert_eq!(
        std::fs::read_dir(folder.path().join("derived"))
            .unwrap()
            .count(),
        0
    );
}

/// After a rotation it is kept anew under the new epoch's key.
#[tokio::test]
async fn a_rotation_leaves_it_unreadable_until_it_is_kept_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 3).await;
    keep(&store, Sequence(2), pieces()).unwrap();
    store.rotate_keys(&mut |_| ()).unwrap();
    assert_eq!(kept(&store), Err("its key is gone"));
    keep(&store, Sequence(2), pieces()).unwrap();
    assert_eq!(kept(&store), Ok(pieces()));
}
