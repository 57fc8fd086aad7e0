//! The command line. Data goes to stdout, talk to stderr; 0 done, 1 failed, 2 wrong usage.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod admin_client;
mod args;
mod degrade;
mod demo;
mod features;
mod headroom;
mod inspect;
mod limits;
mod man;
mod mint;
mod output;
mod overload;
mod reload;
mod running;
mod status;
mod trial;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::config::{self, Problems};
use crate::server;
use args::{Cli, Command, ConfigCommand, Format};
use output::{Shown, write_out};

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    if cli.long_version {
        return finish(write_out(&args::long_version()));
    }
    if cli.version {
        return finish(write_out(&format!("tollgate {}\n", server::VERSION)));
    }
    finish(dispatch(cli))
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let path = cli.config.clone();
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => server::run(&path),
        Command::Check { format } => check(&path, format),
        Command::Reload { confirm } => reload::reload(&path, confirm.as_deref()),
        Command::Confirm => trial::confirm(&path),
        Command::Upgrade => reload::upgrade(&path),
        Command::Status { headroom, json } => status::status(&path, headroom, json),
        Command::Degrade { route, level, span } => {
            degrade::set(&path, &route, &level, span.as_deref())
        }
        Command::Routes { json } => inspect::routes(&path, json),
        Command::Config {
            command: ConfigCommand::Show,
        } => inspect::config_show(&path),
        Command::Explain(question) => inspect::explain(&path, &question),
        Command::Sign(sign) => mint::sign(&sign),
        Command::Token(token) => mint::token(&token),
        Command::Demo => demo::run(),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tollgate", &mut text);
            write_out(&String::from_utf8_lossy(&text))
        }
        Command::Man => write_out(&man::page()?),
        Command::Schema => write_out(&format!("{:#}\n", config::json_schema())),
    }
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.downcast_ref::<Shown>().is_some() => ExitCode::FAILURE,
        Err(error) => {
            let label = if colour() {
                "\x1b[31merror:\x1b[0m"
            } else {
                "error:"
            };
            match error.downcast_ref::<Problems>() {
                Some(problems) => eprintln!("{problems}"),
                None => eprintln!("{label} {error:#}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// `1 problem`, `2 problems`.
fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn check(path: &Path, format: Format) -> anyhow::Result<()> {
    let opened = server::Offline::open(path).and_then(|offline| {
        server::check_descriptors(&offline.snapshot.config)?;
        Ok(offline)
    });
    let problems: Vec<serde_json::Value> = match &opened {
        Ok(_) => Vec::new(),
        Err(error) => match error.downcast_ref::<Problems>() {
            Some(Problems(problems)) => problems
                .iter()
                .filter_map(|p| serde_json::to_value(p).ok())
                .collect(),
            None => vec![
                serde_json::json!({ "file": path.display().to_string(), "line": 0, "column": 0, "key": "",
                "message": format!("{error:#}") }),
            ],
        },
    };
    if format == Format::Json {
        let warnings = opened
            .as_ref()
            .map_or(&[][..], |offline| &offline.snapshot.warnings);
        let report = serde_json::json!({
            "ok": opened.is_ok(), "problems": problems, "warnings": warnings,
        });
        write_out(&format!("{report:#}\n"))?;
        return opened.map(drop).map_err(|_| Shown.into());
    }
    match opened {
        Ok(offline) => {
            let config = &offline.snapshot.config;
            for warning in &offline.snapshot.warnings {
                eprintln!("warning: {warning}");
            }
            write_out(&format!(
                "{}: ok, {}, {}, hash {}\n",
                path.display(),
                counted(config.routes.len(), "route"),
                counted(config.upstreams.len(), "upstream"),
                config.hash
            ))
        }
        Err(error) => match error.downcast_ref::<Problems>() {
            Some(problems) => {
                write_out(&format!("{problems}\n"))?;
                eprintln!("{}", counted(problems.0.len(), "problem"));
                Err(Shown.into())
            }
            None => {
                write_out(&format!("{}: {error:#}\n", path.display()))?;
                Err(Shown.into())
            }
        },
    }
}
