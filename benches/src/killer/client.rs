//! A client that pushes samples of known values, and the journal of what was acknowledged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use heapster_store::{Clock, SystemClock};
use parking_lot::Mutex;
use prost::Message;
use tokio::time::sleep;

use crate::cluster_sim::random::Random;
use crate::fetch::post;
use crate::remote_write::{Label, Sample, TimeSeries, WriteRequest};

/// Sets of a client, and columns of each of them.
pub(super) const SETS: u32 = 40;
pub(super) const COLUMNS: u32 = 5;
/// The label that tells the campaign's sets from others.
pub(super) const JOB: (&str, &str) = ("job", "killer");

/// Between two requests of a client.
const PACE: Duration = Duration::from_millis(15);
/// One request in that many also brings a moment of the last half minute.
const LATE_EVERY: u64 = 20;
const LATE_MAX: u64 = 30_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client knows of a moment that it pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Sent: it may be there or not.
    Sent,
    /// Acknowledged: it must be there.
    Acknowledged,
}

/// The moments of each client, in milliseconds.
pub(super) struct Journals {
    seed: u64,
    of_client: Vec<Mutex<BTreeMap<i64, Fate>>>,
    acknowledged_samples: AtomicU64,
}

impl Journals {
    pub(super) fn new(clients: u32, seed: u64) -> Self {
        let of_client = (0..clients).map(|_| Mutex::default()).collect();
        Self { seed, of_client, acknowledged_samples: AtomicU64::new(0) }
    }

    pub(super) fn clients(&self) -> u32 {
        self.of_client.len() as u32
    }

    pub(super) fn acknowledged_samples(&self) -> u64 {
        self.acknowledged_samples.load(Ordering::Relaxed)
    }

    /// What is known of each moment of a client now; nothing of a client that is not there.
    pub(super) fn of(&self, client: u32) -> BTreeMap<i64, Fate> {
        self.of_client.get(client as usize).map(|own| own.lock().clone()).unwrap_or_default()
    }

    /// The only value that a sample can have. One in eight is any bits at all: NaNs of all kinds,
    /// infinities, the staleness marker's neighbours.
    pub(super) fn value(&self, client: u32, set: u32, column: u32, at: i64) -> f64 {
        let place = (u64::from(client) << 40) | (u64::from(set) << 20) | u64::from(column);
        let mut bits = self.seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at.cast_unsigned();
        for _ in 0..2 {
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits ^= bits >> 27;
        }
        if bits.is_multiple_of(8) {
            f64::from_bits(bits.rotate_left(17))
        } else {
            (bits % 10_000_000) as f64 / 100.0
        }
    }
}

/// A client of one life of the server.
pub(super) struct Client {
    journals: Arc<Journals>,
    number: u32,
    address: SocketAddr,
}

impl Client {
    pub(super) fn new(journals: Arc<Journals>, number: u32, address: SocketAddr) -> Self {
        Self { journals, number, address }
    }

    /// Pushes until the server is gone.
    ///
    /// # Errors
    /// The server answered something else than 204, or went away before it was killed.
    pub(super) async fn push_until(self, is_over: Arc<AtomicBool>) -> Result<(), String> {
        let clock = SystemClock::new();
        let number = self.number;
        let mut random =
            Random::of(clock.now().as_millis().cast_unsigned(), &format!("client-{number}"));
        while !is_over.load(Ordering::Acquire) {
            let moments = self.next_moments(clock.now().as_millis(), &mut random);
            let outcome = self.push(&moments).await;
            match outcome {
                Ok(204) => self.acknowledge(&moments),
                Ok(_) if is_over.load(Ordering::Acquire) => return Ok(()),
                Ok(status) => return Err(format!("client {number} was answered {status}")),
                // Killed. Whether it was meant to end is seen by whoever kills it.
                Err(_) => return Ok(()),
            }
            sleep(PACE).await;
        }
        Ok(())
    }

    /// The next moments to push, none of them pushed before; written down as sent.
    fn next_moments(&self, now: i64, random: &mut Random) -> Vec<i64> {
        let mut journal = self.journals.of_client[self.number as usize].lock();
        let newest = journal.last_key_value().map_or(i64::MIN, |(at, _)| *at);
        let mut moments = vec![now.max(newest.saturating_add(1))];
        let late = now - random.below(LATE_MAX).cast_signed();
        if random.below(LATE_EVERY) == 0 && !journal.contains_key(&late) && late != moments[0] {
            moments.push(late);
        }
        journal.extend(moments.iter().map(|at| (*at, Fate::Sent)));
        moments
    }

    fn acknowledge(&self, moments: &[i64]) {
        let mut journal = self.journals.of_client[self.number as usize].lock();
        journal.extend(moments.iter().map(|at| (*at, Fate::Acknowledged)));
        let samples = moments.len() as u64 * u64::from(SETS * COLUMNS);
        self.journals.acknowledged_samples.fetch_add(samples, Ordering::Relaxed);
    }

    async fn push(&self, moments: &[i64]) -> std::io::Result<u16> {
        const HEADERS: [(&str, &str); 3] = [
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "snappy"),
            ("x-prometheus-remote-write-version", "0.1.0"),
        ];
        let request = self.request(moments).encode_to_vec();
        let body =
            snap::raw::Encoder::new().compress_vec(&request).map_err(std::io::Error::other)?;
        let answer = post(self.address, "/api/v1/write", &HEADERS, Bytes::from(body), PATIENCE);
        Ok(answer.await?.status)
    }

    fn request(&self, moments: &[i64]) -> WriteRequest {
        let label = |name: &str, value: &dyn ToString| Label {
            name: name.to_owned(),
            value: value.to_string(),
        };
        let client = self.number;
        let places = (0..SETS).flat_map(|set| (0..COLUMNS).map(move |column| (set, column)));
        let timeseries = places.map(|(set, column)| TimeSeries {
            labels: vec![
                label("__name__", &format!("m{column}")),
                label("client", &client),
                label(JOB.0, &JOB.1),
                label("set", &set),
            ],
            samples: moments
                .iter()
                .map(|at| Sample {
                    value: Some(self.journals.value(client, set, column, *at)),
                    timestamp: *at,
                })
                .collect(),
        });
        WriteRequest { timeseries: timeseries.collect() }
    }
}
