//! How cephx encrypts whatever it encrypts: a version, a magic number and the value, under AES-128 in
//! CBC mode.
//!
//! The magic number is all that tells a wrong key. It is in the first of the 16 byte blocks, so who
//! can alter a message can alter the later ones unseen, if blindly: what they say must be proven
//! otherwise, as the signature over the whole handshake does.
//!
//! Source: `encode_encrypt` and `decode_decrypt` in Ceph's `src/auth/cephx/CephxProtocol.h`,
//! `CryptoAESKeyHandler` in its `src/auth/Crypto.cc`.

use aes::Aes128;
use bytes::{BufMut, BytesMut};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use zeroize::Zeroizing;

use super::CryptoKey;
use crate::wire::Reader;

/// `CEPH_AES_IV`.
const IV: &[u8; 16] = b"cephsageyudagreg";
/// The length of a block, in bytes.
const BLOCK: usize = 16;
/// The version of the envelope.
const VERSION: u8 = 1;
/// `AUTH_ENC_MAGIC`.
const MAGIC: u64 = 0xff00_9cad_8826_aa55;
/// Bytes in front of the value.
const HEAD: usize = 9;

/// The value in the making, cleared from memory when it is dropped.
pub(super) type Plain = Zeroizing<Vec<u8>>;

/// Bytes were not encrypted with this key, or were altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrongKey;

/// Appends what `write` writes, encrypted.
pub(super) fn seal(key: &CryptoKey, out: &mut BytesMut, write: impl FnOnce(&mut Plain)) {
    let mut plain = Plain::new(Vec::with_capacity(256));
    plain.put_u8(VERSION);
    plain.put_u64_le(MAGIC);
    write(&mut plain);
    let len = plain.len();
    plain.resize((len / BLOCK + 1) * BLOCK, 0);
    let sealed = cbc::Encryptor::<Aes128>::new(key.secret().into(), IV.into())
        .encrypt_padded::<Pkcs7>(&mut plain, len)
        .expect("there is room for the padding");
    out.put_slice(sealed);
}

/// Appends the length (LE32) of what [`seal`] appends, and that.
pub(super) fn seal_framed(key: &CryptoKey, out: &mut BytesMut, write: impl FnOnce(&mut Plain)) {
    let at = out.len();
    out.put_u32_le(0);
    seal(key, out, write);
    let len = u32::try_from(out.len() - at - 4).expect("our own values are short");
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

/// A value that was decrypted.
pub(super) struct Opened(Plain);

impl Opened {
    /// Reads the value.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader::new(&self.0[HEAD..])
    }
}

/// Decrypts all of `sealed`.
pub(super) fn open(key: &CryptoKey, sealed: &[u8]) -> Result<Opened, WrongKey> {
    let mut plain = Plain::new(sealed.to_vec());
    let len = cbc::Decryptor::<Aes128>::new(key.secret().into(), IV.into())
        .decrypt_padded::<Pkcs7>(&mut plain)
        .map_err(|_| WrongKey)?
        .len();
    plain.truncate(len);
    let head = &mut Reader::new(&plain);
    match (head.u8("version"), head.u64("magic")) {
        (Ok(VERSION), Ok(MAGIC)) => Ok(Opened(plain)),
        _ => Err(WrongKey),
    }
}

/// What shows a monitor that we have the key: its challenge and ours, encrypted, folded into 8
/// bytes. The length of what was encrypted counts, its last bytes, fewer than 8, do not:
/// `cephx_calc_client_server_challenge`.
pub(super) fn proof(key: &CryptoKey, server_challenge: u64, client_challenge: u64) -> u64 {
    let mut sealed = BytesMut::new();
    seal_framed(key, &mut sealed, |plain| {
        plain.put_u64_le(server_challenge);
        plain.put_u64_le(client_challenge);
    });
    let (words, _) = sealed.as_chunks();
    words
        .iter()
        .fold(0, |sum, word| sum ^ u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Timestamp;

    fn key() -> CryptoKey {
        let secret = std::array::from_fn(|i| i as u8);
        CryptoKey::new(&secret, Timestamp::default())
    }

    fn other_key() -> CryptoKey {
        CryptoKey::new(&[7; 16], Timestamp::default())
    }

    fn sealed(value: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        seal(&key(), &mut out, |plain| plain.put_slice(value));
        out
    }

    /// Computed with OpenSSL from Ceph's description.
    #[test]
    fn known_answer() {
        let (server, client) = (0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00);
        let mut out = BytesMut::new();
        seal_framed(&key(), &mut out, |plain| {
            plain.put_u64_le(server);
            plain.put_u64_le(client);
        });
        let expected =
            b"\x20\0\0\0\x5e\x4c\x58\xeb\xa0\xea\x93\x1c\x02\xef\x66\x28\x53\xed\xc6\xc2\
            \x9f\x2f\x6f\xbc\xcb\xaa\xe9\xce\x93\x54\xfc\x30\xc4\x72\x81\x0b";
        assert_eq!(out[..], expected[..]);
        assert_eq!(proof(&key(), server, client), 0x4fad_d850_10bc_ad18);
    }

    #[test]
    fn values_of_every_length() {
        for len in 0..100 {
            let value: Vec<u8> = (0..len).collect();
            let sealed = sealed(&value);
            assert_eq!(sealed.len() % BLOCK, 0);
            assert_eq!(open(&key(), &sealed).unwrap().reader().rest(), value);
            assert!(open(&other_key(), &sealed).is_err());
        }
    }

    #[test]
    fn what_is_not_sealed() {
        let sealed = sealed(&[0xee; 40]);
        for len in 0..sealed.len() {
            assert!(open(&key(), &sealed[..len]).is_err(), "{len} bytes");
        }
        for bit in 0..BLOCK * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key(), &altered).is_err(), "bit {bit}");
        }
    }
}
