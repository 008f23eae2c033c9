//! How the fields of two records relate: a level a field, nothing more. What a level is worth is the
//! model's business.

use super::normalize::address::{self, Nearness};
use super::normalize::date::{self, BirthDate};
use super::normalize::kanji::MASK;
use super::normalize::{kana, kanji, number, romaji};
use super::record::{NameKey, Policy, Traits};

/// How a family or given name compares, over both scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum NameLevel {
    /// Kanji and kana equal.
    Both,
    /// Kanji equal, kana unknown.
    Kanji,
    /// Kanji equal, kana nearly so.
    KanjiNear,
    /// Kanji equal, kana different: another reading.
    KanjiOnly,
    /// Kana equal, kanji unknown, or equal but for masks.
    Kana,
    /// Kana equal, kanji but for one character.
    KanaPart,
    /// Kana equal, kanji different.
    KanaOther,
    /// Kanji equal but for masks, kana not known to differ.
    Masked,
    /// Kana equal but for long vowels, kanji unknown.
    Weak,
    /// Kana nearly equal, kanji unknown.
    Near,
    /// Equal in the alphabet, no other script known of both.
    Romaji,
    /// Kanji nearly equal, kana unknown.
    Part,
    /// Both nearly equal.
    PartNear,
    /// Kana nearly equal, kanji different.
    OtherNear,
    /// Kanji nearly equal, kana different.
    PartDiffer,
    /// A kanji in common, kana different or unknown.
    Shares,
    /// Nothing agrees.
    Differ,
    /// Unknown of one.
    Unknown,
}

/// How birth dates compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BirthLevel {
    /// Equal, to the day.
    Equal,
    /// Equal as far as both are known.
    Partial,
    /// One is the first of the same month, or of the same year: a filler.
    Filler,
    /// Day and month changed places, or the digits of the day.
    Swapped,
    /// The year of another era.
    Era,
    /// A digit, or a part by one or ten.
    Near,
    /// One part of three is different.
    OnePart,
    /// Otherwise.
    Differ,
    /// Unknown of one.
    Unknown,
}

/// How telephone numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PhoneLevel {
    /// A mobile number in common.
    Mobile,
    /// A fixed line in common.
    Fixed,
    /// Mobile numbers but for one digit.
    MobileNear,
    /// Fixed lines but for one digit.
    FixedNear,
    /// Numbers of one kind, different.
    Differ,
    /// Only numbers of different kinds.
    Kinds,
    /// Unknown of one.
    Unknown,
}

/// How insurances compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PolicyLevel {
    /// A number that is the person's (後期高齢者).
    Personal,
    /// Policy and branch.
    Branch,
    /// The policy; the branch unknown of one.
    Policy,
    /// The policy, but other branches.
    BranchDiffers,
    /// The policy but for one digit, branches not different.
    Near,
    /// Insurer and symbol: a company, a ward.
    Group,
    /// The insurer.
    Insurer,
    /// One of 後期高齢者, the other of before: everyone changes at 75.
    Senior,
    /// Two personal numbers of one prefecture.
    PersonalDiffers,
    /// Nothing in common.
    Differ,
    /// Unknown of one.
    Unknown,
}

/// How two records relate, field by field. No patient data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relation {
    /// Family name.
    pub family: NameLevel,
    /// Given name.
    pub given: NameLevel,
    /// Family and given name changed places on one side.
    pub swapped: bool,
    /// Birth date.
    pub birth: BirthLevel,
    /// Sex: agrees, differs, unknown.
    pub sex: Option<bool>,
    /// Address.
    pub place: Nearness,
    /// Telephone.
    pub phone: PhoneLevel,
    /// Insurance.
    pub policy: PolicyLevel,
    /// Days between the days the two were true at; negative if unknown.
    pub days: i32,
}

impl Relation {
    /// Whether the family names agree: rare ones live together, so that the same place is then no
    /// coincidence.
    pub fn namesake(&self) -> bool {
        self.family <= NameLevel::Masked
    }
}

impl Relation {
    /// Whether something agrees that is one person's, not a household's: a mobile number, a branch,
    /// a personal insurance number.
    pub fn personal(&self) -> bool {
        self.phone == PhoneLevel::Mobile
            || matches!(self.policy, PolicyLevel::Personal | PolicyLevel::Branch)
    }

    /// Whether a telephone number, the house or the policy is the same: what a household shares.
    pub fn corroborated(&self) -> bool {
        self.personal()
            || self.phone == PhoneLevel::Fixed
            || self.place == Nearness::Street
            || self.policy == PolicyLevel::Policy
    }
}

/// Compares two records. Symmetric.
pub fn relate(a: &Traits, b: &Traits) -> Relation {
    let (family, given, swapped) = names(a, b);
    Relation {
        family,
        given,
        swapped,
        birth: births(a.birth, b.birth),
        sex: a.sex.zip(b.sex).map(|(x, y)| x == y),
        place: places(a, b),
        phone: phones(&a.phones, &b.phones),
        policy: policies(&a.policies, &b.policies),
        days: if a.as_of == 0 || b.as_of == 0 {
            -1
        } else {
            (a.as_of - b.as_of).abs()
        },
    }
}

/// How one part of a name compares in one script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Script {
    Equal,
    Close,
    Near,
    Shares,
    Differ,
    Unknown,
}

fn level(kanji: Script, kana: Script) -> NameLevel {
    use Script::{Close, Differ, Equal, Near, Shares, Unknown};
    match (kanji, kana) {
        (Equal, Equal) => NameLevel::Both,
        (Equal, Unknown) => NameLevel::Kanji,
        (Equal, Close | Near | Shares) => NameLevel::KanjiNear,
        (Equal, Differ) => NameLevel::KanjiOnly,
        // A mask matches any character, so it says nothing.
        (Unknown | Close, Equal) => NameLevel::Kana,
        (Near, Equal) => NameLevel::KanaPart,
        (Shares | Differ, Equal) => NameLevel::KanaOther,
        (Close, Unknown | Close | Near | Shares) => NameLevel::Masked,
        (Unknown, Close) => NameLevel::Weak,
        (Unknown, Near | Shares) => NameLevel::Near,
        (Near, Unknown) => NameLevel::Part,
        (Near | Shares, Close | Near | Shares) => NameLevel::PartNear,
        (Differ, Close | Near | Shares) => NameLevel::OtherNear,
        (Close | Near, Differ) => NameLevel::PartDiffer,
        (Shares, Differ | Unknown) => NameLevel::Shares,
        (Differ, Differ | Unknown) | (Unknown, Differ) => NameLevel::Differ,
        (Unknown, Unknown) => NameLevel::Unknown,
    }
}

type Part = fn(&NameKey) -> &str;

fn family(name: &NameKey) -> &str {
    &name.family
}

fn given(name: &NameKey) -> &str {
    &name.given
}

fn names(a: &Traits, b: &Traits) -> (NameLevel, NameLevel, bool) {
    let straight = (part(a, b, family, family), part(a, b, given, given));
    if straight.0 <= NameLevel::Masked && straight.1 <= NameLevel::Masked {
        return (straight.0, straight.1, false);
    }
    if let Some(level) = unsplit(a, b) {
        return (level, level, false);
    }
    let swapped = (part(a, b, family, given), part(a, b, given, family));
    if swapped.0 <= NameLevel::Romaji && swapped.1 <= NameLevel::Romaji {
        // In an order of their own: the same whichever of the two is said to have changed them.
        return (swapped.0.min(swapped.1), swapped.0.max(swapped.1), true);
    }
    (straight.0, straight.1, false)
}

/// A name in one piece on one side, the same name in two on the other. Two names in one piece say
/// too little: they may be family names alone.
fn unsplit(a: &Traits, b: &Traits) -> Option<NameLevel> {
    let same = |x: &[NameKey], y: &[NameKey]| {
        x.iter().any(|p| {
            y.iter().any(|q| {
                p.is_full() != q.is_full()
                    && !p.family.is_empty()
                    && !q.family.is_empty()
                    && p.joined() == q.joined()
            })
        })
    };
    match (same(&a.kanji, &b.kanji), same(&a.kana, &b.kana)) {
        (true, true) => Some(NameLevel::Both),
        (true, false) => Some(NameLevel::Kanji),
        (false, true) => Some(NameLevel::Kana),
        (false, false) => same(&a.romaji, &b.romaji).then_some(NameLevel::Romaji),
    }
}

fn part(a: &Traits, b: &Traits, of_a: Part, of_b: Part) -> NameLevel {
    let in_kanji = best(&a.kanji, &b.kanji, of_a, of_b, kanji_parts);
    let in_kana = best(&a.kana, &b.kana, of_a, of_b, kana_parts);
    let level = level(in_kanji, in_kana);
    if level == NameLevel::Unknown {
        letters(a, b, of_a, of_b)
    } else {
        level
    }
}

fn best(
    a: &[NameKey],
    b: &[NameKey],
    of_a: Part,
    of_b: Part,
    compare: fn(&str, &str) -> Script,
) -> Script {
    let mut best = Script::Unknown;
    for x in a {
        for y in b {
            let (x, y) = (of_a(x), of_b(y));
            if !x.is_empty() && !y.is_empty() {
                let found = compare(x, y);
                if best == Script::Unknown || found < best {
                    best = found;
                }
            }
        }
    }
    best
}

fn kanji_parts(a: &str, b: &str) -> Script {
    if a == b {
        return Script::Equal;
    }
    // A given name in kana (さゆり) and one in kanji do not contradict each other: kana decides.
    match (kana::is_kana(a), kana::is_kana(b)) {
        (true, true) if kana::key(a) == kana::key(b) => return Script::Equal,
        (true, false) | (false, true) => return Script::Unknown,
        _ => {}
    }
    if kanji::agree(a, b) {
        return Script::Close;
    }
    let (ours, theirs) = (a.chars().count(), b.chars().count());
    let unlike = || a.chars().zip(b.chars()).filter(|(x, y)| x != y).count();
    let near = match ours == theirs {
        true => ours >= 2 && unlike() == 1,
        false => ours.min(theirs) >= 2 && one_edit(a, b),
    };
    if near {
        return Script::Near;
    }
    if a.chars().any(|c| c != MASK && b.contains(c)) || a.contains(MASK) && b.contains(MASK) {
        Script::Shares
    } else {
        Script::Differ
    }
}

fn kana_parts(a: &str, b: &str) -> Script {
    if a == b {
        return Script::Equal;
    }
    let (weak_a, weak_b) = (kana::weak(a), kana::weak(b));
    if weak_a == weak_b {
        return Script::Close;
    }
    let unvoiced = |key: &str| key.chars().map(kana::unvoiced).collect::<String>();
    let long = a.chars().count().min(b.chars().count()) > 2;
    if unvoiced(&weak_a) == unvoiced(&weak_b)
        || long && (one_edit(a, b) || one_edit(&weak_a, &weak_b))
    {
        Script::Near
    } else {
        Script::Differ
    }
}

/// Where no other script is known of both: the alphabet, on either side made of kana.
fn letters(a: &Traits, b: &Traits, of_a: Part, of_b: Part) -> NameLevel {
    let forms = |traits: &Traits, of: Part| -> Vec<String> {
        let own = traits.romaji.iter().map(|name| of(name).to_owned());
        let made = traits.kana.iter().map(|name| romaji::of_kana(of(name)));
        own.chain(made).filter(|name| !name.is_empty()).collect()
    };
    if a.romaji.is_empty() && b.romaji.is_empty() {
        return NameLevel::Unknown;
    }
    let (x, y) = (forms(a, of_a), forms(b, of_b));
    if x.is_empty() || y.is_empty() {
        return NameLevel::Unknown;
    }
    if x.iter().any(|x| y.contains(x)) {
        return NameLevel::Romaji;
    }
    // Letters are more, and say less each, than kana.
    let near = |x: &String, y: &String| match x.len().min(y.len()) {
        ..3 => false,
        3..=5 => one_edit(x, y),
        _ => strsim::osa_distance(x, y) <= 2,
    };
    if x.iter().any(|x| y.iter().any(|y| near(x, y))) {
        NameLevel::Near
    } else {
        NameLevel::Differ
    }
}

/// One character wrong, missing or too many, or two neighbours changed round.
fn one_edit(a: &str, b: &str) -> bool {
    // A character of these scripts has up to four bytes.
    a.len().abs_diff(b.len()) <= 4 && strsim::osa_distance(a, b) <= 1
}

fn births(a: Option<BirthDate>, b: Option<BirthDate>) -> BirthLevel {
    let (Some(a), Some(b)) = (a, b) else {
        return BirthLevel::Unknown;
    };
    if !a.is_full() || !b.is_full() {
        return if a.compatible(b) {
            BirthLevel::Partial
        } else {
            BirthLevel::Differ
        };
    }
    let (year, month, day) = (a.year == b.year, a.month == b.month, a.day == b.day);
    match (year, month, day) {
        (true, true, true) => BirthLevel::Equal,
        (true, true, false) if a.day == 1 || b.day == 1 => BirthLevel::Filler,
        (true, false, _) if first_of_year(a) || first_of_year(b) => BirthLevel::Filler,
        (true, false, false) if a.month == b.day && a.day == b.month => BirthLevel::Swapped,
        (true, true, false) if a.day % 10 * 10 + a.day / 10 == b.day => BirthLevel::Swapped,
        (false, true, true) if date::era_mistake(a.year, b.year) => BirthLevel::Era,
        _ => parts_apart(a, b, [year, month, day]),
    }
}

fn first_of_year(date: BirthDate) -> bool {
    date.month == 1 && date.day == 1
}

fn parts_apart(a: BirthDate, b: BirthDate, equal: [bool; 3]) -> BirthLevel {
    let one_part = equal.iter().filter(|equal| !**equal).count() == 1;
    let digits = |x: u16, y: u16| x / 10 == y / 10 || x % 10 == y % 10 && x / 100 == y / 100;
    let year = digits(a.year.unsigned_abs(), b.year.unsigned_abs());
    let day = digits(u16::from(a.day), u16::from(b.day));
    let near_year = (a.year - b.year).abs() == 1 || year;
    let near_month = a.month.abs_diff(b.month) == 1 || a.month % 10 == b.month % 10;
    let near_day = a.day.abs_diff(b.day) == 1 || day;
    let near = equal[0] && equal[1] && near_day
        || equal[0] && equal[2] && near_month
        || equal[1] && equal[2] && near_year;
    if one_part && near || a.ordinal().abs_diff(b.ordinal()) <= 1 {
        BirthLevel::Near
    } else if one_part {
        BirthLevel::OnePart
    } else if a.ordinal().abs_diff(b.ordinal()) <= 12 {
        // Ten days, over the end of a month.
        BirthLevel::OnePart
    } else {
        BirthLevel::Differ
    }
}

fn places(a: &Traits, b: &Traits) -> Nearness {
    let pairs = a
        .places
        .iter()
        .flat_map(|x| b.places.iter().map(move |y| (x, y)));
    pairs
        .map(|(x, y)| address::compare(x, y))
        .min()
        .unwrap_or(Nearness::Unknown)
}

fn phones(a: &[u64], b: &[u64]) -> PhoneLevel {
    if a.is_empty() || b.is_empty() {
        return PhoneLevel::Unknown;
    }
    let mut level = PhoneLevel::Kinds;
    for x in a {
        for y in b {
            let mobile = number::is_mobile(*x);
            let found = match (mobile == number::is_mobile(*y), mobile) {
                (false, _) => PhoneLevel::Kinds,
                (_, true) if x == y => PhoneLevel::Mobile,
                (_, false) if x == y => PhoneLevel::Fixed,
                (_, true) if one_digit(*x, *y) => PhoneLevel::MobileNear,
                (_, false) if one_digit(*x, *y) => PhoneLevel::FixedNear,
                _ => PhoneLevel::Differ,
            };
            if (found as u8) < (level as u8) {
                level = found;
            }
        }
    }
    level
}

fn one_digit(mut a: u64, mut b: u64) -> bool {
    let mut wrong = 0;
    while a != b {
        wrong += u32::from(a % 10 != b % 10);
        (a, b) = (a / 10, b / 10);
    }
    wrong == 1
}

fn policies(a: &[Policy], b: &[Policy]) -> PolicyLevel {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
    pairs
        .map(|(x, y)| policy(x, y))
        .min_by_key(|level| *level as u8)
        .unwrap_or(PolicyLevel::Unknown)
}

fn policy(a: &Policy, b: &Policy) -> PolicyLevel {
    let (x, y) = (&a.number, &b.number);
    let branches = a.branch.zip(b.branch).map(|(x, y)| x == y);
    let personal = (x.is_personal(), y.is_personal());
    if x == y {
        return match (personal.0, branches) {
            (true, _) => PolicyLevel::Personal,
            (_, Some(true)) => PolicyLevel::Branch,
            (_, Some(false)) => PolicyLevel::BranchDiffers,
            (_, None) => PolicyLevel::Policy,
        };
    }
    if personal.0 != personal.1 {
        return PolicyLevel::Senior;
    }
    if x.insurer != y.insurer {
        return PolicyLevel::Differ;
    }
    let number = x.number.len().min(y.number.len()) > 3 && one_edit(&x.number, &y.number);
    let symbol = x.symbol == y.symbol;
    match (personal.0, symbol, number) {
        (_, true, true) if branches != Some(false) => PolicyLevel::Near,
        (true, ..) => PolicyLevel::PersonalDiffers,
        _ if x.number == y.number && x.number.len() > 3 && branches != Some(false) => {
            PolicyLevel::Near
        }
        _ if symbol && x.symbol.chars().count() > 2 => PolicyLevel::Group,
        _ => PolicyLevel::Insurer,
    }
}
