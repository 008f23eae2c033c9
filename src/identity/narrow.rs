//! What is known of who is sought that nobody is found by: an age, a part of an address.

use super::compare::Traits;
use super::matching::normalize::address::{self, Place};

/// Bits of an address that fits: one municipality in a hundred or so.
pub const ADDRESS_BITS: f64 = 7.0;
/// Bits more of a town that fits.
const TOWN_BITS: f64 = 3.0;
/// Years that an age may be uncertain by, and still say as much as another item.
const TELLING_YEARS: i64 = 20;

/// What is known beside what people are found by. Who does not fit is left out and who fits better
/// comes first, before a list is cut. Patient data: no `Debug`.
#[derive(Clone, Default)]
pub struct Narrowing {
    born: Option<(i64, i64)>,
    place: Place,
}

impl Narrowing {
    /// Born from one year to another, both included, if that is known; living at `address`, a whole
    /// one or its beginning from the municipality on (empty: unknown).
    pub fn new(born: Option<(i64, i64)>, address: &str) -> Self {
        Self {
            born,
            place: address::place(address, ""),
        }
    }

    /// Whether anything is known.
    pub(super) fn is_any(&self) -> bool {
        self.born.is_some() || !self.place.is_empty()
    }

    /// How many items it is, beside those that are searched by. An age says nothing beside a birth
    /// date.
    pub(super) fn items(&self, wanted: &Traits) -> usize {
        let telling = |(from, to): (i64, i64)| to - from <= TELLING_YEARS;
        let age = wanted.birth.is_none() && self.born.is_some_and(telling);
        usize::from(age) + usize::from(self.place.city != 0)
    }

    /// Whether a record may be of who is sought. One without a birth date may.
    pub(super) fn fits(&self, known: &Traits) -> bool {
        let (Some((from, to)), Some(birth)) = (self.born, known.birth) else {
            return true;
        };
        (from..=to).contains(&i64::from(birth.year))
    }

    /// The bits that a record has more than others, for its address.
    pub(super) fn bits(&self, known: &Traits) -> f64 {
        let places = known.places.iter();
        places
            .map(|place| place_bits(&self.place, place))
            .fold(0.0, f64::max)
    }
}

fn place_bits(wanted: &Place, place: &Place) -> f64 {
    let prefectures = wanted.prefecture != 0 && place.prefecture != 0;
    if prefectures && wanted.prefecture != place.prefecture {
        return 0.0;
    }
    match wanted.city {
        // Only a prefecture is known.
        0 if prefectures => ADDRESS_BITS,
        0 => 0.0,
        city if city != place.city => 0.0,
        _ if wanted.town != 0 && wanted.town == place.town => ADDRESS_BITS + TOWN_BITS,
        _ => ADDRESS_BITS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn living_at(address: &str) -> Traits {
        let mut known = Traits::default();
        known.add_address(address, "");
        known
    }

    #[test]
    fn an_address_counts_as_far_as_it_is_known() {
        let known = living_at("東京都文京区見本町3-7-1");
        for (heard, bits) in [
            ("", 0.0),
            ("文京区", ADDRESS_BITS),
            ("東京都文京区", ADDRESS_BITS),
            ("東京都", ADDRESS_BITS),
            ("文京区見本町", ADDRESS_BITS + TOWN_BITS),
            ("大阪府文京区", 0.0),
            ("港区", 0.0),
        ] {
            let found = Narrowing::new(None, heard).bits(&known);
            assert!((found - bits).abs() < 0.01, "{heard}: {found}");
        }
    }

    #[test]
    fn an_age_counts_if_no_birth_date_is_known_and_it_says_something() {
        let mut born = Traits::default();
        born.set_birth_date("1950-04-01");
        let unknown = Traits::default();
        let narrow = Narrowing::new(Some((1946, 1956)), "");
        assert!(narrow.is_any() && narrow.fits(&born) && narrow.fits(&unknown));
        assert_eq!((narrow.items(&unknown), narrow.items(&born)), (1, 0));
        assert!(!Narrowing::new(Some((1951, 1956)), "").fits(&born));
        assert_eq!(Narrowing::new(Some((1900, 2020)), "").items(&unknown), 0);
        assert!(!Narrowing::default().is_any());
    }
}
