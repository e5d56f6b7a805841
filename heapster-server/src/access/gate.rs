//! [`AccessGate`]: lets a request in, or says why not.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::pipeline::BoxFuture;
use heapster_store::Clock;
use http::header::{AUTHORIZATION, HeaderValue};
use http::request::Parts;
use kube::Client;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::AccessError;
use super::certificate::subject;
use super::front_proxy::Named;
use super::identity::{Attributes, Identity, MASTERS};
use super::reviews::{Reviews, Unanswered, Verdict};
use super::settings::{Settings, Sources};
use crate::api::metrics_k8s::status::{Details, Status};
use crate::http::path;
use crate::http::{Caller, Gate, Query, Response};
use crate::telemetry::logging::chain;
use crate::telemetry::rate_limit::RateLimit;

/// How often files and the cluster are read again.
const RELOAD_PERIOD: Duration = Duration::from_secs(30);

/// One line about an API server that does not answer in this time.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Who may do what, besides what the API server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Paths for everybody; one that ends with `*` is for all that begin so.
    pub always_allow: Vec<String>,
    /// Whether whoever shows nothing is somebody, whose rights are then asked for.
    pub anonymous: bool,
    /// Users that are let in where no API server is asked; none means all that are known.
    pub allowed_users: Vec<String>,
}

/// Authentication and authorization.
pub struct AccessGate {
    sources: Sources,
    policy: Policy,
    settings: RwLock<Arc<Settings>>,
    client: Option<Client>,
    reviews: Option<Reviews>,
    clock: Arc<dyn Clock>,
    silence_lines: RateLimit,
}

/// Why a request is not let in.
enum Refusal {
    Unknown,
    Forbidden(Status),
}

impl AccessGate {
    /// A gate with everything read for the first time. `client` reaches the API server whose word
    /// counts, if there is one; `reviews` ask it.
    ///
    /// # Errors
    /// [`AccessError`]: something cannot be read.
    pub async fn new(
        sources: Sources,
        policy: Policy,
        client: Option<Client>,
        reviews: Option<Reviews>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AccessError> {
        let nothing = Settings::default();
        let settings = Settings::read(&sources, client.as_ref(), &nothing).await?;
        let settings = RwLock::new(Arc::new(settings));
        let silence_lines = RateLimit::new(LOG_PERIOD);
        Ok(Self { sources, policy, settings, client, reviews, clock, silence_lines })
    }

    /// Reads everything again from time to time, until told to stop. What cannot be read leaves
    /// what was in use.
    pub async fn keep_up_to_date(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELOAD_PERIOD) => {}
            }
            if let Err(error) = self.reload().await {
                tracing::warn!(error = chain(&error), "keeping whom we believed before");
            }
        }
    }

    /// Reads everything again now.
    ///
    /// # Errors
    /// As [`AccessGate::new`]; what was in use stays so.
    pub async fn reload(&self) -> Result<(), AccessError> {
        let before = Arc::clone(&self.settings.read());
        let settings = Settings::read(&self.sources, self.client.as_ref(), &before).await?;
        *self.settings.write() = Arc::new(settings);
        Ok(())
    }

    /// Who asks, by the certificate that was shown and by what was taken out of the request.
    async fn identify(
        &self,
        settings: &Settings,
        caller: &Caller,
        named: &Named,
        authorization: Option<HeaderValue>,
    ) -> Result<Identity, Refusal> {
        let (chain, now) = (&caller.certificates, self.clock.now());
        let proxy = settings.front_proxy.as_ref();
        if let Some(user) = proxy.and_then(|proxy| proxy.user(chain, named, now)) {
            return Ok(user);
        }
        let is_vouched = settings.client_ca.as_ref().is_some_and(|own| own.vouch_for(chain, now));
        let own = chain.first().filter(|_| is_vouched).and_then(subject);
        if let Some(subject) = own.filter(|subject| !subject.common_name.is_empty()) {
            return Ok(Identity::known(subject.common_name, subject.organizations));
        }
        if let Some(shown) = authorization {
            return self.identify_by(settings, shown.to_str().unwrap_or_default()).await;
        }
        // A certificate that nobody vouches for is a mistake rather than nothing at all.
        match self.policy.anonymous && chain.is_empty() {
            true => Ok(Identity::anonymous()),
            false => Err(Refusal::Unknown),
        }
    }

    /// Who has the credentials of an `Authorization` header.
    async fn identify_by(&self, settings: &Settings, shown: &str) -> Result<Identity, Refusal> {
        let (scheme, credentials) = shown.split_once(' ').unwrap_or((shown, ""));
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("basic") {
            return settings.passwords.with_basic(credentials).ok_or(Refusal::Unknown);
        }
        if !scheme.eq_ignore_ascii_case("bearer") || credentials.is_empty() {
            return Err(Refusal::Unknown);
        }
        if let Some(user) = settings.tokens.with_token(credentials) {
            return Ok(user);
        }
        let Some(reviews) = &self.reviews else { return Err(Refusal::Unknown) };
        match reviews.user_of(credentials).await {
            Ok(user) => user.ok_or(Refusal::Unknown),
            Err(error) => {
                self.note_silence(&error);
                Err(Refusal::Unknown)
            }
        }
    }

    /// Everybody who asks would be a line otherwise, and anybody may ask.
    fn note_silence(&self, error: &Unanswered) {
        if let Some(earlier) = self.silence_lines.admit(self.clock.monotonic()) {
            tracing::warn!(error = %error, earlier, "nobody new is let in: who asks, or what they may, is not known");
        }
    }

    fn is_always_allowed(&self, path: &str) -> bool {
        self.policy.always_allow.iter().any(|own| match own.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == own,
        })
    }

    async fn authorize(&self, user: &Identity, attributes: &Attributes) -> Result<(), Refusal> {
        // A list of users without a cluster is all there is: no group gets around it.
        if user.is_in(MASTERS) && (self.reviews.is_some() || self.policy.allowed_users.is_empty()) {
            return Ok(());
        }
        let Some(reviews) = &self.reviews else {
            let users = &self.policy.allowed_users;
            let is_listed = users.is_empty() || users.contains(&user.name);
            let verdict =
                Verdict { is_allowed: !user.is_anonymous() && is_listed, reason: String::new() };
            return decide(user, attributes, &verdict);
        };
        let verdict = match reviews.may(user, attributes).await {
            Ok(verdict) => verdict,
            Err(error) => {
                self.note_silence(&error);
                // The error names addresses and accounts of the cluster.
                Verdict { is_allowed: false, reason: "the API server did not say".to_owned() }
            }
        };
        decide(user, attributes, &verdict)
    }

    /// Lets a request in. What it shows is taken away from it in every case, so that nothing behind
    /// us can see, log or believe it.
    async fn pass(&self, caller: &Caller, head: &mut Parts) -> Result<(), Refusal> {
        let settings = Arc::clone(&self.settings.read());
        let named = settings.headers.take(&mut head.headers);
        let authorization = head.headers.remove(AUTHORIZATION);
        // What cannot be decoded is refused by the router, whoever asks.
        let path = path::decode(head.uri.path()).unwrap_or_default();
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let is_watch = matches!(query.first("watch"), "true" | "1");
        let attributes = Attributes::of(&head.method, &path, is_watch);
        // As in an API server, resources are never for everybody.
        if matches!(attributes, Attributes::Path { .. }) && self.is_always_allowed(&path) {
            return Ok(());
        }
        let user = self.identify(&settings, caller, &named, authorization).await?;
        if head.headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
            // To answer as the user who asks would tell more than the other one may know.
            let said = "impersonation is not supported here: ask through the API server";
            return Err(Refusal::Forbidden(Status::forbidden(said.to_owned(), Details::default())));
        }
        self.authorize(&user, &attributes).await
    }
}

fn decide(user: &Identity, attributes: &Attributes, verdict: &Verdict) -> Result<(), Refusal> {
    if verdict.is_allowed {
        return Ok(());
    }
    let reason = match verdict.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let name = &user.name;
    let (said, details) = match attributes {
        Attributes::Path { verb, path } => (
            format!("forbidden: User \"{name}\" cannot {verb} path \"{path}\""),
            Details::default(),
        ),
        Attributes::Resource { verb, group, resource, namespace, name: object, .. } => {
            let full = match group.as_str() {
                "" => resource.clone(),
                group => format!("{resource}.{group}"),
            };
            let quoted = if object.is_empty() { String::new() } else { format!(" \"{object}\"") };
            let place = match namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace \"{namespace}\""),
            };
            let said = format!(
                "{full}{quoted} is forbidden: User \"{name}\" cannot {verb} resource \
                 \"{resource}\" in API group \"{group}\" {place}"
            );
            (
                said,
                Details {
                    name: object.clone(),
                    group: group.clone().into(),
                    kind: resource.clone().into(),
                },
            )
        }
    };
    Err(Refusal::Forbidden(Status::forbidden(said + &reason, details)))
}

impl Gate for AccessGate {
    fn admit<'a>(
        &'a self,
        caller: &'a Caller,
        head: &'a mut Parts,
    ) -> BoxFuture<'a, Result<(), Box<Response>>> {
        Box::pin(async move {
            let status = match self.pass(caller, head).await {
                Ok(()) => return Ok(()),
                Err(Refusal::Unknown) => Status::unauthorized(),
                Err(Refusal::Forbidden(status)) => status,
            };
            Err(Box::new(status.answer(&head.headers)))
        })
    }
}

impl fmt::Debug for AccessGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessGate").field("policy", &self.policy).finish_non_exhaustive()
    }
}
