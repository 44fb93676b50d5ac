//! The way out: which connections have something to send, and laying it out as far as there is
//! room.

use std::time::Instant;

use bytes::BytesMut;
use msgr_protocol::{Blocks, FrameWriter};
use msgr_transport::{BufferPool, Close};

use super::core::Core;
use super::entry::{Entry, Link};
use crate::connection::ConnectionId;
use crate::metrics::add;

/// A block to lay frames out in: what one turn of a busy connection fills.
const BLOCK_LEN: usize = 64 << 10;
/// After so many messages or payload bytes, what was queued leaves before the turn ends: the peer
/// can start on them while we go on, and a system call for each such lot is cheap enough.
const LOT_MESSAGES: usize = 32;
const LOT_BYTES: usize = 64 << 10;

/// A transport's pool as the protocol sees it.
struct PoolBlocks<'a>(&'a mut BufferPool);

impl Blocks for PoolBlocks<'_> {
    fn exchange(&mut self, used_up: BytesMut, len: usize) -> BytesMut {
        self.0.give(used_up, BLOCK_LEN);
        self.0.take(len.max(BLOCK_LEN))
    }

    fn exact(&mut self, len: usize) -> BytesMut {
        self.0.take_exact(len)
    }
}

impl Core {
    /// Lists a connection to be transmitted at the end of this turn.
    pub(super) fn touch(&mut self, id: ConnectionId) {
        if let Some(Entry {
            link: Link::Wire(wire),
            ..
        }) = self.entries.get_mut(id)
        {
            wire.touch(id, &mut self.touched, &mut self.wanting);
        }
    }

    /// Whether enough is queued to be worth a transmission of its own.
    pub(super) fn is_lot_full(&self) -> bool {
        self.lot.0 >= LOT_MESSAGES || self.lot.1 >= LOT_BYTES
    }

    /// Lays out and sends what the touched connections have, as far as there is room.
    pub(super) fn transmit(&mut self, now: Instant) {
        if self.touched.is_empty() {
            return;
        }
        self.lot = (0, 0);
        let caps = self.transport.caps();
        let mut replayed = 0;
        let mut touched = std::mem::take(&mut self.touched);
        for &id in &touched {
            let Some(Entry {
                link: Link::Wire(wire),
                handle,
            }) = self.entries.get_mut(id)
            else {
                continue;
            };
            wire.touched = false;
            let Some(conn) = wire.conn.filter(|_| wire.up) else {
                continue;
            };
            wire.active = now;
            let mut has_flushed = false;
            loop {
                if wire.unsent.is_empty() && wire.protocol.wants_transmit() {
                    let mut blocks = PoolBlocks(self.transport.pool());
                    let mut writer = FrameWriter::new(
                        caps.copy_below,
                        &mut self.block,
                        &mut blocks,
                        &mut wire.unsent,
                    );
                    wire.protocol.transmit(&mut writer, caps.send_window);
                }
                if wire.unsent.is_empty() {
                    break;
                }
                // A connection that has just ended says so in the next poll.
                let sent = self.transport.send(conn, &mut wire.unsent);
                if sent.is_err() || !wire.unsent.is_empty() {
                    break;
                }
                wire.protocol.landed();
                // What is laid out next may take long, and the peer can start on this. Once: it
                // makes room, and others wait for their turn.
                let is_long = sent.is_ok_and(|bytes| bytes >= LOT_BYTES);
                if is_long && !has_flushed && wire.protocol.wants_transmit() {
                    self.transport.flush();
                    has_flushed = true;
                }
            }
            handle.set_queued(wire.protocol.queued());
            replayed += wire.protocol.take_replayed();
        }
        add(&self.metrics.replayed, replayed as usize);
        touched.clear();
        self.touched = touched;
        self.transport.flush();
    }

    /// Ends every connection that has nothing left to send.
    pub(super) fn close_drained(&mut self) {
        let drained = |entry: &Entry| match &entry.link {
            Link::Wire(wire) => wire.is_drained(),
            Link::Loopback { .. } => true,
        };
        let ids: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| drained(entry))
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            self.remove(id, Close::Drain);
        }
    }
}
