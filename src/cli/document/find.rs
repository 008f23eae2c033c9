//! `renkei document find` and `locate`: what there is of a patient, here or in all regions.

use anyhow::Result;
use clap::Args;

use super::metadata::dtm;
use super::show;
use crate::cli::args::{self, Limit, PATIENT_HELP, PatientArg};
use crate::cli::client::Session;
use crate::cli::completeness;
use crate::cli::failure::Problem;
use crate::cli::names::{cx_or_none, join, time};
use crate::cli::output::{Done, Output, Table, note};
use crate::wire::pb::common::{CodedValue, Identifier};
use crate::wire::pb::documents::stored_query::Query;
use crate::wire::pb::documents::{
    AvailabilityStatus, DocumentFilter, FindDocumentsQuery, ObjectType, QueryRegistryRequest,
    RegistryError, RegistryObjects, StoredQuery, TimeRange,
};
use crate::wire::pb::federation::initiating_gateway_service_find_documents_response::Part;
use crate::wire::pb::federation::{
    InitiatingGatewayServiceFindDocumentsRequest, LocateHoldingsRequest, RegionScope,
    locate_holdings_request,
};

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command")]
pub(crate) struct Find {
    #[arg(long, value_name = "PATIENT", help = PATIENT_HELP)]
    patient: PatientArg,
    /// Ask every region that knows the patient, through the gateway; exit status 3 if one is missing
    #[arg(long)]
    all_regions: bool,
    /// Ask only this region (homeCommunityId); repeat for several
    #[arg(long = "region", value_name = "OID", requires = "all_regions")]
    regions: Vec<String>,
    /// Ask regions too that are not known to know the patient; in an emergency only
    #[arg(long, requires = "all_regions")]
    broadcast: bool,
    /// Only of this class, SYSTEM|CODE; repeat for several
    #[arg(long = "class", value_name = "CODE", value_parser = args::code)]
    classes: Vec<CodedValue>,
    /// Only of this type, SYSTEM|CODE; repeat for several
    #[arg(long = "type", value_name = "CODE", value_parser = args::code)]
    types: Vec<CodedValue>,
    /// Only of this format, SYSTEM|CODE; repeat for several
    #[arg(long = "format", value_name = "CODE", value_parser = args::code)]
    formats: Vec<CodedValue>,
    /// Only of this media type; repeat for several
    #[arg(long = "mime", value_name = "TYPE")]
    mimes: Vec<String>,
    /// Only by this institution, 10 digits; repeat for several
    #[arg(long = "author-institution", value_name = "CODE")]
    institutions: Vec<String>,
    /// Only with these words in title or comments
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    text: String,
    /// Made then or later: DTM (UTC), or a time with its zone
    #[arg(long, value_name = "TIME", value_parser = dtm)]
    from: Option<String>,
    /// Made before then
    #[arg(long, value_name = "TIME", value_parser = dtm)]
    to: Option<String>,
    /// Deprecated documents too
    #[arg(long)]
    deprecated: bool,
    /// Documents too that are made when they are retrieved
    #[arg(long)]
    on_demand: bool,
    #[command(flatten)]
    limit: Limit,
}

impl Find {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        match self.all_regions {
            true => self.everywhere(session, out).await,
            false => self.here(session, out).await,
        }
    }

    fn filter(&self) -> DocumentFilter {
        let mut statuses = vec![AvailabilityStatus::Approved.into()];
        if self.deprecated {
            statuses.push(AvailabilityStatus::Deprecated.into());
        }
        let mut object_types = Vec::new();
        if self.on_demand {
            object_types = vec![ObjectType::Stable.into(), ObjectType::OnDemand.into()];
        }
        let ranged = self.from.is_some() || self.to.is_some();
        DocumentFilter {
            statuses,
            object_types,
            class_codes: self.classes.clone(),
            type_codes: self.types.clone(),
            format_codes: self.formats.clone(),
            mime_types: self.mimes.clone(),
            author_institution_ids: self.institutions.clone(),
            text: self.text.clone(),
            creation_time: ranged.then(|| TimeRange {
                from: self.from.clone().unwrap_or_default(),
                to: self.to.clone().unwrap_or_default(),
            }),
            ..DocumentFilter::default()
        }
    }

    fn query(&self, patient_id: Option<Identifier>) -> StoredQuery {
        StoredQuery {
            query: Some(Query::FindDocuments(FindDocumentsQuery {
                patient_id,
                filter: Some(self.filter()),
                exclude: None,
            })),
            ..StoredQuery::default()
        }
    }

    async fn here(&self, session: Session, out: Output) -> Result<Done> {
        let PatientArg::Identifier(patient) = &self.patient else {
            let problem = Problem::new("--patient: a registry knows identifiers only");
            return Err(problem.hint("give an identifier, or --all-regions").into());
        };
        let query = self.query(Some(patient.clone()));
        let mut client = session.documents();
        let mut pages = self.limit.pages();
        let mut entries = Vec::new();
        let mut total;
        loop {
            let request = QueryRegistryRequest {
                query: Some(query.clone()),
                page_size: pages.size,
                page_token: pages.token.clone(),
                ..QueryRegistryRequest::default()
            };
            let page = client.query_registry(request).await?.into_inner();
            out.json(&page)?;
            warn(&page.warnings);
            total = page.counts.map_or(0, |counts| counts.entries);
            let found = page.objects.unwrap_or_default().entries;
            let more = pages.turn(&page.next_page_token, found.len());
            entries.extend(found);
            if !more {
                break;
            }
        }
        out.human(|text| {
            text.table(&show::entries(&entries));
            let total = total.max(u64::try_from(entries.len()).unwrap_or(u64::MAX));
            text.line(format!("{} of {total} documents", entries.len()));
        })?;
        pages.tell();
        Ok(Done::All)
    }

    async fn everywhere(&self, session: Session, out: Output) -> Result<Done> {
        let (patient, linkage_id) = match self.patient.clone() {
            PatientArg::Identifier(one) => (Some(one), String::new()),
            PatientArg::Linkage(id) => (None, id),
        };
        let scope = RegionScope {
            home_community_ids: self.regions.clone(),
            broadcast: self.broadcast,
        };
        let request = InitiatingGatewayServiceFindDocumentsRequest {
            query: Some(self.query(patient)),
            linkage_id,
            scope: (scope != RegionScope::default()).then_some(scope),
            ..InitiatingGatewayServiceFindDocumentsRequest::default()
        };
        let mut stream = session
            .federation()
            .find_documents(request)
            .await?
            .into_inner();
        let mut found = RegistryObjects::default();
        let mut errors = Vec::new();
        let mut complete = None;
        while let Some(message) = stream.message().await? {
            out.json(&message)?;
            match message.part {
                Some(Part::Objects(more)) => {
                    found.entries.extend(more.entries);
                    found.object_refs.extend(more.object_refs);
                }
                Some(Part::Error(error)) => errors.push(error),
                Some(Part::Completeness(all)) => complete = Some(all),
                Some(Part::Region(_)) | None => {}
            }
        }
        warn(&errors);
        found
            .entries
            .sort_by(|a, b| b.creation_time.cmp(&a.creation_time));
        out.human(|text| {
            text.table(&show::entries(&found.entries));
            text.table(&show::references(&found.object_refs));
            text.line(format!("{} documents", show::count(&found)));
            text.gap();
            completeness::show(text, complete.as_ref(), true);
        })?;
        Ok(completeness::done(complete.as_ref()))
    }
}

fn warn(errors: &[RegistryError]) {
    for error in errors {
        note(&join([&error.code, &error.context, &error.location], " "));
    }
}

#[derive(Args, Debug)]
pub(crate) struct Locate {
    #[arg(value_name = "PATIENT", help = PATIENT_HELP)]
    patient: PatientArg,
}

impl Locate {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        use locate_holdings_request::Patient;
        let request = LocateHoldingsRequest {
            passes: false,
            patient: Some(match self.patient {
                PatientArg::Identifier(one) => Patient::PatientId(one),
                PatientArg::Linkage(id) => Patient::LinkageId(id),
            }),
        };
        let answer = session
            .federation()
            .locate_holdings(request)
            .await?
            .into_inner();
        let yes = |yes: bool| if yes { "yes" } else { "" }.to_owned();
        out.answer(&answer, |text| {
            text.field("Linkage id", &answer.linkage_id);
            let mut table = Table::new([
                "Community",
                "Identifier there",
                "Documents",
                "Summary",
                "Confirmed",
                "Stale",
                "Changed",
            ]);
            for holding in &answer.holdings {
                table.row([
                    holding.home_community_id.clone(),
                    cx_or_none(holding.patient_id.as_ref()),
                    yes(holding.has_documents),
                    yes(holding.has_summary_items),
                    time(holding.confirmed.as_ref()),
                    yes(holding.stale),
                    time(holding.last_changed.as_ref()),
                ]);
            }
            text.table(&table);
            completeness::show(text, answer.completeness.as_ref(), false);
        })?;
        Ok(completeness::done(answer.completeness.as_ref()))
    }
}
