use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::super::scarce::Scarce;
use super::super::wire::{Wire, WireConfig};
use super::*;

#[test]
fn a_device_without_memory_breaks_runs_and_loses_nothing() {
    const TOTAL: usize = 300_000;
    let mut now = Instant::now();
    let wire = Wire::new(WireConfig::default());
    // No whole run fits.
    let device = Scarce::new(wire.port(), 7);
    let sent = Arc::clone(&device.sent);
    let config = |last: u8| TcpConfig::new([10, 0, 0, last].into(), 24);
    let mut client = Tcp::new(device, config(1), now).expect("an address");
    let mut server = Tcp::new(wire.port(), config(2), now).expect("an address");
    let at = SocketAddr::from(([10, 0, 0, 2], 7000));
    let listening = server.listen(at, &ListenOptions::default());
    listening.expect("nobody else does");
    let conn = client.connect(at, &ConnectOptions::default());
    let conn = conn.expect("there are ports");

    let mut queue = TxQueue::from([Bytes::from(vec![7; TOTAL])]);
    let (mut events, mut received) = (Vec::new(), 0);
    for _ in 0..10_000 {
        now += Duration::from_micros(10);
        client.poll(now, &mut events);
        // Until it is connected, nothing is taken.
        let _ = client.send(conn, &mut queue);
        client.flush();
        events.clear();
        server.poll(now, &mut events);
        for event in events.drain(..) {
            if let Event::Data { bytes, .. } = event {
                received += bytes.len();
            }
        }
        server.flush();
    }
    assert_eq!(received, TOTAL);
    let sent = sent.lock().expect("one thread");
    for pair in sent.windows(2) {
        let [(seq, len), (next, _)] = *pair else {
            unreachable!()
        };
        assert_eq!(seq.wrapping_add(len), next, "a gap, or bytes sent twice");
    }
    assert!(sent.len() > TOTAL / 1460);
}
