//! [`Source`]: the bytes of a segment, mapped into memory or read piece by piece.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use crate::segment::format::{Footer, SECTIONS, Section};
use crate::vfs::{Mapping, Vfs, VfsFile, read_exact_at};

/// The bytes of a segment.
#[derive(Debug)]
pub(super) enum Source {
    /// The whole file, mapped.
    Mapped(Box<dyn Mapping>),
    /// The file; its sections are kept in memory, row groups are read when they are needed.
    Read { file: Box<dyn VfsFile>, len: u64, sections: [Vec<u8>; SECTIONS.len()] },
}

impl Source {
    /// Maps the file, or opens it for reading where mapping is refused.
    pub(super) fn open(vfs: &dyn Vfs, path: &Path) -> io::Result<Self> {
        if let Ok(mapping) = vfs.map(path) {
            return Ok(Self::Mapped(mapping));
        }
        let file = vfs.open(path)?;
        let len = file.size()?;
        Ok(Self::Read { file, len, sections: Default::default() })
    }

    /// Length of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Mapped(mapping) => mapping.len() as u64,
            Self::Read { len, .. } => *len,
        }
    }

    /// Bytes of the file. The caller has checked that they lie in it.
    pub(super) fn bytes(&self, offset: u64, len: u64) -> io::Result<Cow<'_, [u8]>> {
        let end = offset.checked_add(len).filter(|end| *end <= self.len());
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        match self {
            Self::Mapped(mapping) => {
                let bytes = mapping.get(offset as usize..end as usize);
                bytes.map(Cow::Borrowed).ok_or(io::ErrorKind::UnexpectedEof.into())
            }
            Self::Read { file, .. } => {
                let mut bytes = vec![0; len as usize];
                read_exact_at(&**file, &mut bytes, offset)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// Keeps a section in memory, unless the file is mapped.
    pub(super) fn keep(&mut self, section: Section, bytes: Vec<u8>) {
        if let Self::Read { sections, .. } = self
            && let Some(slot) = sections.get_mut((section as usize).wrapping_sub(1))
        {
            *slot = bytes;
        }
    }

    /// The bytes of a section that was checked when the segment was opened.
    pub(super) fn section(&self, footer: &Footer, section: Section) -> &[u8] {
        match self {
            Self::Mapped(mapping) => {
                let place = footer.place(section);
                let end = place.offset.saturating_add(place.len);
                mapping.get(place.offset as usize..end as usize).unwrap_or_default()
            }
            Self::Read { sections, .. } => {
                sections.get((section as usize).wrapping_sub(1)).map_or(&[], Vec::as_slice)
            }
        }
    }

    /// Whether bytes stay what they were once checked, because they are not read anew.
    pub(super) fn is_mapped(&self) -> bool {
        matches!(self, Self::Mapped(_))
    }
}
