//! What a query must find, by looking at everything: written from the standard's text, without the
//! code under test.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::super::tables::SubmissionRow;
use super::random::{Registry, WORDS, person};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;
use pb::stored_query::Query;

/// entryUUIDs.
pub(super) type Found = BTreeSet<String>;

/// A word searched for, by its number in [`WORDS`].
fn words_of(text: &str) -> Vec<usize> {
    text.split(['　', ' '])
        .filter(|word| !word.is_empty())
        .map(|word| WORDS.iter().position(|all| all.contains(&word)).unwrap())
        .collect()
}

fn padded(time: &str) -> String {
    format!("{time}{}", &"00000101000000"[time.len()..])
}

fn within(range: Option<&pb::TimeRange>, time: &str, absent: bool) -> bool {
    let Some(range) = range else { return true };
    if range.from.is_empty() && range.to.is_empty() {
        return true;
    }
    if time.is_empty() {
        return absent;
    }
    (range.from.is_empty() || padded(time) >= padded(&range.from))
        && (range.to.is_empty() || padded(time) < padded(&range.to))
}

fn like(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|from| like(rest, &text[from..])),
        Some(('_', rest)) => !text.is_empty() && like(rest, &text[1..]),
        Some((c, rest)) => text.first() == Some(c) && like(rest, &text[1..]),
    }
}

fn authored(patterns: &[String], authors: &[pb::Author]) -> bool {
    patterns.iter().any(|pattern| {
        authors.iter().any(|author| {
            let person = author.person.as_ref().unwrap();
            let xcn = format!("{}^{}^{}", person.id, person.family, person.given);
            let (pattern, xcn) = (pattern.chars().collect::<Vec<_>>(), xcn.chars());
            like(&pattern, &xcn.collect::<Vec<_>>())
        })
    })
}

fn pairs(codes: &[cpb::CodedValue]) -> BTreeSet<(&str, &str)> {
    codes
        .iter()
        .map(|code| (code.code.as_str(), code.system.as_str()))
        .collect()
}

/// One parameter: nothing asked, or a value in common.
fn any(wanted: &[cpb::CodedValue], has: &[cpb::CodedValue]) -> bool {
    wanted.is_empty() || !pairs(wanted).is_disjoint(&pairs(has))
}

fn each(lists: &[pb::CodeList], has: &[cpb::CodedValue]) -> bool {
    lists.iter().all(|list| any(&list.any_of, has))
}

fn single(code: Option<&cpb::CodedValue>) -> &[cpb::CodedValue] {
    code.map_or(&[], std::slice::from_ref)
}

fn status(wanted: &[i32], has: i32) -> bool {
    match wanted {
        [] => has == i32::from(pb::AvailabilityStatus::Approved),
        some => some.contains(&has),
    }
}

/// Whether the caller of the test may know of an entry: one of another community, up to N.
pub(super) fn visible(entry: &pb::DocumentEntry) -> bool {
    entry.confidentiality_codes[0].code == "N" && entry.national_flags.is_empty()
}

fn object_type(wanted: &[i32], entry: &pb::DocumentEntry) -> bool {
    match wanted {
        [] => entry.object_type == 1,
        some => some.contains(&entry.object_type),
    }
}

fn entry_fits(entry: &pb::DocumentEntry, filter: &pb::DocumentFilter) -> bool {
    let f = filter;
    let online = if entry.document_availability == 2 {
        2
    } else {
        1
    };
    status(&f.statuses, entry.availability_status)
        && any(&f.class_codes, single(entry.class_code.as_ref()))
        && any(&f.type_codes, single(entry.type_code.as_ref()))
        && any(&f.format_codes, single(entry.format_code.as_ref()))
        && any(
            &f.practice_setting_codes,
            single(entry.practice_setting_code.as_ref()),
        )
        && any(
            &f.healthcare_facility_type_codes,
            single(entry.healthcare_facility_type_code.as_ref()),
        )
        && each(&f.event_codes, &entry.event_codes)
        && each(&f.confidentiality_codes, &entry.confidentiality_codes)
        && (entry.object_type == 2 || within(f.creation_time.as_ref(), &entry.creation_time, false))
        && within(
            f.service_start_time.as_ref(),
            &entry.service_start_time,
            true,
        )
        && within(f.service_stop_time.as_ref(), &entry.service_stop_time, true)
        && object_type(&f.object_types, entry)
        && (f.document_availabilities.is_empty() || f.document_availabilities.contains(&online))
        && (f.mime_types.is_empty() || f.mime_types.contains(&entry.mime_type))
        && (f.author_institution_ids.is_empty()
            || entry.authors.iter().any(|author| {
                f.author_institution_ids
                    .contains(&author.institutions[0].id)
            }))
        && (f.author_persons.is_empty() || authored(&f.author_persons, &entry.authors))
        && words_of(&f.text).iter().all(|word| {
            [&entry.title, &entry.comments]
                .into_iter()
                .flatten()
                .any(|text| words_of(&text.values[0].value).contains(word))
        })
}

fn excluded(entry: &pb::DocumentEntry, not: &pb::DocumentFilter) -> bool {
    let hit = |codes: &[cpb::CodedValue], has| !codes.is_empty() && any(codes, has);
    hit(&not.class_codes, single(entry.class_code.as_ref()))
        || not
            .event_codes
            .iter()
            .any(|list| hit(&list.any_of, &entry.event_codes))
        || not.mime_types.contains(&entry.mime_type)
}

/// An object of a registry.
enum Object<'a> {
    Entry(&'a pb::DocumentEntry),
    Set(&'a SubmissionRow),
    Folder,
    Association(&'a pb::Association),
}

/// Objects that the caller of the test may not know of: worked out once for a registry, from what each
/// object is and nothing else.
pub(super) fn hidden(registry: &Registry) -> HashSet<String> {
    let mut objects: HashMap<&str, Object<'_>> = HashMap::new();
    let mut members: HashMap<&str, Vec<&str>> = HashMap::new();
    for row in &registry.entries {
        let entry = row.entry.as_ref().unwrap();
        objects.insert(&entry.entry_uuid, Object::Entry(entry));
    }
    for row in &registry.sets {
        objects.insert(&row.set.as_ref().unwrap().entry_uuid, Object::Set(row));
    }
    for row in &registry.folders {
        let folder = row.folder.as_ref().unwrap();
        objects.insert(&folder.entry_uuid, Object::Folder);
    }
    for row in &registry.associations {
        let association = row.association.as_ref().unwrap();
        objects.insert(&association.entry_uuid, Object::Association(association));
        let of = members.entry(&association.source_object).or_default();
        of.push(&association.target_object);
    }
    let uuids = objects.keys();
    let hidden = uuids.filter(|uuid| is_hidden(uuid, &objects, &members));
    hidden.map(|uuid| (*uuid).to_owned()).collect()
}

fn is_hidden(
    uuid: &str,
    objects: &HashMap<&str, Object<'_>>,
    members: &HashMap<&str, Vec<&str>>,
) -> bool {
    let hidden = |uuid: &str| is_hidden(uuid, objects, members);
    match objects.get(uuid) {
        None => false,
        Some(Object::Entry(entry)) => !visible(entry),
        Some(Object::Set(row)) => row.entries.iter().all(|uuid| {
            let uuid = uuid::Uuid::from_slice(uuid).unwrap();
            hidden(&format!("urn:uuid:{uuid}"))
        }),
        Some(Object::Folder) => members
            .get(uuid)
            .is_some_and(|members| members.iter().all(|member| hidden(member))),
        Some(Object::Association(association)) => {
            hidden(&association.source_object) || hidden(&association.target_object)
        }
    }
}

/// Looks at everything.
pub(super) struct Oracle<'a> {
    pub(super) registry: &'a Registry,
    /// What [`hidden`] says of the registry.
    pub(super) hidden: &'a HashSet<String>,
    pub(super) all_levels: bool,
}

impl Oracle<'_> {
    fn entries(&self) -> impl Iterator<Item = (&pb::DocumentEntry, u64, bool)> {
        let rows = self.registry.entries.iter();
        rows.map(|row| (row.entry.as_ref().unwrap(), 0, row.superseded))
            .filter(|(entry, ..)| visible(entry))
    }

    /// Entries of the metadata level that pass.
    fn passing(&self, pass: impl Fn(&pb::DocumentEntry) -> bool) -> Found {
        self.entries()
            .filter(|(entry, _, superseded)| {
                self.all_levels || !superseded && entry.document_availability != 2
            })
            .filter(|(entry, ..)| pass(entry))
            .map(|(entry, ..)| entry.entry_uuid.clone())
            .collect()
    }

    fn is_of(&self, patient: Option<&cpb::Identifier>, of: Option<&cpb::Identifier>) -> bool {
        let number =
            |id: Option<&cpb::Identifier>| id.unwrap().value[1..].parse::<usize>().unwrap();
        person(number(of), self.registry.patients).contains(&number(patient))
    }

    fn hidden(&self, uuid: &str) -> bool {
        self.hidden.contains(uuid)
    }

    fn associations(&self) -> impl Iterator<Item = &pb::Association> {
        let rows = self.registry.associations.iter();
        rows.map(|row| row.association.as_ref().unwrap())
    }

    /// Associations with one of the objects at an end, which the caller may know of.
    fn linked(&self, objects: &Found, statuses: &[i32]) -> Vec<&pb::Association> {
        self.associations()
            .filter(|a| objects.contains(&a.source_object) || objects.contains(&a.target_object))
            .filter(|a| self.association_status(statuses, a))
            .filter(|a| !self.hidden(&a.source_object) && !self.hidden(&a.target_object))
            .collect()
    }

    fn association_status(&self, wanted: &[i32], association: &pb::Association) -> bool {
        match wanted {
            [] => self.all_levels || association.availability_status == 1,
            some => some.contains(&association.availability_status),
        }
    }

    fn sets(&self, pass: impl Fn(&pb::SubmissionSet) -> bool) -> Found {
        let rows = self.registry.sets.iter();
        rows.map(|row| row.set.as_ref().unwrap())
            .filter(|set| pass(set) && !self.hidden(&set.entry_uuid))
            .map(|set| set.entry_uuid.clone())
            .collect()
    }

    /// Folders of the metadata level that pass. A level of 1 is as if Metadata Update did not exist:
    /// neither old versions nor deprecated folders.
    fn folders(&self, pass: impl Fn(&pb::Folder) -> bool) -> Found {
        let rows = self.registry.folders.iter();
        rows.filter(|row| self.all_levels || !row.superseded)
            .map(|row| row.folder.as_ref().unwrap())
            .filter(|folder| self.all_levels || folder.availability_status != 2)
            .filter(|folder| pass(folder) && !self.hidden(&folder.entry_uuid))
            .map(|folder| folder.entry_uuid.clone())
            .collect()
    }

    fn content(filter: Option<&pb::ContentFilter>, entry: &pb::DocumentEntry) -> bool {
        let filter = filter.cloned().unwrap_or_default();
        any(&filter.format_codes, single(entry.format_code.as_ref()))
            && each(&filter.confidentiality_codes, &entry.confidentiality_codes)
            && object_type(&filter.object_types, entry)
    }

    fn named(
        selector: Option<&pb::ObjectSelector>,
        uuid: &str,
        unique: &str,
        logical: &str,
    ) -> bool {
        let selector = selector.unwrap();
        let has = |list: &[String], id: &str| list.iter().any(|named| named == id);
        has(&selector.entry_uuids, uuid)
            || has(&selector.unique_ids, unique)
            || has(&selector.logical_ids, logical)
    }

    fn names_entry(selector: Option<&pb::ObjectSelector>, entry: &pb::DocumentEntry) -> bool {
        Self::named(
            selector,
            &entry.entry_uuid,
            &entry.unique_id,
            &entry.logical_id,
        )
    }

    fn member(association: &pb::Association) -> bool {
        association.association_type == 1
    }

    /// What `query` must find, of all kinds of objects.
    #[expect(clippy::too_many_lines, reason = "a case for each stored query")]
    pub(super) fn find(&self, query: &Query) -> Found {
        match query {
            Query::FindDocuments(q) => self.passing(|entry| {
                self.is_of(entry.patient_id.as_ref(), q.patient_id.as_ref())
                    && entry_fits(entry, q.filter.as_ref().unwrap())
                    && !q.exclude.as_ref().is_some_and(|not| excluded(entry, not))
            }),
            Query::FindDocumentsByReferenceId(q) => self.passing(|entry| {
                self.is_of(entry.patient_id.as_ref(), q.patient_id.as_ref())
                    && entry_fits(entry, q.filter.as_ref().unwrap())
                    && q.reference_ids.iter().all(|list| {
                        list.any_of.iter().any(|wanted| {
                            entry.reference_ids.iter().any(|has| {
                                wanted.id == has.id
                                    && (wanted.type_code.is_empty()
                                        || wanted.type_code == has.type_code)
                            })
                        })
                    })
            }),
            Query::FindSubmissionSets(q) => self.sets(|set| {
                self.is_of(set.patient_id.as_ref(), q.patient_id.as_ref())
                    && status(&q.statuses, set.availability_status)
                    && (q.source_ids.is_empty() || q.source_ids.contains(&set.source_id))
                    && within(q.submission_time.as_ref(), &set.submission_time, false)
                    && (q.author_person.is_empty()
                        || authored(std::slice::from_ref(&q.author_person), &set.authors))
                    && any(
                        &q.content_type_codes,
                        single(set.content_type_code.as_ref()),
                    )
            }),
            Query::FindFolders(q) => self.folders(|folder| {
                self.is_of(folder.patient_id.as_ref(), q.patient_id.as_ref())
                    && status(&q.statuses, folder.availability_status)
                    && within(q.last_update_time.as_ref(), &folder.last_update_time, false)
                    && each(&q.codes, &folder.codes)
            }),
            Query::GetAll(q) => {
                let of =
                    |patient: Option<&cpb::Identifier>| self.is_of(patient, q.patient_id.as_ref());
                let mut found = self.passing(|entry| {
                    of(entry.patient_id.as_ref())
                        && status(&q.document_statuses, entry.availability_status)
                        && Self::content(q.content.as_ref(), entry)
                });
                found.extend(self.sets(|set| {
                    of(set.patient_id.as_ref())
                        && status(&q.submission_set_statuses, set.availability_status)
                }));
                found.extend(self.folders(|folder| {
                    of(folder.patient_id.as_ref())
                        && status(&q.folder_statuses, folder.availability_status)
                }));
                let linked = self.linked(&found, &q.association_statuses);
                let linked: Found = linked.iter().map(|a| a.entry_uuid.clone()).collect();
                found.extend(linked);
                found
            }
            Query::GetDocuments(q) => {
                self.passing(|entry| Self::names_entry(q.documents.as_ref(), entry))
            }
            Query::GetFolders(q) => self.folders(|folder| {
                let (uuid, unique) = (&folder.entry_uuid, &folder.unique_id);
                Self::named(q.folders.as_ref(), uuid, unique, &folder.logical_id)
            }),
            Query::GetAssociations(q) => {
                let objects = q.uuids.iter().cloned().collect();
                let linked = self.linked(&objects, &q.association_statuses);
                linked.iter().map(|a| a.entry_uuid.clone()).collect()
            }
            Query::GetDocumentsAndAssociations(q) => {
                let mut found =
                    self.passing(|entry| Self::names_entry(q.documents.as_ref(), entry));
                let linked = self.linked(&found, &q.association_statuses);
                let linked: Found = linked.iter().map(|a| a.entry_uuid.clone()).collect();
                found.extend(linked);
                found
            }
            Query::GetSubmissionSets(q) => {
                let objects: Found = q.uuids.iter().cloned().collect();
                let mut found = Found::new();
                for a in self.linked(&objects, &q.association_statuses) {
                    let of_set = !self
                        .sets(|set| set.entry_uuid == a.source_object)
                        .is_empty();
                    if Self::member(a) && objects.contains(&a.target_object) && of_set {
                        found.insert(a.entry_uuid.clone());
                        found.insert(a.source_object.clone());
                    }
                }
                found
            }
            Query::GetSubmissionSetAndContents(q) => self.set_contents(q),
            Query::GetFolderAndContents(q) => {
                let mut found = self.folders(|folder| {
                    let (uuid, unique) = (&folder.entry_uuid, &folder.unique_id);
                    Self::named(q.folder.as_ref(), uuid, unique, "")
                });
                let folders = found.clone();
                let fits = self.passing(|entry| Self::content(q.content.as_ref(), entry));
                for a in self.linked(&folders, &q.association_statuses) {
                    if Self::member(a)
                        && folders.contains(&a.source_object)
                        && fits.contains(&a.target_object)
                    {
                        found.insert(a.entry_uuid.clone());
                        found.insert(a.target_object.clone());
                    }
                }
                found
            }
            Query::GetFoldersForDocument(q) => {
                let named: Found = self
                    .entries()
                    .filter(|(entry, ..)| Self::names_entry(q.document.as_ref(), entry))
                    .map(|(entry, ..)| entry.entry_uuid.clone())
                    .collect();
                let holding: Found = self
                    .linked(&named, &[1])
                    .iter()
                    .filter(|a| Self::member(a) && named.contains(&a.target_object))
                    .map(|a| a.source_object.clone())
                    .collect();
                self.folders(|folder| holding.contains(&folder.entry_uuid))
            }
            Query::GetRelatedDocuments(q) => self.related(q),
            _ => unreachable!("not a query of ITI-18"),
        }
    }

    /// Whether objects found are of several people.
    pub(super) fn several_people(&self, found: &Found) -> bool {
        let entries = self
            .registry
            .entries
            .iter()
            .map(|row| row.entry.as_ref().unwrap());
        let sets = self
            .registry
            .sets
            .iter()
            .map(|row| row.set.as_ref().unwrap());
        let folders = self
            .registry
            .folders
            .iter()
            .map(|row| row.folder.as_ref().unwrap());
        let patients = entries
            .map(|entry| (&entry.entry_uuid, &entry.patient_id))
            .chain(sets.map(|set| (&set.entry_uuid, &set.patient_id)))
            .chain(folders.map(|folder| (&folder.entry_uuid, &folder.patient_id)))
            .filter(|(uuid, _)| found.contains(*uuid))
            .map(|(_, patient)| patient.as_ref());
        let patients: Vec<_> = patients.collect();
        patients
            .iter()
            .any(|patient| !self.is_of(*patient, patients[0]))
    }

    fn set_contents(&self, q: &pb::GetSubmissionSetAndContentsQuery) -> Found {
        let mut found = self.sets(|set| {
            let (uuid, unique) = (&set.entry_uuid, &set.unique_id);
            Self::named(q.submission_set.as_ref(), uuid, unique, "")
        });
        let sets = found.clone();
        let fits = self.passing(|entry| Self::content(q.content.as_ref(), entry));
        let entries: Found = self
            .entries()
            .map(|(entry, ..)| entry.entry_uuid.clone())
            .collect();
        let shown = self.folders(|_| true);
        let folders = self.registry.folders.iter();
        let folders: Found = folders
            .map(|row| row.folder.as_ref().unwrap().entry_uuid.clone())
            .collect();
        let members: Vec<_> = self
            .linked(&sets, &[])
            .into_iter()
            .filter(|a| Self::member(a) && sets.contains(&a.source_object))
            .collect();
        let out: Found = members
            .iter()
            .map(|a| a.target_object.clone())
            .filter(|uuid| {
                entries.contains(uuid) && !fits.contains(uuid)
                    || folders.contains(uuid) && !shown.contains(uuid)
            })
            .collect();
        for a in &members {
            let target = &a.target_object;
            let inner = self
                .associations()
                .find(|inner| inner.entry_uuid == *target);
            let dropped = inner.is_some_and(|inner| {
                out.contains(&inner.source_object) || out.contains(&inner.target_object)
            });
            if !out.contains(target) && !dropped {
                found.insert(a.entry_uuid.clone());
                found.insert(target.clone());
            }
        }
        found
    }

    fn related(&self, q: &pb::GetRelatedDocumentsQuery) -> Found {
        let content = pb::ContentFilter {
            object_types: q.object_types.clone(),
            ..Default::default()
        };
        let fits = self.passing(|entry| Self::content(Some(&content), entry));
        let mut found = Found::new();
        let named: Found = self
            .entries()
            .filter(|(entry, ..)| Self::names_entry(q.document.as_ref(), entry))
            .map(|(entry, ..)| entry.entry_uuid.clone())
            .collect();
        for document in &named {
            let own: Found = [document.clone()].into();
            for a in self.linked(&own, &q.association_statuses) {
                let other = match a.source_object == *document {
                    true => &a.target_object,
                    false => &a.source_object,
                };
                if q.association_types.contains(&a.association_type) && fits.contains(other) {
                    found.extend([document.clone(), other.clone(), a.entry_uuid.clone()]);
                }
            }
        }
        found
    }
}
