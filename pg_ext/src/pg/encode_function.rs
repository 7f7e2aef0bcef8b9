//! `headwater.encode`: a row of a query, as the plugin sends it.
//!
//! # Rows that are read through a partitioned table
//!
//! The server hands them over as rows of the table that the query names, whichever partition
//! stores them: what is excluded under a partition's own name cannot be told from the row. The query can
//! say it, with `tableoid`, and what is hidden in that partition is then null, as it is in the
//! stream. Whatever OID is said, it only narrows: what the table itself may not show is in no plan.
//!
//! # What the calls of one expression share
//!
//! A plan and a descriptor are kept from row to row, for as long as the expression lives: that of a
//! statement in PL/pgSQL lives on over other statements of the transaction, and a function that a query
//! calls can alter the table of the rows to come. A row that is read by the descriptor of another shape
//! is read as whatever its bytes are not: lengths and pointers among them. So what is kept is made
//! anew whenever the server has reported any change of its catalogs, of whatever relation, and whenever
//! the row's type or the options are others. A row that was built before its table was altered is
//! the server's to refuse, here as in every function of its own that takes rows.

#![allow(unreachable_pub, reason = "the server finds the symbols by name")]

use std::collections::HashMap;

use headwater_protocol::avro::Fingerprint;
use headwater_protocol::frame::Op;
use headwater_protocol::limits::Limits;
use headwater_protocol::options::{Format, Output, PluginOptions};
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};

use super::encoding::DatabaseEncoding;
use super::functions::{
    EncodeOptions, argument, compile, null, oid, open, options_argument, varlena_datum, version_1,
    with_varlena,
};
use super::invalidation;
use super::limits::{current_limits, limits_generation};
use super::memory::give_to;
use super::panics::{Place, panic_point};
use super::relation::Attribute;
use super::report::refuse;
use super::settings::OutputSettings;
use super::tuple::{TupleBuffer, TupleRef};
use crate::access::Scope;
use crate::encode::{Encoder, RowChange, Source, ValueEncoder};
use crate::plan::RelationPlan;
use crate::schema::SchemaCompiler;

version_1!(pg_finfo_headwater_encode, pg_finfo_headwater_encode_stored);

/// `headwater.encode(record, VARIADIC text[]) → bytea`: the row as the plugin sends it,
/// a line or a frame.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn headwater_encode(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: the declaration in `sql/` says what the arguments are.
    unsafe { call(fcinfo, argument(fcinfo, 0), argument(fcinfo, 1), None) }
}

/// `headwater.encode(regclass, record, VARIADIC text[]) → bytea`: the row as the plugin sends it
/// from the relation that stores it; null if it sends nothing of that relation.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn headwater_encode_stored(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: the declaration in `sql/` says what the arguments are.
    unsafe {
        let Some(stored_in) = argument(fcinfo, 0) else {
            return null(fcinfo);
        };
        let stored_in = Some(oid(stored_in).to_u32());
        call(fcinfo, argument(fcinfo, 1), argument(fcinfo, 2), stored_in)
    }
}

/// # Safety
///
/// `row` is a composite value and `options` a text array, both arguments of the call.
unsafe fn call(
    fcinfo: pg_sys::FunctionCallInfo,
    row: Option<pg_sys::Datum>,
    options: Option<pg_sys::Datum>,
    stored_in: Option<u32>,
) -> pg_sys::Datum {
    // SAFETY: the caller's; the server sets `flinfo`, whose `fn_extra` belongs to the function and
    // lives in `fn_mcxt`.
    unsafe {
        let Some(row) = row else {
            return null(fcinfo);
        };
        let header =
            pg_sys::pg_detoast_datum(row.cast_mut_ptr()).cast::<pg_sys::HeapTupleHeaderData>();
        let row_type = RowType::of(header);
        let flinfo = (*fcinfo).flinfo;
        let query = (*flinfo).fn_extra.cast::<EncodeQuery>();
        let query = if query.is_null() {
            let query = EncodeQuery::new(row_type, options);
            let query = give_to((*flinfo).fn_mcxt, query);
            (*flinfo).fn_extra = query.cast();
            query
        } else {
            query
        };
        if !(*query).is_of(row_type, options) {
            *query = EncodeQuery::new(row_type, options);
        }
        panic_point(Place::Function);
        let encoded = (*query).encode(header, stored_in);
        if !std::ptr::eq(header.cast(), row.cast_mut_ptr::<pg_sys::varlena>()) {
            pg_sys::pfree(header.cast());
        }
        encoded.unwrap_or_else(|| null(fcinfo))
    }
}

/// The composite type that a row carries in its header.
#[derive(Clone, Copy, PartialEq, Eq)]
struct RowType {
    oid: pg_sys::Oid,
    modifier: i32,
}

impl RowType {
    /// # Safety
    ///
    /// `header` is a detoasted composite datum.
    unsafe fn of(header: *mut pg_sys::HeapTupleHeaderData) -> Self {
        // SAFETY: the caller's; a composite datum uses this member of the union.
        unsafe {
            let fields = &(*header).t_choice.t_datum;
            RowType {
                oid: fields.datum_typeid,
                modifier: fields.datum_typmod,
            }
        }
    }
}

/// Of how many partitions it is kept what they hide. Callers name them, and there are as many OIDs
/// as numbers; a query of more partitions looks again at some.
const PARTS: usize = 4096;

/// What one query's calls share.
struct EncodeQuery {
    row_type: RowType,
    limits_generation: u64,
    catalog_generation: u64,
    /// The array as it came.
    given: Vec<u8>,
    /// A copy in the function's memory: no reference is held, so none can leak.
    descriptor: pg_sys::TupleDesc,
    plan: RelationPlan,
    options: PluginOptions,
    limits: Limits,
    /// By the relation that stores a row, what [`RelationPlan::hidden_in`] says of it.
    hidden: HashMap<u32, Option<Vec<Attribute>>>,
    encoder: Encoder,
    source: Source,
    tuple: TupleBuffer,
    bytes: Vec<u8>,
}

impl EncodeQuery {
    /// # Safety
    ///
    /// `options` is a text array or null. The current `fn_mcxt` outlives the result.
    unsafe fn new(row_type: RowType, options: Option<pg_sys::Datum>) -> Self {
        // SAFETY: the caller's, and catalog lookups.
        unsafe {
            let parsed = options_argument(options, &[]);
            invalidation::listen();
            if parsed.options.format == Format::Avro {
                invalidation::listen_to_types();
            }
            // What is reported while the catalogs are looked up counts as later.
            let (limits_generation, catalog_generation) =
                (limits_generation(), invalidation::generation());
            let given = with_varlena(options, <[u8]>::to_vec);
            let relation = pg_sys::get_typ_typrelid(row_type.oid);
            if row_type.oid == pg_sys::RECORDOID || relation == pg_sys::InvalidOid {
                refuse(
                    PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                    "headwater.encode needs a row of a table".to_owned(),
                    Some("Write SELECT headwater.encode(t.*) FROM the_table AS t.".to_owned()),
                );
            }
            let EncodeOptions {
                options,
                lsn,
                schemas,
            } = parsed;
            let encoding = DatabaseEncoding::current(options.encoding);
            let values = ValueEncoder::new(encoding, OutputSettings::call(), &options);
            let encoder = Encoder::new(&options, &encoding.database_name(), values);
            // Plan and descriptor of one moment: the plan's columns are read by it.
            let (plan, descriptor) = open(relation, &options, |relation| {
                let plan = compile(relation, &options);
                if let Some(schemas) = schemas {
                    refuse_other_schemas(&plan, &options, schemas);
                }
                (plan, relation.copy_descriptor())
            });
            EncodeQuery {
                row_type,
                limits_generation,
                catalog_generation,
                given,
                descriptor,
                plan,
                options,
                limits: current_limits(),
                hidden: HashMap::new(),
                encoder,
                source: Source {
                    lsn,
                    seq: 0,
                    transaction: None,
                    snapshot: true,
                },
                tuple: TupleBuffer::default(),
                bytes: Vec::new(),
            }
        }
    }

    /// Whether it would be made as it is.
    ///
    /// # Safety
    ///
    /// As of [`EncodeQuery::new`].
    unsafe fn is_of(&self, row_type: RowType, options: Option<pg_sys::Datum>) -> bool {
        self.row_type == row_type
            && self.limits_generation == limits_generation()
            && self.catalog_generation == invalidation::generation()
            // SAFETY: the caller's.
            && unsafe { with_varlena(options, |given| *given == *self.given) }
    }

    /// The row; none if nothing may be sent of what `stored_in` stores.
    ///
    /// # Safety
    ///
    /// `header` is a detoasted composite datum of this query's row type.
    unsafe fn encode(
        &mut self,
        header: *mut pg_sys::HeapTupleHeaderData,
        stored_in: Option<u32>,
    ) -> Option<pg_sys::Datum> {
        let hidden: &[Attribute] = match stored_in {
            Some(part) if self.limits.excludes_columns() => {
                let scope = Scope {
                    options: &self.options,
                    limits: &self.limits,
                    encoding: DatabaseEncoding::current(self.options.encoding),
                };
                if self.hidden.len() >= PARTS && !self.hidden.contains_key(&part) {
                    self.hidden.clear();
                }
                let hidden = self.hidden.entry(part);
                let hidden = hidden.or_insert_with(|| self.plan.hidden_in(part, scope));
                hidden.as_deref()?
            }
            _ => &[],
        };
        let mut tuple = pg_sys::HeapTupleData {
            // SAFETY: a composite datum is a varlena with a header of four bytes.
            t_len: unsafe { pgrx::varsize_4b(header.cast()) } as u32,
            t_data: header,
            ..Default::default()
        };
        // SAFETY: the tuple lives to the end of the call, and the descriptor is its type's.
        let row = unsafe {
            TupleRef::new(&raw mut tuple)
                .map(|tuple| self.tuple.deform_query(tuple, self.descriptor, hidden))
        };
        let change = RowChange {
            op: Op::Read,
            source: self.source,
            old: None,
            new: row,
        };
        self.bytes.clear();
        self.encoder.values.calls().settings().enter();
        let (encoder, plan, bytes) = (&mut self.encoder, &mut self.plan, &mut self.bytes);
        let result = match self.options.output {
            Output::Lines => encoder.line(plan, &change, bytes),
            Output::Frames => encoder.frame(plan, &change, bytes),
        };
        if let Err(reason) = result {
            match self.options.output {
                Output::Lines => encoder.quarantine_line(plan, &change, &reason, bytes),
                Output::Frames => encoder.quarantine_frame(plan, &change, &reason, bytes),
            }
        }
        encoder.values.calls().settings().leave();
        Some(varlena_datum(bytes))
    }
}

impl Drop for EncodeQuery {
    fn drop(&mut self) {
        // SAFETY: the copy belongs to this query alone and its memory outlives every query.
        unsafe { pg_sys::FreeTupleDesc(self.descriptor) };
    }
}

/// Refuses to encode rows under other schemas than the reader was told.
///
/// A table is described before its rows are read, and a lock on it does not keep what its columns
/// are made of: ALTER TYPE of a row type or of an enum commits meanwhile, and what is looked up
/// in the catalogs is as of now, whatever snapshot the rows are of. Bytes under the wrong
/// schema would be read as other values, without an error.
fn refuse_other_schemas(plan: &RelationPlan, options: &PluginOptions, expected: Fingerprint) {
    let encoding = DatabaseEncoding::current(options.encoding);
    let Some(schemas) = SchemaCompiler::new(options, encoding).compile(plan) else {
        return;
    };
    if Fingerprint::of(schemas.key.as_deref(), &schemas.value) != expected {
        refuse(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            format!(
                "the schemas of table \"{}.{}\" have changed since it was described",
                plan.schema, plan.table
            ),
            Some("Ask headwater.relation again.".to_owned()),
        );
    }
}
