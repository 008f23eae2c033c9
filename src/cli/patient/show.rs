//! How identities are shown.

use crate::cli::names::{self, cx, cx_or_none, join, label, time};
use crate::cli::output::{Table, Text};
use crate::wire::pb::identity::{
    AdministrativeGender, AgreementLevel, ChangeEffects, Demographics, FeedOutcome,
    FeedPatientResponse, ForwardState, MatchCandidate, MatchEvidence, MatchGrade, ParentForward,
    Person, PersonName,
};

/// What a feed led to.
pub(crate) fn fed(text: &mut Text, answer: &FeedPatientResponse) {
    text.field("Outcome", label::<FeedOutcome>(answer.outcome));
    text.field("Linkage id", &answer.linkage_id);
    text.field("Version", answer.version.to_string());
    parent(text, answer.parent.as_ref());
    evidence(text, answer.evidence.as_ref());
    text.field("For review", answer.review_task_ids.join(", "));
    for warning in &answer.warnings {
        text.field("Warning", warning);
    }
    if !answer.possible_duplicates.is_empty() {
        text.gap();
        text.line("May be the same person:");
        text.table(&candidates(&answer.possible_duplicates));
    }
}

/// How the parent node took a change, if there is one.
pub(crate) fn parent(text: &mut Text, parent: Option<&ParentForward>) {
    let Some(parent) = parent else { return };
    if parent.state() != ForwardState::NotNeeded {
        let state = label::<ForwardState>(parent.state);
        text.field("Parent", join([state, parent.reason.clone()], ", "));
    }
}

/// Why records are, or are not, of one person.
pub(crate) fn evidence(text: &mut Text, evidence: Option<&MatchEvidence>) {
    let Some(evidence) = evidence else { return };
    if !evidence.rule.is_empty() {
        text.field(
            "Decided by",
            format!("{} ({:+.1} bits)", evidence.rule, evidence.bits),
        );
    }
    if !evidence.rival.is_empty() {
        let margin = evidence.rival_margin_bits;
        text.field(
            "Best rival",
            format!("{} ({margin:.1} bits behind)", evidence.rival),
        );
    }
    let mut table = Table::new(["Field", "Agreement", "Bits", "Why"]);
    for field in &evidence.fields {
        table.row([
            field.field.clone(),
            label::<AgreementLevel>(field.level),
            bits(field.bits),
            field.explanation.clone(),
        ]);
    }
    if table.len() > 0 {
        text.gap();
        text.table(&table);
    }
}

/// A weight; nothing for none.
fn bits(bits: f64) -> String {
    match bits.abs() < 0.05 {
        true => String::new(),
        false => format!("{bits:+.1}"),
    }
}

/// Persons that may be the one meant.
pub(crate) fn candidates(candidates: &[MatchCandidate]) -> Table {
    let mut table = Table::new([
        "Grade",
        "Score",
        "Name",
        "Sex",
        "Born",
        "Address",
        "Linkage id",
        "Identifiers",
    ]);
    for candidate in candidates {
        let person = candidate.person.clone().unwrap_or_default();
        let known = person.demographics.clone().unwrap_or_default();
        let identifiers = person
            .records
            .iter()
            .map(|one| cx_or_none(one.identifier.as_ref()));
        table.row([
            label::<MatchGrade>(candidate.grade),
            format!("{:.3}", candidate.score),
            names::names(&known.names),
            label::<AdministrativeGender>(known.administrative_gender),
            known.birth_date,
            known
                .addresses
                .first()
                .map(names::address)
                .unwrap_or_default(),
            person.linkage_id,
            join(identifiers, ", "),
        ]);
    }
    table
}

/// A person: the joined view, then each source's record.
pub(crate) fn person(text: &mut Text, person: &Person) {
    text.field("Linkage id", &person.linkage_id);
    text.field("Formerly", person.former_linkage_ids.join(", "));
    demographics(text, &person.demographics.clone().unwrap_or_default());
    let mut table = Table::new([
        "Identifier",
        "Name",
        "Born",
        "Community",
        "Recorded",
        "Note",
    ]);
    for record in &person.records {
        let known = record.demographics.clone().unwrap_or_default();
        let replaced = cx_or_none(record.replaced_by.as_ref());
        let note = match (record.inactive, replaced.is_empty()) {
            (true, false) => format!("merged into {replaced}"),
            (true, true) => "withdrawn".to_owned(),
            (false, _) => String::new(),
        };
        table.row([
            cx_or_none(record.identifier.as_ref()),
            names::names(&known.names),
            known.birth_date,
            record.home_community_id.clone(),
            time(record.recorded.as_ref()),
            note,
        ]);
    }
    text.gap();
    text.table(&table);
}

fn demographics(text: &mut Text, known: &Demographics) {
    for one in &known.names {
        let usage = usage(one);
        let label = if usage.is_empty() {
            "Name".to_owned()
        } else {
            format!("Name, {usage}")
        };
        text.field(&label, names::name(one));
    }
    text.field(
        "Sex",
        label::<AdministrativeGender>(known.administrative_gender),
    );
    text.field(
        "Born",
        join([&known.birth_date, &known.birth_date_text], ", "),
    );
    for address in &known.addresses {
        text.field("Address", names::address(address));
    }
    for telecom in &known.telecoms {
        text.field("Telephone, mail", &telecom.value);
    }
    for one in &known.coverages {
        let parts = [&one.insurer_number, &one.symbol, &one.number, &one.branch];
        text.field("Insurance", join(parts, " / "));
    }
    if known.deceased == Some(true) {
        text.field("Deceased", join(["yes", &known.deceased_date], ", "));
    }
}

fn usage(name: &PersonName) -> &'static str {
    use crate::wire::pb::identity::NameUse;
    match name.r#use() {
        NameUse::Maiden => "maiden",
        NameUse::Old => "former",
        NameUse::Nickname => "nickname",
        NameUse::Temporary => "temporary",
        NameUse::Anonymous => "pseudonym",
        NameUse::Unspecified | NameUse::Official | NameUse::Usual => "",
    }
}

/// What a change of links did, or would do.
pub(crate) fn effects(text: &mut Text, effects: Option<&ChangeEffects>) {
    let Some(effects) = effects else { return };
    text.field("Linkage ids", effects.linkage_ids.join(", "));
    text.field("Retired", effects.retired_linkage_ids.join(", "));
    for (name, count) in [
        ("Documents gained", effects.documents_gained),
        ("Documents lost", effects.documents_lost),
        ("Consents affected", effects.consents_affected),
        ("Grants ended", effects.grants_ended),
    ] {
        if count > 0 {
            text.field(name, count.to_string());
        }
    }
    text.field("Communities", effects.communities_affected.join(", "));
    for warning in &effects.warnings {
        text.field("Warning", warning);
    }
}

/// Identifiers with the domain apart.
pub(crate) fn identifiers<'a>(
    identifiers: impl IntoIterator<Item = &'a crate::wire::pb::common::Identifier>,
) -> Table {
    let mut table = Table::new(["Identifier", "Domain"]);
    for one in identifiers {
        table.row([cx(one), one.namespace_id.clone()]);
    }
    table
}
