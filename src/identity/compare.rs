//! Two records compared: what agrees, what contradicts, and what follows.
//!
//! First version: proof rules with one hard corroboration decide links; a sum of bits decides what a
//! steward should look at (`spec` matching §4, "Decide" and "Guards"). Name, birth date and sex
//! alone never link: about 1.5 % of people in Japan have a double by kanji.

use crate::types::PartialDate;

use super::normalize;

/// A name in one script, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameKey {
    /// Family name.
    pub family: String,
    /// Given name; empty for placeholders.
    pub given: String,
}

impl NameKey {
    fn is_full(&self) -> bool {
        !self.family.is_empty() && !self.given.is_empty()
    }

    /// Family and given name in one, as systems write that do not split them.
    pub(crate) fn joined(&self) -> String {
        format!("{}{}", self.family, self.given)
    }

    /// The same name, one of the two not split. Two unsplit names say too little: they may be
    /// family names alone.
    fn equals_unsplit(&self, other: &Self) -> bool {
        self.is_full() != other.is_full() && self.joined() == other.joined()
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
    /// Insurer, symbol and number, folded.
    pub key: String,
    /// 枝番.
    pub branch: Option<String>,
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
    pub birth: Option<PartialDate>,
    /// Sex, if female or male.
    pub sex: Option<Sex>,
    /// Telephone numbers.
    pub phones: Vec<String>,
    /// Street addresses.
    pub addresses: Vec<String>,
    /// Insurance policies, current and former.
    pub policies: Vec<Policy>,
    /// The record says only that there is no given name yet.
    pub placeholder_given: bool,
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
            + usize::from(!self.addresses.is_empty())
            + policies.max().unwrap_or(0)
    }
}

/// Why two records are taken for one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Same policy, same branch, same birth date.
    PersonalInsurance,
    /// Full name, birth date, sex, and the same policy.
    NamePolicy,
    /// Full name, birth date, sex, and the same street address.
    NameAddress,
    /// Full name, birth date, sex, and the same telephone number.
    NamePhone,
}

impl Proof {
    /// The stable name kept with a link as its evidence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PersonalInsurance => "policy+branch+birth-date",
            Self::NamePolicy => "name+birth-date+sex+policy",
            Self::NameAddress => "name+birth-date+sex+address",
            Self::NamePhone => "name+birth-date+sex+phone",
        }
    }
}

/// What follows from a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One person, by this proof.
    Same(Proof),
    /// A steward must look.
    Review,
    /// Nothing suggests one person.
    Distinct,
}

/// How one field compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Known on both sides and equal.
    Agree,
    /// Equal as far as both are known, or close.
    Near,
    /// Unknown on one side.
    Unknown,
    /// Known on both sides and different.
    Differ,
}

/// A comparison, field by field: the explanation kept with a link (INV-5).
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Full name, in any script.
    pub name: Level,
    /// Given name alone.
    pub given: Level,
    /// Birth date.
    pub birth: Level,
    /// Sex.
    pub sex: Level,
    /// Any shared telephone number.
    pub phone: Level,
    /// Any shared street address.
    pub address: Level,
    /// Any shared policy.
    pub policy: Level,
    /// The branch on a shared policy.
    pub branch: Level,
    /// Sum of evidence, in bits (log2 of a likelihood ratio, rough until learned).
    pub bits: f64,
    /// What follows.
    pub verdict: Verdict,
}

impl Comparison {
    /// The fields with their levels, for storage and display.
    pub fn fields(&self) -> [(&'static str, Level); 8] {
        [
            ("name", self.name),
            ("given", self.given),
            ("birth_date", self.birth),
            ("sex", self.sex),
            ("phone", self.phone),
            ("address", self.address),
            ("policy", self.policy),
            ("branch", self.branch),
        ]
    }

    /// Whether the two cannot be one person, whatever a third record says: a cluster never holds
    /// such a pair.
    pub fn contradicts(&self) -> bool {
        self.branch == Level::Differ
            || self.given == Level::Differ
                && (self.birth == Level::Differ || self.sex == Level::Differ)
            || self.birth == Level::Differ && self.sex == Level::Differ
    }
}

/// Bits from which a pair goes to review: a full name and a birth date reach it, either alone does not.
const REVIEW_BITS: f64 = 18.0;

/// Compares two records.
pub fn compare(a: &Traits, b: &Traits) -> Comparison {
    let name = best(&[
        names(&a.kanji, &b.kanji, kanji_equal, |_, _| false),
        names(&a.kana, &b.kana, kana_equal, kana_near),
        names(&a.romaji, &b.romaji, kana_equal, |_, _| false),
    ]);
    let given = best(&[
        given(&a.kanji, &b.kanji, normalize::kanji_agree),
        given(&a.kana, &b.kana, |x, y| x == y || one_edit(x, y)),
        given(&a.romaji, &b.romaji, |x, y| x == y),
    ]);
    let birth = birth(a.birth, b.birth);
    let sex = match (a.sex, b.sex) {
        (Some(x), Some(y)) if x == y => Level::Agree,
        (Some(_), Some(_)) => Level::Differ,
        _ => Level::Unknown,
    };
    let (policy, branch) = policies(&a.policies, &b.policies);
    let mut comparison = Comparison {
        name,
        given,
        birth,
        sex,
        phone: shared(&a.phones, &b.phones),
        address: shared(&a.addresses, &b.addresses),
        policy,
        branch,
        bits: 0.0,
        verdict: Verdict::Distinct,
    };
    comparison.bits = bits(&comparison);
    comparison.verdict = verdict(&comparison, a.placeholder_given || b.placeholder_given);
    comparison
}

fn verdict(c: &Comparison, placeholder: bool) -> Verdict {
    let guarded = placeholder || c.given == Level::Differ || c.contradicts();
    match proof(c) {
        Some(proof) if !guarded => Verdict::Same(proof),
        Some(_) if c.branch != Level::Differ => Verdict::Review,
        _ if c.bits >= REVIEW_BITS && !c.contradicts() => Verdict::Review,
        _ => Verdict::Distinct,
    }
}

fn proof(c: &Comparison) -> Option<Proof> {
    if c.policy == Level::Agree && c.branch == Level::Agree && c.birth == Level::Agree {
        return Some(Proof::PersonalInsurance);
    }
    let identity = c.name == Level::Agree && c.birth == Level::Agree && c.sex == Level::Agree;
    match (identity, c.policy, c.address, c.phone) {
        (false, ..) => None,
        (_, Level::Agree, ..) => Some(Proof::NamePolicy),
        (_, _, Level::Agree, _) => Some(Proof::NameAddress),
        (_, _, _, Level::Agree) => Some(Proof::NamePhone),
        _ => None,
    }
}

/// Weights in bits for agreement, nearness and disagreement. Round figures from the frequencies of
/// `spec` matching §2 (a full name about 1 in 2^13 to 2^15, a birth date 1 in 2^14.7, …), not
/// fitted to any file; the learned table replaces them.
fn bits(c: &Comparison) -> f64 {
    let weight = |level, agree, near, differ| match level {
        Level::Agree => agree,
        Level::Near => near,
        Level::Unknown => 0.0,
        Level::Differ => differ,
    };
    weight(c.name, 13.0, 8.0, -4.0)
        + if c.name == Level::Agree {
            0.0
        } else {
            weight(c.given, 7.0, 4.0, -5.0)
        }
        + weight(c.birth, 14.0, 6.0, -8.0)
        + weight(c.sex, 1.0, 0.0, -6.0)
        + weight(c.phone, 8.0, 0.0, 0.0)
        + weight(c.address, 7.0, 0.0, -1.0)
        + weight(c.policy, 8.0, 0.0, -1.0)
        + weight(c.branch, 4.0, 0.0, -12.0)
}

fn best(levels: &[Level]) -> Level {
    for level in [Level::Agree, Level::Near, Level::Differ] {
        if levels.contains(&level) {
            return level;
        }
    }
    Level::Unknown
}

fn names(
    a: &[NameKey],
    b: &[NameKey],
    equal: impl Fn(&NameKey, &NameKey) -> bool,
    near: impl Fn(&NameKey, &NameKey) -> bool,
) -> Level {
    let full = |names: &[NameKey]| names.iter().any(NameKey::is_full);
    if a.iter().any(|x| b.iter().any(|y| x.equals_unsplit(y))) {
        return Level::Agree;
    }
    if !full(a) || !full(b) {
        return Level::Unknown;
    }
    let any = |test: &dyn Fn(&NameKey, &NameKey) -> bool| {
        a.iter()
            .any(|x| b.iter().any(|y| x.is_full() && y.is_full() && test(x, y)))
    };
    if any(&equal) {
        Level::Agree
    } else if any(&near) {
        Level::Near
    } else {
        Level::Differ
    }
}

fn kanji_equal(a: &NameKey, b: &NameKey) -> bool {
    normalize::kanji_agree(&a.family, &b.family) && normalize::kanji_agree(&a.given, &b.given)
}

fn kana_equal(a: &NameKey, b: &NameKey) -> bool {
    a == b
}

fn kana_near(a: &NameKey, b: &NameKey) -> bool {
    (a.family == b.family && one_edit(&a.given, &b.given))
        || (a.given == b.given && one_edit(&a.family, &b.family))
}

/// One character wrong, missing or too many, in names long enough for that to say something.
fn one_edit(a: &str, b: &str) -> bool {
    a.chars().count().min(b.chars().count()) > 2 && strsim::levenshtein(a, b) <= 1
}

fn given(a: &[NameKey], b: &[NameKey], agree: impl Fn(&str, &str) -> bool) -> Level {
    let mut known = false;
    for x in a.iter().filter(|x| !x.given.is_empty()) {
        for y in b.iter().filter(|y| !y.given.is_empty()) {
            known = true;
            if agree(&x.given, &y.given) {
                return Level::Agree;
            }
        }
    }
    if known { Level::Differ } else { Level::Unknown }
}

/// Years by which a birth year is off when an era is mistaken (昭和/平成 63, 大正/昭和 14, 平成/令和 30 …).
const ERA_SHIFTS: [i16; 6] = [14, 30, 44, 63, 77, 93];

fn birth(a: Option<PartialDate>, b: Option<PartialDate>) -> Level {
    let (Some(a), Some(b)) = (a, b) else {
        return Level::Unknown;
    };
    let (full_a, full_b) = (a.to_date(), b.to_date());
    match (full_a, full_b) {
        (Some(x), Some(y)) if x == y => Level::Agree,
        (Some(x), Some(y)) => {
            let years = (x.year() - y.year()).abs();
            let day = x.month() == y.month() && x.day() == y.day();
            let swapped = years == 0 && x.month() == y.day() && x.day() == y.month();
            let one_part = years == 0 && (x.month() == y.month() || x.day() == y.day());
            if swapped || one_part || day && (years == 1 || ERA_SHIFTS.contains(&years)) {
                Level::Near
            } else {
                Level::Differ
            }
        }
        _ if a.compatible(b) => Level::Near,
        _ => Level::Differ,
    }
}

fn shared(a: &[String], b: &[String]) -> Level {
    if a.is_empty() || b.is_empty() {
        Level::Unknown
    } else if a.iter().any(|x| b.contains(x)) {
        Level::Agree
    } else {
        Level::Differ
    }
}

fn policies(a: &[Policy], b: &[Policy]) -> (Level, Level) {
    if a.is_empty() || b.is_empty() {
        return (Level::Unknown, Level::Unknown);
    }
    let mut policy = Level::Differ;
    let mut branch = Level::Unknown;
    for x in a {
        for y in b.iter().filter(|y| y.key == x.key) {
            policy = Level::Agree;
            branch = match (&x.branch, &y.branch) {
                (Some(p), Some(q)) if p == q => return (policy, Level::Agree),
                (Some(_), Some(_)) => Level::Differ,
                _ => branch,
            };
        }
    }
    (policy, branch)
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
