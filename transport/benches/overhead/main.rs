//! What [`Tcp`] costs beside smoltcp alone, on the same in-process wire: processor time of a round
//! trip of 64 bytes and of a stream in one direction, both ends on one thread. Run with
//! `cargo bench -p msgr-transport --bench overhead`.
//!
//! Samples of both are taken in turn; what is printed are medians, and the median of the ratios of
//! two samples in a row.

mod bare;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bare::Bare;
use bytes::Bytes;
use msgr_transport::tcp::wire::{Wire, WireConfig, WirePort};
use msgr_transport::tcp::{Tcp, TcpConfig};
use msgr_transport::{ConnId, ConnectOptions, Event, ListenOptions, Transport, TxQueue};
use rustix::time::{ClockId, clock_gettime};

/// The samples of which the median counts.
const SAMPLES: usize = 51;
/// The bytes of a message there and back.
const MESSAGE: usize = 64;
/// So many round trips are one sample.
const ROUND_TRIPS: usize = 500;
/// The bytes that are sent at a time in a stream.
const PIECE: usize = 64 << 10;
/// The bytes of a stream.
const STREAM: usize = 4 << 20;

/// One end of a connection.
trait End {
    /// Queues a message. Whether all of it has found room.
    fn send(&mut self, message: &Bytes) -> bool;

    /// Has all that is due happen. How many bytes have arrived.
    fn turn(&mut self, now: Instant) -> usize;
}

fn main() {
    println!("                        smoltcp      ours  ratio");
    for mtu in [1500, 9000] {
        let config = WireConfig {
            mtu,
            ..WireConfig::default()
        };
        let wire = Wire::new(config);
        let mut bare = Bare::pair([wire.port(), wire.port()]);
        let wire = Wire::new(config);
        let mut ours = Ours::pair(&wire);
        let mut times = [Instant::now(); 2];
        let [bare_time, our_time] = &mut times;
        let round_trip = compare(
            || sample(&mut bare, bare_time, ROUND_TRIPS, round_trip),
            || sample(&mut ours, our_time, ROUND_TRIPS, round_trip),
        );
        row(&format!("64 B, MTU {mtu}"), "ns", round_trip);
        let stream = compare(
            || sample(&mut bare, bare_time, STREAM >> 20, stream),
            || sample(&mut ours, our_time, STREAM >> 20, stream),
        );
        row(
            &format!("1 MiB, MTU {mtu}"),
            "us",
            stream.map(|ns| ns / 1e3),
        );
    }
}

fn row(what: &str, unit: &str, [bare, ours]: [f64; 2]) {
    println!(
        "{what:20} {bare:7.0} {unit} {ours:6.0} {unit} {:6.2}",
        ours / bare
    );
}

/// Medians.
fn compare(mut one: impl FnMut() -> f64, mut other: impl FnMut() -> f64) -> [f64; 2] {
    let samples = (0..SAMPLES).map(|_| [one(), other()]).collect::<Vec<_>>();
    [0, 1].map(|which| {
        let mut those: Vec<f64> = samples.iter().map(|sample| sample[which]).collect();
        those.sort_unstable_by(f64::total_cmp);
        those[SAMPLES / 2]
    })
}

/// The processor time of each of `count` units of work, in nanoseconds.
fn sample<E: End>(
    ends: &mut [E; 2],
    now: &mut Instant,
    count: usize,
    work: fn(&mut [E; 2], &mut Instant),
) -> f64 {
    let start = cpu_time();
    work(ends, now);
    (cpu_time() - start) as f64 / count as f64
}

/// In nanoseconds.
fn cpu_time() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn round_trip<E: End>([client, server]: &mut [E; 2], now: &mut Instant) {
    let message = Bytes::from_static(&[7; MESSAGE]);
    let deadline = *now + Duration::from_secs(10);
    for _ in 0..ROUND_TRIPS {
        for there in [true, false] {
            let (from, to) = if there {
                (&mut *client, &mut *server)
            } else {
                (&mut *server, &mut *client)
            };
            assert!(from.send(&message), "no room");
            from.turn(*now);
            let mut received = 0;
            while received < MESSAGE {
                *now += Duration::from_nanos(500);
                assert!(*now < deadline, "it takes too long");
                received += to.turn(*now);
            }
        }
    }
}

fn stream<E: End>([client, server]: &mut [E; 2], now: &mut Instant) {
    let piece = Bytes::from(vec![7; PIECE]);
    let deadline = *now + Duration::from_secs(10);
    let (mut sent, mut received) = (0, 0);
    while received < STREAM {
        while sent < STREAM && client.send(&piece) {
            sent += PIECE;
        }
        client.turn(*now);
        *now += Duration::from_micros(5);
        assert!(*now < deadline, "it takes too long");
        received += server.turn(*now);
    }
}

/// A [`Tcp`] with one connection.
struct Ours {
    tcp: Tcp<WirePort>,
    events: Vec<Event>,
    queue: TxQueue,
    conn: Option<ConnId>,
}

impl Ours {
    fn pair(wire: &Wire) -> [Self; 2] {
        let now = Instant::now();
        let [client, server] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let mut ends = [client, server].map(|ip| Self {
            tcp: Tcp::new(wire.port(), TcpConfig::new(ip, 24), now).expect("it starts"),
            events: Vec::new(),
            queue: TxQueue::new(),
            conn: None,
        });
        let at = SocketAddr::new(server, 0);
        let listener = ends[1].tcp.listen(at, &ListenOptions::default());
        let (_, at) = listener.expect("a port");
        let options = ConnectOptions::default();
        ends[0].tcp.connect(at, &options).expect("it starts");
        for pass in 0..100 {
            for end in &mut ends {
                end.turn(now + Duration::from_micros(pass));
            }
        }
        assert!(ends.iter().all(|end| end.conn.is_some()), "not connected");
        ends
    }

    fn pass_on(&mut self) {
        if let Some(conn) = self.conn.filter(|_| !self.queue.is_empty()) {
            self.tcp.send(conn, &mut self.queue).expect("connected");
        }
    }
}

impl End for Ours {
    fn send(&mut self, message: &Bytes) -> bool {
        let has_room = self.queue.is_empty();
        if has_room {
            self.queue.push_back(message.clone());
            self.pass_on();
        }
        has_room
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
        self.pass_on();
        self.tcp.flush();
        received
    }
}
