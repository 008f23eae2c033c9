//! What family and doctor wrote for the emergency (MEIS 医療的ケア児等): `CarePlan`, whom to call, who
//! looks after the patient. Devices and vital signs are read like everybody's.

use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{
    ClinicalStatus, ItemDetail, ItemValue, SummaryItem, SummarySection, VerificationStatus,
};

use super::bundle::{Place, Reading};
use super::elements::{Concept, concept_detail, date, period, shown, text_detail};
use super::item::{new, notes};
use super::json::Json;

/// Activities of one plan, contacts of one patient, members of one team.
const MAX_PARTS: usize = 32;
/// Whom not to call about the patient: employer, insurer, billing. HL7 v2 table 0131.
const NOT_FAMILY: &[&str] = &["B", "E", "F", "I", "S"];

/// Reads a `CarePlan`: what it is called, what to do, each activity, since when.
///
/// What was only drafted or proposed is not taken.
pub(super) fn plan(place: &Place<'_, '_, '_>) -> Reading {
    let plan = place.resource;
    let clinical = match plan.text_of("status") {
        "entered-in-error" | "draft" => return Reading::Nothing,
        _ if plan.text_of("intent") == "proposal" => return Reading::Nothing,
        "active" => ClinicalStatus::Active,
        "on-hold" => ClinicalStatus::OnHold,
        "revoked" => ClinicalStatus::Inactive,
        "completed" => ClinicalStatus::Resolved,
        _ => ClinicalStatus::Unspecified,
    };
    let categories = plan.get("category").items();
    let mut concept = categories.first().map(Concept::of).unwrap_or_default();
    let title = shown(plan.text_of("title"));
    let description = shown(plan.text_of("description"));
    if !title.is_empty() {
        concept.text = title;
    } else if concept.is_empty() {
        concept.text.clone_from(&description);
    }
    if concept.is_empty() {
        return Reading::NotUnderstood;
    }
    let recorded = date(plan.text_of("created"));
    let mut item = new(place, SummarySection::Care, &concept, recorded);
    if description != concept.text && !description.is_empty() {
        item.value = Some(ItemValue {
            value: Some(Value::Text(description)),
            ..ItemValue::default()
        });
    }
    (item.start, item.end) = period(plan.get("period"));
    item.clinical_status = clinical.into();
    let activities = plan.get("activity").items().iter().take(MAX_PARTS);
    item.details = activities.flat_map(activity).collect();
    item.details
        .extend(text_detail("note", "備考", &notes(plan)));
    Reading::Items(vec![item])
}

/// What is done, and how often or how deep.
fn activity(activity: &Json<'_>) -> Vec<ItemDetail> {
    let detail = activity.get("detail");
    let stopped = ["cancelled", "stopped", "entered-in-error"];
    if stopped.contains(&detail.text_of("status")) {
        return Vec::new();
    }
    let what = Concept::of(detail.get("code")).display();
    let said = [
        what.as_str(),
        detail.text_of("description"),
        detail.text_of("scheduledString"),
    ];
    let said: Vec<_> = said.into_iter().filter(|text| !text.is_empty()).collect();
    text_detail("activity", "ケア", &said.join(" "))
        .into_iter()
        .collect()
}

/// Whom to call, and who looks after the patient, out of the Patient.
pub(super) fn patient(place: &Place<'_, '_, '_>) -> Vec<SummaryItem> {
    let patient = place.resource;
    let contacts = patient.get("contact").items().iter().take(MAX_PARTS);
    let doctors = patient.get("generalPractitioner").items();
    let doctors = doctors.iter().take(MAX_PARTS);
    contacts
        .filter_map(|one| contact(place, one))
        .chain(doctors.filter_map(|one| member(place, one, &Concept::default())))
        .collect()
}

fn contact(place: &Place<'_, '_, '_>, contact: &Json<'_>) -> Option<SummaryItem> {
    let relations = contact.get("relationship").items();
    let relations: Vec<_> = relations.iter().map(Concept::of).collect();
    let name = Concept {
        text: name(contact.get("name")),
        ..Concept::default()
    };
    let phones: Vec<_> = phones(contact).collect();
    let other = relations.iter().any(|one| one.has_code(NOT_FAMILY));
    if other || name.is_empty() || phones.is_empty() {
        return None;
    }
    let mut item = new(place, SummarySection::Contact, &name, String::new());
    let related = relations
        .iter()
        .filter_map(|one| concept_detail("relationship", "続柄", one));
    item.details = related.chain(phones).collect();
    Some(item)
}

/// Reads a `CareTeam`: each member that has a name.
pub(super) fn team(place: &Place<'_, '_, '_>) -> Reading {
    let over = ["entered-in-error", "inactive", "proposed"];
    if over.contains(&place.resource.text_of("status")) {
        return Reading::Nothing;
    }
    let members = place.resource.get("participant").items().iter();
    let items: Vec<_> = members
        .take(MAX_PARTS)
        .filter_map(|one| {
            let roles = one.get("role").items();
            let role = roles.first().map(Concept::of).unwrap_or_default();
            member(place, one.get("member"), &role)
        })
        .collect();
    match items.is_empty() {
        true => Reading::Nothing,
        false => Reading::Items(items),
    }
}

fn member(place: &Place<'_, '_, '_>, reference: &Json<'_>, role: &Concept) -> Option<SummaryItem> {
    let target = place.bundle.resolve(place.resource, reference);
    let target = target.unwrap_or(Json::null());
    // An Organization has a name, a person a list of names.
    let named = match target.get("name").items().first() {
        Some(first) => name(first),
        None => shown(target.text_of("name")),
    };
    let text = match named.is_empty() {
        true => shown(reference.text_of("display")),
        false => named,
    };
    let concept = Concept {
        text,
        ..Concept::default()
    };
    if concept.is_empty() {
        return None;
    }
    let mut item = new(place, SummarySection::CareTeam, &concept, String::new());
    item.details = concept_detail("role", "役割", role)
        .into_iter()
        .chain(phones(target))
        .collect();
    Some(item)
}

/// A `HumanName` in one piece.
fn name(name: &Json<'_>) -> String {
    let text = shown(name.text_of("text"));
    if !text.is_empty() {
        return text;
    }
    let given = name.get("given").items().iter().map(Json::text);
    let parts: Vec<_> = std::iter::once(name.text_of("family"))
        .chain(given)
        .filter(|part| !part.is_empty())
        .collect();
    shown(&parts.join(" "))
}

/// The telephone numbers that `of` has, old ones left out.
pub(super) fn phones(of: &Json<'_>) -> impl Iterator<Item = ItemDetail> {
    let numbers = of.get("telecom").items().iter().take(MAX_PARTS);
    numbers
        .filter(|one| one.text_of("use") != "old")
        .filter(|one| ["phone", "sms", ""].contains(&one.text_of("system")))
        .filter_map(|one| text_detail("telephone", "電話", one.text_of("value")))
}

/// Who wrote a document, and who stands for it.
#[derive(Debug, Default)]
pub(super) struct Authorship {
    /// Patient or family wrote it.
    by_family: bool,
    /// Who approved it, and when; empty if nobody did.
    approval: String,
}

impl Authorship {
    /// By the types of the authors of `composition`, and its attesters.
    pub(super) fn of<'b, 'a>(
        composition: &'b Json<'a>,
        resolve: impl Fn(&'b Json<'a>) -> Option<&'b Json<'a>>,
    ) -> Self {
        let authors = composition.get("author").items().iter().take(MAX_PARTS);
        let kinds: Vec<_> = authors
            .filter_map(&resolve)
            .map(|author| author.text_of("resourceType"))
            .collect();
        let family = |kind: &&str| ["Patient", "RelatedPerson"].contains(kind);
        let attesters = composition.get("attester").items().iter().take(MAX_PARTS);
        let approving = ["professional", "legal", "official"];
        let approval = attesters
            .filter(|one| approving.contains(&one.text_of("mode")))
            .map(|one| {
                let party = resolve(one.get("party")).unwrap_or(Json::null());
                let who = match party.get("name").items().first() {
                    Some(first) => name(first),
                    None => shown(one.get("party").text_of("display")),
                };
                format!("{who} {}", date(one.text_of("time")))
            })
            .find(|approval| !approval.trim().is_empty());
        Self {
            by_family: !kinds.is_empty() && kinds.iter().all(family),
            approval: approval.unwrap_or_default(),
        }
    }

    /// Marks what patient or family wrote: as their word, or with who approved it.
    pub(super) fn mark(&self, item: &mut SummaryItem) {
        if !self.by_family {
            return;
        }
        let approval = text_detail("approval", "承認", &self.approval);
        let unspecified = item.verification_status() == VerificationStatus::Unspecified;
        if unspecified && approval.is_none() {
            item.verification_status = VerificationStatus::PatientStated.into();
        }
        item.details.extend(approval);
    }
}
