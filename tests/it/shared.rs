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
use crate::support::{At, Network, Setup};

const RECORDS: usize = 2_000;

#[derive(Deserialize)]
pub(crate) struct Record {
    #[serde(rename = "record_id")]
    pub(crate) id: String,
    domain: String,
    local_id: String,
    pub(crate) name: Names,
    pub(crate) sex: String,
    pub(crate) birth_date: Option<String>,
    pub(crate) address: Option<Address>,
    phones: Vec<String>,
    insurance: Option<Insurance>,
}

#[derive(Deserialize)]
pub(crate) struct Names {
    pub(crate) kanji: Option<Name>,
    pub(crate) kana: Option<Name>,
    romaji: Option<Name>,
}

#[derive(Deserialize)]
pub(crate) struct Name {
    pub(crate) family: String,
    pub(crate) given: String,
}

#[derive(Deserialize)]
pub(crate) struct Address {
    postal_code: Option<String>,
    prefecture: Option<String>,
    pub(crate) city: Option<String>,
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

/// Records of the development data, fed, each with the person that it is of.
pub(crate) struct Fed {
    pub(crate) records: Vec<(Record, String)>,
    /// The answers, one for each record.
    answers: Vec<pb::FeedPatientResponse>,
}

/// Feeds the first `count` records to a node; none if the data is not there.
pub(crate) async fn fed(network: &Network, count: usize) -> Option<Fed> {
    let (records, truth) = (lines("records.jsonl.gz")?, lines("truth.csv.gz")?);
    let truth: BTreeMap<String, String> = truth
        .skip(1)
        .map(|line| {
            let mut fields = line.split(',').map(str::to_owned);
            (fields.next().unwrap(), fields.next().unwrap())
        })
        .collect();
    let institution = &network.sample.regions[0].institutions[0];
    let system = network.system(At::Region(0), institution);
    let mut fed = Fed {
        records: Vec::new(),
        answers: Vec::new(),
    };
    for line in records.take(count) {
        let record: Record = serde_json::from_str(&line).unwrap();
        let answer = feed(&system, request(institution, &record)).await;
        fed.answers.push(answer.unwrap().into_inner());
        let person = truth[&record.id].clone();
        fed.records.push((record, person));
    }
    assert_eq!(fed.records.len(), count);
    Some(fed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_false_link_among_the_first_two_thousand() {
    let network = Setup::standalone().start().await;
    let Some(data) = fed(&network, RECORDS).await else {
        return;
    };
    let mut persons: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut linkages: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let (mut fed, mut reviews) = (BTreeMap::new(), 0);
    for ((_, person), answer) in data.records.iter().zip(&data.answers) {
        reviews += answer.review_task_ids.len();
        persons
            .entry(answer.linkage_id.clone())
            .or_default()
            .insert(person);
        linkages
            .entry(person)
            .or_default()
            .insert(answer.linkage_id.clone());
        *fed.entry(person.as_str()).or_insert(0_u32) += 1;
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
