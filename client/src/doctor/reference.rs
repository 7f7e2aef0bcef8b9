//! The reference page `docs/doctor.md`, from the table of checks.

use std::fmt::Write;

use super::check::AREAS;

/// The page, whole.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    for area in AREAS {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n### {}\n\n| check | what holds | what mends it |\n|---|---|---|\n",
            area.name
        );
        for check in area.checks {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} |",
                check.id, check.title, check.cure
            );
        }
    }
    text
}

const HEAD: &str = "\
<!-- Generated from client/src/doctor. HEADWATER_BLESS=1 cargo test -p headwater rewrites it. -->

# headwater doctor

Looks at all that a stream needs, on the server, of the role, of the tables, in Kafka and in the
schema registry, and names what mends what is missing. It takes the options of `headwater stream`,
asks what a start would ask, and changes nothing.

```
headwater doctor -d shop -b kafka:9092
```

A line a finding, in the order in which to mend them, since later ones can depend on earlier ones:

- `ok`: as it should be.
- `warn`: a stream starts, and this will hurt it one day.
- `FAIL`: a stream does not start, or stops at its first change.
- `skip`: it could not be looked at, and why, or it does not matter to this stream. What could not be
  looked at is never called well.

Under a line stands what mends it, to be run as it is printed: SQL in psql as a superuser, a command in a
shell, a line of `pg_hba.conf`, or an option of `headwater stream`. Settings are changed by `ALTER
SYSTEM`; on a managed service they are in its parameter group. Where the client logs in to Kafka or comes
by TLS, the commands of Kafka's tools have `--command-config admin.properties`: the file that says how
one who administers the cluster does. When nothing fails, the last line is the command that starts
the stream.

Some things are seen only over a while: how fast the WAL grows that a slot keeps, and which transactions
stay open. For those the server is looked at twice, two seconds apart, or as `--sample` says. The
statement of such a transaction may hold values of rows: it is shown with `--show-queries` alone.

## Exit codes

| code | |
|---|---|
| 0 | a stream would start; there may be warnings |
| 1 | it would not; or, with `--strict`, there is a warning or something could not be looked at |
| 2 | the command line is wrong |
| 3 | it would refuse to start because changes are lost, and nothing comes before that |

## JSON

With `--json` the report is one object. Fields may be added; `version` counts changes of those that are there.

| field | |
|---|---|
| `version` | 1 |
| `worst` | the worst severity of all: `ok`, `skipped`, `warning` or `fail` |
| `checks` | what was found, in the order of the report; a check may have found several things |
| `checks[].area`, `checks[].id` | which check, as below |
| `checks[].severity` | `ok`, `skipped`, `warning` or `fail` |
| `checks[].found` | what was found, or why it could not be looked at, in a sentence |
| `checks[].cure` | what mends it; absent where no text does |
| `checks[].cure.by` | who reads the text: `sql`, `shell`, `hba` or `option` |
| `checks[].cure.text` | the text, as it is printed |
| `checks[].cure.database` | the database that SQL is to be run in; absent where any is right |
| `checks[].cure.restart` | whether the server has to be restarted behind it |
| `checks[].hint` | what else helps or is to be known, in sentences; absent where there is nothing |
| `next` | the command that starts the stream; absent where something fails |

## Checks
";
