//! The keys under which records of one person are likely to meet (blocking). Each needs two facts,
//! so that none grows with the country; what still does is capped (`index`).

use std::hash::{DefaultHasher, Hash, Hasher};

use super::normalize::{address, kana};
use super::record::{NameKey, Traits};

/// A route by which candidates are found; the skew report counts by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Route {
    /// Birth date and given name in kanji.
    BirthGivenKanji,
    /// Birth date and the skeleton of the given name in kana.
    BirthGivenKana,
    /// Birth date and family name in kanji.
    BirthFamilyKanji,
    /// Birth date and the skeleton of the family name in kana.
    BirthFamilyKana,
    /// Full name and birth year.
    NameYear,
    /// Full name, month and day of birth.
    NameDay,
    /// Full name and prefecture.
    NamePrefecture,
    /// Telephone and given name.
    PhoneGiven,
    /// Telephone and birth date.
    PhoneBirth,
    /// House and given name.
    StreetGiven,
    /// House and birth date.
    StreetBirth,
    /// Policy and branch, or a personal number.
    PolicyBranch,
    /// Policy and birth date.
    PolicyBirth,
    /// Policy and given name.
    PolicyGiven,
}

/// A key and the route it belongs to.
pub type Key = (Route, u64);

fn key(route: Route, parts: impl Hash) -> Key {
    let mut hasher = DefaultHasher::new();
    (route as u8).hash(&mut hasher);
    parts.hash(&mut hasher);
    (route, hasher.finish())
}

/// The forms of a name that are looked up: in kanji as it is, in kana by its skeleton.
struct Form {
    script: u8,
    family: String,
    given: String,
}

fn forms(traits: &Traits) -> Vec<Form> {
    let mut forms = Vec::with_capacity(4);
    for (script, name) in traits.names() {
        let NameKey { family, given } = name;
        let fold = |text: &str| {
            if script == 2 {
                kana::skeleton(text)
            } else {
                text.to_owned()
            }
        };
        forms.push(Form {
            script,
            family: fold(family),
            given: fold(given),
        });
    }
    forms
}

/// The keys of a record, sorted, each once.
pub fn keys(traits: &Traits) -> Vec<Key> {
    let forms = forms(traits);
    let mut keys = Vec::with_capacity(24);
    let birth = traits.birth.filter(|birth| birth.is_full());
    for Form {
        script,
        family,
        given,
    } in &forms
    {
        let (by_given, by_family) = match script {
            2 => (Route::BirthGivenKana, Route::BirthFamilyKana),
            _ => (Route::BirthGivenKanji, Route::BirthFamilyKanji),
        };
        if let Some(birth) = birth {
            // Changed places: both parts are looked up under both routes' one number.
            for (route, part) in [(by_given, given), (by_family, family)] {
                if !part.is_empty() {
                    keys.push(key(route, (script, birth, part)));
                }
            }
        }
        name_keys(
            &mut keys,
            traits,
            *script,
            &[family.as_str(), given].concat(),
        );
    }
    evidence_keys(&mut keys, traits, &forms);
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn name_keys(keys: &mut Vec<Key>, traits: &Traits, script: u8, whole: &str) {
    if whole.chars().count() < 2 {
        return;
    }
    if let Some(birth) = traits.birth {
        keys.push(key(Route::NameYear, (script, whole, birth.year)));
        if birth.is_full() {
            keys.push(key(Route::NameDay, (script, whole, birth.month, birth.day)));
        }
    }
    if script == 2 || traits.kana.is_empty() {
        for place in &traits.places {
            if place.prefecture != 0 {
                keys.push(key(
                    Route::NamePrefecture,
                    (script, whole, place.prefecture),
                ));
            }
        }
    }
}

fn evidence_keys(keys: &mut Vec<Key>, traits: &Traits, forms: &[Form]) {
    let birth = traits.birth.filter(|birth| birth.is_full());
    let streets: Vec<u64> = traits
        .places
        .iter()
        .filter_map(address::street_key)
        .collect();
    for form in forms.iter().filter(|form| !form.given.is_empty()) {
        for phone in &traits.phones {
            keys.push(key(Route::PhoneGiven, (phone, form.script, &form.given)));
        }
        for street in &streets {
            keys.push(key(Route::StreetGiven, (street, form.script, &form.given)));
        }
        for policy in &traits.policies {
            keys.push(key(
                Route::PolicyGiven,
                (&policy.number, form.script, &form.given),
            ));
        }
    }
    for policy in &traits.policies {
        if policy.branch.is_some() || policy.number.is_personal() {
            keys.push(key(Route::PolicyBranch, (&policy.number, policy.branch)));
        }
    }
    let Some(birth) = birth else { return };
    for phone in &traits.phones {
        keys.push(key(Route::PhoneBirth, (phone, birth)));
    }
    for street in &streets {
        keys.push(key(Route::StreetBirth, (street, birth)));
    }
    for policy in &traits.policies {
        keys.push(key(Route::PolicyBirth, (&policy.number, birth)));
    }
}
