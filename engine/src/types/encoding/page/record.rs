//! Records as they lie in a page: `varint(body length << 2 | kind)`, the head, the body.
#![forbid(unsafe_code)]

use super::{Format, INLINE_BYTES_MAX};
use crate::types::encoding::element::{Element, int_len};

pub(super) const KIND_BYTES: usize = 0;
pub(super) const KIND_INT: usize = 1;
pub(super) const KIND_SHARED: usize = 2;

/// A record to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// The slot's tag; ignored by untagged pages.
    pub tag: u32,
    /// Exactly as many bytes as the format says.
    pub head: &'a [u8],
    /// The body. Bytes beyond [`INLINE_BYTES_MAX`] must come as [`Element::Shared`].
    pub body: Element<'a>,
}

/// A stored record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// As many bytes as the format says.
    pub head: &'a [u8],
    /// The body.
    pub body: Element<'a>,
}

/// Length and kind of a body as the page stores it.
#[inline]
fn body_meta(body: &Element<'_>) -> usize {
    match body {
        Element::Bytes(bytes) => bytes.len() << 2 | KIND_BYTES,
        Element::Int(int) => int_len(*int) << 2 | KIND_INT,
        Element::Shared(_) => size_of::<u16>() << 2 | KIND_SHARED,
    }
}

/// Bytes of `record` in a page.
#[inline]
pub(super) fn encoded_len<F: Format>(record: &NewRecord<'_>) -> usize {
    let meta = body_meta(&record.body);
    debug_assert!(meta >> 2 <= INLINE_BYTES_MAX, "long bodies come shared");
    let prefix = if meta < 0x80 { 1 } else { 2 };
    prefix + F::HEAD_BYTES + (meta >> 2)
}

/// Writes `record` to `out`, which has its length. `number` stands for a shared body.
#[inline]
pub(super) fn encode<F: Format>(record: &NewRecord<'_>, number: u16, out: &mut [u8]) {
    let meta = body_meta(&record.body);
    let prefix = if meta < 0x80 {
        out[0] = meta as u8;
        1
    } else {
        out[0] = 0x80 | (meta & 0x7F) as u8;
        out[1] = (meta >> 7) as u8;
        2
    };
    let (head, body) = out[prefix..].split_at_mut(F::HEAD_BYTES);
    head.copy_from_slice(&record.head[..F::HEAD_BYTES]);
    match record.body {
        Element::Bytes(bytes) => body.copy_from_slice(bytes),
        Element::Int(int) => body.copy_from_slice(&int.to_le_bytes()[..meta >> 2]),
        Element::Shared(_) => body.copy_from_slice(&number.to_le_bytes()),
    }
}

/// The number of one or two bytes that `bytes` begins with, and its length.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> (usize, usize) {
    let first = usize::from(bytes[0]);
    if first < 0x80 { (1, first) } else { (2, (first & 0x7F) | usize::from(bytes[1]) << 7) }
}
