//! [`HostOptions`]: what the user can choose about the host source.

use std::path::PathBuf;

use heapster_core::Text;

/// Options of the host source; `host:?root=/host&node=web-1&containers=200` on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostOptions {
    /// Directory that holds `proc`, `sys` and `etc`. Default `/`; another one is a host mounted
    /// into a container, or a recorded tree.
    pub root: PathBuf,
    /// Name of the node. Default: the host name in `proc/sys/kernel/hostname`.
    pub node_name: Option<Text>,
    /// Most cgroups that become system containers. Default 1,000; 0 leaves them all out, at most
    /// 10,000, because each costs a few file reads per scrape.
    pub containers_max: usize,
}

const CONTAINERS_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 253;

impl Default for HostOptions {
    fn default() -> Self {
        Self { root: PathBuf::from("/"), node_name: None, containers_max: 1_000 }
    }
}

/// An option of a source URI that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "could not use option {option:?} with value {value:?} of source host: accepted is {accepted}"
)]
pub struct HostOptionError {
    /// Name of the option, as given.
    pub option: String,
    /// Its value, as given.
    pub value: String,
    /// What would be accepted.
    pub accepted: &'static str,
}

impl HostOptions {
    /// Reads the decoded pairs of a URI's query: `root`, `node`, `containers`. Of two with one name
    /// the later wins.
    ///
    /// # Errors
    /// [`HostOptionError`] names the first option that is unknown or has an unusable value.
    pub fn from_query<K, V>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, HostOptionError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut options = Self::default();
        for (option, value) in pairs {
            let (option, value) = (option.as_ref(), value.as_ref());
            let refuse = |accepted| HostOptionError {
                option: option.to_owned(),
                value: value.to_owned(),
                accepted,
            };
            match option {
                "root" if value.starts_with('/') => options.root = PathBuf::from(value),
                "root" => return Err(refuse("an absolute path, such as /host")),
                "node" if is_node_name(value) => options.node_name = Some(Text::from(value)),
                "node" => return Err(refuse("1 to 253 visible characters without a slash")),
                "containers" => {
                    options.containers_max = value
                        .parse()
                        .ok()
                        .filter(|max| *max <= CONTAINERS_MAX)
                        .ok_or_else(|| refuse("a number from 0 to 10000"))?;
                }
                _ => return Err(refuse("one of root, node, containers")),
            }
        }
        Ok(options)
    }
}

/// Whether a text can be the name of a node: keys and URLs separate with slashes.
pub(super) fn is_node_name(name: &str) -> bool {
    let is_visible = |c: char| !c.is_control() && !c.is_whitespace() && c != '/';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(is_visible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_from_the_query() {
        let none: [(&str, &str); 0] = [];
        assert_eq!(HostOptions::from_query(none), Ok(HostOptions::default()));
        let options =
            HostOptions::from_query([("root", "/host"), ("node", "web-1"), ("containers", "0")]);
        let expected = HostOptions {
            root: PathBuf::from("/host"),
            node_name: Some(Text::from("web-1")),
            containers_max: 0,
        };
        assert_eq!(options, Ok(expected));
    }

    #[test]
    fn a_bad_option_is_named_with_its_value_and_what_is_accepted() {
        for (option, value, accepted) in [
            ("root", "host", "an absolute path, such as /host"),
            ("node", "a/b", "1 to 253 visible characters without a slash"),
            ("node", "", "1 to 253 visible characters without a slash"),
            ("containers", "10001", "a number from 0 to 10000"),
            ("containers", "-1", "a number from 0 to 10000"),
            ("Root", "/", "one of root, node, containers"),
        ] {
            let error = HostOptions::from_query([(option, value)]).unwrap_err();
            let text = format!(
                "could not use option {option:?} with value {value:?} of source host: accepted is {accepted}"
            );
            assert_eq!(error.to_string(), text);
        }
    }
}
