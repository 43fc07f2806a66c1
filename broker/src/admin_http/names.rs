//! By which names the admin port is asked: against pages in a browser on the same host, whose own name leads there.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::response::{IntoResponse, Response};

use super::answers::ApiError;

/// By which names whoever shows no token may ask: one that its owner has resolve to a loopback address, so that a page in a
/// browser there asks this port as if it were the page's own, is none of them.
#[derive(Clone, Debug, Default)]
pub struct KnownNames(Arc<[String]>);

impl KnownNames {
    /// Those that operators configured, beside addresses and `localhost`.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(plain_name).collect())
    }

    fn knows(&self, host: &str) -> bool {
        let host = plain_name(host);
        host == "localhost" || is_address(&host) || self.0.contains(&host)
    }

    /// The name in the request that is not known, if there is one. Browsers always say one.
    pub(super) fn stranger<'a>(&self, request: &'a Request) -> Option<&'a str> {
        let asked = request.uri().authority().map(Authority::as_str);
        let said = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default());
        said.chain(asked).find(|authority| !self.knows(host_of(authority)))
    }
}

/// Without what makes no difference to whom it leads.
fn plain_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Of `host`, `host:port` and `[address]:port`.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn is_address(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.map_or_else(|| host.parse::<Ipv4Addr>().is_ok(), |bare| bare.parse::<Ipv6Addr>().is_ok())
}

/// The answer to whoever asks by such a name.
pub(super) fn strange(name: &str) -> Response {
    let shown: String = name.chars().take(100).collect();
    let text = format!(
        "{shown:?} is no name of this admin port: as long as it asks for no token it answers to addresses, localhost, and the \
         names of --admin-listen and --admin-advertise, or any page in a browser could ask it"
    );
    let next = &[
        "use an address or localhost",
        "quorated … --admin-advertise NAME:PORT",
        "quorated … --admin-token-file FILE",
    ];
    ApiError::new(StatusCode::FORBIDDEN, "unknown-host", text, next).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn addresses_localhost_and_configured_names_are_known_and_nothing_that_looks_like_them() {
        let names = KnownNames::of(["broker-1.example", "127.0.0.1"]);
        for (host, known) in [
            ("127.0.0.1:7422", true),
            ("10.1.2.3", true),
            ("[::1]:7422", true),
            ("[fe80::1]", true),
            ("localhost", true),
            ("LocalHost.:7422", true),
            ("broker-1.example:7422", true),
            ("Broker-1.Example.", true),
            ("evil.example", false),
            ("evil.example:7422", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("broker-1.example.evil.example", false),
            ("evil-localhost", false),
            ("127.0.0.1:7422@evil.example", false),
            ("::1", false),
            ("127.1", false),
            ("", false),
        ] {
            let request =
                Request::builder().uri("/api/v1/status").header(HOST, host).body(Body::empty()).unwrap();
            assert_eq!(names.stranger(&request), (!known).then_some(host), "{host:?}");
        }
        // The line itself may say one, and a header may be there twice, or not at all.
        let said = |uri: &str, hosts: &[&str]| {
            let request =
                hosts.iter().fold(Request::builder().uri(uri), |request, host| request.header(HOST, *host));
            names.stranger(&request.body(Body::empty()).unwrap()).map(str::to_owned)
        };
        assert_eq!(said("http://evil.example/", &["localhost"]), Some("evil.example".to_owned()));
        assert_eq!(said("/", &["localhost", "evil.example"]), Some("evil.example".to_owned()));
        assert_eq!(said("/", &[]), None);
    }
}
