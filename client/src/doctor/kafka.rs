//! The brokers, and each topic that a stream would write to: found as it should be, or to be made.
//!
//! Nothing is written, so nobody is told whether he may write: Kafka answers that only with the
//! first record. What can be asked without is: to describe a topic and its configuration, and
//! whether it could be created.

use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer};

use super::acl;
use super::check::Check;
use super::examination::Examination;
use super::finding::{Cure, Finding};
use super::words::{count, some_of};
use crate::assemble;
use crate::cli::{ErrorMode, SinkKind};
use crate::error::{Error, Result};
use crate::kafka::{
    Connection, Inspection, KafkaOptions, Misfit, NoCreation, Principal, Purpose, TopicMaker,
    Watch, producer, record_limit,
};
use crate::sink::Keying;
use crate::state::STATE_TOPIC;
use crate::terminal::bytes;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "brokers",
        title: "the brokers answer, and take the login",
        cure: "`--brokers`, or properties by `-X`",
        look: brokers,
    },
    Check {
        id: "topics",
        title: "each topic is there and may be used, or the cluster would let the client make it: those \
                of tables, of dead letters and of messages where they are asked for, and the state's",
        cure: "`kafka-topics.sh`, or `kafka-acls.sh`",
        look: topics,
    },
    Check {
        id: "cleanup_policy",
        title: "topics of rows are compacted, those of messages and of rows without key are not",
        cure: "`kafka-configs.sh`",
        look: cleanup_policy,
    },
    Check {
        id: "message_size",
        title: "topics take batches as large as the producer makes them: `max.message.bytes`, \
                `segment.bytes`",
        cure: "`kafka-configs.sh`, or a smaller `-X batch.size`",
        look: message_size,
    },
    Check {
        id: "partitions",
        title: "topics have the partitions that `--topic-partitions` asks for; existing ones keep theirs",
        cure: "`--topic-partitions`",
        look: partitions,
    },
    Check {
        id: "replicas",
        title: "partitions have a leader, and enough replicas in sync for `min.insync.replicas`: with \
                less, a record is not acknowledged",
        cure: "`kafka-configs.sh`, or the brokers that are away",
        look: replicas,
    },
    Check {
        id: "acls",
        title: "the client may describe the topics' configuration, without which it assumes limits; \
                whether it may write is told by the first record alone",
        cure: "`kafka-acls.sh`",
        look: acls,
    },
];

/// A cluster that answers.
pub(super) struct Cluster {
    options: KafkaOptions,
    producer: BaseProducer<Watch>,
    maker: TopicMaker,
    /// How many brokers it has.
    brokers: usize,
    /// What was seen of the topics.
    inspected: Vec<Inspection>,
    /// Why that is not all of them.
    unseen: Option<String>,
}

impl Cluster {
    /// How it is reached.
    pub(super) fn options(&self) -> &KafkaOptions {
        &self.options
    }

    /// Whether the state's topic is there. To read it makes a topic of Kafka's own, that of
    /// consumers' offsets, where there is none.
    pub(super) fn has_state(&self) -> bool {
        self.existing().any(|topic| topic.purpose == Purpose::State)
    }

    /// The finding with what gives a topic a setting.
    fn configured(&self, finding: Finding, topic: &str, setting: &str, value: &str) -> Finding {
        finding.cured_by_tool(&self.options.configuring(topic, setting, value))
    }

    /// The finding with what lets the client do this with a topic.
    fn allowing(&self, finding: Finding, topic: &str, operations: &[&str]) -> Finding {
        let connection = &self.producer.context().0;
        let principal = Principal::of(&self.options, connection.login());
        acl::cured(finding, &self.options, &principal, topic, operations)
    }

    /// Why not all of the topics' configuration was seen.
    fn undescribed(&self) -> Option<String> {
        self.unseen
            .clone()
            .or_else(|| without_settings(&self.inspected))
    }

    /// The topics that exist.
    fn existing(&self) -> impl Iterator<Item = &Inspection> {
        let inspected = self.inspected.iter();
        inspected.filter(|topic| topic.partitions.is_some())
    }
}

/// Whether the stream goes into Kafka at all. Where it does not there is nothing to say of it.
fn is_needed(exam: &Examination<'_>) -> bool {
    exam.options.sink == SinkKind::Kafka
}

fn brokers(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    if !is_needed(exam) {
        return Ok(vec![Finding::ok("--sink stdout needs none")]);
    }
    let options = assemble::kafka_options(exam.options);
    let reached = Connection::silent(&options).and_then(|connection| {
        let watch = Watch(Arc::new(connection));
        producer(
            &options.producer_config()?,
            watch,
            |watch| &watch.0,
            STATE_TOPIC,
        )
    });
    let producer = match reached {
        Ok(producer) => producer,
        Err(error) => return Ok(vec![Finding::refusal(&error)]),
    };
    // About one topic, any: all of them may be many.
    let metadata = producer
        .client()
        .fetch_metadata(Some(STATE_TOPIC), ANSWER)
        .map_err(|error| Error::failed("the brokers did not answer again").with_source(error))?;
    let brokers = metadata.brokers().len();
    let what = count(brokers, "broker answers", "brokers answer");
    let mut findings = vec![Finding::ok(format!("{what} at {}", options.brokers()))];
    findings.extend(options.exposed_logins().iter().map(Finding::warning_of));
    exam.cluster = Some(Cluster {
        maker: TopicMaker::new(&options),
        options,
        producer,
        brokers,
        inspected: Vec::new(),
        unseen: Some("the topics were not looked at".to_owned()),
    });
    Ok(findings)
}

/// How long brokers that have answered before may take.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(20);

/// The topics that a stream has from its start on.
fn wanted(exam: &Examination<'_>) -> Vec<(String, Purpose)> {
    let (options, events) = (exam.options, Purpose::Records(Keying::Events));
    let mut wanted = exam.topics.clone().unwrap_or_default();
    if options.on_error == ErrorMode::Quarantine {
        wanted.push((options.dead_letters(), events));
    }
    if options.message_topic.is_some() && exam.plugin.sends_messages() {
        wanted.push((options.messages(), events));
    }
    wanted.push((STATE_TOPIC.to_owned(), Purpose::State));
    wanted
}

/// Why the topics of tables are not among them.
fn unknown_tables(exam: &Examination<'_>) -> Option<String> {
    let what = "the topics of tables are not known";
    match (&exam.topics, exam.catalog()) {
        (Some(_), _) => None,
        (None, Ok(_)) => Some(what.to_owned()),
        (None, Err(error)) => Some(format!("{what}: {error}")),
    }
}

/// The topics whose configuration may not be described.
fn without_settings(inspected: &[Inspection]) -> Option<String> {
    let existing = inspected.iter().filter(|topic| topic.partitions.is_some());
    let unknown = existing.filter(|topic| topic.settings.is_none());
    let names: Vec<String> = unknown.map(|topic| topic.name.clone()).collect();
    let why = || {
        format!(
            "the configuration may not be described of {}",
            some_of(&names)
        )
    };
    (!names.is_empty()).then(why)
}

fn topics(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    if !is_needed(exam) {
        return Ok(Vec::new());
    }
    let cluster = exam.cluster()?;
    let unknown = unknown_tables(exam);
    let (mut inspected, mut findings, mut new) = (Vec::new(), Vec::new(), 0_usize);
    let mut unseen = Vec::new();
    for (name, purpose) in wanted(exam) {
        exam.stop.check()?;
        let looked = cluster
            .maker
            .inspect(cluster.producer.client(), &name, purpose);
        let found = match looked {
            Ok(found) => found,
            Err(error) => {
                findings.push(forbidden(cluster, &name, &error));
                unseen.push(name);
                continue;
            }
        };
        if found.partitions.is_none() {
            new += 1;
            if let Some(no) = cluster.maker.check_creation(&name, purpose)? {
                findings.push(not_to_be_made(cluster, &found, &no));
            }
        }
        inspected.push(found);
    }
    let found = inspected.len() - new;
    let found = count(found, "topic is there", "topics are there");
    let well = match new {
        0 => found,
        new => format!("{found}, {new} will be made"),
    };
    let findings = or_well(findings, unknown.clone(), &well);
    if let Some(cluster) = &mut exam.cluster {
        cluster.inspected = inspected;
        cluster.unseen = unknown.or_else(|| match unseen.is_empty() {
            true => None,
            false => Some(format!("not looked at: {}", some_of(&unseen))),
        });
    }
    Ok(findings)
}

/// A topic that is missing and that a stream could not make.
fn not_to_be_made(cluster: &Cluster, topic: &Inspection, no: &NoCreation) -> Finding {
    let finding = Finding::refusal(&no.error);
    let cure = match no.code {
        Some(RDKafkaErrorCode::InvalidReplicationFactor) => {
            Cure::option(format!("--topic-replication {}", cluster.brokers))
        }
        Some(RDKafkaErrorCode::InvalidPartitions) => Cure::option("--topic-partitions 1"),
        Some(RDKafkaErrorCode::InvalidTopic) => Cure::option("--topic-prefix headwater."),
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed,
        ) => return cluster.allowing(finding, &topic.name, acl::NEEDED),
        // Whoever asks, the cluster's policy says no.
        Some(RDKafkaErrorCode::PolicyViolation) => return finding,
        None | Some(_) => return finding.cured_by_tool(&topic.command),
    };
    finding.cured_by(cure)
}

/// A topic that the user may not even look at, with all that a stream needs of it.
fn forbidden(cluster: &Cluster, topic: &str, error: &Error) -> Finding {
    cluster.allowing(Finding::refusal(error), topic, acl::NEEDED)
}

fn cleanup_policy(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    if !is_needed(exam) {
        return Ok(Vec::new());
    }
    let cluster = exam.cluster()?;
    let mut findings = Vec::new();
    for topic in cluster.existing() {
        let settings = topic.settings.as_ref();
        let Some(policy) = settings.and_then(|it| it.cleanup_policy.as_deref()) else {
            continue;
        };
        let name = &topic.name;
        let Some(misfit) = topic.purpose.misfit(policy) else {
            continue;
        };
        let found = format!("topic \"{name}\" has cleanup.policy={policy} and");
        let finding = match misfit {
            Misfit::RefusesUnkeyed => {
                Finding::fail(format!("{found} takes no records without a key"))
            }
            Misfit::KeepsNewest => {
                Finding::warning(format!("{found} keeps the newest of each key alone"))
            }
            Misfit::Expires => Finding::warning(format!("{found} loses rows by age or size")),
        };
        let finding = cluster.configured(finding, name, "cleanup.policy", misfit.cure());
        findings.push(match misfit {
            Misfit::Expires => finding,
            Misfit::RefusesUnkeyed | Misfit::KeepsNewest => finding.and_hint(
                "With the cluster's own retention, of a week unless it is set, records that are there \
                 would be deleted by it: hence for ever. A retention.ms of the topic's own says how long.",
            ),
        });
    }
    let well = "topics keep what they are to keep";
    Ok(or_well(findings, cluster.undescribed(), well))
}

fn message_size(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    if !is_needed(exam) {
        return Ok(Vec::new());
    }
    let cluster = exam.cluster()?;
    let batch = record_limit(&cluster.options)?.batch;
    let mut least = None::<u64>;
    let mut findings = Vec::new();
    for topic in cluster.existing() {
        let Some(settings) = &topic.settings else {
            continue;
        };
        if topic.purpose == Purpose::State {
            continue;
        }
        for (setting, limit) in [
            ("max.message.bytes", settings.max_message_bytes),
            ("segment.bytes", settings.segment_bytes),
        ] {
            let Some(limit) = limit else {
                continue;
            };
            least = Some(least.map_or(limit, |least| least.min(limit)));
            if limit < batch {
                let found = format!(
                    "topic \"{}\" takes batches of up to {limit} bytes ({setting}), and the producer \
                     makes them of up to {batch} (batch.size)",
                    topic.name
                );
                let finding = Finding::fail(found);
                let finding = cluster.configured(finding, &topic.name, setting, &batch.to_string());
                findings.push(finding.and_hint(&format!(
                    "Or make batches smaller, with -X batch.size={limit}."
                )));
            }
        }
    }
    let found = match least {
        None => "no topic is there yet that could take less".to_owned(),
        Some(least) => format!("topics take records of {} and more", bytes(least)),
    };
    Ok(or_well(findings, cluster.undescribed(), &found))
}

fn partitions(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    if !is_needed(exam) {
        return Ok(Vec::new());
    }
    let cluster = exam.cluster()?;
    let Some(wanted) = cluster.options.partitions else {
        let found = "existing topics keep their partitions, new ones get the cluster's default";
        return Ok(vec![Finding::ok(found)]);
    };
    let mut findings = Vec::new();
    for topic in cluster.existing() {
        let found = topic.partitions.as_ref().map_or(0, Vec::len);
        if topic.purpose == Purpose::State || usize::try_from(wanted) == Ok(found) {
            continue;
        }
        findings.push(
            Finding::warning(format!(
                "topic \"{}\" has {} and keeps them, not {wanted}",
                topic.name,
                count(found, "partition", "partitions")
            ))
            .cured_by(Cure::option(format!("--topic-partitions {found}")))
            .with_hint(
                "More partitions would send new records of a key to another one than its old ones.",
            ),
        );
    }
    let well = format!("topics have {wanted} partitions");
    Ok(or_well(findings, cluster.unseen.clone(), &well))
}

/// `min.insync.replicas` of a topic whose configuration is not known: no topic asks for less.
const LEAST_IN_SYNC: usize = 1;

fn replicas(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    if !is_needed(exam) {
        return Ok(Vec::new());
    }
    let cluster = exam.cluster()?;
    let mut findings = Vec::new();
    let mut alone = Vec::new();
    for topic in cluster.existing() {
        let (name, partitions) = (&topic.name, topic.partitions.as_deref().unwrap_or_default());
        let min = topic
            .settings
            .as_ref()
            .and_then(|it| it.min_in_sync)
            .unwrap_or(LEAST_IN_SYNC);
        let replicas = partitions.iter().map(|it| it.replicas).min().unwrap_or(0);
        let in_sync = partitions.iter().map(|it| it.in_sync).min().unwrap_or(0);
        let leaderless = partitions.iter().filter(|it| !it.has_leader).count();
        if leaderless > 0 {
            let what = count(leaderless, "partition", "partitions");
            let found = format!("topic \"{name}\" has {what} without a leader");
            findings.push(Finding::fail(found).with_hint("Start the brokers that are away."));
        } else if replicas < min {
            let found = format!(
                "topic \"{name}\" has {} and min.insync.replicas={min}: no record is acknowledged",
                count(replicas, "replica", "replicas")
            );
            let (finding, enough) = (Finding::fail(found), replicas.to_string());
            findings.push(cluster.configured(finding, name, "min.insync.replicas", &enough));
        } else if in_sync < min {
            let found = format!(
                "topic \"{name}\" has {in_sync} of {replicas} replicas in sync and \
                 min.insync.replicas={min}: no record is acknowledged"
            );
            findings.push(Finding::fail(found).with_hint("Start the brokers that are away."));
        } else if replicas == 1 && cluster.brokers > 1 {
            alone.push(name.clone());
        }
    }
    if !alone.is_empty() {
        let names = some_of(&alone);
        findings.push(
            Finding::warning(format!(
                "one replica alone, which goes with its broker: {names}"
            ))
            .with_hint("kafka-reassign-partitions.sh gives a topic more."),
        );
    }
    let well = "every partition has a leader and replicas enough";
    Ok(or_well(findings, cluster.undescribed(), well))
}

fn acls(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    if !is_needed(exam) {
        return Ok(Vec::new());
    }
    let cluster = exam.cluster()?;
    let mut findings = Vec::new();
    for topic in cluster.existing().filter(|topic| topic.settings.is_none()) {
        let found = format!(
            "topic \"{}\" may not be described: its limits are assumed, and its cleanup.policy was not \
             looked at",
            topic.name
        );
        let finding = Finding::warning(found);
        findings.push(cluster.allowing(finding, &topic.name, &["DescribeConfigs"]));
    }
    let well = "topics may be described; whether they may be written to, the first record tells";
    Ok(or_well(findings, cluster.unseen.clone(), well))
}

/// With why not everything was seen; well only where everything was, and nothing found.
fn or_well(mut findings: Vec<Finding>, unseen: Option<String>, well: &str) -> Vec<Finding> {
    findings.extend(unseen.map(Finding::skipped));
    match findings.is_empty() {
        true => vec![Finding::ok(well)],
        false => findings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn what_was_not_seen_is_not_called_well() {
        let found = |findings, unseen: Option<&str>| {
            let findings = or_well(findings, unseen.map(str::to_owned), "fine");
            let found = findings.into_iter().map(|it| (it.severity, it.found));
            found.collect::<Vec<_>>()
        };
        let ok = (Severity::Ok, "fine".to_owned());
        let warning = || (Severity::Warning, "wrong".to_owned());
        let skipped = || (Severity::Skipped, "hidden".to_owned());
        let wrong = || vec![Finding::warning("wrong")];
        assert_eq!(found(Vec::new(), None), [ok]);
        assert_eq!(found(Vec::new(), Some("hidden")), [skipped()]);
        assert_eq!(found(wrong(), None), [warning()]);
        assert_eq!(found(wrong(), Some("hidden")), [warning(), skipped()]);
    }

    #[test]
    fn a_topic_that_exists_and_may_not_be_described_is_named() {
        let topic = |name: &str, exists: bool| Inspection {
            name: name.to_owned(),
            purpose: Purpose::State,
            partitions: exists.then(Vec::new),
            settings: None,
            command: KafkaOptions::of("one:9092", &[]).tool("kafka-topics.sh", "--create"),
        };
        assert_eq!(without_settings(&[topic("new", false)]), None);
        let why = without_settings(&[topic("new", false), topic("old", true)]);
        let expected = "the configuration may not be described of old";
        assert_eq!(why.as_deref(), Some(expected));
    }
}
