//! The domain services of a node, wired once. What every handler holds, and all it holds.

mod audit_log;
mod cursor;
mod http;
mod lists;
mod misuse;
mod notices;
mod purges;
mod reload;
mod search;
mod sinks;
mod witnesses;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Exposure, Policies, PolicyHandle};
use crate::audit::Audit;
use crate::audit::witness::Witness;
use crate::clock::Clock;
use crate::config::{AskOthers, Capability, Config, IndexEngine, Tls};
use crate::consent::{Consents, Grounds, Guard};
use crate::directory::{Authenticator, Directory};
use crate::documents::{Documents, Maker};
use crate::edge::{Severity, State};
use crate::emergency::{self, Disasters, Emergency};
use crate::error::{Error, Reason, Result};
use crate::federation::{
    Broadcasts, Contributions, Correlations, Dialler, Direct, Federation, Links, Locator, Outbox,
    Paths, Peers, Policy, SystemResolver, follow_parent,
};
use crate::identity::Identity;
use crate::pki::{
    IdentityError, IdentityHandle, NodeIdentity, Profiles, TrustHandle, TrustOptions, TrustStore,
};
use crate::purge::Purges;
use crate::store::{
    IndexKind, OpenReport, Options, RootSource, Schema, Store, Upkeep, keep_documents,
};
use crate::types::HomeCommunityId;
use crate::wire::pb::directory::ApplyDirectoryRequest;

pub use lists::fetch;
pub use notices::Notices;
pub use reload::Reloaded;
pub use sinks::Sinks;
pub use witnesses::Witnesses;

/// Document streams at once, below the runtime's blocking threads (512).
const MAX_STREAMS: usize = 256;
/// Subscribers at once: each decrypts every new frame for itself.
const MAX_WATCHES: usize = 64;

/// A node's services.
#[derive(Debug)]
pub struct Gateway {
    /// Its settings.
    pub config: Config,
    /// Its community.
    pub home: HomeCommunityId,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Its durable memory.
    pub store: Arc<Store>,
    /// Who calls.
    pub authenticator: Authenticator,
    /// Whom it trusts.
    pub trust: Arc<TrustHandle>,
    /// Its certificate in force.
    pub certificate: IdentityHandle,
    /// Its edge: who is connected, what is under way, what needs an operator.
    pub edge: Arc<State>,
    /// Where it may connect to.
    pub dialler: Dialler,
    watched: reload::Watched,
    /// Who takes part.
    pub directory: Arc<Directory>,
    /// By which rules.
    pub policies: Arc<PolicyHandle>,
    /// Who was shown whom.
    pub exposure: Exposure,
    /// Who may.
    pub guard: Arc<Guard>,
    /// What patients said.
    pub consents: Arc<Consents>,
    /// Who a patient is.
    pub identity: Arc<Identity>,
    /// Documents here.
    pub documents: Arc<Documents>,
    /// The other communities.
    pub federation: Arc<Federation>,
    /// The minimal summary.
    pub emergency: Arc<Emergency>,
    /// Who makes on-demand documents.
    pub makers: Vec<Arc<dyn Maker>>,
    /// Disaster mode.
    pub disasters: Arc<Disasters>,
    /// Whose keys are to be destroyed.
    pub purges: Purges,
    /// What happened.
    pub audit: Audit,
    /// Answers without records, to measure what they cost: `bench` alone sets it, which a test asserts.
    pub(crate) without_records: bool,
    /// Who else keeps an eye on it.
    pub witnesses: Witnesses,
    /// Where it is carried to.
    pub sinks: Sinks,
    /// Who is told of accesses that somebody has to look at.
    pub notices: Notices,
    /// Document streams at once: each holds a thread while it reads.
    pub streams: Arc<Semaphore>,
    /// Subscribers at once: each reads the ledger.
    pub watches: Arc<Semaphore>,
    /// Work under way, waited for at a stop.
    pub tasks: TaskTracker,
    /// Tells background work to stop.
    pub stop: CancellationToken,
    /// When the node started.
    pub started: jiff::Timestamp,
    /// What was found when the store was opened.
    pub opened: OpenReport,
}

/// Every table a node keeps.
pub fn schema() -> Schema {
    let schema = crate::identity::tables(Schema::new());
    let schema = crate::documents::tables(schema);
    let schema = crate::directory::tables(schema);
    let schema = crate::consent::tables(schema);
    let schema = crate::federation::tables(schema);
    let schema = crate::emergency::tables(schema);
    crate::purge::tables(schema)
}

/// Where the root key of the node's store is.
pub fn root_key(config: &Config) -> RootSource {
    match (&config.keys.token, &config.keys.root_key_file) {
        (Some(token), _) => RootSource::Token(token.clone()),
        (None, Some(file)) => RootSource::File(file.clone()),
        (None, None) => RootSource::File(config.node.data_dir.join("root.key")),
    }
}

/// How the node's store is opened; what the configuration does not say stays as in `options`.
pub fn store_options(config: &Config, options: Options) -> Options {
    Options {
        root: Some(root_key(config)),
        second_copy: config.store.second_copy.clone(),
        index: match config.store.index {
            IndexEngine::Fjall => IndexKind::Fjall,
            IndexEngine::Sled => IndexKind::Sled,
        },
        index_cache_bytes: config.store.index_cache_mib << 20,
        reserve_bytes: config.store.reserve_mib << 20,
        idempotency_kept: Duration::from_hours(u64::from(config.store.idempotency_hours)),
        ..options
    }
}

/// Loads the certificate and key a configuration names.
///
/// # Errors
/// What cannot be used, and why.
pub fn load_identity(tls: &Tls) -> Result<NodeIdentity, IdentityError> {
    match (&tls.token, &tls.key) {
        (Some(token), _) => NodeIdentity::in_token(&tls.certificate, token),
        (None, Some(key)) => NodeIdentity::load(&tls.certificate, key),
        (None, None) => Err(IdentityError::Key {
            origin: "[tls]".into(),
            reason: "neither `key` nor `token` says where it is".into(),
        }),
    }
}

/// Loads the trust a configuration names.
///
/// # Errors
/// The file or certificate that is wrong.
pub fn load_trust(config: &Config) -> Result<TrustStore> {
    let unusable = |error: String| {
        Error::new(Reason::Internal, "the trust store cannot be loaded").caused_by(error)
    };
    let profiles = if config.tls.test_profile {
        Profiles::test()
    } else {
        Profiles::hpki()
    };
    let profiles = profiles.map_err(|error| unusable(error.to_string()))?;
    let hours = |hours: u32| Duration::from_hours(u64::from(hours));
    TrustStore::load(
        &config.tls.roots,
        &config.tls.intermediates,
        &config.tls.crls,
        profiles,
        TrustOptions {
            crl_grace: hours(config.revocation.grace_hours),
            crl_grace_emergency: hours(config.revocation.emergency_grace_hours),
        },
    )
    .map_err(|error| unusable(error.to_string()))
}

/// Loads the policies a configuration names, or the default set.
///
/// # Errors
/// The file that is wrong.
pub fn load_policies(config: &Config) -> Result<Policies> {
    let policies = match &config.access.policies {
        Some(folder) => Policies::from_folder(folder),
        None => Policies::built_in(),
    };
    policies.map_err(|error| {
        Error::new(Reason::Internal, "the policies cannot be loaded").caused_by(error)
    })
}

/// The policies in force; a question without a verdict raises an alarm.
fn policies(config: &Config, edge: &Arc<State>, clock: &Arc<dyn Clock>) -> Result<PolicyHandle> {
    let (edge, clock) = (Arc::clone(edge), Arc::clone(clock));
    Ok(PolicyHandle::new(load_policies(config)?, move |fault| {
        let (code, severity) = ("DECISION_FAILED", Severity::Error);
        let message = fault.message.clone();
        edge.alarms
            .raise(code, "policies", severity, message, clock.now());
    }))
}

/// Where a configuration lets a node connect to.
fn dialler(config: &Config, edge: &State) -> Result<Dialler> {
    let hosts = config.outgoing.hosts.iter().map(|host| host.parse());
    let policy = Policy {
        networks: config.networks().map_err(Error::internal)?,
        hosts: hosts.collect::<Result<_, _>>().map_err(Error::internal)?,
    };
    let resolver = Arc::new(SystemResolver);
    Ok(Dialler::new(policy, resolver, Arc::clone(&edge.counters)))
}

/// Whether a configuration lets a region ask the others itself.
fn direct(config: &Config, clock: &Arc<dyn Clock>) -> Option<Direct> {
    let else_through_parent = match config.parent.as_ref()?.ask {
        AskOthers::ThroughParent => return None,
        AskOthers::Directly => false,
        AskOthers::DirectlyElseThroughParent => true,
    };
    Some(Direct::new(Arc::clone(clock), else_through_parent))
}

impl Gateway {
    /// Opens a node: its certificate, trust, store and services.
    ///
    /// # Errors
    /// What is wrong, for the operator.
    #[expect(clippy::too_many_lines, reason = "the wiring reads best whole")]
    pub async fn open(
        config: Config,
        options: Options,
        directory_file: Option<ApplyDirectoryRequest>,
    ) -> Result<Arc<Self>> {
        let clock = Arc::clone(&options.clock);
        let watched = reload::Watched::begin(&config);
        let certificate = load_identity(&config.tls).map_err(Error::internal)?;
        let certificate = IdentityHandle::new(certificate);
        let edge = State::new(&config.listen);
        let dialler = dialler(&config, &edge)?;
        let trust = TrustHandle::new(load_trust(&config)?);
        let home = config.home().map_err(Error::internal)?;
        let parent = config
            .parent
            .as_ref()
            .map(|parent| parent.home_community_id.parse());
        let parent: Option<HomeCommunityId> = parent.transpose().map_err(Error::internal)?;
        let options = store_options(&config, options);
        let log = audit_log::options(&config, &home, &options);
        let (store, opened) = Store::open(Path::new(&config.node.data_dir), schema(), options)?;
        let log = log(store.keys());
        let audit = Audit::open(Arc::clone(&store), home.clone(), &log)?;
        let memory = Witness::new(log.folder.join("witnessed"), Arc::clone(&log.disk));
        let disk = Arc::clone(&log.disk);
        let lacking = log.folder.join("witnesses").join("lacking");
        let lacking = cursor::Cursor::new(Arc::clone(&disk), lacking, store.keys());
        let witnesses = Witnesses::new(&config, memory, lacking, clock.as_ref())?;
        let notices = Notices::new(&config, log.folder.join("notices"), Arc::clone(&disk))?;
        let sinks = Sinks::new(&config, log.folder.join("sinks"), disk)?;

        let directory = Arc::new(Directory::open(Arc::clone(&store), &config)?);
        if let Some(request) = directory_file {
            directory.preload(request).await?;
        }
        let authenticator = Authenticator::new(
            Arc::clone(&directory),
            Arc::clone(&trust),
            home.clone(),
            parent.clone(),
            clock.now(),
        );
        let consents = Arc::new(Consents::new(Arc::clone(&store), Arc::clone(&clock)));
        let identity = Arc::new(Identity::open(Arc::clone(&store), Arc::clone(&clock))?);
        let policies = Arc::new(policies(&config, &edge, &clock)?);
        let disasters = Disasters::open(Arc::clone(&store), Arc::clone(&clock))?;
        let disasters = Arc::new(disasters);
        let guard = Arc::new(Guard::new(Grounds {
            policies: Arc::clone(&policies),
            consents: Arc::clone(&consents),
            clock: Arc::clone(&clock),
            home: home.clone(),
            parent: parent.clone(),
            persons: Arc::clone(&identity) as Arc<dyn crate::consent::Persons>,
            disasters: Arc::clone(&disasters) as Arc<dyn crate::consent::Declared>,
            default: config.consent.cross_community,
        }));
        let documents = Arc::new(Documents::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            &config,
        )?);
        let purges = Purges::new(Arc::clone(&store), Arc::clone(&clock), home.clone());
        let tasks = TaskTracker::new();
        let contributions = Arc::new(Contributions::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            Duration::from_hours(u64::from(config.emergency.contribution_hours)),
            Duration::from_mins(u64::from(config.emergency.refresh_minutes)),
        ));
        let federation = Arc::new(Federation {
            peers: Arc::new(Peers::new(
                Arc::clone(&directory),
                certificate.clone(),
                Arc::clone(&trust),
                Arc::clone(&clock),
                dialler.clone(),
                Links::new(Arc::clone(&edge.counters)),
            )),
            paths: Paths::new(Arc::new(rand::random)),
            locator: Arc::new(Locator::new(
                Arc::clone(&store),
                Arc::clone(&clock),
                Arc::clone(&contributions),
            )),
            contributions,
            outbox: Arc::new(Outbox::open(
                Arc::clone(&store),
                Arc::clone(&clock),
                parent.clone(),
                config.parent.as_ref().map_or((0, false), |parent| {
                    (parent.queue_items, parent.feeds_patients)
                }),
            )?),
            correlations: Correlations::new(
                Arc::clone(&store),
                Arc::clone(&clock),
                Arc::clone(&identity),
            ),
            broadcasts: Broadcasts::default(),
            direct: direct(&config, &clock),
            parent,
            directory: Arc::clone(&directory),
            identity: Arc::clone(&identity),
            tasks: tasks.clone(),
            stream_ceiling: Duration::from_hours(2),
            stream_idle: Duration::from_millis(config.deadlines.stream_idle_ms),
        });
        let emergency = Arc::new(Emergency::new(
            &store,
            &clock,
            emergency::Parts {
                identity: Arc::clone(&identity),
                documents: Arc::clone(&documents),
                federation: Arc::clone(&federation),
                guard: Arc::clone(&guard),
                precompute: config.emergency.precompute,
                max_age: Duration::from_secs(u64::from(config.emergency.max_age_seconds)),
            },
        ));
        Ok(Arc::new(Self {
            makers: vec![Arc::clone(&emergency) as Arc<dyn Maker>],
            audit,
            without_records: false,
            witnesses,
            sinks,
            notices,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            watches: Arc::new(Semaphore::new(MAX_WATCHES)),
            started: clock.now(),
            stop: CancellationToken::new(),
            config,
            home,
            clock,
            store,
            authenticator,
            trust,
            certificate,
            edge,
            dialler,
            watched,
            directory,
            policies,
            exposure: Exposure::default(),
            guard,
            consents,
            identity,
            documents,
            federation,
            emergency,
            disasters,
            purges,
            tasks,
            opened,
        }))
    }

    /// Starts what runs beside the calls: key rotation, approved purges, keeping the search index, looking
    /// at the files of trust, fetching revocation lists, the outbox, following the parent's directory,
    /// reading documents ahead, and deleting what regions said too long ago, and correlations that have
    /// ended.
    pub fn start(self: &Arc<Self>) {
        let settings = &self.config.store;
        let upkeep = Upkeep {
            scrub_every: Duration::from_hours(settings.scrub_every_hours),
            scrub_bytes_per_second: settings.scrub_mib_per_second << 20,
            swept_kept: Duration::from_hours(u64::from(settings.swept_kept_days) * 24),
        };
        let store = Arc::clone(&self.store);
        self.tasks
            .spawn(keep_documents(store, upkeep, self.stop.clone()));
        self.tasks.spawn(crate::store::keep_keys(
            Arc::clone(&self.store),
            self.config.keys.rotate_after_days,
            self.stop.clone(),
        ));
        self.tasks.spawn(Arc::clone(self).keep_purging());
        self.tasks.spawn(Arc::clone(self).keep_search_index());
        self.tasks.spawn(Arc::clone(self).watch());
        self.tasks.spawn(Arc::clone(self).keep_audit_log());
        self.tasks.spawn(Arc::clone(self).watch_for_misuse());
        if self.witnesses.are_there() {
            self.tasks.spawn(Arc::clone(self).keep_witnessed());
        }
        for sink in self.sinks.all() {
            self.tasks.spawn(Arc::clone(self).keep_sink(sink));
        }
        for channel in self.notices.all() {
            self.tasks.spawn(Arc::clone(self).keep_notices(channel));
        }
        if self.config.revocation.folder.is_some() {
            self.tasks.spawn(Arc::clone(self).keep_fetching());
        }
        if self.config.has(Capability::Repository) {
            let (emergency, stop) = (Arc::clone(&self.emergency), self.stop.clone());
            self.tasks
                .spawn(async move { emergency.keep_reading(stop).await });
        }
        if self.config.has(Capability::Emergency) {
            let contributions = Arc::clone(&self.federation.contributions);
            self.tasks
                .spawn(contributions.keep_swept(self.stop.clone()));
        }
        let (federation, stop) = (Arc::clone(&self.federation), self.stop.clone());
        self.tasks
            .spawn(async move { federation.correlations.keep_swept(stop).await });
        let Some(parent) = self.federation.parent.clone() else {
            return;
        };
        let federation = &self.federation;
        self.tasks.spawn(Arc::clone(&federation.outbox).run(
            Arc::clone(&federation.peers),
            Arc::clone(&self.edge),
            self.stop.clone(),
        ));
        self.tasks.spawn(follow_parent(
            parent,
            Arc::clone(&self.directory),
            Arc::clone(&federation.peers),
            Arc::clone(&self.edge),
            self.stop.clone(),
        ));
    }

    /// Refuses a call for a capability that is not switched on.
    ///
    /// # Errors
    /// [`Reason::RoleNotServed`].
    pub fn serves(&self, capability: Capability) -> Result<()> {
        if self.config.has(capability) {
            return Ok(());
        }
        let message = format!("this node does not serve {capability:?}").to_lowercase();
        Err(Error::new(Reason::RoleNotServed, message))
    }

    /// Stops background work, waits for calls under way (at most `limit`), and closes the store.
    ///
    /// # Errors
    /// If the store cannot be closed cleanly; everything acknowledged is durable all the same.
    pub async fn close(&self, limit: Duration) -> Result<()> {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("calls were still under way at the end of the drain");
        }
        let log = Arc::clone(self.audit.log());
        match tokio::task::spawn_blocking(move || log.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the audit log was not closed in order"),
            Err(error) => tracing::error!(%error, "the audit log was not closed in order"),
        }
        // As long as the store's lock keeps others out.
        self.keep_search().await;
        self.store.close().await?;
        Ok(())
    }
}
