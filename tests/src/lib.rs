//! The harness: throwaway servers, the real client, and readers of what it wrote.
//!
//! A test or the demo starts a [`Postgres`], a [`Kafka`] and a [`Registry`] of its own or shares one,
//! runs the [`Client`] against them and reads the topics back with [`topic`]. Nothing
//! is imitated: the servers are the ones that users run, the client is the released
//! program, and a topic is read by a consumer.
//!
//! Every process runs under a [`keeper`], which ends it and removes its folder when the
//! harness ends, however it ends. So no run leaves anything behind.
//!
//! The harness panics where it cannot go on, with a sentence that says what failed and
//! with what message: its callers have nothing better to do.

pub mod altered;
pub mod avro;
pub mod certificates;
pub mod client;
pub mod installation;
pub mod kafka;
pub mod keeper;
pub mod lines;
pub mod memory;
pub mod metrics;
pub mod picture;
pub mod port;
pub mod postgres;
pub mod random;
pub mod readers;
pub mod registry;
pub mod session;
pub mod slot;
pub mod terminal;
pub mod topic;
pub mod torture;
pub mod types;
pub mod wait;

pub use certificates::Certificates;
pub use client::Client;
pub use installation::Installation;
pub use kafka::Kafka;
pub use memory::MemoryWatch;
pub use metrics::Metrics;
pub use postgres::Postgres;
pub use random::Random;
pub use registry::Registry;
pub use session::Session;
pub use terminal::Terminal;
