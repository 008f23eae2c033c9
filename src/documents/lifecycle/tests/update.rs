use super::*;

/// An update of an entry to its next version.
pub(super) fn update_of(registry: &mut Registry, uuid: &str, previous: u32) -> pb::Submission {
    let was = registry.row(uuid).unwrap().entry.unwrap();
    let mut submission = registry.submission();
    submission.entries.push(pb::DocumentEntry {
        entry_uuid: "new".into(),
        title: Some(cpb::InternationalString {
            values: vec![cpb::LocalizedString {
                value: format!("版 {}", previous + 1),
                language: "ja".into(),
            }],
        }),
        ..was
    });
    submission.associations.push(pb::Association {
        submission_set_status: pb::SubmissionSetStatus::Original.into(),
        previous_version: previous,
        ..association(Type::HasMember, "set", "new")
    });
    submission
}

fn status_of(target: &str, original: i32, new: i32) -> pb::Association {
    pb::Association {
        original_status: original,
        new_status: new,
        ..association(Type::UpdateAvailabilityStatus, "set", target)
    }
}

#[test]
fn an_update_is_a_new_version_and_history_stays() {
    let mut registry = Registry::new();
    let first = registry.document(vec![]).unwrap();
    let appendix = vec![association(Type::Apnd, "doc", &first)];
    let appendix = registry.document(appendix).unwrap();
    let folder = registry.folder(&[&first]);
    let update = update_of(&mut registry, &first, 1);
    let second = registry.submit(update, Transaction::Update).unwrap();
    let second = named(&second, "new");
    let (old, new) = (
        registry.row(&first).unwrap(),
        registry.row(&second).unwrap(),
    );
    assert!(old.superseded && !is_approved_entry(&old));
    assert!(!new.superseded && is_approved_entry(&new));
    let (old, new) = (old.entry.unwrap(), new.entry.unwrap());
    assert_eq!((old.version, new.version), (1, 2));
    assert_eq!(old.logical_id, new.logical_id);
    assert_eq!(new.hash, "a".repeat(40));
    // Associations were carried over; the old copies are history.
    assert_eq!(registry.folders_of(&second), [folder]);
    assert!(registry.folders_of(&first).is_empty());
    let from: EntryUuid = appendix.parse().unwrap();
    let approved: Vec<_> = registry
        .touching(&appendix)
        .into_iter()
        .filter(|row| kind_of(row) == Type::Apnd && is_approved_association(row))
        .collect();
    let target: EntryUuid = second.parse().unwrap();
    assert_eq!(approved.len(), 1);
    assert_eq!(
        (approved[0].source.as_slice(), approved[0].target.as_slice()),
        (from.as_bytes().as_slice(), target.as_bytes().as_slice())
    );
    // The next one.
    let update = update_of(&mut registry, &second, 2);
    registry
        .submit(update, Transaction::RestrictedUpdate)
        .unwrap();
    let logical: EntryUuid = first.parse().unwrap();
    let versions = State::new(&registry.store)
        .entry_versions(&logical)
        .unwrap();
    let numbers: Vec<u32> = versions
        .iter()
        .filter_map(|row| row.entry.as_ref())
        .map(|entry| entry.version)
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn without_propagation_the_new_version_stands_alone() {
    let mut registry = Registry::new();
    let first = registry.document(vec![]).unwrap();
    let folder = registry.folder(&[&first]);
    let mut update = update_of(&mut registry, &first, 1);
    update.associations[0].association_propagation = Some(false);
    let second = registry.submit(update, Transaction::Update).unwrap();
    assert!(registry.folders_of(&named(&second, "new")).is_empty());
    assert_eq!(registry.folders_of(&first), [folder]);
}

type Change = fn(&mut pb::Submission);

/// Fact sheet §3.6.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn updates_that_do_not_fit_are_refused() {
    let mut registry = Registry::new();
    let first = registry.document(vec![]).unwrap();
    let cases: &[(Change, bool, Reason, &str)] = &[
        (
            |s| s.entries[0].logical_id.clear(),
            false,
            Reason::InvalidUpdate,
            "entries[0].logical_id",
        ),
        (
            |s| s.entries[0].logical_id = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c9".into(),
            false,
            Reason::VersionConflict,
            "associations[0].previous_version",
        ),
        (
            |s| s.associations[0].previous_version = 0,
            false,
            Reason::VersionConflict,
            "associations[0].previous_version",
        ),
        (
            |s| s.associations[0].previous_version = 2,
            true,
            Reason::VersionConflict,
            "associations[0].previous_version",
        ),
        (
            |s| s.entries[0].unique_id = "1.9".into(),
            false,
            Reason::UpdateRefused,
            "entries[0].unique_id",
        ),
        (
            |s| s.entries[0].unique_id = "1.9".into(),
            true,
            Reason::IdentifierChanged,
            "entries[0].unique_id",
        ),
        (
            |s| {
                let entry = &mut s.entries[0];
                entry.object_type = pb::ObjectType::OnDemand.into();
                entry.creation_time.clear();
                entry.hash.clear();
                entry.size = None;
            },
            true,
            Reason::Unmodifiable,
            "entries[0].object_type",
        ),
        (
            |s| s.entries[0].repository_unique_id = "1.9".into(),
            true,
            Reason::Unmodifiable,
            "entries[0].repository_unique_id",
        ),
        (
            |s| s.entries[0].document_availability = pb::DocumentAvailability::Offline.into(),
            true,
            Reason::Unmodifiable,
            "entries[0].document_availability",
        ),
        (
            |s| s.entries[0].source_patient_id = patient("7"),
            true,
            Reason::Unmodifiable,
            "entries[0].source_patient_id",
        ),
        (
            |s| s.entries[0].class_code = None,
            false,
            Reason::MissingField,
            "entries[0].class_code",
        ),
        (
            |s| s.associations.clear(),
            false,
            Reason::UpdateAnnotation,
            "entries[0]",
        ),
        (
            |s| s.associations[0].association_propagation = Some(false),
            true,
            Reason::UpdateAnnotation,
            "associations[0]",
        ),
        (
            |s| s.entries[0].patient_id = patient("2"),
            false,
            Reason::PatientReconciliation,
            "entries[0].patient_id",
        ),
        (
            |s| {
                s.submission_set.as_mut().unwrap().patient_id = patient("2");
                s.entries[0].patient_id = patient("2");
            },
            false,
            Reason::PatientReconciliation,
            "entries[0].patient_id",
        ),
    ];
    for (change, restricted, reason, place) in cases {
        let mut update = update_of(&mut registry, &first, 1);
        change(&mut update);
        let transaction = if *restricted {
            Transaction::RestrictedUpdate
        } else {
            Transaction::Update
        };
        let got = registry.submit(update, transaction).unwrap_err();
        assert_eq!(got[0], (*reason, (*place).to_owned()), "{got:?}");
    }
    registry.submitter = "1318888888";
    let update = update_of(&mut registry, &first, 1);
    let got = registry.submit(update, Transaction::Update).unwrap_err();
    assert_eq!(got[0], (Reason::NotPermitted, "entries[0]".to_owned()));
}

#[test]
fn a_status_is_changed_from_what_it_is_to_the_other() {
    let mut registry = Registry::new();
    let first = registry.document(vec![]).unwrap();
    let change = |registry: &mut Registry, association: pb::Association| {
        let mut submission = registry.submission();
        submission.associations.push(association);
        registry.submit(submission, Transaction::Update)
    };
    change(&mut registry, status_of(&first, APPROVED, DEPRECATED)).unwrap();
    assert!(!registry.is_approved(&first));
    for (association, reason) in [
        (
            status_of(&first, APPROVED, DEPRECATED),
            Reason::UpdateRefused,
        ),
        (
            status_of(&first, DEPRECATED, DEPRECATED),
            Reason::UpdateOperation,
        ),
        (status_of(&first, 0, DEPRECATED), Reason::UpdateOperation),
        (
            status_of(&EntryUuid::random().to_string(), DEPRECATED, APPROVED),
            Reason::UnresolvedReference,
        ),
    ] {
        let got = change(&mut registry, association).unwrap_err();
        assert_eq!(got[0].0, reason, "{got:?}");
    }
    change(&mut registry, status_of(&first, DEPRECATED, APPROVED)).unwrap();
    // With an update in the same request, the new version is meant.
    let mut both = update_of(&mut registry, &first, 1);
    both.associations
        .push(status_of(&first, APPROVED, DEPRECATED));
    let second = registry.submit(both, Transaction::Update).unwrap();
    assert!(!registry.is_approved(&named(&second, "new")));
}

#[test]
fn an_association_is_submitted_between_what_is_registered() {
    let mut registry = Registry::new();
    let a = registry.document(vec![]).unwrap();
    let b = registry.document(vec![]).unwrap();
    let folder = registry.folder(&[]);
    let submit = |registry: &mut Registry, of: pb::Association| {
        let mut submission = registry.submission();
        let trigger = association(Type::SubmitAssociation, "set", "new");
        submission.associations = vec![
            pb::Association {
                entry_uuid: "new".into(),
                ..of
            },
            trigger,
        ];
        registry.submit(submission, Transaction::Update)
    };
    submit(&mut registry, association(Type::HasMember, &folder, &a)).unwrap();
    assert_eq!(registry.folders_of(&a), std::slice::from_ref(&folder));
    let again = submit(&mut registry, association(Type::HasMember, &folder, &a)).unwrap_err();
    assert_eq!(again[0].0, Reason::UpdateRefused);
    submit(&mut registry, association(Type::Rplc, &b, &a)).unwrap();
    assert!(!registry.is_approved(&a) && registry.is_approved(&b));
    assert_eq!(registry.folders_of(&b), std::slice::from_ref(&folder));
    let got = submit(&mut registry, association(Type::Apnd, &b, &a)).unwrap_err();
    assert_eq!(got[0].0, Reason::UpdateRefused);
}
