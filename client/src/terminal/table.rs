//! Tables: columns under headings, two spaces apart, as wide as what they hold.

use anstyle::Style;

use super::{HEADING, cut, plain, width};

/// Between two columns.
const GAP: &str = "  ";

/// To what a column may be made narrower, if it may.
const LEAST: usize = 6;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    heading: &'static str,
    is_number: bool,
    gives_way: bool,
}

impl Column {
    /// Of words, to the left.
    pub const fn words(heading: &'static str) -> Self {
        Column {
            heading,
            is_number: false,
            gives_way: false,
        }
    }

    /// Of numbers, to the right.
    pub const fn numbers(heading: &'static str) -> Self {
        Column {
            is_number: true,
            ..Column::words(heading)
        }
    }

    /// Of words that are cut where the table would be too wide: names.
    pub const fn names(heading: &'static str) -> Self {
        Column {
            gives_way: true,
            ..Column::words(heading)
        }
    }
}

/// What stands in a column of a row.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Text in a style.
    pub fn new(style: Style, text: &str) -> Self {
        Cell {
            text: plain(text).into_owned(),
            style,
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::new(Style::new(), text.as_ref())
    }
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// One without rows.
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Table {
            columns: columns.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells beyond the columns are not shown.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// Its lines, without their ends: the headings first. Names are cut where they would be
    /// wider than `columns` otherwise.
    pub fn lines(&self, columns: usize) -> Vec<String> {
        let widths = self.widths(columns);
        let headings: Vec<Cell> = self
            .columns
            .iter()
            .map(|column| Cell::new(HEADING, column.heading))
            .collect();
        std::iter::once(&headings)
            .chain(&self.rows)
            .map(|row| self.line(row, &widths))
            .collect()
    }

    fn widths(&self, columns: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .map(|column| width(column.heading))
            .collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(&cell.text));
            }
        }
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        let room = columns.saturating_sub(gaps);
        while widths.iter().sum::<usize>() > room {
            let widest = widths
                .iter_mut()
                .zip(&self.columns)
                .filter(|(width, column)| column.gives_way && **width > LEAST)
                .map(|(width, _)| width)
                .max();
            match widest {
                Some(width) => *width -= 1,
                None => break,
            }
        }
        widths
    }

    fn line(&self, row: &[Cell], widths: &[usize]) -> String {
        let mut line = String::new();
        let mut blanks = 0;
        for ((column, cell), columns) in self.columns.iter().zip(row).zip(widths) {
            let text = cut(&cell.text, *columns);
            let rest = columns.saturating_sub(width(&text));
            let (before, after) = match column.is_number {
                true => (rest, 0),
                false => (0, rest),
            };
            line.extend(std::iter::repeat_n(' ', blanks + before));
            let style = cell.style;
            line.push_str(&format!("{style}{text}{style:#}"));
            // Nothing trails the last column.
            blanks = after + GAP.len();
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::{COLUMNS, FAIL};

    fn text(table: &Table, columns: usize) -> Vec<String> {
        let lines = table.lines(columns).into_iter();
        lines
            .map(|line| anstream::adapter::strip_str(&line).to_string())
            .collect()
    }

    #[test]
    fn words_stand_left_and_numbers_right() {
        let mut table = Table::new([
            Column::names("SLOT"),
            Column::numbers("LAG"),
            Column::words("STATE"),
        ]);
        table.row([
            "headwater".into(),
            "12 MB".into(),
            Cell::new(FAIL, "inactive"),
        ]);
        table.row(["b".into(), "9 bytes".into(), "streaming".into()]);
        assert_eq!(
            text(&table, COLUMNS),
            [
                "SLOT           LAG  STATE",
                "headwater    12 MB  inactive",
                "b          9 bytes  streaming",
            ]
        );
        assert!(table.lines(COLUMNS)[1].ends_with(&format!("{FAIL}inactive{FAIL:#}")));
    }

    #[test]
    fn names_are_cut_until_the_table_fits() {
        let mut table = Table::new([
            Column::names("SLOT"),
            Column::names("DATABASE"),
            Column::numbers("LAG"),
        ]);
        table.row(["s".repeat(63), "d".repeat(63), "1,234 bytes".to_owned()].map(Cell::from));
        for columns in [COLUMNS, 40] {
            let lines = text(&table, columns);
            assert_eq!(width(&lines[1]), columns, "{lines:#?}");
            assert!(lines[1].ends_with("…  1,234 bytes"), "{lines:#?}");
        }
    }

    #[test]
    fn a_name_with_a_line_break_takes_one_line() {
        let mut table = Table::new([Column::names("TABLE")]);
        table.row(["a\nb".into()]);
        assert_eq!(text(&table, COLUMNS), ["TABLE", "a\\nb"]);
    }
}
