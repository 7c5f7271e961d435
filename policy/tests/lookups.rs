//! Asking the tables costs no memory.

use portcullis_policy::{
    Direction, Generation, IdentityAllocator, NodeFacts, Protocol, Settings, compile,
    parse_documents,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts what this thread asks for.
struct Counting;

#[expect(
    unsafe_code,
    reason = "a test that counts allocations needs an allocator of its own"
)]
// SAFETY: every call goes on to the system's allocator as it came; the counter is a plain cell of
// the thread and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised us.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIPs: [{ip: 10.1.0.10}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
status: {podIPs: [{ip: 10.1.0.11}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: shop, annotations: {portcullis.io/enforcement: audit}}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: '5432', protocol: TCP}]}]
  - fromCIDR: [198.51.100.0/24]
";

#[test]
fn a_verdict_allocates_nothing() {
    let settings = Settings::default();
    for text in [
        WORLD,
        &WORLD.replace("enforcement: audit", "enforcement: enforce"),
    ] {
        let documents = parse_documents("world.yaml", text, &settings).expect("valid");
        let (facts, mut identities) = (NodeFacts::default(), IdentityAllocator::new());
        let tables = compile(
            &documents,
            &facts,
            &settings,
            &mut identities,
            Generation(1),
        );
        let tables = tables.expect("a valid world");
        let addresses = ["10.1.0.10", "198.51.100.7", "203.0.113.9", "2001:db8::1"];
        let addresses = addresses.map(|text| text.parse().expect("an address"));
        let before = ALLOCATIONS.get();
        let subject = tables.policy_of("shop", "db").expect("a pod");
        let mut allowed = 0;
        for address in addresses {
            let peer = tables.identity_of(address);
            for port in [80, 5432] {
                for direction in [Direction::Ingress, Direction::Egress] {
                    let verdict = tables.judge(subject, direction, peer, Protocol::Tcp, port);
                    let audited = tables.judge_audit(subject, direction, peer, Protocol::Tcp, port);
                    allowed += usize::from(verdict.decision.is_allowed());
                    allowed += usize::from(audited.is_some_and(|one| one.decision.is_allowed()));
                    let _ = verdict.rule.and_then(|rule| tables.rule(rule));
                }
            }
        }
        assert_eq!(ALLOCATIONS.get(), before);
        assert!(allowed > 0);
    }
}
