//! The relations between the parts of a submission (ITI TF-3 §4.1.2, §4.2.2): ids become UUIDs, ends
//! are told apart, and what can be judged without the registry is judged.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Reason;
use crate::types::EntryUuid;
use crate::wire::pb::documents as pb;

use super::{Check, Transaction, ValidSubmission};

use pb::AssociationType as Type;

/// What an end of an association is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The SubmissionSet.
    Set,
    /// An entry of the submission, by its place.
    Entry(usize),
    /// A folder of the submission.
    Folder(usize),
    /// An association of the submission.
    Association(usize),
    /// An object that must be registered already.
    Registered(EntryUuid),
}

/// An association whose ends are known.
#[derive(Debug)]
pub(crate) struct ValidAssociation {
    pub(crate) uuid: EntryUuid,
    pub(crate) source: End,
    pub(crate) target: End,
    /// With `urn:uuid:` ends.
    pub(crate) association: pb::Association,
    /// The path of the association in the request; empty if it was made here.
    pub(crate) place: String,
}

/// The ids of a submission.
type Ids = BTreeMap<String, (End, EntryUuid)>;

/// The form in which ids are compared: UUIDs without case, symbolic ids as they are.
fn form(id: &str) -> String {
    if id.starts_with("urn:uuid:") {
        id.to_ascii_lowercase()
    } else {
        id.to_owned()
    }
}

impl Check<'_> {
    /// Resolves and judges the associations of a submission, and makes those that are missing.
    pub(super) fn relations(
        &mut self,
        valid: &mut ValidSubmission,
        associations: Vec<pb::Association>,
    ) {
        let mut ids = self.ids(valid);
        self.unique_ids(valid);
        let mut uuids = Vec::with_capacity(associations.len());
        for (index, association) in associations.iter().enumerate() {
            self.faults.enter(format!("associations[{index}]"));
            let given = &association.entry_uuid;
            let uuid = self.assigned(given).unwrap_or_else(EntryUuid::random);
            self.id(&mut ids, given, End::Association(index), uuid);
            valid.assigned.push(pb::AssignedId {
                symbolic_id: given.clone(),
                entry_uuid: uuid.to_string(),
            });
            self.faults.leave();
            uuids.push(uuid);
        }
        for (index, (association, uuid)) in associations.into_iter().zip(uuids).enumerate() {
            let place = format!("associations[{index}]");
            self.faults.enter(place.clone());
            let source = self.end(&ids, "source_object", &association.source_object);
            let target = self.end(&ids, "target_object", &association.target_object);
            if let (Some(source), Some(target)) = (source, target) {
                self.slots_of(&association);
                let mut made = made(uuid, source, target, association, self);
                made.place = place;
                self.judge(&made, valid);
                valid.associations.push(made);
            }
            self.faults.leave();
        }
        if self.faults.is_empty() && !self.transaction.is_update() {
            complete(valid, &ids, &self.rules.home.to_string());
        }
        name_ends(valid, &ids);
    }

    fn ids(&mut self, valid: &mut ValidSubmission) -> Ids {
        let mut ids = Ids::new();
        let set = valid.assigned.first().map_or("", |set| &set.symbolic_id);
        let set = set.to_owned();
        self.id(&mut ids, &set, End::Set, valid.set_uuid);
        for (index, entry) in valid.entries.iter().enumerate() {
            self.faults.enter(format!("entries[{index}]"));
            self.id(&mut ids, &entry.symbolic, End::Entry(index), entry.uuid);
            self.faults.leave();
            valid.assigned.push(pb::AssignedId {
                symbolic_id: entry.symbolic.clone(),
                entry_uuid: entry.uuid.to_string(),
            });
        }
        for (index, folder) in valid.folders.iter_mut().enumerate() {
            self.faults.enter(format!("folders[{index}]"));
            let given = std::mem::take(&mut folder.folder.entry_uuid);
            self.id(&mut ids, &given, End::Folder(index), folder.uuid);
            self.faults.leave();
            folder.folder.entry_uuid = folder.uuid.to_string();
            valid.assigned.push(pb::AssignedId {
                symbolic_id: given,
                entry_uuid: folder.uuid.to_string(),
            });
        }
        for entry in &mut valid.entries {
            entry.entry.entry_uuid = entry.uuid.to_string();
        }
        ids
    }

    fn id(&mut self, ids: &mut Ids, given: &str, end: End, uuid: EntryUuid) {
        // The UUID is a name of the object too, whether it was given or made.
        let mut twice = ids.insert(uuid.to_string(), (end, uuid)).is_some();
        if !given.is_empty() && !given.starts_with("urn:uuid:") {
            twice |= ids.insert(form(given), (end, uuid)).is_some();
        }
        if twice {
            let message = "stands twice in the submission";
            self.faults.invalid("entry_uuid", message);
        }
    }

    /// No uniqueId twice, whatever has it (ITI-42 §3.42.4.1.3.3).
    fn unique_ids(&mut self, valid: &ValidSubmission) {
        let mut seen = BTreeSet::from([valid.set.unique_id.as_str()]);
        // Two versions of one object have one uniqueId; that they come together is another fault.
        if self.transaction.is_update() {
            return;
        }
        let entries = valid.entries.iter().map(|entry| &entry.entry.unique_id);
        let folders = valid.folders.iter().map(|folder| &folder.folder.unique_id);
        let entries = entries.enumerate().map(|(at, id)| ("entries", at, id));
        let folders = folders.enumerate().map(|(at, id)| ("folders", at, id));
        for (list, index, id) in entries.chain(folders) {
            if !seen.insert(id) {
                let field = format!("{list}[{index}].unique_id");
                let message = "stands twice in the submission";
                self.faults.add(Reason::DuplicateInMessage, &field, message);
            }
        }
    }

    fn end(&mut self, ids: &Ids, field: &str, given: &str) -> Option<End> {
        if given.is_empty() {
            self.faults.missing(field);
            return None;
        }
        if let Some((end, _)) = ids.get(&form(given)) {
            return Some(*end);
        }
        if given.starts_with("urn:uuid:") {
            let uuid: Option<EntryUuid> = self.faults.required(field, given);
            return uuid.map(End::Registered);
        }
        let message = "names nothing in the submission";
        self.faults.add(Reason::UnresolvedReference, field, message);
        None
    }

    /// Attributes that belong to other kinds of associations.
    fn slots_of(&mut self, association: &pb::Association) {
        self.common(
            &association.home_community_id,
            false,
            &association.extension_slots,
        );
        let kind = association.association_type();
        let status = kind == Type::UpdateAvailabilityStatus;
        if !status
            && (association.original_status != 0 || association.new_status != 0)
            && self.transaction.is_update()
        {
            let message = "a status belongs to UpdateAvailabilityStatus only";
            self.faults
                .add(Reason::UpdateOperation, "original_status", message);
        }
        if let Some(code) = &association.documentation
            && (code.code.is_empty() || code.system.is_empty())
        {
            let message = "needs a code and its system";
            self.faults
                .add(Reason::MissingField, "documentation", message);
        }
    }

    /// Whether the type may join these ends.
    fn judge(&mut self, made: &ValidAssociation, valid: &ValidSubmission) {
        if made.target == End::Set {
            self.faults.invalid(
                "target_object",
                "is the submission set, which is a member of nothing",
            );
            return;
        }
        match made.association.association_type() {
            Type::HasMember => self.membership(made),
            Type::Rplc | Type::Apnd | Type::Xfrm | Type::XfrmRplc | Type::Signs => {
                self.relationship(made);
            }
            Type::IsSnapshotOf => {
                self.relationship(made);
                let stable = match made.source {
                    End::Entry(at) => valid
                        .entries
                        .get(at)
                        .is_some_and(|entry| entry.entry.object_type() == pb::ObjectType::Stable),
                    _ => false,
                };
                if !stable {
                    self.faults
                        .invalid("source_object", "is no stable document");
                }
            }
            Type::UpdateAvailabilityStatus | Type::SubmitAssociation => {
                if self.transaction != Transaction::Update {
                    let message = "belongs to an update of metadata (ITI-57)";
                    self.faults.invalid("association_type", message);
                } else if made.source != End::Set {
                    let message = "is not the submission set";
                    self.faults
                        .add(Reason::UpdateOperation, "source_object", message);
                }
            }
            Type::Other
                if self
                    .rules
                    .profile
                    .takes_association(&made.association.other_type) => {}
            Type::Other | Type::Unspecified => {
                self.faults
                    .invalid("association_type", "is not one that is taken here");
            }
        }
    }

    fn membership(&mut self, made: &ValidAssociation) {
        use pb::SubmissionSetStatus as Status;
        let association = &made.association;
        if association.documentation.is_some() {
            let message = "belongs to a relation of documents";
            self.faults.invalid("documentation", message);
        }
        let status = association.submission_set_status();
        match (made.source, made.target) {
            (End::Set, End::Entry(_)) if status == Status::Unspecified => {
                self.faults.missing("submission_set_status");
            }
            (End::Set, End::Entry(_)) if status == Status::Reference => {
                let message = "is Reference, but the document is in the submission";
                self.faults.invalid("submission_set_status", message);
            }
            (End::Set, End::Registered(_)) if status == Status::Original => {
                let message = "is Original, but the document is not in the submission";
                self.faults.invalid("submission_set_status", message);
            }
            (End::Set, _)
            | (End::Folder(_) | End::Registered(_), End::Entry(_) | End::Registered(_)) => {}
            (End::Entry(_) | End::Association(_), _) => {
                self.faults.invalid("source_object", "has no members");
            }
            (_, _) => self
                .faults
                .invalid("target_object", "is no member of a folder"),
        }
    }

    fn relationship(&mut self, made: &ValidAssociation) {
        let kind = made.association.association_type();
        // Between registered documents only as part of an update (SubmitAssociation).
        let from_new = matches!(made.source, End::Entry(_));
        if !from_new && !self.transaction.is_update() {
            let message = "is no document of the submission";
            self.faults
                .add(Reason::UnresolvedReference, "source_object", message);
        }
        if made.source == made.target {
            self.faults.invalid("target_object", "is the source itself");
        }
        let replaces = matches!(kind, Type::Rplc | Type::XfrmRplc | Type::IsSnapshotOf);
        match made.target {
            End::Registered(_) => {}
            End::Entry(_) if !replaces => {}
            End::Entry(_) => {
                let message = "is in the same submission, so there is nothing to replace";
                self.faults.invalid("target_object", message);
            }
            _ => self.faults.invalid("target_object", "is no document"),
        }
    }
}

fn made(
    uuid: EntryUuid,
    source: End,
    target: End,
    mut association: pb::Association,
    check: &Check<'_>,
) -> ValidAssociation {
    association.entry_uuid = uuid.to_string();
    association.home_community_id = check.rules.home.to_string();
    association.availability_status = pb::AvailabilityStatus::Approved.into();
    ValidAssociation {
        uuid,
        source,
        target,
        association,
        place: String::new(),
    }
}

/// Every entry, folder and membership of a folder is a member of the set: what the submission left
/// out is made here.
fn complete(valid: &mut ValidSubmission, ids: &Ids, home: &str) {
    let members: BTreeSet<String> = valid
        .associations
        .iter()
        .filter(|made| {
            made.source == End::Set && made.association.association_type() == Type::HasMember
        })
        .filter_map(|made| member_key(made.target))
        .collect();
    let entries = (0..valid.entries.len()).map(End::Entry);
    let folders = (0..valid.folders.len()).map(End::Folder);
    let memberships = valid.associations.iter().enumerate().filter(|(_, made)| {
        made.source != End::Set && made.association.association_type() == Type::HasMember
    });
    let memberships = memberships.map(|(at, _)| End::Association(at));
    let missing: Vec<End> = entries
        .chain(folders)
        .chain(memberships)
        .filter(|end| member_key(*end).is_some_and(|key| !members.contains(&key)))
        .collect();
    let uuid_of = |end| ids.values().find(|(known, _)| *known == end);
    for target in missing {
        let Some((_, target_uuid)) = uuid_of(target) else {
            continue;
        };
        let association = member(&valid.set_uuid, target_uuid, home, target);
        let uuid = EntryUuid::random();
        valid.associations.push(ValidAssociation {
            uuid,
            source: End::Set,
            target,
            association: pb::Association {
                entry_uuid: uuid.to_string(),
                ..association
            },
            place: String::new(),
        });
    }
}

/// The ends as `urn:uuid:`.
fn name_ends(valid: &mut ValidSubmission, ids: &Ids) {
    let uuids: Vec<(End, EntryUuid)> = ids.values().copied().collect();
    for made in &mut valid.associations {
        let text = |end: End| match end {
            End::Registered(uuid) => uuid.to_string(),
            end => uuids
                .iter()
                .find(|(known, _)| *known == end)
                .map_or_else(String::new, |(_, uuid)| uuid.to_string()),
        };
        made.association.source_object = text(made.source);
        made.association.target_object = text(made.target);
    }
}

fn member_key(end: End) -> Option<String> {
    match end {
        End::Entry(at) => Some(format!("e{at}")),
        End::Folder(at) => Some(format!("f{at}")),
        End::Association(at) => Some(format!("a{at}")),
        End::Set | End::Registered(_) => None,
    }
}

fn member(set: &EntryUuid, target: &EntryUuid, home: &str, end: End) -> pb::Association {
    let original = matches!(end, End::Entry(_)).then_some(pb::SubmissionSetStatus::Original);
    pb::Association {
        association_type: Type::HasMember.into(),
        source_object: set.to_string(),
        target_object: target.to_string(),
        submission_set_status: original.unwrap_or_default().into(),
        availability_status: pb::AvailabilityStatus::Approved.into(),
        home_community_id: home.to_owned(),
        ..pb::Association::default()
    }
}
