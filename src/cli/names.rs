//! How the wire's values are shown to people.

use jiff::Timestamp;

use super::args::JAPAN;
use crate::wire::pb::{admin, audit, common, consent, directory, documents, emergency, identity};

/// An enum of the wire whose values have words of their own.
pub(crate) trait Named: Copy + Send + Sync + 'static {
    /// The name on the wire without the enum's prefix, such as `UNCONSCIOUS`.
    fn word(self) -> &'static str;

    /// The value of this number.
    fn of(number: i32) -> Option<Self>;

    /// Every value but the unspecified one.
    fn all() -> impl Iterator<Item = Self> + Clone {
        (1..64).filter_map(Self::of)
    }
}

macro_rules! named {
    ($($enum:path: $prefix:literal;)+) => {
        $(impl Named for $enum {
            fn word(self) -> &'static str {
                let name = self.as_str_name();
                name.strip_prefix($prefix).unwrap_or(name)
            }

            fn of(number: i32) -> Option<Self> {
                Self::try_from(number).ok()
            }
        })+

        /// The name of each enum's zero, with the prefix claimed for it.
        #[cfg(test)]
        fn zeros() -> Vec<(&'static str, &'static str)> {
            vec![$((<$enum>::try_from(0).unwrap().as_str_name(), $prefix),)+]
        }
    };
}

named! {
    admin::NodeRole: "NODE_ROLE_";
    admin::PurgeReason: "PURGE_REASON_";
    admin::PurgeState: "PURGE_STATE_";
    admin::Severity: "SEVERITY_";
    audit::Action: "ACTION_";
    audit::Outcome: "OUTCOME_";
    common::PurposeOfUse: "PURPOSE_OF_USE_";
    common::RegionState: "REGION_STATE_";
    consent::ConsentEffect: "CONSENT_EFFECT_";
    consent::ConsentModel: "CONSENT_MODEL_";
    consent::ConsentStatus: "CONSENT_STATUS_";
    consent::DataClass: "DATA_CLASS_";
    directory::Capability: "CAPABILITY_";
    directory::BreakerState: "BREAKER_STATE_";
    directory::CommunityKind: "COMMUNITY_KIND_";
    directory::InstitutionKind: "INSTITUTION_KIND_";
    directory::MemberStatus: "MEMBER_STATUS_";
    documents::AvailabilityStatus: "AVAILABILITY_STATUS_";
    emergency::AbsenceReason: "ABSENCE_REASON_";
    emergency::BreakGlassReason: "BREAK_GLASS_REASON_";
    emergency::ClinicalStatus: "CLINICAL_STATUS_";
    emergency::Criticality: "CRITICALITY_";
    emergency::ReviewStatus: "REVIEW_STATUS_";
    emergency::SummaryForm: "SUMMARY_FORM_";
    emergency::SummaryPriority: "SUMMARY_PRIORITY_";
    emergency::SummarySection: "SUMMARY_SECTION_";
    emergency::VerificationStatus: "VERIFICATION_STATUS_";
    identity::AdministrativeGender: "ADMINISTRATIVE_GENDER_";
    identity::AgreementLevel: "AGREEMENT_LEVEL_";
    identity::FeedOutcome: "FEED_OUTCOME_";
    identity::ForwardState: "FORWARD_STATE_";
    identity::MatchGrade: "MATCH_GRADE_";
    identity::PersonEventKind: "PERSON_EVENT_KIND_";
    identity::ReviewDecision: "REVIEW_DECISION_";
    identity::ReviewKind: "REVIEW_KIND_";
    identity::ReviewState: "REVIEW_STATE_";
    identity::TextMatch: "TEXT_MATCH_";
}

/// A value of an enum as people read it (`immediate danger`); nothing for the unspecified one, the
/// number of an unknown one.
pub(crate) fn label<E: Named>(number: i32) -> String {
    match E::of(number) {
        _ if number == 0 => String::new(),
        Some(value) => value.word().to_ascii_lowercase().replace('_', " "),
        None => format!("unknown ({number})"),
    }
}

/// Several values, as [`label`].
pub(crate) fn labels<E: Named>(numbers: &[i32]) -> String {
    join(numbers.iter().map(|&number| label::<E>(number)), ", ")
}

/// What is not empty, joined.
pub(crate) fn join(parts: impl IntoIterator<Item = impl AsRef<str>>, separator: &str) -> String {
    let mut joined = String::new();
    for part in parts {
        let part = part.as_ref();
        if !part.is_empty() {
            if !joined.is_empty() {
                joined.push_str(separator);
            }
            joined.push_str(part);
        }
    }
    joined
}

/// An identifier as HL7 CX: what the commands take back.
pub(crate) fn cx(identifier: &common::Identifier) -> String {
    format!(
        "{}^^^&{}&ISO",
        identifier.value, identifier.assigning_authority
    )
}

/// As [`cx`]; empty if there is none.
pub(crate) fn cx_or_none(identifier: Option<&common::Identifier>) -> String {
    identifier.map(cx).unwrap_or_default()
}

/// A time by the clock in Japan, to the second.
pub(crate) fn time(time: Option<&prost_types::Timestamp>) -> String {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
        .map(|time| {
            JAPAN
                .to_datetime(time)
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        })
        .unwrap_or_default()
}

/// A DTM of XDS (UTC, `YYYY[MM[DD[hh[mm[ss]]]]]`), shown by the clock in Japan if it has seconds,
/// else the date as it is.
pub(crate) fn dtm(text: &str) -> String {
    let parsed = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text)
        .ok()
        .and_then(|utc| jiff::tz::Offset::UTC.to_timestamp(utc).ok());
    if let Some(instant) = parsed {
        return JAPAN
            .to_datetime(instant)
            .strftime("%Y-%m-%d %H:%M")
            .to_string();
    }
    match (text.get(..4), text.get(4..6), text.get(6..8)) {
        (Some(year), Some(month), Some(day)) => format!("{year}-{month}-{day}"),
        _ => text.to_owned(),
    }
}

/// A date of the medical record: as it is, or to the minute by the clock in Japan if it is a time.
pub(crate) fn when(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => JAPAN
            .to_datetime(time)
            .strftime("%Y-%m-%d %H:%M")
            .to_string(),
        Err(_) => text.to_owned(),
    }
}

/// A duration, to the millisecond.
pub(crate) fn elapsed(span: Option<&prost_types::Duration>) -> String {
    span.map(|span| {
        let millis = span.seconds * 1_000 + i64::from(span.nanos) / 1_000_000;
        match millis {
            0..10_000 => format!("{millis} ms"),
            10_000..600_000 => format!("{} s", millis / 1_000),
            600_000..172_800_000 => format!("{} min", millis / 60_000),
            _ => format!("{} d", millis / 86_400_000),
        }
    })
    .unwrap_or_default()
}

/// A code: its display, or the code itself.
pub(crate) fn coded(code: Option<&common::CodedValue>) -> String {
    code.map(|code| match code.display_name.as_str() {
        "" => code.code.clone(),
        display => display.to_owned(),
    })
    .unwrap_or_default()
}

/// A text in the first of its languages.
pub(crate) fn text(text: Option<&common::InternationalString>) -> String {
    text.and_then(|text| text.values.first())
        .map(|first| first.value.clone())
        .unwrap_or_default()
}

/// An institution: its name, else its code.
pub(crate) fn institution(institution: Option<&common::InstitutionRef>) -> String {
    institution
        .map(
            |one| match (one.name.as_str(), one.institution_id.as_str()) {
                ("", "") => one.oid.clone(),
                ("", id) => id.to_owned(),
                (name, _) => name.to_owned(),
            },
        )
        .unwrap_or_default()
}

/// A person who acts: subject and role.
pub(crate) fn person(person: Option<&common::PersonRef>) -> String {
    person
        .map(|one| {
            let name = match one.display_name.as_str() {
                "" => &one.subject,
                name => name,
            };
            join([name, &one.role], ", ")
        })
        .unwrap_or_default()
}

/// One name: its parts, or its text.
pub(crate) fn name(name: &identity::PersonName) -> String {
    let given = name.given.join(" ");
    match (name.family.as_str(), given.as_str()) {
        ("", "") => name.text.clone(),
        (family, given) => join([family, given], " "),
    }
}

/// The names to show first: kanji, then kana in brackets; any other if neither is there.
pub(crate) fn names(names: &[identity::PersonName]) -> String {
    use identity::{NameRepresentation as Script, NameUse};
    let current =
        |one: &&identity::PersonName| !matches!(one.r#use(), NameUse::Maiden | NameUse::Old);
    let of = |script: Script| {
        let mut found = names.iter().filter(current);
        found.find(|one| one.representation() == script).map(name)
    };
    let first = of(Script::Ideographic)
        .or_else(|| of(Script::Unspecified))
        .or_else(|| of(Script::Alphabetic));
    match (first, of(Script::Syllabic)) {
        (Some(first), Some(kana)) => format!("{first}（{kana}）"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => names.first().map(name).unwrap_or_default(),
    }
}

/// An address on one line.
pub(crate) fn address(address: &identity::Address) -> String {
    let whole = match (address.state.as_str(), address.city.as_str()) {
        ("", "") => address.text.clone(),
        (state, city) => format!("{state}{city}{}", address.lines.join(" ")),
    };
    let post = match address.postal_code.as_str() {
        "" => String::new(),
        code => format!("〒{code}"),
    };
    join([post, whole], " ")
}

/// Octets, in the unit that fits.
pub(crate) fn octets(count: u64) -> String {
    let mut unit = "B";
    let mut left = count;
    let mut tenths = 0;
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if left < 1_024 {
            break;
        }
        tenths = left % 1_024 * 10 / 1_024;
        left /= 1_024;
        unit = next;
    }
    match unit {
        "B" => format!("{left} B"),
        _ => format!("{left}.{tenths} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_right() {
        for (zero, prefix) in zeros() {
            assert_eq!(zero, format!("{prefix}UNSPECIFIED"));
        }
    }

    #[test]
    fn enums_read_well() {
        let reason = emergency::BreakGlassReason::ImmediateDanger.into();
        assert_eq!(
            label::<emergency::BreakGlassReason>(reason),
            "immediate danger"
        );
        assert_eq!(label::<emergency::BreakGlassReason>(0), "");
        assert_eq!(label::<emergency::BreakGlassReason>(99), "unknown (99)");
    }

    #[test]
    fn names_are_kanji_with_kana() {
        use identity::{NameRepresentation, NameUse, PersonName};
        let one = |script: NameRepresentation, family: &str, usage: NameUse| PersonName {
            representation: script.into(),
            r#use: usage.into(),
            family: family.into(),
            given: vec!["花子".into()],
            ..PersonName::default()
        };
        let all = [
            one(NameRepresentation::Ideographic, "旧姓", NameUse::Maiden),
            one(NameRepresentation::Syllabic, "サトウ", NameUse::Unspecified),
            one(NameRepresentation::Ideographic, "佐藤", NameUse::Official),
        ];
        assert_eq!(names(&all), "佐藤 花子（サトウ 花子）");
        assert_eq!(names(&all[..1]), "旧姓 花子");
        assert_eq!(names(&[]), "");
    }

    #[test]
    fn times_are_those_of_japan() {
        let midnight = prost_types::Timestamp::default();
        assert_eq!(time(Some(&midnight)), "1970-01-01 09:00:00");
        assert_eq!(dtm("20260331230000"), "2026-04-01 08:00");
        assert_eq!(dtm("20260331"), "2026-03-31");
        assert_eq!(dtm("2026"), "2026");
        assert_eq!(when("2026-03-31T23:00:00Z"), "2026-04-01 08:00");
        assert_eq!(when("2026-03"), "2026-03");
    }

    #[test]
    fn octets_have_a_unit() {
        assert_eq!(octets(1_023), "1023 B");
        assert_eq!(octets(1_536), "1.5 KiB");
        assert_eq!(octets(3 << 30), "3.0 GiB");
    }
}
