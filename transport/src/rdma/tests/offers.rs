//! Large data, which the peer reads where it is: what is copied, what is held, and what goes wrong.

use bytes::Bytes;

use super::{CONFIG, Fake, Fault, closed};
use crate::conformance::Pair;
use crate::{Close, CloseReason, ConnId, Transport};

/// Bytes whose order shows.
fn counting(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at % 251) as u8).collect()
}

/// How much either end has copied.
fn copied(pair: &Pair<Fake>) -> (u64, u64) {
    let client = pair.client.transport.cost().bytes_copied;
    (client, pair.server.transport.cost().bytes_copied)
}

fn deliver(pair: &mut Pair<Fake>, (client, server): (ConnId, ConnId), bytes: &Bytes) {
    let before = pair.server.received(server);
    pair.client.give(client, bytes.clone());
    pair.run_until("received", |pair| {
        pair.server.received(server) == before + bytes.len()
    });
}

#[test]
fn large_data_is_copied_by_nobody() {
    let (mut pair, client, server) = Pair::<Fake>::connected();
    let bytes = Bytes::from(counting(3 * CONFIG.landing_size + CONFIG.offer_from));
    for _ in 0..10 {
        deliver(&mut pair, (client, server), &bytes);
        assert!(pair.server.bytes(server) == bytes);
    }
    assert_eq!(copied(&pair), (0, 0));
    pair.settle();
    assert!(bytes.is_unique(), "it is on loan no more");
}

#[test]
fn who_has_lent_is_told_as_soon_as_it_is_read() {
    let (mut pair, client, server) = Pair::<Fake>::connected();
    let bytes = Bytes::from(counting(CONFIG.landing_size));
    deliver(&mut pair, (client, server), &bytes);
    // The server has not had another turn.
    pair.run_client_until("told", |_| bytes.is_unique());
}

#[test]
fn it_keeps_its_place_between_small_data() {
    let (mut pair, client, server) = Pair::<Fake>::connected();
    let mut expected = Vec::new();
    for round in 0..50 {
        for len in [
            10,
            CONFIG.offer_from + round,
            3000,
            CONFIG.block_size,
            2 * CONFIG.landing_size,
        ] {
            let bytes = counting(len);
            expected.extend_from_slice(&bytes);
            pair.client.give(client, bytes);
        }
    }
    let mut received = Vec::new();
    pair.run_until("received", |pair| {
        received.extend(pair.server.bytes(server));
        received.len() == expected.len()
    });
    assert!(received == expected, "altered or reordered");
}

#[test]
fn what_was_received_is_sent_on_without_a_copy() {
    let (mut pair, client, server) = Pair::<Fake>::connected();
    for len in [CONFIG.block_size, CONFIG.landing_size] {
        let bytes = Bytes::from(counting(len));
        deliver(&mut pair, (client, server), &bytes);
        let before = copied(&pair).1;
        let there = pair.client.received(client);
        for slice in pair.server.slices(server) {
            pair.server.give(server, slice);
        }
        pair.run_until("back", |pair| pair.client.received(client) == there + len);
        assert!(pair.client.bytes(client) == bytes);
        assert_eq!(copied(&pair).1, before, "{len} bytes");
    }
}

#[test]
fn who_holds_all_it_has_got_still_gets_more() {
    let mut pair = Pair::<Fake>::new();
    let address = pair.listen();
    let (client, server) = pair.connect(address);
    let other = pair.connect(address);
    let bytes = Bytes::from(counting(CONFIG.landing_size));
    let lent = CONFIG.landing_blocks - 2;
    for count in 1..=3 * lent {
        deliver(&mut pair, (client, server), &bytes);
        let beyond = count.saturating_sub(lent) * bytes.len();
        assert_eq!(copied(&pair), (0, beyond as u64));
    }
    // Nor do others wait.
    deliver(&mut pair, other, &bytes);
    drop(pair.server.slices(server));
    let before = copied(&pair);
    deliver(&mut pair, (client, server), &bytes);
    assert_eq!(copied(&pair), before, "there is room again");
}

#[test]
fn who_wants_nothing_reads_nothing() {
    let (mut pair, client, server) = Pair::<Fake>::connected();
    pair.server.set_receive(server, false);
    let bytes = Bytes::from(counting(CONFIG.landing_size));
    for _ in 0..20 {
        pair.client.give(client, bytes.clone());
    }
    pair.settle();
    assert_eq!(pair.server.received(server), 0);
    assert!(
        pair.client.untaken(client) >= 16 * bytes.len(),
        "4 offers are out"
    );
    // What goes the other way is read, and the peer told so, all the same.
    let back = Bytes::from(counting(6 * CONFIG.landing_size));
    pair.server.give(server, back.clone());
    pair.run_until("back", |pair| pair.client.received(client) == back.len());
    pair.settle();
    assert!(back.is_unique());

    pair.server.set_receive(server, true);
    pair.run_until("received", |pair| {
        pair.server.received(server) == 20 * bytes.len()
    });
}

#[test]
fn what_cannot_be_lent_is_copied() {
    let (mut pair, client, server) = Pair::<Fake>::connected();
    pair.network.device.set(Fault::Registration);
    let bytes = Bytes::from(counting(1 << 20));
    deliver(&mut pair, (client, server), &bytes);
    assert!(pair.server.bytes(server) == bytes);
    assert_eq!(copied(&pair).0, bytes.len() as u64);
}

#[test]
fn loans_end_with_their_connection() {
    for how in [Close::Abort, Close::Drain] {
        let (mut pair, client, server) = Pair::<Fake>::connected();
        let objects = pair.network.device.objects();
        pair.server.set_receive(server, false);
        let bytes = Bytes::from(counting(CONFIG.landing_size));
        for _ in 0..3 {
            pair.client.give(client, bytes.clone());
        }
        pair.settle();
        assert_eq!(pair.network.device.objects(), objects + 3);
        pair.server.close(server, how);
        pair.run_until("told", |pair| pair.client.closed(client).is_some());
        pair.settle();
        assert!(bytes.is_unique());
        assert_eq!(
            pair.network.device.objects(),
            objects - 2,
            "two queue pairs less"
        );
    }
}

#[test]
fn a_peer_that_offers_nonsense_is_left() {
    // What is no offer; one of too much; one of memory that nobody has lent.
    let address = 4096_u64.to_le_bytes();
    let offer = |len: u32| [&address[..], &7_u32.to_le_bytes(), &len.to_le_bytes()].concat();
    let bad = CloseReason::Os(rustix::io::Errno::PROTO.raw_os_error());
    for (bytes, reason) in [
        (b"what".to_vec(), bad.clone()),
        (offer(0), bad.clone()),
        (offer(1 + CONFIG.landing_size as u32), bad),
        (offer(4096), CloseReason::Reset),
    ] {
        let (mut pair, client, server) = Pair::<Fake>::connected();
        pair.network.device.set(Fault::Garbled);
        pair.client.give(client, bytes);
        pair.run_until("over", |pair| pair.server.closed(server).is_some());
        assert_eq!(pair.server.closed(server), Some(reason));
        closed(&mut pair, client);
    }
}
