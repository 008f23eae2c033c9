//! `renkei patient discover`: asking communities that do not feed the hub.

use anyhow::Result;
use clap::Args;

use crate::cli::args::{PATIENT_HELP, PatientArg};
use crate::cli::client::Session;
use crate::cli::completeness;
use crate::cli::failure::Problem;
use crate::cli::names::{cx_or_none, elapsed};
use crate::cli::output::{Done, Output, Table};
use crate::wire::pb::federation::initiating_gateway_service_discover_patient_response::Part;
use crate::wire::pb::federation::{
    DiscoveryAnswer, InitiatingGatewayServiceDiscoverPatientRequest, RegionScope,
};
use crate::wire::pb::identity::Patient;

#[derive(Args, Debug)]
pub(crate) struct Discover {
    #[arg(value_name = "PATIENT", help = PATIENT_HELP)]
    patient: PatientArg,
    /// Ask this community (homeCommunityId); repeat for several
    #[arg(
        long = "region",
        value_name = "OID",
        required_unless_present = "broadcast"
    )]
    regions: Vec<String>,
    /// Ask all that do not feed the hub: in emergencies only, and ten times a minute at most
    #[arg(long, conflicts_with = "regions")]
    broadcast: bool,
    /// Hours for which an answer is wanted: so long the community is asked like any other
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    keep: u32,
}

impl Discover {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let PatientArg::Identifier(identifier) = self.patient else {
            return Err(Problem::new("PATIENT: give an identifier").into());
        };
        let request = InitiatingGatewayServiceDiscoverPatientRequest {
            patient: Some(Patient {
                identifier: Some(identifier),
                ..Patient::default()
            }),
            scope: Some(RegionScope {
                home_community_ids: self.regions,
                broadcast: self.broadcast,
            }),
            correlation_lifetime: Some(prost_types::Duration {
                seconds: i64::from(self.keep) * 3_600,
                nanos: 0,
            }),
        };
        let mut client = session.federation();
        let mut stream = client.discover_patient(request).await?.into_inner();
        let (mut answers, mut complete) = (Vec::new(), None);
        while let Some(message) = stream.message().await? {
            out.json(&message)?;
            match message.part {
                Some(Part::Answer(answer)) => answers.push(answer),
                Some(Part::Completeness(all)) => complete = Some(all),
                Some(Part::Region(_)) | None => {}
            }
        }
        out.human(|text| {
            text.table(&table(&answers));
            for answer in answers
                .iter()
                .filter(|one| !one.attributes_requested.is_empty())
            {
                let wanted = answer.attributes_requested.join(", ");
                text.line(format!(
                    "{} would know with: {wanted}",
                    answer.home_community_id
                ));
            }
            completeness::show(text, complete.as_ref(), true);
        })?;
        Ok(completeness::done(complete.as_ref()))
    }
}

fn table(answers: &[DiscoveryAnswer]) -> Table {
    let mut table = Table::new(["Community", "Identifier there", "Sure", "Kept for"]);
    for answer in answers {
        for one in &answer.patients {
            table.row([
                answer.home_community_id.clone(),
                cx_or_none(one.patient_id.as_ref()),
                format!("{} %", one.match_degree),
                elapsed(answer.correlation_lifetime.as_ref()),
            ]);
        }
    }
    table
}
