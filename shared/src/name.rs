//! Names of the field, each parsed once: private text, fallible constructors, no later re-check.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
};
use core::{borrow::Borrow, fmt};

use serde::{Deserialize, Serialize};

/// The longest name accepted, in bytes. OpenBao has no limit of its own short of its storage's.
pub const MAX_NAME: usize = 1024;

/// Why a text is not a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// Nothing is there.
    #[error("is empty")]
    Empty,
    /// A control character is in it.
    #[error("contains a control character")]
    Control,
    /// It is longer than [`MAX_NAME`] bytes.
    #[error("is longer than {MAX_NAME} bytes")]
    TooLong,
}

/// A private text that is parsed once: what its serde form, its uses as a text and its display share.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $error:ty) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As it is shown and sent.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

/// A [`text!`] that is kept as it is written.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        text!($(#[$doc])* $name, NameError);

        impl $name {
            /// Keeps `text` as it is.
            ///
            /// # Errors
            /// If it is empty, longer than [`MAX_NAME`] bytes, or contains control characters.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                parse(text).map(Self)
            }
        }
    };
}

name!(
    /// What names a token without being one: 24 base62 characters at the primary, `ho` before them here.
    Accessor
);
name!(
    /// The id of the cluster that the replica trusts, as `sys/health` gives it.
    ClusterId
);
name!(
    /// The id of an entity at the primary.
    EntityId
);
name!(
    /// The id of a lease, which begins with the path that was read.
    LeaseId
);
name!(
    /// What names a mount for good: a path that is mounted anew has another.
    MountAccessor
);
name!(
    /// The id of one outage: in headers, in the ledger, in `status`.
    OutageId
);
name!(
    /// The name of a token role at the primary.
    RoleName
);
name!(
    /// The `name` of a `[[workload]]` entry.
    WorkloadName
);

text!(
    /// The name of an ACL policy: trimmed and in lower case, as the primary keeps it.
    PolicyName,
    NameError
);

impl PolicyName {
    /// Trims `text` and turns it into lower case.
    ///
    /// # Errors
    /// As every name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        parse(text.trim()).map(|name| Self(name.to_lowercase()))
    }

    /// Whether this is `root`, which allows everything and is never issued here.
    pub fn is_root(&self) -> bool {
        self.0 == "root"
    }
}

/// A namespace, without slashes at its ends; the root namespace is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Namespace(String);

impl Namespace {
    /// Reads the value of `X-Vault-Namespace` or of the configuration; `root` and slashes are the root.
    pub fn parse(text: &str) -> Self {
        let text = text.trim_matches('/');
        Self(if text == "root" {
            String::new()
        } else {
            text.to_owned()
        })
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads what can be a namespace and nothing else: visible ASCII, with at most one slash on either side. `root` and
    /// nothing are the root.
    pub fn exactly(text: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(text).ok()?;
        let name = text.strip_prefix('/').unwrap_or(text);
        let name = name.strip_suffix('/').unwrap_or(name);
        let visible = name.bytes().all(|byte| byte.is_ascii_graphic());
        let mut segments = name.split('/');
        let named = name.is_empty() || segments.all(|one| !matches!(one, "" | "." | ".."));
        (visible && named).then(|| Self::parse(name))
    }

    /// Empty for the root namespace.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text!(
    /// The path that an API request names, without `/v1/`, percent-decoded, in its one canonical spelling.
    ///
    /// No empty, `.` or `..` segments, no control characters; a list's path ends in `/`.
    RequestPath,
    PathError
);

/// Why a path has no canonical spelling. Bodies and texts are the primary's where it has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// A control or other non-printable character, or one that is not UTF-8.
    #[error("path contains characters that cannot be printed")]
    Characters,
    /// A `.` or `..` segment, encoded or not.
    #[error("relative paths not supported")]
    Relative,
    /// `//` somewhere, or an encoded slash.
    #[error("path is not in its canonical form")]
    Slashes,
    /// Longer than [`RequestPath::MAX`] bytes.
    #[error("path is too long")]
    TooLong,
}

impl RequestPath {
    /// The longest path accepted, in bytes.
    pub const MAX: usize = 16 * 1024;

    /// Accepts a decoded path.
    ///
    /// # Errors
    /// If it is not in canonical form.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > Self::MAX {
            return Err(PathError::TooLong);
        }
        if !text.chars().all(is_printable) {
            return Err(PathError::Characters);
        }
        if text
            .split('/')
            .any(|segment| segment == "." || segment == "..")
            || text.contains("..")
        {
            return Err(PathError::Relative);
        }
        if text.starts_with('/') || text.contains("//") {
            return Err(PathError::Slashes);
        }
        Ok(Self(text.to_owned()))
    }

    /// The same path as that of a list or scan: with a slash at its end.
    #[must_use]
    pub fn as_folder(&self) -> Self {
        if self.0.ends_with('/') {
            self.clone()
        } else {
            Self(self.0.clone() + "/")
        }
    }
}

/// Whether the primary accepts a character in a path: Go's `unicode.IsPrint`, which knows no space but the plain one. The
/// character that stands for broken text is refused too.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The standard library tells printable characters only where it escapes; what extends a grapheme is escaped at the
    // start of a text alone.
    let mut text = String::from("a");
    text.push(c);
    c != char::REPLACEMENT_CHARACTER && text.escape_debug().count() == 2
}

/// A keyed digest of a token (HMAC-SHA-256 under a key of the replica): what is kept instead of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenDigest(pub [u8; 32]);

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&crate::hex::Hex(&self.0), f)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn parse(text: &str) -> Result<String, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_name_is_trimmed_and_lowered_as_the_primary_does() {
        assert_eq!(PolicyName::parse(" Orders ").unwrap().as_str(), "orders");
        assert_eq!(PolicyName::parse("  "), Err(NameError::Empty));
    }

    #[test]
    fn a_path_without_one_spelling_is_refused() {
        assert_eq!(RequestPath::parse("a/../b"), Err(PathError::Relative));
        assert_eq!(RequestPath::parse("a//b"), Err(PathError::Slashes));
        assert_eq!(RequestPath::parse("/a"), Err(PathError::Slashes));
        for unprintable in [
            "a\u{7}b",
            "a\u{7f}",
            "a\u{85}",
            "\u{a0}",
            "x\u{200b}y",
            "\u{e000}",
            "\u{fffd}",
        ] {
            assert_eq!(RequestPath::parse(unprintable), Err(PathError::Characters));
        }
        for printable in ["e\u{301}", "\u{301}", "日本", "a\"'\\b", "🦀"] {
            assert!(RequestPath::parse(printable).is_ok(), "{printable}");
        }
        assert_eq!(
            RequestPath::parse("secret/data/a b").unwrap().as_str(),
            "secret/data/a b"
        );
    }

    #[test]
    fn control_characters_are_in_no_name() {
        assert_eq!(WorkloadName::parse("a\nb"), Err(NameError::Control));
        assert_eq!(WorkloadName::parse(""), Err(NameError::Empty));
    }

    #[test]
    fn the_root_namespace_has_several_spellings_and_is_one() {
        for text in ["", "/", "root", "root/"] {
            assert_eq!(Namespace::parse(text).as_str(), "");
        }
        assert_eq!(Namespace::parse("a/b/").as_str(), "a/b");
    }
}
