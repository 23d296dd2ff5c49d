//! The scripts in a real Redis, and what is made of their answers.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::{LocalSet, yield_now};

use super::*;
use crate::api::{Operation, Operations};
use crate::budget::{
    Budget, Budgets, Memory, Of, Payer, Period, ProfileBudgets, Reservation, Settings, Whose, Zone,
};
use crate::failure::{Code, Failure};
use crate::telemetry::Metrics;

/// A server that ends with the test.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let redis = Self { child, port };
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "it does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        redis
    }

    fn connect(&self) -> Rc<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Rc::new(Connection { stream: RefCell::new(BufReader::new(stream)), lags: Cell::new(false) })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// As little of the protocol as the scripts need.
struct Connection {
    stream: RefCell<BufReader<TcpStream>>,
    /// What is asked is done, and its answer does not come in time.
    lags: Cell<bool>,
}

impl Connection {
    fn ask(&self, words: &[&str]) -> Result<Vec<i64>, String> {
        let mut stream = self.stream.borrow_mut();
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.get_mut().write_all(command.as_bytes()).unwrap();
        let mut numbers = Vec::new();
        read(&mut stream, &mut numbers)?;
        Ok(numbers)
    }
}

/// Reads an answer, whose numbers may be written as texts.
fn read(stream: &mut BufReader<TcpStream>, numbers: &mut Vec<i64>) -> Result<(), String> {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let (kind, rest) = line.trim_end().split_at(1);
    match kind {
        "*" => (0..rest.parse().unwrap()).try_for_each(|_| read(stream, numbers)),
        "$" => {
            line = String::new();
            stream.read_line(&mut line).unwrap();
            numbers.push(line.trim_end().parse().unwrap());
            Ok(())
        }
        ":" => {
            numbers.push(rest.parse().unwrap());
            Ok(())
        }
        _ => Err(line),
    }
}

impl Scripts for Connection {
    fn run(
        &self,
        script: &'static str,
        keys: Vec<String>,
        arguments: Vec<String>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<i64>, String>>>> {
        let count = keys.len().to_string();
        let words: Vec<&str> = ["EVAL", script, &count]
            .into_iter()
            .chain(keys.iter().chain(&arguments).map(String::as_str))
            .collect();
        let answer = self.ask(&words);
        let answer = if self.lags.get() { Err("too late".to_owned()) } else { answer };
        Box::pin(std::future::ready(answer))
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

fn budget(of: Of, most: u32, whose: Whose) -> Budget {
    Budget { of, most: NonZeroU32::new(most).unwrap(), per: Period::Month, whose }
}

/// A gateway, as far as it has to do with budgets.
struct Gateway {
    budgets: Budgets,
    memory: Memory,
    operations: Operations,
    connection: Rc<Connection>,
    /// How wrong its clock is.
    off: i64,
}

impl Gateway {
    fn of(redis: &Redis, budgets: &[Budget]) -> Self {
        let profile = ProfileBudgets { name: "backend".to_owned(), budgets: budgets.to_vec() };
        let settings = Settings { profiles: vec![profile], ..Settings::default() };
        let connection = redis.connect();
        let scripts = Rc::clone(&connection) as Rc<dyn Scripts>;
        Self {
            budgets: Budgets::new(settings, None, &Metrics::new(1)),
            memory: Memory::of_store(scripts, "wbg"),
            operations: Operations::documented(),
            connection,
            off: 0,
        }
    }

    fn operation(&self, name: &str) -> &Operation {
        self.operations.iter().find(|(_, row)| row.name == name).unwrap().1
    }

    async fn reserve(&self, number: u64) -> Result<Reservation<'_>, Failure> {
        let payer = Payer { number, name: "lessons" };
        let operation = self.operation("tokens.room");
        let at = now() + self.off;
        let taken = self.budgets.reserve(&self.memory, 0, payer, operation, at).await;
        taken.map(Option::unwrap).map_err(|refusal| refusal.failure)
    }

    async fn passed(&self, number: u64, tries: usize) -> usize {
        let mut passed = 0;
        for _ in 0..tries {
            passed += usize::from(self.reserve(number).await.is_ok());
        }
        passed
    }

    async fn used(&self) -> Vec<(&'static str, u64, u32)> {
        let standings = self.budgets.standings(&self.memory, now() + self.off).await;
        let mut used: Vec<_> = standings
            .unwrap()
            .0
            .iter()
            .map(|one| (one.budget.whose.as_str(), one.level.caller, one.level.used))
            .collect();
        used.sort_unstable();
        used
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn several_gateways_share_what_there_is_and_a_refusal_takes_nothing() {
    run(async {
        let redis = Redis::start();
        let budgets = [budget(Of::Tokens, 3, Whose::Caller), budget(Of::Tokens, 5, Whose::Profile)];
        let [one, two] = [0, 1].map(|_| Gateway::of(&redis, &budgets));
        // A number with its highest bit set is one like the others.
        let (first, second) = (7, u64::MAX - 5);
        assert_eq!(one.passed(first, 2).await + two.passed(first, 9).await, 3);
        let refused = one.reserve(first).await.err().unwrap();
        assert_eq!(refused.code(), Code::QuotaExceeded);
        assert!(refused.message().contains("budget of this caller"), "{refused}");
        assert_eq!(two.passed(second, 9).await, 2);
        let refused = one.reserve(second).await.err().unwrap();
        assert!(refused.message().contains("all callers of this profile"), "{refused}");
        let expected = vec![("caller", first, 3), ("caller", second, 2), ("profile", 0, 5)];
        assert_eq!(one.used().await, expected);
    });
}

#[test]
fn what_came_to_nothing_is_given_back() {
    run(async {
        let redis = Redis::start();
        let gateway = Gateway::of(&redis, &[budget(Of::Tokens, 1, Whose::Caller)]);
        let operation = gateway.operation("tokens.room");
        for _ in 0..3 {
            let taken = gateway.reserve(7).await.unwrap();
            assert!(gateway.reserve(7).await.is_err());
            taken.settle(Some(&Failure::fixed(Code::AuditUnavailable, "x")), operation, false);
            yield_now().await;
            assert_eq!(gateway.used().await, [("caller", 7, 0)]);
        }
        gateway.reserve(7).await.unwrap().settle(None, operation, false);
        yield_now().await;
        assert_eq!(gateway.used().await, [("caller", 7, 1)]);
    });
}

#[test]
fn the_clock_that_counts_is_the_stores() {
    run(async {
        let redis = Redis::start();
        let budgets = [budget(Of::Tokens, 4, Whose::Caller)];
        let right = Gateway::of(&redis, &budgets);
        assert_eq!(right.passed(7, 2).await, 2);
        for off in [-40 * 24 * 3600, 40 * 24 * 3600] {
            let wrong = Gateway { off, ..Gateway::of(&redis, &budgets) };
            assert_eq!(wrong.passed(7, 1).await, 1, "in the window of all others");
            let left = wrong.reserve(7).await.ok().and_then(|taken| taken.left);
            assert_eq!(left.is_some_and(|left| left.left == 0), off < 0);
            assert_eq!(wrong.used().await, right.used().await);
            // The last one goes back for the other turn.
            if off < 0 {
                let key = right.connection.ask(&["EVAL", "return #redis.call('KEYS', '*')", "0"]);
                assert_eq!(key, Ok(vec![1]), "there is one window");
                let back =
                    "local k = redis.call('KEYS', '*')[1] redis.call('HINCRBY', k, 7, -1) return 0";
                right.connection.ask(&["EVAL", back, "0"]).unwrap();
            }
        }
    });
}

#[test]
fn a_window_goes_a_while_after_its_end_and_keys_have_the_tag_of_their_profile() {
    run(async {
        let redis = Redis::start();
        let gateway = Gateway::of(&redis, &[budget(Of::Tokens, 3, Whose::Caller)]);
        assert_eq!(gateway.passed(7, 2).await, 2);
        let window = Zone::default().window(Period::Month, now());
        let key = format!("wbg:{{backend}}:budget:tokens-month:{}", window.start);
        let left = gateway.connection.ask(&["TTL", &key]).unwrap()[0];
        let beyond = left - window.left(now()).cast_signed();
        assert!((3_500..=3_602).contains(&beyond), "{beyond}");
    });
}

#[test]
fn a_store_that_does_not_answer_gives_out_nothing() {
    run(async {
        let redis = Redis::start();
        let gateway = Gateway::of(&redis, &[budget(Of::Tokens, 3, Whose::Caller)]);
        gateway.connection.lags.set(true);
        let refused = gateway.reserve(7).await.err().unwrap();
        assert_eq!(refused.code(), Code::StoreUnavailable);
        assert_eq!(refused.detail(), Some("too late"));
        gateway.connection.lags.set(false);
        // It had been done: what is not known stays taken.
        assert_eq!(gateway.passed(7, 9).await, 2);
    });
}
