//! Fetching revocation lists over plain http (RFC 2585): a list is signed, so its way is not
//! trusted and need not be. Every answer is bounded in size and time and judged like a file; the
//! last good list stays in its folder and in force.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

use crate::edge::Severity;
use crate::error::{Error, Reason, Result};
use crate::federation::Dialler;
use crate::pki::{ImportedList, Profiles, describe};
use crate::types::{HostPattern, ListUrl};

use super::Gateway;
use super::http::{Body, Broken, collect};

/// Alarm: a list could not be fetched or taken.
const FETCH: &str = "CRL_FETCH_FAILED";
/// The whole of one fetch.
const TIMEOUT: Duration = Duration::from_secs(30);

fn failed(message: &'static str) -> Error {
    Error::new(Reason::CommunityUnavailable, message)
}

/// Gets `url`, by way of `proxy` if there is one; at most `limit` bytes, and only for status 200:
/// no redirect is followed.
///
/// # Errors
/// What went wrong; a refusal of the outgoing policy among it.
pub async fn fetch(
    url: &ListUrl,
    proxy: Option<&ListUrl>,
    dialler: &Dialler,
    limit: usize,
) -> Result<Bytes> {
    let fetching = fetch_all(url, proxy, dialler, limit);
    let fetched = tokio::time::timeout(TIMEOUT, fetching).await;
    fetched.unwrap_or_else(|_| Err(failed("the list did not come in time")))
}

async fn fetch_all(
    url: &ListUrl,
    proxy: Option<&ListUrl>,
    dialler: &Dialler,
    limit: usize,
) -> Result<Bytes> {
    let broken = |error: hyper::Error| failed("the list's host broke off").caused_by(error);
    let next = proxy.unwrap_or(url);
    let tcp = dialler
        .connect(next.host(), next.port())
        .await
        .map_err(|error| failed("the list's host cannot be reached").caused_by(error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
        .await
        .map_err(broken)?;
    // Ends with this fetch: dropping the sender ends the connection.
    let connection = tokio::spawn(connection);
    let target = match proxy {
        Some(_) => url.to_string(),
        None => url.path().to_owned(),
    };
    let request = Request::get(target)
        .header(http::header::HOST, url.authority())
        .header(http::header::ACCEPT, "application/pkix-crl, */*")
        .body(Body::NONE)
        .map_err(|error| failed("the list's address cannot be asked for").caused_by(error))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    if answer.status() != StatusCode::OK {
        let status = answer.status().to_string();
        return Err(failed("the list's host did not give it").caused_by(status));
    }
    let bytes = collect(answer.into_body(), limit).await;
    connection.abort();
    bytes.map_err(|broken| match broken {
        Broken::TooLarge => failed("the list is larger than is taken"),
        Broken::Off(error) => failed("the list's host broke off").caused_by(error),
    })
}

impl Gateway {
    /// The lists to fetch: those configured, and those the distribution points of this node's own
    /// chain name on allowed hosts.
    fn list_urls(&self) -> Vec<ListUrl> {
        let settings = &self.config.revocation;
        let mut urls: Vec<ListUrl> = parsed(&settings.fetch);
        let hosts: Vec<HostPattern> = parsed(&settings.hosts);
        let trust = self.trust.current();
        for point in distribution_points(self.certificate.current().chain(), trust.profiles()) {
            if let Ok(url) = point.parse::<ListUrl>()
                && hosts.iter().any(|host| host.matches(url.host()))
            {
                urls.push(url);
            }
        }
        urls.sort();
        urls.dedup();
        urls
    }

    /// Fetches every list once and puts what is new in force.
    ///
    /// # Errors
    /// If a reload broke off; what could not be fetched is an alarm.
    pub async fn fetch_lists(self: &Arc<Self>) -> Result<Vec<ImportedList>> {
        let Some(folder) = self.config.revocation.folder.clone() else {
            return Ok(Vec::new());
        };
        let mut taken = Vec::new();
        let mut failures = Vec::new();
        for url in self.list_urls() {
            match self.fetch_list(&url, &folder).await {
                Ok(list) => {
                    self.edge.counters.crls_fetched.add();
                    taken.push(list);
                }
                Err(error) => {
                    self.edge.counters.crl_fetch_failures.add();
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    let message = format!("{url}: {error}: {}", cause.unwrap_or_default());
                    let subject = url.to_string();
                    let (alarms, now) = (&self.edge.alarms, self.clock.now());
                    alarms.raise(FETCH, &subject, Severity::Warning, message, now);
                    failures.push(subject);
                }
            }
        }
        self.edge.alarms.keep_only(FETCH, &failures);
        if taken.iter().any(|list| !list.known) {
            self.reload(true).await?;
        }
        Ok(taken)
    }

    async fn fetch_list(&self, url: &ListUrl, folder: &Path) -> Result<ImportedList> {
        let trust = self.trust.current();
        let limit = trust.profiles().limits().crl_bytes;
        let proxy = self.config.revocation.proxy.as_deref();
        let proxy: Option<ListUrl> = proxy.and_then(|proxy| proxy.parse().ok());
        let bytes = fetch(url, proxy.as_ref(), &self.dialler, limit).await?;
        let (origin, folder) = (url.to_string(), folder.to_owned());
        let import = move || trust.import_list(bytes.into(), Path::new(&origin), &folder);
        tokio::task::spawn_blocking(import)
            .await
            .map_err(Error::internal)?
            .map_err(|error| failed("the list was not taken").caused_by(error))
    }

    /// Fetches at the start and then again and again.
    pub(super) async fn keep_fetching(self: Arc<Self>) {
        let interval = Duration::from_millis(self.config.revocation.interval_ms);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.fetch_lists().await {
                tracing::error!(%error, "revocation lists could not be put in force");
            }
        }
    }
}

fn parsed<T: std::str::FromStr>(texts: &[String]) -> Vec<T> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn distribution_points(
    chain: &[rustls_pki_types::CertificateDer<'static>],
    profiles: &Profiles,
) -> Vec<String> {
    let described = chain.iter().filter_map(|der| describe(der, profiles).ok());
    described
        .flat_map(|certificate| certificate.distribution_points)
        .collect()
}
