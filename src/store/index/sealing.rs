//! How rows lie sealed in the index.
//!
//! A row is sealed with AES-256-GCM; the nonce is its version and ordinal, the associated data the
//! whole key. The key is derived from the index's own key and a random number of this opening, which
//! the row names. So nothing is repeated when a frame is applied again after a crash, nor when a
//! folder is copied with its index and both copies go on.
//!
//! The index's key lies wrapped under an epoch's key beside it. With a new epoch comes a new key, and
//! rows are sealed anew page by page while the index is in use; until that is done there are two
//! keys, and a row says which is its.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::super::commit::Sequence;
use super::super::crypto::{
    SealKey, Secret, WRAPPED_BYTES, counter_nonce, derive, new_secret, to_array,
};
use super::super::error::StoreError;
use super::super::keys::{Keys, Random};

const VERSION: u16 = 3;
/// Key number, opening, row version and ordinal before the sealed row.
const ROW_HEADER_BYTES: usize = 21;
/// Version, fingerprint and applied sequence in the meta entry; keys follow.
const META_BYTES: usize = 42;
/// Number, epoch and wrapped key.
const META_KEY_BYTES: usize = 5 + WRAPPED_BYTES;
/// Keys of earlier openings remembered (INV-7); each row remembers its opening for itself.
const REMEMBERED: usize = 4096;

/// The random number of one opening of an index.
type Opening = [u8; 8];

/// What the index says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) fingerprint: [u8; 32],
    pub(super) applied: Sequence,
    pub(super) key: WrappedKey,
    /// The key before, while rows are still sealed under it.
    pub(super) previous: Option<WrappedKey>,
}

/// A key of the index, wrapped under an epoch's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrappedKey {
    pub(super) number: u8,
    pub(super) epoch: u32,
    pub(super) wrapped: Vec<u8>,
}

impl WrappedKey {
    fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.number);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.wrapped);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            number: *bytes.first()?,
            epoch: u32::from_be_bytes(to_array(bytes.get(1..5)?)),
            wrapped: bytes.get(5..META_KEY_BYTES)?.to_vec(),
        })
    }

    fn open(&self, keys: &Keys, random: &dyn Random) -> Result<Option<NumberedKey>, StoreError> {
        let secret = keys.unwrap_index_key(self.epoch, &self.wrapped)?;
        secret
            .map(|secret| NumberedKey::new(self.number, secret, random))
            .transpose()
    }
}

impl Meta {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(META_BYTES + 2 * META_KEY_BYTES);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.fingerprint);
        bytes.extend_from_slice(&self.applied.0.to_be_bytes());
        self.key.encode_into(&mut bytes);
        if let Some(previous) = &self.previous {
            previous.encode_into(&mut bytes);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let previous = match bytes.len().checked_sub(META_BYTES + META_KEY_BYTES)? {
            0 => None,
            META_KEY_BYTES => Some(WrappedKey::decode(
                bytes.get(META_BYTES + META_KEY_BYTES..)?,
            )?),
            _ => return None,
        };
        if bytes.get(..2)? != VERSION.to_be_bytes() {
            return None;
        }
        Some(Self {
            fingerprint: to_array(bytes.get(2..34)?),
            applied: Sequence(u64::from_be_bytes(to_array(bytes.get(34..META_BYTES)?))),
            key: WrappedKey::decode(bytes.get(META_BYTES..)?)?,
            previous,
        })
    }
}

/// A key of the index, and the keys that openings have derived from it.
pub(super) struct NumberedKey {
    pub(super) number: u8,
    secret: Secret,
    opening: Opening,
    key: SealKey,
    /// Of earlier openings, as rows under them are read.
    earlier: RwLock<HashMap<Opening, Arc<SealKey>>>,
}

impl fmt::Debug for NumberedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NumberedKey({})", self.number)
    }
}

impl NumberedKey {
    fn new(number: u8, secret: Secret, random: &dyn Random) -> Result<Self, StoreError> {
        let mut opening = Opening::default();
        random.fill(&mut opening)?;
        Ok(Self {
            number,
            key: derived(&secret, opening)?,
            secret,
            opening,
            earlier: RwLock::default(),
        })
    }

    /// Verifies and decrypts what was sealed in this opening or an earlier one.
    fn open(
        &self,
        opening: Opening,
        nonce: [u8; 12],
        key: &[u8],
        data: &mut Vec<u8>,
    ) -> Option<()> {
        if opening == self.opening {
            return self.key.open(nonce, key, data);
        }
        let known = {
            let earlier = self.earlier.read().unwrap_or_else(PoisonError::into_inner);
            earlier.get(&opening).cloned()
        };
        if let Some(known) = known {
            return known.open(nonce, key, data);
        }
        let made = Arc::new(derived(&self.secret, opening).ok()?);
        made.open(nonce, key, data)?;
        let mut earlier = self.earlier.write().unwrap_or_else(PoisonError::into_inner);
        if earlier.len() >= REMEMBERED {
            earlier.clear();
        }
        earlier.insert(opening, made);
        Some(())
    }
}

fn derived(secret: &Secret, opening: Opening) -> Result<SealKey, StoreError> {
    let info: &[&[u8]] = &[b"renkei 2 index opening"];
    SealKey::new(&*derive(secret.as_ref(), &opening, info)?)
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) meta: Meta,
    pub(super) key: NumberedKey,
    pub(super) previous: Option<NumberedKey>,
}

impl State {
    /// The keys of an index found; `None` if they are gone.
    pub(super) fn open(
        meta: Meta,
        keys: &Keys,
        random: &dyn Random,
    ) -> Result<Option<Self>, StoreError> {
        let Some(key) = meta.key.open(keys, random)? else {
            return Ok(None);
        };
        let previous = match &meta.previous {
            None => None,
            Some(wrapped) => match wrapped.open(keys, random)? {
                None => return Ok(None),
                opened => opened,
            },
        };
        Ok(Some(Self {
            meta,
            key,
            previous,
        }))
    }

    /// A new key with this number, wrapped under the current epoch.
    pub(super) fn new_key(
        number: u8,
        keys: &Keys,
        random: &dyn Random,
    ) -> Result<(WrappedKey, NumberedKey), StoreError> {
        let secret = new_secret(random)?;
        let (epoch, wrapped) = keys.wrap_index_key(&secret, random)?;
        let wrapped = WrappedKey {
            number,
            epoch,
            wrapped,
        };
        Ok((wrapped, NumberedKey::new(number, secret, random)?))
    }

    pub(super) fn fresh(
        number: u8,
        fingerprint: [u8; 32],
        keys: &Keys,
        random: &dyn Random,
    ) -> Result<Self, StoreError> {
        let (wrapped, key) = Self::new_key(number, keys, random)?;
        Ok(Self {
            meta: Meta {
                fingerprint,
                applied: Sequence(0),
                key: wrapped,
                previous: None,
            },
            key,
            previous: None,
        })
    }

    fn key(&self, number: u8) -> Option<&NumberedKey> {
        let mut keys = [Some(&self.key), self.previous.as_ref()]
            .into_iter()
            .flatten();
        keys.find(|key| key.number == number)
    }
}

/// What a sealed row says of itself besides its key's number.
#[derive(Clone, Copy)]
pub(super) struct RowHeader {
    pub(super) version: Sequence,
    pub(super) ordinal: u32,
}

/// The value of the entry `key` for this row.
pub(super) fn seal(
    sealing: &NumberedKey,
    key: &[u8],
    header: RowHeader,
    row: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let RowHeader { version, ordinal } = header;
    let mut sealed = Vec::with_capacity(ROW_HEADER_BYTES + row.len() + 16);
    sealed.push(sealing.number);
    sealed.extend_from_slice(&sealing.opening);
    sealed.extend_from_slice(&version.0.to_be_bytes());
    sealed.extend_from_slice(&ordinal.to_be_bytes());
    sealed.extend_from_slice(row);
    let nonce = counter_nonce(version.0, ordinal);
    sealing
        .key
        .seal_tail(nonce, key, &mut sealed, ROW_HEADER_BYTES)?;
    Ok(sealed)
}

/// The row in the entry `key`; `None` if it does not verify.
pub(super) fn unseal(state: &State, key: &[u8], value: &[u8]) -> Option<(RowHeader, Vec<u8>)> {
    let (header, sealed) = value.split_at_checked(ROW_HEADER_BYTES)?;
    let (number, rest) = header.split_first()?;
    let (opening, rest) = rest.split_first_chunk()?;
    let version = u64::from_be_bytes(to_array(rest));
    let ordinal = u32::from_be_bytes(to_array(rest.get(8..)?));
    let mut data = sealed.to_vec();
    let nonce = counter_nonce(version, ordinal);
    state.key(*number)?.open(*opening, nonce, key, &mut data)?;
    let version = Sequence(version);
    Some((RowHeader { version, ordinal }, data))
}
