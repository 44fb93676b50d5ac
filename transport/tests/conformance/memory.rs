//! Who owns which bytes, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use msgr_transport::{Close, ConnId, Transport};

use super::{Network, Pair, Random};

/// Bytes that count their living.
struct Counted {
    bytes: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

fn counted(bytes: Vec<u8>, alive: &Arc<AtomicUsize>) -> Bytes {
    alive.fetch_add(1, Ordering::Relaxed);
    Bytes::from_owner(Counted {
        bytes,
        alive: Arc::clone(alive),
    })
}

pub(crate) fn a_delivered_segment_is_dropped<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let alive = Arc::default();
    let mut random = Random(12);
    for _ in 0..200 {
        let len = 1 + random.below(20_000);
        let segment = counted(random.bytes(len), &alive);
        pair.client.give(client, segment);
    }
    assert_eq!(alive.load(Ordering::Relaxed), 200);
    // The connection stays open and idle: only the delivery can release them.
    pair.run_until("released", |pair| {
        drop(pair.server.slices(server));
        alive.load(Ordering::Relaxed) == 0
    });
}

pub(crate) fn an_aborted_segment_is_dropped<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let alive = Arc::default();
    pair.server.set_receive(server, false);
    for _ in 0..64 {
        pair.client.give(client, counted(vec![1; 1 << 20], &alive));
    }
    pair.settle();
    assert!(alive.load(Ordering::Relaxed) > 0, "nothing is stuck");
    pair.client.close(client, Close::Abort);
    pair.server.close(server, Close::Abort);
    pair.run_until("released", |_| alive.load(Ordering::Relaxed) == 0);
}

pub(crate) fn received_bytes_outlive_everything<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let first = Random(13).bytes(300_000);
    pair.client.give(client, first.clone());
    pair.run_until("received", |pair| {
        pair.server.received(server) == first.len()
    });
    let kept = pair.server.slices(server);
    // Enough to use every block again that is not held.
    for _ in 0..16 {
        let before = pair.server.received(server);
        pair.client.give(client, vec![0xee; 1 << 20]);
        pair.run_until("received", |pair| {
            drop(pair.server.slices(server));
            pair.server.received(server) == before + (1 << 20)
        });
    }
    pair.client.close(client, Close::Abort);
    pair.run_until("closed", |pair| pair.server.closed(server).is_some());
    drop(pair);
    assert!(kept.concat() == first, "overwritten while held");
}

/// Sends `before`, then a large run to be placed, then `after`, and receives them.
fn place_between<N: Network>(pair: &mut Pair<N>, client: ConnId, server: ConnId, large: usize) {
    let mut random = Random(large as u64);
    let (before, run, after) = (random.bytes(100), random.bytes(large), random.bytes(5_000));
    pair.client.give(client, before.clone());
    let start = pair.server.received(server);
    pair.run_until("before", |pair| {
        pair.server.received(server) == start + before.len()
    });
    assert!(pair.server.bytes(server) == before);

    let mut whole = BytesMut::with_capacity(large);
    let rest = whole.split_off(large);
    drop(rest);
    assert_eq!(whole.capacity(), large);
    let memory = whole.as_ptr();
    let placed = pair.server.transport.place(server, whole);
    let accepted = match placed {
        Ok(()) => {
            let second = BytesMut::with_capacity(64);
            let second = pair.server.transport.place(server, second);
            assert!(second.is_err(), "one placement at a time");
            true
        }
        Err(buffer) => {
            assert!(
                buffer.is_empty() && buffer.as_ptr() == memory,
                "given back untouched"
            );
            false
        }
    };
    pair.client.give(client, run.clone());
    pair.client.give(client, after.clone());
    pair.run_until("run and after", |pair| {
        pair.server.received(server) == start + before.len() + run.len() + after.len()
    });
    let slices = pair.server.slices(server);
    if accepted {
        assert_eq!(slices[0].len(), large, "one event for the whole run");
        assert_eq!(slices[0].as_ptr(), memory, "in the memory that was given");
    }
    let received = slices.concat();
    assert!(received[..large] == run, "altered in its place");
    assert!(received[large..] == after, "altered behind it");
}

pub(crate) fn a_run_lands_where_it_is_placed<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    for large in [1, 4_096, 65_537, 1 << 20, 5_000_000] {
        place_between(&mut pair, client, server, large);
    }
}

pub(crate) fn a_placement_dies_with_its_connection<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let placed = pair
        .server
        .transport
        .place(server, BytesMut::with_capacity(1000));
    pair.client.give(client, vec![7; 999]);
    pair.step();
    pair.client.close(client, Close::Drain);
    pair.run_until("closed", |pair| pair.server.closed(server).is_some());
    let expected = if placed.is_ok() { 0 } else { 999 };
    assert_eq!(pair.server.received(server), expected);
}

pub(crate) fn a_full_buffer_is_no_place<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    let full = pair.server.transport.place(server, BytesMut::new());
    assert!(full.is_err());
    pair.client.give(client, &b"onwards"[..]);
    pair.run_until("received", |pair| pair.server.received(server) == 7);
}

pub(crate) fn sent_memory_may_come_from_the_pool<N: Network>() {
    let (mut pair, client, server) = Pair::<N>::connected();
    for turn in 0..50_u8 {
        let mut block = pair.client.transport.pool().take(100_000);
        block.resize(100_000, turn);
        let segment = block.split().freeze();
        pair.client.transport.pool().give(block, 100_000);
        pair.client.give(client, segment);
        pair.run_until("received", |pair| {
            pair.server.received(server) == 100_000 * (1 + usize::from(turn))
        });
        assert!(pair.server.bytes(server) == vec![turn; 100_000]);
    }
}
