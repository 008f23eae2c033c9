//! Bad input and refused callers: each gets the documented gRPC code, reason and field.

use jiff::SignedDuration;
use renkei::demo::actor::Caller;
use renkei::demo::messages;
use renkei::demo::sample::{SampleDocument, SampleInstitution, SampleRecord};
use renkei::error::Reason;
use renkei::pki::Profiles;
use renkei::pki::assertion::{AssertionSigner, Claims};
use renkei::types::{PersonRole, PurposeOfUse, Relation};
use renkei::wire::ASSERTION;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use renkei::wire::pb::identity as ipb;
use renkei::wire::pb::identity::identity_service_client::IdentityServiceClient;
use tonic::{Response, Status};

use crate::support::calls::{feed, find_here, find_query, identifiers, provide, retrieve};
use crate::support::expect::{documented, said};
use crate::support::{At, Network, Setup, person, physician};

const HERE: At = At::Region(0);
/// An OID that is nobody's.
const NOBODY: &str = "2.999.77";
const AUTHORITY: &str = "patient.identifier.assigning_authority";

/// Cases and what came of them; complains of all at once.
#[derive(Default)]
struct Table {
    cases: usize,
    wrong: Vec<String>,
}

impl Table {
    #[expect(clippy::needless_pass_by_value, reason = "cases are handed over")]
    fn case<T>(&mut self, name: &str, reason: Reason, field: &str, got: Result<T, Status>) {
        self.cases += 1;
        let expected = documented(reason, field);
        let got = match &got {
            Ok(_) => "served".to_owned(),
            Err(status) => said(status),
        };
        if got != expected {
            self.wrong
                .push(format!("{name}: expected {expected}, got {got}"));
        }
        let row = format!("| `{}` |", reason.name());
        if !documentation().contains(&row) {
            let missing = format!("{name}: {} is not documented", reason.name());
            self.wrong.push(missing);
        }
    }

    #[track_caller]
    fn check(self) {
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
        println!("{} cases", self.cases);
    }
}

fn documentation() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
    std::fs::read_to_string(path).unwrap()
}

/// A patient who is known, with a document that is registered.
struct Known<'a> {
    network: &'a Network,
    record: &'a SampleRecord,
    institution: &'a SampleInstitution,
    document: &'a SampleDocument,
    system: Caller,
}

impl<'a> Known<'a> {
    async fn new(network: &'a Network) -> Self {
        let truth = network.sample.scenario.cross_region;
        let document = document_of(network, truth);
        let person = network.sample.person(truth).unwrap();
        let records = &mut person.records.iter();
        let record = records
            .find(|record| record.region == 0 && record.local_id == document.local_id)
            .unwrap();
        let institution = network.institution(record);
        network.feed(record).await;
        network.provide(document).await;
        Self {
            network,
            record,
            institution,
            document,
            system: network.system(HERE, institution),
        }
    }

    async fn feed(
        &self,
        change: impl FnOnce(&mut ipb::FeedPatientRequest),
    ) -> Result<Response<ipb::FeedPatientResponse>, Status> {
        let mut request = messages::feed(self.institution, self.record);
        request.idempotency_key.clear();
        change(&mut request);
        feed(&self.system, request).await
    }

    async fn feed_as(
        &self,
        change: impl FnOnce(&mut cpb::Identifier),
    ) -> Result<Response<ipb::FeedPatientResponse>, Status> {
        let identifier = |request: &mut ipb::FeedPatientRequest| {
            let patient = request.patient.as_mut().unwrap();
            change(patient.identifier.as_mut().unwrap());
        };
        self.feed(identifier).await
    }

    /// Provides a new document, changed.
    async fn provide(
        &self,
        change: impl FnOnce(&mut dpb::Submission),
    ) -> Result<Response<dpb::ProvideDocumentsResponse>, Status> {
        provide(&self.system, self.parts(change)).await
    }

    fn parts(
        &self,
        change: impl FnOnce(&mut dpb::Submission),
    ) -> Vec<dpb::ProvideDocumentsRequest> {
        let unique_id = format!("2.25.{}", uuid::Uuid::new_v4().as_u128());
        let document = SampleDocument {
            unique_id,
            ..self.document.clone()
        };
        let mut parts = self.network.provision(&document);
        let start = start(&mut parts);
        start.idempotency_key.clear();
        change(start.submission.as_mut().unwrap());
        parts
    }

    fn reference(&self) -> cpb::DocumentRef {
        let node = self.network.node(HERE);
        cpb::DocumentRef {
            home_community_id: node.home.clone(),
            repository_unique_id: node.repository.clone(),
            document_unique_id: self.document.unique_id.clone(),
        }
    }

    fn physician(&self) -> Caller {
        self.network
            .acting(HERE, &physician(&self.institution.code))
    }
}

/// A document of a person in region 0.
fn document_of(network: &Network, truth: usize) -> &SampleDocument {
    let mut documents = network.sample.documents_of(truth);
    documents.find(|document| document.region == 0).unwrap()
}

fn start(parts: &mut [dpb::ProvideDocumentsRequest]) -> &mut dpb::ProvideStart {
    match &mut parts[0].part {
        Some(dpb::provide_documents_request::Part::Start(start)) => start,
        _ => panic!("a submission begins with its metadata"),
    }
}

fn entry(submission: &mut dpb::Submission) -> &mut dpb::DocumentEntry {
    &mut submission.entries[0]
}

async fn query(
    caller: &Caller,
    request: dpb::QueryRegistryRequest,
) -> Result<Response<dpb::QueryRegistryResponse>, Status> {
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    client.query_registry(caller.request(request)).await
}

async fn retrieve_here(
    caller: &Caller,
    document: cpb::DocumentRef,
) -> Result<Response<tonic::Streaming<dpb::RetrieveDocumentsResponse>>, Status> {
    let request = dpb::RetrieveDocumentsRequest {
        documents: vec![dpb::DocumentRequest {
            document: Some(document),
            range: None,
        }],
    };
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    client.retrieve_documents(caller.request(request)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities() {
    let network = Setup::standalone().start().await;
    let known = Known::new(&network).await;
    let mut table = Table::default();
    let got = known.feed_as(|id| id.assigning_authority = "2.999.077".into());
    table.case("malformed OID", Reason::InvalidOid, AUTHORITY, got.await);
    let got = known.feed(|request| request.patient = None).await;
    table.case("no patient", Reason::MissingField, "patient", got);
    let got = known.feed(|request| request.patient.as_mut().unwrap().demographics = None);
    let field = "patient.demographics";
    table.case("no demographics", Reason::MissingField, field, got.await);
    let got = known.feed_as(|id| id.value.clear()).await;
    let field = "patient.identifier.value";
    table.case("no identifier", Reason::MissingField, field, got);
    let got = known.feed_as(|id| id.value = "a^b".into()).await;
    table.case("malformed identifier", Reason::InvalidField, field, got);
    let got = known.feed_as(|id| id.assigning_authority = NOBODY.into());
    let name = "unknown authority";
    table.case(name, Reason::UnknownAuthority, AUTHORITY, got.await);
    let other = network.world.regions[1].authorities[0].clone();
    let got = known.feed_as(|id| id.assigning_authority = other).await;
    table.case("foreign domain", Reason::ForeignDomain, AUTHORITY, got);
    let got = known.feed_as(|id| id.type_code = "MyNumber".into()).await;
    let field = "patient.identifier";
    table.case("My Number", Reason::MyNumberRefused, field, got);

    let mut unknown = network.patient(known.record);
    unknown.value = "00000000".into();
    let got = identifiers(&known.system, unknown.clone()).await;
    table.case("unknown patient", Reason::UnknownPatient, "identifier", got);
    unknown.assigning_authority = NOBODY.into();
    let got = identifiers(&known.system, unknown).await;
    let field = "identifier.assigning_authority";
    table.case("query unknown", Reason::UnknownAuthority, field, got);

    let key = |request: &mut ipb::FeedPatientRequest| request.idempotency_key = "key".into();
    known.feed(key).await.unwrap();
    let got = known.feed(|request| {
        key(request);
        let patient = request.patient.as_mut().unwrap();
        patient.demographics.as_mut().unwrap().birth_date = "1900-01-01".into();
    });
    table.case("key reused", Reason::IdempotencyMismatch, "-", got.await);
    let got = known.feed(|request| request.idempotency_key = "k".repeat(201));
    let field = "idempotency_key";
    table.case("key too long", Reason::InvalidField, field, got.await);

    let doctor = known.physician();
    let mut client = IdentityServiceClient::new(doctor.channel.clone());
    let criteria = ipb::PatientCriteria {
        birth_date: "1951-03-09".into(),
        ..Default::default()
    };
    let request = doctor.request(ipb::SearchPatientsRequest {
        criteria: Some(criteria),
        ..Default::default()
    });
    let got = client.search_patients(request).await;
    table.case("one item", Reason::MissingField, "criteria", got);
    let mut client = IdentityServiceClient::new(known.system.channel.clone());
    let request = known.system.request(ipb::MergePatientsRequest::default());
    let got = client.merge_patients(request).await;
    table.case("merge", Reason::MissingField, "survivor", got);
    table.check();
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "a table reads best whole")]
async fn submissions() {
    let network = Setup::standalone().start().await;
    let known = Known::new(&network).await;
    let mut table = Table::default();
    let got = known.provide(|set| entry(set).hash.clear()).await;
    table.case("no hash", Reason::MissingHash, "entries[0].hash", got);
    let got = known.provide(|set| entry(set).size = None).await;
    table.case("no size", Reason::MissingHash, "entries[0].size", got);
    let got = known.provide(|set| entry(set).hash = "x".into()).await;
    table.case(
        "malformed hash",
        Reason::InvalidField,
        "entries[0].hash",
        got,
    );
    let got = known.provide(|set| entry(set).hash = "0".repeat(40)).await;
    table.case("wrong hash", Reason::HashMismatch, "entries[0].hash", got);
    for (name, change) in [("too small", -1), ("too large", 1)] {
        let got = known.provide(|set| {
            let size = &mut entry(set).size;
            *size = size.and_then(|size| size.checked_add_signed(change));
        });
        table.case(name, Reason::SizeMismatch, "entries[0].size", got.await);
    }
    let mut parts = known.parts(|_| {});
    parts.truncate(1);
    let got = provide(&known.system, parts).await;
    table.case("no document", Reason::MissingDocument, "entries[0]", got);
    let mut parts = known.parts(|_| {});
    parts.remove(1);
    let got = provide(&known.system, parts).await;
    table.case("no header", Reason::MissingDocument, "chunk", got);
    let got = known.provide(|set| entry(set).patient_id.as_mut().unwrap().value = "9".into());
    let field = "entries[0].patient_id";
    table.case("other patient", Reason::PatientMismatch, field, got.await);
    let got = known.provide(|set| {
        let of_set = set.submission_set.as_mut().unwrap().patient_id.as_mut();
        of_set.unwrap().value = "9".into();
        entry(set).patient_id.as_mut().unwrap().value = "9".into();
    });
    let field = "submission_set.patient_id";
    table.case("unknown patient", Reason::UnknownPatient, field, got.await);
    let other = network.world.regions[1].home.clone();
    let got = known
        .provide(|set| entry(set).home_community_id = other)
        .await;
    let field = "entries[0].home_community_id";
    table.case("foreign community", Reason::ForeignDomain, field, got);
    let got = known.provide(|set| entry(set).repository_unique_id = NOBODY.into());
    let field = "entries[0].repository_unique_id";
    table.case("repository", Reason::UnknownRepository, field, got.await);
    let got = known.provide(|set| entry(set).class_code = None).await;
    table.case(
        "no class",
        Reason::MissingField,
        "entries[0].class_code",
        got,
    );
    let got = known.provide(|set| set.submission_set = None).await;
    table.case("no set", Reason::MissingField, "submission_set", got);
    let got = known.provide(|set| {
        set.submission_set.as_mut().unwrap().source_id = "1.02".into();
    });
    let field = "submission_set.source_id";
    table.case("source OID", Reason::InvalidOid, field, got.await);
    let got = known.provide(|set| entry(set).size = Some(u64::MAX)).await;
    table.case("huge", Reason::MessageTooLarge, "entries[0].size", got);

    let other = SampleDocument {
        content: b"other bytes".to_vec(),
        ..known.document.clone()
    };
    let mut parts = network.provision(&other);
    let again = start(&mut parts);
    again.idempotency_key.clear();
    let set = again.submission.as_mut().unwrap().submission_set.as_mut();
    set.unwrap().unique_id = "2.25.77".into();
    let got = provide(&known.system, parts).await;
    let field = "entries[0].unique_id";
    table.case("other bytes", Reason::NonIdenticalHash, field, got);
    table.check();
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_and_retrieves() {
    let network = Setup::standalone().start().await;
    let known = Known::new(&network).await;
    let doctor = known.physician();
    let patient = network.patient(known.record);
    let mut table = Table::default();
    let request = |query: dpb::StoredQuery, page_token: &str| dpb::QueryRegistryRequest {
        query: Some(query),
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let got = query(&doctor, request(find_query(patient.clone()), "AAAA")).await;
    table.case("page token", Reason::InvalidToken, "page_token", got);
    let all = dpb::stored_query::Query::GetAll(dpb::GetAllQuery::default());
    let all = dpb::StoredQuery {
        query: Some(all),
        ..Default::default()
    };
    let got = query(&doctor, request(all, "")).await;
    let field = "query.get_all.patient_id";
    table.case("parameter", Reason::MissingParameter, field, got);
    let got = query(&doctor, request(dpb::StoredQuery::default(), "")).await;
    table.case("no query", Reason::UnknownQuery, "query", got);

    let mut wanted = known.reference();
    wanted.home_community_id = "urn:oid:2.999.1.99".into();
    let got = retrieve(&doctor, patient.clone(), wanted).await;
    let field = "home_community_id";
    table.case("unknown community", Reason::UnknownCommunity, field, got);
    let mut wanted = known.reference();
    wanted.home_community_id = "2.999.1.1".into();
    let got = retrieve(&doctor, patient.clone(), wanted).await;
    let field = "documents[0].document.home_community_id";
    table.case("malformed community", Reason::InvalidField, field, got);
    let mut wanted = known.reference();
    wanted.repository_unique_id = NOBODY.into();
    let got = retrieve_here(&doctor, wanted).await;
    let field = "documents[0].document.repository_unique_id";
    table.case("repository", Reason::UnknownRepository, field, got);
    let mut wanted = known.reference();
    wanted.document_unique_id = "2.25.1".into();
    let got = retrieve_here(&doctor, wanted).await;
    let field = "documents[0].document.document_unique_id";
    table.case("unknown document", Reason::UnknownDocument, field, got);

    let got = find_here(&known.system, patient).await;
    table.case("no assertion", Reason::NotPermitted, "-", got);
    let got = retrieve_here(&known.system, known.reference()).await;
    let name = "no assertion is as no document";
    table.case(name, Reason::UnknownDocument, field, got);
    table.check();
    network.stop().await;
}

/// Claims of a physician as of now; and a request that carries what was signed.
struct Signing<'a> {
    known: &'a Known<'a>,
    signer: AssertionSigner,
}

impl Signing<'_> {
    fn claims(&self) -> Claims {
        let now = self.known.network.clock.now();
        Claims {
            issuer: self.signer.issuer().to_owned(),
            subject: "D-1001".to_owned(),
            role: PersonRole::Physician.code().to_owned(),
            purpose: PurposeOfUse::Treatment,
            relation: Relation::Treating,
            institution: self.known.institution.code.parse().unwrap(),
            audience: vec![self.known.network.node(HERE).home.parse().unwrap()],
            issued_at: now,
            expires_at: now + SignedDuration::from_mins(5),
            nonce: uuid::Uuid::new_v4().to_string(),
            presenter: self.signer.thumbprint(),
            one_time: false,
        }
    }

    async fn find(&self, token: &str) -> Result<Response<dpb::QueryRegistryResponse>, Status> {
        let patient = self.known.network.patient(self.known.record);
        let mut request = self.known.system.request(dpb::QueryRegistryRequest {
            query: Some(find_query(patient)),
            ..Default::default()
        });
        let value = token.parse().unwrap();
        request.metadata_mut().insert(ASSERTION, value);
        let mut client = DocumentServiceClient::new(self.known.system.channel.clone());
        client.query_registry(request).await
    }

    async fn with(
        &self,
        change: impl FnOnce(&mut Claims),
    ) -> Result<Response<dpb::QueryRegistryResponse>, Status> {
        let mut claims = self.claims();
        change(&mut claims);
        self.find(&self.signer.sign(&claims).unwrap()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assertions_and_roles() {
    let network = Setup::standalone().start().await;
    let known = Known::new(&network).await;
    let name = format!("inst-{}", known.institution.code);
    let identity = network.world.identity(&name).unwrap();
    let profiles = Profiles::test().unwrap();
    let signing = Signing {
        known: &known,
        signer: AssertionSigner::from_identity(&identity, &profiles).unwrap(),
    };
    signing.with(|_| {}).await.expect("a good assertion");
    let mut table = Table::default();
    let mut refused = |name: &str, got| {
        table.case(name, Reason::InvalidAssertion, ASSERTION, got);
    };
    refused("no token", signing.find("nonsense").await);
    let hour = SignedDuration::from_hours(1);
    let got = signing.with(|claims| {
        claims.issued_at -= hour;
        claims.expires_at -= hour;
    });
    refused("expired", got.await);
    let got = signing.with(|claims| {
        claims.issued_at += hour;
        claims.expires_at += hour;
    });
    refused("not yet", got.await);
    let foreign = "urn:oid:2.999.1.99".parse().unwrap();
    let got = signing.with(|claims| claims.audience = vec![foreign]).await;
    refused("foreign audience", got);
    let others = &network.sample.regions[0].institutions;
    let other = others.iter().find(|one| one.code != known.institution.code);
    let other = other.unwrap();
    let got = signing.with(|claims| claims.institution = other.code.parse().unwrap());
    refused("another institution", got.await);
    let stolen = network
        .world
        .identity(&format!("inst-{}", other.code))
        .unwrap();
    let thief = Signing {
        known: &known,
        signer: AssertionSigner::from_identity(&stolen, &profiles).unwrap(),
    };
    refused("signed by another", thief.with(|_| {}).await);
    let good = signing.signer.sign(&signing.claims()).unwrap();
    let mut forged = good.clone().into_bytes();
    let middle = good.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    refused(
        "forged",
        signing.find(&String::from_utf8(forged).unwrap()).await,
    );

    for (name, change) in roles() {
        let got = signing.with(change).await;
        table.case(name, Reason::NotPermitted, "-", got);
    }
    let clerk = person("C-1", PersonRole::Clerk, &known.institution.code);
    let clerk = network.acting(HERE, &clerk);
    let got = feed(&clerk, messages::feed(known.institution, known.record)).await;
    got.expect("a clerk feeds patients");
    table.check();
    network.stop().await;
}

type Change = fn(&mut Claims);

/// Who may not list documents.
fn roles() -> [(&'static str, Change); 4] {
    [
        ("a clerk", |claims| {
            claims.role = PersonRole::Clerk.code().into();
        }),
        ("a steward", |claims| {
            claims.role = PersonRole::DataSteward.code().into();
            claims.purpose = PurposeOfUse::Operations;
        }),
        ("for research", |claims| {
            claims.purpose = PurposeOfUse::Research;
        }),
        ("without relation", |claims| {
            claims.relation = Relation::None;
        }),
    ]
}

/// A message over the limit, unary and inside a stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversize_messages() {
    let network = Setup::standalone().start().await;
    let known = Known::new(&network).await;
    let mut table = Table::default();
    let got = known.feed(|request| {
        let patient = request.patient.as_mut().unwrap();
        let demographics = patient.demographics.as_mut().unwrap();
        demographics.birth_date_text = "あ".repeat(2 * 1024 * 1024);
    });
    table.case("unary", Reason::MessageTooLarge, "-", got.await);
    let mut parts = known.parts(|_| {});
    let large = vec![0; 5 * 1024 * 1024];
    let chunk = dpb::provide_documents_request::Part::Chunk(large.into());
    parts[2].part = Some(chunk);
    let got = provide(&known.system, parts).await;
    table.case("in a stream", Reason::MessageTooLarge, "-", got);
    table.check();
    network.stop().await;
}

/// What a node's configuration does not switch on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_not_served() {
    let capabilities = r#"["registry", "directory"]"#;
    let network = Setup::standalone().set("node.capabilities", capabilities);
    let network = network.start().await;
    let truth = network.sample.scenario.cross_region;
    let record = network.record(truth, 0);
    let institution = network.institution(record);
    let system = network.system(HERE, institution);
    let mut table = Table::default();
    let not_served = Reason::RoleNotServed;
    let got = feed(&system, messages::feed(institution, record)).await;
    table.case("identity", not_served, "-", got);
    let document = document_of(&network, truth);
    let got = provide(&system, network.provision(document)).await;
    table.case("repository", not_served, "-", got);
    let doctor = network.acting(HERE, &physician(&institution.code));
    let wanted = cpb::DocumentRef::default();
    let got = retrieve(&doctor, network.patient(record), wanted).await;
    table.case("federation", not_served, "-", got);
    table.check();
    network.stop().await;
}
