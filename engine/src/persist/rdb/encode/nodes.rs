//! Lists as Redis's quicklist: nodes filled as RPUSH of one element after the other fills them.
#![forbid(unsafe_code)]

use super::{
    super::{
        output::{put_length, put_text},
        packed::listpack,
    },
    Encoder, State, Work,
};
use crate::types::{Element, List};

/// A node that is one string.
const PLAIN: u64 = 1;
/// A node that is a listpack.
const PACKED: u64 = 2;
/// Bytes of an empty listpack.
const EMPTY_BYTES: usize = 7;
/// What Redis takes an element's head and back length for, before it has written them.
const OVERHEAD_BYTES: usize = 8;
/// Where the limit counts elements, this size is a limit too.
const COUNTED_BYTES_MAX: usize = 8192;

/// How full a node is; nothing is in one of no bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NodeSize {
    bytes: usize,
    count: usize,
}

impl NodeSize {
    /// Adds an element to the node, if it is its first or there is room.
    fn add(&mut self, element: &Element<'_>, limit: i64) -> bool {
        let (bytes_max, count_max) = limits(limit);
        let fits = self.count == 0
            || (self.bytes + element.len() + OVERHEAD_BYTES <= bytes_max && self.count < count_max);
        if fits {
            self.bytes = self.bytes.max(EMPTY_BYTES) + element.redis_listpack_len();
            self.count += 1;
        }
        fits
    }
}

/// The bytes and elements of a node under `list-max-listpack-size`.
fn limits(limit: i64) -> (usize, usize) {
    match limit {
        0.. => (COUNTED_BYTES_MAX, usize::try_from(limit.max(1)).unwrap_or(usize::MAX)),
        -5..0 => (2048 << -limit, usize::MAX),
        _ => (65_536, usize::MAX),
    }
}

/// Whether an element is a node of its own.
fn is_plain(element: &Element<'_>, limit: i64) -> bool {
    element.len() > limits(limit).0
}

/// Writes how many nodes follow.
pub(super) fn put_head(out: &mut Vec<u8>, nodes: u64) {
    put_length(out, nodes);
}

impl Encoder {
    /// Counts nodes from an element on; when all are counted, writes how many they are.
    pub(super) fn count_nodes(
        &mut self,
        list: &List,
        (mut index, mut nodes, mut size): (usize, u64, NodeSize),
        out: &mut Vec<u8>,
        work: &mut Work,
    ) -> State {
        let limit = self.options.list_max_listpack_size;
        for element in list.iter_from(index) {
            if !work.admits(0) {
                return State::Count { index, nodes, size };
            }
            if is_plain(&element, limit) {
                (nodes, size) = (nodes + 1, NodeSize::default());
            } else if size.count == 0 || !size.add(&element, limit) {
                (nodes, size) = (nodes + 1, NodeSize::default());
                size.add(&element, limit);
            }
            index += 1;
        }
        put_head(out, nodes);
        State::Nodes(0)
    }

    /// Writes the node that begins with the element of that index.
    pub(super) fn node(
        &mut self,
        list: &List,
        index: usize,
        out: &mut Vec<u8>,
        work: &mut Work,
    ) -> State {
        let limit = self.options.list_max_listpack_size;
        let is_one = list.encoding_name() == "listpack";
        let mut pack = listpack::Builder::new();
        let (mut size, mut next) = (NodeSize::default(), index);
        for element in list.iter_from(index) {
            if !is_one && is_plain(&element, limit) {
                if next == index {
                    put_length(out, PLAIN);
                    work.admits(element.len());
                    self.put(&element, out);
                    next += 1;
                }
                break;
            }
            if !is_one && !size.add(&element, limit) {
                break;
            }
            pack.push(&element);
            next += 1;
        }
        if !pack.is_empty() {
            let blob = pack.finish();
            work.admits(blob.len());
            put_length(out, PACKED);
            put_text(out, &blob, self.compressor());
        }
        if next < list.len() { State::Nodes(next) } else { State::Done }
    }
}
