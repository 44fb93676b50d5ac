//! What connections meet whose two hosts do not agree about what there is between two addresses.

use std::io::ErrorKind;
use std::net::SocketAddr;

use msgr_transport::sim::{Crash, SimConfig};
use msgr_transport::{Close, CloseReason, ConnId, ConnectOptions, OpenError, Transport};

use crate::pair::{AT, CLIENT, Host, LATENCY, Pair, SERVER};

const FROM: SocketAddr = SocketAddr::new(CLIENT, 6789);

fn connect(host: &mut Host, from: SocketAddr, to: SocketAddr) -> Result<ConnId, OpenError> {
    host.sim.connect(to, &ConnectOptions { local: Some(from) })
}

/// Two hosts with a connection between the ports they listen on, which the client began.
fn connected() -> (Pair, ConnId, ConnId) {
    let mut pair = Pair::new(SimConfig::default());
    pair.client.listen(FROM);
    let client = connect(&mut pair.client, FROM, AT).expect("it starts");
    pair.settle();
    let server = pair.server.accepted[0];
    (pair, client, server)
}

fn exchange(pair: &mut Pair, client: ConnId, server: ConnId) {
    pair.client.send(client, b"there");
    pair.server.send(server, b"back");
    pair.settle();
    assert_eq!(pair.server.received(server), b"there");
    assert_eq!(pair.client.received(client), b"back");
}

#[test]
fn attempts_that_cross_meet() {
    let mut pair = Pair::new(SimConfig::default());
    pair.client.listen(FROM);
    let client = connect(&mut pair.client, FROM, AT).expect("it starts");
    pair.now += LATENCY / 2;
    pair.poll();
    let server = connect(&mut pair.server, AT, FROM).expect("nothing has arrived yet");
    pair.settle();
    assert_eq!(pair.network.connections(), [(FROM, AT)]);
    for (host, conn, local) in [(&pair.client, client, FROM), (&pair.server, server, AT)] {
        let connected = format!("Connected {{ conn: {conn:?}, local: {local} }}");
        assert_eq!(host.log, [connected], "and nobody accepts");
    }
    exchange(&mut pair, client, server);
    pair.server.sim.close(server, Close::Drain);
    pair.settle();
    assert_eq!(pair.client.closed, [(client, CloseReason::PeerClosed)]);
    connect(&mut pair.server, AT, FROM).expect("it is over");
}

#[test]
fn an_attempt_may_meet_one_that_was_given_up() {
    let mut pair = Pair::new(SimConfig::default());
    pair.client.listen(FROM);
    let client = connect(&mut pair.client, FROM, AT).expect("it starts");
    let server = connect(&mut pair.server, AT, FROM).expect("it starts");
    pair.client.sim.close(client, Close::Abort);
    pair.settle();
    assert_eq!(pair.server.closed, [(server, CloseReason::Reset)]);
    assert!(pair.client.log.is_empty(), "{:?}", pair.client.log);
    assert!(pair.network.connections().is_empty());
}

#[test]
fn whoever_comes_back_from_the_same_port_ends_what_it_has_forgotten() {
    let (mut pair, _, old) = connected();
    pair.network.crash(CLIENT, Crash::Silent);
    pair.client = Host::new(&pair.network, CLIENT);
    pair.settle();
    assert!(pair.server.closed.is_empty(), "it does not know yet");
    let client = connect(&mut pair.client, FROM, AT).expect("the host has forgotten");
    pair.settle();
    assert_eq!(pair.server.closed, [(old, CloseReason::Reset)]);
    assert_eq!(pair.network.connections(), [(FROM, AT)]);
    let new = pair.server.accepted[1];
    exchange(&mut pair, client, new);
}

#[test]
fn a_drained_connection_is_minded_until_the_peer_has_left_it() {
    let (mut pair, client, server) = connected();
    pair.client.send(client, b"last words");
    pair.server.sim.set_receive(server, false);
    pair.client.sim.close(client, Close::Drain);
    pair.settle();
    let error = connect(&mut pair.client, FROM, AT).expect_err("it would break the first");
    assert_eq!(error.source.kind(), ErrorKind::AddrNotAvailable);
    pair.server.sim.set_receive(server, true);
    pair.settle();
    assert_eq!(pair.server.received(server), b"last words");
    assert_eq!(pair.server.closed, [(server, CloseReason::PeerClosed)]);
    connect(&mut pair.client, FROM, AT).expect("it is over");
}

#[test]
fn an_aborted_connection_is_over_at_once_where_it_was_aborted() {
    let (mut pair, client, old) = connected();
    pair.client.sim.close(client, Close::Abort);
    let error = connect(&mut pair.server, AT, FROM).expect_err("the server does not know");
    assert_eq!(error.source.kind(), ErrorKind::AddrNotAvailable);
    let client = connect(&mut pair.client, FROM, AT).expect("it is over here");
    pair.settle();
    assert_eq!(pair.server.closed, [(old, CloseReason::Reset)]);
    let new = pair.server.accepted[1];
    exchange(&mut pair, client, new);
}

#[test]
fn a_refused_attempt_leaves_nothing_behind() {
    let mut pair = Pair::new(SimConfig::default());
    let nobody = SocketAddr::new(SERVER, 1);
    for attempts in 1..4 {
        connect(&mut pair.client, FROM, nobody).expect("it starts");
        connect(&mut pair.client, FROM, nobody).expect_err("one at a time");
        pair.settle();
        assert_eq!(pair.client.closed.len(), attempts);
    }
}
