//! Checksums that know where they belong.

/// CRC-32 (IEEE) over the file's number, the offset and the bytes.
///
/// The salt makes a block that was written to the wrong place, or survived from another file, as
/// wrong as a damaged one.
pub(crate) fn salted_crc32(file: u64, offset: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&file.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_in_another_place_have_another_checksum() {
        let here = salted_crc32(1, 24, b"rows");
        assert_ne!(here, salted_crc32(1, 25, b"rows"));
        assert_ne!(here, salted_crc32(2, 24, b"rows"));
        assert_eq!(here, salted_crc32(1, 24, b"rows"));
    }
}
