//! Searches in sorted arrays: by a guess where keys are spread evenly, else by halving.
#![forbid(unsafe_code)]

/// Furthest that a search looks from its guess before it halves what is left.
const STEPS_MAX: usize = 12;

/// Where a hash stands about among `len` that are evenly spread from `low` to `high`.
#[inline]
pub(in crate::types::encoding) fn interpolate(hash: u32, low: u32, high: u32, len: usize) -> usize {
    let (offset, span) = (hash.saturating_sub(low), high.saturating_sub(low));
    // In floating point, since a division of integers takes three times as long.
    (offset as f32 / (span as f32 + 1.0) * len as f32) as usize
}

/// The first of `len` indexes for which `below` does not hold, looked for near `guess`: with hashes
/// the guess is a few places off, and looking at those reads a cache line or two where halving
/// would read one a step.
#[inline]
pub(in crate::types::encoding) fn lower_bound_near(
    len: usize,
    guess: usize,
    below: impl Fn(usize) -> bool,
) -> usize {
    let mut at = guess.min(len);
    if at < len && below(at) {
        let near = len.min(at + STEPS_MAX);
        loop {
            at += 1;
            if at == near {
                return if at < len { halving(at, len, below) } else { len };
            }
            if !below(at) {
                return at;
            }
        }
    }
    let near = at.saturating_sub(STEPS_MAX);
    while at > near {
        if below(at - 1) {
            return at;
        }
        at -= 1;
    }
    halving(0, at, below)
}

/// The first index in `low..high` for which `below` does not hold, or `high`.
pub(in crate::types::encoding) fn halving(
    mut low: usize,
    mut high: usize,
    below: impl Fn(usize) -> bool,
) -> usize {
    while low < high {
        let middle = usize::midpoint(low, high);
        if below(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
