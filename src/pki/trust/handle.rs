//! The trust store in force, and the verdicts remembered under it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::TrustStore;
use crate::pki::certificate::sha256;
use crate::pki::{Certified, Refusal, Usage, judge};

/// Verdicts remembered; one is about 1 KiB.
const CACHED_VERDICTS: usize = 4_096;

/// The trust store in force, replaced as a whole on reload, with the verdicts under it.
///
/// Every verdict is kept by certificate fingerprint, usage and generation, until the earliest time
/// at which it could change by itself; never across a reload. Refusals are not kept.
#[derive(Debug)]
pub struct TrustHandle {
    store: ArcSwap<TrustStore>,
    verdicts: Mutex<HashMap<([u8; 32], Usage), Verdict>>,
}

#[derive(Debug)]
struct Verdict {
    generation: u64,
    judged_at: Timestamp,
    certified: Arc<Certified>,
}

impl TrustHandle {
    /// A handle with `store` in force.
    pub fn new(store: TrustStore) -> Arc<Self> {
        Arc::new(Self {
            store: ArcSwap::from_pointee(store),
            verdicts: Mutex::new(HashMap::new()),
        })
    }

    /// The store in force.
    pub fn current(&self) -> TrustStore {
        TrustStore::clone(&self.store.load())
    }

    /// Puts `store` in force and forgets all verdicts.
    pub fn replace(&self, store: TrustStore) {
        self.store.store(Arc::new(store));
        self.verdicts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// [`judge()`] under the store in force, or the verdict remembered under it; for all that is no
    /// emergency.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        now: Timestamp,
    ) -> Result<Arc<Certified>, Refusal> {
        let certified = self.judge_for_emergency(chain, usage, now)?;
        certified.serves_ordinary(now)?;
        Ok(certified)
    }

    /// As [`TrustHandle::judge`], with the longer grace of late lists that emergencies have: for
    /// those, and where it is not known yet what a connection is for. Who takes calls on its
    /// strength asks [`Certified::serves_ordinary`] for each that is none.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge_for_emergency(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        now: Timestamp,
    ) -> Result<Arc<Certified>, Refusal> {
        let store = self.store.load();
        let leaf = chain.first().ok_or(Refusal::NoCertificate)?;
        let key = (sha256(leaf), usage);
        {
            let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(verdict) = verdicts.get(&key)
                && verdict.generation == store.generation()
                && verdict.judged_at <= now
                && now.as_second() <= verdict.certified.verdict_valid_until.as_second()
            {
                return Ok(Arc::clone(&verdict.certified));
            }
        }
        let certified = Arc::new(judge(chain, &store, usage, now)?);
        self.remember(store.generation(), key, now, &certified);
        Ok(certified)
    }

    /// Keeps a verdict under the generation it was made by, which may be over by now.
    fn remember(
        &self,
        generation: u64,
        key: ([u8; 32], Usage),
        judged_at: Timestamp,
        certified: &Arc<Certified>,
    ) {
        let verdict = Verdict {
            generation,
            judged_at,
            certified: Arc::clone(certified),
        };
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if verdicts.len() >= CACHED_VERDICTS {
            verdicts.clear();
        }
        verdicts.insert(key, verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, ManualClock};
    use crate::pki::TrustOptions;
    use crate::pki::dev::{DevPki, IssueRequest, Kind};

    #[test]
    fn a_verdict_that_comes_late_over_a_reload_is_not_used() {
        let clock = Arc::new(ManualClock::at("2026-06-15T03:00:00Z".parse().unwrap()));
        let mut pki = DevPki::in_memory(clock.clone()).unwrap();
        let issued = pki
            .issue(&IssueRequest::new(Kind::Institution, "a", "A"))
            .unwrap();
        let now = clock.now();
        let old = pki.trust_store(TrustOptions::default()).unwrap();
        let certified = Arc::new(judge(&issued.chain, &old, Usage::Institution, now).unwrap());
        pki.revoke("a").unwrap();
        let handle = TrustHandle::new(pki.trust_store(TrustOptions::default()).unwrap());
        let key = (sha256(&issued.chain[0]), Usage::Institution);
        handle.remember(old.generation(), key, now, &certified);
        let outcome = handle.judge(&issued.chain, Usage::Institution, now);
        assert_eq!(outcome.unwrap_err().rule(), "revoked");
    }
}
