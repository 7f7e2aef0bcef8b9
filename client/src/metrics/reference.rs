//! The reference page `docs/metrics.md`, from the table.

use std::fmt::Write;

use super::table::GROUPS;

/// The page, whole.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    for group in GROUPS {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {}\n\n", group.title);
        if !group.about.is_empty() {
            let _ = writeln!(text, "{}\n", group.about);
        }
        text.push_str("| metric | type | labels | |\n|---|---|---|---|\n");
        for metric in group.metrics {
            let labels: Vec<String> = metric.labels.iter().map(|it| format!("`{it}`")).collect();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                metric.name,
                metric.kind.name(),
                labels.join(", "),
                metric.meaning
            );
        }
    }
    text
}

const HEAD: &str = "\
<!-- Generated from client/src/metrics/table.rs. HEADWATER_BLESS=1 cargo test -p headwater rewrites it. -->

# Metrics

What `headwater stream --metrics ADDR` tells at `/metrics`, in Prometheus' text format or, for those
who ask for it in `Accept`, in OpenMetrics. [Monitoring](monitoring.md) says how to scrape it, what
the probes mean, and what to be woken for. Units are bytes and seconds, and part of the names. A metric of
which nothing is known is absent, not 0. None holds a value of a row.
";
