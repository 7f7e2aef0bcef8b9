//! What the role needs, and no more than that: REPLICATION, EXECUTE, USAGE and SELECT.
//!
//! The stream itself reads no table by right: whoever may replicate reads every change of the
//! database that the server's settings let out. The snapshot reads tables as anybody does.

use super::check::Check;
use super::examination::Examination;
use super::finding::{Cure, Finding};
use super::oids::Oids;
use super::words;
use crate::cli::{SnapshotMode, StreamOptions, ToastMode};
use crate::error::Result;
use crate::source::connection::{Connection, Rows};
use crate::source::plugin::PLUGIN;
use crate::source::sql;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "may_replicate",
        title: "the role has REPLICATION",
        cure: "`ALTER ROLE … REPLICATION`",
        look: may_replicate,
    },
    Check {
        id: "replication_login",
        title: "a replication connection is let in: `pg_hba.conf`, and no pooler in between",
        cure: "the line of `pg_hba.conf`",
        look: super::login::replication,
    },
    Check {
        id: "functions",
        title: "the role may use schema `headwater` and execute the functions that the client calls; \
                everybody may, unless somebody took it away",
        cure: "`GRANT`",
        look: functions,
    },
    Check {
        id: "select",
        title: "the role may use the schemas of the captured tables and select from the tables, unless \
                `--snapshot never` with another `--toast` than `fetch` reads none",
        cure: "the least that has to be granted, as a script",
        look: select,
    },
    Check {
        id: "row_security",
        title: "no policy of row security hides rows of a captured table from the role, where the stream \
                reads tables",
        cure: "`ALTER ROLE … BYPASSRLS`",
        look: row_security,
    },
    Check {
        id: "superuser",
        title: "the role is no superuser: it needs less",
        cure: "the whole script that makes a role with what is needed",
        look: superuser,
    },
];

/// Functions of the server that the client calls and that may be taken away from everybody: a
/// slot is made permanent and dropped, and a copy into the running stream writes messages.
const FUNCTIONS: &str = "'pg_copy_logical_replication_slot', 'pg_drop_replication_slot', \
     'pg_logical_emit_message'";

fn may_replicate(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    let found = match facts.check_role() {
        Ok(()) => Finding::ok(format!("role \"{}\" may replicate", facts.user)),
        Err(error) => Finding::refusal(&error).cured_by(Cure::sql(format!(
            "ALTER ROLE {} REPLICATION;",
            sql::identifier(&facts.user)
        ))),
    };
    Ok(vec![found])
}

fn functions(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let (facts, connection) = (exam.facts()?, exam.connection()?);
    let role = sql::identifier(&facts.user);
    let rows = connection.query(&format!(
        "SELECT n.nspname = '{PLUGIN}', p.oid::pg_catalog.regprocedure::text \
         FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
         WHERE (n.nspname = '{PLUGIN}' \
             OR n.nspname = 'pg_catalog' AND p.proname IN ({FUNCTIONS})) \
           AND NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1, 2"
    ))?;
    let usage = connection.query(&format!(
        "SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') FROM pg_catalog.pg_namespace n \
         WHERE n.nspname = '{PLUGIN}'"
    ))?;
    let mut lacking = Vec::new();
    let mut grants = Vec::new();
    if !usage.is_empty() && !usage.flag(0, 0)? {
        lacking.push(format!("USAGE on schema {PLUGIN}"));
        grants.push(format!("GRANT USAGE ON SCHEMA {PLUGIN} TO {role};"));
    }
    for function in column(&rows, 1)? {
        lacking.push(format!("EXECUTE on {function}"));
        grants.push(format!("GRANT EXECUTE ON FUNCTION {function} TO {role};"));
    }
    if !grants.is_empty() {
        let found = format!("role {role} lacks {}", lacking.join(", "));
        let cure = Cure::sql_in(&facts.database, grants.join("\n"));
        return Ok(vec![Finding::fail(found).cured_by(cure)]);
    }
    if usage.is_empty() {
        let why = "extension headwater is not in the database yet";
        return Ok(vec![Finding::skipped(why)]);
    }
    let found = format!("role {role} may call what the client calls");
    Ok(vec![Finding::ok(found)])
}

/// Whether a stream reads tables by right: the snapshot does, and whatever reads rows again.
fn reads_tables(options: &StreamOptions) -> bool {
    options.snapshot != SnapshotMode::Never || options.toast == ToastMode::Fetch
}

/// Why a right that is lacking does not matter.
const NONE_READ: &str = "and this stream reads none";

/// Tables that the snapshot could not read, and their schemas.
#[derive(Default)]
struct Unreadable {
    schemas: Vec<String>,
    tables: Vec<String>,
}

fn select(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    super::tables::read(exam)?;
    let facts = exam.facts()?;
    let oids = captured(exam)?;
    if oids.is_empty() {
        return Ok(vec![Finding::ok("no table is captured")]);
    }
    let unreadable = unreadable(exam.connection()?, &oids)?;
    let role = sql::identifier(&facts.user);
    let count = unreadable.tables.len() + unreadable.schemas.len();
    if count == 0 {
        let found = format!(
            "role {role} may read {}",
            words::count(oids.len(), "captured table", "captured tables")
        );
        return Ok(vec![Finding::ok(found)]);
    }
    let found = match unreadable.tables.len() {
        0 => format!("role {role} may not use the schema of captured tables"),
        tables => format!(
            "role {role} may not read {tables} of {} captured tables",
            oids.len()
        ),
    };
    if !reads_tables(exam.options) {
        return Ok(vec![Finding::ok(format!("{found}, {NONE_READ}"))]);
    }
    let cure = Cure::sql_in(&facts.database, unreadable.script(&role));
    Ok(vec![Finding::fail(found).cured_by(cure).with_hint(
        "The snapshot, and rows that are read again, need it; the stream does not.",
    )])
}

impl Unreadable {
    /// The least that lets the role read them.
    fn script(&self, role: &str) -> String {
        let mut grants = Vec::new();
        if !self.schemas.is_empty() {
            let schemas = self.schemas.join(", ");
            grants.push(format!("GRANT USAGE ON SCHEMA {schemas} TO {role};"));
        }
        if !self.tables.is_empty() {
            let tables = self.tables.join(",\n  ");
            grants.push(format!("GRANT SELECT ON\n  {tables}\nTO {role};"));
        }
        grants.join("\n")
    }
}

fn unreadable(connection: &Connection, oids: &Oids) -> Result<Unreadable> {
    let rows = connection.query(&format!(
        "SELECT DISTINCT pg_catalog.quote_ident(n.nspname) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = ANY ({oids}) AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
         ORDER BY 1"
    ))?;
    let schemas = column(&rows, 0)?;
    let rows = connection.query(&format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = ANY ({oids}) AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') \
         ORDER BY n.nspname, c.relname"
    ))?;
    Ok(Unreadable {
        schemas,
        tables: column(&rows, 0)?,
    })
}

fn row_security(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    let oids = captured(exam)?;
    if oids.is_empty() {
        return Ok(vec![Finding::ok("no table is captured")]);
    }
    let rows = exam.connection()?.query(&format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = ANY ({oids}) AND pg_catalog.row_security_active(c.oid) \
         ORDER BY n.nspname, c.relname"
    ))?;
    if rows.is_empty() {
        let found = "no policy hides rows of captured tables from the role";
        return Ok(vec![Finding::ok(found)]);
    }
    let role = sql::identifier(&facts.user);
    let tables = super::words::some_of(&column(&rows, 0)?);
    let hides = format!("row security would hide rows from role {role}");
    if !reads_tables(exam.options) {
        return Ok(vec![Finding::ok(format!("{hides}, {NONE_READ}: {tables}"))]);
    }
    let found = format!("{hides}, and a snapshot without them is refused: {tables}");
    let cure = Cure::sql(format!("ALTER ROLE {role} BYPASSRLS;"));
    Ok(vec![Finding::fail(found).cured_by(cure)])
}

/// The role that the script makes.
const OWN_ROLE: &str = "headwater";

fn superuser(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    let connection = exam.connection()?;
    let rows = connection
        .query("SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER")?;
    if !rows.flag(0, 0)? {
        let found = format!("role \"{}\" is no superuser", facts.user);
        return Ok(vec![Finding::ok(found)]);
    }
    let found = format!(
        "role \"{}\" is a superuser, which is more than is needed",
        facts.user
    );
    let script = least_privilege(connection, &facts.database, &captured(exam)?)?;
    Ok(vec![
        Finding::warning(found)
            .cured_by(Cure::sql_in(&facts.database, script))
            .with_hint(format!(
                "Then give it a password (\\password {OWN_ROLE} in psql), and start with \
                 -U {OWN_ROLE}."
            )),
    ])
}

/// A role that can do what a stream does, and nothing else. All that it may be has been granted to
/// nobody yet, so the script names everything.
fn least_privilege(connection: &Connection, database: &str, oids: &Oids) -> Result<String> {
    let rows = connection.query(&format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = '{OWN_ROLE}')"
    ))?;
    let mut script = vec![match rows.flag(0, 0)? {
        true => format!("ALTER ROLE {OWN_ROLE} LOGIN REPLICATION;"),
        false => format!("CREATE ROLE {OWN_ROLE} LOGIN REPLICATION;"),
    }];
    let database = sql::identifier(database);
    script.push(format!(
        "GRANT CONNECT ON DATABASE {database} TO {OWN_ROLE};"
    ));
    if !oids.is_empty() {
        let schemas = connection.query(&format!(
            "SELECT DISTINCT pg_catalog.quote_ident(n.nspname) \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = ANY ({oids}) ORDER BY 1"
        ))?;
        let tables = connection.query(&format!(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = ANY ({oids}) ORDER BY n.nspname, c.relname"
        ))?;
        let all = Unreadable {
            schemas: column(&schemas, 0)?,
            tables: column(&tables, 0)?,
        };
        script.push(all.script(OWN_ROLE));
    }
    Ok(script.join("\n"))
}

fn captured(exam: &Examination<'_>) -> Result<Oids> {
    Ok(Oids::of(&exam.catalog()?.tables))
}

fn column(rows: &Rows, column: usize) -> Result<Vec<String>> {
    let texts = (0..rows.len()).map(|row| Ok(rows.text(row, column)?.to_owned()));
    texts.collect()
}
