//! Everything that differs between server versions, 14 to 18.

use pgrx::pg_sys;

/// The tuple in one of a change's two places.
///
/// Up to 16 a change points to a `ReorderBufferTupleBuf` that embeds the tuple, from
/// 17 on to the tuple itself (`src/include/replication/reorderbuffer.h`).
#[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
pub(super) type ChangeTuple = *mut pg_sys::ReorderBufferTupleBuf;
#[cfg(any(feature = "pg17", feature = "pg18"))]
pub(super) type ChangeTuple = pg_sys::HeapTuple;

/// The heap tuple of a change's place, null where the change has none there.
#[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
pub(super) fn heap_tuple(tuple: ChangeTuple) -> pg_sys::HeapTuple {
    if tuple.is_null() {
        return std::ptr::null_mut();
    }
    // SAFETY: a non-null tuple buffer of a change is valid for the callback; only the
    // address of its first field is taken.
    unsafe { &raw mut (*tuple).tuple }
}

/// As above, where the place holds the tuple itself.
#[cfg(any(feature = "pg17", feature = "pg18"))]
pub(super) fn heap_tuple(tuple: ChangeTuple) -> pg_sys::HeapTuple {
    tuple
}

/// When the transaction committed. From 15 on the field is in a union, whose member
/// for commits is meant while a commit is replayed.
///
/// # Safety
///
/// `txn` is the transaction of a callback under way.
pub(super) unsafe fn commit_time(txn: *mut pg_sys::ReorderBufferTXN) -> pg_sys::TimestampTz {
    #[cfg(feature = "pg14")]
    // SAFETY: the caller's; the field is set before the first callback.
    unsafe {
        (*txn).commit_time
    }
    #[cfg(not(feature = "pg14"))]
    // SAFETY: the caller's; all members of the union are the same integer type.
    unsafe {
        (*txn).xact_time.commit_time
    }
}

/// Tells the client of progress where nothing is written. `skipped` says that the
/// transaction ends here without output; 14 makes no difference.
///
/// # Safety
///
/// `ctx` is the context of a callback under way.
pub(super) unsafe fn update_progress(ctx: *mut pg_sys::LogicalDecodingContext, skipped: bool) {
    #[cfg(feature = "pg14")]
    // SAFETY: the caller's.
    unsafe {
        let _ = skipped;
        pg_sys::OutputPluginUpdateProgress(ctx);
    }
    #[cfg(not(feature = "pg14"))]
    // SAFETY: the caller's.
    unsafe {
        pg_sys::OutputPluginUpdateProgress(ctx, skipped);
    }
}

/// The attribute `index` (from 0) of a descriptor.
///
/// Up to 17 the attributes stand in the descriptor; from 18 on behind the array of
/// compact attributes (`TupleDescAttrAddress` in `src/include/access/tupdesc.h`).
///
/// # Safety
///
/// `descriptor` is valid and `index < natts`.
pub(super) unsafe fn attribute<'a>(
    descriptor: pg_sys::TupleDesc,
    index: usize,
) -> &'a pg_sys::FormData_pg_attribute {
    #[cfg(not(feature = "pg18"))]
    // SAFETY: the caller's; the flexible array holds natts elements.
    unsafe {
        &*(*descriptor).attrs.as_ptr().add(index)
    }
    #[cfg(feature = "pg18")]
    // SAFETY: the caller's; the layout is the one that the server's inline function of
    // the same purpose computes with.
    unsafe {
        let count = usize::try_from((*descriptor).natts).unwrap_or(0);
        let compact = (*descriptor).compact_attrs.as_ptr();
        &*compact
            .add(count)
            .cast::<pg_sys::FormData_pg_attribute>()
            .add(index)
    }
}

/// Every setting that the server has, placeholders among them.
pub(super) fn config_variables() -> Vec<*mut pg_sys::config_generic> {
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    // SAFETY: the array has as many members.
    let (variables, count) =
        unsafe { (pg_sys::get_guc_variables(), pg_sys::GetNumConfigOptions()) };
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    // SAFETY: a copy in the current memory context, and its length.
    let (variables, count) = unsafe {
        let mut count = 0;
        (pg_sys::get_guc_variables(&raw mut count), count)
    };
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(variables, count) }.to_vec()
}

/// Lets no setting of this prefix come to be from now on: SET, ALTER SYSTEM, ALTER DATABASE and so on
/// refuse one. Before 15 the server cannot.
pub(super) fn reserve_prefix(prefix: &std::ffi::CStr) {
    #[cfg(feature = "pg14")]
    let _ = prefix;
    #[cfg(not(feature = "pg14"))]
    // SAFETY: the server copies the terminated string.
    unsafe {
        pg_sys::MarkGUCPrefixReserved(prefix.as_ptr());
    }
}

/// Whether the reset value of a placeholder was given by who may set a parameter that is for
/// superusers, as `set_config_option` judges when the parameter is defined: from 15 on roles that were
/// granted it may. Looks at the catalogs only where a role that is none gave the value.
///
/// # Safety
///
/// `placeholder` is a variable of the server's.
pub(super) unsafe fn may_set(placeholder: *const pg_sys::config_generic) -> bool {
    // SAFETY: the caller's.
    let context = unsafe { (*placeholder).reset_scontext };
    if !matches!(
        context,
        pg_sys::GucContext::PGC_BACKEND | pg_sys::GucContext::PGC_USERSET
    ) {
        return true;
    }
    #[cfg(feature = "pg14")]
    return false;
    #[cfg(not(feature = "pg14"))]
    // SAFETY: a lookup in the catalogs, within a transaction. A process without a database begins
    // none, and is granted nothing.
    unsafe {
        if !pg_sys::IsTransactionState() {
            return false;
        }
        let granted = pg_sys::pg_parameter_aclcheck(
            (*placeholder).name,
            (*placeholder).reset_srole,
            pg_sys::AclMode::from(pg_sys::ACL_SET),
        );
        granted == pg_sys::AclResult::ACLCHECK_OK
    }
}
