//! The numbers of transactions over shards: one counter for all workers.
//!
//! The counter orders transactions among each other, and it tells each shard which plain commands
//! set out before a transaction did, as each parcel of commands carries the number that was last
//! drawn when it was about to take its place (its *tag*). `locks` says what a shard makes of that.
//!
//! Why one tag a parcel and not one a round: a connection may have commands in several parcels of a
//! round. If they had one tag, the first could find a transaction finished that was drawn and begun
//! meanwhile, and the second still go ahead of it on another shard.
//!
//! A transaction that was refused too often draws *alone*: until all shards have scheduled it nobody
//! else draws a number, and tags stay below its own. So nothing that is younger can
//! be in its way, and it cannot be refused again.

use std::sync::atomic::{AtomicU64, Ordering};

/// The number of one attempt of a transaction, unique and rising. It begins at one.
pub type TransactionId = u64;

/// The number last drawn when a plain command set out: transactions up to it were there already.
pub type Tag = u64;

/// The highest bit says that a transaction has drawn alone and is not yet scheduled.
const ALONE: u64 = 1 << 63;

/// The counter. All its operations are sequentially consistent, so that they stand in one order with
/// the taking of places.
#[derive(Debug, Default)]
pub struct Ids(AtomicU64);

impl Ids {
    /// Draws the number of a transaction that goes out in this round, or none while another
    /// transaction has drawn alone: ask again in a later round. Draw after the round's parcels have
    /// taken their places, so that they carry lower tags.
    pub fn draw(&self) -> Option<TransactionId> {
        self.draw_with(0)
    }

    /// Draws as [`Ids::draw`] does, and keeps all others from drawing until [`Ids::open`].
    pub fn draw_alone(&self) -> Option<TransactionId> {
        self.draw_with(ALONE)
    }

    /// Lets others draw again. The one that drew alone calls it when all shards have scheduled it
    /// and before it sends anything else.
    pub fn open(&self) {
        self.0.fetch_and(!ALONE, Ordering::SeqCst);
    }

    /// The tag of a parcel, or of the own commands of a round. Read it after the round's input has
    /// arrived and the places before are taken, and before the parcel takes its place or the first
    /// own command executes.
    pub fn tag(&self) -> Tag {
        let word = self.0.load(Ordering::SeqCst);
        if word & ALONE == 0 { word } else { (word & !ALONE) - 1 }
    }

    fn draw_with(&self, alone: u64) -> Option<TransactionId> {
        let next = |word| (word & ALONE == 0).then_some((word + 1) | alone);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).ok().map(|word| word + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_the_number_last_drawn() {
        let ids = Ids::default();
        assert_eq!(ids.tag(), 0);
        assert_eq!((ids.draw(), ids.draw()), (Some(1), Some(2)));
        assert_eq!(ids.tag(), 2);
    }

    #[test]
    fn who_draws_alone_stays_the_last_and_above_all_tags() {
        let ids = Ids::default();
        ids.draw();
        assert_eq!(ids.draw_alone(), Some(2));
        assert_eq!((ids.draw(), ids.draw_alone()), (None, None));
        assert_eq!(ids.tag(), 1);
        ids.open();
        assert_eq!((ids.tag(), ids.draw()), (2, Some(3)));
    }
}
