//! Users that the API server names on behalf of its clients, in headers of its requests.
//!
//! Whoever else sends such headers is not believed: they count only beside a certificate of the
//! front proxy's own authority, and they are taken away from every request before anything else
//! looks at it.

use std::collections::BTreeMap;

use heapster_core::Timestamp;
use http::HeaderMap;
use http::header::HeaderName;
use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;

use super::certificate::{Authorities, subject};
use super::identity::{AUTHENTICATED, Identity};

/// The names of the headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Of the user; the first that is there and not empty counts.
    pub usernames: Vec<String>,
    /// Of groups; all count.
    pub groups: Vec<String>,
    /// What the names of all others begin with.
    pub extra_prefixes: Vec<String>,
}

impl Default for Headers {
    fn default() -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            usernames: one("x-remote-user"),
            groups: one("x-remote-group"),
            extra_prefixes: one("x-remote-extra-"),
        }
    }
}

impl Headers {
    /// Takes all of them out of a request.
    pub fn take(&self, headers: &mut HeaderMap) -> Named {
        let all = |names: &[String], headers: &HeaderMap| -> Vec<String> {
            names
                .iter()
                .flat_map(|name| headers.get_all(name.as_str()))
                .filter_map(|value| value.to_str().ok().map(str::to_owned))
                .collect()
        };
        let username = all(&self.usernames, headers).into_iter().find(|name| !name.is_empty());
        let groups = all(&self.groups, headers);
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut taken: Vec<HeaderName> = Vec::new();
        for (name, value) in headers.iter() {
            let key = self.extra_prefixes.iter().find_map(|prefix| {
                let prefix = prefix.to_ascii_lowercase();
                name.as_str().strip_prefix(prefix.as_str())
            });
            let Some(key) = key else { continue };
            taken.push(name.clone());
            let key = percent_decode_str(key).decode_utf8_lossy().to_ascii_lowercase();
            if let Ok(value) = value.to_str() {
                extra.entry(key).or_default().push(value.to_owned());
            }
        }
        for name in self.usernames.iter().chain(&self.groups) {
            headers.remove(name.as_str());
        }
        for name in taken {
            headers.remove(name);
        }
        Named { username, groups, extra }
    }
}

/// What the headers of a request say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    username: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// Whom we believe.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// Who vouches for it.
    pub authorities: Authorities,
    /// Its names; none means any.
    pub allowed_names: Vec<String>,
}

impl FrontProxy {
    /// The user that the headers name, if the peer is the front proxy.
    pub fn user(
        &self,
        chain: &[CertificateDer<'_>],
        named: &Named,
        now: Timestamp,
    ) -> Option<Identity> {
        let name = named.username.clone()?;
        if !self.authorities.vouch_for(chain, now) {
            return None;
        }
        let peer = subject(chain.first()?)?.common_name;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&peer) {
            tracing::debug!(peer, "a client certificate with cn={peer} is not in the allowed list");
            return None;
        }
        let (groups, extra) = (named.groups.clone(), named.extra.clone());
        let mut user = Identity { name, groups, extra, ..Identity::default() };
        if !user.is_anonymous() {
            user.join(AUTHENTICATED);
        }
        Some(user)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn all_headers_are_taken_whatever_they_say() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", ""),
            ("x-remote-user", "alice"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-scopes%2Fx", "c"),
            ("accept", "*/*"),
        ] {
            headers.append(
                HeaderName::from_static(match name {
                    "x-remote-extra-scopes%2Fx" => "x-remote-extra-scopes%2fx",
                    name => name,
                }),
                HeaderValue::from_static(value),
            );
        }
        let named = Headers::default().take(&mut headers);
        assert_eq!(named.username.as_deref(), Some("alice"));
        assert_eq!(named.groups, ["a", "b"]);
        assert_eq!(named.extra["scopes/x"], ["c"]);
        assert_eq!(headers.len(), 1);
    }
}
