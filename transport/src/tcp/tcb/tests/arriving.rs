//! Whatever becomes of segments, bytes arrive.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::super::is_before;
use super::*;

/// How often something befalls a segment.
#[derive(Debug, Clone, Copy)]
struct Weather {
    loss: f64,
    repetition: f64,
    lateness: f64,
    cut: f64,
}

/// Two ends, and what is on the way between them.
struct World {
    random: Rng,
    now: Time,
    ends: [Option<End>; 2],
    /// By when it arrives, with the number of the end that it arrives at.
    under_way: BTreeMap<(Time, u64), (usize, Packet)>,
    sent: u64,
    latency: Duration,
    weather: Weather,
    /// What each writes, and how much of it was queued.
    bytes: [Vec<u8>; 2],
    queued: [usize; 2],
    /// What each takes from the SYN of the other.
    options: [fn(&mut Options); 2],
    /// The end of what each may send, as the other has said.
    edges: [Option<u32>; 2],
    shifts: [u8; 2],
    initial: [u32; 2],
    mss: [u16; 2],
    window: [usize; 2],
    most: [u32; 2],
}

fn any_bytes(random: &mut Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

const OPTIONS: [fn(&mut Options); 4] = [
    |_| {},
    |options| options.sack_permitted = false,
    |options| options.window_scale = None,
    |options| *options = Options::default(),
];

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        let mut random = Rng::with_seed(seed);
        let lengths = [0, 1].map(|_| {
            let most = 1 << random.u32(0..19);
            random.usize(..most)
        });
        Self {
            now: Time::default(),
            ends: [None, None],
            under_way: BTreeMap::new(),
            sent: 0,
            latency: Duration::from_micros(random.u64(1..2000)),
            weather,
            bytes: lengths.map(|len| any_bytes(&mut random, len)),
            queued: [0; 2],
            // Both know what one of them does not.
            options: [OPTIONS[random.usize(..OPTIONS.len())]; 2],
            edges: [None; 2],
            shifts: [0; 2],
            // Numbers come around soon, or in the middle.
            initial: [0, 1].map(|_| 0u32.wrapping_sub(random.u32(..300_000))),
            mss: [0, 1].map(|_| random.u16(64..3000)),
            window: [0, 1]
                .map(|_| 1 << random.u32(11..20))
                .map(|most: usize| most + random.usize(..most)),
            most: [0, 1].map(|_| {
                if random.bool() {
                    0
                } else {
                    random.u32(3000..60_000)
                }
            }),
            random,
        }
    }

    fn begin(&mut self, index: usize) {
        let (ends, initial) = (ends_of(index), self.initial[index]);
        let tcb = Tcb::connect(ends, initial, self.mss[index], self.window[index], self.now);
        self.add(index, tcb);
    }

    fn add(&mut self, index: usize, tcb: Tcb) {
        let mut end = End::new(tcb);
        end.most = self.most[index];
        end.reads = false;
        self.ends[index] = Some(end);
    }

    fn send(&mut self, from: usize, packet: Packet) {
        self.watch(from, &packet);
        let packets = if self.strikes(self.weather.cut) {
            // What is between the two may overlap, or be in the wrong order.
            let len = packet.bytes.len();
            let cut = self.random.usize(..=len);
            let start = self.random.usize(..=cut);
            let mut pieces = vec![packet.part(0, cut), packet.part(start, len)];
            self.random.shuffle(&mut pieces);
            pieces
        } else {
            vec![packet]
        };
        for packet in packets {
            if self.strikes(self.weather.repetition) {
                self.pass(from, packet.clone());
            }
            self.pass(from, packet);
        }
    }

    fn pass(&mut self, from: usize, mut packet: Packet) {
        if self.strikes(self.weather.loss) {
            return;
        }
        if packet.segment.has(flags::SYN) {
            self.options[from](&mut packet.options);
        } else if !self.knows_sack() {
            packet.options.sacks = Default::default();
        }
        let mut at = self.now + self.latency;
        if self.strikes(self.weather.lateness) {
            at += self.latency.mul_f64(4.0 * self.random.f64());
        }
        self.sent += 1;
        self.under_way.insert((at, self.sent), (1 - from, packet));
    }

    fn knows_sack(&self) -> bool {
        let mut options = Options {
            sack_permitted: true,
            ..Options::default()
        };
        self.options[0](&mut options);
        options.sack_permitted
    }

    fn strikes(&mut self, rate: f64) -> bool {
        self.random.f64() < rate
    }

    /// What no segment may be, whatever happens.
    fn watch(&mut self, from: usize, packet: &Packet) {
        let Packet {
            segment,
            options,
            bytes,
        } = packet;
        let mut said = Options {
            mss: Some(self.mss[1 - from]),
            ..Options::default()
        };
        self.options[from](&mut said);
        let most = self.mss[from].min(said.mss.unwrap_or(536));
        assert!(bytes.len() <= most.into(), "too long");
        assert!(!segment.has(flags::RST), "a reset");
        let said = segment.has(flags::ACK).then(|| {
            let shift = if segment.has(flags::SYN) {
                0
            } else {
                self.shifts[from]
            };
            segment.ack.wrapping_add(u32::from(segment.window) << shift)
        });
        if segment.has(flags::SYN) {
            let mut options = *options;
            self.options[from](&mut options);
            self.shifts[from] = options.window_scale.unwrap_or(0);
            if !segment.has(flags::ACK) {
                self.edges[1 - from] =
                    Some(self.initial[1 - from].wrapping_add(1 + u32::from(segment.window)));
            }
        }
        if let Some(said) = said {
            let before = self.edges[1 - from].unwrap_or(said);
            // As far as it can be said (RFC 7323, section 2.4).
            let shrunk = before.wrapping_sub(said).cast_signed();
            assert!(
                shrunk < 1 << self.shifts[from],
                "the window has shrunk by {shrunk}"
            );
            if shrunk <= 0 {
                self.edges[1 - from] = Some(said);
            }
        }
        if !bytes.is_empty() {
            let end = segment.seq.wrapping_add(bytes.len() as u32);
            let edge = self.edges[from].expect("known before bytes are sent");
            assert!(
                !is_before(edge, end),
                "{} bytes behind the window",
                end.wrapping_sub(edge)
            );
        }
    }

    /// Has one end do something.
    fn turn(&mut self, index: usize) {
        let Some(end) = &mut self.ends[index] else {
            return;
        };
        if end.tcb.is_synchronized() && !end.is_over() {
            let bytes = &self.bytes[index];
            let left = &bytes[self.queued[index]..];
            if !left.is_empty() {
                let few = self.random.usize(..=left.len().min(20_000));
                self.queued[index] += end.write(&left[..few]);
            }
            if self.queued[index] == bytes.len() {
                end.tcb.end();
            }
        }
        if self.random.u8(..4) > 0 {
            let few = self.random.usize(..=end.unread);
            let read = if self.random.bool() { few } else { end.unread };
            end.read(read);
        }
        for packet in end.turn(self.now) {
            self.send(index, packet);
        }
    }

    /// Takes in what comes next, or lets time pass. Whether there is anything left to do.
    fn step(&mut self) -> bool {
        let arrives = self.under_way.first_key_value().map(|(&(at, _), _)| at);
        let unread = self.ends.iter().flatten().any(|end| end.unread > 0);
        let writes = (0..2).any(|index| self.queued[index] < self.bytes[index].len());
        let looks = (unread || writes).then_some(self.now + MILLISECOND);
        let due = self.ends.iter().flatten().filter_map(End::due).min();
        let Some(next) = arrives.into_iter().chain(due).chain(looks).min() else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(first) = self.under_way.first_entry()
            && first.key().0 <= self.now
        {
            let (to, packet) = first.remove();
            let Some(end) = &mut self.ends[to] else {
                if packet.segment.opens() {
                    let (initial, mss) = (self.initial[to], self.mss[to]);
                    let syn = (&packet.segment, &packet.options);
                    let tcb = Tcb::accept(syn, initial, mss, self.window[to], self.now);
                    self.add(to, tcb);
                }
                continue;
            };
            if end.is_over() {
                continue;
            }
            let answer = end.take(&packet, self.now);
            assert_eq!(answer, None);
            if end.tcb.is_pressing() || self.random.u8(..8) == 0 {
                for packet in end.send(self.now) {
                    self.send(to, packet);
                }
            }
        }
        self.turn(0);
        self.turn(1);
        true
    }

    /// Lets everything happen; all must have arrived then.
    fn run(mut self) {
        let (start, mut steps) = (self.now, 0);
        while self.step() {
            let took = self.now.since(start);
            steps += 1;
            if took > Duration::from_secs(100) || steps > 200_000 {
                let ends = self.ends.iter().flatten().map(|end| &end.tcb);
                panic!("it does not end: {:#?}", ends.collect::<Vec<_>>());
            }
        }
        let [Some(first), Some(second)] = &self.ends else {
            panic!("no connection");
        };
        assert_eq!(first.tcb.ended(), Some(Ended::InOrder), "{:#?}", first.tcb);
        assert_eq!(
            second.tcb.ended(),
            Some(Ended::InOrder),
            "{:#?}",
            second.tcb
        );
        assert!(first.received == self.bytes[1], "altered");
        assert!(second.received == self.bytes[0], "altered");
    }
}

/// Runs so many worlds. A failure names the one that failed.
fn run(seeds: std::ops::Range<u64>, weather: fn(&mut Rng) -> Weather, both_begin: bool) {
    for seed in seeds {
        let run = || {
            let mut world = World::new(seed, weather(&mut Rng::with_seed(seed)));
            world.begin(0);
            if both_begin {
                world.begin(1);
            }
            world.turn(0);
            world.turn(1);
            world.run();
        };
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("in the world of seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn foul(random: &mut Rng) -> Weather {
    let mut rate = || {
        if random.bool() {
            0.0
        } else {
            0.1 * random.f64()
        }
    };
    Weather {
        loss: rate(),
        repetition: rate(),
        lateness: rate(),
        cut: rate(),
    }
}

const FAIR: Weather = Weather {
    loss: 0.0,
    repetition: 0.0,
    lateness: 0.0,
    cut: 0.0,
};

#[test]
fn all_arrives_in_fair_weather() {
    run(0..300, |_| FAIR, false);
}

#[test]
fn all_arrives_in_foul_weather() {
    run(0..300, foul, false);
}

#[test]
fn all_arrives_if_both_begin() {
    run(0..300, foul, true);
}
