//! The corpus as files, for other implementations.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::{Case, Corpus};
use crate::pki::certificate::sha256;
use crate::pki::dev::DevError;

/// Larger files are not written: the oversized list is made of one octet repeated.
const LARGEST: usize = 4 << 20;

const ABOUT: &str = "Each case: judge `chain` (end entity first, the rest as a peer would present \
    it) for `usage` at the time `at`, under the profile set `profiles`, trusting `roots`, with the \
    CA certificates `authorities` and the revocation lists `lists` configured, then `renewals` put \
    in force in their place. A list serves `grace_seconds` past nextUpdate. `expected` is the rule \
    that must refuse, or null if the chain, its CAs and its lists must all be accepted. Files are \
    DER, named by their hash.";

impl Corpus {
    /// Writes every case to `folder`: `manifest.json`, and the files it names in `der/`. Cases with
    /// a file of more than 4 MiB are left out.
    ///
    /// # Errors
    /// A file error.
    pub fn write(&self, folder: &Path) -> Result<usize, DevError> {
        let mut files = BTreeMap::new();
        let small = |case: &&Case| {
            let trusted = &case.trusted;
            let lists = trusted.lists.iter().chain(&trusted.renewals);
            let largest = lists.map(|list| list.len()).max();
            largest.is_none_or(|size| size <= LARGEST)
        };
        let cases: Vec<Value> = self
            .cases
            .iter()
            .filter(small)
            .map(|case| describe(case, &mut files))
            .collect();
        let rules: Vec<Value> = self
            .violated()
            .into_iter()
            .map(|(rule, level)| json!({ "rule": rule, "level": level.to_string() }))
            .collect();
        let manifest = json!({
            "format": 1, "about": ABOUT, "cases": cases, "rules": rules,
        });
        let der = folder.join("der");
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| DevError::Io { path, source }
        };
        fs::create_dir_all(&der).map_err(io(&der))?;
        for (name, bytes) in &files {
            let path = folder.join(name);
            fs::write(&path, bytes).map_err(io(&path))?;
        }
        let path = folder.join("manifest.json");
        fs::write(&path, format!("{manifest:#}\n")).map_err(io(&path))?;
        Ok(cases.len())
    }
}

type Files = BTreeMap<String, Vec<u8>>;

fn describe(case: &Case, files: &mut Files) -> Value {
    let mut certificates = |list: &[rustls_pki_types::CertificateDer<'_>]| -> Vec<String> {
        list.iter().map(|der| file(files, der, "crt")).collect()
    };
    let chain = certificates(&case.chain);
    let roots = certificates(&case.trusted.roots);
    let authorities = certificates(&case.trusted.authorities);
    let mut lists = |list: &[rustls_pki_types::CertificateRevocationListDer<'_>]| -> Vec<String> {
        list.iter().map(|der| file(files, der, "crl")).collect()
    };
    let (known, renewals) = (lists(&case.trusted.lists), lists(&case.trusted.renewals));
    json!({
        "name": case.name, "level": case.level.to_string(), "expected": case.expected,
        "usage": case.usage.name(), "profiles": case.set, "at": case.at.to_string(),
        "grace_seconds": case.grace.as_secs(), "chain": chain, "roots": roots,
        "authorities": authorities, "lists": known, "renewals": renewals,
    })
}

/// Notes a file, by its content; its name in the folder.
fn file(files: &mut Files, der: &[u8], ending: &str) -> String {
    let hash = HEXLOWER.encode(&sha256(der));
    let short = hash.get(..24).unwrap_or(&hash);
    let name = format!("der/{short}.{ending}");
    files.entry(name.clone()).or_insert_with(|| der.to_vec());
    name
}
