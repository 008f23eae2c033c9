//! The development PKI's folder: PEM files and one state file.

use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateRevocationListDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::template::DevKey;
use super::{Authority, DevError, Issued, KeyAlgorithm, Layout};
use crate::pki::certificate::Certificate;
use crate::pki::trust::read_certificates;

const STATE: &str = "state.toml";
const README: &str = "README.txt";
const NOTICE: &str = "DEVELOPMENT ONLY\n\nMade by `renkei pki init`. The private keys of the root \
and of the issuing CA lie here in the clear.\nNothing that holds real patients may trust this \
root. Delete the folder when done.\n";

/// One issued certificate, as the state file keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its name, and that of its files.
    pub name: String,
    /// Serial number.
    pub serial: u64,
    /// Kind, as [`super::Kind::name`].
    pub kind: String,
    /// Variant, as [`super::Variant::name`].
    pub variant: String,
    /// CN.
    pub common_name: String,
    /// End of validity, RFC 3339.
    pub not_after: String,
    /// SHA-256 of the public key: the pin.
    pub spki_sha256: String,
    /// When it was revoked, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
}

/// The state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    last_serial: u64,
    pub(crate) crl_number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuing_revoked_at: Option<String>,
    #[serde(default, rename = "certificate")]
    pub(crate) certificates: Vec<Record>,
}

impl State {
    /// The next serial number. 1 is the root's.
    pub(crate) fn take_serial(&mut self) -> u64 {
        self.last_serial = self.last_serial.max(1) + 1;
        self.last_serial
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> DevError + '_ {
    move |source| DevError::Io {
        path: path.to_owned(),
        source,
    }
}

/// A PEM block, 64 characters a line (RFC 7468).
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out + "-----END " + label + "-----\n"
}

/// Refuses names that are no plain file names.
pub(super) fn check_name(name: &str) -> Result<(), DevError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('.') {
        Ok(())
    } else {
        Err(DevError::Name(name.into()))
    }
}

pub(super) fn refuse_existing(folder: &Path) -> Result<(), DevError> {
    let layout = Layout::of(folder);
    if folder.join(STATE).exists() || layout.root.exists() {
        return Err(DevError::Exists(folder.to_owned()));
    }
    Ok(())
}

/// Writes a file that only the owner may read, in place of none.
fn write_secret(path: &Path, text: &str) -> Result<(), DevError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path).map_err(io(path))?;
    file.write_all(text.as_bytes()).map_err(io(path))
}

/// Writes a file as a whole: a reader sees the old or the new one.
fn write_public(path: &Path, text: &str) -> Result<(), DevError> {
    // A leading dot: readers of the folder pass it over.
    let file = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let temporary = path.with_file_name(format!(".{}.new", file.unwrap_or_default()));
    fs::write(&temporary, text).map_err(io(&temporary))?;
    fs::rename(&temporary, path).map_err(io(path))
}

fn root_key(folder: &Path) -> PathBuf {
    folder.join("root.key.pem")
}

fn issuing_key(folder: &Path) -> PathBuf {
    folder.join("issuing.key.pem")
}

pub(super) fn root_crl(folder: &Path) -> PathBuf {
    Layout::of(folder).crls.join("root.crl.pem")
}

pub(super) fn issuing_crl(folder: &Path) -> PathBuf {
    Layout::of(folder).crls.join("issuing.crl.pem")
}

pub(super) fn write_authorities(
    folder: &Path,
    root: &Authority,
    issuing: &Authority,
) -> Result<(), DevError> {
    let layout = Layout::of(folder);
    for path in [folder, &layout.crls, &layout.names] {
        fs::create_dir_all(path).map_err(io(path))?;
    }
    write_public(&folder.join(README), NOTICE)?;
    let key = |authority: &Authority| Zeroizing::new(pem("PRIVATE KEY", authority.key.pkcs8()));
    write_secret(&root_key(folder), &key(root))?;
    write_secret(&issuing_key(folder), &key(issuing))?;
    write_public(&layout.root, &pem("CERTIFICATE", &root.der))?;
    write_public(&layout.issuing, &pem("CERTIFICATE", &issuing.der))
}

fn unusable(path: &Path, reason: &dyn Display) -> DevError {
    DevError::Unusable {
        path: path.to_owned(),
        reason: reason.to_string().into(),
    }
}

fn read_authority(certificate: &Path, key: &Path) -> Result<Authority, DevError> {
    let chain = read_certificates(certificate)?;
    let der = chain
        .first()
        .ok_or_else(|| unusable(certificate, &"no certificate"))?;
    let facts =
        Certificate::read(der, usize::MAX).map_err(|error| unusable(certificate, &error))?;
    let pkcs8 = PrivatePkcs8KeyDer::from_pem_file(key)
        .map_err(|error| unusable(key, &format_args!("{error:?}")))?;
    let pkcs8 = Zeroizing::new(pkcs8.secret_pkcs8_der().to_vec());
    Ok(Authority {
        der: der.to_vec(),
        subject: facts.subject.der,
        issuer: facts.issuer.der,
        serial: facts.serial,
        key: DevKey::from_pkcs8(&pkcs8, KeyAlgorithm::EcdsaP256)?,
    })
}

pub(super) fn read_authorities(folder: &Path) -> Result<(Authority, Authority), DevError> {
    let layout = Layout::of(folder);
    Ok((
        read_authority(&layout.root, &root_key(folder))?,
        read_authority(&layout.issuing, &issuing_key(folder))?,
    ))
}

pub(super) fn read_crls(folder: &Path) -> Result<(Vec<u8>, Vec<u8>), DevError> {
    let read = |path: &Path| {
        CertificateRevocationListDer::from_pem_file(path)
            .map(|list| list.to_vec())
            .map_err(|error| unusable(path, &format_args!("{error:?}")))
    };
    Ok((read(&root_crl(folder))?, read(&issuing_crl(folder))?))
}

pub(super) fn write_crl(path: &Path, der: &[u8]) -> Result<(), DevError> {
    write_public(path, &pem("X509 CRL", der))
}

pub(super) fn read_state(folder: &Path) -> Result<State, DevError> {
    let path = folder.join(STATE);
    let text = fs::read_to_string(&path).map_err(|error| unusable(folder, &error))?;
    toml::from_str(&text).map_err(|error| unusable(&path, &error))
}

pub(super) fn write_state(folder: &Path, state: &State) -> Result<(), DevError> {
    let path = folder.join(STATE);
    let text = toml::to_string_pretty(state).map_err(|error| unusable(&path, &error))?;
    write_public(&path, &text)
}

/// Writes certificate chain and key; their paths.
pub(super) fn write_issued(folder: &Path, issued: &Issued) -> Result<(PathBuf, PathBuf), DevError> {
    let names = Layout::of(folder).names;
    fs::create_dir_all(&names).map_err(io(&names))?;
    let certificate = names.join(format!("{}.cert.pem", issued.name));
    let key = names.join(format!("{}.key.pem", issued.name));
    write_secret(&key, &issued.key_pem())?;
    write_public(&certificate, &issued.chain_pem())?;
    Ok((certificate, key))
}
