//! RDMA queue pairs: the contract of every transport, also if they are set up as Ceph does; as far as
//! opening goes, also with sockets beside them.
//!
//! Needs an RDMA device and two addresses of it of each family, separated by spaces in `RDMA_ADDRS`
//! and `RDMA_ADDRS_V6`; if unset, those that `ci/rdma-guest` has.

mod conformance;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use conformance::{Clock, Network, Side, conformance};
use msgr_transport::middleware::Fallback;
use msgr_transport::posix::Posix;
use msgr_transport::rdma::{Rdma, RdmaConfig, Setup};
use msgr_transport::{CloseReason, ConnectOptions, Event, ListenOptions, Transport as _};

struct Device {
    addresses: Vec<IpAddr>,
    addresses_v6: Vec<IpAddr>,
    clock: Clock,
}

/// Little memory: many tests run at once, in a small guest.
fn config() -> RdmaConfig {
    RdmaConfig {
        receive_blocks: 512,
        spare_blocks: 64,
        send_blocks: 128,
        landing_size: 256 << 10,
        landing_blocks: 4,
        // Nothing may wait for it.
        keepalive: Duration::from_secs(60),
        ..RdmaConfig::default()
    }
}

fn addresses(variable: &str, otherwise: &str) -> Vec<IpAddr> {
    let list = std::env::var(variable).unwrap_or(otherwise.into());
    let parsed = list.split_whitespace().map(str::parse);
    parsed
        .collect::<Result<_, _>>()
        .expect("addresses separated by spaces")
}

fn of(addresses: &[IpAddr], side: Side) -> Option<SocketAddr> {
    let index = match side {
        Side::Client => 0,
        Side::Server => 1,
    };
    addresses.get(index).map(|&ip| SocketAddr::new(ip, 0))
}

impl Network for Device {
    type Transport = Rdma;

    fn new() -> Self {
        Self {
            addresses: addresses("RDMA_ADDRS", "10.9.0.1 10.9.0.2"),
            addresses_v6: addresses("RDMA_ADDRS_V6", "fd00:9::1 fd00:9::2"),
            clock: Clock::new(),
        }
    }

    fn transport(&mut self, _side: Side) -> Rdma {
        Rdma::new(config()).expect("there is an RDMA device")
    }

    fn address(&self, side: Side) -> SocketAddr {
        of(&self.addresses, side).expect("RDMA_ADDRS has two addresses")
    }

    fn address_v6(&self, side: Side) -> Option<SocketAddr> {
        of(&self.addresses_v6, side)
    }

    fn tick(&mut self) -> Instant {
        // The device is another thread of this kernel, and has to have its turn.
        thread::sleep(Duration::from_micros(100));
        self.clock.tick()
    }
}

/// With sockets for whoever has no such device.
struct Auto(Device);

impl Network for Auto {
    type Transport = Fallback<Rdma, Posix>;

    fn new() -> Self {
        Self(Device::new())
    }

    fn transport(&mut self, side: Side) -> Self::Transport {
        let sockets = Posix::new().expect("an epoll descriptor");
        Fallback::new(self.0.transport(side), sockets).expect("another")
    }

    fn address(&self, side: Side) -> SocketAddr {
        self.0.address(side)
    }

    fn address_v6(&self, side: Side) -> Option<SocketAddr> {
        self.0.address_v6(side)
    }

    fn tick(&mut self) -> Instant {
        self.0.tick()
    }
}

mod with_sockets {
    use super::*;
    conformance! { Auto, ignore = "needs an RDMA device";
        opening:
            listening_tells_the_real_port
            both_ends_agree_on_their_addresses
            ipv6_works_like_ipv4
            nobody_there_is_refused
            unlistening_keeps_what_was_accepted;
        ports:
            a_port_is_taken_once
            a_connection_originates_from_where_it_is_told
            a_connection_originates_from_the_port_listened_on
            one_port_reaches_many_peers
            two_addresses_name_one_connection
            attempts_that_cross_make_one_connection
            a_port_does_not_reach_itself;
    }
}

conformance!(Device, ignore = "needs an RDMA device");

/// Set up as Ceph does.
struct Ceph(Device);

impl Network for Ceph {
    type Transport = Rdma;

    fn new() -> Self {
        Self(Device::new())
    }

    fn transport(&mut self, _side: Side) -> Rdma {
        let config = RdmaConfig {
            setup: Setup::Ceph,
            ..config()
        };
        Rdma::new(config).expect("there is an RDMA device")
    }

    fn address(&self, side: Side) -> SocketAddr {
        self.0.address(side)
    }

    fn address_v6(&self, side: Side) -> Option<SocketAddr> {
        self.0.address_v6(side)
    }

    fn tick(&mut self) -> Instant {
        self.0.tick()
    }
}

mod set_up_as_ceph_does {
    use super::*;
    conformance!(Ceph, ignore = "needs an RDMA device");
}

/// The other device of `ci/rdma-guest`'s newer kernel. A send with immediate data never completes there.
mod iwarp {
    use super::*;

    #[test]
    #[ignore = "needs a device of iWARP"]
    fn what_it_lacks_is_told_at_once() {
        let mut rdma = Rdma::new(config()).expect("there is an RDMA device");
        let [ours, theirs] = ["10.9.1.1:0", "10.9.1.2:6800"].map(|at| at.parse().expect("one"));
        let refused = rdma.listen(ours, &ListenOptions::default());
        let error = refused.expect_err("it cannot listen");
        let why =
            "rdma: cannot listen at 10.9.1.1:0: siw0 is of iWARP, which has no immediate data";
        assert_eq!(error.to_string(), why);
        assert_eq!(error.source.kind(), ErrorKind::Unsupported);

        let conn = rdma.connect(theirs, &ConnectOptions::default());
        let conn = conn.expect("it starts");
        let mut events = Vec::new();
        while events.is_empty() {
            rdma.poll(Instant::now(), &mut events);
        }
        let unsupported = CloseReason::Os(rustix::io::Errno::OPNOTSUPP.raw_os_error());
        assert!(
            matches!(&events[..], [Event::Closed { conn: of, reason }] if *of == conn && *reason == unsupported),
            "{events:?}"
        );
    }
}
