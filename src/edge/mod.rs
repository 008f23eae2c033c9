//! What the edge of a node knows of itself: counters, alarms, who is connected, and how many calls
//! may be under way. No I/O; `server` and the doors use it, `api` shows it to operators.

mod admission;
mod alarms;
mod connections;
mod counters;

use std::sync::Arc;

use crate::config::Listen;

pub use admission::{Admission, Admitted, Class, Shed};
pub use alarms::{Alarm, Alarms, Severity};
pub use connections::{Connections, HalfOpen, Live, Refused, Seen};
pub use counters::{Counter, Counters};

/// The state of an edge, shared by all that works at it.
#[derive(Debug)]
pub struct State {
    /// What happened, by number.
    pub counters: Arc<Counters>,
    /// What needs an operator.
    pub alarms: Alarms,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// Calls under way.
    pub admission: Arc<Admission>,
}

impl State {
    /// An edge with these limits, at which nothing has happened yet.
    pub fn new(limits: &Listen) -> Arc<Self> {
        let counters = Arc::new(Counters::default());
        Arc::new(Self {
            alarms: Alarms::default(),
            connections: Connections::new(limits, Arc::clone(&counters)),
            admission: Admission::new(limits, Arc::clone(&counters)),
            counters,
        })
    }
}
