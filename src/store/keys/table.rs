//! The key table: every key that something is wrapped under, in one small file, rewritten whole.
//!
//! ```text
//! magic 8 · version 2 · length of the body 4 · body (protobuf) · HMAC-SHA256 32 · CRC-32 4
//! ```
//!
//! The keys of epochs are wrapped under the root key, all others under the newest epoch's; the HMAC
//! is under a key derived from that one. So rotation re-wraps this file and nothing else.
//!
//! There are two copies, the second in a folder of its own, with second copies of the carried keys.
//! The second is written after the first and before the change counts as done, so no key is
//! destroyed while a copy still has it; it is read when the first is damaged or gone. Which
//! generation must be here the ledger says, whichever copy was read.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use prost::Message as _;

use super::super::crypto::{Secret, derive, keyed_hash, to_array};
use super::super::disk::{Disk, exists, make_small, read_small, write_small};
use super::super::error::{IoContext as _, StoreError};
use crate::planted::planted;

/// The folder of second copies.
const SECOND: &str = "keys.second";
/// The table's file name.
pub(crate) const TABLE_FILE: &str = "keys.table";
const MAGIC: &[u8; 8] = b"RENKEIKT";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 14;
const MAC_BYTES: usize = 32;
/// No table is larger: 256 shards and a few epochs take some 25 KiB.
const MAX_BYTES: usize = 1 << 20;

/// What the table says.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Body {
    /// The random identity of the store, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) store_id: Vec<u8>,
    /// Raised by one with every change; the ledger knows the newest.
    #[prost(uint64, tag = "2")]
    pub(super) generation: u64,
    /// The epochs still needed, oldest first; the last one is current.
    #[prost(message, repeated, tag = "3")]
    pub(super) epochs: Vec<Epoch>,
    /// The key that ledger segments derive theirs from, wrapped.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) ledger: Vec<u8>,
    /// The key of identifier tags, wrapped.
    #[prost(bytes = "vec", tag = "5")]
    pub(super) tags: Vec<u8>,
    /// The key of blob names, wrapped.
    #[prost(bytes = "vec", tag = "6")]
    pub(super) blob_names: Vec<u8>,
    /// The keys that patients' keys are wrapped under, by the first byte of a key's id.
    #[prost(message, repeated, tag = "7")]
    pub(super) shards: Vec<Shard>,
}

/// A key encryption key.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Epoch {
    /// Counted from 1.
    #[prost(uint32, tag = "1")]
    pub(super) number: u32,
    /// When it began, in seconds since 1970 (UTC).
    #[prost(int64, tag = "2")]
    pub(super) began_unix_seconds: i64,
    /// The key, wrapped under the root key.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) wrapped: Vec<u8>,
}

/// One of the keys that patients' keys are wrapped under.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Shard {
    /// Counted from 1, raised when a patient's key of this shard is destroyed.
    #[prost(uint32, tag = "1")]
    pub(super) generation: u32,
    /// The key, wrapped under the newest epoch's.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) wrapped: Vec<u8>,
    /// SHA-256 of the file with the keys that were carried over into this generation; empty in
    /// the first.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) carried_sha256: Vec<u8>,
}

/// A table as read, before its keys are unwrapped.
pub(super) struct Raw {
    pub(super) body: Body,
    authenticated: Vec<u8>,
    mac: [u8; MAC_BYTES],
}

fn mac_key(kek: &Secret, store_id: &[u8]) -> Result<hmac::Key, StoreError> {
    let key = derive(kek.as_ref(), store_id, &[b"renkei 2 key table"])?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(TABLE_FILE)
}

/// The folder of the keys' files, and that of their second copies, which have the same names there.
pub(crate) fn places(dir: &Path) -> [PathBuf; 2] {
    [dir.to_path_buf(), dir.join(SECOND)]
}

/// Whether there is a table, in either place.
pub(crate) fn is_there(dir: &Path, disk: &dyn Disk) -> Result<bool, StoreError> {
    for place in places(dir) {
        if exists(disk, &path(&place)).during("looking for the key table")? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the first table; if that fails there is none.
pub(super) fn make(
    dir: &Path,
    disk: &dyn Disk,
    body: &Body,
    kek: &Secret,
) -> Result<(), StoreError> {
    let bytes = encode(body, kek)?;
    make_small(disk, &path(dir), &bytes).during("writing the key table")?;
    write_second(dir, disk, &bytes)
}

/// Writes the table, in both places; each is the old one or the new one, whatever happens meanwhile.
pub(super) fn write(
    dir: &Path,
    disk: &dyn Disk,
    body: &Body,
    kek: &Secret,
) -> Result<(), StoreError> {
    let bytes = encode(body, kek)?;
    write_small(disk, &path(dir), &bytes).during("writing the key table")?;
    match planted("second key table left as it was") {
        true => Ok(()),
        false => write_second(dir, disk, &bytes),
    }
}

fn write_second(dir: &Path, disk: &dyn Disk, bytes: &[u8]) -> Result<(), StoreError> {
    let [_, second] = places(dir);
    let during = "writing the key table's second copy";
    disk.create_dir_all(&second).during(during)?;
    write_small(disk, &path(&second), bytes).during(during)
}

/// The table's bytes: the same for the same table.
pub(super) fn encode(body: &Body, kek: &Secret) -> Result<Vec<u8>, StoreError> {
    let encoded = body.encode_to_vec();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + encoded.len() + MAC_BYTES + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    let length = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&encoded);
    let mac = keyed_hash(&mac_key(kek, &body.store_id)?, &[&bytes]);
    bytes.extend_from_slice(&mac);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    Ok(bytes)
}

/// Reads the table of one place.
pub(super) fn read(place: &Path, disk: &dyn Disk) -> Result<Raw, StoreError> {
    let bytes = match read_small(disk, &path(place), MAX_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::Missing(TABLE_FILE));
        }
        read => read.during("reading the key table")?,
    };
    let fault = |what| StoreError::corrupt(TABLE_FILE, 0, what);
    let field = |from: usize, to: usize| bytes.get(from..to).ok_or(fault("too short"));
    if field(0, 8)? != MAGIC {
        return Err(fault("is not a key table"));
    }
    let end = bytes.len().saturating_sub(4);
    if crc32fast::hash(field(0, end)?).to_be_bytes() != *field(end, bytes.len())? {
        return Err(fault("checksum does not match"));
    }
    let version = u16::from_be_bytes(to_array(field(8, 10)?));
    if version != VERSION {
        return Err(StoreError::Format {
            what: "key table",
            found: version,
            supported: VERSION,
        });
    }
    let length = u32::from_be_bytes(to_array(field(10, HEAD_BYTES)?)) as usize;
    let body_end = HEAD_BYTES.saturating_add(length);
    if body_end + MAC_BYTES != end {
        return Err(fault("has another length than it says"));
    }
    let body = Body::decode(field(HEAD_BYTES, body_end)?).map_err(|_| fault("does not decode"))?;
    Ok(Raw {
        body,
        authenticated: field(0, body_end)?.to_vec(),
        mac: to_array(field(body_end, end)?),
    })
}

impl Raw {
    /// Whether the table is what was written under the newest epoch's key.
    pub(super) fn authenticate(&self, kek: &Secret) -> Result<(), StoreError> {
        let mac = keyed_hash(&mac_key(kek, &self.body.store_id)?, &[&self.authenticated]);
        verify_slices_are_equal(&mac, &self.mac)
            .map_err(|_| StoreError::corrupt(TABLE_FILE, 0, "does not verify"))
    }
}
