//! `renkei directory show`: the members.

use anyhow::Result;
use clap::Args;

use super::name;
use crate::cli::args::Limit;
use crate::cli::client::Session;
use crate::cli::names::{join, label, labels};
use crate::cli::output::{Done, Output, Table};
use crate::wire::pb::common::PurposeOfUse;
use crate::wire::pb::directory::{
    Community, CommunityKind, Institution, InstitutionKind, ListCommunitiesRequest,
    ListInstitutionsRequest, MemberStatus,
};

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// Only this community (homeCommunityId)
    #[arg(
        long,
        value_name = "OID",
        default_value = "",
        hide_default_value = true
    )]
    community: String,
    /// Only institutions whose name or code has this
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    text: String,
    #[command(flatten)]
    limit: Limit,
}

impl Show {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let communities = self.communities(&session, out).await?;
        let institutions = self.institutions(&session, out).await?;
        out.human(|text| {
            text.table(&communities);
            text.gap();
            text.table(&institutions);
            text.line(format!(
                "{} communities, {} institutions",
                communities.len(),
                institutions.len()
            ));
        })?;
        Ok(Done::All)
    }

    async fn communities(&self, session: &Session, out: Output) -> Result<Table> {
        let mut client = session.directory();
        let mut pages = self.limit.pages();
        let mut table = Table::new([
            "Community",
            "Name",
            "Kind",
            "Status",
            "Endpoint",
            "Domains",
            "Repositories",
            "Parent",
        ]);
        loop {
            let request = ListCommunitiesRequest {
                kinds: Vec::new(),
                page_size: pages.size,
                page_token: pages.token.clone(),
            };
            let page = client.list_communities(request).await?.into_inner();
            out.json(&page)?;
            let more = pages.turn(&page.next_page_token, page.communities.len());
            let wanted = |one: &&Community| {
                self.community.is_empty() || one.home_community_id == self.community
            };
            let found = page.communities.iter().filter(wanted);
            found.for_each(|one| add_community(&mut table, one, !self.community.is_empty()));
            if !more {
                break;
            }
        }
        pages.tell();
        Ok(table)
    }

    async fn institutions(&self, session: &Session, out: Output) -> Result<Table> {
        let mut client = session.directory();
        let mut pages = self.limit.pages();
        let mut table = Table::new([
            "Institution",
            "Name",
            "Kind",
            "Status",
            "Community",
            "Emergency",
            "Pins",
            "Roles",
            "Purposes",
        ]);
        loop {
            let request = ListInstitutionsRequest {
                home_community_id: self.community.clone(),
                kinds: Vec::new(),
                text: self.text.clone(),
                page_size: pages.size,
                page_token: pages.token.clone(),
            };
            let page = client.list_institutions(request).await?.into_inner();
            out.json(&page)?;
            let more = pages.turn(&page.next_page_token, page.institutions.len());
            page.institutions
                .iter()
                .for_each(|one| add_institution(&mut table, one));
            if !more {
                break;
            }
        }
        pages.tell();
        Ok(table)
    }
}

/// Adds a community; its assigning authorities are only counted unless `whole`.
fn add_community(table: &mut Table, one: &Community, whole: bool) {
    let authorities = one.assigning_authorities.iter();
    let domains = match (whole, authorities.len()) {
        (true, _) | (false, 1) => join(authorities.map(|authority| &authority.oid), ", "),
        (false, count) => count.to_string(),
    };
    table.row([
        one.home_community_id.clone(),
        name(one.name.as_ref()),
        label::<CommunityKind>(one.kind),
        label::<MemberStatus>(one.status),
        join(one.endpoints.iter().map(|endpoint| &endpoint.address), ", "),
        domains,
        one.repository_unique_ids.join(", "),
        one.parent_home_community_id.clone(),
    ]);
}

fn add_institution(table: &mut Table, one: &Institution) {
    table.row([
        one.institution_id.clone(),
        name(one.name.as_ref()),
        label::<InstitutionKind>(one.kind),
        label::<MemberStatus>(one.status),
        one.home_community_id.clone(),
        if one.emergency {
            "yes".to_owned()
        } else {
            String::new()
        },
        one.certificates.len().to_string(),
        one.allowed_roles.join(", "),
        labels::<PurposeOfUse>(&one.allowed_purposes),
    ]);
}
