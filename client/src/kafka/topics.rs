//! Topics: found, or made compacted, or refused with what to do about it.
//!
//! A topic must never come into being by the broker's auto-creation: it would expire
//! records instead of compacting them, and rows would vanish after a week. So every client
//! here asks with auto-creation off, and a missing topic is created on purpose.

mod inspect;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use headwater_protocol::topic::MAX_NAME_BYTES;

use self::inspect::Settings;
pub(crate) use self::inspect::{Inspection, NoCreation};
use super::login::Login;
use super::{KafkaOptions, ToolCommand, creation_error};
use crate::error::{Error, ErrorKind, Result, kafka};
use crate::sink::Keying;

/// How long one question may take. A controller that is being elected needs some seconds;
/// Postgres waits a minute for a sign of life.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the administrative connection is kept after its last use. Opening it takes
/// some 100 ms, and topics come in bursts: one for each table, at the start.
const ADMIN_IDLE: Duration = Duration::from_secs(5);

/// What a topic is for: it decides how the topic is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Rows: partitions as the user wants them.
    Records(Keying),
    /// The state of pipelines: one partition, rolled every hour, so that compaction keeps
    /// it short and it is read in no time at the start.
    State,
}

/// How a topic was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existence {
    /// It was there.
    Found,
    /// It is new and empty.
    Created,
}

/// A topic that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    /// How it was come by.
    pub(crate) existence: Existence,
    /// `max.message.bytes`: the size of a batch that it takes, as it is sent. None where
    /// describing the topic is not allowed.
    pub(crate) max_message_bytes: Option<u64>,
}

/// How a topic's `cleanup.policy` does not suit what the topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// It is compacted and takes no record without a key.
    RefusesUnkeyed,
    /// It is compacted and keeps the newest of what is an event each.
    KeepsNewest,
    /// It loses records by age or size, and with them rows that never change.
    Expires,
}

impl Purpose {
    /// What is wrong with this `cleanup.policy`.
    pub(crate) fn misfit(self, policy: &str) -> Option<Misfit> {
        let is_compacted = policy.split(',').any(|part| part.trim() == "compact");
        match (self, is_compacted) {
            (Purpose::Records(Keying::Unkeyed), true) => Some(Misfit::RefusesUnkeyed),
            (Purpose::Records(Keying::Events), true) => Some(Misfit::KeepsNewest),
            (Purpose::Records(Keying::Unkeyed | Keying::Events), false) | (_, true) => None,
            (Purpose::Records(Keying::Keyed) | Purpose::State, false) => Some(Misfit::Expires),
        }
    }
}

impl Misfit {
    /// The `cleanup.policy` that suits, with what keeps the records that are there: a topic that is
    /// no longer compacted expires them by the cluster's retention, of a week unless it is set.
    pub(crate) fn cure(self) -> &'static str {
        match self {
            Misfit::RefusesUnkeyed | Misfit::KeepsNewest => {
                "delete,retention.ms=-1,retention.bytes=-1"
            }
            Misfit::Expires => "compact",
        }
    }
}

/// Makes sure that topics exist.
pub(crate) struct TopicMaker {
    options: KafkaOptions,
    admin: Mutex<Option<Admin>>,
}

struct Admin {
    client: AdminClient<DefaultClientContext>,
    login: Login,
    used: Instant,
}

impl TopicMaker {
    pub(crate) fn new(options: &KafkaOptions) -> Self {
        TopicMaker {
            options: options.clone(),
            admin: Mutex::new(None),
        }
    }

    /// Makes sure that the topic exists, asking through `client`.
    ///
    /// # Errors
    /// Naming the topic, the cause and the cure.
    pub(crate) fn ensure<C: ClientContext>(
        &self,
        client: &Client<C>,
        name: &str,
        purpose: Purpose,
    ) -> Result<Topic> {
        check_name(name)?;
        let existence = match self.partitions(client, name, purpose)? {
            Some(partitions) => {
                self.check_partitions(name, partitions, purpose);
                Existence::Found
            }
            None if !self.options.create_topics => return Err(self.missing(name, purpose)),
            None => self.create(name, purpose)?,
        };
        let settings = self.settings(name);
        let policy = settings
            .as_ref()
            .and_then(|it| it.cleanup_policy.as_deref());
        if existence == Existence::Found
            && let Some(policy) = policy
        {
            self.check_cleanup(name, purpose, policy)?;
        }
        Ok(Topic {
            existence,
            max_message_bytes: settings.and_then(|it| it.max_message_bytes),
        })
    }

    /// What the topic takes now: it may be changed at any time. None as in [`Topic`].
    pub(crate) fn max_message_bytes(&self, name: &str) -> Option<u64> {
        self.settings(name)?.max_message_bytes
    }

    /// Gives the administrative connection up when it is idle. Nobody serves its queue of
    /// log lines, so it must not stay for good. Never waits for one that is in use.
    pub(crate) fn rest(&self) {
        let Ok(mut admin) = self.admin.try_lock() else {
            return;
        };
        let idle = admin
            .as_ref()
            .is_some_and(|admin| admin.used.elapsed() > ADMIN_IDLE);
        let retired = if idle { admin.take() } else { None };
        drop(admin);
        drop(retired);
    }

    /// How many partitions the topic has, none if it does not exist.
    fn partitions<C: ClientContext>(
        &self,
        client: &Client<C>,
        name: &str,
        purpose: Purpose,
    ) -> Result<Option<usize>> {
        let metadata = client
            .fetch_metadata(Some(name), REQUEST_TIMEOUT)
            .map_err(|error| self.unanswered(name, &error))?;
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
            return Ok(None);
        };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(topic.partitions().len())),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Ok(None)
            }
            // Between its creation and the election of its leaders.
            Some(RDKafkaErrorCode::LeaderNotAvailable) => Ok(Some(topic.partitions().len())),
            Some(code) => Err(self.refused("may not be used", name, purpose, code)),
        }
    }

    fn create(&self, name: &str, purpose: Purpose) -> Result<Existence> {
        let topic = self.new_topic(name, purpose);
        let created = self.administer(name, |admin, options| {
            pollster::block_on(admin.create_topics([&topic], &options))
        })?;
        match created.into_iter().next() {
            Some(Ok(_)) => {
                let policy = settings(purpose)[0].1;
                tracing::info!(topic = name, cleanup.policy = policy, "created the topic");
                Ok(Existence::Created)
            }
            // Another client was quicker.
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => Ok(Existence::Found),
            Some(Err((_, code))) => Err(self.refused("cannot be created", name, purpose, code)),
        }
    }

    fn new_topic<'n>(&self, name: &'n str, purpose: Purpose) -> NewTopic<'n> {
        let (partitions, replication) = self.layout(purpose);
        let topic = NewTopic::new(
            name,
            partitions.unwrap_or(-1),
            TopicReplication::Fixed(replication.unwrap_or(-1)),
        );
        let set = |topic: NewTopic<'n>, (key, value)| topic.set(key, value);
        settings(purpose).iter().copied().fold(topic, set)
    }

    fn check_partitions(&self, name: &str, found: usize, purpose: Purpose) {
        if let (Some(wanted), _) = self.layout(purpose)
            && usize::try_from(wanted) != Ok(found)
        {
            tracing::warn!(
                topic = name,
                "the topic exists with {found} partitions and keeps them, not {wanted}"
            );
        }
    }

    /// Describing a topic takes a permission that writing to it does not: none where it may not
    /// be read.
    fn settings(&self, name: &str) -> Option<Settings> {
        let resource = ResourceSpecifier::Topic(name);
        let described = self.administer(name, |admin, options| {
            pollster::block_on(admin.describe_configs([&resource], &options))
        });
        let resource = described.ok().and_then(|all| all.into_iter().next());
        let settings = resource.and_then(|resource| Settings::of(&resource.ok()?));
        if settings.is_none() {
            tracing::debug!(
                topic = name,
                "the topic's cleanup.policy and max.message.bytes are unknown"
            );
        }
        settings
    }

    /// Warns where the topic expires records: rows that never change would disappear.
    /// Refuses one that is compacted for records without key, which it would refuse.
    fn check_cleanup(&self, name: &str, purpose: Purpose, policy: &str) -> Result<()> {
        let set = |misfit: Misfit| {
            let policy = misfit.cure();
            self.options.configuring(name, "cleanup.policy", policy)
        };
        match purpose.misfit(policy) {
            None => {}
            Some(misfit @ Misfit::RefusesUnkeyed) => {
                return Err(Error::failed(format!(
                    "topic \"{name}\" has cleanup.policy={policy}, and a compacted topic takes no \
                     records without a key"
                ))
                .with_hint(format!(
                    "Give the table a primary key, or compact the topic no longer: {}",
                    set(misfit)
                )));
            }
            Some(misfit @ Misfit::KeepsNewest) => tracing::warn!(
                topic = name,
                "the topic has cleanup.policy={policy} and will keep only the newest message of \
                 each prefix; to keep all: {}",
                set(misfit)
            ),
            Some(misfit @ Misfit::Expires) => tracing::warn!(
                topic = name,
                "the topic has cleanup.policy={policy} and will lose records by age or size; \
                 to keep the newest of each key: {}",
                set(misfit)
            ),
        }
        Ok(())
    }

    /// Runs one administrative operation over the connection kept for it.
    fn administer<T>(
        &self,
        topic: &str,
        operation: impl FnOnce(
            &AdminClient<DefaultClientContext>,
            AdminOptions,
        ) -> Result<T, KafkaError>,
    ) -> Result<T> {
        let mut admin = self.lock();
        if admin.is_none() {
            let mut config = self.options.admin_config();
            config.set_log_level(RDKafkaLogLevel::Emerg);
            let login = Login::of(&self.options)?;
            let client: AdminClient<DefaultClientContext> =
                config.create().map_err(|error| creation_error(&error))?;
            login.begin(client.inner())?;
            let used = Instant::now();
            *admin = Some(Admin {
                client,
                login,
                used,
            });
        }
        let options = AdminOptions::new()
            .request_timeout(Some(REQUEST_TIMEOUT))
            .operation_timeout(Some(REQUEST_TIMEOUT));
        let Some(admin) = admin.as_mut() else {
            return Err(Error::failed("no administrative connection to Kafka"));
        };
        admin.login.keep(admin.client.inner());
        let outcome = operation(&admin.client, options);
        admin.used = Instant::now();
        outcome.map_err(|error| self.unanswered(topic, &error))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Admin>> {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Partitions and replicas that a new topic is to have; none for the broker's default.
    fn layout(&self, purpose: Purpose) -> (Option<i32>, Option<i32>) {
        match purpose {
            Purpose::Records(_) => (self.options.partitions, self.options.replication),
            Purpose::State => (Some(1), self.options.replication),
        }
    }

    /// The command by which a person makes the topic as it should be.
    fn command(&self, name: &str, purpose: Purpose) -> ToolCommand {
        let mut arguments = format!("--create --topic {name}");
        let (partitions, replication) = self.layout(purpose);
        for (option, number) in [
            ("partitions", partitions),
            ("replication-factor", replication),
        ] {
            if let Some(number) = number {
                arguments.push_str(&format!(" --{option} {number}"));
            }
        }
        for (key, value) in settings(purpose) {
            arguments.push_str(&format!(" --config {key}={value}"));
        }
        self.options.tool("kafka-topics.sh", &arguments)
    }

    fn unanswered(&self, topic: &str, error: &KafkaError) -> Error {
        let kind = error
            .rdkafka_error_code()
            .map_or(ErrorKind::Disconnected, |code| kafka::of(code).kind());
        Error::new(
            kind,
            format!(
                "Kafka at {} did not answer about topic \"{topic}\"",
                self.options.brokers()
            ),
        )
        .with_source(error.clone())
    }

    fn missing(&self, name: &str, purpose: Purpose) -> Error {
        Error::failed(format!(
            "topic \"{name}\" does not exist and --no-create-topics is given"
        ))
        .with_hint(format!(
            "Create it: {}{}",
            self.command(name, purpose),
            or_without(purpose)
        ))
    }

    fn refused(&self, what: &str, name: &str, purpose: Purpose, code: RDKafkaErrorCode) -> Error {
        let command = self.command(name, purpose);
        let (partitions, replication) = self.layout(purpose);
        let hint = match code {
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed => format!(
                "Allow the user Create and Write on the topic (kafka-acls.sh), \
                 or let an administrator create it: {command}{}",
                or_without(purpose)
            ),
            RDKafkaErrorCode::PolicyViolation => format!(
                "The cluster's create.topic.policy decides: choose other --topic-partitions or \
                 --topic-replication, or let an administrator create it: {command}"
            ),
            RDKafkaErrorCode::InvalidReplicationFactor => format!(
                "{} does not suit this cluster: choose --topic-replication from 1 to its number \
                 of brokers.",
                described("replication factor", replication)
            ),
            RDKafkaErrorCode::InvalidPartitions => format!(
                "{} does not suit this cluster: choose another --topic-partitions.",
                described("partition count", partitions)
            ),
            RDKafkaErrorCode::InvalidTopic => {
                "Kafka takes . and _ in names for one: another topic may collide with it. \
                 Choose another --topic or --topic-prefix."
                    .to_owned()
            }
            RDKafkaErrorCode::UnsupportedVersion => {
                "This broker has no defaults for new topics (it is older than 2.4): give \
                 --topic-partitions and --topic-replication."
                    .to_owned()
            }
            _ => format!("Let an administrator create it: {command}"),
        };
        Error::new(kafka::of(code).kind(), format!("topic \"{name}\" {what}"))
            .with_source(code)
            .with_hint(hint)
    }
}

/// What else helps where nobody may have asked for the topic: anyone who can log in to the
/// database can write the first logical message.
fn or_without(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Records(Keying::Events) => {
            " -- or leave logical messages out with --operations insert,update,delete,truncate."
        }
        Purpose::Records(Keying::Keyed | Keying::Unkeyed) | Purpose::State => "",
    }
}

fn described(what: &str, number: Option<i32>) -> String {
    match number {
        Some(number) => format!("The {what} {number}"),
        None => format!("The broker's default {what}"),
    }
}

fn settings(purpose: Purpose) -> &'static [(&'static str, &'static str)] {
    match purpose {
        Purpose::Records(Keying::Keyed) => &[("cleanup.policy", "compact")],
        Purpose::Records(Keying::Unkeyed | Keying::Events) => &[("cleanup.policy", "delete")],
        Purpose::State => &[
            ("cleanup.policy", "compact"),
            ("segment.ms", "3600000"),
            ("min.cleanable.dirty.ratio", "0.1"),
        ],
    }
}

/// Whether Kafka takes a name for a topic's.
pub(crate) fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name != "."
        && name != ".."
        && name.bytes().all(legal)
}

/// Refuses a name that Kafka would refuse, before anything is asked.
fn check_name(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    Err(
        Error::new(ErrorKind::Usage, format!("\"{name}\" is not a topic name"))
            .with_hint("Kafka allows 1 to 249 letters, digits, dots, underscores and hyphens."),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn maker(partitions: Option<i32>, replication: Option<i32>) -> TopicMaker {
        TopicMaker::new(&KafkaOptions {
            partitions,
            replication,
            create_topics: false,
            ..KafkaOptions::of("one:9092", &[])
        })
    }

    #[test]
    fn names_are_those_that_kafka_allows() {
        let longest = "x".repeat(249);
        for name in ["a", "A.b_c-9", "__headwater.state", &longest] {
            assert!(check_name(name).is_ok(), "{name:?} was refused");
        }
        let too_long = "x".repeat(250);
        for name in ["", ".", "..", "a b", "a/b", "ä", "a\0", "a'b", &too_long] {
            let error = check_name(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{name:?}");
        }
    }

    #[test]
    fn the_command_makes_the_topic_that_headwater_would_make() {
        assert_eq!(
            maker(None, None)
                .command("test", Purpose::Records(Keying::Keyed))
                .line(),
            "kafka-topics.sh --bootstrap-server one:9092 --create --topic test \
             --config cleanup.policy=compact"
        );
        assert_eq!(
            maker(Some(6), Some(3))
                .command("__headwater.state", Purpose::State)
                .line(),
            "kafka-topics.sh --bootstrap-server one:9092 --create --topic __headwater.state \
             --partitions 1 --replication-factor 3 --config cleanup.policy=compact \
             --config segment.ms=3600000 --config min.cleanable.dirty.ratio=0.1"
        );
    }

    #[test]
    fn a_refusal_names_topic_cause_and_cure() {
        for (code, cure) in [
            (RDKafkaErrorCode::TopicAuthorizationFailed, "kafka-acls.sh"),
            (RDKafkaErrorCode::PolicyViolation, "create.topic.policy"),
            (
                RDKafkaErrorCode::InvalidReplicationFactor,
                "replication factor 3",
            ),
            (RDKafkaErrorCode::InvalidPartitions, "partition count 6"),
            (RDKafkaErrorCode::InvalidTopic, "collide"),
            (RDKafkaErrorCode::UnsupportedVersion, "--topic-partitions"),
            (RDKafkaErrorCode::InvalidConfig, "kafka-topics.sh"),
        ] {
            let maker = maker(Some(6), Some(3));
            let error = maker.refused(
                "cannot be created",
                "test",
                Purpose::Records(Keying::Keyed),
                code,
            );
            let text = error.to_string();
            assert!(
                text.starts_with("topic \"test\" cannot be created: "),
                "{text}"
            );
            let hint = error.hint().unwrap_or_default();
            assert!(hint.contains(cure), "{code:?}: {hint}");
        }
    }

    #[test]
    fn a_missing_topic_that_may_not_be_created_comes_with_the_command() {
        let error = maker(None, None).missing("test", Purpose::Records(Keying::Keyed));
        assert!(error.to_string().contains("--no-create-topics"), "{error}");
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains("--create --topic test"), "{hint}");
        assert!(!hint.contains("--operations"), "{hint}");
        let messages = maker(None, None).missing("messages", Purpose::Records(Keying::Events));
        let hint = messages.hint().unwrap_or_default();
        assert!(
            hint.contains("--operations insert,update,delete,truncate"),
            "{hint}"
        );
    }
}
