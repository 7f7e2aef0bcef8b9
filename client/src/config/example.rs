//! The annotated file `headwater.example.toml`, from the options themselves.

use std::fmt::Write;

use super::rows::{Row, groups};
use super::table::{KAFKA, Kind, Secrecy, Table};
use crate::cli;
use crate::terminal::{COLUMNS, wrap};

/// The file, whole: every key commented out, with its default or, where it has none, an example.
pub fn example() -> String {
    let table = Table::new(&cli::command());
    let mut text = String::new();
    for (number, paragraph) in HEAD.into_iter().enumerate() {
        text.push_str(if number > 0 { "#\n" } else { "" });
        comment(paragraph, "# ", &mut text);
    }
    let groups = groups(&table);
    for group in &groups {
        let mut rows = group
            .rows
            .iter()
            .filter(|row| own_table(row, &table).is_none())
            .peekable();
        if rows.peek().is_some() {
            let rule = "-".repeat(COLUMNS.saturating_sub(group.heading.len() + 6));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "\n# -- {} {rule}", group.heading);
        }
        rows.for_each(|row| entry(row, &mut text));
    }
    text.push_str(PROPERTIES);
    for command in &table.commands {
        let rows = groups.iter().flat_map(|group| &group.rows);
        let mut rows = rows
            .filter(|row| own_table(row, &table) == Some(&command.name))
            .peekable();
        if rows.peek().is_some() {
            let _ = writeln!(text, "\n# -- headwater {} alone\n\n[{0}]", command.name);
        }
        rows.for_each(|row| entry(row, &mut text));
    }
    text
}

/// The table that a key is shown in: that of its command where it is for one alone that is not
/// `stream`, or where the name means something else before the first table.
fn own_table<'a>(row: &Row<'a>, table: &Table) -> Option<&'a str> {
    let key = &row.setting.key;
    let first = row.commands.first().copied()?;
    let is_elsewhere = table.is_ambiguous(key) || key == KAFKA || table.command(key).is_some();
    (is_elsewhere || (row.commands.len() == 1 && first != "stream")).then_some(first)
}

fn entry(row: &Row<'_>, text: &mut String) {
    text.push('\n');
    comment(&row.help(), "# ", text);
    let values = row.possible_values();
    for value in &values {
        let help = value.get_help().map(ToString::to_string);
        let help = help.map_or_else(String::new, |help| format!(": {help}"));
        comment(&format!("{}{help}", value.get_name()), "#   ", text);
    }
    let _ = writeln!(text, "#{} = {}", row.setting.key, value(row));
}

fn comment(sentence: &str, indent: &str, text: &mut String) {
    for line in wrap(sentence, COLUMNS - indent.len()) {
        let _ = writeln!(text, "{indent}{line}");
    }
}

/// A value as TOML: the default, else an example.
fn value(row: &Row<'_>) -> String {
    let quoted = |text: &str| match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => text.to_owned(),
        _ => serde_json::Value::from(text).to_string(),
    };
    if row.setting.secrecy() == Secrecy::Secret {
        return format!("{{ file = \"/run/secrets/{}\" }}", row.setting.key);
    }
    match row.setting.kind() {
        Kind::Flag => "false".to_owned(),
        Kind::Count => "0".to_owned(),
        Kind::Value => match row.default() {
            Some(value) => quoted(&value),
            None => quoted(sample(row)),
        },
        Kind::List => format!("[{}]", quoted(sample(row))),
    }
}

/// An example of what an option without default takes, by its name or by its value's.
fn sample(row: &Row<'_>) -> &'static str {
    let arg = &row.setting.arg;
    let is_empty_by_default = !arg.get_default_values().is_empty();
    let name = arg.get_value_names().and_then(<[_]>::first);
    let name = name.map_or("", |name| name.as_str());
    let by = |wanted: &str| {
        let mut samples = SAMPLES.iter();
        samples
            .find(|(name, _)| *name == wanted)
            .map(|(_, sample)| *sample)
    };
    match by(&row.setting.key) {
        Some(sample) => sample,
        None if is_empty_by_default => "",
        None => by(name).unwrap_or_default(),
    }
}

/// By key, and by the name of the value.
const SAMPLES: [(&str, &str); 24] = [
    ("dbname", "host=db.example dbname=shop user=streamer"),
    ("host", "db.example"),
    ("port", "5432"),
    ("username", "streamer"),
    ("table", "sales.*"),
    ("exclude-table", "sales.log"),
    ("operations", "insert,update,delete"),
    ("registry-user", "headwater"),
    ("message-topic", "messages"),
    ("dead-letter-topic", "dead-letters"),
    ("temp-dir", "/var/tmp"),
    ("topic-partitions", "12"),
    ("topic-replication", "3"),
    ("ADDR", "127.0.0.1:9187"),
    ("BYTES", "20GB"),
    ("DIR", "/var/lib/headwater"),
    ("FILE", "/etc/headwater/file"),
    ("LSN", "0/16B3748"),
    ("LSN:SEQ", "0/16B3748:7"),
    ("N", "1"),
    ("NAME", "name"),
    ("PATTERN", "public.*"),
    ("SECONDS", "2"),
    ("URL", "http://registry.example:8081"),
];

const HEAD: [&str; 3] = [
    "Settings of headwater, for its option --config or HEADWATER_CONFIG.",
    "Made from the options themselves; `make bless` rewrites it. Every key is commented out, with \
     its default or, where it has none, an example. A key before the first table is for every \
     command that has such an option; one in the table of a command for that command alone. The \
     environment, HEADWATER_TOPIC_PREFIX for topic-prefix, wins over the file, and the command \
     line over both. What is wrong with it `headwater config check --config FILE` says.",
    "In place of a value, { file = \"/run/secrets/x\" } takes what that file holds, and { env = \
     \"NAME\" } what that variable holds.",
];

const PROPERTIES: &str = "
# -- Kafka's client ------------------------------------------------------------
#
# Properties of librdkafka, of which it has many; some that are often needed.

[kafka]

#security.protocol = \"SASL_SSL\"
#ssl.ca.location = \"/etc/ssl/certs/ca-certificates.crt\"
#ssl.certificate.location = \"/etc/headwater/client.pem\"
#ssl.key.location = \"/etc/headwater/client.key\"
#ssl.key.password = { file = \"/run/secrets/client-key\" }
#sasl.mechanism = \"SCRAM-SHA-512\"
#sasl.username = \"headwater\"
#sasl.password = { file = \"/run/secrets/kafka\" }
#compression.type = \"lz4\"
#linger.ms = 2
";
