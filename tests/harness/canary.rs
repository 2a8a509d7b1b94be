//! The search for leaks: known secrets are planted, then looked for in files where none may be, in every form in which
//! a program writes bytes down.

mod forms;
mod search;

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

pub use forms::Form;

/// Secrets that were planted, and are to be found nowhere.
#[derive(Clone, Debug, Default)]
pub struct Canaries {
    needles: Vec<Needle>,
}

#[derive(Clone, Debug)]
struct Needle {
    name: String,
    bytes: Vec<u8>,
}

/// A secret found where it must not be. It names the secret and never shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// The secret's name, as planted.
    pub name: String,
    /// Where it was found.
    pub place: PathBuf,
    /// How it was written.
    pub form: Form,
}

/// What a search went through.
#[derive(Debug, Default)]
pub struct Searched {
    /// Files read.
    pub files: usize,
    /// Bytes read.
    pub bytes: u64,
    /// What was found, each secret once for each file and form.
    pub leaks: Vec<Leak>,
}

impl Canaries {
    /// Remembers a secret. At least 12 bytes, so that no file holds it, or a part of its encodings, by chance.
    pub fn plant(&mut self, name: &str, secret: &[u8]) -> Result<()> {
        if secret.len() < 12 {
            return Err(Failure::new(format!(
                "canary {name} is too short to be told from chance"
            )));
        }
        self.needles.push(Needle {
            name: name.to_owned(),
            bytes: secret.to_vec(),
        });
        Ok(())
    }

    /// How many were planted.
    pub fn count(&self) -> usize {
        self.needles.len()
    }

    /// Searches files and whole folders, hidden files included. Links are not followed; sockets and pipes are skipped; a
    /// file that vanishes meanwhile is none; one that cannot be read is a failure.
    pub fn search(&self, places: &[&Path]) -> Result<Searched> {
        let patterns = search::Patterns::new(&self.needles)?;
        let mut searched = Searched::default();
        for place in places {
            patterns.search_tree(place, &mut searched)?;
        }
        searched.leaks.sort();
        searched.leaks.dedup();
        Ok(searched)
    }

    /// Searches bytes that are in no file: an answer, a program's output. `place` names them.
    pub fn search_bytes(&self, place: &str, bytes: &[u8]) -> Result<Searched> {
        let mut searched = Searched::default();
        let patterns = search::Patterns::new(&self.needles)?;
        patterns.search_stream(Path::new(place), bytes, &mut searched)?;
        searched.leaks.sort();
        searched.leaks.dedup();
        Ok(searched)
    }

    /// Searches the command line and the environment of a process, where any user of the host may look.
    pub fn search_process(&self, pid: u32) -> Result<Searched> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        self.search(&[&folder.join("cmdline"), &folder.join("environ")])
    }
}

impl Searched {
    /// Fails, naming every leak, unless nothing was found; and if nothing was searched.
    pub fn clean(&self) -> Result<()> {
        if self.files == 0 {
            return Err(Failure::new("the search for leaks found no file to read"));
        }
        if self.leaks.is_empty() {
            return Ok(());
        }
        let show = |leak: &Leak| {
            format!(
                "{} in {} as {:?}",
                leak.name,
                leak.place.display(),
                leak.form
            )
        };
        let shown: Vec<String> = self.leaks.iter().map(show).collect();
        Err(Failure::new(format!(
            "{} leaks:\n{}",
            shown.len(),
            shown.join("\n")
        )))
    }
}
