//! Listening, connecting, and what both ends are told about it.

use std::collections::HashSet;

use msgr_transport::CloseReason;

use super::{Network, Pair, Side};

pub(crate) fn listening_tells_the_real_port<N: Network>() {
    let mut pair = Pair::<N>::new();
    let asked = pair.network.address(Side::Server);
    assert_eq!(asked.port(), 0);
    let (first, second) = (pair.listen(), pair.listen());
    assert_eq!(first.ip(), asked.ip());
    assert_ne!(first.port(), 0);
    assert_ne!(first, second, "each gets a port of its own");
}

pub(crate) fn both_ends_agree_on_their_addresses<N: Network>() {
    let mut pair = Pair::<N>::new();
    let at = pair.network.address(Side::Server);
    let (listener, address) = pair.server.listen(at).expect("it listens");
    let conn = pair.client.connect(address, None).expect("it starts");
    let accepted = pair.accept();
    pair.run_until("connected", |pair| pair.client.is_up(conn));
    assert_eq!(accepted.listener, listener);
    assert_eq!(accepted.local, address);
    assert_eq!(accepted.remote, pair.client.local(conn));
    assert_ne!(accepted.remote.port(), 0);
}

pub(crate) fn ipv6_works_like_ipv4<N: Network>() {
    let mut pair = Pair::<N>::new();
    let Some(at) = pair.network.address_v6(Side::Server) else {
        return;
    };
    let (_, address) = pair.server.listen(at).expect("it listens");
    assert!(address.is_ipv6() && address.port() != 0);
    let (client, server) = pair.connect(address);
    assert!(pair.client.local(client).is_ipv6());
    pair.client.give(client, &b"six"[..]);
    pair.run_until("received", |pair| pair.server.received(server) == 3);
    assert_eq!(pair.server.bytes(server), b"six");
}

pub(crate) fn nobody_there_is_refused<N: Network>() {
    let mut pair = Pair::<N>::new();
    let at = pair.network.address(Side::Server);
    let (listener, address) = pair.server.listen(at).expect("it listens");
    pair.server.unlisten(listener);
    let conn = pair.client.connect(address, None).expect("it starts");
    pair.run_until("closed", |pair| pair.client.closed(conn).is_some());
    assert_eq!(pair.client.closed(conn), Some(CloseReason::Refused));
    assert!(!pair.client.was_up(conn), "first connected, then refused");
}

pub(crate) fn unlistening_keeps_what_was_accepted<N: Network>() {
    let mut pair = Pair::<N>::new();
    let at = pair.network.address(Side::Server);
    let (listener, address) = pair.server.listen(at).expect("it listens");
    let ends: Vec<_> = (0..3).map(|_| pair.connect(address)).collect();
    let distinct: HashSet<_> = ends.iter().map(|&(_, server)| server).collect();
    assert_eq!(distinct.len(), ends.len());
    pair.server.unlisten(listener);

    let late = pair.client.connect(address, None).expect("it starts");
    pair.run_until("declined", |pair| pair.client.closed(late).is_some());
    for (client, server) in ends {
        pair.client.give(client, &b"there"[..]);
        pair.server.give(server, &b"back"[..]);
        pair.run_until("exchanged", |pair| {
            pair.server.received(server) == 5 && pair.client.received(client) == 4
        });
        assert_eq!(pair.server.bytes(server), b"there");
        assert_eq!(pair.client.bytes(client), b"back");
    }
}
