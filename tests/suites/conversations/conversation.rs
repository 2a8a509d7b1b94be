//! A recorded conversation: requests as a client sent them, with names in the place of what is another at each replay.

use std::path::PathBuf;

use harness::client::raw::Ask;
use harness::{Context, Failure, Result};
use http::Method;
use serde::{Deserialize, Serialize};

use crate::names::Names;

/// Who speaks.
pub(crate) const CLIENTS: [&str; 4] = ["bao", "hvac", "node-vault", "vaultrs"];

/// What one client said.
#[derive(Serialize, Deserialize)]
pub(crate) struct Conversation {
    /// The client's name and version.
    pub(crate) version: String,
    /// The primary that it was recorded with.
    pub(crate) primary: String,
    /// In order.
    pub(crate) requests: Vec<Recorded>,
}

/// A request, and what the primary made of it when it was recorded.
#[derive(Serialize, Deserialize)]
pub(crate) struct Recorded {
    /// LIST and the like included.
    pub(crate) method: String,
    /// As on the wire, `/v1/` included.
    pub(crate) target: String,
    /// All but those of the connection: `Host`, `Content-Length`, `Connection`.
    pub(crate) headers: Vec<(String, String)>,
    /// The body as text; all that clients send here is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) body: String,
    /// The status at the recording.
    pub(crate) answered: u16,
}

impl Conversation {
    /// Every recorded conversation.
    pub(crate) fn all() -> Result<Vec<Conversation>> {
        CLIENTS.into_iter().map(Conversation::of).collect()
    }

    fn of(client: &str) -> Result<Conversation> {
        let path = folder().join(format!("{client}.json"));
        let text = std::fs::read_to_string(&path).context(path.display())?;
        serde_json::from_str(&text).context(path.display())
    }

    /// The client without its version.
    pub(crate) fn client(&self) -> &str {
        self.version.split(' ').next().unwrap_or_default()
    }

    /// Writes it where it is read from: a request a line.
    pub(crate) fn keep(&self) -> Result<()> {
        let mut text = format!(
            "{{\n\"version\": {},\n\"primary\": {},\n\"requests\": [\n",
            serde_json::to_string(&self.version)?,
            serde_json::to_string(&self.primary)?
        );
        let lines: Vec<String> = self
            .requests
            .iter()
            .map(serde_json::to_string)
            .collect::<std::result::Result<_, _>>()?;
        text += &lines.join(",\n");
        text += "\n]\n}\n";
        std::fs::write(folder().join(format!("{}.json", self.client())), text)?;
        Ok(())
    }
}

impl Recorded {
    /// The request, with `names` put in.
    pub(crate) fn ask(&self, names: &Names) -> Result<Ask> {
        let mut ask = Ask::get(&names.fill(&self.target)?);
        ask.method = Method::from_bytes(self.method.as_bytes())?;
        ask.body = names.fill(&self.body)?.into();
        for (name, value) in &self.headers {
            ask = ask.header(name, &names.fill(value)?)?;
        }
        Ok(ask)
    }

    /// The number of the answer whose gift it sends back.
    pub(crate) fn sends_back(&self) -> Option<usize> {
        let whole = serde_json::to_string(self).ok()?;
        let (_, rest) = whole.split_once("{{answer.")?;
        rest.split('/').next()?.parse().ok()
    }

    /// Fails if something of it looks like a token or an id that was not given a name.
    pub(crate) fn holds_no_secret(&self) -> Result<()> {
        let whole = serde_json::to_string(self)?;
        let words = whole.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-'));
        for word in words {
            let random = word.strip_prefix("s.").unwrap_or(word);
            let mixed = random.chars().any(|c| c.is_ascii_digit())
                && random.chars().any(|c| c.is_ascii_alphabetic());
            if random.len() >= 20 && mixed {
                return Err(Failure::new(format!("{word:?} in {whole}")));
            }
        }
        Ok(())
    }
}

/// Where the recordings are.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conversations")
}
