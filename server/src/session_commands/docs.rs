//! COMMAND DOCS: what people and their tools read about commands.
#![forbid(unsafe_code)]

use tessera_engine::command::{
    Command, CommandError,
    docs::{Argument, docs as docs_of},
    table,
};
use tessera_proto::{Args, Deferred, ReplyWriter};

use super::{SessionContext, command};

/// COMMAND DOCS [name …]; unknown names are left out.
pub(super) fn docs(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let rows: Vec<&Command> = match args.len() {
        2 => table().commands().iter().collect(),
        _ => args.iter().skip(2).filter_map(command::find).collect(),
    };
    write_rows(&mut cx.reply(), &rows);
    Ok(())
}

fn write_rows(reply: &mut ReplyWriter<'_>, rows: &[&Command]) {
    reply.map(rows.len());
    for row in rows {
        reply.bulk(row.full_name.as_bytes());
        write_row(reply, row);
    }
}

/// A map whose fields are counted while they are written: most may be left out.
struct Fields<'r, 'b> {
    reply: &'r mut ReplyWriter<'b>,
    begun: Deferred,
    len: usize,
}

impl<'r, 'b> Fields<'r, 'b> {
    fn begin(reply: &'r mut ReplyWriter<'b>) -> Self {
        let begun = reply.deferred();
        Self { reply, begun, len: 0 }
    }

    /// Begins a field, whose value is to be written to what is answered.
    fn value(&mut self, name: &str) -> &mut ReplyWriter<'b> {
        self.len += 1;
        self.reply.bulk(name.as_bytes());
        self.reply
    }

    fn text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.value(name).bulk(text.as_bytes());
        }
    }

    /// A set of the words whose flags are set, as simple strings.
    fn flags(&mut self, name: &str, flags: &[(bool, &str)]) {
        let words: Vec<&str> =
            flags.iter().filter(|(is_set, _)| *is_set).map(|(_, word)| *word).collect();
        if !words.is_empty() {
            let reply = self.value(name);
            reply.set(words.len());
            words.iter().for_each(|word| reply.simple(word));
        }
    }

    fn end(self) {
        self.reply.finish_map(self.begun, self.len);
    }
}

/// One command's entry, its fields in Redis's order.
fn write_row(reply: &mut ReplyWriter<'_>, row: &Command) {
    let docs = docs_of(row.full_name).unwrap_or_default();
    let (deprecated_since, replaced_by) = docs.deprecated.unzip();
    let mut fields = Fields::begin(reply);
    fields.text("summary", Some(row.summary.trim()));
    fields.text("since", Some(row.since));
    fields.text("group", Some(row.group.name()));
    fields.text("complexity", Some(docs.complexity));
    let is_deprecated = deprecated_since.is_some();
    fields.flags("doc_flags", &[(is_deprecated, "deprecated"), (docs.is_system, "syscmd")]);
    fields.text("deprecated_since", deprecated_since);
    fields.text("replaced_by", replaced_by);
    if !docs.history.is_empty() {
        write_history(fields.value("history"), &docs.history);
    }
    if !docs.arguments.is_empty() {
        write_arguments(fields.value("arguments"), &docs.arguments);
    }
    if !row.subcommands.is_empty() {
        let rows: Vec<&Command> = row.subcommands.iter().collect();
        write_rows(fields.value("subcommands"), &rows);
    }
    fields.end();
}

fn write_history(reply: &mut ReplyWriter<'_>, history: &[(&str, &str)]) {
    reply.set(history.len());
    for (version, change) in history {
        reply.array(2);
        reply.bulk(version.as_bytes());
        reply.bulk(change.as_bytes());
    }
}

fn write_arguments(reply: &mut ReplyWriter<'_>, arguments: &[Argument]) {
    reply.array(arguments.len());
    arguments.iter().for_each(|argument| write_argument(reply, argument));
}

fn write_argument(reply: &mut ReplyWriter<'_>, argument: &Argument) {
    let inner = argument.kind.arguments();
    let shown = argument.display.unwrap_or(&argument.name);
    let mut fields = Fields::begin(reply);
    fields.text("name", Some(&argument.name));
    fields.text("type", Some(argument.kind.name()));
    fields.text("display_text", inner.is_none().then_some(shown));
    if let Some(number) = argument.key_spec {
        fields.value("key_spec_index").integer(number.into());
    }
    fields.text("token", argument.token);
    fields.text("since", argument.since);
    fields.text("deprecated_since", argument.deprecated_since);
    let flags = [
        (argument.is_optional, "optional"),
        (argument.is_multiple, "multiple"),
        (argument.repeats_token, "multiple_token"),
    ];
    fields.flags("flags", &flags);
    if let Some(inner) = inner {
        write_arguments(fields.value("arguments"), inner);
    }
    fields.end();
}
