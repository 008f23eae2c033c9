//! Assertions for one time: remembered until they expire, and not a moment shorter.
//!
//! What makes a stolen assertion useless is its binding to a certificate (`cnf`): who presents it
//! proves the key at the TLS handshake. So an ordinary assertion needs no memory: the institution
//! that may use it twice could as well sign a second one. One for one time says more: not even its
//! own institution's system, nor a gateway on the way, makes a second call of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::{AssertionRefusal, VerifiedAssertion, refuse_if};
use crate::types::{CertificatePin, HomeCommunityId};

/// How far ahead of ours the clock of a signer of one-time assertions may be. Small, since an
/// assertion from the future could be used again after a restart, which forgets.
pub(super) const ONE_TIME_SKEW: Duration = Duration::from_secs(5);

/// One-time assertions remembered, of all signers; one takes about 300 bytes.
const MOST: usize = 65_536;

/// The part of them that one signer may have.
const MOST_OF_ONE: usize = MOST / 8;

/// How an assertion came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presentation<'a> {
    /// By a connection of the institution itself.
    Direct,
    /// Passed on by the gateway of a community, for one request.
    Relayed {
        /// The community.
        by: &'a HomeCommunityId,
        /// The request's id, the same at every node that it goes through.
        request_id: &'a str,
    },
}

/// Who signed, `jti`, and the gateway that passed it on. One node may see the same assertion both
/// ways: from its institution, and back from the hub.
type Key = (CertificatePin, Box<str>, Option<HomeCommunityId>);

#[derive(Debug, Default)]
struct Used {
    /// The request that it was used for.
    requests: HashMap<Key, Box<str>>,
    /// When each may be forgotten.
    expiry: BTreeSet<(Timestamp, Key)>,
    of_signer: HashMap<CertificatePin, usize>,
}

/// The one-time assertions used so far that have not expired.
#[derive(Debug)]
pub struct Nonces {
    /// Before this, nothing was remembered.
    since: Timestamp,
    /// How long past `exp` an assertion is still taken.
    skew: Duration,
    most: usize,
    most_of_one: usize,
    used: Mutex<Used>,
}

impl Nonces {
    /// A memory that begins at `now`, for assertions taken until `skew` past their end.
    pub fn new(now: Timestamp, skew: Duration) -> Self {
        Self::with_room(now, skew, MOST, MOST_OF_ONE)
    }

    fn with_room(now: Timestamp, skew: Duration, most: usize, most_of_one: usize) -> Self {
        Self {
            since: now,
            skew,
            most,
            most_of_one,
            used: Mutex::default(),
        }
    }

    /// Takes `assertion` for a call at `now`. One for several calls is always taken.
    ///
    /// One for one time is taken for one call of its institution; at nodes further on, for the calls
    /// of one request of the gateway that passed it on first, since a request may need several.
    ///
    /// # Errors
    /// [`AssertionRefusal::Replayed`], [`AssertionRefusal::BeforeMemory`],
    /// [`AssertionRefusal::TooMany`].
    pub fn take(
        &self,
        assertion: &VerifiedAssertion,
        presentation: Presentation<'_>,
        now: Timestamp,
    ) -> Result<(), AssertionRefusal> {
        let claims = &assertion.claims;
        if !claims.one_time {
            return Ok(());
        }
        let later =
            |time: Timestamp, by: Duration| time.saturating_add(by).unwrap_or(Timestamp::MAX);
        let forgotten = claims.issued_at < later(self.since, ONE_TIME_SKEW);
        refuse_if(forgotten, || AssertionRefusal::BeforeMemory)?;
        let signer = assertion.signer.spki_sha256;
        let (by, request_id) = match presentation {
            Presentation::Direct => (None, None),
            Presentation::Relayed { by, request_id } => (Some(by.clone()), Some(request_id)),
        };
        let key = (signer, claims.nonce.as_str().into(), by);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.forget(now);
        if let Some(known) = used.requests.get(&key) {
            let same = request_id.is_some_and(|request_id| **known == *request_id);
            return refuse_if(!same, || AssertionRefusal::Replayed);
        }
        let of_signer = used.of_signer.get(&signer).copied().unwrap_or_default();
        let full = used.requests.len() >= self.most || of_signer >= self.most_of_one;
        refuse_if(full, || AssertionRefusal::TooMany)?;
        used.expiry
            .insert((later(claims.expires_at, self.skew), key.clone()));
        used.requests
            .insert(key, request_id.unwrap_or_default().into());
        used.of_signer.insert(signer, of_signer + 1);
        Ok(())
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.requests.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Used {
    /// Forgets what has expired.
    fn forget(&mut self, now: Timestamp) {
        while let Some((until, key)) = self.expiry.pop_first() {
            // Taken through the second of its end, as the verifier does.
            if until.as_second() >= now.as_second() {
                self.expiry.insert((until, key));
                return;
            }
            self.requests.remove(&key);
            if let Some(count) = self.of_signer.get_mut(&key.0) {
                *count -= 1;
                if *count == 0 {
                    self.of_signer.remove(&key.0);
                }
            }
        }
    }
}

#[cfg(test)]
impl Nonces {
    /// A small memory.
    pub(crate) fn small(now: Timestamp, most: usize, most_of_one: usize) -> Self {
        Self::with_room(now, Duration::from_mins(1), most, most_of_one)
    }
}
