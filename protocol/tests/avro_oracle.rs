//! `apache-avro` is the oracle: what our writers make of a value, it reads as that value by
//! the schema that we print.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use headwater_protocol::avro::{
    self, ArrayShape, Decimal, Enum, Field, FullName, Property, Schema,
};
use headwater_protocol::{Lsn, ValueError};
use num_bigint::BigInt;
use proptest::prelude::*;

/// A value of some schema: the bytes that we write, and what a reader must make of them.
#[derive(Clone, Debug)]
struct Sample {
    schema: Schema,
    bytes: Vec<u8>,
    value: Value,
}

impl Sample {
    fn new(schema: Schema, value: Value, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = Vec::new();
        write(&mut bytes);
        Sample {
            schema,
            bytes,
            value,
        }
    }

    /// As a value that may be null.
    fn present(self) -> Self {
        let Sample {
            schema,
            bytes,
            value,
        } = self;
        match (&schema, value) {
            (Schema::Union(_), Value::Union(branch, value)) => {
                Sample::new(schema.optional(), Value::Union(branch + 1, value), |out| {
                    let branch = avro_long(&bytes);
                    avro::branch(out, branch + 1);
                    out.extend_from_slice(&bytes[1..]);
                })
            }
            (_, value) => Sample::new(schema.optional(), Value::Union(1, Box::new(value)), |out| {
                avro::branch(out, 1);
                out.extend_from_slice(&bytes);
            }),
        }
    }

    fn absent(self) -> Self {
        let null = Value::Union(0, Box::new(Value::Null));
        Sample::new(self.schema.optional(), null, |out| {
            avro::branch(out, avro::NULL);
        })
    }
}

/// A branch of a union of few.
fn avro_long(bytes: &[u8]) -> usize {
    usize::from(bytes[0] / 2)
}

fn read(schema: &str, bytes: &[u8]) -> Value {
    let schema =
        apache_avro::Schema::parse_str(schema).unwrap_or_else(|error| panic!("{error}: {schema}"));
    let mut rest = bytes;
    let value = GenericDatumReader::builder(&schema)
        .build()
        .and_then(|reader| reader.read_value(&mut rest))
        .unwrap_or_else(|error| panic!("{error}: {bytes:?} as {schema:?}"));
    assert_eq!(rest, b"", "bytes behind {value:?}");
    value
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,8}", ".{60,70}"]
}

fn leaf() -> impl Strategy<Value = Sample> {
    prop_oneof![
        any::<bool>().prop_map(|value| Sample::new(
            Schema::Boolean,
            Value::Boolean(value),
            |out| avro::boolean(out, value)
        )),
        any::<i32>().prop_map(|value| Sample::new(Schema::Int, Value::Int(value), |out| {
            avro::int(out, value);
        })),
        any::<i64>().prop_map(
            |value| Sample::new(Schema::Long, Value::Long(value), |out| {
                avro::long(out, value);
            })
        ),
        any::<f32>().prop_map(
            |value| Sample::new(Schema::Float, Value::Float(value), |out| {
                avro::float(out, value);
            })
        ),
        any::<f64>().prop_map(
            |value| Sample::new(Schema::Double, Value::Double(value), |out| {
                avro::double(out, value);
            })
        ),
        any::<Vec<u8>>().prop_map(|value| {
            Sample::new(Schema::Bytes, Value::Bytes(value.clone()), |out| {
                avro::bytes(out, &value);
            })
        }),
        (text(), any::<bool>()).prop_map(|(value, marked)| {
            let schema = if marked {
                Schema::json()
            } else {
                Schema::String
            };
            Sample::new(schema, Value::String(value.clone()), |out| {
                avro::string(out, value.as_bytes());
            })
        }),
        date_or_time(),
        (1..1000_u16, any::<i128>()).prop_map(|(scale, number)| {
            let decimal = Decimal::new(1000, scale).unwrap();
            let bytes = BigInt::from(number).to_signed_bytes_be();
            let value = Value::Decimal(apache_avro::Decimal::from(&bytes));
            Sample::new(Schema::Decimal(decimal), value, |out| {
                avro::bytes(out, &bytes);
            })
        }),
        any::<[u8; 16]>().prop_map(|bytes| {
            let uuid = apache_avro::Uuid::from_bytes(bytes);
            Sample::new(Schema::Uuid, Value::Uuid(uuid), |out| {
                let Ok(()) = avro::unquoted::<Infallible>(out, |out| {
                    headwater_protocol::json::uuid(out, &bytes);
                    Ok(())
                });
            })
        }),
        prop::collection::vec("[a-z éx_]{0,4}", 1..5).prop_map(|mut labels| {
            labels.sort();
            labels.dedup();
            let last = labels.len() - 1;
            let symbols: Vec<String> = labels.iter().map(|label| avro::escape(label)).collect();
            let value = Value::Enum(last as u32, symbols[last].clone());
            let name = FullName::of_type("moods", &labels.join("/"));
            let schema = Schema::Enum(Rc::new(Enum { name, symbols }));
            Sample::new(schema, value, |out| avro::int(out, last as i32))
        }),
    ]
}

/// Postgres counts from 2000.
fn date_or_time() -> impl Strategy<Value = Sample> {
    const DAYS: i32 = 10_957;
    const MICROS: i64 = 946_684_800_000_000;
    let day = any::<i32>().prop_filter("has a date", |days| days.checked_add(DAYS + 1).is_some());
    let moment =
        any::<i64>().prop_filter("has a timestamp", |at| at.checked_add(MICROS + 1).is_some());
    prop_oneof![
        day.prop_map(
            |days| Sample::new(Schema::Date, Value::Date(days + DAYS), |out| {
                avro::date(out, days).unwrap();
            })
        ),
        (moment, any::<bool>()).prop_map(|(at, has_zone)| {
            let (schema, value) = if has_zone {
                (Schema::TimestampMicros, Value::TimestampMicros(at + MICROS))
            } else {
                (
                    Schema::LocalTimestampMicros,
                    Value::LocalTimestampMicros(at + MICROS),
                )
            };
            Sample::new(schema, value, |out| avro::timestamp(out, at).unwrap())
        }),
        (0..=86_400_000_000_i64, -57_599..=57_599_i32).prop_map(|(micros, west)| {
            let value = record([
                ("micros", Value::TimeMicros(micros)),
                ("offset", Value::Int(-west)),
            ]);
            Sample::new(avro::timetz_schema(), value, |out| {
                avro::timetz(out, micros, west);
            })
        }),
        any::<(i32, i32, i64)>().prop_map(|(months, days, micros)| {
            let value = record([
                ("months", Value::Int(months)),
                ("days", Value::Int(days)),
                ("micros", Value::Long(micros)),
            ]);
            Sample::new(avro::interval_schema(), value, |out| {
                avro::interval(out, months, days, micros);
            })
        }),
    ]
}

fn record<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Record(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

/// The same for the same types, and another one for any other.
fn identity(of: &impl std::fmt::Debug) -> String {
    let mut hasher = DefaultHasher::new();
    format!("{of:?}").hash(&mut hasher);
    format!("{:x}", hasher.finish())
}

/// Values within values. Names are by what they name, as those of types are.
fn sample() -> impl Strategy<Value = Sample> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let field = (inner.clone(), 0..3_u8);
        prop_oneof![
            prop::collection::vec(field, 0..4).prop_map(|fields| row(&fields)),
            (inner.clone(), 0..4_usize, any::<bool>())
                .prop_map(|(element, count, is_list)| array(&element, count, is_list)),
            (inner, any::<[bool; 5]>()).prop_map(|(bound, flags)| range(&bound, flags)),
        ]
    })
}

/// A record of fields that are plain, null or there.
fn row(fields: &[(Sample, u8)]) -> Sample {
    let fields: Vec<Sample> = fields
        .iter()
        .map(|(field, state)| match state {
            0 => field.clone(),
            1 => field.clone().absent(),
            _ => field.clone().present(),
        })
        .collect();
    let names = (0..fields.len()).map(|index| format!("f{index}"));
    let declared = fields.iter().zip(names.clone()).map(|(field, name)| Field {
        name,
        schema: field.schema.clone(),
        properties: vec![Property::pg_type("what \"it\" was")],
    });
    let declared: Vec<Field> = declared.collect();
    let name = FullName::row("of", &identity(&declared));
    let values = names.zip(fields.iter().map(|field| field.value.clone()));
    Sample::new(
        Schema::record(name, declared),
        Value::Record(values.collect()),
        |out| {
            fields
                .iter()
                .for_each(|field| out.extend_from_slice(&field.bytes))
        },
    )
}

/// One element `count` times, with nulls in between.
fn array(element: &Sample, count: usize, is_list: bool) -> Sample {
    // An array within an array is always the record.
    let element = match element.clone() {
        list @ Sample {
            value: Value::Union(0, _),
            ..
        } => return list,
        Sample {
            schema: Schema::Union(mut branches),
            bytes,
            value: Value::Union(_, value),
        } => Sample {
            schema: branches.swap_remove(1),
            bytes: bytes[1..].to_vec(),
            value: *value,
        },
        element => element,
    };
    let name = FullName::array("of", &identity(&element.schema), None);
    let schema = avro::array_schema(name, element.schema.clone());
    let (null, there) = (element.clone().absent(), element.present());
    let elements = [there, null].into_iter().cycle().take(2 * count);
    let elements: Vec<Sample> = elements.collect();
    let dimensions: &[(i32, i32)] = match (is_list, count) {
        (true, 0) => &[],
        (true, _) => &[(2 * count as i32, 1)],
        (false, _) => &[(2, 1), (count as i32, -3)],
    };
    let shape = ArrayShape::of(dimensions);
    let items = Value::Array(
        elements
            .iter()
            .map(|element| element.value.clone())
            .collect(),
    );
    let value = if is_list {
        items
    } else {
        let dimensions = dimensions.iter().map(|(length, lower)| {
            record([
                ("length", Value::Int(*length)),
                ("lower", Value::Int(*lower)),
            ])
        });
        record([
            ("dimensions", Value::Array(dimensions.collect())),
            ("elements", items),
        ])
    };
    let branch = u32::from(!is_list);
    Sample::new(schema, Value::Union(branch, Box::new(value)), |out| {
        shape.branch(out, false);
        if shape == ArrayShape::Other {
            avro::dimensions(out, dimensions);
        }
        avro::begin_items(out, elements.len());
        elements
            .iter()
            .for_each(|element| out.extend_from_slice(&element.bytes));
        avro::end_items(out);
    })
}

/// A range from `bound` to `bound`.
fn range(bound: &Sample, flags: [bool; 5]) -> Sample {
    let [
        has_lower,
        has_upper,
        lower_inclusive,
        upper_inclusive,
        is_empty,
    ] = flags;
    let stored: &[u8] = b"stored";
    let range = headwater_protocol::stored::Range {
        is_empty,
        lower_inclusive,
        upper_inclusive,
        lower: has_lower.then_some(stored),
        upper: has_upper.then_some(stored),
    };
    let name = FullName::of_type("ranges", &identity(&bound.schema));
    let is_union = matches!(bound.schema, Schema::Union(_));
    let schema = avro::range_schema(name, bound.schema.clone());
    let (null, there) = (bound.clone().absent(), bound.clone().present());
    let side = |is_there: bool| if is_there { &there.value } else { &null.value }.clone();
    let value = record([
        ("lower", side(has_lower)),
        ("upper", side(has_upper)),
        ("lower_inclusive", Value::Boolean(lower_inclusive)),
        ("upper_inclusive", Value::Boolean(upper_inclusive)),
        ("empty", Value::Boolean(is_empty)),
    ]);
    Sample::new(schema, value, |out| {
        let Ok(()) = avro::range::<Infallible>(out, &range, is_union, |out, given| {
            assert_eq!(given, stored);
            let bytes = if is_union { &there.bytes } else { &bound.bytes };
            out.extend_from_slice(bytes);
            Ok(())
        });
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_reads_back_by_the_schema_that_is_printed(sample in sample()) {
        // NaN is no value that equals itself.
        let read = read(&sample.schema.to_json(), &sample.bytes);
        prop_assert_eq!(format!("{:?}", read), format!("{:?}", sample.value));
    }

    #[test]
    fn a_keys_schema_reads_the_same_bytes(sample in sample()) {
        let read = read(&sample.schema.to_key_json(), &sample.bytes);
        prop_assert_eq!(format!("{:?}", read), format!("{:?}", sample.value));
    }

    #[test]
    fn an_hstore_is_a_map(pairs: HashMap<String, Option<String>>) {
        let write_text = |out: &mut Vec<u8>, text: &[u8]| {
            avro::string(out, text);
            Ok::<(), ValueError>(())
        };
        let mut bytes = Vec::new();
        avro::hstore(&mut bytes, &stored_hstore(&pairs), write_text).unwrap();
        let expected = pairs.into_iter().map(|(key, value)| {
            let value = match value {
                None => Value::Union(0, Box::new(Value::Null)),
                Some(text) => Value::Union(1, Box::new(Value::String(text))),
            };
            (key, value)
        });
        prop_assert_eq!(read(&avro::hstore_schema().to_json(), &bytes), Value::Map(expected.collect()));
    }
}

fn stored_hstore(pairs: &HashMap<String, Option<String>>) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut texts = Vec::new();
    for (key, value) in pairs {
        texts.extend_from_slice(key.as_bytes());
        entries.extend((texts.len() as u32).to_ne_bytes());
        texts.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
        let null = if value.is_none() { 0x4000_0000 } else { 0 };
        entries.extend((texts.len() as u32 | null).to_ne_bytes());
    }
    let count = (pairs.len() as u32 | 0x8000_0000).to_ne_bytes();
    [&count[..], &entries, &texts].concat()
}

#[test]
fn every_type_of_the_map_has_a_schema_that_avro_reads() {
    use headwater_protocol::type_map::Kind;
    for kind in Kind::ALL {
        for modifier in [
            -1,
            (10 << 16 | 2) + 4,
            (1000 << 16 | 1000) + 4,
            (3 << 16 | 0x7FE) + 4,
        ] {
            let schema = kind.schema(modifier).optional().to_json();
            let parsed = apache_avro::Schema::parse_str(&schema);
            assert!(parsed.is_ok(), "{kind:?} {modifier}: {schema}");
        }
    }
}

#[test]
fn an_envelope_reads_back() {
    let id = |id: i64| record([("id", Value::Long(id)), ("note", nothing())]);
    let row = Schema::record(
        FullName::row("s", "t"),
        vec![
            Field::new("id", Schema::Long),
            Field::new("note", Schema::String.optional()),
        ],
    );
    let schema = avro::envelope_schema(FullName::envelope("s", "t"), row).to_json();
    let source = avro::Source {
        snapshot: false,
        database: "shop",
        schema: "s",
        table: "t",
        transaction: Some((7, 1_000_001)),
        lsn: Lsn(0x1_0000_0001),
        seq: 3,
    };
    let text = |text: &str| Value::String(text.to_owned());
    let expected_source = |tx: [Value; 3], snapshot: &str| {
        let [xid, ms, us] = tx;
        record([
            ("version", text(headwater_protocol::VERSION)),
            ("connector", text("headwater")),
            ("snapshot", text(snapshot)),
            ("db", text("shop")),
            ("schema", text("s")),
            ("table", text("t")),
            ("txId", xid),
            ("ts_ms", ms),
            ("ts_us", us),
            ("lsn", Value::Long(0x1_0000_0001)),
            ("seq", Value::Long(3)),
        ])
    };
    let mut update = Vec::new();
    avro::branch(&mut update, avro::NULL);
    avro::branch(&mut update, 1);
    avro::long(&mut update, 5);
    avro::branch(&mut update, avro::NULL);
    avro::unchanged(&mut update, ["note"].into_iter());
    avro::partition(&mut update, None);
    avro::envelope_end(&mut update, &source, "u");
    assert_eq!(
        read(&schema, &update),
        record([
            ("before", nothing()),
            ("after", some(id(5))),
            ("unchanged", some(Value::Array(vec![text("note")]))),
            ("partition", nothing()),
            (
                "source",
                expected_source(
                    [7, 1_000, 1_000_001].map(|number| some(Value::Long(number))),
                    "false"
                )
            ),
            ("op", text("u")),
            ("ts_ms", some(Value::Long(1_000))),
        ])
    );

    let mut truncate = Vec::new();
    avro::branch(&mut truncate, avro::NULL);
    avro::branch(&mut truncate, avro::NULL);
    avro::unchanged(&mut truncate, [].into_iter());
    avro::partition(&mut truncate, Some(("s", "t_1")));
    let outside = avro::Source {
        snapshot: true,
        transaction: None,
        ..source
    };
    avro::envelope_end(&mut truncate, &outside, "t");
    assert_eq!(
        read(&schema, &truncate),
        record([
            ("before", nothing()),
            ("after", nothing()),
            ("unchanged", nothing()),
            (
                "partition",
                some(record([("schema", text("s")), ("table", text("t_1"))]))
            ),
            (
                "source",
                expected_source([nothing(), nothing(), nothing()], "true")
            ),
            ("op", text("t")),
            ("ts_ms", nothing()),
        ])
    );
}

fn nothing() -> Value {
    Value::Union(0, Box::new(Value::Null))
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}
