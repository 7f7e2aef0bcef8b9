//! A datum of one schema as the bytes that another schema has for it.
//!
//! A record in a topic has the schema that the table had when it was written; the row of now has
//! another one after an ALTER TABLE that touches no row. Both are the same if the columns that there
//! are still have the same values, and those that have come since are null. So what is compared is
//! made of the record's own bytes, field by field, by name (Avro specification, "Schema
//! Resolution"), and left as it is where the types are the same.
//!
//! `apache-avro` resolves values and not bytes: it takes no decimal that is shorter than its
//! precision asks for, and its maps have no order, so that what it writes again is not what was
//! read. Types that only a rewrite of the table changes are not converted here: the rewrite has sent
//! its rows anew.

use std::collections::HashMap;

use serde_json::Value;

/// Types within types at most, as deep as the encoder goes and more.
const DEPTH: usize = 128;

/// A schema of records.
#[derive(Debug)]
pub(super) struct Schema {
    records: Vec<Vec<Field>>,
    root: Type,
}

#[derive(Debug)]
struct Field {
    name: String,
    of: Type,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Type {
    Null,
    Boolean,
    /// `int` and `long` have the same bytes; and the logical type.
    Integer(String),
    /// That many bytes.
    Fixed(usize),
    /// `bytes` and `string` have the same bytes; whether it is text, logical type and scale.
    Bytes(bool, String, u64),
    Enum(Vec<String>),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    /// By its number.
    Record(usize),
}

/// Of a map.
const KEY: Type = Type::Bytes(true, String::new(), 0);

/// What an envelope says of the row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// There is none.
    Nothing,
    /// Its bytes.
    Row(Vec<u8>),
    /// Columns of it are missing.
    Incomplete,
}

/// Bytes that are read.
type Input<'d> = &'d [u8];

impl Schema {
    /// Reads a schema; none for what is none, or none of records.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let mut reader = Reader::default();
        let root = reader.type_of(&json, "", 0)?;
        Some(Schema {
            records: reader.records.into_iter().collect::<Option<_>>()?,
            root,
        })
    }

    /// The bytes of a datum of this schema as `to` has it; none where the datum is none of this
    /// schema, or `to` cannot have it.
    pub(super) fn project(&self, to: &Schema, datum: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(datum.len());
        let mut input = datum;
        Projection { from: self, to }.value(&self.root, &to.root, &mut input, &mut out, 0)?;
        input.is_empty().then_some(out)
    }

    /// The row after the change that an envelope tells of, as `to`, the schema of envelopes now,
    /// has it.
    pub(super) fn after(&self, to: &Schema, envelope: &[u8]) -> Option<After> {
        if self
            .field(envelope, "unchanged")?
            .is_some_and(|(_, bytes)| bytes != [0])
        {
            return Some(After::Incomplete);
        }
        let (from, mut after) = self.field(envelope, "after")??;
        if after == [0] {
            return Some(After::Nothing);
        }
        let Type::Record(number) = to.root else {
            return None;
        };
        let fields = to.records.get(number)?;
        let field = fields.iter().find(|field| field.name == "after")?;
        let mut out = Vec::with_capacity(after.len());
        Projection { from: self, to }.value(from, &field.of, &mut after, &mut out, 0)?;
        after.is_empty().then_some(After::Row(out))
    }

    /// The type and the bytes of a field of a record.
    fn field<'d>(&self, mut datum: Input<'d>, name: &str) -> Option<Option<(&Type, Input<'d>)>> {
        let Type::Record(number) = self.root else {
            return None;
        };
        let mut found = None;
        for field in self.records.get(number)? {
            let bytes = self.taken(&field.of, &mut datum, 0)?;
            if field.name == name {
                found = Some((&field.of, bytes));
            }
        }
        datum.is_empty().then_some(found)
    }

    /// The bytes of a value, which are behind the reader then.
    fn taken<'d>(&self, of: &Type, input: &mut Input<'d>, depth: usize) -> Option<Input<'d>> {
        let start = *input;
        self.skip(of, input, depth)?;
        start.get(..start.len() - input.len())
    }

    fn skip(&self, of: &Type, input: &mut Input<'_>, depth: usize) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        match of {
            Type::Null => {}
            Type::Boolean => drop(take(input, 1)?),
            Type::Integer(_) | Type::Enum(_) => drop(long(input)?),
            Type::Fixed(count) => drop(take(input, *count)?),
            Type::Bytes(..) => {
                let count = usize::try_from(long(input)?).ok()?;
                take(input, count)?;
            }
            Type::Array(items) => {
                items_of(input, &mut |input| self.skip(items, input, depth + 1))?;
            }
            Type::Map(values) => items_of(input, &mut |input| {
                let count = usize::try_from(long(input)?).ok()?;
                take(input, count)?;
                self.skip(values, input, depth + 1)
            })?,
            Type::Union(branches) => {
                let branch = branches.get(usize::try_from(long(input)?).ok()?)?;
                self.skip(branch, input, depth + 1)?;
            }
            Type::Record(number) => {
                for field in self.records.get(*number)? {
                    self.skip(&field.of, input, depth + 1)?;
                }
            }
        }
        Some(())
    }
}

/// From one schema to another.
struct Projection<'s> {
    from: &'s Schema,
    to: &'s Schema,
}

impl Projection<'_> {
    fn value(
        &self,
        from: &Type,
        to: &Type,
        input: &mut Input<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        match (from, to) {
            (Type::Record(before), Type::Record(now)) => {
                return self.record(*before, *now, input, out, depth);
            }
            (Type::Union(branches), _) => {
                let branch = branches.get(usize::try_from(long(input)?).ok()?)?;
                return match to {
                    Type::Union(choices) => self.choose(branch, choices, input, out, depth),
                    _ => self.value(branch, to, input, out, depth + 1),
                };
            }
            (_, Type::Union(choices)) => return self.choose(from, choices, input, out, depth),
            (Type::Array(before), Type::Array(now)) if needs_conversion(before, now) => {
                items_into(input, out, &mut |input, items| {
                    self.value(before, now, input, items, depth + 1)
                })?;
            }
            (Type::Map(before), Type::Map(now)) if needs_conversion(before, now) => {
                items_into(input, out, &mut |input, items| {
                    items.extend_from_slice(self.from.taken(&KEY, input, depth)?);
                    self.value(before, now, input, items, depth + 1)
                })?;
            }
            (Type::Enum(before), Type::Enum(now)) => {
                let symbol = before.get(usize::try_from(long(input)?).ok()?)?;
                let number = now.iter().position(|it| it == symbol)?;
                put_long(out, i64::try_from(number).ok()?);
            }
            _ if from == to => {
                out.extend_from_slice(self.from.taken(from, input, depth)?);
            }
            _ => return None,
        }
        Some(())
    }

    fn record(
        &self,
        before: usize,
        now: usize,
        input: &mut Input<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Option<()> {
        let mut known = HashMap::new();
        for field in self.from.records.get(before)? {
            let bytes = self.from.taken(&field.of, input, depth + 1)?;
            known.insert(field.name.as_str(), (&field.of, bytes));
        }
        for field in self.to.records.get(now)? {
            match (known.get(field.name.as_str()), &field.of) {
                (Some((of, bytes)), to) => {
                    let mut bytes = *bytes;
                    self.value(of, to, &mut bytes, out, depth + 1)?;
                }
                // Its default.
                (None, Type::Union(branches)) if branches.first() == Some(&Type::Null) => {
                    out.push(0);
                }
                (None, _) => return None,
            }
        }
        Some(())
    }

    /// Writes a value as the branch of a union that it fits.
    fn choose(
        &self,
        from: &Type,
        choices: &[Type],
        input: &mut Input<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Option<()> {
        for (number, to) in choices.iter().enumerate() {
            let (mut rest, start) = (*input, out.len());
            put_long(out, i64::try_from(number).ok()?);
            if self.value(from, to, &mut rest, out, depth + 1).is_some() {
                *input = rest;
                return Some(());
            }
            out.truncate(start);
        }
        None
    }
}

/// Whether the bytes of one may be others than those of the other. Records are known by numbers that
/// mean nothing in the other schema.
fn needs_conversion(from: &Type, to: &Type) -> bool {
    from != to || has_records(from)
}

fn has_records(of: &Type) -> bool {
    match of {
        Type::Record(_) => true,
        Type::Array(inner) | Type::Map(inner) => has_records(inner),
        Type::Union(branches) => branches.iter().any(has_records),
        _ => false,
    }
}

/// Reads schemas.
#[derive(Default)]
struct Reader {
    /// None while its fields are read.
    records: Vec<Option<Vec<Field>>>,
    names: HashMap<String, Type>,
}

impl Reader {
    fn type_of(&mut self, json: &Value, namespace: &str, depth: usize) -> Option<Type> {
        if depth > DEPTH {
            return None;
        }
        if let Some(branches) = json.as_array() {
            let branches = branches.iter();
            let branches = branches.map(|it| self.type_of(it, namespace, depth + 1));
            return branches.collect::<Option<_>>().map(Type::Union);
        }
        let Some(name) = json.as_str() else {
            return self.object(json, namespace, depth);
        };
        Some(match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" | "long" => Type::Integer(String::new()),
            "float" => Type::Fixed(4),
            "double" => Type::Fixed(8),
            "bytes" => Type::Bytes(false, String::new(), 0),
            "string" => Type::Bytes(true, String::new(), 0),
            _ => self.names.get(&full_name(name, namespace))?.clone(),
        })
    }

    fn object(&mut self, json: &Value, namespace: &str, depth: usize) -> Option<Type> {
        let text = |key: &str| json.get(key).and_then(Value::as_str);
        let namespace = text("namespace").unwrap_or(namespace);
        let logical = || text("logicalType").unwrap_or_default().to_owned();
        Some(match text("type") {
            Some("record") => {
                let name = full_name(text("name")?, namespace);
                let inner = name
                    .rsplit_once('.')
                    .map_or("", |(before, _)| before)
                    .to_owned();
                let number = self.records.len();
                self.records.push(None);
                self.names.insert(name, Type::Record(number));
                let fields = json.get("fields")?.as_array()?.iter().map(|field| {
                    Some(Field {
                        name: field.get("name")?.as_str()?.to_owned(),
                        of: self.type_of(field.get("type")?, &inner, depth + 1)?,
                    })
                });
                let fields = fields.collect::<Option<Vec<_>>>()?;
                *self.records.get_mut(number)? = Some(fields);
                Type::Record(number)
            }
            Some("enum") => {
                let symbols = json.get("symbols")?.as_array()?.iter();
                let symbols = symbols.map(|symbol| symbol.as_str().map(str::to_owned));
                let of = Type::Enum(symbols.collect::<Option<_>>()?);
                self.names
                    .insert(full_name(text("name")?, namespace), of.clone());
                of
            }
            Some("fixed") => {
                let of = Type::Fixed(usize::try_from(json.get("size")?.as_u64()?).ok()?);
                self.names
                    .insert(full_name(text("name")?, namespace), of.clone());
                of
            }
            Some("array") => {
                let items = self.type_of(json.get("items")?, namespace, depth + 1)?;
                Type::Array(Box::new(items))
            }
            Some("map") => {
                let values = self.type_of(json.get("values")?, namespace, depth + 1)?;
                Type::Map(Box::new(values))
            }
            _ => match self.type_of(json.get("type")?, namespace, depth + 1)? {
                Type::Integer(_) => Type::Integer(logical()),
                Type::Bytes(is_text, ..) => {
                    let scale = json.get("scale").and_then(Value::as_u64).unwrap_or(0);
                    Type::Bytes(is_text, logical(), scale)
                }
                other => other,
            },
        })
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if namespace.is_empty() || name.contains('.') {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn take<'d>(input: &mut Input<'d>, count: usize) -> Option<Input<'d>> {
    let (taken, rest) = input.split_at_checked(count)?;
    *input = rest;
    Some(taken)
}

/// Zig-zag in groups of seven bits, the lowest first.
fn long(input: &mut Input<'_>) -> Option<i64> {
    let mut bits: u64 = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(input, 1)?.first()?;
        bits |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((bits >> 1) as i64 ^ -((bits & 1) as i64));
        }
    }
    None
}

fn put_long(out: &mut Vec<u8>, number: i64) {
    let mut bits = ((number << 1) ^ (number >> 63)) as u64;
    while bits >= 0x80 {
        out.push((bits & 0x7f) as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}

/// Blocks of an array or a map: a count, negative where the block's size follows, and so many items;
/// a count of 0 ends it. Each item of ours has a byte at least, unless it is an empty record.
fn items_of<'d>(
    input: &mut Input<'d>,
    item: &mut dyn FnMut(&mut Input<'d>) -> Option<()>,
) -> Option<()> {
    loop {
        let count = match long(input)? {
            0 => return Some(()),
            count @ 1.. => count,
            count => {
                long(input)?;
                count.checked_neg()?
            }
        };
        // A count that is made up is no reason to go round for ever.
        if usize::try_from(count).ok()? > input.len() {
            return None;
        }
        for _ in 0..count {
            item(input)?;
        }
    }
}

/// As [`items_of`], and writes what `item` makes of them as the encoder does: in one block, if there
/// are any.
fn items_into<'d>(
    input: &mut Input<'d>,
    out: &mut Vec<u8>,
    item: &mut dyn FnMut(&mut Input<'d>, &mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let (mut items, mut count) = (Vec::new(), 0);
    items_of(input, &mut |input| {
        count += 1;
        item(input, &mut items)
    })?;
    if count > 0 {
        put_long(out, count);
        out.extend_from_slice(&items);
    }
    out.push(0);
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn row(fields: &str) -> Schema {
        let text = format!(
            r#"{{"type":"record","name":"Row","namespace":"public.t","fields":[{fields}]}}"#
        );
        Schema::parse(&text).unwrap()
    }

    const ID: &str = r#"{"name":"id","type":"int"}"#;
    const TEXT: &str = r#"{"name":"a","type":["null","string"],"default":null}"#;
    const NUMBER: &str = r#"{"name":"b","type":["null","int"],"default":null}"#;

    #[test]
    fn columns_are_found_by_name_and_new_ones_are_null() {
        let before = row(&format!("{ID},{TEXT},{NUMBER}"));
        let datum = [2, 2, 2, b'x', 2, 14];
        for (now, expected) in [
            (row(&format!("{ID},{TEXT},{NUMBER}")), Some(datum.to_vec())),
            (
                row(&format!("{ID},{NUMBER},{TEXT}")),
                Some(vec![2, 2, 14, 2, 2, b'x']),
            ),
            (row(&format!("{ID},{NUMBER}")), Some(vec![2, 2, 14])),
            (
                row(&format!(
                    r#"{ID},{TEXT},{NUMBER},{{"name":"c","type":["null","bytes"]}}"#
                )),
                Some(vec![2, 2, 2, b'x', 2, 14, 0]),
            ),
            (
                row(r#"{"name":"id","type":"int"},{"name":"a","type":["null","int"]}"#),
                None,
            ),
            (row(r#"{"name":"other","type":"int"}"#), None),
        ] {
            assert_eq!(before.project(&now, &datum), expected, "{now:?}");
        }
    }

    #[test]
    fn an_attribute_that_a_composite_type_gets_is_null() {
        let point = |attributes: &str| {
            row(&format!(
                r#"{{"name":"a","type":["null",{{"type":"record","name":"point","namespace":"public","fields":[{attributes}]}}]}},
                   {{"name":"b","type":["null",{{"type":"array","items":["null","public.point"]}}]}}"#
            ))
        };
        let x = r#"{"name":"x","type":["null","int"]}"#;
        let y = r#"{"name":"y","type":["null","int"]}"#;
        let (before, now) = (point(x), point(&format!("{x},{y}")));
        let datum = [2, 2, 4, 2, 4, 2, 2, 6, 0, 0];
        assert_eq!(
            before.project(&now, &datum),
            Some(vec![2, 2, 4, 0, 2, 4, 2, 2, 6, 0, 0, 0])
        );
    }

    #[test]
    fn a_label_that_an_enum_gets_leaves_arrays_and_maps_of_it_as_they_are() {
        let moods = |container: &str, symbols: &str| {
            row(&format!(
                r#"{{"name":"a","type":["null",{{"type":"enum","name":"mood","namespace":"public","symbols":[{symbols}]}}]}},
                   {{"name":"b","type":["null",{{"type":{container}:["null","public.mood"]}}]}}"#
            ))
        };
        for (container, datum, expected) in [
            (
                r#""array","items""#,
                &[2, 2, 2, 6, 2, 2, 0, 2, 0, 0][..],
                [2, 4, 2, 6, 2, 4, 0, 2, 0, 0].as_slice(),
            ),
            (
                r#""map","values""#,
                &[2, 2, 2, 4, 2, b'x', 2, 2, 2, b'y', 0, 0],
                &[2, 4, 2, 4, 2, b'x', 2, 4, 2, b'y', 0, 0],
            ),
        ] {
            let before = moods(container, r#""sad","happy""#);
            let now = moods(container, r#""sad","calm","happy""#);
            let expected = Some(expected.to_vec());
            assert_eq!(before.project(&now, datum), expected, "{container}");
            let without = moods(container, r#""sad""#);
            assert_eq!(before.project(&without, datum), None, "{container}");
        }
    }

    #[test]
    fn a_decimal_of_another_scale_is_another_value() {
        let of = |precision: u8, scale: u8| {
            row(&format!(
                r#"{{"name":"a","type":["null",{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}]}}"#
            ))
        };
        let datum = [2, 2, 5];
        assert_eq!(of(4, 2).project(&of(9, 2), &datum), Some(datum.to_vec()));
        assert_eq!(of(4, 2).project(&of(9, 3), &datum), None);
    }

    #[test]
    fn an_envelope_is_compared_by_the_row_after_it() {
        let envelope = |fields: &str| {
            Schema::parse(&format!(
                r#"{{"type":"record","name":"Envelope","namespace":"public.t","fields":[
                    {{"name":"before","type":["null",{{"type":"record","name":"Row","fields":[{fields}]}}]}},
                    {{"name":"after","type":["null","Row"]}},{{"name":"op","type":"string"}},
                    {{"name":"unchanged","type":["null",{{"type":"array","items":"string"}}]}}]}}"#
            ))
            .unwrap()
        };
        let before = envelope(ID);
        let now = envelope(&format!("{ID},{NUMBER}"));
        for (datum, expected) in [
            (&[0, 2, 6, 2, b'u', 0][..], Some(After::Row(vec![2, 6, 0]))),
            (&[2, 6, 0, 2, b'd', 0], Some(After::Nothing)),
            (
                &[0, 2, 6, 2, b'u', 2, 2, 2, b'a', 0],
                Some(After::Incomplete),
            ),
            (&[0, 2, 6, 2, b'u', 0, 0], None),
            (&[0, 2], None),
        ] {
            assert_eq!(before.after(&now, datum), expected, "{datum:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let schema = row(&format!(
                r#"{ID},{TEXT},{{"name":"c","type":{{"type":"array","items":["null",{{"type":"map","values":"double"}}]}}}},
                   {{"name":"d","type":{{"type":"enum","name":"e","symbols":["x"]}}}}"#
            ));
            let _ = schema.project(&row(NUMBER), &bytes);
            let _ = schema.after(&schema, &bytes);
        }
    }
}
