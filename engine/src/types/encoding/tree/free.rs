//! Freeing trees in slices, since a step of a shard must not take longer than half a millisecond.
#![forbid(unsafe_code)]

use triomphe::Arc;

use super::{Node, Order, Tree};

/// Nodes that fell off a tree. Dropping it frees them all at once.
#[derive(Debug)]
#[must_use]
pub struct Garbage<O: Order> {
    nodes: Vec<Node<O>>,
}

impl<O: Order> Tree<O> {
    /// The tree's nodes, to be freed.
    pub fn into_garbage(self) -> Garbage<O> {
        Garbage { nodes: vec![self.root] }
    }
}

impl<O: Order> Garbage<O> {
    pub(super) fn new() -> Self {
        Self { nodes: Vec::new() }
    }

    pub(super) fn push(&mut self, node: Node<O>) {
        self.nodes.push(node);
    }

    /// Whether nothing is left to free.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Frees up to `budget` nodes; whether nothing is left. Nodes that a capture holds stay alive
    /// and cost one step, however much is below them.
    pub fn free_slice(&mut self, budget: usize) -> bool {
        for _ in 0..budget {
            match self.nodes.pop() {
                None => return true,
                Some(Node::Leaf(_)) => {}
                Some(Node::Inner(inner)) => {
                    if let Ok(inner) = Arc::try_unwrap(inner) {
                        self.nodes.extend(inner.children.into_iter().map(|child| child.node));
                    }
                }
            }
        }
        self.nodes.is_empty()
    }
}
