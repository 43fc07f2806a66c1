//! What the programs are told: arguments and files.
//!
//! The first byte of an input says what the rest is: 0 the broker's file, 1 the broker's arguments, one a line, 2 the
//! tool's file, 3 the tool's arguments, 4 a client's URL.

use std::cell::RefCell;
use std::path::PathBuf;

use clap::Parser;
use quorate_broker::config::{Config, ConfigError};
use quorate_broker::flags::Flags;
use quorate_fuzz::allocator::Allowance;
use quorate_fuzz::{Reached, Target};
use quorate_tools::Environment;
use quorate_tools::cli::Cli;
use quorate_tools::settings::{Globals, Settings};

/// See the module.
pub const TARGET: Target = Target {
    name: "configuration",
    run,
    seeds,
    length_max: 4096,
    words: &[
        b"--",
        b"=",
        b"\"",
        b"[contexts.a]\n",
        b"true",
        b"4GiB",
        b"100ms",
        b"1h",
        b"18446744073709551615",
        b"127.0.0.1:7420",
        b"[::1]:1",
        b"0.0.0.0:0",
        b"quorate://",
        b"@",
        b"/",
        b"automatic",
        b"manual",
        b"--transient",
        b"--cluster-peers",
        b"--log-level",
        b"info,a=b",
    ],
    text: true,
    smoke: 8000,
};

/// A parser's own tables and messages; a file of that many keys has as many values.
const READ: Allowance = Allowance { each: 256, fixed: 4 << 20 };

thread_local! {
    static DIR: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// A file with this content.
fn file(name: &str, content: &[u8]) -> PathBuf {
    DIR.with_borrow_mut(|dir| {
        let dir = dir.get_or_insert_with(|| tempfile::tempdir().expect("a temporary directory"));
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("a temporary file");
        path
    })
}

fn run(input: &[u8]) -> Reached {
    let Some((what, content)) = input.split_first() else { return Reached::Refused };
    // What a device or the kernel gives is not what the input says, and may never end.
    if ["/dev", "/proc", "/sys"].iter().any(|place| String::from_utf8_lossy(content).contains(place)) {
        return Reached::Refused;
    }
    let text = String::from_utf8_lossy(content);
    let accepted = READ.check(content.len(), "reading it", || match what {
        0 => broker_file(content),
        1 => broker_arguments(&text),
        2 => tool_file(content),
        3 => Cli::try_parse_from(std::iter::once("quorate").chain(text.lines())).is_ok(),
        _ => url(&text),
    });
    Reached::accepted_if(accepted)
}

fn broker_file(content: &[u8]) -> bool {
    let path = file("quorated.toml", content);
    let flags = Flags::try_parse_from(["quorated".as_ref(), "--config".as_ref(), path.as_os_str()])
        .expect("two words");
    judged(Config::load(&flags))
}

fn broker_arguments(text: &str) -> bool {
    let Ok(flags) = Flags::try_parse_from(std::iter::once("quorated").chain(text.lines())) else {
        return false;
    };
    // A file of this machine is not part of the input.
    flags.config.is_none() && judged(Config::load(&flags))
}

/// A configuration in force, written as a file, is the same configuration.
fn judged(loaded: Result<Config, ConfigError>) -> bool {
    let config = match loaded {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a refusal without a word");
            return false;
        }
    };
    let printed = config.to_toml();
    let path = file("printed.toml", printed.as_bytes());
    let flags = Flags::try_parse_from(["quorated".as_ref(), "--config".as_ref(), path.as_os_str()])
        .expect("two words");
    match Config::load(&flags) {
        Ok(again) => assert_eq!(again.to_toml(), printed, "what is printed means the same"),
        Err(error) => panic!("what is printed is refused: {error}\n{printed}"),
    }
    true
}

fn tool_file(content: &[u8]) -> bool {
    let environment = Environment { config: Some(file("config.toml", content)), ..Environment::default() };
    let named = Globals { context: Some("a".to_owned()), ..Globals::default() };
    let default = Settings::new(&Globals::default(), &environment);
    for settings in [&default, &Settings::new(&named, &environment)] {
        match settings {
            Ok(settings) => assert!(!settings.admin.is_empty(), "no address to ask"),
            Err(failure) => assert!(!format!("{failure:?}").is_empty()),
        }
    }
    default.is_ok()
}

fn url(text: &str) -> bool {
    quorate_client::Options::from_url(text).is_ok()
}

fn seeds() -> Vec<Vec<u8>> {
    let broker = "name = \"b1\"\ndata-dir = \"data\"\ncluster-name = \"quorate\"\ncluster-peers = \"h1:7421,h2:7421,h3:7421\"\n\
                  cluster-wait-for = 2\nrecovery = \"manual\"\ncluster-id = \"00000000-0000-0000-0000-00000000abcd\"\ninsecure = false\n\
                  allow-small-cluster = true\nlisten = \"127.0.0.1:0\"\ncluster-listen = \"[::1]:7421\"\nadmin-listen = \"localhost:7422\"\n\
                  advertise = \"h1:7420\"\nlog-retain = \"4GiB\"\nrocksdb-memory = \"128MiB\"\nquarantine-max = \"16GiB\"\nupdate-rate = \"1MiB\"\n\
                  store-stamp-interval = \"5s\"\nsafety-interval = \"30s\"\nelection-timeout = \"1s\"\nheartbeat = \"100ms\"\nlog-format = \"json\"\nlog-level = \"info\"\n";
    let arguments = "--name\nb1\n--transient\n--cluster-peers\nh1:7421,h2:7421\n--cluster-wait-for\n2\n--heartbeat\n50ms\n--log-level\ndebug";
    let tool = "default-context = \"a\"\n\n[contexts.a]\nurl = \"quorate://user:secret@h1:7420,h2:7420/vhost\"\nadmin = \"h1:7422,[::1]:7422\"\n\
                timeout = \"30s\"\nadmin-tls-ca = \"ca.pem\"\nadmin-token-file = \"token\"\n";
    let with = |what: u8, text: &str| [&[what][..], text.as_bytes()].concat();
    vec![
        with(0, broker),
        with(0, "transient = true\n"),
        with(1, arguments),
        with(1, "config\nprint"),
        with(2, tool),
        with(2, ""),
        with(3, "queue\ndeclare\norders\n--max-length\n10\n--url\nh1:7420\n-ojson"),
        with(3, "store\nmark-clean\ndata\n--why\ndisk lost\n--yes"),
        with(4, "quorate://user:secret@h1:7420,h2:7420/vhost"),
        with(4, "127.0.0.1:7420"),
    ]
}
