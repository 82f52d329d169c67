//! LCS: the longest common subsequence of two strings.
//!
//! The textbook table of lengths, walked back from its end. Which of several longest subsequences
//! comes out, and into which ranges it falls, is fixed by that walk; it is Redis's.
#![forbid(unsafe_code)]

use tessera_proto::{ReplyWriter, number::parse_i64};

use super::text::Text;
use crate::command::prelude::*;

/// What the client wants to know.
#[derive(Default)]
struct Options {
    /// The length alone.
    len: bool,
    /// The ranges that match.
    idx: bool,
    /// With each range its length.
    with_match_len: bool,
    /// The shortest ranges to show.
    min_match_len: usize,
}

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]: the subsequence, its length, or the
/// ranges.
pub(super) fn lcs(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let a = string_or_empty(cx, &args[1])?;
    let b = string_or_empty(cx, &args[2])?;
    let options = Options::parse(args)?;
    let table = LengthTable::build(&a, &b, cx.settings.bulk_bytes_max)?;
    if options.idx {
        reply_ranges(&mut cx.reply, &table, &options);
    } else if options.len {
        cx.reply.count(table.total());
    } else {
        cx.reply.bulk(&table.subsequence());
    }
    Ok(Effect::Unchanged)
}

fn string_or_empty(cx: &mut Context<'_>, key: &[u8]) -> Result<Vec<u8>, CommandError> {
    let Some(entry) = cx.keyspace.read(key) else { return Ok(Vec::new()) };
    match Text::of(entry.body()) {
        Ok(text) => Ok(text.with_bytes(<[u8]>::to_vec)),
        Err(_) => Err(CommandError::text("ERR The specified keys must contain string values")),
    }
}

impl Options {
    fn parse(args: &Args<'_>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        let mut rest = args.iter().skip(3);
        while let Some(word) = rest.next() {
            if word.eq_ignore_ascii_case(b"IDX") {
                options.idx = true;
            } else if word.eq_ignore_ascii_case(b"LEN") {
                options.len = true;
            } else if word.eq_ignore_ascii_case(b"WITHMATCHLEN") {
                options.with_match_len = true;
            } else if word.eq_ignore_ascii_case(b"MINMATCHLEN") {
                let given = rest.next().ok_or(CommandError::Syntax)?;
                let least = parse_i64(given).ok_or(CommandError::NotAnInteger)?;
                options.min_match_len = usize::try_from(least).unwrap_or(0);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if options.len && options.idx {
            return Err(CommandError::text(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

/// For every pair of prefixes of two strings the length of their longest common subsequence.
struct LengthTable<'a> {
    a: &'a [u8],
    b: &'a [u8],
    lengths: Vec<u32>,
}

/// A stretch that both strings have: where it starts in each, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

impl<'a> LengthTable<'a> {
    fn build(a: &'a [u8], b: &'a [u8], bytes_max: usize) -> Result<Self, CommandError> {
        if a.len().max(b.len()) >= u32::MAX as usize - 1 {
            return Err(CommandError::text("ERR String too long for LCS"));
        }
        let cells = (a.len() + 1) * (b.len() + 1);
        if cells.checked_mul(size_of::<u32>()).is_none_or(|bytes| bytes > bytes_max) {
            return Err(CommandError::text(
                "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
            ));
        }
        let mut table = Self { a, b, lengths: vec![0; cells] };
        let width = b.len() + 1;
        for (i, byte) in a.iter().enumerate() {
            let (done, rest) = table.lengths.split_at_mut((i + 1) * width);
            let (above, row) = (&done[i * width..], &mut rest[..width]);
            for (j, other) in b.iter().enumerate() {
                row[j + 1] = if byte == other { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
        Ok(table)
    }

    /// The length for the first `i` bytes of `a` and the first `j` of `b`.
    fn length(&self, i: usize, j: usize) -> usize {
        self.lengths[i * (self.b.len() + 1) + j] as usize
    }

    fn total(&self) -> usize {
        self.length(self.a.len(), self.b.len())
    }

    /// Calls `pair` with the positions of the bytes of the subsequence, from the last to the first.
    fn walk_back(&self, mut pair: impl FnMut(usize, usize)) {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                (i, j) = (i - 1, j - 1);
                pair(i, j);
            } else if self.length(i - 1, j) > self.length(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }

    fn subsequence(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.total());
        self.walk_back(|i, _| bytes.push(self.a[i]));
        bytes.reverse();
        bytes
    }

    /// The stretches of the subsequence that are contiguous in both strings, the last first.
    fn matches(&self) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        self.walk_back(|i, j| match matches.last_mut() {
            Some(last) if (last.a, last.b) == (i + 1, j + 1) => {
                *last = Match { a: i, b: j, len: last.len + 1 };
            }
            _ => matches.push(Match { a: i, b: j, len: 1 }),
        });
        matches
    }
}

fn reply_ranges(reply: &mut ReplyWriter<'_>, table: &LengthTable<'_>, options: &Options) {
    let mut matches = table.matches();
    matches.retain(|found| found.len >= options.min_match_len);
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.len());
    for found in matches {
        reply.array(2 + usize::from(options.with_match_len));
        for start in [found.a, found.b] {
            reply.array(2);
            reply.count(start);
            reply.count(start + found.len - 1);
        }
        if options.with_match_len {
            reply.count(found.len);
        }
    }
    reply.bulk(b"len");
    reply.count(table.total());
}
