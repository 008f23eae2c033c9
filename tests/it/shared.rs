//! Linkage over the shared development data (`RENKEI_SHARED`, default `../shared`): no two people
//! become one without a person deciding it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use flate2::read::GzDecoder;
use renkei::demo::sample::SampleInstitution;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::identity as pb;
use serde::Deserialize;

use crate::support::calls::feed;
use crate::support::{At, Setup};

const RECORDS: usize = 2_000;

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "record_id")]
    id: String,
    domain: String,
    local_id: String,
    name: Names,
    sex: String,
    birth_date: Option<String>,
    address: Option<Address>,
    phones: Vec<String>,
    insurance: Option<Insurance>,
}

#[derive(Deserialize)]
struct Names {
    kanji: Option<Name>,
    kana: Option<Name>,
    romaji: Option<Name>,
}

#[derive(Deserialize)]
struct Name {
    family: String,
    given: String,
}

#[derive(Deserialize)]
struct Address {
    postal_code: Option<String>,
    prefecture: Option<String>,
    city: Option<String>,
    line: Option<String>,
    text: Option<String>,
}

#[derive(Deserialize)]
struct Insurance {
    insurer_number: Option<String>,
    symbol: Option<String>,
    number: Option<String>,
    branch: Option<String>,
}

/// The lines of a compressed file of the data set; `None`, and loudly, if it is not there.
fn lines(name: &str) -> Option<impl Iterator<Item = String>> {
    let chosen = std::env::vars_os().find(|(name, _)| name == "RENKEI_SHARED");
    let shared = chosen.map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        |(_, path)| PathBuf::from(path),
    );
    let path = shared.join("data/patients-dev").join(name);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there (RENKEI_SHARED)", path.display());
        return None;
    }
    let file = std::fs::File::open(path).unwrap();
    let lines = BufReader::new(GzDecoder::new(file)).lines();
    Some(lines.map(Result::unwrap))
}

fn demographics(record: &Record) -> pb::Demographics {
    use pb::NameRepresentation as R;
    let name = |representation: R, name: &Option<Name>| {
        name.as_ref().map(|name| pb::PersonName {
            representation: representation.into(),
            r#use: pb::NameUse::Official.into(),
            family: name.family.clone(),
            given: vec![name.given.clone()],
            ..Default::default()
        })
    };
    let names = [
        name(R::Ideographic, &record.name.kanji),
        name(R::Syllabic, &record.name.kana),
        name(R::Alphabetic, &record.name.romaji),
    ];
    let sex = match record.sex.as_str() {
        "male" => pb::AdministrativeGender::Male,
        "female" => pb::AdministrativeGender::Female,
        _ => pb::AdministrativeGender::Unknown,
    };
    let address = record.address.as_ref().map(|address| pb::Address {
        state: address.prefecture.clone().unwrap_or_default(),
        city: address.city.clone().unwrap_or_default(),
        lines: address.line.clone().into_iter().collect(),
        postal_code: address.postal_code.clone().unwrap_or_default(),
        text: address.text.clone().unwrap_or_default(),
        ..Default::default()
    });
    let phone = |value: &String| pb::Telecom {
        system: pb::TelecomSystem::Phone.into(),
        value: value.clone(),
        ..Default::default()
    };
    let coverage = record
        .insurance
        .as_ref()
        .map(|insurance| pb::InsuranceCoverage {
            insurer_number: insurance.insurer_number.clone().unwrap_or_default(),
            symbol: insurance.symbol.clone().unwrap_or_default(),
            number: insurance.number.clone().unwrap_or_default(),
            branch: insurance.branch.clone().unwrap_or_default(),
            ..Default::default()
        });
    pb::Demographics {
        names: names.into_iter().flatten().collect(),
        administrative_gender: sex.into(),
        birth_date: record.birth_date.clone().unwrap_or_default(),
        addresses: address.into_iter().collect(),
        telecoms: record.phones.iter().map(phone).collect(),
        coverages: coverage.into_iter().collect(),
        ..Default::default()
    }
}

fn request(institution: &SampleInstitution, record: &Record) -> pb::FeedPatientRequest {
    pb::FeedPatientRequest {
        patient: Some(pb::Patient {
            identifier: Some(cpb::Identifier {
                assigning_authority: institution.patient_id_oid(),
                value: format!("{}-{}", record.domain, record.local_id),
                ..Default::default()
            }),
            demographics: Some(demographics(record)),
            ..Default::default()
        }),
        event: pb::FeedEvent::Add.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_false_link_among_the_first_two_thousand() {
    let (Some(records), Some(truth)) = (lines("records.jsonl.gz"), lines("truth.csv.gz")) else {
        return;
    };
    let truth: BTreeMap<String, String> = truth
        .skip(1)
        .map(|line| {
            let mut fields = line.split(',').map(str::to_owned);
            (fields.next().unwrap(), fields.next().unwrap())
        })
        .collect();
    let records: Vec<Record> = records
        .take(RECORDS)
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect();
    assert_eq!(records.len(), RECORDS);

    let network = Setup::standalone().start().await;
    let institution = &network.sample.regions[0].institutions[0];
    let system = network.system(At::Region(0), institution);
    let mut persons: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut linkages: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let (mut fed, mut reviews) = (BTreeMap::new(), 0);
    for record in &records {
        let answer = feed(&system, request(institution, record)).await;
        let answer = answer.unwrap().into_inner();
        reviews += answer.review_task_ids.len();
        let person = truth[&record.id].as_str();
        persons
            .entry(answer.linkage_id.clone())
            .or_default()
            .insert(person);
        linkages
            .entry(person)
            .or_default()
            .insert(answer.linkage_id);
        *fed.entry(person).or_insert(0_u32) += 1;
    }
    let several = fed.values().filter(|count| **count > 1).count();
    let whole = fed
        .iter()
        .filter(|(person, count)| **count > 1 && linkages[*person].len() == 1)
        .count();
    println!("{whole} of {several} people with several records whole; {reviews} review tasks");
    let wrong: Vec<_> = persons.values().filter(|people| people.len() > 1).collect();
    assert!(
        wrong.is_empty(),
        "linked though they are several people: {wrong:?}"
    );
    assert!(whole > 0, "nobody was linked at all");
    network.stop().await;
}
