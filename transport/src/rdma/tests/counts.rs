//! What messages cost, in what is asked of the device.

use bytes::Bytes;

use super::{CONFIG, Fake};
use crate::Transport;
use crate::conformance::Pair;
use crate::rdma::Counts;

const ROUNDS: u64 = 1000;

/// Sends so many bytes there and back, [`ROUNDS`] times: both ends' counts, and the bytes copied.
fn there_and_back(len: usize) -> ([Counts; 2], u64) {
    let (mut pair, client, server) = Pair::<Fake>::connected();
    let bytes = Bytes::from(vec![7; len]);
    for round in 0..ROUNDS as usize {
        pair.client.give(client, bytes.clone());
        pair.run_until("there", |pair| {
            pair.server.received(server) == (round + 1) * len
        });
        for slice in pair.server.slices(server) {
            pair.server.give(server, slice);
        }
        pair.run_until("back", |pair| {
            pair.client.received(client) == (round + 1) * len
        });
        drop(pair.client.slices(client));
    }
    let ends = [&pair.client, &pair.server];
    let copied = ends.map(|end| end.transport.cost().bytes_copied);
    (ends.map(|end| end.transport.counts()), copied.iter().sum())
}

/// So many each message, in the long run.
fn each(count: u64) -> f64 {
    count as f64 / ROUNDS as f64
}

#[test]
fn a_small_message_is_one_send_and_one_receive() {
    let (ends, copied) = there_and_back(64);
    for counts in ends {
        println!("{counts:?}");
        assert!(each(counts.sends) <= 1.01, "{counts:?}");
        assert!(each(counts.signalled) <= 1.0 / 15.0, "{counts:?}");
        // The receives posted in the beginning, and one for each message.
        let receives = counts.receives - CONFIG.receive_blocks as u64;
        assert!(each(receives) <= 1.01, "{counts:?}");
        assert!(each(counts.doorbells) <= 2.02, "{counts:?}");
        assert!(each(counts.completions) <= 1.1, "{counts:?}");
        assert_eq!(counts.events, 0, "nobody slept");
    }
    // Into the work request, and out of the block, at each end.
    assert_eq!(copied, 4 * 64 * ROUNDS);
}

#[test]
fn a_large_one_is_an_offer_and_a_read() {
    let (ends, copied) = there_and_back(CONFIG.landing_size);
    for counts in ends {
        println!("{counts:?}");
        // Its own offer, the read of the other's, and that it was read.
        assert!(each(counts.sends) <= 3.01, "{counts:?}");
        assert!(each(counts.completions) <= 4.01, "{counts:?}");
    }
    assert_eq!(copied, 0);
}
