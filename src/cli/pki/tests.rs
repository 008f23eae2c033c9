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

#[test]
fn unknown_values_are_refused_with_the_choices() {
    let error = tool(&["issue", "--kind", "wizard", "--name", "a", "--cn", "b"]).unwrap_err();
    assert!(error.to_string().contains("institution"), "{error}");
}
