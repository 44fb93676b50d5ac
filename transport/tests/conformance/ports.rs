//! Ports: who may listen on one, and what originates from it.

use std::io::ErrorKind;
use std::net::SocketAddr;

use msgr_transport::{Close, CloseReason, ConnId, OpenError, Operation, Transport};

use super::{Accepted, Network, Pair, Side};

/// Lets the client listen where it may.
pub(super) fn client_listens<N: Network>(pair: &mut Pair<N>) -> SocketAddr {
    let at = pair.network.address(Side::Client);
    pair.client.listen(at).expect("the client listens").1
}

/// Connects the client from `from` to the server at `to`: the client's end, and what the server
/// knows of the other.
pub(super) fn connect<N: Network>(
    pair: &mut Pair<N>,
    from: SocketAddr,
    to: SocketAddr,
) -> (ConnId, Accepted) {
    let conn = pair.client.connect(to, Some(from)).expect("it starts");
    let accepted = pair.accept();
    pair.run_until("connected", |pair| pair.client.is_up(conn));
    (conn, accepted)
}

/// Lets the two ends talk.
pub(super) fn exchange<N: Network>(pair: &mut Pair<N>, client: ConnId, server: ConnId) {
    pair.client.give(client, &b"there"[..]);
    pair.server.give(server, &b"back"[..]);
    let (mut there, mut back) = (Vec::new(), Vec::new());
    pair.run_until("exchanged", |pair| {
        there.extend(pair.server.bytes(server));
        back.extend(pair.client.bytes(client));
        there.len() >= 5 && back.len() >= 4
    });
    assert_eq!((&there[..], &back[..]), (&b"there"[..], &b"back"[..]));
}

pub(super) fn kind<T: std::fmt::Debug>(result: Result<T, OpenError>) -> ErrorKind {
    result.expect_err("it must not work").source.kind()
}

pub(crate) fn a_port_is_taken_once<N: Network>() {
    let mut pair = Pair::<N>::new();
    let address = pair.listen();
    let error = pair.server.listen(address).expect_err("it is taken");
    assert_eq!(error.operation, Operation::Listen);
    assert_eq!(error.address, Some(address));
    assert_eq!(error.transport, pair.server.transport.name());
    assert_eq!(error.source.kind(), ErrorKind::AddrInUse);
    let (client, server) = pair.connect(address);
    exchange(&mut pair, client, server);
}

pub(crate) fn a_connection_originates_from_where_it_is_told<N: Network>() {
    let mut pair = Pair::<N>::new();
    let address = pair.listen();
    // A port that was free a moment ago.
    let at = pair.network.address(Side::Client);
    let (listener, from) = pair.client.listen(at).expect("it listens");
    pair.client.unlisten(listener);

    let conn = pair.client.connect(address, Some(from)).expect("it starts");
    let accepted = pair.accept();
    pair.run_until("connected", |pair| pair.client.is_up(conn));
    assert_eq!(accepted.remote, from);
    assert_eq!(pair.client.local(conn), from);

    let any_port = SocketAddr::new(from.ip(), 0);
    let conn = pair
        .client
        .connect(address, Some(any_port))
        .expect("it starts");
    let accepted = pair.accept();
    pair.run_until("connected", |pair| pair.client.is_up(conn));
    assert_eq!(accepted.remote.ip(), from.ip());
    assert_eq!(pair.client.local(conn), accepted.remote);
}

pub(crate) fn a_connection_originates_from_the_port_listened_on<N: Network>() {
    let mut pair = Pair::<N>::new();
    let (from, to) = (client_listens(&mut pair), pair.listen());
    let (conn, accepted) = connect(&mut pair, from, to);
    assert_eq!(accepted.remote, from);
    assert_eq!(pair.client.local(conn), from);

    // The port is still listened on, by nobody but the client.
    let back = pair.server.connect(from, None).expect("it starts");
    pair.run_until("accepted", |pair| !pair.client.accepted.is_empty());
    let accepted_back = pair.client.accepted.pop_front().expect("just looked");
    pair.run_until("connected", |pair| pair.server.is_up(back));
    assert_eq!(accepted_back.local, from);
    assert_eq!(accepted_back.remote, pair.server.local(back));
    exchange(&mut pair, conn, accepted.conn);
    exchange(&mut pair, accepted_back.conn, back);
}

pub(crate) fn one_port_reaches_many_peers<N: Network>() {
    let mut pair = Pair::<N>::new();
    let from = client_listens(&mut pair);
    let peers = [pair.listen(), pair.listen(), pair.listen()];
    let ends = peers.map(|to| (to, connect(&mut pair, from, to)));
    for (to, (conn, accepted)) in ends {
        assert_eq!((accepted.local, accepted.remote), (to, from));
        exchange(&mut pair, conn, accepted.conn);
    }
}

pub(crate) fn two_addresses_name_one_connection<N: Network>() {
    let mut pair = Pair::<N>::new();
    let (from, to) = (client_listens(&mut pair), pair.listen());
    let (conn, accepted) = connect(&mut pair, from, to);

    let again = pair.client.connect(to, Some(from));
    assert_eq!(kind(again), ErrorKind::AddrNotAvailable);
    let back = pair.server.connect(from, Some(to));
    assert_eq!(kind(back), ErrorKind::AddrNotAvailable);
    exchange(&mut pair, conn, accepted.conn);

    // The name is free again when the connection is over at both ends.
    pair.client.close(conn, Close::Abort);
    pair.run_until("closed", |pair| pair.server.closed(accepted.conn).is_some());
    let (conn, accepted) = connect(&mut pair, from, to);
    assert_eq!(accepted.remote, from);
    exchange(&mut pair, conn, accepted.conn);
}

pub(crate) fn attempts_that_cross_make_one_connection<N: Network>() {
    let mut pair = Pair::<N>::new();
    let (client, server) = (client_listens(&mut pair), pair.listen());
    let there = pair
        .client
        .connect(server, Some(client))
        .expect("the first");
    let other = match pair.server.connect(client, Some(server)) {
        // Both are on their way, and meet.
        Ok(back) => {
            pair.run_until("connected", |pair| pair.server.is_up(back));
            back
        }
        // The first has arrived already.
        Err(error) => {
            assert_eq!(error.source.kind(), ErrorKind::AddrNotAvailable);
            pair.accept().conn
        }
    };
    pair.run_until("connected", |pair| pair.client.is_up(there));
    exchange(&mut pair, there, other);
    pair.settle();
    assert!(pair.client.accepted.is_empty() && pair.server.accepted.is_empty());
}

pub(crate) fn a_port_does_not_reach_itself<N: Network>() {
    let mut pair = Pair::<N>::new();
    let address = client_listens(&mut pair);
    let conn = pair.client.connect(address, Some(address));
    let conn = conn.expect("it starts");
    pair.run_until("closed", |pair| pair.client.closed(conn).is_some());
    assert_eq!(pair.client.closed(conn), Some(CloseReason::Refused));
    assert!(!pair.client.was_up(conn) && pair.client.accepted.is_empty());
}
