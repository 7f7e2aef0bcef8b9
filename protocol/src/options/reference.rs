//! What people read about the options, from the table that the parser uses.

use std::fmt::Write;

use super::OPTIONS;

/// The options as text for a terminal, one paragraph each.
pub fn help() -> String {
    let mut text = String::new();
    for option in OPTIONS {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}\n    {}\n    values: {}; default: {}",
            option.name,
            option.meaning.replace('`', ""),
            option.values(),
            option.default.replace('`', ""),
        );
    }
    text
}

/// The reference page `docs/plugin-options.md`, whole.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    for option in OPTIONS {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            option.name,
            option.values().replace('*', "`*`"),
            option.default,
            option.meaning,
        );
    }
    text.push_str(TAIL);
    text
}

const HEAD: &str = "\
<!-- Generated from protocol/src/options. HEADWATER_BLESS=1 cargo test -p headwater-protocol rewrites it. -->

# Options of the plugin

Options are given where a session starts to read a slot:

```sh
pg_recvlogical -d shop --slot s --start -o envelope=row -o 'tables=shop.*' -f -
```

```sql
SELECT data FROM pg_logical_slot_peek_changes('s', NULL, NULL, 'envelope', 'row', 'tables', 'shop.*');
```

An unknown option, an argument that is not among those listed, a missing argument and an
option given twice are errors that quote what was given. Nothing is ignored.

| option | values | default | meaning |
|---|---|---|---|
";

const TAIL: &str = "
## Naming tables

`tables` and `exclude_tables`, and the client's `-t` and `-T`, take a comma list of patterns:

| pattern | matches |
|---|---|
| `orders` | `public.orders`: without a schema, `public` is meant |
| `shop.orders`, `Shop.ORDERS` | `shop.orders`: without quotes, letters fold to lower case as in SQL |
| `\"Shop\".orders` | `orders` in the schema `Shop` |
| `shop.*` | every table of `shop` |
| `*.audit_*` | tables of any schema whose name begins with `audit_` |
| `shop.\"Part_\"*` | tables of `shop` whose name begins with `Part_` |
| `shop.\"a*b\"` | the table named `a*b`: within quotes `*` is a character like any other |

A name that holds anything but letters, digits, `_` and `$` goes into double quotes; a
double quote within it is written twice. Blanks around names are allowed.

Tables of `pg_catalog`, `information_schema` and every other schema whose name begins with
`pg_` are never sent. Those of the schema `headwater` are sent only if a pattern of `tables` spells
the schema out. Whatever `exclude_tables` matches is not sent, even if `tables` names it.

Under `partitions=root` a pattern is about the partitioned table at the top: `orders` takes
all of its partitions, whatever their names and schemas, and a pattern of a
partition's name matches nothing. Under `partitions=leaf` it is the other way round.
";
