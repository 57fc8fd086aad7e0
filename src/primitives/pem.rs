//! The blocks of a PEM file (RFC 7468), as far as it takes to see whether a parser read all of them.
//!
//! Parsers look for lines that begin with `-----BEGIN` and pass over everything else. A block that begins elsewhere, as
//! when two files were joined that did not end in a newline, is passed over with it, and so is one of an unknown kind.

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<'t> {
    /// Kind of the block, as `CERTIFICATE`.
    pub label: &'t str,
    /// The line it begins on, from 1.
    pub line: usize,
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// The blocks of a file; an error says what of it a parser would pass over.
pub fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, String> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        // Only what stands around blocks may be no text.
        let line = std::str::from_utf8(line).unwrap_or_default();
        if line.starts_with('#') && open.is_none() {
            continue;
        }
        let wrong = |what: &str| Err(format!("line {number}: {what}"));
        let trimmed = line.trim_end();
        match (marker(trimmed, BEGIN), marker(trimmed, END), &open) {
            (Some(label), None, None) => {
                open = Some(Block {
                    label,
                    line: number,
                });
            }
            (Some(_), None, Some(block)) => {
                let block = block.label;
                return wrong(&format!(
                    "a block begins before the {block} block has ended"
                ));
            }
            (None, Some(label), Some(block)) if block.label == label => {
                blocks.extend(open.take());
            }
            (None, Some(label), _) => {
                return wrong(&format!("a {label} block ends that did not begin"));
            }
            _ if line.contains(DASHES) && (line.contains("BEGIN ") || line.contains("END ")) => {
                return wrong(
                    "a block must begin and end on lines of their own, which hold nothing else",
                );
            }
            _ => {}
        }
    }
    match open {
        Some(block) => Err(format!(
            "line {}: the {} block has no end",
            block.line, block.label
        )),
        None => Ok(blocks),
    }
}

/// The label of a line that is nothing but a marker.
fn marker<'l>(line: &'l str, kind: &str) -> Option<&'l str> {
    let label = line.strip_prefix(kind)?.strip_suffix(DASHES)?;
    (!label.contains('-') || !label.contains(DASHES)).then_some(label)
}

/// Endings of the kinds that may stand in a file with certificates: keys, and parameters that some tools write before a key.
const BESIDE: [&str; 3] = ["PRIVATE KEY", "PUBLIC KEY", "PARAMETERS"];

/// Refuses a file whose certificates would not all be read: one that holds what is neither a certificate nor a key.
pub fn check_certificates(text: &[u8]) -> Result<(), String> {
    for block in blocks(text)? {
        let label = block.label;
        let known = label == "CERTIFICATE" || BESIDE.iter().any(|kind| label.ends_with(kind));
        if !known {
            return Err(format!(
                "line {}: a {} block, which is not read",
                block.line, block.label
            ));
        }
    }
    Ok(())
}

/// Refuses a file of which more than one private key could be taken.
pub fn check_private_key(text: &[u8]) -> Result<(), String> {
    one_of(text, "private key", |label| label.ends_with("PRIVATE KEY"))
}

/// Refuses a file of which more than one public key could be taken: a certificate holds one too.
pub fn check_public_key(text: &[u8]) -> Result<(), String> {
    one_of(text, "public key", |label| {
        label.ends_with("PUBLIC KEY") || label == "CERTIFICATE"
    })
}

fn one_of(text: &[u8], what: &str, holds: impl Fn(&str) -> bool) -> Result<(), String> {
    let blocks = blocks(text)?;
    let mut keys = blocks.iter().filter(|block| holds(block.label));
    match (keys.next(), keys.next()) {
        (Some(_), Some(second)) => Err(format!(
            "line {}: a second {what}; only one would be used",
            second.line
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(label: &str) -> String {
        format!("{BEGIN}{label}-----\nAAAA\n{END}{label}-----\n")
    }

    fn labels(text: &str) -> Result<Vec<String>, String> {
        blocks(text.as_bytes()).map(|all| all.iter().map(|one| one.label.to_owned()).collect())
    }

    #[test]
    fn what_holds_a_key_is_counted_and_what_is_no_block_is_not() {
        let (certificate, key) = (block("CERTIFICATE"), block("PUBLIC KEY"));
        for several in [certificate.repeat(2), format!("{certificate}{key}")] {
            assert!(check_public_key(several.as_bytes()).is_err(), "{several}");
        }
        for one in [&certificate, &key] {
            assert_eq!(check_public_key(one.as_bytes()), Ok(()));
        }
        let beside = block("X9.42 DH PARAMETERS");
        let text = format!("-----------\nnote -----\n{certificate}{beside}");
        assert_eq!(check_certificates(text.as_bytes()), Ok(()));
        assert!(check_certificates(block("X509 CRL").as_bytes()).is_err());
    }

    #[test]
    fn finds_every_block() {
        let text = format!(
            "subject=x\n{}\r\n# a note -----\n{}",
            block("A B"),
            block("C")
        );
        assert_eq!(labels(&text), Ok(vec!["A B".to_owned(), "C".to_owned()]));
        assert_eq!(
            labels(&text.replace('\n', "\r\n")).map(|all| all.len()),
            Ok(2)
        );
        assert_eq!(labels("no block\u{e9}"), Ok(vec![]));
        let commented = block("A")
            .lines()
            .fold(String::new(), |text, line| format!("{text}# {line}\n"));
        assert_eq!(labels(&commented), Ok(vec![]));
        assert_eq!(
            blocks(b"\xff\xfe\n-----BEGIN A-----\n-----END A-----").map(|all| all[0].line),
            Ok(2)
        );
    }

    #[test]
    fn nothing_is_passed_over() {
        let (a, b) = (block("A"), block("B"));
        let joined = format!("{}{b}", a.trim_end());
        for (text, why) in [
            (&*joined, "line 3"),
            (&*format!(" {a}"), "line 1"),
            (
                &*format!("{}\n", a.replace("-----END A-----\n", "")),
                "line 1",
            ),
            (&*a.replace("-----BEGIN A-----\n", ""), "line 2"),
            (&*a.replace("-----BEGIN", "----BEGIN"), "line 1"),
            (&*a.replace("END A", "END B"), "line 3"),
            (
                &*format!("{}{b}", a.replace("-----END A-----\n", "")),
                "line 3",
            ),
            (&*format!("{} x\n", a.trim_end()), "line 3"),
        ] {
            let found = labels(text).expect_err(text);
            assert!(found.starts_with(why), "{found}: {text}");
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        let of = |labels: &[&str]| labels.iter().map(|label| block(label)).collect::<String>();
        let check = |labels: &[&str]| check_certificates(of(labels).as_bytes()).is_ok();
        assert!(check(&[
            "CERTIFICATE",
            "EC PARAMETERS",
            "EC PRIVATE KEY",
            "CERTIFICATE"
        ]));
        assert!(!check(&["CERTIFICATE", "TRUSTED CERTIFICATE"]) && !check(&["X509 CRL"]));
        let check = |labels: &[&str]| check_private_key(of(labels).as_bytes()).is_ok();
        assert!(check(&["CERTIFICATE", "RSA PRIVATE KEY", "PUBLIC KEY"]));
        assert!(!check(&["RSA PRIVATE KEY", "PRIVATE KEY"]));
        assert!(check_public_key(of(&["PUBLIC KEY", "RSA PUBLIC KEY"]).as_bytes()).is_err());
    }
}
