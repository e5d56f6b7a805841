//! The inhabitants of the simulated cluster: nodes, pods and containers with their usage.
//!
//! Housekeeping, the moment at which a kubelet reads a cgroup, comes every ten seconds, at a
//! second of its own for every cgroup. An answer therefore holds samples of different ages, and
//! asking twice within a period gives the same sample twice, as with a real kubelet. The state at
//! a time does not depend on when it was asked for before.

use super::SimOptions;
use super::random::Random;
use super::usage::{Archetype, Cgroup, Disk, Interface, Memory};

/// Seconds between two readings of a cgroup.
pub(crate) const HOUSEKEEPING_SECONDS: i64 = 10;
/// Most periods that are stepped through at once, about four months; a longer silence is skipped.
const PERIODS_PER_CATCH_UP_MAX: i64 = 1_000_000;

/// When a cgroup is read: every period, at one second of it.
#[derive(Clone, Copy, Debug)]
struct Readings {
    phase: i64,
    /// The period to read next.
    next_period: i64,
}

impl Readings {
    fn new(phase: i64, now: i64) -> Self {
        // The reading at or before `now` counts as done, so that every cgroup has a sample at once.
        Self { phase, next_period: (now - phase).div_euclid(HOUSEKEEPING_SECONDS) + 1 }
    }

    fn last(&self) -> i64 {
        (self.next_period - 1) * HOUSEKEEPING_SECONDS + self.phase
    }

    /// Steps to the reading of a period if it is due, and says when it was.
    fn take(&mut self, period: i64, now: i64) -> Option<i64> {
        let at = period * HOUSEKEEPING_SECONDS + self.phase;
        if period < self.next_period || at > now {
            return None;
        }
        self.next_period = period + 1;
        Some(at)
    }
}

/// What a container asks for. Whoever has a limit on memory has limits on everything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Claim {
    pub(crate) cpu_millicores: u64,
    pub(crate) memory_mib: u64,
    pub(crate) memory_limit_mib: Option<u64>,
}

impl Claim {
    /// Limit on CPU, given to who has a limit at all.
    pub(crate) fn cpu_limit_millicores(&self) -> u64 {
        self.cpu_millicores * 4
    }
}

/// Ephemeral storage asked for by, and allowed to, containers with limits.
pub(crate) const STORAGE_REQUEST_MIB: u64 = 256;
pub(crate) const STORAGE_LIMIT_MIB: u64 = 2048;

/// A container, of a pod or of the system.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) cgroup: Cgroup,
    pub(crate) rootfs: Disk,
    pub(crate) logs: Disk,
    /// Seconds since the epoch.
    pub(crate) started_at: i64,
    pub(crate) restarts: u32,
    pub(crate) claim: Claim,
    readings: Readings,
    /// CPU used since the pod was last read.
    unclaimed_cpu_ns: u64,
    unclaimed_requests: f64,
}

impl Container {
    fn read(&mut self, at: i64) {
        let step_seconds = HOUSEKEEPING_SECONDS as f64;
        let before = self.cgroup.cpu_ns;
        self.cgroup.step(at, step_seconds);
        self.unclaimed_cpu_ns += self.cgroup.cpu_ns - before;
        self.unclaimed_requests += self.cgroup.requests;
        self.rootfs.step(step_seconds);
        self.logs.step(step_seconds);
    }

    /// When the sample was taken, seconds since the epoch.
    pub(crate) fn sampled_at(&self) -> i64 {
        self.readings.last()
    }

    /// The limit on memory.
    pub(crate) fn memory_limit_bytes(&self) -> Option<u64> {
        self.claim.memory_limit_mib.map(|mib| mib << 20)
    }
}

/// A pod and its containers.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The deployment (or daemon set) it belongs to.
    pub(crate) owner: String,
    /// Hash of the replica set; `None` for a pod of a daemon set.
    pub(crate) revision: Option<String>,
    /// Shares the node's network, so it has no network numbers of its own.
    pub(crate) is_host_network: bool,
    pub(crate) address: String,
    pub(crate) containers: Vec<Container>,
    pub(crate) interface: Interface,
    pub(crate) volume: Disk,
    pub(crate) volume_name: String,
    /// Counter: CPU of the whole pod; survives restarts of its containers.
    pub(crate) cpu_ns: u64,
    pub(crate) nanocores: u64,
    /// Faults of containers that were restarted since.
    past_page_faults: u64,
    past_major_page_faults: u64,
    /// Seconds since the epoch.
    pub(crate) created_at: i64,
    readings: Readings,
}

impl Pod {
    /// Brings all samples up to `now`.
    pub(crate) fn advance(&mut self, now: i64) {
        skip_long_silence(&mut self.readings, now);
        for container in &mut self.containers {
            let first = self.readings.next_period;
            if container.readings.next_period < first {
                container.readings.next_period = first;
            }
        }
        // A pod is read after its containers of the same period and before those of the next.
        loop {
            let period = self.readings.next_period;
            for container in &mut self.containers {
                if let Some(at) = container.readings.take(period, now) {
                    container.read(at);
                }
            }
            if self.readings.take(period, now).is_none() {
                break;
            }
            self.read();
        }
    }

    fn read(&mut self) {
        let mut requests = 0.0;
        // The pause container and the cgroup's own bookkeeping use a little.
        let mut used_ns = 1_000;
        for container in &mut self.containers {
            used_ns += std::mem::take(&mut container.unclaimed_cpu_ns);
            requests += std::mem::take(&mut container.unclaimed_requests);
        }
        self.cpu_ns += used_ns;
        self.nanocores = used_ns / HOUSEKEEPING_SECONDS as u64;
        self.interface.step(requests);
        self.volume.step(HOUSEKEEPING_SECONDS as f64);
    }

    /// When the pod's own sample was taken, seconds since the epoch.
    pub(crate) fn sampled_at(&self) -> i64 {
        self.readings.last()
    }

    /// Sum of something over the containers.
    pub(crate) fn total(&self, of: impl Fn(&Container) -> u64) -> u64 {
        self.containers.iter().map(of).sum()
    }

    /// Memory of the whole pod. Its fault counters survive restarts of its containers.
    pub(crate) fn memory(&self) -> Memory {
        let mut memory = Memory {
            page_faults: self.past_page_faults,
            major_page_faults: self.past_major_page_faults,
            ..Memory::default()
        };
        for container in &self.containers {
            memory.add(&container.cgroup.memory());
        }
        memory
    }

    /// The limit of the whole pod: there is one when every container has one.
    pub(crate) fn memory_limit_bytes(&self) -> Option<u64> {
        self.containers.iter().map(Container::memory_limit_bytes).sum()
    }

    /// Restarts every container: counters begin at zero, start times move.
    pub(crate) fn restart(&mut self, now: i64) {
        for container in &mut self.containers {
            self.past_page_faults += container.cgroup.page_faults;
            self.past_major_page_faults += container.cgroup.major_page_faults;
            container.cgroup.restart();
            container.started_at = now;
            container.restarts += 1;
        }
    }
}

/// A node: its own numbers, its system containers and its pods.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) address: String,
    pub(crate) cores: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) cgroup: Cgroup,
    pub(crate) disk: Disk,
    pub(crate) images: Disk,
    pub(crate) interface: Interface,
    pub(crate) system: Vec<Container>,
    pub(crate) pods: Vec<Pod>,
    /// Seconds since the epoch.
    pub(crate) created_at: i64,
    readings: Readings,
}

impl Node {
    /// Brings all samples of the node and of its pods up to `now`.
    pub(crate) fn advance(&mut self, now: i64) {
        let step_seconds = HOUSEKEEPING_SECONDS as f64;
        skip_long_silence(&mut self.readings, now);
        while let Some(at) = self.readings.take(self.readings.next_period, now) {
            self.cgroup.step(at, step_seconds);
            self.disk.step(step_seconds);
            self.images.step(step_seconds);
            self.interface.step(self.cgroup.requests);
        }
        for container in &mut self.system {
            skip_long_silence(&mut container.readings, now);
            while let Some(at) = container.readings.take(container.readings.next_period, now) {
                container.read(at);
            }
        }
        for pod in &mut self.pods {
            pod.advance(now);
        }
    }

    /// When the node's own sample was taken, seconds since the epoch.
    pub(crate) fn sampled_at(&self) -> i64 {
        self.readings.last()
    }

    /// Bytes left on the node's disk, which all its containers share.
    pub(crate) fn disk_available_bytes(&self) -> u64 {
        self.disk_bytes.saturating_sub(self.disk.used_bytes() + self.images.used_bytes())
    }
}

fn skip_long_silence(readings: &mut Readings, now: i64) {
    let due = now.div_euclid(HOUSEKEEPING_SECONDS);
    readings.next_period = readings.next_period.max(due - PERIODS_PER_CATCH_UP_MAX);
}

/// Makes the inhabitants. The same seed and time make the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    pub(crate) seed: u64,
    pub(crate) pods_per_node: usize,
    pub(crate) containers_per_pod: usize,
    /// Names of the namespaces; the system's is the first.
    pub(crate) namespaces: Vec<String>,
    /// How many deployments the pods belong to.
    pub(crate) deployments: u64,
}

/// The namespace of the system's pods.
pub(crate) const SYSTEM_NAMESPACE: &str = "kube-system";
/// From this many pods on, each node's first is one of a daemon set on the node's network.
const PODS_WITH_DAEMON_MIN: usize = 5;
/// Pods of one deployment and of one namespace, roughly.
const PODS_PER_DEPLOYMENT: usize = 12;
const PODS_PER_NAMESPACE: usize = 150;
const DAY_SECONDS: u64 = 86_400;

impl Maker {
    /// The maker for a cluster of that size: more pods live in more namespaces.
    pub(crate) fn new(options: &SimOptions) -> Self {
        let pods = options.nodes * options.pods_per_node;
        let teams = (pods / PODS_PER_NAMESPACE).clamp(2, 40);
        let mut namespaces = vec![SYSTEM_NAMESPACE.to_owned(), "default".to_owned()];
        namespaces.extend((0..teams).map(|team| format!("team-{team:02}")));
        Self {
            seed: options.seed,
            pods_per_node: options.pods_per_node,
            containers_per_pod: options.containers_per_pod,
            namespaces,
            deployments: (pods / PODS_PER_DEPLOYMENT).max(1) as u64,
        }
    }

    /// UID of a namespace.
    pub(crate) fn namespace_uid(&self, name: &str) -> String {
        self.random(name).uid()
    }

    /// The node of that index as it stands at `now`, with its pods.
    pub(crate) fn node(&self, index: usize, now: i64) -> Node {
        let name = format!("node-{index:03}");
        let mut random = self.random(&name);
        let age_seconds = (10 + random.below(40)) * DAY_SECONDS;
        let cpu_unit_ns = if random.chance(0.8) { 1000 } else { 1 };
        let phase = random.below(HOUSEKEEPING_SECONDS as u64) as i64;
        let pods: Vec<Pod> = (0..self.pods_per_node)
            .map(|slot| self.pod(index, slot, 0, cpu_unit_ns, now))
            .collect();
        let busy: f64 =
            pods.iter().flat_map(|pod| &pod.containers).map(|c| c.cgroup.base_cores()).sum();
        let size = index as u64 % 3;
        Node {
            uid: random.uid(),
            address: node_address(index),
            cores: 4 + 4 * size,
            memory_bytes: (16 + 16 * size) << 30,
            disk_bytes: 100 << 30,
            cgroup: self.cgroup(
                &name,
                "",
                Archetype::Machine,
                (busy / 2.0).max(0.1),
                cpu_unit_ns,
                age_seconds,
            ),
            disk: Disk::machine(self.random(&format!("{name}/disk"))),
            images: Disk::machine(self.random(&format!("{name}/images"))),
            interface: Interface::new(self.random(&format!("{name}/eth0")), age_seconds),
            system: ["kubelet", "runtime", "pods"]
                .map(|container| self.system_container(&name, container, age_seconds, now))
                .into(),
            pods,
            created_at: now - age_seconds as i64,
            readings: Readings::new(phase, now),
            name,
        }
    }

    /// A pod in a node's slot; a later `generation` is the pod that replaced the earlier.
    pub(crate) fn pod(
        &self,
        node: usize,
        slot: usize,
        generation: u64,
        cpu_unit_ns: u64,
        now: i64,
    ) -> Pod {
        let mut random = self.random(&format!("node-{node:03}/slot-{slot}/{generation}"));
        let is_daemon = slot == 0 && self.pods_per_node >= PODS_WITH_DAEMON_MIN;
        let deployment = self.random(&format!("slot-of/{node}/{slot}")).below(self.deployments);
        let (namespace, owner, revision) = if is_daemon {
            (SYSTEM_NAMESPACE.to_owned(), "kube-proxy".to_owned(), None)
        } else {
            let owner = format!("svc-{deployment:03}");
            let namespace = deployment as usize % self.namespaces.len();
            let revision = self.random(&owner).suffix(10);
            (self.namespaces[namespace].clone(), owner, Some(revision))
        };
        let suffix = random.suffix(5);
        let name = match &revision {
            Some(revision) => format!("{owner}-{revision}-{suffix}"),
            None => format!("{owner}-{suffix}"),
        };
        let age_seconds = if generation == 0 { 120 + random.below(30 * DAY_SECONDS) } else { 0 };
        let created_at = now - age_seconds as i64;
        let latest = random.below(HOUSEKEEPING_SECONDS as u64);
        let containers: Vec<Container> = (0..self.containers_per_pod)
            .map(|container| {
                let phase = random.below(latest + 1) as i64;
                self.container(&name, &owner, container, cpu_unit_ns, (age_seconds, phase), now)
            })
            .collect();
        Pod {
            uid: random.uid(),
            is_host_network: is_daemon,
            address: format!("10.{}.{}.{}", 64 + node / 250, node % 250, slot % 250 + 2),
            cpu_ns: containers.iter().map(|c| c.cgroup.cpu_ns).sum::<u64>() / 50 * 51,
            nanocores: containers.iter().map(|c| c.cgroup.nanocores).sum(),
            interface: Interface::new(self.random(&format!("{name}/eth0")), age_seconds),
            volume: Disk::still(self.random(&format!("{name}/volume")), 4),
            volume_name: format!("kube-api-access-{}", random.suffix(5)),
            past_page_faults: 0,
            past_major_page_faults: 0,
            readings: Readings::new(latest as i64, now),
            namespace,
            name,
            owner,
            revision,
            containers,
            created_at,
        }
    }

    fn container(
        &self,
        pod: &str,
        owner: &str,
        index: usize,
        cpu_unit_ns: u64,
        (age_seconds, phase): (u64, i64),
        now: i64,
    ) -> Container {
        const NAMES: [&str; 4] = ["app", "sidecar", "metrics", "logs"];
        let name = match NAMES.get(index) {
            Some(name) => (*name).to_owned(),
            None => format!("extra-{index}"),
        };
        // The pods of one deployment run the same program; sidecars idle.
        let mut of_owner = self.random(&format!("{owner}/{name}"));
        let archetype = if index == 0 { Archetype::draw(&mut of_owner) } else { Archetype::Idle };
        let cgroup = self.cgroup(pod, &name, archetype, 1.0, cpu_unit_ns, age_seconds);
        let memory_mib = (cgroup.usage_bytes() >> 20).max(16);
        let limit_mib = memory_mib.next_power_of_two().max(64) * 2;
        let claim = Claim {
            cpu_millicores: (cgroup.base_cores() * 1000.0).ceil().max(10.0) as u64,
            memory_mib,
            memory_limit_mib: of_owner.chance(0.6).then_some(limit_mib),
        };
        Container {
            image: format!(
                "registry.example/{owner}/{name}:1.{}.{}",
                of_owner.below(30),
                of_owner.below(9)
            ),
            rootfs: Disk::still(self.random(&format!("{pod}/{name}/rootfs")), 64),
            logs: Disk::log(self.random(&format!("{pod}/{name}/logs")), archetype),
            started_at: now - age_seconds as i64 + 2,
            restarts: 0,
            claim,
            readings: Readings::new(phase, now),
            unclaimed_cpu_ns: 0,
            unclaimed_requests: 0.0,
            name,
            cgroup,
        }
    }

    fn system_container(&self, node: &str, name: &str, age_seconds: u64, now: i64) -> Container {
        let mut random = self.random(&format!("{node}/system/{name}"));
        let phase = random.below(HOUSEKEEPING_SECONDS as u64) as i64;
        Container {
            name: name.to_owned(),
            image: String::new(),
            cgroup: self.cgroup(node, name, Archetype::Web, 1.5, 1000, age_seconds),
            rootfs: Disk::still(random.clone(), 8),
            logs: Disk::still(random, 8),
            started_at: now - age_seconds as i64 + 10,
            restarts: 0,
            // The pods share what the node has.
            claim: Claim {
                memory_limit_mib: (name == "pods").then_some(16 << 10),
                ..Claim::default()
            },
            readings: Readings::new(phase, now),
            unclaimed_cpu_ns: 0,
            unclaimed_requests: 0.0,
        }
    }

    fn cgroup(
        &self,
        owner: &str,
        name: &str,
        archetype: Archetype,
        scale: f64,
        cpu_unit_ns: u64,
        age_seconds: u64,
    ) -> Cgroup {
        let random = self.random(&format!("{owner}/{name}/cgroup"));
        Cgroup::new(random, archetype, scale, cpu_unit_ns, age_seconds)
    }

    fn random(&self, name: &str) -> Random {
        Random::of(self.seed, name)
    }
}

/// The loopback address of the node of that index: `127.1.x.y`, never ending in 0.
pub(crate) fn node_address(index: usize) -> String {
    format!("127.1.{}.{}", index / 250, index % 250 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn maker() -> Maker {
        Maker {
            seed: 7,
            pods_per_node: 6,
            containers_per_pod: 2,
            namespaces: vec![SYSTEM_NAMESPACE.into(), "team-00".into()],
            deployments: 3,
        }
    }

    #[test]
    fn the_state_at_a_time_does_not_depend_on_when_it_was_asked_for() {
        let mut often = maker().node(0, NOW);
        let mut once = often.clone();
        for second in 0..=900 {
            often.advance(NOW + second);
        }
        once.advance(NOW + 900);
        assert_eq!(format!("{often:?}"), format!("{once:?}"));
    }

    #[test]
    fn samples_are_at_most_one_period_old_and_never_from_the_future() {
        let mut node = maker().node(0, NOW);
        for now in NOW..NOW + 100 {
            node.advance(now);
            let containers = node.pods.iter().flat_map(|pod| &pod.containers).chain(&node.system);
            let times = containers.map(Container::sampled_at);
            for at in times.chain(node.pods.iter().map(Pod::sampled_at)).chain([node.sampled_at()])
            {
                assert!((0..HOUSEKEEPING_SECONDS).contains(&(now - at)), "age {}", now - at);
            }
        }
    }

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        let mut node = maker().node(0, NOW);
        let before: Vec<u64> = node.pods.iter().map(|pod| pod.cpu_ns).collect();
        let used = |pod: &Pod| pod.total(|container| container.cgroup.cpu_ns);
        let containers_before: Vec<u64> = node.pods.iter().map(used).collect();
        node.advance(NOW + 3_600);
        for (index, pod) in node.pods.iter().enumerate() {
            let own = pod.cpu_ns - before[index];
            let sum = used(pod) - containers_before[index];
            assert!(own.abs_diff(sum) < sum / 20 + 1_000_000, "pod {own}, containers {sum}");
        }
    }

    #[test]
    fn a_clock_that_leaps_ahead_costs_a_bounded_catch_up() {
        let mut node = Maker { pods_per_node: 0, ..maker() }.node(0, NOW);
        node.system.clear();
        node.advance(i64::MAX / 4);
        assert!(i64::MAX / 4 - node.sampled_at() < HOUSEKEEPING_SECONDS);
    }
}
