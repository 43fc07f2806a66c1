//! The command line: every command, in the order of the help.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::settings::Globals;

const EXAMPLES: &str = "\
Examples:
  quorate cluster status
  quorate queue declare orders
  quorate publish --queue orders --lines orders.txt
  quorate consume --queue orders --until-empty --output taken.txt
  quorate --admin h1:7422,h2:7422 cluster wait-active --timeout 60s
  quorate sandbox up --nodes 3 && quorate --context sandbox bench both

Exit status: 0 done, 1 warning or waiting, 2 refused or critical, 3 unknown or unreachable, 64 usage.
With -o json the result, or the error, is one JSON document on standard output whatever the exit status.";

/// Operates Quorate clusters: messages, queues, state of the cluster, stores.
#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    subcommand_required = true,
    max_term_width = 110
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the tool can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// State of the cluster and its members
    #[command(
        after_help = "Examples:\n  quorate cluster status\n  quorate --admin h1:7422,h2:7422 cluster wait-active --timeout 60s"
    )]
    Cluster {
        /// What to do.
        #[command(subcommand)]
        command: commands::cluster::ClusterCommand,
    },
    /// Replication groups: status, set, transfer, audit
    #[command(
        after_help = "Examples:\n  quorate group status\n  quorate group set --vhost / --node b2 --priority 3\n  quorate group transfer --vhost / --to b2"
    )]
    Group {
        /// What to do.
        #[command(subcommand)]
        command: commands::group::GroupCommand,
    },
    /// Members: list, add, remove, replace, drain, resume, permit
    #[command(after_help = "Examples:\n  quorate member list\n  quorate member replace --name b3")]
    Member {
        /// What to do.
        #[command(subcommand)]
        command: commands::member::MemberCommand,
    },
    /// Publish messages, and wait until they are confirmed
    Publish(commands::publish::PublishArguments),
    /// Consume messages from a queue
    Consume(commands::consume::ConsumeArguments),
    /// Queues: list, declare, delete, show, purge, peek
    #[command(
        after_help = "Examples:\n  quorate queue declare orders --max-length 1000000\n  quorate queue list\n  quorate queue peek orders --limit 3"
    )]
    Queue {
        /// What to do.
        #[command(subcommand)]
        command: commands::queue::QueueCommand,
    },
    /// Exchanges: list, declare, delete
    #[command(
        after_help = "Examples:\n  quorate exchange declare events --kind topic\n  quorate exchange list"
    )]
    Exchange {
        /// What to do.
        #[command(subcommand)]
        command: commands::exchange::ExchangeCommand,
    },
    /// Bindings from exchanges to queues: list, declare, delete
    #[command(
        after_help = "Examples:\n  quorate binding declare events orders 'eu.*'\n  quorate binding list events"
    )]
    Binding {
        /// What to do.
        #[command(subcommand)]
        command: commands::binding::BindingCommand,
    },
    /// Virtual hosts: list, create, delete
    #[command(
        after_help = "Examples:\n  quorate vhost create billing\n  quorate vhost list\n  quorate vhost delete billing --reason 'moved to h9'"
    )]
    Vhost {
        /// What to do.
        #[command(subcommand)]
        command: commands::vhost::VhostCommand,
    },
    /// Losses: what a store held that the cluster does not have; list, show, recover
    #[command(
        after_help = "Examples:\n  quorate loss list\n  quorate loss show 66c01d2e-1-1.4.90210 --store /var/lib/quorate"
    )]
    Loss {
        /// What to do.
        #[command(subcommand)]
        command: commands::loss::LossCommand,
    },
    /// Stores of stopped brokers, offline
    #[command(after_help = "Example:\n  quorate store facts /var/lib/quorate")]
    Store {
        /// What to do.
        #[command(subcommand)]
        command: commands::store::StoreCommand,
    },
    /// A throw-away cluster of real brokers on this machine
    #[command(
        after_help = "Examples:\n  quorate sandbox up --nodes 3\n  quorate --context sandbox queue declare orders\n  quorate sandbox kill b1; quorate sandbox start b1\n  quorate sandbox down"
    )]
    Sandbox {
        /// What to do.
        #[command(subcommand)]
        command: commands::sandbox::SandboxCommand,
    },
    /// Measure a cluster, next to what its disks can do at best; compare what was measured
    Bench(commands::bench::BenchArguments),
    /// Completion script for a shell
    Completion(commands::completion::CompletionArguments),
}

impl Command {
    /// Whether it works on this machine alone, whatever context is selected.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Store { .. } | Self::Sandbox { .. } | Self::Completion(_) => true,
            Self::Bench(arguments) => arguments.is_local(),
            _ => false,
        }
    }
}
