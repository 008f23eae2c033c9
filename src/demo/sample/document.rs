//! A planned document becomes bytes and registry metadata.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};

use super::clinical::{Department, Problem};
use super::model::{
    DocumentKind, InstitutionKind, SampleCode, SampleDocument, SampleInstitution, SamplePerson,
    SampleRecord, SampleRegion,
};
use super::plan::{Facts, Plan};
use super::rng::Rng;
use super::{cda, fhir, pdf};

const LOINC: &str = "2.16.840.1.113883.6.1";
const DOCUMENT_CODES: &str = "http://jpfhir.jp/fhir/core/CodeSystem/JP_DocumentCodes_CS";
const CONFIDENTIALITY: &str = "2.16.840.1.113883.5.25";
const DEPARTMENTS: &str = "1.2.392.200250.2.2.2";
const FEE_TABLE: &str = "1.2.392.100495.20.3.22";
const IHE_FORMATS: &str = "1.3.6.1.4.1.19376.1.2.3";
/// formatCodes that are URIs of their own.
const URI: &str = "urn:ietf:rfc:3986";

/// Doctors who sign; kanji and kana.
const DOCTORS: [(&str, &str); 4] = [
    ("若月 慎吾", "ワカツキ シンゴ"),
    ("東海林 礼子", "トウカイリン レイコ"),
    ("三枝 光", "サエグサ ヒカル"),
    ("早瀬 律子", "ハヤセ リツコ"),
];

/// Everything the writers need to know about one document.
pub(super) struct Scene<'a> {
    pub(super) kind: DocumentKind,
    pub(super) region: &'a SampleRegion,
    pub(super) institution: &'a SampleInstitution,
    /// Whom a referral is written to.
    pub(super) addressee: &'a SampleInstitution,
    pub(super) record: &'a SampleRecord,
    pub(super) facts: &'a Facts,
    /// Kanji and kana.
    pub(super) doctor: (&'static str, &'static str),
    pub(super) department: SampleCode,
    pub(super) confidentiality: SampleCode,
    pub(super) written: Moment,
    pub(super) began: Moment,
    pub(super) unique_id: String,
}

/// An instant, by the clock in Japan.
#[derive(Clone, Copy)]
pub(super) struct Moment(DateTime);

impl Moment {
    /// `YYYYMMDDhhmmss` in UTC, as XDS has it.
    pub(super) fn dtm_utc(self) -> String {
        let utc = self.0.saturating_sub(SignedDuration::from_hours(9));
        utc.strftime("%Y%m%d%H%M%S").to_string()
    }

    /// HL7 v3 time stamp with offset.
    pub(super) fn hl7(self) -> String {
        format!("{}+0900", self.0.strftime("%Y%m%d%H%M%S"))
    }

    /// FHIR instant.
    pub(super) fn fhir(self) -> String {
        format!("{}+09:00", self.0.strftime("%Y-%m-%dT%H:%M:%S"))
    }

    /// The day.
    pub(super) fn date(self) -> Date {
        self.0.date()
    }
}

/// Writes the document of `plan`; `None` if the plan's person or record does not exist.
pub(super) fn write(
    rng: &mut Rng,
    regions: &[SampleRegion],
    people: &[SamplePerson],
    plan: &Plan,
    today: Date,
) -> Option<SampleDocument> {
    let record = people.get(plan.person)?.records.get(plan.slot)?;
    let scene = scene(rng, regions, record, plan, today)?;
    let content = match plan.kind {
        DocumentKind::CdaReferral => cda::write(&scene).into_bytes(),
        DocumentKind::PdfLabReport => pdf::write(&scene),
        DocumentKind::Referral
        | DocumentKind::DischargeSummary
        | DocumentKind::HealthCheck
        | DocumentKind::Prescription => fhir::write(rng, &scene).to_string().into_bytes(),
    };
    let type_code = type_code(plan.kind);
    Some(SampleDocument {
        region: record.region,
        institution: record.institution,
        person: plan.person,
        local_id: record.local_id.clone(),
        kind: plan.kind,
        mime_type: mime_type(plan.kind),
        format_code: format_code(plan.kind),
        class_code: class_code(plan.kind),
        type_code,
        practice_setting_code: scene.department,
        facility_type: facility_type(scene.institution.kind),
        confidentiality: scene.confidentiality,
        title_ja: type_code.display_ja.to_owned(),
        creation_time: scene.written.dtm_utc(),
        service_start: scene.began.dtm_utc(),
        unique_id: scene.unique_id,
        content,
    })
}

fn scene<'a>(
    rng: &mut Rng,
    regions: &'a [SampleRegion],
    record: &'a SampleRecord,
    plan: &'a Plan,
    today: Date,
) -> Option<Scene<'a>> {
    let region = regions.get(record.region)?;
    let institution = region.institutions.get(record.institution)?;
    let other = usize::from(record.institution == 0);
    let addressee = region.institutions.get(other)?;
    let day = today.saturating_sub(SignedDuration::from_hours(24 * i64::from(plan.days_ago)));
    let (hour, minute, second) = (rng.between(9, 17), rng.between(0, 59), rng.between(0, 59));
    let seconds = i64::from(hour * 3_600 + minute * 60 + second);
    let written = day
        .at(0, 0, 0, 0)
        .saturating_add(SignedDuration::from_secs(seconds));
    // A stay lasts days, a visit half an hour.
    let lasted = match plan.kind {
        DocumentKind::DischargeSummary => SignedDuration::from_hours(24 * 9),
        _ => SignedDuration::from_mins(30),
    };
    let of = department_for(record, plan.facts.problems.first().copied(), today);
    let restricted = matches!(of, Department::Psychiatry);
    Some(Scene {
        kind: plan.kind,
        region,
        institution,
        addressee,
        record,
        facts: &plan.facts,
        doctor: *rng.pick(&DOCTORS, &DOCTORS[0]),
        department: department(of),
        confidentiality: confidentiality(restricted),
        written: Moment(written),
        began: Moment(written.saturating_sub(lasted)),
        unique_id: format!("2.25.{}", rng.uuid().as_u128()),
    })
}

/// Children see the paediatrician, whatever they have.
fn department_for(record: &SampleRecord, problem: Option<&Problem>, today: Date) -> Department {
    let born: Option<Date> = record.birth_date.parse().ok();
    let child = born.is_some_and(|born| today.year() - born.year() < 15);
    match problem {
        _ if child => Department::Paediatrics,
        Some(problem) => problem.department,
        None => Department::Internal,
    }
}

const fn code(code: &'static str, scheme: &'static str, display_ja: &'static str) -> SampleCode {
    SampleCode {
        code,
        scheme,
        display_ja,
    }
}

fn mime_type(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::CdaReferral => "text/xml",
        DocumentKind::PdfLabReport => "application/pdf",
        DocumentKind::Referral
        | DocumentKind::DischargeSummary
        | DocumentKind::HealthCheck
        | DocumentKind::Prescription => "application/fhir+json",
    }
}

fn format_code(kind: DocumentKind) -> SampleCode {
    match kind {
        DocumentKind::CdaReferral => code("urn:jp:hl7j-cda-005", URI, "電子紹介状 CDA"),
        DocumentKind::PdfLabReport => code(
            "urn:ihe:iti:xds:2017:mimeTypeSufficient",
            IHE_FORMATS,
            "MIMEタイプで十分",
        ),
        DocumentKind::Referral
        | DocumentKind::DischargeSummary
        | DocumentKind::HealthCheck
        | DocumentKind::Prescription => code(fhir::bundle_profile(kind), URI, "FHIR文書"),
    }
}

fn class_code(kind: DocumentKind) -> SampleCode {
    match kind {
        DocumentKind::DischargeSummary => code("Z0002", DOCUMENT_CODES, "要約"),
        DocumentKind::HealthCheck | DocumentKind::PdfLabReport => code("47045-0", LOINC, "報告書"),
        DocumentKind::Referral | DocumentKind::CdaReferral | DocumentKind::Prescription => {
            type_code(kind)
        }
    }
}

/// The leaf of the SS-MIX2 standard document codes.
pub(super) fn type_code(kind: DocumentKind) -> SampleCode {
    match kind {
        DocumentKind::Referral | DocumentKind::CdaReferral => {
            code("57133-1", LOINC, "診療情報提供書")
        }
        DocumentKind::DischargeSummary => code("18842-5", LOINC, "退院時サマリー"),
        DocumentKind::HealthCheck => code("53576-5", LOINC, "健康診断結果報告書"),
        DocumentKind::Prescription => code("57833-6", LOINC, "処方箋"),
        DocumentKind::PdfLabReport => code("11502-2", LOINC, "検体検査報告書"),
    }
}

fn department(of: Department) -> SampleCode {
    match of {
        Department::Internal => code("01", DEPARTMENTS, "内科"),
        Department::Psychiatry => code("02", DEPARTMENTS, "精神科"),
        Department::Cardiology => code("08", DEPARTMENTS, "循環器科"),
        Department::Paediatrics => code("09", DEPARTMENTS, "小児科"),
        Department::Surgery => code("10", DEPARTMENTS, "外科"),
        Department::Orthopaedics => code("11", DEPARTMENTS, "整形外科"),
        Department::Eyes => code("26", DEPARTMENTS, "眼科"),
    }
}

fn confidentiality(restricted: bool) -> SampleCode {
    if restricted {
        code("R", CONFIDENTIALITY, "制限付き")
    } else {
        code("N", CONFIDENTIALITY, "通常")
    }
}

fn facility_type(kind: InstitutionKind) -> SampleCode {
    match kind {
        InstitutionKind::Hospital => code("1", FEE_TABLE, "医科（病院）"),
        InstitutionKind::Clinic => code("1", FEE_TABLE, "医科（診療所）"),
        InstitutionKind::Pharmacy => code("4", FEE_TABLE, "調剤"),
    }
}
