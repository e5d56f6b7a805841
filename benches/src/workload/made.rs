//! An own maker of the data set GEN, for machines without the generator: the same model with other
//! random numbers, so that figures are alike but not the same.

use super::generated::{Generated, Instance, SLOTS_PER_NODE, Shape};
use crate::cluster_sim::random::Random;

const START_MS: i64 = 1_700_006_400_000;
const STEP_MS: i64 = 60_000;
const TIMES: usize = 1_440;
const TIMES_PER_HOUR: usize = 60;
const PAGE: i64 = 4096;
const SERVICES: u64 = 400;
const NAMESPACES: u64 = 40;
/// Of 100 nodes, those whose kernel counts CPU time in whole microseconds.
const MICROSECOND_NODES: u64 = 80;

/// What a kind of container does.
struct Archetype {
    container: &'static str,
    /// Of 100 containers.
    share: u64,
    cores: f64,
    /// How much of the CPU follows the day.
    daily: f64,
    noise: f64,
    /// Requests of a busy minute.
    requests: f64,
    pages: f64,
    /// How often memory moves, and by how many pages.
    memory_moves: f64,
    memory_step: f64,
    cache_grows: f64,
    log_grows: f64,
    log_step: u64,
}

#[rustfmt::skip]
const ARCHETYPES: [Archetype; 5] = [
    Archetype { container: "api", share: 40, cores: 3e-4, daily: 0.0, noise: 0.05, requests: 0.0,
        pages: 8e3, memory_moves: 0.12, memory_step: 3.0, cache_grows: 0.03, log_grows: 0.02, log_step: 3 },
    Archetype { container: "worker", share: 27, cores: 5e-2, daily: 0.8, noise: 0.25, requests: 400.0,
        pages: 3e4, memory_moves: 0.75, memory_step: 60.0, cache_grows: 0.3, log_grows: 0.35, log_step: 30 },
    Archetype { container: BATCH, share: 13, cores: 2e-2, daily: 0.0, noise: 0.3, requests: 50.0,
        pages: 2e4, memory_moves: 0.5, memory_step: 200.0, cache_grows: 0.3, log_grows: 0.2, log_step: 40 },
    Archetype { container: GARBAGE_COLLECTED, share: 10, cores: 0.15, daily: 0.6, noise: 0.2, requests: 900.0,
        pages: 2.5e5, memory_moves: 0.95, memory_step: 900.0, cache_grows: 0.4, log_grows: 0.5, log_step: 30 },
    Archetype { container: "db", share: 10, cores: 0.2, daily: 0.5, noise: 0.2, requests: 1500.0,
        pages: 5e5, memory_moves: 0.9, memory_step: 600.0, cache_grows: 0.8, log_grows: 0.9, log_step: 400 },
];
/// Works in bursts.
const BATCH: &str = "sidecar";
/// Its memory is a saw.
const GARBAGE_COLLECTED: &str = "app";

impl Generated {
    /// A day by the minute of so many container slots.
    pub fn made(slots: usize) -> Self {
        let shape = Shape { slots, times: TIMES };
        let clocks = (0..shape.nodes()).flat_map(clock_of).collect();
        let mut rows = Vec::with_capacity(slots * TIMES);
        let mut instances = Vec::with_capacity(slots);
        for slot in 0..slots {
            let mut random = Random::of(slot as u64, "slot");
            let archetype = archetype(&mut random);
            let of_slot = instances_of(slot, archetype, &mut random);
            let starts: Vec<usize> = of_slot.iter().map(|one| one.times.start).collect();
            let mut usage = Usage::new(slot, archetype, random);
            for time in 0..TIMES {
                if time > 0 && starts.contains(&time) {
                    usage.counters = [0; 3];
                }
                rows.push(usage.minute(time));
            }
            instances.push(of_slot);
        }
        Self::from_parts(shape, rows, clocks, instances)
    }
}

/// One clock per node; one scrape in 50 is late.
fn clock_of(node: usize) -> impl Iterator<Item = i64> {
    let mut random = Random::of(node as u64, "clock");
    let phase = random.below(STEP_MS as u64) as i64;
    (0..TIMES as i64).map(move |time| {
        let late = if random.chance(0.02) { 3 + random.below(48) as i64 } else { 0 };
        START_MS + phase + time * STEP_MS + late
    })
}

fn archetype(random: &mut Random) -> &'static Archetype {
    let mut left = random.below(100);
    let found = ARCHETYPES.iter().find(|archetype| {
        let is_it = left < archetype.share;
        left = left.saturating_sub(archetype.share);
        is_it
    });
    found.unwrap_or(&ARCHETYPES[0])
}

/// 83 % stay, 15 % are replaced once with all of their service, 2 % every hour.
fn instances_of(slot: usize, archetype: &Archetype, random: &mut Random) -> Vec<Instance> {
    let service = random.below(SERVICES);
    let mut starts = vec![0];
    match random.below(100) {
        0..83 => {}
        83..98 => {
            let tenth = TIMES as u64 / 10;
            let roll = tenth + Random::of(service, "roll").below(TIMES as u64 - 2 * tenth);
            starts.push(roll as usize);
        }
        _ => starts.extend((1..TIMES / TIMES_PER_HOUR).map(|hour| hour * TIMES_PER_HOUR)),
    }
    let ends = starts[1..].iter().copied().chain([TIMES]);
    let namespace = format!("team-{:02}", service % NAMESPACES);
    let node = format!("node-{:03}", slot / SLOTS_PER_NODE);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let pod = format!("svc-{service:03}-{}-{}", random.suffix(9), random.suffix(5));
            Instance::new(*start..end, &namespace, &pod, archetype.container, &node)
        })
        .collect()
}

/// What a container uses, minute by minute.
struct Usage {
    archetype: &'static Archetype,
    random: Random,
    cores: f64,
    counts_microseconds: bool,
    /// Autocorrelated noise of the CPU.
    noise: f64,
    is_bursting: bool,
    /// CPU, received, sent.
    counters: [i64; 3],
    popularity: f64,
    request_sizes: [f64; 2],
    probes: u64,
    has_network: bool,
    pages: f64,
    moved_pages: f64,
    collects_every: usize,
    cache: i64,
    kernel: i64,
    logs: u64,
    log_max: u64,
}

impl Usage {
    fn new(slot: usize, archetype: &'static Archetype, mut random: Random) -> Self {
        let cores = random.lognormal(archetype.cores, 0.9);
        let pages = random.lognormal(archetype.pages, 0.6);
        let age = random.unit().powi(3) * 43_200.0;
        let has_network = !random.chance(0.08);
        let mut counter = |per_minute: f64| (age * per_minute * random.unit()) as i64;
        let counters = [
            counter(cores * 6e10) / 1000 * 1000,
            if has_network { counter(1e5) } else { 0 },
            if has_network { counter(2e5) } else { 0 },
        ];
        let node = (slot / SLOTS_PER_NODE) as u64;
        Self {
            archetype,
            cores,
            counts_microseconds: Random::of(node, "kernel").below(100) < MICROSECOND_NODES,
            noise: random.normal(),
            is_bursting: false,
            counters,
            popularity: random.lognormal(1.0, 0.8),
            request_sizes: [300 + random.below(1_200), 500 + random.below(5_500)].map(|s| s as f64),
            probes: 4 + random.below(4),
            has_network,
            pages,
            moved_pages: 0.0,
            collects_every: 20 + random.below(100) as usize,
            cache: (pages * random.unit() * 0.6) as i64,
            kernel: 100 + random.below(800) as i64,
            logs: 5 + random.below(20_000),
            log_max: random.lognormal(22_000.0, 1.0) as u64 + 1,
            random,
        }
    }

    /// The row of the next minute.
    fn minute(&mut self, time: usize) -> [i64; 6] {
        let archetype = self.archetype;
        let day = time as f64 / TIMES as f64;
        let daily = 0.5 - 0.5 * (std::f64::consts::TAU * (day - 0.15)).cos();
        self.noise = 0.9 * self.noise + self.random.normal() * 0.19_f64.sqrt();
        let toggles = if self.is_bursting { 1.0 / 8.0 } else { 1.0 / 90.0 };
        if archetype.container == BATCH && self.random.chance(toggles) {
            self.is_bursting = !self.is_bursting;
        }
        let burst = if self.is_bursting { 30.0 } else { 1.0 };
        let load =
            burst * (1.0 + 2.0 * archetype.daily * daily) * (self.noise * archetype.noise).exp();
        let unit = if self.counts_microseconds { 1000.0 } else { 1.0 };
        self.counters[0] += ((self.cores * load * 6e10 / unit).round() * unit) as i64;
        if self.has_network {
            self.receive_and_send(load);
        }
        if self.random.chance(archetype.memory_moves) {
            self.moved_pages = 0.998 * self.moved_pages
                + (self.random.normal() * archetype.memory_step).round()
                + f64::from(u8::from(self.is_bursting)) * 0.02 * self.pages * self.random.unit();
        }
        let saw = match archetype.container {
            GARBAGE_COLLECTED => (time % self.collects_every) as f64 / self.collects_every as f64,
            _ => 0.0,
        };
        let rss = (self.pages * (1.0 + 0.35 * saw) + self.moved_pages).round().max(256.0) as i64;
        if self.random.chance(archetype.cache_grows) {
            self.cache += self.random.below(12) as i64;
        }
        if self.random.chance(0.1) {
            self.kernel += self.random.below(7) as i64 - 3;
        }
        if self.random.chance(archetype.log_grows) {
            self.logs = (self.logs + 1 + self.random.below(archetype.log_step)) % self.log_max;
        }
        let [cpu, received, sent] = self.counters;
        let working_set = (rss + self.cache + self.kernel.max(0)) * PAGE;
        [cpu, working_set, rss * PAGE, received, sent, (5 + self.logs as i64) * PAGE]
    }

    fn receive_and_send(&mut self, load: f64) {
        let mean = self.archetype.requests * load * self.popularity;
        let requests = (mean + mean.sqrt() * self.random.normal()).round().max(0.0);
        let probes = self.probes + u64::from(self.random.chance(0.02));
        let spread = [0.3, 0.5];
        for (index, probe) in [417, 532].into_iter().enumerate() {
            let size = self.request_sizes[index];
            let of_requests =
                requests * size + requests.sqrt() * self.random.normal() * size * spread[index];
            let pings = probes * probe + 66 * self.random.below(3);
            self.counters[index + 1] += of_requests.max(0.0) as i64 + pings as i64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::GENERATED_COLUMNS;

    #[test]
    fn counters_fall_only_when_a_container_is_replaced() {
        let data = Generated::made(300);
        assert_eq!((data.times(), data.samples()), (TIMES, 300 * TIMES as u64 * 6));
        let mut replaced = 0;
        for slot in 0..data.slots() {
            let instances = data.instances(slot);
            assert_eq!(instances[0].times.start, 0);
            assert_eq!(instances[instances.len() - 1].times.end, TIMES);
            replaced += instances.len() - 1;
            for instance in instances {
                for pair in data.rows(slot)[instance.times.clone()].windows(2) {
                    for (index, column) in GENERATED_COLUMNS.iter().enumerate() {
                        assert!(!column.is_counter || pair[1][index] >= pair[0][index]);
                        assert!(pair[0][index] >= 0);
                    }
                }
            }
            assert!(data.clock(slot).windows(2).all(|pair| pair[0] < pair[1]));
        }
        // 300 slots: some 45 replaced once and 6 of 23 times.
        assert!((60..450).contains(&replaced), "{replaced}");
        assert_eq!(Generated::made(300).rows(299), data.rows(299));
    }
}
