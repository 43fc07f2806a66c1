use clap::Parser;

use super::*;

fn settings(toml: &str) -> Settings {
    toml::from_str(toml).unwrap()
}

fn refused(toml: &str) -> String {
    Config::from_settings(settings(toml), None).unwrap_err().to_string()
}

#[test]
fn without_settings_the_defaults_hold() {
    let config = Config::from_settings(Settings::default(), None).unwrap();
    assert_eq!(config.store, StoreChoice::Directory("quorate-data".into()));
    assert_eq!(config.cluster_name, "quorate");
    assert_eq!(config.cluster_wait_for, 1);
    assert_eq!(config.listen.to_string(), "127.0.0.1:7420");
    assert_eq!(config.cluster_listen.to_string(), "127.0.0.1:7421");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:7422");
    assert_eq!(config.log_retain.to_string(), "4GiB");
    assert_eq!(config.rocksdb_memory.to_string(), "128MiB");
    assert_eq!(config.store_stamp_interval.to_string(), "5s");
    assert_eq!(config.safety_interval.to_string(), "30s");
    assert_eq!(config.election_timeout.to_string(), "1s");
    assert_eq!(config.heartbeat.to_string(), "100ms");
    assert_eq!(config.recovery, Recovery::Automatic);
    assert_eq!(config.name, host_name());
}

#[test]
fn a_flag_wins_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("quorated.toml");
    std::fs::write(&path, "name = \"from-file\"\ncluster-name = \"filed\"\nheartbeat = \"50ms\"\n").unwrap();
    let flags =
        Flags::try_parse_from(["quorated", "--config", path.to_str().unwrap(), "--name", "from-flag"])
            .unwrap();
    let config = Config::load(&flags).unwrap();
    assert_eq!(config.name, "from-flag");
    assert_eq!(config.cluster_name, "filed");
    assert_eq!(config.heartbeat.millis(), 50);
    assert_eq!(config.file, Some(path));
}

#[test]
fn an_unknown_key_is_an_error_with_line_and_column() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("quorated.toml");
    std::fs::write(&path, "name = \"b1\"\n  lisen = \"127.0.0.1:1\"\n").unwrap();
    let flags = Flags::try_parse_from(["quorated", "--config", path.to_str().unwrap()]).unwrap();
    let text = Config::load(&flags).unwrap_err().to_string();
    assert!(text.contains("line 2, column 3"), "{text}");
    assert!(text.contains("unknown field `lisen`"), "{text}");
    assert!(text.contains(path.to_str().unwrap()), "{text}");
}

#[test]
fn a_wrong_value_is_an_error_with_line_and_column() {
    let error = toml::from_str::<Settings>("name = \"b1\"\nheartbeat = 100\n").unwrap_err().to_string();
    assert!(error.contains("line 2, column 13"), "{error}");
    assert!(error.contains("has no unit"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let flags = Flags::try_parse_from(["quorated", "--config", "/no/such/file.toml"]).unwrap();
    assert!(Config::load(&flags).unwrap_err().to_string().contains("/no/such/file.toml"));
}

#[test]
fn transient_excludes_a_directory() {
    assert!(refused("transient = true\ndata-dir = \"d\"").contains("--transient excludes --data-dir"));
    let config = Config::from_settings(settings("transient = true"), None).unwrap();
    assert_eq!(config.store, StoreChoice::Transient);
}

#[test]
fn the_majority_of_the_listed_peers_is_awaited_unless_said_otherwise() {
    for (peers, expected) in [
        ("[]", 1),
        ("[\"a:1\"]", 1),
        ("[\"a:1\",\"b:1\"]", 2),
        ("\"a:1,b:1,c:1\"", 2),
        ("\"a:1,b:1,c:1,d:1\"", 3),
    ] {
        let config = Config::from_settings(settings(&format!("cluster-peers = {peers}")), None).unwrap();
        assert_eq!(config.cluster_wait_for, expected, "{peers}");
    }
    let config = Config::from_settings(settings("cluster-peers = \"a:1,a:1,b:1\""), None).unwrap();
    assert_eq!(config.cluster_peers.len(), 2, "the same address twice is one peer");
}

#[test]
fn waiting_for_half_of_the_peers_or_fewer_is_refused() {
    let four = "cluster-peers = \"a:1,b:1,c:1,d:1\"\n";
    let text = refused(&format!("{four}cluster-wait-for = 2"));
    assert!(text.contains("no more than half of the 4 listed peers"), "{text}");
    assert!(Config::from_settings(settings(&format!("{four}cluster-wait-for = 3")), None).is_ok());
    assert!(
        Config::from_settings(
            settings(&format!("{four}cluster-wait-for = 2\nallow-small-cluster = true")),
            None
        )
        .is_ok()
    );
    assert!(refused("cluster-wait-for = 0").contains("at least one member"));
}

#[test]
fn listeners_off_loopback_need_protection_or_insecure() {
    for (line, hint) in [
        ("listen = \"0.0.0.0:1\"", "--tls-cert"),
        ("cluster-listen = \"10.0.0.1:1\"", "--cluster-secret-file"),
        ("admin-listen = \"broker.example:1\"", "--admin-tls-key and --admin-token-file"),
    ] {
        assert!(refused(line).contains(hint), "{line}");
        assert!(Config::from_settings(settings(&format!("{line}\ninsecure = true")), None).is_ok(), "{line}");
    }
    assert!(
        Config::from_settings(settings("listen = \"0.0.0.0:1\"\ntls-cert = \"c\"\ntls-key = \"k\""), None)
            .is_ok(),
        "the files themselves are read at the start"
    );
}

#[test]
fn tokens_and_certificates_let_the_admin_listener_leave_loopback() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens");
    std::fs::write(&path, "ann 0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let listen = "admin-listen = \"0.0.0.0:1\"\n";
    let tls = "admin-tls-cert = \"c\"\nadmin-tls-key = \"k\"\n";
    let tokens = format!("admin-token-file = {path:?}\n");
    assert!(refused(&format!("{listen}{tls}")).contains("give --admin-token-file, or"));
    assert!(refused(&format!("{listen}{tokens}")).contains("give --admin-tls-cert and --admin-tls-key, or"));
    let config = Config::from_settings(settings(&format!("{listen}{tls}{tokens}")), None).unwrap();
    let again = Config::from_settings(settings(&config.to_toml()), None).unwrap();
    assert_eq!((again.admin_tls, again.admin_token_file), (config.admin_tls, config.admin_token_file));
    assert!(refused("admin-tls-cert = \"c\"").contains("--admin-tls-cert and --admin-tls-key go together"));
    std::fs::write(&path, "ann short\n").unwrap();
    let text = refused(&tokens);
    assert!(text.contains("--admin-token-file") && text.contains("line 1"), "{text}");
}

#[test]
fn a_secret_lets_the_cluster_listener_leave_loopback() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    let toml = format!("cluster-listen = \"10.0.0.1:1\"\ncluster-secret-file = {path:?}");
    assert!(refused(&toml).contains("--cluster-secret-file"));
    std::fs::write(&path, "short\n").unwrap();
    assert!(refused(&toml).contains("too few"));
    std::fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
    let config = Config::from_settings(settings(&toml), None).unwrap();
    assert_eq!(config.cluster_secret.as_ref().unwrap().as_bytes(), b"0123456789abcdef0123456789abcdef");
    assert!(!format!("{config:?}").contains("0123456789abcdef"), "a secret is never printed");
}

#[test]
fn every_complaint_is_reported_at_once() {
    let text = refused(
        "name = \"\"\ntls-cert = \"c\"\nheartbeat = \"1s\"\nlog-level = \"=!\"\nrocksdb-memory = \"1KiB\"",
    );
    assert_eq!(text.lines().count(), 5, "{text}");
}

#[test]
fn a_log_level_that_is_not_ascii_is_refused() {
    let text = refused("log-level = \"[\u{fffd}0]\"");
    assert!(text.contains("--log-level") && text.contains("not ASCII"), "{text}");
}

#[test]
fn what_is_printed_can_be_read_back() {
    let config = Config::from_settings(
        settings("name = \"b1\"\ncluster-peers = \"a:1,b:1,c:1\"\nlisten = \"[::1]:0\"\ncluster-wait-for = 3\nlog-format = \"json\""),
        None,
    )
    .unwrap();
    let printed = config.to_toml();
    let again = Config::from_settings(settings(&printed), None).unwrap();
    assert_eq!(again.to_toml(), printed);
    assert_eq!(again.cluster_peers, config.cluster_peers);
    assert_eq!(again.listen, config.listen);
}
