//! The connection to a node: mutual TLS, and what every call carries.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use uuid::Uuid;

use super::failure::Problem;
use super::profile::ClientProfile;
use crate::clock::{Clock, SystemClock};
use crate::pki::assertion::{AssertionSigner, Statement};
use crate::pki::tls::{ServerExpectation, client_config};
use crate::pki::{
    NodeIdentity, Profiles, TrustHandle, TrustOptions, TrustStore, read_certificates,
};
use crate::types::{CertificateThumbprint, Endpoint as Address};
use crate::wire::pb::admin::admin_service_client::AdminServiceClient;
use crate::wire::pb::audit::audit_service_client::AuditServiceClient;
use crate::wire::pb::consent::consent_service_client::ConsentServiceClient;
use crate::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use crate::wire::pb::documents::document_service_client::DocumentServiceClient;
use crate::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use crate::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use crate::wire::pb::identity::identity_service_client::IdentityServiceClient;
use crate::wire::{ASSERTION, REQUEST_ID};

/// How long an assertion is good for: each call has a new one, so it need only outlast the call's
/// way to the last gateway.
const ASSERTION_LIFETIME: Duration = Duration::from_mins(5);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer: a message of 4 MiB, with room for a summary document of that size.
const LARGEST_MESSAGE: usize = 5 * 1024 * 1024;

/// A channel whose calls carry the person's assertion.
pub type Service = InterceptedService<Channel, Caller>;

/// A connection to one node on behalf of one person. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Session {
    channel: Channel,
    caller: Caller,
    community: String,
}

/// Connects as `profile` says.
///
/// # Errors
/// The profile, its files, the connection, or the node's certificate.
pub async fn connect(profile: &ClientProfile) -> Result<Session> {
    connect_at(profile, Arc::new(SystemClock)).await
}

/// Connects as `profile` says, by the time of `clock`.
///
/// # Errors
/// As [`connect`].
pub async fn connect_at(profile: &ClientProfile, clock: Arc<dyn Clock>) -> Result<Session> {
    let profiles = profiles(profile)?;
    let identity = identity(profile)?;
    let address = profile.endpoint()?;
    let trust = TrustStore::load(
        &profile.resolve_all(&profile.roots),
        &profile.resolve_all(&profile.intermediates),
        &profile.resolve_all(&profile.crls),
        profiles.clone(),
        TrustOptions::default(),
    )?;
    let name = ServerName::try_from(address.host().to_owned())
        .with_context(|| format!("endpoint {address}"))?;
    let expect = ServerExpectation {
        name: name.clone(),
        pins: profile.pin()?.into_iter().collect(),
    };
    let tls = client_config(
        &identity,
        TrustHandle::new(trust),
        Arc::clone(&clock),
        expect,
    )?;
    let channel = open(&address, name, TlsConnector::from(tls)).await?;
    let asserted = match profile.statement()? {
        Some(statement) => Some(Asserted {
            signer: Arc::new(AssertionSigner::from_identity(&identity, &profiles)?),
            statement: Arc::new(statement),
        }),
        None => None,
    };
    Ok(Session {
        channel,
        caller: Caller {
            asserted,
            clock,
            timeout: None,
        },
        community: profile.community.clone(),
    })
}

/// A signed assertion as `profile` says, for other tools.
///
/// # Errors
/// The profile, its certificate or its key.
pub fn assertion(
    profile: &ClientProfile,
    presenter: Option<CertificateThumbprint>,
    one_time: bool,
) -> Result<String> {
    let signer = AssertionSigner::from_identity(&identity(profile)?, &profiles(profile)?)?;
    let statement = profile.statement()?;
    let mut statement = statement.ok_or_else(|| Problem::new("the profile has no [person]"))?;
    statement.presenter = presenter;
    statement.one_time = one_time;
    Ok(signer.issue(statement, SystemClock.now(), ASSERTION_LIFETIME)?)
}

/// The thumbprint of the first certificate in `path`, to bind an assertion to.
///
/// # Errors
/// The file.
pub(super) fn thumbprint(path: &Path) -> Result<CertificateThumbprint> {
    let certificates = read_certificates(path)?;
    let first = certificates.first().context("no certificate")?;
    Ok(crate::pki::assertion::thumbprint(first))
}

fn profiles(profile: &ClientProfile) -> Result<Profiles> {
    Ok(match profile.test_profile {
        true => Profiles::test()?,
        false => Profiles::hpki()?,
    })
}

fn identity(profile: &ClientProfile) -> Result<NodeIdentity> {
    let certificate = profile.resolve(&profile.certificate);
    Ok(NodeIdentity::load(
        &certificate,
        &profile.resolve(&profile.key),
    )?)
}

async fn open(address: &Address, name: ServerName<'static>, tls: TlsConnector) -> Result<Channel> {
    let target = address.clone();
    let connector = tower::service_fn(move |_| dial(target.clone(), name.clone(), tls.clone()));
    let endpoint = Endpoint::from_shared(address.to_string())?
        .user_agent(concat!("renkei/", env!("CARGO_PKG_VERSION")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_adaptive_window(true);
    let channel = endpoint.connect_with_connector(connector).await;
    channel.map_err(|error| connect_problem(address, error))
}

async fn dial(
    address: Address,
    name: ServerName<'static>,
    tls: TlsConnector,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let socket = TcpStream::connect((address.host(), address.port())).await?;
    socket.set_nodelay(true)?;
    Ok(TokioIo::new(tls.connect(name, socket).await?))
}

/// Says where the connection failed and why; keeps the cause, so that a refused certificate shows.
fn connect_problem(address: &Address, error: tonic::transport::Error) -> anyhow::Error {
    if crate::pki::tls::refusal_of(&error).is_some() {
        return anyhow::Error::new(error).context(format!("cannot connect to {address}"));
    }
    let mut deepest: &(dyn std::error::Error + 'static) = &error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    Problem::new(format!("cannot connect to {address}: {deepest}"))
        .hint("is the node running, and `endpoint` of the profile right?")
        .into()
}

/// Marks every call: `renkei-assertion` if a person acts, `renkei-request-id`, `grpc-timeout`.
#[derive(Clone, Debug)]
pub struct Caller {
    asserted: Option<Asserted>,
    clock: Arc<dyn Clock>,
    timeout: Option<Duration>,
}

/// Who acts, and who vouches.
#[derive(Clone, Debug)]
struct Asserted {
    signer: Arc<AssertionSigner>,
    statement: Arc<Statement>,
}

impl Asserted {
    /// A new assertion: each call has its own, so that none outlives its use.
    fn sign(&self, clock: &dyn Clock) -> Result<MetadataValue<Ascii>, Status> {
        let statement = Statement::clone(&self.statement);
        let token = self
            .signer
            .issue(statement, clock.now(), ASSERTION_LIFETIME)
            .map_err(|error| Status::unauthenticated(format!("cannot sign: {error}")))?;
        MetadataValue::try_from(token)
            .map_err(|_| Status::unauthenticated("cannot sign: not ASCII"))
    }
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(asserted) = &self.asserted {
            let assertion = asserted.sign(&*self.clock)?;
            request.metadata_mut().insert(ASSERTION, assertion);
        }
        let id = MetadataValue::try_from(Uuid::new_v4().to_string())
            .map_err(|_| Status::internal("request id is not ASCII"))?;
        request.metadata_mut().insert(REQUEST_ID, id);
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        Ok(request)
    }
}

macro_rules! services {
    ($($(#[doc = $doc:literal])+ $method:ident: $client:ident;)+) => {
        impl Session {
            $($(#[doc = $doc])+
            pub fn $method(&self) -> $client<Service> {
                let channel = self.channel.clone();
                $client::with_interceptor(channel, self.caller.clone())
                    .max_decoding_message_size(LARGEST_MESSAGE)
            })+
        }
    };
}

services! {
    /// Patient identities.
    identity: IdentityServiceClient;
    /// Documents of the node's own community.
    documents: DocumentServiceClient;
    /// Documents of all communities.
    federation: InitiatingGatewayServiceClient;
    /// Emergency summaries.
    emergency: EmergencyServiceClient;
    /// Patients' consents.
    consent: ConsentServiceClient;
    /// The audit log.
    audit: AuditServiceClient;
    /// The directory of the network.
    directory: DirectoryServiceClient;
    /// The node itself.
    admin: AdminServiceClient;
}

impl Session {
    /// homeCommunityId of the node, as the profile says.
    pub fn community(&self) -> &str {
        &self.community
    }

    /// What the assertions say; nothing if no person acts.
    pub fn statement(&self) -> Option<&Statement> {
        let asserted = self.caller.asserted.as_ref();
        asserted.map(|asserted| &*asserted.statement)
    }

    /// The same connection with a deadline for every call.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.caller.timeout = Some(timeout);
        self
    }

    /// The same connection for another person, purpose or relation; a system's stays as it is.
    pub fn acting(&self, change: impl FnOnce(&mut Statement)) -> Self {
        let mut session = self.clone();
        if let Some(asserted) = &mut session.caller.asserted {
            change(Arc::make_mut(&mut asserted.statement));
        }
        session
    }
}
