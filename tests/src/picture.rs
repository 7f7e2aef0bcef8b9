//! A picture of a terminal's screen, as SVG: what the emulator shows, cell by cell.
//!
//! Text stays text, so that the picture is small, sharp at any size, and can be searched. Each
//! run of cells is told how wide it is, so that columns stay columns whatever font a reader has.

use std::fmt::Write;

use vt100::{Cell, Color, Screen};

/// Pixels of a cell.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 19.0;

/// Around the screen.
const MARGIN: f64 = 16.0;

const BACKGROUND: &str = "#1b1f27";
const FOREGROUND: &str = "#d5d9e0";
const DIM: &str = "#8b93a1";

/// The eight colours and their bright kin, as they are read on [`BACKGROUND`].
const COLOURS: [&str; 16] = [
    "#3b4252", "#f2777a", "#98c379", "#e5c07b", "#7aa6f2", "#c792ea", "#5ac8d8", "#d5d9e0",
    "#5c6370", "#ff8f92", "#b5e890", "#ffd98f", "#9dc0ff", "#dcb0ff", "#86e0ee", "#ffffff",
];

/// How a run of cells looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    colour: &'static str,
    is_bold: bool,
}

/// The screen down to its last line with text. `title` is for who cannot see it.
pub fn svg(screen: &Screen, title: &str) -> String {
    let (rows, columns) = screen.size();
    let lines: Vec<String> = screen
        .rows(0, columns.get())
        .take(rows.get().into())
        .collect();
    let used = lines.iter().rposition(|line| !line.trim().is_empty());
    let used = used.map_or(1, |last| last + 1);
    let width = f64::from(columns.get()) * WIDTH + 2.0 * MARGIN;
    let height = used as f64 * HEIGHT + 2.0 * MARGIN;
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n\
         <title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" \
         font-size=\"14\" xml:space=\"preserve\">",
        escaped(title)
    );
    for row in 0..u16::try_from(used).unwrap_or(rows.get()) {
        for (column, text, cells, look) in runs(screen, row, columns.get()) {
            let x = MARGIN + f64::from(column) * WIDTH;
            let y = MARGIN + f64::from(row) * HEIGHT + 0.75 * HEIGHT;
            let bold = if look.is_bold {
                " font-weight=\"bold\""
            } else {
                ""
            };
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
                 fill=\"{}\"{bold}>{}</text>",
                f64::from(cells) * WIDTH,
                look.colour,
                escaped(&text)
            );
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// Cells that look alike, without blanks at their ends: where they begin, what they say, and
/// how many there are.
fn runs(screen: &Screen, row: u16, columns: u16) -> Vec<(u16, String, u16, Look)> {
    let mut runs: Vec<(u16, String, u16, Look)> = Vec::new();
    let mut blanks: u16 = 0;
    for column in 0..columns {
        let cell = screen.cell(row, column).filter(|cell| cell.has_contents());
        let Some(cell) = cell.filter(|cell| cell.contents() != " ") else {
            blanks += 1;
            continue;
        };
        let look = look(cell);
        match runs.last_mut() {
            // Words of one look are one run; two columns of a table are two.
            Some((_, text, cells, last)) if *last == look && blanks <= 1 => {
                text.extend(std::iter::repeat_n(' ', blanks.into()));
                text.push_str(cell.contents());
                *cells += blanks + 1;
            }
            _ => runs.push((column, cell.contents().to_owned(), 1, look)),
        }
        blanks = 0;
    }
    runs
}

fn look(cell: &Cell) -> Look {
    let colour = match cell.fgcolor() {
        Color::Idx(index) => COLOURS.get(usize::from(index)).copied(),
        Color::Default | Color::Rgb(..) => None,
    };
    Look {
        colour: colour.unwrap_or(if cell.dim() { DIM } else { FOREGROUND }),
        is_bold: cell.bold(),
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}
