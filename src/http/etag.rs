//! `ETag` on what is polled: who has the present answer is told so in a few bytes.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentType, EntityTag, Header, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::problem::Problem;
use super::routes::Answer;

/// Bytes of a body's digest that make its tag.
const TAG_BYTES: usize = 16;

/// The JSON that `body` makes, with this tag; 304 without a body if the reader has it. The tag is a weak one: it stands for the
/// same content, whatever a proxy does to its bytes.
pub(super) fn tagged(request: &HttpRequest, tag: &str, body: impl FnOnce() -> Bytes) -> HttpResponse {
    let tag = EntityTag::new_weak(tag.to_owned());
    let mut response = if is_known(request, &tag) { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    // Kept, and asked about each time.
    response.insert_header((header::CACHE_CONTROL, "private, no-cache")).insert_header((header::ETAG, tag.to_string()));
    if is_known(request, &tag) { response.finish() } else { response.insert_header(ContentType::json()).body(body()) }
}

/// As [`tagged`], with a tag made of the body.
pub(super) fn hashed(request: &HttpRequest, body: Bytes) -> HttpResponse {
    let digest = Sha256::digest(&body);
    let tag: String = digest.iter().take(TAG_BYTES).map(|byte| format!("{byte:02x}")).collect();
    tagged(request, &tag, || body)
}

/// The JSON of a document, likewise.
pub(super) fn json(request: &HttpRequest, document: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(document)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written as JSON"))?;
    Ok(hashed(request, text.into()))
}

fn is_known(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => request.headers().contains_key(header::IF_NONE_MATCH),
        Ok(IfNoneMatch::Items(known)) => known.iter().any(|known| known.weak_eq(tag)),
        Err(_) => false,
    }
}
