//! Numbered slots in order of arrival, of which any may leave: links only, no memory of its own.

/// The end of an order.
const NONE: u32 = u32::MAX;

/// Who stands before and behind a slot in one order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    before: u32,
    after: u32,
}

impl Link {
    /// Of a slot that stands in no order.
    pub const LOOSE: Self = Self {
        before: NONE,
        after: NONE,
    };
}

/// The two ends of an order. Its links lie with whoever owns the slots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    first: u32,
    last: u32,
}

impl Order {
    pub const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };

    /// Who came first.
    pub fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// Puts a slot that stands in no order of these links last.
    pub fn push(&mut self, links: &mut [Link], slot: u32) {
        links[slot as usize] = Link {
            before: self.last,
            after: NONE,
        };
        match links.get_mut(self.last as usize) {
            Some(last) => last.after = slot,
            None => self.first = slot,
        }
        self.last = slot;
    }

    /// Takes a slot out, wherever it stands.
    pub fn remove(&mut self, links: &mut [Link], slot: u32) {
        let Link { before, after } = links[slot as usize];
        match links.get_mut(before as usize) {
            Some(link) => link.after = after,
            None => self.first = after,
        }
        match links.get_mut(after as usize) {
            Some(link) => link.before = before,
            None => self.last = before,
        }
        links[slot as usize] = Link::LOOSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_leave_from_anywhere_and_the_others_keep_their_order() {
        let mut links = [Link::LOOSE; 5];
        let mut order = Order::EMPTY;
        for slot in [3, 0, 4, 1, 2] {
            order.push(&mut links, slot);
        }
        for slot in [4, 3, 2] {
            order.remove(&mut links, slot);
        }
        order.push(&mut links, 3);
        let mut left = Vec::new();
        while let Some(slot) = order.first() {
            left.push(slot);
            order.remove(&mut links, slot);
        }
        assert_eq!(left, vec![0, 1, 3]);
        order.push(&mut links, 2);
        assert_eq!(order.first(), Some(2));
    }
}
