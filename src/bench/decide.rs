//! `renkei bench decide`: how long a decision takes, against one with a single policy.

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
/// Decisions before the clock runs.
const WARM_UP: usize = 2_000;

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
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let micros = |histogram: &Histogram<u64>| {
                let nanos = u32::try_from(histogram.value_at_quantile(quantile));
                f64::from(nanos.unwrap_or(u32::MAX)) / 1_000.0
            };
            let (value, floor) = (micros(&measured), micros(&floor));
            Figure {
                suite: "decide",
                case: format!("{case}.{name}"),
                value,
                unit: "us",
                floor,
                floor_name: "one policy that permits all",
                ratio: floor / value,
                n: measured.len(),
                config: json!({ "policies": count }),
            }
            .print(settings.json);
        }
    }
    Ok(())
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
    let policies = Policies::load(files, Policies::default_entities());
    // A verdict remembered would measure the memory.
    Ok(policies.context("policies that do not load")?.forgetful())
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
        relay: None,
        assertion: None,
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
    }
}

/// Decides for every role, action and some purposes in turn, with five directives and a document.
fn measure(policies: Policies, time: Duration) -> Result<Histogram<u64>> {
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
    let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000, 3).context("a histogram")?;
    // Every caller with every action; the documents' number has no part in common with theirs.
    let pairs = callers
        .iter()
        .flat_map(|caller| Action::ALL.iter().map(move |action| (caller, action)));
    let turns = pairs.cycle().zip(documents.iter().cycle());
    let began = Instant::now();
    for (number, ((caller, action), document)) in turns.enumerate() {
        if number == WARM_UP {
            histogram.reset();
        }
        if number > WARM_UP && number % 256 == 0 && began.elapsed() > time {
            break;
        }
        let facts = Facts {
            caller,
            action: *action,
            home: &home,
            parent: None,
            directives: &directives,
            opt_out_network: false,
            grant: None,
            relaying: false,
            disaster: false,
            patient: true,
            related: false,
            document: action.is_clinical().then_some(document),
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let started = Instant::now();
        let decision = std::hint::black_box(decide(&handle, &facts));
        let taken = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        drop(decision);
        histogram.saturating_record(taken);
    }
    anyhow::ensure!(handle.faults() == 0, "a question got no verdict");
    Ok(histogram)
}
