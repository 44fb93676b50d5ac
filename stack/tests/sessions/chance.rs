//! [`Chance`]: what a seed makes of it.

/// A generator of our own (`SplitMix64`, Steele and others 2014): what happens must depend on the seed
/// alone.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// 0 most of the time, else up to `most`.
    pub(crate) fn rate(&mut self, most: f64) -> f64 {
        if self.one_in(2) {
            return 0.0;
        }
        most * self.below(1000) as f64 / 1000.0
    }
    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}
