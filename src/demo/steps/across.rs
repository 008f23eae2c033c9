//! Linkage, queries, consent, and reading across regions.

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use tokio_stream::StreamExt as _;

use crate::demo::actor::Caller;
use crate::demo::messages;
use crate::demo::network::Network;
use crate::demo::report::Checked;
use crate::wire::pb::common as cpb;
use crate::wire::pb::consent as npb;
use crate::wire::pb::consent::consent_service_client::ConsentServiceClient;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::federation as fpb;
use crate::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use crate::wire::pb::identity as ipb;
use crate::wire::pb::identity::identity_service_client::IdentityServiceClient;

use super::ensure;

/// What a merged query said.
pub(super) struct Merged {
    pub(super) entries: Vec<dpb::DocumentEntry>,
    pub(super) completeness: cpb::Completeness,
}

impl Merged {
    pub(super) fn communities(&self) -> usize {
        let mut homes: Vec<_> = self
            .entries
            .iter()
            .map(|entry| entry.home_community_id.as_str())
            .collect();
        homes.sort_unstable();
        homes.dedup();
        homes.len()
    }

    pub(super) fn state(&self, home: &str) -> Option<cpb::RegionState> {
        let regions = &self.completeness.regions;
        regions
            .iter()
            .find(|region| region.home_community_id == home)
            .map(cpb::RegionStatus::state)
    }
}

/// Asks for a patient's documents in all regions.
pub(super) async fn find(
    caller: &Caller,
    patient: cpb::Identifier,
) -> Result<Merged, tonic::Status> {
    use fpb::initiating_gateway_service_find_documents_response::Part;
    let query = dpb::FindDocumentsQuery {
        patient_id: Some(patient),
        ..Default::default()
    };
    let request = fpb::InitiatingGatewayServiceFindDocumentsRequest {
        query: Some(dpb::StoredQuery {
            query: Some(dpb::stored_query::Query::FindDocuments(query)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut client = InitiatingGatewayServiceClient::new(caller.channel.clone());
    let mut stream = client
        .find_documents(caller.request(request))
        .await?
        .into_inner();
    let mut merged = Merged {
        entries: Vec::new(),
        completeness: cpb::Completeness::default(),
    };
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
    if ended {
        Ok(merged)
    } else {
        Err(tonic::Status::internal("an answer without completeness"))
    }
}

async fn identifiers(
    caller: &Caller,
    id: cpb::Identifier,
) -> Result<ipb::QueryIdentifiersResponse> {
    let request = ipb::QueryIdentifiersRequest {
        subject: Some(ipb::query_identifiers_request::Subject::Identifier(id)),
        ..Default::default()
    };
    let mut client = IdentityServiceClient::new(caller.channel.clone());
    Ok(client
        .query_identifiers(caller.request(request))
        .await?
        .into_inner())
}

/// The hub's linkage ids of every record of a person.
async fn linkages(network: &Network, caller: &Caller, truth: usize) -> Result<Vec<String>> {
    let person = network.sample.person(truth).context("no such person")?;
    let mut ids = Vec::new();
    for record in &person.records {
        let id = messages::patient_id(network.institution(record)?, &record.local_id);
        ids.push(identifiers(caller, id).await?.linkage_id);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// One person is one person at the hub; two persons are two.
pub(crate) async fn linkage(network: &Network) -> Checked {
    let institution = network.emergency_hospital(0)?;
    let hub = network.caller(None, &format!("inst-{}", institution.code), None)?;
    let scenario = &network.sample.scenario;
    let mut checked = Vec::new();
    for (who, truth) in [
        ("known in several regions", scenario.cross_region),
        ("with a married name", scenario.married),
        ("of the emergency", scenario.emergency),
    ] {
        let ids = linkages(network, &hub, truth).await?;
        ensure(ids.len() == 1, || {
            format!("the person {who} has {} linkage ids", ids.len())
        })?;
        checked.push(format!("the person {who} has one linkage id"));
    }
    for (who, (a, b)) in [("namesakes", scenario.namesakes), ("twins", scenario.twins)] {
        let (first, second) = (
            linkages(network, &hub, a).await?,
            linkages(network, &hub, b).await?,
        );
        ensure(first.iter().all(|id| !second.contains(id)), || {
            format!("the {who} were linked")
        })?;
        checked.push(format!("the {who} are two persons"));
    }
    checked.push(truth(network, &hub).await?);
    Ok(checked)
}

/// Compares every link with the sample's truth.
async fn truth(network: &Network, hub: &Caller) -> Result<String> {
    let mut owner: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    let (mut linked, mut several) = (0, 0);
    for person in &network.sample.people {
        let ids = linkages(network, hub, person.truth).await?;
        if person.records.len() > 1 {
            several += 1;
            linked += usize::from(ids.len() == 1);
        }
        for id in ids {
            if owner
                .insert(id, person.truth)
                .is_some_and(|other| other != person.truth)
            {
                bail!("two persons share a linkage id");
            }
        }
    }
    Ok(format!(
        "0 false links; {linked} of {several} people with several records fully linked"
    ))
}

/// PIX and PDQ.
pub(crate) async fn queries(network: &Network) -> Checked {
    let truth = network.sample.scenario.cross_region;
    let record = network.record(truth, 0)?;
    let institution = network.institution(record)?;
    let physician = network.physician(0, institution)?;
    let hub = network.caller(None, &format!("inst-{}", institution.code), None)?;
    let id = messages::patient_id(institution, &record.local_id);
    let known = identifiers(&hub, id.clone()).await?;
    ensure(!known.identifiers.is_empty(), || {
        "PIX found no other identifier".into()
    })?;
    let request = ipb::SearchPatientsRequest {
        criteria: Some(ipb::PatientCriteria {
            family: record.family_kana.clone(),
            given: record.given_kana.clone(),
            birth_date: record.birth_date.clone(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut client = IdentityServiceClient::new(physician.channel.clone());
    let found = client
        .search_patients(physician.request(request))
        .await?
        .into_inner();
    let hit = found
        .matches
        .iter()
        .filter_map(|found| found.person.as_ref())
        .any(|person| {
            person.records.iter().any(|found| {
                found
                    .identifier
                    .as_ref()
                    .is_some_and(|found| found.value == id.value)
            })
        });
    ensure(hit, || {
        "PDQ by kana and birth date did not find the patient".into()
    })?;
    Ok(vec![
        format!(
            "PIX query: {} identifiers of one person",
            known.identifiers.len()
        ),
        format!(
            "PDQ by kana name and birth date: {} match(es)",
            found.matches.len()
        ),
    ])
}

/// A hospital of region 1 finds and reads what region 0 holds of its patient.
pub(crate) async fn find_and_retrieve(network: &Network) -> Checked {
    let truth = network.sample.scenario.cross_region;
    let record = network.record(truth, 1)?;
    let institution = network.institution(record)?;
    let physician = network.physician(1, institution)?;
    let patient = messages::patient_id(institution, &record.local_id);
    let merged = find(&physician, patient.clone()).await?;
    let held = network.sample.documents_of(truth).count();
    ensure(merged.completeness.complete, || {
        "the answer is not complete".into()
    })?;
    ensure(merged.entries.len() == held, || {
        format!(
            "{} entries found, {held} were registered",
            merged.entries.len()
        )
    })?;
    let home = network
        .world
        .regions
        .first()
        .context("no region")?
        .home
        .clone();
    let foreign = merged
        .entries
        .iter()
        .find(|entry| entry.home_community_id == home);
    let foreign = foreign.context("nothing of region 0 was found")?;
    let bytes = retrieve(&physician, &patient, foreign).await?;
    let sample = network.sample.documents_of(truth);
    let original = sample
        .into_iter()
        .find(|document| document.unique_id == foreign.unique_id)
        .context("a document the sample does not have")?;
    ensure(bytes == original.content, || {
        "the document read is not the one registered".into()
    })?;
    Ok(vec![
        format!(
            "{} documents found over {} communities, complete",
            merged.entries.len(),
            merged.communities()
        ),
        format!(
            "{} bytes read from region 0 through the hub, SHA-1 and size agree",
            bytes.len()
        ),
    ])
}

/// Reads a document and compares its hash.
pub(super) async fn retrieve(
    caller: &Caller,
    patient: &cpb::Identifier,
    entry: &dpb::DocumentEntry,
) -> Result<Vec<u8>> {
    use dpb::retrieved_part::Part;
    use fpb::initiating_gateway_service_retrieve_documents_response::Part as Outer;
    let request = fpb::InitiatingGatewayServiceRetrieveDocumentsRequest {
        documents: vec![dpb::DocumentRequest {
            document: Some(crate::documents::document_ref(entry)),
            range: None,
        }],
        patient_id: Some(patient.clone()),
    };
    let mut client = InitiatingGatewayServiceClient::new(caller.channel.clone());
    let mut stream = client
        .retrieve_documents(caller.request(request))
        .await?
        .into_inner();
    let mut bytes = Vec::new();
    let mut trailer = None;
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
    let trailer = trailer.context("a document without trailer")?;
    let hash = HEXLOWER.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &bytes).as_ref());
    ensure(
        trailer.size == bytes.len() as u64 && trailer.hash == hash,
        || "hash or size of the document read do not agree".into(),
    )?;
    Ok(bytes)
}

/// A patient opts out: recorded in the own region, in force there and at the hub.
pub(crate) async fn consent(network: &Network) -> Checked {
    let truth = network.sample.scenario.opted_out;
    let record = network.record(truth, 0)?;
    let institution = network.institution(record)?;
    let patient = messages::patient_id(institution, &record.local_id);
    let other = network.record(truth, 1)?;
    let elsewhere = network.institution(other)?;
    let reader = network.physician(1, elsewhere)?;
    let own = messages::patient_id(elsewhere, &other.local_id);
    let before = find(&reader, own.clone()).await?;
    ensure(!before.entries.is_empty(), || {
        "nothing to hide before the opt-out".into()
    })?;

    let clerk = network.physician(0, institution)?;
    let mut client = ConsentServiceClient::new(clerk.channel.clone());
    let request = npb::RecordConsentRequest {
        consent: Some(npb::Consent {
            patient_id: Some(patient),
            model: npb::ConsentModel::Community.into(),
            effect: npb::ConsentEffect::Deny.into(),
            ..Default::default()
        }),
        idempotency_key: "opt-out".to_owned(),
    };
    client.record_consent(clerk.request(request)).await?;
    network.outboxes_empty().await?;
    match find(&reader, own).await {
        Err(status) if status.code() == tonic::Code::PermissionDenied => {}
        Err(status) => bail!("expected a refusal, got {status}"),
        Ok(_) => bail!("documents of an opted-out patient were listed"),
    }
    Ok(vec![
        format!(
            "{} documents found before the opt-out",
            before.entries.len()
        ),
        "after it, refused at the hub without saying whether there is anything".to_owned(),
    ])
}
