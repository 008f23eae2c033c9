//! Fictional towns in real prefectures, and their institutions.

use super::codes::institution_code;
use super::model::{InstitutionKind, SampleInstitution, SampleRegion};
use super::rng::Rng;

/// A municipality that does not exist.
struct Town {
    name_ja: &'static str,
    name_romaji: &'static str,
    suffix: &'static str,
    prefecture_ja: &'static str,
    prefecture: u8,
    postal: &'static str,
    area_code: &'static str,
}

const TOWNS: [Town; 6] = [
    town("風待", "Kazemachi", "市", ("長野県", 20), "38999", "0269"),
    town(
        "藤ヶ浜",
        "Fujigahama",
        "市",
        ("静岡県", 22),
        "43699",
        "0537",
    ),
    town("雪代", "Yukishiro", "市", ("岩手県", 3), "02999", "0195"),
    town("霧立", "Kiritachi", "市", ("岐阜県", 21), "50999", "0573"),
    town("若鷺", "Wakasagi", "市", ("新潟県", 15), "95999", "0254"),
    town("明星川", "Myojogawa", "町", ("熊本県", 43), "86999", "0966"),
];

const fn town(
    name_ja: &'static str,
    name_romaji: &'static str,
    suffix: &'static str,
    (prefecture_ja, prefecture): (&'static str, u8),
    postal: &'static str,
    area_code: &'static str,
) -> Town {
    Town {
        name_ja,
        name_romaji,
        suffix,
        prefecture_ja,
        prefecture,
        postal,
        area_code,
    }
}

const DISTRICTS: [&str; 8] = [
    "若葉町",
    "中央",
    "港町",
    "桜台",
    "東原",
    "本町",
    "緑ヶ丘",
    "字中野",
];

/// How many institutions of a region see patients (the pharmacy, last, does not).
pub(super) const CLINICAL_INSTITUTIONS: usize = 4;

fn town_of(region: usize) -> &'static Town {
    TOWNS.iter().cycle().nth(region).unwrap_or(&TOWNS[0])
}

/// The first `count` regions.
pub(super) fn regions(count: usize) -> Vec<SampleRegion> {
    (0..count).map(region).collect()
}

fn region(index: usize) -> SampleRegion {
    let town = town_of(index);
    let round = index / TOWNS.len();
    let (mark_ja, mark_en) = match round {
        0 => (String::new(), String::new()),
        again => (format!("第{}", again + 1), format!(" {}", again + 1)),
    };
    let institution = |kind, number, ja: &str, en: &str, emergency| {
        let fee_table = if kind == InstitutionKind::Pharmacy {
            4
        } else {
            1
        };
        SampleInstitution {
            code: institution_code(town.prefecture, fee_table, index + 1, number),
            name_ja: format!("{}{mark_ja}{ja}", town.name_ja),
            name_romaji: format!("{}{mark_en} {en}", town.name_romaji),
            kind,
            emergency,
        }
    };
    SampleRegion {
        name_ja: format!("{}{mark_ja}地域医療ネットワーク", town.name_ja),
        name_en: format!("{}{mark_en} Regional Health Network", town.name_romaji),
        prefecture_ja: town.prefecture_ja.to_owned(),
        city_ja: format!("{}{}", town.name_ja, town.suffix),
        institutions: vec![
            institution(
                InstitutionKind::Hospital,
                17,
                "総合医療センター",
                "Medical Center",
                true,
            ),
            institution(
                InstitutionKind::Hospital,
                38,
                "みどり病院",
                "Midori Hospital",
                false,
            ),
            institution(
                InstitutionKind::Clinic,
                412,
                "すずかけ診療所",
                "Suzukake Clinic",
                false,
            ),
            institution(
                InstitutionKind::Clinic,
                605,
                "ひだまり医院",
                "Hidamari Clinic",
                false,
            ),
            institution(
                InstitutionKind::Pharmacy,
                83,
                "はなみずき薬局",
                "Hanamizuki Pharmacy",
                false,
            ),
        ],
    }
}

/// A home address with its telephone.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) postal: String,
    pub(super) state: &'static str,
    pub(super) city: String,
    pub(super) district: &'static str,
    /// 丁目, 番, 号.
    pub(super) lot: (i32, i32, i32),
    pub(super) phone: String,
}

impl Address {
    /// A random address in the town of `region`. Telephone numbers have an exchange that starts
    /// with 0, which is never assigned.
    pub(super) fn random(rng: &mut Rng, region: usize) -> Self {
        let town = town_of(region);
        let subscriber = rng.between(0, 9999);
        let phone = if rng.percent(60) {
            format!("090-0{:03}-{subscriber:04}", rng.between(0, 999))
        } else {
            format!("{}-0{}-{subscriber:04}", town.area_code, rng.between(0, 9))
        };
        Self {
            postal: format!("{}{:02}", town.postal, rng.between(1, 60)),
            state: town.prefecture_ja,
            city: format!("{}{}", town.name_ja, town.suffix),
            district: *rng.pick(&DISTRICTS, &DISTRICTS[0]),
            lot: (rng.between(1, 6), rng.between(1, 30), rng.between(1, 25)),
            phone,
        }
    }

    /// `若葉町2丁目3番4号`, or in short `若葉町2-3-4`.
    pub(super) fn line(&self, short: bool) -> String {
        let (block, house, number) = self.lot;
        if short {
            format!("{}{block}-{house}-{number}", self.district)
        } else {
            format!("{}{block}丁目{house}番{number}号", self.district)
        }
    }

    /// Seven digits, with or without hyphen.
    pub(super) fn postal_code(&self, hyphen: bool) -> String {
        match self.postal.split_at_checked(3) {
            Some((area, rest)) if hyphen => format!("{area}-{rest}"),
            _ => self.postal.clone(),
        }
    }
}

/// 都道府県番号 of a region.
pub(super) fn prefecture_number(region: usize) -> u8 {
    town_of(region).prefecture
}
