//! Other communities: fan-out within deadlines, merging, partial results, the outbox, the locator.

mod broadcasts;
pub mod contributions;
mod correlations;
pub mod dial;
mod direct;
mod discover;
pub mod fanout;
mod find;
mod line;
mod links;
mod locator;
mod outbox;
pub mod pass;
pub mod path;
pub mod peers;
mod reconcile;
mod retrieve;
mod spread;
pub(crate) mod tables;
#[cfg(test)]
mod tests;
mod uplink;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_util::task::TaskTracker;
use tonic::Code;

pub use broadcasts::Broadcasts;
pub use contributions::{Contribution, Contributions, Mark};
pub use correlations::{Correlations, LONGEST};
pub use dial::{Dialler, Forbidden, Policy, SystemResolver};
pub use direct::Direct;
pub use discover::Wanted;
pub use fanout::{Answer, Failure, Said, Target, completeness};
pub use find::in_messages;
pub use line::Line;
pub use links::Links;
pub use locator::{Currency, Locator};
pub use outbox::Outbox;
pub use path::Paths;
pub use peers::{Peers, Wire};
pub use reconcile::{Parts, Random, Reconciler, Step};
pub use uplink::follow_parent;
pub use watch::Lasting;

use crate::directory::Directory;
use crate::error::{Error, Reason, Result};
use crate::identity::Identity;
use crate::pki::tls::refusal_of;
use crate::store::Schema;
use crate::types::HomeCommunityId;

/// Adds federation's tables to a schema.
pub fn tables(schema: Schema) -> Schema {
    schema
        .table::<tables::HoldingRow>()
        .table::<tables::OutboxRow>()
        .table::<tables::UndeliveredRow>()
        .table::<tables::CorrelationRow>()
        .table::<tables::ToldRow>()
        .table::<tables::ContributionRow>()
        .table::<tables::ReconciliationRow>()
        .table::<tables::HeardRow>()
        .table::<tables::ReconciledRow>()
}

/// The other communities, as this node reaches them.
#[derive(Debug)]
pub struct Federation {
    /// The hub above, if any.
    pub parent: Option<HomeCommunityId>,
    /// Whether, and how, this region asks the others itself.
    pub direct: Option<Direct>,
    /// Channels.
    pub peers: Arc<Peers>,
    /// How calls to each of them go.
    pub paths: Paths,
    /// Who takes part.
    pub directory: Arc<Directory>,
    /// Who a patient is.
    pub identity: Arc<Identity>,
    /// Who holds something.
    pub locator: Arc<Locator>,
    /// What they said of it, for when they do not answer.
    pub contributions: Arc<Contributions>,
    /// What the parent must be told.
    pub outbox: Arc<Outbox>,
    /// What compares that with the parent's locator, if the parent is told of patients.
    pub reconciler: Option<Arc<Reconciler>>,
    /// Who is known in communities that do not feed this node.
    pub correlations: Correlations,
    /// Who asked regions of which nothing is known.
    pub broadcasts: Broadcasts,
    /// Background work, waited for when the node stops.
    pub tasks: TaskTracker,
    /// A document stream may last this long.
    pub stream_ceiling: Duration,
    /// A document stream without a part for this long is ended.
    pub stream_idle: Duration,
}

/// Messages on their way to a caller.
#[derive(Debug)]
pub struct Stream<T> {
    /// The messages.
    pub receiver: mpsc::Receiver<Result<T>>,
    /// Communities asked.
    pub asked: u32,
}

impl<T> Stream<T> {
    fn new(receiver: mpsc::Receiver<Result<T>>) -> Self {
        Self { receiver, asked: 0 }
    }

    fn asked(mut self, asked: u32) -> Self {
        self.asked = asked;
        self
    }
}

/// Passes another node's stream on unchanged, with bounded memory.
fn pass_through<T: Send + 'static>(mut stream: tonic::Streaming<T>) -> Stream<T> {
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            let message = tokio::select! {
                message = stream.next() => message,
                () = sender.closed() => return,
            };
            let Some(message) = message else { return };
            let stop = message.is_err();
            if sender.send(message.map_err(peer_error)).await.is_err() || stop {
                return;
            }
        }
    });
    Stream::new(receiver).asked(1)
}

/// Another node's failure as this node's: what concerns the caller keeps its meaning.
pub fn peer_error(status: tonic::Status) -> Error {
    let reason = match status.code() {
        Code::PermissionDenied => return Error::not_permitted().caused_by(status),
        Code::NotFound => Reason::NotFound,
        Code::InvalidArgument => Reason::InvalidField,
        Code::Unauthenticated => Reason::InvalidAssertion,
        Code::DeadlineExceeded => Reason::DeadlineExceeded,
        Code::DataLoss => Reason::IntegrityFailure,
        Code::Unimplemented => Reason::NotImplemented,
        Code::ResourceExhausted => Reason::Overloaded,
        _ => Reason::CommunityUnavailable,
    };
    use tonic_types::StatusExt as _;
    let reason = match std::error::Error::source(&status) {
        Some(cause) if refusal_of(cause).is_some() => Reason::PeerUntrusted,
        Some(cause) if Forbidden::of(cause).is_some() => Reason::EndpointForbidden,
        _ => reason,
    };
    let details = status.get_error_details();
    let reason = details
        .error_info()
        .and_then(|info| {
            Reason::ALL
                .iter()
                .find(|reason| reason.name() == info.reason)
        })
        .copied()
        .unwrap_or(reason);
    let message = match reason.kind() {
        crate::error::ErrorKind::Unavailable | crate::error::ErrorKind::Internal => {
            "the other community cannot be reached or cannot serve now".to_owned()
        }
        _ => status.message().to_owned(),
    };
    Error::new(reason, message).caused_by(status)
}

fn unknown_patient() -> Error {
    Error::field(
        Reason::UnknownPatient,
        "patient_id",
        "the patient is not known here",
    )
}
