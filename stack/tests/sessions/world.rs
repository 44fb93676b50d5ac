//! [`World`]: processes with messengers on one network, simulated or the host's loopback.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use msgr::protocol::{EntityAddr, EntityName, EntityType, PerPeer, Policy};
use msgr::transport::Transport;
use msgr::transport::middleware::{FaultInjector, Injection};
use msgr::transport::posix::Posix;
use msgr::transport::rdma::{Rdma, RdmaConfig, Setup};
use msgr::transport::sim::{Crash, FaultRates, SimConfig, SimNetwork};
use msgr::transport::tcp::wire::{Wire, WireConfig, WireFaults};
use msgr::transport::tcp::{Tcp, TcpConfig};
use msgr::{Connection, ConnectionDump, Messenger, Reactor, Settings, Totals};

use super::cable::Cables;
use super::fabric::Fabric;
use super::hosts::Hosts;
use super::ledger::{Ledger, Seen, Witness};
use super::networks::{Net, Network};

/// What a process is, in all its lives.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) name: EntityName,
    pub(crate) policy: Policy,
    /// Whether it can be reached.
    pub(crate) bound: bool,
    pub(crate) injection: Injection,
    pub(crate) configure: Arc<dyn Fn(&mut Settings)>,
}

impl Spec {
    /// `osd.N` of this policy, bound.
    pub(crate) fn bound(policy: Policy) -> Self {
        Self::new(EntityType::Osd, policy, true)
    }

    /// `client.N` of this policy, which nobody can dial.
    pub(crate) fn client(policy: Policy) -> Self {
        Self::new(EntityType::Client, policy, false)
    }

    fn new(kind: EntityType, policy: Policy, bound: bool) -> Self {
        Self {
            name: EntityName { kind, num: 0 },
            policy,
            bound,
            injection: Injection::default(),
            configure: Arc::new(|_| {}),
        }
    }

    pub(crate) fn with(mut self, configure: impl Fn(&mut Settings) + 'static) -> Self {
        self.configure = Arc::new(configure);
        self
    }

    pub(crate) fn injecting(mut self, injection: Injection) -> Self {
        self.injection = injection;
        self
    }
}

pub(crate) struct Node {
    pub(crate) messenger: Messenger,
    reactor: RefCell<Reactor>,
    ledger: Arc<Mutex<Ledger>>,
    /// Operations yet to be struck by a fault.
    strikes: Arc<AtomicU32>,
    pub(crate) spec: Spec,
    pub(crate) addr: Option<EntityAddr>,
    life: u64,
}

pub(crate) struct World {
    pub(crate) net: Net,
    nodes: Vec<Option<Node>>,
    pub(crate) now: Instant,
    pub(crate) seed: u64,
    /// The totals of processes that have ended.
    past: Vec<Totals>,
    /// The most bytes on the way on a connection of userspace TCP.
    pub(crate) window: Option<usize>,
    /// Whether processes prove who they are, and encrypt.
    secure: bool,
}

/// Real time that nothing waits for unless a test fails.
const PATIENCE: Duration = Duration::from_secs(100);
/// Where processes are bound, in virtual time.
const PORT: u16 = 6800;
/// What a turn takes, and after what time an idle RDMA transport has looked at everything.
const TURN: Duration = Duration::from_micros(1);
const LOOK: Duration = Duration::from_micros(200);

impl World {
    pub(crate) fn simulated(seed: u64, config: SimConfig) -> Self {
        Self::new(Net::Sim(SimNetwork::new(seed, config)), seed)
    }

    pub(crate) fn secure(seed: u64, config: SimConfig) -> Self {
        let mut world = Self::simulated(seed, config);
        world.secure = true;
        world
    }

    pub(crate) fn loopback(seed: u64) -> Self {
        Self::new(Net::Loopback, seed)
    }

    pub(crate) fn fabric(seed: u64) -> Self {
        Self::new(Net::Fabric(Fabric::new(seed, Instant::now())), seed)
    }

    pub(crate) fn rdma(seed: u64) -> Self {
        Self::new(Net::Rdma(Hosts::new(), Setup::ConnectionManager), seed)
    }

    pub(crate) fn rdma_as_ceph_does(seed: u64) -> Self {
        Self::new(Net::Rdma(Hosts::new(), Setup::Ceph), seed)
    }

    pub(crate) fn userspace_tcp(seed: u64, config: WireConfig) -> Self {
        Self::new(Net::Wire(Wire::new(config), Cables::new(seed)), seed)
    }

    fn new(net: Net, seed: u64) -> Self {
        Self {
            net,
            nodes: Vec::new(),
            now: Instant::now(),
            seed,
            past: Vec::new(),
            window: None,
            secure: false,
        }
    }

    /// What may befall connections, if this is in virtual time.
    pub(crate) fn network(&self) -> Network<'_> {
        match &self.net {
            Net::Sim(network) => Network::Sim(network),
            Net::Wire(_, cables) => Network::Wire(cables),
            Net::Fabric(fabric) => Network::Fabric(fabric),
            Net::Loopback | Net::Rdma(..) => panic!("nobody can meddle with the kernel's network"),
        }
    }

    /// Nothing goes wrong any more, but for what is planned.
    pub(crate) fn make_peace(&self) {
        self.network().set_faults(FaultRates::default());
        if let Net::Wire(wire, _) = &self.net {
            wire.set_faults(WireFaults::default());
        }
    }

    /// Starts a process; the first is 1.
    pub(crate) fn start(&mut self, mut spec: Spec) -> i64 {
        let number = self.nodes.len() as i64 + 1;
        spec.name.num = number;
        let at = SocketAddr::new(self.ip(number), PORT);
        let nonce = number as u32;
        let addr = spec.bound.then(|| match self.net {
            Net::Sim(_) | Net::Wire(..) | Net::Fabric(_) => EntityAddr::msgr2(at, nonce),
            Net::Loopback | Net::Rdma(..) => EntityAddr::msgr2(SocketAddr::new(at.ip(), 0), nonce),
        });
        self.nodes.push(None);
        self.begin_life(number, spec, addr, 1);
        number
    }

    /// Where the first process will be bound.
    pub(crate) fn first(&self) -> SocketAddr {
        SocketAddr::new(self.ip(1), PORT)
    }

    pub(crate) fn ip(&self, number: i64) -> IpAddr {
        match &self.net {
            Net::Sim(_) | Net::Wire(..) => [10, 0, 0, number as u8].into(),
            Net::Fabric(fabric) => fabric.ip(number as u8),
            Net::Loopback => [127, 0, 0, 1].into(),
            Net::Rdma(hosts, _) => hosts.ip(number),
        }
    }

    /// Another address of the same process; the simulator's have none.
    pub(crate) fn ip6(&self, number: i64) -> IpAddr {
        match &self.net {
            Net::Sim(_) | Net::Wire(..) => [0xfd00, 0, 0, 0, 0, 0, 0, number as u16].into(),
            Net::Fabric(fabric) => fabric.ip6(number as u8),
            Net::Loopback => Ipv6Addr::LOCALHOST.into(),
            Net::Rdma(hosts, _) => hosts.ip6(number),
        }
    }

    /// Whatever is done next is done by this process.
    fn enter(&self, number: i64) {
        if let Net::Rdma(hosts, _) = &self.net {
            hosts.enter(number);
        }
    }

    fn begin_life(&mut self, number: i64, spec: Spec, addr: Option<EntityAddr>, life: u64) {
        self.enter(number);
        let mut settings = Settings::new(spec.name, spec.policy);
        settings.protocol.policies = PerPeer::new(spec.policy);
        settings.protocol.nonce = number as u32;
        settings.seed = self.seed ^ (number as u64) << 32 ^ life << 48;
        settings.first_global_seq = life << 32;
        if self.secure {
            super::keys::secure(&mut settings.protocol, settings.seed);
        }
        (spec.configure)(&mut settings);
        let inner: Box<dyn Transport> = match &self.net {
            Net::Sim(network) => Box::new(network.node(self.ip(number))),
            Net::Wire(wire, cables) => {
                let ip = self.ip(number);
                let mut config = TcpConfig::new(ip, 24);
                config.addresses.push((self.ip6(number), 64));
                config.seed = settings.seed;
                config.window = self.window.unwrap_or(config.window);
                let cable = cables.plug(wire.port(), ip);
                Box::new(Tcp::new(cable, config, self.now).unwrap())
            }
            Net::Fabric(_) => Box::new(Fabric::open()),
            Net::Loopback => Box::new(Posix::new().unwrap()),
            Net::Rdma(_, setup) => {
                // Of these there are many, in a small guest.
                let config = RdmaConfig {
                    setup: *setup,
                    receive_blocks: 256,
                    spare_blocks: 16,
                    send_blocks: 64,
                    landing_size: 256 << 10,
                    landing_blocks: 4,
                    ..RdmaConfig::default()
                };
                Box::new(Rdma::new(config).unwrap())
            }
        };
        let injector = FaultInjector::new(inner, spec.injection, settings.seed);
        let strikes = injector.strikes();
        let ledger = Arc::<Mutex<Ledger>>::default();
        ledger.lock().unwrap().strict_start = spec.policy.reset_check || spec.policy.lossy;
        ledger.lock().unwrap().lossy = spec.policy.lossy;
        let witness = Witness(Arc::clone(&ledger));
        let (messenger, mut reactor) =
            Messenger::driven_by_caller(settings, Box::new(injector), witness).unwrap();
        let addr = addr.map(|addr| reactor.bind(addr).unwrap());
        self.nodes[number as usize - 1] = Some(Node {
            messenger,
            reactor: reactor.into(),
            ledger,
            strikes,
            spec,
            addr,
            life,
        });
    }

    /// The process is gone, with all that it knew.
    pub(crate) fn kill(&mut self, number: i64) -> (Spec, Option<EntityAddr>, u64) {
        if let Net::Sim(network) = &self.net {
            network.crash(self.ip(number), Crash::Reset);
        }
        let node = self.nodes[number as usize - 1].take().unwrap();
        self.past.push(node.messenger.totals());
        let violations = &node.ledger.lock().unwrap().violations;
        assert!(violations.is_empty(), "{number}: {violations:?}");
        (node.spec, node.addr, node.life)
    }

    /// The process is gone and comes back at the same address.
    pub(crate) fn restart(&mut self, number: i64) {
        let (spec, addr, life) = self.kill(number);
        self.begin_life(number, spec, addr, life + 1);
    }

    /// All processes are gone; others may be started.
    pub(crate) fn stop_all(&mut self) {
        for number in self.numbers() {
            self.kill(number);
        }
        self.nodes.clear();
    }

    pub(crate) fn node(&self, number: i64) -> &Node {
        self.nodes[number as usize - 1].as_ref().unwrap()
    }

    /// Which life of a process this is; the first is 1.
    pub(crate) fn life(&self, number: i64) -> u64 {
        self.node(number).life
    }

    pub(crate) fn numbers(&self) -> Vec<i64> {
        let alive = |number: &i64| self.nodes[*number as usize - 1].is_some();
        (1..=self.nodes.len() as i64).filter(alive).collect()
    }

    pub(crate) fn ledger(&self, number: i64) -> MutexGuard<'_, Ledger> {
        self.node(number).ledger.lock().unwrap()
    }

    pub(crate) fn reactor(&self, number: i64) -> &RefCell<Reactor> {
        self.enter(number);
        &self.node(number).reactor
    }

    pub(crate) fn addr(&self, number: i64) -> EntityAddr {
        self.node(number).addr.expect("bound")
    }

    pub(crate) fn socket(&self, number: i64) -> SocketAddr {
        self.addr(number).socket.unwrap()
    }

    // What processes do.

    pub(crate) fn connect(&self, from: i64, to: i64) -> Connection {
        let kind = self.node(to).spec.name.kind;
        let connection = self.node(from).messenger.connect(kind, self.addr(to));
        let connection = connection.unwrap();
        self.ledger(from).connections.insert(to, connection.clone());
        connection
    }

    /// The newest connection of one process with another.
    pub(crate) fn connection(&self, from: i64, to: i64) -> Option<Connection> {
        self.ledger(from).connections.get(&to).cloned()
    }

    /// Sends `count` messages on the connection, if there is one.
    pub(crate) fn send(&self, from: i64, to: i64, count: usize) {
        for _ in 0..count {
            self.send_sized(from, to, 10);
        }
    }

    pub(crate) fn send_sized(&self, from: i64, to: i64, data: usize) {
        let connection = self.connection(from, to);
        let Some(connection) = connection.filter(|connection| !connection.is_closed()) else {
            return;
        };
        let life = self.node(from).life;
        let stamp = self.ledger(from).next(from, life, to);
        connection.send(stamp.message(data)).unwrap();
        // The inbox is bounded.
        self.turn(from);
    }

    pub(crate) fn mark_down(&self, from: i64, to: i64) {
        if let Some(connection) = self.connection(from, to) {
            connection.mark_down();
            self.ledger(from).forget(to);
            self.turn(from);
        }
    }

    /// The next operation of this process on a socket breaks that socket's connection.
    pub(crate) fn strike(&self, number: i64) {
        self.node(number).strikes.fetch_add(1, Ordering::Relaxed);
    }

    // Time.

    pub(crate) fn turn(&self, number: i64) -> bool {
        self.enter(number);
        self.node(number).reactor.borrow_mut().turn(self.now)
    }

    fn turn_all(&self) -> bool {
        let alive = (1..).zip(&self.nodes).filter(|(_, node)| node.is_some());
        alive.fold(false, |busy, (number, _)| self.turn(number) | busy)
    }

    /// Whether the kernel carries what is sent, and time is not this world's.
    pub(crate) fn is_real_time(&self) -> bool {
        matches!(self.net, Net::Loopback | Net::Rdma(..))
    }

    /// Whether what is sent is now and then sent again, by real hosts.
    pub(crate) fn loses_packets(&self) -> bool {
        matches!(&self.net, Net::Rdma(hosts, _) if hosts.are_apart())
    }

    /// About the thousandth part of what it takes to connect and send something.
    pub(crate) fn pace(&self) -> Duration {
        match &self.net {
            Net::Sim(_) | Net::Wire(..) | Net::Fabric(_) | Net::Loopback => {
                Duration::from_micros(1)
            }
            // What is lost is asked for again only later.
            Net::Rdma(..) if self.loses_packets() => Duration::from_micros(200),
            // The connection manager asks and answers through the kernel several times.
            Net::Rdma(..) => Duration::from_micros(50),
        }
    }

    /// Lets everything happen that happens in so much time.
    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets everything happen until `done`, which must come to pass.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let patience = match self.net {
            Net::Sim(_) | Net::Wire(..) | Net::Fabric(_) => 20 * PATIENCE,
            Net::Loopback | Net::Rdma(..) => PATIENCE,
        };
        if !self.run_until(patience, done) {
            let told: Vec<_> = self.numbers();
            let told = told.iter().map(|n| (*n, self.ledger(*n).seen.clone()));
            let told: Vec<_> = told.collect();
            panic!("seed {}: {what} never came to pass: {told:#?}", self.seed);
        }
    }

    /// Returns whether `done` came to pass in time.
    pub(crate) fn run_until(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> bool {
        if self.is_real_time() {
            self.now = Instant::now();
        }
        let end = self.now + time;
        let mut looked = false;
        loop {
            if let Net::Fabric(fabric) = &self.net {
                fabric.advance(self.now);
            }
            let busy = self.turn_all();
            if done(self) {
                return true;
            }
            match &self.net {
                Net::Sim(_) | Net::Wire(..) if busy => {}
                // What passes there takes no time, and descriptors are looked at now and then.
                Net::Fabric(_) if (busy || !looked) && self.now < end => {
                    self.now += if busy { TURN } else { LOOK };
                    looked = !busy;
                }
                Net::Sim(_) | Net::Wire(..) | Net::Fabric(_) => {
                    looked = false;
                    let nodes = self.nodes.iter().flatten();
                    let due = nodes.filter_map(|node| node.reactor.borrow().next_timeout());
                    let event = match &self.net {
                        Net::Sim(network) => network.next_event_time(),
                        Net::Fabric(fabric) => fabric.next_event_time(),
                        _ => None,
                    };
                    match due.chain(event).min() {
                        Some(next) if next <= end => self.now = next.max(self.now),
                        _ => {
                            self.now = end;
                            return false;
                        }
                    }
                }
                Net::Loopback | Net::Rdma(..) => {
                    self.now = Instant::now();
                    if self.now >= end {
                        return false;
                    }
                }
            }
        }
    }

    // What came of it.

    pub(crate) fn seen(&self, number: i64) -> Vec<Seen> {
        self.ledger(number).seen.clone()
    }

    pub(crate) fn saw(&self, number: i64, what: impl Fn(&Seen) -> bool) -> usize {
        let ledger = self.ledger(number);
        ledger.seen.iter().filter(|seen| what(seen)).count()
    }

    pub(crate) fn has_all(&self, from: i64, to: i64) -> bool {
        let (epoch, number) = self.ledger(from).last_sent(to);
        number == 0
            || self.ledger(to).last_received(from).is_some_and(|last| {
                (last.life, last.epoch, last.number) == (self.node(from).life, epoch, number)
            })
    }

    /// Waits until everything that was sent has arrived.
    #[track_caller]
    pub(crate) fn deliver(&mut self) {
        self.wait_for("delivery of everything", |world| {
            let numbers = world.numbers();
            let mut pairs = numbers
                .iter()
                .flat_map(|a| numbers.iter().map(|b| (*a, *b)));
            pairs.all(|(from, to)| world.has_all(from, to))
        });
        self.check();
    }

    /// Has a process connect and send, again if a lossy connection ends, until everything between
    /// the two has arrived.
    #[track_caller]
    pub(crate) fn come_back(&mut self, from: i64, to: i64) {
        let lossy = self.node(from).spec.policy.lossy;
        self.connect(from, to);
        self.send(from, to, 1);
        self.wait_for("delivery of everything", |world| {
            if lossy && world.connection(from, to).is_none() {
                world.connect(from, to);
                world.send(from, to, 1);
            }
            world.has_all(from, to) && world.has_all(to, from)
        });
    }

    /// Waits until everything that a process has sent is acknowledged, nobody waits for room with
    /// it, and it has so many connections at most.
    #[track_caller]
    pub(crate) fn settle(&mut self, number: i64, most: usize) {
        self.wait_for("acknowledgement of everything", |world| {
            let dumps = world.reactor(number).borrow().dump();
            let settled = |connection: &ConnectionDump| {
                let counts = connection.counts;
                counts.queued + counts.unacknowledged == 0 && !connection.throttled
            };
            dumps.len() <= most && dumps.iter().all(settled)
        });
    }

    /// Nobody was told anything twice or out of order.
    #[track_caller]
    pub(crate) fn check(&self) {
        for number in self.numbers() {
            let violations = &self.ledger(number).violations;
            assert!(
                violations.is_empty(),
                "seed {}: {number}: {violations:?}",
                self.seed
            );
        }
    }

    pub(crate) fn totals(&self, number: i64) -> Totals {
        self.node(number).messenger.totals()
    }

    /// What all processes have done, in all their lives.
    pub(crate) fn all_totals(&self) -> Totals {
        let living = self.nodes.iter().flatten();
        let living = living.map(|node| node.messenger.totals());
        living.chain(self.past.iter().copied()).sum()
    }

    pub(crate) fn connections(&self, number: i64) -> usize {
        self.node(number).reactor.borrow().connections()
    }
}

/// Nothing that breaks a stream here alters what passes on it: bytes that did not parse, or had
/// another checksum, would be mended by a reconnect, and nobody would know.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.all_totals().malformed, 0, "seed {}", self.seed);
        }
    }
}
