//! The hub above a region.

use serde::Deserialize;

/// The hub above a region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Its community.
    pub home_community_id: String,
    /// `https://host:port`.
    pub endpoint: String,
    /// The pin of its certificate (hex SHA-256 of the public key).
    pub certificate_pin: String,
    /// Notices that may wait for it while it is away. At half of them there is an alarm; when all are
    /// there, changes of which it must be told are refused. A patient's wishes never are.
    #[serde(default = "queue_items")]
    pub queue_items: u64,
    /// Whether it is told of patients, documents and consents. If not, it asks when it wants to know
    /// (ITI-55).
    #[serde(default = "feeds_patients")]
    pub feeds_patients: bool,
    /// How this region asks the others for documents.
    #[serde(default)]
    pub ask: AskOthers,
    /// How often what is held here is compared with what the parent's locator says, in hours, or up to a
    /// tenth later; 0: never.
    #[serde(default = "reconcile_hours")]
    pub reconcile_hours: u32,
}

/// How a region asks the others for documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AskOthers {
    /// Through the parent.
    #[default]
    ThroughParent,
    /// Itself, with the parent's leave; one that cannot be reached so is a gap.
    Directly,
    /// Itself, and through the parent those that do not answer.
    DirectlyElseThroughParent,
}

fn feeds_patients() -> bool {
    true
}

fn queue_items() -> u64 {
    1_000_000
}

fn reconcile_hours() -> u32 {
    24
}
