//! Streams break under sessions, at every byte of the handshake and behind it.

use msgr::protocol::Policy;
use msgr::transport::sim::{Fault, Side};

use super::ledger::Seen;
use super::networks::{Virtual, all_networks, quick, virtual_networks};
use super::world::{Spec, World};

/// Who accepts and who connects.
const PAIRS: [(Policy, Policy); 3] = [
    (Policy::STATEFUL_SERVER, Policy::LOSSLESS_CLIENT),
    (Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER),
    (Policy::LOSSLESS_PEER_REUSE, Policy::LOSSLESS_PEER_REUSE),
];
const SERVER: i64 = 1;
const CLIENT: i64 = 2;
/// A handshake and some messages, in bytes either way.
const EXCHANGE: u64 = 1200;
/// The same in frames.
const EXCHANGE_FRAMES: u64 = 16;

fn start(world: &mut World, (server, client): (Policy, Policy)) {
    world.start(Spec::bound(server));
    world.start(if client.standby {
        Spec::bound(client)
    } else {
        Spec::client(client)
    });
    world.connect(CLIENT, SERVER);
}

fn establish(world: &mut World, policies: (Policy, Policy)) {
    start(world, policies);
    world.send(CLIENT, SERVER, 2);
    world.deliver();
    world.send(SERVER, CLIENT, 2);
    world.deliver();
}

#[track_caller]
fn assert_same_session(world: &World) {
    for number in [SERVER, CLIENT] {
        let lost = world.saw(number, |seen| {
            matches!(seen, Seen::RemoteReset(_) | Seen::Reset(_))
        });
        assert_eq!(lost, 0, "{:?}", world.seen(number));
        assert_eq!(world.connections(number), 1);
    }
}

/// The first connection is cut `after` so many bytes `from` one side.
fn cut_at(
    on: Virtual,
    policies: (Policy, Policy),
    from: Side,
    after: u64,
    server_speaks: bool,
) -> World {
    let mut world = on.world(after, quick());
    world
        .network()
        .plan(world.first(), Fault::Cut { from, after });
    start(&mut world, policies);
    world.send(CLIENT, SERVER, if server_speaks { 1 } else { 3 });
    world.deliver();
    if server_speaks {
        world.wait_for("the server's end", |world| {
            world.connection(SERVER, CLIENT).is_some()
        });
        world.send(SERVER, CLIENT, 3);
        world.deliver();
    }
    assert_same_session(&world);
    world
}

virtual_networks! {
    /// `MissingServerIdenTest` and, where the server speaks next, `MissingServerIdenTest2`; crimson's
    /// `connect_fault`, `accept_fault`, `establishing_fault`, `connected_fault` and `accepted_fault` for
    /// lossless clients and for peers: each frame of the handshake cut in reading and in writing.
    fn a_stream_cut_after_any_byte_costs_no_message(on: Virtual) {
        for policies in PAIRS {
            for from in [Side::Connector, Side::Acceptor] {
                for server_speaks in [false, true] {
                    let (mut places, mut interrupted) = (0, 0);
                    for after in on.places(0..EXCHANGE, 0..EXCHANGE_FRAMES) {
                        let world = cut_at(on, policies, from, after, server_speaks);
                        places += 1;
                        interrupted += world.totals(CLIENT).interruptions;
                    }
                    assert!(interrupted * 5 > places, "the cuts came too late: {interrupted}");
                }
            }
        }
    }
}

virtual_networks! {
    /// Crimson's `reconnect_fault` and `reaccept_fault`: the second stream is cut as well.
    fn a_second_stream_cut_after_any_byte_costs_no_message(on: Virtual) {
        for policies in PAIRS {
            for from in [Side::Connector, Side::Acceptor] {
                for after in on.places(0..EXCHANGE, 0..EXCHANGE_FRAMES) {
                    let mut world = on.world(after, quick());
                    establish(&mut world, policies);
                    let second = Fault::Cut { from, after };
                    world.network().plan(world.socket(SERVER), second);
                    if policies.1.standby {
                        world.network().plan(world.socket(CLIENT), second);
                    }
                    world.strike(CLIENT);
                    world.send(CLIENT, SERVER, 3);
                    world.send(SERVER, CLIENT, 3);
                    world.deliver();
                    assert_same_session(&world);
                    assert!(world.totals(CLIENT).reconnects > 0);
                }
            }
        }
    }
}

all_networks! {
    /// `ReconnectTest`: the stream is dropped on both sides in turn, the session stays.
    fn reconnect(world: &mut World) {
        for policies in PAIRS {
            establish(world, policies);
            for round in 0..20 {
                let (striker, other) = if round % 2 == 0 {
                    (SERVER, CLIENT)
                } else {
                    (CLIENT, SERVER)
                };
                world.strike(striker);
                world.send(striker, other, 5);
                world.send(other, striker, 5);
                world.deliver();
            }
            // The end of the last stream but one may come later than what the last has brought.
            world.settle(SERVER, 1);
            world.settle(CLIENT, 1);
            assert_same_session(world);
            let totals = world.totals(CLIENT);
            assert!(totals.reconnects >= 20 && totals.replayed > 0, "{totals:?}");
            world.stop_all();
        }
    }
}

all_networks! {
    /// `ClientStandbyTest`: a server with messages for a client that has gone keeps them; the client
    /// comes back and gets them.
    fn a_server_keeps_what_it_has_for_a_client_that_is_away(world: &mut World) {
        establish(world, PAIRS[0]);
        // The server notices first, and cannot connect.
        world.strike(SERVER);
        world.send(SERVER, CLIENT, 10);
        world.deliver();
        assert_same_session(world);
        assert_eq!(world.totals(SERVER).connected, 0);
        assert!(world.totals(SERVER).reconnects > 0);
    }
}

virtual_networks! {
    /// Peers without anything to send stand by, and whoever has something first connects.
    fn peers_stand_by_until_one_has_something_to_send(on: Virtual) {
        for (first, second) in [(SERVER, CLIENT), (CLIENT, SERVER)] {
            for policies in &PAIRS[1..] {
                let mut world = on.world(1, quick());
                establish(&mut world, *policies);
                world.run(std::time::Duration::from_secs(1));
                let links = world.network().connections();
                let (connector, acceptor) = links[0];
                let cut = Fault::Cut {
                    from: Side::Connector,
                    after: 0,
                };
                assert!(world.network().inject(connector, acceptor, cut));
                world.run(std::time::Duration::from_secs(100));
                assert!(world.network().connections().is_empty(), "nobody connects");
                let before = world.totals(first).interruptions;
                world.send(first, second, 1);
                world.deliver();
                assert_eq!(world.totals(first).interruptions, before);
                assert_same_session(&world);
            }
        }
    }
}

virtual_networks! {
    /// A lossless client comes back even with nothing to send.
    fn a_client_comes_back_by_itself(on: Virtual) {
        let mut world = on.world(1, quick());
        establish(&mut world, PAIRS[0]);
        world.run(std::time::Duration::from_secs(1));
        let (connector, acceptor) = world.network().connections()[0];
        let cut = Fault::Cut {
            from: Side::Connector,
            after: 0,
        };
        assert!(world.network().inject(connector, acceptor, cut));
        world.run(std::time::Duration::from_secs(1));
        assert_eq!(world.network().connections().len(), 1);
        assert_eq!(world.totals(CLIENT).reconnects, 1);
        assert_eq!(world.totals(SERVER).reconnects, 1);
    }
}

/// The first connection of a lossy client, on which something befalls it, and a second one.
fn lossy(on: Virtual, fault: Fault) -> World {
    let mut world = on.world(1, quick());
    world.network().plan(world.first(), fault);
    start(&mut world, (Policy::STATELESS_SERVER, Policy::LOSSY_CLIENT));
    world.send(CLIENT, SERVER, 3);
    world.run(std::time::Duration::from_secs(2000));
    let sent = world.ledger(SERVER).count;
    assert!(sent <= 3, "{fault:?}: {sent} of 3 messages");
    for number in [SERVER, CLIENT] {
        assert_eq!(world.connections(number), 0, "{fault:?}");
        let told = world.saw(number, |seen| matches!(seen, Seen::Reset(_)));
        // Of what was never accepted, the server's application does not hear.
        assert!(told == 1 || number == SERVER && told == 0, "{fault:?}");
    }
    // Both go on as if nothing had been.
    world.connect(CLIENT, SERVER);
    world.send(CLIENT, SERVER, 3);
    world.deliver();
    world
}

virtual_networks! {
    /// Crimson's `connect_fault`, `accept_fault`, `establishing_fault`, `connected_fault` and
    /// `accepted_fault` for lossy clients; whether the end is told or comes by time-out.
    fn a_lossy_connection_cut_or_silent_after_any_byte_ends_with_a_reset(on: Virtual) {
        for from in [Side::Connector, Side::Acceptor] {
            // As long as there is something to strike.
            for after in on.places(0..400, 0..8) {
                lossy(on, Fault::Cut { from, after });
                lossy(on, Fault::BlackHole { from, after });
            }
        }
    }
}
