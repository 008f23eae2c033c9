//! Every request that writes, sent again under its key: the same answer and nothing done twice, over
//! another connection and over a restart; another request under the key is refused. And all of them sent
//! again and again, in random order and over restarts. Bars: D-14, F-17.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::Pin;

use prost::Message;
use prost_types::FileDescriptorSet;
use renkei::demo::messages;
use renkei::demo::sample::{SampleDocument, SampleInstitution, SampleRecord};
use renkei::error::Reason;
use renkei::wire::pb::admin as apb;
use renkei::wire::pb::admin::admin_service_client::AdminServiceClient;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::consent as npb;
use renkei::wire::pb::consent::consent_service_client::ConsentServiceClient;
use renkei::wire::pb::directory as rpb;
use renkei::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use renkei::wire::pb::emergency as epb;
use renkei::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use renkei::wire::pb::federation as fpb;
use renkei::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;
use renkei::wire::pb::identity as ipb;
use renkei::wire::pb::identity::identity_service_client::IdentityServiceClient;
use tonic::Status;

use crate::support::calls::{feed, opt_out, provide};
use crate::support::expect::refused;
use crate::support::tier::{Dice, count};
use crate::support::{At, Network, Setup, emergency_physician, officer, physician};

const HERE: At = At::Region(0);

/// The encoded answer.
type Answer = Result<Vec<u8>, Status>;
type Pending<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

/// Sends a request; the other one under the same key if so asked.
type Ask = for<'a> fn(&'a Case, other: bool) -> Pending<'a>;

/// The requests that write, by method. A method that begins to write gets its line here.
const TABLE: [(&str, Ask); 22] = [
    ("FeedPatient", feed_patient),
    ("ProvideDocuments", provide_documents),
    ("RecordConsent", record_consent),
    ("WithdrawConsent", withdraw_consent),
    ("OpenBreakGlass", open_break_glass),
    ("CloseBreakGlass", close_break_glass),
    ("ReviewAccess", review_access),
    ("ApplyDirectory", apply_directory),
    ("SuspendInstitution", suspend_institution),
    ("NotifyHoldings", notify_holdings),
    ("DeliverNotices", deliver_notices),
    ("ImportConsent", import_consent),
    ("DeclareDisaster", declare_disaster),
    ("EndDisaster", end_disaster),
    ("SubmitCareRecord", submit_care_record),
    ("RegisterDocuments", register_documents),
    ("RemoveDocuments", remove_documents),
    ("MergePatients", merge_patients),
    ("UnmergePatients", unmerge_patients),
    ("ProposePurge", propose_purge),
    ("WithdrawPurge", withdraw_purge),
    ("ApprovePurge", approve_purge),
];

/// Requests with a key that write nothing into the store, and why.
const WRITE_NOTHING: [(&str, &str); 2] = [
    (
        "ReloadConfiguration",
        "reads files again; twice is the same as once",
    ),
    (
        "CosignCheckpoint",
        "remembers the largest log it saw; the same checkpoint is cosigned again",
    ),
];

/// Requests that write and have no line in the table yet. Their handlers look for the key like the
/// others; that a repeat changes nothing is seen, if at all, in the tests of their own modules.
const NO_LINE_YET: [&str; 12] = [
    "AssignReviewTask",
    "DecideReviewTask",
    "LinkPatients",
    "LoadPatients",
    "RecallReferral",
    "RegisterOnDemandDocument",
    "RemoveMetadata",
    "SendReferral",
    "SplitPerson",
    "UndoReviewDecision",
    "UnlinkPatients",
    "UpdateMetadata",
];

/// Somebody who is registered twice.
const TWICE: [&str; 2] = ["m-1", "m-2"];

/// A node, and what the requests are about.
struct Case {
    network: Network,
    consent_id: String,
    grant_id: String,
    /// The consent as a FHIR resource.
    exported: Vec<u8>,
    disaster_id: String,
    /// Two proposals to destroy keys, each about another patient.
    purge_ids: [String; 2],
    /// An institution as the directory has it.
    member: rpb::Institution,
}

impl Case {
    async fn new() -> Self {
        // What is computed ahead is written by itself, some time after the request.
        let setup = Setup::standalone().set("emergency.precompute", "false");
        let network = setup.start().await;
        let mut case = Self {
            consent_id: String::new(),
            grant_id: String::new(),
            exported: Vec::new(),
            disaster_id: String::new(),
            purge_ids: Default::default(),
            member: rpb::Institution::default(),
            network,
        };
        case.network.feed(case.record()).await;
        for local_id in TWICE {
            let mut request = messages::feed(case.institution(), case.record());
            request.idempotency_key = local_id.to_owned();
            request.patient.as_mut().unwrap().identifier = Some(case.id(local_id));
            let system = case.network.system(HERE, case.institution());
            feed(&system, request).await.unwrap();
        }
        let doctor = case
            .network
            .acting(HERE, &physician(&case.institution().code));
        let consent = opt_out(&doctor, case.network.patient(case.record())).await;
        case.consent_id = consent.consent_id;
        let export = doctor.request(npb::ExportConsentRequest {
            consent_id: case.consent_id.clone(),
        });
        let mut client = ConsentServiceClient::new(doctor.channel.clone());
        let exported = client.export_consent(export).await.unwrap();
        case.exported = exported.into_inner().fhir_consent.to_vec();
        let proposed = propose(&case, "before", "before").await.unwrap();
        let proposed = epb::DeclareDisasterResponse::decode(proposed.as_slice()).unwrap();
        case.disaster_id = proposed.disaster.unwrap().disaster_id;
        case.purge_ids = [
            proposed_purge(&case, 0).await,
            proposed_purge(&case, 1).await,
        ];
        let granted = open(&case, "before", "before").await.unwrap();
        let granted = epb::OpenBreakGlassResponse::decode(granted.as_slice()).unwrap();
        case.grant_id = granted.grant_id;
        let directory = case.network.gateway(HERE).directory.read().unwrap();
        let spare = case.spare().code.clone();
        let mut members = directory.institutions.into_iter();
        case.member = members
            .find(|member| member.institution_id == spare)
            .unwrap();
        case
    }

    /// A record of region 0 that is fed before.
    fn record(&self) -> &SampleRecord {
        let person = self.network.sample.scenario.cross_region;
        self.network.record(person, 0)
    }

    fn institution(&self) -> &SampleInstitution {
        self.network.institution(self.record())
    }

    /// An identifier of the record's institution.
    fn id(&self, local_id: &str) -> cpb::Identifier {
        messages::patient_id(self.institution(), local_id)
    }

    /// A record of region 0 that is not fed before.
    fn other_record(&self) -> &SampleRecord {
        let people = self.network.sample.people.iter();
        let mut records = people.flat_map(|person| &person.records);
        let known = self.record();
        let new = |record: &&SampleRecord| record.region == 0 && record.local_id != known.local_id;
        records.find(new).unwrap()
    }

    /// The record of the same person in region 1, whose gateway calls.
    fn there(&self) -> &SampleRecord {
        let person = self.network.sample.scenario.cross_region;
        self.network.record(person, 1)
    }

    fn hospital(&self) -> &SampleInstitution {
        self.network.emergency_hospitals(0)[0]
    }

    /// An institution that nobody else here needs.
    fn spare(&self) -> &SampleInstitution {
        let others = self.network.sample.regions[0].institutions.iter();
        let used = [self.institution(), self.hospital()].map(|used| used.code.as_str());
        let record = self.network.institution(self.other_record());
        let document = self.document();
        let of_document = &self.network.sample.regions[0].institutions[document.institution];
        others
            .filter(|one| !used.contains(&one.code.as_str()))
            .find(|one| one.code != record.code && one.code != of_document.code)
            .unwrap()
    }

    fn document(&self) -> &SampleDocument {
        let person = self.network.sample.scenario.cross_region;
        let mut documents = self.network.sample.documents_of(person);
        documents
            .find(|document| document.region == 0 && document.local_id == self.record().local_id)
            .unwrap()
    }

    /// SHA-256 over all rows of the store.
    fn rows(&self) -> [u8; 32] {
        self.network.gateway(HERE).store.dump().unwrap()
    }
}

/// The encoded message of an answer.
fn encoded<M: Message>(answer: Result<tonic::Response<M>, Status>) -> Answer {
    answer.map(|response| response.into_inner().encode_to_vec())
}

fn feed_patient(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let institution = case.network.institution(case.other_record());
        let mut request = messages::feed(institution, case.other_record());
        if other {
            let patient = request.patient.as_mut().unwrap();
            patient.demographics.as_mut().unwrap().birth_date = "1900-01-01".into();
        }
        encoded(feed(&case.network.system(HERE, institution), request).await)
    })
}

fn provide_documents(case: &Case, other: bool) -> Pending<'_> {
    use dpb::provide_documents_request::Part;
    Box::pin(async move {
        let document = case.document();
        let mut parts = case.network.provision(document);
        if let (Some(Part::Start(start)), true) = (&mut parts[0].part, other) {
            let submission = start.submission.as_mut().unwrap();
            submission.entries[0].language_code = "en".into();
        }
        let institution = &case.network.sample.regions[0].institutions[document.institution];
        encoded(provide(&case.network.system(HERE, institution), parts).await)
    })
}

fn record_consent(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let effect = match other {
            true => npb::ConsentEffect::Permit,
            false => npb::ConsentEffect::Deny,
        };
        let doctor = case
            .network
            .acting(HERE, &physician(&case.institution().code));
        let request = doctor.request(npb::RecordConsentRequest {
            consent: Some(npb::Consent {
                patient_id: Some(case.network.patient(case.record())),
                model: npb::ConsentModel::Community.into(),
                effect: effect.into(),
                ..Default::default()
            }),
            idempotency_key: "record".into(),
        });
        let mut client = ConsentServiceClient::new(doctor.channel.clone());
        encoded(client.record_consent(request).await)
    })
}

fn withdraw_consent(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let doctor = case
            .network
            .acting(HERE, &physician(&case.institution().code));
        let request = doctor.request(npb::WithdrawConsentRequest {
            consent_id: case.consent_id.clone(),
            reason: format!("other: {other}"),
            idempotency_key: "withdraw".into(),
            ..Default::default()
        });
        let mut client = ConsentServiceClient::new(doctor.channel.clone());
        encoded(client.withdraw_consent(request).await)
    })
}

/// Opens an emergency access.
async fn open(case: &Case, key: &str, text: &str) -> Answer {
    let doctor = emergency_physician("E-1", &case.hospital().code);
    let doctor = case.network.acting(HERE, &doctor);
    let patient = case.network.patient(case.record());
    let request = doctor.request(epb::OpenBreakGlassRequest {
        patient: Some(epb::PatientRef {
            subject: Some(epb::patient_ref::Subject::PatientId(patient)),
        }),
        reason: epb::BreakGlassReason::Unconscious.into(),
        reason_text: format!("意識障害のため同意を得られない {text}"),
        declares_consent_impossible: true,
        idempotency_key: key.to_owned(),
        ..Default::default()
    });
    let mut client = EmergencyServiceClient::new(doctor.channel.clone());
    encoded(client.open_break_glass(request).await)
}

fn open_break_glass(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move { open(case, "open", if other { "other" } else { "same" }).await })
}

fn close_break_glass(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let doctor = emergency_physician("E-1", &case.hospital().code);
        let doctor = case.network.acting(HERE, &doctor);
        let request = doctor.request(epb::CloseBreakGlassRequest {
            grant_id: case.grant_id.clone(),
            explanation: format!("other: {other}"),
            idempotency_key: "close".to_owned(),
            ..Default::default()
        });
        let mut client = EmergencyServiceClient::new(doctor.channel.clone());
        encoded(client.close_break_glass(request).await)
    })
}

fn review_access(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let officer = case.network.acting(HERE, &officer(&case.hospital().code));
        let request = officer.request(epb::ReviewAccessRequest {
            notice_id: case.grant_id.clone(),
            review: epb::ReviewStatus::Justified.into(),
            comment: format!("other: {other}"),
            idempotency_key: "review".to_owned(),
        });
        let mut client = EmergencyServiceClient::new(officer.channel.clone());
        encoded(client.review_access(request).await)
    })
}

fn apply_directory(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let mut member = case.member.clone();
        let prefecture = if other { "13" } else { "27" };
        prefecture.clone_into(&mut member.prefecture);
        let operator = case.network.operator(HERE);
        let request = operator.request(rpb::ApplyDirectoryRequest {
            institutions: vec![member],
            idempotency_key: "apply".to_owned(),
            ..Default::default()
        });
        let mut client = DirectoryServiceClient::new(operator.channel.clone());
        encoded(client.apply_directory(request).await)
    })
}

fn submit_care_record(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let system = case.network.system(HERE, case.institution());
        let named = |name: &str| {
            Some(cpb::PersonRef {
                subject: name.to_owned(),
                display_name: name.to_owned(),
                ..Default::default()
            })
        };
        let request = system.request(epb::SubmitCareRecordRequest {
            record: Some(epb::CareRecord {
                patient_id: Some(case.network.patient(case.record())),
                instructions: vec![epb::CareInstruction {
                    situation: "抜去時".to_owned(),
                    action: format!("other: {other}"),
                    instructed_by: None,
                }],
                author: named("family"),
                ..Default::default()
            }),
            idempotency_key: "care".to_owned(),
            ..Default::default()
        });
        let mut client = EmergencyServiceClient::new(system.channel.clone());
        encoded(client.submit_care_record(request).await)
    })
}

fn suspend_institution(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let operator = case.network.operator(HERE);
        let request = operator.request(rpb::SuspendInstitutionRequest {
            institution_id: case.spare().code.clone(),
            reason: format!("other: {other}"),
            idempotency_key: "suspend".to_owned(),
            ..Default::default()
        });
        let mut client = DirectoryServiceClient::new(operator.channel.clone());
        encoded(client.suspend_institution(request).await)
    })
}

fn notify_holdings(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let gateway = case.network.caller(HERE, "region-1", None);
        let request = gateway.request(fpb::NotifyHoldingsRequest {
            notices: vec![fpb::HoldingNotice {
                patient_id: Some(case.network.patient(case.there())),
                has_documents: !other,
                sequence: 7,
                ..Default::default()
            }],
            idempotency_key: "holdings".to_owned(),
            ..Default::default()
        });
        let mut client = RespondingGatewayServiceClient::new(gateway.channel.clone());
        encoded(client.notify_holdings(request).await)
    })
}

fn deliver_notices(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let gateway = case.network.caller(HERE, "region-1", None);
        let institution = case.network.institution(case.there());
        let mut patient = messages::feed(institution, case.there());
        if other {
            let patient = patient.patient.as_mut().unwrap();
            patient.demographics.as_mut().unwrap().birth_date = "1900-01-01".into();
        }
        let request = gateway.request(fpb::DeliverNoticesRequest {
            notices: vec![fpb::Notice {
                notice_id: "1".to_owned(),
                sequence: 1,
                content: Some(fpb::notice::Content::PatientFeed(patient)),
                ..Default::default()
            }],
            idempotency_key: "deliver".to_owned(),
        });
        let mut client = RespondingGatewayServiceClient::new(gateway.channel.clone());
        encoded(client.deliver_notices(request).await)
    })
}

fn import_consent(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let doctor = case
            .network
            .acting(HERE, &physician(&case.institution().code));
        let mut fhir_consent = case.exported.clone();
        if other {
            let text = String::from_utf8(fhir_consent).unwrap();
            assert!(text.contains("\"deny\""), "{text}");
            fhir_consent = text.replace("\"deny\"", "\"permit\"").into_bytes();
        }
        let request = doctor.request(npb::ImportConsentRequest {
            fhir_consent: fhir_consent.into(),
            validate_only: false,
            idempotency_key: "import".into(),
        });
        let mut client = ConsentServiceClient::new(doctor.channel.clone());
        encoded(client.import_consent(request).await)
    })
}

/// Proposes a disaster.
async fn propose(case: &Case, key: &str, name: &str) -> Answer {
    let operator = case.network.operator(HERE);
    let request = operator.request(epb::DeclareDisasterRequest {
        name: name.to_owned(),
        areas: vec!["13".to_owned()],
        reason: "an earthquake of the test".to_owned(),
        idempotency_key: key.to_owned(),
        ..Default::default()
    });
    let mut client = EmergencyServiceClient::new(operator.channel.clone());
    encoded(client.declare_disaster(request).await)
}

fn declare_disaster(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move { propose(case, "declare", if other { "other" } else { "same" }).await })
}

fn end_disaster(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let operator = case.network.operator(HERE);
        let request = operator.request(epb::EndDisasterRequest {
            disaster_id: case.disaster_id.clone(),
            reason: format!("other: {other}"),
            idempotency_key: "end".to_owned(),
        });
        let mut client = EmergencyServiceClient::new(operator.channel.clone());
        encoded(client.end_disaster(request).await)
    })
}

/// A document that is in another repository.
fn register_documents(case: &Case, other: bool) -> Pending<'_> {
    use dpb::provide_documents_request::Part;
    Box::pin(async move {
        let document = case.document();
        let parts = case.network.provision(document);
        let Some(Part::Start(start)) = parts.into_iter().next().unwrap().part else {
            panic!("no start");
        };
        let mut submission = start.submission.unwrap();
        let set = submission.submission_set.as_mut().unwrap();
        set.unique_id = format!("{}.8", document.unique_id);
        let entry = &mut submission.entries[0];
        entry.unique_id = format!("{}.9", document.unique_id);
        entry.repository_unique_id = "1.2.3.88".into();
        if other {
            entry.language_code = "en".into();
        }
        let institution = &case.network.sample.regions[0].institutions[document.institution];
        let system = case.network.system(HERE, institution);
        let request = system.request(dpb::RegisterDocumentsRequest {
            submission: Some(submission),
            idempotency_key: "register".to_owned(),
            validate_only: false,
        });
        let mut client = DocumentServiceClient::new(system.channel.clone());
        encoded(client.register_documents(request).await)
    })
}

/// The document that was provided.
fn remove_documents(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let document = case.document();
        let institution = &case.network.sample.regions[0].institutions[document.institution];
        let system = case.network.system(HERE, institution);
        let request = system.request(dpb::RemoveDocumentsRequest {
            documents: vec![cpb::DocumentRef {
                repository_unique_id: case.network.world.regions[0].repository.clone(),
                document_unique_id: document.unique_id.clone(),
                ..Default::default()
            }],
            reason: format!("other: {other}"),
            idempotency_key: "remove".to_owned(),
        });
        let mut client = DocumentServiceClient::new(system.channel.clone());
        encoded(client.remove_documents(request).await)
    })
}

fn merge_patients(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let system = case.network.system(HERE, case.institution());
        let request = system.request(ipb::MergePatientsRequest {
            survivor: Some(case.id(TWICE[0])),
            subsumed: Some(case.id(TWICE[1])),
            reason: format!("other: {other}"),
            idempotency_key: "merge".to_owned(),
            ..Default::default()
        });
        let mut client = IdentityServiceClient::new(system.channel.clone());
        encoded(client.merge_patients(request).await)
    })
}

fn unmerge_patients(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let system = case.network.system(HERE, case.institution());
        let request = system.request(ipb::UnmergePatientsRequest {
            subsumed: Some(case.id(TWICE[1])),
            reason: format!("other: {other}"),
            idempotency_key: "unmerge".to_owned(),
            ..Default::default()
        });
        let mut client = IdentityServiceClient::new(system.channel.clone());
        encoded(client.unmerge_patients(request).await)
    })
}

/// A patient of whom nothing else is known.
fn purged(case: &Case, number: usize) -> cpb::Identifier {
    let mut patient = case.network.patient(case.record());
    patient.value = format!("PURGED-{number}");
    patient
}

/// Proposes that the keys of a patient be destroyed.
async fn about_purge(case: &Case, key: &str, number: usize) -> Answer {
    let operator = case.network.operator(HERE);
    let request = operator.request(apb::ProposePurgeRequest {
        patient_id: Some(purged(case, number)),
        reason: apb::PurgeReason::Ordered.into(),
        decision: "a decision of the test".to_owned(),
        idempotency_key: key.to_owned(),
    });
    let mut client = AdminServiceClient::new(operator.channel.clone());
    encoded(client.propose_purge(request).await)
}

/// Proposes one; its id.
async fn proposed_purge(case: &Case, number: usize) -> String {
    let proposed = about_purge(case, &format!("before {number}"), number).await;
    let proposed = apb::ProposePurgeResponse::decode(proposed.unwrap().as_slice()).unwrap();
    proposed.purge.unwrap().purge_id
}

fn propose_purge(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move { about_purge(case, "purge", if other { 3 } else { 2 }).await })
}

fn withdraw_purge(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let operator = case.network.operator(HERE);
        let request = operator.request(apb::WithdrawPurgeRequest {
            purge_id: case.purge_ids[usize::from(other)].clone(),
            idempotency_key: "withdraw purge".to_owned(),
        });
        let mut client = AdminServiceClient::new(operator.channel.clone());
        encoded(client.withdraw_purge(request).await)
    })
}

/// By the second operator; it is done before the answer.
fn approve_purge(case: &Case, other: bool) -> Pending<'_> {
    Box::pin(async move {
        let operator = case.network.second_operator(HERE);
        let request = operator.request(apb::ApprovePurgeRequest {
            purge_id: case.purge_ids[1].clone(),
            patient_id: Some(purged(case, usize::from(!other))),
            idempotency_key: "approve purge".to_owned(),
        });
        let mut client = AdminServiceClient::new(operator.channel.clone());
        encoded(client.approve_purge(request).await)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_is_done_once_under_its_key() {
    let mut case = Case::new().await;
    let mut answers = Vec::new();
    for (method, send) in TABLE {
        let before = case.rows();
        let first = send(&case, false).await;
        let first = first.unwrap_or_else(|status| panic!("{method}: {status}"));
        let after = case.rows();
        assert_ne!(after, before, "{method} did nothing");
        repeat(&case, method, send, &first, after).await;
        answers.push(first);
    }
    let rows = case.rows();
    case.network.stop_node(HERE).await;
    case.network.start_node(HERE).await;
    assert_eq!(case.rows(), rows);
    for ((method, send), first) in TABLE.iter().zip(&answers) {
        repeat(&case, method, *send, first, rows).await;
    }
    case.network.stop().await;
}

/// Numbers below `length` in an order by chance.
fn shuffled(length: usize, dice: &mut Dice) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    for at in (1..length).rev() {
        let other = usize::try_from(dice.below(at as u64 + 1)).unwrap();
        order.swap(at, other);
    }
    order
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replayed_in_any_order_over_restarts_leaves_the_same_state() {
    // bars: F-17
    let rounds = count(4, 100, 400);
    let restarts = count(2, 10, 40);
    let mut dice = Dice::new();
    let mut case = Case::new().await;
    let mut answers = Vec::new();
    for (method, send) in TABLE {
        let first = send(&case, false).await;
        answers.push(first.unwrap_or_else(|status| panic!("{method}: {status}")));
    }
    let rows = case.rows();
    for round in 0..rounds {
        if round % (rounds / restarts) == 0 {
            case.network.stop_node(HERE).await;
            case.network.start_node(HERE).await;
            assert_eq!(case.rows(), rows, "round {round}: after a restart");
        }
        for one in shuffled(TABLE.len(), &mut dice) {
            let (method, send) = TABLE[one];
            let again = send(&case, false).await;
            let again = again.unwrap_or_else(|status| panic!("{method} again: {status}"));
            assert_eq!(again, answers[one], "round {round}: {method}");
            assert_eq!(case.rows(), rows, "round {round}: {method} was done twice");
        }
    }
    println!(
        "{} writes, each {rounds} times more, {restarts} restarts",
        TABLE.len()
    );
    case.network.stop().await;
}

/// Sends the same request again, and another under its key.
async fn repeat(case: &Case, method: &str, send: Ask, first: &[u8], rows: [u8; 32]) {
    let again = send(case, false).await;
    let again = again.unwrap_or_else(|status| panic!("{method} again: {status}"));
    assert_eq!(again, first, "{method}: another answer");
    assert_eq!(case.rows(), rows, "{method} was done twice");
    refused(send(case, true).await, Reason::IdempotencyMismatch);
    assert_eq!(case.rows(), rows, "{method}: the other request was done");
}

/// The methods whose requests have an idempotency key, by the interface.
fn keyed() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(renkei::wire::DESCRIPTORS)
        .unwrap()
        .file;
    let mut with_key = BTreeSet::new();
    for file in &files {
        for message in &file.message_type {
            let keyed = message.field.iter().any(|f| f.name() == "idempotency_key");
            if keyed {
                with_key.insert(format!(".{}.{}", file.package(), message.name()));
            }
        }
    }
    // The key of a stream is in its first part.
    let parts = files.iter().flat_map(|file| {
        let messages = file.message_type.iter();
        let with_key = &with_key;
        messages
            .filter(|message| {
                message
                    .field
                    .iter()
                    .any(|f| with_key.contains(f.type_name()))
            })
            .map(|message| format!(".{}.{}", file.package(), message.name()))
            .collect::<Vec<_>>()
    });
    let requests: BTreeSet<String> = parts.chain(with_key.iter().cloned()).collect();
    let services = files.iter().flat_map(|file| &file.service);
    services
        .flat_map(|service| &service.method)
        .filter(|method| requests.contains(method.input_type()))
        .filter(|method| method.client_streaming() || with_key.contains(method.input_type()))
        .map(|method| method.name().to_owned())
        .collect()
}

/// The methods that this version answers with `NOT_IMPLEMENTED`, by the handlers' sources.
fn not_implemented() -> BTreeSet<String> {
    let handlers = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/grpc");
    let mut methods = BTreeSet::new();
    for file in std::fs::read_dir(handlers).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "rs") {
            continue;
        }
        let mut text = std::fs::read_to_string(path).unwrap();
        text.retain(|letter| !letter.is_whitespace());
        for call in text.split(".not_implemented(").skip(1) {
            let name = call.split('"').nth(1).unwrap();
            methods.insert(name.to_owned());
        }
    }
    methods
}

#[test]
fn no_request_that_writes_is_missing_from_the_table() {
    let undone = not_implemented();
    assert!(keyed().len() > 20, "{:?}", keyed());
    let writes: BTreeSet<String> = keyed().difference(&undone).cloned().collect();
    let tested = TABLE.iter().map(|(method, _)| *method);
    let tested: BTreeSet<String> = tested
        .chain(WRITE_NOTHING.iter().map(|(method, _)| *method))
        .map(str::to_owned)
        .collect();
    let untested: Vec<_> = writes
        .difference(&tested)
        .filter(|method| !NO_LINE_YET.contains(&method.as_str()))
        .collect();
    assert!(
        untested.is_empty(),
        "{untested:?} write and have no line in the table of this file"
    );
    let unknown: Vec<_> = tested.difference(&writes).collect();
    assert!(unknown.is_empty(), "{unknown:?} do not write");
}
