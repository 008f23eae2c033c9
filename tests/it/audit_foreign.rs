//! The verifier in another language, over what a node itself gives out.

use std::process::Command;

use data_encoding::{BASE64, HEXLOWER};
use prost::Message as _;
use renkei::demo::actor::Caller;
use renkei::wire::RECEIPT;
use renkei::wire::pb::audit as pb;
use renkei::wire::pb::audit::audit_service_client::AuditServiceClient;
use renkei::wire::pb::audit::get_inclusion_proof_request::Leaf;
use renkei::wire::pb::audit::report_patient_access_response::Part;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::support::calls::identifiers;
use crate::support::{At, Setup, officer};

const HERE: At = At::Region(0);

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

fn hexes<T: AsRef<[u8]>>(all: &[T]) -> Vec<String> {
    all.iter().map(hex).collect()
}

/// The root in a checkpoint: its third line.
fn root(checkpoint: &str) -> String {
    let line = checkpoint.lines().nth(2).unwrap();
    hex(BASE64.decode(line.as_bytes()).unwrap())
}

struct Reader<'a> {
    client: AuditServiceClient<Channel>,
    caller: &'a Caller,
}

impl Reader<'_> {
    /// That the answer with this receipt is in the log.
    async fn inclusion(&mut self, receipt: &str) -> Value {
        let words: Vec<&str> = receipt.split(' ').collect();
        let leaf = BASE64.decode(words[2].as_bytes()).unwrap();
        // A checkpoint that is new enough, then the proof that leads to it.
        let index: u64 = words[1].parse().unwrap();
        let request = pb::GetInclusionProofRequest {
            leaf: Some(Leaf::Sequence(index)),
            size: 0,
        };
        let request = self.caller.request(request);
        let given = self.client.get_inclusion_proof(request).await.unwrap();
        let given = given.into_inner();
        let proof = given.proof.unwrap();
        assert_eq!(proof.leaf_hash.to_vec(), leaf);
        json!({
            "kind": "inclusion", "valid": true, "index": index, "size": proof.size,
            "leaf": hex(leaf), "root": root(&given.checkpoint), "path": hexes(&proof.path),
        })
    }

    async fn consistency(&mut self, earlier: &pb::GetCheckpointResponse) -> Value {
        let request = pb::GetConsistencyProofRequest {
            from_size: earlier.size,
            to_size: 0,
        };
        let request = self.caller.request(request);
        let given = self.client.get_consistency_proof(request).await.unwrap();
        let given = given.into_inner();
        assert!(given.to_size > earlier.size);
        json!({
            "kind": "consistency", "valid": true, "from": given.from_size, "to": given.to_size,
            "from_root": hex(&earlier.root_hash), "to_root": root(&given.checkpoint),
            "path": hexes(&given.path),
        })
    }

    async fn checkpoint(&mut self) -> pb::GetCheckpointResponse {
        let request = self.caller.request(pb::GetCheckpointRequest::default());
        self.client
            .get_checkpoint(request)
            .await
            .unwrap()
            .into_inner()
    }

    /// Who saw a patient's record, as a case, and what its map says.
    async fn report(&mut self, request: pb::ReportPatientAccessRequest, key: &str) -> Vec<Value> {
        let request = self.caller.request(request);
        let answer = self.client.report_patient_access(request).await.unwrap();
        let mut stream = answer.into_inner();
        let (mut events, mut summary) = (Vec::new(), None);
        while let Some(message) = stream.message().await.unwrap() {
            match message.part.unwrap() {
                Part::Event(event) => events.push(case_of(&event)),
                Part::Summary(said) => summary = Some(said),
            }
        }
        let summary = summary.unwrap();
        let proof = summary.map_proof.as_ref().unwrap();
        let maps: Vec<Value> = [proof]
            .into_iter()
            .chain(&summary.more_map_proofs)
            .map(|map| {
                json!({"tag": map.patient_tag, "leaf": hex(&map.leaf), "path": hexes(&map.path)})
            })
            .collect();
        let report = json!({
            "kind": "report", "valid": true, "events": events, "maps": maps,
            "count": summary.event_count, "checkpoint": summary.checkpoint, "verifier": key,
        });
        let map = json!({
            "kind": "map", "valid": true, "tag": proof.patient_tag, "leaf": hex(&proof.leaf),
            "path": hexes(&proof.path), "root": hex(&proof.root_hash), "count": proof.event_number,
        });
        vec![report, map]
    }
}

fn case_of(proven: &pb::ProvenEvent) -> Value {
    let event = proven.event.as_ref().unwrap();
    let opening = proven.opening.as_ref().unwrap();
    let proof = proven.proof.as_ref().unwrap();
    assert!(pb::AuditEvent::decode(opening.record.clone()).is_ok());
    json!({
        "sequence": event.sequence, "tag": event.patient_tag,
        "number": event.patient_event_number, "before": event.patient_previous_sequence,
        "record": hex(&opening.record), "salt": hex(&opening.salt),
        "frame_hash": hex(&opening.frame_hash), "commitments": hexes(&opening.commitments),
        "place": opening.place, "size": proof.size, "path": hexes(&proof.path),
    })
}

/// The same with one thing wrong, of each kind.
fn spoilt(case: &Value) -> Value {
    let mut bad = case.clone();
    bad["valid"] = json!(false);
    match case["kind"].as_str() {
        Some("inclusion") => bad["leaf"] = case["root"].clone(),
        Some("consistency") => bad["from_root"] = case["to_root"].clone(),
        Some("map") => bad["count"] = json!(case["count"].as_u64().unwrap() + 1),
        Some("note") => {
            let note = case["note"].as_str().unwrap();
            let size = note.lines().nth(1).unwrap();
            bad["note"] = json!(note.replacen(size, &format!("{size}0"), 1));
        }
        // One of those who looked is left out.
        _ => drop(bad["events"].as_array_mut().unwrap().remove(0)),
    }
    bad
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_verifier_believes_a_node() {
    let network = Setup::standalone().start().await;
    let record = network.record(network.sample.scenario.cross_region, 0);
    network.feed(record).await;
    let institution = network.institution(record);
    let system = network.system(HERE, institution);
    let operator = network.operator(HERE);
    let mut reader = Reader {
        client: AuditServiceClient::new(operator.channel.clone()),
        caller: &operator,
    };
    let first = reader.checkpoint().await;
    let mut receipts = Vec::new();
    for _ in 0..5 {
        let answer = identifiers(&system, network.patient(record)).await.unwrap();
        let receipt = answer.metadata().get(RECEIPT).unwrap();
        receipts.push(receipt.to_str().unwrap().to_owned());
    }
    let mut cases = vec![
        json!({"kind": "note", "valid": true, "note": first.checkpoint, "verifier": first.verifier_key}),
        reader.consistency(&first).await,
    ];
    for receipt in &receipts {
        cases.push(reader.inclusion(receipt).await);
    }
    let officer = network.acting(HERE, &officer(&institution.code));
    let mut officer = Reader {
        client: AuditServiceClient::new(officer.channel.clone()),
        caller: &officer,
    };
    let request = pb::ReportPatientAccessRequest {
        patient: Some(pb::report_patient_access_request::Patient::PatientId(
            network.patient(record),
        )),
        with_proofs: true,
        ..Default::default()
    };
    cases.extend(officer.report(request, &first.verifier_key).await);
    let bad: Vec<Value> = cases.iter().map(spoilt).collect();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cases.jsonl");
    let lines = cases.iter().chain(&bad).map(|case| format!("{case}\n"));
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    let verifier = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verifier/verify.py");
    let run = Command::new("python3")
        .args(["-B", verifier])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    println!("{said}{}", String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success());
    let agrees = format!(
        "agrees on {} proofs and on {} mutated ones",
        cases.len(),
        bad.len()
    );
    assert!(said.contains(&agrees), "{said}");
    network.stop().await;
}
