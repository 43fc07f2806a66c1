//! The connections and queues of a run: opened before anything is measured, and gone after it.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use quorate_client::{Client, DeleteOptions, Error, FaultCode, Options, QueueOptions};

use crate::connection::connect_with;
use crate::exit::Failure;
use crate::process;
use crate::settings::Settings;

/// Connections opened, or requests made, at one time.
const TOGETHER: usize = 32;
/// What the names of all queues of all runs begin with.
pub const PREFIX: &str = "quorate-bench-";
/// Files that a run has open beside its connections.
const OTHER_FILES: u64 = 64;

/// One connection for each publisher and each consumer.
pub struct Crew {
    /// Those that publish.
    pub publishers: Vec<Client>,
    /// Those that consume.
    pub consumers: Vec<Client>,
}

impl Crew {
    /// Connects all.
    ///
    /// # Errors
    /// One of them cannot, or this process may not have so many connections.
    pub async fn connect(
        options: &Options,
        settings: &Settings,
        publishers: usize,
        consumers: usize,
    ) -> Result<Self, Failure> {
        let files = (publishers as u64).saturating_add(consumers as u64).saturating_add(OTHER_FILES);
        process::allow_open_files(files).map_err(|limit| {
            Failure::usage(format!(
                "{publishers} publishers and {consumers} consumers need {files} open files; this process may have {limit}"
            ))
            .next(format!("ulimit -n {files}"))
        })?;
        let publishers = connect(options, settings, "publisher", publishers).await?;
        let consumers = connect(options, settings, "consumer", consumers).await?;
        Ok(Self { publishers, consumers })
    }

    /// Ends all, with what they have on their way.
    pub async fn close(&self) {
        let all = self.publishers.iter().chain(&self.consumers);
        stream::iter(all).for_each_concurrent(None, Client::close).await;
    }
}

async fn connect(
    options: &Options,
    settings: &Settings,
    role: &str,
    count: usize,
) -> Result<Vec<Client>, Failure> {
    let each = (1..=count).map(|number| {
        let options = options.clone().name(format!("quorate bench, {role} {number}"));
        connect_with(options, settings)
    });
    stream::iter(each).buffered(TOGETHER).try_collect().await
}

/// The queues of a run: new ones for every cell, so that nothing that comes late is taken for another cell's.
pub struct Queues {
    control: Client,
    run: String,
    count: usize,
    generation: u64,
    existing: Vec<String>,
}

impl Queues {
    /// So many for every cell; none is made yet.
    pub fn new(control: Client, count: usize) -> Self {
        let run = uuid::Uuid::new_v4().simple().to_string();
        Self { control, run, count, generation: 0, existing: Vec::new() }
    }

    /// Their names.
    pub fn names(&self) -> &[String] {
        &self.existing
    }

    /// Deletes those there are and makes new ones.
    ///
    /// # Errors
    /// The cluster does not.
    pub async fn renew(&mut self) -> Result<(), Failure> {
        self.delete().await?;
        self.generation += 1;
        let (run, generation) = (&self.run, self.generation);
        // Known before they are made: who is interrupted meanwhile deletes them all.
        self.existing =
            (1..=self.count).map(|number| format!("{PREFIX}{run}-{generation}-{number}")).collect();
        let (control, names) = (&self.control, &self.existing);
        let made = names.iter().map(|name| control.declare_queue(name, QueueOptions::default()));
        stream::iter(made).buffer_unordered(TOGETHER).try_for_each(|_| async { Ok(()) }).await?;
        Ok(())
    }

    /// Deletes those there are.
    ///
    /// # Errors
    /// The cluster does not; those that may be left are remembered.
    pub async fn delete(&mut self) -> Result<(), Failure> {
        let (control, names) = (&self.control, &self.existing);
        let deleted = names.iter().map(|name| async move {
            match control.delete_queue(name, DeleteOptions::default()).await {
                Ok(_) | Err(Error::Failed { code: FaultCode::QueueNotFound, .. }) => Ok(name.clone()),
                Err(error) => Err(error),
            }
        });
        let mut deleted = stream::iter(deleted).buffer_unordered(TOGETHER);
        let mut gone = BTreeSet::new();
        let mut ended = Ok(());
        while let Some(name) = deleted.next().await {
            match name {
                Ok(name) => {
                    gone.insert(name);
                }
                // The others would only wait as long.
                Err(error) => {
                    ended = Err(error.into());
                    break;
                }
            }
        }
        drop(deleted);
        self.existing.retain(|name| !gone.contains(name));
        ended
    }

    /// How many messages wait in them.
    ///
    /// # Errors
    /// They cannot be asked.
    pub async fn ready(&self) -> Result<u64, Error> {
        let asked = self.existing.iter().map(|name| self.control.inspect_queue(name));
        let ready = stream::iter(asked).buffer_unordered(TOGETHER);
        ready.try_fold(0_u64, |sum, state| async move { Ok(sum.saturating_add(state.ready)) }).await
    }
}
