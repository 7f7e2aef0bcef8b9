//! Apache's library for Rust.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use serde_json::{Value, json};

/// Schemas that were read, by their texts.
#[derive(Default)]
pub struct Apache {
    schemas: HashMap<String, Schema>,
}

impl Apache {
    /// What a datum holds.
    ///
    /// # Errors
    ///
    /// The schema is none, or the bytes are no datum of it.
    pub fn read(&mut self, schema: &str, mut datum: &[u8]) -> Result<Value, String> {
        if !self.schemas.contains_key(schema) {
            let parsed = Schema::parse_str(schema).map_err(|e| format!("{e}: {schema}"))?;
            self.schemas.insert(schema.to_owned(), parsed);
        }
        let reader = GenericDatumReader::builder(&self.schemas[schema]).build();
        let value = reader.and_then(|reader| reader.read_value(&mut datum));
        let value = value.map_err(|error| error.to_string())?;
        if !datum.is_empty() {
            return Err(format!("{} bytes too many", datum.len()));
        }
        plain(value)
    }
}

fn plain(value: Avro) -> Result<Value, String> {
    Ok(match value {
        Avro::Null => Value::Null,
        Avro::Boolean(is) => Value::Bool(is),
        Avro::Int(number) | Avro::Date(number) => json!(number),
        Avro::Long(number)
        | Avro::TimeMicros(number)
        | Avro::TimestampMicros(number)
        | Avro::LocalTimestampMicros(number) => json!(number),
        Avro::Float(number) => double(f64::from(number)),
        Avro::Double(number) => double(number),
        Avro::Bytes(bytes) => json!({ "bytes": super::postgres::hex(&bytes) }),
        Avro::Decimal(decimal) => {
            json!({ "unscaled": num_bigint::BigInt::from(decimal).to_string() })
        }
        Avro::Uuid(uuid) => Value::String(uuid.to_string()),
        Avro::String(text) | Avro::Enum(_, text) => Value::String(text),
        Avro::Union(_, value) => plain(*value)?,
        Avro::Array(items) => Value::Array(items.into_iter().map(plain).collect::<Result<_, _>>()?),
        Avro::Map(entries) => object(entries)?,
        Avro::Record(fields) => object(fields)?,
        other => return Err(format!("a value of a kind that nobody writes: {other:?}")),
    })
}

fn object(fields: impl IntoIterator<Item = (String, Avro)>) -> Result<Value, String> {
    let fields = fields.into_iter();
    let plain = fields.map(|(name, value)| Ok::<_, String>((name, plain(value)?)));
    Ok(Value::Object(plain.collect::<Result<_, _>>()?))
}

/// The bits of a number, as far as they mean anything.
pub(super) fn double(number: f64) -> Value {
    let bits = match number.is_nan() {
        true => "nan".to_owned(),
        false => format!("{:016x}", number.to_bits()),
    };
    json!({ "double": bits })
}
