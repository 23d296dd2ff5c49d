//! File descriptors: how many the process may have, and how many of them connections may take.
//!
//! A process without any left can neither accept nor connect nor open a file. So callers get what
//! is left when enough is kept aside for the service, the admin listener and files.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept aside for the admin listener, files, names and the store.
const OTHERS: u64 = 32;

/// A worker has so many of its own, besides its listeners.
const WORKER: u64 = 4;

/// At most so many are kept aside for connections to the service: of the rest a half.
const SERVICE: u64 = 4096;

/// Raises the limit of descriptors to the most that the process may have, and gives it. A system
/// that refuses leaves it as it was.
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The limit that counts now.
pub(super) fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The most that the limit could be raised to.
pub fn highest_limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// How many connections of callers there can be at once within this limit, of so many that there
/// may be, where so many descriptors are open and so many workers are to come.
pub fn connections(wanted: usize, limit: u64, open: u64, workers: usize) -> usize {
    let rest = limit.saturating_sub(open + OTHERS + WORKER * workers as u64);
    let for_callers = rest - (rest / 2).min(SERVICE);
    wanted.min(usize::try_from(for_callers).unwrap_or(usize::MAX))
}

/// How many there are now; those of a process that has just begun where that cannot be seen.
pub(super) fn open() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(16, |entries| entries.count() as u64)
}

/// Whether an error says that there is none left, for the process or the machine.
pub(super) fn are_out(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(rustix::io::Errno::MFILE.raw_os_error())
        || code == Some(rustix::io::Errno::NFILE.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_get_what_is_left_when_enough_is_kept_aside() {
        for (limit, taken) in [
            (1_048_576, 10_000),
            (20_000, 10_000),
            (4_096, 2_013),
            (1_024, 477),
            (100, 15),
            (70, 0),
            (16, 0),
        ] {
            assert_eq!(connections(10_000, limit, 30, 2), taken, "{limit}");
        }
    }
}
