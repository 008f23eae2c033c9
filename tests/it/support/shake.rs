//! TLS handshakes by hand: a client whose messages can be bent, cut, or held back, before they are
//! encrypted or after. Loopback only, everything bounded.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use renkei::pki::{IdentityHandle, NodeIdentity};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundOpaqueMessage,
    OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, aws_lc_rs};
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, ContentType, DigitallySignedStruct, Error,
    SignatureScheme, SupportedCipherSuite, Tls13CipherSuite,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::tier::Dice;

/// What takes longer has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// What is done with bytes that are to be sent.
pub(crate) enum Sent {
    /// They, or others in their place, are sent.
    On(Vec<u8>),
    /// So many of them, and then nothing any more.
    Stop(Vec<u8>),
}

/// How a handshake went.
#[derive(Debug, Default)]
pub(crate) struct Shaken {
    /// All that the server said.
    pub(crate) said: Vec<u8>,
    /// Whether the client thinks that the handshake is done.
    pub(crate) done: bool,
    /// Whether the server closed the connection.
    pub(crate) closed: bool,
    /// From the first byte to the end.
    pub(crate) lived: Duration,
}

/// Shakes hands, sending what `alter` makes of each flight; and waits for the end. `bent` are the
/// dice by which one record of the second flight is bent before it is encrypted.
pub(crate) async fn shake(
    mut tcp: TcpStream,
    config: Arc<ClientConfig>,
    mut bent: Option<Dice>,
    mut alter: impl FnMut(Vec<u8>) -> Sent,
) -> Shaken {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut client = ClientConnection::new(config, name).unwrap();
    let mut shaken = Shaken::default();
    let began = Instant::now();
    let shaking = async {
        let mut buffer = vec![0; 16 << 10];
        let mut goes_on = true;
        while goes_on {
            let mut out = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut out)?;
            }
            if !out.is_empty() {
                match alter(out) {
                    Sent::On(bytes) => tcp.write_all(&bytes).await?,
                    Sent::Stop(bytes) => {
                        tcp.write_all(&bytes).await?;
                        break;
                    }
                }
            }
            shaken.done = !client.is_handshaking();
            if shaken.done {
                tcp.shutdown().await?;
                break;
            }
            let count = tcp.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            let mut came = &buffer[..count];
            shaken.said.extend(came);
            while !came.is_empty() && goes_on {
                client.read_tls(&mut came)?;
                BENT.set(bent.take());
                // A server that says what cannot be is of no concern here; its end is.
                goes_on = client.process_new_packets().is_ok();
                bent = BENT.take();
            }
        }
        tcp.read_to_end(&mut shaken.said).await?;
        Ok::<_, std::io::Error>(())
    };
    // Reset, or closed: both are an end.
    shaken.closed = tokio::time::timeout(LIMIT, shaking).await.is_ok();
    shaken.lived = began.elapsed();
    shaken
}

/// A client's configuration for [`shake`], which believes any server.
pub(crate) fn config(identity: &NodeIdentity) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider()));
    let mut config = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_cert_resolver(Arc::new(IdentityHandle::new(identity.clone())));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// Changes bytes in one to three ways; never into themselves.
pub(crate) fn bend(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let before = bytes.clone();
    for _ in 0..=dice.below(3) {
        let (at, other) = (dice.place(bytes.len()), dice.place(bytes.len()));
        let (from, to) = (at.min(other), at.max(other));
        match dice.below(9) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            2 if at < bytes.len() => bytes[at] = dice.octet(),
            // What is likely a length.
            3 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.place(4)],
            4 => {
                let run: Vec<u8> = (0..dice.below(40)).map(|_| dice.octet()).collect();
                bytes.splice(at..at, run);
            }
            5 => drop(bytes.drain(from..to.min(from + 40))),
            6 => {
                let run = bytes[from..to].to_vec();
                bytes.splice(to..to, run);
            }
            7 => bytes.truncate(at),
            _ => bytes[from..to].reverse(),
        }
    }
    bytes.truncate(16_000);
    if *bytes == before {
        match bytes.first_mut() {
            Some(first) => *first ^= 0x40,
            None => bytes.push(0),
        }
    }
}

/// Bends a plain handshake record: the whole of it, or its message with lengths that still fit.
pub(crate) fn bend_record(dice: &mut Dice, record: &mut Vec<u8>) {
    let Some((head, content)) = record.split_at_checked(5) else {
        return bend(dice, record);
    };
    let (mut head, mut content) = (head.to_vec(), content.to_vec());
    bend_messages(dice, &mut content);
    if dice.below(4) > 0 {
        let length = u16::try_from(content.len()).unwrap();
        head[3..].copy_from_slice(&length.to_be_bytes());
    }
    *record = [head, content].concat();
}

/// Bends handshake messages that follow one another: all of it, or one of them, whose length is
/// made to fit.
fn bend_messages(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let mut messages = Vec::new();
    let mut at = 0;
    while let Some([_, a, b, c]) = bytes.get(at..at + 4) {
        let end = at + 4 + u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if end > bytes.len() {
            break;
        }
        messages.push(at + 4..end);
        at = end;
    }
    if messages.is_empty() || dice.below(4) == 0 {
        return bend(dice, bytes);
    }
    let chosen = messages[usize::try_from(dice.below(messages.len() as u64)).unwrap()].clone();
    let mut body = bytes[chosen.clone()].to_vec();
    bend(dice, &mut body);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    bytes[chosen.start - 3..chosen.start].copy_from_slice(&length[1..]);
    bytes.splice(chosen, body);
}

thread_local! {
    /// The dice for the next encrypter that is made on this thread.
    static BENT: RefCell<Option<Dice>> = const { RefCell::new(None) };
}

/// The usual cryptography, one record of which may be bent on its way to encryption.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let usual = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
        let SupportedCipherSuite::Tls13(usual) = usual;
        let suite = Tls13CipherSuite {
            common: CipherSuiteCommon {
                suite: usual.common.suite,
                hash_provider: usual.common.hash_provider,
                confidentiality_limit: usual.common.confidentiality_limit,
            },
            hkdf_provider: usual.hkdf_provider,
            // Made once for the whole process.
            aead_alg: Box::leak(Box::new(Bending(usual.aead_alg))),
            quic: None,
        };
        let suite: &'static Tls13CipherSuite = Box::leak(Box::new(suite));
        Arc::new(CryptoProvider {
            cipher_suites: vec![SupportedCipherSuite::Tls13(suite)],
            ..aws_lc_rs::default_provider()
        })
    })
}

struct Bending(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for Bending {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(BendingEncrypter {
            usual: self.0.encrypter(key, iv),
            bent: BENT.take(),
        })
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }
}

struct BendingEncrypter {
    usual: Box<dyn MessageEncrypter>,
    bent: Option<Dice>,
}

impl MessageEncrypter for BendingEncrypter {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        if message.typ != ContentType::Handshake {
            return self.usual.encrypt(message, sequence);
        }
        let Some(mut dice) = self.bent.take() else {
            return self.usual.encrypt(message, sequence);
        };
        let mut payload = message.payload.to_vec();
        bend_messages(&mut dice, &mut payload);
        let bent = OutboundPlainMessage {
            typ: message.typ,
            version: message.version,
            payload: OutboundChunks::Single(&payload),
        };
        self.usual.encrypt(bent, sequence)
    }

    fn encrypted_payload_len(&self, length: usize) -> usize {
        self.usual.encrypted_payload_len(length)
    }
}

/// Believes any server: what is tried is the server's judgement, not the client's.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
