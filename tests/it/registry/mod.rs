//! The registry's write side from outside, over mutual TLS.

mod changes;
mod corpus;
mod corpus_index;

use renkei::demo::actor::Caller;
use renkei::wire::pb::documents as pb;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use tonic::Status;

/// A client of the documents of a node.
pub(super) fn client(caller: &Caller) -> DocumentServiceClient<tonic::transport::Channel> {
    DocumentServiceClient::new(caller.channel.clone())
}

/// Registers metadata (ITI-42).
pub(super) async fn register(
    caller: &Caller,
    submission: pb::Submission,
) -> Result<pb::RegistrationResult, Status> {
    let request = pb::RegisterDocumentsRequest {
        submission: Some(submission),
        idempotency_key: uuid::Uuid::new_v4().to_string(),
        validate_only: false,
    };
    let answer = client(caller)
        .register_documents(caller.request(request))
        .await;
    answer.map(|answer| answer.into_inner().result.unwrap())
}

/// Updates metadata (ITI-57, ITI-92).
pub(super) async fn update(
    caller: &Caller,
    submission: pb::Submission,
    restricted: bool,
) -> Result<pb::RegistrationResult, Status> {
    let request = pb::UpdateMetadataRequest {
        submission: Some(submission),
        restricted,
        idempotency_key: uuid::Uuid::new_v4().to_string(),
    };
    let answer = client(caller)
        .update_metadata(caller.request(request))
        .await;
    answer.map(|answer| answer.into_inner().result.unwrap())
}

/// Removes metadata (ITI-62).
pub(super) async fn remove(caller: &Caller, ids: Vec<String>) -> Result<(), Status> {
    let request = pb::RemoveMetadataRequest {
        entry_uuids: ids,
        reason: "誤登録".to_owned(),
        idempotency_key: uuid::Uuid::new_v4().to_string(),
    };
    let answer = client(caller)
        .remove_metadata(caller.request(request))
        .await;
    answer.map(|_| ())
}

/// The IHE codes of a refusal, the first first, with their places.
pub(super) fn codes(status: &Status) -> Vec<(String, String)> {
    let errors = errors(status).into_iter();
    errors.map(|error| (error.code, error.location)).collect()
}

/// The IHE errors of a refusal, the first first.
pub(super) fn errors(status: &Status) -> Vec<pb::RegistryError> {
    use prost::Message as _;
    let details = tonic_types::pb::Status::decode(status.details()).unwrap();
    let lists = details
        .details
        .iter()
        .filter(|any| {
            any.type_url
                .ends_with("/renkei.documents.v1.RegistryErrorList")
        })
        .map(|any| pb::RegistryErrorList::decode(any.value.as_slice()).unwrap());
    lists.flat_map(|list| list.errors).collect()
}
