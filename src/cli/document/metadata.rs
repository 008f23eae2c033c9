//! The metadata of what is provided: flags, and what the profile knows, as a submission.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::Offset;
use uuid::Uuid;

use super::file::Prepared;
use super::kinds::{self, Kind};
use crate::cli::args;
use crate::cli::failure::Problem;
use crate::cli::profile::DocumentProfile;
use crate::types::Dtm;
use crate::wire::pb::common::{
    CodedValue, Identifier, InternationalString, LocalizedString, NationalFlag,
};
use crate::wire::pb::documents::{
    Association, AssociationType, Author, DocumentEntry, MetadataOrganization, MetadataPerson,
    ObjectType, Submission, SubmissionSet,
};

/// What is said of the documents; the same for each file.
#[derive(Args, Clone, Debug)]
pub(crate) struct Metadata {
    #[arg(long, value_name = "CX", value_parser = args::identifier, help = args::IDENTIFIER_HELP)]
    pub(crate) patient: Identifier,
    /// Kind of document: sets class, type and format
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Option<Kind>,
    /// classCode, SYSTEM|CODE|DISPLAY
    #[arg(long, value_name = "CODE", value_parser = args::code)]
    class: Option<CodedValue>,
    /// typeCode, SYSTEM|CODE|DISPLAY
    #[arg(long = "type", value_name = "CODE", value_parser = args::code)]
    type_code: Option<CodedValue>,
    /// formatCode, SYSTEM|CODE|DISPLAY
    #[arg(long, value_name = "CODE", value_parser = args::code)]
    format: Option<CodedValue>,
    /// healthcareFacilityTypeCode, SYSTEM|CODE|DISPLAY [default: the profile's]
    #[arg(long, value_name = "CODE", value_parser = args::code)]
    facility: Option<CodedValue>,
    /// practiceSettingCode (診療科), SYSTEM|CODE|DISPLAY [default: the profile's]
    #[arg(long, value_name = "CODE", value_parser = args::code)]
    practice: Option<CodedValue>,
    /// contentTypeCode of the submission, SYSTEM|CODE|DISPLAY [default: the class]
    #[arg(long, value_name = "CODE", value_parser = args::code)]
    content_type: Option<CodedValue>,
    /// confidentialityCode: U, L, M, N, R or V
    #[arg(long, value_name = "LETTER", default_value = "N", value_parser = ["U", "L", "M", "N", "R", "V"])]
    confidentiality: String,
    /// 未告知: for clinicians only, never for the patient
    #[arg(long)]
    uninformed: bool,
    /// 未提供: never leaves this community
    #[arg(long)]
    undelivered: bool,
    /// Title
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Comments
    #[arg(long, value_name = "TEXT")]
    comments: Option<String>,
    /// Media type [default: by the file's ending]
    #[arg(long, value_name = "TYPE")]
    mime: Option<String>,
    /// Language of the document, RFC 5646
    #[arg(long, value_name = "TAG", default_value = "ja-JP")]
    language: String,
    /// Name of the institution that made it [default: the profile's]
    #[arg(long, value_name = "NAME")]
    author_institution: Option<String>,
    /// Code of the institution that made it, 10 digits [default: the person's]
    #[arg(long, value_name = "CODE")]
    author_institution_id: Option<String>,
    /// Name of the person who made it: FAMILY GIVEN
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// When it was made: DTM (UTC), or a time with its zone [default: the file's time]
    #[arg(long, value_name = "TIME", value_parser = dtm)]
    created: Option<String>,
    /// Begin of the treatment that it is about, as --created
    #[arg(long, value_name = "TIME", value_parser = dtm)]
    service_start: Option<String>,
    /// End of the treatment that it is about, as --created
    #[arg(long, value_name = "TIME", value_parser = dtm)]
    service_stop: Option<String>,
    /// uniqueId of the document, if it has one; of a single file
    #[arg(long, value_name = "ID")]
    unique_id: Option<String>,
    /// OID of the source [default: the profile's, or the patient's assigning authority]
    #[arg(long, value_name = "OID")]
    source_id: Option<String>,
    /// Replace this document (entryUUID): it is deprecated; of a single file
    #[arg(long, value_name = "UUID")]
    replace: Option<String>,
}

/// What is known besides the flags.
pub(crate) struct Known<'a> {
    /// Standing metadata of the profile.
    pub(crate) profile: &'a DocumentProfile,
    /// Code of the institution where the person acts.
    pub(crate) institution: Option<&'a str>,
    /// Now.
    pub(crate) now: Timestamp,
}

impl Metadata {
    /// Whether the document has its uniqueId already.
    pub(crate) fn has_unique_id(&self) -> bool {
        self.unique_id.is_some()
    }

    /// The submission of `files`.
    pub(crate) fn submission(
        &self,
        files: &[Prepared],
        known: &Known<'_>,
    ) -> Result<Submission, Problem> {
        if files.len() > 1 && (self.unique_id.is_some() || self.replace.is_some()) {
            return Err(Problem::new(
                "--unique-id and --replace are of a single file",
            ));
        }
        let entries: Vec<DocumentEntry> = files
            .iter()
            .map(|file| self.entry(file, known))
            .collect::<Result<_, _>>()?;
        let first = entries.first().cloned().unwrap_or_default();
        let source_id = self.source_id.as_ref().or(known.profile.source_id.as_ref());
        let replaces = self.replace.iter().map(|target| Association {
            association_type: AssociationType::Rplc.into(),
            source_object: first.entry_uuid.clone(),
            target_object: target.clone(),
            ..Association::default()
        });
        Ok(Submission {
            submission_set: Some(SubmissionSet {
                entry_uuid: "submission".to_owned(),
                unique_id: fresh_oid(),
                source_id: source_id
                    .unwrap_or(&self.patient.assigning_authority)
                    .clone(),
                patient_id: Some(self.patient.clone()),
                submission_time: dtm_of(known.now),
                content_type_code: self.content_type.clone().or(first.class_code),
                authors: first.authors,
                ..SubmissionSet::default()
            }),
            associations: replaces.collect(),
            entries,
            ..Submission::default()
        })
    }

    fn entry(&self, file: &Prepared, known: &Known<'_>) -> Result<DocumentEntry, Problem> {
        let mime = self.mime_type(file)?;
        let class = self.class.clone().or(self.kind.map(Kind::class_code));
        let type_code = self.type_code.clone().or(self.kind.map(Kind::type_code));
        let format = self.format.clone().or_else(|| match self.kind {
            Some(kind) => kind.format_code(&mime),
            None => kinds::mime_type_suffices(&mime),
        });
        let standing = |code: &Option<String>| code.as_deref().map(args::code).transpose();
        let facility = standing(&known.profile.facility).map_err(in_profile("facility"))?;
        let practice = standing(&known.profile.practice).map_err(in_profile("practice"))?;
        Ok(DocumentEntry {
            entry_uuid: file.symbolic_id.clone(),
            unique_id: self.unique_id.clone().unwrap_or_else(fresh_oid),
            patient_id: Some(self.patient.clone()),
            source_patient_id: Some(self.patient.clone()),
            object_type: ObjectType::Stable.into(),
            authors: vec![self.made_by(known)?],
            class_code: Some(needed("--class (or --kind)", class)?),
            type_code: Some(needed("--type (or --kind)", type_code)?),
            format_code: Some(needed("--format", format)?),
            healthcare_facility_type_code: Some(needed(
                "--facility (or `document.facility` of the profile)",
                self.facility.clone().or(facility),
            )?),
            practice_setting_code: Some(needed(
                "--practice (or `document.practice` of the profile)",
                self.practice.clone().or(practice),
            )?),
            confidentiality_codes: vec![kinds::confidentiality(&self.confidentiality)],
            title: self.title.as_deref().map(|text| self.in_language(text)),
            comments: self.comments.as_deref().map(|text| self.in_language(text)),
            creation_time: self
                .created
                .clone()
                .unwrap_or_else(|| dtm_of(file.modified)),
            service_start_time: self.service_start.clone().unwrap_or_default(),
            service_stop_time: self.service_stop.clone().unwrap_or_default(),
            language_code: self.language.clone(),
            mime_type: mime,
            hash: file.sha1.clone(),
            hash_sha256: file.sha256.clone(),
            size: Some(file.size),
            national_flags: self.flags(),
            ..DocumentEntry::default()
        })
    }

    fn mime_type(&self, file: &Prepared) -> Result<String, Problem> {
        if let Some(mime) = &self.mime {
            return Ok(mime.clone());
        }
        let ending = file.path.extension().and_then(|ending| ending.to_str());
        let known = ending.and_then(kinds::mime_type).map(str::to_owned);
        needed(&format!("--mime of {}", file.path.display()), known)
    }

    fn flags(&self) -> Vec<i32> {
        let flags = [
            (self.uninformed, NationalFlag::Uninformed),
            (self.undelivered, NationalFlag::Undelivered),
        ];
        let set = flags.into_iter().filter(|(set, _)| *set);
        set.map(|(_, flag)| flag.into()).collect()
    }

    fn made_by(&self, known: &Known<'_>) -> Result<Author, Problem> {
        let name = self
            .author_institution
            .as_ref()
            .or(known.profile.author_institution.as_ref());
        let id = self.author_institution_id.as_deref().or(known.institution);
        let person = self.author.as_deref().map(|name| {
            let (family, given) = name.split_once([' ', '　']).unwrap_or((name, ""));
            MetadataPerson {
                family: family.to_owned(),
                given: given.trim().to_owned(),
                ..MetadataPerson::default()
            }
        });
        Ok(Author {
            person,
            institutions: vec![MetadataOrganization {
                name: needed(
                    "--author-institution (or `document.author_institution` of the profile)",
                    name.cloned(),
                )?,
                id: id.unwrap_or_default().to_owned(),
                ..MetadataOrganization::default()
            }],
            ..Author::default()
        })
    }

    fn in_language(&self, text: &str) -> InternationalString {
        InternationalString {
            values: vec![LocalizedString {
                value: text.to_owned(),
                language: self.language.clone(),
            }],
        }
    }
}

fn in_profile(key: &'static str) -> impl Fn(String) -> Problem {
    move |error| Problem::new(format!("`document.{key}` of the profile {error}"))
}

fn needed<T>(what: &str, value: Option<T>) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::new(format!("{what}: is required")))
}

/// A new OID that nobody has: a UUID under 2.25 (X.667).
fn fresh_oid() -> String {
    format!("2.25.{}", Uuid::new_v4().as_u128())
}

/// A time as DTM, UTC.
pub(crate) fn dtm_of(time: Timestamp) -> String {
    Offset::UTC
        .to_datetime(time)
        .strftime("%Y%m%d%H%M%S")
        .to_string()
}

/// A time of the metadata: DTM (UTC) as it is, or a time with its zone.
pub(crate) fn dtm(text: &str) -> Result<String, String> {
    if let Ok(dtm) = text.parse::<Dtm>() {
        return Ok(dtm.as_str().to_owned());
    }
    let time = text.parse::<Timestamp>();
    time.map(dtm_of).map_err(|_| {
        "is not DTM (20260401 or 20260401093000, UTC) or a time such as 2026-04-01T09:30:00+09:00"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        metadata: Metadata,
    }

    fn submission(flags: &[&str], files: usize) -> Result<Submission, String> {
        let all = ["x", "--patient", "1.2.3:007"].iter().chain(flags);
        let metadata = Flags::try_parse_from(all)
            .map_err(|error| error.to_string())?
            .metadata;
        let file = |number| Prepared {
            path: "letter.xml".into(),
            symbolic_id: format!("document{number}"),
            size: 5,
            sha1: "aa".into(),
            sha256: "bb".into(),
            modified: Timestamp::UNIX_EPOCH,
        };
        let files: Vec<Prepared> = (0..files).map(file).collect();
        let known = Known {
            profile: &DocumentProfile::default(),
            institution: Some("1310000001"),
            now: Timestamp::UNIX_EPOCH,
        };
        metadata
            .submission(&files, &known)
            .map_err(|error| error.to_string())
    }

    const FULL: [&str; 8] = [
        "--kind",
        "referral",
        "--facility",
        "1.2|1",
        "--practice",
        "1.2|01",
        "--author-institution",
        "甲病院",
    ];

    #[test]
    fn flags_make_a_submission() {
        let made = submission(
            &[&FULL[..], &["--author", "佐藤　一郎", "--uninformed"]].concat(),
            1,
        );
        let made = made.unwrap();
        let set = made.submission_set.unwrap();
        assert_eq!(set.source_id, "1.2.3", "the patient's domain stands in");
        assert_eq!(set.submission_time, "19700101000000");
        let entry = &made.entries[0];
        assert_eq!(entry.mime_type, "text/xml");
        assert_eq!(
            entry.format_code.as_ref().unwrap().code,
            "urn:jp:hl7j-cda-005"
        );
        assert_eq!(entry.confidentiality_codes[0].code, "N");
        assert_eq!(entry.authors[0].institutions[0].id, "1310000001");
        assert_eq!(entry.authors[0].person.as_ref().unwrap().given, "一郎");
        assert_eq!(entry.national_flags, [i32::from(NationalFlag::Uninformed)]);
        assert!(entry.unique_id.starts_with("2.25."));
    }

    #[test]
    fn what_is_missing_is_named() {
        for at in (0..FULL.len()).step_by(2) {
            let flags = [&FULL[..at], &FULL[at + 2..]].concat();
            let error = submission(&flags, 1).unwrap_err();
            assert!(error.contains("is required"), "{error}");
        }
        let error = submission(&[&FULL[..], &["--unique-id", "1.2"]].concat(), 2).unwrap_err();
        assert!(error.contains("single file"), "{error}");
    }

    #[test]
    fn times_become_utc() {
        assert_eq!(dtm("2026-04-01T08:00:00+09:00").unwrap(), "20260331230000");
        assert_eq!(dtm("202604").unwrap(), "202604");
        assert!(dtm("2026-04-01T08:00:00").is_err());
    }
}
