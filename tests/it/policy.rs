//! The decision point from outside: consent in force at once, streams included; policies as files;
//! answers that tell nothing; searches that find few. Bars: Z-02, Z-03, Z-10, Z-13, P-05, P-06, P-07.

use std::time::{Duration, Instant};

use renkei::demo::actor::Caller;
use renkei::demo::sample::{SampleDocument, SampleRecord};
use renkei::error::Reason;
use renkei::types::PersonRole;
use renkei::wire::pb::admin as apb;
use renkei::wire::pb::admin::admin_service_client::AdminServiceClient;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::consent as npb;
use renkei::wire::pb::consent::consent_service_client::ConsentServiceClient;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use renkei::wire::pb::identity as ipb;
use renkei::wire::pb::identity::identity_service_client::IdentityServiceClient;
use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming};

use crate::support::calls::{find, find_here, opt_out, record_consent, withdraw};
use crate::support::expect::{refused, said};
use crate::support::tier::Dice;
use crate::support::{At, Network, Setup, eventually, person, physician};

const HERE: At = At::Region(0);

/// A standalone node with a person's documents, a physician who treats the person, and the person's
/// identifier.
struct One {
    network: Network,
    record: SampleRecord,
    doctor: Caller,
    clerk: Caller,
    patient: cpb::Identifier,
}

impl One {
    async fn new(setup: Setup) -> Self {
        let network = setup.start().await;
        let record = network
            .record(network.sample.scenario.cross_region, 0)
            .clone();
        network.feed(&record).await;
        let code = network.institution(&record).code.clone();
        let doctor = network.acting(HERE, &physician(&code));
        let clerk = network.acting(HERE, &person("C-1", PersonRole::Clerk, &code));
        let patient = network.patient(&record);
        Self {
            network,
            record,
            doctor,
            clerk,
            patient,
        }
    }

    /// A document of the person with this content.
    fn document(&self, content: Vec<u8>) -> SampleDocument {
        let truth = self.network.sample.scenario.cross_region;
        let mut documents = self.network.sample.documents_of(truth);
        let document = documents.find(|document| document.region == 0).unwrap();
        SampleDocument {
            unique_id: format!("2.25.{}", uuid::Uuid::new_v4().as_u128()),
            content,
            ..document.clone()
        }
    }

    async fn listed(&self) -> Result<Vec<dpb::DocumentEntry>, Status> {
        let found = find_here(&self.doctor, self.patient.clone()).await?;
        Ok(found.into_inner().objects.unwrap_or_default().entries)
    }

    fn consent(&self, effect: npb::ConsentEffect) -> npb::Consent {
        npb::Consent {
            patient_id: Some(self.patient.clone()),
            home_community_id: self.network.node(HERE).home.clone(),
            model: npb::ConsentModel::Community.into(),
            effect: effect.into(),
            ..Default::default()
        }
    }
}

async fn retrieve(
    caller: &Caller,
    entry: &dpb::DocumentEntry,
) -> Streaming<dpb::RetrieveDocumentsResponse> {
    let request = dpb::RetrieveDocumentsRequest {
        documents: vec![dpb::DocumentRequest {
            document: Some(renkei::documents::document_ref(entry)),
            range: None,
        }],
    };
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    let response = client.retrieve_documents(caller.request(request)).await;
    response.unwrap().into_inner()
}

/// Bars: Z-03, Z-13. A reader who has begun gets no more than what was on its way already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawal_stops_a_running_stream() {
    let one = One::new(Setup::standalone()).await;
    let size = 24 * 1024 * 1024;
    one.network.provide(&one.document(vec![7; size])).await;
    let entry = one.listed().await.unwrap().remove(0);
    let mut stream = retrieve(&one.doctor, &entry).await;
    stream.next().await.unwrap().unwrap();

    opt_out(&one.clerk, one.patient.clone()).await;
    let acknowledged = Instant::now();
    let mut got = 0;
    let ended = loop {
        match stream.next().await {
            Some(Ok(message)) => {
                if let Some(dpb::retrieved_part::Part::Chunk(chunk)) =
                    message.part.and_then(|part| part.part)
                {
                    got += chunk.len();
                }
            }
            Some(Err(status)) => break status,
            None => panic!("the stream came to its end: {got} bytes"),
        }
    };
    assert!(acknowledged.elapsed() < Duration::from_secs(1));
    refused(Err::<(), _>(ended), Reason::NotPermitted);
    assert!(
        got < size / 2,
        "{got} of {size} bytes came after the refusal was recorded"
    );
    // The next one is refused from the start.
    refused(one.listed().await, Reason::NotPermitted);
    one.network.stop().await;
}

/// Bars: Z-03. A change that leaves the answer as it is does not stop it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_something_else_lets_a_stream_go_on() {
    let one = One::new(Setup::standalone()).await;
    let size = 4 * 1024 * 1024;
    one.network.provide(&one.document(vec![7; size])).await;
    let entry = one.listed().await.unwrap().remove(0);
    let mut stream = retrieve(&one.doctor, &entry).await;
    stream.next().await.unwrap().unwrap();
    let psychiatry = npb::Consent {
        data_classes: vec![npb::DataClass::Psychiatry.into()],
        ..one.consent(npb::ConsentEffect::Deny)
    };
    record_consent(&one.clerk, psychiatry).await.unwrap();
    let mut got = 0;
    while let Some(message) = stream.next().await {
        if let Some(dpb::retrieved_part::Part::Chunk(chunk)) =
            message.unwrap().part.and_then(|part| part.part)
        {
            got += chunk.len();
        }
    }
    assert_eq!(got, size);
    one.network.stop().await;
}

/// Consent by class, by person, by replacement; who said it, and on what evidence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consent_is_kept_with_its_scope_and_its_history() {
    let one = One::new(Setup::standalone()).await;
    one.network.provide(&one.document(b"text".to_vec())).await;
    assert_eq!(one.listed().await.unwrap().len(), 1);

    let not_me = npb::Consent {
        grantees: vec![npb::Party {
            institution_id: one.network.institution(&one.record).code.clone(),
            person_subject: "D-1001".into(),
            ..Default::default()
        }],
        evidence: Some(npb::Evidence {
            form_id: "F-117".into(),
            ..Default::default()
        }),
        ..one.consent(npb::ConsentEffect::Deny)
    };
    let first = record_consent(&one.clerk, not_me.clone()).await.unwrap();
    refused(one.listed().await, Reason::NotPermitted);
    // Another wish in its place: the one person may, this class may not.
    let kind = one.document(Vec::new()).type_code.code.to_owned();
    let instead = npb::Consent {
        document_codes: vec![cpb::CodedValue {
            code: kind,
            ..Default::default()
        }],
        supersedes: first.consent_id.clone(),
        ..one.consent(npb::ConsentEffect::Deny)
    };
    let second = record_consent(&one.clerk, instead.clone()).await.unwrap();
    assert!(one.listed().await.unwrap().is_empty());
    // What is replaced once is not replaced again.
    refused(record_consent(&one.clerk, instead).await, Reason::NotFound);
    withdraw(&one.clerk, &second.consent_id).await.unwrap();
    assert_eq!(one.listed().await.unwrap().len(), 1);

    let mut client = ConsentServiceClient::new(one.clerk.channel.clone());
    let request = npb::ListConsentsRequest {
        patient: Some(npb::list_consents_request::Patient::PatientId(
            one.patient.clone(),
        )),
        include_history: true,
        ..Default::default()
    };
    let listed = client.list_consents(one.clerk.request(request)).await;
    let listed = listed.unwrap().into_inner().consents;
    let states: Vec<_> = listed.iter().map(npb::Consent::status).collect();
    use npb::ConsentStatus as S;
    assert_eq!(states, [S::Withdrawn, S::Superseded]);
    assert_eq!(listed[1].evidence, not_me.evidence);
    assert_eq!(listed[1].recorded_by.as_ref().unwrap().subject, "C-1");
    one.network.stop().await;
}

/// PCF ITI-108: what is exported can be imported, and means the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consent_goes_out_and_in_as_fhir() {
    let one = One::new(Setup::standalone()).await;
    one.network.provide(&one.document(b"text".to_vec())).await;
    let recorded = record_consent(&one.clerk, one.consent(npb::ConsentEffect::Deny)).await;
    let recorded = recorded.unwrap();
    let mut client = ConsentServiceClient::new(one.clerk.channel.clone());
    let request = npb::ExportConsentRequest {
        consent_id: recorded.consent_id.clone(),
    };
    let exported = client.export_consent(one.clerk.request(request)).await;
    let fhir = exported.unwrap().into_inner().fhir_consent;
    withdraw(&one.clerk, &recorded.consent_id).await.unwrap();
    assert_eq!(one.listed().await.unwrap().len(), 1);

    let import = |validate_only, fhir: &[u8]| npb::ImportConsentRequest {
        fhir_consent: fhir.to_vec().into(),
        validate_only,
        idempotency_key: uuid::Uuid::new_v4().to_string(),
    };
    let checked = client
        .import_consent(one.clerk.request(import(true, &fhir)))
        .await;
    assert!(checked.unwrap().into_inner().warnings.is_empty());
    assert_eq!(
        one.listed().await.unwrap().len(),
        1,
        "a check records nothing"
    );
    let taken = client
        .import_consent(one.clerk.request(import(false, &fhir)))
        .await;
    let taken = taken.unwrap().into_inner().consent.unwrap();
    assert_ne!(taken.consent_id, recorded.consent_id);
    refused(one.listed().await, Reason::NotPermitted);
    let wrong = client
        .import_consent(one.clerk.request(import(false, b"{}")))
        .await;
    refused(wrong, Reason::InvalidField);
    one.network.stop().await;
}

/// Bars: F-21, in part. What a region is told holds there at once and at the hub when it is told; the
/// hub does not forget a withdrawal when an older state comes late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_carried_to_the_hub_after_a_partition() {
    let mut network = Setup::federation(2).start().await;
    let truth = network.sample.scenario.opted_out;
    network.load_person(truth).await;
    let record = network.record(truth, 0).clone();
    let code = network.institution(&record).code.clone();
    let clerk = network.acting(At::Region(0), &person("C-1", PersonRole::Clerk, &code));
    let there = network.record(truth, 1).clone();
    let theirs = network.institution(&there).code.clone();
    network.stop_node(At::Hub).await;
    opt_out(&clerk, network.patient(&record)).await;
    let here = network.acting(At::Region(0), &physician(&code));
    refused(
        find_here(&here, network.patient(&record)).await,
        Reason::NotPermitted,
    );
    network.start_node(At::Hub).await;
    network.settled().await;
    let doctor = network.acting(At::Region(1), &physician(&theirs));
    refused(
        find(&doctor, network.patient(&there)).await,
        Reason::NotPermitted,
    );
    network.stop().await;
}

async fn operators_view(network: &Network) -> (apb::GetNodeInfoResponse, Vec<String>) {
    let operator = network.operator(HERE);
    let mut client = AdminServiceClient::new(operator.channel.clone());
    let info = client
        .get_node_info(operator.request(apb::GetNodeInfoRequest {}))
        .await;
    let status = client
        .get_status(operator.request(apb::GetStatusRequest {}))
        .await;
    let alarms = status.unwrap().into_inner().alarms.into_iter();
    (
        info.unwrap().into_inner(),
        alarms.map(|alarm| alarm.code).collect(),
    )
}

/// Policies are files: others are in force for the next call, bad ones never are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_read_again_and_bad_ones_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in renkei::access::Policies::default_files() {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let setup = Setup::standalone()
        .set("access.policies", folder.path().to_str().unwrap())
        .set("reload.interval_ms", "50");
    let one = One::new(setup).await;
    one.network.provide(&one.document(b"text".to_vec())).await;
    assert_eq!(one.listed().await.unwrap().len(), 1);
    let (before, _) = operators_view(&one.network).await;
    assert_eq!(before.policy_version.len(), 32);

    let own = folder.path().join("90-own.cedar");
    std::fs::write(&own, "permit (principal, action, resource").unwrap();
    eventually("an alarm for the bad file", || async {
        let (info, alarms) = operators_view(&one.network).await;
        assert_eq!(info.policy_version, before.policy_version);
        alarms.contains(&"RELOAD_FAILED".to_owned()).then_some(())
    })
    .await;
    assert_eq!(one.listed().await.unwrap().len(), 1);

    let closed =
        "@id(\"closed\") forbid (principal, action == Action::\"FindDocuments\", resource);";
    std::fs::write(&own, closed).unwrap();
    eventually("the new policy to be in force", || async {
        one.listed().await.is_err().then_some(())
    })
    .await;
    let (after, alarms) = operators_view(&one.network).await;
    assert_ne!(after.policy_version, before.policy_version);
    assert!(!alarms.contains(&"RELOAD_FAILED".to_owned()), "{alarms:?}");
    // Every decision says which policies made it.
    let events = one
        .network
        .gateway(HERE)
        .store
        .frames(renkei::store::Sequence(1));
    let mut events = events;
    let mut versions = std::collections::BTreeSet::new();
    while let Some(frame) = events.try_next().unwrap() {
        for record in frame.audit {
            let event: renkei::wire::pb::audit::AuditEvent =
                prost::Message::decode(record).unwrap();
            if event.method.ends_with("/QueryRegistry") {
                versions.insert(event.policy_version);
            }
        }
    }
    let expected = [before.policy_version, after.policy_version];
    assert_eq!(versions, expected.into_iter().collect());
    one.network.stop().await;
}

/// Size on the wire, as far as a caller can see it: status, details and message.
fn shape(status: &Status) -> (String, usize, usize) {
    (said(status), status.message().len(), status.details().len())
}

/// Bars: Z-02, Z-10, P-06. Refused, unknown and guessed look the same, and take the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_looks_like_nothing_there() {
    let one = One::new(Setup::standalone()).await;
    one.network.provide(&one.document(b"text".to_vec())).await;
    let entry = one.listed().await.unwrap().remove(0);
    opt_out(&one.clerk, one.patient.clone()).await;
    let guessed = |number: u64| cpb::Identifier {
        value: format!("{number:0width$}", width = one.patient.value.len()),
        ..one.patient.clone()
    };
    let mut times = [Vec::new(), Vec::new()];
    let expected = shape(
        &find_here(&one.doctor, one.patient.clone())
            .await
            .unwrap_err(),
    );
    for round in 0..150 {
        for (index, patient) in [one.patient.clone(), guessed(900_000 + round)]
            .into_iter()
            .enumerate()
        {
            let started = Instant::now();
            let status = find_here(&one.doctor, patient).await.unwrap_err();
            times[index].push(started.elapsed().as_secs_f64());
            assert_eq!(shape(&status), expected, "{status}");
        }
    }
    let t = welch(&times[0], &times[1]);
    assert!(t.abs() < 4.5, "the times tell them apart: t = {t:.2}");

    // A document of theirs, and one that is nobody's.
    let nobodys = dpb::DocumentEntry {
        unique_id: entry
            .unique_id
            .chars()
            .rev()
            .collect::<String>()
            .replace("52.2", "2.25"),
        ..entry.clone()
    };
    let mut seen = Vec::new();
    for entry in [&entry, &nobodys] {
        let request = dpb::RetrieveDocumentsRequest {
            documents: vec![dpb::DocumentRequest {
                document: Some(renkei::documents::document_ref(entry)),
                range: None,
            }],
        };
        let mut client = DocumentServiceClient::new(one.doctor.channel.clone());
        let got = client.retrieve_documents(one.doctor.request(request)).await;
        seen.push(shape(&got.unwrap_err()));
    }
    assert_eq!(seen[0], seen[1]);
    one.network.stop().await;
}

/// Welch's t of two samples.
fn welch(a: &[f64], b: &[f64]) -> f64 {
    let of = |sample: &[f64]| {
        let n = f64::from(u32::try_from(sample.len()).unwrap());
        let mean = sample.iter().sum::<f64>() / n;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    };
    let ((mean_a, a), (mean_b, b)) = (of(a), of(b));
    (mean_a - mean_b) / (a + b).sqrt()
}

async fn search(
    caller: &Caller,
    criteria: ipb::PatientCriteria,
) -> Result<ipb::SearchPatientsResponse, Status> {
    let request = ipb::SearchPatientsRequest {
        criteria: Some(criteria),
        page_size: 100,
        ..Default::default()
    };
    let mut client = IdentityServiceClient::new(caller.channel.clone());
    let found = client.search_patients(caller.request(request)).await?;
    Ok(found.into_inner())
}

/// Bars: P-07. Of too many it is said that they are too many: not how many, and not who.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_are_neither_counted_nor_named() {
    let network = Setup::standalone().start().await;
    let code = &network.sample.regions[0].institutions[0].code;
    let clerk = network.acting(HERE, &person("C-9", PersonRole::Clerk, code));
    let asked = || ipb::PatientCriteria {
        family: "多田".to_owned(),
        birth_date: "1950-03-03".to_owned(),
        ..Default::default()
    };
    let mut messages = std::collections::BTreeSet::new();
    for number in 0..40 {
        let named = SampleRecord {
            family_kanji: "多田".to_owned(),
            given_kanji: format!("{}子", char::from_u32(0x5000 + number * 7).unwrap()),
            birth_date: "1950-03-03".to_owned(),
            institution: 0,
            ..stranger(&network, number)
        };
        network.feed(&named).await;
        if number < 20 || number % 5 > 0 {
            continue;
        }
        let status = refused(search(&clerk, asked()).await, Reason::TooManyResults);
        let text = format!("{} {}", status.message(), said(&status));
        assert!(!text.contains(char::is_numeric), "{text}");
        assert!(!text.contains("多田") && !text.contains('子'), "{text}");
        messages.insert(text);
    }
    assert_eq!(messages.len(), 1, "the same however many: {messages:?}");
    network.stop().await;
}

/// Bars: Z-16. What was decided for one caller is no answer to another's question, in whatever order
/// they ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_caller_gets_what_was_decided_for_another() {
    let one = One::new(Setup::standalone()).await;
    let (truth, network) = (one.network.sample.scenario.cross_region, &one.network);
    let documents = network.sample.documents_of(truth);
    for document in documents.filter(|document| document.region == 0) {
        network.provide(document).await;
    }
    let institutions = &network.sample.regions[0].institutions;
    let own = network.institution(&one.record).code.clone();
    let other = institutions.iter().find(|one| one.code != own).unwrap();
    let refused_one = npb::Consent {
        grantees: vec![npb::Party {
            institution_id: other.code.clone(),
            ..Default::default()
        }],
        ..one.consent(npb::ConsentEffect::Deny)
    };
    record_consent(&one.clerk, refused_one).await.unwrap();
    let stranger = network.acting(HERE, &physician(&other.code));
    // The same person of the same institution, for another purpose and as another role.
    let clerk = &one.clerk;
    let expected = one.listed().await.unwrap().len();
    assert!(expected > 0);
    let mut dice = Dice::new();
    let mut asked = [0; 3];
    for _ in 0..150 {
        let who = usize::try_from(dice.below(3)).unwrap();
        asked[who] += 1;
        let caller = [&one.doctor, clerk, &stranger][who];
        let found = find_here(caller, one.patient.clone()).await;
        let count = found.map(|found| found.into_inner().objects.unwrap_or_default().entries.len());
        match who {
            0 => assert_eq!(count.unwrap(), expected),
            1 => assert_ne!(count.unwrap_or(0), expected, "a clerk reads no documents"),
            _ => assert_eq!(
                count.unwrap_or(0),
                0,
                "the patient refused that institution"
            ),
        }
    }
    assert!(asked.iter().all(|count| *count > 10), "{asked:?}");
    one.network.stop().await;
}

/// Somebody who is like nobody else, known to the second institution only.
fn stranger(network: &Network, number: u32) -> SampleRecord {
    let name = |offset| {
        let letters = [number * 2 + offset, number * 3 + offset];
        let letter = |at: u32| char::from_u32(0x5000 + at * 11).unwrap();
        letters.into_iter().map(letter).collect::<String>()
    };
    let like = network.record(network.sample.scenario.cross_region, 0);
    SampleRecord {
        institution: 1,
        local_id: format!("{:08}", 70_000_000 + number),
        family_kanji: name(1),
        given_kanji: name(5),
        family_kana: String::new(),
        given_kana: String::new(),
        family_romaji: String::new(),
        given_romaji: String::new(),
        birth_date: format!("19{:02}-03-{:02}", 20 + number % 60, 1 + number % 28),
        birth_date_text: String::new(),
        number: format!("{:06}", 500_000 + number),
        phone: format!("000-0000-{number:04}"),
        line: format!("{number}番地"),
        former_family_kanji: None,
        former_family_kana: None,
        ..like.clone()
    }
}

/// Bars: P-05, P-07. Few answers to a question, few strangers an hour, and an alarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_walks_through_the_patients_is_stopped() {
    let setup = Setup::standalone().set("reload.interval_ms", "50");
    let network = setup.start().await;
    let records: Vec<SampleRecord> = (0..70).map(|number| stranger(&network, number)).collect();
    for record in &records {
        network.feed(record).await;
    }
    let code = &network.sample.regions[0].institutions[0].code;
    let walker = network.acting(HERE, &person("C-9", PersonRole::Clerk, code));
    let mut shown = std::collections::BTreeSet::new();
    let mut stopped = false;
    for record in &records {
        let criteria = ipb::PatientCriteria {
            family: record.family_kanji.clone(),
            given: record.given_kanji.clone(),
            birth_date: record.birth_date.clone(),
            ..Default::default()
        };
        match search(&walker, criteria).await {
            Ok(found) => {
                assert!(!stopped, "nobody is shown after the limit");
                assert!(found.matches.len() <= 5);
                for found in found.matches {
                    let person = found.person.unwrap();
                    let own = person.records.iter().any(|record| {
                        let id = record.identifier.as_ref().unwrap();
                        id.assigning_authority.ends_with(code.as_str())
                    });
                    if !own {
                        shown.insert(person.linkage_id);
                    }
                }
            }
            Err(status) => {
                let status = refused(Err::<(), _>(status), Reason::NotPermitted);
                assert!(!status.message().contains(char::is_numeric), "{status}");
                stopped = true;
            }
        }
    }
    assert!(
        stopped,
        "{} strangers of {} records",
        shown.len(),
        records.len()
    );
    assert!(shown.len() <= 50, "{}", shown.len());
    eventually("an alarm", || async {
        let (_, alarms) = operators_view(&network).await;
        alarms.contains(&"ENUMERATION".to_owned()).then_some(())
    })
    .await;
    // Somebody else of the institution is not.
    let other = network.acting(HERE, &person("C-10", PersonRole::Clerk, code));
    let record = &records[0];
    let criteria = ipb::PatientCriteria {
        family: record.family_kanji.clone(),
        given: record.given_kanji.clone(),
        birth_date: record.birth_date.clone(),
        ..Default::default()
    };
    assert!(search(&other, criteria).await.is_ok());
    network.stop().await;
}
