//! What `renkei pki` prints.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::pki::{
    Certified, Description, Explanation, HcRole, Outcome, Refusal, Usage, advice, japanese,
};

pub(super) fn description_lines(said: &Description) -> Vec<String> {
    let roles = said.roles.iter().map(|(name, japanese)| match japanese {
        Some(japanese) => format!("{name} ({japanese})"),
        None => format!("{name} (not in the role table)"),
    });
    let roles: Vec<String> = roles.chain(said.role_problem.clone()).collect();
    let kind = if said.authority { "CA" } else { "end entity" };
    let rows = [
        ("kind", kind.to_owned()),
        ("subject", said.subject.clone()),
        ("also named", said.directory_names.join("; ")),
        ("issuer", said.issuer.clone()),
        ("serial", said.serial.clone()),
        (
            "valid",
            format!("{} to {}", said.not_before, said.not_after),
        ),
        ("key", said.key.clone()),
        ("signed with", said.signature_algorithm.clone()),
        ("pin", said.pin.to_string()),
        (
            "or by number",
            format!(
                "{{ issuer = {:?}, serial = {:?} }}",
                said.number.issuer().to_string(),
                said.number.serial()
            ),
        ),
        ("fingerprint", said.fingerprint.clone()),
        ("policy", said.policies.join(", ")),
        ("hcRole", roles.join(", ")),
        ("keyUsage", said.key_usage.join(", ")),
        ("extKeyUsage", said.extended_key_usage.join(", ")),
        ("server names", said.server_names.join(", ")),
        ("CRL at", said.distribution_points.join(", ")),
        ("critical", said.critical.join(", ")),
    ];
    let shown = rows.into_iter().filter(|(_, value)| !value.is_empty());
    shown
        .map(|(label, value)| format!("{label:<13} {value}"))
        .collect()
}

pub(super) fn description_json(said: &Description) -> Value {
    let roles: Vec<Value> = said
        .roles
        .iter()
        .map(|(name, japanese)| json!({ "name": name, "japanese": japanese }))
        .collect();
    json!({
        "subject": said.subject, "directory_names": said.directory_names,
        "issuer": said.issuer, "serial": said.serial,
        "not_before": said.not_before.to_string(), "not_after": said.not_after.to_string(),
        "key": said.key, "signature_algorithm": said.signature_algorithm,
        "pin": said.pin.to_string(), "fingerprint": said.fingerprint,
        "issuer_rfc4514": said.number.issuer().to_string(), "serial_number": said.number.serial(),
        "authority": said.authority, "key_usage": said.key_usage,
        "extended_key_usage": said.extended_key_usage, "policies": said.policies,
        "roles": roles, "role_problem": said.role_problem,
        "server_names": said.server_names, "distribution_points": said.distribution_points,
        "critical": said.critical,
    })
}

pub(super) fn explanation_lines(explanation: &Explanation) -> Vec<String> {
    let mut lines = Vec::new();
    for step in &explanation.steps {
        let mark = match &step.outcome {
            Outcome::Kept => "ok  ",
            Outcome::Violated(_) => "FAIL",
            Outcome::NotReached => "-   ",
        };
        lines.push(format!("{mark}  {:<20} {}", step.name, step.english));
        lines.push(format!("{:26} {}", "", step.japanese));
        if let Outcome::Violated(refusal) = &step.outcome {
            lines.push(format!("{:26} -> {refusal} [{}]", "", refusal.rule()));
            lines.push(format!("{:26} -> {}", "", japanese(refusal)));
            let (english, japanese) = advice(refusal);
            lines.push(format!("{:26} => {english}", ""));
            lines.push(format!("{:26} => {japanese}", ""));
        }
    }
    lines.push(String::new());
    match &explanation.verdict {
        Ok(certified) => lines.extend(certified_lines(certified)),
        Err(refusal) => {
            lines.push(format!("REFUSED: {refusal}"));
            lines.push(format!("拒否: {}", japanese(refusal)));
            let (english, japanese) = advice(refusal);
            lines.push(format!("what to do: {english}"));
            lines.push(format!("対処: {japanese}"));
        }
    }
    lines
}

fn certified_lines(certified: &Certified) -> Vec<String> {
    let roles: Vec<String> = certified
        .roles
        .iter()
        .map(|role| format!("{} ({})", role.name(), role.japanese()))
        .collect();
    let mut lines = vec![
        format!(
            "ACCEPTED as {} by profile {}",
            certified.usage, certified.profile
        ),
        format!("受理: {}", certified.subject.text),
        format!("  policy            {}", certified.policy),
        format!(
            "  institution code  {}",
            certified.institution_code().unwrap_or("-")
        ),
        format!("  roles             {}", roles.join(", ")),
        format!("  pin               {}", certified.spki_sha256),
        format!("  verdict holds to  {}", certified.verdict_valid_until),
    ];
    lines.extend(
        certified
            .remarks
            .iter()
            .map(|remark| format!("  note: {remark}")),
    );
    lines
}

pub(super) fn explanation_json(explanation: &Explanation, usage: Usage, now: Timestamp) -> Value {
    let steps: Vec<Value> = explanation
        .steps
        .iter()
        .map(|step| {
            let (outcome, refusal) = match &step.outcome {
                Outcome::Kept => ("kept", None),
                Outcome::Violated(refusal) => ("violated", Some(refusal)),
                Outcome::NotReached => ("not_reached", None),
            };
            json!({
                "check": step.name, "outcome": outcome,
                "english": step.english, "japanese": step.japanese,
                "rule": refusal.map(Refusal::rule), "reason": refusal.map(ToString::to_string),
                "reason_japanese": refusal.map(japanese),
                "advice": refusal.map(|refusal| advice(refusal).0),
                "advice_japanese": refusal.map(|refusal| advice(refusal).1),
            })
        })
        .collect();
    let certified = explanation.verdict.as_ref().ok();
    let refusal = explanation.verdict.as_ref().err();
    json!({
        "accepted": certified.is_some(), "usage": usage.name(), "at": now.to_string(),
        "rule": refusal.map(Refusal::rule), "reason": refusal.map(ToString::to_string),
        "reason_japanese": refusal.map(japanese),
        "advice": refusal.map(|refusal| advice(refusal).0),
        "advice_japanese": refusal.map(|refusal| advice(refusal).1),
        "profile": certified.map(|c| &c.profile), "policy": certified.map(|c| &c.policy),
        "subject": certified.map(|c| &c.subject.text),
        "pin": certified.map(|c| c.spki_sha256.to_string()),
        "roles": certified.map(|c| c.roles.iter().map(HcRole::name).collect::<Vec<_>>()),
        "remarks": certified.map(|c| c.remarks.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "steps": steps,
    })
}
