//! Pages under `docs/` name files and quote lines of them: both are there.

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
