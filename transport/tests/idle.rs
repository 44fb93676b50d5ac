//! What connections of userspace TCP hold while they are at rest, counted: bytes by the allocator,
//! pages of windows and of page tables by the kernel (proc(5)).

mod many;

use std::fs;
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

/// In kibibytes, what is resident of the windows, and all page tables. Nothing else in the process
/// reserves hundreds of megabytes at a time.
fn resident() -> (f64, f64) {
    let smaps = fs::read_to_string("/proc/self/smaps").expect("Linux");
    let (mut size, mut windows) = (0.0, 0.0);
    for line in smaps.lines() {
        match kib(line) {
            Some(("Size", kib)) => size = kib,
            Some(("Rss", kib)) if size > 256.0 * 1024.0 => windows += kib,
            _ => {}
        }
    }
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let mut tables = status.lines().filter_map(kib);
    let tables = tables.find(|(name, _)| *name == "VmPTE");
    (windows, tables.expect("Linux").1)
}

fn kib(line: &str) -> Option<(&str, f64)> {
    let (name, value) = line.split_once(':')?;
    let value = value.trim().strip_suffix(" kB")?;
    Some((name, value.parse().ok()?))
}

/// Since 6.14 Linux takes back page tables of which nothing is left.
fn reclaims_page_tables() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux");
    let mut numbers = release.split(['.', '-']).map_while(|it| it.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 14)
}

/// Has so many connections exchange a message each and rest. Each end holds less than it may, and
/// all are still there.
fn rest(connections: usize) {
    let _alone = ALONE.lock();
    let wire = Wire::new(WireConfig::default());
    let mut many = None;
    let (_, tables_before) = resident();
    let allocated = allocation_counter::measure(|| {
        let many = many.insert(Many::connected(&wire, connections));
        many.echo_on_each();
    });
    let (windows_in_use, tables_in_use) = resident();
    let each = |amount: f64| amount / (2 * connections) as f64;
    // Or else nothing is counted. The first may be at rest already.
    assert!(windows_in_use >= 16_000.0, "{windows_in_use} KiB");
    assert!(tables_in_use > tables_before);

    let many = many.as_mut().expect("just made");
    let resting = allocation_counter::measure(|| {
        for _ in 0..REST.as_millis() {
            many.pass(Duration::from_millis(1));
        }
    });
    let (windows, tables) = resident();
    // Frames are the device's, however many connections there are.
    let frames = wire.buffers() as f64 * FRAME;
    let allocated = allocated.bytes_current + resting.bytes_current;
    let allocated = each(allocated as f64 - frames);
    let windows = each(windows * 1024.0);
    let tables = each((tables - tables_before) * 1024.0);
    println!(
        "{connections} connections at rest: each end holds {allocated:.0} bytes allocated, \
         {windows:.0} of windows, {tables:.0} of page tables"
    );
    assert!(allocated + windows <= MOST);
    if reclaims_page_tables() {
        assert!(allocated + windows + tables <= MOST);
    }
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
