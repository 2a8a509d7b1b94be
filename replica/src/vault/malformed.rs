//! What the primary says of a body that is no JSON object: OpenBao 2.7.2 reads it token by token with Go's JSON v2, and
//! words errors as v1 did.

/// Why `body` cannot be read as an object. It is known that it cannot.
pub(crate) fn reason(body: &[u8]) -> String {
    let mut scan = Scan { body, at: 0 };
    let kind = match scan.value().and_then(|kind| scan.end().map(|()| kind)) {
        Ok(kind) => kind,
        Err(reason) => return reason,
    };
    match kind {
        // Well-formed by these rules, and still not to be read: not UTF-8, or deeper than anything is read.
        Kind::Object => "invalid UTF-8 or nested too deeply".into(),
        kind => format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            format!("{kind:?}").to_ascii_lowercase()
        ),
    }
}

/// What a value is. Go names its kinds likewise, in small letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Array,
    Bool,
    Null,
    Number,
    Object,
    String,
}

struct Scan<'a> {
    body: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    /// Steps over a value. No recursion: a hostile body decides how deep it is.
    fn value(&mut self) -> Result<Kind, String> {
        let mut open: Vec<Kind> = Vec::new();
        let outermost = self.kind()?;
        let mut kind = outermost;
        loop {
            match kind {
                Kind::Array | Kind::Object => {
                    self.at += 1;
                    if self.peek()? == closing(kind) {
                        self.at += 1;
                    } else {
                        open.push(kind);
                        kind = self.member(kind)?;
                        continue;
                    }
                }
                _ => self.scalar(kind)?,
            }
            // A value has ended: the containers around it go on or end too.
            loop {
                let Some(&around) = open.last() else {
                    return Ok(outermost);
                };
                match self.peek()? {
                    b',' => {
                        let comma = self.at;
                        self.at += 1;
                        if self.peek()? == closing(around) {
                            self.at = comma;
                            return Err(self.unexpected("looking for beginning of value"));
                        }
                        kind = self.member(around)?;
                        break;
                    }
                    end if end == closing(around) => {
                        self.at += 1;
                        open.pop();
                    }
                    _ if around == Kind::Object => {
                        return Err(self.unexpected("after object key:value pair"));
                    }
                    _ => return Err(self.unexpected("after array element")),
                }
            }
        }
    }

    /// What the next member of a container is, once its name has been stepped over.
    fn member(&mut self, of: Kind) -> Result<Kind, String> {
        if of == Kind::Object {
            match self.kind()? {
                Kind::String => self.text()?,
                _ => return Err("object member name must be a string".into()),
            }
            if self.peek()? != b':' {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
        }
        self.kind()
    }

    fn kind(&mut self) -> Result<Kind, String> {
        Ok(match self.peek()? {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'"' => Kind::String,
            b't' | b'f' => Kind::Bool,
            b'n' => Kind::Null,
            b'-' | b'0'..=b'9' => Kind::Number,
            _ => return Err(self.unexpected("looking for beginning of value")),
        })
    }

    fn scalar(&mut self, kind: Kind) -> Result<(), String> {
        match (kind, self.byte()) {
            (Kind::String, _) => self.text(),
            (Kind::Number, _) => self.number(),
            (_, Some(b't')) => self.literal("true"),
            (_, Some(b'f')) => self.literal("false"),
            _ => self.literal("null"),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        for wanted in word.chars() {
            if char::from(self.byte().ok_or_else(ended)?) != wanted {
                let place = format!("in literal {word} (expecting {wanted:?})");
                return Err(self.unexpected(&place));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        // A number that begins with a zero ends there.
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), String> {
        match self.byte() {
            None => return Err(ended()),
            Some(b'0'..=b'9') => {}
            Some(_) => return Err(self.unexpected("in numeric literal")),
        }
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<(), String> {
        self.at += 1;
        loop {
            match self.byte().ok_or_else(ended)? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                0..0x20 => return Err(self.unexpected("in string")),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let length = match rest.get(1).ok_or_else(ended)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' if rest.len() < 6 => return Err(ended()),
            b'u' if rest.iter().skip(2).take(4).all(u8::is_ascii_hexdigit) => 6,
            other => {
                let shown = if *other == b'u' { 6 } else { 2 };
                let sequence = String::from_utf8_lossy(rest.get(..shown).unwrap_or(rest));
                return Err(format!("invalid escape sequence `{sequence}` in string"));
            }
        };
        self.at += length;
        Ok(())
    }

    /// Nothing but blanks may follow.
    fn end(&mut self) -> Result<(), String> {
        match self.peek() {
            Ok(_) => Err(self.unexpected("looking for beginning of value")),
            Err(_) => Ok(()),
        }
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> Result<u8, String> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.byte() {
            self.at += 1;
        }
        self.byte().ok_or_else(ended)
    }

    fn byte(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn unexpected(&self, place: &str) -> String {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let text = String::from_utf8_lossy(rest.get(..4).unwrap_or(rest));
        let shown = text.chars().next().unwrap_or_default();
        format!("invalid character {} {place}", quoted(shown))
    }
}

fn closing(container: Kind) -> u8 {
    match container {
        Kind::Array => b']',
        _ => b'}',
    }
}

fn ended() -> String {
    "unexpected EOF".into()
}

/// As Go quotes a character.
fn quoted(shown: char) -> String {
    match shown {
        '\'' => r"'\''".into(),
        '"' => r#"'"'"#.into(),
        '\u{7}' => r"'\a'".into(),
        '\u{8}' => r"'\b'".into(),
        '\u{c}' => r"'\f'".into(),
        '\u{b}' => r"'\v'".into(),
        '\n' | '\r' | '\t' | '\\' => format!("'{}'", shown.escape_default()),
        control if control < ' ' || control == '\u{7f}' => {
            format!("'\\x{:02x}'", u32::from(control))
        }
        shown => format!("'{shown}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As OpenBao 2.7.2 said it.
    #[test]
    fn a_malformed_body_is_refused_in_the_primarys_words() {
        for (body, said) in [
            (r#"{"paths": ["#, "unexpected EOF"),
            ("{", "unexpected EOF"),
            (r#"{"path": "a"#, "unexpected EOF"),
            (r#"{"paths" []}"#, "invalid character '[' after object key"),
            (
                r#"{"paths": tru}"#,
                "invalid character '}' in literal true (expecting 'e')",
            ),
            (
                r#"{"path": "a"} x"#,
                "invalid character 'x' looking for beginning of value",
            ),
            (
                "{'path'}",
                r"invalid character '\'' looking for beginning of value",
            ),
            (
                r#"{"path": "a",}"#,
                "invalid character ',' looking for beginning of value",
            ),
            (
                r#"{"path": 01}"#,
                "invalid character '1' after object key:value pair",
            ),
            (
                r#"{"path": 1.}"#,
                "invalid character '}' in numeric literal",
            ),
            (
                r#"{"path": "\x"}"#,
                r"invalid escape sequence `\x` in string",
            ),
            ("{\"path\": \"a\nb\"}", r"invalid character '\n' in string"),
            (
                r#"{"paths": [1 2]}"#,
                "invalid character '2' after array element",
            ),
            ("&", "invalid character '&' looking for beginning of value"),
            (
                r#""text""#,
                "json: cannot unmarshal string into Go value of type map[string]interface {}",
            ),
            (
                "3",
                "json: cannot unmarshal number into Go value of type map[string]interface {}",
            ),
            (
                "[]",
                "json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
        ] {
            assert_eq!(reason(body.as_bytes()), said, "{body}");
        }
    }

    #[test]
    fn what_is_well_formed_is_stepped_over() {
        let body = br#" {"a": [1, -0.5e+3, {}, [], "\u00e9\n"], "b": {"c": null, "d": true}, "e": false} "#;
        assert_eq!(reason(body), "invalid UTF-8 or nested too deeply");
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(reason(deep.as_bytes()), "unexpected EOF");
    }
}
