//! [`Reserve`]: room that is given up when the disk is so full that not even a manifest fits
//! (decision 0017).
//!
//! Files can only be deleted once a manifest does not name them, so without this a full disk would
//! stay full. There are three files: a manifest has two copies, and opening begins a log file; each
//! is a name as well as bytes, since a file system can run out of either.

use std::path::PathBuf;

use crate::paths::Paths;
use crate::recovery::list_or_nothing;
use crate::vfs::{Vfs, remove_if_there, write_all_at};

/// Each file is at least this long.
const BYTES_MIN: u64 = 16 << 10;
/// Each file is this many times as long as the manifest, which may grow before it is replaced.
const MANIFESTS: u64 = 2;

/// What is known of the files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reserve {
    /// Every file is there and this long; 0 when one is missing, or nobody has looked yet.
    bytes_each: u64,
}

impl Reserve {
    /// Whether all files are there, as far as known.
    pub fn is_whole(self) -> bool {
        self.bytes_each > 0
    }

    /// Makes what is missing or too short for a manifest of that length, if there is room. What
    /// cannot be made now is made another time.
    pub fn keep(&mut self, vfs: &dyn Vfs, paths: &Paths, manifest_bytes: usize) {
        let wanted = bytes_for(manifest_bytes);
        if self.bytes_each < wanted {
            let is_whole = make_missing(vfs, paths, wanted).is_ok_and(|is_whole| is_whole);
            self.bytes_each = if is_whole { wanted } else { 0 };
        }
    }

    /// Removes the files; whether there was one.
    pub fn give_up(&mut self, vfs: &dyn Vfs, paths: &Paths) -> bool {
        self.bytes_each = 0;
        // Each of them, also when an earlier one cannot be removed.
        paths.reserves().iter().filter(|path| vfs.remove(path).is_ok()).count() > 0
    }
}

fn bytes_for(manifest_bytes: usize) -> u64 {
    (manifest_bytes as u64 * MANIFESTS).next_multiple_of(BYTES_MIN)
}

/// Makes the files that are missing or shorter than `wanted`; whether all are there.
fn make_missing(vfs: &dyn Vfs, paths: &Paths, wanted: u64) -> std::io::Result<bool> {
    let entries = list_or_nothing(vfs, paths.root()).map_err(std::io::Error::other)?;
    let is_there = |path: &PathBuf| {
        let is_it = |name: &str| path.file_name().is_some_and(|own| own == name);
        entries.iter().any(|entry| is_it(&entry.name) && entry.len >= wanted)
    };
    for path in paths.reserves().iter().filter(|path| !is_there(path)) {
        remove_if_there(vfs, path)?;
        if vfs.free_bytes(paths.root())? < wanted {
            return Ok(false);
        }
        // Not synced: the system sets the room aside when it takes the bytes, and should a power cut
        // take these, the next open makes them again.
        let file = vfs.create_new(path)?;
        if let Err(error) = write_all_at(&*file, &incompressible(wanted), 0) {
            let _ = vfs.remove(path);
            return Err(error);
        }
    }
    Ok(true)
}

/// Bytes that take their room also where the file system compresses (an xorshift generator).
fn incompressible(len: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len / 8).flat_map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::vfs::faulty::FaultyVfs;

    fn lens(vfs: &FaultyVfs) -> Vec<usize> {
        vfs.files().values().map(Vec::len).collect()
    }

    #[test]
    fn it_grows_with_the_manifest_and_comes_back_where_it_was_cut_or_removed() {
        let (vfs, paths) = (FaultyVfs::new(), Paths::new(Path::new("/d")));
        vfs.create_dir_all(paths.root()).unwrap();
        let mut reserve = Reserve::default();
        reserve.keep(&vfs, &paths, 100);
        assert_eq!((lens(&vfs), reserve.is_whole()), (vec![16 << 10; 3], true));
        reserve.keep(&vfs, &paths, 33 << 10);
        assert_eq!(lens(&vfs), [80 << 10; 3]);
        vfs.open_for_write(&paths.reserves()[1]).unwrap().set_len(7).unwrap();
        vfs.remove(&paths.reserves()[2]).unwrap();
        let mut found = Reserve::default();
        found.keep(&vfs, &paths, 33 << 10);
        assert_eq!(lens(&vfs), [80 << 10; 3]);
        assert!(found.give_up(&vfs, &paths) && !found.is_whole());
        assert!(!found.give_up(&vfs, &paths) && lens(&vfs).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_not_left_half_made() {
        let (vfs, paths) = (FaultyVfs::new(), Paths::new(Path::new("/d")));
        vfs.create_dir_all(paths.root()).unwrap();
        vfs.set_capacity(Some(25 << 10));
        let mut reserve = Reserve::default();
        reserve.keep(&vfs, &paths, 100);
        assert_eq!((lens(&vfs), reserve.is_whole()), (vec![16 << 10], false));
        vfs.set_capacity(None);
        reserve.keep(&vfs, &paths, 100);
        assert!(reserve.is_whole());
    }
}
