//! [`Queues`]: a host whose port has two queues, with an endpoint at each, as one transport. Which of
//! the two gets to work, the tests do not see.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use msgr_transport::tcp::{Device, Steering, Tcp, TcpConfig};
use msgr_transport::{
    BufferPool, Caps, Close, ConnId, ConnectOptions, Cost, Event, ListenOptions, ListenerId,
    OpenError, Park, Port, SendError, SlotId, Transport, TxQueue,
};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

pub(crate) struct Queues<D: Device> {
    pub(crate) endpoints: [Tcp<D>; 2],
    /// The same listener at both.
    listeners: Vec<[ListenerId; 2]>,
    connected: usize,
    events: Vec<Event>,
    sleep: OwnedFd,
}

/// Whether frames come to the queue that the hash says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    Right,
    /// Each to the other.
    Wrong,
}

/// The endpoints at the two queues of a port.
pub(crate) fn endpoints<D: Device>(
    devices: Vec<D>,
    spread: Spread,
    config: &TcpConfig,
    now: Instant,
) -> [Tcp<D>; 2] {
    let mut steering = Steering::new(2);
    if spread == Spread::Wrong {
        steering.reverse();
    }
    let both = devices.into_iter().zip(steering);
    let both = both.map(|(device, steering)| {
        Tcp::steered(device, steering, config.clone(), now).expect("it starts")
    });
    let both: Vec<_> = both.collect();
    both.try_into().ok().expect("two queues")
}

impl<D: Device> Queues<D> {
    pub(crate) fn new(endpoints: [Tcp<D>; 2]) -> Self {
        Self {
            endpoints,
            listeners: Vec::new(),
            connected: 0,
            events: Vec::new(),
            sleep: epoll::create(CreateFlags::CLOEXEC).expect("an epoll descriptor"),
        }
    }

    fn of<K>(&mut self, id: SlotId<K>) -> (&mut Tcp<D>, SlotId<K>) {
        let (endpoint, id) = inner(id);
        (&mut self.endpoints[endpoint], id)
    }
}

/// An id of one endpoint as one of both.
fn outer<K>(endpoint: usize, id: SlotId<K>) -> SlotId<K> {
    let (generation, slot) = (id.to_u64() >> 32, id.slot() as u64);
    SlotId::from_u64(generation << 32 | slot << 1 | endpoint as u64)
}

fn inner<K>(id: SlotId<K>) -> (usize, SlotId<K>) {
    let (generation, slot) = (id.to_u64() >> 32, id.slot() as u64);
    let inner = SlotId::from_u64(generation << 32 | slot >> 1);
    ((slot & 1) as usize, inner)
}

impl<D: Device> Transport for Queues<D> {
    fn name(&self) -> &'static str {
        self.endpoints[0].name()
    }

    fn caps(&self) -> Caps {
        self.endpoints[0].caps()
    }

    fn listen(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> Result<(ListenerId, SocketAddr), OpenError> {
        let [one, other] = &mut self.endpoints;
        let (first, at) = one.listen(at, options)?;
        let join = ListenOptions {
            port: Port::Join,
            ..options.clone()
        };
        let (second, _) = other.listen(at, &join).expect("it joins");
        self.listeners.push([first, second]);
        Ok((outer(0, first), at))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        let (_, first) = inner(listener);
        let at = self.listeners.iter().position(|both| both[0] == first);
        if let Some(at) = at {
            let both = self.listeners.swap_remove(at);
            for (endpoint, listener) in self.endpoints.iter_mut().zip(both) {
                endpoint.unlisten(listener);
            }
        }
    }

    /// Takes turns.
    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError> {
        let endpoint = self.connected % 2;
        self.connected += 1;
        let id = self.endpoints[endpoint].connect(to, options)?;
        Ok(outer(endpoint, id))
    }

    fn send(&mut self, conn: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let (endpoint, conn) = self.of(conn);
        endpoint.send(conn, queue)
    }

    fn flush(&mut self) {
        self.endpoints.iter_mut().for_each(Transport::flush);
    }

    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        let mut done = false;
        for (at, endpoint) in self.endpoints.iter_mut().enumerate() {
            done |= endpoint.poll(now, &mut self.events);
            let listeners = &self.listeners;
            events.extend(self.events.drain(..).map(|mut event| {
                match &mut event {
                    Event::Accepted { listener, conn, .. } => {
                        let both = listeners.iter().find(|both| both[at] == *listener);
                        *listener = outer(0, both.expect("it listens")[0]);
                        *conn = outer(at, *conn);
                    }
                    Event::Connected { conn, .. }
                    | Event::Data { conn, .. }
                    | Event::Room { conn }
                    | Event::Closed { conn, .. } => *conn = outer(at, *conn),
                }
                event
            }));
        }
        done
    }

    fn place(&mut self, conn: ConnId, buffer: BytesMut) -> Result<(), BytesMut> {
        let (endpoint, conn) = self.of(conn);
        endpoint.place(conn, buffer)
    }

    fn set_receive(&mut self, conn: ConnId, enabled: bool) {
        let (endpoint, conn) = self.of(conn);
        endpoint.set_receive(conn, enabled);
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        let (endpoint, conn) = self.of(conn);
        endpoint.close(conn, how);
    }

    fn next_timeout(&self) -> Option<Instant> {
        let due = self.endpoints.iter().filter_map(Transport::next_timeout);
        due.min()
    }

    /// Sleeps on both.
    fn park(&mut self) -> Park<'_> {
        let mut nap = None;
        for endpoint in &mut self.endpoints {
            match endpoint.park() {
                Park::Busy => return Park::Busy,
                Park::Nap(time) => nap = nap.min(Some(time)).or(Some(time)),
                Park::Fd(fd) => {
                    let data = EventData::new_u64(0);
                    match epoll::add(&self.sleep, fd, data, EventFlags::IN) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
        nap.map_or_else(|| Park::Fd(self.sleep.as_fd()), Park::Nap)
    }

    fn unpark(&mut self) {
        self.endpoints.iter_mut().for_each(Transport::unpark);
    }

    fn pool(&mut self) -> &mut BufferPool {
        self.endpoints[0].pool()
    }

    fn cost(&self) -> Cost {
        let [one, other] = self.endpoints.each_ref().map(Transport::cost);
        Cost {
            system_calls: one.system_calls + other.system_calls,
            doorbells: one.doorbells + other.doorbells,
            bytes_copied: one.bytes_copied + other.bytes_copied,
        }
    }
}
