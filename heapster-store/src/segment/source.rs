//! [`Source`]: the bytes of a segment, mapped into memory or read piece by piece.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use crate::segment::format::{Footer, SECTIONS, Section, index_of};
use crate::vfs::{Mapping, Vfs, VfsFile, read_exact_at};

/// The bytes of a segment.
#[derive(Debug)]
pub(super) struct Source {
    file: Bytes,
    /// Sections that are kept in memory: all where the file is not mapped, and one that was made
    /// anew.
    kept: [Vec<u8>; SECTIONS.len()],
}

#[derive(Debug)]
enum Bytes {
    /// The whole file, mapped.
    Mapped(Box<dyn Mapping>),
    /// The file; row groups are read when they are needed.
    Read { file: Box<dyn VfsFile>, len: u64 },
}

impl Source {
    /// Maps the file, or opens it for reading where mapping is refused.
    pub(super) fn open(vfs: &dyn Vfs, path: &Path) -> io::Result<Self> {
        let kept = Default::default();
        if let Ok(mapping) = vfs.map(path) {
            return Ok(Self { file: Bytes::Mapped(mapping), kept });
        }
        let file = vfs.open(path)?;
        let len = file.size()?;
        Ok(Self { file: Bytes::Read { file, len }, kept })
    }

    /// Length of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        match &self.file {
            Bytes::Mapped(mapping) => mapping.len() as u64,
            Bytes::Read { len, .. } => *len,
        }
    }

    /// Bytes of the file. The caller has checked that they lie in it.
    pub(super) fn bytes(&self, offset: u64, len: u64) -> io::Result<Cow<'_, [u8]>> {
        let end = offset.checked_add(len).filter(|end| *end <= self.len());
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        match &self.file {
            Bytes::Mapped(mapping) => {
                let bytes = mapping.get(offset as usize..end as usize);
                bytes.map(Cow::Borrowed).ok_or(io::ErrorKind::UnexpectedEof.into())
            }
            Bytes::Read { file, .. } => {
                let mut bytes = vec![0; len as usize];
                read_exact_at(&**file, &mut bytes, offset)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// Keeps a section in memory.
    pub(super) fn keep(&mut self, section: Section, bytes: Vec<u8>) {
        if let Some(slot) = self.kept.get_mut(index_of(section)) {
            *slot = bytes;
        }
    }

    /// The bytes of a section that was checked when the segment was opened.
    pub(super) fn section(&self, footer: &Footer, section: Section) -> &[u8] {
        match (&self.file, self.kept.get(index_of(section))) {
            // No section is empty.
            (Bytes::Mapped(mapping), kept) if kept.is_none_or(Vec::is_empty) => {
                let place = footer.place(section);
                let end = place.offset.saturating_add(place.len);
                mapping.get(place.offset as usize..end as usize).unwrap_or_default()
            }
            (_, kept) => kept.map_or(&[], Vec::as_slice),
        }
    }

    /// Whether bytes stay what they were once checked, because they are not read anew.
    pub(super) fn is_mapped(&self) -> bool {
        matches!(self.file, Bytes::Mapped(_))
    }
}
