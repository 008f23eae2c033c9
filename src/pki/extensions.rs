//! The extensions of a certificate, as far as rules look at them.

use x509_parser::extensions::{
    AuthorityKeyIdentifier, CRLDistributionPoints, DistributionPointName, GeneralName,
    ParsedExtension, PolicyInformation, PolicyMappings, SubjectAlternativeName, X509Extension,
};

use super::certificate::{DistinguishedName, malformed, oid};
use super::der;
use super::names::{Constraints, Name};
use super::refusal::Refusal;

/// keyUsage bits by name (RFC 5280 §4.2.1.3), in bit order.
pub(crate) const KEY_USAGES: [&str; 9] = [
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
];

/// The authority key identifier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuthorityKey {
    pub(crate) key_id: Option<Vec<u8>>,
    pub(crate) issuer: Vec<Name>,
    pub(crate) serial: Option<Vec<u8>>,
}

impl AuthorityKey {
    fn read(key: &AuthorityKeyIdentifier<'_>) -> Self {
        Self {
            key_id: key.key_identifier.as_ref().map(|id| id.0.to_vec()),
            issuer: key
                .authority_cert_issuer
                .iter()
                .flatten()
                .map(Name::read)
                .collect(),
            serial: key.authority_cert_serial.map(<[u8]>::to_vec),
        }
    }
}

/// The extensions that rules look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extensions {
    /// Names of the known extensions that are critical.
    pub(crate) critical: Vec<&'static str>,
    pub(crate) unknown_critical: Vec<String>,
    pub(crate) duplicate: Option<String>,
    /// Names of the keyUsage bits that are set.
    pub(crate) key_usage: Option<Vec<&'static str>>,
    /// (cA, pathLenConstraint).
    pub(crate) basic_constraints: Option<(bool, Option<u32>)>,
    pub(crate) policies: Option<Vec<String>>,
    /// What RFC 5280 forbids about the policy extensions, if anything.
    pub(crate) policy_fault: Option<&'static str>,
    /// issuerDomainPolicy of policyMappings: mapping is inhibited, so these do not pass on.
    pub(crate) mapped_policies: Vec<String>,
    pub(crate) extended_key_usage: Option<Vec<String>>,
    pub(crate) alternative_names: Vec<Name>,
    pub(crate) directory_names: Vec<DistinguishedName>,
    pub(crate) authority_key: Option<AuthorityKey>,
    pub(crate) subject_key_id: Option<Vec<u8>>,
    pub(crate) distribution_points: Vec<Name>,
    pub(crate) directory_attributes: Option<Vec<u8>>,
    pub(crate) name_constraints: Option<Constraints>,
}

impl Extensions {
    /// Whether keyUsage is present and has `bit`.
    pub(crate) fn has_key_usage(&self, bit: &str) -> bool {
        self.key_usage
            .as_ref()
            .is_some_and(|bits| bits.contains(&bit))
    }

    pub(crate) fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.alternative_names.iter().filter_map(|name| match name {
            Name::Dns(dns) => Some(dns.as_str()),
            _ => None,
        })
    }
}

pub(crate) fn read_extensions(list: &[X509Extension<'_>]) -> Result<Extensions, Refusal> {
    let mut found = Extensions::default();
    let mut seen: Vec<String> = Vec::new();
    for extension in list {
        let id = extension.oid.to_id_string();
        if seen.contains(&id) {
            found.duplicate = Some(id.clone());
        }
        if der::whole(extension.value).is_err() {
            return Err(malformed(&format!("extension {id}")));
        }
        match read_extension(&mut found, extension, &id)? {
            Some(name) if extension.critical => found.critical.push(name),
            None if extension.critical => found.unknown_critical.push(id.clone()),
            _ => {}
        }
        seen.push(id);
    }
    Ok(found)
}

/// Stores what `extension` says; its name if it is one that this gateway processes.
fn read_extension(
    found: &mut Extensions,
    extension: &X509Extension<'_>,
    id: &str,
) -> Result<Option<&'static str>, Refusal> {
    let name = match extension.parsed_extension() {
        ParsedExtension::ParseError { .. } => return Err(malformed(&format!("extension {id}"))),
        ParsedExtension::KeyUsage(usage) => {
            found.key_usage = Some(read_usage(usage.flags));
            "keyUsage"
        }
        ParsedExtension::BasicConstraints(basic) => {
            found.basic_constraints = Some((basic.ca, basic.path_len_constraint));
            "basicConstraints"
        }
        ParsedExtension::CertificatePolicies(policies) => {
            read_policies(found, policies, extension.critical);
            "certificatePolicies"
        }
        ParsedExtension::PolicyMappings(mappings) => {
            read_mappings(found, mappings);
            "policyMappings"
        }
        // Both only tighten what is always on here: explicit policy, no mapping, no anyPolicy.
        ParsedExtension::PolicyConstraints(limits) => {
            let nothing =
                limits.require_explicit_policy.is_none() && limits.inhibit_policy_mapping.is_none();
            fault(found, nothing, "empty policyConstraints");
            "policyConstraints"
        }
        ParsedExtension::InhibitAnyPolicy(_) => "inhibitAnyPolicy",
        ParsedExtension::ExtendedKeyUsage(_) => {
            found.extended_key_usage = Some(read_purposes(extension.value)?);
            "extKeyUsage"
        }
        ParsedExtension::SubjectAlternativeName(names) => {
            read_alternative_names(found, names);
            "subjectAltName"
        }
        ParsedExtension::NameConstraints(_) => {
            let constraints = Constraints::read(extension.value);
            found.name_constraints =
                Some(constraints.map_err(|_| malformed("extension nameConstraints"))?);
            "nameConstraints"
        }
        ParsedExtension::AuthorityKeyIdentifier(key) => {
            found.authority_key = Some(AuthorityKey::read(key));
            "authorityKeyIdentifier"
        }
        ParsedExtension::SubjectKeyIdentifier(key) => {
            found.subject_key_id = Some(key.0.to_vec());
            "subjectKeyIdentifier"
        }
        ParsedExtension::CRLDistributionPoints(points) => {
            found.distribution_points = read_points(points);
            "cRLDistributionPoints"
        }
        _ if id == oid::SUBJECT_DIRECTORY_ATTRIBUTES => {
            found.directory_attributes = Some(extension.value.to_vec());
            "subjectDirectoryAttributes"
        }
        _ => return Ok(None),
    };
    Ok(Some(name))
}

fn fault(found: &mut Extensions, broken: bool, what: &'static str) {
    if broken {
        found.policy_fault.get_or_insert(what);
    }
}

/// certificatePolicies (RFC 5280 §4.2.1.4). A critical one is to be understood with its qualifiers:
/// the address of a practice statement and a notice, which change no verdict.
fn read_policies(found: &mut Extensions, policies: &[PolicyInformation<'_>], critical: bool) {
    let mut ids: Vec<String> = Vec::new();
    for policy in policies {
        let id = policy.policy_id.to_id_string();
        fault(found, ids.contains(&id), "the same policy twice");
        let qualifiers = policy.policy_qualifiers.iter().flatten();
        for qualifier in qualifiers {
            let kind = qualifier.policy_qualifier_id.to_id_string();
            let known = kind == oid::CPS_URI || kind == oid::USER_NOTICE;
            fault(found, critical && !known, "unknown policy qualifier");
        }
        ids.push(id);
    }
    fault(found, ids.is_empty(), "no policy");
    found.policies = Some(ids);
}

/// policyMappings: neither side may be anyPolicy (RFC 5280 §6.1.4 a).
fn read_mappings(found: &mut Extensions, mappings: &PolicyMappings<'_>) {
    for pair in &mappings.mappings {
        let issuer = pair.issuer_domain_policy.to_id_string();
        let subject = pair.subject_domain_policy.to_id_string();
        let any = issuer == oid::ANY_POLICY || subject == oid::ANY_POLICY;
        fault(found, any, "anyPolicy mapped");
        found.mapped_policies.push(issuer);
    }
    fault(found, mappings.mappings.is_empty(), "empty policyMappings");
}

fn read_usage(flags: u16) -> Vec<&'static str> {
    let bits = KEY_USAGES.iter().enumerate();
    bits.filter_map(|(bit, name)| (flags >> bit & 1 == 1).then_some(*name))
        .collect()
}

fn read_alternative_names(found: &mut Extensions, names: &SubjectAlternativeName<'_>) {
    found.alternative_names = names.general_names.iter().map(Name::read).collect();
    let directory = names.general_names.iter().filter_map(|name| match name {
        GeneralName::DirectoryName(name) => Some(DistinguishedName::read(name)),
        _ => None,
    });
    found.directory_names = directory.collect();
}

/// The full names of all points. One with cRLIssuer speaks of indirect lists, which are not
/// accepted.
fn read_points(points: &CRLDistributionPoints<'_>) -> Vec<Name> {
    let direct = points
        .points
        .iter()
        .filter(|point| point.crl_issuer.is_none());
    let names = direct.flat_map(|point| match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => names.as_slice(),
        _ => &[],
    });
    names.map(Name::read).collect()
}

fn read_purposes(value: &[u8]) -> Result<Vec<String>, Refusal> {
    let purposes = der::whole(value)
        .and_then(|list| list.expect(der::tag::SEQUENCE)?.children())
        .and_then(|list| {
            list.into_iter()
                .map(|purpose| der::oid_text(purpose.expect(der::tag::OID)?.content))
                .collect::<Result<Vec<_>, _>>()
        });
    purposes.map_err(|_| malformed("extension extKeyUsage"))
}
