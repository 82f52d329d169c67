//! Saving: all shards as they are at one instant, in one file that redis-server loads.
//!
//! # How
//!
//! BGSAVE, SAVE and the save points begin a [`Save`]. The word to begin goes to all workers through
//! one cut (see `crate::cut`), so that the shards are captured as they are at one place in the one
//! order of commands. From then on each worker, between its turns, does slices of its shard's
//! [`Snapshot`](tessera_engine::persist::snapshot::Snapshot) (see [`drive`]). The pieces that come of
//! it go to the disk through the worker's ring, few at a time ([`piece_writer`]); all workers write the
//! same file, each at places that it takes by adding to one shared length. The worker that is done last
//! writes head and end, waits until the file is durable, and gives it its name.
//!
//! # Invariants
//!
//! - no step takes longer than half a millisecond, and no turn waits for a file;
//! - memory is bounded: pieces under way ([`piece_writer::PIECES_MAX`] a worker), and what commands had to
//!   preserve. When that exceeds its budget, those wait that would add to it, until the disk has taken
//!   some of it: they go on at the pace of the disk. On the own shard these are the writes to keys that
//!   are not captured yet; of another shard a worker knows only that it is over its budget;
//! - the file has another name until it is whole and durable: whenever the process ends, the old file
//!   or the new one is there;
//! - a save that fails (disk full, directory gone) leaves no file and no capture behind, and says why in
//!   the log and in INFO;
//! - one save at a time, and the next begins when the last worker is through with the one before.

pub mod at_once;
pub mod drive;
mod parts;
pub mod piece_writer;
pub mod points;
mod record;
pub mod save;

pub use record::{Record, Saves, Why};
pub use save::{Save, plan, plan_rewrite};
