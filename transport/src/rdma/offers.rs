//! [`Offers`]: what a peer has offered, in the order in which it comes: not read yet, being read, read
//! and not handed up, and what the peer is still to be told.

use std::collections::VecDeque;

use bytes::Bytes;

use super::wire::{OFFERS, Offer};

#[derive(Debug, Default)]
pub(super) struct Offers {
    /// Those that are not being read yet.
    waiting: VecDeque<Offer>,
    /// What was read of others, and is not handed up.
    landed: VecDeque<Bytes>,
    /// So many were read, and the peer does not know.
    read: u8,
    /// All that it does not know to be read.
    open: usize,
}

impl Offers {
    /// Takes note of an offer, of at most so many bytes. False if the peer must not make it.
    pub(super) fn take(&mut self, bytes: &[u8], most: usize) -> bool {
        let Some(offer) = Offer::decode(bytes) else {
            return false;
        };
        let is_allowed = self.open < OFFERS && (1..=most).contains(&(offer.len as usize));
        if is_allowed {
            self.open += 1;
            self.waiting.push_back(offer);
        }
        is_allowed
    }

    /// What is to be read next.
    pub(super) fn next(&self) -> Option<Offer> {
        self.waiting.front().copied()
    }

    /// That is being read now.
    pub(super) fn begin(&mut self) {
        self.waiting.pop_front();
    }

    /// The oldest that was being read has landed.
    pub(super) fn land(&mut self, bytes: Bytes) {
        self.landed.push_back(bytes);
        self.read += 1;
    }

    /// What was read of the oldest offer that is not handed up, once it is.
    pub(super) fn hand_up(&mut self) -> Option<Bytes> {
        self.landed.pop_front()
    }

    /// Whether the peer is to be told that offers are read.
    pub(super) fn owes(&self) -> bool {
        self.read > 0
    }

    /// How many more are read, for a send that tells the peer.
    pub(super) fn tell_read(&mut self) -> u8 {
        let read = std::mem::take(&mut self.read);
        self.open -= usize::from(read);
        read
    }
}
