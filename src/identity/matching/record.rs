//! What matching knows of one record.

use super::normalize::address::{self, Place};
use super::normalize::date::{self, BirthDate};
use super::normalize::number::{self, PolicyNumber};
use super::normalize::{kana, kanji, name, romaji};

/// Values of one kind that are compared; more say nothing new and cost time.
const MAX_COMPARED: usize = 8;

/// A name in one script, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NameKey {
    /// Family name; the whole name if it could not be split.
    pub family: Box<str>,
    /// Given name; empty for placeholders and unsplit names.
    pub given: Box<str>,
}

impl NameKey {
    /// Family and given name in one, as systems write that do not split them.
    pub fn joined(&self) -> String {
        format!("{}{}", self.family, self.given)
    }

    pub(crate) fn is_full(&self) -> bool {
        !self.family.is_empty() && !self.given.is_empty()
    }
}

/// Administrative sex, as far as it can agree or contradict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sex {
    /// Female.
    Female,
    /// Male.
    Male,
}

/// A policy and the person's branch on it, if the card has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Insurer, symbol and number.
    pub number: PolicyNumber,
    /// 枝番, two digits.
    pub branch: Option<u8>,
}

/// How a name is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Kanji, or not stated.
    Ideographic,
    /// Kana.
    Syllabic,
    /// The alphabet.
    Alphabetic,
}

/// What matching knows of one record. Patient data: no `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Traits {
    /// Names in kanji, current and former.
    pub kanji: Vec<NameKey>,
    /// Names in kana, current and former.
    pub kana: Vec<NameKey>,
    /// Names in the alphabet, current and former.
    pub romaji: Vec<NameKey>,
    /// Birth date as far as known; placeholders are left out.
    pub birth: Option<BirthDate>,
    /// Sex, if female or male.
    pub sex: Option<Sex>,
    /// Telephone numbers (`normalize::number::phone`).
    pub phones: Vec<u64>,
    /// Addresses.
    pub places: Vec<Place>,
    /// Insurance policies, current and former.
    pub policies: Vec<Policy>,
    /// Days since 1970-01-01 of the day the values were true at; 0 if not stated.
    pub as_of: i32,
    /// The record says only that there is no given name yet.
    pub placeholder_given: bool,
    /// Staff noted that there is another person of this name.
    pub namesake_warning: bool,
}

impl Traits {
    /// How many kinds of item are known: family name, given name, birth date, sex, telephone,
    /// address. A policy with its branch is as good as two.
    pub fn items(&self) -> usize {
        let names = || self.kanji.iter().chain(&self.kana).chain(&self.romaji);
        let policies = self
            .policies
            .iter()
            .map(|policy| 1 + usize::from(policy.branch.is_some()));
        usize::from(names().any(|name| !name.family.is_empty()))
            + usize::from(names().any(|name| !name.given.is_empty()))
            + usize::from(self.birth.is_some())
            + usize::from(self.sex.is_some())
            + usize::from(!self.phones.is_empty())
            + usize::from(self.places.iter().any(Place::is_street))
            + policies.max().unwrap_or(0)
    }

    /// Adds a name as typed. A name in one piece is split at a blank, or behind a family name that
    /// `is_family` knows. Kana and letters typed for kanji go to their own script.
    pub fn add_name(
        &mut self,
        script: Script,
        family: &str,
        given: &str,
        is_family: &dyn Fn(&str) -> bool,
    ) {
        let (family, given) = (name::clean(family), name::clean(given));
        self.namesake_warning |= family.namesake_warning || given.namesake_warning;
        if let Some(former) = family.other.as_deref().or(given.other.as_deref()) {
            self.add_plain(script, former, &given.name, is_family);
        }
        self.add_plain(script, &family.name, &given.name, is_family);
    }

    fn add_plain(
        &mut self,
        script: Script,
        family: &str,
        given: &str,
        is_family: &dyn Fn(&str) -> bool,
    ) {
        let script = written_in(script, family, given);
        let (family, given) = match (family.is_empty(), given.is_empty()) {
            (false, true) => family.split_once([' ', '\u{3000}']).unwrap_or((family, "")),
            (true, false) => given.split_once([' ', '\u{3000}']).unwrap_or((given, "")),
            _ => (family, given),
        };
        let (list, fold): (_, fn(&str) -> String) = match script {
            Script::Ideographic => (&mut self.kanji, kanji::key),
            Script::Syllabic => (&mut self.kana, kana::key),
            Script::Alphabetic => (&mut self.romaji, romaji::key),
        };
        let (mut family, mut given) = (fold(family), fold(given));
        if given.is_empty()
            && let Some(at) = split_at(&family, is_family)
        {
            given = family.split_off(at);
        }
        if name::is_placeholder(&given) {
            self.placeholder_given |= !given.is_empty();
            given.clear();
        }
        if name::is_placeholder(&family) {
            family.clear();
        }
        let key = NameKey {
            family: family.into(),
            given: given.into(),
        };
        let nothing = key.family.is_empty() && key.given.is_empty();
        if !nothing && !list.contains(&key) && list.len() < MAX_COMPARED {
            list.push(key);
        }
    }

    /// Adds a telephone number as typed.
    pub fn add_phone(&mut self, text: &str) {
        if let Some(phone) = number::phone(text)
            && !self.phones.contains(&phone)
            && self.phones.len() < MAX_COMPARED
        {
            self.phones.push(phone);
        }
    }

    /// Adds an address on one line.
    pub fn add_address(&mut self, text: &str, postal_code: &str) {
        let place = address::place(text, postal_code);
        if !place.is_empty() && !self.places.contains(&place) && self.places.len() < MAX_COMPARED {
            self.places.push(place);
        }
    }

    /// Adds an insurance.
    pub fn add_policy(&mut self, insurer: &str, symbol: &str, number: &str, branch: &str) {
        let Some(number) = number::policy(insurer, symbol, number) else {
            return;
        };
        let branch = number::branch(branch).filter(|_| !number.is_personal());
        let policy = Policy { number, branch };
        if !self.policies.contains(&policy) && self.policies.len() < MAX_COMPARED {
            self.policies.push(policy);
        }
    }

    /// Sets the birth date, as typed.
    pub fn set_birth_date(&mut self, text: &str) {
        self.birth = date::birth_date(text);
    }

    /// Names with their scripts: 1 kanji, 2 kana, 3 alphabet.
    pub(crate) fn names(&self) -> impl Iterator<Item = (u8, &NameKey)> {
        let kanji = self.kanji.iter().map(|name| (1, name));
        let kana = self.kana.iter().map(|name| (2, name));
        kanji
            .chain(kana)
            .chain(self.romaji.iter().map(|name| (3, name)))
    }
}

/// The script a name goes by: what it is written in, if that is not what was said.
fn written_in(stated: Script, family: &str, given: &str) -> Script {
    let all = |test: fn(&str) -> bool| {
        [family, given]
            .into_iter()
            .filter(|part| !part.is_empty())
            .all(test)
    };
    let letters = |text: &str| {
        text.chars().all(|c| {
            !c.is_alphabetic()
                || c.is_ascii()
                || ('Ａ'..='ｚ').contains(&c)
                || ('À'..='ɏ').contains(&c)
        })
    };
    match stated {
        Script::Ideographic | Script::Syllabic if all(letters) => Script::Alphabetic,
        Script::Ideographic if all(kana::is_kana) => Script::Syllabic,
        stated => stated,
    }
}

/// Where a name in one piece parts: behind the longest family name that leaves a given name. What is a
/// family name itself is taken to be one (サトウ is not サト ウ).
fn split_at(whole: &str, is_family: &dyn Fn(&str) -> bool) -> Option<usize> {
    if is_family(whole) {
        return None;
    }
    let ends = whole.char_indices().skip(1).take(5).map(|(at, _)| at);
    ends.filter(|at| whole.get(..*at).is_some_and(is_family))
        .last()
}
