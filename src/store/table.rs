//! Typed tables: what a row is, how its keys are built, and which tables a store has.
//!
//! Keys are readable by whoever holds the disk, so identifiers go in as keyed hashes
//! ([`Tag`]), never in clear (INV-8).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use aws_lc_rs::digest;

use super::blobs::BlobId;
use super::error::StoreError;
use super::keys::Tag;

/// The number of a table; once shipped it never changes its meaning. 0 to 15 are the
/// store's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u16);

/// A secondary key of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexKey {
    /// The index's number, counted per table; once shipped it never changes its meaning.
    pub index: u8,
    /// The key. It need not be unique: the store appends the primary key.
    pub key: Vec<u8>,
}

impl IndexKey {
    /// The key `key` in the index numbered `index`.
    pub fn new(index: u8, key: Vec<u8>) -> Self {
        Self { index, key }
    }
}

/// The number of the secondary index that the store keeps by itself in every table: the rows that
/// refer to a document, by its name.
pub(crate) const BLOB_INDEX: u8 = u8::MAX;

/// A protobuf message that is stored as one row. Both keys depend on the row alone, so that an
/// index can be rebuilt from the ledger (INV-9).
pub trait Row: prost::Message + Default + Send + Sync + 'static {
    /// The table the rows live in.
    const TABLE: TableId;
    /// The table's name, for reports.
    const NAME: &'static str;
    /// Raised when [`Row::index`] changes, so that existing stores rebuild their index.
    const INDEX_VERSION: u16 = 1;

    /// The primary key, unique in the table.
    fn key(&self) -> Vec<u8>;

    /// The secondary keys, derived purely from the row. Index 255 is the store's own.
    fn index(&self) -> Vec<IndexKey> {
        Vec::new()
    }

    /// The patient whom the row is about, if it is about one: the ledger then holds it sealed under
    /// that patient's key, and it goes when the key is destroyed ([`Store::purge`]).
    ///
    /// [`Store::purge`]: super::Store::purge
    fn subject(&self) -> Option<Tag> {
        None
    }

    /// The documents the row refers to: it is committed only while they are there, and they are
    /// not swept while it is. Derived purely from the row.
    fn blobs(&self) -> Vec<BlobId> {
        Vec::new()
    }
}

/// Builds keys whose byte order is the order of their parts: big-endian, fixed width first.
#[derive(Clone, Debug, Default)]
pub struct KeyBuilder(Vec<u8>);

impl KeyBuilder {
    /// An empty key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one byte.
    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Appends two bytes.
    #[must_use]
    pub fn u16(self, value: u16) -> Self {
        self.fixed(&value.to_be_bytes())
    }

    /// Appends four bytes.
    #[must_use]
    pub fn u32(self, value: u32) -> Self {
        self.fixed(&value.to_be_bytes())
    }

    /// Appends eight bytes.
    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        self.fixed(&value.to_be_bytes())
    }

    /// Appends eight bytes that sort descending: the newest first.
    #[must_use]
    pub fn u64_descending(self, value: u64) -> Self {
        self.u64(!value)
    }

    /// Appends eight bytes; negative values sort before positive ones.
    #[must_use]
    pub fn i64(self, value: i64) -> Self {
        self.u64(value.cast_unsigned() ^ (1 << 63))
    }

    /// Appends a keyed hash.
    #[must_use]
    pub fn tag(self, tag: &Tag) -> Self {
        self.fixed(tag.as_bytes())
    }

    /// Appends bytes whose length is the same in every key of this kind, or the last part.
    #[must_use]
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends text of any length, terminated so that other parts may follow and the order stays
    /// that of the text. For public codes only, never for personal data (INV-8).
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        for &byte in text.as_bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xFF);
            }
        }
        self.0.extend_from_slice(&[0, 0]);
        self
    }

    /// The finished key.
    #[must_use]
    pub fn build(self) -> Vec<u8> {
        self.0
    }
}

/// What a row's bytes say about its keys.
#[derive(Debug)]
pub(crate) struct RowKeys {
    pub(crate) primary: Vec<u8>,
    pub(crate) secondary: Vec<IndexKey>,
    pub(crate) subject: Option<Tag>,
}

/// One table of a schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    index_version: u16,
    keys: fn(&[u8]) -> Option<RowKeys>,
}

impl Table {
    /// Decodes a row far enough to know its keys.
    pub(crate) fn keys(&self, row: &[u8]) -> Result<RowKeys, StoreError> {
        (self.keys)(row).ok_or(StoreError::InvalidRow {
            table: self.name,
            what: "does not decode",
        })
    }
}

fn keys_of<R: Row>(bytes: &[u8]) -> Option<RowKeys> {
    let row = R::decode(bytes).ok()?;
    let mut secondary = row.index();
    let blobs = row.blobs().into_iter();
    secondary.extend(blobs.map(|blob| IndexKey::new(BLOB_INDEX, blob.as_bytes().to_vec())));
    secondary.sort_unstable();
    secondary.dedup();
    Some(RowKeys {
        primary: row.key(),
        secondary,
        subject: row.subject(),
    })
}

/// The tables of a store. Two row types under one number are a mistake of the program: the first
/// stays, and [`Schema::duplicates`] lists the others.
#[derive(Clone, Debug)]
pub struct Schema {
    tables: BTreeMap<TableId, Table>,
    duplicates: Vec<&'static str>,
}

impl Default for Schema {
    fn default() -> Self {
        Self::new()
    }
}

impl Schema {
    /// A schema with only the store's own tables.
    pub fn new() -> Self {
        Self {
            tables: BTreeMap::new(),
            duplicates: Vec::new(),
        }
        .table::<super::idempotency::IdempotencyRow>()
        .table::<super::keys::KeyRow>()
        .table::<super::keys::KeyStateRow>()
    }

    /// Adds the table of `R`.
    #[must_use]
    pub fn table<R: Row>(mut self) -> Self {
        match self.tables.entry(R::TABLE) {
            Entry::Occupied(_) => self.duplicates.push(R::NAME),
            Entry::Vacant(entry) => {
                let (name, index_version) = (R::NAME, R::INDEX_VERSION);
                entry.insert(Table {
                    name,
                    index_version,
                    keys: keys_of::<R>,
                });
            }
        }
        self
    }

    /// The names of row types that were refused because their table number was taken.
    pub fn duplicates(&self) -> &[&'static str] {
        &self.duplicates
    }

    /// All tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (TableId, &Table)> {
        self.tables.iter().map(|(id, table)| (*id, table))
    }

    /// The table numbered `id`.
    pub(crate) fn get(&self, id: TableId) -> Result<&Table, StoreError> {
        self.tables.get(&id).ok_or(StoreError::UnknownTable(id))
    }

    /// A hash of everything that decides what the index looks like; an index made under another
    /// fingerprint is rebuilt.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for (id, table) in &self.tables {
            context.update(&id.0.to_be_bytes());
            context.update(&table.index_version.to_be_bytes());
            context.update(table.name.as_bytes());
            context.update(&[0]);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }
}
