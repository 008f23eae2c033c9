//! Changing the key table: a new epoch, a shard without a patient's key, an epoch no longer needed.
//!
//! A change is made ready first and written as one: the files it names are durable before the table
//! that names them, and the old ones go after it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use prost::Message as _;

use super::super::crypto::{SealKey, Secret, new_secret, sha256, to_array, unwrap_key, wrap_key};
use super::super::disk::{Disk, exists, read_small, write_small};
use super::super::error::{IoContext as _, StoreError};
use super::table::{self, Body, Epoch, Shard, TABLE_FILE};
use super::tag::Random;
use super::{Envelope, Keys, State, context, subject_context, v1, wrap_epoch};
use crate::planted::planted;

/// The folder of carried keys.
const FOLDER: &str = "keys";
const MAGIC: &[u8; 8] = b"RENKEIKS";
const VERSION: u16 = 1;
/// A carried key takes about 80 bytes; a shard of a hundred million patients 32 MiB.
const MAX_BYTES: usize = 256 << 20;

/// The keys of one shard that outlived its older keys.
#[derive(Clone, PartialEq, prost::Message)]
struct Carried {
    #[prost(message, repeated, tag = "1")]
    keys: Vec<CarriedKey>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CarriedKey {
    #[prost(bytes = "bytes", tag = "1")]
    key_id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    wrapped: Bytes,
}

/// A change of the key table, ready to be written.
pub(crate) struct Change {
    body: Body,
    epochs: Vec<(u32, Secret)>,
    /// Carried keys: shard, generation, and the file's content.
    files: Vec<(u32, u32, Vec<u8>)>,
}

fn carried_path(dir: &Path, number: u32, generation: u32) -> PathBuf {
    dir.join(FOLDER).join(format!("{number:02x}-{generation}"))
}

/// The file of the keys carried into a shard's generation, from the first place where it is what the
/// table says; `None` if there are none.
fn read_file(
    dir: &Path,
    disk: &dyn Disk,
    number: u32,
    shard: &Shard,
) -> Result<Option<Vec<u8>>, StoreError> {
    if shard.carried_sha256.is_empty() {
        return Ok(None);
    }
    let mut why = StoreError::Missing("a file of carried keys");
    for place in table::places(dir) {
        let path = carried_path(&place, number, shard.generation);
        why = match read_small(disk, &path, MAX_BYTES) {
            Ok(bytes) if is_carried(&bytes, shard) => return Ok(Some(bytes)),
            Ok(_) => StoreError::corrupt("keys", 0, "carried keys are not what the key table says"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => StoreError::Io {
                operation: "reading carried keys",
                source: Arc::new(error),
            },
        };
    }
    Err(why)
}

/// The files that hold the wrapped keys of the store in `dir`, by their names there, the table first,
/// and where each is to be read: in the first place where it is whole. Nothing if there is no table.
///
/// # Errors
/// [`StoreError::Corrupt`] if the table is damaged in both places; [`StoreError::Io`].
pub(crate) fn sources(dir: &Path, disk: &dyn Disk) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let read = |place: &PathBuf| table::read(place, disk).map(|raw| (place.clone(), raw.body));
    let [first, second] = table::places(dir);
    let (place, body) = match read(&first) {
        Ok(found) => found,
        Err(error) => match (read(&second), error) {
            (Ok(found), _) => found,
            (Err(StoreError::Missing(_)), StoreError::Missing(_)) => return Ok(Vec::new()),
            (Err(_), error) => return Err(error),
        },
    };
    let mut files = vec![(TABLE_FILE.to_owned(), table::path(&place))];
    for (number, shard) in (0_u32..).zip(&body.shards) {
        if shard.carried_sha256.is_empty() {
            continue;
        }
        let paths = [&first, &second].map(|place| carried_path(place, number, shard.generation));
        let whole = paths.iter().find(|path| {
            read_small(disk, path, MAX_BYTES).is_ok_and(|bytes| is_carried(&bytes, shard))
        });
        let [named, _] = &paths;
        let name = named.strip_prefix(dir).unwrap_or(named);
        let name = name.to_string_lossy().into_owned();
        files.push((name, whole.unwrap_or(named).clone()));
    }
    Ok(files)
}

/// Whether it is damage that this copy is not what it should be.
fn is_damage(dir: &Path, path: &Path, disk: &dyn Disk) -> Result<bool, StoreError> {
    let [_, second] = table::places(dir);
    let there = exists(disk, path).during("looking for a key file")?;
    Ok(there || !path.starts_with(second))
}

fn is_carried(bytes: &[u8], shard: &Shard) -> bool {
    sha256(&[bytes]).as_slice() == shard.carried_sha256
}

/// Reads and checks the keys carried into a shard's generation.
pub(super) fn read_carried(
    dir: &Path,
    disk: &dyn Disk,
    number: u32,
    shard: &Shard,
) -> Result<HashMap<[u8; 16], Bytes>, StoreError> {
    let Some(bytes) = read_file(dir, disk, number, shard)? else {
        return Ok(HashMap::new());
    };
    let fault = |what| StoreError::corrupt("keys", 0, what);
    let (head, rest) = bytes
        .split_at_checked(MAGIC.len() + 2)
        .ok_or(fault("too short"))?;
    let version = u16::from_be_bytes(to_array(head.get(MAGIC.len()..).unwrap_or_default()));
    if !head.starts_with(MAGIC) || version != VERSION {
        return Err(StoreError::Format {
            what: "carried keys",
            found: version,
            supported: VERSION,
        });
    }
    let carried = Carried::decode(rest).map_err(|_| fault("carried keys do not decode"))?;
    carried
        .keys
        .into_iter()
        .map(|key| {
            let id = key.key_id.as_ref().try_into();
            let id: [u8; 16] = id.map_err(|_| fault("a carried key has no id"))?;
            Ok((id, key.wrapped))
        })
        .collect()
}

impl Keys {
    /// A new epoch: everything in the table wrapped anew under its key. The epoch before stays
    /// until [`Keys::without_old_epochs`].
    pub(crate) fn rotated(&self, now: i64, random: &dyn Random) -> Result<Change, StoreError> {
        let (mut body, mut epochs) = self.state(|state| (state.body.clone(), state.epochs.clone()));
        let fault = |what| StoreError::corrupt(TABLE_FILE, 0, what);
        let (last, old) = epochs.last().cloned().ok_or(fault("has no epoch"))?;
        let old = SealKey::new(&old)?;
        let number = last.saturating_add(1);
        let kek = new_secret(random)?;
        let sealing = SealKey::new(&kek)?;
        let rewrap = |what: &str, number: u32, wrapped: &mut Vec<u8>| -> Result<(), StoreError> {
            let context = context(&self.store_id, what, number);
            let secret =
                unwrap_key(&old, &context, wrapped).ok_or(fault("a key does not unwrap"))?;
            *wrapped = wrap_key(&sealing, &context, &secret, random)?;
            Ok(())
        };
        rewrap("ledger", 0, &mut body.ledger)?;
        rewrap("tags", 0, &mut body.tags)?;
        rewrap("blob names", 0, &mut body.blob_names)?;
        for (number, shard) in (0_u32..).zip(&mut body.shards) {
            rewrap("shard", number, &mut shard.wrapped)?;
        }
        let context = context(&self.store_id, "epoch", number);
        body.epochs.push(Epoch {
            number,
            began_unix_seconds: now,
            wrapped: wrap_epoch(self.root.as_ref(), &context, &kek, random)?,
        });
        epochs.push((number, kek));
        body.generation = body.generation.saturating_add(1);
        Ok(Change {
            body,
            epochs,
            files: Vec::new(),
        })
    }

    /// The table without the epochs before the current one; `None` if there are none.
    pub(crate) fn without_old_epochs(&self) -> Option<Change> {
        let (mut body, mut epochs) = self.state(|state| (state.body.clone(), state.epochs.clone()));
        let old = epochs.len().saturating_sub(1);
        if old == 0 {
            return None;
        }
        epochs.drain(..old);
        body.epochs.drain(..old.min(body.epochs.len()));
        body.generation = body.generation.saturating_add(1);
        Some(Change {
            body,
            epochs,
            files: Vec::new(),
        })
    }

    /// New keys for shards; of each only the keys of the envelopes given are carried over. All
    /// others are destroyed once the change is in force.
    pub(crate) fn without_others(
        &self,
        kept: &[(u8, Vec<Envelope>)],
        random: &dyn Random,
    ) -> Result<Change, StoreError> {
        let (mut body, epochs) = self.state(|state| (state.body.clone(), state.epochs.clone()));
        let fault = |what| StoreError::corrupt(TABLE_FILE, 0, what);
        let (_, kek) = epochs.last().ok_or(fault("has no epoch"))?;
        let kek = SealKey::new(kek)?;
        let mut files = Vec::new();
        for (number, envelopes) in kept {
            let shard = body
                .shards
                .get_mut(usize::from(*number))
                .ok_or(fault("has no such shard"))?;
            let number = u32::from(*number);
            let secret = new_secret(random)?;
            let sealing = SealKey::new(&secret)?;
            let mut carried = Carried::default();
            for envelope in envelopes {
                let key = self
                    .open_subject(envelope)?
                    .ok_or(fault("a key to be carried over was destroyed"))?;
                let context = subject_context(&self.store_id, &to_array(&envelope.key_id));
                carried.keys.push(CarriedKey {
                    key_id: envelope.key_id.clone(),
                    wrapped: Bytes::from(wrap_key(&sealing, &context, &key, random)?),
                });
            }
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&VERSION.to_be_bytes());
            bytes.extend_from_slice(&carried.encode_to_vec());
            shard.generation = shard.generation.saturating_add(1);
            shard.carried_sha256 = sha256(&[&bytes]).to_vec();
            let context = context(&self.store_id, "shard", number);
            shard.wrapped = wrap_key(&kek, &context, &secret, random)?;
            files.push((number, shard.generation, bytes));
        }
        body.generation = body.generation.saturating_add(1);
        Ok(Change {
            body,
            epochs,
            files,
        })
    }

    /// Writes a change and puts it in force.
    ///
    /// # Errors
    /// [`StoreError::Io`]: on disk the change may be there or not; the store has to be opened
    /// again.
    pub(crate) fn put_in_force(
        &self,
        dir: &Path,
        disk: &dyn Disk,
        change: Change,
    ) -> Result<(), StoreError> {
        let Change {
            body,
            epochs,
            files,
        } = change;
        let (_, kek) = epochs.last().ok_or(StoreError::Crypto("key epoch"))?;
        if planted("carried keys written after the table") {
            table::write(dir, disk, &body, kek)?;
        }
        for place in table::places(dir) {
            if !files.is_empty() {
                disk.create_dir_all(&place.join(FOLDER))
                    .during("making the folder of carried keys")?;
            }
            for (number, generation, bytes) in &files {
                let path = carried_path(&place, *number, *generation);
                write_small(disk, &path, bytes).during("writing carried keys")?;
            }
        }
        table::write(dir, disk, &body, kek)?;
        let state = self.state(|before| State::unwrap(dir, disk, body, epochs, Some(before)))?;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        self.tidy(dir, disk)
    }

    /// Whether the meta file of format 1 is still there beside the table that took its place.
    pub(crate) fn is_moved(dir: &Path, disk: &dyn Disk) -> Result<bool, StoreError> {
        v1::is_there(dir, disk)
    }

    /// Writes the table once more, as it is. The process that wrote it may have died, or its sync
    /// failed, before its name was durable.
    pub(crate) fn harden(&self, dir: &Path, disk: &dyn Disk) -> Result<(), StoreError> {
        let (body, epochs) = self.state(|state| (state.body.clone(), state.epochs.clone()));
        let (_, kek) = epochs.last().ok_or(StoreError::Crypto("key epoch"))?;
        table::write(dir, disk, &body, kek)
    }

    /// Removes what the table does not name: the meta file of format 1, and files of carried keys
    /// that an older table named or that a crash left. Only after the table is known to be the one
    /// that belongs to the ledger.
    pub(crate) fn tidy(&self, dir: &Path, disk: &dyn Disk) -> Result<(), StoreError> {
        if v1::is_there(dir, disk)? {
            disk.remove(&dir.join(v1::META_FILE))
                .and_then(|()| disk.fsync_dir(dir))
                .during("removing the old meta file")?;
        }
        for place in table::places(dir) {
            self.tidy_carried(&place, disk)?;
        }
        Ok(())
    }

    fn tidy_carried(&self, place: &Path, disk: &dyn Disk) -> Result<(), StoreError> {
        let folder = place.join(FOLDER);
        let names = match disk.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed.during("listing carried keys")?,
        };
        let wanted: Vec<PathBuf> = self.state(|state| {
            let shards = (0_u32..).zip(&state.body.shards);
            shards
                .filter(|(_, shard)| !shard.carried_sha256.is_empty())
                .map(|(number, shard)| carried_path(place, number, shard.generation))
                .collect()
        });
        let mut removed = false;
        for path in names.iter().map(|name| folder.join(name)) {
            if !wanted.contains(&path) && !planted("old carried keys left") {
                disk.remove(&path).during("removing old carried keys")?;
                removed = true;
            }
        }
        if removed {
            disk.fsync_dir(&folder)
                .during("removing old carried keys")?;
        }
        Ok(())
    }

    /// The copies of the keys' files that are missing or are not what is in use, and what they should
    /// be.
    fn wrong_copies(
        &self,
        dir: &Path,
        disk: &dyn Disk,
    ) -> Result<Vec<(PathBuf, Vec<u8>)>, StoreError> {
        let (body, epochs) = self.state(|state| (state.body.clone(), state.epochs.clone()));
        let (_, kek) = epochs.last().ok_or(StoreError::Crypto("key epoch"))?;
        let places = table::places(dir);
        let table = table::encode(&body, kek)?;
        let mut copies: Vec<_> = places
            .iter()
            .map(|place| (table::path(place), table.clone()))
            .collect();
        for (number, shard) in (0_u32..).zip(&body.shards) {
            if let Some(bytes) = read_file(dir, disk, number, shard)? {
                let path = |place| carried_path(place, number, shard.generation);
                copies.extend(places.iter().map(|place| (path(place), bytes.clone())));
            }
        }
        copies
            .retain(|(path, bytes)| read_small(disk, path, MAX_BYTES).ok().as_ref() != Some(bytes));
        Ok(copies)
    }

    /// The names, in the store, of the copies of the keys' files that are damaged. A second copy that
    /// is not there is no damage: a store of before there were two has none.
    pub(crate) fn damaged(&self, dir: &Path, disk: &dyn Disk) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for (path, _) in self.wrong_copies(dir, disk)? {
            if is_damage(dir, &path, disk)? {
                let name = path.strip_prefix(dir).unwrap_or(&path);
                names.push(name.to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    /// Makes missing and wrong copies of the keys' files again from what is in use, which must be
    /// known to belong to the ledger. Whether there was damage.
    pub(crate) fn mend(&self, dir: &Path, disk: &dyn Disk) -> Result<bool, StoreError> {
        let mut mended = false;
        if planted("damaged key table not mended") {
            return Ok(mended);
        }
        for (path, bytes) in self.wrong_copies(dir, disk)? {
            mended |= is_damage(dir, &path, disk)?;
            disk.create_dir_all(path.parent().unwrap_or(dir))
                .and_then(|()| write_small(disk, &path, &bytes))
                .during("mending a key file")?;
        }
        Ok(mended)
    }
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Change(generation {})", self.body.generation)
    }
}

impl Change {
    /// The generation the table will have.
    pub(crate) fn generation(&self) -> u64 {
        self.body.generation
    }
}
