//! Registration, replacement, update and removal over mutual TLS: each is one frame with its audit
//! event, a repeat changes nothing, and only who submitted a document may change it.

use renkei::audit::Filter;
use renkei::demo::actor::Caller;
use renkei::demo::sample::SampleDocument;
use renkei::error::Reason;
use renkei::wire::pb::audit as apb;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::documents as pb;

use super::{client, codes, register, remove, update};
use crate::support::calls::{find_here, provide};
use crate::support::expect::refused;
use crate::support::{At, Network, Setup, physician};

const HERE: At = At::Region(0);

struct Known {
    network: Network,
    system: Caller,
    doctor: Caller,
    other: Caller,
    document: SampleDocument,
    patient: cpb::Identifier,
}

impl Known {
    async fn new() -> Self {
        let network = Setup::standalone().start().await;
        let person = network.sample.scenario.cross_region;
        let record = network.record(person, 0).clone();
        network.feed(&record).await;
        let document = network
            .sample
            .documents_of(person)
            .find(|document| document.region == 0 && document.local_id == record.local_id)
            .unwrap()
            .clone();
        let institution = network.institution(&record).clone();
        let institutions = &network.sample.regions[0].institutions;
        let other = institutions
            .iter()
            .find(|other| other.code != institution.code)
            .unwrap()
            .clone();
        Self {
            system: network.system(HERE, &institution),
            doctor: network.acting(HERE, &physician(&institution.code)),
            other: network.system(HERE, &other),
            patient: network.patient(&record),
            document,
            network,
        }
    }

    /// The parts that provide the document as a new one, changed as wanted.
    fn parts(
        &self,
        number: u32,
        change: impl FnOnce(&mut pb::Submission),
    ) -> Vec<pb::ProvideDocumentsRequest> {
        let mut parts = self.network.provision(&self.document);
        let Some(pb::provide_documents_request::Part::Start(start)) = &mut parts[0].part else {
            panic!("no start");
        };
        let submission = start.submission.as_mut().unwrap();
        submission.submission_set.as_mut().unwrap().unique_id = format!("1.2.3.1.{number}");
        submission.entries[0].unique_id = format!("1.2.3.2.{number}");
        start.idempotency_key = format!("key-{number}");
        change(submission);
        parts
    }

    async fn provided(
        &self,
        number: u32,
        change: impl FnOnce(&mut pb::Submission),
    ) -> pb::DocumentEntry {
        let answer = provide(&self.system, self.parts(number, change))
            .await
            .unwrap();
        answer.into_inner().result.unwrap().entries.remove(0)
    }

    /// The entries that the patient's doctor sees.
    async fn seen(&self) -> Vec<pb::DocumentEntry> {
        let answer = find_here(&self.doctor, self.patient.clone()).await;
        answer.unwrap().into_inner().objects.unwrap().entries
    }

    /// The set of a change without documents.
    fn set(&self, number: u32) -> pb::Submission {
        let mut parts = self.parts(number, |_| {});
        let Some(pb::provide_documents_request::Part::Start(start)) = parts.remove(0).part else {
            panic!("no start");
        };
        pb::Submission {
            submission_set: start.submission.unwrap().submission_set,
            ..Default::default()
        }
    }

    fn update_of(&self, number: u32, entry: &pb::DocumentEntry, title: &str) -> pb::Submission {
        let mut submission = self.set(number);
        submission.entries.push(pb::DocumentEntry {
            entry_uuid: "new".into(),
            title: Some(cpb::InternationalString {
                values: vec![cpb::LocalizedString {
                    value: title.into(),
                    language: "ja-JP".into(),
                }],
            }),
            ..entry.clone()
        });
        submission.associations.push(pb::Association {
            association_type: pb::AssociationType::HasMember.into(),
            source_object: "set".into(),
            target_object: "new".into(),
            submission_set_status: pb::SubmissionSetStatus::Original.into(),
            previous_version: entry.version,
            ..Default::default()
        });
        submission
    }

    /// How the calls of a method ended by the audit: those that did what was asked, and the others.
    fn events(&self, method: &str) -> (usize, usize) {
        let audit = &self.network.gateway(HERE).audit;
        let events = audit.events(&Filter::default(), usize::MAX).unwrap();
        let of_method = events.iter().filter(|event| event.method.ends_with(method));
        let (done, refused): (Vec<_>, Vec<_>) =
            of_method.partition(|event| event.outcome() == apb::Outcome::Success);
        (done.len(), refused.len())
    }
}

fn relation(kind: pb::AssociationType, target: &str) -> pb::Association {
    pb::Association {
        association_type: kind.into(),
        source_object: "document".into(),
        target_object: target.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_replaced_updated_and_removed() {
    let known = Known::new().await;
    let slot = pb::ExtensionSlot {
        name: "urn:acme:flag".into(),
        values: vec!["  値\n2 ".into()],
        slot_type: String::new(),
    };
    let first = known
        .provided(1, |submission| {
            submission.entries[0].extension_slots.push(slot.clone());
        })
        .await;
    assert_eq!(known.seen().await, std::slice::from_ref(&first));
    assert_eq!(first.extension_slots, [slot], "byte for byte");
    let replace = |submission: &mut pb::Submission| {
        let kind = pb::AssociationType::Rplc;
        submission
            .associations
            .push(relation(kind, &first.entry_uuid));
    };
    // Only who submitted it may replace it.
    let stolen = provide(&known.other, known.parts(2, replace)).await;
    let status = stolen.unwrap_err();
    assert!(!codes(&status).is_empty());
    refused::<()>(Err(status), Reason::NotPermitted);
    let second = known.provided(3, replace).await;
    assert_eq!(known.seen().await, std::slice::from_ref(&second));

    let change = known.update_of(4, &second, "訂正版");
    let updated = update(&known.system, change.clone(), false).await.unwrap();
    assert_eq!(updated.entries[0].version, 2);
    assert_eq!(updated.entries[0].logical_id, second.entry_uuid);
    let seen = known.seen().await;
    assert_eq!(seen, updated.entries);
    let mut again = change;
    again.submission_set.as_mut().unwrap().unique_id = "1.2.3.1.5".into();
    let status = update(&known.system, again, true).await.unwrap_err();
    let place = "associations[0].previous_version".to_owned();
    assert_eq!(
        codes(&status),
        [("XDSMetadataVersionError".to_owned(), place)]
    );

    let status = remove(&known.system, vec![first.entry_uuid.clone()])
        .await
        .unwrap_err();
    assert_eq!(codes(&status)[0].0, "ReferencesExistException");
    let document = renkei::documents::document_ref(&seen[0]);
    let request = |reason: &str| pb::RemoveDocumentsRequest {
        documents: vec![
            document.clone(),
            cpb::DocumentRef {
                document_unique_id: "1.9.9".into(),
                ..document.clone()
            },
        ],
        reason: reason.into(),
        idempotency_key: "removal".into(),
    };
    let call = |caller: &Caller, reason: &str| {
        let (mut client, request) = (client(caller), caller.request(request(reason)));
        async move { client.remove_documents(request).await }
    };
    refused(call(&known.system, "").await, Reason::MissingField);
    refused(call(&known.other, "誤登録").await, Reason::UnknownDocument);
    let removed = call(&known.system, "誤登録").await.unwrap().into_inner();
    assert_eq!(removed.removed, std::slice::from_ref(&document));
    assert_eq!(removed.errors[0].code, "XDSDocumentUniqueIdError");
    let again = call(&known.system, "誤登録").await.unwrap().into_inner();
    assert_eq!(again, removed, "a repeat gives the first answer");

    assert_eq!(known.events("/RemoveDocuments"), (2, 2));
    assert_eq!(known.events("/UpdateMetadata"), (1, 1));
    known.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn folders_and_members_are_registered_and_removed() {
    let known = Known::new().await;
    let folder = |id: &str| pb::Folder {
        entry_uuid: "folder".into(),
        unique_id: id.into(),
        patient_id: Some(known.patient.clone()),
        codes: vec![cpb::CodedValue {
            code: "episode".into(),
            system: "1.2.3".into(),
            ..Default::default()
        }],
        title: Some(cpb::InternationalString {
            values: vec![cpb::LocalizedString {
                value: "入院 2024".into(),
                language: "ja-JP".into(),
            }],
        }),
        ..Default::default()
    };
    let parts = known.parts(1, |submission| {
        submission.folders.push(folder("1.2.3.7.1"));
        submission.associations.push(pb::Association {
            association_type: pb::AssociationType::HasMember.into(),
            entry_uuid: "membership".into(),
            source_object: "folder".into(),
            target_object: "document".into(),
            ..Default::default()
        });
    });
    let answer = provide(&known.system, parts.clone())
        .await
        .unwrap()
        .into_inner();
    let again = provide(&known.system, parts).await.unwrap().into_inner();
    assert_eq!(answer, again, "a repeat gives the first answer");
    let result = answer.result.unwrap();
    let uuid = |id: &str| {
        let named = |one: &&pb::AssignedId| one.symbolic_id == id;
        result
            .assigned_ids
            .iter()
            .find(named)
            .unwrap()
            .entry_uuid
            .clone()
    };
    for id in ["set", "document", "folder", "membership"] {
        assert!(uuid(id).starts_with("urn:uuid:"), "{id}");
    }
    let status = remove(&known.system, vec![uuid("folder")])
        .await
        .unwrap_err();
    let place = "entry_uuids[0]".to_owned();
    assert_eq!(
        codes(&status),
        [("ReferencesExistException".to_owned(), place)]
    );

    // A second submission of the same folder, and everything else that is wrong with it, at once.
    let parts = known.parts(2, |submission| {
        submission.folders.push(folder("1.2.3.7.1"));
        submission
            .associations
            .push(relation(pb::AssociationType::Apnd, &uuid("folder")));
    });
    let status = provide(&known.system, parts).await.unwrap_err();
    assert_eq!(
        codes(&status),
        [
            (
                "XDSDuplicateUniqueIdInRegistry".to_owned(),
                "folders[0].unique_id".to_owned()
            ),
            (
                "UnresolvedReferenceException".to_owned(),
                "associations[0].target_object".to_owned()
            ),
        ]
    );
    assert_eq!(known.seen().await.len(), 1, "nothing of it is there");
    known.network.stop().await;
}

/// ITI-42 and ITI-61: documents that are elsewhere, or not made yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_elsewhere_are_registered() {
    let known = Known::new().await;
    let submission = |number: u32| {
        let mut parts = known.parts(number, |submission| {
            submission.entries[0].repository_unique_id = "1.2.3.88".into();
        });
        let Some(pb::provide_documents_request::Part::Start(start)) = parts.remove(0).part else {
            panic!("no start");
        };
        start.submission.unwrap()
    };
    let registered = register(&known.system, submission(1)).await.unwrap();
    assert_eq!(registered.entries[0].repository_unique_id, "1.2.3.88");
    assert_eq!(known.seen().await, registered.entries);
    let mut bare = submission(2);
    bare.entries[0].repository_unique_id.clear();
    bare.entries[0].hash.clear();
    let status = register(&known.system, bare).await.unwrap_err();
    assert_eq!(codes(&status).len(), 2);
    // Hash and size of what another repository assembles late may be told later.
    let mut late = known.update_of(3, &registered.entries[0], "後から");
    late.entries[0].size = Some(7);
    let updated = update(&known.system, late, false).await.unwrap();
    assert_eq!(updated.entries[0].size, Some(7));

    let mut on_demand = submission(4);
    let entry = &mut on_demand.entries[0];
    entry.object_type = pb::ObjectType::OnDemand.into();
    entry.creation_time.clear();
    entry.hash.clear();
    entry.size = None;
    let status = register(&known.system, on_demand.clone())
        .await
        .unwrap_err();
    assert!(
        codes(&status)
            .iter()
            .any(|(_, place)| place == "entries[0].object_type")
    );
    let request = pb::RegisterOnDemandDocumentRequest {
        submission: Some(on_demand),
        persist_snapshots: true,
        idempotency_key: "on-demand".into(),
    };
    let mut client = client(&known.system);
    let answer = client
        .register_on_demand_document(known.system.request(request))
        .await;
    let entries = answer.unwrap().into_inner().result.unwrap().entries;
    assert_eq!(entries[0].object_type(), pb::ObjectType::OnDemand);
    known.network.stop().await;
}

/// What a change rests on is not changed by another meanwhile: a document is replaced once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_changes_at_once_each_sees_the_one_before() {
    let known = Known::new().await;
    let mut target = known.provided(1, |_| {}).await.entry_uuid;
    for round in 0..5 {
        let replace = |submission: &mut pb::Submission| {
            let kind = pb::AssociationType::Rplc;
            submission.associations.push(relation(kind, &target));
        };
        let (one, other) = tokio::join!(
            provide(&known.system, known.parts(10 + 2 * round, replace)),
            provide(&known.system, known.parts(11 + 2 * round, replace)),
        );
        let (replaced, late) = if one.is_ok() {
            (one, other)
        } else {
            (other, one)
        };
        refused(late, Reason::DeprecatedObject);
        let result = replaced.unwrap().into_inner().result.unwrap();
        target.clone_from(&result.entries[0].entry_uuid);
        let seen = known.seen().await;
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].entry_uuid, target);
    }
    known.network.stop().await;
}
