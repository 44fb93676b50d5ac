//! [`Rdma`]: reliable connected queue pairs, for hosts with InfiniBand, RoCE, or `rdma_rxe`.
//!
//! Connections are set up by `rdma_cm`, or as Ceph does. What comes lands in blocks of registered
//! memory that all connections of a device share, and goes up as slices of them; a sender has credits for posted
//! receives, so that there always is one. What is sent is copied into registered blocks, packed,
//! and posted with one doorbell per flush; tiny messages go out within their work requests, and
//! large data stays where it is until the peer has read it.
//! rdma-core is loaded when a transport is made: a host without it can run everything else.
//!
//! Unsafe code is in the wrappers of what rdma-core has (`device`, `arena`, `loan`, `completion`,
//! `receive_queue`, `queue_pair`, `cm`); each keeps what it was made of, so that nothing is
//! destroyed before its users. Layouts are in `wire`. Nothing of msgr2 may live here.
//!
//! Needs sends with immediate data, which iWARP does not have.

mod adapter;
mod arena;
mod ceph;
mod cm;
mod completion;
mod connection;
mod counts;
mod credits;
mod device;
mod dialect;
#[cfg(any(test, feature = "fake-rdma"))]
pub mod fake;
mod link;
mod listening;
mod loan;
mod offers;
mod opening;
mod path;
mod queue_pair;
mod receive_queue;
mod setup;
mod sharing;
pub mod side_channel; // For fuzzing only.
mod staging;
#[cfg(test)]
mod tests;
mod traffic;
mod watch;
mod wire;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::Add;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fd::AsFd;
use rustix::io::Errno;

use crate::posix::listener::Listener as TcpListener;
use crate::{
    BufferPool, Caps, Close, CloseReason, ConnId, ConnectOptions, Cost, Event, LINGER,
    ListenOptions, ListenerId, OpenError, Operation, Park, SendError, Slots, Transport, TxQueue,
};
use adapter::Adapter;
use cm::EventChannel;
use connection::{Connection, Phase};
pub use counts::Counts;
use device::Libraries;
pub use dialect::Setup;
use listening::Listener;
use watch::{Source, Watch};
use wire::OFFERS;

const NAME: &str = "rdma";
/// Segments below this size are better copied together by the caller: they are copied anyway.
const COPY_BELOW: usize = 4 << 10;
/// How often the descriptors are looked at while nobody sleeps on them.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// Completions looked at in one poll, of each device.
const COMPLETIONS: usize = 256;

/// How long the kernel may take for each step of finding the way to a peer.
const RESOLVE: Duration = Duration::from_secs(2);
/// A peer is given up after so many looks of the keepalive without a sign of life.
const SILENT_LOOKS: u32 = 10;

/// How much memory a transport registers, and what connections get of it. It is registered per
/// device in use, when that is first used: [`registered_bytes`](Self::registered_bytes), 64 MiB by
/// default, which `RLIMIT_MEMLOCK` has to allow; what is on loan to peers comes on top of it, at most
/// 4 pieces for each connection. Besides, each connection takes less than 96 KiB, nearly all of it the
/// device's queue for work requests: 80 KiB with `rdma_rxe` and the default depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RdmaConfig {
    /// How connections are set up. Both ends must agree.
    pub setup: Setup,
    /// The most bytes of one send or receive, at least 1 KiB. [`Setup::Ceph`] has to have what the
    /// peer has (`ms_async_rdma_buffer_size`).
    pub block_size: usize,
    /// Receives that are posted. Each connection takes at least 4 of them.
    pub receive_blocks: usize,
    /// Blocks that may be in the application's hands while receives are posted in their place.
    /// What is received beyond that is copied.
    pub spare_blocks: usize,
    /// Blocks to send from.
    pub send_blocks: usize,
    /// Data segments from this size on are not sent, but read by the peer from where they are, in
    /// bytes; at least 4 KiB.
    pub offer_from: usize,
    /// How many bytes are read at a time of what a peer offers, at least 4 KiB.
    pub landing_size: usize,
    /// Blocks of that size to read into, at least 3. The application may have all but two of them
    /// in its hands; what is read beyond that is copied.
    pub landing_blocks: usize,
    /// Sends with data that one connection may have under way.
    pub depth: usize,
    /// The most receives that one connection is granted.
    pub share: usize,
    /// How often connections are looked at whether their peer is alive. One that has not
    /// acknowledged anything at ten looks in a row is over.
    pub keepalive: Duration,
}

impl Default for RdmaConfig {
    fn default() -> Self {
        Self {
            setup: Setup::ConnectionManager,
            block_size: 16 << 10,
            receive_blocks: 2048,
            spare_blocks: 512,
            send_blocks: 512,
            offer_from: 64 << 10,
            landing_size: 1 << 20,
            landing_blocks: 16,
            depth: 64,
            share: 64,
            keepalive: Duration::from_secs(1),
        }
    }
}

impl RdmaConfig {
    /// How many bytes are registered with each device in use, without what is on loan to peers.
    pub fn registered_bytes(&self) -> usize {
        let blocks = self.receive_blocks + self.spare_blocks + self.send_blocks;
        blocks * self.block_size + self.landing_blocks * self.landing_size
    }

    /// For peers that are Ceph's, in blocks of the size that they have unless told otherwise, 128
    /// KiB: 56 MiB are registered. Nobody offers anything.
    pub fn ceph() -> Self {
        Self {
            setup: Setup::Ceph,
            block_size: 128 << 10,
            receive_blocks: 256,
            spare_blocks: 64,
            send_blocks: 128,
            landing_size: 4 << 10,
            landing_blocks: 3,
            depth: 16,
            share: 32,
            ..Self::default()
        }
    }

    fn check(&self) -> io::Result<()> {
        let bounds = [
            ("block_size", self.block_size, 1 << 10, 1 << 20),
            ("receive_blocks", self.receive_blocks, 4, 1 << 15),
            ("spare_blocks", self.spare_blocks, 1, 1 << 15),
            ("send_blocks", self.send_blocks, 1, 1 << 15),
            ("offer_from", self.offer_from, 4 << 10, usize::MAX),
            ("landing_size", self.landing_size, 4 << 10, 1 << 30),
            ("landing_blocks", self.landing_blocks, 3, 1 << 10),
            ("depth", self.depth, 1, 1 << 10),
            ("share", self.share, 4, 1 << 15),
        ];
        for (setting, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                let message = format!("{setting} is {value}, it must be from {least} to {most}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        }
        Ok(())
    }
}

/// Queue pairs of one reactor.
pub struct Rdma {
    config: RdmaConfig,
    libraries: Libraries,
    /// Dropped in this order: connections before what they are made of.
    conns: Slots<crate::slots::Conn, Connection>,
    listeners: Slots<crate::slots::Listener, Listener>,
    adapters: Vec<Adapter>,
    /// Of [`Setup::Ceph`]: where connections come in.
    ports: Slots<crate::slots::Listener, TcpListener>,
    /// Which of them, and of the side channels, have something to say; reused.
    heard: Vec<Source>,
    /// Whether a listener's device is gone.
    has_lost_listeners: bool,
    channel: Arc<EventChannel>,
    watch: Watch,
    /// Connections with something to do at the next poll.
    work: VecDeque<ConnId>,
    /// Connections sent to since the last flush.
    touched: Vec<ConnId>,
    /// Connections that wait for what all share: blocks to send from, and sends under way.
    starved: VecDeque<ConnId>,
    /// Connections that the caller has left, by the time at which they are given up.
    lingering: VecDeque<(Instant, ConnId)>,
    /// Connections that are over, by the time until which the device may take to say so.
    flushing: VecDeque<(Instant, ConnId)>,
    /// Connections whose sends are over, by the time until which a receive may come back.
    resting: VecDeque<(Instant, ConnId)>,
    /// The latest time heard of.
    now: Option<Instant>,
    looked: Option<Instant>,
    keepalive: Option<Instant>,
    pool: BufferPool,
    cost: Cost,
}

impl Rdma {
    /// A transport without any connection yet. It registers memory when it first uses a device.
    ///
    /// # Errors
    /// [`OpenError`] when a setting is out of bounds, or the host has no rdma-core, no device, or
    /// no connection manager (the kernel's module `rdma_ucm`).
    pub fn new(config: RdmaConfig) -> Result<Self, OpenError> {
        let libraries = Libraries::load().map_err(|missing| {
            let missing = io::Error::new(io::ErrorKind::Unsupported, missing);
            open_error(Operation::Start, None, missing)
        })?;
        Self::with(libraries, config)
    }

    fn with(libraries: Libraries, config: RdmaConfig) -> Result<Self, OpenError> {
        let error = |source| open_error(Operation::Start, None, source);
        config.check().map_err(error)?;
        let names = match libraries.device_names() {
            Ok(names) => names,
            Err(source) if source.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => Vec::new(),
            Err(source) => return Err(error(source)),
        };
        if names.is_empty() {
            let message = "this host has no RDMA device";
            return Err(error(io::Error::new(io::ErrorKind::NotFound, message)));
        }
        let channel = EventChannel::new(libraries).map_err(error)?;
        let watch = Watch::new().map_err(|errno| error(errno.into()))?;
        let watched = watch.add(channel.as_fd(), Source::Manager);
        watched.map_err(|errno| error(errno.into()))?;
        Ok(Self {
            config,
            libraries,
            conns: Slots::default(),
            listeners: Slots::default(),
            ports: Slots::default(),
            heard: Vec::new(),
            adapters: Vec::new(),
            has_lost_listeners: false,
            channel,
            watch,
            work: VecDeque::new(),
            touched: Vec::new(),
            starved: VecDeque::new(),
            lingering: VecDeque::new(),
            flushing: VecDeque::new(),
            resting: VecDeque::new(),
            now: None,
            looked: None,
            keepalive: None,
            pool: BufferPool::default(),
            cost: Cost::default(),
        })
    }

    /// What was asked of the devices in use so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counts = self.adapters.iter().map(Adapter::counts);
        counts.fold(Counts::default(), Counts::add)
    }

    /// The connection, if the caller may still use it.
    fn owned(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.conns.get_mut(id).filter(|conn| conn.is_owned())
    }

    /// There is more again of what all connections share.
    fn feed(&mut self) {
        while let Some(id) = self.starved.pop_front() {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.starved = false;
                list(&mut self.work, id, conn);
            }
        }
    }

    /// Has the next poll look at a connection.
    fn list(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            list(&mut self.work, id, conn);
        }
    }
}

impl Transport for Rdma {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self) -> Caps {
        Caps {
            copy_below: COPY_BELOW,
            send_window: self.config.depth * self.config.block_size
                + OFFERS * self.config.landing_size,
            places: false,
        }
    }

    fn listen(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> Result<(ListenerId, SocketAddr), OpenError> {
        let error = |source| open_error(Operation::Listen, Some(at), source);
        self.open_listener(at, options).map_err(error)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.close_listener(listener);
    }

    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError> {
        let error = |source| open_error(Operation::Connect, Some(to), source);
        self.start(to, options.local).map_err(error)
    }

    fn send(&mut self, id: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let conn = self.conns.get_mut(id);
        let conn = conn.filter(|conn| conn.phase == Phase::Open);
        let conn = conn.ok_or(SendError::NotConnected)?;
        let link = conn.link.as_mut().ok_or(SendError::NotConnected)?;
        let adapter = &mut self.adapters[link.adapter];
        let taken = link.stage(queue, adapter, &mut self.cost);
        conn.owes_room = !queue.is_empty();
        if conn.owes_room && link.has_room(adapter) {
            starve(&mut self.starved, id, conn);
        }
        if !conn.touched {
            conn.touched = true;
            self.touched.push(id);
        }
        Ok(taken)
    }

    fn flush(&mut self) {
        let mut has_freed = false;
        while let Some(id) = self.touched.pop() {
            let Some(conn) = self.conns.get_mut(id) else {
                continue;
            };
            conn.touched = false;
            if let Some(link) = &mut conn.link
                && conn.phase == Phase::Open
            {
                let adapter = &mut self.adapters[link.adapter];
                let free = adapter.send_arena.free();
                let posted = link.post(adapter, &mut self.cost);
                has_freed |= adapter.send_arena.free() > free;
                if link.owes() || posted.is_err() {
                    if let Err(reason) = posted {
                        conn.fail(reason);
                    }
                    list(&mut self.work, id, conn);
                }
            }
        }
        // Of what brought these blocks back, no completion may tell.
        if has_freed {
            self.feed();
        }
    }

    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        let before = events.len();
        self.now = Some(now);
        // First what the manager says, then what was received by then.
        let mut done = self.look(now, events);
        for adapter in 0..self.adapters.len() {
            done |= self.complete(adapter, events);
        }
        done |= !self.work.is_empty();
        for _ in 0..self.work.len() {
            if let Some(id) = self.work.pop_front() {
                self.serve(id, events);
            }
        }
        for adapter in &mut self.adapters {
            adapter.flush_receives();
        }
        done |= self.expire(now);
        done | (events.len() > before)
    }

    fn set_receive(&mut self, id: ConnId, enabled: bool) {
        if let Some(conn) = self.owned(id) {
            conn.receiving = enabled;
            self.list(id);
        }
    }

    fn close(&mut self, id: ConnId, how: Close) {
        let Some(conn) = self.owned(id) else {
            return;
        };
        if how == Close::Drain && conn.phase == Phase::Open && conn.failed.is_none() {
            conn.phase = Phase::Draining;
            conn.owes_room = false;
            let until = self.now.map(|now| now + LINGER);
            self.lingering.extend(until.map(|until| (until, id)));
            // What is staged goes out now: there may be no flush any more.
            self.drain(id);
            self.list(id);
        } else {
            self.end(id);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let due = |queue: &VecDeque<(Instant, ConnId)>| {
            let alive = |&&(_, id): &&(Instant, ConnId)| self.conns.get(id).is_some();
            queue.iter().find(alive).map(|&(until, _)| until)
        };
        let queues = [&self.lingering, &self.flushing, &self.resting];
        let due = queues.into_iter().filter_map(due);
        due.chain(self.keepalive).min()
    }

    fn park(&mut self) -> Park<'_> {
        self.looked = None;
        for adapter in &mut self.adapters {
            if adapter.failed.is_none() && adapter.completions.arm().is_err() {
                return Park::Nap(LOOK_EVERY);
            }
        }
        // What had completed before the queues were armed.
        let any = self.adapters.iter_mut().any(Adapter::look);
        if any || !self.work.is_empty() {
            Park::Busy
        } else {
            Park::Fd(self.watch.as_fd())
        }
    }

    fn pool(&mut self) -> &mut BufferPool {
        &mut self.pool
    }

    fn cost(&self) -> Cost {
        self.cost
    }
}

/// Puts a connection on the list of work, once.
fn list(work: &mut VecDeque<ConnId>, id: ConnId, conn: &mut Connection) {
    if !conn.listed {
        conn.listed = true;
        work.push_back(id);
    }
}

/// Puts a connection among those that wait for what all share, once.
fn starve(starved: &mut VecDeque<ConnId>, id: ConnId, conn: &mut Connection) {
    if !conn.starved {
        conn.starved = true;
        starved.push_back(id);
    }
}

/// What a failure of the device means for a connection, by the kernel's error number.
fn device_failed() -> CloseReason {
    CloseReason::Os(Errno::NODEV.raw_os_error())
}

/// The peer does not keep to the protocol of this transport.
fn misbehaved() -> CloseReason {
    CloseReason::Os(Errno::PROTO.raw_os_error())
}

fn open_error(operation: Operation, address: Option<SocketAddr>, source: io::Error) -> OpenError {
    OpenError {
        transport: NAME,
        operation,
        address,
        source,
    }
}
