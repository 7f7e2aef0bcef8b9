//! Arrays, ranges and `hstore`.

use super::write::{self, NULL, begin_items, branch, end_items};
use super::{Field, FullName, Schema};
use crate::ValueError;
use crate::stored::{HstorePairs, Range};

/// The branches of an array's schema that is not null, before which [`Schema::Optional`]
/// puts one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayShape {
    /// One dimension with the lower bound 1, or none: an Avro array.
    List,
    /// Any other: a record of dimensions and elements.
    Other,
}

impl ArrayShape {
    /// Of an array with these dimensions: length and lower bound, the outermost first.
    pub fn of(dimensions: &[(i32, i32)]) -> Self {
        match dimensions {
            [] | [(_, 1)] => ArrayShape::List,
            _ => ArrayShape::Other,
        }
    }

    /// Writes its branch of a schema that [`array_schema`] made. An array that is an element of
    /// another one has the branch 1 and the shape `Other` always.
    pub fn branch(self, out: &mut Vec<u8>, is_optional: bool) {
        branch(out, self as usize + usize::from(is_optional));
    }
}

/// The schema of an array: an Avro array of elements or null where it is a list, and else the
/// record `name` of `dimensions`, the outermost first, and `elements`, the last dimension's
/// first. So the ordinary array is an ordinary array, and no shape is lost.
///
/// Elements can be arrays themselves only by a domain in between. Those are always the record:
/// every element occurs twice in this schema, and if it were not named within itself, the text
/// would double with each array around it.
pub fn array_schema(name: FullName, element: Schema) -> Schema {
    let element = match element {
        Schema::Union(mut branches) => branches.swap_remove(ArrayShape::Other as usize),
        element => element,
    };
    let elements = Schema::Array(Box::new(element.optional()));
    let dimension = Schema::record(
        FullName::own("Dimension"),
        vec![
            Field::new("length", Schema::Int),
            Field::new("lower", Schema::Int),
        ],
    );
    let shaped = Schema::record(
        name,
        vec![
            Field::new("dimensions", Schema::Array(Box::new(dimension))),
            Field::new("elements", elements.clone()),
        ],
    );
    Schema::Union(vec![elements, shaped])
}

/// Writes the dimensions of an array that is no list; its elements follow.
pub fn dimensions(out: &mut Vec<u8>, dimensions: &[(i32, i32)]) {
    begin_items(out, dimensions.len());
    for (length, lower) in dimensions {
        write::int(out, *length);
        write::int(out, *lower);
    }
    end_items(out);
}

/// The schema of a range: the record `name` of `lower`, `upper`, each null where there is no
/// such end, `lower_inclusive`, `upper_inclusive` and `empty`.
pub fn range_schema(name: FullName, bound: Schema) -> Schema {
    let bound = bound.optional();
    Schema::record(
        name,
        vec![
            Field::new("lower", bound.clone()),
            Field::new("upper", bound),
            Field::new("lower_inclusive", Schema::Boolean),
            Field::new("upper_inclusive", Schema::Boolean),
            Field::new("empty", Schema::Boolean),
        ],
    )
}

/// The schema of a multirange: an array of its ranges.
pub fn multirange_schema(range: Schema) -> Schema {
    Schema::Array(Box::new(range))
}

/// Writes a range. `write_bound` writes a bound, which is there, from its stored bytes: if its
/// schema is not a union, in the branch 1 that is written here; of a union, the branch
/// that it writes itself, counted from 1.
pub fn range<E>(
    out: &mut Vec<u8>,
    range: &Range<'_>,
    bound_is_union: bool,
    mut write_bound: impl FnMut(&mut Vec<u8>, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    for bound in [range.lower, range.upper] {
        match bound {
            None => branch(out, NULL),
            Some(bound) => {
                if !bound_is_union {
                    branch(out, 1);
                }
                write_bound(out, bound)?;
            }
        }
    }
    write::boolean(out, range.lower_inclusive);
    write::boolean(out, range.upper_inclusive);
    write::boolean(out, range.is_empty);
    Ok(())
}

/// The schema of an `hstore`: a map of strings or null.
pub fn hstore_schema() -> Schema {
    Schema::Map(Box::new(Schema::String.optional()))
}

/// Writes an `hstore` from the bytes that follow its varlena header. `write_text` writes a
/// text of the database's encoding as a `string`.
pub fn hstore<E: From<ValueError>>(
    out: &mut Vec<u8>,
    payload: &[u8],
    mut write_text: impl FnMut(&mut Vec<u8>, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let pairs = HstorePairs::read(payload)?;
    begin_items(out, pairs.len());
    for pair in pairs {
        let (key, value) = pair?;
        write_text(out, key)?;
        match value {
            None => branch(out, NULL),
            Some(value) => {
                branch(out, 1);
                write_text(out, value)?;
            }
        }
    }
    end_items(out);
    Ok(())
}
