//! How an emergency summary is shown: what must be seen first, first.

use crate::cli::names::{self, address, coded, dtm, institution, join, label, time, when};
use crate::cli::output::{Table, Text};
use crate::wire::pb::common::NationalFlag;
use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{
    AbsenceReason, AbsenceStatement, ClinicalStatus, Criticality, EmergencySummary, ItemSource,
    ItemValue, ListedDocument, PatientHeader, SummaryItem, SummaryPriority, SummarySection,
    VerificationStatus,
};
use crate::wire::pb::identity::{AdministrativeGender, MatchGrade};

/// The summary.
pub(crate) fn summary(text: &mut Text, summary: &EmergencySummary) {
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
    let fresh = freshness(&summary.items);
    text.field(
        "As of",
        fresh.as_ref().map_or("see each item", String::as_str),
    );
    items(text, &summary.items, fresh.is_none());
    if summary.items.is_empty() {
        text.gap();
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

/// The facts, section by section in the order given: what, value, since when and how sure; then
/// remarks; then every source with its date.
fn items(text: &mut Text, items: &[SummaryItem], dated: bool) {
    let mut before = None;
    for item in items {
        let section = (item.priority, item.section);
        if before.replace(section) != Some(section) {
            let priority = label::<SummaryPriority>(item.priority).to_uppercase();
            text.gap();
            text.line(join(
                [priority, label::<SummarySection>(item.section)],
                "  ",
            ));
        }
        let since = join([when(&item.start), when(&item.end)], " – ");
        let facts = [value(item.value.as_ref()), since, status(item)];
        text.line(format!(
            "   {}",
            join([display(item), join(facts, ", ")], ":  ")
        ));
        let remarks = remarks(item);
        if !remarks.is_empty() {
            text.line(format!("      {remarks}"));
        }
        let sources = join(item.sources.iter().map(source), "; ");
        text.line(match dated {
            true => format!("      {sources} (as of {})", as_of(item)),
            false => format!("      {sources}"),
        });
    }
}

/// The date that all items are of, if it is one.
fn freshness(items: &[SummaryItem]) -> Option<String> {
    let mut dates = items.iter().map(as_of);
    let first = dates.next().unwrap_or_default();
    dates.all(|date| date == first).then_some(first)
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
    let asked = match &source.as_of {
        Some(_) => String::new(),
        None => "(not known when asked)".to_owned(),
    };
    join([from, when(&source.recorded), asked], " ")
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
            priority: SummaryPriority::A.into(),
            section: SummarySection::Allergy.into(),
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
                as_of: Some(prost_types::Timestamp::default()),
                ..ItemSource::default()
            }],
            ..SummaryItem::default()
        };
        let mut text = Text::default();
        items(&mut text, std::slice::from_ref(&item), false);
        let shown = text.as_str();
        assert_eq!(
            shown,
            "A  allergy\n   ペニシリン:  <7.40 mg/dL H, HIGH RISK, patient stated\n      CONTRADICTION 1\n      \
             東病院 2026-01-02\n"
        );
        let later = SummaryItem {
            sources: vec![ItemSource::default()],
            ..item.clone()
        };
        assert_eq!(freshness(&[item.clone(), later]), None);
        let mut text = Text::default();
        items(&mut text, &[item], true);
        assert!(text.as_str().contains("(as of 1970-01-01 09:00:00)"));
    }

    #[test]
    fn doubt_about_the_person_is_shouted() {
        let mut text = Text::default();
        summary(&mut text, &EmergencySummary::default());
        assert!(text.as_str().contains("IDENTITY NOT CERTAIN"));
    }
}
