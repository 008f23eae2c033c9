use super::Snapshot;
use crate::access::ParticipantKind;
use crate::error::Reason;
use crate::wire::pb::directory as pb;

fn pin(digit: char) -> pb::CertificatePin {
    pb::CertificatePin {
        spki_sha256: digit.to_string().repeat(64),
        ..Default::default()
    }
}

fn community(oid: &str, authority: &str, digit: char) -> pb::Community {
    pb::Community {
        home_community_id: format!("urn:oid:{oid}"),
        assigning_authorities: vec![pb::AssigningAuthority {
            oid: authority.into(),
            ..Default::default()
        }],
        endpoints: vec![pb::Endpoint {
            address: "https://a:1".into(),
            ..Default::default()
        }],
        gateway_certificates: vec![pin(digit)],
        status: pb::MemberStatus::Active.into(),
        ..Default::default()
    }
}

fn hospital(digit: char) -> pb::Institution {
    pb::Institution {
        institution_id: "1310000001".into(),
        home_community_id: "urn:oid:1.2".into(),
        kind: pb::InstitutionKind::Hospital.into(),
        certificates: vec![pin(digit)],
        status: pb::MemberStatus::Active.into(),
        ..Default::default()
    }
}

fn directory() -> pb::Directory {
    pb::Directory {
        version: 3,
        communities: vec![
            community("1.2", "1.2.1", 'a'),
            community("1.3", "1.3.1", 'b'),
        ],
        institutions: vec![hospital('c')],
        ..Default::default()
    }
}

#[test]
fn members_are_found_by_certificate_and_authority() {
    let snapshot = Snapshot::build(&directory()).unwrap();
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let of =
        |digit: char| snapshot.participant(&digit.to_string().repeat(64).parse().unwrap(), now);
    assert_eq!(of('a').unwrap().kind, ParticipantKind::Gateway);
    assert_eq!(of('c').unwrap().kind, ParticipantKind::Hospital);
    assert!(of('d').is_none());
    assert_eq!(
        snapshot
            .owner(&"1.3.1".parse().unwrap())
            .unwrap()
            .to_string(),
        "urn:oid:1.3"
    );
}

#[test]
fn suspended_and_expired_members_are_nobody() {
    let mut suspended = directory();
    suspended.institutions[0].status = pb::MemberStatus::Suspended.into();
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let hospital = "c".repeat(64).parse().unwrap();
    assert!(
        Snapshot::build(&suspended)
            .unwrap()
            .participant(&hospital, now)
            .is_none()
    );
    let mut expired = directory();
    expired.institutions[0].certificates[0].not_after = Some(crate::wire::timestamp(now));
    assert!(
        Snapshot::build(&expired)
            .unwrap()
            .participant(&hospital, now)
            .is_none()
    );
}

#[test]
fn conflicts_are_refused() {
    let mut twice = directory();
    twice.communities[1].assigning_authorities = twice.communities[0].assigning_authorities.clone();
    assert_eq!(
        Snapshot::build(&twice).unwrap_err().reason(),
        Reason::ForeignDomain
    );
    let mut stolen = directory();
    stolen.institutions[0].certificates = vec![pin('a')];
    assert_eq!(
        Snapshot::build(&stolen).unwrap_err().reason(),
        Reason::InvalidField
    );
    let mut bad = directory();
    bad.communities[0].endpoints[0].address = "http://a:1".into();
    let error = Snapshot::build(&bad).unwrap_err();
    assert_eq!(error.wrong_field(), Some("communities[0].endpoints"));
}
