//! From a frame to changes of the index: the one place where this is decided, a pure function of
//! the frame and the rows it replaces (INV-9).

use std::collections::HashMap;

use bytes::Bytes;

use super::commit::{AppliedWrite, Sequence};
use super::error::StoreError;
use super::keys::Tag;
use super::table::{IndexKey, Schema, TableId};

/// One change of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Puts a row.
    PutRow {
        table: TableId,
        key: Bytes,
        version: Sequence,
        /// The write's place in its frame; with the version it is unique.
        ordinal: u32,
        value: Bytes,
    },
    /// Deletes a row.
    DeleteRow { table: TableId, key: Bytes },
    /// Puts a secondary key of the row `primary`.
    PutEntry {
        table: TableId,
        key: IndexKey,
        primary: Bytes,
    },
    /// Deletes a secondary key of the row `primary`.
    DeleteEntry {
        table: TableId,
        key: IndexKey,
        primary: Bytes,
    },
}

/// The rows as they are before a frame.
pub(crate) trait Rows {
    /// The encoded row, if there is one.
    fn row(&mut self, table: TableId, key: &Bytes) -> Result<Option<Bytes>, StoreError>;
}

/// What `writes` do.
#[derive(Debug, Default)]
pub(crate) struct Projection {
    /// The changes of the index.
    pub(crate) mutations: Vec<Mutation>,
    /// The patient of each write's row, if it has one.
    pub(crate) subjects: Vec<Option<Tag>>,
}

/// The changes that `writes`, committed as frame `sequence` from its place `first` on, make.
pub(crate) fn project(
    schema: &Schema,
    sequence: Sequence,
    first: usize,
    writes: &[AppliedWrite],
    rows: &mut dyn Rows,
) -> Result<Projection, StoreError> {
    let mut mutations = Vec::with_capacity(writes.len() * 2);
    let mut subjects = Vec::with_capacity(writes.len());
    // Rows that earlier writes of the same frame have changed.
    let mut staged: HashMap<(TableId, &Bytes), Option<&Bytes>> = HashMap::new();
    for (place, write) in writes.iter().enumerate() {
        let table = schema.get(write.table)?;
        let (secondary, subject) = match &write.value {
            Some(value) => {
                let keys = table.keys(value)?;
                if keys.primary != write.key {
                    let what = "is not under its own key";
                    return Err(StoreError::InvalidRow {
                        table: table.name,
                        what,
                    });
                }
                (keys.secondary, keys.subject)
            }
            None => (Vec::new(), None),
        };
        subjects.push(subject);
        let old = match staged.get(&(write.table, &write.key)) {
            Some(row) => row.cloned(),
            None => rows.row(write.table, &write.key)?,
        };
        let stale = match &old {
            Some(old) => table.keys(old)?.secondary,
            None => Vec::new(),
        };
        push_row(
            &mut mutations,
            sequence,
            first + place,
            write,
            old.is_some(),
        );
        push_entries(&mut mutations, write, &stale, secondary);
        if writes.len() > 1 {
            staged.insert((write.table, &write.key), write.value.as_ref());
        }
    }
    Ok(Projection {
        mutations,
        subjects,
    })
}

fn push_row(
    mutations: &mut Vec<Mutation>,
    version: Sequence,
    place: usize,
    write: &AppliedWrite,
    existed: bool,
) {
    let (table, key) = (write.table, write.key.clone());
    match &write.value {
        Some(value) => {
            let ordinal = u32::try_from(place).unwrap_or(u32::MAX);
            let value = value.clone();
            mutations.push(Mutation::PutRow {
                table,
                key,
                version,
                ordinal,
                value,
            });
        }
        None if existed => mutations.push(Mutation::DeleteRow { table, key }),
        None => {}
    }
}

/// Deletes the keys that no longer hold and puts those that are new; both lists are sorted.
fn push_entries(
    mutations: &mut Vec<Mutation>,
    write: &AppliedWrite,
    stale: &[IndexKey],
    fresh: Vec<IndexKey>,
) {
    let table = write.table;
    for key in stale.iter().filter(|key| fresh.binary_search(key).is_err()) {
        let (key, primary) = (key.clone(), write.key.clone());
        mutations.push(Mutation::DeleteEntry {
            table,
            key,
            primary,
        });
    }
    for key in fresh
        .into_iter()
        .filter(|key| stale.binary_search(key).is_err())
    {
        let primary = write.key.clone();
        mutations.push(Mutation::PutEntry {
            table,
            key,
            primary,
        });
    }
}
