//! Why a record failed for good, and what to do. Never its key or its value.

use rdkafka::error::RDKafkaErrorCode;

use super::size;
use crate::error::{Error, ErrorKind, Remedy, kafka};
use crate::kafka::KafkaOptions;

/// The first thing that failed for good. The sink is of no use afterwards, so its error is
/// never one that trying again within this process could help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// One record.
    Record {
        topic: String,
        code: RDKafkaErrorCode,
        /// Of key and value.
        bytes: usize,
    },
    /// The producer as a whole: it accepts and delivers nothing any more.
    Producer {
        code: RDKafkaErrorCode,
        /// In librdkafka's words.
        reason: String,
    },
}

impl Failure {
    /// The topic whose limit was exceeded, though the record was within the one that was known.
    pub(super) fn over_the_limit_of(&self) -> Option<&str> {
        match self {
            Failure::Record {
                topic,
                code: RDKafkaErrorCode::MessageSizeTooLarge,
                ..
            } => Some(topic),
            Failure::Record { .. } | Failure::Producer { .. } => None,
        }
    }

    /// The error that says so. `limit` is what [`Self::over_the_limit_of`] takes now, if that may
    /// be read.
    pub(super) fn to_error(&self, options: &KafkaOptions, limit: Option<u64>) -> Error {
        match self {
            Failure::Record { topic, code, bytes } => {
                record_error(options, topic, *code, *bytes, limit)
            }
            Failure::Producer { code, reason } => Error::failed(format!(
                "the producer for Kafka at {} had to stop: {reason}",
                options.brokers()
            ))
            .with_hint(kafka::cure(*code).unwrap_or(START_AGAIN)),
        }
    }

    /// Whether it only says that the producer stopped, and not why.
    pub(super) fn wants_reason(&self) -> bool {
        match self {
            Failure::Record { code, .. } | Failure::Producer { code, .. } => matches!(
                code,
                RDKafkaErrorCode::Fatal
                    | RDKafkaErrorCode::PurgeQueue
                    | RDKafkaErrorCode::PurgeInflight
            ),
        }
    }
}

const START_AGAIN: &str = "Start again: everything that Kafka has not acknowledged is sent again.";

fn record_error(
    options: &KafkaOptions,
    topic: &str,
    code: RDKafkaErrorCode,
    bytes: usize,
    limit: Option<u64>,
) -> Error {
    let kind = match kafka::of(code) {
        Remedy::Data => ErrorKind::Data,
        _ => ErrorKind::Failed,
    };
    let hint = match code {
        RDKafkaErrorCode::MessageSizeTooLarge => match limit {
            Some(limit) => format!(
                "The topic takes {limit} bytes now (max.message.bytes), less than when it was \
                 opened. Start again: the limit is heeded, and nothing is lost."
            ),
            None => format!(
                "Nobody may read what the topic takes: allow the user DescribeConfigs on it \
                 (kafka-acls.sh), make batches smaller than its max.message.bytes with \
                 -X batch.size=N, or raise that: {}",
                options.raising(topic, size::ASSUMED)
            ),
        },
        RDKafkaErrorCode::MessageTimedOut => {
            "Without -X message.timeout.ms records wait for ever.".to_owned()
        }
        RDKafkaErrorCode::BrokerDestroy => {
            format!("A broker left the cluster with records under way. {START_AGAIN}")
        }
        _ => kafka::cure(code).unwrap_or(START_AGAIN).to_owned(),
    };
    let message = format!("a record of {bytes} bytes for topic \"{topic}\" was not delivered");
    Error::new(kind, message).with_source(code).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_failure_is_tried_again_by_a_process_whose_sink_has_ended() {
        for code in [
            RDKafkaErrorCode::MessageTimedOut,
            RDKafkaErrorCode::BrokerDestroy,
            RDKafkaErrorCode::BrokerTransportFailure,
        ] {
            let failure = Failure::Record {
                topic: "test".to_owned(),
                code,
                bytes: 1,
            };
            let error = failure.to_error(&KafkaOptions::of("one:9092", &[]), None);
            assert_eq!(error.kind(), ErrorKind::Failed, "{code:?}");
        }
    }

    #[test]
    fn a_failure_names_topic_size_and_cause_and_a_cure() {
        let failure = Failure::Record {
            topic: "test".to_owned(),
            code: RDKafkaErrorCode::MessageSizeTooLarge,
            bytes: 2_000_000,
        };
        let error = failure.to_error(&KafkaOptions::of("one:9092", &[]), None);
        let text = error.to_string();
        assert!(
            text.starts_with("a record of 2000000 bytes for topic \"test\" was not delivered: "),
            "{text}"
        );
        // The next start knows the limit.
        assert_eq!(error.kind(), ErrorKind::Failed);
        let hint = error.hint().unwrap_or_default();
        assert!(
            hint.contains("--entity-name test --add-config max.message.bytes")
                && hint.contains("batch.size"),
            "{hint}"
        );
        assert_eq!(failure.over_the_limit_of(), Some("test"));
        let error = failure.to_error(&KafkaOptions::of("one:9092", &[]), Some(1000));
        let hint = error.hint().unwrap_or_default();
        assert!(hint.starts_with("The topic takes 1000 bytes now"), "{hint}");
    }
}
