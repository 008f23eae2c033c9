//! What a relation is worth: Fellegi–Sunter with three kinds of non-match and value frequencies, as
//! data (`data/weights.txt`, `data/frequencies.txt`; `renkei identity learn` writes both).
//!
//! bits = log2 P(match) P(relation | match) − log2 Σ P(kind) P(relation | kind), over strangers,
//! household members, twins and doubles. The priors are those of the whole country per candidate
//! person, so thresholds mean the same on a test file and in production. The score is a pure
//! function of two records and the model: it does not depend on what else is known, or when.

use std::sync::LazyLock;

use super::normalize::address::Nearness;
use super::rarity::Frequencies;
use super::record::Traits;
use super::relate::{PhoneLevel, Relation};

/// The kinds of pair. All but the first are of two persons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One person.
    Match,
    /// Two who have nothing to do with each other.
    Stranger,
    /// Two of one household.
    Household,
    /// Twins.
    Twin,
    /// Two of the same name and birth date (同姓同名・同生年月日), beyond what frequencies explain.
    Double,
}

impl Kind {
    /// The name kept as evidence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Stranger => "stranger",
            Self::Household => "household",
            Self::Twin => "twin",
            Self::Double => "namesake",
        }
    }
}

/// How many kinds there are.
pub const KINDS: usize = 5;

/// The kinds in the order of the columns.
pub(super) const ALL_KINDS: [Kind; KINDS] = [
    Kind::Match,
    Kind::Stranger,
    Kind::Household,
    Kind::Twin,
    Kind::Double,
];

/// The fields, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Family name.
    Family,
    /// Given name.
    Given,
    /// Whether the two changed places.
    Order,
    /// Birth date.
    Birth,
    /// Sex.
    Sex,
    /// Address.
    Address,
    /// Telephone.
    Phone,
    /// Insurance.
    Policy,
}

/// How many fields are weighed.
pub const FIELDS: usize = 8;

const NAME_LEVELS: [&str; 17] = [
    "both",
    "kanji",
    "kanji-near",
    "kanji-only",
    "kana",
    "kana-part",
    "kana-other",
    "masked",
    "weak",
    "near",
    "romaji",
    "part",
    "part-near",
    "other-near",
    "part-differ",
    "shares",
    "differ",
];

/// Fields with the names of their levels, as in the file. What is unknown is no level: it says
/// nothing.
pub(super) const TABLES: [(Field, &str, &[&str]); FIELDS] = [
    (Field::Family, "family", &NAME_LEVELS),
    (Field::Given, "given", &NAME_LEVELS),
    (Field::Order, "order", &["straight", "swapped"]),
    (
        Field::Birth,
        "birth",
        &[
            "equal", "partial", "filler", "swapped", "era", "near", "one-part", "differ",
        ],
    ),
    (Field::Sex, "sex", &["agrees", "differs"]),
    (
        Field::Address,
        "address",
        &[
            "street",
            "street-near",
            "town",
            "town-other",
            "city",
            "prefecture",
            "apart",
        ],
    ),
    (
        Field::Phone,
        "phone",
        &[
            "mobile",
            "fixed",
            "mobile-near",
            "fixed-near",
            "differ",
            "kinds",
        ],
    ),
    (
        Field::Policy,
        "policy",
        &[
            "personal",
            "branch",
            "policy",
            "branch-differs",
            "near",
            "group",
            "insurer",
            "senior",
            "personal-differs",
            "differ",
        ],
    ),
];

/// How far apart in time two records are, for what people change: to one year, to four, more, and
/// unknown.
pub(super) const AGES: usize = 4;

/// A year, in days.
const YEAR: i32 = 365;

/// The column of ages of a relation.
pub(super) fn age(days: i32) -> usize {
    match days {
        ..0 => 3,
        _ if days <= YEAR => 0,
        _ if days <= 4 * YEAR => 1,
        _ => 2,
    }
}

/// The levels of a relation: an index into each field's table, or `None` if unknown.
pub fn levels(relation: &Relation) -> [Option<usize>; FIELDS] {
    let known = |level: u8, field: usize| {
        let (_, _, names) = TABLES.get(field)?;
        (usize::from(level) < names.len()).then_some(usize::from(level))
    };
    [
        known(relation.family as u8, 0),
        known(relation.given as u8, 1),
        Some(usize::from(relation.swapped)),
        known(relation.birth as u8, 3),
        relation.sex.map(|agrees| usize::from(!agrees)),
        known(relation.place as u8, 5),
        known(relation.phone as u8, 6),
        known(relation.policy as u8, 7),
    ]
}

/// One level's worth, as log2 of probabilities.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    /// Of a match, by age.
    pub(super) matching: [f32; AGES],
    /// Of strangers, household, twin, double.
    pub(super) other: [f32; KINDS - 1],
    /// Of strangers, given that the family name agrees: rare surnames live together.
    pub(super) namesake: f32,
}

/// The model.
#[derive(Debug)]
pub struct Model {
    /// Kept with every link it made.
    pub version: String,
    /// Bits from which a pair that no guard stops is linked.
    pub link_bits: f32,
    /// Bits from which a pair goes to a steward.
    pub review_bits: f32,
    /// log2 of the number of such persons there are for one person: match 0.
    pub(super) prior: [f32; KINDS],
    pub(super) weights: [Vec<Weight>; FIELDS],
    /// How rare names are.
    pub frequencies: Frequencies,
}

static DEFAULT: LazyLock<Model> = LazyLock::new(|| {
    Model::parse(
        include_str!("data/weights.txt"),
        include_str!("data/frequencies.txt"),
    )
    .unwrap_or_else(|error| {
        // A test parses both files: this cannot be reached in a build that passed.
        unreachable!("the shipped model does not parse: {error}")
    })
});

/// log2 of the chance that strangers in one house share its fixed line: in a care home they do.
pub(super) const SHARED_LINE_BITS: f32 = -3.0;

/// Whether house and fixed line agree: one coincidence, not two.
pub(super) fn shared_house(relation: &Relation) -> bool {
    relation.place == Nearness::Street && relation.phone == PhoneLevel::Fixed
}

/// Why a model file is not one.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadModel {
    line: usize,
    problem: &'static str,
}

impl Model {
    /// The model that is shipped.
    pub fn shipped() -> &'static Self {
        &DEFAULT
    }

    /// Reads a model.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(weights: &str, frequencies: &str) -> Result<Self, BadModel> {
        let mut model = Self {
            version: String::new(),
            link_bits: 0.0,
            review_bits: 0.0,
            prior: [0.0; KINDS],
            weights: TABLES.map(|(_, _, names)| vec![Weight::default(); names.len()]),
            frequencies: Frequencies::default(),
        };
        for (line, text) in meaningful(weights) {
            let words: Vec<&str> = text.split_whitespace().collect();
            model
                .take(&words)
                .map_err(|problem| BadModel { line, problem })?;
        }
        for (line, text) in meaningful(frequencies) {
            let words: Vec<&str> = text.split_whitespace().collect();
            model
                .frequencies
                .take(&words)
                .map_err(|problem| BadModel { line, problem })?;
        }
        Ok(model)
    }

    fn take(&mut self, words: &[&str]) -> Result<(), &'static str> {
        let number = |word: &str| word.parse::<f32>().map_err(|_| "not a number");
        match words {
            ["version", version] => (*version).clone_into(&mut self.version),
            ["link", bits] => self.link_bits = number(bits)?,
            ["review", bits] => self.review_bits = number(bits)?,
            ["prior", kinds @ ..] if kinds.len() == KINDS => {
                for (prior, word) in self.prior.iter_mut().zip(kinds) {
                    *prior = number(word)?.log2();
                }
            }
            [field, level, matching, rest @ ..] if matches!(rest.len(), 4 | 5) => {
                let table = TABLES.iter().position(|(_, name, _)| name == field);
                let at = table.ok_or("no such field")?;
                let (_, _, names) = TABLES.get(at).ok_or("no such field")?;
                let level = names
                    .iter()
                    .position(|name| name == level)
                    .ok_or("no such level")?;
                let weight = self
                    .weights
                    .get_mut(at)
                    .and_then(|table| table.get_mut(level));
                let weight = weight.ok_or("no such level")?;
                let ages: Vec<&str> = matching.split('/').collect();
                for (age, matching) in weight.matching.iter_mut().enumerate() {
                    *matching = number(ages.get(age).or(ages.last()).ok_or("no number")?)?.log2();
                }
                for (other, word) in weight.other.iter_mut().zip(rest) {
                    *other = number(word)?.log2();
                }
                weight.namesake = rest
                    .get(4)
                    .or(rest.first())
                    .map_or(Ok(0.0), |word| number(word))?
                    .log2();
            }
            _ => return Err("not understood"),
        }
        Ok(())
    }

    /// How much evidence it takes to single one person out of all, in bits.
    pub fn people_bits(&self) -> f32 {
        self.prior.get(1).copied().unwrap_or_default()
    }

    /// Whether a family name is listed: an unsplit name is split behind it.
    pub fn is_family(&self, name: &str) -> bool {
        self.frequencies.is_family(name)
    }

    /// What a relation is worth.
    pub fn weigh(&self, a: &Traits, b: &Traits, relation: &Relation) -> Score {
        let levels = levels(relation);
        let age = age(relation.days);
        let namesake = relation.namesake();
        let names = self.frequencies.coincidences(a, b, relation);
        let mut score = Score {
            kinds: self.prior,
            fields: [0.0; FIELDS],
            prior: 0.0,
        };
        let mut parts = [[0.0_f32; KINDS]; FIELDS];
        for ((at, level), part) in levels.iter().enumerate().zip(parts.iter_mut()) {
            let Some(weight) = level.and_then(|level| self.weights.get(at)?.get(level)) else {
                continue;
            };
            let [matching, others @ ..] = part;
            *matching = weight.matching.get(age).copied().unwrap_or_default();
            *others = weight.other;
            let [stranger, ..] = others;
            match at {
                0 => *stranger += names.0,
                1 => *stranger += names.1,
                _ if namesake => *stranger = weight.namesake,
                _ => {}
            }
            if at == Field::Phone as usize && shared_house(relation) {
                let [stranger, _, _, double] = others;
                (*stranger, *double) = (SHARED_LINE_BITS, SHARED_LINE_BITS);
            }
        }
        for part in &parts {
            for (kind, bits) in score.kinds.iter_mut().zip(part) {
                *kind += bits;
            }
        }
        // The rival that decides is the likeliest; each field's share is told against it.
        let rival = score.rival();
        score.prior = self.prior.first().copied().unwrap_or_default()
            - self.prior.get(rival).copied().unwrap_or_default();
        for (field, part) in score.fields.iter_mut().zip(&parts) {
            *field = part.first().copied().unwrap_or_default()
                - part.get(rival).copied().unwrap_or_default();
        }
        score
    }
}

/// A weighed relation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// log2 of prior and likelihood of each kind.
    pub kinds: [f32; KINDS],
    /// Each field's bits for a match, against the likeliest other kind.
    pub fields: [f32; FIELDS],
    /// How many more people there are for the likeliest other kind than for a match: negative bits.
    pub prior: f32,
}

impl Score {
    /// Bits for a match against everything else.
    pub fn bits(&self) -> f32 {
        self.kinds.first().copied().unwrap_or_default() - self.against()
    }

    fn against(&self) -> f32 {
        let others = self.kinds.get(1..).unwrap_or_default();
        let most = others.iter().copied().fold(f32::MIN, f32::max);
        most + others
            .iter()
            .map(|bits| (bits - most).exp2())
            .sum::<f32>()
            .log2()
    }

    /// The likeliest kind of non-match.
    pub fn rival(&self) -> usize {
        let others = self.kinds.iter().enumerate().skip(1);
        others
            .max_by(|x, y| x.1.total_cmp(y.1))
            .map_or(1, |(at, _)| at)
    }

    /// Bits between one person and the likeliest other explanation, and that explanation.
    pub fn margin(&self) -> (f32, Kind) {
        let rival = self.rival();
        let kind = ALL_KINDS.get(rival).copied().unwrap_or(Kind::Stranger);
        let bits = |at: usize| self.kinds.get(at).copied().unwrap_or_default();
        (bits(0) - bits(rival), kind)
    }
}

fn meaningful(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines().map(str::trim))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}
