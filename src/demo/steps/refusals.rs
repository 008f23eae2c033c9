//! Who does not get in, and what is not taken.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;
use tonic::Code;

use crate::demo::actor::Caller;
use crate::demo::messages;
use crate::demo::network::Network;
use crate::demo::report::Checked;
use crate::pki::NodeIdentity;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::documents::document_service_client::DocumentServiceClient;
use crate::wire::pb::identity as ipb;
use crate::wire::pb::identity::identity_service_client::IdentityServiceClient;

use super::{ensure, refused};

/// A refusal is in the log by then.
const LOGGED: Duration = Duration::from_secs(2);

/// Certificates that must not get past the handshake, made before the nodes started.
pub(crate) struct Strangers {
    /// Of another CA.
    pub foreign: NodeIdentity,
    /// For signing, not for authentication.
    pub signing: NodeIdentity,
    /// Revoked.
    pub revoked: NodeIdentity,
    /// Good, but registered nowhere.
    pub unregistered: NodeIdentity,
}

async fn query(caller: &Caller) -> Result<(), tonic::Status> {
    let mut client = IdentityServiceClient::new(caller.channel.clone());
    let request = ipb::QueryIdentifiersRequest::default();
    client
        .query_identifiers(caller.request(request))
        .await
        .map(|_| ())
}

/// Each is refused in the TLS handshake, by the rule that is broken (as the hub's log says); the
/// unregistered one after it.
pub(crate) async fn certificates(network: &Network, strangers: &Strangers) -> Checked {
    let mut checked = Vec::new();
    for (who, rule, identity) in [
        ("of another CA", "issuer-unknown", Some(&strangers.foreign)),
        (
            "for signing (nonRepudiation)",
            "signing-certificate",
            Some(&strangers.signing),
        ),
        ("revoked", "revoked", Some(&strangers.revoked)),
        ("none", "no-certificate", None),
    ] {
        let before = network.hub.log().matches(rule).count();
        let caller = match identity {
            Some(identity) => network.caller_with(None, identity, None)?,
            None => network.anonymous()?,
        };
        let Err(status) = query(&caller).await else {
            bail!("certificate {who}: was served")
        };
        let transport = std::error::Error::source(&status)
            .is_some_and(<dyn std::error::Error>::is::<tonic::transport::Error>);
        ensure(transport, || {
            format!("certificate {who}: expected no connection, got {status}")
        })?;
        // The peer sees the end of the connection before the node has logged why.
        let until = Instant::now() + LOGGED;
        while network.hub.log().matches(rule).count() <= before {
            ensure(Instant::now() < until, || {
                format!("certificate {who}: not refused by the rule {rule}")
            })?;
            tokio::time::sleep(LOGGED / 100).await;
        }
        checked.push(format!("certificate {who}: no connection (rule {rule})"));
    }
    let caller = network.caller_with(None, &strangers.unregistered, None)?;
    let Err(status) = query(&caller).await else {
        bail!("an unregistered certificate was served")
    };
    ensure(status.code() == Code::Unauthenticated, || {
        format!("unregistered: {status}")
    })?;
    checked.push("valid certificate registered nowhere: UNAUTHENTICATED".to_owned());
    Ok(checked)
}

/// A wrong region, an unknown authority, a missing hash, a malformed OID, no assertion.
pub(crate) async fn bad_input(network: &Network) -> Checked {
    let record = network.record(network.sample.scenario.cross_region, 0)?;
    let institution = network.institution(record)?;
    let system = network.system(0, institution)?;
    let mut identity = IdentityServiceClient::new(system.channel.clone());
    let feed = |authority: &str| {
        let mut request = messages::feed(institution, record);
        request.idempotency_key.clear();
        if let Some(id) = request
            .patient
            .as_mut()
            .and_then(|patient| patient.identifier.as_mut())
        {
            authority.clone_into(&mut id.assigning_authority);
        }
        system.request(request)
    };
    let other = network
        .world
        .regions
        .get(1)
        .and_then(|region| region.authorities.first());
    let other = other.context("no other region")?;
    let foreign = identity.feed_patient(feed(other)).await;
    refused(foreign, Code::PermissionDenied, "FOREIGN_DOMAIN")?;
    let unknown = identity.feed_patient(feed("2.999.77")).await;
    refused(unknown, Code::NotFound, "UNKNOWN_AUTHORITY")?;
    let malformed = identity.feed_patient(feed("2.999.077")).await;
    refused(malformed, Code::InvalidArgument, "INVALID_OID")?;

    let mut documents = DocumentServiceClient::new(system.channel.clone());
    let sample = network
        .sample
        .documents
        .iter()
        .find(|document| document.region == 0);
    let sample = sample.context("no document")?;
    let region = network.sample.regions.first().context("no region")?;
    let author = region
        .institutions
        .get(sample.institution)
        .context("no institution")?;
    let mut parts = messages::provide(author, "2.999.3.1", sample);
    without_hash(&mut parts);
    let missing = documents
        .provide_documents(system.request(tokio_stream::iter(parts)))
        .await;
    refused(missing, Code::InvalidArgument, "MISSING_HASH")?;

    let query = dpb::QueryRegistryRequest {
        query: Some(dpb::StoredQuery {
            query: Some(dpb::stored_query::Query::FindDocuments(
                dpb::FindDocumentsQuery {
                    patient_id: Some(messages::patient_id(institution, &record.local_id)),
                    ..Default::default()
                },
            )),
            ..Default::default()
        }),
        ..Default::default()
    };
    let nobody = documents.query_registry(system.request(query)).await;
    refused(nobody, Code::PermissionDenied, "NOT_PERMITTED")?;
    Ok(vec![
        "identity in another region's domain: PERMISSION_DENIED FOREIGN_DOMAIN".to_owned(),
        "identity in nobody's domain: NOT_FOUND UNKNOWN_AUTHORITY".to_owned(),
        "malformed OID: INVALID_ARGUMENT INVALID_OID".to_owned(),
        "document without hash: INVALID_ARGUMENT MISSING_HASH".to_owned(),
        "documents without a person's assertion: PERMISSION_DENIED NOT_PERMITTED".to_owned(),
    ])
}

fn without_hash(parts: &mut [dpb::ProvideDocumentsRequest]) {
    use dpb::provide_documents_request::Part;
    for part in parts {
        if let Some(Part::Start(start)) = &mut part.part {
            start.idempotency_key.clear();
            for entry in start.submission.iter_mut().flat_map(|set| &mut set.entries) {
                entry.hash.clear();
            }
        }
    }
}
