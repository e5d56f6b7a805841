//! Keeps one kind of object up to date for as long as the program runs.
//!
//! An API server that is down, forgets where we were or breaks off is asked again for ever, with
//! growing pauses; until it answers, what was seen before stays in use.

use std::fmt::Debug;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use heapster_store::Clock;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::cluster::{Cluster, Shelf, Watched};
use crate::telemetry::logging::chain;

/// The first pause after a failure; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Watches one kind of object and never ends.
///
/// `keep` turns an object into what is kept of it. `synced` becomes true once all kinds of the
/// cluster were listed.
pub(super) async fn keep_up_to_date<K, T>(
    api: Api<K>,
    resource: Watched,
    keep: impl Fn(K) -> Option<T>,
    cluster: Arc<Cluster>,
    synced: watch::Sender<bool>,
    clock: Arc<dyn Clock>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    Cluster: Shelf<T>,
{
    let mut events = pin!(watcher::watcher(api, watcher::Config::default()));
    let mut listed = Vec::new();
    let mut failures: u32 = 0;
    while let Some(event) = events.next().await {
        match event {
            Err(error) => {
                let pause = pause_after(failures);
                tracing::warn!(
                    resource = resource.as_str(),
                    error = %chain(&error),
                    retry_in_ms = pause.as_millis() as u64,
                    "could not watch; the account needs list and watch of it in the whole cluster"
                );
                cluster.note_failure(resource, clock.now(), chain(&error));
                failures = failures.saturating_add(1);
                tokio::time::sleep(pause).await;
                continue;
            }
            // Begins every attempt, so it says nothing about the API server.
            Ok(Event::Init) => {
                listed = Vec::new();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed.extend(keep(object));
                continue;
            }
            Ok(Event::InitDone) => {
                let count = listed.len();
                cluster.replace(std::mem::take(&mut listed));
                cluster.note_synced(resource);
                tracing::info!(resource = resource.as_str(), count, "listed");
                if cluster.is_synced() {
                    synced.send_replace(true);
                }
            }
            Ok(Event::Apply(object)) => {
                if let Some(object) = keep(object) {
                    cluster.apply(object);
                }
            }
            Ok(Event::Delete(object)) => {
                if let Some(object) = keep(object) {
                    cluster.delete(&object);
                }
            }
        }
        if failures > 0 {
            cluster.note_recovery(resource);
            failures = 0;
        }
    }
}

/// A pause between half and the whole of what is due, so that many collectors do not come back at
/// once.
fn pause_after(failures: u32) -> Duration {
    let due = PAUSE_MIN.saturating_mul(1 << failures.min(6)).min(PAUSE_MAX);
    let random = RandomState::new().build_hasher().finish();
    due.mul_f64(0.5 + (random >> 11) as f64 / (1_u64 << 53) as f64 / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_differ() {
        for (failures, due) in [(0, 1), (1, 2), (5, 32), (6, 60), (7, 60), (u32::MAX, 60)] {
            for _ in 0..100 {
                let pause = pause_after(failures);
                assert!(pause >= Duration::from_secs(due) / 2, "{failures}: {pause:?}");
                assert!(pause <= Duration::from_secs(due), "{failures}: {pause:?}");
            }
        }
        assert_ne!(pause_after(6), pause_after(6));
    }
}
