//! What goes wrong: faults, when they come, and how each is made and mended.
//!
//! The schedule follows from the seed alone: which faults, in which order, after what pause, for
//! how long, and which other comes on top. It is dealt as cards are, so that every kind comes
//! once before any comes again. What the schedule hits is a matter of the moment: a seed
//! repeats the plan, not the race that it met.

mod data;
mod network;
mod process;
mod slot;

use std::fmt;
use std::time::Duration;

use super::arena::Format;
use super::run::Run;
use crate::Random;

/// A long run has this much rest before each round: long enough for what the server keeps to
/// be [judged](super::checkers::server).
const CALM: Duration = Duration::from_secs(45);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The client is killed outright.
    KillClient,
    /// The client is stopped where it stands, and goes on later.
    FreezeClient,
    /// The broker is killed outright, and started again.
    KillBroker,
    /// The broker is stopped where it stands, and goes on later.
    FreezeBroker,
    /// The walsender is terminated.
    TerminateWalsender,
    /// The server is stopped at once, as by a crash, and started again.
    CrashPostgres,
    /// Connections to the server break, and new ones are closed for a while.
    CutPostgres,
    /// Connections to the broker break, and new ones are closed for a while.
    CutKafka,
    /// The network to the server is slow.
    DelayPostgres,
    /// The network to the broker is slow.
    DelayKafka,
    /// The network to the server is silent: neither bytes nor an end of the connection.
    SilencePostgres,
    /// The network to the broker is silent.
    SilenceKafka,
    /// `wal_sender_timeout` is a second.
    ShortTimeout,
    /// The slot is dropped while the client is stopped.
    DropSlot,
    /// The slot is advanced past what was delivered while the client is stopped.
    AdvanceSlot,
    /// Another client is started beside the one that streams.
    SecondClient,
    /// A transaction of very many rows.
    HugeTransaction,
    /// A change that nothing can encode.
    PoisonRow,
    /// Connections to the schema registry break, and new ones are closed for a while.
    CutRegistry,
    /// The network to the schema registry is silent.
    SilenceRegistry,
}

impl Fault {
    /// All kinds, but for those of a registry, which only Avro has.
    pub const ALL: [Fault; 18] = [
        Fault::KillClient,
        Fault::FreezeClient,
        Fault::KillBroker,
        Fault::FreezeBroker,
        Fault::TerminateWalsender,
        Fault::CrashPostgres,
        Fault::CutPostgres,
        Fault::CutKafka,
        Fault::DelayPostgres,
        Fault::DelayKafka,
        Fault::SilencePostgres,
        Fault::SilenceKafka,
        Fault::ShortTimeout,
        Fault::DropSlot,
        Fault::AdvanceSlot,
        Fault::SecondClient,
        Fault::HugeTransaction,
        Fault::PoisonRow,
    ];

    /// What goes wrong with a schema registry.
    pub const OF_REGISTRY: [Fault; 2] = [Fault::CutRegistry, Fault::SilenceRegistry];

    /// Those that can come where keys and values are of this format.
    pub fn of(format: Format) -> Vec<Fault> {
        let mut faults = Fault::ALL.to_vec();
        if format == Format::Avro {
            faults.extend(Fault::OF_REGISTRY);
        }
        faults
    }

    /// Those that may come on top of another: they need nothing to be in order, last a
    /// moment, and are over when they are mended.
    const OVERLAYS: [Fault; 6] = [
        Fault::KillClient,
        Fault::FreezeClient,
        Fault::CutPostgres,
        Fault::CutKafka,
        Fault::DelayPostgres,
        Fault::DelayKafka,
    ];

    /// Whether others may come on top.
    fn is_outage(self) -> bool {
        match self {
            Fault::KillClient
            | Fault::DropSlot
            | Fault::AdvanceSlot
            | Fault::SecondClient
            | Fault::PoisonRow => false,
            Fault::FreezeClient
            | Fault::KillBroker
            | Fault::FreezeBroker
            | Fault::TerminateWalsender
            | Fault::CrashPostgres
            | Fault::CutPostgres
            | Fault::CutKafka
            | Fault::DelayPostgres
            | Fault::DelayKafka
            | Fault::SilencePostgres
            | Fault::SilenceKafka
            | Fault::ShortTimeout
            | Fault::HugeTransaction
            | Fault::CutRegistry
            | Fault::SilenceRegistry => true,
        }
    }

    /// Whose network it disturbs.
    fn way(self) -> Option<Way> {
        match self {
            Fault::CutPostgres | Fault::DelayPostgres | Fault::SilencePostgres => {
                Some(Way::ToPostgres)
            }
            Fault::CutKafka | Fault::DelayKafka | Fault::SilenceKafka => Some(Way::ToKafka),
            _ => None,
        }
    }

    /// Whether `other` may come on top. A network has one weather at a time, so another
    /// fault of the same one would end this.
    fn takes(self, other: Fault) -> bool {
        let is_elsewhere = self.way().is_none_or(|way| other.way() != Some(way));
        self.is_outage() && other != self && is_elsewhere
    }

    /// As the report names it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::KillClient => "client killed",
            Fault::FreezeClient => "client stopped and continued",
            Fault::KillBroker => "broker killed",
            Fault::FreezeBroker => "broker stopped and continued",
            Fault::TerminateWalsender => "walsender terminated",
            Fault::CrashPostgres => "server stopped at once",
            Fault::CutPostgres => "connection to the server cut",
            Fault::CutKafka => "connection to the broker cut",
            Fault::DelayPostgres => "connection to the server slow",
            Fault::DelayKafka => "connection to the broker slow",
            Fault::SilencePostgres => "connection to the server silent",
            Fault::SilenceKafka => "connection to the broker silent",
            Fault::ShortTimeout => "wal_sender_timeout of 1 s",
            Fault::DropSlot => "slot dropped",
            Fault::AdvanceSlot => "slot advanced",
            Fault::SecondClient => "second client",
            Fault::HugeTransaction => "huge transaction",
            Fault::PoisonRow => "poison row",
            Fault::CutRegistry => "connection to the registry cut",
            Fault::SilenceRegistry => "connection to the registry silent",
        }
    }

    /// Brings it about. What has no duration is over when this returns.
    pub(crate) fn inject(self, run: &mut Run) {
        match self {
            Fault::KillClient => process::kill_client(run),
            Fault::FreezeClient => process::freeze_client(run),
            Fault::KillBroker => run.arena.kafka.kill(),
            Fault::FreezeBroker => process::freeze_broker(run),
            Fault::TerminateWalsender => process::terminate_walsender(run),
            Fault::CrashPostgres => run.arena.postgres.crash(),
            Fault::CutPostgres => network::cut(&run.arena.to_postgres),
            Fault::CutKafka => network::cut(&run.arena.to_kafka),
            Fault::DelayPostgres => network::slow(&run.arena.to_postgres, &mut run.random),
            Fault::DelayKafka => network::slow(&run.arena.to_kafka, &mut run.random),
            Fault::SilencePostgres => network::silence(&run.arena.to_postgres),
            Fault::SilenceKafka => network::silence(&run.arena.to_kafka),
            Fault::ShortTimeout => run.arena.set_wal_sender_timeout("1s"),
            Fault::DropSlot => slot::lose(run, slot::Loss::Dropped),
            Fault::AdvanceSlot => slot::lose(run, slot::Loss::Advanced),
            Fault::SecondClient => slot::second_client(run),
            Fault::HugeTransaction => data::huge_transaction(run),
            Fault::PoisonRow => data::poison_row(run),
            Fault::CutRegistry => run.arena.to_registry.iter().for_each(network::cut),
            Fault::SilenceRegistry => run.arena.to_registry.iter().for_each(network::silence),
        }
    }

    /// Mends it.
    pub(crate) fn heal(self, run: &mut Run) {
        match self {
            Fault::FreezeClient => process::thaw_client(run),
            Fault::KillBroker => run.arena.kafka.start(),
            Fault::FreezeBroker => process::thaw_broker(run),
            Fault::CrashPostgres => process::start_postgres(run),
            Fault::CutPostgres | Fault::DelayPostgres => network::clear(&run.arena.to_postgres),
            Fault::CutKafka | Fault::DelayKafka => network::clear(&run.arena.to_kafka),
            Fault::SilencePostgres => {
                network::end_silence(&run.arena.to_postgres, &mut run.random);
            }
            Fault::SilenceKafka => network::end_silence(&run.arena.to_kafka, &mut run.random),
            Fault::CutRegistry => run.arena.to_registry.iter().for_each(network::clear),
            Fault::SilenceRegistry => {
                if let Some(way) = &run.arena.to_registry {
                    network::end_silence(way, &mut run.random);
                }
            }
            Fault::ShortTimeout => run
                .arena
                .set_wal_sender_timeout(super::arena::WAL_SENDER_TIMEOUT),
            Fault::KillClient
            | Fault::TerminateWalsender
            | Fault::DropSlot
            | Fault::AdvanceSlot
            | Fault::SecondClient
            | Fault::HugeTransaction
            | Fault::PoisonRow => {}
        }
    }
}

/// A network between the client and a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToPostgres,
    ToKafka,
}

/// One fault, or two at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long all is well before.
    pub pause: Duration,
    /// What goes wrong.
    pub fault: Fault,
    /// What goes wrong on top of it.
    pub overlay: Option<Fault>,
    /// How long it lasts.
    pub lasts: Duration,
    /// Whether everything has to be delivered before the next step.
    pub recovers: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fault.name())?;
        if let Some(overlay) = self.overlay {
            write!(f, ", then {}", overlay.name())?;
        }
        write!(
            f,
            "; after {:.1} s, for {:.1} s{}",
            self.pause.as_secs_f32(),
            self.lasts.as_secs_f32(),
            if self.recovers {
                ", then all is delivered"
            } else {
                ""
            }
        )
    }
}

/// The steps of a seed, without end.
#[derive(Debug)]
pub struct Schedule {
    random: Random,
    kinds: Vec<Fault>,
    /// Whether some outages outlast what is tried within seconds.
    long: bool,
    dealt: Vec<Fault>,
}

impl Schedule {
    /// Steps with faults of some kinds; now and then a long one if there is time.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn new(seed: u64, kinds: &[Fault], long: bool) -> Self {
        assert!(!kinds.is_empty(), "a nemesis without a fault");
        Schedule {
            random: Random::new(seed),
            kinds: kinds.to_vec(),
            long,
            dealt: Vec::new(),
        }
    }

    fn deal(&mut self) -> Fault {
        if self.dealt.is_empty() {
            self.dealt.clone_from(&self.kinds);
        }
        let place = self.random.below(self.dealt.len() as u64) as usize;
        self.dealt.swap_remove(place)
    }

    fn milliseconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.random.below(to - from))
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let is_new_round = self.dealt.is_empty();
        let fault = self.deal();
        // Drawn in any case, so that the seed gives the same moments whatever the kinds.
        let (on_top, which) = (self.random.below(3) == 0, self.random.below(6));
        let overlay = Fault::OVERLAYS[which as usize];
        let fits = fault.takes(overlay) && self.kinds.contains(&overlay);
        let is_long = self.random.below(8) == 0 && self.long && fault.is_outage();
        let (shortest, longest) = match fault {
            // The client waits up to ten seconds between two attempts.
            _ if is_long => (8_000, 30_000),
            // The server's timeout has to pass, or not.
            Fault::SilencePostgres | Fault::ShortTimeout => (1_000, 10_000),
            _ => (200, 4_000),
        };
        let pause = self.milliseconds(100, 2_500);
        Some(Step {
            pause: if is_new_round && self.long {
                CALM
            } else {
                pause
            },
            fault,
            overlay: (on_top && fits).then_some(overlay),
            lasts: self.milliseconds(shortest, longest),
            recovers: self.random.below(2) == 0,
        })
    }
}
