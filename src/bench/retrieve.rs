//! `bench retrieve`: documents read by several callers at once, decrypted, hashed and audited, against
//! the same octets written through rustls alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;

use crate::clock::{Clock, SystemClock};
use crate::demo::actor::Caller;
use crate::demo::messages;
use crate::demo::sample::SampleDocument;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;
use crate::wire::pb::documents::document_service_client::DocumentServiceClient;

use super::Figure;
use super::handshake::{bare_acceptor, pair};
use super::rpc::{Bench, CONNECTIONS, RpcSettings};

/// Octets in one write of the floor, and in one read.
const WRITE: usize = 256 * 1024;
/// Both are measured so often in turn, so that neither has the quieter machine.
const ROUNDS: u32 = 4;

/// How to measure.
#[derive(Clone, Debug)]
pub struct RetrieveSettings {
    /// Octets of the document, one figure each.
    pub sizes: Vec<usize>,
    /// Time for each figure, the floor's besides.
    pub time: Duration,
    /// JSON Lines instead of a table.
    pub json: bool,
}

/// Measures and prints.
///
/// # Errors
/// If a node cannot be set up, or a call fails.
pub async fn retrieve(settings: &RetrieveSettings) -> Result<()> {
    let bench = Bench::start(&RpcSettings {
        in_flight: Vec::new(),
        time: settings.time,
        patients: 20,
        json: settings.json,
    })
    .await?;
    let raw = Raw::start().await?;
    for size in &settings.sizes {
        let document = provide(&bench, *size).await?;
        let part = settings.time / ROUNDS;
        let (mut real, mut floor) = (0, 0);
        read(&bench.callers, &document, *size, part / 2).await?;
        raw.read(*size, part / 2).await?;
        for _ in 0..ROUNDS {
            floor += raw.read(*size, part).await?;
            real += read(&bench.callers, &document, *size, part).await?;
        }
        print(*size, real, floor, settings);
    }
    bench.end().await
}

fn print(size: usize, real: u64, floor: u64, settings: &RetrieveSettings) {
    #[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
    let rate = |documents: u64| {
        let mib = documents as f64 * size as f64 / f64::from(1 << 20);
        mib / settings.time.as_secs_f64()
    };
    Figure {
        suite: "retrieve",
        case: format!("RetrieveDocuments {} KiB@{CONNECTIONS}", size / 1024),
        value: rate(real),
        unit: "MiB/s",
        floor: rate(floor),
        floor_name: "bare rustls",
        ratio: rate(real) / rate(floor),
        n: real,
        config: json!({
            "document_bytes": size,
            "connections": CONNECTIONS,
            "decryption": "on",
            "hashing": "SHA-256",
            "audit": "durable before the first octet",
        }),
    }
    .print(settings.json);
}

/// Registers a document of so many octets.
async fn provide(bench: &Bench, size: usize) -> Result<cpb::DocumentRef> {
    let document = bench.sample.documents.first().context("no document")?;
    let content = (0..size).map(|at| u8::try_from(at % 251).unwrap_or(0));
    let document = SampleDocument {
        unique_id: format!("2.25.{size}"),
        content: content.collect(),
        ..document.clone()
    };
    let region = bench.sample.regions.first().context("no region")?;
    let institution = region.institutions.get(document.institution);
    let institution = institution.context("no institution")?;
    let caller = bench.callers.first().context("no caller")?;
    let parts = messages::provide(institution, &bench.repository, &document);
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    let provided = client
        .provide_documents(caller.request(tokio_stream::iter(parts)))
        .await?;
    let result = provided.into_inner().result.unwrap_or_default();
    let entry = result.entries.first().context("nothing registered")?;
    Ok(crate::documents::document_ref(entry))
}

/// Each caller reads the document again and again; how often it was read in all.
async fn read(
    callers: &[Caller],
    document: &cpb::DocumentRef,
    size: usize,
    time: Duration,
) -> Result<u64> {
    let end = Instant::now() + time;
    let mut readers = JoinSet::new();
    for caller in callers.iter().cloned() {
        let request = pb::RetrieveDocumentsRequest {
            documents: vec![pb::DocumentRequest {
                document: Some(document.clone()),
                range: None,
            }],
        };
        readers.spawn(async move {
            let mut client = DocumentServiceClient::new(caller.channel.clone());
            let mut count = 0;
            while Instant::now() < end {
                let answer = client.retrieve_documents(caller.request(request.clone()));
                let mut stream = answer.await?.into_inner();
                let (mut got, mut whole) = (0, false);
                while let Some(message) = stream.next().await {
                    match message?.part.and_then(|part| part.part) {
                        Some(pb::retrieved_part::Part::Chunk(bytes)) => got += bytes.len(),
                        Some(pb::retrieved_part::Part::Trailer(_)) => whole = true,
                        _ => {}
                    }
                }
                ensure!(whole && got == size, "a document came with {got} octets");
                count += 1;
            }
            Ok::<u64, anyhow::Error>(count)
        });
    }
    sum(readers).await
}

async fn sum(mut all: JoinSet<Result<u64>>) -> Result<u64> {
    let mut sum = 0;
    while let Some(one) = all.join_next().await {
        sum += one.context("a reader panicked")??;
    }
    Ok(sum)
}

/// rustls alone: whoever asks for so many octets gets them.
struct Raw {
    address: SocketAddr,
    connector: TlsConnector,
    _server: JoinSet<()>,
}

impl Raw {
    async fn start() -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let pair = pair(&clock)?;
        let acceptor = bare_acceptor(&pair.server, &pair.client)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let tls = acceptor.accept(tcp).await?;
                    serve(tls).await
                });
            }
        });
        Ok(Self {
            address,
            connector: pair.connector,
            _server: tasks,
        })
    }

    async fn read(&self, size: usize, time: Duration) -> Result<u64> {
        let end = Instant::now() + time;
        let mut readers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let tcp = TcpStream::connect(self.address).await?;
            tcp.set_nodelay(true)?;
            let mut tls = self.connector.connect("localhost".try_into()?, tcp).await?;
            readers.spawn(async move {
                let mut buffer = vec![0; WRITE];
                let mut count = 0;
                while Instant::now() < end {
                    tls.write_all(&(size as u64).to_be_bytes()).await?;
                    tls.flush().await?;
                    let mut left = size;
                    while left > 0 {
                        let room = left.min(WRITE);
                        let room = buffer.get_mut(..room).context("the buffer is whole")?;
                        let read = tls.read(room).await?;
                        ensure!(read > 0, "the floor broke off");
                        left -= read;
                    }
                    count += 1;
                }
                Ok::<u64, anyhow::Error>(count)
            });
        }
        sum(readers).await
    }
}

async fn serve(mut tls: tokio_rustls::server::TlsStream<TcpStream>) -> std::io::Result<()> {
    let data = vec![0xA5; WRITE];
    loop {
        let mut asked = [0; 8];
        tls.read_exact(&mut asked).await?;
        let mut left = usize::try_from(u64::from_be_bytes(asked)).unwrap_or(0);
        while left > 0 {
            let part = left.min(WRITE);
            tls.write_all(data.get(..part).unwrap_or_default()).await?;
            left -= part;
        }
        tls.flush().await?;
    }
}
