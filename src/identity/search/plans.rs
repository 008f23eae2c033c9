//! The keys a record is found by: those by which it is linked, and those by which a person may be
//! searched with little.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use crate::identity::compare::{NameKey, Traits};
use crate::identity::matching::keys;

fn hash(kind: u8, parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    parts.hash(&mut hasher);
    hasher.finish()
}

/// Keys under which two records of one person are likely to meet; each needs two facts.
pub(super) fn linking_keys(traits: &Traits) -> Vec<u64> {
    keys::keys(traits).into_iter().map(|(_, key)| key).collect()
}

/// What a search may go by alone, and the number that keeps its keys apart.
#[derive(Clone, Copy)]
enum By {
    Whole,
    Policy,
    Phone,
    Birth,
    Family,
    Given,
}

/// The less telling keys of a record, the most telling first: a whole name, a policy, a telephone, a
/// birth date, a family name, a given name.
const PLANS: [By; 6] = [
    By::Whole,
    By::Policy,
    By::Phone,
    By::Birth,
    By::Family,
    By::Given,
];

fn keys_by(traits: &Traits, by: By) -> Vec<u64> {
    let of_names = |of: fn(&NameKey) -> String| {
        let names = traits.names().map(|(script, name)| (script, of(name)));
        let known = names.filter(|(_, name)| !name.is_empty());
        known
            .map(|(script, name)| hash(by as u8, (script, name)))
            .collect()
    };
    match by {
        By::Whole => of_names(NameKey::joined),
        By::Family => of_names(|name| name.family.to_string()),
        By::Given => of_names(|name| name.given.to_string()),
        By::Policy => {
            let policies = traits.policies.iter();
            policies
                .map(|policy| hash(by as u8, &policy.number))
                .collect()
        }
        By::Phone => traits
            .phones
            .iter()
            .map(|phone| hash(by as u8, phone))
            .collect(),
        By::Birth => traits
            .birth
            .iter()
            .map(|birth| hash(by as u8, birth))
            .collect(),
    }
}

/// Every key of a record, each once: those by which it is linked, and those by which a person may be
/// searched with little.
pub(super) fn all_keys(traits: &Traits) -> Vec<u64> {
    let mut keys = linking_keys(traits);
    keys.extend(PLANS.iter().flat_map(|by| keys_by(traits, *by)));
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The keys a search goes by, the most telling first: each list is tried until one finds somebody.
pub(crate) fn plans(traits: &Traits) -> Vec<Vec<u64>> {
    let mut plans = vec![linking_keys(traits)];
    plans.extend(PLANS.iter().map(|by| keys_by(traits, *by)));
    plans.retain(|keys| !keys.is_empty());
    plans
}
