//! Rows of a table that is altered while one expression of PL/pgSQL encodes them.

use crate::session::Session;

/// Encodes the row of table `t`, runs `ddl` and encodes the row again, both by one expression, which lives
/// on over the statements of its transaction.
///
/// # Panics
///
/// If what comes is not what the server itself makes of either row.
#[track_caller]
pub fn each_row_is_encoded_as_it_is(sql: &Session, ddl: &str) {
    let quoted = ddl.replace('\'', "''");
    sql.run(&format!(
        "create function f() returns table (encoded text, expected text) language plpgsql as $f$
         declare r t; begin
           for i in 1..2 loop
             execute 'select * from t' into r;
             encoded := split_part(convert_from(headwater.encode(r, 'envelope=row'), 'UTF8'), e'\\t', 2);
             expected := row_to_json(r);
             return next;
             if i = 1 then execute '{quoted}'; end if;
           end loop;
         end $f$"
    ));
    let rows = sql.rows("select * from f()");
    assert_eq!(rows.len(), 2, "{ddl}");
    for row in rows {
        assert_eq!(row[0], row[1], "{ddl}");
    }
}
