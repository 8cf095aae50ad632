//! `zkbridge schema`: prints the JSON Schemas of the record, the service event and the configuration, the configuration
//! reference, and the description of the HTTP API.

use clap::{Args, ValueEnum};

use crate::command::print;
use crate::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  zkbridge schema                        the change record, for consumers
  zkbridge schema service                the service event, for consumers
  zkbridge schema config > config.json   the configuration, for editors
  zkbridge schema reference              the configuration, for people
  zkbridge schema openapi                the HTTP API, for programs";

/// Options of `schema`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SchemaArgs {
    /// Schema to print
    #[arg(value_enum, default_value_t = Subject::Record)]
    subject: Subject,
}

/// A schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Subject {
    /// The change record that sinks deliver
    Record,
    /// The service event that sinks with a format of service events deliver
    Service,
    /// The configuration file
    Config,
    /// Every key of the configuration file with its type, default and meaning, as Markdown
    Reference,
    /// The HTTP API, as OpenAPI 3.1
    Openapi,
}

/// Runs the command.
pub fn run(args: &SchemaArgs) -> Result<(), Failure> {
    match args.subject {
        Subject::Record => print(&bridge_core::record::record_schema_text()),
        Subject::Service => print(&bridge_core::record::service_schema_text()),
        Subject::Config => print(&bridge_config::config_schema_text()),
        Subject::Reference => print(&bridge_config::config_reference()),
        Subject::Openapi => print(&crate::api::openapi::openapi_text()),
    }
}
