//! HEAD: what GET answers, without the body. Monitors ask so.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::{BodySize, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Bytes;

/// The middleware. The outermost one, so that all others judge what is asked as they judge GET.
///
/// # Errors
/// As the services behind it.
pub async fn as_get(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if request.method() != Method::HEAD {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    request.head_mut().method = Method::GET;
    let mut response = next.call(request).await?;
    let size = match response.response().body().size() {
        // Where requests are sent in a row actix-http takes the method of the one that it read last for all of them. So the length is
        // told by hand, and the body is one of which nothing is expected: else the connection would be ended here for what is missing.
        BodySize::Sized(length @ 1..) => {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            response.response_mut().head_mut().no_chunking(true);
            BodySize::Stream
        }
        BodySize::Sized(0) => BodySize::Sized(0),
        // Of a body without a length nothing is told.
        BodySize::Stream | BodySize::None => BodySize::None,
    };
    // With its body a stream would end only when its reader leaves; so this one is no reader at all.
    Ok(response.map_body(|_, _| EitherBody::right(Unsent(size))))
}

/// A body that is not sent.
struct Unsent(BodySize);

impl MessageBody for Unsent {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}
