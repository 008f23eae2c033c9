//! The accept loop: goes on whatever accept says, without spinning.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::edge::Counters;

/// After a failed accept (no descriptors, no memory): long enough not to spin, short enough to
/// recover within a second.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// Where connections come from; a listener, or a test.
pub trait Accept: Send + Sync + 'static {
    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        Self::accept(self)
    }
}

/// The next connection, however often accept fails before.
pub(super) async fn next(source: &impl Accept, counters: &Counters) -> (TcpStream, SocketAddr) {
    let mut pause = FIRST_PAUSE;
    let mut failing = false;
    loop {
        match source.accept().await {
            Ok(accepted) => {
                if failing {
                    tracing::info!("connections are accepted again");
                }
                counters.accepted.add();
                return accepted;
            }
            Err(error) => {
                counters.accept_failures.add();
                if !failing {
                    tracing::error!(%error, "accept failed; it is tried again");
                }
                failing = true;
            }
        }
        // Also after a connection that was gone before it was accepted: a flood of those is as
        // endless as a lack of descriptors.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    /// Fails as told, then has a connection.
    struct Failing {
        errors: Mutex<VecDeque<io::Error>>,
        listener: TcpListener,
    }

    impl Accept for Failing {
        async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            let error = self.errors.lock().unwrap().pop_front();
            match error {
                Some(error) => Err(error),
                None => self.listener.accept().await,
            }
        }
    }

    /// Bars: N-11.
    #[tokio::test]
    async fn accept_goes_on_after_every_failure() {
        // EMFILE, ENFILE, ECONNABORTED, ENOMEM, ENOBUFS, EPROTO (Linux).
        for code in [24, 23, 103, 12, 105, 71] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let errors = (0..5).map(|_| io::Error::from_raw_os_error(code));
            let source = Failing {
                errors: Mutex::new(errors.collect()),
                listener,
            };
            let counters = Counters::default();
            let client = TcpStream::connect(address).await.unwrap();
            let began = tokio::time::Instant::now();
            let (_, peer) = next(&source, &counters).await;
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(
                (counters.accept_failures.get(), counters.accepted.get()),
                (5, 1)
            );
            // Not spun: five pauses of 10, 20, 40, 80 and 160 ms. A timer never fires early.
            assert!(began.elapsed() >= Duration::from_millis(310), "{code}");
        }
    }

    /// Bars: N-11 (it recovers within a second however long it failed).
    #[test]
    fn the_longest_pause_is_below_a_second() {
        assert!(LONGEST_PAUSE < Duration::from_secs(1));
    }
}
