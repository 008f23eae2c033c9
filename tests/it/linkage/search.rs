//! Searching for people by what is known of them (PDQ).

use renkei::error::Reason;
use renkei::wire::pb::identity as pb;

use super::people::{Desk, HANAKO, HERE, ICHIRO, NAMESAKE, Somebody, call};
use crate::support::expect::refused;
use crate::support::{Setup, physician};

/// All that is given must hold; what there is comes in pages, each person once; a beginning is enough
/// of a name.
///
/// Bars: P-07.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_must_hold_and_pages_are_of_one_list() {
    let network = Setup::standalone().start().await;
    let desk = Desk::new(&network, 0, 0);
    for (local, who) in [("s-1", &HANAKO), ("s-2", &NAMESAKE), ("s-3", &ICHIRO)] {
        desk.feed(local, who).await;
    }
    let doctor = network.acting(HERE, &physician(&desk.institution.code));
    let search = async |page_size, token: &str, criteria: &pb::PatientCriteria| {
        let request = pb::SearchPatientsRequest {
            criteria: Some(criteria.clone()),
            page_size,
            page_token: token.to_owned(),
            ..Default::default()
        };
        call!(doctor, search_patients, request)
    };
    let locals = |page: &pb::SearchPatientsResponse| -> Vec<String> {
        let people = page.matches.iter().filter_map(|one| one.person.as_ref());
        let records = people.flat_map(|person| &person.records);
        let ids = records.filter_map(|record| record.identifier.as_ref());
        ids.map(|id| id.value.clone()).collect()
    };

    let begins = pb::PatientCriteria {
        family: "佐".to_owned(),
        birth_date: HANAKO.birth.to_owned(),
        administrative_gender: pb::AdministrativeGender::Female.into(),
        ..Default::default()
    };
    let whole = search(0, "", &begins).await.unwrap();
    assert_eq!((whole.total_size, whole.matches.len()), (2, 2));
    let first = search(1, "", &begins).await.unwrap();
    assert_eq!((first.total_size, first.matches.len()), (2, 1));
    let second = search(1, &first.next_page_token, &begins).await.unwrap();
    assert_eq!(second.next_page_token, "");
    assert_eq!([locals(&first), locals(&second)].concat(), locals(&whole));
    let end = search(1, "4", &begins).await.unwrap();
    assert_eq!((end.total_size, end.matches.len()), (2, 0));
    for token in ["5", "0", "x"] {
        refused(search(1, token, &begins).await, Reason::InvalidToken);
    }

    let one = pb::PatientCriteria {
        identifiers: vec![desk.id("s-3")],
        ..Default::default()
    };
    assert_eq!(locals(&search(0, "", &one).await.unwrap()), ["s-3"]);
    for nobody in [
        pb::PatientCriteria {
            identifiers: vec![desk.id("s-3"), desk.id("s-1")],
            ..Default::default()
        },
        pb::PatientCriteria {
            birth_date_to: "1971-11-22".to_owned(),
            ..one.clone()
        },
        pb::PatientCriteria {
            family: "藤".to_owned(),
            ..begins.clone()
        },
        pb::PatientCriteria {
            name_match: pb::TextMatch::Exact.into(),
            ..begins.clone()
        },
    ] {
        assert_eq!(
            search(0, "", &nobody).await.unwrap().total_size,
            0,
            "{nobody:?}"
        );
    }
    network.stop().await;
}

/// Somebody of exactly that name does not hide those whose names only begin so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_finds_more_than_who_has_exactly_that_name() {
    let network = Setup::standalone().start().await;
    let desk = Desk::new(&network, 0, 0);
    let exact = Somebody {
        family: "佐",
        given: "和子",
        phone: "011-000-0004",
        ..HANAKO
    };
    for (local, who) in [("s-1", &HANAKO), ("s-4", &exact)] {
        desk.feed(local, who).await;
    }
    let doctor = network.acting(HERE, &physician(&desk.institution.code));
    let request = pb::SearchPatientsRequest {
        criteria: Some(pb::PatientCriteria {
            family: "佐".to_owned(),
            birth_date: HANAKO.birth.to_owned(),
            administrative_gender: pb::AdministrativeGender::Female.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let page = call!(doctor, search_patients, request).unwrap();
    let people = page.matches.iter().filter_map(|one| one.person.as_ref());
    let ids = people.flat_map(|person| &person.records);
    let ids = ids.filter_map(|record| record.identifier.as_ref());
    let mut ids: Vec<&str> = ids.map(|id| id.value.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["s-1", "s-4"]);
    network.stop().await;
}
