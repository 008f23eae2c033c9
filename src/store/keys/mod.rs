//! The keys of a store: root → epoch → shard → patient → document.
//!
//! The root key is a file of its own, or in a PKCS#11 token ([`TokenKey`]). Everything wrapped
//! under it is in one small file, [`table`]: a wrong or missing root key is noticed there before
//! anything is written. Epochs are rotated by re-wrapping that file; content is not touched, since
//! what seals content (patients' keys, the ledger's, a document's) stays as it is. Tag and name
//! keys outlive epochs too: they are in the keys of rows and in file names.

mod change;
mod root;
mod subject;
mod table;
mod tag;
mod token;
mod v1;

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use aws_lc_rs::hmac;
use bytes::Bytes;
use data_encoding::HEXLOWER;

use super::crypto::{
    SealKey, Secret, derive, keyed_hash, new_secret, to_array, unwrap_key, wrap_key,
};
use super::disk::{Disk, exists, sync_name};
use super::error::{IoContext as _, StoreError};
use super::ledger::end::END_FILE;
use crate::planted::planted;
use crate::token::TokenKey;
use crate::types::PatientIdentifier;
pub(crate) use change::{Change, sources};
use root::{FileRoot, RootKey};
pub use subject::SubjectKey;
pub(crate) use subject::{Envelope, KeyRow, KeyStateRow, Pending, open_row, seal_row};
pub(crate) use table::is_there;
use table::{Body, Epoch, Shard, TABLE_FILE};
pub use tag::{Random, SystemRandom, Tag};
use token::TokenRoot;

/// Shards of patients' keys: the first byte of a patient's tag.
const SHARDS: usize = 256;

/// Where the root key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootSource {
    /// A file of 32 bytes, readable by its owner only; made with the store.
    File(PathBuf),
    /// A key in a PKCS#11 token; made by its owner.
    Token(TokenKey),
}

/// The keys of an open store.
pub struct Keys {
    root: Box<dyn RootKey>,
    store_id: [u8; 16],
    created: bool,
    tags: hmac::Key,
    blob_names: hmac::Key,
    /// Segments derive their keys from it, and blobs of format 1.
    ledger: Secret,
    state: RwLock<State>,
}

/// What changes when keys are rotated or destroyed.
struct State {
    body: Body,
    /// The epochs' keys, oldest first.
    epochs: Vec<(u32, Secret)>,
    /// The newest epoch's key.
    kek: SealKey,
    shards: Vec<ShardKey>,
}

struct ShardKey {
    generation: u32,
    /// Unwrapped when first needed: a store is opened for a few patients as well as for all.
    key: OnceLock<Arc<SealKey>>,
    /// Keys of older generations, by id, wrapped under this one.
    carried: Arc<HashMap<[u8; 16], Bytes>>,
}

impl Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = HEXLOWER.encode(&self.store_id);
        write!(f, "Keys(store {store}, epoch {})", self.epoch())
    }
}

/// The keys of a new store, or those of one of format 1.
struct Branches {
    store_id: [u8; 16],
    ledger: Secret,
    tags: Secret,
    blob_names: Secret,
}

impl Keys {
    /// Opens the keys of the store in `dir`; makes them if the store is new. An existing store is
    /// never given a new root key. `now` dates a new epoch, in seconds since 1970 (UTC).
    ///
    /// # Errors
    /// [`StoreError::Missing`] if the store exists but its root key or its key table does not,
    /// [`StoreError::WrongKey`], [`StoreError::KeyExposed`], [`StoreError::Corrupt`],
    /// [`StoreError::Format`], [`StoreError::Token`] or [`StoreError::Io`]. Nothing is overwritten.
    pub(crate) fn open_or_create(
        dir: &Path,
        source: &RootSource,
        disk: &Arc<dyn Disk>,
        random: &dyn Random,
        now: i64,
    ) -> Result<Self, StoreError> {
        let (shared_disk, disk) = (disk, disk.as_ref());
        let known = table::is_there(dir, disk)?;
        let old = !known && v1::is_there(dir, disk)?;
        // A store without data may be one whose making was cut off.
        let new = !has_data(dir, disk)?;
        let may_make = !known && !old && new;
        let root = open_root(source, may_make, shared_disk, random)?;
        if let (RootSource::File(path), true) =
            (source, new && !planted("root key's name not synced"))
        {
            sync_name(disk, path).during("syncing the folder of the root key")?;
        }
        if known {
            if new {
                sync_name(disk, &table::path(dir)).during("syncing the key table's folder")?;
            }
            return Self::read(dir, root, disk);
        }
        if old {
            let secret = root.bytes().ok_or(StoreError::Missing("root key"))?;
            let old = v1::read(dir, disk, secret)?;
            let branches = Branches {
                store_id: old.store_id,
                ledger: old.ledger,
                tags: old.tags,
                blob_names: old.blob_names,
            };
            let keys = Self::make(dir, root, &branches, false, disk, random, now)?;
            tracing::info!("the store's keys were moved to a key table");
            return Ok(keys);
        }
        if !may_make {
            return Err(StoreError::Missing("keys.table"));
        }
        let mut store_id = [0; 16];
        random.fill(&mut store_id)?;
        let branches = Branches {
            store_id,
            ledger: new_secret(random)?,
            tags: new_secret(random)?,
            blob_names: new_secret(random)?,
        };
        Self::make(dir, root, &branches, true, disk, random, now)
    }

    /// Makes and writes a first key table.
    fn make(
        dir: &Path,
        root: Box<dyn RootKey>,
        branches: &Branches,
        created: bool,
        disk: &dyn Disk,
        random: &dyn Random,
        now: i64,
    ) -> Result<Self, StoreError> {
        let id = &branches.store_id;
        let kek = new_secret(random)?;
        let sealing = SealKey::new(&kek)?;
        let wrap =
            |what: &str, secret: &Secret| wrap_key(&sealing, &context(id, what, 0), secret, random);
        let mut body = Body {
            store_id: id.to_vec(),
            generation: 1,
            epochs: vec![Epoch {
                number: 1,
                began_unix_seconds: now,
                wrapped: wrap_epoch(root.as_ref(), &context(id, "epoch", 1), &kek, random)?,
            }],
            ledger: wrap("ledger", &branches.ledger)?,
            tags: wrap("tags", &branches.tags)?,
            blob_names: wrap("blob names", &branches.blob_names)?,
            shards: Vec::with_capacity(SHARDS),
        };
        for number in 0..SHARDS {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let key = new_secret(random)?;
            body.shards.push(Shard {
                generation: 1,
                wrapped: wrap_key(&sealing, &context(id, "shard", number), &key, random)?,
                carried_sha256: Vec::new(),
            });
        }
        table::make(dir, disk, &body, &kek)?;
        let state = State::unwrap(dir, disk, body, vec![(1, kek)], None)?;
        Ok(Self::with(root, branches, state, created))
    }

    /// Reads the table from the first place where it is not damaged. Nothing is written: whether the
    /// table belongs to the ledger is not known yet.
    fn read(dir: &Path, root: Box<dyn RootKey>, disk: &dyn Disk) -> Result<Self, StoreError> {
        let [first, second] = table::places(dir);
        let (branches, state) = match Self::read_from(&first, dir, root.as_ref(), disk) {
            Err(error) if error.is_damage() || matches!(error, StoreError::Missing(_)) => {
                tracing::error!(%error, "the key table cannot be used; its second copy is tried");
                // What is wrong with the first says more than that there is no second.
                Self::read_from(&second, dir, root.as_ref(), disk).map_err(
                    |second| match second {
                        StoreError::Missing(_) => error,
                        second => second,
                    },
                )?
            }
            read => read?,
        };
        Ok(Self::with(root, &branches, state, false))
    }

    fn read_from(
        place: &Path,
        dir: &Path,
        root: &dyn RootKey,
        disk: &dyn Disk,
    ) -> Result<(Branches, State), StoreError> {
        let raw = table::read(place, disk)?;
        let fault = |what| StoreError::corrupt(TABLE_FILE, 0, what);
        let store_id: [u8; 16] = raw
            .body
            .store_id
            .as_slice()
            .try_into()
            .map_err(|_| fault("names no store"))?;
        let mut epochs = Vec::with_capacity(raw.body.epochs.len());
        for epoch in &raw.body.epochs {
            let kek = root
                .unwrap(&context(&store_id, "epoch", epoch.number), &epoch.wrapped)?
                .ok_or(StoreError::WrongKey)?;
            epochs.push((epoch.number, kek));
        }
        let (_, kek) = epochs.last().ok_or(fault("has no epoch"))?;
        raw.authenticate(kek)?;
        let sealing = SealKey::new(kek)?;
        let branch = |what: &str, wrapped: &[u8]| {
            unwrap_key(&sealing, &context(&store_id, what, 0), wrapped)
                .ok_or(fault("a key does not unwrap"))
        };
        let branches = Branches {
            store_id,
            ledger: branch("ledger", &raw.body.ledger)?,
            tags: branch("tags", &raw.body.tags)?,
            blob_names: branch("blob names", &raw.body.blob_names)?,
        };
        let state = State::unwrap(dir, disk, raw.body, epochs, None)?;
        Ok((branches, state))
    }

    fn with(root: Box<dyn RootKey>, branches: &Branches, state: State, created: bool) -> Self {
        let hmac = |secret: &Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
        Self {
            root,
            store_id: branches.store_id,
            created,
            tags: hmac(&branches.tags),
            blob_names: hmac(&branches.blob_names),
            ledger: branches.ledger.clone(),
            state: RwLock::new(state),
        }
    }

    fn state<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keyed hash of `bytes` within `domain` (which kind of identifier it is), for row keys.
    pub fn tag(&self, domain: &str, bytes: &[u8]) -> Tag {
        Tag(to_array(&keyed_hash(
            &self.tags,
            &[domain.as_bytes(), bytes],
        )))
    }

    /// The keyed hash under which a patient identifier is known in this node's rows and audit.
    pub fn patient_tag(&self, patient: &PatientIdentifier) -> [u8; 16] {
        self.tag("patient", patient.to_cx().as_bytes()).0
    }

    /// The current key epoch.
    pub fn epoch(&self) -> u32 {
        self.state(|state| state.epochs.last().map_or(0, |(number, _)| *number))
    }

    /// How many epochs are still needed: 1, or 2 while a rotation is under way.
    pub fn epochs_in_use(&self) -> usize {
        self.state(|state| state.epochs.len())
    }

    /// When the current epoch began, in seconds since 1970 (UTC).
    pub fn epoch_began(&self) -> i64 {
        self.state(|state| state.body.epochs.last().map_or(0, |e| e.began_unix_seconds))
    }

    /// How often the key table was changed.
    pub fn generation(&self) -> u64 {
        self.state(|state| state.body.generation)
    }

    /// The random identity of the store, given to it when it was made.
    pub fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    /// Whether the keys, and so the store, were made by this call.
    pub(crate) fn created(&self) -> bool {
        self.created
    }

    /// The keyed hash that names a document by its content and its patient. Format 1 left the
    /// patient out.
    pub(crate) fn blob_name(&self, subject: Option<&Tag>, content_sha256: &[u8; 32]) -> [u8; 32] {
        match subject {
            Some(subject) => keyed_hash(&self.blob_names, &[&subject.0, content_sha256]),
            None => keyed_hash(&self.blob_names, &[content_sha256]),
        }
    }

    /// The key of one ledger segment.
    pub(crate) fn segment_key(&self, id: &[u8; 16]) -> Result<SealKey, StoreError> {
        let info: &[&[u8]] = &[b"renkei 1 ledger segment"];
        SealKey::new(&*derive(self.ledger.as_ref(), id, info)?)
    }

    /// The key that wraps the key of one blob file of format 1.
    pub(crate) fn old_blob_key(&self, file: &[u8; 16]) -> Result<SealKey, StoreError> {
        let info: &[&[u8]] = &[b"renkei 1 blob wrap"];
        SealKey::new(&*derive(self.ledger.as_ref(), file, info)?)
    }

    /// Wraps the key of one making of the index under the current epoch.
    pub(crate) fn wrap_index_key(
        &self,
        secret: &Secret,
        random: &dyn Random,
    ) -> Result<(u32, Vec<u8>), StoreError> {
        let (epoch, kek) = self
            .state(|state| state.epochs.last().cloned())
            .ok_or(StoreError::Crypto("key epoch"))?;
        let context = context(&self.store_id, "index", epoch);
        let wrapped = wrap_key(&SealKey::new(&kek)?, &context, secret, random)?;
        Ok((epoch, wrapped))
    }

    /// Unwraps the key of an index; `None` if its epoch is gone or it does not verify.
    pub(crate) fn unwrap_index_key(
        &self,
        epoch: u32,
        wrapped: &[u8],
    ) -> Result<Option<Secret>, StoreError> {
        let kek = self.state(|state| {
            let mut epochs = state.epochs.iter();
            epochs.find(|(number, _)| *number == epoch).cloned()
        });
        let Some((_, kek)) = kek else { return Ok(None) };
        let context = context(&self.store_id, "index", epoch);
        Ok(unwrap_key(&SealKey::new(&kek)?, &context, wrapped))
    }

    /// A new key for a patient. It counts once its row is in the ledger.
    pub(crate) fn new_subject(
        &self,
        subject: Tag,
        random: &dyn Random,
    ) -> Result<SubjectKey, StoreError> {
        let mut key_id = [0; 16];
        random.fill(&mut key_id)?;
        let [shard, ..] = subject.0;
        if let Some(first) = key_id.first_mut() {
            *first = shard;
        }
        let secret = new_secret(random)?;
        let view = self.state(|state| state.shard(shard, None))?;
        let context = subject_context(&self.store_id, &key_id);
        let wrapped = wrap_key(&view.key, &context, &secret, random)?;
        Ok(SubjectKey {
            subject,
            envelope: Envelope {
                key_id: Bytes::copy_from_slice(&key_id),
                generation: view.generation,
                wrapped: Bytes::from(wrapped),
            },
            secret,
        })
    }

    /// The key in an envelope; `None` if it was destroyed.
    ///
    /// # Errors
    /// [`StoreError::StaleKeys`] if it was wrapped later than the key table was written;
    /// [`StoreError::Corrupt`] if it is none of this store's keys.
    pub(crate) fn open_subject(&self, envelope: &Envelope) -> Result<Option<Secret>, StoreError> {
        let fault = |what| StoreError::corrupt("a patient's key", 0, what);
        let key_id: [u8; 16] = envelope
            .key_id
            .as_ref()
            .try_into()
            .map_err(|_| fault("has no id"))?;
        let [number, ..] = key_id;
        let view = self.state(|state| state.shard(number, Some(&key_id)))?;
        let wrapped = match envelope.generation {
            made if made == view.generation => envelope.wrapped.clone(),
            made if made > view.generation => {
                let found = self.generation();
                let wanted = found.saturating_add(1);
                return Err(StoreError::StaleKeys { found, wanted });
            }
            _ => match view.carried {
                Some(wrapped) => wrapped,
                None => return Ok(None),
            },
        };
        let context = subject_context(&self.store_id, &key_id);
        unwrap_key(&view.key, &context, &wrapped)
            .map(Some)
            .ok_or(fault("does not unwrap"))
    }
}

impl State {
    /// Unwraps what is under the newest epoch and reads the carried keys.
    fn unwrap(
        dir: &Path,
        disk: &dyn Disk,
        body: Body,
        epochs: Vec<(u32, Secret)>,
        before: Option<&Self>,
    ) -> Result<Self, StoreError> {
        let fault = |what| StoreError::corrupt(TABLE_FILE, 0, what);
        let (_, kek) = epochs.last().ok_or(fault("has no epoch"))?;
        let kek = SealKey::new(kek)?;
        if body.shards.len() != SHARDS {
            return Err(fault("has another number of shards"));
        }
        let mut shards = Vec::with_capacity(SHARDS);
        for (number, shard) in (0_u32..).zip(&body.shards) {
            let known = before.and_then(|before| before.carried(number, shard.generation));
            let carried = match known {
                Some(carried) => carried,
                None => Arc::new(change::read_carried(dir, disk, number, shard)?),
            };
            shards.push(ShardKey {
                generation: shard.generation,
                key: OnceLock::new(),
                carried,
            });
        }
        Ok(Self {
            body,
            epochs,
            kek,
            shards,
        })
    }

    /// The keys carried over into this generation of a shard, if it is the one here.
    fn carried(&self, number: u32, generation: u32) -> Option<Arc<HashMap<[u8; 16], Bytes>>> {
        let shard = self.shards.get(usize::try_from(number).ok()?)?;
        (shard.generation == generation).then(|| Arc::clone(&shard.carried))
    }

    /// The generation and key of a shard, and a key carried over into it.
    fn shard(&self, number: u8, carried: Option<&[u8; 16]>) -> Result<ShardView, StoreError> {
        let fault = |what| StoreError::corrupt(TABLE_FILE, 0, what);
        let place = usize::from(number);
        let shard = self.shards.get(place).ok_or(fault("has no such shard"))?;
        let key = if let Some(key) = shard.key.get() {
            Arc::clone(key)
        } else {
            let wrapped = self.body.shards.get(place).map(|shard| &shard.wrapped);
            let context = context(&self.body.store_id, "shard", u32::from(number));
            let secret = wrapped
                .and_then(|wrapped| unwrap_key(&self.kek, &context, wrapped))
                .ok_or(fault("a shard's key does not unwrap"))?;
            let key = Arc::new(SealKey::new(&secret)?);
            Arc::clone(shard.key.get_or_init(|| key))
        };
        Ok(ShardView {
            generation: shard.generation,
            key,
            carried: carried.and_then(|id| shard.carried.get(id).cloned()),
        })
    }
}

struct ShardView {
    generation: u32,
    key: Arc<SealKey>,
    carried: Option<Bytes>,
}

/// Wraps an epoch's key under the root key, and makes sure that it can be unwrapped: everything
/// hangs on it, and a token is another's program.
fn wrap_epoch(
    root: &dyn RootKey,
    context: &[u8],
    kek: &Secret,
    random: &dyn Random,
) -> Result<Vec<u8>, StoreError> {
    let wrapped = root.wrap(context, kek, random)?;
    match root.unwrap(context, &wrapped)? {
        Some(again) if again == *kek => Ok(wrapped),
        Some(_) | None => Err(StoreError::Token("opening what it wrapped itself")),
    }
}

/// What a wrapped key is bound to.
fn context(store_id: &[u8], what: &str, number: u32) -> Vec<u8> {
    let parts: [&[u8]; 4] = [
        b"renkei 2 ",
        what.as_bytes(),
        &number.to_be_bytes(),
        store_id,
    ];
    parts.concat()
}

/// What a patient's wrapped key is bound to.
fn subject_context(store_id: &[u8; 16], key_id: &[u8; 16]) -> Vec<u8> {
    let parts: [&[u8]; 3] = [b"renkei 2 patient ", key_id, store_id];
    parts.concat()
}

fn open_root(
    source: &RootSource,
    may_make: bool,
    disk: &Arc<dyn Disk>,
    random: &dyn Random,
) -> Result<Box<dyn RootKey>, StoreError> {
    match source {
        RootSource::Token(settings) => Ok(Box::new(TokenRoot::open(settings)?)),
        RootSource::File(path) => match FileRoot::read(path, disk.as_ref())? {
            Some(root) => Ok(Box::new(root)),
            None if may_make => Ok(Box::new(FileRoot::make(path, disk.as_ref(), random)?)),
            None => Err(StoreError::Missing("root key")),
        },
    }
}

/// Whether the folder holds anything that was encrypted, or once did.
fn has_data(dir: &Path, disk: &dyn Disk) -> Result<bool, StoreError> {
    if exists(disk, &dir.join(END_FILE)).during("looking for the ledger")? {
        return Ok(true);
    }
    for folder in ["ledger", "blobs"] {
        match disk.list(&dir.join(folder)) {
            Ok(names) if names.iter().any(|name| name != "tmp") => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).during("listing the store"),
        }
    }
    Ok(false)
}
