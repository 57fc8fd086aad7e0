//! What can be asked on the command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::features;
use crate::primitives::level::Level;
use crate::primitives::units;
use crate::{server, tls};

/// An API gateway for edge hosts.
#[derive(Parser)]
#[command(
    name = "tollgate",
    about,
    disable_version_flag = true,
    arg_required_else_help = false
)]
pub(super) struct Cli {
    /// Configuration file.
    #[arg(
        short,
        long,
        global = true,
        env = "TOLLGATE_CONFIG",
        default_value = "/etc/tollgate/tollgate.toml",
        value_name = "FILE"
    )]
    pub(super) config: PathBuf,

    /// Print the version.
    #[arg(long, action = ArgAction::SetTrue)]
    pub(super) version: bool,

    /// Print version, commit, features, TLS library and framework version.
    #[arg(short = 'V', action = ArgAction::SetTrue)]
    pub(super) long_version: bool,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Start in the foreground (also without a command).
    Run,
    /// Report every problem of the configuration, and open what it points to.
    Check {
        /// Form of the report.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Validate, make the running gateway read its configuration again, and wait for its answer.
    Reload {
        /// On trial for so long, as "2m": taken back by itself when routes get clearly worse than in the minute before, or
        /// unless `tollgate confirm` comes. Waits for the end, and fails if it was taken back.
        #[arg(long, value_name = "SPAN", value_parser = span)]
        confirm: Option<String>,
    },
    /// Keep what `reload --confirm` put in force.
    Confirm,
    /// Replace the running program by the one that is now in its place, without losing a request.
    Upgrade,
    /// Show version, configuration hash, routes and upstream health of the running gateway.
    Status {
        /// Also estimate how much more this host can take.
        #[arg(long)]
        headroom: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Set how much of its work a route does.
    Degrade {
        /// Id of the route.
        route: String,
        /// normal, lean (no copies, no further tries), fallback (nobody is asked) or off (503).
        #[arg(value_parser = level)]
        level: String,
        /// Back to normal by itself after so long, as "30m".
        #[arg(long = "for", value_name = "SPAN", value_parser = span)]
        span: Option<String>,
    },
    /// Show the route table in match order.
    Routes {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the effective configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Tell what the gateway would decide about a request, and why.
    Explain(Question),
    /// Sign a request.
    Sign(Sign),
    /// Make a test token.
    Token(Token),
    /// Run a gateway and sample origins in one process.
    Demo,
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
    /// Print the JSON Schema of the configuration.
    Schema,
}

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print it as TOML: includes merged, defaults filled in, secrets masked.
    Show,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

#[derive(Args)]
pub(super) struct Question {
    /// Method.
    pub(super) method: String,
    /// Path with query, or a whole URL.
    pub(super) url: String,
    /// Header field, as 'name: value'. May be given several times.
    #[arg(short = 'H', value_name = "FIELD")]
    pub(super) headers: Vec<String>,
    /// Address of the client.
    #[arg(long)]
    pub(super) ip: Option<IpAddr>,
    /// Body, for signatures that cover it.
    #[arg(short = 'd', value_name = "BODY")]
    pub(super) body: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Scheme {
    Ca,
    Rfc9421,
}

#[derive(Args)]
pub(super) struct Sign {
    /// How to sign.
    #[arg(long, value_enum)]
    pub(super) scheme: Scheme,
    /// Application key.
    #[arg(long)]
    pub(super) key: String,
    /// Shared secret.
    #[arg(long)]
    pub(super) secret: String,
    /// Method.
    pub(super) method: String,
    /// URL.
    pub(super) url: String,
    /// Body.
    #[arg(short = 'd', value_name = "BODY")]
    pub(super) body: Option<String>,
    /// Further header field, as 'name: value'.
    #[arg(short = 'H', value_name = "FIELD")]
    pub(super) fields: Vec<String>,
    /// Print one 'name: value' a line instead of a curl line.
    #[arg(long)]
    pub(super) headers: bool,
}

#[derive(Args)]
pub(super) struct Token {
    /// Shared secret of an HS algorithm.
    #[arg(long, conflicts_with = "key", required_unless_present = "key")]
    pub(super) secret: Option<String>,
    /// Private key, a PEM file.
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    /// Algorithm; default HS256 with a secret, RS256 with a key.
    #[arg(long)]
    pub(super) alg: Option<String>,
    /// Claim, as name=value; a value that is JSON is taken as such. May be given several times.
    #[arg(long = "claim", value_name = "K=V")]
    pub(super) claims: Vec<String>,
    /// Time until it expires.
    #[arg(long, default_value = "1h")]
    pub(super) expires: String,
}

/// What `-V` says.
pub(super) fn long_version() -> String {
    format!(
        "tollgate {}\ncommit: {}\nfeatures: {}\nTLS: rustls with aws-lc-rs, to clients and to upstreams\n\
         key exchange: {}\nPingora: 0.9.1\n",
        server::VERSION,
        server::COMMIT,
        features::line(),
        tls::key_exchanges().join(", "),
    )
}

/// A level; kept as written, for the gateway reads it again.
fn level(text: &str) -> Result<String, String> {
    Level::parse(text).map(|_| text.to_owned())
}

/// A span of time; kept as written, for the gateway reads it again.
fn span(text: &str) -> Result<String, String> {
    units::duration(text).map(|_| text.to_owned())
}
