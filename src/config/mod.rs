//! Settings: one TOML file, environment overrides, everything checked before a node starts.
//!
//! The only reader of files and environment for settings. Unknown keys are refused with their
//! line; an override names its key as `RENKEI__SECTION__KEY` and is checked by the same rules.

mod example;
mod load;
mod parent;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::token::TokenKey;

pub use example::{ExampleRole, example};
pub use load::{ConfigError, ENVIRONMENT_PREFIX};
pub use parent::{AskOthers, Parent};

/// A node's settings. Every path is relative to the working directory unless absolute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// Where it listens, and the limits of its edge.
    #[serde(default)]
    pub listen: Listen,
    /// Its certificate and whom it trusts.
    pub tls: Tls,
    /// What is read again while the node runs.
    #[serde(default)]
    pub reload: Reload,
    /// Revocation lists: how late they may be, and where they are fetched.
    #[serde(default)]
    pub revocation: Revocation,
    /// Where the node may connect to.
    #[serde(default)]
    pub outgoing: Outgoing,
    /// The hub above it. Absent: this node is the hub, or stands alone.
    pub parent: Option<Parent>,
    /// Which patient identifiers it may assert.
    #[serde(default)]
    pub identity: Identity,
    /// Its document repository.
    #[serde(default)]
    pub documents: Documents,
    /// The keys of its store.
    #[serde(default)]
    pub keys: StoreKeys,
    /// Its index.
    #[serde(default)]
    pub store: StoreSettings,
    /// The policies of the decision point.
    #[serde(default)]
    pub access: Access,
    /// Its audit log.
    #[serde(default)]
    pub audit: AuditSettings,
    /// Who is told of accesses that somebody has to look at.
    #[serde(default)]
    pub notices: NoticeSettings,
    /// What looks like misuse.
    #[serde(default)]
    pub misuse: MisuseSettings,
    /// What holds where no consent is recorded.
    #[serde(default)]
    pub consent: Consent,
    /// What is computed ahead for emergencies, and kept.
    #[serde(default)]
    pub emergency: EmergencySettings,
    /// Deadlines, in milliseconds.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// Who takes part, besides what operators apply over the interface.
    #[serde(default)]
    pub directory: Directory,
    /// Logs.
    #[serde(default)]
    pub log: Log,
}

/// What a node does. Switched on by configuration, never by build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Keeps patient identities and links them.
    Identity,
    /// Keeps document metadata.
    Registry,
    /// Keeps documents.
    Repository,
    /// Asks and answers other communities.
    Federation,
    /// Serves the minimal patient summary.
    Emergency,
    /// Keeps the directory for others.
    Directory,
}

/// Who a node is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its community, as `urn:oid:…`.
    pub home_community_id: String,
    /// Its name, for people.
    pub name: String,
    /// The folder of its ledger, blobs and index. One process at a time.
    pub data_dir: PathBuf,
    /// What it does.
    pub capabilities: BTreeSet<Capability>,
    /// How far another node's clock may be from this node's, in seconds, before it is an alarm. It decides
    /// nothing else.
    #[serde(default = "clock_apart_seconds")]
    pub clock_apart_seconds: u32,
}

fn clock_apart_seconds() -> u32 {
    60
}

/// Where a node listens, and the limits of its edge. Sizes are bytes, times milliseconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Address and port; port 0 takes any free one and reports it.
    pub address: SocketAddr,
    /// Connections at once, over all peers.
    pub max_connections: usize,
    /// Connections at once from one address (for IPv6: one /64).
    pub max_connections_per_address: usize,
    /// Connections at once with one certificate.
    pub max_connections_per_certificate: usize,
    /// Connections of one institution, or of one community's gateway, whatever certificates they show.
    pub max_connections_per_institution: usize,
    /// Handshakes under way at once; the oldest gives way to a new one.
    pub max_half_open: usize,
    /// TLS handshakes computed at once, so that new connections do not starve live ones; waiting
    /// for the peer does not count.
    pub max_handshakes: usize,
    /// Time from accept to the end of the TLS handshake.
    pub handshake_timeout_ms: u64,
    /// Time from the handshake to the whole HTTP/2 preface.
    pub preface_timeout_ms: u64,
    /// Time from the preface to the first complete request headers, and of any later header block
    /// from its first to its last byte.
    pub headers_timeout_ms: u64,
    /// What a sender or reader may take for each 64 KiB while the node waits for it: request
    /// bodies, responses, and the connection as a whole.
    pub progress_timeout_ms: u64,
    /// A connection without a call for this long is closed.
    pub idle_timeout_ms: u64,
    /// A connection older than this, give or take a tenth, takes no new calls; the peer opens
    /// another one.
    pub max_connection_age_ms: u64,
    /// How long calls on such a connection may take to end.
    pub connection_grace_ms: u64,
    /// HTTP/2 streams at once on one connection.
    pub max_concurrent_streams: u32,
    /// HTTP/2 header list.
    pub max_header_list_bytes: u32,
    /// Streams reset by the peer before they are accepted, before the connection is closed
    /// (CVE-2023-44487).
    pub max_pending_reset_streams: usize,
    /// Streams this side resets for the peer's faults, before the connection is closed
    /// (CVE-2025-8671).
    pub max_local_error_reset_streams: usize,
    /// Streams reset on one connection in a burst, by the peer or for its faults, before it is
    /// closed; and how many more each second.
    pub max_resets: u32,
    /// See `max_resets`.
    pub resets_per_second: u32,
    /// Frames that carry nothing (SETTINGS, PING, PRIORITY, empty DATA, unknown ones) on one
    /// connection in a burst, before it is closed; and how many more each second.
    pub max_control_frames: u32,
    /// See `max_control_frames`.
    pub control_frames_per_second: u32,
    /// Calls of one connection refused for its institution's quota in a burst, before it rests: it is
    /// not read for a moment after each one more; and how many more each second.
    pub max_refused_calls: u32,
    /// See `max_refused_calls`.
    pub refused_calls_per_second: u32,
    /// One message of a unary call or of a stream.
    pub max_message_bytes: usize,
    /// A ping after this silence, the connection closed when it is not answered in time.
    pub keepalive_interval_ms: u64,
    /// How long a ping may take.
    pub keepalive_timeout_ms: u64,
    /// Calls at once over all connections; more are refused with a retry hint.
    pub max_in_flight: usize,
    /// Calls at once by one institution; emergencies may exceed it by a fifth.
    pub max_in_flight_per_institution: usize,
    /// Calls at once by one gateway, which relays those of its institutions.
    pub max_in_flight_per_gateway: usize,
    /// The share of `max_in_flight` that only emergencies may use.
    pub emergency_share_percent: u8,
    /// The share of `max_in_flight` that batch calls may use.
    pub batch_share_percent: u8,
    /// Ordinary calls at once that are admitted however far the ledger falls behind.
    pub min_in_flight: usize,
    /// When commits wait longer for the ledger than this, and longer than it takes to write four
    /// groups, fewer ordinary calls are admitted.
    pub ledger_wait_ms: u64,
    /// The memory the node may use, in MiB. 0: the limit of its control group, or the machine's.
    pub memory_ceiling_mib: u64,
    /// From this share of the memory ceiling on, batch calls are refused, and interactive ones more
    /// and more; emergencies never.
    pub memory_shed_percent: u8,
    /// After a stop signal: how long calls in flight may take to end.
    pub drain_timeout_ms: u64,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([0, 0, 0, 0], 7443)),
            max_connections: 4096,
            max_connections_per_address: 256,
            max_connections_per_certificate: 32,
            max_connections_per_institution: 64,
            max_half_open: 1024,
            max_handshakes: 8,
            handshake_timeout_ms: 5_000,
            preface_timeout_ms: 5_000,
            headers_timeout_ms: 10_000,
            progress_timeout_ms: 30_000,
            idle_timeout_ms: 900_000,
            max_connection_age_ms: 3_600_000,
            connection_grace_ms: 7_200_000,
            max_concurrent_streams: 100,
            max_header_list_bytes: 16 * 1024,
            max_pending_reset_streams: 20,
            max_local_error_reset_streams: 128,
            max_resets: 256,
            resets_per_second: 32,
            max_control_frames: 1024,
            control_frames_per_second: 256,
            max_refused_calls: 256,
            refused_calls_per_second: 32,
            max_message_bytes: 4 * 1024 * 1024,
            keepalive_interval_ms: 30_000,
            keepalive_timeout_ms: 10_000,
            max_in_flight: 2_048,
            max_in_flight_per_institution: 200,
            max_in_flight_per_gateway: 800,
            emergency_share_percent: 20,
            batch_share_percent: 20,
            min_in_flight: 64,
            ledger_wait_ms: 250,
            memory_ceiling_mib: 0,
            memory_shed_percent: 80,
            drain_timeout_ms: 20_000,
        }
    }
}

/// A node's certificate and trust. Files are PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The node's certificate, then its issuing CA.
    pub certificate: PathBuf,
    /// The node's private key; readable by its owner only. This or `token`.
    pub key: Option<PathBuf>,
    /// The node's private key in a PKCS#11 token, instead of a file.
    pub token: Option<TokenKey>,
    /// Trusted roots. Never the operating system's.
    pub roots: Vec<PathBuf>,
    /// Issuing CAs, if peers do not send them.
    #[serde(default)]
    pub intermediates: Vec<PathBuf>,
    /// Revocation lists: one for each CA. A CA without one is not believed.
    pub crls: Vec<PathBuf>,
    /// Use the built-in test profile (test policy OIDs). Never in production.
    #[serde(default)]
    pub test_profile: bool,
    /// Certificate pins (hex SHA-256 of the public key) of the first operators of this node, who
    /// may apply the directory.
    #[serde(default)]
    pub operators: Vec<String>,
}

/// Reading certificate, key, authorities and revocation lists again. A change of a file is seen by
/// looking; SIGHUP looks at once. What is bad changes nothing and raises an alarm.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reload {
    /// Milliseconds between two looks.
    pub interval_ms: u64,
}

impl Default for Reload {
    fn default() -> Self {
        Self { interval_ms: 2_000 }
    }
}

/// Revocation lists.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Revocation {
    /// Hours past its nextUpdate for which a list still serves, with an alarm; then the
    /// certificates it covers are refused.
    pub grace_hours: u32,
    /// The same for calls of the emergency class, which are taken with an alarm as long as this.
    pub emergency_grace_hours: u32,
    /// `http://` addresses of lists to fetch. Plain http is usual and enough: a list is signed.
    pub fetch: Vec<String>,
    /// Hosts from which lists are also fetched that the distribution points of the node's own
    /// certificate chain name.
    pub hosts: Vec<String>,
    /// The folder fetched lists are kept in; it must be among `tls.crls`. Required for fetching.
    pub folder: Option<PathBuf>,
    /// `http://host:port` of a proxy to fetch through.
    pub proxy: Option<String>,
    /// Milliseconds between two fetches.
    pub interval_ms: u64,
}

impl Default for Revocation {
    fn default() -> Self {
        Self {
            grace_hours: 24,
            emergency_grace_hours: 72,
            fetch: Vec::new(),
            hosts: Vec::new(),
            folder: None,
            proxy: None,
            interval_ms: 3_600_000,
        }
    }
}

/// Where a node may connect to: the endpoints of the directory and of the parent, and the hosts of
/// revocation lists, as far as this allows. Public addresses are allowed; no others are, unless
/// named here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outgoing {
    /// Networks allowed besides public addresses, such as `10.0.0.0/8` of a closed network (IP-VPN).
    pub networks: Vec<String>,
    /// If not empty: the only hosts that are connected to, by name (`gateway.example.jp`,
    /// `*.example.jp`) or address.
    pub hosts: Vec<String>,
}

/// Patient identifiers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// The assigning authorities this community owns (INV-4).
    pub assigning_authorities: Vec<String>,
    /// A matching model of its own: the folder that `renkei identity learn --out` made. It must link by
    /// no fewer bits than the shipped one. Absent: the shipped one. Records that are there already are
    /// not matched again when it changes.
    pub model: Option<PathBuf>,
}

/// The document repository.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Documents {
    /// Its repositoryUniqueId; required with the `repository` capability.
    pub repository_unique_id: Option<String>,
    /// The largest document taken, in bytes.
    pub max_document_bytes: u64,
    /// The community's rules for metadata: a file of code sets, translations and demands (`docs/profile.md`).
    /// Absent: any code, authorInstitution and hash demanded.
    pub profile: Option<PathBuf>,
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            repository_unique_id: None,
            max_document_bytes: 4 * 1024 * 1024 * 1024,
            profile: None,
        }
    }
}

/// The keys of the node's store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreKeys {
    /// The root key, 32 bytes, readable by its owner only; made at the first start. Absent:
    /// `root.key` in the data folder. Best kept on another disk than the data.
    pub root_key_file: Option<PathBuf>,
    /// The root key in a PKCS#11 token, instead of a file: an AES-256 secret key that may encrypt
    /// and decrypt.
    pub token: Option<TokenKey>,
    /// A new key epoch is begun after so many days; 0 leaves it to the operator.
    pub rotate_after_days: u32,
}

impl Default for StoreKeys {
    fn default() -> Self {
        Self {
            root_key_file: None,
            token: None,
            rotate_after_days: 90,
        }
    }
}

/// The node's store. Its index is derived from the ledger: a changed engine is no more than a rebuild.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// The engine.
    pub index: IndexEngine,
    /// The engine's cache, in MiB.
    pub index_cache_mib: u64,
    /// Kept back of the disk for emergencies, in MiB; 0 keeps nothing back.
    pub reserve_mib: u64,
    /// A folder, best on another disk, of second copies of documents; damage is mended from them.
    pub second_copy: Option<PathBuf>,
    /// Every document is verified once in so many hours; 0 leaves it to the operator.
    pub scrub_every_hours: u64,
    /// At most so many MiB a second are read for it.
    pub scrub_mib_per_second: u64,
    /// Documents that nothing refers to are kept aside for so many days before they are deleted.
    pub swept_kept_days: u32,
    /// A request is remembered by its idempotency key for so many hours: what callers rely on when
    /// they repeat one whose answer they did not get. [`Self::LEAST_IDEMPOTENCY_HOURS`] at least.
    pub idempotency_hours: u32,
}

impl StoreSettings {
    /// What the interface promises its callers (`idempotency_key` in every request that writes).
    pub const LEAST_IDEMPOTENCY_HOURS: u32 = 72;
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            index: IndexEngine::default(),
            index_cache_mib: 64,
            reserve_mib: 64,
            second_copy: None,
            scrub_every_hours: 168,
            scrub_mib_per_second: 20,
            swept_kept_days: 35,
            idempotency_hours: Self::LEAST_IDEMPOTENCY_HOURS,
        }
    }
}

/// An engine of the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexEngine {
    /// fjall: writes and rebuilds fastest.
    #[default]
    Fjall,
    /// sled.
    Sled,
}

/// The policies of the decision point.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// A folder with Cedar policies (`*.cedar`, `entities.json`) in place of the default set. Looked
    /// at as the files of trust are: what is bad changes nothing and raises an alarm.
    pub policies: Option<PathBuf>,
}

/// The node's audit log.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSettings {
    /// The key that signs checkpoints, 32 octets (Ed25519), readable by its owner only; made at the
    /// first start. Absent: `audit/log.key` in the data folder. Best kept where the root key is.
    pub key_file: Option<PathBuf>,
    /// The verifier keys of the witnesses: other communities' nodes (`docs/audit-log.md`).
    pub witnesses: Vec<String>,
    /// How many of them must have cosigned what the log says; 0 asks them and does not insist.
    pub quorum: usize,
    /// Minutes without that, with an alarm, until ordinary disclosure stops.
    pub grace_minutes: u64,
    /// Where the events are carried to.
    pub sinks: Vec<SinkSettings>,
}

/// A collector of audit events: one of `file`, `syslog` and `fhir`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSettings {
    /// The name of its cursor and its alarm: letters, digits, hyphens.
    pub name: String,
    /// A file to which each event is appended as a FHIR `AuditEvent`, one a line.
    pub file: Option<PathBuf>,
    /// `host:port` of a syslog collector, which gets DICOM audit messages, RFC 5424 over TLS (RFC 5425).
    /// Its certificate is judged like that of a node.
    pub syslog: Option<String>,
    /// `https://host[:port]/base` of a FHIR R4 repository, which gets the `AuditEvent`s in batch Bundles
    /// of updates to their ids. Its certificate is judged like that of a node.
    pub fhir: Option<String>,
    /// The pin of the collector's certificate (hex SHA-256 of the public key), if it must be that one.
    pub certificate_pin: Option<String>,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            key_file: None,
            witnesses: Vec::new(),
            quorum: 0,
            grace_minutes: 240,
            sinks: Vec::new(),
        }
    }
}

/// Notices that go out, by reference only (`docs/notices.md`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoticeSettings {
    /// Where they go.
    pub channels: Vec<NoticeChannel>,
    /// A review that is overdue is told of again after so many days, until it is made; 1 at least.
    pub overdue_every_days: u32,
}

impl Default for NoticeSettings {
    fn default() -> Self {
        Self {
            channels: Vec::new(),
            overdue_every_days: 7,
        }
    }
}

/// A channel of notices: one of `https` and `folder`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeChannel {
    /// The name of its cursors and its alarm: letters, digits, hyphens.
    pub name: String,
    /// Which notices it takes.
    pub kinds: Vec<NoticeKind>,
    /// Of which institutions, by their 10-digit codes; empty: of all.
    #[serde(default)]
    pub institutions: Vec<String>,
    /// `https://host[:port]/path` to which each notice is posted as a JSON object. The server's
    /// certificate is judged like that of a node.
    pub https: Option<String>,
    /// The pin of that certificate (hex SHA-256 of the public key), if it must be that one.
    pub certificate_pin: Option<String>,
    /// A folder in which each notice is a file `<id>.json`.
    pub folder: Option<PathBuf>,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// A break-glass access, for the institution's privacy officer.
    BreakGlass,
    /// The review of one is overdue.
    ReviewOverdue,
    /// A break-glass access, for whoever tells the patient.
    Patient,
}

impl NoticeKind {
    /// Its name in a configuration and in the notice.
    pub const fn code(self) -> &'static str {
        match self {
            Self::BreakGlass => "break-glass",
            Self::ReviewOverdue => "review-overdue",
            Self::Patient => "patient",
        }
    }
}

/// More than so many look like misuse, and raise an alarm (`docs/misuse.md`). Nothing is refused for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MisuseSettings {
    /// Patients that a person asks about in an hour.
    pub enumeration_per_hour: u32,
    /// The same in a day.
    pub enumeration_per_day: u32,
    /// Questions of a person in an hour that find nobody.
    pub guesses_per_hour: u32,
    /// Refusals of a person in an hour.
    pub refusals_per_hour: u32,
    /// The same in a day.
    pub refusals_per_day: u32,
    /// Records and documents shown to a person in an hour.
    pub disclosed_per_hour: u32,
    /// Calls of a person in a minute.
    pub calls_per_minute: u32,
    /// Break-glass grants of a person in a day.
    pub break_glass_per_day: u32,
    /// Those of all people of an institution.
    pub institution_break_glass_per_day: u32,
    /// Patients shown to a person in a day on a relation that only the person claims.
    pub claimed_relations_per_day: u32,
    /// Purposes that a person states for one patient in an hour.
    pub purposes_per_patient: u32,
    /// Patients that a person looks at in a day at an unusual hour, or for an unusual purpose.
    pub unusual_patients_per_day: u32,
    /// People of one institution who are shown something of one patient in a day.
    pub readers_per_patient: u32,
    /// Patients of whom a person has restricted items shown in a day.
    pub restricted_per_day: u32,
    /// Removals by a person in an hour.
    pub removals_per_hour: u32,
    /// Days that are looked at before anything is called unusual.
    pub baseline_days: u32,
    /// An hour or a purpose is unusual if fewer people of the role than this part of one are there, or
    /// act so, on such a day on average, percent; and fewer than this part of their busiest hour.
    pub unusual_percent: u32,
    /// How far the institutions' clocks are before UTC, minutes.
    pub utc_offset_minutes: i32,
}

impl Default for MisuseSettings {
    fn default() -> Self {
        Self {
            // `spec` security-bars P-05: 50 unrelated patients a user and hour.
            enumeration_per_hour: 50,
            enumeration_per_day: 300,
            guesses_per_hour: 30,
            refusals_per_hour: 10,
            refusals_per_day: 30,
            disclosed_per_hour: 1_000,
            calls_per_minute: 120,
            break_glass_per_day: 5,
            institution_break_glass_per_day: 20,
            claimed_relations_per_day: 20,
            purposes_per_patient: 2,
            unusual_patients_per_day: 3,
            readers_per_patient: 20,
            restricted_per_day: 6,
            removals_per_hour: 20,
            baseline_days: 14,
            unusual_percent: 20,
            utc_offset_minutes: 9 * 60,
        }
    }
}

/// What holds where a patient has recorded nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consent {
    /// The rule for callers of other communities.
    pub cross_community: ConsentDefault,
}

/// Without a recorded directive, is the network's enrolment taken as consent?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsentDefault {
    /// No: a permit must be recorded. The default (implied consent does not cross communities).
    #[default]
    OptIn,
    /// Yes: enrolment covers it, until the patient opts out (一括同意).
    OptOut,
}

/// What is computed ahead for emergencies, and kept.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmergencySettings {
    /// A repository reads documents for the summary when they are registered, not when it is asked for.
    pub precompute: bool,
    /// A hub keeps what regions answered, and shows it so many hours at most if they do not answer; 0:
    /// never. A consent withdrawn at a region that is cut off from the hub is followed after that at
    /// the latest.
    pub contribution_hours: u32,
    /// What is kept and unchanged is written anew after so many minutes, and asked for anew in the
    /// background when it was shown because so old an answer would do.
    pub refresh_minutes: u32,
    /// A caller who does not say how old an answer may be is content with one of so many seconds; 0:
    /// every region is asked.
    pub max_age_seconds: u32,
}

impl Default for EmergencySettings {
    fn default() -> Self {
        Self {
            precompute: true,
            contribution_hours: 24,
            refresh_minutes: 15,
            max_age_seconds: 0,
        }
    }
}

/// Default deadlines by class, and their ceilings (`spec` security-bars §5), in milliseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// Emergency summary.
    pub emergency_ms: u64,
    /// Identity calls.
    pub identity_ms: u64,
    /// Lists, here and across communities.
    pub query_ms: u64,
    /// No caller may ask for more than this for a unary call or a merged list.
    pub ceiling_ms: u64,
    /// The same for the emergency class.
    pub emergency_ceiling_ms: u64,
    /// A document stream without a chunk for this long is ended.
    pub stream_idle_ms: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            emergency_ms: 3_000,
            identity_ms: 2_000,
            query_ms: 3_000,
            ceiling_ms: 10_000,
            emergency_ceiling_ms: 5_000,
            stream_idle_ms: 10_000,
        }
    }
}

/// The directory.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Directory {
    /// A directory file applied at start, if its content is not in force already.
    pub file: Option<PathBuf>,
    /// What happens to an institution code with a wrong check digit when it is registered.
    pub check_digits: CheckDigits,
}

/// What happens to an institution code whose check digit is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckDigits {
    /// It is registered, with a warning: codes in use, and those of the national guides, have them.
    #[default]
    Warn,
    /// It is refused.
    Refuse,
}

/// Logs, on standard error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `json` for machines, `text` for people.
    pub format: LogFormat,
    /// A tracing filter, such as `info` or `renkei=debug,warn`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            filter: "info".to_owned(),
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For reading.
    Text,
}
