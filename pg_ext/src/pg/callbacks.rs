//! The output plugin's callbacks: each a translation of one screen.
//!
//! The session is dropped with the decoding context and not by the shutdown callback,
//! which the server skips when an ERROR ends the session (`FreeDecodingContext` in
//! `logical.c` calls it; the cleanup of an aborted transaction does not).

use std::ffi::{CStr, c_char, c_int};

use headwater_protocol::Lsn;
use headwater_protocol::frame::Op;
use headwater_protocol::options::{Format, Output};
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};

use super::encoding::DatabaseEncoding;
use super::memory::{ChangeMemory, Entered, give_to};
use super::panics::{Place, panic_point};
use super::relation::RelationRef;
use super::report::refuse;
use super::tuple::TupleRef;
use super::writer::Writer;
use super::{ddl, invalidation, options, versions};
use crate::session::{ChangeView, Connection, MessageView, Session, TransactionView};

type Context = *mut pg_sys::LogicalDecodingContext;
type Transaction = *mut pg_sys::ReorderBufferTXN;

/// What hangs on `output_plugin_private`.
struct Private {
    session: Session,
    memory: ChangeMemory,
}

/// The symbol that makes the library an output plugin.
///
/// Streaming of transactions in progress and two-phase commit need callbacks that are
/// left out: the server then sends whole transactions, and a prepared one at its
/// COMMIT PREPARED.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn _PG_output_plugin_init(
    callbacks: *mut pg_sys::OutputPluginCallbacks,
) {
    // SAFETY: the server passes a zeroed struct of its own version.
    let callbacks = unsafe { &mut *callbacks };
    panic_point(Place::Init);
    callbacks.startup_cb = Some(startup);
    callbacks.begin_cb = Some(begin);
    callbacks.change_cb = Some(change);
    callbacks.truncate_cb = Some(truncate);
    callbacks.message_cb = Some(message);
    callbacks.commit_cb = Some(commit);
    callbacks.filter_by_origin_cb = Some(filter_by_origin);
    callbacks.shutdown_cb = Some(shutdown);
}

#[pg_guard]
unsafe extern "C-unwind" fn startup(
    ctx: Context,
    plugin_options: *mut pg_sys::OutputPluginOptions,
    is_init: bool,
) {
    // SAFETY: both are valid for the callback. While a slot is created there are no
    // options, and nothing is decoded.
    unsafe {
        let parsed = options::parse((*ctx).output_plugin_options);
        (*plugin_options).output_type = match parsed.output {
            Output::Lines => pg_sys::OutputPluginOutputType::OUTPUT_PLUGIN_TEXTUAL_OUTPUT,
            Output::Frames => pg_sys::OutputPluginOutputType::OUTPUT_PLUGIN_BINARY_OUTPUT,
        };
        (*plugin_options).receive_rewrites = true;
        let encoding = DatabaseEncoding::current(parsed.encoding);
        if encoding == DatabaseEncoding::SqlAscii && !is_init {
            refuse(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                "database encoding \"SQL_ASCII\" does not say what its bytes mean".to_owned(),
                Some(
                    "If its text is UTF-8, give the option encoding=assume-utf8; otherwise recreate \
                     the database with the encoding that its text has."
                        .to_owned(),
                ),
            );
        }
        let connection = Connection {
            database: if is_init {
                String::new()
            } else {
                encoding.database_name()
            },
            server_version: pg_sys::PG_VERSION_NUM,
            // Only a walsender reports progress; a SQL function has nobody to tell.
            walsender: (*ctx).update_progress.is_some(),
        };
        invalidation::listen();
        if parsed.format == Format::Avro {
            invalidation::listen_to_types();
        }
        let private = Private {
            session: Session::new(parsed, &connection, encoding),
            memory: ChangeMemory::new((*ctx).context),
        };
        (*ctx).output_plugin_private = give_to((*ctx).context, private).cast();
        panic_point(Place::Startup);
    }
}

/// Everything that has to be given back was given to the decoding context.
#[pg_guard]
unsafe extern "C-unwind" fn shutdown(_ctx: Context) {
    panic_point(Place::Shutdown);
}

#[pg_guard]
unsafe extern "C-unwind" fn begin(ctx: Context, txn: Transaction) {
    // SAFETY: a callback under way.
    unsafe {
        let (session, _memory) = enter(ctx);
        session.begin(&ddl::changed_relations(txn));
        panic_point(Place::Begin);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn change(
    ctx: Context,
    txn: Transaction,
    relation: pg_sys::Relation,
    change: *mut pg_sys::ReorderBufferChange,
) {
    // SAFETY: everything is valid for the callback.
    unsafe {
        let op = match (*change).action {
            pg_sys::ReorderBufferChangeType::REORDER_BUFFER_CHANGE_INSERT => Op::Create,
            pg_sys::ReorderBufferChangeType::REORDER_BUFFER_CHANGE_UPDATE => Op::Update,
            pg_sys::ReorderBufferChangeType::REORDER_BUFFER_CHANGE_DELETE => Op::Delete,
            // The server passes no other action to this callback.
            _ => return,
        };
        let tuples = &(*change).data.tp;
        let view = ChangeView {
            op,
            old: TupleRef::new(versions::heap_tuple(tuples.oldtuple)),
            new: TupleRef::new(versions::heap_tuple(tuples.newtuple)),
        };
        let (session, _memory) = enter(ctx);
        session.change(
            transaction(txn),
            RelationRef::new(relation),
            &view,
            &mut Writer::new(ctx),
        );
        panic_point(Place::Change);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn truncate(
    ctx: Context,
    txn: Transaction,
    count: c_int,
    relations: *mut pg_sys::Relation,
    change: *mut pg_sys::ReorderBufferChange,
) {
    // SAFETY: everything is valid for the callback; the array holds `count` relations.
    unsafe {
        let relations: Vec<RelationRef<'_>> =
            std::slice::from_raw_parts(relations, usize::try_from(count).unwrap_or(0))
                .iter()
                .map(|relation| RelationRef::new(*relation))
                .collect();
        let flags = &(*change).data.truncate;
        let (session, _memory) = enter(ctx);
        session.truncate(
            transaction(txn),
            &relations,
            flags.cascade,
            flags.restart_seqs,
            &mut Writer::new(ctx),
        );
        panic_point(Place::Truncate);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn message(
    ctx: Context,
    txn: Transaction,
    lsn: pg_sys::XLogRecPtr,
    transactional: bool,
    prefix: *const c_char,
    size: pg_sys::Size,
    content: *const c_char,
) {
    // SAFETY: everything is valid for the callback. A message outside transactions has
    // none: the pointer is null.
    unsafe {
        let view = MessageView {
            lsn: Lsn(lsn),
            prefix: CStr::from_ptr(prefix).to_bytes(),
            content: std::slice::from_raw_parts(content.cast(), size),
        };
        let txn = (transactional && !txn.is_null()).then(|| transaction(txn));
        let (session, _memory) = enter(ctx);
        session.message(txn, &view, &mut Writer::new(ctx));
        panic_point(Place::Message);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn commit(
    ctx: Context,
    txn: Transaction,
    _commit_lsn: pg_sys::XLogRecPtr,
) {
    // SAFETY: everything is valid for the callback.
    unsafe {
        let (session, _memory) = enter(ctx);
        panic_point(Place::Commit);
        session.commit(transaction(txn), &mut Writer::new(ctx));
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn filter_by_origin(ctx: Context, origin: pg_sys::RepOriginId) -> bool {
    // SAFETY: a callback under way.
    let (session, _memory) = unsafe { enter(ctx) };
    panic_point(Place::Filter);
    session.filters_origin(origin)
}

/// The session, and the callback's memory until the guard goes.
///
/// # Safety
///
/// `ctx` is the context of the callback under way and went through `startup`; no other
/// borrow of its session exists, as callbacks never nest.
unsafe fn enter<'cb>(ctx: Context) -> (&'cb mut Session, Entered) {
    // SAFETY: set by `startup`, dropped with the context.
    let private = unsafe { &mut *(*ctx).output_plugin_private.cast::<Private>() };
    (&mut private.session, private.memory.enter())
}

/// # Safety
///
/// `txn` is the transaction of the callback under way.
unsafe fn transaction(txn: Transaction) -> TransactionView {
    // SAFETY: the caller's. The server sets all of these before it replays a commit
    // (`ReorderBufferReplay`).
    unsafe {
        TransactionView {
            xid: pg_sys::TransactionId::into_inner((*txn).xid),
            commit_lsn: Lsn((*txn).final_lsn),
            end_lsn: Lsn((*txn).end_lsn),
            commit_time: versions::commit_time(txn) + MICROS_1970_TO_2000,
        }
    }
}

/// Postgres counts from 2000-01-01, 10,957 days after 1970-01-01.
const MICROS_1970_TO_2000: i64 = 10_957 * 86_400 * 1_000_000;
