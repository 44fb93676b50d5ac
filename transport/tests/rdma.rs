//! RDMA queue pairs: the contract of every transport.
//!
//! Needs an RDMA device and two addresses of it of each family, separated by spaces in `RDMA_ADDRS`
//! and `RDMA_ADDRS_V6`; if unset, those that `ci/rdma-guest` has.

mod conformance;

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use conformance::{Network, Side, conformance};
use msgr_transport::rdma::{Rdma, RdmaConfig};

struct Device {
    addresses: Vec<IpAddr>,
    addresses_v6: Vec<IpAddr>,
}

/// Little memory: many tests run at once, in a small guest.
fn config() -> RdmaConfig {
    RdmaConfig {
        receive_blocks: 512,
        spare_blocks: 64,
        send_blocks: 128,
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
        Instant::now()
    }
}

conformance!(each end a host, Device, ignore = "needs an RDMA device");
