//! Writing lengths and strings; `input` says how they look.
#![forbid(unsafe_code)]

use super::lzf::Lzf;
use crate::types::{Element, encoding::element::canonical_i64};

/// Shortest string that is worth compressing.
const COMPRESSED_FROM_BYTES: usize = 21;
/// Bytes that compression must save, for its two lengths take their place too.
const SAVED_BYTES_MIN: usize = 4;
/// Longest string that is tried as an integer of four bytes.
const INTEGER_BYTES_MAX: usize = 11;

/// Appends a length.
pub(super) fn put_length(out: &mut Vec<u8>, len: u64) {
    match len {
        0..0x40 => out.push(len as u8),
        0x40..0x4000 => out.extend_from_slice(&[0x40 | (len >> 8) as u8, len as u8]),
        0x4000..=0xFFFF_FFFF => {
            out.push(0x80);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// Appends an integer in place of its decimal digits, if four bytes hold it.
fn put_small_integer(out: &mut Vec<u8>, int: i64) -> bool {
    if let Ok(int) = i8::try_from(int) {
        out.extend_from_slice(&[0xC0, int as u8]);
    } else if let Ok(int) = i16::try_from(int) {
        out.push(0xC1);
        out.extend_from_slice(&int.to_le_bytes());
    } else if let Ok(int) = i32::try_from(int) {
        out.push(0xC2);
        out.extend_from_slice(&int.to_le_bytes());
    } else {
        return false;
    }
    true
}

/// Appends a string as it is, or as an integer if it is a small one.
pub(super) fn put_plain(out: &mut Vec<u8>, text: &[u8]) {
    let int = if text.len() <= INTEGER_BYTES_MAX { canonical_i64(text) } else { None };
    if !int.is_some_and(|int| put_small_integer(out, int)) {
        put_raw(out, text);
    }
}

/// Appends a string as it is.
pub(super) fn put_raw(out: &mut Vec<u8>, text: &[u8]) {
    put_length(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// The most bytes that the compressed form of a string of `len` may have; nothing if it is too
/// short to be compressed.
pub(super) fn compressed_bytes_max(len: usize) -> Option<usize> {
    (len >= COMPRESSED_FROM_BYTES).then(|| len - SAVED_BYTES_MIN)
}

/// Appends what stands before a compressed string of `packed_len` bytes that stands for `len`.
pub(super) fn put_compressed_head(out: &mut Vec<u8>, packed_len: usize, len: usize) {
    out.push(0xC3);
    put_length(out, packed_len as u64);
    put_length(out, len as u64);
}

/// Appends a string in its shortest form; compressed where that helps and `lzf` is there.
pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8], lzf: Option<&mut Lzf>) {
    let packed = match (lzf, compressed_bytes_max(text.len())) {
        (Some(lzf), Some(bytes_max)) => lzf.compress(text, bytes_max),
        _ => None,
    };
    match packed {
        Some(packed) => {
            put_compressed_head(out, packed.len(), text.len());
            out.extend_from_slice(&packed);
        }
        None => put_plain(out, text),
    }
}

/// Appends an element as [`put_text`] does its text.
pub(super) fn put_element(out: &mut Vec<u8>, element: &Element<'_>, lzf: Option<&mut Lzf>) {
    match element {
        Element::Int(int) if put_small_integer(out, *int) => {}
        _ => element.with_bytes(|text| put_text(out, text, lzf)),
    }
}
