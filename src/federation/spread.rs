//! What a community holds, in short: patients spread over places by a salted hash, and a sum for each
//! place, so that two sides find where they differ without naming everybody. Pure.

use aws_lc_rs::digest::{Context, SHA256};

use crate::types::PatientIdentifier;

/// Bits of a place at most: 65,536 places, whose sums are 1 MiB.
pub(super) const MAX_BITS: u32 = 16;
/// Octets of the salt.
pub(super) const SALT: usize = 16;
/// Octets of a sum.
const SUM: usize = 16;
/// Patients of one place, about: what is named for one that differs.
const OF_A_PLACE: u64 = 128;

type Sum = [u8; SUM];

/// How patients are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    salt: [u8; SALT],
    bits: u32,
}

impl Spread {
    /// By a salt over `2^bits` places; nothing if there are too many.
    pub(super) fn new(salt: [u8; SALT], bits: u32) -> Option<Self> {
        (bits <= MAX_BITS).then_some(Self { salt, bits })
    }

    /// Where a patient is, and what stands for the patient in the sum.
    pub(super) fn place_of(&self, patient: &PatientIdentifier) -> (u32, Sum) {
        let mut context = Context::new(&SHA256);
        context.update(&self.salt);
        context.update(patient.to_cx().as_bytes());
        let hash = context.finish();
        let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
        let last = hash.as_ref().last_chunk().copied().unwrap_or_default();
        let place = u32::from_be_bytes(first).checked_shr(u32::BITS - self.bits);
        (place.unwrap_or_default(), last)
    }

    /// How many places there are.
    pub(super) fn places(&self) -> usize {
        1 << self.bits
    }
}

/// So many bits that a place has not many more than [`OF_A_PLACE`] of so many patients.
pub(super) fn bits_for(count: u64) -> u32 {
    let enough = |bits: &u32| count >> bits <= OF_A_PLACE;
    (0..MAX_BITS).find(enough).unwrap_or(MAX_BITS)
}

/// The sum of each place. The patients that are added must differ: twice the same is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    count: u64,
    sums: Vec<Sum>,
}

impl Sums {
    /// Of nobody.
    pub(super) fn new(spread: &Spread) -> Self {
        Self {
            count: 0,
            sums: vec![Sum::default(); spread.places()],
        }
    }

    /// Adds a patient who is at `place`.
    pub(super) fn add(&mut self, (place, hash): (u32, Sum)) {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if let Some(sum) = self.sums.get_mut(place) {
            self.count += 1;
            *sum = both(*sum, hash);
        }
    }

    /// How many were added.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The same patients over fewer places.
    pub(super) fn folded(&self, bits: u32) -> Self {
        let width = self.sums.len().checked_shr(bits).unwrap_or_default();
        let fold = |part: &[Sum]| part.iter().copied().fold(Sum::default(), both);
        Self {
            count: self.count,
            sums: self.sums.chunks(width.max(1)).map(fold).collect(),
        }
    }

    /// As they are sent: one after the other.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.sums.concat()
    }

    /// The places at which these differ from those that were sent; nothing if those are not as many.
    pub(super) fn differing(&self, sent: &[u8]) -> Option<Vec<u32>> {
        if sent.len() != self.sums.len() * SUM {
            return None;
        }
        let pairs = (0..).zip(self.sums.iter().zip(sent.chunks(SUM)));
        let apart = pairs.filter(|(_, (here, there))| here.as_slice() != *there);
        Some(apart.map(|(place, _)| place).collect())
    }
}

fn both(mut one: Sum, other: Sum) -> Sum {
    for (octet, more) in one.iter_mut().zip(other) {
        *octet ^= more;
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patient(number: u32) -> PatientIdentifier {
        PatientIdentifier {
            authority: "1.2.3".parse().unwrap(),
            id: number.to_string().parse().unwrap(),
        }
    }

    fn sums(spread: &Spread, patients: impl Iterator<Item = u32>) -> Sums {
        let mut sums = Sums::new(spread);
        patients.for_each(|number| sums.add(spread.place_of(&patient(number))));
        sums
    }

    #[test]
    fn only_places_with_a_difference_differ_whatever_the_order() {
        let spread = Spread::new([7; SALT], 6).unwrap();
        let here = sums(&spread, 0..1_000);
        let there = sums(&spread, (0..1_000).rev());
        assert_eq!(here.differing(&there.to_bytes()), Some(Vec::new()));
        assert_eq!(here.count(), 1_000);

        let there = sums(&spread, (0..1_001).filter(|number| *number != 17));
        let (lacking, more) = (patient(17), patient(1_000));
        let mut places = [&lacking, &more].map(|one| spread.place_of(one).0);
        places.sort_unstable();
        assert_eq!(here.differing(&there.to_bytes()), Some(places.to_vec()));
        assert_eq!(here.differing(&[0; 16]), None, "of other places");
    }

    #[test]
    fn over_fewer_places_it_is_as_if_it_had_been_counted_so() {
        let salt = [3; SALT];
        let many = sums(&Spread::new(salt, MAX_BITS).unwrap(), 0..500);
        for bits in [0, 1, 5, MAX_BITS] {
            let few = sums(&Spread::new(salt, bits).unwrap(), 0..500);
            assert_eq!(many.folded(bits), few, "{bits}");
        }
        assert_eq!(Spread::new(salt, MAX_BITS + 1), None);
    }

    #[test]
    fn a_place_has_few_patients() {
        assert_eq!(bits_for(0), 0);
        assert_eq!(bits_for(128), 0);
        assert_eq!(bits_for(129), 1);
        assert_eq!(bits_for(1_000_000), 13);
        assert_eq!(bits_for(u64::MAX), MAX_BITS);
    }
}
