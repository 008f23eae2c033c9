//! `renkei emergency get`: what saves a life, on one screen; every item with its source and date.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use super::Who;
use crate::cli::args;
use crate::cli::client::Session;
use crate::cli::completeness;
use crate::cli::names::{self, address, coded, dtm, institution, join, label, octets, time};
use crate::cli::output::{Done, Output, Table, Text};
use crate::wire::pb::common::NationalFlag;
use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{
    AbsenceReason, AbsenceStatement, ClinicalStatus, Criticality, EmergencySummary,
    GetSummaryDocumentRequest, GetSummaryRequest, ItemSource, ItemValue, ListedDocument,
    PatientHeader, SummaryForm, SummaryItem, SummaryPriority, SummarySection, VerificationStatus,
};
use crate::wire::pb::identity::{AdministrativeGender, MatchGrade};

#[derive(Args, Debug)]
pub(crate) struct Get {
    #[command(flatten)]
    who: Who,
    /// Grant of `break-glass`; not needed where the patient has consented
    #[arg(
        long,
        value_name = "GRANT",
        default_value = "",
        hide_default_value = true
    )]
    grant: String,
    /// Only this section; repeat for several
    #[arg(long = "section", value_name = "SECTION", ignore_case = true, value_parser = args::one_of::<SummarySection>())]
    sections: Vec<SummarySection>,
    /// Show items too that need a second confirmation; audited as such
    #[arg(long)]
    confirm_restricted: bool,
    /// A cached summary of this age will do: 30s, 5m
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    max_age: Option<Duration>,
    /// As a document, into -o FILE
    #[arg(long, value_name = "FORM", ignore_case = true, value_parser = args::one_of::<SummaryForm>(), requires = "output")]
    form: Option<SummaryForm>,
    /// Where to put the document
    #[arg(long, short, value_name = "FILE", requires = "form")]
    output: Option<PathBuf>,
    /// Main language of the document: ja or en
    #[arg(long, value_name = "TAG", default_value = "ja", requires = "form")]
    language: String,
    /// The document will be handed to the patient: without 未告知
    #[arg(long, requires = "form")]
    for_patient: bool,
}

impl Get {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        match (self.form, self.output.clone()) {
            (Some(form), Some(output)) => self.document(session, out, form, output).await,
            _ => self.summary(session, out).await,
        }
    }

    async fn summary(self, session: Session, out: Output) -> Result<Done> {
        let request = GetSummaryRequest {
            patient: Some(self.who.patient()),
            grant_id: self.grant,
            sections: self.sections.iter().map(|&one| one.into()).collect(),
            confirm_restricted: self.confirm_restricted,
            max_age: self.max_age.map(crate::wire::duration),
        };
        let answer = session.emergency().get_summary(request).await?.into_inner();
        out.answer(&answer, |text| {
            completeness::show(text, answer.completeness.as_ref(), false);
            text.gap();
            if let Some(summary) = &answer.summary {
                show(text, summary);
            }
        })?;
        Ok(completeness::done(answer.completeness.as_ref()))
    }

    async fn document(
        self,
        session: Session,
        out: Output,
        form: SummaryForm,
        output: PathBuf,
    ) -> Result<Done> {
        let request = GetSummaryDocumentRequest {
            patient: Some(self.who.patient()),
            grant_id: self.grant,
            form: form.into(),
            language: self.language,
            confirm_restricted: self.confirm_restricted,
            max_age: self.max_age.map(crate::wire::duration),
            for_patient: self.for_patient,
        };
        let answer = session
            .emergency()
            .get_summary_document(request)
            .await?
            .into_inner();
        std::fs::write(&output, &answer.document)
            .with_context(|| format!("cannot write {}", output.display()))?;
        let size = u64::try_from(answer.document.len()).unwrap_or(u64::MAX);
        let complete = answer.completeness.as_ref().is_some_and(|all| all.complete);
        out.object(&json!({
            "file": output.to_string_lossy(),
            "mime_type": answer.mime_type,
            "size": size,
            "summary_id": answer.summary_id,
            "complete": complete,
        }))?;
        out.human(|text| {
            text.field("File", output.to_string_lossy());
            text.field("Media type", &answer.mime_type);
            text.field("Size", octets(size));
            completeness::show(text, answer.completeness.as_ref(), false);
        })?;
        Ok(completeness::done(answer.completeness.as_ref()))
    }
}

fn show(text: &mut Text, summary: &EmergencySummary) {
    if let Some(patient) = &summary.patient {
        header(text, patient);
    }
    let grade = summary.identity_grade();
    if grade != MatchGrade::Certain {
        let label = label::<MatchGrade>(summary.identity_grade);
        text.line(format!(
            "IDENTITY NOT CERTAIN ({label}): items may be of somebody else"
        ));
    }
    let cached = if summary.cached { " (cached)" } else { "" };
    text.field(
        "Put together",
        format!("{}{cached}", time(summary.composed.as_ref())),
    );
    if let Some(approval) = &summary.approval {
        text.field(
            "Care record",
            format!(
                "approved by {}",
                names::person(approval.approved_by.as_ref())
            ),
        );
    }
    if summary.partly_withheld {
        text.line("一部非開示: something is withheld");
    }
    text.gap();
    text.table(&items(&summary.items));
    if summary.items.is_empty() {
        text.line("No items; that is not a statement about the patient.");
    }
    if !summary.absences.is_empty() {
        text.gap();
        text.table(&absences(&summary.absences));
    }
    if !summary.documents.is_empty() {
        text.gap();
        text.table(&documents(&summary.documents));
    }
}

fn header(text: &mut Text, patient: &PatientHeader) {
    text.field("Patient", names::names(&patient.names));
    let age = patient
        .age_years
        .map(|years| format!("{years} years"))
        .unwrap_or_default();
    let sex = label::<AdministrativeGender>(patient.administrative_gender);
    text.field("Born", join([&patient.birth_date, &age, &sex], ", "));
    for one in &patient.addresses {
        text.field("Address", address(one));
    }
    for one in &patient.telecoms {
        text.field("Telephone", &one.value);
    }
    text.field("Languages", patient.languages.join(", "));
    if patient.deceased == Some(true) {
        text.field("Deceased", "yes");
    }
}

fn items(items: &[SummaryItem]) -> Table {
    let mut table = Table::new([
        "", "Section", "What", "Value", "Since", "Status", "Remarks", "Source", "As of",
    ]);
    for item in items {
        table.row([
            label::<SummaryPriority>(item.priority).to_uppercase(),
            label::<SummarySection>(item.section),
            display(item),
            value(item.value.as_ref()),
            join([&item.start, &item.end], " – "),
            status(item),
            remarks(item),
            join(item.sources.iter().map(source), "; "),
            as_of(item),
        ]);
    }
    table
}

fn display(item: &SummaryItem) -> String {
    if item.display.is_empty() {
        return coded(item.codes.first());
    }
    join([&item.display, &item.display_en], " / ")
}

fn value(value: Option<&ItemValue>) -> String {
    let Some(value) = value else {
        return String::new();
    };
    let shown = match &value.value {
        Some(Value::Quantity(amount)) => {
            let unit = match amount.unit.as_str() {
                "" => &amount.ucum,
                unit => unit,
            };
            format!("{}{} {unit}", amount.comparator, amount.value)
        }
        Some(Value::Coded(code)) => coded(Some(code)),
        Some(Value::Text(text)) => text.clone(),
        None => String::new(),
    };
    let range = match value.reference_range.as_str() {
        "" => String::new(),
        range => format!("({range})"),
    };
    join([shown.trim(), &value.interpretation, &range], " ")
}

fn status(item: &SummaryItem) -> String {
    let criticality = match item.criticality() {
        Criticality::High => "HIGH RISK",
        Criticality::Low => "low risk",
        Criticality::Unspecified => "",
    };
    let verified = match item.verification_status() {
        VerificationStatus::Confirmed => String::new(),
        _ => label::<VerificationStatus>(item.verification_status),
    };
    let clinical = label::<ClinicalStatus>(item.clinical_status);
    join([criticality, &clinical, &verified], ", ")
}

fn remarks(item: &SummaryItem) -> String {
    let details = item.details.iter();
    let mut parts: Vec<String> = details
        .map(|one| join([coded(one.name.as_ref()), value(one.value.as_ref())], " "))
        .collect();
    if item
        .national_flags
        .contains(&NationalFlag::Uninformed.into())
    {
        parts.push("未告知".to_owned());
    }
    if !item.conflict_group.is_empty() {
        parts.push(format!("CONTRADICTION {}", item.conflict_group));
    }
    if item.needs_confirmation {
        parts.push("withheld: --confirm-restricted".to_owned());
    }
    join(parts, ", ")
}

fn source(source: &ItemSource) -> String {
    let from = match institution(source.institution.as_ref()) {
        name if name.is_empty() => source.home_community_id.clone(),
        name => name,
    };
    join([&from, &source.recorded], " ")
}

/// The oldest date that an item's sources are of.
fn as_of(item: &SummaryItem) -> String {
    let dates = item
        .sources
        .iter()
        .filter_map(|source| source.as_of.as_ref());
    let oldest = dates.min_by_key(|at| (at.seconds, at.nanos));
    time(oldest)
}

fn absences(absences: &[AbsenceStatement]) -> Table {
    let mut table = Table::new(["Not there", "Why", "Stated", "By", "Did not answer"]);
    for absence in absences {
        table.row([
            label::<SummarySection>(absence.section),
            label::<AbsenceReason>(absence.reason),
            join(absence.codes.iter().map(|code| coded(Some(code))), ", "),
            join(absence.sources.iter().map(source), "; "),
            absence.home_community_ids.join(", "),
        ]);
    }
    table
}

fn documents(documents: &[ListedDocument]) -> Table {
    let mut table = Table::new([
        "Created",
        "Document",
        "Media type",
        "Institution",
        "Not understood",
        "Community",
        "Repository",
        "Unique id",
    ]);
    for listed in documents {
        let document = listed.document.clone().unwrap_or_default();
        let title = match listed.title.as_str() {
            "" => coded(listed.type_code.as_ref()),
            title => title.to_owned(),
        };
        table.row([
            dtm(&listed.creation_time),
            title,
            listed.mime_type.clone(),
            institution(listed.institution.as_ref()),
            listed.reason.clone(),
            document.home_community_id,
            document.repository_unique_id,
            document.document_unique_id,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::common::InstitutionRef;
    use crate::wire::pb::emergency::Quantity;

    #[test]
    fn an_item_shows_value_risk_and_source() {
        let item = SummaryItem {
            display: "ペニシリン".into(),
            criticality: Criticality::High.into(),
            verification_status: VerificationStatus::PatientStated.into(),
            value: Some(ItemValue {
                value: Some(Value::Quantity(Quantity {
                    value: "7.40".into(),
                    comparator: "<".into(),
                    unit: "mg/dL".into(),
                    ..Quantity::default()
                })),
                interpretation: "H".into(),
                ..ItemValue::default()
            }),
            conflict_group: "1".into(),
            sources: vec![ItemSource {
                institution: Some(InstitutionRef {
                    name: "東病院".into(),
                    ..InstitutionRef::default()
                }),
                recorded: "2026-01-02".into(),
                ..ItemSource::default()
            }],
            ..SummaryItem::default()
        };
        let text = items(&[item]).render(None);
        for shown in [
            "ペニシリン",
            "<7.40 mg/dL H",
            "HIGH RISK, patient stated",
            "東病院 2026-01-02",
            "CONTRADICTION 1",
        ] {
            assert!(text.contains(shown), "{shown} in\n{text}");
        }
    }

    #[test]
    fn doubt_about_the_person_is_shouted() {
        let mut text = Text::default();
        show(&mut text, &EmergencySummary::default());
        assert!(text.as_str().contains("IDENTITY NOT CERTAIN"));
    }
}
