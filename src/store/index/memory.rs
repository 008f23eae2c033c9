//! The index in memory: for tests, and for nodes small enough to read the ledger at every start.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;

use super::super::error::StoreError;
use super::{Engine, Pairs, start};

/// How large a load is, in bytes: nothing is gained by large ones.
const LOAD: usize = 16 << 10;

/// A sorted map behind a lock.
#[derive(Debug, Default)]
pub(super) struct MemoryEngine(RwLock<BTreeMap<Vec<u8>, Bytes>>);

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned())
    }

    fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Pairs, StoreError> {
        let start = start(prefix, after);
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(map
            .range::<[u8], _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn apply(&self, batch: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch {
            match value {
                Some(value) => map.insert(key, Bytes::from(value)),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn load(&self, batch: &[(&[u8], Option<&[u8]>)]) -> Result<(), StoreError> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch {
            match value {
                Some(value) => map.insert(key.to_vec(), Bytes::copy_from_slice(value)),
                None => map.remove(*key),
            };
        }
        Ok(())
    }

    fn load_bytes(&self) -> usize {
        LOAD
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
