//! Calls that many tests make.

use renkei::demo::actor::Caller;
use renkei::demo::messages;
use renkei::demo::sample::{SampleDocument, SampleRecord};
use renkei::documents::document_ref;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::consent as npb;
use renkei::wire::pb::consent::consent_service_client::ConsentServiceClient;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use renkei::wire::pb::federation as fpb;
use renkei::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use renkei::wire::pb::identity as ipb;
use renkei::wire::pb::identity::identity_service_client::IdentityServiceClient;
use tokio_stream::StreamExt as _;
use tonic::Status;

use super::{At, Network};

/// What a merged query said.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) entries: Vec<dpb::DocumentEntry>,
    pub(crate) completeness: cpb::Completeness,
}

impl Merged {
    /// The state of a community, if it was asked.
    pub(crate) fn state(&self, home: &str) -> Option<cpb::RegionState> {
        let regions = &self.completeness.regions;
        let region = regions
            .iter()
            .find(|region| region.home_community_id == home);
        region.map(cpb::RegionStatus::state)
    }

    /// How many entries are a community's.
    pub(crate) fn of(&self, home: &str) -> usize {
        let entries = self.entries.iter();
        entries
            .filter(|entry| entry.home_community_id == home)
            .count()
    }
}

impl Network {
    /// A record's patient identifier.
    pub(crate) fn patient(&self, record: &SampleRecord) -> cpb::Identifier {
        messages::patient_id(self.institution(record), &record.local_id)
    }

    /// Feeds a record at its own gateway.
    pub(crate) async fn feed(&self, record: &SampleRecord) -> ipb::FeedPatientResponse {
        let institution = self.institution(record);
        let system = self.system(At::Region(record.region), institution);
        let fed = feed(&system, messages::feed(institution, record)).await;
        fed.unwrap().into_inner()
    }

    /// Feeds every record of a person and waits until the hub knows them.
    pub(crate) async fn feed_person(&self, truth: usize) {
        let person = self.sample.person(truth).unwrap();
        for record in &person.records {
            self.feed(record).await;
        }
        self.settled().await;
    }

    /// Provides a document at its own gateway.
    pub(crate) async fn provide(&self, document: &SampleDocument) {
        let parts = self.provision(document);
        let institution = &self.sample.regions[document.region].institutions[document.institution];
        let system = self.system(At::Region(document.region), institution);
        provide(&system, parts).await.unwrap();
    }

    /// The messages that provide a document.
    pub(crate) fn provision(&self, document: &SampleDocument) -> Vec<dpb::ProvideDocumentsRequest> {
        let institution = &self.sample.regions[document.region].institutions[document.institution];
        let repository = &self.world.regions[document.region].repository;
        messages::provide(institution, repository, document)
    }

    /// Feeds a person and provides their documents; how many.
    pub(crate) async fn load_person(&self, truth: usize) -> usize {
        self.feed_person(truth).await;
        let mut count = 0;
        for document in self.sample.documents_of(truth) {
            self.provide(document).await;
            count += 1;
        }
        self.settled().await;
        count
    }
}

/// Feeds a patient.
pub(crate) async fn feed(
    caller: &Caller,
    request: ipb::FeedPatientRequest,
) -> Result<tonic::Response<ipb::FeedPatientResponse>, Status> {
    let mut client = IdentityServiceClient::new(caller.channel.clone());
    client.feed_patient(caller.request(request)).await
}

/// PIX query.
pub(crate) async fn identifiers(
    caller: &Caller,
    patient: cpb::Identifier,
) -> Result<tonic::Response<ipb::QueryIdentifiersResponse>, Status> {
    let mut client = IdentityServiceClient::new(caller.channel.clone());
    let request = ipb::QueryIdentifiersRequest {
        subject: Some(ipb::query_identifiers_request::Subject::Identifier(patient)),
        ..Default::default()
    };
    client.query_identifiers(caller.request(request)).await
}

/// Provides documents.
pub(crate) async fn provide(
    caller: &Caller,
    parts: Vec<dpb::ProvideDocumentsRequest>,
) -> Result<tonic::Response<dpb::ProvideDocumentsResponse>, Status> {
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    client
        .provide_documents(caller.request(tokio_stream::iter(parts)))
        .await
}

/// The `FindDocuments` stored query of a patient.
pub(crate) fn find_query(patient: cpb::Identifier) -> dpb::StoredQuery {
    let find = dpb::FindDocumentsQuery {
        patient_id: Some(patient),
        ..Default::default()
    };
    dpb::StoredQuery {
        query: Some(dpb::stored_query::Query::FindDocuments(find)),
        ..Default::default()
    }
}

/// Finds documents at the node called only.
pub(crate) async fn find_here(
    caller: &Caller,
    patient: cpb::Identifier,
) -> Result<tonic::Response<dpb::QueryRegistryResponse>, Status> {
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    let request = dpb::QueryRegistryRequest {
        query: Some(find_query(patient)),
        ..Default::default()
    };
    client.query_registry(caller.request(request)).await
}

/// Finds documents across regions.
pub(crate) async fn find(caller: &Caller, patient: cpb::Identifier) -> Result<Merged, Status> {
    use fpb::initiating_gateway_service_find_documents_response::Part;
    let request = fpb::InitiatingGatewayServiceFindDocumentsRequest {
        query: Some(find_query(patient)),
        ..Default::default()
    };
    let mut client = InitiatingGatewayServiceClient::new(caller.channel.clone());
    let response = client.find_documents(caller.request(request)).await?;
    let mut stream = response.into_inner();
    let mut merged = Merged::default();
    let mut ended = false;
    while let Some(message) = stream.next().await {
        match message?.part {
            Some(Part::Objects(objects)) => merged.entries.extend(objects.entries),
            Some(Part::Completeness(completeness)) => {
                merged.completeness = completeness;
                ended = true;
            }
            _ => {}
        }
    }
    assert!(ended, "an answer without completeness");
    Ok(merged)
}

/// Reads a document of a patient across regions.
pub(crate) async fn retrieve(
    caller: &Caller,
    patient: cpb::Identifier,
    document: cpb::DocumentRef,
) -> Result<(Vec<u8>, dpb::RetrievedTrailer), Status> {
    use dpb::retrieved_part::Part;
    use fpb::initiating_gateway_service_retrieve_documents_response::Part as Outer;
    let request = fpb::InitiatingGatewayServiceRetrieveDocumentsRequest {
        documents: vec![dpb::DocumentRequest {
            document: Some(document),
            range: None,
        }],
        patient_id: Some(patient),
    };
    let mut client = InitiatingGatewayServiceClient::new(caller.channel.clone());
    let response = client.retrieve_documents(caller.request(request)).await?;
    let mut stream = response.into_inner();
    let (mut bytes, mut trailer) = (Vec::new(), None);
    while let Some(message) = stream.next().await {
        let Some(Outer::Document(part)) = message?.part else {
            continue;
        };
        match part.part {
            Some(Part::Chunk(chunk)) => bytes.extend_from_slice(&chunk),
            Some(Part::Trailer(end)) => trailer = Some(end),
            _ => {}
        }
    }
    Ok((bytes, trailer.expect("a document ends with a trailer")))
}

/// Reads the document of an entry across regions; the patient by the caller's own identifier.
pub(crate) async fn retrieve_entry(
    caller: &Caller,
    patient: &cpb::Identifier,
    entry: &dpb::DocumentEntry,
) -> Result<(Vec<u8>, dpb::RetrievedTrailer), Status> {
    retrieve(caller, patient.clone(), document_ref(entry)).await
}

/// Records that a patient does not want to be seen by other communities.
pub(crate) async fn opt_out(caller: &Caller, patient: cpb::Identifier) -> npb::Consent {
    let request = npb::RecordConsentRequest {
        consent: Some(npb::Consent {
            patient_id: Some(patient),
            model: npb::ConsentModel::Community.into(),
            effect: npb::ConsentEffect::Deny.into(),
            ..Default::default()
        }),
        idempotency_key: uuid::Uuid::new_v4().to_string(),
    };
    let mut client = ConsentServiceClient::new(caller.channel.clone());
    let recorded = client.record_consent(caller.request(request)).await;
    recorded.unwrap().into_inner().consent.unwrap()
}

/// Records that a patient permits what is up to this level.
pub(crate) async fn permit(
    caller: &Caller,
    patient: cpb::Identifier,
    ceiling: cpb::Confidentiality,
) -> npb::Consent {
    let consent = npb::Consent {
        patient_id: Some(patient),
        model: npb::ConsentModel::Community.into(),
        effect: npb::ConsentEffect::Permit.into(),
        confidentiality_ceiling: ceiling.into(),
        ..Default::default()
    };
    record_consent(caller, consent).await.unwrap()
}

/// Records a consent.
pub(crate) async fn record_consent(
    caller: &Caller,
    consent: npb::Consent,
) -> Result<npb::Consent, Status> {
    let request = npb::RecordConsentRequest {
        consent: Some(consent),
        idempotency_key: uuid::Uuid::new_v4().to_string(),
    };
    let mut client = ConsentServiceClient::new(caller.channel.clone());
    let recorded = client.record_consent(caller.request(request)).await?;
    Ok(recorded.into_inner().consent.unwrap())
}

/// Withdraws a consent.
pub(crate) async fn withdraw(caller: &Caller, consent_id: &str) -> Result<npb::Consent, Status> {
    let request = npb::WithdrawConsentRequest {
        consent_id: consent_id.to_owned(),
        idempotency_key: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let mut client = ConsentServiceClient::new(caller.channel.clone());
    let withdrawn = client.withdraw_consent(caller.request(request)).await?;
    Ok(withdrawn.into_inner().consent.unwrap())
}
