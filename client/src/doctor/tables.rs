//! What the captured tables are like, under the options that a stream would have.

use std::collections::BTreeSet;

use super::check::Check;
use super::examination::{Examination, unknown};
use super::finding::{Cure, Finding};
use super::words::{count, some_of};
use crate::cli::{SnapshotMode, ToastMode, UnkeyedMode};
use crate::error::{Error, Result};
use crate::kafka::Purpose;
use crate::route::{Collision, Owner};
use crate::sink::Keying;
use crate::source::catalog::{Catalog, Table, TableName};
use crate::source::sql_error::SqlError;
use crate::stream;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "patterns",
        title: "each `--table` matches a table, and all of them together at least one",
        cure: "another pattern, or another `--partitions`",
        look: patterns,
    },
    Check {
        id: "left_out",
        title: "no captured table is unlogged or foreign: its changes are not in the WAL",
        cure: "`ALTER TABLE … SET LOGGED`, or `--exclude-table`",
        look: left_out,
    },
    Check {
        id: "limits",
        title: "the server's settings `headwater.tables` and `headwater.exclude_columns` take no column \
                of a captured table's key; says which tables they keep from being sent",
        cure: "`--exclude-table`, or a superuser who sets them otherwise",
        look: limits,
    },
    Check {
        id: "keys",
        title: "each captured table has a primary key or a replica identity index, or `--unkeyed` says \
                what becomes of those without",
        cure: "`ALTER TABLE`: the replica identity where the table has a unique index over columns \
               that are not null, else a key of its own",
        look: super::keys::keys,
    },
    Check {
        id: "identity",
        title: "the replica identity of each partition brings the key of the table that its rows \
                belong to",
        cure: "`ALTER TABLE … REPLICA IDENTITY FULL`",
        look: identity,
    },
    Check {
        id: "toast",
        title: "an update leaves no large value out of the WAL, or `--toast fetch` reads the row again",
        cure: "`ALTER TABLE … REPLICA IDENTITY FULL`",
        look: toast,
    },
    Check {
        id: "types",
        title: "says which columns have a type that is sent as its text, which readers have to parse",
        cure: "",
        look: super::types::types,
    },
    Check {
        id: "topic_names",
        title: "no two tables, nor a table and another of the stream's topics, have topics that Kafka \
                takes for one",
        cure: "`--exclude-table`, or another `--topic`, `--message-topic` or `--dead-letter-topic`",
        look: topic_names,
    },
    Check {
        id: "chunks",
        title: "`--snapshot-mode chunked` has an order to copy each table in, and a record of how far \
                it is",
        cure: "`--snapshot-mode whole`",
        look: chunks,
    },
];

/// Reads the catalog, unless that was done before.
pub(super) fn read(exam: &mut Examination<'_>) -> Result<()> {
    exam.facts()?;
    if exam.catalog.is_none() {
        exam.catalog = Some(Catalog::read(exam.connection()?, &exam.plugin)?);
    }
    Ok(())
}

fn patterns(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    read(exam)?;
    let catalog = exam.catalog()?;
    let included = exam.options.tables.included();
    let found = match catalog.check_matches(included.as_ref()) {
        Err(error) => Finding::refusal(&error),
        Ok(()) if catalog.tables.is_empty() && catalog.without_partitions().is_empty() => {
            Finding::warning("no table is captured: the stream waits for one to be created")
                .with_hint("Check the database's name, --table and --exclude-table.")
        }
        Ok(()) => {
            let tables = count(catalog.tables.len(), "table is", "tables are");
            Finding::ok(format!("{tables} captured"))
        }
    };
    Ok(vec![found])
}

fn left_out(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    let left_out = exam.catalog()?.left_out();
    let of = |kind: &str| {
        let tables = left_out.iter().filter(|(_, what)| *what == kind);
        tables.map(|(name, _)| name).collect::<Vec<&TableName>>()
    };
    let displayed = |names: &[&TableName]| {
        let names: Vec<String> = names.iter().map(|name| name.display()).collect();
        some_of(&names)
    };
    let mut findings = Vec::new();
    let unlogged = of("unlogged");
    if !unlogged.is_empty() {
        let found = format!("unlogged tables are left out: {}", displayed(&unlogged));
        let cure = Cure::sql_in(&facts.database, altered(&unlogged, "SET LOGGED"));
        findings.push(Finding::warning(found).cured_by(cure).with_hint(
            "It locks the table while it is written anew. --exclude-table says that it is meant.",
        ));
    }
    let foreign = of("foreign");
    if !foreign.is_empty() {
        let found = format!("foreign tables are left out: {}", displayed(&foreign));
        findings.push(Finding::warning(found).cured_by(Cure::option(excluded(&foreign))));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            "the changes of every captured table are in the WAL",
        ));
    }
    Ok(findings)
}

/// The plugin describes each table as it would for the stream. Whatever it refuses, it would refuse
/// at the first row.
fn limits(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let catalog = exam.catalog()?;
    if exam.facts()?.check_extension().is_err() {
        return Err(unknown("the extension that describes tables is not there"));
    }
    let mut findings = Vec::new();
    let mut refused = BTreeSet::new();
    for table in &catalog.tables {
        exam.stop.check()?;
        let call = exam.plugin.relation_call(&format!("{}::oid", table.oid));
        match exam.connection()?.query(&format!("SELECT {call}")) {
            Ok(_) => {}
            Err(error @ SqlError::Server { .. }) => {
                // Its partitions have the same.
                if refused.insert(&table.sent_as) {
                    let finding = Finding::refusal(&Error::from(error));
                    findings.push(
                        finding
                            .cured_by(Cure::option(excluded(&[&table.sent_as])))
                            .with_hint(
                                "Or have a superuser change what the server sends, with ALTER DATABASE … \
                                 SET or in postgresql.conf.",
                            ),
                    );
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let withheld: Vec<String> = catalog
        .withheld()
        .map(|(name, setting)| format!("{} ({setting})", name.display()))
        .collect();
    findings.push(Finding::ok(match withheld.len() {
        0 => "the server's settings keep no table from being sent".to_owned(),
        _ => format!(
            "kept from being sent by the server's settings: {}",
            some_of(&withheld)
        ),
    }));
    Ok(findings)
}

fn identity(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    let lacking = exam.catalog()?.lacking_identity();
    if lacking.is_empty() {
        let found = "the replica identity of every partition brings its table's key";
        return Ok(vec![Finding::ok(found)]);
    }
    let found = format!(
        "the stream would stop at the first update or delete of a row: the replica identity does not \
         bring the key of {}",
        displayed(&lacking)
    );
    let cure = Cure::sql_in(&facts.database, full(&lacking));
    Ok(vec![Finding::fail(found).cured_by(cure)])
}

fn toast(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    let catalog = exam.catalog()?;
    let tables = catalog.unchangeable();
    if tables.is_empty() {
        let found = "no update leaves a value out of the WAL";
        return Ok(vec![Finding::ok(found)]);
    }
    let cure = Cure::sql_in(&facts.database, full(&tables));
    let what = count(tables.len(), "table", "tables");
    let names = displayed(&tables);
    let found = match (exam.options.toast, catalog.check_toast(exam.options.toast)) {
        (_, Err(error)) => Finding::refusal(&error).cured_by(cure).with_hint(
            "It makes an update write the whole old row into the WAL. Or let the client read such rows, \
             with --toast fetch.",
        ),
        (ToastMode::Mark, Ok(())) => Finding::warning(format!(
            "updates can leave large values of {what} out, and records are sent without them: {names}"
        ))
        .cured_by(cure)
        .with_hint("Or let the client read such rows, with --toast fetch."),
        (_, Ok(())) => Finding::ok(format!(
            "updates can leave large values of {what} out: such rows are read again"
        )),
    };
    Ok(vec![found])
}

fn topic_names(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let mut router = match stream::router(exam.options, &exam.plugin) {
        Ok(router) => router,
        Err(error) => return Ok(vec![Finding::refusal(&error)]),
    };
    let (mut findings, mut topics) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for table in &exam.catalog()?.tables {
        let keying = match (table.is_keyed, exam.options.unkeyed) {
            (true, _) => Keying::Keyed,
            (false, UnkeyedMode::Send) => Keying::Unkeyed,
            (false, UnkeyedMode::Skip | UnkeyedMode::Refuse) => continue,
        };
        // Several partitions have one topic.
        if !seen.insert(table.sent_as.clone()) {
            continue;
        }
        match router.topic(&table.sent_as.schema, &table.sent_as.table) {
            Ok(topic) => topics.push((topic, Purpose::Records(keying))),
            Err(collision) => findings.push(collided(&collision)),
        }
    }
    if findings.is_empty() {
        let names = count(topics.len(), "topic, which is", "topics, each");
        findings.push(Finding::ok(format!("{names} that of one table")));
    }
    exam.topics = Some(topics);
    Ok(findings)
}

fn collided(collision: &Collision) -> Finding {
    let finding = Finding::fail(collision.to_string());
    let owners = [&collision.first.1, &collision.second.1];
    let option = if owners.contains(&&Owner::DeadLetters) {
        "--dead-letter-topic headwater-dead-letters".to_owned()
    } else if owners.contains(&&Owner::Messages) {
        "--message-topic headwater-messages".to_owned()
    } else {
        let Owner::Table(schema, table) = &collision.second.1 else {
            return finding;
        };
        let (schema, table) = (schema.clone(), table.clone());
        excluded(&[&TableName { schema, table }])
    };
    finding
        .cured_by(Cure::option(option))
        .with_hint("Or tell topics apart with --topic, such as --topic '{schema}-{table}'.")
}

fn chunks(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    use crate::cli::CopyMode;
    if exam.options.snapshot_mode != CopyMode::Chunked {
        let found = match exam.options.snapshot {
            SnapshotMode::Never => "no table is copied",
            SnapshotMode::Initial | SnapshotMode::Only => "tables are copied whole",
        };
        return Ok(vec![Finding::ok(found)]);
    }
    let found = match stream::check_chunked(exam.options, exam.catalog()?) {
        Ok(()) => Finding::ok("every captured table can be copied in the order of its key"),
        Err(error) => Finding::refusal(&error).cured_by(Cure::option("--snapshot-mode whole")),
    };
    Ok(vec![found])
}

fn displayed(tables: &[&Table]) -> String {
    let names: Vec<String> = tables.iter().map(|table| table.display_name()).collect();
    some_of(&names)
}

/// Every column of an old row goes into the WAL.
fn full(tables: &[&Table]) -> String {
    let statement = |table: &&Table| {
        let name = table.sql_name();
        format!("ALTER TABLE {name} REPLICA IDENTITY FULL;")
    };
    tables.iter().map(statement).collect::<Vec<_>>().join("\n")
}

fn altered(tables: &[&TableName], clause: &str) -> String {
    let statement = |name: &&TableName| format!("ALTER TABLE {} {clause};", name.sql());
    tables.iter().map(statement).collect::<Vec<_>>().join("\n")
}

/// The options that leave tables out.
pub(super) fn excluded(tables: &[&TableName]) -> String {
    let option =
        |name: &&TableName| format!("--exclude-table {}", crate::shell::quoted(&name.sql()));
    tables.iter().map(option).collect::<Vec<_>>().join(" ")
}
