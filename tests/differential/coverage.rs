//! That the grammars are whole: every command of the families occurs in one, with every word it knows.
//!
//! redis-server itself tells which commands and words there are, by COMMAND DOCS. What is left out is
//! named here with the reason; a name that need not be here any more is a failure too.

use std::collections::{BTreeMap, BTreeSet};

use super::streams::{Family, Stream};
use crate::harness::{Reply, redis_server};

/// The groups of COMMAND DOCS that the families are for.
const GROUPS: [&str; 11] = [
    "string",
    "list",
    "hash",
    "set",
    "sorted-set",
    "stream",
    "bitmap",
    "hyperloglog",
    "geo",
    "generic",
    "transactions",
];

/// Commands of these groups that are in no grammar.
const COMMANDS_LEFT_OUT: &[(&str, &str)] = &[
    ("DUMP", "the bytes of hash tables have no order: tests/dump.rs"),
    ("RESTORE", "its payloads are not words: tests/dump.rs"),
    ("MIGRATE", "needs a second server"),
    ("WAIT", "needs replicas"),
    ("RANDOMKEY", "random"),
    ("SCAN", "a call walks one shard, so cursors differ: tests/scan.rs"),
    ("PFSELFTEST", "tests redis-server itself"),
];

/// Words of commands that are in no grammar.
const WORDS_LEFT_OUT: &[(&str, &str, &str)] = &[
    ("OBJECT", "HELP", "help is in words of its own"),
    ("XGROUP", "HELP", "help is in words of its own"),
    ("XINFO", "HELP", "help is in words of its own"),
    ("OBJECT", "IDLETIME", "tells the time since the last use"),
    ("OBJECT", "REFCOUNT", "tells how many share a value, of which there is no such thing here"),
    ("XADD", "*", "tells the time; `ms-*` is compared"),
    ("GEOSEARCH", "ANY", "which places are found first is not defined"),
    ("GEOSEARCHSTORE", "ANY", "which places are found first is not defined"),
    ("GEORADIUS", "ANY", "which places are found first is not defined"),
    ("GEORADIUS_RO", "ANY", "which places are found first is not defined"),
    ("GEORADIUSBYMEMBER", "ANY", "which places are found first is not defined"),
    ("GEORADIUSBYMEMBER_RO", "ANY", "which places are found first is not defined"),
];

/// Steps of each family that are looked at: rare ones come about every thousand.
const STEPS: usize = 40_000;

/// The words that the grammars use with each command, both in capitals.
fn used() -> BTreeMap<String, BTreeSet<String>> {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for family in Family::ALL {
        for step in Stream::new(family, 1).take(STEPS) {
            let mut words =
                step.args.iter().map(|arg| String::from_utf8_lossy(arg).to_ascii_uppercase());
            let command = words.next().unwrap_or_default();
            used.entry(command).or_default().extend(words.filter(|word| word.len() < 20));
        }
    }
    used
}

/// The value of `name` in a map, which RESP2 writes as an array.
fn field<'a>(map: &'a Reply, name: &str) -> Option<&'a Reply> {
    let Reply::Array(items) = map else { return None };
    items.chunks_exact(2).find(|pair| pair[0] == Reply::bulk(name)).map(|pair| &pair[1])
}

/// Adds the words of arguments, and of those within them.
fn collect_words(arguments: Option<&Reply>, words: &mut BTreeSet<String>) {
    let Some(Reply::Array(arguments)) = arguments else { return };
    for argument in arguments {
        if let Some(Reply::Bulk(token)) = field(argument, "token") {
            words.insert(String::from_utf8_lossy(token).to_ascii_uppercase());
        }
        collect_words(field(argument, "arguments"), words);
    }
}

/// The commands of the groups with their words, as `docs` tells: a subcommand is a word.
fn known(docs: &Reply) -> BTreeMap<String, BTreeSet<String>> {
    let Reply::Array(items) = docs else { panic!("COMMAND DOCS is a map") };
    let mut known = BTreeMap::new();
    for pair in items.chunks_exact(2) {
        let group = field(&pair[1], "group").cloned().map(Reply::into_text).unwrap_or_default();
        if !GROUPS.contains(&group.as_str()) {
            continue;
        }
        let mut words = BTreeSet::new();
        collect_words(field(&pair[1], "arguments"), &mut words);
        if let Some(Reply::Array(subcommands)) = field(&pair[1], "subcommands") {
            for pair in subcommands.chunks_exact(2) {
                let name = pair[0].clone().into_text();
                let name = name.split_once('|').map_or("", |(_, name)| name);
                words.insert(name.to_ascii_uppercase());
                collect_words(field(&pair[1], "arguments"), &mut words);
            }
        }
        known.insert(pair[0].clone().into_text().to_ascii_uppercase(), words);
    }
    known
}

/// What the grammars lack of what is known, and the names of what is left out without need.
fn faults(
    known: &BTreeMap<String, BTreeSet<String>>,
    used: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (command, words) in known {
        let is_left_out = COMMANDS_LEFT_OUT.iter().any(|(left_out, _)| left_out == command);
        match used.get(command) {
            None if !is_left_out => faults.push(format!("{command} is in no grammar")),
            Some(_) if is_left_out => faults.push(format!("{command} is not left out")),
            Some(used) => faults.extend(faults_of(command, words, used)),
            None => {}
        }
    }
    faults
}

fn faults_of(command: &str, words: &BTreeSet<String>, used: &BTreeSet<String>) -> Vec<String> {
    let left_out = |word: &str| {
        WORDS_LEFT_OUT.iter().any(|(of, left_out, _)| *of == command && *left_out == word)
    };
    let fault = |word: &String| match (used.contains(word), left_out(word)) {
        (false, false) => Some(format!("{command} never has {word}")),
        (true, true) => Some(format!("{word} of {command} is not left out")),
        _ => None,
    };
    words.iter().filter_map(fault).collect()
}

#[test]
fn every_command_of_the_families_occurs_with_all_its_words() {
    let Some(redis) = redis_server() else { return };
    let known = known(&redis.connect().call(["COMMAND", "DOCS"]));
    assert!(known.len() > 150, "COMMAND DOCS tells all commands");
    assert!(known["SET"].contains("KEEPTTL") && known["XGROUP"].contains("CREATECONSUMER"));
    let faults = faults(&known, &used());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_a_grammar_lacks_is_noticed() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let known = BTreeMap::from([
        ("SET".to_owned(), words(&["NX", "XX"])),
        ("HGET".to_owned(), BTreeSet::new()),
        ("WAIT".to_owned(), BTreeSet::new()),
    ]);
    let used = BTreeMap::from([
        ("SET".to_owned(), words(&["K", "V", "NX"])),
        ("WAIT".to_owned(), BTreeSet::new()),
    ]);
    let expected = ["HGET is in no grammar", "SET never has XX", "WAIT is not left out"];
    assert_eq!(faults(&known, &used), expected);
}
