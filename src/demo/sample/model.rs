//! What a sample consists of. Everything here is invented; the shapes are real.

use jiff::civil::{Date, date};

use super::codes::PATIENT_ID_ROOT;

/// What to generate.
#[derive(Clone, Debug)]
pub struct SampleConfig {
    /// The same seed, sizes and date give the same bytes.
    pub seed: u64,
    /// Number of regions, 1 to [`SampleConfig::MAX_REGIONS`]; other values are clamped.
    pub regions: usize,
    /// Number of people, at least [`SampleConfig::MIN_PATIENTS`]; fewer is raised to that.
    pub patients: usize,
    /// The sample's today, in Japan; ages and document dates count back from it.
    pub reference_date: Date,
}

impl SampleConfig {
    /// Municipality numbers have two digits and each region takes one.
    pub const MAX_REGIONS: usize = 64;
    /// Room for the people of [`Scenario`] and some others.
    pub const MIN_PATIENTS: usize = 20;
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self {
            seed: 0x52_45_4e_4b_45_49,
            regions: 3,
            patients: 220,
            reference_date: date(2026, 4, 1),
        }
    }
}

/// Regions, people and documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The regional networks.
    pub regions: Vec<SampleRegion>,
    /// People in order of `truth`: `people[n].truth == n`.
    pub people: Vec<SamplePerson>,
    /// Documents, in order of person.
    pub documents: Vec<SampleDocument>,
    /// Which people play a part in the demo.
    pub scenario: Scenario,
}

/// Truth numbers of the people with a part to play; each has documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Known in regions 0 and 1; an allergy is recorded in the first, medication in the second.
    pub cross_region: usize,
    /// Changed her family name on marriage: region 0 knows only the old one, region 1 both.
    pub married: usize,
    /// Known in two regions and opted out of sharing.
    pub opted_out: usize,
    /// Over eighty: penicillin allergy (region 0), warfarin and recent results (region 1),
    /// atrial fibrillation and a pacemaker.
    pub emergency: usize,
    /// Two people of the same name, birth date and sex, who must never be linked.
    pub namesakes: (usize, usize),
    /// Twins: same birth date, address and insured number, different branch number.
    pub twins: (usize, usize),
}

/// A regional network with its institutions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleRegion {
    /// Name of the network in Japanese.
    pub name_ja: String,
    /// Name of the network in English.
    pub name_en: String,
    /// 都道府県, with its suffix.
    pub prefecture_ja: String,
    /// The (fictional) municipality.
    pub city_ja: String,
    /// Two hospitals, two clinics and a pharmacy.
    pub institutions: Vec<SampleInstitution>,
}

/// A hospital, clinic or pharmacy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleInstitution {
    /// 医療機関コード of ten digits with a right check digit.
    pub code: String,
    /// Name in Japanese.
    pub name_ja: String,
    /// Name in Latin letters.
    pub name_romaji: String,
    /// What it is.
    pub kind: InstitutionKind,
    /// Whether it has an emergency department.
    pub emergency: bool,
}

impl SampleInstitution {
    /// OID that names this institution as assigning authority of patient numbers.
    pub fn patient_id_oid(&self) -> String {
        format!("{PATIENT_ID_ROOT}{}", self.code)
    }
}

/// Kinds of institution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InstitutionKind {
    /// 病院: 20 beds or more.
    Hospital,
    /// 診療所.
    Clinic,
    /// 薬局.
    Pharmacy,
}

/// A human being: all records with the same `truth` should end up linked, and no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplePerson {
    /// Who it really is; the index in [`Sample::people`].
    pub truth: usize,
    /// One record an institution that knows the person.
    pub records: Vec<SampleRecord>,
}

/// Administrative sex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sex {
    /// 男.
    Male,
    /// 女.
    Female,
}

impl Sex {
    /// The FHIR code: `male` or `female`.
    pub const fn fhir(self) -> &'static str {
        match self {
            Self::Male => "male",
            Self::Female => "female",
        }
    }

    /// The HL7 v2 and v3 code: `M` or `F`.
    pub const fn hl7(self) -> &'static str {
        match self {
            Self::Male => "M",
            Self::Female => "F",
        }
    }
}

/// A person as one institution has registered them, byte for byte as it would send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleRecord {
    /// Index in [`Sample::regions`].
    pub region: usize,
    /// Index in [`SampleRegion::institutions`].
    pub institution: usize,
    /// Patient number at the institution, zero-padded to 8 or 10 digits.
    pub local_id: String,
    /// Family name; sometimes in a variant form (髙橋 for 高橋).
    pub family_kanji: String,
    /// Given name.
    pub given_kanji: String,
    /// Katakana, mostly full width; some systems send half width or no small letters.
    pub family_kana: String,
    /// As `family_kana`.
    pub given_kana: String,
    /// Hepburn.
    pub family_romaji: String,
    /// Hepburn.
    pub given_romaji: String,
    /// Administrative sex.
    pub sex: Sex,
    /// ISO 8601.
    pub birth_date: String,
    /// As received: ISO, eight digits, or a Japanese era.
    pub birth_date_text: String,
    /// Seven digits, with or without hyphen.
    pub postal_code: String,
    /// 都道府県.
    pub state: String,
    /// 市区町村.
    pub city: String,
    /// The rest of the address.
    pub line: String,
    /// With hyphens; never a number that can be dialled.
    pub phone: String,
    /// 保険者番号, 6 or 8 digits with a right check digit.
    pub insurer_number: String,
    /// 記号; empty where the scheme has none.
    pub symbol: String,
    /// 番号.
    pub number: String,
    /// 枝番, two digits; empty where unknown or where the scheme has none.
    pub branch: String,
    /// 旧姓, where the institution knows it.
    pub former_family_kanji: Option<String>,
    /// 旧姓 in kana, where the institution knows it.
    pub former_family_kana: Option<String>,
}

impl SampleRecord {
    /// 被保険者個人識別子: insurer number in eight digits, symbol, number and branch, by colons.
    pub fn insured_person_id(&self) -> String {
        format!(
            "{:0>8}:{}:{}:{}",
            self.insurer_number, self.symbol, self.number, self.branch
        )
    }
}

/// Kinds of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    /// 診療情報提供書, FHIR.
    Referral,
    /// 退院時サマリー, FHIR.
    DischargeSummary,
    /// 健康診断結果報告書, FHIR.
    HealthCheck,
    /// 処方箋, FHIR.
    Prescription,
    /// 診療情報提供書, CDA R2.
    CdaReferral,
    /// 検体検査報告書, PDF.
    PdfLabReport,
}

/// A code with its scheme (XDS: Code, codingScheme, display name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SampleCode {
    /// The code.
    pub code: &'static str,
    /// OID or URI of the code system.
    pub scheme: &'static str,
    /// Display name in Japanese.
    pub display_ja: &'static str,
}

/// A document with the metadata an XDS registry wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleDocument {
    /// Index in [`Sample::regions`].
    pub region: usize,
    /// Index in [`SampleRegion::institutions`]; the author.
    pub institution: usize,
    /// Truth number of the patient.
    pub person: usize,
    /// Patient number at the institution (XDS sourcePatientId).
    pub local_id: String,
    /// What it is.
    pub kind: DocumentKind,
    /// MIME type of `content`.
    pub mime_type: &'static str,
    /// XDS formatCode.
    pub format_code: SampleCode,
    /// XDS classCode.
    pub class_code: SampleCode,
    /// XDS typeCode.
    pub type_code: SampleCode,
    /// XDS practiceSettingCode: 診療科.
    pub practice_setting_code: SampleCode,
    /// XDS healthcareFacilityTypeCode.
    pub facility_type: SampleCode,
    /// XDS confidentialityCode: N or R.
    pub confidentiality: SampleCode,
    /// XDS title.
    pub title_ja: String,
    /// XDS creationTime, UTC, `YYYYMMDDhhmmss`.
    pub creation_time: String,
    /// XDS serviceStartTime, UTC, `YYYYMMDDhhmmss`.
    pub service_start: String,
    /// XDS uniqueId: an OID under 2.25.
    pub unique_id: String,
    /// The document itself.
    pub content: Vec<u8>,
}
