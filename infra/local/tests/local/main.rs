//! The local stack: its parts by themselves, the whole of it, and the command line; what it has in common with what is
//! deployed, and the images beside that.

#![allow(clippy::unwrap_used)]

mod command_line;
mod images;
mod queue;
mod report;
mod s3;
mod stack;
mod template;
