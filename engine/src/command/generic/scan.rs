//! Commands that look for keys: KEYS, SCAN, RANDOMKEY.
//!
//! A cursor is a position in the order of hashes, which neither growth nor shrinking changes (see
//! `keyspace::table`). It is the shard's own: the server, which knows the other shards, makes it one
//! of all.
#![forbid(unsafe_code)]

use tessera_proto::{
    glob,
    number::{parse_i64, parse_u64},
};

use crate::{
    command::prelude::*,
    keyspace::EntryRef,
    value::{Object, ValueType, value_type},
};

/// Keys that SCAN looks at unless COUNT says otherwise.
const COUNT_DEFAULT: usize = 10;

/// KEYS pattern.
pub(super) fn keys(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let pattern = &args[1];
    let array = cx.reply.deferred();
    let mut found = 0;
    cx.keyspace.for_each(|entry| {
        if matches(pattern, entry.key()) {
            cx.reply.bulk(entry.key());
            found += 1;
        }
    });
    cx.reply.finish_array(array, found);
    Ok(Effect::Unchanged)
}

/// RANDOMKEY.
pub(super) fn randomkey(cx: &mut Context<'_>, _: &Args<'_>) -> Result<Effect, CommandError> {
    match cx.keyspace.random_key(cx.random) {
        Some(key) => cx.reply.bulk(&key),
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]: the next cursor, and keys.
pub(super) fn scan(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let cursor = parse_cursor(&args[1])?;
    let options = Options::parse(args)?;
    let mut keys: Vec<&[u8]> = Vec::new();
    let cursor = cx.keyspace.scan(cursor, options.count, |entry| {
        if options.admits(&entry) {
            keys.push(entry.key());
        }
    });
    cx.reply.array(2);
    let mut digits = itoa::Buffer::new();
    cx.reply.bulk(digits.format(cursor).as_bytes());
    cx.reply.array(keys.len());
    for key in keys {
        cx.reply.bulk(key);
    }
    Ok(Effect::Unchanged)
}

/// The cursor that a client gives back, as `strtoul` reads it, with which Redis does: white space and
/// a plus sign may stand before it, and leading zeros are allowed.
pub(crate) fn parse_cursor(text: &[u8]) -> Result<u64, CommandError> {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let zeros = text.iter().take_while(|&&byte| byte == b'0').count();
    let cursor = match &text[zeros..] {
        b"" if zeros > 0 => Some(0),
        digits => parse_u64(digits),
    };
    cursor.ok_or(CommandError::text("ERR invalid cursor"))
}

/// What SCAN shall find.
struct Options<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    /// TYPE; a name that no type has finds nothing.
    of_type: Option<Option<ValueType>>,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>) -> Result<Self, CommandError> {
        let mut options = Self { count: COUNT_DEFAULT, pattern: None, of_type: None };
        let mut rest = args.iter().skip(2);
        while let Some(word) = rest.next() {
            let value = rest.next().ok_or(CommandError::Syntax)?;
            if word.eq_ignore_ascii_case(b"COUNT") {
                let count = parse_i64(value).ok_or(CommandError::NotAnInteger)?;
                let count = usize::try_from(count).ok().filter(|&count| count > 0);
                options.count = count.ok_or(CommandError::Syntax)?;
            } else if word.eq_ignore_ascii_case(b"MATCH") {
                options.pattern = Some(value);
            } else if word.eq_ignore_ascii_case(b"TYPE") {
                options.of_type = Some(ValueType::from_name(value));
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    fn admits(&self, entry: &EntryRef<'_, Object>) -> bool {
        self.pattern.is_none_or(|pattern| matches(pattern, entry.key()))
            && self.of_type.is_none_or(|wanted| wanted == Some(value_type(&entry.body())))
    }
}

/// Whether the pattern admits the key. A star alone also admits the empty key, which no other
/// pattern with a star does.
fn matches(pattern: &[u8], key: &[u8]) -> bool {
    pattern == b"*" || glob::matches(pattern, key)
}
