//! Both engines answer alike, and the projection leaves no stale keys. Bar: D-12.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::store::Schema;
use crate::store::commit::AppliedWrite;
use crate::store::disk::sim::SimDisk;
use crate::store::keys::{RootSource, SystemRandom};
use crate::store::overlay::Overlay;
use crate::store::projection::project;
use crate::store::table::Row as _;
use crate::store::tests::{Note, key, note};

fn index(kind: IndexKind, dir: &Path, keys: &Keys) -> Index {
    Index::open(kind, dir, 1 << 20, [1; 32], keys, &SystemRandom::default())
        .unwrap()
        .0
}

fn write(id: u64, group: Option<u32>) -> AppliedWrite {
    use prost::Message as _;
    AppliedWrite {
        table: Note::TABLE,
        key: key(id).into(),
        value: group.map(|group| note(id, group, "text").encode_to_vec().into()),
    }
}

type Operations = Vec<Vec<(u64, Option<u32>)>>;

fn operations() -> impl Strategy<Value = Operations> {
    let one = (0..6_u64, proptest::option::weighted(0.7, 0..4_u32));
    proptest::collection::vec(proptest::collection::vec(one, 1..4), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn engines_agree_with_a_plain_map(operations in operations()) {
        let schema = Schema::new().table::<Note>();
        let disk = SimDisk::new(1);
        let root = RootSource::File("/root.key".into());
        let keys = Keys::open_or_create(Path::new("/"), &root, &disk, &SystemRandom::default(), 0).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let engines = [
            index(IndexKind::Memory, folder.path(), &keys),
            index(IndexKind::Sled, &folder.path().join("index"), &keys),
        ];
        let mut model: BTreeMap<u64, u32> = BTreeMap::new();
        for (sequence, writes) in (1..).map(Sequence).zip(&operations) {
            for (id, group) in writes {
                match group {
                    Some(group) => model.insert(*id, *group),
                    None => model.remove(id),
                };
            }
            let writes: Vec<_> = writes.iter().map(|(id, group)| write(*id, *group)).collect();
            for engine in &engines {
                let made = project(&schema, sequence, 0, &writes, &mut Overlay::new(engine)).unwrap();
                engine.apply(made.mutations, sequence).unwrap();
                prop_assert_eq!(engine.applied(), sequence);
            }
        }
        let expected: BTreeSet<Vec<u8>> = model
            .iter()
            .map(|(id, group)| [&group.to_be_bytes()[..], &id.to_be_bytes()].concat())
            .collect();
        for engine in &engines {
            let rows = engine.rows(Note::TABLE, &[], None, 100).unwrap();
            let ids: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
            prop_assert_eq!(ids, model.keys().map(|id| key(*id)).collect::<Vec<_>>());
            let entries = engine.entries(Note::TABLE, 1, &[], None, 100).unwrap();
            let found: BTreeSet<_> = entries.into_iter().map(|(entry, _)| entry).collect();
            prop_assert_eq!(&found, &expected);
        }
        prop_assert_eq!(engines[0].dump().unwrap(), engines[1].dump().unwrap());
    }
}
