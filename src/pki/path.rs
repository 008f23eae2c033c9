//! Path building and revocation: from an end entity up to a configured root.

use jiff::{SignedDuration, Timestamp};

use super::certificate::Certificate;
use super::certified::Remark;
use super::crl::Crl;
use super::extensions::AuthorityKey;
use super::names::Name;
use super::profile::Profiles;
use super::refusal::{Place, Refusal, refuse_if};
use super::rules;
use super::trust::TrustStore;

/// Tolerance for a revocation list issued by a clock ahead of ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Searches a path from `leaf` over `pool` to a root of `trust`, and returns what `accept` makes of
/// the first path that it accepts. Otherwise the refusal that came closest.
pub(crate) fn find<'c, T>(
    leaf: &'c Certificate,
    pool: &[&'c Certificate],
    trust: &'c TrustStore,
    now: Timestamp,
    accept: &mut dyn FnMut(&[&'c Certificate]) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let profiles = trust.profiles();
    let checks = profiles.limits().signature_checks;
    let mut search = Search {
        pool,
        roots: trust.roots(),
        profiles,
        now,
        checks,
        closest: None,
    };
    let mut path = vec![leaf];
    match search.climb(&mut path, accept) {
        Some(found) => Ok(found),
        None => Err(search
            .closest
            .map_or(Refusal::NoCertificate, |(_, refusal)| refusal)),
    }
}

struct Search<'s, 'c> {
    pool: &'s [&'c Certificate],
    roots: &'c [Certificate],
    profiles: &'s Profiles,
    now: Timestamp,
    /// Signature checks left.
    checks: usize,
    /// How close the best failure came to a path, and why it failed.
    closest: Option<(usize, Refusal)>,
}

impl<'c> Search<'_, 'c> {
    fn failed(&mut self, closeness: usize, refusal: Refusal) {
        if self
            .closest
            .as_ref()
            .is_none_or(|(best, _)| closeness > *best)
        {
            self.closest = Some((closeness, refusal));
        }
    }

    fn climb<T>(
        &mut self,
        path: &mut Vec<&'c Certificate>,
        accept: &mut dyn FnMut(&[&'c Certificate]) -> Result<T, Refusal>,
    ) -> Option<T> {
        let current = path.last().copied()?;
        let depth = path.len() - 1;
        let limit = self.profiles.limits().chain_certificates;
        let count = path.len() + 1;
        if let Err(refusal) = refuse_if(count > limit, Place::at(depth), || Refusal::ChainTooLong {
            count,
            limit,
        }) {
            self.failed(depth * 10 + 4, refusal);
            return None;
        }
        let roots = self.roots.iter().map(|root| (root, true));
        let pool: Vec<_> = self
            .pool
            .iter()
            .map(|candidate| (*candidate, false))
            .collect();
        for (candidate, is_root) in roots.chain(pool) {
            let named = candidate.subject.der == current.issuer.der;
            if !named
                || path
                    .iter()
                    .any(|known| known.fingerprint == candidate.fingerprint)
            {
                continue;
            }
            // A CA that may not be one leads nowhere; no signature check is spent on it.
            if !is_root
                && let Err(refusal) =
                    rules::authority(candidate, depth + 1, self.profiles, self.now)
            {
                self.failed(depth * 10 + 15, refusal);
                continue;
            }
            if !self.signs(candidate, current, depth) {
                continue;
            }
            path.push(candidate);
            let found = if is_root {
                accept(path)
                    .map_err(|refusal| self.failed(1_000, refusal))
                    .ok()
            } else {
                self.climb(path, accept)
            };
            path.pop();
            if found.is_some() {
                return found;
            }
        }
        let place = Place::at(depth);
        match refuse_if(true, place, || Refusal::IssuerUnknown {
            place,
            issuer: current.issuer.text().into(),
        }) {
            Err(refusal) => {
                self.failed(depth * 10 + 1, refusal);
                None
            }
            Ok(()) => accept(path).ok(),
        }
    }

    /// Whether `candidate`, of the right name, issued `current`; spends one signature check.
    fn signs(&mut self, candidate: &Certificate, current: &Certificate, depth: usize) -> bool {
        let outcome = self.check_signed(candidate, current, Place::at(depth));
        match outcome {
            Ok(()) => true,
            Err((closeness, refusal)) => {
                self.failed(depth * 10 + closeness, refusal);
                false
            }
        }
    }

    /// The failure, with how close it came.
    fn check_signed(
        &mut self,
        candidate: &Certificate,
        current: &Certificate,
        place: Place,
    ) -> Result<(), (usize, Refusal)> {
        let key = current.extensions.authority_key.as_ref();
        let another = key.is_some_and(|key| !names_issuer(key, candidate));
        refuse_if(another, place, || Refusal::AuthorityKeyIdentifier { place })
            .map_err(|refusal| (2, refusal))?;
        let limit = self.profiles.limits().signature_checks;
        refuse_if(self.checks == 0, Place::Authority(1), || {
            Refusal::PathTooComplex { limit }
        })
        .map_err(|refusal| (999, refusal))?;
        self.checks = self.checks.saturating_sub(1);
        let (algorithm, signed) = (&current.signature_algorithm, &current.signed);
        let made = candidate
            .key
            .verifies(algorithm, signed, &current.signature);
        refuse_if(!made, place, || Refusal::Signature { place }).map_err(|refusal| (3, refusal))
    }
}

/// Whether authority key identifier `key` names `issuer`: by key identifier, and by issuer and
/// serial number where those are given (HPKI gives both).
fn names_issuer(key: &AuthorityKey, issuer: &Certificate) -> bool {
    let by_key = match (&key.key_id, &issuer.extensions.subject_key_id) {
        (Some(wanted), Some(found)) => wanted == found,
        _ => true,
    };
    let by_name = key.issuer.is_empty()
        || key
            .issuer
            .contains(&Name::Directory(issuer.issuer.der.clone()));
    let by_serial = key
        .serial
        .as_ref()
        .is_none_or(|serial| *serial == issuer.serial);
    by_key && by_name && by_serial
}

/// What revocation checking of one path found.
#[derive(Debug, Default)]
pub(crate) struct Revocation {
    pub(crate) remarks: Vec<Remark>,
    pub(crate) numbers: Vec<String>,
    /// When the first list used stops serving.
    pub(crate) valid_until: Option<Timestamp>,
    /// When the first list used stops serving for any but emergencies.
    pub(crate) ordinary: Option<OrdinaryEnd>,
}

/// From when on a revocation list is too late for any but emergencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrdinaryEnd {
    /// The last moment for ordinary calls.
    pub(crate) at: Timestamp,
    /// The certificate the list is about.
    pub(crate) place: Place,
    /// The list's nextUpdate.
    pub(crate) next_update: Timestamp,
}

/// Checks every certificate of `path` below the root against its issuer's lists (RFC 5280 §6.3).
pub(crate) fn revocation(
    path: &[&Certificate],
    trust: &TrustStore,
    now: Timestamp,
) -> Result<Revocation, Refusal> {
    let mut result = Revocation::default();
    for (depth, (certificate, issuer)) in path.iter().zip(path.iter().skip(1)).enumerate() {
        check_one(
            certificate,
            issuer,
            Place::at(depth),
            trust,
            now,
            &mut result,
        )?;
    }
    Ok(result)
}

fn check_one(
    certificate: &Certificate,
    issuer: &Certificate,
    place: Place,
    trust: &TrustStore,
    now: Timestamp,
    result: &mut Revocation,
) -> Result<(), Refusal> {
    let covering: Vec<&Crl> = trust
        .crls()
        .iter()
        .filter(|list| list.covers(certificate, issuer))
        .collect();
    // A stale list still tells the truth about what it revokes.
    let revoked = covering
        .iter()
        .find_map(|list| list.revoked_at(&certificate.serial));
    refuse_if(revoked.is_some(), place, || Refusal::Revoked {
        place,
        revoked_at: revoked.unwrap_or(now),
    })?;
    let signs_lists = issuer.extensions.has_key_usage("cRLSign");
    refuse_if(!signs_lists, place, || Refusal::CrlSign { place })?;
    refuse_if(covering.is_empty(), place, || Refusal::CrlMissing {
        place,
        issuer: certificate.issuer.text().into(),
    })?;
    let latest_start = now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX);
    let started = |list: &&Crl| list.this_update <= latest_start;
    let early = covering.iter().find(|list| !started(list));
    if let Some(list) = early.filter(|_| !covering.iter().any(started)) {
        refuse_if(true, place, || Refusal::CrlNotYetValid {
            place,
            this_update: list.this_update,
        })?;
    }
    let newest = covering.iter().filter(|list| started(list));
    let Some(list) = newest.max_by_key(|list| list.next_update) else {
        // Only with a rule above left out.
        return Ok(());
    };
    let next_update = list.next_update;
    let options = trust.options();
    let after = |grace| next_update.saturating_add(grace).unwrap_or(Timestamp::MAX);
    let at = after(options.crl_grace);
    let end = at.max(after(options.crl_grace_emergency));
    refuse_if(now > end, place, || Refusal::CrlExpired {
        place,
        next_update,
    })?;
    if now > next_update {
        result
            .remarks
            .push(Remark::CrlInGrace { place, next_update });
    }
    // A verdict made before nextUpdate lasts only until then, so that the remark is not missed.
    let until = if now > next_update { end } else { next_update };
    result.valid_until = Some(result.valid_until.map_or(until, |known| known.min(until)));
    if result.ordinary.is_none_or(|known| at < known.at) {
        result.ordinary = Some(OrdinaryEnd {
            at,
            place,
            next_update,
        });
    }
    result.numbers.push(list.number_text());
    Ok(())
}
