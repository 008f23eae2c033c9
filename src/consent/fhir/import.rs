//! A FHIR Consent, read into the recorded form.

use serde_json::{Map, Value};

use super::{
    CLASSES, INSTITUTION, LEVEL, MODELS, OWN, PARTICIPATION, PURPOSES, RECIPIENT, RELATIONSHIP, URI,
};
use crate::error::{Error, Reason, Result};
use crate::wire::pb::common as cpb;
use crate::wire::pb::consent as pb;

/// Bytes of a resource at most.
const MAX_BYTES: usize = 256 * 1024;

/// What a resource says.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The consent, to be recorded.
    pub consent: pb::Consent,
    /// Parts that have no meaning here and take nothing away from a refusal or permit.
    pub warnings: Vec<String>,
}

type Object = Map<String, Value>;

fn wrong(path: &str, message: impl Into<String>) -> Error {
    let field = format!("fhir_consent.{path}");
    Error::field(Reason::InvalidField, field, message.into())
}

/// Reads a resource.
///
/// # Errors
/// What is not FHIR Consent, or not understood where that matters, with its path.
pub fn import(bytes: &[u8]) -> Result<Imported> {
    if bytes.len() > MAX_BYTES {
        let message = format!("is larger than {MAX_BYTES} bytes");
        return Err(Error::field(Reason::InvalidField, "fhir_consent", message));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("is not JSON (line {})", error.line());
        Error::field(Reason::InvalidField, "fhir_consent", message)
    })?;
    let resource = value
        .as_object()
        .filter(|resource| text(resource, "resourceType") == "Consent")
        .ok_or_else(|| wrong("resourceType", "is not Consent"))?;
    if text(resource, "status") != "active" {
        let message = "must be active; a consent is withdrawn by WithdrawConsent";
        return Err(wrong("status", message));
    }
    scope(resource)?;
    well_typed(&value)?;
    let mut imported = Imported {
        consent: pb::Consent::default(),
        warnings: Vec::new(),
    };
    outer(resource, &mut imported)?;
    let provision =
        object(resource, "provision")?.ok_or_else(|| Error::missing("fhir_consent.provision"))?;
    terms(provision, &mut imported)?;
    Ok(imported)
}

/// Elements that are text wherever they stand in what is read here.
const TEXTS: [&str; 14] = [
    "code",
    "creation",
    "display",
    "end",
    "start",
    "status",
    "system",
    "title",
    "uri",
    "url",
    "value",
    "valueCode",
    "valueDate",
    "valueString",
];

/// Whether everything that is read as text or as yes or no is that: of another type, it would be taken
/// for absent, and what is absent may permit more.
fn well_typed(value: &Value) -> Result<()> {
    match value {
        Value::Array(all) => all.iter().try_for_each(well_typed),
        Value::Object(object) => object.iter().try_for_each(|(key, value)| {
            let key = key.as_str();
            if TEXTS.contains(&key) && !value.is_string() {
                return Err(wrong(key, "is not text"));
            }
            if key == "valueBoolean" && !value.is_boolean() {
                return Err(wrong(key, "is neither true nor false"));
            }
            well_typed(value)
        }),
        _ => Ok(()),
    }
}

fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn object<'a>(parent: &'a Object, key: &str) -> Result<Option<&'a Object>> {
    match parent.get(key) {
        None => Ok(None),
        Some(value) => value
            .as_object()
            .map(Some)
            .ok_or_else(|| wrong(key, "is not an object")),
    }
}

/// The members of an array of objects.
fn objects<'a>(parent: &'a Object, key: &str) -> Result<Vec<&'a Object>> {
    let Some(value) = parent.get(key) else {
        return Ok(Vec::new());
    };
    let items = value
        .as_array()
        .ok_or_else(|| wrong(key, "is not a list"))?;
    let members = items.iter().map(Value::as_object);
    members
        .map(|member| member.ok_or_else(|| wrong(key, "has a member that is no object")))
        .collect()
}

/// Refuses any element not in `known`: it may limit what is said.
fn only(object: &Object, path: &str, known: &[&str]) -> Result<()> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(wrong(
            &format!("{path}.{key}"),
            "is not understood here, and may limit what is said; so it is not taken",
        )),
        None => Ok(()),
    }
}

fn scope(resource: &Object) -> Result<()> {
    let scope = object(resource, "scope")?.ok_or_else(|| Error::missing("fhir_consent.scope"))?;
    let privacy = objects(scope, "coding")?
        .into_iter()
        .any(|coding| text(coding, "code") == "patient-privacy");
    match privacy {
        true => Ok(()),
        false => Err(wrong("scope", "is not patient-privacy")),
    }
}

/// What is said beside the provision.
fn outer(resource: &Object, imported: &mut Imported) -> Result<()> {
    const KNOWN: [&str; 15] = [
        "resourceType",
        "id",
        "meta",
        "identifier",
        "status",
        "scope",
        "category",
        "patient",
        "dateTime",
        "performer",
        "organization",
        "sourceAttachment",
        "policy",
        "extension",
        "provision",
    ];
    for key in resource.keys().filter(|key| !KNOWN.contains(&key.as_str())) {
        match key.as_str() {
            // Whoever does not know a modifier does not know what is said.
            "modifierExtension" | "implicitRules" | "contained" => {
                return Err(wrong(key, "is not understood here"));
            }
            _ => imported.warnings.push(format!("{key} has no meaning here")),
        }
    }
    let consent = &mut imported.consent;
    let patient =
        object(resource, "patient")?.ok_or_else(|| Error::missing("fhir_consent.patient"))?;
    let (system, value) = identifier(patient, "patient")?
        .ok_or_else(|| Error::missing("fhir_consent.patient.identifier"))?;
    let authority = system
        .strip_prefix("urn:oid:")
        .ok_or_else(|| wrong("patient.identifier.system", "is not urn:oid:"))?;
    consent.patient_id = Some(cpb::Identifier {
        assigning_authority: authority.to_owned(),
        value: value.to_owned(),
        ..cpb::Identifier::default()
    });
    for organization in objects(resource, "organization")? {
        if let Some((URI, home)) = identifier(organization, "organization")? {
            home.clone_into(&mut consent.home_community_id);
        }
    }
    consent.proxy = proxy(resource)?;
    consent.evidence = evidence(resource)?;
    consent.model = model(resource)?.into();
    for extension in objects(resource, "extension")? {
        let url = text(extension, "url");
        match url.strip_prefix(OWN) {
            Some("emergency-preconsent") => {
                let given = extension.get("valueBoolean").and_then(Value::as_bool);
                let given = given.ok_or_else(|| wrong("extension", "says neither yes nor no"))?;
                consent.emergency_preconsent = Some(given);
            }
            Some("supersedes") => {
                text(extension, "valueString").clone_into(&mut consent.supersedes);
            }
            Some("discloser") => {
                let reference = object(extension, "valueReference")?;
                let reference = reference.ok_or_else(|| wrong("extension", "has no discloser"))?;
                consent.disclosers.push(party(reference, "extension")?);
            }
            Some("withdrawn") => {}
            Some(_) => return Err(wrong("extension", "is not known")),
            None => imported
                .warnings
                .push(format!("extension {url} has no meaning here")),
        }
    }
    Ok(())
}

/// System and value of `identifier` in a reference.
fn identifier<'a>(reference: &'a Object, path: &str) -> Result<Option<(&'a str, &'a str)>> {
    let Some(identifier) = object(reference, "identifier")? else {
        return Ok(None);
    };
    let (system, value) = (text(identifier, "system"), text(identifier, "value"));
    match value.is_empty() {
        true => Err(wrong(&format!("{path}.identifier.value"), "is empty")),
        false => Ok(Some((system, value))),
    }
}

/// The value of an extension of this project.
fn own<'a>(object: &'a Object, name: &str, kind: &str) -> Result<Option<&'a Value>> {
    let all = objects(object, "extension")?;
    let found = all
        .into_iter()
        .find(|one| text(one, "url").strip_prefix(OWN) == Some(name));
    let value = |one: &'a Object| {
        one.get(kind)
            .ok_or_else(|| wrong(name, "has another value"))
    };
    found.map(value).transpose()
}

fn own_text(object: &Object, name: &str, kind: &str) -> Result<String> {
    let value = own(object, name, kind)?.and_then(Value::as_str);
    Ok(value.unwrap_or_default().to_owned())
}

fn proxy(resource: &Object) -> Result<Option<pb::Proxy>> {
    let performers = objects(resource, "performer")?;
    let by_reference = |one: &&Object| {
        text(one, "type").is_empty() && text(one, "reference").starts_with("RelatedPerson/")
    };
    if performers.iter().any(by_reference) {
        let message = "a related person is named here, not referred to";
        return Err(wrong("performer", message));
    }
    let related = performers
        .into_iter()
        .find(|one| text(one, "type") == "RelatedPerson");
    let Some(related) = related else {
        return Ok(None);
    };
    let code = own_text(related, "relationship", "valueCode")?;
    Ok(Some(pb::Proxy {
        name: text(related, "display").to_owned(),
        relationship: (!code.is_empty()).then(|| cpb::CodedValue {
            code,
            system: RELATIONSHIP.to_owned(),
            ..cpb::CodedValue::default()
        }),
        legal_guardian: own(related, "legal-guardian", "valueBoolean")?
            .and_then(Value::as_bool)
            .unwrap_or(false),
        ends_on: own_text(related, "ends-on", "valueDate")?,
    }))
}

fn evidence(resource: &Object) -> Result<Option<pb::Evidence>> {
    let Some(source) = object(resource, "sourceAttachment")? else {
        return Ok(None);
    };
    let place = own_text(source, "place", "valueString")?;
    Ok(Some(pb::Evidence {
        form_id: text(source, "title").to_owned(),
        form_version: own_text(source, "form-version", "valueString")?,
        place: (!place.is_empty()).then(|| cpb::InstitutionRef {
            institution_id: place,
            ..cpb::InstitutionRef::default()
        }),
        signed_on: text(source, "creation").to_owned(),
        image_sha256: own_text(source, "image-sha256", "valueString")?,
        document: None,
        oral_witness: own_text(source, "oral-witness", "valueString")?,
    }))
}

/// How it was asked for. A resource that does not say so, from elsewhere, is one of its community.
fn model(resource: &Object) -> Result<pb::ConsentModel> {
    let prefix = format!("{OWN}model:");
    for policy in objects(resource, "policy")? {
        if let Some(name) = text(policy, "uri").strip_prefix(&prefix) {
            let known = MODELS.iter().find(|(_, known)| *known == name);
            return known
                .map(|(model, _)| *model)
                .ok_or_else(|| wrong("policy.uri", "is not a known model"));
        }
    }
    Ok(pb::ConsentModel::Community)
}

fn terms(provision: &Object, imported: &mut Imported) -> Result<()> {
    only(
        provision,
        "provision",
        &[
            "type",
            "period",
            "actor",
            "securityLabel",
            "purpose",
            "dataPeriod",
            "extension",
            "provision",
        ],
    )?;
    let consent = &mut imported.consent;
    let effect = effect(provision, "provision")?;
    consent.effect = effect.into();
    if let Some(period) = object(provision, "period")? {
        consent.valid_from = time(period, "start", "provision.period")?;
        consent.valid_to = time(period, "end", "provision.period")?;
    }
    consent.grantees = actors(provision, "provision.actor")?;
    let labels = objects(provision, "securityLabel")?;
    if labels.len() > 1 {
        return Err(wrong("provision.securityLabel", "may be one only"));
    }
    for label in labels {
        consent.confidentiality_ceiling = level(label)?.into();
    }
    for purpose in objects(provision, "purpose")? {
        let code = text(purpose, "code");
        let known = PURPOSES.iter().find(|(_, known)| *known == code);
        let (purpose, _) = known.ok_or_else(|| wrong("provision.purpose", "is not known"))?;
        consent.purposes.push((*purpose).into());
    }
    if let Some(period) = object(provision, "dataPeriod")? {
        consent.data_period = Some(cpb::Period {
            start: text(period, "start").to_owned(),
            end: text(period, "end").to_owned(),
        });
    }
    for extension in objects(provision, "extension")? {
        extended(extension, consent)?;
    }
    for nested in objects(provision, "provision")? {
        only(nested, "provision.provision", &["type", "actor"])?;
        let other = self::effect(nested, "provision.provision")?;
        let actors = actors(nested, "provision.provision.actor")?;
        if other == effect || actors.is_empty() {
            let message = "must be the opposite, for named actors: an exception";
            return Err(wrong("provision.provision", message));
        }
        consent.excepted_grantees.extend(actors);
    }
    Ok(())
}

fn effect(provision: &Object, path: &str) -> Result<pb::ConsentEffect> {
    match text(provision, "type") {
        "permit" => Ok(pb::ConsentEffect::Permit),
        "deny" => Ok(pb::ConsentEffect::Deny),
        _ => Err(wrong(&format!("{path}.type"), "is not permit or deny")),
    }
}

fn extended(extension: &Object, consent: &mut pb::Consent) -> Result<()> {
    let path = "provision.extension";
    match text(extension, "url").strip_prefix(OWN) {
        Some("data-class") => {
            let name = text(extension, "valueCode");
            let known = CLASSES.iter().find(|(_, known)| *known == name);
            let (class, _) = known.ok_or_else(|| wrong(path, "names a class that is not known"))?;
            consent.data_classes.push((*class).into());
        }
        Some("document-code") => {
            let coding = object(extension, "valueCoding")?;
            let coding = coding.ok_or_else(|| wrong(path, "has no code"))?;
            consent.document_codes.push(cpb::CodedValue {
                code: text(coding, "code").to_owned(),
                system: text(coding, "system").to_owned(),
                ..cpb::CodedValue::default()
            });
        }
        _ => {
            return Err(wrong(
                path,
                "is not understood here, and may limit what is said",
            ));
        }
    }
    Ok(())
}

fn actors(provision: &Object, path: &str) -> Result<Vec<pb::Party>> {
    let actors = objects(provision, "actor")?.into_iter();
    let one = |actor: &Object| {
        only(actor, path, &["role", "reference"])?;
        let role = object(actor, "role")?.ok_or_else(|| wrong(path, "has no role"))?;
        let codings = objects(role, "coding")?;
        let recipient =
            |one: &&Object| text(one, "system") == PARTICIPATION && text(one, "code") == RECIPIENT;
        if !codings.iter().any(recipient) {
            return Err(wrong(path, "has an actor that is no recipient"));
        }
        let reference = object(actor, "reference")?;
        party(
            reference.ok_or_else(|| wrong(path, "has no reference"))?,
            path,
        )
    };
    actors.map(one).collect()
}

fn party(reference: &Object, path: &str) -> Result<pb::Party> {
    let mut party = pb::Party {
        person_subject: own_text(reference, "person", "valueString")?,
        role: own_text(reference, "role", "valueString")?,
        home_community_id: own_text(reference, "community", "valueUri")?,
        ..pb::Party::default()
    };
    match identifier(reference, path)? {
        Some((INSTITUTION, code)) => code.clone_into(&mut party.institution_id),
        Some((URI, home)) => home.clone_into(&mut party.home_community_id),
        Some(_) => return Err(wrong(path, "is identified by a system that is not known")),
        None => {}
    }
    match party == pb::Party::default() {
        true => Err(wrong(path, "names nobody that is known here")),
        false => Ok(party),
    }
}

fn level(label: &Object) -> Result<cpb::Confidentiality> {
    let known = (text(label, "system") == LEVEL).then(|| text(label, "code"));
    match known {
        Some("U") => Ok(cpb::Confidentiality::Unrestricted),
        Some("L") => Ok(cpb::Confidentiality::Low),
        Some("M") => Ok(cpb::Confidentiality::Moderate),
        Some("N") => Ok(cpb::Confidentiality::Normal),
        Some("R") => Ok(cpb::Confidentiality::Restricted),
        Some("V") => Ok(cpb::Confidentiality::VeryRestricted),
        _ => Err(wrong("provision.securityLabel", "is not a confidentiality")),
    }
}

/// A time: an instant, or a day of Japan.
fn time(period: &Object, key: &str, path: &str) -> Result<Option<prost_types::Timestamp>> {
    let given = text(period, key);
    if given.is_empty() {
        return Ok(None);
    }
    let instant = given.parse::<jiff::Timestamp>().ok().or_else(|| {
        let day: jiff::civil::Date = given.parse().ok()?;
        // The end of a period is included: it lasts to the end of the day (FHIR R4 Period).
        let day = if key == "end" {
            day.tomorrow().ok()?
        } else {
            day
        };
        let midnight = day.to_datetime(jiff::civil::Time::midnight());
        jiff::tz::Offset::constant(9).to_timestamp(midnight).ok()
    });
    instant
        .map(|instant| Some(crate::wire::timestamp(instant)))
        .ok_or_else(|| wrong(&format!("{path}.{key}"), "is not a time"))
}
