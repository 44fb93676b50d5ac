//! DPDK's ports: frames, memory and counters over connected rings in this process.
//!
//! What needs DPDK is ignored: `ci/test` runs it.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use msgr_transport::Park;
use msgr_transport::dpdk::{
    DpdkDevice, DpdkError, DpdkFrame, Eal, EalConfig, PortConfig, SHIM_VARIABLE,
};
use msgr_transport::tcp::{BURST, Checksums, Device, Frame};

/// Memory for all tests at once.
fn environment() -> EalConfig {
    EalConfig {
        memory: 1024,
        ..EalConfig::default()
    }
}

fn eal() -> &'static Eal {
    Eal::start(&environment()).expect("DPDK is installed")
}

/// Two ports with one queue each.
fn pair(config: &PortConfig) -> [DpdkDevice; 2] {
    let ports = eal().ring_pair(config).expect("net_ring is installed");
    ports.map(|mut queues| {
        assert_eq!(queues.len(), 1);
        queues.remove(0)
    })
}

/// What frame `number` holds, of a length of its own.
fn content(number: usize, most: usize) -> Vec<u8> {
    let len = 60 + number * 97 % (most - 59);
    (0..len).map(|at| (number * 31 + at) as u8).collect()
}

/// Transmits the frames `numbers` as far as there is room, and returns how many.
fn offer(device: &mut DpdkDevice, numbers: std::ops::Range<usize>) -> usize {
    let most = device.caps().mtu + 14;
    let mut count = 0;
    for number in numbers {
        let content = content(number, most);
        let Some(mut frame) = device.allocate(content.len()) else {
            break;
        };
        assert_eq!(frame.len(), content.len());
        frame.copy_from_slice(&content);
        device.transmit(frame);
        count += 1;
    }
    device.flush(Instant::now());
    count
}

fn received(device: &mut DpdkDevice) -> Vec<DpdkFrame> {
    let mut frames = Vec::new();
    device.receive(Instant::now(), &mut frames);
    assert!(frames.len() <= BURST);
    frames
}

#[test]
#[ignore = "needs DPDK: ci/test runs it"]
fn frames_cross_in_both_directions_at_once() {
    for mtu in [1500, 9000] {
        let config = PortConfig {
            mtu,
            ..PortConfig::default()
        };
        let mut ends = pair(&config);
        let macs = ends.each_ref().map(|end| end.caps().mac);
        assert_ne!(macs[0], macs[1]);
        assert!(ends[0].is_link_up());

        let total = 5000;
        let (mut sent, mut got) = ([0; 2], [0; 2]);
        while got != [total; 2] {
            for (end, device) in ends.iter_mut().enumerate() {
                let until = total.min(sent[end] + 100);
                sent[end] += offer(device, sent[end]..until);
                for frame in received(device) {
                    assert!(*frame == content(got[end], mtu + 14), "frame {}", got[end]);
                    assert_eq!(frame.checksums(), Checksums::Unknown);
                    got[end] += 1;
                }
            }
        }
        for device in &mut ends {
            let counters = device.counters();
            assert_eq!(counters.received, total as u64);
            assert_eq!(counters.transmitted, total as u64);
            assert_eq!(counters.missed, 0);
            assert_eq!(counters.receive_errors, 0);
            assert_eq!(counters.transmit_errors, 0);
            let bursts = device.cost().doorbells;
            assert!(bursts > 0 && bursts < total as u64 / 10, "{bursts} bursts");
        }
    }
}

#[test]
#[ignore = "needs DPDK: ci/test runs it"]
fn each_queue_has_its_other_end() {
    let config = PortConfig {
        queues: 3,
        ..PortConfig::default()
    };
    let [mut a, mut b] = eal().ring_pair(&config).unwrap();
    assert_eq!((a.len(), b.len()), (3, 3));
    for (queue, (from, to)) in a.iter_mut().zip(&mut b).enumerate() {
        assert_eq!(offer(from, queue..queue + 1), 1);
        let frames = received(to);
        assert_eq!(frames.len(), 1);
        assert!(*frames[0] == content(queue, 1514));
    }
    assert!(b.iter_mut().all(|queue| received(queue).is_empty()));
}

/// Also on a port that spreads by a hash: it takes our key and table.
#[test]
#[ignore = "needs DPDK: ci/test runs it"]
fn a_port_has_as_many_queues_as_are_asked_for() {
    for queues in [2, 3, 64] {
        let config = PortConfig {
            queues,
            frames: 2047,
            ..PortConfig::default()
        };
        let port = eal().open("net_null4,size=64", &config).unwrap();
        assert_eq!(port.len(), usize::from(queues));
    }
}

#[test]
#[ignore = "needs DPDK: ci/test runs it"]
fn a_port_serves_two_threads() {
    let [a, b] = pair(&PortConfig::default());
    let total = 20_000;
    let sender = std::thread::spawn(move || {
        let mut a = a;
        let mut sent = 0;
        while sent < total {
            sent += offer(&mut a, sent..total.min(sent + 50));
            std::thread::yield_now();
        }
        while a.counters().transmitted < total as u64 {
            a.flush(Instant::now());
            std::thread::yield_now();
        }
        a
    });
    let mut b = b;
    let mut got = 0;
    while got < total {
        for frame in received(&mut b) {
            assert!(*frame == content(got, 1514), "frame {got}");
            got += 1;
        }
        std::thread::yield_now();
    }
    drop(sender.join().unwrap());
}

#[test]
#[ignore = "needs DPDK: ci/test runs it"]
fn when_nobody_receives_nothing_is_lost_and_nobody_gets_more_memory() {
    let [mut a, mut b] = pair(&PortConfig::default());
    let mut sent = 0;
    loop {
        let more = offer(&mut a, sent..sent + 100);
        if more == 0 {
            break;
        }
        sent += more;
    }
    assert!(!a.may_transmit());
    assert!(a.counters().out_of_memory > 0);
    assert!(matches!(a.park(), Park::Nap(_)));
    // The port's queue is full, and so is ours in front of it.
    assert!(sent > 511 && sent < 1024, "{sent} frames");

    let mut got = 0;
    while got < sent {
        for frame in received(&mut b) {
            assert!(*frame == content(got, 1514), "frame {got}");
            got += 1;
        }
        a.flush(Instant::now());
    }
    assert!(received(&mut b).is_empty());
    assert!(a.may_transmit());
    assert_eq!(a.counters().transmitted, sent as u64);
}

/// How long a port may sleep that nothing wakes.
fn nap(device: &mut DpdkDevice) -> Duration {
    match device.park() {
        Park::Nap(nap) => nap,
        other => panic!("a ring cannot wake anybody: {other:?}"),
    }
}

#[test]
#[ignore = "needs DPDK: ci/test runs it"]
fn a_nap_is_a_part_of_the_silence_before_it() {
    let [mut a, mut b] = pair(&PortConfig::default());
    let unused = nap(&mut a);
    assert_eq!(unused, Duration::from_millis(1), "as after a long silence");
    let start = Instant::now();
    let frame = a.allocate(60).expect("there is memory");
    a.transmit(frame);
    a.flush(start);
    let mut frames = Vec::new();
    b.receive(start, &mut frames);
    assert_eq!(frames.len(), 1);
    for device in [&mut a, &mut b] {
        for (silence, expected) in [
            (0, 0),
            (80, 10),
            (800, 100),
            (8_000, 1_000),
            (90_000, 1_000),
        ] {
            device.receive(start + Duration::from_micros(silence), &mut frames);
            let nap = nap(device);
            assert_eq!(nap, Duration::from_micros(expected), "after {silence} us");
        }
    }
    assert_eq!(frames.len(), 1);
}

#[test]
#[ignore = "needs DPDK: ci/test runs it"]
fn memory_that_is_lent_comes_back() {
    let config = PortConfig {
        frames: 2047,
        ..PortConfig::default()
    };
    let [mut a, mut b] = pair(&config);
    let mut counts = VecDeque::new();
    for round in 0..3 {
        let mut frames = Vec::new();
        while let Some(frame) = a.allocate(1514) {
            frames.push(frame);
            assert!(frames.len() <= 2047);
        }
        assert!(!a.may_transmit());
        counts.push_back(frames.len());

        // Half of it travels; what receives it gives it back.
        for (number, mut frame) in frames.drain(..).enumerate() {
            if number < 200 {
                frame.fill(round);
                a.transmit(frame);
            }
        }
        a.flush(Instant::now());
        let mut got = 0;
        while got < 200 {
            for frame in received(&mut b) {
                assert!(frame.iter().all(|&byte| byte == round));
                got += 1;
            }
        }
        assert!(a.may_transmit());
    }
    assert!(counts.iter().all(|&count| count == counts[0]), "{counts:?}");
    assert!(counts[0] > 1900, "{counts:?}");
}

#[test]
#[ignore = "needs DPDK: ci/test runs it"]
fn frames_outlive_their_port() {
    let [mut a, mut b] = pair(&PortConfig::default());
    assert_eq!(offer(&mut a, 0..300), 256);
    let mut spare = a.allocate(1000).unwrap();
    let frames = received(&mut b);
    drop(a);
    drop(b);
    for (number, frame) in frames.iter().enumerate() {
        assert!(**frame == content(number, 1514), "frame {number}");
    }
    spare.fill(7);
    drop(pair(&PortConfig::default()));
}

#[test]
#[ignore = "needs DPDK: ci/test runs it"]
fn a_frame_has_the_size_of_the_mtu_at_most() {
    let [mut a, _b] = pair(&PortConfig::default());
    assert!(a.allocate(1514).is_some());
    assert!(a.allocate(1515).is_none());
    assert_eq!(a.caps().segments_tcp4, None);
    assert!(!a.caps().computes_checksums);
    assert!(!a.caps().verifies_checksums);
}

#[test]
#[ignore = "needs DPDK: ci/test runs it"]
fn there_is_one_environment() {
    let first = eal();
    assert!(std::ptr::eq(first, eal()));
    let other = EalConfig {
        memory: 1025,
        ..environment()
    };
    let error = Eal::start(&other).unwrap_err();
    let DpdkError::AlreadyStarted { arguments } = error else {
        panic!("{error}")
    };
    assert_eq!(arguments, environment().to_arguments());
}

#[test]
#[ignore = "needs DPDK: ci/test runs it"]
fn what_cannot_be_opened_is_said() {
    let config = PortConfig::default();
    for device in ["net_nonsense0", "net_ring0,nonsense=1\0", ""] {
        let error = eal().open(device, &config).unwrap_err();
        let DpdkError::Device { device: named, .. } = &error else {
            panic!("{device}: {error}")
        };
        assert_eq!(named, device);
    }
    // More than there is.
    let greedy = PortConfig {
        frames: (1 << 20) - 1,
        ..config.clone()
    };
    let error = eal().open("net_null6", &greedy).unwrap_err();
    let DpdkError::Device { source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(source.kind(), io::ErrorKind::OutOfMemory);
    for (setting, config) in [
        (
            "mtu",
            PortConfig {
                mtu: 575,
                ..config.clone()
            },
        ),
        (
            "mtu",
            PortConfig {
                mtu: usize::MAX,
                ..config.clone()
            },
        ),
        (
            "queues",
            PortConfig {
                queues: 0,
                ..config.clone()
            },
        ),
        (
            "queues",
            PortConfig {
                queues: 65,
                ..config.clone()
            },
        ),
        (
            "frames",
            PortConfig {
                frames: 0,
                ..config.clone()
            },
        ),
        (
            "frames",
            PortConfig {
                frames: u32::MAX,
                ..config.clone()
            },
        ),
    ] {
        let error = eal().open("net_null7", &config).map(|_| ()).unwrap_err();
        let DpdkError::Setting { setting: named, .. } = &error else {
            panic!("{setting}: {error}")
        };
        assert_eq!(*named, setting);
    }
}

#[test]
#[ignore = "needs DPDK: ci/test runs it"]
fn a_port_has_one_user_at_a_time() {
    let config = PortConfig::default();
    let first = eal().open("net_null0,size=64", &config).unwrap();
    let error = eal().open("net_null0,size=64", &config).unwrap_err();
    let DpdkError::Device { source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(source.kind(), io::ErrorKind::ResourceBusy);
    drop(first);
    drop(eal().open("net_null0,size=64", &config).unwrap());
}

#[test]
fn without_the_library_the_error_says_so() {
    let output = child("no_library")
        .env(SHIM_VARIABLE, "/nonexistent/shim.so")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("/nonexistent/shim.so: cannot open"), "{text}");
}

#[test]
#[ignore = "part of another test"]
fn no_library() {
    if std::env::var_os(SHIM_VARIABLE).is_none() {
        return;
    }
    let error = Eal::start(&EalConfig::default()).unwrap_err();
    assert!(matches!(error, DpdkError::Unavailable(_)), "{error:?}");
    assert!(error.source().is_none());
    println!("{error}");
    // It is final.
    assert_eq!(
        Eal::start(&EalConfig::default()).unwrap_err().to_string(),
        error.to_string()
    );
}

/// This executable, to run one of its ignored tests.
fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("it runs"));
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    command
}
