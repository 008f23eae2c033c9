//! Stored queries as others have written them (`RENKEI_SHARED`, default `../shared`: `corpus/xds`): each
//! is read from its ebXML form, or refused with the code that the source expects. What a registry finds
//! for them is about content, and tested elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use renkei::documents::ebxml::read_query;

/// Messages of the corpus that are requests of ITI-18.
const LEAST: usize = 150;

/// Where the outcome is another than the source expects, and why that is right.
const EXPLAINED: &[(&str, &str)] = &[
    (
        "tests/21002/query_leaf",
        "XDSResultNotSinglePatient needs the two patients' documents in the registry",
    ),
    (
        "tests/11897/no_matching_classcode",
        "the value is well formed: the source's own step is not active",
    ),
    (
        "tests/15814/XDSRegistryError",
        "the error is a responding gateway's, beside its results",
    ),
    ("utilities/FindDocuments2/", FORM),
    ("utilities/FindDocumentsByRefId/", FORM),
    ("utilities/GetAll/", FORM),
    ("utilities/GetDocuments/", FORM),
    ("utilities/GetFolders/", FORM),
];
const FORM: &str =
    "a form with every parameter in it, of which the driver takes out what has no value";

/// One use of a message.
struct Use {
    file: String,
    status: String,
    error: String,
}

fn corpus() -> Option<(PathBuf, Vec<Use>)> {
    let chosen = std::env::vars_os().find(|(name, _)| name == "RENKEI_SHARED");
    let shared = chosen.map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        |(_, path)| PathBuf::from(path),
    );
    let folder = shared.join("corpus/xds");
    let Ok(index) = std::fs::read_to_string(folder.join("index.tsv")) else {
        eprintln!("SKIPPED: {} is not there (RENKEI_SHARED)", folder.display());
        return None;
    };
    let uses = index.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let request =
            matches!(columns[4], "ITI-18" | "ITI-18(IG)") && columns[5] == "AdhocQueryRequest";
        request.then(|| Use {
            file: columns[0].to_owned(),
            status: columns[10].to_owned(),
            error: columns[11].to_owned(),
        })
    });
    Some((folder, uses.collect()))
}

/// Puts values into a message where the source's driver puts those of earlier steps or of its operator,
/// and takes out the slot that the driver takes out.
fn bound(text: &str) -> String {
    let mut text = text.to_owned();
    if text.contains("will be removed before execution")
        && let Some(from) = text.find("<Slot name=\"$XDSSubmissionSetEntryUUID\">")
        && let Some(length) = text[from..].find("</Slot>")
    {
        text.replace_range(from..from + length + "</Slot>".len(), "");
    }
    let mut parts = text.split('$');
    let mut bound = parts.next().unwrap_or_default().to_owned();
    let mut rest = parts.peekable();
    while let Some(part) = rest.next() {
        let name = part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        // What stands between two signs is a placeholder; a parameter's name has one only.
        if name && rest.peek().is_some() {
            bound.push_str(value(&part.to_ascii_lowercase()));
            bound.push_str(rest.next().unwrap_or_default());
        } else {
            bound.push('$');
            bound.push_str(part);
        }
    }
    bound
}

fn value(placeholder: &str) -> &'static str {
    match placeholder {
        "object_types" => "('urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1')",
        "returntype" => "LeafClass",
        "metadatalevel" => "1",
        "pid" => "C1^^^&amp;1.2.392.200119.9&amp;ISO",
        patient if patient.contains("patient") => "C1^^^&amp;1.2.392.200119.9&amp;ISO",
        uuid if uuid.contains("uuid") => "urn:uuid:6f0e3a1c-8a52-4d2a-9a4c-5d2c6f0b7a11",
        _ => "1.2.392.200119.9.1",
    }
}

/// What came of a message: `Success`, or the standard's code.
fn outcome(text: &str) -> String {
    match read_query(text.as_bytes()) {
        Ok(_) => "Success".to_owned(),
        Err(error) => error.reason().ihe_code().to_owned(),
    }
}

/// Whether an outcome is the one expected. A source that names no code, or says `any`, is content with
/// any failure.
fn fits(expected: &Use, outcome: &str) -> bool {
    match expected.status.as_str() {
        "Success" | "Valid" => outcome == "Success",
        "Failure" | "Invalid" => {
            let any = expected.error.is_empty() || expected.error.starts_with('(');
            outcome != "Success" && (any || expected.error == outcome)
        }
        "PartialSuccess" => false,
        _ => true,
    }
}

#[test]
fn every_query_of_the_corpus_reaches_its_outcome() {
    let Some((folder, uses)) = corpus() else {
        return;
    };
    let mut table: BTreeMap<(String, String), usize> = BTreeMap::new();
    let (mut wrong, mut explained) = (Vec::new(), 0);
    for one in &uses {
        let text = std::fs::read_to_string(folder.join(&one.file)).unwrap();
        let outcome = outcome(&bound(&text));
        let fits = fits(one, &outcome);
        *table
            .entry((one.status.clone(), outcome.clone()))
            .or_default() += 1;
        let reason = EXPLAINED.iter().find(|(file, _)| one.file.contains(file));
        match (fits, reason) {
            (true, _) => {}
            (false, Some((_, why))) => {
                explained += 1;
                println!("{}: {outcome}, expected {}: {why}", one.file, one.status);
            }
            (false, None) => wrong.push(format!(
                "{}: {outcome}, expected {} {}",
                one.file, one.status, one.error
            )),
        }
    }
    println!("| expected | outcome | messages |\n|---|---|---|");
    for ((expected, outcome), count) in &table {
        println!("| {expected} | {outcome} | {count} |");
    }
    println!("{} messages, {explained} explained", uses.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(uses.len() >= LEAST, "{} messages", uses.len());
}
