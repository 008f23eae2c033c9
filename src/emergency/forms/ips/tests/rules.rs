//! The published rules as checks: base FHIR R4, IPS 2.0.1 (profiles Bundle, Composition and those of
//! the sections). A rule is named as its publisher names it, where it has a name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

const IPS: &str = "http://hl7.org/fhir/uv/ips/StructureDefinition/";

/// LOINC code of a section, and which resources may be its entries.
const SECTIONS: &[(&str, &[&str])] = &[
    ("11450-4", &["Condition"]),
    ("48765-2", &["AllergyIntolerance"]),
    (
        "10160-0",
        &[
            "MedicationStatement",
            "MedicationRequest",
            "MedicationAdministration",
            "MedicationDispense",
        ],
    ),
    ("11369-6", &["Immunization"]),
    ("30954-2", &["Observation", "DiagnosticReport"]),
    ("47519-4", &["Procedure"]),
    ("46264-8", &["DeviceUseStatement"]),
    ("42348-3", &["Consent"]),
    ("104605-1", &["Flag"]),
    ("47420-5", &["Condition", "ClinicalImpression"]),
    ("11348-0", &["Condition"]),
    ("10162-6", &["Observation"]),
    ("81338-6", &[]),
    ("18776-5", &["CarePlan", "ImmunizationRecommendation"]),
    ("29762-2", &["Observation"]),
    ("8716-3", &["Observation"]),
];
const REQUIRED: [&str; 3] = ["11450-4", "48765-2", "10160-0"];

/// Type, element, and the codes that a required binding allows.
const BINDINGS: &[(&str, &str, &str)] = &[
    ("AllergyIntolerance", "type", "allergy intolerance"),
    (
        "AllergyIntolerance",
        "criticality",
        "low high unable-to-assess",
    ),
    (
        "MedicationStatement",
        "status",
        "active completed entered-in-error intended stopped on-hold unknown not-taken",
    ),
    (
        "MedicationDispense",
        "status",
        "preparation in-progress cancelled on-hold completed entered-in-error stopped declined unknown",
    ),
    (
        "Observation",
        "status",
        "registered preliminary final amended corrected cancelled entered-in-error unknown",
    ),
    (
        "Procedure",
        "status",
        "preparation in-progress not-done on-hold stopped completed entered-in-error unknown",
    ),
    (
        "DeviceUseStatement",
        "status",
        "active completed entered-in-error intended stopped on-hold",
    ),
    ("Flag", "status", "active"),
    (
        "Immunization",
        "status",
        "completed entered-in-error not-done",
    ),
    (
        "Consent",
        "status",
        "draft proposed active rejected inactive entered-in-error",
    ),
    (
        "CarePlan",
        "status",
        "draft active on-hold revoked completed entered-in-error unknown",
    ),
    ("CarePlan", "intent", "proposal plan order option"),
    (
        "ClinicalImpression",
        "status",
        "in-progress completed entered-in-error",
    ),
    ("Patient", "gender", "male female other unknown"),
    (
        "DocumentReference",
        "status",
        "current superseded entered-in-error",
    ),
    ("Composition", "status", "final"),
    ("Composition", "confidentiality", "U L M N R V"),
];

/// Type and elements of which one each has to be there: `a|b` is a choice.
const NEEDED: &[(&str, &[&str])] = &[
    ("AllergyIntolerance", &["code", "patient"]),
    ("Condition", &["code", "subject"]),
    (
        "MedicationStatement",
        &[
            "status",
            "medicationCodeableConcept|medicationReference",
            "subject",
            "effectiveDateTime|effectivePeriod|_effectiveDateTime",
        ],
    ),
    (
        "MedicationDispense",
        &["status", "medicationCodeableConcept|medicationReference"],
    ),
    ("Observation", &["status", "code", "subject"]),
    (
        "Procedure",
        &[
            "status",
            "code",
            "subject",
            "performedDateTime|performedPeriod|_performedDateTime",
        ],
    ),
    (
        "DeviceUseStatement",
        &[
            "status",
            "subject",
            "device",
            "timingDateTime|timingPeriod|_timingDateTime",
        ],
    ),
    ("Flag", &["status", "code", "subject"]),
    (
        "Immunization",
        &[
            "status",
            "vaccineCode",
            "patient",
            "occurrenceDateTime|occurrenceString|_occurrenceDateTime",
        ],
    ),
    (
        "Consent",
        &[
            "status",
            "scope",
            "category",
            "patient",
            "policy|policyRule",
        ],
    ),
    ("CarePlan", &["status", "intent", "subject"]),
    ("ClinicalImpression", &["status", "subject"]),
    ("DocumentReference", &["status", "content"]),
    ("Organization", &["name"]),
    ("Practitioner", &["name"]),
    ("Provenance", &["target", "recorded", "agent"]),
    ("Patient", &["name", "birthDate|_birthDate"]),
    (
        "Composition",
        &[
            "status", "type", "subject", "date", "author", "title", "section",
        ],
    ),
];

/// What is wrong with a Bundle; empty if it keeps the rules.
pub(super) fn faults(bundle: &Value) -> Vec<String> {
    let mut found = Vec::new();
    document(bundle, &mut found);
    let resources = resources(bundle);
    values("Bundle", "Bundle", bundle, &mut found);
    references(bundle, &resources, &mut found);
    for (address, resource) in &resources {
        let kind = text(resource, "resourceType");
        let mut say = |rule: &str| found.push(format!("{kind} {address}: {rule}"));
        elements(kind, resource, &mut say);
        of_type(kind, resource, &mut say);
    }
    if let Some(composition) = bundle.pointer("/entry/0/resource") {
        sections(composition, &resources, &mut found);
    }
    found
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn resources(bundle: &Value) -> BTreeMap<&str, &Value> {
    let entries = list(bundle, "entry").iter();
    entries
        .map(|entry| (text(entry, "fullUrl"), &entry["resource"]))
        .collect()
}

fn document(bundle: &Value, found: &mut Vec<String>) {
    let entries = list(bundle, "entry");
    let kind = |entry: &Value| text(&entry["resource"], "resourceType").to_owned();
    let count = |name: &str| entries.iter().filter(|entry| kind(entry) == name).count();
    let addresses: BTreeSet<_> = entries.iter().map(|entry| text(entry, "fullUrl")).collect();
    let identifier = &bundle["identifier"];
    let identified =
        !text(identifier, "system").is_empty() && !text(identifier, "value").is_empty();
    let rules = [
        ("is no Bundle", text(bundle, "resourceType") == "Bundle"),
        ("type = document", text(bundle, "type") == "document"),
        ("bdl-9", identified),
        ("bdl-10", is_instant(text(bundle, "timestamp"))),
        (
            "bdl-11",
            entries.first().map(kind).as_deref() == Some("Composition"),
        ),
        ("bdl-ips-1", count("Composition") == 1),
        ("one Patient", count("Patient") == 1),
        (
            "bdl-7",
            addresses.len() == entries.len() && !addresses.contains(""),
        ),
    ];
    for (rule, kept) in rules {
        if !kept {
            found.push(format!("Bundle: {rule}"));
        }
    }
    for entry in entries {
        for never in ["search", "request", "response"] {
            if !entry[never].is_null() {
                found.push(format!("Bundle: entry.{never}"));
            }
        }
    }
}

/// What holds for every element: something is in it, texts are texts, uris are uris, dates dates.
fn values(path: &str, name: &str, value: &Value, found: &mut Vec<String>) {
    let mut say = |rule: &str| found.push(format!("{path}: {rule}"));
    match value {
        Value::Null => say("ele-1: null"),
        Value::String(text) => {
            if text.trim().is_empty() || text.trim() != text {
                say("string without content, or with space around it");
            }
            if text.chars().any(char::is_control) {
                say("string with control characters");
            }
            let good = match name {
                "system" | "url" | "fullUrl" | "reference" | "profile" => {
                    text.contains(':') && !text.contains(char::is_whitespace)
                }
                "code" | "valueCode" | "status" => !text.contains("  "),
                "recorded" | "timestamp" => is_instant(text),
                "date" | "start" | "end" | "time" | "birthDate" | "recordedDate"
                | "dateAsserted" | "recordedOn" | "whenHandedOver" | "dateTime" => is_date(text),
                name if name.ends_with("DateTime") => is_date(text),
                _ => true,
            };
            // ContactPoint.system is a code.
            let point =
                name == "system" && ["phone", "fax", "email", "other"].contains(&text.as_str());
            if !good && !point {
                say("not of its type");
            }
        }
        Value::Array(items) => {
            if items.is_empty() {
                say("ele-1: empty list");
            }
            for (at, item) in items.iter().enumerate() {
                values(&format!("{path}[{at}]"), name, item, found);
            }
        }
        Value::Object(members) => {
            if members.is_empty() {
                say("ele-1: empty object");
            }
            for (name, member) in members {
                values(&format!("{path}.{name}"), name, member, found);
            }
        }
        Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_date(text: &str) -> bool {
    let length = text.len();
    let shape = |pattern: &str| {
        text.len() == pattern.len()
            && text
                .bytes()
                .zip(pattern.bytes())
                .all(|(given, wanted)| match wanted {
                    b'0' => given.is_ascii_digit(),
                    other => given == other,
                })
    };
    (length <= 10 && (shape("0000") || shape("0000-00") || shape("0000-00-00"))) || is_instant(text)
}

fn is_instant(text: &str) -> bool {
    let zoned = text.ends_with('Z') || text.get(19..).is_some_and(|rest| rest.contains(['+', '-']));
    text.len() >= 20 && zoned && text.parse::<jiff::Timestamp>().is_ok()
}

/// All references resolve, and the Composition leads to everything but Provenance.
fn references(bundle: &Value, resources: &BTreeMap<&str, &Value>, found: &mut Vec<String>) {
    let mut reached = BTreeSet::new();
    let first = bundle.pointer("/entry/0/fullUrl").and_then(Value::as_str);
    let mut left: Vec<&str> = first.into_iter().collect();
    for (address, resource) in resources {
        if text(resource, "resourceType") == "Provenance" {
            left.push(address);
        }
    }
    while let Some(address) = left.pop() {
        if !reached.insert(address) {
            continue;
        }
        let Some(resource) = resources.get(address) else {
            found.push(format!("reference to {address}, which is not there"));
            continue;
        };
        collect(resource, &mut left);
    }
    for address in resources
        .keys()
        .filter(|address| !reached.contains(*address))
    {
        found.push(format!("nothing refers to {address}"));
    }
}

fn collect<'v>(value: &'v Value, into: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            into.extend(members.get("reference").and_then(Value::as_str));
            members.values().for_each(|member| collect(member, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        _ => {}
    }
}

fn elements(kind: &str, resource: &Value, say: &mut impl FnMut(&str)) {
    let Some((_, needed)) = NEEDED.iter().find(|(of, _)| *of == kind) else {
        if kind != "Device" {
            say("a type that is not expected");
        }
        return;
    };
    for choice in *needed {
        let there = choice
            .split('|')
            .filter(|name| !resource[*name].is_null())
            .count();
        if there != 1 {
            say(&format!("{choice} 1..1, is there {there} times"));
        }
    }
    for name in needed
        .iter()
        .flat_map(|choice| choice.split('|'))
        .filter(|name| name.starts_with('_'))
    {
        let absent = &resource[name];
        let url = absent.pointer("/extension/0/url").and_then(Value::as_str);
        if !absent.is_null() && !url.unwrap_or_default().ends_with("/data-absent-reason") {
            say("neither value nor data-absent-reason");
        }
    }
    for (_, element, codes) in BINDINGS.iter().filter(|(of, ..)| *of == kind) {
        let given = text(resource, element);
        if !given.is_empty() && !codes.split(' ').any(|code| code == given) {
            say(&format!("{element} is not one of {codes}"));
        }
    }
}

fn coded(resource: &Value, name: &str) -> String {
    let code = resource[name].pointer("/coding/0/code");
    code.and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[expect(clippy::too_many_lines, reason = "a table of rules")]
fn of_type(kind: &str, resource: &Value, say: &mut impl FnMut(&str)) {
    let without = |items: &str, part: &str| {
        let items = list(resource, items);
        items.iter().any(|one| one[part].is_null())
    };
    let claims = |name: &str| {
        let profile = format!("{IPS}{name}");
        list(&resource["meta"], "profile")
            .iter()
            .any(|one| *one == profile)
    };
    match kind {
        "AllergyIntolerance" => {
            let wrong = coded(resource, "verificationStatus") == "entered-in-error";
            let status = coded(resource, "clinicalStatus");
            if wrong == ["active", "inactive", "resolved"].contains(&status.as_str()) {
                say("ait-1, ait-2");
            }
            for reaction in list(resource, "reaction") {
                if list(reaction, "manifestation").is_empty() {
                    say("reaction.manifestation 1..*");
                }
                let severity = text(reaction, "severity");
                if !["", "mild", "moderate", "severe"].contains(&severity) {
                    say("reaction.severity");
                }
            }
        }
        "Condition" => {
            let status = coded(resource, "clinicalStatus");
            let known = [
                "active",
                "recurrence",
                "relapse",
                "inactive",
                "remission",
                "resolved",
            ];
            if !known.contains(&status.as_str()) {
                say("con-3");
            }
            let ended = ["inactive", "remission", "resolved"].contains(&status.as_str());
            if !resource["abatementDateTime"].is_null() && !ended {
                say("con-4");
            }
        }
        "Observation" => {
            let value = ["valueQuantity", "valueString", "valueCodeableConcept"];
            let values = value
                .iter()
                .filter(|name| !resource[**name].is_null())
                .count();
            let absent = !resource["dataAbsentReason"].is_null();
            if values + usize::from(absent) != 1 {
                say("ips-2, obs-6");
            }
            if claims("Observation-results-laboratory-pathology-uv-ips") {
                let category = resource.pointer("/category/0/coding/0/code");
                let timed = ["effectiveDateTime", "effectivePeriod", "_effectiveDateTime"];
                if category.and_then(Value::as_str) != Some("laboratory") {
                    say("category = laboratory");
                }
                if list(resource, "performer").is_empty() {
                    say("performer 1..*");
                }
                if timed.iter().all(|name| resource[*name].is_null()) {
                    say("effective[x] 1..1");
                }
            }
            let number = &resource["valueQuantity"]["value"];
            if !resource["valueQuantity"].is_null() && !number.is_number() {
                say("Quantity.value is a decimal");
            }
        }
        "Patient" => {
            for name in list(resource, "name") {
                if text(name, "text").is_empty()
                    && text(name, "family").is_empty()
                    && list(name, "given").is_empty()
                {
                    say("ips-pat-1");
                }
            }
            for contact in list(resource, "contact") {
                if contact["name"].is_null() && contact["telecom"].is_null() {
                    say("pat-1");
                }
            }
        }
        "DocumentReference" if without("content", "attachment") => say("content.attachment 1..1"),
        "Provenance" if without("agent", "who") => say("agent.who 1..1"),
        _ => {}
    }
}

fn sections(composition: &Value, resources: &BTreeMap<&str, &Value>, found: &mut Vec<String>) {
    if composition
        .pointer("/type/coding/0/code")
        .and_then(Value::as_str)
        != Some("60591-5")
    {
        found.push("Composition: type".to_owned());
    }
    narrative("Composition", &composition["text"], found);
    let mut seen = Vec::new();
    for section in list(composition, "section") {
        let code = coded(section, "code");
        let mut say = |rule: &str| found.push(format!("section {code}: {rule}"));
        let local = text(&section["code"]["coding"][0], "system") != "http://loinc.org";
        let allowed = SECTIONS.iter().find(|(known, _)| *known == code);
        if text(section, "title").is_empty() || code.is_empty() {
            say("title and code 1..1");
        }
        if !section["section"].is_null() {
            say("no sections in sections");
        }
        if seen.contains(&code) {
            say("there twice");
        }
        if !local && allowed.is_none() {
            say("not of the IPS");
        }
        let entries = list(section, "entry");
        let empty = !section["emptyReason"].is_null();
        if !entries.is_empty() && empty {
            say("cmp-2");
        }
        if REQUIRED.contains(&code.as_str()) && entries.is_empty() && !empty {
            say("ips-comp-1");
        }
        for entry in entries {
            let of = resources.get(text(entry, "reference"));
            let kind = of.map_or("", |of| text(of, "resourceType"));
            if !local && !allowed.is_some_and(|(_, kinds)| kinds.contains(&kind)) {
                say(&format!("{kind} is no entry of it"));
            }
        }
        narrative(&code, &section["text"], found);
        seen.push(code);
    }
    for code in REQUIRED {
        if !seen.iter().any(|one| one == code) {
            found.push(format!("section {code}: is required"));
        }
    }
}

/// txt-1, txt-2: XHTML of a few elements, with something in it.
fn narrative(of: &str, text_element: &Value, found: &mut Vec<String>) {
    let div = text(text_element, "div");
    let mut say = |rule: &str| found.push(format!("narrative of {of}: {rule}"));
    if text(text_element, "status") != "generated" {
        say("status");
    }
    if !div.starts_with("<div xmlns=\"http://www.w3.org/1999/xhtml\"") {
        say("is no div of XHTML");
    }
    let mut reader = quick_xml::Reader::from_str(div);
    let mut letters = 0;
    loop {
        match reader.read_event() {
            Ok(quick_xml::events::Event::Eof) => break,
            Ok(quick_xml::events::Event::Start(tag)) => {
                let allowed = ["div", "p", "ul", "li", "b", "i"];
                if !allowed.contains(&tag.name().as_ref()) {
                    say("txt-1");
                }
            }
            Ok(quick_xml::events::Event::Text(_)) => letters += 1,
            Ok(_) => {}
            Err(_) => {
                say("is not well-formed");
                break;
            }
        }
    }
    if letters == 0 {
        say("txt-2");
    }
}
