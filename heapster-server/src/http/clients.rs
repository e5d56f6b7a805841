//! [`Clients`]: what each client has of a server, so that none has all of it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The clients that are connected. One address is one client; of IPv6, the 2^64 addresses that one
/// machine may choose from.
#[derive(Debug)]
pub(super) struct Clients {
    connected: Table,
    connections_max: usize,
    requests_max: usize,
    /// Whether this machine, which has one address for all of its programs, may have everything.
    spares_loopback: bool,
}

type Table = Arc<Mutex<HashMap<IpAddr, Client>>>;

#[derive(Debug)]
struct Client {
    seats: Vec<Arc<Seat>>,
    requests: Arc<Semaphore>,
}

/// What is known of a connection.
#[derive(Debug)]
struct Seat {
    activity: Mutex<Activity>,
    /// Its place is wanted for another.
    displaced: CancellationToken,
}

#[derive(Debug)]
struct Activity {
    /// Requests whose answers are being made.
    answering: usize,
    /// Answers of which the client has not read all.
    unread: usize,
    /// When one of these changed.
    last: Instant,
}

/// A connection of a client, until it is dropped.
#[derive(Debug)]
pub(super) struct Connected {
    client: IpAddr,
    connected: Table,
    requests: Arc<Semaphore>,
    seat: Arc<Seat>,
}

/// A request, until its answer was read or is not wanted any more.
#[derive(Debug)]
pub(super) struct Running {
    seat: Arc<Seat>,
    is_answered: bool,
    _permit: OwnedSemaphorePermit,
}

impl Clients {
    pub(super) fn new(connections_max: usize, requests_max: usize, spares_loopback: bool) -> Self {
        let (connections_max, requests_max) = (connections_max.max(1), requests_max.max(1));
        Self { connected: Arc::default(), connections_max, requests_max, spares_loopback }
    }

    /// A connection for a client, unless it has enough of them.
    pub(super) fn connect(&self, address: IpAddr) -> Option<Connected> {
        let is_spared = self.spares_loopback && address.to_canonical().is_loopback();
        let requests_max = if is_spared { Semaphore::MAX_PERMITS } else { self.requests_max };
        let client = client(address);
        let mut connected = self.connected.lock();
        let own = connected.entry(client).or_insert_with(|| Client {
            seats: Vec::new(),
            requests: Arc::new(Semaphore::new(requests_max)),
        });
        if !is_spared && own.seats.len() >= self.connections_max {
            return None;
        }
        let activity = Activity { answering: 0, unread: 0, last: Instant::now() };
        let displaced = CancellationToken::new();
        let seat = Arc::new(Seat { activity: Mutex::new(activity), displaced });
        own.seats.push(Arc::clone(&seat));
        let (connected, requests) = (Arc::clone(&self.connected), Arc::clone(&own.requests));
        Some(Connected { client, connected, requests, seat })
    }

    /// Tells a connection without a request that a newcomer needs its place: of the client that has
    /// most of them, the one that was silent longest. Does nothing while one is about to leave.
    pub(super) fn displace_one_for(&self, newcomer: &Connected) {
        let connected = self.connected.lock();
        let all = || connected.values().flat_map(|client| &client.seats);
        // One that got a request meanwhile leaves later, and is not waited for.
        if all().any(|seat| seat.displaced.is_cancelled() && seat.idle_since().is_some()) {
            return;
        }
        let idle = connected.values().filter_map(|client| {
            let others = client.seats.iter().filter(|seat| !Arc::ptr_eq(seat, &newcomer.seat));
            let silent = others.filter_map(|seat| Some((seat.idle_since()?, seat)));
            let (since, seat) = silent.min_by_key(|(since, _)| *since)?;
            Some((client.seats.len(), since, seat))
        });
        let first = idle.max_by_key(|(seats, since, _)| (*seats, std::cmp::Reverse(*since)));
        if let Some((_, _, seat)) = first {
            seat.displaced.cancel();
        }
    }
}

impl Seat {
    /// Since when there is no request; `None` when there is one.
    fn idle_since(&self) -> Option<Instant> {
        let activity = self.activity.lock();
        (activity.answering + activity.unread == 0).then_some(activity.last)
    }
}

impl Connected {
    /// Leave to have a request answered, unless enough of the client's are being answered or read.
    pub(super) fn begin(&self) -> Option<Running> {
        let permit = Arc::clone(&self.requests).try_acquire_owned().ok()?;
        self.seat.activity.lock().answering += 1;
        Some(Running { seat: Arc::clone(&self.seat), is_answered: false, _permit: permit })
    }

    /// Resolves when no answer was made for a while.
    pub(super) async fn idle(&self, timeout: Duration) {
        loop {
            let end = match *self.seat.activity.lock() {
                Activity { answering: 0, last, .. } => last + timeout,
                _ => Instant::now() + timeout,
            };
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }

    /// Resolves when a newcomer needs its place.
    pub(super) async fn displaced(&self) {
        self.seat.displaced.cancelled().await;
    }

    /// Whether there is no request.
    pub(super) fn is_idle(&self) -> bool {
        self.seat.idle_since().is_some()
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut connected = self.connected.lock();
        if let Some(own) = connected.get_mut(&self.client) {
            own.seats.retain(|seat| !Arc::ptr_eq(seat, &self.seat));
            if own.seats.is_empty() {
                connected.remove(&self.client);
            }
        }
    }
}

impl Running {
    /// The answer was made, and is still to be read.
    pub(super) fn answered(&mut self) {
        let mut activity = self.seat.activity.lock();
        activity.answering -= 1;
        activity.unread += 1;
        activity.last = Instant::now();
        self.is_answered = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut activity = self.seat.activity.lock();
        if self.is_answered {
            activity.unread -= 1;
        } else {
            activity.answering -= 1;
        }
        activity.last = Instant::now();
    }
}

fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_cannot_have_what_others_need() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let clients = Clients::new(2, 1, true);
        let first = clients.connect(ip("10.0.0.1")).unwrap();
        let second = clients.connect(ip("::ffff:10.0.0.1")).unwrap();
        assert!(clients.connect(ip("10.0.0.1")).is_none());
        assert!(clients.connect(ip("10.0.0.2")).is_some());
        let request = first.begin().unwrap();
        assert!(second.begin().is_none());
        drop(request);
        assert!(second.begin().is_some());
        drop(second);
        let again = clients.connect(ip("10.0.0.1"));
        assert!(again.is_some());
        drop((first, again));
        assert!(clients.connected.lock().is_empty());

        let here: Vec<_> = (0..9).map(|_| clients.connect(ip("127.0.0.1")).unwrap()).collect();
        let requests: Vec<_> = here.iter().map(Connected::begin).collect();
        assert!(requests.iter().all(Option::is_some));
        let guarded = Clients::new(1, 1, false);
        let _first = guarded.connect(ip("::1")).unwrap();
        assert!(guarded.connect(ip("::1")).is_none());

        let _one = clients.connect(ip("fd00::1")).unwrap();
        let _two = clients.connect(ip("fd00::2")).unwrap();
        assert!(clients.connect(ip("fd00::3")).is_none());
        assert!(clients.connect(ip("fd00:0:0:1::3")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_gets_the_place_of_whoever_has_most_and_does_least() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let clients = Clients::new(9, 9, false);
        let connect = async |from: &str| {
            tokio::time::advance(Duration::from_secs(1)).await;
            clients.connect(ip(from)).unwrap()
        };
        let oldest = connect("10.0.0.1").await;
        let of_many =
            [connect("10.0.0.2").await, connect("10.0.0.2").await, connect("10.0.0.2").await];
        let newcomer = connect("10.0.0.3").await;
        let displaced = || {
            let all = [&oldest, &of_many[0], &of_many[1], &of_many[2], &newcomer];
            all.map(|one| one.seat.displaced.is_cancelled())
        };
        // The first has a request, the second one that is answered and not read.
        let mut requests = [of_many[0].begin().unwrap(), of_many[1].begin().unwrap()];
        requests[1].answered();
        clients.displace_one_for(&newcomer);
        assert_eq!(displaced(), [false, false, false, true, false]);
        clients.displace_one_for(&newcomer);
        assert_eq!(displaced(), [false, false, false, true, false], "one at a time");
        let [first, second, third] = of_many;
        drop(third);
        clients.displace_one_for(&newcomer);
        assert!(oldest.seat.displaced.is_cancelled(), "the others have requests");
        drop((oldest, requests));
        clients.displace_one_for(&newcomer);
        assert!(first.seat.displaced.is_cancelled() && !second.seat.displaced.is_cancelled());
        drop((first, second));
        clients.displace_one_for(&newcomer);
        assert!(!newcomer.seat.displaced.is_cancelled());
    }
}
