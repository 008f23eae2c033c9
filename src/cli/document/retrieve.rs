//! `renkei document retrieve`: a document into a file, which gets its name only if it is whole.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tonic::Streaming;

use super::file::{self, Incoming, Received};
use crate::cli::args::identifier;
use crate::cli::client::Session;
use crate::cli::failure::Problem;
use crate::cli::names::octets;
use crate::cli::output::{Done, Output};
use crate::wire::pb::common::{Completeness, DocumentRef, Identifier};
use crate::wire::pb::documents::retrieved_part::Part;
use crate::wire::pb::documents::{
    DocumentRequest, RetrieveDocumentsRequest, RetrieveDocumentsResponse, RetrievedHeader,
    RetrievedPart, RetrievedTrailer,
};
use crate::wire::pb::federation::{
    InitiatingGatewayServiceRetrieveDocumentsRequest,
    InitiatingGatewayServiceRetrieveDocumentsResponse,
    initiating_gateway_service_retrieve_documents_response as federated,
};

#[derive(Args, Debug)]
pub(crate) struct Retrieve {
    /// homeCommunityId of the community that holds it [default: the node's own]
    #[arg(long, value_name = "OID")]
    community: Option<String>,
    /// repositoryUniqueId
    #[arg(long, value_name = "OID")]
    repository: String,
    /// uniqueId of the document
    #[arg(long, value_name = "ID")]
    unique_id: String,
    /// The patient, by any identifier known to you: ID^^^&OID&ISO (quote it) or OID:ID; needed for a
    /// document of another community
    #[arg(long, value_parser = identifier)]
    patient: Option<Identifier>,
    /// Where to put it
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace FILE if it is there
    #[arg(long)]
    force: bool,
    /// Hash that it must have (SHA-1 or SHA-256, hex), besides the one that the node states
    #[arg(
        long,
        value_name = "HEX",
        default_value = "",
        hide_default_value = true
    )]
    hash: String,
}

/// The two streams that documents come in.
enum Parts {
    Own(Box<Streaming<RetrieveDocumentsResponse>>),
    Federated(Box<Streaming<InitiatingGatewayServiceRetrieveDocumentsResponse>>),
}

/// What came of a stream beside the octets.
#[derive(Default)]
struct Told {
    header: Option<RetrievedHeader>,
    trailer: Option<RetrievedTrailer>,
    completeness: Option<Completeness>,
}

impl Retrieve {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let mut incoming = Incoming::create(&self.output, self.force)?;
        let mut parts = self.open(&session).await?;
        let mut told = Told::default();
        let mut bar = ProgressBar::hidden();
        while let Some(part) = parts.next(&mut told).await? {
            match part.part {
                Some(Part::Header(header)) => {
                    bar = file::progress(header.size.unwrap_or_default());
                    told.header = Some(header);
                }
                Some(Part::Chunk(octets)) => {
                    incoming.write(&octets)?;
                    bar.inc(u64::try_from(octets.len()).unwrap_or(u64::MAX));
                }
                Some(Part::Trailer(trailer)) => told.trailer = Some(trailer),
                Some(Part::Failure(failure)) => {
                    let error = failure.error.unwrap_or_default();
                    let text = format!("{} {}; nothing is kept", error.code, error.context);
                    return Err(Problem::new(text).into());
                }
                None => {}
            }
        }
        bar.finish_and_clear();
        let trailer = told
            .trailer
            .clone()
            .ok_or_else(|| match &told.completeness {
                Some(all) if !all.complete => {
                    Problem::new("the community that holds it did not answer; nothing is kept")
                }
                _ => Problem::new("the document was cut off; nothing is kept"),
            })?;
        let hashes = [trailer.hash.as_str(), &trailer.hash_sha256, &self.hash];
        let received = incoming.finish(trailer.size, &hashes)?;
        self.show(out, &told.header.unwrap_or_default(), &received)?;
        Ok(Done::All)
    }

    async fn open(&self, session: &Session) -> Result<Parts> {
        let home = self.community.as_deref().unwrap_or(session.community());
        let documents = vec![DocumentRequest {
            document: Some(DocumentRef {
                home_community_id: home.to_owned(),
                repository_unique_id: self.repository.clone(),
                document_unique_id: self.unique_id.clone(),
            }),
            range: None,
        }];
        if home == session.community() {
            let request = RetrieveDocumentsRequest { documents };
            let stream = session.documents().retrieve_documents(request).await?;
            return Ok(Parts::Own(Box::new(stream.into_inner())));
        }
        let Some(patient) = self.patient.clone() else {
            bail!("--patient is needed for a document of another community");
        };
        let request = InitiatingGatewayServiceRetrieveDocumentsRequest {
            documents,
            patient_id: Some(patient),
        };
        let stream = session.federation().retrieve_documents(request).await?;
        Ok(Parts::Federated(Box::new(stream.into_inner())))
    }

    fn show(&self, out: Output, header: &RetrievedHeader, received: &Received) -> Result<()> {
        let document = header.document.clone().unwrap_or_default();
        out.object(&json!({
            "file": self.output.to_string_lossy(),
            "home_community_id": document.home_community_id,
            "repository_unique_id": document.repository_unique_id,
            "document_unique_id": document.document_unique_id,
            "mime_type": header.mime_type,
            "size": received.size,
            "hash": received.sha1,
            "hash_sha256": received.sha256,
        }))?;
        out.human(|text| {
            text.field("File", self.output.to_string_lossy());
            text.field("Media type", &header.mime_type);
            text.field("Size", octets(received.size));
            text.field("SHA-256", format!("{} (checked)", received.sha256));
        })
    }
}

impl Parts {
    /// The next piece of the document; what else is told goes into `told`.
    async fn next(&mut self, told: &mut Told) -> Result<Option<RetrievedPart>> {
        loop {
            match self {
                Self::Own(stream) => match stream.message().await? {
                    Some(message) if message.part.is_none() => {}
                    message => return Ok(message.and_then(|one| one.part)),
                },
                Self::Federated(stream) => match stream.message().await?.map(|one| one.part) {
                    None => return Ok(None),
                    Some(Some(federated::Part::Document(part))) => return Ok(Some(part)),
                    Some(Some(federated::Part::Completeness(all))) => {
                        told.completeness = Some(all);
                    }
                    Some(Some(federated::Part::Region(_)) | None) => {}
                },
            }
        }
    }
}
