//! Who is connected: limits by address and by certificate, and the means to cut a connection whose
//! certificate or registration has ended.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use super::Counters;
use crate::config::Listen;
use crate::types::{CertificatePin, Holder};

/// Why a connection is closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many are open as may be.
    Full,
    /// As many are open from this address as may be.
    Address,
    /// As many are open with this certificate as may be.
    Certificate,
}

impl Refused {
    /// The rule, for the log.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Full => "connections-full",
            Self::Address => "connections-of-address",
            Self::Certificate => "connections-of-certificate",
        }
    }
}

/// The connections of a node.
///
/// A connection is half open until its handshake is done. When there is no room for a new one, the
/// oldest half-open one gives way: an honest handshake takes milliseconds, so what is oldest is a
/// peer that stalls.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    most_half_open: usize,
    per_address: usize,
    per_certificate: usize,
    per_institution: usize,
    counters: Arc<Counters>,
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    next: u64,
    half_open: BTreeMap<u64, CancellationToken>,
    live: HashMap<u64, Entry>,
    addresses: HashMap<IpAddr, usize>,
    certificates: HashMap<CertificatePin, usize>,
    holders: HashMap<Holder, usize>,
}

#[derive(Debug)]
struct Entry {
    seen: Arc<Seen>,
    registered: bool,
    cut: CancellationToken,
}

/// What the peer of a connection showed.
#[derive(Debug)]
pub struct Seen {
    /// The fingerprint of its key.
    pub pin: CertificatePin,
    /// Whose it was when the connection began.
    pub holder: Holder,
    /// Its certificate and what came with it.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// A connection whose handshake is not done.
#[derive(Debug)]
pub struct HalfOpen {
    connections: Arc<Connections>,
    number: u64,
    address: IpAddr,
    /// Says that the connection must give way.
    pub evicted: CancellationToken,
    done: bool,
}

/// A connection with a judged certificate.
#[derive(Debug)]
pub struct Live {
    connections: Arc<Connections>,
    number: u64,
    address: IpAddr,
    pin: CertificatePin,
    holder: Holder,
    /// Says that the connection must be closed now.
    pub cut: CancellationToken,
}

/// An IPv6 customer has a /64 at least, so that is what is counted.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(four) => IpAddr::V4(four),
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

fn one_less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Connections {
    /// No connections, within these limits.
    pub fn new(limits: &Listen, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            most: limits.max_connections,
            most_half_open: limits.max_half_open,
            per_address: limits.max_connections_per_address,
            per_certificate: limits.max_connections_per_certificate,
            per_institution: limits.max_connections_per_institution,
            counters,
            registry: Mutex::default(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection from `address`.
    ///
    /// # Errors
    /// [`Refused::Address`]; [`Refused::Full`] if nothing half open can give way.
    pub fn open(self: &Arc<Self>, address: IpAddr) -> Result<HalfOpen, Refused> {
        let address = counted(address);
        let mut registry = self.lock();
        let own = registry.addresses.get(&address).copied().unwrap_or(0);
        if own >= self.per_address {
            self.counters.refused_address.add();
            return Err(Refused::Address);
        }
        let half_open = registry.half_open.len();
        let full = half_open + registry.live.len() >= self.most;
        if full || half_open >= self.most_half_open {
            let Some((_, oldest)) = registry.half_open.pop_first() else {
                self.counters.refused_full.add();
                return Err(Refused::Full);
            };
            oldest.cancel();
            self.counters.evicted_half_open.add();
        }
        let number = registry.next;
        registry.next += 1;
        let evicted = CancellationToken::new();
        registry.half_open.insert(number, evicted.clone());
        *registry.addresses.entry(address).or_insert(0) += 1;
        drop(registry);
        Ok(HalfOpen {
            connections: Arc::clone(self),
            number,
            address,
            evicted,
            done: false,
        })
    }

    /// Closes every live connection for which `ended` gives a reason; `ended` is told what the peer
    /// showed and whether it was registered when last looked at, and says whether it is now. Gives
    /// how many were closed.
    pub fn rejudge(&self, ended: impl Fn(&Seen, bool) -> Result<bool, &'static str>) -> usize {
        let entries: Vec<(u64, Arc<Seen>, bool, CancellationToken)> = {
            let registry = self.lock();
            let live = registry.live.iter();
            live.map(|(number, entry)| {
                let seen = Arc::clone(&entry.seen);
                (*number, seen, entry.registered, entry.cut.clone())
            })
            .collect()
        };
        let mut closed = 0;
        for (number, seen, registered, cut) in entries {
            match ended(&seen, registered) {
                Ok(now) if now == registered => {}
                Ok(now) => {
                    if let Some(entry) = self.lock().live.get_mut(&number) {
                        entry.registered = now;
                    }
                }
                Err(rule) => {
                    if !cut.is_cancelled() {
                        tracing::warn!(rule, pin = %seen.pin, "a connection is cut");
                        self.counters.cut.add();
                        closed += 1;
                    }
                    cut.cancel();
                }
            }
        }
        closed
    }

    /// The live connections for which `is` holds, by number, each with the token that cuts it.
    pub fn select(&self, is: impl Fn(&Seen) -> bool) -> BTreeMap<u64, CancellationToken> {
        let live: Vec<_> = {
            let registry = self.lock();
            let live = registry.live.iter();
            live.map(|(number, entry)| (*number, Arc::clone(&entry.seen), entry.cut.clone()))
                .collect()
        };
        live.into_iter()
            .filter(|(_, seen, _)| is(seen))
            .map(|(number, _, cut)| (number, cut))
            .collect()
    }

    /// Connections open, half-open ones among them.
    pub fn len(&self) -> usize {
        let registry = self.lock();
        registry.half_open.len() + registry.live.len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl HalfOpen {
    /// The handshake is done: the peer showed this, and is registered or not.
    ///
    /// # Errors
    /// [`Refused::Certificate`].
    pub fn established(mut self, seen: Seen, registered: bool) -> Result<Live, Refused> {
        let connections = Arc::clone(&self.connections);
        let mut registry = connections.lock();
        let (pin, holder) = (seen.pin, seen.holder.clone());
        let own = registry.certificates.get(&pin).copied().unwrap_or(0);
        let all = registry.holders.get(&holder).copied().unwrap_or(0);
        if own >= connections.per_certificate || all >= connections.per_institution {
            drop(registry);
            connections.counters.refused_certificate.add();
            return Err(Refused::Certificate);
        }
        registry.half_open.remove(&self.number);
        *registry.certificates.entry(pin).or_insert(0) += 1;
        *registry.holders.entry(holder.clone()).or_insert(0) += 1;
        let cut = CancellationToken::new();
        let entry = Entry {
            seen: Arc::new(seen),
            registered,
            cut: cut.clone(),
        };
        registry.live.insert(self.number, entry);
        drop(registry);
        self.done = true;
        Ok(Live {
            connections,
            number: self.number,
            address: self.address,
            pin,
            holder,
            cut,
        })
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut registry = self.connections.lock();
        registry.half_open.remove(&self.number);
        one_less(&mut registry.addresses, &self.address);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut registry = self.connections.lock();
        registry.live.remove(&self.number);
        one_less(&mut registry.addresses, &self.address);
        one_less(&mut registry.certificates, &self.pin);
        one_less(&mut registry.holders, &self.holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(most: usize, half_open: usize, address: usize) -> Arc<Connections> {
        let limits = Listen {
            max_connections: most,
            max_half_open: half_open,
            max_connections_per_address: address,
            max_connections_per_certificate: 2,
            max_connections_per_institution: 3,
            ..Listen::default()
        };
        Connections::new(&limits, Arc::new(Counters::default()))
    }

    fn seen(number: u8) -> Seen {
        let pin = CertificatePin::from_bytes([number; 32]);
        Seen {
            pin,
            holder: Holder::Certificate(pin),
            chain: Arc::default(),
        }
    }

    fn at(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Bars: T-35 (who stalls gives way).
    #[test]
    fn the_oldest_half_open_connection_gives_way() {
        let connections = connections(3, 2, 10);
        let first = connections.open(at(1)).unwrap();
        let second = connections.open(at(1)).unwrap();
        let third = connections.open(at(2)).unwrap();
        assert!(first.evicted.is_cancelled() && !second.evicted.is_cancelled());
        drop(first);
        let _live = third.established(seen(1), true).unwrap();
        let _live2 = connections.open(at(3)).unwrap().established(seen(2), true);
        let _live3 = connections.open(at(3)).unwrap().established(seen(3), true);
        assert!(second.evicted.is_cancelled(), "all three places are taken");
        drop(second);
        let full = connections.open(at(4)).unwrap_err();
        assert_eq!((full, connections.len()), (Refused::Full, 3));
    }

    /// Bars: N-14.
    #[test]
    fn addresses_and_certificates_have_quotas() {
        let connections = connections(100, 100, 3);
        let mut open = Vec::new();
        for _ in 0..2 {
            let half = connections.open(at(1)).unwrap();
            open.push(half.established(seen(1), true).unwrap());
        }
        let third = connections.open(at(1)).unwrap();
        let refused = third.established(seen(1), true).unwrap_err();
        assert_eq!(refused, Refused::Certificate);
        let half = connections.open(at(1)).unwrap();
        assert_eq!(connections.open(at(1)).unwrap_err(), Refused::Address);
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(connections.open(mapped).unwrap_err(), Refused::Address);
        drop(half);
        open.clear();
        assert!(connections.is_empty());
        assert!(connections.lock().addresses.is_empty());
        assert!(connections.lock().certificates.is_empty());
    }

    /// Bars: N-14.
    #[test]
    fn an_institution_has_a_quota_whatever_certificates_it_shows() {
        let connections = connections(100, 100, 100);
        let of = |number, code: &str| {
            let seen = Seen {
                holder: Holder::Institution(code.parse().unwrap()),
                ..seen(number)
            };
            connections.open(at(1)).unwrap().established(seen, true)
        };
        let open: Vec<Live> = (1..4)
            .map(|number| of(number, "1310000001").unwrap())
            .collect();
        assert_eq!(of(4, "1310000001").unwrap_err(), Refused::Certificate);
        assert!(of(4, "1310000002").is_ok());
        drop(open);
        assert!(connections.lock().holders.is_empty());
        assert!(of(4, "1310000001").is_ok());
    }

    /// Bars: T-29.
    #[test]
    fn only_those_whose_certificate_ended_are_cut() {
        let connections = connections(100, 100, 100);
        let live = |number| {
            let half = connections.open(at(number)).unwrap();
            half.established(seen(number), number != 3).unwrap()
        };
        let (one, two, three) = (live(1), live(2), live(3));
        let is = |seen: &Seen, number: u8| seen.pin.as_bytes()[0] == number;
        let ended = |seen: &Seen, registered: bool| match registered {
            true if is(seen, 1) => Err("suspended"),
            was => Ok(was || is(seen, 3)),
        };
        assert_eq!(connections.rejudge(ended), 1);
        assert_eq!(connections.rejudge(ended), 0, "each is cut once");
        assert!(one.cut.is_cancelled() && !two.cut.is_cancelled());
        // The third was registered meanwhile, so now its registration can end.
        assert_eq!(
            connections.rejudge(|_, registered| match registered {
                true => Err("suspended"),
                false => Ok(false),
            }),
            2
        );
        assert!(three.cut.is_cancelled());
    }
}
