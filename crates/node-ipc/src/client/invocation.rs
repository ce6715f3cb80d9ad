//! A call that somebody makes of us through the node.

use std::fmt;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::frame::framed;
use crate::invocation::{InvocationAnswer, InvocationKind};
use crate::message::{CorrelationId, Message};

/// A call. Dropped without an answer, it answers with an error, so that no caller waits in vain.
pub struct Invocation {
    /// What is asked.
    pub kind: InvocationKind,
    reply: Option<Reply>,
}

impl fmt::Debug for Invocation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Invocation")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// An answer on its way to the writer. The permits go with it: a place is free again when the answer is written.
pub(super) struct Answer {
    pub(super) frame: Vec<u8>,
    pub(super) _place: Option<OwnedSemaphorePermit>,
    pub(super) _bytes: Option<OwnedSemaphorePermit>,
}

enum Reply {
    Node {
        id: CorrelationId,
        to: mpsc::Sender<Answer>,
        place: OwnedSemaphorePermit,
        bytes: OwnedSemaphorePermit,
    },
    #[cfg(feature = "testing")]
    Test(tokio::sync::oneshot::Sender<Result<InvocationAnswer, String>>),
}

impl Invocation {
    pub(super) fn new(
        kind: InvocationKind,
        id: CorrelationId,
        to: mpsc::Sender<Answer>,
        place: OwnedSemaphorePermit,
        bytes: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            kind,
            reply: Some(Reply::Node { id, to, place, bytes }),
        }
    }

    /// A call without a node, and where its answer arrives.
    #[cfg(feature = "testing")]
    pub fn detached(
        kind: InvocationKind,
    ) -> (
        Self,
        tokio::sync::oneshot::Receiver<Result<InvocationAnswer, String>>,
    ) {
        let (to, answer) = tokio::sync::oneshot::channel();
        (
            Self {
                kind,
                reply: Some(Reply::Test(to)),
            },
            answer,
        )
    }

    /// Answers, with contents of the kind that was asked or with words for the caller. Never waits.
    pub fn answer(mut self, answer: Result<InvocationAnswer, String>) {
        self.reply(answer);
    }

    fn reply(&mut self, answer: Result<InvocationAnswer, String>) {
        match self.reply.take() {
            Some(Reply::Node { id, to, place, bytes }) => {
                let frame = answer_frame(id, answer);
                // There is a place in the queue for everybody who holds a permit; a closed queue is a lost connection.
                let _ = to.try_send(Answer {
                    frame,
                    _place: Some(place),
                    _bytes: Some(bytes),
                });
            }
            #[cfg(feature = "testing")]
            Some(Reply::Test(to)) => {
                let _ = to.send(answer);
            }
            None => {}
        }
    }
}

impl Drop for Invocation {
    fn drop(&mut self) {
        self.reply(Err("the module did not answer".to_owned()));
    }
}

/// The answer as a frame; one that is too long becomes an error.
pub(super) fn answer_frame(id: CorrelationId, answer: Result<InvocationAnswer, String>) -> Vec<u8> {
    framed(&Message::InvocationResult(id, answer)).unwrap_or_else(|| {
        let error = "the answer is longer than a frame may be".to_owned();
        framed(&Message::InvocationResult(id, Err(error))).unwrap_or_default()
    })
}
