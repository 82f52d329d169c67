//! Commands that read lists.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use crate::{
    command::{
        collection::{read, reply_element, stretch},
        prelude::*,
        walk::{Content, Walk, is_long},
    },
    types::{Element, List},
};

/// LLEN key.
pub(super) fn llen(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let len = read::<List>(cx.keyspace, &args[1])?.map_or(0, |list| list.len());
    cx.reply.count(len);
    Ok(Effect::Unchanged)
}

/// LINDEX key index.
pub(super) fn lindex(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let Some(list) = read::<List>(cx.keyspace, &args[1])? else {
        cx.reply.null();
        return Ok(Effect::Unchanged);
    };
    let index = parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
    match position(index, list.len()).and_then(|index| list.get(index)) {
        Some(element) => reply_element(&mut cx.reply, element),
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// LRANGE key start stop.
pub(super) fn lrange(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let first = parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
    let last = parse_i64(&args[3]).ok_or(CommandError::NotAnInteger)?;
    let Some(list) = read::<List>(cx.keyspace, &args[1])? else {
        cx.reply.array(0);
        return Ok(Effect::Unchanged);
    };
    let (start, end) = stretch(first, last, list.len());
    cx.reply.array(end - start);
    if is_long(end - start, cx.is_script) {
        let content = Content::List(list.into_owned());
        let protocol = cx.reply.protocol();
        cx.reply.later(Walk::over(content, start..end, protocol, cx.keyspace.deferred_free()));
        return Ok(Effect::Unchanged);
    }
    for element in list.iter_from(start).take(end - start) {
        reply_element(&mut cx.reply, element);
    }
    Ok(Effect::Unchanged)
}

/// LPOS key element [RANK rank] [COUNT matches] [MAXLEN length].
pub(super) fn lpos(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let options = PositionOptions::parse(args)?;
    let list = read::<List>(cx.keyspace, &args[1])?;
    let found = list.map_or_else(Vec::new, |list| options.search(&list, &args[2]));
    match (options.count, found.first()) {
        (Some(_), _) => {
            cx.reply.array(found.len());
            found.into_iter().for_each(|index| cx.reply.count(index));
        }
        (None, Some(&index)) => cx.reply.count(index),
        (None, None) => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// The index that `index`, from the end if negative, means in a list of `len`.
pub(super) fn position(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(len as i64)? } else { index };
    usize::try_from(index).ok().filter(|&index| index < len)
}

/// The options of LPOS.
struct PositionOptions {
    /// Matches to pass over before the first to answer.
    skip: usize,
    from_back: bool,
    /// Most matches to answer, 0 for all; none for the first alone.
    count: Option<usize>,
    /// Most elements to look at.
    look: usize,
}

impl PositionOptions {
    fn parse(args: &Args<'_>) -> Result<Self, CommandError> {
        let (mut rank, mut count, mut look) = (1, None, 0);
        let mut words = args.iter().skip(3);
        while let Some(word) = words.next() {
            let value = words.next().ok_or(CommandError::Syntax)?;
            if word.eq_ignore_ascii_case(b"RANK") {
                rank = parse_rank(value)?;
            } else if word.eq_ignore_ascii_case(b"COUNT") {
                count = Some(parse_positive(value, "ERR COUNT can't be negative")?);
            } else if word.eq_ignore_ascii_case(b"MAXLEN") {
                look = parse_positive(value, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(Self {
            skip: rank.unsigned_abs() as usize - 1,
            from_back: rank < 0,
            count,
            look: if look == 0 { usize::MAX } else { look },
        })
    }

    fn search(&self, list: &List, text: &[u8]) -> Vec<usize> {
        let len = list.len();
        if self.from_back {
            let mut found = self.matches(list.iter_back_from(len), text);
            found.iter_mut().for_each(|index| *index = len - 1 - *index);
            found
        } else {
            self.matches(list.iter_from(0), text)
        }
    }

    fn matches<'a>(&self, elements: impl Iterator<Item = Element<'a>>, text: &[u8]) -> Vec<usize> {
        let limit = match self.count {
            None => 1,
            Some(0) => usize::MAX,
            Some(count) => count,
        };
        let looked_at = elements.take(self.look).enumerate();
        let matches = looked_at.filter(|(_, element)| element.is(text)).map(|(index, _)| index);
        matches.skip(self.skip).take(limit).collect()
    }
}

fn parse_rank(text: &[u8]) -> Result<i64, CommandError> {
    match parse_i64(text) {
        None => Err(CommandError::NotAnInteger),
        Some(0) => Err(CommandError::text(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
             or use negative to start from the end of the list",
        )),
        Some(i64::MIN) => Err(CommandError::text(
            "ERR value is out of range, value must between \
                 -9223372036854775807 and 9223372036854775807",
        )),
        Some(rank) => Ok(rank),
    }
}

fn parse_positive(text: &[u8], error: &'static str) -> Result<usize, CommandError> {
    parse_i64(text)
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| CommandError::text(error))
}
