//! What every method does around its handler: authenticate, admit, bound, run to the end, audit,
//! answer (INV-2, INV-7).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status};

use crate::access::{Call, Denial, is_served_on_a_full_disk};
use crate::audit::{Outcome, Receipt, Record, Who};
use crate::directory::{Arrival, CertifiedPeer as Peer, Unauthenticated};
use crate::edge::{self, Admitted};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::gateway::Gateway;
use crate::store::{Commit, Outcome as Stored};
use crate::types::{PersonRole, PurposeOfUse};
use crate::wire::{ASSERTION, RECEIPT, REQUEST_ID};

use super::revocable::{Judged, Leave, Revocable};
use super::status::status;

/// A stream of messages to a caller.
pub(super) type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a handler does. It is boxed where it is defined: that all of it may go to another thread is
/// then shown once, and not again in every method of a service, which took the compiler minutes.
pub(super) type Answer<A> = Pin<Box<dyn Future<Output = Result<A>> + Send>>;

/// What a method does with a message.
pub(super) type Handler<Q, A> = fn(Arc<Gateway>, Arc<Call>, Q) -> Answer<A>;

/// A handler with its message.
type Start<A> = Box<dyn FnOnce(Arc<Gateway>, Arc<Call>) -> Answer<A> + Send>;

/// What a caller is told.
type Told<'a, A> = Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send + 'a>>;

/// The class of a method: its default deadline and ceiling (`spec` security-bars §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The emergency summary.
    Emergency,
    /// Identity: PIX, PDQ, feeds.
    Identity,
    /// Lists.
    Query,
    /// Streams of documents: bounded by progress, not by a total.
    Stream,
}

/// An emergency that is served on the word of a revocation list that is too late for the rest: put by
/// `admit` into the request's extensions.
#[derive(Clone, Debug)]
pub(super) struct OnLateList;

/// The internal reason, of a refusal or of a call that was served all the same.
const LATE_LIST: &str = "late-list";

/// Refusals leave at multiples of this.
const SLOT: Duration = Duration::from_millis(8);
/// Total time of a document stream.
const STREAM_CEILING: Duration = Duration::from_hours(2);

/// The door all services of a node share.
#[derive(Clone, Debug)]
pub(super) struct Door {
    gateway: Arc<Gateway>,
}

impl Door {
    /// A door to `gateway`.
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }

    /// Runs one call.
    ///
    /// The handler runs in a task of its own: a caller who hangs up does not stop it half-way, and
    /// is audited like one who waits (promise 3, bar A-03).
    pub(super) fn run<Q, A>(
        &self,
        method: &'static str,
        class: Class,
        request: Request<Q>,
        handler: Handler<Q, A>,
    ) -> Told<'_, A>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let (metadata, extensions, message) = request.into_parts();
        let start: Start<A> = Box::new(move |gateway, call| handler(gateway, call, message));
        Box::pin(self.pass(method, class, metadata, extensions, start))
    }

    async fn pass<A: Send + 'static>(
        &self,
        method: &'static str,
        class: Class,
        metadata: MetadataMap,
        extensions: Extensions,
        start: Start<A>,
    ) -> Result<Response<A>, Status> {
        let gateway = Arc::clone(&self.gateway);
        // From here on this door audits the call, and it stays admitted until the handler ends.
        let admitted = extensions.get::<Arc<Admitted>>().cloned();
        if let Some(admitted) = &admitted {
            admitted.reach();
        }
        let deadline = self.deadline(class, &metadata);
        let peer = extensions.get::<Peer>();
        let id = request_id(&metadata);
        let emergency = admitted
            .as_ref()
            .is_some_and(|admitted| admitted.class() == edge::Class::Emergency);
        let arrival = self.arrival(&id, emergency);
        let call = match self.call(method, deadline, &metadata, peer, arrival) {
            Ok(call) => Arc::new(call),
            Err(refused) => return Err(self.refuse(method, id, refused).await),
        };
        if extensions.get::<OnLateList>().is_some() {
            // Served all the same, and marked so for whoever reviews it.
            call.note(|record| record.denial = Some(LATE_LIST));
        }
        let running = Arc::clone(&call);
        let task = gateway.tasks.clone().spawn(async move {
            let _panics = PanicsAudited(Arc::clone(&gateway), Arc::clone(&call));
            let answer = async {
                gateway.is_witnessed(method)?;
                start(Arc::clone(&gateway), Arc::clone(&call)).await
            };
            let answer = tokio::time::timeout_at(call.deadline(), answer).await;
            let answer = if let Ok(answer) = answer {
                answer
            } else {
                call.settle().await;
                Err(Error::new(Reason::DeadlineExceeded, "the deadline passed"))
            };
            let answer = close(&gateway, &call, answer).await;
            if let Some(admitted) = admitted {
                admitted.record();
            }
            answer
        });
        match task.await {
            Ok(Ok(answer)) => {
                let mut response = Response::new(answer);
                self.add_receipt(&running, response.metadata_mut());
                Ok(response)
            }
            Ok(Err(error)) => Err(self.told(&running, &error)),
            Err(error) => {
                tracing::error!(rpc = method, "a handler panicked");
                Err(self.told(&running, &Error::internal(error)))
            }
        }
    }

    /// A failure with its receipt.
    fn told(&self, call: &Call, error: &Error) -> Status {
        let mut status = status(error);
        self.add_receipt(call, status.metadata_mut());
        status
    }

    /// Says where the call's audit record is.
    fn add_receipt(&self, call: &Call, metadata: &mut MetadataMap) {
        if let Some(receipt) = call.receipt() {
            put_receipt(&self.gateway, receipt, metadata);
        }
    }

    /// As [`Door::run`], for a handler whose answer is a stream.
    pub(super) fn stream<Q, T>(
        &self,
        method: &'static str,
        class: Class,
        request: Request<Q>,
        handler: Handler<Q, crate::federation::Stream<T>>,
    ) -> Told<'_, Replies<T>>
    where
        Q: Send + 'static,
        T: Send + 'static,
    {
        self.stream_leaving(method, class, request, handler, Ok)
    }

    /// As [`Door::stream`], for messages that are judged one by one, and again when they leave.
    pub(super) fn stream_judged<Q, T>(
        &self,
        method: &'static str,
        class: Class,
        request: Request<Q>,
        handler: Handler<Q, crate::federation::Stream<Judged<T>>>,
    ) -> Told<'_, Replies<T>>
    where
        Q: Send + 'static,
        T: Send + 'static,
    {
        self.stream_leaving(method, class, request, handler, Judged::leave)
    }

    fn stream_leaving<Q, M, T>(
        &self,
        method: &'static str,
        class: Class,
        request: Request<Q>,
        handler: Handler<Q, crate::federation::Stream<M>>,
        leave: Leave<M, T>,
    ) -> Told<'_, Replies<T>>
    where
        Q: Send + 'static,
        M: Send + 'static,
        T: Send + 'static,
    {
        let (metadata, extensions, message) = request.into_parts();
        let start: Start<_> = Box::new(move |gateway, call| {
            Box::pin(async move {
                let answer = handler(gateway, Arc::clone(&call), message).await?;
                Ok((answer, call))
            })
        });
        let answer = self.pass(method, class, metadata, extensions, start);
        let gateway = Arc::clone(&self.gateway);
        Box::pin(async move {
            Ok(answer.await?.map(|(answer, call)| -> Replies<T> {
                Box::pin(Revocable::new(answer.receiver, leave, call, gateway))
            }))
        })
    }

    /// Answers a method that the interface has and this version does not do: after
    /// authentication, and audited like any other.
    pub(super) fn not_implemented<Q, A>(
        &self,
        method: &'static str,
        request: Request<Q>,
    ) -> Told<'_, A>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        self.run(method, Class::Query, request, |_, _, _| {
            Box::pin(async {
                Err(Error::new(
                    Reason::NotImplemented,
                    "this version does not do this yet",
                ))
            })
        })
    }

    /// Audits a call whose message could not be taken: `error` says why. The answer does not wait
    /// for more than its own record.
    pub(super) async fn undecoded(
        &self,
        method: &'static str,
        metadata: &MetadataMap,
        peer: &Peer,
        error: &Error,
    ) {
        let deadline = self.deadline(Class::Query, metadata);
        let id = request_id(metadata);
        // Only to say who it was: nothing is served.
        let arrival = self.arrival(&id, true);
        let call = match self.call(method, deadline, metadata, Some(peer), arrival) {
            Ok(call) => call,
            Err(unknown) => {
                self.refuse(method, id, unknown).await;
                return;
            }
        };
        if error.reason() == Reason::RevocationUnknown {
            call.note(|record| record.denial = Some(LATE_LIST));
        }
        let closed: Result<()> = Err(Error::new(error.reason(), error.message().to_owned()));
        if let Err(failed) = close(&self.gateway, &call, closed).await
            && failed.reason() != error.reason()
        {
            tracing::error!(rpc = method, error = %failed, "a refusal could not be audited");
        }
    }

    fn arrival<'a>(&self, request_id: &'a str, emergency: bool) -> Arrival<'a> {
        Arrival {
            request_id,
            emergency,
            now: self.gateway.clock.now(),
        }
    }

    fn call(
        &self,
        method: &'static str,
        deadline: Instant,
        metadata: &MetadataMap,
        peer: Option<&Peer>,
        arrival: Arrival<'_>,
    ) -> std::result::Result<Call, Unauthenticated> {
        let gateway = &self.gateway;
        let refused = |rule, error| Unauthenticated {
            error,
            rule,
            participant: None,
        };
        let peer = peer.ok_or_else(|| {
            let message = "the connection has no certificate";
            let error = Error::new(Reason::UnregisteredCertificate, message);
            refused("no-certificate", error)
        })?;
        let assertion = metadata.get(ASSERTION).map(|value| {
            value.to_str().map_err(|_| {
                let error = Error::field(Reason::InvalidAssertion, ASSERTION, "is not ASCII");
                refused("assertion-malformed", error)
            })
        });
        let assertion = assertion.transpose()?;
        let caller = gateway.authenticator.caller(peer, assertion, arrival)?;
        let id = arrival.request_id.to_owned();
        Ok(Call::new(caller, method, id, deadline))
    }

    /// min(what the caller asks for, the ceiling); the class's default if it asks for nothing.
    fn deadline(&self, class: Class, metadata: &MetadataMap) -> Instant {
        let limits = &self.gateway.config.deadlines;
        let (default, ceiling) = match class {
            Class::Emergency => (limits.emergency_ms, limits.emergency_ceiling_ms),
            Class::Identity => (limits.identity_ms, limits.ceiling_ms),
            Class::Query => (limits.query_ms, limits.ceiling_ms),
            Class::Stream => return Instant::now() + STREAM_CEILING,
        };
        let asked = metadata
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok())
            .and_then(grpc_timeout);
        let ceiling = Duration::from_millis(ceiling);
        let granted = asked.unwrap_or(Duration::from_millis(default)).min(ceiling);
        Instant::now() + granted
    }

    /// A call refused before its caller is known: audited too, with the rule, and with whose
    /// certificate it came if that is known.
    async fn refuse(
        &self,
        method: &'static str,
        request_id: String,
        refused: Unauthenticated,
    ) -> Status {
        let (error, rule) = (refused.error, refused.rule);
        let known = refused.participant;
        let home = self.gateway.home.clone();
        let who = Who {
            institution: known.as_ref().and_then(|known| known.code.clone()),
            community: known.map_or(home, |known| known.community.clone()),
            subject: None,
            role: PersonRole::System,
            purpose: PurposeOfUse::Operations,
            relation: None,
            relay: None,
        };
        let mut record = Record::new(who, method, request_id);
        record.failure = Some(error.reason().name());
        record.denial = Some(rule);
        let event = record.close(Outcome::Denied, self.gateway.clock.now());
        let mut status = status(&error);
        // In a task of its own: whoever is refused may hang up meanwhile.
        let gateway = Arc::clone(&self.gateway);
        let written = self
            .gateway
            .tasks
            .spawn(async move { write(&gateway, event, method).await });
        match written.await.map_err(Error::internal).flatten() {
            Ok(receipt) => put_receipt(&self.gateway, receipt, status.metadata_mut()),
            Err(store) => tracing::error!(error = %store, "a refusal could not be audited"),
        }
        tracing::warn!(
            rpc = method,
            reason = error.reason().name(),
            rule,
            "refused"
        );
        status
    }
}

/// The caller's name for the call if it is fit for one, or a new one.
fn request_id(metadata: &MetadataMap) -> String {
    let given = metadata.get(REQUEST_ID);
    given
        .and_then(|value| value.to_str().ok())
        .filter(|id| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_graphic()))
        .map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

/// Audits a call whose handler panics: whoever called may be gone, so its own task does.
struct PanicsAudited(Arc<Gateway>, Arc<Call>);

impl Drop for PanicsAudited {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let (gateway, call) = (Arc::clone(&self.0), Arc::clone(&self.1));
        call.note(|record| record.failure = Some(Reason::Internal.name()));
        self.0.tasks.spawn(async move {
            if let Err(error) = audit(&gateway, &call, Outcome::Error).await {
                tracing::error!(%error, "a panic could not be audited");
            }
        });
    }
}

/// Makes the audit event durable, then lets the answer go. No durable record, no disclosure. What
/// the answer rests on is judged again before and after, if it changed: a withdrawal that was
/// acknowledged is in force for answers under way (bars Z-03, Z-13).
async fn close<A>(gateway: &Gateway, call: &Call, answer: Result<A>) -> Result<A> {
    let answer = match answer {
        Ok(_) if !call.still_permitted() => Err(call.refuse(Denial::Withdrawn)),
        answer => answer,
    };
    let outcome = match &answer {
        Ok(_) => Outcome::Success,
        Err(error) => {
            call.note(|record| record.failure = Some(error.reason().name()));
            log(call, error);
            match error.kind() {
                ErrorKind::Denied | ErrorKind::Unauthenticated => Outcome::Denied,
                // What is told as not there, because it was refused.
                ErrorKind::NotFound if call.denial().is_some_and(|why| why != LATE_LIST) => {
                    Outcome::Denied
                }
                ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict => Outcome::Invalid,
                ErrorKind::DeadlineExceeded => Outcome::Cancelled,
                _ => Outcome::Error,
            }
        }
    };
    audit(gateway, call, outcome).await?;
    if answer.is_ok() && !call.still_permitted() {
        return Err(revoked(gateway, call).await);
    }
    if let Err(error) = &answer {
        tells_nothing_by_time(call, error).await;
    }
    answer
}

/// Refuses what was permitted before: with an audit event of its own, since the first one says that
/// it was disclosed.
pub(super) async fn revoked(gateway: &Gateway, call: &Call) -> Error {
    let part = call.for_part();
    let refused = part.refuse(Denial::Withdrawn);
    part.note(|record| record.failure = Some(refused.reason().name()));
    if let Err(error) = audit(gateway, &part, Outcome::Denied).await {
        tracing::error!(%error, "a revocation could not be audited");
    }
    refused
}

/// What is refused and what is not there leave at the same times: at whole slots from the start, so
/// that the work behind the answer does not show (bars Z-02, P-06).
async fn tells_nothing_by_time(call: &Call, error: &Error) {
    if matches!(error.kind(), ErrorKind::Denied | ErrorKind::NotFound) {
        let taken = call.started().elapsed().as_micros();
        let slots = taken / SLOT.as_micros() + 1;
        let until = SLOT * u32::try_from(slots).unwrap_or(u32::MAX);
        tokio::time::sleep_until((call.started() + until).min(call.deadline())).await;
    }
}

/// Makes a call's audit event durable, unless it is on its way already.
///
/// # Errors
/// [`Reason::StoreUnavailable`].
pub(super) async fn audit(gateway: &Gateway, call: &Call, outcome: Outcome) -> Result<()> {
    if gateway.without_records {
        return Ok(());
    }
    if let Some(event) = call.closing_event(outcome, gateway.clock.now()) {
        call.set_receipt(write(gateway, event, call.method()).await?);
    }
    Ok(())
}

/// Makes an audit event of a method durable by itself.
async fn write(gateway: &Gateway, event: Bytes, method: &str) -> Result<Receipt> {
    let audit = vec![event];
    let commit = Commit {
        audit: audit.clone(),
        emergency: is_served_on_a_full_disk(method),
        ..Commit::default()
    };
    match gateway.store.commit(commit).await? {
        Stored::Committed { sequence, hash } => {
            Ok(Receipt::new(gateway.store.keys(), sequence, &hash, &audit))
        }
        Stored::Replayed { .. } => Err(Error::internal("an audit event was taken for a repeat")),
    }
}

/// Puts a receipt among the metadata of an answer.
fn put_receipt(gateway: &Gateway, receipt: Receipt, metadata: &mut MetadataMap) {
    let (origin, leaf) = (
        &gateway.audit.log().verifier().name,
        BASE64.encode(&receipt.leaf),
    );
    if let Ok(value) = format!("{origin} {} {leaf}", receipt.index).parse() {
        metadata.insert(RECEIPT, value);
    }
}

/// One line for what an operator should know of: faults, not refusals.
fn log(call: &Call, error: &Error) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let (rpc, reason, request_id) = (call.method(), error.reason().name(), call.request_id());
    match error.kind() {
        ErrorKind::Internal | ErrorKind::DataLoss | ErrorKind::Unavailable => {
            tracing::error!(rpc, reason, request_id, cause, "a call failed");
        }
        _ => tracing::debug!(rpc, reason, request_id, cause, "a call was refused"),
    }
}

/// The grpc-timeout header: at most eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(value.saturating_mul(60))),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_says() {
        assert_eq!(grpc_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(grpc_timeout("1H"), Some(Duration::from_hours(1)));
        for bad in [
            "",
            "m",
            "-1S",
            "+1S",
            "123456789S",
            "1x",
            "1.5S",
            "1 S",
            "1Sx",
            "１S",
        ] {
            assert_eq!(grpc_timeout(bad), None, "{bad}");
        }
    }
}
