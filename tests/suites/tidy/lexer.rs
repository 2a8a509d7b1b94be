//! Rust text as tokens with their lines: comments are gone, and what a string holds cannot be mistaken for code.

/// What a token is, as far as the checks care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenKind {
    /// A name or a keyword.
    Word,
    /// A string, a character or a number.
    Literal,
    /// `::`, `=>`, `->`, `..`, or one character.
    Mark,
}

/// One token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) text: String,
    /// The first of its lines, from 1.
    pub(crate) line: usize,
    /// The last of its lines.
    pub(crate) last: usize,
}

impl Token {
    pub(crate) fn is(&self, text: &str) -> bool {
        self.kind != TokenKind::Literal && self.text == text
    }

    pub(crate) fn is_word(&self) -> bool {
        self.kind == TokenKind::Word
    }
}

/// The tokens of a file.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        text: text.chars().collect(),
        at: 0,
        line: 1,
    };
    let mut tokens = Vec::new();
    while lexer.at < lexer.text.len() {
        let (start, line) = (lexer.at, lexer.line);
        if let Some(kind) = lexer.next() {
            let text = lexer.text[start..lexer.at].iter().collect();
            let last = lexer.line;
            tokens.push(Token {
                kind,
                text,
                line,
                last,
            });
        }
    }
    tokens
}

struct Lexer {
    text: Vec<char>,
    at: usize,
    line: usize,
}

impl Lexer {
    /// Goes behind the next token, or behind a space or a comment.
    fn next(&mut self) -> Option<TokenKind> {
        if self.looks_at("//") {
            self.skip_while(|c| c != '\n');
            return None;
        }
        if self.looks_at("/*") {
            self.block_comment();
            return None;
        }
        if let Some(hashes) = self.raw_string() {
            self.until_closed(hashes);
            return Some(TokenKind::Literal);
        }
        match self.peek(0) {
            c if c.is_whitespace() => {
                self.step();
                None
            }
            'b' | 'c' if matches!(self.peek(1), '"' | '\'') => {
                self.step();
                let quote = self.peek(0);
                self.quoted(quote);
                Some(TokenKind::Literal)
            }
            '"' => {
                self.quoted('"');
                Some(TokenKind::Literal)
            }
            '\'' if self.peek(1) == '\\' || self.peek(2) == '\'' => {
                self.quoted('\'');
                Some(TokenKind::Literal)
            }
            c if c.is_ascii_digit() => {
                self.skip_while(is_of_word);
                Some(TokenKind::Literal)
            }
            c if is_of_word(c) => {
                self.skip_while(is_of_word);
                Some(TokenKind::Word)
            }
            _ => {
                let pairs = ["::", "=>", "->", ".."];
                let paired = pairs.iter().any(|pair| self.looks_at(pair));
                (0..1 + usize::from(paired)).for_each(|_| self.step());
                Some(TokenKind::Mark)
            }
        }
    }

    fn peek(&self, ahead: usize) -> char {
        self.text.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn looks_at(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(nr, c)| self.peek(nr) == c)
    }

    fn step(&mut self) {
        self.line += usize::from(self.peek(0) == '\n');
        self.at += 1;
    }

    fn skip_while(&mut self, holds: impl Fn(char) -> bool) {
        while self.at < self.text.len() && holds(self.peek(0)) {
            self.step();
        }
    }

    /// Block comments nest.
    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.text.len() {
            let (opens, closes) = (self.looks_at("/*"), self.looks_at("*/"));
            depth = depth + i32::from(opens) - i32::from(closes);
            (0..1 + usize::from(opens || closes)).for_each(|_| self.step());
            if depth == 0 {
                return;
            }
        }
    }

    /// How many `#` begin the raw string that stands here, if one does.
    fn raw_string(&self) -> Option<usize> {
        let prefixes = ["br", "cr", "r"];
        let prefix = prefixes.iter().find(|prefix| self.looks_at(prefix))?;
        let mut hashes = 0;
        while self.peek(prefix.len() + hashes) == '#' {
            hashes += 1;
        }
        (self.peek(prefix.len() + hashes) == '"').then_some(hashes)
    }

    fn until_closed(&mut self, hashes: usize) {
        self.skip_while(|c| c != '"');
        self.step();
        let end = format!("\"{}", "#".repeat(hashes));
        while self.at < self.text.len() && !self.looks_at(&end) {
            self.step();
        }
        (0..end.len()).for_each(|_| self.step());
    }

    fn quoted(&mut self, quote: char) {
        self.step();
        while self.at < self.text.len() && self.peek(0) != quote {
            if self.peek(0) == '\\' {
                self.step();
            }
            self.step();
        }
        self.step();
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn strings_comments_and_lifetimes_are_told_apart() {
    let text = "fn a<'x>(b: &'x str) { /* { /* } */ */ let c = ('{', '\\'', \"{\\\"\", r#\"\"}\"#, b'\"'); } // {";
    let found = tokens(text);
    let marks = |mark: &str| found.iter().filter(|token| token.is(mark)).count();
    assert_eq!((marks("{"), marks("}"), marks("(")), (1, 1, 2));
    let literals = found.iter().filter(|t| t.kind == TokenKind::Literal);
    assert_eq!(literals.count(), 5);
}

#[test]
fn a_token_knows_its_lines() {
    let found = tokens("a\n\"b\nc\"\n// d\ne");
    let lines: Vec<_> = found.iter().map(|t| (t.line, t.last)).collect();
    assert_eq!(lines, [(1, 1), (2, 3), (5, 5)]);
}
