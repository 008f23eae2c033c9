//! What the edge of a node knows of itself: counters, alarms, who is connected, how many calls may
//! be under way, how much memory is in use, and whose clock is apart. No I/O; `server` and the doors use it, `api` shows it to operators.

mod adaptive;
mod admission;
mod alarms;
mod clocks;
mod connections;
mod counters;
mod memory;

use std::sync::Arc;

use crate::config::Listen;

pub use adaptive::LedgerPace;
pub use admission::{Admission, Admitted, Class, Room, Shed};
pub use alarms::{Alarm, Alarms, EMERGENCY_ON_LATE_CRL, Severity};
pub use clocks::Clocks;
pub use connections::{Connections, HalfOpen, Live, Refused, Seen};
pub use counters::{Counter, Counters};
pub use memory::Memory;

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
    /// Memory in use.
    pub memory: Arc<Memory>,
}

impl State {
    /// An edge with these limits, at which nothing has happened yet.
    pub fn new(limits: &Listen) -> Arc<Self> {
        let counters = Arc::new(Counters::default());
        let memory = Arc::new(Memory::new(limits.memory_shed_percent));
        Arc::new(Self {
            alarms: Alarms::default(),
            connections: Connections::new(limits, Arc::clone(&counters)),
            admission: Admission::new(limits, Arc::clone(&counters), Arc::clone(&memory)),
            memory,
            counters,
        })
    }
}
