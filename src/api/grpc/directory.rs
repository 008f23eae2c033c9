//! `renkei.directory.v1.DirectoryService`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::access::{Action, Call};
use crate::config::Capability;
use crate::directory::{Peer, RENEWED, planned_absence};
use crate::error::{Error, Reason, Result};
use crate::federation::Stream;
use crate::federation::peer_error;
use crate::federation::peers::own;
use crate::gateway::Gateway;
use crate::wire::pb::directory as pb;
use crate::wire::pb::directory::directory_service_server::DirectoryService;
use crate::wire::pb::federation::PingRequest;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;

use super::door::{Answer, Class, Door, Replies};

/// A region that does not answer a ping within this is unreachable.
const PING: Duration = Duration::from_secs(1);

macro_rules! method {
    ($name:literal) => {
        concat!("renkei.directory.v1.DirectoryService/", $name)
    };
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Directories(pub Door);

fn reader(gateway: &Gateway, call: &Call) -> Result<()> {
    gateway
        .guard
        .authorize(call, Action::ReadDirectory)
        .map(|_| ())
}

/// The directory, signed: on a thread that may wait, for the key may be in a token.
async fn signed(gateway: &Arc<Gateway>) -> Result<(u64, pb::SignedDirectory)> {
    let gateway = Arc::clone(gateway);
    let signing = tokio::task::spawn_blocking(move || {
        let now = gateway.clock.now();
        gateway.directory.signed(&gateway.certificate, now)
    });
    signing.await.map_err(Error::internal)?
}

fn get(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetDirectoryRequest,
) -> Answer<pb::GetDirectoryResponse> {
    Box::pin(async move {
        reader(&gateway, &call)?;
        let (version, signed) = signed(&gateway).await?;
        let unchanged = request.known_version != 0 && request.known_version == version;
        Ok(pb::GetDirectoryResponse {
            version,
            signed_directory: (!unchanged).then_some(signed),
        })
    })
}

fn watch(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    _: pb::WatchDirectoryRequest,
) -> Answer<Stream<pb::WatchDirectoryResponse>> {
    Box::pin(async move {
        reader(&gateway, &call)?;
        let (sender, receiver) = mpsc::channel(2);
        let mut changed = gateway.directory.watch();
        let watching = Arc::clone(&gateway);
        // Not tracked: it ends with the stream, or when the node stops.
        tokio::spawn(async move {
            loop {
                changed.borrow_and_update();
                let message = signed(&watching).await;
                let message = message.map(|(version, signed)| pb::WatchDirectoryResponse {
                    resume_token: version.to_string(),
                    signed_directory: Some(signed),
                });
                if sender.send(message).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = watching.stop.cancelled() => return,
                    () = sender.closed() => return,
                    more = changed.changed() => if more.is_err() { return },
                    // Unchanged, and good for longer.
                    () = tokio::time::sleep(RENEWED) => {}
                }
            }
        });
        Ok(Stream { receiver, asked: 0 })
    })
}

fn apply(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ApplyDirectoryRequest,
) -> Answer<pb::ApplyDirectoryResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Directory)?;
        let permit = gateway.guard.authorize(&call, Action::ApplyDirectory)?;
        gateway
            .directory
            .apply(&permit, &call, request, gateway.clock.now())
            .await
    })
}

fn suspend(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::SuspendInstitutionRequest,
) -> Answer<pb::SuspendInstitutionResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Directory)?;
        let permit = gateway.guard.authorize(&call, Action::ApplyDirectory)?;
        let named = request.institution_id.parse();
        let directory = &gateway.directory;
        let change = directory.suspend(&permit, &call, request, gateway.clock.now());
        let Ok(institution) = named else {
            // No institution is registered under what is no code; the directory says so.
            return change.await;
        };
        let (mut response, cut) = gateway.cutting(&institution, change).await?;
        response.connections_closed = u32::try_from(cut).unwrap_or(u32::MAX);
        Ok(response)
    })
}

fn communities(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ListCommunitiesRequest,
) -> Answer<pb::ListCommunitiesResponse> {
    Box::pin(async move {
        reader(&gateway, &call)?;
        let mut communities = gateway.directory.read()?.communities;
        communities.retain(|community| {
            request.kinds.is_empty() || request.kinds.contains(&community.kind)
        });
        Ok(pb::ListCommunitiesResponse {
            communities,
            next_page_token: String::new(),
        })
    })
}

fn community(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetCommunityRequest,
) -> Answer<pb::GetCommunityResponse> {
    Box::pin(async move {
        reader(&gateway, &call)?;
        let home = request.home_community_id;
        home.parse::<crate::types::HomeCommunityId>()
            .map_err(|error| {
                Error::field(Reason::InvalidField, "home_community_id", error.to_string())
            })?;
        let all = gateway.directory.read()?.communities;
        let found = all
            .into_iter()
            .find(|community| community.home_community_id == home);
        let community = found.ok_or_else(|| {
            Error::field(
                Reason::UnknownCommunity,
                "home_community_id",
                "no such community",
            )
        })?;
        Ok(pb::GetCommunityResponse {
            community: Some(community),
        })
    })
}

fn institutions(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ListInstitutionsRequest,
) -> Answer<pb::ListInstitutionsResponse> {
    Box::pin(async move {
        reader(&gateway, &call)?;
        let mut institutions = gateway.directory.read()?.institutions;
        institutions.retain(|institution| {
            let home = &request.home_community_id;
            let named = institution.name.as_ref().is_some_and(|name| {
                name.ja.contains(&request.text) || name.en.contains(&request.text)
            });
            (home.is_empty() || institution.home_community_id == *home)
                && (request.kinds.is_empty() || request.kinds.contains(&institution.kind))
                && (request.text.is_empty() || named)
        });
        Ok(pb::ListInstitutionsResponse {
            institutions,
            next_page_token: String::new(),
        })
    })
}

fn region_status(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetRegionStatusRequest,
) -> Answer<pb::GetRegionStatusResponse> {
    Box::pin(async move {
        gateway
            .guard
            .authorize(&call, Action::Operate)
            .map(|_| ())?;
        let mut set = JoinSet::new();
        let wanted = &request.home_community_ids;
        let peers = gateway.directory.snapshot().peers();
        for peer in peers.into_iter().filter(|peer| {
            peer.home != gateway.home
                && (wanted.is_empty() || wanted.contains(&peer.home.to_string()))
        }) {
            set.spawn(ping(Arc::clone(&gateway), peer));
        }
        let mut regions = set.join_all().await;
        let now = gateway.clock.now();
        let communities = gateway.directory.read()?.communities;
        for region in &mut regions {
            let mut communities = communities.iter();
            let community =
                communities.find(|one| one.home_community_id == region.home_community_id);
            region.planned_absence = community.is_some_and(|one| planned_absence(one, now));
            tell_currency(&gateway, region)?;
        }
        regions.sort_by(|a, b| a.home_community_id.cmp(&b.home_community_id));
        Ok(pb::GetRegionStatusResponse { regions })
    })
}

/// Adds how current the locator is about a region.
fn tell_currency(gateway: &Gateway, region: &mut pb::RegionHealth) -> Result<()> {
    let home = region.home_community_id.parse().map_err(Error::internal)?;
    let known = gateway.federation.locator.currency(&home)?;
    let since = |then| gateway.clock.now().duration_since(then);
    let age = known
        .heard
        .map(|heard| Duration::try_from(since(heard)).unwrap_or_default());
    region.locator_notice_age = age.map(crate::wire::duration);
    region.locator_reconciled = known.reconciled.map(crate::wire::timestamp);
    region.locator_lacking = known.found.lacking_count;
    region.locator_left_over = known.found.left_over_count;
    Ok(())
}

/// Asks a region whether it is there. What is told is what was seen just now.
async fn ping(gateway: Arc<Gateway>, peer: Arc<Peer>) -> pb::RegionHealth {
    let mut health = pb::RegionHealth {
        home_community_id: peer.home.to_string(),
        name: Some(pb::BilingualName {
            ja: peer.name.clone(),
            en: String::new(),
        }),
        ..pb::RegionHealth::default()
    };
    let view = gateway.federation.paths.view(&peer.home);
    health.set_breaker(match (view.probing, view.open) {
        (true, _) => pb::BreakerState::HalfOpen,
        (false, true) => pb::BreakerState::Open,
        (false, false) => pb::BreakerState::Closed,
    });
    health.in_flight = view.in_flight;
    (health.recent_calls, health.recent_failures) = view.recent;
    let answered = view
        .answered
        .and_then(|ago| gateway.clock.now().checked_sub(ago).ok());
    health.last_seen = answered.map(crate::wire::timestamp);
    health.latency_p99 = view.p99.map(crate::wire::duration);
    let started = Instant::now();
    let answer = match gateway.federation.peers.channel(&peer) {
        Ok(channel) => {
            let mut client = RespondingGatewayServiceClient::new(channel);
            tokio::time::timeout(PING, client.ping(own(PingRequest::default(), PING)))
                .await
                .map_err(|_| "DEADLINE_EXCEEDED".to_owned())
                .and_then(|answer| {
                    answer.map_err(|status| peer_error(status).reason().name().to_owned())
                })
        }
        Err(error) => Err(error.reason().name().to_owned()),
    };
    match answer {
        Ok(answer) => {
            let answer = answer.into_inner();
            health.reachable = answer.home_community_id == health.home_community_id;
            health.last_seen = Some(crate::wire::timestamp(gateway.clock.now()));
            let usual = view.p50.unwrap_or_else(|| started.elapsed());
            health.latency_p50 = Some(crate::wire::duration(usual));
            health.directory_version = answer.directory_version;
            health.software_version = answer.version;
        }
        Err(reason) => health.last_failure_reason = reason,
    }
    let expires = gateway.federation.peers.certificate_expires(&peer);
    health.certificate_expires = expires.map(crate::wire::timestamp);
    health
}

#[tonic::async_trait]
impl DirectoryService for Directories {
    async fn get_directory(
        &self,
        request: Request<pb::GetDirectoryRequest>,
    ) -> Result<Response<pb::GetDirectoryResponse>, Status> {
        self.0
            .run(method!("GetDirectory"), Class::Query, request, get)
            .await
    }

    type WatchDirectoryStream = Replies<pb::WatchDirectoryResponse>;

    async fn watch_directory(
        &self,
        request: Request<pb::WatchDirectoryRequest>,
    ) -> Result<Response<Self::WatchDirectoryStream>, Status> {
        self.0
            .stream(method!("WatchDirectory"), Class::Stream, request, watch)
            .await
    }

    async fn apply_directory(
        &self,
        request: Request<pb::ApplyDirectoryRequest>,
    ) -> Result<Response<pb::ApplyDirectoryResponse>, Status> {
        self.0
            .run(method!("ApplyDirectory"), Class::Query, request, apply)
            .await
    }

    async fn list_communities(
        &self,
        request: Request<pb::ListCommunitiesRequest>,
    ) -> Result<Response<pb::ListCommunitiesResponse>, Status> {
        self.0
            .run(
                method!("ListCommunities"),
                Class::Query,
                request,
                communities,
            )
            .await
    }

    async fn get_community(
        &self,
        request: Request<pb::GetCommunityRequest>,
    ) -> Result<Response<pb::GetCommunityResponse>, Status> {
        self.0
            .run(method!("GetCommunity"), Class::Query, request, community)
            .await
    }

    async fn list_institutions(
        &self,
        request: Request<pb::ListInstitutionsRequest>,
    ) -> Result<Response<pb::ListInstitutionsResponse>, Status> {
        self.0
            .run(
                method!("ListInstitutions"),
                Class::Query,
                request,
                institutions,
            )
            .await
    }

    async fn get_region_status(
        &self,
        request: Request<pb::GetRegionStatusRequest>,
    ) -> Result<Response<pb::GetRegionStatusResponse>, Status> {
        self.0
            .run(
                method!("GetRegionStatus"),
                Class::Query,
                request,
                region_status,
            )
            .await
    }

    async fn suspend_institution(
        &self,
        request: Request<pb::SuspendInstitutionRequest>,
    ) -> Result<Response<pb::SuspendInstitutionResponse>, Status> {
        self.0
            .run(
                method!("SuspendInstitution"),
                Class::Query,
                request,
                suspend,
            )
            .await
    }
}
