use super::*;

fn code(code: &str) -> cpb::CodedValue {
    cpb::CodedValue {
        code: code.into(),
        system: "s".into(),
        ..cpb::CodedValue::default()
    }
}

fn list(codes: &[&str]) -> pb::CodeList {
    pb::CodeList {
        any_of: codes.iter().map(|c| code(c)).collect(),
    }
}

fn entry() -> pb::DocumentEntry {
    pb::DocumentEntry {
        availability_status: Status::Approved.into(),
        class_code: Some(code("57133-1")),
        event_codes: vec![code("a"), code("b")],
        creation_time: "20240131".into(),
        ..pb::DocumentEntry::default()
    }
}

fn made(filter: &pb::DocumentFilter) -> EntryFilter {
    EntryFilter::new(filter, None, &[], pb::MetadataLevel::Unspecified).unwrap()
}

fn finds(filter: &pb::DocumentFilter, entry: &pb::DocumentEntry) -> bool {
    made(filter).matches(entry, 5, false)
}

#[test]
fn fields_are_anded_and_alternatives_ored() {
    let mut filter = pb::DocumentFilter {
        class_codes: vec![code("x"), code("57133-1")],
        ..Default::default()
    };
    assert!(finds(&filter, &entry()));
    filter.event_codes = vec![list(&["a", "z"]), list(&["b"])];
    assert!(finds(&filter, &entry()));
    filter.event_codes.push(list(&["z"]));
    assert!(!finds(&filter, &entry()));
}

#[test]
fn the_coding_scheme_counts() {
    let mut other = code("57133-1");
    other.system = "t".into();
    let filter = pb::DocumentFilter {
        class_codes: vec![other],
        ..Default::default()
    };
    assert!(!finds(&filter, &entry()));
}

fn created(from: &str, to: &str) -> pb::DocumentFilter {
    pb::DocumentFilter {
        creation_time: Some(pb::TimeRange {
            from: from.into(),
            to: to.into(),
        }),
        ..Default::default()
    }
}

#[test]
fn time_bounds_are_from_inclusive_to_exclusive() {
    assert!(finds(&created("20240131", "20240201"), &entry()));
    assert!(finds(&created("20240131000000", ""), &entry()));
    assert!(finds(&created("2024", ""), &entry()));
    assert!(!finds(&created("", "20240131"), &entry()));
    let error = EntryFilter::new(
        &created("2024-01", ""),
        None,
        &[],
        pb::MetadataLevel::Unspecified,
    );
    let error = error.unwrap_err();
    assert_eq!(error.wrong_field(), Some("filter.creation_time.from"));
}

#[test]
fn what_has_no_time_answers_service_times_only() {
    let range = |from: &str| {
        Some(pb::TimeRange {
            from: from.into(),
            to: String::new(),
        })
    };
    let service = pb::DocumentFilter {
        service_start_time: range("2024"),
        service_stop_time: range("2024"),
        ..Default::default()
    };
    assert!(finds(&service, &entry()));
    let mut undated = entry();
    undated.creation_time.clear();
    assert!(!finds(&created("2024", ""), &undated));
    undated.object_type = pb::ObjectType::OnDemand.into();
    let mut filter = created("2024", "");
    assert!(!finds(&filter, &undated), "stable only, unless asked");
    filter.object_types = vec![pb::ObjectType::OnDemand.into()];
    assert!(finds(&filter, &undated));
}

#[test]
fn only_approved_unless_asked() {
    let deprecated = pb::DocumentEntry {
        availability_status: Status::Deprecated.into(),
        ..entry()
    };
    assert!(!finds(&pb::DocumentFilter::default(), &deprecated));
    let filter = pb::DocumentFilter {
        statuses: vec![Status::Deprecated.into()],
        ..Default::default()
    };
    assert!(finds(&filter, &deprecated));
    assert!(!finds(&filter, &entry()));
}

#[test]
fn old_versions_and_offline_entries_need_level_2() {
    let offline = pb::DocumentEntry {
        document_availability: pb::DocumentAvailability::Offline.into(),
        ..entry()
    };
    let filter = pb::DocumentFilter::default();
    let all = EntryFilter::new(&filter, None, &[], pb::MetadataLevel::All).unwrap();
    assert!(!finds(&filter, &offline));
    assert!(!made(&filter).matches(&entry(), 5, true));
    assert!(all.matches(&offline, 5, false) && all.matches(&entry(), 5, true));
}

#[test]
fn what_is_excluded_is_not_found_and_has_no_twin() {
    let exclude = |codes: &[&str]| pb::DocumentFilter {
        class_codes: codes.iter().map(|c| code(c)).collect(),
        ..Default::default()
    };
    let level = pb::MetadataLevel::Unspecified;
    let none = pb::DocumentFilter::default();
    let without = EntryFilter::new(&none, Some(&exclude(&["57133-1"])), &[], level).unwrap();
    assert!(!without.matches(&entry(), 5, false));
    let other = EntryFilter::new(&none, Some(&exclude(&["x"])), &[], level).unwrap();
    assert!(other.matches(&entry(), 5, false));
    let both = EntryFilter::new(&exclude(&["x"]), Some(&exclude(&["y"])), &[], level);
    assert_eq!(both.unwrap_err().reason(), Reason::ParameterNumber);
}

#[test]
fn changed_since_is_after_the_frame() {
    let since = |sequence| pb::DocumentFilter {
        changed_since_sequence: sequence,
        ..Default::default()
    };
    assert!(finds(&since(0), &entry()));
    assert!(finds(&since(4), &entry()));
    assert!(!finds(&since(5), &entry()));
}

#[test]
fn reference_ids_are_compared_in_the_parts_given() {
    let reference = |id: &str, type_code: &str| pb::ReferenceId {
        id: id.into(),
        assigning_authority: String::new(),
        type_code: type_code.into(),
        home_community_id: String::new(),
    };
    let mut referring = entry();
    referring.reference_ids = vec![reference("A1", "accession"), reference("O2", "order")];
    let lists = |lists: &[&[(&str, &str)]]| -> Vec<pb::ReferenceIdList> {
        let list = |list: &&[(&str, &str)]| pb::ReferenceIdList {
            any_of: list.iter().map(|(id, kind)| reference(id, kind)).collect(),
        };
        lists.iter().map(list).collect()
    };
    for (wanted, found) in [
        (lists(&[&[("A1", "")]]), true),
        (lists(&[&[("A1", "order")]]), false),
        (lists(&[&[("A1", "order"), ("O2", "")]]), true),
        (lists(&[&[("A1", "")], &[("O2", "order")]]), true),
        (lists(&[&[("A1", "")], &[("X", "")]]), false),
    ] {
        let none = pb::DocumentFilter::default();
        let level = pb::MetadataLevel::Unspecified;
        let filter = EntryFilter::new(&none, None, &wanted, level).unwrap();
        assert_eq!(filter.matches(&referring, 5, false), found, "{wanted:?}");
    }
}

#[test]
fn deprecated_folders_and_old_versions_are_of_the_second_level() {
    use pb::MetadataLevel as Level;
    let folder = |status: Status| pb::Folder {
        availability_status: status.into(),
        ..Default::default()
    };
    let (approved, deprecated) = (folder(Status::Approved), folder(Status::Deprecated));
    let both: [i32; 2] = [Status::Approved.into(), Status::Deprecated.into()];
    for statuses in [Statuses::optional(&[]), Statuses::wanted(&both)] {
        for level in [Level::Unspecified, Level::Latest] {
            let filter = FolderFilter::of(statuses.clone(), level);
            assert!(filter.matches(&approved, false));
            assert!(!filter.matches(&approved, true), "{level:?}");
            assert!(!filter.matches(&deprecated, false), "{level:?}");
        }
        let filter = FolderFilter::of(statuses, Level::All);
        assert!(filter.matches(&approved, true) && filter.matches(&deprecated, false));
    }
}
