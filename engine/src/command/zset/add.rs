//! ZADD and ZINCRBY.
#![forbid(unsafe_code)]

use smallvec::SmallVec;
use tessera_proto::float::parse_f64;

use crate::{
    command::{collection::update_or_create, prelude::*},
    types::{Thresholds, Zset, zset::Change},
};

/// The scores of one command.
pub(in crate::command) type Scores = SmallVec<[f64; 8]>;

/// The options of ZADD.
#[derive(Clone, Copy, Default)]
pub(in crate::command) struct Options {
    /// NX: only new members.
    pub(in crate::command) new_only: bool,
    /// XX: only members that are there.
    pub(in crate::command) existing_only: bool,
    /// GT: scores only rise.
    rising: bool,
    /// LT: scores only fall.
    falling: bool,
    /// CH: answer how many members have another score, not only new ones.
    pub(in crate::command) count_changed: bool,
    /// INCR: add to the score.
    increment: bool,
}

/// What became of one member.
enum Outcome {
    Added,
    Moved,
    /// The score was this already.
    Kept,
    /// An option forbade it.
    Refused,
}

/// What became of all.
#[derive(Default)]
struct Tally {
    added: usize,
    moved: usize,
    /// The score of the last member that no option refused.
    score: Option<f64>,
}

/// ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member …].
pub(super) fn zadd(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (options, first) = Options::parse(args);
    let pairs = args.tail(first);
    if pairs.is_empty() || pairs.len() % 2 == 1 {
        return Err(CommandError::Syntax);
    }
    options.check(pairs.len() / 2)?;
    add(cx, &args[1], options, &pairs)
}

/// ZINCRBY key increment member: the score after.
pub(super) fn zincrby(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let options = Options { increment: true, ..Options::default() };
    add(cx, &args[1], options, &args.tail(2))
}

impl Options {
    /// The options, and the position of the first score.
    fn parse(args: &Args<'_>) -> (Self, usize) {
        let mut options = Self::default();
        for at in 2..args.len() {
            let word = &args[at];
            let option = match word.len() {
                2 if word.eq_ignore_ascii_case(b"NX") => &mut options.new_only,
                2 if word.eq_ignore_ascii_case(b"XX") => &mut options.existing_only,
                2 if word.eq_ignore_ascii_case(b"GT") => &mut options.rising,
                2 if word.eq_ignore_ascii_case(b"LT") => &mut options.falling,
                2 if word.eq_ignore_ascii_case(b"CH") => &mut options.count_changed,
                4 if word.eq_ignore_ascii_case(b"INCR") => &mut options.increment,
                _ => return (options, at),
            };
            *option = true;
        }
        (options, args.len())
    }

    fn check(self, pairs: usize) -> Result<(), CommandError> {
        let error = if self.new_only && self.existing_only {
            "ERR XX and NX options at the same time are not compatible"
        } else if (self.new_only && (self.rising || self.falling)) || (self.rising && self.falling)
        {
            "ERR GT, LT, and/or NX options at the same time are not compatible"
        } else if self.increment && pairs > 1 {
            "ERR INCR option supports a single increment-element pair"
        } else {
            return Ok(());
        };
        Err(CommandError::text(error))
    }

    /// Adds one member as the options say; its score after.
    fn add_one(
        self,
        zset: &mut Zset,
        member: &[u8],
        score: f64,
        thresholds: &Thresholds,
    ) -> Result<(Outcome, f64), CommandError> {
        if self.is_plain() {
            return Ok((outcome(zset.set(member, score, thresholds)), score));
        }
        let Some(old) = zset.score(member) else {
            if self.existing_only {
                return Ok((Outcome::Refused, score));
            }
            return Ok((outcome(zset.set(member, score, thresholds)), score));
        };
        let score = if self.increment { old + score } else { score };
        if self.new_only {
            return Ok((Outcome::Refused, old));
        }
        if score.is_nan() {
            return Err(CommandError::text("ERR resulting score is not a number (NaN)"));
        }
        if (self.falling && score >= old) || (self.rising && score <= old) {
            return Ok((Outcome::Refused, old));
        }
        Ok((outcome(zset.set(member, score, thresholds)), score))
    }

    /// Whether the score before does not matter.
    fn is_plain(self) -> bool {
        !(self.new_only || self.existing_only || self.rising || self.falling || self.increment)
    }
}

fn outcome(change: Change) -> Outcome {
    match change {
        Change::Added => Outcome::Added,
        Change::Moved => Outcome::Moved,
        Change::Unchanged => Outcome::Kept,
    }
}

/// Adds the scores and members of `pairs`.
fn add(
    cx: &mut Context<'_>,
    key: &[u8],
    options: Options,
    pairs: &Args<'_>,
) -> Result<Effect, CommandError> {
    // All scores are looked at before the first member is added.
    let mut scores = Scores::new();
    for at in (0..pairs.len()).step_by(2) {
        scores.push(parse_f64(&pairs[at]).ok_or(CommandError::NotAFloat)?);
    }
    add_scored(cx, key, options, &scores, |number| &pairs[2 * number + 1])
}

/// Gives members, which `member` knows by their numbers, their `scores`; answers and reports what that
/// changed.
pub(in crate::command) fn add_scored<'a>(
    cx: &mut Context<'_>,
    key: &[u8],
    options: Options,
    scores: &[f64],
    member: impl Fn(usize) -> &'a [u8],
) -> Result<Effect, CommandError> {
    let slot = cx.keyspace.slot(key);
    let tally = if options.existing_only && slot.is_vacant() {
        Tally::default()
    } else {
        let thresholds = &cx.settings.thresholds;
        update_or_create(slot, Zset::new, |zset| {
            let longest = (0..scores.len()).map(|number| member(number).len()).max();
            zset.expect(scores.len(), longest.unwrap_or(0), thresholds);
            add_all(zset, options, scores, member, thresholds)
        })?
    };
    match (options.increment, tally.score) {
        (true, Some(score)) => cx.reply.double(score),
        (true, None) => cx.reply.null(),
        (false, _) if options.count_changed => cx.reply.count(tally.added + tally.moved),
        (false, _) => cx.reply.count(tally.added),
    }
    let changes = tally.added + tally.moved;
    if changes > 0 {
        cx.notify(Class::SORTED_SET, if options.increment { "zincr" } else { "zadd" }, key);
    }
    Ok(Effect::count(changes as u64))
}

fn add_all<'a>(
    zset: &mut Zset,
    options: Options,
    scores: &[f64],
    member: impl Fn(usize) -> &'a [u8],
    thresholds: &Thresholds,
) -> Result<Tally, CommandError> {
    let mut tally = Tally::default();
    for (number, &score) in scores.iter().enumerate() {
        let (outcome, score) = options.add_one(zset, member(number), score, thresholds)?;
        match outcome {
            Outcome::Added => tally.added += 1,
            Outcome::Moved => tally.moved += 1,
            Outcome::Kept => {}
            Outcome::Refused => continue,
        }
        tally.score = Some(score);
    }
    Ok(tally)
}
