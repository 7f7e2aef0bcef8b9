//! `headwater drop`: drops the slot and forgets the state, saying what is lost.

use std::io::{BufRead, IsTerminal, Write};

use crate::assemble;
use crate::cli::DropOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::source::connection::Connector;
use crate::source::slot::{Slot, System};
use crate::state::State;
use crate::stop::Stop;
use crate::terminal::{COLUMNS, wrap};

/// Runs the command to its end.
pub fn run(options: &DropOptions) -> Result<()> {
    let connector = Connector::new(options.connection.conninfo(), Stop::default());
    let connection = connector.connect_replication()?;
    let database = connection.database()?;
    let mut store = assemble::state_store(
        options.sink,
        &assemble::cluster(&options.kafka),
        &options.stream.topic_prefix,
        &database,
        &options.stream.slot,
    )?;
    let slot = Slot::find(&connection, &options.stream.slot)?;
    let state = match &mut store {
        Some(store) => store.load()?,
        None => None,
    };
    if let Some(state) = &state {
        check_server(state, &System::identify(&connection)?, &options.stream.slot)?;
    }
    let has_state = state.is_some();
    if slot.is_none() && !has_state {
        return Err(Error::failed(format!(
            "replication slot \"{}\" does not exist in database \"{database}\"",
            options.stream.slot
        ))
        .with_hint(
            "Name the slot with --slot; SELECT slot_name FROM pg_replication_slots; lists them.",
        ));
    }
    if let Some(slot) = &slot {
        slot.refuse_active(&options.stream.slot)?;
    }
    confirm(options, slot.as_ref(), has_state)?;
    // The slot first: a state without its slot is refused by the next start, a slot
    // without its state would keep WAL for nobody.
    if slot.is_some() {
        Slot::drop(&connection, &options.stream.slot)?;
    }
    // The state last, so that what fails here can be tried again.
    let ids = assemble::schema_ids(
        options.sink,
        &assemble::cluster(&options.kafka),
        &options.stream.topic_prefix,
        &database,
        &options.stream.slot,
    )?;
    if let Some(mut ids) = ids {
        ids.clear()?;
    }
    if let Some(store) = &mut store {
        store.clear()?;
    }
    tracing::info!(slot = %options.stream.slot, "dropped");
    Ok(())
}

/// A slot of the same name on another server is another stream's.
fn check_server(state: &State, system: &System, slot: &str) -> Result<()> {
    if state.system_identifier == system.identifier {
        return Ok(());
    }
    Err(Error::failed(format!(
        "the stream of slot \"{slot}\" came from the server with system identifier {}, this one has \
         {}: nothing was dropped",
        state.system_identifier, system.identifier
    ))
    .with_hint(
        "Connect to that server, or name the stream of this one with --slot and --topic-prefix. To \
         go on with this server in its place, run headwater stream with --resnapshot.",
    ))
}

fn confirm(options: &DropOptions, slot: Option<&Slot>, has_state: bool) -> Result<()> {
    let name = &options.stream.slot;
    let mut message = std::io::stderr().lock();
    let mut sentences = match slot {
        Some(slot) => format!(
            "Replication slot \"{name}\" stands at {} and keeps {} bytes of WAL. \
             Dropping it releases them; changes from there on are not delivered any more, and a \
             new stream begins with a snapshot.",
            slot.confirmed_flush, slot.retained_wal_bytes
        ),
        None => format!("Replication slot \"{name}\" does not exist any more."),
    };
    if has_state {
        sentences.push_str(" The recorded position of its stream is forgotten too.");
    }
    // A closed stderr cannot be told anything.
    for line in wrap(&sentences, COLUMNS) {
        let _ = writeln!(message, "{line}");
    }
    if options.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(ErrorKind::Usage, "nobody is there to confirm")
            .with_hint("Add --yes to drop it without asking."));
    }
    let _ = write!(message, "Type the slot's name to drop it: ");
    let _ = message.flush();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Error::failed("cannot read the answer").with_source(error))?;
    if answer.trim() == name {
        Ok(())
    } else {
        Err(Error::failed("nothing was dropped: the name differs"))
    }
}
