//! Connections from end to end, and whoever [meddles](Meddler) with what passes on them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ptr;

use msgr_rdma_sys as sys;

use super::cm::Id;
use super::verbs;
use super::{Fabric, FakeDevice, device_of, fabric};
use crate::sim::Side;

/// The connector's address and the acceptor's.
pub type Ends = (SocketAddr, SocketAddr);

/// What becomes of an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Whoever listens there decides.
    Arrives,
    /// Nobody seems to listen.
    Refused,
    /// There is none.
    Never,
}

/// What becomes of a work request that one side's device is about to carry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It arrives, and is over.
    Arrives,
    /// It waits, and all behind it, until the next [`FakeDevice::step`].
    Waits,
    /// Neither it nor anything else passes any more, of which those sides learn at once.
    Cut([bool; 2]),
}

/// Decides what passes, and what does not.
pub trait Meddler: Send {
    /// Somebody connects.
    fn connects(&mut self, ends: Ends) -> Answer;

    /// One side of a connection has something to send, or to read.
    fn passes(&mut self, ends: Ends, side: Side) -> Passage;
}

/// A connection: the ids of both ends and the numbers of their queue pairs, the connector's first.
pub(super) struct Stream {
    ids: [*mut Id; 2],
    queue_pairs: [u32; 2],
    is_cut: bool,
}

/// All connections of a device.
#[derive(Default)]
pub(super) struct Streams {
    meddler: Option<Box<dyn Meddler>>,
    streams: BTreeMap<Ends, Stream>,
}

impl FakeDevice {
    /// From now on somebody decides what passes.
    pub fn meddle(&self, meddler: impl Meddler + 'static) {
        fabric(|fabric| fabric.streams(self.0).meddler = Some(Box::new(meddler)));
    }

    /// The connections that are up as far as the network knows.
    pub fn connections(&self) -> Vec<Ends> {
        let up = |(ends, stream): (&Ends, &Stream)| (!stream.is_cut).then_some(*ends);
        fabric(|fabric| {
            fabric
                .streams(self.0)
                .streams
                .iter()
                .filter_map(up)
                .collect()
        })
    }

    /// Tries again what waits.
    pub fn step(&self) {
        fabric(|fabric| {
            let streams = fabric.streams(self.0).streams.values();
            let numbers: Vec<u32> = streams.flat_map(|stream| stream.queue_pairs).collect();
            for number in numbers {
                unsafe { verbs::retry(fabric, number) };
            }
        });
    }

    /// One side learns that nothing passes any more. False if there is no such connection.
    pub fn cut(&self, ends: Ends, side: Side) -> bool {
        fabric(|fabric| {
            let known = fabric.streams(self.0).streams.contains_key(&ends);
            let told = [Side::Connector, Side::Acceptor].map(|one| one == side);
            unsafe { fabric.part(self.0, ends, told) };
            unsafe { fabric.break_down(self.0, ends, told) };
            known
        })
    }
}

impl Fabric {
    fn streams(&mut self, device: u16) -> &mut Streams {
        self.streams.entry(device).or_default()
    }

    /// What becomes of an attempt.
    pub(super) fn answer(&mut self, ends: Ends) -> Answer {
        let streams = self.streams(device_of(ends.1.ip()));
        let meddler = streams.meddler.as_mut();
        meddler.map_or(Answer::Arrives, |meddler| meddler.connects(ends))
    }

    /// Both ends are connected.
    pub(super) fn begin(&mut self, ends: Ends, ids: [*mut Id; 2], queue_pairs: [u32; 2]) {
        let stream = Stream {
            ids,
            queue_pairs,
            is_cut: false,
        };
        let streams = self.streams(device_of(ends.1.ip()));
        streams.streams.insert(ends, stream);
    }

    /// One end exists no more; with it the connection, unless the other is still to learn of that.
    pub(super) fn forget(&mut self, id: *mut Id) {
        for streams in self.streams.values_mut() {
            streams.streams.retain(|_, stream| {
                let Some(side) = stream.ids.iter().position(|one| *one == id) else {
                    return true;
                };
                stream.ids[side] = ptr::null_mut();
                stream.is_cut && stream.ids != [ptr::null_mut(); 2]
            });
        }
    }

    /// What becomes of the next request of a queue pair. If that fails now, the rest is the caller's.
    pub(super) unsafe fn passage(&mut self, device: u16, queue_pair: u32) -> Passage {
        let Some(Streams {
            meddler: Some(meddler),
            streams,
        }) = self.streams.get_mut(&device)
        else {
            return Passage::Arrives;
        };
        let of = |stream: &Stream| stream.queue_pairs.iter().position(|one| *one == queue_pair);
        let mut known = streams.iter();
        let known = known.find_map(|(ends, stream)| Some((*ends, stream.is_cut, of(stream)?)));
        let Some((ends, is_cut, side)) = known else {
            return Passage::Arrives;
        };
        if is_cut {
            return Passage::Waits;
        }
        let passage = meddler.passes(ends, [Side::Connector, Side::Acceptor][side]);
        if let Passage::Cut(mut told) = passage {
            unsafe { self.part(device, ends, told) };
            let ours = std::mem::take(&mut told[side]);
            unsafe { self.break_down(device, ends, told) };
            return if ours { passage } else { Passage::Waits };
        }
        passage
    }

    /// From now on nothing passes on a connection; the manager tells those sides.
    unsafe fn part(&mut self, device: u16, ends: Ends, told: [bool; 2]) {
        let Some(stream) = self.streams(device).streams.get_mut(&ends) else {
            return;
        };
        stream.is_cut = true;
        for (id, told) in stream.ids.into_iter().zip(told) {
            if let Some(id) = unsafe { id.as_mut() } {
                // What the manager has to say does not pass either.
                let _ = id.part();
                if told {
                    id.tell(sys::RDMA_CM_EVENT_DISCONNECTED, 0, &[]);
                }
            }
        }
    }

    /// The queue pairs of those sides fail.
    unsafe fn break_down(&mut self, device: u16, ends: Ends, told: [bool; 2]) {
        if let Some(stream) = self.streams(device).streams.get(&ends) {
            for (number, told) in stream.queue_pairs.into_iter().zip(told) {
                if told {
                    unsafe { verbs::break_down(self, number) };
                }
            }
        }
    }
}
