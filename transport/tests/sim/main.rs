//! The simulated network: the contract of every transport however the bytes are chopped, the
//! faults, and that nothing but the seed and the calls decides what happens.

#[path = "../conformance/mod.rs"]
mod conformance;

mod chaos;
mod faults;
mod pair;
mod ports;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use conformance::{Network, conformance};
use msgr_transport::sim::{Chop, Latency, Sim, SimConfig, SimNetwork};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));

/// Two processes of one host, whose time passes in steps of 20 us.
struct Simulated {
    network: SimNetwork,
    ip: IpAddr,
    now: Instant,
}

impl Simulated {
    fn with(ip: IpAddr, config: SimConfig) -> Self {
        Self {
            network: SimNetwork::new(7, config),
            ip,
            now: Instant::now(),
        }
    }
}

/// A network for the conformance suite: where its hosts are, and what it is like.
macro_rules! network {
    ($name:ident, $ip:expr, $config:expr) => {
        struct $name(Simulated);

        impl Network for $name {
            type Transport = Sim;

            fn new() -> Self {
                Self(Simulated::with($ip, $config))
            }

            fn transport(&mut self, _side: conformance::Side) -> Sim {
                self.0.network.node(self.0.ip)
            }

            fn address(&self, _side: conformance::Side) -> SocketAddr {
                SocketAddr::new(self.0.ip, 0)
            }

            fn address_v6(&self, side: conformance::Side) -> Option<SocketAddr> {
                self.0.ip.is_ipv6().then(|| self.address(side))
            }

            fn tick(&mut self) -> Instant {
                self.0.now += Duration::from_micros(20);
                self.0.now
            }
        }
    };
}

mod plain {
    use super::*;
    network!(Plain, V6, SimConfig::default());
    conformance!(Plain);
}

mod chopped {
    use super::*;
    network!(
        Chopped,
        V4,
        SimConfig {
            chop: Chop::Random(100),
            window: 10_000,
            latency: Latency {
                slow_one_in: 10,
                slow: Duration::from_millis(1),
                ..Latency::fixed(Duration::from_micros(1))
            },
            ..SimConfig::default()
        }
    );
    conformance!(Chopped);
}
