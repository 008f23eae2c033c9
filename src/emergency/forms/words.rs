//! The words of the forms, in both languages, as data.

use crate::wire::pb::common::RegionState;
use crate::wire::pb::emergency::{
    AbsenceReason, ClinicalStatus, Criticality, SummarySection, VerificationStatus,
};
use crate::wire::pb::identity::{AdministrativeGender, MatchGrade};

/// The main language of a form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// 日本語.
    #[default]
    Japanese,
    /// English.
    English,
}

impl Language {
    /// Reads an RFC 5646 tag: `ja`, `en` or one that begins so; empty is Japanese, any other none.
    #[must_use]
    pub fn of(tag: &str) -> Option<Self> {
        let main = tag.split('-').next().unwrap_or_default();
        match main.to_ascii_lowercase().as_str() {
            "" | "ja" => Some(Self::Japanese),
            "en" => Some(Self::English),
            _ => None,
        }
    }

    /// The RFC 5646 tag.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Japanese => "ja",
            Self::English => "en",
        }
    }
}

/// A label in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) ja: &'static str,
    pub(super) en: &'static str,
}

/// A label in both languages.
pub(super) const fn words(ja: &'static str, en: &'static str) -> Words {
    Words { ja, en }
}

impl Words {
    /// In the main language alone.
    pub(super) const fn main(self, language: Language) -> &'static str {
        match language {
            Language::Japanese => self.ja,
            Language::English => self.en,
        }
    }

    /// In both, the main language first: what must be understood by whoever reads it.
    pub(super) fn both(self, language: Language) -> String {
        match language {
            Language::Japanese => format!("{} / {}", self.ja, self.en),
            Language::English => format!("{} / {}", self.en, self.ja),
        }
    }
}

pub(super) const TITLE: Words = words("救急用サマリー", "Emergency patient summary");
pub(super) const BORN: Words = words("生年月日", "Born");
pub(super) const YEARS: Words = words("歳", "years");
pub(super) const ADDRESS: Words = words("住所", "Address");
pub(super) const TELEPHONE: Words = words("電話", "Telephone");
pub(super) const LANGUAGES: Words = words("言語", "Languages");
pub(super) const FORMER_NAME: Words = words("旧姓", "former name");
pub(super) const COMPOSED: Words = words("作成", "Put together");
pub(super) const AS_OF: Words = words("照会時点", "As of");
pub(super) const RECORDED: Words = words("記録", "recorded");
pub(super) const PREVIOUS: Words = words("前回", "before");
pub(super) const DOCUMENTS: Words = words("文書", "Documents");
pub(super) const SUMMARY_ID: Words = words("サマリーID", "Summary");
pub(super) const UNINFORMED: Words = words("未告知", "NOT TOLD TO THE PATIENT");
pub(super) const CONTRADICTION: Words = words("矛盾", "CONTRADICTION");
pub(super) const STATED_NONE: Words = words("「なし」との記載あり", "stated: none known");
pub(super) const NOT_KNOWN: Words = words("「不明」との記載あり", "stated: not known");
pub(super) const AS_NEEDED: Words = words("頓用", "as needed");
pub(super) const NOT_TO_USE: Words = words("使用しない指示", "do not use");
pub(super) const DECEASED: Words = words("死亡の記録あり", "RECORDED AS DECEASED");
pub(super) const CACHED: Words = words(
    "保存されていたサマリー(最新ではありません)",
    "from a cache: not of this moment",
);
pub(super) const WITHHELD: Words = words(
    "一部非開示: 表示されない項目があります",
    "Something is withheld",
);
pub(super) const CONFIRM: Words = words(
    "再確認後に表示される項目",
    "shown after a second confirmation",
);
pub(super) const IDENTITY: Words = words(
    "本人確認が確実ではありません。別人の情報が含まれる可能性があります",
    "IDENTITY NOT CERTAIN: items may be of somebody else",
);
pub(super) const INCOMPLETE: Words = words(
    "照会できなかった地域があります。記載がないことは「ない」ことを意味しません",
    "NOT COMPLETE: regions could not be asked. What is not listed may still be so",
);
pub(super) const COMPLETE: Words = words(
    "照会先はすべて回答しました",
    "All regions asked have answered",
);
pub(super) const NOT_ASKED: Words = words("照会できず", "NOT ASKED");
pub(super) const NOBODY: Words = words(
    "情報を持つ地域がありません",
    "No region is known to hold anything",
);
pub(super) const NO_INFORMATION: Words = words(
    "情報なし(照会先に記載がありません。「ない」ことの確認ではありません)",
    "No information: nothing on record, which does not mean that there is none",
);
pub(super) const TOO_OLD: Words = words(
    "表示期間より古い記載は省略しています(件数)",
    "Left out as older than the period shown (number of facts)",
);
pub(super) const PERHAPS: Words = words(
    "不明(照会できなかった地域があります)",
    "Not known: regions could not be asked",
);
pub(super) const NOT_DISCLOSED: Words = words("非開示", "withheld");
pub(super) const UNREAD: Words = words(
    "内容を読み取れなかった文書",
    "not, or not wholly, taken into this summary",
);
pub(super) const BLOOD: Words = words(
    "輸血前に必ず再検査",
    "never for transfusion without a new test",
);
pub(super) const FOR_PATIENT: Words = words(
    "患者交付用: すべての情報を含むとは限りません",
    "For the patient: does not necessarily have everything",
);
pub(super) const NOTICE: Words = words(
    "各項目は記載元のとおりで、判断は診療者が行います。この閲覧は記録されています",
    "Every item is as its source has it. This access is recorded",
);
pub(super) const APPROVED: Words = words("ケア情報の承認", "Care record approved by");
pub(super) const GAPS: Words = words(
    "照会の状況・取得できなかった情報",
    "What was asked, and what could not be",
);
pub(super) const PAGE: Words = words("ページ", "Page");

/// The title of a section.
pub(super) const fn section(section: SummarySection) -> Words {
    match section {
        SummarySection::Unspecified => words("その他", "Other"),
        SummarySection::Alert => words("重大警告", "Alerts"),
        SummarySection::Allergy => words("アレルギー", "Allergies"),
        SummarySection::Contraindication => words("薬剤禁忌", "Contraindications"),
        SummarySection::Problem => words("傷病名", "Problems"),
        SummarySection::Medication => words("処方", "Medication"),
        SummarySection::Dispense => words("調剤", "Dispensed"),
        SummarySection::Infection => words("感染症", "Infections"),
        SummarySection::Result => words("検査結果", "Results"),
        SummarySection::Procedure => words("手術・処置", "Procedures"),
        SummarySection::Device => words("体内・装着機器", "Devices"),
        SummarySection::Care => words("医療的ケア・急変時の対処", "Care and what to do"),
        SummarySection::Vital => words("平常時バイタル", "Usual vital signs"),
        SummarySection::AdvanceDirective => words("事前指示", "Advance directives"),
        SummarySection::Contact => words("緊急連絡先", "Emergency contacts"),
        SummarySection::Encounter => words("受診歴", "Visits"),
        SummarySection::Document => words("文書", "Documents"),
        SummarySection::PastProblem => words("既往歴", "Past problems"),
        SummarySection::FunctionalStatus => words("ADL・障害", "Functional status"),
        SummarySection::Pregnancy => words("妊娠", "Pregnancy"),
        SummarySection::Immunization => words("予防接種", "Immunizations"),
        SummarySection::SocialHistory => words("生活歴", "Social history"),
        SummarySection::BloodType => words("血液型", "Blood type"),
        SummarySection::CareTeam => words("かかりつけ", "Care team"),
        SummarySection::Communication => words("意思疎通", "Communication"),
        SummarySection::Checkup => words("健診", "Check-ups"),
    }
}

/// Why there is nothing.
pub(super) const fn absence(reason: AbsenceReason) -> Words {
    match reason {
        AbsenceReason::Unspecified | AbsenceReason::NoInformation => NO_INFORMATION,
        AbsenceReason::StatedNone => STATED_NONE,
        AbsenceReason::Unknown => NOT_KNOWN,
        AbsenceReason::NotRegistered => NOBODY,
        AbsenceReason::Unreachable => PERHAPS,
        AbsenceReason::Withheld => NOT_DISCLOSED,
    }
}

/// What a region answered.
pub(super) const fn region(state: RegionState) -> Words {
    match state {
        RegionState::Unspecified => words("状態不明", "state not known"),
        RegionState::Ok => words("回答あり", "answered"),
        RegionState::Empty => words("該当なしと回答", "answered: has nothing"),
        RegionState::Timeout => words("時間内に回答なし", "did not answer in time"),
        RegionState::Unreachable => words("接続不可", "could not be reached"),
        RegionState::CircuitOpen => words("障害中のため照会せず", "not asked: failing"),
        RegionState::RefusedByPolicy => words("非開示", "withheld"),
        RegionState::Malformed => words("回答を解釈できず", "answer not understood"),
        RegionState::Truncated => words("回答が一部のみ", "answered in part: too much"),
        RegionState::SkippedBudget => words("時間不足のため照会せず", "not asked: no time left"),
        RegionState::Stale => words("以前の情報のみ", "not reached; older data shown"),
    }
}

/// Whether something still is; none where that goes without saying.
pub(super) const fn clinical(status: ClinicalStatus) -> Option<Words> {
    match status {
        ClinicalStatus::Unspecified | ClinicalStatus::Active => None,
        ClinicalStatus::Inactive => Some(words("中止・非活動", "stopped or inactive")),
        ClinicalStatus::Resolved => Some(words("終了・治癒", "over")),
        ClinicalStatus::OnHold => Some(words("休止中", "on hold")),
        ClinicalStatus::Recurrence => Some(words("再発", "recurrence")),
        ClinicalStatus::Remission => Some(words("寛解", "remission")),
    }
}

/// How sure something is; none where that goes without saying.
pub(super) const fn verification(status: VerificationStatus) -> Option<Words> {
    match status {
        VerificationStatus::Unspecified | VerificationStatus::Confirmed => None,
        VerificationStatus::Unconfirmed => Some(words("疑い・未確定", "unconfirmed")),
        VerificationStatus::Refuted => Some(words("否定", "REFUTED")),
        VerificationStatus::PatientStated => Some(words("本人・家族の申告", "patient or family")),
        VerificationStatus::EnteredInError => Some(words("誤記", "entered in error")),
    }
}

/// How dangerous an allergy is.
pub(super) const fn criticality(criticality: Criticality) -> Option<Words> {
    match criticality {
        Criticality::Unspecified => None,
        Criticality::Low => Some(words("低リスク", "low risk")),
        Criticality::High => Some(words("高リスク", "HIGH RISK")),
    }
}

/// Sex.
pub(super) const fn gender(gender: AdministrativeGender) -> Words {
    match gender {
        AdministrativeGender::Unspecified | AdministrativeGender::Unknown => {
            words("性別不明", "sex not known")
        }
        AdministrativeGender::Male => words("男性", "male"),
        AdministrativeGender::Female => words("女性", "female"),
        AdministrativeGender::Other => words("その他の性別", "other sex"),
    }
}

/// How sure it is who the patient is.
pub(super) const fn grade(grade: MatchGrade) -> Words {
    match grade {
        MatchGrade::Unspecified => words("未判定", "not judged"),
        MatchGrade::Certain => words("確実", "certain"),
        MatchGrade::Probable => words("可能性が高い", "probable"),
        MatchGrade::Possible => words("可能性がある", "possible"),
        MatchGrade::CertainlyNot => words("別人", "certainly not"),
    }
}

/// English names of the details, by their code; the Japanese ones come with the item.
const DETAILS: &[(&str, &str)] = &[
    ("activity", "care"),
    ("approval", "approved by"),
    ("as-needed", "as needed"),
    ("body-site", "site"),
    ("category", "category"),
    ("description", "course"),
    ("do-not-perform", "do not use"),
    ("dosage", "dosage"),
    ("dose", "dose"),
    ("lot", "lot"),
    ("manufacturer", "maker"),
    ("method", "method"),
    ("model", "model"),
    ("note", "note"),
    ("occurrence", "given"),
    ("outcome", "outcome"),
    ("provision", "wish"),
    ("quantity", "quantity"),
    ("rate", "rate"),
    ("reaction", "reaction"),
    ("relationship", "relationship"),
    ("role", "role"),
    ("route", "route"),
    ("safety", "safety"),
    ("severity", "severity"),
    ("supply", "days"),
    ("telephone", "telephone"),
    ("type", "type"),
];

/// The English name of a detail; none if it names itself, as a setting does.
pub(super) fn detail(code: &str) -> Option<&'static str> {
    let found = DETAILS.iter().find(|(known, _)| *known == code);
    found.map(|(_, english)| *english)
}
