//! A hash whose fields may have deadlines: two trees.
//!
//! The fields' tree is that of a large hash, with the deadline as the head of each record (0 for
//! none). The fields that have a deadline stand a second time in a tree sorted by it, so that the next
//! one to expire, and how many have, is found in O(log n). Capturing is cloning both roots.
//!
//! Invariant: the second tree holds exactly the fields whose head is not 0, each at its head.
#![forbid(unsafe_code)]

use super::{body_of, is, parts, scan};
use crate::types::{
    Garbage,
    encoding::{
        Element,
        element::with_body,
        order::{ByHash, ByScore, hash, score_of, score_tag},
        page::{NewRecord, Record},
        tree::Tree,
    },
};

#[derive(Clone, Debug)]
pub(super) struct Timed {
    fields: Tree<ByHash<8>>,
    /// Deadlines are below 2^53, so as doubles they are exact.
    deadlines: Tree<ByScore>,
    seed: u64,
}

impl Timed {
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
        let (cursor, found) = self.fields.find(tag, |record| is(record, field));
        let record = cursor.record().filter(|_| found)?;
        Some((parts(&record).1, deadline_of(&record)))
    }

    /// Sets a field with its deadline; whether it is new.
    pub(super) fn set(&mut self, field: &[u8], value: &[u8], deadline: Option<i64>) -> bool {
        let tag = hash(self.seed, field);
        let (cursor, found) = self.fields.find(tag, |record| is(record, field));
        let before = cursor.record().filter(|_| found).and_then(|record| deadline_of(&record));
        let path = cursor.path();
        drop(cursor);
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

    /// Changes the deadline of a field; whether the field is there.
    pub(super) fn set_deadline(&mut self, field: &[u8], deadline: Option<i64>) -> bool {
        let Some((value, before)) = self.get(field) else { return false };
        if before != deadline {
            let value = value.to_vec();
            self.set(field, &value, deadline);
        }
        true
    }

    /// Removes a field; whether it was there.
    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        let tag = hash(self.seed, field);
        let (cursor, found) = self.fields.find(tag, |record| is(record, field));
        let before = cursor.record().filter(|_| found).and_then(|record| deadline_of(&record));
        let path = cursor.path();
        drop(cursor);
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

    /// See [`Hash::scan`](super::Hash::scan); also hands out the deadlines.
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
            let path = self.deadlines.seek_member(from as f64, field).path();
            self.deadlines.remove(&path);
        }
        if let Some(to) = to {
            let score = to as f64;
            let path = self.deadlines.seek_insertion(score, field).path();
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use crate::types::{Hash, Thresholds};

    #[derive(Clone, Debug)]
    enum Op {
        Set,
        SetKeeping,
        Remove,
        Date(i64),
        Persist,
        ExpireOne(i64),
        Capture,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => Just(Op::Set),
            1 => Just(Op::SetKeeping),
            2 => Just(Op::Remove),
            4 => (1..40_i64).prop_map(Op::Date),
            1 => Just(Op::Persist),
            2 => (0..45_i64).prop_map(Op::ExpireOne),
            1 => Just(Op::Capture),
        ]
    }

    type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

    fn contents(hash: &Hash) -> Model {
        hash.iter_timed(0)
            .map(|(field, value, deadline)| (field.to_vec(), (value.to_vec(), deadline)))
            .collect()
    }

    /// The field of the earliest deadline that has passed, the least of those.
    fn earliest(model: &Model, now_ms: i64) -> Option<Vec<u8>> {
        let dated = model.iter().filter_map(|(field, (_, deadline))| Some(((*deadline)?, field)));
        dated.min().filter(|(deadline, _)| *deadline <= now_ms).map(|(_, field)| field.clone())
    }

    proptest! {
        #[test]
        fn a_hash_with_deadlines_matches_a_map(
            ops in vec((op(), 0..60_u32, 0..1000_u32), 1..400),
        ) {
            let thresholds = Thresholds::default();
            let (mut hash, mut model) = (Hash::new(), Model::new());
            let mut captured = Vec::new();
            for (op, field, value) in ops {
                let length = if field % 13 == 0 { 500 } else { 3 };
                let field = format!("field:{field:length$}").into_bytes();
                let value = value.to_string().into_bytes();
                let before = model.get(&field).cloned();
                match op {
                    Op::Set => {
                        prop_assert_eq!(hash.set(&field, &value, &thresholds), before.is_none());
                        model.insert(field, (value, None));
                    }
                    Op::SetKeeping => {
                        hash.set_keeping_deadline(&field, &value, &thresholds);
                        model.insert(field, (value, before.and_then(|(_, deadline)| deadline)));
                    }
                    Op::Remove => {
                        prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                    }
                    Op::Date(at) => {
                        let there = hash.set_deadline(&field, Some(at), &thresholds);
                        prop_assert_eq!(there, before.is_some());
                        model.entry(field).and_modify(|(_, deadline)| *deadline = Some(at));
                    }
                    Op::Persist => {
                        prop_assert_eq!(hash.set_deadline(&field, None, &thresholds), before.is_some());
                        model.entry(field).and_modify(|(_, deadline)| *deadline = None);
                    }
                    Op::ExpireOne(now_ms) => {
                        let expired = hash.expired_field(now_ms);
                        prop_assert_eq!(&expired, &earliest(&model, now_ms));
                        if let Some(field) = expired {
                            prop_assert!(hash.remove_expired(&field, now_ms));
                            model.remove(&field);
                        }
                    }
                    Op::Capture => captured.push((hash.clone(), model.clone())),
                }
                let first = model.values().filter_map(|(_, deadline)| *deadline).min();
                prop_assert_eq!(hash.earliest_deadline(), first);
            }
            prop_assert_eq!(contents(&hash), model.clone());
            for now_ms in [0, 10, 20, 50] {
                let live: BTreeMap<_, _> = hash
                    .iter_live(now_ms)
                    .map(|(field, value)| (field.to_vec(), value.to_vec()))
                    .collect();
                let expected: BTreeMap<_, _> = model
                    .iter()
                    .filter(|(_, (_, deadline))| deadline.is_none_or(|at| at > now_ms))
                    .map(|(field, (value, _))| (field.clone(), value.clone()))
                    .collect();
                prop_assert_eq!(hash.live_len(now_ms), expected.len());
                for field in model.keys() {
                    let value = hash.get_live(field, now_ms).map(|value| value.to_vec());
                    prop_assert_eq!(value.as_ref(), expected.get(field));
                }
                prop_assert_eq!(live, expected);
            }
            for (hash, model) in captured {
                prop_assert_eq!(contents(&hash), model);
            }
        }
    }
}
