//! A hash whose fields may have deadlines.
//!
//! A small one is a listpack of field, value and deadline in turn, in the order of setting; 0 stands for
//! no deadline. What is asked about deadlines is answered by a walk over it, which is short. A larger
//! one is two [`trees`]. It does not become small again.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;
mod trees;

use super::is_live;
use crate::types::{
    Either, Garbage, SMALL_BYTES_MAX,
    encoding::{
        Element,
        listpack::{Listpack, Packed, encoded_len},
    },
};
use trees::Trees;

/// Elements of a field in a listpack.
const WIDTH: usize = 3;

/// A field, its value and its deadline.
type Field<'a> = (Element<'a>, Element<'a>, Option<i64>);

#[derive(Clone, Debug)]
pub(super) enum Timed {
    Small(Listpack),
    Large(Box<Trees>),
}

impl Timed {
    /// A hash of these fields, none of which has a deadline yet.
    pub(super) fn of<'a>(
        fields: impl Iterator<Item = (Element<'a>, Element<'a>)>,
        seed: u64,
    ) -> Self {
        let mut timed = Self::Small(Listpack::new());
        for (field, value) in fields {
            field.with_bytes(|field| {
                value.with_bytes(|value| timed.set(field, value, None, seed));
            });
        }
        timed
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Small(pack) => pack.len() / WIDTH,
            Self::Large(trees) => trees.len(),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Small(pack) => pack.memory_bytes(),
            Self::Large(trees) => trees.memory_bytes(),
        }
    }

    pub(super) fn into_garbage(self) -> Garbage {
        match self {
            Self::Small(_) => Garbage::default(),
            Self::Large(trees) => trees.into_garbage(),
        }
    }

    /// The value of a field and its deadline.
    pub(super) fn get(&self, field: &[u8]) -> Option<(Element<'_>, Option<i64>)> {
        match self {
            Self::Small(pack) => {
                let view = pack.view();
                let value = view.next_offset(view.find(field, WIDTH)?);
                Some((view.get(value), deadline_at(view, view.next_offset(value))))
            }
            Self::Large(trees) => trees.get(field),
        }
    }

    /// Sets a field with its deadline; whether it is new.
    pub(super) fn set(
        &mut self,
        field: &[u8],
        value: &[u8],
        deadline: Option<i64>,
        seed: u64,
    ) -> bool {
        if let Self::Small(pack) = self {
            if let Some(is_new) = set_small(pack, field, value, deadline) {
                return is_new;
            }
            *self = Self::Large(Box::new(trees_of(pack, seed)));
        }
        match self {
            Self::Large(trees) => trees.set(field, value, deadline),
            Self::Small(_) => unreachable!("what did not fit a listpack is trees now"),
        }
    }

    /// Changes the deadline of a field; whether the field is there.
    pub(super) fn set_deadline(&mut self, field: &[u8], deadline: Option<i64>, seed: u64) -> bool {
        let Some((value, before)) = self.get(field) else { return false };
        if before != deadline {
            let value = value.to_vec();
            self.set(field, &value, deadline, seed);
        }
        true
    }

    /// Removes a field; whether it was there.
    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        match self {
            Self::Small(pack) => {
                let found = pack.view().find(field, WIDTH);
                if let Some(at) = found {
                    pack.remove(at, WIDTH);
                }
                found.is_some()
            }
            Self::Large(trees) => trees.remove(field),
        }
    }

    /// The earliest deadline.
    pub(super) fn earliest(&self) -> Option<i64> {
        match self {
            Self::Small(pack) => fields(pack).filter_map(|(_, _, deadline)| deadline).min(),
            Self::Large(trees) => trees.earliest(),
        }
    }

    /// Whether every field has expired at `now_ms`, and there is one.
    pub(super) fn has_expired(&self, now_ms: i64) -> bool {
        match self {
            Self::Small(pack) => {
                !pack.is_empty() && !fields(pack).any(|(_, _, deadline)| is_live(deadline, now_ms))
            }
            Self::Large(trees) => trees.latest_of_all().is_some_and(|latest| latest <= now_ms),
        }
    }

    /// How many fields have expired at `now_ms`.
    pub(super) fn expired_len(&self, now_ms: i64) -> usize {
        match self {
            Self::Small(pack) => {
                fields(pack).filter(|(_, _, deadline)| !is_live(*deadline, now_ms)).count()
            }
            Self::Large(trees) => trees.expired_len(now_ms),
        }
    }

    /// The field that has the earliest deadline, if that has passed at `now_ms`; of several the least.
    pub(super) fn expired_field(&self, now_ms: i64) -> Option<Vec<u8>> {
        match self {
            Self::Small(pack) => {
                let expired = fields(pack).filter(|(_, _, deadline)| !is_live(*deadline, now_ms));
                let first = expired.map(|(field, _, deadline)| (deadline, field.to_vec())).min();
                first.map(|(_, field)| field)
            }
            Self::Large(trees) => trees.expired_field(now_ms),
        }
    }

    /// The fields and values from `index` on with their deadlines.
    pub(super) fn iter_from(&self, index: usize) -> impl Iterator<Item = Field<'_>> {
        match self {
            Self::Small(pack) => Either::Left(fields(pack).skip(index)),
            Self::Large(trees) => Either::Right(trees.iter_from(index)),
        }
    }

    /// See [`Hash::scan`](super::Hash::scan); also hands out the deadlines.
    pub(super) fn scan(
        &self,
        cursor: u64,
        count: usize,
        mut each: impl FnMut(Element<'_>, Element<'_>, Option<i64>),
    ) -> u64 {
        match self {
            Self::Small(pack) => {
                fields(pack).for_each(|(field, value, deadline)| each(field, value, deadline));
                0
            }
            Self::Large(trees) => trees.scan(cursor, count, each),
        }
    }
}

/// The fields of a listpack.
fn fields(pack: &Listpack) -> impl Iterator<Item = Field<'_>> {
    let view = pack.view();
    let mut offset = view.first();
    std::iter::from_fn(move || {
        if offset >= view.end() {
            return None;
        }
        let value = view.next_offset(offset);
        let deadline = view.next_offset(value);
        let field = (view.get(offset), view.get(value), deadline_at(view, deadline));
        offset = view.next_offset(deadline);
        Some(field)
    })
}

/// The deadline that stands at `offset`.
fn deadline_at(view: Packed<'_>, offset: usize) -> Option<i64> {
    match view.get(offset) {
        Element::Int(deadline) => Some(deadline).filter(|&deadline| deadline != 0),
        Element::Bytes(_) | Element::Shared(_) => None,
    }
}

/// Sets a field of a small hash; `None`, and nothing done, if the hash might become too large.
fn set_small(
    pack: &mut Listpack,
    field: &[u8],
    value: &[u8],
    deadline: Option<i64>,
) -> Option<bool> {
    let found = pack.view().find(field, WIDTH);
    let (field, value) = (Element::compact(field), Element::compact(value));
    let deadline = Element::Int(deadline.unwrap_or(0));
    let field_bytes = if found.is_some() { 0 } else { encoded_len(&field) };
    let bytes = field_bytes + encoded_len(&value) + encoded_len(&deadline);
    if pack.raw().len() + bytes > SMALL_BYTES_MAX {
        return None;
    }
    match found {
        Some(at) => {
            let at = pack.view().next_offset(at);
            pack.replace(at, value);
            pack.replace(pack.view().next_offset(at), deadline);
        }
        None => [field, value, deadline].into_iter().for_each(|element| pack.push_back(element)),
    }
    Some(found.is_none())
}

fn trees_of(pack: &Listpack, seed: u64) -> Trees {
    let mut trees = Trees::new(seed);
    for (field, value, deadline) in fields(pack) {
        field.with_bytes(|field| value.with_bytes(|value| trees.set(field, value, deadline)));
    }
    trees
}
