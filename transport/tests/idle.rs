//! What connections of userspace TCP hold while they are at rest, as the allocator counts it.

mod many;

use std::sync::Mutex;
use std::time::Duration;

use many::Many;
use msgr_transport::tcp::wire::{Wire, WireConfig};

/// The most bytes that one end of a connection at rest may hold.
const MOST: f64 = 2.5 * 1024.0;
/// The bytes of a frame of the wire.
const FRAME: f64 = 1514.0;
/// Longer than a connection keeps its memory after it was used last: two keepalive intervals, and
/// what answering the probes takes.
const REST: Duration = Duration::from_secs(25);

/// What is counted is the whole process's.
static ALONE: Mutex<()> = Mutex::new(());

/// Has so many connections exchange a message each and rest. Each end holds less than it may, and
/// all are still there.
fn rest(connections: usize) {
    let _alone = ALONE.lock();
    let wire = Wire::new(WireConfig::default());
    let mut many = None;
    let allocated = allocation_counter::measure(|| {
        let many = many.insert(Many::connected(&wire, connections));
        many.echo_on_each();
    });
    let many = many.as_mut().expect("just made");
    let resting = allocation_counter::measure(|| {
        for _ in 0..REST.as_millis() {
            many.pass(Duration::from_millis(1));
        }
    });
    // Frames are the device's, however many connections there are.
    let frames = wire.buffers() as f64 * FRAME;
    let allocated = allocated.bytes_current + resting.bytes_current;
    let each = (allocated as f64 - frames) / (2 * connections) as f64;
    println!("{connections} connections at rest: each end holds {each:.0} bytes");
    assert!(each > 0.0 && each <= MOST, "{each}");
    many.echo_on_each();
    assert_eq!(many.client.conns.len(), connections);
}

#[test]
fn a_connection_at_rest_holds_little() {
    rest(4_000);
}

#[test]
#[ignore = "takes a while; ci/test runs it"]
fn a_hundred_thousand_connections_rest_in_one_process() {
    rest(100_000);
}
