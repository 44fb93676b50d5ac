//! The socket calls that need more than one line. The only unsafe code of this transport is here.

use std::net::SocketAddr;

use bytes::BytesMut;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, ipproto};

/// A non-blocking TCP socket for addresses like `at`.
pub(super) fn tcp_socket(at: &SocketAddr) -> Result<OwnedFd> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
}

/// Where our end of `socket` is.
pub(super) fn local_address(socket: BorrowedFd<'_>) -> Result<SocketAddr> {
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
