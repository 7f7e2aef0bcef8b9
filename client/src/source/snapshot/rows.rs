//! Rows of one table, out of a `COPY` of what the encoder makes of them.

use headwater_protocol::frame::{Change, Frame, Frames, Op, Quarantine};

use super::copy_binary::{CopyBinary, CopyError};
use super::job::Job;
use super::scan::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::source::connection::Connection;
use crate::source::plugin::Plugin;
use crate::source::sql_error::SqlError;

/// The rows of a part of a table, each as a frame.
pub(super) fn query(plugin: &Plugin, source: &Source, part: &Job) -> String {
    format!(
        "SELECT {} FROM ONLY {} AS t{}",
        plugin.encode_call("t.*", source.schemas),
        source.table.sql_name(),
        part.condition()
    )
}

/// What the server made of a row.
#[derive(Debug)]
pub enum Row<'a> {
    /// Its key and its value.
    Encoded(Change<'a>),
    /// Why it has none.
    Quarantined(Quarantine<'a>),
}

impl<'a> Row<'a> {
    /// The row, for whom nothing else will do. `table` is for the error.
    ///
    /// # Errors
    /// Of kind `Data`: it cannot be encoded.
    pub fn encoded(self, table: impl FnOnce() -> String) -> Result<Change<'a>> {
        match self {
            Row::Encoded(change) => Ok(change),
            Row::Quarantined(quarantine) => Err(Error::new(
                ErrorKind::Data,
                format!(
                    "a row of {} cannot be encoded: {}",
                    table(),
                    quarantine.reason
                ),
            )
            .with_hint("Mend the row, or leave the table out with --exclude-table.")),
        }
    }

    fn relation(&self) -> u32 {
        match self {
            Row::Encoded(change) => change.relation,
            Row::Quarantined(quarantine) => quarantine.relation,
        }
    }
}

/// Hands each row of `query` on, as it comes. `table` is for errors. What the server refuses
/// is told apart, since it may quote a value; the session can be used on after that.
///
/// # Errors
/// One that is no row of `relation`, or what `each` returns.
pub fn copy(
    session: &Connection,
    query: &str,
    relation: u32,
    table: &str,
    each: &mut dyn FnMut(Row<'_>) -> Result<()>,
) -> Result<Result<(), SqlError>> {
    let refused = |error| {
        // Whatever else the statement has to say: the connection is free behind it.
        session.copy_result().and(Err(error))
    };
    if let Err(error) = session.begin_copy(&format!("COPY ({query}) TO STDOUT (FORMAT binary)")) {
        return Ok(refused(error));
    }
    let mut reader = CopyBinary::default();
    while let Some(message) = session.copy_next()? {
        reader.push(&message, &mut |row: &[u8]| {
            let row = read_frame(row, table)?;
            if row.relation() != relation {
                return Err(moved(table));
            }
            each(row)
        })?;
    }
    if let Err(error) = session.copy_result() {
        return Ok(refused(error));
    }
    if reader.is_complete() {
        Ok(Ok(()))
    } else {
        Err(Error::failed(format!(
            "the copy of table {table} ended before its last row"
        )))
    }
}

impl From<CopyError> for Error {
    fn from(error: CopyError) -> Self {
        Error::failed("the server broke the protocol").with_source(error)
    }
}

fn read_frame<'a>(row: &'a [u8], table: &str) -> Result<Row<'a>> {
    match Frames::new(row).next() {
        Some(Ok(Frame::Change(change))) if change.op == Op::Read => Ok(Row::Encoded(change)),
        Some(Ok(Frame::Quarantine(quarantine))) => Ok(Row::Quarantined(quarantine)),
        Some(Err(error)) => {
            Err(Error::failed(format!("a row of {table} is no frame")).with_source(error))
        }
        Some(Ok(_)) | None => Err(Error::failed(format!(
            "a row of {table} came as another frame than a row",
        ))),
    }
}

/// DETACH … CONCURRENTLY waits for nobody before its first half is done. What is begun anew
/// finds the table where it belongs by then.
fn moved(table: &str) -> Error {
    Error::new(
        ErrorKind::Disconnected,
        format!(
            "table {table} was attached to another table or detached from one while it was copied",
        ),
    )
}
