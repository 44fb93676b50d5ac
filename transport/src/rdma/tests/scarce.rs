//! What all connections share, where there is little of it: blocks to send from, and sends that the
//! device may have under way. Nobody waits for the keepalive to get any.

use super::Fake;
use crate::conformance::{Network as _, Pair, conformance};
use crate::rdma::fake::{Answer, Ends, Meddler, Passage};
use crate::{Close, CloseReason, sim};

/// Of what it is to do, the device does each sixteenth thing when it looks.
pub(super) struct Slow(pub(super) u32);

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

type Scarce = Fake<true>;

conformance!(Scarce);

/// Small messages give their blocks back when they are posted, and do not say when they are over.
#[test]
fn many_share_few_blocks() {
    let mut network = Fake::<false>::new();
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
            let mut network = Scarce::new();
            network.config.send_blocks = send_blocks;
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
