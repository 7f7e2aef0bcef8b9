//! What Postgres or libpq said when something failed, and what mends it.

use crate::error::{Error, ErrorKind, postgres};

/// An error of a connection or of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlError {
    /// The connection string cannot be read. What libpq says of it may quote a password.
    Unreadable,
    /// No connection came about: libpq's message, without a SQLSTATE, because libpq
    /// keeps none for a connection that failed.
    Connect(String),
    /// The server's certificate is refused: libpq's message and why, and what mends it.
    Untrusted {
        /// A sentence.
        message: String,
        /// Another.
        cure: String,
    },
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

/// SQLSTATEs that mean something where one statement fails with them. What any other means is in
/// [`crate::error::postgres`].
pub mod sqlstate {
    /// `serialization_failure`
    pub const SERIALIZATION_FAILURE: &str = "40001";
    /// `deadlock_detected`
    pub const DEADLOCK_DETECTED: &str = "40P01";
    /// `duplicate_object`
    pub const DUPLICATE_OBJECT: &str = "42710";
    /// `lock_not_available`
    pub const LOCK_NOT_AVAILABLE: &str = "55P03";
    /// `undefined_column`
    pub const UNDEFINED_COLUMN: &str = "42703";
    /// `undefined_object`
    pub const UNDEFINED_OBJECT: &str = "42704";
    /// `undefined_table`
    pub const UNDEFINED_TABLE: &str = "42P01";
    /// `invalid_schema_name`
    pub const INVALID_SCHEMA_NAME: &str = "3F000";
    /// `undefined_function`, also an operator that two types do not have
    pub const UNDEFINED_FUNCTION: &str = "42883";
    /// `insufficient_privilege`
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    /// `query_canceled`
    pub const QUERY_CANCELED: &str = "57014";
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
            SqlError::Unreadable => Error::failed(
                "the connection string to Postgres cannot be read",
            )
            .with_hint(
                "Check its keywords. A value with a blank stands in single quotes; in a URI % is \
                 written %25, @ %40 and / %2F.",
            ),
            SqlError::Connect(message) => connect_error(&message),
            SqlError::Untrusted { message, cure } => {
                Error::failed(format!("cannot connect to Postgres: {message}")).with_hint(cure)
            }
            SqlError::Server {
                sqlstate,
                message,
                hint,
            } => server_error(&sqlstate, &message, hint),
        }
    }
}

/// A connection that failed says why in words alone, in the server's language.
fn connect_error(message: &str) -> Error {
    let (remedy, cure) = postgres::of_connecting(message);
    let sentence = format!("cannot connect to Postgres: {message}");
    hinted(Error::new(remedy.kind(), sentence), cure.map(str::to_owned))
}

fn server_error(sqlstate: &str, message: &str, hint: Option<String>) -> Error {
    let (remedy, cure) = postgres::of_server(sqlstate, message);
    let sentence = format!("Postgres says: {message} (SQLSTATE {sqlstate})");
    let error = Error::new(remedy.kind(), sentence);
    hinted(error, cure.map(str::to_owned).or(hint))
}

fn hinted(error: Error, hint: Option<String>) -> Error {
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

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
            ("XX000", ErrorKind::Doubtful),
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
