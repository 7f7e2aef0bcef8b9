//! Dashboard, alerts and the page about them name metrics that there are, and all of them.

#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use headwater::metrics::metrics;
use serde_json::Value;

const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

fn read(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("docs/{name}: {error}"))
}

/// What reads as a metric's name.
fn named(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    words
        .filter(|word| word.starts_with("headwater_") || word.starts_with("process_"))
        .collect()
}

fn known() -> BTreeSet<&'static str> {
    metrics().map(|metric| metric.name).collect()
}

#[test]
fn whatever_is_named_as_a_metric_is_one() {
    let known = known();
    for page in ["grafana/headwater.json", "alerts.yml", "monitoring.md"] {
        let text = read(page);
        let unknown: Vec<_> = named(&text).difference(&known).copied().collect();
        assert!(unknown.is_empty(), "docs/{page} names {unknown:?}");
    }
}

#[test]
fn the_dashboard_shows_every_metric_with_its_unit() {
    let text = read("grafana/headwater.json");
    let dashboard: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut shown = BTreeSet::new();
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    for panel in panels.filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap_or_default();
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap_or_default();
            let names = named(expression);
            assert!(!names.is_empty(), "{title}: {expression}");
            let is_rate = expression.contains("rate(");
            for name in &names {
                if unit == Some("bytes") || unit == Some("Bps") {
                    let is_bytes = name.contains("_bytes") || *name == "headwater_build_info";
                    assert!(is_bytes, "{title}: {name} in bytes");
                }
                assert_eq!(
                    unit == Some("Bps"),
                    is_rate && name.contains("_bytes"),
                    "{title}"
                );
            }
            shown.extend(names.into_iter().map(str::to_owned));
        }
    }
    let missing: Vec<_> = known()
        .into_iter()
        .filter(|name| !shown.contains(*name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn each_alert_leads_to_a_section_that_says_what_to_do() {
    let alerts = read("alerts.yml");
    let page = read("monitoring.md");
    let headings = page.lines().filter_map(|line| {
        line.strip_prefix("### ")
            .or_else(|| line.strip_prefix("## "))
    });
    let anchors: Vec<String> = headings
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let count = |key: &str| {
        let lines = alerts
            .lines()
            .map(|line| line.trim_start_matches([' ', '-']));
        lines.filter(|line| line.starts_with(key)).count()
    };
    let rules = count("alert: ");
    assert!(rules > 5);
    for key in [
        "expr: ",
        "severity: ",
        "summary: ",
        "description: ",
        "runbook_url: ",
    ] {
        assert_eq!(count(key), rules, "each alert has one {key}");
    }
    let base = format!("{REPOSITORY}/blob/main/docs/monitoring.md#");
    for line in alerts.lines().filter(|line| line.contains("runbook_url: ")) {
        let url = line.split("runbook_url: ").nth(1).unwrap_or_default();
        let anchor = url.strip_prefix(&base);
        assert!(
            anchor.is_some_and(|anchor| anchors.iter().any(|it| it == anchor)),
            "{url}: none of {anchors:?}"
        );
    }
}
