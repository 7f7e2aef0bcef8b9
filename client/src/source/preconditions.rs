//! What must hold before a stream can begin, each with what mends it.

use headwater_protocol::VERSION;

use super::connection::{Connection, Rows};
use super::plugin::PLUGIN;
use crate::cli::EncodingMode;
use crate::error::{Error, ErrorKind, Result};

/// The oldest server: TID ranges and the options of the walsender that the client uses.
const OLDEST_SERVER: i32 = 140_000;

const FACTS: &str = "SELECT pg_catalog.current_setting('wal_level'), \
       pg_catalog.pg_is_in_recovery(), \
       r.rolreplication OR r.rolsuper OR EXISTS (SELECT FROM pg_catalog.pg_roles m \
         WHERE m.rolname IN ('rds_replication') AND pg_catalog.pg_has_role(m.oid, 'member')), \
       CURRENT_USER, pg_catalog.current_database(), \
       (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'headwater'), \
       (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'output_plugin_libraries'), \
       pg_catalog.current_setting('max_replication_slots')::int \
         - (SELECT count(*) FROM pg_catalog.pg_replication_slots)::int, \
       pg_catalog.current_setting('max_wal_senders')::int \
         - (SELECT count(*) FROM pg_catalog.pg_stat_replication)::int, \
       pg_catalog.current_setting('max_replication_slots'), \
       pg_catalog.current_setting('max_wal_senders'), \
       pg_catalog.current_setting('server_encoding') \
     FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER";

/// Checks everything that does not depend on the tables. `new_slots` is how many
/// slots the start will create: one for a stream, two while a snapshot is promoted.
pub fn check(connection: &Connection, encoding: EncodingMode, new_slots: i32) -> Result<()> {
    let version = connection.server_version();
    if version < OLDEST_SERVER {
        return Err(Error::failed(format!(
            "the server is Postgres {}: Headwater needs 14 or later",
            version / 10_000
        )));
    }
    let facts = connection.query(FACTS)?;
    server_settings(&facts)?;
    database_encoding(&facts, encoding)?;
    role(&facts)?;
    extension(&facts)?;
    let code_version = connection.query("SELECT headwater.version()")?;
    library_version(code_version.text(0, 0)?)?;
    room(&facts, new_slots)
}

fn server_settings(facts: &Rows) -> Result<()> {
    let wal_level = facts.text(0, 0)?;
    if wal_level != "logical" {
        return Err(
            Error::failed(format!("wal_level is {wal_level}: it must be logical"))
                .with_hint("Run: ALTER SYSTEM SET wal_level = logical; then restart the server."),
        );
    }
    if facts.flag(0, 1)? {
        return Err(
            Error::failed("the server is a standby: a snapshot needs the primary").with_hint(
                "Connect to the primary; with several hosts, add target_session_attrs=read-write.",
            ),
        );
    }
    // Servers without the setting take any library.
    if let Some(listed) = facts.optional(0, 6)? {
        let plugins: Vec<&str> = listed
            .split(',')
            .map(|name| name.trim().trim_matches('"'))
            .collect();
        if !plugins.contains(&PLUGIN) {
            let all: Vec<&str> = plugins
                .into_iter()
                .filter(|name| !name.is_empty())
                .chain([PLUGIN])
                .collect();
            return Err(Error::failed(format!(
                "output_plugin_libraries is '{listed}': the server will not load output plugin \"{PLUGIN}\""
            ))
            .with_hint(format!(
                "Add this line to postgresql.conf and reload (no restart is needed): \
                 output_plugin_libraries = '{}'",
                all.join(", ")
            )));
        }
    }
    Ok(())
}

/// The plugin refuses it too, but only once a slot exists that would keep WAL for nobody.
fn database_encoding(facts: &Rows, mode: EncodingMode) -> Result<()> {
    match facts.text(0, 11)? {
        "SQL_ASCII" if mode == EncodingMode::Strict => Err(Error::failed(format!(
            "database \"{}\" has encoding SQL_ASCII, which does not say what its bytes mean",
            facts.text(0, 4)?
        ))
        .with_hint(
            "If its text is UTF-8, add --encoding assume-utf8; otherwise recreate the database with \
             the encoding that its text has.",
        )),
        _ => Ok(()),
    }
}

fn role(facts: &Rows) -> Result<()> {
    if facts.flag(0, 2)? {
        return Ok(());
    }
    let user = facts.text(0, 3)?;
    Err(
        Error::failed(format!("role \"{user}\" may not replicate")).with_hint(format!(
            "Run: ALTER ROLE {} REPLICATION;",
            super::sql::identifier(user)
        )),
    )
}

fn extension(facts: &Rows) -> Result<()> {
    let database = facts.text(0, 4)?;
    match facts.optional(0, 5)? {
        Some(VERSION) => Ok(()),
        None => Err(Error::failed(format!(
            "extension headwater is not in database \"{database}\""
        ))
        .with_hint(format!("Run in \"{database}\": CREATE EXTENSION headwater;"))),
        Some(installed) => Err(Error::failed(format!(
            "extension headwater in database \"{database}\" is {installed}, this client is {VERSION}"
        ))
        .with_hint(format!(
            "Install the same release on the server, then run: ALTER EXTENSION headwater UPDATE TO '{VERSION}';"
        ))),
    }
}

fn library_version(installed: &str) -> Result<()> {
    if installed == VERSION {
        return Ok(());
    }
    Err(Error::failed(format!(
        "the server's headwater.so is {installed}, this client is {VERSION}"
    ))
    .with_hint(
        "Install the same release on the server: make install PG_CONFIG=/path/to/pg_config.",
    ))
}

fn room(facts: &Rows, new_slots: i32) -> Result<()> {
    let (slots, senders): (i32, i32) = (facts.parse(0, 7)?, facts.parse(0, 8)?);
    if slots < new_slots {
        return Err(full(
            "max_replication_slots",
            facts.text(0, 9)?,
            slots,
            new_slots,
        ));
    }
    if senders < 1 {
        return Err(full("max_wal_senders", facts.text(0, 10)?, senders, 1));
    }
    Ok(())
}

fn full(setting: &str, value: &str, free: i32, needed: i32) -> Error {
    Error::new(
        ErrorKind::Failed,
        format!("{setting} is {value}, of which {free} free: {needed} needed"),
    )
    .with_hint(format!("Raise {setting} and restart the server."))
}
