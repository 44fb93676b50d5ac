//! The socket calls that need more than one line. The only unsafe code of this transport is here.

use std::net::SocketAddr;

use bytes::BytesMut;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, ipproto, sockopt};

use crate::Cost;

/// A non-blocking TCP socket for addresses like `at`.
pub(super) fn tcp_socket(at: &SocketAddr) -> Result<OwnedFd> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
}

/// Starts to connect a socket, from `local` if set, where we may be `listening`. Also returns what
/// the attempt has come to; `EINPROGRESS` is none yet.
pub(crate) fn connect(
    to: SocketAddr,
    local: Option<SocketAddr>,
    listening: bool,
    cost: &mut Cost,
) -> Result<(OwnedFd, Result<()>)> {
    cost.system_calls += 3;
    let socket = tcp_socket(&to)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(local) = local {
        cost.system_calls += 3;
        // Beside other connections from there, and what is left of them in TIME-WAIT.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if local.is_ipv6() {
            // As the listener, lest `[::]` be in the way of `0.0.0.0`.
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        if listening {
            // Beside our own listener. A foreign one is not to be gone along with.
            sockopt::set_socket_reuseport(&socket, true)?;
        }
        rustix::net::bind(&socket, &local)?;
    }
    let attempt = rustix::net::connect(&socket, &to);
    Ok((socket, attempt))
}

/// Where our end of `socket` is.
pub(crate) fn local_address(socket: BorrowedFd<'_>) -> Result<SocketAddr> {
    rustix::net::getsockname(socket)?
        .try_into()
        .map_err(|_| Errno::AFNOSUPPORT)
}

/// Reads once into the spare capacity of `buffer` and returns how many bytes came; 0 is the end.
#[allow(unsafe_code)]
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut BytesMut) -> Result<usize> {
    let len = buffer.len();
    let ((filled, _), _) =
        rustix::net::recv(socket, buffer.spare_capacity_mut(), RecvFlags::empty())?;
    let received = filled.len();
    // SAFETY: the kernel has just initialised `received` bytes of the spare capacity.
    unsafe { buffer.set_len(len + received) };
    Ok(received)
}
