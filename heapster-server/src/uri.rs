//! [`Uri`]: the value of the flags `--source` and `--sink`, `KEY[:URL]` with options in the query.
//!
//! Reads what the original read and prints it as it did, so that manifests from then keep working.
//! Which keys and options mean something is judged by whoever owns the key.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// The texts Go takes for true and for false.
const TRUE: [&str; 6] = ["1", "t", "T", "TRUE", "true", "True"];
const FALSE: [&str; 6] = ["0", "f", "F", "FALSE", "false", "False"];

/// Options whose values must not reach a log.
const SECRET_OPTIONS: [&str; 15] = [
    "accesskey",
    "apikey",
    "auth_token",
    "essecretkey",
    "esusersecret",
    "key",
    "pass",
    "password",
    "pw",
    "secret",
    "sasl_password",
    "secretkey",
    "token",
    "user_password",
    "writekey",
];

/// How much of an option's value an error repeats.
const SHOWN_CHARS_MAX: usize = 120;

/// A source or sink as the command line names it.
///
/// Prints in canonical form: the key alone when there is no URL, else `KEY:URL` with environment
/// variables replaced. That form may hold passwords; `Debug` and [`Uri::redacted`] hide them.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    key: String,
    /// The URL as written, after expansion.
    url: String,
    scheme: String,
    user: Option<(String, Option<String>)>,
    host: String,
    port: Option<u16>,
    path: String,
    options: Vec<(String, String)>,
}

/// Why a flag's value is not a source or sink.
///
/// Says which option is meant, its value and what would be accepted. A value that may be a password
/// is hidden.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// Nothing before the first colon.
    #[error("missing uri key: expected KEY or KEY:URL")]
    MissingKey,
    /// What follows the key is no URL.
    #[error("the URL after '{key}:' is not usable: {reason}")]
    BadUrl {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An option's value is not of its type.
    #[error("option {option} of '{key}' {}expected {expected}", cannot_be(value.as_deref()))]
    BadOption {
        /// The key.
        key: String,
        /// The option's name.
        option: String,
        /// Its value, cut when very long; `None` when the option is not given.
        value: Option<String>,
        /// What would be accepted.
        expected: Cow<'static, str>,
    },
    /// An option the key does not have.
    #[error("'{key}' has no option {option}; it has {}", accepted.join(", "))]
    UnknownOption {
        /// The key.
        key: String,
        /// The option's name.
        option: String,
        /// Names of all its options.
        accepted: Vec<&'static str>,
    },
}

impl Uri {
    /// Reads a flag's value; `$VAR` and `${VAR}` after the key are replaced from `environment`, and
    /// removed when it has no such variable.
    ///
    /// # Errors
    /// [`UriError::MissingKey`] and [`UriError::BadUrl`].
    pub fn parse(
        flag: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, UriError> {
        let (key, rest) = flag.split_once(':').unwrap_or((flag, ""));
        if key.is_empty() {
            return Err(UriError::MissingKey);
        }
        let url = expand(rest, environment);
        let parts = Parts::split(&url)
            .map_err(|reason| UriError::BadUrl { key: key.to_owned(), reason })?;
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Ok(Self {
            key: key.to_owned(),
            scheme: parts.scheme.to_ascii_lowercase(),
            user: parts.user.map(|user| match user.split_once(':') {
                Some((name, password)) => (decode(name), Some(decode(password))),
                None => (decode(user), None),
            }),
            host: parts.host.to_owned(),
            port: parts.port,
            path: parts.path.to_owned(),
            options: form_urlencoded::parse(parts.query.as_bytes()).into_owned().collect(),
            url: url.clone(),
        })
    }

    /// The part before the first colon, such as `kubernetes.summary_api`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The scheme in lower case; empty when the URL has none.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// User name and password before the host, decoded.
    pub fn user(&self) -> Option<(&str, Option<&str>)> {
        self.user.as_ref().map(|(name, password)| (name.as_str(), password.as_deref()))
    }

    /// The host, an IPv6 address in its brackets; empty when the URL has none.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if the URL names one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path as written.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The first value of an option; an option may be given an empty one.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// All values of an option that may be repeated, in the order given.
    pub fn options<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The same with another option, unless it has that one. A name and a value need no encoding.
    pub fn with_default(mut self, name: &str, value: &str) -> Self {
        if self.option(name).is_none() {
            self.options.push((name.to_owned(), value.to_owned()));
            let mut pair = form_urlencoded::Serializer::new(String::new());
            let pair = pair.append_pair(name, value).finish();
            let separator = if self.url.contains('?') { '&' } else { '?' };
            self.url = format!("{}{separator}{pair}", self.url);
        }
        self
    }

    /// The first value of an option as Go reads a boolean.
    ///
    /// # Errors
    /// [`UriError::BadOption`] when it is something else, the empty text included.
    pub fn bool_option(&self, name: &str) -> Result<Option<bool>, UriError> {
        match self.option(name) {
            None => Ok(None),
            Some(value) if TRUE.contains(&value) => Ok(Some(true)),
            Some(value) if FALSE.contains(&value) => Ok(Some(false)),
            Some(_) => Err(self.bad_option(name, "true or false")),
        }
    }

    /// The first value of an option as a whole decimal number.
    ///
    /// # Errors
    /// [`UriError::BadOption`] when it is something else, the empty text included.
    pub fn int_option(&self, name: &str) -> Result<Option<i64>, UriError> {
        let parse =
            |value: &str| value.parse().map_err(|_| self.bad_option(name, "a whole number"));
        self.option(name).map(parse).transpose()
    }

    /// The error for an option whose value its owner cannot use.
    pub fn bad_option(&self, name: &str, expected: impl Into<Cow<'static, str>>) -> UriError {
        UriError::BadOption {
            key: self.key.clone(),
            option: name.to_owned(),
            value: self.option(name).map(|value| {
                let shown = if is_secret(name) { "***" } else { value };
                shown.chars().take(SHOWN_CHARS_MAX).collect()
            }),
            expected: expected.into(),
        }
    }

    /// Refuses options that are not among the accepted ones.
    ///
    /// # Errors
    /// [`UriError::UnknownOption`] with the first such option.
    pub fn accept_options(&self, accepted: &[&'static str]) -> Result<(), UriError> {
        match self.options.iter().find(|(name, _)| !accepted.contains(&name.as_str())) {
            None => Ok(()),
            Some((option, _)) => Err(UriError::UnknownOption {
                key: self.key.clone(),
                option: option.clone(),
                accepted: accepted.to_vec(),
            }),
        }
    }

    /// The canonical form with passwords and secret options hidden, for logs and pages.
    pub fn redacted(&self) -> String {
        if self.url.is_empty() {
            return self.key.clone();
        }
        let mut text = format!("{}:", self.key);
        if !self.scheme.is_empty() {
            text.push_str(&self.scheme);
            text.push(':');
        }
        if !self.host.is_empty() {
            text.push_str("//");
            if self.user.is_some() {
                text.push_str("***@");
            }
            text.push_str(&self.host);
            if let Some(port) = self.port {
                text.push_str(&format!(":{port}"));
            }
        }
        text.push_str(&self.path);
        for (index, (name, value)) in self.options.iter().enumerate() {
            let shown = if is_secret(name) { "***" } else { value };
            text.push(if index == 0 { '?' } else { '&' });
            text.push_str(&format!("{name}={shown}"));
        }
        text
    }
}

/// Whether an option's value must not be shown.
fn is_secret(option: &str) -> bool {
    SECRET_OPTIONS.contains(&option.to_ascii_lowercase().as_str())
}

fn cannot_be(value: Option<&str>) -> String {
    value.map_or_else(|| "is missing: ".to_owned(), |value| format!("cannot be {value:?}: "))
}

impl FromStr for Uri {
    type Err = UriError;

    /// As [`Uri::parse`] with the environment of the process.
    fn from_str(flag: &str) -> Result<Self, UriError> {
        Self::parse(flag, |name| std::env::var(name).ok())
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if self.url.is_empty() { Ok(()) } else { write!(f, ":{}", self.url) }
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

/// A list of flag values as the original prints it: `[a b]`.
pub fn print_list(uris: &[Uri]) -> String {
    let texts: Vec<_> = uris.iter().map(Uri::to_string).collect();
    format!("[{}]", texts.join(" "))
}

/// Replaces `$NAME` and `${NAME}`. A dollar sign that starts no name stays.
fn expand(text: &str, environment: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, next) = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some(braced) => braced,
            None => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                after.split_at(after.find(|c| !is_part(c)).unwrap_or(after.len()))
            }
        };
        if name.is_empty() {
            expanded.push('$');
            rest = after;
        } else {
            expanded.push_str(&environment(name).unwrap_or_default());
            rest = next;
        }
    }
    expanded.push_str(rest);
    expanded
}

/// A URL or the relative form of one, taken apart.
struct Parts<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    host: &'a str,
    port: Option<u16>,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn split(url: &'a str) -> Result<Self, &'static str> {
        if url.chars().any(|c| c.is_control() || c == ' ') {
            return Err("it holds a space or control character");
        }
        let url = url.split_once('#').map_or(url, |(before, _)| before);
        let (front, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) = match front.split_once(':') {
            Some(("", _)) => return Err("it lacks a scheme before the colon"),
            Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
            Some((before, _)) if !before.contains('/') => {
                return Err("a colon in the first part of a path needs a scheme before it");
            }
            _ => ("", front),
        };
        let Some(authority) = rest.strip_prefix("//") else {
            return Ok(Self { scheme, user: None, host: "", port: None, path: rest, query });
        };
        let (authority, path) = authority.split_at(authority.find('/').unwrap_or(authority.len()));
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let (host, port) = split_port(address)?;
        Ok(Self { scheme, user, host, port, path, query })
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn split_port(address: &str) -> Result<(&str, Option<u16>), &'static str> {
    let port_at = match address.rfind(']') {
        Some(end) if address.starts_with('[') => end + 1,
        Some(_) => return Err("its host has a ']' without a '['"),
        None if address.starts_with('[') => return Err("its host has a '[' without a ']'"),
        None => address.find(':').unwrap_or(address.len()),
    };
    let (host, port) = address.split_at(port_at);
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, None)),
        None => Err("something other than a port follows its host"),
        Some("") => Ok((host, None)),
        Some(port) => match port.parse() {
            Ok(port) if !port_has_sign(address) => Ok((host, Some(port))),
            _ => Err("its port is not a number from 0 to 65535"),
        },
    }
}

/// Rust reads `+80` as a number; a URL may not hold it.
fn port_has_sign(address: &str) -> bool {
    address.rsplit(':').next().is_some_and(|port| port.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flag: &str) -> Result<Uri, UriError> {
        Uri::parse(flag, |name| match name {
            "HOST" => Some("influx".to_owned()),
            "PORT_1" => Some("8086".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn flags_print_as_the_original_prints_them() {
        for (flag, text) in [
            ("log", "log"),
            ("log:", "log"),
            ("kubernetes:https://api:6443", "kubernetes:https://api:6443"),
            ("x:?library=foo&library=bar", "x:?library=foo&library=bar"),
            ("x:http://$HOST:${PORT_1}?db=${NONE}k", "x:http://influx:8086?db=k"),
            ("$HOST:", "$HOST"),
            ("x:?pw=a$%24", "x:?pw=a$%24"),
        ] {
            let uri = parse(flag).unwrap();
            assert_eq!(uri.to_string(), text);
            assert_eq!(parse(&uri.to_string()).unwrap(), uri);
        }
        let list = [parse("a").unwrap(), parse("b:?c=d").unwrap()];
        assert_eq!(print_list(&list), "[a b:?c=d]");
    }

    #[test]
    fn a_url_is_taken_apart() {
        let uri = parse("k:HTTPS://u%40:p:w@[fd00::1]:6443/a/b?x=1#f").unwrap();
        assert_eq!((uri.key(), uri.scheme(), uri.host()), ("k", "https", "[fd00::1]"));
        assert_eq!((uri.port(), uri.path()), (Some(6443), "/a/b"));
        assert_eq!(uri.user(), Some(("u@", Some("p:w"))));
        let uri = parse("statsd:udp://h").unwrap();
        assert_eq!((uri.host(), uri.port(), uri.path()), ("h", None, ""));
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for flag in ["", ":x", ":http://u:hush@h"] {
            let error = parse(flag).unwrap_err().to_string();
            assert_eq!(error, "missing uri key: expected KEY or KEY:URL");
        }
        for flag in
            ["k::x", "k:http://h:x", "k:http://h:70000", "k:http://[::1", "k:http://h:+1", "k:a b"]
        {
            assert!(matches!(parse(flag), Err(UriError::BadUrl { .. })), "{flag}");
        }
    }

    #[test]
    fn options_have_types_and_the_first_of_several_wins() {
        let uri = parse("k:?a=1&a=2&b=TRUE&c=yes&d=-7&e=&f=%26+x").unwrap();
        assert_eq!(uri.option("a"), Some("1"));
        assert_eq!(uri.options("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((uri.bool_option("b"), uri.bool_option("z")), (Ok(Some(true)), Ok(None)));
        assert_eq!((uri.int_option("d"), uri.option("f")), (Ok(Some(-7)), Some("& x")));
        let error = uri.bool_option("c").unwrap_err().to_string();
        assert_eq!(error, "option c of 'k' cannot be \"yes\": expected true or false");
        assert!(uri.bool_option("e").is_err() && uri.int_option("e").is_err());
        assert!(uri.int_option("c").is_err());
    }

    #[test]
    fn an_unknown_option_is_answered_with_the_known_ones() {
        let uri = parse("k:?kubeletport=1").unwrap();
        let error = uri.accept_options(&["auth", "kubeletPort"]).unwrap_err().to_string();
        assert_eq!(error, "'k' has no option kubeletport; it has auth, kubeletPort");
        assert_eq!(uri.accept_options(&["kubeletport"]), Ok(()));
    }

    #[test]
    fn secrets_are_not_printed_for_logs() {
        let uri = parse("elasticsearch:?esUserSecret=hush").unwrap();
        assert_eq!(format!("{uri:?}"), "elasticsearch:?esUserSecret=***");
        let error = uri.bad_option("esUserSecret", "a word").to_string();
        assert!(error.contains("\"***\"") && !error.contains("hush"), "{error}");
        let uri = parse("influxdb:http://u:hush@h:1/p?pw=hush&db=k8s").unwrap();
        assert_eq!(format!("{uri:?}"), "influxdb:http://***@h:1/p?pw=***&db=k8s");
    }
}
