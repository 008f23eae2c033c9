//! a server that hides an entry of a patient is found out, however it goes about it.

use super::*;
use crate::audit::check::ReportCheck;
use crate::audit::map::{Head, PatientMap, chained};
use crate::audit::note::{Checkpoint, Note, SigningKey};
use crate::audit::{inclusion_message, map_message};
use crate::error::Result;

/// A report as it goes over the wire.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) events: Vec<pb::ProvenEvent>,
    pub(super) summary: pb::ReportSummary,
}

pub(super) fn report(open: &Open, patients: &[u8]) -> Sent {
    let tags: Vec<PatientTag> = patients.iter().map(|patient| tag(*patient)).collect();
    let report = open.audit.report(&tags, true).unwrap();
    let mut events = Vec::new();
    report
        .tell(&mut |told| {
            events.push(pb::ProvenEvent {
                proof: report.inclusion(told.event.sequence)?,
                opening: Some(told.opening),
                event: Some(told.event),
            });
            Ok(())
        })
        .unwrap();
    let proven = report.proven().unwrap();
    let root = proven.signed.checkpoint.patients.unwrap().1;
    let mut proofs = proven
        .patients
        .iter()
        .map(|(head, proof)| map_message(head, proof, &root));
    Sent {
        events,
        summary: pb::ReportSummary {
            event_count: report.count(),
            checkpoint: proven.signed.note.to_string(),
            map_proof: proofs.next(),
            more_map_proofs: proofs.collect(),
            completeness: None,
        },
    }
}

fn check(open: &Open, sent: &Sent) -> Result<u64> {
    let mut check = ReportCheck::new(open.audit.log().verifier().clone());
    sent.events
        .iter()
        .try_for_each(|event| check.event(event))?;
    check.finish(&sent.summary)
}

#[test]
fn whole_reports_are_believed() {
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    open.fill(103);
    open.commit(
        vec![event(1, "1", "x"), event(2, "1", "x"), event(1, "1", "x")],
        Vec::new(),
    );
    assert_eq!(check(&open, &report(&open, &[1])).unwrap(), 23);
    assert_eq!(check(&open, &report(&open, &[3])).unwrap(), 20);
    // A person under several identifiers; one of nobody; and a person without events.
    assert_eq!(check(&open, &report(&open, &[1, 2])).unwrap(), 23 + 22);
    assert_eq!(check(&open, &report(&open, &[4, 77])).unwrap(), 20);
    assert_eq!(check(&open, &report(&open, &[78])).unwrap(), 0);
    open.close();
}

/// Leaves an event out, and numbers the others as if it had not been.
fn hide(sent: &Sent, at: usize, renumber: bool) -> Sent {
    let mut less = sent.clone();
    let hidden = less.events.remove(at);
    if renumber {
        for (number, proven) in (1..).zip(&mut less.events) {
            proven.event.as_mut().unwrap().patient_event_number = number;
        }
        if let Some(next) = less.events.get_mut(at) {
            let before = hidden.event.unwrap().patient_previous_sequence;
            next.event.as_mut().unwrap().patient_previous_sequence = before;
        }
    }
    less.summary.event_count -= 1;
    if let Some(proof) = &mut less.summary.map_proof {
        proof.event_number -= 1;
    }
    less
}

#[test]
fn a_hidden_entry_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    open.fill(count(60, 5_000));
    let sent = report(&open, &[2]);
    check(&open, &sent).unwrap();
    for at in 0..sent.events.len() {
        for renumber in [false, true] {
            let mut less = hide(&sent, at, renumber);
            check(&open, &less).unwrap_err();
            // With the count as it was.
            less.summary = sent.summary.clone();
            check(&open, &less).unwrap_err();
            // With a map leaf that says one less.
            let proof = less.summary.map_proof.as_mut().unwrap();
            let mut head = Head::decode(&proof.leaf).unwrap();
            head.count -= 1;
            proof.leaf = head.encode().into();
            less.summary.event_count -= 1;
            check(&open, &less).unwrap_err();
        }
        // Another's event in its place.
        let mut other = sent.clone();
        let theirs = report(&open, &[3]).events[at.min(11)].clone();
        let mine = other.events[at].event.clone().unwrap();
        other.events[at] = pb::ProvenEvent {
            event: Some(pb::AuditEvent {
                patient_tag: mine.patient_tag.clone(),
                patient_event_number: mine.patient_event_number,
                patient_previous_sequence: mine.patient_previous_sequence,
                ..theirs.event.clone().unwrap()
            }),
            ..theirs
        };
        check(&open, &other).unwrap_err();
        // Another content of the same event: who looked, or that it was an emergency.
        let mut changed = sent.clone();
        changed.events[at].event.as_mut().unwrap().emergency = true;
        check(&open, &changed).unwrap_err();
    }
    // That there is nobody of that tag.
    let nobody = Sent {
        events: Vec::new(),
        summary: pb::ReportSummary {
            event_count: 0,
            map_proof: report(&open, &[78]).summary.map_proof,
            ..sent.summary.clone()
        },
    };
    let mut renamed = nobody.clone();
    let proof = renamed.summary.map_proof.as_mut().unwrap();
    proof.patient_tag = sent.summary.map_proof.as_ref().unwrap().patient_tag.clone();
    check(&open, &renamed).unwrap_err();
    // No proof at all.
    let mut none = nobody;
    none.summary.map_proof = None;
    check(&open, &none).unwrap_err();
    open.close();
}

/// The server goes as far as to sign a map without the entry, with its real key: the report then
/// looks whole, and the signature itself is the evidence. A verification finds it, and so does who
/// holds a receipt for the entry.
#[test]
fn a_signed_lie_is_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    open.fill(50);
    let log = open.audit.log();
    let signed = log.checkpoint().unwrap();
    let honest = report(&open, &[2]);
    let hidden = honest.events.len() / 2;

    // The map without the entry, and a report to match.
    let mut lie = hide(&honest, hidden, true);
    let mut heads: Vec<Head> = (1..=4)
        .map(|patient| log.heads(&[tag(patient)]).unwrap()[0])
        .collect();
    let mut head = Head::none(tag(2));
    for proven in &lie.events {
        let (event, opening) = (
            proven.event.as_ref().unwrap(),
            proven.opening.as_ref().unwrap(),
        );
        let salt = opening.salt.as_ref().try_into().unwrap();
        let commitment = crate::audit::leaf::commitment(&salt, &opening.record);
        head = Head {
            count: head.count + 1,
            last: event.sequence,
            chain: chained(&head.chain, event.sequence, opening.place, &commitment),
            ..head
        };
    }
    heads[1] = head;
    let mut map = PatientMap::of(heads).unwrap();
    let root = map.root();
    let checkpoint = Checkpoint {
        patients: Some((4, root)),
        ..signed.checkpoint.clone()
    };
    let seed = std::fs::read(folder.path().join("audit/log.key")).unwrap();
    let key = SigningKey::new(&checkpoint.origin, &seed).unwrap();
    let text = checkpoint.text();
    let note = Note {
        signatures: vec![key.sign(&text)],
        text,
    };
    lie.summary.checkpoint = note.to_string();
    lie.summary.map_proof = Some(map_message(&head, &map.prove(&tag(2)), &root));
    check(&open, &lie).unwrap();

    // Who holds a receipt: the leaf is in the signed tree, opens to an event about the patient, and
    // is not in the report.
    let missing = &honest.events[hidden];
    let index = missing.proof.as_ref().unwrap().sequence;
    assert!(
        lie.events
            .iter()
            .all(|event| event.proof.as_ref().unwrap().sequence != index)
    );
    let (leaf, path) = log.inclusion(index, checkpoint.size).unwrap();
    let proof = inclusion_message(index, checkpoint.size, &leaf, &path);
    assert_eq!(Some(&proof), missing.proof.as_ref());

    // Who verifies the files.
    open.close();
    let shown = VerifyRequest {
        checkpoints: vec![note],
        ..request(folder.path())
    };
    let found = verify(&shown, &options(), &mut |_| {}).unwrap();
    assert_eq!(found.faults.len(), 1, "{found:#?}");
    assert!(
        found.faults[0].what.contains("map of patients"),
        "{found:#?}"
    );
    assert!(verified(folder.path()).is_fine());
}
