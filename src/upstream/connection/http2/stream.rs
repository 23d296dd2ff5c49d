//! A stream of a connection, and the request that is sent on it.

use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use http_body::Body as _;

use super::exchange::{Sending, StreamExchange};
use super::state::OpenStream;
use crate::upstream::request::body::RequestBody;

/// A stream that nothing is sent on yet.
pub(in crate::upstream) struct Http2Stream {
    sender: SendRequest<Bytes>,
    open: OpenStream,
}

impl Http2Stream {
    pub(super) const fn new(sender: SendRequest<Bytes>, open: OpenStream) -> Self {
        Self { sender, open }
    }

    /// Sends a request. Where nothing of it can be sent, its body is given back.
    pub(in crate::upstream) fn send(
        mut self,
        request: Request<()>,
        body: RequestBody,
    ) -> Result<StreamExchange, Box<(h2::Error, RequestBody)>> {
        let ended = body.is_end_stream();
        match self.sender.send_request(request, ended) {
            Err(error) => Err(Box::new((error, body))),
            Ok((response, stream)) => {
                let sending =
                    (!ended).then(|| Sending::new(Rc::clone(&self.open.state), stream, body));
                Ok(StreamExchange::new(response, sending, self.open))
            }
        }
    }
}
