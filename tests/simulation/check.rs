//! What must hold of a run when it is over.

use std::collections::BTreeMap;

use std::time::Duration;

use tokio::time::Instant;

use crate::honest::honest;
use crate::plan::{DISMISSED, Plan, Rate, TOKENS};
use crate::request::{Kind, Manner, Outcome};
use crate::threads;
use crate::world::{Arrival, Request, Taken, World};

/// Longer than a request is on its way to the upstream.
const ON_ITS_WAY: Duration = Duration::from_secs(4);

/// How long a worker goes on with what it has taken out of a store, and how long it waits for that.
const LEASE: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(30);

/// Looks at all of it; what does not hold is told.
pub(crate) fn check(world: &World) {
    let requests = world.requests.borrow();
    let mut wrong = Vec::new();
    for (id, request) in &*requests {
        wrong.extend(answered(request, world.cut.get()).map(|why| format!("{id} {why}")));
        wrong.extend(sent(request, &world.plan).map(|why| format!("{id} {why}")));
        wrong.extend(dismissed(request, world).map(|why| format!("{id} {why}")));
    }
    wrong.extend(limits(requests.values(), world));
    wrong.extend(under_way(&requests, world));
    wrong.extend(budgets(requests.values(), world));
    wrong.extend(honest(world, &requests));
    wrong.extend(threads::check(world, &requests));
    drop(requests);
    let Plan { in_flight, max_idle, .. } = world.plan;
    // What belongs to the service outlives a reload. One that is told to end is still there for
    // the time of a farewell; one of HTTP/2 was just made, for whoever has gone meanwhile.
    let just_made = usize::from(world.plan.http2_upstream);
    let most = in_flight + max_idle + just_made;
    let most = most * world.plan.workers * (1 + world.upstream_changes.get());
    if world.outbound.most() > most {
        let count = world.outbound.most();
        wrong.push(format!("{count} connections to the upstream at once; {most} may be"));
    }
    wrong.into_iter().for_each(|why| world.broken(why));
}

/// Whether more requests were at the upstream at once than may be. A reload begins nothing anew: what
/// the configuration before sent counts.
fn under_way(requests: &BTreeMap<String, Request>, world: &World) -> Option<String> {
    let at_the_upstream = requests.iter().filter_map(|(id, request)| {
        // An attempt before the last was given up, and the upstream need not know.
        let arrival = request.arrivals.last()?;
        let Some(Outcome::Answered { code, .. }) = &request.outcome else { return None };
        let ends = match code {
            None => arrival.answered?,
            // Between two attempts none is under way, so when one was given up is not known.
            Some(_) if world.plan.attempts == 1 && arrival.waits => request.settled?,
            Some(_) => return None,
        };
        Some((id, arrival.at, ends.min(request.settled?)))
    });
    let all: Vec<_> = at_the_upstream.collect();
    let beside = |at: Instant| all.iter().filter(move |(_, from, end)| *from <= at && at < *end);
    let most = world.plan.in_flight * world.plan.workers * (1 + world.upstream_changes.get());
    let (_, at, _) = all.iter().find(|(_, at, _)| beside(*at).count() > most)?;
    let ids: Vec<_> = beside(*at).map(|(id, ..)| id.as_str()).collect();
    Some(format!("{most} requests may be at the upstream at once, and there were {ids:?}"))
}

/// What is wrong about the answer to a request.
fn answered(request: &Request, cut: bool) -> Option<&'static str> {
    let refused = matches!(request.asked.manner, Manner::Garbage | Manner::EndlessHead);
    match &request.outcome {
        None if cut => None,
        None => Some("has come to no end"),
        Some(Outcome::Answered { .. }) if refused && !request.entered.is_empty() => {
            Some("was taken up, and is no request")
        }
        Some(Outcome::Answered { code: None, .. })
            if request.asked.kind != Kind::Token && request.arrivals.is_empty() =>
        {
            Some("was answered, and the upstream has never seen it")
        }
        Some(_) => None,
    }
}

/// What is wrong about a request of whom the configuration does not name any more.
fn dismissed(request: &Request, world: &World) -> Option<&'static str> {
    let (entered, settled) = (request.entered.first()?.at, request.settled?);
    if request.asked.caller != DISMISSED || request.asked.kind == Kind::UnknownKey {
        return None;
    }
    let dismissals = world.dismissals.borrow();
    let over = |until: Option<Instant>| until.is_none_or(|until| settled < until);
    // What is on its way already arrives.
    let late = |at: Instant, from| at > from + ON_ITS_WAY + world.stood_still(from, at);
    let sent = |from: Instant| request.arrivals.iter().any(|one| late(one.at, from));
    for (from, until) in &*dismissals {
        let refused = match &request.outcome {
            Some(Outcome::Answered { code, .. }) => code.as_deref() == Some("invalid_token"),
            _ => true,
        };
        if *from < entered && over(*until) && !(refused && request.arrivals.is_empty()) {
            return Some("is of a caller that there was not, and was not refused");
        }
        // On a connection that was made since, nothing was on its way.
        let since = |one: &Arrival| *from < one.made && over(*until);
        if request.arrivals.iter().any(since) {
            return Some("was sent to the upstream when its caller was none any more");
        }
        if *from < settled && over(*until) && sent(*from) {
            return Some("came to the upstream when its caller had long been none");
        }
    }
    None
}

/// What is wrong about what the upstream was sent.
fn sent(request: &Request, plan: &Plan) -> Option<String> {
    let asked = &request.asked;
    let done = request.arrivals.iter().filter(|arrival| !arrival.refused).count();
    let told = || request.arrivals.iter().map(|one| one.deed.as_str()).collect::<Vec<_>>();
    // A connection that was kept and is closed costs one more.
    let most = if asked.kind.is_unsafe() { 1 } else { plan.attempts as usize + 1 };
    if done > most {
        return Some(format!("came to the upstream {done} times: {:?}", told()));
    }
    let wrong = matches!(
        asked.kind,
        Kind::Token
            | Kind::UnknownPath
            | Kind::WrongMethod
            | Kind::WrongBody
            | Kind::TooLong
            | Kind::UnknownKey
    ) || matches!(asked.manner, Manner::Garbage | Manner::EndlessHead)
        || (matches!(asked.manner, Manner::NoBody | Manner::CutBody) && asked.body().is_some())
        || asked.is_forbidden();
    (wrong && !request.arrivals.is_empty())
        .then(|| format!("came to the upstream, and should not have: {:?}", told()))
}

/// Which limits let through more than they may.
fn limits<'a>(requests: impl Iterator<Item = &'a Request>, world: &World) -> Vec<String> {
    let plan = &world.plan;
    let mut buckets: BTreeMap<(String, usize), (u32, Vec<Passed>)> = BTreeMap::new();
    for request in requests {
        let minted = request.asked.kind == Kind::Token
            && matches!(request.outcome, Some(Outcome::Answered { status: 201, .. }));
        // Others may have been counted and failed later: it is enough that these were let through.
        let Some(taken) =
            request.entered.first().filter(|_| minted || !request.arrivals.is_empty())
        else {
            continue;
        };
        // Who has waited for its key was counted later.
        let key = request.asked.signed_by;
        if key > 0 && !world.issuer.is_known(key, taken.at) {
            continue;
        }
        let [backend, student, students, gateway] = plan.rates[taken.limits.rates].all();
        let caller = request.asked.caller;
        let mut passes = |name: String, limit: usize, rate: Rate| {
            let bucket = buckets.entry((name, taken.limits.changed[limit]));
            let lowered = taken.limits.lowered[limit];
            let Taken { at, limits, .. } = *taken;
            let passed = Passed { at, loads: limits.loads, burst: rate.burst, lowered };
            bucket.or_insert_with(|| (rate.per_second, Vec::new())).1.push(passed);
        };
        match Plan::profile(caller) {
            "backend" => passes(format!("caller {caller}"), 0, backend),
            "student" => {
                passes(format!("caller {caller}"), 1, student);
                passes("students".to_owned(), 2, students);
            }
            _ => {}
        }
        if plan.store.is_none() {
            passes("gateway".to_owned(), 3, gateway);
        }
    }
    // With a store, what is late by a lease and a look at it, and what was lost with a master.
    let (lost, late) = match plan.store {
        Some(_) => (world.store.lost().0, LEASE + LOOK),
        None => (0, Duration::ZERO),
    };
    let late = |from, until| match late {
        Duration::ZERO => late,
        late => late + world.stood_still(from, until + late),
    };
    let over = buckets.into_iter().filter_map(|((name, _), (per_second, mut passed))| {
        passed.sort_by_key(|one| (one.at, one.loads));
        exceeds(per_second, lost, &passed, late)
            .map(|why| format!("the limit of {name} ({per_second}/s) was exceeded: {why}"))
    });
    over.collect()
}

/// A request that a limit let through, by which configuration, what its burst was then, and by how much
/// it had been lowered.
#[derive(Clone, Copy)]
struct Passed {
    at: Instant,
    loads: usize,
    burst: u32,
    lowered: u32,
}

/// Which budgets were given out more often than there are and were lost with a master. A clock that is
/// set forward may begin another hour.
fn budgets<'a>(requests: impl Iterator<Item = &'a Request>, world: &World) -> Vec<String> {
    if !world.plan.has_budget() {
        return Vec::new();
    }
    let mut given: BTreeMap<usize, u32> = BTreeMap::new();
    for request in requests {
        let Some(Outcome::Answered { status: 201, .. }) = &request.outcome else { continue };
        let caller = request.asked.caller;
        if request.asked.kind == Kind::Token && Plan::profile(caller) == "backend" {
            *given.entry(caller).or_default() += 1;
        }
    }
    let forward = world.plan.jumps.iter().filter(|(_, seconds)| *seconds > 0).count();
    // A store goes by its own clock.
    let hours = if world.plan.store.is_some() { 1 } else { 1 + forward as u32 };
    let most = TOKENS * hours + world.store.lost().1;
    let over = given.into_iter().filter(|(_, count)| *count > most);
    over.map(|(caller, count)| format!("caller {caller} got {count} tokens of {most}")).collect()
}

/// Whether in any time more have passed than the burst, what is given back in that time, and what was
/// forgiven in it; of which a limit may have `lost` so many, and come `late`.
fn exceeds(
    per_second: u32,
    lost: u32,
    all: &[Passed],
    late: impl Fn(Instant, Instant) -> Duration,
) -> Option<String> {
    let interval = (Duration::from_secs(1) / per_second).as_nanos();
    for (first, begin) in all.iter().enumerate() {
        for (last, end) in all.iter().enumerate().skip(first) {
            let passed = (last - first + 1) as u128;
            let time = end.at - begin.at;
            let back = match late(begin.at, end.at) {
                Duration::ZERO => time.as_nanos() / interval,
                late => (time + late).as_nanos().div_ceil(interval),
            };
            let most = u128::from(end.burst + lost + (end.lowered - begin.lowered)) + back;
            if passed > most {
                return Some(format!("{passed} in {time:?}, and {most} may"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a rate of ten a second is exceeded by these: when, the burst, and by how much it had been
    /// lowered.
    fn is_exceeded(passed: &[(u64, u32, u32)], late: u64) -> bool {
        let begin = Instant::now();
        let passed = passed.iter().map(|(at, burst, lowered)| Passed {
            at: begin + Duration::from_millis(*at),
            loads: 0,
            burst: *burst,
            lowered: *lowered,
        });
        let passed: Vec<_> = passed.collect();
        exceeds(10, 0, &passed, |_, _| Duration::from_millis(late)).is_some()
    }

    #[test]
    fn a_limit_is_exceeded_by_one_more_than_its_burst_and_what_is_given_back() {
        let of_two = |at: &[u64]| -> Vec<_> { at.iter().map(|at| (*at, 2, 0)).collect() };
        assert!(!is_exceeded(&of_two(&[0, 0, 100, 200, 500, 500]), 0));
        assert!(is_exceeded(&of_two(&[0, 0, 99]), 0) && !is_exceeded(&of_two(&[0, 0, 99]), 1));
        assert!(is_exceeded(&of_two(&[0, 300, 300, 350]), 0));
    }

    #[test]
    fn a_burst_that_is_another_hands_out_what_it_is_more_and_none_where_it_is_less() {
        // Of four, two are used; of six, four are left then, and of two, none.
        assert!(!is_exceeded(
            &[(0, 4, 0), (0, 4, 0), (0, 6, 0), (0, 6, 0), (0, 6, 0), (0, 6, 0)],
            0
        ));
        assert!(is_exceeded(&[(0, 4, 0); 4].into_iter().chain([(0, 2, 2)]).collect::<Vec<_>>(), 0));
        // What was owed beyond two was forgiven.
        let again = |more: usize| -> Vec<_> {
            let used = [(0, 4, 0); 4].into_iter();
            used.chain(std::iter::repeat_n((0, 4, 2), more)).collect()
        };
        assert!(!is_exceeded(&again(2), 0) && is_exceeded(&again(3), 0));
    }
}
