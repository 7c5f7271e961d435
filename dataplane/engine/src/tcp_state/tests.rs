//! The state machine, step by step.

use super::*;
use FlowState::{Answered, Closing, Datagrams, Established, FinLocal, FinRemote, Opening};
use Side::{Local, Remote};

const FIN: u8 = TcpFlags::FIN;
const SYN: u8 = TcpFlags::SYN;
const RST: u8 = TcpFlags::RST;
const ACK: u8 = TcpFlags::ACK;

/// The local side has begun.
fn segment(sender: Side, flags: u8, sequence: u32, acknowledgement: u32, length: u32) -> Segment {
    Segment {
        sender,
        is_initiator: sender == Local,
        flags: TcpFlags(flags),
        sequence,
        acknowledgement,
        length,
    }
}

/// A connection as an entry keeps it.
#[derive(Debug, Clone, Copy)]
struct Connection {
    state: FlowState,
    numbers: [Numbers; 2],
}

fn opening() -> Connection {
    Connection {
        state: Opening,
        numbers: [Numbers::default(); 2],
    }
}

impl Connection {
    fn take(&mut self, segment: &Segment) -> FlowState {
        let (own, peer) = (segment.sender as usize, segment.sender.other() as usize);
        let before = self.state;
        self.state = before.after(segment, self.numbers[own], self.numbers[peer]);
        self.numbers[own] = self.numbers[own].after(segment, before);
        if before.is_established() {
            self.numbers[peer] = self.numbers[peer].after_answer(segment);
        }
        self.state
    }

    fn next(&self, side: Side) -> Option<u32> {
        self.numbers[side as usize].next_sequence
    }
}

/// The handshake: 100 at the local side, `u32::MAX` at the other, so that its numbers wrap.
fn established() -> Connection {
    let mut connection = opening();
    connection.take(&segment(Local, SYN, 100, 0, 0));
    connection.take(&segment(Remote, SYN | ACK, u32::MAX, 101, 0));
    connection.take(&segment(Local, ACK, 101, 0, 0));
    assert_eq!(connection.state, Established);
    connection
}

fn walk(mut connection: Connection, steps: &[(Side, u8, FlowState)]) {
    for (number, (sender, flags, expected)) in steps.iter().enumerate() {
        let (sequence, acknowledgement) = match sender {
            Local => (101_u32, 0),
            Remote => (0, 101),
        };
        let begins = u32::from(flags & SYN != 0);
        let sequence = sequence.wrapping_sub(begins);
        let state = connection.take(&segment(*sender, *flags, sequence, acknowledgement, 0));
        assert_eq!(state, *expected, "step {number} of {steps:?}");
    }
}

#[test]
fn a_connection_opens_by_three_segments_that_may_be_repeated() {
    walk(
        opening(),
        &[
            (Local, SYN, Opening),
            (Local, SYN, Opening),
            (Remote, SYN | ACK, Answered),
            (Remote, SYN | ACK, Answered),
            (Local, SYN, Answered),
            (Remote, SYN | ACK, Answered),
            (Remote, ACK, Answered),
            (Local, ACK, Established),
            (Remote, SYN | ACK, Established),
            (Local, ACK, Established),
        ],
    );
}

#[test]
fn nothing_but_an_answer_answers_and_nothing_but_its_acknowledgement_establishes() {
    walk(
        opening(),
        &[
            (Local, SYN, Opening),
            (Local, ACK, Opening),
            (Remote, ACK, Opening),
            (Remote, FIN | ACK, Opening),
            (Remote, SYN | ACK, Answered),
            (Local, 0, Answered),
            (Local, FIN, Answered),
            (Local, FIN | ACK, FinLocal),
        ],
    );
}

#[test]
fn both_ends_may_open_at_once() {
    // The later SYN has become the initiator's; see `Walk::admit`.
    walk(
        opening(),
        &[
            (Local, SYN, Opening),
            (Remote, SYN | ACK, Answered),
            (Local, SYN | ACK, Established),
        ],
    );
}

#[test]
fn a_connection_ends_when_both_sides_have() {
    for steps in [
        [
            (Local, FIN | ACK, FinLocal),
            (Remote, ACK, FinLocal),
            (Remote, FIN | ACK, Closing),
        ],
        [
            (Remote, FIN | ACK, FinRemote),
            (Remote, FIN | ACK, FinRemote),
            (Local, FIN | ACK, Closing),
        ],
        [
            (Local, FIN | ACK, FinLocal),
            (Remote, FIN | ACK, Closing),
            (Local, ACK, Closing),
        ],
        [
            (Local, FIN | ACK, FinLocal),
            (Local, FIN | ACK, FinLocal),
            (Local, RST, Closing),
        ],
        [
            (Local, RST, Closing),
            (Remote, SYN | ACK, Closing),
            (Remote, ACK, Closing),
        ],
        [
            (Remote, RST | ACK, Closing),
            (Local, ACK, Closing),
            (Local, SYN, Closing),
        ],
    ] {
        walk(established(), &steps);
    }
}

#[test]
fn datagrams_have_no_states() {
    let any = segment(Local, RST, 1, 2, 3);
    let none = Numbers::default();
    assert_eq!(Datagrams.after(&any, none, none), Datagrams);
}

#[test]
fn an_acknowledgement_of_what_was_never_answered_establishes_nothing() {
    let mut connection = opening();
    connection.take(&segment(Local, SYN, 100, 0, 0));
    connection.take(&segment(Remote, SYN | ACK, 5000, 101, 0));
    for guess in [5002, 5001_u32.wrapping_sub(65_537), 0x8000_0000] {
        assert_eq!(
            connection.take(&segment(Local, ACK, 101, guess, 0)),
            Answered
        );
    }
    // The answering side may have gone on.
    connection.take(&segment(Remote, ACK, 5001, 101, 1000));
    assert_eq!(
        connection.take(&segment(Local, ACK, 101, 5001, 0)),
        Established
    );
}

#[test]
fn a_reset_counts_only_near_what_is_known() {
    let far = 101_u32.wrapping_add(WINDOW);
    for (sequence, expected) in [
        (101, Closing),
        (90, Closing),
        (101_u32.wrapping_sub(WINDOW), Closing),
        (far, Closing),
        (far + 1, Established),
        (101 + (1 << 31), Established),
    ] {
        let mut connection = established();
        let state = connection.take(&segment(Local, RST, sequence, 0, 0));
        assert_eq!(state, expected, "{sequence}");
        assert_eq!(connection.next(Local), Some(101), "a reset moves no number");
    }
    // What the other side acknowledged counts as well.
    let mut connection = established();
    connection.numbers[0].next_sequence = None;
    assert_eq!(
        connection.take(&segment(Local, RST, far + 1, 0, 0)),
        Established
    );
    assert_eq!(connection.take(&segment(Local, RST, 101, 0, 0)), Closing);
}

#[test]
fn a_refusal_counts_when_it_acknowledges_the_syn() {
    for (flags, acknowledgement, expected) in [
        (RST | ACK, 101, Closing),
        (RST | ACK, 101 + (1 << 31), Opening),
        (RST, 0, Closing),
    ] {
        let mut connection = opening();
        connection.take(&segment(Local, SYN, 100, 0, 0));
        let state = connection.take(&segment(Remote, flags, 0, acknowledgement, 0));
        assert_eq!(state, expected);
    }
}

#[test]
fn the_next_number_is_the_end_of_the_furthest_segment() {
    let mut connection = established();
    assert_eq!(connection.next(Remote), Some(0));
    connection.take(&segment(Remote, ACK, 0, 101, 65_495));
    assert_eq!(connection.next(Remote), Some(65_495));
    // A repeated one, a keep-alive, one from nowhere.
    connection.take(&segment(Remote, ACK, 0, 101, 100));
    connection.take(&segment(Remote, ACK, 65_494, 101, 0));
    connection.take(&segment(Remote, ACK, 1 << 31, 101, 0));
    assert_eq!(connection.next(Remote), Some(65_495));
    connection.take(&segment(Remote, FIN | ACK, 65_495, 101, 5));
    assert_eq!(connection.next(Remote), Some(65_501));
    assert_eq!(connection.numbers[1].acknowledged, Some(101));
    connection.take(&segment(Remote, ACK, 65_501, 99, 0));
    assert_eq!(connection.numbers[1].acknowledged, Some(101));
}

#[test]
fn a_syn_that_begins_elsewhere_takes_the_numbers_along() {
    // Another attempt from the same port, below the first.
    let mut connection = opening();
    connection.take(&segment(Local, SYN, 100, 0, 0));
    connection.take(&segment(Local, SYN, 50, 0, 0));
    assert_eq!(connection.next(Local), Some(51));
    // A client that has forgotten the connection asks anew: that alone moves nothing.
    let mut connection = established();
    connection.take(&segment(Local, SYN, 1 << 31, 0, 0));
    assert_eq!(connection.next(Local), Some(101));
    // Its server has forgotten it as well, and answers.
    connection.take(&segment(Remote, SYN | ACK, 0x7000_0000, (1 << 31) + 1, 0));
    assert_eq!(connection.next(Remote), Some(0x7000_0001));
    assert_eq!(connection.next(Local), Some((1 << 31) + 1));
    assert_eq!(connection.state, Established);
}
