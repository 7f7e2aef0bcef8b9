//! A session with a Postgres server.

use std::fmt;

use libpq::result::ErrorField;
use libpq::{Connection, PQResult, Status};

/// A row of text values, as psql would show them.
pub type Row = Vec<Option<String>>;

/// One connection. SQL that fails is the caller's business in [`Session::attempt`] and a
/// panic everywhere else.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
}

/// Why a statement failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// The five characters of the SQLSTATE; empty where the connection broke.
    pub state: String,
    /// The server's sentence.
    pub message: String,
    /// What the server advises.
    pub hint: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.state)?;
        if !self.hint.is_empty() {
            write!(f, "; hint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}

impl Session {
    /// Connects. Values are shown in the way that row_to_json's users see them: UTC.
    pub fn connect(conninfo: &str) -> Result<Self, SqlError> {
        let conninfo =
            format!("{conninfo} options='-c timezone=UTC -c client_min_messages=warning'");
        let connection = Connection::new(&conninfo).map_err(|e| SqlError {
            state: String::new(),
            message: e.to_string(),
            hint: String::new(),
        })?;
        Ok(Session { connection })
    }

    /// Runs statements. All of them are one transaction unless they say otherwise.
    ///
    /// # Panics
    ///
    /// If they fail.
    #[track_caller]
    pub fn run(&self, sql: &str) {
        self.rows(sql);
    }

    /// Runs statements that may fail.
    pub fn attempt(&self, sql: &str) -> Result<Vec<Row>, SqlError> {
        let result = self.connection.exec(sql);
        match result.status() {
            Status::CommandOk | Status::EmptyQuery => Ok(Vec::new()),
            Status::TuplesOk => Ok(rows_of(&result)),
            _ => Err(error_of(&result)),
        }
    }

    /// Runs `COPY … FROM STDIN` with its data, which may fail.
    pub fn copy_in(&self, sql: &str, data: &str) -> Result<(), SqlError> {
        let begun = self.connection.exec(sql);
        if begun.status() != Status::CopyIn {
            return Err(error_of(&begun));
        }
        drop(begun);
        let broken = |e: libpq::errors::Error| SqlError {
            state: String::new(),
            message: e.to_string(),
            hint: String::new(),
        };
        self.connection
            .put_copy_data(data.as_bytes())
            .and_then(|()| self.connection.put_copy_end(None))
            .map_err(broken)?;
        let mut outcome = Ok(());
        while let Some(result) = self.connection.result() {
            if result.status() != Status::CommandOk {
                outcome = Err(error_of(&result));
            }
        }
        outcome
    }

    /// A query's rows, those of the last statement.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Row> {
        match self.attempt(sql) {
            Ok(rows) => rows,
            Err(e) => panic!("{e}\nin: {}", excerpt(sql)),
        }
    }

    /// The first column of a query without nulls.
    ///
    /// # Panics
    ///
    /// If it fails or finds a null.
    #[track_caller]
    pub fn column(&self, sql: &str) -> Vec<String> {
        self.rows(sql)
            .into_iter()
            .map(|mut row| match row.swap_remove(0) {
                Some(value) => value,
                None => panic!("a null in: {}", excerpt(sql)),
            })
            .collect()
    }

    /// The one value of a query.
    ///
    /// # Panics
    ///
    /// If there is none, more than one, or a null.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        let mut column = self.column(sql);
        assert_eq!(column.len(), 1, "rows of: {}", excerpt(sql));
        column.swap_remove(0)
    }

    /// Whether a query finds true.
    ///
    /// # Panics
    ///
    /// As [`Session::value`].
    #[track_caller]
    pub fn holds(&self, sql: &str) -> bool {
        self.value(sql) == "t"
    }

    /// The process id of the server's end.
    pub fn backend(&self) -> u32 {
        self.connection.backend_pid()
    }
}

fn rows_of(result: &PQResult) -> Vec<Row> {
    let text = |row, column| {
        (!result.is_null(row, column)).then(|| {
            let value = result.value(row, column).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        })
    };
    (0..result.ntuples())
        .map(|row| {
            (0..result.nfields())
                .map(|column| text(row, column))
                .collect()
        })
        .collect()
}

fn error_of(result: &PQResult) -> SqlError {
    let field = |field| {
        let text = result.error_field(field).ok().flatten();
        text.unwrap_or_default().to_owned()
    };
    let message = match field(ErrorField::MessagePrimary) {
        primary if !primary.is_empty() => primary,
        _ => result.error_message().ok().flatten().unwrap_or_default(),
    };
    SqlError {
        state: field(ErrorField::Sqlstate),
        message,
        hint: field(ErrorField::MessageHint),
    }
}

fn excerpt(sql: &str) -> &str {
    let end = sql.char_indices().nth(400).map_or(sql.len(), |(at, _)| at);
    &sql[..end]
}
