//! Connecting, and what mends a connection that is refused.
//!
//! libpq says why in words alone, and in the server's language: where they are not English there
//! is no cure but the sentence that the table of errors has.

use super::examination::Examination;
use super::finding::{Cure, Finding};
use crate::error::{Error, ErrorKind, Result};
use crate::source::slot::System;
use crate::source::sql;
use crate::source::sql_error::SqlError;

/// Opens the session that everything is asked through.
pub(super) fn connection(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let connection = match exam.connector.connect() {
        Ok(connection) => connection,
        Err(error) => return refused(error),
    };
    let rows = connection.query(
        "SELECT CURRENT_USER, pg_catalog.current_database(), \
           COALESCE(pg_catalog.host(pg_catalog.inet_server_addr()), 'a Unix socket'), \
           pg_catalog.inet_server_port()",
    )?;
    let port = rows.optional(0, 3)?.map(|port| format!(":{port}"));
    let found = format!(
        "database \"{}\" as role \"{}\" at {}{}",
        rows.text(0, 1)?,
        rows.text(0, 0)?,
        rows.text(0, 2)?,
        port.unwrap_or_default()
    );
    exam.connection = Some(connection);
    Ok(vec![Finding::ok(found)])
}

/// Opens a session that knows the replication commands, and closes it again.
pub(super) fn replication(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    if !facts.may_replicate {
        let why = "the role may not replicate, so it would be refused";
        return Ok(vec![Finding::skipped(why)]);
    }
    if facts.free_senders < 1 {
        return Ok(vec![Finding::skipped("no walsender is free")]);
    }
    let connection = match exam.connector.connect_replication() {
        Ok(connection) => connection,
        Err(error) => return refused(error),
    };
    let system = System::identify(&connection)?;
    let found = format!(
        "a replication connection is let in: system {}, timeline {}",
        system.identifier, system.timeline
    );
    exam.system = Some(system);
    Ok(vec![Finding::ok(found)])
}

fn refused(error: SqlError) -> Result<Vec<Finding>> {
    let cure = match &error {
        SqlError::Connect(message) => cure(message),
        _ => None,
    };
    let error = Error::from(error);
    if error.kind() == ErrorKind::Interrupted {
        return Err(error);
    }
    let finding = Finding::refusal(&error);
    Ok(vec![match cure {
        Some(cure) => finding.cured_by(cure),
        None => finding,
    }])
}

fn cure(message: &str) -> Option<Cure> {
    let named = |before: &str, behind: &str| {
        let (_, rest) = message.split_once(before)?;
        let (name, rest) = rest.split_once('"')?;
        rest.starts_with(behind).then(|| sql::identifier(name))
    };
    if let Some(role) = named("role \"", " does not exist") {
        return Some(Cure::sql(format!("CREATE ROLE {role} LOGIN REPLICATION;")));
    }
    if let Some(role) = named("role \"", " is not permitted to log in") {
        return Some(Cure::sql(format!("ALTER ROLE {role} LOGIN;")));
    }
    if let Some(role) = named("too many connections for role \"", "") {
        return Some(Cure::sql(format!("ALTER ROLE {role} CONNECTION LIMIT -1;")));
    }
    if let Some(database) = named("too many connections for database \"", "") {
        return Some(Cure::sql(format!(
            "ALTER DATABASE {database} CONNECTION LIMIT -1;"
        )));
    }
    if let Some(database) = named("database \"", " is not currently accepting connections") {
        return Some(Cure::sql(format!(
            "ALTER DATABASE {database} ALLOW_CONNECTIONS true;"
        )));
    }
    hba_line(message)
}

/// The line that lets in what the message says was not: `no pg_hba.conf entry for host "…", user
/// "…", database "…", no encryption`.
fn hba_line(message: &str) -> Option<Cure> {
    let (_, rest) = message.split_once("no pg_hba.conf entry for host \"")?;
    let (host, rest) = rest.split_once("\", user \"")?;
    let (user, rest) = rest.split_once("\", database \"")?;
    let (database, _) = rest.split_once('"')?;
    let (user, database) = (sql::identifier(user), sql::identifier(database));
    let line = match host {
        "[local]" => format!("local {database} {user} scram-sha-256"),
        v6 if v6.contains(':') => format!("host {database} {user} {v6}/128 scram-sha-256"),
        v4 => format!("host {database} {user} {v4}/32 scram-sha-256"),
    };
    Some(Cure::hba(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &str) -> Option<String> {
        cure(message).map(|cure| cure.text)
    }

    #[test]
    fn a_refused_login_comes_with_what_lets_it_in() {
        for (message, expected) in [
            (
                "connection to server at \"db\", port 5432 failed: FATAL:  role \"c\"\"d\" does not exist",
                None,
            ),
            (
                "connection to server at \"db\", port 5432 failed: FATAL:  role \"cdc\" does not exist",
                Some("CREATE ROLE \"cdc\" LOGIN REPLICATION;"),
            ),
            (
                "FATAL:  role \"cdc\" is not permitted to log in",
                Some("ALTER ROLE \"cdc\" LOGIN;"),
            ),
            (
                "FATAL:  database \"shop\" is not currently accepting connections",
                Some("ALTER DATABASE \"shop\" ALLOW_CONNECTIONS true;"),
            ),
            (
                "FATAL:  no pg_hba.conf entry for host \"192.0.2.7\", user \"cdc\", database \"shop\", no encryption",
                Some("host \"shop\" \"cdc\" 192.0.2.7/32 scram-sha-256"),
            ),
            (
                "FATAL:  no pg_hba.conf entry for host \"[local]\", user \"cdc\", database \"shop\", no encryption",
                Some("local \"shop\" \"cdc\" scram-sha-256"),
            ),
            (
                "FATAL:  too many connections for role \"cdc\"",
                Some("ALTER ROLE \"cdc\" CONNECTION LIMIT -1;"),
            ),
            (
                "FATAL:  too many connections for database \"shop\"",
                Some("ALTER DATABASE \"shop\" CONNECTION LIMIT -1;"),
            ),
            ("FATAL:  database \"shop\" does not exist", None),
            ("Connection refused", None),
        ] {
            assert_eq!(text(message).as_deref(), expected, "{message}");
        }
    }
}
