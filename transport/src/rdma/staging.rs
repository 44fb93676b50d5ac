//! Staging: how segments become messages to be posted: copied, linked, or offered to the peer.

use bytes::{Buf, Bytes};
use msgr_rdma_sys::ibv_sge;

use super::adapter::Adapter;
use super::arena::Block;
use super::link::Link;
use super::wire::Offer;
use crate::{Cost, TxQueue};

/// From this size on bytes that lie in registered memory are sent from there: below, a copy costs
/// less than a send.
const LINK_FROM: usize = 8 << 10;

/// A message that will be posted at the next flush.
#[derive(Debug)]
pub(super) enum Message {
    /// So many bytes, copied.
    Copied(Block, usize),
    /// Bytes that lie in registered memory.
    Linked(Bytes, ibv_sge),
    /// An offer, of the last loan but so many.
    Offer(Block),
}

impl Link {
    /// Takes segments, as many as there is room for; returns how many bytes.
    pub(super) fn stage(
        &mut self,
        queue: &mut TxQueue,
        adapter: &mut Adapter,
        cost: &mut Cost,
    ) -> usize {
        let mut bytes = 0;
        while let Some(segment) = queue.front_mut() {
            if segment.is_empty() {
                queue.pop_front();
                continue;
            }
            let mut some = 0;
            if segment.len() >= self.offer_from {
                some = self.stage_offer(segment, adapter);
            } else if segment.len() >= LINK_FROM {
                some = self.stage_link(segment, adapter);
            }
            if some == 0 {
                some = self.stage_copy(segment, adapter);
                cost.bytes_copied += some as u64;
            }
            if some == 0 {
                break;
            }
            bytes += some;
            segment.advance(some);
        }
        bytes
    }

    /// Copies the beginning of a segment into a block, as much as fits.
    fn stage_copy(&mut self, segment: &Bytes, adapter: &mut Adapter) -> usize {
        let has_room =
            |message: &Message| matches!(message, Message::Copied(_, len) if *len < self.chunk);
        if !self.staged.back().is_some_and(has_room) {
            let Some(block) = self.open_message(adapter) else {
                return 0;
            };
            self.staged.push_back(Message::Copied(block, 0));
        }
        let Some(Message::Copied(block, len)) = self.staged.back_mut() else {
            return 0;
        };
        let some = segment.len().min(self.chunk - *len);
        adapter.send_arena.bytes_mut(block)[*len..*len + some].copy_from_slice(&segment[..some]);
        *len += some;
        some
    }

    /// Has the beginning of a segment sent from where it is, if that is registered memory.
    fn stage_link(&mut self, segment: &Bytes, adapter: &mut Adapter) -> usize {
        let some = segment.len().min(self.chunk);
        let Some(element) = adapter.find(&segment[..some]) else {
            return 0;
        };
        if !self.has_room(adapter) || adapter.slots == 0 {
            return 0;
        }
        adapter.slots -= 1;
        self.use_credit();
        let bytes = segment.slice(..some);
        self.staged.push_back(Message::Linked(bytes, element));
        some
    }

    /// Lends the beginning of a segment to the peer, and offers it.
    fn stage_offer(&mut self, segment: &Bytes, adapter: &mut Adapter) -> usize {
        let some = segment.len().min(self.offer_size);
        if !self.has_room(adapter) || !adapter.grants.promise() {
            return 0;
        }
        let Some(mut block) = self.open_message(adapter) else {
            adapter.grants.fulfil(1);
            return 0;
        };
        match adapter.lend(segment.slice(..some)) {
            Ok(loan) => {
                let bytes = adapter.send_arena.bytes_mut(&mut block);
                bytes[..Offer::LEN].copy_from_slice(&loan.offer().encode());
                self.staged.push_back(Message::Offer(block));
                self.loans.push_back(loan);
                some
            }
            Err(error) => {
                let device = adapter.device.name();
                tracing::warn!(device, %error, "large data is copied: it cannot be registered");
                self.offer_from = usize::MAX;
                adapter.grants.fulfil(1);
                self.staged.push_back(Message::Copied(block, 0));
                0
            }
        }
    }

    fn open_message(&mut self, adapter: &mut Adapter) -> Option<Block> {
        if !self.has_room(adapter) || adapter.slots == 0 {
            return None;
        }
        let block = adapter.send_arena.take()?;
        adapter.slots -= 1;
        self.use_credit();
        Some(block)
    }
}
