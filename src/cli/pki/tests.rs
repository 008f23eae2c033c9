//! The commands, end to end.

use clap::Parser as _;

use super::*;

#[derive(clap::Parser)]
struct Tool {
    #[command(flatten)]
    pki: PkiArgs,
}

fn tool(arguments: &[&str]) -> anyhow::Result<()> {
    run(
        Tool::try_parse_from([&["pki"], arguments].concat())?.pki,
        true,
    )
}

#[test]
fn init_issue_check_revoke_refresh_and_show_work_together() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("pki");
    let dir = dir.to_str().unwrap();
    tool(&["init", "--dir", dir]).unwrap();
    assert!(tool(&["init", "--dir", dir]).is_err(), "made already");
    let gateway = [
        "issue", "--dir", dir, "--kind", "gateway", "--name", "hub", "--cn", "Hub",
    ];
    assert!(tool(&gateway).is_err(), "a gateway needs a name");
    tool(&[&gateway[..], &["--dns", "localhost"]].concat()).unwrap();
    let certificate = format!("{dir}/names/hub.cert.pem");
    tool(&["show", &certificate]).unwrap();
    let check = |usage: &str| tool(&["check", &certificate, "--trust", dir, "--usage", usage]);
    check("server").unwrap();
    check("institution").unwrap();
    assert!(
        check("person")
            .unwrap_err()
            .to_string()
            .contains("policy-not-accepted")
    );
    tool(&["revoke", "hub", "--dir", dir]).unwrap();
    tool(&["refresh", "--dir", dir]).unwrap();
    assert!(check("server").unwrap_err().to_string().contains("revoked"));
}

/// Bars: T-12.
#[test]
fn a_list_is_imported_unless_it_is_older_or_foreign() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (dir, other, into) = (path("pki"), path("other"), path("lists"));
    std::fs::create_dir(&into).unwrap();
    tool(&["init", "--dir", &dir]).unwrap();
    tool(&["init", "--dir", &other, "--foreign"]).unwrap();
    let list = |of: &str| {
        let mut lists = std::fs::read_dir(format!("{of}/crls")).unwrap();
        lists.find_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.contains("issuing")
                .then(|| path.to_str().unwrap().to_owned())
        })
    };
    let of = list(&dir).unwrap();
    let import = |file: &str| tool(&["import-crl", file, "--into", &into, "--trust", &dir]);
    let kept = || {
        let mut files = std::fs::read_dir(&into)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let file = files.next().unwrap();
        assert!(files.next().is_none(), "one file for one scope");
        std::fs::read(file).unwrap()
    };
    std::fs::copy(&of, path("old")).unwrap();
    import(&of).unwrap();
    let first = kept();
    import(&of).unwrap();
    tool(&["refresh", "--dir", &dir]).unwrap();
    import(&of).unwrap();
    let second = kept();
    assert_ne!(first, second);
    for bad in [
        path("old"),
        list(&other).unwrap(),
        format!("{dir}/root.cert.pem"),
    ] {
        assert!(import(&bad).is_err(), "{bad}");
        assert_eq!(kept(), second, "{bad}");
    }
}

#[test]
fn unknown_values_are_refused_with_the_choices() {
    let error = tool(&["issue", "--kind", "wizard", "--name", "a", "--cn", "b"]).unwrap_err();
    assert!(error.to_string().contains("institution"), "{error}");
}

#[test]
fn a_verdict_is_explained_rule_by_rule_in_both_languages() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, now) = (folder.path(), SystemClock.now());
    let mut pki = DevPki::create(dir, Arc::new(SystemClock), false).unwrap();
    let request = IssueRequest::new(crate::pki::dev::Kind::Institution, "card", "Card")
        .variant(crate::pki::dev::Variant::SigningOnly);
    let chain = pki.issue(&request).unwrap().chain;
    let store = Layout::of(dir)
        .trust_store(TrustOptions::default())
        .unwrap();
    let explanation = explain(&chain, &store, crate::pki::Usage::Institution, now);
    let text = explanation_lines(&explanation).join("\n");
    for part in [
        "ok    form",
        "FAIL  signing-certificate",
        "FAIL  policy",
        "認証用証明書",
        "[signing-certificate]",
        "REFUSED: this is a signing certificate",
        "拒否: 署名用証明書です",
        "what to do: use the authentication certificate of the card",
        "対処: 署名用ではなく",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    // One line in each language for every check, whether kept, violated or not reached.
    assert_eq!(explanation.steps.len(), 19);
    for step in &explanation.steps {
        assert!(
            text.contains(step.english) && text.contains(step.japanese),
            "{}",
            step.name
        );
        assert!(!step.japanese.is_ascii());
    }
    let object = explanation_json(&explanation, crate::pki::Usage::Institution, now);
    assert_eq!(object["accepted"], false);
    assert_eq!(object["rule"], "signing-certificate");
    assert!(
        object["advice"]
            .as_str()
            .unwrap()
            .contains("authentication")
    );
    assert!(
        object["advice_japanese"]
            .as_str()
            .unwrap()
            .contains("認証用")
    );
    assert_eq!(object["steps"].as_array().unwrap().len(), 19);
}

/// The flags of an operator outside of the development PKI: root, CA, lists, chain, time, grace.
#[test]
fn a_chain_is_checked_against_named_files_at_a_named_time() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("pki");
    let mut pki = DevPki::create(&dir, Arc::new(SystemClock), false).unwrap();
    let request = IssueRequest::new(crate::pki::dev::Kind::Institution, "a", "A");
    let issued = pki.issue(&request).unwrap();
    let leaf = folder.path().join("leaf.der");
    std::fs::write(&leaf, &issued.chain[0]).unwrap();
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (root, ca) = (file("root.cert.pem"), file("issuing.cert.pem"));
    let (arl, crl) = (file("crls/root.crl.pem"), file("crls/issuing.crl.pem"));
    let leaf = leaf.to_str().unwrap();
    let check = |more: &[&str]| {
        let base = ["check", leaf, "--root", &root, "--chain", &ca];
        tool(&[&base[..], more].concat()).map_err(|error| error.to_string())
    };
    let whole = ["--ca", &ca, "--crl", &arl, "--crl", &crl];
    assert!(check(&whole).is_ok());
    assert!(check(&[]).unwrap_err().contains("crl-missing"));
    assert!(
        check(&["--ca", &ca, "--crl", &arl])
            .unwrap_err()
            .contains("crl-missing")
    );
    let later = (SystemClock.now() + jiff::SignedDuration::from_hours(97)).to_string();
    let at = |more: &[&str]| check(&[&whole[..], &["--at", &later], more].concat());
    assert!(at(&[]).unwrap_err().contains("crl-expired"));
    assert!(at(&["--grace-hours", "2"]).is_ok());
    let production = check(&[&whole[..], &["--profiles", "hpki"]].concat());
    assert!(production.unwrap_err().contains("policy-not-accepted"));
}

#[test]
fn the_corpus_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("corpus");
    tool(&["corpus", dir.to_str().unwrap()]).unwrap();
    assert!(dir.join("manifest.json").exists());
}
