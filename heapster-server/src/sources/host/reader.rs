//! [`HostReader`]: one reading of the machine becomes one scrape. Blocking; the source calls it
//! from a thread that may wait.

use std::collections::HashMap;
use std::sync::Arc;

use heapster_core::pipeline::{Scrape, SourceError};
use heapster_core::{
    EntityKey, EntityType, Labels, MetricSet, MetricValue, NanoTime, Text, Timestamp, key, metric,
};
use heapster_store::Clock;

use super::HostOptions;
use super::cgroups::{Cgroup, Hierarchies, Usage};
use super::cluster::{Capacity, HostCluster, node_labels, read_line};
use super::disks::Disks;
use super::filesystems::{self, FILE_SYSTEMS_MAX, FileSystems, KernelFileSystems};
use super::machine::Machine;
use super::options::is_node_name;
use super::rejects::Rejects;
use super::root::{Buffer, Root};

const NANOS_PER_MILLI: i64 = 1_000_000;
/// The node's name when the machine does not tell one.
const NAMELESS: &str = "localhost";

/// Reads the machine below a root directory.
///
/// A reading depends on the files, the clock, the file systems' answers and on what must not change
/// between readings: when the machine and each cgroup were first seen to start. Rates are only
/// computed between sets with one start.
pub struct HostReader {
    root: Arc<Root>,
    file_systems: Box<dyn FileSystems>,
    containers_max: usize,
    node: Text,
    hostname: Text,
    host_id: Text,
    cluster: Arc<HostCluster>,
    boot: Option<NanoTime>,
    cpu_origin: Option<CpuOrigin>,
    starts: HashMap<Text, Start>,
    readings: u64,
    buffer: Buffer,
}

/// Since when a cgroup exists. A new inode under an old name is a new cgroup.
#[derive(Debug)]
struct Start {
    inode: u64,
    at: Option<NanoTime>,
    last_reading: u64,
}

/// Which file the CPU time of the node comes from. Two files count from different moments, so the
/// first that has it is kept to: a change between readings would look like a jump.
#[derive(Clone, Copy, Debug)]
enum CpuOrigin {
    RootCgroup,
    ProcStat,
}

/// What one reading works with, beside the reader itself.
struct Moment {
    now: Option<NanoTime>,
    boot: Option<NanoTime>,
}

impl HostReader {
    /// A reader that asks the kernel how full file systems are.
    ///
    /// # Errors
    /// The root directory cannot be opened or has no `proc` in it.
    pub fn new(options: &HostOptions) -> Result<Self, SourceError> {
        let root = Arc::new(open(options)?);
        let file_systems = Box::new(KernelFileSystems(Arc::clone(&root)));
        Ok(Self::assemble(options, root, file_systems))
    }

    /// A reader that asks `file_systems` instead: a recorded tree has none of its own.
    ///
    /// # Errors
    /// As [`HostReader::new`].
    pub fn with_file_systems(
        options: &HostOptions,
        file_systems: Box<dyn FileSystems>,
    ) -> Result<Self, SourceError> {
        Ok(Self::assemble(options, Arc::new(open(options)?), file_systems))
    }

    fn assemble(
        options: &HostOptions,
        root: Arc<Root>,
        file_systems: Box<dyn FileSystems>,
    ) -> Self {
        let mut buffer = Buffer::default();
        let hostname = read_line(&root, "proc/sys/kernel/hostname", &mut buffer)
            .filter(|name| is_node_name(name) && name != "(none)");
        let node = options.node_name.clone();
        let node = node.or_else(|| hostname.as_deref().map(Text::from));
        let node = node.unwrap_or(Text::from_static(NAMELESS));
        let hostname = hostname.map_or_else(|| node.clone(), Text::from);
        let host_id = read_line(&root, "etc/machine-id", &mut buffer)
            .filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .map_or_else(Text::default, Text::from);
        let labels = node_labels(&root, &hostname, &mut buffer);
        let cluster = Arc::new(HostCluster::new(node.clone(), labels));
        let reader = Self {
            root,
            file_systems,
            containers_max: options.containers_max,
            node,
            hostname,
            host_id,
            cluster,
            boot: None,
            cpu_origin: None,
            starts: HashMap::new(),
            readings: 0,
            buffer,
        };
        reader.with_first_capacity()
    }

    /// The node's name.
    pub fn node_name(&self) -> &Text {
        &self.node
    }

    /// This machine as a cluster; every reading renews it.
    pub fn cluster(&self) -> &Arc<HostCluster> {
        &self.cluster
    }

    /// The first batch is processed with the capacity already known.
    fn with_first_capacity(mut self) -> Self {
        let mut rejects = Rejects::default();
        let machine = Machine::read(&self.root, &mut self.buffer, &mut rejects);
        let storage = self.file_systems.usage("/").ok();
        let storage_bytes = storage.and_then(|usage| i64::try_from(usage.size_bytes).ok());
        self.update_cluster(&machine, storage_bytes);
        self
    }

    /// Reads everything once: the set of the node first, then those of its cgroups by level and name.
    ///
    /// # Errors
    /// There is no `proc`. Whatever else is missing or makes no sense is left out and counted in
    /// [`Scrape::rejects`].
    ///
    /// # Cost
    /// About ten file reads, and for each cgroup an opened directory and up to four small files.
    pub fn read(&mut self, clock: &dyn Clock) -> Result<Scrape, SourceError> {
        require_proc(&self.root)?;
        self.readings += 1;
        let mut rejects = Rejects::default();
        let machine = Machine::read(&self.root, &mut self.buffer, &mut rejects);
        let moment = self.moment(&machine, clock.now());
        let hierarchies = Hierarchies::detect(&self.root);
        let of_root = hierarchies.machine(&self.root, &mut self.buffer, &mut rejects);
        let disks = self.read_disks(&mut rejects);

        let mut sets = Vec::new();
        let node = self.node_set(&machine, &of_root, &disks, &moment, &mut rejects);
        sets.push((EntityKey::node(self.node.clone()), node));
        let containers_max = self.containers_max;
        let walked = hierarchies.walk(&self.root, containers_max, &mut self.buffer, &mut rejects);
        sets.reserve(walked.len());
        for cgroup in walked {
            sets.push(self.container_set(cgroup, &disks, &moment));
        }
        let reading = self.readings;
        self.starts.retain(|_, start| start.last_reading == reading);
        Ok(Scrape { sets, rejects: rejects.into_clauses() })
    }

    /// The boot time is kept as first seen: the kernel derives it from the wall clock, so setting
    /// the clock would look like a restart of every counter.
    fn moment(&mut self, machine: &Machine, now: Timestamp) -> Moment {
        let now: Option<NanoTime> = now.into();
        if self.boot.is_none() {
            self.boot = machine.boot_seconds.and_then(NanoTime::from_seconds);
        }
        Moment { now, boot: self.boot }
    }

    fn read_disks(&mut self, rejects: &mut Rejects) -> Disks {
        let path = "proc/diskstats";
        match self.root.read(path, &mut self.buffer) {
            Ok(bytes) => {
                let disks = Disks::parse(bytes).unwrap_or_else(|| {
                    rejects.add("no disk numbers", format_args!("{path} has no line of a device"));
                    Disks::default()
                });
                if disks.left_out > 0 {
                    rejects.add_many("block devices beyond the most", disks.left_out, path);
                }
                disks
            }
            Err(error) => {
                rejects.add("no disk numbers", format_args!("{path}: {error}"));
                Disks::default()
            }
        }
    }

    fn node_set(
        &mut self,
        machine: &Machine,
        of_root: &Usage,
        disks: &Disks,
        moment: &Moment,
        rejects: &mut Rejects,
    ) -> MetricSet {
        let mut set = self.new_set(EntityType::Node, moment);
        set.collection_start_time = moment.boot;
        let uptime_ms = machine.uptime_ms.or_else(|| moment.millis_since(moment.boot));
        cumulative(&mut set, metric::UPTIME, uptime_ms);
        cumulative(&mut set, metric::CPU_USAGE, self.node_cpu_nanos(machine, of_root));
        gauge(&mut set, metric::CPU_LOAD, machine.load);

        // Version 2 keeps no memory usage for its root; the machine's then is what is not free.
        let memory = &machine.memory;
        if of_root.memory_bytes.is_some() {
            memory_metrics(&mut set, of_root);
        } else {
            gauge(&mut set, metric::MEMORY_USAGE, memory.used);
            gauge(&mut set, metric::MEMORY_RSS, memory.anonymous);
            gauge(&mut set, metric::MEMORY_CACHE, memory.file);
            let working_set = working_set(memory.used, memory.inactive_file);
            gauge(&mut set, metric::MEMORY_WORKING_SET, working_set);
        }
        cumulative(&mut set, metric::MEMORY_PAGE_FAULTS, machine.page_faults);
        cumulative(&mut set, metric::MEMORY_MAJOR_PAGE_FAULTS, machine.major_page_faults);

        if let Some(network) = &machine.network {
            cumulative(&mut set, metric::NETWORK_RX, Some(network.rx_bytes));
            cumulative(&mut set, metric::NETWORK_RX_ERRORS, Some(network.rx_errors));
            cumulative(&mut set, metric::NETWORK_TX, Some(network.tx_bytes));
            cumulative(&mut set, metric::NETWORK_TX_ERRORS, Some(network.tx_errors));
        }
        disks.push_all(&mut set);
        let storage_bytes = self.push_file_systems(&mut set, rejects);
        self.update_cluster(machine, storage_bytes);
        set
    }

    fn node_cpu_nanos(&mut self, machine: &Machine, of_root: &Usage) -> Option<i64> {
        if self.cpu_origin.is_none() {
            self.cpu_origin = match (of_root.cpu_nanos, machine.cpu_nanos) {
                (Some(_), _) => Some(CpuOrigin::RootCgroup),
                (None, Some(_)) => Some(CpuOrigin::ProcStat),
                (None, None) => None,
            };
        }
        match self.cpu_origin? {
            CpuOrigin::RootCgroup => of_root.cpu_nanos,
            CpuOrigin::ProcStat => machine.cpu_nanos,
        }
    }

    /// Adds all file systems to the node's set; returns the size of the one at `/`.
    fn push_file_systems(&mut self, set: &mut MetricSet, rejects: &mut Rejects) -> Option<i64> {
        let path = if self.root.is_machine() || !self.root.has("proc/1/mountinfo") {
            "proc/self/mountinfo"
        } else {
            "proc/1/mountinfo"
        };
        let mut mount_points = match self.root.read(path, &mut self.buffer) {
            Ok(bytes) => filesystems::mount_points(bytes),
            Err(error) => {
                rejects.add("no mount table", format_args!("{path}: {error}"));
                return None;
            }
        };
        if mount_points.is_empty() {
            rejects.add("no mount table", format_args!("{path} has no line of a disk"));
        }
        if mount_points.len() > FILE_SYSTEMS_MAX {
            let left_out = mount_points.split_off(FILE_SYSTEMS_MAX);
            rejects.add_many("file systems beyond the most", left_out.len(), &left_out[0]);
        }
        let mut storage_bytes = None;
        for mount_point in &mount_points {
            let usage = match self.file_systems.usage(mount_point) {
                Ok(usage) => usage,
                Err(error) => {
                    let example = format_args!("{mount_point}: {error}");
                    rejects.add("unreadable file systems", example);
                    continue;
                }
            };
            filesystems::push(set, mount_point, &usage);
            if mount_point == "/" {
                storage_bytes = i64::try_from(usage.size_bytes).ok();
                let used_bytes = i64::try_from(usage.used_bytes()).ok();
                gauge(set, metric::EPHEMERAL_STORAGE_USAGE, used_bytes);
            }
        }
        storage_bytes
    }

    fn container_set(
        &mut self,
        cgroup: Cgroup,
        disks: &Disks,
        moment: &Moment,
    ) -> (EntityKey, MetricSet) {
        let name = Text::from(cgroup.path);
        let start = self.start_of(&name, cgroup.inode, cgroup.seen_since, moment);
        let mut set = self.new_set(EntityType::SystemContainer, moment);
        set.labels.set_static(key::CONTAINER_NAME, name.clone());
        set.collection_start_time = start;
        cumulative(&mut set, metric::UPTIME, moment.millis_since(start));
        let usage = &cgroup.usage;
        cumulative(&mut set, metric::CPU_USAGE, usage.cpu_nanos);
        memory_metrics(&mut set, usage);
        cumulative(&mut set, metric::MEMORY_PAGE_FAULTS, usage.memory.page_faults);
        let major = usage.memory.major_page_faults;
        cumulative(&mut set, metric::MEMORY_MAJOR_PAGE_FAULTS, major);
        disks.push_of_cgroup(&mut set, &usage.transfers);
        (EntityKey::system_container(self.node.clone(), name), set)
    }

    /// When a cgroup began: what its directory told when it was first seen, which lies between
    /// boot and now. Later the directory may tell otherwise, so the first answer stands.
    fn start_of(
        &mut self,
        name: &Text,
        inode: u64,
        seen_since: Option<NanoTime>,
        moment: &Moment,
    ) -> Option<NanoTime> {
        let last_reading = self.readings;
        if let Some(start) = self.starts.get_mut(name)
            && start.inode == inode
        {
            start.last_reading = last_reading;
            return start.at;
        }
        let at = seen_since.map(|at| moment.boot.map_or(at, |boot| at.max(boot)));
        let at = at.map(|at| moment.now.map_or(at, |now| at.min(now)));
        self.starts.insert(name.clone(), Start { inode, at, last_reading });
        at
    }

    fn new_set(&self, entity_type: EntityType, moment: &Moment) -> MetricSet {
        let mut labels = Labels::new();
        labels.set_static(key::HOST_ID, self.host_id.clone());
        labels.set_static(key::HOSTNAME, self.hostname.clone());
        labels.set_static(key::NODENAME, self.node.clone());
        labels.set_static(key::TYPE, Text::from_static(entity_type.as_str()));
        MetricSet { labels, scrape_time: moment.now, ..MetricSet::default() }
    }

    fn update_cluster(&self, machine: &Machine, storage_bytes: Option<i64>) {
        self.cluster.update(Capacity {
            cpu_millicores: (machine.online_cpus > 0).then(|| machine.online_cpus * 1000),
            memory_bytes: machine.memory.total,
            storage_bytes,
        });
    }
}

impl Moment {
    fn millis_since(&self, start: Option<NanoTime>) -> Option<i64> {
        let nanos = self.now?.as_nanos().checked_sub(start?.as_nanos())?;
        (nanos >= 0).then_some(nanos / NANOS_PER_MILLI)
    }
}

fn open(options: &HostOptions) -> Result<Root, SourceError> {
    let root = Root::open(&options.root).map_err(|error| {
        let root = options.root.display();
        SourceError::new(format!("could not open root directory {root} of source host"))
            .caused_by(error)
    })?;
    require_proc(&root)?;
    Ok(root)
}

fn require_proc(root: &Root) -> Result<(), SourceError> {
    match root.dir("proc") {
        Ok(_) => Ok(()),
        Err(error) => Err(SourceError::new(
            "could not open proc below the root of source host; is it mounted there?",
        )
        .caused_by(error)),
    }
}

fn memory_metrics(set: &mut MetricSet, usage: &Usage) {
    gauge(set, metric::MEMORY_USAGE, usage.memory_bytes);
    gauge(set, metric::MEMORY_RSS, usage.memory.anonymous);
    gauge(set, metric::MEMORY_CACHE, usage.memory.file);
    let working_set = working_set(usage.memory_bytes, usage.memory.inactive_file);
    gauge(set, metric::MEMORY_WORKING_SET, working_set);
}

/// What the kernel cannot drop easily: usage without the file pages it has not needed for a while.
/// The two numbers are not read at one moment, so the difference may be below zero.
fn working_set(usage: Option<i64>, inactive_file: Option<i64>) -> Option<i64> {
    Some(usage?.saturating_sub(inactive_file?).max(0))
}

fn gauge(set: &mut MetricSet, name: &'static str, value: Option<i64>) {
    if let Some(value) = value {
        set.metrics.set_static(name, MetricValue::gauge(value));
    }
}

fn cumulative(set: &mut MetricSet, name: &'static str, value: Option<i64>) {
    if let Some(value) = value {
        set.metrics.set_static(name, MetricValue::cumulative(value));
    }
}
