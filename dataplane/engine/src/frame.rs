//! The bytes of one frame, as the engine sees them: a head that can be rewritten, and a tail.

/// One frame, held for the length of a call.
///
/// Headers lie in the head (the first descriptor of the chain, up to about 3.8 KB); a multi-buffer
/// frame's further pieces are the tail, in order.
#[derive(Debug)]
pub struct FrameBytes<'a> {
    /// The memory of the first piece, to the end of its room; the first `head_length` bytes are
    /// the frame's, the rest may be written to when a frame is made here.
    pub head: &'a mut [u8],
    /// Bytes of `head` that belong to the frame. The engine shortens it when it trims Ethernet
    /// padding, so the daemon reads it again before it transmits.
    pub head_length: usize,
    /// The further pieces.
    pub tail: &'a [&'a [u8]],
}

impl FrameBytes<'_> {
    /// Bytes of the whole frame.
    #[must_use]
    pub fn length(&self) -> usize {
        self.head_length + self.tail.iter().map(|piece| piece.len()).sum::<usize>()
    }

    /// The bytes of the head that belong to the frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // A daemon that states more bytes than there are has a fault; a packet must not show it.
        debug_assert!(self.head_length <= self.head.len());
        &self.head[..self.head_length.min(self.head.len())]
    }

    /// Hands out the bytes from `start` to `end` of the frame, piece by piece, in order; less when
    /// the frame ends before.
    pub(crate) fn for_each_piece(&self, start: usize, end: usize, mut take: impl FnMut(&[u8])) {
        let mut offset = 0;
        for piece in std::iter::once(self.bytes()).chain(self.tail.iter().copied()) {
            let from = start.saturating_sub(offset).min(piece.len());
            let to = end.saturating_sub(offset).min(piece.len());
            if from < to {
                take(&piece[from..to]);
            }
            offset += piece.len();
        }
    }
}
