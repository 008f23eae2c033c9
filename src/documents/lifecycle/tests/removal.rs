use super::*;

#[test]
fn nothing_may_be_left_that_points_to_what_goes() {
    let mut registry = Registry::new();
    let document = registry.document(vec![]).unwrap();
    let (set, member) = registry.membership(&document);
    assert_eq!(registry.remove(&[&set]), Err(vec![Reason::ReferencesExist]));
    assert_eq!(
        registry.remove(&[&document]),
        Err(vec![Reason::ReferencesExist])
    );
    // The set would have no member, the document no set.
    assert_eq!(
        registry.remove(&[&document, &member]),
        Err(vec![Reason::WouldBeUnreferenced])
    );
    assert_eq!(
        registry.remove(&[&set, &member]),
        Err(vec![Reason::WouldBeUnreferenced])
    );
    let nothing = EntryUuid::random().to_string();
    assert_eq!(
        registry.remove(&[&document, &member, &set, &nothing]),
        Err(vec![Reason::UnresolvedReference])
    );
    assert!(registry.row(&document).is_some());
    let id = registry.row(&document).unwrap().entry.unwrap().unique_id;
    registry.submitter = "1318888888";
    let got = registry.remove(&[&document, &member, &set]).unwrap_err();
    assert!(got.iter().all(|reason| *reason == Reason::NotPermitted));
    registry.submitter = "1319999999";
    registry.remove(&[&document, &member, &set]).unwrap();
    assert!(registry.row(&document).is_none());
    // The uniqueId is free again, also for other bytes.
    assert!(
        document_holders(&registry.store, &registry.tag(&id))
            .unwrap()
            .is_empty()
    );
    let mut again = registry.submission();
    again.entries.push(pb::DocumentEntry {
        unique_id: id,
        hash: "b".repeat(40),
        ..registry.entry("doc")
    });
    registry.submit(again, Transaction::Provide).unwrap();
    assert_eq!(registry.remove(&[]), Err(vec![Reason::InvalidField]));
}

/// A replacement may go with its association; what it replaced stays deprecated.
#[test]
fn a_relation_goes_with_one_of_its_ends() {
    let mut registry = Registry::new();
    let old = registry.document(vec![]).unwrap();
    let relation = vec![association(Type::Rplc, "doc", &old)];
    let new = registry.document(relation).unwrap();
    let (set, member) = registry.membership(&new);
    assert_eq!(
        registry.remove(&[&new, &member, &set]),
        Err(vec![Reason::ReferencesExist])
    );
    let relation = registry
        .to(&old)
        .into_iter()
        .find(|row| kind_of(row) == Type::Rplc);
    let relation = uuid_of(&relation.unwrap().uuid).unwrap().to_string();
    registry.remove(&[&new, &member, &set, &relation]).unwrap();
    assert!(!registry.is_approved(&old));
    let (set, member) = registry.membership(&old);
    registry.remove(&[&old, &member, &set]).unwrap();
}

#[test]
fn a_folder_lets_a_document_go() {
    let mut registry = Registry::new();
    let document = registry.document(vec![]).unwrap();
    let folder = registry.folder(&[&document]);
    let in_folder: EntryUuid = folder.parse().unwrap();
    let of_folder = registry
        .to(&document)
        .into_iter()
        .find(|row| row.source == in_folder.as_bytes());
    let of_folder = uuid_of(&of_folder.unwrap().uuid).unwrap().to_string();
    let (_, of_set) = registry.membership(&of_folder);
    registry.remove(&[&of_folder, &of_set]).unwrap();
    assert!(registry.folders_of(&document).is_empty());
    assert!(registry.is_approved(&document));
}

#[test]
fn of_what_stays_the_newest_version_is_the_latest() {
    let mut registry = Registry::new();
    let first = registry.document(vec![]).unwrap();
    let update = super::update::update_of(&mut registry, &first, 1);
    let second = named(
        &registry.submit(update, Transaction::Update).unwrap(),
        "new",
    );
    assert!(registry.row(&first).unwrap().superseded);
    let (set, member) = registry.membership(&second);
    registry.remove(&[&second, &member, &set]).unwrap();
    assert!(!registry.row(&first).unwrap().superseded);
}
