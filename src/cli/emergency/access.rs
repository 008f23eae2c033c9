//! `renkei emergency break-glass`, `close`, `notices`, `review`: access without consent, and how it
//! is told and judged afterwards.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::Who;
use crate::cli::args::{self, Limit};
use crate::cli::client::Session;
use crate::cli::idempotency_key;
use crate::cli::names::{self, cx_or_none, join, label, labels, time};
use crate::cli::output::{Done, Output, Table};
use crate::wire::pb::emergency::{
    AccessNotice, BreakGlassReason, CloseBreakGlassRequest, ListAccessNoticesRequest,
    OpenBreakGlassRequest, ReviewAccessRequest, ReviewStatus, SummarySection,
};

#[derive(Args, Debug)]
pub(crate) struct BreakGlass {
    #[command(flatten)]
    who: Who,
    /// Why
    #[arg(long, value_name = "REASON", ignore_case = true, value_parser = args::one_of::<BreakGlassReason>())]
    reason: BreakGlassReason,
    /// Why, in your own words: 10 to 1,000 characters; patient and privacy officer will read it
    #[arg(long, value_name = "TEXT")]
    text: String,
    /// Declare that consent cannot be had now
    #[arg(long, required = true)]
    consent_impossible: bool,
    /// How long: 30m, 6h [default: 24h, which is also the longest]
    #[arg(long = "for", value_name = "TIME", value_parser = args::duration)]
    duration: Option<Duration>,
}

impl BreakGlass {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = OpenBreakGlassRequest {
            patient: Some(self.who.patient()),
            reason: self.reason.into(),
            reason_text: self.text,
            declares_consent_impossible: self.consent_impossible,
            duration: self.duration.map(crate::wire::duration),
            idempotency_key: idempotency_key(),
        };
        let answer = session
            .emergency()
            .open_break_glass(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            text.field("Grant", &answer.grant_id);
            text.field("Ends", time(answer.expires.as_ref()));
            text.line("This access is recorded; patient and privacy officer will see it.");
        })?;
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Close {
    /// Id of the grant, as `break-glass` printed it
    #[arg(value_name = "GRANT")]
    grant_id: String,
    /// What patient or family were told
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    explanation: String,
    /// The patient has consented since
    #[arg(long)]
    consent_obtained: bool,
}

impl Close {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = CloseBreakGlassRequest {
            grant_id: self.grant_id,
            explanation: self.explanation,
            consent_obtained: self.consent_obtained,
            idempotency_key: idempotency_key(),
        };
        let answer = session
            .emergency()
            .close_break_glass(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            text.field("Closed", time(answer.closed.as_ref()));
        })?;
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Notices {
    #[command(flatten)]
    who: super::MaybeWho,
    /// Only with this judgement; repeat for several
    #[arg(long = "review", value_name = "STATUS", ignore_case = true, value_parser = args::one_of::<ReviewStatus>())]
    reviews: Vec<ReviewStatus>,
    /// Only by this institution, 10 digits
    #[arg(
        long,
        value_name = "CODE",
        default_value = "",
        hide_default_value = true
    )]
    institution: String,
    #[command(flatten)]
    limit: Limit,
}

impl Notices {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let mut client = session.emergency();
        let mut pages = self.limit.pages();
        let mut table = Table::new([
            "Notice",
            "Opened",
            "Ended",
            "Patient",
            "By",
            "Reason",
            "Sections",
            "Documents",
            "Judgement",
            "Due",
        ]);
        loop {
            let request = ListAccessNoticesRequest {
                patient: self.who.patient(),
                reviews: self.reviews.iter().map(|&one| one.into()).collect(),
                institution_id: self.institution.clone(),
                page_size: pages.size,
                page_token: pages.token.clone(),
            };
            let page = client.list_access_notices(request).await?.into_inner();
            out.json(&page)?;
            let more = pages.turn(&page.next_page_token, page.notices.len());
            page.notices
                .iter()
                .for_each(|notice| add(&mut table, notice));
            if !more {
                break;
            }
        }
        out.human(|text| {
            text.table(&table);
            text.line(format!("{} notices", table.len()));
        })?;
        pages.tell();
        Ok(Done::All)
    }
}

fn add(table: &mut Table, notice: &AccessNotice) {
    let reason = label::<BreakGlassReason>(notice.reason);
    let mut judgement = label::<ReviewStatus>(notice.review);
    if notice.drill {
        judgement.push_str(" (drill)");
    }
    table.row([
        notice.notice_id.clone(),
        time(notice.opened.as_ref()),
        time(notice.ended.as_ref()),
        cx_or_none(notice.patient_id.as_ref()),
        join(
            [
                names::person(notice.person.as_ref()),
                names::institution(notice.institution.as_ref()),
            ],
            ", ",
        ),
        join([reason, notice.reason_text.clone()], ": "),
        labels::<SummarySection>(&notice.sections),
        notice.documents_opened.to_string(),
        join([judgement, notice.review_comment.clone()], ": "),
        time(notice.review_due.as_ref()),
    ]);
}

#[derive(Args, Debug)]
pub(crate) struct Review {
    /// Id of the notice
    #[arg(value_name = "NOTICE")]
    notice_id: String,
    /// Judgement: JUSTIFIED, UNJUSTIFIED or QUESTIONED
    #[arg(value_name = "JUDGEMENT", ignore_case = true, value_parser = args::one_of::<ReviewStatus>())]
    judgement: ReviewStatus,
    /// Why; required unless JUSTIFIED
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    comment: String,
}

impl Review {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = ReviewAccessRequest {
            notice_id: self.notice_id,
            review: self.judgement.into(),
            comment: self.comment,
            idempotency_key: idempotency_key(),
        };
        let answer = session
            .emergency()
            .review_access(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            let review = answer
                .notice
                .as_ref()
                .map(|one| label::<ReviewStatus>(one.review));
            text.field("Judgement", review.unwrap_or_default());
        })?;
        Ok(Done::All)
    }
}
