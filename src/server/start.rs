//! From a configuration to a node that serves: logs, self-check, listen, signals.

use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Log, LogFormat};
use crate::error::{Error, Reason, Result};
use crate::gateway::{Gateway, load_identity, load_trust};
use crate::pki::Usage;
use crate::store::Options;
use crate::wire::pb::directory::ApplyDirectoryRequest;

/// Starts logging to standard error, as configured. A second call changes nothing.
pub fn log(settings: &Log) {
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Json => builder.json().try_init().is_ok(),
        LogFormat::Text => builder.try_init().is_ok(),
    };
    if !started {
        tracing::debug!("logging was started before");
    }
}

/// What must be right before anything is opened: the node's own certificate must be one its peers
/// will accept, and every trusted authority must have a revocation list in force.
///
/// # Errors
/// What is wrong, for the operator.
pub fn self_check(config: &Config, clock: &dyn Clock) -> Result<()> {
    let refuse = |message: String| Error::new(Reason::Internal, message);
    let identity = load_identity(&config.tls)
        .map_err(|error| refuse(format!("the node's certificate: {error}")))?;
    let trust = load_trust(config)?;
    for usage in [Usage::Server, Usage::Institution] {
        crate::pki::judge(identity.chain(), &trust, usage, clock.now()).map_err(|refusal| {
            let rule = refusal.rule();
            refuse(format!(
                "the node's certificate is refused as {usage} ({rule}): {refusal}"
            ))
        })?;
    }
    let without = trust.authorities_without_crl();
    if !without.is_empty() {
        return Err(refuse(format!(
            "no revocation list for {}",
            without.join("; ")
        )));
    }
    Ok(())
}

/// Runs a node until SIGTERM or SIGINT. Prints one JSON line to standard output when it serves:
/// `{"event":"ready","address":"…"}`.
///
/// # Errors
/// What kept it from starting or from stopping cleanly.
pub async fn serve(config: Config, directory: Option<ApplyDirectoryRequest>) -> Result<()> {
    leave_no_core();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    self_check(&config, clock.as_ref())?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let address = config.listen.address;
    let gateway = Gateway::open(
        config,
        Options {
            clock,
            ..Options::default()
        },
        directory,
    )
    .await?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::new(
            Reason::Internal,
            format!("cannot listen on {address}: {error}"),
        )
    })?;
    let address = listener.local_addr().map_err(Error::internal)?;
    reload_on_signal(&gateway)?;
    let ready = json!({
        "event": "ready",
        "address": address.to_string(),
        "home_community_id": gateway.home.to_string(),
        "pin": gateway.certificate.current().pin().to_string(),
    });
    println!("{ready}");
    tracing::info!(
        %address,
        home_community_id = %gateway.home,
        sequence = gateway.opened.last_sequence.0,
        torn_bytes = gateway.opened.torn_bytes,
        clean = gateway.opened.clean,
        "serving"
    );
    super::run(gateway, listener, stop).await
}

/// A crash must not write keys and patients' data to the disk in clear (INV-8): neither to a core
/// file, which the limit forbids, nor to a program that collects cores, which ignores the limit.
fn leave_no_core() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let limited = setrlimit(Resource::Core, none);
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = limited.and(hidden) {
        tracing::warn!(%error, "a crash of this process may leave a core dump");
    }
}

/// SIGHUP: look at the files of trust at once.
fn reload_on_signal(gateway: &Arc<Gateway>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::internal)?;
    let gateway = Arc::clone(gateway);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match gateway.reload(true).await {
                Ok(done) => tracing::info!(
                    changes = ?done.changes,
                    problems = ?done.problems,
                    "files were read again"
                ),
                Err(error) => tracing::error!(%error, "a reload broke off"),
            }
        }
    });
    Ok(())
}

fn stop_on_signal(stop: CancellationToken) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::internal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::internal)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}
