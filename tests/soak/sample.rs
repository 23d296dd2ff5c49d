//! What a process holds: open descriptors and resident memory, looked at once a second.

use std::fs;
use std::time::Duration;

/// How far a start is left behind before anything is compared: pools, caches and allocators fill.
const WARM_UP: Duration = Duration::from_secs(8);

/// What a process held, second by second.
#[derive(Default)]
pub(crate) struct Series {
    samples: Vec<Sample>,
}

struct Sample {
    at: Duration,
    descriptors: usize,
    memory_kib: u64,
}

/// What the first third and the last third of a life held.
pub(crate) struct Thirds {
    pub(crate) descriptors: (usize, usize),
    pub(crate) memory_kib: (u64, u64),
}

impl Series {
    /// Looks at a process that has lived so long.
    pub(crate) fn look(&mut self, process: u32, at: Duration) {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).map(Iterator::count);
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
        // It may be gone by now.
        if let (Ok(descriptors), Some(memory_kib)) = (descriptors, memory) {
            self.samples.push(Sample { at, descriptors, memory_kib });
        }
    }

    /// The most descriptors and the mean of the memory in the first and the last third; `None` of a
    /// life that was too short.
    pub(crate) fn thirds(&self) -> Option<Thirds> {
        let warm: Vec<&Sample> = self.samples.iter().filter(|one| one.at >= WARM_UP).collect();
        let third = warm.len() / 3;
        if third == 0 {
            return None;
        }
        let (first, last) = (&warm[..third], &warm[warm.len() - third..]);
        let most = |part: &[&Sample]| part.iter().map(|one| one.descriptors).max().unwrap_or(0);
        let mean = |part: &[&Sample]| {
            part.iter().map(|one| one.memory_kib).sum::<u64>() / part.len() as u64
        };
        let (descriptors, memory_kib) = ((most(first), most(last)), (mean(first), mean(last)));
        Some(Thirds { descriptors, memory_kib })
    }
}

impl Thirds {
    /// Whether nothing has grown: a few connections more or less are chance, and so is a tenth of
    /// the memory.
    pub(crate) fn are_flat(&self) -> bool {
        let (first, last) = self.descriptors;
        let (before, after) = self.memory_kib;
        last <= first + 10 && after <= before + before / 10 + 4 * 1024
    }
}
