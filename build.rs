//! Tells the program which commit it was built from, and says what is missing to build it.
#![allow(
    clippy::print_stderr,
    reason = "what cargo shows of a build script that fails"
)]

use std::env;
use std::path::Path;
use std::process::{Command, exit};

/// Programs that dependencies are built with.
const TOOLS: [&str; 3] = ["cc", "c++", "cmake"];
/// The packages, as the Makefile installs them.
const PACKAGES: &str = "build-essential cmake pkg-config ca-certificates";

fn main() {
    let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !is_there(tool)).collect();
    if !missing.is_empty() {
        eprintln!("error: missing to build tollgate: {}", missing.join(", "));
        eprintln!("On Debian and Ubuntu: apt-get install {PACKAGES}");
        eprintln!("`make install-deps` installs all that building and testing needs.");
        exit(1);
    }
    let commit = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!(
        "cargo:rustc-env=TOLLGATE_COMMIT={}",
        commit.unwrap_or_else(|| "unknown".to_owned())
    );
    println!("cargo:rerun-if-changed=.git/logs/HEAD");
    println!("cargo:rerun-if-changed=build.rs");
}

/// Whether a tool is in the path, or another was named in its place, as with `CC=clang`.
fn is_there(tool: &str) -> bool {
    let variable = match tool {
        "cc" => "CC",
        "c++" => "CXX",
        _ => "",
    };
    let named = env::vars_os().any(|(name, value)| {
        let name = name.to_string_lossy();
        let of_target = name
            .strip_prefix(variable)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
        !variable.is_empty() && of_target && !value.is_empty()
    });
    let path = env::var_os("PATH").unwrap_or_default();
    named || env::split_paths(&path).any(|directory| Path::new(&directory).join(tool).is_file())
}
