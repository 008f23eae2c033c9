//! `renkei.admin.v1.AdminService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::access::{Action, Call};
use crate::config::Capability;
use crate::edge::{Alarm, Severity};
use crate::error::Result;
use crate::gateway::Gateway;
use crate::pki::Usage;
use crate::wire::pb::admin as pb;
use crate::wire::pb::admin::admin_service_server::AdminService;

use super::door::{Answer, Class, Door, Replies};
use super::purges;

macro_rules! method {
    ($name:literal) => {
        concat!("renkei.admin.v1.AdminService/", $name)
    };
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Admin(pub Door);

fn info(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    _: pb::GetNodeInfoRequest,
) -> Answer<pb::GetNodeInfoResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::Operate)?;
        permit.require(&[Action::Operate])?;
        let now = gateway.clock.now();
        let uptime = now.duration_since(gateway.started);
        let parent = gateway.federation.parent.as_ref();
        let chain = gateway.certificate.current();
        let own = gateway.trust.judge(chain.chain(), Usage::Server, now).ok();
        Ok(pb::GetNodeInfoResponse {
            home_community_id: gateway.home.to_string(),
            name: gateway.config.node.name.clone(),
            roles: gateway
                .config
                .node
                .capabilities
                .iter()
                .map(|role| node_role(*role).into())
                .collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: Some(crate::wire::timestamp(gateway.started)),
            uptime: Some(prost_types::Duration {
                seconds: uptime.as_secs(),
                nanos: 0,
            }),
            ledger_sequence: gateway.store.last_sequence().0,
            parent_home_community_id: parent.map(ToString::to_string).unwrap_or_default(),
            directory_version: gateway.directory.snapshot().version(),
            policy_version: gateway.policies.current().version().to_string(),
            certificate_expires: own.map(|own| crate::wire::timestamp(own.not_after)),
        })
    })
}

fn node_role(capability: Capability) -> pb::NodeRole {
    match capability {
        Capability::Identity => pb::NodeRole::Identity,
        Capability::Registry => pb::NodeRole::Registry,
        Capability::Repository => pb::NodeRole::Repository,
        Capability::Federation => pb::NodeRole::Federation,
        Capability::Emergency => pb::NodeRole::Emergency,
        Capability::Directory => pb::NodeRole::Directory,
    }
}

fn node_status(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    _: pb::GetStatusRequest,
) -> Answer<pb::GetStatusResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::Operate)?;
        permit.require(&[Action::Operate])?;
        let stats = gateway.store.stats();
        let mut alarms: Vec<pb::Alarm> =
            gateway.edge.alarms.list().into_iter().map(alarm).collect();
        let undelivered = gateway.federation.outbox.undelivered()?;
        if undelivered > 0 {
            alarms.push(pb::Alarm {
                code: "UNDELIVERED".to_owned(),
                severity: pb::Severity::Error.into(),
                message: format!("the parent refused {undelivered} notices for good"),
                since: None,
            });
        }
        if stats.full {
            alarms.push(pb::Alarm {
                code: "DISK_FULL".to_owned(),
                severity: pb::Severity::Error.into(),
                message: "the disk is full: only emergencies are served".to_owned(),
                since: None,
            });
        }
        for issuer in gateway.trust.current().authorities_without_crl() {
            alarms.push(pb::Alarm {
                code: "CRL_MISSING".to_owned(),
                severity: pb::Severity::Error.into(),
                message: format!("no revocation list for {issuer}; its certificates are refused"),
                since: None,
            });
        }
        for one in gateway.authenticator.suspicions(gateway.clock.now()) {
            let whose = one
                .institution
                .map(|code| format!(" of institution {code}"));
            alarms.push(pb::Alarm {
                code: "IDENTITY_REFUSED".to_owned(),
                severity: pb::Severity::Warning.into(),
                message: format!(
                    "certificate {}{} was refused {} times: {}",
                    one.pin,
                    whose.unwrap_or_default(),
                    one.times,
                    one.rule
                ),
                since: Some(crate::wire::timestamp(one.first)),
            });
        }
        let counters = gateway.edge.counters.all().into_iter();
        let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(pb::GetStatusResponse {
            serving: !gateway.stop.is_cancelled(),
            writable: !stats.poisoned && !stats.full,
            alarms,
            ledger_sequence: stats.last_sequence.0,
            store_bytes: stats.ledger_bytes,
            calls_in_flight: count(gateway.edge.admission.in_flight()),
            connections: count(gateway.edge.connections.len()),
            counts: counters
                .chain(locator(&gateway)?)
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            revocation_lists: lists(&gateway),
            queued_notices: gateway.federation.outbox.len()? as u64,
            ..pb::GetStatusResponse::default()
        })
    })
}

/// How current the locator is: the communities that tell it what they hold, what their last comparisons
/// found together, and the age in seconds of the oldest of these; and of those who never were compared.
fn locator(gateway: &Gateway) -> Result<[(&'static str, u64); 4]> {
    let now = gateway.clock.now();
    let (mut told, mut never, mut differences, mut oldest) = (0, 0, 0, 0);
    for peer in gateway.directory.snapshot().peers() {
        let known = gateway.federation.locator.currency(&peer.home)?;
        told += u64::from(known.heard.is_some());
        differences += known.found.lacking_count + known.found.left_over_count;
        match known.reconciled {
            Some(then) => oldest = oldest.max(now.duration_since(then).as_secs()),
            None => never += u64::from(known.heard.is_some()),
        }
    }
    Ok([
        ("locator.communities", told),
        ("locator.never_reconciled", never),
        ("locator.differences", differences),
        (
            "locator.oldest_reconciliation_seconds",
            u64::try_from(oldest).unwrap_or_default(),
        ),
    ])
}

fn alarm(alarm: Alarm) -> pb::Alarm {
    pb::Alarm {
        code: alarm.code.to_owned(),
        severity: match alarm.severity {
            Severity::Warning => pb::Severity::Warning,
            Severity::Error => pb::Severity::Error,
        }
        .into(),
        message: alarm.message,
        since: Some(crate::wire::timestamp(alarm.since)),
    }
}

fn lists(gateway: &Gateway) -> Vec<pb::RevocationList> {
    let lists = gateway.trust.current().crl_status();
    let told = lists.into_iter().map(|list| pb::RevocationList {
        issuer: list.issuer,
        number: list.number,
        this_update: Some(crate::wire::timestamp(list.this_update)),
        next_update: Some(crate::wire::timestamp(list.next_update)),
        revoked: list.revoked as u64,
    });
    told.collect()
}

/// What a running node does not read again.
const NEEDS_RESTART: &str = "everything in the configuration file; certificate, key, authorities \
     and revocation lists are read again from the files it names";

#[expect(clippy::needless_pass_by_value, reason = "the form of a handler")]
fn reload(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ReloadConfigurationRequest,
) -> Answer<pb::ReloadConfigurationResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::Operate)?;
        permit.require(&[Action::Operate])?;
        let reloaded = if request.validate_only {
            gateway.check_reload().await?
        } else {
            gateway.reload(true).await?
        };
        Ok(pb::ReloadConfigurationResponse {
            changes: reloaded.changes,
            needs_restart: vec![NEEDS_RESTART.to_owned()],
            problems: reloaded.problems,
        })
    })
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_node_info(
        &self,
        request: Request<pb::GetNodeInfoRequest>,
    ) -> Result<Response<pb::GetNodeInfoResponse>, Status> {
        self.0
            .run(method!("GetNodeInfo"), Class::Query, request, info)
            .await
    }

    async fn get_status(
        &self,
        request: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        self.0
            .run(method!("GetStatus"), Class::Query, request, node_status)
            .await
    }

    async fn reload_configuration(
        &self,
        request: Request<pb::ReloadConfigurationRequest>,
    ) -> Result<Response<pb::ReloadConfigurationResponse>, Status> {
        self.0
            .run(
                method!("ReloadConfiguration"),
                Class::Query,
                request,
                reload,
            )
            .await
    }

    type CheckStoreStream = Replies<pb::CheckStoreResponse>;

    async fn check_store(
        &self,
        request: Request<pb::CheckStoreRequest>,
    ) -> Result<Response<Self::CheckStoreStream>, Status> {
        self.0.not_implemented(method!("CheckStore"), request).await
    }

    type CreateBackupStream = Replies<pb::CreateBackupResponse>;

    async fn create_backup(
        &self,
        request: Request<pb::CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        self.0
            .not_implemented(method!("CreateBackup"), request)
            .await
    }

    type RotateKeysStream = Replies<pb::RotateKeysResponse>;

    async fn rotate_keys(
        &self,
        request: Request<pb::RotateKeysRequest>,
    ) -> Result<Response<Self::RotateKeysStream>, Status> {
        self.0.not_implemented(method!("RotateKeys"), request).await
    }

    async fn propose_purge(
        &self,
        request: Request<pb::ProposePurgeRequest>,
    ) -> Result<Response<pb::ProposePurgeResponse>, Status> {
        let method = method!("ProposePurge");
        self.0
            .run(method, Class::Query, request, purges::propose)
            .await
    }

    async fn approve_purge(
        &self,
        request: Request<pb::ApprovePurgeRequest>,
    ) -> Result<Response<pb::ApprovePurgeResponse>, Status> {
        let method = method!("ApprovePurge");
        self.0
            .run(method, Class::Query, request, purges::approve)
            .await
    }

    async fn withdraw_purge(
        &self,
        request: Request<pb::WithdrawPurgeRequest>,
    ) -> Result<Response<pb::WithdrawPurgeResponse>, Status> {
        let method = method!("WithdrawPurge");
        self.0
            .run(method, Class::Query, request, purges::withdraw)
            .await
    }

    async fn list_purges(
        &self,
        request: Request<pb::ListPurgesRequest>,
    ) -> Result<Response<pb::ListPurgesResponse>, Status> {
        let method = method!("ListPurges");
        self.0
            .run(method, Class::Query, request, purges::list)
            .await
    }
}
