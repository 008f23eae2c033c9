//! Who takes what nodes post over HTTPS: HTTP/1.1, one connection after another.

use std::sync::Arc;

use renkei::pki::IdentityHandle;
use renkei::pki::tls::server_config;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::{At, Network};

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    /// Request line and headers.
    pub(crate) head: String,
    /// The body.
    pub(crate) content: String,
}

impl Posted {
    /// The path that was posted to.
    pub(crate) fn path(&self) -> &str {
        let line = self.head.lines().next().unwrap();
        line.strip_prefix("POST ")
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
    }
}

/// A receiver that runs until it is stopped or dropped.
pub(crate) struct Receiver(JoinHandle<()>);

impl Receiver {
    /// Answers with status and body, or, with nothing, breaks the connection off. It has the
    /// certificate of a node.
    pub(crate) fn start(
        network: &Network,
        at: At,
        listener: TcpListener,
        answer: impl Fn(Posted) -> Option<(u16, String)> + Send + 'static,
    ) -> Self {
        let name = network.node(at).name.clone();
        let identity = IdentityHandle::new(network.world.identity(&name).unwrap());
        let config = server_config(identity, network.trust(), Arc::clone(&network.clock)).unwrap();
        let mut config = rustls::ServerConfig::clone(&config);
        config.alpn_protocols.clear();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self(tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(tcp).await else {
                    continue;
                };
                while let Some(posted) = read(&mut stream).await {
                    let Some((status, content)) = answer(posted) else {
                        break;
                    };
                    let length = content.len();
                    let answer =
                        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{content}");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        }))
    }

    /// Ends it, and every connection to it.
    pub(crate) async fn stop(mut self) {
        self.0.abort();
        assert!((&mut self.0).await.unwrap_err().is_cancelled());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The next request; `None` when the connection is over.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Posted> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        bytes.push(stream.read_u8().await.ok()?);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await.ok()?;
    let content = String::from_utf8(content).unwrap();
    Some(Posted { head, content })
}
