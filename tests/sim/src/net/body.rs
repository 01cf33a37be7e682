//! Bodies that are slow, stop, or break off.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::{Pacer, Wire};
use crate::core::Core;

/// Bytes of one piece of a flood.
const FLOOD_PIECE: u64 = 64 << 10;

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Close,
    Reset,
}

impl End {
    pub(super) fn apply(self, wire: &Wire) {
        match self {
            Self::Close => wire.close(),
            Self::Reset => wire.reset(),
        }
    }
}

/// What happens to a request's body on its way in.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// The connection ends after this many bytes.
    pub(super) cut: Option<(u64, End)>,
    /// No byte is taken after these.
    pub(super) stall: Option<u64>,
    /// Bytes per virtual second.
    pub(super) throttle: Option<u64>,
}

/// The request's body with everything `intake` says and the line's speed; counts the bytes into `seen`.
pub(super) fn intake(body: Body, intake: Intake, core: Core, wire: Arc<Wire>, seen: Arc<AtomicU64>) -> Body {
    let throttle = Pacer::new(intake.throttle.unwrap_or(0));
    let state = (body.into_data_stream(), intake, core, wire, seen, throttle);
    Body::from_stream(stream::unfold(state, |mut state| async move {
        let piece = next_piece(&mut state).await?;
        Some((piece, state))
    }))
}

type IntakeState = (BodyDataStream, Intake, Core, Arc<Wire>, Arc<AtomicU64>, Pacer);

async fn next_piece((body, intake, core, wire, seen, throttle): &mut IntakeState) -> Option<io::Result<Bytes>> {
    let sofar = seen.load(Ordering::Relaxed);
    if intake.stall.is_some_and(|limit| sofar >= limit) {
        wire.hang().await;
    }
    if let Some((limit, end)) = intake.cut
        && sofar >= limit
    {
        end.apply(wire);
        // The connection's task drops this body along with everything else.
        std::future::pending::<()>().await;
    }
    let mut piece = match body.next().await? {
        Ok(piece) => piece,
        Err(error) => return Some(Err(io::Error::other(error))),
    };
    let limit = [intake.stall, intake.cut.map(|(limit, _)| limit)].into_iter().flatten().min();
    if let Some(limit) = limit {
        piece.truncate(usize::try_from(limit.saturating_sub(sofar)).unwrap_or(usize::MAX));
    }
    seen.fetch_add(piece.len() as u64, Ordering::Relaxed);
    for pacer in [&*throttle, &wire.pacer, &core.pacer] {
        pacer.pass(&core.clock, piece.len()).await;
    }
    Some(Ok(piece))
}

/// A body that breaks off after `limit` bytes and takes the connection with it.
pub(super) fn breaking(body: Bytes, limit: u64, end: End, wire: Arc<Wire>) -> Body {
    let head = body.slice(..usize::try_from(limit).unwrap_or(usize::MAX).min(body.len()));
    let pieces = stream::once(async move { Ok::<_, io::Error>(head) }).chain(stream::once(async move {
        // Lets the head reach the socket first: the connection's task writes what it has before it asks for more.
        tokio::task::yield_now().await;
        end.apply(&wire);
        Err(io::ErrorKind::ConnectionReset.into())
    }));
    Body::from_stream(pieces)
}

/// That many spaces, or spaces for ever.
pub(super) fn flood(bytes: Option<u64>) -> Body {
    let piece = Bytes::from(vec![b' '; usize::try_from(FLOOD_PIECE).unwrap_or(1)]);
    Body::from_stream(stream::unfold(bytes, move |left| {
        let piece = piece.clone();
        async move {
            let take = left.unwrap_or(FLOOD_PIECE).min(FLOOD_PIECE);
            let rest = left.map(|left| left - take);
            let piece = piece.slice(..usize::try_from(take).unwrap_or(0));
            (take > 0).then_some((Ok::<_, io::Error>(piece), rest))
        }
    }))
}
