//! What reads octets from outside, each as one function that ends without a panic, whatever it is given:
//! the targets of `fuzz/`, and of the bent messages in `tests::hostile`. No part of the interface.

use prost::Message as _;

use crate::error::{Error, Reason};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::ebxml::{Request, read, read_query, submit_objects_request};
use super::profile::Profile;
use super::validate::{Rules, Transaction, validate};

/// What a document may be called, for each way that it is looked at.
const MIME_TYPES: [&str; 4] = [
    "application/fhir+json",
    "text/xml",
    "application/pdf",
    "application/dicom",
];

const TRANSACTIONS: [Transaction; 5] = [
    Transaction::Provide,
    Transaction::Register,
    Transaction::OnDemand,
    Transaction::Update,
    Transaction::RestrictedUpdate,
];

/// The reader of XML.
pub fn xml(octets: &[u8]) {
    drop(crate::xml::parse(octets));
}

/// The readers of the ebXML form, and what is behind them: what was read is judged, printed and read
/// again; a stored query is planned.
pub fn ebxml(octets: &[u8]) {
    match read(octets) {
        Ok(Request::Submit(submission)) => read_back(&submission),
        Ok(Request::Provide(provided)) => read_back(&provided.submission),
        Ok(Request::RemoveObjects(_) | Request::RemoveDocuments(_)) | Err(_) => {}
    }
    if let Ok(asked) = read_query(octets) {
        plan(&asked);
    }
}

/// The check of a document's content against its metadata, by each kind that is looked into.
pub fn content(octets: &[u8]) {
    for mime_type in MIME_TYPES {
        let entry = pb::DocumentEntry {
            mime_type: mime_type.to_owned(),
            creation_time: "20240131".to_owned(),
            patient_id: Some(cpb::Identifier {
                assigning_authority: "1.2.3".to_owned(),
                value: "0001".to_owned(),
                ..cpb::Identifier::default()
            }),
            ..pb::DocumentEntry::default()
        };
        for whole in [true, false] {
            drop(super::content::findings(octets, whole, &entry));
        }
    }
}

/// A stored query as a protobuf message, checked into a plan.
pub fn query(octets: &[u8]) {
    if let Ok(asked) = pb::QueryRegistryRequest::decode(octets) {
        plan(&asked);
    }
}

/// The metadata rules on whatever a protobuf message can hold.
pub fn metadata(octets: &[u8]) {
    if let Ok(submission) = pb::Submission::decode(octets) {
        judge(&submission);
    }
}

fn read_back(submission: &pb::Submission) {
    judge(submission);
    // What was read can be printed; where it has a form, that is read.
    drop(read(submit_objects_request(submission).as_bytes()));
}

fn plan(asked: &pb::QueryRegistryRequest) {
    let (Some(asked), Some(rules)) = (&asked.query, rules()) else {
        return;
    };
    if let Err(error) = super::query::check(asked, &rules.home) {
        is_no_fault_of_ours(&error);
    }
}

/// Judges it under every transaction. What is right has its UUIDs, and every fault its place.
fn judge(submission: &pb::Submission) {
    let Some(rules) = rules() else { return };
    for transaction in TRANSACTIONS {
        match validate(submission.clone(), &rules, transaction) {
            Ok(valid) => {
                debug_assert_eq!(valid.entries.len(), submission.entries.len());
                debug_assert!(valid.associations.len() >= submission.associations.len());
                let mut made = valid.assigned.iter().map(|id| &id.entry_uuid);
                debug_assert!(made.all(|uuid| uuid.starts_with("urn:uuid:")));
            }
            Err(error) => {
                is_no_fault_of_ours(&error);
                error.others().iter().for_each(is_no_fault_of_ours);
            }
        }
    }
}

/// What a peer sent is refused for what is wrong with it.
fn is_no_fault_of_ours(error: &Error) {
    debug_assert!(error.reason() != Reason::Internal, "{error:?}");
}

fn rules() -> Option<Rules> {
    Some(Rules {
        home: "urn:oid:1.2.3".parse().ok()?,
        repository: "1.2.3.1".parse().ok(),
        max_document_bytes: 1_000,
        profile: Profile::default(),
    })
}
