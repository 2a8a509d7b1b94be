//! What is wrong with a configuration file: every mistake with its line, its key and the way out.

use std::{fmt, path::PathBuf};

use crate::file::FileFault;

/// Everything that is wrong with a file. There is at least one error.
#[derive(Debug)]
pub struct ConfigErrors {
    /// The file.
    pub path: PathBuf,
    /// In the order of their lines.
    pub errors: Vec<ConfigError>,
}

/// One mistake.
#[derive(Debug)]
pub struct ConfigError {
    /// Counted from 1; none where the file could not be read at all.
    pub line: Option<usize>,
    /// The dotted path of the key; empty where no key is meant.
    pub key: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong, with the remedy in its text.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Two keys that do not go together.
    #[error("{what}; {remedy}")]
    Conflict {
        /// The contradiction, with the values.
        what: String,
        /// What to change.
        remedy: &'static str,
    },
    /// The file may be changed by anyone.
    #[error("can be written by every user (mode {mode:04o}); run chmod o-w on it")]
    Loose {
        /// Its mode.
        mode: u32,
    },
    /// A key that has no default is absent.
    #[error("is missing; add {example}")]
    Missing {
        /// A line that would do.
        example: String,
    },
    /// The number or span is outside of its bounds.
    #[error("is {found}; give {least} to {most}")]
    Range {
        /// As written.
        found: String,
        /// The least that is taken.
        least: String,
        /// The most that is taken.
        most: String,
    },
    /// The file cannot be read.
    #[error("{0}; give another file with --config, or make one with holdover init")]
    Read(FileFault),
    /// It is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// Another type of value.
    #[error("is a {found}; give {expected}")]
    Type {
        /// What is there, in TOML's words.
        found: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// The feature is designed but not in this version: never ignored.
    #[error("{feature} is not built yet; {remedy}")]
    Unbuilt {
        /// The feature.
        feature: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// No such key.
    #[error("no such key; the keys here are {}", known.join(", "))]
    Unknown {
        /// The keys of this table.
        known: Vec<&'static str>,
    },
    /// The text is not what belongs there.
    #[error("{found:?} {why}")]
    Value {
        /// As written.
        found: String,
        /// Why not, and what would do.
        why: &'static str,
    },
}

impl fmt::Display for ConfigErrors {
    /// One line for each error: `file:line: key: problem`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.errors.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{error}", self.path.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.problem)
    }
}
