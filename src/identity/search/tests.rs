//! The packed index against a plain one, and what is kept of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::index::Known;
use super::packed::{pack, unpack};
use super::plans::{all_keys, linking_keys, plans};
use super::*;
use crate::demo::messages;
use crate::demo::sample::{Sample, SampleConfig};
use crate::identity::compare::Traits;
use crate::identity::tables as add_tables;
use crate::store::{Commit, Options, Schema, Tag, Write};
use crate::types::PatientIdentifier;
use crate::wire::pb::common as cpb;
use crate::wire::pb::identity as pb;

/// Patients with names in three scripts, insurances, telephones and addresses, as institutions write.
fn patients(people: usize, seed: u64) -> Vec<pb::Patient> {
    let sample = Sample::generate(&SampleConfig {
        seed,
        regions: 1,
        patients: people,
        ..SampleConfig::default()
    });
    let records = sample.people.iter().flat_map(|person| &person.records);
    let fed = records.filter_map(|record| {
        let institution = sample.institution(record)?;
        messages::feed(institution, record).patient
    });
    fed.collect()
}

fn all_traits(people: usize, seed: u64) -> Vec<Traits> {
    let patients = patients(people, seed);
    let known = patients.iter().filter_map(|one| one.demographics.as_ref());
    known.map(traits).collect()
}

fn crc(all: &[Traits]) -> u32 {
    let mut bytes = Vec::new();
    for traits in all {
        pack(&mut bytes, traits);
    }
    crc32fast::hash(&bytes)
}

fn awkward() -> Traits {
    let demographics = pb::Demographics {
        names: [
            ("髙橋（旧姓 渡邊）", "花子★同姓同名"),
            ("ﾀｶﾊｼ", "ﾊﾅｺ"),
            ("Takahashi", "Hanako"),
            ("山田", "ベビー"),
            ("齋藤𠮷田", ""),
        ]
        .map(|(family, given)| pb::PersonName {
            family: family.to_owned(),
            given: vec![given.to_owned()],
            source: Some(pb::ValueSource {
                as_of: "2020-02-29".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        })
        .to_vec(),
        birth_date_text: "昭和60年3月".to_owned(),
        telecoms: ["０３－１２３４－５６７８", "+81 90 1234 5678", "000"]
            .map(|value| pb::Telecom {
                value: value.to_owned(),
                ..Default::default()
            })
            .to_vec(),
        addresses: vec![pb::Address {
            text: "東京都千代田区霞が関一丁目２－３ 合同庁舎５号館".to_owned(),
            postal_code: "100-8916".to_owned(),
            ..Default::default()
        }],
        coverages: [
            ("06139463", "１２・ア", "00345", "01"),
            ("39131156", "", "12345678", ""),
        ]
        .map(|(insurer, symbol, number, branch)| pb::InsuranceCoverage {
            insurer_number: insurer.to_owned(),
            symbol: symbol.to_owned(),
            number: number.to_owned(),
            branch: branch.to_owned(),
            ..Default::default()
        })
        .to_vec(),
        ..Default::default()
    };
    traits(&demographics)
}

#[test]
fn what_is_packed_is_unpacked_the_same() {
    let mut all = all_traits(400, 1);
    all.extend([awkward(), Traits::default()]);
    all.push(Traits {
        as_of: -400,
        ..Traits::default()
    });
    for traits in &all {
        let mut bytes = Vec::new();
        pack(&mut bytes, traits);
        assert!(unpack(&bytes).as_ref() == Some(traits));
        for length in 0..bytes.len() {
            assert!(unpack(&bytes[..length]).is_none());
        }
        bytes.push(0);
        assert!(unpack(&bytes).is_none());
    }
}

/// If this fails, `traits` makes something else of the same record than it did: raise
/// `kept::NORMALISATION`, so that what nodes have kept is made anew, and put the new number here.
#[test]
fn the_version_of_normalisation_is_raised_when_it_changes() {
    let mut all = all_traits(300, 7);
    all.push(awkward());
    assert_eq!((kept::NORMALISATION, crc(&all)), (1, GOLDEN));
}
/// Of the sample's people and the awkward one: it also changes when the sample does.
const GOLDEN: u32 = 894_557_413;

/// The index as one would write it first.
#[derive(Default)]
struct Plain {
    /// In the order in which they came.
    records: Vec<(PatientTag, bool, LinkageId, Traits)>,
    keys: BTreeMap<u64, Vec<PatientTag>>,
}

impl Plain {
    fn remove(&mut self, tag: &PatientTag) {
        self.records.retain(|record| record.0 != *tag);
        self.keys.retain(|_, tags| {
            tags.retain(|other| other != tag);
            !tags.is_empty()
        });
    }

    fn put(&mut self, known: &Known) {
        let shown = known.shown.is_some();
        let same = self.records.iter_mut().find(|record| record.0 == known.tag);
        if let Some(same) = same
            && same.2 == known.linkage
            && same.3 == known.traits
        {
            same.1 = shown;
            return;
        }
        self.remove(&known.tag);
        for key in all_keys(&known.traits) {
            self.keys.entry(key).or_default().push(known.tag);
        }
        let traits = known.traits.clone();
        self.records.push((known.tag, shown, known.linkage, traits));
    }

    fn under(&self, keys: &[u64], most: usize) -> Vec<PatientTag> {
        let mut found: Vec<PatientTag> = Vec::new();
        let lists = keys.iter().filter_map(|key| self.keys.get(key));
        for tag in lists.filter(|list| list.len() <= most).flatten() {
            if !found.contains(tag) {
                found.push(*tag);
            }
        }
        found
    }
}

fn tags<'i>(entries: impl IntoIterator<Item = Entry<'i>>) -> Vec<PatientTag> {
    entries.into_iter().map(Entry::tag).collect()
}

fn tag_of(number: u32) -> PatientTag {
    let mut tag = [0x5A; 16];
    tag[..4].copy_from_slice(&number.wrapping_mul(0x9E37_79B9).to_be_bytes());
    tag[4..8].copy_from_slice(&number.to_be_bytes());
    tag
}

#[test]
fn the_packed_index_answers_as_a_plain_one_does() {
    for seed in [11, 12] {
        let random = &mut StdRng::seed_from_u64(seed);
        let known = all_traits(250, seed);
        let (mut index, mut plain) = (Index::default(), Plain::default());
        for step in 0..3_000 {
            let tag = tag_of(random.random_range(0..400));
            let linkage = LinkageId::from_bytes(tag_of(random.random_range(0..150)));
            let traits = known[random.random_range(0..known.len())].clone();
            let shown = random.random_bool(0.8).then(|| {
                let domain = format!("1.2.{}", random.random_range(1..5));
                let id = PatientIdentifier::new(&domain, &format!("P{step}")).unwrap();
                (id, Arc::from(format!("urn:oid:9.{}", step % 3)))
            });
            if random.random_bool(0.2) {
                index.remove(&tag);
                plain.remove(&tag);
            } else {
                let one = Known {
                    tag,
                    shown: shown.clone(),
                    linkage,
                    traits: traits.clone(),
                    not_same: vec![tag_of(step); step as usize % 3],
                };
                let before = index.get(&tag).map(|entry| entry.not_same().count());
                index.put(&one);
                // What differs only in this is put anew, as the plain one does not know.
                if before.is_some_and(|before| before != one.not_same.len()) {
                    plain.remove(&tag);
                }
                plain.put(&one);
                let entry = index.get(&tag).unwrap();
                assert_eq!(entry.shown(), shown, "seed {seed}, step {step}");
                assert_eq!(entry.is_committed(), shown.is_some());
                assert!(entry.traits() == traits && entry.linkage() == linkage);
                assert!(entry.not_same().eq(&one.not_same));
            }
            assert_eq!(index.len(), plain.records.len(), "seed {seed}, step {step}");
            let found = tags(index.candidates(&traits));
            let keys = linking_keys(&traits);
            assert_eq!(found, plain.under(&keys, 500), "seed {seed}, step {step}");
            for keys in plans(&traits) {
                let found = tags(index.under(&keys));
                assert_eq!(found, plain.under(&keys, 2_000), "seed {seed}, step {step}");
                assert!(!index.too_common(&keys));
            }
            let members = plain.records.iter().filter(|record| record.2 == linkage);
            let members: Vec<_> = members.map(|record| record.0).collect();
            assert_eq!(
                tags(index.members(linkage)),
                members,
                "seed {seed}, step {step}"
            );
            assert_eq!(
                index.linkage(&tag).is_some(),
                index.get(&tag).is_some_and(Entry::is_committed)
            );
        }
    }
}

#[test]
fn a_key_of_very_many_is_too_common_until_enough_are_gone() {
    let traits = awkward();
    let mut index = Index::default();
    let put = |index: &mut Index, number| {
        index.reserve(
            tag_of(number),
            LinkageId::from_bytes([1; 16]),
            traits.clone(),
        );
    };
    (0..500).for_each(|number| put(&mut index, number));
    assert_eq!(index.candidates(&traits).len(), 500);
    (500..2_000).for_each(|number| put(&mut index, number));
    assert!(index.candidates(&traits).is_empty());
    let keys = linking_keys(&traits);
    assert_eq!(
        (index.under(&keys).len(), index.too_common(&keys)),
        (2_000, false)
    );
    put(&mut index, 2_000);
    assert_eq!(
        (index.under(&keys).len(), index.too_common(&keys)),
        (0, true)
    );
    index.remove(&tag_of(7));
    assert_eq!(
        (index.under(&keys).len(), index.too_common(&keys)),
        (2_000, false)
    );
    assert_eq!(index.members(LinkageId::from_bytes([1; 16])).count(), 2_000);
}

/// Records of the sample, which have more names and so more keys than most.
#[test]
fn a_record_takes_few_bytes() {
    let mut index = Index::default();
    let all = all_traits(2_000, 3);
    for (number, traits) in (0..).zip(&all) {
        index.put(&Known {
            tag: tag_of(number),
            shown: Some((
                PatientIdentifier::new("1.2.392.100495.20.3.51.11310000001", "0012345678").unwrap(),
                Arc::from("urn:oid:1.2.392.1"),
            )),
            linkage: LinkageId::from_bytes(tag_of(number / 2)),
            traits: traits.clone(),
            not_same: Vec::new(),
        });
    }
    let keys: usize = all.iter().map(|one| all_keys(one).len()).sum();
    // The empty buckets of a small index are not what a record takes.
    let fixed = 2 * 65_536 * size_of::<Vec<u8>>();
    let each = (index.bytes() - fixed) / all.len();
    let keys = keys / all.len();
    assert!(each < 600, "{each} bytes a record of {keys} keys");
}

fn open(folder: &Path) -> Arc<Store> {
    let schema = add_tables(Schema::new());
    Store::open(folder, schema, Options::default()).unwrap().0
}

fn row(number: usize, patient: &pb::Patient) -> PatientRow {
    let mut patient = patient.clone();
    patient.identifier = Some(cpb::Identifier {
        assigning_authority: format!("1.2.{}", 1 + number % 5),
        value: format!("{number}"),
        ..Default::default()
    });
    patient.home_community_id = format!("urn:oid:1.9.{}", number % 3);
    let number = u32::try_from(number).unwrap();
    PatientRow {
        tag: tag_of(number).to_vec(),
        patient: Some(patient),
        linkage: tag_of(number / 2).to_vec(),
        not_same: vec![tag_of(number + 1).to_vec(); number as usize % 2],
        ..PatientRow::default()
    }
}

async fn commit(store: &Store, rows: &[PatientRow]) {
    for some in rows.chunks(200) {
        let commit = Commit {
            writes: some.iter().map(Write::put).collect(),
            ..Commit::default()
        };
        let _outcome = store.commit(commit).await.unwrap();
    }
}

/// All that an index says, whatever the order in which it was made.
fn content(search: &Search) -> BTreeMap<PatientTag, (String, Vec<u8>, Vec<PatientTag>)> {
    let index = search.read();
    let mut all = BTreeMap::new();
    let mut from = 0;
    while !index.slots(from, 64).is_empty() {
        for slot in index.slots(from, 64).iter().flatten() {
            let entry = index.get(&slot.tag).unwrap();
            let mut bytes = Vec::new();
            let traits = entry.traits();
            pack(&mut bytes, &traits);
            let mut found = tags(index.candidates(&traits));
            found.extend(
                plans(&traits)
                    .iter()
                    .flat_map(|keys| tags(index.under(keys))),
            );
            found.extend(tags(index.members(entry.linkage())));
            found.extend(entry.not_same());
            found.sort_unstable();
            let said = format!("{} {:?}", entry.linkage(), entry.shown());
            assert!(all.insert(slot.tag, (said, bytes, found)).is_none());
        }
        from += 64;
    }
    assert_eq!(all.len(), index.len());
    all
}

/// The index as the table has it.
fn from_table(store: &Store) -> BTreeMap<PatientTag, (String, Vec<u8>, Vec<PatientTag>)> {
    let search = Search::default();
    search.fill(store).unwrap();
    content(&search)
}

fn following(store: &Arc<Store>) -> (Arc<Search>, bool) {
    let search = Arc::new(Search::default());
    let restored = search.restore(store);
    if !restored {
        assert_eq!(search.read().len(), 0);
        search.fill(store).unwrap();
    }
    store.follow(Arc::clone(&search) as Arc<dyn Follower>);
    (search, restored)
}

fn rows(from: usize, count: usize) -> Vec<PatientRow> {
    let all = patients(count / 2, 5);
    (from..from + count)
        .map(|number| row(number, &all[number % all.len()]))
        .collect()
}

#[tokio::test]
async fn what_was_kept_is_restored_and_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (search, restored) = following(&store);
    assert!(!restored);
    commit(&store, &rows(0, 900)).await;
    assert!(!search.keep(&store).unwrap(), "too few to be worth it");
    commit(&store, &rows(900, 300)).await;
    search
        .write()
        .reserve(tag_of(90_000), LinkageId::from_bytes([9; 16]), awkward());
    assert!(search.keep(&store).unwrap());
    assert!(!search.keep(&store).unwrap(), "nothing is new");
    search.forget_pending(&tag_of(90_000));
    let at_keeping = content(&search);
    assert_eq!(at_keeping, from_table(&store));

    let again = Search::default();
    assert!(again.restore(&store));
    assert_eq!(content(&again), at_keeping, "without what is not committed");

    // Changed, added, withdrawn and deleted since, and then killed.
    let mut changed = rows(100, 50);
    changed.extend(rows(2_000, 50));
    for row in changed.iter_mut().take(10) {
        row.patient.as_mut().unwrap().inactive = true;
    }
    commit(&store, &changed).await;
    let gone = Commit {
        writes: vec![Write::delete::<PatientRow>(tag_of(3).to_vec())],
        ..Commit::default()
    };
    let _outcome = store.commit(gone).await.unwrap();
    drop((search, again));
    drop(store);
    let store = open(folder.path());
    let (search, restored) = following(&store);
    assert!(restored);
    let now = content(&search);
    assert_eq!(now.len(), 1_200 - 10 - 1 + 50);
    assert_eq!(now, from_table(&store));

    // It follows, and is kept again when the node is closed.
    commit(&store, &rows(3_000, 1_000)).await;
    assert!(search.keep(&store).unwrap());
    store.close().await.unwrap();
    let before = content(&search);
    drop((search, store));
    let store = open(folder.path());
    let (search, restored) = following(&store);
    assert!(restored);
    assert_eq!(content(&search), before);
    assert_eq!(before, from_table(&store));
}

#[tokio::test]
async fn records_that_change_while_it_is_kept_are_right_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (search, _) = following(&store);
    commit(&store, &rows(0, 1_200)).await;
    search.write().touched = Some(std::collections::HashSet::new());
    let sequence = Sequence(search.applied.load(Ordering::Acquire));
    // As `keep` does it, with changes between the pieces: what was seen is changed, what was not seen
    // yet is deleted, and what was seen comes again in another place. First between the records, then
    // between these and what leads to them, then in the middle of that; and somebody is on the way
    // who is never committed.
    let mut keeping = kept::Keeping::of(&search);
    let mut pieces = Vec::new();
    while let Some(piece) = keeping.next() {
        pieces.push(piece);
        let round = match pieces.len() {
            1 => 0,
            2 => 100,
            30 => 200,
            100 => 300,
            _ => continue,
        };
        let gone = [1_150 - round, 1_199 - round, 5 + round, 6 + round]
            .map(|number| Write::delete::<PatientRow>(tag_of(number).to_vec()));
        let commit_gone = Commit {
            writes: gone.into(),
            ..Commit::default()
        };
        let _outcome = store.commit(commit_gone).await.unwrap();
        let pending = tag_of(80_000 + round);
        let linkage = LinkageId::from_bytes([7; 16]);
        search.write().reserve(pending, linkage, awkward());
        let round = round as usize;
        commit(&store, &rows(1_500 + round, 2)).await;
        commit(&store, &rows(5 + round, 2)).await;
        commit(&store, &rows(20 + round, 3)).await;
        search.forget_pending(&pending);
    }
    assert!(pieces.len() > 128, "{} pieces", pieces.len());
    let mut pieces = pieces.into_iter();
    store
        .keep_derived(&kept::derived(), sequence, &mut || pieces.next())
        .unwrap();
    search.write().touched = None;
    let again = Search::default();
    assert!(again.restore(&store));
    assert_eq!(content(&again), content(&search));
    assert_eq!(content(&again), from_table(&store));
    // Nothing leads to a place that has another record by now.
    for number in 0..1_200 {
        let tag = tag_of(number);
        again.write().remove(&tag);
    }
    for number in 1_500..1_900 {
        again.write().remove(&tag_of(number));
    }
    assert_eq!((again.read().len(), again.read().postings()), (0, 0));
}

#[test]
fn the_example_has_keys_of_every_kind() {
    let example = kept::example();
    let routes = crate::identity::matching::keys::keys(&example);
    let routes: std::collections::BTreeSet<_> = routes.iter().map(|(route, _)| *route).collect();
    assert_eq!(routes.len(), 14, "{routes:?}");
    // With the linking ones, each of the six kinds by which may be searched.
    assert_eq!(plans(&example).len(), 7);
}

#[tokio::test]
async fn what_cannot_be_believed_is_made_anew_from_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (search, _) = following(&store);
    commit(&store, &rows(0, 1_200)).await;
    assert!(search.keep(&store).unwrap());
    let wanted = content(&search);
    let path = folder.path().join("derived").join("search");
    let whole = std::fs::read(&path).unwrap();
    let file = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
    let refused = || {
        let search = Search::default();
        assert!(!search.restore(&store));
        assert_eq!(search.read().len(), 0, "nothing of it is left");
        search.open(&store).unwrap();
        assert_eq!(content(&search), wanted);
    };
    for at in [3, 20, 50, 150, 200, whole.len() / 2, whole.len() - 5] {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        file(&altered);
        refused();
    }
    file(&whole[..whole.len() - 21]);
    refused();
    // Sealed by this store, but not what the index writes.
    let at = store.last_sequence();
    let mut odd = vec![vec![1, 0xFF, 0xFF, 3]].into_iter();
    store
        .keep_derived(&kept::derived(), at, &mut || odd.next())
        .unwrap();
    refused();
    let other_making = crate::store::Derived {
        making: [1; 32],
        ..kept::derived()
    };
    let mut none = Vec::<Vec<u8>>::new().into_iter();
    store
        .keep_derived(&other_making, at, &mut || none.next())
        .unwrap();
    refused();
    file(&whole);
    assert!(Search::default().restore(&store));
}

/// Bar E-05: nothing of a purged patient is in what is kept, nor comes back from it.
#[tokio::test]
async fn a_purged_patient_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (search, _) = following(&store);
    commit(&store, &rows(0, 1_200)).await;
    assert!(search.keep(&store).unwrap());
    let path = folder.path().join("derived").join("search");
    let before = std::fs::read(&path).unwrap();
    let tag = tag_of(17);
    store.purge(&[Tag::from_slice(&tag).unwrap()]).unwrap();
    assert!(!path.exists() && search.read().get(&tag).is_none());
    // Put back from somewhere: its key is gone.
    std::fs::write(&path, before).unwrap();
    let again = Search::default();
    again.open(&store).unwrap();
    assert!(again.read().get(&tag).is_none());
    assert_eq!(content(&again), content(&search));
    // Kept anew, since the keys are others.
    assert!(search.keep(&store).unwrap());
    let again = Search::default();
    assert!(again.restore(&store));
    assert!(again.read().get(&tag).is_none() && again.read().len() == 1_199);
}
