//! Compression of answers, chosen as go-restful chose it.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};

use super::response::Response;
use super::stream::{Compressed, stream, take_stream};

/// Bodies from this size on are compressed on a thread that may block.
const BLOCKING_BYTES_MIN: usize = 64 << 10;

/// Above fast, below thorough: answers are compressed once and read once.
pub(super) const LEVEL: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Gzip,
    Deflate,
}

/// The encoding named first; weights are not looked at, as in the original.
pub(super) fn wanted(headers: &HeaderMap) -> Option<Encoding> {
    let accepted = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
    match (accepted.find("gzip"), accepted.find("deflate")) {
        (Some(gzip), Some(deflate)) if deflate < gzip => Some(Encoding::Deflate),
        (Some(_), _) => Some(Encoding::Gzip),
        (None, Some(_)) => Some(Encoding::Deflate),
        (None, None) => None,
    }
}

/// Compresses the body. An answer that has an encoding or no body stays as it is.
pub(super) async fn compress(mut response: Response, encoding: Encoding) -> Response {
    if response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    if let Some(chunks) = take_stream(&mut response) {
        stream(&mut response, Box::new(Compressed::new(chunks, encoding)));
        name_encoding(&mut response, encoding);
        return response;
    }
    if response.body().is_empty() {
        return response;
    }
    let body = response.body().clone();
    let compressed = if body.len() < BLOCKING_BYTES_MIN {
        deflate(&body, encoding)
    } else {
        match tokio::task::spawn_blocking(move || deflate(&body, encoding)).await {
            Ok(compressed) => compressed,
            Err(_) => return response,
        }
    };
    // Without memory errors this cannot fail; uncompressed is a good answer then.
    let Ok(compressed) = compressed else { return response };
    *response.body_mut() = Bytes::from(compressed);
    name_encoding(&mut response, encoding);
    response
}

fn name_encoding(response: &mut Response, encoding: Encoding) {
    let name = match encoding {
        Encoding::Gzip => "gzip",
        Encoding::Deflate => "deflate",
    };
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
}

fn deflate(body: &[u8], encoding: Encoding) -> std::io::Result<Vec<u8>> {
    let out = Vec::with_capacity(body.len() / 8 + 64);
    match encoding {
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(out, Compression::new(LEVEL));
            encoder.write_all(body)?;
            encoder.finish()
        }
        Encoding::Deflate => {
            let mut encoder = ZlibEncoder::new(out, Compression::new(LEVEL));
            encoder.write_all(body)?;
            encoder.finish()
        }
    }
}
