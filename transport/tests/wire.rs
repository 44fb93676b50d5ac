//! The in-process Ethernet, seen from its ports.

#![allow(clippy::unwrap_used)]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use msgr_transport::Park;
use msgr_transport::tcp::wire::{Wire, WireConfig, WireFaultCounts, WireFaults, WirePort};
use msgr_transport::tcp::{BURST, Device, ETHERNET_HEADER_LEN, Mac};
use rustix::event::{PollFd, PollFlags, poll};

const EVERYBODY: Mac = [0xff; 6];
const MS: Duration = Duration::from_millis(1);

/// Queues a frame with a number in it.
fn queue(port: &mut WirePort, to: Mac, number: u32) {
    let mut frame = port.allocate(60).expect("room");
    frame.fill(0);
    frame[..6].copy_from_slice(&to);
    let from = port.mac();
    frame[6..12].copy_from_slice(&from);
    frame[14..18].copy_from_slice(&number.to_be_bytes());
    port.transmit(frame);
}

fn send(port: &mut WirePort, to: Mac, numbers: impl IntoIterator<Item = u32>, now: Instant) {
    for number in numbers {
        queue(port, to, number);
        if !port.may_transmit() {
            port.flush(now);
        }
    }
    port.flush(now);
}

/// The frames that one call brings.
fn burst(port: &mut WirePort, now: Instant) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    port.receive(now, &mut frames);
    frames.iter().map(|frame| frame.to_vec()).collect()
}

/// All frames that have arrived.
fn frames(port: &mut WirePort, now: Instant) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let some = burst(port, now);
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

fn numbers(port: &mut WirePort, now: Instant) -> Vec<u32> {
    let frames = frames(port, now);
    let number = |frame: &Vec<u8>| u32::from_be_bytes(frame[14..18].try_into().unwrap());
    frames.iter().map(number).collect()
}

#[test]
fn frames_go_to_whom_they_are_addressed() {
    let now = Instant::now();
    let wire = Wire::new(WireConfig::default());
    let [mut a, mut b, mut c] = [wire.port(), wire.port(), wire.port()];
    assert_eq!(a.mac(), [2, 0, 0, 0, 0, 1]);
    assert_eq!(a.caps().mac, a.mac());

    send(&mut a, b.mac(), [1], now);
    send(&mut a, EVERYBODY, [2], now);
    send(&mut a, [0x33, 0x33, 0, 0, 0, 1], [3], now);
    send(&mut c, b.mac(), [4], now);
    assert_eq!(numbers(&mut a, now), []);
    assert_eq!(numbers(&mut b, now), [1, 2, 3, 4]);
    assert_eq!(numbers(&mut c, now), [2, 3]);
    assert_eq!(wire.unknown_destinations(), 0);

    let own = a.mac();
    send(&mut a, own, [5], now);
    send(&mut a, [2, 0, 0, 0, 0, 9], [6], now);
    send(&mut a, [0, 0, 0, 0, 0, 2], [7], now);
    let unplugged = c.mac();
    drop(c);
    send(&mut a, unplugged, [8], now);
    assert_eq!(wire.unknown_destinations(), 4);
    assert_eq!(numbers(&mut a, now), []);
    assert_eq!(numbers(&mut b, now), []);

    let mut d = wire.port();
    assert_ne!(d.mac(), unplugged);
    send(&mut a, d.mac(), [9], now);
    assert_eq!(numbers(&mut d, now), [9]);
    let counters = a.counters();
    assert_eq!(counters.transmitted, 8);
    assert_eq!(counters.received, 0);
    assert_eq!(b.counters().received, 4);
}

#[test]
fn a_burst_to_several_ports_keeps_the_order_of_each() {
    let now = Instant::now();
    let wire = Wire::new(WireConfig::default());
    let [mut a, mut b, mut c] = [wire.port(), wire.port(), wire.port()];
    for number in 0..200 {
        let to = [b.mac(), c.mac(), EVERYBODY][number as usize % 3];
        queue(&mut a, to, number);
    }
    assert_eq!(numbers(&mut b, now), [], "nothing was flushed");
    a.flush(now);
    assert_eq!(burst(&mut b, now).len(), BURST);
    let rest = numbers(&mut b, now);
    let expected: Vec<_> = (0..200).filter(|number| number % 3 != 1).collect();
    assert_eq!(rest, expected[BURST..]);
    let expected: Vec<_> = (0..200).filter(|number| number % 3 != 0).collect();
    assert_eq!(numbers(&mut c, now), expected);
    assert_eq!(a.cost().doorbells, 1);
    a.flush(now);
    assert_eq!(a.cost().doorbells, 1, "there was nothing to flush");
    assert_eq!(a.cost().system_calls, 0, "nobody slept");
}

/// How many frames have arrived at each of these.
fn arrived(queues: &mut [WirePort], now: Instant) -> Vec<usize> {
    let count = |queue| frames(queue, now).len();
    queues.iter_mut().map(count).collect()
}

/// A TCP segment without content, from one port of 10.0.0.1 to another of 10.0.0.2.
fn segment(port: &mut WirePort, to: Mac, ports: [u16; 2]) {
    let mut frame = port.allocate(60).expect("room");
    frame.fill(0);
    frame[..6].copy_from_slice(&to);
    frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0]);
    frame[23] = 6;
    frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    frame[34..36].copy_from_slice(&ports[0].to_be_bytes());
    frame[36..38].copy_from_slice(&ports[1].to_be_bytes());
    frame[46] = 5 << 4;
    port.transmit(frame);
}

#[test]
fn a_port_with_several_queues_spreads_connections() {
    let now = Instant::now();
    let wire = Wire::new(WireConfig::default());
    let mut a = wire.port();
    let mut queues = wire.queues(3);
    let mac = queues[0].mac();
    assert!(queues.iter().all(|queue| queue.mac() == mac));
    assert_ne!(a.mac(), mac);

    // What is not TCP, or for everybody, is for the first.
    send(&mut a, mac, [1], now);
    send(&mut a, EVERYBODY, [2], now);
    let counts = arrived(&mut queues, now);
    assert_eq!(counts, [2, 0, 0]);

    for port in 0..150 {
        segment(&mut a, mac, [port, 6789]);
    }
    a.flush(now);
    let counts = arrived(&mut queues, now);
    assert_eq!(counts.iter().sum::<usize>(), 150);
    assert!(counts.iter().all(|&count| count > 20), "{counts:?}");

    // A connection stays where it is, and the answers to it would be there.
    for ports in [[1000, 6789], [6789, 1000], [1000, 6789]] {
        segment(&mut a, mac, ports);
    }
    a.flush(now);
    let counts = arrived(&mut queues, now);
    assert_eq!(counts.iter().max(), Some(&3));

    // No queue gets what another has sent to everybody.
    send(&mut queues[1], EVERYBODY, [3], now);
    assert_eq!(arrived(&mut queues, now), [0, 0, 0]);
    assert_eq!(numbers(&mut a, now), [3]);
    assert_eq!(wire.unknown_destinations(), 0);
}

#[test]
fn frames_move_and_their_memory_is_used_again() {
    let now = Instant::now();
    let wire = Wire::new(WireConfig::default());
    let [mut a, mut b] = [wire.port(), wire.port()];
    let mut frame = a.allocate(60).expect("room");
    frame[..6].copy_from_slice(&b.mac());
    let address = frame.as_ptr();
    a.transmit(frame);
    a.flush(now);
    let mut received = Vec::new();
    b.receive(now, &mut received);
    assert_eq!(received[0].as_ptr(), address);
    assert_eq!(received[0].len(), 60);
    drop(received);

    // One way only, so that buffers have to find back from the one to the other.
    let mut rounds = |count: u32| {
        for _ in 0..count {
            send(&mut a, b.mac(), 0..100, now);
            assert_eq!(numbers(&mut b, now).len(), 100);
        }
        wire.buffers()
    };
    let buffers = rounds(10);
    assert!(buffers <= 100 + 3 * 64, "{buffers}");
    assert_eq!(rounds(100), buffers);

    // What is not transmitted, not wanted and not received comes back as well.
    for _ in 0..1000 {
        drop(a.allocate(1514));
        send(&mut a, [2, 0, 0, 0, 0, 9], [0], now);
    }
    assert_eq!(wire.buffers(), buffers);
    wire.set_faults(WireFaults {
        loss: 1.0,
        ..WireFaults::default()
    });
    send(&mut a, b.mac(), 0..256, now);
    let buffers = wire.buffers();
    for _ in 0..10 {
        send(&mut a, b.mac(), 0..256, now);
    }
    assert_eq!(wire.fault_counts().lost, 11 * 256);
    assert_eq!(wire.buffers(), buffers);
}

#[test]
fn a_frame_outlives_its_port_and_its_wire() {
    let now = Instant::now();
    let wire = Wire::new(WireConfig::default());
    let [mut a, mut b] = [wire.port(), wire.port()];
    send(&mut a, b.mac(), [7], now);
    let mut received = Vec::new();
    b.receive(now, &mut received);
    drop((wire, a, b));
    assert_eq!(received[0][14..18], [0, 0, 0, 7]);
}

#[test]
fn what_finds_no_room_is_missed() {
    let now = Instant::now();
    for latency in [Duration::ZERO, MS] {
        let wire = Wire::new(WireConfig {
            queue: 10,
            latency,
            ..WireConfig::default()
        });
        let [mut a, mut b] = [wire.port(), wire.port()];
        send(&mut a, b.mac(), 0..15, now);
        assert_eq!(b.counters().missed, 5);
        assert_eq!(numbers(&mut b, now + latency), (0..10).collect::<Vec<_>>());
        send(&mut a, b.mac(), 20..25, now);
        send(&mut a, b.mac(), 25..35, now);
        assert_eq!(b.counters().missed, 10);
        assert_eq!(numbers(&mut b, now + latency), (20..30).collect::<Vec<_>>());
        assert_eq!(a.counters().missed, 0);
    }
}

#[test]
fn a_port_lends_frames_of_the_right_size_until_its_queue_is_full() {
    let now = Instant::now();
    let wire = Wire::new(WireConfig {
        mtu: 9000,
        ..WireConfig::default()
    });
    let [mut a, mut b] = [wire.port(), wire.port()];
    assert_eq!(a.caps().mtu, 9000);
    let longest = 9000 + ETHERNET_HEADER_LEN;
    assert_eq!(a.allocate(longest).expect("it fits").len(), longest);
    assert!(a.allocate(longest + 1).is_none());
    for number in 0..256 {
        assert!(a.may_transmit());
        queue(&mut a, b.mac(), number);
    }
    assert!(!a.may_transmit());
    assert!(a.allocate(60).is_none());
    a.flush(now);
    assert!(a.may_transmit());
    assert!(a.allocate(60).is_some());
    assert_eq!(numbers(&mut b, now).len(), 256);

    for len in [0, 5, 13] {
        let frame = a.allocate(len).expect("room");
        a.transmit(frame);
    }
    a.flush(now);
    assert_eq!(a.counters().transmit_errors, 3);
    assert_eq!(a.counters().transmitted, 256);
}

#[test]
fn latency_passes_in_the_time_that_ports_are_told() {
    let start = Instant::now();
    let wire = Wire::new(WireConfig {
        latency: 5 * MS,
        ..WireConfig::default()
    });
    let [mut a, mut b] = [wire.port(), wire.port()];
    assert_eq!(b.next_timeout(), None);
    send(&mut a, b.mac(), [1, 2], start);
    send(&mut a, b.mac(), [3], start + MS);
    assert_eq!(b.next_timeout(), Some(start + 5 * MS));
    assert_eq!(a.next_timeout(), None);
    assert!(matches!(b.park(), Park::Busy), "there is a new time-out");
    b.unpark();

    let just_before = start + Duration::from_nanos(4_999_999);
    assert_eq!(numbers(&mut b, just_before), []);
    assert!(matches!(b.park(), Park::Fd(_)), "it is known now");
    b.unpark();
    assert_eq!(b.next_timeout(), Some(start + 5 * MS));
    assert_eq!(numbers(&mut b, start + 5 * MS), [1, 2]);
    assert_eq!(b.next_timeout(), Some(start + 6 * MS));
    send(&mut a, b.mac(), [4], start + 2 * MS);
    assert_eq!(b.next_timeout(), Some(start + 6 * MS));
    assert_eq!(numbers(&mut b, start + 100 * MS), [3, 4]);
    assert_eq!(b.next_timeout(), None);
}

#[test]
fn frames_that_wait_are_a_time_out_too() {
    let start = Instant::now();
    let wire = Wire::new(WireConfig::default());
    let [mut a, mut b] = [wire.port(), wire.port()];
    send(&mut a, b.mac(), 0..=BURST as u32, start);
    assert_eq!(b.next_timeout(), Some(start));
    assert_eq!(burst(&mut b, start + MS).len(), BURST);
    assert!(b.next_timeout() <= Some(start + MS) && b.next_timeout().is_some());
    assert!(matches!(b.park(), Park::Busy));
    b.unpark();
    assert_eq!(burst(&mut b, start + MS).len(), 1);
    assert_eq!(b.next_timeout(), None);
}

/// What arrives of 4000 frames, and what the wire says about it.
fn under(faults: WireFaults, seed: u64) -> (Vec<Vec<u8>>, WireFaultCounts) {
    let mut now = Instant::now();
    let wire = Wire::new(WireConfig {
        seed,
        faults,
        ..WireConfig::default()
    });
    let [mut a, mut b] = [wire.port(), wire.port()];
    let mut all = Vec::new();
    for number in 0..4000 {
        send(&mut a, b.mac(), [number], now);
        all.extend(frames(&mut b, now));
        now += MS / 4;
    }
    all.extend(frames(&mut b, now + MS));
    assert_eq!(b.next_timeout(), None);
    (all, wire.fault_counts())
}

#[test]
fn chance_is_what_the_seed_makes_it() {
    let faults = WireFaults {
        loss: 0.05,
        duplicate: 0.05,
        reorder: 0.05,
        corrupt: 0.05,
        ..WireFaults::default()
    };
    assert_eq!(under(faults, 1), under(faults, 1));
    assert_ne!(under(faults, 1), under(faults, 2));
}

#[test]
fn each_fault_does_what_it_says_as_often_as_it_says() {
    let none = WireFaults::default();
    let often = |count: u64| assert!((320..480).contains(&count), "{count} of 4000");
    let number = |frame: &Vec<u8>| u32::from_be_bytes(frame[14..18].try_into().unwrap());
    let (intact, counts) = under(none, 1);
    assert!(intact.iter().map(number).eq(0..4000));
    assert_eq!(counts, WireFaultCounts::default());

    let (all, counts) = under(WireFaults { loss: 0.1, ..none }, 1);
    often(counts.lost);
    assert_eq!(all.len() as u64, 4000 - counts.lost);
    assert!(all.is_sorted_by_key(number));

    let duplicate = WireFaults {
        duplicate: 0.1,
        ..none
    };
    let (mut all, counts) = under(duplicate, 1);
    often(counts.duplicated);
    assert_eq!(all.len() as u64, 4000 + counts.duplicated);
    all.dedup();
    assert_eq!(all, intact);

    let reorder = WireFaults {
        reorder: 0.1,
        ..none
    };
    let (mut all, counts) = under(reorder, 1);
    often(counts.reordered);
    let overtaken = all
        .windows(2)
        .filter(|pair| number(&pair[0]) > number(&pair[1]));
    assert!(overtaken.count() as u64 > counts.reordered / 2);
    // A millisecond is four frames: a late one arrives next to the one four places behind it.
    for (place, frame) in all.iter().enumerate() {
        assert!(place.abs_diff(number(frame) as usize) <= 4);
    }
    all.sort_by_key(number);
    assert_eq!(all, intact);

    let corrupt = WireFaults {
        corrupt: 0.1,
        ..none
    };
    let (all, counts) = under(corrupt, 1);
    often(counts.corrupted);
    let damage = all.iter().zip(&intact).map(|(is, was)| {
        assert_eq!(is.len(), was.len());
        let bytes = is.iter().zip(was);
        bytes.map(|(is, was)| (is ^ was).count_ones()).sum::<u32>()
    });
    let damaged: Vec<_> = damage.filter(|&bits| bits > 0).collect();
    assert!(damaged.iter().all(|&bits| bits == 1));
    assert_eq!(damaged.len() as u64, counts.corrupted);
}

#[test]
fn faults_begin_and_end_at_once() {
    let start = Instant::now();
    let wire = Wire::new(WireConfig::default());
    let [mut a, mut b] = [wire.port(), wire.port()];
    let set = |loss, reorder, reorder_by| {
        wire.set_faults(WireFaults {
            loss,
            reorder,
            reorder_by,
            ..WireFaults::default()
        });
    };
    send(&mut a, b.mac(), [1], start);
    set(1.0, 0.0, MS);
    send(&mut a, b.mac(), [2], start);
    set(0.0, 1.0, MS);
    send(&mut a, b.mac(), [3], start);
    set(0.0, 1.0, Duration::MAX);
    send(&mut a, b.mac(), [4], start);
    set(0.0, 0.0, MS);
    send(&mut a, b.mac(), [5], start);
    assert_eq!(numbers(&mut b, start), [1, 5]);
    send(&mut a, b.mac(), [6], start + 2 * MS);
    assert_eq!(numbers(&mut b, start + 2 * MS), [3, 6]);
    assert!(b.next_timeout() > Some(start + 60 * 60 * 1000 * MS));
    assert_eq!(wire.fault_counts().lost, 1);
    assert_eq!(wire.fault_counts().reordered, 2);
}

#[test]
fn whoever_sleeps_is_woken_by_one_write() {
    let now = Instant::now();
    let wire = Wire::new(WireConfig::default());
    let [mut a, mut b] = [wire.port(), wire.port()];
    for number in 0..10 {
        let Park::Fd(descriptor) = b.park() else {
            panic!("nothing has arrived");
        };
        let readable = |timeout| {
            let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
            poll(&mut polled, Some(&timeout)).unwrap() == 1
        };
        assert!(!readable(rustix::time::Timespec::default()));
        send(&mut a, EVERYBODY, [number], now);
        send(&mut a, EVERYBODY, [number], now);
        assert!(readable(rustix::time::Timespec::default()));
        b.unpark();
        assert_eq!(numbers(&mut b, now), [number, number]);
    }
    assert_eq!(a.cost().system_calls, 10);
    assert_eq!(b.cost().system_calls, 10);
}

/// Waits until frames have arrived, as a reactor does.
fn sleep_on(port: &mut WirePort) {
    if let Park::Fd(descriptor) = port.park() {
        poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None).unwrap();
    }
    port.unpark();
}

#[test]
fn no_wake_is_lost_between_threads() {
    const ROUNDS: u32 = 5_000;
    let wire = Wire::new(WireConfig::default());
    let [mut a, mut b] = [wire.port(), wire.port()];
    let (to_a, to_b) = (a.mac(), b.mac());
    let now = Instant::now();
    // Each sends so many frames for every so many that it receives: a lost one is a hang.
    let echo = thread::spawn(move || {
        let mut expected = 0;
        while expected < ROUNDS {
            sleep_on(&mut b);
            for number in numbers(&mut b, now) {
                assert_eq!(number, expected);
                expected += 1;
                queue(&mut b, to_a, number);
            }
            b.flush(now);
        }
    });
    let mut received = 0;
    send(&mut a, to_b, 0..8, now);
    let mut sent = 8;
    while received < ROUNDS {
        sleep_on(&mut a);
        for number in numbers(&mut a, now) {
            assert_eq!(number, received);
            received += 1;
            if sent < ROUNDS {
                queue(&mut a, to_b, sent);
                sent += 1;
            }
        }
        a.flush(now);
    }
    echo.join().unwrap();
    assert!(wire.buffers() <= 4 * 64);
}

#[derive(Clone, Default)]
struct File(Arc<Mutex<Vec<u8>>>);

impl File {
    fn contents(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_capture_is_a_pcap_file() {
    let start = Instant::now();
    let wire = Wire::new(WireConfig {
        mtu: 65535,
        ..WireConfig::default()
    });
    let [mut a, b] = [wire.port(), wire.port()];
    send(&mut a, b.mac(), [1], start);
    let file = File::default();
    wire.capture(file.clone()).unwrap();
    // As pcap-savefile(5) has it: magic number, version 2.4, two unused fields, the most bytes of a
    // frame, and link type 1, Ethernet.
    let mut expected = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    expected.extend([0xff, 0xff, 0, 0, 1, 0, 0, 0]);
    assert_eq!(file.contents(), expected);

    // A frame is recorded before it is lost.
    wire.set_faults(WireFaults {
        loss: 1.0,
        ..WireFaults::default()
    });
    send(&mut a, b.mac(), [2], start);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0]);
    expected.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2]);
    expected.extend([0; 42]);
    assert_eq!(file.contents(), expected);

    let mut longest = a.allocate(65535 + ETHERNET_HEADER_LEN).unwrap();
    longest.fill(7);
    a.transmit(longest);
    a.flush(start + Duration::from_micros(3_000_258));
    expected.extend([3, 0, 0, 0, 2, 1, 0, 0]);
    expected.extend([0xff, 0xff, 0, 0, 0x0d, 0, 1, 0]);
    expected.resize(expected.len() + 65535, 7);
    assert!(file.contents() == expected);

    wire.end_capture().unwrap();
    send(&mut a, b.mac(), [3], start);
    assert!(file.contents() == expected);
}

/// Takes so many bytes, and no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_capture_that_fails_says_so_in_the_end() {
    let now = Instant::now();
    let wire = Wire::new(WireConfig::default());
    let [mut a, mut b] = [wire.port(), wire.port()];
    assert!(wire.capture(Full(23)).is_err());
    wire.end_capture().unwrap();

    wire.capture(Full(100)).unwrap();
    send(&mut a, b.mac(), [1, 2, 3], now);
    assert_eq!(numbers(&mut b, now), [1, 2, 3]);
    let error = wire.end_capture().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    wire.end_capture().unwrap();
}
