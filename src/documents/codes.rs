//! Which codes a registry has, and how they stand to the community's set: the report of unmapped
//! codes. Codes are no patient's data.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::store::{Store, StoreError};
use crate::wire::pb::common as cpb;

use super::profile::{Attribute, Known, Profile};
use super::tables::{EntryRow, FolderRow, SubmissionRow};

/// Codes told apart; a registry that has more has texts where codes should be.
const MAX_CODES: usize = 200_000;

/// A code in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CodeInUse {
    /// The attribute: `class_code`.
    pub attribute: &'static str,
    /// The code.
    pub code: String,
    /// Its system.
    pub system: String,
    /// A display name that it came with.
    pub display: String,
    /// Objects that have it, in their latest versions.
    pub count: u64,
    /// Whether it is in the community's set, or translated into it; `true` if there is no set.
    pub known: bool,
    /// The code of the community's set that it is translated to.
    pub means: Option<String>,
}

type Counts = BTreeMap<(Attribute, String, String), (String, u64)>;

/// Every code of a registry, judged by the profile at `profile`, the unknown first, the most frequent
/// first.
///
/// # Errors
/// A profile that cannot be read; the store.
pub fn codes_in_use(store: &Store, profile: Option<&Path>) -> Result<Vec<CodeInUse>> {
    let profile = match profile {
        Some(path) => Profile::load(path).map_err(Error::internal)?,
        None => Profile::default(),
    };
    let mut counts = Counts::new();
    store.scan::<EntryRow>(&mut |row| {
        if let Some(entry) = row.row.entry.filter(|_| !row.row.superseded) {
            for (attribute, code) in [
                (Attribute::ClassCode, &entry.class_code),
                (Attribute::TypeCode, &entry.type_code),
                (Attribute::FormatCode, &entry.format_code),
                (
                    Attribute::HealthcareFacilityTypeCode,
                    &entry.healthcare_facility_type_code,
                ),
                (Attribute::PracticeSettingCode, &entry.practice_setting_code),
            ] {
                count(&mut counts, attribute, code.as_ref());
            }
            for code in &entry.confidentiality_codes {
                count(&mut counts, Attribute::ConfidentialityCode, Some(code));
            }
            for code in &entry.event_codes {
                count(&mut counts, Attribute::EventCode, Some(code));
            }
        }
        bounded(&counts)
    })?;
    store.scan::<SubmissionRow>(&mut |row| {
        let set = row.row.set;
        let code = set.as_ref().and_then(|set| set.content_type_code.as_ref());
        count(&mut counts, Attribute::ContentTypeCode, code);
        bounded(&counts)
    })?;
    store.scan::<FolderRow>(&mut |row| {
        let superseded = row.row.superseded;
        for folder in row.row.folder.iter().filter(|_| !superseded) {
            for code in &folder.codes {
                count(&mut counts, Attribute::FolderCode, Some(code));
            }
        }
        bounded(&counts)
    })?;
    let mut codes: Vec<CodeInUse> = counts
        .into_iter()
        .map(|(key, counted)| judged(&profile, key, counted))
        .collect();
    codes.sort_by_key(|code| (code.known, std::cmp::Reverse(code.count)));
    Ok(codes)
}

fn bounded(counts: &Counts) -> Result<(), StoreError> {
    if counts.len() > MAX_CODES {
        return Err(StoreError::TooLarge {
            what: "the report of codes",
            size: counts.len() as u64,
            limit: MAX_CODES as u64,
        });
    }
    Ok(())
}

fn count(counts: &mut Counts, attribute: Attribute, code: Option<&cpb::CodedValue>) {
    if let Some(code) = code {
        let key = (attribute, code.system.clone(), code.code.clone());
        let (display, count) = counts.entry(key).or_default();
        if display.is_empty() {
            display.clone_from(&code.display_name);
        }
        *count += 1;
    }
}

fn judged(
    profile: &Profile,
    (attribute, system, code): (Attribute, String, String),
    (display, count): (String, u64),
) -> CodeInUse {
    let value = cpb::CodedValue {
        code: code.clone(),
        system: system.clone(),
        ..cpb::CodedValue::default()
    };
    let means = profile.translate(attribute, &value);
    CodeInUse {
        attribute: attribute.name(),
        known: profile.judge(attribute, &value) == Known::Yes,
        means: means.map(|means| means.code),
        code,
        system,
        display,
        count,
    }
}
