//! Reading the registry and repository over mutual TLS: queries, ranges, subscriptions, referrals.

use hyper::body::Body;
use prost::Message as _;
use renkei::api::grpc::services;
use renkei::audit::Filter;
use renkei::demo::actor::Caller;
use renkei::demo::sample::{SampleDocument, SampleRecord};
use renkei::error::Reason;
use renkei::wire::pb::audit as apb;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::documents as pb;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use renkei::wire::{ASSERTION, REQUEST_ID};
use tokio_stream::StreamExt as _;
use tonic::{Request, Status, Streaming};
use tower::Service as _;

use crate::audit_methods;
use crate::support::calls::{opt_out, provide};
use crate::support::expect::refused;
use crate::support::{At, Network, Setup, eventually, officer, physician};
use pb::retrieved_part::Part;
use pb::stored_query::Query;

const HERE: At = At::Region(0);

/// A patient with documents, some copied under new ids so that there are enough.
pub(super) struct Patient<'a> {
    network: &'a Network,
    pub(super) record: &'a SampleRecord,
    pub(super) document: &'a SampleDocument,
}

impl<'a> Patient<'a> {
    async fn new(network: &'a Network) -> Self {
        let mut documents = network.sample.documents.iter();
        let document = documents.find(|document| document.region == 0);
        Self::of(network, document.unwrap()).await
    }

    /// Another person.
    async fn other_than(network: &'a Network, known: &Self) -> Self {
        let mut documents = network.sample.documents.iter();
        let document = documents
            .find(|document| document.region == 0 && document.person != known.document.person);
        Self::of(network, document.unwrap()).await
    }

    pub(super) async fn of(network: &'a Network, document: &'a SampleDocument) -> Self {
        let person = network.sample.person(document.person).unwrap();
        let mut records = person.records.iter();
        let record = records
            .find(|record| record.region == 0 && record.local_id == document.local_id)
            .unwrap();
        network.feed(record).await;
        Self {
            network,
            record,
            document,
        }
    }

    pub(super) fn id(&self) -> cpb::Identifier {
        self.network.patient(self.record)
    }

    /// Registers a document, changed; gives its entry.
    pub(super) async fn provide(
        &self,
        content: &[u8],
        change: impl FnOnce(&mut pb::Submission),
    ) -> pb::DocumentEntry {
        let document = SampleDocument {
            unique_id: format!("2.25.{}", uuid::Uuid::new_v4().as_u128()),
            content: content.to_vec(),
            ..self.document.clone()
        };
        let mut parts = self.network.provision(&document);
        let Some(pb::provide_documents_request::Part::Start(start)) = &mut parts[0].part else {
            panic!("a submission starts with its metadata");
        };
        start.idempotency_key.clear();
        let submission = start.submission.as_mut().unwrap();
        let unique = format!("2.25.{}", uuid::Uuid::new_v4().as_u128());
        submission.submission_set.as_mut().unwrap().unique_id = unique;
        change(submission);
        let institution = self.network.institution(self.record);
        let system = self.network.system(HERE, institution);
        let provided = provide(&system, parts).await.unwrap().into_inner();
        provided.result.unwrap().entries.remove(0)
    }

    pub(super) fn doctor(&self) -> Caller {
        let institution = self.network.institution(self.record);
        self.network.acting(HERE, &physician(&institution.code))
    }

    fn find(&self, filter: pb::DocumentFilter) -> pb::QueryRegistryRequest {
        asked(Query::FindDocuments(pb::FindDocumentsQuery {
            patient_id: Some(self.id()),
            filter: Some(filter),
            exclude: None,
        }))
    }
}

pub(super) fn asked(query: Query) -> pb::QueryRegistryRequest {
    pb::QueryRegistryRequest {
        query: Some(pb::StoredQuery {
            query: Some(query),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) async fn ask(
    caller: &Caller,
    request: pb::QueryRegistryRequest,
) -> Result<pb::QueryRegistryResponse, Status> {
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    let answer = client.query_registry(caller.request(request)).await?;
    Ok(answer.into_inner())
}

pub(super) fn events(network: &Network, request_id: &str) -> Vec<apb::AuditEvent> {
    let filter = Filter {
        request_id: request_id.to_owned(),
        ..Filter::default()
    };
    let audit = &network.gateway(HERE).audit;
    audit.events(&filter, usize::MAX).unwrap()
}

fn with_id<T>(caller: &Caller, id: &str, message: T) -> Request<T> {
    let mut request = caller.request(message);
    let id = id.parse().unwrap();
    request.metadata_mut().insert(REQUEST_ID, id);
    request
}

fn titled(entry: &mut pb::DocumentEntry, title: &str) {
    let text = cpb::LocalizedString {
        value: title.into(),
        ..Default::default()
    };
    entry.title = Some(cpb::InternationalString { values: vec![text] });
}

/// A doctor lists a patient's documents page by page in an order, searches their titles, counts, asks
/// for references and for everything; each answer is audited before it leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doctor_asks_the_registry() {
    let network = Setup::standalone().start().await;
    let patient = Patient::new(&network).await;
    let mut made = Vec::new();
    for (title, time) in [
        ("退院時サマリー", "2024"),
        ("紹介状", "202506"),
        ("CT 報告", "20230101"),
    ] {
        let entry = patient.provide(title.as_bytes(), |submission| {
            titled(&mut submission.entries[0], title);
            submission.entries[0].creation_time = time.into();
        });
        made.push(entry.await);
    }
    let doctor = patient.doctor();
    let mut request = patient.find(pb::DocumentFilter::default());
    request.page_size = 2;
    let first = ask(&doctor, request.clone()).await.unwrap();
    request.page_token.clone_from(&first.next_page_token);
    let second = ask(&doctor, request).await.unwrap();
    let mut ids: Vec<String> = Vec::new();
    for page in [&first, &second] {
        assert_eq!(page.counts.unwrap().entries, 3);
        let entries = &page.objects.as_ref().unwrap().entries;
        ids.extend(entries.iter().map(|entry| entry.entry_uuid.clone()));
    }
    let newest_first = [&made[1], &made[0], &made[2]].map(|entry| entry.entry_uuid.clone());
    assert_eq!(ids, newest_first);
    assert_eq!(second.next_page_token, "");

    let searched = patient.find(pb::DocumentFilter {
        text: "ｻﾏﾘｰ".into(),
        ..Default::default()
    });
    let found = ask(&doctor, searched).await.unwrap().objects.unwrap();
    assert_eq!(found.entries, [made[0].clone()]);
    let mut counted = patient.find(pb::DocumentFilter::default());
    counted.set_return_type(pb::ReturnType::Count);
    let counted = ask(&doctor, counted).await.unwrap();
    assert_eq!(counted.counts.unwrap().entries, 3);
    assert_eq!(counted.objects.unwrap(), pb::RegistryObjects::default());

    let all = asked(Query::GetAll(pb::GetAllQuery {
        patient_id: Some(patient.id()),
        ..Default::default()
    }));
    let counts = ask(&doctor, all).await.unwrap().counts.unwrap();
    assert_eq!((counts.entries, counts.submission_sets), (3, 3));
    let changed = patient.find(pb::DocumentFilter {
        changed_since_sequence: second.sequence,
        ..Default::default()
    });
    let changed = ask(&doctor, changed).await.unwrap();
    assert_eq!(changed.counts.unwrap().entries, 0);

    let mut client = DocumentServiceClient::new(doctor.channel.clone());
    let request = patient.find(pb::DocumentFilter::default());
    let request = with_id(&doctor, "listed", request);
    client.query_registry(request).await.unwrap();
    let [event] = &events(&network, "listed")[..] else {
        panic!("one event of a call")
    };
    assert_eq!(
        (event.outcome(), event.disclosed_count),
        (apb::Outcome::Success, 3)
    );
    assert!(!event.patient_tag.is_empty());
    network.stop().await;
}

/// A query that breaks a rule of the standard is refused with the standard's code.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_queries_have_the_standards_codes() {
    use tonic_types::StatusExt as _;
    let network = Setup::standalone().start().await;
    let patient = Patient::new(&network).await;
    let doctor = patient.doctor();
    let two_kinds = pb::ObjectSelector {
        entry_uuids: vec!["urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3".into()],
        unique_ids: vec!["1.2.3".into()],
        logical_ids: vec![],
    };
    let cases = [
        (
            Query::FindFolders(pb::FindFoldersQuery::default()),
            Reason::MissingParameter,
            "XDSStoredQueryMissingParam",
        ),
        (
            Query::GetDocuments(pb::GetDocumentsQuery {
                documents: Some(two_kinds),
            }),
            Reason::ParameterNumber,
            "XDSStoredQueryParamNumber",
        ),
        (
            Query::FindDocuments(pb::FindDocumentsQuery {
                patient_id: Some(patient.id()),
                filter: Some(pb::DocumentFilter {
                    creation_time: Some(pb::TimeRange {
                        from: "2024-01".into(),
                        to: String::new(),
                    }),
                    ..Default::default()
                }),
                exclude: None,
            }),
            Reason::InvalidParameter,
            "XDSRegistryError",
        ),
    ];
    for (query, reason, code) in cases {
        let status = refused(ask(&doctor, asked(query)).await, reason);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["ihe_code"], code);
    }
    network.stop().await;
}

/// What came of one document of a retrieve.
#[derive(Debug, Default)]
pub(super) struct Got {
    pub(super) bytes: Vec<u8>,
    pub(super) header: Option<pb::RetrievedHeader>,
    pub(super) trailer: Option<pb::RetrievedTrailer>,
    failure: Option<pb::RegistryError>,
}

pub(super) async fn retrieve(
    caller: &Caller,
    id: &str,
    documents: Vec<pb::DocumentRequest>,
) -> Result<Vec<Got>, Status> {
    let mut got: Vec<Got> = documents.iter().map(|_| Got::default()).collect();
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    let request = with_id(caller, id, pb::RetrieveDocumentsRequest { documents });
    let mut stream = client.retrieve_documents(request).await?.into_inner();
    let mut at = 0;
    while let Some(message) = stream.next().await {
        match message?.part.unwrap().part.unwrap() {
            Part::Header(header) => {
                at = header.request_index as usize;
                got[at].header = Some(header);
            }
            Part::Chunk(bytes) => got[at].bytes.extend_from_slice(&bytes),
            Part::Trailer(trailer) => {
                let index = trailer.request_index as usize;
                got[index].trailer = Some(trailer);
            }
            Part::Failure(failure) => {
                got[failure.request_index as usize].failure = failure.error;
            }
        }
    }
    Ok(got)
}

pub(super) fn wanted(entry: &pb::DocumentEntry, range: Option<(u64, u64)>) -> pb::DocumentRequest {
    pb::DocumentRequest {
        document: Some(renkei::documents::document_ref(entry)),
        range: range.map(|(offset, length)| pb::ByteRange { offset, length }),
    }
}

/// Bytes of a document that is several segments long and none of them alike.
fn long() -> Vec<u8> {
    (0_u32..100_000).flat_map(u32::to_be_bytes).collect()
}

/// Several documents in one call, whole or in part; one that is not there does not keep the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_and_several_documents_in_one_call() {
    let network = Setup::standalone().start().await;
    let patient = Patient::new(&network).await;
    let bytes = long();
    let big = patient.provide(&bytes, |_| ()).await;
    let small = patient.provide(b"small", |_| ()).await;
    let mut nowhere = small.clone();
    nowhere.unique_id = "2.25.1".into();
    let doctor = patient.doctor();
    let size = bytes.len() as u64;
    let ranges = [
        (0, 1),
        (65_535, 2),
        (65_536, 65_536),
        (1, 300_000),
        (size - 1, 0),
        (7, size),
    ];
    let mut documents: Vec<_> = ranges
        .iter()
        .map(|range| wanted(&big, Some(*range)))
        .collect();
    documents.extend([
        wanted(&nowhere, None),
        wanted(&small, None),
        wanted(&big, None),
    ]);
    let got = retrieve(&doctor, "several", documents).await.unwrap();
    for ((offset, length), got) in ranges.iter().zip(&got) {
        let from = usize::try_from(*offset).unwrap();
        let length = if *length == 0 { size } else { *length };
        let to = usize::try_from((offset + length).min(size)).unwrap();
        assert!(got.bytes == bytes[from..to], "{offset}+{length}");
        let (header, trailer) = (got.header.as_ref().unwrap(), got.trailer.as_ref().unwrap());
        assert_eq!(header.range.unwrap().length, (to - from) as u64);
        assert_eq!((trailer.size, trailer.hash.as_str()), (size, ""));
    }
    let [missing, small_got, whole] = &got[ranges.len()..] else {
        panic!("an answer each")
    };
    let error = missing.failure.as_ref().unwrap();
    assert_eq!(error.code, "XDSDocumentUniqueIdError");
    assert!(missing.bytes.is_empty() && missing.trailer.is_none());
    assert_eq!(small_got.bytes, b"small");
    assert!(whole.bytes == bytes);
    assert_eq!(whole.trailer.as_ref().unwrap().hash, big.hash);
    assert_eq!(events(&network, "several")[0].disclosed_count, 8);

    let behind = vec![wanted(&small, Some((5, 1)))];
    refused(
        retrieve(&doctor, "behind", behind).await,
        Reason::InvalidField,
    );
    let none = vec![wanted(&nowhere, None), wanted(&nowhere, None)];
    refused(
        retrieve(&doctor, "none", none).await,
        Reason::UnknownDocument,
    );
    network.stop().await;
}

/// A document whose octets are damaged is not served to its end: told, and audited by an event of its
/// own. The other documents of the call are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_document_is_told_and_audited() {
    let network = Setup::standalone().start().await;
    let patient = Patient::new(&network).await;
    let bytes = long();
    let damaged = patient.provide(&bytes, |_| ()).await;
    let whole = patient.provide(b"whole", |_| ()).await;
    damage_largest(&network.gateway(HERE).config.node.data_dir.join("blobs"));
    let doctor = patient.doctor();
    let documents = vec![wanted(&damaged, None), wanted(&whole, None)];
    let got = retrieve(&doctor, "damaged", documents).await.unwrap();
    let failure = got[0].failure.as_ref().unwrap();
    assert_eq!(failure.code, "XDSRepositoryError");
    assert_eq!(failure.location, damaged.unique_id);
    assert!(got[0].trailer.is_none() && got[0].bytes.len() < bytes.len());
    assert_eq!(got[1].bytes, b"whole");
    let failed: Vec<_> = events(&network, "damaged")
        .into_iter()
        .filter(|event| event.outcome() == apb::Outcome::Error)
        .collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].reason, "INTEGRITY_FAILURE");
    assert_eq!(
        failed[0].object_tags,
        std::slice::from_ref(&damaged.entry_uuid)
    );
    let alone = retrieve(&doctor, "alone", vec![wanted(&damaged, None)]).await;
    refused(alone, Reason::IntegrityFailure);
    network.stop().await;
}

/// Turns a byte in the last segment of the largest file under a folder.
fn damage_largest(folder: &std::path::Path) {
    let mut folders = vec![folder.to_path_buf()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for found in std::fs::read_dir(folder).unwrap() {
            let found = found.unwrap();
            match found.file_type().unwrap().is_dir() {
                true => folders.push(found.path()),
                false => files.push((found.metadata().unwrap().len(), found.path())),
            }
        }
    }
    let (_, largest) = files.into_iter().max().unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
}

type Watch = Streaming<pb::WatchDocumentsResponse>;

async fn watch(caller: &Caller, request: pb::WatchDocumentsRequest) -> Result<Watch, Status> {
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    let stream = client.watch_documents(caller.request(request)).await?;
    Ok(stream.into_inner())
}

/// The next event with its token; the last token seen is kept on the way.
async fn next(stream: &mut Watch, token: &mut String) -> pb::DocumentEvent {
    loop {
        let message = stream.next().await.expect("the stream goes on").unwrap();
        *token = message.resume_token;
        if let Some(event) = message.event {
            return event;
        }
    }
}

fn entry_of(event: &pb::DocumentEvent) -> &pb::DocumentEntry {
    let entries = &event.objects.as_ref().unwrap().entries;
    assert_eq!(entries.len(), 1);
    &entries[0]
}

/// A subscriber is told of each document of its patient that its filter lets through, goes on where it
/// was after the node was away, and is told of nothing the patient denies it since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_survives_restarts_and_asks_for_consent_at_delivery() {
    let mut network = Setup::standalone().start().await;
    let mut token = String::new();
    let (request, missed) = {
        let patient = Patient::new(&network).await;
        let doctor = patient.doctor();
        let request = pb::WatchDocumentsRequest {
            patient_ids: vec![patient.id()],
            filter: Some(pb::DocumentFilter {
                text: "紹介状".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut stream = watch(&doctor, request.clone()).await.unwrap();
        patient
            .provide(b"1", |s| titled(&mut s.entries[0], "CT"))
            .await;
        let told = patient.provide(b"2", |s| titled(&mut s.entries[0], "紹介状"));
        let told = told.await;
        let event = next(&mut stream, &mut token).await;
        assert_eq!(event.change(), pb::DocumentChange::Registered);
        assert_eq!(*entry_of(&event), told);
        drop(stream);
        let missed = patient.provide(b"3", |s| titled(&mut s.entries[0], "紹介状"));
        (request, missed.await)
    };
    network.stop_node(HERE).await;
    network.start_node(HERE).await;

    let patient = Patient::new(&network).await;
    let doctor = patient.doctor();
    let again = pb::WatchDocumentsRequest {
        resume_token: token.clone(),
        ..request.clone()
    };
    let mut stream = watch(&doctor, again).await.unwrap();
    let event = next(&mut stream, &mut token).await;
    assert_eq!(*entry_of(&event), missed);
    let delivered = events(&network, "");
    let delivered = delivered.iter().filter(|event| {
        event.method.ends_with("/WatchDocuments")
            && event.object_tags == [missed.entry_uuid.clone()]
    });
    assert_eq!(delivered.count(), 1, "audited before it was delivered");

    let wrong = pb::WatchDocumentsRequest {
        // Another first letter, whichever it is.
        resume_token: format!(
            "{}{}",
            if token.starts_with('A') { 'B' } else { 'A' },
            &token[1..]
        ),
        ..request.clone()
    };
    refused(watch(&doctor, wrong).await, Reason::InvalidToken);
    network.stop().await;
}

/// A subscriber is told of a removal, by reference; what its filter does not let through it is not told of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_is_told_of_removals() {
    let network = Setup::standalone().start().await;
    let patient = Patient::new(&network).await;
    let doctor = patient.doctor();
    let mut made = Vec::new();
    for mime_type in ["application/pdf", "text/plain"] {
        let change = |submission: &mut pb::Submission| {
            submission.entries[0].mime_type = mime_type.into();
        };
        made.push(patient.provide(b"%PDF- %%EOF", change).await);
    }
    let request = pb::WatchDocumentsRequest {
        patient_ids: vec![patient.id()],
        filter: Some(pb::DocumentFilter {
            mime_types: vec!["text/plain".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut stream = watch(&doctor, request).await.unwrap();
    let everything = asked(Query::GetAll(pb::GetAllQuery {
        patient_id: Some(patient.id()),
        ..Default::default()
    }));
    let all = ask(&doctor, everything).await.unwrap().objects.unwrap();
    let entries = all.entries.iter().map(|one| &one.entry_uuid);
    let sets = all.submission_sets.iter().map(|one| &one.entry_uuid);
    let associations = all.associations.iter().map(|one| &one.entry_uuid);
    let entry_uuids = entries.chain(sets).chain(associations).cloned().collect();
    let removal = pb::RemoveMetadataRequest {
        entry_uuids,
        reason: "誤登録".into(),
        idempotency_key: uuid::Uuid::new_v4().to_string(),
    };
    let system = network.system(HERE, network.institution(patient.record));
    let mut client = DocumentServiceClient::new(system.channel.clone());
    let removed = client.remove_metadata(system.request(removal)).await;
    removed.unwrap();

    let event = next(&mut stream, &mut String::new()).await;
    assert_eq!(event.change(), pb::DocumentChange::Removed);
    let told = event.objects.unwrap();
    assert!(told.entries.is_empty(), "by reference");
    let told: Vec<_> = told.object_refs.iter().map(|one| &one.entry_uuid).collect();
    assert_eq!(told, [&made[1].entry_uuid]);
    network.stop().await;
}

/// What is registered after a patient has opted out is not delivered: the next event is another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patient_who_opts_out_is_told_of_no_more() {
    let network = Setup::standalone().start().await;
    let patient = Patient::new(&network).await;
    let other = Patient::other_than(&network, &patient).await;
    let doctor = patient.doctor();
    let institution = network.institution(patient.record);
    let mut token = String::new();
    let request = pb::WatchDocumentsRequest {
        patient_ids: vec![patient.id(), other.id()],
        ..Default::default()
    };
    let mut stream = watch(&doctor, request.clone()).await.unwrap();
    let first = patient.provide(b"1", |_| ()).await;
    assert_eq!(*entry_of(&next(&mut stream, &mut token).await), first);
    let before = token.clone();
    let clerk = network.acting(HERE, &officer(&institution.code));
    opt_out(&clerk, patient.id()).await;
    patient.provide(b"2", |_| ()).await;
    let shown = other.provide(b"3", |_| ()).await;
    assert_eq!(*entry_of(&next(&mut stream, &mut token).await), shown);
    // Nor is what was registered before, when it is asked for again now.
    let again = pb::WatchDocumentsRequest {
        resume_token: before,
        ..request
    };
    let mut stream = watch(&doctor, again).await.unwrap();
    assert_eq!(*entry_of(&next(&mut stream, &mut token).await), shown);
    network.stop().await;
}

/// All that a body has left, and how it ended.
async fn rest<B>(body: B) -> (Vec<u8>, String)
where
    B: Body<Data = bytes::Bytes>,
    B::Error: std::fmt::Debug,
{
    let (mut body, mut octets, mut ended) = (std::pin::pin!(body), Vec::new(), String::new());
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        match frame.unwrap().into_data() {
            Ok(data) => octets.extend_from_slice(&data),
            Err(frame) => ended = format!("{:?}", frame.into_trailers().unwrap()),
        }
    }
    (octets, ended)
}

/// What was judged and waits for a subscriber who does not read is judged again when it leaves. Bar: Z-03.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_slow_subscriber_is_judged_again() {
    let network = Setup::standalone().start().await;
    let patient = Patient::new(&network).await;
    let institution = network.institution(patient.record);
    let method = "renkei.documents.v1.DocumentService/WatchDocuments";
    let watched = pb::WatchDocumentsRequest {
        patient_ids: vec![patient.id()],
        ..Default::default()
    };
    let peer = audit_methods::peer(&network, &format!("inst-{}", institution.code));
    let mut call = audit_methods::request(&peer, method, "slow", &watched.encode_to_vec());
    let assertion = patient.doctor().request(());
    let assertion = assertion.metadata().get(ASSERTION).unwrap();
    let headers = call.headers_mut();
    headers.insert(ASSERTION, assertion.to_str().unwrap().parse().unwrap());
    let mut services = services(network.gateway(HERE)).unwrap();
    let answer = services.call(call).await.unwrap();
    let mut body = Box::pin(answer.into_body());
    let first = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await;
    assert!(first.unwrap().unwrap().is_data(), "the place to go on from");
    // From here on nobody reads.
    let entry = patient.provide(b"1", |_| ()).await;
    eventually("the event is judged and audited", || async {
        let audited = events(&network, "slow");
        let mut audited = audited.iter();
        let told = audited.any(|event| event.object_tags == [entry.entry_uuid.clone()]);
        told.then_some(())
    })
    .await;
    let clerk = network.acting(HERE, &officer(&institution.code));
    opt_out(&clerk, patient.id()).await;
    let (octets, ended) = rest(body).await;
    let id = entry.entry_uuid.as_bytes();
    assert!(!octets.windows(id.len()).any(|window| window == id));
    // FAILED_PRECONDITION: CONCURRENT_CHANGE.
    assert!(ended.contains(r#""grpc-status": "9""#), "{ended}");
    let audited = events(&network, "slow");
    let refused = audited
        .iter()
        .filter(|event| event.outcome() == apb::Outcome::Denied);
    assert_eq!(refused.count(), 1, "{audited:#?}");
    network.stop().await;
}

/// Nobody follows everybody: without patients, a subscription is about the own institution.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_to_everybody_is_refused() {
    let network = Setup::standalone().start().await;
    let patient = Patient::new(&network).await;
    let doctor = patient.doctor();
    let own = network.institution(patient.record).code.clone();
    let all = pb::WatchDocumentsRequest::default();
    refused(watch(&doctor, all).await, Reason::NotPermitted);
    let others = pb::WatchDocumentsRequest {
        recipient_institution_ids: vec![own.clone(), "1312345678".into()],
        ..Default::default()
    };
    refused(watch(&doctor, others).await, Reason::NotPermitted);
    let meant = pb::WatchDocumentsRequest {
        recipient_institution_ids: vec![own.clone()],
        object_refs_only: true,
        ..Default::default()
    };
    let mut stream = watch(&doctor, meant).await.unwrap();
    patient.provide(b"for nobody", |_| ()).await;
    let told = patient.provide(b"for us", |submission| {
        let set = submission.submission_set.as_mut().unwrap();
        set.intended_recipients = vec![pb::IntendedRecipient {
            organization: Some(pb::MetadataOrganization {
                name: "病院".into(),
                id: own.clone(),
                ..Default::default()
            }),
            ..Default::default()
        }];
    });
    let told = told.await;
    let event = next(&mut stream, &mut String::new()).await;
    let refs = &event.objects.as_ref().unwrap().object_refs;
    assert_eq!(refs.len(), 1);
    assert_eq!(refs[0].entry_uuid, told.entry_uuid);
    let system = network.system(HERE, network.institution(patient.record));
    let own_patient = pb::WatchDocumentsRequest {
        patient_ids: vec![patient.id()],
        ..Default::default()
    };
    refused(watch(&system, own_patient).await, Reason::NotPermitted);
    network.stop().await;
}

fn letter(patient: &Patient<'_>, to: &str, entry: &pb::DocumentEntry) -> pb::SendReferralRequest {
    pb::SendReferralRequest {
        addressee: Some(cpb::InstitutionRef {
            institution_id: to.into(),
            ..Default::default()
        }),
        attention: "循環器内科".into(),
        patient_id: Some(patient.id()),
        documents: vec![renkei::documents::document_ref(entry)],
        message: "よろしくお願いします".into(),
        idempotency_key: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    }
}

async fn send(caller: &Caller, request: pb::SendReferralRequest) -> Result<pb::Referral, Status> {
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    let sent = client.send_referral(caller.request(request)).await?;
    Ok(sent.into_inner().referral.unwrap())
}

async fn list(caller: &Caller, direction: pb::ReferralDirection) -> Vec<pb::Referral> {
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    let request = pb::ListReferralsRequest {
        direction: direction.into(),
        ..Default::default()
    };
    let listed = client.list_referrals(caller.request(request)).await;
    listed.unwrap().into_inner().referrals
}

async fn recall(caller: &Caller, referral: &pb::Referral) -> Result<pb::Referral, Status> {
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    let request = pb::RecallReferralRequest {
        referral_id: referral.referral_id.clone(),
        reason: "宛先違い".into(),
        idempotency_key: uuid::Uuid::new_v4().to_string(),
    };
    let recalled = client.recall_referral(caller.request(request)).await?;
    Ok(recalled.into_inner().referral.unwrap())
}

/// A referral is seen by its addressee alone, leaves a receipt when it is fetched, and can be taken
/// back before that and not after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_referral_is_sent_fetched_and_taken_back() {
    use pb::ReferralDirection::{Received, Sent};
    let network = Setup::standalone().start().await;
    let patient = Patient::new(&network).await;
    let entry = patient.provide(b"letter", |_| ()).await;
    let second = patient.provide(b"second letter", |_| ()).await;
    let own = network.institution(patient.record).code.clone();
    let mut others = network.sample.regions[0].institutions.iter();
    let mut others = others
        .by_ref()
        .filter(|institution| institution.code != own);
    let (to, stranger) = (&others.next().unwrap().code, &others.next().unwrap().code);
    let sender = patient.doctor();
    let addressee = network.acting(HERE, &physician(to));
    let stranger = network.acting(HERE, &physician(stranger));

    let request = letter(&patient, to, &entry);
    let sent = send(&sender, request.clone()).await.unwrap();
    assert_eq!(send(&sender, request).await.unwrap(), sent, "exactly once");
    assert_eq!(sent.state(), pb::ReferralState::Delivered);
    assert_eq!(
        list(&addressee, Received).await,
        std::slice::from_ref(&sent)
    );
    assert_eq!(list(&sender, Sent).await, std::slice::from_ref(&sent));
    for direction in [Received, Sent] {
        assert!(list(&stranger, direction).await.is_empty());
    }
    refused(recall(&stranger, &sent).await, Reason::NotFound);

    let documents = vec![wanted(&entry, None)];
    retrieve(&stranger, "stranger", documents.clone())
        .await
        .unwrap();
    assert_eq!(
        list(&sender, Sent).await[0].state(),
        pb::ReferralState::Delivered
    );
    let got = retrieve(&addressee, "fetch", documents).await.unwrap();
    assert_eq!(got[0].bytes, b"letter");
    let receipt = list(&sender, Sent).await.remove(0);
    assert_eq!(receipt.state(), pb::ReferralState::Fetched);
    assert!(receipt.fetched.is_some());
    refused(recall(&sender, &sent).await, Reason::WrongState);

    let other = send(&sender, letter(&patient, to, &second)).await.unwrap();
    assert_eq!(
        recall(&sender, &other).await.unwrap().state(),
        pb::ReferralState::Recalled
    );
    assert_eq!(list(&addressee, Received).await.len(), 1);
    assert_eq!(
        list(&sender, Sent).await[0].state(),
        pb::ReferralState::Recalled
    );
    refused(recall(&sender, &other).await, Reason::WrongState);
    // What was taken back is not read either, until it is sent again.
    let documents = vec![wanted(&second, None)];
    let got = retrieve(&addressee, "taken back", documents.clone()).await;
    refused::<()>(got.map(|_| ()), Reason::UnknownDocument);
    send(&sender, letter(&patient, to, &second)).await.unwrap();
    let got = retrieve(&addressee, "sent again", documents).await;
    assert_eq!(got.unwrap()[0].bytes, b"second letter");

    let nobody = letter(&patient, "1399999999", &entry);
    refused(send(&sender, nobody).await, Reason::UnknownRecipient);
    let mut nothing = letter(&patient, to, &entry);
    nothing.documents[0].document_unique_id = "2.25.1".into();
    refused(send(&sender, nothing).await, Reason::UnknownDocument);
    let mut past = letter(&patient, to, &entry);
    past.expires = Some(prost_types::Timestamp {
        seconds: 1,
        nanos: 0,
    });
    refused(send(&sender, past).await, Reason::InvalidField);
    network.stop().await;
}

async fn finds(caller: &Caller, patient: &Patient<'_>) -> bool {
    let request = patient.find(pb::DocumentFilter::default());
    let answer = ask(caller, request).await.unwrap();
    let objects = answer.objects.unwrap_or_default();
    !objects.entries.is_empty()
}

/// A document sent to its addressee only is found and read by no other institution, and by the addressee
/// while the referral is in force (INV-3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_for_its_addressee_only_is_nobody_elses() {
    let network = Setup::standalone().start().await;
    let patient = Patient::new(&network).await;
    let entry = patient.provide(b"letter", |_| ()).await;
    let own = network.institution(patient.record).code.clone();
    let others = network.sample.regions[0].institutions.iter();
    let others: Vec<_> = others.filter(|other| other.code != own).take(2).collect();
    let sender = patient.doctor();
    let to = &others[0].code;
    let addressee = network.acting(HERE, &physician(to));
    let stranger = network.acting(HERE, &physician(&others[1].code));
    let documents = vec![wanted(&entry, None)];
    assert!(finds(&stranger, &patient).await, "an ordinary document");

    let mut request = letter(&patient, to, &entry);
    request.only_addressee = true;
    let sent = send(&sender, request.clone()).await.unwrap();
    for reader in [&sender, &addressee] {
        assert!(finds(reader, &patient).await);
    }
    assert!(!finds(&stranger, &patient).await);
    let read = retrieve(&stranger, "stranger", documents.clone()).await;
    refused(read, Reason::UnknownDocument);

    recall(&sender, &sent).await.unwrap();
    assert!(finds(&sender, &patient).await);
    assert!(!finds(&addressee, &patient).await);
    let read = retrieve(&addressee, "taken back", documents.clone()).await;
    refused(read, Reason::UnknownDocument);

    request.idempotency_key = uuid::Uuid::new_v4().to_string();
    send(&sender, request).await.unwrap();
    let got = retrieve(&addressee, "sent again", documents).await.unwrap();
    assert_eq!(got[0].bytes, b"letter");
    // Only who submitted it keeps others away from it.
    let mut foreign = letter(&patient, &own, &entry);
    foreign.only_addressee = true;
    refused(send(&addressee, foreign).await, Reason::NotPermitted);
    network.stop().await;
}
