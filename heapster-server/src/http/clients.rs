//! [`Clients`]: what each client has of a server, so that none has all of it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The clients that are connected. One address is one client; of IPv6, the 2^64 addresses that one
/// machine may choose from.
#[derive(Debug)]
pub(super) struct Clients {
    connected: Arc<Mutex<HashMap<IpAddr, Client>>>,
    connections_max: usize,
    requests_max: usize,
    /// Whether this machine, which has one address for all of its programs, may have everything.
    spares_loopback: bool,
}

#[derive(Debug)]
struct Client {
    connections: usize,
    requests: Arc<Semaphore>,
}

/// A connection of a client, until it is dropped.
#[derive(Debug)]
pub(super) struct Connected {
    client: IpAddr,
    connected: Arc<Mutex<HashMap<IpAddr, Client>>>,
    requests: Arc<Semaphore>,
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
            connections: 0,
            requests: Arc::new(Semaphore::new(requests_max)),
        });
        if !is_spared && own.connections >= self.connections_max {
            return None;
        }
        own.connections += 1;
        let (connected, requests) = (Arc::clone(&self.connected), Arc::clone(&own.requests));
        Some(Connected { client, connected, requests })
    }
}

impl Connected {
    /// Leave to have a request answered, unless enough of the client's are being answered.
    pub(super) fn request(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.requests).try_acquire_owned().ok()
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut connected = self.connected.lock();
        if let Some(own) = connected.get_mut(&self.client) {
            own.connections -= 1;
            if own.connections == 0 {
                connected.remove(&self.client);
            }
        }
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
        let request = first.request().unwrap();
        assert!(second.request().is_none());
        drop(request);
        assert!(second.request().is_some());
        drop(second);
        let again = clients.connect(ip("10.0.0.1"));
        assert!(again.is_some());
        drop((first, again));
        assert!(clients.connected.lock().is_empty());

        let here: Vec<_> = (0..9).map(|_| clients.connect(ip("127.0.0.1")).unwrap()).collect();
        let requests: Vec<_> = here.iter().map(Connected::request).collect();
        assert!(requests.iter().all(Option::is_some));
        let guarded = Clients::new(1, 1, false);
        let _first = guarded.connect(ip("::1")).unwrap();
        assert!(guarded.connect(ip("::1")).is_none());

        let _one = clients.connect(ip("fd00::1")).unwrap();
        let _two = clients.connect(ip("fd00::2")).unwrap();
        assert!(clients.connect(ip("fd00::3")).is_none());
        assert!(clients.connect(ip("fd00:0:0:1::3")).is_some());
    }
}
