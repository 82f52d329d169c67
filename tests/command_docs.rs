//! COMMAND DOCS: the trees of arguments agree with COMMAND INFO's key specifications, and say of the
//! commands that redis-server has what that says too.

use std::collections::BTreeMap;

use crate::harness::{Client, Reply, Server, find_program, redis_server, run_to_end};

/// An argument: what is compared of it, and the arguments inside.
#[derive(Clone, Debug, PartialEq)]
struct Argument {
    name: String,
    kind: String,
    token: Option<String>,
    key_spec: Option<i64>,
    flags: Vec<String>,
    inner: Vec<Argument>,
}

/// A command's entry of COMMAND DOCS.
#[derive(Debug)]
struct Entry {
    group: String,
    since: String,
    deprecated_since: Option<String>,
    arguments: Vec<Argument>,
}

/// A map's fields by name.
fn fields(reply: Reply) -> BTreeMap<String, Reply> {
    let items = reply.into_items();
    items.chunks(2).map(|pair| (pair[0].clone().into_text(), pair[1].clone())).collect()
}

fn text(fields: &BTreeMap<String, Reply>, name: &str) -> Option<String> {
    fields.get(name).map(|value| value.clone().into_text())
}

fn arguments(reply: Option<&Reply>) -> Vec<Argument> {
    reply.map_or(Vec::new(), |reply| reply.clone().into_items()).into_iter().map(argument).collect()
}

fn argument(reply: Reply) -> Argument {
    let fields = fields(reply);
    let word = |flag: Reply| match flag {
        Reply::Simple(word) => word,
        other => panic!("{other:?} is no flag"),
    };
    let mut flags: Vec<String> = fields
        .get("flags")
        .map_or(Vec::new(), |flags| flags.clone().into_items())
        .into_iter()
        .map(word)
        .collect();
    flags.sort();
    Argument {
        name: text(&fields, "name").expect("a name"),
        kind: text(&fields, "type").expect("a type"),
        token: text(&fields, "token"),
        key_spec: fields.get("key_spec_index").map(|number| number.clone().into_integer()),
        flags,
        inner: arguments(fields.get("arguments")),
    }
}

/// All entries, those of subcommands too.
fn entries(client: &mut Client) -> BTreeMap<String, Entry> {
    fn add(all: &mut BTreeMap<String, Entry>, docs: Reply) {
        for (name, entry) in fields(docs) {
            let fields = fields(entry);
            if let Some(subcommands) = fields.get("subcommands") {
                add(all, subcommands.clone());
            }
            let entry = Entry {
                group: text(&fields, "group").expect("a group"),
                since: text(&fields, "since").unwrap_or_default(),
                deprecated_since: text(&fields, "deprecated_since"),
                arguments: arguments(fields.get("arguments")),
            };
            all.insert(name, entry);
        }
    }
    let mut all = BTreeMap::new();
    add(&mut all, client.run("COMMAND DOCS"));
    all
}

/// How many key specifications each command has.
fn key_specs(client: &mut Client) -> BTreeMap<String, usize> {
    fn add(all: &mut BTreeMap<String, usize>, rows: Reply) {
        for row in rows.into_items() {
            let row = row.into_items();
            all.insert(row[0].clone().into_text(), row[8].clone().into_items().len());
            add(all, row[9].clone());
        }
    }
    let mut all = BTreeMap::new();
    add(&mut all, client.run("COMMAND"));
    all
}

#[test]
fn keys_among_the_arguments_are_found_by_key_specifications() {
    fn check(name: &str, specs: usize, arguments: &[Argument]) {
        for argument in arguments {
            let is_there = |spec: i64| usize::try_from(spec).is_ok_and(|spec| spec < specs);
            assert!(argument.key_spec.is_none_or(is_there), "{name}: {argument:?} of {specs}");
            let is_found = argument.kind != "key" || argument.key_spec.is_some();
            assert!(is_found, "{name}: {argument:?}");
            check(name, specs, &argument.inner);
        }
    }
    let server = Server::start(1);
    let mut client = server.connect();
    let (entries, specs) = (entries(&mut client), key_specs(&mut client));
    assert_eq!(entries.keys().collect::<Vec<_>>(), specs.keys().collect::<Vec<_>>());
    entries.iter().for_each(|(name, entry)| check(name, specs[name], &entry.arguments));
}

/// What our arguments lack of `theirs`, or say otherwise. Ours may have more: newer options. Names are
/// not compared: Redis 7.2 has given better ones to groups.
fn differences(path: &str, ours: &[Argument], theirs: &[Argument], found: &mut Vec<String>) {
    let mut rest = ours.iter();
    for wanted in theirs {
        let path = format!("{path} {}", wanted.name);
        let is_same = |own: &&Argument| {
            let tokens = (own.token.as_deref(), wanted.token.as_deref());
            let are_same_tokens = match tokens {
                (Some(own), Some(wanted)) => own.eq_ignore_ascii_case(wanted),
                (own, wanted) => own == wanted,
            };
            own.kind == wanted.kind && are_same_tokens
        };
        let Some(own) = rest.by_ref().find(is_same) else {
            found.push(path);
            return;
        };
        if (&own.flags, own.key_spec) != (&wanted.flags, wanted.key_spec) {
            found.push(path.clone());
        }
        differences(&path, &own.inner, &wanted.inner, found);
    }
}

/// Where the entries differ from redis-server 7.0's, and why.
const OTHERWISE: [(&str, &str); 25] = [
    ("bitcount index end", "the end may be left out since Valkey 8"),
    ("bitop operation", "operations are words to choose from since 7.2"),
    ("client|kill filter new-format yes/no", "SKIPME's YES and NO are words since 7.2"),
    ("client|list id", "ids are one argument since 7.2"),
    ("client|pause: since", "3.0.0 since 7.2"),
    ("config|get parameter", "one argument since 7.2"),
    ("geohash member", "may be left out since 7.2"),
    ("geopos member", "may be left out since 7.2"),
    ("georadius key", "STORE and STOREDIST exclude each other since 7.2"),
    ("georadiusbymember key", "STORE and STOREDIST exclude each other since 7.2"),
    ("pfmerge sourcekey", "may be left out since 7.2"),
    ("psetex: deprecated_since", "since 7.2"),
    ("psubscribe pattern", "one argument since 7.2"),
    ("quit: deprecated_since", "since 7.2"),
    ("setex: deprecated_since", "since 7.2"),
    ("setnx: deprecated_since", "since 7.2"),
    ("shutdown nosave_save nosave", "words and abort exclude each other since 7.2"),
    ("shutdown now", "words and abort exclude each other since 7.2"),
    ("sort pattern", "patterns have no key specification here"),
    ("sort pattern", "patterns have no key specification here"),
    ("sort destination", "the second key specification, since patterns have none"),
    ("sort_ro pattern", "patterns have no key specification here"),
    ("sort_ro pattern", "patterns have no key specification here"),
    ("wait: group", "stands with the connection's commands, whose ACL category it has"),
    ("xinfo|stream full", "COUNT needs FULL since 7.2"),
];

#[test]
fn what_redis_documents_is_documented_alike() {
    let Some(redis) = redis_server() else { return };
    let server = Server::start(1);
    let (ours, theirs) = (entries(&mut server.connect()), entries(&mut redis.connect()));
    let mut found = Vec::new();
    let mut compared = 0;
    for (name, theirs) in theirs {
        let Some(ours) = ours.get(&name) else { continue };
        compared += 1;
        differences(&name, &ours.arguments, &theirs.arguments, &mut found);
        let facts = [
            ("group", ours.group == theirs.group),
            ("since", ours.since == theirs.since),
            ("deprecated_since", ours.deprecated_since == theirs.deprecated_since),
        ];
        let wrong = facts.into_iter().filter(|(_, is_alike)| !is_alike);
        found.extend(wrong.map(|(what, _)| format!("{name}: {what}")));
    }
    assert!(compared > 250, "only {compared} commands were compared");
    let named: Vec<&str> = OTHERWISE.iter().map(|(path, _)| *path).collect();
    assert_eq!(found, named);
}

/// The tips of all commands, subcommands too.
fn tips(client: &mut Client) -> BTreeMap<String, Vec<Reply>> {
    fn add(all: &mut BTreeMap<String, Vec<Reply>>, rows: Reply) {
        for row in rows.into_items() {
            let row = row.into_items();
            let mut tips = row[7].clone().into_items();
            tips.sort();
            all.insert(row[0].clone().into_text(), tips);
            add(all, row[9].clone());
        }
    }
    let mut all = BTreeMap::new();
    add(&mut all, client.run("COMMAND"));
    all
}

/// Whose tips differ from redis-server 7.0's, and why.
const OTHER_TIPS: [(&str, &str); 7] = [
    ("client|setname", "concerns all nodes since 7.2"),
    ("config|resetstat", "concerns all nodes since 7.2"),
    ("config|rewrite", "concerns all nodes since 7.2"),
    ("latency|reset", "counts are added up since 7.2"),
    ("msetnx", "is not spread since 7.2: it is atomic"),
    ("randomkey", "one of the answers is chosen since 7.2"),
    ("scan", "answers are put together in a special way since 7.2"),
];

#[test]
fn tips_are_those_of_redis() {
    let Some(redis) = redis_server() else { return };
    let server = Server::start(1);
    let (ours, theirs) = (tips(&mut server.connect()), tips(&mut redis.connect()));
    let differ = |name: &&String| ours.get(*name).is_some_and(|own| *own != theirs[*name]);
    let found: Vec<&str> = theirs.keys().filter(differ).map(String::as_str).collect();
    assert_eq!(found, OTHER_TIPS.map(|(name, _)| name));
}

/// redis-cli asks for the entries at its start, and shows help and hints from them.
#[test]
fn redis_cli_shows_help_from_the_entries() {
    let Some(program) = find_program("redis-cli") else {
        return crate::harness::skip("redis-cli is not installed");
    };
    let server = Server::start(1);
    let mut command = std::process::Command::new(program);
    command.args(["-p", &server.port().to_string(), "HELP", "SETEX"]);
    let done = run_to_end(&mut command, std::time::Duration::from_secs(60));
    assert!(done.success, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("key seconds value"), "{}", done.stdout);
    assert!(done.stdout.contains("Sets a string that expires after some seconds."));
}
