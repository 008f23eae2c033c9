//! People that these tests register, and who changes them.

use renkei::demo::actor::Caller;
use renkei::demo::messages;
use renkei::demo::sample::SampleInstitution;
use renkei::wire::pb::common::Identifier;
use renkei::wire::pb::identity as pb;
use renkei::wire::pb::identity::identity_service_client::IdentityServiceClient;
use tonic::Status;

use crate::support::calls::{feed, identifiers};
use crate::support::{At, Network, steward};

/// The node of the region these tests are about.
pub(super) const HERE: At = At::Region(0);

/// Somebody as a registration desk would type them.
#[derive(Clone, Debug)]
pub(super) struct Somebody {
    pub(super) family: &'static str,
    pub(super) given: &'static str,
    pub(super) birth: &'static str,
    pub(super) phone: &'static str,
}

/// Two people who agree in nothing, and one who agrees with the first in all that is no proof.
pub(super) const HANAKO: Somebody = Somebody {
    family: "佐藤",
    given: "花子",
    birth: "1950-04-01",
    phone: "03-0000-0001",
};
pub(super) const ICHIRO: Somebody = Somebody {
    family: "鈴木",
    given: "一郎",
    birth: "1971-11-23",
    phone: "06-0000-0002",
};
/// As Hanako, with another telephone: a namesake, or herself.
pub(super) const NAMESAKE: Somebody = Somebody {
    phone: "052-000-0003",
    ..HANAKO
};

/// A record under an institution's identifier.
pub(super) fn patient(id: Identifier, who: &Somebody) -> pb::Patient {
    pb::Patient {
        identifier: Some(id),
        demographics: Some(pb::Demographics {
            names: vec![pb::PersonName {
                family: who.family.to_owned(),
                given: vec![who.given.to_owned()],
                ..pb::PersonName::default()
            }],
            birth_date: who.birth.to_owned(),
            administrative_gender: pb::AdministrativeGender::Female.into(),
            telecoms: vec![pb::Telecom {
                value: who.phone.to_owned(),
                ..pb::Telecom::default()
            }],
            ..pb::Demographics::default()
        }),
        ..pb::Patient::default()
    }
}

/// A desk of one region: its system, its stewards.
pub(super) struct Desk<'a> {
    pub(super) network: &'a Network,
    pub(super) at: At,
    pub(super) institution: &'a SampleInstitution,
}

impl<'a> Desk<'a> {
    pub(super) fn new(network: &'a Network, region: usize, institution: usize) -> Self {
        Self {
            network,
            at: At::Region(region),
            institution: &network.sample.regions[region].institutions[institution],
        }
    }

    pub(super) fn id(&self, local: &str) -> Identifier {
        messages::patient_id(self.institution, local)
    }

    pub(super) fn system(&self) -> Caller {
        self.network.system(self.at, self.institution)
    }

    /// A steward of this institution, at this or another node.
    pub(super) fn steward(&self, subject: &str, at: At) -> Caller {
        self.network
            .acting(at, &steward(subject, &self.institution.code))
    }

    pub(super) async fn feed(&self, local: &str, who: &Somebody) -> pb::FeedPatientResponse {
        self.try_feed(local, who).await.unwrap()
    }

    pub(super) async fn try_feed(
        &self,
        local: &str,
        who: &Somebody,
    ) -> Result<pb::FeedPatientResponse, Status> {
        let request = pb::FeedPatientRequest {
            patient: Some(patient(self.id(local), who)),
            idempotency_key: key(),
            ..pb::FeedPatientRequest::default()
        };
        let fed = feed(&self.system(), request).await;
        fed.map(tonic::Response::into_inner)
    }

    pub(super) fn merge(&self, survivor: &str, subsumed: &str) -> pb::MergePatientsRequest {
        pb::MergePatientsRequest {
            survivor: Some(self.id(survivor)),
            subsumed: Some(self.id(subsumed)),
            reason: "registered twice".to_owned(),
            idempotency_key: key(),
            ..pb::MergePatientsRequest::default()
        }
    }

    pub(super) fn unmerge(&self, subsumed: &str) -> pb::UnmergePatientsRequest {
        pb::UnmergePatientsRequest {
            subsumed: Some(self.id(subsumed)),
            reason: "two people after all".to_owned(),
            idempotency_key: key(),
            ..pb::UnmergePatientsRequest::default()
        }
    }

    /// What the node says of an identifier.
    pub(super) async fn pix(&self, local: &str) -> Result<pb::QueryIdentifiersResponse, Status> {
        pix(&self.system(), self.id(local)).await
    }
}

pub(super) async fn pix(
    caller: &Caller,
    id: Identifier,
) -> Result<pb::QueryIdentifiersResponse, Status> {
    let known = identifiers(caller, id).await;
    known.map(tonic::Response::into_inner)
}

pub(super) fn key() -> String {
    uuid::Uuid::new_v4().to_string()
}

pub(super) fn client(caller: &Caller) -> IdentityServiceClient<tonic::transport::Channel> {
    IdentityServiceClient::new(caller.channel.clone())
}

macro_rules! call {
    ($caller:expr, $method:ident, $request:expr) => {
        super::people::client(&$caller)
            .$method($caller.request($request))
            .await
            .map(tonic::Response::into_inner)
    };
}
pub(super) use call;
