//! The Internet checksum (RFC 1071), eight bytes at a time: a copy is hardly faster.

/// The sum of the 16-bit words of `bytes` in the order of this machine, not folded. A last odd byte
/// is followed by a zero. What is not the last must have an even length.
#[multiversion::multiversion(targets("x86_64+avx2"))]
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    // Sums of their own, which the processor adds side by side. Each grows by less than 2^32 per
    // block, and no packet has 2^32 blocks.
    let mut sums = [0u64; 8];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut sum = sums.into_iter().sum::<u64>();
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_ne_bytes(last))
}

/// The same of so many bytes, a multiple of four.
#[inline]
pub(super) fn words<const N: usize>(bytes: &[u8; N]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    debug_assert!(rest.is_empty(), "{N}");
    words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)))
        .sum()
}

/// What the pseudo header adds to the sum of the addresses (RFC 9293, section 3.1; RFC 8200, section 8.1).
/// `len` is that of all behind the IP header.
#[inline]
pub(super) fn protocol_and_len(protocol: u8, len: usize) -> u64 {
    u64::from(u16::from(protocol).to_be()) + u64::from((len as u16).to_be())
}

/// Such a sum, its carries added in (RFC 1071, section 1).
pub(super) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of bytes that come in pieces of any length.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pieces {
    sum: u64,
    is_odd: bool,
}

impl Pieces {
    /// Adds the bytes that follow.
    pub(super) fn add(&mut self, piece: &[u8]) {
        let mut sum = fold(sum(piece));
        if self.is_odd {
            // RFC 1071, section 2 (B).
            sum = sum.swap_bytes();
        }
        self.sum += u64::from(sum);
        self.is_odd ^= piece.len() % 2 == 1;
    }

    /// As [`sum`](self::sum) would be of all at once.
    pub(super) fn sum(self) -> u64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Word by word, as RFC 1071 writes it.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn any_length_and_the_largest_words() {
        let bytes: Vec<u8> = (0..3000u32).map(|at| (at * 37 / 8) as u8).collect();
        for len in (0..200).chain([1459, 1460, 2999, 3000]) {
            assert_eq!(fold(sum(&bytes[..len])).to_be(), plain(&bytes[..len]));
        }
        for lengths in [[0, 1, 2], [3, 5, 7], [1, 1, 1], [1000, 33, 1001]] {
            let (mut pieces, mut at) = (Pieces::default(), 0);
            for len in lengths {
                pieces.add(&bytes[at..at + len]);
                at += len;
            }
            assert_eq!(fold(pieces.sum()).to_be(), plain(&bytes[..at]));
        }
        let ones = vec![0xff; 65535];
        assert_eq!(fold(sum(&ones)).to_be(), plain(&ones));
    }
}
