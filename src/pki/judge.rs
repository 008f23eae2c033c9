//! The judgement of a certificate: RFC 5280 path validation with policy processing, the profile,
//! revocation. Pure: chain, trust store, usage and time in; verdict out.

use data_encoding::HEXLOWER;
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;

use super::certificate::Certificate;
use super::certified::{Certified, Remark, Subject};
use super::path::{self, Revocation};
use super::profile::{HcRole, Profile};
use super::refusal::{Place, Refusal, Usage, refuse_if};
use super::rules;
use super::trust::TrustStore;
use crate::types::CertificatePin;

/// A group of rules, in the order in which they are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    Form,
    Algorithms,
    Extensions,
    Validity,
    EndEntity,
    SigningCertificate,
    Subject,
    Path,
    Authorities,
    NameConstraints,
    Policy,
    Revocation,
    Critical,
    KeyUsage,
    ExtendedKeyUsage,
    HcRole,
    ValidityLength,
    SubjectComplete,
    InstitutionCode,
}

/// Sees the outcome of every check; returns whether to go on after a refusal.
pub(crate) trait Observer {
    fn saw(&mut self, check: Check, outcome: Result<(), &Refusal>) -> bool;
}

/// Stops at the first refusal.
struct Strict;

impl Observer for Strict {
    fn saw(&mut self, _check: Check, outcome: Result<(), &Refusal>) -> bool {
        outcome.is_ok()
    }
}

/// Judges `chain` (end entity first) for `usage` at `now`.
///
/// The rules: RFC 5280 §6.1 with an explicit policy required, the profile of the surviving policy,
/// §6.3 revocation for every certificate below the root with no list meaning refusal. Certificates
/// of the chain beyond the end entity are hints; trust comes from `trust` alone. A list that is too
/// late for any but emergencies still serves here; [`Certified::serves_ordinary`] says whether.
///
/// # Errors
/// The [`Refusal`] of the first rule that is not kept.
pub fn judge(
    chain: &[CertificateDer<'_>],
    trust: &TrustStore,
    usage: Usage,
    now: Timestamp,
) -> Result<Certified, Refusal> {
    examine(chain, trust, usage, now, &mut Strict)
}

/// [`judge`], telling `observer` of every check.
pub(crate) fn examine(
    chain: &[CertificateDer<'_>],
    trust: &TrustStore,
    usage: Usage,
    now: Timestamp,
    observer: &mut dyn Observer,
) -> Result<Certified, Refusal> {
    let read = read_chain(chain, trust);
    let mut verdict = Verdict {
        observer,
        first: None,
    };
    let (leaf, presented) = match read {
        Ok(read) => read,
        Err(refusal) => {
            verdict.observer.saw(Check::Form, Err(&refusal));
            return Err(refusal);
        }
    };
    let profiles = trust.profiles();
    verdict.note(Check::Form, rules::form(&leaf, 0))?;
    verdict.note(
        Check::Algorithms,
        rules::algorithms(&leaf, 0, profiles, now),
    )?;
    verdict.note(Check::Extensions, rules::extensions(&leaf, 0))?;
    verdict.note(Check::Validity, rules::validity(&leaf, 0, now))?;
    verdict.note(Check::EndEntity, rules::end_entity(&leaf))?;
    verdict.note(Check::SigningCertificate, rules::not_signing(&leaf))?;
    let subject = verdict.note(Check::Subject, rules::subject(&leaf))?;
    let walk = verdict.walk(walk(&leaf, &presented, trust, usage, now))?;
    let provisional = provisional_profile(&leaf, trust, usage);
    let profile = walk.as_ref().map(|walk| walk.profile).or(provisional);
    let Some(profile) = profile else {
        return Err(verdict.refusal());
    };
    verdict.note(
        Check::Critical,
        rules::critical(&leaf, 0, &profile.critical),
    )?;
    verdict.note(Check::KeyUsage, rules::key_usage(&leaf, profile))?;
    verdict.note(
        Check::ExtendedKeyUsage,
        rules::extended_key_usage(&leaf, profile, usage),
    )?;
    let roles = verdict.note(Check::HcRole, rules::roles(&leaf, profile, profiles))?;
    verdict.note(
        Check::ValidityLength,
        rules::validity_length(&leaf, profile),
    )?;
    if let Some(subject) = &subject {
        verdict.note(
            Check::SubjectComplete,
            rules::subject_complete(subject, profile),
        )?;
        verdict.note(
            Check::InstitutionCode,
            rules::institution_code(subject, profile),
        )?;
    }
    match (verdict.first, subject, walk, roles) {
        (None, Some(subject), Some(walk), Some(roles)) => {
            Ok(certify(&leaf, usage, subject, walk, roles))
        }
        (first, ..) => Err(first.unwrap_or(Refusal::NoCertificate)),
    }
}

/// The first refusal so far, and who is told.
struct Verdict<'o> {
    observer: &'o mut dyn Observer,
    first: Option<Refusal>,
}

impl Verdict<'_> {
    /// Notes `outcome`; an error only if the observer wants to stop.
    fn note<T>(&mut self, check: Check, outcome: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
        match outcome {
            Ok(value) => {
                self.observer.saw(check, Ok(()));
                Ok(Some(value))
            }
            Err(refusal) => {
                let go_on = self.observer.saw(check, Err(&refusal));
                let first = self.first.get_or_insert_with(|| refusal.clone());
                if go_on { Ok(None) } else { Err(first.clone()) }
            }
        }
    }

    /// Notes the checks of the path, of which the last one reached may have failed.
    fn walk<'t>(
        &mut self,
        outcome: Result<Walk<'t>, (Check, Refusal)>,
    ) -> Result<Option<Walk<'t>>, Refusal> {
        let checks = [
            Check::Path,
            Check::Authorities,
            Check::NameConstraints,
            Check::Policy,
            Check::Revocation,
        ];
        let failed = outcome.as_ref().err().map(|(check, _)| *check);
        for check in checks
            .into_iter()
            .filter(|check| failed.is_none_or(|at| *check < at))
        {
            self.note(check, Ok(()))?;
        }
        match outcome {
            Ok(walk) => Ok(Some(walk)),
            Err((check, refusal)) => self.note(check, Err(refusal)),
        }
    }

    fn refusal(self) -> Refusal {
        self.first.unwrap_or(Refusal::NoCertificate)
    }
}

/// Limits, and every certificate read. Presented ones beyond the first that do not parse are an
/// error too: a peer has no reason to send such.
fn read_chain(
    chain: &[CertificateDer<'_>],
    trust: &TrustStore,
) -> Result<(Certificate, Vec<Certificate>), Refusal> {
    let limits = trust.profiles().limits();
    let (first, rest) = chain.split_first().ok_or(Refusal::NoCertificate)?;
    let (count, limit) = (chain.len(), limits.chain_certificates);
    refuse_if(count > limit, Place::EndEntity, || Refusal::ChainTooLong {
        count,
        limit,
    })?;
    let read = |der, place| Certificate::read_at(der, limits.certificate_bytes, place);
    let leaf = read(first, Place::EndEntity)?;
    let presented = rest
        .iter()
        .enumerate()
        .map(|(index, der)| read(der, Place::Authority(index + 1)))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((leaf, presented))
}

/// What validation of one path yields.
struct Walk<'t> {
    profile: &'t Profile,
    policy: String,
    revocation: Revocation,
    remarks: Vec<Remark>,
    /// Earliest notAfter of the path, or end of the accepted algorithms.
    not_after: Timestamp,
}

fn walk<'t>(
    leaf: &Certificate,
    presented: &[Certificate],
    trust: &'t TrustStore,
    usage: Usage,
    now: Timestamp,
) -> Result<Walk<'t>, (Check, Refusal)> {
    let pool: Vec<&Certificate> = trust.intermediates().iter().chain(presented).collect();
    let mut accept = |path: &[&Certificate]| validate_path(path, trust, usage, now);
    path::find(leaf, &pool, trust, now, &mut accept)
        .map_err(|refusal| (check_of_path_refusal(&refusal), refusal))
}

fn check_of_path_refusal(refusal: &Refusal) -> Check {
    match refusal {
        Refusal::NoCertificate
        | Refusal::ChainTooLong { .. }
        | Refusal::IssuerUnknown { .. }
        | Refusal::AuthorityKeyIdentifier { .. }
        | Refusal::Signature { .. }
        | Refusal::PathTooComplex { .. } => Check::Path,
        Refusal::NameConstraints { .. } => Check::NameConstraints,
        Refusal::PolicyMissing { .. }
        | Refusal::AnyPolicy { .. }
        | Refusal::PolicyMalformed { .. }
        | Refusal::PolicyNotAccepted { .. } => Check::Policy,
        Refusal::CrlMissing { .. }
        | Refusal::CrlExpired { .. }
        | Refusal::CrlNotYetValid { .. }
        | Refusal::CrlSign { .. }
        | Refusal::Revoked { .. } => Check::Revocation,
        _ => Check::Authorities,
    }
}

/// The rules of a whole path: CAs, names, policy, revocation.
fn validate_path<'t>(
    path: &[&Certificate],
    trust: &'t TrustStore,
    usage: Usage,
    now: Timestamp,
) -> Result<Walk<'t>, Refusal> {
    let profiles = trust.profiles();
    for (depth, authority) in path.iter().enumerate().skip(1) {
        rules::authority(authority, depth, profiles, now)?;
        rules::validity(authority, depth, now)?;
    }
    rules::path_lengths(path)?;
    rules::name_constraints(path)?;
    let (profile, policy) = rules::policy(path, profiles, usage)?;
    rules::authority_purposes(path, profile, usage)?;
    let revocation = path::revocation(path, trust, now)?;
    let remarks = path
        .iter()
        .enumerate()
        .filter_map(|(depth, certificate)| rules::key_remark(certificate, depth, profiles, now));
    let ends = path.iter().map(|certificate| certificate.not_after);
    // A verdict does not outlive a change of the accepted algorithms either.
    let change = profiles.algorithms().next_change(now);
    let change = change.and_then(|at| at.checked_sub(SignedDuration::from_secs(1)).ok());
    let not_after = ends.chain(change).min();
    Ok(Walk {
        profile,
        policy,
        remarks: remarks.collect(),
        not_after: not_after.unwrap_or(now),
        revocation,
    })
}

/// The profile the end entity claims, for explaining rules after the path failed.
fn provisional_profile<'t>(
    leaf: &Certificate,
    trust: &'t TrustStore,
    usage: Usage,
) -> Option<&'t Profile> {
    let claimed = leaf.extensions.policies.iter().flatten();
    claimed
        .filter_map(|policy| trust.profiles().find(usage, policy))
        .chain(
            trust
                .profiles()
                .iter()
                .filter(|profile| profile.serves(usage)),
        )
        .next()
}

fn certify(
    leaf: &Certificate,
    usage: Usage,
    subject: Subject,
    walk: Walk<'_>,
    roles: Vec<HcRole>,
) -> Certified {
    let mut remarks = walk.remarks;
    remarks.extend(walk.revocation.remarks);
    let lists_until = walk.revocation.valid_until.unwrap_or(walk.not_after);
    Certified {
        usage,
        profile: walk.profile.name().to_owned(),
        subject,
        issuer: leaf.issuer.text(),
        number: leaf.number(),
        serial: HEXLOWER.encode(&leaf.serial),
        spki_sha256: CertificatePin::from_bytes(leaf.spki_sha256),
        fingerprint: leaf.fingerprint,
        policy: walk.policy,
        roles,
        dns_names: leaf.extensions.dns_names().map(str::to_owned).collect(),
        not_before: leaf.not_before,
        not_after: leaf.not_after,
        verdict_valid_until: walk.not_after.min(lists_until),
        ordinary: walk.revocation.ordinary,
        crl_numbers: walk.revocation.numbers,
        remarks,
    }
}
