//! Two indexes, entry by entry.

use std::cmp::Ordering;

use bytes::Bytes;

use super::super::commit::Sequence;
use super::super::crypto::to_array;
use super::super::error::StoreError;
use super::super::table::TableId;
use super::{ENTRIES, Index, PAGE, ROWS};

/// How an entry differs from what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// It is not there.
    Missing,
    /// It should not be there.
    Extra,
    /// It says something else.
    Other,
}

/// An entry in clear.
type Entry = (Vec<u8>, Sequence, Bytes);

/// Walks over everything an index says, in order.
struct Walk<'a> {
    index: &'a Index,
    space: u8,
    page: std::vec::IntoIter<Entry>,
    after: Option<Vec<u8>>,
}

impl<'a> Walk<'a> {
    fn new(index: &'a Index, space: u8) -> Self {
        Self {
            index,
            space,
            page: Vec::new().into_iter(),
            after: None,
        }
    }

    fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        if let Some(entry) = self.page.next() {
            return Ok(Some(entry));
        }
        let engine = &self.index.engine;
        let raw = engine.range(&[self.space], self.after.as_deref(), PAGE)?;
        let mut page = Vec::with_capacity(raw.len());
        for (key, value) in raw {
            let (version, value) = if self.space == ROWS {
                let row = self.index.unseal(&key, &value)?;
                (row.version, row.value)
            } else {
                (Sequence(0), value)
            };
            page.push((key, version, value));
        }
        self.after = page
            .last()
            .map(|(key, ..)| key.clone())
            .or(self.after.take());
        self.page = page.into_iter();
        Ok(self.page.next())
    }
}

impl Index {
    /// Compares with what it should be. `visit` gets the table and the difference; returns how many
    /// entries there should be.
    pub(crate) fn compare(
        &self,
        should: &Self,
        visit: &mut dyn FnMut(TableId, Difference),
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        for space in [ROWS, ENTRIES] {
            let (mut is, mut wanted) = (Walk::new(self, space), Walk::new(should, space));
            let (mut left, mut right) = (is.next()?, wanted.next()?);
            loop {
                let order = match (&left, &right) {
                    (None, None) => break,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some(left), Some(right)) => left.0.cmp(&right.0),
                };
                let key = match order {
                    Ordering::Greater => right.as_ref(),
                    Ordering::Less | Ordering::Equal => left.as_ref(),
                };
                let table = key.and_then(|(key, ..)| key.get(1..3)).unwrap_or_default();
                let table = TableId(u16::from_be_bytes(to_array(table)));
                match order {
                    Ordering::Less => visit(table, Difference::Extra),
                    Ordering::Greater => visit(table, Difference::Missing),
                    Ordering::Equal if left != right => visit(table, Difference::Other),
                    Ordering::Equal => {}
                }
                if order != Ordering::Greater {
                    left = is.next()?;
                }
                if order != Ordering::Less {
                    right = wanted.next()?;
                    count += 1;
                }
            }
        }
        Ok(count)
    }
}
