//! Tuples, deformed once, and their values.
//!
//! # Why no value is read from a TOAST table
//!
//! While decoding, the WAL is all there is: a TOAST table has today's rows, and those
//! of the change may be vacuumed. Postgres rebuilds the out-of-line values that a change
//! wrote and leaves an on-disk pointer for the ones that it did not
//! (`ReorderBufferToastReplace` in `reorderbuffer.c`). Such a pointer is therefore not
//! a value but a third state, and is recognised before anything may follow it. Values
//! that a SQL query hands over have no such limit.

use std::marker::PhantomData;

use pgrx::pg_sys;

use super::array::{ArrayRef, Malformed};
use super::composite::CompositeType;
use super::data_calls::{DataCalls, Raised};
use super::relation::{Attribute, RelationRef};

/// A heap tuple for the time of one callback.
#[derive(Clone, Copy)]
pub(crate) struct TupleRef<'cb> {
    tuple: pg_sys::HeapTuple,
    callback: PhantomData<&'cb ()>,
}

impl TupleRef<'_> {
    /// None for a null pointer.
    ///
    /// # Safety
    ///
    /// `tuple` is null or valid for `'cb`.
    pub(super) unsafe fn new(tuple: pg_sys::HeapTuple) -> Option<Self> {
        (!tuple.is_null()).then_some(TupleRef {
            tuple,
            callback: PhantomData,
        })
    }
}

/// Room for a deformed tuple, kept from row to row.
#[derive(Default)]
pub(crate) struct TupleBuffer {
    values: Vec<pg_sys::Datum>,
    // `bool` is what `heap_deform_tuple` writes.
    nulls: Vec<bool>,
}

impl TupleBuffer {
    /// Splits a tuple of `relation` into its values: one foreign call a row.
    pub(crate) fn deform<'t>(
        &'t mut self,
        tuple: TupleRef<'t>,
        relation: RelationRef<'t>,
    ) -> Row<'t> {
        // SAFETY: both are valid for 't, and the tuple is one of the relation's.
        unsafe { self.deform_decoded(tuple, relation.descriptor()) }
    }

    /// Splits what came with a change.
    ///
    /// # Safety
    ///
    /// `descriptor` is valid and describes `tuple`.
    pub(super) unsafe fn deform_decoded<'t>(
        &'t mut self,
        tuple: TupleRef<'t>,
        descriptor: pg_sys::TupleDesc,
    ) -> Row<'t> {
        // SAFETY: the caller's.
        unsafe { self.split(tuple, descriptor) };
        self.row(Origin::Wal)
    }

    /// Splits what a query handed over, and takes the `hidden` columns for null.
    ///
    /// # Safety
    ///
    /// `descriptor` is valid and describes `tuple`.
    pub(super) unsafe fn deform_query<'t>(
        &'t mut self,
        tuple: TupleRef<'t>,
        descriptor: pg_sys::TupleDesc,
        hidden: &[Attribute],
    ) -> Row<'t> {
        // SAFETY: the caller's.
        unsafe { self.split(tuple, descriptor) };
        for attribute in hidden {
            if let Some(is_null) = self.nulls.get_mut(attribute.index) {
                *is_null = true;
            }
        }
        self.row(Origin::Query)
    }

    /// # Safety
    ///
    /// `descriptor` is valid and describes `tuple`.
    unsafe fn split(&mut self, tuple: TupleRef<'_>, descriptor: pg_sys::TupleDesc) {
        // SAFETY: the caller's.
        let count = usize::try_from(unsafe { (*descriptor).natts }).unwrap_or(0);
        self.values.resize(count, pg_sys::Datum::from(0_usize));
        self.nulls.resize(count, true);
        // SAFETY: both arrays hold natts elements; a tuple with fewer columns is filled up
        // from the descriptor's missing values.
        unsafe {
            pg_sys::heap_deform_tuple(
                tuple.tuple,
                descriptor,
                self.values.as_mut_ptr(),
                self.nulls.as_mut_ptr(),
            );
        }
    }

    fn row(&self, origin: Origin) -> Row<'_> {
        Row {
            values: &self.values,
            nulls: &self.nulls,
            origin,
        }
    }
}

/// Where a row comes from, which decides whether TOAST may be followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Decoded: an on-disk pointer is a value that the change left alone.
    Wal,
    /// Read by a query: every value can be had.
    Query,
}

/// A deformed tuple.
#[derive(Clone, Copy)]
pub(crate) struct Row<'t> {
    values: &'t [pg_sys::Datum],
    nulls: &'t [bool],
    origin: Origin,
}

/// What a column holds. Three states, never two.
#[derive(Clone, Copy)]
pub(crate) enum Column<'t> {
    /// SQL's null.
    Null,
    /// Out of line, and the change left it where it is: the WAL does not say what it is.
    UnchangedToast,
    /// A value.
    Value(Value<'t>),
}

impl<'t> Row<'t> {
    /// A column that the row's descriptor lacks counts as null.
    #[inline(always)]
    pub(crate) fn column(&self, attribute: Attribute) -> Column<'t> {
        let index = attribute.index;
        if self.nulls.get(index).copied().unwrap_or(true) {
            return Column::Null;
        }
        let value = Value {
            datum: self.values[index],
            length: attribute.length,
            by_value: attribute.by_value,
            row: PhantomData,
        };
        if attribute.length == -1 && self.origin == Origin::Wal && value.is_on_disk() {
            return Column::UnchangedToast;
        }
        Column::Value(value)
    }
}

/// One value of a row, or of an array.
#[derive(Clone, Copy)]
pub(crate) struct Value<'t> {
    pub(super) datum: pg_sys::Datum,
    /// As in [`Attribute`].
    pub(super) length: i16,
    pub(super) by_value: bool,
    pub(super) row: PhantomData<&'t ()>,
}

// Numbers are passed by value in the low bytes of a datum (`DatumGetInt32` and so on in
// src/include/postgres.h); 8-byte ones too, on every 64-bit platform.
#[cfg(not(target_pointer_width = "64"))]
compile_error!("headwater needs a 64-bit platform");

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low bytes are the value"
)]
impl<'t> Value<'t> {
    pub(crate) fn bool(self) -> bool {
        self.datum.value() as u8 != 0
    }

    pub(crate) fn u8(self) -> u8 {
        self.datum.value() as u8
    }

    pub(crate) fn i16(self) -> i16 {
        self.datum.value() as i16
    }

    pub(crate) fn i32(self) -> i32 {
        self.datum.value() as i32
    }

    pub(crate) fn u32(self) -> u32 {
        self.datum.value() as u32
    }

    pub(crate) fn i64(self) -> i64 {
        self.datum.value() as i64
    }

    pub(crate) fn f32(self) -> f32 {
        f32::from_bits(self.datum.value() as u32)
    }

    pub(crate) fn f64(self) -> f64 {
        f64::from_bits(self.datum.value() as u64)
    }

    /// The bytes of a type of fixed length that is passed by reference; none if the
    /// column is no such type.
    pub(crate) fn fixed<const N: usize>(self) -> Option<&'t [u8; N]> {
        let fits = !self.by_value && usize::try_from(self.length) == Ok(N);
        // SAFETY: the attribute was made from the row's descriptor, which says that the
        // datum points to N bytes; they live as long as the row.
        fits.then(|| unsafe { &*self.datum.cast_mut_ptr::<[u8; N]>() })
    }

    /// The content of a varlena, without its header; none if the column is no such type.
    ///
    /// Compressed values and those that the reorder buffer holds elsewhere are expanded
    /// into the callback's memory.
    pub(crate) fn varlena(self, calls: &mut DataCalls) -> Result<Option<&'t [u8]>, Raised> {
        let Some(pointer) = self.pointer() else {
            return Ok(None);
        };
        // SAFETY: the pointer is to a varlena, which lives as long as the row. Headers of
        // one and four bytes are read in place; everything else goes through the server.
        unsafe {
            let plain = if is_short(pointer) || pgrx::varatt_is_4b_u(pointer) {
                pointer
            } else {
                expand(pointer, calls)?
            };
            let (header, length) = if pgrx::varatt_is_1b(plain) {
                (1, pgrx::varsize_1b(plain) - 1)
            } else {
                (4, pgrx::varsize_4b(plain) - 4)
            };
            let content = plain.cast::<u8>().add(header);
            Ok(Some(std::slice::from_raw_parts(content, length)))
        }
    }

    /// A value that holds others, as the server's own code reads it: with a header of four
    /// bytes and aligned. None if the column is no varlena.
    pub(crate) fn container<'r>(
        self,
        room: &'r mut ContainerRoom,
        calls: &mut DataCalls,
    ) -> Result<Option<Container<'r>>, Raised>
    where
        't: 'r,
    {
        let Some(pointer) = self.pointer() else {
            return Ok(None);
        };
        // SAFETY: the pointer is to a varlena, which lives as long as the row. One with a
        // short header fits the room.
        unsafe {
            let plain = if pgrx::varatt_is_4b_u(pointer) {
                pointer
            } else if is_short(pointer) {
                room.align(pointer)
            } else {
                expand(pointer, calls)?
            };
            let size = pgrx::varsize_4b(plain);
            Ok(Some(Container(std::slice::from_raw_parts(
                plain.cast::<u8>(),
                size,
            ))))
        }
    }

    #[inline(always)]
    fn pointer(self) -> Option<*mut pg_sys::varlena> {
        (self.length == -1 && !self.by_value).then(|| self.datum.cast_mut_ptr())
    }

    /// Bytes of the varlena once it is expanded, header included, found without expanding
    /// it; 0 for other values, which are small.
    #[inline(always)]
    pub(crate) fn expanded_size(self) -> usize {
        let Some(pointer) = self.pointer() else {
            return 0;
        };
        // SAFETY: the pointer is to a varlena, whose header says which form it has.
        unsafe {
            if pgrx::varatt_is_4b_u(pointer) {
                pgrx::varsize_4b(pointer)
            } else if is_short(pointer) {
                pgrx::varsize_1b(pointer)
            } else {
                pg_sys::toast_raw_datum_size(self.datum)
            }
        }
    }

    pub(super) fn datum(self) -> pg_sys::Datum {
        self.datum
    }

    fn is_on_disk(self) -> bool {
        let pointer = self.datum.cast_mut_ptr::<pg_sys::varlena>();
        // SAFETY: called for varlenas alone; a tag is there behind a 1B_E header.
        unsafe {
            pgrx::varatt_is_1b_e(pointer)
                && u32::from(pgrx::vartag_1b_e(pointer)) == pg_sys::vartag_external::VARTAG_ONDISK
        }
    }
}

/// # Safety
///
/// `pointer` is a varlena.
unsafe fn is_short(pointer: *const pg_sys::varlena) -> bool {
    // SAFETY: the caller's.
    unsafe { pgrx::varatt_is_1b(pointer) && !pgrx::varatt_is_1b_e(pointer) }
}

/// Through the server: data that is damaged is an ERROR there.
///
/// # Safety
///
/// `pointer` is a varlena that may be read.
unsafe fn expand(
    pointer: *mut pg_sys::varlena,
    calls: &mut DataCalls,
) -> Result<*mut pg_sys::varlena, Raised> {
    // SAFETY: the caller's.
    calls.call(|| unsafe { pg_sys::pg_detoast_datum(pointer) })
}

/// A value that holds others: an array, a row, a range or a multirange.
pub(crate) struct Container<'r>(&'r [u8]);

impl<'r> Container<'r> {
    /// Bytes, header included.
    pub(crate) fn size(&self) -> usize {
        self.0.len()
    }

    /// The value as an array.
    pub(crate) fn array(&self) -> Result<ArrayRef<'r>, Malformed> {
        ArrayRef::read(self.0)
    }

    /// What stands behind the header, of a value that knows its own layout: a range.
    pub(crate) fn payload(&self) -> &'r [u8] {
        self.0.get(size_of::<i32>()..).unwrap_or_default()
    }

    /// The value as a row of this type; none if it names another.
    pub(crate) fn row<'t>(&self, composite: &'t mut CompositeType) -> Option<Row<'t>>
    where
        'r: 't,
    {
        composite.deform_bytes(self.0)
    }
}

/// Room for a container with a short header, which stands anywhere in its tuple: its
/// content is at most 126 bytes long and gets a header of four bytes here.
#[derive(Default)]
pub(crate) struct ContainerRoom([u64; 17]);

impl ContainerRoom {
    /// # Safety
    ///
    /// `short` is a varlena with a header of one byte.
    unsafe fn align(&mut self, short: *const pg_sys::varlena) -> *mut pg_sys::varlena {
        let plain = self.0.as_mut_ptr().cast::<pg_sys::varlena>();
        // SAFETY: the caller's. The content is shorter than the room behind the header.
        unsafe {
            let length = (pgrx::varsize_1b(short) - 1).min(size_of_val(&self.0) - 4);
            std::ptr::copy_nonoverlapping(
                short.cast::<u8>().add(1),
                plain.cast::<u8>().add(4),
                length,
            );
            pgrx::set_varsize_4b(plain, (length + 4) as i32);
        }
        plain
    }
}
