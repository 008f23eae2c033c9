//! `DeviceUseStatement` and Device: 体内・装着機器と設定.

use std::collections::HashSet;

use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{ClinicalStatus, ItemDetail, SummarySection};

use super::bundle::{Bundle, Place, Reading};
use super::elements::{
    Concept, concept_detail, detail, first_date, period, quantity, shown, text_detail,
};
use super::item::{absence, new, notes};
use super::json::Json;

/// Settings of one device; a ventilator has some twenty.
const MAX_PROPERTIES: usize = 64;

/// Places of the devices that a `DeviceUseStatement` of the Bundle speaks about: read with it, not
/// alone.
pub(super) fn used(bundle: &Bundle<'_, '_>) -> HashSet<usize> {
    bundle
        .of_type("DeviceUseStatement")
        .filter_map(|statement| bundle.position(statement.get("device")))
        .collect()
}

/// Reads a `DeviceUseStatement` with the Device that it is about.
pub(super) fn use_statement(place: &Place<'_, '_, '_>) -> Reading {
    let statement = place.resource;
    let clinical = match statement.text_of("status") {
        "entered-in-error" | "intended" => return Reading::Nothing,
        "active" => ClinicalStatus::Active,
        "completed" => ClinicalStatus::Resolved,
        "stopped" => ClinicalStatus::Inactive,
        "on-hold" => ClinicalStatus::OnHold,
        _ => ClinicalStatus::Unspecified,
    };
    let device = place.target("device");
    let named = shown(statement.get("device").text_of("display"));
    let recorded = first_date(statement, &["recordedOn"]);
    let (start, end) = period(statement.get("timingPeriod"));
    let moment = first_date(statement, &["timingDateTime"]);
    let start = if start.is_empty() { moment } else { start };
    let mut concept = device.map(concept).unwrap_or_default();
    if concept.is_empty() {
        concept.text = named;
    }
    let mut found = details(device.unwrap_or(Json::null()));
    found.extend(concept_detail(
        "body-site",
        "部位",
        &Concept::of(statement.get("bodySite")),
    ));
    found.extend(text_detail("note", "備考", &notes(statement)));
    item(place, &concept, recorded, clinical, (start, end), found)
}

/// Reads a Device that is the patient's, with no statement about its use.
pub(super) fn device(place: &Place<'_, '_, '_>) -> Reading {
    let device = place.resource;
    // What belongs to nobody is equipment, or the software that wrote the document.
    if device.get("patient").is_null() {
        return Reading::Nothing;
    }
    let clinical = match device.text_of("status") {
        "entered-in-error" => return Reading::Nothing,
        "active" => ClinicalStatus::Active,
        "inactive" => ClinicalStatus::Inactive,
        _ => ClinicalStatus::Unspecified,
    };
    let mut found = details(device);
    found.extend(text_detail("note", "備考", &notes(device)));
    let nothing = (String::new(), String::new());
    item(
        place,
        &concept(device),
        String::new(),
        clinical,
        nothing,
        found,
    )
}

fn item(
    place: &Place<'_, '_, '_>,
    concept: &Concept,
    recorded: String,
    clinical: ClinicalStatus,
    (start, end): (String, String),
    details: Vec<ItemDetail>,
) -> Reading {
    if let Some(absent) = absence(place, SummarySection::Device, concept, recorded.clone()) {
        return absent;
    }
    if concept.is_empty() {
        return Reading::NotUnderstood;
    }
    let mut item = new(place, SummarySection::Device, concept, recorded);
    item.clinical_status = clinical.into();
    item.start = start;
    item.end = end;
    item.details = details;
    Reading::Items(vec![item])
}

/// What a Device is: its type, or the name that it has.
fn concept(device: &Json<'_>) -> Concept {
    let mut concept = Concept::of(device.get("type"));
    if concept.is_empty() {
        let names = device.get("deviceName").items();
        concept.text = names
            .first()
            .map(|name| shown(name.text_of("name")))
            .unwrap_or_default();
    }
    concept
}

/// Maker, model, safety and settings of a Device.
fn details(device: &Json<'_>) -> Vec<ItemDetail> {
    let words = [
        text_detail("manufacturer", "製造元", device.text_of("manufacturer")),
        text_detail("model", "型番", device.text_of("modelNumber")),
    ];
    let safety = device.get("safety").items().iter().take(8);
    let safety = safety.filter_map(|of| concept_detail("safety", "安全性", &Concept::of(of)));
    let properties = device.get("property").items().iter().take(MAX_PROPERTIES);
    let settings = properties.flat_map(|property| {
        let name = Concept::of(property.get("type"));
        let label = name.display();
        let quantities = property.get("valueQuantity").items().iter().take(4);
        let quantities = quantities.filter_map(quantity).map(Value::Quantity);
        let coded = property.get("valueCode").items().iter().take(4);
        let coded = coded.filter_map(|value| Concept::of(value).value());
        let values: Vec<_> = quantities.chain(coded).collect();
        values
            .into_iter()
            .map(move |value| detail("setting", &label, value))
    });
    let supplier = device.get("contact").items().iter().take(4);
    let supplier =
        supplier.filter_map(|one| text_detail("telephone", "電話", one.text_of("value")));
    words
        .into_iter()
        .flatten()
        .chain(safety)
        .chain(settings)
        .chain(supplier)
        .collect()
}
