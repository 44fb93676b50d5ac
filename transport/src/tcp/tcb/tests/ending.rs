//! How connections end, in order.

use super::*;

/// Says that all is said.
const ENDS: Says = Says {
    flags: ACK | FIN,
    ..SAYS
};

/// So long is waited for what is left of a connection.
const REST: Duration = super::super::TIME_WAIT;

fn ending(mut made: Made) -> (Made, Vec<Heard>) {
    made.end.tcb.end();
    let heard = made.turn().iter().map(heard).collect();
    (made, heard)
}

#[test]
fn who_ends_first_waits_for_what_is_left() {
    let (mut made, heard) = ending(Made::connected());
    assert_eq!(heard, [(ACK | FIN, 1, 1, 0)]);
    assert_eq!(made.hears(acks(2, &[])), []);
    assert!(made.end.tcb.waits_for_end());
    // The peer still has something to say.
    made.hears(Says {
        ack: 2,
        ..sends(1, 100)
    });
    assert_eq!(made.end.received, pattern(1, 100));
    assert_eq!(
        made.hears(Says {
            seq: 101,
            ack: 2,
            ..ENDS
        }),
        [(ACK, 2, 102, 0)]
    );
    assert!(made.end.tcb.is_in_time_wait());
    // Our acknowledgement was lost.
    made.now += MILLISECOND;
    assert_eq!(
        made.hears(Says {
            seq: 101,
            ack: 2,
            ..ENDS
        }),
        [(ACK, 2, 102, 0)]
    );
    let start = made.now;
    made.waits();
    assert_eq!(made.ended(), Some(Ended::InOrder));
    let took = made.now.since(start);
    assert!(
        (REST..=REST + MILLISECOND).contains(&(took + MILLISECOND)),
        "{took:?}"
    );
}

#[test]
fn who_ends_second_need_not_wait() {
    let mut made = Made::connected();
    assert_eq!(made.hears(ENDS), [(ACK, 1, 2, 0)]);
    assert!(made.end.tcb.has_all());
    // We still have something to say.
    assert_eq!(
        made.writes(10).iter().map(heard).collect::<Vec<_>>(),
        [(ACK, 1, 2, 10)]
    );
    let (mut made, heard) = ending(made);
    assert_eq!(heard, [(ACK | FIN, 11, 2, 0)]);
    assert_eq!(made.ended(), None);
    assert_eq!(
        made.hears(Says {
            seq: 2,
            ..acks(12, &[])
        }),
        []
    );
    assert_eq!(made.ended(), Some(Ended::InOrder));
}

/// RFC 9293, section 3.6, figure 13.
#[test]
fn both_may_end_at_once() {
    let (mut made, _) = ending(Made::connected());
    assert_eq!(made.hears(ENDS), [(ACK, 2, 2, 0)]);
    assert!(!made.end.tcb.is_in_time_wait());
    assert_eq!(
        made.hears(Says {
            seq: 2,
            ..acks(2, &[])
        }),
        []
    );
    assert!(made.end.tcb.is_in_time_wait());
    made.waits();
    assert_eq!(made.ended(), Some(Ended::InOrder));
}

/// It acknowledges our end with its own.
#[test]
fn both_ends_in_three_segments() {
    let (mut made, _) = ending(Made::connected());
    assert_eq!(made.hears(Says { ack: 2, ..ENDS }), [(ACK, 2, 2, 0)]);
    assert!(made.end.tcb.is_in_time_wait());
}

#[test]
fn the_end_goes_with_the_last_bytes() {
    let mut made = Made::connected();
    made.end.write(&[1; 1500]);
    let (_, heard) = ending(made);
    let heard: Vec<_> = heard
        .iter()
        .map(|(flags, seq, _, len)| (flags & FIN, *seq, *len))
        .collect();
    assert_eq!(heard, [(0, 1, 1000), (FIN, 1001, 500)]);
}

#[test]
fn an_end_that_is_lost_is_sent_again() {
    for bytes in [0, 500] {
        let mut made = Made::connected();
        made.end.write(&vec![1; bytes]);
        let (mut made, first) = ending(made);
        for _ in 0..5 {
            let (_, again) = made.waits();
            assert_eq!(
                again.iter().map(heard).collect::<Vec<_>>(),
                first[..again.len()]
            );
        }
        // Only the end itself is missing.
        let end = 1 + bytes as u32;
        let again = made.hears_all(&[acks(end, &[])]);
        let again = if again.is_empty() && bytes > 0 {
            made.waits().1
        } else {
            again
        };
        if bytes > 0 {
            assert_eq!(
                again.iter().map(heard).collect::<Vec<_>>(),
                [(ACK | FIN, end, 1, 0)]
            );
        }
        made.hears_all(&[acks(end + 1, &[])]);
        assert!(made.end.tcb.waits_for_end());
    }
}

#[test]
fn an_end_that_is_never_acknowledged_is_given_up() {
    let (mut made, _) = ending(Made::connected());
    while !made.end.is_over() {
        made.waits();
    }
    assert_eq!(made.ended(), Some(Ended::TimedOut));
}

#[test]
fn the_end_waits_for_what_is_missing_before_it() {
    let mut made = Made::connected();
    let end = Says {
        flags: ACK | FIN,
        ..sends(1001, 500)
    };
    made.hears(end);
    assert!(!made.end.tcb.has_all());
    // It may come alone, and twice.
    made.hears(Says { seq: 1501, ..ENDS });
    assert!(!made.end.tcb.has_all());
    assert_eq!(made.hears(sends(1, 1000)), [(ACK, 1, 1502, 0)]);
    assert!(made.end.tcb.has_all());
    assert_eq!(made.end.received, pattern(1, 1500));
    made.now += MILLISECOND;
    assert_eq!(made.hears(end), [(ACK, 1, 1502, 0)]);
}

#[test]
fn nothing_arrives_behind_the_end() {
    let mut made = Made::connected();
    made.hears(ENDS);
    made.hears(sends(2, 100));
    assert_eq!(made.end.received, []);
}

/// RFC 9293, section 3.10.7.4, TIME-WAIT: an end that comes again begins the time anew.
#[test]
fn the_rest_begins_anew_when_the_end_comes_again() {
    let (mut made, _) = ending(Made::connected());
    made.hears(Says { ack: 2, ..ENDS });
    made.now += REST / 2;
    assert_eq!(made.hears(Says { ack: 2, ..ENDS }), [(ACK, 2, 2, 0)]);
    let start = made.now;
    made.waits();
    assert_eq!(
        (made.ended(), made.now.since(start)),
        (Some(Ended::InOrder), REST)
    );
}

#[test]
fn a_reset_ends_a_connection_of_which_half_is_closed() {
    let (mut made, _) = ending(Made::connected());
    made.hears(acks(2, &[]));
    assert_eq!(made.hears(Says { flags: RST, ..SAYS }), []);
    assert_eq!(made.ended(), Some(Ended::Reset));
}

#[test]
fn what_was_never_sent_can_be_dropped() {
    let mut made = Made::connected();
    made.hears_all(&[Says {
        window: 2000,
        ..SAYS
    }]);
    assert_eq!(ranges(&made.writes(9000)), [(1, 1000), (1001, 1000)]);
    made.end.tcb.discard_unsent();
    let (mut made, heard) = ending(made);
    assert_eq!(heard, [(ACK | FIN, 2001, 1, 0)]);
    made.hears(acks(2002, &[]));
    assert!(made.end.tcb.waits_for_end());
}

/// Who has no room need not hear of the end: it is sent until he does.
#[test]
fn the_end_goes_out_to_a_shut_window() {
    let mut made = Made::connected();
    made.hears_all(&[Says { window: 0, ..SAYS }]);
    let (mut made, heard) = ending(made);
    assert_eq!(heard, [(ACK | FIN, 1, 1, 0)]);
    for _ in 0..50 {
        let (_, again) = made.waits();
        assert_eq!(again.len(), 1);
        made.hears(Says { window: 0, ..SAYS });
    }
    made.hears(acks(2, &[]));
    assert!(made.end.tcb.waits_for_end());
}

#[test]
fn a_reset_of_ours_is_at_the_very_next_number() {
    let mut made = Made::connected();
    made.writes(300);
    let header = made.end.tcb.reset().expect("the peer knows of it");
    assert_eq!(heard(&Packet::new(&header, &[])), (RST | ACK, 301, 1, 0));
    assert_eq!(made.end.tcb.reset().map(|_| ()), None);
    let mut unknown = Made::connecting();
    assert!(unknown.end.tcb.reset().is_none());
}
