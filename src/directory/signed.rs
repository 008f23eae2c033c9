//! The directory as nodes hand it on: signed by the node above, of a version that only rises, and for
//! a time. What a region has taken over it keeps in its store and goes on with while its hub is away.

use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use prost::Message as _;

use crate::error::{Error, Reason, Result};
use crate::pki::{IdentityHandle, TrustHandle, detached};
use crate::store::Commit;
use crate::types::CertificatePin;
use crate::wire::pb::directory as pb;

use super::service::{Directory, VersionRow, difference};
use super::snapshot::{Peer, Snapshot};

/// How long a copy may be used after it was issued: so long a region goes on without its hub.
pub const KEPT: Duration = Duration::from_hours(72);
/// A copy is issued anew so often, changed or not.
pub const RENEWED: Duration = Duration::from_hours(1);
/// How far the clock of who issued it may be ahead of ours.
const SKEW: Duration = Duration::from_mins(5);
/// The `typ` of the signature.
pub(super) const TYPE: &str = "renkei-directory+jws";

/// A copy that was signed, and for what.
#[derive(Debug)]
pub(super) struct Issued {
    of: (u64, CertificatePin),
    at: Timestamp,
    copy: pb::SignedDirectory,
}

impl Directory {
    /// The directory in force, signed by this node, and its version. A copy is good for [`KEPT`]; a
    /// node that has it from another hands it on no longer than it may use it.
    ///
    /// # Errors
    /// The store; a key that does not sign.
    pub fn signed(
        &self,
        identity: &IdentityHandle,
        now: Timestamp,
    ) -> Result<(u64, pb::SignedDirectory)> {
        let identity = identity.current();
        let mut last = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let of = (self.snapshot().version(), identity.pin());
        let fresh =
            |one: &&Issued| one.of == of && now.duration_since(one.at).unsigned_abs() < RENEWED;
        if let Some(issued) = last.as_ref().filter(fresh) {
            return Ok((of.0, issued.copy.clone()));
        }
        let mut directory = self.read()?;
        let known = self.version()?;
        let (from, until) = match known.validity() {
            Some(validity) => validity,
            None => (now, now.saturating_add(KEPT).unwrap_or(Timestamp::MAX)),
        };
        directory.issued = Some(crate::wire::timestamp(from));
        directory.expires = Some(crate::wire::timestamp(until));
        let octets = directory.encode_to_vec();
        let signature = detached::sign(&identity, TYPE, &octets).map_err(Error::internal)?;
        let copy = pb::SignedDirectory {
            directory: octets.into(),
            signature,
        };
        *last = Some(Issued {
            of: (directory.version, identity.pin()),
            at: now,
            copy: copy.clone(),
        });
        Ok((directory.version, copy))
    }

    /// Takes over the parent's directory: signed by it, in force now, and not older than what was
    /// taken over before. Gives its version.
    ///
    /// # Errors
    /// [`Reason::PeerUntrusted`] for what does not hold, which changes nothing; a malformed member;
    /// the store.
    pub async fn adopt(
        &self,
        signed: &pb::SignedDirectory,
        parent: &Peer,
        trust: &TrustHandle,
        now: Timestamp,
    ) -> Result<u64> {
        let (theirs, row) = accepted(signed, parent, trust, now)?;
        let _one = self.changing.lock().await;
        let known = self.version()?;
        if row.of_parent < known.of_parent {
            return Err(unacceptable("is older than what was taken over before"));
        }
        if row.of_parent == known.of_parent && row.issued_ms <= known.issued_ms {
            return Ok(theirs.version);
        }
        let here = self.read()?;
        let mut next = theirs;
        let mut row = row;
        let mut remembered = Vec::new();
        if row.of_parent == known.of_parent {
            // The same for longer: what was changed here since, a suspension above all, stays.
            row.version = known.version;
            next = here.clone();
        } else {
            row.version = row.version.max(known.version);
            next.version = row.version;
            remembered = self.suspend_again(&mut next)?;
        }
        Snapshot::build(&next)?;
        let mut writes = difference(&here, &next, &row);
        writes.extend(remembered);
        let commit = Commit {
            writes,
            ..Commit::default()
        };
        let _committed = self.store.commit(commit).await?;
        self.put_in_force(&next)?;
        Ok(row.of_parent)
    }

    /// Until when what was taken over from the parent may be used; nothing was if there is no time.
    pub fn expires(&self) -> Option<Timestamp> {
        self.snapshot().expires()
    }
}

/// What the parent says, if it is believed, and how it is remembered.
fn accepted(
    signed: &pb::SignedDirectory,
    parent: &Peer,
    trust: &TrustHandle,
    now: Timestamp,
) -> Result<(pb::Directory, VersionRow)> {
    let signer = detached::verify(&signed.signature, TYPE, &signed.directory, trust, now)
        .map_err(|refusal| unacceptable("is not signed").caused_by(refusal))?;
    if !parent.pins.contains(&signer.spki_sha256) {
        return Err(unacceptable("is not signed by the parent"));
    }
    let theirs = pb::Directory::decode(signed.directory.clone())
        .map_err(|error| unacceptable("cannot be read").caused_by(error))?;
    let time = |time: Option<&prost_types::Timestamp>| {
        time.and_then(crate::wire::from_timestamp)
            .ok_or_else(|| unacceptable("does not say for how long it is"))
    };
    let (issued, expires) = (
        time(theirs.issued.as_ref())?,
        time(theirs.expires.as_ref())?,
    );
    if expires <= now {
        return Err(unacceptable("has expired"));
    }
    if issued > now.saturating_add(SKEW).unwrap_or(Timestamp::MAX) {
        return Err(unacceptable("is of the future"));
    }
    if expires.duration_since(issued).unsigned_abs() > KEPT {
        return Err(unacceptable("is for longer than a copy may be used"));
    }
    let row = VersionRow {
        version: theirs.version,
        of_parent: theirs.version,
        issued_ms: issued.as_millisecond(),
        expires_ms: expires.as_millisecond(),
    };
    Ok((theirs, row))
}

fn unacceptable(what: &str) -> Error {
    Error::new(
        Reason::PeerUntrusted,
        format!("the parent's directory {what}"),
    )
}
