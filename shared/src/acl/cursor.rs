//! Characters of a policy text, and what its two notations scan alike: words, numbers and escapes.

use super::{
    document::Scalar,
    error::{PolicyError, Reason},
};

/// A place in a text. NUL ends a text, as it does for the primary's scanners.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

/// A token of either notation. JSON has no words.
#[derive(Clone, Copy)]
pub(super) enum Token<'a> {
    End,
    Word(&'a str),
    Scalar(Scalar<'a>),
    Mark(char),
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
        }
    }

    pub(super) fn line(&self) -> u32 {
        self.line
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The text from `start` to here.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or("")
    }

    pub(super) fn peek(&self) -> Option<char> {
        let next = self.text.get(self.at..)?.chars().next()?;
        (next != '\0').then_some(next)
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        if next == '\n' {
            self.line = self.line.saturating_add(1);
        }
        Some(next)
    }

    /// Steps over a NUL, which reads as the end of the text, but only once.
    pub(super) fn pass_nul(&mut self) {
        if self
            .text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with('\0'))
        {
            self.at += 1;
        }
    }

    /// Takes the next character if `wanted` says so.
    pub(super) fn take_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        self.peek().filter(|next| wanted(*next))?;
        self.bump()
    }

    pub(super) fn take_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.take_if(&wanted).is_some() {}
    }

    pub(super) fn skip_whitespace(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
    }

    pub(super) fn error(&self, reason: Reason) -> PolicyError {
        reason.at(self.line)
    }

    /// The error of a text that goes on with something else than `expected`.
    pub(super) fn expected(&self, expected: &'static str) -> PolicyError {
        self.error(Reason::Expected { expected })
    }

    /// A number from `start` on, whose first digit is behind. `is_bad` says of an integer, by the digits after the
    /// first, whether the notation refuses it.
    pub(super) fn number(
        &mut self,
        start: usize,
        is_bad: impl Fn(&Self, &str) -> bool,
    ) -> Result<Token<'a>, PolicyError> {
        let after_first = self.at;
        self.digits();
        let digits = self.since(after_first);
        if self.float_tail() {
            Ok(Token::Scalar(Scalar::Float(self.since(start))))
        } else if is_bad(self, digits) {
            Err(self.error(Reason::BadNumber))
        } else {
            Ok(Token::Scalar(Scalar::Integer(self.since(start))))
        }
    }

    /// A number that begins with a point, which is behind. An `e` belongs to it, the digits of an exponent do not.
    pub(super) fn fraction(&mut self, start: usize) -> Token<'a> {
        self.digits();
        self.take_if(|c| matches!(c, 'e' | 'E'));
        Token::Scalar(Scalar::Float(self.since(start)))
    }

    /// Reads on behind the integer part of a number: whether a fraction or an exponent was there.
    fn float_tail(&mut self) -> bool {
        let next = self.take_if(|c| matches!(c, 'e' | 'E' | '.'));
        let exponent = match next {
            Some('.') => {
                self.digits();
                self.take_if(|c| matches!(c, 'e' | 'E')).is_some()
            }
            other => other.is_some(),
        };
        if exponent {
            self.exponent();
        }
        next.is_some()
    }

    /// The digits of an exponent. One character that is no digit belongs to the number too: the primary's
    /// scanners have it so, and what follows is read accordingly.
    fn exponent(&mut self) {
        let mut next = self.bump();
        if matches!(next, Some('-' | '+')) {
            next = self.bump();
        }
        if next.is_some_and(|c| c.is_ascii_digit()) {
            self.digits();
        }
    }

    fn digits(&mut self) {
        self.take_while(|c| c.is_ascii_digit());
    }

    /// What follows a backslash inside quotes.
    pub(super) fn escape(&mut self) -> Result<(), PolicyError> {
        match self.bump() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' | '"') => Ok(()),
            Some('0'..='7') => self.escape_digits(2, 8),
            Some('x') => self.escape_digits(2, 16),
            Some('u') => self.escape_digits(4, 16),
            Some('U') => self.escape_digits(8, 16),
            _ => Err(self.error(Reason::BadEscape)),
        }
    }

    fn escape_digits(&mut self, count: usize, radix: u32) -> Result<(), PolicyError> {
        for _ in 0..count {
            self.take_if(|c| c.is_digit(radix))
                .ok_or_else(|| self.error(Reason::BadEscape))?;
        }
        Ok(())
    }
}

/// A letter, for the scanners. Wider than the primary's notion outside of ASCII (it counts no combining
/// marks); a text that differs there was never accepted by a primary.
pub(super) fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || (!c.is_ascii() && c.is_alphabetic() && !c.is_numeric())
}

/// A letter or a digit, for the scanners.
pub(super) fn is_word(c: char) -> bool {
    is_letter(c) || c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric())
}
