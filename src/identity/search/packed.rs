//! What matching knows of one record, as few bytes: so it lies in memory, and beside the patient's
//! row, so that opening a node need not normalise every name again.
//!
//! ```text
//! marks 1 (1 birth date known · 2 female · 4 male · 8 placeholder · 16 namesake warning)
//! year 2 · month 1 · day 1, if the birth date is known
//! day the values were true at (zigzag varint)
//! names in kanji, in kana, in the alphabet: number, then of each family and given name
//! telephones: number, then each as varint
//! places: number, then of each prefecture 1 · city 4 · town 4 · four numbers and postal code as varints
//! policies: number, then of each insurer as varint · symbol · number · branch + 1, or 0
//! ```
//!
//! Numbers of things and lengths are varints of seven bits a byte, lowest first; texts are UTF-8.

use crate::identity::compare::{NameKey, Policy, Sex, Traits};
use crate::identity::matching::normalize::address::Place;
use crate::identity::matching::normalize::date::BirthDate;
use crate::identity::matching::normalize::number::PolicyNumber;

/// Version of this form.
pub(super) const FORM: u8 = 1;

const BIRTH: u8 = 1;
const FEMALE: u8 = 2;
const MALE: u8 = 4;
const PLACEHOLDER: u8 = 8;
const NAMESAKE: u8 = 16;

/// Appends what is known of a record.
pub(super) fn pack(out: &mut Vec<u8>, traits: &Traits) {
    let mark = |set: bool, mark: u8| if set { mark } else { 0 };
    out.push(
        mark(traits.birth.is_some(), BIRTH)
            | mark(traits.sex == Some(Sex::Female), FEMALE)
            | mark(traits.sex == Some(Sex::Male), MALE)
            | mark(traits.placeholder_given, PLACEHOLDER)
            | mark(traits.namesake_warning, NAMESAKE),
    );
    if let Some(birth) = traits.birth {
        out.extend_from_slice(&birth.year.to_be_bytes());
        out.extend_from_slice(&[birth.month, birth.day]);
    }
    let as_of = (traits.as_of << 1) ^ (traits.as_of >> 31);
    number(out, u64::from(as_of.cast_unsigned()));
    for names in [&traits.kanji, &traits.kana, &traits.romaji] {
        number(out, names.len() as u64);
        for name in names {
            text(out, &name.family);
            text(out, &name.given);
        }
    }
    number(out, traits.phones.len() as u64);
    for phone in &traits.phones {
        number(out, *phone);
    }
    number(out, traits.places.len() as u64);
    for place in &traits.places {
        out.push(place.prefecture);
        out.extend_from_slice(&place.city.to_be_bytes());
        out.extend_from_slice(&place.town.to_be_bytes());
        for part in place.numbers {
            number(out, u64::from(part));
        }
        number(out, u64::from(place.postal));
    }
    number(out, traits.policies.len() as u64);
    for Policy { number: of, branch } in &traits.policies {
        number(out, u64::from(of.insurer));
        text(out, &of.symbol);
        text(out, &of.number);
        number(out, branch.map_or(0, |branch| u64::from(branch) + 1));
    }
}

/// Appends a number, seven bits a byte.
pub(super) fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7F).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

/// Appends a text behind its length.
pub(super) fn text(out: &mut Vec<u8>, value: &str) {
    number(out, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

/// What [`pack`] appended; `None` if the bytes are of another making.
pub(super) fn unpack(bytes: &[u8]) -> Option<Traits> {
    let mut reader = Reader(bytes);
    let traits = reader.traits()?;
    reader.0.is_empty().then_some(traits)
}

/// The bytes that are still to be read.
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl<'b> Reader<'b> {
    fn traits(&mut self) -> Option<Traits> {
        let marks = self.byte()?;
        let is = |mark: u8| marks & mark != 0;
        let birth = match is(BIRTH) {
            true => Some(self.birth()?),
            false => None,
        };
        let sex = match (is(FEMALE), is(MALE)) {
            (true, false) => Some(Sex::Female),
            (false, true) => Some(Sex::Male),
            (false, false) => None,
            (true, true) => return None,
        };
        let as_of = u32::try_from(self.number()?).ok()?;
        Some(Traits {
            birth,
            sex,
            placeholder_given: is(PLACEHOLDER),
            namesake_warning: is(NAMESAKE),
            as_of: (as_of >> 1).cast_signed() ^ -(as_of & 1).cast_signed(),
            kanji: self.list(Self::name)?,
            kana: self.list(Self::name)?,
            romaji: self.list(Self::name)?,
            phones: self.list(Self::number)?,
            places: self.list(Self::place)?,
            policies: self.list(Self::policy)?,
        })
    }

    fn birth(&mut self) -> Option<BirthDate> {
        Some(BirthDate {
            year: i16::from_be_bytes(self.fixed()?),
            month: self.byte()?,
            day: self.byte()?,
        })
    }

    fn name(&mut self) -> Option<NameKey> {
        Some(NameKey {
            family: self.text()?.into(),
            given: self.text()?.into(),
        })
    }

    fn place(&mut self) -> Option<Place> {
        let mut place = Place {
            prefecture: self.byte()?,
            city: u32::from_be_bytes(self.fixed()?),
            town: u32::from_be_bytes(self.fixed()?),
            ..Place::default()
        };
        for part in &mut place.numbers {
            *part = u16::try_from(self.number()?).ok()?;
        }
        place.postal = u32::try_from(self.number()?).ok()?;
        Some(place)
    }

    fn policy(&mut self) -> Option<Policy> {
        let number = PolicyNumber {
            insurer: u32::try_from(self.number()?).ok()?,
            symbol: self.text()?.into(),
            number: self.text()?.into(),
        };
        let branch = match self.number()? {
            0 => None,
            more => Some(u8::try_from(more - 1).ok()?),
        };
        Some(Policy { number, branch })
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = usize::try_from(self.number()?).ok()?;
        // Each takes a byte at least: what is no length of ours takes no memory.
        if length > self.0.len() {
            return None;
        }
        let mut all = Vec::with_capacity(length);
        for _ in 0..length {
            all.push(one(self)?);
        }
        Some(all)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn text(&mut self) -> Option<&'b str> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}
