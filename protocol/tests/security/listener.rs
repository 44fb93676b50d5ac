//! Who only listens: what can be found in the bytes of a connection to a service.

use msgr_protocol::{EntityType, Message, Mode};

use crate::cast::{CLIENT_KEY, CLIENT_NAME, Cast, SERVICE_SECRET, osd_addr};
use crate::link::{ACCEPTOR, CONNECTOR, Link};
use crate::services::with_ticket;

/// Banner and HELLO, in bytes: 26, and a frame of 36.
const HELLO_END: usize = 26 + 72;

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn nothing_is_found_behind_hello() {
    let payload = b"forty-two is the answer to it all";
    for mode in [Mode::Crc, Mode::Secure] {
        let cast = Cast::new();
        let (client, osd) = with_ticket(&cast, mode);
        let mut link = Link::new(client, osd, osd_addr());
        link.run();
        let mut message = Message::new(9);
        message.front = payload.to_vec().into();
        message.data = payload.repeat(300).into();
        for end in &mut link.ends {
            end.connection.send(message.clone()).unwrap();
        }
        link.run();
        assert!(link.ends.iter().all(|end| end.messages.len() == 1));

        let id = &CLIENT_NAME.split_once('.').unwrap().1.as_bytes();
        for from in [CONNECTOR, ACCEPTOR] {
            let behind_hello = &link.ends[from].sent[HELLO_END..];
            for secret in [&CLIENT_KEY[..], &SERVICE_SECRET, id] {
                assert!(!contains(behind_hello, secret), "{mode}");
            }
            // Of the ident frames: our address and nonce, as everybody encodes them.
            let address = [10, 0, 0, 3, 0, 0, 0, 0];
            for plain in [&payload[..], &payload[..8], &address] {
                assert_eq!(contains(behind_hello, plain), mode == Mode::Crc);
            }
        }
        assert_eq!(
            link.ends[ACCEPTOR].connection.peer().kind,
            Some(EntityType::Client)
        );
    }
}
