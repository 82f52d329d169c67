//! What is said of the commands agrees with their rows.

use super::*;
use crate::command::{Arity, Command, table, table::flag};

/// Commands that Redis has and this server has not, with all their subcommands: their entries wait for
/// the rows.
const NOT_YET: [&str; 15] = [
    "acl",
    "asking",
    "client|capa",
    "cluster",
    "failover",
    "migrate",
    "module",
    "psync",
    "readonly",
    "readwrite",
    "replconf",
    "replicaof",
    "role",
    "slaveof",
    "sync",
];

/// How many arguments at least, and whether never more.
fn extent(argument: &Argument) -> (usize, bool) {
    let token = usize::from(argument.token.is_some() && argument.kind != Kind::Word);
    let (fewest, is_exact) = match &argument.kind {
        Kind::OneOf(choices) => choices.iter().map(extent).fold((usize::MAX, true), |all, one| {
            let is_same = all.0 == usize::MAX || all.0 == one.0;
            (all.0.min(one.0), all.1 && one.1 && is_same)
        }),
        Kind::Block(parts) => extent_of(parts),
        _ => (1, true),
    };
    if argument.is_optional {
        (0, false)
    } else {
        (fewest + token, is_exact && !argument.is_multiple)
    }
}

fn extent_of(arguments: &[Argument]) -> (usize, bool) {
    arguments.iter().map(extent).fold((0, true), |all, one| (all.0 + one.0, all.1 && one.1))
}

#[test]
fn every_command_has_an_entry_that_parses() {
    for row in table().all() {
        let entry = ENTRIES.get(row.full_name);
        let entry = entry.unwrap_or_else(|| panic!("{} is not documented", row.full_name));
        let docs = parse(entry).unwrap_or_else(|error| panic!("{}: {error}", row.full_name));
        assert!(!docs.complexity.is_empty(), "{} does not tell its cost", row.full_name);
        assert!(docs.history.is_sorted_by_key(|(version, _)| numbers(version)), "{entry}");
    }
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().expect(version)).collect()
}

#[test]
fn every_entry_is_one_command_of_the_table() {
    let named: Vec<&str> =
        FAMILIES.into_iter().flat_map(named_entries).map(|(name, _)| name).collect();
    let unique: std::collections::HashSet<&str> = named.iter().copied().collect();
    assert_eq!(named.len(), unique.len(), "no command is documented twice");
    let rows: std::collections::HashSet<&str> = table().all().map(|row| row.full_name).collect();
    for name in named {
        let container = name.split('|').next().unwrap_or(name);
        let is_not_yet = NOT_YET.contains(&name) || NOT_YET.contains(&container);
        assert_ne!(rows.contains(name), is_not_yet, "{name}");
        assert!(parse(ENTRIES[name]).is_ok(), "{name}");
    }
}

#[test]
fn arguments_agree_with_the_arity() {
    /// Rows whose arity the arguments do not tell, and why.
    const LOOSE: [(&str, &str); 2] = [
        ("client|kill", "all filters may be left out, but not all at once"),
        ("quit", "whatever follows is passed over, as in Redis"),
    ];
    let mut found = Vec::new();
    for row in table().all().filter(|row| row.subcommands.is_empty()) {
        let docs = docs(row.full_name).expect(row.full_name);
        let names = 1 + usize::from(row.full_name.contains('|'));
        let (fewest, is_exact) = extent_of(&docs.arguments);
        let wanted = match is_exact {
            true => Arity::Exactly(names + fewest),
            false => Arity::AtLeast(names + fewest),
        };
        if row.arity != wanted {
            found.push((row.full_name, format!("{:?} but {wanted:?}", row.arity)));
        }
    }
    let named: Vec<_> = LOOSE.iter().map(|(name, _)| *name).collect();
    assert_eq!(found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), named, "{found:#?}");
}

#[test]
fn what_is_deprecated_is_so_in_the_row_too() {
    let is_marked = |row: &Command| row.flags.has(flag::DEPRECATED);
    for row in table().all() {
        let docs = docs(row.full_name).expect(row.full_name);
        assert_eq!(docs.deprecated.is_some(), is_marked(row), "{}", row.full_name);
    }
}

/// What goes over all shards here is to go over all nodes of a cluster.
#[test]
fn commands_that_are_spread_have_a_policy() {
    use crate::command::Way;
    for row in table().all() {
        let policy = tips(row.full_name).find_map(|tip| tip.strip_prefix("request_policy:"));
        let wanted = match row.way {
            Way::SumOfKeys | Way::EachKey | Way::AllKeysOk => Some("multi_shard"),
            // A cluster has one database.
            _ if row.name == "swapdb" => None,
            Way::SumOfShards | Way::AllShardsOk | Way::JoinOfShards | Way::RandomShard => {
                Some("all_shards")
            }
            Way::Cursor => Some("special"),
            Way::Owner | Way::Channel | Way::Waiting => None,
            Way::Session | Way::Script => continue,
        };
        assert_eq!(policy, wanted, "{}", row.full_name);
    }
}

#[test]
fn arguments_are_told_in_their_order() {
    let names = |name: &str| {
        let docs = docs(name).expect(name);
        docs.arguments.into_iter().map(|argument| argument.name).collect::<Vec<_>>()
    };
    assert_eq!(names("set"), ["key", "value", "condition", "get", "expiration"]);
    assert_eq!(names("client|no-evict"), ["enabled"]);
    assert_eq!(names("ping"), ["message"]);
    assert_eq!(names("dbsize"), [""; 0]);
    assert_eq!(docs("nosuch"), None);
}
