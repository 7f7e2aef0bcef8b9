//! What is written to the table that is decoded.

use headwater_tests::Postgres;
use headwater_tests::session::Session;
use serde::Serialize;

/// The ten columns of an ordinary row: about 200 bytes of text.
pub(crate) const MIXED_COLUMNS: &str = "id bigint primary key, qty int, title text, price numeric(12,2), \
     created timestamptz, active boolean, uid uuid, doc jsonb, score float8, note text";

/// Changes of rows, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Changes {
    pub(crate) inserts: u64,
    pub(crate) updates: u64,
    pub(crate) deletes: u64,
}

impl Changes {
    pub(crate) fn total(&self) -> u64 {
        self.inserts + self.updates + self.deletes
    }
}

/// One load of a database.
pub(crate) struct Workload {
    /// In results and tables.
    pub(crate) name: &'static str,
    /// What it stands for.
    pub(crate) about: &'static str,
    prepare: fn(&Postgres, &Session, u64),
    load: fn(&Postgres, &Session, u64) -> Changes,
    /// Changes of one run at scale 1.
    changes: u64,
}

/// Each of them, the one that the headline is about first.
pub(crate) const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "mixed",
        about: "10 mixed columns, 1,000 rows a transaction: inserts, updates, deletes as 10 : 3 : 1",
        prepare: |_, sql, _| sql.run(&format!("create table mixed ({MIXED_COLUMNS})")),
        load: mixed,
        changes: 420_000,
    },
    Workload {
        name: "tpcb",
        about: "pgbench's TPC-B: four small changes a transaction",
        prepare: |postgres, sql, _| {
            pgbench(
                postgres,
                &sql.value("select current_database()"),
                &["-i", "-q"],
            );
        },
        load: tpcb,
        changes: 120_000,
    },
    Workload {
        name: "wide",
        about: "100 columns, 90 of them null, 1,000 rows a transaction",
        prepare: |_, sql, _| {
            let columns: Vec<String> = (1..100).map(|n| format!("c{n} int")).collect();
            sql.run(&format!(
                "create table wide (id bigint primary key, {})",
                columns.join(", ")
            ));
        },
        load: |_, sql, changes| Changes {
            inserts: inserts(
                sql,
                changes,
                "insert into wide (id, c1, c11, c22, c33, c44, c55, c66, c77, c88) \
                 select g, g, g, g, g, g, g, g, g, g",
            ),
            ..Changes::default()
        },
        changes: 100_000,
    },
    Workload {
        name: "large",
        about: "a text of 100 kB in each row, 100 rows a transaction",
        prepare: |_, sql, _| {
            sql.run("create table large (id bigint primary key, v text)");
            sql.run("alter table large alter v set storage external");
        },
        load: large,
        changes: 5_000,
    },
    Workload {
        name: "identity",
        about: "updates of 10 mixed columns under REPLICA IDENTITY FULL, 1,000 rows a transaction",
        prepare: |_, sql, changes| {
            sql.run(&format!("create table mixed ({MIXED_COLUMNS})"));
            inserts(sql, changes, &insert_mixed());
            sql.run("alter table mixed replica identity full");
        },
        load: |_, sql, changes| Changes {
            updates: statements(sql, changes, |first, last| {
                format!("update mixed set qty = qty + 1 where id between {first} and {last}")
            }),
            ..Changes::default()
        },
        changes: 100_000,
    },
];

/// Rows of one transaction.
const TRANSACTION: u64 = 1_000;

impl Workload {
    /// Makes the tables, before any slot: what this writes is not decoded.
    pub(crate) fn prepare(&self, postgres: &Postgres, sql: &Session, scale: f64) {
        (self.prepare)(postgres, sql, self.size(scale));
    }

    /// Writes, and says which changes of rows that were.
    pub(crate) fn load(&self, postgres: &Postgres, sql: &Session, scale: f64) -> Changes {
        (self.load)(postgres, sql, self.size(scale))
    }

    /// Changes, in whole transactions.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a count of rows, scaled"
    )]
    fn size(&self, scale: f64) -> u64 {
        let changes = (self.changes as f64 * scale) as u64;
        (changes / TRANSACTION).max(1) * TRANSACTION
    }
}

/// Rows of the ten columns, from a series `g`.
pub(crate) fn insert_mixed() -> String {
    "insert into mixed select g, g % 100, repeat('title ', (4 + g % 6)::int), (g % 100000) / 100.0, \
     '2024-01-01'::timestamptz + g * interval '1 s 123 us', g % 2 = 0, md5(g::text)::uuid, \
     jsonb_build_object('a', g, 'b', 'x' || g), g * 1.37, \
     case when g % 3 = 0 then 'note ' || g end"
        .to_owned()
}

/// Inserts ids from 1 on, updates the first of them, deletes the first of those.
fn mixed(_: &Postgres, sql: &Session, changes: u64) -> Changes {
    let rows = changes * 10 / 14;
    Changes {
        inserts: inserts(sql, rows, &insert_mixed()),
        updates: statements(sql, rows * 3 / 10, |first, last| {
            format!(
                "update mixed set qty = qty + 1, note = 'changed' where id between {first} and {last}"
            )
        }),
        deletes: statements(sql, rows / 10, |first, last| {
            format!("delete from mixed where id between {first} and {last}")
        }),
    }
}

/// Inserts more rows of the ten columns behind the first `present` ids, and says how many.
pub(crate) fn more_mixed(sql: &Session, present: u64, rows: u64) -> u64 {
    statements(sql, rows, |first, last| {
        let (first, last) = (present + first, present + last);
        format!(
            "{} from generate_series({first}::bigint, {last}) g",
            insert_mixed()
        )
    })
}

fn large(_: &Postgres, sql: &Session, changes: u64) -> Changes {
    const ROWS: u64 = 100;
    for first in (1..=changes).step_by(ROWS as usize) {
        sql.run(&format!(
            "insert into large select g, repeat(md5(g::text), 3200) \
             from generate_series({first}, {}) g",
            first + ROWS - 1
        ));
    }
    Changes {
        inserts: changes.div_ceil(ROWS) * ROWS,
        ..Changes::default()
    }
}

/// A transaction updates an account, a teller and a branch and inserts into the history.
fn tpcb(postgres: &Postgres, sql: &Session, changes: u64) -> Changes {
    let transactions = changes / 4;
    let database = sql.value("select current_database()");
    pgbench(
        postgres,
        &database,
        &["-n", "-t", &transactions.to_string()],
    );
    Changes {
        inserts: transactions,
        updates: transactions * 3,
        deletes: 0,
    }
}

fn pgbench(postgres: &Postgres, database: &str, arguments: &[&str]) {
    let mut pgbench = postgres.program("pgbench", database);
    headwater_tests::installation::output(pgbench.args(arguments));
}

fn inserts(sql: &Session, rows: u64, insert: &str) -> u64 {
    statements(sql, rows, |first, last| {
        format!("{insert} from generate_series({first}::bigint, {last}::bigint) g")
    })
}

/// One transaction for each thousand rows; the number of rows.
fn statements(sql: &Session, rows: u64, statement: impl Fn(u64, u64) -> String) -> u64 {
    let transactions = (rows / TRANSACTION).max(1);
    for transaction in 0..transactions {
        let first = transaction * TRANSACTION + 1;
        sql.run(&statement(first, first + TRANSACTION - 1));
    }
    transactions * TRANSACTION
}
