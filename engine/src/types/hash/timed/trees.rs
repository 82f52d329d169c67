//! A large hash whose fields may have deadlines: two trees.
//!
//! The fields' tree is that of a large hash, with the deadline as the head of each record (0 for
//! none). The fields that have a deadline stand a second time in a tree sorted by it, so that the next
//! one to expire, and how many have, is found in O(log n). Capturing is cloning both roots.
//!
//! Invariant: the second tree holds exactly the fields whose head is not 0, each at its head.
#![forbid(unsafe_code)]

use crate::types::{
    Garbage,
    encoding::{
        Element,
        element::with_body,
        order::{ByHash, ByScore, hash, score_of, score_tag},
        page::{NewRecord, Record},
        tree::Tree,
    },
    hash::table::{body_of, is, parts, scan},
};

/// Both trees.
#[derive(Clone, Debug)]
pub(in crate::types::hash) struct Trees {
    fields: Tree<ByHash<8>>,
    /// Deadlines are below 2^53, so as doubles they are exact.
    deadlines: Tree<ByScore>,
    seed: u64,
}

impl Trees {
    pub(super) fn new(seed: u64) -> Self {
        Self { fields: Tree::new(), deadlines: Tree::new(), seed }
    }

    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.fields.memory_bytes() + self.deadlines.memory_bytes()
    }

    pub(super) fn into_garbage(self) -> Garbage {
        let mut garbage: Garbage = self.fields.into_garbage().into();
        garbage.extend(self.deadlines.into_garbage().into());
        garbage
    }

    /// The value of a field and its deadline.
    pub(super) fn get(&self, field: &[u8]) -> Option<(Element<'_>, Option<i64>)> {
        let tag = hash(self.seed, field);
        let record = self.fields.find(tag, |record| is(record, field)).1?;
        Some((parts(&record).1, deadline_of(&record)))
    }

    /// Sets a field with its deadline; whether it is new.
    pub(super) fn set(&mut self, field: &[u8], value: &[u8], deadline: Option<i64>) -> bool {
        let tag = hash(self.seed, field);
        let (path, known) = self.fields.find(tag, |record| is(record, field));
        let (found, before) = (known.is_some(), known.and_then(|record| deadline_of(&record)));
        with_body(&body_of(field, value), |body| {
            let head = deadline.unwrap_or(0).to_le_bytes();
            let record = NewRecord { tag, head: &head, body };
            if found {
                self.fields.replace(&path, &record);
            } else {
                self.fields.insert(&path, &record);
            }
        });
        self.move_deadline(field, before, deadline);
        !found
    }

    /// Removes a field; whether it was there.
    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        let tag = hash(self.seed, field);
        let (path, known) = self.fields.find(tag, |record| is(record, field));
        let (found, before) = (known.is_some(), known.and_then(|record| deadline_of(&record)));
        if found {
            self.fields.remove(&path);
            self.move_deadline(field, before, None);
        }
        found
    }

    /// The earliest deadline.
    pub(super) fn earliest(&self) -> Option<i64> {
        self.deadlines.get(0).map(|record| score_of(&record) as i64)
    }

    /// The latest deadline, unless a field has none.
    pub(super) fn latest_of_all(&self) -> Option<i64> {
        let last = self.deadlines.len().checked_sub(1)?;
        let all = self.deadlines.len() == self.fields.len();
        let record = self.deadlines.get(last).filter(|_| all)?;
        Some(score_of(&record) as i64)
    }

    /// How many fields have expired at `now_ms`.
    pub(super) fn expired_len(&self, now_ms: i64) -> usize {
        self.deadlines.seek_by(|deadline, _| deadline <= now_ms as f64).index()
    }

    /// The field that has the earliest deadline, if that has passed at `now_ms`.
    pub(super) fn expired_field(&self, now_ms: i64) -> Option<Vec<u8>> {
        let first = self.deadlines.get(0)?;
        (score_of(&first) <= now_ms as f64).then(|| first.body.to_vec())
    }

    /// The fields and values from `index` on with their deadlines.
    pub(super) fn iter_from(
        &self,
        index: usize,
    ) -> impl Iterator<Item = (Element<'_>, Element<'_>, Option<i64>)> {
        self.fields.seek(index).forward().map(|record| {
            let (field, value) = parts(&record);
            (field, value, deadline_of(&record))
        })
    }

    /// See [`Hash::scan`](crate::types::Hash::scan); also hands out the deadlines.
    pub(super) fn scan(
        &self,
        cursor: u64,
        count: usize,
        mut each: impl FnMut(Element<'_>, Element<'_>, Option<i64>),
    ) -> u64 {
        scan(&self.fields, cursor, count, |record| {
            let (field, value) = parts(record);
            each(field, value, deadline_of(record));
        })
    }

    fn move_deadline(&mut self, field: &[u8], from: Option<i64>, to: Option<i64>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            let path = self.deadlines.member_path(from as f64, field);
            self.deadlines.remove(&path);
        }
        if let Some(to) = to {
            let score = to as f64;
            let path = self.deadlines.approach_score(score, field).insertion();
            with_body(field, |body| {
                let head = score.to_le_bytes();
                self.deadlines
                    .insert(&path, &NewRecord { tag: score_tag(score), head: &head, body });
            });
        }
    }
}

fn deadline_of(record: &Record<'_>) -> Option<i64> {
    let deadline = record.head.try_into().map_or(0, i64::from_le_bytes);
    (deadline != 0).then_some(deadline)
}
