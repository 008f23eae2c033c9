use jiff::Timestamp;

use super::Snapshot;
use crate::access::ParticipantKind;
use crate::error::Reason;
use crate::pki::{Certified, Usage};
use crate::types::{CertificateNumber, CertificatePin};
use crate::wire::pb::directory as pb;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

const ISSUER: &str = r"CN=Issuing CA,OU=Certificates,O=Health\, Labour and Welfare,C=JP";

/// A certificate as judged: its key, and its serial number from one issuer.
fn certified(digit: char, serial: &str) -> Certified {
    let pin: CertificatePin = digit.to_string().repeat(64).parse().unwrap();
    Certified {
        usage: Usage::Institution,
        profile: "hpki-organisation".to_owned(),
        subject: crate::pki::Subject::default(),
        issuer: "C=JP, O=Health, Labour and Welfare, CN=Issuing CA".to_owned(),
        number: CertificateNumber::parse(ISSUER, serial).unwrap(),
        serial: serial.to_owned(),
        spki_sha256: pin,
        fingerprint: [0; 32],
        policy: "1.2.392.100495.1.5.1.3.3.1".to_owned(),
        roles: vec![],
        dns_names: vec![],
        not_before: now(),
        not_after: now(),
        verdict_valid_until: now(),
        ordinary: None,
        crl_numbers: vec![],
        remarks: vec![],
    }
}

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
    let of = |digit: char| snapshot.participant(&certified(digit, "01"), now());
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

/// Who shows the certificate of key `digit` and number `serial`, if `certificates` are registered.
fn shown(certificates: Vec<pb::CertificatePin>, digit: char, serial: &str, at: Timestamp) -> bool {
    let mut directory = directory();
    directory.institutions[0].certificates = certificates;
    let snapshot = Snapshot::build(&directory).unwrap();
    snapshot
        .participant(&certified(digit, serial), at)
        .is_some()
}

fn numbered(serial: &str) -> pb::CertificatePin {
    pb::CertificatePin {
        issuer: ISSUER.to_owned(),
        serial_number: serial.to_owned(),
        ..Default::default()
    }
}

/// Bars: T-30.
#[test]
fn suspended_and_expired_members_are_nobody() {
    let hospital = certified('c', "01");
    let mut changed = directory();
    for status in [pb::MemberStatus::Suspended, pb::MemberStatus::Retired] {
        changed.institutions[0].status = status.into();
        let snapshot = Snapshot::build(&changed).unwrap();
        assert!(snapshot.participant(&hospital, now()).is_none());
        assert!(snapshot.by_code(&"1310000001".parse().unwrap()).is_none());
    }
    // Of a community that does not take part, nobody does.
    let mut away = directory();
    away.communities[0].status = pb::MemberStatus::Suspended.into();
    let snapshot = Snapshot::build(&away).unwrap();
    assert!(snapshot.participant(&hospital, now()).is_none());
    let mut expired = pin('c');
    expired.not_after = Some(crate::wire::timestamp(now()));
    assert!(!shown(vec![expired], 'c', "01", now()));
}

/// Bars: T-31.
#[test]
fn a_certificate_is_known_by_key_or_by_number_and_by_nothing_else() {
    assert!(shown(vec![pin('c')], 'c', "01", now()));
    assert!(
        shown(vec![pin('c')], 'c', "77", now()),
        "renewed with the same key"
    );
    assert!(
        !shown(vec![pin('c')], 'd', "01", now()),
        "the same subject, another key"
    );
    assert!(shown(vec![numbered("00:1F")], 'e', "1f", now()));
    assert!(!shown(vec![numbered("1f")], 'e', "1e", now()));
    let mut other_issuer = numbered("1f");
    other_issuer.issuer = "CN=Issuing CA,C=JP".to_owned();
    assert!(!shown(vec![other_issuer], 'e', "1f", now()));
    assert!(!shown(vec![], 'c', "01", now()));
}

#[test]
fn a_rollover_has_two_certificates_each_with_its_time() {
    let at = |hours: i64| now() + jiff::SignedDuration::from_hours(hours);
    let bounded = |mut pin: pb::CertificatePin, from: i64, until: i64| {
        pin.not_before = Some(crate::wire::timestamp(at(from)));
        pin.not_after = Some(crate::wire::timestamp(at(until)));
        pin
    };
    let both = || vec![bounded(pin('c'), -10, 5), bounded(numbered("1f"), 0, 10)];
    for (hours, old, new) in [
        (-11, false, false),
        (-1, true, false),
        (1, true, true),
        (5, false, true),
        (10, false, false),
    ] {
        assert_eq!(shown(both(), 'c', "01", at(hours)), old, "old at {hours}");
        assert_eq!(shown(both(), 'd', "1f", at(hours)), new, "new at {hours}");
    }
}

/// Bars: T-30.
#[test]
fn one_certificate_can_be_suspended_or_tied_to_a_profile() {
    let mut suspended = pin('c');
    suspended.status = pb::MemberStatus::Suspended.into();
    let both = vec![suspended.clone(), pin('d')];
    assert!(!shown(both.clone(), 'c', "01", now()));
    assert!(shown(both, 'd', "01", now()), "its other certificate");
    // Registered by key and by number: one suspension is enough.
    let mut number = numbered("1f");
    number.status = pb::MemberStatus::Suspended.into();
    assert!(!shown(vec![pin('c'), number], 'c', "1f", now()));
    let mut tied = pin('c');
    tied.profile = "hpki-organisation".to_owned();
    assert!(shown(vec![tied.clone()], 'c', "01", now()));
    tied.profile = "renkei-test-organisation".to_owned();
    assert!(!shown(vec![tied], 'c', "01", now()));
}

#[test]
fn a_registration_names_a_certificate_in_one_way() {
    let field = |pin: pb::CertificatePin| {
        let mut directory = directory();
        directory.institutions[0].certificates = vec![pin];
        let error = Snapshot::build(&directory).unwrap_err();
        error.wrong_field().unwrap().to_owned()
    };
    let mut both = numbered("1f");
    both.spki_sha256 = "c".repeat(64);
    let mut no_serial = numbered("");
    no_serial.spki_sha256 = String::new();
    let mut no_issuer = numbered("1f");
    no_issuer.issuer = "not a name".to_owned();
    for wrong in [
        both,
        no_serial,
        no_issuer,
        numbered("xyz"),
        pb::CertificatePin::default(),
    ] {
        assert_eq!(field(wrong), "institutions[0].certificates");
    }
    // Whom a gateway calls it knows by the key.
    let mut gateway = directory();
    gateway.communities[0].gateway_certificates = vec![numbered("1f")];
    let error = Snapshot::build(&gateway).unwrap_err();
    assert_eq!(error.reason(), Reason::MissingField);
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
