//! Every algorithm: what others compressed, our own round trips, and every way to break the bytes.

mod vectors;

use std::fmt::Write;

use super::*;

const NO_LIMIT: usize = 64 << 20;

/// What the vectors decompress to.
fn plain() -> Vec<u8> {
    let mut text = String::new();
    for i in 0..30 {
        let (osd, object, pool) = (i % 7, i * i * 31 % 100_000, i % 3);
        writeln!(text, "osd.{osd} writes object {object:05} of pool {pool}").unwrap();
    }
    text.into_bytes()
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    let (pairs, rest) = hex.as_bytes().as_chunks();
    assert!(rest.is_empty());
    pairs
        .iter()
        .map(|[a, b]| digit(*a) << 4 | digit(*b))
        .collect()
}

fn vectors() -> Vec<(Algorithm, Vec<u8>)> {
    [
        (Algorithm::Snappy, vectors::SNAPPY),
        (Algorithm::Zlib, vectors::ZLIB),
        (Algorithm::Zlib, vectors::ZLIB_STREAMS),
        (Algorithm::Zstd, vectors::ZSTD),
        (Algorithm::Zstd, vectors::ZSTD_FRAMES),
        (Algorithm::Lz4, vectors::LZ4),
        (Algorithm::Lz4, vectors::LZ4_BLOCKS),
    ]
    .map(|(algorithm, hex)| (algorithm, unhex(hex)))
    .to_vec()
}

/// Bytes that do not get smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn compress(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new(algorithm)
        .compress(bytes, &mut out)
        .unwrap();
    out
}

fn decompress(
    algorithm: Algorithm,
    bytes: &[u8],
    limit: usize,
) -> Result<Vec<u8>, CompressionError> {
    let decompressor = &mut Decompressor::new(algorithm);
    let told = decompressor.uncompressed_len(bytes, limit);
    let out = decompressor.decompress(bytes, limit);
    match (&out, told) {
        (Ok(out), told) => {
            assert_eq!(told, Ok(out.len()));
            assert!(out.len() <= limit);
        }
        // What is damaged behind the length, only decompressing finds.
        (Err(_), Ok(told)) => assert!(told <= limit),
        // Through its window, zlib does not see that a stream refers to what is before it.
        (Err(error), Err(told)) => assert!(*error == told || algorithm == Algorithm::Zlib),
    }
    out
}

#[test]
fn what_others_compressed() {
    for (algorithm, compressed) in vectors() {
        assert_eq!(decompress(algorithm, &compressed, NO_LIMIT), Ok(plain()));
    }
}

#[test]
fn the_limit_is_the_most_that_comes_out() {
    let len = plain().len();
    for (algorithm, compressed) in vectors() {
        assert_eq!(decompress(algorithm, &compressed, len), Ok(plain()));
        for limit in [0, 1, len / 2, len - 1] {
            let too_long = CompressionError::TooLong { limit };
            assert_eq!(decompress(algorithm, &compressed, limit), Err(too_long));
        }
    }
}

#[test]
fn what_is_cut_off_is_an_error() {
    for (nth, (algorithm, compressed)) in vectors().into_iter().enumerate() {
        let cuts = (0..compressed.len()).map(|len| &compressed[..len]);
        let taken = cuts.filter(|cut| decompress(algorithm, cut, NO_LIMIT).is_ok());
        // Behind each of the first two zlib streams of three, nothing says that more should come.
        let expected = if nth == 2 { 2 } else { 0 };
        assert_eq!(taken.count(), expected, "{algorithm}");
        let longer = [&compressed[..], &[0]].concat();
        let longer = decompress(algorithm, &longer, NO_LIMIT);
        assert!(longer.is_err(), "{algorithm} with a byte too many");
    }
}

#[test]
fn no_flipped_bit_goes_past_the_limit() {
    let limit = plain().len();
    for (algorithm, compressed) in vectors() {
        for bit in 0..compressed.len() * 8 {
            let mut damaged = compressed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Not every flipped bit shows: that is what the frame's checksum is for.
            let _ = decompress(algorithm, &damaged, limit);
        }
    }
}

#[test]
fn what_we_compress_comes_back() {
    let long: Vec<u8> = plain().into_iter().cycle().take(300_000).collect();
    for algorithm in Algorithm::ALL {
        let (compressor, decompressor) = (
            &mut Compressor::new(algorithm),
            &mut Decompressor::new(algorithm),
        );
        for len in [0, 1, 2, 12, 13, 255, 4096, 65_535, 65_536, 65_537, 300_000] {
            for bytes in [&long[..len], &noise(len), &vec![7; len]] {
                let mut out = vec![1, 2, 3];
                compressor.compress(bytes, &mut out).unwrap();
                assert_eq!(out[..3], [1, 2, 3], "what was there stays");
                let compressed = &out[3..];
                assert!(compressed.len() <= max_compressed_len(len));
                let back = decompressor.decompress(compressed, len).unwrap();
                assert!(back == bytes, "{algorithm}, {len} bytes");
            }
        }
        assert!(compress(algorithm, &long).len() < long.len() / 5);
    }
}

#[test]
fn an_error_leaves_nothing_behind() {
    for (algorithm, compressed) in vectors() {
        let decompressor = &mut Decompressor::new(algorithm);
        for len in (0..compressed.len()).step_by(7) {
            decompressor
                .decompress(&compressed[..len], NO_LIMIT)
                .unwrap_err();
            assert_eq!(decompressor.decompress(&compressed, NO_LIMIT), Ok(plain()));
        }
    }
}

#[test]
fn bombs() {
    let bomb = vec![0; 16 << 20];
    let limit = 1 << 20;
    for algorithm in Algorithm::ALL {
        let compressed = compress(algorithm, &bomb);
        let too_long = CompressionError::TooLong { limit };
        assert_eq!(decompress(algorithm, &compressed, limit), Err(too_long));
    }
}

/// 1 KiB that says it is 1 GiB.
#[test]
fn claims_that_so_few_bytes_cannot_hold() {
    let gigabyte = 1u32 << 30;
    let limit = gigabyte as usize;
    let rest = [0; 1024];
    let snappy = [&[0x80, 0x80, 0x80, 0x80, 0x04][..], &rest].concat();
    let lz4_head = [1, gigabyte, 1024].map(u32::to_le_bytes).concat();
    let lz4 = [lz4_head, rest.to_vec()].concat();
    let mut zstd = compress(Algorithm::Zstd, &noise(1000));
    zstd[..4].copy_from_slice(&gigabyte.to_le_bytes());
    for (algorithm, bytes) in [(Algorithm::Snappy, snappy), (Algorithm::Lz4, lz4)] {
        let damaged = CompressionError::Damaged { algorithm };
        assert_eq!(decompress(algorithm, &bytes, limit), Err(damaged));
        let limit = limit - 1;
        let too_long = CompressionError::TooLong { limit };
        assert_eq!(decompress(algorithm, &bytes, limit), Err(too_long));
    }
    let wrong = CompressionError::WrongLength {
        told: limit,
        actual: 1000,
    };
    let zstd = Decompressor::new(Algorithm::Zstd).decompress(&zstd, limit);
    assert_eq!(zstd, Err(wrong));
}

#[test]
fn a_table_of_blocks_that_does_not_fit() {
    let good = unhex(vectors::LZ4_BLOCKS);
    let mut more = good.clone();
    more[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut fewer = good.clone();
    fewer[..4].copy_from_slice(&3u32.to_le_bytes());
    // The blocks' originals, one byte from one to the next: each is of another length than told.
    let mut shifted = good;
    shifted[4] -= 1;
    shifted[12] += 1;
    for bad in [more, fewer, shifted] {
        assert!(decompress(Algorithm::Lz4, &bad, NO_LIMIT).is_err());
    }
}

#[test]
fn zlib_marks_mean_nothing() {
    let mut compressed = unhex(vectors::ZLIB);
    for mark in [0, 1, 0xff] {
        compressed[0] = mark;
        assert_eq!(
            decompress(Algorithm::Zlib, &compressed, NO_LIMIT),
            Ok(plain())
        );
    }
}

#[test]
fn a_zlib_stream_does_not_refer_to_the_one_before() {
    let (text, compressor) = (plain(), &mut Compressor::new(Algorithm::Zlib));
    let mut whole = Vec::new();
    compressor.compress(&text, &mut whole).unwrap();
    // A match of three bytes, one byte back, and the end: with fixed codes.
    let dangling = [0x03, 0x02, 0x00];
    let alone = [&[0][..], &dangling].concat();
    assert!(decompress(Algorithm::Zlib, &alone, NO_LIMIT).is_err());
    let behind = [&whole[..], &dangling].concat();
    assert!(decompress(Algorithm::Zlib, &behind, NO_LIMIT).is_err());
}

#[test]
fn numbers_and_names() {
    let wire = [(1, "snappy"), (2, "zlib"), (3, "zstd"), (4, "lz4")];
    for (algorithm, (id, name)) in Algorithm::ALL.into_iter().zip(wire) {
        assert_eq!((algorithm as u32, algorithm.to_string()), (id, name.into()));
        assert_eq!(Algorithm::from_id(id), Some(algorithm));
        assert_eq!(name.parse(), Ok(algorithm));
    }
    assert_eq!(Algorithm::from_id(Algorithm::NONE), None);
    assert_eq!(Algorithm::from_id(5), None);
    assert!("brotli".parse::<Algorithm>().is_err());
}
