//! Torture: everything goes wrong at random while writers write, and then it is told, change
//! by change, whether anything was lost, reordered or made up.
//!
//! ```text
//! workload ──SQL──> Postgres ──proxy──> client ──proxy──> Kafka
//!    │                 │       nemesis: faults, on every part      │
//!    └─> history       └─> witness: looks at the slot              └─> log
//!            └───────────────── evidence ──────────────────────────────┘
//!                                  └─> checkers ──> report
//! ```
//!
//! - [`workload`]: writers with keys of their own, and what they know of their commits.
//! - [`history`]: what was committed. [`log`]: what the topics hold. [`evidence`]: both, and
//!   what else was seen.
//! - [`nemesis`]: faults, by a schedule that follows from the seed. [`proxy`]: the network.
//! - [`supervisor`]: starts the client again where that is due, and only there.
//! - [`checkers`]: functions of the evidence, each proven able to fail.
//!
//! A run is asked for by its [`run::Settings`] and ends with a [`report::Report`].

pub mod arena;
pub mod checkers;
pub mod evidence;
pub mod history;
pub mod log;
pub mod nemesis;
pub mod proxy;
pub mod report;
pub mod run;
pub mod supervisor;
mod witness;
pub mod workload;

pub use arena::Format;
pub use run::{Settings, run};
