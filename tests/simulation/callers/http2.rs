//! A caller over HTTP/2: its requests are streams of one connection, and one may be given up while
//! the others are waited for.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Sleep, sleep, timeout};

use super::half_close::{EndsBehind, HalfClosing};
use super::{Client, PATIENCE, Session};
use crate::answer::Answer;
use crate::plan::millis;
use crate::request::{Asked, Manner};
use crate::upstream::LocalExecutor;

impl Client {
    /// One connection.
    pub(super) async fn http2(&mut self) {
        let deaf = self.deaf();
        let Some((socket, session)) = self.connect(true, deaf) else { return };
        let session = Rc::new(session);
        let mut builder = Builder::new(LocalExecutor);
        if deaf {
            builder.initial_stream_window_size(0);
        }
        let ends = EndsBehind::default();
        let socket = HalfClosing { socket, ends: ends.clone() };
        let Ok(Ok((sender, connection))) =
            timeout(PATIENCE, builder.handshake(TokioIo::new(socket))).await
        else {
            return;
        };
        let driver = spawn_local(async move {
            // What goes wrong on it is told to whoever waits for an answer.
            _ = connection.await;
        });
        let mut streams: Vec<JoinHandle<()>> = Vec::new();
        let ends_its_side = !deaf && self.rng.u32(..4) == 0;
        for left in (0..self.count()).rev() {
            sleep(self.pause()).await;
            if sender.is_closed() {
                break;
            }
            if left == 0 && ends_its_side {
                ends.set(streams.len() + 1);
            }
            let asked = self.next(true);
            self.world.note(&asked.id, &format!("{:?} {:?}", asked.kind, asked.manner));
            self.world.count(&format!("asked: {:?}", asked.kind));
            self.world.asks(asked.clone());
            self.world.with(&asked.id, |request| {
                request.longest = session.harm.longest();
                request.is_last_said = ends_its_side;
            });
            let given_up = (self.rng.u32(..8) == 0 && !self.honest && !deaf)
                .then(|| millis(&mut self.rng, 0..5_000));
            let (session, ends) = (Rc::clone(&session), ends.clone());
            let stream = Stream { session, ends, asked, given_up };
            streams.push(spawn_local(stream.run(sender.clone())));
        }
        drop(sender);
        let leaves = self.leaves(deaf).unwrap_or(10 * PATIENCE);
        let waiting = async {
            for stream in &mut streams {
                _ = stream.await;
            }
        };
        if timeout(leaves, waiting).await.is_err() {
            session.left.set(true);
            self.world.note(&self.name(), "goes away");
            session.is_given_up();
            driver.abort();
            for stream in streams {
                if !stream.is_finished() {
                    _ = stream.await;
                }
            }
        }
        driver.abort();
        if ends.is_ended() {
            self.world.note(&self.name(), "has ended its side");
            self.world.count("a caller that ends its side of HTTP/2");
        }
    }
}

/// One request.
struct Stream {
    session: Rc<Session>,
    ends: EndsBehind,
    asked: Asked,
    /// When its caller does not want it any more.
    given_up: Option<Duration>,
}

impl Stream {
    async fn run(self, sender: SendRequest<Body>) {
        self.session.touch();
        let asking = self.ask(sender);
        let answer = match self.given_up {
            None => timeout(PATIENCE, asking).await.ok().flatten(),
            Some(after) => match timeout(after, asking).await {
                Ok(answer) => answer,
                Err(_) => {
                    let gone = crate::request::Outcome::Gone(crate::request::Why::Left);
                    return self.session.world.becomes(&self.asked.id, gone);
                }
            },
        };
        self.session.touch();
        // At a full house one is ended that seems to be idle: what h2 still holds for it is not seen.
        let crowded = self.session.world.plan.connections < 100
            || self.session.world.plan.without_descriptors.is_some();
        let harmed = self.session.harm.is_done() || self.session.left.get() || crowded;
        match answer {
            Some(answer) if !self.session.deaf && (answer.whole || !harmed) => {
                let outcome = answer.to(&self.asked, &self.session.world);
                self.session.world.becomes(&self.asked.id, outcome);
            }
            _ => {
                self.session.half_closed.set(self.ends.is_ended());
                self.session.unanswered(&self.asked, true);
            }
        }
    }

    async fn ask(&self, mut sender: SendRequest<Body>) -> Option<Answer> {
        let asked = &self.asked;
        let uri = format!("http://gateway.example{}", asked.path());
        let body = asked.body().unwrap_or_default();
        let request = Request::builder().method(asked.kind.method()).uri(uri);
        let mut request = request.header("token", asked.key()).header("x-request-id", &asked.id);
        if !body.is_empty() {
            request = request.header("content-length", body.len());
        }
        let request = request.body(Body::new(body.into(), asked.manner)).ok()?;
        sender.ready().await.ok()?;
        let response = sender.send_request(request).await.ok()?;
        let (head, mut body) = response.into_parts();
        let (status, headers) = (head.status.as_u16(), head.headers);
        let mut answer = Answer { status, headers, body: Vec::new(), whole: true };
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(piece)) => answer.body.extend_from_slice(&piece),
                Ok(Err(_)) => {}
                Err(_) => {
                    answer.whole = false;
                    break;
                }
            }
        }
        Some(answer)
    }
}

/// The body of a request, in parts, or one that never comes.
struct Body {
    left: Bytes,
    part: usize,
    pause: Duration,
    never: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Body {
    fn new(left: Bytes, manner: Manner) -> Self {
        let (parts, pause) = match manner {
            Manner::Parts(parts, pause) => (parts as usize, pause),
            _ => (1, Duration::ZERO),
        };
        let part = left.len().div_ceil(parts);
        Self { left, part, pause, never: manner == Manner::NoBody, timer: None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        use std::future::Future as _;
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        if self.never {
            return Poll::Pending;
        }
        if !self.pause.is_zero() {
            let pause = self.pause;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(pause)));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
        let count = self.part.min(self.left.len());
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(count)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }
}
