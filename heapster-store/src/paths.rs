//! Every file name of a store: made and recognised here and nowhere else.
//!
//! ```text
//! DIR/LOCK  MANIFEST  MANIFEST.copy  wal/<generation>.wal  segments/<tier>/<id>.seg  quarantine/
//! DIR/RESERVE.1  RESERVE.2  RESERVE.3
//! DIR/BACKUP in a backup
//! ```
//! Numbers have 16 hexadecimal digits, so that names sort as numbers do. A name that ends with
//! `.tmp` is unfinished and may be removed at any time.

use std::path::{Path, PathBuf};

/// Name of the directory of raw segments.
const RAW: &str = "raw";
/// What the name of the directory of another tier begins with; its number follows.
const TIER: &str = "tier-";
/// Name of the file that tells a backup from a store.
pub(crate) const BACKUP: &str = "BACKUP";
/// What the name of a file that keeps room begins with; its number follows.
const RESERVE: &str = "RESERVE.";
/// What the name of an unfinished file ends with.
pub(crate) const TEMPORARY: &str = ".tmp";

/// The files of one store.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    root: PathBuf,
}

impl Paths {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    pub fn manifest(&self) -> PathBuf {
        self.root.join("MANIFEST")
    }

    pub fn manifest_copy(&self) -> PathBuf {
        self.root.join("MANIFEST.copy")
    }

    /// Both copies of the manifest, the first one first.
    pub fn manifests(&self) -> [PathBuf; 2] {
        [self.manifest(), self.manifest_copy()]
    }

    /// The file that tells a backup from a store.
    pub fn backup_mark(&self) -> PathBuf {
        self.root.join(BACKUP)
    }

    /// The files that keep room for a full disk.
    pub fn reserves(&self) -> [PathBuf; 3] {
        [1, 2, 3].map(|number| self.root.join(format!("{RESERVE}{number}")))
    }

    pub fn wal_dir(&self) -> PathBuf {
        self.root.join("wal")
    }

    pub fn wal(&self, generation: u64) -> PathBuf {
        self.wal_dir().join(format!("{generation:016x}.wal"))
    }

    pub fn segments_dir(&self) -> PathBuf {
        self.root.join("segments")
    }

    /// Directory of a tier; 0 is raw.
    pub fn tier_dir(&self, tier: u8) -> PathBuf {
        let name = if tier == 0 { RAW.to_owned() } else { format!("{TIER}{tier}") };
        self.segments_dir().join(name)
    }

    pub fn segment(&self, tier: u8, id: u64) -> PathBuf {
        self.tier_dir(tier).join(format!("{id:016x}.seg"))
    }

    pub fn quarantine_dir(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Whether a name directly in the directory is one of ours.
    pub fn is_own(name: &str) -> bool {
        let own = ["LOCK", "MANIFEST", "MANIFEST.copy", "wal", "segments", "quarantine", BACKUP];
        let is_reserve = name.strip_prefix(RESERVE).is_some_and(|n| matches!(n, "1" | "2" | "3"));
        own.contains(&name) || is_reserve || name == "lost+found" || name.ends_with(TEMPORARY)
    }
}

/// The generation of a log file's name.
pub(crate) fn parse_wal(name: &str) -> Option<u64> {
    parse_number(name.strip_suffix(".wal")?)
}

/// The tier of a directory's name.
pub(crate) fn parse_tier(name: &str) -> Option<u8> {
    if name == RAW {
        return Some(0);
    }
    let tier = name.strip_prefix(TIER)?.parse().ok()?;
    (tier > 0 && name == format!("{TIER}{tier}")).then_some(tier)
}

/// The number of a segment's name.
pub(crate) fn parse_segment(name: &str) -> Option<u64> {
    parse_number(name.strip_suffix(".seg")?)
}

/// A path with [`TEMPORARY`] at its end.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    name.into()
}

fn parse_number(digits: &str) -> Option<u64> {
    let is_ours = digits.len() == 16
        && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    is_ours.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_foreign_ones_do_not() {
        let paths = Paths::new(Path::new("d"));
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(parse_wal(&name(paths.wal(0xab))), Some(0xab));
        assert_eq!(parse_segment(&name(paths.segment(0, u64::MAX))), Some(u64::MAX));
        for foreign in ["1.wal", "+00000000000000a.wal", "00000000000000AB.wal", "x.seg"] {
            assert_eq!(parse_wal(foreign), None, "{foreign}");
        }
        for tier in [0, 1, 12, u8::MAX] {
            assert_eq!(parse_tier(&name(paths.tier_dir(tier))), Some(tier));
        }
        for foreign in ["tier-0", "tier-01", "tier-+1", "tier-256", "tier-", "Raw"] {
            assert_eq!(parse_tier(foreign), None, "{foreign}");
        }
        assert!(paths.reserves().into_iter().all(|path| Paths::is_own(&name(path))));
        assert!(!["RESERVE.0", "RESERVE.4", "RESERVE."].into_iter().any(Paths::is_own));
        let unfinished = temporary(&paths.segment(0, 1));
        assert_eq!(unfinished, Path::new("d/segments/raw/0000000000000001.seg.tmp"));
        assert_eq!(parse_segment(&name(unfinished)), None);
    }
}
