//! The corpus of identity messages that others published (`RENKEI_SHARED`, default `../shared`): the
//! content of each HL7 v2 feed, merge, link and cross-reference query, mapped to this interface without
//! its envelope, and the outcome that the corpus' index expects.

use std::collections::BTreeMap;
use std::path::PathBuf;

use renkei::wire::pb::common::Identifier;
use renkei::wire::pb::directory as dpb;
use renkei::wire::pb::identity as pb;
use tonic::{Code, Status};

use super::people::{Desk, HERE, call, client, key, pix};
use crate::support::calls::feed;
use crate::support::{Network, Setup};

/// Namespaces of the messages' domains. What is not here is nobody's.
const DOMAINS: [(&str, &str); 6] = [
    ("TEST", "2.16.840.1.113883.3.72.5.9.1"),
    ("TEST_A", "2.16.840.1.113883.3.72.5.9.2"),
    ("TEST_B", "2.16.840.1.113883.3.72.5.9.3"),
    ("NID", "2.16.840.1.113883.3.72.5.9.9"),
    ("HIMSS2005", "1.3.6.1.4.1.21367.2005.1.1"),
    ("MPI", "2.16.840.1.113883.3.37.4.1.1.2.1.1"),
];

/// Messages whose published assertion is not what is done here, and why.
const OTHERWISE: [(&str, &str); 4] = [
    (
        "OHIE-CR-16-50.xml",
        "a merged id answers as its survivor on this interface, with a notice",
    ),
    (
        "OHIE-CR-18-40.xml",
        "linked by an account number, which is no identifier here",
    ),
    (
        "segmentfinder_a24.hl7",
        "its domains are known by namespace only, and nobody's",
    ),
    (
        "PIX_FEED_MERGE_Maximal_Request.hl7",
        "its domains are nobody's, and two: refused as IHE wants",
    ),
];

/// A message taken apart: segments of fields.
struct Message {
    segments: Vec<Vec<String>>,
    component: char,
    repetition: char,
    sub: char,
}

impl Message {
    fn parse(text: &str) -> Option<Self> {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let start = text.find("MSH")?;
        let text = text.get(start..)?;
        let mut characters = text.chars().skip(3);
        let field = characters.next()?;
        let (component, repetition) = (characters.next()?, characters.next()?);
        let sub = characters.nth(1)?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let segments = lines.map(|line| line.trim_end().split(field).map(str::to_owned).collect());
        Some(Self {
            segments: segments.collect(),
            component,
            repetition,
            sub,
        })
    }

    fn all(&self, name: &str) -> Vec<&Vec<String>> {
        let named = |segment: &&Vec<String>| segment[0] == name;
        self.segments.iter().filter(named).collect()
    }

    /// Field `n` of the first segment of that name; of MSH, counted as the standard does.
    fn field(&self, name: &str, n: usize) -> &str {
        let n = if name == "MSH" { n - 1 } else { n };
        let segment = self.all(name).into_iter().next();
        segment
            .and_then(|one| one.get(n))
            .map_or("", String::as_str)
    }

    fn parts<'a>(&self, value: &'a str) -> Vec<&'a str> {
        value.split(self.component).collect()
    }

    fn event(&self) -> String {
        self.parts(self.field("MSH", 9))
            .get(1)
            .unwrap_or(&"")
            .to_string()
    }

    /// A CX as an identifier; its domain is empty if nobody here knows it.
    fn cx(&self, value: &str) -> Identifier {
        let parts = self.parts(value);
        let authority = parts.get(3).copied().unwrap_or_default();
        Identifier {
            value: parts[0].to_owned(),
            assigning_authority: self.domain(authority),
            ..Identifier::default()
        }
    }

    fn domain(&self, authority: &str) -> String {
        let mut parts = authority.split(self.sub);
        let (namespace, oid) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let known = DOMAINS.iter().find(|(name, _)| *name == namespace);
        match oid {
            "" => known.map_or_else(String::new, |(_, oid)| (*oid).to_owned()),
            oid => oid.to_owned(),
        }
    }

    fn identifiers(&self, value: &str) -> Vec<Identifier> {
        let all = value.split(self.repetition).filter(|one| !one.is_empty());
        all.map(|one| self.cx(one)).collect()
    }

    /// PID as demographics.
    fn demographics(&self) -> pb::Demographics {
        let name = self
            .field("PID", 5)
            .split(self.repetition)
            .next()
            .unwrap_or("");
        let name = self.parts(name);
        let part = |n: usize| name.get(n).copied().unwrap_or_default().to_owned();
        let birth: String = self.field("PID", 7).chars().take(8).collect();
        let birth_date = match birth.len() {
            8 => format!("{}-{}-{}", &birth[..4], &birth[4..6], &birth[6..]),
            6 => format!("{}-{}", &birth[..4], &birth[4..]),
            4 => birth,
            _ => String::new(),
        };
        let gender = match self.field("PID", 8) {
            "F" => pb::AdministrativeGender::Female,
            "M" => pb::AdministrativeGender::Male,
            "O" => pb::AdministrativeGender::Other,
            _ => pb::AdministrativeGender::Unknown,
        };
        pb::Demographics {
            names: vec![pb::PersonName {
                family: part(0),
                given: vec![part(1)],
                ..pb::PersonName::default()
            }],
            birth_date,
            administrative_gender: gender.into(),
            ..pb::Demographics::default()
        }
    }
}

/// What became of a message here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Taken,
    Nothing,
    Refused(String),
}

fn outcome<T>(answer: Result<T, Status>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Taken,
        Err(status) => Outcome::Refused(crate::support::expect::said(&status)),
    }
}

/// What the index says should become of it.
fn expected(text: &str) -> Option<Outcome> {
    let refused = Outcome::Refused(String::new());
    let starts = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
    if text.contains("QAK-2=NF") {
        Some(Outcome::Nothing)
    } else if starts(&["MSA-1=AA"]) || starts(&["AA", "accept:", "register", "merge ", "template"])
    {
        Some(Outcome::Taken)
    } else if starts(&["MSA-1=AE", "MSA-1=AR", "reject", "AE", "no AA"])
        || text.contains("without assigning authority")
        || text.contains("without AA")
        || text.contains("answers AE")
    {
        Some(refused)
    } else {
        None
    }
}

/// The desk a message comes from: who sends for a domain that is another's sends from elsewhere.
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn act(network: &Network, message: &Message, group: &str, foreign: bool) -> Outcome {
    let desk = Desk::new(network, usize::from(foreign), 0);
    let system = network.system(HERE, desk.institution);
    // Scenarios begin with nobody known: each has identifiers of its own.
    let own = |mut id: Identifier| {
        if !id.value.is_empty() {
            id.value = format!("{}-{group}", id.value);
        }
        id
    };
    let fed = async |id: Identifier| {
        let patient = pb::Patient {
            identifier: Some(own(id)),
            demographics: Some(message.demographics()),
            ..pb::Patient::default()
        };
        let request = pb::FeedPatientRequest {
            patient: Some(patient),
            idempotency_key: key(),
            ..pb::FeedPatientRequest::default()
        };
        feed(&system, request).await
    };
    match message.event().as_str() {
        "A01" | "A04" | "A05" | "A08" | "A28" | "A31" => {
            if message.all("PID").is_empty() {
                return Outcome::Refused("no PID".to_owned());
            }
            let mut last = Outcome::Refused("no identifier".to_owned());
            for id in message.identifiers(message.field("PID", 3)) {
                // Identifiers of domains that are not the sender's are hints.
                let answer = outcome(fed(id).await);
                if last != Outcome::Taken {
                    last = answer;
                }
            }
            last
        }
        "A40" => {
            let survivor = message.cx(message.field("PID", 3));
            let subsumed = message.cx(message.field("MRG", 1));
            if !survivor.assigning_authority.is_empty() && !subsumed.assigning_authority.is_empty()
            {
                // A scenario's own feeds have come before; of a message alone, both are known.
                for id in [&survivor, &subsumed] {
                    drop(fed(id.clone()).await);
                }
            }
            let request = pb::MergePatientsRequest {
                survivor: Some(own(survivor)),
                subsumed: Some(own(subsumed)),
                idempotency_key: key(),
                ..pb::MergePatientsRequest::default()
            };
            outcome(call!(system, merge_patients, request))
        }
        "A24" => {
            let steward = desk.steward("S-1", HERE);
            let both = message.all("PID");
            let of = |n: usize| both.get(n).map(|pid| own(message.cx(&pid[3])));
            let request = pb::LinkPatientsRequest {
                first: of(0),
                second: of(1),
                reason: "A24".to_owned(),
                idempotency_key: key(),
                ..pb::LinkPatientsRequest::default()
            };
            outcome(
                client(&steward)
                    .link_patients(steward.request(request))
                    .await,
            )
        }
        "Q23" => {
            let id = own(message.cx(message.field("QPD", 3)));
            let wanted = message.field("QPD", 4);
            let wanted = wanted
                .split(message.repetition)
                .filter(|one| !one.is_empty());
            let domains = wanted.map(|one| {
                let parts = message.parts(one);
                let domain = message.domain(parts.get(3).copied().unwrap_or_default());
                if domain.is_empty() {
                    "1.2.3.4.5.6".to_owned()
                } else {
                    domain
                }
            });
            let request = pb::QueryIdentifiersRequest {
                subject: Some(pb::query_identifiers_request::Subject::Identifier(
                    id.clone(),
                )),
                target_domains: domains.collect(),
            };
            match call!(system, query_identifiers, request) {
                // The corpus counts the identifier asked for, which IHE leaves out.
                Ok(known) if known.identifiers.is_empty() => {
                    let wanted = message.field("QPD", 4);
                    let own_domain = message.parts(wanted).get(3).map(|one| message.domain(one));
                    let itself = own_domain.is_none_or(|one| one == id.assigning_authority);
                    if itself {
                        Outcome::Taken
                    } else {
                        Outcome::Nothing
                    }
                }
                answer => outcome(answer),
            }
        }
        other => Outcome::Refused(format!("event {other}")),
    }
}

fn same(expected: &Outcome, found: &Outcome) -> bool {
    matches!(
        (expected, found),
        (Outcome::Taken, Outcome::Taken)
            | (Outcome::Nothing, Outcome::Nothing)
            | (Outcome::Refused(_), Outcome::Refused(_))
    )
}

/// The text of a message file: HL7 v2 as it is, or inside a step of a scenario.
fn text_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes)
        // What a template leaves open.
        .replace("$PATIENTID", "T-1")
        .replace("$MPI-OID", DOMAINS[0].1);
    let inside = text.split_once("<message>").map(|(_, rest)| rest);
    let inside = inside.and_then(|rest| rest.split_once("</message>"));
    match inside {
        Some((message, _)) => message.replace("&amp;", "&"),
        None => text,
    }
}

async fn network() -> Network {
    let network = Setup::standalone().start().await;
    let home = network.node(HERE).home.clone();
    let change = |directory: &mut dpb::ApplyDirectoryRequest| {
        let mut communities = directory.communities.iter_mut();
        let own = communities
            .find(|one| one.home_community_id == home)
            .unwrap();
        for (name, oid) in DOMAINS {
            own.assigning_authorities.push(dpb::AssigningAuthority {
                oid: oid.to_owned(),
                namespace_id: name.to_owned(),
                ..Default::default()
            });
        }
    };
    network.apply_directory(change).await;
    network
}

/// Every message that this interface can take reaches its outcome; the table says which.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn the_corpus_reaches_its_outcomes() {
    let shared = std::env::vars_os().find(|(name, _)| name == "RENKEI_SHARED");
    let shared = shared.map_or_else(|| "../shared".into(), |(_, path)| path);
    let folder = PathBuf::from(shared).join("corpus/identity");
    let Ok(index) = std::fs::read_to_string(folder.join("index.tsv")) else {
        println!(
            "SKIPPED: no corpus at {}: set RENKEI_SHARED",
            folder.display()
        );
        return;
    };
    let network = network().await;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in index.lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        let (file, transaction, wanted) = (columns[0], columns[3], columns[4]);
        let run = ["ITI-8 ", "ITI-9 request", "ITI-30 "]
            .iter()
            .any(|one| transaction.starts_with(one));
        let name = file.rsplit('/').next().unwrap();
        let expected = expected(wanted);
        let message = std::fs::read(folder.join(file)).ok();
        let message = message.and_then(|bytes| Message::parse(&text_of(&bytes)));
        let (Some(message), true) = (message, run) else {
            *counts
                .entry("not of this interface, or needs its envelope")
                .or_default() += 1;
            continue;
        };
        // The steps of one scenario share their people.
        let group: String = match name.strip_prefix("OHIE-CR-") {
            Some(step) => step.chars().take(2).collect(),
            None => name.replace(['.', '_'], "-"),
        };
        let domain = message.cx(message.field("PID", 3)).assigning_authority;
        let foreign = message.field("MSH", 3).starts_with("TEST_HARNESS_B")
            && domain != DOMAINS[2].1
            && message.event() != "Q23";
        let found = act(&network, &message, &group, foreign).await;
        let otherwise = OTHERWISE.iter().find(|(other, _)| *other == name);
        let verdict = match (&expected, otherwise) {
            (_, Some((_, why))) => format!("otherwise: {why}"),
            (None, _) => "no expectation".to_owned(),
            (Some(expected), None) if same(expected, &found) => "as expected".to_owned(),
            (Some(expected), None) => {
                wrong.push(format!(
                    "{file}: {found:?}, expected {expected:?} ({wanted})"
                ));
                "WRONG".to_owned()
            }
        };
        println!("{file} | {transaction} | {found:?} | {verdict}");
        let kind = match verdict.split(':').next() {
            Some("as expected") => "as expected",
            Some("otherwise") => "otherwise, for a reason",
            Some("WRONG") => "wrong",
            _ => "no expectation",
        };
        *counts.entry(kind).or_default() += 1;
    }
    println!("{counts:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        counts.get("as expected").copied().unwrap_or_default() >= 25,
        "{counts:?}"
    );
    let system = Desk::new(&network, 0, 0).system();
    let nobody = pix(
        &system,
        Identifier {
            value: "nobody".to_owned(),
            assigning_authority: DOMAINS[0].1.to_owned(),
            ..Identifier::default()
        },
    );
    assert_eq!(
        nobody.await.unwrap_err().code(),
        Code::NotFound,
        "the domains are known"
    );
    network.stop().await;
}
