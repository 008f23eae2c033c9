//! `renkei audit`: who did what with whose record.

mod verify;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::args::{self, Limit, PATIENT_HELP, PatientArg};
use super::client::Session;
use super::completeness;
use super::connection::Connection;
use super::failure::Problem;
use super::names::{self, join, label, time};
use super::output::{Done, Output, Table, note};
use crate::audit::check::ReportCheck;
use crate::audit::note::VerifierKey;
use crate::wire::pb::audit::report_patient_access_response::Part;
use crate::wire::pb::audit::{
    Action, AuditEvent, ExportEventsRequest, ExportFormat, GetCheckpointRequest, Outcome,
    ReportPatientAccessRequest, ReportSummary, SearchEventsRequest, report_patient_access_request,
};
use crate::wire::pb::common::PurposeOfUse;

/// Audit: who saw a patient's record, and any other event
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    renkei audit report --as officer.toml --patient 1.2.392.1:0012\n  \
    renkei audit search --as officer.toml --from 2026-04-01 --outcome denied")]
pub(crate) struct Audit {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell who saw a patient's record, oldest first
    #[command(after_help = "Examples:\n  \
        renkei audit report --as officer.toml --patient 1.2.392.1:0012 --from 2026-01-01\n  \
        renkei audit report --as officer.toml --patient 1.2.392.1:0012 --proofs --json > report.jsonl")]
    Report(Report),
    /// Find events, newest first
    #[command(after_help = "Examples:\n  \
        renkei audit search --as officer.toml --emergency --from 2026-04-01\n  \
        renkei audit search --as operator.toml --method renkei.identity.v1.IdentityService/LinkPatients")]
    Search(Box<Search>),
    /// Take out the institution's own events, oldest first, one a line
    #[command(after_help = "Examples:\n  \
        renkei audit export --as officer.toml > events.jsonl\n  \
        renkei audit export --as officer.toml --from 120000 --dicom")]
    Export(Export),
    /// Print the log's newest checkpoint and the node's keys: keep them somewhere else
    #[command(after_help = "Example:\n  renkei audit checkpoint --as officer.toml > kept.txt")]
    Checkpoint,
    /// Check a node's log from its files alone; exit status 1 if anything is wrong
    #[command(after_help = "Examples:\n  \
        renkei audit verify --config region.toml\n  \
        renkei audit verify --data-dir DATA --root-key ROOT_KEY --checkpoint kept.txt --json")]
    Verify(verify::Verify),
}

#[derive(Args, Debug)]
struct Report {
    #[arg(long, value_name = "PATIENT", help = PATIENT_HELP)]
    patient: PatientArg,
    /// Recorded then or later: YYYY-MM-DD or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = args::time)]
    from: Option<prost_types::Timestamp>,
    /// Recorded before then
    #[arg(long, value_name = "TIME", value_parser = args::time)]
    to: Option<prost_types::Timestamp>,
    /// With proofs that each event is in the log and that there are no others; they are verified
    #[arg(long)]
    proofs: bool,
    /// The log's public key as you know it; absent: the one the node says it has
    #[arg(long, value_name = "KEY", requires = "proofs")]
    public_key: Option<VerifierKey>,
}

impl Report {
    async fn run(self, session: Session, out: Output) -> Result<Done> {
        use report_patient_access_request::Patient;
        let of_a_part = self.from.is_some() || self.to.is_some();
        let request = ReportPatientAccessRequest {
            patient: Some(match self.patient {
                PatientArg::Identifier(one) => Patient::PatientId(one),
                PatientArg::Linkage(id) => Patient::LinkageId(id),
            }),
            from: self.from,
            to: self.to,
            with_proofs: self.proofs,
        };
        // A part of the events does not lead to the proof about all of them.
        let mut check = match (self.proofs && !of_a_part, self.public_key) {
            (false, _) => None,
            (true, Some(key)) => Some(ReportCheck::new(key)),
            (true, None) => {
                let request = GetCheckpointRequest::default();
                let told = session.audit().get_checkpoint(request).await?;
                Some(ReportCheck::new(told.into_inner().verifier_key.parse()?))
            }
        };
        let mut stream = session
            .audit()
            .report_patient_access(request)
            .await?
            .into_inner();
        let mut table = events_table();
        let mut summary = None;
        while let Some(message) = stream.message().await? {
            out.json(&message)?;
            match message.part {
                Some(Part::Event(proven)) => {
                    if let Some(check) = &mut check {
                        check.event(&proven)?;
                    }
                    add(&mut table, &proven.event.unwrap_or_default());
                }
                Some(Part::Summary(last)) => summary = Some(last),
                None => {}
            }
        }
        let Some(summary) = summary else {
            return Err(Problem::new("the report was cut off").into());
        };
        let proved = check.map(|check| check.finish(&summary)).transpose()?;
        let counted = of_a_part || usize::try_from(summary.event_count) == Ok(table.len());
        out.human(|text| {
            text.table(&table);
            text.line(format!("{} of {} events", table.len(), summary.event_count));
            if proved.is_some() {
                text.line("Proved: these are all the events about the patient in the log.");
            }
            if !counted {
                text.line("INCOMPLETE: the log has another number of events about the patient");
            }
            match &summary.completeness {
                Some(all) => completeness::show(text, Some(all), false),
                None => text.line("This report is of this node alone."),
            }
        })?;
        Ok(done(&summary, counted))
    }
}

fn done(summary: &ReportSummary, counted: bool) -> Done {
    match &summary.completeness {
        Some(all) if !all.complete => Done::InPart,
        _ if !counted => Done::InPart,
        _ => Done::All,
    }
}

#[derive(Args, Debug)]
struct Export {
    /// From this place in the log on
    #[arg(long, value_name = "PLACE", default_value_t = 0)]
    from: u64,
    /// Before this place; absent: to the end
    #[arg(
        long,
        value_name = "PLACE",
        default_value_t = 0,
        hide_default_value = true
    )]
    to: u64,
    /// As DICOM audit messages instead of FHIR
    #[arg(long)]
    dicom: bool,
}

impl Export {
    async fn run(self, session: Session, out: Output) -> Result<Done> {
        let format = match self.dicom {
            true => ExportFormat::Dicom,
            false => ExportFormat::Fhir,
        };
        let request = ExportEventsRequest {
            from_sequence: self.from,
            to_sequence: self.to,
            format: format.into(),
            follow: false,
        };
        let mut stream = session.audit().export_events(request).await?.into_inner();
        while let Some(event) = stream.message().await? {
            out.json(&event)?;
            out.human(|text| text.line(String::from_utf8_lossy(&event.event)))?;
        }
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
struct Search {
    #[arg(long, value_name = "PATIENT", help = PATIENT_HELP)]
    patient: Option<PatientArg>,
    /// Recorded then or later: YYYY-MM-DD or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = args::time)]
    from: Option<prost_types::Timestamp>,
    /// Recorded before then
    #[arg(long, value_name = "TIME", value_parser = args::time)]
    to: Option<prost_types::Timestamp>,
    /// Only by this institution, 10 digits
    #[arg(
        long,
        value_name = "CODE",
        default_value = "",
        hide_default_value = true
    )]
    institution: String,
    /// Only by this person
    #[arg(
        long,
        value_name = "SUBJECT",
        default_value = "",
        hide_default_value = true
    )]
    person: String,
    /// Only this method; repeat for several
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    /// Only with this outcome; repeat for several
    #[arg(long = "outcome", value_name = "OUTCOME", ignore_case = true, value_parser = args::one_of::<Outcome>())]
    outcomes: Vec<Outcome>,
    /// Only with this purpose; repeat for several
    #[arg(long = "with-purpose", value_name = "PURPOSE", ignore_case = true, value_parser = args::one_of::<PurposeOfUse>())]
    purposes: Vec<PurposeOfUse>,
    /// Only access by break-glass or in a disaster
    #[arg(long)]
    emergency: bool,
    /// Only of this end-to-end request
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
    #[command(flatten)]
    limit: Limit,
}

impl Search {
    fn request(&self) -> SearchEventsRequest {
        let (patient_id, linkage_id) = match self.patient.clone() {
            Some(PatientArg::Identifier(one)) => (Some(one), String::new()),
            Some(PatientArg::Linkage(id)) => (None, id),
            None => (None, String::new()),
        };
        SearchEventsRequest {
            from: self.from,
            to: self.to,
            institution_id: self.institution.clone(),
            person_subject: self.person.clone(),
            linkage_id,
            methods: self.methods.clone(),
            outcomes: self.outcomes.iter().map(|&one| one.into()).collect(),
            emergency_only: self.emergency,
            request_id: self.request_id.clone(),
            patient_id,
            purposes: self.purposes.iter().map(|&one| one.into()).collect(),
            ..SearchEventsRequest::default()
        }
    }

    async fn run(self, session: Session, out: Output) -> Result<Done> {
        let mut client = session.audit();
        let mut pages = self.limit.pages();
        let mut table = events_table();
        loop {
            let request = SearchEventsRequest {
                page_size: pages.size,
                page_token: pages.token.clone(),
                ..self.request()
            };
            let page = client.search_events(request).await?.into_inner();
            out.json(&page)?;
            let more = pages.turn(&page.next_page_token, page.events.len());
            page.events.iter().for_each(|event| add(&mut table, event));
            if !more {
                break;
            }
        }
        out.human(|text| {
            text.table(&table);
            text.line(format!("{} events", table.len()));
        })?;
        pages.tell();
        Ok(Done::All)
    }
}

/// The note goes to standard output as it is, so that it can be kept in a file; the keys beside it.
async fn checkpoint(session: Session, out: Output) -> Result<Done> {
    let request = GetCheckpointRequest::default();
    let told = session.audit().get_checkpoint(request).await?.into_inner();
    out.json(&told)?;
    out.human(|text| told.checkpoint.lines().for_each(|line| text.line(line)))?;
    note(&format!("log     {}", told.verifier_key));
    note(&format!("witness {}", told.witness_key));
    Ok(Done::All)
}

fn events_table() -> Table {
    Table::new([
        "Sequence",
        "Recorded",
        "Outcome",
        "Person",
        "Institution",
        "What",
        "Action",
        "Purpose",
        "Shown",
        "Emergency",
        "Relayed by",
        "Request",
    ])
}

fn add(table: &mut Table, event: &AuditEvent) {
    let outcome = label::<Outcome>(event.outcome);
    let what = event.method.rsplit('.').next().unwrap_or(&event.method);
    let emergency = match (event.emergency, event.drill) {
        (true, _) => "yes",
        (false, true) => "drill",
        (false, false) => "",
    };
    let shown = match event.disclosed_count {
        0 => String::new(),
        count => count.to_string(),
    };
    table.row([
        event.sequence.to_string(),
        time(event.recorded.as_ref()),
        join([&outcome, &event.reason, &event.internal_reason], ", "),
        names::person(event.person.as_ref()),
        names::institution(event.institution.as_ref()),
        join([what, &event.transaction], " "),
        label::<Action>(event.action),
        label::<PurposeOfUse>(event.purpose),
        shown,
        join([emergency, &event.grant_id], " "),
        event.relayed_by.clone(),
        event.request_id.clone(),
    ]);
}

impl Audit {
    pub(crate) async fn run(self, out: Output) -> Result<Done> {
        let session = match &self.command {
            Command::Verify(command) => return command.run(out),
            Command::Report(_) | Command::Search(_) | Command::Export(_) | Command::Checkpoint => {
                self.connection.open().await?
            }
        };
        match self.command {
            Command::Report(command) => command.run(session, out).await,
            Command::Search(command) => command.run(session, out).await,
            Command::Export(command) => command.run(session, out).await,
            Command::Checkpoint => checkpoint(session, out).await,
            Command::Verify(_) => Ok(Done::All),
        }
    }
}
