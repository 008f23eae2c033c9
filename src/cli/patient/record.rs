//! A patient's record in a flat form: the flags of a command, or a line of a JSON Lines file.

use clap::Args;
use serde::Deserialize;

use crate::cli::args;
use crate::cli::failure::Problem;
use crate::types::PartialDate;
use crate::wire::pb::common::Identifier;
use crate::wire::pb::identity::{
    Address, AddressUse, AdministrativeGender, Demographics, InsuranceCoverage, NameRepresentation,
    NameUse, Patient, PersonName, Telecom, TelecomSystem, TelecomUse,
};

/// The same names with `_` for `-` are the keys of the JSON form; every value is a string.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatientRecord {
    /// OID of the assigning authority that gave the patient's id
    #[arg(long, value_name = "OID")]
    pub(crate) authority: Option<String>,
    /// Patient's id, leading zeros kept
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Family name, kanji (or as registered)
    #[arg(long, value_name = "NAME")]
    pub(crate) family: Option<String>,
    /// Given name, kanji (or as registered)
    #[arg(long, value_name = "NAME")]
    pub(crate) given: Option<String>,
    /// Family name, kana
    #[arg(long, value_name = "NAME")]
    pub(crate) kana_family: Option<String>,
    /// Given name, kana
    #[arg(long, value_name = "NAME")]
    pub(crate) kana_given: Option<String>,
    /// Family name, Latin letters
    #[arg(long, value_name = "NAME")]
    pub(crate) roman_family: Option<String>,
    /// Given name, Latin letters
    #[arg(long, value_name = "NAME")]
    pub(crate) roman_given: Option<String>,
    /// Former family name, kanji: 旧姓
    #[arg(long, value_name = "NAME")]
    pub(crate) former_family: Option<String>,
    /// Former family name, kana
    #[arg(long, value_name = "NAME")]
    pub(crate) former_kana_family: Option<String>,
    /// Birth date: YYYY-MM-DD, YYYY-MM or YYYY
    #[arg(long, value_name = "DATE")]
    pub(crate) birth: Option<String>,
    /// Birth date as on paper: 昭和25年4月1日
    #[arg(long, value_name = "TEXT")]
    pub(crate) birth_text: Option<String>,
    /// Administrative gender: male, female, other, unknown (or M, F, O, U)
    #[arg(long, value_name = "SEX")]
    pub(crate) sex: Option<String>,
    /// Postal code: 113-8655
    #[arg(long, value_name = "CODE")]
    pub(crate) postal_code: Option<String>,
    /// Prefecture: 東京都
    #[arg(long, value_name = "NAME")]
    pub(crate) state: Option<String>,
    /// Municipality: 文京区
    #[arg(long, value_name = "NAME")]
    pub(crate) city: Option<String>,
    /// Rest of the address; or all of it, without --state and --city
    #[arg(long, value_name = "TEXT")]
    pub(crate) address: Option<String>,
    /// Telephone
    #[arg(long, value_name = "NUMBER")]
    pub(crate) phone: Option<String>,
    /// Mobile telephone
    #[arg(long, value_name = "NUMBER")]
    pub(crate) mobile: Option<String>,
    /// E-mail address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// 保険者番号: insurer's number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) insurer: Option<String>,
    /// 記号 of the insurance
    #[arg(long, value_name = "TEXT")]
    pub(crate) insured_symbol: Option<String>,
    /// 番号 of the insurance
    #[arg(long, value_name = "NUMBER")]
    pub(crate) insured_number: Option<String>,
    /// 枝番 of the insurance, two digits
    #[arg(long, value_name = "NUMBER")]
    pub(crate) insured_branch: Option<String>,
    /// Identifier of another domain, as a hint: ID^^^&OID&ISO or OID:ID
    #[arg(long, value_name = "CX")]
    pub(crate) other_id: Option<String>,
}

impl PatientRecord {
    /// Reads one line of a JSON Lines file.
    pub(crate) fn parse(line: &str) -> Result<Self, Problem> {
        serde_json::from_str(line).map_err(|error| {
            // serde_json counts lines within the text, which has only one.
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or(&text);
            Problem::new(text.to_owned())
        })
    }

    /// The record for the wire; its identifier may be missing.
    pub(crate) fn patient(&self) -> Result<Patient, Problem> {
        Ok(Patient {
            identifier: self.identifier()?,
            other_identifiers: match &self.other_id {
                Some(other) => vec![wrong("other_id", args::identifier(other))?],
                None => Vec::new(),
            },
            demographics: Some(self.demographics()?),
            ..Patient::default()
        })
    }

    fn identifier(&self) -> Result<Option<Identifier>, Problem> {
        match (&self.authority, &self.id) {
            (None, None) => Ok(None),
            (Some(authority), Some(id)) => {
                let parsed = args::identifier(&format!("{authority}:{id}"));
                wrong("authority and id", parsed).map(Some)
            }
            (Some(_), None) => Err(Problem::new("id: is required beside authority")),
            (None, Some(_)) => Err(Problem::new("authority: is required beside id")),
        }
    }

    fn demographics(&self) -> Result<Demographics, Problem> {
        if let Some(birth) = &self.birth {
            let parsed = birth.parse::<PartialDate>();
            wrong(
                "birth",
                parsed.map_err(|error| format!("{birth:?} {error}")),
            )?;
        }
        let sex = self.sex.as_deref().map(gender).transpose()?;
        Ok(Demographics {
            names: self.names(),
            administrative_gender: sex.unwrap_or_default().into(),
            birth_date: text(self.birth.as_ref()),
            birth_date_text: text(self.birth_text.as_ref()),
            addresses: self.addresses(),
            telecoms: self.telecoms(),
            coverages: self.coverage().into_iter().collect(),
            ..Demographics::default()
        })
    }

    fn names(&self) -> Vec<PersonName> {
        use NameRepresentation as Script;
        let (kanji, kana) = (Script::Unspecified, Script::Syllabic);
        let parts = [
            (kanji, NameUse::Unspecified, &self.family, &self.given),
            (
                kana,
                NameUse::Unspecified,
                &self.kana_family,
                &self.kana_given,
            ),
            (
                Script::Alphabetic,
                NameUse::Unspecified,
                &self.roman_family,
                &self.roman_given,
            ),
            (kanji, NameUse::Maiden, &self.former_family, &None),
            (kana, NameUse::Maiden, &self.former_kana_family, &None),
        ];
        let named = parts
            .into_iter()
            .filter(|(_, _, family, given)| family.is_some() || given.is_some());
        named
            .map(|(script, usage, family, given)| PersonName {
                representation: script.into(),
                r#use: usage.into(),
                family: text(family.as_ref()),
                given: given.iter().cloned().collect(),
                ..PersonName::default()
            })
            .collect()
    }

    fn addresses(&self) -> Vec<Address> {
        let parts = [&self.postal_code, &self.state, &self.city, &self.address];
        if parts.iter().all(|part| part.is_none()) {
            return Vec::new();
        }
        let split = self.state.is_some() || self.city.is_some();
        let whole = text(self.address.as_ref());
        let (lines, whole) = match (split, whole.is_empty()) {
            (true, false) => (vec![whole], String::new()),
            _ => (Vec::new(), whole),
        };
        vec![Address {
            r#use: AddressUse::Home.into(),
            state: text(self.state.as_ref()),
            city: text(self.city.as_ref()),
            postal_code: text(self.postal_code.as_ref()),
            lines,
            text: whole,
            ..Address::default()
        }]
    }

    fn telecoms(&self) -> Vec<Telecom> {
        let kinds = [
            (&self.phone, TelecomSystem::Phone, TelecomUse::Home),
            (&self.mobile, TelecomSystem::Phone, TelecomUse::Mobile),
            (&self.email, TelecomSystem::Email, TelecomUse::Unspecified),
        ];
        let given = kinds.into_iter().filter_map(|(value, system, usage)| {
            Some(Telecom {
                system: system.into(),
                r#use: usage.into(),
                value: value.clone()?,
                ..Telecom::default()
            })
        });
        given.collect()
    }

    /// The insurance, if anything of it is known.
    pub(crate) fn coverage(&self) -> Option<InsuranceCoverage> {
        (self.insurer.is_some() || self.insured_number.is_some()).then(|| InsuranceCoverage {
            insurer_number: text(self.insurer.as_ref()),
            symbol: text(self.insured_symbol.as_ref()),
            number: text(self.insured_number.as_ref()),
            branch: text(self.insured_branch.as_ref()),
            ..InsuranceCoverage::default()
        })
    }
}

/// A sex by its FHIR or HL7 v2 code, or in Japanese.
pub(crate) fn gender(text: &str) -> Result<AdministrativeGender, Problem> {
    match text.to_lowercase().as_str() {
        "male" | "m" | "男" => Ok(AdministrativeGender::Male),
        "female" | "f" | "女" => Ok(AdministrativeGender::Female),
        "other" | "o" => Ok(AdministrativeGender::Other),
        "unknown" | "u" | "不明" => Ok(AdministrativeGender::Unknown),
        _ => Err(Problem::new(format!(
            "sex: {text:?} is not male, female, other or unknown"
        ))),
    }
}

fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

fn wrong<T>(field: &str, parsed: Result<T, String>) -> Result<T, Problem> {
    parsed.map_err(|error| Problem::new(format!("{field}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_record() {
        let line = r#"{"authority":"1.2.392.1","id":"0012","family":"斎藤","given":"花子",
            "kana_family":"サイトウ","kana_given":"ハナコ","former_family":"山田","birth":"1950-04-01",
            "sex":"F","state":"東京都","city":"文京区","address":"本郷7-3-1","phone":"03-0000-0000",
            "insurer":"06139999","insured_number":"12","insured_branch":"01"}"#;
        let patient = PatientRecord::parse(line).unwrap().patient().unwrap();
        assert_eq!(patient.identifier.unwrap().value, "0012");
        let found = patient.demographics.unwrap();
        assert_eq!(found.names.len(), 3);
        assert_eq!(found.names[2].r#use(), NameUse::Maiden);
        assert_eq!(found.administrative_gender(), AdministrativeGender::Female);
        assert_eq!(found.addresses[0].lines, ["本郷7-3-1"]);
        assert_eq!(found.telecoms.len(), 1);
        assert_eq!(found.coverages[0].branch, "01");
    }

    #[test]
    fn an_address_that_is_not_split_stays_whole() {
        let record = PatientRecord {
            address: Some("東京都文京区本郷7-3-1".into()),
            ..PatientRecord::default()
        };
        let found = record.patient().unwrap().demographics.unwrap();
        assert_eq!(found.addresses[0].text, "東京都文京区本郷7-3-1");
        assert!(found.addresses[0].lines.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            (r#"{"famly":"x"}"#, "unknown field `famly`"),
            (r#"{"family":1}"#, "expected a string"),
            (r#"{"id":"1"}"#, "authority: is required"),
            (r#"{"id":"1","authority":"x"}"#, "authority and id"),
            (r#"{"birth":"S25.4.1"}"#, "birth: \"S25.4.1\""),
            (r#"{"sex":"x"}"#, "sex: \"x\""),
            ("{", "EOF"),
        ] {
            let error = PatientRecord::parse(line)
                .and_then(|record| record.patient())
                .unwrap_err()
                .to_string();
            assert!(error.contains(named), "{error} should name {named}");
            assert!(!error.contains("line"), "{error}");
        }
    }
}
