//! `renkei patient reviews`, `review`, `decide`: what the matcher leaves to people.

use anyhow::Result;
use clap::Args;

use super::show;
use crate::cli::args::{self, Limit};
use crate::cli::client::Session;
use crate::cli::idempotency_key;
use crate::cli::names::{self, join, label, time};
use crate::cli::output::{Done, Output, Table, Text};
use crate::wire::pb::identity::{
    AssignReviewTaskRequest, DecideReviewTaskRequest, GetReviewTaskRequest, ListReviewTasksRequest,
    ReviewDecision, ReviewKind, ReviewState, ReviewTask, UndoReviewDecisionRequest,
};

#[derive(Args, Debug)]
pub(crate) struct Reviews {
    /// Only tasks in this state; repeat for several [default: those not decided]
    #[arg(long = "state", value_name = "STATE", ignore_case = true, value_parser = args::one_of::<ReviewState>())]
    states: Vec<ReviewState>,
    /// Only tasks of this kind; repeat for several
    #[arg(long = "kind", value_name = "KIND", ignore_case = true, value_parser = args::one_of::<ReviewKind>())]
    kinds: Vec<ReviewKind>,
    /// Only tasks given to this steward
    #[arg(long, value_name = "ID")]
    assignee: Option<String>,
    /// Only tasks of this priority or higher, 0 to 100
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    min_priority: u32,
    #[command(flatten)]
    limit: Limit,
}

impl Reviews {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let mut client = session.identity();
        let mut pages = self.limit.pages();
        let mut table = Table::new([
            "Task", "Kind", "State", "Priority", "Since", "With", "People",
        ]);
        let mut total;
        loop {
            let request = ListReviewTasksRequest {
                states: self.states.iter().map(|&state| state.into()).collect(),
                kinds: self.kinds.iter().map(|&kind| kind.into()).collect(),
                assignee_subject: self.assignee.clone().unwrap_or_default(),
                min_priority: self.min_priority,
                page_size: pages.size,
                page_token: pages.token.clone(),
                ..ListReviewTasksRequest::default()
            };
            let page = client.list_review_tasks(request).await?.into_inner();
            out.json(&page)?;
            let more = pages.turn(&page.next_page_token, page.tasks.len());
            total = page.total_size;
            page.tasks.iter().for_each(|task| add(&mut table, task));
            if !more {
                break;
            }
        }
        out.human(|text| {
            text.table(&table);
            text.line(format!("{} of {total} tasks", table.len()));
        })?;
        pages.tell();
        Ok(Done::All)
    }
}

fn add(table: &mut Table, task: &ReviewTask) {
    let people = task.persons.iter().map(|person| {
        let known = person.demographics.clone().unwrap_or_default();
        join([names::names(&known.names), known.birth_date], " ")
    });
    table.row([
        task.task_id.clone(),
        label::<ReviewKind>(task.kind),
        label::<ReviewState>(task.state),
        task.priority.to_string(),
        time(task.created.as_ref()),
        names::person(task.assignee.as_ref()),
        join(people, " / "),
    ]);
}

#[derive(Args, Debug)]
pub(crate) struct Review {
    /// Id of the task
    #[arg(value_name = "TASK")]
    task_id: String,
}

impl Review {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = GetReviewTaskRequest {
            task_id: self.task_id,
        };
        let answer = session
            .identity()
            .get_review_task(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            if let Some(task) = &answer.task {
                show_task(text, task);
            }
        })?;
        Ok(Done::All)
    }
}

fn show_task(text: &mut Text, task: &ReviewTask) {
    text.field("Task", &task.task_id);
    text.field("Kind", label::<ReviewKind>(task.kind));
    text.field("State", label::<ReviewState>(task.state));
    text.field("Priority", task.priority.to_string());
    text.field("Since", time(task.created.as_ref()));
    text.field("With", names::person(task.assignee.as_ref()));
    text.field("Common cause", &task.root_cause);
    text.field("Version", task.version.to_string());
    for (number, person) in (1..).zip(&task.persons) {
        text.gap();
        text.line(format!("Person {number}"));
        show::person(text, person);
    }
    text.gap();
    show::evidence(text, task.evidence.as_ref());
    show::effects(text, task.effects.as_ref());
    let mut table = Table::new(["Decision", "What", "By", "When", "Why", "Undone"]);
    for one in &task.decisions {
        table.row([
            one.decision_id.clone(),
            label::<ReviewDecision>(one.decision),
            names::person(one.decided_by.as_ref()),
            time(one.decided.as_ref()),
            one.reason.clone(),
            if one.undone {
                "yes".to_owned()
            } else {
                String::new()
            },
        ]);
    }
    text.table(&table);
}

#[derive(Args, Debug)]
pub(crate) struct Decide {
    /// Id of the task
    #[arg(value_name = "TASK")]
    task_id: String,
    /// The decision
    #[arg(value_name = "DECISION", ignore_case = true, value_parser = args::one_of::<ReviewDecision>())]
    decision: ReviewDecision,
    /// Why; required for SPLIT and REJECT
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    reason: String,
    /// Version of the task that was looked at, as `review` prints it
    #[arg(long, value_name = "N")]
    version: u64,
    /// Only tell what would happen
    #[arg(long)]
    preview: bool,
}

impl Decide {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = DecideReviewTaskRequest {
            task_id: self.task_id,
            decision: self.decision.into(),
            reason: self.reason,
            version: self.version,
            preview_only: self.preview,
            idempotency_key: idempotency_key(),
            ..DecideReviewTaskRequest::default()
        };
        let answer = session
            .identity()
            .decide_review_task(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            text.field("Decision", &answer.decision_id);
            let state = answer
                .task
                .as_ref()
                .map(|task| label::<ReviewState>(task.state));
            text.field("State", state.unwrap_or_default());
            show::effects(text, answer.effects.as_ref());
        })?;
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Undo {
    /// Id of the decision, as `decide` printed it
    #[arg(value_name = "DECISION")]
    decision_id: String,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only tell what would happen
    #[arg(long)]
    preview: bool,
}

impl Undo {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = UndoReviewDecisionRequest {
            decision_id: self.decision_id,
            reason: self.reason,
            idempotency_key: idempotency_key(),
            preview_only: self.preview,
        };
        let answer = session
            .identity()
            .undo_review_decision(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            let state = answer
                .task
                .as_ref()
                .map(|task| label::<ReviewState>(task.state));
            text.field("State", state.unwrap_or_default());
            show::effects(text, answer.effects.as_ref());
        })?;
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Assign {
    /// Id of the task
    #[arg(value_name = "TASK")]
    task_id: String,
    /// Staff number of the steward; without it the task goes back to all
    #[arg(long, value_name = "ID")]
    to: Option<String>,
}

impl Assign {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = AssignReviewTaskRequest {
            task_id: self.task_id,
            assignee_subject: self.to.unwrap_or_default(),
            idempotency_key: idempotency_key(),
        };
        let answer = session
            .identity()
            .assign_review_task(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            if let Some(task) = &answer.task {
                text.field("State", label::<ReviewState>(task.state));
                text.field("With", names::person(task.assignee.as_ref()));
            }
        })?;
        Ok(Done::All)
    }
}
