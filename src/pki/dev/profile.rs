//! What the development PKI issues, as data: `certs-dev/profile.toml`.

use serde::Deserialize;

use super::{DevError, Kind};

const EMBEDDED: &str = include_str!("../../../certs-dev/profile.toml");

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DevProfile {
    pub(crate) marker: String,
    pub(crate) cps: String,
    pub(crate) crl_hours: i64,
    pub(crate) root: Root,
    pub(crate) issuing: Issuing,
    kind: Kinds,
    pub(crate) variant: Variants,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Root {
    pub(crate) organisation: String,
    pub(crate) organisational_units: Vec<String>,
    pub(crate) organisation_japanese: String,
    pub(crate) organisational_unit_japanese: String,
    pub(crate) validity_days: i64,
    pub(crate) own_arl_name: String,
    pub(crate) own_arl_uri: String,
    pub(crate) arl_name: String,
    pub(crate) arl_uri: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issuing {
    pub(crate) organisation: String,
    pub(crate) organisational_units: Vec<String>,
    pub(crate) common_name: String,
    pub(crate) validity_days: i64,
    pub(crate) policies: Vec<String>,
    pub(crate) crl_uri: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kinds {
    institution: KindProfile,
    gateway: KindProfile,
    operator: KindProfile,
    person: KindProfile,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KindProfile {
    pub(crate) policy: String,
    pub(crate) extended_key_usage: Vec<String>,
    pub(crate) role: Option<String>,
    pub(crate) validity_days: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variants {
    pub(crate) signing_policy: String,
    pub(crate) wrong_policy: String,
}

impl DevProfile {
    /// The embedded profile.
    pub(crate) fn embedded() -> Result<Self, DevError> {
        toml::from_str(EMBEDDED).map_err(|error| DevError::Profile(error.to_string().into()))
    }

    pub(crate) fn kind(&self, kind: Kind) -> &KindProfile {
        match kind {
            Kind::Institution => &self.kind.institution,
            Kind::Gateway => &self.kind.gateway,
            Kind::Operator => &self.kind.operator,
            Kind::Person => &self.kind.person,
        }
    }
}
