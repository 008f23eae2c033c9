//! The summary as plain text, Japanese: section by section, every fact with its state and its source;
//! then what is stated not to be there, and what could not be read.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use crate::wire::pb::common::NationalFlag;
use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{
    AbsenceReason, AbsenceStatement, ClinicalStatus, Criticality, ItemSource, ItemValue,
    ListedDocument, SummaryItem, SummarySection, VerificationStatus,
};

use super::extract::codes;
use super::merge::{Merged, is_denied};

/// Japan.
const JST: Offset = Offset::constant(9);

/// What is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary<'a> {
    /// The facts, folded.
    pub(super) merged: &'a Merged,
    /// The day it is of.
    pub(super) now: Timestamp,
    /// Something is not shown.
    pub(super) withheld: bool,
    /// There is more than was read.
    pub(super) truncated: bool,
}

/// Writes it. The same facts on the same day give the same text.
pub(super) fn plain(summary: &Summary<'_>) -> String {
    let day = summary.now.to_zoned(TimeZone::fixed(JST));
    let day = day.strftime("%Y-%m-%d");
    let mut text = format!("患者サマリー\n{day} 現在。この地域の保有する文書による。\n");
    if summary.withheld {
        text.push_str("一部非開示: 示していない情報がある。\n");
    }
    if summary.truncated {
        text.push_str("文書が多く、新しいものだけを読んだ。\n");
    }
    let merged = summary.merged;
    if merged.items.is_empty() {
        text.push_str("記載できる情報がない。患者に何もないという意味ではない。\n");
    }
    let mut before = None;
    for one in &merged.items {
        if before.replace(one.section) != Some(one.section) {
            line(&mut text, &format!("\n■ {}", section(one.section())));
        }
        item(&mut text, one);
    }
    if !merged.absences.is_empty() {
        text.push_str("\n■ 記載がないこと\n");
        for one in &merged.absences {
            let contradicted = merged.items.iter().any(|item| is_denied(item, one));
            absence(&mut text, one, contradicted);
        }
    }
    let unread = merged.documents.iter();
    let unread: Vec<_> = unread.filter(|one| !one.reason.is_empty()).collect();
    if !unread.is_empty() {
        text.push_str("\n■ 読み取れなかった文書\n");
        for one in unread {
            document(&mut text, one);
        }
    }
    text
}

/// One line; what would break it is a space.
fn line(text: &mut String, content: &str) {
    let (breaks, content) = match content.strip_prefix('\n') {
        Some(rest) => ("\n", rest),
        None => ("", content),
    };
    text.push_str(breaks);
    let clean = content.chars();
    text.extend(clean.map(|letter| if letter.is_control() { ' ' } else { letter }));
    text.push('\n');
}

fn item(text: &mut String, item: &SummaryItem) {
    let mut fact = String::from("・");
    let uninformed = i32::from(NationalFlag::Uninformed);
    if item.national_flags.contains(&uninformed) {
        fact.push_str("【未告知】");
    }
    if !item.conflict_group.is_empty() {
        fact.push_str("【矛盾あり】");
    }
    let code = item.codes.first().map_or("", |code| &code.display_name);
    fact.push_str(match item.display.as_str() {
        "" => code,
        display => display,
    });
    if let Some(value) = &item.value {
        let _infallible = write!(fact, ": {}", said(value));
    }
    for detail in &item.details {
        let name = detail.name.as_ref().map_or("", |name| &name.display_name);
        let value = detail.value.as_ref().map(said).unwrap_or_default();
        let _infallible = write!(fact, "、{name} {value}");
    }
    let states = [
        period(&item.start, &item.end),
        clinical(item.clinical_status()).to_owned(),
        verified(item.verification_status()).to_owned(),
        dangerous(item.criticality()).to_owned(),
    ];
    let states: Vec<String> = states
        .into_iter()
        .filter(|state| !state.is_empty())
        .collect();
    if !states.is_empty() {
        let _infallible = write!(fact, "（{}）", states.join("、"));
    }
    line(text, &fact);
    for source in &item.sources {
        line(text, &format!("  出典: {}", origin(source)));
    }
}

fn said(value: &ItemValue) -> String {
    let mut said = match &value.value {
        Some(Value::Quantity(amount)) => {
            let unit = match amount.unit.as_str() {
                "" => &amount.ucum,
                unit => unit,
            };
            format!("{}{} {unit}", amount.comparator, amount.value)
        }
        Some(Value::Coded(code)) if code.display_name.is_empty() => code.code.clone(),
        Some(Value::Coded(code)) => code.display_name.clone(),
        Some(Value::Text(text)) => text.clone(),
        None => String::new(),
    };
    for (name, part) in [
        ("基準", &value.reference_range),
        ("判定", &value.interpretation),
    ] {
        if !part.is_empty() {
            let _infallible = write!(said, " [{name} {part}]");
        }
    }
    said
}

fn period(start: &str, end: &str) -> String {
    match (start, end) {
        ("", "") => String::new(),
        (start, "") => format!("{start}〜"),
        (start, end) => format!("{start}〜{end}"),
    }
}

fn origin(source: &ItemSource) -> String {
    let institution = source.institution.as_ref();
    let name = institution.map_or("", |from| match from.name.as_str() {
        "" => &from.institution_id,
        name => name,
    });
    match source.recorded.as_str() {
        "" => format!("{name}（記録日不明）"),
        recorded => format!("{name} {recorded}"),
    }
}

/// With what it is limited to, and whether something else that is listed contradicts it.
fn absence(text: &mut String, absence: &AbsenceStatement, contradicted: bool) {
    let why = match absence.reason() {
        AbsenceReason::StatedNone => "なしと記載されている",
        AbsenceReason::Unknown => "不明と記載されている",
        AbsenceReason::Withheld => "一部非開示",
        AbsenceReason::NotRegistered => "未登録",
        AbsenceReason::Unreachable => "接続不可",
        AbsenceReason::NoInformation | AbsenceReason::Unspecified => "情報なし",
    };
    let mut what = section(absence.section()).to_owned();
    if let Some((only, _)) = codes::scope_words(&absence.codes) {
        what = format!("{what}（{only}）");
    }
    let mark = match contradicted && absence.reason() == AbsenceReason::StatedNone {
        true => "【矛盾あり】",
        false => "",
    };
    line(text, &format!("・{mark}{what}: {why}"));
    for source in &absence.sources {
        line(text, &format!("  出典: {}", origin(source)));
    }
}

fn document(text: &mut String, document: &ListedDocument) {
    let title = match document.title.as_str() {
        "" => "（題名なし）",
        title => title,
    };
    let how = if document.used { "一部のみ: " } else { "" };
    let (mime, reason) = (&document.mime_type, &document.reason);
    line(text, &format!("・{title}（{mime}）: {how}{reason}"));
}

fn clinical(status: ClinicalStatus) -> &'static str {
    match status {
        ClinicalStatus::Unspecified | ClinicalStatus::Active => "",
        ClinicalStatus::Inactive => "現在なし・中止",
        ClinicalStatus::Resolved => "治癒・終了",
        ClinicalStatus::OnHold => "休止中",
        ClinicalStatus::Recurrence => "再発",
        ClinicalStatus::Remission => "寛解",
    }
}

fn verified(status: VerificationStatus) -> &'static str {
    match status {
        VerificationStatus::Unspecified | VerificationStatus::Confirmed => "",
        VerificationStatus::Unconfirmed => "疑い",
        VerificationStatus::Refuted => "否定",
        VerificationStatus::PatientStated => "本人・家族の申告",
        VerificationStatus::EnteredInError => "誤登録",
    }
}

fn dangerous(criticality: Criticality) -> &'static str {
    match criticality {
        Criticality::Unspecified => "",
        Criticality::Low => "重篤度 低",
        Criticality::High => "重篤度 高",
    }
}

fn section(section: SummarySection) -> &'static str {
    match section {
        SummarySection::Unspecified => "その他",
        SummarySection::Alert => "重大警告",
        SummarySection::Allergy => "アレルギー",
        SummarySection::Contraindication => "薬剤禁忌",
        SummarySection::Problem => "傷病名",
        SummarySection::Medication => "処方",
        SummarySection::Dispense => "調剤",
        SummarySection::Infection => "感染症",
        SummarySection::Result => "検査",
        SummarySection::Procedure => "手術・透析",
        SummarySection::Device => "体内・装着機器",
        SummarySection::Care => "医療的ケア",
        SummarySection::Vital => "平常時バイタル",
        SummarySection::AdvanceDirective => "事前指示",
        SummarySection::Contact => "緊急連絡先",
        SummarySection::Encounter => "受診歴",
        SummarySection::Document => "文書",
        SummarySection::PastProblem => "既往歴",
        SummarySection::FunctionalStatus => "ADL・障害・要介護度",
        SummarySection::Pregnancy => "妊娠",
        SummarySection::Immunization => "予防接種",
        SummarySection::SocialHistory => "生活歴",
        SummarySection::BloodType => "血液型（輸血には再検査を要する）",
        SummarySection::CareTeam => "かかりつけ",
        SummarySection::Communication => "言語・意思疎通",
        SummarySection::Checkup => "健診",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::common::InstitutionRef;

    fn merged() -> Merged {
        let source = ItemSource {
            institution: Some(InstitutionRef {
                name: "第一病院".to_owned(),
                ..InstitutionRef::default()
            }),
            recorded: "2024-05-01".to_owned(),
            ..ItemSource::default()
        };
        Merged {
            items: vec![SummaryItem {
                section: SummarySection::Allergy.into(),
                display: "ペニシリン\n■ 傷病名".to_owned(),
                criticality: Criticality::High.into(),
                verification_status: VerificationStatus::Unconfirmed.into(),
                national_flags: vec![NationalFlag::Uninformed.into()],
                sources: vec![source.clone()],
                ..SummaryItem::default()
            }],
            absences: vec![AbsenceStatement {
                section: SummarySection::Device.into(),
                reason: AbsenceReason::StatedNone.into(),
                sources: vec![source],
                ..AbsenceStatement::default()
            }],
            documents: vec![ListedDocument {
                mime_type: "application/pdf".to_owned(),
                reason: "UNKNOWN_FORMAT".to_owned(),
                ..ListedDocument::default()
            }],
            ..Merged::default()
        }
    }

    #[test]
    fn every_fact_has_its_state_and_source_and_no_text_makes_a_line_of_its_own() {
        let merged = merged();
        let summary = Summary {
            merged: &merged,
            // The next day in Japan.
            now: "2026-11-30T16:00:00Z".parse().unwrap(),
            withheld: true,
            truncated: false,
        };
        let expected = "患者サマリー
2026-12-01 現在。この地域の保有する文書による。
一部非開示: 示していない情報がある。

■ アレルギー
・【未告知】ペニシリン ■ 傷病名（疑い、重篤度 高）
  出典: 第一病院 2024-05-01

■ 記載がないこと
・体内・装着機器: なしと記載されている
  出典: 第一病院 2024-05-01

■ 読み取れなかった文書
・（題名なし）（application/pdf）: UNKNOWN_FORMAT
";
        assert_eq!(plain(&summary), expected);
    }

    #[test]
    fn nothing_said_is_no_statement() {
        let merged = Merged::default();
        let summary = Summary {
            merged: &merged,
            now: Timestamp::UNIX_EPOCH,
            withheld: false,
            truncated: false,
        };
        let text = plain(&summary);
        assert!(text.contains("患者に何もないという意味ではない"), "{text}");
    }
}
