//! the verifier in another language, written from the documented format alone, agrees on every
//! proof and on every mutated one.

use std::process::Command;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::reports::{Sent, report};
use super::*;

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

fn hexes<T: AsRef<[u8]>>(all: &[T]) -> Vec<String> {
    all.iter().map(hex).collect()
}

/// A generator of numbers, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn sent_case(open: &Open, sent: &Sent) -> Value {
    let events: Vec<Value> = sent
        .events
        .iter()
        .map(|proven| {
            let event = proven.event.as_ref().unwrap();
            let opening = proven.opening.as_ref().unwrap();
            let proof = proven.proof.as_ref().unwrap();
            json!({
                "sequence": event.sequence, "tag": event.patient_tag,
                "number": event.patient_event_number, "before": event.patient_previous_sequence,
                "record": hex(&opening.record), "salt": hex(&opening.salt),
                "frame_hash": hex(&opening.frame_hash), "commitments": hexes(&opening.commitments),
                "place": opening.place, "size": proof.size, "path": hexes(&proof.path),
            })
        })
        .collect();
    let proofs = sent
        .summary
        .map_proof
        .iter()
        .chain(&sent.summary.more_map_proofs);
    let maps: Vec<Value> = proofs
        .map(|proof| {
            json!({"tag": proof.patient_tag, "leaf": hex(&proof.leaf), "path": hexes(&proof.path)})
        })
        .collect();
    json!({
        "kind": "report", "valid": true, "events": events, "maps": maps,
        "count": sent.summary.event_count, "checkpoint": sent.summary.checkpoint,
        "verifier": open.audit.log().verifier().to_string(),
    })
}

/// Changes one digit of one hash, or one number, somewhere.
fn mutate(case: &Value, chance: &mut Chance) -> Value {
    let mut spoilt = case.clone();
    spoilt["valid"] = json!(false);
    // What does not decide by itself: another size may have the same path, another absent tag too.
    let undecided: &[&str] = match case["kind"].as_str() {
        Some("inclusion") => &["size"],
        Some("consistency") => &["from", "to"],
        Some("map") if case["count"] == json!(0) => &["tag"],
        _ => &[],
    };
    let fields: Vec<String> = spoilt
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, value)| {
            let empty = value.as_array().is_some_and(Vec::is_empty) || *value == &json!("");
            let fixed = ["kind", "valid", "verifier"].contains(&key.as_str());
            !fixed && !empty && !undecided.contains(&key.as_str())
        })
        .map(|(key, _)| key.clone())
        .collect();
    let field = &fields[chance.below(fields.len())];
    spoil(&mut spoilt[field.as_str()], chance);
    spoilt
}

fn spoil(value: &mut Value, chance: &mut Chance) {
    match value {
        Value::Null => *value = json!(7),
        Value::Number(number) => *value = json!(number.as_u64().unwrap() + 1),
        Value::String(text) => {
            let at = chance.below(text.len().max(1));
            let new = match text.as_bytes().get(at) {
                Some(b'0') => '1',
                Some(byte) if byte.is_ascii_hexdigit() => '0',
                _ => return spoil_text(text),
            };
            text.replace_range(at..=at, &new.to_string());
        }
        Value::Array(all) if all.is_empty() => all.push(json!("00".repeat(32))),
        Value::Array(all) => {
            let at = chance.below(all.len());
            spoil(&mut all[at], chance);
        }
        Value::Object(fields) => {
            let names: Vec<String> = fields
                .iter()
                .filter(|(_, value)| **value != json!("") && **value != json!([]))
                .map(|(name, _)| name.clone())
                .collect();
            let name = &names[chance.below(names.len())];
            spoil(&mut fields[name.as_str()], chance);
        }
        Value::Bool(_) => {}
    }
}

fn spoil_text(text: &mut String) {
    text.insert(0, 'x');
}

/// Proofs of every kind, all valid.
fn cases(open: &Open, wanted: u64, chance: &mut Chance) -> Vec<Value> {
    let log = open.audit.log();
    open.fill(20);
    let mut checkpoints = vec![log.checkpoint().unwrap()];
    let mut cases = Vec::new();
    for round in 0..wanted {
        open.fill(1 + round % 3);
        checkpoints.push(log.checkpoint().unwrap());
        let signed = &checkpoints[chance.below(checkpoints.len())];
        let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
        if size == 0 {
            continue;
        }
        let index = chance.below(usize::try_from(size).unwrap()) as u64;
        let (leaf, path) = log.inclusion(index, size).unwrap();
        cases.push(json!({
            "kind": "inclusion", "valid": true, "index": index, "size": size,
            "leaf": hex(leaf), "root": hex(root), "path": hexes(&path),
        }));
        let other = &checkpoints[chance.below(checkpoints.len())].checkpoint;
        if 0 < other.size && other.size < size {
            let path = log.consistency(other.size, size).unwrap();
            cases.push(json!({
                "kind": "consistency", "valid": true, "from": other.size, "to": size,
                "from_root": hex(other.root), "to_root": hex(root), "path": hexes(&path),
            }));
        }
        if round % 8 == 0 {
            cases.push(json!({
                "kind": "note", "valid": true, "note": signed.note.to_string(),
                "verifier": log.verifier().to_string(),
            }));
            let patient = u8::try_from(chance.below(8)).unwrap() + 1;
            let proven = log.prove(&[tag(patient)]).unwrap();
            let (head, proof) = &proven.patients[0];
            let root = proven.signed.checkpoint.patients.unwrap().1;
            cases.push(json!({
                "kind": "map", "valid": true, "tag": hex(tag(patient)), "count": head.count,
                "leaf": hex(proof.found.map(|found| found.encode()).unwrap_or_default()),
                "path": hexes(&proof.path), "root": hex(root),
            }));
        }
        if round % 64 == 0 {
            cases.push(sent_case(open, &report(open, &[1, 2])));
        }
    }
    cases
}

#[test]
fn the_foreign_verifier_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    let mut chance = Chance(0x0A13);
    let valid = cases(&open, count(130, 5_000), &mut chance);
    let mutated: Vec<Value> = (0..count(200, 1_000))
        .map(|_| {
            let at = chance.below(valid.len());
            mutate(&valid[at], &mut chance)
        })
        .collect();
    let path = folder.path().join("cases.jsonl");
    let lines = valid.iter().chain(&mutated).map(|case| format!("{case}\n"));
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    println!("{} proofs, {} mutated", valid.len(), mutated.len());
    let verifier = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verifier/verify.py");
    let run = Command::new("python3")
        .args(["-B", verifier])
        .arg(&path)
        .output()
        .unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    println!("{said}{complained}");
    assert!(run.status.success());
    open.close();
}
