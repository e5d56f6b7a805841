//! Users of a file: bearer tokens, and names with passwords, for use outside a cluster.
//!
//! Only digests are kept, and all are looked at for each request, so that neither memory nor time
//! tells a secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use super::AccessError;
use super::identity::Identity;

/// The digest of a secret.
pub type Digest = [u8; 32];

/// The digest by which a secret is known.
pub fn digest_of(secret: &str) -> Digest {
    let mut own = Digest::default();
    own.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    own
}

/// Users with what they show.
#[derive(Clone, Default)]
pub struct StaticUsers(Vec<(Digest, Identity)>);

impl StaticUsers {
    /// The users of a file of lines `token,name,uid,"group,group"`, as API servers read them.
    ///
    /// # Errors
    /// A line lacks one of the first three.
    pub fn from_tokens(text: &[u8]) -> Result<Self, AccessError> {
        Self::read(text, |secret, _| digest_of(secret))
    }

    /// The users of a file of lines `password,name,uid,"group,group"`.
    ///
    /// # Errors
    /// A line lacks one of the first three.
    pub fn from_passwords(text: &[u8]) -> Result<Self, AccessError> {
        Self::read(text, |secret, name| digest_of(&format!("{name}:{secret}")))
    }

    fn read(text: &[u8], digest: impl Fn(&str, &str) -> Digest) -> Result<Self, AccessError> {
        let mut lines = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            .from_reader(text);
        let mut users = Vec::new();
        for (index, line) in lines.records().enumerate() {
            let bad = || AccessError::UsersFile { line: index + 1 };
            let line = line.map_err(|_| bad())?;
            let field = |index: usize| line.get(index).filter(|field| !field.is_empty());
            let (secret, name) = field(0).zip(field(1)).ok_or_else(bad)?;
            let uid = line.get(2).ok_or_else(bad)?;
            let groups = field(3).unwrap_or_default().split(',').map(str::trim);
            let groups = groups.filter(|group| !group.is_empty()).map(str::to_owned);
            let user = Identity { uid: uid.to_owned(), ..Identity::known(name, groups) };
            users.push((digest(secret, name), user));
        }
        Ok(Self(users))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The user with that token.
    pub fn with_token(&self, token: &str) -> Option<Identity> {
        self.with_digest(&digest_of(token))
    }

    /// The user with the name and password of a `Basic` header.
    pub fn with_basic(&self, credentials: &str) -> Option<Identity> {
        let decoded = STANDARD.decode(credentials).ok()?;
        self.with_digest(&digest_of(std::str::from_utf8(&decoded).ok()?))
    }

    fn with_digest(&self, shown: &Digest) -> Option<Identity> {
        let mut found = None;
        for (own, user) in &self.0 {
            // Digests of secrets that differ differ early; what that tells says nothing of them.
            if own == shown {
                found = Some(user.clone());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_what_they_show() {
        let users = StaticUsers::from_tokens(b"# ours\nt1, alice ,1,\"a, b\"\nt2,bob,\n").unwrap();
        let alice = users.with_token("t1").unwrap();
        assert_eq!((alice.name.as_str(), alice.uid.as_str()), ("alice", "1"));
        assert_eq!(alice.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(users.with_token("t2").unwrap().groups, ["system:authenticated"]);
        assert!(users.with_token("t3").is_none() && users.with_token("").is_none());
        let users = StaticUsers::from_passwords(b"pw:x,carol,3").unwrap();
        assert_eq!(users.with_basic(&STANDARD.encode("carol:pw:x")).unwrap().name, "carol");
        for credentials in ["", "carol:pw:x", &STANDARD.encode("carol:pw"), &STANDARD.encode([255])]
        {
            assert!(users.with_basic(credentials).is_none(), "{credentials}");
        }
        for text in [&b"t1"[..], b"t1,alice", b",alice,1", b"t1,,1", b"a,b,c\n\xff,b,c"] {
            assert!(StaticUsers::from_tokens(text).is_err());
        }
    }
}
