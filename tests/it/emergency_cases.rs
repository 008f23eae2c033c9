//! The cases of `data/emergency`: what regions hold, and the summary that was expected by hand. From
//! the octets of the documents to the summary and its forms by the functions that the services use.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use renkei::emergency::compose::{Composed, Reply, compose, read};
use renkei::emergency::extract::Source;
use renkei::emergency::forms::{Options, document};
use renkei::emergency::merge::NONE_KNOWN_GROUP;
use renkei::types::Confidentiality;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::emergency as pb;
use renkei::wire::pb::emergency::item_value::Value;
use renkei::wire::pb::federation::GetSummaryItemsResponse;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    expect: String,
    /// Items of equal rank, whose order says nothing.
    #[serde(default)]
    any_order: bool,
    /// Up to which confidentiality the reader may read.
    #[serde(default = "everything")]
    reader: String,
    #[serde(default)]
    down: Vec<String>,
    #[serde(default)]
    late: Vec<String>,
    #[serde(default)]
    refused: Vec<String>,
    #[serde(default)]
    silent: Vec<String>,
    /// Regions that do not answer now, and are shown as they answered before.
    #[serde(default)]
    before: Vec<String>,
    #[serde(default)]
    document: Vec<Document>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    region: String,
    date: String,
    #[serde(default = "fhir")]
    mime: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    confidentiality: String,
    #[serde(default = "last")]
    status: String,
    #[serde(default)]
    sections: String,
    /// More members of the Composition, and of the Patient.
    #[serde(default)]
    composition: String,
    #[serde(default)]
    patient: String,
    #[serde(default)]
    resources: Vec<String>,
    raw: Option<String>,
}

fn everything() -> String {
    "V".to_owned()
}

fn fhir() -> String {
    "application/fhir+json".to_owned()
}

fn last() -> String {
    "final".to_owned()
}

fn now() -> jiff::Timestamp {
    "2026-04-01T03:00:00Z".parse().unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/emergency")
}

fn home(region: &str) -> String {
    let regions = ["north", "south", "east", "west", "centre"];
    let at = regions.iter().position(|known| *known == region);
    format!("urn:oid:2.999.{}", at.expect("a region") + 1)
}

fn region(home: &str) -> &'static str {
    let regions = ["north", "south", "east", "west", "centre"];
    let at: usize = home.rsplit('.').next().unwrap().parse().unwrap();
    regions[at - 1]
}

impl Document {
    /// The document as it is stored: what is given, or a Bundle of the resources.
    fn content(&self, concepts: &BTreeMap<String, String>) -> String {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut entries = String::new();
        for (at, resource) in self.resources.iter().enumerate() {
            let mut whole = resource.clone();
            for (name, concept) in concepts {
                whole = whole.replace(&format!("\"${name}\""), concept);
            }
            assert!(
                !whole.contains("\"$"),
                "a concept that is not known in {whole}"
            );
            write!(
                entries,
                r#",{{"fullUrl":"urn:uuid:{at}","resource":{whole}}}"#
            )
            .unwrap();
        }
        let (date, status, sections) = (&self.date, &self.status, &self.sections);
        let (composition, patient) = (&self.composition, &self.patient);
        format!(
            r#"{{"resourceType":"Bundle","type":"document","entry":[{{"fullUrl":"urn:uuid:c","resource":
            {{"resourceType":"Composition","status":"{status}","date":"{date}",
            "subject":{{"reference":"urn:uuid:p"}},"section":[{sections}]{composition}}}}},
            {{"fullUrl":"urn:uuid:p","resource":{{"resourceType":"Patient"{patient}}}}}{entries}]}}"#
        )
    }

    fn entry(&self, at: usize) -> dpb::DocumentEntry {
        let code = cpb::CodedValue {
            code: self.confidentiality.clone(),
            ..cpb::CodedValue::default()
        };
        dpb::DocumentEntry {
            unique_id: format!("2.999.9.{at}"),
            repository_unique_id: "2.999.8".to_owned(),
            home_community_id: home(&self.region),
            mime_type: self.mime.clone(),
            title: Some(cpb::InternationalString {
                values: vec![cpb::LocalizedString {
                    value: self.title.clone(),
                    ..cpb::LocalizedString::default()
                }],
            }),
            confidentiality_codes: vec![code],
            ..dpb::DocumentEntry::default()
        }
    }
}

impl Case {
    fn compose(&self, concepts: &BTreeMap<String, String>) -> Composed {
        let allowed = match self.reader.as_str() {
            "N" => Confidentiality::Normal,
            "R" => Confidentiality::Restricted,
            _ => Confidentiality::VeryRestricted,
        };
        let mut answers: BTreeMap<String, GetSummaryItemsResponse> = BTreeMap::new();
        for (at, document) in self.document.iter().enumerate() {
            let entry = document.entry(at);
            let content = document.content(concepts);
            let source = Source {
                mime_type: &document.mime,
                format_code: "",
                entry: &entry,
                content: content.as_bytes(),
                as_of: now(),
            };
            let answer = answers.entry(document.region.clone()).or_default();
            read(&source, |level, _| level <= allowed, answer);
        }
        let status = |region: &str, state: cpb::RegionState| cpb::RegionStatus {
            home_community_id: home(region),
            name: region.to_owned(),
            state: state.into(),
            ..cpb::RegionStatus::default()
        };
        let mut replies: Vec<Reply> = answers
            .into_iter()
            .map(|(region, said)| {
                let silent = self.before.contains(&region);
                let state = match silent {
                    true => cpb::RegionState::Stale,
                    false => cpb::RegionState::Ok,
                };
                Reply {
                    status: status(&region, state),
                    said: Some(said),
                    silent,
                }
            })
            .collect();
        let others = [
            (&self.down, cpb::RegionState::Unreachable),
            (&self.late, cpb::RegionState::Timeout),
            (&self.refused, cpb::RegionState::RefusedByPolicy),
            (&self.silent, cpb::RegionState::Empty),
        ];
        for (regions, state) in others {
            for region in regions {
                let silent = state == cpb::RegionState::Empty;
                replies.push(Reply {
                    status: status(region, state),
                    said: silent.then(GetSummaryItemsResponse::default),
                    silent: false,
                });
            }
        }
        compose(replies, now())
    }
}

fn words(name: &str, prefix: &str) -> String {
    let name = name.strip_prefix(prefix).unwrap_or(name);
    name.to_lowercase().replace('_', " ")
}

fn value(value: &pb::ItemValue) -> String {
    let said = match value.value.as_ref().unwrap() {
        Value::Quantity(of) => format!("{}{} {}", of.comparator, of.value, of.unit),
        Value::Coded(code) => code.display_name.clone(),
        Value::Text(text) => text.clone(),
    };
    let range = match value.reference_range.as_str() {
        "" => String::new(),
        range => format!("({range})"),
    };
    let parts = [said.trim(), &value.interpretation, &range];
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn sources(sources: &[pb::ItemSource]) -> String {
    let all = sources.iter().map(|source| {
        let recorded = match source.recorded.parse::<jiff::Timestamp>() {
            Ok(moment) => {
                let zone = jiff::tz::TimeZone::fixed(jiff::tz::Offset::constant(9));
                moment
                    .to_zoned(zone)
                    .strftime("%Y-%m-%d %H:%M JST")
                    .to_string()
            }
            Err(_) => source.recorded.clone(),
        };
        format!("{} {recorded}", region(&source.home_community_id))
    });
    format!("from {}", all.collect::<Vec<_>>().join(", "))
}

fn item(item: &pb::SummaryItem, groups: &[&str]) -> String {
    let mut parts = Vec::new();
    if let Some(said) = &item.value {
        parts.push(format!("= {}", value(said)));
    }
    for past in &item.past_values {
        let said = past.value.as_ref().map(value).unwrap_or_default();
        parts.push(format!("before {said} {}", past.effective));
    }
    let when = [item.start.as_str(), item.end.as_str()];
    let when: Vec<_> = when.into_iter().filter(|date| !date.is_empty()).collect();
    parts.push(when.join(" to "));
    let mut states = Vec::new();
    if item.clinical_status != 0 {
        states.push(words(
            item.clinical_status().as_str_name(),
            "CLINICAL_STATUS_",
        ));
    }
    if item.verification_status != 0 {
        let name = item.verification_status().as_str_name();
        states.push(words(name, "VERIFICATION_STATUS_"));
    }
    if item.criticality != 0 {
        states.push(words(item.criticality().as_str_name(), "CRITICALITY_"));
    }
    parts.push(states.join(", "));
    let details = item.details.iter().filter_map(|detail| {
        let name = detail.name.as_ref().unwrap();
        let plain = ["category", "type"].contains(&name.code.as_str());
        let said = detail.value.as_ref().map(value).unwrap_or_default();
        (!plain).then(|| format!("{} {said}", name.display_name))
    });
    parts.push(details.collect::<Vec<_>>().join(", "));
    parts.push(sources(&item.sources));
    let mut marks = Vec::new();
    if let Some(number) = groups
        .iter()
        .position(|group| *group == item.conflict_group)
    {
        let with = match item.conflict_group.starts_with(NONE_KNOWN_GROUP) {
            true => " with none known",
            false => "",
        };
        marks.push(format!("conflict {}{with}", number + 1));
    }
    if item
        .national_flags()
        .any(|flag| flag == cpb::NationalFlag::Uninformed)
    {
        marks.push("not told".to_owned());
    }
    match item.confidentiality() {
        cpb::Confidentiality::Restricted => marks.push("restricted".to_owned()),
        cpb::Confidentiality::VeryRestricted => marks.push("very restricted".to_owned()),
        _ => {}
    }
    if !marks.is_empty() {
        parts.push(format!("! {}", marks.join(", ")));
    }
    parts.retain(|part| !part.is_empty());
    let section = words(item.section().as_str_name(), "SUMMARY_SECTION_");
    format!("{section} {}; {}", item.display, parts.join("; "))
}

/// The summary in words, a line each.
fn told(composed: &Composed) -> Vec<String> {
    let merged = &composed.merged;
    let mut groups: Vec<&str> = Vec::new();
    for one in &merged.items {
        if !one.conflict_group.is_empty() && !groups.contains(&one.conflict_group.as_str()) {
            groups.push(&one.conflict_group);
        }
    }
    let mut lines: Vec<_> = merged.items.iter().map(|one| item(one, &groups)).collect();
    for absence in &merged.absences {
        let section = words(absence.section().as_str_name(), "SUMMARY_SECTION_");
        let codes = absence
            .codes
            .iter()
            .map(|code| match code.display_name.as_str() {
                "" => code.code.clone(),
                display => display.to_owned(),
            });
        let codes = codes.collect::<Vec<_>>().join(", ");
        let homes = absence.home_community_ids.iter().map(|home| region(home));
        let mut homes: Vec<_> = homes.collect();
        homes.sort_unstable();
        let homes = homes.join(", ");
        let from = sources(&absence.sources);
        lines.push(match absence.reason() {
            pb::AbsenceReason::StatedNone => format!("none known {section} ({codes}); {from}"),
            pb::AbsenceReason::Unknown => format!("not known {section} ({codes}); {from}"),
            pb::AbsenceReason::Unreachable => format!("unreachable {homes}"),
            pb::AbsenceReason::Withheld => format!("withheld {homes}"),
            other => panic!("{other:?}"),
        });
    }
    for listed in merged.documents.iter().filter(|one| !one.reason.is_empty()) {
        let how = if listed.used {
            "read in part"
        } else {
            "not read"
        };
        let of = region(&listed.document.as_ref().unwrap().home_community_id);
        lines.push(format!("{how} {} of {of}: {}", listed.title, listed.reason));
    }
    let too_old: u32 = merged.aged_out.iter().map(|one| one.count).sum();
    if too_old > 0 {
        lines.push(format!("too old {too_old}"));
    }
    if composed.partly_withheld {
        lines.push("partly withheld".to_owned());
    }
    if !composed.completeness.complete {
        lines.push("incomplete".to_owned());
    }
    lines
}

/// Every form says what the summary says. With `RENKEI_FORMS=FOLDER` they are left there to be looked at.
fn forms(name: &str, composed: &Composed) {
    let answer = pb::GetSummaryResponse {
        summary: Some(pb::EmergencySummary {
            summary_id: "0198c0de-0000-7000-8000-000000000001".to_owned(),
            composed: Some(prost_types::Timestamp {
                seconds: now().as_second(),
                nanos: 0,
            }),
            items: composed.merged.items.clone(),
            absences: composed.merged.absences.clone(),
            documents: composed.merged.documents.clone(),
            aged_out: composed.merged.aged_out.clone(),
            partly_withheld: composed.partly_withheld,
            ..pb::EmergencySummary::default()
        }),
        completeness: Some(composed.completeness.clone()),
    };
    let look = crate::support::tier::variable("RENKEI_FORMS");
    let write = |form: pb::SummaryForm| {
        let written = document(form, &answer, Options::default()).unwrap();
        if let Some(folder) = &look {
            let ending = match form {
                pb::SummaryForm::Html => "html",
                pb::SummaryForm::Pdf => "pdf",
                _ => "json",
            };
            let path = Path::new(folder).join(format!("{}.{ending}", name.replace(' ', "-")));
            std::fs::write(path, &written.octets).unwrap();
        }
        written.octets
    };
    assert!(write(pb::SummaryForm::Pdf).starts_with(b"%PDF-"));
    let html = String::from_utf8(write(pb::SummaryForm::Html)).unwrap();
    let bundle = write(pb::SummaryForm::FhirIps);
    let bundle: serde_json::Value = serde_json::from_slice(&bundle).unwrap();
    let bundle = bundle.to_string();
    let escape = |text: &str| text.replace('<', "&lt;").replace('>', "&gt;");
    for item in &composed.merged.items {
        let name = escape(&item.display);
        assert!(html.contains(&name) && bundle.contains(&name), "{name}");
    }
    for listed in composed
        .merged
        .documents
        .iter()
        .filter(|one| !one.reason.is_empty())
    {
        assert!(html.contains(&listed.title) && bundle.contains(&listed.title));
    }
    assert_eq!(
        html.contains("NOT COMPLETE"),
        !composed.completeness.complete
    );
    let contradicts = composed
        .merged
        .items
        .iter()
        .any(|one| !one.conflict_group.is_empty());
    assert_eq!(html.contains("CONTRADICTION"), contradicts);
    for region in &composed.completeness.regions {
        assert!(html.contains(&region.name) && bundle.contains(&region.name));
    }
}

fn run(case: &Case, concepts: &BTreeMap<String, String>) -> Result<(), String> {
    let composed = case.compose(concepts);
    let mut told = told(&composed);
    let mut expected: Vec<_> = case.expect.lines().map(str::to_owned).collect();
    expected.retain(|line| !line.is_empty());
    if case.any_order {
        told.sort_unstable();
        expected.sort_unstable();
    }
    if told != expected {
        let (told, expected) = (told.join("\n  "), expected.join("\n  "));
        return Err(format!("expected\n  {expected}\nbut is\n  {told}"));
    }
    forms(&case.name, &composed);
    Ok(())
}

#[test]
fn every_case_has_the_summary_that_was_expected() {
    let concepts = std::fs::read_to_string(folder().join("concepts.toml")).unwrap();
    let concepts: BTreeMap<String, String> = toml::from_str(&concepts).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .filter(|path| path.file_stem().is_some_and(|name| name != "concepts"))
        .collect();
    files.sort_unstable();
    let (mut count, mut wrong) = (0, Vec::new());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        for case in &file.case {
            count += 1;
            let verdict = run(case, &concepts);
            let name = path.file_stem().unwrap().to_string_lossy();
            println!(
                "{} {name}: {}",
                if verdict.is_ok() { "ok  " } else { "FAIL" },
                case.name
            );
            wrong.extend(
                verdict
                    .err()
                    .map(|why| format!("{name}: {}: {why}", case.name)),
            );
        }
    }
    println!("{count} cases");
    assert!(count >= 40, "{count} cases only");
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}
