//! What comes before the doors: admission by class, quota and load, decided from path and certificate
//! before a message is decoded; the longer grace of late revocation lists that emergencies have; and
//! the audit of calls that never reach a door because of that, or because their message cannot be
//! taken.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use prost::Message as _;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tower::Service;

use crate::access::{ParticipantKind, is_emergency};
use crate::directory::CertifiedPeer as Peer;
use crate::edge::{Admitted, Class, EMERGENCY_ON_LATE_CRL, LedgerPace, Room, Severity, Shed};
use crate::error::{Error, Reason};
use crate::gateway::Gateway;
use crate::pki::Usage;
use crate::types::Holder;
use crate::wire::{ASSERTION, REQUEST_ID, TIME, told_time};

use super::door::{Door, OnLateList};
use super::status::{status, undecoded};

/// What a refused caller should wait.
const RETRY: Duration = Duration::from_millis(500);
/// The same if memory is short, which takes longer to pass.
const RETRY_MEMORY: Duration = Duration::from_secs(2);

/// Batch methods: nobody waits for them.
const BATCH: [&str; 11] = [
    "renkei.admin.v1.AdminService/CheckStore",
    "renkei.admin.v1.AdminService/CreateBackup",
    "renkei.admin.v1.AdminService/RotateKeys",
    "renkei.audit.v1.AuditService/ExportEvents",
    "renkei.audit.v1.AuditService/ReportPatientAccess",
    "renkei.directory.v1.DirectoryService/ApplyDirectory",
    "renkei.consent.v1.ConsentService/ExportConsent",
    "renkei.federation.v1.RespondingGatewayService/CompareHoldings",
    "renkei.federation.v1.RespondingGatewayService/DeliverNotices",
    "renkei.federation.v1.RespondingGatewayService/NotifyHoldings",
    "renkei.identity.v1.IdentityService/LoadPatients",
];

/// A method of the interface.
#[derive(Clone, Copy, Debug)]
struct Method {
    name: &'static str,
    class: Class,
}

/// Every method of this node by its path; its name lives as long as the process.
fn methods() -> &'static HashMap<String, Method> {
    static METHODS: OnceLock<HashMap<String, Method>> = OnceLock::new();
    METHODS.get_or_init(|| {
        let files = prost_types::FileDescriptorSet::decode(crate::wire::DESCRIPTORS);
        let mut methods = HashMap::new();
        for file in files.unwrap_or_default().file {
            for service in &file.service {
                for method in &service.method {
                    let (package, service) = (file.package(), service.name());
                    let name = format!("{package}.{service}/{}", method.name());
                    let path = format!("/{name}");
                    let class = class(&name);
                    let name = String::leak(name);
                    methods.insert(path, Method { name, class });
                }
            }
        }
        methods
    })
}

fn class(name: &str) -> Class {
    if is_emergency(name) {
        Class::Emergency
    } else if BATCH.contains(&name) {
        Class::Batch
    } else {
        Class::Interactive
    }
}

/// The services of a node behind admission.
#[derive(Clone, Debug)]
pub struct Services {
    door: Door,
    gateway: Arc<Gateway>,
    routes: Routes,
}

impl Services {
    /// Puts `routes` behind admission.
    pub(super) fn new(gateway: &Arc<Gateway>, door: Door, routes: Routes) -> Self {
        Self {
            door,
            gateway: Arc::clone(gateway),
            routes: routes.prepare(),
        }
    }

    /// Takes note of the time that another node tells with its call. Says whether it did: then the answer
    /// tells this node's.
    fn hears_time(&self, peer: &Peer, headers: &http::HeaderMap) -> bool {
        let Some(told) = headers.get(TIME) else {
            return false;
        };
        let now = self.gateway.clock.now();
        let directory = self.gateway.directory.snapshot();
        let known = directory.participant(&peer.certified, now);
        let Some(node) = known.filter(|known| known.kind == ParticipantKind::Gateway) else {
            return false;
        };
        self.gateway.clocks.heard(&node.community, told, now);
        true
    }

    fn admit(&self, peer: &Peer, class: Class) -> Result<Arc<Admitted>, Shed> {
        let now = self.gateway.clock.now();
        let participant = self
            .gateway
            .directory
            .snapshot()
            .participant(&peer.certified, now);
        if participant.is_none() {
            self.gateway.edge.counters.unregistered.add();
        }
        let holder = participant.map_or(Holder::Certificate(peer.pin), |known| {
            known.holder(peer.pin)
        });
        let load = self.gateway.store.load();
        let room = Room {
            slots: load.slots,
            pace: LedgerPace {
                waiting: load.waiting,
                commits: load.answered,
                waited: load.waited,
                sync: load.sync,
            },
        };
        let admission = &self.gateway.edge.admission;
        admission.admit(class, holder, room)
    }

    /// Whether the revocation lists of the peer's certificate are in time for this class of calls.
    /// What was so at the handshake may have ended since, or begun again with a new list.
    fn in_time(&self, peer: &Peer, class: Class) -> Result<Option<OnLateList>, Error> {
        let now = self.gateway.clock.now();
        if peer.certified.serves_ordinary(now).is_ok() {
            return Ok(None);
        }
        let trust = &self.gateway.trust;
        let judged = trust.judge_for_emergency(&peer.chain, Usage::Institution, now);
        let (counters, alarms) = (&self.gateway.edge.counters, &self.gateway.edge.alarms);
        let late = match judged.map(|certified| certified.serves_ordinary(now)) {
            Ok(Ok(())) => return Ok(None),
            Ok(Err(late)) if class == Class::Emergency => {
                counters.emergencies_on_late_list.add();
                let issuer = &peer.certified.issuer;
                let message = format!("emergencies are served though the {late}");
                alarms.raise(EMERGENCY_ON_LATE_CRL, issuer, Severity::Error, message, now);
                return Ok(Some(OnLateList));
            }
            Ok(Err(refusal)) | Err(refusal) => refusal,
        };
        counters.refused_late_list.add();
        let message = "no revocation list for the certificate is in time";
        Err(Error::new(Reason::RevocationUnknown, message).caused_by(late.to_string()))
    }
}

/// The answer to a call that was not admitted. The connection is told why.
fn turned_away(shed: Shed) -> Response<Body> {
    let (message, retry) = match shed {
        Shed::Full => ("too many calls at once; try again", RETRY),
        Shed::Quota => ("you have too many calls under way; try again", RETRY),
        Shed::Ledger => ("calls wait for the disk; try again", RETRY),
        Shed::Memory => ("memory is short; try again later", RETRY_MEMORY),
    };
    let error = Error::new(Reason::Overloaded, message).retry_after(retry);
    let mut answer = status(&error).into_http();
    answer.extensions_mut().insert(shed);
    answer
}

/// What the audit needs of a request whose message never reached a door.
fn metadata(headers: &http::HeaderMap) -> MetadataMap {
    let mut kept = http::HeaderMap::new();
    for name in [ASSERTION, REQUEST_ID] {
        if let Some(value) = headers.get(name) {
            kept.insert(name, value.clone());
        }
    }
    MetadataMap::from_headers(kept)
}

/// A call on its way to a door. If its message cannot be taken, or the caller hangs up before it is
/// whole, no door will audit it: this does.
struct Arriving {
    door: Door,
    gateway: Arc<Gateway>,
    method: Method,
    metadata: MetadataMap,
    peer: Peer,
    admitted: Arc<Admitted>,
    answered: bool,
}

impl Arriving {
    /// Audits the call as refused for `error`: in a task of its own, which ends even if the caller
    /// does not wait for it.
    fn audit(&mut self, error: Error) -> impl Future<Output = ()> + use<> {
        self.answered = true;
        let (door, method) = (self.door.clone(), self.method.name);
        let (metadata, peer) = (self.metadata.clone(), self.peer.clone());
        let admitted = Arc::clone(&self.admitted);
        let task = self.gateway.tasks.spawn(async move {
            let _admitted = admitted;
            door.undecoded(method, &metadata, &peer, &error).await;
        });
        async move {
            if let Err(error) = task.await {
                tracing::error!(rpc = method, %error, "a refusal could not be audited");
            }
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.answered && !self.admitted.reached() {
            let message = "the caller hung up before the message was whole";
            drop(self.audit(Error::new(Reason::DeadlineExceeded, message)));
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<B> Service<Request<B>> for Services
where
    B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Answer {
        let method = methods().get(request.uri().path()).copied();
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            let error = Error::new(Reason::UnregisteredCertificate, "no certificate");
            return Box::pin(std::future::ready(Ok(status(&error).into_http())));
        };
        let class = method.map_or(Class::Interactive, |method| method.class);
        let admitted = match self.admit(&peer, class) {
            Ok(admitted) => admitted,
            Err(shed) => return Box::pin(std::future::ready(Ok(turned_away(shed)))),
        };
        if method.is_none() {
            // Not of this interface: it has no audit event.
            admitted.record();
        }
        let told = self.hears_time(&peer, request.headers());
        request.extensions_mut().insert(Arc::clone(&admitted));
        let late = self.in_time(&peer, class);
        let mut arriving = method.map(|method| Arriving {
            door: self.door.clone(),
            gateway: Arc::clone(&self.gateway),
            method,
            metadata: metadata(request.headers()),
            peer,
            admitted: Arc::clone(&admitted),
            answered: false,
        });
        match late {
            Ok(None) => {}
            Ok(Some(late)) => {
                request.extensions_mut().insert(late);
            }
            Err(error) => {
                return Box::pin(async move {
                    let answer = status(&error).into_http();
                    if let Some(mut arriving) = arriving {
                        arriving.audit(error).await;
                    }
                    drop(admitted);
                    Ok(answer)
                });
            }
        }
        let answer = self.routes.call(request);
        let counters = Arc::clone(&self.gateway.edge.counters);
        let clock = Arc::clone(&self.gateway.clock);
        Box::pin(async move {
            let mut answer = answer.await?;
            if !admitted.reached() {
                match (&mut arriving, undecoded(&answer)) {
                    (Some(arriving), Some(error)) => {
                        counters.refused_undecoded.add();
                        answer = status(&error).into_http();
                        arriving.audit(error).await;
                    }
                    (None, Some(_)) => counters.unknown_methods.add(),
                    (_, None) => {}
                }
            }
            if let Some(arriving) = &mut arriving {
                arriving.answered = true;
            }
            if told {
                let time = told_time(clock.now());
                answer.headers_mut().insert(TIME, time);
            }
            answer.extensions_mut().insert(admitted);
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_class() {
        let methods = methods();
        assert!(methods.len() > 60, "{}", methods.len());
        let of = |path: &str| methods[path].class;
        assert_eq!(
            of("/renkei.emergency.v1.EmergencyService/GetSummary"),
            Class::Emergency
        );
        assert_eq!(
            of("/renkei.federation.v1.RespondingGatewayService/GetSummaryItems"),
            Class::Emergency
        );
        assert_eq!(
            of("/renkei.identity.v1.IdentityService/FeedPatient"),
            Class::Interactive
        );
        for name in BATCH {
            assert_eq!(of(&format!("/{name}")), Class::Batch, "{name}");
        }
    }
}
