//! What the checks share: what was asked for, and what was learned so far.

use crate::cli::{DoctorOptions, StreamOptions};
use crate::doctor::kafka::Cluster;
use crate::doctor::start::Sample;
use crate::error::{Error, Result};
use crate::kafka::Purpose;
use crate::registry::Registry;
use crate::source::catalog::Catalog;
use crate::source::connection::{Connection, Connector};
use crate::source::plugin::Plugin;
use crate::source::preconditions::Facts;
use crate::source::slot::{Slot, System};
use crate::stop::Stop;

/// One run of the doctor.
pub(super) struct Examination<'a> {
    pub(super) doctor: &'a DoctorOptions,
    pub(super) options: &'a StreamOptions,
    pub(super) plugin: Plugin,
    pub(super) connector: Connector,
    pub(super) stop: &'a Stop,
    /// Set by the check that connects.
    pub(super) connection: Option<Connection>,
    /// Set where the server is new enough to be asked.
    pub(super) facts: Option<Facts>,
    /// Set by the check that opens a replication connection.
    pub(super) system: Option<System>,
    /// What was seen of slots and transactions at first.
    pub(super) first: Option<Sample>,
    /// And some seconds later.
    pub(super) second: Option<Sample>,
    /// Set by the check that reads the tables.
    pub(super) catalog: Option<Catalog>,
    /// The topics of tables, and what for. Set by the check that names them.
    pub(super) topics: Option<Vec<(String, Purpose)>>,
    /// Set by the check that reaches the brokers.
    pub(super) cluster: Option<Cluster>,
    /// Set by the check that reaches the registry.
    pub(super) registry: Option<Registry>,
}

impl<'a> Examination<'a> {
    pub(super) fn new(doctor: &'a DoctorOptions, stop: &'a Stop) -> Result<Self> {
        let options = &doctor.stream;
        Ok(Examination {
            doctor,
            options,
            plugin: Plugin::new(options)?,
            connector: Connector::new(options.connection.conninfo(), stop.clone()),
            stop,
            connection: None,
            facts: None,
            system: None,
            first: None,
            second: None,
            catalog: None,
            topics: None,
            cluster: None,
            registry: None,
        })
    }

    pub(super) fn connection(&self) -> Result<&Connection> {
        self.connection
            .as_ref()
            .ok_or_else(|| unknown("Postgres was not reached"))
    }

    pub(super) fn facts(&self) -> Result<&Facts> {
        let facts = self.facts.as_ref();
        facts.ok_or_else(|| match &self.connection {
            None => unknown("Postgres was not reached"),
            Some(_) => unknown("the server is too old to be asked"),
        })
    }

    pub(super) fn catalog(&self) -> Result<&Catalog> {
        let catalog = self.catalog.as_ref();
        catalog.ok_or_else(|| match &self.connection {
            None => unknown("Postgres was not reached"),
            Some(_) => unknown("the tables are not known"),
        })
    }

    pub(super) fn cluster(&self) -> Result<&Cluster> {
        self.cluster
            .as_ref()
            .ok_or_else(|| unknown("Kafka was not reached"))
    }

    pub(super) fn registry(&self) -> Result<&Registry> {
        self.registry
            .as_ref()
            .ok_or_else(|| unknown("the schema registry was not reached"))
    }

    /// The slot of the stream, where there is one that can be its slot.
    pub(super) fn slot(&self) -> Result<Option<Slot>> {
        Slot::find(self.connection()?, &self.options.slot)
    }
}

/// Why a check was not made.
pub(super) fn unknown(why: &str) -> Error {
    Error::failed(why)
}
