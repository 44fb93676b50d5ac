//! Segments with the bytes that are expected next: whatever else they say is heard as well.

use super::*;

#[test]
fn bytes_bring_an_acknowledgement() {
    let mut made = Made::connected();
    made.writes(1000);
    // The end of the window stays where it was.
    let window = SAYS.window - 1000;
    made.hears(Says {
        ack: 1001,
        window,
        ..sends(1, 10)
    });
    assert!(made.end.tcb.is_at_rest());
    assert_eq!(made.end.received.len(), 10);
}

#[test]
fn bytes_bring_room() {
    let mut made = Made::connected();
    made.hears(Says {
        window: 1000,
        ..SAYS
    });
    assert_eq!(ranges(&made.writes(3000)), [(1, 1000)]);
    let packets = made.hears_all(&[Says {
        window: 3000,
        ..sends(1, 10)
    }]);
    assert_eq!(ranges(&packets), [(1001, 1000), (2001, 1000)]);
}

#[test]
fn bytes_bring_word_of_a_loss() {
    let mut made = Made::connected();
    made.writes(10_000);
    made.now += MILLISECOND;
    let again = made.hears_all(&[Says {
        len: 10,
        ..acks(1, &[(1001, 10_001)])
    }]);
    assert_eq!(ranges(&again), [(1, 1000)]);
}

#[test]
fn bytes_bring_an_end() {
    let mut made = Made::connected();
    // Has the peer know our window.
    made.writes(10);
    made.hears(Says {
        flags: FIN | ACK,
        ..sends(1, 10)
    });
    assert!(made.end.tcb.has_all());
    assert_eq!(made.end.received.len(), 10);
}

/// Who has no room has all the time that he wants, as long as anything is heard of him.
#[test]
fn bytes_of_a_peer_without_room_are_an_answer() {
    let mut made = Made::connected();
    made.writes(1000);
    for at in 0..10 {
        made.hears(Says {
            window: 0,
            ..sends(1 + 10 * at, 10)
        });
        assert_eq!(made.ended(), None, "{at}");
        made.now += made.end.config.timeout / 4;
    }
}

#[test]
fn bytes_are_a_sign_of_life() {
    let mut made = Made::connected();
    for at in 0..10 {
        made.now += made.end.config.keep_alive / 2;
        let packets = made.hears_all(&[sends(1 + 10 * at, 10)]);
        let asks = packets.iter().map(heard).any(|(_, seq, ..)| seq == 0);
        assert!(!asks, "{at}");
    }
}
