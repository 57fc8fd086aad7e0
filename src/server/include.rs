//! `include`: from a path or a pattern to files. What a pattern finds and what cannot be taken are both told: a file that
//! was meant and is left out would be a route, a limit or an authenticator less, and nobody would know.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

/// Most files that one pattern takes, and entries it looks at: far beyond any configuration, few enough to notice `/**`.
const MOST: usize = 100_000;

const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// What a path or a pattern stands for.
#[derive(Default)]
pub(super) struct Taken {
    /// Regular files, sorted.
    pub files: Vec<PathBuf>,
    /// What cannot be taken, and why.
    pub problems: Vec<String>,
    looked_at: usize,
    /// Device and number of the directories above the one that is being walked, as far as `**` led to them.
    on_the_way: Vec<(u64, u64)>,
}

/// A part of a pattern between slashes.
enum Part {
    /// A name as it is.
    Name(String),
    /// Names that match.
    Some(Pattern),
    /// `**`: any directories, or none.
    Any,
}

/// The files that `pattern` stands for, relative to `base`. A pattern may find nothing; a plain path must be there.
pub(super) fn take(base: &Path, pattern: &str) -> Taken {
    let mut taken = Taken::default();
    if !pattern.contains(['*', '?', '[']) {
        let path = base.join(pattern);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                taken.problems.push(format!("{pattern:?}: no such file"));
            }
            _ => taken.accept(path),
        }
        return taken;
    }
    // A file of that very name is meant as well, whatever the characters of its name stand for in patterns.
    let named = base.join(pattern);
    if fs::symlink_metadata(&named).is_ok() {
        taken.accept(named);
    }
    match parts(pattern) {
        Ok(parts) => {
            let start = if pattern.starts_with('/') {
                PathBuf::from("/")
            } else {
                base.to_owned()
            };
            taken.walk(&start, &parts);
        }
        Err(why) => taken
            .problems
            .push(format!("{pattern:?} is no pattern: {why}")),
    }
    taken.files.sort();
    taken.files.dedup();
    taken
}

fn parts(pattern: &str) -> Result<Vec<Part>, String> {
    let names = pattern.split('/').filter(|name| !name.is_empty());
    let part = |name: &str| match name {
        "**" => Ok(Part::Any),
        _ if name.contains(['*', '?', '[']) => Pattern::new(name)
            .map(Part::Some)
            .map_err(|error| error.to_string()),
        _ => Ok(Part::Name(name.to_owned())),
    };
    names.map(part).collect()
}

impl Taken {
    fn walk(&mut self, at: &Path, parts: &[Part]) {
        let Some((part, rest)) = parts.split_first() else {
            return;
        };
        match part {
            Part::Name(name) => self.step(at.join(name), rest),
            Part::Some(pattern) => {
                for path in self.entries(at, Some(pattern)) {
                    match rest {
                        [] => self.accept(path),
                        _ => self.enter(&path, rest),
                    }
                }
            }
            Part::Any => {
                let here = fs::metadata(at).map(|meta| (meta.dev(), meta.ino())).ok();
                self.on_the_way.extend(here);
                if !rest.is_empty() {
                    self.walk(at, rest);
                }
                for path in self.entries(at, None) {
                    match fs::metadata(&path) {
                        Ok(meta) if meta.is_dir() => self.descend(&path, &meta, parts),
                        Ok(_) if rest.is_empty() => self.accept(path),
                        Ok(_) => {}
                        Err(error) => self.wrong(&path, &lost(&error)),
                    }
                }
                if here.is_some() {
                    self.on_the_way.pop();
                }
            }
        }
    }

    /// Goes on below a directory, unless a link led back to one that is being walked already.
    fn descend(&mut self, path: &Path, meta: &fs::Metadata, parts: &[Part]) {
        if !self.on_the_way.contains(&(meta.dev(), meta.ino())) {
            self.walk(path, parts);
        }
    }

    /// Goes on by a name that the pattern says. It may be missing; what is there must be what is needed.
    fn step(&mut self, path: PathBuf, rest: &[Part]) {
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ if rest.is_empty() => self.accept(path),
            Err(error) => self.wrong(&path, &format!("cannot be looked at: {error}")),
            Ok(_) => match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => self.walk(&path, rest),
                Ok(_) => self.wrong(&path, "is no directory"),
                Err(error) => self.wrong(&path, &lost(&error)),
            },
        }
    }

    /// Goes on by a name that matched: of those only directories are meant.
    fn enter(&mut self, path: &Path, rest: &[Part]) {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => self.walk(path, rest),
            Ok(_) => {}
            Err(error) => self.wrong(path, &lost(&error)),
        }
    }

    /// Entries of a directory that match, or all but the hidden ones, in order.
    fn entries(&mut self, directory: &Path, pattern: Option<&Pattern>) -> Vec<PathBuf> {
        let shown = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        let mut found = Vec::new();
        let entries = match fs::read_dir(shown) {
            Ok(entries) => entries,
            Err(error) => {
                self.wrong(shown, &format!("cannot be read: {error}"));
                return found;
            }
        };
        for entry in entries {
            self.looked_at += 1;
            if self.looked_at > MOST {
                if self.looked_at == MOST + 1 {
                    self.wrong(
                        shown,
                        "is one of too many entries; write a narrower pattern",
                    );
                }
                break;
            }
            match entry {
                Ok(entry) => {
                    let name = entry.file_name();
                    let matches = |name: &str| match pattern {
                        Some(pattern) => pattern.matches_with(name, MATCHING),
                        None => !name.starts_with('.'),
                    };
                    match name.to_str() {
                        Some(name) if matches(name) => found.push(directory.join(name)),
                        Some(_) => {}
                        None if matches(&name.to_string_lossy()) => {
                            self.wrong(&shown.join(&name), "has a name that is not UTF-8");
                        }
                        None => {}
                    }
                }
                Err(error) => self.wrong(shown, &format!("cannot be read to its end: {error}")),
            }
        }
        found.sort();
        found
    }

    /// Takes a regular file; anything else is a problem.
    fn accept(&mut self, path: PathBuf) {
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => self.files.push(path),
            Ok(meta) if meta.is_dir() => {
                let inside = path.join("*.toml");
                let hint = format!(
                    "is a directory; its files are {:?}",
                    inside.display().to_string()
                );
                self.wrong(&path, &hint);
            }
            Ok(_) => self.wrong(&path, "is no regular file"),
            Err(error) => self.wrong(&path, &lost(&error)),
        }
    }

    fn wrong(&mut self, path: &Path, why: &str) {
        self.problems.push(format!("{}: {why}", path.display()));
    }
}

/// Why something that is there cannot be followed to what it stands for.
fn lost(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "is a link that leads nowhere".to_owned(),
        _ => format!("cannot be opened: {error}"),
    }
}
