//! [`Payload`]: the bytes of one segment, as a chain of slices that nobody had to copy.

use std::borrow::Cow;
use std::{fmt, mem, slice};

use bytes::Bytes;
use smallvec::SmallVec;

/// One segment's bytes: slices of received buffers, or whatever the sender chained together.
///
/// A segment that arrived within one received buffer is one slice; one that straddles two is two,
/// neither of which allocates.
#[derive(Clone, Default)]
pub struct Payload {
    slices: Slices,
    len: usize,
}

#[derive(Clone, Default)]
enum Slices {
    #[default]
    None,
    One(Bytes),
    Several(SmallVec<[Bytes; 2]>),
}

impl Payload {
    /// No bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slices in order; none is empty.
    pub fn slices(&self) -> &[Bytes] {
        match &self.slices {
            Slices::None => &[],
            Slices::One(slice) => slice::from_ref(slice),
            Slices::Several(slices) => slices,
        }
    }

    /// Appends a slice.
    #[inline]
    pub fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.len += slice.len();
            match &mut self.slices {
                Slices::None => self.slices = Slices::One(slice),
                Slices::One(first) => {
                    self.slices = Slices::Several([mem::take(first), slice].into());
                }
                Slices::Several(slices) => slices.push(slice),
            }
        }
    }

    /// All bytes as one run; copies only if they lie in several slices.
    pub fn contiguous(&self) -> Cow<'_, [u8]> {
        match self.slices() {
            [] => Cow::Borrowed(&[]),
            [only] => Cow::Borrowed(only),
            several => Cow::Owned(several.concat()),
        }
    }
}

impl From<Bytes> for Payload {
    #[inline]
    fn from(slice: Bytes) -> Self {
        if slice.is_empty() {
            return Self::new();
        }
        Self {
            len: slice.len(),
            slices: Slices::One(slice),
        }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl FromIterator<Bytes> for Payload {
    fn from_iter<I: IntoIterator<Item = Bytes>>(slices: I) -> Self {
        let mut payload = Self::new();
        slices.into_iter().for_each(|slice| payload.push(slice));
        payload
    }
}

/// Two payloads are equal if their bytes are, however they are sliced.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        match (self.slices(), other.slices()) {
            ([one], [another]) => one == another,
            (ours, theirs) => {
                self.len == other.len && ours.iter().flatten().eq(theirs.iter().flatten())
            }
        }
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    /// The shape, not the contents: payloads are large and may be private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Payload({} bytes in {} slices)",
            self.len,
            self.slices().len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_ignores_how_the_bytes_are_sliced() {
        let whole = Payload::from(&b"abcdef"[..]);
        let sliced: Payload = [&b"ab"[..], b"", b"cdef"]
            .map(Bytes::from_static)
            .into_iter()
            .collect();
        assert_eq!(sliced.slices().len(), 2, "empty slices are not kept");
        assert_eq!(whole, sliced);
        assert_eq!(sliced.contiguous().as_ref(), b"abcdef");
        assert_ne!(whole, Payload::from(&b"abcdeF"[..]));
        assert_ne!(whole, Payload::from(&b"abcde"[..]));
    }

    #[test]
    fn slices_keep_their_order_however_many_there_are() {
        let letters = b"abcde";
        for count in 0..=letters.len() {
            let mut payload = Payload::new();
            for letter in letters[..count].chunks(1) {
                payload.push(Bytes::from_static(b""));
                payload.push(Bytes::copy_from_slice(letter));
            }
            assert_eq!((payload.len(), payload.slices().len()), (count, count));
            assert_eq!(payload.contiguous().as_ref(), &letters[..count]);
            assert_eq!(payload.clone(), payload);
        }
    }
}
