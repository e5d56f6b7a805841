//! The promises of the store on the real kernel: system calls that kill or fail, full and broken
//! file systems, limits of the process, a second process.
//!
//! Most tests start this binary again with [`JOB_VARIABLE`] set; that process says on its standard
//! output what it was told, and the test compares what a later open finds. Where the machine lacks
//! what a test needs (root, `strace`, `mkfs.ext4`), the test says so and passes.
//! `HEAPSTER_KERNEL_ROUNDS` makes the sweeps longer.

mod block_device;
mod child;
mod damage;
mod full_disk;
mod limits;
mod places;
mod processes;
mod script;
mod system_calls;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use child::{DIR_VARIABLE, JOB_VARIABLE};

/// How often something is done that could be done for hours.
fn rounds(default: usize) -> usize {
    let wanted = std::env::var("HEAPSTER_KERNEL_ROUNDS").ok();
    wanted.map_or(default, |rounds| rounds.parse().expect("HEAPSTER_KERNEL_ROUNDS is a number"))
}

/// Says that a test does not run here; gives `None` for `?`.
fn skip<T>(why: &str) -> Option<T> {
    let thread = std::thread::current();
    eprintln!("skipped: {}: {why}", thread.name().unwrap_or_default());
    None
}

/// A directory in memory, where syncs cost nothing: for what the death of a process leaves, any
/// file system will do.
fn quick_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}

/// The program that does a job in a directory, started by `with` and its arguments; by nothing when
/// there are none.
fn child(with: &[&str], job: &str, dir: &Path) -> Command {
    child_of(&std::env::current_exe().unwrap(), with, job, dir)
}

/// As [`child`], from a copy of this binary.
fn child_of(binary: &Path, with: &[&str], job: &str, dir: &Path) -> Command {
    let mut command = match with {
        [] => Command::new(binary),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(binary);
            command
        }
    };
    command
        .args(["--exact", "kernel::child::that_is_started_by_the_tests", "--nocapture"])
        // In the main thread, whose calls `strace` counts.
        .arg("--test-threads=1")
        // Cargo's, with a directory for each build script: the loader of programs would look into
        // each of them, and those calls would be counted, and fail, as the store's.
        .env_remove("LD_LIBRARY_PATH")
        .env(JOB_VARIABLE, job)
        .env(DIR_VARIABLE, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a program to its end; whether it succeeded.
fn succeeds(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A file system that is mounted as long as this lives.
struct Mount(TempDir);

impl Mount {
    fn tmpfs(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap().to_owned();
        match succeeds("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &path]) {
            true => Some(Self(dir)),
            false => skip("a tmpfs cannot be mounted (no root?)"),
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let path = self.path().to_str().unwrap();
        // Lazily where a test failed with files open.
        if !succeeds("umount", &[path]) {
            succeeds("umount", &["-l", path]);
        }
    }
}

/// Every file below a directory with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                dirs.push(path);
            } else if kind.is_file() {
                let bytes = fs::read(&path).unwrap();
                files.insert(path, bytes);
            }
        }
    }
    files
}
