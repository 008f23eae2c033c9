//! The two copies of the key table and of carried keys: either one serves, neither brings an old one
//! back. Bars: E-06, E-12.

use std::collections::BTreeMap;

use super::tier::{summary, wait};
use super::*;
use crate::store::backup::{BackupRequest, Cut, RestoreRequest, backup, restore};
use crate::store::disk::Disk as _;
use crate::store::disk::sim::{Call, Faults};

/// A visit of a patient; the patient's tag is given, so that several are of one shard.
#[derive(Clone, PartialEq, prost::Message)]
struct Visit {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bytes = "vec", tag = "2")]
    patient: Vec<u8>,
    #[prost(string, tag = "3")]
    text: String,
}

impl Row for Visit {
    const TABLE: TableId = TableId(9);
    const NAME: &'static str = "visit";

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new().u64(self.id).build()
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

const SHARD: u8 = 0x3C;
/// Patients, by number; all but the last are of one shard.
const PATIENTS: u8 = 6;

fn tag(patient: u8) -> Tag {
    let mut tag = [patient; 16];
    tag[0] = if patient + 1 == PATIENTS { 7 } else { SHARD };
    Tag::from_bytes(tag)
}

fn open(disk: &SimDisk) -> Result<(Arc<Store>, OpenReport), StoreError> {
    Store::open(&dir(), Schema::new().table::<Visit>(), sim_options(disk))
}

fn visit(store: &Store, id: u64, patient: u8) {
    let row = Visit {
        id,
        patient: tag(patient).as_bytes().to_vec(),
        text: format!("visit {id} of {patient}"),
    };
    let commit = Commit {
        writes: vec![Write::put(&row)],
        ..Commit::default()
    };
    let _outcome = wait(store.commit(commit)).unwrap();
}

/// A store with two visits and a document of each patient.
fn filled(seed: u64) -> (SimDisk, Arc<Store>, Vec<BlobId>) {
    let disk = SimDisk::new(seed);
    let (store, _) = open(&disk).unwrap();
    let mut documents = Vec::new();
    for patient in 0..PATIENTS {
        visit(&store, u64::from(patient), patient);
        visit(&store, 100 + u64::from(patient), patient);
        let key = wait(store.subject(tag(patient))).unwrap();
        let mut writer = store.blobs().writer(&key).unwrap();
        writer.write(&[patient; 700]).unwrap();
        documents.push(writer.finish().unwrap().id);
    }
    (disk, store, documents)
}

/// How many visits of each patient are readable.
fn visits(store: &Store) -> BTreeMap<u8, usize> {
    let mut found = BTreeMap::new();
    let mut visit = |row: Versioned<Visit>| {
        let patient = *row.row.patient.last().unwrap();
        assert!(row.row.text.ends_with(&format!("of {patient}")));
        *found.entry(patient).or_default() += 1;
        Ok(())
    };
    store.scan(&mut visit).unwrap();
    found
}

/// What must be readable: everything of the patients who were not erased, and nothing of the others,
/// in the index, in the ledger, and in documents.
fn assert_left(store: &Store, documents: &[BlobId], erased: &[u8], when: &str) {
    let left = visits(store);
    let mut in_ledger = BTreeMap::<u8, usize>::new();
    for frame in store.read_frames(Sequence(1)) {
        for write in frame.unwrap().writes {
            if let Some(row) = write.row::<Visit>().unwrap() {
                *in_ledger.entry(*row.patient.last().unwrap()).or_default() += 1;
            }
        }
    }
    for (patient, document) in (0..PATIENTS).zip(documents) {
        let gone = erased.contains(&patient);
        let wanted = (!gone).then_some(2);
        assert_eq!(left.get(&patient).copied(), wanted, "{when}: {patient}");
        assert_eq!(
            in_ledger.get(&patient).copied(),
            wanted,
            "{when}: {patient}"
        );
        let verified = store.blobs().verify(document);
        match gone {
            true => assert!(matches!(verified, Err(StoreError::KeyDestroyed)), "{when}"),
            false => assert_eq!(verified.unwrap(), 700, "{when}: {patient}"),
        }
    }
    assert!(
        store.check(&mut |_| ()).unwrap().faults.is_empty(),
        "{when}"
    );
}

/// Bar: E-05. Several patients in one shard: when one is erased the others' keys are carried over,
/// again and again, also over rotations, restarts and rebuilds.
#[test]
fn the_others_of_a_shard_keep_their_keys() {
    let (disk, mut store, documents) = filled(51);
    assert_left(&store, &documents, &[], "at first");
    let mut erased = Vec::new();
    for patient in [2, 0, 4] {
        let purged = store.purge(&[tag(patient)]).unwrap();
        assert_eq!(purged.rows, 2);
        erased.push(patient);
        assert_left(&store, &documents, &erased, "erased");
        let dump = store.dump().unwrap();
        wait(store.rebuild()).unwrap();
        assert_eq!(store.dump().unwrap(), dump, "rebuilt identically");
        store.rotate_keys(&mut |_| ()).unwrap();
        drop(store);
        disk.power_cycle();
        store = open(&disk).unwrap().0;
        assert_left(&store, &documents, &erased, "opened again");
    }
    // The shard's file of carried keys is in both places, once.
    let carried: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|path| path.parent().is_some_and(|folder| folder.ends_with("keys")))
        .collect();
    assert_eq!(carried.len(), 2, "{carried:?}");
    // Two at once, one of them of another shard, and a patient who comes again.
    let purged = store.purge(&[tag(1), tag(5)]).unwrap();
    assert_eq!(purged.rows, 4);
    erased.extend([1, 5]);
    assert_left(&store, &documents, &erased, "all but one erased");
    visit(&store, 300, 2);
    assert_eq!(visits(&store), BTreeMap::from([(2, 1), (3, 2)]));
}

/// Copies of the keys' files as they are: the table, and the folders of carried keys.
fn key_files(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_key = |path: &PathBuf| {
        path.ends_with("keys.table") || path.parent().is_some_and(|dir| dir.ends_with("keys"))
    };
    let files = disk.files().into_iter().filter(is_key);
    files
        .map(|path| (path.clone(), disk.content(&path).unwrap()))
        .collect()
}

/// Puts the keys' files back as they were, wholly.
fn put_back(disk: &SimDisk, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for path in key_files(disk).keys() {
        disk.remove(path).unwrap();
    }
    for (path, content) in files {
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        disk.create(path).unwrap().write_at(content, 0).unwrap();
    }
}

/// Bar: E-12. Every set of key files that ever was on the disk, put back in every state that a crash
/// in erasing or in rotating can leave: it is refused, or the opening ends what was under way. What
/// was erased never comes back, and nobody else's data goes.
#[test]
fn an_old_key_table_is_refused_in_every_state() {
    let mut cases = 0;
    let mut refused = 0;
    for erase in [true, false] {
        for cut in 1.. {
            let (disk, store, documents) = filled(52);
            let mut ever = vec![key_files(&disk)];
            // One was erased before, so there are carried keys.
            store.purge(&[tag(0)]).unwrap();
            ever.push(key_files(&disk));
            disk.set_faults(Faults {
                power_cut_at: Some(cut),
                ..Faults::default()
            });
            let done = match erase {
                true => store.purge(&[tag(3)]).is_ok(),
                false => store.rotate_keys(&mut |_| ()).is_ok(),
            };
            disk.halt();
            drop(store);
            disk.power_cycle();
            for (age, old) in ever.iter().enumerate() {
                let disk = disk.fork();
                put_back(&disk, old);
                let what = format!("erase: {erase}, cut {cut}, age {age}");
                cases += 1;
                match open(&disk) {
                    Err(StoreError::StaleKeys { .. }) => refused += 1,
                    Err(error) => panic!("{what}: {error}"),
                    Ok((store, _)) => {
                        assert_eq!(age, 1, "{what}: before what was erased first");
                        assert!(!done, "{what}: done, and yet an old table is taken");
                        let gone = !visits(&store).contains_key(&3);
                        let erased = [0, 3];
                        let erased = if gone { &erased[..] } else { &erased[..1] };
                        assert_left(&store, &documents, erased, &what);
                    }
                }
            }
            // And as it is, it opens.
            let (store, _) = open(&disk).unwrap();
            assert_eq!(visits(&store).get(&1), Some(&2));
            if done {
                break;
            }
        }
    }
    assert!(refused > 20 && refused < cases, "{refused} of {cases}");
    summary(
        "E-12",
        &format!("{cases} old key tables put back, {refused} refused, 0 brought back"),
    );
}

/// Bar: E-12. An old table in one of the two places only.
#[test]
fn an_old_copy_in_one_place_brings_nothing_back() {
    let (disk, store, documents) = filled(53);
    let places = ["keys.table", "keys.second/keys.table"].map(|name| dir().join(name));
    let old = disk.content(&places[0]).unwrap();
    store.purge(&[tag(3)]).unwrap();
    drop(store);
    let current = disk.content(&places[0]).unwrap();
    for place in &places {
        assert_eq!(disk.content(place).unwrap(), current, "both are current");
        assert_ne!(current, old);
    }
    // The first is old: refused, though the second is right.
    let one = disk.fork();
    one.edit(&places[0], |bytes| bytes.clone_from(&old));
    assert!(matches!(open(&one), Err(StoreError::StaleKeys { .. })));
    // The first is damaged or gone and the second is old: refused, nothing is overwritten.
    for gone in [true, false] {
        let two = disk.fork();
        two.edit(&places[1], |bytes| bytes.clone_from(&old));
        match gone {
            true => two.remove(&places[0]).unwrap(),
            false => assert!(two.flip(&places[0], 99, 4)),
        }
        let before = two.content(&places[0]);
        assert!(matches!(open(&two), Err(StoreError::StaleKeys { .. })));
        assert_eq!(two.content(&places[0]), before);
        assert_eq!(two.content(&places[1]).unwrap(), old);
    }
    // The second is old and the first is right: it is made again.
    disk.edit(&places[1], |bytes| bytes.clone_from(&old));
    let (store, report) = open(&disk).unwrap();
    assert!(report.mended_keys);
    assert_eq!(disk.content(&places[1]).unwrap(), current);
    assert_left(&store, &documents, &[3], "mended");
}

/// Bar: E-06. Damage to any one copy of any of the keys' files: the other serves, and both are whole
/// again; damage to both is refused.
#[test]
fn one_damaged_copy_of_the_keys_is_made_good() {
    let (disk, store, documents) = filled(54);
    store.purge(&[tag(1)]).unwrap();
    drop(store);
    let whole = key_files(&disk);
    assert_eq!(whole.len(), 4, "a table and a file of carried keys, twice");
    for (path, content) in &whole {
        let name = path.display();
        let changes: [&dyn Fn(&SimDisk); 4] = [
            &|disk| assert!(disk.flip(path, content.len() as u64 / 2, 1)),
            &|disk| assert!(disk.edit(path, |bytes| bytes.truncate(content.len() - 1))),
            &|disk| assert!(disk.edit(path, Vec::clear)),
            &|disk| disk.remove(path).unwrap(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let disk = disk.fork();
            change(&disk);
            let (store, report) = open(&disk).unwrap_or_else(|e| panic!("{name} {number}: {e}"));
            let second = path
                .components()
                .any(|part| part.as_os_str() == "keys.second");
            // A second copy that is not there is made as in a store of before there were two.
            assert_eq!(
                report.mended_keys,
                !(second && number == 3),
                "{name} {number}"
            );
            assert_left(&store, &documents, &[1], &format!("{name} {number}"));
            drop(store);
            assert_eq!(key_files(&disk), whole, "{name} {number}");
            assert!(!open(&disk).unwrap().1.mended_keys);
        }
        let other = whole
            .keys()
            .find(|other| *other != path && other.file_name() == path.file_name());
        let both = disk.fork();
        assert!(both.flip(path, 20, 1) && both.flip(other.unwrap(), 20, 1));
        assert!(matches!(open(&both), Err(StoreError::Corrupt { .. })));
    }
    // A copy whose sectors cannot be read any more.
    for nth in 1..4 {
        let disk = disk.fork();
        disk.set_faults(Faults {
            failing: Some((Call::Read, nth)),
            ..Faults::default()
        });
        if let Ok((store, _)) = open(&disk) {
            assert_left(&store, &documents, &[1], "an unreadable copy");
        }
    }
}

/// A backup takes the copy that is whole.
#[test]
fn a_backup_takes_the_copy_of_the_keys_that_is_whole() {
    let (disk, store, documents) = filled(55);
    store.purge(&[tag(1)]).unwrap();
    drop(store);
    for path in ["keys.table", "keys/3c-2"].map(|name| dir().join(name)) {
        assert!(disk.flip(&path, 30, 1), "{}", path.display());
    }
    let request = BackupRequest {
        from: dir(),
        to: PathBuf::from("/backup"),
        options: sim_options(&disk),
        keys_kept: std::time::Duration::from_hours(1),
    };
    let report = backup(&request, &mut |_| ()).unwrap();
    assert!(report.faults.is_empty() && report.verified);
    let to = PathBuf::from("/restored");
    let mut options = sim_options(&disk);
    options.root = Some(RootSource::File(dir().join("root.key")));
    let restored = restore(
        RestoreRequest {
            from: PathBuf::from("/backup"),
            to: to.clone(),
            cut: Cut::End,
            options: options.clone(),
            schema: Schema::new().table::<Visit>(),
        },
        &mut |_| (),
    )
    .unwrap();
    // The store does not refer to the documents, so they are not restored.
    assert_eq!((restored.documents, documents.len()), (0, 6));
    let (store, report) = Store::open(&to, Schema::new().table::<Visit>(), options).unwrap();
    assert!(!report.mended_keys);
    let erased = visits(&store);
    assert_eq!(erased.len(), 5);
    assert!(!erased.contains_key(&1));
}
