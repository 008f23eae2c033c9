//! Trust and identity read again while the node runs, and what follows from it: connections whose
//! certificate or registration has ended are cut (bars T-29, T-33).
//!
//! Whatever is bad changes nothing and raises an alarm. What is new is in force for the next
//! handshake; connections that are still good go on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::access::Policies;
use crate::config::Config;
use crate::directory::Snapshot;
use crate::edge::{EMERGENCY_ON_LATE_CRL, Seen, Severity};
use crate::error::{Error, Result};
use crate::pki::{NodeIdentity, TrustStore, Usage, judge};
use crate::types::InstitutionCode;

use super::Gateway;

/// Alarm: a certificate, key or authority file could not be taken.
const FILES: &str = "RELOAD_FAILED";
/// Alarm: a revocation list could not be taken.
const LIST: &str = "CRL_REFUSED";
/// Alarm: a list is past its nextUpdate.
const STALE: &str = "CRL_STALE";
/// Alarm: somebody walks through the patients.
const ENUMERATION: &str = "ENUMERATION";
/// Alarm: the store has stopped.
const STORE_STOPPED: &str = "STORE_STOPPED";
/// Alarm: the wall clock has jumped since the node was started.
const CLOCK_JUMPED: &str = "CLOCK_JUMPED";
/// Alarm: this node's own certificate is not accepted (any more).
const OWN: &str = "OWN_CERTIFICATE";

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    #[cfg(unix)]
    inode: u64,
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some(Stamp {
        modified: found.modified().ok(),
        length: found.len(),
        #[cfg(unix)]
        inode: std::os::unix::fs::MetadataExt::ino(&found),
    })
}

type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// Every file that is read, a folder's own files among them.
fn stamps(config: &Config) -> Stamps {
    let tls = &config.tls;
    let pin = tls.token.as_ref().map(|token| &token.pin_file);
    let one = std::iter::once(&tls.certificate).chain(&tls.key).chain(pin);
    let many = tls.roots.iter().chain(&tls.intermediates).chain(&tls.crls);
    let mut found = Stamps::new();
    for path in one.chain(many).chain(&config.access.policies) {
        found.insert(path.clone(), stamp(path));
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            found.insert(entry.path(), stamp(&entry.path()));
        }
    }
    found
}

/// The files as they were last read.
#[derive(Debug)]
pub(super) struct Watched(Mutex<Stamps>);

impl Watched {
    /// As they are now, which is before they are read.
    pub(super) fn begin(config: &Config) -> Self {
        Self(Mutex::new(stamps(config)))
    }
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What is in force now and was not before, for people.
    pub changes: Vec<String>,
    /// What was wrong and so changed nothing, for people.
    pub problems: Vec<String>,
}

/// What was read, not in force yet.
struct Read {
    trust: Option<TrustStore>,
    identity: Option<NodeIdentity>,
    policies: Option<Policies>,
    files: Vec<String>,
    lists: Vec<String>,
    own: Option<String>,
}

impl Gateway {
    /// Looks at the files and reads them again if any has changed, or if `anyway`.
    ///
    /// # Errors
    /// Only if reading broke off; a bad file is told of in the result.
    pub async fn reload(self: &Arc<Self>, anyway: bool) -> Result<Reloaded> {
        let gateway = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || gateway.reload_now(anyway));
        done.await.map_err(Error::internal)
    }

    /// Says what a reload would do, and does nothing.
    ///
    /// # Errors
    /// If reading broke off.
    pub async fn check_reload(self: &Arc<Self>) -> Result<Reloaded> {
        let gateway = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || gateway.told(&gateway.read()));
        done.await.map_err(Error::internal)
    }

    fn reload_now(&self, anyway: bool) -> Reloaded {
        let mut last = self
            .watched
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Taken before the files are read: what changes meanwhile is seen the next time.
        let now = stamps(&self.config);
        if !anyway && *last == now {
            return Reloaded::default();
        }
        let read = self.read();
        let told = self.told(&read);
        self.put_in_force(read);
        *last = now;
        drop(last);
        self.rejudge();
        told
    }

    /// Reads everything; nothing changes.
    fn read(&self) -> Read {
        let tls = &self.config.tls;
        let mut read = Read {
            trust: None,
            identity: None,
            policies: None,
            files: Vec::new(),
            lists: Vec::new(),
            own: None,
        };
        let in_force = self.trust.current();
        match in_force.renew(&tls.roots, &tls.intermediates, &tls.crls) {
            Ok((trust, problems)) => {
                read.lists = problems.iter().map(ToString::to_string).collect();
                read.trust = Some(trust);
            }
            Err(error) => read.files.push(error.to_string()),
        }
        match super::load_identity(tls) {
            Ok(identity) => read.identity = Some(identity),
            Err(error) => read.files.push(error.to_string()),
        }
        if let Some(folder) = &self.config.access.policies {
            match Policies::from_folder(folder) {
                Ok(policies) => read.policies = Some(policies),
                Err(error) => read.files.push(error.to_string()),
            }
        }
        self.check_own(&mut read, &in_force);
        read
    }

    /// This node must be one that its peers accept. Where it is not, the trust or the certificate
    /// just read is wrong, and stays out of force; unless the old certificate is refused as well, by
    /// a list or by time: that must not keep the revocation of others away.
    fn check_own(&self, read: &mut Read, in_force: &TrustStore) {
        let now = self.clock.now();
        let refused = |identity: &NodeIdentity, trust: &TrustStore| {
            let usages = [Usage::Server, Usage::Institution];
            let mut refusals = usages
                .iter()
                .filter_map(|usage| judge(identity.chain(), trust, *usage, now).err());
            refusals.next()
        };
        let current = self.certificate.current();
        if let Some(trust) = &read.trust {
            let shown = read.identity.as_ref().unwrap_or(&current);
            if let Some(refusal) = refused(shown, trust)
                && let Some(refusal) = refused(&current, trust).map(|_| refusal)
            {
                if matches!(
                    refusal.rule(),
                    "revoked" | "expired" | "crl-expired" | "not-yet-valid"
                ) {
                    read.own = Some(refusal.to_string());
                } else {
                    let message =
                        format!("this node would be refused ({}): {refusal}", refusal.rule());
                    read.files.push(message);
                    read.trust = None;
                }
            }
        }
        let trust = read.trust.as_ref().unwrap_or(in_force);
        if let Some(identity) = &read.identity
            && let Some(refusal) = refused(identity, trust)
        {
            if identity.chain() != current.chain() {
                let message = format!(
                    "the new certificate is refused ({}): {refusal}",
                    refusal.rule()
                );
                read.files.push(message);
            }
            read.identity = None;
        }
    }

    fn told(&self, read: &Read) -> Reloaded {
        let mut told = Reloaded {
            problems: [read.files.as_slice(), read.lists.as_slice()].concat(),
            ..Reloaded::default()
        };
        told.problems.extend(read.own.clone());
        if let Some(identity) = &read.identity
            && identity.chain() != self.certificate.current().chain()
        {
            told.changes
                .push(format!("certificate: {}", identity.pin()));
        }
        if let Some(policies) = &read.policies
            && policies.version() != self.policies.current().version()
        {
            told.changes
                .push(format!("policies: {}", policies.version()));
        }
        if let Some(trust) = &read.trust {
            let known = self.trust.current().crl_status();
            let lists = trust.crl_status();
            let new = lists.iter().filter(|list| !known.contains(list));
            told.changes.extend(
                new.map(|list| format!("revocation list {} of {}", list.number, list.issuer)),
            );
            if !trust.same_authorities(&self.trust.current()) {
                told.changes.push("authorities".to_owned());
            }
        }
        told
    }

    fn put_in_force(&self, read: Read) {
        let counters = &self.edge.counters;
        let now = self.clock.now();
        for (code, messages) in [(FILES, &read.files), (LIST, &read.lists)] {
            for message in messages {
                let severity = Severity::Error;
                self.edge
                    .alarms
                    .raise(code, message, severity, message.clone(), now);
            }
            self.edge.alarms.keep_only(code, messages);
        }
        if read.files.is_empty() && read.lists.is_empty() {
            counters.reloads.add();
        } else {
            counters.reload_failures.add();
        }
        if let Some(identity) = read.identity {
            self.certificate.replace(identity);
        }
        if let Some(policies) = read.policies
            && policies.version() != self.policies.current().version()
        {
            tracing::info!(version = %policies.version(), "other policies are in force");
            self.policies.replace(policies);
        }
        if let Some(trust) = read.trust {
            self.trust.replace(trust);
        }
    }

    /// Judges every connection again, and cuts those whose certificate or registration has ended.
    /// Gives how many.
    pub fn rejudge(&self) -> usize {
        let now = self.clock.now();
        let snapshot = self.directory.snapshot();
        let ended = |seen: &Seen, registered: bool| {
            let certified = self
                .trust
                .judge_for_emergency(&seen.chain, Usage::Institution, now)
                .map_err(|refusal| refusal.rule())?;
            let is = snapshot.participant(&certified, now).is_some();
            if registered && !is {
                return Err("not-registered");
            }
            Ok(is)
        };
        let cut = self.edge.connections.rejudge(ended);
        cut + self.federation.peers.rejudge()
    }

    /// The live connections of an institution as `snapshot` knows it.
    fn connections_of(
        &self,
        institution: &InstitutionCode,
        snapshot: &Snapshot,
    ) -> BTreeMap<u64, CancellationToken> {
        let now = self.clock.now();
        self.edge.connections.select(|seen| {
            let usage = Usage::Institution;
            let certified = self.trust.judge_for_emergency(&seen.chain, usage, now);
            let participant = certified.ok().and_then(|it| snapshot.participant(&it, now));
            participant.is_some_and(|known| known.code.as_ref() == Some(institution))
        })
    }

    /// Does `change`, which may end registrations of an institution, judges every connection again,
    /// and says how many of the institution's were cut.
    ///
    /// # Errors
    /// Those of `change`.
    pub async fn cutting<T>(
        &self,
        institution: &InstitutionCode,
        change: impl Future<Output = Result<T>>,
    ) -> Result<(T, usize)> {
        let before = self.directory.snapshot();
        let mut connections = self.connections_of(institution, &before);
        let done = change.await?;
        // Those that came while the change was under way too: by the directory as it was.
        connections.extend(self.connections_of(institution, &before));
        self.rejudge();
        // Whoever looked first: the watcher of the directory may have cut some already.
        let cut = connections.values().filter(|cut| cut.is_cancelled());
        Ok((done, cut.count()))
    }

    /// What time alone brings about: lists that are late, an own certificate that ends.
    fn watch_time(&self) {
        let now = self.clock.now();
        let alarms = &self.edge.alarms;
        let mut stale = Vec::new();
        for list in self.trust.current().crl_status() {
            if list.next_update < now {
                let message = format!(
                    "the revocation list of {} was to be renewed by {}",
                    list.issuer, list.next_update
                );
                alarms.raise(STALE, &list.issuer, Severity::Error, message, now);
                stale.push(list.issuer);
            }
        }
        alarms.keep_only(STALE, &stale);
        if stale.is_empty() {
            alarms.keep_only(EMERGENCY_ON_LATE_CRL, &[]);
        }
        let mut walking = Vec::new();
        for (institution, message) in self.exposure.suspects(now) {
            alarms.raise(ENUMERATION, &institution, Severity::Warning, message, now);
            walking.push(institution);
        }
        alarms.keep_only(ENUMERATION, &walking);
        let stats = self.store.stats();
        if stats.clock_jumps > 0 {
            let message = format!(
                "the wall clock has jumped {} times since the node was started",
                stats.clock_jumps
            );
            alarms.raise(CLOCK_JUMPED, "clock", Severity::Warning, message, now);
        }
        if stats.poisoned {
            let message =
                "a write to the disk failed; nothing is acknowledged or disclosed until the \
                           node is started again"
                    .to_owned();
            alarms.raise(STORE_STOPPED, "store", Severity::Error, message, now);
        }
        let own = self.certificate.current();
        let judged = self.trust.judge(own.chain(), Usage::Server, now);
        let subjects = match judged {
            Ok(_) => Vec::new(),
            Err(refusal) => {
                let message = format!("this node's certificate is refused: {refusal}");
                alarms.raise(OWN, "own", Severity::Error, message, now);
                vec!["own".to_owned()]
            }
        };
        alarms.keep_only(OWN, &subjects);
    }

    /// Looks at the files and at the time again and again, and at every change of the directory.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut directory = self.directory.watch();
        let mut ticks =
            tokio::time::interval(Duration::from_millis(self.config.reload.interval_ms));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut judged = self.clock.now();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = directory.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.rejudge();
                }
                _ = ticks.tick() => {
                    if let Err(error) = self.reload(false).await {
                        tracing::error!(%error, "a reload broke off");
                    }
                    self.watch_time();
                    // A certificate or registration may end by itself.
                    let now = self.clock.now();
                    if now.duration_since(judged) >= jiff::SignedDuration::from_secs(15) {
                        judged = now;
                        self.rejudge();
                    }
                }
            }
        }
    }
}
