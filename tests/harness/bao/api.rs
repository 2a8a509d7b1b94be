//! A small JSON client of the primary, for setting up the world and for looking at what reached it.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;

use crate::failure::{Context, Failure, Result};

/// A client with an address and a token.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    address: String,
    token: String,
    headers: HeaderMap,
}

/// What the primary answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The JSON body; null if there was none.
    pub body: Value,
}

impl Answer {
    /// A header's value; none if it is absent or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body, if the status was a success.
    pub fn ok(self) -> Result<Value> {
        match self.status {
            200..=299 => Ok(self.body),
            status => Err(Failure::new(format!("status {status}: {}", self.body))),
        }
    }

    /// The body's `data`, if the status was a success.
    pub fn data(self) -> Result<Value> {
        self.ok()
            .map(|mut body| body.get_mut("data").map(Value::take).unwrap_or_default())
    }

    /// The text at this JSON pointer of the body, if the status was a success.
    pub fn text(self, pointer: &str) -> Result<String> {
        let body = self.ok()?;
        let text = body.pointer(pointer).and_then(Value::as_str);
        text.map(str::to_owned)
            .context(format!("no text at {pointer} of {body}"))
    }
}

impl Api {
    pub(crate) fn new(http: reqwest::Client, address: &str, token: &str) -> Api {
        let (address, token) = (address.to_owned(), token.to_owned());
        Api {
            http,
            address,
            token,
            headers: HeaderMap::new(),
        }
    }

    /// The same client in this namespace.
    pub fn in_namespace(&self, namespace: &str) -> Api {
        let headers = HeaderMap::new();
        let client = Api {
            headers,
            ..self.clone()
        };
        match namespace {
            "" => client,
            _ => client.with("x-vault-namespace", namespace),
        }
    }

    /// The same client, which sends this header with each request.
    ///
    /// # Panics
    /// If name or value cannot stand in a header.
    pub fn with(mut self, name: &'static str, value: &str) -> Api {
        let value = HeaderValue::from_str(value).expect("a header's value");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    /// The same client with this token.
    pub fn as_token(&self, token: &str) -> Api {
        Api {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// Reads `path`, which comes without `/v1/`.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.request(Method::GET, path, None).await
    }

    /// Writes with POST.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.request(Method::POST, path, Some(body)).await
    }

    /// Writes with PUT.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.request(Method::PUT, path, Some(body)).await
    }

    /// Lists.
    pub async fn list(&self, path: &str) -> Result<Answer> {
        self.request(Method::from_bytes(b"LIST")?, path, None).await
    }

    /// Deletes.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.request(Method::DELETE, path, None).await
    }

    /// Writes with POST and fails unless the primary took it.
    pub async fn write(&self, path: &str, body: &Value) -> Result<Value> {
        self.post(path, body)
            .await?
            .ok()
            .context(format!("writing {path}"))
    }

    /// Sends with any method.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let url = format!("{}/v1/{path}", self.address);
        let mut request = self.http.request(method, &url);
        if !self.token.is_empty() {
            request = request.header("X-Vault-Token", &self.token);
        }
        request = request.headers(self.headers.clone());
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?;
        let body = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes).context(format!("body of {url}"))?,
        };
        Ok(Answer {
            status,
            headers,
            body,
        })
    }
}
