//! What Postgres or libpq said when something failed, and what mends it.

use crate::error::{Error, ErrorKind};

/// An error of a connection or of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlError {
    /// No connection came about: libpq's message, without a SQLSTATE, because libpq
    /// keeps none for a connection that failed.
    Connect(String),
    /// The connection broke: libpq's message.
    Lost(String),
    /// The server refused a statement or ended the session.
    Server {
        /// Five characters.
        sqlstate: String,
        /// The primary message. Details are left out: they may hold values of rows.
        message: String,
        /// The server's own hint.
        hint: Option<String>,
    },
    /// The server's answer is not what the statement promises.
    Unexpected(String),
    /// A signal asked to stop while the answer was awaited.
    Interrupted,
}

/// SQLSTATEs that the client acts upon.
pub mod sqlstate {
    /// `deadlock_detected`
    pub const DEADLOCK_DETECTED: &str = "40P01";
    /// `duplicate_object`
    pub const DUPLICATE_OBJECT: &str = "42710";
    /// `insufficient_privilege`
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    /// `object_in_use`
    pub const OBJECT_IN_USE: &str = "55006";
    /// `object_not_in_prerequisite_state`
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
    /// `lock_not_available`
    pub const LOCK_NOT_AVAILABLE: &str = "55P03";
    /// `undefined_column`
    pub const UNDEFINED_COLUMN: &str = "42703";
    /// `undefined_file`
    pub const UNDEFINED_FILE: &str = "58P01";
    /// `undefined_object`
    pub const UNDEFINED_OBJECT: &str = "42704";
    /// `undefined_table`
    pub const UNDEFINED_TABLE: &str = "42P01";
    /// `invalid_schema_name`
    pub const INVALID_SCHEMA_NAME: &str = "3F000";
    /// `undefined_function`, also an operator that two types do not have
    pub const UNDEFINED_FUNCTION: &str = "42883";
    /// `configuration_limit_exceeded`
    pub const CONFIGURATION_LIMIT_EXCEEDED: &str = "53400";
    /// `query_canceled`
    pub const QUERY_CANCELED: &str = "57014";
    /// `out_of_memory`, also the lock table's
    pub const OUT_OF_MEMORY: &str = "53200";
    /// `internal_error`
    pub const INTERNAL_ERROR: &str = "XX000";
}

impl SqlError {
    /// The server's SQLSTATE, where the server has spoken.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            SqlError::Server { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }

    /// Whether a value did not fit: SQLSTATE class 22. The message then quotes it.
    pub fn is_data_exception(&self) -> bool {
        self.sqlstate().is_some_and(|own| own.starts_with("22"))
    }

    /// Whether the server gave one of these SQLSTATEs.
    pub fn is_any_of(&self, sqlstates: &[&str]) -> bool {
        self.sqlstate().is_some_and(|own| sqlstates.contains(&own))
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Interrupted => Error::new(ErrorKind::Interrupted, "stopped by a signal"),
            SqlError::Unexpected(message) => Error::failed(message),
            SqlError::Lost(message) => Error::new(
                ErrorKind::Disconnected,
                format!("the connection to Postgres broke: {message}"),
            ),
            SqlError::Connect(message) => connect_error(&message),
            SqlError::Server {
                sqlstate,
                message,
                hint,
            } => server_error(&sqlstate, &message, hint),
        }
    }
}

/// A connection that failed says why in words alone, in the server's language. English
/// words that are known to be final get their hint; anything else may pass.
fn connect_error(message: &str) -> Error {
    let finals = [
        (
            "password authentication failed",
            "Set the password by PGPASSWORD, ~/.pgpass or the connection string.",
        ),
        (
            "no password supplied",
            "Set the password by PGPASSWORD, ~/.pgpass or the connection string.",
        ),
        (
            "no pg_hba.conf entry",
            "Add a line for this host, user and database to the server's pg_hba.conf, then reload.",
        ),
        (
            "Peer authentication failed",
            "Name the user with -U, or add a line for it to the server's pg_hba.conf, then reload.",
        ),
        (
            "permission denied for database",
            "Grant CONNECT on the database to the user.",
        ),
        (
            "must be superuser or replication role to start walsender",
            "Give the user the right: ALTER ROLE … REPLICATION.",
        ),
        (
            "permission denied to start WAL sender",
            "Give the user the right: ALTER ROLE … REPLICATION.",
        ),
        (
            "does not exist",
            "Name an existing database with -d and an existing user with -U.",
        ),
        (
            "invalid connection option",
            "Write the connection as psql takes it: -d 'host=… dbname=…' or a URI.",
        ),
        (
            "in connection info string",
            "Write the connection as psql takes it: -d 'host=… dbname=…' or a URI.",
        ),
        (
            "definition of service",
            "Correct PGSERVICE or the service file.",
        ),
    ];
    let sentence = format!("cannot connect to Postgres: {message}");
    // A socket's file that "does not exist" is a server that is down, not a name.
    let is_down = message.contains("No such file or directory");
    match finals
        .iter()
        .find(|(words, _)| !is_down && message.contains(words))
    {
        Some((_, hint)) => Error::failed(sentence).with_hint(*hint),
        None if is_down || message.contains("Connection refused") => {
            Error::new(ErrorKind::Disconnected, sentence).with_hint(
                "Check that the server runs and listens there; -h and -p name another place.",
            )
        }
        None => Error::new(ErrorKind::Disconnected, sentence),
    }
}

fn server_error(sqlstate: &str, message: &str, hint: Option<String>) -> Error {
    let kind = match sqlstate {
        sqlstate::OBJECT_IN_USE => ErrorKind::SlotInUse,
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" => ErrorKind::Disconnected,
        _ if sqlstate.starts_with("08") => ErrorKind::Disconnected,
        sqlstate::INTERNAL_ERROR => ErrorKind::Internal,
        _ => ErrorKind::Failed,
    };
    let own_hint = match sqlstate {
        sqlstate::INSUFFICIENT_PRIVILEGE if message.contains("output plugin") => {
            Some(PLUGIN_NOT_LISTED_HINT)
        }
        sqlstate::INSUFFICIENT_PRIVILEGE if message.contains("for table") => Some(
            "The snapshot reads the tables: grant SELECT on them to the user, or leave them out with --exclude-table.",
        ),
        sqlstate::INSUFFICIENT_PRIVILEGE if message.contains("for schema") => {
            Some("The snapshot reads the tables: grant USAGE on their schema to the user.")
        }
        sqlstate::UNDEFINED_FILE if message.contains("headwater") => {
            Some("Install the extension on the server: make install PG_CONFIG=/path/to/pg_config.")
        }
        sqlstate::CONFIGURATION_LIMIT_EXCEEDED if message.contains("replication slots") => {
            Some("Raise max_replication_slots and restart the server, or drop a slot not needed.")
        }
        sqlstate::OUT_OF_MEMORY if message.contains("shared memory") => {
            Some("Raise max_locks_per_transaction: the snapshot locks every captured table.")
        }
        sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE if message.contains("wal_level") => {
            Some("Run: ALTER SYSTEM SET wal_level = logical; then restart the server.")
        }
        _ => None,
    };
    let error = Error::new(
        kind,
        format!("Postgres says: {message} (SQLSTATE {sqlstate})"),
    );
    match own_hint.map(str::to_owned).or(hint) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Setting the list replaces its default, so the built-in plugins are named again.
const PLUGIN_NOT_LISTED_HINT: &str = "Add this line to postgresql.conf, with any other plugin in \
     use, and reload (no restart is needed): \
     output_plugin_libraries = 'pgoutput, test_decoding, headwater'";

#[cfg(test)]
mod tests {
    use super::*;

    fn server(sqlstate: &str, message: &str) -> Error {
        SqlError::Server {
            sqlstate: sqlstate.to_owned(),
            message: message.to_owned(),
            hint: None,
        }
        .into()
    }

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        for (sqlstate, kind) in [
            ("08006", ErrorKind::Disconnected),
            ("57P01", ErrorKind::Disconnected),
            ("57P03", ErrorKind::Disconnected),
            ("55006", ErrorKind::SlotInUse),
            ("42501", ErrorKind::Failed),
            ("XX000", ErrorKind::Internal),
            ("XX001", ErrorKind::Failed),
        ] {
            assert_eq!(server(sqlstate, "x").kind(), kind, "{sqlstate}");
        }
        for (message, kind) in [
            (
                "connection to server at \"db\" failed: Connection refused",
                ErrorKind::Disconnected,
            ),
            (
                "connection to server on socket \"/run/.s.PGSQL.1\" failed: No such file or directory",
                ErrorKind::Disconnected,
            ),
            (
                "FATAL:  the database system is starting up",
                ErrorKind::Disconnected,
            ),
            (
                "FATAL:  password authentication failed for user \"x\"",
                ErrorKind::Failed,
            ),
            ("FATAL:  database \"x\" does not exist", ErrorKind::Failed),
        ] {
            let error = Error::from(SqlError::Connect(message.to_owned()));
            assert_eq!(error.kind(), kind, "{message}");
        }
    }

    #[test]
    fn the_hint_says_what_mends_it() {
        let error = server(
            "42501",
            "library \"headwater\" may not be used as an output plugin",
        );
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("'pgoutput, test_decoding, headwater'")),
            "{:?}",
            error.hint()
        );
    }
}
