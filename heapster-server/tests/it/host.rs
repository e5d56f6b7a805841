//! The host source gives exact numbers for recorded machines, plausible ones for this machine, and
//! leaves out what it cannot read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use heapster_core::cluster::ClusterView;
use heapster_core::pipeline::{Interval, Scrape, Source, SourceProvider};
use heapster_core::processors::{LabelCopier, standard};
use heapster_core::{
    DataBatch, EntityKey, EntityType, MetricKind, MetricSet, NanoTime, Text, Timestamp, Value, key,
    metric,
};
use heapster_server::sources::host::{
    FileSystemUsage, FileSystems, HostOptions, HostProvider, HostReader, HostSource,
};
use heapster_store::{Clock, SystemClock};
use tokio::sync::Notify;

const DOCKER: &str =
    "docker-4f1c2a9be07d63358a1c0de94b7712f05e6d8c3a9b20417fe1d5c6a7b8093e24.scope";
/// 2023-11-16T02:00:00Z, which is 100,000 s after the boot of the machine with cgroup v2.
const NOW_MILLIS: i64 = 1_700_100_000_000;

#[derive(Debug)]
struct StepClock(AtomicI64);

impl StepClock {
    fn at(millis: i64) -> Self {
        Self(AtomicI64::new(millis))
    }

    fn step(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for StepClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// The recorded answers of `statvfs`: a tree of files has no file systems of its own.
struct Recorded;

impl FileSystems for Recorded {
    fn usage(&self, mount_point: &str) -> io::Result<FileSystemUsage> {
        let of = |size_bytes, free_bytes, available_bytes, inodes, inodes_free| FileSystemUsage {
            size_bytes,
            free_bytes,
            available_bytes,
            inodes,
            inodes_free,
        };
        match mount_point {
            "/" => Ok(of(100_000, 40_000, 35_000, 6_400, 6_000)),
            "/boot/efi" => Ok(of(500, 450, 450, 0, 0)),
            "/srv/data sets" => Err(io::Error::other("no answer")),
            other => panic!("asked for {other}"),
        }
    }
}

fn recorded(tree: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/host").join(tree)
}

fn reader_of(root: &Path) -> HostReader {
    let options = HostOptions { root: root.to_owned(), ..HostOptions::default() };
    HostReader::with_file_systems(&options, Box::new(Recorded)).unwrap()
}

fn read(root: &Path) -> Scrape {
    reader_of(root).read(&StepClock::at(NOW_MILLIS)).unwrap()
}

/// A copy of a recorded tree that a test may change.
fn copy_of(tree: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let copied = tempfile::tempdir().unwrap();
    copy(&recorded(tree), copied.path());
    copied
}

fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn names(scrape: &Scrape) -> Vec<String> {
    scrape.sets.iter().map(|(entity, _)| entity.to_string()).collect()
}

fn node(scrape: &Scrape) -> &MetricSet {
    &scrape.sets[0].1
}

fn container<'a>(scrape: &'a Scrape, name: &str) -> &'a MetricSet {
    let is_it = |entity: &EntityKey| matches!(entity, EntityKey::SystemContainer { container, .. } if container == name);
    &scrape.sets.iter().find(|(entity, _)| is_it(entity)).unwrap_or_else(|| panic!("no {name}")).1
}

/// Asserts that a set has exactly these plain metrics.
fn check_plain(set: &MetricSet, expected: &[(&str, i64)]) {
    let found: BTreeMap<&str, i64> =
        set.metrics.iter().map(|(name, m)| (name.as_str(), m.value.as_int().unwrap())).collect();
    assert_eq!(found, expected.iter().copied().collect());
}

/// Asserts that a set has exactly these labelled metrics, all of them gauges, in this order.
fn check_labeled(set: &MetricSet, expected: &[(&str, &str, i64)]) {
    let found: Vec<(&str, &str, i64)> = set
        .labeled_metrics
        .iter()
        .map(|labeled| {
            assert_eq!(labeled.metric.kind, MetricKind::Gauge);
            let id = labeled.labels.value(key::RESOURCE_ID);
            (labeled.name.as_str(), id, labeled.metric.value.as_int().unwrap())
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_host_with_cgroup_v2_is_a_node_with_a_kubelets_metrics() {
    let scrape = read(&recorded("cgroup-v2"));
    let (entity, node) = &scrape.sets[0];
    assert_eq!(entity, &EntityKey::node("web-1"));
    let labels = r#"{host_id="7d3f0c5e1b9a4826a0d4c7e2f19b6358", hostname="web-1", nodename="web-1", type="node"}"#;
    assert_eq!(node.labels.to_string(), labels);
    assert_eq!(node.collection_start_time, NanoTime::from_seconds(1_700_000_000));
    assert_eq!(node.scrape_time, NanoTime::from_seconds(1_700_100_000));
    assert_eq!(node.entity_create_time, None);
    check_plain(
        node,
        &[
            (metric::UPTIME, 100_000_250),
            (metric::CPU_USAGE, 1_340_000_000_000),
            (metric::CPU_LOAD, 750),
            // 8,000,000 − 3,000,000 KiB; without 1,400,000 KiB of inactive file pages.
            (metric::MEMORY_USAGE, 5_120_000_000),
            (metric::MEMORY_WORKING_SET, 3_686_400_000),
            (metric::MEMORY_RSS, 1_177_600_000),
            // 2,500,000 + 200,000 + 1,000 KiB.
            (metric::MEMORY_CACHE, 2_765_824_000),
            (metric::MEMORY_PAGE_FAULTS, 45_000_000),
            (metric::MEMORY_MAJOR_PAGE_FAULTS, 12_000),
            // eth0 + eth1; lo, docker0 and veth1a2b3c4 have no device behind them.
            (metric::NETWORK_RX, 1_000_000_000),
            (metric::NETWORK_RX_ERRORS, 7),
            (metric::NETWORK_TX, 100_000_000),
            (metric::NETWORK_TX_ERRORS, 3),
            (metric::EPHEMERAL_STORAGE_USAGE, 60_000),
        ],
    );
    check_labeled(
        node,
        &[
            (metric::DISK_IO_READ_BYTES, "sda", 2_048_000_000),
            (metric::DISK_IO_READ_BYTES, "nvme0n1", 102_400_000),
            (metric::DISK_IO_WRITE_BYTES, "sda", 5_120_000_000),
            (metric::DISK_IO_WRITE_BYTES, "nvme0n1", 307_200_000),
            (metric::FILESYSTEM_USAGE, "/", 60_000),
            (metric::FILESYSTEM_LIMIT, "/", 100_000),
            (metric::FILESYSTEM_AVAILABLE, "/", 35_000),
            (metric::FILESYSTEM_INODES, "/", 6_400),
            (metric::FILESYSTEM_INODES_FREE, "/", 6_000),
            // vfat has no inodes.
            (metric::FILESYSTEM_USAGE, "/boot/efi", 50),
            (metric::FILESYSTEM_LIMIT, "/boot/efi", 500),
            (metric::FILESYSTEM_AVAILABLE, "/boot/efi", 450),
        ],
    );
    let rejects = ["unreadable file systems (1, first: /srv/data sets: no answer)"];
    assert_eq!(scrape.rejects, rejects);
}

#[test]
fn metrics_have_the_kinds_of_the_catalogue() {
    for tree in ["cgroup-v2", "cgroup-v1"] {
        for (_, set) in read(&recorded(tree)).sets {
            for (name, value) in set.metrics.iter() {
                let descriptor = heapster_core::catalogue::find(name).unwrap();
                assert_eq!(value.kind, descriptor.kind, "{name}");
            }
        }
    }
}

#[test]
fn cgroups_become_system_containers_named_by_their_path() {
    let scrape = read(&recorded("cgroup-v2"));
    // Neither what docker's container does inside, nor mounts, are listed.
    let expected = [
        "node:web-1".to_owned(),
        "node:web-1/container:init.scope".to_owned(),
        "node:web-1/container:system.slice".to_owned(),
        "node:web-1/container:user.slice".to_owned(),
        format!("node:web-1/container:system.slice/{DOCKER}"),
        "node:web-1/container:system.slice/docker.service".to_owned(),
        "node:web-1/container:system.slice/sshd.service".to_owned(),
        "node:web-1/container:user.slice/user-1000.slice".to_owned(),
    ];
    assert_eq!(names(&scrape), expected);
    for (entity, set) in &scrape.sets {
        assert_eq!(EntityKey::from_labels(&set.labels).as_ref(), Some(entity));
    }

    let sshd = container(&scrape, "system.slice/sshd.service");
    assert_eq!(sshd.entity_type(), Some(EntityType::SystemContainer));
    assert_eq!(sshd.labels.value(key::HOST_ID), "7d3f0c5e1b9a4826a0d4c7e2f19b6358");
    assert_eq!(sshd.scrape_time, NanoTime::from_seconds(1_700_100_000));
    // The recorded directory is younger than the recorded moment, and nothing starts in the future.
    assert_eq!(sshd.collection_start_time, sshd.scrape_time);
    check_plain(
        sshd,
        &[
            (metric::UPTIME, 0),
            (metric::CPU_USAGE, 4_500_000_000),
            (metric::MEMORY_USAGE, 9_000_000),
            (metric::MEMORY_WORKING_SET, 5_000_000),
            (metric::MEMORY_RSS, 2_500_000),
            (metric::MEMORY_CACHE, 6_000_000),
            (metric::MEMORY_PAGE_FAULTS, 15_000),
            (metric::MEMORY_MAJOR_PAGE_FAULTS, 20),
        ],
    );
    // 7:0 is a loop device; 252:7 is in no table of devices.
    check_labeled(
        sshd,
        &[
            (metric::DISK_IO_READ_BYTES, "sda", 7_000_000),
            (metric::DISK_IO_READ_BYTES, "252:7", 4_096),
            (metric::DISK_IO_WRITE_BYTES, "sda", 16_384),
            (metric::DISK_IO_WRITE_BYTES, "252:7", 8_192),
        ],
    );
    // A slice without the memory controller has its CPU time only.
    check_plain(
        container(&scrape, "user.slice"),
        &[(metric::UPTIME, 0), (metric::CPU_USAGE, 200_000_000_000)],
    );
}

#[test]
fn a_host_with_cgroup_v1_gives_the_same_from_other_files() {
    let scrape = read(&recorded("cgroup-v1"));
    let docker =
        format!("docker/{}", DOCKER.trim_start_matches("docker-").trim_end_matches(".scope"));
    let expected = [
        "node:db-1".to_owned(),
        "node:db-1/container:batch".to_owned(),
        "node:db-1/container:docker".to_owned(),
        "node:db-1/container:system.slice".to_owned(),
        format!("node:db-1/container:{docker}"),
        "node:db-1/container:system.slice/mysqld.service".to_owned(),
    ];
    assert_eq!(names(&scrape), expected);
    assert_eq!(scrape.rejects, [""; 0]);
    assert_eq!(node(&scrape).collection_start_time, NanoTime::from_seconds(1_600_000_000));
    check_plain(
        node(&scrape),
        &[
            (metric::UPTIME, 5_000_500),
            (metric::CPU_USAGE, 600_000_000_000),
            (metric::CPU_LOAD, 1_200),
            (metric::MEMORY_USAGE, 2_500_000_000),
            (metric::MEMORY_WORKING_SET, 1_700_000_000),
            (metric::MEMORY_RSS, 700_000_000),
            (metric::MEMORY_CACHE, 1_600_000_000),
            (metric::MEMORY_PAGE_FAULTS, 8_000_000),
            (metric::MEMORY_MAJOR_PAGE_FAULTS, 700),
            // No interface has a device in this tree; virbr0 is virtual by its name.
            (metric::NETWORK_RX, 2_000_000),
            (metric::NETWORK_RX_ERRORS, 1),
            (metric::NETWORK_TX, 4_000_000),
            (metric::NETWORK_TX_ERRORS, 2),
            (metric::EPHEMERAL_STORAGE_USAGE, 60_000),
        ],
    );
    let mysqld = container(&scrape, "system.slice/mysqld.service");
    check_plain(
        mysqld,
        &[
            (metric::UPTIME, 0),
            (metric::CPU_USAGE, 250_000_000_000),
            (metric::MEMORY_USAGE, 1_200_000_000),
            (metric::MEMORY_WORKING_SET, 900_000_000),
            (metric::MEMORY_RSS, 450_000_000),
            (metric::MEMORY_CACHE, 700_000_000),
            (metric::MEMORY_PAGE_FAULTS, 4_000_000),
            (metric::MEMORY_MAJOR_PAGE_FAULTS, 350),
        ],
    );
    check_labeled(
        mysqld,
        &[
            (metric::DISK_IO_READ_BYTES, "8:0", 2_000_001),
            (metric::DISK_IO_WRITE_BYTES, "8:0", 7_000_002),
        ]
        .map(|(name, _, value)| (name, "vda", value)),
    );
    check_labeled(
        container(&scrape, &docker),
        &[(metric::DISK_IO_READ_BYTES, "vda", 512), (metric::DISK_IO_WRITE_BYTES, "vda", 1_024)],
    );
    // Only the memory controller knows this one.
    assert!(!container(&scrape, "batch").metrics.contains(metric::CPU_USAGE));
}

#[test]
fn a_hybrid_host_takes_from_v2_what_v1_lacks() {
    let tree = copy_of("cgroup-v1");
    fs::remove_dir_all(tree.path().join("sys/fs/cgroup/cpu,cpuacct")).unwrap();
    let unified = "sys/fs/cgroup/unified";
    write(tree.path(), &format!("{unified}/cgroup.controllers"), "");
    write(tree.path(), &format!("{unified}/cpu.stat"), "usage_usec 42\n");
    write(tree.path(), &format!("{unified}/system.slice/cpu.stat"), "usage_usec 7\n");
    write(tree.path(), &format!("{unified}/system.slice/memory.current"), "1\n");
    let scrape = read(tree.path());
    assert_eq!(node(&scrape).metrics.int(metric::CPU_USAGE), Some(42_000));
    let slice = container(&scrape, "system.slice");
    assert_eq!(slice.metrics.int(metric::CPU_USAGE), Some(7_000));
    assert_eq!(slice.metrics.int(metric::MEMORY_USAGE), Some(1_500_000_000));
}

#[test]
fn inside_a_container_the_node_is_still_the_machine() {
    let tree = copy_of("cgroup-v2");
    // Only a cgroup that is no root has a type.
    write(tree.path(), "sys/fs/cgroup/cgroup.type", "domain\n");
    // 100,000 + 2,000 + 30,000 + 500 + 1,500 ticks of 10 ms.
    let ticks = Some(1_340_000_000_000);
    write(tree.path(), "sys/fs/cgroup/cpu.stat", "usage_usec 5\n");
    write(tree.path(), "sys/fs/cgroup/memory.current", "5\n");
    let scrape = read(tree.path());
    assert_eq!(node(&scrape).metrics.int(metric::CPU_USAGE), ticks);
    assert_eq!(node(&scrape).metrics.int(metric::MEMORY_USAGE), Some(5_120_000_000));

    fs::remove_dir_all(tree.path().join("sys")).unwrap();
    let scrape = read(tree.path());
    assert_eq!(node(&scrape).metrics.int(metric::CPU_USAGE), ticks);
    assert_eq!(scrape.sets.len(), 1);
}

#[test]
fn starts_stay_the_same_between_scrapes_so_that_rates_are_computed() {
    let tree = copy_of("cgroup-v2");
    let sshd = "sys/fs/cgroup/system.slice/sshd.service";
    let clock = StepClock::at(NOW_MILLIS);
    let mut reader = reader_of(tree.path());
    let first = reader.read(&clock).unwrap();

    clock.step(Duration::from_secs(60));
    write(tree.path(), &format!("{sshd}/cpu.stat"), "usage_usec 7500000\n");
    // A child changes the directory's times, a set wall clock the kernel's time of boot.
    write(tree.path(), &format!("{sshd}/child/cpu.stat"), "usage_usec 1\n");
    let stat = fs::read_to_string(tree.path().join("proc/stat")).unwrap();
    write(tree.path(), "proc/stat", stat.replace("btime 1700000000", "btime 1700000003"));
    let second = reader.read(&clock).unwrap();

    for (entity, before) in &first.sets {
        let after = &second.sets.iter().find(|(key, _)| key == entity).unwrap().1;
        assert_eq!(after.collection_start_time, before.collection_start_time, "{entity}");
        let nanos = after.scrape_time.unwrap().as_nanos() - before.scrape_time.unwrap().as_nanos();
        assert_eq!(nanos, 60_000_000_000);
    }
    let of =
        |scrape, name| container(scrape, "system.slice/sshd.service").metrics.int(name).unwrap();
    assert_eq!(of(&second, metric::CPU_USAGE) - of(&first, metric::CPU_USAGE), 3_000_000_000);
    assert_eq!(of(&second, metric::UPTIME) - of(&first, metric::UPTIME), 60_000);
}

#[test]
fn two_scrapes_give_rates_and_the_use_of_the_nodes_capacity() {
    let tree = copy_of("cgroup-v2");
    let clock = StepClock::at(NOW_MILLIS);
    let mut reader = reader_of(tree.path());
    let cluster = Arc::clone(reader.cluster());
    let mut processors = standard(cluster, LabelCopier::default(), None);
    let mut process = |scrape: Scrape| {
        assert_eq!(scrape.rejects.len(), 1);
        let mut batch = DataBatch::new(clock.now());
        batch.sets = scrape.sets.into_iter().collect();
        for processor in &mut processors {
            processor.process(&mut batch).unwrap();
        }
        batch
    };
    process(reader.read(&clock).unwrap());

    clock.step(Duration::from_secs(60));
    let cgroups = "sys/fs/cgroup";
    write(tree.path(), &format!("{cgroups}/cpu.stat"), "usage_usec 1400000000\n");
    write(tree.path(), &format!("{cgroups}/user.slice/cpu.stat"), "usage_usec 230000000\n");
    let disks = fs::read_to_string(tree.path().join("proc/diskstats")).unwrap();
    // 120,000 sectors of 512 bytes in 60 s.
    write(tree.path(), "proc/diskstats", disks.replace("70000 10000000", "70000 10120000"));
    let batch = process(reader.read(&clock).unwrap());

    let node = &batch.sets[&EntityKey::node("web-1")];
    // 60 s of 4 cores' 240 s.
    assert_eq!(node.metrics.int(metric::CPU_USAGE_RATE), Some(1000));
    let share = |name| node.metrics.get(name).unwrap().value;
    assert_eq!(share(metric::CPU_NODE_UTILIZATION), Value::Float(0.25));
    assert_eq!(share(metric::EPHEMERAL_STORAGE_NODE_UTILIZATION), Value::Float(0.6));
    assert_eq!(share(metric::MEMORY_NODE_UTILIZATION), Value::Float(0.625));
    let rate = node.labeled_metrics.iter().find(|labeled| {
        labeled.name == metric::DISK_IO_WRITE_BYTES_RATE
            && labeled.labels.value(key::RESOURCE_ID) == "sda"
    });
    assert_eq!(rate.unwrap().metric.value, Value::Float(1_024_000.0));
    let slice = &batch.sets[&EntityKey::system_container("web-1", "user.slice")];
    assert_eq!(slice.metrics.int(metric::CPU_USAGE_RATE), Some(500));
}

#[test]
fn a_cgroup_made_anew_under_its_old_name_starts_anew() {
    let tree = copy_of("cgroup-v2");
    let slice = tree.path().join("sys/fs/cgroup/system.slice");
    let clock = StepClock::at(NOW_MILLIS);
    let mut reader = reader_of(tree.path());
    let first = reader.read(&clock).unwrap();
    clock.step(Duration::from_secs(60));
    // Made before the old one goes, so that the inode differs.
    fs::create_dir(slice.join("new")).unwrap();
    fs::write(slice.join("new/cpu.stat"), "usage_usec 1\n").unwrap();
    fs::remove_dir_all(slice.join("sshd.service")).unwrap();
    fs::rename(slice.join("new"), slice.join("sshd.service")).unwrap();
    let second = reader.read(&clock).unwrap();
    let start = |scrape| container(scrape, "system.slice/sshd.service").collection_start_time;
    assert_ne!(start(&first), start(&second));
}

#[test]
fn what_makes_no_sense_is_left_out_and_counted_once_per_kind() {
    let tree = copy_of("cgroup-v2");
    let root = tree.path();
    write(root, "proc/loadavg", "");
    write(root, "proc/uptime", b"\xff\xfe\x00\x01");
    write(root, "proc/meminfo", "MemTotal: 99999999999999999999999 kB\nMemFree: 1 kB\n");
    write(root, "proc/vmstat", "pgfault 18446744073709551615\npgmajfault 1\n");
    write(root, "proc/net/dev", b"\x00\n\n\n\xff");
    write(root, "proc/diskstats", "nonsense\n");
    write(root, "proc/1/mountinfo", "nonsense\n");
    write(root, "etc/machine-id", "not an id\n");
    for unit in ["sshd.service", "docker.service"] {
        let unit = format!("sys/fs/cgroup/system.slice/{unit}");
        write(root, &format!("{unit}/cpu.stat"), "usage_usec 99999999999999999\nuser_usec 1\n");
        write(root, &format!("{unit}/memory.current"), "max\n");
        write(root, &format!("{unit}/memory.stat"), b"\xff\x00");
        write(root, &format!("{unit}/io.stat"), "8:0 rbytes=-1\n");
    }
    let scrape = read(root);
    let node = node(&scrape);
    assert_eq!(node.labels.value(key::HOST_ID), "");
    check_plain(
        node,
        &[
            // Without /proc/uptime it is counted from boot.
            (metric::UPTIME, 100_000_000),
            (metric::CPU_USAGE, 1_340_000_000_000),
            (metric::MEMORY_MAJOR_PAGE_FAULTS, 1),
        ],
    );
    check_labeled(node, &[]);
    assert_eq!(scrape.sets.len(), 6);
    let first = "first: system.slice/docker.service";
    let expected = [
        "no uptime (1, first: proc/uptime lacks an expected number)".to_owned(),
        "no load average (1, first: proc/loadavg lacks an expected number)".to_owned(),
        "no memory numbers (1, first: proc/meminfo lacks an expected number)".to_owned(),
        "no page faults (1, first: proc/vmstat lacks an expected number)".to_owned(),
        "no network counters (1, first: proc/net/dev lacks an expected number)".to_owned(),
        "no disk numbers (1, first: proc/diskstats has no line of a device)".to_owned(),
        "no mount table (1, first: proc/1/mountinfo has no line of a disk)".to_owned(),
        format!("cgroups without a usable CPU time (2, {first})"),
        format!("cgroups without a usable memory usage (2, {first})"),
        format!("cgroups without a usable memory.stat (2, {first})"),
        format!("cgroups without usable disk numbers (2, {first})"),
    ];
    assert_eq!(scrape.rejects, expected);
}

/// Paths of the files below a directory, relative to it.
fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => directories.push(path),
                false => files.push(path.strip_prefix(root).unwrap().to_owned()),
            }
        }
    }
    files.sort();
    files
}

#[test]
fn no_content_of_any_one_file_costs_more_than_its_own_metrics() {
    let numbers = "9".repeat(25);
    let every_line = |text: &str| text.repeat((4 << 20) / text.len());
    let contents: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\xff\x00\x01:\n\n \t:\n".to_vec(),
        format!("{numbers} {numbers}.{numbers}\ncpu {numbers}\nbtime {numbers}\n").into_bytes(),
        // A device that comes twice must not give a series twice.
        b"8:0 rbytes=1 wbytes=2\n8:0 rbytes=3 wbytes=4\n".to_vec(),
        b"8:0 Read 1\n8:16 Read 2\n8:0 Read 3\n".to_vec(),
        every_line("8:0 Read 1\n8:1 Write 2\n").into_bytes(),
        every_line("8 0 sda1 1 2 3 4 5 6 7 8\n").into_bytes(),
        vec![b'1'; 5 << 20],
    ];
    for tree in ["cgroup-v2", "cgroup-v1"] {
        let whole = names(&read(&recorded(tree)));
        let copy = copy_of(tree);
        for file in files_below(copy.path()) {
            let original = fs::read(copy.path().join(&file)).unwrap();
            for content in &contents {
                fs::write(copy.path().join(&file), content).unwrap();
                let scrape = read(copy.path());
                let is_name = file.ends_with("hostname");
                assert!(is_name || scrape.sets.len() + 1 >= whole.len(), "{}", file.display());
                for (entity, set) in &scrape.sets {
                    let series = set.labeled_metrics.iter().map(|m| (&m.name, &m.labels));
                    let distinct: BTreeSet<_> = series.clone().collect();
                    assert_eq!(distinct.len(), series.count(), "{entity}: {}", file.display());
                }
                assert!(scrape.rejects.len() <= 4, "{}: {:?}", file.display(), scrape.rejects);
            }
            fs::write(copy.path().join(&file), original).unwrap();
        }
        assert_eq!(names(&read(copy.path())), whole);
    }
}

#[test]
fn an_empty_proc_gives_a_node_without_metrics_and_a_missing_one_is_an_error() {
    let tree = tempfile::tempdir().unwrap();
    let options = HostOptions { root: tree.path().to_owned(), ..HostOptions::default() };
    let error = HostReader::new(&options).err().unwrap().to_string();
    assert_eq!(error, "could not open proc below the root of source host; is it mounted there?");
    fs::create_dir(tree.path().join("proc")).unwrap();
    let mut reader = HostReader::with_file_systems(&options, Box::new(Recorded)).unwrap();
    let scrape = reader.read(&StepClock::at(NOW_MILLIS)).unwrap();
    assert_eq!(names(&scrape), ["node:localhost"]);
    assert!(node(&scrape).metrics.is_empty());
    assert_eq!(scrape.rejects.len(), 8);

    fs::remove_dir(tree.path().join("proc")).unwrap();
    assert!(reader.read(&StepClock::at(NOW_MILLIS)).is_err());
    let missing = HostOptions { root: tree.path().join("no"), ..HostOptions::default() };
    let error = HostReader::new(&missing).err().unwrap().to_string();
    assert!(error.starts_with("could not open root directory "), "{error}");
}

#[test]
fn links_and_deep_trees_neither_lead_out_nor_hang() {
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "cpu.stat", "usage_usec 666\n");
    let tree = copy_of("cgroup-v2");
    let cgroups = tree.path().join("sys/fs/cgroup");
    symlink(&cgroups, cgroups.join("loop.slice")).unwrap();
    symlink(outside.path(), cgroups.join("outside.slice")).unwrap();
    let sshd = cgroups.join("system.slice/sshd.service");
    fs::remove_file(sshd.join("cpu.stat")).unwrap();
    symlink(outside.path().join("cpu.stat"), sshd.join("cpu.stat")).unwrap();
    fs::remove_file(tree.path().join("proc/loadavg")).unwrap();
    symlink("loadavg", tree.path().join("proc/loadavg")).unwrap();
    let deep = format!("sys/fs/cgroup/{}", "d/".repeat(60));
    write(tree.path(), &format!("{deep}cpu.stat"), "usage_usec 1\n");
    let scrape = read(tree.path());
    assert!(!container(&scrape, "system.slice/sshd.service").metrics.contains(metric::CPU_USAGE));
    assert!(!node(&scrape).metrics.contains(metric::CPU_LOAD));
    let names = names(&scrape).join("\n");
    assert!(!names.contains("loop") && !names.contains("outside") && !names.contains("d/d"));
}

#[test]
fn no_more_cgroups_are_reported_than_asked_for() {
    let tree = copy_of("cgroup-v2");
    let read = |containers_max| {
        let root = tree.path().to_owned();
        let options = HostOptions { root, containers_max, ..HostOptions::default() };
        let mut reader = HostReader::with_file_systems(&options, Box::new(Recorded)).unwrap();
        reader.read(&StepClock::at(NOW_MILLIS)).unwrap()
    };
    let scrape = read(2);
    let expected =
        ["node:web-1", "node:web-1/container:init.scope", "node:web-1/container:system.slice"];
    assert_eq!(names(&scrape), expected);
    // user.slice and the three in system.slice.
    let reject = "cgroups beyond the most that are reported (4, first: user.slice)";
    assert!(scrape.rejects.iter().any(|clause| clause == reject), "{:?}", scrape.rejects);
    assert_eq!(read(0).sets.len(), 1);
}

#[test]
fn the_machine_is_a_cluster_of_one_node() {
    let tree = copy_of("cgroup-v2");
    let mut reader = reader_of(tree.path());
    let cluster = Arc::clone(reader.cluster());
    let nodes = cluster.nodes();
    let [node] = nodes.as_slice() else { panic!("{nodes:?}") };
    assert_eq!(node.name, "web-1");
    let pairs = |map: &BTreeMap<Text, i64>| -> Vec<String> {
        map.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    };
    let capacity = ["cpu=4000", "ephemeral-storage=100000", "memory=8192000000"];
    assert_eq!(pairs(&node.capacity), capacity);
    assert_eq!(pairs(&node.allocatable), capacity);
    let labels: Vec<String> = node.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let expected = [
        "kernel-version=6.1.0-18-amd64",
        "kubernetes.io/arch=amd64",
        "kubernetes.io/hostname=web-1",
        "kubernetes.io/os=linux",
        "os-image=debian-12",
    ];
    assert_eq!(labels, expected);

    // A processor is taken offline; what cannot be read stays as it was.
    let stat = fs::read_to_string(tree.path().join("proc/stat")).unwrap();
    write(tree.path(), "proc/stat", stat.replace("cpu3 ", "gone "));
    write(tree.path(), "proc/meminfo", "");
    reader.read(&StepClock::at(NOW_MILLIS)).unwrap();
    let capacity = ["cpu=3000", "ephemeral-storage=100000", "memory=8192000000"];
    assert_eq!(pairs(&cluster.nodes()[0].capacity), capacity);
}

#[test]
fn a_name_given_by_the_user_is_the_nodes_and_not_the_hosts() {
    let options = HostOptions {
        root: recorded("cgroup-v2"),
        node_name: Some(Text::from("edge-7")),
        ..HostOptions::default()
    };
    let mut reader = HostReader::with_file_systems(&options, Box::new(Recorded)).unwrap();
    let scrape = reader.read(&StepClock::at(NOW_MILLIS)).unwrap();
    assert_eq!(scrape.sets[0].0, EntityKey::node("edge-7"));
    assert_eq!(node(&scrape).labels.value(key::HOSTNAME), "web-1");
}

/// A file system that answers only when the test says so, as one on a dying disk.
struct Hanging {
    asked: Arc<Notify>,
    answers: mpsc::Receiver<()>,
}

impl FileSystems for Hanging {
    fn usage(&self, _mount_point: &str) -> io::Result<FileSystemUsage> {
        self.asked.notify_one();
        // An error says that the test no longer holds the answers back.
        let _ = self.answers.recv();
        Ok(FileSystemUsage::default())
    }
}

#[tokio::test]
async fn a_scrape_that_hangs_is_not_joined_by_a_second_one() {
    let options = HostOptions { root: recorded("cgroup-v2"), ..HostOptions::default() };
    let asked = Arc::new(Notify::new());
    let (answer, answers) = mpsc::channel();
    let hanging = Hanging { asked: Arc::clone(&asked), answers };
    // One answer is for the capacity known from the start.
    answer.send(()).unwrap();
    let reader = HostReader::with_file_systems(&options, Box::new(hanging)).unwrap();
    asked.notified().await;
    let source = HostSource::from_reader(reader, Arc::new(StepClock::at(NOW_MILLIS)));
    let interval = Interval { start: Timestamp::EPOCH, end: Timestamp::EPOCH };

    // Dropped once it hangs, as at a deadline; its thread goes on.
    tokio::select! {
        _ = source.scrape(interval) => panic!("nothing was answered"),
        () = asked.notified() => {}
    }
    let second = tokio::time::timeout(Duration::from_secs(10), source.scrape(interval)).await;
    let error = second.expect("the second scrape waits for the first").unwrap_err();
    assert_eq!(error.to_string(), "an earlier scrape of this host still runs");

    drop(answer);
    let scrape = loop {
        match source.scrape(interval).await {
            Ok(scrape) => break scrape,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(scrape.sets.len(), 8);
}

#[tokio::test]
async fn this_machine_gives_plausible_numbers() {
    if !Path::new("/proc/stat").exists() {
        println!("skipped: this system has no /proc");
        return;
    }
    let clock = Arc::new(SystemClock::new());
    let source = Arc::new(HostSource::new(&HostOptions::default(), clock).unwrap());
    let provider = HostProvider::new(Arc::clone(&source));
    let sources = provider.sources();
    let interval = Interval { start: Timestamp::EPOCH, end: Timestamp::EPOCH };
    let first = sources[0].scrape(interval).await.unwrap();
    let second = sources[0].scrape(interval).await.unwrap();
    assert!(source.name().starts_with("host:"));

    let (before, after) = (node(&first), node(&second));
    assert_eq!(before.collection_start_time, after.collection_start_time);
    assert!(before.collection_start_time < before.scrape_time);
    let int = |set: &MetricSet, name: &str| {
        set.metrics.int(name).unwrap_or_else(|| panic!("no {name}: {:?}", first.rejects))
    };
    let total = source.cluster().nodes()[0].capacity["memory"];
    for name in [metric::MEMORY_USAGE, metric::MEMORY_WORKING_SET, metric::MEMORY_RSS] {
        assert!((1..=total).contains(&int(before, name)), "{name} of {total}");
    }
    for name in [metric::CPU_USAGE, metric::MEMORY_PAGE_FAULTS, metric::UPTIME] {
        assert!(int(before, name) > 0, "{name}");
        assert!(int(after, name) >= int(before, name), "{name}");
    }
    let cores = source.cluster().nodes()[0].capacity["cpu"] / 1000;
    assert!(int(after, metric::CPU_USAGE) / 1_000_000 <= int(after, metric::UPTIME) * cores * 2);
    let root_limit = before.labeled_metrics.iter().find(|labeled| {
        labeled.name == metric::FILESYSTEM_LIMIT && labeled.labels.value(key::RESOURCE_ID) == "/"
    });
    let limit = root_limit.map(|labeled| labeled.metric.value);
    assert!(limit.is_some_and(|limit| limit != Value::Int(0)), "{:?}", first.rejects);
}
