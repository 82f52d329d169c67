//! Tests of the request parser.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fuzz::{any_split_agrees, encode_request, naive_parse, parse_shown, tight_limits};

fn requests(input: &[u8], limits: &Limits) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let (requests, error, _) = parse_shown(input, [input.len()], limits);
    (requests, error)
}

/// What the first request of `input` is.
fn first(input: &[u8]) -> Vec<Vec<u8>> {
    requests(input, &Limits::default()).0.remove(0)
}

fn error_within(input: &[u8], limits: &Limits) -> Option<String> {
    requests(input, limits).1.map(|error| error.to_string())
}

fn error(input: &[u8]) -> Option<String> {
    error_within(input, &Limits::default())
}

fn step(input: &[u8]) -> Result<Step, ProtocolError> {
    RequestParser::new().parse(input, &Limits::default())
}

#[test]
fn a_whole_request_is_found_in_place() {
    let input = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n*1\r\n";
    let mut parser = RequestParser::new();
    assert_eq!(parser.parse(input, &Limits::default()), Ok(Step::Request { consumed: 28 }));
    let args = parser.args(input);
    assert_eq!(args.iter().collect::<Vec<_>>(), [&b"SET"[..], b"key", b""]);
    assert_eq!(args[1].as_ptr(), input[17..].as_ptr());
}

#[test]
fn an_owner_keeps_large_arguments_without_a_copy() {
    let value = vec![b'x'; 40_000];
    let input = Bytes::from(encode_request(&[b"SET", &b"k"[..], &value]));
    let mut parser = RequestParser::new();
    parser.parse(&input, &Limits::default()).unwrap();
    let kept = parser.args_with_owner(&input).bytes(2);
    assert_eq!(kept, value);
    assert!(input.as_ptr_range().contains(&kept.as_ptr()));
}

#[test]
fn a_partial_argument_asks_for_all_the_rest_of_it() {
    assert_eq!(step(b"*1\r\n$5\r\nhel"), Ok(Step::NeedMore { missing: 4 }));
    assert_eq!(step(b"*1\r\n$1000000\r\n"), Ok(Step::NeedMore { missing: 1_000_002 }));
    assert_eq!(step(b"*1\r\n$5\r\nhello\r"), Ok(Step::NeedMore { missing: 1 }));
}

#[test]
fn a_partial_line_asks_for_more() {
    for input in
        [&b""[..], b"*", b"*1", b"*1\r", b"*1\r\n", b"*1\r\n$", b"*1\r\n$5\r", b"PI", b"PING\r"]
    {
        assert_eq!(step(input), Ok(Step::NeedMore { missing: 1 }), "{input:?}");
    }
}

#[test]
fn the_parser_knows_whether_it_is_midway() {
    let mut parser = RequestParser::new();
    assert!(!parser.is_midway());
    parser.parse(b"*1\r\n$4\r\nPI", &Limits::default()).unwrap();
    assert!(parser.is_midway());
    parser.parse(b"*1\r\n$4\r\nPING\r\n", &Limits::default()).unwrap();
    assert!(!parser.is_midway());
}

#[test]
fn lengths_of_any_number_of_digits_are_read() {
    for len in [0, 9, 10, 99, 100, 999, 1000, 99_999, 100_000, 1_000_000] {
        let value = vec![b'v'; len];
        assert_eq!(first(&encode_request(&[&value])), [value]);
    }
    let many = vec![b"x".to_vec(); 12_345];
    assert_eq!(first(&encode_request(&many)), many);
}

#[test]
fn requests_without_arguments_are_nothing_to_execute() {
    let input = b"*0\r\n*-1\r\n*-9223372036854775808\r\n\r\n\n  \t\r\nPING\r\n";
    let (requests, error) = requests(input, &Limits::default());
    assert_eq!(error, None);
    assert_eq!(requests.len(), 7);
    assert!(requests[..6].iter().all(Vec::is_empty));
    assert_eq!(requests[6], [b"PING"]);
}

#[test]
fn inline_requests_are_split_and_unquoted() {
    assert_eq!(first(b"SET key  value\r\n"), [&b"SET"[..], b"key", b"value"]);
    assert_eq!(first(b"SET k \"a b\\n\"\n"), [&b"SET"[..], b"k", b"a b\n"]);
    assert_eq!(first(b"GET a\0b\r\n"), [&b"GET"[..], b"a\0b"]);
    assert_eq!(error(b"SET k \"a\r\n").unwrap(), "Protocol error: unbalanced quotes in request");
}

#[test]
fn a_request_after_a_quoted_one_is_in_place_again() {
    let mut parser = RequestParser::new();
    parser.parse(b"ECHO 'a'\r\n", &Limits::default()).unwrap();
    assert_eq!(&parser.args(b"ECHO 'a'\r\n")[1], b"a");
    let input = Bytes::from_static(b"ECHO b\r\n");
    parser.parse(&input, &Limits::default()).unwrap();
    assert_eq!(&parser.args_with_owner(&input)[1], b"b");
}

#[test]
fn invalid_counts_are_refused() {
    let invalid = "Protocol error: invalid multibulk length";
    for input in [
        "*1048577\r\n",
        "*a\r\n",
        "*\r\n",
        "*+1\r\n",
        "*01\r\n",
        "*1 \r\n",
        "*-0\r\n",
        "*3000000000\r\n",
    ] {
        assert_eq!(error(input.as_bytes()).as_deref(), Some(invalid), "{input}");
    }
    assert_eq!(error(b"*1048576\r\n"), None);
}

#[test]
fn invalid_lengths_are_refused() {
    let invalid = "Protocol error: invalid bulk length";
    for digits in
        ["-1", "-10", "a", "", "+1", "01", "536870913", "2000000000", "99999999999999999999"]
    {
        let input = format!("*1\r\n${digits}\r\n");
        assert_eq!(error(input.as_bytes()).as_deref(), Some(invalid), "{digits}");
    }
    assert_eq!(error(b"*1\r\n$536870912\r\n"), None);
}

#[test]
fn an_argument_must_begin_with_a_dollar_sign() {
    let input = b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n";
    assert_eq!(error(input).unwrap(), "Protocol error: expected '$', got 'f'");
    assert_eq!(error(b"*1\r\n\r\n").unwrap(), "Protocol error: expected '$', got ' '");
    assert_eq!(error(b"*1\r\nfooz"), None, "Redis looks at the whole line first");
}

#[test]
fn endless_lines_are_refused() {
    let long = vec![b'1'; 64 * 1024 + 1];
    for (start, text) in [
        (&b""[..], "Protocol error: too big inline request"),
        (b"*", "Protocol error: too big mbulk count string"),
        (b"*1\r\n$", "Protocol error: too big bulk count string"),
    ] {
        assert_eq!(error(&[start, &long].concat()).as_deref(), Some(text));
        assert_eq!(error(&[start, &long[..60_000]].concat()), None);
    }
    let longest = [&vec![b'a'; 64 * 1024][..], b"\n"].concat();
    assert_eq!(error(&longest), None);
    assert_eq!(
        error(&[b"a", &longest[..]].concat()).unwrap(),
        "Protocol error: too big inline request"
    );
}

#[test]
fn strangers_are_held_shorter() {
    let stranger = Limits { authenticated: false, ..Limits::default() };
    for (input, text) in [
        ("*11\r\n", Some("Protocol error: unauthenticated multibulk length")),
        ("*1048577\r\n", Some("Protocol error: invalid multibulk length")),
        ("*1\r\n$16385\r\n", Some("Protocol error: unauthenticated bulk length")),
        ("*1\r\n$536870913\r\n", Some("Protocol error: invalid bulk length")),
        ("*10\r\n$16384\r\n", None),
    ] {
        assert_eq!(error_within(input.as_bytes(), &stranger).as_deref(), text, "{input}");
    }
}

#[test]
fn a_request_longer_than_the_query_buffer_is_refused_at_its_header() {
    let limits = Limits { query_buffer_max: 100, ..Limits::default() };
    let fits = encode_request(&[[b'x'; 85]]);
    assert_eq!(fits.len(), 96);
    assert_eq!(requests(&[&fits[..], &fits[..]].concat(), &limits).1, None);
    let header = b"*1\r\n$91\r\n";
    assert_eq!(requests(header, &limits).1, Some(ProtocolError::RequestTooBig));
    let wide = Limits { query_buffer_max: usize::MAX, bulk_max: u64::MAX, ..limits };
    let huge = b"*1\r\n$4294967296\r\n";
    assert_eq!(requests(huge, &wide).1, Some(ProtocolError::RequestTooBig));
}

#[test]
fn line_ends_are_skipped_unread_as_in_redis() {
    assert_eq!(first(b"*2\rX$1\rYaZZ$2\r\nbcQQ"), [&b"a"[..], b"bc"]);
}

#[test]
fn memory_of_a_request_of_many_arguments_is_given_back() {
    let mut parser = RequestParser::new();
    let many = encode_request(&vec![b""; 100_000]);
    parser.parse(&many, &Limits::default()).unwrap();
    assert_eq!(parser.args(&many).len(), 100_000);
    parser.parse(b"PING\r\n", &Limits::default()).unwrap();
    assert!(parser.spans.capacity() < 10_000);
}

/// Valid requests, some long enough to reach the tight limits.
fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let argument = prop_oneof![
        8 => vec(any::<u8>(), 0..20),
        1 => (0..300_usize).prop_map(|len| vec![b'v'; len]),
        1 => Just(vec![b'v'; 17_000]),
    ];
    prop_oneof![
        6 => vec(argument, 0..14).prop_map(|arguments| encode_request(&arguments)),
        1 => "[a-c \"'\\\\x\t]{0,50}\r?\n".prop_map(String::into_bytes),
        1 => Just(b"*-1\r\n".to_vec()),
    ]
}

/// A place in the input, as a fraction of its length, and what is done there.
fn mutate(mut input: Vec<u8>, mutations: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    for (place, kind, byte) in mutations {
        if input.is_empty() {
            break;
        }
        let at = place.index(input.len());
        match kind % 3 {
            0 => input[at] = *byte,
            1 => input.insert(at, *byte),
            _ => {
                input.remove(at);
            }
        }
    }
    input
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn encoded_requests_are_read_back(
        requests in vec(vec(vec(any::<u8>(), 0..120), 1..5), 0..5)
    ) {
        let input: Vec<u8> = requests.iter().flat_map(|request| encode_request(request)).collect();
        let (found, error, consumed) = parse_shown(&input, [input.len()], &Limits::default());
        prop_assert_eq!((found, error, consumed), (requests, None, input.len()));
    }

    #[test]
    fn any_split_of_valid_requests_agrees_with_the_plain_parser(
        requests in vec(any_request(), 1..4), cuts in vec(any::<prop::sample::Index>(), 0..6),
        tight: bool, authenticated: bool,
    ) {
        let input = requests.concat();
        let limits = if tight { tight_limits(authenticated) } else { Limits::default() };
        let mut shown: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        shown.sort_unstable();
        shown.push(input.len());
        let whole = naive_parse(&input, &limits);
        prop_assert_eq!(parse_shown(&input, shown, &limits), whole);
    }

    #[test]
    fn any_split_of_mutated_requests_agrees(
        seed: u8, requests in vec(vec(vec(any::<u8>(), 0..12), 0..4), 1..4),
        mutations in vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 0..4),
    ) {
        let input: Vec<u8> = requests.iter().flat_map(|request| encode_request(request)).collect();
        any_split_agrees(&[vec![seed], mutate(input, &mutations)].concat());
    }

    #[test]
    fn any_split_of_random_bytes_agrees(input in "[\\x00-\\x03]([*$]-?[0-9]{0,3}\r\n|[ -~]|\r\n){0,40}") {
        any_split_agrees(input.as_bytes());
    }
}
