//! `series`, `labels`, `label/…/values` and `metadata`: what there is to ask for.

use std::sync::Arc;

use heapster_core::MetricKind;
use heapster_core::catalogue::{self, MetricDescriptor};

use super::answer::{Answer, Data};
use super::error::Failure;
use super::escape::unescape;
use super::params::Form;
use super::query::success;
use super::{Prometheus, Reader, Wishes, add_route};
use crate::http::{Request, Response, Router};

pub(super) fn add_routes(router: &mut Router, own: &Arc<Prometheus>) {
    add_route(router, own, ("/series", "series"), |own, form, _| series(own, form));
    add_route(router, own, ("/labels", "labels"), |own, form, _| labels(own, form));
    add_route(router, own, ("/label/{name}/values", "label_values"), values);
    add_route(router, own, ("/metadata", "metadata"), |_, form, _| metadata(form));
}

async fn series(own: Arc<Prometheus>, form: Form) -> Result<Response, Failure> {
    let selectors = form.selectors()?;
    if selectors.is_empty() {
        return Err(Failure::bad_data("no match[] parameter provided"));
    }
    let (range, limit) = (form.range()?, form.limit("limit")?);
    let read = move |reader: &Reader<'_>| {
        let Reader { engine, snapshot, control, .. } = reader;
        let found = engine.series(*snapshot, &selectors, range, control)?;
        let answer = Answer::new(Data::Series(found));
        Ok(reader.whole_or_warned(answer.limited(limit)).into_response())
    };
    Ok(own.read(Wishes::default(), read).await)
}

async fn labels(own: Arc<Prometheus>, form: Form) -> Result<Response, Failure> {
    let (selectors, range, limit) = (form.selectors()?, form.range()?, form.limit("limit")?);
    let read = move |reader: &Reader<'_>| {
        let Reader { engine, snapshot, control, .. } = reader;
        let names = engine.label_names(*snapshot, &selectors, range, control)?;
        let answer = Answer::new(Data::Texts(names));
        Ok(reader.whole_or_warned(answer.limited(limit)).into_response())
    };
    Ok(own.read(Wishes::default(), read).await)
}

async fn values(own: Arc<Prometheus>, form: Form, request: Request) -> Result<Response, Failure> {
    let name = unescape(request.params.get("name"));
    if name.is_empty() {
        return Err(Failure::bad_data(format!("invalid label name: {name:?}")));
    }
    let (selectors, range, limit) = (form.selectors()?, form.range()?, form.limit("limit")?);
    let read = move |reader: &Reader<'_>| {
        let Reader { engine, snapshot, control, .. } = reader;
        let values = engine.label_values(*snapshot, &name, &selectors, range, control)?;
        let answer = Answer::new(Data::Texts(values));
        Ok(reader.whole_or_warned(answer.limited(limit)).into_response())
    };
    Ok(own.read(Wishes::default(), read).await)
}

/// What the catalogue of the model says of its metrics. What others say of theirs is answered by
/// whoever hears it.
async fn metadata(form: Form) -> Result<Response, Failure> {
    let limit = form.limit("limit")?.unwrap_or(usize::MAX);
    form.limit("limit_per_metric")?;
    let metric = form.text("metric");
    let mut known: Vec<&MetricDescriptor> =
        catalogue::all().filter(|known| metric.is_empty() || known.name == metric).collect();
    known.sort_by_key(|known| known.name);
    known.dedup_by_key(|known| known.name);
    Ok(success(|json| {
        json.begin_object();
        for known in known.into_iter().take(limit) {
            json.key(known.name);
            json.begin_array();
            json.begin_object();
            json.key("type");
            json.string(match known.kind {
                MetricKind::Cumulative => "counter",
                _ => "gauge",
            });
            json.key("help");
            json.string(known.description);
            json.key("unit");
            json.string(known.unit.as_str());
            json.end_object();
            json.end_array();
        }
        json.end_object();
    }))
}
