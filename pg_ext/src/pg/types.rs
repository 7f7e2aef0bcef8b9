//! What the catalogs say of types.

use std::ffi::{CStr, c_int};

use headwater_protocol::json;
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
    let flags = pg_sys::FORMAT_TYPE_ALLOW_INVALID | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
    // SAFETY: a lookup in the catalogs, whose result is a terminated copy. A type that is
    // not there has a name of question marks.
    unsafe {
        let name =
            pg_sys::format_type_extended(pg_sys::Oid::from(type_oid), -1, flags as pg_sys::bits16);
        encoding.name(CStr::from_ptr(name))
    }
}

/// The labels of an enum's values, looked up when first met.
///
/// A plan holds them; every plan goes when the server says that an enum has changed.
#[derive(Default)]
pub(crate) struct EnumLabels {
    /// By the value's OID, quoted as JSON.
    labels: Vec<(u32, Box<[u8]>)>,
}

impl EnumLabels {
    /// The label of a value as a JSON string; none if the catalog has no such value.
    pub(crate) fn label(
        &mut self,
        value: u32,
        encoding: DatabaseEncoding,
    ) -> Result<Option<&[u8]>, NotUtf8> {
        let place = match self.labels.binary_search_by_key(&value, |(oid, _)| *oid) {
            Ok(place) => place,
            Err(place) => {
                let Some(label) = look_up(value, encoding)? else {
                    return Ok(None);
                };
                self.labels.insert(place, (value, label));
                place
            }
        };
        Ok(Some(&self.labels[place].1))
    }
}

fn look_up(value: u32, encoding: DatabaseEncoding) -> Result<Option<Box<[u8]>>, NotUtf8> {
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
            json::string(&mut label, &name);
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

/// All parts of a type, through domains, arrays and the fields of row types; none for a type
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
            let form = catalog_row::<pg_sys::FormData_pg_enum>(&raw mut (**member).tuple);
            parts.push(TypePart {
                id: (type_oid, (*form).oid.to_u32()),
                name: encoding.name(CStr::from_ptr((*form).enumlabel.data.as_ptr())),
                type_oid: 0,
            });
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
