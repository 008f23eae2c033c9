//! What a community asks of metadata beyond the standard, as data: one TOML file.
//!
//! ```toml
//! author_institution = "required"     # 地域医療連携の実装ガイド: authorInstitution is mandatory
//! confidentiality = "hl7"             # one of U, L, M, N, R, V in every entry
//! hash = "required"                   # or "computed": absent ones are filled in
//! mime_types = ["application/pdf"]    # none: any
//! content = "warn"                    # "off", "warn", "refuse"
//! content_bytes = 4194304             # how much of XML and JSON is read for it
//!
//! [[code_set]]
//! attribute = "class_code"
//! unknown = "warn"                    # "accept", "warn", "refuse"
//! codes = [{ code = "57133-1", system = "2.16.840.1.113883.6.1" }]
//!
//! [[translation]]                     # a code of an older or local system, and what it means here
//! attribute = "class_code"
//! from = { code = "01", system = "1.2.392.9.1" }
//! to = { code = "57133-1", system = "2.16.840.1.113883.6.1" }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::wire::pb::common as cpb;

/// Codes of one file at most; the largest affinity domains have some thousand.
const MAX_CODES: usize = 100_000;
/// Octets of XML and JSON that are read to compare them with their metadata, if the file does not say:
/// a letter with its attachments in it.
const CONTENT_BYTES: u32 = 4 << 20;
/// Octets that may be demanded: each submission under way may hold as many in memory (INV-7).
const CONTENT_BYTES_BOUNDS: std::ops::RangeInclusive<u32> = 1 << 20..=16 << 20;

/// A community's rules (affinity domain, ITI TF-3 §4.1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    pub(crate) author_institution: Demand,
    pub(crate) confidentiality: Confidentialities,
    pub(crate) hash: Hashes,
    pub(crate) content: Content,
    content_bytes: Option<u32>,
    mime_types: BTreeSet<String>,
    other_associations: BTreeSet<String>,
    sets: BTreeMap<Attribute, CodeSet>,
}

/// Whether something must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Demand {
    /// It must. The default of authorInstitution (Japan).
    #[default]
    Required,
    /// It need not.
    Optional,
}

/// What confidentiality codes must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Confidentialities {
    /// Exactly one of HL7's (2.16.840.1.113883.5.25).
    #[default]
    Hl7,
    /// Any. An entry without one of HL7's is then very restricted.
    Any,
}

/// What happens to a document without hash and size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hashes {
    /// It is refused: it could have changed on the way, unseen.
    #[default]
    Required,
    /// The repository fills them in (ITI-41 §3.41.4.1.3.3).
    Computed,
}

/// What is done about content that is not what its metadata says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    /// It is not looked at.
    Off,
    /// A warning goes with the answer.
    #[default]
    Warn,
    /// The submission is refused.
    Refuse,
}

/// What happens to a code outside of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unknown {
    /// Nothing.
    Accept,
    /// A warning goes with the answer, and it is counted.
    #[default]
    Warn,
    /// The submission is refused.
    Refuse,
}

/// Coded attributes.
#[expect(
    clippy::enum_variant_names,
    reason = "the attributes' names in the standard"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Attribute {
    /// DocumentEntry.classCode.
    ClassCode,
    /// DocumentEntry.typeCode.
    TypeCode,
    /// DocumentEntry.formatCode.
    FormatCode,
    /// DocumentEntry.healthcareFacilityTypeCode.
    HealthcareFacilityTypeCode,
    /// DocumentEntry.practiceSettingCode.
    PracticeSettingCode,
    /// DocumentEntry.confidentialityCode.
    ConfidentialityCode,
    /// DocumentEntry.eventCodeList.
    EventCode,
    /// SubmissionSet.contentTypeCode.
    ContentTypeCode,
    /// Folder.codeList.
    FolderCode,
}

impl Attribute {
    /// Its name in the file and in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ClassCode => "class_code",
            Self::TypeCode => "type_code",
            Self::FormatCode => "format_code",
            Self::HealthcareFacilityTypeCode => "healthcare_facility_type_code",
            Self::PracticeSettingCode => "practice_setting_code",
            Self::ConfidentialityCode => "confidentiality_code",
            Self::EventCode => "event_code",
            Self::ContentTypeCode => "content_type_code",
            Self::FolderCode => "folder_code",
        }
    }
}

#[derive(Clone, Debug, Default)]
struct CodeSet {
    unknown: Unknown,
    codes: BTreeSet<Pair>,
    translated: BTreeMap<Pair, Pair>,
}

/// A code and its system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    code: String,
    system: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct File {
    author_institution: Demand,
    confidentiality: Confidentialities,
    hash: Hashes,
    content: Content,
    content_bytes: Option<u32>,
    mime_types: Vec<String>,
    other_associations: Vec<String>,
    code_set: Vec<FileSet>,
    translation: Vec<FileTranslation>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSet {
    attribute: Attribute,
    #[serde(default)]
    unknown: Unknown,
    codes: Vec<Pair>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTranslation {
    attribute: Attribute,
    from: Pair,
    to: Pair,
}

/// How a code stands to the community's set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// In it, or there is no set.
    Yes,
    /// Not in it, and nothing is done about that.
    Accepted,
    /// Not in it: a warning.
    Warned,
    /// Not in it: refused.
    Refused,
}

impl Profile {
    /// Reads a profile file.
    ///
    /// # Errors
    /// A message for the operator.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads the text of a profile file.
    ///
    /// # Errors
    /// A message for the operator.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let (least, most) = CONTENT_BYTES_BOUNDS.into_inner();
        if file
            .content_bytes
            .is_some_and(|bytes| !CONTENT_BYTES_BOUNDS.contains(&bytes))
        {
            return Err(format!("content_bytes is not from {least} to {most}"));
        }
        let mut profile = Self {
            author_institution: file.author_institution,
            confidentiality: file.confidentiality,
            hash: file.hash,
            content: file.content,
            content_bytes: file.content_bytes,
            mime_types: file
                .mime_types
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
            other_associations: file.other_associations.into_iter().collect(),
            sets: BTreeMap::new(),
        };
        let mut count = 0;
        for set in file.code_set {
            count += set.codes.len();
            let known = profile.sets.entry(set.attribute).or_default();
            known.unknown = set.unknown;
            known.codes.extend(set.codes);
        }
        for translation in file.translation {
            count += 1;
            let known = profile.sets.entry(translation.attribute).or_default();
            if !known.codes.is_empty() && !known.codes.contains(&translation.to) {
                let name = translation.attribute.name();
                let code = &translation.to.code;
                return Err(format!("translation of {name} to {code}, not in its set"));
            }
            if known
                .translated
                .insert(translation.from, translation.to)
                .is_some()
            {
                return Err("a code is translated twice".to_owned());
            }
        }
        if count > MAX_CODES {
            return Err(format!("has more than {MAX_CODES} codes"));
        }
        Ok(profile)
    }

    /// How a code of an attribute stands to the community's set.
    pub(crate) fn judge(&self, attribute: Attribute, code: &cpb::CodedValue) -> Known {
        let Some(set) = self.sets.get(&attribute) else {
            return Known::Yes;
        };
        let pair = Pair::of(code);
        let known = set.codes.is_empty() && set.translated.is_empty()
            || set.codes.contains(&pair)
            || set.translated.contains_key(&pair);
        match (known, set.unknown) {
            (true, _) => Known::Yes,
            (false, Unknown::Accept) => Known::Accepted,
            (false, Unknown::Warn) => Known::Warned,
            (false, Unknown::Refuse) => Known::Refused,
        }
    }

    /// What a code means in the community's own set; `None` if it has no other meaning. What is
    /// registered stays as the source wrote it.
    pub(crate) fn translate(
        &self,
        attribute: Attribute,
        code: &cpb::CodedValue,
    ) -> Option<cpb::CodedValue> {
        let meant = self.sets.get(&attribute)?.translated.get(&Pair::of(code))?;
        Some(cpb::CodedValue {
            code: meant.code.clone(),
            system: meant.system.clone(),
            display_name: code.display_name.clone(),
            ..cpb::CodedValue::default()
        })
    }

    /// Octets of an XML or JSON document that are read to compare it with its metadata.
    pub(crate) fn content_bytes(&self) -> usize {
        let bytes = self.content_bytes.unwrap_or(CONTENT_BYTES);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Whether documents of this media type (without parameters, lower case) are taken.
    pub(crate) fn takes(&self, mime_type: &str) -> bool {
        self.mime_types.is_empty() || self.mime_types.contains(mime_type)
    }

    /// Whether associations of this other type are taken.
    pub(crate) fn takes_association(&self, urn: &str) -> bool {
        self.other_associations.contains(urn)
    }
}

impl Pair {
    fn of(code: &cpb::CodedValue) -> Self {
        Self {
            code: code.code.clone(),
            system: code.system.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: &str, system: &str) -> cpb::CodedValue {
        cpb::CodedValue {
            code: code.into(),
            system: system.into(),
            display_name: "name".into(),
            ..Default::default()
        }
    }

    const FILE: &str = r#"
        author_institution = "optional"
        mime_types = ["Application/PDF"]
        other_associations = ["urn:elga-bes:AssociationType:NonVersioningUpdate"]
        [[code_set]]
        attribute = "class_code"
        unknown = "refuse"
        codes = [{ code = "57133-1", system = "loinc" }]
        [[code_set]]
        attribute = "format_code"
        codes = [{ code = "f", system = "s" }]
        [[translation]]
        attribute = "class_code"
        from = { code = "01", system = "local" }
        to = { code = "57133-1", system = "loinc" }
    "#;

    #[test]
    fn codes_are_judged_by_code_and_system() {
        let profile = Profile::parse(FILE).unwrap();
        let judge = |attribute, c: &str, s: &str| profile.judge(attribute, &code(c, s));
        assert_eq!(judge(Attribute::ClassCode, "57133-1", "loinc"), Known::Yes);
        assert_eq!(judge(Attribute::ClassCode, "57133-1", "x"), Known::Refused);
        assert_eq!(judge(Attribute::ClassCode, "01", "local"), Known::Yes);
        assert_eq!(judge(Attribute::FormatCode, "g", "s"), Known::Warned);
        assert_eq!(judge(Attribute::TypeCode, "any", "any"), Known::Yes);
        assert!(profile.takes("application/pdf") && !profile.takes("text/plain"));
        assert!(Profile::default().takes("text/plain"));
        assert!(profile.takes_association("urn:elga-bes:AssociationType:NonVersioningUpdate"));
        assert_eq!(profile.author_institution, Demand::Optional);
    }

    #[test]
    fn a_translation_gives_the_code_of_the_set() {
        let profile = Profile::parse(FILE).unwrap();
        let meant = profile.translate(Attribute::ClassCode, &code("01", "local"));
        let meant = meant.unwrap();
        assert_eq!(
            (meant.code.as_str(), meant.system.as_str()),
            ("57133-1", "loinc")
        );
        assert!(
            profile
                .translate(Attribute::ClassCode, &code("57133-1", "loinc"))
                .is_none()
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        for (bad, why) in [
            ("x = 1", "unknown field"),
            ("content = \"maybe\"", "unknown variant"),
            ("content_bytes = 16777217", "content_bytes is not from"),
            (
                "[[code_set]]\nattribute = \"class_code\"\ncodes = [{code='a',system='s'}]\n\
                 [[translation]]\nattribute='class_code'\nfrom={code='b',system='s'}\nto={code='c',system='s'}",
                "not in its set",
            ),
        ] {
            let error = Profile::parse(bad).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
