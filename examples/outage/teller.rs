//! Tells the story on the terminal: one line for each promise, with what was measured beside it.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use harness::clock::Stopwatch;
use harness::{Failure, Result};

use crate::figures;

/// Where the measured part of a line begins.
const COLUMN: usize = 50;

/// The terminal: in colour if it is one and nobody minds.
pub(crate) struct Teller {
    terminal: bool,
    colour: bool,
    watch: Stopwatch,
    kept: usize,
}

/// How wide quotations are, and how many lines of a failure are shown.
const WIDTH: usize = 90;
const LINES: usize = 20;

/// How a part of a line is shown.
#[derive(Clone, Copy)]
enum Style {
    Bold,
    Dim,
    Good,
    Bad,
    Measured,
}

impl Teller {
    pub(crate) fn new() -> Teller {
        let terminal = std::io::stdout().is_terminal();
        Teller {
            terminal,
            colour: terminal && std::env::var_os("NO_COLOR").is_none(),
            watch: Stopwatch::start(),
            kept: 0,
        }
    }

    pub(crate) fn title(&self, title: &str, below: &str) {
        let (title, below) = (
            self.styled(Style::Bold, title),
            self.styled(Style::Dim, below),
        );
        say(format_args!("\n  {title}\n  {below}\n"));
    }

    pub(crate) fn chapter(&self, name: &str) {
        let name = self.styled(Style::Bold, name);
        say(format_args!("\n  {name}\n"));
    }

    /// Keeps a promise: `work` says what was measured, or why the promise broke. Shown while it is under way.
    pub(crate) async fn promise<T>(
        &mut self,
        promise: &str,
        work: impl Future<Output = Result<(T, String)>>,
    ) -> Result<T> {
        if self.terminal {
            let (mark, text) = (
                self.styled(Style::Dim, "·"),
                self.styled(Style::Dim, promise),
            );
            say(format_args!("  {mark} {text}"));
        }
        let result = work.await;
        let back = if self.terminal { "\r\x1b[K" } else { "" };
        match result {
            Ok((value, measured)) => {
                self.kept += 1;
                let (mark, measured) = (
                    self.styled(Style::Good, "✓"),
                    self.styled(Style::Measured, &measured),
                );
                say(format_args!(
                    "{back}  {mark} {promise:COLUMN$} {measured}\n"
                ));
                Ok(value)
            }
            Err(failure) => {
                let mark = self.styled(Style::Bad, "✗");
                say(format_args!("{back}  {mark} {promise}\n"));
                Err(failure)
            }
        }
    }

    /// Shows what a user sees, below the line that it belongs to, broken between words.
    pub(crate) fn shows(&self, text: &str) {
        let mut lines = vec![String::new()];
        for word in text.split_whitespace() {
            match lines.last_mut() {
                Some(line) if line.len() + word.len() < WIDTH => *line += &format!(" {word}"),
                _ => lines.push(format!("   {word}")),
            }
        }
        for line in lines {
            say(format_args!("   {}\n", self.styled(Style::Dim, &line)));
        }
    }

    /// The end of a story without a broken promise.
    pub(crate) fn end(&self) {
        let took = figures::span(self.watch.elapsed());
        let held = self.styled(Style::Good, &format!("All {} promises held.", self.kept));
        say(format_args!("\n  {held} {took} in all.\n\n"));
    }

    /// The end of a story with one.
    pub(crate) fn broke(&self, failure: &Failure) {
        let broken = self.styled(Style::Bad, "A promise broke.");
        say(format_args!("\n  {broken}\n"));
        let text = failure.to_string();
        for line in text.lines().filter(|line| !line.is_empty()).take(LINES) {
            say(format_args!("  {line}\n"));
        }
        say("\n");
    }

    fn styled(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "1;31",
            Style::Measured => "36",
        };
        match self.colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// A reader who has gone away is no broken promise.
fn say(text: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}
