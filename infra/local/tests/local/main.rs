//! The local stack: its parts by themselves, the whole of it, and the command line.

#![allow(clippy::unwrap_used)]

mod command_line;
mod queue;
mod s3;
mod stack;
mod template;
