//! Alerts and dashboard as Prometheus itself reads them.

use std::process::Command;

use headwater_tests::installation::{output, promtool, workspace};
use serde_json::{Value, json};

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path)).unwrap()
}

#[track_caller]
fn promtool_takes(arguments: &[&str]) -> String {
    output(
        Command::new(promtool())
            .args(arguments)
            .current_dir(workspace()),
    )
}

/// The names behind a key, one a line.
fn named<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let lines = text
        .lines()
        .filter_map(|line| line.split_once(&*format!("{key}: ")));
    let names = lines.map(|(_, rest)| rest.split([',', '}']).next().unwrap_or_default());
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn each_alert_is_raised_by_what_it_is_about_and_by_nothing_else() {
    promtool_takes(&[
        "check",
        "rules",
        "--lint=all",
        "--lint-fatal",
        "docs/alerts.yml",
    ]);
    promtool_takes(&["test", "rules", "tests/alerts/alerts.yml"]);
    let (alerts, tried) = (read("docs/alerts.yml"), read("tests/alerts/alerts.yml"));
    assert_eq!(named(&tried, "alertname"), named(&alerts, "alert"));
}

#[test]
fn prometheus_can_be_asked_all_that_the_dashboard_asks() {
    let dashboard: Value = serde_json::from_str(&read("docs/grafana/headwater.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    // What Grafana puts in.
    let asked = |target: &Value| {
        let text = target["expr"].as_str().unwrap();
        let text = text.replace("$__rate_interval", "1m");
        text.replace("$job", "headwater").replace("$instance", ".*")
    };
    let rules: Vec<Value> = targets
        .enumerate()
        .map(|(number, target)| json!({"record": format!("r{number}"), "expr": asked(target)}))
        .collect();
    let count = rules.len();
    assert!(count > 20, "{count} questions");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    // JSON is YAML.
    let rules = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    std::fs::write(&file, rules.to_string()).unwrap();
    let told = promtool_takes(&["check", "rules", file.to_str().unwrap()]);
    assert!(told.contains(&format!("{count} rules found")), "{told}");
}
