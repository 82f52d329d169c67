//! A plain parser of requests: it keeps no progress, copies everything and has no fast way.

use super::Request;
use crate::limits::{Limits, UNAUTHENTICATED_BULK_MAX, UNAUTHENTICATED_MULTIBULK_MAX};
use crate::{ProtocolError, split_arguments};

/// What a step of the plain parser finds: something and where the bytes behind it begin, or nothing
/// before so many bytes are there.
enum Found<T> {
    Whole(T, usize),
    Needs(usize),
}

/// All requests of `input`, the error that ends them, and the bytes that they take.
#[must_use]
pub fn naive_parse(input: &[u8], limits: &Limits) -> (Vec<Request>, Option<ProtocolError>, usize) {
    let (mut requests, mut start) = (Vec::new(), 0);
    while start < input.len() {
        let rest = &input[start..];
        let allowed = &rest[..rest.len().min(limits.request_max())];
        match naive_request(allowed, limits) {
            Ok(Found::Whole(request, end)) => {
                requests.push(request);
                start += end;
            }
            Ok(Found::Needs(len)) => {
                let is_too_big = len > limits.request_max();
                return (requests, is_too_big.then_some(ProtocolError::RequestTooBig), start);
            }
            Err(error) => return (requests, Some(error), start),
        }
    }
    (requests, None, start)
}

fn naive_request(input: &[u8], limits: &Limits) -> Result<Found<Request>, ProtocolError> {
    if input[0] != b'*' {
        return naive_inline(input, limits);
    }
    let (count, mut at) = match naive_line(input, 0, limits, ProtocolError::MultibulkCountTooBig)? {
        Found::Whole(line, at) => (naive_number(&line[1..]), at),
        Found::Needs(len) => return Ok(Found::Needs(len)),
    };
    let count = count
        .filter(|count| *count <= i128::from(limits.multibulk_max))
        .ok_or(ProtocolError::InvalidMultibulkLength)?;
    if !limits.authenticated && count > i128::from(UNAUTHENTICATED_MULTIBULK_MAX) {
        return Err(ProtocolError::UnauthenticatedMultibulkLength);
    }
    let mut request = Vec::new();
    for _ in 0..count {
        match naive_argument(input, at, limits)? {
            Found::Whole(argument, end) => {
                request.push(argument);
                at = end;
            }
            Found::Needs(len) => return Ok(Found::Needs(len)),
        }
    }
    Ok(Found::Whole(request, at))
}

fn naive_argument(
    input: &[u8],
    at: usize,
    limits: &Limits,
) -> Result<Found<Vec<u8>>, ProtocolError> {
    let (line, start) = match naive_line(input, at, limits, ProtocolError::BulkCountTooBig)? {
        Found::Whole(line, start) => (line, start),
        Found::Needs(len) => return Ok(Found::Needs(len)),
    };
    if line.first() != Some(&b'$') {
        return Err(ProtocolError::ExpectedDollar(*line.first().unwrap_or(&b'\r')));
    }
    let len = naive_number(&line[1..])
        .filter(|len| (0..=i128::from(limits.bulk_max)).contains(len))
        .ok_or(ProtocolError::InvalidBulkLength)?;
    if !limits.authenticated && len > i128::from(UNAUTHENTICATED_BULK_MAX) {
        return Err(ProtocolError::UnauthenticatedBulkLength);
    }
    let end = start + usize::try_from(len).unwrap_or(usize::MAX / 2);
    Ok(match input.get(start..end) {
        Some(argument) if end + 2 <= input.len() => Found::Whole(argument.to_vec(), end + 2),
        _ => Found::Needs(end + 2),
    })
}

fn naive_inline(input: &[u8], limits: &Limits) -> Result<Found<Request>, ProtocolError> {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    if end > limits.inline_max {
        return Err(ProtocolError::InlineTooBig);
    }
    if end == input.len() {
        return Ok(Found::Needs(end + 1));
    }
    let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    Ok(Found::Whole(split_arguments(line)?, end + 1))
}

/// The line at `at` without its carriage return, behind which one byte more belongs to the line end.
fn naive_line<'a>(
    input: &'a [u8],
    at: usize,
    limits: &Limits,
    too_long: ProtocolError,
) -> Result<Found<&'a [u8]>, ProtocolError> {
    let rest = &input[at..];
    let end = rest.iter().position(|byte| *byte == b'\r').unwrap_or(rest.len());
    if end > limits.inline_max {
        return Err(too_long);
    }
    let is_whole = end + 2 <= rest.len();
    Ok(if is_whole {
        Found::Whole(&rest[..end], at + end + 2)
    } else {
        Found::Needs(input.len() + 1)
    })
}

/// An integer of 64 bits that is written as it was read.
fn naive_number(text: &[u8]) -> Option<i128> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(i128::from(number))
}
