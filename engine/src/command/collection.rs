//! How commands reach the collections that keys hold.
//!
//! A small collection stands packed in its key's entry, another is an object. Here the two look the
//! same: a command reads a [`View`] or changes the collection in a closure, and what comes of it
//! is put back where it belongs. Invariant: no key holds an empty collection.
#![forbid(unsafe_code)]

use std::ops::Deref;

use tessera_proto::ReplyWriter;

use super::{CommandError, Context, Effect};
use crate::{
    keyspace::{Body, Deadline, Keyspace, NewBody, Slot, events::Class},
    types::{Element, Hash, List, Set, Zset, set::PackedSet},
    value::{Object, inline},
};

/// A type of collection.
pub(super) trait Collection: Sized {
    /// The collection that stands inline, if it is of this type.
    fn from_inline(kind: u8, bytes: &[u8]) -> Option<Self>;
    /// The collection as it stands inline, if it may.
    fn as_inline(&self) -> Option<(u8, &[u8])>;
    /// The collection that an object is, if it is of this type.
    fn of(object: &Object) -> Option<&Self>;
    /// The same to change it.
    fn of_mut(object: &mut Object) -> Option<&mut Self>;
    /// The collection as an object.
    fn into_object(self) -> Object;
    /// Number of elements.
    fn len(&self) -> usize;
}

macro_rules! collection {
    ($type:ident, $kind:ident) => {
        impl Collection for $type {
            fn from_inline(kind: u8, bytes: &[u8]) -> Option<Self> {
                (kind == inline::$kind).then(|| Self::from_packed(bytes))
            }

            fn as_inline(&self) -> Option<(u8, &[u8])> {
                self.packed().map(|bytes| (inline::$kind, bytes))
            }

            collection!(@object $type);
        }
    };
    (@object $type:ident) => {
        fn of(object: &Object) -> Option<&Self> {
            match object {
                Object::$type(collection) => Some(collection),
                _ => None,
            }
        }

        fn of_mut(object: &mut Object) -> Option<&mut Self> {
            match object {
                Object::$type(collection) => Some(collection),
                _ => None,
            }
        }

        fn into_object(self) -> Object {
            Object::$type(self)
        }

        fn len(&self) -> usize {
            self.len()
        }
    };
}

collection!(List, LIST);
collection!(Hash, HASH);
collection!(Zset, ZSET);

impl Collection for Set {
    fn from_inline(kind: u8, bytes: &[u8]) -> Option<Self> {
        match kind {
            inline::INTSET => Some(Self::from_packed(PackedSet::Ints(bytes))),
            inline::SET => Some(Self::from_packed(PackedSet::Members(bytes))),
            _ => None,
        }
    }

    fn as_inline(&self) -> Option<(u8, &[u8])> {
        self.packed().map(|packed| match packed {
            PackedSet::Ints(bytes) => (inline::INTSET, bytes),
            PackedSet::Members(bytes) => (inline::SET, bytes),
        })
    }

    collection!(@object Set);
}

/// A collection to read.
pub(super) enum View<'a, C> {
    /// An object.
    Object(&'a C),
    /// What stood inline.
    Inline(C),
}

impl<C> Deref for View<'_, C> {
    type Target = C;

    #[inline]
    fn deref(&self) -> &C {
        match self {
            Self::Object(collection) => collection,
            Self::Inline(collection) => collection,
        }
    }
}

impl<'a, C: Collection> View<'a, C> {
    /// The collection that a body is.
    #[inline]
    pub(super) fn of(body: Body<'a, Object>) -> Result<Self, CommandError> {
        let view = match body {
            Body::Int(_) => None,
            Body::Inline { kind, bytes } => C::from_inline(kind, bytes).map(View::Inline),
            Body::Object(object) => C::of(object).map(View::Object),
        };
        view.ok_or(CommandError::WrongType)
    }
}

impl<C: Clone> View<'_, C> {
    /// The collection on its own: a large one is captured, a small one copied.
    pub(super) fn into_owned(self) -> C {
        match self {
            Self::Object(collection) => collection.clone(),
            Self::Inline(collection) => collection,
        }
    }
}

/// The collection at `key`, for a command that reads it; none if there is no key.
#[inline]
pub(super) fn read<'a, C: Collection>(
    keyspace: &'a mut Keyspace,
    key: &[u8],
) -> Result<Option<View<'a, C>>, CommandError> {
    keyspace.read(key).map(|entry| View::of(entry.body())).transpose()
}

/// The collection at `key`, for a command that is going to change what it finds: such a command
/// counts neither a hit nor a miss.
#[inline]
pub(super) fn look<'a, C: Collection>(
    keyspace: &'a mut Keyspace,
    key: &[u8],
) -> Result<Option<View<'a, C>>, CommandError> {
    keyspace.peek(key).map(|entry| View::of(entry.body())).transpose()
}

/// The collection at `key` on its own, so that several can be read together: a large one is
/// captured, a small one copied.
pub(super) fn capture<C: Collection + Clone>(
    keyspace: &mut Keyspace,
    key: &[u8],
) -> Result<Option<C>, CommandError> {
    Ok(read::<C>(keyspace, key)?.map(View::into_owned))
}

/// What a change has come to.
pub(super) struct Changed<R> {
    /// What the change returned.
    pub(super) result: R,
    /// Whether nothing was left, so that the key is gone.
    pub(super) emptied: bool,
}

/// Lets `change` work on the collection in `slot`; nothing if there is no key. A change that fails
/// must have changed nothing.
pub(super) fn update<C: Collection, R>(
    mut slot: Slot<'_, '_>,
    change: impl FnOnce(&mut C) -> Result<R, CommandError>,
) -> Result<Option<Changed<R>>, CommandError> {
    // Objects first, since they are what is changed most; the form of a body is read once.
    let mut change = Some(change);
    let changed: Option<Result<_, CommandError>> = slot.change_object(|object| {
        let collection = C::of_mut(object).ok_or(CommandError::WrongType)?;
        let Some(change) = change.take() else { unreachable!("an object is changed once") };
        let result = change(collection)?;
        Ok(Changed { result, emptied: collection.len() == 0 })
    });
    let Some(changed) = changed else {
        let Some(change) = change else { unreachable!("nothing was changed") };
        return update_inline(slot, change);
    };
    let changed = changed?;
    if changed.emptied {
        slot.remove();
    }
    Ok(Some(changed))
}

/// The same where the collection stands inline, or nothing does.
fn update_inline<C: Collection, R>(
    mut slot: Slot<'_, '_>,
    change: impl FnOnce(&mut C) -> Result<R, CommandError>,
) -> Result<Option<Changed<R>>, CommandError> {
    let (kind, bytes) = match slot.body() {
        None => return Ok(None),
        Some(Body::Inline { kind, bytes }) => (kind, bytes),
        Some(Body::Int(_) | Body::Object(_)) => return Err(CommandError::WrongType),
    };
    let mut collection = C::from_inline(kind, bytes).ok_or(CommandError::WrongType)?;
    let result = change(&mut collection)?;
    let emptied = collection.len() == 0;
    match collection.as_inline() {
        _ if emptied => _ = slot.remove(),
        Some((same, bytes)) if same == kind => {
            if let Some(room) = slot.resize_inline(bytes.len()) {
                room.copy_from_slice(bytes);
            }
        }
        _ => put(slot, collection),
    }
    Ok(Some(Changed { result, emptied }))
}

/// Lets `change` work on the collection in `slot`, or on a new one if there is no key.
pub(super) fn update_or_create<C: Collection, R>(
    slot: Slot<'_, '_>,
    create: impl FnOnce() -> C,
    change: impl FnOnce(&mut C) -> Result<R, CommandError>,
) -> Result<R, CommandError> {
    if slot.is_vacant() {
        let mut collection = create();
        let result = change(&mut collection)?;
        if collection.len() > 0 {
            put(slot, collection);
        }
        return Ok(result);
    }
    match update(slot, change)? {
        Some(changed) => Ok(changed.result),
        None => unreachable!("the slot is taken"),
    }
}

/// Puts `collection`, which is not empty, into `slot`; a deadline there stays.
pub(super) fn put<C: Collection>(slot: Slot<'_, '_>, collection: C) {
    match collection.as_inline() {
        Some((kind, bytes)) => slot.put(NewBody::Inline { kind, bytes }, Deadline::Keep),
        None => slot.put(NewBody::Object(Box::new(collection.into_object())), Deadline::Keep),
    }
}

/// Makes `key` hold `collection`, without a deadline, or nothing if that is empty; whether there
/// was something before.
pub(super) fn store<C: Collection>(keyspace: &mut Keyspace, key: &[u8], collection: C) -> bool {
    let existed = keyspace.remove(key);
    if collection.len() > 0 {
        put(keyspace.slot(key), collection);
    }
    existed
}

/// The same for a command that answers the number of members, and tells of `event` if there are any.
pub(super) fn store_result<C: Collection>(
    cx: &mut Context<'_>,
    key: &[u8],
    result: C,
    (class, event): (Class, &'static str),
) -> Effect {
    let len = result.len();
    let existed = store(cx.keyspace, key, result);
    cx.reply.count(len);
    if len > 0 {
        cx.notify(class, event, key);
        return Effect::Changed(1);
    }
    if existed {
        cx.notify(Class::GENERIC, "del", key);
    }
    Effect::changed_if(existed)
}

/// Writes an element as a bulk string; a long one without a copy.
#[inline]
pub(super) fn reply_element(reply: &mut ReplyWriter<'_>, element: Element<'_>) {
    match element {
        Element::Int(int) => reply.bulk_integer(int),
        Element::Bytes(bytes) => reply.bulk(bytes),
        Element::Shared(bytes) => reply.bulk_owned(bytes.clone()),
    }
}

/// The stretch `start..end` that `first` and `last` mean in a sequence of `len`: both count, and
/// negative ones count from the end. Empty if they pass each other.
pub(super) fn stretch(first: i64, last: i64, len: usize) -> (usize, usize) {
    let len = len as i64;
    let first = if first < 0 { first.saturating_add(len).max(0) } else { first };
    let last = if last < 0 { last.saturating_add(len) } else { last.min(len - 1) };
    if first > last || first >= len { (0, 0) } else { (first as usize, last as usize + 1) }
}

#[cfg(test)]
mod tests {
    use super::stretch;

    #[test]
    fn stretches_are_clipped_to_the_sequence() {
        assert_eq!(stretch(0, -1, 3), (0, 3));
        assert_eq!(stretch(-2, 100, 3), (1, 3));
        assert_eq!(stretch(-100, 0, 3), (0, 1));
        assert_eq!(stretch(2, 1, 3), (0, 0));
        assert_eq!(stretch(3, 5, 3), (0, 0));
        assert_eq!(stretch(0, -1, 0), (0, 0));
        assert_eq!(stretch(i64::MIN, i64::MAX, 2), (0, 2));
        assert_eq!(stretch(0, i64::MIN, 2), (0, 0));
    }
}
