//! What allows the client more in Kafka.

use super::finding::Finding;
use crate::kafka::{KafkaOptions, Principal};

/// What a stream does with a topic.
pub(super) const NEEDED: &[&str] = &["Create", "Describe", "DescribeConfigs", "Read", "Write"];

/// The finding with what lets `principal` do this with a topic. A command only where it is known
/// whom it is for: a right for somebody else mends nothing, and one for `ANONYMOUS` is one for
/// everybody.
pub(super) fn cured(
    finding: Finding,
    cluster: &KafkaOptions,
    principal: &Principal,
    topic: &str,
    operations: &[&str],
) -> Finding {
    let allow = |name: &str| {
        let principal = crate::shell::quoted(&format!("User:{name}"));
        let operations: Vec<String> = operations
            .iter()
            .map(|operation| format!("--operation {operation}"))
            .collect();
        let arguments = format!(
            "--add --allow-principal {principal} {} --topic {topic}",
            operations.join(" ")
        );
        cluster.tool("kafka-acls.sh", &arguments)
    };
    let ask = |why: &str| {
        format!(
            "Allow {} on topic {topic} (kafka-acls.sh) to the client's principal: {why}.",
            operations.join(", ")
        )
    };
    match principal {
        Principal::Named(name) => finding.cured_by_tool(&allow(name)),
        Principal::Anonymous => finding.cured_by_tool(&allow("ANONYMOUS")).and_hint(
            "ANONYMOUS is everybody who does not log in. Or give the client a login, with -X \
             security.protocol and what belongs to it.",
        ),
        Principal::OfCertificate => finding.with_hint(ask(
            "the subject of its certificate, as the brokers' ssl.principal.mapping.rules have it",
        )),
        Principal::OfLogin => finding.with_hint(ask("the brokers' authorizer logs it")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_right_is_given_by_name_or_not_at_all() {
        let cured = |principal| {
            let finding = Finding::fail("forbidden");
            let cluster = KafkaOptions::of("one:9092", &[]);
            cured(finding, &cluster, &principal, "shop.items", &["Write"])
        };
        for (principal, user) in [
            (Principal::Named("a shop".to_owned()), "'User:a shop'"),
            (Principal::Anonymous, "User:ANONYMOUS"),
        ] {
            let text = cured(principal).cure.unwrap().text;
            let command = format!(
                "kafka-acls.sh --bootstrap-server one:9092 --add --allow-principal {user} --operation \
                 Write --topic shop.items"
            );
            assert_eq!(text, command);
        }
        for principal in [Principal::OfCertificate, Principal::OfLogin] {
            let finding = cured(principal.clone());
            assert_eq!(finding.cure, None, "{principal:?}");
            let hint = finding.hint.unwrap();
            assert!(hint.contains("Allow Write on topic shop.items"), "{hint}");
        }
    }
}
