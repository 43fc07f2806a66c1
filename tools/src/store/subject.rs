//! One of the stores that were given: a directory, a quarantined image, or a facts file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use quorate_core::formation::InitialStatus;
use quorate_core::formation::status::StoreState;
use quorate_core::io::PeerKey;
use quorate_store::ids::RunId;
use uuid::Uuid;

use super::confined::{Confined, Reading};
use super::facts::{self, Facts};
use super::limits::{Budget, FACTS_BYTES};
use super::look::{Look, look};
use super::looking::check_is_file;
use super::recover::{RecoveredStore, recover};
use crate::base64;
use crate::exit::{Failure, Status};

/// What is known of one store.
#[derive(Clone, Debug)]
pub struct Subject {
    /// As it was named.
    pub path: String,
    /// The directory, if it is one.
    pub directory: Option<PathBuf>,
    /// What it says.
    pub facts: Facts,
    /// What its broker would tell its peers; none if nothing could be made out.
    pub status: Option<InitialStatus>,
}

/// A directory with everything in it.
pub struct OpenSubject {
    /// What lies there.
    pub look: Look,
    /// What the recovery made of it.
    pub store: RecoveredStore,
}

/// What the tool says in JSON when it could not do what it was asked.
#[derive(serde::Deserialize)]
struct Refusal {
    message: String,
}

impl Subject {
    /// Reads what is at this path. Nothing there, or nothing that can be read, is a subject as well. `number` tells the
    /// subjects of one command apart.
    pub fn load(path: &Path, number: usize, reading: &Reading) -> Self {
        let loaded = match &reading.program {
            _ if !path.is_dir() => Self::document(path),
            Some(program) => Self::elsewhere(path, &reading.confined(program, "facts", &[path])),
            None => Self::directory(path, Budget::new(reading.memory, reading.time)),
        };
        let mut subject = loaded.unwrap_or_else(|why| Self {
            path: String::new(),
            directory: None,
            facts: Facts::nothing(path, why),
            status: None,
        });
        subject.path = path.display().to_string();
        if let Some(status) = &mut subject.status {
            // No process speaks for it, and two copies of one store are still two.
            let run = u128::try_from(number).unwrap_or(u128::MAX).saturating_add(1);
            status.key = PeerKey { store: status.key.store, run: RunId(Uuid::from_u128(run)) };
            for group in &mut status.groups {
                group.active = None;
                group.was_active_this_run = false;
            }
        }
        subject
    }

    fn directory(path: &Path, budget: Budget) -> Result<Self, String> {
        let look = look(path, budget).map_err(|failure| failure.message)?;
        let recovered = recover(&look);
        let facts = Facts::of(&look, recovered.as_ref().map_err(String::as_str));
        let status = recovered.ok().map(|recovered| recovered.status);
        Ok(Self { path: String::new(), directory: Some(path.to_path_buf()), facts, status })
    }

    /// A directory, by the facts that a process of its own takes.
    fn elsewhere(path: &Path, reader: &Confined<'_>) -> Result<Self, String> {
        let (code, bytes) = reader.answer(FACTS_BYTES)?;
        let mut subject = Self::parse(&bytes).map_err(|why| {
            let failure = serde_json::from_slice(&bytes).ok();
            failure.map_or_else(
                || format!("the process that read it ended with status {code}: {why}"),
                |Refusal { message }| message,
            )
        })?;
        subject.directory = Some(path.to_path_buf());
        // The lock of whoever asks is no other process.
        subject.facts.in_use_by = subject.facts.in_use_by.filter(|pid| *pid != std::process::id());
        Ok(subject)
    }

    fn document(path: &Path) -> Result<Self, String> {
        check_is_file(path).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FACTS_BYTES).read_to_end(&mut bytes))
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let mut subject = Self::parse(&bytes)?;
        subject.facts.notes.push(format!("facts of {}", subject.facts.path));
        // Whether somebody had it then says nothing of now.
        subject.facts.in_use_by = None;
        Ok(subject)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let facts = facts::parse(bytes)?;
        let status = match &facts.status {
            None => None,
            Some(text) => {
                let bytes = base64::decode(text).ok_or("its member `status` is not Base64")?;
                let status = InitialStatus::decode(&bytes);
                Some(status.map_err(|error| format!("its member `status` cannot be read: {error}"))?)
            }
        };
        Ok(Self { path: String::new(), directory: None, facts, status })
    }

    /// The name of its broker, else of its path.
    pub fn name(&self) -> &str {
        self.facts.broker_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.path)
    }

    /// Whether an operator marked it, and nothing was begun on the mark.
    pub(super) fn is_marked(&self) -> bool {
        self.status.as_ref().is_some_and(|status| matches!(status.state, StoreState::Recovered { .. }))
    }
}

impl OpenSubject {
    /// A directory, with what it holds.
    ///
    /// # Errors
    /// There is no store, it is damaged, or it could not be read.
    pub fn open(path: &Path, budget: Budget) -> Result<Self, Failure> {
        let look = look(path, budget)?;
        let store = recover(&look).map_err(|why| {
            Failure::new(Status::Unknown, "unread", format!("{} was not read: {why}", path.display()))
        })?;
        Ok(Self { look, store })
    }
}
