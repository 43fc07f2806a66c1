//! Fuzz targets for what operators give the programs: HTTP requests, arguments, configuration files. The engine, and why
//! this is a package of its own, is in `quorate-fuzz`: the programs link RocksDB.

pub mod admin;
pub mod configuration;

use quorate_fuzz::Target;

/// All of them.
pub const TARGETS: [Target; 2] = [admin::TARGET, configuration::TARGET];
