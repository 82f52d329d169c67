//! Replies drawn from bytes, and a plain reader of what the writer makes of them.

use bytes::Bytes;

use crate::buffer::SPLICE_MIN_BYTES;
use crate::float::F64Text;
use crate::{Mark, Protocol, ReplyBuffer, ReplyWriter};

/// Most levels of aggregates in a drawn reply.
const DEPTH_MAX: usize = 4;

/// A reply as a command means it.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status.
    Simple(String),
    /// An error.
    Error(String),
    /// An integer.
    Integer(i64),
    /// A string that is copied.
    Bulk(Vec<u8>),
    /// A string that is handed over.
    BulkOwned(Bytes),
    /// Nothing instead of a string.
    Null,
    /// Nothing instead of an array.
    NullArray,
    /// A double.
    Double(f64),
    /// True or false.
    Boolean(bool),
    /// An integer of any size.
    BigNumber(String),
    /// A text with its format.
    Verbatim(String, Vec<u8>),
    /// Data about the reply behind it.
    Attribute(Vec<Reply>, Box<Reply>),
    /// An aggregate by its RESP3 marker, and whether its length is given at the end. A map has its
    /// keys and values in turn.
    Aggregate(u8, bool, Vec<Reply>),
}

/// A reply as it is on the wire: its marker and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wire {
    /// One line.
    Line(u8, Vec<u8>),
    /// A length and so many bytes.
    Text(u8, Vec<u8>),
    /// A length of -1.
    Absent(u8),
    /// A length and so many replies, or pairs of them.
    List(u8, Vec<Wire>),
}

/// Whatever is written, a plain reader reads back, in both protocols, also after the buffer was
/// copied piece by piece.
pub fn replies_are_read_back(bytes: &[u8]) {
    let mut source = bytes;
    let mut replies = Vec::new();
    while !source.is_empty() {
        replies.push(draw(&mut source, DEPTH_MAX));
    }
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut buffer = ReplyBuffer::new();
        let mut marks = vec![Mark::default()];
        for reply in &replies {
            write(reply, &mut ReplyWriter::new(&mut buffer, protocol));
            marks.push(buffer.mark());
        }
        let expected: Vec<Wire> =
            replies.iter().flat_map(|reply| on_wire(reply, protocol)).collect();
        assert_eq!(read_all(&buffer.to_vec()), Some(expected));
        let mut copy = ReplyBuffer::new();
        for pair in marks.windows(2) {
            copy.append_range(&buffer, pair[0]..pair[1]);
        }
        assert_eq!(copy.to_vec(), buffer.to_vec());
        assert_eq!(copy.len(), buffer.to_vec().len());
    }
}

/// Draws a reply from the bytes, of which some are taken away.
fn draw(source: &mut &[u8], depth: usize) -> Reply {
    let kind = take(source, 1)[0] % if depth == 0 { 11 } else { 16 };
    match kind {
        0 => Reply::Simple(draw_text(source)),
        1 => Reply::Error(draw_text(source)),
        2 => Reply::Integer(draw_integer(source)),
        3 => Reply::Bulk(draw_bytes(source)),
        4 => Reply::Null,
        5 => Reply::NullArray,
        6 => Reply::Double(f64::from_bits(draw_integer(source).cast_unsigned())),
        7 => Reply::Boolean(take(source, 1)[0] & 1 == 1),
        8 => Reply::BigNumber(format!("{}0000000000000000000000", draw_integer(source))),
        9 => Reply::Verbatim("txt".into(), draw_bytes(source)),
        10 => {
            let [long, byte] = [0, 1].map(|at| take(source, 2)[at]);
            let len = if long & 1 == 1 { SPLICE_MIN_BYTES } else { 0 } + usize::from(long);
            Reply::BulkOwned(Bytes::from(vec![byte; len]))
        }
        11 => {
            let pairs = draw_list(source, depth, 2);
            Reply::Attribute(pairs, Box::new(draw(source, depth - 1)))
        }
        12 => Reply::Aggregate(b'%', take(source, 1)[0] & 1 == 1, draw_list(source, depth, 2)),
        _ => {
            let marker = b"*~>"[usize::from(kind - 13)];
            Reply::Aggregate(marker, take(source, 1)[0] & 1 == 1, draw_list(source, depth, 1))
        }
    }
}

fn draw_list(source: &mut &[u8], depth: usize, factor: usize) -> Vec<Reply> {
    let len = usize::from(take(source, 1)[0] % 13) * factor;
    (0..len).map(|_| draw(source, depth - 1)).collect()
}

fn draw_bytes(source: &mut &[u8]) -> Vec<u8> {
    let len = usize::from(take(source, 1)[0]);
    take(source, len)
}

fn draw_text(source: &mut &[u8]) -> String {
    String::from_utf8_lossy(&draw_bytes(source)).into_owned()
}

fn draw_integer(source: &mut &[u8]) -> i64 {
    let bits = take(source, 9);
    let number = bits[1..].iter().fold(0, |number, byte| number << 8 | i64::from(*byte));
    number >> (bits[0] % 64)
}

/// Takes bytes away; zeros stand for those that are missing.
fn take(source: &mut &[u8], count: usize) -> Vec<u8> {
    let (taken, rest) = source.split_at(count.min(source.len()));
    *source = rest;
    let mut taken = taken.to_vec();
    taken.resize(count, 0);
    taken
}

fn write(reply: &Reply, to: &mut ReplyWriter<'_>) {
    match reply {
        Reply::Simple(text) => to.simple(text),
        Reply::Error(text) => to.error(text),
        Reply::Integer(value) => to.integer(*value),
        Reply::Bulk(bytes) => to.bulk(bytes),
        Reply::BulkOwned(bytes) => to.bulk_owned(bytes.clone()),
        Reply::Null => to.null(),
        Reply::NullArray => to.null_array(),
        Reply::Double(value) => to.double(*value),
        Reply::Boolean(value) => to.boolean(*value),
        Reply::BigNumber(digits) => to.big_number(digits),
        Reply::Verbatim(format, text) => to.verbatim(format, text),
        Reply::Attribute(pairs, about) => {
            if to.attribute(pairs.len() / 2) {
                pairs.iter().for_each(|part| write(part, to));
            }
            write(about, to);
        }
        Reply::Aggregate(marker, is_deferred, parts) => {
            write_aggregate(*marker, *is_deferred, parts, to)
        }
    }
}

fn write_aggregate(marker: u8, is_deferred: bool, parts: &[Reply], to: &mut ReplyWriter<'_>) {
    let len = if marker == b'%' { parts.len() / 2 } else { parts.len() };
    let begun = is_deferred.then(|| to.deferred());
    if begun.is_none() {
        match marker {
            b'%' => to.map(len),
            b'~' => to.set(len),
            b'>' => to.push(len),
            _ => to.array(len),
        }
    }
    parts.iter().for_each(|part| write(part, to));
    if let Some(begun) = begun {
        match marker {
            b'%' => to.finish_map(begun, len),
            b'~' => to.finish_set(begun, len),
            b'>' => to.finish_push(begun, len),
            _ => to.finish_array(begun, len),
        }
    }
}

/// What a client of that protocol must receive: one reply, and an attribute before it perhaps.
fn on_wire(reply: &Reply, protocol: Protocol) -> Vec<Wire> {
    let old = protocol == Protocol::Resp2;
    let line = |text: &str| text.replace(['\r', '\n'], " ").into_bytes();
    let all = |parts: &[Reply]| parts.iter().flat_map(|part| on_wire(part, protocol)).collect();
    let or_text = |marker: u8, text: Vec<u8>| {
        if old { Wire::Text(b'$', text) } else { Wire::Line(marker, text) }
    };
    vec![match reply {
        Reply::Simple(text) => Wire::Line(b'+', line(text)),
        Reply::Error(text) => Wire::Line(b'-', line(text)),
        Reply::Integer(value) => Wire::Line(b':', value.to_string().into_bytes()),
        Reply::Bulk(bytes) => Wire::Text(b'$', bytes.clone()),
        Reply::BulkOwned(bytes) => Wire::Text(b'$', bytes.to_vec()),
        Reply::Null if old => Wire::Absent(b'$'),
        Reply::NullArray if old => Wire::Absent(b'*'),
        Reply::Null | Reply::NullArray => Wire::Line(b'_', Vec::new()),
        Reply::Double(value) => or_text(b',', F64Text::new(*value).as_bytes().to_vec()),
        Reply::Boolean(value) if old => {
            Wire::Line(b':', i64::from(*value).to_string().into_bytes())
        }
        Reply::Boolean(value) => Wire::Line(b'#', if *value { b"t" } else { b"f" }.to_vec()),
        Reply::BigNumber(digits) => or_text(b'(', digits.clone().into_bytes()),
        Reply::Verbatim(_, text) if old => Wire::Text(b'$', text.clone()),
        Reply::Verbatim(format, text) => Wire::Text(b'=', [format.as_bytes(), b":", text].concat()),
        Reply::Attribute(_, about) if old => return on_wire(about, protocol),
        Reply::Attribute(pairs, about) => {
            let mut wire = vec![Wire::List(b'|', all(pairs))];
            wire.extend(on_wire(about, protocol));
            return wire;
        }
        Reply::Aggregate(_, _, parts) if old => Wire::List(b'*', all(parts)),
        Reply::Aggregate(marker, _, parts) => Wire::List(*marker, all(parts)),
    }]
}

/// Reads all replies; nothing if the bytes are no replies.
fn read_all(mut bytes: &[u8]) -> Option<Vec<Wire>> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        replies.push(read(&mut bytes)?);
    }
    Some(replies)
}

/// Reads one reply; an attribute counts as one.
fn read(bytes: &mut &[u8]) -> Option<Wire> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = bytes.split_at(end);
    *bytes = &rest[2..];
    let (marker, line) = line.split_first()?;
    let absent = line == b"-1" && matches!(marker, b'$' | b'*');
    let len = || std::str::from_utf8(line).ok()?.parse::<usize>().ok();
    Some(match marker {
        _ if absent => Wire::Absent(*marker),
        b'$' | b'=' => {
            let (text, rest) = bytes.split_at_checked(len()?)?;
            *bytes = rest.strip_prefix(b"\r\n")?;
            Wire::Text(*marker, text.to_vec())
        }
        b'*' | b'~' | b'>' => Wire::List(*marker, read_list(bytes, len()?)?),
        b'%' | b'|' => Wire::List(*marker, read_list(bytes, len()? * 2)?),
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Wire::Line(*marker, line.to_vec()),
        _ => return None,
    })
}

/// Reads the members of an aggregate. An attribute before a member is no member of its own.
fn read_list(bytes: &mut &[u8], len: usize) -> Option<Vec<Wire>> {
    let (mut list, mut members) = (Vec::new(), 0);
    while members < len {
        let part = read(bytes)?;
        members += usize::from(!matches!(part, Wire::List(b'|', _)));
        list.push(part);
    }
    Some(list)
}
