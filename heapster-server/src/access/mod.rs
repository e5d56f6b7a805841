//! Who is answered: authentication and authorization as an aggregated API server has them, and users
//! of files where there is no cluster.
//!
//! In reading order: [`identity`] has who asks and for what, [`certificate`], [`front_proxy`],
//! [`static_users`] and [`reviews`] the ways to know, [`settings`] what they go by, and [`gate`] the
//! order in which they are tried. `docs/security.md` has it in words.

pub mod cache;
pub mod certificate;
pub mod front_proxy;
pub mod gate;
pub mod identity;
pub mod reviews;
pub mod settings;
pub mod static_users;

use std::io;
use std::path::{Path, PathBuf};

/// Why nobody can be let in. Never holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A file cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A text holds no certificate of an authority.
    #[error("there is no usable certificate of an authority")]
    NoAuthority,
    /// A file of users has a line that is none.
    #[error("user {line} has not the form SECRET,NAME,UID[,\"GROUP,GROUP\"]")]
    UsersFile {
        /// Number of the user.
        line: usize,
    },
    /// Something is wrong with a file.
    #[error("{} is not usable: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<AccessError>,
    },
    /// What the cluster says whom it trusts makes no sense.
    #[error("the config map extension-apiserver-authentication cannot be understood")]
    ConfigMap,
    /// The cluster does not say whom it trusts.
    #[error(
        "could not read the config map extension-apiserver-authentication in kube-system: {0}; bind \
         the role extension-apiserver-authentication-reader, or give \
         --authentication-tolerate-lookup-failure or --authentication-skip-lookup"
    )]
    Lookup(String),
    /// The program ends.
    #[error("the program ends")]
    Ended,
}

impl AccessError {
    /// The same of a file.
    fn of(self, path: &Path) -> Self {
        Self::File { path: path.to_owned(), source: Box::new(self) }
    }
}
