//! The SQL functions: the same plans and the same encoder, called by a query.
//!
//! They are version-1 C functions declared by hand in `sql/`, so that the names and
//! options that users see stand in one readable file.

#![allow(unreachable_pub, reason = "the server finds the symbols by name")]

use headwater_protocol::Lsn;
use headwater_protocol::VERSION;
use headwater_protocol::avro::Fingerprint;
use headwater_protocol::options::{Partitions, PluginOptions};
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};

use super::encoding::DatabaseEncoding;
use super::limits::current_limits;
use super::options::{parse_pairs, refuse_too_long, text};
use super::panics::{Place, panic_point};
use super::partition::ancestors;
use super::relation::RelationRef;
use super::report::refuse;
use crate::access::Scope;
use crate::encode::EncodeError;
use crate::plan::RelationPlan;
use crate::preamble::describe;
use crate::schema::SchemaCompiler;

/// Says of functions that they follow version 1 of the calling convention.
macro_rules! version_1 {
    ($($info:ident),*) => {$(
        /// Says that the function of this name follows version 1 of the calling convention.
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            static INFO: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &INFO
        }
    )*};
}
pub(super) use version_1;

version_1!(pg_finfo_headwater_version, pg_finfo_headwater_relation);

/// `headwater.version() → text`
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn headwater_version(
    _fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    panic_point(Place::Function);
    varlena_datum(VERSION.as_bytes())
}

/// `headwater.relation(regclass, VARIADIC text[]) → bytea`: the relation frame, and under Avro
/// the frame of its schemas.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn headwater_relation(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: the declaration in `sql/` says what the arguments are.
    unsafe {
        let Some(relation) = argument(fcinfo, 0) else {
            return null(fcinfo);
        };
        let options = options_argument(argument(fcinfo, 1), &[]).options;
        let schemas = SchemaCompiler::new(&options, DatabaseEncoding::current(options.encoding));
        let frame = open(oid(relation), &options, |relation| {
            let mut frame = Vec::new();
            describe(&compile(relation, &options), &schemas, &mut frame);
            frame
        });
        panic_point(Place::Function);
        varlena_datum(&frame)
    }
}

/// The plan of a table that was asked for by name, whatever the options select. One that the
/// server's settings do not let be sent ends the command.
pub(super) fn compile(relation: RelationRef<'_>, options: &PluginOptions) -> RelationPlan {
    let scope = Scope {
        options,
        limits: &current_limits(),
        encoding: DatabaseEncoding::current(options.encoding),
    };
    let plan = RelationPlan::compile(relation, scope, |_, _| true);
    let reason = match plan.refusal {
        Some(refusal) => refusal.to_string(),
        None if plan.key_is_excluded => EncodeError::KeyExcluded.to_string(),
        None => return plan,
    };
    refuse(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!(
            "no rows of table \"{}.{}\" are sent: {reason}",
            plan.schema, plan.table
        ),
        Some("What Headwater may send is for a superuser to say.".to_owned()),
    )
}

/// A `regclass`.
pub(super) fn oid(datum: pg_sys::Datum) -> pg_sys::Oid {
    pg_sys::Oid::from(datum.value() as u32)
}

/// Opens a table, reads it and closes it again, keeping the lock to the end of the
/// transaction, as a query on it does, for a user who could have had it by a query: nobody else
/// may hold up those who alter the table. Tables that a partition's plan is made from are locked
/// too, those at the top first.
///
/// # Safety
///
/// Called from a SQL function.
pub(super) unsafe fn open<T>(
    relation: pg_sys::Oid,
    options: &PluginOptions,
    read: impl FnOnce(RelationRef<'_>) -> T,
) -> T {
    // SAFETY: a relation that does not exist is an ERROR of the server's own.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let id = relation;
        let relation = pg_sys::relation_open(id, lock);
        let above = match options.partitions {
            Partitions::Root => ancestors(RelationRef::new(relation)),
            Partitions::Leaf => Vec::new(),
        };
        for ancestor in above.iter().rev() {
            pg_sys::LockRelationOid(pg_sys::Oid::from(*ancestor), lock);
        }
        let result = read(RelationRef::new(relation));
        pg_sys::relation_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        let select = pg_sys::AclMode::from(pg_sys::ACL_SELECT);
        let may_select = pg_sys::pg_class_aclcheck(id, pg_sys::GetUserId(), select);
        if may_select != pg_sys::AclResult::ACLCHECK_OK {
            for locked in above.into_iter().map(pg_sys::Oid::from).chain([id]) {
                pg_sys::UnlockRelationOid(locked, lock);
            }
        }
        result
    }
}

/// The argument, none for SQL's null.
///
/// # Safety
///
/// The function was declared with more than `index` arguments.
pub(super) unsafe fn argument(
    fcinfo: pg_sys::FunctionCallInfo,
    index: usize,
) -> Option<pg_sys::Datum> {
    // SAFETY: the caller's.
    unsafe {
        let arguments = (*fcinfo).args.as_slice(index + 1);
        (!arguments[index].isnull).then_some(arguments[index].value)
    }
}

/// # Safety
///
/// `fcinfo` is the call under way.
pub(super) unsafe fn null(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the caller's.
    unsafe { (*fcinfo).isnull = true };
    pg_sys::Datum::from(0_usize)
}

/// The plugin's options, and those that only a snapshot has.
pub(super) struct EncodeOptions {
    pub(super) options: PluginOptions,
    /// `lsn`: the snapshot's consistent point, for the envelope's source.
    pub(super) lsn: Lsn,
    /// `schemas`: those that the reader will take the rows to be of.
    pub(super) schemas: Option<Fingerprint>,
}

/// Options as `name=value`. A null element is none, as is a null array. What is `implied` may
/// be said again.
///
/// # Safety
///
/// `array` is a `text[]`.
pub(super) unsafe fn options_argument(
    array: Option<pg_sys::Datum>,
    implied: &[(&str, &str)],
) -> EncodeOptions {
    // SAFETY: the caller's.
    let texts = array.map_or_else(Vec::new, |array| unsafe { texts(array) });
    let mut lsn = Lsn::INVALID;
    let mut schemas = None;
    let mut pairs: Vec<(&str, Option<&str>)> = implied
        .iter()
        .map(|(name, value)| (*name, Some(*value)))
        .collect();
    for text in &texts {
        match text.split_once('=') {
            Some(("lsn", value)) => match value.parse() {
                Ok(value) => lsn = value,
                Err(error) => refuse(
                    PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                    format!("invalid value for option \"lsn\": {error}"),
                    None,
                ),
            },
            Some(("schemas", value)) => match value.parse() {
                Ok(value) => schemas = Some(value),
                Err(error) => refuse(
                    PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                    format!("invalid value for option \"schemas\": {error}"),
                    None,
                ),
            },
            Some(pair) if implied.contains(&pair) => {}
            Some((name, value)) => pairs.push((name, Some(value))),
            None => pairs.push((text.as_str(), None)),
        }
    }
    EncodeOptions {
        options: parse_pairs(pairs),
        lsn,
        schemas,
    }
}

/// The elements of an array that are not null.
///
/// # Safety
///
/// `array` is a `text[]`.
unsafe fn texts(array: pg_sys::Datum) -> Vec<String> {
    let mut elements: *mut pg_sys::Datum = std::ptr::null_mut();
    let mut nulls: *mut bool = std::ptr::null_mut();
    let mut count = 0;
    // SAFETY: the caller's; text is a varlena of alignment `i`. The elements are copied to
    // terminated strings in the current memory context.
    unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr());
        refuse_too_long(pgrx::varsize_4b(array));
        pg_sys::deconstruct_array(
            array.cast(),
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as std::ffi::c_char,
            &mut elements,
            &mut nulls,
            &mut count,
        );
        (0..usize::try_from(count).unwrap_or(0))
            .filter(|index| !*nulls.add(*index))
            .map(|index| {
                text(pg_sys::text_to_cstring(
                    (*elements.add(index)).cast_mut_ptr(),
                ))
            })
            .collect()
    }
}

/// Lends the bytes of a value of variable length; none are those of SQL's null.
///
/// # Safety
///
/// `value` is a varlena.
pub(super) unsafe fn with_varlena<T>(
    value: Option<pg_sys::Datum>,
    read: impl FnOnce(&[u8]) -> T,
) -> T {
    let Some(value) = value else {
        return read(&[]);
    };
    // SAFETY: the caller's. What is not plain and whole is copied, and freed again.
    unsafe {
        let value: *mut pg_sys::varlena = value.cast_mut_ptr();
        let bytes = |plain: *mut pg_sys::varlena| {
            std::slice::from_raw_parts(plain.cast::<u8>(), pgrx::varsize_4b(plain))
        };
        if pgrx::varatt_is_4b_u(value) {
            return read(bytes(value));
        }
        let plain = pg_sys::pg_detoast_datum(value);
        let result = read(bytes(plain));
        pg_sys::pfree(plain.cast());
        result
    }
}

/// `text` and `bytea` share one layout.
pub(super) fn varlena_datum(bytes: &[u8]) -> pg_sys::Datum {
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    // SAFETY: copies the bytes into a new value in the current memory context.
    unsafe {
        pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(
            bytes.as_ptr().cast(),
            length,
        ))
    }
}
