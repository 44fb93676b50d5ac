//! [`OutQueue`]: the messages that wait to be laid out, and the order in which they are.
//!
//! Priorities of [`LOW`](crate::priority::LOW) and above are strict, the highest first. Those below
//! share what is left in proportion, so that none of them starves (deficit round robin, Shreedhar
//! and Varghese 1995). Within one priority it is first in, first out.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::num::NonZeroU64;

use bytes::Bytes;

use crate::message::{Message, priority};
use crate::payload::Payload;

/// Names a message that was queued, so that it can be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(NonZeroU64);

impl Ticket {
    /// The ticket of this number, which is the messenger's to choose; `None` for 0.
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) message: Message,
    pub(super) ticket: Option<Ticket>,
    /// Only its number is left, for which the peer waits.
    pub(super) taken_back: bool,
}

impl Outgoing {
    pub(super) fn new(message: Message, ticket: Option<Ticket>) -> Self {
        Self {
            message,
            ticket,
            taken_back: false,
        }
    }

    /// Drops the payload.
    pub(super) fn take_back(&mut self) {
        self.taken_back = true;
        // A frame with nothing behind its header has no place to say that it is aborted.
        self.message.front = Bytes::from_static(&[0]).into();
        self.message.middle = Payload::new();
        self.message.data = Payload::new();
    }

    /// What a message costs its fair share: small ones are not free.
    fn cost(&self) -> usize {
        self.message.payload_len().max(LEAST_COST)
    }
}

const LEAST_COST: usize = 4 << 10;
/// Bytes that a fair priority may send for each unit of weight before the next one's turn.
const QUANTUM: usize = 4 << 10;
/// Empty classes that are kept, so that priorities in use do not allocate again and again.
const MAX_EMPTY: usize = 16;

#[derive(Debug, Clone, Default)]
pub(super) struct OutQueue {
    /// Sent before, and to be sent again ahead of everything.
    again: VecDeque<Outgoing>,
    /// By descending priority.
    classes: Vec<Class>,
    /// The fair priority whose turn it is.
    turn: u16,
    len: usize,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Class {
    priority: u16,
    queue: VecDeque<Outgoing>,
    /// Bytes that a fair class may still send in its turn.
    credit: usize,
}

impl Class {
    fn new(priority: u16) -> Self {
        Self {
            priority,
            queue: VecDeque::new(),
            credit: 0,
        }
    }

    fn is_strict(&self) -> bool {
        self.priority >= priority::LOW
    }

    fn turns_credit(&self) -> usize {
        (usize::from(self.priority) + 1) * QUANTUM
    }
}

impl OutQueue {
    pub(super) fn push(&mut self, outgoing: Outgoing) {
        self.len += 1;
        self.bytes += outgoing.message.payload_len();
        let priority = outgoing.message.header.priority;
        let found = self
            .classes
            .binary_search_by_key(&Reverse(priority), |class| Reverse(class.priority));
        let at = found.unwrap_or_else(|_| self.add_class(priority));
        self.classes[at].queue.push_back(outgoing);
    }

    fn add_class(&mut self, priority: u16) -> usize {
        let empty = self.classes.iter().filter(|class| class.queue.is_empty());
        if empty.count() >= MAX_EMPTY {
            self.classes.retain(|class| !class.queue.is_empty());
        }
        let at = self
            .classes
            .partition_point(|class| class.priority > priority);
        self.classes.insert(at, Class::new(priority));
        at
    }

    pub(super) fn pop(&mut self) -> Option<Outgoing> {
        if self.len == 0 {
            return None;
        }
        let outgoing = match self.again.pop_front() {
            Some(again) => again,
            None => self.pop_by_priority()?,
        };
        self.taken(&outgoing.message);
        Some(outgoing)
    }

    fn taken(&mut self, message: &Message) {
        self.len -= 1;
        self.bytes -= message.payload_len();
    }

    fn pop_by_priority(&mut self) -> Option<Outgoing> {
        let mut strict = self
            .classes
            .iter_mut()
            .take_while(|class| class.is_strict());
        if let Some(next) = strict.find_map(|class| class.queue.pop_front()) {
            return Some(next);
        }
        loop {
            let class = self.class_in_turn()?;
            let cost = class.queue.front()?.cost();
            if class.credit >= cost {
                class.credit -= cost;
                return class.queue.pop_front();
            }
            let priority = class.priority;
            self.next_turn(priority);
        }
    }

    /// The fair class whose turn it is: the first with messages from `turn` downwards, else the
    /// first of all.
    fn class_in_turn(&mut self) -> Option<&mut Class> {
        let waits = |class: &Class| !class.is_strict() && !class.queue.is_empty();
        let turn = self.turn;
        let at = self
            .classes
            .iter()
            .position(|class| waits(class) && class.priority <= turn)
            .or_else(|| self.classes.iter().position(waits))?;
        self.turn = self.classes[at].priority;
        Some(&mut self.classes[at])
    }

    /// Ends the turn of a fair class. It may send more in its next one; credit is only saved up for
    /// what waits.
    fn next_turn(&mut self, priority: u16) {
        for class in &mut self.classes {
            if class.queue.is_empty() {
                class.credit = 0;
            } else if class.priority == priority {
                class.credit += class.turns_credit();
            }
        }
        self.turn = priority.checked_sub(1).unwrap_or(priority::LOW - 1);
    }

    /// Puts messages that were sent before in front of everything, in their order.
    pub(super) fn replay(&mut self, sent: impl DoubleEndedIterator<Item = Outgoing>) {
        for outgoing in sent.rev() {
            self.len += 1;
            self.bytes += outgoing.message.payload_len();
            self.again.push_front(outgoing);
        }
    }

    pub(super) fn cancel(&mut self, ticket: Ticket) -> Option<Message> {
        let queues = self.classes.iter_mut().map(|class| &mut class.queue);
        let message = queues.chain([&mut self.again]).find_map(|queue| {
            let at = queue.iter().position(|out| out.ticket == Some(ticket))?;
            queue.remove(at)
        })?;
        self.taken(&message.message);
        Some(message.message)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The payload bytes of all messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(priority: u16, tid: u64, len: usize) -> Outgoing {
        let mut message = Message::new(1);
        message.header.priority = priority;
        message.header.tid = tid;
        message.data = vec![0; len].into();
        let ticket = Ticket::new(tid);
        Outgoing::new(message, ticket)
    }

    fn queue(messages: &[(u16, u64, usize)]) -> OutQueue {
        let mut queue = OutQueue::default();
        for &(priority, tid, len) in messages {
            queue.push(outgoing(priority, tid, len));
        }
        queue
    }

    fn tids(queue: &mut OutQueue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop())
            .map(|outgoing| outgoing.message.header.tid)
            .collect()
    }

    #[test]
    fn higher_priorities_come_first_and_each_in_its_order() {
        let mut queue = queue(&[
            (127, 1, 9),
            (255, 2, 9),
            (64, 3, 9),
            (127, 4, 9),
            (255, 5, 9),
        ]);
        assert_eq!((queue.len(), queue.bytes()), (5, 45));
        assert_eq!(tids(&mut queue), [2, 5, 1, 4, 3]);
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }

    #[test]
    fn low_priorities_share_in_proportion_and_none_starves() {
        let mut queue = OutQueue::default();
        for tid in 0..4000 {
            queue.push(outgoing([9, 39][tid % 2], tid as u64, 10_000));
        }
        let first: Vec<_> = (0..1000).map(|_| queue.pop().unwrap()).collect();
        let of = |priority| {
            let mine = first.iter().map(|out| out.message.header);
            mine.filter(|header| header.priority == priority).count()
        };
        // Weights 10 and 40.
        assert!((180..=220).contains(&of(9)), "{}", of(9));
        queue.push(outgoing(64, 9999, 1));
        assert_eq!(queue.pop().unwrap().message.header.tid, 9999);
        assert_eq!(tids(&mut queue).len(), 3000);
    }

    #[test]
    fn a_message_larger_than_many_turns_gets_through() {
        let mut queue = queue(&[(0, 1, 10 << 20), (1, 2, 5), (1, 3, 5)]);
        assert_eq!(tids(&mut queue).len(), 3);
    }

    #[test]
    fn what_was_sent_before_goes_ahead_of_everything() {
        let mut queue = queue(&[(255, 3, 1)]);
        queue.replay([outgoing(1, 1, 1), outgoing(2, 2, 1)].into_iter());
        assert_eq!(tids(&mut queue), [1, 2, 3]);
    }

    #[test]
    fn a_message_is_taken_back_once() {
        let mut queue = queue(&[(127, 1, 7), (5, 2, 8)]);
        let ticket = Ticket::new(2).unwrap();
        assert_eq!(queue.cancel(ticket).unwrap().header.tid, 2);
        assert_eq!(queue.cancel(ticket), None);
        assert_eq!((queue.len(), queue.bytes()), (1, 7));
        assert_eq!(tids(&mut queue), [1]);
    }

    #[test]
    fn priorities_come_and_go_without_end() {
        let mut queue = OutQueue::default();
        for priority in 0..=u16::MAX {
            queue.push(outgoing(priority, 1, 1));
            assert!(queue.pop().is_some());
        }
        assert!(queue.classes.len() <= MAX_EMPTY + 1);
    }

    #[test]
    fn one_priority_allocates_nothing_in_the_long_run() {
        let mut queue = queue(&[(127, 1, 1), (127, 2, 1)]);
        let capacity = queue.classes[0].queue.capacity();
        for tid in 3..1000 {
            queue.pop();
            queue.push(outgoing(127, tid, 1));
        }
        assert_eq!(queue.classes[0].queue.capacity(), capacity);
    }
}
