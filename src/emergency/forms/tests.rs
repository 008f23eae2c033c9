//! The forms, over a summary that has something of everything.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::wire::pb::common::{
    CodedValue, Confidentiality, DocumentRef, InstitutionRef, PersonRef, RegionState, RegionStatus,
};
use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{
    AbsenceReason, AbsenceStatement, Approval, ClinicalStatus, Criticality, ItemDetail, ItemSource,
    ItemValue, ListedDocument, PastValue, PatientHeader, Quantity, SummarySection,
    VerificationStatus,
};
use crate::wire::pb::identity::{
    Address, AdministrativeGender, MatchGrade, NameRepresentation, NameUse, PersonName, Telecom,
};

/// Text that would do something in a page that does not escape it.
pub(super) const HOSTILE: &str = "\"><script>alert('1')</script><img src=x onerror=y>&amp;\u{202e}";

const NORTH: &str = "urn:oid:2.999.1";
const SOUTH: &str = "urn:oid:2.999.2";
const EAST: &str = "urn:oid:2.999.3";

fn time(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn source(home: &str, name: &str, recorded: &str) -> ItemSource {
    ItemSource {
        institution: Some(InstitutionRef {
            institution_id: "1310000001".to_owned(),
            name: name.to_owned(),
            home_community_id: home.to_owned(),
            ..InstitutionRef::default()
        }),
        home_community_id: home.to_owned(),
        document: Some(DocumentRef {
            document_unique_id: "2.999.5.1".to_owned(),
            ..DocumentRef::default()
        }),
        recorded: recorded.to_owned(),
        as_of: Some(time(1_775_012_400)),
        ..ItemSource::default()
    }
}

fn code(system: &str, code: &str, display: &str) -> CodedValue {
    CodedValue {
        code: code.to_owned(),
        system: system.to_owned(),
        display_name: display.to_owned(),
        ..CodedValue::default()
    }
}

/// An item of `section` called `display`.
pub(super) fn item(section: SummarySection, display: &str) -> SummaryItem {
    SummaryItem {
        item_id: format!("{section:?} {display}"),
        section: section.into(),
        codes: vec![code("1.2.392.200119.4.101.6", "20059012", display)],
        display: display.to_owned(),
        sources: vec![source(NORTH, "北病院", "2026-03-01")],
        ..SummaryItem::default()
    }
}

fn number(value: &str, unit: &str) -> ItemValue {
    ItemValue {
        value: Some(Value::Quantity(Quantity {
            value: value.to_owned(),
            ucum: unit.to_owned(),
            unit: unit.to_owned(),
            ..Quantity::default()
        })),
        reference_range: "3.5 - 5.0".to_owned(),
        interpretation: "H".to_owned(),
    }
}

fn detail(name: &str, label: &str, text: &str) -> ItemDetail {
    ItemDetail {
        name: Some(code("urn:renkei:summary-detail", name, label)),
        value: Some(ItemValue {
            value: Some(Value::Text(text.to_owned())),
            ..ItemValue::default()
        }),
    }
}

#[expect(clippy::too_many_lines, reason = "one item of each kind")]
fn items() -> Vec<SummaryItem> {
    use SummarySection as S;
    let penicillin = SummaryItem {
        criticality: Criticality::High.into(),
        conflict_group: "conflict-1".to_owned(),
        details: vec![
            detail("category", "区分", "medication"),
            detail("reaction", "症状", "アナフィラキシー"),
        ],
        ..item(S::Contraindication, "ペニシリン")
    };
    let denied = SummaryItem {
        verification_status: VerificationStatus::Refuted.into(),
        conflict_group: "conflict-1".to_owned(),
        sources: vec![source(SOUTH, "南病院", "2025-12-01")],
        ..item(S::Allergy, "ペニシリン")
    };
    let warfarin = SummaryItem {
        clinical_status: ClinicalStatus::Active.into(),
        start: "2026-02-01".to_owned(),
        details: vec![
            detail("dosage", "用法", "1日1回朝食後"),
            detail("dose", "1回量", "2.5 mg"),
        ],
        ..item(S::Medication, "ワルファリンカリウム錠")
    };
    let potassium = SummaryItem {
        value: Some(number("5.40", "mmol/L")),
        start: "2026-03-01T01:30:00Z".to_owned(),
        past_values: vec![PastValue {
            value: Some(number("4.1", "mmol/L")),
            effective: "2026-01-10".to_owned(),
            source: Some(source(SOUTH, "南病院", "2026-01-11")),
        }],
        codes: vec![code("http://loinc.org", "2823-3", "Potassium")],
        display_en: "Potassium".to_owned(),
        ..item(S::Result, "カリウム")
    };
    let untold = SummaryItem {
        confidentiality: Confidentiality::VeryRestricted.into(),
        national_flags: vec![NationalFlag::Uninformed.into()],
        ..item(S::Problem, "膵癌")
    };
    let ventilator = SummaryItem {
        details: vec![
            detail("manufacturer", "製造元", "見本機器"),
            detail("setting", "PEEP", "5 cmH2O"),
        ],
        ..item(S::Device, "人工呼吸器")
    };
    let contact = SummaryItem {
        details: vec![
            detail("relationship", "続柄", "母"),
            detail("telephone", "電話", "090-0000-0000"),
        ],
        ..item(S::Contact, "見本 花子")
    };
    let simple = [
        (S::Alert, "気道確保困難"),
        (S::PastProblem, "胃潰瘍"),
        (S::Dispense, "ビソプロロール錠"),
        (S::Infection, "HBs抗原"),
        (S::Procedure, "ペースメーカ植込み術"),
        (S::Care, "発作時: 坐薬を使う"),
        (S::Vital, "SpO2"),
        (S::AdvanceDirective, "心肺蘇生を望まない"),
        (S::Encounter, "北病院 循環器内科"),
        (S::Document, "退院時サマリー"),
        (S::FunctionalStatus, "要介護3"),
        (S::Pregnancy, "妊娠24週"),
        (S::Immunization, "肺炎球菌ワクチン"),
        (S::SocialHistory, "喫煙"),
        (S::BloodType, "ABO血液型"),
        (S::CareTeam, "見本診療所"),
        (S::Communication, "筆談"),
        (S::Checkup, "特定健診"),
        (S::Problem, HOSTILE),
    ];
    [
        penicillin, denied, warfarin, potassium, untold, ventilator, contact,
    ]
    .into_iter()
    .chain(simple.map(|(section, display)| item(section, display)))
    .collect()
}

fn patient() -> PatientHeader {
    let name = |representation: NameRepresentation, text: &str, used: NameUse| PersonName {
        representation: representation.into(),
        text: text.to_owned(),
        r#use: used.into(),
        ..PersonName::default()
    };
    PatientHeader {
        names: vec![
            name(
                NameRepresentation::Ideographic,
                "見本 太郎",
                NameUse::Official,
            ),
            name(
                NameRepresentation::Syllabic,
                "ミホン タロウ",
                NameUse::Official,
            ),
            name(NameRepresentation::Ideographic, "旧姓 太郎", NameUse::Old),
        ],
        birth_date: "1950-04-01".to_owned(),
        age_years: Some(76),
        administrative_gender: AdministrativeGender::Male.into(),
        addresses: vec![Address {
            state: "東京都".to_owned(),
            city: "文京区".to_owned(),
            ..Address::default()
        }],
        telecoms: vec![Telecom {
            value: "03-0000-0000".to_owned(),
            ..Telecom::default()
        }],
        languages: vec!["ja".to_owned()],
        ..PatientHeader::default()
    }
}

fn region(home: &str, name: &str, state: RegionState) -> RegionStatus {
    RegionStatus {
        home_community_id: home.to_owned(),
        name: name.to_owned(),
        state: state.into(),
        as_of: Some(time(1_775_012_400)),
        ..RegionStatus::default()
    }
}

/// Something of everything; the east did not answer.
pub(super) fn rich() -> GetSummaryResponse {
    let unread = ListedDocument {
        document: Some(DocumentRef {
            home_community_id: SOUTH.to_owned(),
            repository_unique_id: "2.999.4".to_owned(),
            document_unique_id: "2.999.5.9".to_owned(),
        }),
        title: "紹介状(画像)".to_owned(),
        mime_type: "application/pdf".to_owned(),
        creation_time: "20260301000000".to_owned(),
        reason: "UNKNOWN_FORMAT".to_owned(),
        ..ListedDocument::default()
    };
    let absence = AbsenceStatement {
        section: SummarySection::Allergy.into(),
        reason: AbsenceReason::StatedNone.into(),
        codes: vec![code(
            "http://snomed.info/sct",
            "429625007",
            "No known food allergy",
        )],
        sources: vec![source(SOUTH, "南病院", "2025-12-01")],
        home_community_ids: Vec::new(),
    };
    GetSummaryResponse {
        summary: Some(EmergencySummary {
            summary_id: "0198c0de-0000-7000-8000-000000000001".to_owned(),
            linkage_id: "L-1".to_owned(),
            patient: Some(patient()),
            composed: Some(time(1_775_012_400)),
            items: items(),
            absences: vec![absence],
            documents: vec![unread],
            identity_grade: MatchGrade::Probable.into(),
            approval: Some(Approval {
                approved_by: Some(PersonRef {
                    display_name: "見本 医師".to_owned(),
                    ..PersonRef::default()
                }),
                approved: Some(time(1_775_000_000)),
                ..Approval::default()
            }),
            ..EmergencySummary::default()
        }),
        completeness: Some(Completeness {
            complete: false,
            regions: vec![
                region(NORTH, "北", RegionState::Ok),
                region(SOUTH, "南", RegionState::Ok),
                region(EAST, "東", RegionState::Unreachable),
            ],
        }),
    }
}

/// Nothing is known, and everybody answered.
pub(super) fn empty() -> GetSummaryResponse {
    let mut answer = rich();
    if let Some(summary) = &mut answer.summary {
        *summary = EmergencySummary {
            summary_id: summary.summary_id.clone(),
            composed: summary.composed,
            identity_grade: MatchGrade::Certain.into(),
            ..EmergencySummary::default()
        };
    }
    answer.completeness = Some(Completeness {
        complete: true,
        regions: vec![region(NORTH, "北", RegionState::Empty)],
    });
    answer
}

pub(super) const PATIENT: Options = Options {
    language: Language::Japanese,
    for_patient: true,
};

/// A form as text.
pub(super) fn written(form: SummaryForm, answer: &GetSummaryResponse, options: Options) -> String {
    let document = document(form, answer, options).unwrap();
    String::from_utf8_lossy(&document.octets).into_owned()
}

fn html(answer: &GetSummaryResponse, options: Options) -> String {
    written(SummaryForm::Html, answer, options)
}

#[track_caller]
fn in_order(page: &str, texts: &[&str]) {
    let mut from = 0;
    for text in texts {
        let at = page[from..].find(text);
        from += at.unwrap_or_else(|| panic!("{text:?} is not there, or too early"));
    }
}

#[test]
fn the_page_has_the_allergies_first_and_the_gaps_named() {
    let page = html(&rich(), Options::default());
    let body = page.split_once("<body>").unwrap().1;
    in_order(
        body,
        &[
            "見本 太郎",
            "旧姓",
            "76",
            "As of: 2026-04-01 12:00 JST",
            "IDENTITY NOT CERTAIN",
            "NOT COMPLETE",
            "東 (接続不可)",
            "HIGH RISK",
            "CONTRADICTION 1",
            "ペニシリン",
            "アナフィラキシー",
            "CONTRADICTION 1",
            "否定",
            "No known food allergy",
            "気道確保困難",
            "NOT TOLD TO THE PATIENT",
            "膵癌",
            "ワルファリンカリウム錠",
            "1日1回朝食後",
            "5.40 mmol/L H (3.5 - 5.0)",
            "前回 4.1 mmol/L 2026-01-10",
            "could not be reached",
            "紹介状(画像)",
        ],
    );
    // A source with its region and date.
    assert!(body.contains("北病院 2026-03-01 記録 [北]"), "{body}");
}

#[test]
fn the_page_needs_nothing_else_and_runs_nothing() {
    let page = html(&rich(), Options::default());
    let style = page.split_once("<style>").unwrap().1;
    let style = style.split_once("</style>").unwrap().0;
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, style.as_bytes()));
    assert!(page.contains(&format!("style-src 'sha256-{hash}'")));
    assert!(style.contains("@media print") && style.contains("size: A4"));
    assert!(page.contains("width=device-width"));
    for forbidden in [
        "<script",
        "<img",
        "<link",
        "<iframe",
        "http://",
        "https://",
        "url(",
        "onerror=y>",
        "\u{202e}",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("&lt;script&gt;alert('1')&lt;/script&gt;"));
    let tags: BTreeSet<&str> = page
        .split('<')
        .skip(1)
        .filter_map(|tag| tag.split([' ', '>', '/']).next())
        .filter(|tag| !tag.is_empty())
        .collect();
    let known = [
        "!DOCTYPE", "body", "div", "footer", "h1", "h2", "head", "header", "html", "li", "main",
        "meta", "p", "section", "span", "style", "title", "ul",
    ];
    assert!(tags.is_subset(&BTreeSet::from(known)), "{tags:?}");
    let title = page.split_once("<title>").unwrap().1;
    assert!(!title.split_once("</title>").unwrap().0.contains("太郎"));
}

#[test]
fn nobody_is_told_what_was_not_said() {
    let page = html(&empty(), Options::default());
    assert_eq!(
        page.matches("情報なし").count(),
        3,
        "allergies, problems, drugs"
    );
    assert!(page.contains("All regions asked have answered"));
    assert!(!page.contains("none known") && !page.contains("NOT COMPLETE"));
    let mut partial = empty();
    let completeness = partial.completeness.as_mut().unwrap();
    completeness.complete = false;
    completeness
        .regions
        .push(region(EAST, "東", RegionState::Timeout));
    let page = html(&partial, Options::default());
    assert!(
        !page.contains("情報なし"),
        "absence out of an incomplete answer"
    );
    assert_eq!(
        page.matches("Not known: regions could not be asked")
            .count(),
        3
    );
}

#[test]
fn the_patient_is_not_told_by_any_form() {
    for form in [SummaryForm::FhirIps, SummaryForm::Html] {
        let told = written(form, &rich(), Options::default());
        assert!(
            told.contains("膵癌") && told.contains("紹介状(画像)"),
            "{form:?}"
        );
        let told = written(form, &rich(), PATIENT);
        for secret in ["膵癌", "未告知", "UNINFORMED", "NOT TOLD", "紹介状(画像)"] {
            assert!(!told.contains(secret), "{secret} in {form:?}");
        }
        assert!(told.contains("ペニシリン"));
    }
    // In the printed form all text comes from the page.
    let mut answer = rich();
    hide_uninformed(answer.summary.as_mut().unwrap());
    let whole = Whole {
        summary: answer.summary.as_ref().unwrap(),
        completeness: answer.completeness.as_ref().unwrap(),
        options: PATIENT,
    };
    let page = page::Page::of(&whole);
    let leads = page.blocks.iter().flat_map(|block| &block.rows);
    assert!(leads.into_iter().all(|row| !row.lead.contains("膵癌")));
}

/// What is hidden makes a denial untrue, and a contradiction one-sided: neither may be left to tell of it.
#[test]
fn nothing_is_left_for_the_patient_that_follows_from_what_is_hidden() {
    let item = |id: &str, group: &str| SummaryItem {
        item_id: id.to_owned(),
        section: SummarySection::Problem.into(),
        conflict_group: group.to_owned(),
        ..SummaryItem::default()
    };
    let hidden = SummaryItem {
        national_flags: vec![NationalFlag::Uninformed.into()],
        ..item("hidden", "a")
    };
    let stated = |section: SummarySection| AbsenceStatement {
        section: section.into(),
        reason: AbsenceReason::StatedNone.into(),
        ..AbsenceStatement::default()
    };
    let mut summary = EmergencySummary {
        items: vec![item("peer", "a"), hidden, item("1", "b"), item("2", "b")],
        absences: vec![
            stated(SummarySection::Problem),
            stated(SummarySection::Device),
        ],
        ..EmergencySummary::default()
    };
    hide_uninformed(&mut summary);
    let shown = summary.items.iter();
    let shown: Vec<_> = shown
        .map(|item| (item.item_id.as_str(), item.conflict_group.as_str()))
        .collect();
    assert_eq!(shown, [("peer", ""), ("1", "b"), ("2", "b")]);
    assert_eq!(summary.absences, [stated(SummarySection::Device)]);
}

/// INV-6: a section whose facts are too old is not one without information.
#[test]
fn what_is_left_out_as_too_old_is_said() {
    let mut answer = empty();
    let summary = answer.summary.as_mut().unwrap();
    summary.aged_out = vec![crate::wire::pb::emergency::AgedOut {
        section: SummarySection::Medication.into(),
        count: 3,
    }];
    let completeness = answer.completeness.clone().unwrap();
    let summary = answer.summary.as_ref().unwrap();
    let text = plain(summary, &completeness, Options::default(), "2026-12-01");
    let (_, drugs) = text.split_once("■ 処方").unwrap();
    let drugs = drugs.split("■").next().unwrap();
    assert!(drugs.contains("表示期間より古い記載"), "{text}");
    assert!(
        drugs.contains("Left out as older") && drugs.contains(": 3"),
        "{text}"
    );
    assert!(!drugs.contains("情報なし"), "{text}");
    assert!(
        text.contains("情報なし"),
        "of problems there is none: {text}"
    );
}

#[test]
fn english_comes_first_where_it_is_asked_for() {
    let options = Options {
        language: Language::English,
        for_patient: false,
    };
    let page = html(&rich(), options);
    assert!(page.contains("<html lang=\"en\">"));
    assert!(page.contains("Potassium / カリウム"));
    in_order(
        &page,
        &[
            "Contraindications, Allergies / ",
            "reaction アナフィラキシー",
        ],
    );
    assert_eq!(Language::of("en-GB"), Some(Language::English));
    assert_eq!(Language::of("fr"), None);
}

#[test]
fn the_same_summary_is_the_same_document() {
    for form in [SummaryForm::FhirIps, SummaryForm::Html, SummaryForm::Pdf] {
        let [one, other] = [(); 2].map(|()| document(form, &rich(), Options::default()).unwrap());
        assert_eq!(one, other);
        assert!(!format!("{one:?}").contains("太郎"), "not for logs");
    }
}

#[test]
fn a_document_has_a_bound() {
    let mut answer = rich();
    let summary = answer.summary.as_mut().unwrap();
    summary.items = (0..30_000)
        .map(|at| SummaryItem {
            item_id: at.to_string(),
            ..item(SummarySection::Problem, &"長い病名".repeat(20))
        })
        .collect();
    let refused = document(SummaryForm::Html, &answer, Options::default()).unwrap_err();
    assert_eq!(refused.reason(), Reason::TooManyResults);
}

/// Every fact is a line with its source, and no text of a source makes a line of its own.
#[test]
fn plain_text_has_a_line_for_each_fact_and_no_other() {
    let item = SummaryItem {
        section: SummarySection::Allergy.into(),
        display: "ペニシリン\n■ 傷病名".to_owned(),
        sources: vec![ItemSource {
            recorded: "2024-05-01".to_owned(),
            ..ItemSource::default()
        }],
        ..SummaryItem::default()
    };
    let summary = EmergencySummary {
        items: vec![item],
        identity_grade: MatchGrade::Certain.into(),
        partly_withheld: true,
        ..EmergencySummary::default()
    };
    let completeness = crate::federation::fanout::completeness(Vec::new());
    let text = plain(&summary, &completeness, Options::default(), "2026-12-01");
    assert!(text.contains("ペニシリン ■ 傷病名"), "{text}");
    assert!(
        text.contains("2026-12-01") && text.contains("一部非開示"),
        "{text}"
    );
    assert!(text.contains("\n  出典: "), "{text}");
    assert!(!text.lines().any(|line| line == "■ 傷病名"), "{text}");
}
