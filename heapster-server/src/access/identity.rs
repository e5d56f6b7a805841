//! [`Identity`]: who asks; [`Attributes`]: for what.

use std::collections::BTreeMap;

use http::Method;

/// The group of everybody who is known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";

/// A user as Kubernetes sees one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Name; never empty.
    pub name: String,
    /// Something that no other user of that name has; may be empty.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else is known, by name.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A user of that name, who is in these groups and in that of all known users.
    pub fn known(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut identity =
            Self { name: name.into(), groups: groups.into_iter().collect(), ..Self::default() };
        identity.join(AUTHENTICATED);
        identity
    }

    /// Whoever says nothing.
    pub fn anonymous() -> Self {
        let (name, groups) = ("system:anonymous", vec!["system:unauthenticated".to_owned()]);
        Self { name: name.to_owned(), groups, ..Self::default() }
    }

    /// Whether nobody said who it is.
    pub fn is_anonymous(&self) -> bool {
        self.name == "system:anonymous"
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Adds a group.
    pub fn join(&mut self, group: &str) {
        if !self.is_in(group) {
            self.groups.push(group.to_owned());
        }
    }
}

/// What is asked for, in the words of the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// An object, or a list of them.
    Resource {
        /// `get`, `list`, `create` and so on.
        verb: &'static str,
        /// Group of the API.
        group: String,
        /// Version of the API.
        version: String,
        /// Resource, such as `pods`.
        resource: String,
        /// What is behind the name.
        subresource: String,
        /// Namespace; empty for all, or where there are none.
        namespace: String,
        /// Name; empty for a list.
        name: String,
    },
    /// A path that is no resource.
    Path {
        /// The method in lower case.
        verb: String,
        /// The path.
        path: String,
    },
}

impl Attributes {
    /// The attributes of a request for a decoded path.
    pub fn of(method: &Method, path: &str, is_watch: bool) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // `/api` is the group without a name. Were what is below it no resource, `system:discovery`, which
        // everybody in a cluster has, would give all of it away.
        let (group, version, rest) = match parts.as_slice() {
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            ["api", version, rest @ ..] => ("", *version, rest),
            _ => return Self::of_path(method, path),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, resource, ..] if !resource.is_empty() => {
                (*namespace, &rest[2..])
            }
            _ => ("", rest),
        };
        let [resource, rest @ ..] = rest else { return Self::of_path(method, path) };
        let name = rest.first().copied().unwrap_or_default();
        let verb = match *method {
            Method::GET | Method::HEAD if is_watch => "watch",
            Method::GET | Method::HEAD if name.is_empty() => "list",
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if name.is_empty() => "deletecollection",
            Method::DELETE => "delete",
            _ => "unknown",
        };
        Self::Resource {
            verb,
            group: group.to_owned(),
            version: version.to_owned(),
            resource: (*resource).to_owned(),
            subresource: rest.get(1..).unwrap_or_default().join("/"),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn of_path(method: &Method, path: &str) -> Self {
        Self::Path { verb: method.as_str().to_ascii_lowercase(), path: path.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> Option<String> {
        match Attributes::of(&Method::GET, path, false) {
            Attributes::Resource {
                verb, group, resource, subresource, namespace, name, ..
            } => Some(format!("{verb} {group} {namespace}/{resource}/{name}/{subresource}")),
            Attributes::Path { .. } => None,
        }
    }

    #[test]
    fn paths_are_taken_apart_as_the_api_server_does() {
        for (path, expected) in [
            ("/apis/metrics.k8s.io/v1beta1/nodes", Some("list metrics.k8s.io /nodes//")),
            ("/apis/metrics.k8s.io/v1/nodes/n/", Some("get metrics.k8s.io /nodes/n/")),
            ("/apis/g/v1/namespaces/d/pods", Some("list g d/pods//")),
            ("/apis/g/v1/namespaces/d/pods/p/log/x", Some("get g d/pods/p/log/x")),
            ("/apis/g/v1/namespaces/d", Some("get g /namespaces/d/")),
            ("/apis/metrics.k8s.io/v1beta1", None),
            ("/apis", None),
            ("/metrics", None),
            ("/api/v1/model/nodes", Some("get  /model/nodes/")),
            ("/api/v1/query", Some("list  /query//")),
            ("/api/v1", None),
        ] {
            assert_eq!(resource(path).as_deref(), expected, "{path}");
        }
    }
}
