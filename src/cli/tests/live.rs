//! The commands against a node that is everything, over real mutual TLS on loopback.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser as _;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::cli::failure::Failure;
use crate::cli::output::{Done, Output, PRINTED};
use crate::cli::{Cli, ClientProfile, DocumentProfile, PersonProfile};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::demo::sample::{Sample, SampleConfig};
use crate::demo::world::{Node as Place, World};
use crate::gateway::Gateway;
use crate::pki::dev::Layout;
use crate::store::Options;

/// A node with its world, serving until dropped.
struct Node {
    folder: tempfile::TempDir,
    world: World,
    place: Place,
    institution: String,
    address: String,
    stop: CancellationToken,
    _runtime: Runtime,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Node {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let sample = Sample::generate(&SampleConfig {
            regions: 1,
            patients: 20,
            ..SampleConfig::default()
        });
        let world = World::create(folder.path(), &sample, Arc::clone(&clock)).unwrap();
        let place = world.regions[0].clone();
        let config = world.standalone_config(&place, "127.0.0.1:0").unwrap();
        let config = Config::parse(&config, []).unwrap();
        let runtime = Runtime::new().unwrap();
        let stop = CancellationToken::new();
        let until = stop.clone();
        let address = runtime.block_on(async {
            let listener = TcpListener::bind(config.listen.address).await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let regions = std::slice::from_ref(&address);
            let directory = world.directory("127.0.0.1:1", regions).unwrap();
            let options = Options {
                clock,
                ..Options::default()
            };
            let gateway = Gateway::open(config, options, Some(directory))
                .await
                .unwrap();
            tokio::spawn(crate::server::run(gateway, listener, until));
            address
        });
        // With an emergency department.
        let institutions = &sample.regions[0].institutions;
        let institution = institutions.iter().find(|one| one.emergency).unwrap();
        Self {
            institution: institution.code.clone(),
            folder,
            world,
            place,
            address,
            stop,
            _runtime: runtime,
        }
    }

    fn profile(&self, certificate: &str, person: Option<PersonProfile>) -> ClientProfile {
        let layout = Layout::of(&self.folder.path().join("pki"));
        let (certificate, key) = self.world.files(certificate);
        ClientProfile {
            endpoint: format!("https://{}", self.address),
            certificate,
            key,
            roots: vec![layout.root],
            intermediates: vec![layout.issuing],
            crls: vec![layout.crls],
            test_profile: true,
            server_pin: Some(self.place.pin.to_string()),
            community: self.place.home.clone(),
            person,
            document: Some(DocumentProfile {
                author_institution: Some("甲病院".to_owned()),
                facility: Some("1.2.392.100495.20.3.22|1|医科".to_owned()),
                practice: Some("1.2.392.200250.2.2.2|01|内科".to_owned()),
                ..DocumentProfile::default()
            }),
            ..ClientProfile::default()
        }
    }

    fn doctor(&self) -> ClientProfile {
        let person = PersonProfile {
            subject: "D-1".to_owned(),
            role: "Medical Doctor".to_owned(),
            purpose: "TREAT".to_owned(),
            relation: "treating".to_owned(),
            institution: self.institution.clone(),
            audience: Vec::new(),
        };
        self.profile(&format!("inst-{}", self.institution), Some(person))
    }

    fn save(&self, profile: &ClientProfile, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        profile.save(&path).unwrap();
        path
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.folder.path().join(name), content).unwrap();
        self.path(name)
    }
}

/// Runs a command with `--json`: what it came to, and what it printed, line by line.
fn run(profile: &Path, arguments: &[&str]) -> Result<(Done, Vec<Value>), Box<Failure>> {
    let before = ["renkei", "--json"]
        .into_iter()
        .chain(arguments.iter().copied());
    let as_profile = ["--as", profile.to_str().unwrap()];
    let cli = Cli::try_parse_from(before.chain(as_profile)).unwrap();
    PRINTED.take();
    let done = cli.command.run(Output::new(true));
    let done = done.map_err(|error| Box::new(Failure::of(&error)))?;
    let printed = PRINTED.take();
    let lines = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    Ok((done, lines.collect()))
}

/// As [`run`], for a command that does all of what it is asked and prints one object.
#[track_caller]
fn answer(profile: &Path, arguments: &[&str]) -> Value {
    let (done, mut lines) = run(profile, arguments).unwrap();
    assert_eq!(done, Done::All, "{arguments:?}");
    assert_eq!(lines.len(), 1, "{arguments:?}");
    lines.remove(0)
}

/// Runs a command for people: what it printed.
#[track_caller]
fn text(profile: &Path, arguments: &[&str]) -> String {
    let before = ["renkei"].into_iter().chain(arguments.iter().copied());
    let as_profile = ["--as", profile.to_str().unwrap()];
    let cli = Cli::try_parse_from(before.chain(as_profile)).unwrap();
    PRINTED.take();
    cli.command.run(Output::new(false)).unwrap();
    PRINTED.take()
}

impl Node {
    /// The domain of the institution's patient ids.
    fn domain(&self) -> String {
        format!("1.2.392.100495.20.3.51.1{}", self.institution)
    }

    /// A doctor's profile, and a patient that the doctor has fed.
    fn with_patient(&self) -> (PathBuf, String) {
        let doctor = self.save(&self.doctor(), "doctor.toml");
        let domain = self.domain();
        let fed = answer(
            &doctor,
            &[
                "patient",
                "feed",
                "--authority",
                &domain,
                "--id",
                "0007",
                "--family",
                "山田",
                "--given",
                "太郎",
                "--kana-family",
                "ヤマダ",
                "--birth",
                "1950-04-01",
                "--sex",
                "男",
            ],
        );
        assert_eq!(fed["outcome"], "FEED_OUTCOME_NEW_PERSON");
        (doctor, format!("{domain}:0007"))
    }
}

#[test]
fn patients_go_in_and_are_found() {
    let node = Node::start();
    let (doctor, patient) = node.with_patient();
    let domain = node.domain();
    let found = answer(
        &doctor,
        &[
            "patient",
            "search",
            "--family",
            "やまだ",
            "--birth",
            "1950-04-01",
        ],
    );
    assert_eq!(found["total_size"], 1);
    let linkage = found["matches"][0]["person"]["linkage_id"].clone();
    let query = answer(&doctor, &["patient", "query", &patient]);
    assert_eq!(query["linkage_id"], linkage);
    assert!(text(&doctor, &["patient", "show", &patient]).contains("山田 太郎"));

    let lines =
        format!("{{\"authority\":\"{domain}\",\"id\":\"8\",\"family\":\"佐藤\"}}\n\n{{\"x\":1}}\n");
    let file = node.write("patients.jsonl", lines.as_bytes());
    let (done, mut results) = run(&doctor, &["patient", "feed", &file]).unwrap();
    assert_eq!(done, Done::InPart, "the third line was refused");
    results.sort_by_key(|result| result["line"].as_u64());
    assert_eq!(results[0]["outcome"], "FEED_OUTCOME_NEW_PERSON");
    assert_eq!(results[1]["line"], 3);
    let message = results[1]["error"]["message"].as_str().unwrap();
    assert!(message.contains("unknown field `x`"), "{message}");
}

#[test]
fn a_document_comes_back_as_it_went() {
    let node = Node::start();
    let (doctor, patient) = node.with_patient();
    // Several chunks, and not a whole number of them.
    let content: Vec<u8> = (0..600_000_u32).flat_map(u32::to_le_bytes).collect();
    let letter = node.write("letter.pdf", &content);
    let provided = answer(
        &doctor,
        &[
            "document",
            "provide",
            "--patient",
            &patient,
            "--kind",
            "referral",
            "--title",
            "紹介状",
            &letter,
        ],
    );
    let entry = &provided["result"]["entries"][0];
    assert_eq!(entry["size"], content.len());
    assert!(text(&doctor, &["document", "find", "--patient", &patient]).contains("紹介状"));

    let copy = node.path("copy.pdf");
    let unique_id = entry["unique_id"].as_str().unwrap();
    let retrieve = [
        "document",
        "retrieve",
        "--repository",
        &node.place.repository,
        "--unique-id",
        unique_id,
        "-o",
        &copy,
    ];
    assert_eq!(answer(&doctor, &retrieve)["hash"], entry["hash"]);
    assert_eq!(std::fs::read(&copy).unwrap(), content);
    let again = run(&doctor, &retrieve).unwrap_err();
    assert!(again.message.contains("exists already"), "{again:?}");
}

#[test]
fn consent_is_recorded_and_access_reported() {
    let node = Node::start();
    let (doctor, patient) = node.with_patient();
    let clerk = ["--patient", &patient, "--role", "Clerk"];
    answer(&doctor, &[&["consent", "opt-out"], &clerk[..]].concat());
    let consents = answer(&doctor, &[&["consent", "list"], &clerk[..]].concat());
    assert_eq!(consents["consents"][0]["effect"], "CONSENT_EFFECT_DENY");

    let officer = [
        "audit",
        "report",
        "--patient",
        &patient,
        "--role",
        "Privacy Officer",
        "--purpose",
        "HOPERAT",
        "--relation",
        "none",
    ];
    let (done, report) = run(&doctor, &officer).unwrap();
    assert_eq!(done, Done::All);
    let summary = &report.last().unwrap()["summary"];
    assert_eq!(summary["event_count"], report.len() - 1);
    assert!(report.len() > 2);
    // With proofs, which are verified: a lie would be an error.
    let (done, proved) = run(&doctor, &[&officer[..], &["--proofs"]].concat()).unwrap();
    assert_eq!(done, Done::All);
    assert_eq!(proved.len(), report.len() + 1);
    let told = answer(&doctor, &["audit", "checkpoint"]);
    let note: crate::audit::note::Note = told["checkpoint"].as_str().unwrap().parse().unwrap();
    let key = told["verifier_key"].as_str().unwrap().parse().unwrap();
    assert!(note.is_signed_by(&key));
}

#[test]
fn operators_see_the_network_and_refusals_say_why() {
    let node = Node::start();
    let operator = node.save(&node.profile("operator", None), "operator.toml");
    assert_eq!(
        answer(&operator, &["node", "info"])["home_community_id"],
        node.place.home
    );
    let (_, members) = run(&operator, &["directory", "show"]).unwrap();
    assert_eq!(members[1]["institutions"].as_array().unwrap().len(), 5);
    assert!(text(&operator, &["directory", "show"]).contains(&node.place.title));

    let other_pin = ClientProfile {
        server_pin: Some("00".repeat(32)),
        ..node.doctor()
    };
    let other_pin = node.save(&other_pin, "pin.toml");
    let refused = run(&other_pin, &["patient", "query", "1.2.3:4"]).unwrap_err();
    assert_eq!(refused.reason.as_deref(), Some("pin"));
    assert_eq!(refused.line().lines().count(), 1);

    let doctor = node.save(&node.doctor(), "doctor.toml");
    let refused = run(&doctor, &["patient", "query", "1.2.3:4"]).unwrap_err();
    assert_eq!(refused.code, "NOT_FOUND");
    assert_eq!(
        refused.violations[0].field,
        "identifier.assigning_authority"
    );

    let down = ClientProfile {
        endpoint: "https://127.0.0.1:1".to_owned(),
        ..node.doctor()
    };
    let down = node.save(&down, "down.toml");
    let refused = run(&down, &["node", "info"]).unwrap_err();
    assert!(
        refused
            .message
            .starts_with("cannot connect to https://127.0.0.1:1")
    );

    let token = answer(&doctor, &["token", "--purpose", "emergency"]);
    assert_eq!(token["assertion"].as_str().unwrap().split('.').count(), 3);
}
