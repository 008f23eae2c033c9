//! `renkei emergency get`: what saves a life, on one screen; every item with its source and date.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use super::{Who, show};
use crate::cli::args;
use crate::cli::client::Session;
use crate::cli::completeness;
use crate::cli::names::octets;
use crate::cli::output::{Done, Output};
use crate::wire::pb::emergency::{
    GetSummaryDocumentRequest, GetSummaryRequest, SummaryForm, SummarySection,
};

#[derive(Args, Debug)]
pub(crate) struct Get {
    #[command(flatten)]
    who: Who,
    /// Grant of `break-glass`; not needed where the patient has consented
    #[arg(
        long,
        value_name = "GRANT",
        default_value = "",
        hide_default_value = true
    )]
    grant: String,
    /// Only this section; repeat for several
    #[arg(long = "section", value_name = "SECTION", ignore_case = true, value_parser = args::one_of::<SummarySection>())]
    sections: Vec<SummarySection>,
    /// Show items too that need a second confirmation; audited as such
    #[arg(long)]
    confirm_restricted: bool,
    /// A cached summary of this age will do: 30s, 5m
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    max_age: Option<Duration>,
    /// As a document, into -o FILE
    #[arg(long, value_name = "FORM", ignore_case = true, value_parser = args::one_of::<SummaryForm>(), requires = "output")]
    form: Option<SummaryForm>,
    /// Where to put the document
    #[arg(long, short, value_name = "FILE", requires = "form")]
    output: Option<PathBuf>,
    /// Main language of the document: ja or en
    #[arg(long, value_name = "TAG", default_value = "ja", requires = "form")]
    language: String,
    /// The document will be handed to the patient: without 未告知
    #[arg(long, requires = "form")]
    for_patient: bool,
}

impl Get {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        match (self.form, self.output.clone()) {
            (Some(form), Some(output)) => self.document(session, out, form, output).await,
            _ => self.summary(session, out).await,
        }
    }

    async fn summary(self, session: Session, out: Output) -> Result<Done> {
        let request = GetSummaryRequest {
            patient: Some(self.who.patient()),
            grant_id: self.grant,
            sections: self.sections.iter().map(|&one| one.into()).collect(),
            confirm_restricted: self.confirm_restricted,
            max_age: self.max_age.map(crate::wire::duration),
        };
        let answer = session.emergency().get_summary(request).await?.into_inner();
        out.answer(&answer, |text| {
            completeness::show(text, answer.completeness.as_ref(), false);
            text.gap();
            if let Some(summary) = &answer.summary {
                show::summary(text, summary);
            }
        })?;
        Ok(completeness::done(answer.completeness.as_ref()))
    }

    async fn document(
        self,
        session: Session,
        out: Output,
        form: SummaryForm,
        output: PathBuf,
    ) -> Result<Done> {
        let request = GetSummaryDocumentRequest {
            patient: Some(self.who.patient()),
            grant_id: self.grant,
            form: form.into(),
            language: self.language,
            confirm_restricted: self.confirm_restricted,
            max_age: self.max_age.map(crate::wire::duration),
            for_patient: self.for_patient,
        };
        let answer = session
            .emergency()
            .get_summary_document(request)
            .await?
            .into_inner();
        std::fs::write(&output, &answer.document)
            .with_context(|| format!("cannot write {}", output.display()))?;
        let size = u64::try_from(answer.document.len()).unwrap_or(u64::MAX);
        let complete = answer.completeness.as_ref().is_some_and(|all| all.complete);
        out.object(&json!({
            "file": output.to_string_lossy(),
            "mime_type": answer.mime_type,
            "size": size,
            "summary_id": answer.summary_id,
            "complete": complete,
        }))?;
        out.human(|text| {
            text.field("File", output.to_string_lossy());
            text.field("Media type", &answer.mime_type);
            text.field("Size", octets(size));
            completeness::show(text, answer.completeness.as_ref(), false);
        })?;
        Ok(completeness::done(answer.completeness.as_ref()))
    }
}
