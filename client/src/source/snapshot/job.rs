//! Cuts tables into ranges of pages that several sessions copy at once.

use crate::source::catalog::Table;

/// Pages of one job: 32 MiB of 8 KiB pages. Small enough that a single big table
/// keeps every session busy to the end, large enough that the statement around it
/// costs nothing.
const JOB_PAGES: u64 = 4096;

/// A part of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// The table's index in the list that was planned.
    pub table: usize,
    first_page: u64,
    /// Absent for the last part: the table may have grown since it was measured.
    end_page: Option<u64>,
}

impl Job {
    /// The condition on the table's rows, whose alias is `t`; empty for all of them.
    pub(super) fn condition(&self) -> String {
        let lower = (self.first_page > 0).then(|| format!("t.ctid >= '({},0)'", self.first_page));
        let upper = self.end_page.map(|end| format!("t.ctid < '({end},0)'"));
        let bounds: Vec<String> = lower.into_iter().chain(upper).collect();
        if bounds.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", bounds.join(" AND "))
        }
    }
}

/// The jobs for tables, the largest table first, so that no session is left alone
/// with it at the end.
pub(super) fn plan<'a>(tables: impl Iterator<Item = &'a Table>) -> Vec<Job> {
    let mut sizes: Vec<(usize, u64)> = tables.map(|table| table.pages).enumerate().collect();
    sizes.sort_by_key(|(_, pages)| std::cmp::Reverse(*pages));
    sizes
        .into_iter()
        .flat_map(|(table, pages)| {
            let parts = pages.div_ceil(JOB_PAGES).max(1);
            (0..parts).map(move |part| Job {
                table,
                first_page: part * JOB_PAGES,
                end_page: (part + 1 < parts).then_some((part + 1) * JOB_PAGES),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::catalog::TableName;

    fn table(pages: u64) -> Table {
        Table {
            oid: 1,
            schema: "public".to_owned(),
            name: "t".to_owned(),
            sent_as: TableName {
                schema: "public".to_owned(),
                table: "t".to_owned(),
            },
            ancestors: Vec::new(),
            is_keyed: true,
            old_rows_have_key: true,
            can_leave_unchanged: false,
            pages,
            estimated_rows: None,
        }
    }

    fn conditions(pages: u64) -> Vec<String> {
        plan([table(pages)].iter())
            .iter()
            .map(Job::condition)
            .collect()
    }

    #[test]
    fn a_small_table_is_one_job_without_bounds() {
        for pages in [0, 1, JOB_PAGES] {
            assert_eq!(conditions(pages), [""], "{pages} pages");
        }
    }

    #[test]
    fn the_parts_of_a_table_join_without_gap_and_the_last_is_open() {
        assert_eq!(
            conditions(2 * JOB_PAGES + 1),
            [
                " WHERE t.ctid < '(4096,0)'",
                " WHERE t.ctid >= '(4096,0)' AND t.ctid < '(8192,0)'",
                " WHERE t.ctid >= '(8192,0)'",
            ]
        );
    }

    #[test]
    fn the_largest_table_comes_first() {
        let tables = [table(1), table(JOB_PAGES * 2), table(7)];
        let order: Vec<usize> = plan(tables.iter()).iter().map(|job| job.table).collect();
        assert_eq!(order, [1, 1, 2, 0]);
    }
}
