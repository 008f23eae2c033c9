//! A comparison as the message kept with a link and shown to stewards.

use crate::wire::pb::identity as pb;

use super::compare::{Comparison, Level, Proof, Verdict};
use super::matching::chosen;

/// The comparison as a message: a waterfall of bits, field by field.
pub(super) fn evidence(comparison: &Comparison, proof: Option<Proof>) -> pb::MatchEvidence {
    let fields = comparison.fields().into_iter();
    let fields = fields.map(|(field, level, bits)| pb::FieldEvidence {
        field: field.to_owned(),
        level: agreement(level).into(),
        bits: f64::from(bits),
        explanation: String::new(),
    });
    let rule = match (proof, comparison.guard) {
        (Some(proof), _) => proof.name(),
        (None, Some(guard)) => guard.name(),
        (None, None) => "",
    };
    let (margin, rival) = comparison.rival();
    pb::MatchEvidence {
        rule: rule.to_owned(),
        bits: comparison.posterior_bits(),
        fields: fields.collect(),
        model_version: model_version(),
        rival: rival.to_owned(),
        rival_margin_bits: margin,
    }
}

/// The version of the weights that comparisons are made with.
pub(super) fn model_version() -> String {
    chosen::model().version.clone()
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
