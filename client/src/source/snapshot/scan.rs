//! Reads every row of tables once, through several sessions at a time.

use headwater_protocol::avro::Fingerprint;

use super::job::{self, Job};
use super::rows::{self, Row};
use crate::error::{Error, Result};
use crate::parallel::Jobs;
use crate::source::catalog::Table;
use crate::source::connection::Connection;
use crate::source::plugin::Plugin;

/// A table to read.
pub struct Source {
    /// The table as the snapshot sees it.
    pub table: Table,
    /// The relation that its rows are sent as.
    pub relation: u32,
    /// The schemas that its rows are taken to be of; none where they have none.
    pub schemas: Option<Fingerprint>,
}

/// Parts of tables, of which each session takes one after another.
pub struct Scan<'a> {
    plugin: &'a Plugin,
    sources: Vec<&'a Source>,
    parts: Jobs<Job>,
}

impl<'a> Scan<'a> {
    /// Nothing is read yet.
    pub fn new(plugin: &'a Plugin, sources: impl Iterator<Item = &'a Source>) -> Self {
        let sources: Vec<&Source> = sources.collect();
        Scan {
            plugin,
            parts: Jobs::new(job::plan(sources.iter().map(|source| &source.table))),
            sources,
        }
    }

    /// Reads in the calling thread until nothing is left or a thread has failed. `each` is
    /// given the row and the number of its table.
    pub fn read(&self, session: &Connection, mut each: impl FnMut(usize, Row<'_>) -> Result<()>) {
        self.parts.work(|part| {
            let Some(source) = self.sources.get(part.table) else {
                return Ok(());
            };
            rows::copy(
                session,
                &rows::query(self.plugin, source, part),
                source.relation,
                &source.table.sql_name(),
                &mut |row| each(part.table, row),
            )?
            .map_err(Error::from)
        });
    }

    /// Ends the reading of all sessions.
    pub fn give_up(&self, error: Error) {
        self.parts.give_up(error);
    }

    /// Whether a session failed.
    pub fn has_given_up(&self) -> bool {
        self.parts.has_given_up()
    }

    /// How it went, when every session has returned.
    ///
    /// # Errors
    /// The first one.
    pub fn outcome(self) -> Result<()> {
        self.parts.outcome()
    }
}
