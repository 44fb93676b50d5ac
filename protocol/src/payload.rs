//! [`Payload`]: the bytes of one segment, as a chain of slices that nobody had to copy.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;

/// One segment's bytes: slices of received buffers, or whatever the sender chained together.
///
/// A segment that arrived within one received buffer is one slice; one that straddles two is two,
/// neither of which allocates.
#[derive(Clone, Default)]
pub struct Payload {
    slices: SmallVec<[Bytes; 2]>,
    len: usize,
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
        &self.slices
    }

    /// Appends a slice.
    pub fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.len += slice.len();
            self.slices.push(slice);
        }
    }

    /// All bytes as one run; copies only if they lie in several slices.
    pub fn contiguous(&self) -> Cow<'_, [u8]> {
        match self.slices.as_slice() {
            [] => Cow::Borrowed(&[]),
            [only] => Cow::Borrowed(only),
            several => Cow::Owned(several.concat()),
        }
    }
}

impl From<Bytes> for Payload {
    fn from(slice: Bytes) -> Self {
        let mut payload = Self::new();
        payload.push(slice);
        payload
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
        let bytes = |payload: &Self| {
            payload
                .slices
                .clone()
                .into_iter()
                .flat_map(Bytes::into_iter)
        };
        match (self.slices.as_slice(), other.slices.as_slice()) {
            ([one], [another]) => one == another,
            _ => self.len == other.len && bytes(self).eq(bytes(other)),
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
            self.slices.len()
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
}
