//! The schema registry, as every command reaches it that reads or writes Avro.

use std::path::PathBuf;

use clap::Args;

use crate::config::Secret;

/// Where schemas are kept, and who asks.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Schema registry")]
pub struct RegistryOptions {
    /// The schema registry, by Confluent's protocol; several of one registry with commas between
    /// them are tried in turn
    #[arg(
        short = 'r',
        long = "registry",
        value_name = "URL",
        hide_env_values = true
    )]
    pub url: Option<String>,

    /// User name, if the URL has none
    #[arg(long = "registry-user", value_name = "USER")]
    pub user: Option<String>,

    /// The user's password
    #[arg(id = "registry-password", long, value_name = "PASSWORD", hide = true)]
    pub password: Option<Secret>,

    /// A file that holds the user's password; HEADWATER_REGISTRY_PASSWORD holds it too
    #[arg(long = "registry-password-file", value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// A bearer token
    #[arg(id = "registry-token", long, value_name = "TOKEN", hide = true)]
    pub token: Option<Secret>,

    /// A file that holds a bearer token; HEADWATER_REGISTRY_TOKEN holds it too
    #[arg(long = "registry-token-file", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Certificates, in PEM, of those who may vouch for the registry; the system's where it is not
    /// given
    #[arg(long = "registry-ca", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
