//! [`Reviews`]: what the API server says of tokens and of what users may do.

use std::time::Duration;

use heapster_store::Clock;
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::{sleep, timeout};

use super::cache::Cache;
use super::identity::{Attributes, Identity};
use super::static_users::{Digest, digest_of};

/// How long a question may take, tries and pauses included.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(10);

/// Pauses between tries, the first ones of those the API server's own clients make.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(750), Duration::from_millis(1_125)];

/// Questions of more characters than that are asked each time.
const CACHED_CHARS_MAX: usize = 10_000;

/// How long answers are kept.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Who a token is of, or that it is of nobody.
    pub token: Duration,
    /// That somebody may do something.
    pub allowed: Duration,
    /// That somebody may not.
    pub denied: Duration,
}

/// Whether somebody may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is allowed.
    pub is_allowed: bool,
    /// Why, if that was said.
    pub reason: String,
}

/// The API server was asked and did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the API server does not answer: {0}")]
pub struct Unanswered(String);

/// Asks the API server, and remembers for a while what it said.
pub struct Reviews {
    client: Client,
    clock: Arc<dyn Clock>,
    kept: Kept,
    tokens: Cache<Digest, Option<Identity>>,
    verdicts: Cache<(Identity, Attributes), Verdict>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reviewed<T> {
    status: T,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenStatus {
    authenticated: bool,
    user: UserInfo,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserInfo {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: std::collections::BTreeMap<String, Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AccessStatus {
    allowed: bool,
    reason: String,
}

impl Reviews {
    /// Reviews of the API server that a client reaches.
    pub fn new(client: Client, clock: Arc<dyn Clock>, kept: Kept) -> Self {
        Self { client, clock, kept, tokens: Cache::default(), verdicts: Cache::default() }
    }

    /// Whose a token is; `None` when it is nobody's.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn user_of(&self, token: &str) -> Result<Option<Identity>, Unanswered> {
        let digest = digest_of(token);
        if let Some(known) = self.tokens.get(&digest, self.clock.monotonic()) {
            return Ok(known);
        }
        let question = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": { "token": token },
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let Reviewed::<TokenStatus> { status } = self.ask(path, &question).await?;
        let UserInfo { username, uid, groups, extra } = status.user;
        let is_known = status.authenticated && !username.is_empty();
        let user = is_known.then(|| Identity { uid, extra, ..Identity::known(username, groups) });
        self.tokens.put(digest, user.clone(), self.clock.monotonic(), self.kept.token);
        Ok(user)
    }

    /// Whether a user may do something.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn may(
        &self,
        user: &Identity,
        attributes: &Attributes,
    ) -> Result<Verdict, Unanswered> {
        let key = (user.clone(), attributes.clone());
        if let Some(known) = self.verdicts.get(&key, self.clock.monotonic()) {
            return Ok(known);
        }
        let mut spec = json!({
            "user": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra,
        });
        match attributes {
            Attributes::Resource {
                verb,
                group,
                version,
                resource,
                subresource,
                namespace,
                name,
            } => {
                spec["resourceAttributes"] = json!({
                    "verb": verb, "group": group, "version": version, "resource": resource,
                    "subresource": subresource, "namespace": namespace, "name": name,
                });
            }
            Attributes::Path { verb, path } => {
                spec["nonResourceAttributes"] = json!({ "verb": verb, "path": path });
            }
        }
        let question = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec,
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let Reviewed::<AccessStatus> { status } = self.ask(path, &question).await?;
        let verdict = Verdict { is_allowed: status.allowed, reason: status.reason };
        if question.to_string().len() <= CACHED_CHARS_MAX {
            let kept = if verdict.is_allowed { self.kept.allowed } else { self.kept.denied };
            self.verdicts.put(key, verdict.clone(), self.clock.monotonic(), kept);
        }
        Ok(verdict)
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        question: &Value,
    ) -> Result<T, Unanswered> {
        let tries = async {
            let mut pauses = PAUSES.iter();
            loop {
                let error = match self.ask_once(path, question).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                match pauses.next() {
                    // What the API server refuses it will refuse again.
                    Some(pause) if !matches!(&error, kube::Error::Api(_)) => sleep(*pause).await,
                    // The text of the error has no part of the request.
                    _ => return Err(Unanswered(error.to_string())),
                }
            }
        };
        match timeout(QUESTION_TIME_MAX, tries).await {
            Ok(answer) => answer,
            Err(_) => Err(Unanswered(format!("nothing came within {QUESTION_TIME_MAX:?}"))),
        }
    }

    async fn ask_once<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        question: &Value,
    ) -> Result<T, kube::Error> {
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(question.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        let answer = self.client.request_text(request).await?;
        serde_json::from_str(&answer).map_err(kube::Error::SerdeError)
    }
}
