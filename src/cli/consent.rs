//! `renkei consent`: what patients allow and forbid.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::args::{self, Limit, PATIENT_HELP, PatientArg};
use super::client::Session;
use super::connection::Connection;
use super::idempotency_key;
use super::names::{self, join, label, labels, time};
use super::output::{Done, Output, Table};
use crate::wire::pb::common::{CodedValue, PurposeOfUse};
use crate::wire::pb::consent::{
    Consent as Recorded, ConsentEffect, ConsentModel, ConsentStatus, DataClass, Evidence,
    ListConsentsRequest, Party, RecordConsentRequest, WithdrawConsentRequest,
    list_consents_request,
};

/// Consent: record what a patient allows or forbids, withdraw it, list it
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    renkei consent opt-out --as clerk.toml --patient 1.2.392.1:0012 --form F-2026-117\n  \
    renkei consent list --as clerk.toml --patient 1.2.392.1:0012 --history")]
pub(crate) struct Consent {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Record that the patient forbids sharing
    #[command(after_help = "Examples:\n  \
        renkei consent opt-out --as clerk.toml --patient 1.2.392.1:0012\n  \
        renkei consent opt-out --as clerk.toml --patient 1.2.392.1:0012 --institution 1310000001\n  \
        renkei consent opt-out --as clerk.toml --patient 1.2.392.1:0012 --emergency no")]
    OptOut(Box<Terms>),
    /// Record that the patient allows sharing
    #[command(after_help = "Examples:\n  \
        renkei consent permit --as clerk.toml --patient 1.2.392.1:0012 --model institution_list \\\n      \
        --institution 1310000001 --institution 1310000002 --form F-2026-118 --signed-on 2026-04-01\n  \
        renkei consent permit --as clerk.toml --patient 1.2.392.1:0012 --emergency yes")]
    Permit(Box<Terms>),
    /// Withdraw a consent, in force at once
    #[command(after_help = "Example:\n  \
        renkei consent withdraw --as clerk.toml CONSENT --because '本人の申し出'")]
    Withdraw(Withdraw),
    /// List a patient's consents
    #[command(after_help = "Example:\n  \
        renkei consent list --as clerk.toml --patient 1.2.392.1:0012 --history --json")]
    List(List),
}

/// What a consent says.
#[derive(Args, Debug)]
struct Terms {
    #[arg(long, value_name = "PATIENT", help = PATIENT_HELP)]
    patient: PatientArg,
    /// How it was asked for
    #[arg(long, value_name = "MODEL", default_value = "COMMUNITY", ignore_case = true, value_parser = args::one_of::<ConsentModel>())]
    model: ConsentModel,
    /// Only this institution may see, or may not; repeat for several
    #[arg(long = "institution", value_name = "CODE", value_parser = args::institution_code)]
    institutions: Vec<String>,
    /// Only this community may see, or may not (homeCommunityId); repeat for several
    #[arg(long = "grantee-community", value_name = "OID")]
    communities: Vec<String>,
    /// Only these data; repeat for several
    #[arg(long = "data", value_name = "CLASS", ignore_case = true, value_parser = args::one_of::<DataClass>())]
    data_classes: Vec<DataClass>,
    /// Only documents of this class or type, SYSTEM|CODE; repeat for several
    #[arg(long = "document", value_name = "CODE", value_parser = args::code)]
    documents: Vec<CodedValue>,
    /// Only for this purpose; repeat for several [default: treatment]
    #[arg(long = "for-purpose", value_name = "PURPOSE", ignore_case = true, value_parser = args::one_of::<PurposeOfUse>())]
    purposes: Vec<PurposeOfUse>,
    /// Whether it may be read in an emergency when the patient cannot be asked: yes or no
    #[arg(long, value_name = "YES|NO", value_parser = ["yes", "no"])]
    emergency: Option<String>,
    /// In force from: YYYY-MM-DD or RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = args::time)]
    from: Option<prost_types::Timestamp>,
    /// In force to
    #[arg(long, value_name = "TIME", value_parser = args::time)]
    to: Option<prost_types::Timestamp>,
    /// Id of the paper 同意書
    #[arg(long, value_name = "ID")]
    form: Option<String>,
    /// When it was signed, YYYY-MM-DD
    #[arg(long, value_name = "DATE")]
    signed_on: Option<String>,
    /// Witness, if it was said and not written
    #[arg(long, value_name = "NAME")]
    oral_witness: Option<String>,
    /// Consent that this one replaces
    #[arg(long, value_name = "CONSENT")]
    supersedes: Option<String>,
}

impl Terms {
    async fn run(self, effect: ConsentEffect, session: Session, out: Output) -> Result<Done> {
        let consent = self.consent(effect, session.community());
        let request = RecordConsentRequest {
            consent: Some(consent),
            idempotency_key: idempotency_key(),
        };
        let answer = session
            .consent()
            .record_consent(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            let recorded = answer.consent.clone().unwrap_or_default();
            text.field("Consent", &recorded.consent_id);
            text.field("Effect", label::<ConsentEffect>(recorded.effect));
            text.field("Status", label::<ConsentStatus>(recorded.status));
            text.field("Recorded", time(recorded.recorded.as_ref()));
        })?;
        Ok(Done::All)
    }

    fn consent(self, effect: ConsentEffect, community: &str) -> Recorded {
        let institutions = self.institutions.into_iter().map(|institution_id| Party {
            institution_id,
            ..Party::default()
        });
        let communities = self.communities.into_iter().map(|home_community_id| Party {
            home_community_id,
            ..Party::default()
        });
        let evidence = Evidence {
            form_id: self.form.unwrap_or_default(),
            signed_on: self.signed_on.unwrap_or_default(),
            oral_witness: self.oral_witness.unwrap_or_default(),
            ..Evidence::default()
        };
        let (patient_id, linkage_id) = match self.patient {
            PatientArg::Identifier(one) => (Some(one), String::new()),
            PatientArg::Linkage(id) => (None, id),
        };
        Recorded {
            linkage_id,
            patient_id,
            home_community_id: community.to_owned(),
            model: self.model.into(),
            effect: effect.into(),
            grantees: institutions.chain(communities).collect(),
            data_classes: self.data_classes.into_iter().map(Into::into).collect(),
            document_codes: self.documents,
            purposes: self.purposes.into_iter().map(Into::into).collect(),
            valid_from: self.from,
            valid_to: self.to,
            evidence: (evidence != Evidence::default()).then_some(evidence),
            emergency_preconsent: self.emergency.map(|answer| answer == "yes"),
            supersedes: self.supersedes.unwrap_or_default(),
            ..Recorded::default()
        }
    }
}

#[derive(Args, Debug)]
struct Withdraw {
    /// Id of the consent
    #[arg(value_name = "CONSENT")]
    consent_id: String,
    /// Why
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    because: String,
    /// It was recorded wrongly
    #[arg(long)]
    entered_in_error: bool,
}

impl Withdraw {
    async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = WithdrawConsentRequest {
            consent_id: self.consent_id,
            reason: self.because,
            evidence: None,
            entered_in_error: self.entered_in_error,
            idempotency_key: idempotency_key(),
        };
        let answer = session
            .consent()
            .withdraw_consent(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            let recorded = answer.consent.clone().unwrap_or_default();
            text.field("Status", label::<ConsentStatus>(recorded.status));
            text.field("Withdrawn", time(recorded.withdrawn.as_ref()));
        })?;
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
struct List {
    #[arg(long, value_name = "PATIENT", help = PATIENT_HELP)]
    patient: PatientArg,
    /// Former ones too
    #[arg(long)]
    history: bool,
    #[command(flatten)]
    limit: Limit,
}

impl List {
    async fn run(self, session: Session, out: Output) -> Result<Done> {
        use list_consents_request::Patient;
        let patient = match self.patient {
            PatientArg::Identifier(one) => Patient::PatientId(one),
            PatientArg::Linkage(id) => Patient::LinkageId(id),
        };
        let mut client = session.consent();
        let mut pages = self.limit.pages();
        let mut table = Table::new([
            "Consent",
            "Effect",
            "Status",
            "Model",
            "Who",
            "What",
            "Purposes",
            "Emergency",
            "From",
            "To",
            "Recorded",
            "By",
        ]);
        loop {
            let request = ListConsentsRequest {
                patient: Some(patient.clone()),
                include_history: self.history,
                page_size: pages.size,
                page_token: pages.token.clone(),
            };
            let page = client.list_consents(request).await?.into_inner();
            out.json(&page)?;
            let more = pages.turn(&page.next_page_token, page.consents.len());
            page.consents
                .iter()
                .for_each(|consent| add(&mut table, consent));
            if !more {
                break;
            }
        }
        out.human(|text| {
            text.table(&table);
            text.line(format!("{} consents", table.len()));
        })?;
        pages.tell();
        Ok(Done::All)
    }
}

fn add(table: &mut Table, consent: &Recorded) {
    let emergency = match consent.emergency_preconsent {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    let codes = consent
        .document_codes
        .iter()
        .map(|code| names::coded(Some(code)));
    let documents = join(codes, ", ");
    table.row([
        consent.consent_id.clone(),
        label::<ConsentEffect>(consent.effect),
        label::<ConsentStatus>(consent.status),
        label::<ConsentModel>(consent.model),
        join(consent.grantees.iter().map(party), "; "),
        join(
            [labels::<DataClass>(&consent.data_classes), documents],
            ", ",
        ),
        labels::<PurposeOfUse>(&consent.purposes),
        emergency.to_owned(),
        time(consent.valid_from.as_ref()),
        time(consent.valid_to.as_ref()),
        time(consent.recorded.as_ref()),
        names::person(consent.recorded_by.as_ref()),
    ]);
}

fn party(party: &Party) -> String {
    let parts = [
        &party.institution_id,
        &party.home_community_id,
        &party.person_subject,
        &party.role,
    ];
    join(parts, " ")
}

impl Consent {
    pub(crate) async fn run(self, out: Output) -> Result<Done> {
        let session = self.connection.open().await?;
        match self.command {
            Command::OptOut(terms) => terms.run(ConsentEffect::Deny, session, out).await,
            Command::Permit(terms) => terms.run(ConsentEffect::Permit, session, out).await,
            Command::Withdraw(command) => command.run(session, out).await,
            Command::List(command) => command.run(session, out).await,
        }
    }
}
