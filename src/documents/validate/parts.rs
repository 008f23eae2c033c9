//! The parts that entries, folders and submission sets share: codes, people, texts, extension slots.

use crate::error::Reason;
use crate::identity::identifier;
use crate::types::{HomeCommunityId, Oid, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::super::profile::{Attribute, Known};
use super::Check;

/// Characters of a document's title (counted in characters: Japanese is three bytes each).
pub(super) const MAX_TITLE: usize = 128;
/// Characters of the title of a submission set or folder.
pub(super) const MAX_PACKAGE_TITLE: usize = 256;
/// Characters of any text (ebRIM `LocalizedString`).
pub(super) const MAX_TEXT: usize = 1_024;
/// Characters of the name and of a value of a slot (ebRIM `LongName`).
const MAX_SLOT: usize = 256;
/// Slots of one object, and values of one slot.
const MAX_SLOTS: usize = 100;

impl Check<'_> {
    pub(super) fn oid(&mut self, field: &str, value: &str) -> Option<Oid> {
        if value.is_empty() {
            self.faults.missing(field);
            return None;
        }
        self.faults.parsed(Reason::InvalidOid, field, value)
    }

    /// The patientId, which must be the submission set's (ITI-42 §3.42.4.1.3.3).
    pub(super) fn same_patient(
        &mut self,
        given: Option<&cpb::Identifier>,
    ) -> Option<PatientIdentifier> {
        match identifier(given, "patient_id") {
            Err(error) => {
                self.faults.error(error);
                None
            }
            Ok(patient) if patient == self.patient => Some(patient),
            // An update may say so: then it is judged against what is registered.
            Ok(_) => {
                let reason = if self.transaction.is_update() {
                    Reason::PatientReconciliation
                } else {
                    Reason::PatientMismatch
                };
                let message = "is not the patient of the submission set";
                self.faults.add(reason, "patient_id", message);
                None
            }
        }
    }

    /// What every object has: home community, no label of limited metadata, extension slots.
    pub(super) fn common(&mut self, home: &str, limited: bool, slots: &[pb::ExtensionSlot]) {
        let home: Option<HomeCommunityId> = self.faults.optional("home_community_id", home);
        // Registered only under the own community (INV-4).
        if home.is_some_and(|home| home != self.rules.home) {
            let message = "is another community's; documents are registered in their own";
            self.faults
                .add(Reason::ForeignDomain, "home_community_id", message);
        }
        if limited {
            let message = "a registry takes no limited metadata";
            self.faults.invalid("limited_metadata", message);
        }
        self.slots(slots);
    }

    fn slots(&mut self, slots: &[pb::ExtensionSlot]) {
        if slots.len() > MAX_SLOTS {
            let message = format!("must hold at most {MAX_SLOTS}");
            self.faults.invalid("extension_slots", message);
            return;
        }
        for (index, slot) in slots.iter().enumerate() {
            let field = format!("extension_slots[{index}]");
            let name = slot.name.as_str();
            if !name.starts_with("urn:") || name.starts_with("urn:ihe:") {
                let message = "a name begins with `urn:`, and not with `urn:ihe:`";
                self.faults.invalid(&field, message);
            }
            if slots.iter().take(index).any(|other| other.name == name) {
                self.faults.invalid(&field, "stands twice");
            }
            let long = |text: &String| text.chars().count() > MAX_SLOT;
            if slot.values.len() > MAX_SLOTS
                || long(&slot.name)
                || long(&slot.slot_type)
                || slot.values.iter().any(long)
            {
                let message = format!("has more than {MAX_SLOTS} values or {MAX_SLOT} characters");
                self.faults.invalid(&field, message);
            }
        }
    }

    /// A code that must be there, in its system and in the community's set if that is closed.
    pub(super) fn code(
        &mut self,
        field: &str,
        attribute: Attribute,
        code: Option<&cpb::CodedValue>,
    ) {
        let Some(code) = code.filter(|code| !code.code.is_empty() && !code.system.is_empty())
        else {
            let message = "needs a code and its system";
            self.faults.add(Reason::MissingField, field, message);
            return;
        };
        let text = format!(
            "{} {} of {} is not in the set of this community",
            attribute.name(),
            code.code,
            code.system
        );
        match self.rules.profile.judge(attribute, code) {
            Known::Yes | Known::Accepted => {}
            Known::Warned => self.warn(Reason::UnknownCode, field, text),
            Known::Refused => self.faults.add(Reason::UnknownCode, field, text),
        }
    }

    pub(super) fn codes(&mut self, field: &str, attribute: Attribute, codes: &[cpb::CodedValue]) {
        for (index, code) in codes.iter().enumerate() {
            self.code(&format!("{field}[{index}]"), attribute, Some(code));
        }
    }

    /// Texts of at most `most` characters; those of a document's title are a line.
    pub(super) fn title(
        &mut self,
        field: &str,
        text: Option<&cpb::InternationalString>,
        most: usize,
    ) {
        let values = text.map_or(&[][..], |text| text.values.as_slice());
        for (index, value) in values.iter().enumerate() {
            if value.value.chars().count() > most {
                let message = format!("is longer than {most} characters");
                let place = format!("{field}.values[{index}]");
                self.faults.invalid(&place, message);
            }
            self.faults.optional::<crate::types::LanguageTag>(
                &format!("{field}.values[{index}].language"),
                &value.language,
            );
        }
    }

    /// Authors: each is a person, an organisation or a contact at least (ITI TF-3 §4.2.3.1.4.1).
    pub(super) fn authors(&mut self, field: &str, authors: &[pb::Author]) {
        for (index, author) in authors.iter().enumerate() {
            self.within(format!("{field}[{index}]"), |check| {
                if author.person.is_none()
                    && author.institutions.is_empty()
                    && author.telecoms.is_empty()
                {
                    check
                        .faults
                        .invalid("", "needs a person, an institution or a telecom");
                }
                if let Some(person) = &author.person {
                    check.person("person", person);
                }
                for (at, institution) in author.institutions.iter().enumerate() {
                    check.organization(&format!("institutions[{at}]"), institution);
                }
                for (at, telecom) in author.telecoms.iter().enumerate() {
                    check.telecom(&format!("telecoms[{at}]"), telecom);
                }
                for (name, texts) in [
                    ("roles", &author.roles),
                    ("specialties", &author.specialties),
                ] {
                    for (at, text) in texts.iter().enumerate() {
                        if text.code.is_empty() && text.display_name.is_empty() {
                            check.faults.missing(&format!("{name}[{at}]"));
                        }
                    }
                }
            });
        }
    }

    /// XCN: an id or a family name; an assigning authority only with an id.
    pub(super) fn person(&mut self, field: &str, person: &pb::MetadataPerson) {
        if person.id.is_empty() && person.family.is_empty() {
            self.faults.invalid(field, "needs an id or a family name");
        }
        self.authority(field, &person.assigning_authority, &person.id);
    }

    /// XON: a name; an id alone is an OID, else it has an assigning authority or is a number.
    pub(super) fn organization(&mut self, field: &str, organization: &pb::MetadataOrganization) {
        if organization.name.is_empty() {
            self.faults.missing(&format!("{field}.name"));
        }
        self.authority(field, &organization.assigning_authority, &organization.id);
    }

    fn authority(&mut self, field: &str, authority: &str, id: &str) {
        let place = format!("{field}.assigning_authority");
        if !authority.is_empty() {
            self.faults
                .parsed::<Oid>(Reason::InvalidOid, &place, authority);
            if id.is_empty() {
                self.faults.invalid(&place, "is there without an id");
            }
        }
    }

    /// XTN: an address of the internet, or a telephone number.
    pub(super) fn telecom(&mut self, field: &str, telecom: &pb::MetadataTelecom) {
        let internet = telecom.equipment == "Internet";
        let number = [
            &telecom.country_code,
            &telecom.area_code,
            &telecom.local_number,
            &telecom.text,
        ];
        if internet && (telecom.email.is_empty() || !matches!(telecom.r#use.as_str(), "" | "NET")) {
            let message = "an internet address has an e-mail address, and the use NET or none";
            self.faults.invalid(field, message);
        }
        if !internet && telecom.email.is_empty() && number.iter().all(|part| part.is_empty()) {
            self.faults.invalid(field, "has neither number nor address");
        }
    }

    /// intendedRecipient: one part at least.
    pub(super) fn recipients(&mut self, recipients: &[pb::IntendedRecipient]) {
        for (index, recipient) in recipients.iter().enumerate() {
            self.within(format!("intended_recipients[{index}]"), |check| {
                if recipient.organization.is_none()
                    && recipient.person.is_none()
                    && recipient.telecom.is_none()
                {
                    let message = "needs an organisation, a person or a telecom";
                    check.faults.invalid("", message);
                }
                if let Some(organization) = &recipient.organization {
                    check.organization("organization", organization);
                }
                if let Some(person) = &recipient.person {
                    check.person("person", person);
                }
                if let Some(telecom) = &recipient.telecom {
                    check.telecom("telecom", telecom);
                }
            });
        }
    }
}
