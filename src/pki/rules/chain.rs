//! The rules of a whole path: lengths, names, policies.

use crate::pki::certificate::{Certificate, oid};
use crate::pki::names::Name;
use crate::pki::profile::{Profile, Profiles};
use crate::pki::{Place, Refusal, Usage};

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
        if u32::try_from(below).unwrap_or(u32::MAX) > allowed {
            return Err(Refusal::PathLength {
                place: Place::at(depth),
                allowed,
                found: below,
            });
        }
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
            if let Some(name) = constraints.violated_by(certificate) {
                let (place, name) = (Place::at(depth), Name::text(&name).into());
                return Err(Refusal::NameConstraints { place, name });
            }
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
        let own = certificate.extensions.policies.as_ref();
        let own = own.ok_or(Refusal::PolicyMissing { place })?;
        let explicit: Vec<&String> = own
            .iter()
            .filter(|policy| *policy != oid::ANY_POLICY)
            .collect();
        if explicit.is_empty() {
            return Err(Refusal::AnyPolicy { place });
        }
        let mapped = &certificate.extensions.mapped_policies;
        let passes = |policy: &&String| {
            surviving
                .as_ref()
                .is_none_or(|above| above.contains(policy))
                && (depth == 0 || !mapped.contains(policy))
        };
        surviving = Some(explicit.into_iter().filter(passes).collect());
    }
    let accepted = surviving
        .unwrap_or_default()
        .into_iter()
        .find_map(|policy| {
            profiles
                .find(usage, policy)
                .map(|profile| (profile, policy.clone()))
        });
    accepted.ok_or_else(|| {
        let leaf = path
            .first()
            .and_then(|leaf| leaf.extensions.policies.as_ref());
        let found = leaf.map(|list| list.join(" ")).unwrap_or_default();
        Refusal::PolicyNotAccepted {
            usage,
            found: found.into(),
        }
    })
}
