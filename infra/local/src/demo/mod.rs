//! A study sent through a stack as a user would send it, and what came of it.

mod progress;
mod results;
mod uploads;

pub use progress::{Progress, Tracker};
pub use results::{FetchError, SliceResult, StudyResult, fetch, status};
pub use uploads::{Content, DemoUpload, NoUploads, SendError, from_folder, phantom, send};
