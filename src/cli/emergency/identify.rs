//! `renkei emergency identify`: who is the patient without a card?

use anyhow::Result;
use clap::Args;

use crate::cli::args::{PATIENT_HELP, PatientArg};
use crate::cli::client::Session;
use crate::cli::completeness;
use crate::cli::failure::Problem;
use crate::cli::names::{join, label, names};
use crate::cli::output::{Done, Output, Table};
use crate::cli::patient::record::gender;
use crate::wire::pb::emergency::identify_patient_request::Subject;
use crate::wire::pb::emergency::{
    EmergencyCandidate, FourItems, IdentifyPatientRequest, IdentifyPatientResponse,
};
use crate::wire::pb::identity::{
    AdministrativeGender, AgreementLevel, InsuranceCoverage, MatchGrade,
};

#[derive(Args, Debug)]
pub(crate) struct Identify {
    /// Name as heard: kana, kanji or Latin letters, whole or in part
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Sex: male, female, other, unknown
    #[arg(long, value_name = "SEX")]
    sex: Option<String>,
    /// Birth date: YYYY-MM-DD, YYYY-MM, YYYY, or as spoken (昭和25年4月1日)
    #[arg(
        long,
        value_name = "DATE",
        default_value = "",
        hide_default_value = true
    )]
    birth: String,
    /// Age in years, exact or estimated: 75 or 70-80
    #[arg(long, value_name = "YEARS", value_parser = ages)]
    age: Option<(u32, u32)>,
    /// Address, or a part of it
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    address: String,
    /// Telephone number, if a phone was found
    #[arg(
        long,
        value_name = "NUMBER",
        default_value = "",
        hide_default_value = true
    )]
    phone: String,
    /// Insured-person number of a card, with --birth: INSURER/SYMBOL/NUMBER/BRANCH, parts may be empty
    #[arg(long, value_name = "NUMBERS", value_parser = insured, conflicts_with_all = ["name", "patient"])]
    insured: Option<InsuranceCoverage>,
    #[arg(long, value_name = "PATIENT", help = PATIENT_HELP, conflicts_with = "name")]
    patient: Option<PatientArg>,
}

impl Identify {
    fn request(self) -> Result<IdentifyPatientRequest> {
        let subject = match (self.name, self.insured, self.patient) {
            (_, Some(card), _) => Subject::InsuredPerson(card),
            (_, _, Some(PatientArg::Identifier(one))) => Subject::PatientId(one),
            (_, _, Some(PatientArg::Linkage(id))) => Subject::LinkageId(id),
            (Some(name), None, None) => {
                let sex = self.sex.as_deref().map(gender).transpose()?;
                return Ok(IdentifyPatientRequest {
                    subject: Some(Subject::FourItems(FourItems {
                        name,
                        administrative_gender: sex.unwrap_or_default().into(),
                        birth_date: self.birth,
                        age_from: self.age.map(|(from, _)| from),
                        age_to: self.age.map(|(_, to)| to),
                        address: self.address,
                        telephone: self.phone,
                    })),
                    birth_date: String::new(),
                });
            }
            (None, None, None) => {
                let problem = Problem::new("nobody is described");
                return Err(problem.hint("give --name, --insured or --patient").into());
            }
        };
        Ok(IdentifyPatientRequest {
            subject: Some(subject),
            birth_date: self.birth,
        })
    }

    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = self.request()?;
        let answer = session
            .emergency()
            .identify_patient(request)
            .await?
            .into_inner();
        show(out, &answer)?;
        Ok(completeness::done(answer.completeness.as_ref()))
    }
}

fn show(out: Output, answer: &IdentifyPatientResponse) -> Result<()> {
    out.answer(answer, |text| {
        let mut table = Table::new([
            "Grade",
            "Score",
            "Name",
            "Born",
            "Sex",
            "Municipality",
            "Why",
            "Candidate",
        ]);
        for candidate in &answer.candidates {
            table.row([
                label::<MatchGrade>(candidate.grade),
                format!("{:.3}", candidate.score),
                names(&candidate.names),
                candidate.birth_date.clone(),
                label::<AdministrativeGender>(candidate.administrative_gender),
                candidate.municipality.clone(),
                why(candidate),
                candidate.candidate_ref.clone(),
            ]);
        }
        text.table(&table);
        if answer.candidates.is_empty() {
            text.line("Nobody matches.");
        }
        if answer.more {
            text.line("There are more than these: ask for more.");
        }
        for question in &answer.next_questions {
            text.field("Ask", &question.text);
        }
        text.gap();
        completeness::show(text, answer.completeness.as_ref(), false);
    })
}

fn why(candidate: &EmergencyCandidate) -> String {
    // What one side does not have says nothing.
    let fields = candidate.evidence.iter();
    let fields = fields.filter(|one| one.level() != AgreementLevel::Missing);
    join(
        fields.map(|one| format!("{} {}", one.field, label::<AgreementLevel>(one.level))),
        ", ",
    )
}

/// `75` or `70-80`.
fn ages(text: &str) -> Result<(u32, u32), String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (from.parse::<u32>(), to.parse::<u32>()) {
        (Ok(from), Ok(to)) if from <= to && to <= 130 => Ok((from, to)),
        _ => Err("is not an age such as 75 or 70-80".to_owned()),
    }
}

/// `INSURER/SYMBOL/NUMBER/BRANCH`.
fn insured(text: &str) -> Result<InsuranceCoverage, String> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        [insurer, symbol, number, branch] if !insurer.is_empty() && !number.is_empty() => {
            Ok(InsuranceCoverage {
                insurer_number: (*insurer).to_owned(),
                symbol: (*symbol).to_owned(),
                number: (*number).to_owned(),
                branch: (*branch).to_owned(),
                ..InsuranceCoverage::default()
            })
        }
        _ => Err("is not INSURER/SYMBOL/NUMBER/BRANCH, such as 06139999/東国/12/01".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_cards_are_read() {
        assert_eq!(ages("75"), Ok((75, 75)));
        assert_eq!(ages("70-80"), Ok((70, 80)));
        assert!(ages("80-70").is_err() && ages("old").is_err() && ages("-5").is_err());
        let card = insured("06139999/東国/12/01").unwrap();
        assert_eq!((card.number.as_str(), card.branch.as_str()), ("12", "01"));
        assert_eq!(insured("06139999//12/").unwrap().branch, "");
        assert!(insured("06139999/12").is_err() && insured("/a/12/").is_err());
    }
}
