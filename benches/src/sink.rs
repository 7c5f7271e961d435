//! The program of `bpf/sink.c` where packets enter a server: counts datagrams of the flood, and
//! drops them.

use crate::clang::compile;
use aya::Ebpf;
use aya::maps::PerCpuArray;
use aya::programs::tc::{SchedClassifier, TcAttachType, qdisc_add_clsact};
use netns_tests::Place;

/// The interface of servers.
const INTERFACE: &str = "eth0";

/// The program, attached for as long as this is held.
#[derive(Debug)]
pub struct Sink(Ebpf);

impl Sink {
    /// Attaches the program in a place.
    ///
    /// # Errors
    /// There is no clang, or the kernel refuses the program.
    pub fn attach(place: &Place) -> Result<Self, String> {
        let object = compile(include_str!("../bpf/sink.c"))?;
        place.call(move || load(&object)).map(Self)
    }

    /// Datagrams so far.
    ///
    /// # Panics
    /// Never: the program has the map.
    #[must_use]
    pub fn count(&self) -> u64 {
        let map = self.0.map("COUNT").expect("the program counts");
        let counts: PerCpuArray<_, u64> = map.try_into().expect("one count for each core");
        let counts = counts.get(&0, 0).expect("the first");
        counts.iter().sum()
    }
}

fn load(object: &[u8]) -> Result<Ebpf, String> {
    fn failed(error: impl std::error::Error) -> String {
        let cause = error.source().map(|cause| format!(": {cause}"));
        format!("sink: {error}{}", cause.unwrap_or_default())
    }
    let mut kernel = Ebpf::load(object).map_err(failed)?;
    let program: &mut SchedClassifier = kernel
        .program_mut("sink")
        .ok_or("sink: no program")?
        .try_into()
        .map_err(failed)?;
    program.load().map_err(failed)?;
    // Not needed where the kernel has links for tc; then it does no harm.
    let _ = qdisc_add_clsact(INTERFACE);
    program
        .attach(INTERFACE, TcAttachType::Ingress)
        .map_err(failed)?;
    Ok(kernel)
}
