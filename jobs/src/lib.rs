//! The `atomflow` program: job specs, the command line, progress and reports.
//!
//! [`spec`] turns a TOML file into a [`spec::JobSpec`] or into an error that names line, field and
//! remedy. [`cli`] is the command line; [`commands`] does what it says by calling
//! `atomflow_pipeline::run`. [`progress`] shows a run while it lasts, [`report`] when it has ended.
//! [`crash`] is what happens when atomflow itself is wrong.
//!
//! Standard output carries the result and nothing else; everything else goes to standard error.

pub mod bench;
pub mod cards;
pub mod cli;
pub mod commands;
pub mod crash;
pub mod devices;
pub mod human;
pub mod json;
pub mod progress;
pub mod report;
pub mod spec;
pub mod sql;
pub mod stdout;
