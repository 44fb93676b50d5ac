use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::super::segment::Segment;
use super::super::wire::{Wire, WireConfig, WireFrame, WirePort};
use super::super::{DeviceCaps, ETHERNET_HEADER_LEN};
use super::*;

/// A port of the wire that has memory for only so many frames each turn. It notes the bytes that leave:
/// the number of the first, and how many.
struct Scarce {
    port: WirePort,
    left: usize,
    sent: Arc<Mutex<Vec<(u32, u32)>>>,
}

/// No whole run fits.
const EACH_TURN: usize = 7;

impl Device for Scarce {
    type Frame = WireFrame;

    fn name(&self) -> &'static str {
        "scarce"
    }
    fn caps(&self) -> DeviceCaps {
        self.port.caps()
    }
    fn receive(&mut self, now: Instant, frames: &mut Vec<WireFrame>) {
        self.left = EACH_TURN;
        self.port.receive(now, frames);
    }
    fn allocate(&mut self, len: usize) -> Option<WireFrame> {
        self.left = self.left.checked_sub(1)?;
        self.port.allocate(len)
    }
    fn transmit(&mut self, frame: WireFrame) {
        let segment = Segment::peek(&frame[ETHERNET_HEADER_LEN..]);
        if let Some(segment) = segment.filter(|segment| segment.len() > 0 && !segment.opens()) {
            let mut sent = self.sent.lock().expect("one thread");
            sent.push((segment.seq, segment.len()));
        }
        self.port.transmit(frame);
    }
    fn flush(&mut self, now: Instant) {
        self.port.flush(now);
    }
    fn park(&mut self) -> Park<'_> {
        self.port.park()
    }
    fn cost(&self) -> Cost {
        self.port.cost()
    }
    fn counters(&mut self) -> DeviceCounters {
        self.port.counters()
    }
}

#[test]
fn a_device_without_memory_breaks_runs_and_loses_nothing() {
    const TOTAL: usize = 300_000;
    let mut now = Instant::now();
    let wire = Wire::new(WireConfig::default());
    let sent = Arc::default();
    let device = Scarce {
        port: wire.port(),
        left: EACH_TURN,
        sent: Arc::clone(&sent),
    };
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
