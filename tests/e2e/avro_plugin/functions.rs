//! What the functions tell of a table: its JSON Schema, and what would be sent.

use serde_json::json;

use crate::world::postgres;

#[test]
fn the_json_schema_takes_every_row_and_nothing_else() {
    let sql = postgres().database("avro_plugin_json_schema");
    sql.run(
        "create type pair as (a int, b text[]);
         create type mood as enum ('sad');
         create table t (id bigint primary key, n numeric, m mood, p pair, j jsonb, f float8 not null);
         insert into t values (1, 'NaN', 'sad', row(1, '{{a},{null}}'), '[1]', 'infinity')",
    );
    let schema: serde_json::Value =
        serde_json::from_str(&sql.value("select headwater.json_schema('t')")).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(schema["title"], "public.t");
    assert_eq!(schema["required"], json!(["id", "m", "f"]));
    assert_eq!(schema["additionalProperties"], false);
    let nullable = |of: serde_json::Value| json!({"anyOf": [of, {"type": "null"}]});
    assert_eq!(
        schema["properties"]["id"],
        json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX})
    );
    assert_eq!(
        schema["properties"]["m"],
        nullable(json!({"enum": ["sad"]}))
    );
    assert_eq!(schema["properties"]["j"], nullable(json!(true)));
    assert_eq!(
        schema["properties"]["p"],
        nullable(json!({"$ref": "#/$defs/public.pair"}))
    );
    assert_eq!(
        schema["$defs"]["text[]"]["items"]["anyOf"][2],
        json!({"$ref": "#/$defs/text%5B%5D"})
    );
    let quoted: serde_json::Value =
        serde_json::from_str(&sql.value("select headwater.json_schema('t', 'numbers=string')"))
            .unwrap();
    assert_eq!(quoted["properties"]["id"], json!({"type": "string"}));
}

#[test]
fn a_preview_is_what_would_be_sent() {
    let sql = postgres().database("avro_plugin_preview");
    sql.run(
        "create table t (id int primary key, body text);
         insert into t values (1, E'tab\\there'), (2, null), (3, 'c');
         create schema \"my shop\"; create table \"my shop\".log (line text);
         insert into \"my shop\".log values ('x')",
    );
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        sql.rows("select * from headwater.preview('t', 2)"),
        [
            [
                some("t"),
                some("{\"id\":1}"),
                some("{\"id\":1,\"body\":\"tab\\there\"}")
            ],
            [
                some("t"),
                some("{\"id\":2}"),
                some("{\"id\":2,\"body\":null}")
            ],
        ]
    );
    assert_eq!(
        sql.rows("select * from headwater.preview('\"my shop\".log')"),
        [[some("my_x20_shop.log"), None, some("{\"line\":\"x\"}")]]
    );
    // A column may have any name, and what others put into the schemas of who asks is not run.
    sql.run(
        "create table x (t int primary key); insert into x values (7);
         create function trap(text[], text[]) returns text[] language plpgsql
             as $$ begin raise 'somebody''s code'; end $$;
         create operator || (leftarg = text[], rightarg = text[], function = trap)",
    );
    assert_eq!(
        sql.rows("select key, value from headwater.preview('x')"),
        [[some("{\"t\":7}"), some("{\"t\":7}")]]
    );
    sql.run(
        "create function trap(\"char\", \"char\") returns boolean language plpgsql
             as $$ begin raise 'somebody''s code'; end $$;
         create operator = (leftarg = \"char\", rightarg = \"char\", function = trap);
         set search_path = public, pg_catalog",
    );
    assert_eq!(
        sql.rows("select key from headwater.preview('x')"),
        [[some("{\"t\":7}")]]
    );
    sql.run("reset search_path; drop operator public.= (\"char\", \"char\")");
    // With the rights of who asks.
    sql.run("create role avro_plugin_reader login");
    sql.run("grant usage on schema headwater to avro_plugin_reader; set role avro_plugin_reader");
    let refused = sql
        .attempt("select * from headwater.preview('public.t', 1)")
        .unwrap_err();
    sql.run("reset role");
    assert_eq!(refused.state, "42501", "{refused}");
}
