//! Asking a wallet service: its address, its key, and what its answers mean in general.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::http::{HttpClient, HttpError, Method, Request, Response, Secret, StatusCode, Streaming, Url};
use crate::wallet::WalletError;

/// The longest answer that is read, in bytes. The longest that is asked for lists a node's channels.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// How long an answer to a question may take that moves no money.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest text of a service that is repeated in an error, in characters.
const MAX_SHOWN_CHARS: usize = 300;

/// A service and the key to it.
#[derive(Debug)]
pub(in crate::wallet) struct Api {
    http: HttpClient,
    base: Url,
    header: &'static str,
    key: Secret,
}

/// What a service answered: what was asked for, or an error in a body of its own making.
#[derive(Debug)]
pub(in crate::wallet) enum Answer {
    /// A status of success.
    Success(Response),
    /// Any other status but the refusal of our key.
    Error(Response),
}

impl Api {
    /// `header` carries `key` in every request.
    pub(in crate::wallet) fn new(http: HttpClient, base: Url, header: &'static str, key: Secret) -> Self {
        Self {
            http,
            base,
            header,
            key,
        }
    }

    /// Asks with GET.
    pub(in crate::wallet) async fn get(&self, path: &str) -> Result<Answer, HttpError> {
        let request = self.request(Method::GET, path)?;
        self.http.send(request, ANSWER_TIMEOUT).await.and_then(answer)
    }

    /// Asks with POST, for an answer within the usual time.
    pub(in crate::wallet) async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer, HttpError> {
        self.post_within(path, body, ANSWER_TIMEOUT).await
    }

    /// Asks with POST, for an answer within `limit`.
    pub(in crate::wallet) async fn post_within(
        &self,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<Answer, HttpError> {
        let request = self.request(Method::POST, path)?.json(body)?;
        self.http.send(request, limit).await.and_then(answer)
    }

    /// Asks with POST for an answer that comes line by line.
    pub(in crate::wallet) async fn post_streaming(
        &self,
        path: &str,
        body: &impl Serialize,
        deadline: Instant,
    ) -> Result<Streaming, HttpError> {
        let request = self.request(Method::POST, path)?.json(body)?;
        take_key(self.http.open(request, deadline).await?)
    }

    /// Asks with GET for an answer that comes line by line; its first line must come within the usual time.
    pub(in crate::wallet) async fn get_streaming(
        &self,
        path: &str,
    ) -> Result<(Streaming, Instant), HttpError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let request = self.request(Method::GET, path)?;
        Ok((take_key(self.http.open(request, deadline).await?)?, deadline))
    }

    fn request(&self, method: Method, path: &str) -> Result<Request, HttpError> {
        let url = self.base.join(path)?;
        Request::new(method, url, MAX_ANSWER_BYTES).secret_header(self.header, &self.key)
    }
}

impl Answer {
    /// What was asked for; any error is one that nobody expected.
    pub(in crate::wallet) fn read<T: DeserializeOwned>(&self) -> Result<T, WalletError> {
        match self {
            Self::Success(response) => response.json().map_err(unavailable),
            Self::Error(response) => Err(WalletError::Unavailable {
                reason: said(response),
            }),
        }
    }
}

fn answer(response: Response) -> Result<Answer, HttpError> {
    match response.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(HttpError::Setup {
            reason: refused_key(response.status),
        }),
        status if status.is_success() => Ok(Answer::Success(response)),
        _ => Ok(Answer::Error(response)),
    }
}

fn take_key(streaming: Streaming) -> Result<Streaming, HttpError> {
    match streaming.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(HttpError::Setup {
            reason: refused_key(streaming.status),
        }),
        _ => Ok(streaming),
    }
}

/// What is said of a service that does not take our key. A refused key does nothing: as good as not sent.
fn refused_key(status: StatusCode) -> String {
    format!(
        "it refuses the key with status {}: check that the key in section [wallet] is right and allows this",
        status.as_u16()
    )
}

/// What cannot be asked now.
pub(in crate::wallet) fn unavailable(error: HttpError) -> WalletError {
    WalletError::Unavailable {
        reason: error.to_string(),
    }
}

/// The error text of an answer: services put it under one of these names.
pub(in crate::wallet) fn said(response: &Response) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(alias = "detail")]
        message: serde_json::Value,
    }
    let status = response.status.as_u16();
    match response.json::<Body>() {
        Ok(Body {
            message: serde_json::Value::String(text),
        }) => shortened(&text),
        _ => format!("it answers with status {status}"),
    }
}

/// A service's text, short and without what would move a terminal's cursor.
pub(in crate::wallet) fn shortened(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_SHOWN_CHARS)
        .collect()
}
