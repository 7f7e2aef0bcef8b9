//! Which database, as psql takes it.

use std::fmt;

use clap::Args;

use crate::config::Secret;
use crate::source::conninfo::Conninfo;

/// The connection to Postgres.
#[derive(Clone, Args)]
#[command(next_help_heading = "Postgres")]
pub struct ConnectionOptions {
    /// Database name, connection string or URI; what it leaves open comes from PG*
    /// variables, service and password files
    #[arg(short, long, value_name = "CONNINFO", hide_env_values = true)]
    pub dbname: Option<String>,

    /// Server host or socket directory
    #[arg(short = 'h', long)]
    pub host: Option<String>,

    /// Server port
    #[arg(short, long)]
    pub port: Option<String>,

    /// User name
    #[arg(short = 'U', long, value_name = "USER")]
    pub username: Option<String>,

    /// Password; where it is not given, a password file (PGPASSFILE) or PGPASSWORD has it
    #[arg(long, value_name = "PASSWORD", hide = true)]
    pub password: Option<Secret>,
}

impl ConnectionOptions {
    /// The parts of the connection string.
    pub fn conninfo(&self) -> Conninfo {
        Conninfo {
            dbname: self.dbname.clone(),
            host: self.host.clone(),
            port: self.port.clone(),
            user: self.username.clone(),
            password: self.password.clone(),
        }
    }
}

impl fmt::Debug for ConnectionOptions {
    // A connection string may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.conninfo().fmt(f)
    }
}
