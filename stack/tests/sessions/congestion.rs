//! More than the network takes: `SyntheticInjectTest5` of `src/test/msgr/test_msgr.cc`.

use std::time::Duration;

use msgr::protocol::{Message, Policy};
use msgr::transport::middleware::Injection;
use msgr::transport::sim::{Latency, SimConfig};
use msgr::{SendError, SendRefusal};

use super::networks::{Virtual, all_networks, virtual_networks};
use super::world::{Spec, World};

const SERVER: i64 = 1;
const CLIENTS: std::ops::RangeInclusive<i64> = 2..=9;
/// Ceph's messages have 6 MB, and there are 1600 of them.
const MESSAGE: usize = 96 << 10;
const MESSAGES: usize = 10;
/// Of a connection, on the way.
const WINDOW: usize = 16 << 10;
/// Two messages may be queued, and one more.
const BACKLOG: usize = 2 * MESSAGE;

/// Somebody with much to say to somebody else.
struct Talker {
    from: i64,
    to: i64,
    /// What was refused, and how many messages are still to come.
    refused: Option<Message>,
    left: usize,
    refusals: usize,
}

impl Talker {
    fn new(from: i64, to: i64, messages: usize) -> Self {
        Self {
            from,
            to,
            refused: None,
            left: messages,
            refusals: 0,
        }
    }

    /// How many bytes wait to be sent or acknowledged.
    fn queued(&self, world: &World) -> usize {
        let dumps = world.reactor(self.from).borrow().dump();
        let mut dumps = dumps.iter().filter(|connection| {
            let peer = connection.peer.as_ref().and_then(|peer| peer.name);
            self.from != SERVER || peer.is_some_and(|name| name.num == self.to)
        });
        dumps.next().map_or(0, |connection| connection.queued_bytes)
    }

    /// Sends until that is refused.
    fn talk(&mut self, world: &World) {
        let Some(connection) = world.connection(self.from, self.to) else {
            return;
        };
        while self.left > 0 {
            let life = world.life(self.from);
            let next = || world.ledger(self.from).next(self.from, life, self.to);
            let message = self.refused.take();
            let message = message.unwrap_or_else(|| next().message(MESSAGE));
            match connection.send(message) {
                Ok(()) => self.left -= 1,
                Err(SendError { message, reason }) => {
                    assert!(matches!(reason, SendRefusal::Backlog { .. }), "{reason}");
                    self.refused = Some(message);
                    self.refusals += 1;
                    return;
                }
            }
            world.turn(self.from);
        }
    }
}

virtual_networks! {
    /// Both ends of eight connections send all the time, a hundred and twenty times what is on the way at
    /// a time; backlogs are full, and connections break. Everything comes through.
    fn what_is_queued_drains(on: Virtual) {
        let config = SimConfig {
            latency: Latency::between(Duration::from_micros(500), Duration::from_millis(1)),
            window: WINDOW,
            ..SimConfig::default()
        };
        let mut world = on.world(1, config);
        let narrow = |spec: Spec| {
            let injection = Injection {
                socket_failures: 200,
                ..Injection::default()
            };
            spec.injecting(injection).with(|settings| {
                settings.send_backlog = BACKLOG;
            })
        };
        world.start(narrow(Spec::bound(Policy::STATEFUL_SERVER)));
        for _ in CLIENTS {
            world.start(narrow(Spec::client(Policy::LOSSLESS_CLIENT)));
        }
        for client in CLIENTS {
            world.connect(client, SERVER);
        }
        let directions = CLIENTS.flat_map(|client| [(client, SERVER), (SERVER, client)]);
        let mut talkers: Vec<_> = directions
            .map(|(from, to)| Talker::new(from, to, MESSAGES))
            .collect();
        let (mut looks, mut full) = (0, 0);
        while talkers.iter().any(|talker| talker.left > 0) {
            for talker in &mut talkers {
                talker.talk(&world);
            }
            world.run(Duration::from_millis(1));
            for talker in talkers.iter().filter(|talker| talker.left > 0) {
                looks += 1;
                full += usize::from(talker.queued(&world) > WINDOW);
            }
        }
        assert!(
            full * 10 > looks * 9,
            "only {full} of {looks} looks found a full window"
        );
        let refusals: usize = talkers.iter().map(|talker| talker.refusals).sum();
        assert!(refusals > talkers.len(), "{refusals}");
        world.deliver();
        world.settle(SERVER, CLIENTS.count());
        for client in CLIENTS {
            world.settle(client, 1);
            assert_eq!(world.ledger(client).count, MESSAGES as u64);
        }
        let totals = world.all_totals();
        println!("{totals:?} {full} of {looks}, {refusals} refusals");
        assert!(totals.reconnects > 0 && totals.replayed > 0, "{totals:?}");
        assert_eq!((totals.resets, totals.remote_resets), (0, 0));
    }
}

all_networks! {
    /// Who sends one way only: a backlog is full, and takes messages again when it has drained. None
    /// that was taken is lost, also while there is no stream.
    fn a_backlog_fills_and_empties(world: &mut World) {
        let narrow = |settings: &mut msgr::Settings| settings.send_backlog = BACKLOG;
        world.start(Spec::bound(Policy::STATEFUL_SERVER));
        world.start(Spec::client(Policy::LOSSLESS_CLIENT).with(narrow));
        world.connect(2, SERVER);
        let mut talker = Talker::new(2, SERVER, 5);
        while talker.left > 0 {
            let left = talker.left;
            talker.talk(world);
            assert!(talker.left < left, "an empty backlog takes no messages");
            world.settle(2, 1);
        }
        assert!(talker.refusals > 0);
        world.deliver();
        assert_eq!(world.ledger(SERVER).count, 5);
    }
}
