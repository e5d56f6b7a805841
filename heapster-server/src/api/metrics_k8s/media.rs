//! What a client wants an answer to be written as: the negotiation of Kubernetes' API servers.

use http::HeaderMap;
use http::header::{ACCEPT, USER_AGENT};

use crate::http::gojson::Style;
use crate::http::{Query, Request};

/// An encoding of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

impl Media {
    /// Its name as a content type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// A version of the table that `kubectl get` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableVersion {
    /// `meta.k8s.io/v1`.
    V1,
    /// `meta.k8s.io/v1beta1`.
    V1beta1,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The object itself.
    Object(Media),
    /// A table of it, in JSON.
    Table(TableVersion),
    /// The document of aggregated discovery of that version, in JSON.
    Discovery(&'static str),
}

/// The first of what a request accepts that is there; its weights are respected.
pub fn negotiate(headers: &HeaderMap, kinds: Kinds) -> Option<Wanted> {
    let mut accepted: Vec<(u16, Wanted)> = Vec::new();
    let mut is_empty = true;
    for value in headers.get_all(ACCEPT) {
        for part in value.to_str().unwrap_or_default().split(',') {
            is_empty &= part.trim().is_empty();
            accepted.extend(wanted(part, kinds));
        }
    }
    if is_empty {
        return Some(Wanted::Object(Media::Json));
    }
    // Stable: of equal weights the first counts.
    accepted.sort_by_key(|(weight, _)| u16::MAX - weight);
    accepted.into_iter().next().map(|(_, wanted)| wanted)
}

/// What else than objects there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// Objects only.
    Objects,
    /// Tables as well.
    Tables,
    /// Aggregated discovery as well.
    Discovery,
}

/// What one part of the header accepts, with its weight in thousandths.
fn wanted(part: &str, kinds: Kinds) -> Option<(u16, Wanted)> {
    let mut params = part.split(';').map(str::trim);
    let media = match params.next()? {
        "application/json" | "*/*" | "application/*" => Media::Json,
        "application/yaml" => Media::Yaml,
        "application/vnd.kubernetes.protobuf" => Media::Protobuf,
        _ => return None,
    };
    let (mut weight, mut convert, mut group, mut version) = (1.0_f32, "", "", "");
    for (name, value) in params.filter_map(|param| param.split_once('=')) {
        match name.trim() {
            "q" => weight = value.trim().parse().ok()?,
            "as" => convert = value.trim(),
            "g" => group = value.trim(),
            "v" => version = value.trim(),
            _ => {}
        }
    }
    if !(0.001..=1.0).contains(&weight) {
        return None;
    }
    let wanted = match (convert, kinds, media) {
        ("", _, _) => Wanted::Object(media),
        ("Table", Kinds::Tables, Media::Json) if group == "meta.k8s.io" => match version {
            "v1" => Wanted::Table(TableVersion::V1),
            "v1beta1" => Wanted::Table(TableVersion::V1beta1),
            _ => return None,
        },
        ("APIGroupDiscoveryList", Kinds::Discovery, Media::Json)
            if group == "apidiscovery.k8s.io" =>
        {
            match version {
                "v2" => Wanted::Discovery("v2"),
                "v2beta1" => Wanted::Discovery("v2beta1"),
                _ => return None,
            }
        }
        _ => return None,
    };
    // Between 1 and 1000, as was checked.
    Some(((weight * 1000.0) as u16, wanted))
}

/// How JSON is laid out: for people when they ask for it, or use what people use.
pub fn style(request: &Request) -> Style {
    let agent = request.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    let is_for_people = match pretty(&request.query) {
        Some(pretty) => pretty,
        None => ["curl", "Wget", "Mozilla/5.0"]
            .iter()
            .any(|known| agent.is_some_and(|agent| agent.starts_with(known))),
    };
    if is_for_people { Style::Indented } else { Style::Plain }
}

fn pretty(query: &Query) -> Option<bool> {
    let pretty = query.first("pretty");
    (!pretty.is_empty()).then_some(!matches!(pretty, "false" | "0"))
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    fn of(accept: &str, kinds: Kinds) -> Option<Wanted> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(accept).unwrap())]);
        negotiate(&headers, kinds)
    }

    #[test]
    fn the_first_that_is_there_is_taken_by_weight() {
        const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
        const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let object = |media| Some(Wanted::Object(media));
        for (accept, wanted) in [
            ("", object(Media::Json)),
            ("*/*", object(Media::Json)),
            ("text/html, application/*;q=0.8", object(Media::Json)),
            (&format!("{PROTOBUF}, */*"), object(Media::Protobuf)),
            (&format!("{PROTOBUF};q=0.5,application/yaml"), object(Media::Yaml)),
            (&format!("{PROTOBUF};q=0"), None),
            ("text/html", None),
            ("application/json;as=Other;g=meta.k8s.io;v=v1", None),
            (&format!("{TABLE},application/json"), Some(Wanted::Table(TableVersion::V1))),
            (
                &format!("{PROTOBUF};as=Table;v=v1;g=meta.k8s.io,{TABLE}"),
                Some(Wanted::Table(TableVersion::V1)),
            ),
        ] {
            assert_eq!(of(accept, Kinds::Tables), wanted, "{accept}");
        }
        assert_eq!(of(&format!("{TABLE},application/json"), Kinds::Objects), object(Media::Json));
        let discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                         application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        assert_eq!(of(discovery, Kinds::Discovery), Some(Wanted::Discovery("v2")));
        assert_eq!(negotiate(&HeaderMap::new(), Kinds::Objects), object(Media::Json));
    }
}
