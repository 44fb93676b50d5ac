//! What a session is for: opening, messages, ends in good order and otherwise, on every policy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use msgr::protocol::auth::AuthNone;
use msgr::protocol::{EntityAddr, EntityType, Mode, PerPeer, Policy, State, Timestamp};
use msgr::transport::sim::{Fault, Latency, Side, SimConfig};
use msgr::transport::tcp::wire::WireConfig;

use super::ledger::Seen;
use super::networks::{Virtual, all_networks, quick, virtual_networks};
use super::world::{Spec, World};

const SERVER: i64 = 1;
const CLIENT: i64 = 2;

/// Who accepts, and who connects to it.
const LOSSY: (Policy, Policy) = (Policy::STATELESS_SERVER, Policy::LOSSY_CLIENT);
const REGISTERED: (Policy, Policy) = (Policy::STATELESS_REGISTERED_SERVER, Policy::LOSSY_CLIENT);
const STATEFUL: (Policy, Policy) = (Policy::STATEFUL_SERVER, Policy::LOSSLESS_CLIENT);
const PEERS: (Policy, Policy) = (Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER);
const ALL: [(Policy, Policy); 5] = [
    LOSSY,
    REGISTERED,
    STATEFUL,
    PEERS,
    (Policy::LOSSLESS_PEER_REUSE, Policy::LOSSLESS_PEER_REUSE),
];

fn spec(policy: Policy) -> Spec {
    if policy.server || policy.standby {
        Spec::bound(policy)
    } else {
        Spec::client(policy)
    }
}

fn start(world: &mut World, (server, client): (Policy, Policy)) {
    world.start(spec(server));
    world.start(spec(client));
}

fn open(world: &mut World) {
    world.connect(CLIENT, SERVER);
    world.wait_for("both ends", |world| {
        let ready = |a, b| world.connection(a, b).is_some_and(|c| c.is_connected());
        ready(CLIENT, SERVER) && ready(SERVER, CLIENT)
    });
}

all_networks! {
    /// `SimpleTest`: a round trip, an end by `mark_down`, a server that comes back, one that does
    /// not, and ourselves.
    fn simple(world: &mut World) {
        for policies in ALL {
            start(world, policies);
            open(world);
            world.send(CLIENT, SERVER, 3);
            world.send(SERVER, CLIENT, 3);
            world.deliver();
            // Marking down tells nobody here, and the other end whatever its policy says.
            let first = world.connection(CLIENT, SERVER).unwrap();
            world.mark_down(CLIENT, SERVER);
            assert!(first.is_closed());
            assert_eq!(world.saw(CLIENT, |seen| matches!(seen, Seen::Reset(_))), 0);
            open(world);
            world.send(CLIENT, SERVER, 3);
            world.deliver();
            world.restart(SERVER);
            world.wait_for("the server's new life", |world| {
                let connection = world.connect(CLIENT, SERVER);
                if !connection.is_closed() {
                    world.send(CLIENT, SERVER, 1);
                }
                world.ledger(SERVER).count > 0
            });
            let addr = world.addr(SERVER);
            let ours = world.node(SERVER).messenger.connect(EntityType::Osd, addr);
            let ours = ours.unwrap();
            world.turn(SERVER);
            assert!(ours.is_connected() && ours.peer().is_none());
            world.stop_all();
        }
    }
}

virtual_networks! {
    /// A connection that nobody accepts: lossy ones end, the others keep trying, and are told each time.
    fn failed_connect(on: Virtual) {
        for policies in ALL {
            let mut world = on.world(1, quick());
            start(&mut world, policies);
            let mut addr = world.addr(SERVER);
            addr.socket.as_mut().unwrap().set_port(6801);
            let messenger = &world.node(CLIENT).messenger;
            let connection = messenger.connect(EntityType::Osd, addr).unwrap();
            connection.send(msgr::protocol::Message::new(1)).unwrap();
            world.run(Duration::from_secs(60));
            let refused = world.saw(CLIENT, |seen| *seen == Seen::Refused);
            if policies.1.lossy {
                assert_eq!(refused, 1);
                assert!(connection.is_closed());
            } else {
                // At 0, 0.2, 0.6, 1.4, 3, 6.2, 12.6, 25.4, 40.4 and 55.4 s.
                assert_eq!(refused, 10);
                assert!(!connection.is_closed());
            }
        }
    }
}

/// `SimpleMsgr2Test`: several addresses, and a client for each kind.
#[test]
fn a_server_with_several_addresses() {
    several_addresses(World::loopback(1));
    several_addresses(World::userspace_tcp(1, WireConfig::default()));
    several_addresses(World::fabric(1));
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_server_with_several_addresses_on_rdma() {
    several_addresses(World::rdma(1));
}

fn several_addresses(mut world: World) {
    start(&mut world, STATEFUL);
    let v6 = EntityAddr::msgr2(SocketAddr::new(world.ip6(SERVER), 0), 1);
    let v6 = world.reactor(SERVER).borrow_mut().bind(v6).unwrap();
    open(&mut world);
    // The peer knows both now, so this is the same session, whichever is dialled.
    let peer = world.connection(CLIENT, SERVER).unwrap().peer().unwrap();
    assert!(peer.addrs.contains(&v6) && peer.addrs.contains(&world.addr(SERVER)));
    let other = world.start(spec(Policy::LOSSLESS_CLIENT));
    let connection = world
        .node(other)
        .messenger
        .connect(EntityType::Osd, v6)
        .unwrap();
    world.wait_for("the other address", |_| connection.is_connected());
    assert!(connection.peer().unwrap().socket.is_ipv6());
}

all_networks! {
    /// `FeatureTest`: a feature that is required and missing, and then is not.
    fn feature(world: &mut World) {
        let wants = |settings: &mut msgr::Settings| {
            settings.protocol.features.required.0 |= 1 << 17;
            settings.protocol.features.supported.0 |= 1 << 17;
        };
        world.start(spec(STATEFUL.0).with(wants));
        world.start(spec(STATEFUL.1));
        let connection = world.connect(CLIENT, SERVER);
        world.wait_for("a refusal", |world| {
            world.saw(CLIENT, |seen| {
                matches!(seen, Seen::Interrupted(why) if why.contains("requires features"))
            }) > 1
        });
        assert!(!connection.is_connected() && world.connection(SERVER, CLIENT).is_none());
        let able = world.start(spec(STATEFUL.1).with(wants));
        world.connect(able, SERVER);
        world.send(able, SERVER, 1);
        world.deliver();
    }
}

all_networks! {
    /// `AuthTest`: who comes without proving who it is is denied where that is required, in whatever
    /// direction, and allowed where it is not.
    fn auth(world: &mut World) {
        let none = |settings: &mut msgr::Settings| {
            let name = settings.protocol.name.into();
            settings.protocol.modes = PerPeer::new(vec![Mode::Crc]);
            AuthNone::new(name)
        };
        let stern = move |settings: &mut msgr::Settings| {
            settings.protocol.auth = Arc::new(none(settings).for_connecting_only());
        };
        let anybody = move |settings: &mut msgr::Settings| {
            settings.protocol.auth = Arc::new(none(settings));
        };
        world.start(spec(STATEFUL.0).with(stern));
        world.start(spec(STATEFUL.1).with(anybody));
        world.start(spec(LOSSY.1).with(anybody));
        let refused = |why: &String| {
            why.contains("authentication method 1 refused") && why.contains("AUTH_CONNECTING")
        };
        let lossless = world.connect(CLIENT, SERVER);
        world.wait_for("refusals", |world| {
            world.saw(CLIENT, |seen| matches!(seen, Seen::Interrupted(why) if refused(why))) > 1
        });
        let lossy = world.connect(3, SERVER);
        world.wait_for("a refusal", |world| {
            world.saw(3, |seen| matches!(seen, Seen::Reset(why) if refused(why))) == 1
        });
        assert!(lossy.is_closed() && !lossless.is_closed() && !lossless.is_connected());
        assert_eq!(world.saw(SERVER, |seen| matches!(seen, Seen::Accepted(_))), 0);
        // The other end lets everybody in.
        let lenient = world.start(spec(STATEFUL.0).with(anybody));
        world.connect(CLIENT, lenient);
        world.send(CLIENT, lenient, 2);
        world.deliver();
    }
}

virtual_networks! {
    /// `TimeoutTest`: a connection on which nothing comes is given up; a lossless one comes back.
    fn idle_timeout(on: Virtual) {
        for policies in ALL {
            let mut world = on.world(1, quick());
            let impatient = |settings: &mut msgr::Settings| {
                settings.timeouts.idle = Duration::from_secs(1);
            };
            world.start(spec(policies.0).with(impatient));
            world.start(spec(policies.1).with(impatient));
            open(&mut world);
            world.run(Duration::from_millis(1500));
            let ended = |seen: &Seen| match seen {
                Seen::Reset(why) | Seen::Interrupted(why) => why.contains("idle for too long"),
                _ => false,
            };
            let ended = world.saw(SERVER, ended) + world.saw(CLIENT, ended);
            assert!(ended > 0, "{policies:?}");
            let lossy = policies.0.lossy;
            assert_eq!(world.connections(SERVER), usize::from(!lossy));
            if !lossy {
                world.send(CLIENT, SERVER, 1);
                world.deliver();
            }
        }
    }
}

all_networks! {
    /// `StatefulTest`: who forgets, by being restarted or by marking down, makes the other end tell a
    /// remote reset, drop its queue and go on in order.
    fn stateful(world: &mut World) {
        start(world, STATEFUL);
        open(world);
        world.send(CLIENT, SERVER, 2);
        world.send(SERVER, CLIENT, 2);
        world.deliver();
        // The client forgets.
        world.mark_down(CLIENT, SERVER);
        open(world);
        world.send(CLIENT, SERVER, 2);
        world.deliver();
        assert_eq!(world.totals(SERVER).remote_resets, 1);
        world.wait_for("the news", |world| {
            world.saw(SERVER, |seen| matches!(seen, Seen::RemoteReset(_))) == 1
        });
        // The server forgets.
        world.mark_down(SERVER, CLIENT);
        world.wait_for("the reset at the client", |world| {
            world.saw(CLIENT, |seen| matches!(seen, Seen::RemoteReset(_))) == 1
        });
        world.send(CLIENT, SERVER, 2);
        world.deliver();
        world.restart(SERVER);
        world.wait_for("the next reset at the client", |world| {
            world.saw(CLIENT, |seen| matches!(seen, Seen::RemoteReset(_))) == 2
        });
        world.send(CLIENT, SERVER, 2);
        world.deliver();
    }
}

all_networks! {
    /// `StatelessTest`: a reset is told on the other side of a `mark_down`, from either end.
    fn stateless(world: &mut World) {
        for policies in [LOSSY, REGISTERED] {
            for (marks, other) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
                start(world, policies);
                open(world);
                world.send(CLIENT, SERVER, 2);
                world.deliver();
                world.mark_down(marks, other);
                world.wait_for("a reset", |world| {
                    world.saw(other, |seen| matches!(seen, Seen::Reset(_))) == 1
                });
                assert_eq!(world.saw(marks, |seen| matches!(seen, Seen::Reset(_))), 0);
                assert_eq!((world.connections(CLIENT), world.connections(SERVER)), (0, 0));
                open(world);
                world.send(CLIENT, SERVER, 2);
                world.deliver();
                world.stop_all();
            }
        }
    }
}

all_networks! {
    /// `AnonTest`: anonymous connections are objects of their own and shared with nobody.
    fn anonymous(world: &mut World) {
        start(world, LOSSY);
        let target = world.addr(SERVER);
        let messenger = world.node(CLIENT).messenger.clone();
        let anonymous = || messenger.connect_anonymously(EntityType::Osd, target).unwrap();
        let (one, other, shared) = (anonymous(), anonymous(), world.connect(CLIENT, SERVER));
        assert!(!one.is(&other) && !one.is(&shared));
        assert!(world.connect(CLIENT, SERVER).is(&shared));
        world.wait_for("three connections", |world| {
            [&one, &other, &shared].iter().all(|c| c.is_connected())
                && world.connections(SERVER) == 3
        });
        let dump = world.reactor(CLIENT).borrow().dump();
        assert_eq!(dump.iter().filter(|connection| connection.shared).count(), 1);
    }
}

all_networks! {
    /// `MessageTest`: large fronts and data, compared byte by byte by the ledger.
    fn large_messages(world: &mut World) {
        for policies in ALL {
            start(world, policies);
            open(world);
            for data in [0, 1, 4096, 100_000, 3 << 20] {
                world.send_sized(CLIENT, SERVER, data);
                world.send_sized(SERVER, CLIENT, data);
            }
            world.deliver();
            world.stop_all();
        }
    }
}

/// Streams come in pieces of any size: what the simulator cuts at every byte (`tests/simulated.rs`), TCP
/// cuts at every segment, of whatever size the MTU allows.
#[test]
fn segments_of_any_size() {
    for mtu in (100..300).chain([576, 1280, 9000]) {
        let wire = WireConfig {
            mtu,
            ..WireConfig::default()
        };
        let mut world = World::userspace_tcp(1, wire);
        start(&mut world, STATEFUL);
        open(&mut world);
        for data in [0, 1, 300, 5000] {
            world.send_sized(CLIENT, SERVER, data);
            world.send_sized(SERVER, CLIENT, data);
        }
        world.deliver();
    }
}

all_networks! {
    /// `ShutdownLossless` and `ShutdownLossy`: an end in good order delivers everything that was sent
    /// before, and tells so.
    fn shutdown_delivers_everything(world: &mut World) {
        for policies in ALL {
            start(world, policies);
            open(world);
            for _ in 0..20 {
                world.send_sized(CLIENT, SERVER, 50_000);
            }
            let connection = world.connection(CLIENT, SERVER).unwrap();
            connection.shutdown();
            assert!(connection.send(msgr::protocol::Message::new(1)).is_err());
            world.wait_for("the end", |world| {
                world.saw(CLIENT, |seen| matches!(seen, Seen::Reset(why) if why.contains("shut down"))) == 1
            });
            assert!(connection.is_closed());
            world.wait_for("everything", |world| world.ledger(SERVER).count == 20);
            world.check();
            world.stop_all();
        }
    }
}

virtual_networks! {
    /// The same while the stream breaks again and again: a lossless end waits for acknowledgements.
    fn shutdown_lossless_survives_faults(on: Virtual) {
        for after in on.places((0..60_000).step_by(997), 0..60) {
            for policies in [STATEFUL, PEERS] {
                let mut world = on.world(after, quick());
                start(&mut world, policies);
                open(&mut world);
                for _ in 0..4 {
                    let cut = Fault::Cut {
                        from: Side::Connector,
                        after,
                    };
                    world.network().plan(world.socket(SERVER), cut);
                }
                world.strike(CLIENT);
                for _ in 0..10 {
                    world.send_sized(CLIENT, SERVER, 5_000);
                }
                world.connection(CLIENT, SERVER).unwrap().shutdown();
                world.wait_for("everything", |world| world.ledger(SERVER).count == 10);
                world.wait_for("the end", |world| world.connections(CLIENT) == 0);
                world.check();
            }
        }
    }
}

virtual_networks! {
    /// `ShutdownTimeout`: a peer that takes nothing does not hold up the end for ever.
    fn shutdown_timeout(on: Virtual) {
        for policies in ALL {
            let mut world = on.world(1, quick());
            let full = |settings: &mut msgr::Settings| settings.budgets.reactor = 1;
            world.start(spec(policies.0).with(full));
            world.start(spec(policies.1));
            world.ledger(SERVER).held = Some(Vec::new());
            open(&mut world);
            for _ in 0..200 {
                world.send_sized(CLIENT, SERVER, 10_000);
            }
            let connection = world.connection(CLIENT, SERVER).unwrap();
            connection.shutdown();
            world.run(Duration::from_secs(119));
            assert!(!connection.is_closed(), "{:?}", world.seen(CLIENT));
            world.run(Duration::from_secs(2));
            assert!(connection.is_closed(), "{policies:?}");
            let late = |seen: &Seen| matches!(seen, Seen::Reset(why) if why.contains("undelivered"));
            assert_eq!(world.saw(CLIENT, late), 1);
        }
    }
}

virtual_networks! {
    /// Crimson's `preemptive_shutdown`: a messenger that is shut down delivers what it has queued.
    fn preemptive_shutdown(on: Virtual) {
        for policies in ALL {
            let mut world = on.world(1, quick());
            start(&mut world, policies);
            open(&mut world);
            for _ in 0..20 {
                world.send_sized(CLIENT, SERVER, 50_000);
            }
            let now = world.now;
            world.reactor(CLIENT).borrow_mut().shut_down(now);
            world.wait_for("everything", |world| {
                world.reactor(CLIENT).borrow().is_finished(world.now)
            });
            assert_eq!(world.connections(CLIENT), 0);
            world.wait_for("everything", |world| world.ledger(SERVER).count == 20);
        }
    }
}

all_networks! {
    /// Crimson's echo: requests come back in order, while other requests are under way.
    fn echo(world: &mut World) {
        for policies in ALL {
            start(world, policies);
            world.ledger(SERVER).echo = true;
            world.ledger(CLIENT).quiet = false;
            open(world);
            world.send(CLIENT, SERVER, 100);
            world.wait_for("the echoes", |world| world.ledger(CLIENT).count == 100);
            world.check();
            world.stop_all();
        }
    }
}

virtual_networks! {
    /// `DumpBasics`: what can be seen of connections.
    fn dump(on: Virtual) {
        let mut world = on.world(1, quick());
        start(&mut world, STATEFUL);
        open(&mut world);
        world.send(CLIENT, SERVER, 3);
        world.deliver();
        world.run(Duration::from_secs(1));
        let dump = |n| world.reactor(n).borrow().dump();
        let [client] = &dump(CLIENT)[..] else {
            panic!()
        };
        assert_eq!(client.target, Some(world.addr(SERVER)));
        assert_eq!((client.state, client.policy), (State::Ready, STATEFUL.1));
        let counts = client.counts;
        assert_eq!(
            (counts.sent, counts.received, counts.connect_seq),
            (3, 0, 0)
        );
        assert_eq!((counts.queued, counts.unacknowledged), (0, 0));
        assert_eq!(
            (client.queued_bytes, client.throttled, client.shared),
            (0, false, true)
        );
        let [server] = &dump(SERVER)[..] else {
            panic!()
        };
        assert_eq!((server.target, server.counts.received), (None, 3));
        assert_eq!(server.peer.as_ref().unwrap().name.unwrap().num, CLIENT);
        let now = world.now;
        world.reactor(CLIENT).borrow_mut().shut_down(now);
        world.run(Duration::from_secs(1));
        assert!(world.reactor(CLIENT).borrow().dump().is_empty());
    }
}

virtual_networks! {
    /// A keepalive is answered, and its stamp can be read; asked while there is no stream, it makes one.
    fn keepalive(on: Virtual) {
        let mut world = on.world(1, quick());
        start(&mut world, PEERS);
        open(&mut world);
        let connection = world.connection(CLIENT, SERVER).unwrap();
        assert_eq!(connection.last_keepalive_ack(), None);
        let stamp = Timestamp { sec: 5, nsec: 6 };
        assert!(connection.keepalive(stamp));
        world.run(Duration::from_secs(1));
        assert_eq!(connection.last_keepalive_ack(), Some(stamp));
        let (connector, acceptor) = world.network().connections()[0];
        let cut = Fault::Cut {
            from: Side::Connector,
            after: 0,
        };
        assert!(world.network().inject(connector, acceptor, cut));
        world.run(Duration::from_secs(100));
        assert!(world.network().connections().is_empty());
        let stamp = Timestamp { sec: 7, nsec: 8 };
        assert!(connection.keepalive(stamp));
        world.run(Duration::from_secs(1));
        assert_eq!(connection.last_keepalive_ack(), Some(stamp));
    }
}

virtual_networks! {
    /// A disposable connection goes with its next fault, without a word.
    fn mark_disposable(on: Virtual) {
        for policies in ALL {
            let mut world = on.world(1, quick());
            start(&mut world, policies);
            open(&mut world);
            let connection = world.connection(CLIENT, SERVER).unwrap();
            connection.mark_disposable();
            world.run(Duration::from_secs(1));
            let told = world.seen(CLIENT).len();
            let (connector, acceptor) = world.network().connections()[0];
            let cut = Fault::Cut {
                from: Side::Connector,
                after: 0,
            };
            assert!(world.network().inject(connector, acceptor, cut));
            world.run(Duration::from_secs(100));
            assert!(connection.is_closed());
            assert_eq!(world.seen(CLIENT).len(), told, "{:?}", world.seen(CLIENT));
        }
    }
}

virtual_networks! {
    /// Connecting and accepting is told before any message, once, in every order of events.
    fn concurrent_dispatch(on: Virtual) {
        for seed in 0..50 {
            let mut world = on.world(
                seed,
                SimConfig {
                    latency: Latency::between(Duration::from_micros(1), Duration::from_millis(5)),
                    ..SimConfig::default()
                },
            );
            start(&mut world, ALL[seed as usize % ALL.len()]);
            world.connect(CLIENT, SERVER);
            world.send(CLIENT, SERVER, 20);
            world.deliver();
            for number in [SERVER, CLIENT] {
                let seen = world.seen(number);
                assert!(
                    matches!(seen[0], Seen::Connected(_) | Seen::Accepted(_)),
                    "{seen:?}"
                );
                assert!(
                    !seen[1..]
                        .iter()
                        .any(|s| matches!(s, Seen::Connected(_) | Seen::Accepted(_)))
                );
            }
        }
    }
}
