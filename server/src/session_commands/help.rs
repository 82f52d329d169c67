//! HELP of the containers, made from the command table: each subcommand's name and summary.
#![forbid(unsafe_code)]

use tessera_engine::command::{Command, CommandError, table};
use tessera_proto::Args;

use super::{Code, SessionContext};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("client|help", Code::Local(help)),
    ("command|help", Code::Local(help)),
    ("config|help", Code::Local(help)),
    ("debug|help", Code::Local(help)),
    ("function|help", Code::Local(help)),
    ("latency|help", Code::Local(help)),
    ("memory|help", Code::Local(help)),
    ("pubsub|help", Code::Local(help)),
    ("script|help", Code::Local(help)),
    ("slowlog|help", Code::Local(help)),
];

/// `container` HELP.
fn help(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let rows = table().find(&args[0]).map_or(&[][..], |row| row.subcommands);
    let lines = lines(&String::from_utf8_lossy(&args[0]), rows);
    let mut reply = cx.reply();
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
    Ok(())
}

/// A title, then two lines for each subcommand; HELP itself comes last, as in Redis.
fn lines(container: &str, rows: &[Command]) -> Vec<String> {
    let mut lines = vec![format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        container.to_ascii_uppercase()
    )];
    for row in rows.iter().filter(|row| row.name != "help") {
        lines.push(row.name.to_ascii_uppercase());
        lines.push(format!("    {}", row.summary.trim()));
    }
    lines.extend(["HELP".to_owned(), "    Print this help.".to_owned()]);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_is_named_and_help_is_last() {
        let config = table().find(b"config").unwrap();
        let lines = lines("config", config.subcommands);
        assert!(lines[0].starts_with("CONFIG <subcommand> "));
        assert_eq!(lines.len(), 1 + 2 * config.subcommands.len());
        assert!(lines.contains(&"RESETSTAT".to_owned()));
        assert_eq!(lines[lines.len() - 2..], ["HELP", "    Print this help."]);
    }
}
