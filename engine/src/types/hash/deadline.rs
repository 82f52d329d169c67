//! Fields of hashes that expire.
//!
//! What has expired is still there until somebody removes it: the functions that take a time leave
//! it out, the others do not.
#![forbid(unsafe_code)]

use super::{Hash, Repr, timed::Timed};
use crate::types::{Either, Element, Thresholds};

/// Deadlines are Unix milliseconds.
impl Hash {
    /// The latest deadline that clients may give a field.
    pub const DEADLINE_MAX_MS: i64 = (1 << 46) - 1;

    /// The deadline of `field`, if it is there and has one.
    pub fn deadline(&self, field: &[u8]) -> Option<i64> {
        match &self.repr {
            Repr::Timed(timed) => timed.get(field)?.1,
            Repr::Small(_) | Repr::Large(_) => None,
        }
    }

    /// Gives `field` a deadline, or takes it away; whether the field is there.
    pub fn set_deadline(
        &mut self,
        field: &[u8],
        deadline: Option<i64>,
        thresholds: &Thresholds,
    ) -> bool {
        if !matches!(self.repr, Repr::Timed(_)) {
            if deadline.is_none() || !self.contains(field) {
                return self.contains(field);
            }
            self.repr = Repr::Timed(Timed::of(self.iter(), thresholds.hash_seed));
        }
        match &mut self.repr {
            Repr::Timed(timed) => timed.set_deadline(field, deadline, thresholds.hash_seed),
            Repr::Small(_) | Repr::Large(_) => false,
        }
    }

    /// Sets `field` to `value` and leaves its deadline alone; whether the field is new.
    pub fn set_keeping_deadline(
        &mut self,
        field: &[u8],
        value: &[u8],
        thresholds: &Thresholds,
    ) -> bool {
        let deadline = self.deadline(field);
        let is_new = self.set(field, value, thresholds);
        if deadline.is_some() {
            self.set_deadline(field, deadline, thresholds);
        }
        is_new
    }

    /// The earliest deadline of a field.
    #[inline]
    pub fn earliest_deadline(&self) -> Option<i64> {
        match &self.repr {
            Repr::Timed(timed) => timed.earliest(),
            Repr::Small(_) | Repr::Large(_) => None,
        }
    }

    /// Removes `field` if it has expired at `now_ms`; whether it did.
    pub fn remove_expired(&mut self, field: &[u8], now_ms: i64) -> bool {
        let expired = self.deadline(field).is_some_and(|deadline| deadline <= now_ms);
        expired && self.remove(field)
    }

    /// A field that has expired at `now_ms`, the earliest first.
    pub fn expired_field(&self, now_ms: i64) -> Option<Vec<u8>> {
        match &self.repr {
            Repr::Timed(timed) => timed.expired_field(now_ms),
            Repr::Small(_) | Repr::Large(_) => None,
        }
    }

    /// Whether every field has expired at `now_ms`, so that the hash is as good as gone.
    #[inline]
    pub fn has_expired(&self, now_ms: i64) -> bool {
        match &self.repr {
            Repr::Timed(timed) => timed.has_expired(now_ms),
            Repr::Small(_) | Repr::Large(_) => false,
        }
    }

    /// Number of fields that have not expired at `now_ms`.
    #[inline]
    pub fn live_len(&self, now_ms: i64) -> usize {
        match &self.repr {
            Repr::Timed(timed) => timed.len() - timed.expired_len(now_ms),
            Repr::Small(_) | Repr::Large(_) => self.len(),
        }
    }

    /// The value of `field`, unless it has expired at `now_ms`.
    pub fn get_live(&self, field: &[u8], now_ms: i64) -> Option<Element<'_>> {
        match &self.repr {
            Repr::Timed(timed) => {
                let (value, deadline) = timed.get(field)?;
                is_live(deadline, now_ms).then_some(value)
            }
            Repr::Small(_) | Repr::Large(_) => self.get(field),
        }
    }

    /// All fields and values but those that have expired at `now_ms`.
    pub fn iter_live(&self, now_ms: i64) -> impl Iterator<Item = (Element<'_>, Element<'_>)> {
        match &self.repr {
            Repr::Timed(timed) => {
                let live = move |&(_, _, deadline): &(_, _, Option<i64>)| is_live(deadline, now_ms);
                let fields = timed.iter_from(0).filter(live);
                Either::Left(fields.map(|(field, value, _)| (field, value)))
            }
            Repr::Small(_) | Repr::Large(_) => Either::Right(self.iter()),
        }
    }

    /// The fields and values from `index` on with their deadlines, for what is written of a hash
    /// that has any.
    pub fn iter_timed(
        &self,
        index: usize,
    ) -> impl Iterator<Item = (Element<'_>, Element<'_>, Option<i64>)> {
        match &self.repr {
            Repr::Timed(timed) => Either::Left(timed.iter_from(index)),
            Repr::Small(_) | Repr::Large(_) => {
                Either::Right(self.iter_from(index).map(|(field, value)| (field, value, None)))
            }
        }
    }
}

/// Whether a field with `deadline` has not expired at `now_ms`.
#[inline]
pub(super) fn is_live(deadline: Option<i64>, now_ms: i64) -> bool {
    deadline.is_none_or(|deadline| deadline > now_ms)
}
