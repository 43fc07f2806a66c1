//! From a configuration to a running broker, and back down.
//!
//! The order: certificates, lock and store, ports, core, tasks, ready file. Ports are open before anything is decided;
//! a broker that waits, or is held, answers.

use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use quorate_core::Node;
use quorate_core::formation::status::RecoveryMode;
use quorate_core::node::config::NodeConfig;
use quorate_core::replica::Timing;
use quorate_protocol::limits::Limits;
use quorate_protocol::name::{Address, BrokerName, ClusterName};
use quorate_protocol::peer_hello::{PeerConfig, PeerHello, PeerSecret};
use quorate_store::files::real::RealFiles;
use quorate_store::ids::ClusterId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::address::HostPort;
use crate::admin_desk::AdminDesk;
use crate::admin_http::{self, Access, AdminState, KnownNames};
use crate::clients::{Clients, Places};
use crate::config::{Config, StoreChoice, host_name};
use crate::counters::Counters;
use crate::driver::{Clock, Driver, Outlets};
use crate::event_log::EventLog;
use crate::exit::{Exit, ExitStatus};
use crate::flags::{Flags, Recovery};
use crate::inbox::Inbox;
use crate::keeper::Keeper;
use crate::log_worker::{LogOwner, Synced};
use crate::logging::LogLevel;
use crate::open_store::{Opened, open_store};
use crate::peers::{LinkTiming, Peers};
use crate::pulse::Pulse;
use crate::ready_file::{self, Ready};
use crate::signals::{self, Reloaded, Signals};
use crate::stamp_thread::StampFiles;
use crate::state_thread::StateThread;
use crate::storage::Storage;
use crate::tls::Tls;

/// For what may take its time: the admin port, signals, and clients by TLS. The core's thread, with the other sockets, and
/// the disk's threads come on top.
const WORKERS_MIN: usize = 2;
const WORKERS_MAX: usize = 4;
/// How long connections may take to hear the last word.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The open ports.
struct Ports {
    client: StdListener,
    cluster: StdListener,
    admin: StdListener,
}

/// Runs a broker until it ends; the exit says why.
pub fn run(flags: &Flags, config: &Config, level: &LogLevel, runtime: Runtime, signals: Signals) -> Exit {
    match start_and_run(flags, config, level.clone(), runtime, signals) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn start_and_run(
    flags: &Flags,
    config: &Config,
    level: LogLevel,
    runtime: Runtime,
    signals: Signals,
) -> Result<Exit, Exit> {
    raise_file_limit();
    if let Some(path) = &config.ready_file {
        ready_file::remove(path).map_err(|error| {
            Exit::new(ExitStatus::Usage, format!("--ready-file {}: {error}", path.display()))
        })?;
    }
    let tls =
        config.tls.as_ref().map(Tls::load).transpose().map_err(|text| Exit::new(ExitStatus::Usage, text))?;
    let usage = |text| Exit::new(ExitStatus::Usage, text);
    let admin_tls = config.admin_tls.as_ref().map(Tls::load).transpose().map_err(usage)?;
    let access = config.admin_token_file.as_deref().map(Access::by).transpose().map_err(usage)?;
    let opened = open_store(config)?;
    let ports = Ports {
        client: bind("--listen", &config.listen)?,
        cluster: bind("--cluster-listen", &config.cluster_listen)?,
        admin: bind("--admin-listen", &config.admin_listen)?,
    };
    let access = access.unwrap_or_else(Access::open);
    let certificates = tls.iter().chain(&admin_tls).cloned().collect();
    let reloaded = Reloaded { flags: flags.clone(), certificates, access: access.clone(), level };
    let settings = Settings { config, tls, admin_tls, access, reloaded };
    let exit = serve(settings, opened, ports, &runtime, signals)?;
    if let Some(path) = &config.ready_file
        && let Err(error) = ready_file::remove(path)
    {
        tracing::warn!("--ready-file {}: {error}", path.display());
    }
    runtime.shutdown_timeout(LAST_WORDS);
    Ok(exit)
}

/// What others are told: as configured, else the listen address with the port that it got.
fn advertised(listen: &HostPort, told: Option<&HostPort>, bound: SocketAddr) -> HostPort {
    let port = |port| if port == 0 { bound.port() } else { port };
    match told {
        Some(told) => HostPort::new(told.host.clone(), port(told.port)),
        None if listen.is_wildcard() => HostPort::new(host_name(), bound.port()),
        None => HostPort::new(listen.host.clone(), bound.port()),
    }
}

/// What the broker was told.
struct Settings<'a> {
    config: &'a Config,
    tls: Option<Tls>,
    admin_tls: Option<Tls>,
    access: Access,
    reloaded: Reloaded,
}

fn serve(
    settings: Settings<'_>,
    opened: Opened,
    ports: Ports,
    runtime: &Runtime,
    signals: Signals,
) -> Result<Exit, Exit> {
    let Settings { config, tls, admin_tls, access, reloaded } = settings;
    let internal = |error: std::io::Error| Exit::new(ExitStatus::Internal, format!("cannot start: {error}"));
    let bound = |listener: &StdListener| listener.local_addr().map_err(internal);
    let (client, cluster, admin) = (bound(&ports.client)?, bound(&ports.cluster)?, bound(&ports.admin)?);
    let addresses = Addresses {
        client: advertised(&config.listen, config.advertise.as_ref(), client).to_string(),
        cluster: advertised(&config.cluster_listen, config.cluster_advertise.as_ref(), cluster).to_string(),
        admin: advertised(&config.admin_listen, config.admin_advertise.as_ref(), admin).to_string(),
    };
    let Opened { lock, found, writer, reader, stamp, panic, reserve, state, quarantine_bytes } = opened;
    let limits = Limits::default();
    let peer_config = peer_config(config, &addresses, &found)?;
    let (inbox, arrivals) = Inbox::new();
    let counters = Arc::<Counters>::default();
    let events = Arc::new(EventLog::new(&config.name));
    let pulse = Arc::<Pulse>::default();
    let core = core_runtime()?;
    let desk = AdminDesk::new(inbox.clone());
    let timing = LinkTiming::new(config.heartbeat.0, config.election_timeout.0);
    let peers = Peers::new(peer_config, timing, inbox.clone(), Arc::clone(&counters), core.handle().clone());
    let clock = Clock::default();
    let seed = getrandom::u64().map_err(|error| Exit::new(ExitStatus::Internal, error.to_string()))?;
    let store = found.store;
    let node = Node::new(node_config(config, &addresses, limits, clock), found, seed, clock.now());
    // What was synced before this process must not be forgotten by its first stamp.
    let synced = Synced::new(writer.synced_point());
    let state = StateThread::start(state, inbox.clone(), Arc::clone(&counters)).map_err(internal)?;
    let keeper = match &config.store {
        StoreChoice::Directory(dir) => state.entrance().map(|entrance| Keeper {
            files: Arc::new(RealFiles),
            dir: dir.clone(),
            bytes_max: config.quarantine_max.0,
            state: entrance,
        }),
        StoreChoice::Transient => None,
    };
    let owner = LogOwner {
        writer,
        reserve,
        quarantine_bytes: Arc::new(quarantine_bytes.into()),
        keeper,
        inbox: inbox.clone(),
        counters: Arc::clone(&counters),
        synced,
    };
    let outlets = Outlets {
        storage: Storage::start(owner, &reader, StampFiles { stamp, panic }).map_err(internal)?,
        state,
        peers: peers.clone(),
        desk: desk.clone(),
        counters: Arc::clone(&counters),
        events: Arc::clone(&events),
        pulse: Arc::clone(&pulse),
    };
    pulse.beat();

    let listener = |runtime: &Runtime, listener: StdListener| {
        let _inside = runtime.enter();
        listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)).map_err(internal)
    };
    let places = Places::default();
    let clients = Clients {
        inbox: inbox.clone(),
        counters: Arc::clone(&counters),
        limits,
        tls: tls.clone(),
        insecure: config.insecure,
        places: places.clone(),
    };
    // What has to be encrypted takes the processor for longer than a round may wait.
    let clients_at = if tls.is_some() { runtime } else { &core };
    let mut state = AdminState::new(desk, counters, events, Arc::clone(&pulse));
    state.insecure = config.insecure;
    if let StoreChoice::Directory(directory) = &config.store {
        state.data_dir = Some(directory.clone());
    }
    state.access = access;
    let named = std::iter::once(&config.admin_listen).chain(&config.admin_advertise);
    state.names = KnownNames::of(named.map(|at| at.host.as_str()));
    runtime.spawn(signals.obey(inbox, reloaded));
    runtime.spawn(signals::watchdog(pulse));
    clients_at.spawn(clients.serve(listener(clients_at, ports.client)?));
    core.spawn(peers.serve(listener(&core, ports.cluster)?));
    let (last_words, closing) = tokio::sync::oneshot::channel();
    let admin_server =
        runtime.spawn(admin_http::serve(listener(runtime, ports.admin)?, admin_tls, state, closing));
    let ready = Ready {
        pid: std::process::id(),
        client: client.to_string(),
        cluster: cluster.to_string(),
        admin: admin.to_string(),
    };
    announce(config, &addresses, &ready, store)?;

    let driver = core.spawn(Driver::new(node, arrivals, outlets, clock).run());
    // A panic of the core has ended the process before this could return an error.
    let exit = core.block_on(driver).map_err(|_| Exit::new(ExitStatus::Internal, "the core panicked"))?;
    drop(lock);
    // Whoever asked for the shutdown is still waiting for the answer, and clients for the reason.
    drop(last_words);
    let heard = async { tokio::join!(admin_server, places.all_free()) };
    let _ = core.block_on(async { timeout(LAST_WORDS, heard).await });
    Ok(exit)
}

/// The runtime of the core and of the sockets beside it: one thread, the one that calls.
fn core_runtime() -> Result<Runtime, Exit> {
    Builder::new_current_thread().enable_all().build().map_err(|error| no_runtime(&error))
}

fn no_runtime(error: &std::io::Error) -> Exit {
    Exit::new(ExitStatus::Internal, format!("cannot start the runtime: {error}"))
}

/// What others are told.
struct Addresses {
    client: String,
    cluster: String,
    admin: String,
}

fn node_config(config: &Config, addresses: &Addresses, limits: Limits, clock: Clock) -> NodeConfig {
    NodeConfig {
        name: config.name.clone(),
        cluster_name: config.cluster_name.clone(),
        peers: config.cluster_peers.iter().map(ToString::to_string).collect(),
        wait_for: config.cluster_wait_for,
        allow_small: config.allow_small_cluster,
        recovery: match config.recovery {
            Recovery::Automatic => RecoveryMode::Automatic,
            Recovery::Manual => RecoveryMode::Manual,
        },
        cluster_id_wanted: config.cluster_id.map(ClusterId),
        client_address: addresses.client.clone(),
        cluster_address: addresses.cluster.clone(),
        admin_address: addresses.admin.clone(),
        tick_zero_ms: clock.zero_ms(),
        timing: Timing::new(config.heartbeat.millis(), config.election_timeout.millis()),
        stamp_interval_millis: config.store_stamp_interval.millis(),
        safety_interval_millis: config.safety_interval.millis(),
        unsynced_max_entries: config.unsynced_max_entries,
        unsynced_max_millis: config.unsynced_max_time.millis(),
        update_rate: config.update_rate.0,
        frame_limit: limits.frame(),
        message_limit: limits.message(),
    }
}

fn peer_config(
    config: &Config,
    addresses: &Addresses,
    found: &quorate_core::io::Found,
) -> Result<PeerConfig, Exit> {
    let wrong =
        |what: &str, error: &dyn std::fmt::Display| Exit::new(ExitStatus::Usage, format!("{what}: {error}"));
    let address = |flag: &str, text: &str| Address::new(text).map_err(|error| wrong(flag, &error));
    let hello = PeerHello {
        cluster_name: ClusterName::new(&config.cluster_name)
            .map_err(|error| wrong("--cluster-name", &error))?,
        store_id: found.store.0,
        run_id: found.run.0,
        name: BrokerName::new(&config.name).map_err(|error| wrong("--name", &error))?,
        cluster_address: address("--cluster-advertise", &addresses.cluster)?,
        client_address: address("--advertise", &addresses.client)?,
        admin_address: address("--admin-advertise", &addresses.admin)?,
        transient: matches!(found.stamp, quorate_core::io::FoundStamp::Transient),
    };
    let secret =
        config.cluster_secret.as_ref().and_then(|secret| PeerSecret::new(secret.as_bytes().to_vec()));
    Ok(PeerConfig::new(hello, secret))
}

/// The ports are open: said in the log, in the ready file, to systemd.
fn announce(
    config: &Config,
    addresses: &Addresses,
    ready: &Ready,
    store: quorate_store::ids::StoreId,
) -> Result<(), Exit> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        "broker {} of cluster {}, store {store}: clients at {}, brokers at {}, operators at {}",
        config.name,
        config.cluster_name,
        ready.client,
        ready.cluster,
        ready.admin
    );
    tracing::info!(
        "others are told: clients {}, brokers {}, operators {}",
        addresses.client,
        addresses.cluster,
        addresses.admin
    );
    if config.insecure {
        tracing::warn!("--insecure: plain text and unauthenticated peers are accepted from other hosts");
    }
    if config.admin_token_file.is_some() && config.admin_tls.is_none() && !config.admin_listen.is_loopback() {
        tracing::warn!(
            "operators show their tokens in plain text: give --admin-tls-cert and --admin-tls-key"
        );
    }
    if let Some(path) = &config.ready_file {
        ready_file::write(path, ready).map_err(|error| {
            Exit::new(ExitStatus::Usage, format!("--ready-file {}: {error}", path.display()))
        })?;
    }
    signals::notify(&[NotifyState::Ready]);
    Ok(())
}

fn bind(flag: &str, address: &HostPort) -> Result<StdListener, Exit> {
    let wrong = |error: std::io::Error| Exit::new(ExitStatus::Usage, format!("{flag} {address}: {error}"));
    let candidates: Vec<SocketAddr> =
        (address.host.as_str(), address.port).to_socket_addrs().map_err(wrong)?.collect();
    StdListener::bind(candidates.as_slice()).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Exit::new(ExitStatus::Usage, format!("{flag} {address}: the port is in use by another process"))
        }
        _ => wrong(error),
    })
}

/// The threads for sockets and signals.
///
/// # Errors
/// The system gives none.
pub fn runtime() -> Result<Runtime, Exit> {
    let processors = std::thread::available_parallelism().map_or(WORKERS_MIN, std::num::NonZero::get);
    Builder::new_multi_thread()
        .worker_threads(processors.clamp(WORKERS_MIN, WORKERS_MAX))
        .thread_name("helper")
        .enable_all()
        .build()
        .map_err(|error| no_runtime(&error))
}

/// Many systems allow 1,024 open files unless asked, which is fewer than the connections we accept.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_are_told_can_be_dialed() {
        let bound: SocketAddr = "127.0.0.1:4321".parse().unwrap();
        let address = |text: &str| text.parse::<HostPort>().unwrap();
        for (listen, told, expected) in [
            ("127.0.0.1:0", None, "127.0.0.1:4321".to_owned()),
            ("localhost:0", None, "localhost:4321".to_owned()),
            ("0.0.0.0:0", None, format!("{}:4321", host_name())),
            ("0.0.0.0:7420", Some("b1.example:99"), "b1.example:99".to_owned()),
            ("0.0.0.0:0", Some("b1.example:0"), "b1.example:4321".to_owned()),
        ] {
            let told = told.map(address);
            assert_eq!(advertised(&address(listen), told.as_ref(), bound).to_string(), expected, "{listen}");
        }
    }

    #[test]
    fn a_port_in_use_is_said_so() {
        let first = bind("--listen", &HostPort::new("127.0.0.1", 0)).unwrap();
        let address = HostPort::new("127.0.0.1", first.local_addr().unwrap().port());
        let exit = bind("--listen", &address).unwrap_err();
        assert_eq!(exit.status, 2);
        assert!(exit.reason.contains("in use"), "{exit}");
    }
}
