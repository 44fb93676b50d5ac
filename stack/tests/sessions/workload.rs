//! [`Workload`]: many processes that connect, send and end connections at random, like
//! `SyntheticWorkload` in Ceph's `src/test/msgr/test_msgr.cc`.

use std::collections::BTreeSet;
use std::time::Duration;

use msgr::protocol::Policy;
use msgr::transport::middleware::Injection;
use msgr::{Connection, Totals};

use super::chance::Chance;
use super::ledger::Seen;
use super::networks::Net;
use super::world::{Spec, World};

/// What a workload is like.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Who may be connected to, and who connects; peers connect to each other.
    pub(crate) policies: (Policy, Policy),
    pub(crate) servers: usize,
    pub(crate) clients: usize,
    /// The most connections in play at a time.
    pub(crate) connections: usize,
    /// How many bytes of data messages may carry.
    pub(crate) sizes: &'static [usize],
    /// The longest pause between two operations.
    pub(crate) pause: Duration,
    pub(crate) injection: Injection,
    /// Of each messenger, in bytes; then servers hold what they receive until there is no room.
    pub(crate) budget: Option<usize>,
}

pub(crate) struct Workload {
    pub(crate) world: World,
    chance: Chance,
    pub(crate) shape: Shape,
    servers: Vec<i64>,
    /// Whoever may connect.
    connectors: Vec<i64>,
    /// Who has connected to whom, and has not ended it.
    open: Vec<(i64, i64)>,
    /// Who has ever connected to whom.
    met: BTreeSet<(i64, i64)>,
    ending: Vec<Ending>,
    /// Connections that were shut down and had all their messages delivered.
    pub(crate) ended_in_good_order: usize,
    /// Others, of sessions that nobody else ended before.
    undelivered: usize,
}

/// A connection that is shut down.
struct Ending {
    from: i64,
    to: i64,
    connection: Connection,
    /// The epoch and number of the last message sent before.
    last: (u64, u64),
}

impl Workload {
    pub(crate) fn new(mut world: World, shape: Shape) -> Self {
        let real_time = world.is_real_time();
        let spec = |policy: Policy| {
            let bound = policy.server || policy.standby;
            let spec = if bound { Spec::bound } else { Spec::client };
            spec(policy)
                .injecting(shape.injection)
                .with(move |settings| {
                    if let Some(budget) = shape.budget {
                        settings.budgets.messenger = budget;
                    }
                    if real_time {
                        settings.backoff.initial = Duration::from_millis(2);
                        settings.backoff.longest = Duration::from_millis(100);
                        settings.timeouts.shutdown = Duration::from_millis(200);
                    }
                })
        };
        let (server, client) = shape.policies;
        let servers: Vec<_> = (0..shape.servers)
            .map(|_| world.start(spec(server)))
            .collect();
        let clients = (0..shape.clients).map(|_| world.start(spec(client)));
        let clients: Vec<_> = clients.collect();
        let (mut connectors, mut acceptors) = (clients.clone(), servers.clone());
        if !server.server {
            connectors.extend(&servers);
        }
        if client.standby {
            acceptors.extend(&clients);
        }
        if shape.budget.is_some() {
            for server in &servers {
                world.ledger(*server).held = Some(Vec::new());
            }
        }
        Self {
            chance: Chance(world.seed),
            world,
            shape,
            servers: acceptors,
            connectors,
            open: Vec::new(),
            met: BTreeSet::new(),
            ending: Vec::new(),
            ended_in_good_order: 0,
            undelivered: 0,
        }
    }

    /// Has everybody connect, and does so many things at random, of which seven in ten are to send a
    /// message.
    pub(crate) fn operate(&mut self, operations: usize) {
        for _ in 0..self.shape.connections {
            self.connect();
        }
        for _ in 0..operations {
            self.end();
            match self.chance.below(100) {
                0..10 => self.connect(),
                10..15 => self.shut_down(),
                15..20 => self.mark_down(),
                20..90 => self.send(),
                _ => self.pause(),
            }
        }
    }

    fn connect(&mut self) {
        let pair = (
            self.chance.pick(&self.connectors),
            self.chance.pick(&self.servers),
        );
        let full = self.open.len() >= self.shape.connections;
        if full || pair.0 == pair.1 || self.is_ending(pair) {
            return;
        }
        self.open(pair);
        // Peers may have the same idea.
        let back = (pair.1, pair.0);
        let peers = self.connectors.contains(&pair.1) && self.servers.contains(&pair.0);
        if peers && !self.is_ending(back) && self.chance.one_in(4) {
            self.open(back);
        }
    }

    fn open(&mut self, pair: (i64, i64)) {
        self.world.connect(pair.0, pair.1);
        self.met.insert(pair);
        if !self.open.contains(&pair) {
            self.open.push(pair);
        }
    }

    /// One end of a connection in play, if it is there and takes messages.
    fn pick(&mut self) -> Option<(i64, i64, Connection)> {
        if self.open.is_empty() {
            return None;
        }
        let (from, to) = self.chance.pick(&self.open);
        if !self.is_ending((from, to)) {
            // A lossy one may have ended.
            self.world.connect(from, to);
        }
        let mut ends = [(from, to), (to, from)];
        ends.rotate_left(self.chance.below(2) as usize);
        let mut ends = ends.into_iter().filter(|end| !self.is_ending(*end));
        ends.find_map(|(from, to)| Some((from, to, self.world.connection(from, to)?)))
    }

    fn send(&mut self) {
        if let Some((from, to, _)) = self.pick() {
            let len = self.chance.pick(self.shape.sizes);
            self.world.send_sized(from, to, len);
        }
    }

    fn mark_down(&mut self) {
        if let Some((from, to, _)) = self.pick() {
            self.world.mark_down(from, to);
            self.open.retain(|pair| *pair != (from, to));
        }
    }

    fn shut_down(&mut self) {
        if let Some((from, to, connection)) = self.pick() {
            connection.shutdown();
            let last = self.world.ledger(from).last_sent(to);
            self.world.turn(from);
            self.open.retain(|pair| *pair != (from, to));
            self.ending.push(Ending {
                from,
                to,
                connection,
                last,
            });
        }
    }

    fn is_ending(&self, (from, to): (i64, i64)) -> bool {
        let mut ending = self.ending.iter();
        ending.any(|end| (end.from, end.to) == (from, to))
    }

    fn pause(&mut self) {
        let most = self.shape.pause.as_micros() as u64;
        // Most are too short for a round trip.
        let most = if self.chance.one_in(3) { most } else { 200 };
        let pause = Duration::from_micros(self.chance.below(most));
        self.world.run(pause);
        if self.shape.budget.is_some() && self.chance.one_in(4) {
            self.let_go();
        }
    }

    /// Those for whose room somebody waits let go of what they hold.
    fn let_go(&self) {
        for number in self.world.numbers() {
            let dumps = self.world.reactor(number).borrow().dump();
            if dumps.iter().any(|connection| connection.throttled) {
                let held = self.world.ledger(number).held.as_mut().map(std::mem::take);
                drop(held);
            }
        }
    }

    /// Takes note of connections that have ended since they were shut down.
    fn end(&mut self) {
        let (ended, ending) = std::mem::take(&mut self.ending)
            .into_iter()
            .partition(|end: &Ending| end.connection.is_closed());
        self.ending = ending;
        for end in ended {
            let life = self.world.life(end.from);
            let (epoch, number) = end.last;
            let received = self.world.ledger(end.to).last_received(end.from);
            let received = received.map(|last| (last.life, last.epoch, last.number));
            if number == 0 || received >= Some((life, epoch, number)) {
                self.ended_in_good_order += 1;
            } else if self.world.ledger(end.from).last_sent(end.to).0 == epoch + 1 {
                // Nobody else has ended the session before.
                self.undelivered += 1;
            }
        }
    }

    /// Whatever was sent must arrive now, and nothing must be left behind. Returns what everybody
    /// has done.
    pub(crate) fn finish(&mut self) -> Totals {
        for number in self.world.numbers() {
            self.world.ledger(number).held = None;
        }
        let ending = &self.ending;
        self.world.wait_for("the end of what was shut down", |_| {
            ending.iter().all(|end| end.connection.is_closed())
        });
        self.end();
        self.deliver();
        self.settle();
        if !self.shape.policies.0.lossy {
            let ended_otherwise =
                |seen: &Seen| matches!(seen, Seen::Reset(why) if !why.contains(": shut down ("));
            let numbers = self.world.numbers();
            let resets = numbers.iter().map(|n| self.world.saw(*n, ended_otherwise));
            assert!(self.undelivered <= resets.sum(), "seed {}", self.world.seed);
        }
        self.world.check();
        let totals = self.world.all_totals();
        if let Some(budget) = self.shape.budget {
            self.fill(budget);
        }
        self.end_all();
        totals
    }

    /// A whole budget fits into a budget: nothing of it was lost.
    fn fill(&mut self, budget: usize) {
        let Some((from, to)) = self.met.first().copied() else {
            panic!("nobody has connected");
        };
        // Front and data of two messages.
        let data = budget / 2 - 32;
        let fits = (0..100).any(|_| {
            self.world.ledger(to).held = Some(Vec::new());
            let throttled = self.world.totals(to).throttled;
            let waits = |world: &World| world.totals(to).throttled > throttled;
            self.world.connect(from, to);
            for _ in 0..2 {
                self.world.send_sized(from, to, data);
            }
            self.world.wait_for("two messages", |world| {
                waits(world) || world.has_all(from, to)
            });
            let waits = waits(&self.world);
            let held = self.world.ledger(to).held.take();
            let fits = !waits && held.is_some_and(|held| held.len() == 2);
            self.world
                .wait_for("the second message", |world| world.has_all(from, to));
            // One that a fault has the peer send twice does not fit, or is lost: then once more.
            fits
        });
        assert!(fits, "seed {}: a part of a budget is lost", self.world.seed);
    }

    /// Everybody who ever connected comes back; who waits for it gets everything.
    fn deliver(&mut self) {
        for (from, to) in &self.met {
            self.world.come_back(*from, *to);
        }
    }

    /// There is one session with each peer at most.
    fn settle(&mut self) {
        for number in self.world.numbers() {
            let pairs = self.met.iter();
            let pairs = pairs.filter(|(a, b)| *a == number || *b == number);
            let peers: BTreeSet<_> = pairs.map(|(a, b)| (a.min(b), a.max(b))).collect();
            self.world.settle(number, peers.len());
        }
    }

    /// Marks everything down on both sides; then there is nothing.
    fn end_all(&mut self) {
        for number in self.world.numbers() {
            for connection in self.world.ledger(number).connections.values() {
                connection.mark_down();
            }
        }
        for number in self.world.numbers() {
            self.world
                .wait_for("the end", |world| world.connections(number) == 0);
        }
        if let Net::Sim(network) = &self.world.net {
            assert_eq!(network.connections(), []);
        }
    }
}
