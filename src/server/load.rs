//! Reading what the configuration consists of and points to: the only place that opens its files.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::{self, Config, Location, Problem, Problems, Source};
use crate::gateway::Material;
use crate::primitives::secret::{Secret, SecretSource};

/// Largest file read: far beyond any configuration, small enough to refuse a mistake.
const LARGEST: u64 = 64 << 20;

/// A validated configuration with its files.
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Its files, the main one first.
    pub sources: Vec<Source>,
}

/// Reads and validates the file at `path` with everything it includes.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let (sources, missing) = read(path)?;
    let config = config::load_with(&sources, &environment, missing)?;
    Ok(Loaded { config, sources })
}

/// The file at `path` and what it includes, sorted by pattern and then by name; and what cannot be included.
fn read(path: &Path) -> Result<(Vec<Source>, Vec<Problem>), Problems> {
    let main = source(path).map_err(|why| Problems::of_file(&path.display().to_string(), why))?;
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut problems = Vec::new();
    let mut sources = vec![main];
    for (pattern, place) in config::includes(&sources[0].clone()) {
        match expand(&base, &pattern) {
            Ok(paths) => {
                for path in paths {
                    match source(&path) {
                        Ok(source) if sources.iter().any(|known| known.file == source.file) => {}
                        Ok(source) => sources.push(source),
                        Err(why) => {
                            problems.push(problem(&place, format!("{}: {why}", path.display())));
                        }
                    }
                }
            }
            Err(why) => problems.push(problem(&place, why)),
        }
    }
    Ok((sources, problems))
}

/// The process' environment, as the configuration may ask for it.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
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

fn expand(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let full = base.join(pattern);
    let literal = !pattern.contains(['*', '?', '[']);
    if literal && !full.is_file() {
        return Err(format!("{pattern:?}: no such file"));
    }
    let text = full
        .to_str()
        .ok_or_else(|| format!("{pattern:?} is not UTF-8"))?;
    let found = glob::glob(text).map_err(|error| format!("{pattern:?} is no pattern: {error}"))?;
    let mut paths: Vec<PathBuf> = found
        .filter_map(Result::ok)
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    Ok(paths)
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
            let mut bytes = bounded(path).map_err(|why| format!("{}: {why}", path.display()))?;
            // One trailing newline is the editor's, not the secret's.
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
                if bytes.last() == Some(&b'\r') {
                    bytes.pop();
                }
            }
            Ok(Secret::new(bytes))
        };
        match source {
            SecretSource::Literal(secret) => Ok(secret.clone()),
            SecretSource::Env(name) => environment(name)
                .map(Secret::new)
                .ok_or_else(|| format!("the environment has no {name}")),
            SecretSource::File(path) => file(Path::new(path)),
            SecretSource::Credential(name) => match environment("CREDENTIALS_DIRECTORY") {
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
