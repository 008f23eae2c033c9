//! Two records compared, as the service and its stewards see it: what agrees, what contradicts, and
//! what follows. The judgement is [`matching`](super::matching)'s.

use super::matching::chosen;
use super::matching::decide::{self, Guard};
use super::matching::model::{Model, Score};
use super::matching::normalize::address::Nearness;
use super::matching::relate::{BirthLevel, NameLevel, PhoneLevel, PolicyLevel, Relation};

pub use super::matching::record::{NameKey, Policy, Sex, Traits};

/// Why two records are taken for one person: what corroborates that name and birth date do not
/// agree by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The same policy and branch, or a number that is one person's.
    PersonalInsurance,
    /// The same policy.
    Policy,
    /// The same house.
    Address,
    /// The same telephone number.
    Phone,
    /// No single item: everything together.
    Weight,
}

impl Proof {
    /// The stable name kept with a link as its evidence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PersonalInsurance => "personal-insurance",
            Self::Policy => "policy",
            Self::Address => "address",
            Self::Phone => "phone",
            Self::Weight => "weight",
        }
    }

    fn of(relation: &Relation) -> Self {
        match (relation.policy, relation.place, relation.phone) {
            (PolicyLevel::Personal | PolicyLevel::Branch, ..) => Self::PersonalInsurance,
            (PolicyLevel::Policy, ..) => Self::Policy,
            (_, Nearness::Street, _) => Self::Address,
            (_, _, PhoneLevel::Mobile | PhoneLevel::Fixed) => Self::Phone,
            _ => Self::Weight,
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
    /// Evidence in bits: log2 of the likelihood of one person over that of two, before it is
    /// counted how many people there are (see [`Model::people_bits`]).
    pub bits: f64,
    /// What follows.
    pub verdict: Verdict,
    /// Why a pair is not linked, however much evidence there is.
    pub guard: Option<Guard>,
    contradicts: bool,
    score: Score,
}

impl Comparison {
    /// The fields with their levels and their bits, for storage and display.
    pub fn fields(&self) -> [(&'static str, Level, f32); 9] {
        let [family, given, order, birth, sex, address, phone, policy] = self.score.fields;
        [
            ("name", self.name, family + order),
            ("given", self.given, given),
            ("birth_date", self.birth, birth),
            ("sex", self.sex, sex),
            ("phone", self.phone, phone),
            ("address", self.address, address),
            ("policy", self.policy, policy),
            // Weighed with the policy.
            ("branch", self.branch, 0.0),
            ("population", Level::Unknown, self.score.prior),
        ]
    }

    /// Bits for one person, against everything else, with how many people there are.
    pub fn posterior_bits(&self) -> f64 {
        f64::from(self.score.bits())
    }

    /// Bits between one person and the likeliest other explanation, and that explanation.
    pub fn rival(&self) -> (f64, &'static str) {
        let (bits, kind) = self.score.margin();
        (f64::from(bits), kind.name())
    }

    /// Whether the two cannot be one person, whatever a third record says: a cluster never holds
    /// such a pair.
    pub fn contradicts(&self) -> bool {
        self.contradicts
    }
}

/// Compares two records by the model in use.
pub fn compare(a: &Traits, b: &Traits) -> Comparison {
    let model: &Model = chosen::model();
    let found = decide::compare(model, a, b);
    let relation = found.relation;
    let given = name_level(relation.given);
    Comparison {
        name: together(name_level(relation.family), given),
        given,
        birth: birth_level(relation.birth),
        sex: match relation.sex {
            Some(true) => Level::Agree,
            Some(false) => Level::Differ,
            None => Level::Unknown,
        },
        phone: match relation.phone {
            PhoneLevel::Mobile | PhoneLevel::Fixed => Level::Agree,
            PhoneLevel::MobileNear | PhoneLevel::FixedNear => Level::Near,
            PhoneLevel::Differ => Level::Differ,
            PhoneLevel::Kinds | PhoneLevel::Unknown => Level::Unknown,
        },
        address: match relation.place {
            Nearness::Street => Level::Agree,
            Nearness::StreetNear | Nearness::Town | Nearness::TownOther => Level::Near,
            Nearness::Unknown => Level::Unknown,
            Nearness::City | Nearness::Prefecture | Nearness::Apart => Level::Differ,
        },
        policy: policy_level(relation.policy),
        branch: match relation.policy {
            PolicyLevel::Personal | PolicyLevel::Branch => Level::Agree,
            PolicyLevel::BranchDiffers => Level::Differ,
            _ => Level::Unknown,
        },
        bits: f64::from(found.bits() + model.people_bits()),
        verdict: match found.verdict {
            decide::Verdict::Same => Verdict::Same(Proof::of(&relation)),
            decide::Verdict::Review => Verdict::Review,
            decide::Verdict::Distinct => Verdict::Distinct,
        },
        guard: found.guard,
        contradicts: found.contradicts(),
        score: found.score,
    }
}

fn name_level(level: NameLevel) -> Level {
    match level {
        NameLevel::Unknown => Level::Unknown,
        level if level <= NameLevel::Masked || level == NameLevel::Romaji => Level::Agree,
        NameLevel::Weak | NameLevel::Near | NameLevel::Part | NameLevel::PartNear => Level::Near,
        _ => Level::Differ,
    }
}

fn birth_level(level: BirthLevel) -> Level {
    match level {
        BirthLevel::Equal => Level::Agree,
        BirthLevel::Differ => Level::Differ,
        BirthLevel::Unknown => Level::Unknown,
        _ => Level::Near,
    }
}

fn policy_level(level: PolicyLevel) -> Level {
    match level {
        PolicyLevel::Personal
        | PolicyLevel::Branch
        | PolicyLevel::Policy
        | PolicyLevel::BranchDiffers => Level::Agree,
        PolicyLevel::Near | PolicyLevel::Group => Level::Near,
        PolicyLevel::Senior | PolicyLevel::Unknown => Level::Unknown,
        PolicyLevel::Insurer | PolicyLevel::PersonalDiffers | PolicyLevel::Differ => Level::Differ,
    }
}

/// The level of a full name: the worse of its parts.
fn together(family: Level, given: Level) -> Level {
    for level in [Level::Differ, Level::Unknown, Level::Near] {
        if family == level || given == level {
            return level;
        }
    }
    Level::Agree
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
