//! What only the inside of a ring shows: who is looked at, and who is woken.

use super::*;
use bytes::Bytes;

/// Two transports with `count` connections between them, all accepted: their ends.
fn connected(count: usize) -> (Ring, Ring, Vec<(ConnId, ConnId)>) {
    let network = RingNetwork::default();
    let mut client = Ring::new(&network).unwrap();
    let mut server = Ring::new(&network).unwrap();
    let at = "127.0.0.1:0".parse().unwrap();
    let options = ListenOptions {
        backlog: count as u32,
        ..ListenOptions::default()
    };
    let (_, at) = server.listen(at, &options).unwrap();
    let started: Vec<_> = (0..count)
        .map(|_| client.connect(at, &ConnectOptions::default()).unwrap())
        .collect();
    let up = |events: Vec<Event>| -> Vec<ConnId> {
        let conns = events.into_iter().map(|event| match event {
            Event::Connected { conn, .. } | Event::Accepted { conn, .. } => conn,
            other => panic!("{other:?}"),
        });
        conns.collect()
    };
    let connected = up(poll(&mut client));
    let accepted = up(poll(&mut server));
    assert_eq!(connected, started);
    (
        client,
        server,
        connected.into_iter().zip(accepted).collect(),
    )
}

fn poll(ring: &mut Ring) -> Vec<Event> {
    let mut events = Vec::new();
    ring.poll(Instant::now(), &mut events);
    events
}

fn cool(ring: &mut Ring) {
    for _ in 0..=PATIENCE {
        assert!(poll(ring).is_empty());
    }
    assert!(ring.hot.is_empty());
}

fn send(ring: &mut Ring, conn: ConnId, bytes: &'static [u8]) {
    let mut queue = TxQueue::from([Bytes::from_static(bytes)]);
    assert_eq!(ring.send(conn, &mut queue), Ok(bytes.len()));
}

#[test]
fn idle_connections_are_not_looked_at() {
    let (mut client, mut server, ends) = connected(100);
    cool(&mut client);
    cool(&mut server);
    send(&mut client, ends[42].0, b"hello");
    client.flush();
    let events = poll(&mut server);
    assert!(
        matches!(events[..], [Event::Data { conn, .. }] if conn == ends[42].1),
        "{events:?}"
    );
    assert_eq!(server.hot, [ends[42].1]);
}

#[test]
fn many_hot_connections_cool_at_once_and_still_hear() {
    let (mut client, mut server, ends) = connected(HOT + 1);
    assert!(server.hot.is_empty(), "accepted, looked at, and left alone");
    for &(conn, _) in &ends {
        send(&mut client, conn, b"again");
    }
    client.flush();
    assert_eq!(poll(&mut server).len(), HOT + 1);
}

#[test]
fn more_doorbells_than_fit_are_all_answered() {
    let (mut client, mut server, ends) = connected(1500);
    cool(&mut server);
    for &(conn, _) in &ends {
        send(&mut client, conn, b"hello");
    }
    client.flush();
    assert_eq!(poll(&mut server).len(), ends.len());
}

#[test]
fn a_sleeper_is_woken_once_by_a_flush_and_nobody_else_ever() {
    let (mut client, mut server, ends) = connected(3);
    let before = client.cost();
    assert!(matches!(server.park(), Park::Fd(_)));
    for &(conn, _) in &ends {
        send(&mut client, conn, b"wake up");
    }
    assert_eq!(client.cost(), before, "not before the flush");
    client.flush();
    assert_eq!(client.cost().doorbells - before.doorbells, 3);
    assert_eq!(client.cost().system_calls - before.system_calls, 1);
    assert_eq!(server.endpoint.take_wakes(), 1);
    server.wakes = 0;
    server.unpark();
    assert_eq!(poll(&mut server).len(), 3);

    send(&mut client, ends[0].0, b"already awake");
    client.flush();
    assert_eq!(client.cost().system_calls - before.system_calls, 1);
}

#[test]
fn a_late_write_is_taken_from_the_counter_later() {
    let (_client, mut server, _) = connected(0);
    assert!(matches!(server.park(), Park::Fd(_)));
    // A waker that has claimed the wake-up, but has not written yet.
    assert!(!server.endpoint.unpark());
    server.unpark();
    assert_eq!(server.wakes, 1);
    assert!(matches!(server.park(), Park::Fd(_)));
    assert!(server.endpoint.knock(), "another one, in time");
    server.unpark();
    assert_eq!(server.wakes, 1, "of two claims one was written");
}

#[test]
fn what_arrives_while_arming_is_noticed() {
    let (mut client, mut server, ends) = connected(1);
    send(&mut client, ends[0].0, b"just now");
    client.flush();
    assert!(matches!(server.park(), Park::Busy));
    server.unpark();
    assert_eq!(poll(&mut server).len(), 1);
    assert!(matches!(server.park(), Park::Fd(_)));
}
