//! [`OutQueue`]: the messages that wait to be laid out, and the order in which they are.
//!
//! Priorities of [`LOW`](crate::priority::LOW) and above are strict, the highest first. Those below
//! share what is left in proportion, so that none of them starves (deficit round robin, Shreedhar
//! and Varghese 1995). Within one priority it is first in, first out.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::num::NonZeroU64;

use bytes::Bytes;

use super::places::Places;
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

#[derive(Debug, Clone, Default)]
pub(super) struct Outgoing {
    pub(super) message: Message,
    pub(super) ticket: Option<Ticket>,
    /// Only its number is left, for which the peer waits.
    pub(super) taken_back: bool,
}

impl Outgoing {
    /// Drops the payload, and the ticket: it was used.
    pub(super) fn take_back(&mut self) {
        self.taken_back = true;
        self.ticket = None;
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
    again: VecDeque<Box<Outgoing>>,
    /// By descending priority.
    classes: Vec<Class>,
    /// The fair priority whose turn it is.
    turn: u16,
    len: usize,
    bytes: usize,
    places: Places,
}

#[derive(Debug, Clone)]
struct Class {
    priority: u16,
    queue: VecDeque<Box<Outgoing>>,
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

    fn cancel(&mut self, ticket: Ticket) -> Option<Box<Outgoing>> {
        let at = find(&self.queue, ticket)?;
        if at == 0 {
            // What was saved up for a large message is not for the small ones behind it.
            self.credit = self.credit.min(self.turns_credit());
        }
        self.queue.remove(at)
    }
}

fn find(queue: &VecDeque<Box<Outgoing>>, ticket: Ticket) -> Option<usize> {
    queue.iter().position(|out| out.ticket == Some(ticket))
}

impl OutQueue {
    /// Takes the message out of `message`.
    pub(super) fn push(&mut self, message: &mut Message, ticket: Option<Ticket>) {
        self.len += 1;
        self.bytes += message.payload_len();
        let priority = message.header.priority;
        let found = self
            .classes
            .binary_search_by_key(&Reverse(priority), |class| Reverse(class.priority));
        let at = found.unwrap_or_else(|_| self.add_class(priority));
        let mut outgoing = self.places.take();
        let Message {
            header,
            front,
            middle,
            data,
        } = message;
        outgoing.message.fill(*header, [front, middle, data]);
        outgoing.ticket = ticket;
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

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Box<Outgoing>> {
        if self.is_empty() {
            return None;
        }
        let queue = if self.again.is_empty() {
            let at = self.next_class()?;
            &mut self.classes[at].queue
        } else {
            &mut self.again
        };
        let outgoing = queue.pop_front()?;
        self.taken(&outgoing.message);
        Some(outgoing)
    }

    fn taken(&mut self, message: &Message) {
        self.len -= 1;
        self.bytes -= message.payload_len();
    }

    /// Drops a message that is not needed any more.
    #[inline]
    pub(super) fn recycle(&mut self, outgoing: Box<Outgoing>) {
        self.places.give(outgoing);
    }

    /// The class that sends the next message, for which it has been charged.
    #[inline]
    fn next_class(&mut self) -> Option<usize> {
        let waits = |class: &Class| !class.queue.is_empty();
        let at = self.classes.iter().position(waits)?;
        if self.classes[at].is_strict() {
            Some(at)
        } else {
            self.next_fair_class()
        }
    }

    fn next_fair_class(&mut self) -> Option<usize> {
        loop {
            let at = self.class_in_turn()?;
            let class = &mut self.classes[at];
            let cost = class.queue.front()?.cost();
            if class.credit >= cost {
                class.credit -= cost;
                return Some(at);
            }
            let priority = class.priority;
            self.next_turn(priority);
        }
    }

    /// The fair class whose turn it is: the first with messages from `turn` downwards, else the
    /// first of all.
    fn class_in_turn(&mut self) -> Option<usize> {
        let waits = |class: &Class| !class.is_strict() && !class.queue.is_empty();
        let turn = self.turn;
        let at = self
            .classes
            .iter()
            .position(|class| waits(class) && class.priority <= turn)
            .or_else(|| self.classes.iter().position(waits))?;
        self.turn = self.classes[at].priority;
        Some(at)
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
    pub(super) fn replay(&mut self, sent: impl DoubleEndedIterator<Item = Box<Outgoing>>) {
        for outgoing in sent.rev() {
            self.len += 1;
            self.bytes += outgoing.message.payload_len();
            self.again.push_front(outgoing);
        }
    }

    pub(super) fn cancel(&mut self, ticket: Ticket) -> Option<Message> {
        let outgoing = match find(&self.again, ticket) {
            Some(at) => self.again.remove(at)?,
            None => self
                .classes
                .iter_mut()
                .find_map(|class| class.cancel(ticket))?,
        };
        self.taken(&outgoing.message);
        Some(outgoing.message)
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

    fn outgoing(priority: u16, tid: u64, len: usize) -> Box<Outgoing> {
        let mut message = Message::new(1);
        message.header.priority = priority;
        message.header.tid = tid;
        message.data = vec![0; len].into();
        let ticket = Ticket::new(tid);
        Box::new(Outgoing {
            message,
            ticket,
            taken_back: false,
        })
    }

    fn push(queue: &mut OutQueue, mut outgoing: Box<Outgoing>) {
        queue.push(&mut outgoing.message, outgoing.ticket);
    }

    fn queue(messages: &[(u16, u64, usize)]) -> OutQueue {
        let mut queue = OutQueue::default();
        for &(priority, tid, len) in messages {
            push(&mut queue, outgoing(priority, tid, len));
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
            push(&mut queue, outgoing([9, 39][tid % 2], tid as u64, 10_000));
        }
        let first: Vec<_> = (0..1000).map(|_| queue.pop().unwrap()).collect();
        let of = |priority| {
            let mine = first.iter().map(|out| out.message.header);
            mine.filter(|header| header.priority == priority).count()
        };
        // Weights 10 and 40.
        assert!((180..=220).contains(&of(9)), "{}", of(9));
        push(&mut queue, outgoing(64, 9999, 1));
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
            push(&mut queue, outgoing(priority, 1, 1));
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
            push(&mut queue, outgoing(127, tid, 1));
        }
        assert_eq!(queue.classes[0].queue.capacity(), capacity);
    }

    #[test]
    fn what_was_saved_up_for_a_message_goes_with_it() {
        let mut queue = queue(&[(0, 1, 8 << 20)]);
        for tid in 2..10_000 {
            push(&mut queue, outgoing(tid as u16 % 2, tid, 1));
        }
        for _ in 0..2000 {
            assert_eq!(queue.pop().unwrap().message.header.priority, 1);
        }
        assert!(queue.cancel(Ticket::new(1).unwrap()).is_some());
        let next = (0..300).map(|_| queue.pop().unwrap().message.header.priority);
        let fair = next.filter(|priority| *priority == 0).count();
        // Weights 1 and 2, and what each may have saved up.
        assert!((98..=102).contains(&fair), "{fair} of 300");
    }

    #[test]
    fn a_ticket_is_good_for_one_taking_back() {
        let mut sent = outgoing(127, 1, 9);
        sent.take_back();
        let mut queue = OutQueue::default();
        queue.replay([sent].into_iter());
        assert_eq!(queue.cancel(Ticket::new(1).unwrap()), None);
        assert!(queue.pop().unwrap().taken_back);
    }

    /// Knuth's MMIX generator.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: u64) -> u64 {
            let Self(state) = self;
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*state >> 33) % end
        }
    }

    #[test]
    fn shares_are_in_proportion_to_the_byte() {
        const WEIGHTS: [u16; 4] = [1, 5, 20, 64];
        let random = &mut Random(1);
        let largest = 100_000;
        let mut queue = OutQueue::default();
        let mut bytes = WEIGHTS.map(|_| 0);
        let mut tid = 0;
        let mut add = |queue: &mut OutQueue, weight: u16| {
            tid += 1;
            let len = LEAST_COST + random.below((largest - LEAST_COST) as u64) as usize;
            push(queue, outgoing(weight - 1, tid, len));
        };
        for weight in WEIGHTS {
            add(&mut queue, weight);
        }
        for _ in 0..5000 {
            let Message { header, data, .. } = queue.pop().unwrap().message;
            let weight = header.priority + 1;
            // Nobody ever runs out of messages.
            add(&mut queue, weight);
            let class = WEIGHTS.iter().position(|other| *other == weight).unwrap();
            bytes[class] += data.len();
            // Per unit of weight, two are apart by a turn at most, and by what each has saved up.
            for (a, weight_a) in bytes.iter().zip(WEIGHTS.map(usize::from)) {
                for (b, weight_b) in bytes.iter().zip(WEIGHTS.map(usize::from)) {
                    let most = QUANTUM + largest / weight_a + largest / weight_b;
                    assert!((a / weight_a).abs_diff(b / weight_b) <= most, "{bytes:?}");
                }
            }
        }
    }

    /// What waits, in no clever order: whether it was sent before, its priority, tid and size.
    #[derive(Default)]
    struct Model(Vec<(bool, u16, u64, usize)>);

    impl Model {
        /// The messages that may come next: one, or the first of each priority that has a share.
        fn next(&self) -> Vec<u64> {
            if let Some((_, _, tid, _)) = self.0.iter().find(|(again, ..)| *again) {
                return vec![*tid];
            }
            let mut priorities: Vec<u16> = self.0.iter().map(|(_, p, ..)| *p).collect();
            priorities.sort_unstable_by_key(|priority| Reverse(*priority));
            priorities.dedup();
            if priorities.first().is_some_and(|p| *p >= priority::LOW) {
                priorities.truncate(1);
            }
            let first = |priority| self.0.iter().find(|(_, p, ..)| *p == priority);
            let firsts = priorities.into_iter().filter_map(first);
            firsts.map(|(_, _, tid, _)| *tid).collect()
        }

        fn remove(&mut self, tid: u64) -> bool {
            let before = self.0.len();
            self.0.retain(|(_, _, other, _)| *other != tid);
            self.0.len() < before
        }
    }

    #[test]
    fn any_use_is_as_the_model_says() {
        const PRIORITIES: [u16; 8] = [0, 1, 40, 63, 64, 127, 255, u16::MAX];
        for seed in 0..100 {
            let random = &mut Random(seed);
            let (mut queue, mut model) = (OutQueue::default(), Model::default());
            for tid in 1..500 {
                // Now and then one of more priorities than are kept.
                let priority = match random.below(4) {
                    0 => random.below(1 << 16) as u16,
                    _ => PRIORITIES[random.below(8) as usize],
                };
                let len = random.below(30_000) as usize;
                match random.below(20) {
                    0..9 => {
                        push(&mut queue, outgoing(priority, tid, len));
                        model.0.push((false, priority, tid, len));
                    }
                    9..17 => {
                        let next = model.next();
                        let tid = queue.pop().map(|out| out.message.header.tid);
                        assert_eq!(tid.is_none(), next.is_empty(), "seed {seed}");
                        if let Some(tid) = tid {
                            assert!(next.contains(&tid), "seed {seed}: {tid} not of {next:?}");
                            model.remove(tid);
                        }
                    }
                    17..19 => {
                        let tid = 1 + random.below(tid);
                        let cancelled = queue.cancel(Ticket::new(tid).unwrap());
                        assert_eq!(cancelled.is_some(), model.remove(tid), "seed {seed}");
                        assert!(cancelled.is_none_or(|message| message.header.tid == tid));
                    }
                    _ => {
                        let sent = [(tid, priority), (1000 + tid, 0), (2000 + tid, 255)];
                        let again = sent.map(|(tid, priority)| outgoing(priority, tid, len));
                        queue.replay(again.into_iter());
                        let known = sent.map(|(tid, priority)| (true, priority, tid, len));
                        model.0.splice(..0, known);
                    }
                }
                let bytes = model.0.iter().map(|(.., len)| len).sum::<usize>();
                assert_eq!((queue.len(), queue.bytes()), (model.0.len(), bytes));
                assert_eq!(queue.is_empty(), model.0.is_empty());
            }
        }
    }
}
