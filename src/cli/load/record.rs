//! Records as files have them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{Format, Mapping};
use crate::cli::failure::Problem;
use crate::cli::patient::record::PatientRecord;
use crate::wire::pb::identity::{Patient, Telecom};

/// Longest line read, octets: a record is a few hundred.
const LONGEST_LINE: u64 = 64 * 1024;

/// Why a record was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// This record; the next can be read.
    Record(anyhow::Error),
    /// Nothing more can be read.
    File(anyhow::Error),
}

/// The records of a file, one after the other.
pub(super) struct Records<'a> {
    source: Source,
    mapping: &'a Mapping,
}

enum Source {
    Lines(Box<dyn BufRead>),
    Table(Box<csv::Reader<Box<dyn Read>>>),
}

impl<'a> Records<'a> {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(file: &Path, format: Format, mapping: &'a Mapping) -> Result<Self> {
        let reader: Box<dyn Read> = if file == Path::new("-") {
            Box::new(std::io::stdin())
        } else {
            let shown = file.display();
            Box::new(File::open(file).with_context(|| format!("cannot read {shown}"))?)
        };
        Self::of(reader, format, mapping)
    }

    fn of(reader: Box<dyn Read>, format: Format, mapping: &'a Mapping) -> Result<Self> {
        let source = match format {
            Format::Jsonl => Source::Lines(Box::new(BufReader::new(reader))),
            Format::Csv => {
                let table = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
                Source::Table(Box::new(table))
            }
        };
        if format == Format::Csv && mapping.columns.is_empty() {
            let problem = Problem::new("a CSV file needs --mapping with [columns]");
            return Err(problem.into());
        }
        Ok(Self { source, mapping })
    }

    fn line(reader: &mut dyn BufRead) -> Option<Result<String, Unread>> {
        loop {
            let mut text = String::new();
            let read = reader.take(LONGEST_LINE + 1).read_line(&mut text);
            match read.context("cannot read on") {
                Err(error) => return Some(Err(Unread::File(error))),
                Ok(0) => return None,
                Ok(length) if length as u64 > LONGEST_LINE => {
                    let problem = Problem::new("a line is longer than 64 KiB");
                    return Some(Err(Unread::File(problem.into())));
                }
                Ok(_) if text.trim().is_empty() => {}
                Ok(_) => return Some(Ok(text)),
            }
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Patient, Unread>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.source {
            Source::Lines(reader) => Some(
                Self::line(&mut **reader)?
                    .and_then(|line| from_json(&line, self.mapping).map_err(Unread::Record)),
            ),
            Source::Table(table) => {
                let row = table.deserialize::<BTreeMap<String, String>>().next()?;
                let row = row.context("cannot read the row").map_err(Unread::Record);
                Some(row.and_then(|row| from_row(&row, self.mapping).map_err(Unread::Record)))
            }
        }
    }
}

/// A line: as `renkei patient feed` reads it, or as the generator of synthetic patients writes it.
fn from_json(line: &str, mapping: &Mapping) -> Result<Patient> {
    let value: Value = serde_json::from_str(line).context("is not JSON")?;
    if value.get("name").is_some_and(Value::is_object) {
        let generated: Generated = serde_json::from_value(value).context("is not a record")?;
        return generated.patient(mapping);
    }
    let mut record = PatientRecord::parse(line)?;
    if record.authority.is_none() {
        record.authority.clone_from(&mapping.authority);
    }
    identified(&record)
}

fn identified(record: &PatientRecord) -> Result<Patient> {
    let patient = record.patient()?;
    match patient.identifier {
        Some(_) => Ok(patient),
        None => Err(Problem::new("authority and id: are required").into()),
    }
}

/// The assigning authority that a file's name of a domain stands for.
fn authority(domain: &str, mapping: &Mapping) -> Result<String> {
    let named = mapping.domains.get(domain).or(mapping.authority.as_ref());
    let named = named.ok_or_else(|| {
        Problem::new(format!("domain {domain}: has no assigning authority"))
            .hint("name it under [domains] of --mapping, or give --authority")
    })?;
    Ok(named.clone())
}

/// A row by the mapping's columns.
fn from_row(row: &BTreeMap<String, String>, mapping: &Mapping) -> Result<Patient> {
    let mut known = serde_json::Map::new();
    let mut domain = None;
    for (key, column) in &mapping.columns {
        let Some(value) = row.get(column) else {
            return Err(Problem::new(format!("has no column {column}")).into());
        };
        let value = value.trim();
        match key.as_str() {
            _ if value.is_empty() => {}
            "domain" => domain = Some(value.to_owned()),
            "sex" => {
                let ours = mapping.sex.get(value).map_or(value, String::as_str);
                known.insert(key.clone(), ours.into());
            }
            _ => {
                known.insert(key.clone(), value.into());
            }
        }
    }
    if !known.contains_key("authority") {
        let domain = domain.unwrap_or_default();
        known.insert("authority".to_owned(), authority(&domain, mapping)?.into());
    }
    let record: PatientRecord =
        serde_json::from_value(Value::Object(known)).context("does not fit the mapping")?;
    identified(&record)
}

/// A record as the generator writes it.
#[derive(Debug, Deserialize)]
struct Generated {
    domain: String,
    local_id: String,
    name: Names,
    sex: String,
    birth_date: Option<String>,
    address: Option<Postal>,
    #[serde(default)]
    phones: Vec<String>,
    insurance: Option<Insurance>,
}

#[derive(Debug, Default, Deserialize)]
struct Names {
    kanji: Option<Parts>,
    kana: Option<Parts>,
    romaji: Option<Parts>,
}

#[derive(Debug, Default, Deserialize)]
struct Parts {
    family: Option<String>,
    given: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Postal {
    #[serde(rename = "postal_code")]
    code: Option<String>,
    prefecture: Option<String>,
    city: Option<String>,
    line: Option<String>,
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Insurance {
    insurer_number: Option<String>,
    symbol: Option<String>,
    number: Option<String>,
    branch: Option<String>,
}

impl Generated {
    fn patient(self, mapping: &Mapping) -> Result<Patient> {
        let parts = |parts: Option<Parts>| {
            let parts = parts.unwrap_or_default();
            (parts.family, parts.given)
        };
        let (family, given) = parts(self.name.kanji);
        let (kana_family, kana_given) = parts(self.name.kana);
        let (roman_family, roman_given) = parts(self.name.romaji);
        let (address, insurance) = (self.address, self.insurance);
        let split = address.as_ref().filter(|one| one.text.is_none());
        let whole = address.as_ref().and_then(|one| one.text.clone());
        let record = PatientRecord {
            authority: Some(authority(&self.domain, mapping)?),
            id: Some(self.local_id),
            family,
            given,
            kana_family,
            kana_given,
            roman_family,
            roman_given,
            birth: self.birth_date,
            sex: Some(self.sex),
            postal_code: address.as_ref().and_then(|one| one.code.clone()),
            state: split.and_then(|one| one.prefecture.clone()),
            city: split.and_then(|one| one.city.clone()),
            address: whole.or_else(|| split.and_then(|one| one.line.clone())),
            insurer: insurance
                .as_ref()
                .and_then(|one| one.insurer_number.clone()),
            insured_symbol: insurance.as_ref().and_then(|one| one.symbol.clone()),
            insured_number: insurance.as_ref().and_then(|one| one.number.clone()),
            insured_branch: insurance.as_ref().and_then(|one| one.branch.clone()),
            ..PatientRecord::default()
        };
        let mut patient = identified(&record)?;
        if let Some(demographics) = &mut patient.demographics {
            demographics.telecoms = self
                .phones
                .into_iter()
                .map(|value| Telecom {
                    value,
                    ..Telecom::default()
                })
                .collect();
        }
        Ok(patient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str, format: Format, mapping: &Mapping) -> Vec<Result<Patient, Unread>> {
        let reader: Box<dyn Read> = Box::new(text.as_bytes());
        Records::of(reader, format, mapping).unwrap().collect()
    }

    fn mapping() -> Mapping {
        toml::from_str(
            "[domains]\nR001 = '1.2.392.1'\n\
             [columns]\nid = '患者ID'\nfamily = '姓'\ngiven = '名'\nbirth = '生年月日'\nsex = '性別'\ndomain = '網'\n\
             [sex]\n1 = 'male'\n2 = 'female'\n",
        )
        .unwrap()
    }

    #[test]
    fn a_generated_record_keeps_everything() {
        let line = r#"{"record_id":"r1","domain":"R001","local_id":"00-1","updated_on":"2025-01-01",
            "name":{"kanji":{"family":"富田","given":"沙保"},"kana":{"family":"トミタ","given":""},"romaji":null},
            "sex":"female","birth_date":"1980-05","address":{"postal_code":"277-0858","prefecture":"千葉県",
            "city":"柏市","line":"豊上町8","text":null},"phones":["070-0000-0001","03-0000-0002"],
            "insurance":{"insurer_number":"01120013","symbol":"4","number":"1749","branch":null}}"#;
        let line: &'static str = Box::leak(line.replace('\n', " ").into_boxed_str());
        let patient = read(line, Format::Jsonl, &mapping()).remove(0).unwrap();
        let id = patient.identifier.unwrap();
        assert_eq!(
            (id.assigning_authority.as_str(), id.value.as_str()),
            ("1.2.392.1", "00-1")
        );
        let known = patient.demographics.unwrap();
        assert_eq!(known.names.len(), 2);
        assert_eq!(known.telecoms.len(), 2);
        assert_eq!(
            (known.birth_date.as_str(), known.addresses[0].city.as_str()),
            ("1980-05", "柏市")
        );
        assert_eq!(known.coverages[0].branch, "");
    }

    #[test]
    fn rows_are_read_by_their_columns() {
        let text = "患者ID,姓,名,生年月日,性別,網,備考\n0012,山田,太郎,1950-04-01,1,R001,x\n\
                    0013,山田,花子,1951-04-01,2,R009,\n";
        let mut read = read(text, Format::Csv, &mapping());
        let second = read.pop().unwrap();
        assert!(
            matches!(second, Err(Unread::Record(_))),
            "a domain nobody named"
        );
        let patient = read.pop().unwrap().unwrap();
        assert_eq!(
            patient.identifier.unwrap().value,
            "0012",
            "leading zeros stay"
        );
        let known = patient.demographics.unwrap();
        assert_eq!(known.names[0].family, "山田");
        let gender = crate::wire::pb::identity::AdministrativeGender::Male;
        assert_eq!(known.administrative_gender(), gender);
    }

    #[test]
    fn a_bad_line_does_not_end_the_file() {
        let text = "{\"id\":\"1\",\"family\":\"A\"}\nnonsense\n\n{\"id\":\"2\",\"family\":\"B\"}\n";
        let with = Mapping {
            authority: Some("1.2.3".to_owned()),
            ..Mapping::default()
        };
        let read = read(text, Format::Jsonl, &with);
        let taken: Vec<bool> = read.iter().map(Result::is_ok).collect();
        assert_eq!(taken, [true, false, true]);
    }
}
