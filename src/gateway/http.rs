//! The little HTTP/1.1 that a node speaks as a client, to what is no node: hosts of revocation lists,
//! audit repositories, receivers of notices. No redirect is followed, every answer is bounded.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, Reason, Result};
use crate::federation::{Peers, Wire};
use crate::types::{CertificatePin, HttpsUrl};

/// How long a receiver may take to be connected to, and to answer.
const TAKES: Duration = Duration::from_secs(30);
/// How long a connection is used: then the server's certificate is judged anew.
const LASTS: Duration = Duration::from_mins(1);

/// The body of a request: nothing, or all of it at once.
pub(super) struct Body(Option<Bytes>);

impl Body {
    /// None: a GET has none.
    pub(super) const NONE: Self = Self(None);
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The connection.
    #[error("the connection broke off")]
    Off(#[from] hyper::Error),
    /// More than is taken.
    #[error("the answer is larger than is taken")]
    TooLarge,
}

/// An answer's octets, `limit` at most.
pub(super) async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, Broken> {
    let mut all = BytesMut::new();
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let Some(frame) = frame.await else {
            return Ok(all.freeze());
        };
        if let Some(data) = frame?.data_ref() {
            if all.len() + data.len() > limit {
                return Err(Broken::TooLarge);
            }
            all.extend_from_slice(data);
        }
    }
}

fn away(why: &'static str) -> Error {
    Error::new(Reason::CommunityUnavailable, why)
}

/// A connection over which requests go one after another. Dropped, it is closed.
struct Session {
    sender: SendRequest<Body>,
    began: Instant,
    _connection: AbortOnDropHandle<()>,
}

impl Session {
    async fn begin(io: Box<dyn Wire>) -> Result<Self, hyper::Error> {
        let (sender, connection) = handshake(TokioIo::new(io)).await?;
        let connection = tokio::spawn(async move {
            // How it ends is told to whoever waits for an answer.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a receiver ended");
            }
        });
        Ok(Self {
            sender,
            began: Instant::now(),
            _connection: AbortOnDropHandle::new(connection),
        })
    }
}

/// Where something is posted over TLS, within the outgoing policy, and the connection to it. The
/// server's certificate is judged as that of a node, must hold the host's name and, if there are pins,
/// have one of these keys.
pub(super) struct Destination {
    url: HttpsUrl,
    pins: Vec<CertificatePin>,
    session: Option<Session>,
}

/// What is posted.
pub(super) struct Post {
    /// Its media type.
    pub(super) media_type: &'static str,
    /// What kind of answer is wanted.
    pub(super) accept: &'static str,
    /// All of it.
    pub(super) content: Bytes,
    /// Octets of the answer that are taken.
    pub(super) answer_limit: usize,
}

impl Destination {
    pub(super) fn new(url: HttpsUrl, pins: Vec<CertificatePin>) -> Self {
        Self {
            url,
            pins,
            session: None,
        }
    }

    /// Posts once, and gives the answer. A connection that was idle may have been closed by the server
    /// as the request left: then it is sent a second time, so what is posted must bear that.
    ///
    /// # Errors
    /// [`Reason::CommunityUnavailable`] if there is no connection or no whole answer in time.
    pub(super) async fn post(&mut self, peers: &Peers, post: &Post) -> Result<(StatusCode, Bytes)> {
        let used = self.session.take();
        let used = used.filter(|one| !one.sender.is_closed() && one.began.elapsed() < LASTS);
        if let Some(session) = used {
            let asked = Instant::now();
            match self.post_over(session, post).await {
                Err(_) if asked.elapsed() < TAKES => {}
                done => return done,
            }
        }
        let connecting = async {
            let io = peers.bare(self.url.endpoint(), &self.pins).await?;
            Session::begin(io).await.map_err(std::io::Error::other)
        };
        let session = tokio::time::timeout(TAKES, connecting)
            .await
            .unwrap_or_else(|late| Err(late.into()))
            .map_err(|error| away("the receiver cannot be reached").caused_by(error))?;
        self.post_over(session, post).await
    }

    /// Posts over this connection, and keeps it if all went well.
    async fn post_over(
        &mut self,
        mut session: Session,
        post: &Post,
    ) -> Result<(StatusCode, Bytes)> {
        let request = Request::post(self.url.path())
            .header(http::header::HOST, self.url.authority())
            .header(http::header::CONTENT_TYPE, post.media_type)
            .header(http::header::ACCEPT, post.accept)
            .body(Body(Some(post.content.clone())))
            .map_err(Error::internal)?;
        let asking = async {
            session.sender.ready().await?;
            let answer = session.sender.send_request(request).await?;
            let status = answer.status();
            let content = collect(answer.into_body(), post.answer_limit).await?;
            Ok::<_, Broken>((status, content))
        };
        let answer = tokio::time::timeout(TAKES, asking).await;
        let answer = answer.map_err(|_| away("the receiver did not answer in time"))?;
        let answer = answer.map_err(|error| away("the receiver broke off").caused_by(error))?;
        self.session = Some(session);
        Ok(answer)
    }
}
