//! The reference page `docs/configuration.md`, from the options themselves.

use std::fmt::Write;

use super::rows::{Row, groups};
use super::secret::secret_properties;
use super::table::{Secrecy, Table};
use crate::cli;

/// The page, whole.
pub fn reference() -> String {
    let table = Table::new(&cli::command());
    let mut text = String::from(HEAD);
    // Writing to a String cannot fail.
    for group in groups(&table) {
        let _ = write!(text, "\n## {}\n\n{COLUMNS}", group.heading);
        for row in group.rows {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                option(&row),
                row.default()
                    .map_or_else(String::new, |value| format!("`{value}`")),
                commands(&row, &table),
                meaning(&row, &table),
            );
        }
    }
    text.push_str(KAFKA);
    for name in secret_properties() {
        let _ = writeln!(text, "- `{name}`");
    }
    text
}

fn option(row: &Row<'_>) -> String {
    let arg = &row.setting.arg;
    let mut cell = format!("`{}`", row.setting.key);
    if let Some(short) = arg.get_short() {
        let _ = write!(cell, ", `-{short}`");
    }
    // The values themselves say more than a name for them.
    if arg.get_action().takes_values()
        && row.possible_values().is_empty()
        && let Some(name) = arg.get_value_names().and_then(<[_]>::first)
    {
        let _ = write!(cell, " {name}");
    }
    cell.replace('|', "\\|")
}

fn commands(row: &Row<'_>, table: &Table) -> String {
    match row.commands.len() == table.commands.len() {
        true => "all".to_owned(),
        false => row.commands.join(", "),
    }
}

fn meaning(row: &Row<'_>, table: &Table) -> String {
    let mut text = row.help();
    let values: Vec<String> = row
        .possible_values()
        .iter()
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}`: {help}", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if !values.is_empty() {
        let _ = write!(text, " {}.", values.join("; "));
    }
    if table.is_ambiguous(&row.setting.key) {
        let tables: Vec<String> = row
            .commands
            .iter()
            .map(|name| format!("`[{name}]`"))
            .collect();
        let _ = write!(text, " In the file, in {} alone.", tables.join(", "));
        if row.setting.variable().is_none() {
            text.push_str(" It has no variable.");
        }
    }
    if row.setting.secrecy() == Secrecy::Secret {
        text.push_str(" A secret: not on the command line.");
    }
    text.replace('|', "\\|")
}

const COLUMNS: &str = "| key | default | commands | meaning |\n|---|---|---|---|\n";

const HEAD: &str = "\
<!-- Generated from client/src/cli and client/src/config. HEADWATER_BLESS=1 cargo test -p headwater rewrites it. -->

# Configuration

Every setting is an option of the command line, a variable and a key of a TOML file, by one name:

| | |
|---|---|
| command line | `--topic-prefix shop.` |
| environment | `HEADWATER_TOPIC_PREFIX=shop.` |
| file | `topic-prefix = \"shop.\"` |

The command line wins over the environment, the environment over the file, the file over the default. The
file is named by `--config FILE` or `HEADWATER_CONFIG`; none is looked for elsewhere.
[headwater.example.toml](../headwater.example.toml) has every key, commented out.

A setting that is there or not can be taken back where one of less weight says that it is there: by
`--take-over=false`, `HEADWATER_TAKE_OVER=false` or, in the table of a command, `take-over = false`. The value
is true or false, 1 or 0, yes or no, on or off; in the file it is `true` or `false`.

```sh
headwater config check --config headwater.toml    # what is wrong, and what is set for which command
headwater config print --config headwater.toml    # what `stream` would go by, and where it is from
headwater config print verify --workers 4         # the same of another command
```

`config check` connects to nothing; its exit code is 0 or, where something is wrong, 2.

## The file

```toml
dbname = \"host=db.example dbname=shop user=streamer\"
password = { file = \"/run/secrets/postgres\" }
brokers = \"kafka-1:9092,kafka-2:9092\"
table = [\"orders\", \"sales.*\"]

[kafka]
security.protocol = \"SASL_SSL\"
sasl.mechanism = \"SCRAM-SHA-512\"
sasl.username = \"headwater\"
sasl.password = { env = \"KAFKA_PASSWORD\" }

[verify]
workers = 4
```

- A key before the first table is for every command that has such an option. One in the table of a
  command, `[verify]`, is for that command alone, and wins there.
- `[kafka]` holds properties of librdkafka, as `-X` does; `[tail.kafka]` those of one command alone.
- Options that can be repeated take a list. Sizes and the like are strings, as on the command line: `max-retained-wal = \"20GB\"`.
- What the file has for a list is replaced as a whole by what environment or command line have.
- A key that no option has is an error, with the one that is like it. So is a value that the option
  would not take, and so are two that do not go together, wherever they are set. A command says all that
  keeps it from running, `config check` what keeps any.
- Paths are relative to the folder that the command runs in.

## Variables

`HEADWATER_` and the option's name in capitals, with underscores. An empty variable is none. One of an option
that can be repeated is taken as if it stood once on the command line: `HEADWATER_TABLE='orders,sales.*'`. A variable that no option has is a warning, since the environment is not
the client's alone.

Kubernetes tells every pod of each service of its namespace by variables. Of a service by the name of
`headwater` that would be `HEADWATER_PORT=tcp://…`. Such are passed over: no option has a value of
that form.

## Secrets

Passwords and tokens belong neither on a command line, which every user of the machine sees, nor
into a file that is kept with the code. They are taken from

- a variable: `HEADWATER_PASSWORD`, `HEADWATER_REGISTRY_TOKEN`, `HEADWATER_KAFKA_SASL_PASSWORD`;
- a file that a variable names, as Docker and Kubernetes mount them: the same name with `_FILE` behind it,
  `HEADWATER_KAFKA_SASL_PASSWORD_FILE=/run/secrets/kafka`. It works for everything that may hold a
  password, connection strings and URLs among it: `HEADWATER_DBNAME_FILE`. The end of the last line does not
  count;
- the file of settings: as `{ file = \"/run/secrets/kafka\" }`, as `{ env = \"KAFKA_PASSWORD\" }`, or in
  clear. A file with a secret in clear that every user may read is a warning.

For Postgres there are also libpq's own ways: a password file (`~/.pgpass`, `PGPASSFILE`), `PGPASSWORD`,
and service files.

No log line, error, metric or `config print` shows a secret; `***` stands in its place.
";

const KAFKA: &str = "
## Properties of librdkafka

As [its list](https://github.com/confluentinc/librdkafka/blob/v2.12.1/CONFIGURATION.md) has them: by `-X
KEY=VALUE` on the command line; each by a variable of its own, `HEADWATER_KAFKA_` and the name in
capitals, with underscores for dots (`HEADWATER_KAFKA_LINGER_MS=5`); all in `HEADWATER_PROPERTIES`, one a
line; in the file in `[kafka]`. Unlike other lists these are merged, property by property: the command
line wins over `HEADWATER_PROPERTIES`, that over `HEADWATER_KAFKA_*`, that over the table of the
command, that over `[kafka]`. The brokers are an option, `brokers`, and no property: `bootstrap.servers`
and `metadata.broker.list` are refused.

These are secrets, and may be in a file that a variable with `_FILE` behind its name says:

";
