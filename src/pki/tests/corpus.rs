//! The corpus: every verdict as expected, every rule exercised, every rule missed when left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::*;
use crate::pki::assertion;
use crate::pki::dev::corpus::{Case, Corpus, Level};
use crate::pki::planted;
use crate::pki::rule_names;

/// Made once for all tests here: its keys take longest.
fn corpus() -> &'static Corpus {
    static CORPUS: OnceLock<Corpus> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let clock = ManualClock::at("2026-06-15T03:00:00Z".parse().unwrap());
        Corpus::generate(Arc::new(clock)).unwrap()
    })
}

/// Rules that are not of a chain's judgement: of a connection to a server (`handshake`), and of a
/// profile that requires a code (`profiles::profiles_are_data`).
const ELSEWHERE: [&str; 3] = ["server-name", "pin", "institution-code-missing"];

/// Rules that can only be broken by an end entity, or by the profile of one.
const OF_END_ENTITIES: [&str; 14] = [
    "no-certificate",
    "validity-too-long",
    "authority-as-end-entity",
    "signing-certificate",
    "key-usage",
    "subject-ambiguous",
    "subject-incomplete",
    "hc-role-missing",
    "hc-role-malformed",
    "hc-role-duplicate",
    "hc-role-unknown",
    "hc-role-kind",
    "crl-sign",
    "crl-not-yet-valid",
];

/// Rules that can only be broken by a CA, or by what lies between.
const OF_AUTHORITIES: [&str; 5] = [
    "path-too-complex",
    "not-authority",
    "key-cert-sign",
    "path-length",
    "name-constraints",
];

/// What is no rule that could be left out: nothing to judge, nothing readable, nothing to trust.
const NOT_TO_LEAVE_OUT: [&str; 4] = [
    "no-certificate",
    "malformed",
    "no-root",
    "root-not-self-signed",
];

/// Bars: T-01 … T-22 by chain, T-40.
#[test]
fn every_verdict_is_the_expected_one() {
    let corpus = corpus();
    let cases = corpus.cases();
    assert!(cases.len() >= 300, "{} cases", cases.len());
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "names are unique");
    let (mut wrong, mut slowest) = (Vec::new(), (Duration::ZERO, ""));
    for case in cases {
        let started = std::time::Instant::now();
        let (found, expected) = (case.verdict(), case.expected);
        slowest = slowest.max((started.elapsed(), case.name.as_str()));
        if found != expected {
            wrong.push(format!("{}: {found:?}, expected {expected:?}", case.name));
        }
    }
    // For the eye: bar T-22 is kept by limits (certificates, octets, signature checks), not by luck.
    eprintln!(
        "{} cases; the slowest took {:?}: {}",
        cases.len(),
        slowest.0,
        slowest.1
    );
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let accepted = cases.iter().filter(|case| case.expected.is_none()).count();
    assert!(accepted >= 100, "{accepted} accepted");
}

/// A server that shows `chain`, whosever it is.
#[derive(Debug)]
struct Showing(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Showing {
    fn resolve(
        &self,
        _: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// The rule by which a client, such as a gateway that calls a region, gives a server up that shows the
/// chain of `case`. A chain that is accepted fails later, since its key is not there.
fn given_up_by(
    case: &Case,
    store: TrustStore,
    own: &crate::pki::NodeIdentity,
) -> Option<&'static str> {
    use crate::pki::tls::{ServerExpectation, client_config, refusal_of};
    use rustls::client::ResolvesClientCert as _;
    let expect = ServerExpectation {
        name: "localhost".try_into().unwrap(),
        pins: Vec::new(),
    };
    let clock = Arc::new(ManualClock::at(case.at));
    let client = client_config(own, crate::pki::TrustHandle::new(store), clock, expect).unwrap();
    let key = crate::pki::IdentityHandle::new(own.clone());
    let key = Arc::clone(&key.resolve(&[], &[]).unwrap().key);
    let shown = rustls::sign::CertifiedKey::new(case.chain.clone(), key);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Showing(Arc::new(shown))));
    server.alpn_protocols = vec![b"h2".to_vec()];
    let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
    let name = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(client, name).unwrap();
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            if let Err(error) = client.process_new_packets() {
                return Some(refusal_of(&error).map_or("tls", crate::pki::Refusal::rule));
            }
        }
    }
    None
}

/// Bars: T-34: everything that can be wrong with a server's certificate, over real handshakes.
#[test]
fn a_server_is_given_up_by_the_rule_that_it_breaks() {
    let mut lab = Lab::new();
    let own = lab.pki.issue(&Lab::request(Kind::Institution, "own"));
    let own = own.unwrap().identity().unwrap();
    let (mut refused, mut passed, mut wrong) = (0, 0, Vec::new());
    for case in corpus().cases() {
        if case.usage != Usage::Server || case.chain.is_empty() || case.set != "test" {
            continue;
        }
        let Ok(store) = case.store() else { continue };
        let found = given_up_by(case, store, &own);
        match (case.expected, found) {
            (None, Some("tls")) => passed += 1,
            // Accepted, but for another name than the one that is called.
            (None, Some("server-name")) => {}
            // More than a handshake may have: rustls ends it before anything is judged.
            (Some("certificate-size" | "malformed"), Some("tls")) => refused += 1,
            (Some(rule), Some(found)) if rule == found => refused += 1,
            (expected, found) => {
                wrong.push(format!("{}: {found:?}, expected {expected:?}", case.name));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        refused >= 80 && passed >= 10,
        "{refused} refused, {passed} passed"
    );
}

/// Bars: T-40.
#[test]
fn every_rule_is_exercised_at_every_level_where_it_can_be_broken() {
    let violated = corpus().violated();
    let mut missing = Vec::new();
    for rule in rule_names().filter(|rule| !ELSEWHERE.contains(rule)) {
        if !OF_AUTHORITIES.contains(&rule) && !violated.contains(&(rule, Level::EndEntity)) {
            missing.push(format!("{rule}@leaf"));
        }
        if !OF_END_ENTITIES.contains(&rule) && !violated.contains(&(rule, Level::Authority)) {
            missing.push(format!("{rule}@authority"));
        }
    }
    assert!(missing.is_empty(), "no case for {}", missing.join(", "));
    // The rules of lists are the string literals of `CrlError::rule`.
    let source = include_str!("../crl.rs");
    let body = source.split("pub fn rule(&self)").nth(1).unwrap();
    let list_rules = body.lines().filter_map(|line| {
        let (_, rest) = line.split_once("=> \"list-")?;
        Some(format!("list-{}", rest.split_once('"')?.0))
    });
    for rule in list_rules {
        let exercised = violated
            .iter()
            .any(|(known, level)| *known == rule && *level == Level::List);
        assert!(exercised, "no case for {rule}");
    }
}

/// Every rule that can be left out, as `RENKEI_PLANTED` names it.
fn defects(corpus: &Corpus) -> BTreeSet<String> {
    let of_chains = corpus
        .violated()
        .into_iter()
        .filter(|(rule, _)| !NOT_TO_LEAVE_OUT.contains(rule))
        .map(|(rule, level)| match level {
            Level::List => rule.to_owned(),
            level => format!("{rule}@{level}"),
        });
    let elsewhere = ELSEWHERE.map(|rule| format!("{rule}@leaf"));
    let assertions = assertion::RULES.map(str::to_owned);
    of_chains.chain(elsewhere).chain(assertions).collect()
}

/// Writes the names for `tests/mutate/pki.sh`.
#[test]
#[ignore = "for the script: writes to the file that RENKEI_DEFECTS names"]
fn the_defects() {
    let vars = std::env::vars().find(|(name, _)| name == "RENKEI_DEFECTS");
    let (_, path) = vars.expect("RENKEI_DEFECTS is set");
    let names: Vec<String> = defects(corpus()).into_iter().collect();
    std::fs::write(path, names.join("\n") + "\n").unwrap();
}

/// The mutation run, in process: with a rule left out, at least one of the cases that expect it
/// comes out otherwise.
///
/// Bars: T-40, S-06.
#[test]
fn a_rule_left_out_is_missed() {
    let corpus = corpus();
    let mut groups: BTreeMap<String, Vec<&Case>> = BTreeMap::new();
    for case in corpus.cases() {
        let Some(rule) = case.expected else { continue };
        if NOT_TO_LEAVE_OUT.contains(&rule) {
            continue;
        }
        let defect = match case.level {
            Level::List => rule.to_owned(),
            level => format!("{rule}@{level}"),
        };
        groups.entry(defect).or_default().push(case);
    }
    assert!(groups.len() >= 70, "{} rules by level", groups.len());
    let survivors: Vec<&String> = groups
        .iter()
        .filter(|(defect, cases)| {
            planted::without(defect, || {
                cases.iter().all(|case| case.verdict() == case.expected)
            })
        })
        .map(|(defect, _)| defect)
        .collect();
    assert!(
        survivors.is_empty(),
        "left out and not missed: {survivors:?}"
    );
}

/// An independent reader: where RFC 5280 alone decides, OpenSSL must come to the same verdict.
///
/// Bars: T-40.
#[test]
fn openssl_agrees_where_rfc_5280_decides() {
    // Rules that OpenSSL applies too, at the end entity or on the path to it.
    const SHARED: [&str; 16] = [
        "expired",
        "not-yet-valid",
        "signature",
        "issuer-unknown",
        "unknown-critical-extension",
        "path-length",
        "key-cert-sign",
        "not-authority",
        "policy-missing",
        "policy-not-accepted",
        "revoked",
        "crl-expired",
        "crl-not-yet-valid",
        "name-constraints",
        "authority-key-identifier",
        "any-policy",
    ];
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus();
    let (mut compared, mut differ) = (0, Vec::new());
    for (index, case) in corpus.cases().iter().enumerate() {
        // OpenSSL is asked for the list of the end entity only: the root would need one of its own.
        let of_lists = ["revoked", "crl-expired", "crl-not-yet-valid"];
        let shared = case.expected.is_none_or(|rule| {
            SHARED.contains(&rule) && !(case.level == Level::Authority && of_lists.contains(&rule))
        });
        let usual = case.grace.is_zero() && case.trusted.renewals.is_empty();
        if !shared || !usual || case.level == Level::List || case.chain.is_empty() {
            continue;
        }
        let Some(accepted) = openssl_accepts(case, &folder.path().join(index.to_string())) else {
            return;
        };
        compared += 1;
        if accepted != case.expected.is_none() && !known_difference(&case.name) {
            let said = folder.path().join(index.to_string()).join("said");
            let said = std::fs::read_to_string(said).unwrap_or_default();
            differ.push(format!("{}: {:?}; {said}", case.name, case.expected));
        }
    }
    assert!(compared >= 150, "{compared} compared");
    assert!(
        differ.is_empty(),
        "{} differ:\n{}",
        differ.len(),
        differ.join("\n")
    );
}

/// Where the two differ, and why that is meant.
fn known_difference(name: &str) -> bool {
    [
        // RFC 5280 §4.1.2.5, §5.1.2.5: valid through notAfter, and nextUpdate. OpenSSL: until it.
        "ends-now",
        "list-at-next-update",
        // We let the clock of a CA be five minutes ahead.
        "list-issued-by-a-clock-ahead",
        // In a complete list removeFromCRL takes nothing back for us.
        "reason-8",
        // We want keyUsage in every CA.
        "authority/no-key-usage",
        // anyExtendedKeyUsage of a CA restricts nothing.
        "authority/purpose-any",
        // A wildcard that reaches into what is excluded; a form of name we do not compare.
        "wildcard-over-excluded",
        "mail-constrained",
    ]
    .iter()
    .any(|part| name.contains(part))
}

#[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
fn openssl_accepts(case: &Case, folder: &std::path::Path) -> Option<bool> {
    std::fs::create_dir_all(folder).unwrap();
    let pem = |name: &str, title: &str, ders: &[&[u8]]| {
        let mut text = String::new();
        for der in ders {
            let body = data_encoding::BASE64.encode(der);
            let lines = body.as_bytes().chunks(64);
            let lines: Vec<&str> = lines.map(|line| str::from_utf8(line).unwrap()).collect();
            let lines = lines.join("\n");
            text.extend(["-----BEGIN ", title, "-----\n", &lines]);
            text.extend(["\n-----END ", title, "-----\n"]);
        }
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    fn bytes<T: AsRef<[u8]>>(list: &[T]) -> Vec<&[u8]> {
        list.iter().map(AsRef::as_ref).collect()
    }
    let leaf = pem("leaf.pem", "CERTIFICATE", &bytes(&case.chain[..1]));
    let roots = pem("roots.pem", "CERTIFICATE", &bytes(&case.trusted.roots));
    let others: Vec<&[u8]> = [
        &bytes(&case.chain[1..])[..],
        &bytes(&case.trusted.authorities),
    ]
    .concat();
    let others = pem("others.pem", "CERTIFICATE", &others);
    let lists = pem("lists.pem", "X509 CRL", &bytes(&case.trusted.lists));
    let at = case.at.as_second().to_string();
    let (policy, purpose) = match (case.usage, case.set) {
        (Usage::Person, "test") => ("1.2.392.100495.1.5.1.2.0.1", "any"),
        (Usage::Person, _) => ("1.2.392.100495.1.5.1.2.3.1", "any"),
        (Usage::Server, _) => ("1.2.392.100495.1.5.1.3.0.1", "sslserver"),
        (Usage::Institution, "test") => ("1.2.392.100495.1.5.1.3.0.1", "sslclient"),
        (Usage::Institution, _) => ("1.2.392.100495.1.5.1.3.3.1", "sslclient"),
    };
    let arguments = [
        "verify",
        "-crl_check",
        "-explicit_policy",
        "-policy_check",
        "-inhibit_any",
        "-inhibit_map",
        "-attime",
        &at,
        "-policy",
        policy,
        "-purpose",
        purpose,
        "-CAfile",
        &roots,
        "-untrusted",
        &others,
        "-CRLfile",
        &lists,
        "-no-CApath",
        "-no-CAstore",
        &leaf,
    ];
    match std::process::Command::new("openssl")
        .args(arguments)
        .output()
    {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            std::fs::write(folder.join("said"), said).unwrap();
            Some(output.status.success())
        }
        Err(error) => {
            eprintln!("SKIPPED: openssl cannot be run ({error}); the corpus is NOT cross-checked");
            None
        }
    }
}

/// Bars: T-40.
#[test]
fn the_corpus_is_written_for_others_and_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus();
    let written = corpus.write(folder.path()).unwrap();
    assert!(written >= 300 && written < corpus.cases().len());
    let text = std::fs::read_to_string(folder.path().join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = manifest["cases"].as_array().unwrap();
    assert_eq!(cases.len(), written);
    // Judged again from the files alone.
    for case in cases.iter().step_by(5) {
        let read = |key: &str| -> Vec<Vec<u8>> {
            let names = case[key].as_array().unwrap().iter();
            names
                .map(|name| std::fs::read(folder.path().join(name.as_str().unwrap())).unwrap())
                .collect()
        };
        let again = Case {
            name: case["name"].as_str().unwrap().to_owned(),
            level: Level::EndEntity,
            expected: None,
            usage: match case["usage"].as_str().unwrap() {
                "person" => Usage::Person,
                "server" => Usage::Server,
                _ => Usage::Institution,
            },
            set: if case["profiles"] == "hpki" {
                "hpki"
            } else {
                "test"
            },
            at: case["at"].as_str().unwrap().parse().unwrap(),
            grace: Duration::from_secs(case["grace_seconds"].as_u64().unwrap()),
            chain: read("chain")
                .into_iter()
                .map(CertificateDer::from)
                .collect(),
            trusted: crate::pki::dev::corpus::Trusted {
                roots: read("roots")
                    .into_iter()
                    .map(CertificateDer::from)
                    .collect(),
                authorities: read("authorities")
                    .into_iter()
                    .map(CertificateDer::from)
                    .collect(),
                lists: read("lists").into_iter().map(Into::into).collect(),
                renewals: read("renewals").into_iter().map(Into::into).collect(),
            },
        };
        assert_eq!(again.verdict(), case["expected"].as_str(), "{}", again.name);
    }
    assert!(manifest["rules"].as_array().unwrap().len() >= 70);
}
