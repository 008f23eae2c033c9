//! Loading many records: batches as they come, refusals one by one, progress that is durable.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio_stream::StreamExt as _;
use tonic::Streaming;

use super::super::door::Answer;
use super::changes::revoke;
use crate::access::{Action, Call, Permit};
use crate::config::Capability;
use crate::error::{Error, Reason, Result};
use crate::federation::Stream;
use crate::gateway::Gateway;
use crate::identity::{BATCH, Load, LoadItem, identifier, identifier_message};
use crate::store::Write;
use crate::types::PatientIdentifier;
use crate::wire::pb::federation::notice::Content;
use crate::wire::pb::identity as pb;
use crate::wire::pb::identity::load_patients_request::Part as Asked;
use crate::wire::pb::identity::load_patients_response::Part as Told;

/// Answers on their way: a caller who does not read them slows its own load down.
const QUEUE: usize = 64;
/// Records are fed as they are when the next one does not come for so long.
const PATIENCE: Duration = Duration::from_millis(20);

type Incoming = Streaming<pb::LoadPatientsRequest>;
type Reply = Result<pb::LoadPatientsResponse>;

pub(super) fn load(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    mut incoming: Incoming,
) -> Answer<Stream<pb::LoadPatientsResponse>> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::AssertIdentity)?;
        let first = incoming.next().await.transpose().map_err(broken)?;
        let Some(Asked::Start(start)) = first.and_then(|first| first.part) else {
            return Err(Error::missing("start"));
        };
        let (key, now) = (&start.idempotency_key, gateway.clock.now());
        let key = call.idempotency(&gateway.store, key, &start, now)?;
        let load = gateway.identity.load(&permit, key.as_ref())?;
        let (sender, receiver) = tokio::sync::mpsc::channel(QUEUE);
        let tasks = gateway.tasks.clone();
        tasks.spawn(async move {
        let stop = gateway.stop.clone();
        let mut loader = Loader {
            gateway: &gateway,
            call: &call,
            permit,
            last: load.counts.durable_position,
            load,
            items: Vec::with_capacity(BATCH),
            dry: start.validate_only,
            sender: &sender,
        };
        let done = tokio::select! {
            () = stop.cancelled() => {
                Err(Error::new(Reason::ShuttingDown, "the node is stopping; go on with the load later"))
            }
            done = loader.run(incoming) => done,
        };
        if let Err(error) = done {
            // A receiver that is gone is a caller who hung up; what is durable is.
            drop(sender.send(Err(error)).await);
        }
    });
        Ok(Stream { receiver, asked: 0 })
    })
}

fn broken(status: tonic::Status) -> Error {
    match status.code() {
        tonic::Code::OutOfRange => {
            Error::new(Reason::MessageTooLarge, "a message is larger than is taken")
        }
        _ => Error::new(
            Reason::DeadlineExceeded,
            "the load broke off; go on with it",
        )
        .caused_by(status),
    }
}

/// A load under way.
struct Loader<'a> {
    gateway: &'a Gateway,
    call: &'a Call,
    permit: Permit,
    load: Load,
    /// Read, and not yet in a frame.
    items: Vec<LoadItem>,
    /// Position of the last record read.
    last: u64,
    dry: bool,
    sender: &'a Sender<Reply>,
}

impl Loader<'_> {
    async fn run(&mut self, mut incoming: Incoming) -> Result<()> {
        let durable_position = self.load.counts.durable_position;
        self.tell(Told::Accepted(pb::LoadAccepted { durable_position }))
            .await?;
        loop {
            let next = if self.items.is_empty() {
                incoming.next().await
            } else if let Ok(next) = tokio::time::timeout(PATIENCE, incoming.next()).await {
                next
            } else {
                self.flush().await?;
                continue;
            };
            match next
                .transpose()
                .map_err(broken)?
                .map(|message| message.part)
            {
                None => break,
                Some(Some(Asked::Record(record))) => self.record(record).await?,
                Some(_) => return Err(Error::missing("record")),
            }
            if self.items.len() >= BATCH {
                self.flush().await?;
            }
        }
        self.flush().await?;
        if !self.dry {
            self.gateway.identity.keep_load(&self.load).await?;
        }
        self.tell(Told::Summary(self.load.counts)).await
    }

    /// Takes a record into the next frame; one that is durable already is passed over.
    async fn record(&mut self, record: pb::LoadRecord) -> Result<()> {
        let position = record.position;
        if position <= self.load.counts.durable_position && self.items.is_empty() {
            return Ok(());
        }
        if position <= self.last {
            let message = "must rise from record to record";
            return Err(Error::field(
                Reason::InvalidField,
                "record.position",
                message,
            ));
        }
        self.last = position;
        match self.item(record) {
            Ok(item) if self.dry => {
                self.load.counts.durable_position = item.position;
                Ok(())
            }
            Ok(item) => {
                self.items.push(item);
                Ok(())
            }
            Err(error) => {
                self.flush().await?;
                self.refuse(position, &error).await
            }
        }
    }

    fn item(&self, record: pb::LoadRecord) -> Result<LoadItem> {
        let mut patient = record.patient.ok_or_else(|| Error::missing("patient"))?;
        let id = identifier(patient.identifier.as_ref(), "patient.identifier")?;
        super::own_domain(self.gateway, self.call, &id)?;
        self.gateway.identity.check(&patient)?;
        patient.identifier = Some(identifier_message(&id));
        patient.home_community_id = self.call.caller().participant.community.to_string();
        patient.inactive = false;
        Ok(LoadItem {
            position: record.position,
            identifier: id,
            patient,
        })
    }

    async fn refuse(&mut self, position: u64, error: &Error) -> Result<()> {
        self.load.refuse(position);
        self.tell(Told::Rejected(pb::LoadRejected {
            position,
            reason: error.reason().name().to_owned(),
            field: error.wrong_field().unwrap_or_default().to_owned(),
            description: error.message().to_owned(),
        }))
        .await
    }

    /// Makes what was read durable.
    async fn flush(&mut self) -> Result<()> {
        while !self.items.is_empty() {
            let gateway = self.gateway;
            gateway.federation.outbox.has_room()?;
            let attach =
                |item: &LoadItem, changed: &[PatientIdentifier]| forward(gateway, item, changed);
            let taken = gateway
                .identity
                .load_some(
                    &self.permit,
                    self.call,
                    &mut self.load,
                    &self.items,
                    &attach,
                )
                .await?;
            if taken == 0 {
                let item = self.items.remove(0);
                let message = "the identifier was merged away; take the merge back first";
                let error = Error::field(Reason::WrongState, "patient.identifier", message);
                self.refuse(item.position, &error).await?;
                continue;
            }
            self.items.drain(..taken);
            self.tell(Told::Progress(self.load.counts)).await?;
        }
        Ok(())
    }

    async fn tell(&self, part: Told) -> Result<()> {
        let message = pb::LoadPatientsResponse { part: Some(part) };
        let gone = |_| Error::new(Reason::DeadlineExceeded, "the caller left");
        self.sender.send(Ok(message)).await.map_err(gone)
    }
}

/// What the parent is told of a record, and of those that change with it.
fn forward(gateway: &Gateway, item: &LoadItem, changed: &[PatientIdentifier]) -> Vec<Write> {
    let feed = pb::FeedPatientRequest {
        patient: Some(item.patient.clone()),
        ..pb::FeedPatientRequest::default()
    };
    let outbox = &gateway.federation.outbox;
    let mut rows = outbox.notice(&item.identifier, Content::PatientFeed(feed));
    rows.extend(revoke(gateway, changed));
    rows
}
