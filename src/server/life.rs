//! The life of one connection, from the end of its handshake to its own.

use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::meter::{Cut, Meter};
use crate::config::Listen;
use crate::edge::Counters;

/// What an idle peer has to answer a goodbye, before its connection is closed all the same.
const GOODBYE: Duration = Duration::from_secs(5);
/// Beyond any connection's life.
const NEVER: Duration = Duration::from_hours(100_000);

/// Until when a connection may live.
#[derive(Debug)]
pub(super) struct Life {
    /// When it says goodbye for its age.
    retire: Instant,
    /// What it has after that for its calls.
    grace: Duration,
    /// When it is closed; set with the goodbye.
    end: Option<Instant>,
}

impl Life {
    /// Of a connection that begins `now`; `chance`, between 0 and 1, spreads the ages of
    /// connections that began together.
    pub(super) fn new(limits: &Listen, now: Instant, chance: f64) -> Self {
        let age = Duration::from_millis(limits.max_connection_age_ms);
        Self {
            retire: now + age.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0)),
            grace: Duration::from_millis(limits.connection_grace_ms),
            end: None,
        }
    }

    /// Drives a connection until it ends, is cut, or is told to stop and has done its calls.
    pub(super) async fn drive<C>(
        mut self,
        connection: C,
        meter: &Meter,
        counters: &Counters,
        cut: &CancellationToken,
        stop: &CancellationToken,
    ) where
        C: GracefulConnection,
        C::Error: std::fmt::Display,
    {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(connection, timer);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Some(cut) = meter.verdict() {
                        closed(cut, counters);
                    } else if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended with an error");
                    }
                    return;
                }
                () = cut.cancelled() => return,
                () = stop.cancelled(), if self.end.is_none() => {
                    // The drain has its own limit.
                    self.end = Some(Instant::now() + NEVER);
                    connection.as_mut().graceful_shutdown();
                }
                () = timer.as_mut() => {}
            }
            match self.look(meter, counters, Instant::now()) {
                Next::Look(at) => timer.as_mut().reset(at),
                Next::Goodbye => {
                    connection.as_mut().graceful_shutdown();
                    timer.as_mut().reset(Instant::now());
                }
                Next::Close => return,
            }
        }
    }

    fn look(&mut self, meter: &Meter, counters: &Counters, now: Instant) -> Next {
        if let Some(end) = self.end {
            if end <= now {
                return Next::Close;
            }
        } else if self.retire <= now {
            counters.aged.add();
            self.end = Some(now + self.grace);
            return Next::Goodbye;
        }
        match meter.look(now) {
            Ok(next) => Next::Look(next.min(self.end.unwrap_or(self.retire))),
            Err(Cut::Idle) if self.end.is_none() => {
                counters.idle_closed.add();
                self.end = Some(now + GOODBYE);
                Next::Goodbye
            }
            Err(Cut::Idle) => {
                Next::Look(now + GOODBYE.min(self.end.map_or(GOODBYE, |end| end - now)))
            }
            Err(cut) => {
                closed(cut, counters);
                Next::Close
            }
        }
    }
}

enum Next {
    Look(Instant),
    Goodbye,
    Close,
}

fn closed(cut: Cut, counters: &Counters) {
    cut.counter(counters).add();
    tracing::warn!(rule = cut.rule(), "a connection was closed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_spread_by_a_tenth() {
        let now = Instant::now();
        let limits = Listen {
            max_connection_age_ms: 1_000,
            ..Listen::default()
        };
        let age = |chance| Life::new(&limits, now, chance).retire - now;
        assert_eq!(age(0.0), Duration::from_millis(900));
        assert_eq!(age(0.5), Duration::from_secs(1));
        assert_eq!(age(1.0), Duration::from_millis(1_100));
    }

    #[test]
    fn an_old_connection_says_goodbye_and_ends_after_its_grace() {
        let now = Instant::now();
        let limits = Listen {
            max_connection_age_ms: 1_000,
            connection_grace_ms: 500,
            preface_timeout_ms: 60_000,
            ..Listen::default()
        };
        let (meter, counters) = (Meter::new(&limits, now), Counters::default());
        let mut life = Life::new(&limits, now, 0.5);
        let at = |ms| now + Duration::from_millis(ms);
        assert!(
            matches!(life.look(&meter, &counters, at(0)), Next::Look(next) if next == at(1_000))
        );
        assert!(matches!(
            life.look(&meter, &counters, at(1_000)),
            Next::Goodbye
        ));
        assert!(
            matches!(life.look(&meter, &counters, at(1_000)), Next::Look(next) if next == at(1_500))
        );
        assert!(matches!(
            life.look(&meter, &counters, at(1_500)),
            Next::Close
        ));
        assert_eq!(counters.aged.get(), 1);
    }
}
