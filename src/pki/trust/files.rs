//! Reading certificates and revocation lists, PEM or DER.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::TrustError;

/// The largest file of certificates read: a thousand of them.
const LARGEST_CERTIFICATES: usize = 4 << 20;

/// Reads a file of at most `limit` octets; a larger one is not read into memory.
fn read_file(path: &Path, limit: usize) -> Result<Vec<u8>, TrustError> {
    let io = |source| TrustError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    file.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() > limit {
        return Err(TrustError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes
        .windows(11)
        .take(65_536)
        .any(|window| window == b"-----BEGIN ")
}

/// The certificates of one PEM (one or more) or DER (one) file.
///
/// # Errors
/// [`TrustError::Io`], [`TrustError::TooLarge`], [`TrustError::Pem`], [`TrustError::Empty`].
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let bytes = read_file(path, LARGEST_CERTIFICATES)?;
    let found = if is_pem(&bytes) {
        CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| pem_error(path, &error))?
    } else if bytes.is_empty() {
        Vec::new()
    } else {
        vec![CertificateDer::from(bytes)]
    };
    if found.is_empty() {
        return Err(TrustError::Empty {
            path: path.to_owned(),
            expected: "certificate",
        });
    }
    Ok(found)
}

fn pem_error(path: &Path, error: &rustls_pki_types::pem::Error) -> TrustError {
    TrustError::Pem {
        path: path.to_owned(),
        reason: format!("{error:?}").into(),
    }
}

pub(super) type ListFile = (PathBuf, CertificateRevocationListDer<'static>);

/// The revocation lists of one file, or of every file in a folder whose name has no leading dot.
/// A file may be twice `limit`: PEM is a third larger than what it holds.
pub(super) fn read_lists(path: &Path, limit: usize) -> Result<Vec<ListFile>, TrustError> {
    let mut lists = Vec::new();
    for file in list_files(path)? {
        lists.extend(read_list_file(&file, limit)?);
    }
    Ok(lists)
}

/// The file, or every file in a folder whose name has no leading dot.
pub(super) fn list_files(path: &Path) -> Result<Vec<PathBuf>, TrustError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let io = |source| TrustError::Io {
        path: path.to_owned(),
        source,
    };
    let mut files = fs::read_dir(path)
        .map_err(io)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(io))
        .collect::<Result<Vec<_>, _>>()?;
    let hidden = |file: &Path| {
        file.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    files.retain(|file| file.is_file() && !hidden(file));
    files.sort();
    Ok(files)
}

/// The revocation lists of one PEM (one or more) or DER (one) file, of at most twice `limit`.
pub(super) fn read_list_file(path: &Path, limit: usize) -> Result<Vec<ListFile>, TrustError> {
    let lists = read_list_bytes(read_file(path, limit.saturating_mul(2))?, path)?;
    Ok(lists
        .into_iter()
        .map(|list| (path.to_owned(), list))
        .collect())
}

/// The revocation lists of PEM (one or more) or DER (one), which came from `path`.
pub(super) fn read_list_bytes(
    bytes: Vec<u8>,
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TrustError> {
    let lists = if is_pem(&bytes) {
        CertificateRevocationListDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| pem_error(path, &error))?
    } else {
        vec![CertificateRevocationListDer::from(bytes)]
    };
    if lists.is_empty() {
        return Err(TrustError::Empty {
            path: path.to_owned(),
            expected: "revocation list",
        });
    }
    Ok(lists)
}
