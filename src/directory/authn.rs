//! Who calls: from the connection's certificate, the directory, and the person's assertion.
//!
//! Never from a message's fields. A gateway may pass on the assertion of another institution's
//! person; then that institution and person are the ones judged (INV-3).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use jiff::Timestamp;

use super::{Directory, Snapshot};
use crate::access::{Caller, Participant, ParticipantKind, Person};
use crate::error::{Error, Reason, Result};
use crate::pki::assertion::{VerifiedAssertion, verify};
use crate::pki::{Certified, TrustHandle, Usage};
use crate::types::{CertificatePin, HomeCommunityId, PersonRole, PurposeOfUse};

/// Verified assertions remembered: a person makes many calls under one.
const REMEMBERED: usize = 8_192;

/// The peer of a connection: its certificate, judged at the handshake. In every request's
/// extensions, put there by `server`.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What the certificate certifies.
    pub certified: Arc<Certified>,
    /// Its key's fingerprint.
    pub pin: CertificatePin,
}

/// Makes callers.
#[derive(Debug)]
pub struct Authenticator {
    directory: Arc<Directory>,
    trust: Arc<TrustHandle>,
    home: HomeCommunityId,
    parent: Option<HomeCommunityId>,
    verified: Mutex<HashMap<[u8; 32], Remembered>>,
}

#[derive(Clone, Debug)]
struct Remembered {
    assertion: Arc<VerifiedAssertion>,
    generation: u64,
}

impl Authenticator {
    /// An authenticator for the node of `home`, under `parent`.
    pub fn new(
        directory: Arc<Directory>,
        trust: Arc<TrustHandle>,
        home: HomeCommunityId,
        parent: Option<HomeCommunityId>,
    ) -> Self {
        Self {
            directory,
            trust,
            home,
            parent,
            verified: Mutex::default(),
        }
    }

    /// The caller of a request that came from `peer`, with the assertion it carries.
    ///
    /// # Errors
    /// [`Reason::UnregisteredCertificate`]; [`Reason::InvalidAssertion`].
    pub fn caller(&self, peer: &Peer, assertion: Option<&str>, now: Timestamp) -> Result<Caller> {
        let directory = self.directory.snapshot();
        let participant = directory.participant(&peer.pin, now).ok_or_else(|| {
            let message = "no active participant is registered for this certificate";
            Error::new(Reason::UnregisteredCertificate, message)
        })?;
        let Some(token) = assertion else {
            return Ok(Caller {
                participant,
                person: None,
                purpose: PurposeOfUse::Operations,
                pin: peer.pin,
                relay: None,
                assertion: None,
            });
        };
        let verified = self.verified(token, now)?;
        let originator = self.originator(&directory, &participant, &verified, now)?;
        let role = verified
            .claims
            .role
            .parse::<PersonRole>()
            .map_err(|_| invalid("role"))?;
        let relay =
            (participant.kind == ParticipantKind::Gateway).then(|| participant.community.clone());
        Ok(Caller {
            participant: originator,
            person: Some(Person {
                subject: verified.claims.subject.clone(),
                role,
                relation: verified.claims.relation,
            }),
            purpose: verified.claims.purpose,
            pin: peer.pin,
            relay,
            assertion: Some(token.into()),
        })
    }

    /// The institution behind an assertion: the caller itself, or one that the calling gateway may
    /// speak for.
    fn originator(
        &self,
        directory: &Snapshot,
        participant: &Arc<Participant>,
        verified: &VerifiedAssertion,
        now: Timestamp,
    ) -> Result<Arc<Participant>> {
        let institution = &verified.claims.institution;
        if participant.kind != ParticipantKind::Gateway {
            return if participant.code.as_ref() == Some(institution) {
                Self::vouched(directory, participant, verified, now)?;
                Ok(Arc::clone(participant))
            } else {
                Err(invalid("institution"))
            };
        }
        let originator = directory
            .by_code(institution)
            .ok_or_else(|| invalid("institution"))?;
        let relay = &participant.community;
        // The parent speaks for everybody it has checked; a region only for its own institutions.
        if Some(relay) != self.parent.as_ref() && originator.community != *relay {
            return Err(invalid("relay"));
        }
        // What a person signs alone says nothing reliable about the institution.
        if verified.signer.usage == Usage::Person {
            return Err(invalid("signer"));
        }
        Self::vouched(directory, originator, verified, now)?;
        Ok(Arc::clone(originator))
    }

    /// An assertion signed by an institution must be signed by the one it names, with a
    /// certificate registered for it.
    fn vouched(
        directory: &Snapshot,
        institution: &Participant,
        verified: &VerifiedAssertion,
        now: Timestamp,
    ) -> Result<()> {
        if verified.signer.usage == Usage::Person {
            return Ok(());
        }
        let signer = directory.participant(&verified.signer.spki_sha256, now);
        if signer.is_some_and(|signer| signer.code == institution.code) {
            Ok(())
        } else {
            Err(invalid("signer"))
        }
    }

    /// Verifies a token, or remembers that it was verified under the trust now in force.
    ///
    /// An audience is this community or its parent: who addresses the hub addresses the network.
    fn verified(&self, token: &str, now: Timestamp) -> Result<Arc<VerifiedAssertion>> {
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let generation = self.trust.current().generation();
        let known = self.lock().get(&key).cloned();
        if let Some(known) = known
            && known.generation == generation
            && now < known.assertion.claims.expires_at
        {
            return Ok(known.assertion);
        }
        let network = self.parent.as_ref().unwrap_or(&self.home);
        let verified = verify(token, &self.trust, network, now)
            .or_else(|_| verify(token, &self.trust, &self.home, now))
            .map_err(|refusal| invalid(refusal.rule()).caused_by(refusal.to_string()))?;
        let assertion = Arc::new(verified);
        let mut remembered = self.lock();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(
            key,
            Remembered {
                assertion: Arc::clone(&assertion),
                generation,
            },
        );
        Ok(assertion)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Remembered>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn invalid(rule: &str) -> Error {
    Error::field(
        Reason::InvalidAssertion,
        crate::wire::ASSERTION,
        format!("the person's assertion is not accepted ({rule})"),
    )
}
