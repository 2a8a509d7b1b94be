//! Reads files in windows that overlap by more than the longest form of a secret, so that none hides on a boundary.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use aho_corasick::{AhoCorasick, MatchKind};

use super::forms::{Form, View, WIDEST};
use super::{Leak, Needle, Searched};
use crate::failure::{Context, Failure, Result};

/// What is read at a time.
const CHUNK: usize = 64 * 1024;

/// All secrets in all forms, ready to be looked for.
pub(super) struct Patterns<'a> {
    needles: &'a [Needle],
    views: Vec<ViewPatterns>,
    overlap: usize,
}

struct ViewPatterns {
    view: View,
    automaton: AhoCorasick,
    /// Of each pattern of the automaton: the secret's index and the form.
    meaning: Vec<(usize, Form)>,
}

impl<'a> Patterns<'a> {
    pub(super) fn new(needles: &'a [Needle]) -> Result<Patterns<'a>> {
        let views = View::ALL
            .into_iter()
            .map(|view| ViewPatterns::new(view, needles));
        let longest = needles
            .iter()
            .map(|n| n.bytes.len())
            .max()
            .unwrap_or_default();
        Ok(Patterns {
            needles,
            views: views.collect::<Result<_>>()?,
            overlap: (longest + 2) * WIDEST,
        })
    }

    /// Searches a file, or all files below a folder.
    pub(super) fn search_tree(&self, place: &Path, searched: &mut Searched) -> Result<()> {
        let Some(metadata) = unless_gone(place.symlink_metadata()).context(place.display())? else {
            return Ok(());
        };
        if metadata.is_dir() {
            let Some(entries) = unless_gone(std::fs::read_dir(place)).context(place.display())?
            else {
                return Ok(());
            };
            for entry in entries {
                self.search_tree(&entry.context(place.display())?.path(), searched)?;
            }
        } else if metadata.is_file()
            && let Some(file) = unless_gone(File::open(place)).context(place.display())?
        {
            self.search_stream(place, file, searched)?;
        }
        Ok(())
    }

    /// Searches what `source` gives.
    pub(super) fn search_stream(
        &self,
        place: &Path,
        mut source: impl Read,
        searched: &mut Searched,
    ) -> Result<()> {
        searched.files += 1;
        let mut window: Vec<u8> = Vec::new();
        loop {
            let read = source.by_ref().take(CHUNK as u64).read_to_end(&mut window);
            let read = read.context(place.display())?;
            searched.bytes += read as u64;
            self.search_window(place, &window, searched);
            if read < CHUNK {
                return Ok(());
            }
            let keep = window.len().saturating_sub(self.overlap);
            window.drain(..keep);
        }
    }

    fn search_window(&self, place: &Path, window: &[u8], searched: &mut Searched) {
        for patterns in &self.views {
            let Some(text) = patterns.view.of(window) else {
                continue;
            };
            for found in patterns.automaton.find_overlapping_iter(&text) {
                let meaning = patterns.meaning.get(found.pattern().as_usize());
                let needle = meaning.and_then(|(nr, form)| Some((self.needles.get(*nr)?, *form)));
                if let Some((needle, form)) = needle
                    && !(shown_by_raw(form) && contains(window, &needle.bytes))
                {
                    searched.leaks.push(Leak {
                        name: needle.name.clone(),
                        place: place.to_owned(),
                        form,
                    });
                }
            }
        }
    }
}

impl ViewPatterns {
    fn new(view: View, needles: &[Needle]) -> Result<ViewPatterns> {
        let (mut texts, mut meaning) = (Vec::new(), Vec::new());
        for (nr, needle) in needles.iter().enumerate() {
            for (form, text) in view.patterns(&needle.bytes) {
                texts.push(text);
                meaning.push((nr, form));
            }
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(&texts)
            .map_err(Failure::from)
            .context("patterns of the search for leaks")?;
        Ok(ViewPatterns {
            view,
            automaton,
            meaning,
        })
    }
}

/// Whether an untouched secret would look like this form too. Then it is the raw form's to report.
fn shown_by_raw(form: Form) -> bool {
    matches!(form, Form::Half | Form::UrlEscaped | Form::Escaped)
}

fn contains(window: &[u8], secret: &[u8]) -> bool {
    window.windows(secret.len()).any(|part| part == secret)
}

/// A file that goes away while a daemon works is no finding.
fn unless_gone<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
