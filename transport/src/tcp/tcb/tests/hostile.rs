//! Peers that say what makes no sense.

use fastrand::Rng;

use super::*;

/// RFC 9293, section 3.10.7.4.
#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let mut made = Made::connected();
    made.writes(1000);
    for ack in [1002, 5000, 0x7fff_ffff] {
        made.now += 10 * MILLISECOND;
        let says = Says {
            ack,
            ..sends(1, 100)
        };
        let packets = made.hears_all(&[says]);
        assert!(
            packets
                .iter()
                .map(heard)
                .any(|(flags, _, ack, _)| (flags & ACK, ack) == (ACK, 1))
        );
        assert_eq!(made.end.received, []);
    }
    assert!(!made.end.tcb.is_at_rest());
    // Nor what is long gone, but that does no harm.
    for ack in [0, 0x8000_0100, u32::MAX] {
        made.hears_all(&[acks(ack, &[])]);
        assert_eq!(made.ended(), None);
    }
    made.hears_all(&[acks(1001, &[])]);
    assert!(made.end.tcb.is_at_rest());
}

#[test]
fn absurd_ranges_are_not_believed() {
    for ranges in [
        [(0, 1001), (1, 1)],
        [(1, 10_001), (1, 1001)],
        [(2001, 1001), (5001, 5001)],
        [(1001, 10_002), (10_001, 20_001)],
        [(1001, 0x8000_1001), (0x8000_0000, 0x9000_0000)],
        [(u32::MAX - 10, 10), (u32::MAX, 10_001)],
    ] {
        let mut made = Made::connected();
        made.writes(10_000);
        made.now += 2 * MILLISECOND;
        assert_eq!(made.hears_all(&[acks(1, &ranges); 20]), [], "{ranges:?}");
        let packets = made.hears_all(&[acks(1, &[(1001, 4001)])]);
        assert_eq!(super::ranges(&packets), [(1, 1000)], "{ranges:?}");
        made.hears_all(&[acks(10_001, &ranges)]);
        assert!(made.end.tcb.is_at_rest());
    }
}

/// A byte here and a byte there: that costs, but not without end.
#[test]
fn ranges_of_single_bytes_are_survived() {
    let mut made = Made::connected();
    for _ in 0..4 {
        made.writes(60_000);
        let arrived = made.end.tcb.halves.as_ref().expect("halves").sender.next();
        made.now += MILLISECOND;
        made.hears_all(&[acks(arrived.wrapping_sub(OURS), &[])]);
    }
    let next = |made: &Made| {
        made.end
            .tcb
            .halves
            .as_ref()
            .expect("halves")
            .sender
            .next()
            .wrapping_sub(OURS)
    };
    let (first, last) = (next(&made), 0);
    made.writes(60_000);
    let end = next(&made).max(last);
    for at in (first + 1..end - 2).step_by(2) {
        made.hears_all(&[acks(first, &[(at, at + 1)])]);
    }
    let mut arrived = first;
    for _ in 0..1000 {
        made.now += MILLISECOND;
        let end = next(&made);
        arrived = end.min(arrived + 10_000);
        made.hears_all(&[acks(arrived, &[])]);
    }
    assert!(made.end.tcb.is_at_rest());
}

#[test]
fn segments_are_never_absurdly_short() {
    for (mss, expected) in [(0, 64), (1, 64), (100, 100), (u16::MAX, 1000)] {
        let options = Options {
            mss: Some(mss),
            ..SYN_OPTIONS
        };
        let mut made = Made::connected_with(options, WINDOW);
        assert_eq!(made.end.tcb.mss(), expected);
        let packets = made.writes(3000);
        assert_eq!(packets[0].bytes.len(), expected.into());
    }
}

#[test]
fn no_scale_is_above_14() {
    for shift in [14, 15, 31, 32, 255] {
        let options = Options {
            window_scale: Some(shift),
            ..SYN_OPTIONS
        };
        let mut made = Made::connected_with(options, WINDOW);
        let window = u16::MAX;
        made.hears_all(&[Says { window, ..SAYS }]);
        assert_eq!(made.writes(10_000).len(), 10);
    }
}

/// RFC 9293, section 3.8.6: a window that shrinks is bad manners, and no reason to fail.
#[test]
fn a_window_that_shrinks_is_survived() {
    let mut made = Made::connected();
    made.writes(20_000);
    for window in [60_000, 5000, 0, 1, 9999, 0] {
        made.now += MILLISECOND;
        made.hears_all(&[Says {
            window,
            ..acks(1, &[])
        }]);
    }
    made.now += MILLISECOND;
    made.hears_all(&[Says {
        window: 0,
        ..acks(5001, &[])
    }]);
    for _ in 0..10 {
        made.waits();
        assert_eq!(made.ended(), None);
    }
    let mut arrived = 5001;
    while arrived < 20_001 {
        made.now += MILLISECOND;
        arrived = 20_001.min(arrived + 1000);
        let sent = made.end.tcb.halves.as_ref().expect("halves").sender.next();
        arrived = arrived.min(sent.wrapping_sub(OURS));
        made.hears_all(&[acks(arrived, &[])]);
    }
    assert!(made.end.tcb.is_at_rest());
}

/// Whatever comes, in whatever order, whenever: it may end, but nothing panics or never stops.
#[test]
fn anything_may_come() {
    for seed in 0..300 {
        let mut random = Rng::with_seed(seed);
        let options = [
            SYN_OPTIONS,
            Options::default(),
            Options {
                mss: Some(0),
                window_scale: Some(14),
                ..SYN_OPTIONS
            },
        ];
        let options = options[random.usize(..options.len())];
        let window = 1 << random.u32(8..20);
        let mut made = match random.u8(..3) {
            0 => Made::connecting(),
            1 => Made::asked_with(options, window),
            _ => Made::connected_with(options, window),
        };
        for _ in 0..300 {
            let says = any(&mut random, &made, options);
            made.hears_all(&[says]);
            match random.u8(..20) {
                0 => {
                    let len = random.usize(1..5000);
                    if made.end.tcb.queue().is_some() && !made.end.is_over() {
                        made.end.write(&vec![1; len]);
                    }
                }
                1 if random.u8(..10) == 0 => made.end.tcb.end(),
                2 => made.end.tcb.discard_unsent(),
                3 => made.end.reads = random.bool(),
                4 => made.end.read(random.usize(..=made.end.unread)),
                5..8 => made.now = made.end.due().map_or(made.now, |due| due.max(made.now)),
                8..12 => made.now += Duration::from_micros(random.u64(..3000)),
                _ => {}
            }
            made.turn();
            made.end.tcb.has_all();
            made.end.tcb.shrink();
        }
    }
}

/// A segment near what is expected, or not.
fn any(random: &mut Rng, made: &Made, options: Options) -> Says {
    let halves = made.end.tcb.halves.as_ref();
    let next = halves.map_or(0, |halves| halves.receiver.next().wrapping_sub(THEIRS));
    let sent = halves.map_or(1, |halves| halves.sender.next().wrapping_sub(OURS));
    let mut near = |number: u32| match random.u8(..12) {
        0 => number.wrapping_add(random.u32(..3)).wrapping_sub(1),
        1 => number.wrapping_sub(random.u32(..5000)),
        2 => number.wrapping_add(random.u32(..100_000)),
        3 => random.u32(..),
        _ => number,
    };
    let (seq, ack) = (near(next), near(sent));
    let sacks = [near(sent), near(sent), near(sent), near(sent)];
    let mut says = acks(ack, &[(sacks[0], sacks[1]), (sacks[2], sacks[3])]);
    if random.bool() {
        says.options = options;
    }
    says.seq = seq;
    says.flags = match random.u8(..100) {
        0 => random.u8(..32),
        1..3 => RST,
        3..8 => SYN,
        8..15 => SYN | ACK,
        15..18 => FIN | ACK,
        _ => ACK,
    };
    says.window = if random.bool() {
        60_000
    } else {
        random.u16(..)
    };
    says.len = if random.bool() {
        0
    } else {
        random.usize(..1500)
    };
    says
}
