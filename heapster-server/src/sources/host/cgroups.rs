//! [`Hierarchies`]: the cgroup trees of a machine, version 1, 2 or both, and the walk over them.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use heapster_core::NanoTime;

use super::disks::{self, CgroupTransfer};
use super::lines::{numbers, only_number};
use super::rejects::Rejects;
use super::root::{Buffer, Root, each_dir, is_absent, is_vanished, read_in};

const UNIFIED: &str = "sys/fs/cgroup";
const HYBRID_UNIFIED: &str = "sys/fs/cgroup/unified";

/// Where version 1 mounts a controller, and a file only that controller has.
const CPU_V1: (&[&str], &str) =
    (&["sys/fs/cgroup/cpuacct", "sys/fs/cgroup/cpu,cpuacct"], "cpuacct.usage");
const MEMORY_V1: (&[&str], &str) = (&["sys/fs/cgroup/memory"], "memory.usage_in_bytes");
const IO_V1: (&[&str], &str) = (&["sys/fs/cgroup/blkio"], "blkio.throttle.io_service_bytes");

/// A pod's container on a systemd host inside a container of another runtime lies this deep.
const DEPTH_MAX: usize = 10;
/// Bound on the walk's memory and time, far above any sensible machine.
const VISITED_MAX: usize = 20_000;

/// Units that hold no processes of their own: mounting, swapping and listening cost nothing.
const IDLE_UNITS: [&str; 5] = [".mount", ".automount", ".swap", ".socket", ".device"];

const REMOVED: &str = "cgroups removed while they were read";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// One tree, and what is read from it.
#[derive(Debug)]
struct Hierarchy {
    base: &'static str,
    version: Version,
    cpu: bool,
    memory: bool,
    io: bool,
}

/// The trees of the machine, each listed once.
#[derive(Debug)]
pub(super) struct Hierarchies(Vec<Hierarchy>);

/// What a cgroup uses; what its controllers do not tell is `None`.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub cpu_nanos: Option<i64>,
    pub memory_bytes: Option<i64>,
    pub memory: MemoryStat,
    pub transfers: Vec<CgroupTransfer>,
}

/// The part of `memory.stat` that becomes metrics.
#[derive(Debug, Default)]
pub(super) struct MemoryStat {
    pub anonymous: Option<i64>,
    pub file: Option<i64>,
    pub inactive_file: Option<i64>,
    pub page_faults: Option<i64>,
    pub major_page_faults: Option<i64>,
}

/// A cgroup found on the walk.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// Path below the tree, without a leading slash.
    pub path: String,
    /// The kernel never gives two cgroups the same, however their names repeat.
    pub inode: u64,
    /// Earliest time the directory tells. It may move while the cgroup lives.
    pub seen_since: Option<NanoTime>,
    pub usage: Usage,
}

impl Hierarchies {
    /// Finds out what is mounted.
    pub fn detect(root: &Root) -> Self {
        if root.has("sys/fs/cgroup/cgroup.controllers") {
            let (base, version) = (UNIFIED, Version::V2);
            return Self(vec![Hierarchy { base, version, cpu: true, memory: true, io: true }]);
        }
        let find = |(bases, file): (&[&'static str], &str)| {
            bases.iter().copied().find(|base| root.has(&format!("{base}/{file}")))
        };
        let mut found = Vec::new();
        let (cpu, memory, io) = (find(CPU_V1), find(MEMORY_V1), find(IO_V1));
        let v1 = |base, cpu, memory, io| Hierarchy { base, version: Version::V1, cpu, memory, io };
        found.extend(cpu.map(|base| v1(base, true, false, false)));
        found.extend(memory.map(|base| v1(base, false, true, false)));
        found.extend(io.map(|base| v1(base, false, false, true)));
        if root.has("sys/fs/cgroup/unified/cgroup.controllers") {
            found.push(Hierarchy {
                base: HYBRID_UNIFIED,
                version: Version::V2,
                cpu: cpu.is_none(),
                memory: memory.is_none(),
                io: io.is_none(),
            });
        }
        Self(found)
    }

    /// Usage of the root cgroups, as far as they are the machine's.
    ///
    /// In a container with a cgroup namespace of its own the roots are the container's. The files
    /// that only a true root has, or lacks, tell.
    pub fn machine(&self, root: &Root, buffer: &mut Buffer, rejects: &mut Rejects) -> Usage {
        let mut usage = Usage::default();
        for hierarchy in &self.0 {
            let is_machine = match hierarchy.version {
                Version::V1 => root.has(&format!("{}/release_agent", hierarchy.base)),
                Version::V2 => !root.has(&format!("{}/cgroup.type", hierarchy.base)),
            };
            if !is_machine {
                continue;
            }
            // The node's disks are those of the machine, not of its root cgroup.
            let without_io = Hierarchy { io: false, ..*hierarchy };
            if let Ok(dir) = root.dir(hierarchy.base) {
                let mut reader =
                    UsageReader { path: "/", buffer: &mut *buffer, rejects: &mut *rejects };
                // A root does not vanish.
                let _ = reader.add(&dir, &without_io, &mut usage);
            }
        }
        usage
    }

    /// All cgroups below the roots that tell CPU or memory usage, level by level and by name within
    /// a level, at most `containers_max`.
    pub fn walk(
        &self,
        root: &Root,
        containers_max: usize,
        buffer: &mut Buffer,
        rejects: &mut Rejects,
    ) -> Vec<Cgroup> {
        let mut cgroups = Vec::new();
        if containers_max == 0 {
            return cgroups;
        }
        let mut queue = VecDeque::from([String::new()]);
        let mut visited = 0;
        let mut children = BTreeSet::new();
        while let Some(path) = queue.pop_front() {
            if cgroups.len() == containers_max {
                let what = "cgroups beyond the most that are reported";
                rejects.add_many(what, queue.len() + 1, &path);
                break;
            }
            visited += 1;
            if visited > VISITED_MAX {
                rejects.add_many(
                    "cgroups beyond the most that are visited",
                    queue.len() + 1,
                    &path,
                );
                break;
            }
            children.clear();
            let room = VISITED_MAX.saturating_sub(visited + queue.len());
            let seen = self.visit(root, &path, room, &mut children, buffer, rejects);
            if let Some(cgroup) = seen
                && !path.is_empty()
                && cgroup.usage.is_any()
            {
                cgroups.push(cgroup);
            }
            for name in &children {
                queue.push_back(if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}/{name}")
                });
            }
        }
        cgroups
    }

    /// Reads one cgroup from every tree and lists what lies below; `None`, and counted, when it is
    /// gone or closed to us.
    fn visit(
        &self,
        root: &Root,
        path: &str,
        room: usize,
        children: &mut BTreeSet<String>,
        buffer: &mut Buffer,
        rejects: &mut Rejects,
    ) -> Option<Cgroup> {
        let mut cgroup: Option<Cgroup> = None;
        let mut is_closed = false;
        let descend = path.matches('/').count() + 1 < DEPTH_MAX && !is_runtime_container(path);
        for hierarchy in &self.0 {
            let opened = root.dir(&format!("{}/{path}", hierarchy.base));
            let (dir, metadata) = match opened.and_then(|dir| Ok((dir.metadata()?, dir))) {
                Ok((metadata, dir)) => (dir, metadata),
                // Another tree may have it.
                Err(error) if is_absent(&error) || is_vanished(&error) => continue,
                Err(error) => {
                    rejects.add("unreadable cgroups", format_args!("{path}: {error}"));
                    is_closed = true;
                    continue;
                }
            };
            let cgroup = cgroup.get_or_insert_with(|| Cgroup {
                path: path.to_owned(),
                inode: metadata.ino(),
                seen_since: seen_since(&metadata),
                usage: Usage::default(),
            });
            if !path.is_empty() {
                let mut reader = UsageReader { path, buffer: &mut *buffer, rejects: &mut *rejects };
                if reader.add(&dir, hierarchy, &mut cgroup.usage).is_err() {
                    rejects.add(REMOVED, path);
                    children.clear();
                    return None;
                }
            }
            // A cgroup directory has one link more for each directory in it; two mean none. File
            // systems that do not count this way show one.
            let is_leaf = metadata.nlink() == 2;
            if descend && !is_leaf && (hierarchy.cpu || hierarchy.memory) {
                list(dir, path, room, children, rejects);
            }
        }
        // A machine without any tree has no root either, which is no fault.
        if cgroup.is_none() && !is_closed && !path.is_empty() {
            rejects.add(REMOVED, path);
        }
        cgroup
    }
}

fn list(
    dir: File,
    path: &str,
    room: usize,
    children: &mut BTreeSet<String>,
    rejects: &mut Rejects,
) {
    let listed = each_dir(dir, |name| {
        let Ok(name) = std::str::from_utf8(name) else {
            rejects.add("cgroups with a name that is not UTF-8", name.escape_ascii());
            return true;
        };
        if IDLE_UNITS.iter().any(|unit| name.ends_with(unit)) {
            return true;
        }
        if children.len() >= room {
            rejects.add("directories with more cgroups than are visited", path);
            return false;
        }
        children.insert(name.to_owned());
        true
    });
    match listed {
        Ok(()) => {}
        // Its going was noticed by its files, or will be.
        Err(error) if is_absent(&error) || is_vanished(&error) => {}
        Err(error) => rejects.add("unlistable cgroups", format_args!("{path}: {error}")),
    }
}

/// The earlier of the two times a directory keeps; neither is a birth time.
fn seen_since(metadata: &std::fs::Metadata) -> Option<NanoTime> {
    let at = |seconds: i64, nanos: i64| {
        Some(NanoTime::from_nanos(seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?))
    };
    let modified = at(metadata.mtime(), metadata.mtime_nsec());
    let changed = at(metadata.ctime(), metadata.ctime_nsec());
    modified.into_iter().chain(changed).min()
}

/// Whether a container runtime made the cgroup: its last name ends in the 64 hexadecimal digits of
/// a container's ID, as in `docker/<id>`, `docker-<id>.scope`, `libpod-<id>.scope`,
/// `cri-containerd-<id>.scope`, `crio-<id>.scope`, `kubepods/burstable/pod<uid>/<id>`.
///
/// What such a container does inside is its own affair, and counted in it.
fn is_runtime_container(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit(['-', ':']).next().unwrap_or(name);
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Usage {
    fn is_any(&self) -> bool {
        self.cpu_nanos.is_some() || self.memory_bytes.is_some()
    }
}

/// The cgroup was removed in the middle of reading it.
struct Vanished;

/// What reading the files of one cgroup needs.
struct UsageReader<'a> {
    path: &'a str,
    buffer: &'a mut Buffer,
    rejects: &'a mut Rejects,
}

impl UsageReader<'_> {
    fn add(&mut self, dir: &File, from: &Hierarchy, usage: &mut Usage) -> Result<(), Vanished> {
        match from.version {
            Version::V2 => self.add_v2(dir, from, usage),
            Version::V1 => self.add_v1(dir, from, usage),
        }
    }

    fn add_v2(&mut self, dir: &File, from: &Hierarchy, usage: &mut Usage) -> Result<(), Vanished> {
        if from.cpu {
            usage.cpu_nanos = self.file(dir, "cpu.stat", |bytes| {
                let [micros] = numbers(bytes, ["usage_usec"]);
                micros?.checked_mul(1000)
            })?;
        }
        if from.memory {
            usage.memory_bytes = self.file(dir, "memory.current", only_number)?;
            let keys = ["anon", "file", "inactive_file", "pgfault", "pgmajfault"];
            usage.memory = self.memory_stat(dir, keys)?;
        }
        if from.io {
            let mut transfers = Vec::new();
            let read =
                self.file(dir, "io.stat", |bytes| disks::parse_io_stat(bytes, &mut transfers))?;
            usage.transfers = read.map_or_else(Vec::new, |()| transfers);
        }
        Ok(())
    }

    fn add_v1(&mut self, dir: &File, from: &Hierarchy, usage: &mut Usage) -> Result<(), Vanished> {
        if from.cpu {
            usage.cpu_nanos = self.file(dir, "cpuacct.usage", only_number)?;
        }
        if from.memory {
            usage.memory_bytes = self.file(dir, "memory.usage_in_bytes", only_number)?;
            let keys = [
                "total_rss",
                "total_cache",
                "total_inactive_file",
                "total_pgfault",
                "total_pgmajfault",
            ];
            usage.memory = self.memory_stat(dir, keys)?;
        }
        if from.io {
            // The plain file leaves out the cgroups below; old kernels have only that.
            for name in
                ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"]
            {
                let mut transfers = Vec::new();
                let read = self
                    .file(dir, name, |bytes| disks::parse_service_bytes(bytes, &mut transfers))?;
                if read.is_some() {
                    usage.transfers = transfers;
                    break;
                }
            }
        }
        Ok(())
    }

    fn memory_stat(&mut self, dir: &File, keys: [&str; 5]) -> Result<MemoryStat, Vanished> {
        let stat = self.file(dir, "memory.stat", |bytes| {
            let found = numbers(bytes, keys);
            found.iter().any(Option::is_some).then_some(found)
        })?;
        let [anonymous, file, inactive_file, page_faults, major_page_faults] =
            stat.unwrap_or_default();
        Ok(MemoryStat { anonymous, file, inactive_file, page_faults, major_page_faults })
    }

    /// Reads one file. A missing one is normal: its controller is not turned on.
    fn file<T>(
        &mut self,
        dir: &File,
        name: &'static str,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Vanished> {
        let path = self.path;
        match read_in(dir, name, self.buffer) {
            Ok(bytes) => {
                let parsed = parse(bytes);
                if parsed.is_none() {
                    self.rejects.add(unusable(name), path);
                }
                Ok(parsed)
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) if is_vanished(&error) => Err(Vanished),
            Err(error) => {
                self.reject_unreadable(name, &error);
                Ok(None)
            }
        }
    }

    fn reject_unreadable(&mut self, name: &str, error: &io::Error) {
        let path = self.path;
        self.rejects.add("unreadable files of cgroups", format_args!("{name} of {path}: {error}"));
    }
}

fn unusable(name: &str) -> &'static str {
    match name {
        "cpu.stat" | "cpuacct.usage" => "cgroups without a usable CPU time",
        "memory.current" | "memory.usage_in_bytes" => "cgroups without a usable memory usage",
        "memory.stat" => "cgroups without a usable memory.stat",
        _ => "cgroups without usable disk numbers",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_that_goes_between_listing_and_reading_is_counted() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join(UNIFIED)).unwrap();
        std::fs::write(tree.path().join(UNIFIED).join("cgroup.controllers"), "cpu").unwrap();
        let root = Root::open(tree.path()).unwrap();
        let trees = Hierarchies::detect(&root);
        let (mut buffer, mut rejects) = (Buffer::default(), Rejects::default());
        let mut children = BTreeSet::new();
        for path in ["gone.service", "", "gone.slice/a.service"] {
            let seen = trees.visit(&root, path, 9, &mut children, &mut buffer, &mut rejects);
            assert_eq!(seen.is_some(), path.is_empty());
        }
        let expected = ["cgroups removed while they were read (2, first: gone.service)"];
        assert_eq!(rejects.into_clauses(), expected);
    }

    #[test]
    fn containers_of_every_runtime_are_recognised_by_their_id() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("docker/{id}"),
            format!("system.slice/docker-{id}.scope"),
            format!("machine.slice/libpod-{id}.scope"),
            format!("kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("kubepods.slice/crio-{id}.scope"),
            format!("kubepods/besteffort/pod1/{id}"),
            format!("system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{id}"),
        ] {
            assert!(is_runtime_container(&path), "{path}");
        }
        for path in [
            "system.slice/docker.service".to_owned(),
            format!("docker/{id}/init.scope"),
            format!("docker/{}", id.to_uppercase()),
            format!("docker/{id}0"),
        ] {
            assert!(!is_runtime_container(&path), "{path}");
        }
    }
}
