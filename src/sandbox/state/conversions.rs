//! The conversions: of each type one runs at a time in a region, the others queue.
//!
//! Nothing runs in the background. Whoever looks first lets everything happen that should have
//! happened by then, so what is seen depends on the time alone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::id::{KEPT, task_uuid};
use super::task::{ConversionKind, ConversionRequest, ConversionStep, Family, Task};
use crate::sandbox::refusal::SandboxError;

/// How long a task can be asked for: seven days.
const SHOWN_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// What shares one place to run in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Lane {
    family: Family,
    region: Box<str>,
    kind: ConversionKind,
}

#[derive(Debug, Default)]
struct ConversionQueue {
    running: Option<String>,
    waiting: VecDeque<String>,
    /// Since when nothing runs.
    free_since_ms: u64,
}

/// A task that is asked about: its uuid, in a region, by one of the two interfaces.
#[derive(Clone, Copy)]
pub(in crate::sandbox) struct AskedTask<'a> {
    pub(in crate::sandbox) family: Family,
    pub(in crate::sandbox) uuid: &'a str,
    pub(in crate::sandbox) region: &'a str,
    pub(in crate::sandbox) now_ms: u64,
}

/// Every conversion.
pub(in crate::sandbox) struct Conversions {
    pace_ms: u64,
    /// The most that wait in one queue.
    most: usize,
    tasks: HashMap<String, Task>,
    /// The oldest first, to be forgotten.
    by_age: VecDeque<String>,
    queues: BTreeMap<Lane, ConversionQueue>,
}

/// What a webhook is to be told about a task.
#[derive(Debug, PartialEq)]
pub(in crate::sandbox) enum Notice {
    /// Nothing yet.
    Pending,
    /// This.
    Ready(Value),
    /// Nothing: it was cancelled or forgotten.
    Never,
}

impl Conversions {
    pub(super) fn new(pace: Duration, most: usize) -> Self {
        Self {
            pace_ms: u64::try_from(pace.as_millis()).unwrap_or(u64::MAX),
            most,
            tasks: HashMap::new(),
            by_age: VecDeque::new(),
            queues: BTreeMap::new(),
        }
    }

    /// Queues a conversion; its uuid and the answer.
    pub(in crate::sandbox) fn start(
        &mut self,
        order: ConversionRequest<'_>,
        now_ms: u64,
    ) -> Result<(String, Value), SandboxError> {
        self.advance(now_ms);
        let lane = Lane { family: order.family, region: order.region.into(), kind: order.kind };
        let queue = self.queues.entry(lane).or_default();
        if queue.waiting.len() >= self.most {
            return Err(SandboxError::QueueFull);
        }
        if self.by_age.len() >= KEPT
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.tasks.remove(&oldest);
        }
        let uuid = task_uuid();
        queue.waiting.push_back(uuid.clone());
        self.by_age.push_back(uuid.clone());
        let task = Task::new(&order, now_ms);
        let answer = task.started(&uuid);
        self.tasks.insert(uuid.clone(), task);
        Ok((uuid, answer))
    }

    /// How far a conversion is; with a `kind`, that of one of that kind alone.
    pub(in crate::sandbox) fn get(
        &mut self,
        asked: AskedTask<'_>,
        kind: Option<ConversionKind>,
    ) -> Result<Value, SandboxError> {
        let pace_ms = self.pace_ms;
        let task = self.find(asked)?;
        if kind.is_some_and(|kind| kind != task.kind) {
            return Err(SandboxError::NoTask);
        }
        Ok(task.view(asked.uuid, asked.now_ms, pace_ms))
    }

    /// The tasks of a region that run or wait, in the order in which they will be done.
    pub(in crate::sandbox) fn list(&mut self, region: &str, now_ms: u64) -> Value {
        self.advance(now_ms);
        let mut list = Vec::new();
        for (lane, queue) in &self.queues {
            if lane.family != Family::Projector || *lane.region != *region {
                continue;
            }
            list.extend(queue.running.iter().map(|uuid| json!({ "taskId": uuid, "status": 1 })));
            list.extend(queue.waiting.iter().map(|uuid| json!({ "taskId": uuid, "status": 0 })));
        }
        Value::Array(list)
    }

    /// Ends a task that runs or waits; one that has ended cannot be.
    pub(in crate::sandbox) fn cancel(
        &mut self,
        asked: AskedTask<'_>,
    ) -> Result<Value, SandboxError> {
        let AskedTask { uuid, now_ms, .. } = asked;
        let success = self.find(asked)?.abort();
        for queue in self.queues.values_mut().filter(|_| success) {
            queue.waiting.retain(|other| other != uuid);
            if queue.running.take_if(|running| running == uuid).is_some() {
                queue.free_since_ms = now_ms;
            }
        }
        Ok(json!({ "taskId": uuid, "success": success }))
    }

    /// Moves a waiting task to the front of its queue, or to the end.
    pub(in crate::sandbox) fn prioritize(
        &mut self,
        asked: AskedTask<'_>,
        body: &Map<String, Value>,
    ) -> Result<Value, SandboxError> {
        let (task, uuid) = (self.find(asked)?, asked.uuid);
        if let ConversionStep::Converting { .. } = task.step {
            return Err(SandboxError::Running);
        }
        let first = body.get("priority").and_then(Value::as_str) == Some("highest");
        let mut success = false;
        for queue in self.queues.values_mut() {
            let Some(place) = queue.waiting.iter().position(|other| other == uuid) else {
                continue;
            };
            success = true;
            if let Some(moved) = queue.waiting.remove(place) {
                if first {
                    queue.waiting.push_front(moved);
                } else {
                    queue.waiting.push_back(moved);
                }
            }
        }
        Ok(json!({ "taskId": uuid, "success": success }))
    }

    /// What the webhook of a task is to be told.
    pub(in crate::sandbox) fn notice(&mut self, uuid: &str, now_ms: u64) -> Notice {
        self.advance(now_ms);
        self.tasks.get(uuid).map_or(Notice::Never, |task| match task.step {
            ConversionStep::Waiting | ConversionStep::Converting { .. } => Notice::Pending,
            ConversionStep::Finished | ConversionStep::Failed => {
                Notice::Ready(task.notice(uuid, now_ms))
            }
            ConversionStep::Aborted => Notice::Never,
        })
    }

    fn find(&mut self, asked: AskedTask<'_>) -> Result<&mut Task, SandboxError> {
        let AskedTask { family, uuid, region, now_ms } = asked;
        self.advance(now_ms);
        let task = self.tasks.get_mut(uuid).filter(|task| {
            let age_ms = now_ms.saturating_sub(task.created_at_ms);
            task.family == family && *task.region == *region && age_ms < SHOWN_MS
        });
        task.ok_or(SandboxError::NoTask)
    }

    /// Lets happen what should have happened by now.
    fn advance(&mut self, now_ms: u64) {
        for queue in self.queues.values_mut() {
            queue.advance(&mut self.tasks, self.pace_ms, now_ms);
        }
    }
}

impl ConversionQueue {
    fn advance(&mut self, tasks: &mut HashMap<String, Task>, pace_ms: u64, now_ms: u64) {
        loop {
            if let Some(task) = self.running.as_ref().and_then(|uuid| tasks.get_mut(uuid)) {
                let Some(end_ms) = task.end(pace_ms, now_ms) else { return };
                self.free_since_ms = end_ms;
            }
            self.running = None;
            let Some(next) = self.waiting.front() else { return };
            if let Some(task) = tasks.get_mut(next) {
                if !task.begin(self.free_since_ms, pace_ms, now_ms) {
                    return;
                }
                self.running = self.waiting.pop_front();
            } else {
                self.waiting.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE_MS: u64 = 1000;

    fn conversions() -> Conversions {
        Conversions::new(Duration::from_millis(PACE_MS), 3)
    }

    fn task<'a>(family: Family, uuid: &'a str, region: &'a str, now_ms: u64) -> AskedTask<'a> {
        AskedTask { family, uuid, region, now_ms }
    }

    fn order(kind: &str) -> ConversionRequest<'static> {
        ConversionRequest::new(Family::Projector, "us-sv", ConversionKind::of(Some(kind)))
    }

    fn started(all: &mut Conversions, kind: &str, now_ms: u64) -> String {
        all.start(order(kind), now_ms).unwrap().0
    }

    fn status(all: &mut Conversions, uuid: &str, now_ms: u64) -> String {
        let view = all.get(task(Family::Projector, uuid, "us-sv", now_ms), None).unwrap();
        view["status"].as_str().unwrap().to_owned()
    }

    fn priority(all: &mut Conversions, uuid: &str, word: &str, now_ms: u64) -> Value {
        let Value::Object(body) = json!({ "priority": word }) else { unreachable!() };
        all.prioritize(task(Family::Projector, uuid, "us-sv", now_ms), &body)
            .unwrap_or_else(|refusal| refusal.body())
    }

    #[test]
    fn a_conversion_moves_through_its_steps() {
        let mut all = conversions();
        let uuid = started(&mut all, "static", 0);
        for (now_ms, expected) in
            [(0, "Waiting"), (999, "Waiting"), (1000, "Converting"), (1999, "Converting")]
        {
            assert_eq!(status(&mut all, &uuid, now_ms), expected, "at {now_ms}");
        }
        assert_eq!(status(&mut all, &uuid, 2000), "Finished");
    }

    #[test]
    fn one_of_a_type_runs_and_the_others_wait() {
        let mut all = conversions();
        let first = started(&mut all, "static", 0);
        let second = started(&mut all, "static", 0);
        let other = started(&mut all, "dynamic", 0);
        let list = json!([
            {"taskId": other, "status": 1},
            {"taskId": first, "status": 1},
            {"taskId": second, "status": 0},
        ]);
        assert_eq!(all.list("us-sv", 1500), list);
        assert_eq!(all.list("sg", 1500), json!([]));
        assert_eq!(status(&mut all, &second, 2500), "Converting");
        assert_eq!(status(&mut all, &second, 3000), "Finished", "it began when the first ended");
        assert_eq!(all.list("us-sv", 3000), json!([]));
    }

    #[test]
    fn nobody_needs_to_look_for_time_to_pass() {
        let mut all = conversions();
        let uuids: Vec<_> = (0..3).map(|_| started(&mut all, "dynamic", 0)).collect();
        assert_eq!(status(&mut all, &uuids[2], 3999), "Converting");
        assert_eq!(status(&mut all, &uuids[2], 4000), "Finished");
    }

    #[test]
    fn a_waiting_task_can_be_moved_and_a_running_one_not() {
        let mut all = conversions();
        let uuids: Vec<_> = (0..3).map(|_| started(&mut all, "static", 0)).collect();
        assert_eq!(
            priority(&mut all, &uuids[2], "highest", 1500),
            json!({"taskId": uuids[2], "success": true})
        );
        assert_eq!(status(&mut all, &uuids[2], 2500), "Converting");
        assert_eq!(status(&mut all, &uuids[1], 2500), "Waiting");
        assert_eq!(priority(&mut all, &uuids[2], "lowest", 2500)["code"], "2010607");
        assert_eq!(priority(&mut all, &uuids[0], "lowest", 2500)["success"], false, "it has ended");
    }

    #[test]
    fn a_cancelled_task_makes_room() {
        let mut all = conversions();
        let running = started(&mut all, "static", 0);
        let waiting = started(&mut all, "static", 0);
        let cancelled = all.cancel(task(Family::Projector, &running, "us-sv", 1200)).unwrap();
        assert_eq!(cancelled, json!({"taskId": running, "success": true}));
        assert_eq!(status(&mut all, &running, 1200), "Abort");
        assert_eq!(status(&mut all, &waiting, 1300), "Converting");
        assert_eq!(
            all.cancel(task(Family::Projector, &waiting, "us-sv", 9000)).unwrap()["success"],
            false
        );
        assert_eq!(all.notice(&running, 9000), Notice::Never);
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let mut all = conversions();
        for _ in 0..3 {
            started(&mut all, "static", 0);
        }
        assert_eq!(all.start(order("static"), 0).unwrap_err(), SandboxError::QueueFull);
        assert!(all.start(order("dynamic"), 0).is_ok());
        assert!(all.start(order("static"), 1000).is_ok(), "the first runs now");
    }

    #[test]
    fn a_task_is_known_to_its_family_region_and_week_alone() {
        let mut all = conversions();
        let uuid = started(&mut all, "static", 0);
        let refused = Err(SandboxError::NoTask);
        assert_eq!(all.get(task(Family::Legacy, &uuid, "us-sv", 0), None), refused);
        assert_eq!(all.get(task(Family::Projector, &uuid, "sg", 0), None), refused);
        assert!(all.get(task(Family::Projector, &uuid, "us-sv", SHOWN_MS - 1), None).is_ok());
        assert_eq!(all.get(task(Family::Projector, &uuid, "us-sv", SHOWN_MS), None), refused);
    }

    #[test]
    fn one_of_the_deprecated_kind_is_asked_for_with_its_type() {
        let mut all = conversions();
        let order = ConversionRequest::new(Family::Legacy, "us-sv", ConversionKind::Static);
        let (uuid, _) = all.start(order, 0).unwrap();
        let get = |all: &mut Conversions, kind| {
            all.get(task(Family::Legacy, &uuid, "us-sv", 0), Some(kind))
        };
        assert!(get(&mut all, ConversionKind::Static).is_ok());
        assert_eq!(get(&mut all, ConversionKind::Dynamic), Err(SandboxError::NoTask));
    }

    #[test]
    fn the_oldest_task_is_forgotten() {
        let mut all = Conversions::new(Duration::ZERO, usize::MAX);
        let first = started(&mut all, "static", 0);
        for _ in 0..KEPT {
            started(&mut all, "static", 0);
        }
        assert_eq!(all.tasks.len(), KEPT);
        assert_eq!(all.notice(&first, 0), Notice::Never);
    }

    #[test]
    fn the_webhook_hears_of_the_end() {
        let mut all = conversions();
        let uuid = started(&mut all, "static", 0);
        assert_eq!(all.notice(&uuid, 1999), Notice::Pending);
        let Notice::Ready(notice) = all.notice(&uuid, 2000) else { panic!("no notice") };
        assert_eq!(notice["data"]["taskId"], uuid);
    }
}
