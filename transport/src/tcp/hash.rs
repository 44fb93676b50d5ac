//! [`Keyed`]: hashes the ends of connections. Peers choose their own ports and addresses; without
//! the key they cannot choose many that meet in the table.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers with a key that the system has chosen.
#[derive(Debug, Clone)]
pub(super) struct Keyed {
    start: u64,
    key: u64,
}

/// Multiplies, and folds the upper half of the product onto the lower (as wyhash, and Rust's
/// foldhash): some tens of bytes take a few nanoseconds.
#[derive(Debug)]
pub(super) struct Folding {
    state: u64,
    key: u64,
}

impl Default for Keyed {
    fn default() -> Self {
        let random = || RandomState::new().build_hasher().finish();
        Self {
            start: random(),
            key: random() | 1,
        }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding {
            state: self.start,
            key: self.key,
        }
    }
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.key);
        self.state = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.state
    }
}
