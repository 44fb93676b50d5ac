//! [`Flow`]: one TCP connection. Its smoltcp socket, alone in a set of its own so that nobody else's
//! packets and timers cost it anything, and what waits on either side of that.

#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};

use super::config::{Clock, TcpConfig};
use super::prefetch::prefetch;
use super::segment::{Ends, Segment};
use super::sender::Sender;
use super::windows::Window;
use crate::send_queue::SendQueue;
use crate::{CloseReason, Cost, ListenerId};

/// How long it takes until a quiet connection is taken to be at rest.
const REST: Duration = Duration::from_secs(1);
/// The most bytes that one connection hands up at a time.
const MOST_READ: usize = 256 << 10;

#[allow(clippy::struct_excessive_bools)] // Independent conditions, each read where it matters.
pub(super) struct Flow {
    /// Dropped before its memory, the window.
    pub(super) sockets: SocketSet<'static>,
    window: Window,
    handle: SocketHandle,
    pub(super) ends: Ends,
    pub(super) phase: Phase,
    /// Accepted by `send`, not yet by the socket.
    pub(super) queue: SendQueue,
    /// The peer's next bytes go here, if the protocol has said so.
    placed: Option<BytesMut>,
    /// Whether the caller wants data.
    pub(super) receiving: bool,
    /// Whether the next flush is for this connection.
    pub(super) touched: bool,
    /// Whether it is listed as one to be served.
    pub(super) listed: bool,
    /// Whether the peer has reset it.
    pub(super) was_reset: bool,
    /// Why there is no way to the peer, if that is known already.
    pub(super) hopeless: Option<CloseReason>,
    pub(super) sender: Sender,
    /// Whether it is to be armed at the end of this turn.
    pub(super) unsettled: bool,
    /// The peer's sequence number behind all that has arrived, be there gaps or not.
    heard_up_to: u32,
    /// When bytes went through its window last.
    active_at: Instant,
    /// Whether its window may have memory.
    filled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    /// A peer has asked this listener for it.
    Accepting(ListenerId),
    Open,
    /// The caller has left; what it queued is still going out.
    Draining,
    /// All is out, with the end behind it; the peer's end is due, or the time after it.
    Shut,
    /// The peer has all, and our end, and has not ended yet.
    HalfClosed,
}

impl Flow {
    /// A connection whose window has room for twice that of `config`.
    pub(super) fn new(
        ends: Ends,
        phase: Phase,
        mut window: Window,
        config: &TcpConfig,
        clock: &Clock,
        now: Instant,
    ) -> Self {
        // SAFETY: the socket is dropped in `into_window`, or else before the window (the order of
        // the fields), and nobody else asks for the memory.
        let memory = unsafe { window.memory() };
        let (incoming, rest) = memory.split_at_mut(config.window);
        let outgoing = &mut rest[..config.window];
        let mut socket = Socket::new(SocketBuffer::new(incoming), SocketBuffer::new(outgoing));
        // Messages are batched by flushes; what is flushed is to leave.
        socket.set_nagle_enabled(false);
        // That is the sender's affair.
        socket.set_congestion_control(CongestionControl::None);
        socket.set_ack_delay(Some(clock.scaled(config.ack_delay)));
        socket.set_keep_alive(Some(clock.scaled(config.keep_alive)));
        socket.set_timeout(Some(clock.scaled(config.timeout)));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self {
            sockets,
            window,
            handle,
            ends,
            phase,
            queue: SendQueue::default(),
            placed: None,
            receiving: true,
            touched: false,
            listed: false,
            was_reset: false,
            hopeless: None,
            sender: Sender::default(),
            unsettled: false,
            heard_up_to: 0,
            active_at: now,
            filled: true,
        }
    }

    /// Has the memory fetched that a segment is taken in with: one wait instead of twenty, if it is in
    /// no cache.
    pub(super) fn prefetch(&self, has_payload: bool) {
        prefetch(self);
        prefetch(self.sockets.get::<Socket<'_>>(self.handle));
        if has_payload {
            // Where that goes, and what answers it.
            self.window.halves().into_iter().for_each(prefetch);
        }
    }

    /// Notes that a segment is about to arrive.
    pub(super) fn hear(&mut self, segment: &Segment, now: Instant) {
        let end = segment.end();
        if matches!(self.state(), State::Listen | State::SynSent) {
            self.heard_up_to = end;
        }
        // What is beyond the window is not taken in.
        let window = self.socket().recv_capacity();
        let ahead = end.wrapping_sub(self.heard_up_to) as usize;
        if (1..=window).contains(&ahead) {
            self.heard_up_to = end;
            (self.active_at, self.filled) = (now, true);
        }
    }

    /// Notes that the wheel has brought it up. A connection that nothing has gone through for a while,
    /// and in which nothing waits, lets go of the memory of its window.
    pub(super) fn brought_up(&mut self, now: Instant) {
        let has_all = self.heard_up_to == self.sender.read_up_to();
        let has_nothing = has_all && self.socket().send_queue() == 0;
        if self.filled && has_nothing && now >= self.active_at + REST {
            self.window.release();
            self.filled = false;
        }
    }

    /// Takes back the window of a connection that is over.
    pub(super) fn into_window(self) -> Window {
        drop(self.sockets);
        self.window
    }

    /// Whether the caller still has it.
    pub(super) fn is_owned(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Open)
    }

    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub(super) fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    /// smoltcp has been at work.
    pub(super) fn take_note(&mut self) {
        let recv_queue = self.socket().recv_queue();
        self.sender.on_sent(recv_queue);
    }

    /// Moves what was flushed into the socket, as far as there is room. Whether anything was.
    pub(super) fn fill(&mut self, cost: &mut Cost, now: Instant) -> bool {
        if self.touched || self.queue.is_empty() {
            return false;
        }
        let Self {
            sockets,
            handle,
            queue,
            ..
        } = self;
        let socket: &mut Socket<'_> = sockets.get_mut(*handle);
        let mut filled = 0;
        while !queue.is_empty() && socket.can_send() {
            let mut taken = 0;
            for segment in queue.segments() {
                let sent = socket.send_slice(segment).unwrap_or(0);
                taken += sent;
                if sent < segment.len() {
                    break;
                }
            }
            if taken == 0 {
                break;
            }
            filled += taken;
            queue.advance(taken);
        }
        if filled > 0 {
            (self.active_at, self.filled) = (now, true);
            cost.bytes_copied += filled as u64;
        }
        filled > 0
    }

    /// Whether bytes wait in the socket that have not been on the way yet.
    pub(super) fn has_more_to_send(&mut self) -> bool {
        let queued = self.socket().send_queue();
        queued > self.sender.flight() as usize
    }

    /// What has arrived, out of the socket: into the placed buffer or else into `block`, which has
    /// room for something.
    pub(super) fn receive(&mut self, block: &mut BytesMut, cost: &mut Cost) -> Option<Bytes> {
        if !self.receiving {
            return None;
        }
        let placed = self.placed.is_some();
        let mut into = self.placed.take().unwrap_or_else(|| std::mem::take(block));
        let before = into.len();
        let room = into.capacity() - before;
        let mut wanted = if placed { room } else { room.min(MOST_READ) };
        let socket = self.socket();
        while wanted > 0 && socket.can_recv() {
            let taken = socket.recv(|bytes| {
                let len = bytes.len().min(wanted);
                into.extend_from_slice(&bytes[..len]);
                (len, len)
            });
            wanted -= taken.unwrap_or(wanted);
        }
        let received = into.len() - before;
        self.sender.on_read(received);
        cost.bytes_copied += received as u64;
        if placed {
            if into.len() < into.capacity() {
                self.placed = Some(into);
                return None;
            }
            return Some(into.freeze());
        }
        let bytes = into.split().freeze();
        *block = into;
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Throws away what has arrived.
    pub(super) fn discard(&mut self) {
        while self.socket().can_recv() {
            let discarded = self.socket().recv(|bytes| (bytes.len(), bytes.len()));
            self.sender.on_read(discarded.unwrap_or(0));
        }
    }

    /// Whether nothing more will arrive, and everything was handed up.
    pub(super) fn is_at_end(&mut self) -> bool {
        let socket = self.socket();
        !socket.may_recv() && socket.recv_queue() == 0
    }

    /// Why an open connection is over.
    pub(super) fn reason(&self) -> CloseReason {
        match (self.state(), self.was_reset) {
            (State::Closed, true) => CloseReason::Reset,
            (State::Closed, false) => CloseReason::TimedOut,
            _ => CloseReason::PeerClosed,
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

    /// From now on only what is queued goes out; whatever comes in is thrown away.
    pub(super) fn drain(&mut self) {
        self.phase = Phase::Draining;
        self.touched = false;
        self.placed = None;
        self.receiving = true;
        self.queue.forget_room();
    }
}
