//! What the kernel knows of this process: the `process_*` families every Prometheus client has.
//!
//! The `go_*` families of the original describe Go's runtime and have no counterpart here. A value
//! that `/proc` does not give is left out.

use std::fs;

use super::registry::{Family, FamilyKind};

/// Clock ticks per second as the kernel reports them: 100 on every architecture Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

const CPU: Family = Family {
    name: "process_cpu_seconds_total",
    help: "Total user and system CPU time spent in seconds.",
    kind: FamilyKind::Counter,
};
const MAX_FDS: Family = Family {
    name: "process_max_fds",
    help: "Maximum number of open file descriptors.",
    kind: FamilyKind::Gauge,
};
const OPEN_FDS: Family = Family {
    name: "process_open_fds",
    help: "Number of open file descriptors.",
    kind: FamilyKind::Gauge,
};
const RESIDENT: Family = Family {
    name: "process_resident_memory_bytes",
    help: "Resident memory size in bytes.",
    kind: FamilyKind::Gauge,
};
const START_TIME: Family = Family {
    name: "process_start_time_seconds",
    help: "Start time of the process since unix epoch in seconds.",
    kind: FamilyKind::Gauge,
};
const VIRTUAL: Family = Family {
    name: "process_virtual_memory_bytes",
    help: "Virtual memory size in bytes.",
    kind: FamilyKind::Gauge,
};

/// The families with their values of this moment.
pub fn read() -> Vec<(Family, f64)> {
    let file = |name: &str| fs::read_to_string(name).unwrap_or_default();
    let (stat, status) = (file("/proc/self/stat"), file("/proc/self/status"));
    let boot_time = line_number(&file("/proc/stat"), "btime");
    let open_fds = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as f64);
    let kilobytes = |name| line_number(&status, name).map(|number| number * 1024.0);
    let cpu = Option::zip(stat_field(&stat, 14), stat_field(&stat, 15))
        .map(|(user, system)| (user + system) / TICKS_PER_SECOND);
    let start = Option::zip(boot_time, stat_field(&stat, 22))
        .map(|(boot, ticks)| boot + ticks / TICKS_PER_SECOND);
    [
        (CPU, cpu),
        (MAX_FDS, max_fds(&file("/proc/self/limits"))),
        (OPEN_FDS, open_fds),
        (RESIDENT, kilobytes("VmRSS:")),
        (START_TIME, start),
        (VIRTUAL, kilobytes("VmSize:")),
    ]
    .into_iter()
    .filter_map(|(family, value)| Some((family, value?)))
    .collect()
}

/// Field `number` of `/proc/PID/stat`, counted from one. The second is the command in parentheses,
/// which may hold anything, so counting starts behind the last one.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// The first number on the line that begins with `name`.
fn line_number(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// The soft limit of open files.
fn max_fds(limits: &str) -> Option<f64> {
    line_number(limits, "Max open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 12345 1000 20";
        assert_eq!(stat_field(stat, 14), Some(250.0));
        assert_eq!(stat_field(stat, 15), Some(50.0));
        assert_eq!(stat_field(stat, 22), Some(12_345.0));
        assert_eq!(stat_field("", 14), None);
    }

    #[test]
    fn lines_are_found_by_name() {
        assert_eq!(line_number("VmPeak: 9 kB\nVmRSS:\t   1234 kB\n", "VmRSS:"), Some(1234.0));
        assert_eq!(max_fds("Max open files            1024       4096     files\n"), Some(1024.0));
        assert_eq!(max_fds("Max open files            unlimited  unlimited  files\n"), None);
    }
}
