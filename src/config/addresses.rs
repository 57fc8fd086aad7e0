//! `allow_ips` and `deny_ips`: networks, and files that list them.

use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::document::At;
use super::error::{Location, Problem};
use super::scope::Scope;
use crate::primitives::ranges::AddressRanges;

/// Networks as written, and the files that hold more of them. The files are read when the configuration is put to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressList {
    /// Networks.
    pub networks: Vec<IpNet>,
    /// Files with one network a line.
    pub files: Vec<ListFile>,
}

/// A file that lists networks, and where the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFile {
    /// Path of the file.
    pub path: PathBuf,
    key: String,
    location: Location,
}

impl ListFile {
    /// What is wrong with it, at the place that names it.
    pub fn problem(&self, why: &str) -> Problem {
        Problem {
            file: self.location.file.to_string(),
            line: self.location.line,
            column: self.location.column,
            key: self.key.clone(),
            message: format!("{}: {why}", self.path.display()),
        }
    }
}

impl Scope<'_> {
    /// Reads networks, and the names of files of them.
    pub(super) fn addresses(&mut self, at: &At<'_>, texts: &[String]) -> AddressList {
        let mut list = AddressList::default();
        for (index, text) in texts.iter().enumerate() {
            let here = at.index(index);
            match text.strip_prefix("file:") {
                Some(path) if Path::new(path).is_absolute() => list.files.push(ListFile {
                    path: path.into(),
                    key: here.dotted(),
                    location: self.locate(&here),
                }),
                Some(_) => self.problem(
                    &here,
                    "write the whole path, as \"file:/etc/tollgate/deny.txt\"",
                ),
                None => list
                    .networks
                    .extend(self.read(&here, text, AddressRanges::parse_one)),
            }
        }
        list
    }
}
