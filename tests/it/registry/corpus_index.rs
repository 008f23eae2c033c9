//! The index of the message corpus: which message is sent when, with what in its placeholders, and
//! what must come of it.

use std::path::{Path, PathBuf};

/// Steps in the order of their authors' own plans, where neither the index, which has them by name,
/// nor a placeholder says what a step comes after.
const ORDER: &[&[(&str, &str)]] = &[
    &[
        ("tests/11993/submit", "submit_copy"),
        ("tests/11993/rplc", "rplc"),
        ("tests/11993/apnd", "apnd_rplc"),
    ],
    &[
        ("tests/30001/remove", "remove_submissionset"),
        ("tests/30001/remove", "remove_doc_and_association"),
        ("tests/30001/remove", "remove_all"),
    ],
    &[
        ("tests/30003/remove", "remove_folder_and documententry_only"),
        ("tests/30003/remove", "remove_submissionset"),
        ("tests/30003/remove", "remove_FD-DE-HM_only"),
    ],
    &[
        ("tests/30004/remove", "remove_orig_set_only"),
        ("tests/30004/remove", "remove_apnd_set_only"),
    ],
    &[
        ("tests/30005/remove_rplc_only", "remove_rplc_set"),
        ("tests/30005/remove_rplc_only", "remove_orig_set"),
    ],
    &[
        ("tests/30006/remove", "remove_original_submissionset"),
        (
            "tests/30006/remove",
            "remove_original_submissionset_and_rplc",
        ),
        ("tests/30006/remove", "remove_replacement_submissionset"),
        ("tests/30006/remove", "remove_append_submissionset"),
        ("tests/30006/remove", "now_remove_replacement_submissionset"),
    ],
];

/// The scenario and the step of a use.
pub(super) type Key = (String, String);

/// A use of a message.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The file to send.
    pub(super) file: PathBuf,
    pub(super) transaction: String,
    pub(super) scenario: String,
    pub(super) step: String,
    /// Whether the authors run the step themselves: if not, its outcome is not confirmed.
    pub(super) confirmed: bool,
    pub(super) expected: String,
    pub(super) error: String,
    /// Whether the source itself demands the code.
    pub(super) stated: bool,
    pub(super) bindings: Vec<Binding>,
    /// What the sender leaves as it is written.
    literal: String,
    pub(super) attachments: Vec<(String, PathBuf)>,
}

impl Row {
    /// The scenario and the step.
    pub(super) fn key(&self) -> Key {
        (self.scenario.clone(), self.step.clone())
    }

    /// Whether it is of no scenario, and judged by itself.
    pub(super) fn stands_alone(&self) -> bool {
        self.scenario.starts_with("messagevalidator")
            || self.scenario == "ipf"
            || self.step.is_empty()
    }

    /// Whether the patient is the one that is written.
    pub(super) fn patient_is_literal(&self) -> bool {
        self.literal.contains("patientId-literal")
    }

    /// Whether the uniqueIds are those that are written.
    pub(super) fn unique_ids_are_literal(&self) -> bool {
        self.literal.contains("uniqueIds-literal")
    }

    /// The step that is made before this one, if it is of a known order and not the first.
    pub(super) fn after(&self) -> Option<(&'static str, &'static str)> {
        let this = (self.scenario.as_str(), self.step.as_str());
        let pairs = ORDER.iter().flat_map(|steps| steps.windows(2));
        let mut before = pairs.filter_map(|pair| match pair {
            [first, second] if *second == this => Some(*first),
            _ => None,
        });
        before.next()
    }
}

/// What stands in for a placeholder.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) symbol: String,
    pub(super) value: Value,
}

/// Where the value of a placeholder comes from.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A patient, by the name of the step that made it known.
    Patient(String),
    /// What the registry or the sender assigned in an earlier step.
    Assigned {
        scenario: String,
        step: Step,
        what: Assigned,
    },
}

/// A step of a scenario.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The one of this name.
    Exactly(String),
    /// The one of this name if there is one, or else the first of the scenario: reports are named by
    /// their scenario alone, and their step in the purpose of the message.
    OfReport(String),
}

/// What was assigned, of the object with this id; of the first document if it is empty.
#[derive(Clone, Debug)]
pub(super) enum Assigned {
    Uuid(String),
    UniqueId(String),
    Repository,
}

/// Reads the index of `corpus`.
pub(super) fn read(corpus: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(corpus.join("index.tsv")).unwrap();
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let column: Vec<&str> = line.split('\t').collect();
            let transaction = column[4].to_owned();
            let of_writing = [
                "ITI-41", "ITI-42", "ITI-57", "ITI-61", "ITI-62", "ITI-86", "ITI-92",
            ];
            let sent = of_writing.iter().any(|name| transaction.starts_with(name));
            if !sent || transaction.ends_with("response") {
                return None;
            }
            let file = if column[1].is_empty() {
                column[0]
            } else {
                column[1]
            };
            let root = corpus.join("toolkit2/testkit");
            let attachments = column[16].split("; ").filter(|part| !part.is_empty());
            Some(Row {
                file: corpus.join(file),
                transaction,
                scenario: column[7].to_owned(),
                step: column[8].to_owned(),
                confirmed: column[9] != "no",
                expected: column[10].to_owned(),
                error: column[11].to_owned(),
                stated: column[12] == "stated",
                bindings: column[14]
                    .split("; ")
                    .filter_map(|text| binding(text, named_step(column[17])))
                    .collect(),
                literal: column[15].to_owned(),
                attachments: attachments
                    .map(|part| {
                        let (id, path) = part.split_once('=').unwrap();
                        let path = path.split("(size").next().unwrap();
                        (id.to_owned(), root.join(path))
                    })
                    .collect(),
            })
        })
        .collect()
}

/// The step that the purpose of a message says its values are of: `… from step NAME`.
fn named_step(purpose: &str) -> &str {
    let tail = purpose.split_once(" from step ").map(|(_, tail)| tail);
    tail.and_then(|tail| tail.split_whitespace().next())
        .unwrap_or_default()
}

/// `$symbol$<-scenario step section/object`, or `$symbol$<-scenario report`, of which the step is
/// `report_of`: several steps of a scenario may have a report of the name.
fn binding(text: &str, report_of: &str) -> Option<Binding> {
    let (symbol, source) = text.split_once("<-")?;
    let (before, last) = source.rsplit_once(' ')?;
    let value = if last.starts_with('$') {
        Value::Patient(before.to_owned())
    } else if let Some((section, object)) = last.split_once('/') {
        let (scenario, step) = before.rsplit_once(' ')?;
        let object = object.to_owned();
        let what = match section {
            "AssignedUids" => Assigned::UniqueId(object),
            "AssignedPatientId" | "AssignedSourceId" => {
                return Some(Binding {
                    symbol: symbol.to_owned(),
                    value: Value::Patient("any".to_owned()),
                });
            }
            _ => Assigned::Uuid(object),
        };
        Value::Assigned {
            scenario: scenario.to_owned(),
            step: Step::Exactly(step.to_owned()),
            what,
        }
    } else {
        let what = if last == "repuid" {
            Assigned::Repository
        } else if let Some(object) = last.strip_suffix("_uid") {
            Assigned::UniqueId(object.to_owned())
        } else {
            let object = last.strip_suffix("_uuid").unwrap_or_default();
            Assigned::Uuid(object.to_owned())
        };
        Value::Assigned {
            scenario: before.to_owned(),
            step: Step::OfReport(report_of.to_owned()),
            what,
        }
    };
    Some(Binding {
        symbol: symbol.to_owned(),
        value,
    })
}
