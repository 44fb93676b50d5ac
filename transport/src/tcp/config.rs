//! [`TcpConfig`]: the addresses of an endpoint, and the numbers that its connections live by.

use std::net::IpAddr;
use std::time::Duration;

/// How userspace TCP endpoints are set up.
#[derive(Debug, Clone)]
pub struct TcpConfig {
    /// Our own addresses, each with the length of its network's prefix in bits. At most 8, with
    /// the link-local one that comes by itself.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where to send what is not for our own networks, by address family.
    pub gateways: Vec<IpAddr>,
    /// The most bytes on the way in each direction of a connection, and so the receive window. A
    /// connection that is at rest holds none of it.
    pub window: usize,
    /// How long to wait for another segment before an acknowledgement goes out by itself.
    pub ack_delay: Duration,
    /// How often to probe a connection that is at rest.
    pub keep_alive: Duration,
    /// How long a peer may not be heard of, although it must answer, before it is given up.
    pub timeout: Duration,
    /// The most connections of one listener that are not established yet; more are not answered.
    pub half_open: usize,
    /// What the sequence numbers are made from.
    pub seed: u64,
}

impl TcpConfig {
    /// With one address, and the rest as a data centre wants it.
    pub fn new(address: IpAddr, prefix_len: u8) -> Self {
        Self {
            addresses: vec![(address, prefix_len)],
            gateways: Vec::new(),
            window: 512 << 10,
            ack_delay: Duration::from_millis(2),
            keep_alive: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            half_open: 512,
            seed: fastrand::u64(..),
        }
    }
}
