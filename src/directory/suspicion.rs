//! Refusals that speak of a stolen or misused identity: kept for the operator's eyes for a day.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::access::Participant;
use crate::types::{CertificatePin, InstitutionCode};

/// How long a refusal is told of.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// The most that are told apart: more certificates than this are one flood, which the counters of
/// the edge show.
const MOST: usize = 256;

/// The rules that alarm: a certificate nobody registered, and claims of being somebody else. What
/// expires or is malformed is no suspicion.
const ALARMING: [&str; 8] = [
    "unregistered-certificate",
    "assertion-contradiction",
    "assertion-institution",
    "assertion-presenter",
    "assertion-relay",
    "assertion-replayed",
    "assertion-role-not-certified",
    "assertion-signer",
];

/// One certificate's refusals by one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The rule.
    pub rule: &'static str,
    /// The certificate.
    pub pin: CertificatePin,
    /// The institution it is registered for.
    pub institution: Option<InstitutionCode>,
    /// How often.
    pub times: u64,
    /// First time.
    pub first: Timestamp,
    /// Last time.
    pub last: Timestamp,
}

/// What was refused lately.
#[derive(Debug, Default)]
pub(super) struct Suspicions(Mutex<HashMap<(&'static str, CertificatePin), Suspicion>>);

impl Suspicions {
    /// Notes a refusal by `rule`, if it is one that alarms.
    pub(super) fn note(
        &self,
        rule: &'static str,
        pin: CertificatePin,
        participant: Option<&Participant>,
        now: Timestamp,
    ) {
        if !ALARMING.contains(&rule) {
            return;
        }
        let institution = participant.and_then(|participant| participant.code.clone());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, one| now.duration_since(one.last) <= KEPT);
        }
        if known.len() >= MOST && !known.contains_key(&(rule, pin)) {
            return;
        }
        let one = known.entry((rule, pin)).or_insert_with(|| {
            tracing::warn!(
                alarm = "IDENTITY_REFUSED",
                rule,
                %pin,
                institution = institution.as_ref().map(InstitutionCode::as_str),
                "an identity was refused"
            );
            Suspicion {
                rule,
                pin,
                institution: institution.clone(),
                times: 0,
                first: now,
                last: now,
            }
        });
        one.times += 1;
        one.last = now;
    }

    /// What was refused within a day before `now`, the latest first.
    pub(super) fn lately(&self, now: Timestamp) -> Vec<Suspicion> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lately: Vec<Suspicion> = known
            .values()
            .filter(|one| now.duration_since(one.last) <= KEPT)
            .cloned()
            .collect();
        lately.sort_by_key(|one| std::cmp::Reverse(one.last));
        lately
    }
}
