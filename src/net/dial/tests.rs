//! The dialler beside listeners of this machine that refuse, or never answer.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::net::Resolver;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// A dialler for whom every name has these addresses.
fn knowing(addresses: &[&str]) -> Dialler {
    let addresses: Vec<_> = addresses.iter().map(|one| one.parse().unwrap()).collect();
    Dialler::over(Resolver::with(move |_| Ok(addresses.clone())))
}

/// A listener whose queue is full, so that nothing that connects to it comes through, as behind a
/// link that is cut; and what fills it.
async fn black_hole(at: &str) -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(address(at)).unwrap();
    let listener = socket.listen(1).unwrap();
    let full = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(Ok(one)) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(full)).await
    {
        filling.push(one);
    }
    (listener, filling)
}

#[test]
fn families_take_turns_after_what_worked() {
    let all = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"].map(address);
    for (known, expected) in [
        (None, "[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1"),
        (Some("2.2.2.2:1"), "2.2.2.2:1 [::1]:1 1.1.1.1:1 [::2]:1 [::3]:1"),
        (Some("9.9.9.9:1"), "[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1"),
    ] {
        let mut addresses = all.to_vec();
        in_turn(&mut addresses, &KnownAddress { good: known.map(address), failed: Vec::new() });
        let order: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(order.join(" "), expected);
    }
    let failed = ["1.1.1.1:1", "[::1]:1"].map(address).to_vec();
    let mut addresses = all.to_vec();
    in_turn(&mut addresses, &KnownAddress { good: Some(address("[::3]:1")), failed });
    let order: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    assert_eq!(order.join(" "), "[::3]:1 [::2]:1 2.2.2.2:1 1.1.1.1:1 [::1]:1");
    in_turn(&mut Vec::new(), &KnownAddress::default());
}

#[test]
fn addresses_are_apart_as_far_as_all_have_a_turn() {
    let millis = |addresses, time| apart(addresses, Duration::from_millis(time)).as_millis();
    for (addresses, time, expected) in [
        (0, 1_000, 250),
        (1, 1_000, 250),
        (4, 1_000, 250),
        (8, 1_000, 107),
        (32, 100, 10),
        (4, 0, 10),
    ] {
        assert_eq!(millis(addresses, time), expected, "{addresses} in {time}");
    }
}

#[tokio::test]
async fn an_address_that_refuses_costs_no_time_and_what_worked_is_tried_first() {
    let listener = TcpListener::bind("127.0.0.4:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dialler = knowing(&["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    let begun = Instant::now();
    let socket = dialler.connect("a", port, soon()).await.unwrap();
    assert!(begun.elapsed() < APART, "{:?}", begun.elapsed());
    assert_eq!(socket.peer_addr().unwrap(), listener.local_addr().unwrap());
    let good = dialler.known("a", port, |known| known.good);
    assert_eq!(good, Some(listener.local_addr().unwrap()));
    assert!(socket.nodelay().unwrap());
    // With this one there as well, the first in the order of the system would be another.
    let _other = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let again = dialler.connect("a", port, soon()).await.unwrap();
    assert_eq!(again.peer_addr().unwrap(), listener.local_addr().unwrap());
}

#[tokio::test]
async fn dead_addresses_before_a_good_one_cost_a_quarter_of_a_second_each_and_once() {
    let (hole, _full) = black_hole("127.0.0.1:0").await;
    let port = hole.local_addr().unwrap().port();
    let mut holes = Vec::new();
    for ip in ["127.0.0.2", "127.0.0.3"] {
        holes.push(black_hole(&format!("{ip}:{port}")).await);
    }
    let good = TcpListener::bind(("127.0.0.4", port)).await.unwrap();
    let dialler = knowing(&["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    let begun = Instant::now();
    // The default of upstream.connect_timeout.
    let deadline = begun + Duration::from_secs(1);
    let socket = dialler.connect("a", port, deadline).await.unwrap();
    assert_eq!(socket.peer_addr().unwrap(), good.local_addr().unwrap());
    assert!(begun.elapsed() >= 3 * APART, "{:?}", begun.elapsed());
    let begun = Instant::now();
    dialler.connect("a", port, soon()).await.unwrap();
    assert!(begun.elapsed() < APART, "what worked was not tried first: {:?}", begun.elapsed());
}

#[tokio::test]
async fn an_address_whose_connections_come_to_nothing_is_the_last_to_be_tried() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let _others = [
        TcpListener::bind(("127.0.0.2", port)).await.unwrap(),
        TcpListener::bind(("127.0.0.3", port)).await.unwrap(),
    ];
    let dialler = knowing(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    let mut taken = Vec::new();
    for _ in 0..4 {
        let socket = dialler.connect("a", port, soon()).await.unwrap();
        taken.push(socket.peer_addr().unwrap().ip().to_string());
        dialler.failed("a", port);
    }
    assert_eq!(taken, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"]);
}

#[tokio::test]
async fn where_nothing_answers_the_deadline_ends_it() {
    let (hole, _full) = black_hole("127.0.0.1:0").await;
    let port = hole.local_addr().unwrap().port();
    let deadline = Instant::now() + Duration::from_millis(100);
    let error = knowing(&["127.0.0.1"]).connect("a", port, deadline).await.err().unwrap();
    assert!(matches!(error, DialError::Timeout), "{error:?}");
}

#[tokio::test]
async fn what_this_side_lacks_is_told_from_what_the_other_side_says() {
    for (code, local) in [
        (Errno::MFILE, true),
        (Errno::NFILE, true),
        (Errno::NOBUFS, true),
        (Errno::NOMEM, true),
        (Errno::ADDRNOTAVAIL, true),
        (Errno::CONNREFUSED, false),
        (Errno::CONNRESET, false),
        (Errno::TIMEDOUT, false),
        (Errno::NETUNREACH, false),
    ] {
        let error = DialError::from(io::Error::from_raw_os_error(code.raw_os_error()));
        assert_eq!(matches!(error, DialError::Local(_)), local, "{code}");
    }
    let refused = knowing(&["127.0.0.1"]).connect("a", 1, soon()).await.err().unwrap();
    assert!(matches!(refused, DialError::Remote(_)), "{refused:?}");
    let nowhere = knowing(&[]).connect("a", 1, soon()).await.err().unwrap();
    assert!(matches!(nowhere, DialError::Name(_)), "{nowhere:?}");
    let unknown = Dialler::over(Resolver::with(|_| Err(io::Error::other("no such name"))));
    let unknown = unknown.connect("a", 1, soon()).await.err().unwrap();
    assert!(matches!(unknown, DialError::Name(_)), "{unknown:?}");
    assert_eq!(unknown.to_string(), "no such name");
}

#[test]
fn of_several_failures_the_one_of_the_other_side_is_told() {
    let of = |codes: &[Errno]| {
        let mut race = Race::new(&[], APART, connected);
        for code in codes {
            race.failed(io::Error::from_raw_os_error(code.raw_os_error()));
        }
        match race.why.unwrap() {
            DialError::Local(error) | DialError::Remote(error) => error.raw_os_error().unwrap(),
            error => panic!("{error:?}"),
        }
    };
    let (refused, lacking, no_way) = (Errno::CONNREFUSED, Errno::MFILE, Errno::NETUNREACH);
    for codes in
        [[refused, lacking, no_way], [no_way, lacking, refused], [lacking, refused, no_way]]
    {
        assert_eq!(of(&codes), refused.raw_os_error(), "{codes:?}");
    }
    for codes in [[lacking, no_way], [no_way, lacking]] {
        assert_eq!(of(&codes), lacking.raw_os_error(), "{codes:?}");
    }
}

/// A resolver that counts, and hangs for names that begin with `hang`.
fn counting() -> (Dialler, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let resolver = Resolver::with(move |name| {
        count.fetch_add(1, Ordering::SeqCst);
        if name.starts_with("hang") {
            std::thread::park();
        }
        if name.starts_with("panic") {
            panic!("a module of the system's resolver");
        }
        std::thread::sleep(Duration::from_millis(50));
        Ok(vec!["127.0.0.1".parse().unwrap()])
    });
    (Dialler::over(resolver), asked)
}

#[tokio::test]
async fn a_name_is_resolved_once_for_all_who_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (dialler, asked) = counting();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let dialler = dialler.clone();
        all.spawn(async move { dialler.connect("a", port, soon()).await.map(drop) });
    }
    while let Some(one) = all.join_next().await {
        one.unwrap().unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    dialler.connect("a", port, soon()).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2, "an answer is not kept");
    dialler.connect("127.0.0.1", port, soon()).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2, "an address is no name");
}

#[tokio::test]
async fn a_name_that_hangs_holds_up_neither_another_name_nor_an_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (dialler, asked) = counting();
    for _ in 0..20 {
        let late = Instant::now() + Duration::from_millis(10);
        let error = dialler.connect("hang", port, late).await.err().unwrap();
        assert!(matches!(error, DialError::Timeout), "{error:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "one thread, however often it is asked for");
    // As many names as there are others to go to, and more than threads from the start.
    for name in 0..8 {
        let late = Instant::now() + Duration::from_millis(10);
        let error = dialler.connect(&format!("hang{name}"), port, late).await.err().unwrap();
        assert!(matches!(error, DialError::Timeout), "{error:?}");
    }
    let begun = Instant::now();
    dialler.connect("a", port, soon()).await.unwrap();
    dialler.connect("127.0.0.1", port, soon()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_resolver_that_panics_costs_whoever_asked_and_nobody_after() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (dialler, _) = counting();
    for _ in 0..10 {
        let error = dialler.connect("panic", port, soon()).await.err().unwrap();
        assert!(matches!(error, DialError::Local(_)), "{error:?}");
    }
    dialler.connect("a", port, soon()).await.unwrap();
}

#[tokio::test]
async fn more_names_than_can_wait_are_our_own_lack() {
    let (dialler, _) = counting();
    let mut errors = Vec::new();
    let mut waiting = tokio::task::JoinSet::new();
    for name in 0..200 {
        let dialler = dialler.clone();
        let late = Instant::now() + Duration::from_millis(500);
        waiting.spawn(async move { dialler.connect(&format!("hang{name}"), 1, late).await.err() });
    }
    while let Some(one) = waiting.join_next().await {
        errors.push(one.unwrap().unwrap());
    }
    let local = errors.iter().filter(|error| matches!(error, DialError::Local(_))).count();
    // 16 are being resolved, or are about to be, and 64 wait.
    assert!((120..=136).contains(&local), "{local}");
}

/// Addresses of a service at the end of a way of this round trip: `None` for one that is dead.
async fn over(round_trips: &[Option<u64>]) -> (Result<SocketAddr, DialError>, Duration) {
    let port = |index: usize| SocketAddr::from(([192, 0, 2, 1], u16::try_from(index).unwrap()));
    let addresses: Vec<_> = (0..round_trips.len()).map(port).collect();
    let begun = Instant::now();
    let attempt = |address: SocketAddr| {
        let round_trip = round_trips[usize::from(address.port())];
        async move {
            match round_trip {
                Some(time) => sleep(Duration::from_millis(time)).await,
                None => std::future::pending().await,
            }
            Ok(())
        }
    };
    let first = first_of(&addresses, begun + Duration::from_secs(1), attempt).await;
    (first.map(|((), address)| address), begun.elapsed())
}

/// With a clock that the test owns: the times are exact, whatever the machine does.
#[tokio::test(start_paused = true)]
async fn a_long_way_with_many_good_addresses_takes_one_round_trip() {
    for (round_trip, addresses) in [(280, 4), (160, 8), (900, 2), (990, 16)] {
        let (first, time) = over(&vec![Some(round_trip); addresses]).await;
        assert_eq!(first.unwrap().port(), 0, "{addresses} of {round_trip} ms");
        assert_eq!(time, Duration::from_millis(round_trip));
    }
    // The first is slow, the second is not: it is tried a quarter of a second later.
    let (first, time) = over(&[Some(900), Some(100)]).await;
    assert_eq!((first.unwrap().port(), time), (1, Duration::from_millis(350)));
    // Dead ones first, a good one last.
    for (dead, expected) in [(1, 450), (3, 950), (7, 956)] {
        let mut all = vec![None; dead];
        all.push(Some(200));
        let (first, time) = over(&all).await;
        assert_eq!(usize::from(first.unwrap().port()), dead);
        assert_eq!(time.as_millis(), expected, "after {dead} dead ones");
    }
    let (first, time) = over(&[None; 32]).await;
    assert!(matches!(first, Err(DialError::Timeout)), "{first:?}");
    // The second look.
    assert_eq!(time, Duration::from_millis(1_001));
}

/// The resolver of the system cannot be called off, and the end of the process does not wait for it.
#[test]
fn a_name_that_hangs_holds_up_no_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (dialler, asked) = counting();
    let count = Arc::clone(&asked);
    runtime.block_on(async move {
        tokio::spawn(async move { dialler.connect("hang", 1, soon()).await.map(drop) });
        while count.load(Ordering::SeqCst) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    });
    let begun = std::time::Instant::now();
    drop(runtime);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
