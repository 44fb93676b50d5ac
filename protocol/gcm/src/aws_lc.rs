//! [`AwsLc`]: AES-128-GCM from AWS-LC, which uses what each processor is fastest with (AVX-512 and
//! VAES among it). The only unsafe code of this crate.
//!
//! Its EVP interface is the one that takes a record in pieces, and from one place to another; that
//! of `aws-lc-rs` has one call for a whole record, and most of it works in place.
//!
//! Source: AWS-LC's `include/openssl/cipher.h`.

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use aws_lc_sys as sys;
use bytes::{BufMut, BytesMut};

use crate::{Backend, Direction, KEY_LEN, NONCE_LEN, TAG_LEN};

/// What one call takes, in bytes: lengths are `int`s there.
const MOST: usize = 1 << 30;
/// A tag's size as AWS-LC wants to have it.
const TAG: c_int = 16;
const _: () = assert!(TAG_LEN == 16);

/// See the [module](self). Owns its context, which wipes the key when it is freed.
pub(crate) struct AwsLc(NonNull<sys::EVP_CIPHER_CTX>);

// SAFETY: a context is plain memory, bound to no thread.
unsafe impl Send for AwsLc {}
// SAFETY: through a shared reference it is only read (by `clone`).
unsafe impl Sync for AwsLc {}

impl AwsLc {
    fn allocate() -> Self {
        // SAFETY: takes nothing.
        let context = unsafe { sys::EVP_CIPHER_CTX_new() };
        Self(NonNull::new(context).expect("memory for a cipher"))
    }
}

/// Every call returns 1; anything else is a wrong argument, and we give none.
fn expect(result: c_int) {
    assert_eq!(result, 1, "AWS-LC refuses a call");
}

impl Backend for AwsLc {
    fn new(key: &[u8; KEY_LEN], direction: Direction) -> Self {
        let this = Self::allocate();
        // SAFETY: takes nothing, and returns a static.
        let cipher = unsafe { sys::EVP_aes_128_gcm() };
        // SAFETY: the context is valid, the key as long as the cipher wants; there is no nonce yet.
        expect(unsafe {
            sys::EVP_CipherInit_ex(
                this.0.as_ptr(),
                cipher,
                ptr::null_mut(),
                key.as_ptr(),
                ptr::null(),
                c_int::from(direction == Direction::Seal),
            )
        });
        this
    }

    #[inline]
    fn start(&mut self, nonce: &[u8; NONCE_LEN]) {
        const AS_BEFORE: c_int = -1;
        // SAFETY: the context has a cipher and a key; the nonce has the cipher's default length.
        expect(unsafe {
            sys::EVP_CipherInit_ex(
                self.0.as_ptr(),
                ptr::null(),
                ptr::null_mut(),
                ptr::null(),
                nonce.as_ptr(),
                AS_BEFORE,
            )
        });
    }

    #[inline]
    fn update(&mut self, input: &[u8], out: &mut BytesMut) {
        for input in input.chunks(MOST) {
            out.reserve(input.len());
            let len = c_int::try_from(input.len()).expect("no more than that");
            let room = out.spare_capacity_mut().as_mut_ptr().cast();
            let mut written = 0;
            // SAFETY: the context has a cipher, a key and a nonce; `input` has so many bytes; there
            // is room for as many (GCM writes neither more nor less) in `out`, which is elsewhere.
            expect(unsafe {
                sys::EVP_CipherUpdate(self.0.as_ptr(), room, &raw mut written, input.as_ptr(), len)
            });
            assert_eq!(written, len);
            // SAFETY: so many bytes were just written.
            unsafe { out.advance_mut(input.len()) };
        }
    }

    #[inline]
    fn tag(&mut self) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        let mut written = 0;
        // SAFETY: the context has a cipher, a key and a nonce; GCM writes nothing at the end of a
        // record, and has room for a tag.
        expect(unsafe {
            sys::EVP_CipherFinal_ex(self.0.as_ptr(), tag.as_mut_ptr(), &raw mut written)
        });
        // SAFETY: the context has sealed a record; there is room for as many bytes as we say.
        expect(unsafe {
            sys::EVP_CIPHER_CTX_ctrl(
                self.0.as_ptr(),
                sys::EVP_CTRL_AEAD_GET_TAG,
                TAG,
                tag.as_mut_ptr().cast(),
            )
        });
        tag
    }

    #[inline]
    fn verify(&mut self, tag: &[u8; TAG_LEN]) -> bool {
        let mut tag = *tag;
        // SAFETY: the context opens; it copies as many bytes as we say.
        expect(unsafe {
            sys::EVP_CIPHER_CTX_ctrl(
                self.0.as_ptr(),
                sys::EVP_CTRL_AEAD_SET_TAG,
                TAG,
                tag.as_mut_ptr().cast(),
            )
        });
        let mut written = 0;
        // SAFETY: the context has a cipher, a key, a nonce and a tag; GCM writes nothing at the end
        // of a record, and has room for a tag.
        let result =
            unsafe { sys::EVP_CipherFinal_ex(self.0.as_ptr(), tag.as_mut_ptr(), &raw mut written) };
        result == 1
    }
}

impl Clone for AwsLc {
    fn clone(&self) -> Self {
        let copy = Self::allocate();
        // SAFETY: both contexts are valid, and ours has a cipher; it is only read.
        expect(unsafe { sys::EVP_CIPHER_CTX_copy(copy.0.as_ptr(), self.0.as_ptr()) });
        copy
    }
}

impl Drop for AwsLc {
    fn drop(&mut self) {
        // SAFETY: nobody else has this context.
        unsafe { sys::EVP_CIPHER_CTX_free(self.0.as_ptr()) };
    }
}
