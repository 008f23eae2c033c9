//! Who is in the sample: first the people with a part in the demo, then the others.

use jiff::civil::Date;

use super::model::{SampleConfig, SamplePerson, SampleRegion, Scenario, Sex};
use super::names::{FAMILIES, Name, name};
use super::person::{Identity, Insurance, Quirk};
use super::places::{Address, CLINICAL_INSTITUTIONS};
use super::rng::Rng;

/// The married woman's name before: one of the small-kana names, to be hard.
static MAIDEN: Name = name("中条", "中條", "チュウジョウ", "Chujo");
static MARRIED: Name = name("斎藤", "齋藤", "サイトウ", "Saito");
static TWIN_FAMILY: Name = name("桜井", "櫻井", "サクライ", "Sakurai");
static ELDER_TWIN: Name = name("結太", "結太", "ユイタ", "Yuita");
static YOUNGER_TWIN: Name = name("結斗", "結斗", "ユイト", "Yuito");

/// Pairs of namesakes among the others, besides those of the scenario.
const EXTRA_NAMESAKE_PAIRS: usize = 2;

/// People under construction.
struct Cast<'a> {
    rng: Rng,
    regions: &'a [SampleRegion],
    today: Date,
    identities: Vec<Identity>,
    people: Vec<SamplePerson>,
}

/// Everyone, with the truth about each in the same order.
pub(super) fn generate(
    config: &SampleConfig,
    regions: &[SampleRegion],
) -> (Vec<SamplePerson>, Vec<Identity>, Scenario) {
    let mut cast = Cast {
        rng: Rng::new(config.seed, 1),
        regions,
        today: config.reference_date,
        identities: Vec::new(),
        people: Vec::new(),
    };
    let scenario = Scenario {
        cross_region: cast.cross_region(),
        married: cast.married(),
        opted_out: cast.opted_out(),
        emergency: cast.emergency(),
        namesakes: cast.namesakes(&[Quirk::HalfWidthKana]),
        twins: cast.twins(),
    };
    for _ in 0..EXTRA_NAMESAKE_PAIRS {
        cast.namesakes(&[]);
    }
    while cast.people.len() < config.patients {
        cast.someone();
    }
    (cast.people, cast.identities, scenario)
}

impl Cast<'_> {
    fn identity(&mut self, home: usize, ages: (i32, i32)) -> Identity {
        let home = home % self.regions.len().max(1);
        let truth = self.people.len();
        Identity::random(&mut self.rng, truth, home, ages, self.today)
    }

    /// Adds a person with one record for each list of quirks.
    fn add(&mut self, identity: Identity, visits: &[&[Quirk]]) -> usize {
        let truth = self.people.len();
        let records = visits
            .iter()
            .enumerate()
            .map(|(slot, quirks)| identity.record(self.regions, slot, quirks))
            .collect();
        self.people.push(SamplePerson { truth, records });
        self.identities.push(identity);
        truth
    }

    fn cross_region(&mut self) -> usize {
        let mut identity = self
            .identity(0, (58, 58))
            .of_sex(&mut self.rng, Sex::Female);
        identity.family = &FAMILIES[0];
        identity.visits = 0;
        self.add(
            identity,
            &[&[], &[Quirk::KanjiVariant, Quirk::HalfWidthKana]],
        )
    }

    fn married(&mut self) -> usize {
        let mut identity = self
            .identity(0, (33, 33))
            .of_sex(&mut self.rng, Sex::Female);
        identity.family = &MARRIED;
        let before = [Quirk::MaidenName(&MAIDEN), Quirk::OldAddress];
        self.add(
            identity,
            &[
                &before,
                &[Quirk::FormerName(&MAIDEN)],
                &[Quirk::KanjiVariant],
            ],
        )
    }

    fn opted_out(&mut self) -> usize {
        let identity = self.identity(0, (46, 46));
        self.add(identity, &[&[], &[Quirk::LargeKana]])
    }

    /// Visit 0 is to the emergency hospital of region 0.
    fn emergency(&mut self) -> usize {
        let mut identity = self.identity(0, (83, 83)).of_sex(&mut self.rng, Sex::Male);
        identity.family = &FAMILIES[2];
        identity.visits = 0;
        self.add(
            identity,
            &[&[], &[Quirk::KanjiVariant], &[Quirk::HalfWidthKana]],
        )
    }

    fn namesakes(&mut self, quirks: &[Quirk]) -> (usize, usize) {
        let first = self.identity(0, (30, 70));
        let (truth, home) = (self.people.len() + 1, 1 % self.regions.len().max(1));
        let age = self.today.year() - first.birth.year();
        let second = Identity {
            truth,
            home,
            address: Address::random(&mut self.rng, home),
            former_address: Address::random(&mut self.rng, home),
            insurance: Insurance::random(&mut self.rng, home, age),
            visits: first.visits + 1,
            ..first.clone()
        };
        (self.add(first, &[&[]]), self.add(second, &[quirks]))
    }

    fn twins(&mut self) -> (usize, usize) {
        let mut elder = self.identity(0, (6, 6)).of_sex(&mut self.rng, Sex::Male);
        elder.family = &TWIN_FAMILY;
        elder.given = &ELDER_TWIN;
        "03".clone_into(&mut elder.insurance.branch);
        let mut younger = Identity {
            truth: elder.truth + 1,
            ..elder.clone()
        };
        younger.given = &YOUNGER_TWIN;
        "04".clone_into(&mut younger.insurance.branch);
        let visits: [&[Quirk]; 2] = [&[], &[Quirk::KanjiVariant]];
        (self.add(elder, &visits), self.add(younger, &visits))
    }

    /// Half of the others are known at one place only, one in six at three.
    fn someone(&mut self) {
        let home = self.people.len();
        let identity = self.identity(home, (1, 94));
        let count = match self.rng.below(100) {
            0..50 => 1,
            50..84 => 2,
            _ => 3,
        };
        let grown_woman = identity.sex == Sex::Female
            && (25..60).contains(&(self.today.year() - identity.birth.year()));
        let renamed = grown_woman && count > 1 && self.rng.percent(25);
        let visits: Vec<Vec<Quirk>> = (0..count.min(CLINICAL_INSTITUTIONS))
            .map(|slot| self.quirks(slot, renamed, &identity))
            .collect();
        let visits: Vec<&[Quirk]> = visits.iter().map(Vec::as_slice).collect();
        self.add(identity, &visits);
    }

    /// The first record of someone who changed names still has the old one.
    fn quirks(&mut self, slot: usize, renamed: bool, identity: &Identity) -> Vec<Quirk> {
        let chances = [
            (Quirk::KanjiVariant, 35),
            (Quirk::HalfWidthKana, 20),
            (Quirk::LargeKana, 15),
            (Quirk::NoBranch, 15),
        ];
        let mut quirks: Vec<Quirk> = chances
            .into_iter()
            .filter(|(_, percent)| self.rng.percent(*percent))
            .map(|(quirk, _)| quirk)
            .collect();
        let former = FAMILIES
            .iter()
            .cycle()
            .skip(identity.truth % FAMILIES.len())
            .take(FAMILIES.len())
            .find(|name| name.kana != identity.family.kana);
        match former {
            Some(name) if renamed && slot == 0 => {
                quirks.extend([Quirk::MaidenName(name), Quirk::OldAddress]);
            }
            Some(name) if renamed => quirks.push(Quirk::FormerName(name)),
            _ if slot == 0 && self.rng.percent(15) => quirks.push(Quirk::OldAddress),
            _ => {}
        }
        quirks
    }
}
