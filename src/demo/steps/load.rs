//! Directory, patients, documents; and the hub killed in the middle of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::demo::actor::Caller;
use crate::demo::messages;
use crate::demo::network::Network;
use crate::demo::report::Checked;
use crate::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use crate::wire::pb::documents::document_service_client::DocumentServiceClient;
use crate::wire::pb::identity as ipb;
use crate::wire::pb::identity::identity_service_client::IdentityServiceClient;

use super::ensure;

/// Calls at once while loading.
const AT_ONCE: usize = 32;

/// The operator applies the directory at the hub; the regions take it over.
pub(crate) async fn directory(network: &Network) -> Checked {
    let regions: Vec<String> = network
        .regions
        .iter()
        .map(|region| region.address.clone())
        .collect();
    let request = network.world.directory(&network.hub.address, &regions)?;
    let (communities, institutions) = (request.communities.len(), request.institutions.len());
    let operator = network.caller(None, "operator", None)?;
    let mut client = DirectoryServiceClient::new(operator.channel.clone());
    let applied = client
        .apply_directory(operator.request(request))
        .await?
        .into_inner();
    network.directory_everywhere(applied.version).await?;
    Ok(vec![format!(
        "{communities} communities and {institutions} institutions applied at the hub and in force \
         at every region (version {})",
        applied.version
    )])
}

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    feeds: AtomicUsize,
    documents: AtomicUsize,
}

/// Feeds every record and provides every document, kills the hub (SIGKILL) half-way, starts it
/// again, and shows that nothing acknowledged is missing anywhere.
pub(crate) async fn load_with_hub_killed(network: &mut Network) -> Checked {
    let done = Arc::new(Acknowledged::default());
    let half = Arc::new(Notify::new());
    let mut work = JoinSet::new();
    let records = feed_all(network, &done, &half, &mut work)?;
    half.notified().await;
    network.hub.kill().await?;
    let before = done.feeds.load(Ordering::Relaxed);
    network.hub.restart().await?;
    while let Some(joined) = work.join_next().await {
        joined.context("a feed panicked")??;
    }
    let mut work = JoinSet::new();
    let documents = provide_all(network, &done, &mut work)?;
    while let Some(joined) = work.join_next().await {
        joined.context("a provide panicked")??;
    }
    network.outboxes_empty().await?;
    let known = everything_known(network).await?;
    ensure(done.feeds.load(Ordering::Relaxed) == records, || {
        "a feed was not acknowledged".into()
    })?;
    ensure(done.documents.load(Ordering::Relaxed) == documents, || {
        "a document was not acknowledged".into()
    })?;
    Ok(vec![
        format!("{records} identity records and {documents} documents acknowledged"),
        format!("hub killed (SIGKILL) after {before} feeds, and restarted on its data"),
        format!("all {known} acknowledged records known at the hub afterwards, 0 lost"),
    ])
}

fn feed_all(
    network: &Network,
    done: &Arc<Acknowledged>,
    half: &Arc<Notify>,
    work: &mut JoinSet<Result<()>>,
) -> Result<usize> {
    let limit = Arc::new(Semaphore::new(AT_ONCE));
    let all: Vec<_> = network
        .sample
        .people
        .iter()
        .flat_map(|person| &person.records)
        .collect();
    let records = all.len();
    let systems = Systems::new(network)?;
    for record in all {
        let institution = network.institution(record)?;
        let caller = systems.of(&institution.code)?;
        let request = messages::feed(institution, record);
        let (done, half, limit) = (Arc::clone(done), Arc::clone(half), Arc::clone(&limit));
        work.spawn(async move {
            let _one = limit.acquire().await?;
            let mut client = IdentityServiceClient::new(caller.channel.clone());
            client.feed_patient(caller.request(request)).await?;
            if done.feeds.fetch_add(1, Ordering::Relaxed) + 1 == records / 2 {
                half.notify_one();
            }
            Ok(())
        });
    }
    Ok(records)
}

fn provide_all(
    network: &Network,
    done: &Arc<Acknowledged>,
    work: &mut JoinSet<Result<()>>,
) -> Result<usize> {
    let limit = Arc::new(Semaphore::new(AT_ONCE));
    let systems = Systems::new(network)?;
    for document in &network.sample.documents {
        let region = network
            .sample
            .regions
            .get(document.region)
            .context("no such region")?;
        let institution = region
            .institutions
            .get(document.institution)
            .context("no such institution")?;
        let node = network
            .world
            .regions
            .get(document.region)
            .context("no such region")?;
        let caller = systems.of(&institution.code)?;
        let parts = messages::provide(institution, &node.repository, document);
        let (done, limit) = (Arc::clone(done), Arc::clone(&limit));
        work.spawn(async move {
            let _one = limit.acquire().await?;
            let mut client = DocumentServiceClient::new(caller.channel.clone());
            client
                .provide_documents(caller.request(tokio_stream::iter(parts)))
                .await?;
            done.documents.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
    }
    Ok(network.sample.documents.len())
}

/// One connection for each institution's system.
struct Systems(std::collections::HashMap<String, Caller>);

impl Systems {
    fn new(network: &Network) -> Result<Self> {
        let mut callers = std::collections::HashMap::new();
        for (index, region) in network.sample.regions.iter().enumerate() {
            for institution in &region.institutions {
                callers.insert(
                    institution.code.clone(),
                    network.system(index, institution)?,
                );
            }
        }
        Ok(Self(callers))
    }

    fn of(&self, code: &str) -> Result<Caller> {
        self.0
            .get(code)
            .cloned()
            .context("an institution without system")
    }
}

/// Asks the hub for every record that was acknowledged.
async fn everything_known(network: &Network) -> Result<usize> {
    let institution = network.emergency_hospital(0)?;
    let asker = network.caller(None, &format!("inst-{}", institution.code), None)?;
    let mut client = IdentityServiceClient::new(asker.channel.clone());
    let mut known = 0;
    for record in network
        .sample
        .people
        .iter()
        .flat_map(|person| &person.records)
    {
        let id = messages::patient_id(network.institution(record)?, &record.local_id);
        let request = ipb::QueryIdentifiersRequest {
            subject: Some(ipb::query_identifiers_request::Subject::Identifier(id)),
            ..Default::default()
        };
        client
            .query_identifiers(asker.request(request))
            .await
            .with_context(|| {
                format!("after {known} records, one acknowledged is not known at the hub")
            })?;
        known += 1;
    }
    Ok(known)
}
