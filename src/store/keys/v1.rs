//! Stores of format 1, which had no key table: `store.meta` with a check value, and every key
//! derived from the root key. Their derived keys become the wrapped keys of a new table, so that
//! everything written before stays readable.

use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::super::crypto::{Secret, derive, to_array};
use super::super::disk::{Disk, exists, read_small};
use super::super::error::{IoContext as _, StoreError};

pub(super) const META_FILE: &str = "store.meta";
const META_MAGIC: &[u8; 8] = b"RENKEIST";
const META_VERSION: u16 = 1;
const META_BYTES: usize = 66;

/// What a store of format 1 was made with.
pub(super) struct OldKeys {
    pub(super) store_id: [u8; 16],
    pub(super) ledger: Secret,
    pub(super) tags: Secret,
    pub(super) blob_names: Secret,
}

pub(super) fn is_there(dir: &Path, disk: &dyn Disk) -> Result<bool, StoreError> {
    exists(disk, &dir.join(META_FILE)).during("looking for the store's meta file")
}

/// magic 8 · version 2 · epoch 4 · store id 16 · check value 32 · CRC-32 4, big-endian.
pub(super) fn read(dir: &Path, disk: &dyn Disk, root: &Secret) -> Result<OldKeys, StoreError> {
    let bytes =
        read_small(disk, &dir.join(META_FILE), 4096).during("reading the store's meta file")?;
    let fault = |what| StoreError::corrupt(META_FILE, 0, what);
    let field = |from: usize, to: usize| bytes.get(from..to).ok_or(fault("too short"));
    if field(0, 8)? != META_MAGIC {
        return Err(fault("is not a store's meta file"));
    }
    let version = u16::from_be_bytes(to_array(field(8, 10)?));
    if version != META_VERSION {
        return Err(StoreError::Format {
            what: "store meta",
            found: version,
            supported: META_VERSION,
        });
    }
    let crc = u32::from_be_bytes(to_array(field(62, 66)?));
    if bytes.len() != META_BYTES || crc32fast::hash(field(0, 62)?) != crc {
        return Err(fault("checksum does not match"));
    }
    let epoch = field(10, 14)?;
    let store_id: [u8; 16] = to_array(field(14, 30)?);
    let check = derive(root.as_ref(), &store_id, &[b"renkei 1 key check value"])?;
    verify_slices_are_equal(field(30, 62)?, check.as_ref()).map_err(|_| StoreError::WrongKey)?;
    let branch = |name: &[u8]| derive(root.as_ref(), &store_id, &[b"renkei 1 branch ", name]);
    Ok(OldKeys {
        store_id,
        ledger: derive(root.as_ref(), &store_id, &[b"renkei 1 epoch ", epoch])?,
        tags: branch(b"index tags")?,
        blob_names: branch(b"blob names")?,
    })
}
