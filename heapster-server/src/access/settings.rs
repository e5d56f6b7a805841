//! [`Settings`]: whom to believe, read from files and from what the cluster says, and read again.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use kube::Client;
use serde::Deserialize;
use tokio::time::timeout;

use super::AccessError;
use super::certificate::Authorities;
use super::front_proxy::{FrontProxy, Headers};
use super::static_users::StaticUsers;

/// What names a file of users or certificates must not make us read more than that.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Longest time to ask the cluster whom it trusts.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(10);

/// Where the cluster says whom it trusts.
const CONFIG_MAP: &str =
    "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";

/// Where whom to believe is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Authorities of users' certificates.
    pub client_ca_file: Option<PathBuf>,
    /// Authorities of the front proxy's certificate.
    pub request_header_ca_file: Option<PathBuf>,
    /// Names of the front proxy; none means any.
    pub request_header_names: Vec<String>,
    /// Names of the front proxy's headers.
    pub request_headers: Headers,
    /// Users with tokens.
    pub token_file: Option<PathBuf>,
    /// Users with passwords.
    pub basic_file: Option<PathBuf>,
    /// Whether the cluster is asked for what the files above do not say.
    pub lookup: Lookup,
}

/// Whether the cluster is asked whom it trusts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lookup {
    /// It is not.
    #[default]
    Skipped,
    /// It is; when it cannot be asked, what the files say will do.
    Tolerant,
    /// It is, and it must answer.
    Required,
}

/// Whom to believe.
#[derive(Clone, Default)]
pub struct Settings {
    pub(super) client_ca: Option<Authorities>,
    pub(super) front_proxy: Option<FrontProxy>,
    pub(super) headers: Headers,
    pub(super) tokens: StaticUsers,
    pub(super) passwords: StaticUsers,
    /// What the cluster said.
    trusted: Trusted,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ConfigMap {
    data: Trusted,
}

/// What the cluster says whom it trusts.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Trusted {
    client_ca_file: String,
    requestheader_client_ca_file: String,
    requestheader_allowed_names: String,
    requestheader_username_headers: String,
    requestheader_group_headers: String,
    requestheader_extra_headers_prefix: String,
}

impl Settings {
    /// Reads everything. A cluster that does not answer and need not has said what it said `before`.
    ///
    /// # Errors
    /// [`AccessError`]: a file cannot be read or used, or the cluster does not answer and must.
    pub async fn read(
        sources: &Sources,
        client: Option<&Client>,
        before: &Self,
    ) -> Result<Self, AccessError> {
        let trusted = match (sources.lookup, client) {
            (Lookup::Skipped, _) | (_, None) => Trusted::default(),
            (Lookup::Required, Some(client)) => look_up(client).await?,
            (Lookup::Tolerant, Some(client)) => look_up(client).await.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "the cluster does not say whom it trusts");
                before.trusted.clone()
            }),
        };
        let own = sources.clone();
        let read = tokio::task::spawn_blocking(move || Self::from_files(&own, trusted));
        read.await.map_err(|_| AccessError::Ended)?
    }

    fn from_files(sources: &Sources, trusted: Trusted) -> Result<Self, AccessError> {
        let client_ca = authorities(sources.client_ca_file.as_deref(), &trusted.client_ca_file)?;
        let file = sources.request_header_ca_file.as_deref();
        let proxy_ca = authorities(file, &trusted.requestheader_client_ca_file)?;
        // The file and the names beside it belong together, and so does what the cluster says.
        let (allowed_names, headers) = match file {
            Some(_) => (sources.request_header_names.clone(), sources.request_headers.clone()),
            None => trusted.names()?,
        };
        let users = |path: &Option<PathBuf>,
                     read: fn(&[u8]) -> Result<StaticUsers, AccessError>| {
            match path {
                Some(path) => read(&read_file(path)?).map_err(|error| error.of(path)),
                None => Ok(StaticUsers::default()),
            }
        };
        Ok(Self {
            client_ca,
            front_proxy: proxy_ca.map(|authorities| FrontProxy { authorities, allowed_names }),
            headers,
            tokens: users(&sources.token_file, StaticUsers::from_tokens)?,
            passwords: users(&sources.basic_file, StaticUsers::from_passwords)?,
            trusted,
        })
    }
}

impl Trusted {
    fn names(&self) -> Result<(Vec<String>, Headers), AccessError> {
        let list = |text: &str| -> Result<Vec<String>, AccessError> {
            if text.is_empty() {
                return Ok(Vec::new());
            }
            serde_json::from_str(text).map_err(|_| AccessError::ConfigMap)
        };
        let usual = Headers::default();
        let or =
            |names: Vec<String>, usual: Vec<String>| if names.is_empty() { usual } else { names };
        let headers = Headers {
            usernames: or(list(&self.requestheader_username_headers)?, usual.usernames),
            groups: or(list(&self.requestheader_group_headers)?, usual.groups),
            extra_prefixes: or(
                list(&self.requestheader_extra_headers_prefix)?,
                usual.extra_prefixes,
            ),
        };
        Ok((list(&self.requestheader_allowed_names)?, headers))
    }
}

async fn look_up(client: &Client) -> Result<Trusted, AccessError> {
    let request = http::Request::get(CONFIG_MAP).body(Vec::new());
    let request = request.map_err(|_| AccessError::ConfigMap)?;
    match timeout(LOOKUP_TIME_MAX, client.request::<ConfigMap>(request)).await {
        Ok(Ok(map)) => Ok(map.data),
        // A cluster without an aggregation layer has none.
        Ok(Err(kube::Error::Api(status))) if status.code == StatusCode::NOT_FOUND.as_u16() => {
            Ok(Trusted::default())
        }
        Ok(Err(error)) => Err(AccessError::Lookup(error.to_string())),
        Err(_) => Err(AccessError::Lookup(format!("nothing came within {LOOKUP_TIME_MAX:?}"))),
    }
}

fn authorities(file: Option<&Path>, said: &str) -> Result<Option<Authorities>, AccessError> {
    match file {
        Some(path) => {
            let authorities = Authorities::from_pem(&read_file(path)?);
            authorities.map(Some).map_err(|error| error.of(path))
        }
        None if said.is_empty() => Ok(None),
        None => Authorities::from_pem(said.as_bytes()).map(Some),
    }
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, AccessError> {
    let mut bytes = Vec::new();
    let file = File::open(path);
    let unread = |source| AccessError::Read { path: path.to_owned(), source };
    // Cut short, its last line would name somebody else.
    file.and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(unread)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let why = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(unread(io::Error::new(io::ErrorKind::FileTooLarge, why)));
    }
    Ok(bytes)
}
