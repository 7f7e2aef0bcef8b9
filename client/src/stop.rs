//! Stopping on SIGINT and SIGTERM: the first asks, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::signal::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, ErrorKind, Result};

/// Whether the process was asked to stop. Every wait in the client looks at it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Set by SIGINT or SIGTERM. A second signal exits with 128 and its number.
    pub fn on_signals() -> Result<Self> {
        let stop = Stop::default();
        for signal in [SIGINT, SIGTERM] {
            // The order matters: a handler that was registered first runs first, and
            // sees the flag as the signal before left it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop.0))
                .and_then(|_| flag::register(signal, Arc::clone(&stop.0)))
                .map_err(|error| {
                    Error::failed(format!("cannot handle signal {signal}")).with_source(error)
                })?;
        }
        Ok(stop)
    }

    /// Asks to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error of kind [`ErrorKind::Interrupted`] when it is time to stop.
    pub fn check(&self) -> Result<()> {
        if self.is_set() {
            Err(Error::new(ErrorKind::Interrupted, "stopped by a signal"))
        } else {
            Ok(())
        }
    }
}
