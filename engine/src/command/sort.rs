//! SORT and SORT_RO: the elements of a list, a set or a sorted set, in an order of the client's.
//!
//! The order and the answers may come from other keys, which patterns name: `weight_*` stands for
//! the key in whose name an element takes the star's place, `data_*->field` for a field of a hash.
//! Such keys are not among the arguments, and may be on any shard. So
//! - [`reaches_beyond`] tells, from the arguments alone, whether there may be keys elsewhere; then
//!   all shards are gathered;
//! - [`named_keys`] tells which they are once the shards stand still, and they are moved to where the
//!   command executes, like keys that were declared.
//!
//! What STORE keeps is recorded element by element: it depends on other keys, and on the order in
//! which this shard happens to keep a set.
#![forbid(unsafe_code)]

mod options;
mod order;
mod pattern;
#[cfg(test)]
mod tests;

use tessera_proto::ReplyWriter;

use super::{
    collection::{View, store},
    keys::Place,
    prelude::*,
};
use crate::{
    keyspace::Keyspace,
    types::{List, Set, Zset, list::End},
    value::{ValueType, value_type},
};
use options::{Options, stored_key};
use order::{Elements, sorted};
use pattern::{Found, Pattern};

const SORT: KeySpec = KeySpec::at(Place::FirstAnd(stored_key))
    .used(Access::RO.with(Access::ACCESS))
    .then(Access::OW.with(Access::UPDATE));
/// Not a single fixed key: patterns may name others.
const SORT_RO: KeySpec =
    KeySpec::at(Place::FirstAnd(|_, _| {})).used(Access::RO.with(Access::ACCESS));

commands! { Generic;
    /// Sorts the elements of a list, a set or a sorted set, and keeps the result if asked to.
    "sort" "1.0.0", AtLeast(2), WRITE | DENYOOM | MOVABLE_KEYS | DANGEROUS | TOUCHES_ARBITRARY_KEYS, SORT, Owner, sort;
    /// Sorts the elements of a list, a set or a sorted set.
    "sort_ro" "7.0.0", AtLeast(2), READONLY | MOVABLE_KEYS | DANGEROUS | TOUCHES_ARBITRARY_KEYS, SORT_RO, Owner, sort_ro;
}

/// SORT key [BY pattern] [LIMIT offset count] [GET pattern …] [ASC | DESC] [ALPHA] [STORE key].
fn sort(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    run(cx, args, true)
}

/// SORT_RO: SORT without STORE.
fn sort_ro(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    run(cx, args, false)
}

/// Whether a SORT may name keys that `is_near` does not hold of: keys, or names with the same
/// `{tag}`, of the shard where it is to execute.
pub(crate) fn reaches_beyond(args: &Args<'_>, is_near: impl Fn(&[u8]) -> bool) -> bool {
    // What is wrong with the arguments shows wherever it executes.
    let Ok(options) = Options::parse(args, true) else { return false };
    options.patterns().any(|pattern| match pattern.slot_name() {
        Some(name) => !is_near(name),
        None => true,
    })
}

/// The keys that a SORT names by its patterns, each perhaps several times.
pub(crate) fn named_keys(keyspace: &mut Keyspace, args: &Args<'_>) -> Vec<Vec<u8>> {
    let Ok(options) = Options::parse(args, true) else { return Vec::new() };
    let Ok(elements) = load(keyspace, &args[1]) else { return Vec::new() };
    let names = |pattern: Pattern<'_>| -> Vec<Vec<u8>> {
        elements.texts.iter().filter_map(|element| pattern.key_for(element)).collect()
    };
    options.patterns().flat_map(names).collect()
}

fn run(cx: &mut Context<'_>, args: &Args<'_>, stores: bool) -> Result<Effect, CommandError> {
    let mut options = Options::parse(args, stores)?;
    let elements = load(cx.keyspace, &args[1])?;
    if options.keeps_order && elements.is_set && (options.store_at.is_some() || cx.is_script) {
        // A set has no order of its own; what is kept, and what a script may write by, shall have one.
        options.sort_alone();
    }
    let chosen = sorted(cx.keyspace, &elements, &options)?;
    let chosen = chosen.iter().map(|&index| elements.texts.get(index));
    match options.store_at {
        Some(at) => Ok(keep(cx, &args[at], &options, chosen)),
        None => {
            answer(cx, &options, chosen);
            Ok(Effect::Unchanged)
        }
    }
}

/// The elements of what is to be sorted; none if there is no key.
fn load(keyspace: &mut Keyspace, key: &[u8]) -> Result<Elements, CommandError> {
    let mut elements = Elements::default();
    let Some(entry) = keyspace.read(key) else { return Ok(elements) };
    let body = entry.body();
    match value_type(&body) {
        ValueType::List => {
            let list = View::<List>::of(body)?;
            list.iter_from(0).for_each(|element| elements.push(&element));
        }
        ValueType::Set => {
            let set = View::<Set>::of(body)?;
            set.iter().for_each(|member| elements.push(&member));
            elements.is_set = true;
        }
        ValueType::Zset => {
            let zset = View::<Zset>::of(body)?;
            zset.iter_from(0).for_each(|(member, _)| elements.push(&member));
        }
        _ => return Err(CommandError::WrongType),
    }
    Ok(elements)
}

/// Answers the elements, or for each what GET wants.
fn answer<'e>(
    cx: &mut Context<'_>,
    options: &Options<'_>,
    chosen: impl ExactSizeIterator<Item = &'e [u8]>,
) {
    cx.reply.array(chosen.len().saturating_mul(options.gets.len().max(1)));
    for element in chosen {
        if options.gets.is_empty() {
            cx.reply.bulk(element);
        }
        for pattern in &options.gets {
            pattern.look_up(cx.keyspace, element, |found| reply_found(&mut cx.reply, found));
        }
    }
}

fn reply_found(reply: &mut ReplyWriter<'_>, found: Found<'_>) {
    match found {
        Some(text) => text.reply(reply),
        None => reply.null(),
    }
}

/// Makes `key` hold the list of the elements, or of what GET wants, and answers its length.
fn keep<'e>(
    cx: &mut Context<'_>,
    key: &[u8],
    options: &Options<'_>,
    chosen: impl Iterator<Item = &'e [u8]>,
) -> Effect {
    let mut list = List::new();
    let thresholds = &cx.settings.thresholds;
    for element in chosen {
        if options.gets.is_empty() {
            list.push(End::Back, element, thresholds);
        }
        for pattern in &options.gets {
            pattern.look_up(cx.keyspace, element, |found| match found {
                Some(text) => text.with_bytes(|text| list.push(End::Back, text, thresholds)),
                None => list.push(End::Back, b"", thresholds),
            });
        }
    }
    let len = list.len();
    let mut draft = cx.draft("RPUSH");
    draft.push(key);
    if draft.is_active() {
        list.iter_from(0).for_each(|element| element.with_bytes(|text| draft.push(text)));
    }
    let existed = store(cx.keyspace, key, list);
    if existed {
        cx.record(&[b"DEL", key]);
    }
    cx.reply.count(len);
    if len > 0 {
        cx.record_draft(draft);
        cx.notify(Class::LIST, "sortstore", key);
        return Effect::Changed(len as u64);
    }
    if existed {
        cx.notify(Class::GENERIC, "del", key);
    }
    Effect::changed_if(existed)
}
