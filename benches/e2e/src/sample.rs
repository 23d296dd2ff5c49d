//! What a process tree and the whole machine have used so far, from `/proc`.

use std::fs;
use std::ops::Sub;

/// The processes of a tree.
#[derive(Clone, Debug)]
pub struct Tree(Vec<u32>);

/// What a tree has used since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Seconds of CPU in user mode.
    pub user: f64,
    /// Seconds of CPU in the kernel.
    pub system: f64,
    /// Context switches because a thread had to wait.
    pub waited: f64,
    /// Context switches because a thread had run long enough.
    pub preempted: f64,
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            user: self.user - before.user,
            system: self.system - before.system,
            waited: self.waited - before.waited,
            preempted: self.preempted - before.preempted,
        }
    }
}

impl Usage {
    /// Seconds of CPU in both modes.
    pub fn cpu(&self) -> f64 {
        self.user + self.system
    }
}

impl Tree {
    /// A process and everything that it has started.
    pub fn of(root: u32) -> Self {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|process| Some((process, Stat::of(process)?.parent)))
            .collect();
        let mut tree = vec![root];
        let mut next = 0;
        while let Some(parent) = tree.get(next).copied() {
            tree.extend(
                parents.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process),
            );
            next += 1;
        }
        Self(tree)
    }

    /// Its processes, the first one first.
    pub fn processes(&self) -> &[u32] {
        &self.0
    }

    /// What it has used until now.
    pub fn usage(&self) -> Usage {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let mut sum = Usage::default();
        for process in &self.0 {
            if let Some(stat) = Stat::of(*process) {
                sum.user += stat.user as f64 / ticks;
                sum.system += stat.system as f64 / ticks;
            }
            for thread in
                fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten()
            {
                let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
                sum.waited += number(&status, "voluntary_ctxt_switches:");
                sum.preempted += number(&status, "nonvoluntary_ctxt_switches:");
            }
        }
        sum
    }

    /// Its resident memory in KiB. Pages that two of its processes share are counted twice.
    pub fn memory_kib(&self) -> f64 {
        let status = |process| fs::read_to_string(format!("/proc/{process}/status"));
        self.0.iter().map(|process| number(&status(process).unwrap_or_default(), "VmRSS:")).sum()
    }
}

/// Seconds that the machine's cores have idled. What is neither idle nor ours is someone else's:
/// another process, or a neighbour under the same hypervisor, which need not be told as `steal`.
pub fn idled() -> f64 {
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    idle_ticks(&fs::read_to_string("/proc/stat").unwrap_or_default()) as f64 / ticks
}

/// Those without work, and those that wait for a disk.
fn idle_ticks(stat: &str) -> u64 {
    let fields = stat.lines().next().unwrap_or_default().split_ascii_whitespace();
    fields.skip(4).take(2).map(|field| field.parse().unwrap_or(0)).sum()
}

/// The fields of `/proc/PID/stat` that count here.
struct Stat {
    parent: u32,
    user: u64,
    system: u64,
}

impl Stat {
    fn of(process: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }

    /// The name in parentheses may hold spaces and parentheses: what follows the last one counts.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let user = fields.nth(9)?.parse().ok()?;
        let system = fields.next()?.parse().ok()?;
        Some(Self { parent, user, system })
    }
}

/// The number of a line that begins so.
fn number(status: &str, name: &str) -> f64 {
    let rest = status.lines().find_map(|line| line.strip_prefix(name));
    rest.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_moves_no_field() {
        let line = "7 (a (b) c) S 3 7 7 0 -1 4194560 100 0 0 0 11 22 0 0 20 0 1 0 5 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.user, stat.system), (3, 11, 22));
    }

    #[test]
    fn a_core_that_waits_for_a_disk_is_idle() {
        assert_eq!(idle_ticks("cpu  1 2 4 800 90 8 16 32 64 128\ncpu0 1 2 4 8 9 8 16\n"), 890);
    }

    #[test]
    fn a_process_is_in_its_own_tree_and_has_memory() {
        let tree = Tree::of(std::process::id());
        assert_eq!(tree.processes()[0], std::process::id());
        assert!(tree.memory_kib() > 100.0);
    }
}
