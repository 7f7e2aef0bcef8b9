//! What the catalogs say of types.

use std::ffi::{CStr, c_int};

use headwater_protocol::avro;
use pgrx::pg_sys;

use super::encoding::{DatabaseEncoding, NotUtf8};
use super::relation::OpenRelation;

/// The first OID that a user's or an extension's type may have: `FirstNormalObjectId`.
pub(crate) const FIRST_USER_OID: u32 = 16_384;

/// The kinds of types that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TypeKind {
    /// An array whose elements are of this type.
    Array {
        element: u32,
    },
    /// A row type.
    Composite,
    Enum,
    /// A range of values of this type.
    Range {
        subtype: u32,
    },
    /// A multirange, whose ranges are values of this type.
    Multirange {
        range: u32,
    },
    Other,
}

/// The kind of a type that has no domain in front of it.
pub(crate) fn type_kind(type_oid: u32) -> TypeKind {
    let oid = pg_sys::Oid::from(type_oid);
    // SAFETY: lookups in the system cache. The element type is that of a true array: a
    // type that is only subscripted like one (point, name) has none here.
    unsafe {
        let element = pg_sys::get_element_type(oid);
        if element != pg_sys::InvalidOid {
            return TypeKind::Array {
                element: element.to_u32(),
            };
        }
        match pg_sys::get_typtype(oid).cast_unsigned() {
            pg_sys::TYPTYPE_COMPOSITE => TypeKind::Composite,
            pg_sys::TYPTYPE_ENUM => TypeKind::Enum,
            pg_sys::TYPTYPE_RANGE => TypeKind::Range {
                subtype: pg_sys::get_range_subtype(oid).to_u32(),
            },
            pg_sys::TYPTYPE_MULTIRANGE => TypeKind::Multirange {
                range: pg_sys::get_multirange_range(oid).to_u32(),
            },
            _ => TypeKind::Other,
        }
    }
}

/// The type that a domain is made of, through any number of domains; any other type is
/// its own.
pub(crate) fn base_type(type_oid: u32) -> u32 {
    // SAFETY: lookups in the system cache.
    unsafe { pg_sys::getBaseType(pg_sys::Oid::from(type_oid)).to_u32() }
}

/// As [`base_type`], with the modifier of what the domain is made of. A column of a domain has
/// none of its own.
pub(crate) fn base_type_and_modifier(type_oid: u32, mut type_modifier: i32) -> (u32, i32) {
    // SAFETY: lookups in the system cache, which write through a valid pointer.
    let base = unsafe {
        pg_sys::getBaseTypeAndTypmod(pg_sys::Oid::from(type_oid), &raw mut type_modifier)
    };
    (base.to_u32(), type_modifier)
}

/// Whether a type is `hstore` of the extension of that name: any user can call a type so.
pub(crate) fn is_hstore(type_oid: u32) -> bool {
    if type_oid < FIRST_USER_OID {
        return false;
    }
    // SAFETY: lookups in the catalogs. A row of the system cache is read before it is given
    // back; the extension's name is null or a copy.
    unsafe {
        let oid = pg_sys::Oid::from(type_oid);
        let row = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::TYPEOID as c_int,
            pg_sys::Datum::from(oid),
        );
        if row.is_null() {
            return false;
        }
        let form = catalog_row::<pg_sys::FormData_pg_type>(row);
        let is_named = CStr::from_ptr((*form).typname.data.as_ptr()) == c"hstore";
        pg_sys::ReleaseSysCache(row);
        if !is_named {
            return false;
        }
        let extension = pg_sys::getExtensionOfObject(pg_sys::TypeRelationId, oid);
        if extension == pg_sys::InvalidOid {
            return false;
        }
        let name = pg_sys::get_extension_name(extension);
        !name.is_null() && CStr::from_ptr(name) == c"hstore"
    }
}

/// A type's name for people, with its schema unless it is the server's own.
pub(crate) fn type_name(type_oid: u32, encoding: DatabaseEncoding) -> String {
    format_type(type_oid, -1, 0, encoding)
}

/// A type with its modifier as SQL spells it (`numeric(10,2)`), the same whatever the
/// `search_path` and `quote_all_identifiers` are: with its schema, unless it is the server's own.
pub(crate) fn type_text(type_oid: u32, type_modifier: i32, encoding: DatabaseEncoding) -> String {
    let given = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN;
    let text = format_type(type_oid, type_modifier, given, encoding);
    // No other schema's name can begin with `pg_`.
    match text.strip_prefix("pg_catalog.") {
        Some(own) => own.to_owned(),
        None => text,
    }
}

fn format_type(
    type_oid: u32,
    type_modifier: i32,
    flags: u32,
    encoding: DatabaseEncoding,
) -> String {
    let flags = flags | pg_sys::FORMAT_TYPE_ALLOW_INVALID | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
    let _plain = PlainIdentifiers::hold();
    // SAFETY: a lookup in the catalogs, whose result is a terminated copy. A type that is
    // not there has a name of question marks.
    unsafe {
        let name = pg_sys::format_type_extended(
            pg_sys::Oid::from(type_oid),
            type_modifier,
            flags as pg_sys::bits16,
        );
        encoding.name(CStr::from_ptr(name))
    }
}

/// Holds `quote_all_identifiers` off until it is dropped: schemas of one table are told apart by
/// their text, which must be the same for every session that asks.
///
/// The variable itself, not the setting: `quote_identifier` reads nothing else, and to set it by
/// its name would take a nest level of settings a call.
struct PlainIdentifiers {
    before: bool,
}

impl PlainIdentifiers {
    fn hold() -> Self {
        // SAFETY: one thread runs all server code, and none of it runs in between.
        let before = unsafe { std::ptr::replace(&raw mut pg_sys::quote_all_identifiers, false) };
        PlainIdentifiers { before }
    }
}

impl Drop for PlainIdentifiers {
    fn drop(&mut self) {
        // SAFETY: as above; also on the way out of an ERROR.
        unsafe { pg_sys::quote_all_identifiers = self.before };
    }
}

/// Whether [`qualified_name`] gives the names of a type as the catalog holds them. Of two others
/// it may give the same.
pub(crate) fn has_exact_name(type_oid: u32, encoding: DatabaseEncoding) -> bool {
    if encoding == DatabaseEncoding::Utf8 || type_oid < FIRST_USER_OID {
        return true;
    }
    // SAFETY: as in `qualified_name`.
    unsafe {
        let row = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::TYPEOID as c_int,
            pg_sys::Datum::from(pg_sys::Oid::from(type_oid)),
        );
        if row.is_null() {
            return true;
        }
        let form = catalog_row::<pg_sys::FormData_pg_type>(row);
        let is_exact = encoding.is_exact(CStr::from_ptr((*form).typname.data.as_ptr()));
        let schema = pg_sys::get_namespace_name((*form).typnamespace);
        pg_sys::ReleaseSysCache(row);
        is_exact && (schema.is_null() || encoding.is_exact(CStr::from_ptr(schema)))
    }
}

/// Whether all labels of an enum are what [`enum_labels`] makes of them.
pub(crate) fn has_exact_labels(type_oid: u32, encoding: DatabaseEncoding) -> bool {
    let mut exact = true;
    if encoding != DatabaseEncoding::Utf8 {
        each_label(type_oid, |value| {
            // SAFETY: a row of pg_enum, whose name is terminated.
            exact &= encoding.is_exact(unsafe { CStr::from_ptr(value.enumlabel.data.as_ptr()) });
        });
    }
    exact
}

/// The names of a type's schema and of the type.
pub(crate) fn qualified_name(type_oid: u32, encoding: DatabaseEncoding) -> (String, String) {
    // SAFETY: lookups in the system cache, whose row is read before it is given back; the
    // schema's name is null or a copy.
    unsafe {
        let row = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::TYPEOID as c_int,
            pg_sys::Datum::from(pg_sys::Oid::from(type_oid)),
        );
        if row.is_null() {
            return (String::new(), type_oid.to_string());
        }
        let form = catalog_row::<pg_sys::FormData_pg_type>(row);
        let name = encoding.name(CStr::from_ptr((*form).typname.data.as_ptr()));
        let schema = pg_sys::get_namespace_name((*form).typnamespace);
        pg_sys::ReleaseSysCache(row);
        let schema = if schema.is_null() {
            String::new()
        } else {
            encoding.name(CStr::from_ptr(schema))
        };
        (schema, name)
    }
}

/// What the server names a type by when it says that the type has changed: a hash of its OID.
pub(crate) fn type_hash(type_oid: u32) -> u32 {
    let none = || pg_sys::Datum::from(0_usize);
    // SAFETY: computes a hash, at most after the cache is made ready.
    unsafe {
        pg_sys::GetSysCacheHashValue(
            pg_sys::SysCacheIdentifier::TYPEOID as c_int,
            pg_sys::Datum::from(pg_sys::Oid::from(type_oid)),
            none(),
            none(),
            none(),
        )
    }
}

/// Appends a label, which is given in UTF-8.
type WriteLabel = fn(&mut Vec<u8>, &[u8]);

/// How the values of an enum are written, looked up when first met.
///
/// A plan holds them; every plan goes when the server says that an enum has changed.
pub(crate) struct EnumLabels {
    /// Writes a label; none where all are known.
    write: Option<WriteLabel>,
    /// What was written, by the value's OID.
    labels: Vec<(u32, Box<[u8]>)>,
}

impl EnumLabels {
    /// Labels that are written so.
    pub(crate) fn written_by(write: WriteLabel) -> Self {
        EnumLabels {
            write: Some(write),
            labels: Vec::new(),
        }
    }

    /// Whether values are the places of their labels in the enum's order.
    pub(crate) fn are_numbered(&self) -> bool {
        self.write.is_none()
    }

    /// The place of each label in the order of its enum, from 0, as Avro's enums are written.
    /// An enum without labels, which Avro does not have, has no values either.
    pub(crate) fn numbered(type_oid: u32, encoding: DatabaseEncoding) -> Self {
        let mut labels: Vec<(u32, Box<[u8]>)> = enum_labels(type_oid, encoding)
            .into_iter()
            .zip(0..)
            .map(|((oid, _), place)| {
                let mut number = Vec::new();
                avro::long(&mut number, place);
                (oid, number.into_boxed_slice())
            })
            .collect();
        labels.sort_unstable();
        EnumLabels {
            write: None,
            labels,
        }
    }

    /// The label of a value, as it is written; none if the catalog has no such value.
    pub(crate) fn label(
        &mut self,
        value: u32,
        encoding: DatabaseEncoding,
    ) -> Result<Option<&[u8]>, NotUtf8> {
        let place = match self.labels.binary_search_by_key(&value, |(oid, _)| *oid) {
            Ok(place) => place,
            Err(place) => {
                let Some(write) = self.write else {
                    return Ok(None);
                };
                let Some(label) = look_up(value, write, encoding)? else {
                    return Ok(None);
                };
                self.labels.insert(place, (value, label));
                place
            }
        };
        Ok(Some(&self.labels[place].1))
    }
}

/// The labels of an enum in its order, each with its value's OID.
pub(crate) fn enum_labels(type_oid: u32, encoding: DatabaseEncoding) -> Vec<(u32, String)> {
    let mut values = Vec::new();
    each_label(type_oid, |value| {
        // SAFETY: a row of pg_enum, whose name is terminated.
        let label = unsafe { CStr::from_ptr(value.enumlabel.data.as_ptr()) };
        let value_and_label = (value.oid.to_u32(), encoding.name(label));
        values.push((value.enumsortorder, value_and_label));
    });
    values.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    values.into_iter().map(|(_, value)| value).collect()
}

fn look_up(
    value: u32,
    write: WriteLabel,
    encoding: DatabaseEncoding,
) -> Result<Option<Box<[u8]>>, NotUtf8> {
    // SAFETY: a lookup in the system cache; the row is read before it is given back.
    unsafe {
        let row = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::ENUMOID as c_int,
            pg_sys::Datum::from(pg_sys::Oid::from(value)),
        );
        if row.is_null() {
            return Ok(None);
        }
        let form = catalog_row::<pg_sys::FormData_pg_enum>(row);
        let name = CStr::from_ptr((*form).enumlabel.data.as_ptr());
        let converted = encoding.to_utf8(name.to_bytes()).map(|name| {
            let mut label = Vec::new();
            write(&mut label, &name);
            label.into_boxed_slice()
        });
        pg_sys::ReleaseSysCache(row);
        converted.map(Some)
    }
}

/// A field of a row type or a label of an enum that values of some type are made of.
#[derive(Clone, Debug)]
pub(crate) struct TypePart {
    /// What it is for ever: the row type's relation and the field's number there, or the
    /// enum and the OID of its value.
    pub(crate) id: (u32, u32),
    /// The field's name, or the label.
    pub(crate) name: String,
    /// The field's type; 0 for a label.
    pub(crate) type_oid: u32,
}

/// All parts of a type, through domains, arrays, ranges and the fields of row types; none for a type
/// of the server's own.
pub(crate) fn type_parts(type_oid: u32, encoding: DatabaseEncoding) -> Vec<TypePart> {
    let mut parts = Vec::new();
    let mut due = vec![type_oid];
    let mut seen = Vec::new();
    while let Some(type_oid) = due.pop() {
        if type_oid < FIRST_USER_OID || seen.contains(&type_oid) {
            continue;
        }
        seen.push(type_oid);
        let base = base_type(type_oid);
        if base != type_oid {
            due.push(base);
            continue;
        }
        match type_kind(type_oid) {
            TypeKind::Array { element } => due.push(element),
            TypeKind::Enum => labels(type_oid, encoding, &mut parts),
            TypeKind::Composite => {
                let first = parts.len();
                fields(type_oid, encoding, &mut parts);
                due.extend(parts[first..].iter().map(|field| field.type_oid));
            }
            TypeKind::Range { subtype } => due.push(subtype),
            TypeKind::Multirange { range } => due.push(range),
            TypeKind::Other => {}
        }
    }
    parts
}

fn fields(type_oid: u32, encoding: DatabaseEncoding, parts: &mut Vec<TypePart>) {
    // SAFETY: a lookup in the system cache.
    let relation = unsafe { pg_sys::get_typ_typrelid(pg_sys::Oid::from(type_oid)) }.to_u32();
    let Some(row_type) = OpenRelation::open(relation) else {
        return;
    };
    let fields = row_type.as_ref().attributes(encoding);
    parts.extend(fields.into_iter().map(|field| TypePart {
        id: (
            relation,
            u32::from(field.attribute.number().cast_unsigned()),
        ),
        name: field.name,
        type_oid: field.type_oid,
    }));
}

fn labels(type_oid: u32, encoding: DatabaseEncoding, parts: &mut Vec<TypePart>) {
    each_label(type_oid, |value| {
        // SAFETY: a row of pg_enum, whose name is terminated.
        let label = unsafe { CStr::from_ptr(value.enumlabel.data.as_ptr()) };
        parts.push(TypePart {
            id: (type_oid, value.oid.to_u32()),
            name: encoding.name(label),
            type_oid: 0,
        });
    });
}

fn each_label(type_oid: u32, mut visit: impl FnMut(&pg_sys::FormData_pg_enum)) {
    // SAFETY: a lookup in the system cache, whose rows are read before the list is given
    // back; it has so many members, each with its tuple.
    unsafe {
        let list = pg_sys::SearchSysCacheList(
            pg_sys::SysCacheIdentifier::ENUMTYPOIDNAME as c_int,
            1,
            pg_sys::Datum::from(pg_sys::Oid::from(type_oid)),
            pg_sys::Datum::from(0_usize),
            pg_sys::Datum::from(0_usize),
        );
        let count = usize::try_from((*list).n_members).unwrap_or(0);
        for member in (*list).members.as_slice(count) {
            visit(&*catalog_row::<pg_sys::FormData_pg_enum>(
                &raw mut (**member).tuple,
            ));
        }
        pg_sys::ReleaseCatCacheList(list);
    }
}

/// `GETSTRUCT`: the fixed columns of a catalog's row.
///
/// # Safety
///
/// `row` is one of the catalog whose struct `T` is.
pub(super) unsafe fn catalog_row<T>(row: pg_sys::HeapTuple) -> *const T {
    // SAFETY: the caller's; the columns begin where the header says.
    unsafe {
        let header = (*row).t_data;
        header
            .cast::<u8>()
            .add(usize::from((*header).t_hoff))
            .cast()
    }
}
