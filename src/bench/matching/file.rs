//! Records and truth as files: JSON Lines and CSV, plain or gzip.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::wire::pb::identity::{
    Address, AdministrativeGender, Demographics, InsuranceCoverage, NameRepresentation, PersonName,
    Telecom, ValueSource,
};

/// One record of a file.
pub(in crate::bench) struct Fact {
    pub(in crate::bench) id: String,
    pub(in crate::bench) demographics: Demographics,
}

/// What is true of a record. Empty groups are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::bench) struct Truth {
    pub(in crate::bench) person: String,
    pub(in crate::bench) household: String,
    pub(in crate::bench) twins: String,
    pub(in crate::bench) namesakes: String,
    pub(in crate::bench) tags: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    record_id: String,
    #[serde(default)]
    updated_on: Option<String>,
    name: Names,
    #[serde(default)]
    sex: Option<String>,
    #[serde(default)]
    birth_date: Option<String>,
    #[serde(default)]
    address: Option<Place>,
    #[serde(default)]
    phones: Vec<String>,
    #[serde(default)]
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
    #[serde(default)]
    family: Option<String>,
    #[serde(default)]
    given: Option<String>,
}

#[derive(Deserialize)]
struct Place {
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

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let zipped = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = match zipped {
        true => Box::new(flate2::read::MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
    Ok(Box::new(BufReader::with_capacity(1 << 16, reader)))
}

/// Reads records: one JSON object a line, as `jp_patients.py` writes them.
pub(super) fn records(path: &Path) -> Result<Vec<Fact>> {
    let mut facts = Vec::new();
    for (number, line) in (1..).zip(open(path)?.lines()) {
        let line = line.with_context(|| format!("cannot read line {number}"))?;
        if !line.trim().is_empty() {
            let line = serde_json::from_str::<Line>(&line);
            facts.push(
                line.with_context(|| format!("line {number} is no record"))?
                    .fact(),
            );
        }
    }
    Ok(facts)
}

impl Line {
    fn fact(self) -> Fact {
        let source = self.updated_on.map(|as_of| ValueSource {
            as_of,
            ..ValueSource::default()
        });
        let names = [
            (self.name.kanji, NameRepresentation::Ideographic),
            (self.name.kana, NameRepresentation::Syllabic),
            (self.name.romaji, NameRepresentation::Alphabetic),
        ];
        let names = names.into_iter().filter_map(|(name, script)| {
            name.map(|name| PersonName {
                representation: script.into(),
                family: name.family.unwrap_or_default(),
                given: name
                    .given
                    .into_iter()
                    .filter(|given| !given.is_empty())
                    .collect(),
                source: source.clone(),
                ..PersonName::default()
            })
        });
        let gender = match self.sex.as_deref() {
            Some("male") => AdministrativeGender::Male,
            Some("female") => AdministrativeGender::Female,
            Some("other") => AdministrativeGender::Other,
            _ => AdministrativeGender::Unknown,
        };
        let telecoms = self.phones.into_iter().map(|value| Telecom {
            value,
            ..Telecom::default()
        });
        Fact {
            id: self.record_id,
            demographics: Demographics {
                names: names.collect(),
                administrative_gender: gender.into(),
                birth_date: self.birth_date.unwrap_or_default(),
                addresses: self.address.map(Place::address).into_iter().collect(),
                telecoms: telecoms.collect(),
                coverages: self
                    .insurance
                    .map(Insurance::coverage)
                    .into_iter()
                    .collect(),
                ..Demographics::default()
            },
        }
    }
}

impl Place {
    fn address(self) -> Address {
        Address {
            postal_code: self.postal_code.unwrap_or_default(),
            state: self.prefecture.unwrap_or_default(),
            city: self.city.unwrap_or_default(),
            lines: self.line.into_iter().collect(),
            text: self.text.unwrap_or_default(),
            ..Address::default()
        }
    }
}

impl Insurance {
    fn coverage(self) -> InsuranceCoverage {
        InsuranceCoverage {
            insurer_number: self.insurer_number.unwrap_or_default(),
            symbol: self.symbol.unwrap_or_default(),
            number: self.number.unwrap_or_default(),
            branch: self.branch.unwrap_or_default(),
            ..InsuranceCoverage::default()
        }
    }
}

/// Reads the truth: CSV with a header that names `record_id` and `person_id` at least. No field has
/// a comma in it.
pub(super) fn truth(path: &Path) -> Result<HashMap<String, Truth>> {
    let mut lines = open(path)?.lines();
    let header = lines.next().context("the truth is empty")??;
    let at = |name: &str| header.trim().split(',').position(|column| column == name);
    let (id, person) = (at("record_id"), at("person_id"));
    let (id, person) = id
        .zip(person)
        .context("the truth has no record_id and person_id")?;
    let optional = ["household_id", "twin_group", "namesake_group", "tags"].map(at);
    let mut truths = HashMap::new();
    for line in lines {
        let line = line?;
        let fields: Vec<&str> = line.trim_end().split(',').collect();
        let field = |at: Option<usize>| {
            at.and_then(|at| fields.get(at))
                .copied()
                .unwrap_or_default()
        };
        let [household, twins, namesakes, tags] = optional.map(field);
        let truth = Truth {
            person: field(Some(person)).to_owned(),
            household: household.to_owned(),
            twins: twins.to_owned(),
            namesakes: namesakes.to_owned(),
            tags: tags
                .split(';')
                .filter(|tag| !tag.is_empty())
                .map(str::to_owned)
                .collect(),
        };
        ensure!(
            !truth.person.is_empty(),
            "a record of the truth has no person"
        );
        truths.insert(field(Some(id)).to_owned(), truth);
    }
    Ok(truths)
}
