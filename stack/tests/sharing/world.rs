//! [`World`]: messengers that the test drives, on the simulated network, on userspace TCP or on real
//! sockets.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use msgr::protocol::{EntityAddr, EntityType, Policy};
use msgr::transport::Transport;
use msgr::transport::middleware::{FaultInjector, Injection};
use msgr::transport::posix::Posix;
use msgr::transport::sim::{SimConfig, SimNetwork};
use msgr::transport::tcp::wire::{Wire, WireConfig};
use msgr::transport::tcp::{Tcp, TcpConfig};
use msgr::{BindError, Connection, Messenger, Reactor, Settings};

use super::{PATIENCE, Told, Witness, message};

pub(crate) struct Node {
    pub(crate) messenger: Messenger,
    pub(crate) reactor: RefCell<Reactor>,
    pub(crate) witness: Arc<Witness>,
    strikes: Arc<AtomicU32>,
    pub(crate) addr: Option<EntityAddr>,
}

impl Node {
    pub(crate) fn addr(&self) -> EntityAddr {
        self.addr.expect("bound")
    }

    /// Its connection to another one, with a message on it.
    pub(crate) fn greet(&self, other: &Node, tid: u64) -> Connection {
        let connection = self.messenger.connect(EntityType::Osd, other.addr());
        let connection = connection.unwrap();
        connection.send(message(tid)).unwrap();
        connection
    }

    pub(crate) fn received(&self) -> Vec<u64> {
        self.witness.log().received.clone()
    }

    pub(crate) fn accepted(&self, which: usize) -> Connection {
        self.witness.log().accepted[which].clone()
    }

    /// The next operation on a socket breaks its connection.
    pub(crate) fn strike(&self) {
        self.strikes.store(1, Ordering::Relaxed);
    }
}

enum Net {
    Sim(SimNetwork),
    /// Of hosts on which there is one process each.
    Wire(Wire),
    Sockets,
}

pub(crate) struct World {
    network: Net,
    nodes: RefCell<Vec<Rc<Node>>>,
    now: Cell<Instant>,
}

impl World {
    pub(crate) fn simulated(seed: u64) -> Self {
        Self::new(Net::Sim(SimNetwork::new(seed, SimConfig::default())))
    }

    pub(crate) fn on_userspace_tcp() -> Self {
        Self::new(Net::Wire(Wire::new(WireConfig::default())))
    }

    pub(crate) fn on_sockets() -> Self {
        Self::new(Net::Sockets)
    }

    fn new(network: Net) -> Self {
        Self {
            network,
            nodes: RefCell::default(),
            now: Instant::now().into(),
        }
    }

    fn ip(&self, host: u8) -> IpAddr {
        match self.network {
            Net::Sim(_) | Net::Wire(_) => [10, 0, 0, host].into(),
            Net::Sockets => [127, 0, 0, host].into(),
        }
    }

    fn transport(&self, host: u8) -> Box<dyn Transport> {
        match &self.network {
            Net::Sim(network) => Box::new(network.node(self.ip(host))),
            Net::Wire(wire) => {
                let config = TcpConfig::new(self.ip(host), 24);
                Box::new(Tcp::new(wire.port(), config, self.now.get()).unwrap())
            }
            Net::Sockets => Box::new(Posix::new().unwrap()),
        }
    }

    /// A new process on a host, bound to `at` or not.
    pub(crate) fn try_start(
        &self,
        host: u8,
        name: &str,
        policy: Policy,
        at: Option<EntityAddr>,
    ) -> Result<Rc<Node>, BindError> {
        let mut nodes = self.nodes.borrow_mut();
        let mut settings = Settings::new(name.parse().unwrap(), policy);
        settings.protocol.nonce = nodes.len() as u32;
        settings.seed = nodes.len() as u64;
        settings.connect_from_bound = true;
        settings.backoff.initial = Duration::from_millis(10);
        let injector = FaultInjector::new(self.transport(host), Injection::default(), 0);
        let strikes = injector.strikes();
        let witness = Arc::<Witness>::default();
        let told = Told(Arc::clone(&witness));
        let (messenger, mut reactor) =
            Messenger::driven_by_caller(settings, Box::new(injector), told).unwrap();
        let addr = at.map(|at| reactor.bind(at)).transpose()?;
        let node = Rc::new(Node {
            messenger,
            reactor: reactor.into(),
            witness,
            strikes,
            addr,
        });
        nodes.push(Rc::clone(&node));
        Ok(node)
    }

    pub(crate) fn bound(&self, host: u8, name: &str, policy: Policy) -> Rc<Node> {
        let at = EntityAddr::msgr2(SocketAddr::new(self.ip(host), 0), host.into());
        self.try_start(host, name, policy, Some(at)).unwrap()
    }

    pub(crate) fn unbound(&self, host: u8, name: &str, policy: Policy) -> Rc<Node> {
        self.try_start(host, name, policy, None).unwrap()
    }

    /// Lets everything happen until `done`, which must come to pass.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, done: impl Fn() -> bool) {
        let nodes = self.nodes.borrow();
        let turn_all = |now| {
            let turns = nodes.iter().map(|node| node.reactor.borrow_mut().turn(now));
            turns.fold(false, |busy, turn| busy | turn)
        };
        let start = self.now.get();
        while !done() {
            let now = self.now.get();
            assert!(now < start + PATIENCE, "{what} never came to pass");
            let busy = turn_all(now);
            let event = match &self.network {
                Net::Sim(_) | Net::Wire(_) if busy => continue,
                Net::Sim(network) => network.next_event_time(),
                Net::Wire(_) => None,
                Net::Sockets => {
                    self.now.set(Instant::now());
                    continue;
                }
            };
            let due = nodes
                .iter()
                .filter_map(|node| node.reactor.borrow().next_timeout());
            let next = due.chain(event).min();
            let next = next.expect("there is something to wait for");
            self.now.set(next.max(now));
        }
    }
}
