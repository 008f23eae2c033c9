//! The few cryptographic operations the store needs, over aws-lc-rs.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, hmac};
use zeroize::Zeroizing;

use super::error::StoreError;
use super::keys::Random;

/// Bytes an authentication tag adds.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = 12;
/// Bytes of a wrapped key: nonce, key, tag.
pub(crate) const WRAPPED_BYTES: usize = NONCE_BYTES + 32 + TAG_BYTES;

/// A 32-byte secret, wiped when dropped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// SHA-256 of the parts one after another.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    to_array(context.finish().as_ref())
}

/// The first `N` bytes, padded with zeros if there are fewer.
pub(crate) fn to_array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

/// Derives a key by HKDF-SHA256.
pub(crate) fn derive(secret: &[u8], salt: &[u8], info: &[&[u8]]) -> Result<Secret, StoreError> {
    let mut out = Zeroizing::new([0; 32]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(out.as_mut()))
        .map_err(|_| StoreError::Crypto("key derivation"))?;
    Ok(out)
}

/// A keyed hash: HMAC-SHA256 of the parts, each preceded by its length.
pub(crate) fn keyed_hash(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    to_array(context.sign().as_ref())
}

/// An AES-256-GCM key whose nonces are chosen by the caller, who must never repeat one.
#[derive(Debug)]
pub(crate) struct SealKey {
    key: LessSafeKey,
    #[cfg(test)]
    id: [u8; 16],
}

impl SealKey {
    /// The key made of these bytes.
    pub(crate) fn new(secret: &[u8; 32]) -> Result<Self, StoreError> {
        let key = UnboundKey::new(&AES_256_GCM, secret)
            .map_err(|_| StoreError::Crypto("key construction"))?;
        Ok(Self {
            key: LessSafeKey::new(key),
            #[cfg(test)]
            id: to_array(&sha256(&[secret])),
        })
    }

    /// Encrypts `data` in place and appends the tag.
    pub(crate) fn seal(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        data: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        #[cfg(test)]
        nonces::note(self, nonce, aad, data);
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), data)
            .map_err(|_| StoreError::Crypto("encryption"))
    }

    /// Encrypts the part of `data` from `start` in place and appends the tag.
    pub(crate) fn seal_tail(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        data: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), StoreError> {
        let tail = data
            .get_mut(start..)
            .ok_or(StoreError::Crypto("encryption"))?;
        #[cfg(test)]
        nonces::note(self, nonce, aad, tail);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), tail)
            .map_err(|_| StoreError::Crypto("encryption"))?;
        data.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Verifies and decrypts `data` (ciphertext and tag) in place; `None` if it does not verify.
    pub(crate) fn open(&self, nonce: [u8; 12], aad: &[u8], data: &mut Vec<u8>) -> Option<()> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = self
            .key
            .open_in_place(nonce, Aad::from(aad), data)
            .ok()?
            .len();
        data.truncate(length);
        Some(())
    }
}

/// Seals `data` under a random nonce, which goes before it. For keys that seal far fewer than 2³²
/// times.
pub(crate) fn seal_random(
    key: &SealKey,
    aad: &[u8],
    data: &[u8],
    random: &dyn Random,
) -> Result<Vec<u8>, StoreError> {
    let mut nonce = [0; NONCE_BYTES];
    random.fill(&mut nonce)?;
    let mut sealed = Vec::with_capacity(NONCE_BYTES + data.len() + TAG_BYTES);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(data);
    key.seal_tail(nonce, aad, &mut sealed, NONCE_BYTES)?;
    Ok(sealed)
}

/// Opens what [`seal_random`] sealed; `None` if it does not verify.
pub(crate) fn open_random(key: &SealKey, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, rest) = sealed.split_at_checked(NONCE_BYTES)?;
    let mut data = rest.to_vec();
    key.open(to_array(nonce), aad, &mut data)?;
    Some(data)
}

/// Wraps a key: [`WRAPPED_BYTES`] bytes.
pub(crate) fn wrap_key(
    key: &SealKey,
    context: &[u8],
    secret: &Secret,
    random: &dyn Random,
) -> Result<Vec<u8>, StoreError> {
    seal_random(key, context, secret.as_ref(), random)
}

/// Unwraps a key; `None` if it was wrapped by another one, or for another context.
pub(crate) fn unwrap_key(key: &SealKey, context: &[u8], wrapped: &[u8]) -> Option<Secret> {
    let plain = Zeroizing::new(open_random(key, context, wrapped)?);
    let secret: [u8; 32] = plain.as_slice().try_into().ok()?;
    Some(Zeroizing::new(secret))
}

/// A new key.
pub(crate) fn new_secret(random: &dyn Random) -> Result<Secret, StoreError> {
    let mut secret = Zeroizing::new([0; 32]);
    random.fill(secret.as_mut())?;
    Ok(secret)
}

/// The nonce made of an eight-byte and a four-byte counter.
pub(crate) fn counter_nonce(major: u64, minor: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    let bytes = minor.to_be_bytes().into_iter().chain(major.to_be_bytes());
    for (to, from) in nonce.iter_mut().zip(bytes) {
        *to = from;
    }
    nonce
}

#[cfg(test)]
pub(crate) mod nonces;
