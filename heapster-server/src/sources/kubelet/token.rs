//! [`Token`]: the bearer token shown to kubelets, kept out of every log and error.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heapster_store::Clock;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;

/// How old a token read from a file may get. Kubernetes renews them well before they expire.
const AGE_MAX: Duration = Duration::from_secs(60);

/// No token is longer; a path that names something else must not fill the memory.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where the token comes from.
pub struct Token(Origin);

enum Origin {
    Fixed(HeaderValue),
    File { path: PathBuf, clock: Arc<dyn Clock>, cache: Mutex<Option<Cached>> },
}

#[derive(Clone)]
struct Cached {
    header: HeaderValue,
    read_at: Duration,
}

/// Why there is no token to show. Never holds the token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file could not be read, and none was read before.
    #[error("could not read the token file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text cannot stand in a header.
    #[error("the token is empty or holds characters that no token has")]
    Invalid,
}

impl Token {
    /// A token that never changes.
    ///
    /// # Errors
    /// [`TokenError::Invalid`].
    pub fn fixed(text: &str) -> Result<Self, TokenError> {
        header(text).map(Origin::Fixed).map(Self)
    }

    /// A token in a file that is read again after a minute, and when a kubelet refuses the token.
    pub fn file(path: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self(Origin::File { path, clock, cache: Mutex::new(None) })
    }

    /// The header's value. A file that cannot be read any more leaves the last token in use.
    pub(super) async fn current(&self) -> Result<HeaderValue, TokenError> {
        match &self.0 {
            Origin::Fixed(header) => Ok(header.clone()),
            Origin::File { clock, cache, .. } => {
                let cached = cache.lock().clone();
                match cached {
                    Some(cached) if clock.monotonic().saturating_sub(cached.read_at) < AGE_MAX => {
                        Ok(cached.header)
                    }
                    _ => self.read().await,
                }
            }
        }
    }

    /// The header's value after `refused` was not accepted; `None` when there is no other.
    pub(super) async fn after_refusal(&self, refused: &HeaderValue) -> Option<HeaderValue> {
        let renewed = self.read().await.ok()?;
        (renewed != refused).then_some(renewed)
    }

    async fn read(&self) -> Result<HeaderValue, TokenError> {
        let (path, clock, cache) = match &self.0 {
            Origin::Fixed(header) => return Ok(header.clone()),
            Origin::File { path, clock, cache } => (path, clock, cache),
        };
        let text =
            read_text(path).await.map_err(|source| TokenError::Read { path: path.clone(), source });
        let renewed = text.and_then(|text| header(&text));
        let last = cache.lock().clone();
        let header = match (renewed, last) {
            (Ok(header), _) => header,
            (Err(error), Some(last)) => {
                tracing::warn!(%error, "keeping the last token");
                last.header
            }
            (Err(error), None) => return Err(error),
        };
        *cache.lock() = Some(Cached { header: header.clone(), read_at: clock.monotonic() });
        Ok(header)
    }
}

async fn read_text(path: &PathBuf) -> std::io::Result<String> {
    let mut text = String::new();
    tokio::fs::File::open(path).await?.take(FILE_BYTES_MAX).read_to_string(&mut text).await?;
    Ok(text)
}

fn header(text: &str) -> Result<HeaderValue, TokenError> {
    let token = text.trim();
    if token.is_empty() {
        return Err(TokenError::Invalid);
    }
    let mut header =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| TokenError::Invalid)?;
    header.set_sensitive(true);
    Ok(header)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Origin::Fixed(_) => f.write_str("Token(***)"),
            Origin::File { path, .. } => write!(f, "Token({}: ***)", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::telemetry::test_clock::ManualClock;

    fn text(header: &HeaderValue) -> &str {
        header.to_str().unwrap()
    }

    #[tokio::test]
    async fn a_token_file_is_read_again_after_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let clock = Arc::new(ManualClock::default());
        let token = Token::file(path.clone(), clock.clone());
        assert!(matches!(token.current().await, Err(TokenError::Read { .. })));

        fs::write(&path, "one\n").unwrap();
        assert_eq!(text(&token.current().await.unwrap()), "Bearer one");
        fs::write(&path, "two").unwrap();
        clock.advance(Duration::from_secs(59));
        assert_eq!(text(&token.current().await.unwrap()), "Bearer one");
        clock.advance(Duration::from_secs(1));
        assert_eq!(text(&token.current().await.unwrap()), "Bearer two");

        fs::remove_file(&path).unwrap();
        clock.advance(Duration::from_secs(60));
        assert_eq!(text(&token.current().await.unwrap()), "Bearer two", "the last one is kept");
    }

    #[tokio::test]
    async fn a_token_is_never_printed() {
        let token = Token::fixed("hush").unwrap();
        let header = token.current().await.unwrap();
        assert!(!format!("{token:?} {header:?}").contains("hush"));
        for bad in ["", " \n", "a\nb"] {
            assert!(matches!(Token::fixed(bad), Err(TokenError::Invalid)));
        }
    }
}
