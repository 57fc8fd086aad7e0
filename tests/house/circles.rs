//! Circles of imports inside a room: files of which each leads to each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::reader::Import;
use crate::tree::Tree;

/// Which file of a room imports which, and by what: line and path of each import.
pub(crate) struct Imports {
    edges: BTreeMap<usize, BTreeMap<usize, Vec<(usize, String)>>>,
}

impl Imports {
    /// Every import between two files of `room`.
    pub(crate) fn within(tree: &Tree, room: &str) -> Self {
        let mut edges: BTreeMap<usize, BTreeMap<usize, Vec<(usize, String)>>> = BTreeMap::new();
        let mut add = |from: usize, to: Option<usize>, line: usize, names: &[String]| {
            let Some(to) = to.filter(|to| *to != from && tree.files[*to].room == room) else {
                return;
            };
            let by = edges.entry(from).or_default().entry(to).or_default();
            by.push((line, names.join("::")));
        };
        let files = tree.files.iter().enumerate();
        for (from, file) in files.filter(|(_, file)| file.room == room) {
            let module = |within: &[String]| [&file.module[..], within].concat();
            for path in &file.facts.paths {
                let to = tree.file_of(&module(&path.within), &path.names);
                add(from, to, path.line, &path.names);
            }
            // What is only handed on is no import: the file does not need it.
            let needed =
                |import: &&Import| !import.handed_on || file.facts.used.contains(&import.name);
            for import in file.facts.imports.iter().filter(needed) {
                let (module, names) = (module(&import.path.within), &import.path.names);
                // A module that is imported is a name only; what is taken from it is seen where it is used.
                let to = match import.name.as_str() {
                    "*" => tree.module_of(&module, names),
                    _ => tree.file_of(&module, names),
                };
                add(from, to, import.path.line, names);
            }
        }
        Self { edges }
    }

    /// Every circle, the largest first.
    pub(crate) fn circles(&self) -> Vec<BTreeSet<usize>> {
        let reached: BTreeMap<usize, BTreeSet<usize>> = self
            .edges
            .keys()
            .map(|from| (*from, self.reached(*from)))
            .collect();
        let leads =
            |from: usize, to: usize| reached.get(&from).is_some_and(|all| all.contains(&to));
        let mut circles: Vec<BTreeSet<usize>> = reached
            .keys()
            .map(|file| {
                let all = reached[file].iter().copied();
                all.filter(|other| leads(*other, *file)).collect()
            })
            .filter(|circle: &BTreeSet<usize>| circle.len() > 1)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
        circles
    }

    /// The number of files of the largest circle; 0 when there is none.
    pub(crate) fn largest(&self) -> usize {
        self.circles().first().map_or(0, BTreeSet::len)
    }

    /// The circles with the imports they are made of, for whoever unties them.
    pub(crate) fn described(&self, tree: &Tree) -> String {
        let mut text = String::new();
        for circle in self.circles() {
            let _ = writeln!(text, "a circle of {} files", circle.len());
            for from in &circle {
                let _ = writeln!(text, "  {}", tree.files[*from].path);
                let Some(edges) = self.edges.get(from) else {
                    continue;
                };
                for (to, by) in edges.iter().filter(|(to, _)| circle.contains(to)) {
                    let _ = writeln!(text, "    -> {}", tree.files[*to].path);
                    for (line, path) in by {
                        let _ = writeln!(text, "       {line}: {path}");
                    }
                }
            }
        }
        text
    }

    fn reached(&self, from: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            let next = self.edges.get(&file).into_iter().flat_map(BTreeMap::keys);
            open.extend(next.filter(|to| reached.insert(**to)));
        }
        reached
    }
}
