//! Setting connections up as Ceph does, without the connection manager: TCP listeners and
//! connections, over which two ends tell each other where their queue pairs are. The TCP connection
//! stays: its end is how one learns that the peer is gone.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};

use super::cm::CmId;
use super::connection::{Connection, Phase};
use super::link::Link;
use super::path::Path;
use super::side_channel::{Endpoint, Exchange, ExchangeError, Heard, Message};
use super::watch::Source;
use super::wire::Hello;
use super::{RESOLVE, Rdma, SILENT_LOOKS, list, misbehaved};
use crate::posix::connection::reason;
use crate::posix::listener::{Accept, Listener as TcpListener};
use crate::posix::sys;
use crate::{CloseReason, ConnId, Cost, Event, ListenOptions, ListenerId};

/// How many connections one listener may bring per look.
const ACCEPTS: usize = 64;
/// Credits that are never used up, because nobody counts them.
const UNCOUNTED: u16 = u16::MAX;

/// Our end of the TCP connection that belongs to a queue pair.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
    exchange: Exchange,
    is_connected: bool,
    /// Once there is a queue pair.
    ours: Option<(Path, Endpoint)>,
}

/// Why a channel is over.
enum Lost {
    /// The peer has closed it.
    Closed,
    Failed(Errno),
    Misused(ExchangeError),
}

impl Channel {
    fn new(socket: OwnedFd, is_connected: bool, keepalive: Duration) -> rustix::io::Result<Self> {
        let keepalive = keepalive.max(Duration::from_secs(1));
        sockopt::set_socket_keepalive(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, keepalive)?;
        sockopt::set_tcp_keepintvl(&socket, keepalive)?;
        sockopt::set_tcp_keepcnt(&socket, SILENT_LOOKS)?;
        Ok(Self {
            socket,
            exchange: Exchange::default(),
            is_connected,
            ours: None,
        })
    }

    /// Closes with a reset: to a peer that was not told the end by its queue pair, it is one.
    pub(super) fn reset(self) {
        // Closed it is in any case.
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Our address, once TCP is connected; nothing if it was before, or is not yet.
    fn established(&mut self, cost: &mut Cost) -> rustix::io::Result<Option<SocketAddr>> {
        if self.is_connected {
            return Ok(None);
        }
        cost.system_calls += 3;
        sockopt::socket_error(&self.socket)??;
        match rustix::net::getpeername(&self.socket) {
            Ok(_) => {
                self.is_connected = true;
                sys::local_address(self.socket.as_fd()).map(Some)
            }
            Err(Errno::NOTCONN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Says where our queue pair is.
    fn speak(&mut self, ours: Endpoint, cost: &mut Cost) -> Result<(), Errno> {
        let message = self.exchange.speak(ours);
        cost.system_calls += 1;
        // A socket that has carried so little has room.
        match rustix::net::send(&self.socket, &message, SendFlags::NOSIGNAL)? {
            Message::LEN => Ok(()),
            _ => Err(Errno::NOBUFS),
        }
    }

    /// What the peer has to say, if that is all there.
    fn hear(&mut self, cost: &mut Cost) -> Result<Option<Heard>, Lost> {
        loop {
            cost.system_calls += 1;
            let received =
                rustix::net::recv(&self.socket, self.exchange.room(), RecvFlags::empty());
            match received {
                Ok((0, _)) => return Err(Lost::Closed),
                Ok((count, _)) => {
                    let heard = self.exchange.fill(count).map_err(Lost::Misused)?;
                    if heard.is_some() {
                        return Ok(heard);
                    }
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Lost::Failed(errno)),
            }
        }
    }
}

/// The same address, any port.
pub(super) fn any_port(mut at: SocketAddr) -> SocketAddr {
    at.set_port(0);
    at
}

impl Rdma {
    /// Listens for TCP connections, at an address of a device.
    pub(super) fn open_port(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(ListenerId, SocketAddr)> {
        self.bound(any_port(at), false)?;
        let (port, at) = TcpListener::open(at, options, &mut self.cost)?;
        let listener = self.ports.insert(port);
        if let Err(error) = self.watch_port(listener) {
            self.ports.remove(listener);
            return Err(error);
        }
        Ok((listener, at))
    }

    pub(super) fn watch_port(&self, listener: ListenerId) -> io::Result<()> {
        if let Some(port) = self.ports.get(listener) {
            self.watch
                .add(port.socket.as_fd(), Source::Port(listener))?;
        }
        Ok(())
    }

    /// Takes the connections that have come.
    pub(super) fn hear_port(&mut self, listener: ListenerId) {
        for _ in 0..ACCEPTS {
            let Some(port) = self.ports.get_mut(listener) else {
                return;
            };
            match port.accept(&mut self.cost) {
                Accept::Connection(socket, local, remote) => {
                    let mut conn = Connection::new(Phase::Accepting(listener), remote);
                    conn.local = Some(local);
                    let id = self.conns.insert(conn);
                    if let Err(errno) = self.attach(id, socket, true) {
                        self.fail(id, reason(errno));
                    }
                }
                Accept::Gone => {}
                Accept::Nobody => return,
                Accept::Failed(errno) => {
                    // Whoever waits is looked at again when listeners are looked after.
                    tracing::error!(%errno, "connections cannot be accepted");
                    self.has_lost_listeners |= self.watch.remove(port.socket.as_fd()).is_ok();
                    return;
                }
            }
        }
    }

    /// Starts to connect: from `local` if set, else from wherever a device reaches the peer.
    pub(super) fn dial(&mut self, to: SocketAddr, local: Option<SocketAddr>) -> io::Result<ConnId> {
        let mut conn = Connection::new(Phase::Resolving, to);
        let Some(from) = local else {
            let mut manager = CmId::new(&self.channel)?;
            manager.resolve_address(to, RESOLVE)?;
            return Ok(self.conns.insert_with(|id| {
                manager.set_token(id.to_u64());
                conn.id = Some(manager);
                conn
            }));
        };
        self.bound(any_port(from), false)?;
        let id = self.conns.insert(conn);
        self.dial_from(from, id).inspect_err(|_| {
            self.conns.remove(id);
        })?;
        Ok(id)
    }

    /// Starts to connect by TCP.
    pub(super) fn dial_from(&mut self, from: SocketAddr, id: ConnId) -> io::Result<()> {
        let Some(conn) = self.conns.get_mut(id) else {
            return Ok(());
        };
        let listens = self.ports.iter().any(|(_, port)| port.holds(from));
        let (socket, attempt) = sys::connect(conn.remote, Some(from), listens, &mut self.cost)?;
        match attempt {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) if matches!(reason(errno), CloseReason::Os(_)) => return Err(errno.into()),
            Err(errno) => conn.fail(reason(errno)),
        }
        conn.phase = Phase::Requesting;
        list(&mut self.work, id, conn);
        Ok(self.attach(id, socket, false)?)
    }

    fn attach(&mut self, id: ConnId, socket: OwnedFd, is_connected: bool) -> Result<(), Errno> {
        let channel = Channel::new(socket, is_connected, self.config.keepalive)?;
        self.watch
            .add(channel.socket.as_fd(), Source::Channel(id))?;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.channel = Some(channel);
        }
        Ok(())
    }

    /// Takes what the peer says beside its queue pair.
    pub(super) fn hear_channel(&mut self, id: ConnId, events: &mut Vec<Event>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let remote = conn.remote;
        let Some(channel) = &mut conn.channel else {
            return;
        };
        match channel.established(&mut self.cost) {
            Ok(None) if !channel.is_connected => return,
            Ok(None) => {}
            // TCP lets a socket meet itself. Nobody listens there.
            Ok(Some(local)) if local == remote => return self.fail(id, CloseReason::Refused),
            Ok(Some(local)) => {
                conn.local = Some(local);
                if let Err(error) = self.ask(id, local) {
                    tracing::warn!(peer = %remote, %error, "not connected");
                    return self.fail(id, CloseReason::from(&error));
                }
            }
            Err(errno) => return self.fail(id, reason(errno)),
        }
        while let Some(conn) = self.conns.get_mut(id)
            && let Some(channel) = &mut conn.channel
        {
            match channel.hear(&mut self.cost) {
                Ok(None) => return,
                Ok(Some(Heard::Confirmed)) => self.accepted(id, events),
                Ok(Some(Heard::Peer(peer))) => {
                    if let Err(error) = self.meet(id, &peer, events) {
                        tracing::warn!(peer = %remote, %error, "not connected");
                        return self.fail(id, CloseReason::from(&error));
                    }
                }
                Err(lost) => return self.lose_channel(id, &lost),
            }
        }
    }

    fn lose_channel(&mut self, id: ConnId, lost: &Lost) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        match lost {
            Lost::Misused(error) => {
                tracing::warn!(peer = %conn.remote, %error, "not Ceph's side channel");
                conn.fail(misbehaved());
            }
            Lost::Closed | Lost::Failed(Errno::CONNRESET) if conn.is_attempt() => {
                conn.fail(CloseReason::Refused);
            }
            // What was received before still counts.
            Lost::Closed | Lost::Failed(Errno::CONNRESET) => conn.disconnected = true,
            Lost::Failed(errno) => conn.fail(reason(*errno)),
        }
        list(&mut self.work, id, conn);
    }

    /// Makes our queue pair, on the device with this address.
    fn own_end(&mut self, id: ConnId, local: SocketAddr) -> io::Result<(Link, Path, Endpoint)> {
        let manager = self.bound(any_port(local), false)?;
        let index = self.adapter(&manager)?;
        let path = Path::of(&manager, &self.adapters[index].device)?;
        let link = self.link(id, index, &mut path.init())?;
        let ours = Endpoint {
            lid: path.lid,
            queue_pair: link.queue_pair.number(),
            psn: fastrand::u32(..1 << 24),
            gid: path.gid,
        };
        Ok((link, path, ours))
    }

    /// TCP is connected: asks the peer for its queue pair.
    fn ask(&mut self, id: ConnId, local: SocketAddr) -> io::Result<()> {
        let (link, path, ours) = self.own_end(id, local)?;
        if let Some(conn) = self.conns.get_mut(id)
            && let Some(channel) = &mut conn.channel
        {
            conn.id = None;
            conn.link = Some(link);
            channel.ours = Some((path, ours));
            channel.speak(ours, &mut self.cost)?;
        }
        Ok(())
    }

    /// The peer has told where its queue pair is: connects ours to it, and says so.
    fn meet(&mut self, id: ConnId, peer: &Endpoint, events: &mut Vec<Event>) -> io::Result<()> {
        let accepts = self.conns.get(id).filter(|conn| conn.link.is_none());
        if let Some(local) = accepts.and_then(|conn| conn.local) {
            let (link, path, ours) = self.own_end(id, local)?;
            if let Some(conn) = self.conns.get_mut(id)
                && let Some(channel) = &mut conn.channel
            {
                conn.link = Some(link);
                channel.ours = Some((path, ours));
            }
        }
        let Some(conn) = self.conns.get_mut(id) else {
            return Ok(());
        };
        let (Some(link), Some(channel)) = (&mut conn.link, &mut conn.channel) else {
            return Ok(());
        };
        let Some((path, ours)) = channel.ours else {
            return Ok(());
        };
        link.queue_pair.modify(&mut path.ready_to_receive(peer))?;
        link.queue_pair.modify(&mut Path::ready_to_send(ours.psn))?;
        let hello = Hello {
            credits: UNCOUNTED,
            // Nobody says how long the peer's receives are: as long as ours.
            block_size: self.config.block_size as u32,
            port: 0,
            reads: 0,
            read_size: 0,
        };
        link.begin(hello, usize::MAX, &self.adapters[link.adapter]);
        channel.speak(ours, &mut self.cost)?;
        if conn.phase == Phase::Requesting
            && let Some(local) = conn.local
        {
            conn.phase = Phase::Open;
            events.push(Event::Connected { conn: id, local });
        }
        Ok(())
    }
}
