//! File systems of local disks: which are mounted, and how full they are.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use heapster_core::{Labels, MetricSet, Text, key, metric};

use super::lines::{lines, words};
use super::root::Root;

/// Types that keep data on a disk of this machine. Images that are always full (squashfs, iso9660)
/// are left out, and so are network file systems: asking one whose server is gone may never return.
const ON_DISK: [&str; 18] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "hfsplus", "jfs",
    "msdos", "nilfs2", "ntfs", "ntfs3", "reiserfs", "vfat", "xfs", "zfs",
];

/// More than any sensible machine mounts; a bound on the calls one scrape makes.
pub(super) const FILE_SYSTEMS_MAX: usize = 256;

/// Size and use of one file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystemUsage {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Bytes not used by files, those kept for root included.
    pub free_bytes: u64,
    /// Bytes that an ordinary user can still write.
    pub available_bytes: u64,
    /// Number of inodes; 0 when the file system does not count them.
    pub inodes: u64,
    /// Number of unused inodes.
    pub inodes_free: u64,
}

/// Asks how full a mounted file system is. Called from a thread that may block.
pub trait FileSystems: Send {
    /// Usage of the file system mounted at an absolute path of the machine.
    ///
    /// # Errors
    /// The file system cannot be asked; its metrics are left out.
    fn usage(&self, mount_point: &str) -> io::Result<FileSystemUsage>;
}

/// Asks the kernel, with mount points taken below the source's root.
#[derive(Debug)]
pub(super) struct KernelFileSystems(pub Arc<Root>);

impl FileSystems for KernelFileSystems {
    fn usage(&self, mount_point: &str) -> io::Result<FileSystemUsage> {
        let stat = rustix::fs::fstatvfs(self.0.locate(mount_point)?)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(FileSystemUsage {
            size_bytes: bytes(stat.f_blocks),
            free_bytes: bytes(stat.f_bfree),
            available_bytes: bytes(stat.f_bavail),
            inodes: stat.f_files,
            inodes_free: stat.f_ffree,
        })
    }
}

/// Mount points of a `mountinfo` table to report, `/` first: one per device, the shortest path.
pub(super) fn mount_points(bytes: &[u8]) -> Vec<String> {
    // Of two mounts on one point the later hides the earlier.
    let mut visible: BTreeMap<String, Mount<'_>> = BTreeMap::new();
    for mount in lines(bytes).filter_map(Mount::parse) {
        if let Some(point) = unescape(mount.point) {
            visible.insert(point, mount);
        }
    }
    let root_device = visible.get("/").map(|mount| mount.device);
    let mut by_device: BTreeMap<&[u8], String> = BTreeMap::new();
    for (point, mount) in visible {
        if point == "/" || !mount.is_reported() || Some(mount.device) == root_device {
            continue;
        }
        let known = by_device.entry(mount.device).or_insert_with(|| point.clone());
        if point.len() < known.len() {
            *known = point;
        }
    }
    let mut points: Vec<String> = by_device.into_values().collect();
    points.sort();
    if root_device.is_some() {
        points.insert(0, "/".to_owned());
    }
    points
}

struct Mount<'a> {
    device: &'a [u8],
    /// The directory of the file system that is mounted: `/` unless this is a bind mount.
    directory: &'a [u8],
    point: &'a [u8],
    kind: &'a [u8],
}

impl<'a> Mount<'a> {
    /// `36 35 98:0 /dir /point options optional… - type source options`.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = words(line);
        let device = words.nth(2)?;
        let (directory, point) = (words.next()?, words.next()?);
        let kind = words.skip_while(|word| *word != b"-").nth(1)?;
        Some(Self { device, directory, point, kind })
    }

    fn is_reported(&self) -> bool {
        let is_on_disk = ON_DISK.iter().any(|kind| kind.as_bytes() == self.kind);
        // A subvolume is mounted by its directory, like a bind mount.
        is_on_disk
            && (self.directory == b"/" || matches!(self.kind, b"btrfs" | b"bcachefs" | b"zfs"))
    }
}

/// A path of `mountinfo`, where blanks and backslashes are octal; `None` when it is not UTF-8.
fn unescape(path: &[u8]) -> Option<String> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                plain.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(plain).ok()
}

/// Adds the five metrics of a file system, in the order of a kubelet's.
pub(super) fn push(set: &mut MetricSet, mount_point: &str, usage: &FileSystemUsage) {
    let mut labels = Labels::new();
    labels.set_static(key::RESOURCE_ID, Text::from(mount_point));
    let mut push = |name, value: u64| {
        // More than 8 EiB is a file system's way to say that it does not know.
        if let Ok(value) = i64::try_from(value) {
            set.push_labeled(name, &labels, value);
        }
    };
    push(metric::FILESYSTEM_USAGE, usage.used_bytes());
    push(metric::FILESYSTEM_LIMIT, usage.size_bytes);
    push(metric::FILESYSTEM_AVAILABLE, usage.available_bytes);
    if usage.inodes > 0 {
        push(metric::FILESYSTEM_INODES, usage.inodes);
        push(metric::FILESYSTEM_INODES_FREE, usage.inodes_free);
    }
}

impl FileSystemUsage {
    /// Bytes taken by files.
    pub fn used_bytes(&self) -> u64 {
        self.size_bytes.saturating_sub(self.free_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_disk_is_reported_once_and_pseudo_file_systems_never() {
        let table = b"22 27 0:21 / /proc rw - proc proc rw\n\
            27 1 8:2 / / rw shared:1 - ext4 /dev/sda2 rw\n\
            30 27 8:2 /srv /srv rw - ext4 /dev/sda2 rw\n\
            31 27 8:1 / /boot/efi rw master:1 shared:2 - vfat /dev/sda1 rw\n\
            32 27 8:17 / /data/a\\040disk rw - xfs /dev/sdb1 rw\n\
            33 27 8:17 / /d rw - xfs /dev/sdb1 rw\n\
            34 27 8:33 /var/x /etc/hosts rw - ext4 /dev/sdc1 rw\n\
            35 27 0:40 /@home /home rw - btrfs /dev/sdd rw\n\
            36 27 0:50 / /nfs rw - nfs4 server:/x rw\n\
            37 27 7:1 / /snap/x rw - squashfs /dev/loop1 rw\n\
            38 27 8:49 / /hidden rw - ext4 /dev/sde rw\n\
            39 27 0:51 / /hidden rw - tmpfs tmpfs rw\n\
            40 27 \xff\n";
        assert_eq!(mount_points(table), ["/", "/boot/efi", "/d", "/home"]);
    }

    #[test]
    fn a_root_of_any_type_is_reported_and_octal_is_undone() {
        let table =
            b"1 0 0:9 / / rw - overlay overlay rw\n2 1 8:1 / /a\\040b\\134 rw - ext4 x rw\n";
        assert_eq!(mount_points(table), ["/", "/a b\\"]);
        assert_eq!(unescape(b"\\377"), None);
        assert_eq!(unescape(b"\\9").as_deref(), Some("\\9"));
    }
}
