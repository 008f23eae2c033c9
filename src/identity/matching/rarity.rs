//! How rare names are, and what it costs two strangers to share one.

use std::collections::HashMap;

use super::record::{NameKey, Traits};
use super::relate::{NameLevel, Relation};

/// What a name's frequency is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NameKind {
    /// Family name in kanji.
    FamilyKanji,
    /// Family name in kana.
    FamilyKana,
    /// Given name in kanji.
    GivenKanji,
    /// Given name in kana.
    GivenKana,
}

pub(super) const NAME_KINDS: [(NameKind, &str); 4] = [
    (NameKind::FamilyKanji, "family-kanji"),
    (NameKind::FamilyKana, "family-kana"),
    (NameKind::GivenKanji, "given-kanji"),
    (NameKind::GivenKana, "given-kana"),
];

/// log2 of the share of a name of which only part is known.
const MIDDLING_BITS: f32 = -9.0;

/// How much likelier two people of one age share a given name than two of any age, in bits: names
/// go by decades.
const FASHION_BITS: f32 = 2.0;

fn frequency_key(kind: NameKind, name: &str) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325 ^ (kind as u64);
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    hash
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Family,
    Given,
}

impl Part {
    fn of(self, name: &NameKey) -> &str {
        match self {
            Self::Family => &name.family,
            Self::Given => &name.given,
        }
    }
}

/// log2 of the shares of names, and of those that are not listed.
#[derive(Debug)]
pub struct Frequencies {
    listed: HashMap<u64, f32>,
    floors: [f32; 4],
}

impl Default for Frequencies {
    fn default() -> Self {
        Self {
            listed: HashMap::new(),
            floors: [-16.0; 4],
        }
    }
}

impl Frequencies {
    /// Takes a line: kind, name, bits.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn take(&mut self, words: &[&str]) -> Result<(), &'static str> {
        let [kind, name, bits] = words else {
            return Err("not a kind, a name and bits");
        };
        let kind = NAME_KINDS.iter().find(|(_, word)| word == kind);
        let (kind, _) = kind.ok_or("no such kind of name")?;
        let bits = -bits.parse::<f32>().map_err(|_| "not a number")?;
        if *name == "*" {
            let floor = self.floors.get_mut(*kind as usize);
            *floor.ok_or("no such kind of name")? = bits;
        } else {
            self.listed.insert(frequency_key(*kind, name), bits);
        }
        Ok(())
    }

    /// log2 of the part of all people that has this name; what is not listed is as rare as the
    /// rarest that is.
    pub fn of(&self, kind: NameKind, name: &str) -> f32 {
        let floor = || self.floors.get(kind as usize).copied().unwrap_or(-16.0);
        let listed = self.listed.get(&frequency_key(kind, name)).copied();
        listed.unwrap_or_else(floor)
    }

    pub(super) fn is_family(&self, name: &str) -> bool {
        let listed = |kind| self.listed.contains_key(&frequency_key(kind, name));
        listed(NameKind::FamilyKanji) || listed(NameKind::FamilyKana)
    }

    /// What the names that a relation shares cost a stranger, in bits: family, given.
    pub fn coincidences(&self, a: &Traits, b: &Traits, relation: &Relation) -> (f32, f32) {
        let of = |level: NameLevel, parts: (Part, Part)| self.coincidence(a, b, level, parts);
        if relation.swapped {
            // The same whichever of the two is said to have changed them: the likelier coincidence.
            let first = of(relation.given, (Part::Family, Part::Given));
            let second = of(relation.given, (Part::Given, Part::Family));
            return (first.max(second), first.max(second));
        }
        (
            of(relation.family, (Part::Family, Part::Family)),
            of(relation.given, (Part::Given, Part::Given)),
        )
    }

    /// log2 of the chance that two strangers agree so, beyond the level's own share: the frequency of
    /// the name they share.
    fn coincidence(&self, a: &Traits, b: &Traits, level: NameLevel, parts: (Part, Part)) -> f32 {
        let (of_a, of_b) = parts;
        let shared = |names: &[NameKey], others: &[NameKey], script: usize| {
            let names = names.iter().map(|name| of_a.of(name));
            let shared = names.filter(|name| others.iter().any(|other| of_b.of(other) == *name));
            shared
                .map(|name| self.rarity(parts, script, name))
                .reduce(f32::max)
        };
        let any = |names: &[NameKey], part: Part| {
            let names = names.iter().map(|name| part.of(name));
            names
                .map(|name| self.rarity(parts, 1, name))
                .reduce(f32::max)
        };
        let of_both = |x: Option<f32>, y: Option<f32>, pick: fn(f32, f32) -> f32| match (x, y) {
            (Some(x), Some(y)) => Some(pick(x, y)),
            (x, y) => x.or(y),
        };
        let in_kanji = || shared(&a.kanji, &b.kanji, 0);
        let in_kana = || shared(&a.kana, &b.kana, 1);
        let found = match level {
            NameLevel::Both => of_both(in_kanji(), in_kana(), f32::min),
            NameLevel::Kanji | NameLevel::KanjiNear | NameLevel::KanjiOnly => in_kanji(),
            NameLevel::Kana | NameLevel::KanaPart | NameLevel::KanaOther => in_kana(),
            NameLevel::Weak | NameLevel::Near | NameLevel::Romaji => {
                of_both(any(&a.kana, of_a), any(&b.kana, of_b), f32::max)
            }
            NameLevel::Masked => Some(MIDDLING_BITS),
            _ => return 0.0,
        };
        let fashion = if parts == (Part::Given, Part::Given) {
            FASHION_BITS
        } else {
            0.0
        };
        // A name that only agrees in one piece is taken to be as rare as most.
        (found.unwrap_or(MIDDLING_BITS) + fashion).min(-1.0)
    }

    /// log2 of a name's share: of the family or given names, whichever is more, if the parts changed
    /// places. Script 0 is kanji, 1 kana.
    fn rarity(&self, parts: (Part, Part), script: usize, name: &str) -> f32 {
        let kind = |part: Part| match (part, script) {
            (Part::Family, 0) => NameKind::FamilyKanji,
            (Part::Family, _) => NameKind::FamilyKana,
            (Part::Given, 0) => NameKind::GivenKanji,
            (Part::Given, _) => NameKind::GivenKana,
        };
        let (x, y) = (self.of(kind(parts.0), name), self.of(kind(parts.1), name));
        x.max(y)
    }
}
