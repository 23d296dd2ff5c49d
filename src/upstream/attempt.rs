//! One attempt of a request: sent on a connection that was kept or on a new one, and its answer
//! read as far as it is before the caller gets a byte.
//!
//! Nearly every request finds a connection of HTTP/1.1 that was kept. There it is written at once,
//! and what is waited for then is small. All else, which must keep what the request says until
//! there is a connection, is boxed.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http_body::Body as _;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::connection::deadline::{Deadlines, before};
use super::connection::pool::Pool;
use super::connection::shared::{ConnectionChoice, For, RequestChannel};
use super::connection::{http1, http2};
use super::report::AttemptReport;
use super::request::authority::Authority;
use super::request::body::RequestBody;
use super::request::outgoing::{Outgoing, OwnedOutgoing};
use super::request::upload::UploadStatus;
use super::resilience::evidence::Evidence;
use super::resilience::in_flight::InFlight;
use super::response::body::ResponseSource;
use super::response::error::{blamed, broken, no_answer, unanswered};
use super::response::read::{BufferedResponse, ResponseReader};
use crate::failure::{Code, Failure};

/// What an attempt is made with.
pub(super) struct Attempt<'a> {
    pub(super) pool: &'a Rc<Pool>,
    pub(super) authority: &'a dyn Authority,
    /// On which connection.
    pub(super) wanted: ConnectionChoice,
    /// Whether it may be cut off when the caller goes.
    pub(super) idempotent: bool,
    pub(super) begun: Instant,
    pub(super) deadlines: Deadlines,
}

/// What came of an attempt.
pub(super) struct AttemptResult {
    pub(super) read: Result<BufferedResponse, Failure>,
    pub(super) report: AttemptReport,
    pub(super) in_flight: InFlight,
}

impl AttemptResult {
    fn new(
        (pool, begun): (&Pool, Instant),
        read: Result<BufferedResponse, Failure>,
        report: AttemptReport,
        in_flight: InFlight,
    ) -> Self {
        if report.reused && is_late(&read) {
            pool.timed_out(begun, Instant::now());
        }
        Self { read, report, in_flight }
    }
}

/// Whether no answer came in time.
fn is_late(read: &Result<BufferedResponse, Failure>) -> bool {
    read.as_ref().is_err_and(|failure| failure.code() == Code::UpstreamTimeout)
}

impl Attempt<'_> {
    /// Sends a request. It is in flight for as long as the upstream works on it, whether or not
    /// anyone waits for it.
    pub(super) async fn run(
        &self,
        outgoing: &Outgoing<'_>,
        body: RequestBody,
        in_flight: InFlight,
    ) -> AttemptResult {
        let Self { pool, authority, wanted, idempotent, begun, deadlines } = *self;
        let (caller, has_body) = (in_flight.caller(), !body.is_end_stream());
        let wanted = For { caller, body: has_body, wanted };
        let (body, in_flight, shared) = match pool.take(wanted, begun) {
            Some(RequestChannel::Http1(mut connection)) => {
                let upload = body.upload_status();
                connection.begin(outgoing, body, &pool.upstream.common, deadlines);
                let sent = OverHttp1 {
                    report: AttemptReport { reused: true, ..AttemptReport::default() },
                    ..OverHttp1::new(connection, upload, pool, begun, in_flight)
                };
                match DetachOnDrop::new(sent, idempotent, begun).await {
                    Http1Outcome::Over(result) => return result,
                    // The upstream closed it while it was idle.
                    Http1Outcome::Unsent(body, in_flight) => (body, in_flight, None),
                }
            }
            Some(RequestChannel::Http2(stream)) => (body, in_flight, Some(stream)),
            None => (body, in_flight, None),
        };
        let pool = Rc::clone(pool);
        let (authority, outgoing) = (authority.keep(), outgoing.keep());
        let request = OwnedRequest { pool, authority, wanted, outgoing, body, begun, deadlines };
        let sent = Box::pin(request.send(shared, in_flight));
        DetachOnDrop::new(sent, idempotent, begun).await
    }
}

/// A future that is finished though no one waits for it any more, unless it is idempotent: what
/// must not be sent twice must not be cut off either, when the caller goes.
///
/// It is polled where it is; only when it is dropped too early does it become a task of its own.
struct DetachOnDrop<F: Future<Output: Detached> + Unpin + 'static> {
    future: Option<F>,
    idempotent: bool,
    begun: Instant,
}

impl<F: Future<Output: Detached> + Unpin> DetachOnDrop<F> {
    const fn new(future: F, idempotent: bool, begun: Instant) -> Self {
        Self { future: Some(future), idempotent, begun }
    }
}

impl<F: Future<Output: Detached> + Unpin> Future for DetachOnDrop<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let output = ready!(Pin::new(future).poll(context));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<F: Future<Output: Detached> + Unpin> Drop for DetachOnDrop<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take().filter(|_| !self.idempotent) {
            let begun = self.begun;
            spawn_local(async move { future.await.conclude(begun) });
        }
    }
}

/// What came of an attempt that no one waits for any more: it says as much about the service as that
/// of any other.
trait Detached {
    fn conclude(self, begun: Instant);
}

impl Detached for AttemptResult {
    fn conclude(self, begun: Instant) {
        let Self { read, report, mut in_flight } = self;
        let (over, (answered, spoken)) = (Instant::now(), BufferedResponse::in_brief(read));
        if answered.is_ok() {
            in_flight.succeeded(over - begun);
        }
        in_flight.settle(Evidence::of(answered.as_ref().err(), &report, spoken), over);
    }
}

impl Detached for Http1Outcome {
    fn conclude(self, begun: Instant) {
        match self {
            Self::Over(result) => result.conclude(begun),
            // It was not sent, and is not any more: there is no one to answer.
            Self::Unsent(..) => {}
        }
    }
}

/// What came of an exchange over HTTP/1.1.
enum Http1Outcome {
    Over(AttemptResult),
    /// The connection was closed before a byte was sent: all can be tried on another.
    Unsent(RequestBody, InFlight),
}

/// An exchange over HTTP/1.1 whose request is written. It has its state in its own fields rather
/// than in those of an `async` function, so that it can be moved when it is begun already.
struct OverHttp1 {
    /// Until the head of the answer has come.
    connection: Option<Box<http1::Http1Connection>>,
    /// Since then.
    reading: Option<ResponseReader>,
    pool: Rc<Pool>,
    begun: Instant,
    report: AttemptReport,
    upload: Option<UploadStatus>,
    /// Until it is over.
    in_flight: Option<InFlight>,
}

impl Future for OverHttp1 {
    type Output = Http1Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Http1Outcome> {
        let this = self.get_mut();
        if let Some(connection) = &mut this.connection {
            match ready!(connection.poll_head(context, &this.pool.buffers)) {
                Ok(head) => {
                    this.report.sent += 1;
                    let source = ResponseSource::Http1 {
                        connection: this.connection.take(),
                        pool: Rc::clone(&this.pool),
                        since: this.begun,
                    };
                    this.reading = Some(ResponseReader::new(head, source));
                }
                Err(fault) => {
                    let (ended, unsent) =
                        (this.report.reused && fault.is_end(), connection.is_unsent());
                    if ended
                        && unsent
                        && let Some(in_flight) = this.in_flight.take()
                    {
                        return Poll::Ready(Http1Outcome::Unsent(
                            connection.take_body(),
                            in_flight,
                        ));
                    }
                    this.report.sent += u8::from(!unsent);
                    this.report.stale = ended && connection.is_silent();
                    // It is closed: an answer that comes later must not be taken for that of
                    // another request.
                    this.connection = None;
                    let failure = blamed(unanswered(&fault), this.upload.as_ref());
                    return this.over(Err(failure));
                }
            }
        }
        let Some(reading) = &mut this.reading else { return Poll::Pending };
        let come = ready!(reading.poll(context));
        let Some(reading) = this.reading.take() else { return Poll::Pending };
        this.over(come.map(|()| reading.into_read()))
    }
}

impl OverHttp1 {
    /// On a new connection.
    fn new(
        connection: Box<http1::Http1Connection>,
        upload: Option<UploadStatus>,
        pool: &Rc<Pool>,
        begun: Instant,
        in_flight: InFlight,
    ) -> Self {
        Self {
            connection: Some(connection),
            reading: None,
            pool: Rc::clone(pool),
            begun,
            report: AttemptReport::default(),
            upload,
            in_flight: Some(in_flight),
        }
    }

    fn over(&mut self, read: Result<BufferedResponse, Failure>) -> Poll<Http1Outcome> {
        // No one asks again once it is over.
        let Some(in_flight) = self.in_flight.take() else { return Poll::Pending };
        let result = AttemptResult::new((&self.pool, self.begun), read, self.report, in_flight);
        Poll::Ready(Http1Outcome::Over(result))
    }
}

/// A request that is not sent yet, owned, so that it can outlive a caller that has gone.
struct OwnedRequest {
    pool: Rc<Pool>,
    authority: Rc<dyn Authority>,
    wanted: For,
    outgoing: OwnedOutgoing,
    body: RequestBody,
    begun: Instant,
    deadlines: Deadlines,
}

impl OwnedRequest {
    /// Sends it on a connection that is shared, or on a new one.
    async fn send(
        mut self,
        shared: Option<http2::Http2Stream>,
        mut in_flight: InFlight,
    ) -> AttemptResult {
        let mut report = AttemptReport::default();
        let mut kept = shared.map(RequestChannel::Http2);
        loop {
            report.reused = kept.is_some();
            let link = match kept.take() {
                Some(link) => link,
                None => match self.connect(&mut report).await {
                    Ok(link) => link,
                    Err(failure) => {
                        return AttemptResult { read: Err(failure), report, in_flight };
                    }
                },
            };
            // To connect can take a while.
            if let Err(failure) = self.check().await {
                return AttemptResult { read: Err(failure), report, in_flight };
            }
            match link {
                RequestChannel::Http1(connection) => {
                    match self.over_http1(connection, report, in_flight).await {
                        Http1Outcome::Over(result) => return result,
                        Http1Outcome::Unsent(body, again) => (self.body, in_flight) = (body, again),
                    }
                }
                RequestChannel::Http2(stream) => {
                    let upload = self.body.upload_status();
                    let read = match self.over_http2(stream, &mut report).await {
                        Ok(None) => continue,
                        Ok(Some(mut reading)) => {
                            let come = poll_fn(|context| reading.poll(context)).await;
                            come.map(|()| reading.into_read())
                        }
                        Err(failure) => Err(blamed(failure, upload.as_ref())),
                    };
                    // One that is new may be dead as well, and others share it.
                    if is_late(&read) {
                        self.pool.timed_out(self.begun, Instant::now());
                    }
                    return AttemptResult { read, report, in_flight };
                }
            }
        }
    }

    async fn check(&self) -> Result<(), Failure> {
        match &self.body {
            RequestBody::Stream(upload) => upload.check().await,
            RequestBody::Empty | RequestBody::Whole(_) => self.authority.check(),
        }
    }

    fn over_http1(
        &mut self,
        mut connection: Box<http1::Http1Connection>,
        report: AttemptReport,
        in_flight: InFlight,
    ) -> OverHttp1 {
        let Self { pool, outgoing, begun, deadlines, .. } = self;
        let upload = self.body.upload_status();
        let body = std::mem::take(&mut self.body);
        connection.begin(&outgoing.lend(), body, &pool.upstream.common, *deadlines);
        OverHttp1 { report, ..OverHttp1::new(connection, upload, pool, *begun, in_flight) }
    }

    /// Sends the request and waits for the head; `None` when nothing was sent.
    async fn over_http2(
        &mut self,
        stream: http2::Http2Stream,
        report: &mut AttemptReport,
    ) -> Result<Option<ResponseReader>, Failure> {
        let body = std::mem::take(&mut self.body);
        let request = http2::request(&self.outgoing, &body, &self.pool.upstream.common)?;
        let exchange = match stream.send(request, body) {
            Ok(exchange) => exchange,
            Err(unsent) if report.reused => {
                self.body = unsent.1;
                return Ok(None);
            }
            Err(unsent) => return Err(broken(&http2::Http2Error::Broken(unsent.0))),
        };
        match before(self.deadlines.head, exchange.head()).await {
            Some(Ok((head, answer))) => {
                report.sent += 1;
                Ok(Some(ResponseReader::new(head, ResponseSource::http2(answer, self.deadlines))))
            }
            None => {
                report.sent += 1;
                Err(no_answer())
            }
            Some(Err(fault)) => {
                report.untouched = fault.is_untouched();
                report.sent += u8::from(!report.untouched);
                report.stale = report.reused && !fault.is_reset();
                Err(broken(&fault))
            }
        }
    }

    /// A connection, for as long as there is time for an answer: after a pause of the process one may
    /// stand that is of no use any more, and that the service has given up.
    async fn connect(&self, report: &mut AttemptReport) -> Result<RequestChannel, Failure> {
        let end = self.deadlines.end;
        let link = self.pool.connect(self.wanted, end, report).await?;
        if Instant::now() < end {
            return Ok(link);
        }
        report.secondhand = true;
        Err(self.pool.no_time(end - self.begun))
    }
}
