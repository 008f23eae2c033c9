//! The rules of a whole path: lengths, names, policies, purposes.

use crate::pki::certificate::{Certificate, oid};
use crate::pki::profile::{Profile, Profiles};
use crate::pki::refusal::refuse_if;
use crate::pki::{Place, Refusal, Usage};

use super::profile::{is_for, purposes};

/// pathLenConstraint of every CA of `path` (RFC 5280 §6.1.4 l, m); self-issued ones do not count.
pub(crate) fn path_lengths(path: &[&Certificate]) -> Result<(), Refusal> {
    for (depth, certificate) in path.iter().enumerate().skip(1) {
        let Some((_, Some(allowed))) = certificate.extensions.basic_constraints else {
            continue;
        };
        let below = path
            .iter()
            .take(depth)
            .skip(1)
            .filter(|ca| !ca.is_self_issued())
            .count();
        let place = Place::at(depth);
        let exceeded = u32::try_from(below).unwrap_or(u32::MAX) > allowed;
        refuse_if(exceeded, place, || Refusal::PathLength {
            place,
            allowed,
            found: below,
        })?;
    }
    Ok(())
}

/// Name constraints of every CA of `path` against everything below it.
pub(crate) fn name_constraints(path: &[&Certificate]) -> Result<(), Refusal> {
    for (depth, authority) in path.iter().enumerate().skip(1) {
        let Some(constraints) = &authority.extensions.name_constraints else {
            continue;
        };
        for (below, certificate) in path.iter().take(depth).enumerate() {
            if below > 0 && certificate.is_self_issued() {
                continue;
            }
            let (place, violation) = (Place::at(depth), constraints.violated_by(certificate));
            refuse_if(violation.is_some(), place, || Refusal::NameConstraints {
                place,
                name: violation.map(|name| name.text()).unwrap_or_default().into(),
            })?;
        }
    }
    Ok(())
}

/// Policy processing (RFC 5280 §6.1) with initial-explicit-policy, initial-any-policy-inhibit and
/// initial-policy-mapping-inhibit all true. Under these the valid policy tree is the intersection of
/// the policies of all certificates below the root, without those a CA maps away; policyConstraints
/// and inhibitAnyPolicy can tighten nothing further. The root, as trust anchor, is not looked at.
///
/// Returns the profile whose policy survives, and that policy.
pub(crate) fn policy<'p>(
    path: &[&Certificate],
    profiles: &'p Profiles,
    usage: Usage,
) -> Result<(&'p Profile, String), Refusal> {
    let mut surviving: Option<Vec<&String>> = None;
    let below_root = path.split_last().map_or(&[][..], |(_, below)| below);
    for (depth, certificate) in below_root.iter().enumerate().rev() {
        let place = Place::at(depth);
        let extensions = &certificate.extensions;
        let fault = extensions.policy_fault;
        refuse_if(fault.is_some(), place, || Refusal::PolicyMalformed {
            place,
            what: fault.unwrap_or_default(),
        })?;
        let own = extensions.policies.as_ref();
        refuse_if(own.is_none(), place, || Refusal::PolicyMissing { place })?;
        // Reached without policies only if the rule above is left out: as if all were allowed.
        let Some(own) = own else { continue };
        let explicit: Vec<&String> = own
            .iter()
            .filter(|policy| *policy != oid::ANY_POLICY)
            .collect();
        refuse_if(explicit.is_empty(), place, || Refusal::AnyPolicy { place })?;
        if explicit.is_empty() {
            continue;
        }
        let passes = |policy: &&String| {
            surviving
                .as_ref()
                .is_none_or(|above| above.contains(policy))
                && (depth == 0 || !extensions.mapped_policies.contains(policy))
        };
        surviving = Some(explicit.into_iter().filter(passes).collect());
    }
    let surviving = surviving.unwrap_or_default();
    let accepted = surviving.into_iter().find_map(|policy| {
        let profile = profiles.find(usage, policy)?;
        Some((profile, policy.clone()))
    });
    let leaf = path
        .first()
        .and_then(|leaf| leaf.extensions.policies.as_ref());
    let found = leaf.map(|list| list.join(" ")).unwrap_or_default();
    let refusal = || Refusal::PolicyNotAccepted {
        usage,
        found: found.as_str().into(),
    };
    // Whose fault: the end entity's if it asserts none, else that of a CA that does not pass it on.
    let asserted = leaf.is_some_and(|own| own.iter().any(|it| profiles.find(usage, it).is_some()));
    refuse_if(
        accepted.is_none(),
        Place::at(usize::from(asserted)),
        refusal,
    )?;
    let default = profiles.iter().find(|profile| profile.serves(usage));
    accepted
        .or_else(|| default.map(|profile| (profile, found.clone())))
        .ok_or_else(refusal)
}

/// The purposes of every CA of `path` that names any: the one the end entity is used for must be
/// among them. RFC 5280 leaves this open; a CA that says what it is for is taken at its word.
pub(crate) fn authority_purposes(
    path: &[&Certificate],
    profile: &Profile,
    usage: Usage,
) -> Result<(), Refusal> {
    for (depth, authority) in path.iter().enumerate().skip(1) {
        let (Some(rule), Some(found)) = (
            profile.extended_key_usage(usage),
            &authority.extensions.extended_key_usage,
        ) else {
            continue;
        };
        let names = purposes(found);
        let fits = is_for(&names, rule) || names.contains(&"anyExtendedKeyUsage");
        let place = Place::at(depth);
        refuse_if(!fits, place, || Refusal::ExtendedKeyUsage {
            place,
            found: names.join("+").into(),
            usage,
        })?;
    }
    Ok(())
}
