//! A DocumentEntry (ITI TF-3 §4.2.3.2).

use crate::error::Reason;
use crate::identity::identifier;
use crate::types::{
    Confidentiality, DocumentUniqueId, Dtm, LanguageTag, MimeType, RepositoryUniqueId, Sha1Hash,
};
use crate::wire::pb::documents as pb;

use super::super::profile::{Attribute, Confidentialities, Demand, Hashes};
use super::{Check, Transaction, ValidEntry, parts};

/// Characters of a uniqueId that other registries take (IPF); longer ones are warned of.
const USUAL_UNIQUE_ID: usize = 128;

impl Check<'_> {
    pub(super) fn entry(&mut self, mut entry: pb::DocumentEntry) -> Option<ValidEntry> {
        let unique_id: Option<DocumentUniqueId> =
            self.faults.required("unique_id", &entry.unique_id);
        if entry.unique_id.len() > USUAL_UNIQUE_ID {
            let message = format!("is longer than {USUAL_UNIQUE_ID} characters");
            self.warn(Reason::InvalidField, "unique_id", message);
        }
        let patient = self.same_patient(entry.patient_id.as_ref());
        self.source_patient(&entry);
        self.entry_codes(&entry);
        self.confidentiality(&entry);
        self.entry_authors(&entry);
        let on_demand = self.object_type(&entry);
        self.times(&entry, on_demand);
        self.faults
            .required::<LanguageTag>("language_code", &entry.language_code);
        self.mime(&entry.mime_type);
        self.title("title", entry.title.as_ref(), parts::MAX_TITLE);
        self.title("comments", entry.comments.as_ref(), parts::MAX_TEXT);
        self.references(&entry);
        self.uri(&entry.uri);
        let (sha1, size) = self.integrity(&entry, on_demand);
        if let Some(sha1) = sha1 {
            entry.hash = sha1.to_string();
        }
        self.common(
            &entry.home_community_id,
            entry.limited_metadata,
            &entry.extension_slots,
        );
        self.repository(&mut entry, on_demand);
        let logical = self.logical(&entry.logical_id);
        let symbolic = entry.entry_uuid.clone();
        let uuid = self.assigned(&symbolic)?;
        entry.home_community_id = self.rules.home.to_string();
        if entry.object_type() == pb::ObjectType::Unspecified {
            entry.object_type = pb::ObjectType::Stable.into();
        }
        patient?;
        Some(ValidEntry {
            symbolic,
            uuid,
            unique_id: unique_id?,
            sha1,
            size,
            logical,
            entry,
        })
    }

    /// sourcePatientId is required; sourcePatientInfo has fields of PID that are not identifiers of
    /// other kinds (ITI TF-3 §4.2.3.2.23).
    fn source_patient(&mut self, entry: &pb::DocumentEntry) {
        if let Err(error) = identifier(entry.source_patient_id.as_ref(), "source_patient_id") {
            self.faults.error(error);
        }
        for (index, info) in entry.source_patient_info.iter().enumerate() {
            let field = format!("source_patient_info[{index}]");
            let number = info.field.strip_prefix("PID-");
            let number = number.and_then(|number| number.parse::<u8>().ok());
            match number {
                Some(1..=39) => {}
                _ => self.faults.invalid(&field, "is not a field of PID"),
            }
            if matches!(number, Some(2 | 4 | 12 | 19)) {
                self.faults.invalid(&field, "is a field that is not kept");
            }
            let before = entry.source_patient_info.iter().take(index);
            let again = before.filter(|other| other.field == info.field).count() > 0;
            if again && matches!(number, Some(7 | 8)) {
                self.faults.invalid(&field, "stands twice");
            }
        }
    }

    fn entry_codes(&mut self, entry: &pb::DocumentEntry) {
        for (field, attribute, code) in [
            ("class_code", Attribute::ClassCode, &entry.class_code),
            ("type_code", Attribute::TypeCode, &entry.type_code),
            ("format_code", Attribute::FormatCode, &entry.format_code),
            (
                "healthcare_facility_type_code",
                Attribute::HealthcareFacilityTypeCode,
                &entry.healthcare_facility_type_code,
            ),
            (
                "practice_setting_code",
                Attribute::PracticeSettingCode,
                &entry.practice_setting_code,
            ),
        ] {
            self.code(field, attribute, code.as_ref());
        }
        self.codes("event_codes", Attribute::EventCode, &entry.event_codes);
    }

    fn confidentiality(&mut self, entry: &pb::DocumentEntry) {
        let field = "confidentiality_codes";
        let codes = &entry.confidentiality_codes;
        self.codes(field, Attribute::ConfidentialityCode, codes);
        let hl7 = codes
            .iter()
            .filter(|code| Confidentiality::from_code(&code.code).is_some())
            .count();
        match (hl7, self.rules.profile.confidentiality) {
            (1, _) | (0, Confidentialities::Any) if !codes.is_empty() => {}
            (_, Confidentialities::Any) if hl7 > 1 => {}
            (_, Confidentialities::Any) => self.faults.missing(field),
            (0, Confidentialities::Hl7) => self.faults.add(
                Reason::MissingField,
                field,
                "needs one of U, L, M, N, R, V (2.16.840.1.113883.5.25)",
            ),
            _ => self
                .faults
                .invalid(field, "has more than one of U, L, M, N, R, V"),
        }
    }

    /// authorInstitution is mandatory in Japan, authorPerson is not (JAHIS guide).
    fn entry_authors(&mut self, entry: &pb::DocumentEntry) {
        self.authors("authors", &entry.authors);
        if let Some(authenticator) = &entry.legal_authenticator {
            self.person("legal_authenticator", authenticator);
        }
        let institutions = entry.authors.iter().flat_map(|author| &author.institutions);
        let mut named = institutions.filter(|institution| !institution.name.is_empty());
        if self.rules.profile.author_institution == Demand::Required && named.next().is_none() {
            let message = "needs an author with an institution (authorInstitution)";
            self.faults.add(Reason::MissingField, "authors", message);
        }
    }

    /// Whether it is on-demand, which one transaction takes only, and takes only.
    fn object_type(&mut self, entry: &pb::DocumentEntry) -> bool {
        let on_demand = entry.object_type() == pb::ObjectType::OnDemand;
        let right = match self.transaction {
            Transaction::Provide | Transaction::Register => !on_demand,
            Transaction::OnDemand => on_demand,
            Transaction::Update | Transaction::RestrictedUpdate => true,
        };
        if !right {
            let message = "is of the kind that another transaction registers";
            self.faults.invalid("object_type", message);
        }
        on_demand
    }

    fn times(&mut self, entry: &pb::DocumentEntry, on_demand: bool) {
        if on_demand {
            if !entry.creation_time.is_empty() && !self.transaction.is_update() {
                let message = "an on-demand document has none yet";
                self.faults.invalid("creation_time", message);
            }
        } else {
            self.faults
                .required::<Dtm>("creation_time", &entry.creation_time);
        }
        let start: Option<Dtm> = self
            .faults
            .optional("service_start_time", &entry.service_start_time);
        let stop: Option<Dtm> = self
            .faults
            .optional("service_stop_time", &entry.service_stop_time);
        if let (Some(start), Some(stop)) = (start, stop)
            && start.earliest() > stop.latest()
        {
            let message = "is before the start of the service";
            self.faults.invalid("service_stop_time", message);
        }
    }

    fn mime(&mut self, value: &str) {
        let Some(mime) = self.faults.required::<MimeType>("mime_type", value) else {
            return;
        };
        if !self.rules.profile.takes(&mime.essence()) {
            let message = "is not a media type that this community takes";
            self.faults.add(Reason::UnknownCode, "mime_type", message);
        }
    }

    /// referenceIdList: `CXi` (ITI TF-3 §4.2.3.2.28).
    fn references(&mut self, entry: &pb::DocumentEntry) {
        for (index, reference) in entry.reference_ids.iter().enumerate() {
            let field = format!("reference_ids[{index}]");
            if reference.id.is_empty() {
                self.faults.missing(&format!("{field}.id"));
            }
            if reference.type_code.is_empty() {
                self.faults.missing(&format!("{field}.type_code"));
            }
        }
    }

    fn uri(&mut self, uri: &str) {
        let form = |byte: u8| byte.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&byte);
        if !uri.bytes().all(form) {
            self.faults.invalid("uri", "is not a URI (RFC 3986)");
        }
    }

    /// Hash and size. A document without them could change unseen, so they are asked for unless the
    /// community's profile says that the repository computes them.
    fn integrity(
        &mut self,
        entry: &pb::DocumentEntry,
        on_demand: bool,
    ) -> (Option<Sha1Hash>, Option<u64>) {
        if on_demand {
            let given = !entry.hash.is_empty() || entry.size.is_some();
            if given && !self.transaction.is_update() {
                let message = "an on-demand document has neither hash nor size";
                self.faults.invalid("hash", message);
            }
            return (None, None);
        }
        let asked = match self.transaction {
            Transaction::Provide => self.rules.profile.hash == Hashes::Required,
            Transaction::Register => true,
            _ => false,
        };
        let sha1 = self.faults.optional("hash", &entry.hash);
        if asked && entry.hash.is_empty() {
            let message = "the SHA-1 of the document is required";
            self.faults.add(Reason::MissingHash, "hash", message);
        }
        match entry.size {
            None if asked => {
                let message = "the size of the document is required";
                self.faults.add(Reason::MissingHash, "size", message);
            }
            Some(size) if size > self.rules.max_document_bytes => {
                let most = self.rules.max_document_bytes;
                let message = format!("is more than the {most} bytes taken here");
                self.faults.add(Reason::MessageTooLarge, "size", message);
            }
            _ => {}
        }
        (sha1, entry.size)
    }

    /// The repository. What is provided here is in the one here; what is registered is in another.
    fn repository(&mut self, entry: &mut pb::DocumentEntry, on_demand: bool) {
        let field = "repository_unique_id";
        let given: Option<RepositoryUniqueId> =
            self.faults.optional(field, &entry.repository_unique_id);
        let own = self.rules.repository.as_ref();
        match self.transaction {
            Transaction::Provide => {
                if given.is_some() && given.as_ref() != own {
                    let message = "is not the repository of this community";
                    self.faults.add(Reason::UnknownRepository, field, message);
                }
                if let Some(own) = own {
                    entry.repository_unique_id = own.to_string();
                }
            }
            Transaction::Register | Transaction::OnDemand => {
                if entry.repository_unique_id.is_empty() {
                    self.faults.missing(field);
                } else if given.is_some() && given.as_ref() == own && !on_demand {
                    let message = "is the repository of this node; provide the document to it";
                    self.faults.add(Reason::UnknownRepository, field, message);
                } else if let Some(given) = given {
                    entry.repository_unique_id = given.to_string();
                }
            }
            // Judged against what is registered.
            Transaction::Update | Transaction::RestrictedUpdate => {}
        }
    }
}
