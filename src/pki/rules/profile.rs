//! The rules of the profile that a certificate's policy names.

use crate::pki::certificate::Certificate;
use crate::pki::certified::Subject;
use crate::pki::hc_role;
use crate::pki::profile::{HcRole, Lenience, Presence, Profile, Profiles};
use crate::pki::{Refusal, Usage};

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
    if required && allowed {
        return Ok(());
    }
    Err(Refusal::KeyUsage {
        found: if found.is_empty() {
            "(absent)".into()
        } else {
            found.join("+").into()
        },
        expected: profile.key_usage_required.join("+").into(),
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
    let refused = |found: &str| Refusal::ExtendedKeyUsage {
        found: found.into(),
        usage,
    };
    match &certificate.extensions.extended_key_usage {
        None if rule.absent == Lenience::Accept => Ok(()),
        None => Err(refused("(absent)")),
        Some(found) => {
            let names: Vec<&str> = found.iter().map(|purpose| purpose_name(purpose)).collect();
            if rule
                .any_of
                .iter()
                .any(|purpose| names.contains(&&**purpose))
            {
                Ok(())
            } else {
                Err(refused(&names.join("+")))
            }
        }
    }
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
    let names = match &certificate.extensions.directory_attributes {
        Some(value) => hc_role::decode(value, profiles.role_scheme())?,
        None => Vec::new(),
    };
    if names.is_empty() && profile.hc_role.absent == Lenience::Refuse {
        return Err(Refusal::HcRoleMissing);
    }
    let mut roles = Vec::new();
    for name in names {
        match profiles.role(&name) {
            Some(role) if profile.hc_role.kinds.contains(&role.kind()) => roles.push(role),
            Some(_) => return Err(Refusal::HcRoleKind { role: name.into() }),
            None if profile.hc_role.unknown == Lenience::Accept => {}
            None => return Err(Refusal::HcRoleUnknown { role: name.into() }),
        }
    }
    Ok(roles)
}

/// Validity no longer than the profile allows, and not reversed.
pub(crate) fn validity_length(certificate: &Certificate, profile: &Profile) -> Result<(), Refusal> {
    let seconds = certificate.not_after.as_second() - certificate.not_before.as_second();
    let (days, limit) = (seconds / 86_400, profile.max_validity_days);
    if seconds < 0 || days > limit {
        return Err(Refusal::ValidityTooLong { days, limit });
    }
    Ok(())
}

/// The institution code, where the profile requires one.
pub(crate) fn institution_code(subject: &Subject, profile: &Profile) -> Result<(), Refusal> {
    match (profile.institution_code, &subject.institution_code) {
        (Presence::Required, None) => Err(Refusal::InstitutionCodeMissing),
        _ => Ok(()),
    }
}
