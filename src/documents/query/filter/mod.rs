//! Whether an object answers a stored query's parameters (ITI-18 §3.18.4.1.2.3): the values of one
//! parameter are alternatives, parameters are joined by AND. Everything is checked when a filter is
//! made, so that matching cannot fail.

mod leaf;
#[cfg(test)]
mod tests;

use crate::error::{Error, Reason, Result};
use crate::types::Dtm;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;
use pb::AvailabilityStatus as Status;

use super::item::{Found, FoundFolder};
use super::text::{MAX_TEXT, Pattern, has_words, words};
use leaf::{
    all_lists, authored, availability, codes, excluded, institutions, object_type, one_of, refers,
};

/// Values of one parameter, and parts of a filter that may be repeated.
const MAX_VALUES: usize = 500;

/// Statuses asked for; none stated means Approved. A value that is not known is not looked at, but
/// does not turn into the default (ITI-18 §3.18.4.1.2.3.7).
#[derive(Clone, Debug)]
pub(crate) struct Statuses(Vec<i32>);

impl Statuses {
    /// The statuses of a required parameter.
    pub(crate) fn wanted(stated: &[i32]) -> Self {
        if stated.is_empty() {
            Self(vec![Status::Approved.into()])
        } else {
            Self(stated.to_vec())
        }
    }

    /// The statuses of an optional parameter; none stated means any.
    pub(crate) fn optional(stated: &[i32]) -> Self {
        Self(stated.to_vec())
    }

    /// Whether an object of this status is asked for.
    pub(crate) fn has(&self, status: i32) -> bool {
        self.0.is_empty() || self.0.contains(&status)
    }
}

/// A span of times: from ≤ time < to, both as 14 digits, the missing ones the least they can be
/// (ITI-18 §3.18.4.1.2.3.4).
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    from: Option<String>,
    to: Option<String>,
}

impl Span {
    fn new(range: Option<&pb::TimeRange>, field: &str) -> Result<Self> {
        let bound = |end: &str, text: &str| -> Result<Option<String>> {
            if text.is_empty() {
                return Ok(None);
            }
            let time = text.parse::<Dtm>().map_err(|_| {
                let message = "is not a date-time of the form YYYY[MM[DD[hh[mm[ss]]]]]";
                Error::field(Reason::InvalidParameter, format!("{field}.{end}"), message)
            })?;
            Ok(Some(time.earliest()))
        };
        let Some(range) = range else {
            return Ok(Self::default());
        };
        Ok(Self {
            from: bound("from", &range.from)?,
            to: bound("to", &range.to)?,
        })
    }

    /// Whether a stored time is in it; `absent` is the answer where there is none.
    pub(crate) fn has(&self, time: &str, absent: bool) -> bool {
        if self.from.is_none() && self.to.is_none() {
            return true;
        }
        let Ok(time) = time.parse::<Dtm>() else {
            return absent;
        };
        let time = time.earliest();
        self.from.as_ref().is_none_or(|from| time >= *from)
            && self.to.as_ref().is_none_or(|to| time < *to)
    }
}

/// What document entries must have, checked.
#[derive(Clone, Debug)]
pub(crate) struct EntryFilter {
    statuses: Statuses,
    wanted: pb::DocumentFilter,
    not_wanted: pb::DocumentFilter,
    references: Vec<pb::ReferenceIdList>,
    creation: Span,
    start: Span,
    stop: Span,
    people: Vec<Pattern>,
    not_people: Vec<Pattern>,
    words: Vec<String>,
    all_levels: bool,
}

impl EntryFilter {
    /// The sequence after which entries must have changed; 0 if it does not matter.
    pub(crate) fn changed_since(&self) -> u64 {
        self.wanted.changed_since_sequence
    }

    /// The filter of a query for entries. `exclude` is what they must not have.
    ///
    /// # Errors
    /// [`Reason::InvalidParameter`], [`Reason::ParameterNumber`], naming the field.
    pub(crate) fn new(
        filter: &pb::DocumentFilter,
        exclude: Option<&pb::DocumentFilter>,
        references: &[pb::ReferenceIdList],
        level: pb::MetadataLevel,
    ) -> Result<Self> {
        check(filter, "filter")?;
        if filter.changed_since.is_some() {
            let message = "is not done by this version; use changed_since_sequence";
            let field = "filter.changed_since";
            return Err(Error::field(Reason::NotImplemented, field, message));
        }
        let not_wanted = exclude.cloned().unwrap_or_default();
        if exclude.is_some() {
            check(&not_wanted, "exclude")?;
            twins(filter, &not_wanted)?;
        }
        let patterns = |people: &[String]| people.iter().map(|text| Pattern::new(text)).collect();
        Ok(Self {
            statuses: Statuses::wanted(&filter.statuses),
            creation: Span::new(filter.creation_time.as_ref(), "filter.creation_time")?,
            start: Span::new(
                filter.service_start_time.as_ref(),
                "filter.service_start_time",
            )?,
            stop: Span::new(
                filter.service_stop_time.as_ref(),
                "filter.service_stop_time",
            )?,
            people: patterns(&filter.author_persons),
            not_people: patterns(&not_wanted.author_persons),
            words: words(&filter.text),
            references: references.to_vec(),
            wanted: filter.clone(),
            not_wanted,
            all_levels: level == pb::MetadataLevel::All,
        })
    }

    /// The filter of entries that come along with a set, folder or patient: every status, unless
    /// `statuses` are stated.
    ///
    /// # Errors
    /// As [`EntryFilter::new`].
    pub(crate) fn content(
        content: Option<&pb::ContentFilter>,
        statuses: Statuses,
        level: pb::MetadataLevel,
    ) -> Result<Self> {
        let content = content.cloned().unwrap_or_default();
        let filter = pb::DocumentFilter {
            format_codes: content.format_codes,
            confidentiality_codes: content.confidentiality_codes,
            object_types: content.object_types,
            ..Default::default()
        };
        let filter = Self::new(&filter, None, &[], level)?;
        Ok(Self { statuses, ..filter })
    }

    /// The filter of a subscription: every status, unless some are stated; on-demand entries too,
    /// unless types are stated. The place to begin at is a token's.
    ///
    /// # Errors
    /// As [`EntryFilter::new`].
    pub(crate) fn of_changes(filter: &pb::DocumentFilter) -> Result<Self> {
        let mut filter = filter.clone();
        if filter.changed_since_sequence != 0 {
            let field = "filter.changed_since_sequence";
            let message = "is not for subscriptions; use resume_token";
            return Err(Error::field(Reason::InvalidParameter, field, message));
        }
        let statuses = Statuses::optional(&filter.statuses);
        if filter.object_types.is_empty() {
            filter.object_types = every_type();
        }
        let filter = Self::new(&filter, None, &[], pb::MetadataLevel::Latest)?;
        Ok(Self { statuses, ..filter })
    }

    /// A filter that lets every entry through that the metadata level shows.
    pub(crate) fn every(level: pb::MetadataLevel) -> Result<Self> {
        let content = pb::ContentFilter {
            object_types: every_type(),
            ..Default::default()
        };
        Self::content(Some(&content), Statuses::optional(&[]), level)
    }

    /// Whether an entry answers it.
    pub(crate) fn suits(&self, found: &Found) -> bool {
        self.matches(&found.entry, found.sequence, found.superseded)
    }

    /// Whether its metadata level shows a folder that comes along with entries.
    pub(crate) fn shows(&self, found: &FoundFolder) -> bool {
        level_shows(self.all_levels, &found.folder, found.superseded)
    }

    /// Whether `entry`, last changed by the frame `sequence`, answers it. `superseded`: there is a
    /// newer version of it.
    fn matches(&self, entry: &pb::DocumentEntry, sequence: u64, superseded: bool) -> bool {
        let (wanted, not) = (&self.wanted, &self.not_wanted);
        let offline = entry.document_availability() == pb::DocumentAvailability::Offline;
        // A level of 1 shows neither old versions nor what is offline (Metadata Update).
        (self.all_levels || !superseded && !offline)
            && self.statuses.has(entry.availability_status)
            && object_type(&wanted.object_types, entry)
            && sequence > wanted.changed_since_sequence
            && self.times(entry)
            && codes(wanted, entry)
            && availability(&wanted.document_availabilities, entry)
            && (wanted.mime_types.is_empty() || wanted.mime_types.contains(&entry.mime_type))
            && institutions(&wanted.author_institution_ids, entry)
            && (self.people.is_empty() || authored(&self.people, &entry.authors))
            && self.references.iter().all(|list| refers(list, entry))
            && has_words(
                &self.words,
                [&entry.title, &entry.comments].into_iter().flatten(),
            )
            && !excluded(not, &self.not_people, entry)
    }

    fn times(&self, entry: &pb::DocumentEntry) -> bool {
        // An on-demand entry has no time of creation; the parameter is not for it (§3.18.4.1.2.3.4).
        let made_later = entry.object_type() == pb::ObjectType::OnDemand;
        (made_later || self.creation.has(&entry.creation_time, false))
            && self.start.has(&entry.service_start_time, true)
            && self.stop.has(&entry.service_stop_time, true)
    }
}

fn every_type() -> Vec<i32> {
    vec![
        pb::ObjectType::Stable.into(),
        pb::ObjectType::OnDemand.into(),
    ]
}

/// What submission sets must have, checked.
#[derive(Clone, Debug)]
pub(crate) struct SetFilter {
    statuses: Statuses,
    sources: Vec<String>,
    submitted: Span,
    author: Option<Pattern>,
    content_types: Vec<cpb::CodedValue>,
}

impl SetFilter {
    /// The filter of `FindSubmissionSets`.
    ///
    /// # Errors
    /// [`Reason::InvalidParameter`], naming the field.
    pub(crate) fn new(query: &pb::FindSubmissionSetsQuery) -> Result<Self> {
        few(query.source_ids.len(), "source_ids")?;
        well_coded(&query.content_type_codes, "content_type_codes")?;
        short(&query.author_person, "author_person")?;
        let author = Some(&query.author_person).filter(|author| !author.is_empty());
        Ok(Self {
            statuses: Statuses::wanted(&query.statuses),
            sources: query.source_ids.clone(),
            submitted: Span::new(query.submission_time.as_ref(), "submission_time")?,
            author: author.map(|author| Pattern::new(author)),
            content_types: query.content_type_codes.clone(),
        })
    }

    /// A filter for these statuses only.
    pub(crate) fn of(statuses: Statuses) -> Self {
        Self {
            statuses,
            sources: Vec::new(),
            submitted: Span::default(),
            author: None,
            content_types: Vec::new(),
        }
    }

    /// Whether `set` answers it.
    pub(crate) fn matches(&self, set: &pb::SubmissionSet) -> bool {
        let author = self.author.as_ref();
        self.statuses.has(set.availability_status)
            && (self.sources.is_empty() || self.sources.contains(&set.source_id))
            && self.submitted.has(&set.submission_time, false)
            && author.is_none_or(|author| authored(std::slice::from_ref(author), &set.authors))
            && one_of(&self.content_types, set.content_type_code.as_ref())
    }
}

/// What folders must have, checked.
#[derive(Clone, Debug)]
pub(crate) struct FolderFilter {
    statuses: Statuses,
    updated: Span,
    codes: Vec<pb::CodeList>,
    all_levels: bool,
}

impl FolderFilter {
    /// The filter of `FindFolders`.
    ///
    /// # Errors
    /// [`Reason::InvalidParameter`], naming the field.
    pub(crate) fn new(query: &pb::FindFoldersQuery, level: pb::MetadataLevel) -> Result<Self> {
        lists(&query.codes, "codes")?;
        Ok(Self {
            updated: Span::new(query.last_update_time.as_ref(), "last_update_time")?,
            codes: query.codes.clone(),
            ..Self::of(Statuses::wanted(&query.statuses), level)
        })
    }

    /// A filter for these statuses only.
    pub(crate) fn of(statuses: Statuses, level: pb::MetadataLevel) -> Self {
        Self {
            statuses,
            updated: Span::default(),
            codes: Vec::new(),
            all_levels: level == pb::MetadataLevel::All,
        }
    }

    /// Whether `folder` answers it. `superseded`: there is a newer version of it.
    pub(crate) fn matches(&self, folder: &pb::Folder, superseded: bool) -> bool {
        level_shows(self.all_levels, folder, superseded)
            && self.statuses.has(folder.availability_status)
            && self.updated.has(&folder.last_update_time, false)
            && all_lists(&self.codes, &folder.codes)
    }
}

/// Whether a metadata level shows a folder: a level of 1 shows neither old versions nor deprecated
/// folders, whatever statuses are asked for, since only Metadata Update makes them so.
fn level_shows(all_levels: bool, folder: &pb::Folder, superseded: bool) -> bool {
    all_levels || !superseded && folder.availability_status() != Status::Deprecated
}

/// Codes of one parameter: each has a code and a coding scheme.
fn well_coded(codes: &[cpb::CodedValue], field: &str) -> Result<()> {
    few(codes.len(), field)?;
    match codes.iter().position(|code| code.code.is_empty()) {
        None => Ok(()),
        Some(index) => {
            let field = format!("{field}[{index}].code");
            Err(Error::field(Reason::InvalidParameter, field, "is empty"))
        }
    }
}

fn lists(lists: &[pb::CodeList], field: &str) -> Result<()> {
    few(lists.len(), field)?;
    lists
        .iter()
        .try_for_each(|list| well_coded(&list.any_of, field))
}

fn few(count: usize, field: &str) -> Result<()> {
    if count <= MAX_VALUES {
        return Ok(());
    }
    let message = format!("has more than {MAX_VALUES} values");
    Err(Error::field(
        Reason::InvalidParameter,
        field.to_owned(),
        message,
    ))
}

fn short(text: &str, field: &str) -> Result<()> {
    if text.chars().count() <= MAX_TEXT {
        return Ok(());
    }
    let message = format!("is longer than {MAX_TEXT} characters");
    Err(Error::field(
        Reason::InvalidParameter,
        field.to_owned(),
        message,
    ))
}

fn check(filter: &pb::DocumentFilter, name: &str) -> Result<()> {
    for (field, codes) in [
        ("class_codes", &filter.class_codes),
        ("type_codes", &filter.type_codes),
        ("practice_setting_codes", &filter.practice_setting_codes),
        (
            "healthcare_facility_type_codes",
            &filter.healthcare_facility_type_codes,
        ),
        ("format_codes", &filter.format_codes),
    ] {
        well_coded(codes, &format!("{name}.{field}"))?;
    }
    lists(&filter.event_codes, &format!("{name}.event_codes"))?;
    lists(
        &filter.confidentiality_codes,
        &format!("{name}.confidentiality_codes"),
    )?;
    few(
        filter.author_persons.len(),
        &format!("{name}.author_persons"),
    )?;
    for pattern in &filter.author_persons {
        short(pattern, &format!("{name}.author_persons"))?;
    }
    few(filter.mime_types.len(), &format!("{name}.mime_types"))?;
    few(
        filter.author_institution_ids.len(),
        &format!("{name}.author_institution_ids"),
    )?;
    short(&filter.text, &format!("{name}.text"))
}

/// A parameter and its Exclude twin do not go together (CP-ITI-1323).
fn twins(filter: &pb::DocumentFilter, exclude: &pb::DocumentFilter) -> Result<()> {
    let filled = |filter: &pb::DocumentFilter| {
        [
            ("class_codes", !filter.class_codes.is_empty()),
            ("type_codes", !filter.type_codes.is_empty()),
            (
                "practice_setting_codes",
                !filter.practice_setting_codes.is_empty(),
            ),
            (
                "healthcare_facility_type_codes",
                !filter.healthcare_facility_type_codes.is_empty(),
            ),
            ("event_codes", !filter.event_codes.is_empty()),
            (
                "confidentiality_codes",
                !filter.confidentiality_codes.is_empty(),
            ),
            ("format_codes", !filter.format_codes.is_empty()),
            ("author_persons", !filter.author_persons.is_empty()),
            (
                "author_institution_ids",
                !filter.author_institution_ids.is_empty(),
            ),
            ("mime_types", !filter.mime_types.is_empty()),
            ("object_types", !filter.object_types.is_empty()),
            (
                "document_availabilities",
                !filter.document_availabilities.is_empty(),
            ),
        ]
    };
    let both = filled(filter)
        .into_iter()
        .zip(filled(exclude))
        .find(|((_, wanted), (_, not))| *wanted && *not);
    match both {
        None => Ok(()),
        Some(((field, _), _)) => Err(Error::field(
            Reason::ParameterNumber,
            format!("exclude.{field}"),
            "is asked for and excluded at once",
        )),
    }
}
