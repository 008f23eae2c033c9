//! Nodes as processes of their own, which can be killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A node that is not ready by then has failed to start.
const START: Duration = Duration::from_secs(30);

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_renkei");

/// What nodes run: the program that `RENKEI_PROGRAM` names, such as a release build for figures, or the
/// one under test.
fn program() -> PathBuf {
    let named = super::tier::variable("RENKEI_PROGRAM");
    named.map_or_else(|| PathBuf::from(PROGRAM), PathBuf::from)
}

/// A node that runs by itself.
pub(crate) struct Process {
    child: Child,
    config: PathBuf,
    log: PathBuf,
    /// `host:port` it listens on.
    pub(crate) address: String,
}

impl Process {
    /// Writes `config` into `folder` and starts a node with it.
    pub(crate) async fn start(folder: &Path, name: &str, config: &str) -> Self {
        Self::start_in(folder, name, config, &[]).await
    }

    /// As [`Process::start`], with these variables in its environment.
    pub(crate) async fn start_in(
        folder: &Path,
        name: &str,
        config: &str,
        environment: &[(&str, &Path)],
    ) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let path = folder.join(format!("{name}.toml"));
        std::fs::write(&path, config).unwrap();
        Self::spawn(path, folder.join(format!("{name}.log")), environment).await
    }

    async fn spawn(config: PathBuf, log: PathBuf, environment: &[(&str, &Path)]) -> Self {
        let errors = File::options().create(true).append(true).open(&log);
        let mut child = Command::new(program())
            .args(["serve", "--config"])
            .arg(&config)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors.unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(START, lines.next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("a node did not become ready; its log: {said}");
        };
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = ready["address"].as_str().unwrap().to_owned();
        Self {
            child,
            config,
            log,
            address,
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("the node runs")
    }

    /// Memory that only it uses, in bytes (`RssAnon`).
    pub(crate) fn memory(&self) -> u64 {
        memory(self.id()).expect("the node runs")
    }

    /// Processor time it has used so far, to the hundredth of a second.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks = [fields[11], fields[12]].map(|field| field.parse::<u64>().unwrap());
        Duration::from_millis(ticks.iter().sum::<u64>() * 10)
    }

    /// What it has logged so far, over all its lives.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again, on the same address and data.
    pub(crate) async fn restart(&mut self) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let fixed: String = text
            .lines()
            .map(|line| match line.strip_prefix("address = ") {
                Some(_) => format!("address = \"{}\"\n", self.address),
                None => format!("{line}\n"),
            })
            .collect();
        std::fs::write(&self.config, fixed).unwrap();
        *self = Self::spawn(self.config.clone(), self.log.clone(), &[]).await;
    }

    /// SIGTERM, and waits for a good end.
    pub(crate) async fn stop(mut self) {
        let id = self.child.id().expect("the node runs").to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(told.unwrap().success());
        let ended = tokio::time::timeout(START, self.child.wait()).await;
        let status = ended.expect("the node stops in time").unwrap();
        assert!(status.success(), "the node ended with {status}");
    }
}

/// Memory that only process `id` uses, in bytes (`RssAnon`); none once it has ended.
pub(crate) fn memory(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let number = line.trim().strip_suffix(" kB")?;
    Some(number.parse::<u64>().ok()? * 1024)
}
