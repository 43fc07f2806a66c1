//! Talking the client protocol: one runtime and one client for one command.

use std::future::Future;

use quorate_client::{Client, ConnectionEvent, Options};

use crate::exit::{Failure, Status};
use crate::settings::Settings;

/// Runs a command's work to its end.
///
/// # Errors
/// As the work; or the system gives no threads.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start the runtime", &error))?;
    let result = runtime.block_on(work);
    // A thread that waits for more standard input must not keep the process.
    runtime.shutdown_background();
    result
}

/// Options for the addresses in force; `name` is shown by the broker.
///
/// # Errors
/// The URL is not one.
pub fn options(settings: &Settings, name: &str) -> Result<Options, Failure> {
    let options =
        Options::from_url(&settings.url).map_err(|error| Failure::usage(format!("--url: {error}")))?;
    Ok(options.name(name).wait(settings.timeout).request_timeout(settings.timeout))
}

/// Connects to the leader.
///
/// # Errors
/// No leader within the timeout, or the login is refused.
pub async fn connect(settings: &Settings, name: &str) -> Result<Client, Failure> {
    connect_with(options(settings, name)?, settings).await
}

/// As [`connect`], with options of one's own.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(options: Options, settings: &Settings) -> Result<Client, Failure> {
    Client::open(options).await.map_err(|error| {
        let mut failure = Failure::from(error);
        if failure.status == Status::Unknown {
            let timeout = settings.timeout;
            failure.message = format!("{} (looked for {timeout:?})", failure.message);
        }
        failure
    })
}

/// Runs one request on a connection of its own.
///
/// # Errors
/// As [`connect`] and the request.
pub fn with_client<T, F>(
    settings: &Settings,
    name: &str,
    request: impl FnOnce(Client) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    block_on(async {
        let client = connect(settings, name).await?;
        let result = request(client.clone()).await;
        client.close().await;
        result
    })
}

/// What happened to the connection, for people; none if they need not know.
pub fn describe(event: &ConnectionEvent) -> Option<String> {
    match event {
        ConnectionEvent::Connected { address, leader } => {
            Some(format!("connected to {leader} ({address}), the leader"))
        }
        ConnectionEvent::Reconnecting { error } => {
            Some(format!("the connection ended ({error}); looking for the leader"))
        }
        ConnectionEvent::Blocked { reason } => {
            Some(format!("the broker takes no messages for now: {reason}"))
        }
        ConnectionEvent::Unblocked => Some("the broker takes messages again".to_owned()),
        ConnectionEvent::Held { reason } => Some(format!("held back and sent again until taken: {reason}")),
        ConnectionEvent::NotRestored { what, error } => {
            Some(format!("{what} could not be restored: {error}"))
        }
        _ => None,
    }
}
