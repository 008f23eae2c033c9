//! Having the audit log witnessed by other communities' nodes, and witnessing theirs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::access::Call;
use crate::audit::merkle::Hash;
use crate::audit::note::{Note, SignatureLine, VerifierKey};
use crate::audit::witness::{Witness, Witnessed};
use crate::audit::{Signed, declared_event};
use crate::clock::Clock;
use crate::config::{AuditSettings, Config};
use crate::edge::Severity;
use crate::error::{Error, Reason, Result};
use crate::federation::peer_error;
use crate::types::HomeCommunityId;
use crate::wire::pb::audit as pb;
use crate::wire::pb::audit::audit_service_client::AuditServiceClient;

use super::Gateway;
use super::audit_log::blocking;
use super::cursor::Cursor;

/// How long a witness may take.
const ANSWER: Duration = Duration::from_secs(3);
/// Alarm: too few witnesses.
const NOT_WITNESSED: &str = "AUDIT_NOT_WITNESSED";
/// Alarm: a log that this node witnesses, or a witness of its own, sees another history.
const FORKED: &str = "AUDIT_LOG_FORKED";

/// A node's witnesses, and what it witnessed itself.
#[derive(Debug)]
pub struct Witnesses {
    keys: Vec<VerifierKey>,
    quorum: usize,
    grace: Duration,
    /// What the node has cosigned of others.
    pub(super) memory: std::sync::Arc<Witness>,
    /// What each witness has cosigned of this log.
    known: Mutex<BTreeMap<String, u64>>,
    /// How long too few have cosigned.
    lacking: Mutex<Option<Lacking>>,
    /// Since when, Unix milliseconds; 0 if enough have. A restart grants no time anew.
    since: Cursor,
    /// Whether it says that too few have; unknown if it could not be written.
    said: Mutex<Option<bool>>,
}

/// How long something has lasted.
#[derive(Clone, Copy, Debug)]
struct Lacking {
    /// Before this start of the node, by the clock on the wall.
    before: Duration,
    /// Since then, by [`crate::clock::Clock::elapsed`].
    from: Duration,
}

impl Lacking {
    fn lasted(&self, elapsed: Duration) -> Duration {
        self.before + elapsed.saturating_sub(self.from)
    }
}

impl Witnesses {
    /// The witnesses of a configuration.
    ///
    /// # Errors
    /// If a key is none of a witness, or there are fewer than the quorum; the disk.
    pub(super) fn new(
        config: &Config,
        memory: Witness,
        since: Cursor,
        clock: &dyn Clock,
    ) -> Result<Self> {
        let settings: &AuditSettings = &config.audit;
        let keys: Vec<VerifierKey> = settings
            .witnesses
            .iter()
            .map(|key| key.parse())
            .collect::<Result<_>>()?;
        if keys.len() < settings.quorum {
            return Err(Error::internal(
                "audit.quorum is larger than the number of audit.witnesses",
            ));
        }
        for key in &keys {
            community(key)?;
        }
        let began = match keys.is_empty() {
            true => None,
            false => since.read()?.filter(|began| *began > 0),
        };
        let lacking = began.map(|began| {
            let now = u64::try_from(clock.now().as_millisecond()).unwrap_or(0);
            Lacking {
                before: Duration::from_millis(now.saturating_sub(began)),
                from: clock.elapsed(),
            }
        });
        Ok(Self {
            keys,
            quorum: settings.quorum,
            grace: Duration::from_mins(settings.grace_minutes),
            memory: std::sync::Arc::new(memory),
            known: Mutex::default(),
            said: Mutex::new(Some(lacking.is_some())),
            lacking: Mutex::new(lacking),
            since,
        })
    }

    /// Whether there is anybody to ask.
    pub(super) fn are_there(&self) -> bool {
        !self.keys.is_empty()
    }

    fn known(&self, name: &str) -> u64 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).copied().unwrap_or(0)
    }

    fn note(&self, name: &str, size: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), size);
    }
}

/// The community whose node has this key: a log is named after it.
fn community(key: &VerifierKey) -> Result<HomeCommunityId> {
    let unnamed = || Error::internal(format!("{} is not the key of a node", key.name));
    let mut parts = key.name.split('/');
    let (_, oid, log) = (parts.next(), parts.next(), parts.next());
    let is_id =
        log.is_some_and(|log| log.len() == 32 && log.bytes().all(|b| b.is_ascii_hexdigit()));
    if !is_id || parts.next().is_some() {
        return Err(unnamed());
    }
    let home = format!("urn:oid:{}", oid.unwrap_or_default()).parse();
    home.map_err(|_| unnamed())
}

impl Gateway {
    /// Asks every witness that has not cosigned `signed`, and counts.
    pub(super) async fn have_witnessed(&self, signed: &Signed) {
        let size = signed.checkpoint.size;
        let lacking = self.witnesses.keys.iter();
        for key in lacking.filter(|key| !signed.note.is_signed_by(key)) {
            let asked = tokio::time::timeout(ANSWER, self.ask(key, signed)).await;
            let asked = asked.unwrap_or_else(|_| {
                Err(Error::new(
                    Reason::DeadlineExceeded,
                    "the witness did not answer",
                ))
            });
            match asked {
                Ok(()) => {}
                Err(error) if error.reason() == Reason::AuditLogBroken => {
                    let message = format!("{} does not see the history of this log", key.name);
                    self.alarm(FORKED, &key.name, message);
                }
                Err(error) => {
                    tracing::warn!(
                        witness = key.name,
                        reason = error.reason().name(),
                        "not witnessed"
                    );
                }
            }
        }
        self.count_witnesses(size).await;
    }

    fn alarm(&self, code: &'static str, subject: &str, message: String) {
        let now = self.clock.now();
        self.edge
            .alarms
            .raise(code, subject, Severity::Error, message, now);
    }

    async fn ask(&self, key: &VerifierKey, signed: &Signed) -> Result<()> {
        let log = self.audit.log();
        let size = signed.checkpoint.size;
        let peers = &self.federation.peers;
        let channel = peers.channel(&*peers.peer(&community(key)?)?)?;
        let mut client = AuditServiceClient::new(channel);
        // The witness may know more than this node remembers, or less.
        for _ in 0..2 {
            let from = self.witnesses.known(&key.name);
            let path = blocking(log, move |log| log.consistency(from.min(size), size)).await?;
            let request = pb::CosignCheckpointRequest {
                idempotency_key: String::new(),
                verifier_key: log.verifier().to_string(),
                checkpoint: signed.note.to_string(),
                from_size: from,
                path: path.iter().map(|hash| hash.to_vec().into()).collect(),
            };
            let answer = client.cosign_checkpoint(request).await.map_err(refusal)?;
            let answer = answer.into_inner();
            if answer.cosignature.is_empty() {
                self.witnesses.note(&key.name, answer.known_size);
                continue;
            }
            log.add_cosignature(size, key, line(&answer.cosignature)?)?;
            self.witnesses.note(&key.name, size);
            return Ok(());
        }
        Err(Error::new(
            Reason::AuditLogBroken,
            "the witness has seen more of this log than there is",
        ))
    }

    /// Whether enough witnesses have cosigned the checkpoint of this size.
    pub(super) fn is_cosigned(&self, size: u64) -> bool {
        let witnesses = &self.witnesses;
        self.audit.log().cosigned(size, &witnesses.keys) >= witnesses.quorum
    }

    /// Notes whether enough witnesses have cosigned what was signed last.
    pub(super) async fn count_witnesses(&self, size: u64) {
        let witnesses = &self.witnesses;
        let count = self.audit.log().cosigned(size, &witnesses.keys);
        let enough = count >= witnesses.quorum;
        let lasted = {
            let mut lacking = witnesses
                .lacking
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let elapsed = self.clock.elapsed();
            if enough {
                *lacking = None;
                Duration::ZERO
            } else {
                let begun = lacking.get_or_insert(Lacking {
                    before: Duration::ZERO,
                    from: elapsed,
                });
                begun.lasted(elapsed)
            }
        };
        if enough {
            self.edge.alarms.keep_only(NOT_WITNESSED, &[]);
        } else {
            let quorum = witnesses.quorum;
            let message = format!("{count} of {quorum} witnesses have cosigned the audit log");
            self.alarm(NOT_WITNESSED, "audit", message);
        }
        self.say_since(enough, lasted).await;
    }

    /// Keeps since when witnesses are lacking, if that is not what is kept; what could not be kept is
    /// kept the next time.
    async fn say_since(&self, enough: bool, lasted: Duration) {
        let witnesses = &self.witnesses;
        let said = || {
            witnesses
                .said
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if *said() == Some(!enough) {
            return;
        }
        let now = u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0);
        let lasted = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        let began = if enough {
            0
        } else {
            now.saturating_sub(lasted).max(1)
        };
        let since = witnesses.since.clone();
        let kept = super::sinks::blocking(move || since.keep(began)).await;
        *said() = kept.is_ok().then_some(!enough);
        if let Err(error) = kept {
            tracing::error!(%error, "since when witnesses are lacking could not be kept");
        }
    }

    /// Refuses what discloses anything while too few have witnessed the log for too long. An
    /// emergency is served all the same.
    ///
    /// # Errors
    /// [`Reason::AuditNotWitnessed`].
    pub fn is_witnessed(&self, method: &str) -> Result<()> {
        let lacking = &self.witnesses.lacking;
        let lacking = *lacking.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = self.clock.elapsed();
        let too_long = lacking.is_some_and(|one| one.lasted(elapsed) >= self.witnesses.grace);
        if !too_long || !discloses(method) {
            return Ok(());
        }
        let message = "the audit log is not witnessed; only emergencies are served";
        Err(Error::new(Reason::AuditNotWitnessed, message))
    }

    /// Cosigns a checkpoint of the caller's log, if it continues what was cosigned before.
    ///
    /// # Errors
    /// [`Reason::NotPermitted`] if the caller is not the gateway of the log's community;
    /// [`Reason::AuditLogBroken`], with an alarm, if it shows another history than before.
    pub async fn cosign(
        &self,
        call: &Call,
        request: pb::CosignCheckpointRequest,
    ) -> Result<pb::CosignCheckpointResponse> {
        let key: VerifierKey = request.verifier_key.parse()?;
        let note: Note = request.checkpoint.parse()?;
        let caller = call.caller();
        let own = community(&key).is_ok_and(|home| home == caller.participant.community);
        if !caller.is_gateway_itself() || !own {
            return Err(Error::not_permitted());
        }
        let size = note.checkpoint()?.size;
        let hash = |hash: &bytes::Bytes| hash.as_ref().try_into();
        let path = request
            .path
            .iter()
            .map(hash)
            .collect::<Result<Vec<Hash>, _>>();
        let path = path.map_err(|_| {
            Error::field(
                Reason::InvalidField,
                "path",
                "has a hash that is not 32 octets",
            )
        })?;
        let memory = std::sync::Arc::clone(&self.witnesses.memory);
        let (name, text) = (key.name.clone(), note.text.clone());
        let judged = tokio::task::spawn_blocking(move || {
            memory.judge(&key, &note, request.from_size, &path)
        });
        let judged = judged
            .await
            .map_err(Error::internal)?
            .inspect_err(|error| {
                if error.reason() == Reason::AuditLogBroken {
                    self.alarm(
                        FORKED,
                        &name,
                        format!("{name} shows another history than before"),
                    );
                }
            })?;
        let time = u64::try_from(self.clock.now().as_second()).unwrap_or(0);
        let log = self.audit.log();
        Ok(match judged {
            Witnessed::Continues => pb::CosignCheckpointResponse {
                cosignature: blocking(log, move |log| Ok(log.cosign(&text, time)))
                    .await?
                    .to_string(),
                known_size: size,
            },
            Witnessed::Known(known_size) => pb::CosignCheckpointResponse {
                cosignature: String::new(),
                known_size,
            },
        })
    }
}

/// A witness that sees another history says so; anything else is that it did not answer.
fn refusal(status: tonic::Status) -> Error {
    use tonic_types::StatusExt as _;
    let info = status.get_details_error_info();
    if info.is_some_and(|info| info.reason == Reason::AuditLogBroken.name()) {
        return Error::new(Reason::AuditLogBroken, "the witness refused").caused_by(status);
    }
    peer_error(status)
}

/// A signature line by itself.
fn line(text: &str) -> Result<SignatureLine> {
    let mut note: Note = format!("-\n\n{text}\n").parse()?;
    let line = note.signatures.pop();
    line.ok_or_else(|| Error::field(Reason::InvalidField, "cosignature", "is not one"))
}

/// Whether a method shows what patients have: identities, documents, consents. Not the emergency
/// service, and not what operators and officers need to mend it.
fn discloses(method: &str) -> bool {
    let services = [
        "renkei.identity.",
        "renkei.documents.",
        "renkei.federation.",
        "renkei.consent.",
    ];
    let emergency = method.ends_with("/GetSummaryItems");
    let reads = matches!(
        declared_event(method).0,
        pb::Action::Read | pb::Action::Execute
    );
    let silent = method.ends_with("/Ping");
    services.iter().any(|service| method.starts_with(service)) && reads && !emergency && !silent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_discloses_is_told_from_what_does_not() {
        for method in [
            "renkei.documents.v1.DocumentService/RetrieveDocuments",
            "renkei.documents.v1.DocumentService/QueryRegistry",
            "renkei.identity.v1.IdentityService/SearchPatients",
            "renkei.federation.v1.RespondingGatewayService/FindDocuments",
        ] {
            assert!(discloses(method), "{method}");
        }
        for method in [
            "renkei.documents.v1.DocumentService/ProvideDocuments",
            "renkei.emergency.v1.EmergencyService/GetSummary",
            "renkei.federation.v1.RespondingGatewayService/GetSummaryItems",
            "renkei.federation.v1.RespondingGatewayService/DeliverNotices",
            "renkei.federation.v1.RespondingGatewayService/Ping",
            "renkei.audit.v1.AuditService/SearchEvents",
            "renkei.admin.v1.AdminService/GetStatus",
        ] {
            assert!(!discloses(method), "{method}");
        }
    }
}
