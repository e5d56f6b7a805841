//! [`Machine`]: what `/proc` says about the whole machine.

use super::lines::{lines, number, numbers, thousandths, words};
use super::rejects::Rejects;
use super::root::{Buffer, Root};

/// Nanoseconds per tick of `/proc/stat`: the kernel's interface has 100 ticks per second.
const TICK_NANOS: i64 = 10_000_000;

/// Interfaces that carry no traffic of their own, by the start of their names; only asked when no
/// interface has a device behind it, as in a container.
const VIRTUAL_INTERFACES: [&str; 22] = [
    "lo",
    "veth",
    "docker",
    "br-",
    "virbr",
    "lxc",
    "lxdbr",
    "cni",
    "cali",
    "cilium",
    "flannel",
    "kube-",
    "nodelocaldns",
    "tap",
    "tun",
    "vnet",
    "dummy",
    "ifb",
    "vxlan",
    "geneve",
    "gre",
    "sit",
];

/// Numbers of the whole machine; what could not be read is `None`.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// Boot as seconds since the Unix epoch. Moves when the wall clock is set.
    pub boot_seconds: Option<i64>,
    pub uptime_ms: Option<i64>,
    pub online_cpus: i64,
    /// Time of all CPUs spent on anything but idling, waiting and other virtual machines.
    pub cpu_nanos: Option<i64>,
    /// One-minute load average times a thousand.
    pub load: Option<i64>,
    pub memory: Memory,
    pub page_faults: Option<i64>,
    pub major_page_faults: Option<i64>,
    pub network: Option<Network>,
}

/// `/proc/meminfo` in bytes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub total: Option<i64>,
    pub used: Option<i64>,
    pub inactive_file: Option<i64>,
    pub anonymous: Option<i64>,
    pub file: Option<i64>,
}

/// Traffic of the counted interfaces together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Network {
    pub rx_bytes: i64,
    pub rx_errors: i64,
    pub tx_bytes: i64,
    pub tx_errors: i64,
}

impl Machine {
    pub fn read(root: &Root, buffer: &mut Buffer, rejects: &mut Rejects) -> Self {
        let mut machine = Self::default();
        let mut parse = |path: &'static str, kind, parse: &mut dyn FnMut(&[u8]) -> bool| match root
            .read(path, buffer)
        {
            Ok(bytes) if parse(bytes) => {}
            Ok(_) => rejects.add(kind, format_args!("{path} lacks an expected number")),
            Err(error) => rejects.add(kind, format_args!("{path}: {error}")),
        };
        parse("proc/stat", "no processor times", &mut |bytes| machine.set_stat(bytes));
        parse("proc/uptime", "no uptime", &mut |bytes| {
            machine.uptime_ms = words(bytes.trim_ascii()).next().and_then(thousandths);
            machine.uptime_ms.is_some()
        });
        parse("proc/loadavg", "no load average", &mut |bytes| {
            machine.load = words(bytes.trim_ascii()).next().and_then(thousandths);
            machine.load.is_some()
        });
        parse("proc/meminfo", "no memory numbers", &mut |bytes| {
            machine.memory = Memory::parse(bytes);
            machine.memory.total.is_some() && machine.memory.used.is_some()
        });
        parse("proc/vmstat", "no page faults", &mut |bytes| {
            [machine.page_faults, machine.major_page_faults] =
                numbers(bytes, ["pgfault", "pgmajfault"]);
            machine.page_faults.is_some() && machine.major_page_faults.is_some()
        });
        // Another root's network is that of its first process, not ours.
        let own = if root.is_machine() || !root.has("proc/1/net/dev") {
            "proc/net/dev"
        } else {
            "proc/1/net/dev"
        };
        parse(own, "no network counters", &mut |bytes| {
            let has_device = |name: &str| root.has(&format!("sys/class/net/{name}/device"));
            machine.network = Network::parse(bytes, has_device);
            machine.network.is_some()
        });
        machine
    }

    fn set_stat(&mut self, bytes: &[u8]) -> bool {
        for line in lines(bytes) {
            let mut words = words(line);
            match words.next() {
                Some(b"cpu") => self.cpu_nanos = busy_nanos(words),
                Some(b"btime") => self.boot_seconds = words.next().and_then(number),
                Some(key) if is_cpu(key) => self.online_cpus += 1,
                _ => {}
            }
        }
        self.cpu_nanos.is_some() && self.boot_seconds.is_some() && self.online_cpus > 0
    }
}

fn is_cpu(key: &[u8]) -> bool {
    key.strip_prefix(b"cpu").and_then(number).is_some()
}

/// User, nice, system, irq and softirq of a `cpu` line. Guests are part of user and nice.
fn busy_nanos<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<i64> {
    let mut ticks: i64 = 0;
    for (column, is_busy) in [true, true, true, false, false, true, true].into_iter().enumerate() {
        let Some(word) = words.next() else {
            // Old kernels end early; the first four columns were always there.
            return (column >= 4).then(|| ticks.checked_mul(TICK_NANOS)).flatten();
        };
        if is_busy {
            ticks = ticks.checked_add(number(word)?)?;
        }
    }
    ticks.checked_mul(TICK_NANOS)
}

impl Memory {
    fn parse(bytes: &[u8]) -> Self {
        let keys = [
            "MemTotal",
            "MemFree",
            "Buffers",
            "Cached",
            "SwapCached",
            "AnonPages",
            "Inactive(file)",
        ];
        let kib = numbers(bytes, keys);
        let [total, free, buffers, cached, swap_cached, anonymous, inactive_file] =
            kib.map(|kib| kib.and_then(|kib| kib.checked_mul(1024)));
        let used = total.zip(free).map(|(total, free)| (total - free).max(0));
        let file = cached.and_then(|cached| {
            cached.checked_add(buffers.unwrap_or(0))?.checked_add(swap_cached.unwrap_or(0))
        });
        Self { total, used, inactive_file, anonymous, file }
    }
}

impl Network {
    /// Sums the interfaces of `/proc/net/dev` that have a device behind them, or, when none has,
    /// those whose names do not look virtual. `None` when there is no table.
    fn parse(bytes: &[u8], has_device: impl Fn(&str) -> bool) -> Option<Self> {
        let mut is_table = false;
        let mut physical: Option<Self> = None;
        let mut named = Self::default();
        for line in lines(bytes) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                is_table |= words(line).any(|word| word.starts_with(b"bytes"));
                continue;
            };
            let Ok(name) = std::str::from_utf8(line[..colon].trim_ascii()) else { continue };
            let Some(counters) = Self::parse_counters(&line[colon + 1..]) else { continue };
            is_table = true;
            if name == "lo" || name.contains('/') {
                continue;
            }
            if has_device(name) {
                physical.get_or_insert_default().add(&counters)?;
            } else if !VIRTUAL_INTERFACES.iter().any(|start| name.starts_with(start)) {
                named.add(&counters)?;
            }
        }
        is_table.then(|| physical.unwrap_or(named))
    }

    fn parse_counters(columns: &[u8]) -> Option<Self> {
        let mut words = words(columns);
        Some(Self {
            rx_bytes: number(words.next()?)?,
            rx_errors: number(words.nth(1)?)?,
            // Columns: bytes packets errs drop fifo frame compressed multicast, then the same way out.
            tx_bytes: number(words.nth(5)?)?,
            tx_errors: number(words.nth(1)?)?,
        })
    }

    fn add(&mut self, other: &Self) -> Option<()> {
        self.rx_bytes = self.rx_bytes.checked_add(other.rx_bytes)?;
        self.rx_errors = self.rx_errors.checked_add(other.rx_errors)?;
        self.tx_bytes = self.tx_bytes.checked_add(other.tx_bytes)?;
        self.tx_errors = self.tx_errors.checked_add(other.tx_errors)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &[u8] = b"Inter-| Receive | Transmit\n face |bytes packets errs drop\n\
        lo: 9 1 9 0 0 0 0 0 9 1 9 0 0 0 0 0\n\
        eth0:100 1 2 0 0 0 0 0 30 1 4 0 0 0 0 0\n\
        \xff\xfe: 1 1 1 1\n\
        docker0: 7 1 7 0 0 0 0 0 7 1 7 0 0 0 0 0\n\
        wlan0: 1000 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n";

    #[test]
    fn interfaces_with_a_device_are_summed_and_names_decide_only_without_any() {
        let sum = |rx_bytes, rx_errors, tx_bytes, tx_errors| {
            Some(Network { rx_bytes, rx_errors, tx_bytes, tx_errors })
        };
        assert_eq!(Network::parse(DEV, |name| name == "eth0"), sum(100, 2, 30, 4));
        assert_eq!(Network::parse(DEV, |_| false), sum(1100, 2, 230, 4));
        assert_eq!(Network::parse(b"\x00\x01\n", |_| true), None);
    }

    #[test]
    fn busy_time_leaves_out_idling_waiting_and_stolen_time() {
        let busy = |line: &str| busy_nanos(words(line.as_bytes()));
        assert_eq!(busy("1 2 4 1000 1000 8 16 1000 1 1"), Some(31 * TICK_NANOS));
        assert_eq!(busy("1 2 4 1000"), Some(7 * TICK_NANOS));
        assert_eq!(busy("1 2"), None);
        assert_eq!(busy("9223372036854775807 1 1 1 1 1 1"), None);
    }
}
