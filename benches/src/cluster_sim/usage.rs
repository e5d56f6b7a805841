//! How the resources of one cgroup, disk or network interface move: random walks stepped by the
//! kubelet's housekeeping.
//!
//! The model follows what real clusters show: most containers idle, CPU noise is lognormal around
//! a slow daily wave, memory moves in pages and often not at all, disks grow by a few blocks.
//! Every state is a function of its seed and the number of steps taken, never of when it was asked.

use super::random::Random;

/// Bytes of a page and of a file system block.
const PAGE: u64 = 4096;
const SECONDS_PER_DAY: f64 = 86_400.0;

/// What kind of program a cgroup runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Archetype {
    Idle,
    Web,
    Batch,
    Jvm,
    Database,
    /// The whole node, which is the busy sum of many.
    Machine,
}

/// The numbers of an archetype. Probabilities and amounts are for one minute.
struct Profile {
    cpu_cores: f64,
    cpu_noise: f64,
    daily_swing: f64,
    requests: f64,
    pages: f64,
    move_probability: f64,
    move_pages: f64,
    cache_probability: f64,
    log_probability: f64,
    log_blocks: u64,
}

impl Archetype {
    /// Draws one with the shares seen in clusters.
    pub(crate) fn draw(random: &mut Random) -> Self {
        match random.below(100) {
            0..40 => Self::Idle,
            40..67 => Self::Web,
            67..80 => Self::Batch,
            80..90 => Self::Jvm,
            _ => Self::Database,
        }
    }

    const fn profile(self) -> Profile {
        let rows = match self {
            Self::Idle => ([3e-4, 0.05, 0.0, 0.0, 8e3, 0.12, 3.0, 0.03, 0.02], 3),
            Self::Web => ([5e-2, 0.25, 0.8, 400.0, 3e4, 0.75, 60.0, 0.3, 0.35], 30),
            Self::Batch => ([2e-2, 0.3, 0.0, 50.0, 2e4, 0.5, 200.0, 0.3, 0.2], 40),
            Self::Jvm => ([1.5e-1, 0.2, 0.6, 900.0, 2.5e5, 0.95, 900.0, 0.4, 0.5], 30),
            Self::Database => ([2e-1, 0.2, 0.5, 1500.0, 5e5, 0.9, 600.0, 0.8, 0.9], 400),
            Self::Machine => ([2.0, 0.15, 0.4, 9000.0, 2e6, 1.0, 3000.0, 1.0, 1.0], 900),
        };
        let (
            [cpu_cores, cpu_noise, daily_swing, requests, pages, moves, move_pages, cache, log],
            blocks,
        ) = rows;
        Profile {
            cpu_cores,
            cpu_noise,
            daily_swing,
            requests,
            pages,
            move_probability: moves,
            move_pages,
            cache_probability: cache,
            log_probability: log,
            log_blocks: blocks,
        }
    }
}

/// The probability for a step of what has `per_minute` for a minute.
fn per_step(per_minute: f64, step_seconds: f64) -> f64 {
    1.0 - (1.0 - per_minute).powf(step_seconds / 60.0)
}

/// The memory numbers of a cgroup, or of several together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) usage_bytes: u64,
    pub(crate) working_set_bytes: u64,
    pub(crate) rss_bytes: u64,
    /// Counter.
    pub(crate) page_faults: u64,
    /// Counter.
    pub(crate) major_page_faults: u64,
}

impl Memory {
    /// Adds the numbers of another cgroup.
    pub(crate) fn add(&mut self, other: &Self) {
        self.usage_bytes += other.usage_bytes;
        self.working_set_bytes += other.working_set_bytes;
        self.rss_bytes += other.rss_bytes;
        self.page_faults += other.page_faults;
        self.major_page_faults += other.major_page_faults;
    }
}

/// CPU and memory of one cgroup.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    random: Random,
    archetype: Archetype,
    /// Cores used at rest.
    base_cores: f64,
    /// Logarithm of the momentary deviation, an AR(1) process.
    deviation: f64,
    is_bursting: bool,
    /// Nanoseconds are reported in multiples of this: 1000 under cgroup v2.
    cpu_unit_ns: u64,
    resident_pages: u64,
    drift_pages: f64,
    cache_pages: u64,
    kernel_pages: u64,
    inactive_pages: u64,
    collection_pages: u64,
    collection_steps: u64,
    steps: u64,
    /// Counter: nanoseconds of CPU used since the start.
    pub(crate) cpu_ns: u64,
    /// Nanocores over the last step.
    pub(crate) nanocores: u64,
    /// Counter: minor page faults since the start.
    pub(crate) page_faults: u64,
    /// Counter: major page faults since the start.
    pub(crate) major_page_faults: u64,
    /// Network requests served in the last step, for the pod's interface.
    pub(crate) requests: f64,
}

impl Cgroup {
    /// A cgroup that has run for `age_seconds`. `scale` multiplies CPU and memory.
    pub(crate) fn new(
        mut random: Random,
        archetype: Archetype,
        scale: f64,
        cpu_unit_ns: u64,
        age_seconds: u64,
    ) -> Self {
        let profile = archetype.profile();
        let base_cores = random.lognormal(profile.cpu_cores * scale, 0.9).clamp(1e-5, 3.0);
        let pages = (random.lognormal(profile.pages * scale, 0.6) as u64).max(256);
        let cpu_ns = (base_cores * 1e9 * age_seconds as f64) as u64;
        Self {
            archetype,
            base_cores,
            deviation: 0.0,
            is_bursting: false,
            cpu_unit_ns,
            resident_pages: pages,
            drift_pages: 0.0,
            cache_pages: (pages as f64 * random.unit() * 0.6) as u64,
            kernel_pages: 100 + random.below(800),
            inactive_pages: random.below(pages / 2 + 1),
            collection_pages: if archetype == Archetype::Jvm { pages * 35 / 100 } else { 0 },
            collection_steps: 20 + random.below(100),
            steps: random.below(120),
            cpu_ns: cpu_ns / cpu_unit_ns * cpu_unit_ns,
            nanocores: (base_cores * 1e9) as u64,
            page_faults: pages + random.below(pages),
            major_page_faults: random.below(40),
            requests: 0.0,
            random,
        }
    }

    /// Lets time pass: `step_seconds` that end at `now` (seconds since the epoch).
    pub(crate) fn step(&mut self, now: i64, step_seconds: f64) {
        let profile = self.archetype.profile();
        self.steps += 1;
        let rate = self.step_cpu(&profile, now, step_seconds);
        let load = rate / self.base_cores;
        let mean = profile.requests * load * step_seconds / 60.0;
        self.requests = (mean + mean.sqrt() * self.random.normal()).max(0.0).floor();
        self.step_memory(&profile, step_seconds);
    }

    fn step_cpu(&mut self, profile: &Profile, now: i64, step_seconds: f64) -> f64 {
        let memory = 0.9_f64.powf(step_seconds / 60.0);
        self.deviation =
            memory * self.deviation + (1.0 - memory * memory).sqrt() * self.random.normal();
        if self.archetype == Archetype::Batch {
            let flips = if self.is_bursting { 1.0 / 8.0 } else { 1.0 / 90.0 };
            self.is_bursting ^= self.random.chance(per_step(flips, step_seconds));
        }
        let day = now.rem_euclid(86_400) as f64 / SECONDS_PER_DAY;
        let wave = 0.5 - 0.5 * (std::f64::consts::TAU * (day - 0.15)).cos();
        let burst = if self.is_bursting { 30.0 } else { 1.0 };
        let rate = self.base_cores
            * (1.0 + 2.0 * profile.daily_swing * wave)
            * (self.deviation * profile.cpu_noise).exp()
            * burst;
        let used = (rate * step_seconds * 1e9) as u64 / self.cpu_unit_ns * self.cpu_unit_ns;
        self.cpu_ns += used;
        self.nanocores = (used as f64 / step_seconds) as u64;
        rate
    }

    fn step_memory(&mut self, profile: &Profile, step_seconds: f64) {
        let moved =
            if self.random.chance(per_step(profile.move_probability.min(0.999), step_seconds)) {
                let pages = (self.random.normal() * profile.move_pages).round();
                let burst = if self.is_bursting {
                    0.02 * self.resident_pages as f64 * self.random.unit()
                } else {
                    0.0
                };
                self.drift_pages = self.drift_pages * 0.998 + pages + burst;
                pages.abs() + burst
            } else {
                0.0
            };
        if self.random.chance(per_step(profile.cache_probability.min(0.999), step_seconds)) {
            self.cache_pages += self.random.below(12);
            // Reclaim: a cache does not outgrow the program it serves.
            if self.cache_pages > self.resident_pages {
                self.cache_pages /= 2;
            }
        }
        self.page_faults += moved as u64 + (self.requests / 20.0) as u64;
        self.major_page_faults += u64::from(self.random.chance(0.002));
    }

    /// Anonymous memory in bytes.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let saw =
            self.collection_pages * (self.steps % self.collection_steps) / self.collection_steps;
        let pages = self.resident_pages as f64 + self.drift_pages;
        ((pages.max(256.0) as u64) + saw) * PAGE
    }

    /// Memory that cannot be dropped easily, in bytes.
    pub(crate) fn working_set_bytes(&self) -> u64 {
        self.rss_bytes() + (self.cache_pages + self.kernel_pages) * PAGE
    }

    /// All memory charged, in bytes.
    pub(crate) fn usage_bytes(&self) -> u64 {
        self.working_set_bytes() + self.inactive_pages * PAGE
    }

    /// All of the memory numbers.
    pub(crate) fn memory(&self) -> Memory {
        Memory {
            usage_bytes: self.usage_bytes(),
            working_set_bytes: self.working_set_bytes(),
            rss_bytes: self.rss_bytes(),
            page_faults: self.page_faults,
            major_page_faults: self.major_page_faults,
        }
    }

    /// Starts afresh, as a restarted container does: counters begin at zero.
    pub(crate) fn restart(&mut self) {
        self.cpu_ns = 0;
        self.nanocores = 0;
        self.page_faults = self.resident_pages / 2;
        self.major_page_faults = 0;
        self.drift_pages = 0.0;
        self.cache_pages = 0;
    }

    /// Cores used at rest.
    pub(crate) fn base_cores(&self) -> f64 {
        self.base_cores
    }
}

/// What a file system holds of one owner.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    random: Random,
    growth_probability: f64,
    growth_blocks: u64,
    base_bytes: u64,
    rotated_bytes: u64,
    grown_bytes: u64,
    /// Inodes used.
    pub(crate) inodes_used: u64,
}

impl Disk {
    /// A disk that never changes.
    pub(crate) fn still(mut random: Random, blocks: u64) -> Self {
        let base_bytes = (1 + random.below(blocks)) * PAGE;
        Self {
            growth_probability: 0.0,
            growth_blocks: 0,
            base_bytes,
            rotated_bytes: u64::MAX,
            grown_bytes: 0,
            inodes_used: 3 + random.below(60),
            random,
        }
    }

    /// A log directory of a program: grows, and is cut when it has grown to 10 MiB.
    pub(crate) fn log(random: Random, archetype: Archetype) -> Self {
        let profile = archetype.profile();
        Self {
            growth_probability: profile.log_probability.min(0.999),
            growth_blocks: profile.log_blocks,
            rotated_bytes: 10 << 20,
            inodes_used: 2,
            ..Self::still(random, 200)
        }
    }

    /// The disk of a node: large, and it grows slowly.
    pub(crate) fn machine(random: Random) -> Self {
        Self {
            growth_probability: 0.6,
            growth_blocks: 300,
            rotated_bytes: 8 << 30,
            inodes_used: 319_790,
            ..Self::still(random, 8 << 20)
        }
    }

    /// Lets one housekeeping step pass.
    pub(crate) fn step(&mut self, step_seconds: f64) {
        if self.growth_probability == 0.0 {
            return;
        }
        if self.random.chance(per_step(self.growth_probability, step_seconds)) {
            self.grown_bytes += (1 + self.random.below(self.growth_blocks)) * PAGE;
            if self.grown_bytes >= self.rotated_bytes {
                self.grown_bytes = 0;
            }
        }
    }

    /// Bytes used.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.base_bytes + self.grown_bytes
    }
}

/// Counters of one network interface.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    random: Random,
    receive_size: u64,
    send_size: u64,
    probes: u64,
    /// Counter: bytes received.
    pub(crate) rx_bytes: u64,
    /// Counter: bytes sent.
    pub(crate) tx_bytes: u64,
    /// Counter: receive errors.
    pub(crate) rx_errors: u64,
    /// Counter: send errors.
    pub(crate) tx_errors: u64,
}

impl Interface {
    /// An interface that has been up for a while.
    pub(crate) fn new(mut random: Random, age_seconds: u64) -> Self {
        let receive_size = 300 + random.below(1200);
        let send_size = 500 + random.below(5500);
        Self {
            receive_size,
            send_size,
            probes: 1 + random.below(2),
            rx_bytes: age_seconds * random.below(receive_size * 4),
            tx_bytes: age_seconds * random.below(send_size * 4),
            rx_errors: 0,
            tx_errors: 0,
            random,
        }
    }

    /// Lets one housekeeping step pass in which that many requests were served.
    pub(crate) fn step(&mut self, requests: f64) {
        let spread = requests.sqrt() * 0.3;
        let mut traffic = |size: u64, probe: u64| {
            let bytes = (requests + spread * self.random.normal()).max(0.0) * size as f64;
            bytes as u64 + self.probes * probe + 66 * self.random.below(3)
        };
        self.rx_bytes += traffic(self.receive_size, 417);
        self.tx_bytes += traffic(self.send_size, 532);
        self.rx_errors += u64::from(self.random.chance(0.0005));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP_SECONDS: f64 = 10.0;

    fn cgroup(seed: u64, archetype: Archetype) -> Cgroup {
        Cgroup::new(Random::of(seed, "test"), archetype, 1.0, 1000, 3600)
    }

    #[test]
    fn counters_never_fall_and_cpu_is_whole_microseconds() {
        for archetype in [Archetype::Idle, Archetype::Web, Archetype::Batch, Archetype::Jvm] {
            let mut cgroup = cgroup(11, archetype);
            for step in 0..5_000 {
                let before = (cgroup.cpu_ns, cgroup.page_faults, cgroup.major_page_faults);
                cgroup.step(step * 10, STEP_SECONDS);
                assert!(cgroup.cpu_ns >= before.0, "cpu fell at step {step}");
                assert!(cgroup.page_faults >= before.1, "page faults fell at step {step}");
                assert!(cgroup.major_page_faults >= before.2);
                assert_eq!(cgroup.cpu_ns % 1000, 0);
                assert!(cgroup.rss_bytes() <= cgroup.working_set_bytes());
                assert!(cgroup.working_set_bytes() <= cgroup.usage_bytes());
            }
        }
    }

    #[test]
    fn memory_moves_in_pages_and_idle_memory_mostly_stands_still() {
        let mut cgroup = cgroup(12, Archetype::Idle);
        let mut unchanged = 0;
        for step in 0..1_000 {
            let before = cgroup.rss_bytes();
            cgroup.step(step * 10, STEP_SECONDS);
            unchanged += u32::from(before == cgroup.rss_bytes());
            assert_eq!(cgroup.working_set_bytes() % PAGE, 0);
        }
        assert!((900..1_000).contains(&unchanged), "unchanged in {unchanged} of 1000 steps");
    }

    #[test]
    fn logs_are_cut_when_they_have_grown() {
        let mut disk = Disk::log(Random::of(13, "log"), Archetype::Database);
        let (mut last, mut falls) = (disk.used_bytes(), 0);
        for _ in 0..20_000 {
            disk.step(STEP_SECONDS);
            falls += u32::from(disk.used_bytes() < last);
            last = disk.used_bytes();
            assert!(last < 12 << 20);
        }
        assert!(falls > 10, "rotated {falls} times");
    }
}
