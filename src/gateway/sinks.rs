//! Carrying the audit log to collectors, beside the calls. Each sink has a durable cursor and takes
//! the log in order from it, at least once: a receiver drops repeats by the record's id
//! (`docs/audit-log.md`). A sink that is slow, full or away holds up nobody; it is alarmed, and goes on
//! where it was. Syslog has no acknowledgement, so what was sent last is sent again on every
//! connection. A FHIR repository says of each event whether it took it; only then the cursor moves.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::audit::leaf::index_of;
use crate::audit::{event_of, fhir, syslog};
use crate::config::{Config, SinkSettings};
use crate::edge::Severity;
use crate::error::{Error, Reason, Result};
use crate::federation::{Peers, Wire};
use crate::store::disk::Disk;
use crate::store::{Frames, Sequence, Store};
use crate::types::{CertificatePin, Endpoint, HomeCommunityId, HttpsUrl};
use crate::wire::pb::audit::AuditEvent;

use super::Gateway;
use super::cursor::Cursor;
use super::http::{Destination, Post};

/// Alarm: a sink does not take what it should.
const BEHIND: &str = "AUDIT_SINK_BEHIND";
/// Frames carried in one go.
const STEP_FRAMES: usize = 512;
/// Frames that come within this time are carried together.
const GATHER: Duration = Duration::from_millis(250);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How long a collector may take to take one go, or to be connected to.
const TAKES: Duration = Duration::from_secs(30);
/// Frames sent again on every connection (`spec` security-bars §3).
const REPLAYED: u64 = 10_000;
/// Events in one Bundle.
const BUNDLE_EVENTS: usize = 100;
/// Octets of a repository's answer to one: some lines for each event.
const MAX_ANSWER: usize = 1024 * 1024;
/// The media type of FHIR in JSON.
const FHIR_JSON: &str = "application/fhir+json";

/// Where the log goes.
#[derive(Clone, Debug)]
enum Kind {
    /// FHIR `AuditEvent`s, one a line.
    File(PathBuf),
    /// DICOM audit messages, RFC 5424 over TLS (RFC 5425).
    Syslog(Endpoint),
    /// FHIR `AuditEvent`s over HTTPS, in Bundles (ITI-20, FHIR feed).
    Fhir(HttpsUrl),
}

/// One sink.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    name: String,
    kind: Kind,
    /// If not empty, the keys one of which the collector's certificate must have.
    pins: Vec<CertificatePin>,
}

/// A node's sinks.
#[derive(Debug)]
pub struct Sinks {
    all: Vec<Sink>,
    pub(super) folder: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    behind: Mutex<BTreeSet<String>>,
}

fn unusable(error: io::Error) -> Error {
    Error::new(Reason::StoreUnavailable, "an audit sink cannot be used").caused_by(error)
}

fn away(error: io::Error) -> Error {
    Error::new(Reason::CommunityUnavailable, "the collector is away").caused_by(error)
}

impl Sink {
    fn new(settings: &SinkSettings) -> Result<Self> {
        let wrong = |what| Error::internal(format!("audit sink {:?}: {what}", settings.name));
        let fit = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if settings.name.is_empty() || settings.name.len() > 32 || !settings.name.chars().all(fit) {
            return Err(wrong("a name is 1 to 32 letters, digits and hyphens"));
        }
        let kind = match (&settings.file, &settings.syslog, &settings.fhir) {
            (Some(file), None, None) => Kind::File(file.clone()),
            (None, Some(collector), None) => {
                let endpoint = format!("https://{collector}").parse();
                Kind::Syslog(endpoint.map_err(|_| wrong("syslog is host:port"))?)
            }
            (None, None, Some(base)) => Kind::Fhir(
                base.parse()
                    .map_err(|_| wrong("fhir is https://host/path"))?,
            ),
            _ => return Err(wrong("exactly one of file, syslog and fhir")),
        };
        let pins = settings.certificate_pin.iter().map(|pin| pin.parse());
        let pins: Vec<CertificatePin> = pins
            .collect::<Result<_, _>>()
            .map_err(|_| wrong("certificate_pin is 64 hex digits"))?;
        if !pins.is_empty() && matches!(kind, Kind::File(_)) {
            return Err(wrong("a file has no certificate"));
        }
        Ok(Self {
            name: settings.name.clone(),
            kind,
            pins,
        })
    }
}

impl Sinks {
    /// The sinks of a configuration, whose cursors are in `folder`.
    ///
    /// # Errors
    /// If a sink is none, or two have one name.
    pub(super) fn new(config: &Config, folder: PathBuf, disk: Arc<dyn Disk>) -> Result<Self> {
        let all: Vec<Sink> = config
            .audit
            .sinks
            .iter()
            .map(Sink::new)
            .collect::<Result<_>>()?;
        let names: BTreeSet<_> = all.iter().map(|sink| &sink.name).collect();
        if names.len() < all.len() {
            return Err(Error::internal("two audit sinks have the same name"));
        }
        Ok(Self {
            all,
            folder,
            disk,
            behind: Mutex::default(),
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Sink> {
        self.all.iter().cloned()
    }
}

/// What is carried in one go, and where to go on.
struct Load {
    frames: Frames,
    events: Vec<(AuditEvent, String)>,
    more: bool,
}

/// Reads what is durable, some hundred frames at most.
fn load(mut frames: Frames, home: &HomeCommunityId, store_id: &[u8; 16]) -> Result<Load> {
    let mut events = Vec::new();
    for _ in 0..STEP_FRAMES {
        let Some(frame) = frames.try_next()? else {
            let more = false;
            return Ok(Load {
                frames,
                events,
                more,
            });
        };
        let index = index_of(frame.sequence);
        for (place, record) in (0..).zip(&frame.audit) {
            let event = event_of(record, index, home)?;
            events.push((event, fhir::record_id(store_id, index, place)));
        }
    }
    let more = true;
    Ok(Load {
        frames,
        events,
        more,
    })
}

/// Appends lines to a file, durable. What a crash left of a line ends where the next begins.
fn append(disk: &dyn Disk, path: &Path, events: &[(AuditEvent, String)]) -> io::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = disk.create(path)?;
            disk.fsync_dir(path.parent().unwrap_or(Path::new(".")))?;
            file
        }
        opened => opened?,
    };
    let length = file.len()?;
    let mut last = [b'\n'];
    if length > 0 {
        file.read_at(&mut last, length - 1)?;
    }
    let mut bytes = Vec::new();
    if last != [b'\n'] {
        bytes.push(b'\n');
    }
    for (event, id) in events {
        serde_json::to_writer(&mut bytes, &fhir::resource(event, id))?;
        bytes.push(b'\n');
    }
    file.write_at(&bytes, length)?;
    file.fdatasync()
}

/// A connection to a syslog collector.
struct Collector {
    reading: ReadHalf<Box<dyn Wire>>,
    writing: WriteHalf<Box<dyn Wire>>,
}

impl Collector {
    async fn send(&mut self, events: &[(AuditEvent, String)]) -> Result<()> {
        let bytes: Vec<u8> = events
            .iter()
            .flat_map(|(event, id)| syslog::frame(event, id))
            .collect();
        let writing = async {
            self.writing.write_all(&bytes).await?;
            self.writing.flush().await
        };
        let written = tokio::time::timeout(TAKES, writing).await;
        written
            .unwrap_or_else(|late| Err(late.into()))
            .map_err(away)
    }

    /// Returns when the collector is gone: it has nothing to say.
    async fn gone(&mut self) -> Error {
        let mut said = [0; 256];
        loop {
            match self.reading.read(&mut said).await {
                Ok(0) => return away(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => return away(error),
            }
        }
    }
}

/// An `AuditEvent` repository. What it takes it keeps under the record's id, so that a repeat changes
/// nothing (`spec` security-bars §3: idempotent PUT, confirmed by status).
struct Repository(Destination);

impl Repository {
    async fn send(&mut self, peers: &Peers, events: &[(AuditEvent, String)]) -> Result<()> {
        for events in events.chunks(BUNDLE_EVENTS) {
            let content = serde_json::to_vec(&bundle(events)).map_err(Error::internal)?;
            let post = Post {
                media_type: FHIR_JSON,
                accept: FHIR_JSON,
                content: content.into(),
                answer_limit: MAX_ANSWER,
            };
            let (status, answer) = self.0.post(peers, &post).await?;
            confirmed(status, &answer, events)?;
        }
        Ok(())
    }
}

/// The events as a Bundle of updates, each to the id it has for ever (FHIR R4 http §3.1.0.11.1, batch;
/// §3.1.0.4.1, update as create).
fn bundle(events: &[(AuditEvent, String)]) -> Value {
    let entry = |(event, id): &(AuditEvent, String)| {
        json!({
            "resource": fhir::resource(event, id),
            "request": {"method": "PUT", "url": format!("AuditEvent/{id}")},
        })
    };
    let entries: Vec<Value> = events.iter().map(entry).collect();
    json!({"resourceType": "Bundle", "type": "batch", "entry": entries})
}

/// Whether the repository says of each event that it took it. Of what it says else nothing goes into
/// an alarm: it is somebody else's text.
fn confirmed(status: StatusCode, answer: &[u8], events: &[(AuditEvent, String)]) -> Result<()> {
    let refused = |message: String| Error::new(Reason::CommunityUnavailable, message);
    if status != StatusCode::OK {
        let message = format!("the repository answered {}", status.as_u16());
        return Err(refused(message));
    }
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let entries = answer.get("entry").and_then(Value::as_array);
    let entries = entries.map_or(&[][..], Vec::as_slice);
    let is_bundle = answer.get("resourceType").and_then(Value::as_str) == Some("Bundle");
    if !is_bundle || entries.len() != events.len() {
        let message = "the repository does not say what it did with each event";
        return Err(refused(message.to_owned()));
    }
    for (entry, (_, id)) in entries.iter().zip(events) {
        let status = entry.pointer("/response/status").and_then(Value::as_str);
        let status = status.unwrap_or_default();
        if !status.starts_with('2') {
            let status: String = status.chars().take_while(char::is_ascii_digit).collect();
            let message = format!("the repository did not take AuditEvent/{id}: {status}");
            return Err(refused(message));
        }
    }
    Ok(())
}

/// The way to a sink.
enum Way {
    File(PathBuf),
    Syslog(Collector),
    Fhir(Box<Repository>),
}

impl Gateway {
    fn cursor(&self, sink: &Sink) -> Cursor {
        let file = self.sinks.folder.join(&sink.name);
        Cursor::new(Arc::clone(&self.sinks.disk), file, self.store.keys())
    }

    /// Carries the log to one sink until the node stops.
    pub(super) async fn keep_sink(self: Arc<Self>, sink: Sink) {
        loop {
            let failed = tokio::select! {
                () = self.stop.cancelled() => return,
                failed = self.carry(&sink) => failed,
            };
            if let Err(error) = failed {
                self.sink_fails(&sink, &error);
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    fn sink_fails(&self, sink: &Sink, error: &Error) {
        let mut behind = self.behind();
        behind.insert(sink.name.clone());
        let (alarms, now) = (&self.edge.alarms, self.clock.now());
        let message = error.to_string();
        alarms.raise(BEHIND, &sink.name, Severity::Error, message, now);
    }

    fn sink_works(&self, sink: &Sink) {
        let mut behind = self.behind();
        if behind.remove(&sink.name) {
            let left: Vec<String> = behind.iter().cloned().collect();
            self.edge.alarms.keep_only(BEHIND, &left);
        }
    }

    fn behind(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        let behind = self.sinks.behind.lock();
        behind.unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries until something fails.
    async fn carry(&self, sink: &Sink) -> Result<()> {
        let cursor = self.cursor(sink);
        let kept = blocking({
            let cursor = cursor.clone();
            move || cursor.read()
        })
        .await?;
        // A ledger that was restored to an earlier state goes on from there, also after the next start.
        let before = kept;
        let kept = Sequence(kept.unwrap_or(1)).min(self.store.last_sequence().next());
        if before.is_some_and(|before| before > kept.0) {
            let cursor = cursor.clone();
            blocking(move || cursor.keep(kept.0)).await?;
        }
        let (mut way, from) = match &sink.kind {
            Kind::File(path) => (Way::File(path.clone()), kept),
            Kind::Syslog(endpoint) => {
                let again = kept.0.saturating_sub(REPLAYED).max(1);
                let collector = self.reach(endpoint, &sink.pins).await?;
                (Way::Syslog(collector), Sequence(again))
            }
            Kind::Fhir(base) => {
                let repository = Repository(Destination::new(base.clone(), sink.pins.clone()));
                (Way::Fhir(Box::new(repository)), kept)
            }
        };
        let mut durable = self.store.watch();
        let mut frames = self.store.frames(from);
        let mut kept = kept;
        loop {
            let (home, store_id) = (self.home.clone(), self.store.keys().store_id());
            let read = blocking(move || load(frames, &home, &store_id)).await?;
            self.deliver(&mut way, read.events).await?;
            let (next, more) = (read.frames.position(), read.more);
            if next > kept {
                let cursor = cursor.clone();
                blocking(move || cursor.keep(next.0)).await?;
                kept = next;
            }
            self.sink_works(sink);
            frames = read.frames;
            if !more {
                await_more(&self.store, &mut durable, &mut way, next).await?;
            }
        }
    }

    async fn deliver(&self, way: &mut Way, events: Vec<(AuditEvent, String)>) -> Result<()> {
        match way {
            Way::File(path) => {
                let (disk, path) = (Arc::clone(&self.sinks.disk), path.clone());
                let append = move || append(disk.as_ref(), &path, &events).map_err(unusable);
                blocking(append).await
            }
            Way::Syslog(collector) => collector.send(&events).await,
            Way::Fhir(repository) => repository.send(&self.federation.peers, &events).await,
        }
    }

    async fn reach(&self, endpoint: &Endpoint, pins: &[CertificatePin]) -> Result<Collector> {
        let connecting = self.federation.peers.bare(endpoint, pins);
        let connected = tokio::time::timeout(TAKES, connecting).await;
        let connected = connected.unwrap_or_else(|late| Err(late.into()));
        let (reading, writing) = tokio::io::split(connected.map_err(away)?);
        Ok(Collector { reading, writing })
    }
}

/// Waits until there is a frame `next`, or a syslog collector is gone.
async fn await_more(
    store: &Store,
    durable: &mut tokio::sync::watch::Receiver<Sequence>,
    way: &mut Way,
    next: Sequence,
) -> Result<()> {
    let coming = async {
        if store.last_sequence() < next {
            let there = durable.wait_for(|last| *last >= next).await;
            there.map(|_| ()).map_err(Error::internal)?;
            tokio::time::sleep(GATHER).await;
        }
        Ok(())
    };
    match way {
        Way::File(_) | Way::Fhir(_) => coming.await,
        Way::Syslog(collector) => tokio::select! {
            there = coming => there,
            gone = collector.gone() => Err(gone),
        },
    }
}

/// Runs blocking work where it holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(Error::internal)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::RealDisk;

    fn settings(name: &str, file: Option<&str>, syslog: Option<&str>) -> SinkSettings {
        SinkSettings {
            name: name.to_owned(),
            file: file.map(PathBuf::from),
            syslog: syslog.map(str::to_owned),
            fhir: None,
            certificate_pin: None,
        }
    }

    #[test]
    fn a_sink_has_a_name_and_one_place() {
        Sink::new(&settings("siem-1", Some("/x"), None)).unwrap();
        Sink::new(&settings("siem-1", None, Some("collector:6514"))).unwrap();
        let fhir = SinkSettings {
            fhir: Some("https://audit.example.jp/fhir".to_owned()),
            certificate_pin: Some("00".repeat(32)),
            ..settings("arr", None, None)
        };
        Sink::new(&fhir).unwrap();
        let plain = Some("http://audit.example.jp/fhir".to_owned());
        for wrong in [
            SinkSettings {
                fhir: plain,
                ..fhir.clone()
            },
            SinkSettings {
                file: Some("/x".into()),
                ..fhir.clone()
            },
            SinkSettings {
                certificate_pin: Some("00".to_owned()),
                ..fhir.clone()
            },
            SinkSettings {
                fhir: None,
                file: Some("/x".into()),
                ..fhir.clone()
            },
            settings("", Some("/x"), None),
            settings("../x", Some("/x"), None),
            settings("a", None, None),
            settings("a", Some("/x"), Some("collector:6514")),
            settings("a", None, Some("collector")),
            settings("a", None, Some("collector:6514/path")),
        ] {
            assert!(Sink::new(&wrong).is_err(), "{wrong:?}");
        }
    }

    /// Only an answer that says of every event that it was taken moves the cursor.
    #[test]
    fn a_repository_has_to_say_what_it_took() {
        let events = ["a-1-0", "a-2-0"].map(|id| (AuditEvent::default(), id.to_owned()));
        let sent = bundle(&events);
        assert_eq!(sent["type"], "batch");
        assert_eq!(sent["entry"][1]["request"]["url"], "AuditEvent/a-2-0");
        assert_eq!(sent["entry"][1]["resource"]["id"], "a-2-0");
        let judge = |status: StatusCode, statuses: &[&str]| {
            let entry = |status: &&str| json!({"response": {"status": status}});
            let entries: Vec<Value> = statuses.iter().map(entry).collect();
            let answer = json!({
                "resourceType": "Bundle", "type": "batch-response", "entry": entries,
            });
            confirmed(status, answer.to_string().as_bytes(), &events)
        };
        judge(StatusCode::OK, &["201 Created", "200"]).unwrap();
        for wrong in [
            judge(StatusCode::ACCEPTED, &["201", "200"]),
            judge(StatusCode::OK, &["201"]),
            judge(StatusCode::OK, &["201", ""]),
            confirmed(StatusCode::OK, b"thank you", &events),
        ] {
            wrong.unwrap_err();
        }
        let error = judge(StatusCode::OK, &["201", "422 <name>"]).unwrap_err();
        let message = "the repository did not take AuditEvent/a-2-0: 422";
        assert!(error.to_string().contains(message), "{error}");
        assert!(!error.to_string().contains("name"), "{error}");
    }

    #[test]
    fn what_a_crash_left_of_a_line_stands_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let event = |id: &str| (AuditEvent::default(), id.to_owned());
        append(&RealDisk, &file, &[event("a"), event("b")]).unwrap();
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() - 9]).unwrap();
        append(&RealDisk, &file, &[event("b"), event("c")]).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let ids: Vec<_> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .map(|resource| resource["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids, ["a", "b", "c"]);
        assert_eq!(text.lines().count(), 4);
    }
}
