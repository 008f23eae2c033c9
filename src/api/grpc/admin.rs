//! `renkei.admin.v1.AdminService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::access::{Action, Call};
use crate::config::Capability;
use crate::error::Result;
use crate::gateway::Gateway;
use crate::wire::pb::admin as pb;
use crate::wire::pb::admin::admin_service_server::AdminService;

use super::door::{Class, Door, Replies};

macro_rules! method {
    ($name:literal) => {
        concat!("renkei.admin.v1.AdminService/", $name)
    };
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Admin(pub Door);

async fn info(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    _: pb::GetNodeInfoRequest,
) -> Result<pb::GetNodeInfoResponse> {
    let permit = gateway.guard.authorize(&call, Action::Operate)?;
    permit.require(&[Action::Operate])?;
    let now = gateway.clock.now();
    let uptime = now.duration_since(gateway.started);
    let parent = gateway.federation.parent.as_ref();
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
        ..pb::GetNodeInfoResponse::default()
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

async fn node_status(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    _: pb::GetStatusRequest,
) -> Result<pb::GetStatusResponse> {
    let permit = gateway.guard.authorize(&call, Action::Operate)?;
    permit.require(&[Action::Operate])?;
    let stats = gateway.store.stats();
    let mut alarms = Vec::new();
    if stats.poisoned {
        alarms.push(pb::Alarm {
            code: "STORE_STOPPED".to_owned(),
            severity: pb::Severity::Error.into(),
            message: "a disk write failed; nothing is acknowledged until a restart".to_owned(),
            since: None,
        });
    }
    let undelivered = gateway.federation.outbox.undelivered()?;
    if undelivered > 0 {
        alarms.push(pb::Alarm {
            code: "UNDELIVERED".to_owned(),
            severity: pb::Severity::Error.into(),
            message: format!("the parent refused {undelivered} notices for good"),
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
    let in_flight = gateway.config.listen.max_in_flight - gateway.admission.available_permits();
    Ok(pb::GetStatusResponse {
        serving: !gateway.stop.is_cancelled(),
        writable: !stats.poisoned,
        alarms,
        ledger_sequence: stats.last_sequence.0,
        store_bytes: stats.ledger_bytes,
        calls_in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
        queued_notices: gateway.federation.outbox.len()? as u64,
        ..pb::GetStatusResponse::default()
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
            .not_implemented(method!("ReloadConfiguration"), request)
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
}
