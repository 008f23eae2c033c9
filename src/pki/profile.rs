//! Certificate profiles as data: what [`super::judge()`] asks of a certificate, read from TOML.
//!
//! The embedded file (`profiles.toml`) holds HPKI organisation, HPKI person authentication and the
//! project's test profiles side by side. Sources: the MHLW HPKI certificate policies, RFC 5280.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::refusal::Usage;

const EMBEDDED: &str = include_str!("profiles.toml");

/// Why a profile file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The text is not TOML of the expected shape; the message names line and key.
    #[error("profile file: {0}")]
    Syntax(#[from] toml::de::Error),
    /// No set of this name is in the file.
    #[error("no profile set {0:?} in the profile file")]
    UnknownSet(Box<str>),
    /// A set names a profile the file does not hold.
    #[error("profile set {set:?} names an unknown profile {profile:?}")]
    UnknownProfile {
        /// The set.
        set: Box<str>,
        /// The missing profile.
        profile: Box<str>,
    },
    /// Two profiles of one set claim the same policy for the same usage.
    #[error("policy {0} is claimed by two profiles of the same set for the same usage")]
    AmbiguousPolicy(Box<str>),
}

/// What kind of thing an hcRole names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleKind {
    /// One of the 27 national qualifications (国家資格).
    National,
    /// One of the five manager qualifications (管理者等資格).
    Manager,
    /// The kind of an institution, in an organisation's certificate.
    Institution,
}

/// One row of the role table: `codeDataFreeText` of hcRole, its Japanese name and kind.
#[derive(Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleRow {
    name: Box<str>,
    japanese: Box<str>,
    kind: RoleKind,
}

/// A role of the HPKI role table, as certified by a certificate's hcRole (ISO 17090-2).
///
/// Made only from a profile's table ([`Profiles::role`]): an unknown name is no role.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HcRole(Arc<RoleRow>);

impl HcRole {
    /// The `codeDataFreeText`, such as `Medical Doctor`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The Japanese name, such as 医師.
    pub fn japanese(&self) -> &str {
        &self.0.japanese
    }

    /// Qualification of a person, manager of an institution, or kind of an institution.
    pub fn kind(&self) -> RoleKind {
        self.0.kind
    }
}

impl fmt::Display for HcRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for HcRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HcRole({:?})", self.name())
    }
}

/// What a rule does when its subject is absent or unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Lenience {
    Accept,
    Refuse,
}

/// Whether something must be present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Presence {
    Required,
    Optional,
}

/// The attribute and coding scheme of hcRole.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleScheme {
    pub(crate) attribute: Box<str>,
    pub(crate) coding_scheme: Box<str>,
    pub(crate) max_actors: usize,
}

/// Accepted algorithms and key sizes, and how the list narrows with time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Algorithms {
    signatures: Vec<Box<str>>,
    curves: Vec<Box<str>>,
    rsa_min_bits: usize,
    rsa_max_bits: usize,
    rsa_advised_bits: usize,
    #[serde(default)]
    from: Vec<AlgorithmChange>,
}

/// What is accepted from a date on: what is not named stays as it was before.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlgorithmChange {
    #[serde(deserialize_with = "timestamp")]
    date: Timestamp,
    signatures: Option<Vec<Box<str>>>,
    curves: Option<Vec<Box<str>>>,
    rsa_min_bits: Option<usize>,
    rsa_advised_bits: Option<usize>,
}

/// Accepted algorithms and key sizes at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted<'a> {
    pub(crate) signatures: &'a [Box<str>],
    pub(crate) curves: &'a [Box<str>],
    pub(crate) rsa_min_bits: usize,
    pub(crate) rsa_max_bits: usize,
    pub(crate) rsa_advised_bits: usize,
}

impl Algorithms {
    /// What is accepted at `now`.
    pub(crate) fn at(&self, now: Timestamp) -> Accepted<'_> {
        let start = Accepted {
            signatures: &self.signatures,
            curves: &self.curves,
            rsa_min_bits: self.rsa_min_bits,
            rsa_max_bits: self.rsa_max_bits,
            rsa_advised_bits: self.rsa_advised_bits,
        };
        let begun = self.from.iter().filter(|change| change.date <= now);
        begun.fold(start, |before, change| Accepted {
            signatures: change.signatures.as_deref().unwrap_or(before.signatures),
            curves: change.curves.as_deref().unwrap_or(before.curves),
            rsa_min_bits: change.rsa_min_bits.unwrap_or(before.rsa_min_bits),
            rsa_max_bits: before.rsa_max_bits,
            rsa_advised_bits: change.rsa_advised_bits.unwrap_or(before.rsa_advised_bits),
        })
    }

    /// When the list next narrows: a verdict holds no longer than that.
    pub(crate) fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let later = self.from.iter().map(|change| change.date);
        later.filter(|date| *date > now).min()
    }
}

fn timestamp<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Limits against hostile input.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) chain_certificates: usize,
    pub(crate) certificate_bytes: usize,
    pub(crate) crl_bytes: usize,
    pub(crate) signature_checks: usize,
}

/// The extended key usage rule for one usage.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EkuRule {
    pub(crate) absent: Lenience,
    pub(crate) any_of: Vec<Box<str>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EkuRules {
    institution: Option<EkuRule>,
    server: Option<EkuRule>,
    person: Option<EkuRule>,
}

/// The hcRole rule of a profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleRule {
    pub(crate) absent: Lenience,
    pub(crate) unknown: Lenience,
    pub(crate) kinds: Vec<RoleKind>,
}

/// One certificate profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    name: Box<str>,
    usages: Vec<Usage>,
    policies: Vec<Box<str>>,
    pub(crate) key_usage_required: Vec<Box<str>>,
    pub(crate) key_usage_allowed: Vec<Box<str>>,
    pub(crate) critical: Vec<Box<str>>,
    pub(crate) ca_critical: Vec<Box<str>>,
    extended_key_usage: EkuRules,
    pub(crate) hc_role: RoleRule,
    pub(crate) subject_required: Vec<Box<str>>,
    pub(crate) institution_code: Presence,
    pub(crate) max_validity_days: i64,
}

impl Profile {
    /// The profile's name, such as `hpki-organisation`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The accepted policy OIDs (RFC 5280 user-initial-policy-set).
    pub fn policies(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(AsRef::as_ref)
    }

    /// Whether certificates of this profile serve `usage`.
    pub fn serves(&self, usage: Usage) -> bool {
        self.usages.contains(&usage)
    }

    pub(crate) fn extended_key_usage(&self, usage: Usage) -> Option<&EkuRule> {
        match usage {
            Usage::Institution => self.extended_key_usage.institution.as_ref(),
            Usage::Server => self.extended_key_usage.server.as_ref(),
            Usage::Person => self.extended_key_usage.person.as_ref(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    role_scheme: RoleScheme,
    role: Vec<RoleRow>,
    algorithms: Algorithms,
    limits: Limits,
    profile: Vec<Profile>,
    set: Vec<Set>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    name: Box<str>,
    profiles: Vec<Box<str>>,
}

/// One set of profiles with the tables they share; cheap to clone.
#[derive(Clone, Debug)]
pub struct Profiles(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    set: Box<str>,
    profiles: Vec<Profile>,
    roles: Vec<HcRole>,
    role_scheme: RoleScheme,
    algorithms: Algorithms,
    limits: Limits,
}

impl Profiles {
    /// The embedded set of production HPKI profiles.
    ///
    /// # Errors
    /// Never for the file as shipped; [`ProfileError`] if it was edited and is wrong.
    pub fn hpki() -> Result<Self, ProfileError> {
        Self::parse(EMBEDDED, "hpki")
    }

    /// The embedded set for development and test certificates (test policy OIDs).
    ///
    /// # Errors
    /// As [`Profiles::hpki`].
    pub fn test() -> Result<Self, ProfileError> {
        Self::parse(EMBEDDED, "test")
    }

    /// The embedded set called `set` (`hpki` or `test`).
    ///
    /// # Errors
    /// [`ProfileError::UnknownSet`], or as [`Profiles::hpki`].
    pub fn embedded(set: &str) -> Result<Self, ProfileError> {
        Self::parse(EMBEDDED, set)
    }

    /// Reads the set called `set` from `text`, a file shaped like the embedded `profiles.toml`.
    ///
    /// # Errors
    /// [`ProfileError`]: syntax, unknown keys, unknown set or profile, ambiguous policy.
    pub fn parse(text: &str, set: &str) -> Result<Self, ProfileError> {
        let mut file: File = toml::from_str(text)?;
        file.algorithms.from.sort_by_key(|change| change.date);
        let chosen = file
            .set
            .iter()
            .find(|candidate| &*candidate.name == set)
            .ok_or_else(|| ProfileError::UnknownSet(set.into()))?;
        let mut profiles: Vec<Profile> = Vec::new();
        for name in &chosen.profiles {
            let profile = file
                .profile
                .iter()
                .find(|profile| profile.name == *name)
                .ok_or_else(|| ProfileError::UnknownProfile {
                    set: set.into(),
                    profile: name.clone(),
                })?;
            profiles.push(profile.clone());
        }
        reject_ambiguous(&profiles)?;
        Ok(Self(Arc::new(Inner {
            set: set.into(),
            profiles,
            roles: file
                .role
                .into_iter()
                .map(|row| HcRole(Arc::new(row)))
                .collect(),
            role_scheme: file.role_scheme,
            algorithms: file.algorithms,
            limits: file.limits,
        })))
    }

    /// The name of the set.
    pub fn set(&self) -> &str {
        &self.0.set
    }

    /// The profiles of the set.
    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.0.profiles.iter()
    }

    /// The profile that accepts `policy` for `usage`.
    pub fn find(&self, usage: Usage, policy: &str) -> Option<&Profile> {
        self.iter()
            .find(|profile| profile.serves(usage) && profile.policies().any(|p| p == policy))
    }

    /// Every policy accepted for `usage`.
    pub fn policies_for(&self, usage: Usage) -> Vec<&str> {
        self.iter()
            .filter(|profile| profile.serves(usage))
            .flat_map(Profile::policies)
            .collect()
    }

    /// The role with exactly this `codeDataFreeText`.
    pub fn role(&self, name: &str) -> Option<HcRole> {
        self.0
            .roles
            .iter()
            .find(|role| role.name() == name)
            .cloned()
    }

    /// The whole role table, in the order of the HPKI policy.
    pub fn roles(&self) -> &[HcRole] {
        &self.0.roles
    }

    pub(crate) fn role_scheme(&self) -> &RoleScheme {
        &self.0.role_scheme
    }

    pub(crate) fn algorithms(&self) -> &Algorithms {
        &self.0.algorithms
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }
}

fn reject_ambiguous(profiles: &[Profile]) -> Result<(), ProfileError> {
    for (index, profile) in profiles.iter().enumerate() {
        for other in profiles.iter().skip(index + 1) {
            let same_usage = profile.usages.iter().any(|usage| other.serves(*usage));
            if let (true, Some(policy)) = (
                same_usage,
                profile
                    .policies
                    .iter()
                    .find(|policy| other.policies.contains(policy)),
            ) {
                return Err(ProfileError::AmbiguousPolicy(policy.clone()));
            }
        }
    }
    Ok(())
}
