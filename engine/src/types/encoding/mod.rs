//! How collections lie in memory.
//!
//! Small ones are one packed allocation ([`listpack`], [`intset`]) whose raw bytes may stand inside
//! a keyspace entry. Large ones are trees ([`tree`]) of reference-counted nodes of at most 4 KiB,
//! whose leaves are slotted pages ([`page`]): holding a root captures the whole content in O(1),
//! and a later write copies only the path of nodes that it changes. [`order`] says by what a tree
//! is sorted: position, hash of the member, or score.
#![forbid(unsafe_code)]

pub mod element;
pub mod intset;
pub mod listpack;
pub mod order;
pub mod page;
pub mod tree;

pub use element::Element;
