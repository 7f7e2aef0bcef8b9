//! Reads every row of tables once, through several sessions at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

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
    /// How many parts of each table are not read yet.
    left: Vec<AtomicUsize>,
    tables_done: AtomicUsize,
}

impl<'a> Scan<'a> {
    /// Nothing is read yet.
    pub fn new(plugin: &'a Plugin, sources: impl Iterator<Item = &'a Source>) -> Self {
        let sources: Vec<&Source> = sources.collect();
        let parts = job::plan(sources.iter().map(|source| &source.table));
        let left: Vec<AtomicUsize> = sources.iter().map(|_| AtomicUsize::new(0)).collect();
        for left in parts.iter().filter_map(|part| left.get(part.table)) {
            left.fetch_add(1, Ordering::Relaxed);
        }
        Scan {
            plugin,
            parts: Jobs::new(parts),
            sources,
            left,
            tables_done: AtomicUsize::new(0),
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
            .map_err(Error::from)?;
            self.has_read(part);
            Ok(())
        });
    }

    fn has_read(&self, part: &Job) {
        let left = self.left.get(part.table);
        if left.is_some_and(|left| left.fetch_sub(1, Ordering::Relaxed) == 1) {
            self.tables_done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many tables have been read whole.
    pub fn tables_done(&self) -> usize {
        self.tables_done.load(Ordering::Relaxed)
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
