//! Entry functions of the fuzz targets, with the naive oracles that the property tests share.
//!
//! Each function panics when a promise is broken, and only then. The oracles are written for
//! plainness: they keep no progress, copy everything and recurse.

mod reply;
mod request;

use bytes::Bytes;

use crate::glob;
use crate::limits::Limits;
use crate::request::{RequestParser, Step};
use crate::{ProtocolError, RequestBatch, float, number};

pub use reply::{Reply, Wire, replies_are_read_back};
pub use request::naive_parse;

/// A request as copies of its arguments.
pub type Request = Vec<Vec<u8>>;

/// Encodes a request as clients do.
#[must_use]
pub fn encode_request<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments.iter().map(AsRef::as_ref) {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// All that a parser makes of `input` when it is shown the first bytes first: after each of the
/// lengths in `shown`, which increase, it runs until it needs more. Also gives the bytes consumed.
#[must_use]
pub fn parse_shown(
    input: &[u8],
    shown: impl IntoIterator<Item = usize>,
    limits: &Limits,
) -> (Vec<Request>, Option<ProtocolError>, usize) {
    let mut parser = RequestParser::new();
    let (mut requests, mut start) = (Vec::new(), 0);
    for end in shown {
        loop {
            match parser.parse(&input[start..end], limits) {
                Ok(Step::NeedMore { missing }) => {
                    assert!(missing > 0, "asking for nothing would never end");
                    break;
                }
                Ok(Step::Request { consumed }) => {
                    assert!(consumed > 0 && start + consumed <= end, "consumes what it was given");
                    let args = parser.args(&input[start..end]);
                    requests.push(args.iter().map(<[u8]>::to_vec).collect());
                    start += consumed;
                }
                Err(error) => return (requests, Some(error), start),
            }
        }
    }
    (requests, None, start)
}

/// Limits so tight that short inputs meet all of them.
#[must_use]
pub fn tight_limits(authenticated: bool) -> Limits {
    Limits {
        bulk_max: 20_000,
        multibulk_max: 12,
        inline_max: 40,
        query_buffer_max: 50_000,
        authenticated,
    }
}

/// Splitting the input anywhere changes neither the requests nor the error, which are those that the
/// plain parser finds.
pub fn any_split_agrees(bytes: &[u8]) {
    let [seed, input @ ..] = bytes else { return };
    let limits = if seed & 1 == 0 { Limits::default() } else { tight_limits(seed & 2 == 0) };
    let whole = parse_shown(input, [input.len()], &limits);
    assert_eq!(naive_parse(input, &limits), whole, "by the plain parser");
    assert_eq!(parse_shown(input, 0..=input.len(), &limits), whole, "byte by byte");
    let step = usize::from(seed >> 2) + 1;
    let shown = (0..input.len()).step_by(step).chain([input.len()]);
    assert_eq!(parse_shown(input, shown, &limits), whole, "{step} bytes at a time");
    requests_survive_a_batch(&whole.0);
}

/// Requests encoded again and carried in a batch are the same requests.
fn requests_survive_a_batch(requests: &[Request]) {
    let mut batch = RequestBatch::new();
    let mut parser = RequestParser::new();
    for request in requests {
        let input = Bytes::from(encode_request(request));
        let step = parser.parse(&input, &Limits::default());
        assert_eq!(step, Ok(Step::Request { consumed: input.len() }));
        batch.push(&parser.args_with_owner(&input));
    }
    let carried: Vec<Request> =
        batch.iter().map(|args| args.iter().map(<[u8]>::to_vec).collect()).collect();
    assert_eq!(carried, requests);
}

/// The glob matcher agrees with the recursive definition; the first byte says where the pattern
/// ends.
pub fn glob_agrees(bytes: &[u8]) {
    let [len, rest @ ..] = bytes else { return };
    let (pattern, text) = rest.split_at(usize::from(len & 15).min(rest.len()));
    let text = &text[..text.len().min(24)];
    assert_eq!(glob::matches(pattern, text), naive_glob(pattern, text, false));
    assert_eq!(glob::matches_ignoring_case(pattern, text), naive_glob(pattern, text, true));
}

/// Redis's definition of a match by recursion, exponential as it is.
#[must_use]
pub fn naive_glob(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    naive_glob_from(pattern, text, ignore_case)
}

fn naive_glob_from(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    match (pattern, text) {
        ([], _) => text.is_empty(),
        ([b'*', rest @ ..], _) => {
            (0..=text.len()).any(|skip| naive_glob_from(rest, &text[skip..], ignore_case))
        }
        (_, []) => false,
        ([b'?', rest @ ..], [_, text @ ..]) => naive_glob_from(rest, text, ignore_case),
        ([b'[', class @ ..], [byte, text @ ..]) => {
            let (is_member, used) = naive_class(class, *byte, ignore_case);
            is_member && naive_glob_from(&class[used..], text, ignore_case)
        }
        ([b'\\', escaped, rest @ ..], [byte, text @ ..])
        | ([escaped, rest @ ..], [byte, text @ ..]) => {
            fold(*escaped) == fold(*byte) && naive_glob_from(rest, text, ignore_case)
        }
    }
}

/// Whether a byte is in a class, and the length of the class, by listing all its members.
fn naive_class(class: &[u8], byte: u8, ignore_case: bool) -> (bool, usize) {
    let fold = |byte: i8| {
        if ignore_case { byte.cast_unsigned().to_ascii_lowercase().cast_signed() } else { byte }
    };
    let is_negated = class.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut members = Vec::new();
    let byte = byte.cast_signed();
    loop {
        let rest = &class[at..];
        if rest.len() >= 2 && rest[0] == b'\\' {
            // Compared with its case: a member only in the byte's own.
            members.extend((rest[1].cast_signed() == byte).then_some(fold(byte)));
            at += 2;
        } else if rest.first().is_none_or(|first| *first == b']') {
            at += rest.len().min(1);
            break;
        } else if rest.len() >= 3 && rest[1] == b'-' {
            let (from, to) = (rest[0].cast_signed(), rest[2].cast_signed());
            members.extend(fold(from.min(to))..=fold(from.max(to)));
            at += 3;
        } else {
            members.push(fold(rest[0].cast_signed()));
            at += 1;
        }
    }
    (members.contains(&fold(byte)) != is_negated, at)
}

/// Numbers that parse are written so that they parse to the same.
pub fn numbers_round_trip(bytes: &[u8]) {
    if let Some(integer) = number::parse_i64(bytes) {
        let mut out = Vec::new();
        number::write_i64(&mut out, integer);
        assert_eq!(out, bytes, "an integer has one form");
    }
    if let Some(double) = float::parse_f64(bytes) {
        let text = float::F64Text::new(double);
        assert_eq!(float::parse_f64(text.as_bytes()).map(f64::to_bits), Some(double.to_bits()));
    }
}
