//! Whom to talk to and how: flags first, then the environment, then a context, then the defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::approach::{Approach, Token};
use crate::exit::Failure;
use crate::sandbox;
use crate::store::confined;
use crate::units::Span;

/// Where clients connect if nothing else is said.
const DEFAULT_URL: &str = "127.0.0.1:7420";
/// Where operators connect if nothing else is said.
const DEFAULT_ADMIN: &str = "127.0.0.1:7422";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// The context that needs no file: the sandbox in its usual directory.
const SANDBOX_CONTEXT: &str = "sandbox";

/// Who reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// People.
    Table,
    /// Programs.
    Json,
}

/// Accepted before and after any command.
#[derive(Clone, Debug, Default, Args)]
pub struct Globals {
    /// Client addresses, comma-separated, or a URL: quorate://user:secret@h1:7420,h2:7420/vhost [env: QUORATE_URL] [default: 127.0.0.1:7420]
    #[arg(long, global = true, value_name = "HOST:PORT,...")]
    pub url: Option<String>,
    /// Admin addresses of any brokers, comma-separated [env: QUORATE_ADMIN] [default: 127.0.0.1:7422]
    #[arg(long, global = true, value_name = "HOST:PORT,...")]
    pub admin: Option<String>,
    /// A token for the admin ports, in a file: alone, or a line NAME TOKEN as brokers have it [env: QUORATE_ADMIN_TOKEN: the token itself]
    #[arg(long, global = true, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Speak TLS to the admin ports, trusting the certificates (PEM) in this file [env: QUORATE_ADMIN_TLS_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub admin_tls_ca: Option<PathBuf>,
    /// Take addresses from this context of $XDG_CONFIG_HOME/quorate/config.toml; `sandbox` is the sandbox's [env: QUORATE_CONTEXT]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// How long to look for a leader, at the beginning and after a failure, and to wait for an answer [default: 30s]
    #[arg(long, global = true, value_name = "TIME")]
    pub timeout: Option<Span>,
    /// For people or for programs [default: table]
    #[arg(short = 'o', long, global = true, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// What the process was started with, besides its arguments.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `QUORATE_URL`.
    pub url: Option<String>,
    /// `QUORATE_ADMIN`.
    pub admin: Option<String>,
    /// `QUORATE_ADMIN_TOKEN`.
    pub admin_token: Option<String>,
    /// `QUORATE_ADMIN_TLS_CA`.
    pub admin_tls_ca: Option<PathBuf>,
    /// `QUORATE_CONTEXT`.
    pub context: Option<String>,
    /// The configuration file, which need not exist; none if there is no place for one.
    pub config: Option<PathBuf>,
    /// Where the context `sandbox` is found.
    pub sandbox: PathBuf,
    /// This program, so that stores are read by processes of their own; none to read them in this one.
    pub program: Option<PathBuf>,
    /// This process is one of those.
    pub confined: bool,
}

impl Environment {
    /// That of this process. An empty variable says nothing.
    pub fn of_this_process() -> Self {
        let text = |name| std::env::var(name).ok().filter(|text: &String| !text.is_empty());
        Self {
            url: text("QUORATE_URL"),
            admin: text("QUORATE_ADMIN"),
            admin_token: text("QUORATE_ADMIN_TOKEN"),
            admin_tls_ca: text("QUORATE_ADMIN_TLS_CA").map(PathBuf::from),
            context: text("QUORATE_CONTEXT"),
            config: config_path(),
            sandbox: sandbox::usual_directory(),
            program: std::env::current_exe().ok(),
            confined: std::env::var_os(confined::VARIABLE).is_some(),
        }
    }
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Client addresses or URL, as the client library reads them.
    pub url: String,
    /// Admin addresses, `host:port` each.
    pub admin: Vec<String>,
    /// How admin ports are spoken to.
    pub approach: Approach,
    /// How long to look for a leader, and to wait for an answer.
    pub timeout: Duration,
    /// None if nothing was said.
    pub format: Option<Format>,
    /// The brokers' processes, where they are known to be on this machine.
    pub pids: Vec<u32>,
}

/// The configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    /// The context to take if none is named.
    default_context: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Context {
    url: Option<String>,
    admin: Option<String>,
    admin_token_file: Option<PathBuf>,
    admin_tls_ca: Option<PathBuf>,
    timeout: Option<String>,
    #[serde(skip)]
    pids: Vec<u32>,
}

impl Settings {
    /// Lays the flags over the environment over the context over the defaults.
    ///
    /// # Errors
    /// The configuration file is wrong, or has no such context.
    pub fn new(flags: &Globals, environment: &Environment) -> Result<Self, Failure> {
        let flags = Globals {
            url: flags.url.clone().or(environment.url.clone()),
            admin: flags.admin.clone().or(environment.admin.clone()),
            admin_tls_ca: flags.admin_tls_ca.clone().or(environment.admin_tls_ca.clone()),
            context: flags.context.clone().or(environment.context.clone()),
            ..flags.clone()
        };
        let context = context(&flags, environment.config.as_deref(), &environment.sandbox)?;
        Self::over(&flags, environment.admin_token.as_deref(), context)
    }

    /// For commands that work on this machine alone: a context that is not there, or not yet, does not matter to them.
    ///
    /// # Errors
    /// The flags are wrong.
    pub fn local(flags: &Globals) -> Result<Self, Failure> {
        Self::over(flags, None, Context::default())
    }

    fn over(flags: &Globals, token: Option<&str>, context: Context) -> Result<Self, Failure> {
        let url = flags.url.clone().or(context.url).unwrap_or_else(|| DEFAULT_URL.to_owned());
        let admin = flags.admin.clone().or(context.admin).unwrap_or_else(|| DEFAULT_ADMIN.to_owned());
        let timeout = match (flags.timeout, context.timeout) {
            (Some(span), _) => span.0,
            (None, Some(text)) => {
                let span: Span =
                    text.parse().map_err(|error| Failure::usage(format!("timeout '{text}': {error}")))?;
                span.0
            }
            (None, None) => DEFAULT_TIMEOUT,
        };
        let ca = flags.admin_tls_ca.clone().or(context.admin_tls_ca);
        let tls = speaks_tls(&admin, ca.as_deref())?;
        let admin = admin.split(',').map(admin_address).collect::<Result<_, _>>()?;
        let token = match (&flags.admin_token_file, token, &context.admin_token_file) {
            (Some(path), _, _) | (None, None, Some(path)) => Some(Token::read(path)?),
            (None, Some(text), _) => Some(Token::new(text, "QUORATE_ADMIN_TOKEN")?),
            (None, None, None) => None,
        };
        let approach = Approach { roots: if tls { ca } else { None }, token };
        Ok(Self { url, admin, approach, timeout, format: flags.format, pids: context.pids })
    }
}

fn context(flags: &Globals, config: Option<&Path>, sandbox: &Path) -> Result<Context, Failure> {
    let mut file = match config {
        // With everything said on the command line, a broken file is no reason to stop.
        Some(path) if flags.context.is_some() || flags.url.is_none() || flags.admin.is_none() => read(path)?,
        _ => File::default(),
    };
    let Some(name) = flags.context.as_ref().or(file.default_context.as_ref()) else {
        return Ok(Context::default());
    };
    if let Some(context) = file.contexts.remove(name) {
        return Ok(context);
    }
    if name == SANDBOX_CONTEXT {
        let state = sandbox::State::load(sandbox)?;
        return Ok(Context {
            url: Some(state.client_addresses()),
            admin: Some(state.admin_addresses()),
            pids: state.live_pids(),
            ..Context::default()
        });
    }
    let known: Vec<&str> = file.contexts.keys().map(String::as_str).chain([SANDBOX_CONTEXT]).collect();
    let place =
        config.map_or_else(|| "(no configuration directory)".to_owned(), |path| path.display().to_string());
    Err(Failure::usage(format!("there is no context '{name}' in {place}; known: {}", known.join(", "))))
}

fn read(path: &Path) -> Result<File, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display()).trim_end())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => Err(Failure::usage(format!("{}: {error}", path.display()))),
    }
}

fn config_path() -> Option<PathBuf> {
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(base.join("quorate").join("config.toml"))
}

/// A directory named by the environment; relative ones are ignored, as the XDG specification asks.
pub(crate) fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Whether admin ports are spoken to by TLS: all of them or none.
fn speaks_tls(admin: &str, ca: Option<&Path>) -> Result<bool, Failure> {
    let schemes: Vec<Option<&str>> =
        admin.split(',').map(|address| address.trim().split_once("://").map(|(scheme, _)| scheme)).collect();
    let any = |scheme| schemes.contains(&Some(scheme));
    match (any("https"), any("http"), ca) {
        (true, true, _) => {
            Err(Failure::usage(format!("--admin '{admin}': either http:// or https:// for all")))
        }
        (false, true, Some(ca)) => Err(Failure::usage(format!(
            "--admin '{admin}' asks for plain text, --admin-tls-ca {} for TLS: leave one of them out",
            ca.display()
        ))),
        (true, _, None) => Err(Failure::usage(format!(
            "--admin '{admin}': whose certificates are to be trusted? give --admin-tls-ca FILE"
        ))),
        (https, _, ca) => Ok(https || ca.is_some()),
    }
}

/// `host:port` as HTTP needs it.
fn admin_address(text: &str) -> Result<String, Failure> {
    let wrong =
        || Failure::usage(format!("--admin '{text}': expected HOST:PORT, or several with commas between"));
    let address = text.trim();
    let plain = address.strip_prefix("http://").or(address.strip_prefix("https://"));
    let address = plain.unwrap_or(address).trim_end_matches('/');
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || (host.starts_with('[') && host.ends_with(']')) => {
            (host, port)
        }
        None => (address, "7422"),
        Some(_) => return Err(wrong()),
    };
    let plain = |c: char| c.is_alphanumeric() || "-._[]:%".contains(c);
    if host.is_empty() || !host.chars().all(plain) || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: &Globals, config: &str) -> Result<Settings, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, config).unwrap();
        let sandbox = directory.path().join("sandbox");
        let environment = Environment {
            admin: Some("from-env".into()),
            config: Some(path),
            sandbox,
            ..Environment::default()
        };
        Settings::new(flags, &environment)
    }

    const CONFIG: &str = "default-context = 'a'\n[contexts.a]\nurl = 'h1,h2'\nadmin = 'h1:1,h2'\ntimeout = '5s'\n\
                          [contexts.b]\nurl = 'h3'\n";

    #[test]
    fn flags_win_over_the_environment_over_the_context_over_the_defaults() {
        let all = resolve(&Globals::default(), CONFIG).unwrap();
        assert_eq!((all.url.as_str(), all.admin.join(" ").as_str()), ("h1,h2", "from-env:7422"));
        assert_eq!(all.timeout, Duration::from_secs(5));
        let flags = Globals {
            url: Some("x".into()),
            context: Some("b".into()),
            timeout: Some(Span(Duration::from_secs(1))),
            ..Globals::default()
        };
        let some = resolve(&flags, CONFIG).unwrap();
        assert_eq!((some.url.as_str(), some.admin.join(" ").as_str()), ("x", "from-env:7422"));
        assert_eq!(some.timeout, Duration::from_secs(1));
        let admin = Globals { admin: Some("y".into()), ..Globals::default() };
        assert_eq!(resolve(&admin, CONFIG).unwrap().admin, ["y:7422"]);
        assert_eq!(resolve(&Globals::default(), "").unwrap().url, DEFAULT_URL);
        let nothing = Settings::new(&Globals::default(), &Environment::default()).unwrap();
        assert_eq!(nothing.admin, [DEFAULT_ADMIN]);
    }

    #[test]
    fn tokens_and_certificates_come_from_flags_environment_or_context() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        let config = directory.path().join("config.toml");
        let text = format!(
            "[contexts.a]\nadmin = 'h1,h2'\nadmin-token-file = {0:?}\nadmin-tls-ca = {0:?}\n",
            path.display().to_string()
        );
        std::fs::write(&config, text).unwrap();
        let mut environment = Environment { config: Some(config), ..Environment::default() };
        let named = Globals { context: Some("a".into()), ..Globals::default() };
        let settings = Settings::new(&named, &environment).unwrap();
        assert_eq!(settings.approach.roots.as_deref(), Some(path.as_path()));
        assert_eq!(settings.approach.token, Some(Token::new("0123456789abcdef", "").unwrap()));
        assert!(!format!("{settings:?}").contains("0123456789abcdef"), "no token in any message");
        environment.admin_token = Some("another-token-of-16".into());
        let settings = Settings::new(&named, &environment).unwrap();
        assert_eq!(settings.approach.token, Some(Token::new("another-token-of-16", "").unwrap()));
        let flag = Globals { admin_token_file: Some(path), ..named };
        let settings = Settings::new(&flag, &environment).unwrap();
        assert_eq!(settings.approach.token, Some(Token::new("0123456789abcdef", "").unwrap()));
    }

    #[test]
    fn either_all_admin_ports_speak_tls_or_none() {
        let ca = Path::new("ca.pem");
        assert!(!speaks_tls("h1:1,h2:2", None).unwrap());
        assert!(!speaks_tls("http://h1:1,h2:2", None).unwrap());
        assert!(speaks_tls("h1:1,h2:2", Some(ca)).unwrap());
        assert!(speaks_tls("https://h1:1,https://h2:2", Some(ca)).unwrap());
        for (admin, ca) in
            [("https://h1:1,http://h2:2", Some(ca)), ("http://h1:1", Some(ca)), ("https://h1:1", None)]
        {
            assert_eq!(speaks_tls(admin, ca).unwrap_err().status.code(), 64, "{admin}");
        }
        assert_eq!(admin_address("https://h:2/").unwrap(), "h:2");
    }

    #[test]
    fn what_is_wrong_with_the_file_is_said() {
        let named = |name: &str| Globals { context: Some(name.into()), ..Globals::default() };
        let missing = resolve(&named("c"), CONFIG).unwrap_err();
        assert_eq!(missing.status.code(), 64);
        assert!(missing.message.contains("no context 'c'") && missing.message.contains("a, b"), "{missing}");
        let unknown = resolve(&Globals::default(), "[contexts.a]\nurll = 'x'").unwrap_err();
        assert!(unknown.message.contains("urll") && unknown.message.contains("line 2"), "{unknown}");
        assert!(resolve(&named("sandbox"), CONFIG).unwrap_err().message.contains("no sandbox"));
    }

    #[test]
    fn admin_addresses() {
        for (text, address) in [
            ("h", "h:7422"),
            (" h:1 ", "h:1"),
            ("http://h:2/", "h:2"),
            ("[::1]:3", "[::1]:3"),
            ("10.0.0.1:4", "10.0.0.1:4"),
        ] {
            assert_eq!(admin_address(text).unwrap(), address);
        }
        for text in ["", ":1", "h:x", "h:70000", "::1", "h/x:1", "h:1/x"] {
            assert!(admin_address(text).is_err(), "{text}");
        }
    }
}
