//! An ext4 file system on a loop device: the power goes, the disk ends before the file system does,
//! the kernel gives the file system up.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use heapster_store::Store;

use super::child::{APPEND, batches_in, is_durable, plain_options};
use super::{Mount, child, rounds, skip, succeeds};

/// Length of the image; the file is sparse.
const IMAGE_BYTES: u64 = 48 << 20;
/// `EXT4_IOC_SHUTDOWN` without flushing the log, on the directory given: what was not synced is lost.
const SHUTDOWN: &str = "
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))
";

/// An ext4 file system in an image in a file system in memory. In the order in which they go.
struct Ext4 {
    mounted: Option<Mount>,
    image: PathBuf,
    memory: Mount,
}

impl Ext4 {
    fn new(options: &str) -> Option<Self> {
        let memory = Mount::tmpfs(options)?;
        let image = memory.path().join("image");
        fs::File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        if !succeeds("mkfs.ext4", &["-q", "-F", "-J", "size=4", image.to_str().unwrap()]) {
            return skip("mkfs.ext4 is missing");
        }
        let mut disk = Self { mounted: None, image, memory };
        disk.mount().then_some(disk).or_else(|| skip("a loop device cannot be mounted"))
    }

    fn mount(&mut self) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let paths = [&self.image, dir.path()].map(|path: &Path| path.to_str().unwrap());
        let is_mounted = succeeds("mount", &["-o", "loop", paths[0], paths[1]]);
        self.mounted = is_mounted.then(|| Mount(dir));
        is_mounted
    }

    fn mount_again(&mut self) {
        self.mounted = None;
        assert!(self.mount(), "the file system mounts again");
    }

    fn path(&self) -> &Path {
        self.mounted.as_ref().unwrap().path()
    }

    fn store(&self) -> PathBuf {
        self.path().join("store")
    }
}

/// What a process that appends was told.
#[derive(Debug, Default)]
struct Told {
    acknowledged: Vec<i64>,
    /// How many of them came before the test did something.
    count_before: usize,
    /// What it was refused with, and when.
    refused: Vec<(usize, String)>,
    /// Batches it still read at its end.
    read: Option<i64>,
}

impl Told {
    /// What was acknowledged before the test did something. Meanwhile ext4 may say of a sync that it
    /// succeeded although the journal, which has the length of the file, is not written any more;
    /// when the power really goes, nobody is left to be told so.
    fn before(&self) -> &[i64] {
        &self.acknowledged[..self.count_before]
    }
}

/// Makes the kernel give a file system up, as it does after errors of the disk.
fn abort(dir: &Path) {
    assert!(succeeds("mount", &["-o", "remount,abort", dir.to_str().unwrap()]));
}

/// Lets a process append, does something once it was told of so many batches, and waits until it
/// gives up.
fn append(dir: &Path, after: usize, then: impl Fn()) -> Told {
    let mut child = child(&[], APPEND, dir).spawn().unwrap();
    let mut told = Told::default();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("acknowledged"), Some(number)) => {
                told.acknowledged.push(number.parse().unwrap());
                if told.acknowledged.len() == after {
                    told.count_before = after;
                    then();
                }
            }
            (Some("refused" | "unflushed"), _) => {
                told.refused.push((told.acknowledged.len(), line));
            }
            (Some("batches"), Some(number)) => told.read = number.parse().ok(),
            _ => {}
        }
    }
    assert!(child.wait().unwrap().success(), "it did not panic: {told:?}");
    told
}

/// Opens the store as the disk has it and compares with what was acknowledged as durable; gives how
/// many batches there are.
fn check(dir: &Path, acknowledged: &[&[i64]], context: &str) -> i64 {
    let store = Store::open(dir, plain_options()).unwrap();
    assert!(store.open_report().is_complete(), "{context}: {:?}", store.open_report());
    let found = batches_in(&store);
    assert!(found.iter().copied().eq(0..found.len() as i64), "{context}: a hole in {found:?}");
    let durable = acknowledged.iter().copied().flatten().filter(|number| is_durable(**number));
    // With the last of them everything before is durable.
    let durable = durable.max();
    assert!(
        durable.is_none_or(|durable| found.len() as i64 > *durable),
        "{context}: {durable:?} was acknowledged, there are {}",
        found.len()
    );
    found.len() as i64
}

/// The first refusal has a name, and what the process was told until then can still be read.
fn assert_is_refused_for_good(told: &Told, context: &str) {
    let Some((_, first)) = told.refused.first() else { panic!("{context}: {told:?}") };
    assert!(first.contains("could not "), "{context}: {first}");
    let after = told.refused.iter().filter(|(count, _)| *count == told.acknowledged.len());
    assert!(after.count() >= 20, "{context}: {told:?}");
    assert!(told.read >= told.acknowledged.last().map(|last| last + 1), "{context}: {told:?}");
}

#[test]
fn durable_batches_survive_a_power_cut_of_a_real_file_system() {
    let Some(mut disk) = Ext4::new("size=64m") else { return };
    let has_python = succeeds("python3", &["-c", "import fcntl"]);
    if !has_python {
        return skip("python3, which makes the ioctl, is missing").unwrap_or_default();
    }
    let mut lost = 0;
    for round in 0..rounds(10) {
        let path = disk.path().to_str().unwrap().to_owned();
        let told = append(&disk.store(), 37 + round * 11 % 90, || {
            assert!(succeeds("python3", &["-c", SHUTDOWN, &path]));
        });
        assert_is_refused_for_good(&told, &format!("round {round}"));
        disk.mount_again();
        let acknowledged = told.acknowledged.last().map_or(0, |last| last + 1);
        let found = check(&disk.store(), &[told.before()], &format!("round {round}"));
        lost += (acknowledged - found).max(0);
    }
    println!("{lost} batches that were not durable were lost");
}

#[test]
fn a_disk_that_ends_before_its_file_system_loses_nothing_durable() {
    let Some(mut disk) = Ext4::new("size=12m") else { return };
    // Writes beyond what is left are taken, and fail when they are synced.
    let others = disk.memory.path().join("others");
    let used: u64 = {
        use std::os::unix::fs::MetadataExt;
        disk.image.metadata().unwrap().blocks() * 512
    };
    let left = 700 << 10;
    fs::write(&others, vec![1; ((12 << 20) - used - left) as usize]).unwrap();
    let told = append(&disk.store(), usize::MAX, || {});
    assert_is_refused_for_good(&told, "the disk ended");
    assert!(told.acknowledged.len() > 20, "{told:?}");
    disk.mounted = None;
    fs::remove_file(&others).unwrap();
    disk.mount_again();
    check(&disk.store(), &[&told.acknowledged], "with a larger disk");
    let more = append(&disk.store(), 100, || abort(disk.path()));
    assert!(more.count_before == 100, "it goes on");
    disk.mount_again();
    check(&disk.store(), &[&told.acknowledged, more.before()], "at the end");
}

#[test]
fn a_file_system_that_became_read_only_refuses_and_is_read() {
    let Some(mut disk) = Ext4::new("size=64m") else { return };
    let mut before = Vec::new();
    for round in 0..rounds(3) {
        let context = format!("round {round}");
        let path = disk.path().to_str().unwrap().to_owned();
        let told = append(&disk.store(), 50 + round * 7, || abort(disk.path()));
        assert_is_refused_for_good(&told, &context);
        // Another process cannot write there either, and says why.
        let refused = Store::open(disk.store(), plain_options()).unwrap_err();
        assert!(refused.to_string().contains(&path), "{context}: {refused}");
        disk.mount_again();
        check(&disk.store(), &[&before, told.before()], &context);
        before = told.before().to_vec();
    }
}
