//! The end of a connection: what still arrives, what the peer is told, and that dead stays dead.

use std::time::Duration;

use bytes::Bytes;
use msgr_transport::{Close, CloseReason, SendError, Transport, TxQueue};

use super::{Network, Pair, QUIET, Random};

/// Of a network that is as fast as its host: shorter than any time-out of a transport on one.
const AT_ONCE: Duration = Duration::from_millis(500);

pub(crate) fn draining_delivers_everything_first<N: Network>() {
    for total in [0, 1, 70_000, 3_000_000] {
        let (mut pair, client, server) = Pair::<N>::connected();
        let bytes = Random(6).bytes(total);
        pair.client.give(client, bytes.clone());
        pair.run_until("taken", |pair| pair.client.untaken(client) == 0);
        pair.client.close(client, Close::Drain);
        pair.run_until("closed", |pair| pair.server.closed(server).is_some());
        assert_eq!(pair.server.closed(server), Some(CloseReason::PeerClosed));
        assert!(pair.server.bytes(server) == bytes, "altered or cut short");
    }
}

pub(crate) fn draining_needs_no_flush<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let mut queue = TxQueue::from([Bytes::from_static(b"last words")]);
    pair.client.send(client, &mut queue).expect("it is up");
    pair.client.close(client, Close::Drain);
    pair.run_until_without_pumping("closed", |pair| pair.server.closed(server).is_some());
    assert_eq!(pair.server.closed(server), Some(CloseReason::PeerClosed));
    assert_eq!(pair.server.bytes(server), b"last words");
}

pub(crate) fn draining_survives_bytes_from_the_peer<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let there = Random(7).bytes(2_000_000);
    let back = Random(8).bytes(2_000_000);
    // The server's bytes are under way or unread while the client leaves.
    pair.client.set_receive(client, false);
    pair.server.give(server, back);
    pair.client.give(client, there.clone());
    pair.run_until("taken", |pair| pair.client.untaken(client) == 0);
    pair.client.close(client, Close::Drain);
    pair.run_until("closed", |pair| pair.server.closed(server).is_some());
    assert!(pair.server.bytes(server) == there, "altered or cut short");
}

pub(crate) fn the_end_waits_behind_the_last_byte<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    pair.server.set_receive(server, false);
    pair.client.give(client, &b"held back"[..]);
    pair.step();
    pair.client.close(client, Close::Drain);
    pair.settle();
    assert!(pair.server.is_up(server), "closed ahead of its bytes");
    pair.server.set_receive(server, true);
    pair.run_until("closed", |pair| pair.server.closed(server).is_some());
    assert_eq!(pair.server.bytes(server), b"held back");
    assert_eq!(pair.server.closed(server), Some(CloseReason::PeerClosed));
}

pub(crate) fn aborting_ends_the_peer<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    pair.client.give(client, Random(9).bytes(100_000));
    pair.run_until("received", |pair| pair.server.received(server) == 100_000);
    pair.client.close(client, Close::Abort);
    pair.run_until("closed", |pair| pair.server.closed(server).is_some());
}

pub(crate) fn aborting_works_at_any_time<N: Network>() {
    let mut pair = Pair::<N>::new();
    let address = pair.listen();
    for how in [Close::Abort, Close::Drain] {
        let conn = pair.client.connect(address, None).expect("it starts");
        pair.client.close(conn, how);
    }
    pair.settle();
    pair.run_until("over, whatever the server saw of it", |pair| {
        let server = &pair.server;
        let over = |accepted: &super::Accepted| server.closed(accepted.conn).is_some();
        server.accepted.iter().all(over)
    });
    pair.server.accepted.clear();
    let (client, server) = pair.connect(address);
    pair.client.give(client, &b"alive"[..]);
    pair.run_until("received", |pair| pair.server.received(server) == 5);
}

pub(crate) fn a_dead_id_names_nothing<N: Network>() {
    let mut pair = Pair::<N>::new();
    let address = pair.listen();
    let (left, abandoned) = pair.connect(address);
    pair.client.close(left, Close::Abort);
    pair.run_until("closed", |pair| pair.server.closed(abandoned).is_some());

    // The slots are used again; the ids are not, as the harness checks.
    let (client, server) = pair.connect(address);
    let mut queue = TxQueue::from([Bytes::from_static(b"astray")]);
    for (node, dead) in [(&mut pair.client, left), (&mut pair.server, abandoned)] {
        let sent = node.transport.send(dead, &mut queue);
        assert_eq!(sent, Err(SendError::NotConnected));
        node.transport.set_receive(dead, false);
        node.transport.close(dead, Close::Abort);
        node.transport.close(dead, Close::Drain);
        assert!(
            node.transport
                .place(dead, bytes::BytesMut::with_capacity(64))
                .is_err()
        );
    }
    pair.client.give(client, &b"there"[..]);
    pair.server.give(server, &b"back"[..]);
    pair.run_until("exchanged", |pair| {
        pair.server.received(server) == 5 && pair.client.received(client) == 4
    });
    assert_eq!(pair.server.bytes(server), b"there");
    assert_eq!(pair.client.bytes(client), b"back");
}

pub(crate) fn both_may_leave_at_once<N: Network>() {
    for (ours, theirs) in [
        (Close::Drain, Close::Drain),
        (Close::Drain, Close::Abort),
        (Close::Abort, Close::Abort),
    ] {
        let (mut pair, client, server) = Pair::<N>::connected();
        pair.client.give(client, Random(10).bytes(200_000));
        pair.server.give(server, Random(11).bytes(200_000));
        pair.step();
        pair.client.close(client, ours);
        pair.server.close(server, theirs);
        let (left, mut steps) = (pair.now, 0);
        pair.run_until("without anything that lingers", |pair| {
            steps += 1;
            let (client, server) = (&pair.client.transport, &pair.server.transport);
            client.next_timeout().is_none() && server.next_timeout().is_none()
        });
        let lingered = pair.now - left;
        assert!(
            steps <= QUIET || lingered < AT_ONCE,
            "given up after {steps} steps, {lingered:?}"
        );
        // The harness fails on any event for either.
        pair.settle();
    }
}
