//! What is said between the stages of a body.

/// What a stage is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'p> {
    /// A piece of the body.
    Piece(&'p [u8]),
    /// Nothing more comes at the moment: what need not be held back goes.
    Flush,
    /// The body is whole: all that is held back goes.
    Finish,
}

/// What a stage says to a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// More may come.
    On,
    /// The body ends here, whatever follows.
    Ended,
}
