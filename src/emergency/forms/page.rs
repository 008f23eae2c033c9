//! The page: what stands on it and in which order, for screen and paper alike.

use crate::wire::pb::emergency::{ListedDocument, PatientHeader, SummarySection};
use crate::wire::pb::identity::MatchGrade;

use super::Whole;
use super::text::{self, clean, join};
use super::words::{self, Language};
use super::writer::Writer;

/// A page, in words.
pub(super) struct Page {
    pub(super) language: Language,
    pub(super) title: String,
    /// Names of the patient, the most prominent thing of the page.
    pub(super) patient: String,
    /// Sex, age, and the rest of the header.
    pub(super) header: Vec<String>,
    /// What must not be missed before anything is read.
    pub(super) warnings: Vec<String>,
    /// When it was put together and of which moment it is.
    pub(super) age: String,
    pub(super) blocks: Vec<Block>,
    pub(super) footer: Vec<String>,
}

/// Facts under one title.
pub(super) struct Block {
    pub(super) title: String,
    /// In a heavy frame: what kills first.
    pub(super) first: bool,
    pub(super) rows: Vec<Row>,
}

/// One fact.
#[derive(Default)]
pub(super) struct Row {
    /// Set off from the text: danger, contradiction, 未告知.
    pub(super) marks: Vec<String>,
    /// What it is.
    pub(super) lead: String,
    /// Value, date, state.
    pub(super) facts: String,
    /// Reaction, dosage, settings.
    pub(super) details: String,
    /// Where it comes from.
    pub(super) sources: String,
}

/// The blocks, in their order; a section is in one of them.
const BLOCKS: &[&[SummarySection]] = &[
    &[SummarySection::Contraindication, SummarySection::Allergy],
    &[SummarySection::Alert],
    &[SummarySection::Problem],
    &[SummarySection::Medication, SummarySection::Dispense],
    &[SummarySection::Device],
    &[SummarySection::Care],
    &[SummarySection::Contact],
    &[SummarySection::Pregnancy],
    &[SummarySection::Result],
    &[SummarySection::Infection],
    &[SummarySection::Procedure],
    &[SummarySection::Vital],
    &[SummarySection::FunctionalStatus],
    &[SummarySection::AdvanceDirective],
    &[SummarySection::CareTeam],
    &[SummarySection::Encounter],
    &[SummarySection::PastProblem],
    &[SummarySection::BloodType],
    &[SummarySection::Communication],
    &[SummarySection::Immunization],
    &[SummarySection::SocialHistory],
    &[SummarySection::Checkup],
    &[SummarySection::Document, SummarySection::Unspecified],
];
/// So many of the blocks are shown even when there is nothing in them, but for the alerts.
const ALWAYS: usize = 4;

impl Page {
    /// Puts the page together.
    pub(super) fn of(whole: &Whole<'_>) -> Self {
        let language = whole.options.language;
        let patient = whole.summary.patient.clone().unwrap_or_default();
        let (names, former) = text::names(&patient.names, language);
        let mut writer = Writer::new(whole);
        let mut blocks: Vec<_> = BLOCKS
            .iter()
            .enumerate()
            .filter_map(|(at, sections)| {
                let always = at < ALWAYS && !sections.contains(&SummarySection::Alert);
                writer.block(sections, at == 0, always)
            })
            .collect();
        blocks.push(gaps(whole));
        blocks.extend(documents(whole));
        Self {
            language,
            title: words::TITLE.both(language),
            patient: names,
            header: header(&patient, former, language),
            warnings: warnings(whole, &patient),
            age: writer.age.clone(),
            blocks,
            footer: footer(whole),
        }
    }
}

fn header(patient: &PatientHeader, former: String, language: Language) -> Vec<String> {
    let label = |words: words::Words, text: String| match text.is_empty() {
        true => text,
        false => format!("{}: {text}", words.main(language)),
    };
    let years = words::YEARS.main(language);
    let age = patient.age_years.map(|age| format!("{age} {years}"));
    let born = label(words::BORN, clean(&patient.birth_date));
    let sex = words::gender(patient.administrative_gender()).main(language);
    let addresses = patient.addresses.iter().map(text::address);
    let phones = patient.telecoms.iter().map(|one| clean(&one.value));
    let languages = patient.languages.iter().map(|tag| clean(tag));
    let mut lines = vec![
        former,
        join([sex, &age.unwrap_or_default(), &born], "  "),
        label(words::ADDRESS, join(addresses, "; ")),
        label(words::TELEPHONE, join(phones, ", ")),
        label(words::LANGUAGES, join(languages, ", ")),
    ];
    lines.retain(|line| !line.is_empty());
    lines
}

pub(super) fn warnings(whole: &Whole<'_>, patient: &PatientHeader) -> Vec<String> {
    let language = whole.options.language;
    let mut warnings = Vec::new();
    if whole.options.for_patient {
        warnings.push(words::FOR_PATIENT.both(language));
    }
    let grade = whole.summary.identity_grade();
    if grade != MatchGrade::Certain {
        let how = words::grade(grade).both(language);
        warnings.push(format!("{} ({how})", words::IDENTITY.both(language)));
    }
    if !whole.completeness.complete {
        warnings.push(words::INCOMPLETE.both(language));
        let missing = whole.missing().map(|region| {
            let name = whole.region_name(&region.home_community_id);
            format!("{name} ({})", words::region(region.state()).main(language))
        });
        let named = join(missing, ", ");
        if !named.is_empty() {
            warnings.push(format!("{}: {named}", words::NOT_ASKED.both(language)));
        }
    }
    if whole.is_withheld() {
        warnings.push(words::WITHHELD.both(language));
    }
    if patient.deceased == Some(true) {
        warnings.push(words::DECEASED.both(language));
    }
    if whole.summary.cached {
        warnings.push(words::CACHED.both(language));
    }
    warnings
}

fn footer(whole: &Whole<'_>) -> Vec<String> {
    let language = whole.options.language;
    let id = clean(&whole.summary.summary_id);
    let mut lines = vec![words::NOTICE.both(language)];
    if let Some(approval) = &whole.summary.approval {
        let by = approval.approved_by.clone().unwrap_or_default();
        let who = clean(&by.display_name);
        let when = text::moment(approval.approved.as_ref());
        let label = words::APPROVED.main(language);
        lines.push(join([label, &who, &when], " "));
    }
    lines.push(format!("{}: {id}", words::SUMMARY_ID.main(language)));
    lines
}

/// The regions asked: those that answered in one line, the others each in their own.
pub(super) fn gaps(whole: &Whole<'_>) -> Block {
    let language = whole.options.language;
    let mut rows: Vec<Row> = Vec::new();
    for region in whole.missing() {
        rows.push(Row {
            marks: vec![words::NOT_ASKED.main(language).to_owned()],
            lead: whole.region_name(&region.home_community_id),
            facts: words::region(region.state()).both(language),
            sources: text::moment(region.as_of.as_ref()),
            ..Row::default()
        });
    }
    if whole.completeness.complete {
        let how = match whole.completeness.regions.is_empty() {
            true => words::NOBODY,
            false => words::COMPLETE,
        };
        rows.push(Row {
            lead: how.both(language),
            ..Row::default()
        });
    }
    let missing: Vec<_> = whole.missing().map(|one| &one.home_community_id).collect();
    let answered = whole.completeness.regions.iter();
    let answered = answered
        .filter(|region| !missing.contains(&&region.home_community_id))
        .map(|region| {
            let name = whole.region_name(&region.home_community_id);
            format!("{name} ({})", words::region(region.state()).main(language))
        });
    rows.push(Row {
        facts: join(answered, ", "),
        ..Row::default()
    });
    rows.retain(|row| !row.lead.is_empty() || !row.facts.is_empty());
    Block {
        title: words::GAPS.both(language),
        first: false,
        rows,
    }
}

/// Documents whose content is not, or not wholly, among the items.
pub(super) fn documents(whole: &Whole<'_>) -> Option<Block> {
    let language = whole.options.language;
    let rows: Vec<_> = whole.unread().map(|one| unread(whole, one)).collect();
    let about = words::UNREAD.main(language);
    (!rows.is_empty()).then(|| Block {
        title: format!("{}: {about}", words::DOCUMENTS.both(language)),
        first: false,
        rows,
    })
}

fn unread(whole: &Whole<'_>, listed: &ListedDocument) -> Row {
    let title = match clean(&listed.title) {
        none if none.is_empty() => text::coded(listed.type_code.as_ref()),
        title => title,
    };
    let institution = listed.institution.clone().unwrap_or_default();
    let reference = listed.document.clone().unwrap_or_default();
    let created = listed.creation_time.get(..8).unwrap_or_default();
    let created = match (created.get(..4), created.get(4..6), created.get(6..8)) {
        (Some(year), Some(month), Some(day)) => clean(&format!("{year}-{month}-{day}")),
        _ => String::new(),
    };
    let region = whole.region_name(&reference.home_community_id);
    Row {
        lead: title,
        facts: join([created, clean(&listed.reason)], ", "),
        sources: join([clean(&institution.name), region], ", "),
        ..Row::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_is_on_the_page_once() {
        for number in 0..=25 {
            let section = SummarySection::try_from(number).unwrap();
            let blocks = BLOCKS.iter().filter(|block| block.contains(&section));
            assert_eq!(blocks.count(), 1, "{section:?}");
        }
        assert!(BLOCKS[0].contains(&SummarySection::Contraindication));
    }
}
