//! What each method of the interface may ask of the decision point. A method that is not here, or
//! that asks for something else, is refused (bar Z-01: unknown denies).

use super::decide::Action;
use Action as A;

/// The methods of a service, each with what it may ask for.
type Methods = &'static [(&'static str, &'static [Action])];

/// Methods and their actions, by service.
#[rustfmt::skip]
pub const METHODS: &[(&str, Methods)] = &[
    ("renkei.identity.v1.IdentityService", &[
        ("FeedPatient", &[A::AssertIdentity]),
        ("MergePatients", &[A::AssertIdentity, A::Steward]),
        ("UnmergePatients", &[A::AssertIdentity, A::Steward]),
        ("LinkPatients", &[A::Steward]),
        ("UnlinkPatients", &[A::Steward]),
        ("SplitPerson", &[A::Steward]),
        ("QueryIdentifiers", &[A::QueryIdentifiers]),
        ("SearchPatients", &[A::SearchPatients]),
        ("MatchPatient", &[A::SearchPatients]),
        ("CheckDuplicates", &[A::SearchPatients]),
        ("GetPatient", &[A::SearchPatients]),
        ("GetPersonHistory", &[A::Steward]),
        ("WatchIdentifierChanges", &[A::QueryIdentifiers]),
        ("LoadPatients", &[A::AssertIdentity]),
        ("ListReviewTasks", &[A::Steward]),
        ("GetReviewTask", &[A::Steward]),
        ("DecideReviewTask", &[A::Steward]),
        ("UndoReviewDecision", &[A::Steward]),
        ("AssignReviewTask", &[A::Steward]),
    ]),
    ("renkei.documents.v1.DocumentService", &[
        ("ProvideDocuments", &[A::SubmitDocuments]),
        ("RegisterDocuments", &[A::SubmitDocuments]),
        ("QueryRegistry", &[A::FindDocuments, A::ReadDocument]),
        ("RetrieveDocuments", &[A::ReadDocument]),
        ("RegisterOnDemandDocument", &[A::SubmitDocuments]),
        ("UpdateMetadata", &[A::SubmitDocuments]),
        ("RemoveMetadata", &[A::SubmitDocuments]),
        ("RemoveDocuments", &[A::SubmitDocuments]),
        ("WatchDocuments", &[A::FindDocuments, A::ReadDocument]),
        ("SendReferral", &[A::SubmitDocuments, A::ReadDocument]),
        ("ListReferrals", &[A::FindDocuments]),
        ("RecallReferral", &[A::SubmitDocuments]),
    ]),
    ("renkei.federation.v1.InitiatingGatewayService", &[
        ("FindDocuments", &[A::FindDocuments]),
        ("RetrieveDocuments", &[A::ReadDocument]),
        ("DiscoverPatient", &[A::SearchPatients]),
        ("LocateHoldings", &[A::FindDocuments, A::ReadDocument]),
        ("WatchDocuments", &[A::FindDocuments]),
    ]),
    ("renkei.federation.v1.RespondingGatewayService", &[
        ("FindDocuments", &[A::FindDocuments, A::ReadDocument]),
        ("RetrieveDocuments", &[A::ReadDocument]),
        ("DiscoverPatient", &[A::SearchPatients]),
        ("GetSummaryItems", &[A::ReadSummary]),
        ("WatchDocuments", &[A::FindDocuments, A::ReadDocument]),
        ("NotifyHoldings", &[A::Exchange]),
        ("CompareHoldings", &[A::Exchange]),
        ("DeliverNotices", &[A::Exchange, A::AssertIdentity]),
        ("Ping", &[A::ReadDirectory]),
    ]),
    ("renkei.emergency.v1.EmergencyService", &[
        ("IdentifyPatient", &[A::IdentifyEmergency]),
        ("OpenBreakGlass", &[A::BreakGlass]),
        ("CloseBreakGlass", &[A::BreakGlass]),
        ("GetSummary", &[A::ReadSummary]),
        ("GetSummaryDocument", &[A::ReadSummary]),
        ("SubmitCareRecord", &[A::SubmitDocuments]),
        ("ListAccessNotices", &[A::ReadAudit]),
        ("ReviewAccess", &[A::ReadAudit]),
        ("DeclareDisaster", &[A::DeclareDisaster]),
        ("EndDisaster", &[A::DeclareDisaster]),
    ]),
    ("renkei.consent.v1.ConsentService", &[
        ("RecordConsent", &[A::RecordConsent]),
        ("WithdrawConsent", &[A::RecordConsent]),
        ("GetConsent", &[A::ReadConsent]),
        ("ListConsents", &[A::ReadConsent]),
        ("ImportConsent", &[A::RecordConsent]),
        ("ExportConsent", &[A::ReadConsent]),
    ]),
    ("renkei.audit.v1.AuditService", &[
        ("SearchEvents", &[A::ReadAudit]),
        ("ReportPatientAccess", &[A::ReadAudit]),
        ("ExportEvents", &[A::ReadAudit, A::Operate]),
        ("GetCheckpoint", &[A::ReadAudit, A::ReadDirectory]),
        ("GetInclusionProof", &[A::ReadAudit, A::ReadDirectory]),
        ("GetConsistencyProof", &[A::ReadAudit, A::ReadDirectory]),
        ("CosignCheckpoint", &[A::ReadDirectory]),
    ]),
    ("renkei.directory.v1.DirectoryService", &[
        ("GetDirectory", &[A::ReadDirectory]),
        ("WatchDirectory", &[A::ReadDirectory]),
        ("ApplyDirectory", &[A::ApplyDirectory]),
        ("ListCommunities", &[A::ReadDirectory]),
        ("GetCommunity", &[A::ReadDirectory]),
        ("ListInstitutions", &[A::ReadDirectory]),
        ("GetRegionStatus", &[A::Operate]),
        ("SuspendInstitution", &[A::ApplyDirectory]),
    ]),
    ("renkei.admin.v1.AdminService", &[
        ("GetNodeInfo", &[A::Operate]),
        ("GetStatus", &[A::Operate]),
        ("ReloadConfiguration", &[A::Operate]),
        ("CheckStore", &[A::Operate]),
        ("CreateBackup", &[A::Operate]),
        ("RotateKeys", &[A::Operate]),
        ("ProposePurge", &[A::Purge]),
        ("ApprovePurge", &[A::Purge]),
        ("WithdrawPurge", &[A::Purge]),
        ("ListPurges", &[A::Purge]),
    ]),
];

/// What a method may ask for, by its full name; nothing for one that is not known.
pub fn declared(method: &str) -> &'static [Action] {
    let Some((service, name)) = method.split_once('/') else {
        return &[];
    };
    let services = METHODS.iter();
    let mut methods = services
        .filter(|(known, _)| *known == service)
        .flat_map(|(_, methods)| methods.iter());
    methods
        .find(|(known, _)| *known == name)
        .map_or(&[], |(_, actions)| actions)
}

/// Whether a method is of the emergency class: break-glass, the summary and what leads to it. It is the
/// last to be refused, whatever is short.
pub fn is_emergency(method: &str) -> bool {
    let summary = method.ends_with("RespondingGatewayService/GetSummaryItems");
    summary || method.starts_with("renkei.emergency.")
}

/// Whether calls of a method are answered while the disk is full, their records taken from what is kept
/// back for that: emergencies, and the operator's look at the node, which discloses nothing of patients.
pub fn is_served_on_a_full_disk(method: &str) -> bool {
    is_emergency(method) || method == "renkei.admin.v1.AdminService/GetStatus"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;

    #[test]
    fn every_method_of_the_interface_is_declared_once_and_no_other() {
        let descriptors = prost_types::FileDescriptorSet::decode(crate::wire::DESCRIPTORS).unwrap();
        let mut there = BTreeSet::new();
        for file in &descriptors.file {
            for service in &file.service {
                for method in &service.method {
                    let (package, service) = (file.package(), service.name());
                    there.insert(format!("{package}.{service}/{}", method.name()));
                }
            }
        }
        let declared: Vec<String> = METHODS
            .iter()
            .flat_map(|(service, methods)| {
                methods
                    .iter()
                    .map(move |(name, _)| format!("{service}/{name}"))
            })
            .collect();
        assert!(declared.len() > 60);
        let once: BTreeSet<String> = declared.iter().cloned().collect();
        assert_eq!(once.len(), declared.len());
        assert_eq!(once, there);
    }

    #[test]
    fn what_is_not_known_asks_for_nothing() {
        let feed = "renkei.identity.v1.IdentityService/FeedPatient";
        assert_eq!(declared(feed), [A::AssertIdentity]);
        for unknown in [
            "",
            "FeedPatient",
            "x/FeedPatient",
            "renkei.identity.v1.IdentityService/X",
        ] {
            assert!(declared(unknown).is_empty(), "{unknown}");
        }
    }
}
