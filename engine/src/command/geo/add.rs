//! GEOADD: ZADD with places for scores.
#![forbid(unsafe_code)]

use super::parse_point;
use crate::command::{
    prelude::*,
    zset::add::{Options, Scores, add_scored},
};

/// GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member …].
pub(super) fn geoadd(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (options, first) = parse_options(args);
    let places = args.tail(first);
    if places.is_empty()
        || !places.len().is_multiple_of(3)
        || (options.new_only && options.existing_only)
    {
        return Err(CommandError::Syntax);
    }
    let scores = (0..places.len())
        .step_by(3)
        .map(|at| Ok(parse_point(&places[at], &places[at + 1])?.score()))
        .collect::<Result<Scores, CommandError>>()?;
    add_scored(cx, &args[1], options, &scores, |number| &places[3 * number + 2])
}

/// The options, and the position of the first longitude.
fn parse_options(args: &Args<'_>) -> (Options, usize) {
    let mut options = Options::default();
    for (at, word) in args.iter().enumerate().skip(2) {
        let option = match word {
            _ if word.eq_ignore_ascii_case(b"NX") => &mut options.new_only,
            _ if word.eq_ignore_ascii_case(b"XX") => &mut options.existing_only,
            _ if word.eq_ignore_ascii_case(b"CH") => &mut options.count_changed,
            _ => return (options, at),
        };
        *option = true;
    }
    (options, args.len())
}
