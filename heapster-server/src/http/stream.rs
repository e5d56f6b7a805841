//! [`Chunks`]: a body that is made while it is written.
//!
//! A large answer is not kept twice, once as what was found and once as its text: the server asks for
//! the next piece of text when the one before is on its way, compresses it if the client wants that,
//! and lets go of what was found as it goes.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use parking_lot::Mutex;

use super::encoding::{Encoding, LEVEL};
use super::response::Response;

/// Makes a body piece by piece. A piece takes little time: it is made on a thread that serves.
pub(crate) trait Chunks: Send {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> Option<Bytes>;

    /// Bytes of memory that are held until the end.
    fn held_bytes(&self) -> usize;
}

/// Rides with an answer whose own body is empty.
#[derive(Clone)]
struct Streamed(Arc<Mutex<Option<Box<dyn Chunks>>>>);

/// Gives an answer its body.
pub(crate) fn stream(response: &mut Response, chunks: Box<dyn Chunks>) {
    response.extensions_mut().insert(Streamed(Arc::new(Mutex::new(Some(chunks)))));
}

/// Takes the body that is made while it is written, if the answer has one.
pub(crate) fn take_stream(response: &mut Response) -> Option<Box<dyn Chunks>> {
    let Streamed(chunks) = response.extensions_mut().remove()?;
    chunks.lock().take()
}

/// Compresses the pieces.
pub(super) struct Compressed {
    chunks: Box<dyn Chunks>,
    encoder: Option<Encoder>,
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Compressed {
    pub(super) fn new(chunks: Box<dyn Chunks>, encoding: Encoding) -> Self {
        let level = Compression::new(LEVEL);
        let encoder = match encoding {
            Encoding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), level)),
            Encoding::Deflate => Encoder::Deflate(ZlibEncoder::new(Vec::new(), level)),
        };
        Self { chunks, encoder: Some(encoder) }
    }
}

impl Chunks for Compressed {
    fn next(&mut self) -> Option<Bytes> {
        loop {
            // Writing to memory does not fail; if it did, the body would end without its trailer,
            // which every client notices.
            let written = match (self.chunks.next(), &mut self.encoder) {
                (_, None) => return None,
                (Some(piece), Some(encoder)) => encoder.compress(&piece).ok()?,
                (None, _) => self.encoder.take()?.finish().ok()?,
            };
            if !written.is_empty() {
                return Some(Bytes::from(written));
            }
        }
    }

    fn held_bytes(&self) -> usize {
        self.chunks.held_bytes()
    }
}

impl Encoder {
    fn compress(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        Ok(match self {
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                std::mem::take(encoder.get_mut())
            }
            Self::Deflate(encoder) => {
                encoder.write_all(piece)?;
                std::mem::take(encoder.get_mut())
            }
        })
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    struct Pieces(std::ops::Range<u32>);

    impl Chunks for Pieces {
        fn next(&mut self) -> Option<Bytes> {
            let number = self.0.next()?;
            Some(Bytes::from(format!("{number:08} ").repeat(1000)))
        }

        fn held_bytes(&self) -> usize {
            7
        }
    }

    #[test]
    fn compressed_pieces_are_together_what_they_were() {
        let mut plain = Vec::new();
        let mut pieces = Pieces(0..50);
        while let Some(piece) = pieces.next() {
            plain.extend_from_slice(&piece);
        }
        for encoding in [Encoding::Gzip, Encoding::Deflate] {
            let mut compressed = Compressed::new(Box::new(Pieces(0..50)), encoding);
            assert_eq!(compressed.held_bytes(), 7);
            let mut bytes = Vec::new();
            while let Some(piece) = compressed.next() {
                bytes.extend_from_slice(&piece);
            }
            assert!(compressed.next().is_none() && bytes.len() < plain.len() / 10);
            let mut read = Vec::new();
            match encoding {
                Encoding::Gzip => flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut read),
                Encoding::Deflate => {
                    flate2::read::ZlibDecoder::new(&bytes[..]).read_to_end(&mut read)
                }
            }
            .unwrap();
            assert_eq!(read, plain);
        }
    }
}
