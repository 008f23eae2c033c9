//! The flags that every client command has: which profile, and what differs from it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::args;
use super::client::{self, Session};
use super::failure::Problem;
use super::profile::ClientProfile;

const HEADING: &str = "Connection";

/// Environment variable that names the profile when `--as` is absent.
const PROFILE_VARIABLE: &str = "RENKEI_AS";

/// Which profile, and what differs from it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Connection {
    /// Client profile: node, certificate and person [default: the environment variable `RENKEI_AS`]
    #[arg(long = "as", value_name = "FILE", global = true, help_heading = HEADING)]
    profile: Option<PathBuf>,
    /// Purpose of use, in place of the profile's: TREAT, ETREAT, HOPERAT, …
    #[arg(long, value_name = "CODE", global = true, help_heading = HEADING)]
    purpose: Option<String>,
    /// Role, in place of the profile's: "Medical Doctor", Clerk, "Data Steward", …
    #[arg(long, value_name = "NAME", global = true, help_heading = HEADING)]
    role: Option<String>,
    /// Relation to the patient, in place of the profile's: treating, referred, emergency, self, none
    #[arg(long, value_name = "CODE", global = true, help_heading = HEADING)]
    relation: Option<String>,
    /// Person who acts, in place of the profile's
    #[arg(long, value_name = "ID", global = true, help_heading = HEADING)]
    subject: Option<String>,
    /// Deadline of each call: 500ms, 3s, 2m [default: the node's]
    #[arg(long, value_name = "TIME", global = true, help_heading = HEADING, value_parser = args::duration)]
    timeout: Option<Duration>,
}

impl Connection {
    /// The profile with the flags applied.
    pub(crate) fn profile(&self) -> Result<ClientProfile> {
        // The client's only setting from the environment; `config` reads those of a node.
        let path = match &self.profile {
            Some(path) => path.clone(),
            None => std::env::var_os(PROFILE_VARIABLE)
                .map(PathBuf::from)
                .ok_or_else(|| {
                    Problem::new("no client profile").hint(format!(
                        "give one with --as FILE or {PROFILE_VARIABLE}=FILE; `renkei token --help` shows the format"
                    ))
                })?,
        };
        let mut profile = ClientProfile::load(&path)?;
        let flags = [&self.purpose, &self.role, &self.relation, &self.subject];
        match &mut profile.person {
            Some(person) => {
                let keys = [
                    &mut person.purpose,
                    &mut person.role,
                    &mut person.relation,
                    &mut person.subject,
                ];
                for (key, flag) in keys.into_iter().zip(flags) {
                    if let Some(flag) = flag {
                        key.clone_from(flag);
                    }
                }
            }
            None if flags.iter().any(|flag| flag.is_some()) => {
                let problem = Problem::new("the profile has no [person] to act otherwise");
                return Err(problem.into());
            }
            None => {}
        }
        profile.statement()?;
        Ok(profile)
    }

    /// Connects.
    pub(crate) async fn open(&self) -> Result<Session> {
        let session = client::connect(&self.profile()?).await?;
        Ok(match self.timeout {
            Some(timeout) => session.with_timeout(timeout),
            None => session,
        })
    }
}
