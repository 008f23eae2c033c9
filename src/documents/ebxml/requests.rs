//! The requests that change a registry, from their ebXML form (ITI-41, 42, 57, 61, 62, 86, 92), with
//! or without a SOAP envelope around.

use std::collections::BTreeSet;

use crate::error::{Error, Reason, Result};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::super::faults::Faults;
use super::objects::{self, Object};
use super::{LCM, RIM, RMD, XDS, names};
use crate::xml::{Element, parse};

/// A request that changes a registry.
#[derive(Debug)]
pub enum Request {
    /// `lcm:SubmitObjectsRequest`: ITI-42, 57, 61, 92.
    Submit(pb::Submission),
    /// `xds:ProvideAndRegisterDocumentSetRequest`: ITI-41.
    Provide(Provided),
    /// `lcm:RemoveObjectsRequest`: ITI-62; entryUUIDs.
    RemoveObjects(Vec<String>),
    /// `rmd:RemoveDocumentsRequest`: ITI-86.
    RemoveDocuments(Vec<cpb::DocumentRef>),
}

/// Metadata and the documents that come with it.
#[derive(Debug)]
pub struct Provided {
    /// The metadata.
    pub submission: pb::Submission,
    /// `xds:Document`: its id, and its content as text (base64), or where it is (`cid:`).
    pub documents: Vec<(String, Content)>,
}

/// Where the octets of a document are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the message, as base64.
    Inline(String),
    /// In another part of the package: the Content-ID, without `cid:`.
    Part(String),
}

/// Reads a request.
///
/// # Errors
/// Everything in it that has not its form, each with its place; [`Reason::InvalidField`] if it is no
/// XML that is read, or no such request.
pub fn read(bytes: &[u8]) -> Result<Request> {
    let root = parse(bytes)
        .map_err(|error| Error::new(Reason::InvalidField, error.to_string()).of_registry())?;
    let element = body(&root)?;
    match (element.namespace.as_str(), element.name.as_str()) {
        (LCM, "SubmitObjectsRequest") => submission(element).map(Request::Submit),
        (XDS, "ProvideAndRegisterDocumentSetRequest") => provided(element).map(Request::Provide),
        (LCM, "RemoveObjectsRequest") => removed(element).map(Request::RemoveObjects),
        (RMD, "RemoveDocumentsRequest") => Ok(Request::RemoveDocuments(documents(element))),
        _ => Err(unknown("is no request that changes a registry")),
    }
}

fn unknown(message: &'static str) -> Error {
    Error::new(Reason::InvalidField, message).of_registry()
}

/// What is in the body of a SOAP envelope, or the element itself.
fn body(root: &Element) -> Result<&Element> {
    if root.name != "Envelope" {
        return Ok(root);
    }
    let places: Vec<&str> = root
        .children
        .iter()
        .map(|part| part.name.as_str())
        .collect();
    let body = match places.as_slice() {
        ["Header", "Body"] | ["Body"] => root.child("Body"),
        _ => return Err(unknown("is no envelope of a header and then a body")),
    };
    match body.map(|body| body.children.as_slice()) {
        Some([only]) => Ok(only),
        _ => Err(unknown("has not one element in the body")),
    }
}

/// Reads the objects of a `SubmitObjectsRequest`.
fn submission(request: &Element) -> Result<pb::Submission> {
    let mut faults = Faults::default();
    let list = request
        .child("RegistryObjectList")
        .ok_or_else(|| unknown("has no RegistryObjectList"))?;
    let mut made = pb::Submission::default();
    let labelled = |id: &str, node: &str| {
        let mut beside = list.all("Classification");
        beside.any(|label| {
            label.attribute("classifiedObject") == Some(id)
                && label
                    .attribute("classificationNode")
                    .is_some_and(|given| given.eq_ignore_ascii_case(node))
        })
    };
    let mut ids = BTreeSet::new();
    for element in list.children.iter().filter(|one| one.namespace == RIM) {
        let id = element.attribute("id").unwrap_or_default();
        faults.enter(format!("{}[{id}]", element.name));
        if element.name != "Classification" && !id.is_empty() && !ids.insert(id) {
            faults.invalid("id", "stands twice");
        }
        match element.name.as_str() {
            "ExtrinsicObject" => {
                let object = Object::of(element, &mut faults);
                made.entries.push(objects::entry(&object, &mut faults));
            }
            "RegistryPackage" => {
                let object = Object::of(element, &mut faults);
                let is = |node| object.is_labelled(node) || labelled(id, node);
                match (is(names::SET), is(names::FOLDER)) {
                    (true, false) if made.submission_set.is_some() => {
                        faults.invalid("", "is a second submission set");
                    }
                    (true, false) => {
                        made.submission_set = Some(objects::submission_set(&object, &mut faults));
                    }
                    (false, true) => made.folders.push(objects::folder(&object, &mut faults)),
                    _ => faults.invalid("", "is not labelled as submission set or folder"),
                }
            }
            "Association" => {
                let object = Object::of(element, &mut faults);
                made.associations
                    .push(objects::association(&object, &mut faults));
            }
            // Labels are read with what they label; references say nothing new.
            "Classification" | "ObjectRef" => {}
            _ => faults.invalid("", "is no object of a submission"),
        }
        faults.leave();
    }
    if made.submission_set.is_none() {
        faults.missing("RegistryPackage");
    }
    if faults.is_empty() {
        members(&made, &mut faults);
    }
    faults.result()?;
    Ok(made)
}

/// Every entry and folder is a member of the submission set (ITI-42 §3.42.4.1.2): this form says so
/// itself, nothing is added.
fn members(made: &pb::Submission, faults: &mut Faults) {
    let set = made
        .submission_set
        .as_ref()
        .map_or("", |set| &set.entry_uuid);
    let has_member = pb::AssociationType::HasMember;
    let members: BTreeSet<&str> = made
        .associations
        .iter()
        .filter(|one| one.association_type() == has_member && one.source_object == set)
        .map(|one| one.target_object.as_str())
        .collect();
    let entries = made
        .entries
        .iter()
        .map(|entry| ("ExtrinsicObject", entry.entry_uuid.as_str()));
    let folders = made
        .folders
        .iter()
        .map(|folder| ("RegistryPackage", folder.entry_uuid.as_str()));
    for (kind, id) in entries.chain(folders) {
        if !members.contains(id) {
            let message = "is no member of the submission set";
            faults.invalid(&format!("{kind}[{id}]"), message);
        }
    }
}

/// Reads an ITI-41 request.
fn provided(request: &Element) -> Result<Provided> {
    let names: Vec<&str> = request
        .children
        .iter()
        .map(|part| part.name.as_str())
        .collect();
    let ordered = names.first() == Some(&"SubmitObjectsRequest")
        && names.iter().skip(1).all(|name| *name == "Document");
    let metadata = request.child("SubmitObjectsRequest");
    let (true, Some(metadata)) = (ordered, metadata) else {
        return Err(unknown("is not a SubmitObjectsRequest and then documents"));
    };
    let submission = submission(metadata)?;
    let mut faults = Faults::default();
    let mut documents: Vec<(String, Content)> = Vec::new();
    for document in request.all("Document") {
        let id = document.attribute("id").unwrap_or_default().to_owned();
        let known = submission
            .entries
            .iter()
            .any(|entry| entry.entry_uuid == id);
        let place = format!("Document[{id}]");
        if !known || documents.iter().any(|(other, _)| *other == id) {
            let message = "names no entry of the submission, or one that has its document";
            faults.add(Reason::MissingMetadata, &place, message);
        }
        documents.push((id, content(document)));
    }
    for entry in &submission.entries {
        let id = &entry.entry_uuid;
        if !documents.iter().any(|(known, _)| known == id) {
            let place = format!("ExtrinsicObject[{id}]");
            faults.add(Reason::MissingDocument, &place, "has no document");
        }
    }
    faults.result()?;
    Ok(Provided {
        submission,
        documents,
    })
}

fn content(document: &Element) -> Content {
    let include = document.child("Include");
    let href = include.and_then(|include| include.attribute("href"));
    href.map_or_else(
        || Content::Inline(document.text.split_whitespace().collect()),
        |href| Content::Part(href.strip_prefix("cid:").unwrap_or(href).to_owned()),
    )
}

fn removed(request: &Element) -> Result<Vec<String>> {
    let list = request
        .child("ObjectRefList")
        .ok_or_else(|| unknown("has no ObjectRefList"))?;
    let ids = list.all("ObjectRef").filter_map(|one| one.attribute("id"));
    Ok(ids.map(str::to_owned).collect())
}

fn documents(request: &Element) -> Vec<cpb::DocumentRef> {
    let text = |one: &Element, name: &str| {
        let child = one.child(name).map(Element::trimmed);
        child.unwrap_or_default().to_owned()
    };
    let documents = request.all("DocumentRequest").map(|one| cpb::DocumentRef {
        home_community_id: text(one, "HomeCommunityId"),
        repository_unique_id: text(one, "RepositoryUniqueId"),
        document_unique_id: text(one, "DocumentUniqueId"),
    });
    documents.collect()
}
