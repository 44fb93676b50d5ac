//! What [`Tcp`] costs beside smoltcp alone, over the same ports: a round trip of 64 bytes, and a stream
//! in one direction. The two ends are on threads, and cores, of their own, and never sleep. Run with
//! `cargo bench -p msgr-transport --bench overhead`; with texts behind `--`, only the rows in whose
//! names they all are.
//!
//! Samples of both are taken in turn. What is printed are medians, and the median of the ratios of
//! two samples in a row.

mod bare;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use bare::Bare;
use bytes::Bytes;
use msgr_transport::dpdk::{Eal, EalConfig, PortConfig};
use msgr_transport::tcp::wire::{Wire, WireConfig};
use msgr_transport::tcp::{Device, Tcp, TcpConfig};
use msgr_transport::{ConnId, ConnectOptions, Event, ListenOptions, Transport, TxQueue};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The pairs of samples of which the median counts.
const SAMPLES: usize = 15;
/// The bytes of a message there and back.
const MESSAGE: usize = 64;
/// So many round trips are one sample.
const ROUND_TRIPS: usize = 5000;
/// The bytes that are sent at a time in a stream.
const PIECE: usize = 64 << 10;
/// The bytes of a stream.
const STREAM: usize = 256 << 20;

/// One end of a connection.
trait End: Send {
    /// Queues a message. Whether all of it has found room.
    fn send(&mut self, message: &Bytes) -> bool;

    /// Has what is queued leave.
    fn flush(&mut self);

    /// Has all that is due happen. How many bytes have arrived.
    fn turn(&mut self, now: Instant) -> usize;
}

fn main() {
    println!("                                smoltcp      ours  ratio");
    for mtu in [1500, 9000] {
        let config = WireConfig {
            mtu,
            ..WireConfig::default()
        };
        // Each pair has a wire of its own.
        let ports = [(); 2].map(|()| {
            let wire = Wire::new(config);
            [wire.port(), wire.port()]
        });
        compare(&format!("wire, MTU {mtu}"), ports);
    }
    match ring_pairs() {
        Ok(ports) => compare("net_ring, MTU 1500", ports),
        Err(why) => println!("no net_ring: {why}"),
    }
}

/// Two pairs of DPDK's ports, each connected by a ring in either direction.
fn ring_pairs() -> Result<[[impl Device<Frame: Send> + Send; 2]; 2], Box<dyn std::error::Error>> {
    let eal = Eal::start(&EalConfig::default())?;
    let pair = || {
        let pair = eal.ring_pair(&PortConfig::default())?;
        Ok::<_, Box<dyn std::error::Error>>(pair.map(|mut queues| queues.remove(0)))
    };
    Ok([pair()?, pair()?])
}

fn compare<D: Device<Frame: Send> + Send>(over: &str, [some, others]: [[D; 2]; 2]) {
    let mut bare = Bare::pair(some);
    let mut ours = Ours::pair(others);
    let sample = || [round_trip(&mut bare), round_trip(&mut ours)];
    row(&format!("64 B there and back, {over}"), "ns", sample);
    let sample = || [stream(&mut bare), stream(&mut ours)];
    row(&format!("stream, {over}"), "MB/s", sample);
}

fn row(what: &str, unit: &str, sample: impl FnMut() -> [f64; 2]) {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|it| it != "--bench")
        .collect();
    if !wanted.iter().all(|text| what.contains(text)) {
        return;
    }
    let taken: Vec<[f64; 2]> = std::iter::repeat_with(sample).take(SAMPLES).collect();
    let median = |value: fn(&[f64; 2]) -> f64| {
        let mut values: Vec<f64> = taken.iter().map(value).collect();
        values.sort_unstable_by(f64::total_cmp);
        values[SAMPLES / 2]
    };
    let (bare, ours) = (median(|both| both[0]), median(|both| both[1]));
    let ratio = median(|both| both[1] / both[0]);
    println!("{what:40} {bare:5.0} {ours:9.0} {unit:4} {ratio:6.2}");
}

/// Both ends at work: the server's until the client's is done, which returns what was measured.
fn together<E: End>(
    [client, server]: &mut [E; 2],
    mut serve: impl FnMut(&mut E, usize) + Send,
    work: impl FnOnce(&mut E) -> f64,
) -> f64 {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin_to(0);
            while !is_done.load(Ordering::Relaxed) {
                let received = server.turn(Instant::now());
                serve(server, received);
            }
        });
        pin_to(1);
        let measured = work(client);
        is_done.store(true, Ordering::Relaxed);
        measured
    })
}

/// Where there is no such core, anywhere.
fn pin_to(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    let _ = sched_setaffinity(None, &cores);
}

/// The median of some round trips, in nanoseconds.
fn round_trip<E: End>(ends: &mut [E; 2]) -> f64 {
    let message = Bytes::from_static(&[7; MESSAGE]);
    let echo = message.clone();
    let mut waiting = 0;
    let serve = move |server: &mut E, received| {
        waiting += received;
        if waiting >= MESSAGE {
            waiting -= MESSAGE;
            assert!(server.send(&echo), "no room");
            server.flush();
        }
    };
    together(ends, serve, |client| {
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for _ in 0..ROUND_TRIPS {
            let start = Instant::now();
            assert!(client.send(&message), "no room");
            client.flush();
            let mut received = 0;
            while received < MESSAGE {
                received += client.turn(Instant::now());
            }
            times.push(start.elapsed().as_nanos());
        }
        times.sort_unstable();
        times[ROUND_TRIPS / 2] as f64
    })
}

/// How fast bytes arrive, in megabytes per second.
fn stream<E: End>(ends: &mut [E; 2]) -> f64 {
    let piece = Bytes::from(vec![7; PIECE]);
    let end = Bytes::from_static(&[7; MESSAGE]);
    let mut left = STREAM;
    let serve = move |server: &mut E, received| {
        left -= received;
        if received > 0 && left == 0 {
            assert!(server.send(&end), "no room");
        }
    };
    together(ends, serve, |client| {
        let start = Instant::now();
        let (mut sent, mut received) = (0, 0);
        while received < MESSAGE {
            while sent < STREAM && client.send(&piece) {
                sent += PIECE;
            }
            received += client.turn(Instant::now());
        }
        STREAM as f64 / start.elapsed().as_secs_f64() / 1e6
    })
}

/// A [`Tcp`] with one connection.
struct Ours<D: Device> {
    tcp: Tcp<D>,
    events: Vec<Event>,
    queue: TxQueue,
    conn: Option<ConnId>,
}

impl<D: Device<Frame: Send> + Send> Ours<D> {
    fn pair(ports: [D; 2]) -> [Self; 2] {
        let now = Instant::now();
        let [client, server] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let mut ips = [client, server].into_iter();
        let mut ends = ports.map(|port| Self {
            tcp: Tcp::new(port, TcpConfig::new(ips.next().expect("two"), 24), now)
                .expect("it starts"),
            events: Vec::new(),
            queue: TxQueue::new(),
            conn: None,
        });
        let at = SocketAddr::new(server, 0);
        let listener = ends[1].tcp.listen(at, &ListenOptions::default());
        let (_, at) = listener.expect("a port");
        let options = ConnectOptions::default();
        ends[0].tcp.connect(at, &options).expect("it starts");
        while ends.iter().any(|end| end.conn.is_none()) {
            for end in &mut ends {
                end.turn(Instant::now());
            }
        }
        ends
    }

    fn pass_on(&mut self) {
        if let Some(conn) = self.conn.filter(|_| !self.queue.is_empty()) {
            self.tcp.send(conn, &mut self.queue).expect("connected");
        }
    }
}

impl<D: Device<Frame: Send> + Send> End for Ours<D> {
    fn send(&mut self, message: &Bytes) -> bool {
        let has_room = self.queue.is_empty();
        if has_room {
            self.queue.push_back(message.clone());
            self.pass_on();
        }
        has_room
    }

    fn flush(&mut self) {
        self.pass_on();
        self.tcp.flush();
    }

    fn turn(&mut self, now: Instant) -> usize {
        self.tcp.poll(now, &mut self.events);
        let mut received = 0;
        for event in self.events.drain(..) {
            match event {
                Event::Accepted { conn, .. } | Event::Connected { conn, .. } => {
                    self.conn = Some(conn);
                }
                Event::Data { bytes, .. } => received += bytes.len(),
                Event::Room { .. } => {}
                event @ Event::Closed { .. } => panic!("{event:?}"),
            }
        }
        self.flush();
        received
    }
}
