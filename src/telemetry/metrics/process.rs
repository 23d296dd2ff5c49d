//! What the process takes of the machine, by the names that Prometheus has for it everywhere.
//!
//! Read when they are asked for. What a system does not say is omitted: all of this is from Linux but
//! the processor time.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};

use crate::metric::{Metric, Samples};
use crate::text;

/// The process, which has no owner here.
pub const PROCESS: &[Metric<()>] = &[
    Metric::counter("process_cpu_seconds", "Processor time used, in seconds", &[], |(), out| {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        out.add(&[], time.tv_sec as f64 + time.tv_nsec as f64 / 1e9);
    }),
    Metric::gauge("process_resident_memory_bytes", "Memory held, in bytes", &[], |(), out| {
        known(resident_memory(), out);
    }),
    Metric::gauge("process_open_fds", "File descriptors open", &[], |(), out| {
        known(open_files(), out);
    }),
    Metric::gauge("process_max_fds", "File descriptors that may be open", &[], |(), out| {
        known(files_limit(), out);
    }),
];

fn known(value: Option<u64>, out: &mut Samples) {
    value.into_iter().for_each(|value| out.add(&[], value));
}

/// The memory that the process may use, in bytes: the least bound of the control groups that it is
/// in, or what the machine has.
pub fn memory_limit() -> Option<u64> {
    let machine = kibibytes(&text::of_kernel("/proc/meminfo")?, "MemTotal:")?;
    let groups = text::of_kernel("/proc/self/cgroup").unwrap_or_default();
    let bounds = bounds(&groups, |path| text::of_kernel(path));
    Some(bounds.into_iter().fold(machine, u64::min))
}

fn resident_memory() -> Option<u64> {
    kibibytes(&text::of_kernel("/proc/self/status")?, "VmRSS:")
}

fn open_files() -> Option<u64> {
    // The folder itself is open while it is read.
    let open = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u64::try_from(open).ok()
}

fn files_limit() -> Option<u64> {
    soft_limit(&text::of_kernel("/proc/self/limits")?, "Max open files")
}

/// The first number of a line of `/proc/self/limits`; `unlimited` is none.
fn soft_limit(text: &str, name: &str) -> Option<u64> {
    let limits = text.lines().find_map(|line| line.strip_prefix(name))?;
    limits.split_whitespace().next()?.parse().ok()
}

/// The value of a line such as `VmRSS:    1234 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The bounds of control groups, of both versions, from `/proc/self/cgroup`. In a container its own
/// group is the root of the tree, and the path that is given may not be there.
fn bounds(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Vec<u64> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = PathBuf::from(root).join(path.trim_start_matches('/'));
        for folder in group.ancestors().take_while(|folder| folder.starts_with(root)) {
            // `max` is no bound.
            found.extend(read(&folder.join(file)).and_then(|text| text.trim().parse::<u64>().ok()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_every_group_on_the_way_to_the_root_count() {
        let read = |path: &Path| {
            let text = match path.to_str()? {
                "/sys/fs/cgroup/system.slice/gateway.service/memory.max" => "max\n",
                "/sys/fs/cgroup/system.slice/memory.max" => "1073741824\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes" => "9223372036854771712\n",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes" => "536870912\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert_eq!(bounds("0::/system.slice/gateway.service\n", read), [1 << 30]);
        let first = "12:pids:/a\n11:memory:/a\n1:name=systemd:/a\n";
        assert_eq!(bounds(first, read), [512 << 20, 9_223_372_036_854_771_712]);
        assert!(bounds("0::/../outside\n", |_| None).is_empty());
        assert!(bounds("", read).is_empty());
    }

    #[test]
    fn sizes_and_limits_are_read_from_their_lines() {
        assert_eq!(kibibytes("Name:\tx\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(kibibytes("VmRSS:\t12\n", "VmRSS:"), None);
        assert_eq!(kibibytes("", "VmRSS:"), None);
        let limits = "Max processes   unlimited   unlimited   processes\n\
                      Max open files            1024                 1048576              files\n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(1024));
        assert_eq!(soft_limit(limits, "Max processes"), None);
    }
}
