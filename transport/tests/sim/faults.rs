//! What each fault does to whom, and when.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use msgr_transport::sim::{Chop, Crash, Fault, Plan, Side, SimConfig};
use msgr_transport::{Close, CloseReason, ListenOptions, SendError, Transport, TxQueue};

use crate::pair::{AT, Host, LATENCY, Pair, SERVER};

const WORDS: &[u8] = b"The quick brown fox jumps over the lazy dog";

#[test]
fn time_is_what_the_latencies_make_it() {
    let mut pair = Pair::new(SimConfig::default());
    let (client, server) = pair.connect();
    assert_eq!(pair.elapsed(), 2 * LATENCY, "there and back");
    pair.client.send(client, WORDS);
    assert_eq!(pair.network.next_event_time(), Some(pair.now + LATENCY));
    assert_eq!(pair.client.sim.next_timeout(), Some(pair.now + LATENCY));
    pair.settle();
    assert_eq!(pair.elapsed(), 3 * LATENCY);
    assert_eq!(pair.server.received(server), WORDS);
}

#[test]
fn flushes_are_chopped_as_told() {
    let modes: [(Chop, &[usize]); 4] = [
        (Chop::Whole, &[10, 4]),
        (Chop::Every(4), &[4, 4, 2, 4]),
        (Chop::At(Arc::new([1, 7, 10, 12])), &[1, 6, 3, 2, 2]),
        (Chop::Every(1), &[1; 14]),
    ];
    for (chop, lengths) in modes {
        let mut pair = Pair::new(SimConfig::default());
        pair.network.set_chop(Side::Connector, chop.clone());
        let (client, server) = pair.connect();
        pair.client.send(client, &WORDS[..10]);
        pair.client.send(client, &WORDS[10..14]);
        pair.server.send(server, WORDS);
        pair.settle();
        assert_eq!(pair.server.lengths(), lengths, "{chop:?}");
        assert_eq!(pair.server.received(server), WORDS[..14]);
        assert_eq!(pair.client.lengths(), [WORDS.len()], "only one side");
    }
}

#[test]
fn a_cut_lets_exactly_so_many_bytes_through() {
    for from in [Side::Connector, Side::Acceptor] {
        for after in 0..WORDS.len() {
            let mut pair = Pair::new(SimConfig::default());
            pair.network.plan(
                AT,
                Fault::Cut {
                    from,
                    after: after as u64,
                },
            );
            let (client, server) = pair.connect();
            if after > 0 {
                assert!(pair.client.closed.is_empty());
                match from {
                    Side::Connector => pair.client.send(client, WORDS),
                    Side::Acceptor => pair.server.send(server, WORDS),
                }
                pair.settle();
            }
            let received = match from {
                Side::Connector => pair.server.received(server),
                Side::Acceptor => pair.client.received(client),
            };
            assert_eq!(received, WORDS[..after]);
            assert!(pair.client.log[0].starts_with("Connected"));
            assert_eq!(pair.client.closed, [(client, CloseReason::Reset)]);
            assert_eq!(pair.server.closed, [(server, CloseReason::Reset)]);

            // The next connection is not planned to fail.
            let (client, server) = pair.connect();
            pair.client.send(client, WORDS);
            pair.settle();
            assert_eq!(pair.server.received(server), WORDS);
        }
    }
}

#[test]
fn a_refusal_is_for_the_next_attempts_only() {
    let mut pair = Pair::new(SimConfig::default());
    pair.network.plan(AT, Plan::Refuse);
    pair.network.plan(AT, Plan::Refuse);
    let refused = [pair.client.connect(AT), pair.client.connect(AT)];
    pair.settle();
    assert_eq!(
        pair.client.closed,
        refused.map(|conn| (conn, CloseReason::Refused))
    );
    assert!(pair.server.log.is_empty());
    pair.connect();
}

#[test]
fn an_ignored_attempt_is_never_answered() {
    let mut pair = Pair::new(SimConfig::default());
    pair.network.plan(AT, Plan::Ignore);
    let conn = pair.client.connect(AT);
    pair.settle();
    assert!(pair.client.log.is_empty() && pair.server.log.is_empty());
    let mut queue = TxQueue::from([Bytes::from_static(WORDS)]);
    let sent = pair.client.sim.send(conn, &mut queue);
    assert_eq!(sent, Err(SendError::NotConnected));
}

#[test]
fn accepted_and_closed_at_once() {
    let mut pair = Pair::new(SimConfig::default());
    pair.network.plan(AT, Plan::AcceptThenClose);
    let (client, server) = pair.connect();
    assert_eq!(pair.client.closed, [(client, CloseReason::PeerClosed)]);
    assert_eq!(pair.client.log.len(), 2, "connected, then closed");
    assert_eq!(pair.server.closed, [(server, CloseReason::Reset)]);
}

#[test]
fn a_stall_holds_one_direction_until_released() {
    let mut pair = Pair::new(SimConfig::default());
    pair.network.plan(
        AT,
        Fault::Stall {
            from: Side::Connector,
            after: 4,
            lasts: None,
        },
    );
    let (client, server) = pair.connect();
    let (from, to) = pair.network.connections()[0];
    pair.client.send(client, WORDS);
    pair.server.send(server, b"back");
    pair.client.sim.close(client, Close::Drain);
    pair.settle();
    assert_eq!(pair.server.received(server), &WORDS[..4]);
    assert!(pair.server.closed.is_empty(), "the end is held back too");
    assert!(!pair.network.release(from, to), "the connector has left");

    let mut pair = Pair::new(SimConfig::default());
    let (client, server) = pair.connect();
    let (from, to) = pair.network.connections()[0];
    assert_eq!(to, AT);
    let stall = Fault::Stall {
        from: Side::Connector,
        after: 0,
        lasts: None,
    };
    assert!(pair.network.inject(from, to, stall));
    pair.client.send(client, WORDS);
    pair.server.send(server, b"back");
    pair.settle();
    assert_eq!(pair.server.received(server), b"");
    assert_eq!(pair.client.received(client), b"back");
    assert!(pair.network.release(from, to));
    pair.settle();
    assert_eq!(pair.server.received(server), WORDS);
}

#[test]
fn a_stall_may_end_by_itself() {
    let mut pair = Pair::new(SimConfig::default());
    let lasts = Duration::from_secs(3600);
    pair.network.plan(
        AT,
        Fault::Stall {
            from: Side::Acceptor,
            after: 1,
            lasts: Some(lasts),
        },
    );
    let (client, server) = pair.connect();
    pair.server.send(server, WORDS);
    pair.settle();
    assert_eq!(pair.client.received(client), WORDS);
    assert_eq!(pair.client.lengths(), [1, WORDS.len() - 1]);
    assert_eq!(pair.elapsed(), 3 * LATENCY + lasts);
}

#[test]
fn bytes_of_a_dead_connection_arrive_after_those_of_the_next() {
    let mut pair = Pair::new(SimConfig::default());
    let late = Duration::from_secs(5);
    pair.network.plan(
        AT,
        Fault::HalfOpen {
            from: Side::Connector,
            after: 5,
            late,
        },
    );
    let (old, old_server) = pair.connect();
    pair.client.send(old, WORDS);
    pair.now += LATENCY;
    pair.poll();
    assert_eq!(pair.client.closed, [(old, CloseReason::Reset)]);
    assert_eq!(pair.server.received(old_server), &WORDS[..5]);
    assert_eq!(pair.server.closed, []);

    let new = pair.client.connect(AT);
    for _ in 0..2 {
        pair.now += LATENCY;
        pair.poll();
        pair.poll();
    }
    let new_server = pair.server.accepted[1];
    pair.client.send(new, b"new");
    pair.settle();
    assert_eq!(pair.server.received(old_server), WORDS);
    let order: Vec<_> = pair.server.pieces.iter().map(|&(conn, _)| conn).collect();
    assert_eq!(order, [old_server, new_server, old_server]);
    assert_eq!(pair.server.closed, [(old_server, CloseReason::Reset)]);
}

#[test]
fn a_black_hole_tells_nobody() {
    let mut pair = Pair::new(SimConfig::default());
    pair.network.plan(
        AT,
        Fault::BlackHole {
            from: Side::Connector,
            after: 5,
        },
    );
    let (client, server) = pair.connect();
    pair.client.send(client, WORDS);
    pair.settle();
    pair.client.send(client, WORDS);
    pair.server.send(server, WORDS);
    pair.client.sim.close(client, Close::Drain);
    pair.settle();
    assert_eq!(pair.server.received(server), &WORDS[..5]);
    assert!(pair.server.closed.is_empty() && pair.client.received(client).is_empty());
}

#[test]
fn a_crash_takes_everything_with_it_and_may_be_followed_by_a_restart() {
    for (how, expected) in [(Crash::Reset, 1), (Crash::Silent, 0)] {
        let mut pair = Pair::new(SimConfig::default());
        let (client, server) = pair.connect();
        pair.server.send(server, b"last words");
        pair.network.crash(SERVER, how);
        pair.settle();
        assert_eq!(pair.client.received(client), b"last words");
        assert_eq!(pair.client.closed.len(), expected, "{how:?}");

        let sent = pair.server.sim.send(server, &mut TxQueue::new());
        assert_eq!(sent, Err(SendError::NotConnected));
        let error = pair.server.sim.listen(AT, &ListenOptions::default());
        assert_eq!(
            error.expect_err("it is dead").source.kind(),
            std::io::ErrorKind::NetworkDown
        );
        let refused = pair.client.connect(AT);
        pair.settle();
        assert_eq!(
            pair.client.closed.last(),
            Some(&(refused, CloseReason::Refused))
        );

        pair.server = Host::new(&pair.network, SERVER);
        pair.server.listen(AT);
        let (client, server) = pair.connect();
        pair.client.send(client, WORDS);
        pair.settle();
        assert_eq!(pair.server.received(server), WORDS);
    }
}

#[test]
fn a_crash_may_be_planned() {
    let mut pair = Pair::new(SimConfig::default());
    pair.network.plan(
        AT,
        Fault::Crash {
            from: Side::Connector,
            after: 3,
            how: Crash::Reset,
        },
    );
    let (client, _) = pair.connect();
    assert!(pair.network.take_crashed().is_empty());
    pair.client.send(client, WORDS);
    pair.settle();
    assert_eq!(pair.network.take_crashed(), [SERVER]);
    assert!(pair.network.take_crashed().is_empty());
    assert_eq!(pair.client.closed, [(client, CloseReason::Reset)]);
}

#[test]
fn a_dropped_transport_resets_what_it_leaves_behind() {
    let mut pair = Pair::new(SimConfig::default());
    let (client, _) = pair.connect();
    pair.server = Host::new(&pair.network, SERVER);
    pair.settle();
    assert_eq!(pair.client.closed, [(client, CloseReason::Reset)]);
    pair.server.listen(AT);
}

#[test]
fn a_stopped_connection_still_hears_of_a_reset() {
    let mut pair = Pair::new(SimConfig::default());
    let (client, server) = pair.connect();
    pair.server.sim.set_receive(server, false);
    pair.client.send(client, WORDS);
    pair.settle();
    pair.client.sim.close(client, Close::Abort);
    pair.settle();
    assert_eq!(pair.server.closed, [(server, CloseReason::Reset)]);
    assert!(pair.server.pieces.is_empty());
}
