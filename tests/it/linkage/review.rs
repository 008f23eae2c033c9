//! The steward's work: tasks, decisions, never again, four eyes, overlays.

use renkei::demo::actor::Caller;
use renkei::error::Reason;
use renkei::wire::pb::identity as pb;

use super::people::{Desk, HANAKO, HERE, ICHIRO, NAMESAKE, Somebody, call, key, patient};
use crate::support::Setup;
use crate::support::expect::refused;

async fn tasks(steward: &Caller) -> Vec<pb::ReviewTask> {
    let request = pb::ListReviewTasksRequest::default();
    call!(steward, list_review_tasks, request).unwrap().tasks
}

async fn task(steward: &Caller, id: &str) -> pb::ReviewTask {
    let request = pb::GetReviewTaskRequest {
        task_id: id.to_owned(),
    };
    call!(steward, get_review_task, request)
        .unwrap()
        .task
        .unwrap()
}

fn decide(task: &pb::ReviewTask, decision: pb::ReviewDecision) -> pb::DecideReviewTaskRequest {
    pb::DecideReviewTaskRequest {
        task_id: task.task_id.clone(),
        decision: decision.into(),
        reason: "looked at both cards".to_owned(),
        version: task.version,
        idempotency_key: key(),
        ..Default::default()
    }
}

/// Name, birth date and sex are no proof: a steward says whether it is one person, and is believed
/// until somebody takes it back.
///
/// Bars: P-09.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_doubt_is_decided_and_undone() {
    let network = Setup::standalone().start().await;
    let (desk, other) = (Desk::new(&network, 0, 0), Desk::new(&network, 0, 1));
    desk.feed("r-1", &HANAKO).await;
    let fed = other.feed("r-2", &NAMESAKE).await;
    assert_eq!(fed.outcome(), pb::FeedOutcome::Review);
    let steward = desk.steward("S-1", HERE);
    let open = tasks(&steward).await;
    let [listed] = open.as_slice() else {
        panic!("one task: {open:#?}");
    };
    assert_eq!(std::slice::from_ref(&listed.task_id), fed.review_task_ids);
    let shown = task(&steward, &listed.task_id).await;
    assert_eq!(shown.persons.len(), 2, "side by side");
    let level = |field: &str| {
        let fields = &shown.evidence.as_ref().unwrap().fields;
        fields
            .iter()
            .find(|one| one.field == field)
            .unwrap()
            .level()
    };
    assert_eq!(level("name"), pb::AgreementLevel::Equal);
    assert_eq!(level("phone"), pb::AgreementLevel::Different);
    let effects = shown.effects.as_ref().unwrap();
    assert_eq!(
        effects.retired_linkage_ids.len(),
        1,
        "what saying yes would do"
    );

    // Somebody has it.
    let assign = pb::AssignReviewTaskRequest {
        task_id: shown.task_id.clone(),
        assignee_subject: "S-1".to_owned(),
        idempotency_key: key(),
    };
    let assigned = call!(steward, assign_review_task, assign)
        .unwrap()
        .task
        .unwrap();
    assert_eq!(assigned.state(), pb::ReviewState::Assigned);
    assert_eq!(assigned.assignee.as_ref().unwrap().subject, "S-1");
    let stale = decide(&shown, pb::ReviewDecision::SamePerson);
    refused(
        call!(steward, decide_review_task, stale),
        Reason::ConcurrentChange,
    );

    let yes = decide(&assigned, pb::ReviewDecision::SamePerson);
    let decided = call!(steward, decide_review_task, yes.clone()).unwrap();
    let again = call!(steward, decide_review_task, yes).unwrap();
    assert_eq!(
        again.decision_id, decided.decision_id,
        "once, however often it is sent"
    );
    assert_eq!(
        desk.pix("r-1").await.unwrap().identifiers,
        [other.id("r-2")]
    );
    assert!(tasks(&steward).await.is_empty());

    let undo = pb::UndoReviewDecisionRequest {
        decision_id: decided.decision_id.clone(),
        reason: "another card was shown".to_owned(),
        idempotency_key: key(),
        ..Default::default()
    };
    let undone = call!(steward, undo_review_decision, undo.clone()).unwrap();
    let reopened = undone.task.unwrap();
    assert_eq!(reopened.state(), pb::ReviewState::Open);
    assert!(reopened.decisions[0].undone);
    assert!(desk.pix("r-1").await.unwrap().identifiers.is_empty());
    assert_eq!(
        other.pix("r-2").await.unwrap().linkage_id,
        fed.linkage_id,
        "as it was"
    );
    let twice = pb::UndoReviewDecisionRequest {
        idempotency_key: key(),
        ..undo
    };
    refused(
        call!(steward, undo_review_decision, twice),
        Reason::WrongState,
    );

    let no = decide(&reopened, pb::ReviewDecision::DifferentPersons);
    call!(steward, decide_review_task, no).unwrap();
    never_again(&desk, &other, &steward).await;
    network.stop().await;
}

/// What was declared two people is not offered again: not when a record changes, not with proof, not
/// under a number that took the record's place.
async fn never_again(desk: &Desk<'_>, other: &Desk<'_>, steward: &Caller) {
    let proof = Somebody {
        phone: HANAKO.phone,
        ..NAMESAKE
    };
    let fed = other.feed("r-2", &proof).await;
    assert_ne!(fed.outcome(), pb::FeedOutcome::Linked);
    // Of the same house, born on the same day.
    let sister = Somebody {
        given: "葉子",
        phone: "052-000-0009",
        ..HANAKO
    };
    other.feed("r-3", &sister).await;
    let system = other.system();
    call!(system, merge_patients, other.merge("r-3", "r-2")).unwrap();
    other.feed("r-3", &proof).await;
    assert!(desk.pix("r-1").await.unwrap().identifiers.is_empty());
    assert!(tasks(steward).await.is_empty());
}

/// A split is proposed by one and done by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_needs_four_eyes() {
    let network = Setup::standalone().start().await;
    let (desk, other) = (Desk::new(&network, 0, 0), Desk::new(&network, 0, 1));
    let first = desk.feed("s-1", &HANAKO).await;
    let linked = other.feed("s-2", &HANAKO).await;
    assert_eq!(linked.outcome(), pb::FeedOutcome::Linked);
    other.feed("s-3", &HANAKO).await;
    let (one, two) = (desk.steward("S-1", HERE), desk.steward("S-2", HERE));
    let group = |ids: Vec<_>| pb::IdentifierGroup { identifiers: ids };
    let split = |groups| pb::SplitPersonRequest {
        linkage_id: first.linkage_id.clone(),
        groups,
        reason: "mother and daughter".to_owned(),
        idempotency_key: key(),
        ..Default::default()
    };
    let whole = vec![
        group(vec![desk.id("s-1")]),
        group(vec![other.id("s-2"), other.id("s-3")]),
    ];
    let partial = vec![group(vec![desk.id("s-1")]), group(vec![other.id("s-2")])];
    refused(
        call!(one, split_person, split(partial)),
        Reason::InvalidField,
    );
    let proposed = call!(one, split_person, split(whole.clone())).unwrap();
    assert!(proposed.linkage_ids.is_empty());
    assert_eq!(
        desk.pix("s-1").await.unwrap().identifiers.len(),
        2,
        "not yet"
    );

    let waiting = task(&two, &proposed.approval_task_id).await;
    assert_eq!(waiting.kind(), pb::ReviewKind::Approval);
    assert!(waiting.effects.is_some());
    let own = decide(&waiting, pb::ReviewDecision::Approve);
    refused(
        call!(one, decide_review_task, own),
        Reason::SecondPersonNeeded,
    );
    let yes = decide(&waiting, pb::ReviewDecision::Approve);
    let approved = call!(two, decide_review_task, yes).unwrap();
    assert_eq!(approved.effects.unwrap().linkage_ids.len(), 2);
    assert!(desk.pix("s-1").await.unwrap().identifiers.is_empty());
    assert_eq!(desk.pix("s-1").await.unwrap().linkage_id, first.linkage_id);
    assert_eq!(
        other.pix("s-2").await.unwrap().identifiers,
        [other.id("s-3")]
    );

    // And back, exactly.
    let undo = pb::UndoReviewDecisionRequest {
        decision_id: approved.decision_id,
        reason: "one person after all".to_owned(),
        idempotency_key: key(),
        ..Default::default()
    };
    call!(two, undo_review_decision, undo).unwrap();
    let known = other.pix("s-3").await.unwrap();
    assert_eq!(known.linkage_id, first.linkage_id);
    assert_eq!(known.identifiers.len(), 2);
    // A proposal may be turned down.
    let proposed = call!(one, split_person, split(whole)).unwrap();
    let waiting = task(&two, &proposed.approval_task_id).await;
    let no = decide(&waiting, pb::ReviewDecision::Reject);
    let rejected = call!(two, decide_review_task, no).unwrap().task.unwrap();
    assert_eq!(rejected.state(), pb::ReviewState::Decided);
    assert_eq!(desk.pix("s-1").await.unwrap().identifiers.len(), 2);
    network.stop().await;
}

/// A chart that becomes another person: name and birth date change together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chart_of_two_people_is_noticed() {
    let network = Setup::standalone().start().await;
    let desk = Desk::new(&network, 0, 0);
    desk.feed("o-1", &HANAKO).await;
    let steward = desk.steward("S-1", HERE);
    // A marriage and a corrected date are no overlay.
    let married = Somebody {
        family: "高橋",
        ..HANAKO
    };
    let corrected = Somebody {
        birth: "1950-04-11",
        ..married.clone()
    };
    for who in [&married, &corrected] {
        assert!(desk.feed("o-1", who).await.review_task_ids.is_empty());
    }
    let fed = desk.feed("o-1", &ICHIRO).await;
    let open = tasks(&steward).await;
    assert_eq!(open.len(), 1, "{open:#?}");
    assert_eq!(open[0].kind(), pb::ReviewKind::Overlay);
    assert_eq!(fed.review_task_ids, [open[0].task_id.clone()]);
    // The most urgent comes first.
    desk.feed("o-2", &NAMESAKE).await;
    let other = Desk::new(&network, 0, 1);
    other.feed("o-3", &HANAKO).await;
    let open = tasks(&steward).await;
    assert_eq!(open.len(), 2, "{open:#?}");
    assert_eq!(open[0].kind(), pb::ReviewKind::Overlay);
    assert!(open[0].priority > open[1].priority);
    let fine = decide(&open[0], pb::ReviewDecision::SamePerson);
    call!(steward, decide_review_task, fine).unwrap();
    assert_eq!(tasks(&steward).await.len(), 1);
    // Nobody but stewards sees any of it.
    let system = desk.system();
    let list = pb::ListReviewTasksRequest::default();
    refused(call!(system, list_review_tasks, list), Reason::NotPermitted);
    network.stop().await;
}

/// Before a registration: who is there already, and what feeding would do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_desk_is_warned_before_it_registers() {
    let network = Setup::standalone().start().await;
    let (desk, other) = (Desk::new(&network, 0, 0), Desk::new(&network, 0, 1));
    desk.feed("w-1", &HANAKO).await;
    let doctor = crate::support::physician(&other.institution.code);
    let doctor = network.acting(HERE, &doctor);
    let check = |desk: &Desk<'_>, who| pb::CheckDuplicatesRequest {
        patient: Some(patient(desk.id("w-9"), who)),
    };
    let told = call!(doctor, check_duplicates, check(&desk, &HANAKO)).unwrap();
    assert_eq!(told.expected_outcome(), pb::FeedOutcome::Linked);
    assert_eq!((told.same_domain.len(), told.elsewhere.len()), (1, 0));
    let told = call!(doctor, check_duplicates, check(&other, &NAMESAKE)).unwrap();
    assert_eq!(told.expected_outcome(), pb::FeedOutcome::Review);
    assert_eq!((told.same_domain.len(), told.elsewhere.len()), (0, 1));
    let told = call!(doctor, check_duplicates, check(&other, &ICHIRO)).unwrap();
    assert_eq!(told.expected_outcome(), pb::FeedOutcome::NewPerson);
    assert!(told.same_domain.is_empty() && told.elsewhere.is_empty());
    // Nothing was stored.
    refused(desk.pix("w-9").await, Reason::UnknownPatient);

    let wanted = |certain| pb::MatchPatientRequest {
        patient: Some(patient(desk.id(""), &HANAKO)).map(|one| pb::Patient {
            identifier: None,
            ..one
        }),
        only_certain_matches: certain,
        ..Default::default()
    };
    let ranked = call!(doctor, match_patient, wanted(true)).unwrap();
    assert_eq!(ranked.candidates.len(), 1);
    assert_eq!(ranked.candidates[0].grade(), pb::MatchGrade::Certain);
    network.stop().await;
}
