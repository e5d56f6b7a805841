//! `series`, `labels` and `label/…/values`: what there is to ask for.

use std::sync::Arc;

use super::answer::{Answer, Data};
use super::error::Failure;
use super::escape::unescape;
use super::params::Form;
use super::{Prometheus, Reader, Wishes, add_route};
use crate::http::{Request, Response, Router};

pub(super) fn add_routes(router: &mut Router, own: &Arc<Prometheus>) {
    add_route(router, own, ("/series", "series"), |own, form, _| series(own, form));
    add_route(router, own, ("/labels", "labels"), |own, form, _| labels(own, form));
    add_route(router, own, ("/label/{name}/values", "label_values"), values);
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
