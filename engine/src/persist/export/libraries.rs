//! Which libraries of functions there are in the end, from the commands that have changed them: what
//! a server finds out by repeating them, without compiling anything.
#![forbid(unsafe_code)]

use crate::{
    persist::{
        rdb::{functions, payload},
        replay::FunctionCommand,
    },
    script::read_metadata,
};

/// The code of the libraries that are there after these FUNCTION commands, which have all succeeded.
pub fn libraries_after(commands: &[FunctionCommand]) -> Vec<Vec<u8>> {
    let mut libraries: Vec<Library> = Vec::new();
    for command in commands {
        let Some((subcommand, rest)) = command.get(1..).and_then(<[_]>::split_first) else {
            continue;
        };
        match (subcommand.to_ascii_lowercase().as_slice(), rest) {
            (b"load", [.., code]) => put(&mut libraries, code),
            (b"delete", [name]) => libraries.retain(|library| library.name != *name),
            (b"flush", _) => libraries.clear(),
            (b"restore", [content, policy @ ..]) => {
                if policy.first().is_some_and(|policy| policy.eq_ignore_ascii_case(b"flush")) {
                    libraries.clear();
                }
                let content = payload::verify(content).unwrap_or_default();
                let codes = functions::libraries_of(content).unwrap_or_default();
                codes.iter().for_each(|code| put(&mut libraries, code));
            }
            _ => {}
        }
    }
    libraries.into_iter().map(|library| library.code).collect()
}

struct Library {
    name: Vec<u8>,
    code: Vec<u8>,
}

/// Puts a library in the place of the one of its name, or behind all others.
fn put(libraries: &mut Vec<Library>, code: &[u8]) {
    let Ok(metadata) = read_metadata(code) else { return };
    let library = Library { name: metadata.name, code: code.to_vec() };
    match libraries.iter_mut().find(|known| known.name == library.name) {
        Some(known) => *known = library,
        None => libraries.push(library),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(name: &str, version: u8) -> Vec<u8> {
        format!("#!lua name={name}\n-- {version}").into_bytes()
    }

    fn command(words: &[&[u8]]) -> FunctionCommand {
        [b"FUNCTION"]
            .iter()
            .map(|word| word.to_vec())
            .chain(words.iter().map(|it| it.to_vec()))
            .collect()
    }

    #[test]
    fn libraries_come_and_go_as_the_commands_say() {
        let (a, b, c) = (code("a", 1), code("b", 1), code("c", 1));
        let newer = code("a", 2);
        let dumped = functions::dump([&c[..]].into_iter(), true);
        let mut commands = vec![
            command(&[b"LOAD", &a]),
            command(&[b"load", &b]),
            command(&[b"LOAD", b"REPLACE", &newer]),
        ];
        assert_eq!(libraries_after(&commands), [newer.clone(), b.clone()]);
        commands.push(command(&[b"DELETE", b"b"]));
        commands.push(command(&[b"RESTORE", &dumped]));
        assert_eq!(libraries_after(&commands), [newer, c.clone()]);
        commands.push(command(&[b"RESTORE", &dumped, b"FLUSH"]));
        assert_eq!(libraries_after(&commands), [c]);
        commands.push(command(&[b"FLUSH", b"ASYNC"]));
        assert!(libraries_after(&commands).is_empty());
    }
}
