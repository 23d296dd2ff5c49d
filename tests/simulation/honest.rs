//! The promise to whoever does nothing wrong: an answer within the deadline, unless the service as a
//! whole is broken; and the service is asked again within one `open` of the breaker.
//!
//! A failure of such a request must have a cause that is not the gateway's: what befell the request
//! itself, or as many failures of the service as open the breaker, not long before.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::issuer::{self, KEY_TIMEOUT};
use crate::network::Harm;
use crate::plan::Plan;
use crate::request::{Kind, Outcome};
use crate::threads::{AUDIT, STEP, WRITE_TIMEOUT};
use crate::world::{Request, World};

/// As many failures open the breaker.
const FAILURES: usize = 10;

/// The longest time for which it is open.
const MOST_OPEN: Duration = Duration::from_secs(30);

/// How long after that it may take until somebody has found out that the service works: what is
/// quick is asked for a second, and has its own time on the way.
const FINDS_OUT: Duration = Duration::from_secs(5);

/// How much later than it was dialled it may be known that there is no connection.
const CONNECT: Duration = Duration::from_millis(1_250);

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection of HTTP/2 that has died is found out within that.
const PING: Duration = Duration::from_secs(10);

/// How long after a pause what should have come within it is looked for.
const LAST_LOOK: Duration = Duration::from_millis(250);

/// So long the service needs for an answer, at most, when nothing is wrong.
const ANSWERS: Duration = Duration::from_millis(130);

/// So long the bytes of a small request may take on a slow uplink.
const AT_ONCE: Duration = Duration::from_millis(100);

/// After so many answers the breaker is closed.
const PROBES: usize = 3;

/// So many tries again the budget has at the start.
const BUDGET: usize = 8;

/// Which requests of honest callers failed without a cause.
pub(crate) fn honest(world: &World, requests: &BTreeMap<String, Request>) -> Vec<String> {
    let run = Run::of(world, requests);
    let mut wrong = Vec::from_iter(run.stays_open());
    for (id, request) in requests.iter().filter(|(_, request)| request.asked.is_honest()) {
        wrong.extend(run.is_held_up(request).map(|why| format!("{id} {why}")));
        let Some(Outcome::Answered { code: Some(code), .. }) = &request.outcome else { continue };
        let (Some(entered), Some(settled)) = (request.entered.first(), request.settled) else {
            continue;
        };
        if let Err(why) = run.excuses(request, code, entered.at, settled) {
            wrong.push(format!("{id} is an honest request, and its answer is {code}: {why}"));
        }
        if !request.lost.is_empty() || request.arrivals.iter().any(|one| one.harm.was_done(settled))
        {
            world.count("an honest request whose kept connection died under it");
        }
    }
    wrong
}

/// Whether the service has not answered a request, as far as its caller was told.
fn is_of_service(request: &Request) -> bool {
    let Some(Outcome::Answered { code: Some(code), .. }) = &request.outcome else { return false };
    code == "upstream_timeout" || code == "upstream_error" && request.arrivals.is_empty()
}

/// What is known of the service in a run.
struct Run<'a> {
    world: &'a World,
    plan: &'a Plan,
    requests: &'a BTreeMap<String, Request>,
    /// When it failed: the earliest and the latest time at which the gateway noticed.
    failures: Vec<(Instant, Instant)>,
    /// When the first request failed that was sent on a kept connection that the network had forgotten.
    noticed: Option<Instant>,
}

impl<'a> Run<'a> {
    fn of(world: &'a World, requests: &'a BTreeMap<String, Request>) -> Self {
        let plan = &world.plan;
        let undialled = world.undialled.borrow();
        let mut failures: Vec<_> = undialled.iter().map(|at| (*at, *at)).collect();
        for request in requests.values() {
            let before = failures.len();
            for arrival in &request.arrivals {
                let harmed = request.settled.is_none_or(|settled| arrival.harm.was_done(settled));
                if harmed && arrival.first || !arrival.is_of_its_own {
                    // Noticed when it was answered, or, where nobody waited, in its time.
                    let time = if request.asked.kind.is_slow() { 35 } else { 15 };
                    let at = arrival.at + Duration::from_secs(time);
                    let latest = request.settled.map_or(at, |settled| settled.max(arrival.at));
                    // It may have been sent again since, or have waited for that.
                    let soon = harmed || !arrival.waits;
                    let waited = (arrival.at + plan.first_byte).min(latest);
                    failures.push((if soon { arrival.at } else { waited }, latest));
                }
            }
            let broken = request.lost.iter().filter(|lost| !lost.forgotten);
            failures.extend(broken.map(|lost| (lost.at, request.settled.unwrap_or(lost.at))));
            // What has befallen it is not seen over HTTP/2, or is that everything stood still: it has
            // failed all the same.
            if failures.len() == before && is_of_service(request) {
                let times = request.entered.first().map(|one| one.at).zip(request.settled);
                failures.extend(times);
            }
        }
        // Over HTTP/2 a connection that died before anything came on it has failed whoever it was made
        // for, though that one was sent again.
        let came = |harm: &Harm| {
            let mut arrivals = requests.values().flat_map(|request| &request.arrivals);
            arrivals.any(|arrival| arrival.harm.is_of(harm))
        };
        let upstreams = world.upstreams.borrow();
        let unused = upstreams.iter().filter(|harm| plan.http2_upstream && !came(harm));
        let died = unused.filter_map(Harm::died);
        failures.extend(died.map(|at| (at, at + PING + world.stood_still(at, at + PING))));
        let forgotten = requests.values().filter(|request| {
            let dead = request.lost.iter().any(|lost| lost.forgotten && lost.kept);
            dead && request.arrivals.is_empty()
        });
        let noticed = forgotten.filter_map(|request| request.settled).min();
        Self { world, plan, requests, failures, noticed }
    }

    /// Whether a token that nobody else is needed for had to wait.
    fn is_held_up(&self, request: &Request) -> Option<String> {
        let (entered, settled) = (request.entered.first()?.at, request.settled?);
        // With a required audit it waits for its record.
        let recorded = if self.plan.is_audit_required() {
            STEP + self.hung(AUDIT, entered, settled).min(WRITE_TIMEOUT)
        } else {
            Duration::ZERO
        };
        let key = request.asked.signed_by;
        let waits = key > 0 && !self.world.issuer.is_known(key, entered);
        let known = if waits { KEY_TIMEOUT } else { Duration::ZERO };
        let still = self.world.stood_still(entered, settled);
        let most = request.longest + AT_ONCE + recorded + known + still;
        (request.asked.kind == Kind::Token && settled - entered > most)
            .then(|| format!("needs nobody, and took {:?}", settled - entered))
    }

    /// Whether the breaker is open at the end, though the service works again.
    fn stays_open(&self) -> Option<String> {
        let last = self.failures.iter().map(|(_, latest)| *latest).max()?;
        // It is looked at when the gateway begins to stop.
        let looked = self.world.leaving.get()?;
        let works = |one: &&Request| {
            let success = matches!(one.outcome, Some(Outcome::Answered { code: None, .. }));
            let success = success && one.settled.is_some_and(|at| at < looked);
            success && one.arrivals.iter().any(|arrival| arrival.is_right && arrival.at > last)
        };
        let works = self.requests.values().filter(works).count();
        (self.world.is_broken_off.get() && works >= PROBES)
            .then(|| format!("the breaker is open, and the service has answered {works} times"))
    }

    /// Why a failure is not the gateway's; an error where it is.
    fn excuses(
        &self,
        request: &Request,
        code: &str,
        entered: Instant,
        settled: Instant,
    ) -> Result<(), String> {
        match code {
            // The gateway has a limit for all callers together.
            "rate_limited" if self.plan.store.is_none() => Ok(()),
            "store_unavailable" => Err("it needs no store".to_owned()),
            "invalid_token" | "auth_unavailable" => {
                issuer::excuses(self.world, request, entered, settled)
            }
            "audit_unavailable" => match self.hung(AUDIT, entered, settled) {
                hung if hung + STEP >= WRITE_TIMEOUT => Ok(()),
                hung => Err(format!("the audit hung for {hung:?} meanwhile")),
            },
            "overloaded" => self.is_full(entered, settled),
            "upstream_unavailable" => self.is_open(entered, settled),
            _ => self.befell(request, code, entered, settled),
        }
    }

    /// For how long a thread took nothing between two times.
    fn hung(&self, thread: &str, from: Instant, until: Instant) -> Duration {
        let begun = self.world.begun();
        let hangs = self.plan.hanging().filter(|hang| hang.thread == thread);
        let hung = hangs.map(|hang| {
            let (first, last) = (begun + hang.from, begun + hang.until);
            last.min(until).saturating_duration_since(first.max(from))
        });
        // They may overlap.
        hung.sum()
    }

    /// Whether as many requests were under way as may be.
    fn is_full(&self, entered: Instant, settled: Instant) -> Result<(), String> {
        let all = self.requests.values();
        let there = all.filter(|one| one.entered.first().is_some_and(|one| one.at <= settled));
        // Whoever has gone may have left a request at the service.
        let under_way = there.filter(|one| match one.settled {
            None => true,
            Some(at) => at + Duration::from_secs(40) >= entered,
        });
        let count = under_way.count();
        let begun = entered - self.world.begun();
        let lacks = self
            .plan
            .without_descriptors
            .is_some_and(|(from, until)| from <= begun + (settled - entered) && begun <= until);
        let crowded = self.plan.connections < 100;
        // Neither a stream of those connections that there are, nor another connection.
        let streams = self.plan.http2_upstream
            && self.plan.upstream_streams < 100
            && self.undialled(entered, settled) > 0;
        if lacks || crowded || streams || count >= self.plan.in_flight {
            return Ok(());
        }
        Err(format!("{count} requests were under way, {} may be", self.plan.in_flight))
    }

    /// Whether others had then all that may be under way at once.
    fn is_taken(&self, request: &Request, at: Instant) -> bool {
        let others = self.requests.values().filter(|one| one.asked.id != request.asked.id);
        let under_way = others.filter(|one| {
            one.asked.kind != Kind::Token
                && one.entered.first().is_some_and(|one| one.at <= at)
                && one.settled.is_none_or(|settled| settled >= at)
        });
        under_way.count() >= self.plan.in_flight
    }

    /// Whether the breaker may be open.
    fn is_open(&self, entered: Instant, settled: Instant) -> Result<(), String> {
        let known = self.failures.iter().filter(|(earliest, _)| *earliest <= settled);
        let known: Vec<_> = known.map(|(_, latest)| settled.min(*latest)).collect();
        let (Some(first), Some(last)) = (known.iter().min(), known.iter().max()) else {
            return Err("the service had not failed once".to_owned());
        };
        if known.len() < FAILURES {
            return Err(format!("the service had failed {} times", known.len()));
        }
        // Each time it is open for twice as long, so the last time is as long as all before.
        let open = (*last - *first + Duration::from_secs(1)).min(MOST_OPEN);
        let open = open + self.world.stood_still(*last, settled);
        let late = entered.saturating_duration_since(*last + open + FINDS_OUT);
        if late.is_zero() {
            return Ok(());
        }
        Err(format!("the last failure of the service was {:?} before", entered - *last))
    }

    /// Whether something befell the request itself that no try again could mend.
    fn befell(
        &self,
        request: &Request,
        code: &str,
        entered: Instant,
        settled: Instant,
    ) -> Result<(), String> {
        let harmed = request.arrivals.iter().filter(|one| one.harm.was_done(settled)).count();
        let wrong = request.arrivals.iter();
        let wrong = wrong.filter(|one| !one.is_right && !one.harm.was_done(settled)).count();
        let undialled = self.undialled(entered, settled);
        let died = harmed + request.lost.len();
        if wrong + undialled == 0 && died == 0 {
            return if code == "upstream_timeout" && self.was_too_slow(request, entered, settled) {
                Ok(())
            } else {
                self.died_of_http2(request, entered, settled)
            };
        }
        // Of an answer that is wrong as well, enough may have come.
        let right = request.arrivals.iter().all(|one| one.is_right || one.waits);
        if wrong + undialled == 0 && died == 1 && right && self.died_until(entered, settled) <= 1 {
            self.is_mended(request, entered, settled)?;
        }
        let forgotten = request.lost.iter().any(|lost| lost.forgotten);
        if wrong + undialled == 0 && forgotten {
            return match self.noticed {
                Some(noticed) if noticed < entered => {
                    let ago = entered - noticed;
                    Err(format!("it was sent on a dead connection {ago:?} after the first of them"))
                }
                _ => Ok(()),
            };
        }
        Ok(())
    }

    /// How many connections could not be made meanwhile.
    fn undialled(&self, entered: Instant, settled: Instant) -> usize {
        let undialled = self.world.undialled.borrow();
        undialled.iter().filter(|at| entered <= **at && **at <= settled + CONNECT).count()
    }

    /// Over HTTP/2 it cannot be seen on which connection a request is sent: one of those that died
    /// just now.
    fn died_of_http2(
        &self,
        request: &Request,
        entered: Instant,
        settled: Instant,
    ) -> Result<(), String> {
        if self.died_until(entered, settled) > 0 {
            return Ok(());
        }
        self.stood_still(request, entered, settled)
    }

    /// Whether everything stood still before the answer was on its way: what lies in the socket by
    /// then counts as if it had come in time.
    fn stood_still(
        &self,
        request: &Request,
        entered: Instant,
        settled: Instant,
    ) -> Result<(), String> {
        let pauses = self.world.pauses.borrow();
        // A connection that was being made has a last look after the pause, and over HTTP/2 whoever
        // has come since waits for the same.
        let shares = self.plan.http2_upstream && request.arrivals.is_empty();
        let look = if shares { LAST_LOOK } else { Duration::ZERO };
        let begun =
            pauses.iter().filter(|(begun, over)| *begun <= settled && entered <= *over + look);
        let answered = |at: Instant| {
            let last = request.arrivals.last().filter(|_| !self.plan.http2_upstream);
            last.is_some_and(|last| last.answered.is_some_and(|answered| answered <= at))
        };
        if begun.map(|(begun, _)| *begun).any(|begun| !answered(begun)) {
            return Ok(());
        }
        Err("nothing has befallen it".to_owned())
    }

    /// Whether a slow network needed so long for a connection to come about, or for the request and
    /// needs so long for the answer, that the head of it cannot be there in time.
    fn was_too_slow(&self, request: &Request, entered: Instant, settled: Instant) -> bool {
        let Some(last) = request.arrivals.last() else {
            // Over HTTP/2 a connection is made for all who wait; whoever came last may have no further
            // try, since its caller has ended its side.
            let shares = self.plan.http2_upstream && request.is_last_said;
            let waited = settled - entered >= CONNECT_TIMEOUT / 2;
            return self.plan.slow_network && (shares || waited);
        };
        let used_up = settled - entered >= self.plan.first_byte;
        let late = last.at + ANSWERS + last.harm.longest() >= entered + self.plan.first_byte;
        // Over HTTP/2 behind the answers to others.
        used_up && (late || self.plan.slow_network && request.comes_later)
    }

    /// How many connections of HTTP/2 died that a request may have been sent on.
    fn died_until(&self, entered: Instant, settled: Instant) -> usize {
        let upstreams = self.world.upstreams.borrow();
        let died = upstreams.iter().filter_map(|one| one.died());
        let known = |at: Instant| at + PING + self.world.stood_still(at, settled);
        let died = died.filter(|at| *at <= settled && entered <= known(*at)).count();
        if self.plan.http2_upstream { died } else { 0 }
    }

    /// Whether what died under a request could not be mended: a further try may be made of what does
    /// the same when done twice, while there are tries, time and a budget.
    fn is_mended(
        &self,
        request: &Request,
        entered: Instant,
        settled: Instant,
    ) -> Result<(), String> {
        let asked = &request.asked;
        let tries = self.plan.attempts > 1 && self.tries_again(settled) < BUDGET;
        let time = self.plan.first_byte < Duration::from_secs(5) && !asked.kind.is_slow();
        // A pause takes the time of a further try.
        let stops = self.world.leaving.get().is_some_and(|at| at <= settled)
            || !self.world.stood_still(self.world.begun(), settled).is_zero();
        // One that is sent to see whether the service works again opens the breaker where it fails.
        let stops = stops || self.is_open(entered, settled).is_ok() || request.is_last_said;
        // Who waits to be sent again holds nothing, and others may have taken what there was.
        let stops = stops || self.is_taken(request, settled);
        let again = !asked.kind.is_unsafe() && asked.kind != Kind::Token;
        if tries && time && again && !stops {
            return Err("its connection died under it, and it was not sent again".to_owned());
        }
        Ok(())
    }

    /// How many tries again there were until then.
    fn tries_again(&self, until: Instant) -> usize {
        let all = self.requests.values();
        let before = all.filter(|one| one.entered.first().is_some_and(|one| one.at <= until));
        before.map(|one| (one.arrivals.len() + one.lost.len()).saturating_sub(1)).sum::<usize>()
            + self.world.undialled.borrow().iter().filter(|at| **at <= until).count()
    }
}
