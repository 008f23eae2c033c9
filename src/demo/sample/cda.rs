//! 診療情報提供書 as an HL7 CDA R2 document (HL7J-CDA-005).

use unicode_normalization::UnicodeNormalization;

use super::document::{Scene, type_code};
use super::plan::Facts;

const INSTITUTIONS: &str = "1.2.392.100495.20.3.23";
const ICD10: &str = "2.16.840.1.113883.6.3";
const LOINC: &str = "2.16.840.1.113883.6.1";
const JLAC10: &str = "1.2.392.200119.4.504";

/// The whole document.
pub(super) fn write(scene: &Scene<'_>) -> String {
    let kind = type_code(scene.kind);
    [
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned(),
        "<ClinicalDocument xmlns=\"urn:hl7-org:v3\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n"
            .to_owned(),
        "<realmCode code=\"JP\"/>\n".to_owned(),
        "<typeId root=\"2.16.840.1.113883.1.3\" extension=\"POCD_HD000040\"/>\n".to_owned(),
        format!("<id root=\"{}\"/>\n", scene.unique_id),
        format!(
            "<code code=\"{}\" codeSystem=\"{}\" displayName=\"{}\"/>\n",
            kind.code, kind.scheme, kind.display_ja
        ),
        format!("<title>{}</title>\n", kind.display_ja),
        format!("<effectiveTime value=\"{}\"/>\n", scene.written.hl7()),
        format!(
            "<confidentialityCode code=\"{}\" codeSystem=\"{}\"/>\n",
            scene.confidentiality.code, scene.confidentiality.scheme
        ),
        "<languageCode code=\"ja-JP\"/>\n".to_owned(),
        record_target(scene),
        author(scene),
        custodian(scene),
        body(scene),
        "</ClinicalDocument>\n".to_owned(),
    ]
    .concat()
}

fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

fn record_target(scene: &Scene<'_>) -> String {
    let record = scene.record;
    let full = |kana: &str| kana.nfkc().collect::<String>();
    let name = |representation: &str, family: &str, given: &str| {
        format!(
            "<name use=\"{representation}\"><family>{}</family><given>{}</given></name>",
            escape(family),
            escape(given)
        )
    };
    format!(
        "<recordTarget><patientRole>\n\
         <id root=\"{}\" extension=\"{}\"/>\n\
         <addr use=\"HP\"><country>JP</country><state>{}</state><city>{}</city>\
         <streetAddressLine>{}</streetAddressLine><postalCode>{}</postalCode></addr>\n\
         <telecom use=\"HP\" value=\"tel:{}\"/>\n\
         <patient>{}{}\
         <administrativeGenderCode code=\"{}\" codeSystem=\"2.16.840.1.113883.5.1\"/>\
         <birthTime value=\"{}\"/></patient>\n\
         </patientRole></recordTarget>\n",
        scene.institution.patient_id_oid(),
        record.local_id,
        escape(&record.state),
        escape(&record.city),
        escape(&record.line),
        record.postal_code,
        record.phone,
        name("IDE", &record.family_kanji, &record.given_kanji),
        name("SYL", &full(&record.family_kana), &full(&record.given_kana)),
        record.sex.hl7(),
        record.birth_date.replace('-', ""),
    )
}

fn author(scene: &Scene<'_>) -> String {
    format!(
        "<author><time value=\"{}\"/><assignedAuthor>\
         <id root=\"1.2.392.100495.20.3.41.1{}\" extension=\"D01\"/>\
         <assignedPerson><name use=\"IDE\">{}</name><name use=\"SYL\">{}</name></assignedPerson>\
         {}</assignedAuthor></author>\n",
        scene.written.hl7(),
        scene.institution.code,
        escape(scene.doctor.0),
        escape(scene.doctor.1),
        organization(scene, "representedOrganization"),
    )
}

fn custodian(scene: &Scene<'_>) -> String {
    format!(
        "<custodian><assignedCustodian>{}</assignedCustodian></custodian>\n",
        organization(scene, "representedCustodianOrganization")
    )
}

fn organization(scene: &Scene<'_>, element: &str) -> String {
    format!(
        "<{element}><id root=\"{INSTITUTIONS}\" extension=\"{}\"/><name>{}</name></{element}>",
        scene.institution.code,
        escape(&scene.institution.name_ja)
    )
}

fn body(scene: &Scene<'_>) -> String {
    let facts = scene.facts;
    let to = format!("{} 御中", scene.addressee.name_ja);
    let sections = [
        section("18661-9", "紹介先", &[to], &[]),
        section(
            "42349-1",
            "紹介目的",
            &["貴院での継続診療をお願いいたします。".to_owned()],
            &[],
        ),
        problems(facts),
        allergies(facts),
        medication(facts),
        results(scene),
        procedures(facts),
    ];
    format!(
        "<component><structuredBody>\n{}</structuredBody></component>\n",
        sections.concat()
    )
}

/// A section with a list of lines; empty if there are none.
fn section(code: &str, title: &str, lines: &[String], entries: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let items: Vec<_> = lines
        .iter()
        .map(|line| format!("<item>{}</item>", escape(line)))
        .collect();
    let items = items.concat();
    format!(
        "<component><section><code code=\"{code}\" codeSystem=\"{LOINC}\"/>\
         <title>{title}</title><text><list>{items}</list></text>{}</section></component>\n",
        entries.concat()
    )
}

fn entry(act: &str) -> String {
    format!("<entry>{act}</entry>")
}

fn problems(facts: &Facts) -> String {
    let lines: Vec<_> = facts
        .problems
        .iter()
        .map(|problem| problem.name.to_owned())
        .collect();
    let entries: Vec<_> = facts
        .problems
        .iter()
        .map(|problem| {
            entry(&format!(
                "<observation classCode=\"OBS\" moodCode=\"EVN\">\
                 <code code=\"29308-4\" codeSystem=\"{LOINC}\"/><statusCode code=\"completed\"/>\
                 <value xsi:type=\"CD\" code=\"{}\" codeSystem=\"{ICD10}\" displayName=\"{}\"/>\
                 </observation>",
                problem.icd10, problem.name
            ))
        })
        .collect();
    section("11450-4", "傷病名", &lines, &entries)
}

fn allergies(facts: &Facts) -> String {
    let lines: Vec<_> = facts
        .allergies
        .iter()
        .map(|allergy| format!("{}：{}", allergy.name, allergy.reaction))
        .collect();
    section("48765-2", "アレルギー・不耐性反応", &lines, &[])
}

fn medication(facts: &Facts) -> String {
    let lines: Vec<_> = facts
        .drugs
        .iter()
        .map(|drug| format!("{}　1日{}錠", drug.name, drug.daily))
        .collect();
    section("10160-0", "投薬", &lines, &[])
}

fn results(scene: &Scene<'_>) -> String {
    let readings = &scene.facts.results;
    let lines: Vec<_> = readings
        .iter()
        .map(|reading| {
            format!(
                "{} {} {}",
                reading.test.name,
                reading.value(),
                reading.test.unit
            )
        })
        .collect();
    let entries: Vec<_> = readings
        .iter()
        .map(|reading| {
            entry(&format!(
                "<observation classCode=\"OBS\" moodCode=\"EVN\">\
                 <code code=\"{}\" codeSystem=\"{JLAC10}\" displayName=\"{}\"/>\
                 <statusCode code=\"completed\"/><effectiveTime value=\"{}\"/>\
                 <value xsi:type=\"PQ\" value=\"{}\" unit=\"{}\"/></observation>",
                reading.test.jlac10,
                reading.test.name,
                scene.began.hl7(),
                reading.value(),
                reading.test.ucum
            ))
        })
        .collect();
    section("30954-2", "検査結果", &lines, &entries)
}

fn procedures(facts: &Facts) -> String {
    let lines: Vec<_> = facts
        .operations
        .iter()
        .map(|operation| format!("{}（{}）", operation.name, operation.code))
        .chain(
            facts
                .pacemaker
                .then(|| super::clinical::PACEMAKER.to_owned()),
        )
        .collect();
    section("47519-4", "手術・医療機器", &lines, &[])
}
