//! [`Sim`]: a seeded, deterministic network in one thread, with faults.
//!
//! Time is what the calls to [`poll`](crate::Transport::poll) say it is, and chance comes from the
//! seed: the same calls give the same events, so a failing seed replays. Each direction of a
//! connection is a byte pipe with a latency, a window and a way to chop what was flushed. Nothing
//! here knows what the bytes mean, and nothing waits for real time.

mod fault;
mod link;
mod node;
mod pipe;
mod ports;
mod world;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

pub use fault::{Crash, Fault, FaultRates, Plan, Side};
pub use node::Sim;
use world::World;

/// What a [`SimNetwork`] is like.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// How long anything takes from one node to another.
    pub latency: Latency,
    /// How flushed bytes are cut into received pieces.
    pub chop: Chop,
    /// The most bytes sent and not yet received, in each direction of a connection.
    pub window: usize,
    /// What goes wrong by chance.
    pub faults: FaultRates,
    /// Whether to write down what happens, for [`SimNetwork::trace`].
    pub trace: bool,
}

impl Default for SimConfig {
    /// 50 to 150 us, each flush in one piece, a window of 256 KiB, and nothing goes wrong.
    fn default() -> Self {
        Self {
            latency: Latency::between(Duration::from_micros(50), Duration::from_micros(150)),
            chop: Chop::Whole,
            window: 256 << 10,
            faults: FaultRates::default(),
            trace: false,
        }
    }
}

/// How long a piece takes. Pieces of one direction never overtake each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// The shortest.
    pub least: Duration,
    /// The longest, but for the slow ones; all in between are equally likely.
    pub most: Duration,
    /// One piece in so many is slow; 0 means none.
    pub slow_one_in: u32,
    /// What a slow one takes.
    pub slow: Duration,
}

impl Latency {
    /// Always the same.
    pub const fn fixed(latency: Duration) -> Self {
        Self::between(latency, latency)
    }

    /// Anything from `least` to `most`.
    pub const fn between(least: Duration, most: Duration) -> Self {
        Self {
            least,
            most,
            slow_one_in: 0,
            slow: Duration::ZERO,
        }
    }

    fn sample(&self, rng: &mut Rng) -> Duration {
        if self.slow_one_in > 0 && rng.u32(0..self.slow_one_in) == 0 {
            return self.slow;
        }
        let spread = self.most.saturating_sub(self.least).as_nanos() as u64;
        self.least + Duration::from_nanos(rng.u64(0..=spread))
    }
}

/// How the bytes of one flush are cut into pieces, each of which comes up as data of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chop {
    /// Not at all.
    Whole,
    /// After every so many bytes, counted from the start of the flush; 0 counts as 1.
    Every(usize),
    /// At random, into pieces of at most so many bytes; 0 counts as 1.
    Random(usize),
    /// At these offsets into the stream, which ascend.
    At(Arc<[u64]>),
}

/// A network, its nodes and its clock. Clones share it.
#[derive(Debug, Clone)]
pub struct SimNetwork(Rc<RefCell<World>>);

impl SimNetwork {
    /// A network without nodes, in which chance is what `seed` makes it.
    pub fn new(seed: u64, config: SimConfig) -> Self {
        Self(Rc::new(RefCell::new(World::new(seed, config))))
    }

    /// A transport of a new process at `ip`. A host may run several, and a process that has
    /// crashed may be followed by another. To drop the transport is to end the process.
    pub fn node(&self, ip: IpAddr) -> Sim {
        Sim::new(Rc::clone(&self.0), ip)
    }

    /// When something will happen next, if nobody does anything: to poll every node then is to
    /// miss nothing. Unknown before the first poll has told the time.
    pub fn next_event_time(&self) -> Option<Instant> {
        self.0.borrow().next_event_time(None)
    }

    /// What goes wrong by chance with connections yet to be made.
    pub fn set_faults(&self, faults: FaultRates) {
        self.0.borrow_mut().config.faults = faults;
    }

    /// Cuts what is flushed `from` that side of connections yet to be made as `chop` says.
    pub fn set_chop(&self, from: Side, chop: Chop) {
        self.0.borrow_mut().chop[from as usize] = chop;
    }

    /// Plans what becomes of the next connection to `to` for which nothing is planned yet.
    pub fn plan(&self, to: SocketAddr, plan: impl Into<Plan>) {
        let mut world = self.0.borrow_mut();
        world.plans.entry(to).or_default().push_back(plan.into());
    }

    /// The established connections: the connector's address and the acceptor's.
    pub fn connections(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let world = self.0.borrow();
        let links = world.links.iter().map(|(_, link)| link);
        links
            .filter(|link| link.is_established())
            .map(|link| (link.address(Side::Connector), link.address(Side::Acceptor)))
            .collect()
    }

    /// Lets `fault` befall the established connection between `connector` and `acceptor`. Bytes
    /// that have arrived already count. Returns whether there is such a connection.
    pub fn inject(&self, connector: SocketAddr, acceptor: SocketAddr, fault: Fault) -> bool {
        let mut world = self.0.borrow_mut();
        let link = world.find(connector, acceptor);
        if let Some(link) = link {
            world.arm(link, fault);
        }
        link.is_some()
    }

    /// Ends every stall of the established connection between `connector` and `acceptor`. Returns
    /// whether there is such a connection.
    pub fn release(&self, connector: SocketAddr, acceptor: SocketAddr) -> bool {
        let mut world = self.0.borrow_mut();
        let link = world.find(connector, acceptor);
        if let Some(link) = link {
            for side in Side::BOTH {
                world.resume(link, side);
            }
        }
        link.is_some()
    }

    /// Ends every process at `ip`: its connections and listeners are gone, and its transports do
    /// nothing any more.
    pub fn crash(&self, ip: IpAddr, how: Crash) {
        self.0.borrow_mut().crash(ip, how);
    }

    /// Which hosts a [`Fault::Crash`] has struck since the last call: whoever drives them starts
    /// them again.
    pub fn take_crashed(&self) -> Vec<IpAddr> {
        std::mem::take(&mut self.0.borrow_mut().crashed)
    }

    /// How many attempts to connect and connections a fault has struck so far.
    pub fn faults(&self) -> u64 {
        self.0.borrow().struck
    }

    /// What happened so far, a line each, if [`SimConfig::trace`] asked for it.
    pub fn trace(&self) -> String {
        self.0.borrow().trace().to_owned()
    }
}
