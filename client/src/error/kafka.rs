//! Errors of Kafka, as librdkafka names them: its own, and those that brokers send.
//!
//! librdkafka tries most of what passes again by itself; what comes out of it in spite of that is
//! a question that was given up, or a record that will not be delivered. A sink that has lost
//! a record is of no use any more, so that there even a retry is one by the next process.

use rdkafka::error::RDKafkaErrorCode as Code;

use super::Remedy::{self, Data, Fatal, Operator, Retry};

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub struct KafkaRow {
    /// The codes that it is about.
    pub codes: &'static [Code],
    /// What may be done.
    pub remedy: Remedy,
    /// What they mean.
    pub meaning: &'static str,
    /// What mends it, as a sentence; empty where nobody has to do anything.
    pub cure: &'static str,
}

/// No code is in two lines.
pub const KAFKA: &[KafkaRow] = &[
    KafkaRow {
        codes: &[
            Code::BrokerTransportFailure,
            Code::AllBrokersDown,
            Code::Resolve,
            Code::OperationTimedOut,
            Code::MessageTimedOut,
            Code::TimedOutQueue,
            Code::RequestTimedOut,
            Code::NetworkException,
            Code::BrokerDestroy,
            Code::DestroyBroker,
            Code::UnknownBroker,
            Code::RebootstrapRequired,
        ],
        remedy: Retry,
        meaning: "no broker answers, or not in time",
        cure: "",
    },
    KafkaRow {
        codes: &[
            Code::NodeUpdate,
            Code::BrokerNotAvailable,
            Code::LeaderNotAvailable,
            Code::NotLeaderForPartition,
            Code::ReplicaNotAvailable,
            Code::NotController,
            Code::StaleControllerEpoch,
            Code::StaleBrokerEpoch,
            Code::FencedLeaderEpoch,
            Code::UnknownLeaderEpoch,
            Code::PreferredLeaderNotAvailable,
            Code::EligibleLeadersNotAvailable,
            Code::OffsetNotAvailable,
            Code::ListenerNotFound,
        ],
        remedy: Retry,
        meaning: "a partition or the cluster elects who leads it",
        cure: "",
    },
    KafkaRow {
        codes: &[
            Code::NotEnoughReplicas,
            Code::NotEnoughReplicasAfterAppend,
            Code::ISRInsufficient,
        ],
        remedy: Retry,
        meaning: "fewer replicas are in sync than min.insync.replicas asks for",
        cure: "",
    },
    KafkaRow {
        codes: &[Code::KafkaStorageError, Code::LogDirNotFound],
        remedy: Retry,
        meaning: "a broker's disk fails: another broker will lead the partition",
        cure: "",
    },
    KafkaRow {
        codes: &[
            Code::WaitingForCoordinator,
            Code::CoordinatorLoadInProgress,
            Code::CoordinatorNotAvailable,
            Code::NotCoordinator,
            Code::ConcurrentTransactions,
            Code::ThrottlingQuotaExceeded,
            Code::WaitCache,
            Code::InProgress,
            Code::PreviousInProgress,
            Code::Retry,
            Code::QueueFull,
            Code::ReassignmentInProgress,
        ],
        remedy: Retry,
        meaning: "the cluster is busy with something that ends",
        cure: "",
    },
    KafkaRow {
        codes: &[Code::InvalidRecord, Code::InvalidTimestamp],
        remedy: Data,
        meaning: "the broker refuses the record as such",
        cure: "A compacted topic takes no record without a key, and message.timestamp.* settings may \
               refuse its time.",
    },
    KafkaRow {
        codes: &[
            Code::MessageSizeTooLarge,
            Code::InvalidMessageSize,
            Code::MessageBatchTooLarge,
        ],
        remedy: Operator,
        meaning: "a batch is larger than the topic was known to take",
        cure: "",
    },
    KafkaRow {
        codes: &[
            Code::Authentication,
            Code::SaslAuthenticationFailed,
            Code::UnsupportedSASLMechanism,
            Code::IllegalSASLState,
            Code::SecurityDisabled,
        ],
        remedy: Operator,
        meaning: "the login is refused",
        cure: "Check -X security.protocol, sasl.mechanism, sasl.username and sasl.password.",
    },
    KafkaRow {
        codes: &[Code::SSL],
        remedy: Operator,
        meaning: "TLS cannot be agreed upon",
        cure: "Check -X security.protocol, ssl.ca.location and the broker's certificate.",
    },
    KafkaRow {
        codes: &[Code::TopicAuthorizationFailed],
        remedy: Operator,
        meaning: "the user may not write to the topic, or not read it",
        cure: "Allow the user Read, Write and Describe on the topic (kafka-acls.sh).",
    },
    KafkaRow {
        codes: &[
            Code::ClusterAuthorizationFailed,
            Code::GroupAuthorizationFailed,
            Code::TransactionalIdAuthorizationFailed,
            Code::DelegationTokenAuthorizationFailed,
        ],
        remedy: Operator,
        meaning: "the user may not do this in the cluster",
        cure: "Allow the user Write on the topics, or IdempotentWrite on the cluster before Kafka 3.0 \
               (kafka-acls.sh).",
    },
    KafkaRow {
        codes: &[
            Code::UnknownTopic,
            Code::UnknownTopicOrPartition,
            Code::UnknownTopicId,
            Code::UnknownPartition,
        ],
        remedy: Operator,
        meaning: "the topic was there and is gone",
        cure: "If it was deleted on purpose, its rows are in Kafka again only after a new snapshot.",
    },
    KafkaRow {
        codes: &[
            Code::InvalidTopic,
            Code::InvalidPartitions,
            Code::InvalidReplicationFactor,
            Code::InvalidConfig,
            Code::PolicyViolation,
        ],
        remedy: Operator,
        meaning: "the cluster does not allow the topic or the record",
        cure: "A policy of the cluster decides; its operator can say which.",
    },
    KafkaRow {
        codes: &[
            Code::UnsupportedVersion,
            Code::UnsupportedFeature,
            Code::UnsupportedForMessageFormat,
            Code::UnsupportedCompressionType,
        ],
        remedy: Operator,
        meaning: "the broker is too old for what is asked",
        cure: "Kafka 0.11 is the oldest release that takes headers, zstd needs 2.1.",
    },
    KafkaRow {
        codes: &[
            Code::Fatal,
            Code::Fenced,
            Code::ProducerFenced,
            Code::OutOfOrderSequenceNumber,
            Code::DuplicateSequenceNumber,
            Code::UnknownProducerId,
            Code::InvalidProducerEpoch,
            Code::InvalidProducerIdMapping,
            Code::GaplessGuarantee,
            Code::PurgeQueue,
            Code::PurgeInflight,
            Code::Inconsistent,
            Code::State,
            Code::Fail,
            Code::CriticalSystemResource,
        ],
        remedy: Fatal,
        meaning: "the producer is of no use any more",
        cure: "Start again: everything that Kafka has not acknowledged is sent again.",
    },
];

/// What may be done about a code.
pub fn of(code: Code) -> Remedy {
    row(code).map_or(Operator, |row| row.remedy)
}

/// What mends it, where something is known to.
pub fn cure(code: Code) -> Option<&'static str> {
    row(code)
        .map(|row| row.cure)
        .filter(|cure| !cure.is_empty())
}

fn row(code: Code) -> Option<&'static KafkaRow> {
    KAFKA.iter().find(|row| row.codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_one_row_and_decided_by_it() {
        for row in KAFKA {
            for code in row.codes {
                assert_eq!(of(*code), row.remedy, "{code:?}");
                let rows = KAFKA.iter().filter(|row| row.codes.contains(code)).count();
                assert_eq!(rows, 1, "{code:?} is in several rows");
            }
            let is_for_somebody = !matches!(row.remedy, Retry);
            let is_told = row.codes.contains(&Code::MessageSizeTooLarge) || !row.cure.is_empty();
            assert!(is_told || !is_for_somebody, "{row:?} says no cure");
        }
    }

    #[test]
    fn what_nobody_has_thought_of_is_for_a_person() {
        for code in [Code::Unknown, Code::InvalidRequest, Code::NotImplemented] {
            assert_eq!((of(code), cure(code)), (Operator, None), "{code:?}");
        }
    }
}
