//! A sorted map that is captured in O(1): consumer groups and consumers by name.
//!
//! Pairs stand in chunks of at most [`CHUNK_MAX`], chunks and the list of them are
//! reference-counted. A write after a capture copies the list and one chunk. Most streams have a few
//! groups with a few consumers each, for which this is one chunk.
//!
//! Invariants: keys ascend over all chunks; no chunk is empty.
#![forbid(unsafe_code)]

use std::borrow::Borrow;

use triomphe::Arc;

/// Most pairs of a chunk.
const CHUNK_MAX: usize = 32;

/// A sorted map whose clone shares everything.
#[derive(Clone, Debug)]
pub(super) struct SharedMap<K, V> {
    /// Nothing is allocated for an empty map.
    chunks: Option<Arc<Vec<Chunk<K, V>>>>,
    len: usize,
}

type Chunk<K, V> = Arc<Vec<(K, V)>>;

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { chunks: None, len: 0 }
    }
}

impl<K, V> SharedMap<K, V> {
    /// Number of pairs.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The pairs in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.chunks().iter().flat_map(|chunk| chunk.iter())
    }

    /// The pairs, if nobody else holds them: what a capture shares is its to free.
    pub(super) fn into_owned(self) -> impl Iterator<Item = (K, V)> {
        let chunks = self.chunks.and_then(|chunks| Arc::try_unwrap(chunks).ok());
        let chunks = chunks.into_iter().flatten();
        chunks.filter_map(|chunk| Arc::try_unwrap(chunk).ok()).flatten()
    }

    fn chunks(&self) -> &[Chunk<K, V>] {
        self.chunks.as_ref().map_or(&[], |chunks| chunks)
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// The value of `key`.
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (chunk, at) = self.find(key).ok()?;
        Some(&self.chunks()[chunk][at].1)
    }

    /// The value of `key`, to be changed.
    pub(super) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (chunk, at) = self.find(key).ok()?;
        let chunks = Arc::make_mut(self.chunks.as_mut()?);
        Some(&mut Arc::make_mut(&mut chunks[chunk])[at].1)
    }

    /// Adds `key`, unless it is there; whether it was added.
    pub(super) fn insert(&mut self, key: K, value: V) -> bool {
        let Err((chunk, at)) = self.find(&key) else { return false };
        let chunks = Arc::make_mut(self.chunks.get_or_insert_with(|| Arc::new(Vec::new())));
        self.len += 1;
        let Some(shared) = chunks.get_mut(chunk) else {
            chunks.push(Arc::new(vec![(key, value)]));
            return true;
        };
        let pairs = Arc::make_mut(shared);
        pairs.insert(at, (key, value));
        if pairs.len() > CHUNK_MAX {
            // Keys that come in order fill their chunks whole.
            let middle = if at + 1 == pairs.len() { at } else { pairs.len() / 2 };
            let right = pairs.split_off(middle);
            chunks.insert(chunk + 1, Arc::new(right));
        }
        true
    }

    /// Removes `key`; its value if it was there.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (chunk, at) = self.find(key).ok()?;
        let chunks = Arc::make_mut(self.chunks.as_mut()?);
        let pairs = Arc::make_mut(&mut chunks[chunk]);
        let (_, value) = pairs.remove(at);
        self.len -= 1;
        if pairs.is_empty() {
            chunks.remove(chunk);
        } else if chunks
            .get(chunk + 1)
            .is_some_and(|next| next.len() + chunks[chunk].len() <= CHUNK_MAX / 2)
        {
            let next = chunks.remove(chunk + 1);
            Arc::make_mut(&mut chunks[chunk]).extend(Arc::unwrap_or_clone(next));
        }
        if self.len == 0 {
            self.chunks = None;
        }
        Some(value)
    }

    /// The chunk and the index of `key`, or where to insert it.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<(usize, usize), (usize, usize)>
    where
        K: Borrow<Q>,
    {
        let chunks = self.chunks();
        let behind = chunks.partition_point(|chunk| chunk[0].0.borrow() <= key);
        let chunk = behind.saturating_sub(1);
        let Some(pairs) = chunks.get(chunk) else { return Err((0, 0)) };
        match pairs.binary_search_by(|pair| pair.0.borrow().cmp(key)) {
            Ok(at) => Ok((chunk, at)),
            Err(at) => Err((chunk, at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn a_shared_map_matches_an_ordered_map(
            ops in vec((0..3_u8, 0..200_u32, any::<u32>()), 1..600)
        ) {
            let (mut map, mut model) = (SharedMap::default(), BTreeMap::new());
            let mut captured = None;
            for (index, (op, key, value)) in ops.into_iter().enumerate() {
                match op {
                    0 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    1 => {
                        let found = map.get_mut(&key).map(|held| *held = value);
                        let expected = model.get_mut(&key).map(|held| *held = value);
                        prop_assert_eq!(found, expected);
                    }
                    _ => {
                        let added = map.insert(key, value);
                        prop_assert_eq!(added, !model.contains_key(&key));
                        model.entry(key).or_insert(value);
                    }
                }
                prop_assert_eq!((map.len(), map.get(&key)), (model.len(), model.get(&key)));
                if index == 100 {
                    captured = Some((map.clone(), model.clone()));
                }
            }
            for (map, model) in captured.into_iter().chain([(map, model)]) {
                prop_assert!(map.iter().map(|pair| (pair.0, pair.1)).eq(model));
                prop_assert!(map.chunks().iter().all(|chunk| !chunk.is_empty()));
            }
        }
    }

    #[test]
    fn what_a_capture_holds_is_not_taken_apart() {
        let mut map = SharedMap::default();
        (0..100).for_each(|key| _ = map.insert(key, ()));
        let captured = map.clone();
        map.remove(&0);
        assert!(map.into_owned().count() < CHUNK_MAX);
        assert_eq!(captured.into_owned().count(), 100);
    }
}
