//! Where the body of an answer comes from: a connection of HTTP/1.1, or a stream of HTTP/2.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::http1;
use super::patience::{Deadlines, Patience};
use super::pool::Pool;

/// The body of an answer, as it comes.
pub(super) enum Source {
    /// Comes on a connection that goes back to the pool when all of it has come; when it does not
    /// come that far, the connection is closed.
    Http1 {
        connection: Option<Box<http1::Connection>>,
        pool: Rc<Pool>,
        most_idle: usize,
        since: Instant,
    },
    Http2 {
        body: Incoming,
        patience: Patience,
    },
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the answer came too slowly")]
    Late,
    #[error(transparent)]
    Http1(http1::Fault),
    #[error(transparent)]
    Http2(hyper::Error),
}

impl Source {
    pub(super) const fn http2(body: Incoming, deadlines: Deadlines) -> Self {
        Self::Http2 { body, patience: Patience::with_body(deadlines) }
    }

    /// The next piece; `None` when all of it has come.
    pub(super) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Fault>>> {
        match self {
            Self::Http1 { connection, pool, most_idle, since } => {
                let Some(open) = connection else { return Poll::Ready(None) };
                let piece = ready!(open.poll_piece(context, &pool.buffers));
                // Where the length is known, nobody asks for the end that comes after the last piece.
                let over = match &piece {
                    Some(Ok(_)) => open.left() == Some(0),
                    Some(Err(_)) => false,
                    None => true,
                };
                if over && let Some(connection) = connection.take() {
                    pool.give_back(connection, *since, *most_idle);
                }
                Poll::Ready(piece.map(|piece| {
                    piece.map_err(|fault| {
                        *connection = None;
                        match fault {
                            http1::Fault::Late => Fault::Late,
                            fault => Fault::Http1(fault),
                        }
                    })
                }))
            }
            Self::Http2 { body, patience } => loop {
                let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) else {
                    ready!(patience.poll(context));
                    return Poll::Ready(Some(Err(Fault::Late)));
                };
                patience.renew();
                match frame {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(Fault::Http2(error)))),
                    // Trailers of a third party are not passed on.
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(piece) if !piece.is_empty() => return Poll::Ready(Some(Ok(piece))),
                        _ => {}
                    },
                }
            },
        }
    }

    /// How many bytes are still to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Http1 { connection: None, .. } => Some(0),
            Self::Http1 { connection: Some(connection), .. } => connection.left(),
            Self::Http2 { body, .. } => body.size_hint().exact(),
        }
    }

    /// Whether it is known that more than so many bytes are still to come.
    pub(super) fn is_over(&self, bytes: u64) -> bool {
        self.left().is_some_and(|left| left > bytes)
    }
}
