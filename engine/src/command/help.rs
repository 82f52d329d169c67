//! What containers of subcommands answer to HELP.
#![forbid(unsafe_code)]

use tessera_proto::ReplyWriter;

/// Writes the help of `container` (upper case): for each subcommand its usage and what it does.
pub(super) fn reply(reply: &mut ReplyWriter<'_>, container: &str, subcommands: &[(&str, &str)]) {
    reply.array(2 * (subcommands.len() + 1) + 1);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for (usage, meaning) in subcommands.iter().chain(&[("HELP", "Print this help.")]) {
        reply.simple(usage);
        reply.simple(&format!("    {meaning}"));
    }
}
