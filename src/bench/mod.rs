//! `renkei bench`: measures, as ratios to a floor taken in the same run on the same machine, so
//! that they travel (`docs` in `README.md`, "Measure").

mod audit;
mod constant;
mod decide;
mod emergency;
mod fanout;
mod handshake;
mod identity;
mod ledger;
mod load;
mod matching;
mod node;
pub mod regions;
mod registry;
mod retrieve;
mod rpc;
pub mod wide;

use serde::Serialize;

pub use audit::{AuditSettings, audit};
pub use decide::{DecideSettings, decide_bench};
pub use emergency::{EmergencySettings, emergency};
pub use fanout::{FanoutSettings, fanout, serve_regions};
pub use handshake::{HandshakeSettings, handshake};
pub use identity::{IdentitySettings, identity};
pub use ledger::{LedgerSettings, Step, engine, ledger, run_step};
pub use matching::{MatchingSettings, Report, learning_set, matching};
pub use node::{NodeStep, node, node_step};
pub use registry::{RegistrySettings, registry};
pub use retrieve::{RetrieveSettings, retrieve};
pub use rpc::{RpcSettings, rpc};

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The suite.
    pub suite: &'static str,
    /// What was measured, such as `identity.QueryIdentifiers@64`.
    pub case: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The floor, in the same unit.
    pub floor: f64,
    /// What the floor is.
    pub floor_name: &'static str,
    /// How much of the floor was reached: value / floor for rates, floor / value for times.
    pub ratio: f64,
    /// Calls measured.
    pub n: u64,
    /// What the figure depends on.
    pub config: serde_json::Value,
}

impl Figure {
    /// Prints it: a JSON line, or one for people.
    pub fn print(&self, json: bool) {
        if json {
            match serde_json::to_string(self) {
                Ok(line) => println!("{line}"),
                Err(error) => eprintln!("a figure could not be printed: {error}"),
            }
        } else {
            println!(
                "{:<40} {:>12.1} {:<8} floor {:>12.1}  ratio {:.2}",
                self.case, self.value, self.unit, self.floor, self.ratio
            );
        }
    }
}
