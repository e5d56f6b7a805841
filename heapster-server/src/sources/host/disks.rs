//! [`Disks`]: bytes read from and written to whole disks, and the names of devices.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use heapster_core::{Labels, MetricSet, Text, key, metric};

use super::lines::{lines, number, words};

/// `/proc/diskstats` counts in these, whatever the disk's own sectors are.
const SECTOR_BYTES: i64 = 512;

/// Devices that are not disks, or lie on disks that are counted themselves.
const STACKED: [&str; 9] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "mtd", "drbd"];

/// Most devices of the machine that are looked at, and most that one cgroup may list.
const DEVICES_MAX: usize = 4_096;

/// Bytes moved since boot (a disk) or since a cgroup exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Transfer {
    pub read_bytes: i64,
    pub written_bytes: i64,
}

/// The block devices of the machine, in the order of `/proc/diskstats`.
#[derive(Debug, Default)]
pub(super) struct Disks {
    devices: Vec<Device>,
    by_number: HashMap<(i64, i64), usize>,
    /// How many lines were beyond the most that are looked at.
    pub left_out: usize,
}

#[derive(Debug)]
struct Device {
    number: (i64, i64),
    /// `resource_id` of its metrics; `None` when the device is not reported.
    labels: Option<Labels>,
    name: Text,
    transfer: Transfer,
}

impl Disks {
    /// Reads the table; `None` when it has lines but none of them is a device.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = lines(bytes);
        let mut devices: Vec<Device> =
            lines.by_ref().take(DEVICES_MAX).filter_map(Device::parse).collect();
        if devices.is_empty() && !bytes.is_empty() {
            return None;
        }
        let mut names: HashSet<Text> = HashSet::with_capacity(devices.len());
        // A name is a series: it must not come twice, whatever the table says.
        devices.retain(|device| names.insert(device.name.clone()));
        for device in &mut devices {
            device.labels = device.is_whole(&names).then(|| resource_id(device.name.clone()));
        }
        let by_number =
            devices.iter().enumerate().map(|(at, device)| (device.number, at)).collect();
        Some(Self { devices, by_number, left_out: lines.count() })
    }

    /// Adds the transfers of every whole disk to the set of the node.
    pub fn push_all(&self, set: &mut MetricSet) {
        let transfers = self
            .devices
            .iter()
            .filter_map(|device| Some((device.labels.as_ref()?, device.transfer)));
        push(set, transfers);
    }

    /// Adds the transfers of a cgroup to its set. A device missing from the table goes by its number.
    pub fn push_of_cgroup(&self, set: &mut MetricSet, transfers: &[CgroupTransfer]) {
        let mut numbered = Vec::with_capacity(transfers.len());
        let mut seen = HashSet::with_capacity(transfers.len());
        for CgroupTransfer { device: (major, minor), transfer } in transfers {
            if !seen.insert((*major, *minor)) {
                continue;
            }
            match self.by_number.get(&(*major, *minor)) {
                Some(at) => {
                    let labels = self.devices[*at].labels.clone();
                    numbered.extend(labels.map(|labels| (labels, *transfer)));
                }
                None => {
                    let mut id = String::new();
                    // Writing to a string cannot fail.
                    let _ = write!(id, "{major}:{minor}");
                    numbered.push((resource_id(id.into()), *transfer));
                }
            }
        }
        push(set, numbered.iter().map(|(labels, transfer)| (labels, *transfer)));
    }
}

fn resource_id(id: Text) -> Labels {
    let mut labels = Labels::new();
    labels.set_static(key::RESOURCE_ID, id);
    labels
}

/// Gauges, although they only rise: the original emits them so.
fn push<'a>(set: &mut MetricSet, transfers: impl Iterator<Item = (&'a Labels, Transfer)> + Clone) {
    for (labels, transfer) in transfers.clone() {
        set.push_labeled(metric::DISK_IO_READ_BYTES, labels, transfer.read_bytes);
    }
    for (labels, transfer) in transfers {
        set.push_labeled(metric::DISK_IO_WRITE_BYTES, labels, transfer.written_bytes);
    }
}

impl Device {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = words(line);
        let device = (number(words.next()?)?, number(words.next()?)?);
        let name = Text::from(std::str::from_utf8(words.next()?).ok()?);
        // Columns: reads, merged, sectors, ms; then the same for writes.
        let read_sectors = number(words.nth(2)?)?;
        let written_sectors = number(words.nth(3)?)?;
        let transfer = Transfer {
            read_bytes: read_sectors.checked_mul(SECTOR_BYTES)?,
            written_bytes: written_sectors.checked_mul(SECTOR_BYTES)?,
        };
        Some(Self { number: device, labels: None, name, transfer })
    }

    /// Whether this is a disk and not a part of one: `sda1` is part of `sda`, `nvme0n1p2` of
    /// `nvme0n1`, but nothing is called `nvme0n`.
    fn is_whole(&self, names: &HashSet<Text>) -> bool {
        if STACKED.iter().any(|start| self.name.starts_with(start)) {
            return false;
        }
        let stem = self.name.trim_end_matches(|c: char| c.is_ascii_digit());
        let parent = match stem.strip_suffix('p') {
            Some(parent) if parent.ends_with(|c: char| c.is_ascii_digit()) => parent,
            _ => stem,
        };
        parent.len() == self.name.len() || !names.contains(parent)
    }
}

/// What one cgroup moved on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CgroupTransfer {
    device: (i64, i64),
    transfer: Transfer,
}

/// Reads `io.stat` of cgroup v2: `8:0 rbytes=1 wbytes=2 rios=…`. `None` when a line makes no sense or
/// there are too many.
pub(super) fn parse_io_stat(bytes: &[u8], transfers: &mut Vec<CgroupTransfer>) -> Option<()> {
    for line in lines(bytes) {
        let mut words = words(line);
        let device = device_number(words.next()?)?;
        let mut transfer = Transfer::default();
        let mut has_bytes = false;
        for word in words {
            if let Some(value) = word.strip_prefix(b"rbytes=") {
                transfer.read_bytes = number(value)?;
                has_bytes = true;
            } else if let Some(value) = word.strip_prefix(b"wbytes=") {
                transfer.written_bytes = number(value)?;
            }
        }
        // Some devices have a line without any numbers.
        if has_bytes {
            if transfers.len() == DEVICES_MAX {
                return None;
            }
            transfers.push(CgroupTransfer { device, transfer });
        }
    }
    Some(())
}

/// Reads `blkio.throttle.io_service_bytes` of cgroup v1: `8:0 Read 1`, `8:0 Write 2`, …, `Total 3`.
pub(super) fn parse_service_bytes(bytes: &[u8], transfers: &mut Vec<CgroupTransfer>) -> Option<()> {
    for line in lines(bytes) {
        let mut words = words(line);
        let first = words.next()?;
        if first == b"Total" {
            continue;
        }
        let device = device_number(first)?;
        let (operation, value) = (words.next()?, number(words.next()?)?);
        if !matches!(operation, b"Read" | b"Write") {
            continue;
        }
        // The lines of a device follow each other.
        if transfers.last().is_none_or(|last| last.device != device) {
            if transfers.len() == DEVICES_MAX {
                return None;
            }
            transfers.push(CgroupTransfer { device, transfer: Transfer::default() });
        }
        let transfer = &mut transfers.last_mut()?.transfer;
        match operation {
            b"Read" => transfer.read_bytes = value,
            _ => transfer.written_bytes = value,
        }
    }
    Some(())
}

fn device_number(word: &[u8]) -> Option<(i64, i64)> {
    let colon = word.iter().position(|byte| *byte == b':')?;
    let (major, minor) = (&word[..colon], &word[colon + 1..]);
    if major.is_empty() || minor.is_empty() {
        return None;
    }
    Some((number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_disks_are_reported() {
        let names = [
            "sda",
            "sda1",
            "nvme0n1",
            "nvme0n1p2",
            "nvme1n1",
            "mmcblk0",
            "mmcblk0p1",
            "mmcblk0boot0",
            "loop0",
            "ram3",
            "zram0",
            "dm-0",
            "md127",
            "sr0",
            "vdb",
            "xvda1",
        ];
        let table: String =
            (0..).zip(names).map(|(n, name)| format!("8 {n} {name} 1 2 3 4 5 6 7 8\n")).collect();
        let disks = Disks::parse(table.as_bytes()).unwrap();
        let whole: Vec<&str> =
            disks.devices.iter().filter(|d| d.labels.is_some()).map(|d| d.name.as_str()).collect();
        let expected = ["sda", "nvme0n1", "nvme1n1", "mmcblk0", "mmcblk0boot0", "vdb", "xvda1"];
        assert_eq!(whole, expected);
        assert_eq!(
            disks.devices[0].transfer,
            Transfer { read_bytes: 3 * 512, written_bytes: 7 * 512 }
        );
    }

    #[test]
    fn io_of_both_cgroup_versions_reads_alike() {
        let (mut v2, mut v1) = (Vec::new(), Vec::new());
        let new = b"8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:1\n";
        let old = b"8:0 Read 10\n8:0 Write 20\n8:0 Sync 1\n8:0 Total 30\nTotal 30\n";
        assert_eq!(parse_io_stat(new, &mut v2), Some(()));
        assert_eq!(parse_service_bytes(old, &mut v1), Some(()));
        let transfer = Transfer { read_bytes: 10, written_bytes: 20 };
        assert_eq!(v2, [CgroupTransfer { device: (8, 0), transfer }]);
        assert_eq!(v1, v2);
        for bad in [&b"\xff\n"[..], b"8:0 rbytes=99999999999999999999\n", b":0 rbytes=1\n"] {
            assert_eq!(parse_io_stat(bad, &mut v2), None);
        }
    }
}
