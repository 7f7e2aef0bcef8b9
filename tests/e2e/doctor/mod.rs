//! `headwater doctor`: what it prints is run as it is printed, and mends what it names.

mod first_run;
mod kafka;
mod printed;
mod role;
mod server;
mod tables;
