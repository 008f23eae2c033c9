//! Carrying the audit log to collectors, beside the calls. Each sink has a durable cursor and takes
//! the log in order from it, at least once: a receiver drops repeats by the record's id
//! (`docs/audit-log.md`). A sink that is slow, full or away holds up nobody; it is alarmed, and goes on
//! where it was. Syslog has no acknowledgement, so what was sent last is sent again on every
//! connection.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::audit::leaf::index_of;
use crate::audit::{event_of, fhir, syslog};
use crate::config::{Config, SinkSettings};
use crate::edge::Severity;
use crate::error::{Error, Reason, Result};
use crate::federation::Wire;
use crate::store::disk::{Disk, read_small, write_small};
use crate::store::{Frames, Sequence, Store};
use crate::types::{Endpoint, HomeCommunityId};
use crate::wire::pb::audit::AuditEvent;

use super::Gateway;

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
/// Octets of a cursor.
const MAX_CURSOR: usize = 64;

/// Where the log goes.
#[derive(Clone, Debug)]
enum Kind {
    /// FHIR `AuditEvent`s, one a line.
    File(PathBuf),
    /// DICOM audit messages, RFC 5424 over TLS (RFC 5425).
    Syslog(Endpoint),
}

/// One sink.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    name: String,
    kind: Kind,
}

/// A node's sinks.
#[derive(Debug)]
pub struct Sinks {
    all: Vec<Sink>,
    folder: PathBuf,
    disk: Arc<dyn Disk>,
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
        let kind = match (&settings.file, &settings.syslog) {
            (Some(file), None) => Kind::File(file.clone()),
            (None, Some(collector)) => {
                let endpoint = format!("https://{collector}").parse();
                Kind::Syslog(endpoint.map_err(|_| wrong("syslog is host:port"))?)
            }
            _ => return Err(wrong("exactly one of file and syslog")),
        };
        Ok(Self {
            name: settings.name.clone(),
            kind,
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

/// How far a sink has got, durable.
#[derive(Clone, Debug)]
struct Cursor {
    disk: Arc<dyn Disk>,
    file: PathBuf,
    /// Of which store.
    store: String,
}

impl Cursor {
    /// The frame that comes next. A cursor of another store is none: that store's log begins.
    fn read(&self) -> Result<Sequence> {
        let text = match read_small(self.disk.as_ref(), &self.file, MAX_CURSOR) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sequence(1)),
            Err(error) => return Err(unusable(error)),
        };
        let damaged = || {
            Error::new(
                Reason::IntegrityFailure,
                "an audit sink's cursor is damaged",
            )
        };
        let text = String::from_utf8(text).map_err(|_| damaged())?;
        let (store, next) = text.trim_end().split_once(' ').ok_or_else(damaged)?;
        let next = next.parse().map_err(|_| damaged())?;
        Ok(match store == self.store {
            true => Sequence(next),
            false => Sequence(1),
        })
    }

    fn keep(&self, next: Sequence) -> Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        self.disk.create_dir_all(folder).map_err(unusable)?;
        let text = format!("{} {}\n", self.store, next.0);
        write_small(self.disk.as_ref(), &self.file, text.as_bytes()).map_err(unusable)
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

impl Gateway {
    fn cursor(&self, sink: &Sink) -> Cursor {
        Cursor {
            disk: Arc::clone(&self.sinks.disk),
            file: self.sinks.folder.join(&sink.name),
            store: data_encoding::HEXLOWER.encode(&self.store.keys().store_id()),
        }
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
        // A ledger that was restored to an earlier state goes on from there.
        let kept = kept.min(self.store.last_sequence().next());
        let (mut collector, from) = match &sink.kind {
            Kind::File(_) => (None, kept),
            Kind::Syslog(endpoint) => {
                let again = kept.0.saturating_sub(REPLAYED).max(1);
                (Some(self.reach(endpoint).await?), Sequence(again))
            }
        };
        let mut durable = self.store.watch();
        let mut frames = self.store.frames(from);
        let mut kept = kept;
        loop {
            let (home, store_id) = (self.home.clone(), self.store.keys().store_id());
            let read = blocking(move || load(frames, &home, &store_id)).await?;
            self.deliver(sink, collector.as_mut(), read.events).await?;
            let (next, more) = (read.frames.position(), read.more);
            if next > kept {
                let cursor = cursor.clone();
                blocking(move || cursor.keep(next)).await?;
                kept = next;
            }
            self.sink_works(sink);
            frames = read.frames;
            if !more {
                await_more(&self.store, &mut durable, collector.as_mut(), next).await?;
            }
        }
    }

    async fn deliver(
        &self,
        sink: &Sink,
        collector: Option<&mut Collector>,
        events: Vec<(AuditEvent, String)>,
    ) -> Result<()> {
        match (&sink.kind, collector) {
            (Kind::File(path), _) => {
                let (disk, path) = (Arc::clone(&self.sinks.disk), path.clone());
                let append = move || append(disk.as_ref(), &path, &events).map_err(unusable);
                blocking(append).await
            }
            (Kind::Syslog(_), Some(collector)) => collector.send(&events).await,
            (Kind::Syslog(_), None) => Err(Error::internal("a collector without connection")),
        }
    }

    async fn reach(&self, endpoint: &Endpoint) -> Result<Collector> {
        let connecting = self.federation.peers.bare(endpoint);
        let connected = tokio::time::timeout(TAKES, connecting).await;
        let connected = connected.unwrap_or_else(|late| Err(late.into()));
        let (reading, writing) = tokio::io::split(connected.map_err(away)?);
        Ok(Collector { reading, writing })
    }
}

/// Waits until there is a frame `next`, or the collector is gone.
async fn await_more(
    store: &Store,
    durable: &mut tokio::sync::watch::Receiver<Sequence>,
    collector: Option<&mut Collector>,
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
    match collector {
        None => coming.await,
        Some(collector) => tokio::select! {
            there = coming => there,
            gone = collector.gone() => Err(gone),
        },
    }
}

async fn blocking<T: Send + 'static>(
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
        }
    }

    #[test]
    fn a_sink_has_a_name_and_one_place() {
        Sink::new(&settings("siem-1", Some("/x"), None)).unwrap();
        Sink::new(&settings("siem-1", None, Some("collector:6514"))).unwrap();
        for wrong in [
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

    #[test]
    fn a_cursor_is_kept_and_is_of_one_store() {
        let folder = tempfile::tempdir().unwrap();
        let cursor = |store: &str| Cursor {
            disk: Arc::new(RealDisk),
            file: folder.path().join("sinks/a"),
            store: store.to_owned(),
        };
        assert_eq!(cursor("aa").read().unwrap(), Sequence(1));
        cursor("aa").keep(Sequence(77)).unwrap();
        cursor("aa").keep(Sequence(78)).unwrap();
        assert_eq!(cursor("aa").read().unwrap(), Sequence(78));
        assert_eq!(cursor("bb").read().unwrap(), Sequence(1));
        std::fs::write(folder.path().join("sinks/a"), "aa x").unwrap();
        assert_eq!(
            cursor("aa").read().unwrap_err().reason(),
            Reason::IntegrityFailure
        );
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
