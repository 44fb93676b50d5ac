//! Bytes on their way: intact, in order, only when flushed, and no more than there is room for.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use bytes::Bytes;
use msgr_transport::{ConnId, Park, SendError, Transport, TxQueue};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::{Network, Pair, QUIET, Random, assert_same, byte_count};

/// Segments of random sizes from nothing to 300 kB that come to `total` bytes, and those bytes.
fn segments(random: &mut Random, total: usize) -> (TxQueue, Vec<u8>) {
    let all = random.bytes(total);
    let mut rest = Bytes::from(all.clone());
    let mut queue = TxQueue::new();
    while !rest.is_empty() {
        let most = [1, 64, 5_000, 300_000][random.below(4)];
        let len = random.below(most + 1).min(rest.len());
        queue.push_back(rest.split_to(len));
    }
    (queue, all)
}

pub(crate) fn small_exchanges_arrive<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let mut total = 0;
    for turn in 1..=100 {
        let request = vec![turn as u8; turn];
        total += turn;
        pair.client.give(client, request.clone());
        pair.run_until("there", |pair| pair.server.received(server) == total);
        assert_eq!(pair.server.bytes(server), request);
        pair.server.give(server, vec![turn as u8]);
        pair.run_until("back", |pair| pair.client.received(client) == turn);
        assert_eq!(pair.client.bytes(client), [turn as u8]);
    }
}

pub(crate) fn large_streams_cross_intact<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let mut random = Random(1);
    let (there, sent_there) = segments(&mut random, 7_654_321);
    let (back, sent_back) = segments(&mut random, 5_432_109);
    for segment in there {
        pair.client.give(client, segment);
    }
    for segment in back {
        pair.server.give(server, segment);
    }
    pair.run_until("all there and back", |pair| {
        pair.server.received(server) == sent_there.len()
            && pair.client.received(client) == sent_back.len()
    });
    assert_same(&pair.server.bytes(server), &sent_there);
    assert_same(&pair.client.bytes(client), &sent_back);
}

pub(crate) fn many_connections_do_not_mix<N: Network>() {
    const CONNECTIONS: usize = 64;
    let mut pair = Pair::<N>::new();
    let address = pair.listen();
    let mut random = Random(2);
    let mut ends: Vec<(ConnId, ConnId, Vec<u8>, Vec<u8>)> = Vec::new();
    for _ in 0..CONNECTIONS {
        let (client, server) = pair.connect(address);
        let (there, back) = (20_000 + random.below(20_000), random.below(20_000));
        ends.push((client, server, random.bytes(there), random.bytes(back)));
    }
    for part in 0..10 {
        for (client, server, there, back) in &ends {
            let parts = |bytes: &[u8]| {
                let at = |part| bytes.len() * part / 10;
                Bytes::copy_from_slice(&bytes[at(part)..at(part + 1)])
            };
            pair.client.give(*client, parts(there));
            pair.server.give(*server, parts(back));
        }
        pair.step();
    }
    pair.run_until("all there and back", |pair| {
        ends.iter().all(|(client, server, there, back)| {
            pair.server.received(*server) == there.len()
                && pair.client.received(*client) == back.len()
        })
    });
    for (client, server, there, back) in &ends {
        assert!(pair.server.bytes(*server) == *there, "altered or mixed up");
        assert!(pair.client.bytes(*client) == *back, "altered or mixed up");
    }
}

pub(crate) fn bytes_wait_for_a_late_reader<N: Network>() {
    let mut pair = Pair::<N>::new();
    let address = pair.listen();
    let client = pair.client.connect(address, None).expect("it starts");
    // Only the client is polled until its bytes are out of its hands.
    pair.run_until("connected", |pair| pair.client.is_up(client));
    pair.client.give(client, &b"early"[..]);
    for _ in 0..100 {
        let now = pair.network.tick();
        pair.client.pump();
        pair.client.poll(now);
    }
    let server = pair.accept().conn;
    pair.run_until("received", |pair| pair.server.received(server) == 5);
    assert_eq!(pair.server.bytes(server), b"early");
}

pub(crate) fn nothing_leaves_before_the_flush<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let mut queue = TxQueue::from([Bytes::from_static(b"later")]);
    pair.client.send(client, &mut queue).expect("it is up");
    for ticks in 1..=10 {
        // Bytes the other way, to show that time passes and this very connection is looked at.
        pair.server.give(server, &b"tick"[..]);
        // Not step(): that would flush the client.
        pair.run_until_without_pumping("ticked", |pair| {
            pair.server.pump();
            pair.client.received(client) == 4 * ticks
        });
    }
    assert_eq!(pair.server.received(server), 0);
    pair.client.transport.flush();
    pair.run_until("received", |pair| pair.server.received(server) == 5);
    assert_eq!(pair.server.bytes(server), b"later");
}

pub(crate) fn sending_needs_a_connection<N: Network>() {
    let mut pair = Pair::<N>::new();
    let address = pair.listen();
    let conn = pair.client.connect(address, None).expect("it starts");
    let mut queue = TxQueue::from([Bytes::from_static(b"too early")]);
    let refused = pair.client.transport.send(conn, &mut queue);
    assert_eq!(refused, Err(SendError::NotConnected));
    assert_eq!(byte_count(&queue), 9, "everything is still the caller's");
    pair.run_until("connected", |pair| pair.client.is_up(conn));
    assert_eq!(pair.client.send(conn, &mut queue), Ok(9));
}

pub(crate) fn a_flush_is_one_doorbell<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let mut queue: TxQueue = (0..40_u8).map(|byte| Bytes::from(vec![byte; 9])).collect();
    let before = pair.client.transport.cost();
    for _ in 0..4 {
        let mut some = queue.drain(..10).collect();
        pair.client.send(client, &mut some).expect("it is up");
        assert!(some.is_empty());
    }
    pair.client.transport.flush();
    let after = pair.client.transport.cost();
    assert_eq!(after.doorbells, before.doorbells + 1);
    pair.client.transport.flush();
    assert_eq!(
        pair.client.transport.cost(),
        after,
        "nothing to flush costs nothing"
    );
    pair.run_until("received", |pair| pair.server.received(server) == 360);
}

pub(crate) fn what_is_not_flushed_stays_within_the_window<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let window = pair.client.transport.caps().send_window;
    let bytes = Random(14).bytes(3 * window);
    let mut queue = TxQueue::from([Bytes::from(bytes.clone())]);
    let first = pair.client.send(client, &mut queue).expect("it is up");
    assert!(
        first > 0 && first <= window,
        "{first} of a window of {window}"
    );
    let second = pair.client.send(client, &mut queue).expect("it is up");
    assert!(first + second <= window, "{second} more without a flush");
    for segment in queue {
        pair.client.give(client, segment);
    }
    // Goes on only when there is room, which only the flush in each step can make.
    pair.run_until("received", |pair| {
        pair.server.received(server) == bytes.len()
    });
    assert_same(&pair.server.bytes(server), &bytes);
    assert!(pair.client.rooms(client) > 0);
}

/// Small requests and replies, so many that a transport may take a special interest in them.
fn chat<N: Network>(pair: &mut Pair<N>, client: ConnId, server: ConnId) {
    for _ in 0..200 {
        let (there, back) = (pair.server.received(server), pair.client.received(client));
        pair.client.give(client, &b"ping"[..]);
        pair.run_until("there", |pair| pair.server.received(server) == there + 4);
        pair.server.give(server, &b"pong"[..]);
        pair.run_until("back", |pair| pair.client.received(client) == back + 4);
    }
}

pub(crate) fn a_chatty_connection_starves_nobody<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let address = pair.server.local(server);
    let (quiet_client, quiet_server) = pair.connect(address);
    chat(&mut pair, client, server);
    pair.client.give(quiet_client, &b"me too"[..]);
    let (there, back) = (pair.server.received(server), pair.client.received(client));
    let mut turns = 0;
    pair.run_until("heard", |pair| {
        // The chat goes on: neither end is ever without something to do.
        if pair.server.received(server) == there + turns {
            pair.client.give(client, &b"!"[..]);
            pair.server.give(server, &b"!"[..]);
            turns += 1;
        }
        pair.server.received(quiet_server) == 6
    });
    pair.run_until("talked out", |pair| {
        pair.server.received(server) == there + turns
            && pair.client.received(client) == back + turns
    });
}

pub(crate) fn a_chatty_connection_has_much_to_say<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let speech = Bytes::from(Random(3).bytes(1 << 20));
    for _ in 0..8 {
        chat(&mut pair, client, server);
        pair.server.bytes(server);
        let start = pair.server.received(server);
        pair.client.give(client, speech.clone());
        // There is a lot to be read when the server looks.
        for _ in 0..50 {
            let now = pair.network.tick();
            pair.client.pump();
            pair.client.poll(now);
        }
        pair.run_until("heard", |pair| {
            pair.server.received(server) == start + speech.len()
        });
        assert!(pair.server.bytes(server) == speech, "altered");
    }
}

pub(crate) fn whoever_sleeps_is_woken<N: Network>() {
    for long_at_rest in [false, true] {
        let (mut pair, client, server) = Pair::<N>::connected();
        chat(&mut pair, client, server);
        if long_at_rest {
            pair.settle();
            assert!(
                !sleep(&mut pair.server.transport).is_zero(),
                "nothing is due"
            );
        }
        let before = pair.server.received(server);
        pair.client.give(client, &b"wake up"[..]);
        pair.run_client_until("woken", |pair| {
            sleep(&mut pair.server.transport) < Duration::from_secs(1)
        });
        pair.run_until("received", |pair| {
            pair.server.received(server) == before + 7
        });
    }
}

/// How long a caller who goes to sleep now will sleep.
fn sleep(transport: &mut impl Transport) -> Duration {
    let longest = match transport.park() {
        Park::Busy => Duration::ZERO,
        Park::Fd(fd) if is_readable(fd) => Duration::ZERO,
        Park::Fd(_) => Duration::MAX,
        Park::Nap(longest) => longest,
    };
    transport.unpark();
    longest
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec::default())) == Ok(1)
}

/// Far more than any window, socket buffer or receive ring holds.
const FLOOD: usize = 64 << 20;

/// Sends one megabyte again and again to a stopped peer until nothing more is taken.
fn flood<N: Network>(pair: &mut Pair<N>, client: ConnId, server: ConnId) -> Bytes {
    // An odd length, so that a repetition in the wrong place shows.
    let chunk = Bytes::from(Random(3).bytes((1 << 20) - 7));
    pair.server.set_receive(server, false);
    for _ in 0..FLOOD / chunk.len() {
        pair.client.give(client, chunk.clone());
    }
    // The network may never come to rest: who is stopped is asked again and again, for ever.
    let (mut untaken, mut quiet) = (usize::MAX, 0);
    pair.run_until("full", |pair| {
        let before = std::mem::replace(&mut untaken, pair.client.untaken(client));
        quiet = if untaken == before { quiet + 1 } else { 0 };
        quiet == QUIET
    });
    assert!(untaken > 0, "nothing pushes back");
    chunk
}

/// Whether the received bytes are `chunk` again and again.
fn repeats(received: &[u8], from: usize, chunk: &[u8]) -> bool {
    let mut at = from % chunk.len();
    let mut rest = received;
    while !rest.is_empty() {
        let len = rest.len().min(chunk.len() - at);
        let (head, tail) = rest.split_at(len);
        if head != &chunk[at..at + len] {
            return false;
        }
        rest = tail;
        at = 0;
    }
    true
}

pub(crate) fn a_slow_peer_pushes_back<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let chunk = flood(&mut pair, client, server);
    assert_eq!(pair.server.received(server), 0);

    let (rooms, untaken) = (pair.client.rooms(client), pair.client.untaken(client));
    pair.server.set_receive(server, true);
    let mut seen = 0;
    pair.run_until("half of it sent", |pair| {
        let received = pair.server.bytes(server);
        assert!(repeats(&received, seen, &chunk), "altered or reordered");
        seen += received.len();
        pair.client.untaken(client) < untaken / 2
    });
    assert!(pair.client.rooms(client) > rooms);
}

pub(crate) fn a_stopped_connection_does_not_stop_others<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let address = pair.server.local(server);
    let (other_client, other_server) = pair.connect(address);
    flood(&mut pair, client, server);
    let bytes = Random(4).bytes(3_000_000);
    pair.client.give(other_client, bytes.clone());
    pair.run_until("past the stopped one", |pair| {
        pair.server.received(other_server) == bytes.len()
    });
    assert!(pair.server.bytes(other_server) == bytes);
    assert_eq!(pair.server.received(server), 0);
}

pub(crate) fn stopping_and_resuming_loses_nothing<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let mut random = Random(5);
    let (queue, sent) = segments(&mut random, 4_000_000);
    for segment in queue {
        pair.client.give(client, segment);
    }
    let mut enabled = true;
    pair.run_until("received", |pair| {
        if random.below(3) == 0 {
            enabled = !enabled;
            // Saying the same twice changes nothing.
            pair.server.set_receive(server, enabled);
            pair.server.set_receive(server, enabled);
        }
        pair.server.received(server) == sent.len()
    });
    assert_same(&pair.server.bytes(server), &sent);
}
