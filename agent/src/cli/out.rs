//! The one place that prints: pages to standard output, errors to standard error.

use std::{
    fmt::{Display, Write as _},
    io::{ErrorKind, Write as _},
};

use serde::Serialize;

use crate::cli::Failure;

/// Prints a page. A reader that went away has read enough.
pub(super) fn page(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

/// Prints a value as JSON, on one line.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::Output(error.into()))?;
    page(&(text + "\n"))
}

/// Prints a value, as JSON where that is asked for, or else as the page that `page` makes of it.
pub(super) fn show<T: Serialize>(
    value: &T,
    as_json: bool,
    page_of: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if as_json {
        json(value)
    } else {
        page(&page_of(value))
    }
}

/// Prints what went wrong.
pub(super) fn error(error: &impl Display) {
    // Where standard error is closed, the exit code has to do.
    let _ = writeln!(std::io::stderr().lock(), "holdover: {error}");
}

/// Prints usage or help, as clap words it.
pub(super) fn usage(usage: &clap::Error) {
    let _ = usage.print();
}

/// Whether a person sees standard output.
pub(super) fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

/// Rows below a head, in columns as wide as their widest cell.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head = head.map(str::to_owned);
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // A String takes everything.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["a".to_owned(), "1".to_owned()],
            ["long one".to_owned(), "22".to_owned()],
        ];
        assert_eq!(
            table(["NAME", "N"], &rows),
            "NAME      N\na         1\nlong one  22\n"
        );
    }
}
