//! `renkei document provide`: files and their metadata to the repository.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::file::{self, CHUNK, Prepared};
use super::metadata::{Known, Metadata};
use super::show;
use crate::cli::client::Session;
use crate::cli::failure::Problem;
use crate::cli::idempotency_key;
use crate::cli::output::{Done, Output};
use crate::cli::profile::DocumentProfile;
use crate::clock::{Clock as _, SystemClock};
use crate::wire::pb::documents::provide_documents_request::Part;
use crate::wire::pb::documents::{
    DocumentHeader, ProvideDocumentsRequest, ProvideDocumentsResponse, ProvideStart,
};

/// Messages read ahead of the network.
const QUEUE: usize = 4;

#[derive(Args, Debug)]
pub(crate) struct Provide {
    /// Files; all are of one submission, registered together or not at all
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    metadata: Metadata,
    /// Only check; store nothing
    #[arg(long)]
    check: bool,
    /// Names this submission, so that it can be repeated safely
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Provide {
    pub(crate) async fn run(
        self,
        session: Session,
        profile: DocumentProfile,
        out: Output,
    ) -> Result<Done> {
        let paths = self.files.clone();
        let files = tokio::task::spawn_blocking(move || measure(&paths)).await??;
        let known = Known {
            profile: &profile,
            institution: session.statement().map(|one| one.institution.as_str()),
            now: SystemClock.now(),
        };
        let start = ProvideStart {
            submission: Some(self.metadata.submission(&files, &known)?),
            idempotency_key: self.idempotency_key.unwrap_or_else(idempotency_key),
            validate_only: self.check,
        };
        let bar = file::progress(files.iter().map(|file| file.size).sum());
        let answer = stream(&session, start, files, bar).await?;
        out.answer(&answer, |text| {
            let result = answer.result.clone().unwrap_or_default();
            for warning in &result.warnings {
                text.field("Warning", format!("{} {}", warning.code, warning.context));
            }
            text.table(&show::entries(&result.entries));
            for id in &result.assigned_ids {
                text.field(&id.symbolic_id, &id.entry_uuid);
            }
            text.field("Sequence", result.sequence.to_string());
        })?;
        Ok(Done::All)
    }
}

/// Sends one submission and its files; the answer.
pub(super) async fn stream(
    session: &Session,
    start: ProvideStart,
    files: Vec<Prepared>,
    bar: ProgressBar,
) -> Result<ProvideDocumentsResponse> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let sending = bar.clone();
    let reading = tokio::task::spawn_blocking(move || send(start, &files, &sender, &sending));
    let mut client = session.documents();
    let answer = client
        .provide_documents(ReceiverStream::new(receiver))
        .await;
    bar.finish_and_clear();
    // A file that could not be read explains the node's refusal of what is missing.
    reading.await??;
    Ok(answer?.into_inner())
}

fn measure(paths: &[PathBuf]) -> Result<Vec<Prepared>> {
    let numbered = (1..).zip(paths);
    numbered
        .map(|(number, path)| file::prepare(path, format!("document{number}")))
        .collect()
}

/// Sends the metadata, then each file in chunks. Ends early without an error if the node has
/// answered already: its answer says why.
fn send(
    start: ProvideStart,
    files: &[Prepared],
    sender: &mpsc::Sender<ProvideDocumentsRequest>,
    bar: &ProgressBar,
) -> Result<()> {
    let send = |part| {
        let message = ProvideDocumentsRequest { part: Some(part) };
        sender.blocking_send(message).is_ok()
    };
    if !send(Part::Start(start)) {
        return Ok(());
    }
    let mut buffer = vec![0; CHUNK];
    for prepared in files {
        let path = prepared.path.display();
        let header = DocumentHeader {
            entry_uuid: prepared.symbolic_id.clone(),
        };
        if !send(Part::Document(header)) {
            return Ok(());
        }
        let mut file = File::open(&prepared.path).with_context(|| format!("cannot read {path}"))?;
        let mut left = prepared.size;
        loop {
            let count = file::read_chunk(&mut file, &mut buffer)
                .with_context(|| format!("cannot read {path}"))?;
            let octets = buffer.get(..count).unwrap_or_default();
            let sent = u64::try_from(octets.len()).unwrap_or(u64::MAX);
            if sent > left || (sent == 0 && left > 0) {
                return Err(Problem::new(format!("{path} changed while it was being read")).into());
            }
            if sent == 0 {
                break;
            }
            left -= sent;
            bar.inc(sent);
            if !send(Part::Chunk(Bytes::copy_from_slice(octets))) {
                return Ok(());
            }
        }
    }
    Ok(())
}
