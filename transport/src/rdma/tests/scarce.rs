//! What all connections share, where there is little of it: blocks to send from, and sends that the
//! device may have under way. Nobody waits for the keepalive to get any.

use std::net::SocketAddr;
use std::time::Instant;

use super::Fake;
use crate::conformance::{Network, Pair, Side, conformance};
use crate::rdma::Rdma;
use crate::rdma::fake::{Answer, Ends, Meddler, Passage};
use crate::{Close, CloseReason, sim};

/// Of what it is to do, the device does each sixteenth thing when it looks.
struct Slow(u32);

impl Meddler for Slow {
    fn connects(&mut self, _: Ends) -> Answer {
        Answer::Arrives
    }

    fn passes(&mut self, _: Ends, _: sim::Side) -> Passage {
        self.0 += 1;
        if self.0.is_multiple_of(16) {
            Passage::Arrives
        } else {
            Passage::Waits
        }
    }
}

/// A device that has little and takes its time.
struct Scarce(Fake);

impl Network for Scarce {
    type Transport = Rdma;

    fn new() -> Self {
        let mut network = Fake::new();
        network.config.send_blocks = 2;
        network.device.meddle(Slow(0));
        Self(network)
    }

    fn transport(&mut self, side: Side) -> Rdma {
        self.0.transport(side)
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

conformance!(Scarce);

/// Small messages give their blocks back when they are posted, and do not say when they are over.
#[test]
fn many_share_few_blocks() {
    let mut network = Fake::new();
    network.config.send_blocks = 1;
    let mut pair = Pair::with(network);
    let address = pair.listen();
    let ends: Vec<_> = (0..10).map(|_| pair.connect(address)).collect();
    for &(client, _) in &ends {
        pair.client.give(client, &b"me too"[..]);
    }
    pair.run_until("received from all", |pair| {
        let mut ends = ends.iter();
        ends.all(|&(_, server)| pair.server.received(server) == 6)
    });
}

/// All sends that the device may have under way are those of others now and then.
#[test]
fn many_share_few_sends() {
    for (send_blocks, back) in [(1, true), (1, false), (20, true), (20, false)] {
        for size in [100, 20_000, 300_000] {
            let mut network = Fake::new();
            network.config.send_blocks = send_blocks;
            network.device.meddle(Slow(0));
            let mut pair = Pair::with(network);
            let address = pair.listen();
            let ends: Vec<_> = (0..40).map(|_| pair.connect(address)).collect();
            for &(client, server) in &ends {
                for _ in 0..20 {
                    pair.client.give(client, vec![1; size]);
                    pair.server
                        .give(server, vec![2; if back { size } else { 0 }]);
                }
            }
            pair.run_until("all but sent", |pair| {
                ends.iter().all(|&(client, server)| {
                    drop((pair.client.slices(client), pair.server.slices(server)));
                    let back = !back || pair.client.received(client) == 20 * size;
                    back && pair.client.untaken(client) == 0
                })
            });
            for &(client, _) in &ends {
                pair.client.close(client, Close::Drain);
            }
            for &(_, server) in &ends {
                pair.run_until("closed", |pair| pair.server.closed(server).is_some());
                assert_eq!(pair.server.closed(server), Some(CloseReason::PeerClosed));
                assert_eq!(pair.server.received(server), 20 * size);
            }
        }
    }
}
