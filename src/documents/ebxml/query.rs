//! Stored queries from their ebXML form (ITI-18 §3.18.4.1.2): slots with values in a small syntax of
//! its own. `'text'` is one value, `('a','b')` a list, a number stands bare; two slots of one name are
//! joined by AND where a parameter allows it.

use crate::error::{Error, Reason, Result};
use crate::types::PatientIdentifier;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;
use pb::stored_query::Query;

use super::{QUERY, RIM, names, values};
use crate::xml::{Element, parse};

/// Reads an `AdhocQueryRequest`, with or without a SOAP envelope around.
///
/// # Errors
/// [`Reason::UnknownQuery`], [`Reason::MissingParameter`], [`Reason::ParameterNumber`];
/// [`Reason::InvalidParameter`] for a value without its form, or no such request at all. The field is
/// the parameter.
pub fn read_query(bytes: &[u8]) -> Result<pb::QueryRegistryRequest> {
    let no_query = |message: &'static str| Error::new(Reason::InvalidParameter, message);
    let root =
        parse(bytes).map_err(|error| Error::new(Reason::InvalidParameter, error.to_string()))?;
    let request = root
        .find("AdhocQueryRequest")
        .filter(|request| request.namespace == QUERY)
        .ok_or_else(|| no_query("is no AdhocQueryRequest"))?;
    let query = request
        .child("AdhocQuery")
        .filter(|query| query.namespace == RIM)
        .ok_or_else(|| no_query("has no AdhocQuery"))?;
    let option = request.child("ResponseOption");
    let return_type = match option.and_then(|option| option.attribute("returnType")) {
        Some("ObjectRef") => pb::ReturnType::ObjectRef,
        Some("LeafClass") => pb::ReturnType::LeafClass,
        _ => {
            return Err(Error::field(
                Reason::InvalidParameter,
                "returnType",
                "is not known",
            ));
        }
    };
    let slots = Slots::of(query)?;
    let level = match slots.one("$MetadataLevel")?.as_deref() {
        None | Some("1") => pb::MetadataLevel::Latest,
        Some("2") => pb::MetadataLevel::All,
        Some(_) => return Err(wrong("$MetadataLevel", "is neither 1 nor 2")),
    };
    let id = query.attribute("id").unwrap_or_default();
    Ok(pb::QueryRegistryRequest {
        query: Some(pb::StoredQuery {
            query: Some(stored(&id.to_ascii_lowercase(), &slots)?),
            home_community_id: query.attribute("home").unwrap_or_default().to_owned(),
            metadata_level: level.into(),
        }),
        return_type: return_type.into(),
        ..Default::default()
    })
}

#[expect(clippy::too_many_lines, reason = "a case for each stored query")]
fn stored(id: &str, slots: &Slots) -> Result<Query> {
    Ok(match id.strip_prefix("urn:uuid:").unwrap_or_default() {
        "14d4debf-8f97-4251-9a74-a90016b0af0d" => Query::FindDocuments(pb::FindDocumentsQuery {
            patient_id: Some(slots.patient("$XDSDocumentEntryPatientId")?),
            filter: Some(slots.filter("")?),
            exclude: None,
        }),
        "4308b1df-36de-4bef-8e2e-ba91f593c435" => Query::FindDocuments(pb::FindDocumentsQuery {
            patient_id: Some(slots.patient("$XDSDocumentEntryPatientId")?),
            filter: Some(slots.filter("")?),
            exclude: Some(slots.filter("Exclude")?),
        }),
        "12941a89-e02e-4be5-967c-ce4bfc8fe492" => {
            let parameter = "$XDSDocumentEntryReferenceIdList";
            let ids = |list: Vec<String>| {
                let ids = list.iter().map(|text| values::cxi(text));
                ids.collect::<Result<_, _>>()
                    .map(|any_of| pb::ReferenceIdList { any_of })
                    .map_err(|message| wrong(parameter, message))
            };
            let lists = slots.lists(parameter)?;
            if lists.is_empty() {
                return Err(missing(parameter));
            }
            Query::FindDocumentsByReferenceId(pb::FindDocumentsByReferenceIdQuery {
                patient_id: Some(slots.patient("$XDSDocumentEntryPatientId")?),
                reference_ids: lists.into_iter().map(ids).collect::<Result<_>>()?,
                filter: Some(slots.filter("")?),
            })
        }
        "f26abbcb-ac74-4422-8a30-edb644bbc1a9" => {
            Query::FindSubmissionSets(pb::FindSubmissionSetsQuery {
                patient_id: Some(slots.patient("$XDSSubmissionSetPatientId")?),
                statuses: slots.required_statuses("$XDSSubmissionSetStatus")?,
                source_ids: slots.many("$XDSSubmissionSetSourceId")?,
                submission_time: slots.range("$XDSSubmissionSetSubmissionTime")?,
                author_person: slots
                    .one("$XDSSubmissionSetAuthorPerson")?
                    .unwrap_or_default(),
                content_type_codes: slots.codes("$XDSSubmissionSetContentType")?,
            })
        }
        "958f3006-baad-4929-a4de-ff1114824431" => Query::FindFolders(pb::FindFoldersQuery {
            patient_id: Some(slots.patient("$XDSFolderPatientId")?),
            statuses: slots.required_statuses("$XDSFolderStatus")?,
            last_update_time: slots.range("$XDSFolderLastUpdateTime")?,
            codes: slots.code_lists("$XDSFolderCodeList")?,
        }),
        "10b545ea-725c-446d-9b95-8aeb444eddf3" => Query::GetAll(pb::GetAllQuery {
            patient_id: Some(slots.patient("$patientId")?),
            document_statuses: slots.required_statuses("$XDSDocumentEntryStatus")?,
            submission_set_statuses: slots.required_statuses("$XDSSubmissionSetStatus")?,
            folder_statuses: slots.required_statuses("$XDSFolderStatus")?,
            content: Some(slots.content()?),
            association_statuses: slots.statuses("$XDSAssociationStatus")?,
        }),
        "5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4" => Query::GetDocuments(pb::GetDocumentsQuery {
            documents: Some(slots.selector("$XDSDocumentEntry", true)?),
        }),
        "5737b14c-8a1a-4539-b659-e03a34a5e1e4" => Query::GetFolders(pb::GetFoldersQuery {
            folders: Some(slots.selector("$XDSFolder", true)?),
        }),
        "a7ae438b-4bc2-4642-93e9-be891f7bb155" => {
            Query::GetAssociations(pb::GetAssociationsQuery {
                uuids: slots.required("$uuid")?,
                association_statuses: slots.statuses("$XDSAssociationStatus")?,
            })
        }
        "bab9529a-4a10-40b3-a01f-f68a615d247a" => {
            Query::GetDocumentsAndAssociations(pb::GetDocumentsAndAssociationsQuery {
                documents: Some(slots.selector("$XDSDocumentEntry", true)?),
                association_statuses: slots.statuses("$XDSAssociationStatus")?,
            })
        }
        "51224314-5390-4169-9b91-b1980040715a" => {
            Query::GetSubmissionSets(pb::GetSubmissionSetsQuery {
                uuids: slots.required("$uuid")?,
                association_statuses: slots.statuses("$XDSAssociationStatus")?,
            })
        }
        "e8e3cb2c-e39c-46b9-99e4-c12f57260b83" => {
            Query::GetSubmissionSetAndContents(pb::GetSubmissionSetAndContentsQuery {
                submission_set: Some(slots.selector("$XDSSubmissionSet", false)?),
                content: Some(slots.content()?),
            })
        }
        "b909a503-523d-4517-8acf-8e5834dfc4c7" => {
            Query::GetFolderAndContents(pb::GetFolderAndContentsQuery {
                folder: Some(slots.selector("$XDSFolder", false)?),
                content: Some(slots.content()?),
                association_statuses: slots.statuses("$XDSAssociationStatus")?,
            })
        }
        "10cae35a-c7f9-4cf5-b61e-fc3278ffb578" => {
            Query::GetFoldersForDocument(pb::GetFoldersForDocumentQuery {
                document: Some(slots.selector("$XDSDocumentEntry", false)?),
            })
        }
        "d90e5407-b356-4d91-a89f-873917b4b0e6" => {
            let types = slots.required("$AssociationTypes")?;
            let types = types
                .iter()
                .map(|urn| names::association_type(urn).0.into());
            Query::GetRelatedDocuments(pb::GetRelatedDocumentsQuery {
                document: Some(slots.selector("$XDSDocumentEntry", false)?),
                association_types: types.collect(),
                object_types: slots.object_types("")?,
                association_statuses: slots.statuses("$XDSAssociationStatus")?,
            })
        }
        _ => {
            let message = "is no stored query of this registry";
            return Err(Error::field(Reason::UnknownQuery, "AdhocQuery.id", message));
        }
    })
}

fn missing(parameter: &str) -> Error {
    Error::field(
        Reason::MissingParameter,
        parameter.to_owned(),
        "is required",
    )
}

fn wrong(parameter: &str, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::field(Reason::InvalidParameter, parameter.to_owned(), message)
}

/// The parameters of a query: name, and the values of each `Value` element.
#[derive(Debug)]
struct Slots(Vec<(String, Vec<String>)>);

impl Slots {
    fn of(query: &Element) -> Result<Self> {
        let mut slots = Vec::new();
        for slot in query.all("Slot") {
            let name = slot.attribute("name").unwrap_or_default().to_owned();
            let list = slot.child("ValueList").ok_or_else(|| missing(&name))?;
            let values = list.all("Value").map(|value| value.trimmed().to_owned());
            slots.push((name, values.collect()));
        }
        Ok(Self(slots))
    }

    /// The lists of a parameter that may stand several times.
    fn lists(&self, parameter: &str) -> Result<Vec<Vec<String>>> {
        let slots = self.0.iter().filter(|(name, _)| name == parameter);
        slots
            .map(|(_, values)| {
                let mut all = Vec::new();
                for value in values {
                    let list =
                        list(value).ok_or_else(|| wrong(parameter, "is not a list `('a','b')`"))?;
                    all.extend(list);
                }
                match all.is_empty() {
                    true => Err(missing(parameter)),
                    false => Ok(all),
                }
            })
            .collect()
    }

    /// The values of a parameter that stands once.
    fn many(&self, parameter: &str) -> Result<Vec<String>> {
        let mut lists = self.lists(parameter)?;
        match lists.len() {
            0 | 1 => Ok(lists.pop().unwrap_or_default()),
            _ => Err(Error::field(
                Reason::ParameterNumber,
                parameter.to_owned(),
                "stands more than once",
            )),
        }
    }

    fn required(&self, parameter: &str) -> Result<Vec<String>> {
        let values = self.many(parameter)?;
        match values.is_empty() {
            true => Err(missing(parameter)),
            false => Ok(values),
        }
    }

    /// The one value of a parameter: `'text'`, a number, or a list of one.
    fn one(&self, parameter: &str) -> Result<Option<String>> {
        let mut slots = self.0.iter().filter(|(name, _)| name == parameter);
        let Some((_, values)) = slots.next() else {
            return Ok(None);
        };
        let mut all = Vec::new();
        for value in values {
            let read = single(value).map(|one| vec![one]).or_else(|| list(value));
            all.extend(read.ok_or_else(|| wrong(parameter, "is not `'text'` or a number"))?);
        }
        match (all.len(), slots.next()) {
            (0, _) => Err(missing(parameter)),
            (1, None) => Ok(all.pop()),
            _ => Err(Error::field(
                Reason::ParameterNumber,
                parameter.to_owned(),
                "has more than one value",
            )),
        }
    }

    fn patient(&self, parameter: &str) -> Result<cpb::Identifier> {
        let text = self.one(parameter)?.ok_or_else(|| missing(parameter))?;
        let patient: PatientIdentifier = text
            .parse()
            .map_err(|_| wrong(parameter, "is not `ID^^^&OID&ISO`"))?;
        Ok(cpb::Identifier {
            assigning_authority: patient.authority.to_string(),
            value: patient.id.as_str().to_owned(),
            ..Default::default()
        })
    }

    /// Statuses; those that are not known are not looked at.
    fn statuses(&self, parameter: &str) -> Result<Vec<i32>> {
        let stated = self.many(parameter)?;
        let known = stated.iter().map(|urn| i32::from(names::status(urn)));
        Ok(known.filter(|status| *status != 0).collect())
    }

    fn required_statuses(&self, parameter: &str) -> Result<Vec<i32>> {
        let statuses = self.statuses(parameter)?;
        match statuses.is_empty() {
            true => Err(missing(parameter)),
            false => Ok(statuses),
        }
    }

    fn code(parameter: &str, text: &str) -> Result<cpb::CodedValue> {
        let parts: Vec<&str> = text.split('^').collect();
        match parts.as_slice() {
            [code, "", system] if !code.is_empty() && !system.is_empty() => Ok(cpb::CodedValue {
                code: (*code).to_owned(),
                system: (*system).to_owned(),
                ..Default::default()
            }),
            _ => Err(wrong(parameter, "is not `code^^scheme`")),
        }
    }

    fn codes(&self, parameter: &str) -> Result<Vec<cpb::CodedValue>> {
        let texts = self.many(parameter)?;
        texts
            .iter()
            .map(|text| Self::code(parameter, text))
            .collect()
    }

    fn code_lists(&self, parameter: &str) -> Result<Vec<pb::CodeList>> {
        let list = |texts: Vec<String>| -> Result<pb::CodeList> {
            let codes = texts.iter().map(|text| Self::code(parameter, text));
            Ok(pb::CodeList {
                any_of: codes.collect::<Result<_>>()?,
            })
        };
        self.lists(parameter)?.into_iter().map(list).collect()
    }

    fn range(&self, parameter: &str) -> Result<Option<pb::TimeRange>> {
        let bound = |end| -> Result<String> {
            let name = format!("{parameter}{end}");
            let text = self.one(&name)?.unwrap_or_default();
            if !text.is_empty() && text.parse::<crate::types::Dtm>().is_err() {
                return Err(wrong(&name, "is not a date-time"));
            }
            Ok(text)
        };
        let (from, to) = (bound("From")?, bound("To")?);
        Ok((!from.is_empty() || !to.is_empty()).then_some(pb::TimeRange { from, to }))
    }

    fn object_types(&self, suffix: &str) -> Result<Vec<i32>> {
        let stated = self.many(&format!("$XDSDocumentEntryType{suffix}"))?;
        let known = stated
            .iter()
            .filter_map(|urn| match urn.to_ascii_lowercase().as_str() {
                names::STABLE => Some(pb::ObjectType::Stable.into()),
                names::ON_DEMAND => Some(pb::ObjectType::OnDemand.into()),
                _ => None,
            });
        Ok(known.collect())
    }

    fn content(&self) -> Result<pb::ContentFilter> {
        Ok(pb::ContentFilter {
            format_codes: self.codes("$XDSDocumentEntryFormatCode")?,
            confidentiality_codes: self.code_lists("$XDSDocumentEntryConfidentialityCode")?,
            object_types: self.object_types("")?,
        })
    }

    /// The parameters of document entries; `Exclude` for what they must not have.
    fn filter(&self, suffix: &str) -> Result<pb::DocumentFilter> {
        let name = |parameter: &str| format!("$XDSDocumentEntry{parameter}{suffix}");
        let availabilities = self.many(&name("DocumentAvailability"))?;
        let availabilities = availabilities
            .iter()
            .filter_map(|urn| names::availability(urn));
        let mut filter = pb::DocumentFilter {
            class_codes: self.codes(&name("ClassCode"))?,
            type_codes: self.codes(&name("TypeCode"))?,
            practice_setting_codes: self.codes(&name("PracticeSettingCode"))?,
            healthcare_facility_type_codes: self.codes(&name("HealthcareFacilityTypeCode"))?,
            event_codes: self.code_lists(&name("EventCodeList"))?,
            confidentiality_codes: self.code_lists(&name("ConfidentialityCode"))?,
            format_codes: self.codes(&name("FormatCode"))?,
            author_persons: self.many(&name("AuthorPerson"))?,
            object_types: self.object_types(suffix)?,
            document_availabilities: availabilities.map(i32::from).collect(),
            ..Default::default()
        };
        if suffix.is_empty() {
            filter.statuses = self.required_statuses("$XDSDocumentEntryStatus")?;
            filter.creation_time = self.range("$XDSDocumentEntryCreationTime")?;
            filter.service_start_time = self.range("$XDSDocumentEntryServiceStartTime")?;
            filter.service_stop_time = self.range("$XDSDocumentEntryServiceStopTime")?;
        }
        Ok(filter)
    }

    /// The objects named by one of their ids; of several ids only one kind may be there.
    fn selector(&self, object: &str, several: bool) -> Result<pb::ObjectSelector> {
        let ids = |kind: &str| -> Result<Vec<String>> {
            let parameter = format!("{object}{kind}");
            match several {
                true => self.many(&parameter),
                false => Ok(self.one(&parameter)?.into_iter().collect()),
            }
        };
        let selector = pb::ObjectSelector {
            entry_uuids: ids("EntryUUID")?,
            unique_ids: ids("UniqueId")?,
            logical_ids: ids("LogicalID")?,
        };
        let filled = [
            &selector.entry_uuids,
            &selector.unique_ids,
            &selector.logical_ids,
        ];
        match filled.iter().filter(|ids| !ids.is_empty()).count() {
            0 => Err(missing(&format!("{object}EntryUUID"))),
            1 => Ok(selector),
            _ => Err(Error::field(
                Reason::ParameterNumber,
                format!("{object}EntryUUID"),
                "stands beside another kind of id",
            )),
        }
    }
}

/// `'text'`, with `''` for a quote in it, or a number.
fn single(value: &str) -> Option<String> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.to_owned());
    }
    match quoted(value)? {
        (text, "") => Some(text),
        _ => None,
    }
}

/// A text in quotes at the beginning, and what comes after it.
fn quoted(value: &str) -> Option<(String, &str)> {
    let mut rest = value.strip_prefix('\'')?;
    let mut text = String::new();
    loop {
        let (before, after) = rest.split_once('\'')?;
        text.push_str(before);
        match after.strip_prefix('\'') {
            Some(more) => {
                text.push('\'');
                rest = more;
            }
            None => return Some((text, after)),
        }
    }
}

/// `('a','b')`.
fn list(value: &str) -> Option<Vec<String>> {
    let mut rest = value.strip_prefix('(')?.strip_suffix(')')?.trim();
    let mut all = Vec::new();
    loop {
        let (text, after) = quoted(rest)?;
        all.push(text);
        let after = after.trim_start();
        if after.is_empty() {
            return Some(all);
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_syntax() {
        let some = |texts: &[&str]| Some(texts.iter().map(ToString::to_string).collect());
        assert_eq!(list("('a','b')"), some(&["a", "b"]));
        assert_eq!(list("( 'a' , 'it''s' )"), some(&["a", "it's"]));
        assert_eq!(list("('')"), some(&[""]));
        for wrong in [
            "'a'",
            "()",
            "('a'",
            "('a' 'b')",
            "('a',)",
            "(a)",
            "('a','b)",
            "(''')",
        ] {
            assert_eq!(list(wrong), None, "{wrong}");
        }
        assert_eq!(single("'it''s'").as_deref(), Some("it's"));
        assert_eq!(single("2004").as_deref(), Some("2004"));
        for wrong in ["text", "'text", "text'", "'a'b", "", "-1", "('a')"] {
            assert_eq!(single(wrong), None, "{wrong}");
        }
    }

    fn request(id: &str, slots: &[(&str, &[&str])]) -> String {
        let slot = |(name, values): &(&str, &[&str])| {
            let values: Vec<String> = values
                .iter()
                .map(|value| format!("<Value>{}</Value>", value.replace('&', "&amp;")))
                .collect();
            let values = values.concat();
            format!("<Slot name=\"{name}\"><ValueList>{values}</ValueList></Slot>")
        };
        let slots: String = slots.iter().map(slot).collect();
        format!(
            "<q:AdhocQueryRequest xmlns:q=\"{QUERY}\" xmlns=\"{RIM}\">\
             <q:ResponseOption returnType=\"LeafClass\" returnComposedObjects=\"true\"/>\
             <AdhocQuery id=\"urn:uuid:{id}\">{slots}</AdhocQuery></q:AdhocQueryRequest>"
        )
    }

    const FIND: &str = "14d4debf-8f97-4251-9a74-a90016b0af0d";
    const PATIENT: (&str, &[&str]) = ("$XDSDocumentEntryPatientId", &["'1^^^&1.2&ISO'"]);
    const APPROVED: (&str, &[&str]) = (
        "$XDSDocumentEntryStatus",
        &["('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')"],
    );

    #[test]
    fn and_and_or_are_told_apart() {
        let event = "$XDSDocumentEntryEventCodeList";
        let text = request(
            FIND,
            &[
                PATIENT,
                APPROVED,
                (event, &["('a^^s')", "('b^^s','c^^s')"]),
                (event, &["('d^^s')"]),
                ("$XDSDocumentEntryCreationTimeFrom", &["200412252300"]),
                ("$SomethingElse", &["is not looked at"]),
            ],
        );
        let read = read_query(text.as_bytes()).unwrap();
        let Some(Query::FindDocuments(find)) = read.query.unwrap().query else {
            panic!("another query");
        };
        let filter = find.filter.unwrap();
        let lists: Vec<usize> = filter
            .event_codes
            .iter()
            .map(|list| list.any_of.len())
            .collect();
        assert_eq!(lists, [3, 1]);
        assert_eq!(filter.creation_time.unwrap().from, "200412252300");
    }

    type Case<'a> = (&'a str, Vec<(&'a str, &'a [&'a str])>, Reason, &'a str);

    #[test]
    fn each_fault_has_its_code_and_parameter() {
        let class = "$XDSDocumentEntryClassCode";
        let cases: Vec<Case<'_>> = vec![
            (FIND, vec![APPROVED], Reason::MissingParameter, PATIENT.0),
            (FIND, vec![PATIENT], Reason::MissingParameter, APPROVED.0),
            (
                FIND,
                vec![PATIENT, (APPROVED.0, &["('urn:other')"])],
                Reason::MissingParameter,
                APPROVED.0,
            ),
            (
                FIND,
                vec![PATIENT, PATIENT, APPROVED],
                Reason::ParameterNumber,
                PATIENT.0,
            ),
            (
                FIND,
                vec![
                    PATIENT,
                    APPROVED,
                    (class, &["('a^^s')"]),
                    (class, &["('b^^s')"]),
                ],
                Reason::ParameterNumber,
                class,
            ),
            (
                FIND,
                vec![PATIENT, APPROVED, (class, &["('a')"])],
                Reason::InvalidParameter,
                class,
            ),
            (
                FIND,
                vec![PATIENT, APPROVED, (class, &["'a^^s'"])],
                Reason::InvalidParameter,
                class,
            ),
            (
                "5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4",
                vec![],
                Reason::MissingParameter,
                "$XDSDocumentEntryEntryUUID",
            ),
            (
                "00000000-0000-0000-0000-000000000000",
                vec![],
                Reason::UnknownQuery,
                "AdhocQuery.id",
            ),
        ];
        for (id, slots, reason, field) in cases {
            let error = read_query(request(id, &slots).as_bytes()).unwrap_err();
            assert_eq!((error.reason(), error.wrong_field()), (reason, Some(field)));
        }
    }
}
