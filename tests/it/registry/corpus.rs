//! The message corpus (`RENKEI_SHARED/corpus/xds`): every message that changes a registry is mapped
//! from its ebXML form, sent to a node over mutual TLS, and has the outcome that its authors demand.
//! The table that is printed says where it has another, and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use renkei::demo::actor::Caller;
use renkei::demo::messages;
use renkei::demo::sample::{SampleInstitution, SampleRecord};
use renkei::documents::ebxml::{self, Content, Request};
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::documents as pb;
use tonic::Status;

use super::corpus_index::{self, Assigned, Key, Row, Step, Value};
use crate::support::calls::{feed, provide};
use crate::support::{At, Network, Setup};

/// Where this registry does something else than the message's authors expect, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "tests/21002/update",
        "submit",
        "a document stays its patient's: it lies under that patient's key, and goes with it. What was \
         filed under the wrong patient is removed and provided again",
    ),
    (
        "testdata-registry/DSUB_IHEGREEN-1015/submit",
        "submit",
        "authorPerson has neither an id nor a family name, one of which XCN needs",
    ),
    (
        "tests/12346",
        "submit_doc",
        "the slot languageCode stands twice; the name of a slot is unique in its object",
    ),
    (
        "tests/12369/hash",
        "submit",
        "a hash without its form is wrong before any octet came: the registry's form of the code, \
         XDSRegistryMetadataError, is answered",
    ),
];

/// The schemes of the patientId of an entry, a submission set and a folder.
const PATIENT_SCHEMES: [&str; 3] = [
    "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427",
    "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446",
    "urn:uuid:f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a",
];

/// The node that the messages are sent to, and what it was told.
struct Run<'a> {
    network: &'a Network,
    caller: Caller,
    institution: SampleInstitution,
    record: SampleRecord,
    repository: String,
    rows: Vec<Row>,
    /// Patients by the name of the step that made them known, or by their literal identifier.
    patients: BTreeMap<String, cpb::Identifier>,
    done: BTreeMap<Key, Done>,
    number: u64,
}

/// What became of a step.
#[derive(Clone, Debug, Default)]
struct Done {
    /// All errors of the refusal, with their places.
    said: String,
    /// IHE codes of a refusal; none of a success.
    refused: Option<Vec<String>>,
    uuids: Vec<(String, String)>,
    unique_ids: BTreeMap<String, String>,
    /// The id of the first document and of the first folder.
    first: [String; 2],
}

fn corpus() -> Option<PathBuf> {
    let named = std::env::vars().find(|(name, _)| name == "RENKEI_SHARED");
    let root = named.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        |(_, path)| PathBuf::from(path),
    );
    let corpus = root.join("corpus/xds");
    corpus.join("index.tsv").exists().then_some(corpus)
}

/// The affinity domain that the messages are of: its code sets, as a profile.
fn profile(corpus: &Path) -> String {
    let mut text = String::from(
        "author_institution = \"optional\"\nhash = \"computed\"\nconfidentiality = \"any\"\ncontent = \"off\"\n",
    );
    let codes = std::fs::read(corpus.join("toolkit2/environment/codes.xml")).unwrap();
    let codes = renkei::xml::parse(&codes).unwrap();
    for kind in codes.all("CodeType") {
        let attribute = match kind.attribute("name").unwrap() {
            "classCode" => "class_code",
            "typeCode" => "type_code",
            "formatCode" => "format_code",
            "healthcareFacilityTypeCode" => "healthcare_facility_type_code",
            "practiceSettingCode" => "practice_setting_code",
            "confidentialityCode" => "confidentiality_code",
            "eventCodeList" => "event_code",
            "contentTypeCode" => "content_type_code",
            "folderCodeList" => "folder_code",
            _ => continue,
        };
        writeln!(
            text,
            "[[code_set]]\nattribute = \"{attribute}\"\nunknown = \"warn\"\ncodes = ["
        )
        .unwrap();
        for code in kind.all("Code") {
            let of = |name| code.attribute(name).unwrap_or_default();
            writeln!(
                text,
                "  {{ code = {:?}, system = {:?} }},",
                of("code"),
                of("codingScheme")
            )
            .unwrap();
        }
        text.push_str("]\n");
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

impl Run<'_> {
    /// A patient that is known to the node, one for each name.
    async fn patient(&mut self, name: &str) -> cpb::Identifier {
        if let Some(known) = self.patients.get(name) {
            return known.clone();
        }
        let mut record = self.record.clone();
        record.local_id = format!("C{:05}", self.patients.len());
        let request = messages::feed(&self.institution, &record);
        feed(&self.caller, request).await.unwrap();
        let id = messages::patient_id(&self.institution, &record.local_id);
        self.patients.insert(name.to_owned(), id.clone());
        id
    }

    fn oid(&mut self) -> String {
        self.number += 1;
        format!("1.2.3.4.5.{}", self.number)
    }

    /// The step that another one builds on.
    fn find(&self, scenario: &str, step: &str) -> Option<Row> {
        let named = |row: &&Row| {
            let tail = |of: &str| of == scenario || of.strip_prefix("tests/") == Some(scenario);
            tail(&row.scenario) && (step.is_empty() || row.step == step)
        };
        self.rows.iter().find(named).cloned()
    }

    /// The steps that come before this one: those that its placeholders are of, and the one before it
    /// in its authors' plan.
    fn needs(&self, row: &Row) -> Vec<Row> {
        let values = row.bindings.iter().map(|binding| &binding.value);
        let assigned = values.filter_map(|value| self.source(value));
        let before = row.after().map(|(scenario, step)| {
            let before = self.find(scenario, step);
            before.unwrap_or_else(|| panic!("no step {scenario} {step}"))
        });
        assigned.chain(before).collect()
    }

    /// The step that assigned a value. Several steps of a scenario may have a report of the same name:
    /// which one is meant is told beside it, or it is the first.
    fn source(&self, value: &Value) -> Option<Row> {
        let Value::Assigned {
            scenario,
            step,
            what,
        } = value
        else {
            return None;
        };
        match (step, what) {
            (_, Assigned::Repository) => None,
            (Step::Exactly(step), _) => {
                let named = self.find(scenario, step);
                named.or_else(|| self.beside(scenario, step))
            }
            (Step::OfReport(step), _) => {
                let named = self.find(scenario, step);
                named.or_else(|| self.find(scenario, ""))
            }
        }
    }

    /// The step of this name in another section of the same test: a few messages name their own section
    /// where they mean that one (`tests/12344/rplc submit_doc_for_rplc`).
    fn beside(&self, scenario: &str, step: &str) -> Option<Row> {
        let (test, _) = scenario.rsplit_once('/')?;
        let of_test = |row: &&Row| {
            let section = row.scenario.strip_prefix(test);
            section.is_some_and(|section| section.starts_with('/')) && row.step == step
        };
        self.rows.iter().find(of_test).cloned()
    }

    /// All steps, each after those that it needs.
    fn in_order(&self) -> Vec<Row> {
        let mut order = Vec::new();
        let mut under_way = Vec::new();
        for row in &self.rows {
            self.put_in_order(row, &mut under_way, &mut order);
        }
        order
    }

    fn put_in_order(&self, row: &Row, under_way: &mut Vec<Key>, order: &mut Vec<Row>) {
        let key = row.key();
        if order.iter().any(|known| known.key() == key) {
            return;
        }
        assert!(!under_way.contains(&key), "{key:?} needs itself");
        under_way.push(key);
        for needed in self.needs(row) {
            self.put_in_order(&needed, under_way, order);
        }
        under_way.pop();
        order.push(row.clone());
    }

    async fn value(&mut self, value: &Value) -> Option<String> {
        match value {
            Value::Patient(name) => {
                let id = self.patient(name).await;
                Some(format!("{}^^^&{}&ISO", id.value, id.assigning_authority))
            }
            Value::Assigned {
                what: Assigned::Repository,
                ..
            } => Some(self.repository.clone()),
            Value::Assigned { what, .. } => {
                let done = self.done.get(&self.source(value)?.key())?;
                match what {
                    Assigned::UniqueId(object) => done.unique_ids.get(object).cloned(),
                    Assigned::Uuid(object) => {
                        let named = |id: &str| {
                            done.uuids
                                .iter()
                                .find(|(known, _)| known == id)
                                .map(|(_, uuid)| uuid.clone())
                        };
                        named(object).or_else(|| {
                            let place = usize::from(object.to_lowercase().starts_with("fol"));
                            named(&done.first[place]).or_else(|| named(&done.first[1]))
                        })
                    }
                    Assigned::Repository => None,
                }
            }
        }
    }

    /// Fills in a message, maps it and sends it.
    async fn send(&mut self, row: &Row) -> Done {
        let mut text = std::fs::read_to_string(&row.file).unwrap();
        for binding in &row.bindings {
            let value = self.value(&binding.value).await;
            let Some(value) = value else { continue };
            text = text.replace(&binding.symbol, &escaped(&value));
        }
        if text.contains("$patientid$") {
            let any = self.value(&Value::Patient("any".to_owned())).await.unwrap();
            text = text.replace("$patientid$", &escaped(&any));
        }
        let text = self.with_patients(row, &text).await;
        let request = match ebxml::read(with_documents(row, &text).as_bytes()) {
            Ok(request) => request,
            Err(error) => {
                let all = || std::iter::once(&error).chain(error.others());
                let codes = all().map(|error| error.reason().ihe_code().to_owned());
                let said: Vec<String> = all().map(ToString::to_string).collect();
                return Done {
                    refused: Some(codes.collect()),
                    said: said.join("; "),
                    ..Done::default()
                };
            }
        };
        // An XDR recipient has no registry, and takes less: such messages are mapped only.
        if row.transaction == "ITI-41(XDR)" {
            return Done::default();
        }
        match request {
            Request::Submit(submission) => self.submit(row, submission, Vec::new()).await,
            Request::Provide(provided) => {
                self.submit(row, provided.submission, provided.documents)
                    .await
            }
            Request::RemoveObjects(ids) => refusal(super::remove(&self.caller, ids).await),
            Request::RemoveDocuments(documents) => {
                let request = pb::RemoveDocumentsRequest {
                    documents,
                    reason: "誤登録".to_owned(),
                    idempotency_key: uuid::Uuid::new_v4().to_string(),
                };
                let mut client = super::client(&self.caller);
                let answer = client.remove_documents(self.caller.request(request)).await;
                refusal(answer.map(|_| ()))
            }
        }
    }

    /// Puts patients where a message has a name for one: a placeholder that the index does not bind,
    /// or, where the sender assigns the patient, any word.
    async fn with_patients(&mut self, row: &Row, text: &str) -> String {
        let mut parts = Vec::new();
        for part in text.split_inclusive('>') {
            let tag = part.rfind('<').map_or("", |at| &part[at..]);
            let of_patient = PATIENT_SCHEMES.iter().any(|scheme| tag.contains(scheme));
            let value = tag.split_once(" value=\"").map(|(_, tail)| tail);
            let value = value.and_then(|tail| tail.split('"').next());
            let name = value.filter(|value| of_patient && !value.contains('^'));
            let known = match name {
                Some(symbol) if symbol.starts_with('$') => symbol,
                Some(_) if !row.patient_is_literal() => "any",
                _ => {
                    parts.push(part.to_owned());
                    continue;
                }
            };
            let id = self.value(&Value::Patient(known.to_owned())).await.unwrap();
            let old = format!(" value=\"{}\"", name.unwrap_or_default());
            let new = format!(" value=\"{}\"", escaped(&id));
            parts.push(part.replace(&old, &new));
        }
        parts.concat()
    }

    async fn submit(
        &mut self,
        row: &Row,
        mut submission: pb::Submission,
        inline: Vec<(String, Content)>,
    ) -> Done {
        let mut done = Done {
            first: [
                submission
                    .entries
                    .first()
                    .map(|entry| entry.entry_uuid.clone())
                    .unwrap_or_default(),
                submission
                    .folders
                    .first()
                    .map(|folder| folder.entry_uuid.clone())
                    .unwrap_or_default(),
            ],
            ..Done::default()
        };
        self.fill(row, &mut submission, &mut done).await;
        let result = match row.transaction.as_str() {
            "ITI-57" => super::update(&self.caller, submission, false).await,
            "ITI-92" => super::update(&self.caller, submission, true).await,
            "ITI-61" => {
                let request = pb::RegisterOnDemandDocumentRequest {
                    submission: Some(submission),
                    idempotency_key: uuid::Uuid::new_v4().to_string(),
                    ..Default::default()
                };
                let mut client = super::client(&self.caller);
                let answer = client
                    .register_on_demand_document(self.caller.request(request))
                    .await;
                answer.map(|answer| answer.into_inner().result.unwrap())
            }
            "ITI-42" => super::register(&self.caller, submission).await,
            _ => self.provide(row, submission, inline).await,
        };
        match result {
            Ok(result) => {
                let assigned = result.assigned_ids.into_iter();
                done.uuids = assigned.map(|id| (id.symbolic_id, id.entry_uuid)).collect();
                done
            }
            Err(status) => {
                let Done { refused, said, .. } = refusal::<()>(Err(status));
                Done {
                    said,
                    refused,
                    ..done
                }
            }
        }
    }

    /// What the sender assigns: patients that the registry knows, uniqueIds.
    #[expect(
        clippy::too_many_lines,
        reason = "what a message leaves open, one after the other"
    )]
    async fn fill(&mut self, row: &Row, submission: &mut pb::Submission, done: &mut Done) {
        let unknown_wanted = row.error == "XDSUnknownPatientId";
        let sources = self.institution.patient_id_oid();
        let mut ids: Vec<&mut Option<cpb::Identifier>> = Vec::new();
        ids.extend(
            submission
                .submission_set
                .iter_mut()
                .map(|set| &mut set.patient_id),
        );
        ids.extend(
            submission
                .entries
                .iter_mut()
                .map(|entry| &mut entry.patient_id),
        );
        ids.extend(
            submission
                .folders
                .iter_mut()
                .map(|folder| &mut folder.patient_id),
        );
        for id in ids {
            let literal = id
                .as_ref()
                .map(|id| (id.assigning_authority.clone(), id.value.clone()));
            let Some((authority, value)) = literal else {
                continue;
            };
            if unknown_wanted && !row.patient_is_literal() {
                // The sender assigns one that no feed made known.
                *id = Some(messages::patient_id(&self.institution, "UNKNOWN"));
                continue;
            }
            if authority == sources || unknown_wanted {
                continue;
            }
            let name = if row.patient_is_literal() {
                format!("{value} of {authority}")
            } else {
                "any".to_owned()
            };
            *id = Some(self.patient(&name).await);
        }
        let is_oid = |text: &str| text.parse::<renkei::types::Oid>().is_ok();
        if let Some(set) = &mut submission.submission_set {
            // The sender assigns the id of the source, too; what is written looks like an address.
            if !is_oid(&set.source_id) {
                "1.2.3.4.5".clone_into(&mut set.source_id);
            }
        }
        for entry in &mut submission.entries {
            if !entry.repository_unique_id.is_empty() && !is_oid(&entry.repository_unique_id) {
                entry.repository_unique_id.clone_from(&self.repository);
            }
        }
        let mut names: Vec<(String, &mut String)> = Vec::new();
        names.extend(
            submission
                .submission_set
                .iter_mut()
                .map(|set| (set.entry_uuid.clone(), &mut set.unique_id)),
        );
        names.extend(
            submission
                .entries
                .iter_mut()
                .map(|entry| (entry.entry_uuid.clone(), &mut entry.unique_id)),
        );
        names.extend(
            submission
                .folders
                .iter_mut()
                .map(|folder| (folder.entry_uuid.clone(), &mut folder.unique_id)),
        );
        for (id, unique_id) in names {
            let symbolic = unique_id.parse::<renkei::types::Oid>().is_err();
            if !row.unique_ids_are_literal() || (symbolic && !unique_id.contains('^')) {
                *unique_id = self.oid();
            }
            done.unique_ids.insert(id, unique_id.clone());
        }
    }

    async fn provide(
        &mut self,
        row: &Row,
        mut submission: pb::Submission,
        inline: Vec<(String, Content)>,
    ) -> Result<pb::RegistrationResult, Status> {
        use pb::provide_documents_request::Part;
        let mut documents = Vec::new();
        for (id, content) in inline {
            if let Content::Inline(text) = content {
                let octets = base64::engine::general_purpose::STANDARD.decode(text);
                documents.push((id, octets.unwrap_or_default()));
            }
        }
        for (id, path) in &row.attachments {
            documents.retain(|(known, _)| known != id);
            documents.push((id.clone(), attached(path)));
        }
        for entry in &mut submission.entries {
            // The repository is this one, and the octets are those that are there.
            entry.repository_unique_id.clone_from(&self.repository);
            if !row.attachments.iter().any(|(_, path)| path.exists()) {
                entry.hash.clear();
                entry.size = None;
            }
        }
        let start = pb::ProvideStart {
            submission: Some(submission),
            idempotency_key: uuid::Uuid::new_v4().to_string(),
            validate_only: false,
        };
        let mut parts = vec![Part::Start(start)];
        for (id, octets) in documents {
            parts.push(Part::Document(pb::DocumentHeader { entry_uuid: id }));
            let chunks = octets.chunks(256 * 1024);
            parts.extend(chunks.map(|chunk| Part::Chunk(chunk.to_vec().into())));
        }
        let parts = parts
            .into_iter()
            .map(|part| pb::ProvideDocumentsRequest { part: Some(part) });
        let answer = provide(&self.caller, parts.collect()).await;
        answer.map(|answer| answer.into_inner().result.unwrap())
    }
}

/// An attached document. Large and binary ones are not in the corpus.
fn attached(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|_| b"left out of the corpus".to_vec())
}

/// The documents of a message that were left out of it: all that are attached to its step.
fn with_documents(row: &Row, text: &str) -> String {
    let end = "ProvideAndRegisterDocumentSetRequest>";
    let has_them = text.contains(":Document ") || text.contains("<Document ");
    let Some(at) = text.rfind(end).and_then(|at| text[..at].rfind("</")) else {
        return text.to_owned();
    };
    if has_them {
        return text.to_owned();
    }
    let documents = row.attachments.iter().map(|(id, path)| {
        let content = base64::engine::general_purpose::STANDARD.encode(attached(path));
        format!("<Document xmlns=\"urn:ihe:iti:xds-b:2007\" id=\"{id}\">{content}</Document>")
    });
    let documents: String = documents.collect();
    format!("{}{documents}{}", &text[..at], &text[at..])
}

fn refusal<T>(answer: Result<T, Status>) -> Done {
    let refused = answer.err().map(|status| {
        let errors = super::errors(&status);
        assert!(!errors.is_empty(), "a refusal without a list: {status:?}");
        let said = errors
            .iter()
            .map(|error| format!("{}: {}", error.location, error.context));
        let said: Vec<String> = said.collect();
        let codes = errors.into_iter().map(|error| error.code).collect();
        (codes, said.join("; "))
    });
    let (refused, said) = refused.unzip();
    Done {
        refused,
        said: said.unwrap_or_default(),
        ..Done::default()
    }
}

/// Whether a step came out as demanded. A code that the authors only deduced may be another, more
/// exact one.
fn fits(row: &Row, done: &Done) -> bool {
    if !row.confirmed {
        return true;
    }
    match (row.expected.as_str(), &done.refused) {
        ("Success" | "Valid", refused) => refused.is_none(),
        ("Failure", Some(codes)) => !row.stated || codes.contains(&row.error),
        ("Invalid", refused) => refused.is_some(),
        ("questionable" | "parse-only", _) => true,
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn every_message_of_the_corpus_has_its_outcome() {
    let Some(corpus) = corpus() else {
        eprintln!("SKIPPED: no message corpus; RENKEI_SHARED names where it is");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile.toml");
    std::fs::write(&file, profile(&corpus)).unwrap();
    let network = Setup::standalone()
        .set("documents.profile", file.to_str().unwrap())
        .start()
        .await;
    let record = network
        .record(network.sample.scenario.cross_region, 0)
        .clone();
    let institution = network.institution(&record).clone();
    let mut run = Run {
        caller: network.system(At::Region(0), &institution),
        repository: network.world.regions[0].repository.clone(),
        network: &network,
        institution,
        record,
        rows: corpus_index::read(&corpus),
        patients: BTreeMap::new(),
        done: BTreeMap::new(),
        number: 0,
    };
    assert!(run.rows.len() > 250, "{} rows only", run.rows.len());
    let mut table = String::new();
    let (mut right, mut wrong) = (0, Vec::new());
    let mut used = Vec::new();
    run.rows.retain(|row| !row.stands_alone());
    for row in run.in_order() {
        // On the heap: unoptimised, the states of all these calls are large.
        let done = Box::pin(run.send(&row)).await;
        run.done.insert(row.key(), done.clone());
        let got = match &done.refused {
            None => "Success".to_owned(),
            Some(codes) => codes.join(" "),
        };
        let name = format!("{} {} {}", row.transaction, row.scenario, row.step);
        let explained = DIFFERENCES
            .iter()
            .find(|(scenario, step, _)| *scenario == row.scenario && *step == row.step);
        let verdict = match (fits(&row, &done), explained) {
            (true, _) => {
                right += 1;
                if row.confirmed {
                    "as expected"
                } else {
                    "its authors do not confirm the outcome"
                }
            }
            (false, Some((_, _, why))) => {
                used.push((row.scenario.clone(), row.step.clone()));
                *why
            }
            (false, None) => {
                wrong.push(format!(
                    "{name}: expected {} {}, got {got}: {}",
                    row.expected, row.error, done.said
                ));
                "UNEXPLAINED"
            }
        };
        writeln!(
            table,
            "{name} | {} {} | {got} | {verdict}",
            row.expected, row.error
        )
        .unwrap();
    }
    println!("transaction scenario step | expected | got | verdict\n{table}");
    println!(
        "{right} as expected, {} explained, {} not",
        used.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}\n{wrong:#?}", wrong.len());
    let stale = DIFFERENCES.len() - used.len();
    assert_eq!(stale, 0, "a difference that is explained is none any more");
    assert!(run.network.gateway(At::Region(0)).store.last_sequence().0 > 0);
    drop(run);
    network.stop().await;
}

/// Messages without a scenario: mapped, or refused where their authors say that they are wrong.
#[test]
fn messages_by_themselves_are_mapped_or_refused() {
    let Some(corpus) = corpus() else {
        eprintln!("SKIPPED: no message corpus; RENKEI_SHARED names where it is");
        return;
    };
    let mut wrong = Vec::new();
    let mut count = 0;
    for row in corpus_index::read(&corpus) {
        if !row.stands_alone() {
            continue;
        }
        // Packages of MTOM are the SOAP door's.
        if row.file.extension().is_some_and(|ending| ending == "txt") {
            continue;
        }
        count += 1;
        let got = ebxml::read(&std::fs::read(&row.file).unwrap());
        let said = got
            .as_ref()
            .map_or_else(ToString::to_string, |_| "mapped".to_owned());
        println!(
            "{} | {} {} | {said}",
            row.file.file_name().unwrap().display(),
            row.expected,
            row.error
        );
        let fits = match row.expected.as_str() {
            // An envelope around metadata alone; its authors left the documents out.
            "Valid" if row.file.ends_with("messagevalidator/soap-pnr.xml") => got.is_err(),
            "Valid" => got.is_ok(),
            "Invalid" => got.is_err(),
            _ => true,
        };
        if !fits {
            wrong.push(format!(
                "{}: {} {}, {said}",
                row.file.display(),
                row.expected,
                row.error
            ));
        }
    }
    assert!(count > 8, "{count} only");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
