//! Messages that are taken back, and those that overtake others.

use std::sync::Arc;
use std::time::Duration;

use msgr::Connection;
use msgr::protocol::{Message, Policy, Ticket, priority};
use msgr::transport::sim::{Fault, Side, SimConfig};

use super::ledger::Seen;
use super::networks::{Virtual, quick, virtual_networks};
use super::world::{Spec, World};

const SERVER: i64 = 1;
const CLIENT: i64 = 2;
const POLICIES: [(Policy, Policy); 3] = [
    (Policy::STATELESS_SERVER, Policy::LOSSY_CLIENT),
    (Policy::STATEFUL_SERVER, Policy::LOSSLESS_CLIENT),
    (Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER),
];

/// A world whose network takes `window` bytes at a time, with two connected ends.
fn world(on: Virtual, policies: (Policy, Policy), window: usize) -> (World, Connection) {
    let mut world = on.world(window as u64, SimConfig { window, ..quick() });
    world.start(Spec::bound(policies.0));
    world.start(Spec::bound(policies.1));
    world.ledger(SERVER).raw = Some(Vec::new());
    world.connect(CLIENT, SERVER);
    world.wait_for("both ends", |world| {
        let ready = |a, b| world.connection(a, b).is_some_and(|c| c.is_connected());
        ready(CLIENT, SERVER) && ready(SERVER, CLIENT)
    });
    let connection = world.connection(CLIENT, SERVER).unwrap();
    (world, connection)
}

fn message(tid: u64, len: usize) -> Message {
    let mut message = Message::new(1);
    message.header.tid = tid;
    message.data = vec![tid as u8; len].into();
    message
}

fn received(world: &World) -> Vec<u64> {
    world.ledger(SERVER).raw.clone().unwrap()
}

fn send(connection: &Connection, tids: std::ops::RangeInclusive<u64>, len: usize) -> Vec<Ticket> {
    let send = |tid| {
        connection
            .send_cancellable(message(tid, len), None)
            .unwrap()
    };
    tids.map(send).collect()
}

virtual_networks! {
    /// One that still waits is gone without a trace.
    fn a_queued_message_is_taken_back(on: Virtual) {
        for policies in POLICIES {
            let (mut world, connection) = world(on, policies, 10_000);
            let tickets = send(&connection, 1..=50, 5_000);
            connection.cancel(tickets[40]);
            connection.cancel(tickets[30]);
            world.run(Duration::from_secs(1));
            let expected: Vec<u64> = (1..=50).filter(|tid| ![31, 41].contains(tid)).collect();
            assert_eq!(received(&world), expected);
            assert_eq!(world.saw(CLIENT, |seen| *seen == Seen::Cancelled), 2);
            // It is too late for those that have arrived.
            connection.cancel(tickets[0]);
            world.run(Duration::from_secs(1));
            assert_eq!(world.saw(CLIENT, |seen| *seen == Seen::Cancelled), 2);
        }
    }
}

virtual_networks! {
    /// One that is being transmitted is aborted; what is around it arrives.
    fn a_message_is_taken_back_while_it_is_transmitted(on: Virtual) {
        for policies in POLICIES {
            let frame = (on.frame() / on.depth() as u64).max(1);
            let bytes = (100..60_000).step_by(1777);
            let frames = (1..60_000 / frame).step_by(3300 / frame as usize);
            for stop_after in on.places(bytes, frames) {
                let (mut world, connection) = world(on, policies, 8_000);
                let (connector, acceptor) = world.network().connections()[0];
                let stall = Fault::Stall {
                    from: Side::Connector,
                    after: stop_after,
                    lasts: None,
                };
                assert!(world.network().inject(connector, acceptor, stall));
                let tickets = send(&connection, 1..=3, 20_000 * on.depth());
                world.run(Duration::from_millis(100));
                // Some of it is under way, the rest is not.
                connection.cancel(tickets[1]);
                world.run(Duration::from_millis(10));
                let cancelled = world.saw(CLIENT, |seen| *seen == Seen::Cancelled);
                assert!(world.network().release(connector, acceptor));
                world.run(Duration::from_secs(10));
                let expected: &[u64] = if cancelled == 1 { &[1, 3] } else { &[1, 2, 3] };
                assert_eq!(received(&world), expected, "after {stop_after}");
                let at = match on {
                    Virtual::Simulated | Virtual::Secure => stop_after,
                    Virtual::UserspaceTcp | Virtual::Rdma => stop_after * frame,
                };
                // What is sealed already cannot be taken back.
                match (on, at) {
                    (Virtual::Secure, ..8_000) => assert_eq!(cancelled, 1, "{stop_after}"),
                    (Virtual::Secure, 21_000..) => assert_eq!(cancelled, 0, "{stop_after}"),
                    (Virtual::Secure, _) => {}
                    (_, ..20_000) => assert_eq!(cancelled, 1, "{stop_after}"),
                    (_, 45_000..) => assert_eq!(cancelled, 0, "{stop_after}"),
                    _ => {}
                }
                assert_eq!(
                    world.totals(CLIENT).resets + world.totals(CLIENT).interruptions,
                    0
                );
            }
        }
    }
}

virtual_networks! {
    /// The stream breaks around a message that was taken back: it does not come back with the session,
    /// and nothing else is missing.
    fn a_message_that_was_taken_back_is_not_replayed(on: Virtual) {
        for policies in &POLICIES[1..] {
            for after in on.places((0..70_000).step_by(1301), (0..6200).step_by(300)) {
                let (mut world, connection) = world(on, *policies, 8_000);
                let (connector, acceptor) = world.network().connections()[0];
                let stall = Fault::Stall {
                    from: Side::Connector,
                    after: 0,
                    lasts: None,
                };
                assert!(world.network().inject(connector, acceptor, stall));
                let tickets = send(&connection, 1..=5, 20_000 * on.depth());
                world.run(Duration::from_millis(10));
                connection.cancel(tickets[0]);
                connection.cancel(tickets[3]);
                world.run(Duration::from_millis(10));
                // What is sealed already cannot be taken back.
                let (cancelled, expected) = match on {
                    Virtual::Secure => (1, &[1, 2, 3, 5, 6, 7][..]),
                    _ => (2, &[2, 3, 5, 6, 7][..]),
                };
                let seen = world.saw(CLIENT, |seen| *seen == Seen::Cancelled);
                assert_eq!(seen, cancelled);
                let cut = Fault::Cut {
                    from: Side::Connector,
                    after,
                };
                assert!(world.network().inject(connector, acceptor, cut));
                world.network().release(connector, acceptor);
                world.run(Duration::from_secs(60));
                let before = &expected[..expected.len() - 2];
                assert_eq!(received(&world), before, "cut after {after}");
                // Sequence numbers go on as if nothing had been.
                send(&connection, 6..=7, 10);
                world.run(Duration::from_secs(60));
                assert_eq!(received(&world), expected);
                let dump = world.reactor(CLIENT).borrow().dump();
                assert_eq!(dump[0].counts.unacknowledged, 0);
            }
        }
    }
}

virtual_networks! {
    /// While there is no stream at all.
    fn a_message_is_taken_back_while_there_is_no_stream(on: Virtual) {
        let (mut world, connection) = world(on, POLICIES[2], 8_000);
        let (connector, acceptor) = world.network().connections()[0];
        let stall = Fault::Stall {
            from: Side::Connector,
            after: 0,
            lasts: None,
        };
        assert!(world.network().inject(connector, acceptor, stall));
        let tickets = send(&connection, 1..=4, 5_000);
        world.run(Duration::from_millis(1));
        for _ in 0..3 {
            let plan = msgr::transport::sim::Plan::Refuse;
            world.network().plan(world.socket(SERVER), plan);
        }
        let cut = Fault::Cut {
            from: Side::Connector,
            after: 0,
        };
        assert!(world.network().inject(connector, acceptor, cut));
        world.network().release(connector, acceptor);
        world.run(Duration::from_millis(1));
        // All four were numbered, and some were under way, but none has arrived, which we cannot know.
        for ticket in &tickets[1..3] {
            connection.cancel(*ticket);
        }
        world.run(Duration::from_secs(60));
        let cancelled = world.saw(CLIENT, |seen| *seen == Seen::Cancelled);
        let expected = match (on, cancelled) {
            // What is sealed already cannot be taken back.
            (Virtual::Secure, 1) => &[1, 2, 4][..],
            (_, 2) => &[1, 4],
            (_, cancelled) => {
                assert_eq!(cancelled, 0);
                &[1, 2, 3, 4]
            }
        };
        assert_eq!(received(&world), expected);
    }
}

virtual_networks! {
    /// Deadlines: what has not left by then is taken back, the rest goes on.
    fn deadlines(on: Virtual) {
        for policies in POLICIES {
            let (mut world, connection) = world(on, policies, 8_000);
            let (connector, acceptor) = world.network().connections()[0];
            let stall = Fault::Stall {
                from: Side::Connector,
                after: 0,
                lasts: Some(Duration::from_secs(10)),
            };
            assert!(world.network().inject(connector, acceptor, stall));
            for tid in 1..=10 {
                // Even ones are in a hurry.
                let patience = if tid % 2 == 0 { 5 } else { 15 };
                let deadline = world.now + Duration::from_secs(patience);
                let sent = connection.send_cancellable(message(tid, 20_000 * on.depth()), Some(deadline));
                assert!(sent.is_ok());
            }
            world.run(Duration::from_secs(4));
            assert_eq!(world.saw(CLIENT, |seen| *seen == Seen::Cancelled), 0);
            world.run(Duration::from_secs(2));
            assert_eq!(world.saw(CLIENT, |seen| *seen == Seen::Cancelled), 5);
            world.run(Duration::from_secs(20));
            assert_eq!(received(&world), [1, 3, 5, 7, 9]);
            assert_eq!(world.saw(CLIENT, |seen| *seen == Seen::Cancelled), 5);
        }
    }
}

virtual_networks! {
    /// A small message of high priority waits for the frame that is under way and for what the network
    /// has taken, not for all that was queued before it.
    fn a_small_urgent_message_overtakes_large_ones(on: Virtual) {
        for policies in POLICIES {
            let window = 8_000;
            let (mut world, connection) = world(on, policies, window);
            let large = 20_000 * on.depth();
            for tid in 1..=20 {
                connection.send(message(tid, large)).unwrap();
                world.turn(CLIENT);
            }
            world.wait_for("some of them", |world| received(world).len() >= 3);
            let before = received(&world).len() as u64;
            let mut urgent = message(100, 10);
            urgent.header.priority = priority::HIGHEST;
            connection.send(urgent).unwrap();
            world.wait_for("all of them", |world| received(world).len() == 21);
            let tids = received(&world);
            let place = tids.iter().position(|tid| *tid == 100).unwrap() as u64;
            // The one under way, and at most one that was laid out behind it.
            assert!(place <= before + 2, "place {place}, sent after {before}");
            let others: Vec<u64> = tids.into_iter().filter(|tid| *tid != 100).collect();
            assert_eq!(others, (1..=20).collect::<Vec<_>>());
        }
    }
}

virtual_networks! {
    /// Priorities below 64 share; none waits until all others are done.
    fn low_priorities_share(on: Virtual) {
        let (mut world, connection) = world(on, POLICIES[1], 8_000);
        for tid in 1..=100 {
            let mut message = message(tid, 5_000 * on.depth());
            message.header.priority = if tid <= 50 { 9 } else { 29 };
            connection.send(message).unwrap();
            if tid % 10 == 0 {
                world.turn(CLIENT);
            }
        }
        world.wait_for("all of them", |world| received(world).len() == 100);
        let tids = received(&world);
        let low = tids[..60].iter().filter(|tid| **tid <= 50).count();
        assert!((10..30).contains(&low), "{low} of the first 60: {tids:?}");
    }
}

/// A block of memory whose holders can be counted.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

virtual_networks! {
    /// A cancelled message lets go of its memory.
    fn a_cancelled_message_is_let_go(on: Virtual) {
        let (mut world, connection) = world(on, POLICIES[1], 8_000);
        let (connector, acceptor) = world.network().connections()[0];
        let stall = Fault::Stall {
            from: Side::Connector,
            after: 0,
            lasts: None,
        };
        assert!(world.network().inject(connector, acceptor, stall));
        let block = Arc::new(vec![7_u8; 20_000 * on.depth()]);
        let mut message = Message::new(1);
        message.data = bytes::Bytes::from_owner(Shared(Arc::clone(&block))).into();
        let ticket = connection.send_cancellable(message, None).unwrap();
        world.run(Duration::from_millis(10));
        assert!(Arc::strong_count(&block) > 1);
        connection.cancel(ticket);
        if on != Virtual::Simulated {
            // What is queued there is not copied, so it leaves first.
            world.network().release(connector, acceptor);
        }
        world.run(Duration::from_secs(1));
        assert_eq!(Arc::strong_count(&block), 1);
    }
}
