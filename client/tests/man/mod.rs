//! The pages of the manual, one a command: what `--help` says, as `man` shows it.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::Command;
use clap_mangen::Man;
use headwater::cli;

/// Pages by their file names.
pub(crate) fn pages() -> Vec<(String, String)> {
    let mut root = cli::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    add(&root, &mut pages);
    pages
}

fn add(command: &Command, pages: &mut Vec<(String, String)>) {
    let name = command.get_display_name().unwrap_or(command.get_name());
    pages.push((format!("{name}.1"), page(name, command)));
    for subcommand in command.get_subcommands() {
        add(subcommand, pages);
    }
}

fn page(name: &str, command: &Command) -> String {
    // What stands behind the help is a section of its own here.
    let body = command.clone().name(name.to_owned()).after_help("");
    let man = Man::new(body)
        .manual("Headwater")
        .source(concat!("headwater ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    let rendered = man
        .render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| page.write_all(synopsis(command).as_bytes()))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| match command.get_arguments().next() {
            Some(_) => man.render_options_section(&mut page),
            None => Ok(()),
        })
        .and_then(|()| match command.get_subcommands().next() {
            Some(_) => man.render_subcommands_section(&mut page),
            None => Ok(()),
        });
    rendered.unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut page = String::from_utf8(page).unwrap_or_else(|error| panic!("{name}: {error}"));
    page = once(&page);
    if let Some(text) = command.get_after_help() {
        page.push_str(&sections(&text.to_string()));
    }
    page.push_str(SEE_ALSO);
    in_ascii(&page)
}

/// Anything else is read by whoever knows its encoding, which groff by itself does not.
fn in_ascii(page: &str) -> String {
    let mut ascii = String::with_capacity(page.len());
    for c in page.chars() {
        match c.is_ascii() {
            true => ascii.push(c),
            // Writing to a String cannot fail.
            false => {
                let _ = write!(ascii, "\\[u{:04X}]", u32::from(c));
            }
        }
    }
    ascii
}

/// The usage as help has it: every option by its name would be a page of its own.
fn synopsis(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    format!(".SH SYNOPSIS\n{}\n", escaped(usage))
}

/// Each section begins with the definition of the apostrophe: one is enough.
fn once(page: &str) -> String {
    const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";
    format!("{APOSTROPHE}{}", page.replace(APOSTROPHE, ""))
}

/// `Heading: text`, or a heading and indented lines, which stay as they are.
fn sections(text: &str) -> String {
    let mut page = String::new();
    for paragraph in text.split("\n\n") {
        let (heading, lines) = paragraph.split_once(':').unwrap_or(("Notes", paragraph));
        // Writing to a String cannot fail.
        let _ = writeln!(page, ".SH {}", heading.to_uppercase());
        match lines.strip_prefix('\n') {
            Some(lines) => {
                page.push_str(".nf\n");
                for line in lines.lines() {
                    let _ = writeln!(page, "{}", escaped(line.trim_start()));
                }
                page.push_str(".fi\n");
            }
            None => {
                let _ = writeln!(page, "{}", escaped(lines.trim()));
            }
        }
    }
    page
}

/// A line that roff takes as it is.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\\\").replace('-', "\\-");
    match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line,
    }
}

const SEE_ALSO: &str = "\
.SH \"SEE ALSO\"
\\fBheadwater\\fR(1), \\fBpsql\\fR(1), \\fBpg_recvlogical\\fR(1); the reference of settings,
docs/configuration.md.
";
