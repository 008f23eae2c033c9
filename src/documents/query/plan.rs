//! A stored query, checked: required parameters are there, single ones are single, identifiers have
//! their form (ITI-18 §3.18.4.1.2.3.7). What is left to do with it cannot fail for its form.

use crate::error::{Error, Reason, Result};
use crate::identity::identifier;
use crate::types::{DocumentUniqueId, EntryUuid, HomeCommunityId, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;
use pb::stored_query::Query;

use super::filter::{EntryFilter, FolderFilter, SetFilter, Statuses};

/// Objects a query may name.
pub(crate) const MAX_NAMED: usize = 500;

/// Objects by one kind of id.
#[derive(Clone, Debug)]
pub(crate) enum Names {
    /// entryUUIDs.
    Uuids(Vec<EntryUuid>),
    /// uniqueIds.
    Uniques(Vec<DocumentUniqueId>),
    /// logicalIDs: the latest version of each, or all at level 2.
    Logicals(Vec<EntryUuid>),
}

/// The stored queries of ITI-18.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// `FindDocuments`, `FindDocumentsByReferenceId`.
    FindDocuments(PatientIdentifier, Box<EntryFilter>),
    /// `FindSubmissionSets`.
    FindSubmissionSets(PatientIdentifier, SetFilter),
    /// `FindFolders`.
    FindFolders(PatientIdentifier, FolderFilter),
    /// `GetAll`.
    GetAll(PatientIdentifier, Box<All>),
    /// `GetDocuments`.
    GetDocuments(Names, Box<EntryFilter>),
    /// `GetFolders`.
    GetFolders(Names, FolderFilter),
    /// `GetAssociations`.
    GetAssociations(Vec<EntryUuid>, Statuses),
    /// `GetDocumentsAndAssociations`.
    GetDocumentsAndAssociations(Names, Box<EntryFilter>, Statuses),
    /// `GetSubmissionSets`.
    GetSubmissionSets(Vec<EntryUuid>, Statuses),
    /// `GetSubmissionSetAndContents`.
    GetSubmissionSetAndContents(Names, Box<EntryFilter>, Statuses),
    /// `GetFolderAndContents`.
    GetFolderAndContents(Names, Box<EntryFilter>, Statuses),
    /// `GetFoldersForDocument`.
    GetFoldersForDocument(Names, FolderFilter),
    /// `GetRelatedDocuments`: the document, the types of relation, which entries, which relations.
    GetRelatedDocuments(Names, Vec<i32>, Box<EntryFilter>, Statuses),
}

/// What `GetAll` looks for.
#[derive(Clone, Debug)]
pub(crate) struct All {
    pub(crate) entries: EntryFilter,
    pub(crate) sets: SetFilter,
    pub(crate) folders: FolderFilter,
    pub(crate) associations: Statuses,
}

impl Plan {
    /// The sequence after which changes are asked for; 0 if all are.
    pub(crate) fn changed_since(&self) -> u64 {
        match self {
            Self::FindDocuments(_, filter)
            | Self::GetDocuments(_, filter)
            | Self::GetDocumentsAndAssociations(_, filter, _)
            | Self::GetSubmissionSetAndContents(_, filter, _)
            | Self::GetFolderAndContents(_, filter, _)
            | Self::GetRelatedDocuments(_, _, filter, _) => filter.changed_since(),
            Self::GetAll(_, all) => all.entries.changed_since(),
            _ => 0,
        }
    }

    /// Checks a query to the registry of the community `home`.
    ///
    /// # Errors
    /// [`Reason::MissingParameter`], [`Reason::ParameterNumber`], [`Reason::InvalidParameter`],
    /// [`Reason::UnknownQuery`], [`Reason::UnknownCommunity`]; [`Reason::NotImplemented`] for the
    /// queries of ITI-51; each names its field.
    pub(crate) fn new(query: &pb::StoredQuery, home: &HomeCommunityId) -> Result<Self> {
        if !query.home_community_id.is_empty() {
            let named: HomeCommunityId =
                parsed(&query.home_community_id, "query.home_community_id")?;
            if named != *home {
                let message = "is another community's; ask the InitiatingGatewayService";
                let field = "query.home_community_id";
                return Err(Error::field(Reason::UnknownCommunity, field, message));
            }
        }
        let Some(asked) = &query.query else {
            let message = "names no stored query that this version knows";
            return Err(Error::field(Reason::UnknownQuery, "query", message));
        };
        let (name, level) = (name(asked), query.metadata_level());
        plan(asked, level).map_err(|error| error.within(&format!("query.{name}")))
    }

    /// The patient the query is about, if it names one.
    pub(crate) fn patient(&self) -> Option<&PatientIdentifier> {
        match self {
            Self::FindDocuments(patient, _)
            | Self::FindSubmissionSets(patient, _)
            | Self::FindFolders(patient, _)
            | Self::GetAll(patient, _) => Some(patient),
            _ => None,
        }
    }
}

fn plan(asked: &Query, level: pb::MetadataLevel) -> Result<Plan> {
    let optional = |stated: &[i32]| associations(stated, level);
    Ok(match asked {
        Query::FindDocuments(find) => {
            let filter = find.filter.clone().unwrap_or_default();
            let filter = EntryFilter::new(&filter, find.exclude.as_ref(), &[], level)?;
            Plan::FindDocuments(patient(find.patient_id.as_ref())?, Box::new(filter))
        }
        Query::FindDocumentsByReferenceId(find) => {
            let lists = &find.reference_ids;
            if lists.is_empty() || lists.iter().any(|list| list.any_of.is_empty()) {
                return Err(missing("reference_ids"));
            }
            let filter = find.filter.clone().unwrap_or_default();
            let filter = EntryFilter::new(&filter, None, lists, level)?;
            Plan::FindDocuments(patient(find.patient_id.as_ref())?, Box::new(filter))
        }
        Query::FindSubmissionSets(find) => {
            Plan::FindSubmissionSets(patient(find.patient_id.as_ref())?, SetFilter::new(find)?)
        }
        Query::FindFolders(find) => {
            let filter = FolderFilter::new(find, level)?;
            Plan::FindFolders(patient(find.patient_id.as_ref())?, filter)
        }
        Query::GetAll(get) => Plan::GetAll(
            patient(get.patient_id.as_ref())?,
            Box::new(all(get, level)?),
        ),
        Query::GetDocuments(get) => Plan::GetDocuments(
            names(get.documents.as_ref(), "documents", true)?,
            every(level)?,
        ),
        Query::GetFolders(get) => Plan::GetFolders(
            names(get.folders.as_ref(), "folders", true)?,
            FolderFilter::of(Statuses::optional(&[]), level),
        ),
        Query::GetAssociations(get) => {
            Plan::GetAssociations(uuids(&get.uuids)?, optional(&get.association_statuses))
        }
        Query::GetDocumentsAndAssociations(get) => Plan::GetDocumentsAndAssociations(
            names(get.documents.as_ref(), "documents", false)?,
            every(level)?,
            optional(&get.association_statuses),
        ),
        Query::GetSubmissionSets(get) => {
            Plan::GetSubmissionSets(uuids(&get.uuids)?, optional(&get.association_statuses))
        }
        Query::GetSubmissionSetAndContents(get) => Plan::GetSubmissionSetAndContents(
            one(get.submission_set.as_ref(), "submission_set")?,
            content(get.content.as_ref(), level)?,
            optional(&[]),
        ),
        Query::GetFolderAndContents(get) => Plan::GetFolderAndContents(
            one(get.folder.as_ref(), "folder")?,
            content(get.content.as_ref(), level)?,
            optional(&get.association_statuses),
        ),
        Query::GetFoldersForDocument(get) => Plan::GetFoldersForDocument(
            one(get.document.as_ref(), "document")?,
            FolderFilter::of(Statuses::optional(&[]), level),
        ),
        Query::GetRelatedDocuments(get) => related(get, level)?,
        Query::FindDocumentsForMultiplePatients(_) | Query::FindFoldersForMultiplePatients(_) => {
            let message = "queries about a population (ITI-51) are not done by this version";
            return Err(Error::new(Reason::NotImplemented, message));
        }
    })
}

fn all(get: &pb::GetAllQuery, level: pb::MetadataLevel) -> Result<All> {
    let documents = Statuses::wanted(&get.document_statuses);
    Ok(All {
        entries: EntryFilter::content(get.content.as_ref(), documents, level)?,
        sets: SetFilter::of(Statuses::wanted(&get.submission_set_statuses)),
        folders: FolderFilter::of(Statuses::wanted(&get.folder_statuses), level),
        associations: associations(&get.association_statuses, level),
    })
}

fn related(get: &pb::GetRelatedDocumentsQuery, level: pb::MetadataLevel) -> Result<Plan> {
    let named = one(get.document.as_ref(), "document")?;
    // What is not understood is not looked at; if nothing is left, the parameter is missing.
    let types: Vec<i32> = get
        .association_types
        .iter()
        .copied()
        .filter(|kind| pb::AssociationType::try_from(*kind).is_ok_and(|kind| kind as i32 != 0))
        .collect();
    if types.is_empty() {
        return Err(missing("association_types"));
    }
    let content = pb::ContentFilter {
        object_types: get.object_types.clone(),
        ..Default::default()
    };
    let statuses = associations(&get.association_statuses, level);
    let entries = EntryFilter::content(Some(&content), Statuses::optional(&[]), level)?;
    Ok(Plan::GetRelatedDocuments(
        named,
        types,
        Box::new(entries),
        statuses,
    ))
}

/// Statuses of associations: at level 1 only Approved ones are seen, unless others are asked for.
fn associations(stated: &[i32], level: pb::MetadataLevel) -> Statuses {
    match level {
        pb::MetadataLevel::All => Statuses::optional(stated),
        _ => Statuses::wanted(stated),
    }
}

fn every(level: pb::MetadataLevel) -> Result<Box<EntryFilter>> {
    EntryFilter::every(level).map(Box::new)
}

fn content(
    content: Option<&pb::ContentFilter>,
    level: pb::MetadataLevel,
) -> Result<Box<EntryFilter>> {
    EntryFilter::content(content, Statuses::optional(&[]), level).map(Box::new)
}

fn missing(field: &'static str) -> Error {
    Error::field(Reason::MissingParameter, field, "is required")
}

fn patient(message: Option<&cpb::Identifier>) -> Result<PatientIdentifier> {
    match message {
        None => Err(missing("patient_id")),
        some => identifier(some, "patient_id"),
    }
}

/// One object.
fn one(selector: Option<&pb::ObjectSelector>, field: &'static str) -> Result<Names> {
    let names = names(selector, field, false)?;
    let count = match &names {
        Names::Uuids(uuids) | Names::Logicals(uuids) => uuids.len(),
        Names::Uniques(ids) => ids.len(),
    };
    match count {
        1 => Ok(names),
        _ => Err(Error::field(
            Reason::ParameterNumber,
            field,
            "names more than one object",
        )),
    }
}

/// Objects by exactly one kind of id.
fn names(
    selector: Option<&pb::ObjectSelector>,
    field: &'static str,
    logical: bool,
) -> Result<Names> {
    let selector = selector.ok_or_else(|| missing(field))?;
    let within = |error: Error| error.within(field);
    let filled = [
        &selector.entry_uuids,
        &selector.unique_ids,
        &selector.logical_ids,
    ];
    match filled.iter().filter(|list| !list.is_empty()).count() {
        0 => return Err(missing(field)),
        1 => {}
        _ => {
            let message = "names objects by more than one kind of id";
            return Err(Error::field(Reason::ParameterNumber, field, message));
        }
    }
    if !selector.logical_ids.is_empty() {
        if !logical {
            let message = "is not a parameter of this query";
            return Err(within(Error::field(
                Reason::ParameterNumber,
                "logical_ids",
                message,
            )));
        }
        return ids(&selector.logical_ids, "logical_ids")
            .map(Names::Logicals)
            .map_err(within);
    }
    match selector.entry_uuids.is_empty() {
        false => ids(&selector.entry_uuids, "entry_uuids")
            .map(Names::Uuids)
            .map_err(within),
        true => ids(&selector.unique_ids, "unique_ids")
            .map(Names::Uniques)
            .map_err(within),
    }
}

fn uuids(texts: &[String]) -> Result<Vec<EntryUuid>> {
    if texts.is_empty() {
        return Err(missing("uuids"));
    }
    ids(texts, "uuids")
}

/// Ids, each once, in the order given.
fn ids<T>(texts: &[String], field: &'static str) -> Result<Vec<T>>
where
    T: std::str::FromStr + Eq + std::hash::Hash + Clone,
    T::Err: std::fmt::Display,
{
    if texts.len() > MAX_NAMED {
        let message = format!("names more than {MAX_NAMED} objects");
        return Err(Error::field(Reason::TooManyResults, field, message));
    }
    let mut seen = std::collections::HashSet::new();
    let mut ids = Vec::with_capacity(texts.len());
    for text in texts {
        let id: T = parsed(text, field)?;
        if seen.insert(id.clone()) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn parsed<T>(text: &str, field: &'static str) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| Error::field(Reason::InvalidParameter, field, error.to_string()))
}

/// The field of a query in `StoredQuery`.
fn name(query: &Query) -> &'static str {
    match query {
        Query::FindDocuments(_) => "find_documents",
        Query::FindDocumentsByReferenceId(_) => "find_documents_by_reference_id",
        Query::FindSubmissionSets(_) => "find_submission_sets",
        Query::FindFolders(_) => "find_folders",
        Query::GetAll(_) => "get_all",
        Query::GetDocuments(_) => "get_documents",
        Query::GetFolders(_) => "get_folders",
        Query::GetAssociations(_) => "get_associations",
        Query::GetDocumentsAndAssociations(_) => "get_documents_and_associations",
        Query::GetSubmissionSets(_) => "get_submission_sets",
        Query::GetSubmissionSetAndContents(_) => "get_submission_set_and_contents",
        Query::GetFolderAndContents(_) => "get_folder_and_contents",
        Query::GetFoldersForDocument(_) => "get_folders_for_document",
        Query::GetRelatedDocuments(_) => "get_related_documents",
        Query::FindDocumentsForMultiplePatients(_) => "find_documents_for_multiple_patients",
        Query::FindFoldersForMultiplePatients(_) => "find_folders_for_multiple_patients",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: Query) -> Result<Plan> {
        let query = pb::StoredQuery {
            query: Some(query),
            ..Default::default()
        };
        Plan::new(&query, &"urn:oid:1.2.3".parse().unwrap())
    }

    #[expect(clippy::unnecessary_wraps, reason = "fields of messages are optional")]
    fn selector(uuids: &[&str], uniques: &[&str]) -> Option<pb::ObjectSelector> {
        let strings = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Some(pb::ObjectSelector {
            entry_uuids: strings(uuids),
            unique_ids: strings(uniques),
            logical_ids: vec![],
        })
    }

    const A: &str = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3";
    const B: &str = "urn:uuid:20b545ea-725c-446d-9b95-8aeb444eddf3";

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn each_broken_rule_has_its_code_and_field() {
        let folder = |folder| {
            Query::GetFolderAndContents(pb::GetFolderAndContentsQuery {
                folder,
                ..Default::default()
            })
        };
        let related = |association_types| {
            Query::GetRelatedDocuments(pb::GetRelatedDocumentsQuery {
                document: selector(&[A], &[]),
                association_types,
                ..Default::default()
            })
        };
        let cases = [
            (
                Query::FindDocuments(pb::FindDocumentsQuery::default()),
                Reason::MissingParameter,
                "query.find_documents.patient_id",
            ),
            (
                Query::FindDocumentsByReferenceId(pb::FindDocumentsByReferenceIdQuery::default()),
                Reason::MissingParameter,
                "query.find_documents_by_reference_id.reference_ids",
            ),
            (
                Query::GetAll(pb::GetAllQuery::default()),
                Reason::MissingParameter,
                "query.get_all.patient_id",
            ),
            (
                folder(None),
                Reason::MissingParameter,
                "query.get_folder_and_contents.folder",
            ),
            (
                folder(selector(&[A, B], &[])),
                Reason::ParameterNumber,
                "query.get_folder_and_contents.folder",
            ),
            (
                folder(selector(&[A], &["1.2"])),
                Reason::ParameterNumber,
                "query.get_folder_and_contents.folder",
            ),
            (
                folder(selector(&["not-a-uuid"], &[])),
                Reason::InvalidParameter,
                "query.get_folder_and_contents.folder.entry_uuids",
            ),
            (
                related(vec![]),
                Reason::MissingParameter,
                "query.get_related_documents.association_types",
            ),
            (
                related(vec![0, 99]),
                Reason::MissingParameter,
                "query.get_related_documents.association_types",
            ),
            (
                Query::GetAssociations(pb::GetAssociationsQuery::default()),
                Reason::MissingParameter,
                "query.get_associations.uuids",
            ),
            (
                Query::FindDocumentsForMultiplePatients(
                    pb::FindDocumentsForMultiplePatientsQuery::default(),
                ),
                Reason::NotImplemented,
                "query.find_documents_for_multiple_patients",
            ),
        ];
        for (query, reason, field) in cases {
            let error = check(query).unwrap_err();
            assert_eq!((error.reason(), error.wrong_field()), (reason, Some(field)));
        }
        let missing = Reason::MissingParameter.ihe_code();
        assert_eq!(missing, "XDSStoredQueryMissingParam");
    }

    #[test]
    fn a_query_without_a_name_or_for_others_is_refused() {
        let home = "urn:oid:1.2.3".parse().unwrap();
        let error = Plan::new(&pb::StoredQuery::default(), &home).unwrap_err();
        assert_eq!(error.reason().ihe_code(), "XDSUnknownStoredQuery");
        let query = pb::StoredQuery {
            home_community_id: "urn:oid:9.9.9".into(),
            ..Default::default()
        };
        assert!(Plan::new(&query, &home).is_err());
    }

    #[test]
    fn an_id_named_twice_is_asked_for_once() {
        let get = pb::GetDocumentsQuery {
            documents: selector(
                &[A, &A.to_uppercase().replace("URN:UUID", "urn:uuid"), B],
                &[],
            ),
        };
        let Plan::GetDocuments(Names::Uuids(uuids), _) = check(Query::GetDocuments(get)).unwrap()
        else {
            panic!("another plan");
        };
        assert_eq!(uuids.len(), 2);
    }
}
