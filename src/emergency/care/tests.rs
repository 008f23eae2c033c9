//! What is submitted is what is read back, and who may stand for it.

use std::sync::Arc;

use crate::access::{Caller, Participant, ParticipantKind, Person};
use crate::emergency::extract::{Outcome, Source, extract};
use crate::types::{CertificatePin, PersonRole, PurposeOfUse, Relation};
use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{CareDevice, CareInstruction, EmergencyContact, SummarySection};
use crate::wire::pb::identity as ipb;

use super::*;

fn now() -> Timestamp {
    "2026-04-01T03:00:00Z".parse().unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "the field is optional")]
fn coded(display: &str) -> Option<cpb::CodedValue> {
    Some(cpb::CodedValue {
        display_name: display.to_owned(),
        ..cpb::CodedValue::default()
    })
}

fn quantity(name: &str, value: &str, ucum: &str) -> pb::ItemDetail {
    pb::ItemDetail {
        name: coded(name),
        value: Some(pb::ItemValue {
            value: Some(Value::Quantity(pb::Quantity {
                value: value.to_owned(),
                ucum: ucum.to_owned(),
                unit: ucum.to_owned(),
                ..pb::Quantity::default()
            })),
            ..pb::ItemValue::default()
        }),
    }
}

fn words(name: &str, said: &str) -> pb::ItemDetail {
    pb::ItemDetail {
        name: coded(name),
        value: Some(pb::ItemValue {
            value: Some(Value::Text(said.to_owned())),
            ..pb::ItemValue::default()
        }),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the field is optional")]
fn person(subject: &str, role: &str, name: &str) -> Option<cpb::PersonRef> {
    Some(cpb::PersonRef {
        subject: subject.to_owned(),
        role: role.to_owned(),
        display_name: name.to_owned(),
        ..cpb::PersonRef::default()
    })
}

fn record() -> pb::CareRecord {
    let contact = |name: &str, rank, phone: &str| EmergencyContact {
        name: name.to_owned(),
        relationship: coded("母"),
        telecoms: vec![ipb::Telecom {
            value: phone.to_owned(),
            ..ipb::Telecom::default()
        }],
        rank,
    };
    pb::CareRecord {
        contacts: vec![
            contact("山田 二郎", 2, "090-0000-0002"),
            contact("山田 花子", 1, "090-0000-0001"),
        ],
        devices: vec![CareDevice {
            device: coded("人工呼吸器"),
            model: "V-100".to_owned(),
            settings: vec![quantity("PEEP", "5.50", "cm[H2O]"), words("モード", "SIMV")],
            since: "2024-05".to_owned(),
            supplier_telephone: "03-0000-0003".to_owned(),
        }],
        items: vec![pb::SummaryItem {
            section: SummarySection::Care.into(),
            display: "気管吸引".to_owned(),
            details: vec![words("頻度", "1時間ごと")],
            ..pb::SummaryItem::default()
        }],
        instructions: vec![CareInstruction {
            situation: "カニューレ抜去時".to_owned(),
            action: "予備を挿入し酸素を流す".to_owned(),
            instructed_by: person("D-1", "", "佐藤 医師"),
        }],
        care_team: vec![cpb::InstitutionRef {
            name: "見本訪問看護ステーション".to_owned(),
            ..cpb::InstitutionRef::default()
        }],
        author: person("F-1", "", "山田 花子"),
        ..pb::CareRecord::default()
    }
}

fn approved() -> pb::CareRecord {
    pb::CareRecord {
        approval: Some(pb::Approval {
            approved_by: person("D-1", "Medical Doctor", "佐藤 医師"),
            approved: Some(crate::wire::timestamp(now())),
            ..pb::Approval::default()
        }),
        ..record()
    }
}

fn draft<'a>(record: &'a pb::CareRecord, patient: &'a PatientIdentifier) -> Draft<'a> {
    Draft {
        record,
        patient,
        institution: "1311234567",
        version: 3,
        now: now(),
    }
}

fn patient() -> PatientIdentifier {
    PatientIdentifier::new("1.2.3", "0012").unwrap()
}

/// What extraction takes out of a record.
fn read(record: &pb::CareRecord) -> Vec<pb::SummaryItem> {
    let patient = patient();
    let content = bundle::write(&draft(record, &patient));
    let entry = dpb::DocumentEntry::default();
    let extracted = extract(&Source {
        mime_type: "application/fhir+json",
        format_code: "",
        entry: &entry,
        content: content.as_bytes(),
        as_of: now(),
    });
    assert_eq!(extracted.outcome, Outcome::Readable, "{content}");
    assert_eq!(extracted.not_taken, 0, "{content}");
    extracted.items
}

fn of(items: &[pb::SummaryItem], section: SummarySection) -> Vec<&pb::SummaryItem> {
    let all = items.iter();
    all.filter(|item| item.section() == section).collect()
}

fn detail(item: &pb::SummaryItem, name: &str) -> String {
    let details = item.details.iter();
    let mut named = details.filter(|detail| {
        let of = detail.name.as_ref().unwrap();
        of.code == name || of.display_name == name
    });
    let found = named.next().and_then(|detail| detail.value.clone());
    match found.and_then(|value| value.value) {
        Some(Value::Quantity(of)) => format!("{} {}", of.value, of.ucum),
        Some(Value::Text(text)) => text,
        Some(Value::Coded(code)) => code.display_name,
        None => String::new(),
    }
}

#[test]
fn what_is_submitted_is_read_back() {
    let items = read(&record());
    let contacts = of(&items, SummarySection::Contact);
    let names: Vec<_> = contacts.iter().map(|one| one.display.as_str()).collect();
    assert_eq!(names, ["山田 花子", "山田 二郎"], "in the order of calling");
    assert_eq!(detail(contacts[0], "telephone"), "090-0000-0001");
    assert_eq!(detail(contacts[0], "relationship"), "母");
    let devices = of(&items, SummarySection::Device);
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].display, "人工呼吸器");
    assert_eq!(devices[0].start, "2024-05");
    assert_eq!(detail(devices[0], "PEEP"), "5.50 cm[H2O]", "as written");
    assert_eq!(detail(devices[0], "モード"), "SIMV");
    assert_eq!(detail(devices[0], "model"), "V-100");
    assert_eq!(detail(devices[0], "telephone"), "03-0000-0003");
    let care = of(&items, SummarySection::Care);
    let said: Vec<_> = care.iter().map(|one| one.display.as_str()).collect();
    assert_eq!(said, ["気管吸引", "カニューレ抜去時"]);
    assert_eq!(detail(care[0], "activity"), "頻度 1時間ごと");
    let Some(Value::Text(action)) = care[1].value.clone().and_then(|value| value.value) else {
        panic!("the instruction says what to do");
    };
    assert_eq!(action, "予備を挿入し酸素を流す");
    assert!(detail(care[1], "note").contains("佐藤 医師"));
    let team = of(&items, SummarySection::CareTeam);
    assert_eq!(team[0].display, "見本訪問看護ステーション");
}

#[test]
fn what_nobody_approved_is_the_family_s_word() {
    let unapproved = read(&record());
    assert!(!unapproved.is_empty());
    for item in &unapproved {
        let stated = pb::VerificationStatus::PatientStated;
        assert_eq!(item.verification_status(), stated, "{}", item.display);
        assert_eq!(detail(item, "approval"), "");
    }
    for item in read(&approved()) {
        assert!(detail(&item, "approval").contains("佐藤 医師"));
        let stated = pb::VerificationStatus::PatientStated;
        assert_ne!(item.verification_status(), stated);
    }
}

fn caller(person: Option<(&str, PersonRole)>) -> Caller {
    Caller {
        participant: Arc::new(Participant {
            code: Some("1310000001".parse().unwrap()),
            kind: ParticipantKind::Hospital,
            community: "urn:oid:1.2.3".parse().unwrap(),
            emergency: true,
            roles: vec![],
            purposes: vec![],
        }),
        person: person.map(|(subject, role)| Person {
            subject: subject.to_owned(),
            role,
            relation: Relation::Treating,
        }),
        purpose: PurposeOfUse::Treatment,
        pin: CertificatePin::from_bytes([0; 32]),
        holder: "CN=test".into(),
        relay: None,
        assertion: None,
        until: None,
    }
}

/// The field that is wrong, if one is.
fn wrong(record: &pb::CareRecord, person: Option<(&str, PersonRole)>) -> Option<String> {
    let patient = patient();
    let checked = check::check(&draft(record, &patient), &caller(person));
    let error = checked.err()?;
    Some(error.wrong_field().unwrap_or_default().to_owned())
}

#[test]
fn who_approves_is_who_submits_or_the_institution_s_own() {
    let good = approved();
    assert_eq!(wrong(&good, None), None);
    assert_eq!(wrong(&good, Some(("D-1", PersonRole::Physician))), None);
    let refused = Some("record.approval".to_owned());
    for other in [
        ("D-2", PersonRole::Physician),
        ("D-1", PersonRole::Nurse),
        ("F-1", PersonRole::Clerk),
    ] {
        assert_eq!(wrong(&good, Some(other)), refused, "{other:?}");
    }
    let nobody = wrong(&record(), Some(("F-1", PersonRole::Nurse)));
    assert_eq!(
        nobody, None,
        "what is not approved may come from whoever may submit"
    );
}

#[test]
fn what_could_not_be_read_back_is_refused() {
    type Spoil = fn(&mut pb::CareRecord);
    let cases: [(&str, Spoil); 12] = [
        ("record.author", |one| one.author = None),
        ("record.contacts[0].name", |one| {
            one.contacts[0].name.clear();
        }),
        ("record.contacts[1].telecoms", |one| {
            one.contacts[1].telecoms.clear();
        }),
        ("record.devices[0].device", |one| {
            one.devices[0].device = None;
        }),
        ("record.devices[0].settings[0].value", |one| {
            one.devices[0].settings[0] = quantity("PEEP", "5,5", "cm[H2O]");
        }),
        ("record.items[0].section", |one| {
            one.items[0].section = SummarySection::Allergy.into();
        }),
        ("record.instructions[0].action", |one| {
            one.instructions[0].action = " ".to_owned();
        }),
        ("record.care_team[0].name", |one| {
            one.care_team[0].name = "長".repeat(1_001);
        }),
        ("record.contacts", |one| {
            one.contacts = vec![one.contacts[0].clone(); 33];
        }),
        ("record.valid_to", |one| {
            one.valid_to = Some(crate::wire::timestamp(now()));
        }),
        ("record.approval.version", |one| {
            one.approval.as_mut().unwrap().version = 2;
        }),
        ("record.approval.approved", |one| {
            one.approval.as_mut().unwrap().approved = None;
        }),
    ];
    assert_eq!(wrong(&approved(), None), None);
    for (field, spoil) in cases {
        let mut bad = approved();
        spoil(&mut bad);
        assert_eq!(wrong(&bad, None).as_deref(), Some(field));
    }
    let empty = pb::CareRecord {
        author: record().author,
        ..pb::CareRecord::default()
    };
    assert_eq!(wrong(&empty, None).as_deref(), Some("record"));
}
