//! On-demand documents of a retrieve: made, kept if their entry says so, then sent like the others.

use std::sync::Arc;

use crate::access::{Call, Permit};
use crate::documents::{Found, Fresh, Made, Order};
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;
use crate::identity::identifier;

/// Makes the document of an on-demand entry.
///
/// # Errors
/// [`Reason::UnknownDocument`] if nothing at this node makes it; [`Reason::MessageTooLarge`]; what a
/// snapshot may break; the store.
pub(super) async fn make(
    gateway: &Arc<Gateway>,
    call: &Call,
    found: &Found,
    permit: &Permit,
) -> Result<Fresh> {
    let made = octets(gateway, found, permit).await?;
    if made.octets.len() as u64 > gateway.config.documents.max_document_bytes {
        let message = "the document that was made is larger than is kept here";
        return Err(Error::new(Reason::MessageTooLarge, message));
    }
    gateway.documents.fresh(permit, call, found, made).await
}

async fn octets(gateway: &Arc<Gateway>, found: &Found, permit: &Permit) -> Result<Made> {
    let mut makers = gateway.makers.iter();
    let Some(maker) = makers.find(|maker| maker.makes(&found.entry)).cloned() else {
        let message = "is made on demand, and nothing here makes it";
        let field = "document.document_unique_id";
        return Err(Error::field(Reason::UnknownDocument, field, message));
    };
    let patient = identifier(found.entry.patient_id.as_ref(), "patient_id")?;
    let patients = gateway.guard.identifiers_of(&patient);
    let (found, permit) = (found.clone(), permit.clone());
    let work = move || {
        maker.make(&Order {
            permit: &permit,
            found: &found,
            patients: &patients,
        })
    };
    let made = tokio::task::spawn_blocking(work).await;
    made.map_err(Error::internal)?
}

/// Whether everything that a snapshot was made of may be read too: what is gone cannot be judged.
///
/// # Errors
/// The store.
pub(super) fn sources_are_covered(
    gateway: &Gateway,
    found: &Found,
    permit: &Permit,
) -> Result<bool> {
    let patient = identifier(found.entry.patient_id.as_ref(), "patient_id")?;
    let known = gateway.guard.identifiers_of(&patient);
    for uuid in found.made_of() {
        let bytes: [u8; 16] = uuid.as_slice().try_into().map_err(Error::internal)?;
        let uuid = crate::types::EntryUuid::from_bytes(bytes);
        let source = gateway.documents.by_uuid(&uuid)?;
        // A link that was undone leaves sources that are of somebody else.
        let theirs = |source: &Found| {
            let id = identifier(source.entry.patient_id.as_ref(), "patient_id");
            id.is_ok_and(|id| known.contains(&id))
        };
        if !source.is_some_and(|source| theirs(&source) && source.is_covered(permit)) {
            return Ok(false);
        }
    }
    Ok(true)
}
