//! A client as it runs under a supervisor: when it has ended, it is started again.

use headwater_tests::keeper::Exit;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Kafka, Postgres};

/// A stream whose database and slot have the same name.
pub(crate) struct Supervised {
    name: &'static str,
    more: &'static [&'static str],
    client: Option<Client>,
    /// How often it ended by itself and was started again.
    pub(crate) restarts: u64,
}

impl Supervised {
    pub(crate) fn new(name: &'static str, more: &'static [&'static str]) -> Self {
        Supervised {
            name,
            more,
            client: None,
            restarts: 0,
        }
    }

    /// Starts the client where none runs. One that has ended may have failed, but not panicked,
    /// nor found a gap, another instance or anything else that a restart does not mend.
    pub(crate) fn keep_running(&mut self, postgres: &Postgres, kafka: &Kafka) {
        if self.client.as_mut().is_some_and(Client::is_running) {
            return;
        }
        if let Some(client) = self.client.take() {
            let ended = client.wait();
            assert_eq!(ended.exit, Exit::Code(1), "{}", ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
            self.restarts += 1;
        }
        let (conninfo, brokers) = (postgres.conninfo(self.name), kafka.brokers());
        let mut arguments = vec!["stream", "-d", &conninfo, "-S", self.name, "-b", &brokers];
        arguments.extend(self.more);
        self.client = Some(Client::start(arguments));
    }

    pub(crate) fn kill(&mut self) {
        if let Some(client) = self.client.take() {
            client.kill();
        }
    }

    /// Makes the next start a first one: no client, no slot, no state.
    pub(crate) fn forget(&mut self, postgres: &Postgres, kafka: &Kafka) {
        self.kill();
        let (conninfo, brokers) = (postgres.conninfo(self.name), kafka.brokers());
        // The server takes a moment to see that the killed client is gone.
        eventually("the slot can be dropped", SOON, || {
            let ended = Client::run([
                "drop", "--yes", "-d", &conninfo, "-S", self.name, "-b", &brokers,
            ]);
            check(ended.exit == Exit::Code(0), || ended.stderr)
        });
    }
}
