//! Somebody who calls a node: a certificate, and a person's assertion or none.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tonic::transport::Channel;

use crate::clock::Clock;
use crate::federation::Dialler;
use crate::federation::peers::{channel, connect, server_name};
use crate::pki::assertion::{AssertionSigner, Statement};
use crate::pki::tls::{ServerExpectation, anonymous_client_config};
use crate::pki::{NodeIdentity, Profiles, TrustHandle};
use crate::types::{CertificatePin, HomeCommunityId};
use crate::wire::ASSERTION;

use super::world;

/// How long an assertion holds.
const LIFETIME: Duration = Duration::from_mins(15);
/// A call that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A caller of one node.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The connection.
    pub channel: Channel,
    assertion: Option<String>,
}

/// Where to connect, and as whom.
pub struct Link<'a> {
    /// `host:port`.
    pub address: &'a str,
    /// The server's certificate.
    pub pin: CertificatePin,
    /// The caller's certificate.
    pub identity: &'a NodeIdentity,
    /// Whom the caller trusts.
    pub trust: &'a Arc<TrustHandle>,
    /// The time.
    pub clock: &'a Arc<dyn Clock>,
}

impl Caller {
    /// A caller; with `person`, one whose assertion is addressed to `network`.
    ///
    /// # Errors
    /// If the address is malformed, or the assertion cannot be signed.
    pub fn new(
        link: &Link<'_>,
        person: Option<&world::Actor<'_>>,
        network: &HomeCommunityId,
    ) -> Result<Self> {
        let endpoint = format!("https://{}", link.address).parse()?;
        let channel = connect(&endpoint, link.pin, link.identity, link.trust, link.clock)?;
        let assertion = person
            .map(|person| {
                let signer = AssertionSigner::from_identity(link.identity, &Profiles::test()?)?;
                let statement = Statement {
                    subject: person.subject.to_owned(),
                    role: person.role.code().to_owned(),
                    purpose: person.purpose,
                    relation: person.relation,
                    institution: person.institution.parse()?,
                    audience: vec![network.clone()],
                    presenter: None,
                    one_time: false,
                };
                signer
                    .issue(statement, link.clock.now(), LIFETIME)
                    .map_err(|error| anyhow!("cannot sign an assertion: {error}"))
            })
            .transpose()?;
        Ok(Self { channel, assertion })
    }

    /// Somebody who shows no certificate.
    ///
    /// # Errors
    /// If the address is malformed.
    pub fn anonymous(
        address: &str,
        pin: CertificatePin,
        trust: &Arc<TrustHandle>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let endpoint = format!("https://{address}").parse()?;
        let name = server_name(&endpoint)?;
        let expect = ServerExpectation {
            name: name.clone(),
            pins: vec![pin],
        };
        let config = anonymous_client_config(Arc::clone(trust), Arc::clone(clock), expect)?;
        Ok(Self {
            channel: channel(&endpoint, name, config, &Dialler::open())?,
            assertion: None,
        })
    }

    /// The same caller over another connection.
    #[must_use]
    pub fn over(self, channel: Channel) -> Self {
        Self { channel, ..self }
    }

    /// A request by this caller.
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(TIMEOUT);
        if let Some(value) = self
            .assertion
            .as_deref()
            .and_then(|token| token.parse().ok())
        {
            request.metadata_mut().insert(ASSERTION, value);
        }
        request
    }
}
