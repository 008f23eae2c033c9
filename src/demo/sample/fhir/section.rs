//! Sections of the Composition, by kind of document.

use std::slice::from_ref;

use serde_json::{Value, json};

use super::super::document::Scene;
use super::super::model::DocumentKind;
use super::{Anchors, coding, reference};

const CLINS: &str = "http://jpfhir.jp/fhir/clins/CodeSystem/document-section";
const CHECKUP: &str = "http://jpfhir.jp/fhir/eCheckup/CodeSystem/section-code";
const PRESCRIPTION: &str = "urn:oid:1.2.392.100495.20.2.12";

/// Where the resources went, by kind.
#[derive(Default)]
pub(super) struct Filed {
    pub(super) allergies: Vec<String>,
    pub(super) problems: Vec<String>,
    pub(super) drugs: Vec<String>,
    pub(super) results: Vec<String>,
    pub(super) operations: Vec<String>,
    pub(super) devices: Vec<String>,
    pub(super) addressee: Vec<String>,
    pub(super) coverage: Vec<String>,
}

/// The sections of the document.
pub(super) fn sections(scene: &Scene<'_>, anchors: &Anchors, filed: &Filed) -> Vec<Value> {
    match scene.kind {
        DocumentKind::DischargeSummary => discharge(scene, anchors, filed),
        DocumentKind::Prescription => prescription(scene, anchors, filed),
        DocumentKind::HealthCheck | DocumentKind::PdfLabReport => checkup(scene, filed),
        DocumentKind::Referral | DocumentKind::CdaReferral => referral(scene, anchors, filed),
    }
}

fn referral(scene: &Scene<'_>, anchors: &Anchors, filed: &Filed) -> Vec<Value> {
    let from = [anchors.doctor.clone(), anchors.institution.clone()];
    let visit = from_ref(&anchors.encounter);
    let purpose = format!(
        "{}での継続診療をお願いいたします。",
        scene.addressee.name_ja
    );
    let course = "外来で加療し、症状は安定しています。";
    let mut parts = vec![
        section(CLINS, "950", "紹介目的", &[purpose], visit),
        section(
            CLINS,
            "340",
            "傷病名・主訴",
            &problem_lines(scene),
            &filed.problems,
        ),
        section(CLINS, "330", "臨床経過", &[course.to_owned()], visit),
    ];
    parts.extend(common(scene, filed));
    let prescribed = section(CLINS, "430", "投薬指示", &drug_lines(scene), &filed.drugs);
    parts.extend(some(&filed.drugs, prescribed));
    vec![
        section(
            CLINS,
            "920",
            "紹介元",
            from_ref(&scene.institution.name_ja),
            &from,
        ),
        section(
            CLINS,
            "910",
            "紹介先",
            from_ref(&scene.addressee.name_ja),
            &filed.addressee,
        ),
        structured(&parts),
    ]
}

fn discharge(scene: &Scene<'_>, anchors: &Anchors, filed: &Filed) -> Vec<Value> {
    let visit = from_ref(&anchors.encounter);
    let stay = format!("{}入院、{}退院。", scene.began.date(), scene.written.date());
    let course = "入院のうえ加療し、経過良好にて退院となりました。";
    let diagnoses = section(
        CLINS,
        "342",
        "退院時診断",
        &problem_lines(scene),
        &filed.problems,
    );
    let mut parts = vec![
        section(CLINS, "324", "退院時詳細", &[stay], visit),
        section(CLINS, "333", "入院中経過", &[course.to_owned()], visit),
    ];
    parts.extend(some(&filed.problems, diagnoses));
    parts.extend(common(scene, filed));
    let prescribed = section(
        CLINS,
        "444",
        "退院時投薬指示",
        &drug_lines(scene),
        &filed.drugs,
    );
    parts.extend(some(&filed.drugs, prescribed));
    vec![structured(&parts)]
}

/// What referrals and discharge summaries both have: a section only where there is something.
fn common(scene: &Scene<'_>, filed: &Filed) -> Vec<Value> {
    let facts = scene.facts;
    let allergies: Vec<_> = facts
        .allergies
        .iter()
        .map(|allergy| format!("{}（{}）", allergy.name, allergy.reaction))
        .collect();
    let operations: Vec<_> = facts
        .operations
        .iter()
        .map(|operation| operation.name.to_owned())
        .collect();
    let devices = [super::super::clinical::PACEMAKER.to_owned()];
    [
        some(
            &filed.allergies,
            section(CLINS, "510", "アレルギー", &allergies, &filed.allergies),
        ),
        some(
            &filed.results,
            section(
                CLINS,
                "620",
                "検査結果",
                &result_lines(scene),
                &filed.results,
            ),
        ),
        some(
            &filed.operations,
            section(CLINS, "730", "手術", &operations, &filed.operations),
        ),
        some(
            &filed.devices,
            section(CLINS, "810", "医療機器", &devices, &filed.devices),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn prescription(scene: &Scene<'_>, anchors: &Anchors, filed: &Filed) -> Vec<Value> {
    let head = [
        anchors.encounter.clone(),
        anchors.doctor.clone(),
        anchors.institution.clone(),
    ];
    let head: Vec<_> = head
        .into_iter()
        .chain(filed.coverage.iter().cloned())
        .collect();
    let body: Vec<_> = filed.drugs.iter().chain(&filed.problems).cloned().collect();
    let issued = format!("交付年月日 {}", scene.written.date());
    vec![
        section(PRESCRIPTION, "01", "処方指示ヘッダ", &[issued], &head),
        section(
            PRESCRIPTION,
            "11",
            "処方指示ボディ",
            &drug_lines(scene),
            &body,
        ),
    ]
}

fn checkup(scene: &Scene<'_>, filed: &Filed) -> Vec<Value> {
    let entries: Vec<_> = filed
        .results
        .iter()
        .chain(&filed.coverage)
        .cloned()
        .collect();
    vec![section(
        CHECKUP,
        "01010",
        "検査・問診結果",
        &result_lines(scene),
        &entries,
    )]
}

fn problem_lines(scene: &Scene<'_>) -> Vec<String> {
    scene
        .facts
        .problems
        .iter()
        .map(|problem| problem.name.to_owned())
        .collect()
}

fn drug_lines(scene: &Scene<'_>) -> Vec<String> {
    scene
        .facts
        .drugs
        .iter()
        .map(|drug| format!("{}　1日{}錠", drug.name, drug.daily))
        .collect()
}

fn result_lines(scene: &Scene<'_>) -> Vec<String> {
    let line = |reading: &super::super::plan::Reading| {
        format!(
            "{} {} {}",
            reading.test.name,
            reading.value(),
            reading.test.unit
        )
    };
    scene.facts.results.iter().map(line).collect()
}

/// `section` unless it would be empty.
fn some(entries: &[String], section: Value) -> Option<Value> {
    (!entries.is_empty()).then_some(section)
}

/// 構造情報, which holds the others.
fn structured(parts: &[Value]) -> Value {
    json!({
        "title": "構造情報",
        "code": { "coding": [coding(CLINS, "300", "構造情報セクション")] },
        "section": parts,
    })
}

fn section(system: &str, code: &str, title: &str, lines: &[String], entries: &[String]) -> Value {
    let escape = quick_xml::escape::escape;
    let items: Vec<_> = lines
        .iter()
        .map(|line| format!("<li>{}</li>", escape(line)))
        .collect();
    let items = items.concat();
    json!({
        "title": title,
        "code": { "coding": [coding(system, code, title)] },
        "text": {
            "status": "generated",
            "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\"><ul>{items}</ul></div>"),
        },
        "entry": entries.iter().map(|address| reference(address)).collect::<Vec<_>>(),
    })
}
