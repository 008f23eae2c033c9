//! The client profile: where to connect, with which certificate, and on whose behalf.
//!
//! ```toml
//! endpoint = "https://gateway.example.jp:7443"
//! certificate = "clinic.pem"        # own certificate first, then its issuers
//! key = "clinic.key"                # unencrypted, mode 600
//! roots = ["root.pem"]
//! intermediates = []
//! crls = ["crl"]                    # files, or folders of them
//! test_profile = false              # true: accept certificates of the test policies
//! server_pin = "9f86d0…"            # SHA-256 of the node's public key; optional
//! community = "urn:oid:1.2.392.100495.20.9.1"   # homeCommunityId of the node
//!
//! [person]                          # left out: a system calls, without an assertion
//! subject = "dr-sato"
//! role = "Medical Doctor"
//! purpose = "TREAT"
//! relation = "treating"
//! institution = "1310000001"
//! audience = ["urn:oid:1.2.392.100495.20.9.1"]  # may be left out: then `community` alone
//!
//! [document]                        # optional: the same for every document that is provided
//! source_id = "1.2.392.200119.6.1"
//! author_institution = "甲病院"
//! facility = "1.2.392.100495.20.3.22|1|医科"
//! practice = "1.2.392.200250.2.2.2|01|内科"
//! ```
//!
//! Paths are relative to the profile's folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::failure::Problem;
use crate::pki::assertion::Statement;
use crate::types::{
    CertificatePin, Endpoint, HomeCommunityId, InstitutionCode, PurposeOfUse, Relation,
};

/// Where to connect, with which certificate, and on whose behalf. See the module for the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientProfile {
    /// The node's gRPC interface, `https://host:port`.
    pub endpoint: String,
    /// Certificate chain, PEM: the client's own first.
    pub certificate: PathBuf,
    /// Private key, PEM, not encrypted, readable by its owner only.
    pub key: PathBuf,
    /// Trusted roots, PEM or DER.
    pub roots: Vec<PathBuf>,
    /// Known CA certificates below the roots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intermediates: Vec<PathBuf>,
    /// Revocation lists: files, or folders of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crls: Vec<PathBuf>,
    /// Accept the test policies in place of the HPKI ones: development only.
    #[serde(default)]
    pub test_profile: bool,
    /// SHA-256 of the node's public key (`SubjectPublicKeyInfo`), 64 hex digits: no other key is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_pin: Option<String>,
    /// homeCommunityId of the node, `urn:oid:`.
    pub community: String,
    /// Who acts; nobody for a system that calls as the institution alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonProfile>,
    /// What is the same for every document that is provided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentProfile>,
    /// The folder that relative paths start at; set by [`ClientProfile::load`].
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Who acts, as the assertion will say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonProfile {
    /// The institution's id of the person; never a name.
    pub subject: String,
    /// Role name of hcRole (`Medical Doctor`) or of the project (`Clerk`).
    pub role: String,
    /// Purpose of use: its code (`TREAT`) or its name (`treatment`).
    pub purpose: String,
    /// Relation to the patient: `treating`, `referred`, `emergency`, `self`, `none`.
    pub relation: String,
    /// Code of the institution where the person acts, 10 digits.
    pub institution: String,
    /// homeCommunityIds of the communities that may take the assertion; none means `community`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<String>,
}

/// Metadata that is the same for every document of an institution; the flags of `document provide`
/// go before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentProfile {
    /// OID of the source (sourceId).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// Name of the institution (authorInstitution).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_institution: Option<String>,
    /// healthcareFacilityTypeCode, `SYSTEM|CODE|DISPLAY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facility: Option<String>,
    /// practiceSettingCode, `SYSTEM|CODE|DISPLAY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub practice: Option<String>,
}

impl ClientProfile {
    /// Reads and checks the profile in `path`.
    ///
    /// # Errors
    /// Names the file, and the line or key at fault.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|error| Problem::new(format!("client profile {}: {error}", path.display())))?;
        let mut profile =
            Self::parse(&text).with_context(|| format!("client profile {}", path.display()))?;
        profile.folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(profile)
    }

    /// Reads and checks a profile's text; paths stay relative to the working folder.
    ///
    /// # Errors
    /// Names the line or key at fault.
    pub fn parse(text: &str) -> Result<Self> {
        let profile: Self = toml::from_str(text).map_err(|error| toml_problem(text, &error))?;
        profile.endpoint()?;
        profile.pin()?;
        profile.statement()?;
        Ok(profile)
    }

    /// Writes the profile to `path`, to be read by [`ClientProfile::load`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).context("client profile")?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The file that `path`, a value of this profile, names.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Several files, as [`ClientProfile::resolve`].
    pub fn resolve_all(&self, paths: &[PathBuf]) -> Vec<PathBuf> {
        paths.iter().map(|path| self.resolve(path)).collect()
    }

    /// Where the node is.
    ///
    /// # Errors
    /// `endpoint` is not `https://host:port`.
    pub fn endpoint(&self) -> Result<Endpoint> {
        let found = self.endpoint.parse();
        found.map_err(|error| anyhow!("endpoint {:?}: {error}", self.endpoint))
    }

    /// The only key accepted of the node.
    ///
    /// # Errors
    /// `server_pin` is not 64 hex digits.
    pub fn pin(&self) -> Result<Option<CertificatePin>> {
        let pin = self.server_pin.as_deref().map(str::parse).transpose();
        pin.map_err(|error| anyhow!("server_pin: {error}"))
    }

    /// What the person's assertion will say; nothing if no person acts.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn statement(&self) -> Result<Option<Statement>> {
        let community = community("community", &self.community)?;
        let Some(person) = &self.person else {
            return Ok(None);
        };
        let audience = person
            .audience
            .iter()
            .map(|text| self::community("person.audience", text));
        let audience: Vec<HomeCommunityId> = audience.collect::<Result<_>>()?;
        for (key, text) in [("subject", &person.subject), ("role", &person.role)] {
            if text.is_empty() {
                return Err(anyhow!("person.{key}: is required"));
            }
        }
        let institution: InstitutionCode = person
            .institution
            .parse()
            .map_err(|error| anyhow!("person.institution {:?}: {error}", person.institution))?;
        Ok(Some(Statement {
            subject: person.subject.clone(),
            role: person.role.clone(),
            purpose: purpose(&person.purpose)?,
            relation: relation(&person.relation)?,
            institution,
            audience: match audience.is_empty() {
                true => vec![community],
                false => audience,
            },
            presenter: None,
            one_time: false,
        }))
    }
}

fn community(key: &str, text: &str) -> Result<HomeCommunityId> {
    text.parse()
        .map_err(|error| anyhow!("{key} {text:?}: {error}"))
}

/// A purpose by its code or its name, in any case.
fn purpose(text: &str) -> Result<PurposeOfUse> {
    let wanted = text.replace(['-', '_', ' '], "");
    let mut all = PurposeOfUse::ALL.iter().copied();
    let named = |purpose: &PurposeOfUse| {
        purpose.code().eq_ignore_ascii_case(&wanted)
            || format!("{purpose:?}").eq_ignore_ascii_case(&wanted)
    };
    all.find(named).ok_or_else(|| {
        let codes: Vec<&str> = PurposeOfUse::ALL.iter().map(|one| one.code()).collect();
        let problem = Problem::new(format!("purpose {text:?}: is not a known code"));
        problem.hint(format!("one of {}", codes.join(", "))).into()
    })
}

fn relation(text: &str) -> Result<Relation> {
    text.to_ascii_lowercase().parse().map_err(|_| {
        let codes: Vec<&str> = Relation::ALL.iter().map(|one| one.code()).collect();
        let problem = Problem::new(format!("relation {text:?}: is not a known code"));
        problem.hint(format!("one of {}", codes.join(", "))).into()
    })
}

/// One line out of TOML's several: where, and what.
pub(super) fn toml_problem(text: &str, error: &toml::de::Error) -> Problem {
    let line = error.span().and_then(|span| {
        let before = text.get(..span.start)?;
        Some(before.matches('\n').count() + 1)
    });
    let message = error.message().replace('\n', ", ");
    Problem::new(match line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"
endpoint = "https://127.0.0.1:7443"
certificate = "clinic.pem"
key = "clinic.key"
roots = ["../root.pem"]
test_profile = true
community = "urn:oid:1.2.3"
[person]
subject = "dr-sato"
role = "Medical Doctor"
purpose = "treatment"
relation = "treating"
institution = "1310000001"
"#;

    #[test]
    fn a_profile_is_read_and_written() {
        let profile = ClientProfile::parse(PROFILE).unwrap();
        let statement = profile.statement().unwrap().unwrap();
        assert_eq!(statement.purpose, PurposeOfUse::Treatment);
        assert_eq!(statement.audience, ["urn:oid:1.2.3".parse().unwrap()]);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clinic.toml");
        profile.save(&path).unwrap();
        let again = ClientProfile::load(&path).unwrap();
        assert_eq!(again.folder, folder.path());
        assert_eq!(
            again.resolve(&again.key),
            folder.path().join("clinic.key"),
            "paths are relative to the profile"
        );
        assert_eq!(
            ClientProfile {
                folder: PathBuf::new(),
                ..again
            },
            profile
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, named) in [
            (
                "test_profile",
                "test_profil",
                "line 6: unknown field `test_profil`",
            ),
            ("https://127.0.0.1:7443", "http://x:1", "endpoint"),
            ("urn:oid:1.2.3", "1.2.3", "community"),
            ("\"treatment\"", "\"fun\"", "purpose \"fun\""),
            ("\"treating\"", "\"friend\"", "relation \"friend\""),
            ("1310000001", "131", "person.institution \"131\""),
            ("dr-sato", "", "person.subject"),
            ("community", "server_pin = \"00\"\ncommunity", "server_pin"),
        ] {
            let text = PROFILE.replacen(from, to, 1);
            let error = ClientProfile::parse(&text).unwrap_err();
            let shown = format!("{error:#}");
            assert!(shown.contains(named), "{shown} should name {named}");
        }
    }

    #[test]
    fn a_system_has_no_person() {
        let (system, _) = PROFILE.split_once("[person]").unwrap();
        let profile = ClientProfile::parse(system).unwrap();
        assert_eq!(profile.statement().unwrap(), None);
    }

    #[test]
    fn purposes_go_by_code_and_name() {
        for text in ["ETREAT", "etreat", "emergency", "Emergency"] {
            assert_eq!(purpose(text).unwrap(), PurposeOfUse::Emergency);
        }
        assert_eq!(
            purpose("care-coordination").unwrap(),
            PurposeOfUse::CareCoordination
        );
    }
}
