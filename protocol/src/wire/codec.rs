//! Reading and writing integers, blobs and lists.

use bytes::{BufMut, BytesMut};

use super::Malformed;

/// The longest blob that is read, in bytes: no authentication payload comes near.
const MAX_BLOB: usize = 64 << 10;
/// The longest list of numbers.
const MAX_LIST: usize = 64;

/// Reads values off the front of a slice, without copying and without allocating by lengths that
/// were not checked.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! integers {
    ($($name:ident)*) => {
        $(
            /// The next integer, little-endian.
            ///
            /// # Errors
            /// [`Malformed::Truncated`].
            pub fn $name(&mut self, what: &'static str) -> Result<$name, Malformed> {
                let mut bytes = [0; size_of::<$name>()];
                bytes.copy_from_slice(self.bytes(what, size_of::<$name>())?);
                Ok($name::from_le_bytes(bytes))
            }
        )*
    };
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    integers!(u8 u16 u32 u64 i32 i64);

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn bytes(&mut self, what: &'static str, n: usize) -> Result<&'a [u8], Malformed> {
        let left = self.rest.len();
        let (bytes, rest) = self.rest.split_at_checked(n).ok_or(Malformed::Truncated {
            what,
            needed: n,
            left,
        })?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A length (LE32) and that many bytes.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], or [`Malformed::TooMany`] beyond 64 KiB.
    pub fn blob(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let len = self.count(what, MAX_BLOB)?;
        self.bytes(what, len)
    }

    /// The number of elements of a list (LE32).
    ///
    /// # Errors
    /// [`Malformed::Truncated`], or [`Malformed::TooMany`] beyond `limit`.
    pub fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, Malformed> {
        let count = self.u32(what)? as usize;
        if count > limit {
            return Err(Malformed::TooMany { what, count, limit });
        }
        Ok(count)
    }

    /// A count (LE32) and that many LE32.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], or [`Malformed::TooMany`] beyond 64.
    pub fn list(&mut self, what: &'static str) -> Result<Vec<u32>, Malformed> {
        let count = self.count(what, MAX_LIST)?;
        (0..count).map(|_| self.u32(what)).collect()
    }
}

/// Appends a length and the bytes.
pub(crate) fn put_blob(out: &mut impl BufMut, bytes: &[u8]) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("our own blobs are short"));
    out.put_slice(bytes);
}

/// Appends a count and the numbers.
pub(crate) fn put_list(out: &mut BytesMut, numbers: &[u32]) {
    out.put_u32_le(u32::try_from(numbers.len()).expect("our own lists are short"));
    for number in numbers {
        out.put_u32_le(*number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_little_endian() {
        let bytes = [0x01, 0x02, 0x03, 0xfe, 0xff, 0xff, 0xff, 0x07];
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u8("a"), Ok(1));
        assert_eq!(reader.u16("b"), Ok(0x0302));
        assert_eq!(reader.i32("c"), Ok(-2));
        assert_eq!(Reader::new(&bytes).u64("d"), Ok(0x07ff_ffff_fe03_0201));
        assert_eq!(reader.rest(), [0x07]);
        let needs = |needed| Malformed::Truncated {
            what: "e",
            needed,
            left: 1,
        };
        assert_eq!(reader.u16("e"), Err(needs(2)));
        assert_eq!(reader.u32("e"), Err(needs(4)));
        assert_eq!(reader.i64("e"), Err(needs(8)));
        assert_eq!(reader.rest(), [0x07], "a failed read takes nothing");
    }

    #[test]
    fn blobs_are_borrowed() {
        let bytes = [2, 0, 0, 0, 0xaa, 0xbb, 0xcc];
        let mut reader = Reader::new(&bytes);
        assert!(std::ptr::eq(
            reader.blob("blob").unwrap(),
            &raw const bytes[4..6]
        ));
        assert_eq!(reader.rest(), [0xcc]);
    }

    #[test]
    fn the_limit_itself_is_accepted() {
        let mut out = BytesMut::new();
        put_blob(&mut out, &vec![7; MAX_BLOB]);
        assert_eq!(
            Reader::new(&out).blob("blob").map(<[u8]>::len),
            Ok(MAX_BLOB)
        );
        let mut out = BytesMut::new();
        put_list(&mut out, &[9; MAX_LIST]);
        assert_eq!(Reader::new(&out).list("list"), Ok(vec![9; MAX_LIST]));
    }
}
