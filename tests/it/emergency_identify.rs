//! Who the patient is, from what is heard: the cases of `data/emergency/identify`, and how often the
//! right person is among those shown when one of four items is wrong.

use std::collections::BTreeMap;

use renkei::demo::actor::Caller;
use renkei::demo::messages;
use renkei::demo::sample::{SampleRecord, Sex};
use renkei::wire::pb::emergency as pb;
use renkei::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use renkei::wire::pb::identity as ipb;
use serde::Deserialize;

use crate::shared::{Record, fed};
use crate::support::calls::feed;
use crate::support::tier::{Dice, count};
use crate::support::{At, Network, Setup, emergency_physician};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    person: Vec<Person>,
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    id: String,
    family: String,
    given: String,
    family_kana: String,
    given_kana: String,
    family_romaji: String,
    given_romaji: String,
    former: Option<String>,
    former_kana: Option<String>,
    sex: String,
    birth: String,
    city: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    heard: Heard,
    expect: Option<Vec<String>>,
    first: Option<String>,
    #[serde(default)]
    any_order: bool,
    #[serde(default)]
    certain: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Heard {
    name: String,
    sex: String,
    birth: String,
    age: Option<[u32; 2]>,
    address: String,
}

impl Heard {
    fn items(&self) -> pb::FourItems {
        let gender = match self.sex.as_str() {
            "male" => ipb::AdministrativeGender::Male,
            "female" => ipb::AdministrativeGender::Female,
            _ => ipb::AdministrativeGender::Unspecified,
        };
        pb::FourItems {
            name: self.name.clone(),
            administrative_gender: gender.into(),
            birth_date: self.birth.clone(),
            age_from: self.age.map(|[from, _]| from),
            age_to: self.age.map(|[_, to]| to),
            address: self.address.clone(),
            ..pb::FourItems::default()
        }
    }
}

async fn identify(caller: &Caller, items: pb::FourItems) -> pb::IdentifyPatientResponse {
    let request = pb::IdentifyPatientRequest {
        subject: Some(pb::identify_patient_request::Subject::FourItems(items)),
        ..Default::default()
    };
    let mut client = EmergencyServiceClient::new(caller.channel.clone());
    let answer = client.identify_patient(caller.request(request)).await;
    answer.unwrap().into_inner()
}

/// A physician of her own for each question: strangers are shown to each in small numbers only.
fn asking(network: &Network, number: usize) -> Caller {
    let hospital = &network.emergency_hospitals(0)[0].code;
    let subject = format!("E-{number}");
    network.acting(At::Region(0), &emergency_physician(&subject, hospital))
}

fn record(person: &Person, number: usize, like: &SampleRecord) -> SampleRecord {
    SampleRecord {
        local_id: format!("778000{number:02}"),
        family_kanji: person.family.clone(),
        given_kanji: person.given.clone(),
        family_kana: person.family_kana.clone(),
        given_kana: person.given_kana.clone(),
        family_romaji: person.family_romaji.clone(),
        given_romaji: person.given_romaji.clone(),
        sex: match person.sex.as_str() {
            "female" => Sex::Female,
            _ => Sex::Male,
        },
        birth_date: person.birth.clone(),
        birth_date_text: person.birth.clone(),
        state: "東京都".to_owned(),
        city: person.city.clone(),
        line: format!("見本町{number}丁目"),
        phone: format!("03-0000-01{number:02}"),
        number: format!("91000{number:02}"),
        former_family_kanji: person.former.clone(),
        former_family_kana: person.former_kana.clone(),
        ..like.clone()
    }
}

/// Who a candidate is, by what is shown.
fn who<'p>(candidate: &pb::EmergencyCandidate, people: &'p [Person]) -> &'p str {
    let written = |person: &Person| {
        candidate
            .names
            .iter()
            .any(|name| name.family == person.family && name.given.concat() == person.given)
    };
    let found = people
        .iter()
        .find(|person| written(person) && person.birth == candidate.birth_date);
    found.map_or("somebody else", |person| &person.id)
}

fn judge(case: &Case, shown: &[(&str, ipb::MatchGrade)]) -> Result<(), String> {
    let mut names: Vec<_> = shown.iter().map(|(name, _)| (*name).to_owned()).collect();
    let certain: Vec<_> = shown
        .iter()
        .filter(|(_, grade)| *grade == ipb::MatchGrade::Certain)
        .map(|(name, _)| (*name).to_owned())
        .collect();
    if case.any_order {
        names.sort_unstable();
    }
    let first = case.first.as_ref();
    let right = match &case.expect {
        Some(expected) => *expected == names,
        None => first == names.first(),
    };
    let sure = certain.iter().all(|name| case.certain.contains(name));
    match right && sure {
        true => Ok(()),
        false => Err(format!("{}: is {shown:?}", case.name)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_finds_who_was_meant() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/data/emergency/identify/people.toml"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let file: File = toml::from_str(&text).unwrap();
    let network = Setup::standalone().start().await;
    let like = network.record(network.sample.scenario.cross_region, 0);
    let institution = network.institution(like);
    let system = network.system(At::Region(0), institution);
    let mut linkages = Vec::new();
    for (number, person) in file.person.iter().enumerate() {
        let record = record(person, number, like);
        let answer = feed(&system, messages::feed(institution, &record)).await;
        linkages.push(answer.unwrap().into_inner().linkage_id);
    }
    linkages.sort_unstable();
    linkages.dedup();
    assert_eq!(
        linkages.len(),
        file.person.len(),
        "all are people of their own"
    );
    let mut wrong = Vec::new();
    for (number, case) in file.case.iter().enumerate() {
        let found = identify(&asking(&network, number), case.heard.items()).await;
        let shown: Vec<_> = found
            .candidates
            .iter()
            .map(|one| (who(one, &file.person), one.grade()))
            .collect();
        let verdict = judge(case, &shown);
        println!(
            "{} {}",
            if verdict.is_ok() { "ok  " } else { "FAIL" },
            case.name
        );
        wrong.extend(verdict.err());
    }
    network.stop().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Letters of the readings that are easily taken for each other on a telephone or a siren.
const MISHEARD: &[(char, char)] = &[
    ('シ', 'ヒ'),
    ('ヒ', 'シ'),
    ('タ', 'カ'),
    ('カ', 'タ'),
    ('ナ', 'マ'),
    ('マ', 'ナ'),
    ('ダ', 'ラ'),
    ('ラ', 'ダ'),
    ('ミ', 'ニ'),
    ('ニ', 'ミ'),
    ('キ', 'チ'),
    ('チ', 'キ'),
    ('ヤ', 'ア'),
    ('ア', 'ヤ'),
    ('モ', 'ノ'),
    ('ノ', 'モ'),
    ('ユ', 'ウ'),
    ('ウ', 'ユ'),
    ('サ', 'タ'),
    ('コ', 'ト'),
    ('ト', 'コ'),
    ('ク', 'ツ'),
    ('リ', 'イ'),
    ('ム', 'ヌ'),
];

/// What is heard of a person with one of the four items wrong; none if the record has not all four.
fn heard(record: &Record, dice: &mut Dice) -> Option<(&'static str, Heard)> {
    let kana = record.name.kana.as_ref()?;
    let birth: jiff::civil::Date = record.birth_date.as_ref()?.parse().ok()?;
    let city = record.address.as_ref()?.city.clone()?;
    let mut heard = Heard {
        name: format!("{} {}", kana.family, kana.given),
        sex: record.sex.clone(),
        birth: birth.to_string(),
        address: city,
        ..Heard::default()
    };
    let error = match dice.below(4) {
        0 => {
            let letters: Vec<char> = heard.name.chars().collect();
            let candidates: Vec<_> = (0..letters.len())
                .filter_map(|at| {
                    let found = MISHEARD.iter().find(|(from, _)| *from == letters[at])?;
                    Some((at, found.1))
                })
                .collect();
            if candidates.is_empty() {
                return None;
            }
            let chosen = dice.below(u64::try_from(candidates.len()).unwrap());
            let (at, to) = candidates[usize::try_from(chosen).unwrap()];
            let mut letters = letters;
            letters[at] = to;
            heard.name = letters.into_iter().collect();
            "name"
        }
        1 => {
            let span = |days: i64| jiff::Span::new().days(days);
            let wrong = match dice.below(3) {
                0 => birth.checked_add(span(1)),
                1 => birth.checked_add(jiff::Span::new().years(1)),
                _ => birth.checked_add(span(10)),
            };
            heard.birth = wrong.ok()?.to_string();
            "birth date"
        }
        2 => {
            "網走市".clone_into(&mut heard.address);
            "address"
        }
        _ => {
            let other = match record.sex.as_str() {
                "female" => "male",
                _ => "female",
            };
            other.clone_into(&mut heard.sex);
            "sex"
        }
    };
    Some((error, heard))
}

/// Whether a candidate is of the person with these records, by what is shown.
fn is_of(candidate: &pb::EmergencyCandidate, records: &[&Record]) -> bool {
    let born = |record: &&Record| record.birth_date.as_deref() == Some(&candidate.birth_date);
    let named = |record: &&Record| {
        let names = [&record.name.kanji, &record.name.kana];
        names.into_iter().flatten().any(|name| {
            let same = |one: &ipb::PersonName| {
                one.family == name.family && one.given.concat() == name.given
            };
            candidate.names.iter().any(same)
        })
    };
    records.iter().any(born) && records.iter().any(named)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_of_four_items_wrong_the_right_person_is_shown() {
    let records = usize::try_from(count(1_000, 20_000, 20_000)).unwrap();
    let network = Setup::standalone().start().await;
    let Some(fed) = fed(&network, records).await else {
        return;
    };
    let mut people: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for (record, person) in &fed.records {
        people.entry(person).or_default().push(record);
    }
    let dice = Dice::new();
    let asked = usize::try_from(count(600, 5_000, 5_000)).unwrap();
    let mut shares: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    let mut wrongly_certain = Vec::new();
    let mut number = 0;
    for (at, records) in people.values().enumerate() {
        if number == asked {
            break;
        }
        let mut dice = dice.of(u64::try_from(at).unwrap());
        let Some((error, heard)) = heard(records[0], &mut dice) else {
            continue;
        };
        number += 1;
        let found = identify(&asking(&network, number), heard.items()).await;
        let place = found.candidates.iter().position(|one| is_of(one, records));
        let [all, first, five] = shares.entry(error).or_default();
        *all += 1;
        *first += usize::from(place == Some(0));
        *five += usize::from(place.is_some());
        for candidate in &found.candidates {
            if candidate.grade() == ipb::MatchGrade::Certain && !is_of(candidate, records) {
                wrongly_certain.push(records[0].id.clone());
            }
        }
    }
    let mut total = [0; 3];
    for (error, [all, first, five]) in &shares {
        println!("wrong {error}: {all} asked, {first} first, {five} among the first five");
        for (sum, part) in total.iter_mut().zip([all, first, five]) {
            *sum += part;
        }
    }
    let [all, first, five] = total;
    println!(
        "of {all}: {first} first, {five} among the first five; {} wrongly certain",
        wrongly_certain.len()
    );
    network.stop().await;
    assert!(all >= 500, "{all} questions only");
    assert!(wrongly_certain.is_empty(), "{wrongly_certain:?}");
    assert!(first * 100 >= all * 95, "first in {first} of {all}");
    assert!(
        five * 100 >= all * 99,
        "among the first five in {five} of {all}"
    );
}
