//! A comparison as the message kept with a link and shown to stewards.

use crate::wire::pb::identity as pb;

use super::compare::{Comparison, Level, Proof, Verdict};

/// The rule set's version, kept with every link it made.
pub(super) const MODEL: &str = "rules-1";

/// The comparison as a message.
pub(super) fn evidence(comparison: &Comparison, proof: Option<Proof>) -> pb::MatchEvidence {
    let fields = comparison
        .fields()
        .into_iter()
        .map(|(field, level)| pb::FieldEvidence {
            field: field.to_owned(),
            level: agreement(level).into(),
            bits: 0.0,
            explanation: String::new(),
        });
    pb::MatchEvidence {
        rule: proof.map(Proof::name).unwrap_or_default().to_owned(),
        bits: comparison.bits,
        fields: fields.collect(),
        model_version: MODEL.to_owned(),
        ..pb::MatchEvidence::default()
    }
}

fn agreement(level: Level) -> pb::AgreementLevel {
    match level {
        Level::Agree => pb::AgreementLevel::Equal,
        Level::Near => pb::AgreementLevel::Near,
        Level::Unknown => pb::AgreementLevel::Missing,
        Level::Differ => pb::AgreementLevel::Different,
    }
}

/// How certain a match is (ITI-119 match-grade).
pub(super) fn grade(comparison: &Comparison) -> pb::MatchGrade {
    match comparison.verdict {
        Verdict::Same(_) => pb::MatchGrade::Certain,
        Verdict::Review => pb::MatchGrade::Probable,
        Verdict::Distinct => pb::MatchGrade::Possible,
    }
}
