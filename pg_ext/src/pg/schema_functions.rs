//! The SQL functions that say what a table's records look like.

#![allow(unreachable_pub, reason = "the server finds the symbols by name")]

use headwater_protocol::options::PluginOptions;
use headwater_protocol::topic;
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};

use super::encoding::DatabaseEncoding;
use super::functions::{
    argument, compile, null, oid, open, options_argument, varlena_datum, version_1,
};
use super::options::text;
use super::panics::{Place, panic_point};
use super::report::refuse;
use crate::emit::escaped;
use crate::json_schema::json_schema;
use crate::plan::RelationPlan;
use crate::schema::SchemaCompiler;

version_1!(
    pg_finfo_headwater_avro_schema,
    pg_finfo_headwater_json_schema,
    pg_finfo_headwater_topic
);

/// `headwater.avro_schema(regclass, text, VARIADIC text[]) → text`: the schema of the table's
/// keys or of its values; null for the keys of one without.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn headwater_avro_schema(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: the declaration in `sql/` says what the arguments are.
    unsafe {
        let (Some(relation), Some(part)) = (argument(fcinfo, 0), argument(fcinfo, 1)) else {
            return null(fcinfo);
        };
        let part = text(pg_sys::text_to_cstring(part.cast_mut_ptr()));
        let implied = [("output", "frames"), ("format", "avro")];
        let options = options_argument(argument(fcinfo, 2), &implied).options;
        let schemas = SchemaCompiler::new(&options, DatabaseEncoding::current(options.encoding));
        let schemas = open(oid(relation), &options, |relation| {
            schemas.compile(&compile(relation, &options))
        });
        panic_point(Place::Function);
        let schema = match part.as_str() {
            "value" => schemas.map(|schemas| schemas.value),
            "key" => schemas.and_then(|schemas| schemas.key),
            _ => refuse(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("\"{part}\" is no part of a record"),
                Some("A record has a \"key\" and a \"value\".".to_owned()),
            ),
        };
        match schema {
            None => null(fcinfo),
            Some(schema) => json_datum(&schema, &options),
        }
    }
}

/// `headwater.json_schema(regclass, VARIADIC text[]) → text`: the JSON Schema of the table's
/// rows.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn headwater_json_schema(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: as above.
    unsafe {
        let Some(relation) = argument(fcinfo, 0) else {
            return null(fcinfo);
        };
        let options = options_argument(argument(fcinfo, 1), &[("format", "json")]).options;
        let encoding = DatabaseEncoding::current(options.encoding);
        let schema = open(oid(relation), &options, |relation| {
            let plan: RelationPlan = compile(relation, &options);
            json_schema(&plan, &options, encoding)
        });
        panic_point(Place::Function);
        json_datum(&schema, &options)
    }
}

/// `headwater.topic(regclass, VARIADIC text[]) → text`: the topic of the table's records where
/// the client is told no other.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn headwater_topic(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as above.
    unsafe {
        let Some(relation) = argument(fcinfo, 0) else {
            return null(fcinfo);
        };
        let options = options_argument(argument(fcinfo, 1), &[]).options;
        let topic = open(oid(relation), &options, |relation| {
            let plan = compile(relation, &options);
            topic::of_table(&plan.schema, &plan.table)
        });
        panic_point(Place::Function);
        // ASCII: nothing else is allowed in a topic's name.
        varlena_datum(topic.as_bytes())
    }
}

/// A `text` is in the database's encoding: where that is not UTF-8, what is not ASCII goes as
/// JSON's escapes.
fn json_datum(json: &str, options: &PluginOptions) -> pg_sys::Datum {
    if DatabaseEncoding::current(options.encoding) == DatabaseEncoding::Utf8 {
        varlena_datum(json.as_bytes())
    } else {
        varlena_datum(&escaped(json.as_bytes()))
    }
}
