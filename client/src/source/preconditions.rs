//! What must hold before a stream can begin, each with what mends it.

use headwater_protocol::VERSION;

use super::connection::Connection;
use super::plugin::PLUGIN;
use super::sql;
use super::sql_error::SqlError;
use crate::cli::EncodingMode;
use crate::error::{Error, Result};

/// The replication connections of a stream: its own, and one beside it that looks at the slot.
pub const STREAM_WAL_SENDERS: i32 = 2;

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

/// Which output plugins a server loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputPlugins {
    /// Any: the release knows no `output_plugin_libraries`.
    Any,
    /// Those that `output_plugin_libraries` lists.
    Listed(String),
    /// Those that are listed, and the role may not see the list.
    Hidden,
}

/// What the session sees of the server, of its database and of its role.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `server_version_num`.
    pub version: i32,
    /// `wal_level`
    pub wal_level: String,
    /// Whether the server is in recovery.
    pub is_standby: bool,
    /// Whether the role may replicate.
    pub may_replicate: bool,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The extension's version in this database.
    pub extension: Option<String>,
    /// Which output plugins the server loads.
    pub output_plugins: OutputPlugins,
    /// Replication slots that are still to be had.
    pub free_slots: i32,
    /// `max_replication_slots`
    pub max_slots: i32,
    /// Walsenders that are still to be had.
    pub free_senders: i32,
    /// `max_wal_senders`
    pub max_senders: i32,
    /// The encoding of the database's text.
    pub encoding: String,
}

/// Checks everything that does not depend on the tables. `new_slots` is how many
/// slots the start will create: one for a stream, two while a snapshot is promoted.
/// `wal_senders` is how many replication connections it will have at once.
pub fn check(
    connection: &Connection,
    encoding: EncodingMode,
    new_slots: i32,
    wal_senders: i32,
) -> Result<()> {
    check_version(connection.server_version())?;
    let facts = Facts::read(connection)?;
    facts.check_wal_level()?;
    facts.check_primary()?;
    facts.check_output_plugins()?;
    facts.check_encoding(encoding)?;
    facts.check_role()?;
    facts.check_extension()?;
    check_library(&library_version(connection)?)?;
    facts.check_slots(new_slots)?;
    facts.check_senders(wal_senders)
}

/// That the server is not too old, which has to be known before it is asked for anything else.
pub fn check_version(version: i32) -> Result<()> {
    if version >= OLDEST_SERVER {
        return Ok(());
    }
    Err(Error::failed(format!(
        "the server is Postgres {}: Headwater needs 14 or later",
        version / 10_000
    )))
}

/// The release of the library that the server loads.
pub fn library_version(connection: &Connection) -> Result<String, SqlError> {
    let rows = connection.query("SELECT headwater.version()")?;
    Ok(rows.text(0, 0)?.to_owned())
}

/// That the server's library is of this client's release.
pub fn check_library(installed: &str) -> Result<()> {
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

impl OutputPlugins {
    /// The first release of each major one that knows the list, as `server_version_num` has it.
    const SINCE: [i32; 5] = [140_024, 150_019, 160_015, 170_011, 180_006];

    /// Where no setting is seen: it is shown to superusers and members of pg_read_all_settings
    /// alone, and by the extension to whoever may replicate.
    fn unseen(connection: &Connection) -> Self {
        if !OutputPlugins::are_listed(connection.server_version()) {
            return OutputPlugins::Any;
        }
        let rows = connection.query("SELECT headwater.output_plugins()");
        let listed = rows.and_then(|rows| Ok(rows.optional(0, 0)?.map(str::to_owned)));
        match listed {
            Ok(Some(listed)) => OutputPlugins::Listed(listed),
            Ok(None) | Err(_) => OutputPlugins::Hidden,
        }
    }

    fn are_listed(version: i32) -> bool {
        let of_major = OutputPlugins::SINCE
            .into_iter()
            .find(|since| since / 10_000 == version / 10_000);
        of_major.map_or(version >= 190_000, |since| version >= since)
    }
}

impl Facts {
    /// Asks the server.
    pub fn read(connection: &Connection) -> Result<Self, SqlError> {
        let rows = connection.query(FACTS)?;
        Ok(Facts {
            version: connection.server_version(),
            wal_level: rows.text(0, 0)?.to_owned(),
            is_standby: rows.flag(0, 1)?,
            may_replicate: rows.flag(0, 2)?,
            user: rows.text(0, 3)?.to_owned(),
            database: rows.text(0, 4)?.to_owned(),
            extension: rows.optional(0, 5)?.map(str::to_owned),
            output_plugins: match rows.optional(0, 6)? {
                Some(listed) => OutputPlugins::Listed(listed.to_owned()),
                None => OutputPlugins::unseen(connection),
            },
            free_slots: rows.parse(0, 7)?,
            free_senders: rows.parse(0, 8)?,
            max_slots: rows.parse(0, 9)?,
            max_senders: rows.parse(0, 10)?,
            encoding: rows.text(0, 11)?.to_owned(),
        })
    }

    /// That the WAL has what decoding needs.
    pub fn check_wal_level(&self) -> Result<()> {
        if self.wal_level == "logical" {
            return Ok(());
        }
        Err(Error::failed(format!(
            "wal_level is {}: it must be logical",
            self.wal_level
        ))
        .with_hint("Run: ALTER SYSTEM SET wal_level = logical; then restart the server."))
    }

    /// That the server takes writes.
    pub fn check_primary(&self) -> Result<()> {
        if !self.is_standby {
            return Ok(());
        }
        Err(
            Error::failed("the server is a standby: a snapshot needs the primary").with_hint(
                "Connect to the primary; with several hosts, add target_session_attrs=read-write.",
            ),
        )
    }

    /// That the server loads the plugin, as far as its list decides.
    pub fn check_output_plugins(&self) -> Result<()> {
        let (OutputPlugins::Listed(listed), Some(missing)) =
            (&self.output_plugins, self.output_plugins_to_list())
        else {
            return Ok(());
        };
        Err(Error::failed(format!(
            "output_plugin_libraries is '{listed}': the server will not load output plugin \"{PLUGIN}\""
        ))
        .with_hint(format!(
            "Add this line to postgresql.conf and reload (no restart is needed): \
             output_plugin_libraries = '{}'",
            missing.join(", ")
        )))
    }

    /// What `output_plugin_libraries` has to be: what it lists and the plugin, since setting it
    /// replaces all. None where the plugin is listed, or the list is not known.
    pub fn output_plugins_to_list(&self) -> Option<Vec<&str>> {
        let OutputPlugins::Listed(listed) = &self.output_plugins else {
            return None;
        };
        let plugins = listed
            .split(',')
            .map(|name| name.trim().trim_matches('"'))
            .filter(|name| !name.is_empty());
        let is_listed = plugins.clone().any(|name| name == PLUGIN);
        (!is_listed).then(|| plugins.chain([PLUGIN]).collect())
    }

    /// That the database says what its text means. The plugin refuses it too, but only once a
    /// slot exists that would keep WAL for nobody.
    pub fn check_encoding(&self, mode: EncodingMode) -> Result<()> {
        if self.encoding != "SQL_ASCII" || mode != EncodingMode::Strict {
            return Ok(());
        }
        Err(Error::failed(format!(
            "database \"{}\" has encoding SQL_ASCII, which does not say what its bytes mean",
            self.database
        ))
        .with_hint(
            "If its text is UTF-8, add --encoding assume-utf8; otherwise recreate the database with \
             the encoding that its text has.",
        ))
    }

    /// That the role may replicate.
    pub fn check_role(&self) -> Result<()> {
        if self.may_replicate {
            return Ok(());
        }
        Err(
            Error::failed(format!("role \"{}\" may not replicate", self.user)).with_hint(format!(
                "Run: ALTER ROLE {} REPLICATION;",
                sql::identifier(&self.user)
            )),
        )
    }

    /// That the database has the extension of this client's release.
    pub fn check_extension(&self) -> Result<()> {
        let database = &self.database;
        match self.extension.as_deref() {
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

    /// That there is room for so many slots more.
    pub fn check_slots(&self, needed: i32) -> Result<()> {
        room(
            "max_replication_slots",
            self.max_slots,
            self.free_slots,
            needed,
        )
    }

    /// That there is room for so many replication connections more.
    pub fn check_senders(&self, needed: i32) -> Result<()> {
        room(
            "max_wal_senders",
            self.max_senders,
            self.free_senders,
            needed,
        )
    }

    /// The least `max_replication_slots` with room for so many slots more.
    pub fn slots_for(&self, needed: i32) -> i32 {
        self.max_slots - self.free_slots + needed
    }

    /// The least `max_wal_senders` with room for so many replication connections more.
    pub fn senders_for(&self, needed: i32) -> i32 {
        self.max_senders - self.free_senders + needed
    }
}

fn room(setting: &str, value: i32, free: i32, needed: i32) -> Result<()> {
    if free >= needed {
        return Ok(());
    }
    let free = free.max(0);
    Err(Error::failed(format!(
        "{setting} is {value}, of which {free} free: {needed} needed"
    ))
    .with_hint(format!("Raise {setting} and restart the server.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_with_a_list_are_told_from_those_without() {
        for (version, listed) in [
            (140_023, false),
            (140_024, true),
            (150_018, false),
            (150_020, true),
            (180_005, false),
            (180_006, true),
            (190_000, true),
        ] {
            assert_eq!(OutputPlugins::are_listed(version), listed, "{version}");
        }
    }
}
