//! Who may ask, and who may change something: tokens, read from a file and told by whoever asks.

use std::fmt;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use quorate_core::admin::Author;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::AdminState;
use super::answers::{ApiError, unexpected};
use crate::rarely::Rarely;

/// Longer files are the wrong file.
const FILE_BYTES_MAX: u64 = 64 << 10;
const TOKENS_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 64;
/// Shorter tokens can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 256;
/// Everybody but the owner may do nothing, or the owner's group read.
const MODE_FORBIDDEN: u32 = 0o027;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// GET only.
    Read,
    /// Everything.
    Admin,
}

/// A token as it is kept: of equal length whatever its own, so that comparing tells nothing.
type Print = [u8; 32];

#[derive(Clone, PartialEq, Eq)]
struct Token {
    name: String,
    print: Print,
    right: Right,
}

/// The tokens of one file.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens(Vec<Token>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    /// Reads a file of lines `NAME TOKEN [read|admin]`; `#` begins a comment.
    ///
    /// # Errors
    /// It cannot be read, others can read it, or a line is wrong; a line for people, without any token.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong = |what: String| format!("--admin-token-file {}: {what}", path.display());
        let text = read_private(path).map_err(wrong)?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut tokens: Vec<Token> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.split_once('#').map_or(line, |(line, _)| line).trim();
            if line.is_empty() {
                continue;
            }
            let token = Token::parse(line).map_err(|what| format!("line {}: {what}", at + 1))?;
            if tokens.iter().any(|other| other.print == token.print) {
                return Err(format!(
                    "line {}: this token is there already: whose it is would not be known",
                    at + 1
                ));
            }
            tokens.push(token);
        }
        match tokens.len() {
            0 => Err("no token is in it: nobody could ask; write lines `NAME TOKEN [read|admin]`".to_owned()),
            1..=TOKENS_MAX => Ok(Self(tokens)),
            many => Err(format!("{many} tokens, {TOKENS_MAX} are the limit")),
        }
    }

    /// The token of this print. All are compared, to their ends, whichever it is.
    fn find(&self, print: &Print) -> Option<&Token> {
        self.0.iter().fold(
            None,
            |found, token| {
                if bool::from(token.print.ct_eq(print)) { Some(token) } else { found }
            },
        )
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Token {
    fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let (Some(name), Some(token), right, None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("expected NAME TOKEN, and read or admin if it is not admin".to_owned());
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        if name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            return Err(format!("a name has 1 to {NAME_BYTES_MAX} letters, digits, or . _ - @"));
        }
        if name == Author::LOCAL {
            return Err(format!("{name:?} is what whoever shows no token is called: take another name"));
        }
        if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len())
            || !token.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(format!(
                "the token of {name} must have {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} letters, digits or signs of ASCII; \
                 `openssl rand -base64 32` makes a good one"
            ));
        }
        let right = match right {
            None | Some("admin") => Right::Admin,
            Some("read") => Right::Read,
            Some(other) => return Err(format!("{other:?} is no right: write read or admin")),
        };
        Ok(Self { name: name.to_owned(), print: print_of(token), right })
    }
}

fn print_of(token: &str) -> Print {
    Sha256::digest(token.as_bytes()).into()
}

fn read_private(path: &Path) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    // Before it is opened: to open a pipe would wait.
    if !fs::metadata(path).map_err(said)?.is_file() {
        return Err("this is no file".to_owned());
    }
    let mut file = fs::File::open(path).map_err(said)?;
    let mode = file.metadata().map_err(said)?.permissions().mode() & 0o777;
    if mode & MODE_FORBIDDEN != 0 {
        return Err(format!(
            "others than its owner may use it (mode {mode:03o}), and it holds secrets; next: chmod 600 {}",
            path.display()
        ));
    }
    let mut text = String::new();
    file.by_ref().take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(said)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// Who may ask, now: exchanged while running. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access {
    path: Option<PathBuf>,
    tokens: Arc<watch::Sender<Option<Tokens>>>,
    complaints: Arc<Rarely>,
}

impl Access {
    /// Everybody may do everything.
    pub fn open() -> Self {
        Self { path: None, tokens: Arc::new(watch::Sender::new(None)), complaints: Arc::default() }
    }

    /// Only with a token of this file.
    ///
    /// # Errors
    /// As [`Tokens::read`].
    pub fn by(path: &Path) -> Result<Self, String> {
        let tokens = Some(Tokens::read(path)?);
        Ok(Self {
            path: Some(path.to_owned()),
            tokens: Arc::new(watch::Sender::new(tokens)),
            complaints: Arc::default(),
        })
    }

    fn asks_for_tokens(&self) -> bool {
        self.tokens.borrow().is_some()
    }

    /// Reads the file again; says how many tokens there are, if there is a file. On an error the old ones stay in force.
    ///
    /// # Errors
    /// As [`Tokens::read`].
    pub fn reload(&self) -> Result<Option<usize>, String> {
        let Some(path) = &self.path else { return Ok(None) };
        let tokens = Tokens::read(path)?;
        let count = tokens.count();
        self.tokens.send_replace(Some(tokens));
        Ok(Some(count))
    }

    /// For whoever goes on being served: says when tokens change, and then whether this one is still good.
    pub(super) fn watch(&self, shown: Shown) -> Watch {
        Watch { changes: self.tokens.subscribe(), shown }
    }

    fn judge(&self, headers: &HeaderMap, method: &Method) -> Result<(String, Shown), Refusal> {
        let tokens = self.tokens.borrow();
        let Some(tokens) = tokens.as_ref() else { return Ok((Author::LOCAL.to_owned(), Shown(None))) };
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, token) = shown.and_then(|value| value.split_once(' ')).ok_or(Refusal::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::Missing);
        }
        let print = print_of(token.trim());
        let token = tokens.find(&print).ok_or(Refusal::Unknown)?;
        let changes = !matches!(*method, Method::GET | Method::HEAD);
        if changes && token.right == Right::Read {
            return Err(Refusal::ReadOnly(token.name.clone()));
        }
        Ok((token.name.clone(), Shown(Some(print))))
    }
}

/// The token that was shown, if one was asked for.
#[derive(Clone, Copy, Default)]
pub(super) struct Shown(Option<Print>);

/// Whether a token goes on being good.
pub(super) struct Watch {
    changes: watch::Receiver<Option<Tokens>>,
    shown: Shown,
}

impl Watch {
    /// Returns once the token is good no more.
    pub(super) async fn withdrawn(&mut self) {
        while self.is_good() {
            if self.changes.changed().await.is_err() {
                // Nobody can change them any more.
                std::future::pending::<()>().await;
            }
        }
    }

    fn is_good(&mut self) -> bool {
        let tokens = self.changes.borrow_and_update();
        match (tokens.as_ref(), self.shown.0) {
            (None, _) => true,
            (Some(tokens), Some(print)) => tokens.find(&print).is_some(),
            (Some(_), None) => false,
        }
    }
}

/// Why somebody is not served.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Missing,
    Unknown,
    ReadOnly(String),
}

impl Refusal {
    fn response(self) -> Response {
        let next = &["quorate --admin-token-file FILE …", "curl -H 'Authorization: Bearer TOKEN' …"];
        let unauthorized = |text| {
            let error = ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", text, next);
            let mut response = error.into_response();
            let realm = HeaderValue::from_static("Bearer realm=\"quorate\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, realm);
            response
        };
        match self {
            Self::Missing => unauthorized("this broker's admin port asks for a token, and none was shown"),
            Self::Unknown => unauthorized("the token that was shown is none of this broker's"),
            Self::ReadOnly(name) => ApiError::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                format!("the token {name} may only read"),
                &["show a token with the right admin"],
            )
            .into_response(),
        }
    }
}

/// Lets those on who may ask this, and says who it is. Health is for everybody: what asks for it keeps no secrets.
pub(super) async fn admit(State(state): State<AdminState>, mut request: Request, next: Next) -> Response {
    let Some(address) = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0) else {
        return unexpected().into_response();
    };
    if request.uri().path().starts_with("/health/") && matches!(*request.method(), Method::GET | Method::HEAD)
    {
        return next.run(request).await;
    }
    let stranger = if state.access.asks_for_tokens() { None } else { state.names.stranger(&request) };
    if let Some(name) = stranger {
        state.access.complaints.warn(&address.ip().to_string(), || {
            format!("operator {address} refused: it asks for {name:?}, which is no name of this broker")
        });
        return super::names::strange(name);
    }
    match state.access.judge(request.headers(), request.method()) {
        Ok((who, shown)) => {
            request.extensions_mut().insert(Author { who, address: address.to_string() });
            request.extensions_mut().insert(shown);
            next.run(request).await
        }
        Err(refusal) => {
            if refusal != Refusal::Missing {
                let path = request.uri().path().to_owned();
                state.access.complaints.warn(&address.ip().to_string(), || {
                    format!("operator {address} refused at {path:?}: {refusal:?}")
                });
            }
            refusal.response()
        }
    }
}

/// The author of a request that changes something.
pub(super) struct By(pub(super) Author);

impl FromRequestParts<AdminState> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &AdminState) -> Result<Self, ApiError> {
        parts.extensions.get::<Author>().cloned().map(Self).ok_or_else(unexpected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# operators\nann 0123456789abcdef\nann 0123456789abcdeg admin # the next one\n\nprom fedcba9876543210 read\n";

    #[test]
    fn a_file_has_names_tokens_and_rights() {
        let tokens = Tokens::parse(GOOD).unwrap();
        let found =
            |token: &str| tokens.find(&print_of(token)).map(|token| (token.name.as_str(), token.right));
        assert_eq!(found("0123456789abcdef"), Some(("ann", Right::Admin)));
        assert_eq!(found("0123456789abcdeg"), Some(("ann", Right::Admin)), "two for rotation");
        assert_eq!(found("fedcba9876543210"), Some(("prom", Right::Read)));
        assert_eq!(found("fedcba987654321"), None);
        assert!(!format!("{tokens:?}").contains("0123"));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_telling_a_token() {
        for (text, said) in [
            ("", "no token"),
            ("# nothing\n", "no token"),
            ("ann", "expected NAME TOKEN"),
            ("ann 0123456789abcdef read it", "expected NAME TOKEN"),
            ("ann short", "16 to 256"),
            ("ann 0123456789äbcdefgh", "ASCII"),
            ("a/b 0123456789abcdef", "a name"),
            ("local 0123456789abcdef", "another name"),
            ("ann 0123456789abcdef write", "no right"),
            ("ann 0123456789abcdef\nbob 0123456789abcdef", "line 2: this token is there already"),
        ] {
            let error = Tokens::parse(text).unwrap_err();
            assert!(error.contains(said) && !error.contains("0123456789"), "{text:?}: {error}");
        }
        let many: Vec<_> = (0..=TOKENS_MAX).map(|number| format!("n {number:016}")).collect();
        assert!(Tokens::parse(&many.join("\n")).unwrap_err().contains("limit"));
    }

    #[test]
    fn a_file_that_others_may_use_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        fs::write(&path, GOOD).unwrap();
        for (mode, good) in
            [(0o600, true), (0o440, true), (0o640, true), (0o644, false), (0o660, false), (0o602, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = Tokens::read(&path);
            assert_eq!(read.is_ok(), good, "{mode:o}");
            if let Err(error) = read {
                assert!(error.contains("chmod 600") && error.contains("--admin-token-file"), "{error}");
            }
        }
        assert!(Tokens::read(directory.path()).unwrap_err().contains("no file"));
        assert!(Tokens::read(&directory.path().join("none")).is_err());
    }

    fn with_token(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(token).unwrap());
        headers
    }

    /// Access by [`GOOD`].
    fn access() -> Access {
        let tokens = Arc::new(watch::Sender::new(Some(Tokens::parse(GOOD).unwrap())));
        Access { path: None, tokens, complaints: Arc::default() }
    }

    #[test]
    fn who_may_what() {
        let access = access();
        let judged =
            |token: &str, method: &Method| access.judge(&with_token(token), method).map(|(who, _)| who);
        for (token, method, expected) in [
            ("Bearer 0123456789abcdef", Method::POST, Ok("ann".to_owned())),
            ("bearer 0123456789abcdeg", Method::GET, Ok("ann".to_owned())),
            ("Bearer fedcba9876543210", Method::GET, Ok("prom".to_owned())),
            ("Bearer fedcba9876543210", Method::HEAD, Ok("prom".to_owned())),
            ("Bearer fedcba9876543210", Method::POST, Err(Refusal::ReadOnly("prom".to_owned()))),
            ("Bearer fedcba9876543210", Method::DELETE, Err(Refusal::ReadOnly("prom".to_owned()))),
            ("Bearer 0123456789abcdeh", Method::GET, Err(Refusal::Unknown)),
            ("Bearer ", Method::GET, Err(Refusal::Unknown)),
            ("Basic 0123456789abcdef", Method::GET, Err(Refusal::Missing)),
            ("0123456789abcdef", Method::GET, Err(Refusal::Missing)),
        ] {
            assert_eq!(judged(token, &method), expected, "{token} {method}");
        }
        let nobody = HeaderMap::new();
        assert_eq!(access.judge(&nobody, &Method::GET).map(|(who, _)| who), Err(Refusal::Missing));
        assert_eq!(Access::open().judge(&nobody, &Method::POST).map(|(who, _)| who), Ok("local".to_owned()));
    }

    #[tokio::test]
    async fn a_token_that_is_withdrawn_is_good_no_more() {
        let access = access();
        let (_, shown) = access.judge(&with_token("Bearer fedcba9876543210"), &Method::GET).unwrap();
        let mut watch = access.watch(shown);
        assert!(watch.is_good());
        access.tokens.send_replace(Some(Tokens::parse("ann 0123456789abcdef").unwrap()));
        watch.withdrawn().await;
    }
}
