//! Reads any bytes as a few frames for a small node, walks them through the engine, and checks
//! what must hold for each. Shared by the fuzzer and the replay of its corpus.

use super::services::*;
use super::{End, HEAD_MAX, LATER, end_of, snapshot};
use portcullis_engine::{
    EndpointIndex, Engine, EngineSettings, ExitPlan, FrameBytes, GatewayPlace, HoldSlot, Now,
    Outcome, Parsed, Record, Released, Snapshot, finish_checksum, parse, segments,
};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Frames that one input may hold.
const FRAMES_MAX: usize = 16;

/// One frame of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The endpoint it comes in at, by its index.
    pub from: u8,
    /// Sixteenths of the frame that lie in the first piece; zero stands for all.
    pub split: u8,
    /// Seconds that pass before it.
    pub seconds: u8,
    pub frame: Vec<u8>,
}

/// Writes steps as an input.
pub fn write(steps: &[Step]) -> Vec<u8> {
    let mut input = Vec::new();
    for step in steps {
        input.extend_from_slice(&[step.from, step.split, step.seconds]);
        input.extend_from_slice(&(step.frame.len() as u16).to_be_bytes());
        input.extend_from_slice(&step.frame);
    }
    input
}

/// Reads an input as steps; a last frame that is cut off counts as far as it goes.
pub fn read(mut input: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while let [from, split, seconds, high, low, rest @ ..] = input {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        steps.push(Step {
            from: from % 6,
            split: split % 16,
            seconds: *seconds,
            frame: rest[..length].to_vec(),
        });
        input = &rest[length..];
        if steps.len() == FRAMES_MAX {
            break;
        }
    }
    steps
}

/// Walks an input through a fresh engine.
pub fn exercise(input: &[u8]) {
    static SNAPSHOT: OnceLock<Arc<Snapshot>> = OnceLock::new();
    let snapshot = SNAPSHOT.get_or_init(|| Arc::new(serving_snapshot()));
    let settings = EngineSettings {
        flows_max: 8,
        sessions_max: 8,
        affinities_max: 4,
        endpoint_share_percent: 50,
        datagrams_max: 4,
        ..EngineSettings::default()
    };
    let mut engine = Engine::new(settings, (3, 4));
    engine.adopt(Arc::clone(snapshot));
    let mut exercise = Exercise {
        engine,
        now: LATER,
        records: Vec::with_capacity(2 * FRAMES_MAX),
        held: HashMap::new(),
    };
    for step in read(input) {
        let seconds = u64::from(step.seconds) * 1_000_000_000;
        exercise.now = Now(exercise.now.0 + seconds);
        exercise.walk(step, None);
        exercise.release();
        exercise.engine.expire(exercise.now);
        exercise.release();
    }
    exercise.engine.expire(Now(exercise.now.0 + 1_000_000_000));
    exercise.release();
    assert!(exercise.held.is_empty(), "a frame waits for ever");
    assert_eq!(exercise.engine.records_lost(), 0);
}

/// Services of both families, one that leads the client to itself, node ports; the client leaves
/// through a gateway, the others behind the node.
fn serving_snapshot() -> Snapshot {
    let policies = [super::ALLOW_CLIENT, GATEWAY_NODE, CLIENT_THROUGH_GATEWAY];
    let mut snapshot = snapshot(&policies, 1);
    let place = GatewayPlace::Here(vec![EGRESS, EGRESS_V6]);
    snapshot.exits = Arc::new(ExitPlan {
        gateways: vec![vec![place]],
        ..masquerade((40_000, 40_001))
    });
    let own = backend(super::CLIENT_PARTY.v4, 80);
    let six = backend(super::SERVER_PARTY.v6, 80);
    let specs = [
        service("web", VIP, 80, &[server(), stranger()]),
        service("self", VIP, 81, &[own]),
        service("empty", VIP, 82, &[]),
        service("six", VIP_V6, 80, &[six]),
        service("node", NODE, 443, &[server()]),
        service("far", EXTERNAL, 80, &[backend(FAR, 80)]),
    ];
    with_services(snapshot, &specs.concat())
}

struct Exercise {
    engine: Engine,
    now: Now,
    records: Vec<Record>,
    held: HashMap<HoldSlot, Step>,
}

impl Exercise {
    fn release(&mut self) {
        while let Some(released) = self.engine.take_released() {
            let step = self.held.remove(&released.slot).expect("no frame waits");
            self.walk(step, Some(released));
        }
    }

    fn walk(&mut self, step: Step, released: Option<Released>) {
        let (engine, now, records) = (&mut self.engine, self.now, &mut self.records);
        let all = step.frame.len().min(HEAD_MAX);
        let head_length = match usize::from(step.split) {
            0 => all,
            sixteenths => all * sixteenths / 16,
        };
        let mut head = vec![0; HEAD_MAX];
        head[..head_length].copy_from_slice(&step.frame[..head_length]);
        let tail: Vec<&[u8]> = step.frame[head_length..].chunks(4096).collect();
        let mut frame = FrameBytes {
            head: &mut head,
            head_length,
            tail: &tail,
        };
        let told = records.len();
        let from = EndpointIndex(u16::from(step.from));
        let mut outcome = match released {
            Some(released) => engine.resume(released, &mut frame, now, records),
            None => engine.egress(from, &mut frame, now, records),
        };
        if let Outcome::HandOver(handover) = outcome {
            assert_eq!(
                records.len(),
                told,
                "one record for each packet, at its end"
            );
            outcome = engine.ingress(&handover, &mut frame, now, records);
            if handover.must_be_withdrawn(&outcome) {
                engine.withdraw(&handover);
            }
        }
        if let Outcome::Return {
            handover, length, ..
        } = outcome
        {
            assert_eq!((records.len(), handover.to), (told + 1, from));
            let mut answer = FrameBytes {
                head: &mut *frame.head,
                head_length: usize::from(length),
                tail: &[],
            };
            let outcome = engine.ingress(&handover, &mut answer, now, records);
            assert!(matches!(outcome, Outcome::Transmit(to, _) if to == from));
            assert_eq!(records.len(), told + 1);
            finish_checksum(&mut answer);
            return;
        }
        let told = records.len() - told;
        let end = end_of(outcome, &frame);
        check(from, &end, told, &mut frame);
        if let End::Held(slot) = end {
            assert!(self.held.insert(slot, step).is_none(), "two in one slot");
        }
    }
}

fn check(from: EndpointIndex, end: &End, told: usize, frame: &mut FrameBytes<'_>) {
    match end {
        End::Held(_) => assert_eq!(told, 0),
        End::Dropped(_) => assert_eq!(told, 1),
        End::Answered { reason, to, frame } => {
            assert_eq!((told, *to), (usize::from(reason.is_some()), from));
            assert!(frame.len() >= 42);
        }
        End::Sent { .. } => {
            assert!(told <= 1);
            assert!(matches!(parse(frame), Ok(Parsed::Ip(_))));
            finish_checksum(frame);
        }
        End::Cut { frames, .. } => {
            assert!(told <= 1 && frames.len() > 1);
            assert!(frames.iter().all(|frame| frame.len() <= 1514));
        }
    }
    // These take any frame, whatever became of it.
    assert!(segments(frame, 1) <= frame.length());
    finish_checksum(frame);
}
