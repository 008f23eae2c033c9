//! Directory files, right and wrong.

use super::*;

const FILE: &str = r#"
[[community]]
home_community_id = "urn:oid:2.999.1.1"
name_ja = "東部"
kind = "region"
endpoint = "https://east.example.jp:7443"
gateway_pins = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
assigning_authorities = ["1.2.392.1", { oid = "1.2.392.2", name = "西病院" }]
repositories = ["2.999.3.1"]
capabilities = ["find_documents"]

[[institution]]
institution_id = "1310000001"
name_ja = "東病院"
home_community_id = "urn:oid:2.999.1.1"
kind = "visiting-nursing"
purposes = ["treatment"]
"#;

#[test]
fn a_file_becomes_a_request() {
    let request = parse(FILE).unwrap();
    let community = &request.communities[0];
    assert_eq!(community.kind(), pb::CommunityKind::Region);
    assert_eq!(
        community.endpoints[0].address,
        "https://east.example.jp:7443"
    );
    assert_eq!(community.assigning_authorities[1].name, "西病院");
    let institution = &request.institutions[0];
    assert_eq!(institution.kind(), pb::InstitutionKind::VisitingNursing);
    assert_eq!(
        institution.allowed_purposes,
        [i32::from(PurposeOfUse::Treatment)]
    );
}

#[test]
fn json_says_the_same() {
    let json = r#"{"institution": [{"institution_id": "1310000001", "name_ja": "東病院",
            "home_community_id": "urn:oid:2.999.1.1", "kind": "hospital"}]}"#;
    assert_eq!(parse(json).unwrap().institutions.len(), 1);
    assert!(parse("{}").unwrap_err().to_string().contains("nothing"));
}

#[test]
fn the_entry_at_fault_is_named() {
    for (from, to, named) in [
        (
            "\"region\"",
            "\"planet\"",
            "community 1 (urn:oid:2.999.1.1): kind: \"planet\"",
        ),
        (
            "https://east",
            "http://east",
            "community 1 (urn:oid:2.999.1.1): endpoint",
        ),
        ("\"aaaa", "\"zz", "gateway_pins"),
        (
            "\"1.2.392.1\"",
            "\"1..2\"",
            "assigning_authorities: \"1..2\"",
        ),
        ("1310000001", "131", "institution 1 (131): institution_id"),
        (
            "[\"treatment\"]",
            "[\"fun\"]",
            "institution 1 (1310000001): purposes",
        ),
        (
            "repositories",
            "repository",
            "line 9: unknown field `repository`",
        ),
        (
            "name_ja = \"東部\"",
            "name_ja = \" \"",
            "name_ja: is required",
        ),
    ] {
        let text = FILE.replacen(from, to, 1);
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(named), "{error} should name {named}");
    }
    let twice = format!("{FILE}{FILE}");
    let error = parse(&twice).unwrap_err().to_string();
    assert!(
        error.contains("community 2 (urn:oid:2.999.1.1): stands twice"),
        "{error}"
    );
}

#[test]
fn a_certificate_is_named_by_pin_or_by_issuer_and_serial() {
    let with = |pins: &str| {
        parse(&format!("{FILE}pins = [{pins}]\n")).map(|request| {
            let [institution] = request.institutions.as_slice() else {
                panic!("one institution");
            };
            institution.certificates.clone()
        })
    };
    let pin = "ab".repeat(32);
    let both = with(&format!(
        r#""{pin}", {{ issuer = "CN=CA,C=JP", serial = "1f", from = "2027-01-01T00:00:00+09:00", status = "suspended", profile = "hpki-organisation" }}"#
    ));
    let both = both.unwrap();
    assert_eq!(both[0].spki_sha256, pin);
    assert_eq!(
        (both[1].issuer.as_str(), both[1].serial_number.as_str()),
        ("CN=CA,C=JP", "1f")
    );
    assert_eq!(both[1].status(), pb::MemberStatus::Suspended);
    let from = crate::wire::from_timestamp(both[1].not_before.as_ref().unwrap());
    assert_eq!(from.unwrap().to_string(), "2026-12-31T15:00:00Z");
    for (wrong, why) in [
        ("{ }", "either a pin"),
        ("{ issuer = \"CN=CA\" }", "hexadecimal"),
        (
            "{ issuer = \"nobody\", serial = \"1f\" }",
            "distinguished name",
        ),
        ("\"abc\"", "64 hexadecimal"),
        ("{ pin = \"abc\" }", "64 hexadecimal"),
    ] {
        let error = with(wrong).unwrap_err().to_string();
        assert!(
            error.contains(why) && error.contains("pins"),
            "{wrong}: {error}"
        );
    }
    let until = with(&format!("{{ pin = \"{pin}\", until = \"tomorrow\" }}"));
    assert!(until.unwrap_err().to_string().contains("tomorrow"));
}

#[test]
fn when_a_community_answers_whom_to_call_and_what_its_codes_mean() {
    let with = |more: &str| {
        let text = FILE.replacen("[[institution]]", &format!("{more}\n[[institution]]"), 1);
        parse(&text).map(|request| request.communities[0].clone())
    };
    let community = with(
        r#"
        service_hours = [{ weekdays = [1, 5], opens = "08:00", closes = "24:00" }]
        maintenance = [{ starts = "2026-05-01T00:00:00+09:00", ends = "2026-05-01T04:00:00+09:00" }]
        contacts = [{ function = "operations", telephone = "03-0000-0000" }]
        codes = [{ attribute = "classCode", local = { code = "X", system = "1.2" }, canonical = { code = "Y", system = "1.3" } }]
        "#,
    );
    let community = community.unwrap();
    assert_eq!(community.service_hours[0].weekdays, [1, 5]);
    assert_eq!(community.service_hours[0].closes, "24:00");
    let starts = community.maintenance_windows[0].starts.as_ref();
    let starts = crate::wire::from_timestamp(starts.unwrap()).unwrap();
    assert_eq!(starts.to_string(), "2026-04-30T15:00:00Z");
    assert_eq!(community.contacts[0].telephone, "03-0000-0000");
    let mapping = &community.code_mappings[0];
    assert_eq!(mapping.local.as_ref().unwrap().code, "X");
    assert_eq!(mapping.canonical.as_ref().unwrap().system, "1.3");
    let error = with(r#"maintenance = [{ starts = "soon", ends = "later" }]"#);
    assert!(error.unwrap_err().to_string().contains("soon"));
    let error = with(r#"service_hours = [{ opens = "08:00", closes = "09:00" }]"#);
    assert!(error.unwrap_err().to_string().contains("weekdays"));
}
