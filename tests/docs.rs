//! Pages under `docs/` name files and quote lines of them: both are there.

use std::collections::HashSet;
use std::path::Path;

/// What stands in backticks, in order.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Whether it is written as a file of this repository.
fn is_file(text: &str) -> bool {
    let folders = ["src/", "tests/", "conf/", "docs/"];
    folders.iter().any(|folder| text.starts_with(folder)) && !text.contains('*')
}

#[test]
fn a_page_that_names_a_file_and_a_line_of_it_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/add-a-filter.md")).unwrap();
    let (mut files, mut lines) = (0, 0);
    for row in page.lines() {
        let quoted = quoted(row);
        for file in quoted.iter().filter(|text| is_file(text)) {
            assert!(root.join(file).is_file(), "{file} is not there: {row}");
            files += 1;
        }
        let [.., file, line] = quoted[..] else {
            continue;
        };
        if row.starts_with('|') && is_file(file) {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            let stands = text.lines().any(|known| known.trim() == line);
            assert!(stands, "{file} has no line {line:?}");
            lines += 1;
        }
    }
    assert!(files >= 10 && lines == 7, "{files} files, {lines} lines");
    let five = page.lines().filter(|row| {
        row.starts_with(['|'])
            && row[1..]
                .trim_start()
                .starts_with(|c: char| c.is_ascii_digit())
    });
    assert_eq!(five.count(), 5, "more places are a leak");
}

/// Where a file may be that the page on the architecture names without its folders.
const SHORT: [&str; 4] = ["", "src/", "src/gateway/", "docs/"];

/// Words of all sources: what a page may name.
fn words_of(folder: &Path, words: &mut HashSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            words_of(&path, words);
        } else if path
            .extension()
            .is_some_and(|kind| kind == "rs" || kind == "toml")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            words.extend(words_in(&text).map(str::to_owned));
        }
    }
}

fn words_in(text: &str) -> impl Iterator<Item = &str> {
    let each = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    each.filter(|word| !word.is_empty())
}

#[test]
fn what_the_architecture_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let mut words = HashSet::new();
    for folder in ["src", "conf"] {
        words_of(&root.join(folder), &mut words);
    }
    // Between fences backticks come in threes; what is left quotes one thing each.
    let prose: String = page.split("```").step_by(2).collect();
    let (mut files, mut names) = (0, 0);
    for named in quoted(&prose) {
        if named.contains('<') {
            continue; // a file that is to be written
        }
        if named.contains('/') || named.ends_with(".rs") {
            let there = SHORT.iter().map(|folder| root.join(folder).join(named));
            let module = root.join("src/gateway").join(format!("{named}.rs"));
            assert!(
                there.chain([module]).any(|path| path.exists()),
                "{named} is not there"
            );
            files += 1;
        } else {
            for word in words_in(named) {
                assert!(words.contains(word), "no source has {word}, of {named}");
            }
            names += 1;
        }
    }
    for word in page.split("```").skip(1).step_by(2).flat_map(words_in) {
        // A type, or a function with more than one word: others are plain English.
        let inside = word.get(1..).unwrap_or_default();
        let is_name = inside.contains(|c: char| c.is_uppercase() || c == '_');
        assert!(!is_name || words.contains(word), "no source has {word}");
    }
    assert!(files > 60 && names > 120, "{files} files, {names} names");
}
