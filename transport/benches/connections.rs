//! What an echo costs the server, by the number of established connections: 64 bytes are sent there
//! and back on one at random, every microsecond. Run with `cargo bench -p msgr-transport`; arguments
//! are numbers of connections.
//!
//! The processor time is taken, in which waiting for a processor does not count. With few connections
//! the next message acknowledges the last echo. With many, the client acknowledges most of them by
//! packets of their own: how many packets the server receives for an echo is said, too, and what one
//! of them costs. Both ends share the caches.

#[path = "../tests/many/mod.rs"]
mod many;

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use many::{MESSAGE, Many};
use msgr_transport::tcp::wire::{Wire, WireConfig};
use rustix::time::{ClockId, clock_gettime};

/// The samples of which the median counts.
const SAMPLES: usize = 201;
/// So many echoes are one sample.
const PACKETS: usize = 500;

fn main() {
    let counts: Vec<usize> = std::env::args().filter_map(|it| it.parse().ok()).collect();
    let counts = if counts.is_empty() {
        vec![1, 100, 1_000, 10_000, 40_000]
    } else {
        counts
    };
    let clock = median(|| {
        let start = cpu_time();
        for _ in 0..PACKETS {
            black_box(cpu_time());
        }
        cpu_time() - start
    });
    println!("connections  packets/echo    ns/echo  by the first  ns/packet  by the first");
    let mut first = None;
    for count in counts {
        let wire = Wire::new(WireConfig::default());
        let mut many = Many::connected(&wire, count);
        many.echo_on_each();
        let mut random = fastrand::Rng::with_seed(1);
        let before = many.server.packets();
        let cost = median(|| sample(&mut many, &mut random)) - clock;
        let packets = (many.server.packets() - before) as f64 / (SAMPLES * PACKETS) as f64;
        let each = cost / packets;
        let (first_cost, first_each) = *first.get_or_insert((cost, each));
        let (by_cost, by_each) = (cost / first_cost, each / first_each);
        println!(
            "{count:11}  {packets:12.2}  {cost:9.0}  {by_cost:12.2}  {each:9.0}  {by_each:12.2}"
        );
    }
}

/// In nanoseconds.
fn cpu_time() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The nanoseconds that each echo of a sample has taken, in most samples.
fn median(mut sample: impl FnMut() -> i64) -> f64 {
    let mut samples: Vec<i64> = (0..SAMPLES).map(|_| sample()).collect();
    samples.sort_unstable();
    samples[SAMPLES / 2] as f64 / PACKETS as f64
}

/// What some echoes take the server.
fn sample(many: &mut Many, random: &mut fastrand::Rng) -> i64 {
    let first = many.client.received;
    let enough = first + PACKETS * MESSAGE.len();
    let mut served = 0;
    for sent in 0..PACKETS {
        let conn = many.client.conns[random.usize(..many.client.conns.len())];
        many.client.send(conn, Bytes::from_static(&MESSAGE));
        many.client.turn(many.now, false);
        many.now += Duration::from_micros(1);
        let start = cpu_time();
        many.server.turn(many.now, true);
        served += cpu_time() - start;
        many.client.turn(many.now, false);
        // Now and then a packet waits for a hardware address that is asked for again.
        while many.client.received < first + (sent + 1) * MESSAGE.len() {
            many.pass(Duration::from_micros(1));
        }
    }
    assert_eq!(many.client.received, enough, "an echo is missing");
    served
}
