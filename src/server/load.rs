//! Reading what the configuration consists of and points to: the only place that opens its files.

use std::env::VarError;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::include;
use crate::config::{self, Config, Location, Problem, Problems, Source};
use crate::gateway::Material;
use crate::primitives::secret::{Secret, SecretSource};

/// Largest file read: far beyond any configuration, small enough to refuse a mistake.
const LARGEST: u64 = 64 << 20;

/// A validated configuration with its files.
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Files of the configuration, the main one first.
    pub sources: Vec<Source>,
}

/// Reads and validates the file at `path` with everything it includes.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let (sources, missing) = read(path)?;
    let config = config::load_with(&sources, &environment, missing)?;
    Ok(Loaded { config, sources })
}

/// The runtime directory that the file at `path` names, as far as it can be read: the rest of it may be broken.
pub fn runtime_dir_of(path: &Path) -> Option<PathBuf> {
    let (sources, _) = read(path).ok()?;
    config::runtime_dir(&sources, &environment)
}

/// The file at `path` and what it includes, sorted by pattern and then by name; and what cannot be included.
fn read(path: &Path) -> Result<(Vec<Source>, Vec<Problem>), Problems> {
    let main = source(path).map_err(|why| Problems::of_file(&path.display().to_string(), why))?;
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut problems = Vec::new();
    let mut sources = vec![main];
    for (pattern, place) in config::includes(&sources[0].clone(), &environment) {
        let taken = include::take(&base, &pattern);
        for path in taken.files {
            match source(&path) {
                // Two patterns may find the same file.
                Ok(source) if sources.iter().any(|known| known.file == source.file) => {}
                Ok(source) => sources.push(source),
                Err(why) => problems.push(problem(&place, format!("{}: {why}", path.display()))),
            }
        }
        problems.extend(taken.problems.into_iter().map(|why| problem(&place, why)));
    }
    Ok((sources, problems))
}

/// The process' environment, as the configuration may ask for it.
pub fn environment(name: &str) -> Result<Option<String>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(format!(
            "the value of {name} in the environment is not UTF-8"
        )),
    }
}

fn problem(place: &Location, message: String) -> Problem {
    let (file, key) = (place.file.to_string(), "include".to_owned());
    Problem {
        file,
        line: place.line,
        column: place.column,
        key,
        message,
    }
}

fn source(path: &Path) -> Result<Source, String> {
    let bytes = bounded(path)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("not UTF-8 (byte {at})")
    })?;
    let text = text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text);
    Ok(Source {
        file: path.display().to_string().into(),
        text: text.into(),
    })
}

fn bounded(path: &Path) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err("is a directory".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        Err("is larger than 64 MiB".to_owned())
    } else {
        Ok(bytes)
    }
}

/// Secrets and files of this host.
pub(super) struct Host;

impl Material for Host {
    fn secret(&self, source: &SecretSource) -> Result<Secret, String> {
        let file = |path: &Path| {
            let bytes = bounded(path).map_err(|why| format!("{}: {why}", path.display()))?;
            Ok(Secret::of_text(bytes))
        };
        match source {
            SecretSource::Literal(secret) => Ok(secret.clone()),
            SecretSource::Env(name) => std::env::var_os(name)
                .map(|value| Secret::of_text(value.into_vec()))
                .ok_or_else(|| format!("the environment has no {name}")),
            SecretSource::File(path) => file(Path::new(path)),
            SecretSource::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(directory) => file(&Path::new(&directory).join(name)),
                None => Err(format!(
                    "cred:{name}: no credentials, $CREDENTIALS_DIRECTORY is not set"
                )),
            },
        }
    }

    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        bounded(path)
    }
}
