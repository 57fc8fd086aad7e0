//! The tree of source files, and which file a path leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::reader::Facts;

/// How often a name may be handed on (`pub use`) before it is given up: only a circle of them is longer.
const HANDED_ON: usize = 16;

/// The files of `src/` that are no tests.
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    modules: BTreeMap<Vec<String>, Module>,
}

/// One file of the tree.
pub(crate) struct File {
    /// Where it lies below `src/`.
    pub(crate) path: String,
    /// The first folder of `path`, or the name of a file that lies in `src/` itself.
    pub(crate) room: String,
    /// The names of its module: `["limit", "key"]`.
    pub(crate) module: Vec<String>,
    pub(crate) lines: usize,
    pub(crate) facts: Facts,
}

/// What a module holds, by names.
struct Module {
    file: usize,
    items: BTreeSet<String>,
    /// Names it imports, with the paths they stand for; the name of each import of everything is `*`.
    imports: Vec<(String, Vec<String>)>,
}

impl Tree {
    /// Reads a folder.
    pub(crate) fn read(root: &Path) -> Self {
        let mut paths = Vec::new();
        collect(root, &mut paths);
        let texts = paths.iter().map(|path| {
            let relative = path.strip_prefix(root).unwrap();
            let text = std::fs::read_to_string(path).unwrap();
            (relative.display().to_string(), text)
        });
        Self::of(texts)
    }

    /// Makes a tree of paths and texts.
    pub(crate) fn of<P: Into<String>, T: AsRef<str>>(
        texts: impl IntoIterator<Item = (P, T)>,
    ) -> Self {
        let texts = texts.into_iter();
        let mut files: Vec<File> = texts
            .map(|(path, text)| File::of(path.into(), text.as_ref()))
            .collect();
        let tests: Vec<Vec<String>> = files
            .iter()
            .flat_map(|file| {
                let below = |module: &Vec<String>| [&file.module[..], module].concat();
                file.facts
                    .test_modules
                    .iter()
                    .map(below)
                    .collect::<Vec<_>>()
            })
            .collect();
        files.retain(|file| !tests.iter().any(|test| file.module.starts_with(test)));
        let modules = modules(&files);
        Self { files, modules }
    }

    /// The file in which that is defined to which `path` leads, written in `module`; none when that lies outside the
    /// tree or is a module.
    pub(crate) fn file_of(&self, module: &[String], path: &[String]) -> Option<usize> {
        match self.found(module, path, HANDED_ON)? {
            Found::Item(file) => Some(file),
            Found::Module(_) => None,
        }
    }

    /// The file of the module to which `path` leads.
    pub(crate) fn module_of(&self, module: &[String], path: &[String]) -> Option<usize> {
        match self.found(module, path, HANDED_ON)? {
            Found::Item(file) => Some(file),
            Found::Module(module) => Some(self.modules.get(&module)?.file),
        }
    }

    fn found(&self, module: &[String], path: &[String], left: usize) -> Option<Found> {
        let left = left.checked_sub(1)?;
        if let Some(absolute) = absolute(module, path) {
            return self.below(Vec::new(), &absolute, left).or_else(|| {
                // What a macro made: its module is known all the same.
                let known = (1..absolute.len())
                    .rev()
                    .find_map(|end| self.modules.get(&absolute[..end]));
                known.map(|module| Found::Item(module.file))
            });
        }
        self.below(module.to_vec(), path, left)
    }

    /// What `path` leads to from within `module`.
    fn below(&self, module: Vec<String>, path: &[String], left: usize) -> Option<Found> {
        let Some((name, rest)) = path.split_first() else {
            return Some(Found::Module(module));
        };
        let here = self.modules.get(&module);
        let child = [&module[..], std::slice::from_ref(name)].concat();
        let is_module = self.modules.contains_key(&child);
        if is_module && !rest.is_empty() {
            return self.below(child, rest, left);
        }
        // A root without a file of its own holds modules only.
        let Some(here) = here else {
            return is_module.then_some(Found::Module(child));
        };
        if here.items.contains(name) {
            return Some(Found::Item(here.file));
        }
        let leads = |(_, to): &(String, Vec<String>)| {
            // A name that is imported under itself stands for another crate, or for the module beside it.
            (to.first() != Some(name)).then(|| self.found(&module, &[to, rest].concat(), left))?
        };
        let named = here.imports.iter().filter(|(alias, _)| alias == name);
        let all = here.imports.iter().filter(|(alias, _)| alias == "*");
        let through_all = |(_, to): &(String, Vec<String>)| {
            let known = absolute(&module, to)?;
            (known != module).then(|| self.below(known, path, left.checked_sub(1)?))?
        };
        named
            .filter_map(leads)
            .next()
            .or_else(|| is_module.then_some(Found::Module(child)))
            .or_else(|| all.filter_map(through_all).next())
    }
}

enum Found {
    Item(usize),
    Module(Vec<String>),
}

impl File {
    fn of(path: String, text: &str) -> Self {
        let mut module: Vec<String> = Path::new(&path)
            .with_extension("")
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        let room = module[0].clone();
        if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
            module.pop();
        }
        let facts = Facts::of(text).unwrap_or_else(|e| panic!("{path}: {e}"));
        Self {
            path,
            room,
            module,
            lines: text.lines().count(),
            facts,
        }
    }

    /// Every path of the file as one from the root of the tree, with its line; those that name other crates are left out.
    pub(crate) fn paths_from_the_root(&self) -> impl Iterator<Item = (Vec<String>, usize)> {
        let imported = self.facts.imports.iter().map(|import| &import.path);
        self.facts.paths.iter().chain(imported).filter_map(|path| {
            let module = [&self.module[..], &path.within].concat();
            Some((absolute(&module, &path.names)?, path.line))
        })
    }
}

fn modules(files: &[File]) -> BTreeMap<Vec<String>, Module> {
    let mut modules = BTreeMap::new();
    for (file, read) in files.iter().enumerate() {
        let own = std::iter::once(Vec::new());
        for within in own.chain(read.facts.inline_modules.iter().cloned()) {
            let items = read.facts.items.iter();
            let imports = read.facts.imports.iter();
            let module = Module {
                file,
                items: items
                    .filter(|(place, _)| *place == within)
                    .map(|(_, name)| name.clone())
                    .collect(),
                imports: imports
                    .filter(|import| import.path.within == within)
                    .map(|import| (import.name.clone(), import.path.names.clone()))
                    .collect(),
            };
            modules.insert([&read.module[..], &within].concat(), module);
        }
    }
    modules
}

/// `path`, written in `module`, from the root of the tree; none when it begins with a name of its surroundings.
fn absolute(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let climbs = path.iter().take_while(|name| *name == "super").count();
    let (base, rest) = match path.first()?.as_str() {
        "crate" | "tollgate" => (&module[..0], &path[1..]),
        "self" => {
            let climbs = path[1..].iter().take_while(|name| *name == "super").count();
            let height = module.len().checked_sub(climbs)?;
            (&module[..height], &path[1 + climbs..])
        }
        "super" => (
            &module[..module.len().checked_sub(climbs)?],
            &path[climbs..],
        ),
        _ => return None,
    };
    Some([base, rest].concat())
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|end| end == "rs") {
            paths.push(path);
        }
    }
    paths.sort();
}
