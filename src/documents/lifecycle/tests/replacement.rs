use super::*;

fn relation(kind: Type, target: &str) -> Vec<pb::Association> {
    vec![association(kind, "doc", target)]
}

/// Trap 29: what belongs to a replaced document goes with it, and its folders get the new one.
#[test]
fn a_replacement_takes_everything_over() {
    let mut registry = Registry::new();
    let old = registry.document(vec![]).unwrap();
    let appendix = registry.document(relation(Type::Apnd, &old)).unwrap();
    let transformed = registry.document(relation(Type::Xfrm, &appendix)).unwrap();
    let signed = registry.document(relation(Type::Signs, &old)).unwrap();
    let folder = registry.folder(&[&old]);
    let new = registry.document(relation(Type::Rplc, &old)).unwrap();
    assert!(!registry.is_approved(&old));
    assert!(!registry.is_approved(&appendix));
    assert!(!registry.is_approved(&transformed));
    assert!(registry.is_approved(&signed) && registry.is_approved(&new));
    assert_eq!(registry.folders_of(&new), std::slice::from_ref(&folder));
    let uuid: EntryUuid = folder.parse().unwrap();
    let row = registry.store.get::<FolderRow>(uuid.as_bytes()).unwrap();
    let touched = row.unwrap().row.folder.unwrap().last_update_time;
    assert_eq!(touched, "20240301000000");
    // The membership that was inherited is itself a member of the replacing set.
    let (set, _) = registry.membership(&new);
    let inherited = registry
        .to(&new)
        .into_iter()
        .find(|row| row.source == uuid.as_bytes());
    let inherited = uuid_of(&inherited.unwrap().uuid).unwrap().to_string();
    assert_eq!(registry.membership(&inherited).0, set);
    // Only the end of a chain is in force.
    let newest = registry.document(relation(Type::XfrmRplc, &new)).unwrap();
    assert!(!registry.is_approved(&new) && registry.is_approved(&newest));
    assert_eq!(registry.folders_of(&newest), [folder]);
}

#[test]
fn relations_to_what_is_not_there_or_not_in_force_are_refused() {
    let mut registry = Registry::new();
    let old = registry.document(vec![]).unwrap();
    let form = registry.document(relation(Type::Xfrm, &old)).unwrap();
    let place = "associations[0].target_object".to_owned();
    let refused = |got: std::result::Result<String, Vec<(Reason, String)>>, reason| {
        assert_eq!(got.unwrap_err()[0], (reason, place.clone()));
    };
    let nothing = EntryUuid::random().to_string();
    let got = registry.document(relation(Type::Rplc, &nothing));
    refused(got, Reason::UnresolvedReference);
    let got = registry.document(relation(Type::Apnd, &form));
    refused(got, Reason::InvalidField);
    registry.document(relation(Type::Rplc, &old)).unwrap();
    for kind in [
        Type::Rplc,
        Type::Apnd,
        Type::Xfrm,
        Type::XfrmRplc,
        Type::Signs,
    ] {
        let got = registry.document(relation(kind, &old));
        refused(got, Reason::DeprecatedObject);
    }
    let stable = registry.document(vec![]).unwrap();
    let got = registry.document(relation(Type::IsSnapshotOf, &stable));
    refused(got, Reason::InvalidField);
    registry.submitter = "1318888888";
    let got = registry.document(relation(Type::Rplc, &stable));
    refused(got, Reason::NotPermitted);
}

#[test]
fn a_patient_of_relations_is_one() {
    let mut registry = Registry::new();
    let mine = registry.document(vec![]).unwrap();
    let mut other = registry.submission();
    other.submission_set.as_mut().unwrap().patient_id = patient("2");
    let mut entry = registry.entry("doc");
    entry.patient_id = patient("2");
    other.entries.push(entry);
    let reference = pb::Association {
        submission_set_status: pb::SubmissionSetStatus::Reference.into(),
        ..association(Type::HasMember, "set", &mine)
    };
    // Mother and child: a reference may be of another patient.
    other.associations = vec![reference];
    registry
        .submit(other.clone(), Transaction::Provide)
        .unwrap();
    other.submission_set.as_mut().unwrap().unique_id = registry.oid();
    other.entries[0].unique_id = registry.oid();
    other.associations = relation(Type::Apnd, &mine);
    let place = "associations[0].target_object".to_owned();
    assert_eq!(
        registry.submit(other, Transaction::Provide).unwrap_err(),
        [(Reason::PatientMismatch, place)]
    );
}

/// Trap: the same document may be registered again, other bytes under its name may not.
#[test]
fn a_unique_id_is_of_one_content() {
    let mut registry = Registry::new();
    let mut first = registry.submission();
    first.entries.push(registry.entry("doc"));
    registry
        .submit(first.clone(), Transaction::Provide)
        .unwrap();
    let place = |field: &str| field.to_owned();
    assert_eq!(
        registry
            .submit(first.clone(), Transaction::Provide)
            .unwrap_err(),
        [(Reason::DuplicateUniqueId, place("submission_set.unique_id"))]
    );
    let mut again = first.clone();
    again.submission_set.as_mut().unwrap().unique_id = registry.oid();
    again.entries[0].hash = "A".repeat(40);
    registry
        .submit(again.clone(), Transaction::Provide)
        .unwrap();
    let id = again.entries[0].unique_id.clone();
    let holders = document_holders(&registry.store, &registry.tag(&id)).unwrap();
    assert_eq!(holders.len(), 2);
    again.submission_set.as_mut().unwrap().unique_id = registry.oid();
    again.entries[0].hash = "b".repeat(40);
    assert_eq!(
        registry
            .submit(again.clone(), Transaction::Provide)
            .unwrap_err(),
        [(Reason::NonIdenticalHash, place("entries[0].unique_id"))]
    );
    again.entries[0].hash = "a".repeat(40);
    again.entries[0].size = Some(11);
    assert_eq!(
        registry
            .submit(again.clone(), Transaction::Provide)
            .unwrap_err(),
        [(Reason::NonIdenticalSize, place("entries[0].unique_id"))]
    );
    again.entries[0].unique_id = registry.oid();
    again.entries[0].entry_uuid = registry.document(vec![]).unwrap();
    assert_eq!(
        registry.submit(again, Transaction::Provide).unwrap_err(),
        [(Reason::InvalidField, place("entries[0].entry_uuid"))]
    );
}
