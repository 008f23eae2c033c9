//! What a directory file says of a community besides who it is: when it answers, whom to call, and what
//! its codes mean.

use serde::Deserialize;

use super::{Result, wrong};
use crate::wire::pb::common::CodedValue;
use crate::wire::pb::directory as pb;

/// Hours of every week. Whether they mean anything is for the directory's service to say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hours {
    weekdays: Vec<u32>,
    opens: String,
    closes: String,
}

impl Hours {
    pub(super) fn message(&self) -> pb::ServiceHours {
        pb::ServiceHours {
            weekdays: self.weekdays.clone(),
            opens: self.opens.clone(),
            closes: self.closes.clone(),
        }
    }
}

/// A time when the community will be away.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    starts: String,
    ends: String,
    #[serde(default)]
    note: String,
}

impl Window {
    pub(super) fn message(&self) -> Result<pb::MaintenanceWindow> {
        Ok(pb::MaintenanceWindow {
            starts: Some(time("maintenance", &self.starts)?),
            ends: Some(time("maintenance", &self.ends)?),
            note: self.note.clone(),
        })
    }
}

/// Somebody to call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contact {
    function: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    telephone: String,
    #[serde(default)]
    email: String,
}

impl Contact {
    pub(super) fn message(&self) -> pb::Contact {
        pb::Contact {
            function: self.function.clone(),
            name: self.name.clone(),
            telephone: self.telephone.clone(),
            email: self.email.clone(),
        }
    }
}

/// A code of the community, and the network's for it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mapping {
    attribute: String,
    local: Code,
    canonical: Code,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    #[serde(rename = "code")]
    value: String,
    system: String,
    #[serde(default)]
    display: String,
}

impl Mapping {
    pub(super) fn message(&self) -> pb::CodeMapping {
        let value = |code: &Code| CodedValue {
            code: code.value.clone(),
            system: code.system.clone(),
            display_name: code.display.clone(),
            ..CodedValue::default()
        };
        pb::CodeMapping {
            attribute: self.attribute.clone(),
            local: Some(value(&self.local)),
            canonical: Some(value(&self.canonical)),
        }
    }
}

/// A moment, as RFC 3339 writes it.
pub(super) fn time(key: &str, text: &str) -> Result<prost_types::Timestamp> {
    let at: jiff::Timestamp = text.parse().map_err(|error| wrong(key, text, error))?;
    Ok(crate::wire::timestamp(at))
}
