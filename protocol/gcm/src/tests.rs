//! Every backend against published vectors, and all against each other and against `aes-gcm`.

use aes_gcm::aead::{AeadInOut, KeyInit};
use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

/// Key, nonce, plain, sealed, tag, in hexadecimal.
///
/// Test cases 1 to 3 of "The Galois/Counter Mode of Operation" as it was submitted to NIST (the others
/// have additional data); then two of NIST's CAVP (`gcmEncryptExtIV128.rsp`).
const VECTORS: [[&str; 5]; 5] = [
    [
        "00000000000000000000000000000000",
        "000000000000000000000000",
        "",
        "",
        "58e2fccefa7e3061367f1d57a4e7455a",
    ],
    [
        "00000000000000000000000000000000",
        "000000000000000000000000",
        "00000000000000000000000000000000",
        "0388dace60b6a392f328c2b971b2fe78",
        "ab6e47d42cec13bdf53a67b21257bddf",
    ],
    [
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e\
         21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
        "4d5c2af327cd64a62cf35abd2ba6fab4",
    ],
    [
        "11754cd72aec309bf52f7687212e8957",
        "3c819d9a9bed087615030b65",
        "",
        "",
        "250327c674aaf477aef2675748cf6971",
    ],
    [
        "7fddb57453c241d03efbed3ac44e371c",
        "ee283a3fc75575e33efd4887",
        "d5de42b461646c255c87bd2962d3b9a2",
        "2ccda4a5415cb91e135c2a0f78c9b2fd",
        "b36d1df9b9d5e596f83e8b7f52971cb3",
    ],
];

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn array<const N: usize>(hex: &str) -> [u8; N] {
    unhex(hex).try_into().unwrap()
}

/// What a record is sealed to, the tag behind it, from pieces of these sizes over and over.
fn seal<B: Backend>(
    cipher: &mut B,
    nonce: &[u8; NONCE_LEN],
    plain: &[u8],
    sizes: &[usize],
) -> BytesMut {
    let mut out = BytesMut::new();
    cipher.start(nonce);
    pieces(plain, sizes, |piece| cipher.update(piece, &mut out));
    out.extend_from_slice(&cipher.tag());
    out
}

fn open<B: Backend>(
    cipher: &mut B,
    nonce: &[u8; NONCE_LEN],
    sealed: &[u8],
    sizes: &[usize],
) -> Option<BytesMut> {
    let (sealed, tag) = sealed.split_last_chunk().unwrap();
    let mut out = BytesMut::new();
    cipher.start(nonce);
    pieces(sealed, sizes, |piece| cipher.update(piece, &mut out));
    cipher.verify(tag).then_some(out)
}

fn pieces(mut bytes: &[u8], sizes: &[usize], mut each: impl FnMut(&[u8])) {
    for size in sizes.iter().cycle() {
        let (piece, rest) = bytes.split_at(bytes.len().min(*size));
        each(piece);
        bytes = rest;
        if bytes.is_empty() {
            return;
        }
    }
}

fn oracle(key: &[u8; KEY_LEN], nonce: &[u8; NONCE_LEN], plain: &[u8]) -> Vec<u8> {
    let mut sealed = plain.to_vec();
    let cipher = aes_gcm::Aes128Gcm::new(key.into());
    let tag = cipher.encrypt_inout_detached(nonce.into(), &[], sealed.as_mut_slice().into());
    sealed.extend_from_slice(&tag.unwrap());
    sealed
}

fn known_answers<B: Backend>() {
    for [key, nonce, plain, cipher, tag] in VECTORS {
        let (key, nonce) = (array(key), array(nonce));
        let (plain, sealed) = (unhex(plain), [unhex(cipher), unhex(tag)].concat());
        assert_eq!(oracle(&key, &nonce, &plain), sealed);
        for size in [1, 7, 16, 100] {
            let mut backend = B::new(&key, Direction::Seal);
            assert_eq!(seal(&mut backend, &nonce, &plain, &[size]), *sealed);
            let mut backend = B::new(&key, Direction::Open);
            assert_eq!(
                open(&mut backend, &nonce, &sealed, &[size]).unwrap(),
                *plain
            );
        }
    }
}

fn every_flipped_bit<B: Backend>() {
    let key = [7; KEY_LEN];
    let nonce = [9; NONCE_LEN];
    let plain: Vec<u8> = (0..77).collect();
    let sealed = seal(&mut B::new(&key, Direction::Seal), &nonce, &plain, &[77]);
    // One after the other: what went wrong before must not matter.
    let mut opener = B::new(&key, Direction::Open);
    for bit in 0..sealed.len() * 8 {
        let mut bad = sealed.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&mut opener, &nonce, &bad, &[77]), None, "bit {bit}");
        assert_eq!(open(&mut opener, &[8; NONCE_LEN], &sealed, &[77]), None);
        assert_eq!(open(&mut opener, &nonce, &sealed, &[77]).unwrap(), *plain);
    }
}

fn a_clone_goes_on_where_it_was_made<B: Backend>() {
    let key = [3; KEY_LEN];
    let nonce = [4; NONCE_LEN];
    let plain: Vec<u8> = (0..200).collect();
    let expected = oracle(&key, &nonce, &plain);
    for cut in 0..plain.len() {
        let mut cipher = B::new(&key, Direction::Seal);
        let mut out = BytesMut::new();
        cipher.start(&nonce);
        cipher.update(&plain[..cut], &mut out);
        let mut copy = cipher.clone();
        // Neither has any influence on the other.
        cipher.update(&plain, &mut BytesMut::new());
        drop(cipher);
        copy.update(&plain[cut..], &mut out);
        out.extend_from_slice(&copy.tag());
        assert_eq!(out, *expected, "cut at {cut}");
    }
}

/// The backend does what `aes-gcm` does, however the record comes.
fn as_the_oracle<B: Backend>() {
    let sizes = proptest::collection::vec(prop_oneof![0..40usize, 0..5000usize], 1..6)
        .prop_filter("goes on", |sizes| sizes.iter().any(|size| *size > 0));
    let plain = prop_oneof![0..200usize, 0..40_000usize];
    proptest!(|(
        key: [u8; KEY_LEN],
        nonce: [u8; NONCE_LEN],
        len in plain,
        seed: u8,
        sizes in sizes,
    )| {
        let plain: Vec<u8> = (0..len).map(|i| (i * 31 + i / 256) as u8 ^ seed).collect();
        let expected = oracle(&key, &nonce, &plain);
        let mut sealer = B::new(&key, Direction::Seal);
        prop_assert_eq!(&seal(&mut sealer, &nonce, &plain, &sizes)[..], &expected[..]);
        let mut opener = B::new(&key, Direction::Open);
        let plain_again = open(&mut opener, &nonce, &expected, &sizes);
        prop_assert_eq!(plain_again.as_deref(), Some(&plain[..]));
    });
}

macro_rules! every_backend {
    ($($module:ident: $backend:ty),*) => {$(
        mod $module {
            #[test]
            fn known_answers() {
                super::known_answers::<$backend>();
            }

            #[test]
            fn every_flipped_bit_is_noticed() {
                super::every_flipped_bit::<$backend>();
            }

            #[test]
            fn a_clone_goes_on_where_it_was_made() {
                super::a_clone_goes_on_where_it_was_made::<$backend>();
            }

            #[test]
            fn as_the_oracle_does() {
                super::as_the_oracle::<$backend>();
            }
        }
    )*};
}

every_backend! {
    portable: crate::portable::Portable,
    aws_lc: crate::aws_lc::AwsLc
}
