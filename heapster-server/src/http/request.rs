//! [`Request`]: what a handler is given.

use bytes::Bytes;
use http::{HeaderMap, Method};

/// A request whose path was decoded and matched.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The whole path, decoded.
    pub path: String,
    /// Values of the pattern's parameters.
    pub params: Params,
    /// The query's parameters.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty for most.
    pub body: Bytes,
}

/// Values of the parameters in a route's pattern, decoded.
#[derive(Clone, Debug, Default)]
pub struct Params(pub(super) Vec<(String, String)>);

impl Params {
    /// The value of a parameter; empty when the pattern has none of that name.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }
}

/// Parameters of a query, decoded, in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the part of a URI after the `?`.
    pub fn parse(query: &str) -> Self {
        let decoded = form_urlencoded::parse(query.as_bytes());
        Self(decoded.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// These parameters, and behind them those of another query.
    #[must_use]
    pub fn followed_by(mut self, other: &Self) -> Self {
        self.0.extend_from_slice(&other.0);
        self
    }

    /// The first value of a parameter; empty when it is absent.
    pub fn first(&self, name: &str) -> &str {
        self.0.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Whether the parameter is there, be it without a value.
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(own, _)| own == name)
    }
}
