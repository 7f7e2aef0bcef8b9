//! The whole path in Avro: server, client, Kafka, schema registry, and readers that are not
//! ours.

mod alters;
mod evolution;
mod faults;
mod misread;
mod types;

use headwater_tests::{Client, Registry};

use crate::world::World;

/// What `headwater stream` is given for Avro.
fn options(registry_url: &str) -> Vec<String> {
    ["--format", "avro", "--registry", registry_url]
        .map(str::to_owned)
        .to_vec()
}

/// Starts `headwater stream` in Avro.
fn stream(world: &World<'_>, registry_url: &str, more: &[&str]) -> Client {
    let mut all = options(registry_url);
    all.extend(more.iter().map(|&option| option.to_owned()));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    world.stream(&all)
}

/// Streams until everything that is committed now has arrived, and stops.
#[track_caller]
fn streamed(world: &World<'_>, registry: &Registry, more: &[&str], write: impl FnOnce()) {
    let mut client = stream(world, &registry.url(), more);
    client.streams();
    write();
    world.catches_up();
    client.terminate().expect(0, &[]);
}
