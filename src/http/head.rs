//! HEAD: what GET answers, without the body. Monitors ask so.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::{BodySize, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
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
    let response = next.call(request).await?;
    // With its body a stream would end only when its reader leaves; so this one is no reader at all.
    Ok(response.map_body(|_, body| EitherBody::right(Unsent(known(body.size())))))
}

/// The length if there is one. Of a body without one nothing is told, or the connection would be closed at its end.
fn known(size: BodySize) -> BodySize {
    if size == BodySize::Stream { BodySize::None } else { size }
}

/// A body whose length is told and which is not sent.
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
