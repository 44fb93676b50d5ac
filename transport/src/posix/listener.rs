//! A listening socket.

use std::net::SocketAddr;

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, sockopt};

use super::sys;
use crate::{Cost, ListenOptions, Port};

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    at: SocketAddr,
    /// Whether connections may be waiting.
    pub(super) ready: bool,
}

/// What [`Listener::accept`] found.
pub(crate) enum Accept {
    /// A connection, its local and its remote end.
    Connection(OwnedFd, SocketAddr, SocketAddr),
    /// Nobody is waiting.
    Nobody,
    /// Whoever waited has gone.
    Gone,
    /// No descriptor or memory is left, or worse; whoever waits stays where it is.
    Failed(Errno),
}

impl Listener {
    /// Binds and listens; also returns the address really bound.
    pub(crate) fn open(
        at: SocketAddr,
        options: &ListenOptions,
        cost: &mut Cost,
    ) -> rustix::io::Result<(Self, SocketAddr)> {
        cost.system_calls += 6;
        let socket = sys::tcp_socket(&at)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if at.is_ipv6() {
            // `[::]` means IPv6 only, so that `0.0.0.0` can be bound beside it.
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        if options.port == Port::Join {
            sockopt::set_socket_reuseport(&socket, true)?;
        }
        rustix::net::bind(&socket, &at)?;
        let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
        rustix::net::listen(&socket, backlog)?;
        if options.port == Port::Take {
            // The port is ours. From now on those who set the same option, as only our own other
            // listeners and connections do, may bind it too (socket(7)).
            sockopt::set_socket_reuseport(&socket, true)?;
        }
        let local = sys::local_address(socket.as_fd())?;
        let listener = Self {
            socket,
            at: local,
            ready: false,
        };
        Ok((listener, local))
    }

    /// Whether a socket bound to `local` would have this listener's port.
    pub(crate) fn holds(&self, local: SocketAddr) -> bool {
        let (ours, other) = (self.at.ip(), local.ip());
        let same_family = ours.is_ipv4() == other.is_ipv4();
        let overlap = ours == other || ours.is_unspecified() || other.is_unspecified();
        self.at.port() == local.port() && same_family && overlap
    }

    /// Takes one waiting connection.
    pub(crate) fn accept(&self, cost: &mut Cost) -> Accept {
        cost.system_calls += 1;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match rustix::net::acceptfrom_with(&self.socket, flags) {
            Ok((socket, remote)) => {
                cost.system_calls += 2;
                let ends = sockopt::set_tcp_nodelay(&socket, true)
                    .and_then(|()| sys::local_address(socket.as_fd()));
                match (ends, remote.and_then(|remote| remote.try_into().ok())) {
                    (Ok(local), Some(remote)) => Accept::Connection(socket, local, remote),
                    _ => Accept::Gone,
                }
            }
            Err(Errno::AGAIN) => Accept::Nobody,
            // accept(2): the new connection's own errors come up here and mean "try again".
            Err(Errno::CONNABORTED | Errno::INTR | Errno::PERM | Errno::PROTO) => Accept::Gone,
            Err(errno) => Accept::Failed(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posix::connection::Connection;

    #[test]
    fn both_ends_send_small_segments_at_once() {
        let (at, mut cost) = (SocketAddr::from(([127, 0, 0, 1], 0)), Cost::default());
        let (listener, at) = Listener::open(at, &ListenOptions::default(), &mut cost).unwrap();
        let ours = Connection::connect(at, None, false, &mut cost).unwrap();
        // On loopback the connection is there as soon as it is asked for.
        let Accept::Connection(theirs, ..) = listener.accept(&mut cost) else {
            panic!("nobody connects");
        };
        assert_eq!(sockopt::tcp_nodelay(&ours.socket), Ok(true));
        assert_eq!(sockopt::tcp_nodelay(&theirs), Ok(true));
    }
}
