//! Commands of Kafka's own tools, as a person runs them who administers the cluster.

use std::fmt;

use super::KafkaOptions;

/// The file of properties that the tools are given where not everybody is let in.
const ADMINISTRATOR: &str = "admin.properties";

/// A command of Kafka's tools. In a sentence it stands with what there is to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolCommand {
    line: String,
    logs_in: bool,
}

impl KafkaOptions {
    /// A tool with how the cluster is reached. Where clients log in, or come by TLS, so does whoever
    /// administers it, and the tools have from a file how.
    pub(crate) fn tool(&self, tool: &str, arguments: &str) -> ToolCommand {
        let logs_in = self.property("security.protocol").is_some()
            && !self.is("security.protocol", "plaintext");
        let login = match logs_in {
            true => format!(" --command-config {ADMINISTRATOR}"),
            false => String::new(),
        };
        let brokers = crate::shell::quoted(&self.brokers);
        ToolCommand {
            line: format!("{tool} --bootstrap-server {brokers}{login} {arguments}"),
            logs_in,
        }
    }

    /// Gives a topic a setting. The value may go on with `,` and another setting.
    pub(crate) fn configuring(&self, topic: &str, setting: &str, value: &str) -> ToolCommand {
        let arguments = format!(
            "--alter --entity-type topics --entity-name {topic} --add-config {setting}={value}"
        );
        self.tool("kafka-configs.sh", &arguments)
    }

    /// Has a topic take batches of `bytes`.
    pub(crate) fn raising(&self, topic: &str, bytes: u64) -> ToolCommand {
        self.configuring(topic, "max.message.bytes", &bytes.to_string())
    }
}

impl ToolCommand {
    /// The command alone, to be run as it is.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    /// What a file is for that it names.
    pub(crate) fn note(&self) -> Option<String> {
        let note =
            || format!("{ADMINISTRATOR} says how somebody logs in who administers the cluster");
        self.logs_in.then(note)
    }
}

impl fmt::Display for ToolCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)?;
        match self.note() {
            Some(note) => write!(f, " ({note})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_clients_log_in_so_do_the_tools() {
        let raised = |properties: &[(&str, &str)]| {
            KafkaOptions::of("one:9092", properties).raising("test", 2000)
        };
        let behind = "--alter --entity-type topics --entity-name test --add-config \
                      max.message.bytes=2000";
        let plain = format!("kafka-configs.sh --bootstrap-server one:9092 {behind}");
        for properties in [&[][..], &[("security.protocol", "PLAINTEXT")]] {
            let command = raised(properties);
            assert_eq!(command.line(), plain);
            assert_eq!(command.to_string(), plain);
        }
        let login = format!(
            "kafka-configs.sh --bootstrap-server one:9092 --command-config admin.properties {behind}"
        );
        for protocol in ["ssl", "SASL_PLAINTEXT", "sasl_ssl"] {
            let command = raised(&[("security.protocol", protocol)]);
            assert_eq!(command.line(), login);
            assert_eq!(
                command.to_string(),
                format!(
                    "{login} (admin.properties says how somebody logs in who administers the cluster)"
                )
            );
        }
    }
}
