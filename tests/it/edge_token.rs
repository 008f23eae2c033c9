//! A node whose TLS key lies in a PKCS#11 token (`SoftHSM`) and never leaves it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use renkei::clock::{Clock, SystemClock};
use renkei::demo::actor::{Caller, Link};
use renkei::demo::world::World;
use renkei::pki::dev::{IssueRequest, KeyAlgorithm, Kind};
use renkei::types::CertificatePin;
use renkei::wire::pb::admin::GetStatusRequest;
use renkei::wire::pb::admin::admin_service_client::AdminServiceClient;

use crate::support::process::{PROGRAM, Process};
use crate::support::{Prepared, prepare};

/// The library of `SoftHSM`, if it is installed.
fn module() -> Option<PathBuf> {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    ];
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: softhsm2 is not installed, so no TLS key in a token was tested");
    }
    found
}

/// A token of its own under a folder, with one user PIN.
struct Token {
    module: PathBuf,
    folder: PathBuf,
}

impl Token {
    fn new(module: PathBuf, folder: &Path) -> Self {
        std::fs::create_dir_all(folder.join("tokens")).unwrap();
        let text = format!(
            "directories.tokendir = {}\nlog.level = ERROR\n",
            folder.join("tokens").display()
        );
        std::fs::write(folder.join("softhsm2.conf"), text).unwrap();
        let token = Self {
            module,
            folder: folder.to_owned(),
        };
        token.run(&["--init-token", "--free", "--so-pin", "8765"]);
        token.pin("1234", 0o600);
        token
    }

    fn settings(&self) -> PathBuf {
        self.folder.join("softhsm2.conf")
    }

    fn run(&self, arguments: &[&str]) {
        let output = Command::new("softhsm2-util")
            .args(arguments)
            .args(["--pin", "1234"])
            .args([
                if arguments.contains(&"--import") {
                    "--token"
                } else {
                    "--label"
                },
                "tls",
            ])
            .env("SOFTHSM2_CONF", self.settings())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Puts a key from its file into the token under `label`; the file goes.
    fn take(&self, key: &Path, label: &str, id: &str) {
        let file = key.to_str().unwrap();
        self.run(&["--import", file, "--id", id, "--label", label]);
        std::fs::remove_file(key).unwrap();
    }

    fn pin(&self, pin: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder.join("pin");
        std::fs::write(&path, format!("{pin}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// `config` with its key in the token, under `label`.
    fn config(&self, config: &str, label: &str) -> String {
        let at = |path: &Path| path.display().to_string();
        let without: Vec<&str> = config
            .lines()
            .filter(|line| !line.starts_with("key = "))
            .collect();
        format!(
            "{}\n[tls.token]\nmodule = \"{}\"\ntoken = \"tls\"\nkey = \"{label}\"\npin_file = \"{}\"\n",
            without.join("\n"),
            at(&self.module),
            at(&self.folder.join("pin")),
        )
    }

    /// What a node says that does not start.
    fn refusal(&self, config: &str) -> String {
        let path = self.folder.join("refused.toml");
        std::fs::write(&path, config).unwrap();
        let output = Command::new(PROGRAM)
            .args(["serve", "--config"])
            .arg(&path)
            .env("SOFTHSM2_CONF", self.settings())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

async fn answers(process: &Process, world: &World, pin: CertificatePin, clock: &Arc<dyn Clock>) {
    let identity = world.identity("operator").unwrap();
    let link = Link {
        address: &process.address,
        pin,
        identity: &identity,
        trust: &world.trust().unwrap(),
        clock,
    };
    let home = world.regions[0].home.parse().unwrap();
    let operator = Caller::new(&link, None, &home).unwrap();
    let mut client = AdminServiceClient::new(operator.channel.clone());
    let status = client.get_status(operator.request(GetStatusRequest {}));
    status.await.expect("a handshake, and an answer");
}

/// A node serves with an ECDSA and with an RSA key that is nowhere but in the token. It does not
/// start with another's key, a label that is not there, a wrong PIN or one that others may read.
///
/// Bars: T-39.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_serves_with_a_key_in_a_token() {
    let Some(module) = module() else { return };
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Prepared { mut world, .. } = prepare(&folder, 1, Arc::clone(&clock));
    let region = &world.regions[0];
    let (code, pin) = (region.name.clone(), region.pin);
    let config = world.standalone_config(region, "127.0.0.1:0").unwrap();
    let rsa = IssueRequest::new(Kind::Gateway, "rsa", "RSA gateway")
        .institution("1312345678", "Renkei Test Region", "連携試験地域")
        .ip(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .key(KeyAlgorithm::Rsa3072);
    let rsa_pin = world.pki().issue(&rsa).unwrap().identity().unwrap().pin();

    let token = Token::new(module, &folder.path().join("hsm"));
    let (certificate, key) = world.files(&code);
    token.take(&key, "ec", "01");
    let (rsa_certificate, rsa_key) = world.files("rsa");
    token.take(&rsa_key, "rsa", "02");
    let rsa_config = config.replace(
        certificate.to_str().unwrap(),
        rsa_certificate.to_str().unwrap(),
    );

    let settings = token.settings();
    let environment = [("SOFTHSM2_CONF", settings.as_path())];
    for (config, label, pin) in [(&config, "ec", pin), (&rsa_config, "rsa", rsa_pin)] {
        let nodes = folder.path().join("nodes");
        let config = token.config(config, label);
        let process = Process::start_in(&nodes, label, &config, &environment).await;
        answers(&process, &world, pin, &clock).await;
        process.stop().await;
    }

    let said = token.refusal(&token.config(&config, "rsa"));
    assert!(
        said.contains("does not belong") || said.contains("did not sign"),
        "{said}"
    );
    let said = token.refusal(&token.config(&config, "none"));
    assert!(said.contains("no such key"), "{said}");
    let both = token
        .config(&config, "ec")
        .replace("[tls]", "[tls]\nkey = \"x\"");
    let said = token.refusal(&both);
    assert!(
        said.contains("tls.key") && said.contains("tls.token"),
        "{said}"
    );
    token.pin("1234", 0o640);
    let said = token.refusal(&token.config(&config, "ec"));
    assert!(said.contains("640"), "{said}");
    token.pin("9999", 0o600);
    let said = token.refusal(&token.config(&config, "ec"));
    assert!(said.contains("logging in"), "{said}");
}
