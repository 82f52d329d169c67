//! Glob patterns as Redis matches them: KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET.
//!
//! `*` is any run of bytes, `?` any byte, `[…]` one of a class (`^` first: none of it; `a-z` a range;
//! a backslash takes the next byte as it is), a backslash elsewhere the next byte as it is.
//!
//! Why no recursion: what stands between two stars matches single bytes only, so when a later star
//! is reached, no earlier one needs to be tried again. Remembering the last star makes the work at
//! most the product of both lengths and no pattern abusive; Redis reaches the same by a flag that
//! cuts its recursion.
//!
//! Peculiarities of Redis that are kept, as stored patterns rely on them: the empty string matches
//! the empty pattern only, not `*`; a class that is not closed ends with the pattern; ranges compare
//! bytes as signed; an escaped byte within a class is compared with its case even when case is
//! ignored; no text gets past more than [`STARS_MAX`] runs of stars.

/// So many runs of stars are followed, one at the end of the pattern not counted: Redis's bound on
/// its recursion.
const STARS_MAX: usize = 1_000;

/// Whether `text` as a whole matches `pattern`, case counting.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, false)
}

/// Whether `text` as a whole matches `pattern`, the case of ASCII letters not counting.
#[must_use]
pub fn matches_ignoring_case(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, true)
}

fn run(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut pattern, mut text) = (pattern, text);
    // The pattern behind the last star, and the text from which to try it next.
    let mut retry: Option<(&[u8], &[u8])> = None;
    let mut stars = 0;
    loop {
        if let [b'*', behind @ ..] = pattern {
            pattern = behind;
            retry = Some((pattern, text));
            if !matches!(behind, [] | [b'*', ..]) {
                stars += 1;
            }
            if stars > STARS_MAX {
                return false;
            }
            continue;
        }
        let matched = match (text, pattern) {
            ([], []) => return true,
            ([], _) => return false,
            (_, []) if retry.is_some_and(|(behind, _)| behind.is_empty()) => return true,
            (_, []) => None,
            ([byte, _rest @ ..], _) => match_one(pattern, *byte, ignore_case),
        };
        if let Some(behind) = matched {
            (pattern, text) = (behind, &text[1..]);
        } else {
            let Some((behind, [_, rest @ ..])) = retry else { return false };
            retry = Some((behind, rest));
            (pattern, text) = (behind, rest);
        }
    }
}

/// Matches one byte with the first element of `pattern`, which is neither empty nor a star. Gives
/// the pattern behind the element if it matches.
#[inline]
fn match_one(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<&[u8]> {
    let (expected, behind) = match pattern {
        [b'?', behind @ ..] => return Some(behind),
        [b'[', class @ ..] => return match_class(class, byte, ignore_case),
        [b'\\', escaped, behind @ ..] => (*escaped, behind),
        [first, behind @ ..] => (*first, behind),
        [] => return None,
    };
    is_same(expected, byte, ignore_case).then_some(behind)
}

/// Matches one byte with a class, of which the opening bracket is before `class`.
fn match_class(class: &[u8], byte: u8, ignore_case: bool) -> Option<&[u8]> {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    let behind = loop {
        rest = match rest {
            [b'\\', escaped, behind @ ..] => {
                found |= *escaped == byte;
                behind
            }
            [b']', behind @ ..] => break behind,
            [] => break rest,
            [from, b'-', to, behind @ ..] => {
                found |= is_in_range(*from, *to, byte, ignore_case);
                behind
            }
            [member, behind @ ..] => {
                found |= is_same(*member, byte, ignore_case);
                behind
            }
        };
    };
    (found != negated).then_some(behind)
}

#[inline]
fn is_same(a: u8, b: u8, ignore_case: bool) -> bool {
    a == b || ignore_case && a.eq_ignore_ascii_case(&b)
}

/// Whether `byte` lies between the two, in whichever order they are given.
fn is_in_range(from: u8, to: u8, byte: u8, ignore_case: bool) -> bool {
    let (low, high) = if from.cast_signed() <= to.cast_signed() { (from, to) } else { (to, from) };
    let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte }.cast_signed();
    (fold(low)..=fold(high)).contains(&fold(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::naive_glob;
    use proptest::prelude::*;

    fn all(pattern: &str, yes: &[&str], no: &[&str]) {
        for text in yes {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for text in no {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn stars_and_question_marks_match_runs_and_bytes() {
        all("*", &["a", "abc"], &[]);
        all("h?llo", &["hello", "hallo"], &["hllo", "heello"]);
        all("h*llo", &["hllo", "heeeello"], &["hell", "xhllo"]);
        all("a*b*c", &["abc", "aXbYc", "abbcc"], &["ab", "ac", "abcd"]);
        all("*a", &["a", "ba", "aa"], &["ab"]);
        all("a**", &["a", "ab"], &["b"]);
        all("", &[""], &["a"]);
    }

    #[test]
    fn the_empty_string_matches_the_empty_pattern_only() {
        all("*", &[], &[""]);
        all("**", &[], &[""]);
        all("[^", &[], &[""]);
    }

    #[test]
    fn classes_match_members_ranges_and_their_complement() {
        all("h[ae]llo", &["hello", "hallo"], &["hillo"]);
        all("h[^e]llo", &["hallo"], &["hello", "hllo"]);
        all("h[a-b]llo", &["hallo", "hbllo"], &["hcllo"]);
        all("h[b-a]llo", &["hallo", "hbllo"], &["hcllo"]);
        all(r"[\]a]", &["]", "a"], &["b", "\\"]);
        all(r"[a\-z]", &["a", "-", "z"], &["m"]);
        all("[]", &[], &["]", "a"]);
        all("[^]", &["]", "a"], &[]);
    }

    #[test]
    fn open_classes_end_with_the_pattern() {
        all("[abc", &["a", "c"], &["d", "[abc"]);
        all("[", &[], &["[", "a"]);
        all("[^", &["a", "^"], &["aa"]);
        all("[a-]", &["a", "]", "^"], &["-x"]);
        all(r"[\", &["\\"], &["a"]);
    }

    #[test]
    fn backslashes_take_the_next_byte_as_it_is() {
        all(r"h\?llo", &["h?llo"], &["hello"]);
        all(r"\*", &["*"], &["a"]);
        all("a\\", &["a\\"], &["a"]);
    }

    #[test]
    fn case_counts_unless_it_is_ignored() {
        assert!(!matches(b"hello", b"HELLO"));
        assert!(matches_ignoring_case(b"hEl*[X-z]", b"HeLLOy"));
        assert!(matches_ignoring_case(b"[a-c]", b"B"));
        assert!(!matches_ignoring_case(br"[\a]", b"A"));
        // The ends are ordered first and folded then, so this range is empty.
        assert!(!matches_ignoring_case(b"[x-Z]", b"y"));
    }

    #[test]
    fn ranges_compare_signed_bytes() {
        assert!(matches(b"[\x80-\x90]", b"\x85"));
        assert!(matches(b"[a-\xff]", b"\x10"));
        assert!(!matches(b"[a-\xff]", b"b"));
    }

    #[test]
    fn abusive_patterns_do_no_harm() {
        let pattern = "a*".repeat(20_000) + "b";
        let text = "a".repeat(20_000);
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn stars_are_followed_up_to_a_bound() {
        let text = "a".repeat(20_000);
        let stars = |count: usize| "*?".repeat(count);
        assert!(matches(stars(STARS_MAX).as_bytes(), text.as_bytes()));
        assert!(!matches(stars(STARS_MAX + 1).as_bytes(), text.as_bytes()));
        // Stars in a row are one, and one at the end is not counted.
        assert!(matches(("**?".repeat(STARS_MAX) + "*").as_bytes(), text.as_bytes()));
    }

    proptest! {
        #[test]
        fn random_bytes_match_alike(bytes: Vec<u8>) {
            crate::fuzz::glob_agrees(&bytes);
        }

        #[test]
        fn matching_agrees_with_the_recursive_definition(
            pattern in r"[ab?*\[\]\\^\-]{0,8}", text in r"[ab\]\-A]{0,6}", ignore_case: bool,
        ) {
            let expected = naive_glob(pattern.as_bytes(), text.as_bytes(), ignore_case);
            prop_assert_eq!(run(pattern.as_bytes(), text.as_bytes(), ignore_case), expected);
        }
    }
}
