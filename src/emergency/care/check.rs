//! What a care record must be. Bounds are those of reading it back, so that nothing is lost silently.

use crate::access::Caller;
use crate::error::{Error, Reason, Result};
use crate::types::PersonRole;
use crate::wire::pb::emergency as pb;

use super::Draft;

/// Contacts, devices, items, instructions and members of the team, of each.
const MAX_PARTS: usize = 32;
/// Settings of one device, details of one item.
const MAX_SETTINGS: usize = 64;
/// Characters of one text.
const MAX_TEXT: usize = 1_000;

fn invalid(field: impl Into<String>, message: impl Into<String>) -> Error {
    Error::field(Reason::InvalidField, field.into(), message.into())
}

fn text(field: impl Into<String>, value: &str) -> Result<()> {
    let field = field.into();
    if value.trim().is_empty() {
        return Err(Error::field(Reason::MissingField, field, "is missing"));
    }
    if value.chars().count() > MAX_TEXT {
        let message = format!("is longer than {MAX_TEXT} characters");
        return Err(invalid(field, message));
    }
    Ok(())
}

/// Checks a record and who stands for it.
///
/// # Errors
/// The first thing that is wrong, with its field.
pub(super) fn check(draft: &Draft<'_>, caller: &Caller) -> Result<()> {
    let record = draft.record;
    let counts = [
        ("record.contacts", record.contacts.len()),
        ("record.devices", record.devices.len()),
        ("record.items", record.items.len()),
        ("record.instructions", record.instructions.len()),
        ("record.care_team", record.care_team.len()),
    ];
    for (field, count) in counts {
        if count > MAX_PARTS {
            return Err(invalid(field, format!("has more than {MAX_PARTS} parts")));
        }
    }
    if counts.iter().all(|(_, count)| *count == 0) {
        return Err(Error::missing("record"));
    }
    let author = record.author.as_ref();
    let author = author.ok_or_else(|| Error::missing("record.author"))?;
    text("record.author.display_name", &author.display_name)?;
    contacts(record)?;
    devices(record)?;
    items(record)?;
    for (at, one) in record.instructions.iter().enumerate() {
        text(
            format!("record.instructions[{at}].situation"),
            &one.situation,
        )?;
        text(format!("record.instructions[{at}].action"), &one.action)?;
    }
    for (at, one) in record.care_team.iter().enumerate() {
        text(format!("record.care_team[{at}].name"), &one.name)?;
    }
    if let Some(until) = &record.valid_to
        && crate::wire::from_timestamp(until).is_none_or(|until| until <= draft.now)
    {
        return Err(invalid("record.valid_to", "is over, or no time"));
    }
    approval(draft, caller)
}

fn contacts(record: &pb::CareRecord) -> Result<()> {
    for (at, contact) in record.contacts.iter().enumerate() {
        text(format!("record.contacts[{at}].name"), &contact.name)?;
        let field = format!("record.contacts[{at}].telecoms");
        if contact.telecoms.len() > MAX_PARTS {
            return Err(invalid(field, format!("has more than {MAX_PARTS} parts")));
        }
        // Nobody can be called without a number.
        if contact
            .telecoms
            .iter()
            .all(|one| one.value.trim().is_empty())
        {
            return Err(Error::field(Reason::MissingField, field, "is missing"));
        }
    }
    Ok(())
}

fn devices(record: &pb::CareRecord) -> Result<()> {
    for (at, device) in record.devices.iter().enumerate() {
        let named = device.device.as_ref().is_some_and(|device| {
            !device.code.trim().is_empty() || !device.display_name.trim().is_empty()
        });
        if !named {
            let field = format!("record.devices[{at}].device");
            return Err(Error::field(Reason::MissingField, field, "is missing"));
        }
        details(&format!("record.devices[{at}].settings"), &device.settings)?;
    }
    Ok(())
}

fn items(record: &pb::CareRecord) -> Result<()> {
    use pb::SummarySection::{Care, Unspecified};
    for (at, item) in record.items.iter().enumerate() {
        text(format!("record.items[{at}].display"), &item.display)?;
        if ![Care, Unspecified].contains(&item.section()) {
            let message = "must be CARE: what else is known comes in documents of its own kind";
            return Err(invalid(format!("record.items[{at}].section"), message));
        }
        details(&format!("record.items[{at}].details"), &item.details)?;
    }
    Ok(())
}

fn details(field: &str, details: &[pb::ItemDetail]) -> Result<()> {
    if details.len() > MAX_SETTINGS {
        return Err(invalid(
            field,
            format!("has more than {MAX_SETTINGS} parts"),
        ));
    }
    for (at, detail) in details.iter().enumerate() {
        use pb::item_value::Value;
        let field = format!("{field}[{at}]");
        let name = detail.name.as_ref().map(|name| &name.display_name);
        text(format!("{field}.name"), name.map_or("", String::as_str))?;
        let value = detail.value.as_ref().and_then(|value| value.value.as_ref());
        match value {
            Some(Value::Quantity(of)) if super::bundle::is_decimal(&of.value) => {}
            Some(Value::Quantity(_)) => {
                return Err(invalid(format!("{field}.value"), "is no decimal number"));
            }
            Some(Value::Coded(code)) => text(format!("{field}.value"), &code.display_name)?,
            Some(Value::Text(said)) => text(format!("{field}.value"), said)?,
            None => return Err(Error::field(Reason::MissingField, field, "has no value")),
        }
    }
    Ok(())
}

/// A person approves for themselves, as a physician; the system of an institution vouches for whoever of
/// it approved, as it does for the authors of its documents.
fn approval(draft: &Draft<'_>, caller: &Caller) -> Result<()> {
    let Some(approval) = &draft.record.approval else {
        return Ok(());
    };
    let field = "record.approval";
    let by = approval.approved_by.as_ref();
    let by = by.ok_or_else(|| Error::missing("record.approval.approved_by"))?;
    text("record.approval.approved_by.display_name", &by.display_name)?;
    let when = approval.approved.as_ref();
    let when = when.and_then(crate::wire::from_timestamp);
    if when.is_none_or(|when| when > draft.now) {
        return Err(invalid(
            "record.approval.approved",
            "is missing, or to come",
        ));
    }
    if approval.version != 0 && approval.version != draft.version {
        let message = format!("approves another version than {}", draft.version);
        return Err(invalid("record.approval.version", message));
    }
    if let Some(person) = &caller.person {
        let physician = [PersonRole::Physician, PersonRole::Dentist].contains(&caller.role());
        if !physician || person.subject != by.subject {
            let message = "is given by a physician, who submits it, or by the institution's system";
            return Err(invalid(field, message));
        }
    }
    Ok(())
}
