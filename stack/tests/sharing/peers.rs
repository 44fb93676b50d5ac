//! Whom an acceptor takes a peer for, and what it reaches it by, on all networks.

use std::collections::HashSet;
use std::time::Instant;

use msgr::protocol::{EntityAddr, EntityAddrVec, EntityType, Policy};

use super::world::World;
use super::{Log, assert_in_use, message};

/// Makes a test of each scenario on the simulated network and one on real sockets, and of those first
/// listed, in which no two processes share a host's address, one on userspace TCP.
macro_rules! all_networks {
    ($($apart:ident,)* + $($together:ident,)*) => {
        mod on_userspace_tcp {
            use super::World;
            $(#[test]
            fn $apart() {
                super::$apart(&World::on_userspace_tcp());
            })*
        }

        all_networks! { $($apart,)* $($together,)* }
    };
    ($($scenario:ident,)*) => {
        mod simulated {
            use super::World;
            $(#[test]
            fn $scenario() {
                for seed in 0..20 {
                    super::$scenario(&World::simulated(seed));
                }
            })*
        }

        mod on_sockets {
            use super::World;
            $(#[test]
            fn $scenario() {
                super::$scenario(&World::on_sockets());
            })*
        }
    };
}

all_networks! {
    connections_originate_from_the_bound_port,
    a_second_connection_between_two_ports_originates_from_another,
    peers_that_connect_to_each_other_at_once_from_their_ports_meet,
    a_peer_is_the_same_over_reconnects,
    the_acceptor_calls_back_over_the_connection_that_its_peer_opened,
    +
    attempts_after_a_refusal_originate_from_the_bound_port_too,
    a_port_has_one_messenger,
    endpoints_on_one_host_are_never_merged,
}

fn connections_originate_from_the_bound_port(world: &World) {
    let client = world.bound(1, "client.1", Policy::LOSSLESS_CLIENT);
    let servers = [2, 3].map(|host| world.bound(host, "osd.0", Policy::STATEFUL_SERVER));
    let connections = servers.each_ref().map(|server| client.greet(server, 1));
    world.wait_for("delivery to both", || {
        servers.iter().all(|server| server.received() == [1])
    });
    for server in &servers {
        let peer = server.accepted(0).peer().unwrap();
        assert_eq!(Some(peer.socket), client.addr().socket);
        assert_eq!(peer.addrs, client.addr().into());
    }

    // And so does the next one, if one breaks.
    client.strike();
    for (number, connection) in connections.iter().enumerate() {
        connection.send(message(2)).unwrap();
        world.wait_for("delivery", || servers[number].received() == [1, 2]);
    }
    assert_eq!(client.messenger.totals().reconnects, 1);
    for server in &servers {
        let peer = server.accepted(0).peer().unwrap();
        assert_eq!(Some(peer.socket), client.addr().socket);
    }
}

fn attempts_after_a_refusal_originate_from_the_bound_port_too(world: &World) {
    let client = world.bound(1, "client.1", Policy::LOSSLESS_CLIENT);
    // Its host is no other test's, so that nobody gets its port meanwhile.
    let gone = world.bound(99, "osd.0", Policy::STATEFUL_SERVER);
    gone.reactor.borrow_mut().shut_down(Instant::now());
    client.greet(&gone, 1);
    world.wait_for("refusals", || client.messenger.totals().interruptions == 2);
    let server = world.try_start(99, "osd.0", Policy::STATEFUL_SERVER, gone.addr);
    let server = server.unwrap();
    world.wait_for("delivery", || server.received() == [1]);
    let peer = server.accepted(0).peer().unwrap();
    assert_eq!(Some(peer.socket), client.addr().socket);
}

fn a_second_connection_between_two_ports_originates_from_another(world: &World) {
    let client = world.bound(1, "client.1", Policy::LOSSY_CLIENT);
    let server = world.bound(2, "osd.0", Policy::STATELESS_SERVER);
    for tid in 0..2 {
        let connection = client
            .messenger
            .connect_anonymously(EntityType::Osd, server.addr());
        connection.unwrap().send(message(tid)).unwrap();
        world.wait_for("delivery", || server.received().contains(&tid));
    }
    let [first, second] = [0, 1].map(|which| server.accepted(which).peer().unwrap());
    assert_eq!(Some(first.socket), client.addr().socket);
    assert_eq!(second.socket.ip(), first.socket.ip());
    assert_ne!(second.socket.port(), first.socket.port());
    assert_eq!(
        second.addrs, first.addrs,
        "it is the same peer all the same"
    );
}

fn peers_that_connect_to_each_other_at_once_from_their_ports_meet(world: &World) {
    let [a, b] =
        [1, 2].map(|host| world.bound(host, &format!("osd.{host}"), Policy::LOSSLESS_PEER));
    a.greet(&b, 1);
    b.greet(&a, 2);
    world.wait_for("delivery", || {
        (a.received(), b.received()) == (vec![2], vec![1])
    });
    let with_b = a.messenger.connect(EntityType::Osd, b.addr()).unwrap();
    assert_eq!(with_b.peer().unwrap().addrs, b.addr().into());
    world.wait_for("the end of the race", || {
        [&a, &b].map(|node| node.reactor.borrow().connections()) == [1, 1]
    });
}

fn a_port_has_one_messenger(world: &World) {
    let server = world.bound(1, "osd.0", Policy::STATELESS_SERVER);
    let start = || world.try_start(1, "osd.1", Policy::STATELESS_SERVER, server.addr);
    assert_in_use(&start().err().unwrap());
    server.reactor.borrow_mut().shut_down(Instant::now());
    assert_eq!(start().unwrap().addr, server.addr);
}

fn a_peer_is_the_same_over_reconnects(world: &World) {
    let server = world.bound(1, "osd.0", Policy::STATEFUL_SERVER);
    let bound = world.bound(2, "client.1", Policy::LOSSLESS_CLIENT);
    let unbound = world.unbound(3, "client.2", Policy::LOSSLESS_CLIENT);
    for (number, client) in [bound, unbound].into_iter().enumerate() {
        let tid = |n: u64| 10 * number as u64 + n;
        let ours = client.greet(&server, tid(0));
        world.wait_for("delivery", || server.received().contains(&tid(0)));
        let theirs = server.accepted(number);
        let addrs = theirs.peer().unwrap().addrs.clone();
        if let Some(addr) = client.addr {
            assert_eq!(addrs, addr.into());
        }
        for n in 1..5 {
            client.strike();
            ours.send(message(tid(n))).unwrap();
            world.wait_for("delivery", || server.received().contains(&tid(n)));
            assert_eq!(theirs.peer().unwrap().addrs, addrs);
        }
        assert_eq!(client.messenger.totals().reconnects, 4);
        assert_eq!(server.witness.log().accepted.len(), number + 1);
    }
    assert_eq!(server.reactor.borrow().connections(), 2);
}

fn endpoints_on_one_host_are_never_merged(world: &World) {
    // Nothing but the nonce tells the unbound ones apart, nothing but the port the others.
    let server = world.bound(1, "osd.0", Policy::STATEFUL_SERVER);
    let unbound = || world.unbound(2, "client.1", Policy::LOSSLESS_CLIENT);
    let bound = || world.bound(2, "client.1", Policy::LOSSLESS_CLIENT);
    let clients = [unbound(), unbound(), bound(), bound()];
    let numbered = || (0..).zip(&clients);
    let ours: Vec<_> = numbered()
        .map(|(tid, client)| client.greet(&server, tid))
        .collect();
    world.wait_for("delivery", || server.received().len() == 4);
    for client in &clients {
        client.strike();
    }
    for (tid, connection) in (4..).zip(&ours) {
        connection.send(message(tid)).unwrap();
    }
    world.wait_for("delivery", || server.received().len() == 8);
    assert_eq!(server.reactor.borrow().connections(), 4);
    let identities = |log: &Log| -> HashSet<_> {
        let peers = log
            .accepted
            .iter()
            .map(|connection| connection.peer().unwrap());
        peers.map(|peer| identity(&peer.addrs)).collect()
    };
    assert_eq!(identities(&server.witness.log()).len(), 4);
    assert!(server.witness.log().ends.is_empty());
}

fn the_acceptor_calls_back_over_the_connection_that_its_peer_opened(world: &World) {
    let pairs = [
        (Policy::STATEFUL_SERVER, Policy::LOSSLESS_CLIENT),
        (Policy::STATELESS_REGISTERED_SERVER, Policy::LOSSY_CLIENT),
        (Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER),
        (Policy::LOSSLESS_PEER_REUSE, Policy::LOSSLESS_PEER_REUSE),
    ];
    for (host, (here, there)) in (1..).zip(pairs) {
        let server = world.bound(10 * host, "osd.0", here);
        let unbound = world.unbound(10 * host + 1, "client.1", there);
        let bound = world.bound(10 * host + 2, "client.2", there);
        for (number, client) in [unbound, bound].iter().enumerate() {
            let tid = |n: u64| 10 * number as u64 + n;
            let ours = client.greet(&server, tid(0));
            world.wait_for("delivery", || server.received().contains(&tid(0)));
            let theirs = server.accepted(number);
            let addr = identity(&theirs.peer().unwrap().addrs);
            let call_back = |tid| {
                let back = server.messenger.connect(EntityType::Client, addr).unwrap();
                assert!(back.is(&theirs), "{here}");
                back.send(message(tid)).unwrap();
            };
            call_back(tid(1));
            world.wait_for("the call back", || client.received() == [tid(1)]);
            if !here.lossy {
                // Also while there is no stream.
                client.strike();
                ours.send(message(tid(2))).unwrap();
                world.wait_for("the break", || !theirs.is_connected());
                call_back(tid(3));
                world.wait_for("the call back", || client.received() == [tid(1), tid(3)]);
                world.wait_for("delivery", || server.received().contains(&tid(2)));
            }
            assert_eq!(client.messenger.totals().accepted, 0);
            assert_eq!(server.messenger.totals().connected, 0);
            assert_eq!(client.reactor.borrow().connections(), 1);
            assert_eq!(server.witness.log().accepted.len(), number + 1);
        }
    }
}

/// The address that names a peer.
fn identity(addrs: &EntityAddrVec) -> EntityAddr {
    assert_eq!(addrs.iter().count(), 1);
    *addrs.iter().next().unwrap()
}
