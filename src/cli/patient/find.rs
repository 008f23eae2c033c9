//! `renkei patient query`, `search`, `match`, `show`, `history`: finding people.

use anyhow::Result;
use clap::Args;

use super::record::{PatientRecord, gender};
use super::show;
use crate::cli::args::{self, Limit, PATIENT_HELP, PatientArg};
use crate::cli::client::Session;
use crate::cli::failure::Problem;
use crate::cli::names::{self, cx, cx_or_none, join, label, time};
use crate::cli::output::{Done, Output, Table};
use crate::types::Oid;
use crate::wire::pb::common::Identifier;
use crate::wire::pb::identity::{
    self as pb, GetPatientRequest, GetPersonHistoryRequest, MatchPatientRequest, PatientCriteria,
    PersonEventKind, QueryIdentifiersRequest, SearchPatientsRequest, TextMatch,
    get_patient_request, get_person_history_request, query_identifiers_request,
};

#[derive(Args, Debug)]
pub(crate) struct Query {
    #[arg(value_name = "PATIENT", help = PATIENT_HELP)]
    patient: PatientArg,
    /// Only identifiers of this domain; repeat for several
    #[arg(long = "domain", value_name = "OID")]
    domains: Vec<String>,
}

impl Query {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        use query_identifiers_request::Subject;
        for domain in &self.domains {
            let parsed = domain.parse::<Oid>();
            parsed.map_err(|error| Problem::new(format!("--domain {domain:?}: {error}")))?;
        }
        let request = QueryIdentifiersRequest {
            subject: Some(match self.patient {
                PatientArg::Identifier(one) => Subject::Identifier(one),
                PatientArg::Linkage(id) => Subject::LinkageId(id),
            }),
            target_domains: self.domains,
        };
        let answer = session
            .identity()
            .query_identifiers(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            text.field("Linkage id", &answer.linkage_id);
            text.field("Now", cx_or_none(answer.superseded_by.as_ref()));
            text.field("Communities", answer.home_community_ids.join(", "));
            match answer.identifiers.as_slice() {
                [] => text.line("No identifier in the domains asked for."),
                some => {
                    text.gap();
                    text.table(&show::identifiers(some));
                }
            }
        })?;
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Search {
    /// Family name in any script, or its start
    #[arg(long, value_name = "NAME")]
    family: Option<String>,
    /// Given name in any script, or its start
    #[arg(long, value_name = "NAME")]
    given: Option<String>,
    /// Whole name, when it is not known how it splits
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How names are compared
    #[arg(long, value_name = "HOW", ignore_case = true, value_parser = args::one_of::<TextMatch>())]
    compare: Option<TextMatch>,
    /// Birth date: YYYY-MM-DD, YYYY-MM or YYYY
    #[arg(long, value_name = "DATE")]
    birth: Option<String>,
    /// Born on that day or later
    #[arg(long, value_name = "DATE")]
    born_from: Option<String>,
    /// Born on that day or earlier
    #[arg(long, value_name = "DATE")]
    born_to: Option<String>,
    /// Administrative gender: male, female, other, unknown
    #[arg(long, value_name = "SEX")]
    sex: Option<String>,
    /// Address, or a part of it
    #[arg(long, value_name = "TEXT")]
    address: Option<String>,
    /// Postal code
    #[arg(long, value_name = "CODE")]
    postal_code: Option<String>,
    /// Telephone number or e-mail address
    #[arg(long, value_name = "NUMBER")]
    phone: Option<String>,
    #[arg(long = "id", value_name = "CX", value_parser = args::identifier, help = args::IDENTIFIER_HELP)]
    identifiers: Vec<Identifier>,
    /// Only people with an identifier in this domain; repeat for several
    #[arg(long = "domain", value_name = "OID")]
    domains: Vec<String>,
    /// Leave out matches with a lower score, 0 to 1
    #[arg(
        long,
        value_name = "SCORE",
        default_value_t = 0.0,
        hide_default_value = true
    )]
    min_score: f64,
    /// Records too that were merged away or withdrawn
    #[arg(long)]
    inactive: bool,
    #[command(flatten)]
    limit: Limit,
}

impl Search {
    fn criteria(&self) -> Result<PatientCriteria> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let sex = self.sex.as_deref().map(gender).transpose()?;
        let address = self.address.is_some() || self.postal_code.is_some();
        Ok(PatientCriteria {
            identifiers: self.identifiers.clone(),
            family: text(&self.family),
            given: text(&self.given),
            name_text: text(&self.name),
            name_match: self.compare.unwrap_or_default().into(),
            birth_date: text(&self.birth),
            birth_date_from: text(&self.born_from),
            birth_date_to: text(&self.born_to),
            administrative_gender: sex.unwrap_or_default().into(),
            address: address.then(|| pb::Address {
                text: text(&self.address),
                postal_code: text(&self.postal_code),
                ..pb::Address::default()
            }),
            telecom: text(&self.phone),
            ..PatientCriteria::default()
        })
    }

    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let criteria = self.criteria()?;
        if criteria == PatientCriteria::default() {
            let problem = Problem::new("nothing to search by");
            return Err(problem
                .hint("give --family, --birth, --id or the like")
                .into());
        }
        let mut client = session.identity();
        let mut pages = self.limit.pages();
        let mut found = Vec::new();
        let mut total;
        loop {
            let request = SearchPatientsRequest {
                criteria: Some(criteria.clone()),
                return_domains: self.domains.clone(),
                min_score: self.min_score,
                include_inactive: self.inactive,
                page_size: pages.size,
                page_token: pages.token.clone(),
            };
            let page = client.search_patients(request).await?.into_inner();
            out.json(&page)?;
            let more = pages.turn(&page.next_page_token, page.matches.len());
            total = page.total_size;
            found.extend(page.matches);
            if !more {
                break;
            }
        }
        out.human(|text| {
            text.table(&show::candidates(&found));
            text.line(format!("{} of {total} found", found.len()));
        })?;
        pages.tell();
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Match {
    #[command(flatten)]
    record: PatientRecord,
    /// Nothing, if more than one person could be meant for certain
    #[arg(long)]
    certain: bool,
    /// At most so many candidates, 50 at most
    #[arg(long, value_name = "N", default_value_t = 10)]
    count: u32,
}

impl Match {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = MatchPatientRequest {
            patient: Some(self.record.patient()?),
            only_certain_matches: self.certain,
            count: self.count,
        };
        let answer = session
            .identity()
            .match_patient(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            text.table(&show::candidates(&answer.candidates));
            if answer.candidates.is_empty() {
                text.line("Nobody matches.");
            }
            for candidate in answer.candidates.iter().take(1) {
                text.gap();
                text.line("Evidence for the first:");
                show::evidence(text, candidate.evidence.as_ref());
            }
            text.field("Would tell apart", answer.attributes_requested.join(", "));
        })?;
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    #[arg(value_name = "PATIENT", help = PATIENT_HELP)]
    patient: PatientArg,
}

impl Show {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        use get_patient_request::Subject;
        let request = GetPatientRequest {
            subject: Some(match self.patient {
                PatientArg::Identifier(one) => Subject::Identifier(one),
                PatientArg::Linkage(id) => Subject::LinkageId(id),
            }),
        };
        let answer = session.identity().get_patient(request).await?.into_inner();
        out.answer(&answer, |text| {
            if let Some(person) = &answer.person {
                show::person(text, person);
            }
        })?;
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
pub(crate) struct History {
    #[arg(value_name = "PATIENT", help = PATIENT_HELP)]
    patient: PatientArg,
    /// As it was at that time: YYYY-MM-DD or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = args::time)]
    as_of: Option<prost_types::Timestamp>,
    #[command(flatten)]
    limit: Limit,
}

impl History {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        use get_person_history_request::Subject;
        let subject = match self.patient {
            PatientArg::Identifier(one) => Subject::Identifier(one),
            PatientArg::Linkage(id) => Subject::LinkageId(id),
        };
        let mut client = session.identity();
        let mut pages = self.limit.pages();
        let mut table = Table::new(["Sequence", "When", "What", "Identifiers", "By", "Why"]);
        let mut linked;
        loop {
            let request = GetPersonHistoryRequest {
                subject: Some(subject.clone()),
                as_of: self.as_of,
                page_size: pages.size,
                page_token: pages.token.clone(),
            };
            let page = client.get_person_history(request).await?.into_inner();
            out.json(&page)?;
            let more = pages.turn(&page.next_page_token, page.events.len());
            page.events
                .iter()
                .for_each(|event| add_event(&mut table, event));
            linked = page.identifiers;
            if !more {
                break;
            }
        }
        out.human(|text| {
            text.table(&table);
            text.gap();
            text.line("Linked at that time:");
            text.table(&show::identifiers(&linked));
        })?;
        pages.tell();
        Ok(Done::All)
    }
}

fn add_event(table: &mut Table, event: &pb::PersonEvent) {
    let rule = event
        .evidence
        .as_ref()
        .map(|evidence| evidence.rule.clone());
    let actor = match &event.actor {
        Some(actor) => names::person(Some(actor)),
        None => "matcher".to_owned(),
    };
    table.row([
        event.sequence.to_string(),
        time(event.recorded.as_ref()),
        label::<PersonEventKind>(event.kind),
        join(event.identifiers.iter().map(cx), ", "),
        actor,
        join([event.reason.clone(), rule.unwrap_or_default()], "; "),
    ]);
}
