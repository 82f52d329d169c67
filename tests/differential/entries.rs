//! Templates of the commands on streams, the words in them, and how replies that tell the time are
//! compared.
//!
//! Ids come from a counter, so that most entries can be added; the others lie a little before it.

use fastrand::Rng;

use crate::harness::Reply;

pub(super) const STREAMS: &[&str] = &[
    "XADD <near> <next-id> <fields>",
    "XADD <near> <next-id> <fields>",
    "XADD <near> <next-id> <fields>",
    "XADD <near> <next-id> <fields>",
    "XADD <near> <next-id> <fields>",
    "XADD <near> <next-id> <fields>",
    "XADD <near> <next-ms>-* <fields>",
    "XADD <near> <old-id> <fields>",
    "XADD <near> NOMKSTREAM <next-id> <fields>",
    "XADD <near> MAXLEN 200 <next-id> <fields>",
    "XADD <near> MAXLEN ~ 150 <next-id> <fields>",
    "XADD <near> <trim> <next-id> <fields>",
    "<rarely>XTRIM <near> <trim>",
    "XTRIM <near> MINID ~ <old-id>",
    "XDEL <near> <old-id> <old-id>",
    "XDEL <near> <old-id>",
    "XLEN <near>",
    "XRANGE <near> <id-bound> <id-bound>",
    "XRANGE <near> <id-bound> <id-bound> COUNT <few>",
    "XREVRANGE <near> <id-bound> <id-bound> COUNT <few>",
    "XREVRANGE <near> + - COUNT 1",
    "XREAD COUNT <few> STREAMS <near> <near> <old-id> <old-id>",
    "XREAD STREAMS <near> <old-id>",
    "XREAD BLOCK 1 COUNT 1 STREAMS <near> $",
    "<rarely>XSETID <near> <next-id>",
    "<rarely>XSETID <near> <next-id> ENTRIESADDED 1000 MAXDELETEDID <old-id>",
    "XGROUP CREATE <near> <group> <old-id>",
    "XGROUP CREATE <near> <group> $ MKSTREAM",
    "XGROUP CREATE <near> <group> 0 ENTRIESREAD <few>",
    "<rarely>XGROUP SETID <near> <group> <old-id>",
    "<rarely>XGROUP SETID <near> <group> $ ENTRIESREAD <few>",
    "<rarely>XGROUP DESTROY <near> <group>",
    "XGROUP CREATECONSUMER <near> <group> <new-consumer>",
    "XGROUP DELCONSUMER <near> <group> <consumer>",
    "XREADGROUP GROUP <group> <consumer> COUNT <few> STREAMS <near> >",
    "XREADGROUP GROUP <group> <consumer> COUNT <few> STREAMS <near> >",
    "XREADGROUP GROUP <group> <consumer> STREAMS <near> >",
    "XREADGROUP GROUP <group> <consumer> NOACK COUNT 2 STREAMS <near> >",
    "XREADGROUP GROUP <group> <consumer> STREAMS <near> <old-id>",
    "XREADGROUP GROUP <group> <consumer> COUNT 1 BLOCK 1 STREAMS <near> 0",
    "XREADGROUP GROUP <group> <consumer> COUNT 3 STREAMS <near> <near> 0 >",
    "XACK <near> <group> <old-id> <old-id> <old-id>",
    "XPENDING <near> <group>",
    "XPENDING <near> <group> <id-bound> <id-bound> <few>",
    "XPENDING <near> <group> - + 20 <consumer>",
    "XPENDING <near> <group> IDLE 100000000 - + 10",
    "XCLAIM <near> <group> <consumer> 0 <old-id> <old-id> <claim-option>",
    "XCLAIM <near> <group> <consumer> 0 <old-id> <old-id> FORCE <claim-option>",
    "XCLAIM <near> <group> <consumer> 100000000 <old-id>",
    "XAUTOCLAIM <near> <group> <consumer> 0 <id-bound> COUNT <few>",
    "XAUTOCLAIM <near> <group> <consumer> 0 0 JUSTID",
    "XINFO STREAM <near>",
    "XINFO STREAM <near> FULL COUNT <few>",
    "XINFO STREAM <near> FULL",
    "XINFO GROUPS <near>",
    "XINFO CONSUMERS <near> <group>",
    "TYPE <near>",
    "OBJECT ENCODING <near>",
    "COPY <near> <near> REPLACE",
    "<rarely>SET <near> <value>",
    "<rarely>DEL <near>",
];

/// The words that stand for a word of these templates, if it is one of theirs. `clock` numbers the
/// entries.
pub(super) fn fill(word: &str, random: &mut Rng, clock: &mut u64) -> Option<Vec<Vec<u8>>> {
    let text = match word {
        "<next-id>" => {
            *clock += random.u64(0..3);
            id(*clock)
        }
        "<next-ms>-*" => format!("{}-*", *clock / 4 + random.u64(0..2)),
        "<old-id>" => old_id(random, *clock),
        "<id-bound>" => match random.u8(0..8) {
            0 => "-".into(),
            1 => "+".into(),
            2 => format!("({}", old_id(random, *clock)),
            3 => (*clock / 4).saturating_sub(random.u64(0..40)).to_string(),
            _ => old_id(random, *clock),
        },
        "<fields>" => return Some(fields(random)),
        "<trim>" => return Some(trim(random, *clock)),
        "<group>" => pick(random, &["g", "g", "group"]).into(),
        "<consumer>" => pick(random, &["alice", "bob", "carol"]).into(),
        "<new-consumer>" => pick(random, &["dave", "erin"]).into(),
        "<claim-option>" => return Some(claim_option(random, *clock)),
        _ => return None,
    };
    Some(vec![text.into_bytes()])
}

fn pick<'a>(random: &mut Rng, list: &[&'a str]) -> &'a str {
    list[random.usize(0..list.len())]
}

/// Four ids a millisecond.
fn id(number: u64) -> String {
    format!("{}-{}", number / 4, number % 4)
}

fn old_id(random: &mut Rng, clock: u64) -> String {
    match random.u8(0..20) {
        0 => "0".into(),
        // Not the greatest id there is: once an entry of it was deleted, 7.0 lets XSETID go back behind
        // it, and Valkey 8 does not.
        1 => pick(random, &["x", "0-0", "5-5-5", "", "18446744073709551616", "1-"]).into(),
        2..8 => id(clock.saturating_sub(random.u64(0..8))),
        _ => id(clock.saturating_sub(random.u64(0..500))),
    }
}

/// Mostly the same fields, so that blocks leave them out.
fn fields(random: &mut Rng) -> Vec<Vec<u8>> {
    let names: &[&str] = match random.u8(0..10) {
        0 => &["other"],
        1 => &["humidity", "temperature"],
        2 => &["1", "2", "3"],
        _ => &["temperature", "humidity"],
    };
    let mut words = Vec::new();
    for name in names {
        words.push(name.as_bytes().to_vec());
        words.push(match random.u8(0..12) {
            0 => vec![b'x'; [0, 63, 64, 130, 700, 4500][random.usize(0..6)]],
            1 => random.i64(..).to_string().into_bytes(),
            2 => pick(random, &["", "007", "-0", "\r\n\0\u{ff}"]).into(),
            _ => random.i32(-500..500).to_string().into_bytes(),
        });
    }
    if random.u8(0..40) == 0 {
        words.pop();
    }
    words
}

fn trim(random: &mut Rng, clock: u64) -> Vec<Vec<u8>> {
    let mut words: Vec<String> = Vec::new();
    if random.bool() {
        words.push("MAXLEN".into());
        words.extend(["=", "~", "~"].get(random.usize(0..4)).map(|&mark| mark.into()));
        words.push(random.i32(-1..120).to_string());
    } else {
        words.push("minid".into());
        words.extend(["=", "~", "~"].get(random.usize(0..4)).map(|&mark| mark.into()));
        words.push(old_id(random, clock));
    }
    if random.u8(0..4) == 0 {
        words.extend(["LIMIT".into(), random.i32(-1..250).to_string()]);
    }
    words.into_iter().map(String::into_bytes).collect()
}

fn claim_option(random: &mut Rng, clock: u64) -> Vec<Vec<u8>> {
    let words: Vec<String> = match random.u8(0..7) {
        0 => vec!["JUSTID".into()],
        1 => vec!["IDLE".into(), "1000".into()],
        2 => vec!["TIME".into(), "1000".into(), "justid".into()],
        3 => vec!["RETRYCOUNT".into(), random.i32(-1..9).to_string()],
        4 => vec!["LASTID".into(), old_id(random, clock)],
        5 => vec!["RETRYCOUNT".into(), "5".into(), "IDLE".into(), "x".into()],
        _ => vec![],
    };
    words.into_iter().map(String::into_bytes).collect()
}

/// Whether the template's command answers times.
pub(super) fn tells_times(template: &str) -> bool {
    template.starts_with("XINFO") || template.starts_with("XPENDING")
}

/// Figures that are left out: times, what Redis 7.0 does not show yet, how the tree of blocks is
/// made, and how far groups have read, which 7.0 judges otherwise behind deleted entries. Beside
/// Valkey 8 (`TESSERA_REDIS_SERVER`) the last two may be compared. Consumers without pending entries
/// are left out too: XCLAIM and XAUTOCLAIM make a consumer in any case since 7.2, in 7.0 only with
/// something for it.
const LEFT_OUT: [&[u8]; 7] = [
    b"idle",
    b"inactive",
    b"seen-time",
    b"active-time",
    b"radix-tree-nodes",
    b"entries-read",
    b"lag",
];

/// A reply without its times.
pub(super) fn without_times(reply: &Reply) -> Reply {
    let Reply::Array(items) = reply else { return reply.clone() };
    let mut kept = Vec::new();
    let mut rest = items.iter();
    while let Some(item) = rest.next() {
        match item {
            Reply::Bulk(name) if LEFT_OUT.contains(&&name[..]) => drop(rest.next()),
            // The number of a group's consumers, not their list.
            Reply::Bulk(name)
                if name == b"consumers" && matches!(rest.as_slice(), [Reply::Integer(_), ..]) =>
            {
                rest.next();
            }
            _ if is_idle_consumer(item) => {}
            _ => kept.push(without_times(item)),
        }
    }
    // What is pending: id, consumer, time, deliveries; or id, time, deliveries.
    let time = match &kept[..] {
        [Reply::Bulk(_), Reply::Bulk(_), Reply::Integer(_), Reply::Integer(_)] => Some(2),
        [Reply::Bulk(_), Reply::Integer(_), Reply::Integer(_)] => Some(1),
        _ => None,
    };
    if let Some(time) = time {
        kept.remove(time);
    }
    Reply::Array(kept)
}

/// Whether this is a consumer that has nothing pending.
fn is_idle_consumer(reply: &Reply) -> bool {
    let Reply::Array(items) = reply else { return false };
    let is = |at: usize, name: &[u8]| items.get(at) == Some(&Reply::bulk(name));
    let has_none = |at: usize, name: &[u8]| is(at, name) && items[at + 1] == Reply::Integer(0);
    let is_listed = is(4, b"idle") && has_none(2, b"pending");
    let is_shown_in_full =
        is(2, b"seen-time") && (has_none(4, b"pel-count") || has_none(6, b"pel-count"));
    is(0, b"name") && (is_listed || is_shown_in_full)
}
