//! The reference page `docs/errors.md`, from the tables by which the client decides.

use std::fmt::Write;

use super::kafka::KAFKA;
use super::postgres::{CONNECT, POSTGRES, PostgresRow};
use super::registry::REGISTRY;
use super::remedy::Remedy;

/// The page, whole.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    // Writing to a String cannot fail.
    for remedy in Remedy::ALL {
        let _ = writeln!(text, "| {} | {} |", remedy.name(), explained(remedy));
    }
    text.push_str(POSTGRES_HEAD);
    for row in POSTGRES {
        let code = match row.sqlstate.len() {
            5 => format!("`{}`", row.sqlstate),
            _ => format!("`{}…`", row.sqlstate),
        };
        let _ = writeln!(text, "| {code} | {}", columns(row));
    }
    text.push_str("| any other | | operator | an error that nobody has thought of | |\n");
    text.push_str(CONNECT_HEAD);
    for row in CONNECT {
        let _ = writeln!(text, "| {}", columns(row));
    }
    text.push_str("| anything else | retry | most of it is a server that is not there | |\n");
    text.push_str(KAFKA_HEAD);
    for row in KAFKA {
        let codes: Vec<String> = row.codes.iter().map(|code| format!("{code}")).collect();
        let (remedy, codes) = (row.remedy.name(), codes.join("; "));
        let _ = writeln!(
            text,
            "| {} | {remedy} | {} | {codes} |",
            row.meaning, row.cure
        );
    }
    text.push_str("| anything else | operator | | |\n");
    text.push_str(REGISTRY_HEAD);
    for row in REGISTRY {
        let codes: Vec<String> = row.codes.iter().map(u32::to_string).collect();
        let (remedy, codes) = (row.remedy.name(), codes.join(", "));
        let _ = writeln!(
            text,
            "| {codes} | {remedy} | {} | {} |",
            row.meaning, row.cure
        );
    }
    text.push_str(
        "| none, the registry takes it | data | readers would take values for something else | Add a column of \
         the new type, copy the values and drop the old one. |\n\
         | no answer | retry | no connection, none in time, or it broke, \
         before TLS was agreed upon, too | |\n\
         | no agreement about TLS | operator | a certificate that nobody vouches for, for one | Check \
         the URL's scheme, the registry's certificate, and --registry-ca. |\n\
         | an answer that is not its JSON | operator | it is no registry | Check the URL and its path. |\n\
         | 400 without an `error_code` | operator | it is not the registry that answers | Check the URL's \
         scheme, port and path. |\n\
         | 400, 409, 413, 422 to a question that sends no schema | operator | the words say what is wrong with the \
         question | |\n\
         | any other 5xx | retry | one that a schema alone gets keeps its table waiting | |\n\
         | anything else | operator | | |\n",
    );
    text
}

fn columns(row: &PostgresRow) -> String {
    let words = match row.says {
        "" => String::new(),
        says => format!("`{says}`"),
    };
    let remedy = row.remedy.name();
    format!("{words} | {remedy} | {} | {} |", row.meaning, row.cure)
}

fn explained(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::Retry => {
            "It passes. The client tries again, at intervals that grow to ten seconds and differ by \
             chance, for as long as it takes; it says once what it waits for and once when that is \
             over. At the start exit code 1, so that whoever types the command sees it: a \
             supervisor starts it again."
        }
        Remedy::Doubtful => {
            "Chance or a defect. The stream begins again behind the last whole transaction, five \
             times without getting any further; then, and before it runs, exit code 1."
        }
        Remedy::Taken => {
            "Another instance streams from the slot. It is waited for a few seconds, then exit code 4."
        }
        Remedy::Resnapshot => {
            "What the stream would go on from is gone: exit code 3, with what is lost and the ways \
             on."
        }
        Remedy::Data => "A record that may not be skipped cannot be delivered: exit code 5.",
        Remedy::Operator => "A person has to mend something first: exit code 1, with what.",
        Remedy::Fatal => {
            "A defect or damage: exit code 1. Nothing is acknowledged that was not delivered, so \
             starting again is safe."
        }
    }
}

const HEAD: &str = "\
<!-- Generated from client/src/error. HEADWATER_BLESS=1 cargo test -p headwater rewrites it. -->

# Errors, and what the client does about them

Every error of Postgres, of Kafka and of a schema registry is sorted by one table each into what may be done about
it. What is in neither is for a person: an error that nobody has thought of is not tried again for
ever in silence. None of it loses a change: the slot moves only past what Kafka has acknowledged.

| | what the client does |
|---|---|
";

const POSTGRES_HEAD: &str = "
## Postgres

By SQLSTATE, and by words of the message where one SQLSTATE means several things. The first line that
fits decides. A server that speaks another language than English (`lc_messages`) is judged by
SQLSTATE alone.

| SQLSTATE | message | | what it is | what mends it |
|---|---|---|---|---|
";

const CONNECT_HEAD: &str = "
### A connection that fails

libpq gives no SQLSTATE for it, only words.

| message | | what it is | what mends it |
|---|---|---|---|
";

const REGISTRY_HEAD: &str = "
## Schema registry

By the number that Confluent's protocol gives an error (`error_code`), else by the status of HTTP. A
registry is asked for what is new alone: while it is away, tables whose schemas are known go on. A
schema that it does not take is a record that cannot be delivered, of each change that has it:
`--on-error` decides.

| status or `error_code` | | what it is | what mends it |
|---|---|---|---|
";

const KAFKA_HEAD: &str = "
## Kafka

As librdkafka names them. Most of what passes it tries again by itself, with its own backoff
(`retry.backoff.ms`, `reconnect.backoff.ms`), for as long as it takes. A producer that has lost a record
or its place in a sequence ends the process (exit code 1), and the next one sends everything again that
was not acknowledged.

| what it is | | what mends it | librdkafka says |
|---|---|---|---|
";
