//! The boundary to the server, and the only place that says `unsafe`.
//!
//! Two rules make the rest of the crate safe:
//!
//! - Pointers that Postgres lends for one callback are wrapped in types that borrow
//!   from that callback ([`RelationRef`], [`Row`], [`Value`]) and can't be stored.
//! - A value is read only as what the descriptor of its own relation says it is:
//!   an [`Attribute`] can be made from a descriptor alone and carries the length and
//!   passing convention that every reader checks.
//!
//! Every `pg_sys` function is called through pgrx's guard, which turns an ERROR into
//! a Rust panic that unwinds, running destructors, up to the `#[pg_guard]` of the
//! callback, where it becomes an ERROR again. The guard costs a `sigsetjmp`, so the
//! path of a row makes as few calls as it can. The exceptions, called directly, are
//! functions that cannot raise an ERROR, and say so.
#![allow(unsafe_code)]

mod array;
mod callbacks;
mod composite;
mod data_calls;
mod ddl;
mod encode_function;
mod encoding;
mod float;
mod functions;
mod invalidation;
mod limits;
mod memory;
mod options;
mod output_function;
mod panics;
mod partition;
mod relation;
mod report;
mod schema_functions;
mod settings;
mod tuple;
mod types;
mod versions;
mod writer;

pub(crate) use array::{Dimension, ElementLayout, Elements, Malformed};
pub(crate) use composite::CompositeType;
pub(crate) use data_calls::{DataCalls, Raised, SqlState, server_error};
pub(crate) use encoding::{DatabaseEncoding, NotUtf8};
pub(crate) use float::{push_f32, push_f64};
pub(crate) use invalidation::{Stale, is_quiet, take_invalidated};
pub(crate) use limits::{current_limits, limits_generation};
pub(crate) use memory::{make_room, out_of_memory};
pub(crate) use output_function::OutputFunction;
pub(crate) use panics::{Place, panic_point};
pub(crate) use partition::ancestors;
pub(crate) use relation::{Attribute, ColumnDescription, OpenRelation, OwnerRef, RelationRef};
pub(crate) use report::{report_quarantine, report_stale};
pub(crate) use settings::OutputSettings;
pub(crate) use tuple::{Column, Container, ContainerRoom, Row, TupleBuffer, TupleRef, Value};
pub(crate) use types::{
    EnumLabels, FIRST_USER_OID, TypeKind, TypePart, base_type, base_type_and_modifier, enum_labels,
    has_exact_labels, has_exact_name, is_hstore, qualified_name, type_hash, type_kind, type_name,
    type_parts, type_text,
};
pub(crate) use writer::Writer;

pgrx::pg_module_magic!();

/// Called by the server once it has loaded the library, and again at the next use where this
/// failed.
#[pgrx::pg_guard]
extern "C-unwind" fn _PG_init() {
    limits::define();
    #[cfg(feature = "panics")]
    panics::define();
    versions::reserve_prefix(c"headwater");
}
