//! What others see of a linkage id.
//!
//! Each community sees ids of its own: a linkage id, enciphered by AES-128 under a key that belongs
//! to that community (one block, so a permutation: no table, no collisions, 128 random bits). The
//! keys are keyed hashes of the homeCommunityId under a key in the store's sealed table, which
//! outlives rotations. Without them the ids of one person in two communities are as unlike as those
//! of two persons (bar P-08).

use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey,
};

use crate::error::{Error, Reason, Result};
use crate::store::Keys;
use crate::types::{HomeCommunityId, LinkageId};

/// The domain of the keyed hash that the keys are.
const DOMAIN: &str = "linkage-pseudonym";

fn key(keys: &Keys, community: &HomeCommunityId) -> Result<UnboundCipherKey> {
    let key = keys.tag(DOMAIN, community.to_string().as_bytes());
    UnboundCipherKey::new(&AES_128, key.as_bytes()).map_err(|_| failed())
}

fn failed() -> Error {
    Error::internal("a linkage id could not be enciphered")
}

/// The id by which a community knows the person.
///
/// # Errors
/// If the cryptographic library fails.
pub(super) fn hide(
    keys: &Keys,
    linkage: LinkageId,
    community: &HomeCommunityId,
) -> Result<LinkageId> {
    let mut block = linkage.to_bytes();
    EncryptingKey::ecb(key(keys, community)?)
        .and_then(|key| key.encrypt(&mut block))
        .map_err(|_| failed())?;
    Ok(LinkageId::from_bytes(block))
}

/// The person that a community knows by this id.
///
/// # Errors
/// [`Reason::InvalidField`] if it is no linkage id at all; if the cryptographic library fails.
pub(super) fn show(keys: &Keys, text: &str, community: &HomeCommunityId) -> Result<LinkageId> {
    let hidden: LinkageId = text
        .parse()
        .map_err(|error: crate::types::InvalidLinkageId| {
            Error::field(Reason::InvalidField, "linkage_id", error.to_string())
        })?;
    let mut block = hidden.to_bytes();
    DecryptingKey::ecb(key(keys, community)?)
        .and_then(|key| key.decrypt(&mut block, DecryptionContext::None).map(|_| ()))
        .map_err(|_| failed())?;
    Ok(LinkageId::from_bytes(block))
}
