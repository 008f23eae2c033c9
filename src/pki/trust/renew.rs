//! Trust read again while a node runs, and revocation lists taken over one by one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use jiff::Timestamp;

use super::files::{list_files, read_list_bytes, read_list_file};
use super::{TrustError, TrustStore, crl_error, keep_newest, read_certificates, refuse_older};
use crate::pki::certificate::sha256;
use crate::pki::crl::{Crl, CrlError};

/// A revocation list that was verified and kept in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedList {
    /// Its file.
    pub path: PathBuf,
    /// Issuer's name.
    pub issuer: String,
    /// CRL number.
    pub number: String,
    /// When the next one is due.
    pub next_update: Timestamp,
    /// Whether the folder held it, or a newer one, already.
    pub known: bool,
}

impl TrustStore {
    /// The same trust read from its files again. Authorities are all or nothing. A revocation list
    /// that is bad, or older than the one in force, is left out and told of, and the one in force
    /// stays: one bad file does not keep the fresh lists of others away.
    ///
    /// # Errors
    /// [`TrustError`] for roots and CA certificates; then nothing is to change.
    pub fn renew(
        &self,
        roots: &[PathBuf],
        intermediates: &[PathBuf],
        crls: &[PathBuf],
    ) -> Result<(Self, Vec<TrustError>), TrustError> {
        let read = |paths: &[PathBuf]| {
            let mut all = Vec::new();
            for path in paths {
                all.extend(read_certificates(path)?);
            }
            Ok::<_, TrustError>(all)
        };
        let (profiles, options) = (self.profiles().clone(), self.options());
        let store = Self::from_der(&read(roots)?, &read(intermediates)?, &[], profiles, options)?;
        let signs = |list: &Crl| {
            let mut authorities = store.roots().iter().chain(store.intermediates());
            authorities.any(|ca| ca.spki_sha256 == list.signer)
        };
        let mut lists: Vec<Crl> = self
            .crls()
            .iter()
            .filter(|list| signs(list))
            .cloned()
            .collect();
        let mut problems = Vec::new();
        for path in crls {
            match list_files(path) {
                Err(error) => problems.push(error),
                Ok(files) => {
                    for file in files {
                        store.take_file(&file, &mut lists, &mut problems);
                    }
                }
            }
        }
        Ok((store.with_lists(lists), problems))
    }

    /// Whether `other` trusts the same roots and knows the same CA certificates.
    pub fn same_authorities(&self, other: &Self) -> bool {
        let all = |store: &Self| {
            let (roots, others) = (store.roots().iter(), store.intermediates().iter());
            let prints = |ca: &crate::pki::certificate::Certificate| ca.fingerprint;
            (
                roots.map(prints).collect::<Vec<_>>(),
                others.map(prints).collect::<Vec<_>>(),
            )
        };
        all(self) == all(other)
    }

    fn take_file(&self, file: &Path, lists: &mut Vec<Crl>, problems: &mut Vec<TrustError>) {
        let origin = file.display().to_string();
        let limit = self.profiles().limits().crl_bytes;
        let found = match read_list_file(file, limit) {
            Ok(found) => found,
            Err(error) => {
                problems.push(error);
                return;
            }
        };
        for (_, der) in found {
            match self.read_crl(&der) {
                Err(error) => problems.push(crl_error(&origin, error)),
                Ok(list) => {
                    let known = lists.iter().find(|known| known.same_scope(&list));
                    match refuse_older(&list, known) {
                        Err(error) => problems.push(crl_error(&origin, error)),
                        Ok(()) => keep_newest(lists, list),
                    }
                }
            }
        }
    }

    /// Verifies a revocation list, PEM or DER, and keeps it in `folder`, in the file of its scope,
    /// written whole or not at all. One that is older than the one in force, or than the one in its
    /// file, is refused. `origin` is where it came from, for messages.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn import_list(
        &self,
        bytes: Vec<u8>,
        origin: &Path,
        folder: &Path,
    ) -> Result<ImportedList, TrustError> {
        let found = read_list_bytes(bytes, origin)?;
        let refuse = |error| crl_error(&origin.display().to_string(), error);
        let [der] = found.as_slice() else {
            let more = CrlError::Malformed("more than one list".into());
            return Err(refuse(more));
        };
        let list = self.read_crl(der).map_err(refuse)?;
        let path = folder.join(file_name(&list));
        let io = |source| TrustError::Io {
            path: path.clone(),
            source,
        };
        let kept = match fs::read(&path) {
            Ok(bytes) => self.read_crl(&bytes).ok(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(io(error)),
        };
        for known in self.crls().iter().chain(&kept) {
            let known = Some(known).filter(|known| known.same_scope(&list));
            refuse_older(&list, known).map_err(refuse)?;
        }
        let known = kept.is_some_and(|kept| !kept.is_older_than(&list));
        if !known {
            write_whole(&path, der).map_err(io)?;
        }
        Ok(ImportedList {
            path: path.clone(),
            issuer: list.issuer.text(),
            number: list.number_text(),
            next_update: list.next_update,
            known,
        })
    }
}

/// The file of a list: by issuer, key and what part of the certificates it covers, so that a newer
/// list replaces an older one.
fn file_name(list: &Crl) -> String {
    let scope = format!("{:?}", list.scope);
    let named = [list.issuer.der.as_slice(), &list.signer, scope.as_bytes()].concat();
    let hash = sha256(&named);
    format!("{}.crl", HEXLOWER.encode(hash.get(..16).unwrap_or(&hash)))
}

/// Replaces a file so that it is always whole, also after a power cut.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // A leading dot, so that the folder's readers pass over it.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let mut file = fs::File::create(&draft)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let moved = written.and_then(|()| fs::rename(&draft, path));
    if let Err(error) = moved {
        drop(fs::remove_file(&draft));
        return Err(error);
    }
    fs::File::open(folder)?.sync_all()
}
