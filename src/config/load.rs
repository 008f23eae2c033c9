//! From text and environment to a checked [`Config`].

use std::path::{Path, PathBuf};

use super::{Capability, Config, StoreSettings};
use crate::types::{
    AssigningAuthority, CertificatePin, Endpoint, HomeCommunityId, HostPattern, InvalidId, ListUrl,
    Network, RepositoryUniqueId,
};

/// What an override's name starts with; `RENKEI__NODE__DATA_DIR` overrides `node.data_dir`.
pub const ENVIRONMENT_PREFIX: &str = "RENKEI__";

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not the TOML expected; the message shows line and column.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// An environment override is wrong.
    #[error("environment variable {name}: {message}")]
    Override {
        /// The variable.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// A value has not the form it needs.
    #[error("{key}: {message}")]
    Value {
        /// The key, such as `node.home_community_id`.
        key: &'static str,
        /// What is wrong with it.
        message: String,
    },
}

impl ConfigError {
    #[expect(clippy::needless_pass_by_value, reason = "errors are handed over")]
    fn value(key: &'static str, message: impl ToString) -> Self {
        Self::Value {
            key,
            message: message.to_string(),
        }
    }
}

impl Config {
    /// Reads `path`, applies the overrides among the process's environment, and checks the result.
    ///
    /// # Errors
    /// Says which line, variable or key is wrong, and why.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let overrides = std::env::vars().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX));
        Self::parse(&text, overrides)
    }

    /// Parses `text`, applies `overrides`, and checks the result.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        text: &str,
        overrides: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        // Parsed first without overrides, because only this parse knows the lines.
        let mut config: Self = toml::from_str(text)?;
        let mut table: toml::Table = toml::from_str(text)?;
        for (name, value) in overrides {
            set(&mut table, &name, &value)?;
            config = table.clone().try_into().map_err(|error: toml::de::Error| {
                ConfigError::Override {
                    name: name.clone(),
                    message: error.message().to_owned(),
                }
            })?;
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.home()?;
        self.authorities()?;
        self.repository()?;
        for pin in &self.tls.operators {
            pin.parse::<CertificatePin>()
                .map_err(|error| ConfigError::value("tls.operators", error))?;
        }
        if let Some(parent) = &self.parent {
            parent
                .home_community_id
                .parse::<HomeCommunityId>()
                .map_err(|error| ConfigError::value("parent.home_community_id", error))?;
            parent
                .certificate_pin
                .parse::<CertificatePin>()
                .map_err(|error| ConfigError::value("parent.certificate_pin", error))?;
            parent
                .endpoint
                .parse::<Endpoint>()
                .map_err(|error| ConfigError::value("parent.endpoint", error))?;
            if parent.queue_items == 0 {
                let message = "must be greater than 0";
                return Err(ConfigError::value("parent.queue_items", message));
            }
        }
        if self.keys.root_key_file.is_some() && self.keys.token.is_some() {
            let message = "is given beside keys.token: the root key is in one place";
            return Err(ConfigError::value("keys.root_key_file", message));
        }
        if self.tls.key.is_some() == self.tls.token.is_some() {
            let message = "the private key is in one place: here, or in tls.token";
            return Err(ConfigError::value("tls.key", message));
        }
        let needs = |capability, on: bool, key, message: &str| {
            if self.has(capability) && !on {
                return Err(ConfigError::value(key, message));
            }
            Ok(())
        };
        needs(
            Capability::Repository,
            self.documents.repository_unique_id.is_some() && self.has(Capability::Registry),
            "documents.repository_unique_id",
            "a repository needs its id and the `registry` capability",
        )?;
        needs(
            Capability::Emergency,
            self.has(Capability::Federation),
            "node.capabilities",
            "`emergency` needs `federation`",
        )?;
        self.check_limits()?;
        self.check_shares()?;
        self.check_outgoing()
    }

    fn check_shares(&self) -> Result<(), ConfigError> {
        let listen = &self.listen;
        let reserved =
            u32::from(listen.emergency_share_percent) + u32::from(listen.batch_share_percent);
        for (key, percent, message) in [
            (
                "listen.emergency_share_percent",
                reserved,
                "with batch_share_percent more than 100",
            ),
            (
                "listen.memory_shed_percent",
                u32::from(listen.memory_shed_percent),
                "is more than 100",
            ),
        ] {
            if percent > 100 {
                return Err(ConfigError::value(key, message));
            }
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        if self.store.idempotency_hours < StoreSettings::LEAST_IDEMPOTENCY_HOURS {
            let message = "must be 72 or more: callers are promised as much";
            return Err(ConfigError::value("store.idempotency_hours", message));
        }
        let mut limits = self
            .connection_limits()
            .into_iter()
            .chain(self.other_limits());
        match limits.find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(ConfigError::value(key, "must be greater than 0")),
            None => Ok(()),
        }
    }

    /// What bounds connections and calls.
    fn connection_limits(&self) -> [(&'static str, u64); 23] {
        let listen = &self.listen;
        [
            ("listen.max_connections", listen.max_connections as u64),
            (
                "listen.max_connections_per_address",
                listen.max_connections_per_address as u64,
            ),
            (
                "listen.max_connections_per_certificate",
                listen.max_connections_per_certificate as u64,
            ),
            (
                "listen.max_connections_per_institution",
                listen.max_connections_per_institution as u64,
            ),
            ("listen.max_half_open", listen.max_half_open as u64),
            ("listen.max_handshakes", listen.max_handshakes as u64),
            ("listen.max_in_flight", listen.max_in_flight as u64),
            (
                "listen.max_in_flight_per_institution",
                listen.max_in_flight_per_institution as u64,
            ),
            (
                "listen.max_in_flight_per_gateway",
                listen.max_in_flight_per_gateway as u64,
            ),
            ("listen.min_in_flight", listen.min_in_flight as u64),
            ("listen.ledger_wait_ms", listen.ledger_wait_ms),
            (
                "listen.memory_shed_percent",
                u64::from(listen.memory_shed_percent),
            ),
            ("listen.max_message_bytes", listen.max_message_bytes as u64),
            (
                "listen.max_concurrent_streams",
                u64::from(listen.max_concurrent_streams),
            ),
            ("listen.max_resets", u64::from(listen.max_resets)),
            (
                "listen.max_control_frames",
                u64::from(listen.max_control_frames),
            ),
            (
                "listen.max_refused_calls",
                u64::from(listen.max_refused_calls),
            ),
            ("listen.handshake_timeout_ms", listen.handshake_timeout_ms),
            ("listen.preface_timeout_ms", listen.preface_timeout_ms),
            ("listen.headers_timeout_ms", listen.headers_timeout_ms),
            ("listen.progress_timeout_ms", listen.progress_timeout_ms),
            ("listen.idle_timeout_ms", listen.idle_timeout_ms),
            ("listen.max_connection_age_ms", listen.max_connection_age_ms),
        ]
    }

    fn other_limits(&self) -> [(&'static str, u64); 7] {
        [
            ("reload.interval_ms", self.reload.interval_ms),
            ("revocation.interval_ms", self.revocation.interval_ms),
            ("store.index_cache_mib", self.store.index_cache_mib),
            (
                "store.scrub_mib_per_second",
                self.store.scrub_mib_per_second,
            ),
            ("deadlines.ceiling_ms", self.deadlines.ceiling_ms),
            (
                "deadlines.emergency_ceiling_ms",
                self.deadlines.emergency_ceiling_ms,
            ),
            ("deadlines.stream_idle_ms", self.deadlines.stream_idle_ms),
        ]
    }

    fn check_outgoing(&self) -> Result<(), ConfigError> {
        self.networks()?;
        for host in &self.outgoing.hosts {
            host.parse::<HostPattern>()
                .map_err(|error| ConfigError::value("outgoing.hosts", error))?;
        }
        let revocation = &self.revocation;
        for url in &revocation.fetch {
            url.parse::<ListUrl>()
                .map_err(|error| ConfigError::value("revocation.fetch", error))?;
        }
        if let Some(proxy) = &revocation.proxy {
            proxy
                .parse::<ListUrl>()
                .map_err(|error| ConfigError::value("revocation.proxy", error))?;
        }
        let fetches = !revocation.fetch.is_empty() || !revocation.hosts.is_empty();
        let kept = revocation
            .folder
            .as_ref()
            .is_some_and(|folder| self.tls.crls.contains(folder));
        if fetches && !kept {
            let message = "fetching needs a folder that is among tls.crls";
            return Err(ConfigError::value("revocation.folder", message));
        }
        Ok(())
    }

    /// The networks that may be connected to besides public addresses.
    ///
    /// # Errors
    /// If one is not `address/bits`.
    pub fn networks(&self) -> Result<Vec<Network>, ConfigError> {
        let networks = self.outgoing.networks.iter();
        networks
            .map(|network| network.parse())
            .collect::<Result<_, _>>()
            .map_err(|error| ConfigError::value("outgoing.networks", error))
    }

    /// Whether the node does this.
    pub fn has(&self, capability: Capability) -> bool {
        self.node.capabilities.contains(&capability)
    }

    /// The node's community.
    ///
    /// # Errors
    /// If it is not `urn:oid:…`.
    pub fn home(&self) -> Result<HomeCommunityId, ConfigError> {
        let parsed = self.node.home_community_id.parse();
        parsed.map_err(|error: InvalidId| ConfigError::value("node.home_community_id", error))
    }

    /// The assigning authorities the node owns.
    ///
    /// # Errors
    /// If one is not an OID.
    pub fn authorities(&self) -> Result<Vec<AssigningAuthority>, ConfigError> {
        let parsed: Result<Vec<AssigningAuthority>, InvalidId> = self
            .identity
            .assigning_authorities
            .iter()
            .map(|oid| oid.parse())
            .collect();
        parsed.map_err(|error| ConfigError::value("identity.assigning_authorities", error))
    }

    /// The node's repositoryUniqueId, if it has a repository.
    ///
    /// # Errors
    /// If it is not an OID.
    pub fn repository(&self) -> Result<Option<RepositoryUniqueId>, ConfigError> {
        let parsed = self
            .documents
            .repository_unique_id
            .as_deref()
            .map(str::parse)
            .transpose();
        parsed
            .map_err(|error: InvalidId| ConfigError::value("documents.repository_unique_id", error))
    }
}

/// Puts one override in its place: the value is read as TOML, or else as a bare string.
fn set(table: &mut toml::Table, name: &str, value: &str) -> Result<(), ConfigError> {
    let refuse = |message: &str| ConfigError::Override {
        name: name.to_owned(),
        message: message.to_owned(),
    };
    let path = name
        .strip_prefix(ENVIRONMENT_PREFIX)
        .unwrap_or(name)
        .to_lowercase();
    let mut keys: Vec<&str> = path.split("__").collect();
    let last = keys
        .pop()
        .filter(|key| !key.is_empty())
        .ok_or_else(|| refuse("names no key"))?;
    let mut here = table;
    for key in keys {
        let next = here
            .entry(key.to_owned())
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        here = next
            .as_table_mut()
            .ok_or_else(|| refuse("goes through a key that is no table"))?;
    }
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    here.insert(last.to_owned(), parsed);
    Ok(())
}
