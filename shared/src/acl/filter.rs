//! List filters: a template that names the path to check for each key of a listing.
//!
//! The primary gives the whole of Go's template language. What is modelled is what a path can sensibly be
//! made with: text, `.path`, `.key`, quoted strings, and pipelines of a few functions on them.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use super::parameters::lowered;

/// A filter as written, and as understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FilterTemplate {
    /// `None`: outside of what is modelled.
    pieces: Option<Vec<Piece>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Pipeline(Vec<Command>),
}

/// An operand, or a function with its operands; the result of the command before comes last.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Command {
    function: Option<Function>,
    operands: Vec<Operand>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Function {
    Lowercase,
    Print,
    Replace,
    Truncate,
    Uppercase,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Operand {
    Path,
    Key,
    Text(String),
    Number(usize),
}

impl FilterTemplate {
    pub(super) fn new(text: &str) -> Self {
        Self {
            pieces: parse(text),
        }
    }

    /// The path to check for `key` of the listing at `path`; `None` where that is not modelled.
    pub(super) fn render(&self, path: &str, key: &str) -> Option<String> {
        let mut text = String::new();
        for piece in self.pieces.as_ref()? {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Pipeline(commands) => text.push_str(&run(commands, path, key)?),
            }
        }
        Some(text)
    }

    pub(super) fn is_modelled(&self) -> bool {
        self.pieces.is_some()
    }
}

fn parse(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some((literal, action)) = rest.split_once("{{") {
        let trims_before = action.starts_with("- ");
        let literal = trimmed(literal, trim, trims_before);
        pieces.push(Piece::Text(literal.to_owned()));
        let end = action_end(action)?;
        let (action, after) = action.split_at_checked(end)?;
        rest = after.strip_prefix("}}")?;
        trim = action.ends_with(" -");
        let action = action.get(if trims_before { 1 } else { 0 }..)?;
        let action = if trim {
            action.strip_suffix('-')?
        } else {
            action
        };
        pieces.push(Piece::Pipeline(pipeline(action)?));
    }
    pieces.push(Piece::Text(trimmed(rest, trim, false).to_owned()));
    Some(pieces)
}

fn trimmed(text: &str, start: bool, end: bool) -> &str {
    const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];
    let text = if start {
        text.trim_start_matches(SPACE)
    } else {
        text
    };
    if end {
        text.trim_end_matches(SPACE)
    } else {
        text
    }
}

/// Where the action's `}}` is, outside of quotes.
fn action_end(action: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in action.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`') => quote = Some(c),
            None if action.get(at..)?.starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

fn pipeline(action: &str) -> Option<Vec<Command>> {
    let mut commands = Vec::new();
    let mut words = Vec::new();
    let mut rest = action.trim_start();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('|') {
            commands.push(command(core::mem::take(&mut words), commands.is_empty())?);
            rest = after.trim_start();
            continue;
        }
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after.trim_start();
        // Words are set apart by space or a bar.
        if rest.len() == after.len() && !(rest.is_empty() || rest.starts_with('|')) {
            return None;
        }
    }
    commands.push(command(words, commands.is_empty())?);
    Some(commands)
}

enum Word {
    Function(Function),
    Operand(Operand),
}

fn word(text: &str) -> Option<(Word, &str)> {
    if let Some(rest) = text.strip_prefix('`') {
        let (literal, rest) = rest.split_once('`')?;
        return Some((Word::Operand(Operand::Text(literal.to_owned())), rest));
    }
    if let Some(rest) = text.strip_prefix('"') {
        let (literal, rest) = rest.split_once('"')?;
        // Escapes are left to the primary.
        let plain = !literal.contains(['\\', '\n']);
        return plain.then(|| (Word::Operand(Operand::Text(literal.to_owned())), rest));
    }
    let end = text
        .find(|c: char| c.is_whitespace() || c == '|')
        .unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end)?;
    let word = match word {
        ".path" => Word::Operand(Operand::Path),
        ".key" => Word::Operand(Operand::Key),
        "lowercase" => Word::Function(Function::Lowercase),
        "print" => Word::Function(Function::Print),
        "replace" => Word::Function(Function::Replace),
        "truncate" => Word::Function(Function::Truncate),
        "uppercase" => Word::Function(Function::Uppercase),
        number if number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0') => {
            Word::Operand(Operand::Number(number.parse().ok()?))
        }
        _ => return None,
    };
    Some((word, rest))
}

fn command(words: Vec<Word>, first: bool) -> Option<Command> {
    let mut words = words.into_iter();
    let (function, mut operands) = match words.next()? {
        Word::Function(function) => (Some(function), Vec::new()),
        // Only the first command can be a value: what follows a bar is given something.
        Word::Operand(operand) if first => (None, [operand].into()),
        Word::Operand(_) => return None,
    };
    for word in words {
        match word {
            Word::Operand(operand) if function.is_some() => operands.push(operand),
            _ => return None,
        }
    }
    Some(Command { function, operands })
}

fn run(commands: &[Command], path: &str, key: &str) -> Option<String> {
    let mut given: Option<String> = None;
    for command in commands {
        let operands = command.operands.iter().map(|operand| match operand {
            Operand::Path => Argument::Text(path.to_owned()),
            Operand::Key => Argument::Text(key.to_owned()),
            Operand::Text(text) => Argument::Text(text.clone()),
            Operand::Number(number) => Argument::Number(*number),
        });
        let arguments: Vec<_> = operands.chain(given.take().map(Argument::Text)).collect();
        given = Some(apply(command.function, &arguments)?);
    }
    given
}

enum Argument {
    Text(String),
    Number(usize),
}

fn apply(function: Option<Function>, arguments: &[Argument]) -> Option<String> {
    use Argument::{Number, Text};
    match (function, arguments) {
        (None, [Text(text)]) => Some(text.clone()),
        (Some(Function::Lowercase), [Text(text)]) => Some(lowered(text)),
        (Some(Function::Uppercase), [Text(text)]) => text.chars().map(upper).collect(),
        (Some(Function::Replace), [Text(find), Text(with), Text(text)]) => {
            Some(text.replace(find.as_str(), with))
        }
        (Some(Function::Truncate), [Number(most), Text(text)]) => {
            text.get(..text.len().min(*most)).map(ToOwned::to_owned)
        }
        (Some(Function::Print), texts) => texts
            .iter()
            .map(|argument| match argument {
                Text(text) => Some(text.as_str()),
                Number(_) => None,
            })
            .collect(),
        _ => None,
    }
}

/// A character's capital; `None` where it is several, which Go does not do.
fn upper(c: char) -> Option<char> {
    let mut upper = c.to_uppercase();
    let first = upper.next()?;
    upper.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_modelled_renders_as_go_does() {
        for (template, rendered) in [
            ("{{ .path }}{{ .key }}", "kv/metadata/a/Key"),
            ("kv/data/{{.key}}", "kv/data/Key"),
            (
                r#"{{ .path | replace "metadata" "data" }}{{ .key }}"#,
                "kv/data/a/Key",
            ),
            (r#"{{ replace "kv" `x` .path }}"#, "x/metadata/a/"),
            ("{{ .key | lowercase | truncate 2 }}", "ke"),
            ("{{ print .path .key }}", "kv/metadata/a/Key"),
            (" a {{- .key -}} b ", " aKeyb "),
            (r#"{{ "}}" }}{{.key}}"#, "}}Key"),
        ] {
            let filter = FilterTemplate::new(template);
            assert_eq!(
                filter.render("kv/metadata/a/", "Key").as_deref(),
                Some(rendered)
            );
        }
    }

    #[test]
    fn what_is_not_modelled_says_so() {
        for template in [
            "{{ if .key }}a{{ end }}",
            "{{ .other }}",
            "{{ .key.x }}",
            "{{ sha256 .key }}",
            "{{ .key | .path }}",
            "{{ (.key) }}",
            "{{ .key }",
            "{{ }}",
            "{{/* c */}}{{.key}}",
            r#"{{ "\x41" }}"#,
        ] {
            assert!(!FilterTemplate::new(template).is_modelled(), "{template}");
        }
        assert_eq!(
            FilterTemplate::new("{{ uppercase .key }}").render("", "ß"),
            None
        );
        assert_eq!(
            FilterTemplate::new("{{ truncate 1 .key }}").render("", "é"),
            None
        );
    }
}
