//! A node as a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A node that is not ready by then has failed to start.
const START: Duration = Duration::from_secs(20);

/// A running node.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    config: PathBuf,
    log: PathBuf,
    /// `host:port` it listens on.
    pub address: String,
}

impl Process {
    /// Writes `config` to `folder` and starts `renkei serve` with it.
    ///
    /// # Errors
    /// If it does not become ready in time; the message has the end of its log.
    pub(super) async fn start(folder: &Path, name: &str, config: &str) -> Result<Self> {
        let path = folder.join(format!("{name}.toml"));
        std::fs::create_dir_all(folder)?;
        std::fs::write(&path, config)?;
        Self::spawn(path, folder.join(format!("{name}.log"))).await
    }

    async fn spawn(config: PathBuf, log: PathBuf) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let errors = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)?;
        let mut child = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a node")?;
        let stdout = child
            .stdout
            .take()
            .context("a node without standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START, lines.next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(5).collect();
            bail!(
                "a node did not become ready; its log ends: {}",
                last.join(" | ")
            );
        };
        let ready: serde_json::Value = serde_json::from_str(&line)
            .with_context(|| format!("a node said {line:?} instead of being ready"))?;
        let address = ready.get("address").and_then(serde_json::Value::as_str);
        let address = address.context("a ready line without address")?.to_owned();
        Ok(Self {
            child,
            config,
            log,
            address,
        })
    }

    /// What it has logged so far.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends the process at once, as a power cut of the process would: SIGKILL.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub(super) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill a node")
    }

    /// Starts it again, on the same address and data.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub(super) async fn restart(&mut self) -> Result<()> {
        let text = std::fs::read_to_string(&self.config)?;
        let fixed: String = text
            .lines()
            .map(|line| {
                if line.starts_with("address = ") {
                    format!("address = \"{}\"\n", self.address)
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        std::fs::write(&self.config, fixed)?;
        *self = Self::spawn(self.config.clone(), self.log.clone()).await?;
        Ok(())
    }

    /// Asks it to drain and waits for its end.
    ///
    /// # Errors
    /// If it does not end well.
    pub(super) async fn stop(mut self) -> Result<()> {
        let Some(id) = self.child.id() else {
            return Ok(());
        };
        // The standard library can only kill; the shell's `kill` sends the gentler signal.
        let told = Command::new("kill")
            .arg("-TERM")
            .arg(id.to_string())
            .status()
            .await?;
        if !told.success() {
            bail!("a node could not be told to stop");
        }
        let ended = tokio::time::timeout(START, self.child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => bail!("a node ended with {status}"),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => bail!("a node did not stop in time"),
        }
    }
}
