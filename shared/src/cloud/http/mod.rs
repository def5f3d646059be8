//! Requests and responses of the HTTP API and of function URLs (both speak payload format 2.0), in types that know
//! neither.

mod accept;
mod request;
mod response;

pub use accept::{Offer, negotiate};
pub(super) use request::form_decode;
pub use request::{HttpRequest, MAX_REQUEST_BYTES};
pub use response::{HttpResponse, MAX_RESPONSE_BYTES};
