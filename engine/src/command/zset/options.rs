//! The options of the ZRANGE family.
#![forbid(unsafe_code)]

use std::ops::Range;

use tessera_proto::{Args, number::parse_i64};

use super::bounds::{Bounds, By};
use crate::{command::CommandError, types::Zset};

/// Which of the family's options a command fixes by its name.
#[derive(Clone, Copy)]
pub(super) struct Form {
    /// What the range goes by, if the name says so.
    pub(super) by: Option<By>,
    /// The direction, if the name says so.
    pub(super) reverse: Option<bool>,
    /// Whether it stores, and so has no WITHSCORES.
    pub(super) stores: bool,
}

/// A range as a client asked for it.
pub(super) struct RangeQuery<'a> {
    bounds: Bounds<'a>,
    pub(super) reverse: bool,
    pub(super) with_scores: bool,
    /// Members to pass over; negative for all.
    offset: i64,
    /// Most members; negative for all.
    limit: i64,
}

impl<'a> RangeQuery<'a> {
    /// The query of which the bounds are the arguments `at` and `at + 1`, the options behind them.
    pub(super) fn parse(args: &Args<'a>, at: usize, form: Form) -> Result<Self, CommandError> {
        let (mut by, mut reverse, mut with_scores) = (form.by, form.reverse, false);
        let (mut offset, mut limit) = (0, -1);
        let mut rest = args.tail(at + 2).iter();
        while let Some(word) = rest.next() {
            if !form.stores && word.eq_ignore_ascii_case(b"WITHSCORES") {
                with_scores = true;
            } else if word.eq_ignore_ascii_case(b"LIMIT") {
                let (first, second) = rest.next().zip(rest.next()).ok_or(CommandError::Syntax)?;
                offset = parse_i64(first).ok_or(CommandError::NotAnInteger)?;
                limit = parse_i64(second).ok_or(CommandError::NotAnInteger)?;
            } else if form.reverse.is_none() && word.eq_ignore_ascii_case(b"REV") {
                reverse = Some(true);
            } else if by.is_none() && word.eq_ignore_ascii_case(b"BYLEX") {
                by = Some(By::Lex);
            } else if by.is_none() && word.eq_ignore_ascii_case(b"BYSCORE") {
                by = Some(By::Score);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        check(by, limit, with_scores)?;
        let swapped = reverse && by != By::Rank;
        let (min, max) = if swapped { (at + 1, at) } else { (at, at + 1) };
        let bounds = Bounds::parse(by, get(args, min)?, get(args, max)?)?;
        Ok(Self { bounds, reverse, with_scores, offset, limit })
    }

    /// The ranks that the query means, counted from the lowest score.
    pub(super) fn ranks(&self, zset: &Zset) -> Range<usize> {
        let Range { start, end } = self.bounds.ranks(zset, self.reverse);
        let len = end - start;
        let skip = usize::try_from(self.offset).map_or(len, |offset| offset.min(len));
        let take = usize::try_from(self.limit).map_or(len - skip, |limit| limit.min(len - skip));
        if self.reverse { end - skip - take..end - skip } else { start + skip..start + skip + take }
    }
}

fn get<'a>(args: &Args<'a>, at: usize) -> Result<&'a [u8], CommandError> {
    args.get(at).ok_or(CommandError::Syntax)
}

fn check(by: By, limit: i64, with_scores: bool) -> Result<(), CommandError> {
    if limit != -1 && by == By::Rank {
        return Err(CommandError::text(
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ));
    }
    if with_scores && by == By::Lex {
        return Err(CommandError::text(
            "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        ));
    }
    Ok(())
}
