//! The manual page: one for the program and all its commands.

use std::io;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::args::Cli;

/// The page in roff.
pub(super) fn page() -> io::Result<String> {
    let mut program = Cli::command();
    program.build();
    let man = Man::new(program.clone());
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    text.extend_from_slice(b".SH COMMANDS\n");
    for command in program
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
    {
        add_command(command, &mut text)?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// One command as a subsection, with those below it.
fn add_command(command: &Command, text: &mut Vec<u8>) -> io::Result<()> {
    let below: Vec<&Command> = command
        .get_subcommands()
        .filter(|below| below.get_name() != "help")
        .collect();
    if below.is_empty() {
        let mut clone = command.clone();
        let usage = clone.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim();
        text.extend_from_slice(format!(".SS \"{}\"\n", usage.replace('"', "")).as_bytes());
        let man = Man::new(command.clone());
        let mut sections = Vec::new();
        man.render_description_section(&mut sections)?;
        man.render_options_section(&mut sections)?;
        let sections = String::from_utf8_lossy(&sections);
        let repeated = |line: &str| {
            [".SH ", ".ie ", ".el "]
                .iter()
                .any(|start| line.starts_with(start))
        };
        let lines = sections.lines().filter(|line| !repeated(line));
        for line in lines {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
    }
    for command in below {
        add_command(command, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_command_and_no_page_that_does_not_exist() {
        let page = page().expect("page");
        for command in Cli::command().get_subcommands() {
            assert!(
                page.contains(&format!("tollgate {}", command.get_name())),
                "{page}"
            );
        }
        assert!(!page.contains("tollgate\\-run(1)"), "{page}");
    }
}
