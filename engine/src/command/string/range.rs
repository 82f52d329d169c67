//! Commands on parts of strings: reading a stretch, appending, overwriting.
//!
//! A changed string grows in place. In its entry it is rounded up to the allocator's size class;
//! as an object it doubles. So a loop of APPEND takes time in proportion to what it appends. A long
//! string that a reply still holds on its way out is copied once, and the copy is changed.
#![forbid(unsafe_code)]

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tessera_proto::number::parse_i64;

use super::text::{Text, new_body};
use crate::{
    command::prelude::*,
    keyspace::{Body, Deadline, NewBody, Slot},
    value::{INLINE_STRING_BYTES_MAX, Object, inline},
};

/// APPEND key value: the length after it.
pub(super) fn append(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (key, suffix) = (&args[1], &args[2]);
    let slot = cx.keyspace.slot(key);
    let len = match slot.body() {
        None => {
            slot.put(new_body(args, 2), Deadline::Never);
            suffix.len()
        }
        Some(body) => {
            let old_len = Text::of(body)?.len();
            check_length(old_len, suffix.len(), cx.settings.bulk_bytes_max)?;
            overwrite(slot, old_len, old_len, suffix);
            old_len + suffix.len()
        }
    };
    cx.notify(Class::STRING, "append", key);
    cx.reply.count(len);
    Ok(Effect::Changed(1))
}

/// SETRANGE key offset value: the length after it.
pub(super) fn setrange(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (key, patch) = (&args[1], &args[3]);
    let offset = parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
    let offset =
        usize::try_from(offset).map_err(|_| CommandError::text("ERR offset is out of range"))?;
    let slot = cx.keyspace.slot(key);
    let old_len = slot.body().map(Text::of).transpose()?.map_or(0, Text::len);
    if patch.is_empty() {
        cx.reply.count(old_len);
        return Ok(Effect::Unchanged);
    }
    check_length(offset, patch.len(), cx.settings.bulk_bytes_max)?;
    overwrite(slot, old_len, offset, patch);
    cx.notify(Class::STRING, "setrange", key);
    cx.reply.count(old_len.max(offset + patch.len()));
    Ok(Effect::Changed(1))
}

/// GETRANGE key start end: the bytes from start to end, both included and counted from the end when
/// negative.
pub(super) fn getrange(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let start = parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
    let end = parse_i64(&args[3]).ok_or(CommandError::NotAnInteger)?;
    let Some(entry) = cx.keyspace.read(&args[1]) else {
        cx.reply.bulk(b"");
        return Ok(Effect::Unchanged);
    };
    let text = Text::of(entry.body())?;
    match (text, resolve_range(start, end, text.len())) {
        (_, None) => cx.reply.bulk(b""),
        (Text::Long(bytes), Some(range)) => cx.reply.bulk_owned(bytes.slice(range)),
        (text, Some(range)) => text.with_bytes(|bytes| cx.reply.bulk(&bytes[range])),
    }
    Ok(Effect::Unchanged)
}

/// The bytes of a string of `len` that `start` and `end` name, unless that is none.
fn resolve_range(start: i64, end: i64, len: usize) -> Option<std::ops::Range<usize>> {
    let len = len as i64;
    // A range that is empty however long the string is.
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let from_end = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    (start <= end).then(|| start as usize..end as usize + 1)
}

fn check_length(before: usize, added: usize, bytes_max: usize) -> Result<(), CommandError> {
    match before.checked_add(added) {
        Some(total) if total <= bytes_max => Ok(()),
        _ => Err(CommandError::StringTooLong),
    }
}

/// Puts `patch` at `offset` of the string in `slot`, which has `old_len` bytes; zeros fill a gap.
fn overwrite(mut slot: Slot<'_, '_>, old_len: usize, offset: usize, patch: &[u8]) {
    let new_len = old_len.max(offset + patch.len());
    let kind = inline::CHANGED_STRING;
    match slot.body() {
        Some(Body::Object(_)) => overwrite_object(&mut slot, new_len, offset, patch),
        _ if new_len > INLINE_STRING_BYTES_MAX => {
            let mut buffer = BytesMut::with_capacity(new_len);
            with_text(&slot, |bytes| buffer.extend_from_slice(bytes));
            patch_buffer(&mut buffer, new_len, offset, patch);
            let object = Box::new(Object::String(buffer.freeze()));
            slot.put(NewBody::Object(object), Deadline::Keep);
        }
        Some(Body::Inline { kind: inline::CHANGED_STRING, .. }) => {
            if let Some(bytes) = slot.resize_inline(new_len) {
                bytes[offset..offset + patch.len()].copy_from_slice(patch);
            }
        }
        _ => {
            // The first change of a short string: from now on it counts as changed.
            let mut bytes = SmallVec::<[u8; 256]>::new();
            with_text(&slot, |old| bytes.extend_from_slice(old));
            bytes.resize(new_len, 0);
            bytes[offset..offset + patch.len()].copy_from_slice(patch);
            slot.put(NewBody::Inline { kind, bytes: &bytes }, Deadline::Keep);
        }
    }
}

/// Makes the string in `slot` at least `len_min` bytes long, with zeros, and hands its bytes to
/// `edit`. The key must hold a string or be missing.
pub(in crate::command) fn edit_bytes<R>(
    mut slot: Slot<'_, '_>,
    len_min: usize,
    edit: impl FnOnce(&mut [u8]) -> R,
) -> R {
    let old_len = slot.body().and_then(|body| Text::of(body).ok()).map_or(0, Text::len);
    let len = old_len.max(len_min);
    let kind = inline::CHANGED_STRING;
    match slot.body() {
        Some(Body::Object(_)) => {
            let edited = slot.change_object(|object| {
                let Object::String(bytes) = object else { return None };
                let mut buffer = take_buffer(bytes, len);
                if buffer.len() < len {
                    buffer.resize(len, 0);
                }
                let result = edit(&mut buffer);
                *bytes = buffer.freeze();
                Some(result)
            });
            edited.flatten().expect("the key holds a string")
        }
        _ if len > INLINE_STRING_BYTES_MAX => {
            // Zeroed by the allocator, which for a long bitmap takes no time.
            let mut buffer = BytesMut::zeroed(len);
            with_text(&slot, |bytes| buffer[..old_len].copy_from_slice(bytes));
            let result = edit(&mut buffer);
            let object = Box::new(Object::String(buffer.freeze()));
            slot.put(NewBody::Object(object), Deadline::Keep);
            result
        }
        Some(Body::Inline { kind: inline::CHANGED_STRING, .. }) => {
            edit(slot.resize_inline(len).expect("the key holds bytes"))
        }
        _ => {
            let mut bytes = SmallVec::<[u8; 256]>::new();
            with_text(&slot, |old| bytes.extend_from_slice(old));
            bytes.resize(len, 0);
            let result = edit(&mut bytes);
            slot.put(NewBody::Inline { kind, bytes: &bytes }, Deadline::Keep);
            result
        }
    }
}

/// Hands the bytes of the string in `slot` to `use_bytes`; none if the key is not there.
fn with_text(slot: &Slot<'_, '_>, use_bytes: impl FnOnce(&[u8])) {
    if let Some(Ok(text)) = slot.body().map(Text::of) {
        text.with_bytes(use_bytes);
    }
}

fn overwrite_object(slot: &mut Slot<'_, '_>, new_len: usize, offset: usize, patch: &[u8]) {
    slot.change_object(|object| {
        let Object::String(bytes) = object else { return };
        let mut buffer = take_buffer(bytes, new_len);
        patch_buffer(&mut buffer, new_len, offset, patch);
        *bytes = buffer.freeze();
    });
}

/// The bytes to be changed: themselves when nobody else holds them, else a copy.
fn take_buffer(bytes: &mut Bytes, new_len: usize) -> BytesMut {
    std::mem::take(bytes).try_into_mut().unwrap_or_else(|shared| {
        let mut copy = BytesMut::with_capacity(new_len.max(shared.len()));
        copy.extend_from_slice(&shared);
        copy
    })
}

fn patch_buffer(buffer: &mut BytesMut, new_len: usize, offset: usize, patch: &[u8]) {
    let kept = buffer.len().min(offset);
    if offset == kept && offset == buffer.len() {
        return buffer.extend_from_slice(patch);
    }
    if buffer.len() < new_len {
        buffer.resize(new_len, 0);
    }
    buffer[offset..offset + patch.len()].copy_from_slice(patch);
}
