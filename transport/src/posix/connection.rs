//! One TCP connection: its socket, what waits to be sent, and what the kernel has said about it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sockopt};

use super::sys;
use crate::send_queue::SendQueue;
use crate::{CloseReason, Cost};

/// Segments per `sendmsg`, and thus descriptors on the stack.
const MAX_SLICES: usize = 64;

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Independent conditions, each read where it matters.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    remote: SocketAddr,
    pub(super) phase: Phase,
    /// Accepted by `send`, not yet by the socket.
    pub(super) queue: SendQueue,
    /// The peer's next bytes go here, if the protocol has said so.
    placed: Option<BytesMut>,
    /// Why nothing can be written any more. What the peer sent before still comes up first.
    failed: Option<CloseReason>,
    /// The socket may have bytes for us, or its end.
    pub(super) readable: bool,
    /// The socket may take bytes.
    writable: bool,
    /// The end is near: a short read no longer means that nothing else is there.
    hung_up: bool,
    /// Whether the caller wants data.
    receiving: bool,
    /// Whether the next flush is for this connection: it writes, not poll.
    pub(super) touched: bool,
    /// Whether the transport's list of connections to serve has this one.
    pub(super) listed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Open,
    /// The caller has left; what it queued is still going out.
    Draining,
    /// The caller has left and all bytes are out, with the end behind them; the peer's end is due.
    Shut,
}

/// What one attempt to receive brought.
pub(super) enum Received {
    Bytes(Bytes),
    /// Some of what is to fill the placed buffer.
    Part,
    Nothing,
    End(CloseReason),
}

impl Connection {
    /// Starts to connect, from `local` if set, where we may be `listening`. A peer that is known
    /// at once not to answer is not an error yet.
    pub(super) fn connect(
        to: SocketAddr,
        local: Option<SocketAddr>,
        listening: bool,
        cost: &mut Cost,
    ) -> Result<Self, Errno> {
        let (socket, attempt) = sys::connect(to, local, listening, cost)?;
        let mut connection = Self::new(socket, to, Phase::Connecting);
        match attempt {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) if matches!(reason(errno), CloseReason::Os(_)) => return Err(errno),
            Err(errno) => connection.fail(errno),
        }
        Ok(connection)
    }

    pub(super) fn new(socket: OwnedFd, remote: SocketAddr, phase: Phase) -> Self {
        Self {
            socket,
            remote,
            phase,
            queue: SendQueue::default(),
            placed: None,
            failed: None,
            readable: false,
            writable: phase == Phase::Open,
            hung_up: false,
            receiving: true,
            touched: false,
            listed: false,
        }
    }

    /// Whether the caller still has it.
    pub(super) fn is_owned(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Open)
    }

    /// Notes what `epoll_wait` said.
    pub(super) fn notice(&mut self, flags: EventFlags) {
        let ends = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        self.hung_up |= flags.intersects(ends);
        self.readable |= flags.contains(EventFlags::IN) || self.hung_up;
        self.writable |= flags.contains(EventFlags::OUT);
    }

    /// Records that nothing can be sent any more. Reading finds the end.
    pub(super) fn fail(&mut self, errno: Errno) {
        self.failed = Some(reason(errno));
        self.hung_up = true;
        self.readable = true;
        self.writable = false;
        self.queue.clear();
    }

    /// Whether there is anything to do without new word from the kernel.
    pub(super) fn has_work(&self) -> bool {
        match self.phase {
            Phase::Connecting => self.writable || self.hung_up,
            Phase::Open => self.may_receive() || self.may_transmit() || self.queue.has_room(),
            Phase::Draining => self.may_receive() || self.writable,
            Phase::Shut => self.may_receive(),
        }
    }

    /// Whether reading tells everything there is to know.
    pub(super) fn needs_no_watch(&self) -> bool {
        self.phase == Phase::Open && self.receiving && self.writable
    }

    fn may_receive(&self) -> bool {
        self.readable && self.receiving
    }

    fn may_transmit(&self) -> bool {
        self.writable && !self.touched && !self.queue.is_empty()
    }

    /// Learns how the attempt to connect ended: our address, or nothing if it is still under way.
    pub(super) fn establish(&mut self, cost: &mut Cost) -> Result<Option<SocketAddr>, CloseReason> {
        if let Some(reason) = self.failed.take() {
            return Err(reason);
        }
        cost.system_calls += 2;
        let outcome = sockopt::socket_error(&self.socket).and_then(|outcome| outcome);
        outcome.map_err(reason)?;
        if !self.writable {
            return Ok(None);
        }
        let local = sys::local_address(self.socket.as_fd()).map_err(reason)?;
        // TCP lets a socket meet itself when it originates from the port it connects to
        // (simultaneous open, RFC 9293, section 3.5). Nobody listens there.
        if local == self.remote {
            return Err(CloseReason::Refused);
        }
        self.phase = Phase::Open;
        Ok(Some(local))
    }

    /// Writes until the queue is empty or the socket is full.
    pub(super) fn transmit(&mut self, cost: &mut Cost) {
        while self.may_transmit() {
            cost.system_calls += 1;
            match self.write() {
                Ok(sent) => {
                    cost.doorbells += 1;
                    self.queue.advance(sent);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable = false,
                Err(errno) => self.fail(errno),
            }
        }
    }

    /// One system call for as much of the queue as fits into it. A short write means that the
    /// socket is full, and will be announced when it is no longer (epoll(7), question 9).
    fn write(&mut self) -> Result<usize, Errno> {
        let segments = self.queue.segments();
        if let [only] = &segments.as_slices().0
            && segments.len() == 1
        {
            let sent = rustix::net::send(&self.socket, only, SendFlags::NOSIGNAL)?;
            self.writable = sent == only.len();
            return Ok(sent);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut offered = 0;
        for (slice, segment) in slices.iter_mut().zip(segments) {
            *slice = IoSlice::new(segment);
            offered += segment.len();
        }
        let sent = rustix::net::sendmsg(
            &self.socket,
            &slices[..segments.len().min(MAX_SLICES)],
            &mut SendAncillaryBuffer::default(),
            SendFlags::NOSIGNAL,
        )?;
        self.writable = sent == offered;
        Ok(sent)
    }

    /// Reads once, into the placed buffer or else into `block`.
    pub(super) fn receive(&mut self, block: &mut BytesMut, cost: &mut Cost) -> Received {
        if !self.may_receive() {
            return Received::Nothing;
        }
        cost.system_calls += 1;
        let into = self.placed.as_mut().unwrap_or(block);
        let wanted = into.capacity() - into.len();
        match sys::receive(self.socket.as_fd(), into) {
            Ok(0) => Received::End(self.failed.take().unwrap_or(CloseReason::PeerClosed)),
            Ok(received) => {
                // A short read has emptied the socket (epoll(7), question 9).
                self.readable = received == wanted || self.hung_up;
                if self.placed.is_none() {
                    Received::Bytes(block.split().freeze())
                } else if received < wanted {
                    Received::Part
                } else {
                    Received::Bytes(self.placed.take().unwrap_or_default().freeze())
                }
            }
            Err(Errno::AGAIN) if self.failed.is_none() => {
                self.readable = false;
                Received::Nothing
            }
            Err(Errno::INTR) => Received::Nothing,
            Err(errno) => Received::End(self.failed.take().unwrap_or_else(|| reason(errno))),
        }
    }

    /// Accepts `buffer` as the place of the next bytes, unless there is one already.
    pub(super) fn place(&mut self, mut buffer: BytesMut) -> Result<(), BytesMut> {
        if self.phase != Phase::Open || self.placed.is_some() || buffer.len() == buffer.capacity() {
            return Err(buffer);
        }
        if !buffer.is_empty() {
            buffer = buffer.split_off(buffer.len());
        }
        self.placed = Some(buffer);
        Ok(())
    }

    pub(super) fn set_receiving(&mut self, receiving: bool) {
        self.receiving = receiving;
    }

    /// From now on only what is queued goes out; whatever comes in is thrown away.
    pub(super) fn drain(&mut self) {
        self.phase = Phase::Draining;
        self.touched = false;
        self.placed = None;
        self.receiving = true;
        self.queue.forget_room();
    }

    /// Signals the end to the peer once everything is out. Closing at once instead would answer
    /// bytes still under way to us with a reset, which destroys bytes under way to the peer.
    pub(super) fn shut_when_drained(&mut self, cost: &mut Cost) {
        if self.phase == Phase::Draining && self.queue.is_empty() {
            cost.system_calls += 1;
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
            self.phase = Phase::Shut;
        }
    }

    /// Closes with a reset: nothing queued in either kernel outlives the connection, and a peer
    /// that waits for us learns of it at once.
    pub(super) fn abort(self, cost: &mut Cost) {
        cost.system_calls += 2;
        let _ = sockopt::set_socket_linger(&self.socket, Some(std::time::Duration::ZERO));
    }
}

pub(crate) fn reason(errno: Errno) -> CloseReason {
    CloseReason::from(&io::Error::from(errno))
}
