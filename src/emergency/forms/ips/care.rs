//! Devices, warnings, wishes, care.

use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{ClinicalStatus, SummaryItem};

use super::super::text::{self, join};
use super::elements::{
    date_time, detail, details, known, quantity, reference, value_concept, when,
};
use super::json::{Json, list, object, text as string};
use super::resources::{Around, Members, TIMING, head, named, notes, recorded};

pub(super) fn device_use(item: &SummaryItem, around: Around<'_>) -> Members {
    let status = match item.clinical_status() {
        ClinicalStatus::Unspecified | ClinicalStatus::Active | ClinicalStatus::Recurrence => {
            "active"
        }
        ClinicalStatus::Resolved => "completed",
        ClinicalStatus::Inactive | ClinicalStatus::Remission => "stopped",
        ClinicalStatus::OnHold => "on-hold",
    };
    let site = details(item, "body-site").next();
    let mut members = head("DeviceUseStatement", "DeviceUseStatement-uv-ips", item);
    members.extend([
        ("status", string(status)),
        ("subject", reference(around.patient)),
        when(&TIMING, item),
        ("recordedOn", recorded(item)),
        ("device", reference(around.device)),
        ("bodySite", site.map_or(Json::None, value_concept)),
        ("note", notes(item, around)),
    ]);
    members
}

/// The Device that an item is about, with its settings.
pub(super) fn device(item: &SummaryItem, patient: &str) -> Json {
    let settings = item
        .details
        .iter()
        .filter(|one| text::code_of(one) == "setting")
        .filter_map(|one| {
            let said = one.value.as_ref()?;
            let name = object([("text", string(text::coded(one.name.as_ref())))]);
            let exact = match &said.value {
                Some(Value::Quantity(amount)) => quantity(amount),
                _ => None,
            };
            let value = match exact {
                Some(exact) => ("valueQuantity", list([exact])),
                None => ("valueCode", list([value_concept(said)])),
            };
            Some(object([("type", name), value]))
        });
    let safety = details(item, "safety").map(value_concept);
    let mut members = head("Device", "Device-uv-ips", item);
    members.extend([
        ("manufacturer", string(detail(item, "manufacturer"))),
        ("modelNumber", string(detail(item, "model"))),
        ("type", named(item)),
        ("property", list(settings)),
        ("patient", reference(patient)),
        ("safety", list(safety)),
    ]);
    object(members)
}

/// A Flag of the IPS is active; one that is not is in the narrative.
pub(super) fn flag(item: &SummaryItem, around: Around<'_>) -> Option<Json> {
    let over = [
        ClinicalStatus::Inactive,
        ClinicalStatus::Resolved,
        ClinicalStatus::Remission,
        ClinicalStatus::OnHold,
    ];
    if over.contains(&item.clinical_status()) {
        return None;
    }
    let (start, end) = (date_time(&item.start), date_time(&item.end));
    let mut members = head("Flag", "Flag-alert-uv-ips", item);
    members.extend([
        ("status", string("active")),
        (
            "category",
            list(details(item, "category").map(value_concept)),
        ),
        ("code", named(item)),
        ("subject", reference(around.patient)),
        ("period", object([("start", start), ("end", end)])),
    ]);
    Some(object(members))
}

pub(super) fn directive(item: &SummaryItem, around: Around<'_>) -> Members {
    let status = match item.clinical_status() {
        ClinicalStatus::Inactive
        | ClinicalStatus::Resolved
        | ClinicalStatus::Remission
        | ClinicalStatus::OnHold => "inactive",
        ClinicalStatus::Unspecified | ClinicalStatus::Active | ClinicalStatus::Recurrence => {
            "active"
        }
    };
    let wish = detail(item, "provision");
    let wish = ["permit", "deny"].into_iter().find(|one| *one == wish);
    let (start, end) = (date_time(&item.start), date_time(&item.end));
    let provision = object([
        ("type", string(wish.unwrap_or_default())),
        ("period", object([("start", start.clone()), ("end", end)])),
    ]);
    let rule = join(
        [
            text::display(item, around.language),
            around.remark.to_owned(),
        ],
        "; ",
    );
    let mut members = head("Consent", "", item);
    members.extend([
        ("status", string(status)),
        (
            "scope",
            known(
                "http://terminology.hl7.org/CodeSystem/consentscope",
                "adr",
                "Advanced Care Directive",
            ),
        ),
        ("category", list([named(item)])),
        ("patient", reference(around.patient)),
        ("dateTime", start),
        // ppc-1 asks for a policy; the source states its wish in words.
        ("policyRule", object([("text", string(rule))])),
        ("provision", provision),
    ]);
    members
}

pub(super) fn care_plan(item: &SummaryItem, around: Around<'_>) -> Members {
    let status = match item.clinical_status() {
        ClinicalStatus::Unspecified | ClinicalStatus::Active | ClinicalStatus::Recurrence => {
            "active"
        }
        ClinicalStatus::Inactive | ClinicalStatus::Remission => "revoked",
        ClinicalStatus::Resolved => "completed",
        ClinicalStatus::OnHold => "on-hold",
    };
    let said = item.value.as_ref().map(text::value).unwrap_or_default();
    let activities = details(item, "activity").map(|one| {
        let detail = object([
            ("status", string("unknown")),
            ("description", string(text::value(one))),
        ]);
        object([("detail", detail)])
    });
    let (start, end) = (date_time(&item.start), date_time(&item.end));
    let mut members = head("CarePlan", "", item);
    members.extend([
        ("status", string(status)),
        ("intent", string("plan")),
        ("title", string(text::display(item, around.language))),
        ("description", string(said)),
        ("subject", reference(around.patient)),
        ("period", object([("start", start), ("end", end)])),
        ("activity", list(activities)),
        ("note", notes(item, around)),
    ]);
    members
}
