//! Who calls: from the connection's certificate, the directory, and the person's assertion.
//!
//! Never from a message's fields. A gateway may pass on the assertion of another institution's
//! person; then that institution and person are the ones judged (INV-3).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::suspicion::{Suspicion, Suspicions};
use super::{Directory, Snapshot};
use crate::access::{Caller, Participant, ParticipantKind, Person};
use crate::error::{Error, Reason};
use crate::pki::assertion::{
    AssertionPolicy, AssertionRefusal, Nonces, Presentation, VerifiedAssertion, verify,
};
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
    /// What it showed, to be judged again.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// How a call comes.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its request id.
    pub request_id: &'a str,
    /// Whether it is of the emergency class, for which revocation lists may be later.
    pub emergency: bool,
    /// When.
    pub now: Timestamp,
}

/// A call refused before its caller is known: what the caller is told, and the rule for the audit.
#[derive(Debug)]
pub struct Unauthenticated {
    /// What the caller is told.
    pub error: Error,
    /// The rule that refused.
    pub rule: &'static str,
    /// The participant whose certificate it was, if it is anybody's.
    pub participant: Option<Arc<Participant>>,
}

/// Makes callers.
#[derive(Debug)]
pub struct Authenticator {
    directory: Arc<Directory>,
    trust: Arc<TrustHandle>,
    home: HomeCommunityId,
    parent: Option<HomeCommunityId>,
    verified: Mutex<HashMap<[u8; 32], Remembered>>,
    nonces: Nonces,
    suspicions: Suspicions,
}

#[derive(Clone, Debug)]
struct Remembered {
    assertion: Arc<VerifiedAssertion>,
    generation: u64,
}

/// A refusal by rule.
type Refused = (Error, &'static str);

impl Authenticator {
    /// An authenticator for the node of `home`, under `parent`, that remembers from `now` on.
    pub fn new(
        directory: Arc<Directory>,
        trust: Arc<TrustHandle>,
        home: HomeCommunityId,
        parent: Option<HomeCommunityId>,
        now: Timestamp,
    ) -> Self {
        Self {
            directory,
            trust,
            home,
            parent,
            verified: Mutex::default(),
            nonces: Nonces::new(now, AssertionPolicy::default().skew),
            suspicions: Suspicions::default(),
        }
    }

    /// The caller of a call that came from `peer`, with the assertion it carries.
    ///
    /// # Errors
    /// [`Reason::UnregisteredCertificate`]; [`Reason::InvalidAssertion`].
    pub fn caller(
        &self,
        peer: &Peer,
        assertion: Option<&str>,
        arrival: Arrival<'_>,
    ) -> std::result::Result<Caller, Unauthenticated> {
        let now = arrival.now;
        let directory = self.directory.snapshot();
        let participant = directory.participant(&peer.certified, now);
        let known = participant.as_ref().ok_or_else(|| {
            let message = "no active participant is registered for this certificate";
            let error = Error::new(Reason::UnregisteredCertificate, message);
            (error, "unregistered-certificate")
        });
        let caller = known.and_then(|participant| {
            self.known_caller(&directory, (peer, participant), arrival, assertion)
        });
        caller.map_err(|(error, rule)| {
            self.suspicions
                .note(rule, peer.pin, participant.as_deref(), now);
            Unauthenticated {
                error,
                rule,
                participant,
            }
        })
    }

    fn known_caller(
        &self,
        directory: &Snapshot,
        (peer, participant): (&Peer, &Arc<Participant>),
        Arrival {
            request_id,
            emergency,
            now,
        }: Arrival<'_>,
        assertion: Option<&str>,
    ) -> std::result::Result<Caller, Refused> {
        let Some(token) = assertion else {
            return Ok(Caller {
                participant: Arc::clone(participant),
                person: None,
                purpose: PurposeOfUse::Operations,
                pin: peer.pin,
                holder: peer.certified.subject.text.as_str().into(),
                relay: None,
                assertion: None,
                until: None,
            });
        };
        let verified = self.verified(token, now)?;
        if !emergency && verified.signer.serves_ordinary(now).is_err() {
            return Err(invalid("assertion-late-list"));
        }
        let relay =
            (participant.kind == ParticipantKind::Gateway).then(|| participant.community.clone());
        let presentation = if let Some(by) = &relay {
            Presentation::Relayed { by, request_id }
        } else {
            verified
                .check_presenter(&peer.certified)
                .map_err(|refusal| refused_assertion(&refusal))?;
            Presentation::Direct
        };
        let originator = self.originator(directory, participant, &verified, now)?;
        let role = verified
            .claims
            .role
            .parse::<PersonRole>()
            .map_err(|_| invalid("assertion-role"))?;
        self.nonces
            .take(&verified, presentation, now)
            .map_err(|refusal| refused_assertion(&refusal))?;
        Ok(Caller {
            participant: originator,
            person: Some(Person {
                subject: verified.claims.subject.clone(),
                role,
                relation: verified.claims.relation,
            }),
            purpose: verified.claims.purpose,
            pin: peer.pin,
            holder: peer.certified.subject.text.as_str().into(),
            relay,
            assertion: Some(token.into()),
            until: Some(verified.claims.expires_at),
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
    ) -> std::result::Result<Arc<Participant>, Refused> {
        let institution = &verified.claims.institution;
        if participant.kind != ParticipantKind::Gateway {
            return if participant.code.as_ref() == Some(institution) {
                Self::vouched(directory, participant, verified, now)?;
                Ok(Arc::clone(participant))
            } else {
                Err(invalid("assertion-institution"))
            };
        }
        let originator = directory
            .by_code(institution)
            .ok_or_else(|| invalid("assertion-institution"))?;
        let relay = &participant.community;
        // The parent speaks for everybody it has checked; a region only for its own institutions.
        if Some(relay) != self.parent.as_ref() && originator.community != *relay {
            return Err(invalid("assertion-relay"));
        }
        // What a person signs says nothing reliable about the institution, unless the CA has put it
        // into their certificate; then the claim was compared with that.
        let person = verified.signer.usage == Usage::Person;
        if person && verified.signer.institution_code().is_none() {
            return Err(invalid("assertion-signer"));
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
    ) -> std::result::Result<(), Refused> {
        if verified.signer.usage == Usage::Person {
            return Ok(());
        }
        let signer = directory.participant(&verified.signer, now);
        if signer.is_some_and(|signer| signer.code == institution.code) {
            Ok(())
        } else {
            Err(invalid("assertion-signer"))
        }
    }

    /// Verifies a token, or remembers that it was verified under the trust now in force.
    ///
    /// An audience is this community or its parent: who addresses the hub addresses the network.
    fn verified(
        &self,
        token: &str,
        now: Timestamp,
    ) -> std::result::Result<Arc<VerifiedAssertion>, Refused> {
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let generation = self.trust.current().generation();
        let known = self.lock().get(&key).cloned();
        if let Some(known) = known
            && known.generation == generation
            && now < known.assertion.claims.expires_at
            && now <= known.assertion.signer.verdict_valid_until
        {
            return Ok(known.assertion);
        }
        let network = self.parent.as_ref().unwrap_or(&self.home);
        let verified = verify(token, &self.trust, network, now).or_else(|refusal| match refusal {
            AssertionRefusal::Audience => verify(token, &self.trust, &self.home, now),
            other => Err(other),
        });
        let assertion = Arc::new(verified.map_err(|refusal| refused_assertion(&refusal))?);
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

    /// What was refused lately that speaks of a stolen or misused identity.
    pub fn suspicions(&self, now: Timestamp) -> Vec<Suspicion> {
        self.suspicions.lately(now)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Remembered>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused_assertion(refusal: &AssertionRefusal) -> Refused {
    let (error, rule) = invalid(refusal.rule());
    (error.caused_by(refusal.to_string()), rule)
}

fn invalid(rule: &'static str) -> Refused {
    let error = Error::field(
        Reason::InvalidAssertion,
        crate::wire::ASSERTION,
        format!("the person's assertion is not accepted ({rule})"),
    );
    (error, rule)
}
