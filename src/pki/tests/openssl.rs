//! The same bytes seen by OpenSSL: an independent reader of what the development PKI writes.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::pki::dev::Layout;

/// Runs openssl; `None` if it is not installed.
fn openssl(arguments: &[&str]) -> Option<(bool, String)> {
    match Command::new("openssl").args(arguments).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((
                output.status.success(),
                String::from_utf8_lossy(&text).into_owned(),
            ))
        }
        Err(error) => {
            eprintln!(
                "SKIPPED: openssl cannot be run ({error}); extension bytes not cross-checked"
            );
            None
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A PKI on disk of the machine's own time, since openssl judges by that.
fn on_disk(folder: &Path) -> DevPki {
    let mut pki = DevPki::create(folder, Arc::new(crate::clock::SystemClock), false).unwrap();
    pki.issue(&Lab::request(Kind::Gateway, "gw")).unwrap();
    pki.issue(&Lab::request(Kind::Person, "doctor")).unwrap();
    pki.issue(&Lab::request(Kind::Institution, "gone")).unwrap();
    pki.revoke("gone").unwrap();
    pki
}

#[test]
fn certificates_read_as_meant() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::of(folder.path());
    on_disk(folder.path());
    let text = |file: &Path| {
        openssl(&[
            "x509",
            "-in",
            path(file),
            "-noout",
            "-text",
            "-nameopt",
            "RFC2253,utf8,-esc_msb",
        ])
    };
    let Some((ok, root)) = text(&layout.root) else {
        return;
    };
    assert!(ok, "{root}");
    let subject = root.lines().find(|line| line.contains("Subject:")).unwrap();
    assert_eq!(subject.matches("OU=").count(), 2, "{subject}");
    assert!(!subject.contains("CN="), "{subject}");
    assert!(subject.contains("DEVELOPMENT ONLY"));
    assert!(!root.contains("Certificate Policies"));
    let (_, issuing) = text(&layout.issuing).unwrap();
    for part in [
        "Basic Constraints: critical",
        "CA:TRUE",
        "Key Usage: critical",
        "Certificate Sign, CRL Sign",
        "Certificate Policies: critical",
        "CPS: http://",
        "DirName:",
        "serial:01",
        "CN = SARL",
    ] {
        assert!(issuing.contains(part), "{part} in {issuing}");
    }
    let (_, gateway) = text(&layout.names.join("gw.cert.pem")).unwrap();
    for part in [
        "Policy: 1.2.392.100495.1.5.1.3.0.1",
        "Certificate Policies: critical",
        "Digital Signature",
        "TLS Web Client Authentication, TLS Web Server Authentication",
        "DNS:localhost, IP Address:127.0.0.1",
        "OU=1312345678",
        "OU=DEVELOPMENT ONLY",
        r"DirName:/C=JP/O=\xE9\x80\xA3\xE6\x90\xBA",
    ] {
        assert!(gateway.contains(part), "{part} in {gateway}");
    }
}

#[test]
fn hc_role_and_string_types_are_the_bytes_of_the_profile() {
    let folder = tempfile::tempdir().unwrap();
    on_disk(folder.path());
    let doctor = Layout::of(folder.path()).names.join("doctor.cert.pem");
    let Some((ok, dump)) = openssl(&["asn1parse", "-in", path(&doctor)]) else {
        return;
    };
    assert!(ok, "{dump}");
    // The value of the real certificate in the fact sheet, §1.8.
    let vector = "303430320606288185420001312831263024A0223120A00C060A2A830886910F01060101A2100C0E4D65646963616C20446F63746F72";
    assert!(dump.contains(vector), "{dump}");
    assert!(dump.contains("PRINTABLESTRING   :JP"), "{dump}");
    assert!(dump.contains("UTF8STRING        :Test System"), "{dump}");
    assert!(dump.contains("PRINTABLESTRING   :RD"), "{dump}");
    assert!(dump.contains("UTCTIME"), "{dump}");
}

#[test]
fn lists_read_and_serve_in_openssl_verify() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::of(folder.path());
    let pki = on_disk(folder.path());
    let arl = layout.crls.join("root.crl.pem");
    let crl = layout.crls.join("issuing.crl.pem");
    let Some((ok, text)) = openssl(&["crl", "-in", path(&arl), "-noout", "-text"]) else {
        return;
    };
    assert!(ok, "{text}");
    for part in [
        "Issuing Distribution Point: critical",
        "Only CA Certificates",
        "CRL Number",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (_, text) = openssl(&["crl", "-in", path(&crl), "-noout", "-text"]).unwrap();
    assert!(text.contains("Cessation Of Operation"), "{text}");
    assert!(!text.contains("Issuing Distribution Point"), "{text}");
    let verify = |leaf: &Path, more: &[&str]| {
        // Of the end entity only: the root, too, would need a list of its own for openssl.
        let base = [
            "verify",
            "-crl_check",
            "-x509_strict",
            "-explicit_policy",
            "-policy_check",
            "-CAfile",
            path(&layout.root),
            "-untrusted",
            path(&layout.issuing),
            "-CRLfile",
            path(&arl),
            "-CRLfile",
            path(&crl),
        ];
        openssl(&[&base[..], more, &[path(leaf)]].concat()).unwrap()
    };
    let organisation = ["-policy", "1.2.392.100495.1.5.1.3.0.1"];
    let named = |name: &str| layout.names.join(format!("{name}.cert.pem"));
    let (ok, text) = verify(&layout.issuing, &organisation);
    assert!(
        ok,
        "the list of the root, with its critical distribution point: {text}"
    );
    let (ok, text) = verify(&named("gw"), &organisation);
    assert!(ok, "{text}");
    let (ok, text) = verify(&named("doctor"), &["-policy", "1.2.392.100495.1.5.1.2.0.1"]);
    assert!(ok, "{text}");
    let (ok, text) = verify(&named("doctor"), &organisation);
    assert!(!ok && text.contains("policy"), "{text}");
    let (ok, text) = verify(&named("gone"), &organisation);
    assert!(!ok && text.contains("revoked"), "{text}");
    assert!(
        pki.records()
            .iter()
            .any(|record| record.revoked_at.is_some())
    );
}
