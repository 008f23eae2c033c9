//! Registries and queries at random, from few values, so that queries hit.

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};

use super::super::super::tables::{
    AssociationRow, EntryRow, FolderRow, Kind, SubmissionRow, UniqueRow,
};
use crate::store::{Keys, Write};
use crate::types::EntryUuid;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;
use pb::AssociationType as Type;
use pb::AvailabilityStatus as Status;

/// Words in several spellings each: none is part of another.
pub(super) const WORDS: [[&str; 3]; 4] = [
    ["サマリー", "ｻﾏﾘｰ", "さまりー"],
    ["紹介状", "紹介状", "紹介状"],
    ["CT", "ＣＴ", "ct"],
    ["ギブス", "ｷﾞﾌﾞｽ", "ぎぶす"],
];
const FAMILIES: [&str; 3] = ["山田", "山本", "佐藤"];
/// What only some may see.
pub(super) const CONFIDENTIALITIES: [&str; 6] = ["N", "N", "N", "N", "R", "V"];

/// Everything in a registry.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) patients: usize,
    pub(super) entries: Vec<EntryRow>,
    pub(super) sets: Vec<SubmissionRow>,
    pub(super) folders: Vec<FolderRow>,
    pub(super) associations: Vec<AssociationRow>,
}

pub(super) fn patient(number: usize) -> cpb::Identifier {
    cpb::Identifier {
        assigning_authority: "1.2.3.4".into(),
        value: format!("P{number}"),
        ..Default::default()
    }
}

/// The patients who are the same person as this one.
pub(super) fn person(number: usize, patients: usize) -> Vec<usize> {
    let other = number ^ 1;
    if number < patients / 4 * 2 && number % 8 < 2 {
        vec![number, other]
    } else {
        vec![number]
    }
}

pub(super) fn uuid(rng: &mut StdRng) -> EntryUuid {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    uuid::Uuid::from_bytes(bytes).to_string().parse().unwrap()
}

pub(super) fn code(rng: &mut StdRng, name: &str, many: u32) -> cpb::CodedValue {
    cpb::CodedValue {
        code: format!("{name}{}", rng.random_range(0..many)),
        system: format!("s{}", rng.random_range(0..2)),
        ..Default::default()
    }
}

fn some_codes(rng: &mut StdRng, name: &str, most: usize) -> Vec<cpb::CodedValue> {
    let count = rng.random_range(0..=most);
    (0..count).map(|_| code(rng, name, 4)).collect()
}

/// A time of any precision; sometimes none.
pub(super) fn time(rng: &mut StdRng) -> String {
    let text = format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        rng.random_range(2020..2026),
        rng.random_range(1..=12),
        rng.random_range(1..=28),
        rng.random_range(0..24),
        rng.random_range(0..60),
        rng.random_range(0..60),
    );
    let length = [0, 4, 6, 8, 10, 12, 14][rng.random_range(0..7)];
    text[..length].to_owned()
}

fn text(rng: &mut StdRng) -> Option<cpb::InternationalString> {
    let mut words = Vec::new();
    for word in WORDS {
        if rng.random_bool(0.3) {
            words.push(word[rng.random_range(0..3)]);
        }
    }
    let space = ["　", " "][rng.random_range(0..2)];
    (!words.is_empty()).then(|| cpb::InternationalString {
        values: vec![cpb::LocalizedString {
            value: words.join(space),
            ..Default::default()
        }],
    })
}

fn author(rng: &mut StdRng) -> pb::Author {
    pb::Author {
        person: Some(pb::MetadataPerson {
            id: format!("D{}", rng.random_range(0..3)),
            family: FAMILIES[rng.random_range(0..3)].into(),
            given: "太郎".into(),
            ..Default::default()
        }),
        institutions: vec![pb::MetadataOrganization {
            name: "病院".into(),
            id: format!("131000000{}", rng.random_range(0..3)),
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(super) fn pattern(rng: &mut StdRng) -> String {
    let family = FAMILIES[rng.random_range(0..3)];
    match rng.random_range(0..5) {
        0 => format!("%{family}%"),
        1 => format!("D_^{family}^太郎"),
        2 => format!("D{}^%", rng.random_range(0..3)),
        3 => "%山__太%".into(),
        _ => family.into(),
    }
}

pub(super) fn reference(rng: &mut StdRng) -> pb::ReferenceId {
    pb::ReferenceId {
        id: format!("A{}", rng.random_range(0..3)),
        type_code: ["accession", "order"][rng.random_range(0..2)].into(),
        ..Default::default()
    }
}

fn entry(rng: &mut StdRng, number: usize, uuid: EntryUuid) -> pb::DocumentEntry {
    let on_demand = rng.random_bool(0.1);
    let status = match rng.random_bool(0.8) {
        true => Status::Approved,
        false => Status::Deprecated,
    };
    let mut undelivered = vec![];
    if rng.random_bool(0.05) {
        undelivered.push(cpb::NationalFlag::Undelivered.into());
    }
    pb::DocumentEntry {
        entry_uuid: uuid.to_string(),
        logical_id: uuid.to_string(),
        version: 1,
        unique_id: format!("1.2.9.{}", rng.random_range(0_u64..1 << 40)),
        patient_id: Some(patient(number)),
        availability_status: status.into(),
        object_type: match on_demand {
            true => pb::ObjectType::OnDemand,
            false => pb::ObjectType::Stable,
        }
        .into(),
        authors: (0..rng.random_range(0..3)).map(|_| author(rng)).collect(),
        class_code: Some(code(rng, "c", 4)),
        type_code: Some(code(rng, "t", 4)),
        format_code: Some(code(rng, "f", 3)),
        healthcare_facility_type_code: Some(code(rng, "h", 3)),
        practice_setting_code: Some(code(rng, "p", 3)),
        confidentiality_codes: vec![cpb::CodedValue {
            code: CONFIDENTIALITIES[rng.random_range(0..CONFIDENTIALITIES.len())].into(),
            system: "2.16.840.1.113883.5.25".into(),
            ..Default::default()
        }],
        event_codes: some_codes(rng, "e", 3),
        title: text(rng),
        comments: text(rng),
        creation_time: if on_demand { String::new() } else { time(rng) },
        service_start_time: time(rng),
        service_stop_time: time(rng),
        mime_type: ["application/pdf", "text/xml"][rng.random_range(0..2)].into(),
        document_availability: rng.random_range(0..=2),
        reference_ids: (0..rng.random_range(0..3))
            .map(|_| reference(rng))
            .collect(),
        national_flags: undelivered,
        ..Default::default()
    }
}

impl Registry {
    /// A registry of about `count` entries.
    pub(super) fn random(rng: &mut StdRng, keys: &Keys, count: usize) -> Self {
        let patients = (count / 40).max(8);
        let mut registry = Self {
            patients,
            ..Self::default()
        };
        while registry.entries.len() < count {
            let number = rng.random_range(0..patients);
            registry.submit(rng, keys, number);
        }
        registry
    }

    fn submit(&mut self, rng: &mut StdRng, keys: &Keys, number: usize) {
        let id = format!("P{number}");
        let id = crate::types::PatientIdentifier::new("1.2.3.4", &id).unwrap();
        let tag = keys.patient_tag(&id).to_vec();
        let registered_ms = i64::try_from(self.sets.len()).unwrap() * 1_000;
        let set = uuid(rng);
        let mut brought = Vec::new();
        let mut members: Vec<EntryUuid> = Vec::new();
        for _ in 0..rng.random_range(1..=3) {
            let mut row = EntryRow {
                patient: tag.clone(),
                registered_ms,
                ..Default::default()
            };
            let new = uuid(rng);
            let mut entry = entry(rng, number, new);
            let older: Vec<usize> = (0..self.entries.len())
                .rev()
                .filter(|index| self.entries[*index].patient == tag)
                .take(5)
                .collect();
            if let Some(index) = older.first().filter(|_| rng.random_bool(0.4)) {
                self.relate(rng, &mut entry, *index, (set, &tag, registered_ms));
            }
            row.uuid = new.as_bytes().to_vec();
            row.entry = Some(entry);
            brought.push(row.uuid.clone());
            self.entries.push(row);
            members.push(new);
        }
        let at = (set, tag.as_slice(), registered_ms);
        for member in &members {
            self.associate(rng, Type::HasMember, set, *member, at);
        }
        if rng.random_bool(0.4) {
            self.folder(rng, number, &members, at);
        }
        // Something of the registry, by reference: perhaps another patient's.
        if rng.random_bool(0.1) && !self.entries.is_empty() {
            let index = rng.random_range(0..self.entries.len());
            let other = self.entries[index].entry.as_ref().unwrap();
            let other = other.entry_uuid.parse().unwrap();
            self.associate(rng, Type::HasMember, set, other, at);
        }
        self.sets.push(SubmissionRow {
            uuid: set.as_bytes().to_vec(),
            patient: tag,
            entries: brought,
            registered_ms,
            set: Some(pb::SubmissionSet {
                entry_uuid: set.to_string(),
                unique_id: format!("1.2.8.{}", self.sets.len()),
                source_id: format!("1.2.3.{}", rng.random_range(0..3)),
                patient_id: Some(patient(number)),
                submission_time: time(rng),
                content_type_code: Some(code(rng, "k", 3)),
                authors: vec![author(rng)],
                availability_status: Status::Approved.into(),
                ..Default::default()
            }),
            ..Default::default()
        });
    }

    /// Makes `entry` a relation of an entry of the registry, or its next version.
    fn relate(
        &mut self,
        rng: &mut StdRng,
        entry: &mut pb::DocumentEntry,
        index: usize,
        at: (EntryUuid, &[u8], i64),
    ) {
        let source = entry.entry_uuid.parse().unwrap();
        let row = &mut self.entries[index];
        let old = row.entry.as_mut().unwrap();
        let target = old.entry_uuid.parse().unwrap();
        let kind = match rng.random_range(0..5) {
            0 if !row.superseded => {
                entry.logical_id.clone_from(&old.logical_id);
                entry.version = old.version + 1;
                entry.unique_id.clone_from(&old.unique_id);
                old.availability_status = Status::Deprecated.into();
                row.superseded = true;
                return;
            }
            0 | 1 => {
                old.availability_status = Status::Deprecated.into();
                Type::Rplc
            }
            2 => Type::Apnd,
            3 => Type::Xfrm,
            _ => Type::Signs,
        };
        self.associate(rng, kind, source, target, at);
    }

    fn folder(
        &mut self,
        rng: &mut StdRng,
        number: usize,
        members: &[EntryUuid],
        at: (EntryUuid, &[u8], i64),
    ) {
        let folder = uuid(rng);
        let (set, tag, registered_ms) = at;
        self.associate(rng, Type::HasMember, set, folder, at);
        for member in members {
            if rng.random_bool(0.8) {
                let inside = self.associate(rng, Type::HasMember, folder, *member, at);
                self.associate(rng, Type::HasMember, set, inside, at);
            }
        }
        self.folders.push(FolderRow {
            uuid: folder.as_bytes().to_vec(),
            patient: tag.to_vec(),
            registered_ms,
            folder: Some(pb::Folder {
                entry_uuid: folder.to_string(),
                logical_id: folder.to_string(),
                version: 1,
                unique_id: format!("1.2.7.{}", self.folders.len()),
                patient_id: Some(patient(number)),
                codes: some_codes(rng, "d", 3),
                last_update_time: time(rng),
                availability_status: rng.random_range(1..=2),
                ..Default::default()
            }),
            superseded: rng.random_bool(0.2),
            ..Default::default()
        });
    }

    fn associate(
        &mut self,
        rng: &mut StdRng,
        kind: Type,
        source: EntryUuid,
        target: EntryUuid,
        (_, tag, registered_ms): (EntryUuid, &[u8], i64),
    ) -> EntryUuid {
        let uuid = uuid(rng);
        let status = match rng.random_bool(0.9) {
            true => Status::Approved,
            false => Status::Deprecated,
        };
        self.associations.push(AssociationRow {
            uuid: uuid.as_bytes().to_vec(),
            patient: tag.to_vec(),
            source: source.as_bytes().to_vec(),
            target: target.as_bytes().to_vec(),
            registered_ms,
            association: Some(pb::Association {
                entry_uuid: uuid.to_string(),
                association_type: kind.into(),
                source_object: source.to_string(),
                target_object: target.to_string(),
                availability_status: status.into(),
                ..Default::default()
            }),
            ..Default::default()
        });
        uuid
    }

    /// The writes that put it into a store.
    pub(super) fn writes(&self, keys: &Keys) -> Vec<Write> {
        let unique = |kind: Kind, id: &str, holders: &[&[u8]]| UniqueRow {
            tag: keys.tag("unique-id", id.as_bytes()).as_bytes().to_vec(),
            entry: holders[0].to_vec(),
            kind: kind.number(),
            more: holders[1..].iter().map(|uuid| uuid.to_vec()).collect(),
            patient: Vec::new(),
        };
        let mut writes = Vec::new();
        let mut holders: std::collections::BTreeMap<&str, Vec<&[u8]>> =
            std::collections::BTreeMap::new();
        for row in &self.entries {
            let id = &row.entry.as_ref().unwrap().unique_id;
            holders.entry(id).or_default().push(&row.uuid);
            writes.push(Write::put(row));
        }
        for (id, holders) in &holders {
            writes.push(Write::put(&unique(Kind::Entry, id, holders)));
        }
        for row in &self.sets {
            let id = &row.set.as_ref().unwrap().unique_id;
            writes.push(Write::put(&unique(Kind::Set, id, &[&row.uuid])));
            writes.push(Write::put(row));
        }
        for row in &self.folders {
            let id = &row.folder.as_ref().unwrap().unique_id;
            writes.push(Write::put(&unique(Kind::Folder, id, &[&row.uuid])));
            writes.push(Write::put(row));
        }
        writes.extend(self.associations.iter().map(Write::put));
        writes
    }
}
