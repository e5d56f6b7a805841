//! The server as a process: starting, measuring and ending it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use heapster_store::{Clock, SystemClock};
use rustix::process::{Pid, Signal, kill_process};

/// The unit of CPU times in `/proc` is 1/100 s on every architecture this runs on.
const TICK: Duration = Duration::from_millis(10);
const KIB: u64 = 1024;
const POLL_EVERY: Duration = Duration::from_millis(5);

/// A running server. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

/// How to start the server.
#[derive(Clone, Debug)]
pub(crate) struct ServerCommand {
    pub(crate) binary: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) data_dir: PathBuf,
    /// Where its log lines go; appended to.
    pub(crate) log: PathBuf,
}

impl ServerCommand {
    /// Starts the server on a free port of 127.0.0.1.
    pub(crate) fn start(&self) -> io::Result<Server> {
        let port = free_port()?;
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.binary)
            .arg("serve")
            .args(&self.arguments)
            .arg(format!("--heapster-port={port}"))
            .arg(format!("--data-dir={}", self.data_dir.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| {
                let message = format!("could not start {}: {error}", self.binary.display());
                io::Error::new(error.kind(), message)
            })?;
        Ok(Server { child, address: (Ipv4Addr::LOCALHOST, port).into() })
    }
}

impl Server {
    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the process has used so far.
    pub(crate) fn usage(&self) -> io::Result<ProcessUsage> {
        ProcessUsage::of(self.child.id())
    }

    /// How the process ended, if it did.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Kills the process at once (SIGKILL) and waits for its end.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Asks the process to end (SIGTERM) and waits; returns how it ended and how long that took.
    /// A process that takes longer than `patience` is killed.
    pub(crate) async fn terminate(
        &mut self,
        patience: Duration,
    ) -> io::Result<(ExitStatus, Duration)> {
        let clock = SystemClock::new();
        if let Some(status) = self.child.try_wait()? {
            return Ok((status, Duration::ZERO));
        }
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("bug: a child without a process id"))?;
        kill_process(id, Signal::TERM)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, clock.monotonic()));
            }
            if clock.monotonic() > patience {
                self.child.kill()?;
                return Ok((self.child.wait()?, clock.monotonic()));
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails when the process has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// User and system time since the start, of all threads.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// The part of it that is the process's own: heap and stacks.
    pub anonymous_bytes: u64,
    /// The part of it that is mapped files, which the system may drop.
    pub file_bytes: u64,
    /// The most that ever was resident, in bytes.
    pub peak_bytes: u64,
    /// Number of threads.
    pub threads: u64,
}

impl ProcessUsage {
    /// The usage of a process of this machine.
    ///
    /// # Errors
    /// There is no such process, or `/proc` cannot be read.
    pub fn of(process_id: u32) -> io::Result<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{process_id}/{name}"));
        Self::parse(&read("stat")?, &read("status")?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown form of /proc"))
    }

    /// Reads `/proc/PID/stat` and `/proc/PID/status`.
    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The command's name may hold spaces and brackets; the fields after it may not.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u32 =
            fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line[name.len()..].trim_end_matches("kB").trim().parse().ok()
        };
        let bytes = |name| field(name).map(|kib| kib * KIB);
        Some(Self {
            cpu: TICK * ticks,
            resident_bytes: bytes("VmRSS:")?,
            anonymous_bytes: bytes("RssAnon:")?,
            file_bytes: bytes("RssFile:")?,
            peak_bytes: bytes("VmHWM:")?,
            threads: field("Threads:")?,
        })
    }
}

/// Bytes of the files of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Length of the files by the first folder of their path; `""` is for files at the top.
    pub by_folder: BTreeMap<String, u64>,
    /// Blocks taken on disk, in bytes; differs from the length for files with holes.
    pub allocated_bytes: u64,
    /// Number of files.
    pub files: u64,
}

impl DiskUsage {
    /// The files below `root`. Files that vanish meanwhile are left out.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn of(root: &Path) -> io::Result<Self> {
        let mut usage = Self::default();
        let mut waiting = vec![(root.to_owned(), None::<String>)];
        while let Some((folder, top)) = waiting.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && top.is_some() => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let Ok(metadata) = entry.metadata() else { continue };
                let name = entry.file_name().to_string_lossy().into_owned();
                if metadata.is_dir() {
                    waiting.push((entry.path(), Some(top.clone().unwrap_or(name))));
                } else {
                    *usage.by_folder.entry(top.clone().unwrap_or_default()).or_default() +=
                        metadata.len();
                    usage.allocated_bytes += metadata.blocks() * 512;
                    usage.files += 1;
                }
            }
        }
        Ok(usage)
    }

    /// Length of all files.
    pub fn total_bytes(&self) -> u64 {
        self.by_folder.values().sum()
    }

    /// Length of the files below one folder.
    pub fn folder_bytes(&self, folder: &str) -> u64 {
        self.by_folder.get(folder).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_past_a_name_with_brackets() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 900 0 3 0 250 51 0 0 20 0 5 0 100 1 2";
        let status = "Name:\ta) b\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nRssAnon:\t 1000 kB\nRssFile:\t 24 kB\nThreads:\t5\n";
        let usage = ProcessUsage::parse(stat, status).unwrap();
        assert_eq!(usage.cpu, Duration::from_millis(3010));
        assert_eq!((usage.resident_bytes, usage.peak_bytes), (1 << 20, 2 << 20));
        assert_eq!(
            (usage.anonymous_bytes, usage.file_bytes, usage.threads),
            (1_024_000, 24_576, 5)
        );
        assert_eq!(ProcessUsage::parse("nonsense", status), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = ProcessUsage::of(std::process::id()).unwrap();
        assert!(usage.resident_bytes > 0 && usage.peak_bytes >= usage.resident_bytes);
    }

    #[test]
    fn files_count_for_the_first_folder_of_their_path() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("segments/raw")).unwrap();
        fs::create_dir(root.path().join("wal")).unwrap();
        for (path, length) in
            [("MANIFEST", 5), ("wal/1", 100), ("segments/raw/a", 30), ("segments/raw/b", 7)]
        {
            fs::write(root.path().join(path), vec![0; length]).unwrap();
        }
        let usage = DiskUsage::of(root.path()).unwrap();
        assert_eq!(usage.folder_bytes("segments"), 37);
        assert_eq!((usage.folder_bytes("wal"), usage.total_bytes(), usage.files), (100, 142, 4));
        assert!(DiskUsage::of(&root.path().join("nothing")).is_err());
    }

    #[tokio::test]
    async fn a_server_that_ignores_the_signal_is_killed() {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The trap is set once the line is there.
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(output), &mut line).unwrap();
        let mut server = Server { child, address: (Ipv4Addr::LOCALHOST, 1).into() };
        let (status, took) = server.terminate(Duration::from_millis(50)).await.unwrap();
        assert!(!status.success() && took >= Duration::from_millis(50));
    }
}
