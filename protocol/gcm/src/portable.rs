//! [`Portable`]: AES-128-GCM from the crates `aes`, `ctr` and `ghash`, which run on anything and use the
//! processor's instructions for them where there are any.

use aes::Aes128;
use aes::cipher::{
    BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper,
    StreamCipherSeek,
};
use bytes::BytesMut;
use ctr::{CtrCore, flavors::Ctr32BE};
use ghash::universal_hash::UniversalHash;
use ghash::{Block, GHash};
use subtle::ConstantTimeEq;

use crate::{Backend, Direction, KEY_LEN, NONCE_LEN, TAG_LEN};

const BLOCK_LEN: usize = 16;
/// Encrypted and then hashed at once, while it is in the first level cache.
const RUN_LEN: usize = 4096;

/// See the [module](self).
pub(crate) struct Portable {
    direction: Direction,
    cipher: Aes128,
    /// Keyed, and empty.
    hash: GHash,
    record: Option<Record>,
}

type Keystream = StreamCipherCoreWrapper<CtrCore<Aes128, Ctr32BE>>;

/// A record that was begun.
struct Record {
    nonce: [u8; NONCE_LEN],
    /// From behind the mask on.
    keystream: Keystream,
    hash: GHash,
    /// Sealed bytes that do not fill a block yet.
    partial: [u8; BLOCK_LEN],
    /// The number of sealed bytes.
    len: u64,
    /// Covers the hash.
    mask: [u8; TAG_LEN],
}

impl Backend for Portable {
    fn new(key: &[u8; KEY_LEN], direction: Direction) -> Self {
        let cipher = Aes128::new(key.into());
        let mut hash_key = Block::default();
        cipher.encrypt_block(&mut hash_key);
        Self {
            direction,
            hash: GHash::new(&hash_key),
            cipher,
            record: None,
        }
    }

    fn start(&mut self, nonce: &[u8; NONCE_LEN]) {
        let mut keystream = keystream(&self.cipher, nonce);
        let mut mask = [0; TAG_LEN];
        keystream.apply_keystream(&mut mask);
        self.record = Some(Record {
            nonce: *nonce,
            keystream,
            hash: self.hash.clone(),
            partial: [0; BLOCK_LEN],
            len: 0,
            mask,
        });
    }

    fn update(&mut self, input: &[u8], out: &mut BytesMut) {
        let record = self.record.as_mut().expect("a record was begun");
        for run in input.chunks(RUN_LEN) {
            let at = out.len();
            out.extend_from_slice(run);
            record.keystream.apply_keystream(&mut out[at..]);
            record.hash(match self.direction {
                Direction::Seal => &out[at..],
                Direction::Open => run,
            });
        }
    }

    fn tag(&mut self) -> [u8; TAG_LEN] {
        self.record.take().expect("a record was begun").tag()
    }

    fn verify(&mut self, tag: &[u8; TAG_LEN]) -> bool {
        self.tag().ct_eq(tag).into()
    }
}

fn keystream(cipher: &Aes128, nonce: &[u8; NONCE_LEN]) -> Keystream {
    let mut counter = [0; BLOCK_LEN];
    counter[..NONCE_LEN].copy_from_slice(nonce);
    counter[BLOCK_LEN - 1] = 1;
    Keystream::from_core(CtrCore::inner_iv_init(cipher.clone(), &counter.into()))
}

impl Clone for Portable {
    fn clone(&self) -> Self {
        let record = self.record.as_ref().map(|record| {
            let mut keystream = keystream(&self.cipher, &record.nonce);
            keystream.seek(TAG_LEN as u64 + record.len);
            Record {
                keystream,
                hash: record.hash.clone(),
                ..*record
            }
        });
        Self {
            direction: self.direction,
            cipher: self.cipher.clone(),
            hash: self.hash.clone(),
            record,
        }
    }
}

impl Record {
    /// Takes sealed bytes into account.
    fn hash(&mut self, mut sealed: &[u8]) {
        let held = (self.len % BLOCK_LEN as u64) as usize;
        self.len += sealed.len() as u64;
        if held > 0 {
            let n = sealed.len().min(BLOCK_LEN - held);
            self.partial[held..held + n].copy_from_slice(&sealed[..n]);
            if held + n < BLOCK_LEN {
                return;
            }
            self.hash.update(&[self.partial.into()]);
            sealed = &sealed[n..];
        }
        let (blocks, rest) = Block::slice_as_chunks(sealed);
        self.hash.update(blocks);
        self.partial[..rest.len()].copy_from_slice(rest);
    }

    fn tag(mut self) -> [u8; TAG_LEN] {
        let held = (self.len % BLOCK_LEN as u64) as usize;
        if held > 0 {
            self.partial[held..].fill(0);
            self.hash.update(&[self.partial.into()]);
        }
        // The length of the additional data, of which there is none, and of the record, in bits.
        let lens = u128::from(self.len * 8).to_be_bytes();
        self.hash.update(&[lens.into()]);
        let mut tag: [u8; TAG_LEN] = self.hash.finalize().into();
        for (byte, mask) in tag.iter_mut().zip(self.mask) {
            *byte ^= mask;
        }
        tag
    }
}
