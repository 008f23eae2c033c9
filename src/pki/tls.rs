//! TLS configurations: 1.3 only, both sides certified, judged by [`super::judge()`].
//!
//! rustls keeps the check of the handshake signature; chain, profile and revocation are ours, since
//! webpki refuses the critical certificatePolicies that HPKI has. No tickets, no session storage,
//! no early data, no key log: every connection is judged.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};

use super::certificate::Certificate;
use super::identity::IdentityHandle;
use super::names;
use super::refusal::{Place, refuse_if};
use super::trust::TrustHandle;
use super::{Certified, Refusal, Usage};
use crate::clock::Clock;
use crate::types::CertificatePin;

/// The one application protocol.
const HTTP2: &[u8] = b"h2";

const ONLY_TLS13: &str = "only TLS 1.3 is offered";

/// What is expected of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerExpectation {
    /// Its DNS name or IP address, which the certificate's subjectAltName must hold exactly.
    pub name: ServerName<'static>,
    /// Its registered keys, one of which it must have: several during a rollover. None: any key.
    pub pins: Vec<CertificatePin>,
}

/// The server side: requires a client certificate that is judged for [`Usage::Institution`].
/// It stays right over reloads: what can change is read from the two handles.
///
/// # Errors
/// [`Error`] if the cryptographic provider lacks TLS 1.3.
pub fn server_config(
    identity: impl Into<IdentityHandle>,
    trust: Arc<TrustHandle>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let time = Arc::new(ClockTime(Arc::clone(&clock)));
    let verifier = Arc::new(ClientVerifier(Verifier {
        trust,
        clock,
        algorithms,
        // What for is known only with each call.
        emergency: true,
    }));
    let mut config = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(identity.into()));
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The client side: presents `identity`; judges the server for [`Usage::Server`] and against
/// `expect`, whatever name the connection was opened with.
///
/// # Errors
/// [`Error`] if the cryptographic provider lacks TLS 1.3.
pub fn client_config(
    identity: impl Into<IdentityHandle>,
    trust: Arc<TrustHandle>,
    clock: Arc<dyn Clock>,
    expect: ServerExpectation,
) -> Result<Arc<ClientConfig>, Error> {
    client(trust, clock, expect, Some(identity.into()), false)
}

/// As [`client_config`], for a server that speaks something else than HTTP/2 over TLS.
///
/// # Errors
/// As [`client_config`].
pub fn bare_client_config(
    identity: impl Into<IdentityHandle>,
    trust: Arc<TrustHandle>,
    clock: Arc<dyn Clock>,
    expect: ServerExpectation,
) -> Result<Arc<ClientConfig>, Error> {
    let config = client_config(identity, trust, clock, expect)?;
    let mut config = ClientConfig::clone(&config);
    config.alpn_protocols.clear();
    Ok(Arc::new(config))
}

/// As [`client_config`], for calls of the emergency class only: revocation lists may be later.
///
/// # Errors
/// As [`client_config`].
pub fn emergency_client_config(
    identity: impl Into<IdentityHandle>,
    trust: Arc<TrustHandle>,
    clock: Arc<dyn Clock>,
    expect: ServerExpectation,
) -> Result<Arc<ClientConfig>, Error> {
    client(trust, clock, expect, Some(identity.into()), true)
}

/// A client side without a certificate, which a node refuses; for tests and scanners.
///
/// # Errors
/// As [`client_config`].
pub fn anonymous_client_config(
    trust: Arc<TrustHandle>,
    clock: Arc<dyn Clock>,
    expect: ServerExpectation,
) -> Result<Arc<ClientConfig>, Error> {
    client(trust, clock, expect, None, false)
}

fn client(
    trust: Arc<TrustHandle>,
    clock: Arc<dyn Clock>,
    expect: ServerExpectation,
    identity: Option<IdentityHandle>,
    emergency: bool,
) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let time = Arc::new(ClockTime(Arc::clone(&clock)));
    let verifier = Arc::new(ServerVerifier {
        verifier: Verifier {
            trust,
            clock,
            algorithms,
            emergency,
        },
        expect,
    });
    let builder = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity)),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// What the peer's certificate certifies, after the handshake: from the verdicts remembered by
/// `trust`, or judged again if trust has changed since. A connection may be for an emergency, so
/// lists have the grace of those; each call is held to its own.
///
/// # Errors
/// [`Refusal`]: no certificate, or no longer accepted.
pub fn certify_peer(
    peer: Option<&[CertificateDer<'_>]>,
    trust: &TrustHandle,
    usage: Usage,
    clock: &dyn Clock,
) -> Result<Arc<Certified>, Refusal> {
    trust.judge_for_emergency(peer.ok_or(Refusal::NoCertificate)?, usage, clock.now())
}

/// The [`Refusal`] that made a handshake fail, if `error` holds one.
pub fn refusal_of<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Refusal> {
    if let Some(io) = error.downcast_ref::<io::Error>() {
        return refusal_of(io.get_ref()?);
    }
    match error.downcast_ref::<Error>() {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) => {
            inner.downcast_ref::<Refusal>()
        }
        Some(_) => None,
        None => refusal_of(error.source()?),
    }
}

/// The rule by which a handshake failed: of our judgement, `no-certificate` if the client showed
/// none, or `tls` for what rustls itself refused.
pub fn rule_of(error: &io::Error) -> &'static str {
    if let Some(refusal) = refusal_of(error) {
        return refusal.rule();
    }
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::NoCertificatesPresented) => Refusal::NoCertificate.rule(),
        _ => "tls",
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn refused(refusal: Refusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

/// rustls's time from ours.
#[derive(Debug)]
struct ClockTime(Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// What both verifiers share.
#[derive(Debug)]
struct Verifier {
    trust: Arc<TrustHandle>,
    clock: Arc<dyn Clock>,
    algorithms: WebPkiSupportedAlgorithms,
    /// Whether revocation lists may be as late as for emergencies.
    emergency: bool,
}

impl Verifier {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        usage: Usage,
    ) -> Result<Arc<Certified>, Refusal> {
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(end_entity).chain(others).cloned().collect();
        let now = self.clock.now();
        if self.emergency {
            self.trust.judge_for_emergency(&chain, usage, now)
        } else {
            self.trust.judge(&chain, usage, now)
        }
    }

    /// The handshake signature, checked by rustls against the bare key: its check against the
    /// certificate would refuse a critical certificatePolicies.
    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let limit = self.trust.current().profiles().limits().certificate_bytes;
        let certificate = Certificate::read(certificate, limit).map_err(refused)?;
        let key = SubjectPublicKeyInfoDer::from(certificate.spki.as_slice());
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    /// What peers may sign with. The PKCS#1 schemes are for signatures in certificates; TLS 1.3
    /// does not allow them in the handshake, and rustls refuses them there.
    fn schemes() -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }
}

#[derive(Debug)]
struct ClientVerifier(Verifier);

impl ClientCertVerifier for ClientVerifier {
    /// No hints: they would be those of the time before a reload, and tell strangers whom we trust.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0
            .judge(end_entity, intermediates, Usage::Institution)
            .map_err(refused)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(ONLY_TLS13.to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Verifier::schemes()
    }
}

#[derive(Debug)]
struct ServerVerifier {
    verifier: Verifier,
    expect: ServerExpectation,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certified = self
            .verifier
            .judge(end_entity, intermediates, Usage::Server)
            .map_err(refused)?;
        let found = certified.spki_sha256;
        let pins = &self.expect.pins;
        let another = !pins.is_empty() && !pins.contains(&found);
        refuse_if(another, Place::EndEntity, || Refusal::Pin { found }).map_err(refused)?;
        let limit = self
            .verifier
            .trust
            .current()
            .profiles()
            .limits()
            .certificate_bytes;
        let certificate = Certificate::read(end_entity, limit).map_err(refused)?;
        let named = names::is_for_server(&certificate, &self.expect.name);
        refuse_if(!named, Place::EndEntity, || Refusal::ServerName {
            name: self.expect.name.to_str().into_owned().into(),
        })
        .map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(ONLY_TLS13.to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Verifier::schemes()
    }
}
