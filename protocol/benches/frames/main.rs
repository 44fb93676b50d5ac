//! What checksums and encryption cost through our own frames, beside the crates that do them: GB/s
//! of payload on one core. Run with `cargo bench -p msgr-protocol --bench frames`; with texts behind
//! `--`, only the rows in whose names they all are.
//!
//! Samples of both are taken in turn. What is printed are medians, and the median of the ratios of
//! two samples in a row. Bytes of payload count. A frame has a head besides, of which the checksums are
//! not in the bare figure; a sealed frame is two records, for which the bare crate has two calls.

mod bare;
mod ours;

use std::time::{Duration, Instant};

use bare::{AesGcm, AwsLc};
use ours::{Frames, Mode};

/// The pairs of samples of which the median counts.
const SAMPLES: usize = 101;
/// How long one sample takes, about: short enough that most are not interrupted.
const SAMPLE: Duration = Duration::from_micros(500);

/// Something to be measured: one call does `SIZE` bytes of work.
type Work<'a> = &'a mut dyn FnMut();

fn main() {
    println!("GB/s                       bare    ours  ratio");
    for size in [64, 4 << 10, 64 << 10, 1 << 20] {
        let data = vec![7; size];
        let mut crc = Frames::new(Mode::Crc, size);
        let mut secure = Frames::new(Mode::Secure, size);
        let mut aws = AwsLc::new(size);
        let mut aes = AesGcm::new(size);

        let both = |what, bare: Work<'_>, ours: Work<'_>| row(what, size, bare, ours);
        let crc_fast = &mut || bare::crc_fast(&data);
        both("crc send, crc-fast", crc_fast, &mut || crc.send());
        both("crc receive, crc-fast", crc_fast, &mut || crc.receive());
        let crc32c = &mut || bare::crc32c(&data);
        both("crc send, crc32c", crc32c, &mut || crc.send());
        both("crc receive, crc32c", crc32c, &mut || crc.receive());
        both("seal, aws-lc-rs", &mut || aws.seal(), &mut || secure.send());
        both("open, aws-lc-rs", &mut || aws.open(), &mut || {
            secure.receive();
        });
        both("seal, aes-gcm", &mut || aes.seal(), &mut || secure.send());
        both("open, aes-gcm", &mut || aes.open(), &mut || {
            secure.receive();
        });
    }
}

fn row(what: &str, size: usize, bare: Work<'_>, ours: Work<'_>) {
    let what = format!("{what}, {size} B");
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|it| it != "--bench")
        .collect();
    if !wanted.iter().all(|text| what.contains(text)) {
        return;
    }
    let bare_turns = turns(bare);
    let our_turns = turns(ours);
    let sample = || [speed(bare, bare_turns, size), speed(ours, our_turns, size)];
    let taken: Vec<[f64; 2]> = std::iter::repeat_with(sample).take(SAMPLES).collect();
    let median = |value: fn(&[f64; 2]) -> f64| {
        let mut values: Vec<f64> = taken.iter().map(value).collect();
        values.sort_unstable_by(f64::total_cmp);
        values[SAMPLES / 2]
    };
    let (bare, ours) = (median(|both| both[0]), median(|both| both[1]));
    let ratio = median(|both| both[1] / both[0]);
    println!("{what:32} {bare:7.2} {ours:7.2} {ratio:6.2}");
}

/// How many calls make a sample.
fn turns(work: Work<'_>) -> usize {
    let start = Instant::now();
    let mut turns = 0;
    while start.elapsed() < SAMPLE {
        work();
        turns += 1;
    }
    turns
}

/// In GB/s.
fn speed(work: Work<'_>, turns: usize, size: usize) -> f64 {
    let start = Instant::now();
    for _ in 0..turns {
        work();
    }
    (turns * size) as f64 / start.elapsed().as_nanos() as f64
}
