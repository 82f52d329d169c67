//! The bounds of ranges, and the ranks they mean.
#![forbid(unsafe_code)]

use std::ops::Range;

use tessera_proto::{float::parse_f64, number::parse_i64};

use crate::{
    command::{CommandError, collection::stretch},
    types::Zset,
};

/// What a range goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Lex,
}

/// A range of members.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bounds<'a> {
    /// First and last rank, from the end if negative.
    Rank(i64, i64),
    /// Lowest and highest score.
    Score(ScoreBound, ScoreBound),
    /// Least and greatest member, where all scores are equal.
    Lex(LexBound<'a>, LexBound<'a>),
}

/// An end of a range of scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScoreBound {
    score: f64,
    is_exclusive: bool,
}

/// An end of a range of members.
#[derive(Clone, Copy, Debug)]
pub(super) enum LexBound<'a> {
    /// `-`: before all members.
    Least,
    /// `+`: behind all members.
    Greatest,
    /// `[member`.
    Inclusive(&'a [u8]),
    /// `(member`.
    Exclusive(&'a [u8]),
}

impl<'a> Bounds<'a> {
    /// The range from `min` to `max`.
    pub(super) fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Self, CommandError> {
        match by {
            By::Rank => {
                let rank = |text| parse_i64(text).ok_or(CommandError::NotAnInteger);
                Ok(Self::Rank(rank(min)?, rank(max)?))
            }
            By::Score => ScoreBound::parse(min)
                .zip(ScoreBound::parse(max))
                .map(|(min, max)| Self::Score(min, max))
                .ok_or(CommandError::text("ERR min or max is not a float")),
            By::Lex => LexBound::parse(min)
                .zip(LexBound::parse(max))
                .map(|(min, max)| Self::Lex(min, max))
                .ok_or(CommandError::text("ERR min or max not valid string range item")),
        }
    }

    /// The ranks that the range means, counted from the lowest score; those given as ranks are
    /// counted from the highest if `reverse`.
    pub(super) fn ranks(&self, zset: &Zset, reverse: bool) -> Range<usize> {
        let (from, to) = match *self {
            Self::Rank(first, last) => {
                let len = zset.len();
                let (from, to) = stretch(first, last, len);
                if reverse { (len - to, len - from) } else { (from, to) }
            }
            Self::Score(min, max) => (
                zset.count_below(|score, _| min.is_above(score, min.is_exclusive)),
                zset.count_below(|score, _| max.is_above(score, !max.is_exclusive)),
            ),
            Self::Lex(min, max) => (
                zset.count_below(|_, member| min.is_above(member, false)),
                zset.count_below(|_, member| max.is_above(member, true)),
            ),
        };
        from..to.max(from)
    }
}

impl ScoreBound {
    fn parse(text: &[u8]) -> Option<Self> {
        let (digits, is_exclusive) = match text {
            [b'(', digits @ ..] => (digits, true),
            digits => (digits, false),
        };
        // `strtod`, with which Redis reads it, takes nothing for zero.
        let score = if digits.is_empty() { Some(0.0) } else { parse_f64(digits) };
        score.map(|score| Self { score, is_exclusive })
    }

    /// Whether `score` is below the bound, or equal to it where `or_equal`.
    fn is_above(&self, score: f64, or_equal: bool) -> bool {
        score < self.score || (or_equal && score == self.score)
    }
}

impl<'a> LexBound<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        match text {
            b"-" => Some(Self::Least),
            b"+" => Some(Self::Greatest),
            [b'[', member @ ..] => Some(Self::Inclusive(member)),
            [b'(', member @ ..] => Some(Self::Exclusive(member)),
            _ => None,
        }
    }

    /// Whether `member` is before the bound, taken for the end of a range if `is_end`, else for its
    /// beginning.
    fn is_above(&self, member: &[u8], is_end: bool) -> bool {
        match *self {
            Self::Least => false,
            Self::Greatest => true,
            Self::Inclusive(bound) if is_end => member <= bound,
            Self::Exclusive(bound) if !is_end => member <= bound,
            Self::Inclusive(bound) | Self::Exclusive(bound) => member < bound,
        }
    }
}
