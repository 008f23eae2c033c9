//! The rules of the profile that a certificate's policy names.

use crate::pki::certificate::Certificate;
use crate::pki::certified::Subject;
use crate::pki::hc_role;
use crate::pki::profile::{EkuRule, HcRole, Lenience, Presence, Profile, Profiles};
use crate::pki::refusal::refuse_if;
use crate::pki::{Place, Refusal, Usage};

/// keyUsage holds every bit the profile requires and none it does not allow.
pub(crate) fn key_usage(certificate: &Certificate, profile: &Profile) -> Result<(), Refusal> {
    let found = certificate.extensions.key_usage.clone().unwrap_or_default();
    let required = profile
        .key_usage_required
        .iter()
        .all(|bit| found.contains(&&**bit));
    let allowed = found
        .iter()
        .all(|bit| profile.key_usage_allowed.iter().any(|ok| **ok == **bit));
    refuse_if(!required || !allowed, Place::EndEntity, || {
        Refusal::KeyUsage {
            found: if found.is_empty() {
                "(absent)".into()
            } else {
                found.join("+").into()
            },
            expected: profile.key_usage_required.join("+").into(),
        }
    })
}

/// Extended key usage: one of the purposes the profile names; anyExtendedKeyUsage is none of them.
pub(crate) fn extended_key_usage(
    certificate: &Certificate,
    profile: &Profile,
    usage: Usage,
) -> Result<(), Refusal> {
    let Some(rule) = profile.extended_key_usage(usage) else {
        return Ok(());
    };
    let place = Place::EndEntity;
    let (fits, names) = match &certificate.extensions.extended_key_usage {
        None => (rule.absent == Lenience::Accept, vec!["(absent)"]),
        Some(found) => (is_for(&purposes(found), rule), purposes(found)),
    };
    refuse_if(!fits, place, || Refusal::ExtendedKeyUsage {
        place,
        found: names.join("+").into(),
        usage,
    })
}

/// The usual names of `found`.
pub(super) fn purposes(found: &[String]) -> Vec<&str> {
    found.iter().map(|purpose| purpose_name(purpose)).collect()
}

pub(super) fn is_for(names: &[&str], rule: &EkuRule) -> bool {
    rule.any_of
        .iter()
        .any(|purpose| names.contains(&&**purpose))
}

/// The usual name of an extended key usage, or its OID.
pub(crate) fn purpose_name(oid: &str) -> &str {
    match oid {
        "1.3.6.1.5.5.7.3.1" => "serverAuth",
        "1.3.6.1.5.5.7.3.2" => "clientAuth",
        "1.3.6.1.5.5.7.3.4" => "emailProtection",
        "2.5.29.37.0" => "anyExtendedKeyUsage",
        other => other,
    }
}

/// The roles of hcRole, by the profile's rule and the role table.
pub(crate) fn roles(
    certificate: &Certificate,
    profile: &Profile,
    profiles: &Profiles,
) -> Result<Vec<HcRole>, Refusal> {
    let place = Place::EndEntity;
    let names = match &certificate.extensions.directory_attributes {
        Some(value) => match hc_role::decode(value, profiles.role_scheme()) {
            Ok(names) => names,
            Err(malformed) => {
                refuse_if(true, place, || malformed)?;
                return Ok(Vec::new());
            }
        },
        None => Vec::new(),
    };
    let missing = names.is_empty() && profile.hc_role.absent == Lenience::Refuse;
    refuse_if(missing, place, || Refusal::HcRoleMissing)?;
    let mut roles = Vec::new();
    for name in names {
        let known = profiles.role(&name);
        let unknown = known.is_none() && profile.hc_role.unknown == Lenience::Refuse;
        refuse_if(unknown, place, || Refusal::HcRoleUnknown {
            role: name.as_str().into(),
        })?;
        let Some(role) = known else { continue };
        let fits = profile.hc_role.kinds.contains(&role.kind());
        refuse_if(!fits, place, || Refusal::HcRoleKind { role: name.into() })?;
        roles.push(role);
    }
    Ok(roles)
}

/// Validity no longer than the profile allows, and not reversed.
pub(crate) fn validity_length(certificate: &Certificate, profile: &Profile) -> Result<(), Refusal> {
    let seconds = certificate.not_after.as_second() - certificate.not_before.as_second();
    let (days, limit) = (seconds / 86_400, profile.max_validity_days);
    refuse_if(seconds < 0 || days > limit, Place::EndEntity, || {
        Refusal::ValidityTooLong { days, limit }
    })
}

/// The subject attributes that the profile requires.
pub(crate) fn subject_complete(subject: &Subject, profile: &Profile) -> Result<(), Refusal> {
    let missing = profile.subject_required.iter().find(|name| {
        let value = match &***name {
            "commonName" => &subject.common_name,
            "organizationName" => &subject.organisation,
            "serialNumber" => &subject.serial_number,
            _ => &None,
        };
        value.as_deref().is_none_or(str::is_empty)
    });
    refuse_if(missing.is_some(), Place::EndEntity, || {
        Refusal::SubjectIncomplete {
            attribute: missing.cloned().unwrap_or_default(),
        }
    })
}

/// The institution code, where the profile requires one.
pub(crate) fn institution_code(subject: &Subject, profile: &Profile) -> Result<(), Refusal> {
    let required = profile.institution_code == Presence::Required;
    let missing = required && subject.institution_code.is_none();
    refuse_if(missing, Place::EndEntity, || {
        Refusal::InstitutionCodeMissing
    })
}
