//! [`Sim`]: one process on a simulated network, as a [`Transport`].

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::fault::{Crash, Side};
use super::world::{LinkId, Listening, NodeId, World};
use crate::{
    BufferPool, Caps, Close, ConnId, ConnectOptions, Cost, Event, ListenOptions, ListenerId,
    OpenError, Operation, Park, Port, SendError, Transport, TxQueue,
};

const NAME: &str = "sim";

/// One process on a [`SimNetwork`](super::SimNetwork). It owns one address and all its ports.
#[derive(Debug)]
pub struct Sim {
    world: Rc<RefCell<World>>,
    node: NodeId,
    ip: IpAddr,
    /// Connections sent to since the last flush.
    staged: Vec<ConnId>,
    pool: BufferPool,
    cost: Cost,
}

impl Sim {
    pub(super) fn new(world: Rc<RefCell<World>>, ip: IpAddr) -> Self {
        let node = world.borrow_mut().spawn(ip);
        Self {
            world,
            node,
            ip,
            staged: Vec::new(),
            pool: BufferPool::default(),
            cost: Cost::default(),
        }
    }

    /// Whether this process may use an address.
    fn check(&self, world: &World, address: SocketAddr) -> io::Result<()> {
        if world.nodes.get(self.node).is_none_or(|node| node.crashed) {
            Err(io::ErrorKind::NetworkDown.into())
        } else if address.ip() == self.ip {
            Ok(())
        } else {
            Err(io::ErrorKind::AddrNotAvailable.into())
        }
    }

    fn try_listen(
        &self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(ListenerId, SocketAddr)> {
        let mut world = self.world.borrow_mut();
        self.check(&world, at)?;
        let at = world.choose_port(at, None);
        let at = at.ok_or(io::ErrorKind::AddrInUse)?;
        if options.port == Port::Take && world.listeners.contains_key(&at) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let node = world.nodes.get_mut(self.node);
        let node = node.ok_or(io::ErrorKind::NetworkDown)?;
        let listener = node.listeners.insert(at);
        world.listeners.entry(at).or_default().push_back(Listening {
            node: self.node,
            listener,
        });
        Ok((listener, at))
    }

    fn try_connect(&self, to: SocketAddr, options: &ConnectOptions) -> io::Result<ConnId> {
        let mut world = self.world.borrow_mut();
        let local = options.local.unwrap_or(SocketAddr::new(self.ip, 0));
        self.check(&world, local)?;
        let local = world.choose_port(local, Some(to));
        let local = local.ok_or(io::ErrorKind::AddrNotAvailable)?;
        if world.is_foreign(local, self.node) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        if world.is_connected(local, to) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        Ok(world.connect(self.node, local, to))
    }
}

/// The connection `conn` of `node`.
fn find(world: &World, node: NodeId, conn: ConnId) -> Option<(LinkId, Side)> {
    world.nodes.get(node)?.conns.get(conn).copied()
}

impl Transport for Sim {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self) -> Caps {
        Caps {
            copy_below: 0,
            send_window: self.world.borrow().config.window,
            places: false,
        }
    }

    fn listen(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> Result<(ListenerId, SocketAddr), OpenError> {
        self.try_listen(at, options)
            .map_err(|source| open_error(Operation::Listen, at, source))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.world.borrow_mut().unlisten(self.node, listener);
    }

    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError> {
        self.try_connect(to, options)
            .map_err(|source| open_error(Operation::Connect, to, source))
    }

    fn send(&mut self, conn: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let mut world = self.world.borrow_mut();
        let (link, side) = find(&world, self.node, conn).ok_or(SendError::NotConnected)?;
        let link = world.links.get_mut(link).ok_or(SendError::NotConnected)?;
        let up = link.end(side).is_some_and(|end| end.up);
        if !up {
            return Err(SendError::NotConnected);
        }
        let listed = link.pipe(side).has_staged();
        let taken = link.pipe(side).stage(queue);
        if !listed && taken > 0 {
            self.staged.push(conn);
        }
        Ok(taken)
    }

    fn flush(&mut self) {
        let mut world = self.world.borrow_mut();
        for conn in self.staged.drain(..) {
            if let Some((link, side)) = find(&world, self.node, conn) {
                let bytes = world.flush(link, side);
                self.cost.bytes_copied += bytes as u64;
                self.cost.doorbells += u64::from(bytes > 0);
            }
        }
    }

    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        let mut world = self.world.borrow_mut();
        let advanced = world.advance(now);
        world.hand_up(self.node, events) || advanced
    }

    fn set_receive(&mut self, conn: ConnId, enabled: bool) {
        let mut world = self.world.borrow_mut();
        if let Some((link, side)) = find(&world, self.node, conn) {
            if let Some(end) = world.links.get_mut(link).and_then(|link| link.end(side)) {
                end.receiving = enabled;
            }
            world.list(link, side);
        }
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        let bytes = self.world.borrow_mut().close(self.node, conn, how);
        self.cost.bytes_copied += bytes as u64;
        self.cost.doorbells += u64::from(bytes > 0);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.world.borrow().next_event_time(Some(self.node))
    }

    /// A simulated process cannot sleep in real time: this tells for how long of its own time it
    /// could.
    fn park(&mut self) -> Park<'_> {
        match self.world.borrow().next_event(Some(self.node)) {
            Some(Duration::ZERO) => Park::Busy,
            Some(wait) => Park::Nap(wait),
            None => Park::Nap(Duration::MAX),
        }
    }

    fn pool(&mut self) -> &mut BufferPool {
        &mut self.pool
    }

    fn cost(&self) -> Cost {
        self.cost
    }
}

/// The process ends, and the system resets what it leaves behind.
impl Drop for Sim {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        world.stop(self.node, Crash::Reset);
        world.nodes.remove(self.node);
    }
}

fn open_error(operation: Operation, at: SocketAddr, source: io::Error) -> OpenError {
    OpenError {
        transport: NAME,
        operation,
        address: Some(at),
        source,
    }
}
