//! A person as they are, and how one institution or another has written them down.

use jiff::civil::Date;

use super::codes::with_check_digit;
use super::kana;
use super::model::{InstitutionKind, SampleRecord, SampleRegion, Sex};
use super::names::{FAMILIES, MEN, Name, WOMEN};
use super::places::{Address, CLINICAL_INSTITUTIONS, prefecture_number};
use super::rng::Rng;
use super::wareki::{Spelling, spell};

/// The truth about a person.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) truth: usize,
    pub(super) home: usize,
    pub(super) family: &'static Name,
    pub(super) given: &'static Name,
    pub(super) sex: Sex,
    pub(super) birth: Date,
    pub(super) address: Address,
    /// Where they lived before.
    pub(super) former_address: Address,
    pub(super) insurance: Insurance,
    /// Offset that decides which institutions they visit.
    pub(super) visits: usize,
}

/// 保険者番号, 記号, 番号, 枝番.
#[derive(Clone)]
pub(super) struct Insurance {
    pub(super) insurer: String,
    pub(super) symbol: String,
    pub(super) number: String,
    pub(super) branch: String,
}

/// In what an institution's record departs from the plain truth.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quirk {
    /// 髙橋 for 高橋, 眞一 for 真一.
    KanjiVariant,
    /// ﾀｶﾊｼ for タカハシ.
    HalfWidthKana,
    /// シヨウ for ショウ.
    LargeKana,
    /// The address of before the move.
    OldAddress,
    /// Insured before branch numbers came.
    NoBranch,
    /// Registered before the marriage, under this name.
    MaidenName(&'static Name),
    /// Registered after the marriage, with this former name.
    FormerName(&'static Name),
}

/// Everyone of seventy-five and over is insured by the prefecture's 後期高齢者 scheme.
const LATE_ELDERLY_AGE: i16 = 75;

impl Identity {
    /// A random person of an age in `ages`.
    pub(super) fn random(
        rng: &mut Rng,
        truth: usize,
        home: usize,
        (youngest, oldest): (i32, i32),
        today: Date,
    ) -> Self {
        let sex = if rng.percent(50) {
            Sex::Male
        } else {
            Sex::Female
        };
        let age = i16::try_from(rng.between(youngest, oldest)).unwrap_or_default();
        let birth = birth_date(rng, age, today);
        Self {
            truth,
            home,
            family: rng.pick(&FAMILIES, &FAMILIES[0]),
            given: given_name(rng, sex),
            sex,
            birth,
            address: Address::random(rng, home),
            former_address: Address::random(rng, home),
            insurance: Insurance::random(rng, home, today.year() - birth.year()),
            visits: rng.below(CLINICAL_INSTITUTIONS),
        }
    }

    /// With a chosen sex and a given name to suit.
    pub(super) fn of_sex(mut self, rng: &mut Rng, sex: Sex) -> Self {
        self.sex = sex;
        self.given = given_name(rng, sex);
        self
    }

    /// Where the person's visit number `slot` takes them: the regions in turn, and never the same
    /// institution twice while `slot` is below [`CLINICAL_INSTITUTIONS`].
    pub(super) fn place(&self, slot: usize, regions: usize) -> (usize, usize) {
        let region = (self.home + slot) % regions.max(1);
        (region, (self.visits + slot) % CLINICAL_INSTITUTIONS)
    }

    /// The record made at visit number `slot`.
    pub(super) fn record(
        &self,
        regions: &[SampleRegion],
        slot: usize,
        quirks: &[Quirk],
    ) -> SampleRecord {
        let (region, institution) = self.place(slot, regions.len());
        let kind = regions
            .get(region)
            .and_then(|region| region.institutions.get(institution))
            .map_or(InstitutionKind::Clinic, |institution| institution.kind);
        let has = |quirk: Quirk| quirks.contains(&quirk);
        let address = if has(Quirk::OldAddress) {
            &self.former_address
        } else {
            &self.address
        };
        let family = self.family_in(quirks);
        let former = quirks.iter().find_map(|quirk| match quirk {
            Quirk::FormerName(name) => Some(name),
            _ => None,
        });
        let kanji = |name: &Name| {
            if has(Quirk::KanjiVariant) {
                name.variant
            } else {
                name.kanji
            }
        };
        let branch = if has(Quirk::NoBranch) {
            ""
        } else {
            &self.insurance.branch
        };
        SampleRecord {
            region,
            institution,
            local_id: local_id(self.truth, region, kind),
            family_kanji: kanji(family).to_owned(),
            given_kanji: kanji(self.given).to_owned(),
            family_kana: kana_with(family, quirks),
            given_kana: kana_with(self.given, quirks),
            family_romaji: family.romaji.to_owned(),
            given_romaji: self.given.romaji.to_owned(),
            sex: self.sex,
            birth_date: self.birth.to_string(),
            birth_date_text: spell(self.birth, spelling_at(region, institution)),
            postal_code: address.postal_code(kind == InstitutionKind::Hospital),
            state: address.state.to_owned(),
            city: address.city.clone(),
            line: address.line(institution % 2 == 1),
            phone: address.phone.clone(),
            insurer_number: self.insurance.insurer.clone(),
            symbol: self.insurance.symbol.clone(),
            number: self.insurance.number.clone(),
            branch: branch.to_owned(),
            former_family_kanji: former.map(|name| name.kanji.to_owned()),
            former_family_kana: former.map(|name| kana_with(name, quirks)),
        }
    }

    fn family_in(&self, quirks: &[Quirk]) -> &'static Name {
        let maiden = quirks.iter().find_map(|quirk| match quirk {
            Quirk::MaidenName(name) => Some(*name),
            _ => None,
        });
        maiden.unwrap_or(self.family)
    }
}

impl Insurance {
    /// Insurance to suit the age: by prefecture from seventy-five, else by town or employer.
    pub(super) fn random(rng: &mut Rng, home: usize, age: i16) -> Self {
        let prefecture = prefecture_number(home);
        let body = rng.between(100, 899);
        if age >= LATE_ELDERLY_AGE {
            return Self {
                insurer: with_check_digit(&format!("39{prefecture:02}{body}")),
                symbol: String::new(),
                number: rng.digits(8),
                branch: String::new(),
            };
        }
        let branch = format!("{:02}", rng.between(1, 4));
        match rng.below(3) {
            0 => Self {
                insurer: with_check_digit(&format!("{prefecture:02}{body}")),
                symbol: format!("{}国", rng.pick(&["風", "東", "緑"], &"風")),
                number: rng.digits(7),
                branch,
            },
            1 => Self {
                insurer: with_check_digit(&format!("01{prefecture:02}001")),
                symbol: rng.digits(8),
                number: rng.digits(3),
                branch,
            },
            _ => Self {
                insurer: with_check_digit(&format!("06{prefecture:02}{body}")),
                symbol: rng.digits(4),
                number: rng.digits(6),
                branch,
            },
        }
    }
}

fn birth_date(rng: &mut Rng, age: i16, today: Date) -> Date {
    let month = i8::try_from(rng.between(1, 12)).unwrap_or(1);
    let day = i8::try_from(rng.between(1, 28)).unwrap_or(1);
    // One year back at least, so that nobody is born after today.
    Date::new(today.year() - age.max(1), month, day).unwrap_or(today)
}

fn given_name(rng: &mut Rng, sex: Sex) -> &'static Name {
    match sex {
        Sex::Male => rng.pick(&MEN, &MEN[0]),
        Sex::Female => rng.pick(&WOMEN, &WOMEN[0]),
    }
}

fn kana_with(name: &Name, quirks: &[Quirk]) -> String {
    let letters = if quirks.contains(&Quirk::LargeKana) {
        kana::without_small(name.kana)
    } else {
        name.kana.to_owned()
    };
    if quirks.contains(&Quirk::HalfWidthKana) {
        kana::half_width(&letters)
    } else {
        letters
    }
}

/// Hospitals print ten digits, others eight; distinct for each person of an institution.
fn local_id(truth: usize, region: usize, kind: InstitutionKind) -> String {
    let number = 1_013 + truth * 7 + region * 3;
    match kind {
        InstitutionKind::Hospital => format!("{number:010}"),
        InstitutionKind::Clinic | InstitutionKind::Pharmacy => format!("{number:08}"),
    }
}

/// Each institution's system has one way to write dates.
fn spelling_at(region: usize, institution: usize) -> Spelling {
    match (region + institution) % 4 {
        0 => Spelling::Era,
        1 => Spelling::Iso,
        2 => Spelling::EraLetter,
        _ => Spelling::Compact,
    }
}
