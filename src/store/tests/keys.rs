//! Epochs, patients' keys, their destruction, tokens. Bars: E-01, E-04, E-05, E-06, E-07, E-12.

use std::process::Command;

use super::*;
use crate::store::disk::Disk as _;
use crate::store::disk::sim::Faults;
use crate::token::TokenKey;

const CANARY: &str = "canary of a patient";

async fn fill(store: &Store, from: u64, count: u64) {
    for id in from..from + count {
        let _outcome = store
            .commit(put(&[note(id, 1, &format!("{CANARY} {id}"))]))
            .await
            .unwrap();
    }
}

fn document(store: &Store, byte: u8, content: &[u8]) -> BlobInfo {
    let mut writer = store.blobs().writer(&patient(store, byte)).unwrap();
    writer.write(content).unwrap();
    writer.finish().unwrap()
}

fn texts(store: &Store) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let mut visit = |row: Versioned<Note>| {
        found.push((row.row.id, row.row.text));
        Ok(())
    };
    store.scan(&mut visit).unwrap();
    found
}

/// Bars: E-04, E-07.
#[tokio::test]
async fn a_rotation_changes_every_wrapping_and_no_content() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open_real(folder.path()).unwrap();
    fill(&store, 0, 1500).await;
    let info = document(&store, 1, b"a document");
    let (dump, before) = (store.dump().unwrap(), texts(&store));
    let table = std::fs::read(folder.path().join("keys.table")).unwrap();

    let mut pages = 0;
    let rotation = store.rotate_keys(&mut |page| pages = page).unwrap();
    assert_eq!((rotation.epoch, store.keys().epoch()), (2, 2));
    assert!(pages >= 3 && rotation.index_pages == pages, "{pages}");
    assert_eq!(store.keys().epochs_in_use(), 1);
    assert!(!store.is_rotating());
    assert_ne!(
        std::fs::read(folder.path().join("keys.table")).unwrap(),
        table
    );
    assert_eq!(texts(&store), before);
    fill(&store, 2000, 3).await;
    drop(store);

    let (store, report) = open_real(folder.path()).unwrap();
    assert_eq!(report.rebuilt, None, "the index went along");
    assert_eq!(texts(&store).len(), before.len() + 3);
    assert_eq!(store.blobs().verify(&info.id).unwrap(), 10);
    let sealed = std::fs::read(folder.path().join("blobs").join(blob_file(&info.id))).unwrap();
    let done = store.reencrypt(&mut |_| ()).unwrap();
    assert_eq!((done.documents, done.left), (1, 0));
    assert_eq!(store.reencrypt(&mut |_| ()).unwrap().left, 1);
    let again = std::fs::read(folder.path().join("blobs").join(blob_file(&info.id))).unwrap();
    assert_ne!(sealed, again);
    assert_eq!(store.blobs().verify(&info.id).unwrap(), 10);
    assert!(store.check(&mut |_| ()).unwrap().faults.is_empty());
    store.rebuild().await.unwrap();
    assert_ne!(store.dump().unwrap(), dump, "three rows more");
}

fn blob_file(id: &BlobId) -> PathBuf {
    let name = id.to_string();
    PathBuf::from(&name[..2]).join(&name[2..])
}

/// Bar: E-04. Others commit and read all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_under_load_without_an_error() {
    let disk = SimDisk::new(31);
    let (store, _) = open_sim(&disk).unwrap();
    fill(&store, 0, 600).await;
    let rotating = {
        let store = Arc::clone(&store);
        tokio::task::spawn_blocking(move || {
            (0..5)
                .map(|_| store.rotate_keys(&mut |_| ()).unwrap().epoch)
                .collect::<Vec<_>>()
        })
    };
    let mut id = 1000;
    while !rotating.is_finished() || id < 1100 {
        fill(&store, id, 1).await;
        assert_eq!(store.get::<Note>(&key(id)).unwrap().unwrap().row.id, id);
        assert!(store.get::<Note>(&key(id % 600)).unwrap().is_some());
        id += 1;
    }
    assert_eq!(rotating.await.unwrap(), [2, 3, 4, 5, 6]);
    disk.halt();
    drop(store);
    disk.power_cycle();
    let (store, _) = open_sim(&disk).unwrap();
    assert_eq!(store.keys().epoch(), 6);
    assert_eq!(texts(&store).len() as u64, 600 + id - 1000);
}

/// Bar: E-04, killed at each step: it opens, nothing is lost, and the rotation can go on.
#[tokio::test]
async fn a_rotation_cut_off_anywhere_is_finished_later() {
    let mut interrupted = 0;
    for cut in 1.. {
        let disk = SimDisk::new(cut);
        let (store, _) = open_sim(&disk).unwrap();
        fill(&store, 0, 8).await;
        let before = texts(&store);
        disk.set_faults(Faults {
            power_cut_at: Some(cut),
            ..Faults::default()
        });
        let rotated = store.rotate_keys(&mut |_| ());
        disk.halt();
        drop(store);
        disk.power_cycle();
        let (store, _) = open_sim(&disk).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        assert_eq!(texts(&store), before, "cut {cut}");
        if store.is_rotating() {
            interrupted += 1;
            store.rotate_keys(&mut |_| ()).unwrap();
        }
        assert_eq!(store.keys().epochs_in_use(), 1, "cut {cut}");
        fill(&store, 100, 1).await;
        drop(store);
        let (store, _) = open_sim(&disk).unwrap();
        assert_eq!(texts(&store).len(), before.len() + 1);
        if rotated.is_ok() {
            break;
        }
    }
    assert!(interrupted > 0);
}

/// Bars: E-05, A-18 in small. What was of the patient is gone and unreadable, and nothing else is.
#[tokio::test]
async fn a_destroyed_key_takes_the_patient_and_nobody_else() {
    let disk = SimDisk::new(32);
    let (store, _) = open_sim(&disk).unwrap();
    fill(&store, 0, 64).await;
    let mine = document(&store, 5, b"of patient five");
    let other = document(&store, 7, b"of patient seven");
    let old_table = disk.content(&dir().join("keys.table")).unwrap();
    let purged = store.purge(&[Tag::from_bytes([5; 16])]).unwrap();
    assert_eq!(purged.rows, 4);
    let left: Vec<u64> = texts(&store).into_iter().map(|(id, _)| id).collect();
    assert_eq!(left.len(), 60);
    assert!(left.iter().all(|id| id % 16 != 5));
    assert!(matches!(
        store.blobs().reader(&mine.id),
        Err(StoreError::KeyDestroyed)
    ));
    assert_eq!(store.blobs().verify(&other.id).unwrap(), 16);
    // Frames written before are still there and verify; the patient's rows in them are not.
    let mut values = 0;
    for frame in store.read_frames(Sequence(1)) {
        for write in frame.unwrap().writes {
            if let Some(row) = write.row::<Note>().unwrap() {
                assert_ne!(row.id % 16, 5);
                values += 1;
            }
        }
    }
    assert_eq!(values, 60);
    let dump = store.dump().unwrap();
    store.rebuild().await.unwrap();
    assert_eq!(store.dump().unwrap(), dump, "rebuilt identically");
    assert!(store.check(&mut |_| ()).unwrap().faults.is_empty());
    // A patient of that tag may come again, with another key.
    fill(&store, 5, 1).await;
    assert_eq!(store.get::<Note>(&key(5)).unwrap().unwrap().row.id, 5);
    drop(store);
    let (store, _) = open_sim(&disk).unwrap();
    assert_eq!(texts(&store).len(), 61);
    // A second purge of the same shard carries over what the first did.
    store.purge(&[Tag::from_bytes([5; 16])]).unwrap();
    assert_eq!(texts(&store).len(), 60);
    store.rotate_keys(&mut |_| ()).unwrap();
    drop(store);
    let (store, _) = open_sim(&disk).unwrap();
    assert_eq!(texts(&store).len(), 60);
    drop(store);

    // Bar: E-12. The table from before the purge is refused, whatever else is as it was.
    let current = disk.content(&dir().join("keys.table")).unwrap();
    overwrite(&disk, &dir().join("keys.table"), &old_table);
    assert!(matches!(
        open_sim(&disk),
        Err(StoreError::StaleKeys { found: 1, .. })
    ));
    overwrite(&disk, &dir().join("keys.table"), &current);
    assert!(open_sim(&disk).is_ok());
}

fn overwrite(disk: &SimDisk, path: &Path, content: &[u8]) {
    disk.remove(path).unwrap();
    let file = disk.create(path).unwrap();
    file.write_at(content, 0).unwrap();
}

/// Bar: E-05. With everything that is on the disk afterwards, and the root key, no byte of the
/// patient comes back: no key left opens an envelope of the destroyed key.
#[tokio::test]
async fn nothing_on_the_disk_opens_a_destroyed_key() {
    let disk = SimDisk::new(33);
    let (store, _) = open_sim(&disk).unwrap();
    fill(&store, 0, 32).await;
    let key = patient(&store, 5);
    let neighbour = patient(&store, 7);
    store.purge(&[Tag::from_bytes([5; 16])]).unwrap();
    assert!(store.keys().open_subject(&key.envelope).unwrap().is_none());
    assert!(
        store
            .keys()
            .open_subject(&neighbour.envelope)
            .unwrap()
            .is_some()
    );
    let (name, table) = (
        dir().join("keys.table"),
        disk.content(&dir().join("keys.table")),
    );
    assert!(disk.files().contains(&name));
    let wrapped = key.envelope.wrapped.clone();
    assert!(
        !table
            .unwrap()
            .windows(wrapped.len())
            .any(|window| window == wrapped)
    );
}

/// The same, cut off at each step.
#[tokio::test]
async fn a_purge_cut_off_anywhere_is_finished_at_the_next_opening() {
    for cut in 1.. {
        let disk = SimDisk::new(cut);
        let (store, _) = open_sim(&disk).unwrap();
        fill(&store, 0, 40).await;
        disk.set_faults(Faults {
            power_cut_at: Some(cut),
            ..Faults::default()
        });
        let purged = store.purge(&[Tag::from_bytes([5; 16]), Tag::from_bytes([7; 16])]);
        disk.halt();
        drop(store);
        disk.power_cycle();
        // The first opening may be cut off as well.
        disk.set_faults(Faults {
            power_cut_at: Some(1 + cut % 13),
            ..Faults::default()
        });
        drop(open_sim(&disk));
        disk.power_cycle();
        let (store, _) = open_sim(&disk).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        let left = texts(&store);
        let gone = left
            .iter()
            .filter(|(id, _)| matches!(id % 16, 5 | 7))
            .count();
        let rest = left.len() - gone;
        assert_eq!(rest, 34, "cut {cut}");
        assert!(
            gone == 0 || gone == 6,
            "cut {cut}: {gone} of six rows are left"
        );
        assert!(purged.is_err() || gone == 0, "cut {cut}");
        fill(&store, 5, 1).await;
        let dump = store.dump().unwrap();
        store.rebuild().await.unwrap();
        assert_eq!(store.dump().unwrap(), dump, "cut {cut}");
        if purged.is_ok() {
            break;
        }
    }
}

#[tokio::test]
async fn while_a_key_is_being_destroyed_nothing_new_is_kept_of_its_patient() {
    let disk = SimDisk::new(34);
    let (store, _) = open_sim(&disk).unwrap();
    fill(&store, 0, 16).await;
    let (reply, answer) = std::sync::mpsc::channel();
    let work = keywork::KeyWork::BeginPurge(vec![Tag::from_bytes([5; 16])]);
    store.ask(committer::Request::Keys(work, reply)).unwrap();
    answer.recv().unwrap().unwrap();
    let refused = store.commit(put(&[note(5, 1, "late")])).await;
    assert!(matches!(refused, Err(StoreError::Purging)));
    assert!(matches!(
        store.rotate_keys(&mut |_| ()),
        Err(StoreError::Purging)
    ));
    fill(&store, 6, 2).await;
    drop(store);
    // The next opening brings it to its end.
    let (store, _) = open_sim(&disk).unwrap();
    assert_eq!(store.get::<Note>(&key(5)).unwrap(), None);
    fill(&store, 5, 1).await;
}

/// Bar: E-06. The root key in a token: the store opens with it, and not without.
#[tokio::test]
async fn the_root_key_may_be_in_a_token() {
    let module = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    ]
    .map(PathBuf::from)
    .into_iter()
    .find(|path| path.exists());
    let Some(module) = module else {
        eprintln!("SKIPPED: softhsm2 is not installed, so no root key in a token was tested");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("tokens")).unwrap();
    std::fs::write(
        at("softhsm2.conf"),
        format!(
            "directories.tokendir = {}\nlog.level = ERROR\n",
            at("tokens").display()
        ),
    )
    .unwrap();
    // The library reads its place from the environment, so the store is opened by a process of
    // its own.
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::tests::keys::in_a_token",
            "--ignored",
            "--nocapture",
        ])
        .env("SOFTHSM2_CONF", at("softhsm2.conf"))
        .env("RENKEI_TEST_MODULE", &module)
        .env("RENKEI_TEST_FOLDER", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(
        status.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&status.stderr)
    );
    assert!(said.contains("1 passed"), "{said}");
}

fn softhsm(arguments: &[&str]) {
    let output = Command::new("softhsm2-util")
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn make_token(module: &Path, token: &str, key: &str) {
    use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
    use cryptoki::mechanism::Mechanism;
    use cryptoki::object::Attribute;
    use cryptoki::session::UserType;
    softhsm(&[
        "--init-token",
        "--free",
        "--label",
        token,
        "--so-pin",
        "8765",
        "--pin",
        "1234",
    ]);
    let library = Pkcs11::new(module).unwrap();
    let _may_be_started = library
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .is_ok();
    let slot = library
        .get_slots_with_initialized_token()
        .unwrap()
        .into_iter()
        .find(|slot| library.get_token_info(*slot).unwrap().label().trim_end() == token)
        .unwrap();
    let session = library.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&"1234".into())).unwrap();
    let template = [
        Attribute::Token(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
        Attribute::Label(key.as_bytes().to_vec()),
    ];
    session
        .generate_key(&Mechanism::AesKeyGen, &template)
        .unwrap();
    session.close().unwrap();
    library.finalize().unwrap();
}

/// Run by the test above in a process whose environment names the token.
#[tokio::test]
#[ignore = "run by the_root_key_may_be_in_a_token"]
async fn in_a_token() {
    use std::os::unix::fs::PermissionsExt;
    let folder = PathBuf::from(std::env::var_os("RENKEI_TEST_FOLDER").unwrap());
    let module = PathBuf::from(std::env::var_os("RENKEI_TEST_MODULE").unwrap());
    make_token(&module, "right", "root");
    make_token(&module, "wrong", "root");
    let pin_file = folder.join("pin");
    std::fs::write(&pin_file, "1234\n").unwrap();
    let mode = |mode| std::fs::set_permissions(&pin_file, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o600);
    let open = |token: &str, key: &str| {
        let options = Options {
            root: Some(RootSource::Token(TokenKey {
                module: module.clone(),
                token: token.to_owned(),
                key: key.to_owned(),
                pin_file: pin_file.clone(),
            })),
            clock: clock(),
            ..Options::default()
        };
        Store::open(&folder.join("store"), schema(), options)
    };
    let (store, report) = open("right", "root").unwrap();
    assert!(report.created);
    fill(&store, 0, 10).await;
    assert_eq!(store.rotate_keys(&mut |_| ()).unwrap().epoch, 2);
    assert!(!folder.join("store").join("root.key").exists());
    drop(store);
    let table = std::fs::read(folder.join("store").join("keys.table")).unwrap();
    assert!(matches!(open("wrong", "root"), Err(StoreError::WrongKey)));
    assert!(matches!(
        open("right", "other"),
        Err(StoreError::Missing(_))
    ));
    assert!(matches!(open("none", "root"), Err(StoreError::Missing(_))));
    mode(0o644);
    assert!(matches!(
        open("right", "root"),
        Err(StoreError::KeyExposed { .. })
    ));
    mode(0o600);
    std::fs::write(&pin_file, "9999\n").unwrap();
    assert!(matches!(open("right", "root"), Err(StoreError::Token(_))));
    std::fs::write(&pin_file, "1234\n").unwrap();
    assert_eq!(
        std::fs::read(folder.join("store").join("keys.table")).unwrap(),
        table
    );
    let (store, report) = open("right", "root").unwrap();
    assert!(!report.created);
    assert_eq!(texts(&store).len(), 10);
    lose_the_session(&store, &module, &folder).await;
    drop(store);
    let (store, _) = open("right", "root").unwrap();
    assert_eq!(texts(&store).len(), 11);
}

/// The session with the token ends in every way that it can, while the store is open: it logs in
/// again when it needs the token next, and goes on without it as long as it does not.
async fn lose_the_session(store: &Store, module: &Path, folder: &Path) {
    use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
    use cryptoki::session::UserType;
    let library = || Pkcs11::new(module).unwrap();
    let start = || {
        let library = library();
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        library.initialize(arguments).unwrap();
    };
    let log_out = || {
        let library = library();
        let slots = library.get_slots_with_initialized_token().unwrap();
        let right = slots.into_iter().find(|slot| {
            let info = library.get_token_info(*slot).unwrap();
            info.label().trim_end() == "right"
        });
        let session = library.open_ro_session(right.unwrap()).unwrap();
        // It is the application that is logged in, not the session.
        assert!(session.login(UserType::User, Some(&"1234".into())).is_err());
        session.logout().unwrap();
    };
    let mut epoch = store.keys().epoch();
    let mut rotates = |when: &str| {
        epoch += 1;
        let rotation = store.rotate_keys(&mut |_| ());
        assert_eq!(
            rotation.unwrap_or_else(|e| panic!("{when}: {e}")).epoch,
            epoch
        );
    };
    rotates("at first");
    log_out();
    rotates("logged out: CKR_USER_NOT_LOGGED_IN");
    library().finalize().unwrap();
    rotates("stopped: CKR_CRYPTOKI_NOT_INITIALIZED");
    library().finalize().unwrap();
    start();
    rotates("started anew: CKR_SESSION_HANDLE_INVALID");

    // The token is not there: an error, nothing changed, and the store goes on.
    library().finalize().unwrap();
    std::fs::rename(folder.join("tokens"), folder.join("away")).unwrap();
    std::fs::create_dir(folder.join("tokens")).unwrap();
    let error = store.rotate_keys(&mut |_| ()).unwrap_err();
    assert!(
        matches!(error, StoreError::Missing(_) | StoreError::Token(_)),
        "{error}"
    );
    fill(store, 10, 1).await;
    library().finalize().unwrap();
    std::fs::remove_dir_all(folder.join("tokens")).unwrap();
    std::fs::rename(folder.join("away"), folder.join("tokens")).unwrap();
    rotates("put back");
}
