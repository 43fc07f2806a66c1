//! `quorate://user:secret@h1:7420,h2:7420/vhost?key=value`, parsed.

use std::path::PathBuf;
use std::time::Duration;

use crate::address::Address;
use crate::error::Error;
use crate::limits;
use crate::options::{Options, Tls};

/// Parses a whole URL. Errors never repeat the secret.
pub(crate) fn parse(text: &str) -> Result<Options, Error> {
    if text.len() > limits::URL_BYTES {
        return Err(Error::url(format!("the URL is longer than {} bytes", limits::URL_BYTES)));
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("quorate", text));
    let tls = match scheme {
        "quorate" => false,
        "quorates" => true,
        _ => return Err(Error::url("the scheme is not known; use quorate:// or quorates://")),
    };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (before, after) = rest.split_at(authority_end);
    if !before.contains('@') && after.contains('@') {
        // Said before anything is parsed, so that no error repeats a piece of the secret.
        return Err(Error::url(
            "'@' after '/' or '?': percent-encode these characters in user name and secret",
        ));
    }
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // The last '@' ends the credentials: one inside them ought to be encoded, and is no part of any host.
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };

    let mut options = Options::new(addresses(hosts)?);
    if let Some(credentials) = credentials {
        let (user, secret) = credentials.split_once(':').unwrap_or((credentials, ""));
        let user = decode_text(user, "the user name")?;
        if user.is_empty() {
            return Err(Error::url("the user name before '@' is empty"));
        }
        options = options.credentials(user, decode(secret, "the secret")?);
    }
    if !path.is_empty() {
        options = options.vhost(decode_text(path, "the virtual host")?);
    }
    if tls {
        options = options.tls(Tls::default());
    }
    match query {
        None | Some("") => Ok(options),
        Some(query) => parameters(options, query),
    }
}

fn addresses(hosts: &str) -> Result<Vec<Address>, Error> {
    let addresses =
        hosts.split(',').map(|host| host.trim().parse()).collect::<Result<Vec<Address>, Error>>()?;
    if addresses.len() > limits::ADDRESSES {
        return Err(Error::url(format!("more than {} addresses", limits::ADDRESSES)));
    }
    Ok(addresses)
}

fn parameters(mut options: Options, query: &str) -> Result<Options, Error> {
    let mut certificate = None;
    let mut private_key = None;
    for pair in query.split('&') {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Error::url(format!("parameter '{pair}' has no value; write key=value")));
        };
        let value = decode_text(value, key)?;
        match key {
            "name" => options.name = value,
            "heartbeat" => options.heartbeat = duration(key, &value)?,
            "connect_timeout" => options.connect_timeout = duration(key, &value)?,
            "wait" => options.wait = duration(key, &value)?,
            "request_timeout" => options.request_timeout = duration(key, &value)?,
            "close_timeout" => options.close_timeout = duration(key, &value)?,
            "linger" => options.linger = duration(key, &value)?,
            "window_messages" => options.window_messages = size(key, &value)?.max(1),
            "window_bytes" => options.window_bytes = size(key, &value)?.max(1),
            "batch_bytes" => options.batch_bytes = size(key, &value)?.clamp(1, limits::WRITE_BYTES),
            "ca" | "cert" | "key" | "server_name" => {
                let Some(tls) = options.tls.as_mut() else {
                    return Err(Error::url(format!("parameter '{key}' needs the scheme quorates://")));
                };
                match key {
                    "ca" => tls.ca = Some(PathBuf::from(value)),
                    "cert" => certificate = Some(PathBuf::from(value)),
                    "key" => private_key = Some(PathBuf::from(value)),
                    _ => tls.server_name = Some(value),
                }
            }
            other => return Err(Error::url(format!("parameter '{other}' is not known"))),
        }
    }
    if let Some(tls) = options.tls.as_mut() {
        tls.identity = match (certificate, private_key) {
            (Some(certificate), Some(private_key)) => Some((certificate, private_key)),
            (None, None) => None,
            _ => return Err(Error::url("parameters 'cert' and 'key' go together")),
        };
    }
    Ok(options)
}

fn decode(text: &str, what: &str) -> Result<Vec<u8>, Error> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(bytes.next()), digit(bytes.next()));
        let value = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        decoded.push(value.ok_or_else(|| {
            Error::url(format!(
                "{what}: '%' must be followed by two hexadecimal digits; write '%' itself as %25"
            ))
        })?);
    }
    Ok(decoded)
}

fn decode_text(text: &str, what: &str) -> Result<String, Error> {
    String::from_utf8(decode(text, what)?).map_err(|_| Error::url(format!("{what} is not UTF-8")))
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

fn duration(key: &str, text: &str) -> Result<Duration, Error> {
    let milliseconds = number_and_unit(text).and_then(|(number, unit)| match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60 * 1000),
        "h" => number.checked_mul(60 * 60 * 1000),
        "" if number == 0 => Some(0),
        _ => None,
    });
    milliseconds
        .filter(|milliseconds| u32::try_from(*milliseconds).is_ok())
        .map(Duration::from_millis)
        .ok_or_else(|| {
            Error::url(format!("parameter '{key}': '{text}' is no time; write 500ms, 5s, 1m or 1h"))
        })
}

fn size(key: &str, text: &str) -> Result<usize, Error> {
    number_and_unit(text)
        .and_then(|(number, unit)| match unit {
            "" => Some(number),
            "KiB" => number.checked_mul(1 << 10),
            "MiB" => number.checked_mul(1 << 20),
            "GiB" => number.checked_mul(1 << 30),
            _ => None,
        })
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| {
            Error::url(format!("parameter '{key}': '{text}' is no size; write 4096, 64KiB or 1MiB"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_at_once() {
        let options = parse(
            "quorates://anna:s%40cret%2f@h1:1,h2,[::1]:3/a%20b?heartbeat=250ms&wait=1m&window_bytes=2MiB&ca=/x.pem\
             &cert=c&key=k&window_messages=7&name=me",
        )
        .unwrap();
        assert_eq!(
            options.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["h1:1", "h2:7420", "[::1]:3"]
        );
        assert_eq!(options.user.as_deref(), Some("anna"));
        assert_eq!(options.secret, b"s@cret/");
        assert_eq!(options.vhost, "a b");
        assert_eq!(options.heartbeat, Duration::from_millis(250));
        assert_eq!(options.wait, Duration::from_mins(1));
        assert_eq!((options.window_messages, options.window_bytes), (7, 2 << 20));
        assert_eq!(options.name, "me");
        let tls = options.tls.unwrap();
        assert_eq!(tls.ca, Some(PathBuf::from("/x.pem")));
        assert_eq!(tls.identity, Some((PathBuf::from("c"), PathBuf::from("k"))));
    }

    #[test]
    fn a_bare_list_of_addresses() {
        let options = parse("h1:7420,h2:7421").unwrap();
        assert_eq!(options.addresses.len(), 2);
        assert_eq!(options.vhost, "/");
        assert!(options.tls.is_none() && options.user.is_none());
        for url in ["quorate://h", "quorate://h/", "quorate://h/%2f", "quorate://h/?"] {
            assert_eq!(parse(url).unwrap().vhost, "/", "{url}");
        }
    }

    #[test]
    fn what_is_no_url() {
        for url in [
            "",
            "amqp://h",
            "quorate://",
            "quorate://h1,,h2",
            "quorate://:x@h",
            "quorate://h/%zz",
            "quorate://h/%2",
            "quorate://h?x=1",
            "quorate://h?heartbeat",
            "quorate://h?heartbeat=5",
            "quorate://h?heartbeat=99999999h",
            "quorate://h?window_bytes=3kb",
            "quorate://h?ca=x",
            "quorates://h?cert=x",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_secret_is_never_shown() {
        let options = parse("quorate://u:hush@h").unwrap();
        assert!(!format!("{options:?}").contains("hush"));
        for url in ["quorate://u:hush%@h", "quorate://u:hush/x@h", "quorate://u:hush?x@h", "q://u:hush@h"] {
            let error = parse(url).unwrap_err();
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}
