//! Options whose value has a form of its own: `bind`, `save`, `client-output-buffer-limit`,
//! `notify-keyspace-events`, `dir` and a few more.
//!
//! Each is three functions over `Value`: read, show, and the lines of a rewritten file.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use tessera_engine::keyspace::events::Class;

use super::split::quote;
use super::value::{BufferLimit, Value, format_memory, parse_memory};

/// The functions of an option with a form of its own.
pub struct Special {
    /// Reads the arguments; the second parameter is the value held so far.
    pub parse: fn(&[Vec<u8>], &Value) -> Result<Value, String>,
    /// What CONFIG GET shows.
    pub show: fn(&Value) -> Vec<u8>,
    /// The values of the lines that CONFIG REWRITE writes, each without the option's name, and
    /// whether each must be written although the file does not mention it. Given are the value
    /// and the default.
    pub rewrite: fn(&Value, &Value) -> Vec<RewriteLine>,
}

/// One line of a rewritten file, after the option's name.
pub struct RewriteLine {
    /// The arguments, quoted where they must be.
    pub arguments: Vec<u8>,
    /// Write the line even though the file has none for this option.
    pub forced: bool,
}

fn line(arguments: Vec<u8>, forced: bool) -> Vec<RewriteLine> {
    vec![RewriteLine { arguments, forced }]
}

/// Addresses to listen on, at most 16; a leading `-` tolerates an address that the host lacks.
pub(super) static BIND: Special =
    Special { parse: parse_bind, show: show_words, rewrite: rewrite_bind };

const BIND_ADDRESSES_MAX: usize = 16;

fn parse_bind(arguments: &[Vec<u8>], _: &Value) -> Result<Value, String> {
    if arguments.len() > BIND_ADDRESSES_MAX {
        return Err("Too many bind addresses specified.".into());
    }
    match arguments {
        [only] if only.is_empty() => Ok(Value::Words(Vec::new())),
        _ => Ok(Value::Words(arguments.to_vec())),
    }
}

fn show_words(value: &Value) -> Vec<u8> {
    match value {
        Value::Words(words) => words.join(&b' '),
        _ => Vec::new(),
    }
}

fn rewrite_bind(value: &Value, default: &Value) -> Vec<RewriteLine> {
    match value {
        _ if value == default => Vec::new(),
        Value::Words(words) if words.is_empty() => line(b"\"\"".to_vec(), true),
        _ => line(show_words(value), true),
    }
}

/// The working directory, always held as an absolute path.
pub(super) static DIR: Special =
    Special { parse: parse_dir, show: show_text, rewrite: rewrite_dir };

fn parse_dir(arguments: &[Vec<u8>], current: &Value) -> Result<Value, String> {
    let [path] = arguments else { return Err("wrong number of arguments".into()) };
    if path.is_empty() {
        return Err("dir can't be empty".into());
    }
    let Value::Text(base) = current else { return Err("dir has no current value".into()) };
    let joined = Path::new(OsStr::from_bytes(base)).join(OsStr::from_bytes(path));
    let absolute = joined.canonicalize().map_err(|error| os_error_text(&error))?;
    if !absolute.is_dir() {
        return Err(os_error_text(&std::io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    Ok(Value::Text(absolute.into_os_string().into_vec()))
}

/// An operating system error as `strerror` words it, without Rust's "(os error N)".
pub(super) fn os_error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn show_text(value: &Value) -> Vec<u8> {
    match value {
        Value::Text(text) => text.clone(),
        _ => Vec::new(),
    }
}

fn rewrite_dir(value: &Value, _: &Value) -> Vec<RewriteLine> {
    let mut quoted = Vec::new();
    quote(&mut quoted, &show_text(value));
    line(quoted, true)
}

/// Snapshot points: pairs of seconds and changes.
pub(super) static SAVE: Special =
    Special { parse: parse_save, show: show_pairs, rewrite: rewrite_save };

fn parse_save(arguments: &[Vec<u8>], _: &Value) -> Result<Value, String> {
    if let [only] = arguments
        && only.is_empty()
    {
        return Ok(Value::Pairs(Vec::new()));
    }
    let invalid = || "Invalid save parameters".to_owned();
    let numbers: Option<Vec<u64>> = arguments.iter().map(|text| parse_digits(text)).collect();
    let numbers = numbers.filter(|numbers| numbers.len().is_multiple_of(2)).ok_or_else(invalid)?;
    let pairs: Vec<(u64, u64)> = numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    if pairs.iter().any(|&(seconds, _)| seconds == 0) {
        return Err(invalid());
    }
    Ok(Value::Pairs(pairs))
}

fn parse_digits(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn show_pairs(value: &Value) -> Vec<u8> {
    let Value::Pairs(pairs) = value else { return Vec::new() };
    let shown: Vec<String> = pairs.iter().map(|(s, changes)| format!("{s} {changes}")).collect();
    shown.join(" ").into_bytes()
}

fn rewrite_save(value: &Value, _: &Value) -> Vec<RewriteLine> {
    match value {
        Value::Pairs(pairs) if pairs.is_empty() => line(b"\"\"".to_vec(), true),
        _ => line(show_pairs(value), true),
    }
}

/// Limits of waiting output, in groups of class, hard bytes, soft bytes, soft seconds.
pub(super) static OUTPUT_LIMITS: Special =
    Special { parse: parse_limits, show: show_limits, rewrite: rewrite_limits };

fn parse_limits(arguments: &[Vec<u8>], current: &Value) -> Result<Value, String> {
    let Value::Limits(mut limits) = *current else {
        return Err("no limits are held".into());
    };
    if !arguments.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    for group in arguments.chunks(4) {
        let class = match group[0].to_ascii_lowercase().as_slice() {
            b"normal" => 0,
            b"slave" | b"replica" => 1,
            b"pubsub" => 2,
            _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
        };
        limits[class] = parse_limit(&group[1..]).ok_or_else(|| {
            "Error in hard, soft or soft_seconds setting in buffer limit configuration.".to_owned()
        })?;
    }
    Ok(Value::Limits(limits))
}

fn parse_limit(fields: &[Vec<u8>]) -> Option<BufferLimit> {
    Some(BufferLimit {
        hard_bytes: parse_memory(&fields[0])?,
        soft_bytes: parse_memory(&fields[1])?,
        soft_seconds: parse_digits(&fields[2])?,
    })
}

fn show_limits(value: &Value) -> Vec<u8> {
    let Value::Limits(limits) = value else { return Vec::new() };
    // "slave" is what Redis and Valkey still answer here, and what tools compare with.
    let shown: Vec<String> = ["normal", "slave", "pubsub"]
        .iter()
        .zip(limits)
        .map(|(class, l)| format!("{class} {} {} {}", l.hard_bytes, l.soft_bytes, l.soft_seconds))
        .collect();
    shown.join(" ").into_bytes()
}

fn rewrite_limits(value: &Value, default: &Value) -> Vec<RewriteLine> {
    let (Value::Limits(limits), Value::Limits(defaults)) = (value, default) else {
        return Vec::new();
    };
    ["normal", "replica", "pubsub"]
        .iter()
        .zip(limits.iter().zip(defaults))
        .map(|(class, (limit, default))| RewriteLine {
            arguments: format!(
                "{class} {} {} {}",
                format_memory(limit.hard_bytes.into()),
                format_memory(limit.soft_bytes.into()),
                limit.soft_seconds
            )
            .into_bytes(),
            forced: limit != default,
        })
        .collect()
}

/// Classes of keyspace notifications, one letter each, held as a bit set in `Value::Number`.
pub(super) static NOTIFICATIONS: Special =
    Special { parse: parse_events, show: show_events, rewrite: rewrite_events };

/// The letters in the order in which CONFIG GET shows them, and their bits, which are the engine's.
const EVENT_CLASSES: [(u8, u32); 14] = [
    (b'g', Class::GENERIC.bits() as u32),
    (b'$', Class::STRING.bits() as u32),
    (b'l', Class::LIST.bits() as u32),
    (b's', Class::SET.bits() as u32),
    (b'h', Class::HASH.bits() as u32),
    (b'z', Class::SORTED_SET.bits() as u32),
    (b'x', Class::EXPIRED.bits() as u32),
    (b'e', Class::EVICTED.bits() as u32),
    (b't', Class::STREAM.bits() as u32),
    (b'd', Class::MODULE.bits() as u32),
    (b'n', Class::NEW.bits() as u32),
    (b'K', Class::KEYSPACE.bits() as u32),
    (b'E', Class::KEYEVENT.bits() as u32),
    (b'm', Class::MISS.bits() as u32),
];

/// What the letter `A` stands for: every class except misses, new keys and the two channels.
const EVENTS_ALL: u32 = Class::ALL.bits() as u32;

fn parse_events(arguments: &[Vec<u8>], _: &Value) -> Result<Value, String> {
    let [letters] = arguments else { return Err("wrong number of arguments".into()) };
    let mut events = 0;
    for &letter in letters {
        events |= match EVENT_CLASSES.iter().find(|(known, _)| *known == letter) {
            Some((_, bit)) => *bit,
            None if letter == b'A' => EVENTS_ALL,
            None => {
                return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into());
            }
        };
    }
    Ok(Value::Number(events.into()))
}

fn show_events(value: &Value) -> Vec<u8> {
    let Value::Number(events) = *value else { return Vec::new() };
    let events = u32::try_from(events).unwrap_or(0);
    let all = events & EVENTS_ALL == EVENTS_ALL;
    let mut letters = if all { vec![b'A'] } else { Vec::new() };
    // Redis shows "n" only when "A" does not hide the classes; `m`, `K` and `E` always.
    letters.extend(
        EVENT_CLASSES
            .iter()
            .filter(|(letter, _)| !all || matches!(letter, b'K' | b'E' | b'm'))
            .filter(|(_, bit)| events & bit != 0)
            .map(|(letter, _)| *letter),
    );
    letters
}

fn rewrite_events(value: &Value, default: &Value) -> Vec<RewriteLine> {
    let mut quoted = Vec::new();
    quote(&mut quoted, &show_events(value));
    line(quoted, value != default)
}

/// Percentiles that INFO latencystats shows.
pub(super) static PERCENTILES: Special =
    Special { parse: parse_percentiles, show: show_floats, rewrite: rewrite_percentiles };

fn parse_percentiles(arguments: &[Vec<u8>], _: &Value) -> Result<Value, String> {
    if let [only] = arguments
        && only.is_empty()
    {
        return Ok(Value::Floats(Vec::new()));
    }
    let mut percentiles = Vec::with_capacity(arguments.len());
    for text in arguments {
        let percentile: f64 = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|number: &f64| !number.is_nan())
            .ok_or_else(|| "Invalid latency-tracking-info-percentiles parameters".to_owned())?;
        if !(0.0..=100.0).contains(&percentile) {
            return Err("latency-tracking-info-percentiles parameters should sit between \
                        [0.0,100.0]"
                .into());
        }
        percentiles.push(percentile);
    }
    Ok(Value::Floats(percentiles))
}

/// A percentile in Redis's form: six decimals, without trailing zeros.
pub(crate) fn format_percentile(percentile: f64) -> String {
    let text = format!("{percentile:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn show_floats(value: &Value) -> Vec<u8> {
    let Value::Floats(floats) = value else { return Vec::new() };
    let shown: Vec<String> = floats.iter().copied().map(format_percentile).collect();
    shown.join(" ").into_bytes()
}

fn rewrite_percentiles(value: &Value, _: &Value) -> Vec<RewriteLine> {
    match value {
        Value::Floats(floats) if floats.is_empty() => line(b"\"\"".to_vec(), true),
        _ => line(show_floats(value), true),
    }
}

/// `oom-score-adj-values`: three numbers.
pub(super) static OOM_VALUES: Special =
    Special { parse: parse_oom_values, show: show_words, rewrite: rewrite_words };

fn parse_oom_values(arguments: &[Vec<u8>], _: &Value) -> Result<Value, String> {
    if arguments.len() != 3 {
        return Err("wrong number of arguments".into());
    }
    let in_bounds = |text: &Vec<u8>| {
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i32>().ok());
        number.is_some_and(|number| (-2000..=2000).contains(&number))
    };
    if !arguments.iter().all(in_bounds) {
        return Err("Invalid oom-score-adj-values, elements must be between -2000 and 2000.".into());
    }
    Ok(Value::Words(arguments.to_vec()))
}

fn rewrite_words(value: &Value, default: &Value) -> Vec<RewriteLine> {
    line(show_words(value), value != default)
}

/// `replicaof`: a host and a port, or `no one`.
pub(super) static REPLICAOF: Special =
    Special { parse: parse_replicaof, show: show_words, rewrite: rewrite_replicaof };

fn parse_replicaof(arguments: &[Vec<u8>], _: &Value) -> Result<Value, String> {
    let [host, port] = arguments else { return Err("wrong number of arguments".into()) };
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        return Ok(Value::Words(Vec::new()));
    }
    if parse_digits(port).is_none_or(|port| port > 65535) {
        return Err("Invalid primary port".into());
    }
    Ok(Value::Words(arguments.to_vec()))
}

fn rewrite_replicaof(value: &Value, _: &Value) -> Vec<RewriteLine> {
    match value {
        Value::Words(words) if words.is_empty() => Vec::new(),
        _ => line(show_words(value), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<u8>> {
        text.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    const UNBOUNDED: BufferLimit = BufferLimit { hard_bytes: 0, soft_bytes: 0, soft_seconds: 0 };

    #[test]
    fn a_limit_changes_only_its_class() {
        let current = Value::Limits([UNBOUNDED; 3]);
        let value = parse_limits(&words("replica 256mb 64mb 60"), &current).unwrap();
        assert_eq!(show_limits(&value), b"normal 0 0 0 slave 268435456 67108864 60 pubsub 0 0 0");
        let lines = rewrite_limits(&value, &current);
        assert_eq!(lines[1].arguments, b"replica 256mb 64mb 60");
        assert!(lines[1].forced && !lines[0].forced);
    }

    #[test]
    fn malformed_limits_are_refused_whole() {
        let current = Value::Limits([UNBOUNDED; 3]);
        for text in ["normal 1 1", "master 1 1 1", "normal 1 1 -1", "normal x 1 1"] {
            assert!(parse_limits(&words(text), &current).is_err(), "{text}");
        }
    }

    #[test]
    fn events_are_shown_in_redis_order() {
        let show = |text: &str| {
            let value = parse_events(&[text.as_bytes().to_vec()], &Value::Number(0)).unwrap();
            String::from_utf8(show_events(&value)).unwrap()
        };
        assert_eq!(show("KA"), "AK");
        assert_eq!(show("mExK$"), "$xKEm");
        assert_eq!(show(""), "");
        assert_eq!(show("g$lshzxetd"), "A");
        assert!(parse_events(&words("q"), &Value::Number(0)).is_err());
    }

    #[test]
    fn save_points_come_in_pairs() {
        let none = Value::Pairs(Vec::new());
        let value = parse_save(&words("900 1 300 10"), &none).unwrap();
        assert_eq!(show_pairs(&value), b"900 1 300 10");
        assert_eq!(parse_save(&[Vec::new()], &none), Ok(none.clone()));
        for text in ["900", "0 1", "a b"] {
            assert_eq!(parse_save(&words(text), &none).unwrap_err(), "Invalid save parameters");
        }
    }

    #[test]
    fn percentiles_lose_their_trailing_zeros() {
        let none = Value::Floats(Vec::new());
        let value = parse_percentiles(&words("50.0 99 99.90"), &none).unwrap();
        assert_eq!(show_floats(&value), b"50 99 99.9");
        assert!(parse_percentiles(&words("101"), &none).is_err());
        assert!(parse_percentiles(&words("nan"), &none).is_err());
    }

    #[test]
    fn a_missing_directory_is_named_as_the_system_does() {
        let current = Value::Text(b"/".to_vec());
        let error = parse_dir(&words("/no/such/place"), &current).unwrap_err();
        assert_eq!(error, "No such file or directory");
        let error = parse_dir(&words("/etc/passwd"), &current).unwrap_err();
        assert_eq!(error, "Not a directory");
        assert_eq!(parse_dir(&words("tmp/.."), &current), Ok(Value::Text(b"/".to_vec())));
    }

    #[test]
    fn too_many_addresses_are_refused() {
        let many = vec![b"127.0.0.1".to_vec(); 17];
        assert!(parse_bind(&many, &Value::Words(Vec::new())).is_err());
        let none = parse_bind(&[Vec::new()], &Value::Words(Vec::new())).unwrap();
        assert_eq!(none, Value::Words(Vec::new()));
    }
}
