//! What is compared with what: the tables whose rows are sent as one, and their topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_protocol::avro::Fingerprint;

use super::avro::{Form, Forms};
use crate::error::{Error, Result};
use crate::route::Router;
use crate::source::catalog::{Table, TableName};
use crate::source::plugin::Plugin;
use crate::source::snapshot::{Description, Source, View};

/// A table, with its partitions where they are sent as it, and its topic.
pub(super) struct Subject {
    /// The table.
    pub(super) name: TableName,
    /// The topic.
    pub(super) topic: String,
    /// The relation that the rows are sent as; none for a partitioned table without any
    /// partition, which has no rows.
    pub(super) relation: Option<u32>,
    /// How its records are read, where they are in Avro.
    pub(super) form: Option<Arc<Form>>,
    /// The schemas that its rows are taken to be of; none where they have none.
    pub(super) schemas: Option<Fingerprint>,
    /// How many rows it may have; none where it was never analyzed.
    pub(super) estimated_rows: Option<u64>,
}

/// All of them, and what to read for them.
pub(super) struct Subjects {
    /// By their numbers.
    pub(super) list: Vec<Subject>,
    /// The tables to read.
    pub(super) sources: Vec<Source>,
    /// The number of the subject that each of them belongs to.
    pub(super) of_source: Vec<u32>,
    /// Tables without a key, which nothing can be said of.
    pub(super) unkeyed: Vec<TableName>,
}

impl Subjects {
    /// The table of [`Subjects::sources`] with this number, quoted as in SQL.
    pub(super) fn source_name(&self, number: usize) -> String {
        let source = self.sources.get(number);
        source.map_or_else(String::new, |source| source.table.sql_name())
    }

    /// What a view sees.
    ///
    /// # Errors
    /// A table cannot be described, or two would have one topic.
    pub(super) fn of(
        view: &View,
        plugin: &Plugin,
        router: &mut Router,
        forms: Option<&Forms>,
    ) -> Result<Self> {
        let mut subjects = Subjects {
            list: Vec::new(),
            sources: Vec::new(),
            of_source: Vec::new(),
            unkeyed: Vec::new(),
        };
        let mut numbers = BTreeMap::new();
        for table in &view.catalog().tables {
            if !table.is_keyed {
                subjects.unkeyed.push(table.sent_as.clone());
                continue;
            }
            let own = TableName {
                schema: table.schema.clone(),
                table: table.name.clone(),
            };
            let described = view.describe(plugin, &own)?;
            let name = TableName {
                schema: described.schema.clone(),
                table: described.table.clone(),
            };
            let number = match numbers.get(&name) {
                Some(number) => *number,
                None => {
                    let topic = router.topic(&name.schema, &name.table)?;
                    let form = match (forms, &described.schemas) {
                        (Some(forms), Some((Some(key), value))) => {
                            Some(Arc::new(forms.form(&topic, key, value)?))
                        }
                        _ => None,
                    };
                    let number = subjects.add(&name, Some(described.relation), topic, form)?;
                    numbers.insert(name, number);
                    number
                }
            };
            subjects.add_source(number, table, &described);
        }
        for name in view.catalog().without_partitions() {
            let topic = router.topic(&name.schema, &name.table)?;
            subjects.add(name, None, topic, None)?;
        }
        subjects.unkeyed.sort_unstable();
        subjects.unkeyed.dedup();
        Ok(subjects)
    }

    fn add(
        &mut self,
        name: &TableName,
        relation: Option<u32>,
        topic: String,
        form: Option<Arc<Form>>,
    ) -> Result<u32> {
        let number = u32::try_from(self.list.len())
            .map_err(|_| Error::failed("too many tables to compare"))?;
        self.list.push(Subject {
            name: name.clone(),
            topic,
            relation,
            form,
            schemas: None,
            estimated_rows: Some(0),
        });
        Ok(number)
    }

    fn add_source(&mut self, number: u32, table: &Table, described: &Description) {
        if let Some(subject) = self.list.get_mut(number as usize) {
            let estimates = subject.estimated_rows.zip(table.estimated_rows);
            subject.estimated_rows = estimates.map(|(sum, rows)| sum + rows);
            subject.schemas = described.fingerprint();
        }
        self.of_source.push(number);
        self.sources.push(Source {
            table: table.clone(),
            relation: described.relation,
            schemas: described.fingerprint(),
        });
    }

    /// How many rows there may be; none where a table was never analyzed.
    pub(super) fn estimated_rows(&self) -> Option<u64> {
        self.list.iter().map(|subject| subject.estimated_rows).sum()
    }
}
