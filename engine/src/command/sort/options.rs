//! The options of SORT.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::pattern::Pattern;
use crate::command::prelude::*;

/// What a client wants sorted, how, and what it wants to have of it.
#[derive(Default)]
pub(super) struct Options<'a> {
    /// BY a pattern that names other keys.
    pub(super) by: Option<Pattern<'a>>,
    /// BY something without a star: the elements stay in the order in which they are kept.
    pub(super) keeps_order: bool,
    pub(super) descending: bool,
    /// Elements are compared as texts, not as numbers.
    pub(super) alpha: bool,
    /// Elements left out at the beginning; negative for none.
    offset: i64,
    /// The most elements; negative for all.
    limit: Option<i64>,
    pub(super) gets: Vec<Pattern<'a>>,
    /// The position of the key to keep the result at.
    pub(super) store_at: Option<usize>,
}

impl<'a> Options<'a> {
    /// Reads the options behind the key. `stores` tells whether STORE is one.
    pub(super) fn parse(args: &Args<'a>, stores: bool) -> Result<Self, CommandError> {
        let mut options = Self::default();
        let mut at = 2;
        while at < args.len() {
            at += options.accept(args, at, stores)?;
        }
        Ok(options)
    }

    /// Takes in the option at `at`; how many words it has.
    fn accept(&mut self, args: &Args<'a>, at: usize, stores: bool) -> Result<usize, CommandError> {
        let is = |name: &str, behind: usize| {
            args.len() - at > behind && args[at].eq_ignore_ascii_case(name.as_bytes())
        };
        if is("ASC", 0) {
            self.descending = false;
        } else if is("DESC", 0) {
            self.descending = true;
        } else if is("ALPHA", 0) {
            self.alpha = true;
        } else if is("LIMIT", 2) {
            let number = |at| args.get(at).and_then(parse_i64).ok_or(CommandError::NotAnInteger);
            self.offset = number(at + 1)?;
            self.limit = Some(number(at + 2)?);
            return Ok(3);
        } else if stores && is("STORE", 1) {
            self.store_at = Some(at + 1);
            return Ok(2);
        } else if is("BY", 1) {
            let pattern = args.get(at + 1).map(Pattern::parse).unwrap_or_default();
            // Without a star there is nothing to look up, and nothing to sort by.
            self.keeps_order |= !pattern.has_star();
            self.by = Some(pattern).filter(Pattern::has_star);
            return Ok(2);
        } else if is("GET", 1) {
            self.gets.push(args.get(at + 1).map(Pattern::parse).unwrap_or_default());
            return Ok(2);
        } else {
            return Err(CommandError::Syntax);
        }
        Ok(1)
    }

    /// The patterns that name other keys.
    pub(super) fn patterns(&self) -> impl Iterator<Item = Pattern<'a>> {
        self.by.iter().chain(&self.gets).copied().filter(Pattern::has_star)
    }

    /// Sorts by the elements themselves, as texts.
    pub(super) fn sort_alone(&mut self) {
        self.keeps_order = false;
        self.alpha = true;
        self.by = None;
    }

    /// Which of `len` elements in their order are wanted.
    pub(super) fn range(&self, len: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(self.offset).unwrap_or(0).min(len);
        let limit = self.limit.map_or(len, |limit| usize::try_from(limit).unwrap_or(len));
        start..start.saturating_add(limit).min(len)
    }
}

/// Appends the position of the key behind the last STORE.
pub(super) fn stored_key(args: &Args<'_>, positions: &mut Vec<usize>) {
    let (mut at, mut stored) = (2, None);
    while at < args.len() {
        let is = |name: &str| args[at].eq_ignore_ascii_case(name.as_bytes());
        if is("STORE") && at + 1 < args.len() {
            stored = Some(at + 1);
        }
        at += match () {
            () if is("LIMIT") => 3,
            () if is("BY") || is("GET") || is("STORE") => 2,
            () => 1,
        };
    }
    positions.extend(stored);
}
