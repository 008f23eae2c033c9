use super::*;

#[test]
fn oids_are_checked() {
    for good in [
        "1.2",
        "2.16.840.1.113883.5.25",
        "0.0",
        "1.2.392.100495.20.3.51.11319999999",
    ] {
        assert_eq!(good.parse::<Oid>().unwrap().as_str(), good);
    }
    let long = format!("1.{}", "9".repeat(63));
    for bad in [
        "",
        "1",
        "3.1",
        "1..2",
        "1.02",
        "1.2.",
        ".1.2",
        "1.2a",
        "urn:oid:1.2",
        &long,
    ] {
        assert_eq!(bad.parse::<Oid>(), Err(InvalidId::Oid), "{bad}");
    }
    let home: HomeCommunityId = "urn:oid:1.2.3".parse().unwrap();
    assert_eq!(home.to_string(), "urn:oid:1.2.3");
    assert_eq!(
        "1.2.3".parse::<HomeCommunityId>(),
        Err(InvalidId::HomeCommunityId)
    );
}

#[test]
fn patient_identifiers_keep_leading_zeros() {
    let cx = "000999739^^^&1.2.392.100495.20.3.51.11319999999&ISO";
    let id: PatientIdentifier = cx.parse().unwrap();
    assert_eq!(id.to_cx(), cx);
    assert!("a^b^^^&1.2&ISO".parse::<PatientIdentifier>().is_err());
    assert!("a^^^ns".parse::<PatientIdentifier>().is_err());
    assert!(!format!("{id:?}").contains("000999739"));
}

#[test]
fn institution_codes_have_a_check_digit() {
    for code in [
        "0110113719",
        "3618010015",
        "1319999999",
        "2710001237",
        "4041234560",
    ] {
        assert!(
            code.parse::<InstitutionCode>().unwrap().check_digit_ok(),
            "{code}"
        );
    }
    for code in ["1312345670", "1311234567", "1318814790"] {
        assert!(
            !code.parse::<InstitutionCode>().unwrap().check_digit_ok(),
            "{code}"
        );
    }
    for bad in ["131234567", "4812345678", "0012345678", "13A2345678"] {
        assert!(bad.parse::<InstitutionCode>().is_err());
    }
}

#[test]
fn linkage_ids_round_trip_and_show_typing_errors() {
    let id = LinkageId::from_bytes(*b"0123456789abcdef");
    let text = id.to_string();
    assert_eq!(text.len(), 27);
    assert_eq!(text.parse::<LinkageId>().unwrap(), id);
    assert_eq!(text.to_lowercase().parse::<LinkageId>().unwrap(), id);
    let mut wrong = 0;
    for position in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[position] = if bytes[position] == b'7' { b'8' } else { b'7' };
        wrong += usize::from(
            String::from_utf8(bytes)
                .unwrap()
                .parse::<LinkageId>()
                .is_err(),
        );
    }
    assert_eq!(wrong, text.len());
    assert!("ZZZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<LinkageId>().is_err());
}

#[test]
fn dates_stay_partial() {
    for good in ["1950", "1950-04", "1950-04-01", "2024-02-29"] {
        assert_eq!(good.parse::<PartialDate>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "50",
        "1950-4",
        "1950-13",
        "2023-02-29",
        "1950-04-01-01",
        "1950/04/01",
    ] {
        assert!(bad.parse::<PartialDate>().is_err(), "{bad}");
    }
    let month: PartialDate = "1950-04".parse().unwrap();
    assert!(month.compatible("1950-04-01".parse().unwrap()));
    assert!(!month.compatible("1950-05-01".parse().unwrap()));
    assert_eq!(month.to_date(), None);
}

#[test]
fn dtm_bounds_follow_the_precision() {
    let day: Dtm = "20240131".parse().unwrap();
    assert_eq!(day.earliest(), "20240131000000");
    assert_eq!(day.latest(), "20240131235959");
    assert_eq!("2024".parse::<Dtm>().unwrap().earliest(), "20240101000000");
    for bad in ["202", "20241301", "2024013125", "20240131000061", "2024-01"] {
        assert!(bad.parse::<Dtm>().is_err(), "{bad}");
    }
    assert!("20240131".parse::<Dtm>().unwrap() < "2024013101".parse().unwrap());
}

#[test]
fn endpoints_are_host_and_port_only() {
    for good in [
        "https://hub.example.jp:7443",
        "https://127.0.0.1:1",
        "https://[::1]:7443",
    ] {
        assert_eq!(good.parse::<Endpoint>().unwrap().to_string(), good);
    }
    for bad in [
        "http://hub:1",
        "https://hub",
        "https://hub:0",
        "https://hub:99999",
        "https://u@hub:1",
        "https://hub:1/path",
        "https://:1",
        "https://[hub]:1",
    ] {
        assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
    }
}
