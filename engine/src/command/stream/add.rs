//! XADD and XTRIM.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::{
    ids::{NewId, parse_strict},
    reply_id, update, update_or_create,
};
use crate::{
    command::{Settings, prelude::*},
    types::{
        Garbage, Stream, StreamId,
        stream::{BlockLimits, Entries, Trim, TrimTo},
    },
};

/// Most bytes of an entry's fields and values together.
const ENTRY_BYTES_MAX: usize = 1 << 30;
/// Blocks that are trimmed at once with `~` and without LIMIT.
const TRIMMED_BLOCKS_MAX: u64 = 100;
/// Bounds of the entries that makes: without a limit of entries a block, and at most.
const TRIMMED_WITHOUT_LIMIT: u64 = 10_000;
const TRIMMED_MAX: u64 = 1_000_000;

/// XADD key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value
/// [field value …]: the new entry's id.
pub(super) fn xadd(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let options = AddOptions::parse(args, cx.settings)?;
    let fields = args.tail(options.id_at + 1);
    if fields.len() < 2 || fields.len() % 2 == 1 {
        return Err(CommandError::WrongArity { command: "xadd".into() });
    }
    if options.id == NewId::Exactly(StreamId::MIN) {
        return Err(CommandError::text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let (key, now_ms, limits) = (&args[1], cx.keyspace.now_ms(), block_limits(cx.settings));
    let slot = cx.keyspace.slot(key);
    if options.no_mkstream && slot.is_vacant() {
        cx.reply.null();
        return Ok(Effect::Unchanged);
    }
    let (id, trimmed) = update_or_create(slot, |stream| {
        let id = append(&mut stream.entries, options.id, now_ms, &fields, limits)?;
        Ok((id, options.trim.map(|trim| Trimmed::from(stream, &trim))))
    })?;
    reply_id(&mut cx.reply, id);
    cx.notify(Class::STREAM, "xadd", key);
    record_add(cx, args, &options, id, trimmed.as_ref());
    if let Some(trimmed) = trimmed {
        if trimmed.count > 0 {
            cx.notify(Class::STREAM, "xtrim", key);
        }
        cx.keyspace.free_later(trimmed.garbage);
    }
    Ok(Effect::Changed(1))
}

/// XTRIM key <MAXLEN | MINID> [= | ~] threshold [LIMIT count]: how many entries were removed.
pub(super) fn xtrim(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let mut options = TrimOptions::default();
    let mut at = 2;
    while at < args.len() {
        at = options.take(args, at)?.ok_or(CommandError::Syntax)?;
    }
    let Some(trim) = options.finish(cx.settings, "XTRIM")? else {
        return Err(CommandError::text(
            "ERR syntax error, XTRIM must be called with a trimming strategy",
        ));
    };
    let key = &args[1];
    let trimmed = update(cx.keyspace.slot(key), |stream| Ok(Trimmed::from(stream, &trim)))?;
    let count = trimmed.as_ref().map_or(0, |trimmed| trimmed.count);
    cx.reply.integer(count as i64);
    let Some(trimmed) = trimmed.filter(|trimmed| trimmed.count > 0) else {
        return Ok(Effect::Unchanged);
    };
    cx.notify(Class::STREAM, "xtrim", key);
    if trim.whole_blocks && cx.records() {
        let mut draft = cx.draft("XTRIM");
        draft.push(key);
        trimmed.push_to(trim.to, &mut |word| draft.push(word));
        cx.record_draft(draft);
    }
    cx.keyspace.free_later(trimmed.garbage);
    Ok(Effect::Changed(count))
}

/// When blocks are full.
pub(super) fn block_limits(settings: &Settings) -> BlockLimits {
    BlockLimits {
        bytes_max: settings.thresholds.stream_node_max_bytes,
        entries_max: settings.thresholds.stream_node_max_entries,
    }
}

/// What a trimming left.
struct Trimmed {
    count: u64,
    garbage: Garbage,
    len: u64,
    /// The first id that is left; the greatest of all if none is.
    first_id: StreamId,
}

impl Trimmed {
    fn from(stream: &mut Stream, trim: &Trim) -> Self {
        let entries = &mut stream.entries;
        let (count, garbage) = entries.trim(trim);
        let first_id = if entries.is_empty() { StreamId::MAX } else { entries.first_id() };
        Self { count, garbage, len: entries.len(), first_id }
    }

    /// Gives to `push` the words of an exact trimming that leaves the same.
    fn push_to(&self, to: TrimTo, push: &mut dyn FnMut(&[u8])) {
        match to {
            TrimTo::Len(_) => {
                let mut digits = itoa::Buffer::new();
                let words = [b"MAXLEN", &b"="[..], digits.format(self.len).as_bytes()];
                words.into_iter().for_each(push);
            }
            TrimTo::Id(_) => {
                let id = self.first_id.text();
                let words = [b"MINID", &b"="[..], id.as_bytes()];
                words.into_iter().for_each(push);
            }
        }
    }
}

fn append(
    entries: &mut Entries,
    id: NewId,
    now_ms: i64,
    fields: &Args<'_>,
    limits: BlockLimits,
) -> Result<StreamId, CommandError> {
    if entries.last_id == StreamId::MAX {
        return Err(CommandError::text(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    let id = id.resolve(entries.last_id, now_ms).ok_or(CommandError::text(
        "ERR The ID specified in XADD is equal or smaller than the target stream top item",
    ))?;
    if fields.total_bytes() > ENTRY_BYTES_MAX {
        return Err(CommandError::text("ERR Elements are too large to be stored"));
    }
    let pairs = (0..fields.len() / 2).map(|pair| (&fields[2 * pair], &fields[2 * pair + 1]));
    entries.append(id, pairs, limits);
    Ok(id)
}

/// Records an XADD whose own arguments would do something else another time.
fn record_add(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    options: &AddOptions,
    id: StreamId,
    trimmed: Option<&Trimmed>,
) {
    let is_given = matches!(options.id, NewId::Exactly(_));
    let inexact = options.trim.filter(|trim| trim.whole_blocks);
    if !cx.records() || (is_given && inexact.is_none()) {
        return;
    }
    let mut draft = cx.draft("XADD");
    draft.push(&args[1]);
    match (options.trim, trimmed) {
        (Some(trim), Some(trimmed)) if trim.whole_blocks => {
            trimmed.push_to(trim.to, &mut |word| draft.push(word));
        }
        _ => args.iter().take(options.id_at).skip(2).for_each(|word| draft.push(word)),
    }
    draft.push(id.text().as_bytes());
    args.iter().skip(options.id_at + 1).for_each(|word| draft.push(word));
    cx.record_draft(draft);
}

/// The options of XADD.
struct AddOptions {
    trim: Option<Trim>,
    no_mkstream: bool,
    id: NewId,
    /// Position of the id; the fields stand behind it.
    id_at: usize,
}

impl AddOptions {
    fn parse(args: &Args<'_>, settings: &Settings) -> Result<Self, CommandError> {
        let mut trim = TrimOptions::default();
        let (mut no_mkstream, mut at, mut id) = (false, 2, None);
        while at < args.len() {
            let word = &args[at];
            if word == b"*" {
                id = Some(NewId::Now);
                break;
            }
            if let Some(next) = trim.take(args, at)? {
                at = next;
            } else if word.eq_ignore_ascii_case(b"NOMKSTREAM") {
                no_mkstream = true;
                at += 1;
            } else {
                id = Some(NewId::parse(word)?);
                break;
            }
        }
        let trim = trim.finish(settings, "XADD")?;
        let id = id.ok_or(CommandError::WrongArity { command: "xadd".into() })?;
        Ok(Self { trim, no_mkstream, id, id_at: at })
    }
}

/// The options by which a stream is trimmed.
#[derive(Default)]
struct TrimOptions {
    to: Option<TrimTo>,
    approximate: bool,
    limit: Option<u64>,
}

impl TrimOptions {
    /// Takes the option at `at`, if it is one of these; the position behind it.
    fn take(&mut self, args: &Args<'_>, at: usize) -> Result<Option<usize>, CommandError> {
        let (word, more) = (&args[at], args.len() - at - 1);
        if more == 0 {
            return Ok(None);
        }
        let by_len = word.eq_ignore_ascii_case(b"MAXLEN");
        if by_len || word.eq_ignore_ascii_case(b"MINID") {
            if self.to.is_some() {
                return Err(CommandError::text(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            self.approximate = more >= 2 && &args[at + 1] == b"~";
            let is_marked = self.approximate || (more >= 2 && &args[at + 1] == b"=");
            let value = at + 1 + usize::from(is_marked);
            self.to = Some(threshold(&args[value], by_len)?);
            return Ok(Some(value + 1));
        }
        if word.eq_ignore_ascii_case(b"LIMIT") {
            let limit = parse_i64(&args[at + 1]).ok_or(CommandError::NotAnInteger)?;
            let limit = u64::try_from(limit)
                .map_err(|_| CommandError::text("ERR The LIMIT argument must be >= 0."))?;
            self.limit = Some(limit);
            return Ok(Some(at + 2));
        }
        Ok(None)
    }

    /// The trimming that they make, if any.
    fn finish(self, settings: &Settings, command: &str) -> Result<Option<Trim>, CommandError> {
        if self.to.is_none() && self.limit.is_some_and(|limit| limit > 0) {
            return Err(CommandError::text(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if self.to.is_none() && command == "XTRIM" {
            return Ok(None);
        }
        if self.limit.is_some() && !self.approximate {
            return Err(CommandError::text(
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            ));
        }
        let limit = match self.limit {
            Some(limit) => limit,
            None if self.approximate => limit_default(settings),
            None => 0,
        };
        Ok(self.to.map(|to| Trim { to, whole_blocks: self.approximate, limit }))
    }
}

/// What is to be left by MAXLEN or MINID.
fn threshold(text: &[u8], by_len: bool) -> Result<TrimTo, CommandError> {
    if !by_len {
        return parse_strict(text, 0).map(TrimTo::Id);
    }
    let len = parse_i64(text).ok_or(CommandError::NotAnInteger)?;
    match u64::try_from(len) {
        Ok(len) => Ok(TrimTo::Len(len)),
        Err(_) => Err(CommandError::text("ERR The MAXLEN argument must be >= 0.")),
    }
}

/// Entries that are trimmed at once unless LIMIT says otherwise.
fn limit_default(settings: &Settings) -> u64 {
    let entries = settings.thresholds.stream_node_max_entries as u64;
    match entries.saturating_mul(TRIMMED_BLOCKS_MAX) {
        0 => TRIMMED_WITHOUT_LIMIT,
        limit => limit.min(TRIMMED_MAX),
    }
}
