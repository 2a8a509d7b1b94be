//! HCL 1, as the primary's parser reads it.
//!
//! Not HCL 2: attributes may share a line, commas may stand between them, there are no expressions, and
//! `${…}` is plain text.

use alloc::{vec, vec::Vec};

use super::{
    cursor::{Cursor, Token, is_letter, is_word},
    document::{Item, Key, MAX_DEPTH, MAX_KEYS, Node, Notation, Quoted, Scalar},
    error::{PolicyError, Reason},
};

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Result<Vec<Item<'_>>, PolicyError> {
    let mut parser = HclParser {
        cursor: Cursor::new(text),
        peeked: None,
    };
    if text.contains(['\0', '\u{e123}']) {
        return Err(parser.cursor.error(Reason::IllegalCharacter));
    }
    parser.items(0)
}

struct HclParser<'a> {
    cursor: Cursor<'a>,
    peeked: Option<Token<'a>>,
}

impl<'a> HclParser<'a> {
    /// Items up to the end of the text, or at a depth up to the closing brace, which is left.
    fn items(&mut self, depth: usize) -> Result<Vec<Item<'a>>, PolicyError> {
        let mut items = Vec::new();
        loop {
            if depth > 0 && matches!(self.peek()?, Token::Mark('}')) {
                break;
            }
            // A key, `=` and then the end of the text is no item, and no error either.
            let Some(item) = self.item(depth)? else { break };
            items.push(item);
            if matches!(self.peek()?, Token::Mark(',')) {
                self.next()?;
            }
        }
        Ok(items)
    }

    fn item(&mut self, depth: usize) -> Result<Option<Item<'a>>, PolicyError> {
        let mut keys = Vec::new();
        let mut line = self.cursor.line();
        loop {
            let token = self.next()?;
            if keys.is_empty() {
                line = self.cursor.line();
            }
            if keys.len() > MAX_KEYS {
                return Err(self.cursor.error(Reason::TooDeep));
            }
            match token {
                Token::Word(word) => keys.push(Key::Bare(word)),
                Token::Scalar(Scalar::Quoted(quoted)) => keys.push(Key::Quoted(quoted)),
                Token::End if keys.is_empty() => return Ok(None),
                Token::Mark('=') if keys.len() == 1 => break,
                Token::Mark('{') if !keys.is_empty() => {
                    let value = self.object(depth)?;
                    return Ok(Some(Item { keys, value, line }));
                }
                Token::Mark('=') if keys.len() > 1 => return Err(self.cursor.expected("a block")),
                _ if keys.is_empty() => return Err(self.cursor.expected("a key")),
                _ => return Err(self.cursor.expected("'{' or '=' after a key")),
            }
        }
        let value = match self.next()? {
            Token::End => return Ok(None),
            Token::Scalar(scalar) => Node::Scalar(scalar),
            Token::Mark('{') => self.object(depth)?,
            Token::Mark('[') => self.list(depth)?,
            Token::Word(_) | Token::Mark(_) => return Err(self.cursor.expected("a value")),
        };
        Ok(Some(Item { keys, value, line }))
    }

    /// The opening brace is behind.
    fn object(&mut self, depth: usize) -> Result<Node<'a>, PolicyError> {
        let depth = self.deeper(depth)?;
        let items = self.items(depth)?;
        match self.next()? {
            Token::Mark('}') => Ok(Node::Object(items)),
            _ => Err(self.cursor.expected("'}'")),
        }
    }

    /// The opening bracket is behind. A list inside a list needs no comma after it.
    fn list(&mut self, depth: usize) -> Result<Node<'a>, PolicyError> {
        let depth = self.deeper(depth)?;
        let mut nodes = vec![];
        let mut comma_due = false;
        loop {
            let token = self.next()?;
            if comma_due && !matches!(token, Token::Mark(',' | ']')) {
                return Err(self.cursor.expected("',' or ']'"));
            }
            match token {
                Token::Scalar(scalar) => {
                    nodes.push(Node::Scalar(scalar));
                    comma_due = true;
                }
                Token::Mark('{') => {
                    nodes.push(self.object(depth)?);
                    comma_due = true;
                }
                Token::Mark('[') => nodes.push(self.list(depth)?),
                Token::Mark(',') => comma_due = false,
                Token::Mark(']') => return Ok(Node::List(nodes)),
                _ => return Err(self.cursor.expected("a value or ']'")),
            }
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, PolicyError> {
        if depth >= MAX_DEPTH {
            return Err(self.cursor.error(Reason::TooDeep));
        }
        Ok(depth + 1)
    }

    fn peek(&mut self) -> Result<Token<'a>, PolicyError> {
        let token = self.next()?;
        self.peeked = Some(token);
        Ok(token)
    }

    fn next(&mut self) -> Result<Token<'a>, PolicyError> {
        match self.peeked.take() {
            Some(token) => Ok(token),
            None => scan(&mut self.cursor),
        }
    }
}

fn scan<'a>(cursor: &mut Cursor<'a>) -> Result<Token<'a>, PolicyError> {
    skip(cursor)?;
    let start = cursor.at();
    let Some(first) = cursor.bump() else {
        return Ok(Token::End);
    };
    match first {
        c if is_letter(c) => {
            cursor.take_while(|c| is_word(c) || matches!(c, '-' | '.'));
            Ok(match cursor.since(start) {
                "true" => Token::Scalar(Scalar::Bool(true)),
                "false" => Token::Scalar(Scalar::Bool(false)),
                word => Token::Word(word),
            })
        }
        c if c.is_ascii_digit() => number(cursor, start, c),
        '-' => match cursor.take_if(|c| c.is_ascii_digit()) {
            Some(digit) => number(cursor, start, digit),
            None => Ok(Token::Mark('-')),
        },
        '.' if cursor.peek().is_some_and(|c| c.is_ascii_digit()) => Ok(cursor.fraction(start)),
        '"' => quoted(cursor),
        '<' => heredoc(cursor, start),
        '[' | ']' | '{' | '}' | ',' | '=' | '.' | '+' => Ok(Token::Mark(first)),
        _ => Err(cursor.error(Reason::IllegalCharacter)),
    }
}

/// Whitespace and comments.
fn skip(cursor: &mut Cursor<'_>) -> Result<(), PolicyError> {
    loop {
        cursor.skip_whitespace();
        match cursor.peek() {
            Some('#') => cursor.take_while(|c| c != '\n'),
            Some('/') => {
                cursor.bump();
                match cursor.bump() {
                    Some('/') => cursor.take_while(|c| c != '\n'),
                    Some('*') => block_comment(cursor)?,
                    _ => return Err(cursor.error(Reason::IllegalCharacter)),
                }
            }
            _ => return Ok(()),
        }
    }
}

fn block_comment(cursor: &mut Cursor<'_>) -> Result<(), PolicyError> {
    loop {
        match cursor.bump() {
            Some('*') if cursor.peek() == Some('/') => {
                cursor.bump();
                return Ok(());
            }
            Some(_) => {}
            None => return Err(cursor.error(Reason::Unterminated)),
        }
    }
}

fn number<'a>(
    cursor: &mut Cursor<'a>,
    start: usize,
    first: char,
) -> Result<Token<'a>, PolicyError> {
    if first == '0' && cursor.take_if(|c| matches!(c, 'x' | 'X')).is_some() {
        let digits = cursor.at();
        cursor.take_while(|c| c.is_ascii_hexdigit());
        if cursor.since(digits).is_empty() {
            return Err(cursor.error(Reason::BadNumber));
        }
        return Ok(Token::Scalar(Scalar::Integer(cursor.since(start))));
    }
    // Octal; the first digit after the zero is not looked at here, only where the number is used.
    cursor.number(start, |_, digits| {
        first == '0' && digits.get(1..).is_some_and(|d| d.contains(['8', '9']))
    })
}

/// The opening quote is behind. Between `${` and its `}` quotes and newlines are ordinary.
fn quoted<'a>(cursor: &mut Cursor<'a>) -> Result<Token<'a>, PolicyError> {
    let start = cursor.at();
    let mut braces = 0_u32;
    loop {
        let raw = cursor.since(start);
        match cursor.bump() {
            None => return Err(cursor.error(Reason::Unterminated)),
            Some('\n') if braces == 0 => return Err(cursor.error(Reason::Unterminated)),
            Some('"') if braces == 0 => {
                return Ok(Token::Scalar(Scalar::Quoted(Quoted {
                    raw,
                    notation: Notation::Hcl,
                })));
            }
            Some('$') if braces == 0 => {
                if cursor.take_if(|c| c == '{').is_some() {
                    braces = 1;
                }
            }
            Some('{') if braces > 0 => braces = braces.saturating_add(1),
            Some('}') => braces = braces.saturating_sub(1),
            Some('\\') => cursor.escape()?,
            Some(_) => {}
        }
    }
}

/// The first `<` is behind.
fn heredoc<'a>(cursor: &mut Cursor<'a>, start: usize) -> Result<Token<'a>, PolicyError> {
    if cursor.bump() != Some('<') {
        return Err(cursor.error(Reason::IllegalCharacter));
    }
    let anchor_start = cursor.at();
    cursor.take_if(|c| c == '-');
    cursor.take_while(is_word);
    let bare = cursor.since(anchor_start);
    cursor.take_if(|c| c == '\r');
    let anchor = cursor.since(anchor_start);
    match cursor.bump() {
        Some('\n') if !bare.is_empty() && bare != "-" => {}
        Some(_) => return Err(cursor.error(Reason::IllegalCharacter)),
        None => return Err(cursor.error(Reason::Unterminated)),
    }
    let marker = anchor.strip_prefix('-').unwrap_or(anchor);
    loop {
        let line_start = cursor.at();
        cursor.take_while(|c| c != '\n');
        let line = cursor.since(line_start);
        if cursor.bump().is_none() {
            return Err(cursor.error(Reason::Unterminated));
        }
        // The `-` of the anchor counts for the length, so an unindented end of `<<-EOF` is none.
        if line.len() >= anchor.len() && closes(line, marker) {
            return Ok(Token::Scalar(Scalar::Heredoc(cursor.since(start))));
        }
    }
}

fn closes(line: &str, marker: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.bytes().all(|b| b == b'\r'))
}

#[cfg(test)]
mod tests {
    use crate::acl::document::Source;

    fn accepted(text: &str) -> bool {
        Source::new(text).unwrap().items().is_ok()
    }

    #[test]
    fn heredocs_end_where_the_primary_ends_them() {
        for text in [
            "a = <<EOF\nx\nEOF\n",
            "a = <<EOF\r\nx\r\nEOF\r\n",
            "a = <<EOF\nx\n  EOF\n",
            "a = <<-EOF\nx\n EOF\n",
            "a = <<EOF\nx\nEOF\r\r\n",
        ] {
            assert!(accepted(text), "{text:?}");
        }
        for text in [
            "a = <<EOF\nx\nEOF",
            "a = <<EOF\nx\nEOF x\n",
            "a = <<-EOF\nx\nEOF\n",
            "a = <<-EOF\nx\nEOF\r\n",
            "a = <<\nx\n\n",
            "a = <<-\nx\n-\n",
            "a = <EOF\nx\nEOF\n",
        ] {
            assert!(!accepted(text), "{text:?}");
        }
    }

    #[test]
    fn a_number_takes_the_character_after_its_e_into_itself() {
        assert!(accepted("a { b = 1e} }") && !accepted("a { b = 1e,5 }"));
        assert!(!accepted("a { b = .5e1 }") && accepted("a { b = .5e }"));
        assert!(accepted("a = 08") && !accepted("a = 089") && !accepted("a = 0x"));
    }

    #[test]
    fn a_key_without_value_is_forgotten_at_the_end_only() {
        assert!(accepted("a = 1 b =") && !accepted("a = 1 b") && !accepted("a { b = "));
    }
}
