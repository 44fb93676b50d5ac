//! The link layer: whatever arrives and whenever, it sends nothing that it should not, believes
//! nobody who is no station, and keeps within its bounds.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use msgr_transport::tcp::link::{ControlFrame, Input as Found, Link, Resolved};

use super::frames::{self, OWN, OWN_MAC, PEER};
use super::input::Input;

/// Something that waits. Those that are alive are counted.
type Waiting = Rc<()>;

struct Fuzz {
    link: Link<Waiting>,
    now: Instant,
    alive: Rc<()>,
    out: Vec<ControlFrame>,
}

/// Frames, questions and time in any order.
pub fn link_input(data: &[u8]) {
    let mut input = Input::new(data);
    let prefixes = match input.u8() % 4 {
        0 => [24, 64],
        1 => [0, 0],
        2 => [30, 126],
        _ => [32, 128],
    };
    let addresses = [(OWN[0], prefixes[0]), (OWN[1], prefixes[1])];
    let mut fuzz = Fuzz {
        link: Link::new(OWN_MAC, &addresses, &[]).expect("addresses that can be ours"),
        now: Instant::now(),
        alive: Rc::new(()),
        out: Vec::new(),
    };
    fuzz.link.announce(&mut fuzz.out);
    fuzz.judge();
    while !input.is_empty() {
        fuzz.step(&mut input);
    }
}

impl Fuzz {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 8 {
            0 => self.input(input.string()),
            1 => {
                let mut frame = input.string().to_vec();
                if let Some(destination) = frame.first_chunk_mut() {
                    *destination = OWN_MAC;
                }
                frames::complete(&mut frame);
                self.input(&frame);
            }
            2 | 3 => self.input(&described(input)),
            4 => self.resolve(PEER[usize::from(input.u8() % 2)]),
            5 => {
                let any: [u8; 4] = input.u32().to_le_bytes();
                self.resolve(IpAddr::from(any));
            }
            6 => {
                self.now += Duration::from_millis(input.u16().into());
                self.poll();
            }
            _ => {
                self.now = self.link.next_timeout().unwrap_or(self.now).max(self.now);
                self.poll();
            }
        }
        assert!(self.link.neighbours() <= Link::<Waiting>::NEIGHBOURS);
        assert!(Rc::strong_count(&self.alive) <= 1 + Link::<Waiting>::WAITING);
    }

    fn input(&mut self, frame: &[u8]) {
        let known = self.link.neighbours();
        match self.link.input(frame, self.now, &mut self.out) {
            Found::Ip(packet) => {
                assert_eq!(frame[..6], OWN_MAC);
                assert_eq!(packet.start, 14);
                assert!(packet.len() >= 20 && packet.end <= frame.len());
                assert!(self.out.is_empty() && self.link.neighbours() == known);
            }
            Found::Handled => {
                assert!(self.out.len() <= 1 && self.link.neighbours() <= known + 1);
                while let Some((mac, _)) = self.link.take_resolved() {
                    assert!(is_somebody_else(mac), "{mac:02x?}");
                }
            }
            Found::Ignored(_) => {
                assert!(self.out.is_empty() && self.link.neighbours() == known);
                assert!(self.link.take_resolved().is_none());
            }
        }
        self.judge();
    }

    fn resolve(&mut self, ip: IpAddr) {
        let Some(hop) = self.link.next_hop(ip) else {
            return;
        };
        if self.link.is_own(hop) {
            return;
        }
        match self.link.resolve(hop, self.now) {
            Resolved::Mac(mac) => assert!(is_somebody_else(mac), "{mac:02x?}"),
            Resolved::Pending => self.link.enqueue(hop, Rc::clone(&self.alive)),
            Resolved::Unreachable => {}
        }
    }

    fn poll(&mut self) {
        let known = self.link.neighbours();
        self.link.poll(self.now, &mut self.out);
        assert!(self.out.len() <= known);
        let next = self.link.next_timeout();
        assert!(next.is_none_or(|next| next > self.now));
        assert_eq!(next.is_some(), self.link.neighbours() > 0);
        self.judge();
    }

    fn judge(&mut self) {
        for frame in self.out.drain(..) {
            frames::judge(&frame);
        }
    }
}

fn is_somebody_else(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6] && mac != OWN_MAC
}

/// One that is right, but for a few bytes.
fn described(input: &mut Input<'_>) -> Vec<u8> {
    let how = input.u8();
    let mut frame = match how % 4 {
        0 => frames::arp(frames::REQUEST),
        1 => frames::arp(frames::REPLY),
        2 => frames::neighbour_discovery(frames::SOLICITATION),
        _ => frames::neighbour_discovery(frames::ADVERTISEMENT),
    };
    for _ in 0..how / 4 % 8 {
        let at = usize::from(input.u8()) % frame.len();
        frame[at] = input.u8();
    }
    if how & 0x20 != 0 {
        frame.truncate(usize::from(input.u8()));
    }
    if how & 0x40 != 0 {
        frame.extend(input.string());
    }
    if how & 0x80 == 0 {
        frames::complete(&mut frame);
    }
    frame
}
