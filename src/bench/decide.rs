//! `renkei bench decide`: how long a decision takes, when its question is asked for the first time and
//! when it was asked before, against one with a single policy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde_json::json;

use super::Figure;
use crate::access::{
    Action, Caller, Classes, DataClass, Directive, DocumentFacts, Facts, Participant,
    ParticipantKind, Person, Policies, PolicyHandle, Stance, decide,
};
use crate::types::{
    CertificatePin, Confidentiality, HomeCommunityId, PersonRole, PurposeOfUse, Relation,
};

/// Policies of the larger set.
const MANY: usize = 100;
/// How long to measure each case.
#[derive(Clone, Copy, Debug)]
pub struct DecideSettings {
    /// Time for each figure.
    pub time: Duration,
    /// Lines of JSON.
    pub json: bool,
}

/// Measures, and prints a figure a case: p99 of one decision, in microseconds.
///
/// # Errors
/// Policies that do not load.
pub fn decide_bench(settings: &DecideSettings) -> Result<()> {
    let single = "@id(\"all\") permit (principal, action, resource);".to_owned();
    let floor = measure(load(&[("single.cedar".to_owned(), single)])?, settings.time)?;
    let sets = [
        ("decide.default".to_owned(), default_files()),
        (format!("decide.{MANY}"), many()),
    ];
    for (case, files) in sets {
        let policies = load(&files)?;
        let count = policies.policies().count();
        let measured = measure(policies, settings.time)?;
        for (when, measured, floor) in [
            ("first", &measured.first, &floor.first),
            ("again", &measured.again, &floor.again),
        ] {
            let case = format!("{case}.{when}");
            print(settings, &case, count, measured, floor);
        }
    }
    Ok(())
}

fn print(
    settings: &DecideSettings,
    case: &str,
    policies: usize,
    measured: &Histogram<u64>,
    floor: &Histogram<u64>,
) {
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let micros = |histogram: &Histogram<u64>| {
            let nanos = u32::try_from(histogram.value_at_quantile(quantile));
            f64::from(nanos.unwrap_or(u32::MAX)) / 1_000.0
        };
        let (value, floor) = (micros(measured), micros(floor));
        Figure {
            suite: "decide",
            case: format!("{case}.{name}"),
            value,
            unit: "us",
            floor,
            floor_name: "one policy that permits all",
            ratio: floor / value,
            n: measured.len(),
            config: json!({ "policies": policies }),
        }
        .print(settings.json);
    }
}

fn default_files() -> Vec<(String, String)> {
    Policies::default_files()
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
}

/// The default set and as many more as make a hundred, all of which are asked in a clinical call.
fn many() -> Vec<(String, String)> {
    let mut files = default_files();
    let known: usize = files
        .iter()
        .map(|(_, text)| text.matches("@id(").count())
        .sum();
    let extra: Vec<String> = (known..MANY)
        .map(|number| {
            format!(
                "@id(\"extra-{number}\")\nforbid (principal, action in Action::\"clinical\", resource)\n\
                 when {{ context has document && context.document.level > {number} && !context.own_community }};\n"
            )
        })
        .collect();
    files.push(("90-extra.cedar".to_owned(), extra.concat()));
    files
}

fn load(files: &[(String, String)]) -> Result<Policies> {
    Policies::load(files, Policies::default_entities()).context("policies that do not load")
}

fn caller(role: PersonRole, purpose: PurposeOfUse) -> Result<Caller> {
    Ok(Caller {
        participant: Arc::new(Participant {
            code: Some("1310000001".parse().context("a code")?),
            kind: ParticipantKind::Hospital,
            community: "urn:oid:1.2.3".parse().context("a community")?,
            emergency: true,
            roles: vec![],
            purposes: vec![],
        }),
        person: Some(Person {
            subject: "staff-1".to_owned(),
            role,
            relation: Relation::Treating,
        }),
        purpose,
        pin: CertificatePin::from_bytes([0; 32]),
        holder: "CN=test".into(),
        relay: None,
        assertion: None,
        until: None,
    })
}

fn document(class: DataClass) -> DocumentFacts {
    DocumentFacts {
        codes: ["Z0002".to_owned(), "18842-5".to_owned()],
        classes: Classes::NONE.with(class),
        confidentiality: Confidentiality::Normal,
        undelivered: false,
        uninformed: false,
        authors: Vec::new(),
        day: None,
        directed: None,
    }
}

/// Nanoseconds of decisions.
struct Measured {
    /// Those whose question is new to the policies, which is to evaluate them.
    first: Histogram<u64>,
    /// Those whose question was asked before.
    again: Histogram<u64>,
}

/// Decides for every role, action and some purposes, each with every document and five directives:
/// once all of them, then again for `time`.
fn measure(policies: Policies, time: Duration) -> Result<Measured> {
    let handle = Arc::new(PolicyHandle::new(policies, |_| {}));
    let home: HomeCommunityId = "urn:oid:1.9".parse().context("a community")?;
    let purposes = [
        PurposeOfUse::Treatment,
        PurposeOfUse::Emergency,
        PurposeOfUse::Operations,
    ];
    let mut callers = Vec::new();
    for role in PersonRole::ALL {
        for purpose in purposes {
            callers.push(caller(*role, purpose)?);
        }
    }
    let documents: Vec<DocumentFacts> = DataClass::ALL.iter().copied().map(document).collect();
    let directives: Vec<Directive> = (0..5).map(|_| Directive::new(Stance::Permit)).collect();
    let mut turns = Vec::new();
    for caller in &callers {
        for action in Action::ALL {
            let documents = match action.is_clinical() {
                true => documents.iter().map(Some).collect(),
                false => vec![None],
            };
            turns.extend(documents.into_iter().map(|one| (caller, *action, one)));
        }
    }
    let time_one = |(caller, action, document): (_, Action, _), into: &mut Histogram<u64>| {
        let facts = Facts {
            caller,
            action,
            home: &home,
            parent: None,
            directives: &directives,
            opt_out_network: false,
            grant: None,
            relaying: false,
            passed: false,
            disaster: false,
            patient: true,
            related: false,
            document,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let started = Instant::now();
        let decision = std::hint::black_box(decide(&handle, &facts));
        let taken = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        drop(decision);
        into.saturating_record(taken);
    };
    let histogram = || Histogram::new_with_bounds(1, 1_000_000_000, 3).context("a histogram");
    let (mut first, mut again) = (histogram()?, histogram()?);
    for turn in &turns {
        time_one(*turn, &mut first);
    }
    let began = Instant::now();
    while began.elapsed() < time {
        for turn in &turns {
            time_one(*turn, &mut again);
        }
    }
    anyhow::ensure!(handle.faults() == 0, "a question got no verdict");
    Ok(Measured { first, again })
}
