//! Compression with keys: behind the signatures, within what is encrypted, and only if it is asked
//! for there.

use msgr_protocol::compression::Algorithm;
use msgr_protocol::{Message, Mode, PerPeer};

use crate::cast::{Cast, osd_addr};
use crate::link::{ACCEPTOR, CONNECTOR, Link};
use crate::services::with_ticket;

#[test]
fn encrypted_frames_are_compressed_only_if_that_is_asked_for() {
    let mut message = Message::new(9);
    message.front = vec![1; 2000].into();
    message.data = b"sheep ".repeat(5000).into();
    for algorithm in Algorithm::ALL {
        for (mode, asked, expected) in [
            (Mode::Crc, [false; 2], Some(algorithm)),
            (Mode::Secure, [false; 2], None),
            (Mode::Secure, [true, false], None),
            (Mode::Secure, [false, true], None),
            (Mode::Secure, [true; 2], Some(algorithm)),
        ] {
            let cast = Cast::new();
            let (mut client, mut osd) = with_ticket(&cast, mode);
            for (config, asked) in [&mut client, &mut osd].into_iter().zip(asked) {
                config.compression.algorithms = PerPeer::new(vec![algorithm]);
                config.compression.under_secure = asked;
            }
            let mut link = Link::new(client, osd, osd_addr());
            link.run();
            assert!(link.are_ready(), "{:?}", link.ends[CONNECTOR].error);
            let before = [CONNECTOR, ACCEPTOR].map(|end| link.ends[end].sent.len());
            for end in &mut link.ends {
                end.connection.send(message.clone()).unwrap();
            }
            link.run();
            for (end, before) in link.ends.iter().zip(before) {
                assert_eq!(end.connection.peer().compression, expected);
                let [received] = &end.messages[..] else {
                    panic!("one message");
                };
                assert_eq!(received.data, message.data);
                let is_short = end.sent.len() - before < 5000;
                assert_eq!(is_short, expected.is_some(), "{algorithm}, {mode}");
            }
        }
    }
}
