//! A channel to a community that tells this node's time with each call, and hears the other's with each
//! answer: what is heard decides nothing, and is an alarm if it is far apart.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service;

use crate::edge::Clocks;
use crate::types::HomeCommunityId;
use crate::wire::{TIME, told_time};

/// The channel.
#[derive(Clone, Debug)]
pub struct Line {
    channel: Channel,
    home: HomeCommunityId,
    clocks: Arc<Clocks>,
}

impl Line {
    /// `channel`, which goes to `home`.
    pub(super) fn new(channel: Channel, home: HomeCommunityId, clocks: Arc<Clocks>) -> Self {
        Self {
            channel,
            home,
            clocks,
        }
    }
}

impl Service<Request<Body>> for Line {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let sent = self.clocks.now();
        request.headers_mut().insert(TIME, told_time(sent));
        let answer = self.channel.call(request);
        let (home, clocks) = (self.home.clone(), Arc::clone(&self.clocks));
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(theirs) = answer.headers().get(TIME) {
                clocks.heard(&home, theirs, sent);
            }
            Ok(answer)
        })
    }
}
