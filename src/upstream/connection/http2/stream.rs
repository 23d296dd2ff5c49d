//! A stream of a connection, and the request that is sent on it.

use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use http_body::Body as _;

use super::answer::{Exchange, Sending};
use super::state::Open;
use crate::upstream::request::body::RequestBody;

/// A stream that nothing is sent on yet.
pub(in crate::upstream) struct Stream {
    sender: SendRequest<Bytes>,
    open: Open,
}

impl Stream {
    pub(super) const fn new(sender: SendRequest<Bytes>, open: Open) -> Self {
        Self { sender, open }
    }

    /// Sends a request. Where nothing of it can be sent, its body is given back.
    pub(in crate::upstream) fn send(
        mut self,
        request: Request<()>,
        body: RequestBody,
    ) -> Result<Exchange, Box<(h2::Error, RequestBody)>> {
        let ended = body.is_end_stream();
        match self.sender.send_request(request, ended) {
            Err(error) => Err(Box::new((error, body))),
            Ok((response, stream)) => {
                let sending =
                    (!ended).then(|| Sending::new(Rc::clone(&self.open.state), stream, body));
                Ok(Exchange::new(response, sending, self.open))
            }
        }
    }
}
