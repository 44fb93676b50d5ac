//! The crates alone: one call for a checksum, two for a sealed frame's head and body.

use std::hint::black_box;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use crc_fast::{CrcAlgorithm, checksum};

const KEY: [u8; 16] = [1; 16];
const NONCE: [u8; 12] = [2; 12];

pub(super) fn crc_fast(data: &[u8]) {
    black_box(checksum(CrcAlgorithm::Crc32Iscsi, black_box(data)));
}

pub(super) fn crc32c(data: &[u8]) {
    black_box(crc32c::crc32c(black_box(data)));
}

/// The plain sizes of a sealed frame's records: 80 bytes of head; the payload, and an epilogue.
fn records(size: usize) -> [usize; 2] {
    [80, size + 16]
}

pub(super) struct AwsLc {
    key: LessSafeKey,
    records: [(Vec<u8>, Vec<u8>, Tag); 2],
}

impl AwsLc {
    pub(super) fn new(size: usize) -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &KEY).expect("16 bytes");
        let key = LessSafeKey::new(key);
        let records = records(size).map(|len| {
            let mut sealed = vec![7; len];
            let nonce = Nonce::assume_unique_for_key(NONCE);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut sealed);
            (vec![7; len], sealed, tag.expect("not too long"))
        });
        Self { key, records }
    }

    /// In place: it has no other way.
    pub(super) fn seal(&mut self) {
        for (buffer, ..) in &mut self.records {
            let nonce = Nonce::assume_unique_for_key(NONCE);
            let tag = self
                .key
                .seal_in_place_separate_tag(nonce, Aad::empty(), buffer);
            let _ = black_box(tag.expect("not too long"));
        }
    }

    /// To another place.
    pub(super) fn open(&mut self) {
        for (buffer, sealed, tag) in &mut self.records {
            let nonce = Nonce::assume_unique_for_key(NONCE);
            self.key
                .open_separate_gather(nonce, Aad::empty(), sealed, tag.as_ref(), buffer)
                .expect("what was sealed");
        }
    }
}

pub(super) struct AesGcm {
    cipher: aes_gcm::Aes128Gcm,
    records: [(Vec<u8>, Vec<u8>, aes_gcm::Tag); 2],
}

impl AesGcm {
    pub(super) fn new(size: usize) -> Self {
        let cipher = aes_gcm::Aes128Gcm::new(&KEY.into());
        let records = records(size).map(|len| {
            let mut sealed = vec![7; len];
            let both = sealed.as_mut_slice().into();
            let tag = cipher.encrypt_inout_detached(&NONCE.into(), &[], both);
            (vec![7; len], sealed, tag.expect("not too long"))
        });
        Self { cipher, records }
    }

    /// In place.
    pub(super) fn seal(&mut self) {
        for (buffer, ..) in &mut self.records {
            let both = buffer.as_mut_slice().into();
            let tag = self.cipher.encrypt_inout_detached(&NONCE.into(), &[], both);
            let _ = black_box(tag.expect("not too long"));
        }
    }

    /// To another place.
    pub(super) fn open(&mut self) {
        for (buffer, sealed, tag) in &mut self.records {
            let both = InOutBuf::new(sealed, buffer).expect("of the same size");
            self.cipher
                .decrypt_inout_detached(&NONCE.into(), &[], both, tag)
                .expect("what was sealed");
        }
    }
}
