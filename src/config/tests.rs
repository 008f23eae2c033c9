use super::*;

fn region() -> String {
    example(ExampleRole::Region).to_owned()
}

fn env(name: &str, value: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.to_owned())]
}

#[test]
fn every_example_is_valid() {
    for role in [ExampleRole::Hub, ExampleRole::Region, ExampleRole::Hosted] {
        Config::parse(example(role), []).unwrap();
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let text = region().replace("data_dir", "datadir");
    let error = Config::parse(&text, []).unwrap_err().to_string();
    assert!(
        error.contains("line 6") && error.contains("datadir"),
        "{error}"
    );
}

#[test]
fn overrides_are_typed_and_checked() {
    let config = Config::parse(&region(), env("RENKEI__LISTEN__ADDRESS", "127.0.0.1:0")).unwrap();
    assert_eq!(config.listen.address.port(), 0);
    let config = Config::parse(&region(), env("RENKEI__LISTEN__MAX_IN_FLIGHT", "7")).unwrap();
    assert_eq!(config.listen.max_in_flight, 7);
    for (name, value) in [
        ("RENKEI__LISTEN__NONSENSE", "1"),
        ("RENKEI__LISTEN__MAX_IN_FLIGHT", "many"),
        ("RENKEI__LISTEN__ADDRESS__X", "1"),
        ("RENKEI__", "1"),
    ] {
        let error = Config::parse(&region(), env(name, value))
            .unwrap_err()
            .to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn values_are_checked() {
    for (from, to, key) in [
        ("urn:oid:2.999.1.9901", "1.2.3", "node.home_community_id"),
        ("2.999.2.9901", "1.02", "identity.assigning_authorities"),
        (
            "\"2.999.1.9901.1\"",
            "\"x\"",
            "documents.repository_unique_id",
        ),
        ("https://hub", "http://hub", "parent.endpoint"),
        (
            "certificate_pin = \"00",
            "certificate_pin = \"0",
            "parent.certificate_pin",
        ),
    ] {
        let error = Config::parse(&region().replace(from, to), [])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(key), "{error}");
    }
    let without = region().replace("\"registry\", ", "");
    assert!(Config::parse(&without, []).is_err());
}
