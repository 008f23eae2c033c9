//! The registry as one change sees it: what is stored, with what the change has done to it so far.
//! What comes out are writes that hold only if nothing that was changed has changed meanwhile.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::store::{Expect, Row, Sequence, Store, Write};
use crate::types::EntryUuid;

use super::super::tables::{AssociationRow, EntryRow, FolderRow, Kind, SubmissionRow, UniqueRow};

/// Associations of one object that a change looks at. A folder with more members cannot be changed
/// as a whole.
const MAX_ASSOCIATIONS: usize = 20_000;
/// Versions of one object.
pub(super) const MAX_VERSIONS: usize = 10_000;

/// A row, as it was and as it is to be.
#[derive(Debug)]
struct Slot<R> {
    before: Option<Sequence>,
    now: Option<R>,
    changed: bool,
}

/// The rows of one table that a change has touched.
#[derive(Debug)]
struct Rows<R>(BTreeMap<Vec<u8>, Slot<R>>);

impl<R> Default for Rows<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Row + Clone> Rows<R> {
    fn load(&mut self, store: &Store, key: &[u8]) -> Result<&mut Slot<R>> {
        if !self.0.contains_key(key) {
            let stored = store.get::<R>(key)?;
            let slot = Slot {
                before: stored.as_ref().map(|stored| stored.version),
                now: stored.map(|stored| stored.row),
                changed: false,
            };
            self.0.insert(key.to_vec(), slot);
        }
        // Put there just now.
        self.0
            .get_mut(key)
            .ok_or_else(|| crate::error::Error::internal("a row that was loaded is gone"))
    }

    fn get(&mut self, store: &Store, key: &[u8]) -> Result<Option<R>> {
        Ok(self.load(store, key)?.now.clone())
    }

    fn put(&mut self, store: &Store, row: R) -> Result<()> {
        let slot = self.load(store, &row.key())?;
        slot.now = Some(row);
        slot.changed = true;
        Ok(())
    }

    fn delete(&mut self, store: &Store, key: &[u8]) -> Result<()> {
        let slot = self.load(store, key)?;
        slot.changed |= slot.now.is_some();
        slot.now = None;
        Ok(())
    }

    /// The rows under a prefix of a secondary index, with what has been changed.
    fn under(&mut self, store: &Store, index: u8, prefix: &[u8], limit: usize) -> Result<Vec<R>> {
        for (_, stored) in store.by_index::<R>(index, prefix, None, limit)? {
            let key = stored.row.key();
            self.0.entry(key).or_insert(Slot {
                before: Some(stored.version),
                now: Some(stored.row),
                changed: false,
            });
        }
        let belongs = |row: &&R| {
            let keys = row.index();
            keys.iter()
                .any(|key| key.index == index && key.key.starts_with(prefix))
        };
        let rows = self.0.values().filter_map(|slot| slot.now.as_ref());
        Ok(rows.filter(belongs).cloned().collect())
    }

    fn writes(self, writes: &mut Vec<Write>) {
        for (key, slot) in self.0 {
            if !slot.changed {
                continue;
            }
            let write = match &slot.now {
                Some(row) => Write::put(row),
                None => Write::delete::<R>(key),
            };
            let expect = slot.before.map_or(Expect::Absent, Expect::Version);
            // What was made and undone in the same change was never there.
            if slot.now.is_some() || slot.before.is_some() {
                writes.push(write.expecting(expect));
            }
        }
    }
}

/// The registry under one change.
#[derive(Debug)]
pub(super) struct State<'a> {
    store: &'a Store,
    entries: Rows<EntryRow>,
    sets: Rows<SubmissionRow>,
    folders: Rows<FolderRow>,
    associations: Rows<AssociationRow>,
    uniques: Rows<UniqueRow>,
}

macro_rules! table {
    ($field:ident, $row:ident, $get:ident, $put:ident, $delete:ident) => {
        pub(super) fn $get(&mut self, key: &[u8]) -> Result<Option<$row>> {
            self.$field.get(self.store, key)
        }

        pub(super) fn $put(&mut self, row: $row) -> Result<()> {
            self.$field.put(self.store, row)
        }

        pub(super) fn $delete(&mut self, key: &[u8]) -> Result<()> {
            self.$field.delete(self.store, key)
        }
    };
}

impl<'a> State<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self {
            store,
            entries: Rows::default(),
            sets: Rows::default(),
            folders: Rows::default(),
            associations: Rows::default(),
            uniques: Rows::default(),
        }
    }

    table!(entries, EntryRow, entry, put_entry, delete_entry);
    table!(sets, SubmissionRow, set, put_set, delete_set);
    table!(folders, FolderRow, folder, put_folder, delete_folder);
    table!(
        associations,
        AssociationRow,
        association,
        put_association,
        delete_association
    );
    table!(uniques, UniqueRow, unique, put_unique, delete_unique);

    /// What kind of object has this entryUUID.
    pub(super) fn kind(&mut self, uuid: &[u8]) -> Result<Option<Kind>> {
        Ok(if self.entry(uuid)?.is_some() {
            Some(Kind::Entry)
        } else if self.association(uuid)?.is_some() {
            Some(Kind::Association)
        } else if self.set(uuid)?.is_some() {
            Some(Kind::Set)
        } else if self.folder(uuid)?.is_some() {
            Some(Kind::Folder)
        } else {
            None
        })
    }

    /// The associations whose source is this object.
    pub(super) fn from(&mut self, uuid: &[u8]) -> Result<Vec<AssociationRow>> {
        let (store, index) = (self.store, AssociationRow::BY_SOURCE);
        self.associations
            .under(store, index, uuid, MAX_ASSOCIATIONS)
    }

    /// The associations whose target is this object.
    pub(super) fn to(&mut self, uuid: &[u8]) -> Result<Vec<AssociationRow>> {
        let (store, index) = (self.store, AssociationRow::BY_TARGET);
        self.associations
            .under(store, index, uuid, MAX_ASSOCIATIONS)
    }

    /// All versions of an entry, oldest first.
    pub(super) fn entry_versions(&mut self, logical: &EntryUuid) -> Result<Vec<EntryRow>> {
        let (store, index) = (self.store, EntryRow::BY_LOGICAL);
        let mut rows = self
            .entries
            .under(store, index, logical.as_bytes(), MAX_VERSIONS)?;
        rows.sort_by_key(|row| row.entry.as_ref().map_or(0, |entry| entry.version));
        Ok(rows)
    }

    /// All versions of a folder, oldest first.
    pub(super) fn folder_versions(&mut self, logical: &EntryUuid) -> Result<Vec<FolderRow>> {
        let (store, index) = (self.store, FolderRow::BY_LOGICAL);
        let mut rows = self
            .folders
            .under(store, index, logical.as_bytes(), MAX_VERSIONS)?;
        rows.sort_by_key(|row| row.folder.as_ref().map_or(0, |folder| folder.version));
        Ok(rows)
    }

    /// The writes that make the registry so.
    pub(super) fn into_writes(self) -> Vec<Write> {
        let mut writes = Vec::new();
        self.sets.writes(&mut writes);
        self.entries.writes(&mut writes);
        self.folders.writes(&mut writes);
        self.associations.writes(&mut writes);
        self.uniques.writes(&mut writes);
        writes
    }
}
