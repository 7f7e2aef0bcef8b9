//! The text that Prometheus reads, in both of its formats.
//!
//! OpenMetrics (the specification's 1.0 text format) and Prometheus' older format (0.0.4) differ in
//! little: where a counter's samples are called `x_total`, OpenMetrics calls the counter `x`, it
//! knows units and the type `info`, and ends with `# EOF`. Who scrapes says in `Accept` what it reads; who
//! says nothing, a person with curl for one, gets the older one.

use std::fmt::Write;

use super::table::{Kind, Metric};

/// Which of the formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// The one that an `Accept` header asks for.
    pub(super) fn accepted(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A number of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Whole(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Real(number)
    }
}

impl From<bool> for Value {
    fn from(holds: bool) -> Self {
        Value::Whole(u64::from(holds))
    }
}

/// Writes the samples of one metric after the other.
pub(super) struct Samples {
    format: Format,
    text: String,
    metric: &'static Metric,
    /// The metric has samples, and so its head.
    begun: bool,
}

impl Samples {
    /// The page of `metrics`; `read` has one of them hand out its samples.
    pub(super) fn page(
        format: Format,
        metrics: impl Iterator<Item = &'static Metric>,
        read: impl Fn(&'static Metric, &mut Samples),
    ) -> String {
        let mut text = String::new();
        for metric in metrics {
            let mut samples = Samples {
                format,
                text,
                metric,
                begun: false,
            };
            read(metric, &mut samples);
            text = samples.text;
        }
        if format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }

    /// The one sample of a metric without labels.
    pub(super) fn put(&mut self, value: impl Into<Value>) {
        self.put_with(&[], value);
    }

    /// One that is known at times only.
    pub(super) fn put_if_known(&mut self, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(value);
        }
    }

    /// One with values of the metric's labels, in their order.
    pub(super) fn put_with(&mut self, labels: &[&str], value: impl Into<Value>) {
        debug_assert_eq!(
            labels.len(),
            self.metric.labels.len(),
            "{}",
            self.metric.name
        );
        if !std::mem::replace(&mut self.begun, true) {
            self.head();
        }
        let text = &mut self.text;
        text.push_str(self.metric.name);
        for (index, (label, value)) in self.metric.labels.iter().zip(labels).enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            text.push_str(label);
            text.push_str("=\"");
            push_escaped(text, value);
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        // Writing to a String cannot fail.
        let _ = match value.into() {
            Value::Whole(number) => writeln!(text, " {number}"),
            Value::Real(number) => writeln!(text, " {number}"),
        };
    }

    fn head(&mut self) {
        let metric = self.metric;
        let (family, kind) = match self.format {
            Format::OpenMetrics => (metric.family(), metric.kind.name()),
            Format::Prometheus if metric.kind == Kind::Info => (metric.name, "gauge"),
            Format::Prometheus => (metric.name, metric.kind.name()),
        };
        let text = &mut self.text;
        let _ = writeln!(text, "# HELP {family} {}", metric.meaning);
        let _ = writeln!(text, "# TYPE {family} {kind}");
        if self.format == Format::OpenMetrics && !metric.unit.is_empty() {
            let _ = writeln!(text, "# UNIT {family} {}", metric.unit);
        }
    }
}

/// A label's value between quotes.
fn push_escaped(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static COUNTER: Metric = Metric {
        name: "a_bytes_total",
        kind: Kind::Counter,
        unit: "bytes",
        labels: &["table"],
        meaning: "Bytes of a.",
        read: |_, _| (),
    };
    static GAUGE: Metric = Metric {
        name: "b_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        meaning: "Seconds of b.",
        read: |_, _| (),
    };
    static INFO: Metric = Metric {
        name: "c_info",
        kind: Kind::Info,
        unit: "",
        labels: &["x", "y"],
        meaning: "Facts of c.",
        read: |_, _| (),
    };
    static ABSENT: Metric = Metric {
        name: "d",
        ..GAUGE_WITHOUT_UNIT
    };
    const GAUGE_WITHOUT_UNIT: Metric = Metric {
        name: "",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        meaning: "Nothing.",
        read: |_, _| (),
    };

    fn page(format: Format) -> String {
        Samples::page(
            format,
            [&COUNTER, &GAUGE, &INFO, &ABSENT].into_iter(),
            |metric, samples| match metric.name {
                "a_bytes_total" => {
                    samples.put_with(&["s.\"t\\\n"], 7_u64);
                    samples.put_with(&["s.u"], u64::MAX);
                }
                "b_seconds" => samples.put(0.25),
                "c_info" => samples.put_with(&["1", "2"], true),
                _ => samples.put_if_known(None::<u64>),
            },
        )
    }

    #[test]
    fn openmetrics_names_families_and_units_and_ends() {
        assert_eq!(
            page(Format::OpenMetrics),
            "# HELP a_bytes Bytes of a.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n\
             a_bytes_total{table=\"s.\\\"t\\\\\\n\"} 7\n\
             a_bytes_total{table=\"s.u\"} 18446744073709551615\n\
             # HELP b_seconds Seconds of b.\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\n\
             b_seconds 0.25\n\
             # HELP c Facts of c.\n# TYPE c info\nc_info{x=\"1\",y=\"2\"} 1\n# EOF\n"
        );
    }

    #[test]
    fn the_older_format_names_samples_alone() {
        assert_eq!(
            page(Format::Prometheus),
            "# HELP a_bytes_total Bytes of a.\n# TYPE a_bytes_total counter\n\
             a_bytes_total{table=\"s.\\\"t\\\\\\n\"} 7\n\
             a_bytes_total{table=\"s.u\"} 18446744073709551615\n\
             # HELP b_seconds Seconds of b.\n# TYPE b_seconds gauge\nb_seconds 0.25\n\
             # HELP c_info Facts of c.\n# TYPE c_info gauge\nc_info{x=\"1\",y=\"2\"} 1\n"
        );
    }

    #[test]
    fn who_scrapes_gets_what_it_reads() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Prometheus);
        assert_eq!(Format::accepted(""), Format::Prometheus);
    }
}
