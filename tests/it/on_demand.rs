//! On-demand documents over mutual TLS: made when they are retrieved, kept as snapshots where the entry
//! says so, and never with more in them than the reader may read by itself.

use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use renkei::clock::{Clock as _, ManualClock, SystemClock};
use renkei::demo::actor::Caller;
use renkei::demo::sample::DocumentKind;
use renkei::emergency::extract::{Source, extract};
use renkei::error::Reason;
use renkei::wire::pb::audit as apb;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::consent as npb;
use renkei::wire::pb::documents as pb;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use tonic::Status;

use super::documents_read::{Got, Patient, ask, asked, events, retrieve, wanted};
use crate::support::calls::record_consent;
use crate::support::expect::refused;
use crate::support::{At, Network, Setup, officer};
use pb::stored_query::Query;

const HERE: At = At::Region(0);

/// A patient with a discharge summary, which says something.
async fn patient(network: &Network) -> Patient<'_> {
    let mut documents = network.sample.documents.iter();
    let document = documents
        .find(|document| document.region == 0 && document.kind == DocumentKind::DischargeSummary);
    Patient::of(network, document.unwrap()).await
}

async fn network() -> Network {
    // A summary is of a day: the same one all through a test.
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    Setup::standalone().clock(clock).start().await
}

fn oid() -> String {
    format!("2.25.{}", uuid::Uuid::new_v4().as_u128())
}

fn coded(code: &str, system: &str, name: &str) -> cpb::CodedValue {
    cpb::CodedValue {
        code: code.to_owned(),
        system: system.to_owned(),
        display_name: name.to_owned(),
        ..Default::default()
    }
}

/// Registers an on-demand summary of the patient.
async fn register(
    network: &Network,
    patient: &Patient<'_>,
    persist_snapshots: bool,
    change: impl FnOnce(&mut pb::DocumentEntry),
) -> pb::DocumentEntry {
    let mut parts = network.provision(patient.document);
    let Some(pb::provide_documents_request::Part::Start(start)) = parts.remove(0).part else {
        panic!("a submission starts with its metadata");
    };
    let mut submission = start.submission.unwrap();
    submission.submission_set.as_mut().unwrap().unique_id = oid();
    let entry = &mut submission.entries[0];
    entry.unique_id = oid();
    entry.object_type = pb::ObjectType::OnDemand.into();
    entry.type_code = Some(coded(
        "60591-5",
        "2.16.840.1.113883.6.1",
        "Patient summary Document",
    ));
    "text/plain".clone_into(&mut entry.mime_type);
    let repository = &network.world.regions[0].repository;
    entry.repository_unique_id.clone_from(repository);
    entry.creation_time.clear();
    entry.hash.clear();
    entry.hash_sha256.clear();
    entry.size = None;
    change(entry);
    let institution = network.institution(patient.record);
    let system = network.system(HERE, institution);
    let request = pb::RegisterOnDemandDocumentRequest {
        submission: Some(submission),
        persist_snapshots,
        idempotency_key: oid(),
    };
    let mut client = DocumentServiceClient::new(system.channel.clone());
    let answer = client.register_on_demand_document(system.request(request));
    let result = answer.await.unwrap().into_inner().result.unwrap();
    result.entries.into_iter().next().unwrap()
}

/// Retrieves one document that is made, whole.
async fn made(caller: &Caller, id: &str, entry: &pb::DocumentEntry) -> Result<Got, Status> {
    let got = retrieve(caller, id, vec![wanted(entry, None)]).await?;
    let got = got.into_iter().next().unwrap();
    let trailer = got.trailer.clone().unwrap();
    let sha256 = digest::digest(&digest::SHA256, &got.bytes);
    assert_eq!(trailer.hash_sha256, HEXLOWER.encode(sha256.as_ref()));
    assert_eq!(trailer.size, got.bytes.len() as u64);
    Ok(got)
}

fn text(got: &Got) -> &str {
    std::str::from_utf8(&got.bytes).unwrap()
}

/// What a document says by itself.
fn facts(entry: &pb::DocumentEntry, content: &[u8]) -> Vec<String> {
    let extracted = extract(&Source {
        mime_type: &entry.mime_type,
        format_code: entry.format_code.as_ref().map_or("", |code| &code.code),
        entry,
        content,
        as_of: SystemClock.now(),
    });
    let items = extracted.items.into_iter();
    items.map(|item| item.display).collect()
}

/// The entry of a snapshot, by the uniqueId that its retrieval gave.
fn snapshot(of: &pb::DocumentEntry, got: &Got) -> pb::DocumentEntry {
    let header = got.header.as_ref().unwrap();
    pb::DocumentEntry {
        unique_id: header.new_document_unique_id.clone(),
        repository_unique_id: header.new_repository_unique_id.clone(),
        ..of.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_summary_is_made_and_its_snapshot_is_kept_once() {
    let network = network().await;
    let patient = patient(&network).await;
    let content = patient.document.content.clone();
    let source = patient.provide(&content, |_| {}).await;
    let on_demand = register(&network, &patient, true, |_| {}).await;
    let doctor = patient.doctor();
    let first = made(&doctor, "first", &on_demand).await.unwrap();
    let said = facts(&source, &content);
    let shown = said.iter().filter(|fact| text(&first).contains(*fact));
    assert!(shown.count() > 0, "{said:?} in\n{}", text(&first));
    assert!(text(&first).contains("出典: "), "{}", text(&first));

    let header = first.header.clone().unwrap();
    assert_eq!(
        header.document.as_ref().unwrap().document_unique_id,
        on_demand.unique_id
    );
    assert_eq!(
        header.new_repository_unique_id,
        on_demand.repository_unique_id
    );
    assert_ne!(header.new_document_unique_id, on_demand.unique_id);
    // It is registered before it is answered, and is a document like any other.
    let kept = snapshot(&on_demand, &first);
    let again = made(&doctor, "kept", &kept).await.unwrap();
    assert_eq!(again.bytes, first.bytes);
    assert_eq!(again.header.unwrap().new_document_unique_id, "");
    let related = asked(Query::GetRelatedDocuments(pb::GetRelatedDocumentsQuery {
        document: Some(pb::ObjectSelector {
            entry_uuids: vec![on_demand.entry_uuid.clone()],
            ..Default::default()
        }),
        association_types: vec![pb::AssociationType::IsSnapshotOf.into()],
        object_types: vec![1, 2],
        association_statuses: vec![],
    }));
    let related = ask(&doctor, related).await.unwrap().objects.unwrap();
    let stable = related
        .entries
        .iter()
        .find(|entry| entry.object_type() == pb::ObjectType::Stable);
    let stable = stable.unwrap();
    assert_eq!(stable.unique_id, kept.unique_id);
    assert_eq!(stable.size, Some(first.bytes.len() as u64));

    let second = made(&doctor, "second", &on_demand).await.unwrap();
    assert_eq!(second.bytes, first.bytes);
    assert_eq!(
        second.header.unwrap().new_document_unique_id,
        kept.unique_id
    );
    // Two events of the first retrieve: the snapshot's registration, and what left.
    let events = events(&network, "first");
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(
        events
            .iter()
            .all(|event| event.outcome() == apb::Outcome::Success)
    );
    assert!(events.iter().all(|event| !event.patient_tag.is_empty()));
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_kept_cannot_be_had_again() {
    let network = network().await;
    let patient = patient(&network).await;
    let content = patient.document.content.clone();
    patient.provide(&content, |_| {}).await;
    let on_demand = register(&network, &patient, false, |_| {}).await;
    let doctor = patient.doctor();
    let first = made(&doctor, "first", &on_demand).await.unwrap();
    let header = first.header.clone().unwrap();
    assert_eq!(header.new_repository_unique_id, "");
    let gone = pb::DocumentEntry {
        unique_id: header.new_document_unique_id,
        ..on_demand.clone()
    };
    refused(made(&doctor, "gone", &gone).await, Reason::UnknownDocument);
    let part = vec![wanted(&on_demand, Some((0, 10)))];
    refused(retrieve(&doctor, "part", part).await, Reason::InvalidField);
    let nobodys = register(&network, &patient, false, |entry| {
        entry.mime_type = "application/pdf".to_owned();
    });
    let nobodys = nobodys.await;
    refused(
        made(&doctor, "nobody", &nobodys).await,
        Reason::UnknownDocument,
    );
    network.stop().await;
}

/// A restricted document goes into no summary that is labelled normal; and who may not read a source
/// may not read what was made of it before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_in_it_that_the_reader_may_not_read() {
    let network = network().await;
    let patient = patient(&network).await;
    let content = patient.document.content.clone();
    let hidden = patient.provide(&content, |submission| {
        submission.entries[0].confidentiality_codes =
            vec![coded("R", "2.16.840.1.113883.5.25", "Restricted")];
    });
    hidden.await;
    let on_demand = register(&network, &patient, true, |_| {}).await;
    let doctor = patient.doctor();
    let without = made(&doctor, "restricted", &on_demand).await.unwrap();
    assert!(text(&without).contains("一部非開示"), "{}", text(&without));
    assert!(!text(&without).contains("出典"), "{}", text(&without));

    let source = patient.provide(&content, |_| {}).await;
    let with = made(&doctor, "open", &on_demand).await.unwrap();
    assert!(text(&with).contains("出典"), "{}", text(&with));
    let kept = snapshot(&on_demand, &with);
    made(&doctor, "kept", &kept).await.unwrap();

    let institution = network.institution(patient.record);
    let officer = network.acting(HERE, &officer(&institution.code));
    let denial = npb::Consent {
        patient_id: Some(patient.id()),
        model: npb::ConsentModel::Community.into(),
        effect: npb::ConsentEffect::Deny.into(),
        document_codes: source.type_code.iter().cloned().collect(),
        ..Default::default()
    };
    record_consent(&officer, denial).await.unwrap();
    refused(
        made(&doctor, "denied", &kept).await,
        Reason::UnknownDocument,
    );
    let denied = made(&doctor, "again", &on_demand).await.unwrap();
    assert!(!text(&denied).contains("出典"), "{}", text(&denied));
    network.stop().await;
}
