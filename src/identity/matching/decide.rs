//! From a relation to a verdict: the score, and the guards no score overrides.

use super::model::{Model, Score};
use super::record::Traits;
use super::relate::{BirthLevel, NameLevel, PolicyLevel, Relation, relate};

/// What follows from a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One person.
    Same,
    /// A steward must look.
    Review,
    /// Nothing suggests one person.
    Distinct,
}

/// Why a pair is not linked, however high its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Given names differ in every script known of both.
    GivenDiffers,
    /// One policy, two branches.
    BranchDiffers,
    /// Birth dates have nothing in common.
    BirthDiffers,
    /// Sexes differ, and so does something else, or the names are not equal.
    SexDiffers,
    /// A record without a given name (newborns, unknown).
    NoGivenName,
    /// Staff noted that there is another person of this name.
    NamesakeWarning,
    /// No birth date of one, and nothing that is one person's.
    NoBirthDate,
    /// Family names differ in every script known of both, and nothing agrees exactly that a person
    /// who took another name would keep: people of one firm, ward or home look like that.
    FamilyDiffers,
    /// Given names are not equal in kanji, and all that agrees would agree of twins too.
    PerhapsTwins,
    /// The birth dates are not the same, and nothing else agrees exactly: two values that are nearly
    /// alike are as likely those of two people of one name.
    NothingExact,
}

impl Guard {
    /// The stable name kept as evidence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GivenDiffers => "given-name-differs",
            Self::BranchDiffers => "branch-differs",
            Self::BirthDiffers => "birth-date-differs",
            Self::SexDiffers => "sex-differs",
            Self::NoGivenName => "no-given-name",
            Self::NamesakeWarning => "namesake-warning",
            Self::NoBirthDate => "no-birth-date",
            Self::FamilyDiffers => "family-name-differs",
            Self::PerhapsTwins => "perhaps-twins",
            Self::NothingExact => "nothing-exact",
        }
    }
}

/// Two records compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Field by field.
    pub relation: Relation,
    /// What it is worth.
    pub score: Score,
    /// The guard that stops a link, if one does.
    pub guard: Option<Guard>,
    /// What follows.
    pub verdict: Verdict,
}

impl Comparison {
    /// Bits for one person.
    pub fn bits(&self) -> f32 {
        self.score.bits()
    }

    /// Whether the two cannot be one person, whatever a third record says: a cluster never holds
    /// such a pair.
    pub fn contradicts(&self) -> bool {
        contradiction(&self.relation).is_some()
    }
}

/// Compares two records by a model.
pub fn compare(model: &Model, a: &Traits, b: &Traits) -> Comparison {
    let relation = relate(a, b);
    let score = model.weigh(a, b, &relation);
    let guard = guard(a, b, &relation);
    let bits = score.bits();
    let verdict = if bits >= model.link_bits && guard.is_none() {
        Verdict::Same
    } else if bits >= model.review_bits {
        Verdict::Review
    } else {
        Verdict::Distinct
    };
    Comparison {
        relation,
        score,
        guard,
        verdict,
    }
}

/// Whether two records cannot be one person, whatever a third says.
pub fn contradict(a: &Traits, b: &Traits) -> bool {
    contradiction(&relate(a, b)).is_some()
}

/// Whether names differ in every script known of both.
fn differs(level: NameLevel) -> bool {
    matches!(
        level,
        NameLevel::OtherNear | NameLevel::PartDiffer | NameLevel::Shares | NameLevel::Differ
    )
}

/// What can only be two persons.
fn contradiction(relation: &Relation) -> Option<Guard> {
    let equal_name = relation.given <= NameLevel::KanaPart;
    if differs(relation.given) {
        Some(Guard::GivenDiffers)
    } else if relation.policy == PolicyLevel::BranchDiffers {
        Some(Guard::BranchDiffers)
    } else if relation.birth == BirthLevel::Differ && (!equal_name || relation.sex == Some(false)) {
        Some(Guard::BirthDiffers)
    } else if relation.sex == Some(false) && !equal_name {
        Some(Guard::SexDiffers)
    } else {
        None
    }
}

fn guard(a: &Traits, b: &Traits, relation: &Relation) -> Option<Guard> {
    if let Some(guard) = contradiction(relation) {
        return Some(guard);
    }
    if a.placeholder_given || b.placeholder_given || relation.given == NameLevel::Unknown {
        return Some(Guard::NoGivenName);
    }
    if a.namesake_warning || b.namesake_warning {
        return Some(Guard::NamesakeWarning);
    }
    if relation.birth == BirthLevel::Differ {
        return Some(Guard::BirthDiffers);
    }
    if relation.personal() {
        return None;
    }
    if differs(relation.family) && !relation.swapped && !relation.corroborated() {
        return Some(Guard::FamilyDiffers);
    }
    let other_characters = matches!(
        relation.given,
        NameLevel::KanaPart
            | NameLevel::KanaOther
            | NameLevel::Near
            | NameLevel::Part
            | NameLevel::PartNear
    );
    if other_characters {
        return Some(Guard::PerhapsTwins);
    }
    let other_date = matches!(
        relation.birth,
        BirthLevel::Swapped | BirthLevel::Era | BirthLevel::Near | BirthLevel::OnePart
    );
    if other_date && !relation.corroborated() {
        return Some(Guard::NothingExact);
    }
    (relation.birth == BirthLevel::Unknown).then_some(Guard::NoBirthDate)
}
