//! Three times what the service can do: how much of that is still served, and what a refusal
//! costs beside a served request.
//!
//! The service is a stand-in that works on a fixed number of requests at once and lets others
//! wait; the gateway is the built binary with one worker. CPU is that of the gateway's threads
//! alone, so the load may share its machine. Run it with `cargo bench --bench overload`;
//! `docs/performance.md` has the results.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a harness stops at whatever is wrong, and prints what it found"
)]

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use whiteboard_gateway::caller::{self, ApiKey};

/// How many requests the service works on at once, and for how long on each.
const SLOTS: u32 = 32;
const WORK: Duration = Duration::from_millis(20);

/// As many requests may be at the service: enough to keep it busy, few enough to be quick.
const IN_FLIGHT: u32 = 2 * SLOTS;

/// As many connections call.
const CALLERS: u32 = 256;

const WARM_UP: Duration = Duration::from_secs(1);
const COUNTED: Duration = Duration::from_secs(5);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{\"uuid\":\"a\"}";

fn main() {
    // Cargo runs benches as tests too, where what they cost is of no interest.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let service = start_service(SLOTS, WORK);
    // Timers are coarse, so what it can do is measured too: all callers ask it themselves.
    let nominal = f64::from(SLOTS) / WORK.as_secs_f64();
    let capacity =
        offer(service, "", 3.0 * nominal, || Duration::ZERO).per_second(|one| one.served);
    println!("The service does {capacity:.0} requests a second, {SLOTS} at once.\n");
    println!("| bound | offered | served/s | of capacity | refused/s | p99 served |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (name, most, adaptive) in
        [("static", IN_FLIGHT, false), ("adaptive", 8 * SLOTS, true), ("none", 1_000_000, false)]
    {
        let gateway = Gateway::start(service, most, adaptive);
        for times in [0.8, 3.0] {
            let found = gateway.offer(times * capacity);
            let served = found.per_second(|one| one.served);
            println!(
                "| {name} | {times} × | {served:.0} | {:.0} % | {:.0} | {} ms |",
                served / capacity * 100.0,
                found.per_second(|one| one.refused),
                found.p99.as_millis(),
            );
        }
    }
    println!("\n| rate | CPU a served request | CPU a refusal | ratio |");
    println!("| --- | --- | --- | --- |");
    // What wakes a thread is shared by what comes at once: the two are compared at the same rates.
    for times in [1.0, 3.0] {
        let ample = start_service(10 * SLOTS, WORK);
        let served = Gateway::start(ample, 1_000_000, false).offer(times * capacity);
        assert_eq!(served.refused, 0);
        let hangs = start_service(1, Duration::from_secs(3600));
        let refused = Gateway::start(hangs, 1, false).offer(times * capacity);
        assert_eq!(refused.served, 0);
        let (serving, refusing) = (served.cpu_of(served.served), refused.cpu_of(refused.refused));
        println!(
            "| {:.0}/s | {:.1} µs | {:.1} µs | {:.2} |",
            times * capacity,
            serving * 1e6,
            refusing * 1e6,
            refusing / serving
        );
    }
}

/// The stand-in, on a thread of its own.
fn start_service(slots: u32, work: Duration) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        on_this_thread(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let slots = Rc::new(Semaphore::new(slots as usize));
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let slots = Rc::clone(&slots);
                spawn_local(async move {
                    let mut buffer = vec![0; 4096];
                    while receive(&mut stream, &mut buffer).await.is_some() {
                        let slot = slots.acquire().await.unwrap();
                        sleep(work).await;
                        drop(slot);
                        if stream.write_all(ANSWER).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
    });
    address
}

fn on_this_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work)
}

/// Reads a head, and the body that it promises; gives the first line's second word.
async fn receive(stream: &mut TcpStream, buffer: &mut [u8]) -> Option<u16> {
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await.ok().filter(|count| *count > 0)?;
        filled += count;
        let text = std::str::from_utf8(&buffer[..filled]).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        if length.is_none_or(|length| length.parse() == Ok(body.len())) {
            return Some(head.split(' ').nth(1)?.parse().unwrap_or_default());
        }
    }
}

/// The built binary, stopped when it is dropped.
struct Gateway {
    child: Child,
    address: SocketAddr,
    key: String,
    _folder: tempfile::TempDir,
}

/// What a measurement found.
#[derive(Default)]
struct Found {
    served: u32,
    refused: u32,
    cpu: Duration,
    p99: Duration,
}

impl Gateway {
    fn start(service: SocketAddr, most: u32, adaptive: bool) -> Self {
        let key = caller::generate(true).unwrap().expose().to_owned();
        let slot = ApiKey::parse(&key).ok().unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "[listen]\naddress = \"{address}\"\nworkers = 1\n[admin]\naddress = \"off\"\n\
             [log]\naccess = \"off\"\nlevel = \"error\"\n\
             [upstream]\nurl = \"http://{service}\"\nregion = \"us-sv\"\nmax_idle = 512\n\
             max_in_flight = {most}\nadaptive = {adaptive}\n\
             [projects.p]\nkeys = [{{ access_key = \"a\", secret_key = \"s\" }}]\n\
             [profiles.p]\nproject = \"p\"\nallow = [\"rooms.*\"]\nrooms = \"any\"\nrole = \"admin\"\n\
             priority = \"high\"\n\
             [callers.c]\nprofile = \"p\"\nkeys = [{{ id = \"{}\", digest = \"{}\" }}]\n",
            slot.id(),
            slot.digest()
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_whiteboard-gateway"));
        command.args(["serve", "--config"]).arg(&path);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "the gateway does not start");
            thread::sleep(Duration::from_millis(10));
        }
        Self { child, address, key, _folder: folder }
    }

    fn offer(&self, rate: f64) -> Found {
        offer(self.address, &self.key, rate, || self.cpu())
    }

    /// What its threads have run so far.
    fn cpu(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let spent = threads.map(|thread| {
            let text = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(spent.sum())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Offers so many requests a second, evenly, and counts after a warm-up.
fn offer(address: SocketAddr, key: &str, rate: f64, cpu: impl Fn() -> Duration) -> Found {
    let request = format!("GET /v5/rooms/a HTTP/1.1\r\nhost: gateway\r\ntoken: {key}\r\n\r\n");
    let between = Duration::from_secs_f64(f64::from(CALLERS) / rate);
    let counting = Rc::new(Cell::new(false));
    let found: Rc<RefCell<(Found, Vec<Duration>)>> = Rc::default();
    on_this_thread(async {
        for caller in 0..CALLERS {
            let (request, counting, found) =
                (request.clone(), Rc::clone(&counting), Rc::clone(&found));
            spawn_local(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                sleep(between * caller / CALLERS).await;
                let mut ticks = interval(between);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut buffer = vec![0; 4096];
                loop {
                    ticks.tick().await;
                    let begun = Instant::now();
                    stream.write_all(request.as_bytes()).await.unwrap();
                    let status = receive(&mut stream, &mut buffer).await.unwrap();
                    if counting.get() {
                        let (found, latencies) = &mut *found.borrow_mut();
                        match status {
                            200 => {
                                found.served += 1;
                                latencies.push(begun.elapsed());
                            }
                            500 => found.refused += 1,
                            other => panic!("{other}"),
                        }
                    }
                }
            });
        }
        sleep(WARM_UP).await;
        counting.set(true);
        let before = cpu();
        sleep(COUNTED).await;
        let (mut found, mut latencies) = found.take();
        found.cpu = cpu() - before;
        latencies.sort();
        found.p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
        found
    })
}

impl Found {
    fn per_second(&self, what: impl Fn(&Self) -> u32) -> f64 {
        f64::from(what(self)) / COUNTED.as_secs_f64()
    }

    /// The CPU of each of so many requests, in seconds.
    fn cpu_of(&self, requests: u32) -> f64 {
        self.cpu.as_secs_f64() / f64::from(requests)
    }
}
