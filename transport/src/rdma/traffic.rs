//! Polling: completions, what connections do next, and the end of each.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::fd::AsFd;

use super::adapter::Adapter;
use super::completion::{Completion, Failure};
use super::connection::{Connection, Held, Phase};
use super::device::DeviceEvent;
use super::link::{Link, SEND};
use super::watch::Source;
use super::{
    COMPLETIONS, LOOK_EVERY, Rdma, SILENT_LOOKS, Setup, device_failed, list, misbehaved, starve,
};
use crate::{CloseReason, ConnId, Event};

/// How long a device may take to give back the sends of a queue pair that has ended.
const FLUSH: Duration = Duration::from_secs(1);
/// How long it may take to give back a receive that the peer was just using.
const REST: Duration = Duration::from_millis(20);
/// A connection without any traffic is tried at every so manieth look.
const TRY_EVERY: u32 = 5;

impl Rdma {
    /// Looks at the descriptors, unless that was done just now. Whether there was anything.
    pub(super) fn look(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        if self.looked.is_some_and(|at| now < at + LOOK_EVERY) {
            return false;
        }
        self.looked = Some(now);
        self.cost.system_calls += 1;
        let mut manager = false;
        let mut devices = 0_u64;
        let mut heard = std::mem::take(&mut self.heard);
        let (watch, adapters) = (&self.watch, &mut self.adapters);
        watch.look(|source| match source {
            Source::Manager => manager = true,
            Source::Completions(adapter) => {
                adapters[adapter].completions.take_events();
            }
            Source::Device(adapter) => devices |= 1 << (adapter % 64),
            Source::Port(_) | Source::Channel(_) => heard.push(source),
        });
        if manager {
            self.hear_manager(events);
        }
        for adapter in 0..self.adapters.len() {
            if devices >> (adapter % 64) & 1 == 1 {
                self.hear_device(adapter, events);
            }
        }
        let any = manager || devices != 0 || !heard.is_empty();
        for source in heard.drain(..) {
            match source {
                Source::Port(listener) if self.config.setup == Setup::Ceph => {
                    self.hear_port(listener);
                }
                Source::Port(listener) => self.empty_mailbox(listener),
                Source::Channel(conn) => self.hear_channel(conn, events),
                _ => {}
            }
        }
        self.heard = heard;
        any
    }

    fn hear_device(&mut self, index: usize, events: &mut Vec<Event>) {
        while let Some(event) = self.adapters[index].device.next_event() {
            let adapter = &mut self.adapters[index];
            let owner = |number| adapter.owners.get(&number).copied();
            match event {
                DeviceEvent::QueuePair(number, what) => {
                    let id = owner(number);
                    tracing::warn!(
                        device = adapter.device.name(),
                        what,
                        ?id,
                        "queue pair failed"
                    );
                    if let Some(id) = id {
                        self.fail(id, CloseReason::Reset);
                    }
                }
                // It is destroyed a moment later anyway.
                DeviceEvent::LastReceive => {}
                DeviceEvent::Established(number) => {
                    if let Some(id) = owner(number) {
                        self.accepted(id, events);
                    }
                }
                DeviceEvent::Fatal(what) => {
                    tracing::error!(device = adapter.device.name(), what, "device failed");
                    adapter.failed.get_or_insert(what);
                }
                DeviceEvent::Note(what) => {
                    tracing::info!(device = adapter.device.name(), what, "device");
                }
            }
        }
    }

    /// Notes why a connection is over, for the poll to tell.
    pub(super) fn fail(&mut self, id: ConnId, reason: CloseReason) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.fail(reason);
            list(&mut self.work, id, conn);
        }
    }

    /// Looks at what a device has completed. Whether that was anything.
    pub(super) fn complete(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        let mut seen = 0;
        while seen < COMPLETIONS && self.adapters[index].look() {
            let adapter = &mut self.adapters[index];
            let count = std::mem::take(&mut adapter.ahead);
            let taken = std::mem::take(&mut adapter.taken);
            for completion in &taken[..count] {
                self.take(index, completion, events);
            }
            let adapter = &mut self.adapters[index];
            adapter.taken = taken;
            adapter.flush_receives();
            seen += count;
        }
        if self.adapters[index].failed.is_some() {
            self.abandon(index);
        }
        seen > 0
    }

    /// A device has failed, and all connections over it.
    fn abandon(&mut self, index: usize) {
        let adapter = &mut self.adapters[index];
        if std::mem::take(&mut adapter.is_watched) {
            // They may be readable for ever, and have nothing more to say.
            for descriptor in [adapter.completions.as_fd(), adapter.device.events()] {
                if let Err(errno) = self.watch.remove(descriptor) {
                    tracing::warn!(device = adapter.device.name(), %errno, "still watched");
                }
            }
        }
        for &id in adapter.owners.values() {
            if let Some(conn) = self.conns.get_mut(id)
                && conn.phase != Phase::Ending
            {
                conn.fail(device_failed());
                list(&mut self.work, id, conn);
            }
        }
    }

    fn take(&mut self, index: usize, completion: &Completion, events: &mut Vec<Event>) {
        let adapter = &mut self.adapters[index];
        let owner = adapter.owners.get(&completion.queue_pair()).copied();
        if completion.request() & SEND == 0 {
            self.take_receive(index, owner, completion, events);
            return;
        }
        let Some((id, conn)) = owner.and_then(|id| Some((id, self.conns.get_mut(id)?))) else {
            return;
        };
        if let Some(failure) = completion.failure() {
            note_failure(conn, failure, adapter);
        }
        if let Some(link) = &mut conn.link {
            let over = (completion.request(), completion.failure().is_none());
            link.complete(over, adapter, (&mut self.pool, &mut self.cost));
            if conn.phase == Phase::Ending && link.is_idle() {
                self.resting.extend(self.now.map(|now| (now + REST, id)));
            }
        }
        let landed = conn.link.as_ref().is_some_and(Link::owes);
        if conn.owes_room || landed || conn.phase == Phase::Draining || conn.failed.is_some() {
            list(&mut self.work, id, conn);
        }
        self.feed();
    }

    fn take_receive(
        &mut self,
        index: usize,
        owner: Option<ConnId>,
        completion: &Completion,
        events: &mut Vec<Event>,
    ) {
        let Some(block) = self.adapters[index].take_receive(completion) else {
            return;
        };
        // It may overtake the manager's word that the peer knows.
        if let Some(id) = owner
            && completion.failure().is_none()
        {
            self.accepted(id, events);
        }
        let adapter = &mut self.adapters[index];
        let conn = owner.and_then(|id| Some((id, self.conns.get_mut(id)?)));
        let Some((id, conn)) = conn.filter(|(_, conn)| conn.phase != Phase::Ending) else {
            adapter.post_receive(block);
            return;
        };
        let Some(link) = &mut conn.link else {
            adapter.post_receive(block);
            return;
        };
        if let Some(failure) = completion.failure() {
            adapter.post_receive(block);
            note_failure(conn, failure, adapter);
            list(&mut self.work, id, conn);
            return;
        }
        conn.heard = true;
        let len = completion.len();
        let allowed = link.setup.decode(completion).filter(|immediate| {
            let is_free = len == 0 && immediate.read > 0;
            (is_free || link.grant.use_one().is_ok())
                && link.end_loans(immediate.read, adapter)
                && (!immediate.offer || link.take_offer(&block, len, adapter))
        });
        let Some(immediate) = allowed else {
            let peer = conn.remote;
            tracing::warn!(%peer, "the peer sends more than it may, or what is not ours");
            adapter.post_receive(block);
            conn.fail(misbehaved());
            list(&mut self.work, id, conn);
            return;
        };
        link.add_credits(immediate.credits);
        conn.ended |= immediate.last;
        if len == 0 && immediate.read > 0 {
            adapter.post_receive(block);
        } else if len == 0 || conn.phase != Phase::Open {
            adapter.post_receive(block);
            link.grant.replace_one();
        } else if immediate.offer {
            adapter.post_receive(block);
            link.grant.replace_one();
            conn.held.push_back(Held::Offered);
        } else if conn.receiving && conn.held.is_empty() {
            let bytes = adapter.hand_up(block, len, &mut self.pool, &mut self.cost);
            link.grant.replace_one();
            events.push(Event::Data { conn: id, bytes });
        } else {
            conn.held.push_back(Held::Received(block, len));
        }
        if conn.owes_room
            || conn.ended
            || conn.phase == Phase::Draining
            || immediate.credits > 0
            || immediate.offer
            || link.owes()
        {
            list(&mut self.work, id, conn);
        }
    }

    /// Does for one connection what can be done now.
    pub(super) fn serve(&mut self, id: ConnId, events: &mut Vec<Event>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.listed = false;
        match conn.phase {
            Phase::Ending => return,
            Phase::Draining => return self.drain(id),
            _ => {}
        }
        if let Some(reason) = conn.failed.clone() {
            return self.finish(id, reason, events);
        }
        let (Phase::Open, Some(link)) = (conn.phase, &mut conn.link) else {
            if conn.disconnected {
                self.finish(id, CloseReason::Reset, events);
            }
            return;
        };
        let adapter = &mut self.adapters[link.adapter];
        let mut starves = false;
        while conn.receiving
            && let Some(next) = conn.held.pop_front()
        {
            let bytes = match next {
                Held::Received(block, len) => {
                    link.grant.replace_one();
                    adapter.hand_up(block, len, &mut self.pool, &mut self.cost)
                }
                Held::Offered => {
                    let Some(bytes) = link.offers.hand_up() else {
                        conn.held.push_front(Held::Offered);
                        break;
                    };
                    bytes
                }
            };
            events.push(Event::Data { conn: id, bytes });
        }
        if conn.receiving {
            if conn.ended && conn.held.is_empty() {
                return self.finish(id, CloseReason::PeerClosed, events);
            }
            match link.read_offers(adapter, &mut self.cost) {
                Ok(waits) => starves |= waits,
                Err(reason) => return self.finish(id, reason, events),
            }
        }
        if conn.disconnected && !conn.ended {
            return self.finish(id, CloseReason::Reset, events);
        }
        if let Err(reason) = link.supply(adapter) {
            return self.finish(id, reason, events);
        }
        // The receives that are granted must be there before the peer learns of them.
        adapter.flush_receives();
        // At the second look: until then something may be sent that takes the credits along. But
        // who has lent large data waits to lend more, while what came is looked at.
        let again = std::mem::replace(&mut conn.owes_credits, link.owes());
        if conn.owes_credits && (again || link.offers.owes()) {
            conn.owes_credits = false;
            match link.control(false, adapter, &mut self.cost) {
                // If it has no room itself, it is looked at when it has.
                Ok(told) => starves |= !told && adapter.slots == 0,
                Err(reason) => return self.finish(id, reason, events),
            }
        }
        let waits = conn.owes_credits;
        if conn.owes_room && link.has_room(adapter) {
            if adapter.slots > 0 && adapter.send_arena.free() > 0 {
                conn.owes_room = false;
                events.push(Event::Room { conn: id });
            } else {
                starves = true;
            }
        }
        if starves {
            starve(&mut self.starved, id, conn);
        }
        if waits {
            list(&mut self.work, id, conn);
        }
    }

    /// Tells the caller that a connection is over.
    fn finish(&mut self, id: ConnId, reason: CloseReason, events: &mut Vec<Event>) {
        if let Some(conn) = self.owned(id) {
            tracing::debug!(peer = %conn.remote, %reason, "connection over");
            // Of one that was never accepted nobody knows.
            if !matches!(conn.phase, Phase::Accepting(_)) {
                events.push(Event::Closed { conn: id, reason });
            }
        }
        self.end(id);
    }

    /// Sends what the caller has left behind, and the end.
    pub(super) fn drain(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if let Some(link) = &mut conn.link {
            let adapter = &mut self.adapters[link.adapter];
            for held in conn.held.drain(..) {
                if let Held::Received(block, _) = held {
                    adapter.post_receive(block);
                    link.grant.replace_one();
                }
            }
            if let Err(reason) = link.supply(adapter) {
                conn.failed.get_or_insert(reason);
            }
            let adapter = &mut self.adapters[link.adapter];
            if !conn.say_last(adapter, &mut self.cost) && adapter.slots == 0 {
                starve(&mut self.starved, id, conn);
            }
        }
        if conn.failed.is_some() || conn.ended || conn.disconnected || conn.is_drained() {
            self.end(id);
        }
    }

    /// Begins the end of a connection: from now on it only gives back what it had.
    pub(super) fn end(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.phase == Phase::Ending {
            return;
        }
        conn.phase = Phase::Ending;
        if let Some(channel) = conn.channel.take()
            && !(conn.is_drained() || conn.ended)
        {
            channel.reset();
        }
        if let Some(manager) = &mut conn.id {
            // It fails if there is no connection yet, or no longer.
            let _ = manager.disconnect();
        }
        let Some((link, now)) = conn.link.as_mut().zip(self.now) else {
            return self.remove(id);
        };
        let adapter = &mut self.adapters[link.adapter];
        drop_held(&mut conn.held, adapter);
        link.drop_staged(adapter);
        let flushes = link.is_ready
            && adapter.failed.is_none()
            && link.queue_pair.fail().is_ok()
            && link.probe(adapter);
        if flushes {
            self.flushing.push_back((now + FLUSH, id));
        } else {
            self.remove(id);
        }
    }

    /// Forgets a connection and gives back all it had.
    fn remove(&mut self, id: ConnId) {
        let Some(mut conn) = self.conns.remove(id) else {
            return;
        };
        if let Some(link) = conn.link.take() {
            let adapter = &mut self.adapters[link.adapter];
            drop_held(&mut conn.held, adapter);
            link.release(adapter);
        }
        self.feed();
    }

    /// Does what is due. Whether there was anything.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(&(until, id)) = self.lingering.front() {
            let lingers = |conn: &Connection| conn.phase == Phase::Draining;
            let alive = self.conns.get(id).is_some_and(lingers);
            if alive && now < until {
                break;
            }
            self.lingering.pop_front();
            if alive {
                self.end(id);
                any = true;
            }
        }
        while let Some(id) = self.over(now) {
            self.remove(id);
            any = true;
        }
        if self.conns.is_empty() && !self.has_lost_listeners {
            self.keepalive = None;
        } else if self.keepalive.is_none_or(|at| now >= at) {
            if self.keepalive.is_some() {
                self.look_after();
                if self.has_lost_listeners {
                    self.reopen_listeners();
                }
            }
            self.keepalive = Some(now + self.config.keepalive);
        }
        any
    }

    /// A connection that the device has had time enough for.
    fn over(&mut self, now: Instant) -> Option<ConnId> {
        for queue in [&mut self.resting, &mut self.flushing] {
            while let Some(&(until, id)) = queue.front() {
                let alive = self.conns.get(id).is_some();
                if alive && now < until {
                    break;
                }
                queue.pop_front();
                if alive {
                    return Some(id);
                }
            }
        }
        None
    }

    /// The keepalive's look at every connection: whoever has sends under way must get some of them
    /// acknowledged, and whoever is idle tries from time to time whether the peer is there.
    fn look_after(&mut self) {
        let all: Vec<ConnId> = self.conns.iter().map(|(id, _)| id).collect();
        for id in all {
            let Some(conn) = self.conns.get_mut(id) else {
                continue;
            };
            if conn.awaits_peer() {
                conn.silent += 1;
                if conn.silent >= SILENT_LOOKS {
                    conn.fail(CloseReason::TimedOut);
                    list(&mut self.work, id, conn);
                }
                continue;
            }
            let Some(link) = &mut conn.link else {
                continue;
            };
            if !link.is_ready || conn.phase == Phase::Ending {
                continue;
            }
            let adapter = &mut self.adapters[link.adapter];
            let progress = link.completed != std::mem::replace(&mut conn.seen, link.completed);
            let heard = std::mem::take(&mut conn.heard);
            if progress || (heard && link.is_idle()) {
                conn.silent = 0;
                if link.is_idle() {
                    continue;
                }
            }
            conn.silent += 1;
            if link.is_idle() {
                if conn.silent >= TRY_EVERY && link.probe(adapter) {
                    conn.silent = 0;
                }
            } else if conn.silent >= SILENT_LOOKS && link.setup.silence_is_death() {
                tracing::warn!(peer = %conn.remote, "the peer does not acknowledge anything");
                conn.fail(CloseReason::TimedOut);
                list(&mut self.work, id, conn);
            } else if !link.is_signalled() && !link.is_reading() {
                // Behind a read it might break that: where an answer was lost, Linux's rdma_rxe takes the
                // length of the last request, which is none, for that of the read that is repeated.
                link.probe(adapter);
            }
        }
    }
}

/// Gives back what a connection has received and nobody wants.
fn drop_held(held: &mut VecDeque<Held>, adapter: &mut Adapter) {
    for held in held.drain(..) {
        if let Held::Received(block, _) = held {
            adapter.post_receive(block);
        }
    }
}

/// Notes what a failed work request says about its connection.
fn note_failure(conn: &mut Connection, failure: Failure, adapter: &Adapter) {
    if conn.failed.is_some() || conn.phase == Phase::Ending {
        return;
    }
    let text = failure.text(&adapter.device);
    tracing::warn!(peer = %conn.remote, device = adapter.device.name(), text, "queue pair failed");
    conn.fail(if failure.is_silence() {
        CloseReason::TimedOut
    } else if failure.is_flush() || failure.is_remote() {
        CloseReason::Reset
    } else {
        CloseReason::Os(rustix::io::Errno::IO.raw_os_error())
    });
}
