//! [`Admission`]: who may begin a handshake with us. What a peer may say in it is the protocol's
//! business, how long it may take is a timer's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::settings::Handshakes;

/// Sources that are remembered, as long as nothing is known of them that could matter.
const FORGET_FROM: usize = 1024;

/// Keeps count of connections that peers have opened and that are not ready yet.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Handshakes,
    all: Arc<()>,
    sources: HashMap<IpAddr, Source>,
}

#[derive(Debug)]
struct Source {
    open: Arc<()>,
    /// When all of its connections up to now were due, had they come at the permitted rate.
    due: Instant,
}

/// A handshake that goes on as long as this lives.
#[derive(Debug)]
pub(super) struct HalfOpen {
    _counted: [Arc<()>; 2],
}

impl Admission {
    pub(super) fn new(limits: Handshakes) -> Self {
        Self {
            limits,
            all: Arc::default(),
            sources: HashMap::new(),
        }
    }

    /// Lets a peer begin; `None` if it, or everybody together, has begun too much.
    pub(super) fn enter(&mut self, from: IpAddr, now: Instant) -> Option<HalfOpen> {
        if self.sources.len() >= FORGET_FROM {
            self.sources
                .retain(|_, source| source.due > now || count(&source.open) > 0);
        }
        let limits = self.limits;
        let source = self.sources.entry(network(from)).or_insert(Source {
            open: Arc::default(),
            due: now,
        });
        let ahead = source.due.saturating_duration_since(now);
        if count(&self.all) >= limits.open
            || count(&source.open) >= limits.open_per_source
            || ahead > limits.burst()
        {
            return None;
        }
        source.due = source.due.max(now) + limits.interval;
        Some(HalfOpen {
            _counted: [Arc::clone(&self.all), Arc::clone(&source.open)],
        })
    }
}

fn count(counted: &Arc<()>) -> usize {
    Arc::strong_count(counted) - 1
}

impl Handshakes {
    /// How far ahead of the permitted rate a source may be.
    fn burst(&self) -> Duration {
        self.interval.saturating_mul(self.burst.saturating_sub(1))
    }
}

/// Whom an address stands for: of IPv6, one host commonly has a whole /64 (RFC 4291, section 2.5.4).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & (u128::MAX << 64);
            Ipv6Addr::from_bits(prefix).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Handshakes {
        Handshakes {
            open: 5,
            open_per_source: 3,
            interval: Duration::from_millis(100),
            burst: 4,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn handshakes_at_once() {
        let (mut admission, now) = (Admission::new(limits()), Instant::now());
        let mut enter = |from: &str| admission.enter(ip(from), now);
        let first: Vec<_> = (0..4).map_while(|_| enter("10.0.0.1")).collect();
        assert_eq!(first.len(), 3, "one source");
        let _others: Vec<_> = (0..4).map_while(|_| enter("10.0.0.2")).collect();
        assert!(enter("10.0.0.3").is_none(), "all together");
        drop(first);
        assert!(enter("10.0.0.3").is_some());
    }

    #[test]
    fn a_source_that_comes_too_often() {
        let (mut admission, start) = (Admission::new(limits()), Instant::now());
        let mut at = |ms, from: &str| {
            let now = start + Duration::from_millis(ms);
            admission.enter(ip(from), now).is_some()
        };
        let burst = (0..5).filter(|_| at(0, "10.0.0.1")).count();
        assert_eq!(burst, 4);
        assert!(!at(99, "10.0.0.1") && at(99, "10.0.0.2"));
        assert!(at(100, "10.0.0.1") && !at(100, "10.0.0.1"));
        let later = (0..5).filter(|_| at(10_000, "10.0.0.1")).count();
        assert_eq!(later, 4, "rest earns a burst, and no more");
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let (mut admission, now) = (Admission::new(limits()), Instant::now());
        let mut open = Vec::new();
        let mut enter = |from: &str| {
            open.extend(admission.enter(ip(from), now));
            open.len()
        };
        enter("2001:db8::1");
        enter("2001:db8::2:0:0:1");
        assert_eq!(enter("2001:db8::ffff:0:0:1"), 3);
        assert_eq!(enter("2001:db8::4"), 3);
        assert_eq!(enter("2001:db8:0:1::4"), 4);
        // The same host as on IPv4.
        enter("::ffff:10.0.0.1");
        assert_eq!(enter("10.0.0.2"), 5);
    }

    #[test]
    fn sources_are_forgotten() {
        let (mut admission, mut now) = (Admission::new(limits()), Instant::now());
        for n in 0..10_000_u32 {
            now += Duration::from_millis(1);
            let from = IpAddr::from(n.to_be_bytes());
            drop(admission.enter(from, now));
        }
        assert!(admission.sources.len() <= FORGET_FROM);
    }
}
