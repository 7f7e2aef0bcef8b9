//! The ids of the schemas of what is copied: asked for while nothing is held.
//!
//! # Why not under the locks
//!
//! A registry may be away for hours. An ALTER TABLE would wait for the copy's lock as long, and every
//! query of that table behind the ALTER; a snapshot keeps dead rows in every table, and a slot
//! keeps WAL. So the tables are described, and the registry is asked, before anything is locked. Under
//! the locks they are described again. One that is another by then is not asked for there: all is
//! let go, the registry is waited for, and the snapshot begins anew, with all answers so far. An
//! answer stays true, as schemas and their ids do, so each of these rounds takes another change of a
//! table.

use std::collections::HashMap;
use std::sync::Arc;

use super::view::{Description, ViewOptions, captured};
use super::waiting::Waiting;
use crate::error::{Error, Result};
use crate::registry::{Ids, Refused, Registrar, Schemas};
use crate::route::Router;
use crate::source::catalog::{Catalog, TableName};
use crate::source::connection::Connection;
use crate::source::sql_error::sqlstate;
use crate::stop::Stop;

/// The ids, or why there are none.
type Answer = std::result::Result<Ids, Arc<Refused>>;

/// What the registry has said, by what it was asked for.
#[derive(Default)]
pub(super) struct Answers(HashMap<Description, Answer>);

impl Answers {
    /// What was said of a table that is just like this; none if that was not asked.
    pub(super) fn of(&self, description: &Description) -> Option<&Answer> {
        self.0.get(description)
    }

    /// Asks for what is not known, as long as it takes.
    ///
    /// # Errors
    /// One that a person has to mend, or `stop` is set.
    pub(super) fn ask(
        &mut self,
        registrar: &Registrar,
        router: &mut Router,
        descriptions: Vec<Description>,
        stop: &Stop,
    ) -> Result<()> {
        for description in descriptions {
            let Some((key, value)) = &description.schemas else {
                return Err(broken(&description));
            };
            if self.0.contains_key(&description) {
                continue;
            }
            let Description { schema, table, .. } = &description;
            let topic = router.topic(schema, table)?;
            let name = format!("{schema}.{table}");
            let schemas = Schemas::new(name, &topic, key.as_deref(), value);
            let answer = registrar.await_ids(&schemas, &mut || stop.check())?;
            self.0.insert(description, answer);
        }
        Ok(())
    }
}

fn broken(description: &Description) -> Error {
    let Description { schema, table, .. } = description;
    Error::failed(format!(
        "the server described {schema}.{table} without its schemas"
    ))
    .with_hint("Install the same release on both sides; if it is, please report this.")
}

/// The captured tables as `session`, in no transaction, sees them: each as of its own moment. One
/// that is gone meanwhile is left out.
///
/// # Errors
/// A table cannot be described.
pub(super) fn described(
    catalog: &Catalog,
    options: &ViewOptions<'_>,
    session: &Connection,
) -> Result<Vec<Description>> {
    const STATEMENT: &str = "headwater_describe";
    let reporter = options.connector.connect()?;
    let pid = session.backend_pid();
    let call = options
        .plugin
        .relation_call("$1::text::pg_catalog.regclass");
    session.prepare(STATEMENT, &format!("SELECT {call}"), &mut |_| ())?;
    let mut descriptions = Vec::new();
    for table in captured(catalog, options) {
        let name = TableName {
            schema: table.schema.clone(),
            table: table.name.clone(),
        };
        let name = name.sql();
        let mut waiting = Waiting::new(&reporter, pid, "a captured table to be described");
        let rows = session.execute(STATEMENT, &[name.as_bytes()], &mut |waited| {
            waiting.report(waited);
        });
        match rows {
            Err(error)
                if error.is_any_of(&[sqlstate::UNDEFINED_TABLE, sqlstate::INVALID_SCHEMA_NAME]) => {
            }
            rows => descriptions.push(Description::read(&rows?, &name)?),
        }
    }
    session.query(&format!("DEALLOCATE {STATEMENT}"))?;
    Ok(descriptions)
}
