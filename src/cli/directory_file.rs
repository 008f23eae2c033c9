//! The directory as a file: communities and institutions, in TOML or JSON.
//!
//! ```toml
//! retire_communities = []                # homeCommunityIds
//! retire_institutions = []
//!
//! [[community]]
//! home_community_id = "urn:oid:2.999.1.1"
//! name_ja = "東部地域医療ネットワーク"
//! name_en = "East Regional Network"     # optional, as all below
//! kind = "region"                       # required: hub, region, hosted
//! endpoint = "https://east.example.jp:7443"
//! gateway_pins = ["9f86d0…"]            # SHA-256 of the gateway's public key
//! assigning_authorities = ["1.2.392.100495.20.3.51.11310000001"]
//! repositories = ["2.999.3.1"]
//! parent = "urn:oid:2.999.1.0"
//! prefectures = ["13"]
//! capabilities = ["find_documents", "retrieve_documents"]
//! status = "active"                     # active, suspended, retired
//! service_hours = [{ weekdays = [1, 2, 3, 4, 5], opens = "08:00", closes = "20:00" }] # none: always
//! maintenance = [{ starts = "2026-05-01T00:00:00+09:00", ends = "2026-05-01T04:00:00+09:00", note = "…" }]
//! contacts = [{ function = "operations", name = "…", telephone = "…", email = "…" }]
//! codes = [{ attribute = "classCode", local = { code = "X1", system = "1.2.3" }, canonical = { code = "34108-1", system = "2.16.840.1.113883.6.1" } }]
//!
//! [[institution]]
//! institution_id = "1310000001"
//! name_ja = "東病院"
//! home_community_id = "urn:oid:2.999.1.1"
//! kind = "hospital"
//! emergency = true
//! pins = ["2c26b4…"]
//! roles = ["Medical Doctor"]            # none: every role
//! purposes = ["treatment", "emergency"] # none: every purpose
//! assigning_authorities = ["1.2.392.100495.20.3.51.11310000001"]
//! ```
//!
//! A pin may be a table with more about the certificate: `{ pin, from, until, profile, status }`, or for
//! an institution `{ issuer, serial, … }` instead of the pin: the issuer's name as RFC 4514 has it and
//! the serial number in hexadecimal, as `renkei pki show` prints them.
//! An authority may be a table with more about it: `{ oid, namespace_id, name, system_uris,
//! source_institution_id }`. In JSON the keys are the same: `{"community": […], "institution": […]}`.

mod times;

use std::collections::HashSet;
use std::fmt::Display;

use serde::Deserialize;

use super::names::Named;
use super::profile::toml_problem;
use crate::types::{
    CertificateNumber, CertificatePin, Endpoint as Address, HomeCommunityId, InstitutionCode, Oid,
};
use crate::wire::pb::common::PurposeOfUse;
use crate::wire::pb::directory as pb;
use times::{Contact, Hours, Mapping, Window};

/// Why a directory file is not taken: where in it, and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DirectoryFileError(String);

type Result<T> = std::result::Result<T, DirectoryFileError>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    community: Vec<Community>,
    #[serde(default)]
    institution: Vec<Institution>,
    #[serde(default)]
    retire_communities: Vec<String>,
    #[serde(default)]
    retire_institutions: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Community {
    home_community_id: String,
    name_ja: String,
    #[serde(default)]
    name_en: String,
    kind: String,
    #[serde(default)]
    assigning_authorities: Vec<Authority>,
    endpoint: Option<String>,
    #[serde(default)]
    gateway_pins: Vec<Certificate>,
    #[serde(default)]
    repositories: Vec<String>,
    parent: Option<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    prefectures: Vec<String>,
    status: Option<String>,
    #[serde(default)]
    service_hours: Vec<Hours>,
    #[serde(default)]
    maintenance: Vec<Window>,
    #[serde(default)]
    contacts: Vec<Contact>,
    #[serde(default)]
    codes: Vec<Mapping>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names of the wire")]
struct Institution {
    institution_id: String,
    oid: Option<String>,
    name_ja: String,
    #[serde(default)]
    name_en: String,
    home_community_id: String,
    kind: String,
    #[serde(default)]
    emergency: bool,
    #[serde(default)]
    pins: Vec<Certificate>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    purposes: Vec<String>,
    #[serde(default)]
    assigning_authorities: Vec<String>,
    prefecture: Option<String>,
    status: Option<String>,
}

/// A registered certificate: its pin alone, or more about it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Certificate {
    Pin(String),
    Full(FullCertificate),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FullCertificate {
    #[serde(default)]
    pin: String,
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    serial: String,
    from: Option<String>,
    until: Option<String>,
    #[serde(default)]
    profile: String,
    status: Option<String>,
}

/// An assigning authority: its OID alone, or more about it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Authority {
    Oid(String),
    Full(FullAuthority),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FullAuthority {
    oid: String,
    #[serde(default)]
    namespace_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    system_uris: Vec<String>,
    #[serde(default)]
    source_institution_id: String,
}

/// Reads a directory file: JSON if it starts with `{`, else TOML. The idempotency key, the expected
/// version and `validate_only` are left to the caller.
///
/// # Errors
/// The line, or the entry and key, at fault.
pub fn parse(text: &str) -> Result<pb::ApplyDirectoryRequest> {
    let file: File = match text.trim_start().starts_with('{') {
        true => {
            serde_json::from_str(text).map_err(|error| DirectoryFileError(error.to_string()))?
        }
        false => toml::from_str(text)
            .map_err(|error| DirectoryFileError(toml_problem(text, &error).to_string()))?,
    };
    let request = pb::ApplyDirectoryRequest {
        communities: each(
            "community",
            &file.community,
            |one| &one.home_community_id,
            community,
        )?,
        institutions: each(
            "institution",
            &file.institution,
            |one| &one.institution_id,
            institution,
        )?,
        retired_home_community_ids: file.retire_communities,
        retired_institution_ids: file.retire_institutions,
        ..pb::ApplyDirectoryRequest::default()
    };
    for id in &request.retired_home_community_ids {
        check::<HomeCommunityId>("retire_communities", id)?;
    }
    if request == pb::ApplyDirectoryRequest::default() {
        return Err(DirectoryFileError(
            "there is nothing in the file".to_owned(),
        ));
    }
    Ok(request)
}

/// Reads every entry; an error says which. Two of one id are an error.
fn each<E, M>(
    what: &str,
    entries: &[E],
    id: impl Fn(&E) -> &String,
    read: impl Fn(&E) -> Result<M>,
) -> Result<Vec<M>> {
    let mut seen = HashSet::new();
    let mut messages = Vec::with_capacity(entries.len());
    for (number, entry) in (1..).zip(entries) {
        let at = |error: DirectoryFileError| {
            DirectoryFileError(format!("{what} {number} ({}): {error}", id(entry)))
        };
        if !seen.insert(id(entry)) {
            return Err(at(DirectoryFileError(
                "stands twice in the file".to_owned(),
            )));
        }
        messages.push(read(entry).map_err(at)?);
    }
    Ok(messages)
}

fn community(entry: &Community) -> Result<pb::Community> {
    check::<HomeCommunityId>("home_community_id", &entry.home_community_id)?;
    if let Some(parent) = &entry.parent {
        check::<HomeCommunityId>("parent", parent)?;
    }
    for repository in &entry.repositories {
        check::<Oid>("repositories", repository)?;
    }
    let capabilities = entry.capabilities.iter();
    Ok(pb::Community {
        home_community_id: entry.home_community_id.clone(),
        name: Some(name(&entry.name_ja, &entry.name_en)?),
        kind: word::<pb::CommunityKind>("kind", &entry.kind)?,
        assigning_authorities: list(&entry.assigning_authorities, authority)?,
        endpoints: entry
            .endpoint
            .iter()
            .map(|text| endpoint(text))
            .collect::<Result<_>>()?,
        gateway_certificates: list(&entry.gateway_pins, |pin| certificate("gateway_pins", pin))?,
        repository_unique_ids: entry.repositories.clone(),
        capabilities: capabilities
            .map(|text| word::<pb::Capability>("capabilities", text))
            .collect::<Result<_>>()?,
        parent_home_community_id: entry.parent.clone().unwrap_or_default(),
        status: status(entry.status.as_deref())?,
        prefectures: entry.prefectures.clone(),
        service_hours: entry.service_hours.iter().map(Hours::message).collect(),
        maintenance_windows: list(&entry.maintenance, Window::message)?,
        contacts: entry.contacts.iter().map(Contact::message).collect(),
        code_mappings: entry.codes.iter().map(Mapping::message).collect(),
    })
}

fn institution(entry: &Institution) -> Result<pb::Institution> {
    let kind = word::<pb::InstitutionKind>("kind", &entry.kind)?;
    let of_network = [pb::InstitutionKind::Gateway, pb::InstitutionKind::Operator];
    if !of_network.iter().any(|&one| kind == i32::from(one)) {
        let ten = entry.institution_id.len() == 10
            && entry
                .institution_id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric());
        if !ten {
            check::<InstitutionCode>("institution_id", &entry.institution_id)?;
        }
    }
    check::<HomeCommunityId>("home_community_id", &entry.home_community_id)?;
    for oid in entry.oid.iter().chain(&entry.assigning_authorities) {
        check::<Oid>("oid or assigning_authorities", oid)?;
    }
    let purposes = entry.purposes.iter();
    Ok(pb::Institution {
        institution_id: entry.institution_id.clone(),
        oid: entry.oid.clone().unwrap_or_default(),
        name: Some(name(&entry.name_ja, &entry.name_en)?),
        home_community_id: entry.home_community_id.clone(),
        kind,
        emergency: entry.emergency,
        certificates: list(&entry.pins, |pin| certificate("pins", pin))?,
        allowed_roles: entry.roles.clone(),
        allowed_purposes: purposes
            .map(|text| word::<PurposeOfUse>("purposes", text))
            .collect::<Result<_>>()?,
        status: status(entry.status.as_deref())?,
        assigning_authorities: entry.assigning_authorities.clone(),
        prefecture: entry.prefecture.clone().unwrap_or_default(),
        ..pb::Institution::default()
    })
}

fn list<E, M>(entries: &[E], read: impl Fn(&E) -> Result<M>) -> Result<Vec<M>> {
    entries.iter().map(read).collect()
}

fn wrong(key: &str, value: &str, why: impl Display) -> DirectoryFileError {
    DirectoryFileError(format!("{key}: {value:?} {why}"))
}

fn check<T: std::str::FromStr<Err: Display>>(key: &str, text: &str) -> Result<()> {
    match text.parse::<T>() {
        Ok(_) => Ok(()),
        Err(error) => Err(wrong(key, text, error)),
    }
}

fn name(ja: &str, en: &str) -> Result<pb::BilingualName> {
    match ja.trim().is_empty() {
        true => Err(DirectoryFileError("name_ja: is required".to_owned())),
        false => Ok(pb::BilingualName {
            ja: ja.to_owned(),
            en: en.to_owned(),
        }),
    }
}

/// A value of an enum by its word.
fn word<E: Named + Into<i32>>(key: &str, text: &str) -> Result<i32> {
    let wanted = text.to_ascii_uppercase().replace(['-', ' '], "_");
    let found = E::all().find(|value| value.word() == wanted);
    found.map(Into::into).ok_or_else(|| {
        let words: Vec<String> = E::all()
            .map(|one| one.word().to_ascii_lowercase())
            .collect();
        wrong(key, text, format!("is not one of {}", words.join(", ")))
    })
}

fn status(text: Option<&str>) -> Result<i32> {
    text.map_or(Ok(0), |text| word::<pb::MemberStatus>("status", text))
}

fn certificate(key: &str, entry: &Certificate) -> Result<pb::CertificatePin> {
    let bare;
    let full = match entry {
        Certificate::Full(full) => full,
        Certificate::Pin(pin) => {
            bare = FullCertificate {
                pin: pin.clone(),
                ..FullCertificate::default()
            };
            &bare
        }
    };
    let numbered = !full.issuer.is_empty() || !full.serial.is_empty();
    if numbered != full.pin.is_empty() {
        let why = "has either a pin, or issuer and serial";
        return Err(wrong(key, &full.pin, why));
    }
    if numbered {
        CertificateNumber::parse(&full.issuer, &full.serial)
            .map_err(|error| wrong(key, &full.issuer, error))?;
    } else {
        check::<CertificatePin>(key, &full.pin)?;
    }
    let time = |text: &Option<String>| {
        let text = text.as_ref();
        text.map(|text| times::time(key, text)).transpose()
    };
    Ok(pb::CertificatePin {
        spki_sha256: full.pin.to_lowercase(),
        issuer: full.issuer.clone(),
        serial_number: full.serial.clone(),
        not_before: time(&full.from)?,
        not_after: time(&full.until)?,
        profile: full.profile.clone(),
        status: status(full.status.as_deref())?,
    })
}

fn endpoint(text: &str) -> Result<pb::Endpoint> {
    let address: Address = text
        .parse()
        .map_err(|error| wrong("endpoint", text, error))?;
    Ok(pb::Endpoint {
        // The form that the directory's service checks endpoints for.
        address: address.to_string(),
        protocol: pb::Protocol::Grpc.into(),
        ..pb::Endpoint::default()
    })
}

fn authority(entry: &Authority) -> Result<pb::AssigningAuthority> {
    let authority = match entry {
        Authority::Oid(oid) => pb::AssigningAuthority {
            oid: oid.clone(),
            ..pb::AssigningAuthority::default()
        },
        Authority::Full(full) => pb::AssigningAuthority {
            oid: full.oid.clone(),
            namespace_id: full.namespace_id.clone(),
            system_uris: full.system_uris.clone(),
            source_institution_id: full.source_institution_id.clone(),
            name: full.name.clone(),
        },
    };
    check::<Oid>("assigning_authorities", &authority.oid)?;
    Ok(authority)
}

#[cfg(test)]
mod tests;
