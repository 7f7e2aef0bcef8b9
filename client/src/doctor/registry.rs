//! The schema registry, for a stream in Avro.

use super::check::Check;
use super::examination::{Examination, unknown};
use super::finding::{Cure, Finding};
use super::words::some_of;
use crate::cli::FormatMode;
use crate::error::{ErrorKind, Result};
use crate::registry::Registry;
use crate::source::plugin::PLUGIN;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "registry",
        title: "the schema registry answers, and takes the login; a stream starts while it is away, and \
                tables that are new wait",
        cure: "`--registry`, and its login",
        look: registry,
    },
    Check {
        id: "compatibility",
        title: "the registry refuses schemas that readers could not follow: its level is not `NONE`",
        cure: "`curl`, which sets it",
        look: compatibility,
    },
    Check {
        id: "schemas",
        title: "the tables' schemas are compatible with those that their topics have",
        cure: "the table as it was, or new topics",
        look: schemas,
    },
];

/// Whether the stream has schemas. Where it has none there is nothing to say of them.
fn is_needed(exam: &Examination<'_>) -> bool {
    exam.options.format == FormatMode::Avro
}

fn registry(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    if !is_needed(exam) {
        return Ok(vec![Finding::ok("--format json needs none")]);
    }
    let Some(registry) = Registry::new(&exam.options.registry)? else {
        return Ok(vec![Finding::refusal(&crate::registry::missing())]);
    };
    let found = match registry.answers() {
        Ok(()) => Finding::ok(format!(
            "the schema registry answers at {}",
            registry.name()
        )),
        Err(error) if error.kind() == ErrorKind::Disconnected => {
            // A stream starts without it, and tables that are new to it wait.
            return Ok(vec![Finding::warning(error.to_string()).with_hint(
                "Start the registry, or check --registry (HEADWATER_REGISTRY): without it no table \
                 begins, and known ones go on.",
            )]);
        }
        Err(error) => return Ok(vec![Finding::refusal(&error)]),
    };
    let exposed = registry.exposed_login();
    exam.registry = Some(registry);
    let exposed = exposed.as_ref().map(Finding::warning_of);
    Ok([Some(found), exposed].into_iter().flatten().collect())
}

fn compatibility(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    if !is_needed(exam) {
        return Ok(Vec::new());
    }
    let registry = exam.registry()?;
    let level = registry.default_compatibility()?;
    if level != "NONE" {
        let found = format!("the registry's compatibility level is {level}");
        return Ok(vec![Finding::ok(found)]);
    }
    let names = registry.name();
    let url = names.split(',').next().unwrap_or_default();
    let url = crate::shell::quoted(&format!("{url}/config"));
    let user = match &exam.options.registry.user {
        Some(user) => format!(" --user {}", crate::shell::quoted(user)),
        None => String::new(),
    };
    Ok(vec![
        Finding::warning(
            "the registry's compatibility level is NONE: readers meet schemas that they cannot follow",
        )
        .cured_by(Cure::shell(format!(
            "curl --fail --silent --show-error{user} -X PUT \\\n  \
             -H 'Content-Type: application/vnd.schemaregistry.v1+json' \\\n  \
             --data '{{\"compatibility\":\"{SUGGESTED_LEVEL}\"}}' {url}"
        )))
        .with_hint("Subjects may have a level of their own, which counts more."),
    ])
}

/// Readers are to be updated before writers, or behind them: what ADD and DROP COLUMN do is
/// allowed by both.
const SUGGESTED_LEVEL: &str = "FULL";

fn schemas(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    if !is_needed(exam) {
        return Ok(Vec::new());
    }
    let registry = exam.registry()?;
    let (facts, connection) = (exam.facts()?, exam.connection()?);
    if facts.check_extension().is_err() {
        return Err(unknown("the extension that makes the schemas is not there"));
    }
    let mut router = crate::stream::router(exam.options, &exam.plugin)?;
    let (mut refused, mut asked) = (Vec::new(), 0_usize);
    let mut seen = std::collections::BTreeSet::new();
    for table in &exam.catalog()?.tables {
        exam.stop.check()?;
        if !seen.insert(&table.sent_as) {
            continue;
        }
        let topic = router.topic(&table.sent_as.schema, &table.sent_as.table)?;
        for part in ["key", "value"] {
            let call = exam
                .plugin
                .schema_call(&format!("{}::oid", table.oid), part);
            let rows = connection.query(&format!("SELECT {call}"))?;
            let Some(schema) = rows.optional(0, 0)? else {
                continue;
            };
            let subject = format!("{topic}-{part}");
            asked += 1;
            if registry.check(&subject, schema)?.is_some() {
                refused.push(subject);
            }
        }
    }
    if refused.is_empty() {
        let found = format!("the registry would take all {asked} schemas that {PLUGIN} makes");
        return Ok(vec![Finding::ok(found)]);
    }
    let found = format!(
        "tables have changed in a way that the registry refuses: {}",
        some_of(&refused)
    );
    Ok(vec![Finding::fail(found).with_hint(
        "Make the table as it was, set another compatibility level for the subject, or let the table \
         go into new topics (--topic).",
    )])
}
