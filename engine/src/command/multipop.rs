//! What LMPOP, ZMPOP and their waiting forms have in common: a number of keys, an end of the order, and a
//! count.
#![forbid(unsafe_code)]

use super::{
    list::{parse_at_least_one, parse_pop_count},
    prelude::*,
};

/// What is to be popped, and from which of several keys; `E` names an end of the order.
pub(super) struct Multipop<'a, E> {
    args: Args<'a>,
    keys: usize,
    /// The end to pop from.
    pub(super) from: E,
    /// At most so many.
    pub(super) count: usize,
}

impl<'a, E> Multipop<'a, E> {
    /// Reads the arguments, of which the second is the number of keys.
    pub(super) fn parse(
        args: &Args<'a>,
        parse_end: impl FnOnce(&[u8]) -> Result<E, CommandError>,
    ) -> Result<Self, CommandError> {
        let keys = parse_at_least_one(&args[1], "ERR numkeys should be greater than 0")?;
        let from_at = keys.saturating_add(2);
        let from = parse_end(args.get(from_at).ok_or(CommandError::Syntax)?)?;
        let count = parse_pop_count(args, from_at + 1)?;
        Ok(Self { args: *args, keys, from, count })
    }

    /// The keys in their order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a [u8]> {
        self.args.iter().skip(2).take(self.keys)
    }
}

/// What was popped is answered already; if nothing was, says so.
pub(super) fn answer(cx: &mut Context<'_>, popped: Option<Effect>) -> Effect {
    popped.unwrap_or_else(|| {
        cx.reply.null_array();
        Effect::Unchanged
    })
}
