//! A thousand RDMA connections in one process, and what they take of memory. In a process of its own,
//! since that is the kernel's count. Needs the device of a guest of `ci/rdma-guest`.

#[allow(dead_code, unused_imports, unused_macros)]
mod conformance;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use conformance::{Clock, Network, Pair, Side};
use msgr_transport::rdma::{Rdma, RdmaConfig};

const CONNECTIONS: usize = 1000;
/// What each end of a connection may take besides what is registered, in bytes: for the most part the
/// device's queue for work requests.
const EACH: usize = 96 << 10;

struct Device(Clock);

fn config() -> RdmaConfig {
    RdmaConfig {
        block_size: 4 << 10,
        // Four for each connection, and none to spare.
        receive_blocks: 4 * CONNECTIONS,
        spare_blocks: 64,
        send_blocks: 256,
        landing_size: 256 << 10,
        landing_blocks: 4,
        // So many probes at once would keep a slow device busy for long.
        keepalive: Duration::from_secs(60),
        ..RdmaConfig::default()
    }
}

impl Network for Device {
    type Transport = Rdma;

    fn new() -> Self {
        Self(Clock::new())
    }

    fn transport(&mut self, _: Side) -> Rdma {
        Rdma::new(config()).expect("there is an RDMA device")
    }

    fn address(&self, side: Side) -> SocketAddr {
        let host = match side {
            Side::Client => 1,
            Side::Server => 2,
        };
        SocketAddr::from(([10, 9, 0, host], 0))
    }

    fn address_v6(&self, _: Side) -> Option<SocketAddr> {
        None
    }

    fn tick(&mut self) -> Instant {
        std::thread::sleep(Duration::from_micros(100));
        self.0.tick()
    }
}

/// Of this process, in bytes, see `proc_pid_status(5)`.
fn memory(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.expect("a number of KiB") << 10
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_thousand_connections_share_their_receives() {
    let before = ["VmRSS", "VmPin"].map(memory);
    let mut pair = Pair::<Device>::new();
    let address = pair.listen();
    let ends: Vec<_> = (0..CONNECTIONS).map(|_| pair.connect(address)).collect();
    for (number, (client, server)) in ends.iter().enumerate() {
        pair.client
            .give(*client, format!("{number:04}").into_bytes());
        pair.server
            .give(*server, format!("{number:04}").into_bytes());
    }
    pair.run_until("received by all", |pair| {
        let mut ends = ends.iter();
        ends.all(|(client, server)| {
            (pair.client.received(*client), pair.server.received(*server)) == (4, 4)
        })
    });
    for (number, (client, server)) in ends.iter().enumerate() {
        let expected = format!("{number:04}").into_bytes();
        assert_eq!(pair.client.bytes(*client), expected);
        assert_eq!(pair.server.bytes(*server), expected);
    }
    let [resident, pinned] = ["VmRSS", "VmPin"].map(memory);
    let (resident, pinned) = (resident - before[0], pinned - before[1]);
    let registered = 2 * config().registered_bytes();
    let each = resident.saturating_sub(registered) / (2 * CONNECTIONS);
    println!(
        "{CONNECTIONS} connections, both ends: {} MiB resident, {} MiB pinned, {} MiB of it registered; \
         {each} bytes for each end besides",
        resident >> 20,
        pinned >> 20,
        registered >> 20
    );
    assert!(pinned <= registered, "{pinned} > {registered}");
    assert!(each <= EACH, "{each} > {EACH}");
}
