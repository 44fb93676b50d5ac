//! Two transports of one host: the ports are the host's, and may be shared.

use std::io::ErrorKind;
use std::net::SocketAddr;

use msgr_transport::{ListenOptions, ListenerId, OpenError, Operation, Port, Transport};

use super::ports::{client_listens, connect, exchange, kind};
use super::{Network, Node, Pair, Side};

fn join<T: Transport>(
    node: &mut Node<T>,
    at: SocketAddr,
) -> Result<(ListenerId, SocketAddr), OpenError> {
    let options = ListenOptions {
        port: Port::Join,
        ..ListenOptions::default()
    };
    node.listen_with(at, &options)
}

pub(crate) fn a_port_is_taken_from_all<N: Network>() {
    let mut pair = Pair::<N>::new();
    let (ours, theirs) = (client_listens(&mut pair), pair.listen());
    assert_eq!(kind(pair.client.listen(theirs)), ErrorKind::AddrInUse);
    assert_eq!(kind(pair.server.listen(ours)), ErrorKind::AddrInUse);
    // Originating from it gives it to nobody.
    let (conn, accepted) = connect(&mut pair, ours, theirs);
    assert_eq!(kind(pair.server.listen(ours)), ErrorKind::AddrInUse);
    exchange(&mut pair, conn, accepted.conn);
}

pub(crate) fn transports_that_join_split_the_connections<N: Network>() {
    let mut pair = Pair::<N>::new();
    let address = pair.listen();
    let (_, same) = join(&mut pair.client, address).expect("it joins");
    assert_eq!(same, address);
    let conns: Vec<_> = (0..64)
        .map(|_| pair.client.connect(address, None).expect("it starts"))
        .collect();
    pair.run_until("all are up at both ends", |pair| {
        let accepted = pair.client.accepted.len() + pair.server.accepted.len();
        accepted == conns.len() && conns.iter().all(|&conn| pair.client.is_up(conn))
    });
    assert!(!pair.client.accepted.is_empty() && !pair.server.accepted.is_empty());
}

pub(crate) fn a_port_is_free_again_after_its_last_listener<N: Network>() {
    let mut pair = Pair::<N>::new();
    let at = pair.network.address(Side::Server);
    let (first, address) = pair.server.listen(at).expect("it listens");
    let (second, _) = join(&mut pair.server, address).expect("it joins");
    let (client, server) = pair.connect(address);
    pair.server.unlisten(first);
    assert_eq!(kind(pair.client.listen(address)), ErrorKind::AddrInUse);
    pair.server.unlisten(second);
    // What was accepted lives on and is in nobody's way.
    pair.client.listen(address).expect("it is free");
    exchange(&mut pair, client, server);
}

pub(crate) fn whoever_joins_a_port_originates_from_it_too<N: Network>() {
    let mut pair = Pair::<N>::new();
    let (shared, to) = (pair.listen(), pair.listen());
    join(&mut pair.client, shared).expect("it joins");
    let (conn, accepted) = connect(&mut pair, shared, to);
    assert_eq!(accepted.remote, shared);
    exchange(&mut pair, conn, accepted.conn);
}

pub(crate) fn a_foreign_port_is_no_origin<N: Network>() {
    let mut pair = Pair::<N>::new();
    let (foreign, to) = (pair.listen(), pair.listen());
    let error = pair.client.connect(to, Some(foreign));
    let error = error.expect_err("the server listens there, not the client");
    assert_eq!(error.operation, Operation::Connect);
    assert_eq!(error.address, Some(to));
    assert_eq!(error.source.kind(), ErrorKind::AddrInUse);
}
