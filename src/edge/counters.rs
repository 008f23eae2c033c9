//! Counters: one for each limit, so that an operator sees which one acts.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, from the start of the process.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What happened at the edge, by number. The names are those of `GetStatus.counts`, with
        /// `edge.` before them.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Counter,)+
        }

        impl Counters {
            /// Every counter by its name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((concat!("edge.", stringify!($name)), self.$name.get()),)+]
            }
        }
    };
}

counters! {
    /// TCP connections accepted.
    accepted,
    /// Failures of accept itself, such as no descriptor left.
    accept_failures,
    /// Connections closed at once: `listen.max_connections`.
    refused_full,
    /// Connections closed at once: `listen.max_connections_per_address`.
    refused_address,
    /// Connections closed after the handshake: `listen.max_connections_per_certificate` or
    /// `_per_institution`.
    refused_certificate,
    /// Unfinished handshakes given up for newer ones: `listen.max_half_open`.
    evicted_half_open,
    /// Handshakes that failed, the certificate refused among them.
    handshakes_refused,
    /// Handshakes that took longer than `listen.handshake_timeout_ms`.
    handshake_timeouts,
    /// Handshakes completed.
    handshakes,
    /// No HTTP/2 preface within `listen.preface_timeout_ms`.
    preface_timeouts,
    /// No complete request headers within `listen.headers_timeout_ms`.
    headers_timeouts,
    /// Request bodies that did not make `listen.progress_timeout_ms`.
    body_timeouts,
    /// Responses whose reader did not make `listen.progress_timeout_ms`.
    reader_timeouts,
    /// Connections whose peer took nothing for `listen.progress_timeout_ms`.
    write_timeouts,
    /// Connections closed after `listen.idle_timeout_ms` without a call.
    idle_closed,
    /// Connections closed by `listen.max_connection_age_ms`.
    aged,
    /// Connections closed for too many reset streams.
    reset_floods,
    /// Connections closed for too many frames that carry nothing.
    frame_floods,
    /// Times a connection was not read for a moment: `listen.max_refused_calls`.
    rested,
    /// Connections closed because their certificate or registration ended.
    cut,
    /// Calls refused: `listen.max_in_flight` and the shares of the classes.
    shed_full,
    /// Calls refused: `listen.max_in_flight_per_institution` or `_per_gateway`.
    shed_quota,
    /// Calls refused because the ledger did not keep up (`listen.ledger_wait_ms`) or its queue had
    /// no room.
    shed_ledger,
    /// Calls refused because memory was short: `listen.memory_shed_percent`.
    shed_memory,
    /// Calls refused because their certificate's revocation list was too late for any but
    /// emergencies.
    refused_late_list,
    /// Emergency calls taken all the same: `revocation.emergency_grace_hours`.
    emergencies_on_late_list,
    /// Calls for a method that is not there.
    unknown_methods,
    /// Calls refused before a handler: too large, not decodable, cut off.
    refused_undecoded,
    /// Calls of a certificate that nobody has registered.
    unregistered,
    /// Reloads that put something new in force.
    reloads,
    /// Reloads that found something wrong and kept what was in force.
    reload_failures,
    /// Revocation lists fetched and taken.
    crls_fetched,
    /// Revocation lists that could not be fetched or were not taken.
    crl_fetch_failures,
    /// Outgoing connections refused by `outgoing.networks` or `outgoing.hosts`.
    outgoing_refused,
    /// Outgoing connections given up for the other side's certificate.
    outgoing_untrusted,
    /// Outgoing connections closed because the other side's certificate or registration ended.
    outgoing_cut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_name() {
        let counters = Counters::default();
        counters.aged.add();
        let all = counters.all();
        let mut names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        assert_eq!(all.iter().map(|(_, value)| value).sum::<u64>(), 1);
        assert!(all.contains(&("edge.aged", 1)));
    }
}
