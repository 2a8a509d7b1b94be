//! What the primary answered, read once and wiped when dropped.
//!
//! Status and form together tell what an answer says, in [`Reply::said`] alone: no other room sees the status. A page
//! that something else put in the primary's place has a status and not the primary's form, and says nothing. What an
//! answer shows is read through [`ShownReply`], strictly: one of another shape than its path has is an error, and
//! nothing of it counts.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{error::Category, value::RawValue};
use shared::{
    kv::Content, offboarding::CredentialTold, provenance::Provenance, strict::present,
    wire::AuthBlock,
};
use zeroize::Zeroizing;

use super::{error::UpstreamError, request::Request};
use crate::link::error::errors_of;

/// What the primary decided, in its own words. Only an answer of the primary can be made into one: what Holdover itself
/// finds wrong has error types of its own.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the primary answered {status}: {}", errors.join("; "))]
pub struct Decision {
    path: String,
    status: u16,
    errors: Vec<String>,
}

impl Decision {
    /// Private, so that nothing but [`Reply::said`] makes one.
    fn of(status: u16, shown: &ShownReply) -> Self {
        Self {
            path: shown.path.clone(),
            status,
            errors: errors_of(&shown.body),
        }
    }

    /// The path that was asked.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// It cannot do what it was asked as it was asked.
    pub fn is_bad_request(&self) -> bool {
        self.status == 400
    }

    /// Who asked may not.
    pub fn is_denial(&self) -> bool {
        matches!(self.status, 401 | 403)
    }

    /// The token that asked was refused, rather than what it asked for: the access control's own refusal has another form.
    pub fn is_of_token(&self) -> bool {
        self.is_denial() && self.errors == ["permission denied"]
    }

    /// Nothing is there.
    pub fn is_missing(&self) -> bool {
        self.status == 404
    }

    /// The path has no such operation.
    pub fn is_unsupported(&self) -> bool {
        self.status == 405
    }

    /// The texts of its `errors`.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Whether one of them contains this.
    pub fn says(&self, text: &str) -> bool {
        self.errors.iter().any(|error| error.contains(text))
    }

    /// The HTTP status, for the client that the decision is passed on to. Nothing is learned from it.
    pub fn status_to_pass_on(&self) -> u16 {
        self.status
    }

    /// Read from an answer with one error.
    #[cfg(test)]
    pub(crate) fn said(status: u16, text: &str) -> Self {
        let body = serde_json::json!({ "errors": [text] }).to_string();
        let reply = Reply::new(status, "x".to_owned(), body.into_bytes().into());
        Self::of(status, &reply.shown)
    }
}

/// An answer as it came: a success or a decision, if it is the primary's.
pub struct Reply {
    status: u16,
    shown: ShownReply,
    provenance: Provenance,
}

/// What an answer says.
pub enum Said {
    /// It was done, and there is nothing to show of it.
    Done {
        /// The path asked.
        path: String,
    },
    /// Nothing is there any more, but something is told of what was: 404 in an envelope.
    Emptied(ShownReply),
    /// Nothing is there: 404 with `errors`.
    Missing(ShownReply),
    /// No.
    No(Decision),
    /// It is this.
    Shown(ShownReply),
}

/// What an answer says of the right to what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// The token may.
    Granted,
    /// No policy of the token allows it.
    Refused,
    /// Nothing: who asked was refused as such, or it is not the primary's word.
    Untold,
}

/// What an answer shows: its body, which is still to be read.
pub struct ShownReply {
    path: String,
    content: Content,
    body: Zeroizing<Vec<u8>>,
}

/// What the primary puts around almost all that it shows.
#[derive(Deserialize)]
pub struct Envelope<'a> {
    #[serde(borrow, rename = "request_id")]
    _request_id: Cow<'a, str>,
    /// The lease, or empty.
    pub lease_id: String,
    /// Whether the lease may be renewed.
    pub renewable: bool,
    /// Seconds left of the lease.
    pub lease_duration: u64,
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(deserialize_with = "present")]
    wrap_info: Option<IgnoredAny>,
    #[serde(deserialize_with = "present")]
    warnings: Option<Vec<String>>,
    #[serde(deserialize_with = "present")]
    auth: Option<AuthBlock>,
    errors: Option<IgnoredAny>,
}

/// The names of an object's fields.
type FieldNames<'a> = BTreeMap<Cow<'a, str>, IgnoredAny>;

/// Fields that mark an envelope, and answers that should be one.
const MARKS: [&str; 6] = [
    "request_id",
    "lease_id",
    "data",
    "auth",
    "wrap_info",
    "errors",
];

impl Reply {
    pub(super) fn new(status: u16, path: String, body: Zeroizing<Vec<u8>>) -> Self {
        let content = Content::default();
        let shown = ShownReply {
            path,
            content,
            body,
        };
        Self {
            status,
            shown,
            provenance: Provenance::UNSHOWN,
        }
    }

    /// The same, from there.
    pub(super) fn from(self, provenance: Provenance) -> Self {
        Self { provenance, ..self }
    }

    /// Where it comes from.
    pub fn provenance(&self) -> Provenance {
        self.provenance
    }

    /// The same with these headers.
    pub(super) fn saying(mut self, content: Content) -> Self {
        self.shown.content = content;
        self
    }

    /// What it says.
    ///
    /// # Errors
    /// If it is in nothing that the primary answers with.
    pub fn said(self) -> Result<Said, UpstreamError> {
        let Self { status, shown, .. } = self;
        match status {
            200 => Ok(Said::Shown(shown)),
            202 | 204 => Ok(Said::Done { path: shown.path }),
            404 if shown.has_errors() => Ok(Said::Missing(shown)),
            404 if shown.envelope().is_ok() => Ok(Said::Emptied(shown)),
            400..=499 if shown.has_errors() => Ok(Said::No(Decision::of(status, &shown))),
            400..=499 => {
                let what = format!("{status} in another form than the primary's");
                Err(shown.unexpected(what))
            }
            _ => Err(shown.unexpected(format!("{status}"))),
        }
    }

    /// What it shows, if it is a success with something in it.
    ///
    /// # Errors
    /// The decision, if it is none; [`UpstreamError::Malformed`] if there is nothing in it.
    pub fn shown(self) -> Result<ShownReply, UpstreamError> {
        match self.said()? {
            Said::Shown(shown) => Ok(shown),
            other => Err(other.unfit()),
        }
    }

    /// That it was done, whatever is shown of it.
    ///
    /// # Errors
    /// The decision, if it was not.
    pub fn done(self) -> Result<(), UpstreamError> {
        match self.said()? {
            Said::Done { .. } | Said::Shown(_) => Ok(()),
            other => Err(other.unfit()),
        }
    }

    /// Whether it was refused: who asked, or what was asked.
    pub(super) fn refuses(&self) -> bool {
        self.status == 403 && self.shown.has_errors()
    }

    /// Whether it is a success, and shows something.
    pub(super) fn is_success(&self) -> bool {
        self.status == 200 && self.shown.object().is_ok()
    }

    /// What it says of the token that looked itself up: the active node's word as of then, or nothing.
    pub(super) fn tells_of_token(&self) -> CredentialTold {
        match self.provenance.as_of {
            Some(_) if self.is_success() => CredentialTold::Accepted,
            Some(_) if self.refuses_token() => CredentialTold::Refused,
            _ => CredentialTold::Nothing,
        }
    }

    /// What it says of a login: the same. Where others can lock a login out, a 403 is as likely to be that, which passes.
    pub(super) fn tells_of_login(&self) -> CredentialTold {
        let refuses = self.status == 400 && self.refuses_identity();
        match self.provenance.as_of {
            Some(_) if self.is_success() => CredentialTold::Accepted,
            Some(_) if refuses => CredentialTold::Refused,
            _ => CredentialTold::Nothing,
        }
    }

    /// What it says of the right to what was asked: the access control has a form of its own.
    pub(super) fn tells_of_access(&self) -> Access {
        match self.status {
            403 if self.denies_access() => Access::Refused,
            400 | 404 | 405 if self.shown.has_errors() => Access::Granted,
            200 | 202 | 204 => Access::Granted,
            _ => Access::Untold,
        }
    }

    fn denies_access(&self) -> bool {
        let denied = |error: &String| error.trim_end().ends_with("* permission denied");
        errors_of(&self.shown.body).iter().any(denied)
    }

    /// Whether a login was refused for what the primary knows by itself: a role, an id or a certificate that is none of its
    /// own. What it asks others for (keys, reviews of tokens) may fail, and what others can lock may be locked: that is
    /// answered with 400 and 403 as well, and passes.
    fn refuses_identity(&self) -> bool {
        let beginnings = ["invalid role", "invalid secret", "invalid certificate"];
        let refuses = |error: &String| {
            let begins = beginnings.iter().any(|text| error.starts_with(text));
            begins || error.starts_with("role ") && error.ends_with("could not be found")
        };
        errors_of(&self.shown.body).iter().any(refuses)
    }

    /// Whether the token that asked was refused, rather than what it asked for: the access control's own refusal has
    /// another form.
    pub(super) fn refuses_token(&self) -> bool {
        self.refuses() && errors_of(&self.shown.body) == ["permission denied"]
    }
}

impl Said {
    /// The error, where a request like this one is not answered with that.
    pub fn unfit(&self) -> UpstreamError {
        match self {
            Self::Done { path } => unexpected(path, "there is nothing in it"),
            Self::Emptied(shown) => shown.unexpected("404 in an envelope"),
            Self::Missing(shown) => UpstreamError::Decision(Decision::of(404, shown)),
            Self::No(decision) => UpstreamError::Decision(decision.clone()),
            Self::Shown(shown) => shown.unexpected("200"),
        }
    }

    /// The decision, where it is none but the primary's no.
    pub fn decision(&self) -> Option<Decision> {
        match self {
            Self::Missing(shown) => Some(Decision::of(404, shown)),
            Self::No(decision) => Some(decision.clone()),
            Self::Done { .. } | Self::Emptied(_) | Self::Shown(_) => None,
        }
    }
}

impl ShownReply {
    /// What the body is, as headers say it.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The body as it came.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as it came, for whom it is passed on to.
    pub fn into_body(self) -> Zeroizing<Vec<u8>> {
        self.body
    }

    /// The media type of `Content-Type`, in lower case.
    pub fn media_type(&self) -> Option<String> {
        let kind = self.content.kind.as_deref()?;
        let kind = kind.split(';').next().unwrap_or_default();
        Some(kind.trim().to_ascii_lowercase())
    }

    /// Whether it is, or should be, an envelope: it has a field that only those have.
    pub fn is_enveloped(&self) -> bool {
        let fields = serde_json::from_slice::<FieldNames<'_>>(&self.body).unwrap_or_default();
        MARKS.iter().any(|mark| fields.contains_key(*mark))
    }

    /// The envelope, whole.
    ///
    /// # Errors
    /// If the body is none.
    pub fn envelope(&self) -> Result<Envelope<'_>, UpstreamError> {
        let envelope: Envelope<'_> = self.json()?;
        match envelope.errors {
            None => Ok(envelope),
            Some(_) => Err(self.unexpected("errors beside what it shows")),
        }
    }

    /// The token that a login, a creation or a renewal brought.
    ///
    /// # Errors
    /// If there is no envelope, or no token in it.
    pub fn auth(&self) -> Result<AuthBlock, UpstreamError> {
        let auth = self.envelope()?.auth;
        auth.filter(|auth| !auth.client_token.is_empty())
            .ok_or_else(|| self.unexpected("no token in it"))
    }

    /// The bytes of the envelope's `data`, which is an object, and the only thing in it.
    ///
    /// # Errors
    /// If there is no such envelope: what brings a token, a lease or a wrapping is not what a plain read is answered with.
    pub fn object(&self) -> Result<&RawValue, UpstreamError> {
        let envelope = self.envelope()?;
        if !envelope.lease_id.is_empty() {
            return Err(self.unexpected("a lease in it"));
        }
        if envelope.is_wrapped() {
            return Err(self.unexpected("it is wrapped, or waits for approval by a control group"));
        }
        if envelope.has_token() {
            return Err(self.unexpected("a token in it"));
        }
        envelope
            .object()
            .ok_or_else(|| self.unexpected("its data is no object"))
    }

    /// The envelope's `data` as one `T`.
    ///
    /// # Errors
    /// As [`ShownReply::object`], or if `data` is another object.
    pub fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, UpstreamError> {
        self.part(self.object()?)
    }

    /// The same, where `T` would take a field that is missing for an empty one: all of `fields` must be there.
    ///
    /// # Errors
    /// As [`ShownReply::data`], or if one of `fields` is missing.
    pub fn data_with<'a, T: Deserialize<'a>>(
        &'a self,
        fields: &[&str],
    ) -> Result<T, UpstreamError> {
        let object = self.object()?;
        let there: FieldNames<'_> = self.part(object)?;
        match fields.iter().find(|field| !there.contains_key(**field)) {
            Some(field) => Err(self.unexpected(format!("missing field `{field}`"))),
            None => self.part(object),
        }
    }

    /// A part of the body as one `T`.
    ///
    /// # Errors
    /// If it is none.
    pub fn part<'a, T: Deserialize<'a>>(&self, part: &'a RawValue) -> Result<T, UpstreamError> {
        serde_json::from_str(part.get()).map_err(|error| self.misshapen(&error))
    }

    /// The whole body as one `T`, for what has no envelope.
    ///
    /// # Errors
    /// If the body is none.
    pub fn bare<T: DeserializeOwned>(&self) -> Result<T, UpstreamError> {
        self.json()
    }

    /// An error that says `what` is wrong with this answer, without quoting it.
    pub fn unexpected(&self, what: impl Into<String>) -> UpstreamError {
        unexpected(&self.path, what)
    }

    fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, UpstreamError> {
        match self.media_type().as_deref() {
            Some("application/json") => {
                serde_json::from_slice(&self.body).map_err(|error| self.misshapen(&error))
            }
            Some(kind) => Err(self.unexpected(format!("{kind} instead of JSON"))),
            None => Err(self.unexpected("no Content-Type")),
        }
    }

    /// Whether it is in the form of the primary's errors.
    fn has_errors(&self) -> bool {
        #[derive(Deserialize)]
        struct ErrorsThere {
            #[serde(rename = "errors")]
            _errors: Vec<String>,
            /// Only envelopes have one.
            request_id: Option<IgnoredAny>,
        }
        self.json::<ErrorsThere>()
            .is_ok_and(|there| there.request_id.is_none())
    }

    /// serde_json's texts can quote the input, which may be a secret: only names of fields and the position are kept.
    fn misshapen(&self, error: &serde_json::Error) -> UpstreamError {
        let text = error.to_string();
        let names_a_field = ["missing field", "duplicate field", "a name stands twice"]
            .iter()
            .any(|safe| text.starts_with(safe));
        self.unexpected(match error.classify() {
            _ if names_a_field => text,
            Category::Data => format!("another type at {}", position(error)),
            Category::Eof => "JSON that breaks off".to_owned(),
            Category::Io | Category::Syntax => format!("no JSON at {}", position(error)),
        })
    }
}

impl<'a> Envelope<'a> {
    /// Whether what it shows is wrapped, or held back by a control group.
    pub fn is_wrapped(&self) -> bool {
        self.wrap_info.is_some()
    }

    /// Whether it brings a token.
    pub fn has_token(&self) -> bool {
        self.auth.is_some()
    }

    /// Its `warnings`.
    pub fn into_warnings(self) -> Vec<String> {
        self.warnings.unwrap_or_default()
    }

    /// The bytes of its `data`, if that is an object.
    pub fn object(&self) -> Option<&'a RawValue> {
        self.data.filter(|data| data.get().starts_with('{'))
    }

    /// Whether it has no `data`.
    pub fn is_empty(&self) -> bool {
        self.data.is_none()
    }
}

/// What is said of an answer whose body is longer than the request's bound.
pub(super) fn overlong(request: &Request) -> UpstreamError {
    let what = format!("its body is longer than {} bytes", request.largest());
    unexpected(request.path(), what)
}

fn unexpected(path: &str, what: impl Into<String>) -> UpstreamError {
    UpstreamError::Malformed {
        path: path.to_owned(),
        what: what.into(),
    }
}

fn position(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply::new(
            status,
            "p".to_owned(),
            Zeroizing::new(body.as_bytes().to_vec()),
        )
    }

    fn enveloped(rest: &str) -> String {
        let before = r#""request_id":"r","lease_id":"","renewable":false,"lease_duration":0"#;
        format!("{{{before},{rest}}}")
    }

    fn whole(data: &str) -> String {
        enveloped(&format!(
            r#""data":{data},"wrap_info":null,"warnings":null,"auth":null"#
        ))
    }

    fn said(status: u16, body: &str) -> &'static str {
        match reply(status, body).said() {
            Err(UpstreamError::Malformed { path, .. }) if path == "p" => "nothing",
            Err(error) => panic!("{error}"),
            Ok(Said::Done { .. }) => "done",
            Ok(Said::Emptied(_)) => "emptied",
            Ok(Said::Missing(_)) => "missing",
            Ok(Said::No(_)) => "no",
            Ok(Said::Shown(_)) => "shown",
        }
    }

    #[test]
    fn status_and_form_together_tell_what_an_answer_says() {
        let errors = r#"{"errors":["permission denied"]}"#;
        let page = "<html><body>403 Forbidden</body></html>";
        assert_eq!(said(200, &whole("{}")), "shown");
        assert_eq!(said(204, ""), "done");
        assert_eq!(said(404, r#"{"errors":[]}"#), "missing");
        assert_eq!(said(404, &whole(r#"{"data":null}"#)), "emptied");
        assert_eq!(said(403, errors), "no");
        for status in [400, 401, 403, 404, 405, 412] {
            for body in [
                page,
                "",
                "{}",
                "null",
                r#"{"errors":null}"#,
                r#"{"errors":[1]}"#,
            ] {
                assert_eq!(said(status, body), "nothing", "{status} {body}");
            }
        }
        for status in [100, 201, 203, 206, 301, 302, 304, 500] {
            assert_eq!(said(status, errors), "nothing", "{status}");
        }
        let html = Content {
            kind: Some("text/html".into()),
            cache: None,
        };
        assert!(reply(403, errors).saying(html).said().is_err());
    }

    #[test]
    fn only_a_whole_envelope_around_an_object_shows_data() {
        let read = |body: &str| {
            let shown = reply(200, body).shown()?;
            shown.data::<BTreeMap<String, u64>>()
        };
        let good = whole(r#"{"a":1}"#);
        assert_eq!(read(&good).unwrap()["a"], 1);
        let another = |from: &str, to: &str| {
            let body = good.replace(from, to);
            assert_ne!(body, good, "{from}");
            body
        };
        let wrong = [
            (String::new(), "breaks off"),
            ("null".to_owned(), "another type"),
            ("[]".to_owned(), "another type"),
            (r#"{"data":[]}"#.to_owned(), "missing field `request_id`"),
            ("<html>".to_owned(), "no JSON"),
            (good[..good.len() - 20].to_owned(), "breaks off"),
            (format!("{good}{good}"), "no JSON"),
            (another(r#"{"a":1}"#, "null"), "no object"),
            (another(r#"{"a":1}"#, "[]"), "no object"),
            (another(r#"{"a":1}"#, r#"{"a":"1"}"#), "another type"),
            (another(r#""data""#, r#""date""#), "missing field `data`"),
            (another(r#""auth":null"#, r#""auth":{}"#), "missing field"),
            (
                another(r#","wrap_info":null"#, ""),
                "missing field `wrap_info`",
            ),
            (
                another(r#""wrap_info":null"#, r#""wrap_info":{}"#),
                "wrapped",
            ),
            (
                another(r#""lease_id":"""#, r#""lease_id":"x/y""#),
                "a lease",
            ),
            (
                another(r#""data":"#, r#""data":{},"data":"#),
                "duplicate field",
            ),
            (
                another(r#""auth":null"#, r#""auth":null,"errors":[]"#),
                "errors",
            ),
        ];
        for (body, what) in wrong {
            let error = read(&body).unwrap_err().to_string();
            assert!(error.starts_with("unexpected answer to p: "), "{error}");
            assert!(error.contains(what), "{body}: {error}");
        }
    }

    #[test]
    fn a_field_that_would_be_taken_for_empty_must_be_there() {
        let shown = reply(200, &whole(r#"{"a":1}"#)).shown().unwrap();
        type Read = BTreeMap<String, u64>;
        assert!(shown.data_with::<Read>(&["a"]).is_ok());
        let error = shown.data_with::<Read>(&["a", "b"]).unwrap_err();
        assert!(error.to_string().ends_with("missing field `b`"), "{error}");
    }

    #[test]
    fn errors_about_an_answer_do_not_quote_it() {
        let bodies = [
            whole(r#"{"password":"hunter2"}"#).replace("\"auth\":null}", ""),
            whole(r#""hunter2""#),
            whole(r#"{"password":"hunter2"}"#),
        ];
        for body in bodies {
            let shown = reply(200, &body).shown().unwrap();
            let error = shown.data::<BTreeMap<String, u64>>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_dead_token_is_told_from_a_missing_right() {
        let dead = r#"{"errors":["permission denied"]}"#;
        let denied = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
        assert!(reply(403, dead).refuses_token());
        assert!(!reply(403, denied).refuses_token() && !reply(400, dead).refuses_token());
    }

    #[test]
    fn a_decision_keeps_the_primarys_words_within_bounds() {
        let long = format!(r#"{{"errors":["{}"]}}"#, "x".repeat(5000));
        let Err(UpstreamError::Decision(decision)) = reply(403, &long).shown() else {
            panic!("not a decision");
        };
        assert!(decision.is_denial() && decision.errors()[0].len() == 512);
        assert!(reply(204, "").done().is_ok() && reply(204, "").shown().is_err());
    }
}
