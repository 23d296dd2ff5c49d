//! The connections of HTTP/2 that the requests of a worker share, and those who wait for a stream.
//!
//! A connection is joined by another when a request finds no stream on any; one that is being made
//! is made once for all who wait. What is free goes to whose caller has the fewest streams: a caller
//! may use all that no one else waits for, and no more.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::connect::{ConnectError, NewConnection};
use super::http1;
use super::http2::{Http2Connection, Http2Stream};
use super::service::Upstream;
use crate::failure::{Code, Failure};

/// How long after a connection could not be made the next is tried, for those who still wait.
const PAUSE: Duration = Duration::from_millis(250);

/// What a request can be sent on.
pub(in crate::upstream) enum RequestChannel {
    /// This request's alone, until its answer is over.
    Http1(Box<http1::Http1Connection>),
    /// A stream of one that is shared.
    Http2(Http2Stream),
}

/// On which connection a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum ConnectionChoice {
    /// One that was kept, if there is one.
    Any,
    /// One that was made after this.
    NewerThan(Instant),
}

/// For whom a stream is.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct For {
    /// The number of the caller.
    pub(in crate::upstream) caller: u64,
    /// The request has a body.
    pub(in crate::upstream) body: bool,
    /// On which connection.
    pub(in crate::upstream) wanted: ConnectionChoice,
}

/// What one who waited for a connection gets.
pub(super) enum Given {
    /// The connection that was made for it, or a stream of it; `first` for one of those who waited.
    RequestChannel { link: RequestChannel, first: bool },
    /// The service does not speak HTTP/2: each makes a connection of its own.
    Alone,
    /// There is none; `first` for one of those who waited.
    Failed { failure: Failure, first: bool },
}

/// A request that waits for a stream.
struct Waiter {
    request: For,
    since: Instant,
    give: oneshot::Sender<Given>,
}

/// The connections that a worker's requests share.
pub(super) struct SharedConnections {
    upstream: Arc<Upstream>,
    connections: RefCell<Vec<Http2Connection>>,
    waiters: RefCell<VecDeque<Waiter>>,
    /// How many connections are being made.
    connecting: Cell<usize>,
    /// How many streams the connection that was made last has: as many are expected of the next.
    expected: Cell<usize>,
    /// The connection that was made last is one of HTTP/1.1.
    exclusive: Cell<bool>,
}

impl SharedConnections {
    /// None yet.
    pub(super) fn new(upstream: &Arc<Upstream>) -> Rc<Self> {
        Rc::new(Self {
            upstream: Arc::clone(upstream),
            connections: RefCell::default(),
            waiters: RefCell::default(),
            connecting: Cell::new(0),
            expected: Cell::new(usize::MAX),
            exclusive: Cell::new(!upstream.connector.may_be_http2()),
        })
    }

    /// Whether each request has a connection of its own, as far as that is known.
    pub(super) fn is_exclusive(&self) -> bool {
        self.exclusive.get()
    }

    /// A stream of a connection that is there.
    pub(super) fn take(&self, request: For, now: Instant) -> Option<Http2Stream> {
        self.forget_ended();
        self.find(request, now)
    }

    /// Keeps none that has ended, or is dead as far as is known. It is closed with its last stream.
    fn forget_ended(&self) {
        let last_timeout = &self.upstream.last_timeout;
        self.connections.borrow_mut().retain_mut(|connection| {
            connection.is_open() && !last_timeout.was_silent(connection.heard())
        });
    }

    fn find(&self, request: For, now: Instant) -> Option<Http2Stream> {
        // The oldest that has room: so those that are not needed any more become idle.
        let connections = self.connections.borrow();
        let found = connections.iter().find(|connection| request.fits(connection, now))?;
        Some(found.open(request.caller))
    }

    /// Waits for a stream, and sees to it that there will be one.
    pub(super) async fn wait(self: &Rc<Self>, request: For, now: Instant) -> Option<Given> {
        let (give, given) = oneshot::channel();
        self.waiters.borrow_mut().push_back(Waiter { request, since: now, give });
        self.connect_as_needed();
        // It is dropped by the worker's end alone.
        given.await.ok()
    }

    /// Shares a connection, and gives its streams to those who wait.
    pub(super) fn add(self: &Rc<Self>, connection: Http2Connection) {
        self.exclusive.set(false);
        self.expected.set(connection.most_streams().max(1));
        let shared = Rc::downgrade(self);
        connection.on_change(move || {
            if let Some(shared) = shared.upgrade() {
                shared.serve();
            }
        });
        self.close_idle();
        self.connections.borrow_mut().push(connection);
    }

    /// Keeps as many on which nothing is asked as may be, the newest of them.
    fn close_idle(&self) {
        let mut connections = self.connections.borrow_mut();
        let idle = connections.iter().filter(|connection| connection.is_idle()).count();
        let mut over = idle.saturating_sub(self.upstream.settings.max_idle);
        connections.retain(|connection| {
            let closes = over > 0 && connection.is_idle();
            over -= usize::from(closes);
            !closes
        });
    }

    /// Closes connections on which nothing was asked for so long.
    pub(super) fn prune(&self, now: Instant, idle: Duration) {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| {
            !connection.is_idle() || now.duration_since(connection.heard()) <= idle
        });
        drop(connections);
        self.close_idle();
    }

    /// Makes as many connections as those who wait need.
    fn connect_as_needed(self: &Rc<Self>) {
        let waiting = self.waiting();
        while self.connecting.get().saturating_mul(self.expected.get()) < waiting {
            self.connecting.set(self.connecting.get() + 1);
            // A task of its own: whoever waited first may go.
            spawn_local(Rc::clone(self).connect());
        }
    }

    /// How many wait, but for those who have gone.
    fn waiting(&self) -> usize {
        let mut waiters = self.waiters.borrow_mut();
        waiters.retain(|waiter| !waiter.give.is_closed());
        waiters.len()
    }

    /// Makes a connection. Where that fails, it is retried while there are some who may wait for
    /// that.
    async fn connect(self: Rc<Self>) {
        let under_way = UnderWay(&self);
        while under_way.is_needed() {
            self.close_idle();
            let begun = Instant::now();
            match self.upstream.connector.connect(None).await {
                Ok(NewConnection::Http2(connection)) => {
                    self.add(connection);
                    drop(under_way);
                    self.serve();
                    return self.connect_as_needed();
                }
                Ok(NewConnection::Http1(connection)) => {
                    self.exclusive.set(true);
                    let mut link = Some(RequestChannel::Http1(connection));
                    for waiter in self.waiters.take() {
                        let link = link.take_if(|_| !waiter.give.is_closed());
                        let given = link.map(|link| Given::RequestChannel { link, first: true });
                        _ = waiter.give.send(given.unwrap_or(Given::Alone));
                    }
                    return;
                }
                Err(why) => self.fail(&why, begun),
            }
            sleep(PAUSE).await;
        }
    }

    /// A connection that gave no sign of life may not be the only one: what was silent meanwhile is
    /// given no further request, by any worker.
    fn note_silence(&self) {
        let connections = self.connections.borrow();
        for since in connections.iter().filter_map(Http2Connection::fell_silent) {
            self.upstream.last_timeout.note(since, Instant::now());
        }
    }

    /// Gives what is free to those who wait.
    fn serve(&self) {
        self.note_silence();
        if self.waiting() == 0 {
            return;
        }
        self.forget_ended();
        let (now, mut held) = (Instant::now(), self.held());
        let mut first = true;
        while let Some((waiter, stream)) = self.next(&held, now) {
            *held.entry(waiter.request.caller).or_default() += 1;
            let link = RequestChannel::Http2(stream);
            // It has not gone: that was looked at, and nothing else runs meanwhile.
            _ = waiter.give.send(Given::RequestChannel { link, first });
            first = false;
        }
    }

    /// Of those for whom there is a stream, one whose caller has the fewest.
    fn next(&self, held: &HashMap<u64, usize>, now: Instant) -> Option<(Waiter, Http2Stream)> {
        let mut waiters = self.waiters.borrow_mut();
        let connections = self.connections.borrow();
        let fits = |request: For| connections.iter().any(|one| request.fits(one, now));
        let waiting = waiters.iter().enumerate().filter(|(_, waiter)| fits(waiter.request));
        let (index, _) = waiting.min_by_key(|(_, waiter)| held.get(&waiter.request.caller))?;
        let waiter = waiters.remove(index)?;
        let stream = self.find(waiter.request, now)?;
        Some((waiter, stream))
    }

    /// How many streams each caller has.
    fn held(&self) -> HashMap<u64, usize> {
        let mut held = HashMap::new();
        for connection in &*self.connections.borrow() {
            connection.callers(|caller| *held.entry(caller).or_default() += 1);
        }
        held
    }

    /// A connection that was begun then could not be made. Who may get a stream of another waits on
    /// for a while, who wants one that is newer for the next, and so does who has come so late that it
    /// has had little of the time for a connection; the others are told why, and one of them that it
    /// is the first.
    fn fail(&self, why: &ConnectError, begun: Instant) {
        let (now, timeout) = (Instant::now(), self.upstream.settings.timeouts.connect);
        let connector = &self.upstream.connector;
        let others = (self.connecting.get() - 1).saturating_mul(self.expected.get());
        self.forget_ended();
        let waiters = self.waiters.take();
        let (mut kept, mut first) = (VecDeque::new(), true);
        for waiter in waiters {
            let hope = self.has_usable(waiter.request);
            let waits = now.duration_since(waiter.since) < timeout;
            let late = why.is_silence() && now.duration_since(waiter.since) < timeout / 2;
            let next = late || waiter.request.is_later_than(begun);
            if kept.len() < others || waits && (hope || next) {
                kept.push_back(waiter);
                continue;
            }
            // What it answered before another connection was tried says nothing of the silence since.
            let silent = why.is_silence() && !self.has_answered(waiter.since.max(begun));
            let full = hope && !silent;
            let failure = if full { no_stream() } else { connector.failure(why) };
            let told = Given::Failed { failure, first: first && !full };
            first &= waiter.give.send(told).is_err() || full;
        }
        self.waiters.borrow_mut().append(&mut kept);
    }

    /// Whether the service has answered on a connection since then. Those that are silent as well may
    /// lead as little to it as the one that was tried.
    fn has_answered(&self, since: Instant) -> bool {
        self.connections.borrow().iter().any(|connection| connection.heard() > since)
    }

    /// Whether there is a connection that could have a stream for it, though it has none now.
    fn has_usable(&self, request: For) -> bool {
        self.connections.borrow().iter().any(|connection| request.takes(connection))
    }
}

/// A connection that is being made.
struct UnderWay<'a>(&'a SharedConnections);

impl UnderWay<'_> {
    /// Whether there are some who wait for it.
    fn is_needed(&self) -> bool {
        let before = self.0.connecting.get() - 1;
        self.0.waiting() > before.saturating_mul(self.0.expected.get())
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(self.0.connecting.get() - 1);
    }
}

impl For {
    /// Whether it can be sent on this connection at once.
    fn fits(self, connection: &Http2Connection, now: Instant) -> bool {
        self.takes(connection) && connection.has_room(self.body, now)
    }

    /// Whether it asks what is so later than then: a probe is to say what the service is like now.
    fn is_later_than(self, begun: Instant) -> bool {
        matches!(self.wanted, ConnectionChoice::NewerThan(then) if then > begun)
    }

    /// Whether it may be sent on this connection.
    fn takes(self, connection: &Http2Connection) -> bool {
        match self.wanted {
            ConnectionChoice::Any => true,
            ConnectionChoice::NewerThan(then) => connection.made() >= then,
        }
    }
}

/// The service takes neither another request on the connections that there are, nor another
/// connection. It answers others, so that says nothing about it.
fn no_stream() -> Failure {
    let why = "the whiteboard service takes no more requests at once";
    Failure::fixed(Code::Overloaded, why).with_retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, DuplexStream};
    use tokio::task::LocalSet;

    use super::super::http2::handshake;
    use super::super::network::{Dial, Dialling, Network};
    use super::*;
    use crate::api::Regions;
    use crate::net::Origin;
    use crate::upstream::settings::Settings;

    /// Connections of which so many may be idle.
    fn shared(max_idle: usize) -> Rc<SharedConnections> {
        let (host, authority) = ("127.0.0.1".to_owned(), "127.0.0.1".to_owned());
        let origin = Origin { tls: false, host, port: 80, authority };
        let settings = Settings { max_idle, ..Settings::of(origin, "wbg-test".to_owned()) };
        let regions = Regions::new([], "us-sv").unwrap();
        SharedConnections::new(&Upstream::new(settings, &regions, None).unwrap())
    }

    /// A network on which no connection ever stands.
    struct Dark;

    impl Dial for Dark {
        fn dial(&self, _: &Origin) -> Dialling {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_late_to_a_connection_that_cannot_be_made_has_time_for_another() {
        let origin = shared(2).upstream.settings.origin.clone();
        let network = Network::Other(Arc::new(Dark));
        let settings = Settings { network, ..Settings::of(origin, "wbg-test".to_owned()) };
        let timeout = settings.timeouts.connect;
        let regions = Regions::new([], "us-sv").unwrap();
        let shared = SharedConnections::new(&Upstream::new(settings, &regions, None).unwrap());
        let request = For { caller: 1, body: false, wanted: ConnectionChoice::Any };
        let waits = |percent: u32| {
            let shared = Rc::clone(&shared);
            async move {
                sleep(timeout * percent / 100).await;
                let begun = Instant::now();
                let given = shared.wait(request, begun).await;
                assert!(matches!(given, Some(Given::Failed { .. })));
                begun.elapsed()
            }
        };
        let all = async { tokio::join!(waits(0), waits(10), waits(60), waits(99)) };
        let (first, soon, late, last) = LocalSet::new().run_until(all).await;
        let grace = Duration::from_millis(10);
        assert!(first <= timeout + grace && soon <= timeout, "{first:?} {soon:?}");
        for waited in [late, last] {
            assert!(waited >= timeout && waited <= 2 * timeout + PAUSE, "{waited:?}");
        }
    }

    /// A connection that stands, and its peer, which allows one stream at a time.
    async fn connection() -> (Http2Connection, DuplexStream) {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        // MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
        theirs.write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1]).await.unwrap();
        (handshake(ours).await.ok().unwrap(), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_falls_silent_retires_those_of_all_workers_that_were_silent_meanwhile()
     {
        let noticed = async {
            let (one, mut peers) = (shared(2), Vec::new());
            // Another worker's.
            let other = SharedConnections::new(&one.upstream);
            for shared in [&one, &other] {
                let (connection, peer) = connection().await;
                peers.push(peer);
                shared.add(connection);
            }
            let request = For { caller: 1, body: false, wanted: ConnectionChoice::Any };
            let asked = one.take(request, Instant::now()).unwrap();
            sleep(Duration::from_secs(7)).await;
            let (young, peer) = connection().await;
            peers.push(peer);
            other.add(young);
            assert_eq!(other.connections.borrow().len(), 2);
            sleep(Duration::from_secs(2)).await;
            assert!(one.take(request, Instant::now()).is_none(), "it answers no ping");
            let made = Instant::now() - Duration::from_secs(5);
            other.forget_ended();
            let left: Vec<_> =
                other.connections.borrow().iter().map(Http2Connection::made).collect();
            assert!(left.len() == 1 && left[0] > made, "the young one may live");
            drop(asked);
        };
        LocalSet::new().run_until(noticed).await;
    }

    #[tokio::test]
    async fn of_the_connections_on_which_nothing_is_asked_so_many_are_kept_as_may_be() {
        let kept = async {
            let (shared, mut peers) = (shared(2), Vec::new());
            let mut add = async || {
                let (connection, peer) = connection().await;
                peers.push(peer);
                shared.add(connection);
                Instant::now()
            };
            add().await;
            let request = For { caller: 1, body: false, wanted: ConnectionChoice::Any };
            let asked = shared.take(request, Instant::now()).unwrap();
            for _ in 0..5 {
                add().await;
                assert!(shared.connections.borrow().len() <= 1 + 2 + 1, "one was just made");
            }
            let (now, longest) = (Instant::now(), Duration::from_secs(60));
            shared.prune(now, longest);
            assert_eq!(shared.connections.borrow().len(), 3, "what is asked is not ended");
            drop(asked);
            shared.prune(now, longest);
            assert_eq!(shared.connections.borrow().len(), 2);
        };
        LocalSet::new().run_until(kept).await;
    }

    /// What one is told that waits since so long before the connection was made, or after it, when
    /// another cannot be made.
    async fn told(before: bool, why: ConnectError) -> Code {
        let shared = shared(1);
        let longer = shared.upstream.settings.timeouts.connect + Duration::from_secs(1);
        let early = Instant::now();
        tokio::time::advance(longer).await;
        let (connection, _peer) = connection().await;
        shared.add(connection);
        let request = For { caller: 1, body: false, wanted: ConnectionChoice::Any };
        let _held = shared.take(request, Instant::now()).unwrap();
        let (give, mut given) = oneshot::channel();
        tokio::time::advance(Duration::from_millis(1)).await;
        let since = if before { early } else { Instant::now() };
        tokio::time::advance(longer).await;
        shared.connecting.set(1);
        shared.waiters.borrow_mut().push_back(Waiter { request, since, give });
        shared.fail(&why, early);
        match given.try_recv().unwrap() {
            Given::Failed { failure, .. } => failure.code(),
            Given::RequestChannel { .. } | Given::Alone => unreachable!("there is no stream"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_silent_on_all_connections_is_not_one_that_has_no_more_streams() {
        let late = || ConnectError::Late(Duration::from_secs(1));
        let closed = || ConnectError::Http(None);
        let told = async {
            assert_eq!(told(false, late()).await, Code::UpstreamTimeout);
            assert_eq!(told(true, late()).await, Code::Overloaded, "it answers others");
            assert_eq!(told(false, closed()).await, Code::Overloaded, "it takes no connection");
        };
        LocalSet::new().run_until(told).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_begun_before_a_probe_says_nothing_to_it() {
        let (shared, begun) = (shared(1), Instant::now());
        tokio::time::advance(Duration::from_millis(500)).await;
        let since = Instant::now();
        tokio::time::advance(Duration::from_millis(500)).await;
        for (wanted, waits) in [
            (ConnectionChoice::Any, false),
            (ConnectionChoice::NewerThan(begun), false),
            (ConnectionChoice::NewerThan(since), true),
        ] {
            let (give, mut given) = oneshot::channel();
            let request = For { caller: 1, body: false, wanted };
            shared.connecting.set(1);
            shared.waiters.borrow_mut().push_back(Waiter { request, since, give });
            shared.fail(&ConnectError::Late(Duration::from_secs(1)), begun);
            assert_eq!(given.try_recv().is_err(), waits, "{wanted:?}");
            shared.waiters.take();
        }
    }
}
