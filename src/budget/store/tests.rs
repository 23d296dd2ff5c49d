//! Budgets in a real Redis: what the scripts do there, and what is made of their answers.

use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::task::LocalSet;
use tokio::time::sleep;

use super::*;
use crate::api::{Operation, Operations};
use crate::budget::{
    Budget, BudgetUnit, Budgets, Payer, Period, ProfileBudgets, Reservation, Settings, Whose,
    WorkerBudgets, Zone,
};
use crate::failure::{Code, Failure};
use crate::metric::{MetricSet, TextFormat};
use crate::store;

/// A server that ends with the test.
struct Redis {
    child: Child,
    port: u16,
    /// What it writes.
    _folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("redis-server");
        command.arg("--dir").arg(folder.path());
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let redis = Self { child, port, _folder: folder };
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "it does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        redis
    }

    /// What it answers to a command, a line each.
    fn ask(&self, words: &[&str]) -> Vec<String> {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(words);
        let told = String::from_utf8(command.output().unwrap().stdout).unwrap();
        told.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    fn settings(&self, timeout: Duration) -> store::Settings {
        store::Settings {
            topology: store::Topology::Single,
            addresses: vec![store::Address { host: "127.0.0.1".to_owned(), port: self.port }],
            tls: None,
            username: None,
            password: None,
            sentinel_password: None,
            database: 0,
            timeout,
            prefix: "wbg".to_owned(),
            dialler: None,
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A deadline that a busy machine keeps.
const PATIENT: Duration = Duration::from_secs(5);

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

fn budget(of: BudgetUnit, most: u32, whose: Whose) -> Budget {
    Budget { of, most: NonZeroU32::new(most).unwrap(), per: Period::Month, whose }
}

fn key() -> String {
    let window = Zone::default().window(Period::Month, now());
    format!("wbg:{{backend}}:budget:tokens-month:{}", window.start)
}

/// A gateway, as far as it has to do with budgets.
struct Gateway {
    budgets: Budgets,
    memory: WorkerBudgets,
    operations: Operations,
    store: Store,
    /// How wrong its clock is.
    off: i64,
}

impl Gateway {
    fn of(redis: &Redis, budgets: &[Budget]) -> Self {
        Self::with(redis.settings(PATIENT), budgets)
    }

    fn with(store: store::Settings, budgets: &[Budget]) -> Self {
        let profile = ProfileBudgets { name: "backend".to_owned(), budgets: budgets.to_vec() };
        let settings = Settings { profiles: vec![profile], ..Settings::default() };
        let budgets = Budgets::new(settings, None);
        let store = Store::open(Arc::new(store::SharedStore::new(store).unwrap()));
        let memory = budgets.memory(Some(&store), None);
        let operations = Operations::documented();
        Self { budgets, memory, operations, store, off: 0 }
    }

    fn operation(&self, name: &str) -> &Operation {
        self.operations.iter().find(|(_, row)| row.name == name).unwrap().1
    }

    async fn reserve(&self, number: u64) -> Result<Reservation, Failure> {
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

    /// One that comes to nothing by no fault of the caller.
    async fn fail(&self, number: u64) {
        let failure = Failure::fixed(Code::AuditUnavailable, "x");
        let operation = self.operation("tokens.room");
        self.reserve(number).await.unwrap().settle(Some(&failure), operation, false);
    }

    /// Waits until nothing is on its way to the store.
    async fn settled(&self) {
        while self.memory.is_busy() {
            sleep(Duration::from_millis(2)).await;
        }
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

    /// How many answers of the store were too late.
    fn late(&self) -> u64 {
        self.store.shared().status.late()
    }

    fn lost(&self) -> String {
        let mut set = MetricSet::default();
        set.read(crate::budget::METRICS, self.budgets.counts());
        let text = set.text(TextFormat::OpenMetrics);
        let line = text.lines().find(|line| line.starts_with("wbg_budget_losses_total"));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
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
        let budgets = [
            budget(BudgetUnit::Tokens, 3, Whose::Caller),
            budget(BudgetUnit::Tokens, 5, Whose::Profile),
        ];
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
        let budgets = [
            budget(BudgetUnit::Tokens, 1, Whose::Caller),
            budget(BudgetUnit::Requests, 9, Whose::Profile),
        ];
        let gateway = Gateway::of(&redis, &budgets);
        for _ in 0..3 {
            gateway.fail(7).await;
            gateway.settled().await;
            assert_eq!(gateway.used().await, [("caller", 7, 0), ("profile", 0, 0)]);
        }
        let operation = gateway.operation("tokens.room");
        gateway.reserve(7).await.unwrap().settle(None, operation, false);
        assert!(!gateway.memory.is_busy());
        assert_eq!(gateway.used().await, [("caller", 7, 1), ("profile", 0, 1)]);
    });
}

#[test]
fn a_refund_is_done_once_however_often_it_is_asked_for() {
    let redis = Redis::start();
    redis.ask(&["HSET", "{a}:one", "7", "5"]);
    redis.ask(&["HSET", "{a}:two", "7", "0"]);
    let release = |mark: &str| {
        let script = include_str!("release.lua");
        redis.ask(&["EVAL", script, "3", mark, "{a}:one", "{a}:two", "60", "7", "7"])
    };
    let one = || redis.ask(&["HGET", "{a}:one", "7"]);
    for _ in 0..3 {
        release("{a}:mark");
        assert_eq!(one(), ["4"]);
    }
    release("{a}:another");
    assert_eq!((one(), redis.ask(&["HGET", "{a}:two", "7"])), (vec!["3".into()], vec!["0".into()]));
    let left: u32 = redis.ask(&["TTL", "{a}:mark"])[0].parse().unwrap();
    assert!((50..=60).contains(&left), "{left}");
}

#[test]
fn the_clock_that_counts_is_the_stores() {
    run(async {
        let redis = Redis::start();
        let budgets = [budget(BudgetUnit::Tokens, 4, Whose::Caller)];
        let right = Gateway::of(&redis, &budgets);
        assert_eq!(right.passed(7, 2).await, 2);
        for (off, left) in [(-40 * 24 * 3600, 1), (40 * 24 * 3600, 0)] {
            let wrong = Gateway { off, ..Gateway::of(&redis, &budgets) };
            let told = wrong.reserve(7).await.ok().and_then(|taken| taken.left).unwrap();
            assert_eq!(told.left, left, "in the window of all others");
            let window = Zone::default().window(Period::Month, now());
            assert!(told.more_in.abs_diff(window.left(now())) < 5, "{told:?}");
            assert_eq!(wrong.used().await, right.used().await);
        }
        assert_eq!(redis.ask(&["KEYS", "*:budget:*"]), [key()], "there is one window");
    });
}

#[test]
fn a_window_goes_a_while_after_its_end_and_keys_have_the_tag_of_their_profile() {
    run(async {
        let redis = Redis::start();
        let gateway = Gateway::of(&redis, &[budget(BudgetUnit::Tokens, 3, Whose::Caller)]);
        assert_eq!(gateway.passed(7, 2).await, 2);
        let left: i64 = redis.ask(&["TTL", &key()])[0].parse().unwrap();
        let beyond = left - Zone::default().window(Period::Month, now()).left(now()).cast_signed();
        assert!((7_100..=7_202).contains(&beyond), "{beyond}");
    });
}

#[test]
fn what_was_taken_for_nobody_goes_back() {
    run(async {
        let redis = Redis::start();
        let budgets = [budget(BudgetUnit::Tokens, 3, Whose::Caller)];
        // Too late for the request, and not for the gateway.
        let hasty = Gateway::with(redis.settings(Duration::from_secs(1)), &budgets);
        hasty.fail(7).await;
        hasty.settled().await;
        redis.signal("STOP");
        let refused = hasty.reserve(7).await.err().unwrap();
        assert_eq!(refused.code(), Code::StoreUnavailable);
        assert_eq!(refused.detail(), Some("the store has not answered in time"));
        assert!(hasty.memory.is_busy());
        redis.signal("CONT");
        hasty.settled().await;
        assert_eq!(hasty.used().await, [("caller", 7, 0)]);
        // No one waits for it any more.
        let gateway = Gateway::of(&redis, &budgets);
        {
            let mut asked = std::pin::pin!(gateway.reserve(7));
            assert!(
                std::future::poll_fn(|at| std::task::Poll::Ready(asked.as_mut().poll(at)))
                    .await
                    .is_pending()
            );
            tokio::task::yield_now().await;
            assert!(gateway.memory.is_busy());
        }
        gateway.settled().await;
        assert_eq!(gateway.used().await, [("caller", 7, 0)]);
        assert_eq!((hasty.lost(), gateway.lost()), ("0".to_owned(), "0".to_owned()));
    });
}

#[test]
fn a_refund_waits_for_a_store_that_is_away() {
    run(async {
        let redis = Redis::start();
        let budgets = [budget(BudgetUnit::Tokens, 5, Whose::Caller)];
        let gateway = Gateway::with(redis.settings(Duration::from_secs(1)), &budgets);
        assert_eq!(gateway.passed(7, 2).await, 2);
        // From here on the store knows the script, and will do what it is asked for in vain.
        gateway.fail(7).await;
        gateway.settled().await;
        let failure = Failure::fixed(Code::AuditUnavailable, "x");
        let reservation = gateway.reserve(7).await.unwrap();
        redis.signal("STOP");
        reservation.settle(Some(&failure), gateway.operation("tokens.room"), false);
        // Asked for more than once meanwhile, each time in vain.
        while gateway.late() < 2 {
            sleep(Duration::from_millis(2)).await;
        }
        redis.signal("CONT");
        gateway.settled().await;
        let back = Gateway::of(&redis, &budgets);
        assert_eq!(back.used().await, [("caller", 7, 2)], "and it went back once");
        assert_eq!(gateway.lost(), "0");
    });
}

#[test]
fn what_is_not_known_is_counted_as_lost() {
    run(async {
        let redis = Redis::start();
        let gateway = Gateway::with(
            redis.settings(Duration::from_secs(1)),
            &[budget(BudgetUnit::Tokens, 5, Whose::Caller)],
        );
        assert_eq!(gateway.passed(7, 1).await, 1);
        redis.signal("STOP");
        assert!(gateway.reserve(7).await.is_err());
        gateway.settled().await;
        assert_eq!(gateway.lost(), "1");
        redis.signal("CONT");
    });
}

#[test]
fn every_counter_of_many_is_seen() {
    run(async {
        let redis = Redis::start();
        let gateway = Gateway::of(&redis, &[budget(BudgetUnit::Tokens, 5, Whose::Caller)]);
        let fill = "for i = 1, 5000 do redis.call('HSET', KEYS[1], i, i % 4) end";
        redis.ask(&["EVAL", fill, "1", &key()]);
        let (shown, others) = gateway.budgets.standings(&gateway.memory, now()).await.unwrap();
        assert_eq!((shown.len(), others), (1_000, 4_000));
        assert!(shown.iter().all(|one| one.level.used == 3), "those with the least left");
    });
}

#[test]
fn a_store_says_how_lasting_it_is() {
    let redis = Redis::start();
    let script = include_str!("lasting.lua");
    let told = || redis.ask(&["EVAL", script, "1", "k"]);
    assert_eq!(told(), ["0", "1"]);
    redis.ask(&["CONFIG", "SET", "appendonly", "yes"]);
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    assert_eq!(told(), ["1", "0"]);
    redis.ask(&["ACL", "SETUSER", "default", "-info"]);
    assert_eq!(told(), ["-1", "-1"], "it does not tell");
}
